from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import INT64_MAX, INT64_MIN, int32s, int64s, newest_rows, rows, sorted_by_lexsort, to_columns, uint64s

from mitoframe.kernels.merge import (
    ALIKE,
    NOTHING_DELETED,
    RUNS_BY_SERIES_MAX,
    merge_and_keep_last,
    merge_runs,
    newest_of_pieces,
)

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
@settings(deadline=None, max_examples=120)
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
@settings(deadline=None, max_examples=80)
def test_of_each_key_the_newest_row_of_all_runs_is_kept(drawn):
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in drawn])

    kept = merge_and_keep_last(codes, times, sequences, run_starts, NOTHING_DELETED)

    assert kept.dtype == np.int64
    assert kept.tolist() == newest_rows(codes, times, sorted_by_lexsort(codes, times, sequences))


@given(several_runs, st.data())
@settings(deadline=None, max_examples=80)
def test_keys_whose_newest_row_is_deleted_vanish(drawn, data):
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in drawn])
    deleted = np.array(data.draw(st.lists(st.booleans(), min_size=codes.size, max_size=codes.size)), np.bool_)

    kept = merge_and_keep_last(codes, times, sequences, run_starts, deleted)

    newest = newest_rows(codes, times, sorted_by_lexsort(codes, times, sequences))
    assert kept.tolist() == [row for row in newest if not deleted[row]]


@given(several_runs, st.booleans())
@settings(deadline=None, max_examples=80)
def test_runs_that_lie_newest_first_need_no_sequences(drawn, some_deleted):
    falling = count(2**64 - 1, -1)
    numbered = [[(code, time, next(falling)) for code, time, _ in sorted(run)] for run in drawn]
    codes, times, sequences, run_starts = laid_out([to_columns(run) for run in numbered])
    deleted = sequences % np.uint64(3) == 0 if some_deleted else NOTHING_DELETED

    take = merge_runs(codes, times, ALIKE, run_starts)
    kept = merge_and_keep_last(codes, times, ALIKE, run_starts, deleted)

    assert take.tolist() == merge_runs(codes, times, sequences, run_starts).tolist()
    assert kept.tolist() == merge_and_keep_last(codes, times, sequences, run_starts, deleted).tolist()


@st.composite
def measured(draw):
    """Draw runs of series that are measured at even times, here and there at others, some of them more than once."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.lists(st.sampled_from([1, 6, 10, 10**9, 2**40]), min_size=1, max_size=4))
    first, off = draw(st.sampled_from([INT64_MIN, -7, 0, 10**15])), draw(st.sampled_from([0, 0, 0.01, 1]))
    made = []
    for _ in range(draw(st.integers(1, RUNS_BY_SERIES_MAX + 2))):
        size = int(generator.integers(0, 40))
        codes = generator.integers(0, 2 * len(steps), size).astype(np.int32)
        times = first + generator.integers(0, 30, size) * np.array(steps)[codes // 2]
        made.append((codes, times + (generator.random(size) < off), generator.integers(0, 99, size).astype(np.uint64)))
    return made


@given(measured(), st.booleans())
@settings(deadline=None, max_examples=80)
def test_of_series_at_even_times_the_newest_rows_are_kept(runs, some_deleted):
    codes, times, sequences, run_starts = laid_out(runs)
    deleted = sequences % np.uint64(3) == 0 if some_deleted else NOTHING_DELETED

    kept = merge_and_keep_last(codes, times, sequences, run_starts, deleted)

    newest = newest_rows(codes, times, sorted_by_lexsort(codes, times, sequences))
    assert kept.tolist() == [row for row in newest if not (some_deleted and deleted[row])]


@given(measured())
@settings(deadline=None, max_examples=80)
def test_of_series_at_even_times_rows_of_lower_runs_are_newer_than_their_like(runs):
    alike = [(codes, times, np.zeros(codes.size, np.uint64)) for codes, times, _ in runs]
    codes, times, sequences, run_starts = laid_out(alike)

    kept = merge_and_keep_last(codes, times, ALIKE, run_starts, NOTHING_DELETED)

    assert kept.tolist() == newest_rows(codes, times, sorted_by_lexsort(codes, times, sequences))


@pytest.mark.parametrize("ends", [(INT64_MIN, INT64_MAX), (0, INT64_MAX), (INT64_MIN, -1)])
def test_times_that_are_as_far_apart_as_can_be_are_merged(ends):
    codes, times = int32s([0, 0, 0, 0]), int64s([*ends, *ends])

    kept = merge_and_keep_last(codes, times, ALIKE, int64s([0, 2, 4]), NOTHING_DELETED)

    assert kept.tolist() == [0, 1]


@given(several_runs | measured().map(lambda runs: [list(zip(*run, strict=True)) for run in runs]), st.data())
@settings(deadline=None, max_examples=100)
def test_pieces_keep_the_rows_whose_key_no_newer_run_has(drawn, data):
    codes, times, _, run_starts = laid_out([sort_by_key(run) for run in drawn])
    cuts = data.draw(st.sets(st.integers(0, max(codes.size - 1, 0)), max_size=5))
    is_first = np.ones(codes.size, np.bool_)
    is_first[1:] = codes[1:] != codes[:-1]
    is_first[[place for place in [*cuts, *run_starts.tolist()] if place < codes.size]] = True
    starts = np.flatnonzero(is_first)
    stops = np.append(starts[1:], codes.size).astype(np.int64)[: starts.size]

    which, left_starts, left_stops, hidden = newest_of_pieces(
        codes[starts], starts, stops, np.searchsorted(starts, run_starts), times
    )

    left = [row for start, stop in zip(left_starts, left_stops, strict=True) for row in range(start, stop)]
    assert left == sorted(newest_rows(codes, times, np.arange(codes.size)))
    assert sorted([*left, *hidden.tolist()]) == list(range(codes.size))
    assert (left_starts < left_stops).all()
    assert ((starts[which] <= left_starts) & (left_stops <= stops[which])).all()


def sort_by_key(run):
    codes, times, sequences = to_columns(sorted((int(code), int(time), int(number)) for code, time, number in run))
    return codes, times, np.zeros(sequences.size, np.uint64)


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


def test_times_further_apart_than_an_integer_holds_are_merged():
    # Every time is some steps after the first, if they are counted in 64 bits that overflow.
    first, step = np.iinfo(np.int64).min, 1 << 40
    runs = [[first, 1 << 62], [first, first + step, 1 << 62], [first + (1 << 62)]]
    times = np.concatenate([np.array(run, np.int64) for run in runs])
    run_starts = np.cumsum([0, *map(len, runs)])
    sequences = np.repeat(np.array([3, 2, 1], np.uint64), [len(run) for run in runs])

    for given_sequences in (sequences, ALIKE):
        take = merge_and_keep_last(np.zeros(6, np.int32), times, given_sequences, run_starts, NOTHING_DELETED)

        assert take.tolist() == [0, 3, 5, 1]
