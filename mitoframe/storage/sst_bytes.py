"""The bytes of SSTs, none of which is handed out before it was compared with the manifest.

The manifest has a CRC32C of every block of a file (``FileMeta.block_bytes``), so that a reader who wants little of it
reads and compares little. A file that was written before there were such, and one that fits a block, is compared whole,
before its first byte is handed out. What was compared is remembered for the life of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c
import pyarrow as pa

from mitoframe.model.errors import CorruptionError
from mitoframe.model.file import BLOCK_BYTES
from mitoframe.storage.paths import sst_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.ports import ObjectStore

_READ_BYTES = 8 * 1024 * 1024
"""So much is read at once where all of a file is compared."""


def block_checksums(data: pa.Buffer) -> tuple[int, ...]:
    """Return the CRC32C of each block of `BLOCK_BYTES`, none if there is but one."""
    return tuple(_of_blocks(data, BLOCK_BYTES)) if data.size > BLOCK_BYTES else ()


def _of_blocks(data: pa.Buffer, block_bytes: int) -> Iterator[int]:
    for start in range(0, data.size, block_bytes):
        yield google_crc32c.value(data.slice(start, min(block_bytes, data.size - start)))


def _block_bytes(file: FileMeta) -> int:
    return file.block_bytes if file.blocks else BLOCK_BYTES


class SstBytes:
    """Reads stored SSTs; shared by all threads."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._compared: dict[FileId, bytearray] = {}

    def read(self, region_id: RegionId, file: FileMeta, start: int, length: int) -> bytes:
        """Return some bytes of a file.

        Raises:
            CorruptionError: it is missing, or its size or bytes are not what was written.

        """
        return self.read_ranges(region_id, file, [(start, length)])[0]

    def read_ranges(self, region_id: RegionId, file: FileMeta, ranges: Many[tuple[int, int]]) -> Many[bytes]:
        """Return what `read` does for each (start, length). What was compared before is read in one request."""
        compared, block_bytes = self._known(region_id, file), _block_bytes(file)
        bounds = [(start // block_bytes, -(-(start + length) // block_bytes)) for start, length in ranges]
        found: list[bytes | None] = [None] * len(ranges)
        for at, (first, last) in enumerate(bounds):
            if compared.find(0, first, last) >= 0:
                found[at] = self._read_new(region_id, file, compared, bounds[at], ranges[at])
        known = [at for at, data in enumerate(found) if data is None]
        if known:
            stored = self._stored(region_id, file, [ranges[at] for at in known])
            for at, data in zip(known, stored, strict=True):
                found[at] = data
        return [data for data in found if data is not None]

    def _read_new(
        self, region_id: RegionId, file: FileMeta, compared: bytearray, blocks: tuple[int, int], wanted: tuple[int, int]
    ) -> bytes:
        """Read bytes of blocks of which some were not compared yet."""
        start, length = wanted
        if not file.blocks and file.size_bytes > BLOCK_BYTES:
            self.compare(region_id, file)
            return self._stored(region_id, file, [wanted])[0]
        begin = blocks[0] * _block_bytes(file)
        data = self._compare(region_id, file, compared, *blocks)
        return data[start - begin : start - begin + length]

    def compare(self, region_id: RegionId, file: FileMeta) -> None:
        """Compare with the manifest what of a file was not yet.

        Raises:
            CorruptionError: as `read`.

        """
        compared = self._known(region_id, file)
        if 0 not in compared:
            return
        if file.blocks:
            blocks_each = max(1, _READ_BYTES // file.block_bytes)
            for first in range(0, len(compared), blocks_each):
                last = min(first + blocks_each, len(compared))
                if compared.find(0, first, last) >= 0:
                    self._compare(region_id, file, compared, first, last)
            return
        self._compare_whole(region_id, file, compared)

    def compare_twice(self, region_id: RegionId, file: FileMeta) -> None:
        """Compare all of a file both block by block and as a whole, whatever was compared before.

        Raises:
            CorruptionError: as `read`.

        """
        self.forget(file.file_id)
        if file.blocks:
            self.compare(region_id, file)
        self._compare_whole(region_id, file, self._known(region_id, file))

    def forget(self, file_id: FileId) -> None:
        """Drop what is kept of a file that was deleted."""
        self._compared.pop(file_id, None)

    def _stored(self, region_id: RegionId, file: FileMeta, ranges: Many[tuple[int, int]]) -> Many[bytes]:
        """Read bytes that have to be there."""
        key = sst_key(region_id, file.file_id)
        try:
            return self._store.get_ranges(key, ranges)
        except FileNotFoundError as error:
            raise CorruptionError("the manifest lists this file, but it is missing", path=key) from error

    def _known(self, region_id: RegionId, file: FileMeta) -> bytearray:
        """Return which blocks were compared, after a look at the size if none was yet."""
        known = self._compared.get(file.file_id)
        if known is not None:
            return known
        key = sst_key(region_id, file.file_id)
        try:
            found_bytes = self._store.head(key).size_bytes
        except FileNotFoundError as error:
            raise CorruptionError("the manifest lists this file, but it is missing", path=key) from error
        if found_bytes != file.size_bytes:
            raise CorruptionError(
                "the file has another size than was written", path=key, expected=file.size_bytes, found=found_bytes
            )
        blocks = -(-file.size_bytes // _block_bytes(file))
        return self._compared.setdefault(file.file_id, bytearray(blocks))

    def _compare(self, region_id: RegionId, file: FileMeta, compared: bytearray, first: int, last: int) -> bytes:
        """Read blocks, compare each, and return them."""
        key = sst_key(region_id, file.file_id)
        block_bytes = _block_bytes(file)
        start = first * block_bytes
        size = min(last * block_bytes, file.size_bytes) - start
        data = self._stored(region_id, file, [(start, size)])[0]
        expected = file.blocks[first:last] or (file.checksum,)
        for checksum, found in zip(expected, _of_blocks(pa.py_buffer(data), block_bytes), strict=True):
            _check(key, checksum, found)
        compared[first:last] = bytes([1]) * (last - first)
        return data

    def _compare_whole(self, region_id: RegionId, file: FileMeta, compared: bytearray) -> None:
        key, checksum = sst_key(region_id, file.file_id), 0
        for start in range(0, file.size_bytes, _READ_BYTES):
            data = self._stored(region_id, file, [(start, min(_READ_BYTES, file.size_bytes - start))])[0]
            checksum = google_crc32c.extend(checksum, data)
        _check(key, file.checksum, checksum)
        compared[:] = bytes([1]) * len(compared)


def _check(key: str, expected: int, found: int) -> None:
    if found != expected:
        raise CorruptionError(
            "the file's bytes are not those that were written",
            path=key,
            expected=f"CRC32C {expected:08x}",
            found=f"{found:08x}",
        )
