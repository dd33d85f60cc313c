"""Sorted runs to one: a k-way merge that answers with the rows to take, all of them or the newest of each key.

The runs lie one after another in the same arrays, each in order of (code, time, sequence descending). A heap over the
runs' heads knows the first of them and the runner-up; the first run advances to its first row that comes after the
runner-up, in steps that double, so runs that do not interleave cost little more than writing the result. Measured
against a scan over all heads, the heap is level up to eight runs (slower only for two that alternate row by row) and
faster beyond.

Where every sequence of a run is above all of the next run's, the order of the runs says what the sequences would, and
they can be left out; that is a third less to compare.

Promises: rows alike in all three come in the order of their runs, the lower first. `merge_and_keep_last` is
`merge_runs` followed by `dedup.keep_last`, without the order of all rows written and read in between.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int32Array, Int64Array, Uint64Array, device, kernel

ALIKE = np.empty(0, np.uint64)
"""The sequences of rows of which those of a lower run are newer: none."""
NOTHING_DELETED = np.empty(0, np.bool_)


def merge_runs(codes: Int32Array, times: Int64Array, sequences: Uint64Array, run_starts: Int64Array) -> Int64Array:
    """Return the rows of all runs in order, as indices to take.

    Requires: run ``r`` is the rows from ``run_starts[r]`` to ``run_starts[r + 1]``, the last number is that of all
    rows, and each run is in order. ``sequences`` may be `ALIKE`.

    >>> codes, sequences = np.zeros(4, np.int32), np.arange(4, dtype=np.uint64)
    >>> merge_runs(codes, np.array([1, 5, 0, 2]), sequences, np.array([0, 2, 4])).tolist()
    [2, 0, 3, 1]
    """
    _check(codes, times, sequences, run_starts)
    if run_starts.size <= 2:
        return np.arange(codes.size, dtype=np.int64)
    return _merge_runs(codes, times, sequences, run_starts, False, NOTHING_DELETED)


def merge_and_keep_last(
    codes: Int32Array, times: Int64Array, sequences: Uint64Array, run_starts: Int64Array, deleted: BoolArray
) -> Int64Array:
    """Return of the rows of all runs in order the newest of each (series, time), unless that one is ``deleted``.

    Requires: what `merge_runs` does. ``deleted`` may be `NOTHING_DELETED`.

    >>> codes, sequences, run_starts = np.zeros(4, np.int32), np.arange(4, dtype=np.uint64), np.array([0, 2, 4])
    >>> merge_and_keep_last(codes, np.array([1, 5, 1, 2]), sequences, run_starts, NOTHING_DELETED).tolist()
    [2, 3, 1]
    """
    _check(codes, times, sequences, run_starts)
    assert deleted.size in (0, codes.size)
    return _merge_runs(codes, times, sequences, run_starts, True, deleted)


def _check(codes: Int32Array, times: Int64Array, sequences: Uint64Array, run_starts: Int64Array) -> None:
    assert codes.size == times.size
    assert sequences.size in (0, codes.size)
    assert run_starts[0] == 0, "the first run starts with the first row"
    assert run_starts[-1] == codes.size, "the last run stops with the last row"


@kernel
def _merge_runs(
    codes: Int32Array,
    times: Int64Array,
    sequences: Uint64Array,
    run_starts: Int64Array,
    keep_last: bool,
    deleted: BoolArray,
) -> Int64Array:
    # The heap holds the head row of each run that has one; `stops` goes along with it.
    heads = np.empty(run_starts.size - 1, np.int64)
    stops = np.empty(run_starts.size - 1, np.int64)
    size = 0
    for run in range(run_starts.size - 1):
        if run_starts[run] < run_starts[run + 1]:
            heads[size] = run_starts[run]
            stops[size] = run_starts[run + 1]
            size += 1
    for at in range(size // 2 - 1, -1, -1):
        _sift_down(heads, stops, at, size, codes, times, sequences)
    take = np.empty(codes.size, np.int64)
    taken = 0
    before = -1  # The row that comes before, whether it was taken or not.
    while size > 0:
        row = heads[0]
        stop = stops[0]
        if size > 1:
            rival = heads[1]
            if size > 2 and _is_before(heads[2], rival, codes, times, sequences):
                rival = heads[2]
            stop = _first_not_before(row + 1, stop, rival, codes, times, sequences)
        if not keep_last:
            while row < stop:
                take[taken] = row
                taken += 1
                row += 1
        elif deleted.size:
            while row < stop:
                take[taken] = row  # Written before it is known to stay: as a branch, that would be guessed wrong often.
                taken += _is_new_key(row, before, codes, times) and not deleted[row]
                before = row
                row += 1
        else:
            take[taken] = row
            taken += _is_new_key(row, before, codes, times)
            for later in range(row + 1, stop):
                take[taken] = later
                taken += _is_new_key(later, later - 1, codes, times)
            before = stop - 1
        if stop < stops[0]:
            heads[0] = stop
        else:
            size -= 1
            heads[0] = heads[size]
            stops[0] = stops[size]
        _sift_down(heads, stops, 0, size, codes, times, sequences)
    return take[:taken]


@device
def _is_new_key(row: int, before: int, codes: Int32Array, times: Int64Array) -> bool:
    return bool(before < 0 or times[row] != times[before] or codes[row] != codes[before])


@device
def _is_before(left: int, right: int, codes: Int32Array, times: Int64Array, sequences: Uint64Array) -> bool:
    if codes[left] != codes[right]:
        return bool(codes[left] < codes[right])
    if times[left] != times[right]:
        return bool(times[left] < times[right])
    if sequences.size and sequences[left] != sequences[right]:
        return bool(sequences[left] > sequences[right])
    return left < right  # Runs lie in their order, so the lower row is that of the lower run.


@device
def _first_not_before(
    start: int, stop: int, rival: int, codes: Int32Array, times: Int64Array, sequences: Uint64Array
) -> int:
    """Return the first row from ``start`` that comes after the rival, or ``stop``."""
    low, high, step = start, start, 1
    while high < stop and _is_before(high, rival, codes, times, sequences):
        low = high + 1
        high += step
        step *= 2
    high = min(high, stop)
    while low < high:
        middle = (low + high) >> 1
        if _is_before(middle, rival, codes, times, sequences):
            low = middle + 1
        else:
            high = middle
    return low


@device
def _sift_down(
    heads: Int64Array,
    stops: Int64Array,
    at: int,
    size: int,
    codes: Int32Array,
    times: Int64Array,
    sequences: Uint64Array,
) -> None:
    head, stop = heads[at], stops[at]
    child = 2 * at + 1
    while child < size:
        if child + 1 < size and _is_before(heads[child + 1], heads[child], codes, times, sequences):
            child += 1
        if not _is_before(heads[child], head, codes, times, sequences):
            break
        heads[at], stops[at] = heads[child], stops[child]
        at = child
        child = 2 * at + 1
    heads[at], stops[at] = head, stop
