"""A file of rows that is to be read: its name says what it is, and text that is a time becomes one.

Neither CSV nor JSON has times. A column of text becomes a time where each value is ISO 8601: in CSV any column of a
new table, else those that the table holds as times, and the time column always. Other ways to write a date are not
guessed at, because 01/02/2024 is two days. All of such a file is looked at before its columns have types, so that none
is refused or cut off for what comes late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import click
import polars as pl
import pyarrow as pa

from mitoframe.cli.destination import suffix_of
from mitoframe.model.errors import InvalidInputError

if TYPE_CHECKING:
    from mitoframe.table import Table

_DAY = r"\d{4}-\d{2}-\d{2}"
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?"
_ZONE = r"(Z|[+-]\d{2}:?\d{2})"
_WAYS = {"is_day": f"^{_DAY}$", "is_local": f"^{_DAY}({_CLOCK})?$", "is_instant": f"^{_DAY}{_CLOCK}{_ZONE}$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is known of the rows before they are read: the time column's name, and the columns of a table that is."""

    time: str | None
    types: Mapping[str, pa.DataType] | None = None


def wanted_of(table: Table) -> Wanted:
    """Return what a table wants of rows."""
    return Wanted(time=table.time, types={field.name: field.type for field in table.schema})


def read_rows(path: str, wanted: Wanted) -> pl.LazyFrame:
    """Open a file as rows, and refuse one that is not what its name says."""
    try:
        rows = _READERS[suffix_of(path)](path, wanted)
        rows.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
    return rows


def unreadable(path: str, error: pl.exceptions.PolarsError) -> click.BadParameter:
    """Say that a file is not what its name says."""
    return click.BadParameter(f"{path} cannot be read: {error}", param_hint="FILE")


def _csv(path: str, wanted: Wanted) -> pl.LazyFrame:
    # What the table holds as text is text, also where it looks like a number: 007.
    texts = [name for name, kind in (wanted.types or {}).items() if pa.types.is_large_string(kind)]
    rows = pl.scan_csv(path, infer_schema_length=None, schema_overrides=dict.fromkeys(texts, pl.String))
    return _with_times(rows, wanted, is_any_of_new=True)


def _ndjson(path: str, wanted: Wanted) -> pl.LazyFrame:
    return _with_times(pl.scan_ndjson(path, infer_schema_length=None), wanted, is_any_of_new=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How the values of a column of text are written: in which ways all of them, and one that is in none."""

    is_day: bool
    is_local: bool
    is_instant: bool
    has_nanoseconds: bool
    other: str | None

    @property
    def is_time(self) -> bool:
        return self.is_local or self.is_instant

    @property
    def is_empty(self) -> bool:
        return self.is_local and self.is_instant


def _with_times(rows: pl.LazyFrame, wanted: Wanted, *, is_any_of_new: bool) -> pl.LazyFrame:
    texts = [name for name, kind in rows.collect_schema().items() if kind == pl.String]
    if wanted.types is not None:
        names = [name for name in texts if _is_time(wanted.types.get(name))]
    else:
        names = [name for name in texts if is_any_of_new or name == wanted.time]
    if not names:
        return rows
    found = rows.select(map(_look, names)).collect(engine="streaming").row(0, named=True)
    looks = {name: _Look(**look) for name, look in found.items()}
    if wanted.time in looks:
        _check_time(wanted.time, looks[wanted.time])
    return rows.with_columns(_to_time(name, look, wanted) for name, look in looks.items() if look.is_time)


def _is_time(kind: pa.DataType | None) -> bool:
    return kind is not None and bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _look(name: str) -> pl.Expr:
    text = pl.col(name)
    ways = [text.str.contains(pattern).all().alias(way) for way, pattern in _WAYS.items()]
    has_nanoseconds = text.str.contains(r"\.\d{7}").any().alias("has_nanoseconds")
    other = text.filter(~text.str.contains(f"{_WAYS['is_local']}|{_WAYS['is_instant']}")).first().alias("other")
    return pl.struct([*ways, has_nanoseconds, other]).alias(name)


def _check_time(name: str, look: _Look) -> None:
    if look.is_time:
        return
    if look.other is None:
        what = "times with a zone and times without; give all of them one, or none"
    else:
        what = f"{look.other!r}, which is not ISO 8601, such as 2024-01-31 or 2024-01-31T12:00:00Z"
    raise InvalidInputError(f"the time column {name!r} holds {what}.")


def _to_time(name: str, look: _Look, wanted: Wanted) -> pl.Expr:
    kind = (wanted.types or {}).get(name)
    if kind is None and name != wanted.time:
        if look.is_empty:
            return pl.col(name)
        if look.is_day:
            return pl.col(name).str.to_date()
    elif kind is not None and pa.types.is_date(kind):
        return pl.col(name).str.to_date()
    moment = kind if isinstance(kind, pa.TimestampType) else pa.timestamp("ns" if look.has_nanoseconds else "us")
    has_zone = moment.tz is not None if look.is_empty else look.is_instant
    unit = cast("Literal['ms', 'us', 'ns']", moment.unit)
    return pl.col(name).str.to_datetime(time_unit=unit, time_zone="UTC" if has_zone else None)


_READERS: Mapping[str, Callable[[str, Wanted], pl.LazyFrame]] = {
    ".parquet": lambda path, _: pl.scan_parquet(path),
    ".csv": _csv,
    ".ndjson": _ndjson,
    ".jsonl": _ndjson,
    ".arrow": lambda path, _: pl.scan_ipc(path),
    ".feather": lambda path, _: pl.scan_ipc(path),
}
READABLE = tuple(_READERS)
"""The endings of files that can be read."""
