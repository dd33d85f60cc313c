"""SSTs that are written while they are encoded and read a little at a time are those that are handled whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, file_id_of, metadata_of, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import Batch
from mitoframe.model.errors import CorruptionError, UnavailableError
from mitoframe.model.file import BLOCK_BYTES, FileMeta
from mitoframe.model.timerange import TIME_MAX, TIME_MIN, TimeRange
from mitoframe.storage import sst_writer
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import encode_sst, store_sst, write_sst

METADATA = metadata_of()
KEY = sst_key(REGION, file_id_of("a"))
NAMED: dict[str, Any] = {"file_id": file_id_of("a"), "level": 1, "created_ms": 7}


def random_rows(count: int) -> Batch:
    """Return rows that no packing makes smaller."""
    random = np.random.default_rng(1)
    rows = batch_of(METADATA, [Row(n + 1, n, ("ab"[n % 2],)) for n in range(2)])
    return Batch(
        series=rows.series,
        codes=np.repeat(np.arange(2, dtype=np.int32), count // 2),
        times=np.tile(np.arange(count // 2), 2),
        sequences=np.arange(1, count + 1, dtype=np.uint64),
        op_types=np.ones(count, dtype=np.uint8),
        fields=pa.RecordBatch.from_arrays([pa.array(random.integers(-(2**62), 2**62, count))], names=["cpu"]),
    )


class Drawn(Iterator[Batch]):
    """Counts the batches that were drawn."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches, self.count = iter(batches), 0

    def __next__(self) -> Batch:
        batch = next(self._batches)
        self.count += 1
        return batch


class Slices:
    """Rows whose slices are watched, or end with an error."""

    def __init__(self, rows: Batch, error: BaseException | None = None) -> None:
        self._rows, self._error = rows, error
        self.drawn = Drawn([])

    @property
    def series(self) -> pa.RecordBatch:
        return self._rows.series

    def slices(self, rows_max: int) -> Iterator[Batch]:
        self.drawn = Drawn(self._rows.slices(rows_max))
        yield from self.drawn
        if self._error is not None:
            raise self._error

    def fields_with_nulls(self) -> set[str]:
        return self._rows.fields_with_nulls()


# --- writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 200_000, 2 * BLOCK_BYTES // 8])
def test_what_is_stored_while_it_is_encoded_is_what_is_encoded_first(count: int) -> None:
    rows, at_once, store = random_rows(count), MemoryObjectStore(), MemoryObjectStore()
    encoded = encode_sst(METADATA, rows, 50_000, level=1)
    expected = store_sst(at_once, METADATA, encoded, **NAMED)

    file = write_sst(store, METADATA, rows, row_group_rows=50_000, **NAMED)

    assert file == expected
    assert store.get(KEY) == at_once.get(KEY)
    assert len(file.blocks) == (0 if file.size_bytes <= BLOCK_BYTES else -(-file.size_bytes // BLOCK_BYTES))


def test_a_file_is_never_whole_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Slices(random_rows(200_000))
    met: list[tuple[int, int]] = []

    class Watching(MemoryObjectStore):
        def put_parts_if_absent(self, key: str, parts: Iterable[Any]) -> None:
            held = []
            for part in parts:
                met.append((rows.drawn.count, len(part)))
                held.append(part)
            super().put_parts_if_absent(key, held)

    monkeypatch.setattr(sst_writer, "BLOCK_BYTES", 64 * 1024)
    monkeypatch.setattr(sst_writer, "_WRITTEN_AT_ONCE_BYTES", 4096)

    write_sst(Watching(), METADATA, rows, row_group_rows=10_000, **NAMED)

    assert len({drawn for drawn, _ in met}) > 15, "parts come after each row group or two"
    assert {size for _, size in met[:-1]} == {64 * 1024}


@pytest.mark.parametrize("error", [CorruptionError("damaged", path="somewhere"), UnavailableError("gone"), OSError(5)])
def test_rows_that_cannot_be_read_are_not_stored(error: BaseException) -> None:
    store = MemoryObjectStore()

    with pytest.raises(type(error)) as caught:
        write_sst(store, METADATA, Slices(random_rows(20), error), row_group_rows=10, **NAMED)

    assert caught.value is error
    assert store.list(sst_folder(REGION)) == []


# --- reading --------------------------------------------------------------------------------------------


def stored(rows: list[Row], row_group_rows: int) -> tuple[MemoryObjectStore, FileMeta]:
    store = MemoryObjectStore()
    batch = sort_batches([batch_of(METADATA, rows)], "none")
    return store, write_sst(store, METADATA, batch, row_group_rows=row_group_rows, **NAMED)


@settings(deadline=None, max_examples=80)
@given(
    keys=st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.integers(-3, 6)), min_size=1, max_size=30),
    row_group_rows=st.integers(1, 8),
    rows_max=st.integers(1, 9),
    rows=st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted),
    times=st.tuples(st.sampled_from([TIME_MIN, -2, 0, 3]), st.sampled_from([TIME_MAX, -1, 1, 4])),
    is_lean=st.booleans(),
)
def test_a_stream_of_some_rows_at_some_times_is_what_is_left_of_all(
    keys: list[tuple[str | None, int]],
    row_group_rows: int,
    rows_max: int,
    rows: list[int],
    times: tuple[int, int],
    is_lean: bool,
) -> None:
    store, file = stored([Row(n + 1, time, (host,), (n,)) for n, (host, time) in enumerate(keys)], row_group_rows)
    reader = SstReader(store)
    everything = rows_of(reader.read(METADATA, file, range(file.row_group_count), ["cpu"]))
    asked = range(min(rows[0], len(keys)), min(rows[1], len(keys)))

    found = list(reader.stream(METADATA, file, ["cpu"], rows_max, rows=asked, times=TimeRange(*times), is_lean=is_lean))

    assert [row for batch in found for row in rows_of(batch)] == [
        row for row in everything[asked.start : asked.stop] if TimeRange(*times).holds(row.time)
    ]
    assert all(0 < len(batch) <= rows_max for batch in found)


def test_row_groups_at_other_times_or_of_other_rows_are_not_read() -> None:
    store, file = stored([Row(n + 1, n) for n in range(100)], 10)
    reader = SstReader(store)
    reader.footer(METADATA, file)
    damaged = bytearray(store.get(KEY))
    damaged[4:8] = b"\0\0\0\0"  # Where the first page of the first row group begins.
    store.delete(KEY)
    store.put_if_absent(KEY, damaged)
    compared = reader._bytes._compared[file.file_id]
    compared[:] = bytes([1]) * len(compared)

    later = list(reader.stream(METADATA, file, ["cpu"], 100, times=TimeRange(10, 30)))
    behind = list(reader.stream(METADATA, file, ["cpu"], 100, rows=range(95, 100)))

    assert [len(batch) for batch in later] == [10, 10]
    assert [row.time for batch in behind for row in rows_of(batch)] == [95, 96, 97, 98, 99]


READINGS = {
    "stream": lambda reader, file: list(reader.stream(METADATA, file, ["cpu"], 100)),
    "lean": lambda reader, file: list(reader.stream(METADATA, file, ["cpu"], 100, is_lean=True)),
    "whole": lambda reader, file: reader.read(METADATA, file, [0, 1], ["cpu"]),
    "row group": lambda reader, file: reader.row_group(METADATA, file, 0, ["cpu"]),
}


@pytest.mark.parametrize("way", READINGS)
def test_a_store_that_fails_is_not_taken_for_a_damaged_file(way: str) -> None:
    class Failing(MemoryObjectStore):
        error: Exception | None = None

        def get_ranges(self, key: str, ranges: Any) -> Any:
            if self.error is not None:
                raise self.error
            return super().get_ranges(key, ranges)

    whole, file = stored([Row(n + 1, n) for n in range(100)], 10)
    store = Failing()
    store.put_if_absent(KEY, whole.get(KEY))
    reader = SstReader(store)
    reader.footer(METADATA, file)
    store.error = UnavailableError("no answer")

    with pytest.raises(UnavailableError, match="no answer") as caught:
        READINGS[way](reader, file)

    assert caught.value is store.error
