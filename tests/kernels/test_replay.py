"""Both policies, window by window. That they are the picker's is tested with the simulator."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.kernels.replay import NO_LIMIT, highest, replay_windows

groups = st.tuples(
    st.integers(0, 3),  # The window.
    st.integers(0, 20),  # When it comes.
    st.integers(0, 9),  # Its first time.
    st.integers(0, 3),  # How long it is.
    st.sampled_from([1, 10, 12, 100]),
    st.integers(0, 5),  # How new its newest row is.
)


def replayed(drawn, how=replay_windows, *, is_by_runs=False):
    drawn = sorted(drawn, key=lambda group: group[:2])
    window, at_ms, first, span, size_bytes, newest = (np.array(column) for column in zip(*drawn, strict=True))
    window_starts = np.append(np.flatnonzero(np.diff(window, prepend=-1)), len(window))
    at_ms = 10 * at_ms
    return how(
        window_starts,
        at_ms,
        first,
        first + span,
        size_bytes,
        np.arange(len(window)),
        np.arange(len(window)) + newest,
        at_ms,
        is_by_runs,
        4,
        2,
        25,
        6,
        NO_LIMIT,
        150,
        24,
        100,
        1024,
        100,
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(groups, min_size=1, max_size=30), st.booleans())
def test_it_does_as_it_is_written(drawn, is_by_runs):
    compiled = replayed(drawn, is_by_runs=is_by_runs)

    written = replayed(drawn, replay_windows.python, is_by_runs=is_by_runs)

    assert [found.tolist() for found in compiled] == [found.tolist() for found in written]


@settings(deadline=None, max_examples=60)
@given(st.lists(groups, min_size=1, max_size=60))
def test_every_group_is_merged_once_at_most_and_no_byte_is_lost(drawn):
    merged_ms, runs, weighed, size_bytes, offsets, members, changed_ms, before, after = replayed(drawn)

    drawn = sorted(drawn, key=lambda group: group[:2])
    sizes = [group[4] for group in drawn]
    assert len(set(members.tolist())) == len(members)
    for merge, (start, stop) in enumerate(pairwise(offsets)):
        inputs = members[start:stop].tolist()
        assert 2 <= len(inputs) <= 6
        assert all(member < len(drawn) + merge for member in inputs), "a merge takes what is there"
        sizes.append(sum(sizes[member] for member in inputs))
        assert runs[merge] > 1 or weighed[merge] <= len(inputs)
        assert runs[merge] > 1 or (sizes[-1] <= 150 and 2 * max(sizes[member] for member in inputs) <= sizes[-1])
    assert size_bytes.tolist() == sizes[len(drawn) :]
    assert len(merged_ms) == len(size_bytes)
    assert (before != after).all()
    assert (np.diff(changed_ms)[before[1:] != 0] >= 0).all()


def test_what_settles_is_merged_when_it_has():
    """Two that overlap, of the same size: as soon as nothing came for as long as windows take to settle."""
    merged_ms, runs, *_ = replayed([(0, 0, 0, 5, 10, True), (0, 1, 0, 5, 10, True)])

    assert (merged_ms.tolist(), runs.tolist()) == ([35], [2])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40))
def test_the_highest_is_that_of_all_numbers_after_each_change(changes):
    numbers, before, after, expected = dict.fromkeys(range(4), 0), [], [], []
    for which, number in changes:
        before.append(numbers[which])
        after.append(number)
        numbers[which] = number
        expected.append(max(numbers.values()))

    assert highest(np.array(before), np.array(after)).tolist() == expected
