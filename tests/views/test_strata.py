"""The drawing model: lives from a history, lanes against brute force, and columns that come back from their bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured import files_of, history_of

from mitoframe.views.strata import (
    LANES_MAX,
    MEMTABLE_LEVEL,
    Strata,
    overlaps,
    pack,
    ranks,
    size_shades,
    stack,
    strata_of,
)


def lives(strata: Strata) -> dict[str, list[tuple[int, int]]]:
    """From which step to which each file is there, by its letter."""
    found: dict[str, list[tuple[int, int]]] = {}
    for file_id, born, died in zip(strata.file_ids, strata.born.tolist(), strata.died.tolist(), strict=True):
        found.setdefault(file_id[0], []).append((born, died))
    return found


# --- lives ---------------------------------------------------------------------------------------------


def test_a_file_is_there_from_the_flush_that_brought_it_to_the_merge_that_took_it() -> None:
    files = files_of(("a", 0, 0, 5), ("b", 0, 3, 9), ("c", 1, 0, 9), removed={"a": 3, "b": 3})
    history = history_of(("create", [], []), ("flush", [], ["a"]), ("flush", [], ["b"]), ("compact", ["a", "b"], ["c"]))

    strata = strata_of(files, history)

    assert lives(strata) == {"a": [(1, 3)], "b": [(2, 3)], "c": [(3, 4)]}
    assert strata.steps.files.tolist() == [0, 1, 2, 1]
    assert strata.steps.size_bytes.tolist() == [0, 10, 110, 1000]
    assert [strata.file_ids[number][0] for number in strata.now] == ["c"]


def test_what_deletes_no_listed_file_is_no_step() -> None:
    history = history_of(("create", [], []), ("flush", [], ["a"]), ("gc", ["z"], []), ("alter", [], []))

    strata = strata_of(files_of(("a", 0, 0, 5)), history)

    assert strata.steps.what == ("create", "flush")
    assert lives(strata) == {"a": [(1, 2)]}


def test_a_file_that_was_listed_again_has_two_lives() -> None:
    history = history_of(("flush", [], ["a"]), ("truncate", ["a"], []), ("restore", [], ["a"]))

    strata = strata_of(files_of(("a", 0, 0, 5)), history)

    assert lives(strata) == {"a": [(2, 3), (0, 1)]} or lives(strata) == {"a": [(0, 1), (2, 3)]}


def test_what_starts_anew_takes_every_file_that_it_does_not_name() -> None:
    files = files_of(("a", 0, 0, 5), ("b", 0, 3, 9), removed={"a": 7})
    history = history_of(("flush", [], ["a", "b"]), ("start", [], ["b"]), at_1={"starts_anew": True})

    assert lives(strata_of(files, history)) == {"a": [(0, 1)], "b": [(0, 2)]}


def test_a_file_of_which_no_step_tells_was_there_before_all() -> None:
    files = files_of(("a", 0, 0, 5), ("b", 0, 3, 9), ("c", 0, 3, 9), removed={"b": 2, "c": 0})
    history = history_of(("flush", [], ["x"]), ("flush", [], ["y"]), ("flush", [], ["z"]))

    assert lives(strata_of(files, history)) == {"a": [(-1, 3)], "b": [(-1, 2)]}


def test_rows_in_memory_are_there_at_the_newest_step_only_and_count_as_no_file() -> None:
    files = files_of(("a", 0, 0, 5), ("m", MEMTABLE_LEVEL, 6, 9))

    strata = strata_of(files, history_of(("create", [], []), ("flush", [], ["a"])))

    assert strata.level[strata.now].tolist() == [MEMTABLE_LEVEL, 0]
    assert strata.level[strata.at(0)].tolist() == []
    assert strata.steps.files.tolist() == [0, 1]


def test_of_too_many_lives_those_that_are_long_gone_are_left_out() -> None:
    files = files_of(("a", 0, 0, 1), ("b", 0, 0, 1), ("c", 0, 0, 1), removed={"a": 1, "b": 2})
    history = history_of(("flush", [], ["a"]), ("compact", ["a"], ["b"]), ("compact", ["b"], ["c"]))

    strata = strata_of(files, history, lives_max=2)

    assert lives(strata) == {"b": [(1, 2)], "c": [(2, 3)]}
    assert strata.left_out == 1


@pytest.mark.parametrize(("unit", "per_ms"), [("s", 1e-3), ("ms", 1), ("us", 1e3), ("ns", 1e6)])
def test_times_are_milliseconds_whatever_the_unit(unit: str, per_ms: float) -> None:
    second = int(1000 * per_ms)

    strata = strata_of(
        files_of(("a", 0, second, 3 * second), unit=unit, zone="Asia/Tokyo"), history_of(("flush", [], ["a"]))
    )

    assert (strata.start_ms.tolist(), strata.end_ms.tolist()) == ([1000.0], [3000.0])
    assert strata.zone == "Asia/Tokyo"


# --- lanes ---------------------------------------------------------------------------------------------

LIVES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(0, 6), st.integers(1, 5)).map(
        lambda each: (each[0], each[0] + each[1], each[2], each[2] + each[3])
    ),
    max_size=25,
)


@given(LIVES)
@settings(deadline=None, max_examples=100)
def test_no_two_of_a_lane_are_there_at_one_step_over_one_time(given_lives: list[tuple[int, int, int, int]]) -> None:
    columns = list(map(list, zip(*given_lives, strict=True))) or [[], [], [], []]

    lanes = stack(*columns)

    for one, (start, end, born, died) in enumerate(given_lives):
        for other, (other_start, other_end, other_born, other_died) in enumerate(given_lives[:one]):
            meet = start <= other_end and other_start <= end and born < other_died and other_born < died
            assert not (meet and lanes[one] == lanes[other])


@given(LIVES)
@settings(deadline=None, max_examples=60)
def test_what_is_there_now_takes_as_few_lanes_as_can_be(given_lives: list[tuple[int, int, int, int]]) -> None:
    newest = max((died for *_, died in given_lives), default=0)
    columns = list(map(list, zip(*given_lives, strict=True))) or [[], [], [], []]

    lanes = stack(*columns)

    now = [number for number, life in enumerate(given_lives) if life[3] == newest]
    depth = max((sum(given_lives[n][0] <= time <= given_lives[n][1] for n in now) for time in range(40)), default=0)
    assert len({lanes[number] for number in now}) == depth


def test_what_is_deeper_than_can_be_told_apart_shares_the_last_lane() -> None:
    count = LANES_MAX + 20

    lanes = stack([0] * count, [9] * count, [0] * count, [1] * count)

    assert sorted(set(lanes)) == list(range(LANES_MAX))


# --- shades --------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda each: (each[0], sum(each))), min_size=1))
@settings(deadline=None, max_examples=60)
def test_overlaps_are_counted_as_by_hand(intervals: list[tuple[int, int]]) -> None:
    starts, ends = (np.array(side) for side in zip(*intervals, strict=True))

    counts = overlaps(starts, ends)

    by_hand = [sum(a <= d and c <= b for c, d in intervals) - 1 for a, b in intervals]
    assert counts.tolist() == by_hand


def test_sizes_are_shaded_by_factors_and_ages_by_rank() -> None:
    shades, bounds = size_shades(np.array([1, 10, 100, 1_000, 10_000, 100_000]))

    assert shades.tolist() == [0, 1, 2, 3, 4, 4]
    assert bounds == (10, 100, 1_000, 10_000)
    assert ranks(np.array([7, 1, 1, 100, 5])).tolist() == [2, 0, 0, 4, 1]


# --- bytes ---------------------------------------------------------------------------------------------


def test_a_buffer_holds_every_column_where_the_header_says() -> None:
    header, data = pack(
        {"a": np.array([1, 2, 3], dtype="u1"), "b": np.array([0.5, -1.0]), "c": np.array([7], dtype="i4")}
    )

    assert header == {"a": ("Uint8Array", 0, 3), "b": ("Float64Array", 8, 2), "c": ("Int32Array", 24, 1)}
    assert list(data[:3]) == [1, 2, 3]
    assert struct.unpack_from("<2d", data, 8) == (0.5, -1.0)
    assert struct.unpack_from("<i", data, 24) == (7,)
    assert len(data) % 8 == 0
