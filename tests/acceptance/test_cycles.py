"""Compactions beside everything else: what is asked for, refused, disturbed or cut off is told, and nothing sticks."""

from __future__ import annotations

import pytest
from acceptance.steps import HOUR, alter, files, flush, started, state, threads, values, write, write_times
from builders import REGION, put
from gates import Task, merges_wait, wait_until

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import ThreadScheduler
from mitoframe.engine import compaction
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import LANES
from mitoframe.failpoints import watching
from mitoframe.model.alter import SetIndexes
from mitoframe.model.errors import ClosedError, MitoError
from mitoframe.model.request import BuildIndexRequest, CompactRequest, DropRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.paths import sst_folder

WINDOW = {"compaction_window_ms": HOUR}
WHEN_ASKED = {"compaction_trigger_files": 100}


def flushed(engine: MitoEngine, *times: int) -> None:
    write_times(engine, *times)
    flush(engine)


def overlapping(engine: MitoEngine, count: int, time: int = 1) -> None:
    """Flush files that all have the same time."""
    for cpu in range(count):
        write(engine, put(0, time, cpu=cpu))
        flush(engine)


def levels(engine: MitoEngine) -> list[int]:
    return sorted(file.level for file in files(engine))


def is_waiting(engine: MitoEngine) -> bool:
    """Tell whether a request waits for a cycle to end."""
    return engine._background.compactions._desk_of(engine.region(REGION)).waiting is not None


# --- nothing to do --------------------------------------------------------------------------------------


def test_a_region_without_files_or_with_one_is_left_as_it_is_and_can_be_asked_again():
    engine = started(options=WINDOW, **WHEN_ASKED)

    for count in range(2):
        result = engine.compact(REGION)
        assert (result.removed, result.added, result.merges) == ((), (), 0)
        assert (len(files(engine)), state(engine).version) == (count, count)
        flushed(engine, 1)

    assert engine.compact(REGION).merges == 1


# --- what cannot be done --------------------------------------------------------------------------------


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("planning broke")


def test_planning_that_breaks_is_told_to_who_asked_and_the_next_request_is_carried_out(monkeypatch):
    engine = started(options=WINDOW, scheduler=threads(), **WHEN_ASKED)
    overlapping(engine, 2)

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "plan_compaction", broken)
        with pytest.raises(RuntimeError, match="planning broke"):
            engine.compact(REGION)

    assert isinstance(engine.health().regions[0].failures["compaction"], RuntimeError)
    assert engine.compact(REGION).merges == 1
    assert engine.health().regions[0].failures == {}
    engine.close()


def test_planning_that_breaks_after_a_flush_does_not_make_the_flush_fail(monkeypatch):
    engine = started(options=WINDOW, scheduler=threads(), compaction_trigger_files=3)

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "plan_compaction", broken)
        overlapping(engine, 3)

    assert levels(engine) == [0, 0, 0]
    assert isinstance(engine.health().regions[0].failures["compaction planning"], RuntimeError)
    overlapping(engine, 1)
    engine.drain()
    assert levels(engine) == [1]
    assert engine.health().regions[0].failures == {}
    engine.close()


class RefusingScheduler(ThreadScheduler):
    """Takes no job while it is told to refuse them."""

    is_refusing = False

    def submit(self, lane, job):
        if self.is_refusing:
            raise ClosedError("no job is taken")
        return super().submit(lane, job)


def test_a_compaction_that_nobody_takes_on_is_told_and_does_not_stick():
    scheduler = RefusingScheduler(dict.fromkeys(LANES, 1))
    engine = started(options=WINDOW, scheduler=scheduler, **WHEN_ASKED)
    overlapping(engine, 2)
    scheduler.is_refusing = True

    with pytest.raises(ClosedError, match="no job is taken"):
        engine.compact(REGION)

    scheduler.is_refusing = False
    assert levels(engine) == [0, 0]
    assert engine.compact(REGION).merges == 1
    engine.close()


def test_a_request_that_waits_and_that_nobody_takes_on_is_told_and_does_not_stick():
    scheduler = RefusingScheduler(dict.fromkeys(LANES, 1))
    engine = started(options=WINDOW, scheduler=scheduler, compaction_trigger_files=3)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()
        asked = Task(lambda: engine.compact(REGION))
        wait_until(lambda: is_waiting(engine))
        scheduler.is_refusing = True
        gate.open()

        with pytest.raises(ClosedError, match="no job is taken"):
            asked.result()

    scheduler.is_refusing = False
    overlapping(engine, 1)
    assert engine.compact(REGION).merges == 1
    assert levels(engine) == [1]
    engine.close()


# --- what waits, and for what ---------------------------------------------------------------------------


def test_a_request_for_some_times_that_has_to_wait_is_carried_out_for_those_times():
    engine = started(options=WINDOW, scheduler=threads(), compaction_trigger_files=3)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()
        overlapping(engine, 2, time=5 * HOUR)
        overlapping(engine, 2, time=9 * HOUR)
        request = CompactRequest(time_range=TimeRange(9 * HOUR, 10 * HOUR))
        asked = Task(lambda: engine.compact(REGION, request))
        wait_until(lambda: is_waiting(engine))
        gate.open()

        assert {file.min_time for file in asked.result().removed} == {9 * HOUR}

    engine.drain()
    found = sorted((file.min_time // HOUR, file.level) for file in files(engine))
    assert found == [(0, 1), (5, 0), (5, 0), (9, 1)]
    engine.close()


@pytest.mark.parametrize("what", ["close", "drop"])
def test_what_is_merged_and_what_waits_is_told_when_the_region_goes(what):
    store = MemoryObjectStore()
    engine = started(store, options=WINDOW, scheduler=threads(), compaction_trigger_files=3)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()
        before = {item.key for item in store.list(sst_folder(REGION))}
        asked = Task(lambda: engine.compact(REGION))
        wait_until(lambda: is_waiting(engine))

        if what == "close":
            engine.close_region(REGION, flush=False)
        else:
            engine.handle_request(REGION, DropRequest())
        gate.open()

        with pytest.raises(MitoError):
            asked.result()

    engine.drain()
    assert {item.key for item in store.list(sst_folder(REGION))} < before, "what was merged in vain has gone"
    if what == "close":
        assert values(engine) == [2]
        assert engine.compact(REGION).merges == 1
    engine.close()


# --- what comes meanwhile -------------------------------------------------------------------------------


def merges_of(engine: MitoEngine, meanwhile) -> int:
    """Compact, do something when the outputs of the first merge are stored, and return how many were made in all."""
    merges = 0

    def count(name: str) -> None:
        nonlocal merges
        if name == "compact.sst_stored":
            merges += 1
            if merges == 1:
                meanwhile()

    with watching(count):
        assert engine.compact(REGION).merges == 1
    return merges


def test_a_flush_of_other_times_does_not_make_a_merge_begin_anew():
    engine = started(options=WINDOW, **WHEN_ASKED)
    overlapping(engine, 2)

    assert merges_of(engine, lambda: flushed(engine, 9 * HOUR)) == 1

    assert levels(engine) == [0, 1]
    assert values(engine) == [1, 9 * HOUR]


def test_an_index_that_is_built_meanwhile_does_not_make_a_merge_begin_anew():
    engine = started(options={"index_mode": "manual"} | WINDOW, **WHEN_ASKED)
    alter(engine, SetIndexes({"cpu": ("inverted",)}))
    overlapping(engine, 2)
    built = []

    assert merges_of(engine, lambda: built.extend(engine.build_index(REGION, BuildIndexRequest()).files)) == 1

    assert len(built) == 2
    assert levels(engine) == [1]
    assert values(engine) == [1]
