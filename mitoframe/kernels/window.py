"""Timestamps to time windows: the start of the window that each lies in.

Windows are half-open, as wide as asked for, and one of them starts at 0; those before 1970 are counted downwards, so a
window never straddles two. The lowest window of all would start below the smallest int64 and is said to start there.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import Int64Array, kernel

_LOWEST = np.iinfo(np.int64).min
_HIGHEST = np.iinfo(np.int64).max


def window_starts(times: Int64Array, width: int) -> Int64Array:
    """Return the start of each time's window.

    Requires: ``width`` is positive.

    >>> window_starts(np.array([-1, 0, 59, 60]), 60).tolist()
    [-60, 0, 0, 60]
    """
    assert width > 0, "a window has a width"
    return _window_starts(times, width)


@kernel
def _window_starts(times: Int64Array, width: int) -> Int64Array:
    starts = np.empty(times.size, np.int64)
    start, last = np.int64(0), np.int64(-1)
    for row in range(times.size):
        time = times[row]
        # Neighbours mostly share a window, and a comparison is ten times cheaper than a division.
        if time < start or time > last:
            above = time % width
            below = width - 1 - above
            start = time - above if time >= _LOWEST + above else np.int64(_LOWEST)
            last = time + below if time <= _HIGHEST - below else np.int64(_HIGHEST)
        starts[row] = start
    return starts
