"""Rows in the log: one entry per write, whole or not at all.

    payload  = head, key, series, rows                little endian
    head     = version u8 (2) | flags u8 | operation u8 | 0 u8 | schema_version u32 | row_count u64 | first_sequence u64
               | series_length u64 | at_ms i64 | key_length u16 | 0 to a multiple of 8            48 bytes
    key      = UTF-8, and 0 to a multiple of 8; empty if the write has none
    series   = Arrow IPC stream: one column per tag, one row per distinct tag tuple
    rows     = Arrow IPC stream: __code int32, __time int64, [__op uint8,] one column per field, named by its column id

In a large write a field of 64-bit numbers whose values all fit an integer of 8, 16 or 32 bits travels as that and is
widened when it is read: gauges and counters are often such, and packing them as they are would take most of the time.

Framing, checksums and order are the log store's; this file knows only payloads. Tags travel as codes, so that strings
are written once per series and not once per row. ``operation`` is the `OpType` of all rows; where they differ it is 0,
bit 0 of ``flags`` is set and ``__op`` says what each row is. All parts begin at a multiple of 8, so that Arrow can
leave values where they are.

A field is known by its id, because it may be dropped and another be given its name before the entry is read again.

Streams are compressed (LZ4) from a mebibyte on: below, that would take ten times as long as all the rest of encoding,
for bytes that cost the disk less. A large stream is handed to the log in pieces, as Arrow makes them, and never joined.

Version 1 is read too: it has no flags, no key and no time, and its fields have names; it knew no alterations.

    head     = version u8 (1) | operation u8 | 0 u16 | schema_version u32 | row_count u64 | first_sequence u64
               | series_length u64                    32 bytes
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.errors import ConfigError, CorruptionError, InvalidInputError
from mitoframe.model.ids import EntryId, RegionId, Sequence
from mitoframe.model.memory import POOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    from mitoframe.model.batch import OpTypes
    from mitoframe.model.schema import Column, RegionMetadata
    from mitoframe.ports import LogDamage, LogStore

KEY_SIZE_BYTES_MAX = 2**16 - 1

_HEAD_1 = struct.Struct("<BBHIQQQ")
_HEAD_2 = struct.Struct("<BBBBIQQQqH6s")
_VERSION = 2
_MIXED = 1
_ALIGNMENT = 8
_CODE = "__code"
_TIME = "__time"
_OP = "__op"
_COMPRESSED_FROM_BYTES = 1 << 20
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_NARROW = (pa.int8(), pa.int16(), pa.int32())
_WIDE = (pa.float64(), pa.int64())
_NARROWED_FROM_ROWS = 4096
_SAMPLE_ROWS = 256
_NEGATIVE_ZERO = -(2**63)
"""The bits of -0.0, read as an integer: the least there is."""

_UNREADABLE = (pa.ArrowException, OSError, StopIteration, struct.error, KeyError, ValueError)
"""What Arrow and we raise when bytes are not what was written."""

_Part: TypeAlias = "bytes | pa.Buffer"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedWrite:
    """A write ready for the log but for its sequence, which is known only when its turn comes.

    It may refer to the batch's memory: that must not change before the write is in the log. ``operation`` is None if
    the rows are of both.
    """

    region_id: RegionId
    operation: OpType | None
    schema_version: int
    row_count: int
    key: bytes
    at_ms: int
    series: tuple[_Part, ...]
    rows: tuple[_Part, ...]

    def payload(self, first_sequence: Sequence) -> tuple[_Part, ...]:
        head = _HEAD_2.pack(
            _VERSION,
            _MIXED if self.operation is None else 0,
            self.operation or 0,
            0,
            self.schema_version,
            self.row_count,
            first_sequence,
            sum(part.size if isinstance(part, pa.Buffer) else len(part) for part in self.series),
            self.at_ms,
            len(self.key),
            bytes(6),
        )
        return head + self.key + bytes(_padding(len(self.key))), *self.series, *self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedWrite:
    """A write as the log has it. ``key`` is empty if it has none; ``at_ms`` is 0 if its time was not kept."""

    entry_id: EntryId
    batch: Batch
    key: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """``operation`` is None where each row says its own; ``size_bytes`` includes the key."""

    version: int
    operation: OpType | None
    schema_version: int
    row_count: int
    first_sequence: int
    series_length: int
    size_bytes: int
    key: str = ""
    at_ms: int = 0


def encode_write(metadata: RegionMetadata, batch: Batch, *, key: str = "", at_ms: int = 0) -> EncodedWrite:
    """Lay a batch out for the log.

    Requires: it has rows, and the region's fields in their order.

    Raises:
        InvalidInputError: the key is too long, or not text that can be written.

    """
    assert len(batch), "a write of no rows is a caller's mistake"
    assert batch.fields.num_columns == len(metadata.fields), "the batch has other fields than the region"
    operation = _operation_of(batch.op_types)
    is_mixed = operation is None
    columns = [pa.array(batch.codes), pa.array(batch.times), *([pa.array(batch.op_types)] if is_mixed else [])]
    names = [_CODE, _TIME, *([_OP] if is_mixed else []), *(str(field.column_id) for field in metadata.fields)]
    fields = batch.fields.columns
    columns += map(_narrowed, fields) if len(batch) >= _NARROWED_FROM_ROWS else fields
    return EncodedWrite(
        region_id=metadata.region_id,
        operation=operation,
        schema_version=metadata.schema_version,
        row_count=len(batch),
        key=_encode_key(key),
        at_ms=at_ms,
        series=_to_stream(batch.series),
        rows=_to_stream(pa.RecordBatch.from_arrays(columns, names=names)),
    )


def _narrowed(column: pa.Array) -> pa.Array:
    """Return the column in the narrowest integers that keep its values, or as it is."""
    if column.type not in _WIDE:
        return column
    # Most columns that cannot be narrowed show it soon; the sample spares a pass over all of them.
    first = _cast_or_none(column.slice(0, _SAMPLE_ROWS), _NARROW)
    if first is None:
        return column
    narrowed = _cast_or_none(column, _NARROW[_NARROW.index(first.type) :])
    return column if narrowed is None or _has_negative_zero(column) else narrowed


def _cast_or_none(column: pa.Array, data_types: Many[pa.DataType]) -> pa.Array | None:
    """Cast to the first type that loses nothing."""
    for data_type in data_types:
        try:
            return pc.cast(column, data_type, memory_pool=POOL)
        except pa.ArrowInvalid:
            continue
    return None


def _has_negative_zero(column: pa.Array) -> bool:
    return bool(pa.types.is_float64(column.type) and pc.min(column.view(pa.int64())).as_py() == _NEGATIVE_ZERO)


def _operation_of(op_types: OpTypes) -> OpType | None:
    """Return what all rows are, or None if they differ."""
    least, most = int(op_types.min()), int(op_types.max())
    assert most <= OpType.PUT, "a row is put or deleted"
    return OpType(least) if least == most else None


def _encode_key(key: str) -> bytes:
    try:
        encoded = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the write's key {key!r} is not text that can be written ({error.reason}).") from None
    if len(encoded) > KEY_SIZE_BYTES_MAX:
        raise InvalidInputError(
            f"the write's key has {len(encoded)} bytes; {KEY_SIZE_BYTES_MAX} is the most. Use a hash of it."
        )
    return encoded


def _padding(size_bytes: int) -> int:
    return -size_bytes % _ALIGNMENT


class Wal:
    """The log as the regions see it."""

    def __init__(self, log: LogStore) -> None:
        self._log = log

    @property
    def damage(self) -> LogDamage | None:
        """What was found broken when the log was opened."""
        return self._log.damage

    def append(self, writes: Many[tuple[EncodedWrite, Sequence]]) -> EntryId:
        """Write entries together, each with its first sequence, and return the id of the last. Not yet synced."""
        return self._log.append([(write.region_id, write.payload(sequence)) for write, sequence in writes])

    def sync(self) -> None:
        self._log.sync()

    def replay(self, metadata: RegionMetadata, after: EntryId) -> Iterator[ReplayedWrite]:
        """Yield a region's writes after an entry, with the sequences they had, as ``metadata`` has rows now.

        Raises:
            CorruptionError: an entry does not hold rows of this region.
            ConfigError: it was written by a newer mitoframe.

        """
        for entry in self._log.read(metadata.region_id, after):
            try:
                head, batch = _decode(metadata, entry.payload)
            except ConfigError:
                raise
            except _UNREADABLE as error:
                raise CorruptionError(
                    f"log entry {entry.entry_id} does not hold the rows of region {metadata.region_id}: {error!r}",
                    path="wal",
                ) from error
            yield ReplayedWrite(entry_id=entry.entry_id, batch=batch, key=head.key, at_ms=head.at_ms)

    def obsolete(self, region_id: RegionId, through: EntryId) -> None:
        self._log.obsolete(region_id, through)

    def regions(self) -> frozenset[RegionId]:
        return self._log.regions()

    def last_id(self) -> EntryId:
        return self._log.last_id()

    def refresh(self) -> None:
        self._log.refresh()

    def close(self) -> None:
        self._log.close()


# --- reading ---------------------------------------------------------------------------------------------


def _decode(metadata: RegionMetadata, payload: bytes) -> tuple[_Head, Batch]:
    head = _read_head(payload)
    if head.schema_version > metadata.schema_version:
        raise ValueError(f"it has schema version {head.schema_version}, the manifest ends at {metadata.schema_version}")
    body = memoryview(payload)[head.size_bytes :]
    if head.series_length > len(body):
        raise ValueError("the series end after the entry")
    series = _from_stream(body[: head.series_length])
    rows = _from_stream(body[head.series_length :])
    _check_keys(metadata, head, series, rows)
    batch = Batch(
        series=series,
        codes=rows.column(_CODE).to_numpy(),
        times=rows.column(_TIME).to_numpy(),
        sequences=np.arange(head.first_sequence, head.first_sequence + head.row_count, dtype=np.uint64),
        op_types=_op_types(head, rows),
        fields=_fields(metadata, head, rows),
    )
    return head, batch


def _read_head(payload: bytes) -> _Head:
    version = payload[0] if payload else 0
    if version > _VERSION:
        raise ConfigError(f"the log holds entries of format {version}, newer than {_VERSION}; update mitoframe.")
    if version == 2:
        return _read_head_2(payload)
    if version == 1:
        return _read_head_1(payload)
    raise ValueError(f"there is no format {version}")


def _read_head_1(payload: bytes) -> _Head:
    version, operation, zeros, schema_version, row_count, first_sequence, series_length = _HEAD_1.unpack_from(payload)
    if zeros or schema_version != 1:
        raise ValueError("its head is not one of format 1")
    return _Head(
        version=version,
        operation=OpType(operation),
        schema_version=schema_version,
        row_count=row_count,
        first_sequence=first_sequence,
        series_length=series_length,
        size_bytes=_HEAD_1.size,
    )


def _read_head_2(payload: bytes) -> _Head:
    (
        version,
        flags,
        operation,
        zero,
        schema_version,
        row_count,
        first_sequence,
        series_length,
        at_ms,
        key_length,
        zeros,
    ) = _HEAD_2.unpack_from(payload)
    key_end = _HEAD_2.size + key_length
    key, padding = payload[_HEAD_2.size : key_end], payload[key_end : key_end + _padding(key_length)]
    if zero or any(zeros) or any(padding) or len(key) != key_length or len(padding) != _padding(key_length):
        raise ValueError("its head is not one of format 2")
    if flags & ~_MIXED or (flags and operation):
        raise ValueError(f"flags {flags:#x} and operation {operation} do not go together")
    return _Head(
        version=version,
        operation=None if flags else OpType(operation),
        schema_version=schema_version,
        row_count=row_count,
        first_sequence=first_sequence,
        series_length=series_length,
        size_bytes=key_end + len(padding),
        key=key.decode(),
        at_ms=at_ms,
    )


def _check_keys(metadata: RegionMetadata, head: _Head, series: pa.RecordBatch, rows: pa.RecordBatch) -> None:
    if series.schema != pa.schema([(tag.name, tag.type) for tag in metadata.tags]):
        raise ValueError("the series have other tags than the region")
    expected = [(_CODE, pa.int32()), (_TIME, pa.int64()), *([(_OP, pa.uint8())] if head.operation is None else [])]
    if [(column.name, column.type) for column in rows.schema][: len(expected)] != expected:
        raise ValueError(f"the columns are {rows.schema.names}, and should begin with {[name for name, _ in expected]}")
    if any(rows.column(name).null_count for name, _ in expected):
        raise ValueError("a row lacks its series, time or operation")
    codes = rows.column(_CODE).to_numpy()
    if len(rows) != head.row_count or (len(rows) and not 0 <= codes.min() <= codes.max() < max(len(series), 1)):
        raise ValueError("row count or series codes are out of range")


def _op_types(head: _Head, rows: pa.RecordBatch) -> OpTypes:
    if head.operation is not None:
        return np.full(head.row_count, head.operation, dtype=np.uint8)
    op_types: OpTypes = rows.column(_OP).to_numpy()
    if len(op_types) and op_types.max() > OpType.PUT:
        raise ValueError(f"there is no operation {op_types.max()}")
    return op_types


def _fields(metadata: RegionMetadata, head: _Head, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the fields as the region has them now."""
    stored = _fields_by_id(metadata, head, rows)
    if head.schema_version == metadata.schema_version:
        _check_same(metadata, stored)
    if not metadata.fields:
        return fields_without_columns(len(rows))
    columns = [_fit(stored.get(field.column_id), field, len(rows)) for field in metadata.fields]
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in metadata.fields])


def _fields_by_id(metadata: RegionMetadata, head: _Head, rows: pa.RecordBatch) -> dict[int, pa.Array]:
    first = 2 if head.operation is not None else 3
    names = rows.schema.names[first:]
    ids = list(map(int, names)) if head.version > 1 else _ids_of_version_1(metadata, names)
    if len(set(ids)) != len(ids):
        raise ValueError(f"the columns are {rows.schema.names}")
    return dict(zip(ids, rows.columns[first:], strict=True))


def _ids_of_version_1(metadata: RegionMetadata, names: Many[str]) -> list[int]:
    """Return the ids of all fields of a first schema: they were counted from 1 over tags, time and fields."""
    ids = list(range(len(metadata.tags) + 2, len(metadata.tags) + 2 + len(names)))
    now = {field.column_id: field.name for field in metadata.fields}
    for column_id, name in zip(ids, names, strict=True):
        if now.get(column_id, name) != name:
            raise ValueError(f"column {name!r} is called {now[column_id]!r} in the region")
    return ids


def _check_same(metadata: RegionMetadata, stored: dict[int, pa.Array]) -> None:
    """Refuse fields that are not those of the region, where no alteration explains it."""
    expected = {field.column_id: field.type for field in metadata.fields}
    found = {column_id: values.type for column_id, values in stored.items()}
    if found.keys() != expected.keys() or not all(_stands_for(found[i], expected[i]) for i in found):
        raise ValueError(f"the fields are {found}, the region has {expected}")


def _stands_for(stored: pa.DataType, data_type: pa.DataType) -> bool:
    return bool(stored == data_type or (stored in _NARROW and data_type in _WIDE))


def _fit(values: pa.Array | None, field: Column, rows: int) -> pa.Array:
    if values is None:
        return field.fill_older(rows)
    return values if values.type == field.type else pc.cast(values, field.type, memory_pool=POOL)


# --- streams ---------------------------------------------------------------------------------------------


class _Pieces:
    """A file for Arrow that keeps what is written to it, as it is."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[_Part] = []

    def write(self, data: _Part) -> None:
        self.parts.append(data)

    def close(self) -> None:
        pass


def _to_stream(batch: pa.RecordBatch) -> tuple[_Part, ...]:
    if _is_small(batch):  # What a writer would write, at half its cost.
        return batch.schema.serialize(), batch.serialize(memory_pool=POOL), _STREAM_END
    pieces = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(pieces, mode="w"), batch.schema, options=_LZ4) as writer:
        writer.write_batch(batch)
    return tuple(pieces.parts)


def _is_small(batch: pa.RecordBatch) -> bool:
    # The first is much quicker to say, but counts all that a slice was cut from.
    return bool(batch.get_total_buffer_size() < _COMPRESSED_FROM_BYTES or batch.nbytes < _COMPRESSED_FROM_BYTES)


def _from_stream(data: memoryview) -> pa.RecordBatch:
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        batch = reader.read_next_batch()
    batch.validate(full=True)
    return batch
