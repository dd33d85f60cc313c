"""What happens at once: lanes that die, stalls, keys in one group, drops and truncations under way, the end."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from builders import REGION, batch_of, create, delete, metadata_of, open_engine, put, read, threads
from gates import Gate, GatedLog, GatedStore, Task, wait_until

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import COMMIT_LANE, FLUSH_LANE, LANES
from mitoframe.failpoints import watching
from mitoframe.model.edit import CONTENT_PREFIX
from mitoframe.model.errors import BusyError, ClosedError, DiskFullError, PoisonedError, UnavailableError
from mitoframe.model.ids import region_id
from mitoframe.model.request import (
    DeleteRequest,
    DropRequest,
    FlushRequest,
    PutRequest,
    ScanRequest,
    TruncateRequest,
)
from mitoframe.storage.paths import sst_folder

METADATA = metadata_of()
OTHER = metadata_of(region=region_id(2, 0))
ONE_ROW = batch_of(METADATA, [put(1, 1)]).size_bytes
CONTENT = CONTENT_PREFIX + "x"


def started(store=None, log=None, **known) -> MitoEngine:
    engine = open_engine(store, log, **known)
    create(engine, METADATA)
    create(engine, OTHER)
    return engine


def batch(*times: int, cpu: int | None = None, metadata=METADATA):
    return batch_of(metadata, [put(0, time, cpu=time if cpu is None else cpu) for time in times])


def write(engine: MitoEngine, *times: int, key: str = "", cpu: int | None = None, metadata=METADATA):
    return engine.write(metadata.region_id, batch(*times, cpu=cpu, metadata=metadata), key=key)


def values(engine: MitoEngine, metadata=METADATA) -> list[int]:
    return sorted(row[0] for row in read(engine, metadata.region_id, columns=("cpu",)))


def held(engine: MitoEngine, log: GatedLog) -> Task:
    """Hold a write at the log, so that others queue behind it."""
    log.gate.close()
    first = Task(lambda: write(engine, 900))
    log.gate.reached()
    return first


# --- keys -----------------------------------------------------------------------------------------------


def test_of_writes_with_one_key_in_one_group_one_is_done():
    log = GatedLog()
    engine = started(log=log, scheduler=threads())
    first = held(engine, log)
    others = [Task(lambda n=n: write(engine, 1, 2, key="k", cpu=n)) for n in range(4)]
    wait_until(lambda: len(engine._committer._queue) == 4)

    log.gate.open()
    first.result()
    results = [task.result() for task in others]

    assert sorted(result.repeated for result in results) == [False, True, True, True]
    assert {(result.first_sequence, result.row_count) for result in results} == {(2, 2)}
    assert log.groups == [1, 1]
    assert len(set(values(engine))) == 2
    engine.close()


@pytest.mark.parametrize("step", ["nothing", "flush", "reopen", "flush and reopen"])
def test_a_key_is_remembered_across(step):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    written = write(engine, 1, 2, key="k")
    if "flush" in step:
        engine.flush(REGION)
    if "reopen" in step:
        engine = open_engine(store, log, seed=1)

    again = write(engine, 1, 2, key="k", cpu=7)

    assert again.repeated
    assert (again.first_sequence, again.row_count, again.at_ms) == (1, 2, written.at_ms)
    assert values(engine) == [1, 2]


@pytest.mark.parametrize("forgetting", ["undo", "truncate"])
def test_a_key_is_forgotten_by(forgetting):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    written = write(engine, 1, key="k")
    if forgetting == "undo":
        engine.undo(REGION, written.first_sequence, 1)
    else:
        engine.truncate(REGION, TruncateRequest())

    again = write(open_engine(store, log, seed=1), 1, key="k")

    assert not again.repeated


def requests(*kinds: str):
    """Return requests: ``x`` writes what the content key stands for, ``y`` over it, ``z`` beside it, ``d`` deletes."""
    known = {
        "x": PutRequest(batch=batch(1, 5), key=CONTENT),
        "y": PutRequest(batch=batch(5, cpu=99), key=CONTENT_PREFIX + "y"),
        "z": PutRequest(batch=batch(8), key=CONTENT_PREFIX + "z"),
        "d": DeleteRequest(batch=batch_of(METADATA, [delete(0, 5)])),
    }
    return [(REGION, known[kind]) for kind in kinds]


@pytest.mark.parametrize("together", [True, False], ids=["one group", "one by one"])
@pytest.mark.parametrize(
    ("kinds", "dedup", "rows", "expected"),
    [
        ("xx", "last", [2, 0], [1, 5]),
        ("xzx", "last", [2, 1, 0], [1, 5, 8]),
        ("xyx", "last", [2, 1, 2], [1, 5]),
        ("xyx", "merge", [2, 1, 2], [1, 5]),
        ("xyx", "none", [2, 1, 0], [1, 5, 99]),
        ("xdx", "last", [2, 1, 2], [1, 5]),
        ("xyxx", "last", [2, 1, 2, 0], [1, 5]),
    ],
)
def test_content_is_written_again_once_it_is_no_longer_what_there_is(kinds, dedup, rows, expected, together):
    engine = open_engine(scheduler=threads() if together else None)
    create(engine, METADATA, dedup=dedup)
    todo = requests(*kinds)

    if together:
        outcome = engine.handle_requests(todo)
    else:
        outcome = [engine.handle_request(region, request) for region, request in todo]

    assert outcome == rows
    assert values(engine) == expected
    engine.close()


# --- interrupted between two steps ----------------------------------------------------------------------


def test_a_write_that_was_queued_and_not_handed_over_is_not_done_with_the_next():
    class Interrupting(InlineScheduler):
        is_armed = False

        def submit(self, lane, job):
            if lane == COMMIT_LANE and self.is_armed:
                self.is_armed = False
                raise KeyboardInterrupt
            return super().submit(lane, job)

    scheduler = Interrupting()
    engine = started(scheduler=scheduler)
    scheduler.is_armed = True
    with pytest.raises(KeyboardInterrupt):
        write(engine, 1)

    assert write(engine, 2).first_sequence == 1
    assert values(engine) == [2]


def test_a_change_gets_its_sequences_after_a_write_that_nobody_waits_for_any_more():
    log = GatedLog()
    engine = started(log=log, scheduler=threads())
    log.gate.close()
    left_behind = engine._begin(engine.region(REGION), batch(1, 2), "")
    log.gate.reached()

    backfill = Task(lambda: engine.bulk_insert(REGION, [batch(3)]))
    time.sleep(0.05)
    assert backfill.is_alive()
    log.gate.open()

    assert left_behind.result().first_sequence == 1
    assert backfill.result().first_sequence == 3
    engine.close()


def test_a_backfill_that_fails_leaves_no_file_that_was_still_being_written():
    store = GatedStore()
    engine = started(store, scheduler=threads(), backfill_buffer_bytes=1)
    store.gate.close()

    def batches():
        yield batch(1)
        store.gate.reached()
        opening = threading.Timer(0.05, store.gate.open)
        opening.start()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.bulk_insert(REGION, batches())

    assert stored(store) == []
    engine.drain()
    assert stored(store) == []
    assert values(engine) == []
    engine.close()


# --- many requests in one call --------------------------------------------------------------------------


def test_errors_in_the_middle_are_told_in_their_places_and_the_others_are_done():
    engine = started()
    missing = region_id(9, 0)

    outcome = engine.handle_requests(
        [
            (REGION, PutRequest(batch=batch(1))),
            (missing, PutRequest(batch=batch(1))),
            (REGION, PutRequest(batch=batch_of(METADATA, [delete(0, 1)]))),
            (REGION, PutRequest(batch=batch_of(METADATA, []))),
            (REGION, PutRequest(batch=batch(2, 3))),
            (missing, FlushRequest()),
            (OTHER.region_id, PutRequest(batch=batch(4, metadata=OTHER))),
            (REGION, FlushRequest()),
        ]
    )

    assert [item if isinstance(item, int) else type(item).__name__ for item in outcome] == [
        1,
        "CorruptionError",
        "InvalidInputError",
        0,
        2,
        "CorruptionError",
        1,
        3,
    ]
    assert (values(engine), values(engine, OTHER)) == ([1, 2, 3], [4])


# --- lanes ----------------------------------------------------------------------------------------------


class DeadThread(BaseException):
    pass


def kill_lane(engine: MitoEngine, lane: str) -> None:
    """End the lane's thread as an error in the scheduler itself would."""
    crew = engine._parts.scheduler._crew
    with crew._lock:
        crew._lanes[lane].bury(next(iter(crew._lanes[lane].threads)), DeadThread())


@pytest.mark.parametrize("lane", ["commit", "flush"])
def test_a_lane_that_died_is_told_by_the_next_call_and_in_health(lane):
    engine = started(scheduler=threads())
    write(engine, 1)
    engine.flush(REGION)

    kill_lane(engine, lane)

    with pytest.raises(PoisonedError, match=rf"a background thread of lane '{lane}' died; close the store"):
        write(engine, 2)
    health = {item.lane: item for item in engine.health().lanes}
    assert health[lane].alive < health[lane].threads
    assert values(engine) == [1]


def test_a_write_that_waits_when_its_lane_dies_is_told():
    log = GatedLog()
    engine = started(log=log, scheduler=threads())
    first = held(engine, log)
    waiting = Task(lambda: write(engine, 1))
    wait_until(lambda: len(engine._committer._queue) == 1)

    kill_lane(engine, "commit")
    crew = engine._parts.scheduler._crew
    crew._tell_falling(crew._lanes["commit"])

    with pytest.raises(PoisonedError, match="lane 'commit' died"):
        waiting.result()
    log.gate.open()
    first.join(1)


def test_writes_of_several_regions_that_wait_are_one_append():
    log = GatedLog()
    engine = started(log=log, scheduler=threads())
    first = held(engine, log)
    others = [Task(lambda m=m, n=n: write(engine, n, metadata=m)) for m in (METADATA, OTHER) for n in range(5)]
    wait_until(lambda: len(engine._committer._queue) == 10)

    log.gate.open()
    for task in (first, *others):
        task.result()

    assert (log.groups, log.syncs) == ([1, 10], 2)
    engine.close()


# --- room -----------------------------------------------------------------------------------------------


def test_a_write_that_gave_up_waiting_counts_no_longer_even_while_its_error_is_kept():
    store = GatedStore()
    limits = {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": ONE_ROW, "write_stall_ms": 30}
    engine = started(store, scheduler=threads(), **limits)
    store.gate.close()
    write(engine, 1)
    store.gate.reached()

    kept = []
    for _ in range(3):
        with pytest.raises(BusyError, match="waited 30 ms for a flush") as caught:
            write(engine, 2)
        kept.append(caught)

    store.gate.open()
    engine.close()


def test_a_flush_that_fails_is_what_a_waiting_writer_hears_of():
    store = GatedStore()
    limits = {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": ONE_ROW}
    engine = started(store, scheduler=threads(), **limits)
    store.gate.close()
    write(engine, 1)
    store.gate.reached()
    waiting = Task(lambda: write(engine, 2))
    wait_until(lambda: any(region.waiting_bytes for region in engine.health().regions))

    store.error = DiskFullError("no space left")
    store.gate.open()

    with pytest.raises(DiskFullError):
        waiting.result()
    store.error = None
    write(engine, 3)
    engine.close()
    assert not any(item.waiting for item in engine.health().lanes)


def test_what_a_poisoned_region_holds_keeps_no_other_from_writing():
    engine = started(
        scheduler=threads(), global_write_buffer_size_bytes=ONE_ROW, global_write_buffer_reject_bytes=2 * ONE_ROW
    )
    engine.region(OTHER.region_id).control.current().version.mutable.insert(
        batch(*range(9), metadata=OTHER).with_sequence(1), 1
    )
    engine.region(OTHER.region_id).poison(UnavailableError("gone"))

    write(engine, 1)

    assert values(engine) == [1]


# --- truncate, drop, the end ----------------------------------------------------------------------------


def stored(store) -> list[str]:
    return [item.key for item in store.list(sst_folder(REGION))]


def test_files_of_a_memtable_that_was_given_up_before_its_flush_came_to_it_are_deleted():
    """Where nothing is kept of the past. Else rows are flushed before they are truncated."""
    store, gate, scheduler = MemoryObjectStore(), Gate(), ThreadScheduler(dict.fromkeys(LANES, 1))
    engine = started(store, scheduler=scheduler, gc_grace_ms=0)
    write(engine, 1)
    gate.close()
    scheduler.submit(FLUSH_LANE, gate.wait)
    gate.reached()
    flush = Task(lambda: engine.flush(REGION))
    wait_until(lambda: len(stored(store)) == 1)

    engine.truncate(REGION, TruncateRequest())
    gate.open()

    assert flush.result().files == ()
    engine.drain()
    assert stored(store) == []
    assert values(engine) == []
    engine.close()


@pytest.mark.parametrize("what", ["drop", "close"])
def test_a_flush_whose_region_goes_meanwhile_leaves_no_file_that_nobody_lists(what):
    store, log = GatedStore(), MemoryLog()
    engine = started(store, log, scheduler=threads())
    write(engine, 1)
    store.gate.close()
    flush = Task(lambda: engine.flush(REGION))
    store.gate.reached()

    if what == "drop":
        engine.handle_request(REGION, DropRequest())
    else:
        engine.close_region(REGION, flush=False)
    store.gate.open()

    with pytest.raises(ClosedError):
        flush.result()
    engine.drain()
    assert stored(store) == []
    if what == "close":
        assert values(engine) == [1]
    engine.close()


def test_files_of_a_dropped_region_stay_while_a_scan_reads_them():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=0)
    write(engine, 1)
    engine.flush(REGION)
    reading = engine.plan(REGION, ScanRequest())

    engine.drop(REGION)
    engine.maintain()
    assert len(stored(store)) == 1
    assert reading.version.state.files

    del reading
    gc.collect()
    engine.maintain()
    assert stored(store) == []
    assert engine.dropped() == frozenset()


def test_dropping_again_after_the_marker_was_stored_goes_on_where_it_stopped():
    store = MemoryObjectStore()
    engine = started(store)

    def stop(name: str) -> None:
        if name == "drop.marked":
            raise UnavailableError("no answer")

    with watching(stop), pytest.raises(UnavailableError):
        engine.drop(REGION)
    engine.drop(REGION)

    assert engine.dropped() == {REGION}


def test_entries_of_a_region_that_was_dropped_just_before_a_crash_are_forgotten_by_the_next_process():
    class Killed(BaseException):
        pass

    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write(engine, 1)

    def kill(name: str) -> None:
        if name == "drop.marked":
            raise Killed

    with watching(kill), pytest.raises(Killed):
        engine.drop(REGION)
    assert list(log.read(REGION, 0))
    open_engine(store, log, seed=1)

    assert not list(log.read(REGION, 0))


def test_a_store_that_is_closed_loses_no_acknowledged_row_of_a_table_without_a_log():
    store = MemoryObjectStore()
    engine = open_engine(store, scheduler=threads(), flush_on_close=False)
    create(engine, METADATA, wal="noop")
    acknowledged: list[int] = []
    ready = threading.Event()

    def write_on() -> None:
        for time_ in range(100_000):
            write(engine, time_)
            acknowledged.append(time_)
            ready.set()

    writers = [Task(write_on)]
    ready.wait(5)
    time.sleep(0.01)
    engine.close()
    for task in writers:
        with pytest.raises(ClosedError):
            task.result()

    again = open_engine(store, seed=1)
    assert set(values(again)) == set(acknowledged)


def test_a_region_that_cannot_be_flushed_keeps_no_other_from_it_at_the_end():
    store = MemoryObjectStore()
    engine = started(store)
    write(engine, 1)
    write(engine, 1, metadata=OTHER)
    engine.region(REGION).poison(UnavailableError("gone"))
    other = engine.region(OTHER.region_id)

    with pytest.raises(PoisonedError):
        engine.close()

    assert len(other.state.files) == 1


# --- upkeep ---------------------------------------------------------------------------------------------


def test_rows_are_flushed_by_age_and_a_region_that_fails_keeps_no_other_from_it():
    clock = ManualClock(now_ms=10**12)
    store = GatedStore()
    engine = started(store, clock=clock, auto_flush_interval_ms=1000)
    write(engine, 1)
    write(engine, 1, metadata=OTHER)

    clock.advance(999)
    engine._parts.scheduler.tick()
    assert not engine.region(REGION).state.files
    clock.advance(1)
    engine._parts.scheduler.tick()

    assert engine.region(REGION).state.files
    assert engine.region(OTHER.region_id).state.files
