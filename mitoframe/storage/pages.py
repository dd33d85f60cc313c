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
from bisect import bisect_left, bisect_right
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
    FIRST_WORD,
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
    from collections.abc import Callable, Iterator
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

    ``firsts`` are the pages' first rows. ``dictionary`` holds the bits of its numbers. ``codec`` is what Arrow calls
    what packs them, None if nothing does.
    """

    pages: npt.NDArray[np.int64]
    firsts: list[int]
    dictionary: npt.NDArray[np.int64]
    codec: str | None

    @property
    def size_bytes(self) -> int:
        return self.pages.nbytes + _FIRST_BYTES * len(self.firsts) + self.dictionary.nbytes


_ROWS_APART = 1 << 40
"""More rows than a row group has."""
_FIRST_BYTES = 40
_NO_WORDS = np.empty(0, np.int64)
UNKNOWN = Chunk(pages=np.empty((0, PAGE_FIELDS), np.int64), firsts=[], dictionary=_NO_WORDS, codec=None)
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
        found: list[Found | None] = [None] * len(asked)
        if not known:
            return found
        columns = [_placed(chunks[at], wanted) for at in known]
        spans = [span for column in columns for span in column.spans]
        bodies = self._bytes.read_ranges(region_id, file, spans)
        starts, stops = _apart(wanted)
        key = partial(sst_key, region_id, file.file_id)
        for begin, at, column in zip(range(0, len(spans), len(wanted)), known, columns, strict=True):
            data = _unpacked_pages(column, bodies[begin : begin + len(wanted)], key)
            values, present = page_rows(data, column.pages.reshape(-1), column.dictionary, starts, stops)
            if len(values):
                size = sum(size for _, size in column.spans)
                found[at] = Found(_as_arrow(values, present, asked[at].data_type), size)
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
    return Chunk(pages=pages, firsts=pages[:, FIRST].tolist(), dictionary=dictionary, codec=codec)


def _dictionary(
    page: npt.NDArray[np.int64], body: memoryview, codec: str | None, key: Callable[[], str]
) -> npt.NDArray[np.int64] | None:
    """Return a chunk's dictionary, as bits; None if it is not laid out as known here."""
    unpacked = _unpacked(_checked(body, int(page[CHECKSUM]), key), codec, int(page[UNPACKED_BYTES]))
    values = np.frombuffer(unpacked, np.uint8)
    if page[LAYOUT] not in (PLAIN, PLAIN_DICTIONARY) or len(values) != page[COUNT] * page[WIDTH]:
        return None
    return values.view(f"<i{page[WIDTH]}").astype(np.int64)


class _Column(NamedTuple):
    """Pages of a column that hold rows of one or several row groups, as if they were of one: rows are counted `_apart`.

    Of each page ``codecs`` says what it is packed with. ``spans`` are where the pages of each row group lie in the
    file: the first byte, and how many.
    """

    pages: npt.NDArray[np.int64]
    dictionary: npt.NDArray[np.int64]
    codecs: list[str | None]
    spans: list[tuple[int, int]]


def _placed(chunks: Many[Chunk], wanted: Many[SomeRows]) -> _Column:
    """Return the pages from the first to the last of each row group that holds some of the rows."""
    touched, codecs, counts, spans, word_counts = [], [], [], [], []
    for chunk, rows in zip(chunks, wanted, strict=True):
        first = bisect_right(chunk.firsts, rows.starts[0]) - 1
        pages = chunk.pages[first : bisect_left(chunk.firsts, rows.stops[-1])]
        touched.append(pages)
        codecs += [chunk.codec] * len(pages)
        counts.append(len(pages))
        spans.append((int(pages[0, BEGIN]), int(pages[-1, END] - pages[0, BEGIN])))
        word_counts.append(len(chunk.dictionary))
    if len(touched) == 1:
        return _Column(touched[0].copy(), chunks[0].dictionary, codecs, spans)
    pages = np.concatenate(touched)
    pages[:, FIRST] += np.repeat(np.arange(len(counts)) * _ROWS_APART, counts)
    pages[:, FIRST_WORD] = np.repeat(np.cumsum(word_counts) - word_counts, counts)
    return _Column(pages, np.concatenate([chunk.dictionary for chunk in chunks]), codecs, spans)


def _apart(wanted: Many[SomeRows]) -> tuple[Take, Take]:
    """Return ranges of rows of several row groups as if all were of one."""
    if len(wanted) == 1:
        return wanted[0].starts, wanted[0].stops
    starts = [rows.starts + number * _ROWS_APART for number, rows in enumerate(wanted)]
    stops = [rows.stops + number * _ROWS_APART for number, rows in enumerate(wanted)]
    return np.concatenate(starts), np.concatenate(stops)


def _unpacked_pages(column: _Column, bodies: Many[bytes], key: Callable[[], str]) -> npt.NDArray[np.uint8]:
    """Compare pages with their checksums and unpack them, one after the other; where they are then is noted in them."""
    checksums, sizes = column.pages[:, CHECKSUM].tolist(), column.pages[:, UNPACKED_BYTES].tolist()
    stored = [
        _unpacked(_checked(body, checksum, key), codec, size)
        for body, checksum, codec, size in zip(_cut(column, bodies), checksums, column.codecs, sizes, strict=True)
    ]
    ends = np.cumsum([len(body) for body in stored])
    column.pages[:, END] = ends
    column.pages[1:, BEGIN], column.pages[0, BEGIN] = ends[:-1], 0
    return np.frombuffer(stored[0] if len(stored) == 1 else b"".join(stored), np.uint8)


def _cut(column: _Column, bodies: Many[bytes]) -> Iterator[memoryview]:
    """Yield the body of each page; ``bodies`` are all bytes from the first to the last of each row group."""
    begins_ends = iter(column.pages[:, BEGIN : END + 1].tolist())
    for (start, length), body in zip(column.spans, bodies, strict=True):
        view, end = memoryview(body), start
        while end < start + length:
            begin, end = next(begins_ends)
            yield view[begin - start : end - start]


def is_plain_number(data_type: pa.DataType) -> bool:
    """Tell whether Parquet keeps a type's numbers as they are in memory, or wider."""
    kinds = (pa.types.is_integer, pa.types.is_timestamp, pa.types.is_duration, pa.types.is_time64, pa.types.is_date32)
    return data_type in (pa.float32(), pa.float64()) or any(is_kind(data_type) for is_kind in kinds)


def _fits(stored_as: np.dtype[Any], data_type: pa.DataType) -> bool:
    is_float = pa.types.is_floating(data_type)
    width = max(data_type.bit_width, 32)
    return bool((stored_as.kind == "f") == is_float and stored_as.itemsize * 8 == width)


def _checked(body: memoryview, expected: int, key: Callable[[], str]) -> memoryview:
    found = expected if expected == NO_CHECKSUM else zlib.crc32(body)
    if found != expected:
        raise CorruptionError(
            "a page's bytes are not those that were written",
            path=key(),
            expected=f"CRC32 {expected:08x}",
            found=f"{found:08x}",
        )
    return body


def _unpacked(body: memoryview, codec: str | None, unpacked_bytes: int) -> memoryview | bytes:
    if codec is None:
        return body
    unpacked: bytes = pa.decompress(body, unpacked_bytes, codec, asbytes=True)
    return unpacked


def _as_arrow(values: npt.NDArray[np.int64], present: npt.NDArray[np.bool_], data_type: pa.DataType) -> pa.Array:
    if data_type.bit_width < 64:
        values = values.astype(f"<i{data_type.bit_width // 8}")
    if present.all():  # Of none, too.
        return pa.Array.from_buffers(data_type, len(values), [None, pa.py_buffer(values)])
    bits = np.packbits(present, bitorder="little")
    return pa.Array.from_buffers(data_type, len(values), [pa.py_buffer(bits), pa.py_buffer(values)])
