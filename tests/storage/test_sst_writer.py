from __future__ import annotations

import io
import json
import random
from dataclasses import replace

import google_crc32c
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import HOST, REGION, Row, batch_of, delete, file_id_of, metadata_of, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, FIELD_TYPES, ROWS, same_bits

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import Batch
from mitoframe.model.predicate import ColumnStats
from mitoframe.model.schema import RegionMetadata
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_writer import (
    REGION_KEY,
    SERIES_KEY,
    SST_FORMAT,
    TAG_CHARACTERS_MAX,
    decode_sst,
    encode_sst,
    leading_tags,
    store_sst,
    write_sst,
)

METADATA = metadata_of({"host": pa.string(), "rack": pa.int16()}, {"cpu": pa.float64(), "note": pa.string()})
FILE_SCHEMA = pa.schema([*METADATA.arrow_schema(), ("__sequence", pa.uint64()), ("__op_type", pa.uint8())])
ROWS_WRITTEN = [
    Row(1, 1000, ("b", 1), (1.5, "x")),
    Row(2, 2000, (None, 2), (None, "")),
    Row(3, -500, ("a", None), (float("nan"), None)),
    Row(4, 500, ("a", None), (-0.0, "y")),
    Row(9, 1500, ("a", None), (None, None), delete(0, 0).op_type),
]
STRINGS = pa.list_(pa.string())
DECIMALS = random.Random(7).choices([n / 10 for n in range(200)], k=4000)


def write(metadata: RegionMetadata, batch: Batch, row_group_rows: int = 2):
    store = MemoryObjectStore()
    file = write_sst(
        store,
        metadata,
        sort_batches([batch]),
        file_id=file_id_of("a"),
        level=1,
        row_group_rows=row_group_rows,
        created_ms=77,
    )
    return file, store.get(sst_key(REGION, file_id_of("a")))


@pytest.fixture(scope="module")
def written():
    return write(METADATA, batch_of(METADATA, ROWS_WRITTEN))


def every_type():
    metadata = metadata_of(fields=FIELD_TYPES)
    rows = batch_of(metadata, [Row(n + 1, n, fields=(None,) * len(COLUMNS)) for n in range(ROWS)])
    fields = pa.RecordBatch.from_arrays(list(COLUMNS.values()), names=list(COLUMNS))
    return metadata, Batch(**{name: getattr(rows, name) for name in rows.__slots__} | {"fields": fields})


def test_the_manifest_is_told_what_is_in_the_file(written):
    file, data = written

    assert (file.size_bytes, file.checksum) == (len(data), google_crc32c.value(data))
    assert (file.row_count, file.delete_count, file.series_count, file.row_group_count) == (5, 1, 3, 3)
    assert (file.min_time, file.max_time, file.min_sequence, file.max_sequence) == (-500, 2000, 1, 9)
    assert (file.level, file.schema_version, file.created_ms) == (1, 1, 77)
    assert file.leading_tags == (ColumnStats(minimum="a", maximum="b", null_count=1, row_count=3),)
    assert file.nan_columns == (METADATA.fields[0].column_id,)


def test_rows_lie_in_the_order_of_tags_and_time(written):
    _, data = written

    table = pq.read_table(pa.BufferReader(data))

    assert table.column("host").to_pylist() == [None, "a", "a", "a", "b"]
    assert table.column("rack").to_pylist() == [2, None, None, None, 1]
    assert table.column("ts").cast(pa.int64()).to_pylist() == [2000, -500, 500, 1500, 1000]
    assert table.column("__sequence").to_pylist() == [2, 3, 4, 9, 1]
    assert table.column("__op_type").to_pylist() == [1, 1, 1, 0, 1]


def test_pyarrow_sees_plain_columns(written):
    _, data = written

    schema = pq.ParquetFile(pa.BufferReader(data)).schema_arrow

    assert schema.names == ["host", "rack", "ts", "cpu", "note", "__sequence", "__op_type"]
    assert schema.field("host").type == pa.large_string()
    assert schema.field("__sequence").type == pa.uint64()
    assert schema.field("__op_type").type == pa.uint8()


def test_polars_sees_tags_as_strings(written):
    _, data = written

    frame = pl.read_parquet(io.BytesIO(data))

    assert frame.schema == {
        "host": pl.String,
        "rack": pl.Int16,
        "ts": pl.Datetime("ms"),
        "cpu": pl.Float64,
        "note": pl.String,
        "__sequence": pl.UInt64,
        "__op_type": pl.UInt8,
    }
    assert frame["host"].to_list() == [None, "a", "a", "a", "b"]


def test_polars_skips_row_groups_by_a_tag(written):
    _, data = written

    found = pl.scan_parquet(io.BytesIO(data)).filter(pl.col("host") == "b").select("cpu").collect()

    assert found["cpu"].to_list() == [1.5]


def test_the_footer_says_how_the_rows_are_sorted(written):
    _, data = written
    parquet = pq.ParquetFile(pa.BufferReader(data)).metadata

    for number in range(parquet.num_row_groups):
        order, nulls = pq.SortingColumn.to_ordering(FILE_SCHEMA, parquet.row_group(number).sorting_columns)
        assert order == (
            ("host", "ascending"),
            ("rack", "ascending"),
            ("ts", "ascending"),
            ("__sequence", "descending"),
        )
        assert nulls == "at_start"


def test_a_list_field_does_not_shift_the_sorting_columns():
    metadata = metadata_of(fields={"samples": pa.list_(pa.int64()), "cpu": pa.int64()})
    _, data = write(metadata, batch_of(metadata, [Row(1, 1, fields=([1, 2], 5))]))
    parquet = pq.ParquetFile(pa.BufferReader(data))

    named = [
        parquet.metadata.row_group(0).column(c.column_index).path_in_schema
        for c in parquet.metadata.row_group(0).sorting_columns
    ]

    assert named == ["host", "ts", "__sequence"]


def test_the_footer_holds_the_region_and_the_place_of_the_series_index(written):
    _, data = written
    entries = pq.ParquetFile(pa.BufferReader(data)).metadata.metadata

    region = json.loads(entries[REGION_KEY.encode()])
    offset, length, checksum = map(int, entries[SERIES_KEY.encode()].split(b","))

    assert region["format"] == SST_FORMAT
    assert RegionMetadata.from_json(region["metadata"]) == METADATA
    assert google_crc32c.value(data[offset : offset + length]) == checksum


def test_every_page_has_a_checksum():
    metadata = metadata_of()
    _, data = write(
        metadata, batch_of(metadata, [put(n, n, cpu=n % 99 * 7919) for n in range(1, 200)]), row_group_rows=200
    )
    parquet = pq.ParquetFile(pa.BufferReader(data))
    chunk = parquet.metadata.row_group(0).column(2)
    found_by_checksum = 0

    for place in range(chunk.dictionary_page_offset, chunk.dictionary_page_offset + chunk.total_compressed_size, 5):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            rows = pq.ParquetFile(pa.BufferReader(damaged), page_checksum_verification=True).read(columns=["cpu"])
        except OSError as error:
            found_by_checksum += "CRC checksum" in str(error)
        else:
            # A page's header is not covered, but a wrong count of values in it does not go unnoticed.
            assert rows.equals(parquet.read(columns=["cpu"])) or len(rows) != 199

    assert found_by_checksum > 50


def test_every_kept_type_is_read_by_pyarrow_bit_by_bit():
    metadata, batch = every_type()
    _, data = write(metadata, batch)

    table = pq.read_table(pa.BufferReader(data))

    assert table.schema.types[2:-2] == list(FIELD_TYPES.values())
    assert [n for n in COLUMNS if not same_bits(table.column(n).combine_chunks(), COLUMNS[n])] == []


def test_every_kept_type_is_read_by_polars_as_it_reads_arrow():
    metadata, batch = every_type()
    _, data = write(metadata, batch)

    frame = pl.read_parquet(io.BytesIO(data))

    wanted = pl.from_arrow(pa.table(COLUMNS))
    assert frame.select(list(COLUMNS)).equals(wanted)
    assert frame.select(list(COLUMNS)).schema == wanted.schema


def test_a_column_is_nullable_only_if_it_holds_a_null(written):
    _, data = written

    schema = pq.ParquetFile(pa.BufferReader(data)).schema

    assert {schema.column(n).name for n in range(7) if schema.column(n).max_definition_level} == {
        "host",
        "rack",
        "cpu",
        "note",
    }


def test_a_column_whose_last_rows_alone_are_null_is_nullable_from_the_first_row_group_on():
    metadata = metadata_of()
    _, data = write(metadata, batch_of(metadata, [put(1, 1), put(2, 2), put(3, 3, cpu=None)]), row_group_rows=1)

    assert pq.read_table(pa.BufferReader(data)).column("cpu").null_count == 1


@pytest.mark.parametrize(("cpu_of", "has_dictionary"), [(lambda n: n % 5, True), (lambda n: n, False)])
def test_a_field_has_a_dictionary_only_if_its_values_repeat(cpu_of, has_dictionary):
    metadata = metadata_of()
    _, data = write(metadata, batch_of(metadata, [put(n, n, cpu=cpu_of(n)) for n in range(1, 50)]), row_group_rows=50)

    chunk = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(2)

    assert chunk.has_dictionary_page == has_dictionary


@pytest.mark.parametrize(
    ("data_type", "level", "value_of", "encoding"),
    [
        (pa.float64(), 0, lambda n: float(n % 50), "BYTE_STREAM_SPLIT"),
        (pa.float32(), 0, lambda n: float(n % 50), "BYTE_STREAM_SPLIT"),
        (pa.float64(), 0, lambda n: 100 + n / 1024, "BYTE_STREAM_SPLIT"),
        (pa.float64(), 0, lambda n: DECIMALS[n], "RLE_DICTIONARY"),
        (pa.float64(), 1, lambda n: float(n % 50), "RLE_DICTIONARY"),
        (pa.int64(), 0, lambda n: n % 50, "RLE_DICTIONARY"),
        (pa.int64(), 0, lambda n: n, "PLAIN"),
    ],
)
def test_floats_of_flushed_files_are_split_into_streams_where_that_takes_little_room(
    data_type, level, value_of, encoding
):
    metadata = metadata_of(fields={"cpu": data_type})
    values = [value_of(n) for n in range(1, 4000)]
    batch = batch_of(metadata, [put(n, n, cpu=value) for n, value in enumerate(values, 1)])

    parquet = pq.ParquetFile(pa.BufferReader(encode_sst(metadata, batch, 2000, level=level).data))

    assert encoding in parquet.metadata.row_group(0).column(2).encodings
    assert parquet.read().column("cpu").to_pylist() == pa.array(values, data_type).to_pylist()
    assert pl.read_parquet(io.BytesIO(encode_sst(metadata, batch, 2000, level=level).data))["cpu"].to_list() == (
        pa.array(values, data_type).to_pylist()
    )


def test_a_flushed_field_of_nulls_alone_reads_as_such():
    metadata = metadata_of(fields={"cpu": pa.float64()})
    batch = batch_of(metadata, [put(n, n, cpu=None) for n in range(1, 9)])

    parquet = pq.ParquetFile(pa.BufferReader(encode_sst(metadata, batch, 3).data))

    assert parquet.read().column("cpu").null_count == 8


@pytest.mark.parametrize(("level", "regular", "random"), [(0, "LZ4", "LZ4"), (1, "ZSTD", "UNCOMPRESSED")])
def test_flushed_files_are_packed_fast_and_compacted_ones_where_it_saves_room(level, regular, random):
    metadata = metadata_of(fields={"steady": pa.int64(), "noise": pa.int64(), "few": pa.int64(), "names": STRINGS})
    noise = np.random.default_rng(1).integers(-(2**62), 2**62, 3_000).tolist()
    rows = [Row(n + 1, n, ("a",), (n // 100, noise[n], noise[n] % 8, ["x", "y"])) for n in range(3_000)]
    store = MemoryObjectStore()

    write_sst(
        store,
        metadata,
        batch_of(metadata, rows),
        file_id=file_id_of("a"),
        level=level,
        row_group_rows=2_000,
        created_ms=0,
    )

    parquet = pq.ParquetFile(pa.BufferReader(store.get(sst_key(REGION, file_id_of("a"))))).metadata
    for row_group in map(parquet.row_group, range(2)):
        columns = (row_group.column(n) for n in range(row_group.num_columns))
        codecs = {column.path_in_schema.split(".")[0]: column.compression for column in columns}
        assert (codecs["steady"], codecs["names"]) == (regular, regular)
        assert (codecs["noise"], codecs["few"]) == (random, random)


def test_a_group_of_rows_is_no_larger_than_asked_for():
    metadata = metadata_of()
    file, data = write(metadata, batch_of(metadata, [put(n, n) for n in range(1, 8)]), row_group_rows=3)
    parquet = pq.ParquetFile(pa.BufferReader(data)).metadata

    assert [parquet.row_group(i).num_rows for i in range(parquet.num_row_groups)] == [3, 3, 1]
    assert file.row_group_count == 3


@pytest.mark.parametrize("metadata", [metadata_of({}), metadata_of(HOST, {}), metadata_of({}, {})])
def test_a_region_without_tags_or_fields_makes_a_file_too(metadata):
    row = Row(1, 5, ("a",) if metadata.tags else (), (7,) if metadata.fields else ())

    file, data = write(metadata, batch_of(metadata, [row]))

    assert pl.read_parquet(io.BytesIO(data)).columns == [*metadata.names, "__sequence", "__op_type"]
    assert (file.row_count, file.series_count) == (1, 1)


def test_a_file_is_never_empty_and_never_written_twice():
    store = MemoryObjectStore()
    known = {"file_id": file_id_of("a"), "level": 0, "row_group_rows": 2, "created_ms": 0}
    metadata = metadata_of()
    write_sst(store, metadata, batch_of(metadata, [put(1, 1)]), **known)

    with pytest.raises(AssertionError):
        write_sst(store, metadata, batch_of(metadata, []), **known)
    with pytest.raises(FileExistsError):
        write_sst(store, metadata, batch_of(metadata, [put(1, 1)]), **known)


def test_an_sst_that_was_encoded_early_is_stored_as_the_one_that_is_written_at_once(written):
    store = MemoryObjectStore()

    encoded = encode_sst(METADATA, sort_batches([batch_of(METADATA, ROWS_WRITTEN)]), 2, level=1)
    file = store_sst(store, METADATA, encoded, file_id=file_id_of("a"), level=1, created_ms=77)

    assert (file, store.get(sst_key(REGION, file_id_of("a")))) == written
    assert encoded.data.to_pybytes() == written[1]


def test_an_sst_of_another_schema_is_not_stored():
    encoded = encode_sst(METADATA, sort_batches([batch_of(METADATA, ROWS_WRITTEN)]), 2)

    with pytest.raises(AssertionError):
        store_sst(
            MemoryObjectStore(),
            replace(METADATA, schema_version=2),
            encoded,
            file_id=file_id_of("a"),
            level=0,
            created_ms=0,
        )


@pytest.mark.parametrize("row_group_rows", [1, 2, 100])
def test_what_was_encoded_is_decoded_in_order_with_markers_and_sequences(row_group_rows):
    rows = sort_batches([batch_of(METADATA, [row for row in ROWS_WRITTEN if row.sequence != 3])])

    decoded = decode_sst(METADATA, encode_sst(METADATA, rows, row_group_rows))

    assert rows_of(decoded) == rows_of(rows)
    assert decoded.series.equals(rows.series)


def test_every_kept_type_is_decoded_bit_by_bit():
    metadata, batch = every_type()

    decoded = decode_sst(metadata, encode_sst(metadata, sort_batches([batch]), 2))

    assert decoded.fields.schema.types == list(FIELD_TYPES.values())
    assert [n for n in COLUMNS if not same_bits(decoded.fields.column(n), COLUMNS[n])] == []


@pytest.mark.parametrize("metadata", [metadata_of({}), metadata_of(HOST, {}), metadata_of({}, {})])
def test_rows_without_tags_or_fields_are_decoded_too(metadata):
    row = Row(1, 5, ("a",) if metadata.tags else (), (7,) if metadata.fields else ())
    batch = sort_batches([batch_of(metadata, [row])])

    assert rows_of(decode_sst(metadata, encode_sst(metadata, batch, 10))) == [row]


# --- what the manifest is told of tags and NaN --------------------------------------------------------------

letters = st.sampled_from(["a", "b", "\ud7ff", "\ue000", "\U0010ffff"])
long_texts = st.builds(
    lambda first, times, rest: first * times + rest,
    letters,
    st.integers(TAG_CHARACTERS_MAX - 2, TAG_CHARACTERS_MAX + 1),
    st.text(letters, max_size=3),
)
tag_tuples = st.tuples(st.sampled_from(["a", "b"]) | long_texts | st.none(), st.integers(-2, 2) | st.none())


@settings(deadline=None, max_examples=120)
@given(st.lists(tag_tuples, min_size=1, max_size=4))
def test_bounds_of_tags_hold_all_of_them_and_are_short(tuples):
    columns = [pa.array(values, kind) for values, kind in zip(zip(*tuples, strict=True), TAG_TYPES, strict=True)]

    known = leading_tags(pa.RecordBatch.from_arrays(columns, names=["host", "rack"]))

    assert len(known) == (2 if len({host for host, _ in tuples}) == 1 else 1)
    for stats, values in zip(known, zip(*tuples, strict=True), strict=False):
        there = [value for value in values if value is not None]
        assert (stats.null_count, stats.row_count) == (len(values) - len(there), len(values))
        assert all(stats.minimum <= value and (stats.maximum is None or value <= stats.maximum) for value in there)
        assert len(json.dumps([stats.minimum, stats.maximum])) <= 2 * 12 * TAG_CHARACTERS_MAX + 10
        if isinstance(stats.maximum, str):
            stats.maximum.encode()
        if all(len(str(value)) <= TAG_CHARACTERS_MAX for value in there) and there:
            assert (stats.minimum, stats.maximum) == (min(there), max(there))


TAG_TYPES = (pa.large_string(), pa.int16())
FLOATS = {"half": pa.float16(), "single": pa.float32(), "double": pa.float64()}
numbers = st.sampled_from([0.0, -1.5, float("inf"), -float("inf"), float("nan"), None])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8), st.integers(1, 4))
def test_the_columns_with_nan_are_named_whatever_lies_under_nulls(values, row_group_rows):
    metadata = metadata_of(fields=FLOATS)
    rows = batch_of(metadata, [Row(n + 1, n, fields=(0.0, 0.0, 0.0)) for n in range(len(values))])
    columns = list(zip(*values, strict=True))
    arrays = [with_nan_under_nulls(column, kind) for column, kind in zip(columns, FLOATS.values(), strict=True)]
    batch = replace(rows, fields=pa.RecordBatch.from_arrays(arrays, names=list(FLOATS)))

    encoded = encode_sst(metadata, batch, row_group_rows)

    expected = [
        field.column_id
        for field, column in zip(metadata.fields, columns, strict=True)
        if any(value is not None and value != value for value in column)
    ]
    assert list(encoded.nan_columns) == expected


def with_nan_under_nulls(values, kind: pa.DataType) -> pa.Array:
    numbers = np.array([float("nan") if value is None else value for value in values], dtype=kind.to_pandas_dtype())
    return pa.Array.from_pandas(numbers, mask=np.array([value is None for value in values]), type=kind)
