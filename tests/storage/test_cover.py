"""What values of a tag cover in a file, against a look at every row of it."""

from __future__ import annotations

import json
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
import pytest
from builders import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.storage import cover
from mitoframe.storage.cover import VALUES_MAX, cover_of, cover_said, covers, cut, said_of

series = st.lists(st.tuples(st.sampled_from(["a", "ü", "", None]), st.integers(1, 5)), min_size=1, max_size=8)


@st.composite
def files(draw):
    """Draw the value of each series and its rows, and the row groups with the times of each."""
    drawn = draw(series)
    row_count = sum(rows for _, rows in drawn)
    starts = [0, *sorted(draw(st.sets(st.integers(1, row_count), max_size=4)) - {row_count}), row_count]
    ends = st.tuples(st.integers(-20, 20), st.integers(0, 6))
    times = [(first, first + long) for first, long in (draw(ends) for _ in starts[1:])]
    return [value for value, _ in drawn], [rows for _, rows in drawn], starts, times


def by_rows(values, rows, starts, times):
    """Return the stretches, row by row: each covers the times of its row group."""
    of_rows = [value for value, count in zip(values, rows, strict=True) for _ in range(count)]
    group_of = [number for number, (start, end) in enumerate(pairwise(starts)) for _ in range(end - start)]
    found = []
    for value in set(values):
        groups = [group for of, group in zip(of_rows, group_of, strict=True) if of == value]
        stretches: list[list[int]] = []
        for (first, last), some in groupby(sorted(times[group] for group in groups)):
            count = len(list(some))
            if stretches and first <= stretches[-1][1]:
                stretches[-1][1] = max(stretches[-1][1], last)
                stretches[-1][2] += count
            else:
                stretches.append([first, last, count])
        found += [(value, *stretch) for stretch in stretches]
    return sorted(found, key=repr)


def columns_of(found):
    columns = (found.values.to_pylist(), found.starts.tolist(), found.ends.tolist(), found.row_counts.tolist())
    return sorted(zip(*columns, strict=True), key=repr)


@settings(deadline=None, max_examples=200)
@given(files(), st.sampled_from([0, 4]))
def test_stretches_are_those_of_the_rows(file, few_cells):
    values, rows, starts, times = file
    offsets = np.concatenate([[0], np.cumsum(rows)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cover, "_FEW_CELLS", few_cells)
        found = cover_of(pa.array(values, pa.large_string()), cut(offsets, np.array(starts), times))

    assert columns_of(found) == by_rows(values, rows, starts, times)


@settings(deadline=None, max_examples=100)
@given(st.lists(files(), min_size=1, max_size=3))
def test_what_the_manifest_says_of_several_files_is_what_they_cover(several):
    listed, expected = [], []
    for number, (values, rows, starts, times) in enumerate(several):
        pieces = cut(np.concatenate([[0], np.cumsum(rows)]), np.array(starts), times)
        tags = pa.RecordBatch.from_arrays([pa.array(values, pa.large_string())], names=["host"])
        ends = min(first for first, _ in times), max(last for _, last in times)
        listed.append(file_of(str(number), *ends, covers=covers(tags, pieces)))
        expected.append(columns_of(cover_of(tags.column(0), pieces)))

    counts, found = cover_said(listed, [said_of(file, 0) for file in listed], pa.large_string())

    assert counts.tolist() == [len(each) for each in expected]
    assert columns_of(found) == sorted((entry for each in expected for entry in each), key=repr)
    assert found.values.type == pa.large_string()


PLAIN = {pa.int16(): [3, -4], pa.bool_(): [True, False], pa.string(): ["x", None]}
MANY = {"the last tag": [0] * 200 + list(range(VALUES_MAX + 1)), "the first tag": sorted(list(range(99)) * 2000)}


@pytest.mark.parametrize("data_type", PLAIN, ids=str)
def test_what_json_has_is_told_with_its_type(data_type):
    tags = pa.RecordBatch.from_arrays([pa.array(PLAIN[data_type], data_type)], names=["tag"])

    said = json.loads(covers(tags, cut(np.arange(3), np.array([0, 2]), [(5, 9)])))

    assert said == {"0": [PLAIN[data_type], [1, 1]]}


@pytest.mark.parametrize(
    "column", [pa.array([1, 2], pa.date32()), pa.array(["long" * 200, "b"])], ids=["dates", "long"]
)
def test_what_has_no_place_in_the_manifest_is_left_out_and_the_rest_is_told(column):
    tags = pa.RecordBatch.from_arrays([column, pa.array(["x", "x"])], names=["left out", "told"])

    assert covers(tags, cut(np.arange(3), np.array([0, 2]), [(5, 9)])) == '{"1":[["x"],[2]]}'


@pytest.mark.parametrize("place", MANY)
def test_tags_of_many_values_are_left_out(place):
    values = MANY[place]
    tags = pa.RecordBatch.from_arrays([pa.array(values, pa.int16())], names=["host"])

    assert covers(tags, cut(np.arange(len(values) + 1), np.array([0, len(values)]), [(5, 9)])) == ""


def test_a_file_may_hold_the_first_and_the_last_time_there_is():
    ends = -(2**63), 2**63 - 1
    tags = pa.RecordBatch.from_arrays([pa.array(["a", "b"], pa.large_string())], names=["host"])
    times = [(ends[0], ends[0] + 1), (ends[1] - 1, ends[1])]
    file = file_of("a", *ends, covers=covers(tags, cut(np.arange(3), np.arange(3), times)))

    _, found = cover_said([file], [said_of(file, 0)], pa.large_string())

    assert columns_of(found) == [("a", *times[0], 1), ("b", *times[1], 1)]
