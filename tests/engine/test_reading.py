"""Scans on their lane: in order, a bounded number ahead, and over when nobody draws or something fails."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from threading import Event, Lock, Thread, current_thread
from typing import Any

import pytest
from builders import CPU, HOST, REGION, batch_of, create, metadata_of, open_engine, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine import reading
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import LANES, SCAN_LANE
from mitoframe.model.errors import ClosedError, CorruptionError
from mitoframe.model.request import ScanRequest
from mitoframe.read import shares
from mitoframe.storage.paths import sst_key

METADATA = metadata_of(HOST, CPU)
PATIENCE_SECONDS = 20


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def engine(request: pytest.FixtureRequest) -> Iterator[MitoEngine]:
    engine = open_engine(scheduler=ThreadScheduler(dict.fromkeys(LANES, 1) | {SCAN_LANE: request.param}))
    # So that a share has row groups of its own, and none that was read for the one before.
    create(engine, METADATA, row_group_rows=10)
    yield engine
    engine.close()


class Jobs:
    """Jobs that return their number, and what was done of them."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.drawn, self.begun = 0, 0
        self.threads: set[str] = set()
        self._lock = Lock()

    def __iter__(self) -> Iterator[Callable[[], int]]:
        for number in range(self.count):
            self.drawn = number + 1
            yield self.job(number)

    def job(self, number: int) -> Callable[[], int]:
        def run() -> int:
            with self._lock:
                self.begun += 1
                self.threads.add(current_thread().name)
            if number == self.fail_at:
                raise CorruptionError(f"job {number}", path="nowhere")
            return number

        return run


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 30), st.integers(1, 4), st.none() | st.integers(0, 30), st.booleans(), st.booleans(), st.data())
def test_jobs_are_drawn_in_order_until_one_fails(count, threads, fail_at, inline, at_once, data):
    scheduler = InlineScheduler() if inline else ThreadScheduler(dict.fromkeys(LANES, threads))
    with closing(open_engine(scheduler=scheduler)) as engine:
        jobs = Jobs(count, fail_at)
        stop_after = data.draw(st.integers(0, count))
        found: list[int] = []

        def draw() -> None:
            for number in engine.reading.in_order(jobs, at_once=at_once):
                found.append(number)
                assert jobs.drawn <= number + 1 + reading._AHEAD, "no more than that is ahead"
                if len(found) == stop_after:
                    return

        fails = fail_at is not None and fail_at < count and not 0 < stop_after <= fail_at
        if fails:
            with pytest.raises(CorruptionError, match=f"job {fail_at}"):
                draw()
        else:
            draw()

    assert found == list(range(fail_at if fails else stop_after or count))
    assert jobs.begun <= min(count, len(found) + 1 + reading._AHEAD)


def test_one_is_done_right_here_and_those_ahead_on_the_scan_lane_meanwhile(engine):
    has_begun, threads = Event(), []

    def first() -> int:
        threads.append(current_thread().name)
        assert has_begun.wait(PATIENCE_SECONDS)
        return 0

    def second() -> int:
        threads.append(current_thread().name)
        has_begun.set()
        return 1

    assert list(engine.reading.in_order([first, second], at_once=True)) == [0, 1]

    assert threads[0] == current_thread().name
    assert threads[1] != current_thread().name


@pytest.mark.parametrize("long_seconds", [pytest.param(3600.0, id="short"), pytest.param(0.0, id="long")])
def test_other_threads_help_once_a_job_took_long_enough_to_be_worth_it(engine, monkeypatch, long_seconds):
    monkeypatch.setattr(reading, "_LONG_SECONDS", long_seconds)
    jobs = Jobs(20)
    drawn = engine.reading.in_order(jobs)

    assert next(drawn) == 0
    assert jobs.threads == {current_thread().name}
    assert next(drawn) == 1
    engine._parts.scheduler.drain()

    assert (jobs.begun > 2) == (long_seconds == 0.0)
    assert list(drawn) == list(range(2, 20))


def test_what_nobody_has_begun_when_its_turn_comes_is_done_right_here(engine):
    with lane_is_busy(engine):
        jobs = Jobs(10)

        assert list(engine.reading.in_order(jobs, at_once=True)) == list(range(10))

    assert jobs.threads == {current_thread().name}
    assert jobs.begun == 10


@contextmanager
def lane_is_busy(engine: MitoEngine) -> Iterator[None]:
    may_go_on = Event()
    waiting = [engine._parts.scheduler.submit(SCAN_LANE, partial(may_go_on.wait, PATIENCE_SECONDS)) for _ in range(3)]
    try:
        yield
    finally:
        may_go_on.set()
        for job in waiting:
            job.result(PATIENCE_SECONDS)


def test_none_is_begun_before_somebody_draws(engine):
    jobs = Jobs(10)

    drawn = engine.reading.in_order(jobs)

    assert (jobs.drawn, jobs.begun) == (0, 0)
    assert next(drawn) == 0


def test_only_so_many_are_ahead_of_who_draws_however_fast_they_are(engine):
    jobs = Jobs(100)
    drawn = engine.reading.in_order(jobs, at_once=True)

    for number in range(20):
        assert next(drawn) == number
        engine._parts.scheduler.drain()
        assert jobs.begun <= number + 1 + reading._AHEAD

    assert jobs.begun < 100


def test_a_slow_one_holds_up_those_behind_it_and_not_their_work(engine):
    may_go_on, others = Event(), Jobs(reading._AHEAD)

    def slow() -> int:
        assert may_go_on.wait(PATIENCE_SECONDS)
        return -1

    def wait_and_open() -> None:
        engine._parts.scheduler.submit("tidy", lambda: None).result(PATIENCE_SECONDS)
        may_go_on.set()

    Thread(target=wait_and_open).start()
    found = list(engine.reading.in_order([slow, *others], at_once=True))

    assert found == [-1, *range(reading._AHEAD)]


@pytest.mark.parametrize("how", ["close", "forget"])
def test_who_stops_drawing_stops_the_rest(engine, how):
    gate, first = Event(), Event()

    def blocked() -> int:
        first.set()
        assert gate.wait(PATIENCE_SECONDS)
        return 0

    jobs = Jobs(50)
    drawn = engine.reading.in_order([lambda: 0, *(blocked for _ in range(3)), *jobs], at_once=True)
    assert next(drawn) == 0
    assert first.wait(PATIENCE_SECONDS)

    if how == "close":
        drawn.close()
    else:
        del drawn
        gc.collect()
    gate.set()
    engine._parts.scheduler.drain()

    assert jobs.begun == 0


def test_a_failure_stops_the_rest_and_the_lane_goes_on(engine):
    jobs = Jobs(100, fail_at=3)
    drawn = engine.reading.in_order(jobs, at_once=True)

    with pytest.raises(CorruptionError, match="job 3"):
        list(drawn)
    engine._parts.scheduler.drain()

    assert jobs.begun <= 4 + reading._AHEAD
    assert list(engine.reading.in_order(Jobs(5))) == [0, 1, 2, 3, 4]


def test_of_several_failures_the_first_in_order_is_raised(engine):
    later_failed = Event()

    def first() -> int:
        later_failed.wait(0.2)
        raise CorruptionError("first", path="")

    def second() -> int:
        later_failed.set()
        raise CorruptionError("second", path="")

    with pytest.raises(CorruptionError, match="first"):
        list(engine.reading.in_order([first, second, first], at_once=True))


def test_a_failure_of_who_makes_the_jobs_is_raised_too(engine):
    def jobs() -> Iterator[Callable[[], int]]:
        yield from Jobs(3)
        raise CorruptionError("no more", path="")

    with pytest.raises(CorruptionError, match="no more"):
        list(engine.reading.in_order(jobs()))


def test_many_scans_share_the_lane(engine):
    scans = [engine.reading.in_order(Jobs(20)) for _ in range(8)]

    found: list[list[int]] = [[] for _ in scans]
    for _ in range(20):
        for scan, numbers in zip(scans, found, strict=True):
            numbers.append(next(scan))

    assert found == [list(range(20))] * 8


def filled(engine: MitoEngine) -> list[Any]:
    """Write two files that overlap, and read in shares of a few rows from here on."""
    for cpu in (1, 2):
        engine.write(REGION, batch_of(METADATA, [put(0, time, f"h{time % 20:02}", cpu) for time in range(100)]))
        engine.flush(REGION)
    return sorted((f"h{time % 20:02}", time, 2) for time in range(100))


@pytest.fixture
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "SHARE_ROWS", 10)


@pytest.mark.usefixtures("small_shares")
def test_sorted_batches_come_in_order_with_each_key_once(engine):
    expected = filled(engine)
    plan = engine.plan(REGION, ScanRequest())

    batches = list(engine.reading.sorted_batches(plan, ["cpu"]))

    assert len(batches) >= 10
    assert [(*row.tags, row.time, *row.fields) for batch in batches for row in rows_of(batch)] == expected


@pytest.mark.usefixtures("small_shares")
def test_a_scan_that_is_given_up_half_way_lets_go_of_its_files(engine):
    filled(engine)
    plan = engine.plan(REGION, ScanRequest())
    batches = engine.reading.sorted_batches(plan, ["cpu"])
    next(batches)
    engine.compact(REGION)

    batches.close()
    del plan, batches
    engine._parts.scheduler.drain()
    gc.collect()

    assert len(engine.vacuum(REGION, grace_ms=0).removed) == 2


@pytest.mark.usefixtures("small_shares")
def test_damage_in_one_share_ends_the_scan_with_what_is_wrong(engine):
    filled(engine)
    [file, _] = engine.region(REGION).state.files.values()
    batches = engine.reading.sorted_batches(engine.plan(REGION, ScanRequest()), ["cpu"])
    next(batches)

    engine.reader.forget(file.file_id)
    engine.store.delete(sst_key(REGION, file.file_id))

    with pytest.raises(CorruptionError) as caught:
        list(batches)
    assert caught.value.path == sst_key(REGION, file.file_id)


@pytest.mark.usefixtures("small_shares")
def test_an_engine_that_is_closed_under_a_scan_is_said_to_be(engine):
    filled(engine)
    batches = engine.reading.sorted_batches(engine.plan(REGION, ScanRequest()), ["cpu"])
    next(batches)

    engine.close()

    with pytest.raises(ClosedError):
        list(batches)
