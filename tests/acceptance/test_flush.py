"""Memtables become files: when asked, when full, when old; and writes wait or are refused while there is no room."""

from __future__ import annotations

import pytest
from acceptance.steps import (
    HISTORY_OFF,
    OTHER,
    OTHER_ID,
    alter,
    buffered_bytes,
    buffered_rows,
    files,
    flush,
    snapshot,
    started,
    state,
    threads,
    values,
    write_times,
)
from builders import REGION, create, metadata_of, open_engine
from gates import Gate, GatedStore, Task, wait_until
from tracing import TracingHook

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.errors import BusyError, ReadOnlyError
from mitoframe.model.ids import region_id
from mitoframe.model.request import FlushRequest

ROOMY = {"write_buffer_size_bytes": 10**8, "write_buffer_limit_bytes": 10**9}
THIRD_ID = region_id(3, 0)
SOON_SECONDS = 2


class GatedRegions(MemoryObjectStore):
    """Waits before an SST is stored, at a gate of its region."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = {region: Gate() for region in (REGION, OTHER_ID, THIRD_ID)}

    def put_if_absent(self, key, data):
        for region, gate in self.gates.items():
            if key.startswith(f"regions/{region >> 32}_") and "/sst/" in key:
                gate.wait()
        super().put_if_absent(key, data)


def room_for_one_write() -> dict[str, int]:
    """Return limits that one small write reaches, so that the next has to wait."""
    engine = started()
    write_times(engine, 1)
    return {"write_buffer_size_bytes": 1, "write_buffer_limit_bytes": buffered_bytes(engine)}


def is_waiting(engine) -> bool:
    return any(region.waiting_bytes for region in engine.health().regions)


# --- asked for ------------------------------------------------------------------------------------------


def test_a_flush_makes_one_file_that_a_scan_reads():
    store = MemoryObjectStore()
    engine = started(store)
    write_times(engine, 3, 1, 2)

    assert flush(engine) == 3

    [file] = files(engine)
    assert (file.row_count, file.min_time, file.max_time, file.min_sequence, file.max_sequence) == (3, 1, 3, 1, 3)
    assert buffered_rows(engine) == 0
    assert values(engine) == [1, 2, 3]


def test_flushing_an_empty_region_makes_no_file_and_no_edit():
    store = MemoryObjectStore()
    engine = started(store)
    before = list(store._objects)

    assert engine.handle_request(REGION, FlushRequest()) == 0

    assert list(store._objects) == before
    assert snapshot(engine).version.manifest_version == 0


def test_a_flush_says_in_the_manifest_how_far_it_went_and_the_next_process_goes_on_from_there():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1, 2, 3)
    flush(engine)

    again = open_engine(store, log, seed=1)

    for opened in (engine, again):
        assert (snapshot(opened).last_entry_id, snapshot(opened).visible) == (1, 3)
        assert (state(opened).flushed_entry_id, state(opened).flushed_sequence) == (1, 3)
        assert state(opened).committed_sequence == 3
    write_times(again, 4, 5)
    assert (snapshot(again).last_entry_id, snapshot(again).visible) == (2, 5)
    assert (state(again).flushed_entry_id, state(again).flushed_sequence) == (1, 3)
    assert values(again) == [1, 2, 3, 4, 5]


def test_the_size_of_row_groups_can_be_altered_and_setting_it_again_changes_nothing():
    engine = started(**HISTORY_OFF)
    write_times(engine, *range(10))

    assert alter(engine, row_group_rows=4) is True
    flush(engine)
    version = snapshot(engine).version.manifest_version
    assert alter(engine, row_group_rows=4) is False

    assert [file.row_group_count for file in files(engine)] == [3]
    assert snapshot(engine).version.manifest_version == version
    assert values(engine) == list(range(10))


def test_a_flush_tells_of_its_files_once_and_then_of_one_edit():
    trace = []
    engine = started(hooks=(TracingHook(trace),))
    write_times(engine, 1, 2)
    trace.clear()

    flush(engine)

    assert trace == ["hook    sst files written: 1 with 2 rows", "hook    manifest updated: version 1, FileEdit"]


# --- by itself ------------------------------------------------------------------------------------------


def test_when_all_regions_together_fill_half_the_buffer_the_largest_is_flushed():
    engine = started(global_write_buffer_size_bytes=4000, **ROOMY)
    create(engine, OTHER)
    write_times(engine, 1, region=OTHER_ID)
    while not files(engine):
        write_times(engine, 1, 2)

    assert buffered_rows(engine) == 0
    assert (files(engine, OTHER_ID), buffered_rows(engine, OTHER_ID)) == ([], 1)


def test_a_full_region_is_flushed_and_its_own_limit_comes_before_the_configured_one():
    engine = started(options={"write_buffer_size_bytes": 1}, **ROOMY)
    create(engine, OTHER)

    write_times(engine, 1)
    write_times(engine, 1, region=OTHER_ID)

    assert (len(files(engine)), len(files(engine, OTHER_ID))) == (1, 0)
    assert alter(engine, unset=("write_buffer_size_bytes",))
    write_times(engine, 2)
    assert (len(files(engine)), buffered_rows(engine)) == (1, 1)


def test_rows_are_flushed_when_they_are_old_enough_and_not_before():
    clock = ManualClock()
    engine = started(MemoryObjectStore(clock), clock=clock, auto_flush_interval_ms=1000)
    create(engine, OTHER, auto_flush_interval_ms=3000)
    clock.advance(5000)
    for region in (REGION, OTHER_ID):
        write_times(engine, 1, region=region)

    flushed = []
    for _ in range(4):
        engine.maintain()
        flushed.append((len(files(engine)), len(files(engine, OTHER_ID))))
        clock.advance(999 if flushed == [(0, 0)] else 1 if len(flushed) == 2 else 2000)

    assert flushed == [(0, 0), (0, 0), (1, 0), (1, 1)]


# --- no room --------------------------------------------------------------------------------------------


def test_a_write_waits_while_there_is_no_room_and_goes_on_after_the_flush():
    store = GatedStore()
    engine = started(store, scheduler=threads(), **room_for_one_write())
    store.gate.close()
    write_times(engine, 1)
    store.gate.reached()

    waiting = Task(lambda: write_times(engine, 2))
    wait_until(lambda: is_waiting(engine))
    assert values(engine) == [1]
    store.gate.open()

    assert waiting.result() == 1
    assert values(engine) == [1, 2]
    engine.close()


def test_a_region_without_room_does_not_hold_up_another():
    store = GatedStore()
    engine = started(store, scheduler=threads(), **room_for_one_write())
    create(engine, OTHER, write_buffer_size_bytes=10**6)
    store.gate.close()
    write_times(engine, 1)
    store.gate.reached()
    waiting = Task(lambda: write_times(engine, 2))
    wait_until(lambda: is_waiting(engine))

    assert Task(lambda: write_times(engine, 7, region=OTHER_ID)).result() == 1

    assert waiting.is_alive()
    assert values(engine, OTHER_ID) == [7]
    store.gate.open()
    assert waiting.result() == 1
    engine.close()


def test_a_write_to_an_engine_opened_for_reading_is_refused_at_once_also_where_there_is_no_room():
    store, log = MemoryObjectStore(), MemoryLog()
    write_times(started(store, log), 1)
    reader = open_engine(store, log, read_only=True, **room_for_one_write())
    assert values(reader) == [1]

    with pytest.raises(ReadOnlyError):
        write_times(reader, 2)


def test_a_flush_of_another_region_makes_no_room():
    store = GatedRegions()
    engine = started(store, scheduler=threads(), **room_for_one_write())
    create(engine, OTHER, write_buffer_size_bytes=10**6)
    store.gates[REGION].close()
    write_times(engine, 1)
    store.gates[REGION].reached()
    waiting = Task(lambda: write_times(engine, 2))
    wait_until(lambda: is_waiting(engine))

    write_times(engine, 7, region=OTHER_ID)
    other = Task(lambda: flush(engine, OTHER_ID))
    other.join(SOON_SECONDS)
    assert not other.is_alive()
    assert other.result() == 1

    assert waiting.is_alive()
    assert values(engine) == [1]
    store.gates[REGION].open()
    assert waiting.result() == 1
    engine.close()


def test_only_a_region_whose_queue_is_full_refuses_writes():
    store = GatedStore()
    engine = started(store, scheduler=threads(), **room_for_one_write())
    create(engine, OTHER, write_buffer_size_bytes=10**6)
    store.gate.close()
    write_times(engine, 1)
    store.gate.reached()

    waiting = Task(lambda: write_times(engine, *range(2, 100)))
    wait_until(lambda: is_waiting(engine))

    with pytest.raises(BusyError, match="the write buffers are full and as much waits already; nothing was written"):
        write_times(engine, 1000)

    assert write_times(engine, 7, region=OTHER_ID) == 1
    store.gate.open()
    assert waiting.result() == 98
    assert values(engine) == list(range(1, 100))
    engine.close()


def test_a_write_that_finds_no_room_in_time_is_refused_and_nothing_is_written():
    store, log = GatedStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), **room_for_one_write(), write_stall_ms=30)
    store.gate.close()
    write_times(engine, 1)
    store.gate.reached()

    with pytest.raises(BusyError, match="waited 30 ms"):
        write_times(engine, 2)

    assert (values(engine), log.last_id()) == ([1], 1)
    store.gate.open()
    engine.close()


def test_a_flush_that_takes_long_does_not_hold_up_the_flush_of_another_region():
    store = GatedRegions()
    engine = started(store, scheduler=threads(), **ROOMY)
    create(engine, OTHER)
    create(engine, metadata_of(region=THIRD_ID))
    store.gates[REGION].close()
    for region in (REGION, OTHER_ID, THIRD_ID):
        write_times(engine, 1, region=region)
    slow = Task(lambda: flush(engine))
    store.gates[REGION].reached()

    assert [flush(engine, region) for region in (OTHER_ID, THIRD_ID)] == [1, 1]

    assert slow.is_alive()
    store.gates[REGION].open()
    assert slow.result() == 1
    assert [values(engine, region) for region in (REGION, OTHER_ID, THIRD_ID)] == [[1], [1], [1]]
    engine.close()
