from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from mitoframe.model.buckets import EvenBuckets, ListedBuckets

times = st.integers(-100, 100)


@given(st.integers(1, 30), st.data(), times, times)
@settings(deadline=None, max_examples=100)
def test_even_buckets_are_listed_from_the_first_that_is_touched_to_the_last(width, data, one, other):
    first, last = sorted([one, other])
    buckets = EvenBuckets(width=width, origin=data.draw(st.integers(0, width - 1)))

    starts = buckets.starts(first, last)

    expected = {time - (time - buckets.origin) % width for time in range(first, last + 1)}
    assert starts.tolist() == sorted(expected)
    assert buckets.count(first, last) == len(expected)


@given(st.lists(times, min_size=1, unique=True).map(sorted), times, times)
@settings(deadline=None, max_examples=100)
def test_listed_buckets_are_those_whose_stretches_are_touched(edges, one, other):
    first, last = sorted([max(one, edges[0]), max(other, edges[0])])
    labels = [edge // 7 * 7 for edge in edges]
    buckets = ListedBuckets(edges=np.array(edges, np.int64), labels=np.array(labels, np.int64))

    starts = buckets.starts(first, last)

    expected = {labels[sum(edge <= time for edge in edges) - 1] for time in range(first, last + 1)}
    assert starts.tolist() == sorted(expected)
    assert buckets.count(first, last) == len(expected)
