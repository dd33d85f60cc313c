"""Readers beside writers: in threads of this process, and in another process that only reads."""

from __future__ import annotations

import pyarrow as pa
from acceptance.steps import alter, flush, started, state, threads, values, write_times
from builders import REGION, open_engine, read
from gates import Task

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.alter import AddColumns, NewColumn
from mitoframe.model.request import CompactRequest


def test_scans_at_once_see_whole_writes_and_never_fewer_rows_than_before():
    engine = started(scheduler=threads(), compaction_trigger_files=3)
    writes = 60

    def write_all() -> None:
        for step in range(writes):
            write_times(engine, 2 * step, 2 * step + 1)
            if step % 7 == 0:
                flush(engine)
            if step % 20 == 0:
                engine.handle_request(REGION, CompactRequest())

    def scan_all() -> list[int]:
        counts = []
        while not counts or counts[-1] < 2 * writes:
            found = values(engine)
            assert found == list(range(len(found)))
            counts.append(len(found))
        return counts

    scans = [Task(scan_all) for _ in range(3)]
    Task(write_all).result()

    for scan in scans:
        counts = scan.result()
        assert counts == sorted(counts)
        assert all(count % 2 == 0 for count in counts)
    engine.close()


def test_a_reading_process_sees_files_that_were_flushed_since_it_opened():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    reader = open_engine(store, log, read_only=True)
    assert values(reader) == []

    write_times(engine, 1)
    flush(engine)

    assert values(reader) == [1]
    assert state(reader).files == state(engine).files


def test_a_reading_process_sees_a_schema_that_was_altered_since_it_opened():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)
    reader = open_engine(store, log, read_only=True)
    assert values(reader) == [1]

    alter(engine, AddColumns((NewColumn("mem", pa.float64(), default=0.5),)))

    assert read(reader, columns=("cpu", "mem")) == [(1, 0.5)]
    assert state(reader).metadata == state(engine).metadata
