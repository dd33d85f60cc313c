from __future__ import annotations

from typing import Any

import pytest
from builders import Row, batch_of, delete, file_of, metadata_of, newest, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.failpoints import watching
from mitoframe.jobs.flush import SST_ROWS_MIN, FlushedMemtable, flush_memtable, flushed, joined
from mitoframe.model.edit import FileEdit, WriteKey
from mitoframe.model.errors import UnavailableError
from mitoframe.model.file import LEVEL_FLUSHED, LEVEL_HISTORY, FileMeta
from mitoframe.model.ids import EntryId, FileId, Sequence
from mitoframe.storage import memtable as memtable_module
from mitoframe.storage.memtable import Memtable, MemtableLimits, MemtableRange, RangeStats, _Partition
from mitoframe.storage.paths import sst_folder
from mitoframe.storage.sst_reader import SstReader

METADATA = metadata_of()

drawn_rows = st.lists(
    st.tuples(st.booleans(), st.integers(-12, 12), st.sampled_from([None, "a", "b"]), st.none() | st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


def memtable_of(rows: list[Row], number: int = 1, **known: Any) -> Memtable:
    memtable = Memtable(number, **known)
    memtable.insert(batch_of(METADATA, rows), EntryId(10 * number))
    return memtable


def flush(
    store: MemoryObjectStore, memtable: Memtable, *, row_group_rows: int = 100, keep_history: bool = True
) -> FlushedMemtable:
    randomness = SeededRandomness(1)
    return flush_memtable(
        METADATA,
        memtable,
        store=store,
        new_file_id=lambda: FileId(randomness.hex128()),
        row_group_rows=row_group_rows,
        now_ms=5000,
        keep_history=keep_history,
    )


def read(store: MemoryObjectStore, file: FileMeta) -> list[Row]:
    return rows_of(SstReader(store).read(METADATA, file, range(file.row_group_count), ["cpu"]))


def stored(store: MemoryObjectStore) -> int:
    return len(store.list(sst_folder(METADATA.region_id)))


@pytest.fixture
def one_sst_per_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitoframe.jobs.flush.SST_ROWS_MIN", 0)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a few rows enough for every form of parts, and for SSTs of their own."""
    monkeypatch.setattr(memtable_module, "OPEN_BATCH_ROWS_MAX", 2)
    monkeypatch.setattr(memtable_module, "PARTS_MERGED", 2)
    monkeypatch.setattr("mitoframe.jobs.flush.SST_ROWS_MIN", 4)


def versions(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.key, -row.sequence))


def answer(rows: list[Row], dedup: str) -> tuple[list[Row], list[Row]]:
    """What the files are to hold, and what the history, worked out the slow way."""
    everything = versions(rows)
    if dedup == "none":
        return everything, []
    kept = newest(rows)
    if dedup == "last":
        return kept, [row for row in everything if row not in kept]
    by_key = {row.key: [each for each in everything if each.key == row.key] for row in kept}
    return (
        [each for row in kept for each in filled(by_key[row.key])],
        [each for group in by_key.values() if len(group) > 1 for each in group],
    )


def filled(group: list[Row]) -> list[Row]:
    """Merge the versions of a key, newest first: the row that is left, and the marker that stopped it."""
    first = group[0]
    marker = next((row for row in group if row.op_type == 0), None)
    if first is marker:
        return [first]
    above = group[: group.index(marker)] if marker else group
    value = next((row.fields[0] for row in above if row.fields[0] is not None), None)
    merged = Row(first.sequence, first.time, first.tags, (value,), first.op_type)
    return [merged] if marker is None else [merged, marker]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("keep_history", [True, False])
@settings(deadline=None, max_examples=80)
@given(
    drawn=st.lists(drawn_rows, min_size=1, max_size=5),
    row_group_rows=st.integers(1, 5),
    width=st.none() | st.integers(1, 9),
    dedup=st.sampled_from(["last", "merge", "none"]),
    tidied=st.booleans(),
)
def test_the_files_hold_what_dedup_leaves_and_the_history_the_rest(
    keep_history, drawn, row_group_rows, width, dedup, tidied
):
    limits = MemtableLimits(encode_rows=5, row_group_rows=2)
    memtable, written = Memtable(1, dedup=dedup, width=width, limits=limits), []
    for number, part in enumerate(drawn, start=1):
        first = len(written) + 1
        rows = [
            put(first + n, time, host, cpu) if is_put else delete(first + n, time, host)
            for n, (is_put, time, host, cpu) in enumerate(part)
        ]
        memtable.insert(batch_of(METADATA, rows), EntryId(number))
        written += rows
        if tidied:
            memtable.tidy(METADATA)
    store = MemoryObjectStore()

    output = flush(store, memtable, row_group_rows=row_group_rows, keep_history=keep_history)

    kept, superseded = answer(written, dedup)
    parts = [read(store, file) for file in output.files]
    assert versions([row for part in parts for row in part]) == kept
    assert [read(store, file) for file in output.history] == ([superseded] if superseded and keep_history else [])
    assert stored(store) == len(output.files) + len(output.history)
    for file, part in zip(output.files, parts, strict=True):
        assert part == versions(part)
        assert (file.row_count, file.delete_count) == (len(part), sum(row.op_type == 0 for row in part))
        assert file.row_group_count == -(-len(part) // row_group_rows)
        assert (file.min_time, file.max_time) == (min(row.time for row in part), max(row.time for row in part))
    for before, after in zip(output.files, output.files[1:], strict=False):
        assert before.max_time < after.min_time


def test_files_are_of_the_first_level_and_history_is_below_it_all_of_this_moment():
    output = flush(MemoryObjectStore(), memtable_of([put(1, 5), put(2, 5)]))

    assert [(file.level, file.created_ms) for file in output.files] == [(LEVEL_FLUSHED, 5000)]
    assert [(file.level, file.created_ms) for file in output.history] == [(LEVEL_HISTORY, 5000)]
    assert output.files[0].file_id != output.history[0].file_id


def test_a_delete_marker_is_flushed_for_it_may_hide_rows_in_other_files():
    (file,) = flush(MemoryObjectStore(), memtable_of([delete(1, 5)])).files

    assert (file.row_count, file.delete_count) == (1, 1)


def test_the_memtable_is_left_as_it_was():
    memtable = memtable_of([put(2, 5), put(3, 1), put(4, 1)])
    before = memtable.stats

    flush(MemoryObjectStore(), memtable)

    assert memtable.stats == before
    assert [row.sequence for row in rows_of(memtable.sorted(Sequence(9)))] == [4, 3, 2]


@pytest.mark.usefixtures("one_sst_per_partition")
def test_each_file_is_stored_when_the_crash_point_is_reached():
    store, seen = MemoryObjectStore(), []

    with watching(lambda name: seen.append((name, stored(store)))):
        flush(store, memtable_of([put(1, 5), put(2, 15), put(3, 15)], width=10))

    assert seen == [("flush.sst_stored", 1), ("flush.sst_stored", 2), ("flush.sst_stored", 3)]


class FailsAt(MemoryObjectStore):
    """Refuses one of its writes, and with ``keeps`` every deletion after it."""

    def __init__(self, number: int, *, keeps: bool = False) -> None:
        super().__init__()
        self.left, self.keeps = number, keeps

    def put_if_absent(self, key: str, data: Any) -> None:
        self.left -= 1
        if not self.left:
            raise UnavailableError("no room")
        super().put_if_absent(key, data)

    def delete(self, key: str) -> None:
        if self.keeps:
            raise UnavailableError("no answer")
        super().delete(key)


@pytest.mark.usefixtures("one_sst_per_partition")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_was_stored_is_deleted_after_an_error(number):
    store = FailsAt(number)

    with pytest.raises(UnavailableError, match="no room"):
        flush(store, memtable_of([put(1, 5), put(2, 15), put(3, 15)], width=10))

    assert stored(store) == 0


@pytest.mark.usefixtures("one_sst_per_partition")
def test_the_first_error_is_told_even_if_nothing_can_be_deleted():
    store = FailsAt(2, keeps=True)

    with pytest.raises(UnavailableError, match="no room"):
        flush(store, memtable_of([put(1, 5), put(2, 15)], width=10))

    assert stored(store) == 1


def range_of(first: int, row_count: int) -> MemtableRange:
    stats = RangeStats(
        row_count=row_count,
        delete_count=0,
        min_time=first,
        max_time=first,
        min_sequence=Sequence(1),
        max_sequence=Sequence(1),
    )
    return MemtableRange(
        stats=stats, _memtable=Memtable(1), _width=1, _number=first, _partition=_Partition(stats=stats)
    )


def shares(*row_counts: int) -> str:
    groups = joined([range_of(number, count) for number, count in enumerate(row_counts)])
    return " | ".join(" ".join(str(each.stats.row_count) for each in group) for group in groups)


def test_neighbours_with_few_rows_share_a_file():
    assert SST_ROWS_MIN == 20_000
    assert shares(7) == "7"
    assert shares(30_000, 40_000) == "30000 | 40000"
    assert shares(*[1] * 5) == "1 1 1 1 1"
    assert shares(19_000, 999, 1) == "19000 999 | 1"
    assert shares(5, 30_000, 5, 5) == "5 | 30000 | 5 5"
    assert shares(19_999, 1) == "19999 | 1"
    assert shares(9_000, 9_000, 9_000, 9_000, 9_000) == "9000 9000 | 9000 9000 | 9000"


def encoded_memtable(monkeypatch: pytest.MonkeyPatch) -> Memtable:
    monkeypatch.setattr(memtable_module, "OPEN_BATCH_ROWS_MAX", 1)
    monkeypatch.setattr(memtable_module, "PARTS_MERGED", 2)
    memtable = Memtable(1, limits=MemtableLimits(encode_rows=1, row_group_rows=3))
    memtable.insert(batch_of(METADATA, [put(n, n) for n in range(1, 8)]), EntryId(1))
    memtable.insert(batch_of(METADATA, [put(n + 10, n) for n in range(1, 8)]), EntryId(2))
    memtable.tidy(METADATA)
    return memtable


def test_a_partition_that_is_encoded_is_stored_as_it_is(monkeypatch):
    memtable, store = encoded_memtable(monkeypatch), MemoryObjectStore()
    encoded = memtable.ranges()[0].encoded()
    assert encoded is not None
    monkeypatch.setattr("mitoframe.jobs.flush.sort_versions_of", None)

    output = flush(store, memtable, row_group_rows=3)

    (file,) = output.files
    assert file.checksum == encoded.sst.checksum
    assert [row.sequence for row in read(store, file)] == list(range(11, 18))
    assert [row.sequence for row in read(store, output.history[0])] == list(range(1, 8))


def test_the_versions_beside_an_encoded_part_are_history_only_if_that_is_kept(monkeypatch):
    memtable, store = encoded_memtable(monkeypatch), MemoryObjectStore()

    output = flush(store, memtable, row_group_rows=3, keep_history=False)

    assert (output.history, stored(store)) == ((), 1)


def test_a_partition_that_was_encoded_for_other_row_groups_is_encoded_again(monkeypatch):
    memtable, store = encoded_memtable(monkeypatch), MemoryObjectStore()

    (file,) = flush(store, memtable, row_group_rows=4).files

    assert file.row_group_count == 2
    assert [row.sequence for row in read(store, file)] == list(range(11, 18))


def test_the_edit_says_what_the_log_need_not_keep():
    keys = [
        WriteKey(key=name, first_sequence=Sequence(n), row_count=1, min_time=5, max_time=5, at_ms=0)
        for n, name in enumerate(["k", "l"])
    ]
    memtables = [memtable_of([put(1, 5), put(2, 6)], 1), memtable_of([put(3, 5)], 2)]
    memtables[0].insert(batch_of(METADATA, [put(3, 5)]), EntryId(19), key=keys[0])
    memtables[1].insert(batch_of(METADATA, [put(4, 5)]), EntryId(29), key=keys[1])
    a, b, c, d = (file_of(name, 5, 6) for name in "abcd")
    outputs = [FlushedMemtable(files=(a, b), history=(c,)), FlushedMemtable(files=(d,))]

    edit = flushed(outputs, memtables, at_ms=7000, reason="test")

    assert edit == FileEdit(
        added=(a, b, d),
        history=(c,),
        flushed_entry_id=EntryId(29),
        flushed_sequence=Sequence(4),
        write_keys=tuple(keys),
        at_ms=7000,
        reason="test",
    )
