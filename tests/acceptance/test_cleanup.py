"""What is deleted and what stays: SSTs that somebody reads, files that nobody lists, and the deltas of a manifest."""

from __future__ import annotations

import gc

import pytest
from acceptance.steps import files, flush, started, state, values, write, write_times
from builders import REGION, open_engine, put

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.errors import UnavailableError
from mitoframe.model.request import DropRequest, ScanRequest, TruncateRequest
from mitoframe.storage.paths import manifest_folder, parse_sst_key, sst_folder, sst_key


def stored(store: MemoryObjectStore) -> set[str]:
    return {file_id for item in store.list(sst_folder(REGION)) if (file_id := parse_sst_key(item.key))}


def manifest_names(store: MemoryObjectStore) -> list[str]:
    return [item.key.rpartition("/")[2].lstrip("0") for item in store.list(manifest_folder(REGION))]


def overlapping(engine: MitoEngine, count: int) -> set[str]:
    for cpu in range(count):
        write(engine, put(0, 1, cpu=cpu))
        flush(engine)
    return {file.file_id for file in files(engine)}


# --- SSTs -----------------------------------------------------------------------------------------------

REMOVALS = {
    "truncate": lambda engine: engine.handle_request(REGION, TruncateRequest()),
    "compact": lambda engine: engine.compact(REGION),
}


@pytest.mark.parametrize("what", REMOVALS)
def test_files_that_are_listed_no_more_stay_as_long_as_a_scan_reads_them(what):
    store = MemoryObjectStore()
    engine = started(store, compaction_mode="manual", gc_grace_ms=0)
    removed = overlapping(engine, 2)
    reading = engine.plan(REGION, ScanRequest(columns=("cpu",)))

    REMOVALS[what](engine)
    assert engine.vacuum(REGION, grace_ms=0).removed == ()
    assert [row for batch in engine.reading.query(reading) for row in batch.to_pylist()] == [{"cpu": 1}]

    del reading
    gc.collect()
    assert set(engine.vacuum(REGION, grace_ms=0).removed) == removed
    assert stored(store) == {file.file_id for file in files(engine)}


def test_of_a_dropped_region_files_that_nobody_ever_listed_go_too():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, gc_grace_ms=1000)
    write_times(engine, 1)
    flush(engine)
    engine.handle_request(REGION, DropRequest())
    clock.advance(999)
    store.put_if_absent(sst_key(REGION, "f" * 32), b"left by a flush")
    assert len(stored(store)) == 2

    clock.advance(1)
    engine.maintain()

    assert stored(store) == set()


# --- the manifest ---------------------------------------------------------------------------------------


def test_with_a_checkpoint_for_each_version_two_of_them_are_kept_and_one_delta():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, checkpoint_distance=1, compaction_mode="manual")

    for time in range(10):
        write_times(engine, time)
        flush(engine)

    assert manifest_names(store) == ["9.checkpoint", "10.checkpoint", "10.json"]
    again = open_engine(store, log, seed=1)
    assert (state(again), values(again)) == (state(engine), list(range(10)))


class KeepingStore(MemoryObjectStore):
    """Deletes nothing of a manifest while it is told so."""

    is_keeping = True

    def delete(self, key):
        if self.is_keeping and "/manifest/" in key:
            raise UnavailableError("nothing is deleted")
        super().delete(key)


def test_checkpoints_go_on_and_are_read_while_deltas_cannot_be_deleted(caplog):
    store, log = KeepingStore(), MemoryLog()
    engine = started(store, log, checkpoint_distance=3, compaction_mode="manual")

    for time in range(9):
        write_times(engine, time)
        flush(engine)

    assert "checkpoint failed" in caplog.text
    assert [name for name in manifest_names(store) if "checkpoint" in name] == [f"{n}.checkpoint" for n in (2, 5, 8)]
    assert len(manifest_names(store)) == 13
    again = open_engine(store, log, seed=1, checkpoint_distance=3, compaction_mode="manual")
    assert (state(again), values(again)) == (state(engine), list(range(9)))

    store.is_keeping = False
    for time in range(9, 12):
        write_times(again, time)
        flush(again)

    assert manifest_names(store) == ["8.checkpoint", "9.json", "10.json", "11.checkpoint", "11.json", "12.json"]
    assert values(open_engine(store, log, seed=2)) == list(range(12))
