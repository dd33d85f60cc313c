from __future__ import annotations

import pyarrow as pa
import pytest
from builders import REGION, batch_of, file_id_of, file_of, metadata_of, put
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.index import build_index, collectable_indexes, delete_indexes
from mitoframe.model.alter import AddColumns, ModifyColumnTypes, NewColumn, SetIndexes, alter
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.file import LEVEL_FLUSHED, FileMeta
from mitoframe.model.index import IndexMeta, wanted_indexes
from mitoframe.model.options import RegionOptions
from mitoframe.model.predicate import Compare
from mitoframe.model.rows import RowRanges
from mitoframe.ports import ObjectMeta
from mitoframe.storage.index_reader import IndexReader
from mitoframe.storage.paths import index_folder, index_key, sst_key
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of(fields={"cpu": pa.int32()})
NOW_MS, GRACE_MS = 10_000, 1000


def stored_sst(store: MemoryObjectStore, *, row_group_rows: int) -> FileMeta:
    rows = [put(row + 1, row, cpu=row // 1024) for row in range(5000)]
    return write_sst(
        store,
        METADATA,
        batch_of(METADATA, rows),
        file_id=file_id_of("a"),
        level=LEVEL_FLUSHED,
        row_group_rows=row_group_rows,
        created_ms=0,
    )


def build(store, metadata, file, **known):
    reader = SstReader(store)
    return build_index(metadata, file, wanted_indexes(metadata), store=store, reader=reader, now_ms=lambda: 7, **known)


def with_index(file: FileMeta, index: IndexMeta) -> FileMeta:
    return FileMeta.from_json(file.to_json() | {"index": index.to_json()})


@pytest.mark.parametrize("row_group_rows", [700, 1024, 100_000])
def test_rows_are_indexed_wherever_row_groups_begin(row_group_rows):
    store = MemoryObjectStore()
    file = stored_sst(store, row_group_rows=row_group_rows)
    metadata = alter(METADATA, SetIndexes({"cpu": ("inverted", "skipping")}))

    index = build(store, metadata, file)

    selected = IndexReader(store).select(metadata, with_index(file, index), Compare("cpu", "==", 2))
    assert selected == RowRanges.of([2048], [3072])
    assert (index.version, index.created_ms, index.entries) == (1, 7, wanted_indexes(metadata))
    assert index.size_bytes == store.head(index_key(REGION, file.file_id, 1)).size_bytes


def test_a_column_is_indexed_as_it_reads_now():
    store = MemoryObjectStore()
    file = stored_sst(store, row_group_rows=1024)
    metadata = alter(METADATA, ModifyColumnTypes({"cpu": pa.int64()}))
    metadata = alter(
        metadata, AddColumns((NewColumn("room", pa.string(), default="lab"), NewColumn("note", pa.string())))
    )
    metadata = alter(metadata, SetIndexes({"cpu": ("inverted",), "room": ("inverted",), "note": ("skipping",)}))
    indexed = with_index(file, build(store, metadata, file))
    reader = IndexReader(store)

    assert reader.select(metadata, indexed, Compare("cpu", "==", 2**40)) == RowRanges.nothing()
    assert reader.select(metadata, indexed, Compare("cpu", "==", 4)) == RowRanges.of([4096], [5000])
    assert reader.select(metadata, indexed, Compare("room", "==", "lab")) == RowRanges.everything(5000)
    assert reader.select(metadata, indexed, Compare("room", "==", "hall")) == RowRanges.nothing()
    assert reader.select(metadata, indexed, Compare("note", "==", "x")) == RowRanges.nothing()


def test_what_a_crash_left_behind_is_left_alone_and_the_next_version_taken():
    store = MemoryObjectStore()
    file = stored_sst(store, row_group_rows=1024)
    metadata = alter(METADATA, SetIndexes({"cpu": ("inverted",)}))
    store.put_if_absent(index_key(REGION, file.file_id, 1), b"half a thing")

    index = build(store, metadata, file)

    assert index.version == 2
    assert IndexReader(store).select(metadata, with_index(file, index), Compare("cpu", "==", 9)) == RowRanges.nothing()
    assert store.get(index_key(REGION, file.file_id, 1)) == b"half a thing"


def test_nothing_is_stored_where_no_index_is_wanted_any_more():
    store = MemoryObjectStore()
    file = with_index(
        stored_sst(store, row_group_rows=1024), IndexMeta(version=4, size_bytes=9, checksum=0, created_ms=0)
    )

    assert build(store, METADATA, file) == IndexMeta(version=5, size_bytes=0, checksum=0, created_ms=7)
    assert store.list(index_folder(REGION)) == []


def test_a_build_that_is_not_needed_any_more_stores_nothing():
    store = MemoryObjectStore()
    file = stored_sst(store, row_group_rows=1024)

    def stop() -> None:
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        build(store, alter(METADATA, SetIndexes({"cpu": ("inverted",)})), file, go_on=stop)

    assert store.list(index_folder(REGION)) == []


# --- deletion --------------------------------------------------------------------------------------------


def item(name: str, version: int, modified_ms: int = 0) -> ObjectMeta:
    return ObjectMeta(key=index_key(REGION, file_id_of(name), version), size_bytes=10, modified_ms=modified_ms)


def state_of(listed: dict[str, tuple[int, int]], removed: dict[str, tuple[int, int]]) -> RegionState:
    """List files with the version of their index and when it was made, and some that were removed."""
    state = RegionState(metadata=metadata_of(), options=RegionOptions())
    for name, (version, created_ms) in (listed | removed).items():
        index = IndexMeta(version=version, size_bytes=10, checksum=0, created_ms=created_ms)
        state = state.apply(FileEdit(added=(file_of(name, 0, 1, index=index if version else None),)))
    return state.apply(FileEdit(removed=tuple(map(file_id_of, removed)), at_ms=1)) if removed else state


@pytest.mark.parametrize(
    ("state", "stored", "goes"),
    [
        (state_of({"a": (2, 0)}, {}), item("a", 2), False),
        (state_of({"a": (2, 9000)}, {}), item("a", 1), True),
        (state_of({"a": (2, 9001)}, {}), item("a", 1), False),
        (state_of({"a": (2, 0)}, {}), item("a", 3, 9000), True),
        (state_of({"a": (2, 0)}, {}), item("a", 3, 9001), False),
        (state_of({"a": (0, 0)}, {}), item("a", 1, 9000), True),
        (state_of({}, {"a": (2, 0)}), item("a", 2), False),
        (state_of({}, {"a": (2, 0)}), item("a", 1), True),
        (state_of({}, {}), item("a", 1, 9000), True),
        (state_of({}, {}), item("a", 1, 9001), False),
    ],
    ids=[
        "listed",
        "superseded and old enough",
        "superseded a moment ago",
        "left by a crash",
        "perhaps about to be listed",
        "left by a crash, the first",
        "of a file that is kept a while",
        "superseded, of a file that is kept a while",
        "of a file that has gone",
        "of a file that is perhaps about to be listed",
    ],
)
def test_a_sidecar_goes_when_nobody_needs_it_and_the_grace_is_over(state, stored, goes):
    chosen = collectable_indexes(
        state, [stored], frozenset(), frozenset(), is_behind=False, now_ms=NOW_MS, grace_ms=GRACE_MS
    )

    assert chosen == ((stored,) if goes else ())


def test_while_somebody_reads_an_earlier_version_the_sidecars_of_remembered_files_stay():
    state = state_of({"a": (2, 0)}, {"b": (2, 0)})
    objects = [item(name, version) for name in "abc" for version in (1, 2)]

    def chosen(is_behind: bool) -> set[str]:
        found = collectable_indexes(
            state, objects, frozenset(), frozenset(), is_behind=is_behind, now_ms=NOW_MS, grace_ms=0
        )
        return {one.key for one in found}

    of_the_forgotten = {item("c", 1).key, item("c", 2).key}
    assert chosen(is_behind=True) == of_the_forgotten
    assert chosen(is_behind=False) == {item("a", 1).key, item("b", 1).key, *of_the_forgotten}


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)),
    st.sets(st.tuples(st.sampled_from("abcd"), st.integers(1, 4))),
    st.sets(st.tuples(st.sampled_from("abcd"), st.integers(1, 4))),
    st.sets(st.sampled_from("abcd")),
)
def test_whatever_is_listed_pinned_or_being_built_stays(listed, there, pinned, busy):
    state = state_of({name: (version, 0) for name, version in listed.items()}, {})
    pins = frozenset((file_id_of(name), version) for name, version in pinned)
    objects = [item(*one) for one in sorted(there)]

    built = frozenset(map(file_id_of, busy))
    chosen = collectable_indexes(state, objects, pins, built, is_behind=False, now_ms=NOW_MS, grace_ms=0)

    kept = {(name, version) for name, version in there if listed.get(name) == version or name in busy} | (
        there & pinned
    )
    assert {one.key for one in chosen} == {item(*one).key for one in there - kept}


@pytest.mark.parametrize("name", ["notes.txt", "a.index", "0" * 32 + ".1.index", "0" * 32 + ".0000000001.index.tmp"])
def test_a_name_that_we_did_not_make_is_never_chosen_nor_deleted(name):
    store = MemoryObjectStore()
    foreign = ObjectMeta(key=f"{index_folder(REGION)}/{name}", size_bytes=4, modified_ms=0)
    store.put_if_absent(foreign.key, b"mine")
    state = state_of({}, {})

    nobody = frozenset()
    assert collectable_indexes(state, [foreign], nobody, nobody, is_behind=False, now_ms=10**15, grace_ms=0) == ()
    assert delete_indexes(store, REGION, [foreign]) == ()
    assert store.get(foreign.key) == b"mine"


def test_chosen_sidecars_are_deleted_and_named():
    store = MemoryObjectStore()
    for one in (item("a", 1), item("a", 2), item("b", 1)):
        store.put_if_absent(one.key, b"x")
    store.put_if_absent(sst_key(REGION, file_id_of("a")), b"x")

    assert delete_indexes(store, REGION, [item("a", 1), item("b", 1)]) == (file_id_of("a"), file_id_of("b"))
    assert [one.key for one in store.list(index_folder(REGION))] == [item("a", 2).key]
