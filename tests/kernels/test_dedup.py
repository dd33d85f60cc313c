from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import int32s, int64s, newest_rows, rows, sorted_by_lexsort, to_columns

from mitoframe.kernels.dedup import (
    DELETE,
    PUT,
    first_valid,
    keep_last,
    keep_repeated,
    version_spans,
)


def versions_of(codes, times, take):
    """Return the rows of each key, in the order of ``take``."""
    versions = {}
    for row in take.tolist():
        versions.setdefault((int(codes[row]), int(times[row])), []).append(row)
    return list(versions.values())


def spans_of(versions, ops):
    """Split a key's rows into the span of the newest and that of the newest deletion."""
    deletions = [row for row in versions if ops[row] == DELETE]
    filling = versions[: versions.index(deletions[0])] if deletions else versions
    return [span for span in (filling, deletions[:1]) if span]


@given(rows())
@settings(deadline=None, max_examples=100)
def test_newest_row_of_each_key_is_kept_in_order(drawn):
    codes, times, sequences = to_columns(drawn)
    take = sorted_by_lexsort(codes, times, sequences)

    kept = keep_last(codes, times, take)

    assert kept.tolist() == newest_rows(codes, times, take)


def test_only_the_taken_rows_count():
    codes, times = int32s([0, 0, 1]), int64s([7, 7, 7])

    kept = keep_last(codes, times, int64s([1, 2]))

    assert kept.tolist() == [1, 2]


@given(rows(codes_max=1))
@settings(deadline=None, max_examples=100)
def test_all_rows_of_keys_that_have_several_are_repeated(drawn):
    codes, times, sequences = to_columns(drawn)
    take = sorted_by_lexsort(codes, times, sequences)

    kept = keep_repeated(codes, times, take)

    assert kept.tolist() == [row for rows in versions_of(codes, times, take) if len(rows) > 1 for row in rows]


@given(rows(codes_max=1), st.booleans(), st.data())
@settings(deadline=None, max_examples=120)
def test_spans_go_down_to_the_newest_deletion_of_each_key(drawn, drop_deletes, data):
    codes, times, sequences = to_columns(drawn)
    take = sorted_by_lexsort(codes, times, sequences)
    ops = data.draw(st.lists(st.sampled_from([DELETE, PUT, PUT]), min_size=len(drawn), max_size=len(drawn)))

    starts, stops = version_spans(codes, times, np.array(ops, np.uint8), take, drop_deletes)

    expected = [span for versions in versions_of(codes, times, take) for span in spans_of(versions, ops)]
    assert [take[start:stop].tolist() for start, stop in zip(starts, stops, strict=True)] == [
        span for span in expected if not (drop_deletes and ops[span[0]] == DELETE)
    ]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), max_size=8), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_a_span_is_filled_by_its_first_row_that_is_not_null(spans, random):
    """The rows lie anywhere, and between the spans are some that belong to none."""
    stops = np.cumsum([len(span) + 1 for span in spans], dtype=np.int64)
    starts = stops - [len(span) for span in spans]
    places = list(range(stops[-1] if spans else 0))
    random.shuffle(places)
    take = int64s(places)
    valid = np.ones(take.size, np.bool_)
    for start, span in zip(starts, spans, strict=True):
        valid[take[start : start + len(span)]] = span

    filled = first_valid(take, starts.astype(np.int64), stops, valid)

    assert filled.tolist() == [
        take[start + (span.index(True) if any(span) else len(span) - 1)]
        for start, span in zip(starts, spans, strict=True)
    ]
