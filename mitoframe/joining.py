"""`Scan.asof`: rows of a frame, each with the row of a table that was there at its time.

The join is Polars' ``join_asof``. What is added is that only rows which it may find are read: those of the series and
times of the frame, and where it looks back without a limit the last row of each series before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import polars as pl
from polars.exceptions import PolarsError

from mitoframe import verbs
from mitoframe.frames.polars import from_table
from mitoframe.ingest import to_table
from mitoframe.model.errors import InvalidInputError, unknown_name
from mitoframe.model.timerange import PER_SECOND, TIME_MAX, TIME_MIN, DurationLike, TimeRange

if TYPE_CHECKING:
    from mitoframe.scan import Scan

Strategy: TypeAlias = Literal["backward", "forward", "nearest"]

SERIES_NAMED_MAX = 10_000
"""Up to so many values of a tag are asked for by name."""

_KEY, _ROW = "__asof_time", "__asof_row"
_FINEST = ("ns", "us", "ms")


def asof(
    scan: Scan,
    left: Any,
    *,
    on: str | None = None,
    by: Sequence[str] | None = None,
    strategy: Strategy = "backward",
    tolerance: DurationLike | None = None,
) -> pl.DataFrame:
    """Join a table's rows to a frame's by time; see `Scan.asof`."""
    scan.check_open()
    time = scan.metadata.time.name
    on = time if on is None else on
    frame = _frame(left, [on])
    dtype = _time_type(scan, frame, on)
    tags = _common_tags(scan, frame, by)
    if strategy not in get_args(Strategy):
        raise InvalidInputError(f'strategy={strategy!r} is not one of "backward", "forward" and "nearest".')
    reach = _reach(scan, tolerance)
    unit = next(unit for unit in _FINEST if unit in (scan.metadata.time_unit, dtype.time_unit))
    right = _right(scan, frame, on, tags, strategy, reach)
    hidden = [name for name in right.columns if name not in _shown(scan, on, tags)]
    right = right.with_columns(_key(time, unit)).drop(hidden)
    left_in_order = frame.with_columns(_key(on, unit)).with_row_index(_ROW).sort(_KEY, maintain_order=True)
    try:
        joined = left_in_order.join_asof(
            right, on=_KEY, by=tags or None, strategy=strategy, tolerance=tolerance, check_sortedness=False
        )
    except PolarsError as error:
        raise InvalidInputError(f"the frame cannot be joined: {error}") from error
    return joined.sort(_ROW).drop(_KEY, _ROW)


def _frame(left: Any, keys: Sequence[str]) -> pl.DataFrame:
    if isinstance(left, pl.LazyFrame):
        left = left.collect()
    return left if isinstance(left, pl.DataFrame) else from_table(to_table(left, keys))


def _time_type(scan: Scan, frame: pl.DataFrame, on: str) -> pl.Datetime:
    if on not in frame.columns:
        raise InvalidInputError(f"on: {unknown_name('column', on, frame.columns)}")
    dtype = frame.schema[on]
    if not isinstance(dtype, pl.Datetime):
        raise InvalidInputError(
            f"on: column {on!r} has type {dtype}, not a time; convert it, with .str.to_datetime() say."
        )
    if (dtype.time_zone is None) != (scan.metadata.time_zone is None):
        has, lacks = ("column", "table's time") if dtype.time_zone else ("table's time", "column")
        raise InvalidInputError(
            f"on={on!r}: the {has} has a zone, the {lacks} has none; use .dt.replace_time_zone() on the column."
        )
    return dtype


def _common_tags(scan: Scan, frame: pl.DataFrame, by: Sequence[str] | None) -> list[str]:
    tags = verbs.chosen_tags(scan, by)
    if by is None:
        tags = [name for name in tags if name in frame.columns]
    wanted = from_table(scan.metadata.arrow_schema().empty_table()).schema
    for name in tags:
        if name not in frame.columns:
            raise InvalidInputError(f"by: {unknown_name('column', name, frame.columns)}")
        if frame.schema[name] != wanted[name]:
            raise InvalidInputError(
                f"column {name!r} is {frame.schema[name]}, the tag {wanted[name]}, so they cannot be joined; cast it."
            )
    return tags


def _reach(scan: Scan, tolerance: DurationLike | None) -> int | None:
    """Return the tolerance in ticks of the table's time, rounded up."""
    if tolerance is None:
        return None
    try:
        if isinstance(tolerance, timedelta):
            nanoseconds = tolerance // timedelta(microseconds=1) * 1000
        else:
            nanoseconds = int(pl.Series([0]).cast(pl.Datetime("ns")).dt.offset_by(tolerance).to_physical()[0])
    except (PolarsError, TypeError) as error:
        raise InvalidInputError(
            f'tolerance={tolerance!r} is no duration such as "30s", "1h" or a timedelta.'
        ) from error
    if nanoseconds < 0:
        raise InvalidInputError(f"tolerance={tolerance!r} is negative; how far to look is never less than 0.")
    return -(-nanoseconds * PER_SECOND[scan.metadata.time_unit] // 10**9)


def _key(name: str, unit: Any) -> pl.Expr:
    """Return a time as an instant in a unit, whatever its zone."""
    time = pl.col(name).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return time.dt.cast_time_unit(unit).alias(_KEY)


def _shown(scan: Scan, on: str, tags: Sequence[str]) -> list[str]:
    """Return what the join takes of the table: the scan's columns, and the tags it joins by."""
    columns = scan.columns if scan.columns is not None else scan.metadata.names
    return [*tags, *(name for name in columns if name not in tags and (name != on or name != scan.metadata.time.name))]


# --- what may be found -----------------------------------------------------------------------------------


def _right(
    scan: Scan, frame: pl.DataFrame, on: str, tags: Sequence[str], strategy: Strategy, reach: int | None
) -> pl.DataFrame:
    """Return the rows that the join may find, in order of time, then tags."""
    time, all_tags = scan.metadata.time.name, [tag.name for tag in scan.metadata.tags]
    order = [time, *all_tags]
    wanted = None if scan.columns is None else tuple(dict.fromkeys([*scan.columns, *order]))
    scan = replace(scan, columns=wanted)
    times = frame[on].drop_nulls()
    if not len(times):
        return scan.to_polars().head(0).collect()
    if verbs.exact_predicate(scan) is None:
        return scan.to_polars().sort(order).collect()  # What it says of a row hangs on all the others.
    scan = _of_series(scan, frame, tags)
    first, last = _ticks(scan, times)
    looks_back, looks_ahead = strategy != "forward", strategy != "backward"
    before: list[pl.DataFrame] = []
    if looks_back and reach is None:
        # Of rows at one time "nearest" may find any, so that the last of a group is enough only if there is one.
        if strategy == "nearest" and set(tags) != set(all_tags):
            first = TIME_MIN
        else:
            before = [verbs.last(_between(scan, TIME_MIN, first), tags)]
    elif looks_back:
        first = max(first - (reach or 0), TIME_MIN)
    if looks_ahead:
        last = TIME_MAX if reach is None else min(last + reach, TIME_MAX)
    rows = _between(scan, first, last + 1 if last < TIME_MAX else TIME_MAX).collect()
    return pl.concat([*before, rows]).sort(order)


def _between(scan: Scan, start: int, end: int) -> Scan:
    return replace(scan, time_range=scan.time_range.intersect(TimeRange(start, end)))


def _of_series(scan: Scan, frame: pl.DataFrame, tags: Sequence[str]) -> Scan:
    for name in tags:
        values = frame[name].unique()
        if len(values) <= SERIES_NAMED_MAX:
            condition = pl.col(name).is_in(values.drop_nulls().to_list())
            scan = replace(scan, where=condition if scan.where is None else scan.where & condition)
    return scan


def _ticks(scan: Scan, times: pl.Series) -> tuple[int, int]:
    """Return the first and the last of some times, in ticks of the table's time, rounded outwards."""
    given, wanted = PER_SECOND[times.dtype.time_unit], PER_SECOND[scan.metadata.time_unit]  # type: ignore[attr-defined]
    ticks = times.to_physical()
    first, last = int(ticks.min()), int(ticks.max())  # type: ignore[arg-type]
    return max(first * wanted // given, TIME_MIN), min(-(-last * wanted // given), TIME_MAX)
