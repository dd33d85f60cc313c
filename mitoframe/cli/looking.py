"""The verbs that look: ls, info, files, timeline, scan."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import click

from mitoframe.cli.depths import LABEL_WIDTH, depths, draw
from mitoframe.cli.destination import Destination, whole_or_not
from mitoframe.cli.options import FINE, FOUND, as_json, opened, scan_of, the_rows, the_store, the_table
from mitoframe.cli.showing import drawing_width, rows_of, say, show_facts, show_frame, show_rows
from mitoframe.model.errors import CorruptionError
from mitoframe.model.types import type_to_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mitoframe.database import Database
    from mitoframe.scan import Scan
    from mitoframe.table import Table

SHOWN_ROWS = 20
DRAWN_WIDTH = 80
FIGURES = ("files", "rows", "size_bytes", "first_time", "last_time")
PICTURES = (".png", ".svg")


@click.command()
@the_store
@as_json
def ls(store: str, as_json: bool) -> int:
    """List the tables: their keys, files, rows and times.

    Rows are counted as they are stored, in files and in memory: a row that was written again counts twice until it is
    merged.

    Ends with 1 if a table is damaged so that its files are not known; the others are listed all the same.
    """
    with opened(store) as database:
        tables = _tables(database)
    show_rows(tables, as_json=as_json)
    return FOUND if any(table["files"] is None for table in tables) else FINE


def _tables(database: Database) -> list[dict[str, Any]]:
    return [described | _known_figures(database[described["name"]]) for described in rows_of(database.tables())]


def _known_figures(table: Table) -> dict[str, Any]:
    try:
        return _figures(table)
    except CorruptionError as error:
        say(f"mito: {table.name}: {error}", is_error=True)
        return dict.fromkeys(FIGURES)


def _figures(table: Table) -> dict[str, Any]:
    stats = next(rows_of(table.stats()))
    rows = stats["rows"] + stats["memory_rows"]
    figures = (stats["files"], rows, stats["size_bytes"], stats["min_time"], stats["max_time"])
    return dict(zip(FIGURES, figures, strict=True))


@click.command()
@the_store
@click.argument("table", required=False)
@as_json
def info(store: str, table: str | None, as_json: bool) -> None:
    """Tell what a store is, or a table.

    Of a table: its columns, options, files, snapshots.
    """
    with opened(store) as database:
        facts = _of_store(database) if table is None else _of_table(database, table)
        show_facts(facts, as_json=as_json)


def _of_store(database: Database) -> dict[str, Any]:
    tables = [_figures(database[name]) for name in database.tables()["name"]]
    return {
        "store": database.path,
        "tables": len(tables),
        **{figure: sum(table[figure] for table in tables) for figure in FIGURES[:3]},
    }


def _of_table(database: Database, name: str) -> dict[str, Any]:
    table = database[name]
    region = database.engine.newest(table.region_id)
    versions = table.versions()
    changed = dataclasses.asdict(region.options)
    return {
        "table": table.name,
        "time": table.time,
        "tags": table.tags,
        "columns": {column.name: type_to_text(column.type) for column in region.metadata.columns},
        "options": {option: value for option, value in changed.items() if value is not None},
        **_figures(table),
        "sequence": table.sequence,
        "versions": versions.height,
        "snapshots": versions["snapshot"].drop_nulls().to_list(),
    }


@click.command()
@the_store
@the_table
@as_json
def files(store: str, table: str, as_json: bool) -> None:
    """List the Parquet files of a table."""
    with opened(store) as database:
        show_frame(database[table].files(), as_json=as_json)


@click.command()
@the_store
@the_table
@click.option("--width", type=click.IntRange(1, 10_000), help="In characters; that of the terminal if left out.")
@click.option("--picture", type=Destination(PICTURES), help="Draw it there instead, as .png or .svg.")
@as_json
def timeline(store: str, table: str, width: int | None, picture: str | None, as_json: bool) -> None:
    """Draw the files of a table over time.

    A line per level, a character per stretch of time, which says how many files have times in it.
    """
    with opened(store) as database:
        if picture is not None:
            figure = cast("Figure", database[table].plot.timeline().figure)
            with whole_or_not(picture) as part:
                figure.savefig(part)
            return
        found = depths(database[table].files(), width or _drawn_width())
    if as_json:
        show_facts({} if found is None else dataclasses.asdict(found), as_json=True)
    else:
        say("no files" if found is None else "\n".join(draw(found)))


def _drawn_width() -> int:
    line_width = drawing_width()
    return DRAWN_WIDTH if line_width is None else max(line_width - LABEL_WIDTH, 1)


@click.command()
@the_store
@the_table
@the_rows
@click.option(
    "-n",
    "--limit",
    metavar="NUMBER",
    type=click.IntRange(0, sys.maxsize, clamp=True),
    help=f"How many rows; all in JSON if left out, else {SHOWN_ROWS}.",
)
@as_json
def scan(store: str, table: str, limit: int | None, as_json: bool, **rows: Any) -> None:
    """Print rows of a table."""
    with opened(store) as database:
        found = _rows(scan_of(database, table, **rows))
        show_rows(islice(found, SHOWN_ROWS if limit is None and not as_json else limit), as_json=as_json)


def _rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for frame in scan.batches():
        yield from rows_of(frame)


VERBS = (ls, info, files, timeline, scan)
