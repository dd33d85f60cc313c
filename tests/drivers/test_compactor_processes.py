"""Workers that do what no worker should: whatever it is, the caller is told, and the next job is done."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from builders import file_id_of, file_of, metadata_of
from gates import wait_until

from mitoframe.drivers.compactor_processes import ProcessCompactor
from mitoframe.model.errors import BusyError, ClosedError, UnavailableError
from mitoframe.model.job import CompactionJob
from mitoframe.ports import JobStatus

PATIENCE_SECONDS = 30
JOB = CompactionJob(
    job_id="a" * 32,
    metadata=metadata_of(),
    inputs=(file_of("a", 0, 9), file_of("b", 5, 20)),
    output_ids=(file_id_of("c"),),
    dedup="last",
    drop_deletes=False,
    row_group_rows=100,
    now_ms=5,
)
BEGIN = """
import json, os, sys, time
def tell(**what):
    print(json.dumps({"job": job} | what), flush=True)
def take():
    global job
    job = json.loads(sys.stdin.readline())["job_id"]
take()
"""
HANG = "time.sleep(60)"


def job(name: str) -> CompactionJob:
    return replace(JOB, job_id=name * 32)


@contextmanager
def worker(script: str, **known) -> Iterator[ProcessCompactor]:
    """Merge in a process that is no real worker: it runs a script that has read the line of its first job."""
    compactor = ProcessCompactor((sys.executable, "-S", "-c", BEGIN + script), **known)
    try:
        yield compactor
    finally:
        compactor.close()


def impatient(script: str, silence_ms: int) -> dict[str, int]:
    """Wait for a script that hangs no longer than that, and for any other as long as it takes to start."""
    return {"silence_ms": silence_ms} if script == HANG else {}


def ended(compactor: ProcessCompactor, of: CompactionJob = JOB) -> JobStatus:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (status := compactor.poll(of.job_id, 50)).is_ended:
        assert time.monotonic() < deadline, "the job did not end"
    return status


def begun(compactor: ProcessCompactor, of: CompactionJob = JOB, rows: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while compactor.poll(of.job_id, 10).row_count < rows:
        assert time.monotonic() < deadline, "the job did not begin"


def is_there(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_program_that_is_not_there_takes_no_job_and_keeps_no_place():
    compactor = ProcessCompactor(("/no/such/program",))

    for _ in range(2):
        with pytest.raises(UnavailableError, match="no worker process could be started"):
            compactor.submit(JOB)

    compactor.close()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("print('no module', file=sys.stderr); sys.exit(3)", r"ended \(exit code 3: no module\) before it had begun"),
        (HANG, "said nothing for 0.3 seconds before it had begun"),
        ("print('hello', flush=True)", "said what cannot be read: b'hello"),
        ("tell(rows='many')", "said what cannot be read"),
        ("tell(rows=1); tell(files=[{'file_id': 'x'}])", "said what cannot be read"),
        ("tell(rows=1); tell()", "said what cannot be read"),
        ("job = 'another'; tell(rows=1)", "said what cannot be read"),
        ("tell(rows=1); tell(refused='no such file')", "no such file"),
    ],
    ids=["ends", "hangs", "no message", "no number", "no files", "says nothing", "another job", "refuses"],
)
def test_a_job_that_was_not_begun_or_is_answered_with_nonsense_is_refused(script, why):
    with worker(script, **impatient(script, 300)) as compactor:
        compactor.submit(JOB)

        status = ended(compactor)

        assert status.files is None
        assert re.search(why, str(status.refusal)), status.refusal


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("os.kill(os.getpid(), 9)", r"ended \(exit code -9\)"),
        ("print('{\"job\": ', end='', flush=True); os.kill(os.getpid(), 9)", r"ended \(exit code -9\)"),
        ("print('Traceback\\nMemoryError', file=sys.stderr); sys.exit(1)", r"ended \(exit code 1: MemoryError\)"),
        (HANG, "said nothing for 3 seconds"),
    ],
    ids=["killed", "killed while it speaks", "fails", "hangs"],
)
def test_nobody_knows_what_became_of_a_job_whose_worker_vanished(script, why):
    with worker("tell(rows=7)\n" + script, **impatient(script, 3000)) as compactor:
        compactor.submit(JOB)

        with pytest.raises(UnavailableError, match=why):
            ended(compactor)
        with pytest.raises(UnavailableError, match="tried again later"):
            compactor.poll(JOB.job_id)
        compactor.cancel(JOB.job_id)

        assert compactor.left_litter


@pytest.mark.parametrize(("script", "is_kept"), [("tell(nothing=1)", False), ("tell(refused='no')", True)])
def test_a_worker_that_talks_nonsense_gets_no_other_job(script, is_kept):
    with worker(script + "\n" + HANG, stop_ms=50) as compactor:
        compactor.submit(JOB)
        ended(compactor)

        compactor.cancel(JOB.job_id)

        assert len(compactor._idle) == is_kept


def test_after_a_worker_vanished_another_does_the_next_job():
    script = "tell(rows=1)\nif job[0] == 'a': os.kill(os.getpid(), 9)\ntell(files=[])"
    with worker(script) as compactor:
        compactor.submit(JOB)
        with pytest.raises(UnavailableError):
            ended(compactor)
        compactor.cancel(JOB.job_id)

        compactor.submit(job("b"))

        assert ended(compactor, job("b")).files == ()


def test_one_worker_does_job_after_job_and_one_that_went_to_sleep_is_replaced():
    script = "tell(rows=os.getpid()); tell(files=[]); take(); tell(rows=os.getpid()); tell(files=[])"
    with worker(script) as compactor:
        pids = []
        for name in "abc":
            compactor.submit(job(name))
            ended(compactor, job(name))
            pids.append(compactor.poll(job(name).job_id).row_count)
            compactor.cancel(job(name).job_id)
            if name == "b":  # It ends by itself after its second job.
                wait_until(lambda: not any(idle.is_alive() for idle in compactor._idle))

    assert pids[0] == pids[1] != pids[2]
    assert not any(map(is_there, pids))


def test_no_more_jobs_are_taken_than_there_may_be_workers():
    with worker("tell(rows=1)\n" + HANG, stop_ms=50) as compactor:
        compactor.submit(JOB)

        with pytest.raises(BusyError, match="1 jobs are under way"):
            compactor.submit(job("b"))
        compactor.cancel(JOB.job_id)

        compactor.submit(job("b"))


def test_who_does_not_stop_when_a_job_is_cancelled_is_killed():
    with worker("tell(rows=os.getpid())\n" + HANG, stop_ms=100) as compactor:
        compactor.submit(JOB)
        begun(compactor)
        process_id = compactor.poll(JOB.job_id).row_count

        compactor.cancel(JOB.job_id)

        assert not is_there(process_id)
        assert compactor.left_litter


def test_a_job_that_is_larger_than_a_pipe_holds_up_nobody():
    large = replace(JOB, inputs=tuple(file_of("a", 0, 9, blocks=tuple(range(9000))) for _ in range(50)))
    compactor = ProcessCompactor((sys.executable, "-S", "-c", "import time; time.sleep(60)"), stop_ms=50)

    compactor.submit(large)
    compactor.cancel(large.job_id)

    compactor.close()


def test_closing_stops_what_is_under_way():
    with worker("tell(rows=os.getpid())\n" + HANG, stop_ms=50) as compactor:
        compactor.submit(JOB)
        begun(compactor)
        process_id = compactor.poll(JOB.job_id).row_count

        compactor.close()

        assert not is_there(process_id)
        with pytest.raises(ClosedError):
            compactor.submit(job("b"))


# --- the worker's side ----------------------------------------------------------------------------------

REAL = """
import os, time
from mitoframe.drivers.compactor_processes import serve
from mitoframe.model.errors import ConflictError
def carry_out(job, is_over, on_progress):
    print("this goes where errors go")
    while not is_over():
        on_progress(os.getpid())
        time.sleep(0.01)
    raise ConflictError("it is over")
serve(carry_out)
"""


def test_a_worker_stops_what_is_cancelled_takes_the_next_and_ends_with_who_started_it():
    compactor = ProcessCompactor((sys.executable, "-c", REAL))
    pids = []
    for name in "ab":
        compactor.submit(job(name))
        begun(compactor, job(name))
        pids.append(compactor.poll(job(name).job_id).row_count)
        if name == "a":
            compactor.cancel(job(name).job_id)
    [running] = compactor._jobs.values()
    assert running is not None

    running.worker.close(PATIENCE_SECONDS * 1000)

    assert pids[0] == pids[1]
    assert running.worker._process.returncode == 0
