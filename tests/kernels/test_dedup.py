from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import int32s, int64s, rows, sorted_by_lexsort, to_columns, uint64s

from mitoframe.kernels.dedup import DELETE, PUT, keep_last, keep_last_visible


def newest_rows(codes, times, take):
    """Return the first row of each key in the order of ``take``."""
    newest = {}
    for row in take.tolist():
        newest.setdefault((int(codes[row]), int(times[row])), row)
    return list(newest.values())


@given(rows())
@settings(deadline=None, max_examples=200)
def test_newest_row_of_each_key_is_kept_in_order(drawn):
    codes, times, sequences = to_columns(drawn)
    take = sorted_by_lexsort(codes, times, sequences)

    kept = keep_last(codes, times, take)

    assert kept.tolist() == newest_rows(codes, times, take)


@given(rows(), st.data())
@settings(deadline=None, max_examples=200)
def test_keys_whose_newest_row_is_a_deletion_vanish(drawn, data):
    codes, times, sequences = to_columns(drawn)
    take = sorted_by_lexsort(codes, times, sequences)
    ops = data.draw(st.lists(st.sampled_from([DELETE, PUT]), min_size=len(drawn), max_size=len(drawn)))

    kept = keep_last_visible(codes, times, np.array(ops, np.uint8), take, drop_deletes=True)

    assert kept.tolist() == [row for row in newest_rows(codes, times, take) if ops[row] == PUT]


@given(rows(), st.data())
@settings(deadline=None, max_examples=100)
def test_deletions_stay_where_older_rows_may_be_elsewhere(drawn, data):
    codes, times, sequences = to_columns(drawn)
    take = sorted_by_lexsort(codes, times, sequences)
    ops = data.draw(st.lists(st.sampled_from([DELETE, PUT]), min_size=len(drawn), max_size=len(drawn)))

    kept = keep_last_visible(codes, times, np.array(ops, np.uint8), take, drop_deletes=False)

    assert kept.tolist() == newest_rows(codes, times, take)


def test_a_put_after_a_deletion_is_seen():
    codes, times = int32s([0, 0, 0]), int64s([7, 7, 7])
    take = sorted_by_lexsort(codes, times, uint64s([1, 2, 3]))

    kept = keep_last_visible(codes, times, np.array([PUT, DELETE, PUT], np.uint8), take, drop_deletes=True)

    assert kept.tolist() == [2]


def test_only_the_taken_rows_count():
    codes, times = int32s([0, 0, 1]), int64s([7, 7, 7])

    kept = keep_last(codes, times, int64s([1, 2]))

    assert kept.tolist() == [1, 2]
