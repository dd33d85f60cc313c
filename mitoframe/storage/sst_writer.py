"""Sorted rows become one SST: a plain Parquet file that any tool can read.

Columns: tags (strings, dictionary pages), time, fields, ``__sequence`` u64, ``__op_type`` u8. A column without nulls
says so, which spares whoever writes or reads it a level per value. Flushed files are packed with LZ4 and their floats
split into streams of bytes where that costs little room, because a flush may keep a writer waiting; compacted ones are
packed with Zstandard where that saves room, and repeating floats looked up in dictionaries, because they stay and are
read. Pages are small, so that an hour of one series is read without the rest (storage/pages.py). Rows are in the
order (tags nulls first, time, newest first), with ``sorting_columns`` saying so, page checksums written, and three
entries in the footer's key-value metadata:

    ARROW:schema        Arrow's own, with tags as strings: readers see String and not Categorical, which prunes
    mitoframe.region    the region's metadata as JSON, with the SST format version
    mitoframe.series    "offset,length,crc32c" of the series index: Arrow IPC bytes (storage/series.py) that lie between
                        the last row group and the footer, where the format allows any bytes and readers never look
"""

from __future__ import annotations

import base64
import io
import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mitoframe.kernels.series import codes_from_offsets, series_offsets
from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.file import BLOCK_BYTES, FORMER_BLOCK_BYTES, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.memory import POOL
from mitoframe.model.predicate import ColumnStats
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN
from mitoframe.storage.cover import covers, cut
from mitoframe.storage.paths import sst_key
from mitoframe.storage.series import decode_series, encode_series
from mitoframe.storage.sst_bytes import block_checksums

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    import numpy.typing as npt

    from mitoframe.model.batch import Rows
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore

SST_FORMAT = 1
REGION_KEY = "mitoframe.region"
SERIES_KEY = "mitoframe.series"
PAGE_ROWS = 20_000
"""Up to so many rows are in a page: enough to pack well, few enough to unpack for an hour of one series."""
_ZSTD_LEVEL = 1
_ZSTD = {"compression": "zstd", "compression_level": _ZSTD_LEVEL}
_WORTHWHILE = 0.9
"""What packing leaves of a column's bytes, at most; else it is stored as it is."""
_DICTIONARY, _PLAIN, _DELTA, _SPLIT = "DICTIONARY", "PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"
_SAMPLE_ROWS = 4096
_WRITTEN_AT_ONCE_BYTES = 512 * 1024
TAG_CHARACTERS_MAX = 64
"""So much of a tag's text is told to the manifest, which is read whole whenever a table is opened."""
_SPLIT_TIMES = 2.0
"""Splitting floats takes half the time of looking each up in a dictionary; it may take this many times the room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSst:
    """The bytes of an SST that is not stored yet, and what is known of them. Times and sequences are inclusive."""

    data: pa.Buffer
    checksum: int
    blocks: tuple[int, ...]
    row_count: int
    delete_count: int
    series_count: int
    row_group_count: int
    min_time: int
    max_time: int
    min_sequence: Sequence
    max_sequence: Sequence
    schema_version: int
    leading_tags: tuple[ColumnStats, ...]
    nan_columns: tuple[int, ...]
    covers: str


def write_sst(
    store: ObjectStore,
    metadata: RegionMetadata,
    rows: Rows,
    *,
    file_id: FileId,
    level: int,
    row_group_rows: int,
    created_ms: int,
) -> FileMeta:
    """Store sorted rows, at least one, and return what the manifest is to know of them.

    They are encoded while they are stored, so that no more than a few row groups are in memory, of a file of any size.
    What the rows raise is raised here, and nothing is stored.
    """
    facts, blocks = _Facts(metadata, len(rows.series)), _Blocks()
    parts = _encoded_in_blocks(metadata, rows, row_group_rows, facts, level, blocks)
    store.put_parts_if_absent(sst_key(metadata.region_id, file_id), parts)
    return FileMeta(
        file_id=file_id,
        level=level,
        size_bytes=blocks.size_bytes,
        checksum=blocks.checksum,
        blocks=tuple(blocks.checksums) if len(blocks.checksums) > 1 else (),
        block_bytes=BLOCK_BYTES if len(blocks.checksums) > 1 else FORMER_BLOCK_BYTES,
        created_ms=created_ms,
        **facts.told(metadata, rows.series),
    )


def encode_sst(metadata: RegionMetadata, rows: Rows, row_group_rows: int, *, level: int = LEVEL_FLUSHED) -> EncodedSst:
    """Turn sorted rows, at least one, into the bytes of an SST for that level."""
    facts = _Facts(metadata, len(rows.series))
    sink = pa.BufferOutputStream(POOL)
    for _ in _encode(metadata, rows, row_group_rows, facts, level, sink):
        pass
    data = sink.getvalue()
    return EncodedSst(
        data=data,
        checksum=google_crc32c.value(data),
        blocks=block_checksums(data),
        **facts.told(metadata, rows.series),
    )


def store_sst(
    store: ObjectStore, metadata: RegionMetadata, encoded: EncodedSst, *, file_id: FileId, level: int, created_ms: int
) -> FileMeta:
    """Store an SST and return what the manifest is to know of it. Requires: it was encoded with this metadata."""
    assert encoded.schema_version == metadata.schema_version
    store.put_if_absent(sst_key(metadata.region_id, file_id), encoded.data)
    return FileMeta(
        file_id=file_id,
        level=level,
        size_bytes=encoded.data.size,
        checksum=encoded.checksum,
        blocks=encoded.blocks,
        block_bytes=BLOCK_BYTES if encoded.blocks else FORMER_BLOCK_BYTES,
        row_count=encoded.row_count,
        delete_count=encoded.delete_count,
        series_count=encoded.series_count,
        row_group_count=encoded.row_group_count,
        min_time=encoded.min_time,
        max_time=encoded.max_time,
        min_sequence=encoded.min_sequence,
        max_sequence=encoded.max_sequence,
        schema_version=encoded.schema_version,
        created_ms=created_ms,
        leading_tags=encoded.leading_tags,
        nan_columns=encoded.nan_columns,
        covers=encoded.covers,
    )


def decode_sst(metadata: RegionMetadata, encoded: EncodedSst) -> Batch:
    """Return the rows of an SST that was never stored, with all fields. Requires: it was encoded with this metadata."""
    assert encoded.schema_version == metadata.schema_version
    parquet = pq.ParquetFile(pa.BufferReader(encoded.data))
    offset, length, _ = map(int, parquet.metadata.metadata[SERIES_KEY.encode()].split(b","))
    series, offsets = decode_series(encoded.data.slice(offset, length), encoded.row_count)
    fields = [column.name for column in metadata.fields]
    table = parquet.read(columns=[metadata.time.name, SEQUENCE_COLUMN, OP_TYPE_COLUMN, *fields])
    times, sequences, op_types, *columns = [column.chunk(0) for column in table.combine_chunks(POOL).columns]
    return Batch(
        series=series,
        codes=codes_from_offsets(offsets, 0, encoded.row_count),
        times=times.view(pa.int64()).to_numpy(),
        sequences=sequences.to_numpy(),
        op_types=op_types.to_numpy(),
        fields=pa.RecordBatch.from_arrays(columns, names=fields)
        if columns
        else fields_without_columns(encoded.row_count),
    )


class _Facts:
    """What is learnt of the rows while they pass by."""

    def __init__(self, metadata: RegionMetadata, series_count: int) -> None:
        self.floats = {column.name: column.column_id for column in metadata.fields if pa.types.is_floating(column.type)}
        self.nan_columns: set[int] = set()
        self.rows_per_series = np.zeros(series_count, dtype=np.int64)
        self.row_count = self.delete_count = 0
        self.group_rows: list[int] = []
        self.group_times: list[tuple[int, int]] = []
        self.min_sequence, self.max_sequence = 2**64 - 1, 0

    def add(self, batch: Batch) -> None:
        self.rows_per_series += np.diff(series_offsets(batch.codes, len(self.rows_per_series)))
        self.row_count += len(batch)
        self.group_rows.append(len(batch))
        self.group_times.append((int(batch.times.min()), int(batch.times.max())))
        self.delete_count += int(np.count_nonzero(batch.op_types == OpType.DELETE))
        self.min_sequence = min(self.min_sequence, int(batch.sequences.min()))
        self.max_sequence = max(self.max_sequence, int(batch.sequences.max()))
        for name, column_id in self.floats.items():
            if column_id not in self.nan_columns and _holds_nan(batch.fields.column(name)):
                self.nan_columns.add(column_id)

    def told(self, metadata: RegionMetadata, series: pa.RecordBatch) -> dict[str, Any]:
        """Return what is known when all rows have passed, as `EncodedSst` and `FileMeta` call it."""
        first_times, last_times = zip(*self.group_times, strict=True)
        return {
            "row_count": self.row_count,
            "delete_count": self.delete_count,
            "series_count": len(series),
            "row_group_count": len(self.group_rows),
            "min_time": min(first_times),
            "max_time": max(last_times),
            "min_sequence": Sequence(self.min_sequence),
            "max_sequence": Sequence(self.max_sequence),
            "schema_version": metadata.schema_version,
            "leading_tags": leading_tags(series),
            "nan_columns": tuple(sorted(self.nan_columns)),
            "covers": covers(series, cut(self.offsets(), np.append(0, np.cumsum(self.group_rows)), self.group_times)),
        }

    def offsets(self) -> npt.NDArray[np.int64]:
        return np.append(0, np.cumsum(self.rows_per_series))


def _holds_nan(column: pa.Array) -> bool:
    """Look for a NaN. The least of the numbers is one if any is, which takes one pass and no memory."""
    if column.null_count == len(column):
        return False
    numbers = np.frombuffer(column.buffers()[1], dtype=column.type.to_pandas_dtype())
    with np.errstate(invalid="ignore"):
        least = numbers[column.offset : column.offset + len(column)].min()
    if not np.isnan(least):
        return False
    # Where a value is null there may be any bits.
    return not column.null_count or bool(pc.any(pc.is_nan(column)).as_py())


def leading_tags(series: pa.RecordBatch) -> tuple[ColumnStats, ...]:
    """Tell what values the first tags of some series have, up to the first tag of which there are several."""
    known = []
    for column in series.columns:
        ends = pc.min_max(column)
        known.append(_tag_stats(column, ends["min"], ends["max"]))
        if ends["min"] != ends["max"] or 0 < column.null_count < len(column):
            break
    return tuple(known)


def _tag_stats(column: pa.Array, least: pa.Scalar, most: pa.Scalar) -> ColumnStats:
    counts = {"null_count": column.null_count, "row_count": len(column)}
    try:
        minimum, maximum = least.as_py(), most.as_py()
    except (OverflowError, ValueError):
        return ColumnStats(**counts)  # A date that Python does not know.
    if isinstance(minimum, str):
        minimum, maximum = minimum[:TAG_CHARACTERS_MAX], _not_less(maximum)
    return ColumnStats(minimum=minimum, maximum=maximum, **counts)


def _not_less(text: str) -> str | None:
    """Return a text of bounded length that is not less than a text; None if there is none."""
    if len(text) <= TAG_CHARACTERS_MAX:
        return text
    for last in range(TAG_CHARACTERS_MAX - 1, -1, -1):
        following = _FOLLOWING.get(text[last], chr(min(ord(text[last]) + 1, sys.maxunicode)))
        if following != text[last]:
            return text[:last] + following
    return None


_FOLLOWING = {"\ud7ff": "\ue000"}
"""What lies between is no character that a text may hold."""


class _Blocks(io.RawIOBase):
    """What was written and not taken yet, and what was taken: in blocks, because checksums are of blocks."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self.size_bytes = self.checksum = 0
        self.checksums: list[int] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting += data
        return len(data)

    def take(self, *, rest: bool = False) -> Iterator[bytes]:
        """Yield the blocks that are full; with ``rest`` also what is left after them, which is the file's end."""
        while len(self._waiting) >= BLOCK_BYTES or (rest and self._waiting):
            block = bytes(memoryview(self._waiting)[:BLOCK_BYTES])
            del self._waiting[:BLOCK_BYTES]
            self.size_bytes += len(block)
            self.checksum = google_crc32c.extend(self.checksum, block)
            self.checksums.append(google_crc32c.value(block))
            yield block


def _encoded_in_blocks(
    metadata: RegionMetadata, rows: Rows, row_group_rows: int, facts: _Facts, level: int, blocks: _Blocks
) -> Iterator[bytes]:
    # Buffered, because Arrow writes page by page, and each would ask for Python's lock.
    sink = pa.BufferedOutputStream(pa.PythonFile(blocks, mode="w"), _WRITTEN_AT_ONCE_BYTES, POOL)
    for _ in _encode(metadata, rows, row_group_rows, facts, level, sink):
        yield from blocks.take()
    sink.flush()
    yield from blocks.take(rest=True)


def _encode(
    metadata: RegionMetadata, rows: Rows, row_group_rows: int, facts: _Facts, level: int, sink: pa.NativeFile
) -> Iterator[None]:
    """Write an SST, and come back after every row group and at the end."""
    names = [*metadata.names, SEQUENCE_COLUMN, OP_TYPE_COLUMN]
    nullable = {column.name for column in rows.series.schema if rows.series.column(column.name).null_count}
    nullable |= rows.fields_with_nulls()
    writer = None
    for batch in rows.slices(row_group_rows):
        facts.add(batch)
        table = _as_stored(_with_own_series(batch).to_arrow(metadata, names, tags_as="dictionary"), nullable)
        writer = writer or _open_writer(sink, table, metadata, row_group_rows, level)
        writer.write_table(table, row_group_size=row_group_rows)
        del batch, table  # What they hold is where the next rows are gathered.
        yield
    assert writer is not None, "an SST holds at least one row"
    index = encode_series(rows.series, facts.offsets())
    index_offset = sink.tell()
    sink.write(index)
    writer.add_key_value_metadata(
        {
            "ARROW:schema": _logical_schema(metadata, names),
            REGION_KEY: json.dumps({"format": SST_FORMAT, "metadata": metadata.to_json()}),
            SERIES_KEY: f"{index_offset},{index.size},{google_crc32c.value(index)}",
        }
    )
    writer.close()
    yield


def _with_own_series(batch: Batch) -> Batch:
    """Leave out the series before and after those of sorted rows: a row group's dictionaries list what it was given."""
    first, last = int(batch.codes[0]), int(batch.codes[-1])
    return replace(batch, series=batch.series.slice(first, last - first + 1), codes=batch.codes - np.int32(first))


def _as_stored(batch: pa.RecordBatch, nullable: Set[str]) -> pa.Table:
    columns = [_evenly_indexed(column) for column in batch.columns]
    fields = [
        pa.field(name, column.type, nullable=name in nullable)
        for name, column in zip(batch.schema.names, columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _evenly_indexed(column: pa.Array) -> pa.Array:
    """Let the dictionaries of all row groups be of one type, however many values each lists."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pa.DictionaryArray.from_arrays(
        pc.cast(column.indices, pa.int32(), memory_pool=POOL), column.dictionary, safe=False
    )


def _open_writer(
    sink: pa.NativeFile, first: pa.Table, metadata: RegionMetadata, row_group_rows: int, level: int
) -> pq.ParquetWriter:
    encodings = {name: _encoding(first.column(name), level) for name in metadata.names}
    encodings |= {metadata.time.name: _DELTA, SEQUENCE_COLUMN: _DELTA, OP_TYPE_COLUMN: _DICTIONARY}
    layout: dict[str, Any] = {
        "use_dictionary": [name for name, encoding in encodings.items() if encoding == _DICTIONARY],
        "column_encoding": {name: encoding for name, encoding in encodings.items() if encoding != _DICTIONARY},
        "max_rows_per_page": PAGE_ROWS,
    }
    return pq.ParquetWriter(
        sink,
        first.schema,
        **layout,
        **({"compression": "lz4"} if level == LEVEL_FLUSHED else _worthwhile_codecs(first, layout)),
        write_page_checksum=True,
        # Statistics of dictionary columns are brought up to date once a batch, so one batch a row group is cheapest.
        write_batch_size=row_group_rows,
        store_schema=False,
        sorting_columns=[
            *(pq.SortingColumn(i, nulls_first=True) for i in range(len(metadata.tags) + 1)),
            pq.SortingColumn(len(first.schema.names) - 2, descending=True, nulls_first=True),
        ],
    )


def _worthwhile_codecs(first: pa.Table, layout: Mapping[str, Any]) -> dict[str, Any]:
    """Choose by a page of each column whether to pack it: who reads it has to unpack it, every time."""
    sample = first.slice(max(0, len(first) - PAGE_ROWS) // 2, PAGE_ROWS)
    sink = pa.BufferOutputStream(POOL)
    with pq.ParquetWriter(sink, first.schema, **layout, **_ZSTD) as writer:
        writer.write_table(sample)
    row_group = pq.ParquetFile(pa.BufferReader(sink.getvalue())).metadata.row_group(0)
    columns = [row_group.column(place) for place in range(row_group.num_columns)]
    packed = {
        column.path_in_schema
        for column in columns
        if column.total_compressed_size <= _WORTHWHILE * column.total_uncompressed_size
    }
    names = [column.path_in_schema for column in columns]
    return {
        "compression": {name: "zstd" if name in packed else "none" for name in names},
        "compression_level": {name: _ZSTD_LEVEL for name in names if name in packed},
    }


def _encoding(column: pa.ChunkedArray, level: int) -> str:
    """Choose by a sample of a column how its values are laid out."""
    if pa.types.is_dictionary(column.type) or not pa.types.is_primitive(column.type):
        return _DICTIONARY
    sample = column.slice(max(0, len(column) - _SAMPLE_ROWS) // 2, _SAMPLE_ROWS)
    distinct: int = pc.count_distinct(sample, mode="all").as_py()
    repeats = 2 * distinct <= len(sample) + 1
    bytes_per_value = max(distinct - 1, 1).bit_length() / 8 if repeats else column.type.bit_width / 8
    if level == LEVEL_FLUSHED and pa.types.is_floating(column.type) and column.type != pa.float16():
        values = sample.drop_null().to_numpy()
        allowed = _SPLIT_TIMES * bytes_per_value if repeats else bytes_per_value
        if _split_bytes(values) <= allowed * len(values):
            return _SPLIT
    return _DICTIONARY if repeats else _PLAIN


def _split_bytes(values: npt.NDArray[Any]) -> int:
    """Return how many bytes values take when all their first bytes are packed, then all their second bytes, and on."""
    if not len(values):
        return 0
    streams = values.view(np.uint8).reshape(len(values), -1).T
    return len(pa.Codec("lz4_raw").compress(np.ascontiguousarray(streams), asbytes=True))


def _logical_schema(metadata: RegionMetadata, names: list[str]) -> str:
    internal = [pa.field(SEQUENCE_COLUMN, pa.uint64()), pa.field(OP_TYPE_COLUMN, pa.uint8())]
    schema = pa.schema([*metadata.arrow_schema(), *internal])
    assert schema.names == names
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")
