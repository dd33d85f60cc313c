from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.model.errors import ClosedError


def test_an_inline_job_runs_in_the_callers_thread_before_submit_returns():
    ran_in = []

    future = InlineScheduler().submit("any", lambda: ran_in.append(threading.get_ident()))

    assert future.done()
    assert ran_in == [threading.get_ident()]


def test_what_ends_the_process_is_not_swallowed_by_an_inline_job():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InlineScheduler().submit("any", interrupt)


def test_a_long_job_in_one_lane_holds_up_no_other():
    scheduler = ThreadScheduler({"compact": 1, "flush": 1})
    release = threading.Event()
    long = scheduler.submit("compact", lambda: release.wait(10) and None)

    scheduler.submit("flush", lambda: None).result(timeout=10)

    assert not long.done()
    release.set()
    scheduler.close()
    assert long.done()


def test_no_thread_is_started_before_the_first_job():
    before = threading.active_count()
    scheduler = ThreadScheduler({"a": 4, "b": 4})
    assert threading.active_count() == before

    scheduler.submit("a", lambda: None).result(timeout=10)

    assert threading.active_count() == before + 1
    scheduler.close()
    assert threading.active_count() == before


def test_a_job_that_was_cancelled_does_not_keep_drain_waiting():
    scheduler = ThreadScheduler({"a": 1})
    release = threading.Event()
    scheduler.submit("a", lambda: release.wait(10) and None)
    waiting = scheduler.submit("a", lambda: pytest.fail("cancelled jobs do not run"))

    assert waiting.cancel()
    release.set()
    scheduler.drain()
    scheduler.close()


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


def test_an_unknown_lane_is_a_programmers_mistake():
    with pytest.raises(AssertionError, match="no lane 'c'"):
        ThreadScheduler({"a": 1}).submit("c", lambda: None)


def test_a_job_that_waits_for_all_jobs_is_a_programmers_mistake():
    scheduler = ThreadScheduler({"a": 1})

    for call in (scheduler.drain, scheduler.close):
        assert isinstance(scheduler.submit("a", call).exception(timeout=10), AssertionError)
    scheduler.close()


def test_an_interpreter_that_exits_without_closing_finishes_the_jobs_and_does_not_hang():
    program = """
import time
from mitoframe.drivers.scheduler import ThreadScheduler
scheduler = ThreadScheduler({"a": 1})
scheduler.submit("a", lambda: time.sleep(0.1))
scheduler.submit("a", lambda: print("done", flush=True))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert (result.stdout.strip(), result.stderr) == ("done", "")
