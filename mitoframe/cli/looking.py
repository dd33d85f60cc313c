"""The verbs that look: ls, info, files, timeline, scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import click
import polars as pl

from mitoframe.cli.depths import depths, draw
from mitoframe.cli.options import as_json, opened, scan_of, the_rows, the_store, the_table
from mitoframe.cli.showing import show_facts, show_frame, show_rows
from mitoframe.model.types import type_to_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mitoframe.database import Database
    from mitoframe.scan import Scan

SHOWN_ROWS = 20
DRAWN_WIDTH = 80


@click.command()
@the_store
@as_json
def ls(store: str, as_json: bool) -> None:
    """List the tables: their keys, files, rows and times."""
    with opened(store) as database:
        show_frame(_tables(database), as_json=as_json)


def _tables(database: Database) -> pl.DataFrame:
    tables = database.tables()
    found = [database[name].files() for name in tables["name"]]
    return tables.with_columns(
        pl.Series("files", [files.height for files in found], pl.UInt64),
        pl.Series("rows", [files["rows"].sum() for files in found], pl.UInt64),
        pl.Series("size_bytes", [files["size_bytes"].sum() for files in found], pl.UInt64),
        pl.Series("first_time", [_text(files["min_time"].min()) for files in found], pl.String),
        pl.Series("last_time", [_text(files["max_time"].max()) for files in found], pl.String),
    )


def _text(time: Any) -> str | None:
    return None if time is None else str(time)


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
    tables = _tables(database)
    return {
        "store": database.path,
        "tables": tables.height,
        "files": int(tables["files"].sum()),
        "rows": int(tables["rows"].sum()),
        "size_bytes": int(tables["size_bytes"].sum()),
    }


def _of_table(database: Database, name: str) -> dict[str, Any]:
    table = database[name]
    region = database.engine.newest(table.region_id)
    files, versions = table.files(), table.versions()
    changed = dataclasses.asdict(region.options)
    return {
        "table": table.name,
        "time": table.time,
        "tags": table.tags,
        "columns": {column.name: type_to_text(column.type) for column in region.metadata.columns},
        "options": {option: value for option, value in changed.items() if value is not None},
        "files": files.height,
        "rows": int(files["rows"].sum()),
        "size_bytes": int(files["size_bytes"].sum()),
        "first_time": files["min_time"].min(),
        "last_time": files["max_time"].max(),
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
@click.option("--width", default=DRAWN_WIDTH, show_default=True, type=click.IntRange(1, 10_000), help="In characters.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Draw it there instead, as .png or .svg.")
@as_json
def timeline(store: str, table: str, width: int, picture: str | None, as_json: bool) -> None:
    """Draw the files of a table over time.

    A line per level, a character per stretch of time, which says how many files have times in it.
    """
    with opened(store) as database:
        if picture is not None:
            cast("Figure", database[table].plot.timeline().figure).savefig(picture)
            return
        found = depths(database[table].files(), width)
    if as_json:
        show_facts({} if found is None else dataclasses.asdict(found), as_json=True)
    else:
        click.echo("no files" if found is None else "\n".join(draw(found)))


@click.command()
@the_store
@the_table
@the_rows
@click.option(
    "-n", "--limit", type=click.IntRange(0), help=f"How many rows; all in JSON if left out, else {SHOWN_ROWS}."
)
@as_json
def scan(store: str, table: str, limit: int | None, as_json: bool, **rows: Any) -> None:
    """Print rows of a table."""
    with opened(store) as database:
        found = scan_of(database, table, **rows)
        if as_json:
            show_rows(islice(_rows(found), limit))
        else:
            show_frame(found.to_polars().head(SHOWN_ROWS if limit is None else limit).collect(), as_json=False)


def _rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for frame in scan.batches():
        yield from frame.iter_rows(named=True)


VERBS = (ls, info, files, timeline, scan)
