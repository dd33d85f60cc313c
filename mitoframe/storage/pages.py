"""Some rows of a column, read by its pages, where Arrow's reader would decode the row group whole.

A chunk (a column in a row group) is a list of pages; each is packed, and decoded, for itself. To read an hour of one
host out of a hundred thousand rows it is enough to unpack the page or two where it lies. Where pages begin is read off
their headers, once, and kept, with the chunk's dictionary, in the store's cache.
Numbers and times are read so, in the encodings that storage/sst_writer.py chooses. Whatever else a file may have, from
strings to encodings of other writers, is left to Arrow's reader: the answer is None.

Promises: each page is compared with its CRC32 before it is unpacked.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from mitoframe.kernels.pages import (
    BEGIN,
    CHECKSUM,
    COUNT,
    DICTIONARY_PAGE,
    END,
    FIRST,
    KIND,
    LAYOUT,
    NO_CHECKSUM,
    PAGE_FIELDS,
    PLAIN,
    PLAIN_DICTIONARY,
    UNPACKED_BYTES,
    WIDTH,
    WORD_COUNT,
    page_headers,
    page_rows,
)
from mitoframe.model.errors import CorruptionError
from mitoframe.storage.paths import sst_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    import numpy.typing as npt
    import pyarrow.parquet as pq

    from mitoframe.model.batch import Take
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import RegionId
    from mitoframe.storage.cache import Cache
    from mitoframe.storage.sst_bytes import SstBytes

_STORED_AS: dict[str, np.dtype[Any]] = {
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FLOAT": np.dtype("<f4"),
    "DOUBLE": np.dtype("<f8"),
}
_CODECS = {"ZSTD": "zstd", "LZ4": "lz4_raw", "SNAPPY": "snappy"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """What is kept of a column in a row group: its data pages, a row of `PAGE_FIELDS` numbers each, and its dictionary.

    ``dictionary`` holds the bits of its numbers. ``codec`` is what Arrow calls it, None if nothing is packed.
    """

    pages: npt.NDArray[np.int64]
    dictionary: npt.NDArray[np.int64]
    codec: str | None

    @property
    def size_bytes(self) -> int:
        return self.pages.nbytes + self.dictionary.nbytes


_NO_WORDS = np.empty(0, np.int64)
UNKNOWN = Chunk(pages=np.empty((0, PAGE_FIELDS), np.int64), dictionary=_NO_WORDS, codec=None)
"""Stands for a chunk that only Arrow can read."""


class SomeRows(NamedTuple):
    """Rows ``starts[i] <= row < stops[i]`` of row group ``number``, counted from its first.

    The ranges ascend, and none is empty; there is one at least.
    """

    number: int
    starts: Take
    stops: Take


class Asked(NamedTuple):
    """A column: which of the file's it is, and what its values were written as."""

    place: int
    data_type: pa.DataType


class Found(NamedTuple):
    """Some rows of a column, and how many bytes were read for them."""

    values: pa.Array
    bytes_read: int


class PageReader:
    """Reads pages of the SSTs of a store; shared by all threads."""

    def __init__(self, data: SstBytes, cache: Cache) -> None:
        self._bytes = data
        self._cache = cache

    def read(
        self, region_id: RegionId, file: FileMeta, parquet: pq.FileMetaData, asked: Many[Asked], wanted: Many[SomeRows]
    ) -> list[Found | None]:
        """Return some rows of columns, one range after the other; None where only Arrow can read a column.

        Raises:
            CorruptionError: a page is not what was written.

        """
        chunks = self._chunks(region_id, file, parquet, asked, [rows.number for rows in wanted])
        known = [at for at, of_column in enumerate(chunks) if UNKNOWN not in of_column]
        todo = [(chunk, rows) for at in known for chunk, rows in zip(chunks[at], wanted, strict=True)]
        touched = [_touched(chunk, rows) for chunk, rows in todo]
        spans = [(int(pages[0, BEGIN]), int(pages[-1, END] - pages[0, BEGIN])) for pages in touched]
        bodies = self._bytes.read_ranges(region_id, file, spans) if spans else ()
        key = partial(sst_key, region_id, file.file_id)
        decoded = [
            _rows(chunk, pages, memoryview(body), rows, key)
            for (chunk, rows), pages, body in zip(todo, touched, bodies, strict=True)
        ]
        found: list[Found | None] = [None] * len(asked)
        for begin, at in zip(range(0, len(todo), len(wanted)), known, strict=True):
            parts = [part for part in decoded[begin : begin + len(wanted)] if part is not None]
            if len(parts) == len(wanted):
                size = sum(size for _, size in spans[begin : begin + len(wanted)])
                found[at] = Found(_as_arrow(*_joined(parts), asked[at].data_type), size)
        return found

    def _chunks(
        self,
        region_id: RegionId,
        file: FileMeta,
        parquet: pq.FileMetaData,
        asked: Many[Asked],
        numbers: Many[int],
    ) -> list[list[Chunk]]:
        """Return what is known of each column's chunks, after a look at those that were never asked for."""
        found = [[self._cache.get("pages", file.file_id, (number, place)) for number in numbers] for place, _ in asked]
        missing = [
            (at, which) for at, chunks in enumerate(found) for which, chunk in enumerate(chunks) if chunk is None
        ]
        if missing:
            columns = [parquet.row_group(numbers[which]).column(asked[at].place) for at, which in missing]
            ranges = [(_start_of(column), column.total_compressed_size) for column in columns]
            datas = self._bytes.read_ranges(region_id, file, ranges)
            key = partial(sst_key, region_id, file.file_id)
            for (at, which), column, data in zip(missing, columns, datas, strict=True):
                place, data_type = asked[at]
                chunk = _chunk(column, parquet.schema.column(place), data_type, data, key)
                self._cache.put("pages", file.file_id, (numbers[which], place), chunk, chunk.size_bytes)
                found[at][which] = chunk
        return found


def _start_of(column: pq.ColumnChunkMetaData) -> int:
    start: int = column.data_page_offset
    return min(start, column.dictionary_page_offset) if column.has_dictionary_page else start


def _chunk(
    column: pq.ColumnChunkMetaData,
    described: pq.ColumnSchema,
    data_type: pa.DataType,
    data: bytes,
    key: Callable[[], str],
) -> Chunk:
    """Learn from all bytes of a chunk where its pages are."""
    stored_as, codec = _STORED_AS.get(column.physical_type), _CODECS.get(column.compression)
    if stored_as is None or not _fits(stored_as, data_type):
        return UNKNOWN
    if described.max_repetition_level or described.max_definition_level > 1:
        return UNKNOWN
    if codec is None and column.compression != "UNCOMPRESSED":
        return UNKNOWN
    start, is_nullable = _start_of(column), described.max_definition_level == 1
    found = page_headers(np.frombuffer(data, np.uint8), start, stored_as.itemsize, is_nullable)
    pages, dictionary = found.reshape(-1, PAGE_FIELDS), _NO_WORDS
    if len(pages) and pages[0, KIND] == DICTIONARY_PAGE:
        words = _dictionary(pages[0], memoryview(data)[pages[0, BEGIN] - start : pages[0, END] - start], codec, key)
        if words is None:
            return UNKNOWN
        dictionary, pages = words, pages[1:]
        pages[:, WORD_COUNT] = len(dictionary)
    if not len(pages) or pages[-1, FIRST] + pages[-1, COUNT] != column.num_values:
        return UNKNOWN
    return Chunk(pages=pages, dictionary=dictionary, codec=codec)


def _dictionary(
    page: npt.NDArray[np.int64], body: memoryview, codec: str | None, key: Callable[[], str]
) -> npt.NDArray[np.int64] | None:
    """Return a chunk's dictionary, as bits; None if it is not laid out as known here."""
    _check(body, int(page[CHECKSUM]), key)
    unpacked = body if codec is None else _unpacked(body, codec, int(page[UNPACKED_BYTES]))
    values = np.frombuffer(unpacked, np.uint8)
    if page[LAYOUT] not in (PLAIN, PLAIN_DICTIONARY) or len(values) != page[COUNT] * page[WIDTH]:
        return None
    return values.view(f"<i{page[WIDTH]}").astype(np.int64)


def _touched(chunk: Chunk, rows: SomeRows) -> npt.NDArray[np.int64]:
    """Return the pages from the first to the last that holds some of the rows."""
    firsts = chunk.pages[:, FIRST]
    return chunk.pages[firsts.searchsorted(rows.starts[0], side="right") - 1 : firsts.searchsorted(rows.stops[-1])]


def _rows(
    chunk: Chunk, pages: npt.NDArray[np.int64], body: memoryview, rows: SomeRows, key: Callable[[], str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None:
    """Return the bits of some rows, and which are not null if some may be; None if only Arrow can decode them.

    ``pages`` are some consecutive ones of the chunk's, ``body`` all bytes from the first to the last.
    """
    placed = pages.copy()
    placed[:, BEGIN : END + 1] -= pages[0, BEGIN]
    stored = [body[begin:end] for begin, end in placed[:, BEGIN : END + 1].tolist()]
    for page, checksum in zip(stored, pages[:, CHECKSUM].tolist(), strict=True):
        _check(page, checksum, key)
    if chunk.codec is not None:
        sizes = pages[:, UNPACKED_BYTES]
        placed[:, END] = np.cumsum(sizes)
        placed[:, BEGIN] = placed[:, END] - sizes
        unpacked = [_unpacked(page, chunk.codec, size) for page, size in zip(stored, sizes.tolist(), strict=True)]
        body = memoryview(unpacked[0] if len(unpacked) == 1 else b"".join(unpacked))
    values, present = page_rows(
        np.frombuffer(body, np.uint8), placed.reshape(-1), chunk.dictionary, rows.starts, rows.stops
    )
    return (values, present) if len(values) else None


def _joined(
    parts: Many[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Put rows of several row groups one after another. One that has no nulls may be the neighbour of one that has."""
    if len(parts) == 1:
        return parts[0]
    present = [there if len(there) else np.ones(len(values), np.bool_) for values, there in parts]
    return np.concatenate([values for values, _ in parts]), np.concatenate(present)


def is_plain_number(data_type: pa.DataType) -> bool:
    """Tell whether Parquet keeps a type's numbers as they are in memory, or wider."""
    kinds = (pa.types.is_integer, pa.types.is_timestamp, pa.types.is_duration, pa.types.is_time64, pa.types.is_date32)
    return data_type in (pa.float32(), pa.float64()) or any(is_kind(data_type) for is_kind in kinds)


def _fits(stored_as: np.dtype[Any], data_type: pa.DataType) -> bool:
    is_float = pa.types.is_floating(data_type)
    width = max(data_type.bit_width, 32)
    return bool((stored_as.kind == "f") == is_float and stored_as.itemsize * 8 == width)


def _check(body: memoryview, expected: int, key: Callable[[], str]) -> None:
    if expected == NO_CHECKSUM:
        return
    found = zlib.crc32(body)
    if found != expected:
        raise CorruptionError(
            "a page's bytes are not those that were written",
            path=key(),
            expected=f"CRC32 {expected:08x}",
            found=f"{found:08x}",
        )


def _unpacked(body: memoryview, codec: str, unpacked_bytes: int) -> bytes:
    unpacked: bytes = pa.decompress(body, unpacked_bytes, codec, asbytes=True)
    return unpacked


def _as_arrow(values: npt.NDArray[np.int64], present: npt.NDArray[np.bool_], data_type: pa.DataType) -> pa.Array:
    if data_type.bit_width < 64:
        values = values.astype(f"<i{data_type.bit_width // 8}")
    if present.all():  # Of none, too.
        return pa.Array.from_buffers(data_type, len(values), [None, pa.py_buffer(values)])
    bits = np.packbits(present, bitorder="little")
    return pa.Array.from_buffers(data_type, len(values), [pa.py_buffer(bits), pa.py_buffer(values)])
