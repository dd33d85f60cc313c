"""Files that come by an edit and not through the log: bulk inserts and exchanges, beside writes and each other."""

from __future__ import annotations

from contextlib import suppress

import pytest
from acceptance.steps import (
    METADATA,
    buffered_rows,
    bulk_insert,
    files,
    flush,
    snapshot,
    started,
    state,
    threads,
    values,
    write,
    write_times,
)
from builders import REGION, batch_of, open_engine, put, read
from gates import GatedStore, Task, wait_until

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.errors import BusyError, ClosedError, ConflictError
from mitoframe.model.request import BulkInsertRequest, CloseRequest, CompactRequest, ReplaceRequest
from mitoframe.model.timerange import TimeRange


def replace(engine, start: int, end: int, *cpus: int) -> int:
    rows = [batch_of(METADATA, [put(0, start, cpu=cpu) for cpu in cpus])] if cpus else []
    return engine.handle_request(REGION, ReplaceRequest(time_range=TimeRange(start, end), batches=rows))


def test_an_edit_raises_the_committed_sequence_for_good_without_a_flush():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    bulk_insert(engine, 1, 2, 3)

    again = open_engine(store, log, seed=1)

    assert (state(again).committed_sequence, snapshot(again).visible) == (3, 3)
    assert (state(again).flushed_sequence, state(again).flushed_entry_id, log.last_id()) == (0, 0, 0)
    assert again.write(REGION, batch_of(METADATA, [put(0, 4)])).first_sequence == 4


def test_files_that_an_edit_brings_count_for_the_automatic_compaction():
    engine = started(compaction_trigger_files=3)
    counts = []
    for cpu in (1, 2, 3):
        engine.handle_request(REGION, BulkInsertRequest(batches=[batch_of(METADATA, [put(0, 1, cpu=cpu)])]))
        counts.append(len(files(engine)))

    assert counts == [1, 2, 1]
    assert values(engine) == [3]


@pytest.mark.parametrize("how", ["put", "bulk insert"])
def test_a_write_during_an_edit_waits_and_gets_the_sequences_after_it(how):
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1, 2)
    flush(engine)
    store.gate.close()
    editing = Task(lambda: replace(engine, 2, 3))
    store.gate.reached()  # The file without the row is being stored, and nobody else writes.

    if how == "put":
        writing = Task(lambda: write_times(engine, 2, 5))
    else:
        writing = Task(lambda: bulk_insert(engine, 2, 5))
        store.gate.reached()
    writing.join(0.05)
    assert writing.is_alive()
    assert values(engine) == [1, 2]
    store.gate.open()

    assert (editing.result(), writing.result()) == (1, 2)
    assert read(engine, columns=("cpu", "__sequence")) == [(1, 1), (2, 3), (5, 4)]
    engine.close()


def test_rows_written_while_a_bulk_insert_is_sorted_count_as_older():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    store.gate.close()
    inserting = Task(lambda: bulk_insert(engine, 1, 2))
    store.gate.reached()

    write(engine, put(0, 2, cpu=20), put(0, 3, cpu=30))
    assert values(engine) == [20, 30]
    store.gate.open()
    inserting.result()

    assert read(engine, columns=("cpu", "__sequence")) == [(1, 3), (2, 4), (30, 2)]
    engine.close()


def test_an_edit_and_a_write_that_wait_are_refused_when_the_region_is_closed_meanwhile():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1)
    store.gate.close()
    closing = Task(lambda: engine.handle_request(REGION, CloseRequest()))
    store.gate.reached()

    batch = batch_of(METADATA, [put(0, 5)])
    waiting = [Task(lambda: engine.write(REGION, batch)), Task(lambda: replace(engine, 1, 2, 9))]
    for task in waiting:
        task.join(0.05)
        assert task.is_alive()
    store.gate.open()
    closing.result()

    for task in waiting:
        with pytest.raises(ClosedError):
            task.result()
    assert values(engine) == [1]
    engine.close()


def test_edits_at_once_get_sequences_of_their_own_and_all_their_files_stay():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), compaction_trigger_files=1000)

    tasks = [Task(lambda first=first: bulk_insert(engine, *range(first, first + 5))) for first in range(0, 100, 5)]
    assert [task.result() for task in tasks] == [5] * 20

    found = sorted((file.min_sequence, file.max_sequence) for file in files(engine))
    assert found == [(first, first + 4) for first in range(1, 101, 5)]
    assert snapshot(engine).visible == 100
    again = open_engine(store, log, seed=1)
    assert values(engine) == values(again) == list(range(100))
    assert {file.file_id for file in files(again)} == {file.file_id for file in files(engine)}
    engine.close()


def test_edits_at_once_with_writes_flushes_and_compactions_lose_nothing():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, scheduler=threads(), compaction_trigger_files=3)

    def insert(first: int) -> None:
        bulk_insert(engine, *range(first, first + 10))

    def put_some(first: int) -> None:
        for time in range(first, first + 10):
            write_times(engine, time)
        flush(engine)
        with suppress(BusyError, ConflictError):  # Another has asked for one, or took the place of this one.
            engine.handle_request(REGION, CompactRequest())

    jobs = [insert, put_some] * 3
    for task in [Task(lambda job=job, first=10 * n: job(first)) for n, job in enumerate(jobs)]:
        task.result()
    engine.drain()

    assert values(engine) == list(range(60))
    assert buffered_rows(engine) == 0
    assert sorted(row[0] for row in read(engine, columns=("__sequence",))) == list(range(1, 61))
    assert values(open_engine(store, log, seed=1)) == list(range(60))
    engine.close()


def test_an_exchange_of_rows_is_seen_whole_or_not_at_all():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1, 2)
    flush(engine)
    store.gate.close()
    editing = Task(lambda: replace(engine, 2, 3, 20))
    store.gate.reached()
    assert values(engine) == [1, 2]
    store.gate.open()

    assert editing.result() == 2
    wait_until(lambda: not engine.region(REGION).gate.waiting())
    assert values(engine) == [1, 20]
    engine.close()
