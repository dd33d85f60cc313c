"""Files merged as a stream give what merging them whole gives, and hold no more rows than they may."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from builders import Row, batch_of, delete, file_id_of, metadata_of, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import OpType
from mitoframe.model.file import FileMeta
from mitoframe.model.options import Dedup
from mitoframe.model.timerange import TIME_MAX, TIME_MIN, TimeRange
from mitoframe.read import merging
from mitoframe.read.merging import Extent, FilesToMerge, MergedFiles
from mitoframe.storage.runs import merge_rows_of, sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of(fields={"cpu": pa.int64(), "note": pa.string()})
NAMES = ["cpu", "note"]
facts = st.tuples(
    st.sampled_from([None, "a", "b", "c"]),
    st.integers(0, 6),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["", "x"]),
    st.sampled_from([OpType.PUT, OpType.PUT, OpType.DELETE]),
)
files_of_rows = st.lists(st.lists(facts, min_size=1, max_size=20), min_size=1, max_size=5)


def stored(store: MemoryObjectStore, files: list[list[Any]], row_group_rows: int) -> list[FileMeta]:
    """Write each list as a file of all its versions, sequences rising from file to file."""
    made, sequence = [], 0
    for number, rows in enumerate(files):
        batch = []
        for host, time, cpu, note, op_type in rows:
            sequence += 1
            fields = (None, None) if op_type is OpType.DELETE else (cpu, note)
            batch.append(Row(sequence, time, (host,), fields, op_type))
        made.append(
            write_sst(
                store,
                METADATA,
                sort_batches([batch_of(METADATA, batch)], "none"),
                file_id=file_id_of("abcdef"[number]),
                level=0,
                row_group_rows=row_group_rows,
                created_ms=0,
            )
        )
    return made


def whole(reader: SstReader, files: list[FileMeta], dedup: Dedup, *, drop_deletes: bool) -> list[Row]:
    runs = [reader.read(METADATA, file, range(file.row_group_count), NAMES) for file in files]
    return rows_of(merge_rows_of(runs, dedup, drop_deletes=drop_deletes).gather())


@settings(deadline=None, max_examples=80)
@given(
    rows=files_of_rows,
    row_group_rows=st.integers(1, 6),
    rows_max=st.integers(1, 9),
    dedup=st.sampled_from(["last", "merge", "none"]),
    drop_deletes=st.booleans(),
    rows_held=st.integers(1, 30),
)
def test_a_stream_is_what_merging_whole_files_gives(
    rows: list[list[Any]], row_group_rows: int, rows_max: int, dedup: Dedup, drop_deletes: bool, rows_held: int
) -> None:
    store = MemoryObjectStore()
    reader = SstReader(store)
    files = stored(store, rows, row_group_rows)
    expected = whole(reader, files, dedup, drop_deletes=drop_deletes)

    inputs = FilesToMerge(METADATA, files, reader)
    merged = MergedFiles(inputs, dedup, drop_deletes=drop_deletes, rows_held=rows_held)

    assert merged.is_empty() == (not expected)
    slices = list(merged.slices(rows_max))
    assert [row for batch in slices for row in rows_of(batch)] == expected
    assert all(len(batch) == rows_max for batch in slices[:-1])
    assert all(batch.series is merged.series for batch in slices)
    for name in set(NAMES) - merged.fields_with_nulls():
        assert not any(batch.fields.column(name).null_count for batch in slices)


@pytest.mark.parametrize("rows_held", [1, 4, 100])
def test_a_key_that_fills_all_that_is_held_is_not_cut_in_two(rows_held: int) -> None:
    store = MemoryObjectStore()
    reader = SstReader(store)
    same_key = [("a", 1, number, None, OpType.PUT) for number in range(7)]
    files = stored(store, [same_key, same_key], row_group_rows=2)

    inputs = FilesToMerge(METADATA, files, reader)
    merged = MergedFiles(inputs, "last", drop_deletes=True, rows_held=rows_held)

    assert [row.sequence for batch in merged.slices(10) for row in rows_of(batch)] == [14]


@pytest.mark.parametrize("files_count", [2, 5])
def test_no_more_rows_are_held_than_may_be_however_many_files_there_are(
    monkeypatch: pytest.MonkeyPatch, files_count: int
) -> None:
    store = MemoryObjectStore()
    reader = SstReader(store)
    starts = range(files_count)
    rows = [[("a", time, time, None, OpType.PUT) for time in range(start, 1000, files_count)] for start in starts]
    files = stored(store, rows, row_group_rows=100)
    monkeypatch.setattr(merging, "ROWS_READ_MIN", 1)
    read, drawn, ahead = [0], 0, []
    original = reader.stream

    def counting(*arguments: Any, **named: Any) -> Any:
        for batch in original(*arguments, **named):
            read[0] += len(batch)
            yield batch

    monkeypatch.setattr(reader, "stream", counting)

    inputs = FilesToMerge(METADATA, files, reader)
    for batch in MergedFiles(inputs, "last", drop_deletes=False, rows_held=20).slices(5):
        drawn += len(batch)
        ahead.append(read[0] - drawn)

    assert drawn == 1000
    assert 0 <= max(ahead) <= 20 + 5, "what may be held, and what waits to fill a slice"


def test_nothing_is_left_of_files_whose_rows_are_all_deleted() -> None:
    store = MemoryObjectStore()
    reader = SstReader(store)
    keep = {"file_id": file_id_of("x"), "level": 0, "row_group_rows": 1, "created_ms": 0}
    small = metadata_of()
    puts = write_sst(store, small, sort_batches([batch_of(small, [put(1, 1), put(2, 2)])]), **keep)
    deletes = write_sst(
        store,
        small,
        sort_batches([batch_of(small, [delete(3, 1), delete(4, 2)])]),
        **keep | {"file_id": file_id_of("y")},
    )

    inputs = FilesToMerge(small, [puts, deletes], reader)
    assert MergedFiles(inputs, "last", drop_deletes=True).is_empty()
    assert not MergedFiles(inputs, "last", drop_deletes=False).is_empty()


@settings(deadline=None, max_examples=60)
@given(
    rows=files_of_rows,
    cut=st.integers(0, 4),
    times=st.lists(st.integers(0, 7), max_size=3),
    is_lean=st.booleans(),
    rows_held=st.integers(1, 30),
)
def test_extents_hold_together_what_there_is_and_each_what_lies_in_it(
    rows: list[list[Any]], cut: int, times: list[int], is_lean: bool, rows_held: int
) -> None:
    store = MemoryObjectStore()
    reader = SstReader(store)
    files = stored(store, rows, row_group_rows=3)
    inputs = FilesToMerge(METADATA, files, reader)
    cuts = [0, min(cut, len(inputs.series)), len(inputs.series)]
    bounds = [TIME_MIN, *sorted(set(times)), TIME_MAX]
    extents = [
        Extent(first=first, last=last, times=TimeRange(*span))
        for first, last in pairwise(cuts)
        for span in pairwise(bounds)
    ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "FETCHED_MAX_BYTES", 0 if is_lean else 1 << 30)
        steps: list[int] = []
        found = {
            extent: [
                row
                for batch in MergedFiles(
                    inputs, "none", drop_deletes=False, extent=extent, rows_held=rows_held, each_step=steps.append
                ).slices(4)
                for row in rows_of(batch)
            ]
            for extent in extents
        }

    hosts = inputs.series.column("host").to_pylist()
    for extent, inside in found.items():
        assert all(extent.times.holds(row.time) for row in inside)
        assert {row.tags[0] for row in inside} <= set(hosts[extent.first : extent.last])
    together = [row for inside in found.values() for row in inside]
    everything = whole(reader, files, "none", drop_deletes=False)
    assert sorted(together, key=lambda row: row.sequence) == sorted(everything, key=lambda row: row.sequence)
    assert sum(steps) == len(everything)
