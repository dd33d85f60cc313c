from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.kernels.window import window_starts

from oracles import INT64_MAX, INT64_MIN, int64s

widths = st.one_of(st.integers(1, 10), st.just(3_600_000_000_000), st.integers(INT64_MAX - 3, INT64_MAX))
any_time = st.one_of(
    st.integers(-30, 30),
    st.integers(INT64_MIN, INT64_MIN + 30),
    st.integers(INT64_MAX - 30, INT64_MAX),
    st.integers(INT64_MIN, INT64_MAX),
)


@given(st.lists(any_time, max_size=30), widths)
@settings(deadline=None, max_examples=400)
def test_start_is_the_floor_in_exact_arithmetic(times, width):
    starts = window_starts(int64s(times), width)

    assert starts.tolist() == [max(time // width * width, INT64_MIN) for time in times]


def test_a_window_never_straddles_1970():
    assert window_starts(int64s([-61, -60, -1, 0, 1]), 60).tolist() == [-120, -60, -60, 0, 0]


@pytest.mark.parametrize("width", [0, -1])
def test_a_window_without_width_is_a_mistake(width):
    with pytest.raises(AssertionError, match="width"):
        window_starts(int64s([1]), width)
