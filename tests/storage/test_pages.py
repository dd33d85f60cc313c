"""Some rows of a row group, by its pages: they are those that the whole row group has."""

from __future__ import annotations

from dataclasses import replace

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from builders import REGION, Row, batch_of, file_id_of, metadata_of, put
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, ROWS, same_bits

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import Batch, gather
from mitoframe.model.errors import CorruptionError
from mitoframe.model.file import FileMeta
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN, RegionMetadata
from mitoframe.storage import sst_writer
from mitoframe.storage.cache import Cache
from mitoframe.storage.pages import SomeRows
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader, unpacked
from mitoframe.storage.sst_writer import write_sst

KEY = sst_key(REGION, file_id_of("a"))
INTERNAL = (SEQUENCE_COLUMN, OP_TYPE_COLUMN)
NOT_BY_PAGES = {"bool", "string", "binary", "decimal", "decimal_wide", "list", "nested"}
"""What Arrow reads whole, and the cache keeps."""
ROW_GROUP_ROWS = ROWS + 3


def stored(
    metadata: RegionMetadata, batch: Batch, *, level: int = 1, page_rows: int = 4, row_group_rows: int = 1_000_000
) -> tuple[bytes, FileMeta]:
    """Write a file."""
    store = MemoryObjectStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sst_writer, "PAGE_ROWS", page_rows)
        file = write_sst(
            store,
            metadata,
            sort_batches([batch]),
            file_id=file_id_of("a"),
            level=level,
            row_group_rows=row_group_rows,
            created_ms=0,
        )
    return store.get(KEY), file


def reader_of(data: bytes) -> SstReader:
    store = MemoryObjectStore()
    store.put_if_absent(KEY, data)
    return SstReader(store, Cache(1 << 24))


def some_rows(
    reader: SstReader,
    metadata: RegionMetadata,
    file: FileMeta,
    starts: list[int],
    stops: list[int],
    row_group_rows: int = 1_000_000,
):
    names = [column.name for column in metadata.fields]
    wanted = []
    for number in range(file.row_group_count):
        first, end = number * row_group_rows, (number + 1) * row_group_rows
        some = [(max(a, first) - first, min(b, end) - first) for a, b in zip(starts, stops, strict=True)]
        if some := [(a, b) for a, b in some if a < b]:
            wanted.append(SomeRows(number, *map(np.array, zip(*some, strict=True))))
    times = reader.some_times(metadata, file, wanted)
    return reader.some_rows(metadata, file, wanted, names, INTERNAL, times)


def file_of_every_type(**settings: int) -> tuple[RegionMetadata, bytes, FileMeta]:
    """A file with a column of each kind that is kept, and again without its nulls; repeated, so that pages differ."""
    without = {
        f"{name}_without": pc.fill_null(column, _some(column)) for name, column in COLUMNS.items() if _some(column)
    }
    columns = {name: pa.concat_arrays([column] * 5) for name, column in (COLUMNS | without).items()}
    metadata = metadata_of(fields={name: column.type for name, column in columns.items()})
    rows = [Row(n + 1, n // 7 * 1000 + n, fields=(None,) * len(columns)) for n in range(5 * ROWS)]
    numbers = batch_of(metadata, rows)
    batch = replace(numbers, fields=pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)))
    return metadata, *stored(metadata, batch, **settings)


@pytest.fixture(scope="module", params=[0, 1], ids=["flushed", "compacted"])
def every_type(request: pytest.FixtureRequest) -> tuple[RegionMetadata, bytes, FileMeta]:
    return file_of_every_type(level=request.param)


@pytest.fixture(scope="module")
def every_type_cut() -> tuple[RegionMetadata, bytes, FileMeta]:
    """The same in row groups that begin elsewhere among the values, so that their dictionaries differ."""
    return file_of_every_type(row_group_rows=ROW_GROUP_ROWS)


def _some(column: pa.Array) -> pa.Scalar | None:
    if pa.types.is_nested(column.type):
        return None
    return next((value for value in column if value.is_valid), None)


@given(edges=st.sets(st.integers(0, 5 * ROWS), min_size=2, max_size=10).map(sorted))
@settings(deadline=None, max_examples=60)
def test_some_rows_are_bit_by_bit_those_of_the_whole_row_group(every_type, edges):
    metadata, data, file = every_type
    edges = edges[: len(edges) // 2 * 2]
    starts, stops = edges[::2], edges[1::2]
    names = list(metadata.fields_schema.names)
    take = np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])

    found = some_rows(reader_of(data), metadata, file, starts, stops)

    whole = reader_of(data).row_group(metadata, file, 0, names, INTERNAL)
    assert found.times.tolist() == whole.times[take].tolist()
    assert found.sequences.tolist() == gather(whole.sequences, pa.array(take)).tolist()
    assert found.op_types.tolist() == whole.op_types[take].tolist()
    fields, expected = found.fields(found.stored), whole.fields(whole.stored).take(pa.array(take))
    assert fields.schema == expected.schema
    assert [name for name in names if not same_bits(fields.column(name), expected.column(name))] == []


@given(edges=st.sets(st.integers(0, 5 * ROWS), min_size=2, max_size=10).map(sorted))
@settings(deadline=None, max_examples=60)
def test_rows_of_several_row_groups_are_read_as_if_they_were_of_one(every_type, every_type_cut, edges):
    edges = edges[: len(edges) // 2 * 2]
    found = [
        some_rows(reader_of(data), metadata, file, edges[::2], edges[1::2], rows)
        for (metadata, data, file), rows in ((every_type, 1_000_000), (every_type_cut, ROW_GROUP_ROWS))
    ]

    whole, cut = (each.fields(each.stored) for each in found)
    assert found[0].times.tolist() == found[1].times.tolist()
    assert [name for name in whole.schema.names if not same_bits(whole.column(name), cut.column(name))] == []


def test_numbers_are_read_by_pages_and_nothing_of_them_is_kept(every_type):
    metadata, data, file = every_type
    reader = reader_of(data)

    some_rows(reader, metadata, file, [3], [9])

    kept = {name for name in metadata.fields_schema.names if reader.cache.holds("chunks", file.file_id, (0, name))}
    assert {name.removesuffix("_without") for name in kept} == NOT_BY_PAGES
    use = {each.kind: each for each in reader.cache.use()}
    assert use["pages"].entry_count == len(metadata.fields) - len(kept) + 3, "and the times, and the internal columns"


def test_what_is_kept_is_not_read_again():
    metadata = metadata_of(fields={"cpu": pa.int64(), "mem": pa.float64()})
    rows = [Row(n + 1, n, ("a",), (n % 3, n * 0.5)) for n in range(20)]
    data, file = stored(metadata, batch_of(metadata, rows))
    reader = reader_of(data)
    for _ in range(2):  # A first look keeps nothing.
        reader.row_group(metadata, file, 0, ["cpu"])

    found = some_rows(reader, metadata, file, [2, 11], [5, 12])

    assert unpacked(found.stored.column("cpu")).to_pylist() == [2, 0, 1, 2]
    assert unpacked(found.stored.column("mem")).to_pylist() == [1.0, 1.5, 2.0, 5.5]
    assert (found.kept, found.read) == (1, 3), "the times were asked for before, by themselves"


def test_a_field_that_was_added_retyped_or_dropped_since_is_as_it_is_today():
    then = metadata_of(fields={"cpu": pa.int32(), "gone": pa.int64()})
    rows = [Row(n + 1, n, ("a",), (n, -n)) for n in range(20)]
    data, file = stored(then, batch_of(then, rows))
    cpu, gone = then.fields
    columns = [column for column in then.columns if column is not gone]
    columns[columns.index(cpu)] = replace(cpu, type=pa.int64(), name="load")
    today = replace(
        then,
        columns=(*columns, replace(gone, column_id=99, name="gone", type=pa.string())),
        schema_version=then.schema_version + 1,
    )

    found = some_rows(reader_of(data), today, file, [4], [7])

    fields = found.fields(found.stored)
    assert fields.schema == pa.schema({"load": pa.int64(), "gone": pa.string()})
    assert fields.to_pydict() == {"load": [4, 5, 6], "gone": [None] * 3}


@pytest.mark.parametrize("page", [0, 1, 2])
def test_a_page_that_changed_after_it_was_compared_is_told_before_it_is_unpacked(page):
    metadata = metadata_of(fields={"cpu": pa.int64()})
    rows = [Row(n + 1, n, ("a",), (n * n,)) for n in range(12)]
    data, file = stored(metadata, batch_of(metadata, rows))
    column = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(2)
    assert column.path_in_schema == "cpu"
    store = MemoryObjectStore()
    store.put_if_absent(KEY, data)
    reader = SstReader(store, Cache(1 << 24))
    some_rows(reader, metadata, file, [0], [12])
    damaged = bytearray(data)
    first = damaged.index(bytes(np.arange(4 * page, 4 * page + 4, dtype="<i8") ** 2))
    damaged[first] ^= 1

    store.delete(KEY)
    store.put_if_absent(KEY, bytes(damaged))

    with pytest.raises(CorruptionError, match="page") as raised:
        some_rows(reader, metadata, file, [4 * page], [4 * page + 1])
    assert KEY in str(raised.value)
    untouched = 4 * ((page + 1) % 3)
    assert some_rows(reader, metadata, file, [untouched], [untouched + 1]).stored.column("cpu").to_pylist() == [
        untouched**2
    ]


def test_damage_is_told_before_anything_is_read():
    metadata = metadata_of(fields={"cpu": pa.int64()})
    data, file = stored(metadata, batch_of(metadata, [put(n + 1, n, "a", n) for n in range(12)]))
    damaged = bytearray(data)
    damaged[len(data) // 3] ^= 4
    assert google_crc32c.value(bytes(damaged)) != file.checksum

    with pytest.raises(CorruptionError, match="not those that were written"):
        some_rows(reader_of(bytes(damaged)), metadata, file, [0], [1])
