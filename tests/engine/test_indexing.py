"""When indexes are built, how they come to be known, and that nothing else suffers from it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from builders import REGION, batch_of, create, metadata_of, open_engine, put, read, threads
from gates import Gate, Task, wait_until

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.failpoints import watching
from mitoframe.model.alter import AddColumns, DropColumns, NewColumn, SetIndexes, UnsetIndexes
from mitoframe.model.errors import ConfigError, DamageWarning, InvalidInputError, MitoError, ReadOnlyError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId
from mitoframe.model.options import RegionOptions
from mitoframe.model.predicate import Compare
from mitoframe.model.request import AlterRequest, BuildIndexRequest, BulkInsertRequest, DropRequest, ReplaceRequest
from mitoframe.model.rows import RowRanges
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.paths import index_folder, index_key, parse_index_key, sst_key

METADATA = metadata_of(fields={"cpu": pa.int64(), "note": pa.string()})
HOUR_MS = 3_600_000


class GatedIndexes(MemoryObjectStore):
    """Waits before a sidecar is stored, and raises ``error`` instead of storing one if there is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.error: BaseException | None = None
        self.put_count = 0

    def put_if_absent(self, key, data):
        if "/index/" in key:
            self.put_count += 1
            self.gate.wait()
            if self.error is not None:
                raise self.error
        super().put_if_absent(key, data)


def started(store=None, log=None, *, indexes=None, mode="background", **known) -> MitoEngine:
    """Open an engine with a region whose field ``cpu`` is to have an inverted index, unless others are named."""
    engine = open_engine(store, log, **known)
    create(engine, METADATA, index_mode=mode, compaction_mode="manual")
    set_indexes(engine, {"cpu": ("inverted",)} if indexes is None else indexes)
    return engine


def set_indexes(engine: MitoEngine, indexes) -> None:
    engine.alter(REGION, AlterRequest(alterations=(SetIndexes(indexes),)))


def flush(engine: MitoEngine, *times: int) -> FileMeta:
    engine.write(REGION, batch_of(METADATA, [rows(time) for time in times]))
    [file] = engine.flush(REGION).files
    return file


def rows(time: int):
    row = put(0, time)
    return type(row)(0, time, ("a",), (time, f"note {time}"))


def files(engine: MitoEngine) -> list[FileMeta]:
    return sorted(engine.region(REGION).state.files.values(), key=lambda file: file.min_time)


def kinds(file: FileMeta) -> list[str]:
    return [entry.kind for entry in file.index.entries] if file.index is not None else []


def versions(engine: MitoEngine) -> list[int]:
    return [file.index.version if file.index is not None else 0 for file in files(engine)]


def sidecars(store: MemoryObjectStore) -> list[tuple[FileId, int]]:
    return [parsed for item in store.list(index_folder(REGION)) if (parsed := parse_index_key(item.key))]


def listed(engine: MitoEngine) -> list[tuple[FileId, int]]:
    found = [(file.file_id, file.index) for file in files(engine)]
    return sorted((file_id, index.version) for file_id, index in found if index is not None and index.size_bytes)


def select(engine: MitoEngine, file: FileMeta, value: int) -> RowRanges | None:
    return engine.indexes.select(engine.region(REGION).metadata, file, Compare("cpu", "==", value))


# --- when -----------------------------------------------------------------------------------------------


def test_a_file_that_was_flushed_is_indexed_soon_after():
    store = MemoryObjectStore()
    engine = started(store)

    flushed = flush(engine, 1, 2, 3)

    [file] = files(engine)
    assert (flushed.index, kinds(file), versions(engine)) == (None, ["inverted"], [1])
    assert sidecars(store) == listed(engine)
    assert select(engine, file, 2) == RowRanges.everything(3)
    assert select(engine, file, 7) == RowRanges.nothing()


def test_the_file_that_a_compaction_made_is_indexed_and_the_old_indexes_go_with_their_files():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=0)
    flush(engine, 1, 3)
    flush(engine, 2, 4)

    engine.compact(REGION)

    [file] = files(engine)
    assert (file.row_count, kinds(file)) == (4, ["inverted"])
    engine.vacuum(REGION)
    assert sidecars(store) == [(file.file_id, 1)]


def test_files_that_were_there_before_are_indexed_when_the_schema_asks_for_it():
    engine = started(indexes={})
    for time in (1, 2, 3):
        flush(engine, time)
    assert [kinds(file) for file in files(engine)] == [[], [], []]

    set_indexes(engine, {"cpu": ("skipping",), "note": ("fulltext", "inverted")})

    assert [kinds(file) for file in files(engine)] == [["skipping", "inverted", "fulltext"]] * 3


def test_indexes_that_are_not_wanted_any_more_are_given_up():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=1000)
    flush(engine, 1)

    engine.alter(REGION, AlterRequest(alterations=(UnsetIndexes(("cpu",)),)))

    assert (kinds(files(engine)[0]), versions(engine)) == ([], [2])
    assert len(sidecars(store)) == 1
    clock.advance(1000)
    engine.maintain()
    assert sidecars(store) == []


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: BulkInsertRequest(batches=[batch_of(METADATA, [rows(1)])]),
        lambda: ReplaceRequest(time_range=TimeRange(0, 9), batches=[batch_of(METADATA, [rows(1)])]),
    ],
    ids=["backfill", "replace"],
)
def test_files_that_were_written_at_once_are_indexed_too(request_of):
    engine = started()

    engine.handle_request(REGION, request_of())

    assert [kinds(file) for file in files(engine)] == [["inverted"]]


def test_a_table_without_indexes_stores_and_looks_for_none():
    class Refusing(MemoryObjectStore):
        def list(self, prefix):
            assert not prefix.endswith("/index")
            return super().list(prefix)

    engine = started(Refusing(), indexes={})
    flush(engine, 1)
    flush(engine, 1)

    engine.compact(REGION)

    assert engine.vacuum(REGION, 0).removed
    assert files(engine)[0].index is None


def test_indexes_of_tags_are_answered_by_the_table_of_series():
    engine = started(indexes={"host": ("inverted", "skipping", "fulltext")})

    flush(engine, 1)

    assert files(engine)[0].index is None
    assert engine.build_index(REGION).files == ()


# --- with the file ----------------------------------------------------------------------------------------


def test_in_sync_mode_a_file_is_never_seen_without_its_index():
    seen = []
    engine = started(mode="sync")

    with watching(
        lambda name: seen.append([kinds(file) for file in files(engine)]) if name == "edit.switched" else None
    ):
        flush(engine, 1, 3)
        flush(engine, 2, 4)
        engine.compact(REGION)

    assert all(kind == ["inverted"] for of_files in seen for kind in of_files)
    assert versions(engine) == [1]


@pytest.mark.parametrize("mode", ["sync", "background"])
def test_an_index_that_cannot_be_built_fails_nothing_else_and_is_tried_again(mode):
    store = GatedIndexes()
    engine = started(store, mode=mode)
    store.error = MitoError("no room for hints")

    flush(engine, 1)

    assert read(engine, columns=("cpu",)) == [(1,)]
    [region] = engine.health().regions
    assert repr(region.failures["index"]) == "MitoError('no room for hints')"
    store.error = None
    engine.maintain()
    [region] = engine.health().regions
    assert (dict(region.failures), versions(engine)) == ({}, [1])


# --- on demand --------------------------------------------------------------------------------------------


def test_in_manual_mode_indexes_are_built_when_somebody_asks():
    engine = started(mode="manual")
    flush(engine, 1)
    flush(engine, 5)
    engine.maintain()
    assert versions(engine) == [0, 0]

    assert engine.handle_request(REGION, BuildIndexRequest()) == 2

    assert versions(engine) == [1, 1]


def test_what_is_as_it_should_be_is_not_built_again():
    engine = started(mode="manual")
    flush(engine, 1)
    engine.build_index(REGION)
    flush(engine, 5)

    again = engine.build_index(REGION)

    assert ([file.min_time for file in again.files], versions(engine)) == ([5], [1, 1])
    assert engine.build_index(REGION).files == ()
    set_indexes(engine, {"cpu": ("skipping",)})
    assert len(engine.build_index(REGION).files) == 2
    assert versions(engine) == [2, 2]


def test_some_files_or_some_kinds_can_be_asked_for():
    engine = started(mode="manual", indexes={"cpu": ("inverted", "skipping"), "note": ("skipping",)})
    first, second = flush(engine, 1), flush(engine, 5)

    engine.build_index(REGION, BuildIndexRequest(file_ids=(second.file_id,)))
    assert versions(engine) == [0, 1]

    engine.build_index(REGION, BuildIndexRequest(file_ids=(first.file_id,), kinds=("skipping",)))
    assert kinds(files(engine)[0]) == ["skipping", "skipping"]
    engine.build_index(REGION, BuildIndexRequest(kinds=("inverted",)))
    assert [kinds(file) for file in files(engine)] == [["inverted", "skipping", "skipping"]] * 2
    assert versions(engine) == [2, 1]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (BuildIndexRequest(file_ids=(FileId("0" * 32),)), "is not in the table"),
        (BuildIndexRequest(kinds=("invrted",)), "no kind of index 'invrted'; did you mean 'inverted'"),
    ],
    ids=["file", "kind"],
)
def test_a_request_for_what_there_is_not_is_refused(request_, message):
    engine = started()

    with pytest.raises(InvalidInputError, match=message):
        engine.build_index(REGION, request_)


def test_a_reader_builds_nothing():
    store, log = MemoryObjectStore(), MemoryLog()
    flush(started(store, log, mode="manual"), 1)
    engine = open_engine(store, log, read_only=True)

    with pytest.raises(ReadOnlyError):
        engine.build_index(REGION)
    assert sidecars(store) == []


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="index_mode='later' is not one of"):
        RegionOptions(index_mode="later")  # type: ignore[arg-type]


# --- meanwhile ----------------------------------------------------------------------------------------------


def gated(**known) -> tuple[GatedIndexes, MitoEngine]:
    """Open an engine whose first file is being indexed, and held just before that is stored."""
    store = GatedIndexes()
    engine = started(store, scheduler=threads(), **known)
    store.gate.close()
    flush(engine, 1, 3)
    store.gate.reached()
    return store, engine


def test_an_index_is_not_published_for_a_file_that_was_compacted_meanwhile():
    store, engine = gated()
    flush(engine, 2, 4)

    engine.compact(REGION)
    store.gate.open()
    engine.drain()

    [file] = files(engine)
    assert (file.row_count, kinds(file)) == (4, ["inverted"])
    assert sidecars(store) == listed(engine)
    assert engine.health().regions[0].failures == {}
    engine.close()


def test_a_build_that_waits_for_a_compacted_file_ends_quietly():
    store, engine = gated()
    for time in (2, 4, 6):
        flush(engine, time, time + 1)

    asked = Task(lambda: engine.build_index(REGION))
    engine.compact(REGION)
    store.gate.open()

    asked.result()
    engine.drain()
    assert [kinds(file) for file in files(engine)] == [["inverted"]] * len(files(engine))
    assert sidecars(store) == listed(engine)
    assert engine.health().regions[0].failures == {}
    engine.close()


def test_of_schemas_that_follow_one_another_the_last_counts():
    store, engine = gated()

    set_indexes(engine, {"cpu": ("skipping",)})
    set_indexes(engine, {"cpu": ("skipping",), "note": ("fulltext",)})
    store.gate.open()
    engine.drain()

    assert kinds(files(engine)[0]) == ["skipping", "fulltext"]
    assert sidecars(store) == listed(engine)
    engine.close()


def test_a_change_of_other_columns_does_not_make_a_build_stale():
    store, engine = gated()

    engine.alter(REGION, AlterRequest(alterations=(AddColumns((NewColumn("room", pa.string()),)),)))
    store.gate.open()
    engine.drain()

    assert (kinds(files(engine)[0]), versions(engine)) == (["inverted"], [1])
    engine.close()


def test_an_index_of_a_column_that_was_dropped_meanwhile_is_not_published():
    store, engine = gated()

    engine.alter(REGION, AlterRequest(alterations=(DropColumns(("cpu",)),)))
    store.gate.open()
    engine.drain()

    assert (files(engine)[0].index, sidecars(store)) == (None, [])
    engine.close()


def test_a_file_is_built_once_however_many_ask_for_it():
    store, engine = gated()

    tasks = [Task(lambda: engine.build_index(REGION)) for _ in range(3)]
    engine.maintain()
    store.gate.open()

    for task in tasks:
        task.result()
    assert (versions(engine), sidecars(store), store.put_count) == ([1], listed(engine), 1)
    engine.close()


def test_what_somebody_asked_for_comes_before_what_a_flush_made_due():
    store, engine = gated()
    order: list[FileId] = []
    waiting = [flush(engine, 10 * number) for number in range(1, 5)]

    asked = Task(lambda: engine.build_index(REGION, BuildIndexRequest(file_ids=(waiting[2].file_id,))))
    wait_until(lambda: len(engine._background._indexing._queue) > 4)
    with watching(lambda name: order.append(_newest(store)) if name == "index.stored" else None):
        store.gate.open()
        asked.result()
        engine.drain()

    assert order[1] == waiting[2].file_id
    assert len(order) == len(set(order)) == 5
    engine.close()


def _newest(store: MemoryObjectStore) -> FileId:
    return list(store._objects)[-1].rpartition("/")[2][:32]


def test_closing_does_not_wait_for_builds_that_have_not_begun():
    store, engine = gated()
    for time in range(10, 15):
        flush(engine, time)

    closing = Task(engine.close)
    wait_until(lambda: engine._background._indexing._is_stopped)
    store.gate.open()
    closing.result()

    assert len(sidecars(store)) <= 1


def test_closing_lets_a_build_end_that_was_hurried_and_is_about_to():
    store, engine = gated()
    waiting = [flush(engine, 10 * number) for number in range(1, 4)]
    asked = Task(lambda: engine.build_index(REGION, BuildIndexRequest(file_ids=(waiting[1].file_id,))))
    wait_until(lambda: len(engine._background._indexing._queue) > 3)

    def stop(name: str) -> None:
        if name == "index.stored" and _newest(store) == waiting[1].file_id:
            engine._background.stop_indexing()

    with watching(stop):
        store.gate.open()
        built = asked.result()
        engine.drain()

    assert [file.file_id for file in built.files] == [waiting[1].file_id]
    assert (versions(engine), engine.health().regions[0].failures) == ([1, 0, 1, 0], {})
    engine.close()


def test_a_region_that_was_let_go_and_opened_again_is_indexed_and_the_older_build_is_not_published():
    store, engine = gated()

    Task(lambda: engine.close_region(REGION, flush=True)).result()
    engine.region(REGION)
    again = Task(lambda: engine.build_index(REGION))
    wait_until(lambda: len(engine._background._indexing._builds) == 2)
    store.gate.open()

    assert len(again.result().files) == 1
    assert (kinds(files(engine)[0]), sidecars(store)) == (["inverted"], listed(engine))
    assert engine.health().regions[0].failures == {}
    engine.close()


# --- crashes and damage -----------------------------------------------------------------------------------


class Killed(BaseException):
    """The process died here."""


def test_a_crash_between_sidecar_and_edit_leaves_nothing_for_good():
    log, clock = MemoryLog(), ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, log, clock=clock, mode="manual")
    flush(engine, 1)

    def die(name: str) -> None:
        if name == "index.stored":
            raise Killed

    with watching(die), pytest.raises(Killed):
        engine.build_index(REGION)
    engine = open_engine(store, log, clock=clock, seed=1, gc_grace_ms=1000)
    assert (versions(engine), len(sidecars(store))) == ([0], 1)

    engine.build_index(REGION)
    assert (versions(engine), len(sidecars(store))) == ([2], 2)
    clock.advance(1000)
    engine.maintain()

    assert sidecars(store) == listed(engine)


def test_indexes_are_what_they_were_after_opening_again():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, checkpoint_distance=2)
    for time in range(1, 6):
        flush(engine, time)
    before = files(engine)

    after = files(open_engine(store, log, seed=1))

    assert after == before
    assert [kinds(file) for file in after] == [["inverted"]] * 5


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_index_is_built_anew_with_the_upkeep(damage):
    store = MemoryObjectStore()
    engine = started(store)
    flush(engine, 1, 2)
    [file] = files(engine)
    key = index_key(REGION, file.file_id, 1)
    data = bytearray(store.get(key))
    store.delete(key)
    if damage == "changed":
        data[-10] ^= 1
        store.put_if_absent(key, bytes(data))

    with pytest.warns(DamageWarning, match=r"0000000001\.index: this index cannot be used"):
        assert select(engine, file, 7) is None
    engine.maintain()

    [file] = files(engine)
    assert file.index is not None
    assert file.index.version == 2
    assert select(engine, file, 7) == RowRanges.nothing()


def test_a_file_that_cannot_be_read_is_not_tried_again_and_again():
    store = MemoryObjectStore()
    engine = started(store, mode="manual")
    file = flush(engine, 1)
    store.delete(sst_key(REGION, file.file_id))
    engine.reader.forget(file.file_id)

    engine.alter(REGION, AlterRequest(options={"index_mode": "background"}))
    [region] = engine.health().regions
    assert "it is missing" in repr(region.failures["index"])
    built = engine._background._indexing.start_if_due(engine.region(REGION), 0)  # type: ignore[arg-type]

    assert built == []
    with pytest.raises(MitoError, match="it is missing"):
        engine.build_index(REGION)


# --- deletion ---------------------------------------------------------------------------------------------


def test_a_superseded_index_stays_for_the_grace_period_and_for_whoever_holds_the_version():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=1000)
    flush(engine, 1)
    held = engine.region(REGION).control.current().version
    set_indexes(engine, {"cpu": ("skipping",)})

    def left() -> list[int]:
        return [version for _, version in sidecars(store)]

    clock.advance(999)
    engine.vacuum(REGION)
    assert left() == [1, 2]
    clock.advance(1)
    engine.vacuum(REGION)
    assert left() == [1, 2]
    del held
    engine.vacuum(REGION)
    assert left() == [2]


@pytest.mark.parametrize("mode", ["background", "sync"])
def test_a_sidecar_that_is_about_to_be_listed_is_not_collected(mode):
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=0, mode=mode)

    with watching(lambda name: engine.vacuum(REGION) and None if name == "index.stored" else None):
        flush(engine, 1)

    assert sidecars(store) == listed(engine) != []


def test_the_indexes_of_a_dropped_table_go_with_it():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=0)
    flush(engine, 1)

    engine.handle_request(REGION, DropRequest())
    engine.maintain()

    assert store.list(index_folder(REGION)) == []
    assert engine.dropped() == frozenset()


def test_reads_see_the_same_rows_with_and_without_indexes():
    with_indexes, without = (
        started(indexes={"cpu": ("inverted", "skipping"), "note": ("fulltext",)}),
        started(indexes={}),
    )
    for engine in (with_indexes, without):
        for times in ((1, 2, 3), (3, 4), (2, 9)):
            flush(engine, *times)
        engine.write(REGION, batch_of(METADATA, [rows(4)]))

    for value in range(11):
        predicate = Compare("cpu", "==", value)
        assert read(with_indexes, predicate=predicate) == read(without, predicate=predicate)
