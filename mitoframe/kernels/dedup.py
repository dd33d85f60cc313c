"""Which rows survive of those with one series and one time, the versions of a key, and which only fill their gaps.

Versions lie in order, the newest first. `keep_last` keeps the newest alone. `version_spans` and `first_valid` let older
versions fill its nulls, down to a deletion: a span is a row that survives and, after it, those that may fill it.

Promises: the result is a part of ``take``, in its order. A deletion is a row like any other (it hides the older ones)
until everything it could hide is in the same merge; only then may it go, and that is for the caller to know.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int32Array, Int64Array, Uint8Array, device, kernel

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


@kernel
def keep_repeated(codes: Int32Array, times: Int64Array, take: Int64Array) -> Int64Array:
    """Return all versions of each (series, time) that has more than one.

    Requires: ``take`` puts the rows in order of (code, time).
    """
    kept = np.empty(take.size, np.int64)
    count = 0
    for at in range(take.size):
        row = take[at]
        if (at > 0 and _same_key(codes, times, row, take[at - 1])) or (
            at + 1 < take.size and _same_key(codes, times, row, take[at + 1])
        ):
            kept[count] = row
            count += 1
    return kept[:count].copy()


@kernel
def version_spans(
    codes: Int32Array, times: Int64Array, op_types: Uint8Array, take: Int64Array, drop_deletes: bool
) -> tuple[Int64Array, Int64Array]:
    """Return where in ``take`` the span of each surviving row starts and stops.

    The newest version of a (series, time) survives, and its span goes down to the newest deletion. That deletion
    survives too, so that nothing older from elsewhere fills through it, unless ``drop_deletes``.

    Requires: ``take`` puts the rows in order of (code, time, sequence descending), and with ``drop_deletes`` nothing
    outside of it holds an older row of these series and times.
    """
    starts, stops = np.empty(take.size, np.int64), np.empty(take.size, np.int64)
    count = 0
    start = 0
    while start < take.size:
        stop = start + 1
        while stop < take.size and _same_key(codes, times, take[stop], take[start]):
            stop += 1
        deletion = start
        while deletion < stop and op_types[take[deletion]] != DELETE:
            deletion += 1
        if deletion > start:
            starts[count], stops[count] = start, deletion
            count += 1
        if deletion < stop and not drop_deletes:
            starts[count], stops[count] = deletion, deletion + 1
            count += 1
        start = stop
    return starts[:count].copy(), stops[:count].copy()


@kernel
def first_valid(take: Int64Array, starts: Int64Array, stops: Int64Array, valid: BoolArray) -> Int64Array:
    """Return the first row of each span that is not null, or the span's last row where all are.

    Requires: no span is empty.
    """
    rows = np.empty(starts.size, np.int64)
    for span in range(starts.size):
        at = starts[span]
        while at + 1 < stops[span] and not valid[take[at]]:
            at += 1
        rows[span] = take[at]
    return rows


@device
def _same_key(codes: Int32Array, times: Int64Array, left: int, right: int) -> bool:
    return bool(times[left] == times[right] and codes[left] == codes[right])
