"""What a compaction may never change for who writes: rows, deletes, and the window that memtables are parted by."""

from __future__ import annotations

import pytest
from acceptance.steps import (
    HISTORY_OFF,
    HOUR,
    alter,
    files,
    flush,
    remove,
    snapshot,
    started,
    state,
    threads,
    values,
    write,
    write_times,
)
from builders import REGION, open_engine, put
from gates import GatedStore, Task

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.errors import MitoError
from mitoframe.model.request import CloseRequest, CompactRequest

QUIET = {"compaction_trigger_files": 1000} | HISTORY_OFF
DAY = 24 * HOUR


def compact(engine) -> int:
    return engine.handle_request(REGION, CompactRequest())


def flushed(engine, *times: int) -> None:
    write_times(engine, *times)
    flush(engine)


def flush_removed(engine, *times: int) -> None:
    remove(engine, *times)
    flush(engine)


def deletes(engine) -> list[int]:
    """Return how many delete markers each file holds."""
    return sorted(file.delete_count for file in files(engine))


def test_puts_and_deletes_that_overlap_become_one_file_with_the_rows_that_are_left():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, **QUIET)
    flushed(engine, *range(10))
    flushed(engine, *range(10, 20))
    flushed(engine, *range(20, 30))
    flush_removed(engine, *range(15, 30))
    flushed(engine, *range(15, 25))

    compact(engine)

    assert values(engine) == values(open_engine(store, log, seed=1)) == list(range(25))
    assert deletes(engine) == [0]  # The first file overlaps no other, but is small and lies beside them.


def test_overlapping_files_of_one_window_become_exactly_one():
    engine = started(options={"compaction_window_ms": DAY}, **QUIET)
    flushed(engine, *range(30))
    flush_removed(engine, 10, 11, 12)
    flushed(engine, *range(20, 40))
    flush_removed(engine, 25, 35)

    assert compact(engine) == 35

    assert len(files(engine)) == 1
    assert values(engine) == [time for time in range(40) if time not in (10, 11, 12, 25, 35)]
    assert deletes(engine) == [0]


def test_deletes_are_honoured_where_files_of_several_windows_overlap():
    engine = started(options={"compaction_window_ms": HOUR}, **QUIET)
    first = [0, 1200_000, 2400_000]
    second = [3600_000, 4800_000]
    flushed(engine, *first, *second)
    flushed(engine, *first)
    flush_removed(engine, 1200_000, 4800_000)
    flush_removed(engine, 2400_000)

    for _ in range(2):
        assert values(engine) == [0, 3600_000]
        compact(engine)


def test_deleting_everything_leaves_no_row_and_what_markers_stay_do_no_harm():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options={"compaction_window_ms": HOUR}, **QUIET)
    times = range(0, 3 * HOUR, 600_000)
    flushed(engine, *times)
    flushed(engine, *times)
    flush_removed(engine, *times)

    compact(engine)

    assert values(engine) == values(open_engine(store, log, seed=1)) == []
    flushed(engine, 0)
    compact(engine)
    assert values(engine) == [0]


def test_a_merge_of_some_files_keeps_the_markers_that_hide_rows_of_the_others():
    """The long file ends in a later window and is not merged with those of the first."""
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options={"compaction_window_ms": HOUR}, **QUIET)
    flushed(engine, 1, 2, 3 * HOUR)
    flush_removed(engine, 1)
    flushed(engine, 1000, 1)
    flush_removed(engine, 1)

    assert compact(engine) > 0

    assert len(files(engine)) == 2
    assert sum(deletes(engine)) == 1
    assert values(engine) == values(open_engine(store, log, seed=1)) == [2, 1000, 3 * HOUR]


def test_a_merge_of_many_files_loses_no_row_and_brings_none_back():
    limits = {"compaction_trigger_files": 4, "compaction_settled_trigger_files": 4, "compaction_input_files_max": 5}
    engine = started(options={"compaction_window_ms": DAY, "compaction_mode": "manual"} | limits, **HISTORY_OFF)
    for step in range(40):
        write(engine, put(0, step, cpu=step), put(0, 1000, cpu=step))
        if step % 3 == 0:
            remove(engine, step)
        flush(engine)
    left = sorted([step for step in range(40) if step % 3] + [39])

    merged = engine.compact(REGION, CompactRequest(mode="due"))

    assert merged.merges > 1
    assert values(engine) == left
    compact(engine)
    assert len(files(engine)) == 1
    assert values(engine) == left


def test_a_region_that_is_closed_during_a_compaction_keeps_its_files():
    store, log = GatedStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), **QUIET)
    flushed(engine, 1, 2)
    flushed(engine, 1, 3)
    before = {file.file_id for file in files(engine)}
    store.gate.close()
    compacting = Task(lambda: compact(engine))
    store.gate.reached()

    engine.handle_request(REGION, CloseRequest(flush=False))
    store.gate.open()

    with pytest.raises(MitoError):
        compacting.result()
    assert {file.file_id for file in files(engine)} == before
    assert values(engine) == [1, 2, 3]
    assert compact(engine) == 3
    engine.close()


# --- windows --------------------------------------------------------------------------------------------


def test_the_window_is_a_day_until_a_compaction_infers_it_and_memtables_are_parted_by_it():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, **QUIET)
    assert (state(engine).compaction_window_ms, state(engine).partition_width) == (None, DAY)
    flushed(engine, 0, HOUR)
    flushed(engine, 0, HOUR)

    compact(engine)
    flushed(engine, 1)

    for opened in (engine, open_engine(store, log, seed=1)):
        assert (state(opened).compaction_window_ms, state(opened).partition_width) == (HOUR, HOUR)
    write_times(engine, 0, HOUR, 2 * HOUR)
    assert len(snapshot(engine).version.mutable.ranges()) == 3


def test_a_window_given_later_overrides_the_inferred_one_for_good():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, **QUIET)
    for _ in range(2):
        flushed(engine, 0, HOUR)
    compact(engine)
    assert state(engine).compaction_window_ms == HOUR

    alter(engine, compaction_window_ms=2 * HOUR)
    flushed(engine, 0, HOUR)
    compact(engine)

    for opened in (engine, open_engine(store, log, seed=1)):
        assert (state(opened).options.compaction_window_ms, state(opened).partition_width) == (2 * HOUR, 2 * HOUR)
    assert values(engine) == [0, HOUR]
