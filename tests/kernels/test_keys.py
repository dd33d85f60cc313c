from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import NO_NULLS, int32s, int64s

from mitoframe.kernels.keys import (
    NULL,
    codes_follow,
    combine_codes,
    dense_ranks,
    split_codes,
    strings_follow,
)


@st.composite
def tag_columns(draw, columns_max=5, rows_max=40):
    """Draw the number of rows and columns of (values, cardinality): wide, narrow, constant, and copies of others."""
    size = draw(st.integers(0, rows_max))
    columns = []
    for _ in range(draw(st.integers(0, columns_max))):
        if columns and draw(st.booleans()):
            columns.append(columns[draw(st.integers(0, len(columns) - 1))])
            continue
        cardinality = draw(st.sampled_from([1, 3, 2**31 - 1]))
        value = st.one_of(st.integers(NULL, min(cardinality, 4) - 1), st.just(cardinality - 1))
        columns.append((draw(st.lists(value, min_size=size, max_size=size)), cardinality))
    return size, columns


def first_appearances(tuples):
    codes, first = [], {}
    for row, tuple_ in enumerate(tuples):
        first.setdefault(tuple_, (len(first), row))
        codes.append(first[tuple_][0])
    return codes, [row for _, row in first.values()]


def tuples_of(size, columns):
    return [tuple(values[row] for values, _ in columns) for row in range(size)]


@given(tag_columns())
@settings(deadline=None, max_examples=120)
def test_codes_number_the_tuples_in_order_of_first_appearance(drawn):
    size, columns = drawn

    codes, representatives = combine_codes([(int32s(values), most) for values, most in columns], size)

    assert (codes.dtype, representatives.dtype) == (np.int32, np.int64)
    assert (codes.tolist(), representatives.tolist()) == first_appearances(tuples_of(size, columns))


@pytest.mark.parametrize("cardinality", [30, 10**6, 2**31 - 1])
@pytest.mark.parametrize("distinct", [1, 400, 30_000])
def test_tables_and_hashes_of_any_size_number_alike(cardinality, distinct):
    draw = np.random.default_rng(distinct)
    left = draw.integers(0, distinct, 50_000).astype(np.int32)
    right = draw.integers(NULL, min(cardinality, distinct), 50_000).astype(np.int32)

    codes, representatives = combine_codes([(left, distinct), (right, cardinality)], 50_000)

    expected = first_appearances(list(zip(left.tolist(), right.tolist(), strict=True)))
    assert (codes.tolist(), representatives.tolist()) == expected


def test_largest_codes_do_not_overflow():
    column = int32s([2**31 - 2, NULL, 2**31 - 2, 0])

    codes, representatives = split_codes(int32s([3, 3, 3, 2**31 - 2]), 2**31 - 1, column, 2**31 - 1)

    assert codes.tolist() == [0, 1, 0, 2]
    assert representatives.tolist() == [0, 1, 3]


def test_without_tags_all_rows_are_one_series():
    codes, representatives = combine_codes([], 3)

    assert codes.tolist() == [0, 0, 0]
    assert representatives.tolist() == [0]


def test_no_rows_have_no_series():
    codes, representatives = combine_codes([(int32s([]), 0)], 0)

    assert codes.tolist() == []
    assert representatives.tolist() == []


def test_null_and_the_first_value_are_two_series():
    codes, _ = combine_codes([(int32s([NULL, 0, NULL]), 1)], 3)

    assert codes.tolist() == [0, 1, 0]


@st.composite
def grouped(draw, value):
    """Draw codes and a value or None per row that mostly follows from the code, as a tag does."""
    group = draw(st.lists(st.integers(0, 3), max_size=20))
    codes, representatives = first_appearances(group)
    by_code = draw(st.lists(value, min_size=4, max_size=4))
    values = [by_code[code] for code in codes]
    if values and draw(st.booleans()):
        values[draw(st.integers(0, len(values) - 1))] = draw(value)
    return values, codes, representatives


def follows(values, codes, representatives):
    return all(value == values[representatives[code]] for value, code in zip(values, codes, strict=True))


def validity(values, always):
    valid = np.array([value is not None for value in values], np.bool_)
    return valid if always or not valid.all() else NO_NULLS


# Lengths around one word and two, values that differ in any one byte, and bytes beyond ASCII.
text = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.sampled_from([b"", b"host_1", b"host_2", b"eu-west-1a", b"eu-west-1b", b"Ubuntu16.10", b"\x80" * 8]),
)


@given(grouped(text), st.integers(0, 16), st.booleans())
@settings(deadline=None, max_examples=160)
def test_strings_follow_says_whether_the_column_splits_a_series(drawn, skipped, always_valid):
    values, codes, representatives = drawn
    # A sliced Arrow array starts anywhere in its bytes, and its last value may end with the buffer.
    data = np.frombuffer(b"x" * skipped + b"".join(value or b"" for value in values), np.uint8)
    offsets = skipped + np.cumsum([0, *(len(value or b"") for value in values)])

    answer = strings_follow(offsets, data, validity(values, always_valid), int32s(codes), int64s(representatives))

    assert answer == follows(values, codes, representatives)


@pytest.mark.parametrize("size", range(1, 34))
@pytest.mark.parametrize("room", [0, 8])
def test_strings_follow_sees_a_difference_in_any_byte(size, room):
    value = bytes(range(65, 65 + size))
    for at in range(size):
        other = value[:at] + b"?" + value[at + 1 :]
        data = np.frombuffer(value + other + b"z" * room, np.uint8)

        answer = strings_follow(int64s([0, size, 2 * size]), data, NO_NULLS, int32s([0, 0]), int64s([0]))

        assert not answer


@pytest.mark.parametrize("size", range(34))
@pytest.mark.parametrize("room", [0, 8])
def test_strings_follow_looks_at_no_byte_beyond_the_value(size, room):
    value = bytes(range(65, 65 + size))
    data = np.frombuffer(b"1" + value + b"2" + value + b"3" * room, np.uint8)
    offsets = int64s([1, 1 + size, 2 + size, 2 + 2 * size])

    # Row 1 is the byte between the two and a series of its own. Python would not let the loop read past the end.
    for follow in (strings_follow, strings_follow.python):
        assert follow(offsets, data, NO_NULLS, int32s([0, 1, 0]), int64s([0, 1]))


@given(grouped(st.integers(NULL, 2)))
@settings(deadline=None, max_examples=100)
def test_codes_follow_says_whether_the_column_splits_a_series(drawn):
    values, codes, representatives = drawn

    answer = codes_follow(int32s(values), int32s(codes), int64s(representatives))

    assert answer == follows(values, codes, representatives)


@given(tag_columns())
@settings(deadline=None, max_examples=100)
def test_dense_ranks_are_places_among_the_sorted_distinct_tuples(drawn):
    size, columns = drawn
    tuples = tuples_of(size, columns)

    ranks, first_rows = dense_ranks([int32s(values) for values, _ in columns], size)

    distinct = sorted(set(tuples))
    assert (ranks.dtype, first_rows.dtype) == (np.int32, np.int64)
    assert ranks.tolist() == [distinct.index(tuple_) for tuple_ in tuples]
    assert first_rows.tolist() == [tuples.index(tuple_) for tuple_ in distinct]
