"""The pages: their code runs, and the site made of them holds together and needs no network."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType
from urllib.parse import unquote, urlsplit

import matplotlib as mpl
import pytest

import mitoframe as mito
from mitoframe import kv
from mitoframe.cli import main

mpl.use("agg")

ROOT = Path(__file__).parent.parent
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
"""Elements that make a browser load something, and by which attribute; a link that is clicked is not among them."""
FOREIGN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?(https?:)?//""")
CONNECTING = {"canonical", "author", "license", "next", "prev"}
"""Kinds of ``<link>`` that load nothing."""


def blocks_of(text: str) -> Iterator[str]:
    yield from re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def is_missing(code: str) -> bool:
    """Whether it imports something that is not installed."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    return any(importlib.util.find_spec(name.partition(".")[0]) is None for name in names)


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADING and LOADING[tag] in given and not CONNECTING & set(given.get("rel", "").split()):
            self.loads.append(given[LOADING[tag]])


def pages_of(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def broken(pages: dict[Path, Page]) -> list[str]:
    """Return the links and files of pages that lead nowhere."""
    return [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link in page.links + page.loads
        if leads_nowhere(path, link, pages)
    ]


def leads_nowhere(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = path if not parts.path else Path(os.path.normpath(path.parent / unquote(parts.path)))
    if target not in pages:
        return not target.is_file()
    return bool(parts.fragment) and unquote(parts.fragment) not in pages[target].anchors


def loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> list[str]:
    files = [f"{path.name}: {name}" for path, page in pages.items() for name in page.loads if is_foreign(name)]
    texts = [path for kind in ("*.html", "*.css") for path in site.rglob(kind)]
    return files + [path.name for path in texts if FOREIGN_STYLE.search(path.read_text(encoding="utf-8"))]


def is_foreign(name: str) -> bool:
    parts = urlsplit(name)
    return bool(parts.netloc) or parts.scheme in {"http", "https"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("furo", reason="the site needs Sphinx: pip install '.[docs]'")
    target = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py"), str(target)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    return target


@pytest.mark.parametrize("name", PAGES)
def test_the_python_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = list(blocks_of((ROOT / "docs" / name).read_text(encoding="utf-8")))
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}

    for block in blocks:
        if not is_missing(block):
            exec(compile(block, name, "exec"), namespace)


def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path) -> None:
    assert broken(pages_of(site)) == []


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    assert loaded_from_elsewhere(site, pages_of(site)) == []


def test_every_public_name_has_its_place_in_the_reference(site: Path) -> None:
    [reference] = [page for path, page in pages_of(site).items() if path.name == "reference.html"]
    methods = [
        f"{kind.__name__}.{name}"
        for kind in (mito.Database, mito.Table, mito.Scan)
        for name, value in vars(kind).items()
        if not name.startswith("_") and isinstance(value, (FunctionType, property))
    ]

    wanted = {f"mitoframe.{name}" for name in [*mito.__all__, *methods]}
    wanted |= {f"mitoframe.kv.{name}" for name in kv.__all__ if name != "FROM_KEY"}

    assert wanted - reference.anchors == set()


def test_every_verb_of_the_command_line_is_explained(site: Path) -> None:
    page = Page((site / "docs" / "command_line.html").read_text(encoding="utf-8"))

    assert set(main.mito.commands) - page.anchors == set()


def test_every_page_and_notebook_is_on_the_site(site: Path) -> None:
    sources = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.py")]

    there = {(path.parent.name, path.stem) for path in pages_of(site)}

    assert {(path.parent.name, path.stem) for path in sources} - there == set()


def test_a_notebook_becomes_a_page_with_what_its_cells_print_and_draw(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the site needs Sphinx: pip install '.[docs]'")
    build = runpy.run_path(str(ROOT / "docs" / "build.py"))
    path = tmp_path / "two.py"
    path.write_text(
        "# %% [markdown]\n# # Two\n#\n# Words.\n\n# %%\nfrom matplotlib import pyplot as plt\nprint(1 + 1)\n2 + 3\n\n"
        "# %%\nplt.plot([1, 2])\n",
        encoding="utf-8",
    )

    page = build["notebook"](path, tmp_path / "site", run=True)

    assert page.startswith("# Two\n\nWords.\n\n```python\nfrom matplotlib")
    assert "```text\n2\n5\n```" in page
    assert "![What the cell draws](two/0.svg)" in page
    assert (tmp_path / "site" / "notebooks" / "two" / "0.svg").is_file()
    assert "```text" not in build["notebook"](path, tmp_path / "site", run=False)


def test_the_checks_see_what_is_broken_and_what_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="https://cdn.example/x.css"><h1 id="top">A</h1><img src="gone.png">'
        '<a href="#top"></a><a href="#gone"></a><a href="b.html#top"></a><a href="c.html"></a><a href="https://x.example"></a>',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text("<style>a { background: url(//cdn.example/x.png) }</style>", encoding="utf-8")

    pages = pages_of(tmp_path)

    assert broken(pages) == ["a.html: #gone", "a.html: b.html#top", "a.html: c.html", "a.html: gone.png"]
    assert loaded_from_elsewhere(tmp_path, pages) == ["a.html: https://cdn.example/x.css", "b.html"]
    assert is_missing("import no_such_library")
    assert not is_missing("from pathlib import Path")
