r"""What a verb says, for a person or for a program: tables drawn with rich, or JSON.

Results go to the standard output, and nothing else does. JSON is one document: an object, or an array with an element
per line. Times are ISO 8601, durations are seconds, what is not a number is null. Where nobody looks, a table is as
wide as it needs to be; ``COLUMNS`` sets the width anywhere. A table that is too wide for its terminal is drawn row by
row, a line per column, so that nothing is left out.

What a store holds is data, and a terminal obeys some of it: characters that would move the cursor, change colours or
turn the order of reading are shown as Python writes them, ``\x1b``, and in JSON as JSON does. JSON tells them exactly.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click
from polars import selectors
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from mitoframe.model.file import FileMeta

if TYPE_CHECKING:
    import polars as pl

_UNWRAPPED = 100_000
"""A width that no line reaches."""
_BETWEEN = 3
"""How wide what stands between two columns is."""
_FOLDED_MIN = 10
"""The least width to which a column is folded; in less nobody reads a time or a name."""
_LINE_MIN = 20
"""Terminals that say they are narrower are taken at their word no further."""
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, line breaks, marks that turn the order of reading, and bytes of a file's name that are no text."""


def visible(text: str) -> str:
    """Return a line of text without anything that a terminal would obey."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, *, is_error: bool = False) -> None:
    """Write a text of some lines."""
    click.echo("\n".join(map(visible, text.split("\n"))), err=is_error)


def show_frame(frame: pl.DataFrame, *, as_json: bool) -> None:
    """Show a row per row."""
    show_rows(rows_of(frame), as_json=as_json)


def rows_of(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of a frame; times in nanoseconds as text, because Python's own end at microseconds."""
    exact = frame.with_columns(selectors.datetime("ns").dt.to_string("iso:strict"))
    return exact.iter_rows(named=True)


def show_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Show rows of the same columns: as a table, or as a JSON array that is written while they come."""
    if as_json:
        _write_array(rows)
    elif listed := list(rows):
        _draw_rows(listed)
    else:
        say("nothing")


def _write_array(rows: Iterable[Mapping[str, Any]]) -> None:
    before = "[\n"
    for row in rows:
        click.echo(before + _to_json(row), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def _draw_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = {name: [_to_text(row[name]) for row in rows] for name in rows[0]}
    widths = [min(_FOLDED_MIN, max(map(cell_len, (visible(name), *texts)))) for name, texts in columns.items()]
    if sum(widths) + _BETWEEN * (len(widths) - 1) > _width():
        _draw_one_by_one(columns, len(rows))
        return
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, width in zip(columns, widths, strict=True):
        is_right = any(_is_number(row[name]) for row in rows)
        drawn.add_column(visible(name), justify="right" if is_right else "left", overflow="fold", min_width=width)
    for texts in zip(*columns.values(), strict=True):
        drawn.add_row(*texts)
    _draw(drawn)


def _draw_one_by_one(columns: Mapping[str, Sequence[str]], count: int) -> None:
    for row in range(count):
        if row:
            say("")
        _draw_facts({name: texts[row] for name, texts in columns.items()})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def show_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Show names and values."""
    if as_json:
        click.echo(_to_json(facts))
        return
    _draw_facts({name: _to_text(value) for name, value in facts.items()})


def _draw_facts(texts: Mapping[str, str]) -> None:
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(overflow="fold", max_width=_width() // 2)
    drawn.add_column(overflow="fold")
    for name, text in texts.items():
        drawn.add_row(visible(name), text)
    _draw(drawn)


def show_beside(columns: Mapping[str, Mapping[str, Any]], *, as_json: bool) -> None:
    """Show the values of the same names beside each other, a column per title."""
    if as_json:
        click.echo(_to_json(columns))
        return
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    drawn.add_column(no_wrap=True)
    for title in columns:
        drawn.add_column(title.replace("_", " "), justify="right", overflow="fold")
    for name in next(iter(columns.values())):
        drawn.add_row(name, *(_to_text(facts[name]) for facts in columns.values()))
    _draw(drawn)


def show_result(result: object, *, as_json: bool) -> None:
    """Show what a call returned: its repr, or its fields."""
    say(_to_json(facts_of(result)) if as_json else repr(result))


def facts_of(result: object) -> dict[str, Any]:
    """Return the fields of a result; of files the identifiers."""
    assert dataclasses.is_dataclass(result)
    return {
        each.name: getattr(result, each.name) for each in dataclasses.fields(result) if not each.name.startswith("_")
    }


def drawing_width() -> int | None:
    """Return how wide a line may be; None where nobody looks and none was asked for."""
    is_free = "COLUMNS" not in os.environ and not sys.stdout.isatty()
    return None if is_free else max(Console(file=sys.stdout).width, _LINE_MIN)


def _width() -> int:
    return drawing_width() or _UNWRAPPED


def _draw(table: Table) -> None:
    console = Console(file=sys.stdout, width=_width(), highlight=False, markup=False, emoji=False)
    with console.capture() as drawn:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def _to_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.6g}"
        case datetime():
            return value.isoformat(sep=" ")
        case list() | tuple():
            return ", ".join(map(_to_text, value))
        case Mapping():
            return ", ".join(f"{visible(str(name))} {_to_text(item)}" for name, item in value.items())
        case _:
            return visible(str(value))


def _to_json(value: Mapping[str, Any]) -> str:
    written = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case FileMeta():
            return value.file_id
        case Mapping():
            return {str(name): _plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return _plain(facts_of(value))
        case _:
            return str(value)
