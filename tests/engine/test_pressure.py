from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.engine.pressure import Load, Pressure, pressure, to_flush
from mitoframe.model.ids import RegionId
from mitoframe.model.options import MitoConfig, RegionOptions

GO, FLUSH, STALL, REJECT = Pressure
CONFIG = MitoConfig(
    write_buffer_size_bytes=2,
    write_buffer_limit_bytes=5,
    global_write_buffer_size_bytes=20,
    global_write_buffer_reject_bytes=30,
)
loads = st.builds(Load, mutable=st.integers(0, 40), frozen=st.integers(0, 40), waiting=st.integers(0, 40))


def decision(own: Load, everything: Load | None = None, **options) -> Pressure:
    return pressure(own, own if everything is None else everything, RegionOptions(**options), CONFIG)


@pytest.mark.parametrize(
    ("mutable", "frozen", "waiting", "expected"),
    [
        (0, 0, 0, GO),
        (1, 0, 0, GO),
        (2, 0, 0, FLUSH),
        (0, 4, 0, GO),
        (1, 3, 0, GO),
        (2, 2, 0, FLUSH),
        (1, 4, 0, STALL),
        (0, 5, 0, STALL),
        (3, 2, 0, STALL),
        (1, 0, 99, GO),
        (2, 0, 99, FLUSH),
        (0, 5, 4, STALL),
        (0, 5, 5, REJECT),
        (5, 0, 5, REJECT),
        (4, 6, 0, STALL),
    ],
)
def test_what_the_buffers_of_a_region_call_for(mutable, frozen, waiting, expected):
    assert decision(Load(mutable=mutable, frozen=frozen, waiting=waiting)) is expected


@pytest.mark.parametrize(
    ("mutable", "frozen", "waiting", "expected"),
    [
        (9, 0, 0, GO),
        (10, 0, 0, FLUSH),
        (9, 10, 0, GO),
        (10, 9, 0, FLUSH),
        (0, 20, 0, STALL),
        (20, 0, 0, STALL),
        (15, 5, 9, STALL),
        (15, 5, 10, REJECT),
        (30, 0, 0, STALL),
    ],
)
def test_what_the_buffers_of_all_regions_call_for(mutable, frozen, waiting, expected):
    assert decision(Load(), Load(mutable=mutable, frozen=frozen, waiting=waiting)) is expected


def test_the_worse_of_the_two_counts():
    assert decision(Load(mutable=2), Load(frozen=20)) is STALL
    assert decision(Load(frozen=5), Load(mutable=10)) is STALL


def test_a_table_may_have_a_mark_of_its_own():
    assert decision(Load(mutable=3), write_buffer_size_bytes=4) is GO
    assert decision(Load(mutable=1), write_buffer_size_bytes=1) is FLUSH
    assert decision(Load(mutable=6), write_buffer_size_bytes=7) is GO, "a limit below the mark would never flush"


@given(loads, loads)
def test_more_never_calls_for_less(less, more):
    order = list(Pressure)

    assert order.index(decision(less)) <= order.index(decision(less + more))


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=8))
def test_the_largest_are_flushed_and_no_more_than_it_takes(sizes):
    regions = [(RegionId(number), Load(mutable=size, frozen=50)) for number, size in enumerate(sizes)]

    chosen = to_flush(regions, CONFIG)

    chosen_sizes = [sizes[region] for region in chosen]
    left = [size for number, size in enumerate(sizes) if number not in chosen]
    assert chosen_sizes == sorted(chosen_sizes, reverse=True)
    assert sum(left) < 10
    assert min(chosen_sizes, default=99) >= max(left, default=0)
    if chosen:
        assert sum(left) + chosen_sizes[-1] >= 10
