"""An SST's rows, row group by row group, as sorted batches.

The first time a process opens a file it reads it whole and compares size and CRC32C with the manifest; from then on it
keeps the footer and the series index and reads only the row groups and columns that are asked for, with page checksums
verified. Tag columns are never read: the series index says which series a row belongs to.

A file keeps the schema it was written with in its footer. Its rows are handed out as the schema at hand has them
(storage/compat.py), and its statistics are believed only of columns that are still what they were.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mitoframe.kernels.series import codes_from_offsets
from mitoframe.model.batch import Batch, concat_numbers, fields_without_columns
from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.model.memory import POOL
from mitoframe.model.predicate import ColumnStats, Predicate, may_match
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN, RegionMetadata
from mitoframe.storage.cache import LruCache
from mitoframe.storage.compat import fit_fields, former_fields, is_unchanged
from mitoframe.storage.paths import sst_key
from mitoframe.storage.series import decode_series
from mitoframe.storage.sst_writer import REGION_KEY, SERIES_KEY, SST_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Codes
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.schema import Column
    from mitoframe.ports import ObjectStore

_CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What is kept of an opened file: ``metadata`` is the schema it was written with.

    ``offsets`` has one more entry than ``series``.
    """

    parquet: pq.FileMetaData
    metadata: RegionMetadata
    series: pa.RecordBatch
    offsets: npt.NDArray[np.int64]

    @property
    def size_bytes(self) -> int:
        return int(self.parquet.serialized_size + self.series.get_total_buffer_size() + self.offsets.nbytes)

    def row_group_starts(self) -> npt.NDArray[np.int64]:
        counts = [self.parquet.row_group(i).num_rows for i in range(self.parquet.num_row_groups)]
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


class SstReader:
    """Reads the SSTs of a store; shared by all its regions and threads."""

    def __init__(self, store: ObjectStore, footer_cache_bytes: int = 128 * 1024 * 1024) -> None:
        self._store = store
        self._footers: LruCache[Footer] = LruCache(footer_cache_bytes)
        self._verified: set[str] = set()

    def verify(self, metadata: RegionMetadata, file: FileMeta) -> None:
        """Compare a file with the manifest, once per process.

        Raises:
            CorruptionError: it is missing, or its size or checksum is not what was written.

        """
        if file.file_id in self._verified:
            return
        key = sst_key(metadata.region_id, file.file_id)
        try:
            found_bytes = self._store.head(key).size_bytes
        except FileNotFoundError as error:
            raise CorruptionError("the manifest lists this file, but it is missing", path=key) from error
        if found_bytes != file.size_bytes:
            raise CorruptionError(
                "the file has another size than was written", path=key, expected=file.size_bytes, found=found_bytes
            )
        checksum = self._checksum(key, file.size_bytes)
        if checksum != file.checksum:
            raise CorruptionError(
                "the file's bytes are not those that were written",
                path=key,
                expected=f"CRC32C {file.checksum:08x}",
                found=f"{checksum:08x}",
            )
        self._verified.add(file.file_id)

    def forget(self, file_id: FileId) -> None:
        """Drop what is kept of a file that was deleted."""
        self._footers.discard(file_id)
        self._verified.discard(file_id)

    def _checksum(self, key: str, size_bytes: int) -> int:
        checksum = 0
        for start in range(0, size_bytes, _CHUNK_BYTES):
            chunk = self._store.get_range(key, start, min(_CHUNK_BYTES, size_bytes - start))
            checksum = google_crc32c.extend(checksum, chunk)
        return checksum

    def footer(self, metadata: RegionMetadata, file: FileMeta) -> Footer:
        """Open a file, or remember it.

        Raises:
            CorruptionError: it is not what was written.
            ConfigError: it was written by a newer mitoframe.

        """
        cached = self._footers.get(file.file_id)
        if cached is not None:
            return cached
        self.verify(metadata, file)
        key = sst_key(metadata.region_id, file.file_id)
        try:
            footer = self._read_footer(key, file)
        except ConfigError:
            raise
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise CorruptionError(f"not an SST that this mitoframe can read: {error}", path=key) from error
        self._footers.put(file.file_id, footer, footer.size_bytes)
        return footer

    def _read_footer(self, key: str, file: FileMeta) -> Footer:
        parquet_file = self._open(key, file.size_bytes)
        parquet = parquet_file.metadata
        entries = parquet.metadata
        region = json.loads(entries[REGION_KEY.encode()])
        if region["format"] > SST_FORMAT:
            raise ConfigError(f"{key} has SST format {region['format']}, newer than {SST_FORMAT}; update mitoframe.")
        offset, length, checksum = map(int, entries[SERIES_KEY.encode()].split(b","))
        index = self._store.get_range(key, offset, length)
        if google_crc32c.value(index) != checksum:
            raise ValueError("the series index does not match its checksum")
        series, offsets = decode_series(index, parquet.num_rows)
        metadata = RegionMetadata.from_json(region["metadata"])
        return Footer(parquet=parquet, metadata=metadata, series=series, offsets=offsets)

    def _open(self, key: str, size_bytes: int, parquet: pq.FileMetaData | None = None) -> pq.ParquetFile:
        source = pa.PythonFile(_ObjectFile(self._store, key, size_bytes), mode="r")
        return pq.ParquetFile(source, metadata=parquet, page_checksum_verification=True, pre_buffer=True)

    def matching_row_groups(self, metadata: RegionMetadata, file: FileMeta, predicate: Predicate) -> list[int]:
        """Return the row groups whose statistics do not rule ``predicate`` out."""
        footer = self.footer(metadata, file)
        names = {column.name: column for column in metadata.columns if is_unchanged(column, footer.metadata)}
        return [
            number
            for number in range(footer.parquet.num_row_groups)
            if may_match(predicate, _row_group_stats(footer.parquet, number, names))
        ]

    def may_hold_null(self, metadata: RegionMetadata, file: FileMeta, column: Column) -> bool:
        """Tell whether a column of ``metadata`` may be null in some row of a file, as far as its schema says."""
        footer = self.footer(metadata, file)
        stored = [footer.parquet.schema.column(i) for i in range(len(footer.parquet.schema))]
        required = {item.path for item in stored if not item.max_definition_level}
        return not (is_unchanged(column, footer.metadata) and column.name in required)

    def read(self, metadata: RegionMetadata, file: FileMeta, row_groups: Many[int], field_names: Many[str]) -> Batch:
        """Read row groups as one sorted batch with the named fields of ``metadata``, whatever the file calls them."""
        footer = self.footer(metadata, file)
        key = sst_key(metadata.region_id, file.file_id)
        wanted = _stored_columns(footer, metadata, field_names)
        try:
            rows = self._open(key, file.size_bytes, footer.parquet).read_row_groups(list(row_groups), columns=wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise CorruptionError(f"a row group cannot be read: {error}", path=key) from error
        starts = footer.row_group_starts()
        codes = [codes_from_offsets(footer.offsets, int(starts[n]), int(starts[n + 1])) for n in row_groups]
        found = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32)
        return _batch(rows, found, footer, metadata, file, field_names)

    def stream(
        self, metadata: RegionMetadata, file: FileMeta, field_names: Many[str], rows_max: int
    ) -> Iterator[Batch]:
        """Read all rows in order, in sorted batches of up to ``rows_max``; of a row group no more is unpacked."""
        footer = self.footer(metadata, file)
        key = sst_key(metadata.region_id, file.file_id)
        wanted = _stored_columns(footer, metadata, field_names)
        parquet = self._open(key, file.size_bytes, footer.parquet)
        start = 0
        try:
            for number in range(footer.parquet.num_row_groups):
                for some in parquet.iter_batches(rows_max, row_groups=[number], columns=wanted, use_threads=False):
                    codes = codes_from_offsets(footer.offsets, start, start + len(some))
                    yield _batch(pa.Table.from_batches([some]), codes, footer, metadata, file, field_names)
                    start += len(some)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise CorruptionError(f"a row group cannot be read: {error}", path=key) from error


def _stored_columns(footer: Footer, metadata: RegionMetadata, field_names: Many[str]) -> list[str]:
    stored = former_fields(footer.metadata, metadata, field_names)
    return [metadata.time.name, SEQUENCE_COLUMN, OP_TYPE_COLUMN, *(field.name for field in stored)]


def _batch(
    rows: pa.Table, codes: Codes, footer: Footer, metadata: RegionMetadata, file: FileMeta, field_names: Many[str]
) -> Batch:
    stored = former_fields(footer.metadata, metadata, field_names)
    sequences = _numpy(rows.column(SEQUENCE_COLUMN), pa.uint64())
    return Batch(
        series=footer.series,
        codes=codes,
        times=_numpy(rows.column(metadata.time.name), pa.int64()),
        sequences=sequences + np.uint64(file.sequence_base) if file.sequence_base else sequences,
        op_types=_numpy(rows.column(OP_TYPE_COLUMN), pa.uint8()),
        fields=fit_fields(_fields(rows, stored), footer.metadata, metadata, field_names),
    )


def _numpy(column: pa.ChunkedArray, data_type: pa.DataType) -> npt.NDArray[Any]:
    chunks: list[npt.NDArray[Any]] = [chunk.view(data_type).to_numpy() for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return concat_numbers(chunks) if chunks else np.zeros(0, dtype=data_type.to_pandas_dtype())


def _fields(rows: pa.Table, fields: Many[Column]) -> pa.RecordBatch:
    if not fields:
        return fields_without_columns(rows.num_rows)
    columns = [_one_array(rows.column(field.name), field.type) for field in fields]
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in fields])


def _one_array(column: pa.ChunkedArray, data_type: pa.DataType) -> pa.Array:
    if column.type != data_type:
        column = column.cast(data_type)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks or [pa.nulls(0, data_type)], memory_pool=POOL)


def _row_group_stats(parquet: pq.FileMetaData, number: int, columns: dict[str, Column]) -> dict[str, ColumnStats]:
    row_group = parquet.row_group(number)
    stats = {}
    for i in range(row_group.num_columns):
        if parquet.schema.column(i).max_repetition_level:
            continue  # The items of a list "x" are called "x.list.element", which a column may be called too.
        chunk = row_group.column(i)
        column = columns.get(chunk.path_in_schema)
        if column is not None and chunk.statistics is not None:
            stats[column.name] = _column_stats(column, chunk.statistics, row_group.num_rows)
    return stats


def _column_stats(column: Column, found: pq.Statistics, row_count: int) -> ColumnStats:
    null_count = found.null_count if found.has_null_count else None
    if not found.has_min_max or column.type == pa.time64("ns"):  # Python's time would drop nanoseconds.
        return ColumnStats(null_count=null_count, row_count=row_count)
    if pa.types.is_timestamp(column.type):
        # The raw integers: a datetime would drop nanoseconds.
        return ColumnStats(minimum=found.min_raw, maximum=found.max_raw, null_count=null_count, row_count=row_count)
    return ColumnStats(minimum=found.min, maximum=found.max, null_count=null_count, row_count=row_count)


class _ObjectFile(io.RawIOBase):
    """A stored object as the seekable file that pyarrow wants. pyarrow never opens a path itself."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int) -> None:
        self._store, self._key, self._size_bytes, self._position = store, key, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._size_bytes - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        data = self._store.get_range(self._key, self._position, length) if length else b""
        self._position += len(data)
        return data
