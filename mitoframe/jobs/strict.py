"""Strict windows: files rewritten so that none reaches into two windows, for whoever asks.

Whoever asks for a merge without that gets it for files of different windows that overlap: rows that came late, or
before the length of a window was settled, would be merged at each scan for ever.

A file that reaches into several windows is rewritten with everything that is in any of them, because it goes as a
whole: windows and the files between them form chains, and a chain is one task. Each window gets outputs of its own, and
one that is as large as it may be is followed by another at the next series. A window that holds one merge's outputs and
nothing else is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mitoframe.model.errors import LimitExceededError
from mitoframe.model.timerange import TIME_MAX, TIME_MIN, TimeRange

if TYPE_CHECKING:
    from mitoframe.jobs.tasks import CompactionTask
    from mitoframe.jobs.windows import Groups, Ints
    from mitoframe.model.file import FileMeta

OUTPUT_WINDOWS_MAX = 10_000


def chains(groups: Groups, width: int) -> list[list[int]]:
    """Return the groups that have to be rewritten together, chain by chain, by their numbers."""
    first, last = groups.first // width, groups.last // width
    order = np.lexsort((last, first))
    reach = np.maximum.accumulate(last[order])[:-1]
    cuts = np.flatnonzero(reach < first[order][1:]) + 1
    found = np.split(order, cuts)
    return [sorted(chain.tolist()) for chain in found if len(chain) > 1 or first[chain[0]] != last[chain[0]]]


def overlaps_across(groups: Groups) -> list[Ints]:
    """Return the groups that overlap, chain by chain in the order of time, where they are of more than one window."""
    window = np.repeat(np.arange(len(groups.bounds) - 1), np.diff(groups.bounds))
    order = np.lexsort((-groups.last, groups.first))
    first, last = groups.first[order], groups.last[order]
    end = np.where(last > first, last, np.minimum(first, TIME_MAX - 1) + 1)
    cuts = np.flatnonzero(np.maximum.accumulate(end)[:-1] <= first[1:]) + 1
    return [chain for chain in np.split(order, cuts) if window[chain].min() != window[chain].max()]


def output_windows(first: int, last: int, width: int) -> tuple[TimeRange, ...]:
    """Return the windows that times from ``first`` to ``last`` are in.

    Raises:
        LimitExceededError: they are too many.

    >>> output_windows(5, 25, 10)
    (TimeRange(start=0, end=10), TimeRange(start=10, end=20), TimeRange(start=20, end=30))

    """
    numbers = range(first // width, last // width + 1)
    if len(numbers) > OUTPUT_WINDOWS_MAX:
        raise LimitExceededError(
            f"files that hang together reach over {len(numbers)} windows, more than {OUTPUT_WINDOWS_MAX}; "
            "give a longer window, or compact without strict windows."
        )
    return tuple(TimeRange(max(n * width, TIME_MIN), min((n + 1) * width, TIME_MAX)) for n in numbers)


def inputs_of(task: CompactionTask, times: TimeRange) -> tuple[FileMeta, ...]:
    """Return the files of a task that may have rows in one of its windows: nothing else has to be read for it."""
    return tuple(file for file in task.inputs if times.touches(file.min_time, file.max_time))
