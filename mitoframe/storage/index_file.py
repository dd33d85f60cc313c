r"""A sidecar: all indexes of one SST in one object, which can be read in parts.

    magic       8 bytes  "MITOIDX\n"
    blobs       Arrow IPC streams of one record batch each, in no particular order
    footer      JSON: {"format", "file_id", "version", "row_count", "blobs": [
                    {"column_id", "kind", "type", "terms", "form", "offset", "length", "crc32c"}]}
    trailer     footer's length (4 bytes), footer's CRC32C (4 bytes), magic; little-endian

Each blob has a checksum of its own, so that a reader needs no more of the object than it looks at. An index is a hint:
whatever is wrong with it is told as ``ValueError``, and the reader goes on without.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import pyarrow as pa

from mitoframe.model.index import IndexEntry
from mitoframe.model.memory import POOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mitoframe.model.ids import FileId
    from mitoframe.ports import ObjectStore

INDEX_FORMAT = 1
_MAGIC = b"MITOIDX\n"
_TRAILER = struct.Struct("<II8s")
_TAIL_BYTES = 16 * 1024
"""So much is read of the end at once, in the hope that the footer is in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Where one form of one index is in the object."""

    entry: IndexEntry
    form: str
    offset: int
    length: int
    crc32c: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFooter:
    """What a sidecar holds, and of which SST."""

    file_id: FileId
    version: int
    row_count: int
    blobs: tuple[Blob, ...]

    def forms(self, entry: IndexEntry) -> dict[str, Blob]:
        return {blob.form: blob for blob in self.blobs if blob.entry == entry}


def encode_index(
    file_id: FileId, version: int, row_count: int, indexes: Mapping[IndexEntry, Mapping[str, pa.RecordBatch]]
) -> pa.Buffer:
    """Return the bytes of a sidecar with these indexes in all their forms."""
    sink = pa.BufferOutputStream(POOL)
    sink.write(_MAGIC)
    blobs: list[dict[str, Any]] = []
    for entry, forms in indexes.items():
        for form, batch in forms.items():
            data, offset = _to_ipc(batch), sink.tell()
            sink.write(data)
            place = {"offset": offset, "length": data.size, "crc32c": google_crc32c.value(data)}
            blobs.append(entry.to_json() | {"form": form} | place)
    known = {"format": INDEX_FORMAT, "file_id": file_id, "version": version, "row_count": row_count, "blobs": blobs}
    footer = json.dumps(known).encode()
    sink.write(footer)
    sink.write(_TRAILER.pack(len(footer), google_crc32c.value(footer), _MAGIC))
    return sink.getvalue()


def read_footer(store: ObjectStore, key: str, size_bytes: int) -> IndexFooter:
    """Read what a sidecar of that size holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or was written by a newer mitoframe.

    """
    found_bytes = store.head(key).size_bytes
    if found_bytes != size_bytes or size_bytes < len(_MAGIC) + _TRAILER.size:
        raise ValueError(f"it has {found_bytes:,} bytes where {size_bytes:,} were written")
    start = max(size_bytes - _TAIL_BYTES, 0)
    tail = store.get_range(key, start, size_bytes - start)
    length, checksum, magic = _TRAILER.unpack(tail[-_TRAILER.size :])
    if magic != _MAGIC or length > size_bytes - len(_MAGIC) - _TRAILER.size:
        raise ValueError("it does not end as an index does")
    footer_start = size_bytes - _TRAILER.size - length
    if footer_start >= start:
        footer = tail[footer_start - start : -_TRAILER.size]
    else:
        footer = store.get_range(key, footer_start, length)
    if google_crc32c.value(footer) != checksum:
        raise ValueError("its footer is damaged")
    return _parse(json.loads(footer))


def _parse(value: dict[str, Any]) -> IndexFooter:
    if value["format"] > INDEX_FORMAT:
        raise ValueError(f"it has format {value['format']}, newer than {INDEX_FORMAT}")
    return IndexFooter(
        file_id=value["file_id"],
        version=value["version"],
        row_count=value["row_count"],
        blobs=tuple(
            Blob(
                entry=IndexEntry(
                    column_id=blob["column_id"], kind=blob["kind"], type=blob["type"], terms=blob.get("terms", "")
                ),
                form=blob["form"],
                offset=blob["offset"],
                length=blob["length"],
                crc32c=blob["crc32c"],
            )
            for blob in value["blobs"]
        ),
    )


def read_blob(store: ObjectStore, key: str, blob: Blob) -> pa.RecordBatch:
    """Read one form of one index.

    Raises:
        FileNotFoundError: the object is gone.
        ValueError: it is damaged.

    """
    data = store.get_range(key, blob.offset, blob.length)
    if google_crc32c.value(data) != blob.crc32c:
        raise ValueError(f"its {blob.entry.kind} index of column {blob.entry.column_id} is damaged")
    with pa.ipc.open_stream(data) as reader:
        batch = reader.read_next_batch()
    batch.validate(full=True)
    return batch


def _to_ipc(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream(POOL)
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
