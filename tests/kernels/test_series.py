from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import int32s, int64s

from mitoframe.kernels.series import codes_from_offsets, series_offsets

sorted_codes = st.lists(st.integers(0, 9), max_size=50).map(sorted)


@given(sorted_codes)
@settings(deadline=None, max_examples=80)
def test_offsets_say_where_each_series_starts_and_stops(codes):
    offsets = series_offsets(int32s(codes), 10)

    assert offsets.size == 11
    assert offsets.tolist() == [sum(code < series for code in codes) for series in range(11)]


@given(sorted_codes, st.data())
@settings(deadline=None, max_examples=80)
def test_any_slice_of_rows_gets_its_codes_back(codes, data):
    offsets = series_offsets(int32s(codes), 10)
    start = data.draw(st.integers(0, len(codes)))
    stop = data.draw(st.integers(start, len(codes)))

    back = codes_from_offsets(offsets, start, stop)

    assert back.dtype == np.int32
    assert back.tolist() == codes[start:stop]


def test_no_series_and_no_rows_have_one_offset():
    offsets = series_offsets(int32s([]), 0)

    assert offsets.tolist() == [0]
    assert codes_from_offsets(offsets, 0, 0).tolist() == []


def test_series_without_rows_are_stepped_over_in_the_middle_of_a_slice():
    assert codes_from_offsets(int64s([0, 0, 2, 2, 2, 3]), 1, 3).tolist() == [1, 4]
