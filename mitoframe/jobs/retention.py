"""Which rows are too old to be kept, and which files hold nothing else: pure functions of files, options and now.

A time to live is measured against the earlier of the wall clock and the newest rows: where nothing is written any more,
nothing is lost by waiting, and a table of old times is not emptied by the first look at it.

What it was once measured against counts from then on, as long as nothing but expired rows goes: neither a merge, after
which less is known of how new the data is, nor a clock that goes back makes rows appear again.

A few rows with a wrong time in the future would make all others old at once. So the newest rows are a thousandth of
all, and at least two, that are known to be as new: all rows of a file that begins there or later, and one of a file
that only ends there. Rows may expire later by this, by as much as the newest files span, and never earlier.

A file goes as a whole, and never before a file that may hold older versions of its rows: whatever hides them has to be
there as long as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mitoframe.jobs.windows import table_of
from mitoframe.model.timerange import PER_SECOND, TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.jobs.windows import FileTable, Ints
    from mitoframe.model.file import FileMeta
    from mitoframe.model.options import Dedup
    from mitoframe.model.timerange import TimeUnit
    from mitoframe.storage.memtable import RangeStats

    Mask = npt.NDArray[np.bool_]

GUARD_SHARE = 1000
"""One of so many rows has to be as new."""
GUARD_ROWS_MIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """What a time to live says at a moment. Rows before ``cutoff`` are not read, whether their file is there or not.

    Attributes:
        cutoff: the oldest time that is kept, in the time column's unit.
        measured_at: the time that the time to live is counted back from.
        newest_time: of any row, None without rows.
        is_guarded: ``newest_time`` is later by more than a time to live, but too few rows are as new.
        files: hold nothing but expired rows, and can go.
        waiting: hold nothing but expired rows, and go when the files that may hold older versions of them go.

    """

    cutoff: int
    measured_at: int
    newest_time: int | None
    is_guarded: bool
    files: tuple[FileMeta, ...] = ()
    waiting: tuple[FileMeta, ...] = ()

    @property
    def row_count(self) -> int:
        return sum(file.row_count for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def expiry_of(
    files: Iterable[FileMeta],
    ttl_ms: int,
    now_ms: int,
    *,
    unit: TimeUnit = "ms",
    dedup: Dedup = "last",
    buffered: Iterable[RangeStats] = (),
) -> Expiry:
    """Return what has expired. ``buffered`` are the rows that are in no file yet; they count for how new the data is.

    The later it is, the more has expired, and nothing that had comes back.
    """
    return expiry_in(table_of(files), ttl_ms, now_ms, unit=unit, dedup=dedup, buffered=buffered)


def expiry_in(
    table: FileTable,
    ttl_ms: int,
    now_ms: int,
    *,
    unit: TimeUnit = "ms",
    dedup: Dedup = "last",
    buffered: Iterable[RangeStats] = (),
    measured_min: int = TIME_MIN,
) -> Expiry:
    """Do what `expiry_of` does with files of which a table was made already.

    ``measured_min`` is what was measured against before.
    """
    everything = _Spans.of(table, tuple(buffered))
    now, ttl = (milliseconds * PER_SECOND[unit] // 1000 for milliseconds in (now_ms, ttl_ms))
    newest = int(everything.last.max()) if len(everything.last) else None
    measured_at = max(min(now, _supported_time(everything)), measured_min)
    cutoff = cutoff_at(measured_at, ttl_ms, unit)
    expired = np.flatnonzero(table.last < cutoff)
    expired = expired[np.argsort(table.last[expired], kind="stable")]
    waits = np.zeros(len(expired), dtype=np.bool_) if dedup == "none" else _hides_something(expired, everything)
    return Expiry(
        cutoff=cutoff,
        measured_at=measured_at,
        newest_time=newest,
        is_guarded=newest is not None and min(newest, now) - measured_at > ttl,
        files=tuple(table.files[k] for k in expired[~waits].tolist()),
        waiting=tuple(table.files[k] for k in expired[waits].tolist()),
    )


def measured_time(table: FileTable, now_ms: int, unit: TimeUnit, buffered: Iterable[RangeStats] = ()) -> int:
    """Return what a time to live is measured against by files, rows in memory and clock; `TIME_MIN` without rows."""
    return min(now_ms * PER_SECOND[unit] // 1000, _supported_time(_Spans.of(table, tuple(buffered))))


def cutoff_at(measured_at: int, ttl_ms: int, unit: TimeUnit) -> int:
    """Return the oldest time that is kept.

    >>> cutoff_at(5_000, 1_000, "ms")
    4000
    """
    return max(measured_at - ttl_ms * PER_SECOND[unit] // 1000, TIME_MIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spans:
    """Times, sequences and rows of files, by their numbers, and of rows in memory after them."""

    first: Ints
    last: Ints
    min_sequence: Ints
    max_sequence: Ints
    row_count: Ints

    @staticmethod
    def of(table: FileTable, buffered: Many[RangeStats]) -> _Spans:
        def joined(known: Ints, name: str) -> Ints:
            more = np.array([getattr(part, name) for part in buffered], dtype=np.int64)
            return np.concatenate([known, more])

        return _Spans(
            first=joined(table.first, "min_time"),
            last=joined(table.last, "max_time"),
            min_sequence=joined(table.min_sequence, "min_sequence"),
            max_sequence=joined(table.max_sequence, "max_sequence"),
            row_count=joined(table.row_count, "row_count"),
        )


def _supported_time(spans: _Spans) -> int:
    """Return the newest time that enough rows are known to be at or after: all rows of what begins there or later, and
    of what only ends there one.
    """
    needed = max(GUARD_ROWS_MIN, -(-int(spans.row_count.sum()) // GUARD_SHARE))
    times = np.concatenate([spans.last, spans.first])
    # A row at the last time is known; at the first time it becomes all rows of what begins there.
    known_rows = np.concatenate([np.ones_like(spans.last), spans.row_count - 1])
    order = np.argsort(times, kind="stable")[::-1]
    enough = np.cumsum(known_rows[order]) >= needed
    # Equal times have to be counted together, but the first of them to suffice has their time anyway.
    return int(times[order[np.argmax(enough)]]) if enough.any() else TIME_MIN


def _hides_something(expired: Ints, spans: _Spans) -> Mask:
    """Tell which expired files hide, or may hide, something in what stays; which then stay too."""
    held = np.zeros(len(expired), dtype=np.bool_)
    stays = np.ones(len(spans.first), dtype=np.bool_)
    stays[expired] = False
    news = np.flatnonzero(stays & (spans.first <= spans.last[expired].max(initial=TIME_MIN)))
    first, last, newest = spans.first[expired], spans.last[expired], spans.max_sequence[expired]
    while len(news):
        found = np.zeros(len(expired), dtype=np.bool_)
        for k in news.tolist():
            found |= (spans.first[k] <= last) & (spans.last[k] >= first) & (spans.min_sequence[k] < newest)
        news = expired[found & ~held]
        held |= found
    return held
