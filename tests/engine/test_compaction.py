"""Who asks for a compaction, what runs, and what becomes of requests and changes that come meanwhile.

Each test is made twice: with merges in the engine, and with merges that a compactor carries out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import polars as pl
import pytest
from builders import REGION, batch_of, create, delete, file_of, metadata_of, open_engine, put, read, threads
from gates import GatedStore, Task, merges_wait, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from tracing import TracingHook

import mitoframe as mito
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.jobs.tasks import CompactionTask
from mitoframe.jobs.twcs import is_current
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    CorruptionError,
    DiskFullError,
    LimitExceededError,
    MitoError,
)
from mitoframe.model.ids import region_id
from mitoframe.model.request import AlterRequest, CompactRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.manifest import load
from mitoframe.storage.memtable import RangeStats
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.testing.compactors import InlineCompactor

METADATA = metadata_of()
HOUR = 3_600_000
ALL = TruncateRequest(what="all")
runner = "here"


@pytest.fixture(autouse=True, scope="module", params=["here", "elsewhere"])
def where_merges_run(request):
    global runner
    runner = request.param


class Naming(InlineCompactor):
    """Remembers what outputs it was to make."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.names: set[str] = set()

    def submit(self, job):
        self.names.update(job.output_ids)
        super().submit(job)


def started(store=None, *, options: dict | None = None, **known) -> MitoEngine:
    store = store or MemoryObjectStore(known.get("clock") or ManualClock())
    engine = open_engine(store, compactor=Naming(store) if runner == "elsewhere" else None, **known)
    create(engine, METADATA, **({"compaction_window_ms": HOUR} | (options or {})))
    return engine


def flushed(engine: MitoEngine, *rows) -> None:
    engine.write(REGION, batch_of(METADATA, rows))
    engine.flush(REGION)


def overlapping(engine: MitoEngine, count: int, time: int = 1) -> None:
    """Flush files that all have the same time."""
    for cpu in range(count):
        flushed(engine, put(0, time, cpu=cpu))


def files(engine: MitoEngine):
    return list(engine.region(REGION).state.files.values())


def values(engine: MitoEngine) -> list[int]:
    return sorted(row[0] for row in read(engine, columns=("cpu",)))


def stored(store: MemoryObjectStore) -> set[str]:
    return {item.key for item in store.list(sst_folder(REGION))}


def keys(engine: MitoEngine) -> set[str]:
    return {sst_key(REGION, file.file_id) for file in files(engine)}


def failures(engine: MitoEngine) -> dict[str, BaseException]:
    return dict(engine.health().regions[0].failures)


# --- one cycle ------------------------------------------------------------------------------------------


def test_what_is_asked_for_during_an_automatic_cycle_is_done_after_it():
    engine = started(scheduler=threads(), compaction_trigger_files=3)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()
        overlapping(engine, 1, time=9 * HOUR)
        overlapping(engine, 1, time=9 * HOUR)

        asked = Task(lambda: engine.compact(REGION))
        wait_until(lambda: _is_waiting(engine))
        gate.open()

        assert len(asked.result().removed) == 2
    engine.drain()
    assert [file.level for file in files(engine)] == [1, 1]
    engine.close()


def test_of_two_requests_that_wait_the_newer_one_takes_the_place():
    engine = started(scheduler=threads(), compaction_trigger_files=3)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()
        older = Task(lambda: engine.compact(REGION))
        wait_until(lambda: _is_waiting(engine))

        newer = Task(lambda: engine.compact(REGION))

        with pytest.raises(ConflictError, match="a newer request took the place of this one"):
            older.result()
        gate.open()
        newer.result()
    engine.close()


def _is_waiting(engine: MitoEngine) -> bool:
    return engine._background.compactions._desk_of(engine.region(REGION)).waiting is not None


def test_a_second_request_is_refused_while_the_first_is_carried_out():
    engine = started(scheduler=threads(), compaction_trigger_files=100)
    overlapping(engine, 2)
    with merges_wait() as gate:
        first = Task(lambda: engine.compact(REGION))
        gate.reached()

        with pytest.raises(BusyError, match="wait until it has ended"):
            engine.compact(REGION)

        gate.open()
        assert len(first.result().removed) == 2
    assert engine.compact(REGION).removed == ()
    engine.close()


def test_what_becomes_due_during_a_cycle_is_merged_without_being_asked():
    engine = started(scheduler=threads(), compaction_trigger_files=3)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()

        overlapping(engine, 3, time=9 * HOUR)
        gate.open()
        engine.drain()

    assert [file.level for file in files(engine)] == [1, 1]
    engine.close()


def test_what_becomes_due_while_a_request_is_carried_out_is_merged_after_it():
    engine = started(scheduler=threads(), compaction_trigger_files=3)
    overlapping(engine, 2)
    with merges_wait() as gate:
        window = CompactRequest(time_range=TimeRange(0, HOUR))
        asked = Task(lambda: engine.compact(REGION, window))
        gate.reached()

        overlapping(engine, 3, time=9 * HOUR)
        gate.open()
        asked.result()
        wait_until(lambda: [file.level for file in files(engine)] == [1, 1])

    engine.close()


def test_after_an_error_the_next_request_is_carried_out():
    store = GatedStore()
    engine = started(store, scheduler=threads(), compaction_trigger_files=100)
    overlapping(engine, 2)
    before = keys(engine)
    store.error = DiskFullError("no space left")

    with pytest.raises(DiskFullError):
        engine.compact(REGION)
    assert keys(engine) == stored(store) == before
    assert isinstance(failures(engine)["compaction"], DiskFullError)
    store.error = None

    assert len(engine.compact(REGION).removed) == 2
    assert failures(engine) == {}
    engine.close()


def test_maintaining_returns_when_all_that_was_due_is_merged():
    clock = ManualClock(now_ms=10**12)
    engine = started(scheduler=threads(), clock=clock, compaction_settle_ms=1000)
    for time in (1, 9 * HOUR, 99 * HOUR):
        overlapping(engine, 2, time=time)
    clock.advance(100_000)

    engine.maintain()

    assert [file.level for file in files(engine)] == [1, 1, 1]
    engine.close()


def test_while_a_region_is_merged_another_is_written_flushed_and_read():
    other = metadata_of(region=region_id(2, 0))
    engine = started(scheduler=threads(), compaction_trigger_files=100)
    create(engine, other)
    overlapping(engine, 2)
    with merges_wait() as gate:
        merging = Task(lambda: engine.compact(REGION))
        gate.reached()

        engine.write(other.region_id, batch_of(other, [put(0, 1, cpu=5)]))
        assert len(engine.flush(other.region_id).files) == 1
        assert read(engine, other.region_id, columns=("cpu",)) == [(5,)]

        assert merging.is_alive()
        gate.open()
        merging.result()
    engine.close()


def test_closing_the_store_waits_until_what_was_asked_for_is_done():
    store = MemoryObjectStore()
    engine = started(store, scheduler=threads(), compaction_trigger_files=100)
    overlapping(engine, 2)
    with merges_wait() as gate:
        asked = Task(lambda: engine.compact(REGION))
        gate.reached()
        closing = Task(engine.close)
        closing.join(0.05)
        assert closing.is_alive()
        gate.open()

        assert len(asked.result().removed) == 2
        closing.result()

    assert [file.level for file in load(store, REGION).state.files.values()] == [1]


# --- what changes meanwhile -----------------------------------------------------------------------------


def test_truncating_cancels_what_is_merged_and_what_waits():
    store = MemoryObjectStore()
    engine = started(store, scheduler=threads(), compaction_trigger_files=3, gc_grace_ms=0)
    with merges_wait() as gate:
        overlapping(engine, 3)
        gate.reached()
        waiting = Task(lambda: engine.compact(REGION))
        wait_until(lambda: _is_waiting(engine))

        assert engine.truncate(REGION, ALL) == 3

        with pytest.raises(ConflictError, match="the compaction was cancelled"):
            waiting.result()
        gate.open()
        engine.drain()

    assert (files(engine), values(engine), failures(engine)) == ([], [], {})
    engine.vacuum(REGION)
    assert stored(store) == set()
    engine.close()


def test_a_merge_that_is_cancelled_stops_before_it_stores_anything():
    store = GatedStore()
    engine = started(store, scheduler=threads(), compaction_trigger_files=100)
    overlapping(engine, 2)
    inputs = keys(engine)
    store.gate.close()
    merging = Task(lambda: engine.compact(REGION))
    store.gate.reached()

    engine.truncate(REGION, ALL)
    store.gate.open()

    with pytest.raises(ConflictError):
        merging.result()
    assert stored(store) == inputs  # In their grace.
    overlapping(engine, 2)
    assert len(engine.compact(REGION).removed) == 2
    engine.close()


def test_a_merge_that_was_begun_before_the_region_was_closed_and_opened_again_commits_nothing():
    store = MemoryObjectStore()
    engine = started(store, scheduler=threads(), compaction_trigger_files=100)
    overlapping(engine, 2)
    before = files(engine)
    with merges_wait() as gate:
        asked = Task(lambda: engine.compact(REGION))
        gate.reached()
        engine.close_region(REGION, flush=False)
        assert files(engine) == before
        gate.open()

        with pytest.raises(MitoError):
            asked.result()

    engine.drain()
    assert (files(engine), stored(store)) == (before, {sst_key(REGION, file.file_id) for file in before})
    assert len(engine.compact(REGION).removed) == 2
    engine.close()


class MeanwhileHook(TracingHook):
    """Does something the first time that the output of a merge is stored."""

    def __init__(self) -> None:
        super().__init__([])
        self.meanwhile: Callable[[], object] | None = None
        self.done = False

    def on_sst_files_written(self, region_id, metadata, files):
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None and files:
            meanwhile()
            self.done = True


def test_a_plan_whose_files_went_meanwhile_is_made_anew():
    hook = MeanwhileHook()
    engine = started(hooks=[hook], compaction_trigger_files=100)
    for time in (1, 9 * HOUR):
        overlapping(engine, 3, time=time)
    hook.meanwhile = lambda: engine.replace(REGION, [TimeRange(1, 2)], [batch_of(METADATA, [put(0, 1, cpu=7)])])

    result = engine.compact(REGION)

    assert hook.done
    assert values(engine) == [2, 7]
    assert sorted(file.min_time for file in files(engine)) == [1, 9 * HOUR]
    assert [file.min_time for file in result.removed] == [9 * HOUR] * 3


def test_a_delete_marker_stays_if_what_it_hides_came_back_while_it_was_merged():
    hook = MeanwhileHook()
    engine = started(hooks=[hook], compaction_trigger_files=100)
    flushed(engine, put(0, 1, cpu=1))
    state = engine.region(REGION).state
    old = state.files[files(engine)[0].file_id]
    engine.replace(REGION, [TimeRange(1, 2)])
    flushed(engine, delete(0, 1), put(0, 2, cpu=2))
    flushed(engine, put(0, 2, cpu=3))
    hook.meanwhile = lambda: engine.region(REGION).commit_edit(FileEdit(added=(old,), reason="restore"))

    engine.compact(REGION)

    assert hook.done
    assert values(engine) == [3]


TASK_FILES = [file_of("a", 0, 10, min_sequence=5, max_sequence=8), file_of("b", 5, 20, min_sequence=9, max_sequence=12)]


def task(**known) -> CompactionTask:
    return CompactionTask(window_start=0, inputs=tuple(TASK_FILES), drop_deletes=False, **known)


def listed(*more):
    return {file.file_id: file for file in (*TASK_FILES, *more)}


def test_a_task_holds_no_longer_when_an_input_is_gone():
    assert is_current(task(), listed(), dedup="last")
    assert not is_current(task(), {TASK_FILES[0].file_id: TASK_FILES[0]}, dedup="last")


@pytest.mark.parametrize(
    ("first", "last", "oldest", "newest", "holds_for_deletes", "holds_for_merge"),
    [
        (15, 16, 1, 2, False, True),  # Older: a dropped marker would bring it back.
        (15, 16, 6, 7, False, False),  # Between: a row filled from both sides would hide it.
        (15, 16, 13, 14, True, True),  # Newer than all.
        (21, 30, 6, 7, True, True),  # Of other times.
    ],
)
def test_a_task_holds_no_longer_when_what_came_would_be_brought_back_or_hidden(
    first, last, oldest, newest, holds_for_deletes, holds_for_merge
):
    other = file_of("c", first, last, min_sequence=oldest, max_sequence=newest)
    part = RangeStats(
        row_count=1, delete_count=0, min_time=first, max_time=last, min_sequence=oldest, max_sequence=newest
    )
    dropping = CompactionTask(window_start=0, inputs=tuple(TASK_FILES), drop_deletes=True)

    for known in ({"files": listed(other)}, {"files": listed(), "buffered": [part]}):
        assert is_current(dropping, dedup="last", **known) == holds_for_deletes
        assert is_current(task(), dedup="merge", **known) == holds_for_merge
        assert is_current(task(), dedup="last", **known)


# --- damage ---------------------------------------------------------------------------------------------


def test_a_damaged_file_is_left_alone_and_told_of_and_others_are_merged():
    store = MemoryObjectStore()
    engine = started(store, compaction_trigger_files=100, cache_size_bytes=0)
    for time in (1, 9 * HOUR):
        overlapping(engine, 3, time=time)
    damaged = max(files(engine), key=lambda file: (file.min_time, file.min_sequence))
    content, meta = store._objects[sst_key(REGION, damaged.file_id)]
    store._objects[sst_key(REGION, damaged.file_id)] = content[:100] + bytes([content[100] ^ 1]) + content[101:], meta
    engine.reader.forget(damaged.file_id)

    with pytest.raises(CorruptionError, match=damaged.file_id):
        engine.compact(REGION)

    assert damaged in files(engine)
    assert sorted(file.level for file in files(engine)) == [0, 1, 1]  # The other two beside it were merged too.
    assert damaged.file_id in " ".join(failures(engine))
    assert engine.compact(REGION).removed == ()
    assert f"damaged file {damaged.file_id}" in failures(engine)
    engine.truncate(REGION, ALL)
    assert failures(engine) == {}


def test_a_merge_that_would_take_too_much_memory_is_skipped_and_told_of():
    engine = started(compaction_trigger_files=100, compaction_memory_limit_bytes=1)
    overlapping(engine, 2)
    before = files(engine)

    with pytest.raises(LimitExceededError, match="compaction_memory_limit_bytes"):
        engine.compact(REGION)

    assert files(engine) == before
    assert isinstance(failures(engine)["compaction"], LimitExceededError)


# --- by itself ------------------------------------------------------------------------------------------


def test_a_window_that_has_settled_is_merged_without_a_flush():
    clock, scheduler = ManualClock(now_ms=10**12), InlineScheduler()
    engine = started(scheduler=scheduler, clock=clock, compaction_settle_ms=60_000)
    overlapping(engine, 2)

    clock.advance(59_999)
    scheduler.tick()
    assert [file.level for file in files(engine)] == [0, 0]
    clock.advance(1)
    scheduler.tick()

    assert [file.level for file in files(engine)] == [1]


@pytest.mark.parametrize("by", ["config", "options"])
def test_nothing_is_merged_by_itself_in_manual_mode(by):
    mode = {"compaction_mode": "manual"}
    known = {"compaction_trigger_files": 2} | (mode if by == "config" else {})
    clock, scheduler = ManualClock(now_ms=10**12), InlineScheduler()
    engine = started(
        options=mode if by == "options" else None, scheduler=scheduler, clock=clock, compaction_settle_ms=0, **known
    )

    overlapping(engine, 4)
    clock.advance(10**9)
    scheduler.tick()
    engine.maintain()
    assert len(files(engine)) == 4

    assert len(engine.compact(REGION).removed) == 4
    engine.alter(REGION, AlterRequest(options={"compaction_mode": "automatic"}))
    overlapping(engine, 2)
    assert len(files(engine)) == 1


def test_the_policy_of_runs_merges_as_soon_as_two_files_overlap():
    engine = started(options={"compaction_policy": "runs"})

    overlapping(engine, 2)

    assert [file.level for file in files(engine)] == [1]


def test_an_option_that_is_altered_counts_from_the_next_flush_on():
    engine = started(compaction_trigger_files=100)
    overlapping(engine, 3)
    assert len(files(engine)) == 3

    engine.alter(REGION, AlterRequest(options={"compaction_trigger_files": 2}))
    overlapping(engine, 1)

    assert len(files(engine)) == 1


def test_options_that_contradict_each_other_are_refused_and_nothing_changes():
    engine = started()
    before = engine.region(REGION).options

    with pytest.raises(ConfigError, match="no merge could take as many"):
        engine.alter(REGION, AlterRequest(options={"compaction_trigger_files": 20, "compaction_input_files_max": 10}))

    assert engine.region(REGION).options == before


# --- what is asked for ----------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_merged_and_does_nothing():
    engine = started(compaction_trigger_files=100)
    overlapping(engine, 3)
    overlapping(engine, 2, time=9 * HOUR)
    version = engine.region(REGION).state.version

    planned = engine.compact(REGION, CompactRequest(dry_run=True))

    assert engine.region(REGION).state.version == version
    assert (set(planned.removed), planned.merges, planned.added) == (set(files(engine)), 2, ())
    assert set(engine.compact(REGION).removed) == set(planned.removed)


def test_only_windows_of_the_times_asked_for_are_merged():
    engine = started(compaction_trigger_files=100)
    for time in (1, 9 * HOUR):
        overlapping(engine, 2, time=time)

    engine.compact(REGION, CompactRequest(time_range=TimeRange(9 * HOUR, 10 * HOUR)))

    assert sorted((file.min_time, file.level) for file in files(engine)) == [(1, 0), (1, 0), (9 * HOUR, 1)]


def test_strict_windows_leave_no_file_that_reaches_into_two():
    engine = started(compaction_trigger_files=100)
    flushed(engine, *(put(0, time, cpu=time) for time in range(0, 3 * HOUR, HOUR // 4)))
    flushed(engine, put(0, HOUR + 1, cpu=1))
    before = values(engine)

    engine.compact(REGION, CompactRequest(mode="strict"))

    assert sorted((file.min_time // HOUR, file.max_time // HOUR) for file in files(engine)) == [(0, 0), (1, 1), (2, 2)]
    assert values(engine) == before
    assert engine.compact(REGION, CompactRequest(mode="strict")).removed == ()


def test_a_window_that_is_given_once_is_not_remembered():
    engine = started(compaction_trigger_files=100, options={"compaction_window_ms": None})
    overlapping(engine, 2)

    engine.compact(REGION, CompactRequest(window_ms=24 * HOUR))

    assert engine.region(REGION).state.compaction_window_ms == HOUR


def test_a_request_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="mode='most' is not one of 'due', 'all', 'strict'"):
        CompactRequest(mode="most")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="window_ms=10 must be an integer of at least 1000"):
        CompactRequest(window_ms=10)


def test_who_asks_is_told_how_many_rows_were_merged():
    engine = started(compaction_trigger_files=100)
    overlapping(engine, 3)
    overlapping(engine, 2, time=9 * HOUR)
    told: list[int] = []

    engine.compact(REGION, told=told.append)

    assert told[-1] == 5
    assert told == sorted(told)


def frame_of(hour: int, load: float) -> pl.DataFrame:
    start = dt.datetime(2024, 1, 1) + dt.timedelta(hours=hour)
    return pl.DataFrame({"ts": [start], "host": ["a"], "load": [load]})


def test_a_table_is_compacted_in_part_and_its_plan_is_a_frame_that_says_why():
    options = {"compaction_window": "1h"}
    with mito.open("memory://", compaction_trigger_files=100) as db:
        for hour, load in ((0, 1.0), (0, 2.0), (5, 3.0), (5, 4.0), (7, 5.0)):
            db.write(frame_of(hour, load), "cpu", time="ts", tags=["host"], options=options)
            db["cpu"].flush()
            options = {}
        cpu = db["cpu"]

        due, everything = cpu.compaction_plan(), cpu.compaction_plan(mode="all")
        part = cpu.compact(start="2024-01-01T05:00", end="2024-01-01T06:00")

        assert due.columns == [
            *("window_start", "window_end", "files", "size_bytes", "runs", "is_active", "merges", "reason")
        ]
        assert due["window_start"].to_list() == [dt.datetime(2024, 1, 1, hour) for hour in (7, 5, 0)]
        assert due.select("files", "runs", "merges", "reason").rows() == [
            (1, 1, 0, "one file"),
            (2, 2, 0, "2 sorted runs of 2 files: waits until there are 100, or until nothing comes for a while"),
            (2, 2, 0, "2 sorted runs of 2 files: waits until there are 100, or until nothing comes for a while"),
        ]
        assert everything.select("merges", "reason").rows() == [(0, "one file"), (1, "asked for"), (1, "asked for")]
        assert (len(part.removed), part.merges) == (2, 1)
        assert repr(cpu.compact(dry_run=True)).startswith("would have merged 2 files (2 rows, ")
        assert len(cpu.files()) == 4
        assert cpu.compaction_plan(start="2024-01-01T06:00").height == 1
        assert len(cpu.compact(strict=True, window="1d").removed) == 4
        with pytest.raises(mito.InvalidInputError, match="window='short' is not a duration"):
            cpu.compact(window="short")


def test_a_store_opened_for_reading_plans_and_compacts_nothing(tmp_path):
    with mito.open(tmp_path, compaction_trigger_files=100) as db:
        for load in (1.0, 2.0):
            db.write(frame_of(0, load), "cpu", time="ts", tags=["host"])
            db["cpu"].flush()

    with mito.open(tmp_path, mode="r") as db:
        assert db["cpu"].compact(dry_run=True).merges == 1
        assert db["cpu"].compaction_plan()["files"].to_list() == [2]
        assert db["cpu"].expire(ttl="1d", dry_run=True).files == ()
        for change in (db["cpu"].compact, db["cpu"].expire):
            with pytest.raises(mito.ReadOnlyError):
                change()


# --- whatever happens -----------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.integers(0, 5), st.just(0)),
        st.tuples(st.sampled_from(["all", "strict", "due", "tick"]), st.integers(0, 5), st.integers(1, 4)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(
    steps=STEPS,
    dedup=st.sampled_from(["last", "merge"]),
    policy=st.sampled_from(["count", "runs"]),
    trigger=st.integers(2, 4),
    files_max=st.sampled_from([None, 4]),
    size_bytes=st.sampled_from([1, 10**9]),
)
def test_no_merge_changes_what_is_seen_now_or_at_any_earlier_moment(
    steps, dedup, policy, trigger, files_max, size_bytes
):
    clock, scheduler = ManualClock(now_ms=10**12), InlineScheduler()
    options = {"dedup": dedup, "compaction_policy": policy, "compaction_window_ms": HOUR, "sst_size_bytes": size_bytes}
    engine = started(
        options=options,
        scheduler=scheduler,
        clock=clock,
        compaction_trigger_files=trigger,
        compaction_input_files_max=files_max,
        compaction_settle_ms=1000,
        gc_grace_ms=10**9,
    )
    rows: dict[int, int] = {}
    moments: dict[int, list[int]] = {}
    for number, (what, place, count) in enumerate(steps):
        time = place * HOUR // 2
        if what == "write":
            written = {time + i * HOUR // 2: 100 * number + i for i in range(count + 1)}
            rows |= written
            flushed(engine, *(put(0, at, cpu=cpu) for at, cpu in written.items()))
        elif what == "delete":
            rows.pop(time, None)
            flushed(engine, delete(0, time))
        elif what == "tick":
            clock.advance(count * 1000)
            scheduler.tick()
        else:
            span = TimeRange(time, time + count * HOUR)
            engine.compact(REGION, CompactRequest(mode=what, time_range=span))

        assert values(engine) == sorted(rows.values())
        moments[engine.region(REGION).state.version] = sorted(rows.values())

    engine.compact(REGION)
    clock.advance(10**8)
    for _ in range(3):
        scheduler.tick()
    assert values(engine) == sorted(rows.values())
    if runner == "elsewhere":
        assert {file.file_id for file in files(engine) if file.level} <= engine._parts.compactor.names
    for version, seen in moments.items():
        assert sorted(row[0] for row in read(engine, columns=("cpu",), version=version)) == seen
