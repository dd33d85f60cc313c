"""The order of rows: series code ascending, time ascending, sequence descending.

`sort_rows` is a counting sort by code, then a repair of the series that did not arrive in order. The repair bets on
lateness: rows that are not below their predecessors stay as they are, the late ones are taken out, sorted among
themselves by merging the runs they consist of, and merged back. Rows in order cost one pass, a few late rows little
more, and the worst input O(n log n).

Promises: the sort is stable, so rows alike in all three keep the order they came in. `sort_and_keep_last` is
`sort_rows` followed by `dedup.keep_last`; it is here because the times lie in order at the end of a repair: fetching
them again would cost as much as the counting sort, and fresh memory for the answer nearly as much.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int32Array, Int64Array, Uint64Array, device, kernel


@kernel
def is_sorted(codes: Int32Array, times: Int64Array, sequences: Uint64Array) -> bool:
    """Tell whether the rows are in order already."""
    for row in range(1, codes.size):
        if codes[row] > codes[row - 1]:
            continue
        if codes[row] < codes[row - 1] or _is_later(times[row - 1], row - 1, times[row], row, sequences):
            return False
    return True


def sort_rows(codes: Int32Array, count: int, times: Int64Array, sequences: Uint64Array) -> Int64Array:
    """Return the rows in order, as indices to take.

    Requires: every code is at least 0 and below ``count``.

    >>> codes, times = np.array([1, 0, 1], np.int32), np.array([5, 9, 3], np.int64)
    >>> sort_rows(codes, 2, times, np.arange(3, dtype=np.uint64)).tolist()
    [1, 2, 0]
    """
    assert codes.size == times.size == sequences.size
    if is_sorted(codes, times, sequences):
        return np.arange(codes.size, dtype=np.int64)
    return _sort_rows(codes, count, times, sequences, False)


def sort_and_keep_last(codes: Int32Array, count: int, times: Int64Array, sequences: Uint64Array) -> Int64Array:
    """Return the newest row of each (series, time) in order: `sort_rows` and `keep_last` in half the time.

    Requires: every code is at least 0 and below ``count``.

    >>> codes, times = np.array([0, 0, 0], np.int32), np.array([5, 3, 5], np.int64)
    >>> sort_and_keep_last(codes, 1, times, np.arange(3, dtype=np.uint64)).tolist()
    [1, 2]
    """
    assert codes.size == times.size == sequences.size
    if is_sorted(codes, times, sequences):
        return _first_of_each_key(codes, times)
    return _sort_rows(codes, count, times, sequences, True)


@kernel
def _first_of_each_key(codes: Int32Array, times: Int64Array) -> Int64Array:
    """Return the first of the rows that share series and time, of rows in order."""
    kept = np.empty(codes.size, np.int64)
    count = 0
    for row in range(codes.size):
        if row == 0 or times[row] != times[row - 1] or codes[row] != codes[row - 1]:
            kept[count] = row
            count += 1
    return kept[:count]


@kernel
def _sort_rows(codes: Int32Array, count: int, times: Int64Array, sequences: Uint64Array, keep_last: bool) -> Int64Array:
    """Return the rows in order; with ``keep_last`` only the first of those that share series and time."""
    starts = np.zeros(count + 1, np.int64)
    for row in range(codes.size):
        starts[codes[row] + 1] += 1
    for code in range(count):
        starts[code + 1] += starts[code]
    ends = starts[:count].copy()
    take = np.empty(codes.size, np.int64)
    rising = np.ones(count, np.bool_)
    latest = np.full(count, np.iinfo(np.int64).min, np.int64)
    for row in range(codes.size):
        code = codes[row]
        end = ends[code]
        # Times are compared here, where they lie side by side, and not fetched from all over for series in order.
        if times[row] <= latest[code] and end > starts[code]:
            rising[code] = False
        latest[code] = times[row]
        take[end] = row
        ends[code] = end + 1
    longest = _longest(starts, rising)
    if longest == 0:
        return take  # Times that rise strictly are all different.
    # Repair compares every row several times: worth having the times in the order of `take`, side by side.
    aligned = np.empty(codes.size, np.int64)
    for code in range(count):
        ends[code] = starts[code]
    for row in range(codes.size):
        code = codes[row]
        aligned[ends[code]] = times[row]
        ends[code] += 1
    late, late_times = np.empty(longest, np.int64), np.empty(longest, np.int64)
    spare, spare_times = np.empty(longest, np.int64), np.empty(longest, np.int64)
    runs = np.empty(longest + 1, np.int64)
    for code in range(count):
        if not rising[code]:
            start, stop = starts[code], starts[code + 1]
            in_order = _set_late_apart(take, aligned, start, stop, late, late_times, sequences)
            _sort_runs(late, late_times, stop - in_order, spare, spare_times, runs, sequences)
            _put_late_back(take, aligned, start, in_order, stop, late, late_times, sequences)
    if not keep_last:
        return take
    kept = 0
    for code in range(count):
        for at in range(starts[code], starts[code + 1]):
            if at == starts[code] or aligned[at] != aligned[at - 1]:
                take[kept] = take[at]
                kept += 1
    return take[:kept]


@device
def _is_later(time: int, row: int, other_time: int, other_row: int, sequences: Uint64Array) -> bool:
    """Tell whether a row belongs after another one of the same series."""
    if time != other_time:
        return time > other_time
    return bool(sequences[row] < sequences[other_row])


@device
def _longest(starts: Int64Array, rising: BoolArray) -> int:
    """Return the size of the largest series that does not rise, 0 if there is none."""
    longest = 0
    for code in range(rising.size):
        if not rising[code]:
            longest = max(longest, starts[code + 1] - starts[code])
    return longest


@device
def _set_late_apart(
    take: Int64Array,
    aligned: Int64Array,
    start: int,
    stop: int,
    late: Int64Array,
    late_times: Int64Array,
    sequences: Uint64Array,
) -> int:
    """Move up the rows in order, put the others into ``late``, and return where the former stop."""
    kept = start + 1
    for at in range(start + 1, stop):
        time, row = aligned[at], take[at]
        if _is_later(aligned[kept - 1], take[kept - 1], time, row, sequences):
            late[at - kept], late_times[at - kept] = row, time
        else:
            take[kept], aligned[kept] = row, time
            kept += 1
    return kept


@device
def _put_late_back(
    take: Int64Array,
    aligned: Int64Array,
    start: int,
    kept: int,
    stop: int,
    late: Int64Array,
    late_times: Int64Array,
    sequences: Uint64Array,
) -> None:
    # From the back, where the gap is: what is kept moves up to make room for what was late.
    at = stop
    while at > kept:
        at -= 1
        time, row = late_times[at - kept], late[at - kept]
        if kept > start and _is_later(aligned[kept - 1], take[kept - 1], time, row, sequences):
            kept -= 1
            take[at], aligned[at] = take[kept], aligned[kept]
        else:
            take[at], aligned[at] = row, time


@device
def _sort_runs(
    rows: Int64Array,
    times: Int64Array,
    size: int,
    spare: Int64Array,
    spare_times: Int64Array,
    runs: Int64Array,
    sequences: Uint64Array,
) -> None:
    """Sort the first ``size`` rows by merging neighbouring runs until one is left."""
    run_count = 0
    for at in range(size):
        if at == 0 or _is_later(times[at - 1], rows[at - 1], times[at], rows[at], sequences):
            runs[run_count] = at
            run_count += 1
    runs[run_count] = size
    while run_count > 1:
        merged = 0
        for run in range(0, run_count, 2):
            if run + 1 < run_count:
                _merge(rows, times, runs[run], runs[run + 1], runs[run + 2], spare, spare_times, sequences)
            runs[merged] = runs[run]
            merged += 1
        runs[merged] = size
        run_count = merged


@device
def _merge(
    rows: Int64Array,
    times: Int64Array,
    start: int,
    middle: int,
    stop: int,
    spare: Int64Array,
    spare_times: Int64Array,
    sequences: Uint64Array,
) -> None:
    """Merge two neighbouring runs in place, with the left one set aside."""
    left_count = middle - start
    for at in range(left_count):
        spare[at], spare_times[at] = rows[start + at], times[start + at]
    left, right, at = 0, middle, start
    while left < left_count:
        if right < stop and _is_later(spare_times[left], spare[left], times[right], rows[right], sequences):
            rows[at], times[at] = rows[right], times[right]
            right += 1
        else:
            rows[at], times[at] = spare[left], spare_times[left]
            left += 1
        at += 1
