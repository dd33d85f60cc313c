"""Regions come and go: made, opened, closed, dropped, with writes and flushes under way, with a log and without."""

from __future__ import annotations

from dataclasses import fields

import pyarrow as pa
import pytest
from acceptance.steps import (
    METADATA,
    OTHER,
    OTHER_ID,
    SlowManifest,
    alter,
    buffered_rows,
    bulk_insert,
    files,
    flush,
    rows_to,
    snapshot,
    started,
    state,
    threads,
    values,
    write_times,
)
from builders import CPU, HOST, REGION, create, metadata_of, open_engine, put
from gates import GatedStore, Task, wait_until

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.errors import (
    ClosedError,
    CorruptionError,
    InvalidInputError,
    ReadOnlyError,
    TableNotFoundError,
)
from mitoframe.model.ids import EntryId
from mitoframe.model.options import RegionOptions
from mitoframe.model.request import (
    CloseRequest,
    CreateRequest,
    DropRequest,
    FlushRequest,
    OpenRequest,
    TruncateRequest,
)
from mitoframe.storage.paths import REGIONS_FOLDER, dropped_key, manifest_folder, sst_folder
from mitoframe.storage.wal import Wal

NOOP = {"wal": "noop"}


def close(engine, region=REGION, *, flush: bool = True) -> int:
    return engine.handle_request(region, CloseRequest(flush=flush))


def opened(engine) -> list[int]:
    return [region.region_id for region in engine.health().regions]


def logged(log, metadata=METADATA) -> int:
    return len(list(Wal(log).replay(metadata, EntryId(0))))


def stored(store, region=REGION) -> list[str]:
    return [item.key for folder in (manifest_folder(region), sst_folder(region)) for item in store.list(folder)]


# --- create ---------------------------------------------------------------------------------------------


def test_a_region_that_is_made_is_open_empty_and_writable():
    store = MemoryObjectStore()
    engine = started(store)

    assert opened(engine) == [REGION]
    assert (values(engine), snapshot(engine).visible) == ([], 0)
    assert len(store.list(manifest_folder(REGION))) == 1
    assert write_times(engine, 1) == 1


def test_making_a_region_that_is_there_again_changes_nothing():
    engine = started()
    write_times(engine, 1)
    version = snapshot(engine).version.manifest_version

    create(engine, METADATA)

    assert (values(engine), snapshot(engine).version.manifest_version) == ([1], version)


def test_making_a_region_that_was_closed_opens_it_for_writing():
    engine = started()
    write_times(engine, 1)
    close(engine, flush=False)

    create(engine, METADATA)

    assert opened(engine) == [REGION]
    assert write_times(engine, 2) == 1
    assert values(engine) == [1, 2]


def test_a_region_of_another_number_is_another_region_beside_it():
    store = MemoryObjectStore()
    engine = started(store)
    create(engine, OTHER)

    write_times(engine, 1)
    write_times(engine, 2, region=OTHER_ID)
    flush(engine)
    flush(engine, OTHER_ID)

    assert (values(engine), values(engine, OTHER_ID)) == ([1], [2])
    assert not set(stored(store)) & set(stored(store, OTHER_ID))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(metadata_of(HOST, {"cpu": pa.float64()}), id="another type"),
        pytest.param(metadata_of(HOST, CPU | {"mem": pa.float64()}), id="another field"),
        pytest.param(metadata_of({}, HOST | CPU), id="another primary key"),
        pytest.param(metadata_of(HOST | {"rack": pa.string()}, CPU), id="a longer primary key"),
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
def test_making_a_region_again_with_another_schema_is_refused_and_changes_nothing(other, is_open):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)
    before = stored(store)
    if not is_open:
        close(engine, flush=False)

    with pytest.raises(InvalidInputError, match="exists with another schema"):
        create(engine, other)

    assert stored(store) == before
    assert state(engine).metadata == METADATA
    assert values(engine) == [1]


def test_a_region_that_cannot_be_opened_is_never_made_anew():
    store = MemoryObjectStore()
    write_times(started(store), 1)
    [manifest] = store.list(manifest_folder(REGION))
    damaged = store.get(manifest.key)[:-1]
    store.delete(manifest.key)
    store.put_if_absent(manifest.key, damaged)

    with pytest.raises(CorruptionError):
        started(store, seed=1)

    assert store.get(manifest.key) == damaged
    assert len(store.list(manifest_folder(REGION))) == 1


def test_options_given_at_creation_are_kept():
    store, log = MemoryObjectStore(), MemoryLog()
    options = RegionOptions(
        compaction_window_ms=7_200_000,
        dedup="merge",
        wal="noop",
        write_buffer_size_bytes=12345,
        auto_flush_interval_ms=678,
        row_group_rows=9,
        index_mode="sync",
        ttl_ms=86_400_000,
        sst_size_bytes=1_000_000,
        compaction_mode="manual",
        compaction_policy="runs",
        compaction_trigger_files=5,
        compaction_settled_trigger_files=6,
        compaction_settle_ms=7,
        compaction_input_files_max=8,
        compaction_input_size_max_bytes=9_000_000,
    )
    plain = RegionOptions()
    left = [field.name for field in fields(RegionOptions) if getattr(options, field.name) == getattr(plain, field.name)]
    assert left == [], "every option is given"

    open_engine(store, log).handle_request(REGION, CreateRequest(metadata=METADATA, options=options))

    assert state(open_engine(store, log, seed=1)).options == options


# --- open -----------------------------------------------------------------------------------------------


def test_opening_what_was_never_made_is_refused_and_makes_nothing():
    store = MemoryObjectStore()
    engine = open_engine(store)

    with pytest.raises(CorruptionError, match="the region has no manifest"):
        engine.handle_request(REGION, OpenRequest())

    assert opened(engine) == []
    assert stored(store) == []


def test_opening_what_is_open_is_fine():
    engine = started()
    region = engine.region(REGION)

    assert engine.handle_request(REGION, OpenRequest()) == 0

    assert engine.region(REGION) is region


@pytest.mark.parametrize("flushing", [True, False])
def test_a_region_that_was_closed_can_be_opened_again(flushing):
    engine = started()
    write_times(engine, 1)
    close(engine, flush=flushing)
    assert opened(engine) == []

    engine.handle_request(REGION, OpenRequest())

    assert opened(engine) == [REGION]
    assert values(engine) == [1]
    assert write_times(engine, 2) == 1


def test_an_engine_opened_for_reading_refuses_writes_that_one_opened_for_writing_takes():
    store, log = MemoryObjectStore(), MemoryLog()
    write_times(started(store, log), 1)
    reader = open_engine(store, log, read_only=True)
    reader.handle_request(REGION, OpenRequest())

    with pytest.raises(ReadOnlyError):
        write_times(reader, 2)

    assert values(reader) == [1]
    assert (log.last_id(), snapshot(reader).visible) == (1, 1)
    assert write_times(open_engine(store, log, seed=1), 2) == 1


def test_who_asks_for_a_region_that_is_being_opened_waits_and_gets_the_same():
    store, log = SlowManifest(), MemoryLog()
    write_times(started(store, log), 1)
    engine = open_engine(store, log, seed=1)
    store.reading.close()

    first = Task(lambda: engine.region(REGION))
    store.reading.reached()
    second = Task(lambda: engine.region(REGION))
    store.reading.open()

    assert first.result() is second.result()
    assert values(engine) == [1]


def test_who_waits_for_a_region_that_cannot_be_opened_is_told_so_too():
    store = SlowManifest()
    started(store)
    [manifest] = store.list(manifest_folder(REGION))
    engine = open_engine(store, seed=1)
    store.reading.close()

    tasks = [Task(lambda: engine.region(REGION))]
    store.reading.reached()
    tasks.append(Task(lambda: engine.region(REGION)))
    store.delete(manifest.key)
    store.reading.open()

    for task in tasks:
        with pytest.raises(CorruptionError):
            task.result()
    assert opened(engine) == []


# --- close ----------------------------------------------------------------------------------------------


def test_closing_a_region_lets_it_go_and_closing_it_again_is_fine():
    engine = started()

    assert [close(engine), close(engine), close(engine, OTHER_ID)] == [0, 0, 0]

    assert opened(engine) == []


@pytest.mark.parametrize(("flushing", "rows_in_files", "entries"), [(True, 2, 0), (False, 0, 1)])
def test_closing_flushes_if_asked(flushing, rows_in_files, entries):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1, 2)

    close(engine, flush=flushing)

    assert logged(log) == entries
    assert sum(file.row_count for file in files(engine)) == rows_in_files
    assert values(engine) == [1, 2]


@pytest.mark.parametrize("options", [{}, NOOP], ids=["log", "no log"])
def test_closing_waits_for_a_flush_under_way_and_flushes_the_rest(options):
    store, log = GatedStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), options=options)
    write_times(engine, 1)
    store.gate.close()
    flushing = Task(lambda: flush(engine))
    store.gate.reached()
    write_times(engine, 2)

    closing = Task(lambda: close(engine))
    wait_until(engine.region(REGION).gate.waiting)
    assert opened(engine) == [REGION]
    store.gate.open()

    assert (flushing.result(), closing.result()) == (1, 0)
    assert opened(engine) == []
    assert [file.row_count for file in files(engine)] == [1, 1]
    assert buffered_rows(engine) == 0
    assert values(engine) == [1, 2]
    engine.close()


# --- regions without a log ------------------------------------------------------------------------------


def test_closing_a_region_without_a_log_flushes_it_whatever_was_asked():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options=NOOP)
    write_times(engine, 1, 2)

    close(engine, flush=False)

    assert (logged(log), log.last_id()) == (0, 0)
    assert values(open_engine(store, MemoryLog(), seed=1)) == [1, 2]


def test_closing_an_engine_flushes_regions_without_a_log_whatever_was_asked():
    store = MemoryObjectStore()
    engine = started(store, options=NOOP)
    create(engine, OTHER)
    write_times(engine, 1)
    write_times(engine, 2, region=OTHER_ID)

    engine.close(flush=False)

    again = open_engine(store, seed=1)
    assert (values(again), values(again, OTHER_ID)) == ([1], [])


def test_closing_a_region_without_a_log_and_without_rows_writes_nothing():
    store = MemoryObjectStore()
    engine = started(store, options=NOOP)
    before = stored(store)

    close(engine)

    assert stored(store) == before


def test_a_region_whose_log_is_switched_off_writes_none_and_is_flushed_when_closed():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)

    alter(engine, wal="noop")
    write_times(engine, 2)
    assert log.last_id() == 1
    close(engine, flush=False)

    assert values(open_engine(store, log, seed=1)) == [1, 2]


def test_a_region_whose_log_is_switched_off_and_on_loses_no_row_but_the_unlogged():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)
    alter(engine, wal="noop")
    write_times(engine, 2)
    assert values(open_engine(store, log, seed=1)) == [1]

    alter(engine, wal="log")
    write_times(engine, 3)

    assert values(open_engine(store, log, seed=2)) == [1, 2, 3]


def test_a_reading_process_closes_a_region_without_a_log_at_once():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options=NOOP)
    write_times(engine, 1)
    flush(engine)
    reader = open_engine(store, log, read_only=True)
    assert values(reader) == [1]
    before = stored(store)

    close(reader)

    assert opened(reader) == []
    assert stored(store) == before


def test_a_write_that_waited_for_a_close_is_refused_and_nothing_of_it_is_there():
    store = GatedStore()
    engine = started(store, scheduler=threads(), options=NOOP)
    write_times(engine, 1)
    store.gate.close()
    closing = Task(lambda: close(engine))
    store.gate.reached()

    writing = Task(lambda: write_times(engine, 2))
    writing.join(0.05)
    assert writing.is_alive()
    store.gate.open()
    closing.result()

    with pytest.raises(ClosedError, match="this table was closed while it was to be changed; nothing was changed"):
        writing.result()
    assert values(engine) == [1]
    engine.close()


@pytest.mark.parametrize("options", [{}, NOOP], ids=["log", "no log"])
def test_two_who_close_a_region_at_once_while_it_is_flushed_both_succeed(options):
    store = GatedStore()
    engine = started(store, scheduler=threads(), options=options)
    write_times(engine, 1)
    store.gate.close()
    flushing = Task(lambda: flush(engine))
    store.gate.reached()
    write_times(engine, 2)

    closings = [Task(lambda: close(engine)) for _ in range(2)]
    wait_until(lambda: sum(lane.running for lane in engine.health().lanes if lane.lane == "change") == 2)
    store.gate.open()

    assert [task.result() for task in (flushing, *closings)] == [1, 0, 0]
    assert values(engine) == [1, 2]
    engine.close()


def test_rows_written_without_a_log_after_a_truncation_survive_closing():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options=NOOP)
    write_times(engine, 1, 2)
    engine.handle_request(REGION, TruncateRequest())
    write_times(engine, 3)

    close(engine)

    again = open_engine(store, log, seed=1)
    assert values(engine) == values(again) == [3]
    assert state(again).flushed_entry_id == 0
    assert write_times(again, 4) == 1
    assert snapshot(again).visible == 4


# --- drop -----------------------------------------------------------------------------------------------


def test_dropping_marks_the_region_at_once_and_its_folder_goes_after_the_grace():
    clock = ManualClock()
    store, log = MemoryObjectStore(clock), MemoryLog()
    engine = started(store, log, clock=clock, gc_grace_ms=1000)
    write_times(engine, 1)
    flush(engine)
    write_times(engine, 2)

    engine.handle_request(REGION, DropRequest())

    assert store.head(dropped_key(REGION)).key == dropped_key(REGION)
    assert opened(engine) == []
    assert logged(log) == 0
    assert stored(store)
    for use in (FlushRequest(), OpenRequest(), DropRequest(), rows_to(REGION, put(0, 3))):
        with pytest.raises(TableNotFoundError, match="was dropped"):
            engine.handle_request(REGION, use)

    clock.advance(999)
    engine.maintain()
    assert stored(store)
    clock.advance(1)
    engine.maintain()
    assert [key for key in store._objects if key.startswith((REGIONS_FOLDER, "dropped"))] == []


def test_a_dropped_region_stays_dropped_when_the_process_dies():
    clock = ManualClock()
    store, log = MemoryObjectStore(clock), MemoryLog()
    engine = started(store, log, clock=clock)
    write_times(engine, 1)
    engine.handle_request(REGION, DropRequest())

    again = open_engine(store, log, clock=clock, seed=1, gc_grace_ms=0)

    with pytest.raises(TableNotFoundError):
        again.handle_request(REGION, OpenRequest())
    with pytest.raises(TableNotFoundError):
        create(again, METADATA)
    again.maintain()
    create(again, METADATA)
    assert values(again) == []


def test_dropping_a_region_that_is_not_there_is_refused():
    store = MemoryObjectStore()
    engine = open_engine(store)

    with pytest.raises(CorruptionError, match="the region has no manifest"):
        engine.handle_request(REGION, DropRequest())

    assert list(store._objects) == []


def test_dropping_a_region_touches_no_other():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=0)
    create(engine, OTHER)
    for region in (REGION, OTHER_ID):
        write_times(engine, 1, region=region)
        flush(engine, region)
    before = stored(store, OTHER_ID)

    engine.handle_request(REGION, DropRequest())
    engine.maintain()

    assert (stored(store), stored(store, OTHER_ID)) == ([], before)
    assert values(engine, OTHER_ID) == [1]


def test_dropping_ends_a_flush_under_way_and_the_region_is_gone():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1)
    store.gate.close()
    flushing = Task(lambda: flush(engine))
    store.gate.reached()

    dropping = Task(lambda: engine.handle_request(REGION, DropRequest()))
    dropping.result()
    store.gate.open()

    with pytest.raises(ClosedError):
        flushing.result()
    with pytest.raises(TableNotFoundError):
        engine.region(REGION)
    engine.drain()
    assert engine.health().regions == ()
    assert len(store.list(manifest_folder(REGION))) == 1
    engine.close()


def test_a_bulk_insert_into_a_region_that_is_dropped_meanwhile_fails_whole():
    store = GatedStore()
    engine = started(store, scheduler=threads(), gc_grace_ms=0)
    store.gate.close()
    inserting = Task(lambda: bulk_insert(engine, 1, 2))
    store.gate.reached()

    Task(lambda: engine.handle_request(REGION, DropRequest())).result()
    store.gate.open()

    with pytest.raises((ClosedError, TableNotFoundError)):
        inserting.result()
    engine.close()
