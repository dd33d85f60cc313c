"""Build the site: README, the pages of this folder, the notebooks, and a reference made of docstrings.

    python docs/build.py site            pages, code and text of the notebooks
    python docs/build.py site --run      and what their cells print and draw

What is written by hand stays where it is and links to its neighbours, so that it can be read without a site too. It is
laid out once more in a folder of the same shape, notebooks as Markdown, where Sphinx finds it. A link to a file that is
no page becomes text. A warning of Sphinx is an error: a heading, name or page that is not there.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from matplotlib import pyplot as plt
from sphinx.cmd.build import build_main

import mitoframe as mito
from mitoframe import kv
from mitoframe.cli import main as cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "datasets/README.md", "benchmarks/RESULTS.md")
GUIDE = ("docs/concepts.md", "docs/howto.md", "docs/keys_and_values.md", "docs/coming_from.md")
STORIES = (
    "first_rows", "demo", "ask", "late_rows", "from_parquet", "time_travel", "two_processes", "inside_a_file",
    "watching_compaction", "tuning", "inspecting", "keys_and_values",
)  # fmt: skip
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
DOOR = ("open", "write", "scan", "Database", "Table", "Scan", "AtSequence", "simulate", "WriteLoad")


def build(target: Path, *, run: bool) -> int:
    """Build the site in a folder, and return how Sphinx ended: 0 if all went well."""
    source = target / ".source"
    shutil.rmtree(target, ignore_errors=True)
    lay_out(source, run=run)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(target / ".doctrees")]
    ended = build_main([*options, "-c", str(ROOT / "docs"), str(source), str(target)])
    for folder in (source, target / ".doctrees"):
        shutil.rmtree(folder)
    return int(ended)


def lay_out(source: Path, *, run: bool) -> None:
    """Write all pages to a folder, as Markdown."""
    stories = [f"notebooks/{name}.md" for name in STORIES]
    pages = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*PAGES, *GUIDE)}
    pages |= {name: notebook(ROOT / name.replace(".md", ".py"), source, run=run) for name in stories}
    pages |= {"docs/reference.md": reference(), "docs/command_line.md": command_line()}
    pages["index.md"] = pages.pop("README.md") + contents([*GUIDE, "docs/command_line.md"], stories)
    for name, text in pages.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(linked(text, source / name, source, set(pages)), encoding="utf-8")
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, source / "docs" / picture.name)


def contents(guide: list[str], stories: list[str]) -> str:
    """Return the table of contents: what stands in the sidebar."""
    more = ["docs/reference", "ARCHITECTURE", "benchmarks/RESULTS", "datasets/README", "CHANGELOG"]
    parts = {"Guide": guide, "Notebooks": stories, "More": more}
    trees = [
        "\n".join(
            ["```{toctree}", ":hidden:", f":caption: {name}", "", *(page.removesuffix(".md") for page in pages), "```"]
        )
        for name, pages in parts.items()
    ]
    return "\n\n" + "\n\n".join(trees) + "\n"


def linked(text: str, page: Path, source: Path, pages: set[str]) -> str:
    """Return a page whose links lead to pages of the site; a link to anything else becomes text."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups()
        path = os.path.relpath(os.path.normpath(page.parent / target), source)
        name = {"README.md": "index.md"}.get(path, re.sub(r"^(notebooks/\w+)\.py$", r"\1.md", path))
        if picture:
            return found.group()
        if name not in pages:
            return words
        return f"[{words}]({os.path.relpath(source / name, page.parent)}{anchor or ''})"

    return LINK.sub(link, text)


# --- the reference ----------------------------------------------------------------------------------------


def reference() -> str:
    """Return the page of all public names, in groups, each documented by its docstring."""
    kinds = {name: kind_of(name) for name in mito.__all__}
    groups = {
        "Store, tables, scans": [*(name for name in DOOR if name in kinds)],
        "Results": [name for name, kind in kinds.items() if kind == "result"],
        "Settings": [name for name, kind in kinds.items() if kind == "settings"],
        "Errors and warnings": [name for name, kind in kinds.items() if kind == "error"],
        "For those who build on the engine": [name for name, kind in kinds.items() if kind == "engine"],
    }
    assert sorted(name for names in groups.values() for name in names) == sorted(kinds), "each name is in one group"
    directives = {title: [directive(name) for name in names] for title, names in groups.items()}
    directives["Store, tables, scans"].append(".. autoclass:: mitoframe.plotting.Plot\n   :members:\n")
    directives["Data to try things on"] = [
        f".. autofunction:: mitoframe.{name}\n"
        for name in ("datasets.load_flights", "datasets.load_weather", "tsbs.tsbs_cpu")
    ]
    directives["Keys and values: `mitoframe.kv`"] = [directive(name, kv) for name in kv.__all__ if name != "FROM_KEY"]
    sections = [
        f"## {title}\n\n```{{eval-rst}}\n.. currentmodule:: mitoframe\n\n{''.join(names)}```\n"
        for title, names in directives.items()
    ]
    return "# Reference\n\nEvery example on this page is run by the tests.\n\n" + "\n".join(sections)


def kind_of(name: str) -> str:
    """Return the group of a public name."""
    item = getattr(mito, name)
    if name in DOOR:
        return "door"
    if isinstance(item, type) and issubclass(item, (Exception, Warning)):
        return "error"
    if name in {"MitoConfig", "RegionOptions"}:
        return "settings"
    return "engine" if name.endswith(("Request", "Info")) or name in {"MitoEngine", "RegionHook"} else "result"


def directive(name: str, door: ModuleType = mito) -> str:
    """Return what makes Sphinx show the docstring of a public name and, of a class, those of its methods."""
    item = getattr(door, name)
    if not isinstance(item, type):
        return f".. autofunction:: {door.__name__}.{name}\n\n"
    members = "   :show-inheritance:\n" if issubclass(item, (Exception, Warning)) else "   :members:\n"
    return f".. autoclass:: {door.__name__}.{name}\n{members}\n"


def command_line() -> str:
    """Return the page of the command `mito`: what each verb says of itself."""
    program = click.Context(cli.mito, info_name="mito", terminal_width=88)
    verbs = [click.Context(verb, info_name=name, parent=program) for name, verb in cli.mito.commands.items()]
    sections = [f"## {verb.info_name}\n\n{fenced(verb.command.get_help(verb))}" for verb in verbs]
    return "\n".join(["# The command line", "", fenced(cli.mito.get_help(program)), *sections])


def fenced(text: str) -> str:
    """Return text as it is, as Markdown."""
    return f"```text\n{text.rstrip()}\n```\n"


# --- notebooks --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a notebook: words or code."""

    is_code: bool
    text: str


def cells(text: str) -> Iterator[Cell]:
    """Yield the cells of a script in the percent format."""
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        kind, _, body = part.partition("\n")
        is_code = "[markdown]" not in kind
        words = body if is_code else re.sub(r"^# ?", "", body, flags=re.MULTILINE)
        yield Cell(is_code=is_code, text=words.strip("\n"))


def notebook(path: Path, source: Path, *, run: bool) -> str:
    """Return a notebook as Markdown; if it is run, with what each cell printed and drew."""
    found = list(cells(path.read_text(encoding="utf-8")))
    pictures = source / "notebooks" / path.stem
    shown = run_cells(found, pictures) if run else [""] * len(found)
    parts = [
        f"```python\n{cell.text}\n```\n{out}" if cell.is_code else cell.text
        for cell, out in zip(found, shown, strict=True)
    ]
    return "\n\n".join(parts) + "\n"


def run_cells(found: list[Cell], pictures: Path) -> list[str]:
    """Run a notebook in a folder of its own, and return for each cell what it showed, as Markdown."""
    pictures.mkdir(parents=True)
    plt.close("all")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(pictures):
        shown = [run_cell(cell.text, namespace, pictures) if cell.is_code else "" for cell in found]
    for store in namespace.values():
        if isinstance(store, mito.Database | kv.KeyValueStore):
            store.close()
    shutil.rmtree(pictures / "demo-out", ignore_errors=True)
    return shown


def run_cell(code: str, namespace: dict[str, Any], pictures: Path) -> str:
    """Run a cell; return what it printed, the value of its last line, as a picture if it is one, and what it drew."""
    *body, last = ast.parse(code).body
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
        else:
            exec(compile(ast.Module([last], []), "<cell>", "exec"), namespace)
    is_widget = hasattr(value, "to_html")
    text = printed.getvalue() + ("" if value is None or is_widget or plt.get_fignums() else repr(value))
    blocks = ["\n" + fenced(text)] if text.strip() else []
    if is_widget:
        blocks.append(f"\n``````{{raw}} html\n{value.to_html()}\n``````\n")
    for number in plt.get_fignums():
        name = f"{len(list(pictures.glob('*.svg')))}.svg"
        plt.figure(number).savefig(pictures / name, bbox_inches="tight")
        plt.close(number)
        blocks.append(f"\n![What the cell draws]({pictures.name}/{name})\n")
    return "".join(blocks)


def main() -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build mitoframe's site.")
    parser.add_argument("target", type=Path, help="the folder of the site; what is in it goes")
    parser.add_argument("--run", action="store_true", help="run the notebooks and show what they print and draw")
    given = parser.parse_args()
    plt.switch_backend("agg")
    return build(given.target.resolve(), run=given.run)


if __name__ == "__main__":
    sys.exit(main())
