"""Strict windows: files rewritten so that none reaches into two windows, for whoever asks.

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
    from mitoframe.jobs.windows import Groups
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
