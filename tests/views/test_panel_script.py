"""The page's functions, run by node without a browser: what they find is what Python finds."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from mitoframe.views.panel import SCRIPT
from mitoframe.views.still import time_ticks
from mitoframe.views.strata import OVERLAP_SHADES, overlap_shades, overlaps, pack
from mitoframe.views.style import format_bytes

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed; the browser test runs the same code")

PRELUDE = """
import * as panel from %s;
const given = JSON.parse(process.argv[1]);
const columns = given.columns;
const say = (value) => process.stdout.write(JSON.stringify(value));
"""


def ran(script: str, **given: Any) -> Any:
    """What a script says that has the module as ``panel`` and values as ``given``."""
    assert NODE is not None
    program = PRELUDE % json.dumps(SCRIPT.as_uri()) + script
    done = subprocess.run(
        [
            NODE,
            "--no-warnings",
            "--experimental-default-type=module",
            "--input-type=module",
            "-e",
            program,
            json.dumps(given),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def columns_of(*files: tuple[int, int, int, int, int, int]) -> dict[str, list[int]]:
    """Columns from (level, lane, start, end, born, died)."""
    return dict(
        zip(("level", "lane", "start", "end", "born", "died"), map(list, zip(*files, strict=True)), strict=True)
    )


FILES = columns_of((0, 0, 0, 40, 0, 9), (0, 1, 20, 60, 1, 2), (0, 0, 50, 90, 1, 9), (1, 0, 0, 90, 2, 9))


def test_a_buffer_is_unpacked_as_it_was_packed() -> None:
    numbers = {"a": np.array([1, 2], dtype="u1"), "b": np.array([0.25, 1e15]), "c": np.array([-3], dtype="i4")}
    header, data = pack(numbers)

    found = ran(
        "const held = new Uint8Array([9, ...given.data]);"  # A view need not begin where its buffer does.
        "const found = panel.unpack(given.header, new DataView(held.buffer, 1));"
        "say(Object.fromEntries(Object.entries(found).map(([name, values]) => [name, Array.from(values)])));",
        header=header,
        data=list(data),
    )

    assert found == {name: column.tolist() for name, column in numbers.items()}


def test_files_are_there_from_their_birth_to_their_end() -> None:
    assert ran("say([0, 1, 2].map((step) => panel.there(columns, step)));", columns=FILES) == [
        [0],
        [0, 1, 2],
        [0, 2, 3],
    ]


def test_overlaps_and_their_shades_are_those_that_python_counts() -> None:
    generator = np.random.default_rng(7)
    starts = generator.integers(0, 2000, 240)
    ends = starts + generator.integers(0, 30, 240)

    counts, shades = ran(
        "const all = [...columns.start.keys()];"
        "say([panel.overlaps(columns, all), panel.shades(columns, all, 'overlap')]);",
        columns={"start": starts.tolist(), "end": ends.tolist()},
    )

    assert counts == overlaps(starts, ends).tolist()
    assert shades == overlap_shades(np.array(counts)).tolist()
    assert len(set(shades)) == len(OVERLAP_SHADES) + 1


def test_files_of_one_lane_lie_beside_each_other_and_levels_below() -> None:
    bars = ran(
        "const all = [0, 1, 2, 3], placed = panel.levelsOf({...columns, lane: columns.lane}, all);"
        "say(panel.rectangles(columns, all, placed, {first: 0, last: 100, width: 1136}));",
        columns=FILES,
    )

    first, second, third, fourth = bars
    assert first["y"] == third["y"] < second["y"] < fourth["y"]
    assert first["x"] + first["width"] < third["x"]
    assert fourth["width"] == pytest.approx(900)


def test_what_cannot_be_seen_is_not_drawn_and_what_is_cut_stays_within() -> None:
    bars = ran(
        "const all = [0, 1, 2, 3], placed = panel.levelsOf(columns, all);"
        "say(panel.rectangles(columns, all, placed, {first: 61, last: 80, width: 636}));",
        columns=FILES,
    )

    assert [bar["number"] for bar in bars] == [2, 3]
    assert all(bar["x"] == 124 and bar["width"] == 500 for bar in bars)


@pytest.mark.parametrize(
    ("current", "key", "found"),
    [
        (None, "ArrowRight", 0),
        (None, "ArrowLeft", 3),
        (0, "ArrowRight", 1),
        (1, "ArrowRight", 2),
        (2, "ArrowRight", 2),
        (0, "ArrowDown", 1),
        (1, "ArrowDown", 3),
        (3, "ArrowUp", 1),
        (0, "ArrowUp", 0),
    ],
)
def test_arrows_move_along_a_level_and_between_lanes(current: int | None, key: str, found: int) -> None:
    moved = ran("say(panel.neighbour(columns, [0, 1, 2, 3], given.current, given.key));",
                columns=FILES, current=current, key=key)  # fmt: skip

    assert moved == found


def test_a_click_finds_the_file_below_it_and_none_beside() -> None:
    bars = [
        {"number": 5, "x": 10, "y": 10, "width": 20, "height": 8},
        {"number": 6, "x": 24, "y": 10, "width": 4, "height": 8},
    ]

    found = ran("say([[12, 12], [26, 14], [60, 12]].map(([x, y]) => panel.hit(given.bars, x, y)));", bars=bars)

    assert found == [5, 6, None]


@pytest.mark.parametrize("zone", [None, "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("span", [90_000, 5 * 3_600_000, 40 * 86_400_000, 900 * 86_400_000])
def test_round_times_are_where_the_static_picture_has_them(span: int, zone: str | None) -> None:
    first = 1_372_636_800_000 + 12_345_678

    found = ran(
        "say(panel.ticks(given.first, given.first + given.span, given.zone, 8));", first=first, span=span, zone=zone
    )

    assert [(tick["at"], tick["label"]) for tick in found] == time_ticks(first, first + span, zone, 8)


def test_no_span_has_too_many_round_times() -> None:
    found = ran("say([1, 1e6, 1e12, 1e19].map((span) => panel.ticks(-span, span, null, 8).length));")

    assert all(2 <= count <= 10 for count in found)


def test_times_that_no_calendar_has_are_written_as_numbers() -> None:
    assert ran("say(panel.moment(9e18, null));") == "9.000e+18"


def test_sizes_are_written_as_in_the_static_picture() -> None:
    sizes = [0, 999, 1_000, 12_345, 99_950, 1_250_000_000]

    assert ran("say(given.sizes.map(panel.bytes));", sizes=sizes) == [format_bytes(size) for size in sizes]


def test_encodings_are_said_in_words() -> None:
    given = ["PLAIN, RLE, RLE_DICTIONARY", "DELTA_BINARY_PACKED, RLE", "PLAIN, RLE", "BYTE_STREAM_SPLIT"]

    found = ran("say(given.encodings.map(panel.encodingWords));", encodings=given)

    assert found == ["dictionary", "delta", "plain", "split"]


def test_values_of_a_curve_hold_until_the_next_moment() -> None:
    found = ran("say(panel.curve([0, 10, 1000], [0, 1000], [1, 2], 2, 100, 52));")

    assert found == "0.0,27.0 100.0,27.0 100.0,2.0"


def test_the_strip_has_a_column_for_each_step_of_a_kind() -> None:
    steps = {"step_version": [0, 1, 2, 3], "step_what": [0, 1, 1, 2], "step_bytes_out": [0, 100, 25, 100]}

    path = ran("say(panel.stripPath(columns, (what) => what, 1, 400, 34));", columns=steps)

    assert path == "M100 34v-33h99.00v33.0zM200 34v-18h99.00v18.0z"


def test_lengths_of_time_have_the_largest_unit_that_divides_them() -> None:
    lengths = [7 * 86_400_000, 86_400_000, 7_200_000, 90_000, 35, 1_530]

    assert ran("say(given.lengths.map(panel.duration));", lengths=lengths) == [
        "1 w",
        "1 d",
        "2 h",
        "90 s",
        "35 ms",
        "1.5 s",
    ]
