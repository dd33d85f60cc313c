from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import int32s, int64s, newest_rows, rows, sorted_by_lexsort, to_columns, uint64s

from mitoframe.kernels.merge import ALIKE, NOTHING_DELETED, merge_and_keep_last, merge_runs

several_runs = st.lists(rows(size_max=12), min_size=1, max_size=9)


def laid_out(runs):
    """Sort each run, lay them one after another, and say where each starts."""
    columns = []
    for codes, times, sequences in runs:
        take = sorted_by_lexsort(codes, times, sequences)
        columns.append((codes[take], times[take], sequences[take]))
    codes, times, sequences = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return codes, times, sequences, np.cumsum([0, *(run[0].size for run in runs)])


@given(several_runs)
@settings(deadline=None, max_examples=300)
def test_merged_order_is_that_of_a_stable_lexsort(drawn):
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in drawn])

    take = merge_runs(codes, times, sequences, run_starts)

    assert take.dtype == np.int64
    assert take.tolist() == sorted_by_lexsort(codes, times, sequences).tolist()


@given(
    runs=st.integers(2, 300), series=st.integers(1, 40), spread=st.integers(1, 10**4), seed=st.integers(0, 2**32 - 1)
)
@settings(deadline=None, max_examples=40)
def test_many_runs_of_any_length_are_merged(runs, series, spread, seed):
    draw = np.random.default_rng(seed)
    made = []
    for run in range(runs):
        size = int(draw.integers(0, 20)) if run % 7 else int(draw.integers(0, 200))
        codes = draw.integers(0, series, size).astype(np.int32)
        times = draw.integers(0, spread, size) + run * (spread // 2)
        made.append((codes, times, draw.integers(0, 5, size).astype(np.uint64)))
    codes, times, sequences, run_starts = laid_out(made)

    take = merge_runs(codes, times, sequences, run_starts)
    kept = merge_and_keep_last(codes, times, sequences, run_starts, NOTHING_DELETED)

    assert take.tolist() == sorted_by_lexsort(codes, times, sequences).tolist()
    assert kept.tolist() == newest_rows(codes, times, take)


@pytest.mark.parametrize("sizes", [[0], [0, 0, 0], [0, 3, 0], [5], [0, 0, 4, 0, 4]])
def test_empty_runs_are_passed_over(sizes):
    size = sum(sizes)
    codes, times = np.zeros(size, np.int32), np.concatenate([np.arange(one) for one in sizes])
    run_starts = np.cumsum([0, *sizes])

    take = merge_runs(codes, times, np.zeros(size, np.uint64), run_starts)

    assert take.tolist() == np.argsort(times, kind="stable").tolist()


def test_no_run_at_all_gives_no_rows():
    take = merge_runs(int32s([]), int64s([]), uint64s([]), int64s([0]))

    assert take.tolist() == []


def test_rows_alike_come_in_the_order_of_their_runs():
    codes, times, sequences = int32s([0] * 6), int64s([1] * 6), uint64s([5] * 6)

    take = merge_runs(codes, times, sequences, int64s([0, 1, 3, 6]))

    assert take.tolist() == [0, 1, 2, 3, 4, 5]


def test_newest_sequence_comes_first_whichever_run_it_is_in():
    codes, times, sequences = int32s([0, 0, 0]), int64s([1, 1, 1]), uint64s([2, 2**64 - 1, 1])

    take = merge_runs(codes, times, sequences, int64s([0, 1, 2, 3]))

    assert take.tolist() == [1, 0, 2]


@given(several_runs)
@settings(deadline=None, max_examples=150)
def test_of_each_key_the_newest_row_of_all_runs_is_kept(drawn):
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in drawn])

    kept = merge_and_keep_last(codes, times, sequences, run_starts, NOTHING_DELETED)

    assert kept.dtype == np.int64
    assert kept.tolist() == newest_rows(codes, times, sorted_by_lexsort(codes, times, sequences))


@given(several_runs, st.data())
@settings(deadline=None, max_examples=150)
def test_keys_whose_newest_row_is_deleted_vanish(drawn, data):
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in drawn])
    deleted = np.array(data.draw(st.lists(st.booleans(), min_size=codes.size, max_size=codes.size)), np.bool_)

    kept = merge_and_keep_last(codes, times, sequences, run_starts, deleted)

    newest = newest_rows(codes, times, sorted_by_lexsort(codes, times, sequences))
    assert kept.tolist() == [row for row in newest if not deleted[row]]


@given(several_runs, st.booleans())
@settings(deadline=None, max_examples=150)
def test_runs_that_lie_newest_first_need_no_sequences(drawn, some_deleted):
    falling = count(2**64 - 1, -1)
    numbered = [[(code, time, next(falling)) for code, time, _ in sorted(run)] for run in drawn]
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in numbered])
    deleted = sequences % np.uint64(3) == 0 if some_deleted else NOTHING_DELETED

    take = merge_runs(codes, times, ALIKE, run_starts)
    kept = merge_and_keep_last(codes, times, ALIKE, run_starts, deleted)

    assert take.tolist() == merge_runs(codes, times, sequences, run_starts).tolist()
    assert kept.tolist() == merge_and_keep_last(codes, times, sequences, run_starts, deleted).tolist()


def test_a_single_run_may_hold_several_versions_of_a_key():
    codes, times, sequences = int32s([0, 0, 0, 1]), int64s([7, 7, 8, 8]), uint64s([2, 1, 1, 1])

    kept = merge_and_keep_last(codes, times, sequences, int64s([0, 4]), NOTHING_DELETED)

    assert kept.tolist() == [0, 2, 3]


def test_a_row_is_kept_that_is_newer_than_the_deletion():
    codes, times, deleted = int32s([0, 0, 0]), int64s([7, 7, 7]), np.array([False, True, False])

    kept = merge_and_keep_last(codes, times, uint64s([1, 2, 3]), int64s([0, 1, 2, 3]), deleted)

    assert kept.tolist() == [2]


def test_of_no_rows_none_is_kept():
    assert merge_and_keep_last(int32s([]), int64s([]), ALIKE, int64s([0]), NOTHING_DELETED).tolist() == []
