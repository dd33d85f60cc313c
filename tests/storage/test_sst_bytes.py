"""Files of several blocks: what is handed out was compared, and no more is read for that than it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import google_crc32c
import pyarrow as pa
import pytest
from builders import REGION, batch_of, file_id_of, file_of, metadata_of, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.errors import CorruptionError
from mitoframe.model.file import BLOCK_BYTES, FORMER_BLOCK_BYTES, FileMeta
from mitoframe.storage import sst_bytes, sst_writer
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_bytes import SstBytes, block_checksums
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of()
KEY = sst_key(REGION, file_id_of("a"))
NOT_WRITTEN = "the file's bytes are not those that were written"


class Counting(MemoryObjectStore):
    """Remembers what was read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.put_if_absent(KEY, data)
        self.ranges: list[tuple[int, int]] = []

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.ranges.append((start, length))
        return super().get_range(key, start, length)


@contextmanager
def blocks_of(size_bytes: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sst_bytes, "BLOCK_BYTES", size_bytes)
        patch.setattr(sst_bytes, "_READ_BYTES", 4 * size_bytes)
        patch.setattr(sst_writer, "BLOCK_BYTES", size_bytes)
        yield


def described(data: bytes, *, has_blocks: bool = True) -> FileMeta:
    """Describe bytes as the manifest does, or as one does that was written before blocks had checksums."""
    blocks = block_checksums(pa.py_buffer(data)) if has_blocks else ()
    facts = {
        "size_bytes": len(data),
        "checksum": google_crc32c.value(data),
        "blocks": blocks,
        "block_bytes": sst_bytes.BLOCK_BYTES,
    }
    return file_of("a", 0, 1, **facts)


def damaged(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


datas = st.binary(min_size=1, max_size=60)
reads = st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), min_size=1, max_size=8)
sizes = st.integers(1, 70)


def clipped(data: bytes, wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    starts = [(min(start, len(data) - 1), length) for start, length in wanted]
    return [(start, min(length, len(data) - start)) for start, length in starts]


@settings(deadline=None, max_examples=100)
@given(datas, reads, sizes, st.booleans())
def test_any_bytes_are_read_as_they_were_written(data, wanted, block_bytes, has_blocks):
    with blocks_of(block_bytes):
        file, reader = described(data, has_blocks=has_blocks), SstBytes(MemoryObjectStore())
        reader._store.put_if_absent(KEY, data)

        for start, length in clipped(data, wanted):
            assert reader.read(REGION, file, start, length) == data[start : start + length]
        reader.compare(REGION, file)


@settings(deadline=None, max_examples=100)
@given(datas, reads, sizes, st.integers(0, 59))
def test_damage_is_found_by_whoever_reads_of_its_block_and_by_nobody_else(data, wanted, block_bytes, place):
    place = min(place, len(data) - 1)
    with blocks_of(block_bytes):
        file, reader = described(data), SstBytes(Counting(damaged(data, place)))

        for start, length in clipped(data, wanted):
            touched = range(start // block_bytes, (start + length - 1) // block_bytes + 1)
            if place // block_bytes not in touched:
                assert reader.read(REGION, file, start, length) == data[start : start + length]
                continue
            with pytest.raises(CorruptionError, match=NOT_WRITTEN) as caught:
                reader.read(REGION, file, start, length)
            assert caught.value.path == KEY
        with pytest.raises(CorruptionError, match=NOT_WRITTEN):
            reader.compare(REGION, file)


@settings(deadline=None, max_examples=60)
@given(datas, reads, sizes, st.integers(0, 59))
def test_damage_anywhere_in_a_file_without_blocks_is_found_before_its_first_byte_is_handed_out(
    data, wanted, block_bytes, place
):
    with blocks_of(block_bytes):
        file = described(data, has_blocks=False)
        reader = SstBytes(Counting(damaged(data, min(place, len(data) - 1))))

        for start, length in clipped(data, wanted):
            with pytest.raises(CorruptionError, match=NOT_WRITTEN):
                reader.read(REGION, file, start, length)


def test_of_a_file_with_blocks_no_more_is_read_than_the_blocks_of_what_is_wanted_and_each_is_compared_once():
    data = bytes(range(100))
    with blocks_of(10):
        store = Counting(data)
        file, reader = described(data), SstBytes(store)

        reader.read(REGION, file, 25, 10)
        reader.read(REGION, file, 21, 3)

        assert store.ranges == [(20, 20), (21, 3)], "blocks 2 and 3, then what is known"


def test_of_a_file_without_blocks_all_is_read_once():
    data = bytes(range(100))
    with blocks_of(10):
        store = Counting(data)
        file, reader = described(data, has_blocks=False), SstBytes(store)

        reader.read(REGION, file, 25, 10)
        reader.read(REGION, file, 95, 5)

        assert store.ranges == [(0, 40), (40, 40), (80, 20), (25, 10), (95, 5)]


def test_what_is_forgotten_is_compared_again():
    data = bytes(range(100))
    with blocks_of(10):
        store = Counting(data)
        file, reader = described(data), SstBytes(store)
        reader.compare(REGION, file)
        store.delete(KEY)
        store.put_if_absent(KEY, damaged(data, 55))

        reader.forget(file.file_id)

        assert reader.read(REGION, file, 40, 10) == data[40:50]
        with pytest.raises(CorruptionError, match=NOT_WRITTEN):
            reader.read(REGION, file, 50, 10)


# --- a whole SST ----------------------------------------------------------------------------------------

BLOCK, ROWS, ROWS_OF_A_GROUP = 10_000, 20_000, 4_000


def stored() -> tuple[bytes, FileMeta]:
    """Write an SST with row groups that are larger than a block, and that is larger than what is read of its end."""
    store = MemoryObjectStore()
    written = [put(n + 1, n * n * 7919, f"h{n % 7}", n * n * 31) for n in range(ROWS)]
    file = write_sst(
        store,
        METADATA,
        sort_batches([batch_of(METADATA, written)]),
        file_id=file_id_of("a"),
        level=0,
        row_group_rows=ROWS_OF_A_GROUP,
        created_ms=0,
    )
    return store.get(KEY), file


@pytest.fixture(scope="module")
def sst() -> tuple[bytes, FileMeta]:
    """Return the bytes of an SST of several blocks, and what the manifest knows of it."""
    with blocks_of(BLOCK):
        return stored()


def test_an_sst_of_several_blocks_reads_as_one_of_a_single_block(sst):
    (data, file), (again, alone) = sst, stored()

    with blocks_of(BLOCK):
        batch = SstReader(Counting(data)).read(METADATA, file, range(file.row_group_count), ["cpu"])

    assert again == data
    assert (alone.blocks, len(file.blocks)) == ((), -(-file.size_bytes // BLOCK))
    assert replace(file, blocks=(), block_bytes=alone.block_bytes) == alone
    whole = SstReader(Counting(data)).read(METADATA, alone, range(alone.row_group_count), ["cpu"])
    assert rows_of(batch) == rows_of(whole)
    assert len(batch) == ROWS


def test_one_damaged_block_spoils_its_own_row_group_and_no_other(sst):
    data, file = sst
    with blocks_of(BLOCK):
        place = SstReader(Counting(data)).footer(METADATA, file).parquet.row_group(1).column(1).data_page_offset
        reader = SstReader(Counting(damaged(data, place + BLOCK)))

        assert len(reader.read(METADATA, file, [0], ["cpu"])) == ROWS_OF_A_GROUP
        with pytest.raises(CorruptionError, match=NOT_WRITTEN) as caught:
            reader.read(METADATA, file, [1], ["cpu"])
        assert caught.value.path == KEY
        assert len(reader.read(METADATA, file, [3], ["cpu"])) == ROWS_OF_A_GROUP


def test_an_sst_that_was_written_before_blocks_had_checksums_is_compared_whole(sst):
    data, file = sst
    older = FileMeta.from_json({name: value for name, value in file.to_json().items() if name != "blocks"})
    assert older.blocks == ()

    with blocks_of(BLOCK):
        assert len(SstReader(Counting(data)).read(METADATA, older, [0], ["cpu"])) == ROWS_OF_A_GROUP
        with pytest.raises(CorruptionError, match=NOT_WRITTEN):
            SstReader(Counting(damaged(data, len(data) // 3))).read(METADATA, older, [3], ["cpu"])


def test_checksums_of_blocks_survive_being_json_and_a_file_of_one_block_is_written_as_before():
    file = file_of("a", 0, 1, blocks=(0, 1, 2**32 - 1), block_bytes=1 << 20)

    assert FileMeta.from_json(json.loads(json.dumps(file.to_json()))) == file
    assert not {"blocks", "block_bytes"} & file_of("a", 0, 1).to_json().keys()


def test_blocks_of_a_file_that_does_not_say_how_large_they_are_have_the_former_size():
    data = bytes(range(256)) * (FORMER_BLOCK_BYTES // 256) + b"more"
    size = FORMER_BLOCK_BYTES
    blocks = google_crc32c.value(data[:size]), google_crc32c.value(data[size:])
    known = file_of("a", 0, 1, size_bytes=len(data), checksum=google_crc32c.value(data), blocks=blocks).to_json()
    del known["block_bytes"]
    file = FileMeta.from_json(known)
    store = Counting(data)

    assert SstBytes(store).read(REGION, file, size, 4) == b"more"
    assert store.ranges == [(size, 4)]
    with pytest.raises(CorruptionError, match=NOT_WRITTEN):
        SstBytes(Counting(damaged(data, 7))).read(REGION, file, 0, 1)


def test_a_file_has_checksums_of_blocks_if_it_is_larger_than_one():
    assert block_checksums(pa.py_buffer(bytes(BLOCK_BYTES))) == ()
    assert block_checksums(pa.py_buffer(bytes(BLOCK_BYTES + 1))) == (
        google_crc32c.value(bytes(BLOCK_BYTES)),
        google_crc32c.value(bytes(1)),
    )
