from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import INT64_MIN, int32s, int64s, rows, sorted_by_lexsort, to_columns, uint64s

from mitoframe.kernels.dedup import keep_last
from mitoframe.kernels.sort import is_sorted, sort_and_keep_last, sort_rows


@given(rows())
@settings(deadline=None, max_examples=120)
def test_order_is_that_of_a_stable_lexsort(drawn):
    codes, times, sequences = to_columns(drawn)

    take = sort_rows(codes, 4, times, sequences)

    assert take.dtype == np.int64
    assert take.tolist() == sorted_by_lexsort(codes, times, sequences).tolist()


@given(late=st.floats(0, 1), farthest=st.integers(1, 200), series=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_late_and_corrected_rows_are_put_in_their_place(late, farthest, series, seed):
    draw = np.random.default_rng(seed)
    row = np.arange(1500)
    codes = (row % series).astype(np.int32)
    times = row // series - draw.integers(0, farthest, row.size) * (draw.random(row.size) < late)
    sequences = (row + 1).astype(np.uint64)

    take = sort_rows(codes, series, times, sequences)

    assert take.tolist() == sorted_by_lexsort(codes, times, sequences).tolist()


@pytest.mark.parametrize("series", [1, 3, 1000])
@pytest.mark.parametrize(
    "times",
    [np.arange(1000), np.arange(1000)[::-1], np.zeros(1000), np.arange(1000) % 10, -(np.arange(1000) % 10)],
    ids=["ascending", "reversed", "all equal", "sawtooth", "falling sawtooth"],
)
def test_whole_shapes_of_input_are_sorted(series, times):
    codes = (np.arange(1000) % series).astype(np.int32)[::-1].copy()
    times = times.astype(np.int64)
    sequences = np.arange(1000, dtype=np.uint64)

    take = sort_rows(codes, series, times, sequences)

    assert take.tolist() == sorted_by_lexsort(codes, times, sequences).tolist()


def test_one_row_far_in_the_future_does_not_spoil_the_rest():
    times = np.arange(1000)
    times[3] = 10**6
    codes = np.zeros(1000, np.int32)

    take = sort_rows(codes, 1, times, np.arange(1000, dtype=np.uint64))

    assert times[take].tolist() == sorted(times.tolist())


def test_first_row_of_a_series_may_have_the_smallest_time():
    codes, times = int32s([1, 0, 1, 0]), int64s([INT64_MIN] * 4)

    take = sort_rows(codes, 2, times, uint64s([0, 0, 0, 0]))

    assert take.tolist() == [1, 3, 0, 2]


def test_series_without_rows_are_passed_over():
    take = sort_rows(int32s([9, 2]), 1000, int64s([0, 0]), uint64s([0, 0]))

    assert take.tolist() == [1, 0]


@pytest.mark.parametrize("count", [0, 5])
def test_no_rows_give_no_rows(count):
    take = sort_rows(int32s([]), count, int64s([]), uint64s([]))

    assert take.tolist() == []


def test_rows_in_order_are_taken_as_they_are():
    take = sort_rows(int32s([0, 0, 1]), 2, int64s([1, 2, 0]), uint64s([1, 1, 1]))

    assert take.tolist() == [0, 1, 2]


@given(rows())
@settings(deadline=None, max_examples=100)
def test_is_sorted_knows_its_own_order(drawn):
    columns = to_columns(drawn)
    take = sorted_by_lexsort(*columns)

    assert is_sorted(*[column[take] for column in columns])
    assert is_sorted(*columns) == (take.tolist() == list(range(len(drawn))))


@given(rows())
@settings(deadline=None, max_examples=120)
def test_sorting_and_keeping_the_last_is_the_one_after_the_other(drawn):
    codes, times, sequences = to_columns(drawn)

    kept = sort_and_keep_last(codes, 4, times, sequences)

    assert kept.tolist() == keep_last(codes, times, sorted_by_lexsort(codes, times, sequences)).tolist()


def test_rows_that_come_in_order_but_more_than_once_are_kept_once():
    codes, times = int32s([1, 0, 1, 0]), int64s([3, 3, 3, 4])

    kept = sort_and_keep_last(codes, 2, times, uint64s([7, 7, 5, 7]))

    assert kept.tolist() == [1, 3, 0]
