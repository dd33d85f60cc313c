"""Pieces against sets of row numbers: each method, one by one, for sources of any shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.rows import RowRanges
from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TIME_MIN, TimeRange
from mitoframe.read.pieces import Pieces, pieces_of

NO_ROWS: list[tuple[int, int]] = []


@dataclass(frozen=True, slots=True)
class Source:
    """A source: the times of each series, ascending (a time may come twice, as in a memtable)."""

    series: list[list[int]]

    @property
    def offsets(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.series)], dtype=np.int64)

    @property
    def times(self) -> np.ndarray:
        return np.array([time for times in self.series for time in times], dtype=np.int64)

    @property
    def codes(self) -> list[int]:
        return [code for code, times in enumerate(self.series) for _ in times]

    @property
    def row_count(self) -> int:
        return len(self.codes)


def rows_of(pieces: Pieces) -> list[tuple[int, int]]:
    """Return (series, row) of each row, and check what pieces promise."""
    assert pieces.codes.dtype == np.int32
    assert pieces.starts.dtype == pieces.stops.dtype == np.int64
    assert (pieces.starts < pieces.stops).all(), "no piece is empty"
    assert (pieces.stops[:-1] <= pieces.starts[1:]).all(), "pieces ascend"
    assert (np.diff(pieces.codes) >= 0).all()
    return [
        (code, row)
        for code, start, stop in zip(pieces.codes.tolist(), pieces.starts.tolist(), pieces.stops.tolist(), strict=True)
        for row in range(start, stop)
    ]


few_times = st.integers(0, 12) | st.integers(0, 12)
edge_times = st.sampled_from([TIME_MIN, TIME_MIN + 1, -1, 0, 1, TIME_MAX - 1, TIME_MAX])
sources = st.lists(
    st.lists(few_times, max_size=6).map(sorted) | st.lists(edge_times, max_size=4).map(sorted), max_size=8
).map(Source)
# More series than are bisected one by one.
wide_sources = sources.map(lambda source: Source(source.series * 33))
bounds = few_times | edge_times
ranges = st.builds(TimeRange, bounds, bounds) | st.just(EVERYTHING)


@st.composite
def chosen_of(draw: st.DrawFn, source: Source) -> np.ndarray | None:
    count = len(source.series)
    if draw(st.booleans()):
        return None
    return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=np.bool_)


def brute(source: Source, chosen: np.ndarray | None) -> list[tuple[int, int]]:
    return [(code, row) for row, code in enumerate(source.codes) if chosen is None or chosen[code]]


@settings(deadline=None)
@given(sources, st.data())
def test_the_pieces_of_a_source_are_the_rows_of_the_chosen_series(source, data):
    chosen = data.draw(chosen_of(source))

    pieces = pieces_of(source.offsets, chosen)

    expected = brute(source, chosen)
    assert rows_of(pieces) == expected
    assert pieces.row_count == len(expected)
    assert pieces.rows().tolist() == [row for _, row in expected]
    assert pieces.rows().dtype == np.int64
    assert pieces.row_codes().tolist() == [code for code, _ in expected]
    assert pieces.row_codes().dtype == np.int32
    assert len(pieces) == len({code for code, _ in expected})


@settings(deadline=None)
@given(sources, st.integers(0, 40), st.integers(0, 40), st.integers(0, 9), st.data())
def test_what_is_within_rows_is_counted_from_the_first_of_them(source, start, stop, by, data):
    chosen = data.draw(chosen_of(source))
    start, stop = min(start, stop), max(start, stop) + 1
    pieces = pieces_of(source.offsets, chosen)

    found = pieces.within(start, stop)

    expected = [(code, row - start) for code, row in brute(source, chosen) if start <= row < stop]
    assert rows_of(found) == expected
    assert rows_of(found.shifted(by)) == [(code, row + by) for code, row in expected]


@settings(deadline=None)
@given(sources, st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=6), st.data())
def test_only_the_rows_of_ranges_are_left(source, drawn, data):
    chosen = data.draw(chosen_of(source))
    kept = RowRanges.of([start for start, _ in drawn], [start + count for start, count in drawn])
    # Ranges may cut pieces, and pieces that were cut before.
    pieces = pieces_of(source.offsets, chosen).between(source.times, data.draw(ranges))

    found = pieces.only(kept)

    wanted = set(kept.rows().tolist())
    assert rows_of(found) == [(code, row) for code, row in rows_of(pieces) if row in wanted]


@settings(deadline=None, max_examples=100)
@given(sources | wide_sources, ranges, ranges, st.data())
def test_what_is_between_two_times_is_found_of_few_pieces_and_of_many(source, wanted, then, data):
    chosen = data.draw(chosen_of(source))
    pieces = pieces_of(source.offsets, chosen)

    found = pieces.between(source.times, wanted)
    again = found.between(source.times, then)

    times = source.times.tolist()
    expected = [(code, row) for code, row in brute(source, chosen) if wanted.holds(times[row])]
    assert rows_of(found) == expected
    assert rows_of(again) == [(code, row) for code, row in expected if then.holds(times[row])]


@pytest.mark.parametrize("count", [1, 64, 65, 200])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EVERYTHING, [TIME_MIN, 0, TIME_MAX - 1, TIME_MAX]),
        (TimeRange(0, TIME_MAX), [0, TIME_MAX - 1, TIME_MAX]),
        (TimeRange(TIME_MAX, TIME_MAX), [TIME_MAX]),
        (TimeRange(TIME_MAX - 1, TIME_MAX), [TIME_MAX - 1, TIME_MAX]),
        (TimeRange(0, TIME_MAX - 1), [0]),
        (TimeRange(TIME_MIN, 0), [TIME_MIN]),
        (TimeRange(TIME_MIN + 1, 1), [0]),
        (TimeRange(TIME_MIN, TIME_MIN), []),
        (TimeRange(5, 5), []),
        (TimeRange(9, 2), []),
    ],
    ids=str,
)
def test_the_first_and_the_last_time_of_all_can_be_asked_for(count, wanted, expected):
    source = Source([[TIME_MIN, 0, TIME_MAX - 1, TIME_MAX]] * count)

    found = pieces_of(source.offsets, None).between(source.times, wanted)

    assert len(found) == (count if expected else 0)
    assert source.times[found.rows()].tolist() == expected * count


@settings(deadline=None)
@given(sources, st.data())
def test_rows_lie_together_if_none_is_missing_between_the_first_and_the_last(source, data):
    chosen = data.draw(chosen_of(source))
    pieces = pieces_of(source.offsets, chosen).between(source.times, data.draw(ranges))
    rows = pieces.rows().tolist()
    if not rows:
        return

    assert pieces.is_run() == (rows == list(range(rows[0], rows[-1] + 1)))


@settings(deadline=None)
@given(sources, st.lists(st.integers(1, 7), min_size=1, max_size=12), st.data())
def test_the_row_groups_of_pieces_are_those_that_hold_a_row_of_them(source, lengths, data):
    starts = np.cumsum([0, *lengths])
    starts = np.concatenate([starts[starts < source.row_count], [max(source.row_count, 1)]]).astype(np.int64)
    chosen = data.draw(chosen_of(source))
    pieces = pieces_of(source.offsets, chosen).between(source.times, data.draw(ranges))

    found = pieces.row_groups(starts)

    rows = pieces.rows().tolist()
    expected = [
        number for number in range(len(starts) - 1) if any(starts[number] <= row < starts[number + 1] for row in rows)
    ]
    assert found == expected


def nothing() -> Pieces:
    return pieces_of(np.zeros(1, dtype=np.int64), None)


@pytest.mark.parametrize(
    "found",
    [
        nothing,
        lambda: nothing().within(0, 10),
        lambda: nothing().only(RowRanges.everything(10)),
        lambda: nothing().between(np.zeros(0, dtype=np.int64), EVERYTHING),
        lambda: pieces_of(np.array([0, 0, 0]), None),
        lambda: pieces_of(np.array([0, 3]), np.array([False])),
        lambda: pieces_of(np.array([0, 3]), None).only(RowRanges.nothing()),
        lambda: pieces_of(np.array([0, 3]), None).within(3, 9),
    ],
    ids=range(8),
)
def test_nothing_is_pieces_too(found):
    pieces: Any = found()

    assert rows_of(pieces) == NO_ROWS
    assert (len(pieces), pieces.row_count) == (0, 0)
    assert pieces.rows().tolist() == []
    assert pieces.row_codes().tolist() == []


def test_series_without_rows_have_no_piece():
    pieces = pieces_of(np.array([0, 0, 2, 2, 3, 3]), None)

    assert pieces.codes.tolist() == [1, 3]
    assert rows_of(pieces) == [(1, 0), (1, 1), (3, 2)]
