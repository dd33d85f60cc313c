"""A time to live: what has expired is not read, whatever file it is in, and its files go by themselves."""

from __future__ import annotations

import datetime as dt
import os
import threading
from concurrent.futures import Future
from dataclasses import replace

import polars as pl
import pytest
from builders import REGION, batch_of, create, metadata_of, open_engine, put, read
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.altering import region_options
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import COMPACT_LANE
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.errors import ConfigError, InvalidInputError
from mitoframe.model.request import AlterRequest, CompactRequest, ScanRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.paths import sst_folder

METADATA = metadata_of()
HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 100 * DAY
TTL = {"ttl_ms": DAY}
HOSTS = ("a", "b")


def started(store=None, *, options: dict | None = None, metadata=METADATA, **known) -> MitoEngine:
    known = {"clock": ManualClock(now_ms=NOW), "compaction_mode": "manual"} | known
    engine = open_engine(store, **known)
    create(engine, metadata, **(TTL if options is None else options))
    return engine


def write(engine: MitoEngine, *times: int) -> None:
    """Write two rows, of two hosts, for each time: one alone would not be believed to be the newest."""
    rows = [put(0, time, host=host, cpu=time) for time in times for host in HOSTS]
    engine.write(REGION, batch_of(METADATA, rows))


def flushed(engine: MitoEngine, *times: int) -> None:
    write(engine, *times)
    engine.flush(REGION)


def times(engine: MitoEngine, **request) -> list[int]:
    """Return the times of the rows that are seen, each once."""
    return sorted({row[0] for row in read(engine, columns=("cpu",), **request)})


def files(engine: MitoEngine):
    return list(engine.region(REGION).state.files.values())


def alter(engine: MitoEngine, *unset: str, **options) -> None:
    engine.alter(REGION, AlterRequest(options=options, unset=unset))


# --- what is seen ---------------------------------------------------------------------------------------


def test_expired_rows_are_not_read_though_their_file_is_there():
    engine = started()
    flushed(engine, 0, DAY, 2 * DAY, 2 * DAY + HOUR)
    flushed(engine, 2 * DAY + HOUR)

    assert times(engine) == [2 * DAY, 2 * DAY + HOUR]
    assert [file.row_count for file in files(engine)] == [8, 2]


def test_expired_rows_in_memory_are_not_read_either():
    engine = started()
    write(engine, 0, DAY)
    assert times(engine) == [0, DAY]

    write(engine, 2 * DAY + 1)

    assert times(engine) == [2 * DAY + 1]


def test_a_row_is_kept_for_exactly_the_time_to_live():
    engine = started()

    flushed(engine, DAY - 1, DAY)
    flushed(engine, 2 * DAY)

    assert times(engine) == [DAY, 2 * DAY]


def test_what_is_newer_than_the_clock_makes_nothing_expire_before_its_time():
    clock = ManualClock(now_ms=DAY)
    engine = started(clock=clock)
    flushed(engine, HOUR)
    flushed(engine, 5 * DAY)
    assert times(engine) == [HOUR, 5 * DAY]

    clock.advance(2 * HOUR)

    assert times(engine) == [5 * DAY]


def test_a_single_bad_time_in_the_future_makes_nothing_expire():
    engine = started(clock=ManualClock(now_ms=10_000 * DAY))
    flushed(engine, *(DAY + step for step in range(600)))
    engine.write(REGION, batch_of(METADATA, [put(0, 9_000 * DAY, cpu=1)]))
    engine.flush(REGION)

    found = engine.expiry(REGION)

    assert found is not None
    assert (found.is_guarded, found.files) == (True, ())
    assert len(read(engine)) == 1201


def test_nothing_expires_before_there_is_a_time_to_live_and_all_is_back_without_it():
    engine = started(options={})
    flushed(engine, 0)
    flushed(engine, 5 * DAY)
    assert times(engine) == [0, 5 * DAY]

    alter(engine, ttl_ms=DAY)
    assert times(engine) == [5 * DAY]

    alter(engine, "ttl_ms")
    assert times(engine) == [0, 5 * DAY]


def test_what_has_expired_does_not_come_back_with_a_flush_or_a_merge():
    """Less is known of when the rows of a large file are than of small ones."""
    engine = started()
    flushed(engine, 0, 2 * HOUR, 4 * HOUR)
    flushed(engine, DAY, DAY + HOUR)
    flushed(engine, DAY + 3 * HOUR)
    write(engine, DAY + 2 * HOUR)
    seen = [4 * HOUR, DAY, DAY + HOUR, DAY + 2 * HOUR, DAY + 3 * HOUR]
    assert times(engine) == seen

    for change in (engine.flush, engine.compact):
        change(REGION)
        assert times(engine) == seen
    assert len(files(engine)) == 1


def test_what_had_expired_is_back_when_the_rows_are_gone_that_it_was_too_old_for():
    engine = started()
    flushed(engine, 0, 2 * HOUR)
    flushed(engine, DAY + HOUR)
    assert times(engine) == [2 * HOUR, DAY + HOUR]

    engine.replace(REGION, [TimeRange(DAY, 2 * DAY)])

    assert times(engine) == [0, 2 * HOUR]


def test_a_table_that_keeps_every_row_expires_too():
    engine = started(options=TTL | {"dedup": "none"})
    flushed(engine, 0, 0)
    flushed(engine, 5 * DAY, 5 * DAY)

    assert len(read(engine)) == 4
    assert len(files(engine)) == 1


@settings(deadline=None, max_examples=40)
@given(
    batches=st.lists(st.lists(st.integers(0, 10 * DAY), min_size=1, max_size=6), min_size=1, max_size=6),
    ttl_hours=st.integers(1, 200),
    flushes=st.sets(st.integers(0, 5)),
    compacts=st.booleans(),
)
def test_every_row_seen_was_written_and_none_is_missing_that_is_no_older_than_the_newest_by_the_time_to_live(
    batches, ttl_hours, flushes, compacts
):
    engine = started(options={"ttl_ms": ttl_hours * HOUR})
    for number, batch in enumerate(batches):
        write(engine, *batch)
        if number in flushes:
            engine.flush(REGION)
    if compacts:
        engine.compact(REGION)

    seen, written = times(engine), {time for batch in batches for time in batch}

    due = {time for time in written if time >= max(written) - ttl_hours * HOUR}
    assert due <= set(seen) <= written
    assert times(engine, time_range=TimeRange(0, 3 * DAY)) == [time for time in seen if time < 3 * DAY]


def test_a_file_that_holds_expired_rows_is_not_handed_out_as_it_is():
    engine = started()
    flushed(engine, 0, 2 * DAY)
    flushed(engine, 2 * DAY + 1)

    plan = engine.plan(REGION, ScanRequest())

    assert [file.min_time for file in plan.direct] == [2 * DAY + 1]
    assert [[file.min_time for file in group.files] for group in plan.groups] == [[0]]


def test_an_answer_that_was_kept_does_not_count_when_more_has_expired():
    clock = ManualClock(now_ms=DAY)
    engine = started(clock=clock)
    flushed(engine, HOUR)
    flushed(engine, 5 * DAY)
    before = engine.plan(REGION, ScanRequest()).key

    assert engine.plan(REGION, ScanRequest()).key == before
    clock.advance(2 * HOUR)
    assert engine.plan(REGION, ScanRequest()).key != before


# --- files ----------------------------------------------------------------------------------------------


def test_files_that_have_expired_go_without_a_merge_and_are_deleted_after_the_grace():
    clock, scheduler = ManualClock(now_ms=NOW), InlineScheduler()
    store = MemoryObjectStore(clock)
    engine = started(store, scheduler=scheduler, clock=clock, gc_grace_ms=HOUR)
    for day in (1, 2):
        flushed(engine, day * DAY, day * DAY + 1)
    alter(engine, ttl_ms=10 * HOUR)
    assert len(files(engine)) == 2

    scheduler.tick()

    assert [file.min_time for file in files(engine)] == [2 * DAY]
    assert [entry.what for entry in engine.history(REGION).entries][-1] == "expire"
    assert len(store.list(sst_folder(REGION))) == 2
    clock.advance(HOUR)
    scheduler.tick()
    assert len(store.list(sst_folder(REGION))) == 1


class NoMerges(InlineScheduler):
    """Never comes to do what is on the compact lane."""

    def submit(self, lane, job):
        return Future() if lane == COMPACT_LANE else super().submit(lane, job)


def test_files_that_have_expired_go_while_merges_wait():
    scheduler = NoMerges()
    engine = started(scheduler=scheduler, options={})
    flushed(engine, 0)
    flushed(engine, 5 * DAY)
    alter(engine, ttl_ms=DAY)

    scheduler.tick()

    assert [file.min_time for file in files(engine)] == [5 * DAY]


def test_files_that_have_expired_go_in_manual_mode_and_nothing_is_merged():
    engine = started(compaction_trigger_files=2)
    for time in (5 * DAY, 5 * DAY, 5 * DAY, 0):
        flushed(engine, time)

    assert [file.min_time for file in files(engine)] == [5 * DAY] * 3


def test_expired_files_are_merged_no_more():
    engine = started(options={})
    for _ in range(3):
        flushed(engine, DAY)
    flushed(engine, 5 * DAY)
    flushed(engine, 5 * DAY)
    alter(engine, ttl_ms=DAY)

    result = engine.compact(REGION)

    assert [file.min_time for file in result.expired] == [DAY] * 3
    assert [file.min_time for file in result.removed] == [5 * DAY] * 2
    assert [file.min_time for file in files(engine)] == [5 * DAY]


def test_a_file_stays_as_long_as_it_hides_older_rows_of_a_file_that_stays():
    engine = started()
    flushed(engine, 0, 5 * DAY)  # Stays, with an old row that the next file overwrites.
    flushed(engine, 0, 1)
    flushed(engine, 5 * DAY)

    found = engine.expiry(REGION)

    assert found is not None
    assert (len(found.files), len(found.waiting), len(files(engine))) == (0, 1, 3)


def test_a_dry_run_says_what_another_time_to_live_would_do():
    engine = started(options={})
    for day in (1, 2, 9):
        flushed(engine, day * DAY, day * DAY + 1)

    found = engine.expiry(REGION, 3 * DAY)

    assert found is not None
    assert [file.min_time for file in found.files] == [DAY, 2 * DAY]
    assert engine.expiry(REGION) is None
    assert len(files(engine)) == 3
    with pytest.raises(ConfigError, match="ttl_ms=0"):
        engine.expiry(REGION, 0)


# --- earlier moments ------------------------------------------------------------------------------------


def test_an_earlier_moment_shows_what_it_showed():
    engine = started()
    flushed(engine, 0, HOUR)
    first = engine.region(REGION).state.version
    flushed(engine, 2 * DAY, 2 * DAY + 1)
    second = first + 1

    assert engine.region(REGION).state.version == second + 1  # In which the first file went.
    assert times(engine) == times(engine, version=second) == [2 * DAY, 2 * DAY + 1]
    assert times(engine, version=first) == times(engine, sequence=4) == [0, HOUR]


def test_a_snapshot_keeps_what_expires_after_it():
    clock = ManualClock(now_ms=NOW)
    engine = started(MemoryObjectStore(clock), clock=clock, gc_grace_ms=0)
    flushed(engine, 0, HOUR)
    named = engine.snapshot(REGION, "before")
    flushed(engine, 9 * DAY, 9 * DAY + 1)
    assert [file.min_time for file in files(engine)] == [9 * DAY]

    engine.vacuum(REGION)

    assert times(engine, version=named.version) == [0, HOUR]


def test_a_moment_before_the_option_was_set_shows_everything():
    engine = started(options={})
    flushed(engine, 0)
    flushed(engine, 5 * DAY)
    before = engine.region(REGION).state.version

    alter(engine, ttl_ms=DAY)

    assert times(engine) == [5 * DAY]
    assert times(engine, version=before) == [0, 5 * DAY]


# --- the table ------------------------------------------------------------------------------------------


def rows_of(hours: range) -> pl.DataFrame:
    start = dt.datetime(2024, 1, 1)
    frame = pl.DataFrame({"ts": [start + dt.timedelta(hours=hour) for hour in hours], "cpu": list(hours)})
    return frame.with_columns(cpu=pl.col("cpu").cast(pl.Float64)).join(pl.DataFrame({"host": ["a", "b"]}), how="cross")


@pytest.fixture
def cpu():
    with mito.open("memory://", compaction_mode="manual") as db:
        db.write(rows_of(range(48)), "cpu", time="ts", tags=["host"], options={"ttl": "10h"})
        table = db["cpu"]
        table.flush()
        db.write(rows_of(range(40, 60)), "cpu")
        yield table


@pytest.mark.parametrize("state", ["as written", "flushed", "merged"])
def test_whatever_is_asked_of_a_table_expired_rows_are_not_in_the_answer(cpu, state):
    cpu.scan().count()
    if state != "as written":
        cpu.flush()
    if state == "merged":
        cpu.compact()
    first = cpu.scan().collect()["ts"].min()
    wanted = rows_of(range(60)).filter(pl.col("ts") >= first).select("host", "ts", "cpu").sort("host", "ts")
    assert 20 <= len(wanted) < 100

    assert_frame_equal(cpu.scan().collect().sort("host", "ts"), wanted)
    assert_frame_equal(
        cpu.scan(where=pl.col("cpu") < 50).collect().sort("host", "ts"), wanted.filter(pl.col("cpu") < 50)
    )
    assert cpu.scan().count() == len(wanted)
    assert cpu.scan().bounds() == (first, wanted["ts"].max())
    assert pl.DataFrame(cpu.scan().to_arrow()).sort("host", "ts").equals(wanted)
    assert len(cpu.scan().to_pandas()) == len(wanted)
    assert len(cpu.scan().to_duckdb().fetchall()) == len(wanted)
    assert cpu.scan().resample("12h", {"cpu": "count"})["cpu"].sum() == len(wanted)
    assert cpu.scan().resample("1h", {"cpu": "count"}, by=[], latest=500)["cpu"].sum() == len(wanted)
    for count in (1, 3, 500):
        assert_frame_equal(cpu.scan().last(n=count), wanted.group_by("host", maintain_order=True).tail(count))
    assert cpu.scan(end=first).last().is_empty()
    assert cpu.scan(start="2024-01-01", end=first).count() == 0


def test_a_frame_that_is_collected_again_follows_what_expires(cpu):
    lazy = cpu.scan().to_polars()
    before = lazy.collect()

    cpu.write(rows_of(range(80, 82)))

    after = lazy.collect()
    assert after["ts"].min() > before["ts"].min()
    assert after["cpu"].max() == 81.0


def test_files_that_are_ejected_are_read_without_what_has_expired(tmp_path):
    with mito.open(tmp_path, compaction_mode="manual") as db:
        db.write(rows_of(range(48)), "cpu", time="ts", tags=["host"], options={"ttl": "10h"})
        db["cpu"].flush()
        db.write(rows_of(range(48, 60)), "cpu")
        assert db["cpu"].scan().count() == 44
        db["cpu"].flush()
        db["cpu"].compact()

        ejected = db["cpu"].scan().eject()

        found = db["cpu"].scan().collect()
        assert (len(found), len(db["cpu"].files())) == (44, 1)
        assert_frame_equal(ejected.to_polars().collect().sort("host", "ts"), found.sort("host", "ts"))


def test_what_expire_says(cpu):
    cpu.flush()
    cpu.write(rows_of(range(200, 210)))

    planned = cpu.expire(dry_run=True)
    assert repr(planned).startswith("would have let 2 files (")
    assert len(cpu.files()) == 2
    assert repr(cpu.expire()).startswith("let 2 files (")
    assert len(cpu.files()) == 0
    assert repr(cpu.expire()) == "nothing of 'cpu' to let go"


def test_another_time_to_live_is_for_a_dry_run_only(cpu):
    assert len(cpu.expire(ttl="30d", dry_run=True).files) == 0
    with pytest.raises(InvalidInputError, match="give dry_run=True"):
        cpu.expire(ttl="1s")


def test_how_a_time_to_live_is_said():
    assert region_options({"ttl": "7d"}) == {"ttl_ms": 7 * DAY}
    assert region_options({"ttl": dt.timedelta(hours=1)}) == {"ttl_ms": HOUR}
    assert region_options({"ttl": "forever"}) == {"ttl_ms": None}
    with pytest.raises(ConfigError, match=r"ttl='0s' is too short: give at least 1 ms; \"forever\" keeps every row"):
        region_options({"ttl": "0s"})


def test_a_reading_process_does_not_see_what_has_expired():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log)
    flushed(engine, 0)
    write(engine, 5 * DAY)

    reader = open_engine(store, log, clock=ManualClock(now_ms=NOW), read_only=True)

    assert times(reader) == [5 * DAY]


def test_a_time_to_live_is_remembered_when_the_store_is_opened_again():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log)
    flushed(engine, 0)
    write(engine, 5 * DAY)

    again = open_engine(store, log, clock=ManualClock(now_ms=NOW), seed=1)

    assert times(again) == [5 * DAY]


def test_a_dry_run_of_a_compaction_says_which_files_would_go():
    engine = started(options={})
    flushed(engine, 0, 1)
    flushed(engine, 5 * DAY, 5 * DAY + 1)
    alter(engine, ttl_ms=DAY)

    dry = engine.compact(REGION, CompactRequest(dry_run=True))

    assert [file.min_time for file in dry.expired] == [0]
    assert len(files(engine)) == 2
    assert len(engine.compact(REGION).expired) == 1


# --- what was measured before -----------------------------------------------------------------------------


def opened_again(store, log, *, now_ms: int = NOW, seed: int = 1, **known) -> MitoEngine:
    return open_engine(store, log, clock=ManualClock(now_ms=now_ms), compaction_mode="manual", seed=seed, **known)


@pytest.mark.parametrize("reader", [False, True])
def test_what_has_expired_does_not_come_back_when_the_store_is_opened_again(reader):
    """A merged file says of one row only that it is as new."""
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log)
    flushed(engine, 0, 2 * HOUR, 4 * HOUR)
    flushed(engine, DAY, DAY + HOUR)
    flushed(engine, DAY + 3 * HOUR)
    engine.compact(REGION)
    seen = times(engine)
    assert seen == [4 * HOUR, DAY, DAY + HOUR, DAY + 3 * HOUR]

    again = opened_again(store, log, read_only=reader)

    assert times(again) == seen


def test_a_clock_that_goes_back_brings_nothing_back():
    store, log, clock = MemoryObjectStore(), MemoryLog(), ManualClock(now_ms=NOW)
    engine = started(store, log=log, clock=clock)
    flushed(engine, 0, HOUR)
    flushed(engine, DAY + HOUR)
    seen = times(engine)
    assert seen == [HOUR, DAY + HOUR]

    clock.set(0)

    assert times(engine) == seen
    assert times(opened_again(store, log, now_ms=0)) == seen


def test_rows_in_the_log_count_for_how_new_the_data_is_after_a_crash():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log)
    flushed(engine, 0, HOUR)
    write(engine, 2 * DAY)

    again = opened_again(store, log)

    assert times(again) == [2 * DAY]


def test_a_bad_time_in_the_future_makes_nothing_expire_after_the_store_was_opened_again():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log)
    flushed(engine, *(HOUR + step for step in range(600)))
    engine.write(REGION, batch_of(METADATA, [put(0, 90 * DAY, cpu=1)]))
    engine.flush(REGION)
    engine.compact(REGION)

    again = opened_again(store, log)

    assert len(read(engine)) == len(read(again)) == 1201
    found = again.expiry(REGION)
    assert found is not None
    assert found.files == ()


def test_rows_later_than_the_clock_make_nothing_expire_before_their_time_however_often_the_store_is_opened():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log, clock=ManualClock(now_ms=DAY))
    flushed(engine, HOUR)
    flushed(engine, 50 * DAY)
    assert times(engine) == [HOUR, 50 * DAY]

    again = opened_again(store, log, now_ms=DAY)
    assert times(again) == [HOUR, 50 * DAY]
    later = opened_again(store, log, now_ms=DAY + 2 * HOUR)
    assert times(later) == [50 * DAY]


@pytest.mark.parametrize("change", ["replace", "truncate", "ttl"])
def test_what_was_measured_before_does_not_count_when_the_rows_have_gone_or_the_time_to_live(change):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log=log)
    flushed(engine, 0, 2 * HOUR)
    flushed(engine, DAY + HOUR)
    assert engine.region(REGION).state.measured_at == DAY + HOUR

    if change == "replace":
        engine.replace(REGION, [TimeRange(DAY, 2 * DAY)])
    elif change == "truncate":
        engine.handle_request(REGION, TruncateRequest(what="all"))
        flushed(engine, 0, 2 * HOUR)
    else:
        alter(engine, "ttl_ms")
        alter(engine, ttl_ms=10 * DAY)

    again = opened_again(store, log)
    kept = [0, 2 * HOUR, DAY + HOUR] if change == "ttl" else [0, 2 * HOUR]
    assert times(engine) == times(again) == kept


def test_what_was_measured_is_not_written_for_a_table_without_a_time_to_live():
    engine = started(options={})
    flushed(engine, 0, 5 * DAY)

    state = engine.region(REGION).state

    assert state.measured_at is None
    assert "measured_at" not in state.to_json()


def test_a_checkpoint_remembers_what_was_measured():
    state = started().region(REGION).state
    measured = replace(state, measured_at=5)

    assert RegionState.from_json(measured.to_json()) == measured


@settings(deadline=None, max_examples=30)
@given(
    batches=st.lists(st.lists(st.integers(0, 10 * DAY), min_size=1, max_size=6), min_size=1, max_size=6),
    ttl_hours=st.integers(1, 200),
    deeds=st.lists(st.sampled_from(["flush", "compact", "open", "back"]), min_size=6, max_size=6),
)
def test_no_row_that_had_expired_is_seen_again_whatever_happens_to_files_clock_and_process(batches, ttl_hours, deeds):
    store, log, clock = MemoryObjectStore(), MemoryLog(), ManualClock(now_ms=NOW)
    engine = started(store, log=log, clock=clock, options={"ttl_ms": ttl_hours * HOUR})
    gone: set[int] = set()
    for number, (batch, deed) in enumerate(zip(batches, deeds, strict=False)):
        write(engine, *batch)
        gone |= {time for time in (t for b in batches for t in b) if time < kept_from(engine)}
        if deed == "flush":
            engine.flush(REGION)
        elif deed == "compact":
            engine.flush(REGION)
            engine.compact(REGION)
        elif deed == "open":
            engine = opened_again(store, log, now_ms=clock.now_ms(), seed=number + 1)
        else:
            engine.flush(REGION)
            engine = opened_again(store, log, now_ms=0, seed=number + 1)

        assert gone.isdisjoint(times(engine))


STEPS = st.one_of(
    st.tuples(st.just("write"), st.lists(st.integers(0, 80), min_size=1, max_size=6)),
    st.tuples(st.sampled_from(["late", "backfill"]), st.tuples(st.integers(0, 60), st.integers(500, 1500))),
    st.tuples(st.just("clock"), st.integers(0, 90)),
    st.tuples(st.sampled_from(["flush", "compact", "expire", "close", "alter"]), st.none()),
)


APART = [("write", [0]), ("flush", None), ("write", [3])]


@settings(deadline=None, max_examples=1000 if os.environ.get("MITOFRAME_NIGHTLY") else 40)
@given(steps=st.lists(STEPS, min_size=3, max_size=12), ttl_hours=st.integers(1, 30))
@example(steps=[*APART, ("clock", 40), ("clock", 0), ("alter", None)], ttl_hours=1)
@example(steps=[*APART, ("clock", 40), ("clock", 0), ("close", None)], ttl_hours=1)
@example(steps=[("clock", 40), *APART, ("late", (0, 1500)), ("close", None)], ttl_hours=1)
@example(steps=[("clock", 40), *APART, ("backfill", (0, 1500))], ttl_hours=1)
def test_no_row_that_was_not_seen_for_its_age_is_seen_again_unless_it_is_written_again(steps, ttl_hours):
    store, log, clock = MemoryObjectStore(), MemoryLog(), ManualClock(now_ms=0)
    engine = started(store, log=log, clock=clock, options={"ttl_ms": ttl_hours * HOUR})
    written: set[int] = set()
    gone: set[int] = set()
    for number, (what, given_) in enumerate(steps):
        new: set[int] = set()
        if what == "write":
            new = {hour * HOUR for hour in given_}
            write(engine, *new)
        elif what in ("late", "backfill"):
            first, count = given_
            new = {first * HOUR + step for step in range(count)}
            rows = batch_of(METADATA, [put(0, time, host=host, cpu=time) for time in new for host in HOSTS])
            if what == "late":
                engine.write(REGION, rows)
            else:
                engine.bulk_insert(REGION, [rows])
        elif what == "clock":
            clock.set(given_ * HOUR)
        elif what == "alter":
            alter(engine, sst_size_bytes=50_000_000 + number)
        elif what == "close":
            engine.close_region(REGION, flush=False)
            engine = open_engine(store, log, clock=clock, compaction_mode="manual", seed=number + 1)
        elif what == "expire":
            engine.expire(REGION)
        else:
            engine.flush(REGION)
            if what == "compact":
                engine.compact(REGION)
        written |= new
        gone -= new
        seen = set(times(engine))

        assert gone.isdisjoint(seen), what

        gone |= written - seen


def kept_from(engine: MitoEngine) -> int:
    return engine.kept_from(engine.region(REGION).control.current(), is_past=False)


# --- two moments --------------------------------------------------------------------------------------------


def changed(cpu, *moments) -> list[tuple[int, str]]:
    """Return the hours of rows of host a that changed, and how."""
    rows = cpu.diff(*moments).filter(pl.col("host") == "a").collect()
    return sorted(zip(rows["cpu"].cast(pl.Int64).to_list(), rows["__change"].to_list(), strict=True))


def hours(cpu, **moment) -> set[int]:
    return set(cpu.scan(where=pl.col("host") == "a", **moment).collect()["cpu"].cast(pl.Int64).to_list())


@pytest.mark.parametrize("state", ["as written", "flushed", "merged"])
def test_changes_between_two_moments_are_those_between_what_scans_show_of_them(cpu, state):
    first = cpu.versions()["version"][-1]
    cpu.write(rows_of(range(70, 90)))
    if state != "as written":
        cpu.flush()
    if state == "merged":
        cpu.compact()
    before, after = hours(cpu, as_of=first), hours(cpu)
    assert before - after
    assert after - before

    gone, came = [(hour, "delete") for hour in before - after], [(hour, "insert") for hour in after - before]
    assert changed(cpu, first) == sorted(gone + came)
    shown = cpu.diff(first).filter(pl.col("__change") == "delete").collect()
    assert set(shown["cpu"].to_list()) == before - after


def test_a_row_that_has_expired_in_a_file_that_both_moments_have_is_a_delete():
    with mito.open("memory://", compaction_mode="manual") as db:
        db.write(rows_of(range(48)), "cpu", time="ts", tags=["host"])
        cpu = db["cpu"]
        cpu.flush()
        cpu.write(rows_of(range(48, 60)))
        cpu.flush()
        before = cpu.versions()["version"][-1]
        cpu.alter(options={"ttl": "10h"})
        assert hours(cpu, as_of=before) == set(range(60))
        kept = hours(cpu)
        assert kept < set(range(60))

        assert changed(cpu, before) == [(hour, "delete") for hour in sorted(set(range(60)) - kept)]
        assert changed(cpu, before, before) == []


def test_a_row_that_has_expired_is_said_to_have(cpu):
    def why(hour: int):
        return cpu.why(host="a", ts=dt.datetime(2024, 1, 1) + dt.timedelta(hours=hour))

    cpu.flush()
    assert {version.fate for version in why(59).versions} == {"visible"}
    [old] = why(0).versions
    assert (old.fate, old.by_edit) == ("expired", None)
    assert "expired by ttl" in repr(why(0))

    cpu.write(rows_of(range(200, 210)))
    cpu.expire()

    [gone] = why(0).versions
    assert gone.fate == "expired"
    assert gone.by_edit is not None
    assert gone.by_edit[1] == "expire"
    assert f"expired by ttl (version {gone.by_edit[0]})" in repr(why(0))
    assert why(0).to_polars()["fate"].to_list() == ["expired"]


def test_a_restore_says_what_can_be_read_again_and_what_cannot(cpu):
    cpu.flush()
    before = cpu.versions()["version"][-1]
    kept = hours(cpu)
    cpu.write(rows_of(range(200, 210)))
    cpu.flush()
    assert hours(cpu) == set(range(200, 210))

    back = cpu.restore(before)

    assert hours(cpu) == hours(cpu, as_of=before) >= kept
    assert (back.revived, back.expired) == (136, 0)
    assert "136 expired rows can be read again" in repr(back)
    forth = cpu.restore(back.before)
    assert (forth.revived, forth.expired) == (0, 0)
    assert hours(cpu) == set(range(200, 210))


def test_a_restore_of_what_was_there_before_the_time_to_live_says_that_it_is_too_old():
    with mito.open("memory://", compaction_mode="manual") as db:
        db.write(rows_of(range(5)), "cpu", time="ts", tags=["host"])
        cpu = db["cpu"]
        cpu.flush()
        cpu.write(rows_of(range(100, 105)))
        cpu.flush()
        before = cpu.versions()["version"][-1]
        cpu.truncate(start="2024-01-01", end="2024-01-02")
        cpu.alter(options={"ttl": "10h"})

        result = cpu.restore(before)

        assert result.expired == 10
        assert "10 rows of then expired by ttl" in repr(result)
        assert hours(cpu) == set(range(100, 105))


# --- writes that come too late ------------------------------------------------------------------------------


def test_a_write_says_how_many_of_its_rows_have_expired_already(cpu):
    late = rows_of(range(70))

    none = cpu.write(rows_of(range(60, 70)))
    some = cpu.write(late, key="late")
    again = cpu.write(late, key="late")
    all_of_them = cpu.write(rows_of(range(1)))
    appended = cpu.append(rows_of(range(-2, -1)))

    assert (none.expired, again.expired, all_of_them.expired, appended.expired) == (0, 0, 2, 2)
    assert some.expired == late.height - cpu.scan().count() > 0
    assert repr(some) == f"wrote 140 rows to 'cpu'; {some.expired} of them have expired by its ttl, and are not read"
    assert repr(all_of_them) == "wrote 2 rows to 'cpu'; all of them have expired by its ttl, and are not read"


def test_a_write_into_files_counts_those_that_hold_nothing_but_expired_rows():
    with mito.open("memory://", compaction_mode="manual", backfill_size_bytes=1) as db:
        options = {"ttl": "10h", "compaction_window": "1h"}
        table = db.create_table("cpu", rows_of(range(1)).schema, time="ts", tags=["host"], options=options)
        table.write(rows_of(range(100, 102)))

        result = table.write(rows_of(range(5)))

        assert (result.expired, table.write(rows_of(range(101, 103))).expired) == (10, 0)
        assert table.scan().count() == 6


def test_a_table_without_a_time_to_live_has_no_rows_that_expire():
    with mito.open("memory://") as db:
        assert db.write(rows_of(range(48)), "cpu", time="ts", tags=["host"]).expired == 0


class _AsksWhenFilesGo(mito.RegionHook):
    """Says once, while a cycle lets files go, that more may have become due, as a flush does."""

    def __init__(self) -> None:
        self.engine: mito.MitoEngine | None = None

    def on_manifest_updated(self, region_id, actions, version):
        if self.engine is not None and any(isinstance(edit, FileEdit) and edit.removed for edit in actions):
            engine, self.engine = self.engine, None
            engine._background.compact_if_due(engine.region(region_id))


def test_cycles_that_only_let_go_what_has_expired_come_to_an_end():
    hook = _AsksWhenFilesGo()
    with mito.open("memory://", compaction_mode="manual", hooks=[hook]) as db:
        options = {"ttl": "10h", "compaction_window": "1h"}
        db.write(rows_of(range(4)), "cpu", time="ts", tags=["host"], options=options)
        db["cpu"].flush()
        hook.engine = db.engine
        waiting = threading.Thread(target=db.engine.drain, daemon=True)

        db.write(rows_of(range(100, 104)), "cpu")
        db["cpu"].flush()
        waiting.start()
        waiting.join(timeout=20)

        assert not waiting.is_alive(), "one cycle followed another though nothing was left to do"
        assert hook.engine is None
