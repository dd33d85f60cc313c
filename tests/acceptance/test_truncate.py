"""Rows are given up unseen: all of them, those in no file, those of some times; with flushes and merges under way."""

from __future__ import annotations

import pytest
from acceptance.steps import (
    HISTORY_OFF,
    HOUR,
    METADATA,
    OTHER,
    OTHER_ID,
    SlowManifest,
    buffered_rows,
    files,
    flush,
    one_flush_at_a_time,
    remove,
    snapshot,
    started,
    state,
    threads,
    values,
    write_times,
)
from builders import REGION, create, open_engine, read
from gates import Gate, GatedStore, Task, wait_until

from mitoframe.drivers.clock import ManualClock, SystemClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.parts import FLUSH_LANE
from mitoframe.model.errors import ConflictError
from mitoframe.model.ids import EntryId
from mitoframe.model.request import CompactRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.manifest import load
from mitoframe.storage.paths import sst_folder
from mitoframe.storage.wal import Wal

NOOP = {"wal": "noop"}


def truncate(engine, what="all", *ranges: tuple[int, int], region=REGION) -> int:
    spans = tuple(TimeRange(start, end) for start, end in ranges)
    return engine.handle_request(region, TruncateRequest(what=what, time_ranges=spans))


def logged(log) -> int:
    return len(list(Wal(log).replay(METADATA, EntryId(0))))


# --- all of them ----------------------------------------------------------------------------------------


def test_truncating_removes_every_row_wherever_it_lies_and_says_how_many():
    engine = started()
    write_times(engine, 1, 2)
    flush(engine)
    write_times(engine, 2, 3)

    assert truncate(engine) == 4

    assert values(engine) == []
    assert (files(engine), buffered_rows(engine)) == ([], 0)
    assert truncate(engine) == 0


def test_rows_written_after_a_truncation_are_seen_and_numbered_on():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1, 2)
    truncate(engine)

    write_times(engine, 2, 3)

    wanted = [(2, 3), (3, 4)]
    assert read(engine, columns=("cpu", "__sequence")) == wanted
    assert read(open_engine(store, log, seed=1), columns=("cpu", "__sequence")) == wanted
    flush(engine)
    assert read(engine, columns=("cpu", "__sequence")) == wanted


def test_files_go_from_the_manifest_at_once_and_from_the_store_after_the_grace():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=1000)
    write_times(engine, 1)
    flush(engine)

    truncate(engine)

    manifest = load(store, REGION).state
    assert (dict(manifest.files), manifest.flushed_entry_id, manifest.flushed_sequence) == ({}, 1, 1)
    assert len(store.list(sst_folder(REGION))) == 1
    clock.advance(1000)
    engine.maintain()
    assert store.list(sst_folder(REGION)) == []


def test_truncated_rows_are_not_replayed():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)
    flush(engine)
    write_times(engine, 2)

    truncate(engine)

    again = open_engine(store, log, seed=1)
    assert (values(again), logged(log)) == ([], 0)
    assert (snapshot(again).visible, snapshot(again).last_entry_id) == (2, 2)


@pytest.mark.parametrize(("what", "left"), [("all", []), ("unflushed", [1])])
def test_what_was_flushed_or_given_up_is_not_replayed_from_a_log_that_still_has_it(what, left):
    """As after a crash before the log was told to forget."""

    class KeepingLog(MemoryLog):
        def obsolete(self, region_id, through):
            pass

    store, log = MemoryObjectStore(), KeepingLog()
    engine = started(store, log)
    write_times(engine, 1)
    flush(engine)
    write_times(engine, 2)

    truncate(engine, what)

    again = open_engine(store, log, seed=1)
    assert (values(again), logged(log), buffered_rows(again)) == (left, 2, 0)
    assert (snapshot(again).visible, snapshot(again).last_entry_id) == (2, 2)


def test_truncating_touches_no_other_region():
    engine = started()
    create(engine, OTHER)
    write_times(engine, 1)
    write_times(engine, 2, region=OTHER_ID)

    truncate(engine)

    assert (values(engine), values(engine, OTHER_ID)) == ([], [2])


# --- those in no file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, NOOP], ids=["log", "no log"])
def test_giving_up_what_is_not_flushed_keeps_the_files_also_after_a_crash(options):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options=options)
    write_times(engine, 1, 2)
    flush(engine)
    write_times(engine, 3)
    remove(engine, 1)

    assert truncate(engine, "unflushed") == 2

    again = open_engine(store, log, seed=1)
    assert values(engine) == values(again) == [1, 2]
    assert (state(again).flushed_sequence, snapshot(again).visible, logged(log)) == (4, 4, 0)
    write_times(again, 5)
    assert read(again, columns=("cpu", "__sequence")) == [(1, 1), (2, 2), (5, 5)]


def test_giving_up_rows_without_a_log_leaves_the_entry_id_at_zero():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options=NOOP)
    write_times(engine, 1, 2)
    assert snapshot(engine).last_entry_id == 0

    assert truncate(engine, "unflushed") == 2

    again = open_engine(store, log, seed=1)
    assert values(engine) == values(again) == []
    assert (state(again).flushed_entry_id, state(again).flushed_sequence) == (0, 2)
    write_times(again, 3)
    flush(again)
    assert values(again) == [3]


def test_memory_that_was_given_up_lets_writes_to_other_regions_go_on():
    store = GatedStore()
    limits = {"global_write_buffer_size_bytes": 2, "global_write_buffer_reject_bytes": 10**9}
    engine = started(store, scheduler=threads(), write_buffer_size_bytes=1, write_buffer_limit_bytes=10**9, **limits)
    create(engine, OTHER)
    store.gate.close()
    write_times(engine, 1)
    store.gate.reached()
    waiting = Task(lambda: write_times(engine, 2, region=OTHER_ID))
    wait_until(lambda: any(region.waiting_bytes for region in engine.health().regions))

    assert truncate(engine, "unflushed") == 1
    store.gate.open()

    assert waiting.result() == 1
    assert (values(engine), values(engine, OTHER_ID)) == ([], [2])
    engine.close()


def test_a_writer_that_waits_for_a_flush_of_another_region_is_not_told_that_its_rows_were_given_up():
    """The write has the flush that it waits for from before it started."""
    store, scheduler, lane = GatedStore(), one_flush_at_a_time(), Gate()
    limits = {"global_write_buffer_size_bytes": 2, "global_write_buffer_reject_bytes": 10**9}
    engine = started(store, scheduler=scheduler, write_buffer_size_bytes=1, write_buffer_limit_bytes=10**9, **limits)
    create(engine, OTHER)
    lane.close()
    scheduler.submit(FLUSH_LANE, lane.wait)
    lane.reached()
    store.gate.close()
    write_times(engine, 1)
    waiting = Task(lambda: write_times(engine, 2, region=OTHER_ID))
    wait_until(lambda: any(region.waiting_bytes for region in engine.health().regions))
    waiting.join(0.05)  # Until it has the flush.
    lane.open()
    wait_until(lambda: any(each.lane == FLUSH_LANE and each.finished and each.running for each in scheduler.health()))

    truncate(engine, "unflushed")
    store.gate.open()

    assert waiting.result() == 1
    assert (values(engine), values(engine, OTHER_ID)) == ([], [2])
    engine.close()


# --- some times -----------------------------------------------------------------------------------------


def test_truncating_times_removes_exactly_their_rows_wherever_they_lie():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, *range(10))
    flush(engine)
    write_times(engine, *range(8, 14))

    assert truncate(engine, "time_ranges", (2, 4), (9, 12)) == 6

    left = [0, 1, 4, 5, 6, 7, 8, 12, 13]
    assert values(engine) == values(open_engine(store, log, seed=1)) == left


# --- while a flush or a merge is under way --------------------------------------------------------------


@pytest.mark.parametrize(("what", "removed", "left"), [("all", 3, []), ("unflushed", 2, [0])])
def test_a_flush_under_way_finds_its_rows_truncated_and_leaves_no_file(what, removed, left):
    store, log = GatedStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), clock=SystemClock(), **HISTORY_OFF)
    write_times(engine, 0)
    flush(engine)
    write_times(engine, 1)
    store.gate.close()
    flushing = Task(lambda: flush(engine))
    store.gate.reached()
    write_times(engine, 2)

    assert truncate(engine, what) == removed
    assert values(engine) == left
    store.gate.open()

    with pytest.raises(ConflictError, match="truncated meanwhile"):
        flushing.result()
    engine.drain()
    engine.maintain()
    assert len(store.list(sst_folder(REGION))) == len(left)
    again = open_engine(store, log, seed=1)
    assert values(engine) == values(again) == left
    write_times(engine, 5)
    flush(engine)
    assert values(engine) == [*left, 5]
    engine.close()


@pytest.mark.parametrize("what", ["all", "unflushed"])
def test_a_flush_that_is_committed_already_is_waited_for(what):
    """The flush holds the edit lock while its manifest version is stored."""
    store, log = SlowManifest(), MemoryLog()
    engine = started(store, log, scheduler=threads())
    write_times(engine, 1)
    store.gate.close()
    flushing = Task(lambda: flush(engine))
    store.gate.reached()

    truncating = Task(lambda: truncate(engine, what))
    truncating.join(0.05)
    assert truncating.is_alive()
    store.gate.open()

    assert flushing.result() == 1
    assert truncating.result() == (1 if what == "all" else 0)
    left = [] if what == "all" else [1]
    assert values(engine) == values(open_engine(store, log, seed=1)) == left
    engine.close()


def test_a_compaction_that_is_committed_already_is_waited_for():
    store, log = SlowManifest(), MemoryLog()
    engine = started(store, log, scheduler=threads())
    for _ in range(2):
        write_times(engine, 1, HOUR)
        flush(engine)
    store.gate.close()
    compacting = Task(lambda: engine.handle_request(REGION, CompactRequest()))
    store.gate.reached()

    truncating = Task(lambda: truncate(engine))
    truncating.join(0.05)
    assert truncating.is_alive()
    store.gate.open()

    assert (compacting.result(), truncating.result()) == (2, 2)
    assert values(engine) == values(open_engine(store, log, seed=1)) == []
    engine.close()


def test_a_compaction_whose_files_are_truncated_meanwhile_leaves_no_file():
    store, log = GatedStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), clock=SystemClock(), **HISTORY_OFF)
    for _ in range(2):
        write_times(engine, 1, HOUR)
        flush(engine)
    store.gate.close()
    compacting = Task(lambda: engine.handle_request(REGION, CompactRequest()))
    store.gate.reached()

    assert truncate(engine) == 4
    store.gate.open()

    with pytest.raises(ConflictError):
        compacting.result()
    engine.drain()
    engine.maintain()
    assert store.list(sst_folder(REGION)) == []
    assert values(engine) == values(open_engine(store, log, seed=1)) == []
    engine.close()
