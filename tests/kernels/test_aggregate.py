from __future__ import annotations

import math
from itertools import groupby

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from oracles import INT64_MAX, INT64_MIN, NO_NULLS, int32s, int64s, uint64s

from mitoframe.kernels.aggregate import (
    add_floats,
    add_integers,
    choose,
    count_valid,
    extreme_floats,
    extreme_integers,
    first_of_runs,
    last_of_runs,
    last_of_series,
    pieces_of_codes,
    pieces_within,
    range_of_floats,
    range_of_integers,
    range_of_places,
    runs_between,
    runs_of_width,
    squares_of_floats,
    sum_floats,
    sum_integers,
    sum_packed_floats,
    sum_packed_integers,
)

far_times = st.integers(-40, 40) | st.sampled_from([INT64_MIN + 1000, INT64_MAX - 1, INT64_MAX])
keys = st.lists(st.tuples(st.integers(0, 3), far_times), max_size=60).map(sorted)
floats = st.integers(-8, 8).map(float) | st.sampled_from([math.nan, math.inf, -math.inf])


def columns(keys):
    return int32s([code for code, _ in keys]), int64s([time for _, time in keys])


@st.composite
def pieces(draw):
    """Draw the times of a row group, in stretches of one series, and of each stretch rows that lie together."""
    stretches = draw(st.lists(st.lists(far_times, min_size=1, max_size=20).map(sorted), max_size=5))
    times = [time for stretch in stretches for time in stretch]
    begins = np.cumsum([0, *map(len, stretches)]).tolist()
    chosen = []
    for begin, stretch in zip(begins, stretches, strict=False):
        start, stop = draw(st.tuples(st.integers(0, len(stretch)), st.integers(0, len(stretch))).map(sorted))
        chosen += [(begin + start, begin + stop)] if start < stop else []
    return int64s(times), int64s([start for start, _ in chosen]), int64s([stop for _, stop in chosen])


def runs_by_row(times, starts, stops, bucket_of):
    """Find runs by looking at every row."""
    found = []
    for piece, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        for row in range(start, stop):
            bucket = bucket_of(int(times[row]))
            if found and found[-1][2:] == [bucket, piece]:
                found[-1][1] = row + 1
            else:
                found.append([row, row + 1, bucket, piece])
    return [list(column) for column in zip(*found, strict=True)] if found else [[], [], [], []]


def as_lists(arrays):
    return [array.tolist() for array in arrays]


@given(keys)
@settings(deadline=None, max_examples=60)
def test_a_piece_is_the_rows_of_a_code(keys):
    codes, _ = columns(keys)

    starts = pieces_of_codes(codes)

    lengths = [len(list(rows)) for _, rows in groupby(codes.tolist())]
    assert starts.tolist() == [0, *np.cumsum(lengths, dtype=np.int64).tolist()]


@given(pieces(), st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=100)
def test_runs_of_one_width_are_those_that_every_row_tells(drawn, width, data):
    times, starts, stops = drawn
    origin = data.draw(st.integers(0, width - 1))

    found = runs_of_width(starts, stops, times, width, origin)

    assert as_lists(found) == runs_by_row(times, starts, stops, lambda time: (time - origin) // width)


@given(pieces(), st.lists(far_times, unique=True).map(sorted))
@settings(deadline=None, max_examples=100)
def test_runs_between_edges_are_those_that_every_row_tells(drawn, edges):
    times, starts, stops = drawn
    edges = [INT64_MIN, *edges]

    found = runs_between(starts, stops, times, int64s(edges))

    assert as_lists(found) == runs_by_row(times, starts, stops, lambda time: sum(edge <= time for edge in edges) - 1)


@pytest.mark.parametrize(
    "lengths", [[5] * 40, [1] * 50, [1, 100, 1, 7, 64, 3], [200]], ids=["even", "single", "uneven", "one"]
)
def test_runs_of_any_length_are_found_to_the_row(lengths):
    times = np.concatenate([np.full(length, 10 * number, np.int64) for number, length in enumerate(lengths)])

    starts, stops, buckets, _ = runs_of_width(int64s([0]), int64s([len(times)]), times, 10, 0)

    assert (stops - starts).tolist() == lengths
    assert buckets.tolist() == list(range(len(lengths)))


@given(pieces(), st.lists(far_times, min_size=2, max_size=2).map(sorted), st.data())
@settings(deadline=None, max_examples=100)
def test_of_pieces_those_rows_are_left_that_are_in_a_row_group_and_a_range_of_times(drawn, span, data):
    times, starts, stops = drawn
    first_row, end_row = data.draw(st.lists(st.integers(0, len(times)), min_size=2, max_size=2).map(sorted))
    first, last = span

    which, from_rows, to_rows = pieces_within(starts, stops, first_row, end_row, times[first_row:end_row], first, last)

    expected = []
    for piece, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        rows = [
            row - first_row
            for row in range(start, stop)
            if first_row <= row < end_row and first <= int(times[row]) <= last
        ]
        expected += [[piece, rows[0], rows[-1] + 1]] if rows else []
    assert [list(found) for found in zip(*as_lists([which, from_rows, to_rows]), strict=True)] == expected


def test_pieces_with_the_same_times_are_cut_alike_and_others_are_not():
    times = np.concatenate([np.arange(100), np.arange(100), np.arange(50, 150), np.arange(100)])
    starts, stops = int64s([0, 100, 200, 300]), int64s([100, 200, 300, 400])

    which, from_rows, to_rows = pieces_within(starts, stops, 0, 400, times, 20, 89)

    assert which.tolist() == [0, 1, 2, 3]
    assert from_rows.tolist() == [20, 120, 200, 320]
    assert to_rows.tolist() == [90, 190, 240, 390]


@st.composite
def runs(draw, values):
    """Draw runs of values, null where None, as a kernel takes them."""
    drawn = draw(st.lists(st.lists(values, min_size=1, max_size=20), max_size=8))
    flat = [value for run in drawn for value in run]
    starts = int64s([0, *np.cumsum([len(run) for run in drawn]).tolist()])
    has_null = None in flat
    valid = np.array([value is not None for value in flat], np.bool_) if has_null else NO_NULLS
    return [[value for value in run if value is not None] for run in drawn], flat, valid, starts[:-1], starts[1:]


def bits(values):
    return np.array([7.0 if value is None else value for value in values], np.float64).view(np.int64)


@given(runs(st.none() | floats) | runs(floats))
@settings(deadline=None, max_examples=100)
def test_floats_are_summed_and_compared_run_by_run(drawn):
    parts, flat, valid, starts, stops = drawn

    sums = sum_floats(bits(flat), valid, starts, stops)
    least, greatest = range_of_floats(bits(flat), valid, starts, stops)

    np.testing.assert_array_equal(sums, [sum(part) for part in parts])
    numbers = [[value for value in part if not math.isnan(value)] for part in parts]
    np.testing.assert_array_equal(least, [min(part, default=math.nan) for part in numbers])
    np.testing.assert_array_equal(greatest, [max(part, default=math.nan) for part in numbers])


@given(runs(st.none() | st.integers(-9, 9)) | runs(st.integers(-9, 9)))
@settings(deadline=None, max_examples=100)
def test_integers_are_counted_summed_and_compared_run_by_run(drawn):
    parts, flat, valid, starts, stops = drawn
    values = int64s([10**6 if value is None else value for value in flat])

    least, greatest = range_of_integers(values, valid, starts, stops)

    assert sum_integers(values, valid, starts, stops).tolist() == [sum(part) for part in parts]
    assert least.tolist() == [min(part, default=INT64_MAX) for part in parts]
    assert greatest.tolist() == [max(part, default=INT64_MIN) for part in parts]
    if len(valid):
        assert count_valid(valid, starts, stops).tolist() == [len(part) for part in parts]


@given(runs(st.none() | st.integers(-9, 9)) | runs(st.integers(-9, 9)))
@settings(deadline=None, max_examples=60)
def test_squares_are_of_the_distance_from_the_mean(drawn):
    parts, flat, valid, starts, stops = drawn
    means = np.array([sum(part) / max(len(part), 1) for part in parts], np.float64)

    squares = squares_of_floats(bits(flat), valid, starts, stops, means.view(np.int64))

    expected = [sum((value - mean) ** 2 for value in part) for part, mean in zip(parts, means, strict=True)]
    np.testing.assert_allclose(squares, expected)


def test_sums_of_integers_wrap_around():
    assert sum_integers(int64s([INT64_MAX, 1]), NO_NULLS, int64s([0]), int64s([2])).tolist() == [INT64_MIN]


lists_of_floats = (
    st.lists(floats, min_size=1, max_size=9)
    | st.builds(
        lambda low, count: [float(low + at) for at in range(count)], st.integers(-300, 300), st.integers(1, 256)
    )
    | st.just([2.0**41 + at for at in range(9)])
    | st.just([0.5 + at for at in range(9)])
)


@given(lists_of_floats, st.data())
@settings(deadline=None, max_examples=100)
def test_packed_floats_are_summed_as_they_are_unpacked(listed, data):
    parts, flat, _, starts, stops = data.draw(runs(st.integers(0, len(listed) - 1)))

    sums = sum_packed_floats(np.array(flat, np.uint8), bits(listed), starts, stops)

    np.testing.assert_array_equal(sums, [sum(listed[place] for place in part) for part in parts])


def test_a_long_run_of_packed_floats_is_summed_to_the_end():
    places = np.full(100_000, 255, np.uint8)

    sums = sum_packed_floats(places, bits([float(at - 3) for at in range(256)]), int64s([0, 7]), int64s([7, 100_000]))

    assert sums.tolist() == [7 * 252.0, 99_993 * 252.0]


@given(st.lists(st.integers(-9, 9) | st.just(INT64_MAX), min_size=1, max_size=9), st.data())
@settings(deadline=None, max_examples=60)
def test_packed_integers_are_summed_and_compared_as_they_are_unpacked(listed, data):
    listed.sort()
    parts, flat, _, starts, stops = data.draw(runs(st.integers(0, len(listed) - 1)))
    places = np.array(flat, np.uint8)

    sums = sum_packed_integers(places, int64s(listed), starts, stops)
    least, greatest = range_of_places(places, starts, stops)

    values = [[listed[place] for place in part] for part in parts]
    assert sums.tolist() == [(sum(part) + 2**63) % 2**64 - 2**63 for part in values]
    assert [listed[place] for place in least] == [min(part) for part in values]
    assert [listed[place] for place in greatest] == [max(part) for part in values]


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=8).map(sorted), max_size=6))
@settings(deadline=None, max_examples=60)
def test_of_rows_with_one_time_the_newest_comes_first(runs):
    times = int64s([time for run in runs for time in run])
    starts = int64s([0, *np.cumsum([len(run) for run in runs]).tolist()])

    first, last = (found(times, starts[:-1], starts[1:]) for found in (first_of_runs, last_of_runs))

    begins = starts.tolist()
    assert first.tolist() == [begin + run.count(run[0]) - 1 for begin, run in zip(begins, runs, strict=False)]
    assert last.tolist() == [begin + run.index(run[-1]) for begin, run in zip(begins, runs, strict=False)]


@st.composite
def spread(draw, values):
    """Draw values and the places where they go, each place at least once."""
    count = draw(st.integers(1, 5))
    places = draw(st.permutations(list(range(count)) + draw(st.lists(st.integers(0, count - 1), max_size=10))))
    drawn = [draw(values) for _ in places]
    parts = [[value for value, place in zip(drawn, places, strict=True) if place == here] for here in range(count)]
    return drawn, int64s([*places]), count, parts


@given(spread(floats))
@settings(deadline=None, max_examples=60)
def test_floats_are_put_together_by_place(drawn):
    values, places, count, parts = drawn

    sums = add_floats(bits(values), places, count)
    least, greatest = (extreme_floats(bits(values), places, count, greatest) for greatest in (False, True))

    np.testing.assert_array_equal(sums, [sum(part) for part in parts])
    numbers = [[value for value in part if not math.isnan(value)] for part in parts]
    np.testing.assert_array_equal(least, [min(part, default=math.nan) for part in numbers])
    np.testing.assert_array_equal(greatest, [max(part, default=math.nan) for part in numbers])


@given(spread(st.integers(-9, 9) | st.sampled_from([INT64_MIN // 4, INT64_MAX // 4])))
@settings(deadline=None, max_examples=60)
def test_integers_are_put_together_by_place(drawn):
    values, places, count, parts = drawn

    least, greatest = (extreme_integers(int64s(values), places, count, greatest) for greatest in (False, True))

    wrapped = [(sum(part) + 2**63) % 2**64 - 2**63 for part in parts]
    assert add_integers(int64s(values), places, count).tolist() == wrapped
    assert least.tolist() == [min(part) for part in parts]
    assert greatest.tolist() == [max(part) for part in parts]


@given(spread(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2**64 - 1))), st.booleans())
@settings(deadline=None, max_examples=60)
def test_of_what_goes_to_a_place_the_first_or_last_by_time_then_rank_then_sequence_is_chosen(drawn, latest):
    values, places, count, parts = drawn
    times, ranks, sequences = zip(*values, strict=True)

    chosen = choose(int64s([*times]), int32s([*ranks]), uint64s([*sequences]), places, count, latest)

    assert places[chosen].tolist() == list(range(count))
    assert [values[at] for at in chosen] == [(max if latest else min)(part) for part in parts]


@given(keys, st.integers(1, 4))
@settings(deadline=None, max_examples=100)
def test_the_last_rows_of_each_series_are_found_from_its_end(keys, count):
    codes, times = columns(keys)

    rows = last_of_series(codes, times, count)

    expected = []
    for _, series in groupby(range(len(keys)), key=lambda row: keys[row][0]):
        # From the end, but of rows with one time the newest, which are the first of them.
        by_age = sorted(series, key=lambda row: (keys[row][1], -row))
        expected += sorted(by_age[-count:])
    assert rows.tolist() == expected
