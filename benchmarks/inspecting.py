"""What looking costs: `table.inspect()` on a table of 10,000 SSTs, and each picture of `table.plot` on one of 30,000.

    python benchmarks/inspecting.py [--write-results]

The files are listed and not there: what is shown comes from the manifest. First drawing: from the call of ``inspect()``
until the two traits are ready to be sent, the best of several calls; a browser adds some tens of milliseconds (a canvas
of 10,000 rectangles). Slider: from the page's question to the answer, both as Python has them. A history that takes
longer to replay is answered in parts: the longest of them counts, because nothing else is done by the kernel meanwhile,
and it is told when all were there. Histories: of a table of which one flush of ten was merged; and, worse, of one to
whose windows files come again and again, so that any setting of the sliders merges most of them, with both policies,
and with a time to live, where the picker itself is asked at each flush. Live: processor time of an answer to the page's
question what is new, which it asks once a second.

Picture: from the call of ``table.plot`` until there is a PNG, the best of several. For ``coverage(by=tag)`` manifests
know what 20 values of each file cover; files of many more values have to be opened, which the listed ones cannot be:
what that takes is measured on a few that are there.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import polars as pl
import report
from matplotlib import pyplot

import mitoframe as mito
from mitoframe.inspecting import TableSource
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import MitoError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.predicate import ColumnStats
from mitoframe.views.panel import LIVE_MS, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.plotting import Plot

FILES = 10_000
FLUSHES = 250
MERGED_FLUSHES = 10
"""Of so many flushes, one is followed by a merge of what it brought."""
PICTURED_FILES = 30_000
PICTURED_FLUSHES = 1_000
MERGED_FILES = 11_500
"""Come to the table that merges more; 10,000 are left."""
FILES_PER_FLUSH = 8
INPUTS = 6
FLUSH_MS = 600_000
SLID_TO = ({"compaction_trigger_files": 2}, {"compaction_trigger_files": 16}, {"compaction_window_ms": 3_600_000},
           {"compaction_window_ms": 7 * 86_400_000}, {"sst_size_bytes": 1 << 20})  # fmt: skip
HOSTS = 20
COVERS = json.dumps(
    {"0": [[f"host_{host:02}" for host in range(HOSTS)], [1_000 // HOSTS] * HOSTS]}, separators=(",", ":")
)
"""As a flush says it."""
OPENED_FILES, MANY_HOSTS = 500, 100
REPEATS = 5
REPLAYS = 2
MERGING = {
    "much is merged, by count": ({"compaction_policy": "count"}, 5),
    "much is merged, by runs": ({"compaction_policy": "runs"}, 5),
    "much is merged, and there is a time to live": ({"compaction_policy": "count", "ttl": "3650d"}, 2),
}
"""The options of tables, and how many of `SLID_TO` are tried."""
ANSWERS = 200
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WINDOW_MS = 7 * DAY_MS
DRAWING_SECONDS_MAX = 1.0
SLIDER_SECONDS_MAX = 0.1
PAYLOAD_BYTES_MAX = 2_000_000
LIVE_SHARE_MAX = 0.01
PICTURE_SECONDS_MAX = 2.0
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of looking.")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    arguments = parser.parse_args()
    mpl.use("Agg")
    for section in (widget(), pictures()):
        print(f"{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}")
        if arguments.write_results:
            report.record(section)


def widget() -> report.Section:
    with mito.open("memory://", compaction_mode="manual") as db:
        table = _table(db, FILES, FLUSHES)
        source = TableSource("cpu", db.engine, table.region_id, lambda: None)
        drawing = _best(lambda: Panel(source, MitoError).payload())
        panel = Panel(source, MitoError)
        sizes = [len(part) for part in panel.payload()]
        slider, replay = _slide(panel)
        began = time.process_time()
        for number in range(ANSWERS):
            panel.answer({"ask": "live", "id": number})
        live = (time.process_time() - began) / ANSWERS
    merging = {name: _slide_merging(*given) for name, given in MERGING.items()}
    answered = max(slider, replay[0], *(max(plan, part) for plan, (part, _) in merging.values()))
    return report.Section(
        name="inspecting",
        title="Looking at 10,000 SSTs",
        command="python benchmarks/inspecting.py --write-results",
        table=report.Table(
            head=["what", "found"],
            rows=[
                ["inspect() until all is ready to be drawn", f"{drawing * 1e3:.0f} ms"],
                ["what a slider asks, answered: the merges that would come next", f"{slider * 1e3:.0f} ms"],
                ["the history replayed, which is asked after that", _parts(replay)],
                *(
                    [f"the same where {name}", f"{plan * 1e3:.0f} ms; {_parts(replayed)}"]
                    for name, (plan, replayed) in merging.items()
                ),
                ["sent to the page", f"{sum(sizes) / 1e6:.2f} MB"],
                ["picture where widgets do not run", f"{len(panel.still()) / 1e3:.0f} kB"],
                ["answer to what is new, processor time", f"{live * 1e3:.2f} ms"],
            ],
        ),
        targets=[
            _target("first drawing", drawing, DRAWING_SECONDS_MAX),
            _target("slider answered", answered, SLIDER_SECONDS_MAX),
            report.Target(
                what="payload",
                wanted="below 2 MB",
                found=f"{sum(sizes) / 1e6:.2f} MB",
                is_met=sum(sizes) < PAYLOAD_BYTES_MAX,
            ),
            report.Target(
                what="live refresh",
                wanted="below 1 percent of a core",
                found=f"{live / (LIVE_MS / 1000):.2%}",
                is_met=live / (LIVE_MS / 1000) < LIVE_SHARE_MAX,
            ),
        ],
        raw={
            "drawing_seconds": drawing,
            "slider_seconds": slider,
            "replay_seconds": replay,
            "merging_seconds": merging,
            "payload_bytes": sizes,
            "live_seconds": live,
        },
    )


def pictures() -> report.Section:
    with mito.open("memory://", compaction_mode="manual") as db:
        table = _table(db, PICTURED_FILES, PICTURED_FLUSHES)
        plot = table.plot
        seconds = {
            "timeline": _drawn(plot.timeline),
            "windows": _drawn(plot.windows),
            "compactions": _drawn(plot.compactions),
            "amplification": _drawn(plot.amplification),
            "coverage": _drawn(plot.coverage),
            "coverage(by=tag)": _drawn(lambda: plot.coverage(by="host")),
            "keys": _drawn(plot.keys),
            "movie, one picture of it as a GIF": _filmed(plot, int(table.versions()["version"].max())),
        }
    first, again = _footers_seconds()
    return report.Section(
        name="pictures",
        title="Pictures of 30,000 SSTs",
        command="python benchmarks/inspecting.py --write-results",
        table=report.Table(
            head=["until there is a PNG", "found"],
            rows=[
                *([name, f"{found * 1e3:.0f} ms"] for name, found in seconds.items()),
                ["more, for each file of 100 values, which is opened for coverage(by=tag)", f"{first * 1e3:.2f} ms"],
                ["the same where its footer is in memory", f"{again * 1e3:.2f} ms"],
            ],
        ),
        targets=[_target(name, found, PICTURE_SECONDS_MAX) for name, found in seconds.items()],
        raw={"picture_seconds": seconds, "footer_seconds": [first, again]},
    )


def _drawn(draw: Callable[[], Axes]) -> float:
    def whole() -> None:
        draw().figure.savefig(BytesIO(), format="png")
        pyplot.close("all")

    return _best(whole)


def _filmed(plot: Plot, version: int) -> float:
    def whole() -> None:
        with TemporaryDirectory() as folder:
            plot.movie(first=version, last=version).save(Path(folder, "still.gif"), writer="pillow")
        pyplot.close("all")

    return _best(whole)


def _footers_seconds() -> tuple[float, float]:
    """What ``table.coverage(by=tag)`` takes for a file of many values: at first, and once its footer is in memory."""
    with mito.open("memory://", compaction_mode="manual") as db:
        hosts = [f"host_{host}" for host in range(MANY_HOSTS)]
        for number in range(OPENED_FILES):
            times = [START + dt.timedelta(hours=number, seconds=host) for host in range(MANY_HOSTS)]
            db.write(pl.DataFrame({"ts": times, "host": hosts, "load": 0.5}), "cpu", time="ts", tags=["host"])
            db["cpu"].flush()
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            db["cpu"].coverage(by="host")
            seconds.append((time.perf_counter() - began) / OPENED_FILES)
    return seconds[0], seconds[1]


def _table(db: mito.Database, file_count: int, flush_count: int) -> mito.Table:
    """A table whose files come an hour apart, some of which last longer; what one flush of ten brought was merged."""
    table = db.create_table("cpu", {"ts": pl.Datetime("ms"), "host": pl.String}, time="ts", tags=["host"])
    region = db.engine.region(table.region_id)
    each = file_count // flush_count
    for flush in range(flush_count):
        at_ms = int(time.time() * 1000)
        files = tuple(_file(number, at_ms) for number in range(flush * each, (flush + 1) * each))
        region.commit_edit(FileEdit(added=files, flushed_sequence=files[-1].max_sequence, at_ms=at_ms))
        if flush % MERGED_FLUSHES == 0:
            merged = tuple(replace(file, file_id=_other_id(file.file_id), level=1) for file in files)
            gone = tuple(file.file_id for file in files)
            merge = FileEdit(added=merged, removed=gone, compaction_window_ms=WINDOW_MS, reason="runs", at_ms=at_ms)
            region.commit_edit(merge)
    return table


def _file(number: int, created_ms: int) -> FileMeta:
    first, last = sorted((f"host_{number % HOSTS:02}", f"host_{number * 7 % HOSTS:02}"))
    return FileMeta(
        file_id=FileId(f"{number:032x}"),
        level=0,
        size_bytes=100_000 + 37 * number,
        checksum=0,
        row_count=1_000,
        delete_count=0,
        series_count=10,
        row_group_count=1,
        min_time=number * HOUR_MS,
        max_time=(number + 1 + number % 3) * HOUR_MS,
        min_sequence=Sequence(number * 1_000 + 1),
        max_sequence=Sequence(number * 1_000 + 1_000),
        schema_version=1,
        created_ms=created_ms,
        leading_tags=(ColumnStats(minimum=first, maximum=last, null_count=0, row_count=10),),
        covers=COVERS,
    )


def _other_id(file_id: FileId) -> FileId:
    return FileId(f"f{file_id[1:]}")


def _merging_table(db: mito.Database, options: dict[str, str]) -> mito.Table:
    """A table whose flushes reach back several windows, and whose windows were merged as they filled."""
    table = db.create_table("cpu", {"ts": pl.Datetime("ms"), "host": pl.String}, time="ts", tags=["host"],
                            options=options)  # fmt: skip
    region = db.engine.region(table.region_id)
    flushes = MERGED_FILES // FILES_PER_FLUSH
    begin_ms = int(time.time() * 1000) - flushes * FLUSH_MS
    waiting: list[FileMeta] = []
    for flush in range(flushes):
        at_ms = begin_ms + flush * FLUSH_MS
        files = tuple(_part(flush, part, at_ms) for part in range(FILES_PER_FLUSH))
        region.commit_edit(FileEdit(added=files, flushed_sequence=files[-1].max_sequence, at_ms=at_ms))
        waiting += files
        if flush % MERGED_FLUSHES == MERGED_FLUSHES - 1:
            waiting.sort(key=lambda file: file.max_time // DAY_MS)
            merged, waiting = waiting[: 2 * INPUTS], waiting[2 * INPUTS :]
            region.commit_edit(_merge(merged[:INPUTS], at_ms))
            region.commit_edit(_merge(merged[INPUTS:], at_ms))
    return table


def _part(flush: int, part: int, at_ms: int) -> FileMeta:
    """A file of a flush: of the newest hours, or of a day before."""
    number = flush * FILES_PER_FLUSH + part
    first = at_ms - part * DAY_MS // 3 - number * 977 % HOUR_MS
    sequences = {"min_sequence": Sequence(flush * 1_000 + 1), "max_sequence": Sequence(flush * 1_000 + 1_000)}
    return replace(_file(number, at_ms), min_time=first, max_time=first + (1 + number % 3) * HOUR_MS, **sequences)


def _merge(inputs: list[FileMeta], at_ms: int) -> FileEdit:
    merged = replace(
        inputs[0],
        file_id=_other_id(inputs[0].file_id),
        level=1,
        size_bytes=sum(file.size_bytes for file in inputs),
        row_count=sum(file.row_count for file in inputs),
        min_time=min(file.min_time for file in inputs),
        max_time=max(file.max_time for file in inputs),
        min_sequence=min(file.min_sequence for file in inputs),
        max_sequence=max(file.max_sequence for file in inputs),
        created_ms=at_ms,
    )
    gone = tuple(file.file_id for file in inputs)
    return FileEdit(added=(merged,), removed=gone, compaction_window_ms=DAY_MS, reason="count", at_ms=at_ms)


def _slide_merging(options: dict[str, str], tried: int) -> tuple[float, tuple[float, float]]:
    with mito.open("memory://", compaction_mode="manual") as db:
        table = _merging_table(db, options)
        return _slide(Panel(TableSource("cpu", db.engine, table.region_id, lambda: None), MitoError), SLID_TO[:tried])


def _slide(panel: Panel, tried: tuple[dict[str, int], ...] = SLID_TO) -> tuple[float, tuple[float, float]]:
    """Seconds until the merges are told that would come next; the longest part of a replay, and until all are there."""
    plan = max(_best(lambda options=options: _ask(panel, "plan", options)) for options in tried)
    while _ask(panel, "replay", {})["share"] < 1:
        pass
    replays = [min(_replay(panel, options, salt) for salt in range(REPLAYS)) for options in tried]
    return plan, (max(part for part, _ in replays), max(whole for _, whole in replays))


def _replay(panel: Panel, options: dict[str, int], salt: int) -> tuple[float, float]:
    """Replay a history that was not replayed before: files of some bytes more make no difference."""
    wanted = {"sst_size_bytes": 128 << 20} | options
    wanted["sst_size_bytes"] += salt + 1
    seconds, share = [], 0.0
    while share < 1:
        began = time.perf_counter()
        share = _ask(panel, "replay", wanted)["share"]
        seconds.append(time.perf_counter() - began)
    return max(seconds), sum(seconds)


def _ask(panel: Panel, what: str, options: dict[str, int]) -> dict[str, Any]:
    answer = panel.answer({"ask": what, "options": options, "id": 0})
    assert "error" not in answer, answer["error"]
    return answer


def _parts(replayed: tuple[float, float]) -> str:
    part, whole = replayed
    return f"{part * 1e3:.0f} ms" if part == whole else f"{part * 1e3:.0f} ms, all of it after {whole:.1f} s"


def _best(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _target(what: str, found_seconds: float, seconds_max: float) -> report.Target:
    return report.Target(
        what=what,
        wanted=f"at most {seconds_max * 1e3:.0f} ms",
        found=f"{found_seconds * 1e3:.0f} ms",
        is_met=found_seconds <= seconds_max,
    )


if __name__ == "__main__":
    main()
