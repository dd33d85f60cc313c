"""How many files hold each stretch of time, counted and drawn."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.cli.depths import depths, draw

START = datetime(2024, 1, 1)


def files(*spans: tuple[int, int, int]) -> pl.DataFrame:
    """Files of a level, from one minute to another."""
    return pl.DataFrame(
        {
            "level": pl.Series([level for level, _, _ in spans], dtype=pl.Int8),
            "min_time": pl.Series([START + timedelta(minutes=first) for _, first, _ in spans], dtype=pl.Datetime("ms")),
            "max_time": pl.Series([START + timedelta(minutes=last) for _, _, last in spans], dtype=pl.Datetime("ms")),
        }
    )


def test_a_drawing_has_a_line_per_level_and_its_times() -> None:
    found = depths(files((0, 0, 9), (0, 5, 19), (1, 0, 19), *[(0, 15, 19)] * 12), 20)

    assert found is not None
    assert draw(found) == [
        "level 1  11111111111111111111",
        "level 0  1111122222" + "11111" + "+++++",
        "         2024-01-01 00:00:00 2024-01-01 00:19:00",
    ]


def test_stretches_without_files_are_blank() -> None:
    found = depths(files((0, 0, 0), (0, 9, 9)), 10)

    assert found is not None
    assert draw(found)[0] == "level 0  1        1"


def test_no_files_make_no_drawing() -> None:
    assert depths(files(), 10) is None


def test_a_single_moment_is_a_drawing_too() -> None:
    found = depths(files((0, 5, 5)), 10)

    assert found is not None
    assert sum(found.levels[0]) == 1


@settings(deadline=None, max_examples=60)
@given(
    spans=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 500), st.integers(0, 60)), min_size=1, max_size=20),
    width=st.integers(1, 60),
)
def test_every_file_is_counted_where_it_is_and_nowhere_else(spans: list[tuple[int, int, int]], width: int) -> None:
    found = depths(files(*((level, first, first + more) for level, first, more in spans)), width)
    assert found is not None
    minutes = 60_000
    start = min(first for _, first, _ in spans) * minutes
    end = max(first + more for _, first, more in spans) * minutes
    span = max(end - start + 1, width)

    for level, counts in found.levels.items():
        expected = [0] * width
        for of, first, more in spans:
            if of == level:
                places = [int((time * minutes - start) / span * width) for time in (first, first + more)]
                for place in range(places[0], places[1] + 1):
                    expected[place] += 1
        assert counts == expected
