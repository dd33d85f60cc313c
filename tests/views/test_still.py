"""The picture without widgets: every file in it, small whatever there is, and readable by anything."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured import WINDOWS, files_of, history_of

from mitoframe.views.still import FILES_MAX, draw_still, holding, time_ticks
from mitoframe.views.strata import MEMTABLE_LEVEL, strata_of

NO_WINDOWS = WINDOWS.slice(0, 0)


def drawn(files: pa.Table, windows: pa.Table = NO_WINDOWS, table: str = "cpu") -> str:
    history = history_of(("create", [], []))
    added = pa.table({name: pa.array([0], pa.uint64()) for name in ("rows_out",)})
    return draw_still(
        strata_of(files, history),
        table=table,
        windows=windows,
        history=history.append_column("rows_out", added["rows_out"]),
    )


def svg_of(html: str) -> ElementTree.Element:
    """The picture, which is XML of its own."""
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def test_each_file_is_a_bar_with_its_facts() -> None:
    svg = svg_of(drawn(files_of(("a", 0, 0, 3_600_000), ("b", 1, 0, 7_200_000), ("m", MEMTABLE_LEVEL, 5, 9))))

    bars = {rect.findtext("title", "")[:8]: rect for rect in svg.iter("rect") if rect.find("title") is not None}
    assert set(bars) == {"aaaaaaaa", "bbbbbbbb", "memtable"}
    assert float(bars["bbbbbbbb"].attrib["width"]) == pytest.approx(
        2 * float(bars["aaaaaaaa"].attrib["width"]), abs=0.2
    )
    assert "1970-01-01 00:00:00 to 1970-01-01 01:00:00" in bars["aaaaaaaa"].findtext("title", "")


def test_bars_of_files_that_overlap_do_not_touch() -> None:
    svg = svg_of(drawn(files_of(*((chr(97 + n), n % 2, n * 7, n * 7 + 30) for n in range(20)))))

    boxes = [[float(rect.attrib[key]) for key in ("x", "y", "width", "height")] for rect in svg.iter("rect")]
    assert len(boxes) == 20
    for number, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:number]:
            apart = x > other_x + other_width or other_x > x + width
            assert apart or y >= other_y + other_height or other_y >= y + height


def test_windows_that_are_due_are_told_apart() -> None:
    svg = svg_of(drawn(files_of(("a", 0, 0, 7_000_000)), WINDOWS))

    assert [rect.attrib["class"] for rect in svg.iter("rect") if "mito-s" not in rect.attrib["class"]] == [
        "mito-window",
        "mito-due",
    ]


def test_many_files_are_a_skyline_below_two_megabytes() -> None:
    generator = np.random.default_rng(5)
    starts = generator.integers(0, 10**9, 10_000)
    files = files_of(("a", 0, 0, 1))
    count = len(starts)
    many = pa.table(
        {
            "file_id": [f"{number:032x}" for number in range(count)],
            "level": pa.array(generator.integers(0, 2, count), pa.int8()),
            "min_time": pa.array(starts, pa.int64()).view(pa.timestamp("ms")),
            "max_time": pa.array(starts + 10**6, pa.int64()).view(pa.timestamp("ms")),
            **{
                name: pa.array(np.ones(count), pa.int64()).cast(files[name].type)
                for name in ("rows", "size_bytes", "min_sequence", "max_sequence", "created")
            },
            "removed_version": pa.nulls(count, pa.int64()),
        }
    )

    html = drawn(many)

    svg = svg_of(html)
    assert count > FILES_MAX
    assert len(html) < 100_000
    assert sum(int(path.findtext("title", "").split()[0].replace(",", "")) for path in svg.iter("path")) == count


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)).map(lambda each: (each[0], sum(each))), min_size=1),
)
@settings(deadline=None, max_examples=60)
def test_a_column_of_the_skyline_counts_every_file_with_a_time_in_it(intervals: list[tuple[int, int]]) -> None:
    starts, ends = (np.array(side, dtype=float) for side in zip(*intervals, strict=True))
    edges = np.arange(-1.0, 62.0, 7.0)

    counts = holding(starts, ends, edges)

    by_hand = [sum(start <= right and end >= left for start, end in intervals) for left, right in pairwise(edges)]
    assert counts.tolist() == by_hand


def test_no_files_say_so() -> None:
    assert "no files yet" in drawn(files_of())


def test_names_and_reasons_are_text_and_not_markup() -> None:
    html = drawn(files_of(("a", 0, 0, 9)), WINDOWS, table="<script>x</script>")

    assert "<script" not in html
    assert "a &lt; b" in html


def test_nothing_is_fetched() -> None:
    html = drawn(files_of(("a", 0, 0, 9)), WINDOWS)

    assert not re.search(r"https?://|@import|url\(|src=|href=", html)


@pytest.mark.parametrize("first", [-62_135_596_800_000.0, -3.6e6, 0.0, 1.3570416e12, 9e15])
@pytest.mark.parametrize("span", [1.0, 3.6e6, 8.64e7, 3.15e10, 3e12, 1e19])
@pytest.mark.parametrize("zone", [None, "America/New_York", "+05:30"])
def test_round_times_lie_within_and_are_few(first: float, span: float, zone: str | None) -> None:
    ticks = time_ticks(first, first + span, zone)

    assert all(first <= at_ms <= first + span for at_ms, _ in ticks)
    assert len(ticks) <= 10
    assert len(ticks) >= 2 or span in (1.0, 3e12) or first > 1e15


def test_days_begin_where_the_zone_has_midnight() -> None:
    first = 1_372_636_800_000.0

    [(at_ms, label), *_] = time_ticks(first, first + 4 * 86_400_000, "America/New_York", 4)

    assert (at_ms - first, label) == (4 * 3_600_000, "2013-07-01")
