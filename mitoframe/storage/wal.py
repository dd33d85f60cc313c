"""Rows in the log: one entry per write, whole or not at all.

    payload  = head, series, rows                     little endian
    head     = version u8 (1) | operation u8 | 0 u16 | schema_version u32 | row_count u64 | first_sequence u64
               | series_length u64                    32 bytes
    series   = Arrow IPC stream: one column per tag, one row per distinct tag tuple
    rows     = Arrow IPC stream (LZ4): __code int32, __time int64, one column per field

Framing, checksums and order are the log store's; this file knows only payloads. Tags travel as codes, so that strings
are written once per series and not once per row. ``operation`` is an `OpType`: an entry either puts or deletes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.model.ids import EntryId, RegionId, Sequence
from mitoframe.model.memory import POOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import LogStore

_HEAD = struct.Struct("<BBHIQQQ")
_VERSION = 1
_CODE = "__code"
_TIME = "__time"
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_UNREADABLE = (pa.ArrowException, OSError, StopIteration, struct.error, KeyError, ValueError)
"""What Arrow and we raise when bytes are not what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedWrite:
    """A write ready for the log but for its sequence, which is known only when its turn comes."""

    region_id: RegionId
    operation: OpType
    schema_version: int
    row_count: int
    series: pa.Buffer
    rows: pa.Buffer

    def payload(self, first_sequence: Sequence) -> tuple[bytes, pa.Buffer, pa.Buffer]:
        head = _HEAD.pack(
            _VERSION, self.operation, 0, self.schema_version, self.row_count, first_sequence, self.series.size
        )
        return head, self.series, self.rows


def encode_write(metadata: RegionMetadata, batch: Batch) -> EncodedWrite:
    """Lay a batch out for the log. Requires: its rows are all of one operation."""
    operation = OpType(int(batch.op_types[0]))
    rows = pa.RecordBatch.from_arrays(
        [pa.array(batch.codes), pa.array(batch.times), *batch.fields.columns],
        names=[_CODE, _TIME, *batch.fields.schema.names],
    )
    return EncodedWrite(
        region_id=metadata.region_id,
        operation=operation,
        schema_version=metadata.schema_version,
        row_count=len(batch),
        series=_to_stream(batch.series),
        rows=_to_stream(rows),
    )


class Wal:
    """The log as the regions see it."""

    def __init__(self, log: LogStore) -> None:
        self._log = log

    def append(self, writes: Many[tuple[EncodedWrite, Sequence]]) -> EntryId:
        """Write entries together, each with its first sequence, and return the id of the last. Not yet synced."""
        return self._log.append([(write.region_id, write.payload(sequence)) for write, sequence in writes])

    def sync(self) -> None:
        self._log.sync()

    def replay(self, metadata: RegionMetadata, after: EntryId) -> Iterator[tuple[EntryId, Batch]]:
        """Yield a region's writes after an entry, with the sequences they had.

        Raises:
            CorruptionError: an entry does not hold rows of this region.
            ConfigError: it was written by a newer mitoframe.

        """
        for entry in self._log.read(metadata.region_id, after):
            try:
                batch = _decode(metadata, entry.payload)
            except ConfigError:
                raise
            except _UNREADABLE as error:
                raise CorruptionError(
                    f"log entry {entry.entry_id} does not hold the rows of region {metadata.region_id}: {error!r}",
                    path="wal",
                ) from error
            yield entry.entry_id, batch

    def obsolete(self, region_id: RegionId, through: EntryId) -> None:
        self._log.obsolete(region_id, through)

    def last_id(self) -> EntryId:
        return self._log.last_id()

    def refresh(self) -> None:
        self._log.refresh()

    def close(self) -> None:
        self._log.close()


def _decode(metadata: RegionMetadata, payload: bytes) -> Batch:
    version, operation, _, _, row_count, first_sequence, series_length = _HEAD.unpack_from(payload)
    if version > _VERSION:
        raise ConfigError(f"the log holds entries of format {version}, newer than {_VERSION}; update mitoframe.")
    body = memoryview(payload)[_HEAD.size :]
    series = _from_stream(body[:series_length])
    rows = _from_stream(body[series_length:])
    _check_types(metadata, series, rows)
    codes = rows.column(_CODE).to_numpy()
    if len(rows) != row_count or (row_count and not 0 <= codes.min() <= codes.max() < max(len(series), 1)):
        raise ValueError("row count or series codes are out of range")
    return Batch(
        series=series,
        codes=codes,
        times=rows.column(_TIME).to_numpy(),
        sequences=np.arange(first_sequence, first_sequence + row_count, dtype=np.uint64),
        op_types=np.full(row_count, OpType(operation), dtype=np.uint8),
        fields=_fields_of(metadata, rows),
    )


def _check_types(metadata: RegionMetadata, series: pa.RecordBatch, rows: pa.RecordBatch) -> None:
    expected = {_CODE: pa.int32(), _TIME: pa.int64()} | {field.name: field.type for field in metadata.fields}
    for column in rows.schema:
        if column.type != expected.get(column.name, column.type):
            raise ValueError(f"column {column.name!r} is {column.type}, the region has {expected[column.name]}")
    if series.schema != pa.schema([(tag.name, tag.type) for tag in metadata.tags]):
        raise ValueError("the series have other tags than the region")


def _fields_of(metadata: RegionMetadata, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Pick the fields the region has now; one that the entry does not know is null."""
    if not metadata.fields:
        return fields_without_columns(len(rows))
    known = set(rows.schema.names)
    columns = [
        rows.column(field.name) if field.name in known else pa.nulls(len(rows), field.type) for field in metadata.fields
    ]
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in metadata.fields])


def _to_stream(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream(POOL)
    with pa.ipc.new_stream(sink, batch.schema, options=_LZ4) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _from_stream(data: memoryview) -> pa.RecordBatch:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        batch = reader.read_next_batch()
    batch.validate(full=True)
    return batch
