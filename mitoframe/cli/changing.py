"""The verbs that change a store, or bring rows out of it: compact, vacuum, ingest, export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
import polars as pl

from mitoframe.cli.destination import Destination, suffix_of, whole_or_not
from mitoframe.cli.options import (
    as_json,
    opened,
    options_of,
    scan_of,
    the_end,
    the_rows,
    the_start,
    the_store,
    the_table,
)
from mitoframe.cli.reading import READABLE, Wanted, read_rows, unreadable, wanted_of
from mitoframe.cli.showing import facts_of, say, show_facts, show_result, show_rows
from mitoframe.database import open as open_store
from mitoframe.model.errors import MitoError

WRITERS: Mapping[str, Callable[[pl.LazyFrame, str], object]] = {
    ".parquet": pl.LazyFrame.sink_parquet,
    ".csv": pl.LazyFrame.sink_csv,
    ".ndjson": pl.LazyFrame.sink_ndjson,
    ".jsonl": pl.LazyFrame.sink_ndjson,
    ".arrow": pl.LazyFrame.sink_ipc,
    ".feather": pl.LazyFrame.sink_ipc,
}


@click.command()
@the_store
@the_table
@the_start
@the_end
@click.option("--window", metavar="DURATION", help="How long a window is, for this once, such as 1d.")
@click.option("--strict", is_flag=True, help="Rewrite files that reach into several windows too.")
@click.option("--dry-run", is_flag=True, help="Say what would be merged first, and do nothing.")
@as_json
def compact(store: str, table: str, dry_run: bool, as_json: bool, **how: Any) -> None:
    """Merge files that overlap, and small ones beside each other."""
    with opened(store, "r" if dry_run else "rw") as database:
        show_result(database[table].compact(dry_run=dry_run, **how), as_json=as_json)


@click.command()
@the_store
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option("--older-than", metavar="DURATION", help="How long ago a file must have been replaced, such as 1h.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted and why the rest stays, and delete nothing.")
@as_json
def vacuum(store: str, tables: tuple[str, ...], older_than: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete files that nobody needs any more.

    Of all tables, if none is named. The store must be free to write to, for --dry-run too: only who writes knows which
    files are in the making.
    """
    with opened(store, "rw") as database:
        names = tables or database.tables()["name"].to_list()
        results = {name: database[name].vacuum(older_than, dry_run=dry_run) for name in names}
    if as_json:
        show_rows(({"table": name} | facts_of(result) for name, result in results.items()), as_json=True)
    else:
        for name, result in results.items():
            say(f"{name}: {result!r}")


@click.command()
@the_store
@the_table
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--time", metavar="COLUMN", help="The time column; needed if the table is new.")
@click.option("--tag", "tags", multiple=True, metavar="COLUMN", help="A tag; may be repeated.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of a new table: dedup=merge.")
@click.option("--key", metavar="TEXT", help="With one file: a name for the write, so that it is done only once.")
@as_json
def ingest(
    store: str,
    table: str,
    paths: tuple[str, ...],
    time: str | None,
    tags: tuple[str, ...],
    options: tuple[str, ...],
    key: str | None,
    as_json: bool,
) -> None:
    """Write files of rows to a table.

    The table and the store are made if they are not there. Files may be Parquet, CSV, newline-delimited JSON (.ndjson,
    .jsonl) or Arrow (.arrow, .feather). Each is written whole or not at all, one after the other: if one is refused,
    those before it are written.

    Where times are text, in CSV and JSON, they are ISO 8601, such as 2024-01-31T12:00:00Z.
    """
    if key is not None and len(paths) > 1:
        raise click.UsageError("--key names one write, and there are several files.")
    for path in paths:
        if suffix_of(path) not in READABLE:
            raise click.BadParameter(f"{path} ends in none of {', '.join(READABLE)}.", param_hint="FILE")
    chosen = options_of(options) or None
    written: list[dict[str, Any]] = []
    try:
        with open_store(store) as database:
            for path in paths:
                is_new = table not in database
                with _told_of(path):
                    rows = read_rows(path, Wanted(time=time) if is_new else wanted_of(database[table]))
                    result = database.write(rows, table, time=time, tags=tags or None, key=key, options=chosen)
                chosen = None
                written.append({"file": path} | facts_of(result))
                if not as_json:
                    say(f"{path}: {result!r}")
    finally:
        if as_json and written:
            show_rows(written, as_json=True)


@contextmanager
def _told_of(path: str) -> Iterator[None]:
    """Say of which file it is that something is wrong."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
    except MitoError as error:
        error.add_note(path)
        raise


@click.command()
@the_store
@the_table
@click.argument("path", metavar="FILE", type=Destination(WRITERS))
@the_rows
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@as_json
def export(store: str, table: str, path: str, overwrite: bool, as_json: bool, **rows: Any) -> None:
    """Write rows of a table to a file.

    It becomes Parquet, CSV, newline-delimited JSON (.ndjson, .jsonl) or Arrow (.arrow, .feather), as its name ends.
    Many rows pass through memory some at a time.
    """
    if os.path.exists(path) and not overwrite:
        raise click.BadParameter(f"{path} is there already; give --overwrite to replace it.", param_hint="FILE")
    with opened(store) as database:
        found = scan_of(database, table, **rows).to_polars()
        _check_writable(found, path)
        with whole_or_not(path) as part:
            WRITERS[suffix_of(path)](found, part)
    size_bytes = os.path.getsize(path)
    if as_json:
        show_facts({"file": path, "size_bytes": size_bytes}, as_json=True)
    else:
        say(f"{path}: {size_bytes:,} bytes")


def _check_writable(rows: pl.LazyFrame, path: str) -> None:
    binary = [name for name, kind in rows.collect_schema().items() if kind == pl.Binary]
    if binary and suffix_of(path) in (".csv", ".ndjson", ".jsonl"):
        names = ", ".join(map(repr, binary))
        raise click.BadParameter(
            f"{path} cannot hold the bytes of {names}; .parquet and .arrow can.", param_hint="FILE"
        )


VERBS = (compact, vacuum, ingest, export)
