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
    range_of_floats,
    range_of_integers,
    runs_between,
    runs_of_width,
    squares_of_floats,
    sum_floats,
    sum_integers,
)

far_times = st.integers(-40, 40) | st.sampled_from([INT64_MIN + 1000, INT64_MAX - 1, INT64_MAX])
keys = st.lists(st.tuples(st.integers(0, 3), far_times), max_size=60).map(sorted)
floats = st.integers(-8, 8).map(float) | st.sampled_from([math.nan, math.inf, -math.inf])


def runs_by_row(keys, bucket_of):
    """Find runs by looking at every row."""
    starts, buckets, before = [], [], None
    for row, (code, time) in enumerate(keys):
        bucket = bucket_of(time)
        if (code, bucket) != before:
            starts.append(row)
            buckets.append(bucket)
        before = code, bucket
    return [*starts, len(keys)], buckets


def columns(keys):
    return int32s([code for code, _ in keys]), int64s([time for _, time in keys])


@given(keys, st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=200)
def test_runs_of_one_width_are_those_that_every_row_tells(keys, width, data):
    origin = data.draw(st.integers(0, width - 1))

    starts, buckets = runs_of_width(*columns(keys), width, origin)

    expected = runs_by_row(keys, lambda time: (time - origin) // width)
    assert (starts.tolist(), buckets.tolist()) == expected


@given(keys, st.lists(far_times, unique=True).map(sorted))
@settings(deadline=None, max_examples=200)
def test_runs_between_edges_are_those_that_every_row_tells(keys, edges):
    edges = [INT64_MIN, *edges]

    starts, buckets = runs_between(*columns(keys), int64s(edges))

    expected = runs_by_row(keys, lambda time: sum(edge <= time for edge in edges) - 1)
    assert (starts.tolist(), buckets.tolist()) == expected


@pytest.mark.parametrize(
    "lengths", [[5] * 40, [1] * 50, [1, 100, 1, 7, 64, 3], [200]], ids=["even", "single", "uneven", "one"]
)
def test_runs_of_any_length_are_found_to_the_row(lengths):
    times = np.concatenate([np.full(length, 10 * number, np.int64) for number, length in enumerate(lengths)])

    starts, buckets = runs_of_width(np.zeros(len(times), np.int32), times, 10, 0)

    assert np.diff(starts).tolist() == lengths
    assert buckets.tolist() == list(range(len(lengths)))


@st.composite
def runs(draw, values):
    """Draw runs of values, null where None, as a kernel takes them."""
    drawn = draw(st.lists(st.lists(values, min_size=1, max_size=20), max_size=8))
    flat = [value for run in drawn for value in run]
    starts = int64s([0, *np.cumsum([len(run) for run in drawn]).tolist()])
    has_null = None in flat
    valid = np.array([value is not None for value in flat], np.bool_) if has_null else NO_NULLS
    return [[value for value in run if value is not None] for run in drawn], flat, valid, starts


def bits(values):
    return np.array([7.0 if value is None else value for value in values], np.float64).view(np.int64)


@given(runs(st.none() | floats) | runs(floats))
@settings(deadline=None, max_examples=200)
def test_floats_are_summed_and_compared_run_by_run(drawn):
    parts, flat, valid, starts = drawn

    sums = sum_floats(bits(flat), valid, starts)
    least, greatest = range_of_floats(bits(flat), valid, starts)

    np.testing.assert_array_equal(sums, [sum(part) for part in parts])
    numbers = [[value for value in part if not math.isnan(value)] for part in parts]
    np.testing.assert_array_equal(least, [min(part, default=math.nan) for part in numbers])
    np.testing.assert_array_equal(greatest, [max(part, default=math.nan) for part in numbers])


@given(runs(st.none() | st.integers(-9, 9)) | runs(st.integers(-9, 9)))
@settings(deadline=None, max_examples=200)
def test_integers_are_counted_summed_and_compared_run_by_run(drawn):
    parts, flat, valid, starts = drawn
    values = int64s([10**6 if value is None else value for value in flat])

    least, greatest = range_of_integers(values, valid, starts)

    assert sum_integers(values, valid, starts).tolist() == [sum(part) for part in parts]
    assert least.tolist() == [min(part, default=INT64_MAX) for part in parts]
    assert greatest.tolist() == [max(part, default=INT64_MIN) for part in parts]
    if len(valid):
        assert count_valid(valid, starts).tolist() == [len(part) for part in parts]


@given(runs(st.none() | st.integers(-9, 9)) | runs(st.integers(-9, 9)))
@settings(deadline=None, max_examples=100)
def test_squares_are_of_the_distance_from_the_mean(drawn):
    parts, flat, valid, starts = drawn
    means = np.array([sum(part) / max(len(part), 1) for part in parts], np.float64)

    squares = squares_of_floats(bits(flat), valid, starts, means.view(np.int64))

    expected = [sum((value - mean) ** 2 for value in part) for part, mean in zip(parts, means, strict=True)]
    np.testing.assert_allclose(squares, expected)


def test_sums_of_integers_wrap_around():
    assert sum_integers(int64s([INT64_MAX, 1]), NO_NULLS, int64s([0, 2])).tolist() == [INT64_MIN]


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=8).map(sorted), max_size=6))
@settings(deadline=None, max_examples=100)
def test_of_rows_with_one_time_the_newest_comes_first(runs):
    times = int64s([time for run in runs for time in run])
    starts = int64s([0, *np.cumsum([len(run) for run in runs]).tolist()])

    first, last = first_of_runs(times, starts), last_of_runs(times, starts)

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
@settings(deadline=None, max_examples=100)
def test_floats_are_put_together_by_place(drawn):
    values, places, count, parts = drawn

    sums = add_floats(bits(values), places, count)
    least, greatest = (extreme_floats(bits(values), places, count, greatest) for greatest in (False, True))

    np.testing.assert_array_equal(sums, [sum(part) for part in parts])
    numbers = [[value for value in part if not math.isnan(value)] for part in parts]
    np.testing.assert_array_equal(least, [min(part, default=math.nan) for part in numbers])
    np.testing.assert_array_equal(greatest, [max(part, default=math.nan) for part in numbers])


@given(spread(st.integers(-9, 9) | st.sampled_from([INT64_MIN // 4, INT64_MAX // 4])))
@settings(deadline=None, max_examples=100)
def test_integers_are_put_together_by_place(drawn):
    values, places, count, parts = drawn

    least, greatest = (extreme_integers(int64s(values), places, count, greatest) for greatest in (False, True))

    wrapped = [(sum(part) + 2**63) % 2**64 - 2**63 for part in parts]
    assert add_integers(int64s(values), places, count).tolist() == wrapped
    assert least.tolist() == [min(part) for part in parts]
    assert greatest.tolist() == [max(part) for part in parts]


@given(spread(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2**64 - 1))), st.booleans())
@settings(deadline=None, max_examples=100)
def test_of_what_goes_to_a_place_the_first_or_last_by_time_then_rank_then_sequence_is_chosen(drawn, latest):
    values, places, count, parts = drawn
    times, ranks, sequences = zip(*values, strict=True)

    chosen = choose(int64s([*times]), int32s([*ranks]), uint64s([*sequences]), places, count, latest)

    assert places[chosen].tolist() == list(range(count))
    assert [values[at] for at in chosen] == [(max if latest else min)(part) for part in parts]


@given(keys, st.integers(1, 4))
@settings(deadline=None, max_examples=200)
def test_the_last_rows_of_each_series_are_found_from_its_end(keys, count):
    codes, times = columns(keys)

    rows = last_of_series(codes, times, count)

    expected = []
    for _, series in groupby(range(len(keys)), key=lambda row: keys[row][0]):
        # From the end, but of rows with one time the newest, which are the first of them.
        by_age = sorted(series, key=lambda row: (keys[row][1], -row))
        expected += sorted(by_age[-count:])
    assert rows.tolist() == expected
