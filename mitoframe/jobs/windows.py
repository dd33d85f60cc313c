"""The time windows of a table: how long they are, and its files by window, as arrays.

A file belongs to the window of its newest row; one that ends on the line between two belongs to the later. The length
is given, or remembered from an earlier compaction, or inferred from the span of the flushed files: the smallest of 1 h,
2 h, 12 h, 1 d and 7 d that holds it.

What a policy weighs is not a file but a *group*: the outputs of one merge in one window, which were divided by series
because one file would have been too large, overlap in time and not in keys. Any other file is a group of its own.

Groups overlap if they have more than an end in common: of each the last time is not counted, unless it is the only one.
Where rows come in order a file often ends at the time at which the next begins, and no merge would change that.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED
from mitoframe.model.timerange import PER_SECOND, TIME_MAX, TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.timerange import TimeUnit

    Ints: TypeAlias = npt.NDArray[np.int64]

_HOUR_MS = 3_600_000
WINDOW_CHOICES_MS = tuple(hours * _HOUR_MS for hours in (1, 2, 12, 24, 168))
_FACTS = attrgetter(
    "min_time",
    "max_time",
    "size_bytes",
    "min_sequence",
    "max_sequence",
    "level",
    "created_ms",
    "derived_version",
    "row_count",
)
_FACT_COUNT = 9


# --- how long a window is -------------------------------------------------------------------------------


def window_ms(state: RegionState) -> int:
    """Return the compaction window of a region, in milliseconds."""
    given = state.options.compaction_window_ms or state.compaction_window_ms
    return given or infer_window_ms(state.files.values(), state.metadata.time_unit)


def infer_window_ms(files: Iterable[FileMeta], unit: TimeUnit) -> int:
    """Return the smallest window choice that holds the span of the flushed files.

    >>> infer_window_ms([], "ms") == 3_600_000
    True
    """
    return FlushedBounds(files).window_ms(unit)


class FlushedBounds:
    """Between which times flushed files lie, as more of them come."""

    def __init__(self, files: Iterable[FileMeta] = ()) -> None:
        self._first, self._last = TIME_MAX, TIME_MIN
        self.add(files)

    def add(self, files: Iterable[FileMeta]) -> None:
        for file in files:
            if file.level == LEVEL_FLUSHED:
                self._first, self._last = min(self._first, file.min_time), max(self._last, file.max_time)

    def window_ms(self, unit: TimeUnit) -> int:
        """Return the smallest window choice that holds them all."""
        return window_for_span(max(self._last - self._first, 0) * 1000 // PER_SECOND[unit])


def window_for_span(span_ms: int) -> int:
    """Return the smallest window choice that holds a span, in milliseconds.

    >>> window_for_span(3 * 3_600_000) == 12 * 3_600_000
    True
    """
    return next((choice for choice in WINDOW_CHOICES_MS if span_ms <= choice), WINDOW_CHOICES_MS[-1])


# --- files by window ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups of files, sorted by window, first time, and last time downwards. There is an entry for each
    group where nothing else is said.

    Attributes:
        first: first time.
        last: last time.
        start_rank: where ``first`` stands in the order of window and time.
        end_rank: where the end stands, which is the last time, or what follows it if that is the only one.
        last_rank: where ``last`` stands.
        size_bytes: of all files.
        file_count: how many there are.
        min_sequence: of any row.
        max_sequence: of any row.
        created_ms: when its newest file was made.
        window: the number of the window.
        bounds: the first group of each window, and the number of groups after the last.
        depth: how many groups hold the group's first time.
        members: the numbers of the files, group by group.
        offsets: where the members of each group begin, and the number of files after the last.

    """

    first: Ints
    last: Ints
    start_rank: Ints
    end_rank: Ints
    last_rank: Ints
    size_bytes: Ints
    file_count: Ints
    min_sequence: Ints
    max_sequence: Ints
    created_ms: Ints
    window: Ints
    bounds: Ints
    depth: Ints
    members: Ints
    offsets: Ints

    def __len__(self) -> int:
        return len(self.first)

    def members_of(self, groups: Iterable[int]) -> list[int]:
        """Return the numbers of the files of some groups."""
        offsets = self.offsets
        return [k for group in groups for k in self.members[offsets[group] : offsets[group + 1]].tolist()]

    def per_window(self, values: Ints, how: np.ufunc) -> Ints:
        """Reduce a value of each group to one of each window."""
        reduced: Ints = how.reduceat(values, self.bounds[:-1])
        return reduced

    def components(self, *, touching: bool) -> Ints:
        """Return the first groups of maximal stretches of one window without a gap, and the number of groups at the
        end. With ``touching``, groups that have no more than an end in common hang together too.
        """
        reach = np.maximum.accumulate(self.last_rank if touching else self.end_rank)[:-1]
        begins = reach < self.start_rank[1:] if touching else reach <= self.start_rank[1:]
        return np.concatenate([[0], np.flatnonzero(begins) + 1, [len(self)]])


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTable:
    """Files by identifier, and what is known of them as arrays, so that nothing depends on the order they came in."""

    files: tuple[FileMeta, ...]
    first: Ints
    last: Ints
    size_bytes: Ints
    min_sequence: Ints
    max_sequence: Ints
    level: Ints
    created_ms: Ints
    derived_version: Ints
    row_count: Ints

    def overlapping(self, first: int, last: int) -> Ints:
        """Return which files hold a time from ``first`` to ``last``, both included."""
        return np.flatnonzero((self.first <= last) & (self.last >= first))


def table_of(files: Iterable[FileMeta]) -> FileTable:
    known = tuple(sorted(files, key=attrgetter("file_id")))
    facts = np.array(list(map(_FACTS, known)), dtype=np.int64).reshape(len(known), _FACT_COUNT).T.copy()
    first, last, size_bytes, min_sequence, max_sequence, level, created_ms, derived_version, row_count = facts
    return FileTable(
        files=known,
        first=first,
        last=last,
        size_bytes=size_bytes,
        min_sequence=min_sequence,
        max_sequence=max_sequence,
        level=level,
        created_ms=created_ms,
        derived_version=derived_version,
        row_count=row_count,
    )


def groups_of(table: FileTable, width: int, chosen: Ints | None = None) -> Groups | None:
    """Sort files, all or those ``chosen`` by number, into windows of a width in the unit of their times.

    None if there are none.
    """
    chosen = np.arange(len(table.files)) if chosen is None else chosen
    if not len(chosen):
        return None
    first, last = table.first[chosen], table.last[chosen]
    level, created_ms = table.level[chosen], table.created_ms[chosen]
    number = last // width
    order, offsets = _siblings(number, level, created_ms, table.derived_version[chosen])

    def reduced(how: np.ufunc, values: Ints) -> Ints:
        return values[order] if len(offsets) == len(values) + 1 else how.reduceat(values[order], offsets[:-1])

    first, last, number = reduced(np.minimum, first), reduced(np.maximum, last), reduced(np.maximum, number)
    min_sequence = reduced(np.minimum, table.min_sequence[chosen])
    by_time = np.lexsort((min_sequence, -last, first, number))
    first, last, number = first[by_time], last[by_time], number[by_time]
    segment = np.concatenate([[0], np.cumsum(number[1:] != number[:-1])])
    start_rank, end_rank, last_rank = _ranks(first, last, segment)
    counts = np.diff(offsets)
    return Groups(
        first=first,
        last=last,
        start_rank=start_rank,
        end_rank=end_rank,
        last_rank=last_rank,
        size_bytes=reduced(np.add, table.size_bytes[chosen])[by_time],
        file_count=counts[by_time],
        min_sequence=min_sequence[by_time],
        max_sequence=reduced(np.maximum, table.max_sequence[chosen])[by_time],
        created_ms=reduced(np.maximum, created_ms)[by_time],
        window=number,
        bounds=np.concatenate([[0], np.flatnonzero(np.diff(segment)) + 1, [len(first)]]),
        depth=np.arange(1, len(first) + 1) - np.searchsorted(np.sort(end_rank), start_rank, side="right"),
        members=chosen[_moved(order, offsets, by_time)],
        offsets=np.concatenate([[0], np.cumsum(counts[by_time])]),
    )


def _siblings(window: Ints, level: Ints, created_ms: Ints, derived: Ints) -> tuple[Ints, Ints]:
    """Return the files by group, and where each group begins and the last ends."""
    count = len(window)
    merged = (level == LEVEL_COMPACTED) & (derived > 0)
    if len(np.unique(derived[merged])) == np.count_nonzero(merged):
        return np.arange(count), np.arange(count + 1)
    own = np.where(merged, derived, -1 - np.arange(count))
    order = np.lexsort((created_ms, own, window))
    keys = np.stack([window, own, created_ms])[:, order]
    begins = np.flatnonzero(np.any(keys[:, 1:] != keys[:, :-1], axis=0)) + 1
    return order, np.concatenate([[0], begins, [count]])


def _moved(order: Ints, offsets: Ints, groups: Ints) -> Ints:
    """Return the files by group after the groups have changed their order."""
    if len(offsets) == len(order) + 1:
        return order[groups]
    return np.concatenate([order[offsets[group] : offsets[group + 1]] for group in groups])


def _ranks(first: Ints, last: Ints, segment: Ints) -> tuple[Ints, Ints, Ints]:
    """Number all times by window, then in their order, so that one array tells for all windows what comes first."""
    end = np.where(last > first, last, np.minimum(first, TIME_MAX - 1) + 1)
    times, place = np.unique(np.concatenate([first, end, last]), return_inverse=True)
    ranks = place.reshape(3, len(first)) + segment * len(times)
    return ranks[0], ranks[1], ranks[2]
