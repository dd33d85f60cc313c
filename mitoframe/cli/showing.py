"""What a verb says, for a person or for a program: tables drawn with rich, or JSON.

Results go to the standard output, and nothing else does. JSON is one document: an object, or an array with an element
per line. Times are ISO 8601, durations are seconds, what is not a number is null. Where nobody looks, a table is as
wide as it needs to be; ``COLUMNS`` sets the width anywhere.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from mitoframe.model.file import FileMeta

if TYPE_CHECKING:
    import polars as pl

_UNWRAPPED = 100_000
"""A width that no line reaches."""


def show_frame(frame: pl.DataFrame, *, as_json: bool) -> None:
    """Show a row per row."""
    if as_json:
        show_rows(frame.iter_rows(named=True))
    elif frame.height:
        _draw(_table(frame))
    else:
        click.echo("nothing")


def show_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a JSON array while they come."""
    before = "[\n"
    for row in rows:
        click.echo(before + _to_json(row), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def show_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Show names and values."""
    if as_json:
        click.echo(_to_json(facts))
        return
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in facts.items():
        drawn.add_row(name, _to_text(value))
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
    click.echo(_to_json(facts_of(result)) if as_json else repr(result))


def facts_of(result: object) -> dict[str, Any]:
    """Return the fields of a result; of files the identifiers."""
    assert dataclasses.is_dataclass(result)
    return {
        each.name: getattr(result, each.name) for each in dataclasses.fields(result) if not each.name.startswith("_")
    }


def _draw(table: Table) -> None:
    is_free = "COLUMNS" not in os.environ and not sys.stdout.isatty()
    width = _UNWRAPPED if is_free else None
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as drawn:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def _table(frame: pl.DataFrame) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, kind in frame.schema.items():
        drawn.add_column(name, justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        drawn.add_row(*map(_to_text, row))
    return drawn


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
            return ", ".join(f"{name} {_to_text(item)}" for name, item in value.items())
        case _:
            return str(value)


def _to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


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
