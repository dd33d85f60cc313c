from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress

import pytest

from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.model.errors import ClosedError, PoisonedError
from mitoframe.ports import LaneHealth


@pytest.fixture
def scheduler():
    scheduler = ThreadScheduler({"a": 1, "b": 2})
    yield scheduler
    scheduler.close()


def health_of(scheduler, lane="a") -> LaneHealth:
    return next(health for health in scheduler.health() if health.lane == lane)


def raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Make a thread raise at the next step of Python that it takes."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error)) == 1


def thread_of(scheduler, lane="a") -> threading.Thread:
    return scheduler.submit(lane, threading.current_thread).result(timeout=10)


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


class Held:
    """A job that has begun and does not end before it is released."""

    def __init__(self, scheduler, lane="a"):
        self.begun, self.released = threading.Event(), threading.Event()
        self.future = scheduler.submit(lane, self)
        assert self.begun.wait(10)

    def __call__(self) -> str:
        self.begun.set()
        assert self.released.wait(10)
        return "held"


# --- inline --------------------------------------------------------------------------------------------


def test_an_inline_job_runs_in_the_callers_thread_before_submit_returns():
    ran_in = []

    future = InlineScheduler().submit("any", lambda: ran_in.append(threading.get_ident()))

    assert future.done()
    assert ran_in == [threading.get_ident()]


def test_what_ends_the_process_is_not_swallowed_by_an_inline_job():
    scheduler = InlineScheduler()

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scheduler.submit("any", interrupt)

    [health] = scheduler.health()
    assert (health.running, health.finished, health.failed) == (0, 1, 1)
    assert isinstance(health.last_error, KeyboardInterrupt)


def test_a_periodic_inline_job_runs_at_each_tick_and_never_by_itself():
    scheduler, ran = InlineScheduler(), []
    stop = scheduler.every(1, "a", lambda: ran.append("a"))
    scheduler.every(1, "b", lambda: ran.append("b"))
    time.sleep(0.01)
    assert ran == []

    scheduler.tick()
    stop()
    scheduler.tick()

    assert ran == ["a", "b", "b"]


def test_an_inline_job_that_stops_another_before_its_turn_has_stopped_it():
    scheduler, ran = InlineScheduler(), []
    stops = []
    scheduler.every(1, "a", lambda: [stop() for stop in stops])
    stops.append(scheduler.every(1, "a", lambda: ran.append("stopped too late")))

    scheduler.tick()

    assert ran == []


# --- lanes ---------------------------------------------------------------------------------------------


def test_a_long_job_in_one_lane_holds_up_no_other(scheduler):
    long = Held(scheduler, "a")

    scheduler.submit("b", lambda: None).result(timeout=10)

    assert not long.future.done()
    long.released.set()
    assert long.future.result(timeout=10) == "held"


def test_a_lane_runs_as_many_jobs_at_once_as_it_has_threads_and_no_more(scheduler):
    both = Held(scheduler, "b"), Held(scheduler, "b")

    third = scheduler.submit("b", lambda: "third")

    assert not wait([third], timeout=0.05).done
    assert health_of(scheduler, "b") == LaneHealth(
        lane="b", threads=2, alive=2, running=2, waiting=1, finished=0, failed=0, last_error=None
    )
    for each in both:
        each.released.set()
    assert third.result(timeout=10) == "third"


def test_no_thread_is_started_before_the_first_job_nor_more_than_there_are_jobs():
    before = threading.active_count()
    scheduler = ThreadScheduler({"a": 4, "b": 4})
    assert threading.active_count() == before

    for _ in range(3):
        scheduler.submit("a", lambda: None).result(timeout=10)
        scheduler.drain()

    assert threading.active_count() == before + 1
    scheduler.close()
    assert threading.active_count() == before


def test_a_job_that_was_cancelled_in_time_does_not_run_and_keeps_nobody_waiting(scheduler):
    held = Held(scheduler)
    ran = []
    cancelled = scheduler.submit("a", lambda: ran.append("cancelled"))
    after = scheduler.submit("a", lambda: ran.append("after"))

    assert cancelled.cancel()
    held.released.set()
    scheduler.drain()

    assert (ran, after.done(), cancelled.cancelled()) == (["after"], True, True)
    with pytest.raises(CancelledError):
        cancelled.result()


def test_drain_returns_when_the_last_job_was_cancelled(scheduler):
    held = Held(scheduler)
    last = scheduler.submit("a", lambda: None)
    draining = threading.Thread(target=scheduler.drain)
    draining.start()

    last.cancel()
    held.released.set()

    draining.join(10)
    assert not draining.is_alive()


def test_drain_waits_for_what_is_called_when_a_job_is_done(scheduler):
    held, told = Held(scheduler), []
    held.future.add_done_callback(lambda _: (time.sleep(0.02), told.append("told")))

    held.released.set()
    scheduler.drain()

    assert told == ["told"]


def test_a_lane_that_is_not_awaited_keeps_nobody_from_draining_and_closing():
    scheduler = ThreadScheduler({"a": 1, "b": 1}, not_awaited=["b"])
    held, ran = Held(scheduler, "b"), []
    behind = scheduler.submit("b", lambda: ran.append("b"))
    scheduler.submit("a", lambda: ran.append("a"))

    scheduler.drain()
    assert ran == ["a"]
    scheduler.submit("a", lambda: ran.append("a again"))
    scheduler.close()

    assert ran == ["a", "a again"]
    assert (held.future.done(), behind.cancelled()) == (False, True)
    held.released.set()
    assert held.future.result(timeout=10) == "held"


def test_a_lane_that_is_not_awaited_has_no_thread_left_when_it_is_closed_with_nothing_to_do():
    scheduler = ThreadScheduler({"b": 2}, not_awaited=["b"])
    thread = thread_of(scheduler, "b")

    scheduler.close()

    assert not thread.is_alive()


def test_jobs_that_jobs_submit_while_closing_are_still_run():
    scheduler = ThreadScheduler({"a": 1})
    started, ran = threading.Event(), []

    def parent():
        started.wait(10)
        scheduler.submit("a", lambda: ran.append("child"))

    scheduler.submit("a", parent)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    started.set()
    closing.join()

    assert ran == ["child"]
    with pytest.raises(ClosedError):
        scheduler.submit("a", lambda: None)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_whatever_a_job_raises_ends_in_its_future_and_the_thread_goes_on(scheduler, error):
    thread = thread_of(scheduler)

    def fail():
        raise error("mine")

    future = scheduler.submit("a", fail)

    assert isinstance(future.exception(timeout=10), error)
    assert thread_of(scheduler) is thread
    health = health_of(scheduler)
    assert (health.failed, health.last_error) == (1, future.exception())


def test_an_unknown_lane_is_a_programmers_mistake(scheduler):
    for call in (lambda: scheduler.submit("c", lambda: None), lambda: scheduler.every(1, "c", lambda: None)):
        with pytest.raises(AssertionError, match="no lane 'c'"):
            call()


def test_a_job_that_waits_for_all_jobs_is_a_programmers_mistake(scheduler):
    for call in (scheduler.drain, scheduler.close):
        assert isinstance(scheduler.submit("a", call).exception(timeout=10), AssertionError)


def test_many_threads_may_submit_at_once_and_every_job_runs_once():
    scheduler, ran = ThreadScheduler({"a": 1, "b": 3}), []

    def submit_some(number):
        for n in range(200):
            scheduler.submit("ab"[n % 2], lambda n=n: ran.append((number, n)))

    threads = [threading.Thread(target=submit_some, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scheduler.close()

    assert sorted(ran) == [(number, n) for number in range(4) for n in range(200)]
    assert [health.finished for health in scheduler.health()] == [400, 400]


def test_what_a_job_held_is_let_go_when_it_has_ended(scheduler):
    class Large:
        pass

    large, gone = Large(), threading.Event()
    weakref.finalize(large, gone.set)

    scheduler.submit("a", lambda large=large: None).result(timeout=10)
    del large

    assert gone.wait(10)


# --- again and again -----------------------------------------------------------------------------------


def test_a_periodic_job_never_runs_twice_at_once_even_where_there_are_threads_for_it():
    scheduler = ThreadScheduler({"a": 3})
    at_once, most, runs = [], [], []

    def job():
        at_once.append(1)
        time.sleep(0.005)
        most.append(len(at_once))
        at_once.pop()
        runs.append(1)

    scheduler.every(1, "a", job)
    until(lambda: len(runs) >= 5)
    scheduler.close()

    assert set(most) == {1}


def test_another_thread_minds_the_time_while_one_is_busy():
    scheduler, ran = ThreadScheduler({"a": 2}), []
    scheduler.every(5, "a", lambda: ran.append(1))
    until(lambda: ran)

    held = Held(scheduler)
    before = len(ran)
    until(lambda: len(ran) > before + 2)

    held.released.set()
    scheduler.close()


def test_a_periodic_job_waits_its_turn_in_a_lane_of_one_thread(scheduler):
    held, ran = Held(scheduler), []
    scheduler.every(1, "a", lambda: ran.append(1))
    time.sleep(0.02)
    assert ran == []

    held.released.set()

    until(lambda: len(ran) >= 2)


def test_a_stopped_job_does_not_begin_any_more_even_if_it_was_queued(scheduler):
    ran = []
    stop = scheduler.every(1, "a", lambda: ran.append(1))
    until(lambda: ran)
    held = Held(scheduler)
    time.sleep(0.01)

    stop()
    stop()
    before = len(ran)
    held.released.set()
    scheduler.drain()
    time.sleep(0.01)

    assert len(ran) == before


def test_closing_ends_periodic_jobs_and_there_are_no_new_ones():
    scheduler, ran = ThreadScheduler({"a": 1}), []
    scheduler.every(1, "a", lambda: ran.append(1))
    until(lambda: ran)

    scheduler.close()
    before = len(ran)
    time.sleep(0.01)

    assert len(ran) == before
    with pytest.raises(ClosedError):
        scheduler.every(1, "a", lambda: None)


# --- threads that die ----------------------------------------------------------------------------------


def died(future: Future, cause: type[BaseException] | None = SystemExit) -> bool:
    error = future.exception(timeout=10)
    same_cause = error.__cause__ is None if cause is None else isinstance(error.__cause__, cause)
    return isinstance(error, PoisonedError) and "thread of lane 'a' died" in str(error) and same_cause


def test_a_thread_that_is_killed_while_idle_fails_the_next_job_and_poisons_the_lane():
    scheduler = ThreadScheduler({"a": 1, "b": 1})
    raise_in(thread_of(scheduler), SystemExit)
    scheduler.drain()

    first = scheduler.submit("a", lambda: pytest.fail("nobody runs this"))

    assert died(first)
    with pytest.raises(PoisonedError, match="lane 'a' died; close the store and open it again") as caught:
        scheduler.submit("a", lambda: None)
    assert isinstance(caught.value.__cause__, SystemExit)
    with pytest.raises(PoisonedError):
        scheduler.every(1, "a", lambda: None)
    health = health_of(scheduler)
    assert (health.threads, health.alive, health.running, health.waiting) == (1, 0, 0, 0)
    assert scheduler.submit("b", lambda: "well").result(timeout=10) == "well"
    scheduler.drain()
    scheduler.close()


def test_a_thread_that_dies_while_busy_fails_everything_that_waits():
    scheduler = ThreadScheduler({"a": 1})
    held = Held(scheduler)
    waiting = [scheduler.submit("a", lambda: pytest.fail("nobody runs this")) for _ in range(3)]
    cancelled = scheduler.submit("a", lambda: None)
    cancelled.cancel()

    def die(_):
        raise SystemExit

    held.future.add_done_callback(die)
    held.released.set()

    assert held.future.result(timeout=10) == "held", "a job that ended well stays well"
    assert all(died(future) for future in waiting)
    assert cancelled.cancelled()
    scheduler.drain()
    scheduler.close()


def test_a_job_whose_thread_is_killed_while_it_runs_ends_in_its_future():
    scheduler = ThreadScheduler({"a": 1})
    thread = thread_of(scheduler)
    begun = threading.Event()

    def job():
        begun.set()
        time.sleep(0.05)

    running = scheduler.submit("a", job)
    begun.wait(10)
    raise_in(thread, SystemExit)

    assert isinstance(running.exception(timeout=10), SystemExit)
    scheduler.drain()
    scheduler.close()


def test_a_job_whose_thread_dies_before_it_could_say_how_it_ended_fails(monkeypatch):
    scheduler = ThreadScheduler({"a": 1})
    held = Held(scheduler)

    def die(future, result):
        raise SystemExit

    monkeypatch.setattr(Future, "set_result", die)
    held.released.set()

    assert died(held.future)
    scheduler.drain()
    scheduler.close()


def test_a_living_thread_of_a_lane_that_lost_one_ends_its_job_and_tells_the_truth():
    scheduler = ThreadScheduler({"a": 2})
    survivor, victim = Held(scheduler), Held(scheduler)
    waiting = scheduler.submit("a", lambda: None)

    def die(_):
        raise SystemExit

    victim.future.add_done_callback(die)
    victim.released.set()

    assert died(waiting)
    assert not survivor.future.done()
    survivor.released.set()
    assert survivor.future.result(timeout=10) == "held"
    health = health_of(scheduler)
    assert (health.threads, health.alive) == (2, 1)
    scheduler.close()


def test_drain_and_close_that_wait_already_are_woken_by_a_death():
    scheduler = ThreadScheduler({"a": 1})
    held = Held(scheduler)
    scheduler.submit("a", lambda: None)
    waiters = [threading.Thread(target=call) for call in (scheduler.drain, scheduler.close)]
    for waiter in waiters:
        waiter.start()

    def die(_):
        raise SystemExit

    held.future.add_done_callback(die)
    held.released.set()

    for waiter in waiters:
        waiter.join(10)
        assert not waiter.is_alive()


def test_a_callback_that_raises_keeps_no_other_job_from_being_told_of_the_death():
    scheduler = ThreadScheduler({"a": 1})
    held = Held(scheduler)
    waiting = [scheduler.submit("a", lambda: None) for _ in range(3)]

    def die(_):
        raise SystemExit

    for future in [held.future, *waiting]:
        future.add_done_callback(die)
    held.released.set()

    assert all(died(future) for future in waiting)
    scheduler.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_without_a_word_is_noticed(monkeypatch):
    scheduler = ThreadScheduler({"a": 1, "b": 1})
    thread = thread_of(scheduler)
    scheduler.drain()
    scheduler.check()

    def die(*_):
        raise SystemExit

    monkeypatch.setattr(type(scheduler._crew), "_leave", die)
    raise_in(thread, SystemExit)
    scheduler._crew._lanes["a"].wakes.put(None)
    thread.join(10)

    with pytest.raises(PoisonedError, match="lane 'a' died"):
        scheduler.check()
    assert (health_of(scheduler).alive, health_of(scheduler, "b").alive) == (0, 0)
    with pytest.raises(PoisonedError) as caught:
        scheduler.submit("a", lambda: None)
    assert caught.value.__cause__ is None
    scheduler.close()


def test_an_interruption_while_it_is_asked_makes_no_living_thread_look_dead(scheduler, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    thread_of(scheduler)
    monkeypatch.setattr(threading.Thread, "is_alive", interrupted)

    scheduler.check()

    assert health_of(scheduler).alive == 1
    assert scheduler.submit("a", lambda: "well").result(timeout=10) == "well"


def test_after_a_fork_the_child_has_no_threads():
    program = """
import os, warnings
from mitoframe.drivers.scheduler import ThreadScheduler
from mitoframe.model.errors import PoisonedError
warnings.simplefilter("ignore", DeprecationWarning)
scheduler = ThreadScheduler({"a": 1})
scheduler.submit("a", lambda: None).result()
child = os.fork()
if child == 0:
    for call in (scheduler.check, lambda: scheduler.submit("a", lambda: None)):
        try:
            call()
        except PoisonedError:
            print("died", flush=True)
    os._exit(0)
os.waitpid(child, 0)
scheduler.check()
print(scheduler.submit("a", lambda: "well").result(timeout=10), flush=True)
"""
    assert run(program) == "died\ndied\nwell\n"


@pytest.mark.parametrize("threads_max", [1, 2])
def test_a_thread_whose_start_was_interrupted_leaves(monkeypatch, threads_max):
    before = threading.active_count()
    scheduler = ThreadScheduler({"a": threads_max})
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", interrupted)
            with suppress(KeyboardInterrupt):
                scheduler.submit("a", lambda: None)
    futures = [scheduler.submit("a", lambda: time.sleep(0.001)) for _ in range(10)]

    assert not wait(futures, timeout=10).not_done
    until(lambda: threading.active_count() <= before + threads_max)
    assert 1 <= health_of(scheduler).threads <= threads_max
    scheduler.close()
    until(lambda: threading.active_count() == before)


def test_each_thread_that_leaves_wakes_the_next_even_one_that_nobody_counted():
    scheduler = ThreadScheduler({"a": 1})
    thread = thread_of(scheduler)
    scheduler.drain()
    [lane] = scheduler._crew._lanes.values()
    life = threading.Lock()
    life.acquire()
    uncounted = threading.Thread(target=scheduler._crew.work, args=(lane, life), daemon=True)
    lane.threads[uncounted] = life
    uncounted.start()
    for held in [Held(scheduler), Held(scheduler)]:  # One in each thread.
        held.released.set()
    scheduler.drain()
    del lane.threads[uncounted]

    scheduler.close()

    for each in (thread, uncounted):
        each.join(10)
        assert not each.is_alive()


def test_a_killed_thread_never_leaves_anybody_waiting_wherever_it_was():
    for number in range(30):
        scheduler = ThreadScheduler({"a": 1})
        thread = thread_of(scheduler)
        futures = [scheduler.submit("a", lambda: sum(range(50))) for _ in range(20)]
        if number % 2:
            futures[number % 20].result(timeout=10)
        raise_in(thread, SystemExit)
        ended = futures + _submit_until_dead(scheduler, thread)

        scheduler.drain()

        assert all(future.done() for future in ended)
        scheduler.close()


def _submit_until_dead(scheduler, thread) -> list[Future]:
    futures = []
    for _ in range(5):
        try:
            futures.append(scheduler.submit("a", lambda: None))
        except PoisonedError:
            break
    return futures


# --- the end -------------------------------------------------------------------------------------------


def test_a_scheduler_that_nobody_holds_ends_its_threads_after_their_jobs():
    before = threading.active_count()
    scheduler, ran = ThreadScheduler({"a": 2, "b": 1}), []
    scheduler.every(60_000, "b", lambda: None)
    held = Held(scheduler)
    scheduler.submit("a", lambda: ran.append("last"))

    del scheduler
    gc.collect()
    held.released.set()

    until(lambda: threading.active_count() == before)
    assert ran == ["last"]


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == ""
    return result.stdout


def test_an_interpreter_that_exits_without_closing_finishes_the_jobs_and_does_not_hang():
    program = """
import time
import weakref
from mitoframe.drivers.scheduler import ThreadScheduler
scheduler = ThreadScheduler({"a": 1, "b": 1})
scheduler.submit("a", lambda: time.sleep(0.1))
scheduler.submit("a", lambda: print("done", flush=True))
scheduler.every(1, "b", lambda: None)
"""
    assert run(program) == "done\n"


def test_a_job_submitted_after_that_runs_inside_submit():
    program = """
import atexit, threading, time

@atexit.register
def last():
    ran_in = []
    scheduler.submit("a", lambda: ran_in.append(threading.current_thread()))
    ThreadScheduler({"a": 1}).submit("a", lambda: ran_in.append(threading.current_thread()))
    print(ran_in == [threading.main_thread()] * 2, flush=True)
    scheduler.every(1, "a", lambda: None)
    scheduler.drain()
    scheduler.close()

from mitoframe.drivers.scheduler import ThreadScheduler
scheduler = ThreadScheduler({"a": 1})

def parent():
    time.sleep(0.1)
    scheduler.submit("a", lambda: print("child", flush=True))

scheduler.submit("a", parent)
"""
    assert run(program) == "child\nTrue\n"


def test_a_job_for_which_the_system_has_no_thread_runs_inside_submit(monkeypatch):
    scheduler = ThreadScheduler({"a": 1})

    def no_thread(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    future = scheduler.submit("a", threading.current_thread)

    assert future.result(timeout=0) is threading.current_thread()
    health = health_of(scheduler)
    assert (health.threads, health.waiting, health.finished) == (0, 0, 1)
    scheduler.close()
