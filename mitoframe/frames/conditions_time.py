"""Ranges of the time that follow from conditions on what is made of it: its date, its year, the time some span later.

What is made of the time, never falling as the time rises, is followed back step by step: from an interval of results to
an interval of times outside of which no time has such a result. It may be wider than need be, never narrower: where
clocks of the column's zone are changed nearby, both readings are in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from itertools import pairwise
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from mitoframe.model.predicate import Compare, Operator, Predicate
from mitoframe.model.timerange import PER_SECOND, TIME_MAX, TIME_MIN, TimeUnit

Field: TypeAlias = Callable[[str], pa.Field]
Ticks: TypeAlias = "int | None"
"""The end of a closed interval; None where it is open to that side."""
Step: TypeAlias = "Callable[[Ticks, Ticks], tuple[Ticks, Ticks]]"

_DAY_SECONDS = 86_400
_FIRST_DAY, _LAST_DAY = ((date(year, 1, 1) - date(1970, 1, 1)).days for year in (1, 9999))
_SPANS_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
# The longest of each, as clocks show it.
_CALENDAR_DAYS = {"d": 1, "w": 7, "mo": 31, "q": 92, "y": 366}
_SPAN = re.compile(r"(\d+)(ns|us|µs|ms|mo|s|m|h|d|w|q|y)")


def time_part(expr: pl.Expr, field: Field) -> TimePart | None:
    """Read an expression as something made of a time column, if it is that and known here."""
    if expr.meta.is_column():
        name = expr.meta.output_name()
        data_type = field(name).type
        is_time = pa.types.is_timestamp(data_type)
        return TimePart(name, data_type, polars_type(data_type), ()) if is_time else None
    if expr.meta.is_literal():
        return None
    inputs = expr.meta.pop()
    inner = time_part(inputs[-1], field) if len(inputs) in (1, 2) else None
    if inner is None:
        return None
    return inner.part(expr, inputs[0]) if len(inputs) == 1 else inner.calculated(expr, inputs[1], inputs[0])


@dataclass(frozen=True, slots=True)
class TimePart:
    """What is made of the time column ``name``. ``steps`` lead from a result of type ``output`` back to the time."""

    name: str
    type: pa.TimestampType
    output: pl.DataType
    steps: tuple[Step, ...]

    def range_of(self, operator: Operator, values: pl.Series | None) -> list[Predicate]:
        """Return the bounds of times whose result may compare with one of ``values``."""
        if values is None or not len(values) or not self._compares_with(values.dtype):
            return []
        low, high = self._in_ticks(*_interval(operator, values.to_physical()), values.dtype)
        for step in self.steps:
            low, high = step(low, high)
        ends: list[tuple[Operator, Ticks]] = [(">=", low), ("<=", high)]
        return [Compare(self.name, end, tick) for end, tick in ends if tick is not None and TIME_MIN < tick < TIME_MAX]

    def _compares_with(self, dtype: pl.DataType) -> bool:
        """A time plus a span is of the coarser unit of both; all else has to be of the very type."""
        if self._is_time() and isinstance(dtype, pl.Datetime):
            return bool(dtype.time_zone == self.type.tz)
        return dtype == self.output

    def _in_ticks(self, low: Ticks, high: Ticks, dtype: pl.DataType) -> tuple[Ticks, Ticks]:
        if not isinstance(dtype, pl.Datetime) or dtype.time_unit == self.type.unit:
            return low, high
        finer, coarser = divmod(PER_SECOND[self.type.unit], PER_SECOND[dtype.time_unit])
        if not coarser:
            return _scaled(low, high, by=finer)
        by = PER_SECOND[dtype.time_unit] // PER_SECOND[self.type.unit]
        return None if low is None else low // by - 1, None if high is None else high // by + 1

    def part(self, expr: pl.Expr, inner: pl.Expr) -> TimePart | None:
        """Read a function of a time."""
        if not self._is_time():
            return None
        if inner.dt.date().meta.eq(expr):
            return self._then(self._from_days, pl.Date())
        if self.type.tz is None and inner.cast(pl.Date, strict=False).meta.eq(expr):
            return self._then(self._from_days, pl.Date())
        if inner.dt.year().meta.eq(expr):
            return self._then(self._from_years, pl.Int32())
        for unit, per_second in PER_SECOND.items():
            coarser, is_finer = divmod(PER_SECOND[self.type.unit], per_second)
            # A finer unit may overflow, and then says nothing of the time.
            if not is_finer and inner.dt.timestamp(unit).meta.eq(expr):
                return self._then(partial(_scaled, by=coarser), pl.Int64())
        return None

    def calculated(self, expr: pl.Expr, inner: pl.Expr, literal: pl.Expr) -> TimePart | None:
        """Read a calculation with a literal."""
        values = single_literal(literal)
        if values is None:
            return None
        if isinstance(self.output, pl.Int64):
            by = values.item()
            is_division = isinstance(by, int) and by > 0 and (inner // literal).meta.eq(expr)
            return self._then(partial(_scaled, by=by), self.output) if is_division else None
        if not self._is_time():
            return None
        if values.dtype == pl.String and inner.dt.truncate(literal).meta.eq(expr):
            span = _longest_ticks(values.item(), PER_SECOND[self.type.unit])
            return None if span is None else self._then(partial(self._from_start, span=span), self.output)
        if isinstance(values.dtype, pl.Duration):
            later_ns = values.to_physical().item() * _SPANS_NS[values.dtype.time_unit]
            for sign, moved in ((1, inner + literal), (-1, inner - literal)):
                if moved.meta.eq(expr):
                    return self._then(partial(self._from_shifted, later_ns=sign * later_ns), self.output)
        return None

    def _is_time(self) -> bool:
        return self.output == polars_type(self.type)

    def _then(self, step: Step, output: pl.DataType) -> TimePart:
        return TimePart(self.name, self.type, output, (step, *self.steps))

    def _from_days(self, low: Ticks, high: Ticks) -> tuple[Ticks, Ticks]:
        day = _DAY_SECONDS * PER_SECOND[self.type.unit]
        first = None if low is None else low * day - self._offsets(low * day)[1]
        last = None if high is None else (high + 1) * day - self._offsets((high + 1) * day)[0] - 1
        return first, last

    def _from_years(self, low: Ticks, high: Ticks) -> tuple[Ticks, Ticks]:
        first = None if low is None else _days_before(low)
        after = None if high is None else _days_before(high + 1)
        return self._from_days(first, None if after is None else after - 1)

    def _from_start(self, low: Ticks, high: Ticks, *, span: int) -> tuple[Ticks, Ticks]:
        """Undo a truncation: clocks show a time within a span after what it is truncated to."""
        if low is not None:
            least, most = self._offsets(low)
            low -= most - least
        if high is not None:
            high += span + self._offsets(high)[1] - self._offsets(high + span)[0]
        return low, high

    def _from_shifted(self, low: Ticks, high: Ticks, *, later_ns: int) -> tuple[Ticks, Ticks]:
        """Undo an addition. Times that overflow come out at the other end, so if that is open nothing follows."""
        if (later_ns > 0 and low is None) or (later_ns < 0 and high is None):
            return None, None
        ticks = later_ns * PER_SECOND[self.type.unit] // 10**9
        return None if low is None else low - ticks - 1, None if high is None else high - ticks + 1

    def _offsets(self, near: int) -> tuple[int, int]:
        return (0, 0) if self.type.tz in (None, "UTC") else _offsets_from_utc(near, self.type.unit, self.type.tz)


@lru_cache(maxsize=1024)
def _offsets_from_utc(near: int, unit: TimeUnit, zone: str) -> tuple[int, int]:
    """Return the least and the most that clocks are ahead of UTC within a day and some around a time."""
    hour = 3600 * PER_SECOND[unit]
    first, last = near - 26 * hour, near + 26 * hour
    if not _FIRST_DAY < near // (24 * hour) < _LAST_DAY or first < TIME_MIN or last > TIME_MAX:
        return -26 * hour, 26 * hour  # Beyond what calendars know; no zone is as far from UTC.
    ticks = pl.int_range(first, last + 1, hour, dtype=pl.Int64, eager=True)
    instants = ticks.cast(pl.Datetime(unit, "UTC")).dt.convert_time_zone(zone)
    ahead = (instants.dt.replace_time_zone(None).to_physical() - ticks).to_numpy()
    return int(ahead.min()), int(ahead.max())


@lru_cache(maxsize=256)
def polars_type(data_type: pa.DataType) -> pl.DataType:
    """Return the type that Polars has for Arrow's."""
    frame = pl.from_arrow(pa.table({"x": pa.nulls(0, data_type)}))
    assert isinstance(frame, pl.DataFrame)
    return frame.dtypes[0]


def single_literal(expr: pl.Expr) -> pl.Series | None:
    """Return a literal's value, if it has one that is not null."""
    if not expr.meta.is_literal():
        return None
    values = pl.select(expr).to_series()
    return values if len(values) == 1 and not values.null_count() else None


def _interval(operator: Operator, ticks: pl.Series) -> tuple[Ticks, Ticks]:
    """Return the closed interval of results that may compare with one of ``ticks``."""
    low, high = int(ticks.to_numpy().min()), int(ticks.to_numpy().max())
    match operator:
        case "==":
            return low, high
        case "<":
            return None, high - 1
        case "<=":
            return None, high
        case ">":
            return low + 1, None
        case ">=":
            return low, None
        case _:
            return None, None


def _scaled(low: Ticks, high: Ticks, *, by: int) -> tuple[Ticks, Ticks]:
    """Undo a division, whichever way it rounds."""
    if by == 1:
        return low, high
    return None if low is None else (low - 1) * by + 1, None if high is None else (high + 1) * by - 1


def _longest_ticks(text: str, per_second: int) -> int | None:
    """Return how long a span such as ``1d12h`` may be, in ticks."""
    found = list(_SPAN.finditer(text))
    are_joined = all(one.end() == other.start() for one, other in pairwise(found))
    if not found or not are_joined or found[0].start() or found[-1].end() != len(text):
        return None
    length_ns = sum(int(number) * _span_ns(unit) for number, unit in (each.groups() for each in found))
    return -(-length_ns * per_second // 10**9)


def _span_ns(unit: str) -> int:
    return _SPANS_NS[unit] if unit in _SPANS_NS else _CALENDAR_DAYS[unit] * _DAY_SECONDS * 10**9


def _days_before(year: int) -> int | None:
    """Return the days from 1970 to the start of a year that Python knows."""
    return (date(year, 1, 1) - date(1970, 1, 1)).days if 1 <= year <= 9999 else None
