"""A merge that takes for ever: what goes on beside it. And merges that have not enough memory for all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from builders import batch_of, create, metadata_of, open_engine, put, read, threads
from gates import Gate, Task, wait_until

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import ASKED_LANE, COMPACT_LANE
from mitoframe.failpoints import watching
from mitoframe.model.errors import BusyError, ConflictError, MitoError
from mitoframe.model.ids import RegionId, region_id
from mitoframe.model.request import CompactRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.paths import sst_folder

HOUR = 3_600_000
TRIGGER = 3
A, B, C, D = (region_id(table, 0) for table in (1, 2, 3, 4))
METADATA = {region: metadata_of(region=region) for region in (A, B, C, D)}


def started(store=None, **known) -> MitoEngine:
    engine = open_engine(store, **{"scheduler": threads(), "compaction_trigger_files": TRIGGER} | known)
    for metadata in METADATA.values():
        create(engine, metadata, compaction_window_ms=HOUR)
    return engine


def write(engine: MitoEngine, region: RegionId, cpu: int = 1) -> None:
    engine.write(region, batch_of(METADATA[region], [put(0, 1, cpu=cpu)]))


def flushed(engine: MitoEngine, region: RegionId, count: int) -> None:
    for cpu in range(count):
        write(engine, region, cpu)
        assert len(engine.flush(region).files) == 1


def levels(engine: MitoEngine, region: RegionId) -> list[int]:
    return sorted(file.level for file in engine.region(region).state.files.values())


def values(engine: MitoEngine, region: RegionId) -> list[int]:
    return [row[0] for row in read(engine, region, columns=("cpu",))]


@contextmanager
def first_merge_sticks() -> Iterator[Gate]:
    """Let the first merge that stores its outputs wait before it commits them, and all others pass."""
    gate, is_first = Gate(), threading.Semaphore(1)
    gate.close()

    def wait(name: str) -> None:
        if name == "compact.sst_stored" and is_first.acquire(blocking=False):
            gate.wait()

    with watching(wait):
        try:
            yield gate
        finally:
            gate.open()


def test_beside_an_automatic_merge_that_sticks_everything_is_written_flushed_read_and_merged_on_request():
    engine = started()
    with first_merge_sticks() as gate:
        flushed(engine, A, TRIGGER)
        gate.reached()

        for region in (A, B):
            write(engine, region, 7)
            assert len(engine.flush(region).files) == 1
            assert values(engine, region) == [7]
        flushed(engine, B, 1)

        assert len(engine.compact(B).removed) == 2
        assert levels(engine, A) == [0] * (TRIGGER + 1)
    engine.drain()
    assert levels(engine, A) == [0, 1]
    engine.close()


def test_rows_are_divided_by_windows_as_soon_as_a_merge_is_due_however_long_it_takes():
    engine = started()
    metadata = metadata_of(region=region_id(5, 0))
    create(engine, metadata)
    with first_merge_sticks() as gate:
        for cpu in range(TRIGGER):
            engine.write(metadata.region_id, batch_of(metadata, [put(0, 1, cpu=cpu)]))
            engine.flush(metadata.region_id)
        gate.reached()
        assert engine.region(metadata.region_id).state.compaction_window_ms is None

        engine.write(metadata.region_id, batch_of(metadata, [put(0, 1, cpu=7)]))
        engine.flush(metadata.region_id)

        assert levels(engine, metadata.region_id) == [0] * (TRIGGER + 1)
        assert engine.region(metadata.region_id).state.compaction_window_ms == HOUR
    engine.drain()
    assert engine.region(metadata.region_id).state.compaction_window_ms == HOUR
    engine.close()


def test_what_is_asked_for_goes_before_automatic_merges_that_wait_of_the_same_table_too():
    engine = started()
    with first_merge_sticks() as gate:
        flushed(engine, A, TRIGGER)
        gate.reached()
        for region in (B, C):
            flushed(engine, region, TRIGGER)

        assert len(engine.compact(C).removed) == TRIGGER

        assert (levels(engine, B), levels(engine, C)) == ([0] * TRIGGER, [1])
        gate.open()
        engine.drain()
    assert levels(engine, B) == [1]
    engine.close()


def test_what_was_due_when_a_request_went_first_is_still_done_after_it():
    engine = started()
    with first_merge_sticks() as gate:
        flushed(engine, A, TRIGGER)
        gate.reached()
        flushed(engine, B, TRIGGER)
        waiting = engine._background.compactions._desk_of(engine.region(B)).cycle
        assert waiting is not None

        elsewhen = CompactRequest(time_range=TimeRange(9 * HOUR, 10 * HOUR))
        assert engine.compact(B, elsewhen).removed == ()

        assert waiting.errand.result(withdraw=False).removed == ()  # Nobody waits for ever for what gave way.
        assert levels(engine, B) == [0] * TRIGGER
        gate.open()
        wait_until(lambda: levels(engine, B) == [1])
    engine.close()


def test_with_two_threads_a_table_is_merged_beside_one_whose_merge_sticks():
    engine = started(scheduler=threads(**{COMPACT_LANE: 2, ASKED_LANE: 2}))
    with first_merge_sticks() as gate:
        flushed(engine, A, TRIGGER)
        gate.reached()

        flushed(engine, B, TRIGGER)

        wait_until(lambda: levels(engine, B) == [1])
        assert levels(engine, A) == [0] * TRIGGER
    engine.close()


def test_beside_a_request_that_sticks_tables_are_merged_by_themselves_and_on_request_where_there_are_threads():
    engine = started(scheduler=threads(**{ASKED_LANE: 2}))
    with first_merge_sticks() as gate:
        flushed(engine, A, 2)
        sticking = Task(lambda: engine.compact(A))
        gate.reached()

        flushed(engine, B, TRIGGER)
        flushed(engine, C, 2)

        assert len(engine.compact(C).removed) == 2
        wait_until(lambda: levels(engine, B) == [1])
        assert sticking.is_alive()
        gate.open()
        assert len(sticking.result().removed) == 2
    engine.close()


# --- dropped, and short of memory -----------------------------------------------------------------------


def test_dropping_a_table_cancels_what_is_merged_and_what_waits():
    store = MemoryObjectStore()
    engine = started(store)
    with first_merge_sticks() as gate:
        flushed(engine, A, TRIGGER)
        inputs = {item.key for item in store.list(sst_folder(A))}
        gate.reached()
        waiting = Task(lambda: engine.compact(A))
        wait_until(lambda: engine._background.compactions._desk_of(engine.region(A)).waiting is not None)

        engine.drop(A)
        gate.open()

        with pytest.raises(MitoError):
            waiting.result()
        engine.drain()
    assert {item.key for item in store.list(sst_folder(A))} <= inputs
    flushed(engine, B, TRIGGER)
    engine.drain()
    assert levels(engine, B) == [1]
    engine.close()


class SlowStore(MemoryObjectStore):
    """Waits before it stores a file of table A, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def put_if_absent(self, key, data):
        if key.startswith(sst_folder(A)):
            self.gate.wait()
        super().put_if_absent(key, data)


@contextmanager
def merging_a(wait_ms: int = 10_000, on_exhausted: str = "wait") -> Iterator[tuple[MitoEngine, SlowStore, Task]]:
    """Merge A, which takes most of the memory there is and sticks."""
    store = SlowStore()
    engine = started(
        store,
        scheduler=threads(**{ASKED_LANE: 2}),
        compaction_memory_limit_bytes=2**40,
        compaction_memory_wait_ms=wait_ms,
        compaction_on_exhausted=on_exhausted,
    )
    allowance = engine._background.compactions._allowance
    for region in (A, B):
        flushed(engine, region, 2)
    store.gate.close()
    merging = Task(lambda: engine.compact(A))
    store.gate.reached()
    allowance._limit_bytes = allowance.taken_bytes * 3 // 2
    try:
        yield engine, store, merging
    finally:
        store.gate.open()
        engine.close()


def test_a_merge_for_which_others_leave_too_little_memory_fails_at_once_if_it_is_to():
    with merging_a(wait_ms=10**9, on_exhausted="fail") as (engine, store, merging):
        with pytest.raises(BusyError, match="compaction_memory_limit_bytes"):
            engine.compact(B)

        assert levels(engine, B) == [0, 0]
        assert isinstance(dict(engine.health().regions[1].failures)["compaction"], BusyError)
        store.gate.open()
        merging.result()
        assert len(engine.compact(B).removed) == 2


def test_a_merge_for_which_others_leave_too_little_memory_fails_when_it_has_waited_long_enough():
    with merging_a(wait_ms=60) as (engine, _, _), pytest.raises(BusyError, match="compaction_memory_limit_bytes"):
        engine.compact(B)


def test_a_merge_that_waits_for_memory_is_done_when_there_is_some_and_holds_up_no_flush():
    with merging_a() as (engine, store, merging):
        waiting = Task(lambda: engine.compact(B))
        waiting.join(0.1)
        assert waiting.is_alive()

        flushed(engine, C, 1)
        store.gate.open()

        assert len(merging.result().removed) == len(waiting.result().removed) == 2


def test_a_merge_that_waits_for_memory_is_cancelled_with_its_table():
    with merging_a(wait_ms=10**9) as (engine, _, _):
        waiting = Task(lambda: engine.compact(B))
        waiting.join(0.1)

        engine.truncate(B, TruncateRequest(what="all"))

        with pytest.raises(ConflictError):
            waiting.result()
