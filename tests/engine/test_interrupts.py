"""Ctrl-C at any moment of anything: the handle stays usable, and what was asked for is there whole or not at all.

A real signal meets the main thread, as in a notebook, after a random time; what it raises is kept, as a notebook does.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime

import pyarrow as pa
import pytest
from builders import REGION, batch_of, create, delete, metadata_of, open_engine, put, read, threads
from gates import interrupted

from mitoframe.drivers.clock import ManualClock, SeededRandomness
from mitoframe.drivers.log_file import SegmentLog
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import ThreadScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import LANES
from mitoframe.model.alter import AddColumns, NewColumn
from mitoframe.model.batch import Batch
from mitoframe.model.request import AlterRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.ports import LogStore, ObjectStore
from mitoframe.storage.paths import parse_sst_key, sst_folder
from mitoframe.testing.vfs_faults import SlowVfs
from mitoframe.testing.vfs_memory import MemoryVfs
from mitoframe.testing.warm import warm_up

METADATA = metadata_of()
EPOCH = datetime(1970, 1, 1)
SYNC_MS = 1
ROUNDS = 90

Rows = dict[int, int]


class Store:
    """Opens an engine on the same objects and log again and again."""

    def __init__(self, kind: str) -> None:
        self.vfs = MemoryVfs() if kind == "segments" else None
        self.objects: ObjectStore = MemoryObjectStore(ManualClock())
        self.log: LogStore = MemoryLog()
        self.seed = 0

    def start(self) -> MitoEngine:
        self.seed += 1
        if self.vfs is not None:
            slow = SlowVfs(self.vfs, SYNC_MS)
            self.objects = LocalObjectStore(slow, SeededRandomness(100 + self.seed))
            self.log = SegmentLog(slow, "wal", store_id="0" * 32, segment_size_bytes=20_000)
        return open_engine(self.objects, self.log, scheduler=awake(), seed=self.seed, write_stall_ms=5_000)


def awake() -> ThreadScheduler:
    """Return lanes whose threads are all there: starting one under an interruption is the scheduler's business."""
    scheduler = threads()
    for lane in LANES:
        for _ in range(2):
            scheduler.submit(lane, lambda: time.sleep(0.002))
    scheduler.drain()
    return scheduler


def rows_in(engine: MitoEngine) -> Rows:
    found = read(engine, columns=("ts", "cpu"))
    rows = {round((ts - EPOCH).total_seconds() * 1000): cpu for ts, cpu in found}
    assert len(rows) == len(found), "a key was seen twice"
    return rows


class Caller:
    """Does one thing at a time, and knows what the rows are to be afterwards."""

    def __init__(self, engine: MitoEngine, chance: random.Random) -> None:
        self.engine, self.chance, self.number = engine, chance, 0

    def batch(self, times: list[int], value: int) -> Batch:
        return batch_of(METADATA, [put(0, time, cpu=value) for time in times])

    def next(self, rows: Rows) -> tuple[Callable[[], object], Rows]:
        """Return something to do, and what there is when it is done."""
        self.number += 1
        name = self.chance.choice(
            ["write", "write", "delete", "backfill", "replace", "flush", "compact", "alter", "truncate", "undo"]
        )
        return getattr(self, name)(rows, sorted(self.chance.sample(range(12), 3)))

    def write(self, rows: Rows, times: list[int]):
        batch = self.batch(times, self.number)
        return lambda: self._write(batch), rows | dict.fromkeys(times, self.number)

    def delete(self, rows: Rows, times: list[int]):
        batch = batch_of(METADATA, [delete(0, time) for time in times])
        return lambda: self._write(batch), {time: cpu for time, cpu in rows.items() if time not in times}

    def backfill(self, rows: Rows, times: list[int]):
        batches = [self.batch([time], self.number) for time in times]
        after = rows | dict.fromkeys(times, self.number)
        return lambda: self.engine.bulk_insert(REGION, batches, metadata=METADATA), after

    def replace(self, rows: Rows, times: list[int]):
        first, last = times[0], times[-1]
        batches = [self.batch([first], self.number)]
        after = {time: cpu for time, cpu in rows.items() if not first <= time < last} | {first: self.number}
        ranges = [TimeRange(first, last)]
        return lambda: self.engine.replace(REGION, ranges, batches, metadata=METADATA), after

    def flush(self, rows: Rows, times: list[int]):
        return lambda: self.engine.flush(REGION), rows

    def compact(self, rows: Rows, times: list[int]):
        return lambda: self.engine.compact(REGION), rows

    def alter(self, rows: Rows, times: list[int]):
        request = AlterRequest(alterations=(AddColumns((NewColumn(f"f{self.number}", pa.int64()),)),))
        return lambda: self.engine.alter(REGION, request), rows

    def truncate(self, rows: Rows, times: list[int]):
        if len(times) > 2 and self.chance.random() < 0.6:
            return self.write(rows, times)
        return lambda: self.engine.truncate(REGION, TruncateRequest()), {}

    def undo(self, rows: Rows, times: list[int]):
        written = self._write(self.batch(times, self.number))
        return lambda: self.engine.undo(REGION, written.first_sequence, written.row_count), rows

    def _write(self, batch: Batch):
        return self.engine.write(REGION, batch, metadata=METADATA)


def moments(chance: random.Random) -> Iterator[float]:
    """Yield delays, more short than long ones."""
    while True:
        yield 0.00005 * 400 ** chance.random()


@pytest.mark.parametrize("kind", ["memory", "segments"])
@pytest.mark.parametrize("seed", range(2))
def test_an_interruption_anywhere_leaves_all_or_nothing_and_a_handle_that_works(kind, seed):
    warm_up()  # Interrupted while it loads code, Numba complains of what it had only begun to make.
    chance, store = random.Random(seed), Store(kind)
    engine = store.start()
    create(engine, METADATA)
    caller, delays = Caller(engine, chance), moments(chance)
    rows: Rows = {}
    kept, done = [], 0

    for number in range(ROUNDS):
        before_deed = rows_in(engine)
        assert before_deed == rows
        deed, after = caller.next(rows)
        before = rows_in(engine)
        interruption = interrupted(deed, next(delays))
        kept.append(interruption)
        engine.drain()
        found = rows_in(engine)
        assert found == after if interruption is None else found in (before, after), number
        done += interruption is not None
        further = {100 + number: number}
        engine.write(REGION, caller.batch([100 + number], number), metadata=METADATA)
        rows = found | further

    assert 10 < done < ROUNDS, "too many or too few were met to tell anything"
    assert all(region.poison is None and not region.failures for region in engine.health().regions)
    assert rows_in(engine) == rows
    kept.clear()
    gc.collect()
    engine.drain()
    engine.vacuum(REGION, grace_ms=0)
    listed = set(engine.region(REGION).state.files)
    assert {parse_sst_key(item.key) for item in store.objects.list(sst_folder(REGION))} == listed
    if kind == "memory":
        engine.close(flush=False)
        store.log._closed = False
    again = store.start()
    assert rows_in(again) == rows
    again.close()


def test_whoever_backfills_waits_at_nothing_that_an_interruption_could_leave_locked(monkeypatch):
    waited: list[str] = []
    result = Future.result

    def watched(future: Future[object], timeout: float | None = None) -> object:
        waited.append(threading.current_thread().name)
        return result(future, timeout)

    store = Store("memory")
    engine = store.start()
    create(engine, METADATA)
    monkeypatch.setattr(Future, "result", watched)
    monkeypatch.setattr(Future, "exception", watched)

    engine.bulk_insert(REGION, [batch_of(METADATA, [put(0, time)]) for time in range(3)], metadata=METADATA)

    assert threading.current_thread().name not in waited
    monkeypatch.undo()
    engine.close()


@pytest.mark.parametrize("moment", [0.0005, 0.002, 0.01, 0.03])
def test_an_interrupted_writer_has_only_stopped_waiting(moment):
    store = Store("segments")
    engine = store.start()
    create(engine, METADATA)
    began = time.monotonic()

    def write_on() -> None:
        for _ in range(99):
            engine.write(REGION, batch_of(METADATA, [put(0, 1)]))

    interruption = interrupted(write_on, moment)

    assert interruption is not None
    assert time.monotonic() - began < 1
    count = engine.region(REGION).control.current().visible
    assert engine.write(REGION, batch_of(METADATA, [put(0, 2)])).first_sequence == count + 1
    engine.close()
