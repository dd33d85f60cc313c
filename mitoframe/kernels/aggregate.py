"""Sums, extremes and ends of runs: rows in order that share a series and a time bucket.

Rows are sorted by (series, time), so the rows of a series in a bucket lie side by side. `runs_of_width` and
`runs_between` find where each such run starts without looking at every row: the run before it says how long it may be,
and a few probes do the rest. Every other kernel takes ``starts``, which has one entry more than there are runs, and
walks the values of one column once, from run to run: no hashing, no copies, and times are not read again.

What is known of runs is put together by `add_floats` and its like, which are told the place where each goes.

Values are 64-bit words: integers, or the bits of float64 numbers for the kernels that say "floats". ``valid`` tells
which values are not null; it is empty where all are. A run may hold nulls only.

NaN: a sum with one is NaN; the least and the greatest leave it out, and are NaN where nothing else is there.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int32Array, Int64Array, Uint64Array, device, kernel

Float64s = np.ndarray[tuple[int], np.dtype[np.float64]]

_INT64_MAX = np.iinfo(np.int64).max
_INT64_MIN = np.iinfo(np.int64).min


@kernel
def runs_of_width(codes: Int32Array, times: Int64Array, width: int, origin: int) -> tuple[Int64Array, Int64Array]:
    """Return where each run starts, and last the number of rows; and the number of each run's bucket.

    Bucket ``i`` is from ``origin + i * width`` up to ``origin + (i + 1) * width``.

    Requires: rows in order of (code, time), and 0 <= origin < width.
    """
    starts, buckets = np.empty(codes.size + 1, np.int64), np.empty(codes.size, np.int64)
    count = start = 0
    length = 1
    first = last = bucket = 0
    while start < codes.size:
        time = times[start]
        is_near = time > last and last <= _INT64_MAX - width and time <= last + width
        if is_near and count > 0 and codes[start] == codes[start - 1]:
            # Most often it is the next bucket, and a division takes as long as all the rest.
            bucket, first = bucket + 1, first + width
        elif count == 0 or time < first or time > last:
            bucket = time // width
            if time - bucket * width < origin:
                bucket -= 1
            first = bucket * width + origin
        last = first + (width - 1)
        if last < time:
            last = _INT64_MAX  # The last bucket of all ends with time itself.
        starts[count], buckets[count] = start, bucket
        count += 1
        stop = _run_stop(codes, times, start, last, length)
        length, start = stop - start, stop
    starts[count] = codes.size
    return starts[: count + 1].copy(), buckets[:count].copy()


@kernel
def runs_between(codes: Int32Array, times: Int64Array, edges: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return where each run starts, and last the number of rows; and the number of each run's bucket.

    Bucket ``i`` is from ``edges[i]`` up to ``edges[i + 1]``, the last one has no end.

    Requires: rows in order of (code, time), edges that rise, and no time before the first.
    """
    starts, buckets = np.empty(codes.size + 1, np.int64), np.empty(codes.size, np.int64)
    count = start = bucket = 0
    length = 1
    while start < codes.size:
        time = times[start]
        if edges[bucket] > time or (bucket + 1 < edges.size and edges[bucket + 1] <= time):
            bucket = np.searchsorted(edges, time, side="right") - 1
        last = edges[bucket + 1] - 1 if bucket + 1 < edges.size else _INT64_MAX
        starts[count], buckets[count] = start, bucket
        count += 1
        stop = _run_stop(codes, times, start, last, length)
        length, start = stop - start, stop
    starts[count] = codes.size
    return starts[: count + 1].copy(), buckets[:count].copy()


@kernel
def count_valid(valid: BoolArray, starts: Int64Array) -> Int64Array:
    """Return how many values of each run are not null."""
    counts = np.empty(starts.size - 1, np.int64)
    for run in range(counts.size):
        known, count = valid[starts[run] : starts[run + 1]], 0
        for row in range(known.size):
            count += known[row]
        counts[run] = count
    return counts


@kernel
def sum_floats(bits: Int64Array, valid: BoolArray, starts: Int64Array) -> Float64s:
    """Return the sum of each run's floats; 0 where there is none."""
    values = bits.view(np.float64)
    sums = np.empty(starts.size - 1, np.float64)
    for run in range(sums.size):
        part, total = values[starts[run] : starts[run + 1]], 0.0
        if valid.size:
            known = valid[starts[run] : starts[run + 1]]
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


@kernel
def sum_integers(values: Int64Array, valid: BoolArray, starts: Int64Array) -> Int64Array:
    """Return the sum of each run's integers; 0 where there is none. It wraps around."""
    sums = np.empty(starts.size - 1, np.int64)
    for run in range(sums.size):
        part, total = values[starts[run] : starts[run + 1]], 0
        if valid.size:
            known = valid[starts[run] : starts[run + 1]]
            for row in range(part.size):
                total += part[row] if known[row] else 0
        else:
            for row in range(part.size):
                total += part[row]
        sums[run] = total
    return sums


@kernel
def range_of_floats(bits: Int64Array, valid: BoolArray, starts: Int64Array) -> tuple[Float64s, Float64s]:
    """Return the least and the greatest float of each run; NaN where there is none but NaN."""
    values = bits.view(np.float64)
    least, greatest = np.empty(starts.size - 1, np.float64), np.empty(starts.size - 1, np.float64)
    for run in range(least.size):
        part = values[starts[run] : starts[run + 1]]
        low, high = np.inf, -np.inf
        if valid.size:
            known = valid[starts[run] : starts[run + 1]]
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
        if low > high and not _has_number(values, valid, starts[run], starts[run + 1]):
            low = high = np.nan
        least[run], greatest[run] = low, high
    return least, greatest


@kernel
def range_of_integers(values: Int64Array, valid: BoolArray, starts: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return the least and the greatest integer of each run; the ends of int64, crossed, where there is none."""
    least, greatest = np.empty(starts.size - 1, np.int64), np.empty(starts.size - 1, np.int64)
    for run in range(least.size):
        part = values[starts[run] : starts[run + 1]]
        low, high = _INT64_MAX, _INT64_MIN
        if valid.size:
            known = valid[starts[run] : starts[run + 1]]
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
def squares_of_floats(bits: Int64Array, valid: BoolArray, starts: Int64Array, mean_bits: Int64Array) -> Float64s:
    """Return the sum of the squared distances of each run's floats from the run's mean."""
    values, means = bits.view(np.float64), mean_bits.view(np.float64)
    sums = np.empty(starts.size - 1, np.float64)
    for run in range(sums.size):
        part, total, mean = values[starts[run] : starts[run + 1]], 0.0, means[run]
        if valid.size:
            known = valid[starts[run] : starts[run + 1]]
            for row in range(part.size):
                total += (part[row] - mean) ** 2 if known[row] else 0.0
        else:
            for row in range(part.size):
                total += (part[row] - mean) ** 2
        sums[run] = total
    return sums


@kernel
def first_of_runs(times: Int64Array, starts: Int64Array) -> Int64Array:
    """Return the first row of each run; of rows with its time the oldest, which comes last.

    Requires: rows in order of (code, time, newest first).
    """
    rows = np.empty(starts.size - 1, np.int64)
    for run in range(rows.size):
        row = starts[run]
        while row + 1 < starts[run + 1] and times[row + 1] == times[row]:
            row += 1
        rows[run] = row
    return rows


@kernel
def last_of_runs(times: Int64Array, starts: Int64Array) -> Int64Array:
    """Return the last row of each run; of rows with its time the newest, which comes first.

    Requires: rows in order of (code, time, newest first).
    """
    rows = np.empty(starts.size - 1, np.int64)
    for run in range(rows.size):
        row = starts[run + 1] - 1
        while row > starts[run] and times[row - 1] == times[row]:
            row -= 1
        rows[run] = row
    return rows


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
def _run_stop(codes: Int32Array, times: Int64Array, start: int, last: int, length: int) -> int:
    """Return the first row after ``start`` that has another code or a time after ``last``.

    Rows that come at even times make runs of one ``length``, so that is tried first.
    """
    inside, step = start, length
    while inside + step < codes.size and _is_in_run(codes, times, inside + step, codes[start], last):
        inside += step
        step = min(step * 2, codes.size)
    if step == length and _is_in_run(codes, times, start + length - 1, codes[start], last):
        return start + length
    outside = min(inside + step, codes.size)
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if _is_in_run(codes, times, middle, codes[start], last):
            inside = middle
        else:
            outside = middle
    return outside


@device
def _is_in_run(codes: Int32Array, times: Int64Array, row: int, code: int, last: int) -> bool:
    return bool(row < codes.size and codes[row] == code and times[row] <= last)


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
