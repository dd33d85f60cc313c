"""Words like "1h" and "1mo" as buckets of a time column: those of Polars' ``dt.truncate``, which is asked for them.

In UTC, and where there is no zone, buckets up to weeks are even. Elsewhere they are listed over the range of the times
at hand. A zone's clock may jump, at a full minute, and its distance from UTC is a multiple of a quarter of an hour
(since 1973; before that, nothing is promised and None returned). So what ``dt.truncate`` says changes only where a
quarter of an hour or a bucket's own finer step begins, or at the minute of a jump: these times are tried, the others
follow.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from mitoframe.model.buckets import Buckets, EvenBuckets, ListedBuckets
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.timerange import PER_SECOND, DurationLike

if TYPE_CHECKING:
    from mitoframe.model.batch import Times
    from mitoframe.model.schema import RegionMetadata

TIMES_TRIED_MAX = 1_000_000
"""Of so many, or more, times Polars is rather asked when they come."""

WIDTHS_KEPT_MAX = 64
"""Of so many widths it is remembered what Polars said of them."""

_CALENDAR = re.compile(r"\d(mo|q|y)")
_LOCAL_DAYS = re.compile(r"\d(d|w|mo|q|y)")
_MONTH_SECONDS = 28 * 86_400
_QUARTER_HOUR_SECONDS = 900
_MINUTE_SECONDS = 60
_SETTLED_SECONDS = 3 * 365 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """A width of buckets, in Polars' words, for one kind of time column."""

    text: str
    dtype: pl.Datetime
    width: int
    """In UTC, in ticks; of a calendar's spans that of the first."""

    @staticmethod
    def parse(value: DurationLike, metadata: RegionMetadata) -> Every:
        """Read a width.

        Raises:
            InvalidInputError: it is no duration, is mixed of units that do not mix, or is shorter than a tick.

        """
        text = _text(value)
        dtype = pl.Datetime(metadata.time_unit, metadata.time_zone)
        try:
            width = _width(text, dtype)
        except (PolarsError, OverflowError) as error:
            raise InvalidInputError(f"every={value!r} is no width of buckets: {_first_line(error)}") from error
        if width < 1:
            raise InvalidInputError(f"every={value!r} is shorter than the time column's unit, {metadata.time_unit}.")
        return Every(text=text, dtype=dtype, width=width)

    def truncate(self, time: str) -> pl.Expr:
        """Return the start of the bucket of a time."""
        return pl.col(time).dt.truncate(self.text)

    def next(self, time: str) -> pl.Expr:
        """Return the start of the bucket after the one that starts at a time."""
        return pl.col(time).dt.offset_by(self.text)

    def buckets(self, first: int, last: int) -> Buckets | None:
        """Return the buckets of the times from ``first`` to ``last``, or None where Polars had better be asked."""
        if self._is_even(first):
            return EvenBuckets(width=self.width, origin=_origin(self.text, self.dtype) % self.width)
        tried = self._edges_of_calendar(first, last) if self._is_plain_zone() else self._times_tried(first, last)
        if tried is None:
            return None
        try:
            labels = _physical(_ticks_series(tried, self.dtype).dt.truncate(self.text))
        except PolarsError:
            return None  # A bucket would start at an hour that the clock skips; perhaps no row is in it.
        is_new = np.ones(len(labels), dtype=np.bool_)
        is_new[1:] = labels[1:] != labels[:-1]
        return ListedBuckets(edges=tried[is_new], labels=labels[is_new])

    def _is_plain_zone(self) -> bool:
        return self.dtype.time_zone in (None, "UTC")

    def _is_even(self, first: int) -> bool:
        if self._is_plain_zone():
            return _CALENDAR.search(self.text) is None
        # What divides a minute divides every distance from UTC, and no jump falls into it.
        divides = self._seconds(_MINUTE_SECONDS) % self.width == 0
        return divides and _LOCAL_DAYS.search(self.text) is None and self._is_settled(first)

    def _is_settled(self, first: int) -> bool:
        return first >= self._seconds(_SETTLED_SECONDS)

    def _seconds(self, seconds: int) -> int:
        return seconds * PER_SECOND[self.dtype.time_unit]

    def _edges_of_calendar(self, first: int, last: int) -> Times | None:
        if (last - first) // self._seconds(_MONTH_SECONDS) > TIMES_TRIED_MAX:
            return None
        ends = _ticks_series([first, last], self.dtype)
        try:
            start, stop = ends.dt.truncate(self.text)
            edges = pl.select(pl.datetime_range(start, stop, self.text, time_unit=self.dtype.time_unit)).to_series()
        except (PolarsError, OverflowError, ValueError):
            return None
        return _physical(edges)

    def _times_tried(self, first: int, last: int) -> Times | None:
        quarter, minute = self._seconds(_QUARTER_HOUR_SECONDS), self._seconds(_MINUTE_SECONDS)
        step = quarter if _LOCAL_DAYS.search(self.text) else math.gcd(self.width, quarter)
        start = first - first % step
        if not self._is_settled(start) or (last - start) // step >= TIMES_TRIED_MAX:
            return None
        tried = start + step * np.arange((last - start) // step + 2, dtype=np.int64)
        series = _ticks_series(tried, self.dtype)
        away = _physical(series.dt.base_utc_offset() + series.dt.dst_offset())
        jumps = np.nonzero(away[1:] != away[:-1])[0]
        minutes = [np.arange(low - low % minute, high, minute) for low, high in _spans(tried, jumps)]
        edges: Times = np.unique(np.concatenate([tried, *(some[some >= start] for some in minutes)]))
        return edges


@lru_cache(maxsize=WIDTHS_KEPT_MAX)
def _width(text: str, dtype: pl.Datetime) -> int:
    """Ask Polars how long a bucket is, and whether there are such buckets."""
    _ticks_series([_SETTLED_SECONDS * PER_SECOND[dtype.time_unit]], dtype).dt.truncate(text)
    return int(_ticks_series([0], pl.Datetime(dtype.time_unit)).dt.offset_by(text).to_physical()[0])


@lru_cache(maxsize=WIDTHS_KEPT_MAX)
def _origin(text: str, dtype: pl.Datetime) -> int:
    """Ask Polars where the bucket begins that 1970 begins in."""
    return int(_ticks_series([0], pl.Datetime(dtype.time_unit)).dt.truncate(text).to_physical()[0])


def _spans(tried: Times, jumps: Times) -> list[tuple[int, int]]:
    pairs = list(pairwise(tried.tolist())) if len(jumps) else []
    return [pairs[jump] for jump in jumps]


def _text(value: DurationLike) -> str:
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)}us"
    if not isinstance(value, str):
        raise InvalidInputError(f'every={value!r} is no duration; give one such as "30s", "1h", "1mo" or a timedelta.')
    return value.strip()


def _ticks_series(ticks: list[int] | Times, dtype: pl.Datetime) -> pl.Series:
    return pl.Series(ticks, dtype=pl.Int64).cast(dtype)


def _physical(series: pl.Series) -> Times:
    ticks: Times = series.to_physical().to_numpy()
    return ticks


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
