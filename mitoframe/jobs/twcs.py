"""Which files to merge: a pure function of files and options, without disk, clock or lock.

Files belong to the time window of their newest row. Within a window, files that are connected by having a time in
common are merged into one when there are enough of them; automatically, when enough of similar size hold the same time,
which is what a scan of that time pays for. The window's length is given, or remembered from an earlier
compaction, or inferred from the span of the flushed files: the smallest of 1 h, 2 h, 12 h, 1 d and 7 d that holds it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.model.timerange import PER_SECOND, connected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Many

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.options import Dedup
    from mitoframe.model.timerange import TimeUnit
    from mitoframe.storage.memtable import RangeStats

_HOUR_MS = 3_600_000
SIMILAR_TIMES = 4
"""Files are alike in size if the largest is no more than this many times the smallest."""
SMALL_BYTES = 1 << 20
"""Smaller files all count as this large."""
WINDOW_CHOICES_MS = tuple(hours * _HOUR_MS for hours in (1, 2, 12, 24, 168))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionTask:
    """Files to merge into one.

    ``drop_deletes`` is set only when no other file may hold an older version of any of their keys.
    """

    window_start: int
    inputs: tuple[FileMeta, ...]
    drop_deletes: bool


def window_ms(state: RegionState) -> int:
    """Return the compaction window of a region, in milliseconds."""
    given = state.options.compaction_window_ms or state.compaction_window_ms
    return given or infer_window_ms(state.files.values(), state.metadata.time_unit)


def infer_window_ms(files: Iterable[FileMeta], unit: TimeUnit) -> int:
    """Return the smallest window choice that holds the span of the flushed files.

    >>> infer_window_ms([], "ms") == 3_600_000
    True
    """
    flushed = [file for file in files if file.level == LEVEL_FLUSHED]
    if not flushed:
        return WINDOW_CHOICES_MS[0]
    span = max(file.max_time for file in flushed) - min(file.min_time for file in flushed)
    return window_for_span(span * 1000 // PER_SECOND[unit])


def window_for_span(span_ms: int) -> int:
    """Return the smallest window choice that holds a span, in milliseconds.

    >>> window_for_span(3 * 3_600_000) == 12 * 3_600_000
    True
    """
    return next((choice for choice in WINDOW_CHOICES_MS if span_ms <= choice), WINDOW_CHOICES_MS[-1])


def pick_overlapping(
    files: Iterable[FileMeta],
    window: int,
    files_min: int,
    *,
    dedup: Dedup = "last",
    buffered: Iterable[RangeStats] = (),
    size_max_bytes: int | None = None,
) -> tuple[CompactionTask, ...]:
    """Return a task for every group of at least ``files_min`` overlapping files of one window, newest window first.

    ``window`` is in the unit of the files' times. With ``size_max_bytes`` a task takes only files of its group that are
    similar in size and have a time in common, the smallest for which there are enough, and no more than that of them
    together: so a row is rewritten a few times and not with every few files that come, and files that merely touch the
    next, as late rows make them, are left alone. With ``dedup="merge"`` a group is left alone if a file outside it,
    or what is ``buffered`` in memory, overlaps it in time and in sequences: a row filled from versions before and after
    those would hide what they say.
    """
    waiting = tuple(buffered)
    everything = sorted(files, key=lambda file: (file.max_time // window, file.min_time, file.max_time))
    groups = [
        (number, chosen)
        for number, members in groupby(everything, key=lambda file: file.max_time // window)
        for group in connected(members, lambda file: file.min_time, lambda file: file.max_time)
        if len(chosen := _similar(group, files_min, size_max_bytes)) >= files_min
    ]
    return tuple(
        CompactionTask(
            window_start=number * window,
            inputs=tuple(group),
            drop_deletes=not _others_overlap(group, everything),
        )
        for number, group in reversed(groups)
        if dedup != "merge" or not _interleaves(group, [*_overlapping_others(group, everything), *waiting])
    )


def _similar(group: list[FileMeta], files_min: int, size_max_bytes: int | None) -> list[FileMeta]:
    """Return the smallest files of a group that are alike in size, share a time and are enough; or none."""
    if size_max_bytes is None:
        return group
    ordered = sorted(group, key=lambda file: (file.size_bytes, file.min_time))
    for start, smallest in enumerate(ordered):
        limit = SIMILAR_TIMES * max(smallest.size_bytes, SMALL_BYTES)
        alike = _sharing([file for file in ordered[start:] if file.size_bytes <= limit])
        total = accumulate(file.size_bytes for file in alike)
        chosen = [file for file, size_bytes in zip(alike, total, strict=True) if size_bytes <= size_max_bytes]
        if len(chosen) >= files_min:
            return chosen
    return []


def _sharing(files: Many[FileMeta]) -> list[FileMeta]:
    """Return the files that hold the time which most of them hold. Requires: at least one."""
    starts, ends = sorted(file.min_time for file in files), sorted(file.max_time for file in files)
    time = max(starts, key=lambda time: bisect_right(starts, time) - bisect_left(ends, time))
    return [file for file in files if file.min_time <= time <= file.max_time]


def _others_overlap(group: Many[FileMeta], everything: Many[FileMeta]) -> bool:
    return bool(_overlapping_others(group, everything))


def _interleaves(group: Many[FileMeta], others: Iterable[FileMeta | RangeStats]) -> bool:
    """Tell whether some of the others may hold a version between two of the group's."""
    first, last = _times_of(group)
    oldest, newest = min(file.min_sequence for file in group), max(file.max_sequence for file in group)
    return any(
        other.min_time <= last
        and other.max_time >= first
        and other.min_sequence <= newest
        and other.max_sequence >= oldest
        for other in others
    )


def _overlapping_others(group: Many[FileMeta], everything: Many[FileMeta]) -> list[FileMeta]:
    inside = {file.file_id for file in group}
    first, last = _times_of(group)
    return [
        file for file in everything if file.file_id not in inside and file.min_time <= last and file.max_time >= first
    ]


def _times_of(group: Many[FileMeta]) -> tuple[int, int]:
    return min(file.min_time for file in group), max(file.max_time for file in group)
