import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model import rows
from mitoframe.model.rows import RowRanges

bounds = st.tuples(st.integers(0, 40), st.integers(0, 40))
any_ranges = st.lists(bounds, max_size=8)
masks = st.lists(st.booleans(), max_size=60)


def ranges(pairs: list[tuple[int, int]]) -> RowRanges:
    return RowRanges.of([start for start, _ in pairs], [stop for _, stop in pairs])


def members(pairs: list[tuple[int, int]]) -> set[int]:
    return {row for start, stop in pairs for row in range(start, stop)}


@settings(deadline=None, max_examples=80)
@given(any_ranges)
def test_of_any_ranges_are_the_rows_in_one_of_them(pairs: list[tuple[int, int]]) -> None:
    found = ranges(pairs)

    assert found.rows().tolist() == sorted(members(pairs))
    assert found.count == len(members(pairs))
    assert members(list(found)) == members(pairs)
    assert all(stop < start for (_, stop), (start, _) in zip(list(found), list(found)[1:], strict=False))


@settings(deadline=None, max_examples=80)
@given(any_ranges, any_ranges)
def test_intersection_and_union_are_those_of_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    left, right = ranges(one), ranges(other)

    assert left.intersect(right).rows().tolist() == sorted(members(one) & members(other))
    assert left.union(right).rows().tolist() == sorted(members(one) | members(other))


@settings(deadline=None, max_examples=80)
@given(any_ranges, st.integers(0, 45), st.integers(0, 45))
def test_clip_keeps_the_rows_in_between_and_their_numbers(pairs: list[tuple[int, int]], start: int, stop: int) -> None:
    found = ranges(pairs).clip(start, stop)

    assert found.rows().tolist() == sorted(members(pairs) & set(range(start, stop)))


@settings(deadline=None, max_examples=80)
@given(masks, st.integers(1, 7))
def test_a_mask_stands_for_whole_segments(mask: list[bool], granularity: int) -> None:
    found = RowRanges.from_mask(np.array(mask, dtype=bool), granularity)

    assert found.rows().tolist() == [row for row in range(len(mask) * granularity) if mask[row // granularity]]


@settings(deadline=None, max_examples=80)
@given(any_ranges, st.integers(0, 45), st.integers(1, 7))
def test_to_mask_sets_each_segment_with_a_row(pairs: list[tuple[int, int]], row_count: int, granularity: int) -> None:
    mask = ranges(pairs).to_mask(row_count, granularity)

    touched = {row // granularity for row in members(pairs) if row < row_count}
    assert mask.tolist() == [segment in touched for segment in range(-(-row_count // granularity))]


@settings(deadline=None, max_examples=80)
@given(any_ranges, any_ranges)
def test_equal_rows_are_equal_values(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    left, right = ranges(one), ranges(other)

    assert (left == right) is (members(one) == members(other))
    if left == right:
        assert hash(left) == hash(right)


def test_everything_of_no_rows_is_nothing() -> None:
    assert RowRanges.everything(0) == RowRanges.nothing()
    assert RowRanges.nothing().is_empty
    assert RowRanges.nothing().count == 0
    assert list(RowRanges.everything(7)) == [(0, 7)]
    assert not RowRanges.everything(7).is_empty


def test_shift_moves_row_numbers() -> None:
    assert RowRanges.of([10, 20], [12, 21]).shift(-10) == RowRanges.of([0, 10], [2, 11])


@pytest.mark.parametrize(
    ("starts", "stops"), [([3], [3]), ([0, 2], [2, 4]), ([5, 0], [6, 1]), ([-1], [4]), ([0, 1], [3, 4])]
)
def test_ranges_that_are_not_in_form_are_refused(starts: list[int], stops: list[int]) -> None:
    with pytest.raises(AssertionError):
        RowRanges(np.array(starts, np.int64), np.array(stops, np.int64))


def test_a_value_of_another_kind_is_not_equal() -> None:
    other: Any = [(0, 7)]

    assert RowRanges.everything(7) != other


def test_examples() -> None:
    assert doctest.testmod(rows).failed == 0
