"""Sorted runs to one: a k-way merge that answers with the rows to take, all of them or the newest of each key.

The runs lie one after another in the same arrays, each in order of (code, time, sequence descending). A heap over the
runs' heads knows the first of them and the runner-up; the first run advances to its first row that comes after the
runner-up, in steps that double, so runs that do not interleave cost little more than writing the result. Measured
against a scan over all heads, the heap is level up to eight runs (slower only for two that alternate row by row) and
faster beyond.

Where every sequence of a run is above all of the next run's, the order of the runs says what the sequences would, and
they can be left out; that is a third less to compare.

Measurements mostly come at even times. If the newest rows of a few runs are wanted, each series is therefore tried
first as a row of places, one for each step from its first time to its last: every row goes to its place, newer ones
over older ones, and the places are read off in order. That takes a quarter of the time, and compares nothing. A series
whose times share no step, or leave most places empty, goes through the heap like the rest.

Promises: rows alike in all three come in the order of their runs, the lower first. `merge_and_keep_last` is
`merge_runs` followed by `dedup.keep_last`, without the order of all rows written and read in between.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int32Array, Int64Array, Uint64Array, device, kernel

ALIKE = np.empty(0, np.uint64)
"""The sequences of rows of which those of a lower run are newer: none."""
NOTHING_DELETED = np.empty(0, np.bool_)

RUNS_BY_SERIES_MAX = 16
"""So many runs are merged series by series; to look at the heads of more for each series would cost too much."""
PLACES_PER_ROW_MAX = 4
_INT32_MAX = np.iinfo(np.int32).max
_INT64_MAX = np.iinfo(np.int64).max
_INT64_MIN = np.iinfo(np.int64).min


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
    if 2 < run_starts.size <= RUNS_BY_SERIES_MAX + 1 and codes.size <= _INT32_MAX:
        return _keep_last_by_series(codes, times, sequences, run_starts, deleted)
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
    take = np.empty(codes.size, np.int64)
    taken = _merge_heads(heads, stops, size, codes, times, sequences, keep_last, deleted, take, 0)
    return take[:taken]


@kernel
def _keep_last_by_series(
    codes: Int32Array, times: Int64Array, sequences: Uint64Array, run_starts: Int64Array, deleted: BoolArray
) -> Int64Array:
    runs = run_starts.size - 1
    heads = run_starts[:-1].copy()
    lengths = np.ones(runs, np.int64)  # Of each run's last series: most often the next one is as long.
    starts, stops = np.empty(runs, np.int64), np.empty(runs, np.int64)
    places = np.empty(1024, np.int32)
    take = np.empty(codes.size, np.int64)
    taken, step = 0, 0
    while True:
        code = _lowest_code(codes, heads, run_starts)
        if code < 0:
            return take[:taken]
        count, row_count, first, last = 0, 0, _INT64_MAX, _INT64_MIN
        for run in range(runs):
            start = heads[run]
            if start < run_starts[run + 1] and codes[start] == code:
                stop = _series_stop(codes, start, run_starts[run + 1], lengths[run])
                heads[run], lengths[run] = stop, stop - start
                starts[count], stops[count] = start, stop
                first, last = min(first, times[start]), max(last, times[stop - 1])
                row_count += stop - start
                count += 1
        if count == 1:
            taken = _keep_last_of_run(starts[0], stops[0], times, deleted, take, taken)
            continue
        span = last - first  # Below zero if it is more than an integer holds.
        places_max = PLACES_PER_ROW_MAX * row_count
        if places.size < places_max:
            places = np.empty(2 * places_max, np.int32)
        is_placed = False
        if span >= 0 and step > 0 and span // step < places_max:
            is_placed = _place(starts, stops, count, times, sequences, first, step, span // step + 1, places)
        if span >= 0 and not is_placed:
            step = _common_step(starts, stops, count, times, first, span // places_max + 1)
            if step > 0:
                is_placed = _place(starts, stops, count, times, sequences, first, step, span // step + 1, places)
        if is_placed:
            taken = _keep_placed(places, span // step + 1, deleted, take, taken)
        else:
            taken = _merge_heads(starts, stops, count, codes, times, sequences, True, deleted, take, taken)


@kernel
def newest_of_pieces(
    codes: Int32Array, starts: Int64Array, stops: Int64Array, run_starts: Int64Array, times: Int64Array
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Return what is left of pieces if of each key only the newest row is kept: of which piece, from where up to where.

    Last come the rows that are not.

    Nothing is brought into one order: what is left lies as it lay, and a piece falls apart where rows are left out.

    Requires: piece ``i`` is the rows ``starts[i] <= row < stops[i]`` of ``times``, of which there are some, all of
    series ``codes[i]``; run ``r`` is the pieces from ``run_starts[r]`` to ``run_starts[r + 1]``, in order of their
    series and times, all newer than those of the next run; rows of a run with one key lie newest first.

    >>> codes, starts, stops = np.zeros(2, np.int32), np.array([0, 2]), np.array([2, 5])
    >>> [left.tolist() for left in newest_of_pieces(codes, starts, stops, np.arange(3), np.array([3, 5, 2, 3, 4]))]
    [[0, 1, 1], [0, 2, 4], [2, 3, 5], [3]]
    """
    heads, members = run_starts[:-1].copy(), np.empty(codes.size, np.int64)
    rows = np.empty(codes.size, np.int64)
    is_shadowed, is_taken = np.zeros(times.size, np.bool_), np.empty(1024, np.bool_)
    shadowed, step = 0, 0
    while True:
        code = _lowest_code(codes, heads, run_starts)
        if code < 0:
            break
        count, row_count, first, last = 0, 0, _INT64_MAX, _INT64_MIN
        for run in range(heads.size):
            while heads[run] < run_starts[run + 1] and codes[heads[run]] == code:
                piece = heads[run]
                first, last = min(first, times[starts[piece]]), max(last, times[stops[piece] - 1])
                row_count += stops[piece] - starts[piece]
                members[count] = piece
                count += 1
                heads[run] += 1
        span = last - first  # Below zero if it is more than an integer holds.
        places_max = PLACES_PER_ROW_MAX * row_count
        if is_taken.size < places_max:
            is_taken = np.empty(2 * places_max, np.bool_)
        found = -1
        if span >= 0 and step > 0 and span // step < places_max:
            found = _shadow_placed(members, count, starts, stops, times, first, span, step, is_taken, is_shadowed)
        if span >= 0 and found < 0:
            step = _common_step_of_pieces(members, count, starts, stops, times, first, span // places_max + 1)
            if step > 0:
                found = _shadow_placed(members, count, starts, stops, times, first, span, step, is_taken, is_shadowed)
        if found < 0:
            found = _shadow_compared(members, count, starts, stops, times, rows, is_shadowed)
        shadowed += found
    which = np.empty(codes.size + shadowed, np.int64)
    left_starts, left_stops = np.empty(which.size, np.int64), np.empty(which.size, np.int64)
    hidden = np.empty(shadowed, np.int64)
    left = found = 0
    for piece in range(codes.size):
        start = starts[piece]
        while start < stops[piece]:
            stop = start
            while stop < stops[piece] and not is_shadowed[stop]:
                stop += 1
            if start < stop:
                which[left], left_starts[left], left_stops[left] = piece, start, stop
                left += 1
            if stop < stops[piece]:
                hidden[found] = stop
                found += 1
            start = stop + 1
    return which[:left].copy(), left_starts[:left].copy(), left_stops[:left].copy(), hidden


@device
def _shadow_placed(
    members: Int64Array,
    count: int,
    starts: Int64Array,
    stops: Int64Array,
    times: Int64Array,
    first: int,
    span: int,
    step: int,
    is_taken: BoolArray,
    is_shadowed: BoolArray,
) -> int:
    """Say of the rows of a series which are shadowed, and return how many; -1 if a time lies between two places."""
    for place in range(span // step + 1):
        is_taken[place] = False
    per_step = 1.0 / step
    found = 0
    for member in range(count):
        piece = members[member]
        for row in range(starts[piece], stops[piece]):
            place = int((times[row] - first) * per_step + 0.5)  # Quicker than to divide, and checked.
            if place * step != times[row] - first:
                return -1
            is_shadowed[row] = is_taken[place]
            found += is_taken[place]
            is_taken[place] = True
    return found


@device
def _shadow_compared(
    members: Int64Array,
    count: int,
    starts: Int64Array,
    stops: Int64Array,
    times: Int64Array,
    rows: Int64Array,
    is_shadowed: BoolArray,
) -> int:
    """Say of the rows of a series which are shadowed, and return how many, for any times."""
    for member in range(count):
        rows[member] = starts[members[member]]
    found, before = 0, -1
    while True:
        lowest = -1
        for member in range(count):
            is_left = rows[member] < stops[members[member]]
            if is_left and (lowest < 0 or times[rows[member]] < times[rows[lowest]]):
                lowest = member
        if lowest < 0:
            return found
        row = rows[lowest]
        is_shadowed[row] = before >= 0 and times[row] == times[before]
        found += is_shadowed[row]
        before = row
        rows[lowest] += 1


@device
def _common_step_of_pieces(
    members: Int64Array,
    count: int,
    starts: Int64Array,
    stops: Int64Array,
    times: Int64Array,
    first: int,
    step_min: int,
) -> int:
    """Do what `_common_step` does."""
    step = 0
    for member in range(count):
        for row in range(starts[members[member]], stops[members[member]]):
            left = times[row] - first
            while left:
                step, left = left, step % left
            if 0 < step < step_min:
                return 0
    return max(step, 1)


@device
def _lowest_code(codes: Int32Array, heads: Int64Array, run_starts: Int64Array) -> int:
    """Return the code of the series that comes next, or -1."""
    lowest = -1
    for run in range(heads.size):
        if heads[run] < run_starts[run + 1] and (lowest < 0 or codes[heads[run]] < lowest):
            lowest = codes[heads[run]]
    return lowest


@device
def _series_stop(codes: Int32Array, start: int, stop: int, length: int) -> int:
    """Return the first row after ``start`` that has another code, or ``stop``; the series may have ``length`` rows."""
    inside, step = start, length
    while inside + step < stop and codes[inside + step] == codes[start]:
        inside += step
        step = min(step * 2, codes.size)
    if step == length and start + length <= stop and codes[start + length - 1] == codes[start]:
        return start + length
    outside = min(inside + step, stop)
    while outside - inside > 1:
        middle = (inside + outside) >> 1
        if codes[middle] == codes[start]:
            inside = middle
        else:
            outside = middle
    return outside


@device
def _keep_last_of_run(
    start: int, stop: int, times: Int64Array, deleted: BoolArray, take: Int64Array, taken: int
) -> int:
    """Take of one run's rows of a series the newest of each time, and return how many are taken in all."""
    for row in range(start, stop):
        take[taken] = row
        is_new = row == start or times[row] != times[row - 1]
        taken += is_new and not (deleted.size and deleted[row])
    return taken


@device
def _common_step(
    starts: Int64Array, stops: Int64Array, count: int, times: Int64Array, first: int, step_min: int
) -> int:
    """Return the largest step that leads from ``first`` to all times of some rows, or 0 if it is below a minimum."""
    step = 0
    for piece in range(count):
        for row in range(starts[piece], stops[piece]):
            left = times[row] - first
            while left:
                step, left = left, step % left
            if 0 < step < step_min:
                return 0
    return max(step, 1)


@device
def _place(
    starts: Int64Array,
    stops: Int64Array,
    count: int,
    times: Int64Array,
    sequences: Uint64Array,
    first: int,
    step: int,
    places_count: int,
    places: Int32Array,
) -> bool:
    """Put the newest row of each time to its place, -1 where there is none. False if a time lies between two places."""
    for place in range(places_count):
        places[place] = -1
    per_step = 1.0 / step
    # From the last run to the first, and each from its end: whoever comes later is newer, unless sequences say no.
    for piece in range(count - 1, -1, -1):
        for row in range(stops[piece] - 1, starts[piece] - 1, -1):
            place = int((times[row] - first) * per_step + 0.5)  # Quicker than to divide, and checked.
            if place * step != times[row] - first:
                return False
            if not sequences.size or places[place] < 0 or sequences[row] >= sequences[places[place]]:
                places[place] = row
    return True


@device
def _keep_placed(places: Int32Array, count: int, deleted: BoolArray, take: Int64Array, taken: int) -> int:
    """Take the rows that were placed, and return how many are taken in all. There is one in the last place."""
    if deleted.size:
        for place in range(count):
            row = places[place]
            take[taken] = row
            taken += row >= 0 and not deleted[row]
    else:
        for place in range(count):
            take[taken] = places[place]
            taken += places[place] >= 0
    return taken


@device
def _merge_heads(
    heads: Int64Array,
    stops: Int64Array,
    size: int,
    codes: Int32Array,
    times: Int64Array,
    sequences: Uint64Array,
    keep_last: bool,
    deleted: BoolArray,
    take: Int64Array,
    taken: int,
) -> int:
    """Take rows of runs, or of each key the newest, and return how many are taken in all."""
    for at in range(size // 2 - 1, -1, -1):
        _sift_down(heads, stops, at, size, codes, times, sequences)
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
    return taken


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
