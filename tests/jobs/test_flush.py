from __future__ import annotations

from builders import Row, batch_of, delete, file_id_of, file_of, metadata_of, newest, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.failpoints import watching
from mitoframe.jobs.flush import flush_memtable, flushed
from mitoframe.model.edit import FileEdit
from mitoframe.model.file import LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import EntryId, Sequence
from mitoframe.model.options import MitoConfig
from mitoframe.storage.memtable import Memtable
from mitoframe.storage.paths import sst_folder
from mitoframe.storage.sst_reader import SstReader

METADATA = metadata_of()

drawn_rows = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3), st.sampled_from([None, "a", "b"]), st.none() | st.integers(0, 9)),
    min_size=1,
    max_size=6,
)


def memtable_of(rows: list[Row], number: int = 1) -> Memtable:
    memtable = Memtable(number)
    memtable.insert(batch_of(METADATA, rows), EntryId(10 * number))
    return memtable


def flush(store: MemoryObjectStore, memtable: Memtable, *, row_group_rows: int = 100) -> FileMeta:
    return flush_memtable(
        METADATA,
        memtable,
        store=store,
        file_id=file_id_of("a"),
        config=MitoConfig(row_group_rows=row_group_rows),
        now_ms=5000,
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(drawn_rows, min_size=1, max_size=4), st.integers(1, 5))
def test_the_file_holds_the_newest_row_of_each_key_with_its_own_sequence(drawn, row_group_rows):
    memtable, written = Memtable(1), []
    for number, part in enumerate(drawn):
        first = len(written) + 1
        rows = [
            put(first + n, time, host, cpu) if is_put else delete(first + n, time, host)
            for n, (is_put, time, host, cpu) in enumerate(part)
        ]
        memtable.insert(batch_of(METADATA, rows), EntryId(number + 1))
        written += rows
    store = MemoryObjectStore()

    file = flush(store, memtable, row_group_rows=row_group_rows)

    found = SstReader(store).read(METADATA, file, range(file.row_group_count), ["cpu"])
    wanted = newest(written)
    assert rows_of(found) == wanted
    assert (file.row_count, file.delete_count) == (len(wanted), sum(row.op_type == 0 for row in wanted))
    assert file.row_group_count == -(-len(wanted) // row_group_rows)
    assert (file.min_sequence, file.max_sequence) == (
        min(row.sequence for row in wanted),
        max(row.sequence for row in wanted),
    )


def test_the_file_is_of_the_first_level_and_of_this_moment():
    file = flush(MemoryObjectStore(), memtable_of([put(1, 5)]))

    assert (file.file_id, file.level, file.created_ms) == (file_id_of("a"), LEVEL_FLUSHED, 5000)


def test_a_delete_marker_is_flushed_for_it_may_hide_rows_in_other_files():
    file = flush(MemoryObjectStore(), memtable_of([delete(1, 5)]))

    assert (file.row_count, file.delete_count) == (1, 1)


def test_the_memtable_is_left_as_it_was():
    memtable = memtable_of([put(2, 5), put(3, 1)])
    before = memtable.stats

    flush(MemoryObjectStore(), memtable)

    assert memtable.stats == before
    assert rows_of(memtable.snapshot(Sequence(9))[0]) == [put(2, 5), put(3, 1)]


def test_the_file_is_stored_when_the_crash_point_is_reached():
    store, seen = MemoryObjectStore(), []

    with watching(lambda name: seen.append((name, len(store.list(sst_folder(METADATA.region_id)))))):
        flush(store, memtable_of([put(1, 5)]))

    assert seen == [("flush.sst_stored", 1)]


def test_the_edit_says_what_the_log_need_not_keep():
    memtables = [memtable_of([put(1, 5), put(2, 6)], 1), memtable_of([put(3, 5), put(4, 5)], 2)]
    files = [file_of("a", 5, 6), file_of("b", 5, 5)]

    edit = flushed(memtables, files, at_ms=7000, reason="test")

    assert edit == FileEdit(
        added=tuple(files), flushed_entry_id=EntryId(20), flushed_sequence=Sequence(4), at_ms=7000, reason="test"
    )
