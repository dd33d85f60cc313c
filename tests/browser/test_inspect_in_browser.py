"""The widget of ``table.inspect()`` where people meet it: JupyterLab and marimo, in a real browser without a network.

The notebook of README is run as a newcomer would; then keys, clicks and sliders. Screenshots in both themes stay in
``browser-out/``, to be looked at. The test starts what it needs on free ports of the loopback interface.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pictured import WINDOWS, happened

import mitoframe as mito
from mitoframe.inspecting import TableSource
from mitoframe.model.errors import MitoError
from mitoframe.views.panel import SCRIPT, STYLE, Budget, Panel, Seen

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "browser-out"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "loopback"
START_SECONDS = 60
ANSWER_MS = 30_000
"""For what a machine that runs other tests beside this one may take; what is quick enough is a benchmark's business."""
LOOPBACK_ONLY = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--no-sandbox", "--disable-dev-shm-usage"]
KERNEL_IS_IDLE = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
NOT_OURS = re.compile(r"favicon|manifest\.webmanifest|ResizeObserver loop")

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")
pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium: apt-get install chromium (make test does it where it may)"
    ),
    pytest.mark.timeout(240),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(command: list[str], url: str, folder: Path, **more: str) -> Iterator[None]:
    """Run a server until the block ends. Nothing that it keeps for a user is read or written but in ``folder``."""
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "HOME", "XDG_CONFIG_HOME")
    environment = os.environ | {name: str(folder / name.lower()) for name in places} | more
    environment |= {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment.pop("PYTHONWARNINGS", None)
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            wait_for(server, url, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


class Watched:
    """A page, and what it asked for and complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        page.set_default_timeout(ANSWER_MS)
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss"):
            self.hosts.add(parts.hostname or "")

    def _on_console(self, message: Any) -> None:
        if message.type == "error" and not NOT_OURS.search(f"{message.text} {message.location}"):
            self.complaints.append(message.text)


@contextmanager
def browsing(**options: Any) -> Iterator[Watched]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=LOOPBACK_ONLY)
        try:
            yield Watched(browser.new_page(viewport={"width": 1400, "height": 1500}, **options))
        finally:
            browser.close()


def notebook_of(script: Path) -> str:
    """A script of cells as a notebook."""
    cells = []
    for part in script.read_text(encoding="utf-8").split("# %%")[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
            cells.append({"cell_type": "markdown", "metadata": {}, "source": text})
        else:
            cells.append(
                {"cell_type": "code", "metadata": {}, "source": body.strip(), "outputs": [], "execution_count": None}
            )
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4})


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """JupyterLab over a folder; yields its address."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0"),
        *(f"--LabApp.user_settings_dir={folder / 'settings'}", f"--LabApp.workspaces_dir={folder / 'workspaces'}"),
        *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
    ]
    with serving(command, f"{base}/api/status?token={TOKEN}", folder):
        yield base


def command(page: Any, name: str, **arguments: Any) -> None:
    """Have JupyterLab do something, and do not wait for it."""
    page.evaluate("([name, given]) => { window.jupyterapp.commands.execute(name, given); }", [name, arguments])


def shot(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.get_by_test_id("mito-panel").screenshot(path=SCREENSHOTS / f"{name}.png")


def files_there(page: Any) -> int:
    return int(page.get_by_test_id("mito-chart").get_attribute("data-files"))


def change_of(page: Any, locator: Any, before: str) -> str:
    """What something says once it says something else."""
    playwright.expect(locator).not_to_have_text(before)
    return str(locator.inner_text())


def test_the_notebook_shows_every_view_and_answers_keys_clicks_and_sliders(tmp_path: Path) -> None:
    pytest.importorskip("jupyterlab")
    (tmp_path / "inspecting.ipynb").write_text(notebook_of(ROOT / "notebooks" / "inspecting.py"))

    with jupyterlab(tmp_path) as base, browsing(color_scheme="light") as watched:
        page = watched.page
        page.goto(f"{base}/lab/tree/inspecting.ipynb?token={TOKEN}&reset")
        page.wait_for_function(KERNEL_IS_IDLE)
        command(page, "notebook:run-all-cells")
        page.locator("[data-testid=mito-panel][data-ready=true]").wait_for()
        page.get_by_test_id("mito-panel").scroll_into_view_if_needed()

        sees_every_view(page)
        opens_a_file_by_click_and_by_keys(page)
        asks_what_if(page)
        goes_through_versions(page)
        shot(page, "lab-light")
        sees_what_is_new(page)
        follows_the_theme(page)
        shot(page, "lab-dark")
        assert page.locator(".jp-Dialog").count() == 0, "no key was taken for a shortcut of JupyterLab"

    assert watched.hosts == {"127.0.0.1"}
    assert watched.complaints == []


def sees_every_view(page: Any) -> None:
    expect = playwright.expect
    expect(page.get_by_test_id("mito-sst").first).to_be_visible()
    assert page.get_by_test_id("mito-sst").count() == files_there(page)
    expect(page.get_by_test_id("mito-head")).to_contain_text("flights")
    expect(page.get_by_test_id("mito-strip")).to_be_visible()
    expect(page.get_by_test_id("mito-told")).to_contain_text("version")
    expect(page.get_by_test_id("mito-next")).to_contain_text("next:")
    # The first replay compiles what replays, once per machine.
    expect(page.locator("[data-testid^=mito-curve-]")).to_have_count(3, timeout=ANSWER_MS)
    expect(page.get_by_test_id("mito-live")).to_contain_text("before a flush")
    expect(page.get_by_test_id("mito-live")).to_contain_text("flush")


def opens_a_file_by_click_and_by_keys(page: Any) -> None:
    footer = page.get_by_test_id("mito-footer")
    widest = page.get_by_test_id("mito-sst").nth(files_there(page) // 2)
    widest.click()
    footer.locator("table").first.wait_for()
    assert "carrier" in footer.inner_text()
    assert page.get_by_test_id("mito-picked").count() == 1
    clicked = footer.get_attribute("data-file")

    page.get_by_test_id("mito-chart").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "(before) => document.querySelector('[data-testid=mito-footer]').dataset.file !== before", arg=clicked
    )


def asks_what_if(page: Any) -> None:
    expect = playwright.expect
    plan = page.get_by_test_id("mito-next")
    before = plan.inner_text()
    trigger = page.get_by_test_id("mito-compaction_trigger_files")
    trigger.focus()
    page.keyboard.press("End")
    assert change_of(page, plan, before) == "next: nothing to merge"
    page.keyboard.press("Home")
    assert change_of(page, plan, "next: nothing to merge").startswith("next: 2 merges")
    expect(page.get_by_test_id("mito-marked").first).to_be_attached()
    expect(page.get_by_test_id("mito-curve-files")).to_contain_text("as it is", timeout=ANSWER_MS)


def goes_through_versions(page: Any) -> None:
    expect = playwright.expect
    newest, told = files_there(page), page.get_by_test_id("mito-told")
    before = told.inner_text()
    page.get_by_test_id("mito-scrub").focus()
    page.keyboard.press("Home")
    change_of(page, told, before)
    assert files_there(page) == 0
    page.get_by_test_id("mito-chart").focus()
    page.keyboard.press("]")
    expect(page.get_by_test_id("mito-chart")).to_have_attribute("data-files", "1")
    page.keyboard.press(" ")
    expect(page.get_by_test_id("mito-play")).to_have_attribute("aria-label", "pause")
    expect(page.get_by_test_id("mito-chart")).not_to_have_attribute("data-files", "1")
    page.keyboard.press(" ")
    page.keyboard.press("0")
    page.keyboard.press("0")
    page.get_by_test_id("mito-scrub").focus()
    page.keyboard.press("End")
    expect(page.get_by_test_id("mito-chart")).to_have_attribute("data-files", str(newest))


def sees_what_is_new(page: Any) -> None:
    """Rows that are flushed from another cell appear by themselves, and the file that is open stays open."""
    expect = playwright.expect
    expect(page.get_by_test_id("mito-head")).to_contain_text("version 110")
    opened = page.get_by_test_id("mito-footer").get_attribute("data-file")
    page.evaluate("(code) => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
                  ".requestExecute({ code }); }", "table.flush()")  # fmt: skip
    expect(page.get_by_test_id("mito-head")).to_contain_text("version 111", timeout=ANSWER_MS)
    expect(page.get_by_test_id("mito-picked")).to_be_attached()
    assert page.get_by_test_id("mito-footer").get_attribute("data-file") == opened


def follows_the_theme(page: Any) -> None:
    shown = "() => getComputedStyle(document.querySelector('[data-testid=mito-sst]')).fill"
    words = "() => getComputedStyle(document.querySelector('[data-testid=mito-chart] text')).fill"
    light = page.evaluate(shown), page.evaluate(words)
    command(page, "apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_function(f"(before) => ({shown})() !== before", arg=light[0])
    page.wait_for_function(f"(before) => ({words})() !== before", arg=light[1])
    page.locator("#jupyterlab-splash").wait_for(state="detached")


PAGE = """<!doctype html><meta name="color-scheme" content="light dark"><body><div id="place"></div>
<script type="module">
%s
const held = Uint8Array.from(atob(%s), (letter) => letter.charCodeAt(0));
const traits = { header: %s, columns: new DataView(held.buffer) };
const model = { get: (name) => traits[name], on() {}, off() {}, send() {} };
const began = performance.now();
render({ model, el: document.getElementById("place") });
requestAnimationFrame(() => requestAnimationFrame(() => { window.drawnAfterMs = performance.now() - began; }));
</script>"""


def test_ten_thousand_files_are_painted_within_a_second_and_can_be_reached(tmp_path: Path) -> None:
    header, columns = panel_of_many(10_000).payload()
    script = SCRIPT.read_text().replace("export default", "const shown =").replace("export function", "function")
    page_file = tmp_path / "page.html"
    style = f"<style>{STYLE.read_text()}</style>"
    page_file.write_text(style + PAGE % (script, json.dumps(b64encode(columns).decode()), json.dumps(header)))

    with browsing(color_scheme="dark") as watched:
        page = watched.page
        page.goto(page_file.as_uri())
        page.wait_for_function("window.drawnAfterMs")
        drawn_after_ms = page.evaluate("window.drawnAfterMs")
        chart = page.get_by_test_id("mito-chart")
        assert chart.get_attribute("data-mode") == "canvas"
        chart.focus()
        page.keyboard.press("End")
        page.get_by_test_id("mito-picked").wait_for(state="attached")
        shot(page, "many-dark")
        for _ in range(8):
            page.keyboard.press("+")
        playwright.expect(page.get_by_test_id("mito-sst").first).to_be_visible()
        assert chart.get_attribute("data-mode") == "svg"

    assert drawn_after_ms < 1_000
    assert watched.complaints == []


ASKING = """<!doctype html><meta name="color-scheme" content="light dark"><body><div id="place"></div>
<script type="module">
%s
const traits = {}, heard = {};
const model = {
  get: (name) => traits[name], on(name, told) { heard[name] = told; }, off() {},
  async send(message) { heard["msg:custom"](await window.kernel(message)); },
};
window.become = (header, letters) => {
  const held = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
  Object.assign(traits, { header, columns: new DataView(held.buffer) });
  if (heard["change:columns"]) heard["change:columns"]();
  else render({ model, el: document.getElementById("place") });
};
</script>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A table in a page of its own, whose questions are answered here, and which sees what is new when it is told."""

    page: Any
    panel: Panel

    def tell(self) -> None:
        header, columns = self.panel.payload()
        self.page.evaluate("(given) => window.become(...given)", [header, b64encode(columns).decode()])

    def look_again(self) -> None:
        """Have the kernel look, and not yet tell the page."""
        self.panel.__init__(self.panel._source, MitoError)  # type: ignore[misc]


@contextmanager
def shown(table: mito.Table, folder: Path) -> Iterator[Shown]:
    script = SCRIPT.read_text().replace("export default", "const shown =").replace("export function", "function")
    page_file = folder / "page.html"
    page_file.write_text(f"<style>{STYLE.read_text()}</style>" + ASKING % script)
    panel = Panel(TableSource(table.name, table._engine, table.region_id, lambda: None), MitoError)
    with browsing() as watched:
        watched.page.expose_function("kernel", panel.answer)
        watched.page.goto(page_file.as_uri())
        found = Shown(page=watched.page, panel=panel)
        found.tell()
        watched.page.locator("[data-testid=mito-curve-files], .mito-none").last.wait_for()
        yield found
        assert watched.complaints == []


def flush_days(table: mito.Table, days: int, first: int = 0) -> None:
    for day in range(first, first + days):
        times = [datetime(2024, 1, 1) + timedelta(days=day // 2, hours=hour) for hour in range(24)]
        table.write(pl.DataFrame({"ts": times, "cpu": [0.5] * 24}))
        table.flush()


@pytest.fixture
def table() -> Iterator[mito.Table]:
    with mito.open("memory://", compaction_mode="manual") as db:
        yield db.create_table("cpu", {"ts": pl.Datetime("ms"), "cpu": pl.Float64}, time="ts")


def slider_of(page: Any, name: str) -> tuple[str, str]:
    """What a slider says, and what it says to who cannot see it."""
    slider = page.get_by_test_id(f"mito-{name}")
    return slider.locator("xpath=following-sibling::span").inner_text(), slider.get_attribute("aria-valuetext")


def test_a_table_that_was_empty_is_seen_whole_once_it_has_files(table: mito.Table, tmp_path: Path) -> None:
    with shown(table, tmp_path) as seen:
        assert slider_of(seen.page, "compaction_window_ms") == ("1 h", "1 h")
        flush_days(table, 6)

        seen.look_again()
        seen.tell()

        assert seen.page.get_by_test_id("mito-sst").count() == 6
        assert slider_of(seen.page, "compaction_window_ms") == ("1 w", "1 w")
        change_of(seen.page, seen.page.get_by_test_id("mito-next"), "")
        assert "as it is" not in seen.page.get_by_test_id("mito-curve-files").inner_text(), "nobody moved a slider"


def test_a_slider_stays_where_it_was_moved_and_the_others_follow_the_table(table: mito.Table, tmp_path: Path) -> None:
    flush_days(table, 6)
    with shown(table, tmp_path) as seen:
        trigger = seen.page.get_by_test_id("mito-compaction_trigger_files")
        trigger.focus()
        seen.page.keyboard.press("Home")
        table.alter(options={"sst_size_bytes": 1 << 22})

        seen.look_again()
        seen.tell()

        assert slider_of(seen.page, "compaction_trigger_files") == ("2 files", "2 files")
        assert slider_of(seen.page, "sst_size_bytes") == ("4 MiB", "4 MiB")
        playwright.expect(trigger).to_be_focused()
        seen.page.get_by_test_id("mito-reset").click()
        assert slider_of(seen.page, "compaction_trigger_files") == ("4 files", "4 files")


def test_a_history_that_is_told_in_parts_is_asked_for_until_all_of_it_is_there(
    table: mito.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mitoframe.views.panel.REPLAY_SECONDS", 0.0)
    table.alter(options={"ttl": "20000d"})  # So that the picker itself is asked, a step at a time.
    flush_days(table, 6)
    with shown(table, tmp_path) as seen:
        curve = seen.page.get_by_test_id("mito-curve-files")
        seen.page.evaluate("""() => {
            window.told = [];
            const note = () => window.told.push(document.querySelector("[data-testid=mito-curve-files]")?.innerText);
            new MutationObserver(note).observe(document.body, { childList: true, subtree: true });
        }""")

        seen.page.get_by_test_id("mito-compaction_trigger_files").focus()
        seen.page.keyboard.press("Home")

        playwright.expect(curve).to_contain_text("as it is")
        playwright.expect(curve).not_to_contain_text("% of its history")
        assert any("% of its history" in (told or "") for told in seen.page.evaluate("window.told"))
        assert [curves.share for curves in seen.panel._curves.values()] == [1, 1]


def test_who_opens_a_page_does_not_wait_for_what_opening_it_took(
    table: mito.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent: list[float] = []
    monkeypatch.setattr(Budget, "spend", lambda budget, seconds: spent.append(seconds))
    flush_days(table, 6)
    with shown(table, tmp_path) as seen:
        assert spent == []

        seen.tell()

        while len(spent) < 2:  # The plan and the curves of what is new are asked for by the page itself.
            seen.page.wait_for_timeout(20)


def test_nothing_is_marked_where_options_are_refused(table: mito.Table, tmp_path: Path) -> None:
    table.alter(options={"compaction_input_files_max": 8})
    flush_days(table, 6)
    with shown(table, tmp_path) as seen:
        seen.page.get_by_test_id("mito-compaction_trigger_files").focus()
        seen.page.keyboard.press("Home")
        seen.page.get_by_test_id("mito-marked").first.wait_for(state="attached")

        seen.page.keyboard.press("End")

        playwright.expect(seen.page.get_by_test_id("mito-plan")).to_contain_text("input_files_max")
        playwright.expect(seen.page.get_by_test_id("mito-marked")).to_have_count(0)


def test_a_click_opens_the_file_that_was_clicked_although_the_kernel_knows_newer_ones(
    table: mito.Table, tmp_path: Path
) -> None:
    flush_days(table, 2, first=10)
    with shown(table, tmp_path) as seen:
        expected = seen.panel.strata.file_ids[0]
        flush_days(table, 4)
        seen.look_again()
        assert seen.panel.strata.file_ids[0] != expected

        seen.page.get_by_test_id("mito-chart").focus()
        seen.page.keyboard.press("Home")
        seen.page.keyboard.press("Enter")

        playwright.expect(seen.page.get_by_test_id("mito-footer")).to_have_attribute("data-file", expected)


def panel_of_many(count: int) -> Panel:
    """Files an hour apart, some of which last longer, as 200 flushes brought them."""
    hour = np.timedelta64(1, "h")
    first = np.datetime64("2024-01-01T00", "ms") + np.arange(count) * hour
    numbers = pa.array(range(count), pa.int64())
    ids = [f"{number:032x}" for number in range(count)]
    files = pa.table(
        {
            "file_id": ids,
            "level": pa.array([number % 7 > 0 for number in range(count)]).cast(pa.int8()),
            "min_time": first,
            "max_time": first + (1 + np.arange(count) % 11 // 8) * hour,
            **dict.fromkeys(("rows", "min_sequence", "max_sequence"), numbers),
            "size_bytes": pa.array(10_000 + (np.arange(count) * 7919) % 10**6),
            "created": pa.array(range(count), pa.timestamp("ms", "UTC")),
            "removed_version": pa.nulls(count, pa.int64()),
        }
    )
    steps = [("flush", [], ids[at : at + count // 200]) for at in range(0, count, count // 200)]
    return Panel(Written(files=files, history=happened(*steps)), RuntimeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A table as it is written here; nobody asks it anything."""

    files: pa.Table
    history: pa.Table

    def version(self) -> int:
        return 1

    def seen(self) -> Seen:
        return Seen(
            table="cpu",
            version=1,
            files=self.files,
            history=self.history,
            windows=WINDOWS,
            window_ms=86_400_000,
            write_buffer_bytes=1,
            options={"compaction_window_ms": 86_400_000, "compaction_trigger_files": 4, "sst_size_bytes": 1 << 27},
        )

    def footer(self, file_id: str) -> dict[str, pa.Table]:
        raise AssertionError(file_id)

    def plan(self, options: Any) -> pa.Table:
        raise AssertionError(options)

    def replay(self, options: Any) -> Any:
        raise AssertionError(options)

    def live(self) -> dict[str, pa.Table]:
        raise AssertionError


MARIMO = """
import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import datetime as dt

    import marimo as mo
    import polars as pl

    import mitoframe as mito

    db = mito.open("memory://", compaction_mode="manual")
    for day in range(1, 9):
        times = [dt.datetime(2024, 1, day) + dt.timedelta(hours=hour) for hour in range(-3, 22)]
        db.write(pl.DataFrame({"ts": times, "host": ["a"] * 25, "cpu": [0.5] * 25}), "cpu", time="ts", tags=["host"])
        db["cpu"].flush()
    return db, mo


@app.cell
def _(db, mo):
    mo.ui.anywidget(db["cpu"].inspect())
    return


if __name__ == "__main__":
    app.run()
"""


def test_the_widget_runs_in_marimo(tmp_path: Path) -> None:
    pytest.importorskip("marimo")
    (tmp_path / "app.py").write_text(MARIMO)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "marimo", "-q", "run", "app.py", "--headless", "--no-token", "--host=127.0.0.1"),
        f"--port={port}",
    ]

    with serving(command, f"{base}/health", tmp_path), browsing(color_scheme="dark") as watched:
        page = watched.page
        page.goto(base)
        page.locator("[data-testid=mito-panel][data-ready=true]").wait_for()
        page.get_by_test_id("mito-sst").first.click()
        page.get_by_test_id("mito-footer").locator("table").first.wait_for()
        playwright.expect(page.get_by_test_id("mito-live")).to_contain_text("before a flush")
        shot(page, "marimo-dark")

    assert [line for line in watched.complaints if "mito" in line] == []
