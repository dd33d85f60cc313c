from __future__ import annotations

import logging
import time

import pytest
from builders import REGION, batch_of, create, delete, file_id_of, metadata_of, open_engine, put, read, threads
from gates import Gate, GatedStore, Task, wait_until
from tracing import TracingHook

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import FLUSH_LANE, LANES
from mitoframe.model.errors import BusyError, DiskFullError, PoisonedError, UnavailableError
from mitoframe.storage.paths import sst_folder, sst_key

METADATA = metadata_of()
ONE_ROW = batch_of(METADATA, [put(1, 1)]).size_bytes
TINY = {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": 10**9}


def started(store=None, **known) -> MitoEngine:
    engine = open_engine(store, **known)
    create(engine, METADATA)
    return engine


def write(engine: MitoEngine, *rows) -> int:
    return engine.write(REGION, batch_of(METADATA, rows)).first_sequence


def files(engine: MitoEngine):
    return list(engine.region(REGION).control.current().version.state.files.values())


def values(engine: MitoEngine) -> list[int]:
    return sorted(row[0] for row in read(engine, columns=("cpu",)))


# --- flush ----------------------------------------------------------------------------------------------


def test_flushing_nothing_writes_nothing():
    engine = started()

    result = engine.flush(REGION)

    assert result.files == ()
    assert engine.region(REGION).control.current().version.manifest_version == 0


def test_a_full_buffer_is_flushed_without_being_asked():
    engine = started(**TINY)

    write(engine, put(0, 1))

    assert len(files(engine)) == 1
    assert engine.region(REGION).control.current().version.mutable.is_empty()


def test_rows_written_while_a_flush_runs_are_neither_lost_nor_doubled():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write(engine, put(0, 1, cpu=1), put(0, 2, cpu=2))
    store.gate.close()
    flush = Task(lambda: engine.flush(REGION))
    store.gate.reached()

    write(engine, put(0, 2, cpu=20), put(0, 3, cpu=3))
    assert values(engine) == [1, 3, 20]
    store.gate.open()
    flush.result()

    assert values(engine) == [1, 3, 20]
    assert [file.row_count for file in files(engine)] == [2]
    engine.flush(REGION)
    assert values(engine) == [1, 3, 20]
    engine.close()


def test_a_flush_that_has_not_started_serves_those_who_ask_meanwhile():
    store = GatedStore()
    engine = started(store, scheduler=threads(), compaction_mode="manual", **TINY)
    store.gate.close()
    write(engine, put(0, 1, cpu=1))
    store.gate.reached()

    for cpu in range(2, 8):
        write(engine, put(0, cpu, cpu=cpu))
    store.gate.open()
    engine.drain()

    state = engine.region(REGION).control.current().version
    assert values(engine) == list(range(1, 8))
    assert state.immutables == ()
    assert state.manifest_version == 2  # One for the flush that ran, one for all that came meanwhile.
    engine.close()


def test_writers_and_flushes_of_several_threads_lose_nothing():
    engine = started(scheduler=threads(), write_buffer_size_bytes=400, write_buffer_limit_bytes=10**9)

    def work(number: int) -> None:
        for step in range(20):
            write(engine, put(0, 100 * number + step, cpu=100 * number + step))
            if step % 7 == number:
                engine.flush(REGION)

    for task in [Task(lambda number=number: work(number)) for number in range(3)]:
        task.result()
    engine.drain()

    wanted = sorted(100 * number + step for number in range(3) for step in range(20))
    assert values(engine) == wanted
    engine.compact(REGION)
    assert values(engine) == wanted
    engine.close()


@pytest.mark.parametrize("error", [UnavailableError("no answer"), DiskFullError("no space left")], ids=repr)
def test_a_flush_that_cannot_store_its_file_can_be_tried_again(error):
    store = GatedStore()
    engine = started(store)
    write(engine, put(0, 1, cpu=1))
    store.error = error

    with pytest.raises(type(error)):
        engine.flush(REGION)
    store.error = None

    assert values(engine) == [1]
    write(engine, put(0, 2, cpu=2))
    assert len(engine.flush(REGION).files) == 2
    assert values(engine) == [1, 2]


def test_a_background_flush_that_fails_is_logged_and_tried_again_at_the_next_write(caplog):
    store = GatedStore()
    engine = started(store, **TINY)
    store.error = DiskFullError("no space left")
    with caplog.at_level(logging.ERROR, "mitoframe"):
        write(engine, put(0, 1, cpu=1))
    store.error = None

    write(engine, put(0, 2, cpu=2))

    assert "background job failed" in caplog.text
    assert values(engine) == [1, 2]
    assert sum(file.row_count for file in files(engine)) == 2


def test_a_poisoned_region_stores_no_more_files():
    store = MemoryObjectStore()
    engine = started(store)
    write(engine, put(0, 1))
    engine.region(REGION).poison(UnavailableError("gone"))

    with pytest.raises(PoisonedError):
        engine.flush(REGION)

    assert store.list(sst_folder(REGION)) == []


# --- stalls ---------------------------------------------------------------------------------------------


def test_a_write_waits_for_a_flush_while_the_buffers_are_over_the_limit():
    store = GatedStore()
    limits = {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": ONE_ROW}
    engine = started(store, scheduler=threads(), **limits)
    store.gate.close()
    write(engine, put(0, 1, cpu=1))
    store.gate.reached()

    waiting = Task(lambda: write(engine, put(0, 2, cpu=2)))
    time.sleep(0.02)
    assert waiting.is_alive()
    assert values(engine) == [1]
    store.gate.open()

    assert waiting.result() == 2
    engine.close()


def test_deletes_wait_for_room_like_any_other_rows():
    store = GatedStore()
    limits = {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": ONE_ROW, "write_stall_ms": 30}
    engine = started(store, scheduler=threads(), **limits)
    store.gate.close()
    write(engine, put(0, 1, cpu=1))
    store.gate.reached()

    with pytest.raises(BusyError, match="waited 30 ms"):
        write(engine, delete(0, 1))

    store.gate.open()
    engine.close()


def test_what_is_kept_of_a_deleted_file_is_dropped():
    engine = started(gc_grace_ms=10**9)
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu))
        engine.flush(REGION)
    inputs = [file.file_id for file in files(engine)]
    engine.compact(REGION)
    assert all(engine.cache.holds("footers", file_id) for file_id in inputs)
    assert engine.reader._bytes._compared.keys() >= set(inputs)

    engine.vacuum(REGION, grace_ms=0)

    assert not any(engine.cache.holds_any("footers", file_id) for file_id in inputs)
    assert engine.reader._bytes._compared.keys().isdisjoint(inputs)


def test_a_write_that_waited_too_long_is_refused_and_nothing_is_written():
    store, log = GatedStore(), MemoryLog()
    limits = {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": ONE_ROW, "write_stall_ms": 30}
    engine = started(store, log=log, scheduler=threads(), **limits)
    store.gate.close()
    write(engine, put(0, 1, cpu=1))
    store.gate.reached()

    with pytest.raises(BusyError, match="waited 30 ms for a flush and gave up; nothing was written"):
        write(engine, put(0, 2, cpu=2))
    assert (values(engine), log.last_id()) == ([1], 1)

    store.gate.open()
    engine.drain()
    assert write(engine, put(0, 2, cpu=2)) == 2
    engine.close()


# --- compaction -----------------------------------------------------------------------------------------


def test_enough_overlapping_files_are_compacted_without_being_asked():
    engine = started(compaction_trigger_files=3, **TINY)

    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu))
    assert [file.level for file in files(engine)] == [0, 0]
    write(engine, put(0, 1, cpu=3))

    assert [file.level for file in files(engine)] == [1]
    assert values(engine) == [3]


def test_a_compaction_when_asked_needs_only_two_files():
    engine = started(compaction_trigger_files=100)
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu))
        engine.flush(REGION)

    result = engine.compact(REGION)

    assert (len(result.removed), len(result.added)) == (2, 1)


def test_rows_flushed_while_a_compaction_runs_are_neither_lost_nor_doubled():
    class FlushingHook(TracingHook):
        engine: MitoEngine | None = None

        def on_sst_files_written(self, region_id, metadata, files):
            if self.engine is not None:
                engine, self.engine = self.engine, None
                write(engine, put(0, 1, cpu=3), put(0, 9, cpu=9))
                engine.flush(REGION)

    hook = FlushingHook([])
    engine = started(hooks=[hook])
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu), put(0, cpu + 1, cpu=cpu))
        engine.flush(REGION)
    hook.engine = engine

    engine.compact(REGION)

    assert hook.engine is None, "nothing was flushed meanwhile"
    assert values(engine) == [1, 2, 3, 9]
    engine.compact(REGION)
    assert values(engine) == [1, 2, 3, 9]


def test_the_window_is_remembered_from_the_first_compaction_on():
    engine = started()
    for _ in range(2):
        write(engine, put(0, 0), put(0, 5 * 3_600_000))
        engine.flush(REGION)

    engine.compact(REGION)

    assert engine.region(REGION).control.current().version.state.compaction_window_ms == 12 * 3_600_000


# --- vacuum ---------------------------------------------------------------------------------------------


def test_files_of_a_finished_compaction_go_when_the_grace_is_over():
    clock = ManualClock(now_ms=10**12)
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=1000)
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu))
        engine.flush(REGION)
    inputs = {file.file_id for file in files(engine)}
    engine.compact(REGION)

    clock.advance(999)
    assert engine.vacuum(REGION).removed == ()
    clock.advance(1)
    result = engine.vacuum(REGION)

    assert set(result.removed) == inputs
    assert result.size_bytes > 0
    assert [item.key for item in store.list(sst_folder(REGION))] == [sst_key(REGION, files(engine)[0].file_id)]
    assert engine.region(REGION).control.current().version.state.removed_files == ()
    assert values(engine) == [2]


class WaitingHook(TracingHook):
    """Waits where a file is stored and no version lists it yet."""

    def __init__(self) -> None:
        super().__init__([])
        self.gate = Gate()

    def on_sst_files_written(self, region_id, metadata, files):
        self.gate.wait()


@pytest.mark.parametrize("job", ["flush", "compact"])
def test_a_file_is_not_deleted_between_being_stored_and_being_committed(job):
    hook, clock = WaitingHook(), ManualClock()
    engine = started(MemoryObjectStore(clock), clock=clock, hooks=[hook])
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu), put(0, 2, cpu=cpu))
        if cpu == 1 or job == "compact":
            engine.flush(REGION)
    hook.gate.close()
    running = Task(lambda: getattr(engine, job)(REGION))
    hook.gate.reached()

    vacuum = Task(lambda: engine.vacuum(REGION, grace_ms=0))
    time.sleep(0.02)
    hook.gate.open()

    running.result()
    vacuum.result()
    assert values(engine) == [2, 2]


def test_a_file_that_waits_for_its_flush_is_not_deleted():
    clock, gate = ManualClock(), Gate()
    scheduler = ThreadScheduler(dict.fromkeys(LANES, 1))
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, scheduler=scheduler, **TINY)
    gate.close()
    scheduler.submit(FLUSH_LANE, gate.wait)
    gate.reached()
    write(engine, put(0, 1, cpu=1))
    wait_until(lambda: len(store.list(sst_folder(REGION))) == 1)

    assert engine.vacuum(REGION, grace_ms=0).removed == ()

    gate.open()
    engine.drain()
    assert values(engine) == [1]
    assert len(files(engine)) == 1
    engine.close()


def test_what_a_crash_left_is_deleted_after_the_grace_and_foreign_files_never():
    clock = ManualClock(now_ms=10**12)
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock)
    store.put_if_absent(sst_key(REGION, "f" * 32), b"left")
    store.put_if_absent(f"{sst_folder(REGION)}/notes.txt", b"mine")
    clock.advance(1000)

    assert engine.vacuum(REGION, grace_ms=1001).removed == ()
    assert engine.vacuum(REGION, grace_ms=1000).removed == ("f" * 32,)

    assert store.get(f"{sst_folder(REGION)}/notes.txt") == b"mine"


def test_a_vacuum_with_nothing_to_do_writes_no_edit():
    engine = started()

    engine.vacuum(REGION, grace_ms=0)

    assert engine.region(REGION).control.current().version.manifest_version == 0


def test_a_file_removed_from_the_store_by_hand_is_forgotten_too():
    store = MemoryObjectStore()
    engine = started(store)
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu))
        engine.flush(REGION)
    inputs = [file.file_id for file in files(engine)]
    engine.compact(REGION)
    for file_id in inputs:
        store.delete(sst_key(REGION, file_id))

    engine.vacuum(REGION, grace_ms=10**15)

    assert engine.region(REGION).control.current().version.state.removed_files == ()


def test_what_a_crash_left_behind_is_found_by_upkeep_when_its_grace_is_over():
    clock, scheduler = ManualClock(now_ms=9_000), InlineScheduler()
    store = MemoryObjectStore(clock)
    engine = open_engine(store, scheduler=scheduler, clock=clock, gc_unknown_grace_ms=1_000)
    create(engine, METADATA)
    left = sst_key(REGION, file_id_of("e"))
    store.put_if_absent(left, b"half a flush")

    scheduler.tick()
    assert [item.key for item in store.list(sst_folder(REGION))] == [left]

    clock.advance(1_000)
    scheduler.tick()
    assert store.list(sst_folder(REGION)) == []
