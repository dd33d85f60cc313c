"""Time as integers in a unit, half-open ranges of it, and the text and objects users say it with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from mitoframe.model.errors import InvalidInputError

Item = TypeVar("Item")
TimeUnit: TypeAlias = Literal["ms", "us", "ns"]
TimeLike: TypeAlias = "str | date | datetime | int"
"""A point in time as users say it: ISO text, date, datetime, ``pd.Timestamp``, or an integer in the column's unit."""
DurationLike: TypeAlias = "str | timedelta"
"""A span as users say it: ``"1h"``, ``"90s"``, ``"2d"`` or a timedelta."""

PER_SECOND: dict[TimeUnit, int] = {"ms": 10**3, "us": 10**6, "ns": 10**9}
TIME_MIN = -(2**63) + 1
TIME_MAX = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_MS = 100 * 365 * 86_400_000
"""A hundred years: what is much longer has no place in 64 bits where times are nanoseconds."""
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """[start, end) in a column's unit. An end of ``TIME_MAX`` includes it, so that "everything" can be said."""

    start: int = TIME_MIN
    end: int = TIME_MAX

    @property
    def last(self) -> int:
        """The last time in it. Requires: there is one."""
        return TIME_MAX if self.end == TIME_MAX else max(self.end - 1, TIME_MIN)

    def is_empty(self) -> bool:
        return self.start >= self.end

    def intersect(self, other: TimeRange) -> TimeRange:
        """Return what is in both.

        >>> TimeRange(0, 10).intersect(TimeRange(5, 20))
        TimeRange(start=5, end=10)
        """
        return TimeRange(max(self.start, other.start), min(self.end, other.end))

    def holds(self, time: int) -> bool:
        """Tell whether a time is in this range."""
        return self.touches(time, time)

    def touches(self, first: int, last: int) -> bool:
        """Tell whether any time of the closed interval [first, last] is in this range."""
        return first <= last and last >= self.start and (first < self.end or self.end == TIME_MAX)


EVERYTHING = TimeRange()


def connected(items: Iterable[Item], first: Callable[[Item], int], last: Callable[[Item], int]) -> list[list[Item]]:
    """Group items by their closed intervals [first, last]: no two groups have a time in common, and no group is larger
    than that takes. Groups and their items come in the order of their first times.

    >>> connected([(5, 6), (0, 2), (2, 4)], lambda item: item[0], lambda item: item[1])
    [[(0, 2), (2, 4)], [(5, 6)]]
    """
    groups: list[list[Item]] = []
    end = 0
    for item in sorted(items, key=first):
        if groups and first(item) <= end:
            groups[-1].append(item)
            end = max(end, last(item))
        else:
            groups.append([item])
            end = last(item)
    return groups


def parse_time(value: TimeLike, unit: TimeUnit, zone: str | None, what: str) -> int:
    """Turn a point in time into an integer of ``unit`` since 1970 UTC.

    A value without a zone means the column's zone (UTC for a column without one). A value between two ticks means the
    later one: no row lies between them, so both ends of a half-open range keep their meaning. ``what`` names the
    argument in errors.

    Raises:
        InvalidInputError: the text is not ISO 8601, an aware value meets a column without a zone, or it does not fit.

    >>> parse_time("2024-01-01", "ms", None, "start")
    1704067200000

    """
    if isinstance(value, bool) or not isinstance(value, (str, int, date)):
        raise InvalidInputError(f"{what} is a {type(value).__name__}; give ISO text, a date, a datetime or an integer.")
    if isinstance(value, int):
        ticks = value
    else:
        nanoseconds = getattr(value, "nanosecond", 0)  # pd.Timestamp holds what datetime cannot.
        moment = _localise(_to_datetime(value, what), zone, what)
        delta = moment - _EPOCH
        whole_us = (delta.days * 86_400 + delta.seconds) * 10**6 + delta.microseconds
        ticks = -(-(whole_us * 1000 + nanoseconds) * PER_SECOND[unit] // 10**9)
    if not TIME_MIN <= ticks <= TIME_MAX:
        raise InvalidInputError(f"{what}={value!r} does not fit a time in {unit}.")
    return ticks


def _to_datetime(value: str | date, what: str) -> datetime:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise InvalidInputError(
                f"{what}={value!r} is not ISO 8601, such as 2024-01-31 or 2024-01-31T12:00."
            ) from None
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001


def _localise(moment: datetime, zone: str | None, what: str) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=_zone(zone, what) if zone else UTC)
    if zone is None:
        raise InvalidInputError(
            f"{what}={moment.isoformat()} has a zone, the time column has none: give it without one."
        )
    return moment


def _zone(name: str, what: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError):
        raise InvalidInputError(
            f"{what} has no zone and the time column's, {name!r}, is not known here; give {what} with a zone."
        ) from None


def parse_duration_ms(value: DurationLike, what: str) -> int:
    """Turn a span into milliseconds.

    >>> parse_duration_ms("1h", "window")
    3600000
    """
    milliseconds = 1000 * _seconds(value, what)
    if not 0 <= milliseconds <= LONGEST_MS:
        raise InvalidInputError(f"{what}={value!r} is not between nothing and 100 years; give another duration.")
    return round(milliseconds)


def _seconds(value: DurationLike, what: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*", value) if isinstance(value, str) else None
    if match is None:
        raise InvalidInputError(f'{what}={value!r} is not a duration such as "30s", "5m", "1h", "7d" or a timedelta.')
    return float(match[1]) * _SECONDS[match[2]]
