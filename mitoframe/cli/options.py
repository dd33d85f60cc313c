"""What the verbs share: exit codes, arguments, options, and how a store is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click
import polars as pl

from mitoframe.database import Database
from mitoframe.database import open as open_store

if TYPE_CHECKING:
    from mitoframe.registry import Mode
    from mitoframe.scan import Scan

FINE, FOUND, USAGE, NOT_NOW, INTERRUPTED, UNREAD = 0, 1, 2, 3, 130, 141

Verb = TypeVar("Verb", bound=Callable[..., Any])

the_store = click.argument("store", type=click.Path(file_okay=False))
the_table = click.argument("table")
the_tables = click.argument("tables", metavar="[TABLE]...", nargs=-1)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
the_start = click.option("--start", metavar="TIME", help="The first time that is meant.")
the_end = click.option("--end", metavar="TIME", help="The first time that is not meant any more.")
_ROWS = (
    click.option("-c", "--column", "columns", multiple=True, metavar="NAME", help="A column to keep; may be repeated."),
    click.option("-w", "--where", metavar="SQL", help='A condition in SQL, such as "load > 0.5".'),
    the_start,
    the_end,
    click.option("--as-of", metavar="MOMENT", help="Rows as of a version, a snapshot's name or a time."),
)


def the_rows(verb: Verb) -> Verb:
    """Give a verb the options that say which rows are meant, for `scan_of`."""
    return reduce(lambda made, option: option(made), reversed(_ROWS), verb)


def options_of(texts: Iterable[str]) -> dict[str, object]:
    """Return the options of a table that are said as NAME=VALUE; of one that is said twice the last counts."""
    return dict(map(_option, texts))


def _option(text: str) -> tuple[str, object]:
    name, is_given, value = text.partition("=")
    if not is_given:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--option")
    return name, int(value) if value.isdecimal() else value


@contextmanager
def opened(store: str, mode: Mode = "r") -> Iterator[Database]:
    """Open a store that is there."""
    if mode == "rw":
        open_store(store, mode="r").close()  # It is refused if there is none, where writing would make one.
    with open_store(store, mode=mode) as database:
        yield database


def scan_of(
    database: Database,
    table: str,
    *,
    columns: tuple[str, ...],
    where: str | None,
    start: str | None,
    end: str | None,
    as_of: str | None,
) -> Scan:
    """Return a scan of the rows that are meant."""
    return database[table].scan(
        columns=columns or None,
        where=None if where is None else _condition(where),
        start=start,
        end=end,
        as_of=int(as_of) if as_of is not None and as_of.isdecimal() else as_of,
    )


def _condition(text: str) -> pl.Expr:
    try:
        return pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise click.BadParameter(f"{text!r} is no condition in SQL: {error}", param_hint="--where") from None
