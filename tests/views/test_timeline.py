"""The SST timeline: lanes against a brute-force oracle, and what the picture holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import matplotlib as mpl
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.dates import date2num

from mitoframe.views.timeline import WINDOWS_DRAWN_MAX, assign_lanes, draw_timeline, format_bytes, format_rows

START = datetime(2013, 1, 1)
HOUR = timedelta(hours=1)
INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda each: (each[0], each[0] + each[1])))


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    pyplot.close("all")


def files(*rows: tuple[int, float, float, int], zone: str | None = None, unit: str = "ms") -> pl.DataFrame:
    """A frame as ``table.files()`` gives it, from (level, first hour, last hour, size in bytes)."""
    return pl.DataFrame(
        {
            "file_id": ["memtable" if level < 0 else f"{number:032x}" for number, (level, *_) in enumerate(rows)],
            "level": pl.Series([row[0] for row in rows], dtype=pl.Int8),
            "min_time": pl.Series([START + row[1] * HOUR for row in rows], dtype=pl.Datetime(unit, zone)),
            "max_time": pl.Series([START + row[2] * HOUR for row in rows], dtype=pl.Datetime(unit, zone)),
            "rows": pl.Series([1000] * len(rows), dtype=pl.UInt64),
            "size_bytes": pl.Series([row[3] for row in rows], dtype=pl.UInt64),
        }
    )


def boxes(axes: Axes) -> list[tuple[float, float, float, float]]:
    """(left, right, top, bottom) of every bar, left and right in hours after START."""
    found = []
    for collection in axes.collections:
        if isinstance(collection, PolyCollection):
            for path in collection.get_paths():
                (left, top), (right, bottom) = path.vertices.min(axis=0), path.vertices.max(axis=0)
                hours = [round(float(day - date2num(START)) * 24, 3) for day in (left, right)]
                found.append((hours[0], hours[1], float(top), float(bottom)))
    return found


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# --- lanes ---------------------------------------------------------------------------------------------


@given(INTERVALS)
@settings(deadline=None, max_examples=120)
def test_no_two_files_of_a_lane_overlap_and_lanes_are_as_few_as_can_be(intervals: list[tuple[int, int]]) -> None:
    starts, ends = [start for start, _ in intervals], [end for _, end in intervals]

    lanes = assign_lanes(starts, ends)

    for index, (start, end) in enumerate(intervals):
        for other in range(index):
            overlaps = start <= ends[other] and starts[other] <= end
            assert not (overlaps and lanes[index] == lanes[other])
    depth = max((sum(start <= moment <= end for start, end in intervals) for moment in range(73)), default=0)
    assert sorted(set(lanes)) == list(range(depth))


def test_files_that_share_one_instant_lie_in_two_lanes() -> None:
    assert assign_lanes([0, 5], [5, 9]) == [0, 1]
    assert assign_lanes([0, 6], [5, 9]) == [0, 0]


# --- picture -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_each_file_is_a_bar_over_its_time(unit: str, zone: str | None) -> None:
    frame = files((0, 0, 2, 10), (0, 1, 3, 10), (1, 0, 9, 10), unit=unit)
    frame = (
        frame.with_columns(pl.col("min_time", "max_time").dt.replace_time_zone("UTC").dt.convert_time_zone(zone))
        if zone
        else frame
    )

    axes = draw_timeline(frame)

    assert sorted(box[:2] for box in boxes(axes)) == [(0, 2), (0, 9), (1, 3)]
    assert axes.get_xlabel() == (f"time ({zone})" if zone else "time")


def test_the_axis_shows_the_hours_of_the_tables_zone() -> None:
    frame = files((0, 0, 36, 10)).with_columns(
        pl.col("min_time", "max_time").dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    )

    axes = draw_timeline(frame)
    axes.figure.canvas.draw()

    hours = {
        round(float(day) * 24) % 24: text.get_text()
        for day, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
    assert hours[11] == "06:00"


@pytest.mark.parametrize(
    "convert", [lambda frame: frame, pl.DataFrame.to_arrow, lambda frame: pa.table(frame).to_pandas()]
)
def test_any_frame_that_speaks_arrow_is_drawn(convert: object) -> None:
    frame = convert(files((0, 0, 2, 10), (1, 3, 4, 10)))

    axes = draw_timeline(frame)

    assert isinstance(frame, (pl.DataFrame, pa.Table, pd.DataFrame))
    assert sorted(box[:2] for box in boxes(axes)) == [(0, 2), (3, 4)]


def test_bars_never_touch_where_there_is_room() -> None:
    generator = np.random.default_rng(3)
    starts = generator.uniform(0, 100, 40)
    frame = files(*((int(number % 2), start, start + 9, 10) for number, start in enumerate(starts)))

    found = boxes(draw_timeline(frame))

    assert len(found) == 40
    for index, (left, right, top, bottom) in enumerate(found):
        for other_left, other_right, other_top, other_bottom in found[:index]:
            assert right < other_left or other_right < left or bottom < other_top or other_bottom < top


def test_levels_lie_below_each_other_with_unflushed_rows_on_top() -> None:
    axes = draw_timeline(files((1, 0, 9, 4_000_000), (0, 0, 2, 10_000), (0, 1, 3, 10_000), (-1, 8, 9, 0)))

    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "memtable\n1k rows",
        "L0\n2 files, 20 kB",
        "L1\n1 file, 4 MB",
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    assert list(axes.get_yticks()) == sorted(axes.get_yticks())
    assert axes.get_title(loc="left") == "SST timeline: 3 files, 3k rows, 4.02 MB"


def test_unflushed_rows_are_hatched_and_files_are_not() -> None:
    axes = draw_timeline(files((0, 0, 2, 10), (-1, 2, 3, 0)))

    assert [collection.get_hatch() for collection in axes.collections] == [None, "////"]
    assert legend(axes)[-1] == "not flushed yet"


@pytest.mark.parametrize("empty", [(1,), (1, 2)])
def test_an_empty_memtable_is_not_drawn(empty: tuple[int, ...]) -> None:
    frame = files((0, 0, 2, 10), (-1, 2, 3, 0), (-1, 2, 4, 0)).with_row_index()
    frame = frame.with_columns(pl.when(~pl.col("index").is_in(empty)).then(pl.col("min_time", "max_time")).name.keep())

    axes = draw_timeline(frame)

    assert len(boxes(axes)) == 3 - len(empty)
    assert ("not flushed yet" in legend(axes)) == (len(empty) == 1)


def test_colours_are_decades_of_size_and_small_ones_share_the_last() -> None:
    sizes = [1, 999, 12_000, 99_999, 100_000, 5_000_000, 60_000_000]
    axes = draw_timeline(files(*((0, number, number + 0.5, size) for number, size in enumerate(sizes))))

    colours = [tuple(colour) for colour in axes.collections[0].get_facecolors()]

    assert legend(axes) == ["under 100 kB", "100 kB to 1 MB", "1 MB to 10 MB", "10 MB to 100 MB"]
    assert [colours.index(colour) for colour in colours] == [0, 0, 0, 0, 4, 5, 6]
    lightness = [sum(colours[index][:3]) for index in (0, 4, 5, 6)]
    assert lightness == sorted(lightness, reverse=True)


def test_few_files_are_labelled_and_many_are_not() -> None:
    few = draw_timeline(files((0, 0, 100, 412_345), (0, 50, 50.1, 10)))
    many = draw_timeline(files(*((0, number, number + 0.9, 10) for number in range(13))))

    assert labels(few) == ["00000000 · 412 kB · 1k rows"]
    assert labels(many) == []


def test_window_boundaries_are_whole_multiples_since_1970() -> None:
    axes = draw_timeline(files((0, 1, 40, 10)), windows=timedelta(hours=12))

    lines = [float(segment[0][0]) for segment in axes.collections[-1].get_segments()]
    assert lines == pytest.approx([date2num(START + hours * HOUR) for hours in (12, 24, 36)])
    assert legend(axes)[-1] == "12 h windows"


@pytest.mark.parametrize("convert", [list, np.array, pa.array, pl.Series])
def test_window_boundaries_can_be_given(convert: object) -> None:
    times = [START + hours * HOUR for hours in (-100, 3, 7, 7, 900)]

    axes = draw_timeline(files((0, 0, 10, 10)), windows=convert(np.array(times, dtype="datetime64[us]")))

    lines = [float(segment[0][0]) for segment in axes.collections[-1].get_segments()]
    assert lines == pytest.approx([date2num(START + hours * HOUR) for hours in (3, 7)])


def test_too_many_windows_are_named_and_not_drawn() -> None:
    axes = draw_timeline(files((0, 0, WINDOWS_DRAWN_MAX + 1, 10)), windows=HOUR)

    assert len(axes.collections) == 1
    assert "not drawn" in legend(axes)[-1]


def test_a_file_of_one_instant_is_visible() -> None:
    axes = draw_timeline(files((0, 5, 5, 10)))

    assert boxes(axes)[0][:2] == (5, 5)
    assert axes.get_xlim()[0] < date2num(START + 5 * HOUR) < axes.get_xlim()[1]
    assert axes.collections[0].get_linewidths()[0] > 0


def test_files_too_narrow_for_an_outline_are_visible() -> None:
    axes = draw_timeline(files(*((0, number, number, 10) for number in range(200))))

    assert min(axes.collections[0].get_linewidths()) > 0


def test_no_files_say_so() -> None:
    axes = draw_timeline(files())

    assert labels(axes) == ["no files yet"]
    assert list(axes.get_xticks()) == []
    axes.figure.canvas.draw()


def test_thousands_of_files_are_one_artist_per_level() -> None:
    frame = files(*((number % 2, number / 50, number / 50 + 1, 10**6 + number) for number in range(3000)))

    axes = draw_timeline(frame)

    axes.figure.canvas.draw()
    assert len(axes.collections) == 2
    assert len(boxes(axes)) == 3000


def test_a_given_axes_is_drawn_on_and_no_figure_is_made() -> None:
    figure, (left, right) = pyplot.subplots(1, 2)
    before = pyplot.get_fignums()

    axes = draw_timeline(files((0, 0, 2, 10)), ax=right)

    assert axes is right
    assert pyplot.get_fignums() == before
    assert not left.collections
    figure.canvas.draw()


def test_a_frame_is_not_changed() -> None:
    frame = files((0, 0, 2, 10), (-1, 2, 3, 0))
    before = frame.clone()

    draw_timeline(frame)

    assert frame.equals(before)


@given(st.integers(0, 10**17))
@example(999_600)
@settings(deadline=None)
def test_sizes_for_people_are_short_and_close(size_bytes: int) -> None:
    number, unit = format_bytes(size_bytes).split(" ")

    assert len(number) <= 4
    assert "e" not in number
    power = ("B", "kB", "MB", "GB", "TB", "PB").index(unit)
    assert float(number) * 1000**power == pytest.approx(size_bytes, rel=0.006)
    assert format_rows(size_bytes).endswith((" row", " rows"))
