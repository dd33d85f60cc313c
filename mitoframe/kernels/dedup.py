"""Which rows survive: of those with one series and one time, the first in order, which is the newest.

Promises: the result is a part of ``take``, in its order. A deletion is a row like any other (it hides the older ones)
until everything it could hide is in the same merge; only then may it go, and that is for the caller to know.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import Int32Array, Int64Array, Uint8Array, device, kernel

DELETE = 0
PUT = 1


@kernel
def keep_last(codes: Int32Array, times: Int64Array, take: Int64Array) -> Int64Array:
    """Return the newest row of each (series, time).

    Requires: ``take`` puts the rows in order of (code, time, sequence descending).
    """
    kept = np.empty(take.size, np.int64)
    count = 0
    for at in range(take.size):
        row = take[at]
        if at > 0 and _same_key(codes, times, row, take[at - 1]):
            continue
        kept[count] = row
        count += 1
    return kept[:count].copy()


def keep_last_visible(
    codes: Int32Array, times: Int64Array, op_types: Uint8Array, take: Int64Array, *, drop_deletes: bool
) -> Int64Array:
    """Return the newest row of each (series, time); with ``drop_deletes`` only where that is not a deletion.

    Requires: ``take`` puts the rows in order of (code, time, sequence descending), and with ``drop_deletes`` nothing
    outside of it holds an older row of these series and times.
    """
    if drop_deletes:
        return _keep_last_puts(codes, times, op_types, take)
    return keep_last(codes, times, take)


@kernel
def _keep_last_puts(codes: Int32Array, times: Int64Array, op_types: Uint8Array, take: Int64Array) -> Int64Array:
    kept = np.empty(take.size, np.int64)
    count = 0
    for at in range(take.size):
        row = take[at]
        if at > 0 and _same_key(codes, times, row, take[at - 1]):
            continue
        if op_types[row] != DELETE:
            kept[count] = row
            count += 1
    return kept[:count].copy()


@device
def _same_key(codes: Int32Array, times: Int64Array, left: int, right: int) -> bool:
    return bool(times[left] == times[right] and codes[left] == codes[right])
