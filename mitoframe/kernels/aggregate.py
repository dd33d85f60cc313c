"""Sums, extremes and ends of runs: rows in order that share a series and a time bucket.

Rows are sorted by (series, time), so the rows of a series in a bucket lie side by side. They lie in *pieces*, each of
one series: rows ``starts[i] <= row < stops[i]`` of whatever columns there are, which may hold other rows as well.
`runs_of_width` and `runs_between` cut pieces into runs without looking at every row: the run before it says how long it
may be, and a few probes do the rest. Every other kernel takes the ``starts`` and ``stops`` of runs and walks the values
of one column once, from run to run: no hashing, no copies, and times are not read again.

What is known of runs is put together by `add_floats` and its like, which are told the place where each goes.

Values are 64-bit words: integers, or the bits of float64 numbers for the kernels that say "floats". ``valid`` tells
which values are not null; it is empty where all are. A run may hold nulls only. Values that are *packed* are bytes,
each the place of a value in a list of up to 256, and are summed as they are; none of them is null.

NaN: a sum with one is NaN; the least and the greatest leave it out, and are NaN where nothing else is there.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import (
    BoolArray,
    Int32Array,
    Int64Array,
    Uint8Array,
    Uint64Array,
    device,
    kernel,
    kernel_passing,
)

Float64s = np.ndarray[tuple[int], np.dtype[np.float64]]
Runs = tuple[Int64Array, Int64Array, Int64Array, Int64Array]

_INT64_MAX = np.iinfo(np.int64).max
_INT64_MIN = np.iinfo(np.int64).min
_BYTE_VALUES = 256
_WHOLE_MAX = 1 << 40
_SHORT_RUN = 32
"""Where a run has fewer rows, to compare many at once is slower than one by one."""


@kernel_passing("codes")
def pieces_of_codes(codes: Int32Array) -> Int64Array:
    """Return where each stretch of rows with one code starts, and last the number of rows. Requires: codes in order."""
    starts = np.empty(codes.size + 1, np.int64)
    count = start = 0
    length = 1
    while start < codes.size:
        starts[count] = start
        count += 1
        inside, step = start, length
        while inside + step < codes.size and codes[inside + step] == codes[start]:
            inside += step
            step = min(step * 2, codes.size)
        outside = min(inside + step, codes.size)
        while outside - inside > 1:
            middle = (inside + outside) // 2
            if codes[middle] == codes[start]:
                inside = middle
            else:
                outside = middle
        length, start = outside - start, outside
    starts[count] = codes.size
    return starts[: count + 1].copy()


@kernel_passing("times")
def pieces_within(
    starts: Int64Array, stops: Int64Array, first_row: int, end_row: int, times: Int64Array, first: int, last: int
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return which of some pieces have rows in a row group with times from ``first`` to ``last``, and where.

    The row group has the rows from ``first_row`` up to ``end_row``, with these ``times``, and is what the rows that are
    returned are counted from.

    Requires: pieces that ascend, times that rise within each, and no piece without rows.
    """
    start_piece = np.searchsorted(stops, first_row, side="right")
    count = np.searchsorted(starts, end_row, side="left") - start_piece
    which, from_rows, to_rows = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    found = skipped = left = 0
    for piece in range(start_piece, start_piece + count):
        start, stop = max(starts[piece], first_row) - first_row, min(stops[piece], end_row) - first_row
        if start >= stop:
            continue
        from_row = _row_from(times, start, stop, first, start + skipped)
        to_row = stop if last == _INT64_MAX else _row_from(times, start, stop, last + 1, stop - left)
        skipped, left = from_row - start, stop - to_row
        if from_row < to_row:
            which[found], from_rows[found], to_rows[found] = piece, from_row, to_row
            found += 1
    return which[:found].copy(), from_rows[:found].copy(), to_rows[:found].copy()


@kernel_passing("times")
def runs_of_width(starts: Int64Array, stops: Int64Array, times: Int64Array, width: int, origin: int) -> Runs:
    """Return where the runs of some pieces start and stop, the number of each run's bucket, and of its piece.

    Bucket ``i`` is from ``origin + i * width`` up to ``origin + (i + 1) * width``.

    Requires: times that rise within each piece, no piece without rows, and 0 <= origin < width.
    """
    rows = 0
    for piece in range(starts.size):
        rows += _runs_max(times, starts[piece], stops[piece], width)
    run_starts, run_stops = np.empty(rows, np.int64), np.empty(rows, np.int64)
    buckets, pieces = np.empty(rows, np.int64), np.empty(rows, np.int64)
    count = bucket = low = high = 0
    length = 1
    for piece in range(starts.size):
        start, end = starts[piece], stops[piece]
        while start < end:
            time = times[start]
            if count > 0 and time > high and high <= _INT64_MAX - width and time <= high + width:
                # Most often it is the next bucket, and a division takes as long as all the rest.
                bucket, low = bucket + 1, low + width
            elif count == 0 or time < low or time > high:
                bucket = time // width
                if time - bucket * width < origin:
                    bucket -= 1
                low = bucket * width + origin
            high = low + (width - 1)
            if high < time:
                high = _INT64_MAX  # The last bucket of all ends with time itself.
            stop = _run_stop(times, start, end, high, length)
            run_starts[count], run_stops[count], buckets[count], pieces[count] = start, stop, bucket, piece
            count += 1
            length, start = stop - start, stop
    return run_starts[:count].copy(), run_stops[:count].copy(), buckets[:count].copy(), pieces[:count].copy()


@kernel_passing("times")
def runs_between(starts: Int64Array, stops: Int64Array, times: Int64Array, edges: Int64Array) -> Runs:
    """Return where the runs of some pieces start and stop, the number of each run's bucket, and of its piece.

    Bucket ``i`` is from ``edges[i]`` up to ``edges[i + 1]``, the last one has no end.

    Requires: times that rise within each piece, no piece without rows, edges that rise, and no time before the first.
    """
    rows = 0
    for piece in range(starts.size):
        rows += min(stops[piece] - starts[piece], edges.size)
    run_starts, run_stops = np.empty(rows, np.int64), np.empty(rows, np.int64)
    buckets, pieces = np.empty(rows, np.int64), np.empty(rows, np.int64)
    count = bucket = 0
    length = 1
    for piece in range(starts.size):
        start, end = starts[piece], stops[piece]
        while start < end:
            time = times[start]
            if edges[bucket] > time or (bucket + 1 < edges.size and edges[bucket + 1] <= time):
                bucket = np.searchsorted(edges, time, side="right") - 1
            high = edges[bucket + 1] - 1 if bucket + 1 < edges.size else _INT64_MAX
            stop = _run_stop(times, start, end, high, length)
            run_starts[count], run_stops[count], buckets[count], pieces[count] = start, stop, bucket, piece
            count += 1
            length, start = stop - start, stop
    return run_starts[:count].copy(), run_stops[:count].copy(), buckets[:count].copy(), pieces[:count].copy()


@kernel_passing("valid")
def count_valid(valid: BoolArray, starts: Int64Array, stops: Int64Array) -> Int64Array:
    """Return how many values of each run are not null."""
    counts = np.empty(starts.size, np.int64)
    for run in range(counts.size):
        known, count = valid[starts[run] : stops[run]], 0
        for row in range(known.size):
            count += known[row]
        counts[run] = count
    return counts


@kernel_passing("bits", "valid")
def sum_floats(bits: Int64Array, valid: BoolArray, starts: Int64Array, stops: Int64Array) -> Float64s:
    """Return the sum of each run's floats; 0 where there is none."""
    values = bits.view(np.float64)
    sums = np.empty(starts.size, np.float64)
    for run in range(sums.size):
        part, total = values[starts[run] : stops[run]], 0.0
        if valid.size:
            known = valid[starts[run] : stops[run]]
            for row in range(part.size):
                total += part[row] if known[row] else 0.0
        else:
            # An addition waits for the one before it: eight sums side by side keep the adders busy.
            a = b = c = d = e = f = g = h = 0.0
            row = 0
            while row + 8 <= part.size:
                a += part[row]
                b += part[row + 1]
                c += part[row + 2]
                d += part[row + 3]
                e += part[row + 4]
                f += part[row + 5]
                g += part[row + 6]
                h += part[row + 7]
                row += 8
            while row < part.size:
                total += part[row]
                row += 1
            total += ((a + b) + (c + d)) + ((e + f) + (g + h))
        sums[run] = total
    return sums


@kernel_passing("values", "valid")
def sum_integers(values: Int64Array, valid: BoolArray, starts: Int64Array, stops: Int64Array) -> Int64Array:
    """Return the sum of each run's integers; 0 where there is none. It wraps around."""
    sums = np.empty(starts.size, np.int64)
    for run in range(sums.size):
        part, total = values[starts[run] : stops[run]], 0
        if valid.size:
            known = valid[starts[run] : stops[run]]
            for row in range(part.size):
                total += part[row] if known[row] else 0
        else:
            for row in range(part.size):
                total += part[row]
        sums[run] = total
    return sums


@kernel_passing("bits", "valid")
def range_of_floats(
    bits: Int64Array, valid: BoolArray, starts: Int64Array, stops: Int64Array
) -> tuple[Float64s, Float64s]:
    """Return the least and the greatest float of each run; NaN where there is none but NaN."""
    values = bits.view(np.float64)
    least, greatest = np.empty(starts.size, np.float64), np.empty(starts.size, np.float64)
    for run in range(least.size):
        part = values[starts[run] : stops[run]]
        low, high = np.inf, -np.inf
        if valid.size:
            known = valid[starts[run] : stops[run]]
            for row in range(part.size):
                if known[row] and part[row] < low:
                    low = part[row]
                if known[row] and part[row] > high:
                    high = part[row]
        else:
            for row in range(part.size):
                if part[row] < low:
                    low = part[row]
                if part[row] > high:
                    high = part[row]
        # Nothing is below infinity: then all that is there is infinity above, or there is nothing.
        if low > high and not _has_number(values, valid, starts[run], stops[run]):
            low = high = np.nan
        least[run], greatest[run] = low, high
    return least, greatest


@kernel_passing("values", "valid")
def range_of_integers(
    values: Int64Array, valid: BoolArray, starts: Int64Array, stops: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Return the least and the greatest integer of each run; the ends of int64, crossed, where there is none."""
    least, greatest = np.empty(starts.size, np.int64), np.empty(starts.size, np.int64)
    for run in range(least.size):
        part = values[starts[run] : stops[run]]
        low, high = _INT64_MAX, _INT64_MIN
        if valid.size:
            known = valid[starts[run] : stops[run]]
            for row in range(part.size):
                if known[row] and part[row] < low:
                    low = part[row]
                if known[row] and part[row] > high:
                    high = part[row]
        else:
            for row in range(part.size):
                if part[row] < low:
                    low = part[row]
                if part[row] > high:
                    high = part[row]
        least[run], greatest[run] = low, high
    return least, greatest


@kernel
def squares_of_floats(
    bits: Int64Array, valid: BoolArray, starts: Int64Array, stops: Int64Array, mean_bits: Int64Array
) -> Float64s:
    """Return the sum of the squared distances of each run's floats from the run's mean."""
    values, means = bits.view(np.float64), mean_bits.view(np.float64)
    sums = np.empty(starts.size, np.float64)
    for run in range(sums.size):
        part, total, mean = values[starts[run] : stops[run]], 0.0, means[run]
        if valid.size:
            known = valid[starts[run] : stops[run]]
            for row in range(part.size):
                total += (part[row] - mean) ** 2 if known[row] else 0.0
        else:
            for row in range(part.size):
                total += (part[row] - mean) ** 2
        sums[run] = total
    return sums


@kernel_passing("times")
def first_of_runs(times: Int64Array, starts: Int64Array, stops: Int64Array) -> Int64Array:
    """Return the first row of each run; of rows with its time the oldest, which comes last.

    Requires: rows in order of (code, time, newest first).
    """
    rows = np.empty(starts.size, np.int64)
    for run in range(rows.size):
        row = starts[run]
        while row + 1 < stops[run] and times[row + 1] == times[row]:
            row += 1
        rows[run] = row
    return rows


@kernel_passing("times")
def last_of_runs(times: Int64Array, starts: Int64Array, stops: Int64Array) -> Int64Array:
    """Return the last row of each run; of rows with its time the newest, which comes first.

    Requires: rows in order of (code, time, newest first).
    """
    rows = np.empty(starts.size, np.int64)
    for run in range(rows.size):
        row = stops[run] - 1
        while row > starts[run] and times[row - 1] == times[row]:
            row -= 1
        rows[run] = row
    return rows


@kernel
def sum_packed_floats(places: Uint8Array, bits: Int64Array, starts: Int64Array, stops: Int64Array) -> Float64s:
    """Return the sum of each run's floats, which are ``bits[place]``; 0 where there is none.

    Floats that are whole numbers in a row are summed as places, of which a processor adds many at once.
    """
    sums = np.empty(starts.size, np.float64)
    if _are_whole_in_a_row(bits.view(np.float64)):
        lowest = np.int64(bits.view(np.float64)[0])
        for run in range(sums.size):
            part, total = places[starts[run] : stops[run]], np.int64(0)
            for row in range(part.size):
                total += np.int64(part[row])
            sums[run] = total + lowest * part.size
        return sums
    table = np.zeros(_BYTE_VALUES, np.float64)
    table[: bits.size] = bits.view(np.float64)
    for run in range(sums.size):
        part, row = places[starts[run] : stops[run]], 0
        a = b = c = d = 0.0
        while row + 4 <= part.size:
            a += table[part[row]]
            b += table[part[row + 1]]
            c += table[part[row + 2]]
            d += table[part[row + 3]]
            row += 4
        while row < part.size:
            a += table[part[row]]
            row += 1
        sums[run] = (a + b) + (c + d)
    return sums


@kernel
def sum_packed_integers(places: Uint8Array, values: Int64Array, starts: Int64Array, stops: Int64Array) -> Int64Array:
    """Return the sum of each run's integers, which are ``values[place]``; 0 where there is none. It wraps around."""
    table = np.zeros(_BYTE_VALUES, np.int64)
    table[: values.size] = values
    sums = np.empty(starts.size, np.int64)
    for run in range(sums.size):
        part, total = places[starts[run] : stops[run]], 0
        for row in range(part.size):
            total += table[part[row]]
        sums[run] = total
    return sums


@kernel
def range_of_places(places: Uint8Array, starts: Int64Array, stops: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return the least and the greatest place of each run, which has rows.

    Where packed values are listed in order these are the places of the least and the greatest value.
    """
    least, greatest = np.empty(starts.size, np.int64), np.empty(starts.size, np.int64)
    for run in range(least.size):
        row, stop = starts[run], stops[run]
        if stop - row < _SHORT_RUN:
            first = last = np.int64(places[row])
            while row < stop:
                place = np.int64(places[row])
                first, last = min(first, place), max(last, place)
                row += 1
            least[run], greatest[run] = first, last
        else:
            part = places[row:stop]
            low, high = part[0], part[0]
            for at in range(part.size):
                low, high = min(low, part[at]), max(high, part[at])
            least[run], greatest[run] = low, high
    return least, greatest


@kernel
def add_floats(bits: Int64Array, places: Int64Array, count: int) -> Float64s:
    """Return for each of ``count`` places the sum of the floats that go there."""
    values = bits.view(np.float64)
    sums = np.zeros(count, np.float64)
    for at in range(values.size):
        sums[places[at]] += values[at]
    return sums


@kernel
def add_integers(values: Int64Array, places: Int64Array, count: int) -> Int64Array:
    """Return for each of ``count`` places the sum of the integers that go there. It wraps around."""
    sums = np.zeros(count, np.int64)
    for at in range(values.size):
        sums[places[at]] += values[at]
    return sums


@kernel
def extreme_floats(bits: Int64Array, places: Int64Array, count: int, greatest: bool) -> Float64s:
    """Return for each place the least of the floats that go there, or the ``greatest``; NaN for nothing but NaN."""
    values = bits.view(np.float64)
    found = np.full(count, np.nan)
    for at in range(values.size):
        value, place = values[at], places[at]
        if np.isnan(found[place]) or (value > found[place] if greatest else value < found[place]):
            found[place] = value
    return found


@kernel
def extreme_integers(values: Int64Array, places: Int64Array, count: int, greatest: bool) -> Int64Array:
    """Return for each place the least of the integers that go there, or the ``greatest``.

    Requires: something goes to every place.
    """
    found = np.full(count, _INT64_MIN if greatest else _INT64_MAX, np.int64)
    for at in range(values.size):
        value, place = values[at], places[at]
        if value > found[place] if greatest else value < found[place]:
            found[place] = value
    return found


@kernel
def choose(
    times: Int64Array, ranks: Int32Array, sequences: Uint64Array, places: Int64Array, count: int, latest: bool
) -> Int64Array:
    """Return for each place which element that goes there is earliest, or ``latest``, by (time, rank, sequence).

    Requires: something goes to every place.
    """
    chosen = np.full(count, -1, np.int64)
    for at in range(times.size):
        before = chosen[places[at]]
        if before < 0 or _is_before(times, ranks, sequences, before, at) == latest:
            chosen[places[at]] = at
    return chosen


@kernel
def last_of_series(codes: Int32Array, times: Int64Array, count: int) -> Int64Array:
    """Return the last ``count`` rows of each series, in their order; of rows with one time the newest, if not all.

    Requires: rows in order of (code, time, newest first), and a count of at least 1.
    """
    rows = np.empty(codes.size, np.int64)
    first = codes.size  # Filled from the end, because series are walked backwards.
    stop, length = codes.size, 1
    while stop:
        start = _series_start(codes, stop, length)
        length = stop - start
        left, until = min(count, length), stop
        while left:
            block = until - 1
            while block > start and times[block - 1] == times[until - 1]:
                block -= 1
            taken = min(left, until - block)
            for row in range(block + taken - 1, block - 1, -1):
                first -= 1
                rows[first] = row
            left, until = left - taken, block
        stop = start
    return rows[first:].copy()


@device
def _runs_max(times: Int64Array, start: int, stop: int, width: int) -> int:
    """Return how many runs a piece may have at most."""
    rows = stop - start
    if times[start] < 0 and times[stop - 1] > _INT64_MAX + times[start]:
        return rows  # No integer is as long as that.
    return min(rows, min(rows, int(times[stop - 1] - times[start]) // width) + 2)


@device
def _row_from(times: Int64Array, start: int, stop: int, first: int, guess: int) -> int:
    """Return the first row of a piece that is not before time ``first``, or else ``stop``.

    The rows of one series often come at the times of those of another, so that a guess is right.
    """
    if times[start] >= first:
        return start
    if start < guess <= stop and times[guess - 1] < first and (guess == stop or times[guess] >= first):
        return guess
    before, found = start, stop
    while found - before > 1:
        middle = (before + found) // 2
        if times[middle] < first:
            before = middle
        else:
            found = middle
    return found


@device
def _run_stop(times: Int64Array, start: int, end: int, last: int, length: int) -> int:
    """Return the first row after ``start`` with a time after ``last``, or else ``end``.

    Rows that come at even times make runs of one ``length``, so that is tried first.
    """
    stop = start + length
    if stop <= end and times[stop - 1] <= last and (stop == end or times[stop] > last):
        return stop
    inside, step = start, length
    while inside + step < end and times[inside + step] <= last:
        inside += step
        step = min(step * 2, end)
    outside = min(inside + step, end)
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if times[middle] <= last:
            inside = middle
        else:
            outside = middle
    return outside


@device
def _are_whole_in_a_row(values: Float64s) -> bool:
    """Tell whether each value is one more than that before it, all of them whole and far from where floats are not."""
    if not values.size or not abs(values[0]) <= _WHOLE_MAX or values[0] != np.floor(values[0]):
        return False
    found = True
    for at in range(1, values.size):
        found &= values[at] == values[0] + at
    return found


@device
def _series_start(codes: Int32Array, stop: int, length: int) -> int:
    """Return the first row of the series that ends before ``stop``; the one after it had ``length`` rows."""
    code, inside, step = codes[stop - 1], stop - 1, length
    while inside - step >= 0 and codes[inside - step] == code:
        inside -= step
        step = min(step * 2, codes.size)
    outside = max(inside - step, -1)
    while inside - outside > 1:
        middle = (inside + outside) // 2
        if codes[middle] == code:
            inside = middle
        else:
            outside = middle
    return inside


@device
def _has_number(values: Float64s, valid: BoolArray, start: int, stop: int) -> bool:
    found = False
    for row in range(start, stop):
        found |= not np.isnan(values[row]) and (not valid.size or valid[row])
    return found


@device
def _is_before(times: Int64Array, ranks: Int32Array, sequences: Uint64Array, left: int, right: int) -> bool:
    if times[left] != times[right]:
        return bool(times[left] < times[right])
    if ranks[left] != ranks[right]:
        return bool(ranks[left] < ranks[right])
    return bool(sequences[left] < sequences[right])
