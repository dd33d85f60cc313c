"""Merges in worker processes of this machine, each a program that is started when it is needed.

    to the worker       a job, as it is written down         to be done
                        {"cancel": job_id}                   not any more
    from the worker     {"job": job_id, "rows": 0}           it has begun; later, how many rows have been merged
                        {"job": job_id, "files": [...]}      it is done
                        {"job": job_id, "refused": "..."}    it was not, and nothing is left of it

Lines of JSON through pipes; nothing is pickled, and the caller's main program is not run again.

    the worker cannot be started, or ends before it has begun   the job is refused: the caller does it himself
    it says what cannot be read                                 it is killed, and the job is refused
    it ends in the middle, or is silent for long                it is killed, and nobody knows (`UnavailableError`)

A worker does one job at a time, waits a while for the next, and ends. It ends too when nobody holds its pipe any more:
the process that started it may die of anything. What is cancelled stops at its next step, and is killed if that takes
too long. A worker that was killed may leave a temporary object behind, see `left_litter`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from time import monotonic
from typing import IO, Any, TypeAlias

from mitoframe.model.errors import BusyError, ClosedError, MitoError, UnavailableError
from mitoframe.model.file import FileMeta
from mitoframe.model.job import CompactionJob
from mitoframe.ports import JobStatus

CarryOut: TypeAlias = Callable[[CompactionJob, Callable[[], bool], Callable[[int], None]], Sequence[FileMeta]]
"""Does a job; asks now and then whether it is over, and says how many rows were merged."""

SILENCE_MS = 120_000
"""A worker says something at each step of a merge: one that is silent for so long does nothing any more."""
STOP_MS = 5_000
"""How long a worker has to stop before it is killed."""
IDLE_SECONDS = 60
"""A worker that has nothing to do for so long gives its memory back."""
_TELL_SECONDS = 0.1
_SAID_MAX_BYTES = 500


class ProcessCompactor:
    """Starts workers by a command.

    Args:
        command: the program and its arguments; it calls `serve`.
        workers_max: how many jobs are done at a time; more are refused.
        silence_ms: how long a worker may say nothing about a job.
        stop_ms: how long one that is to stop may take for it.

    """

    def __init__(
        self, command: Sequence[str], *, workers_max: int = 1, silence_ms: int = SILENCE_MS, stop_ms: int = STOP_MS
    ) -> None:
        assert workers_max > 0
        self._command, self._workers_max = tuple(command), workers_max
        self._silence_ms, self._stop_ms = silence_ms, stop_ms
        self._lock = Lock()
        self._jobs: dict[str, _Running | None] = {}
        self._idle: list[_Worker] = []
        self._closing = Event()
        self.left_litter = False
        """Whether a worker was killed that may have been storing something."""

    def submit(self, job: CompactionJob) -> None:
        with self._lock:
            if self._closing.is_set():
                raise _closed()
            assert job.job_id not in self._jobs, "a job is submitted once"
            if len(self._jobs) >= self._workers_max:
                raise BusyError(f"{self._workers_max} jobs are under way, and no more are done at a time; retry later.")
            self._jobs[job.job_id] = None
            idle = self._idle.pop() if self._idle else None
        try:
            worker = self._living(idle)
        except OSError as error:
            with self._lock:
                del self._jobs[job.job_id]
            raise UnavailableError(f"no worker process could be started: {error}; nothing was changed.") from error
        worker.send(job.to_line())
        with self._lock:
            self._jobs[job.job_id] = _Running(job.job_id, worker, self._silence_ms)
            is_late = self._closing.is_set()
        if is_late:
            self.cancel(job.job_id)
            raise _closed()

    def _living(self, idle: _Worker | None) -> _Worker:
        if idle is not None and idle.is_alive():
            return idle
        if idle is not None:
            idle.close(0)
        return _Worker(self._command)

    def poll(self, job_id: str, timeout_ms: int = 0) -> JobStatus:
        running = self._jobs.get(job_id)
        if running is None:
            raise UnavailableError(f"job {job_id} is not known here; it was never submitted, or is forgotten.")
        return running.poll(timeout_ms)

    def cancel(self, job_id: str) -> None:
        running = self._jobs.get(job_id)
        if running is None:
            return
        worker, is_usable = running.worker, running.stop(self._stop_ms)
        if not is_usable:
            self.left_litter = True
            worker.close(0)
        with self._lock:
            self._jobs.pop(job_id, None)
            is_kept = is_usable and not self._closing.is_set()
            if is_kept:
                self._idle.append(worker)
        if not is_kept:
            worker.close(self._stop_ms)

    def close(self) -> None:
        with self._lock:
            self._closing.set()
            idle, self._idle = self._idle, []
        for job_id in tuple(self._jobs):
            self.cancel(job_id)
        for worker in idle:
            worker.close(self._stop_ms)


def _closed() -> ClosedError:
    return ClosedError("the compactor takes no more jobs. Open the store again.")


class _Worker:
    """A process, and the threads that write to it and read from it, so that nobody has to wait for it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the worker
        try:
            # A session of its own: a Ctrl-C is meant for who typed it. The path is ours, as it is now.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
                start_new_session=True,
            )
        except BaseException:
            self._said.close()
            raise
        self._is_given_up = False
        self.heard: SimpleQueue[bytes | None] = SimpleQueue()
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._threads = (
            Thread(
                target=_write_all, args=(self._process.stdin, self._outbox), name="mitoframe-to-worker", daemon=True
            ),
            Thread(target=_read_all, args=(self._process.stdout, self.heard), name="mitoframe-of-worker", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        return not self._is_given_up and self._process.poll() is None

    def send(self, line: bytes) -> None:
        self._outbox.put(line)

    def last_words(self) -> str:
        """Say how it ended, and what it said last that was no message."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        size_bytes = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(size_bytes - _SAID_MAX_BYTES, 0))
        said = self._said.read().decode(errors="replace").strip().rpartition("\n")[2]
        return f"exit code {self._process.returncode}{': ' if said else ''}{said}"

    def kill(self) -> None:
        self._is_given_up = True
        self._process.kill()

    def close(self, stop_ms: int) -> None:
        """Have it end, kill it if it does not, and let everything go."""
        if self._said.closed:
            return
        self._is_given_up = True
        self._outbox.put(None)
        try:
            self._process.wait(stop_ms / 1000)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        self._said.close()


def _write_all(pipe: IO[bytes], outbox: SimpleQueue[bytes | None]) -> None:
    with suppress(OSError), pipe:  # Its end is heard of.
        while (line := outbox.get()) is not None:
            pipe.write(line)
            pipe.flush()


def _read_all(pipe: IO[bytes], heard: SimpleQueue[bytes | None]) -> None:
    with suppress(OSError), pipe:
        for line in pipe:
            if line.endswith(b"\n"):  # Else it ended in the middle of it.
                heard.put(line)
    heard.put(None)


class _Running:
    """A job and the worker that has it."""

    def __init__(self, job_id: str, worker: _Worker, silence_ms: int) -> None:
        self._job_id, self.worker = job_id, worker
        self._silence_seconds = silence_ms / 1000
        self._heard_at = monotonic()
        self._is_begun = False
        self._status = JobStatus()
        self._loss: str | None = None

    def poll(self, timeout_ms: int) -> JobStatus:
        deadline = monotonic() + timeout_ms / 1000
        while not self._is_ended:
            try:
                line = self.worker.heard.get(timeout=max(deadline - monotonic(), 0.0))
            except Empty:
                self._mind_silence()
                break
            self._hear(line)
        if self._loss is not None:
            raise UnavailableError(f"{self._loss}. Nothing was changed; the merge is tried again later.")
        return self._status

    @property
    def _is_ended(self) -> bool:
        return self._status.is_ended or self._loss is not None

    def stop(self, stop_ms: int) -> bool:
        """Have it end; return whether the worker can take another job."""
        if not self._is_ended:
            self.worker.send(_line({"cancel": self._job_id}))
        deadline = monotonic() + stop_ms / 1000
        with suppress(UnavailableError):
            while not self._is_ended and monotonic() < deadline:
                self.poll(stop_ms)
        return self._status.is_ended and self.worker.is_alive()

    def _mind_silence(self) -> None:
        if monotonic() - self._heard_at > self._silence_seconds:
            self._vanish(f"said nothing for {self._silence_seconds:g} seconds")

    def _hear(self, line: bytes | None) -> None:
        self._heard_at = monotonic()
        if line is None:
            self._vanish(f"ended ({self.worker.last_words()})")
            return
        try:
            self._status = self._understood(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.worker.kill()
            self._status = JobStatus(refusal=f"the worker said what cannot be read: {line[:100]!r}")
        self._is_begun = True

    def _understood(self, message: Any) -> JobStatus:
        if message["job"] != self._job_id:
            raise ValueError("it is about another job")
        if "files" in message:
            files = tuple(map(FileMeta.from_json, message["files"]))
            return JobStatus(row_count=self._status.row_count, files=files)
        if "refused" in message:
            return JobStatus(row_count=self._status.row_count, refusal=str(message["refused"]))
        return JobStatus(row_count=int(message["rows"]))

    def _vanish(self, how: str) -> None:
        self.worker.kill()
        if self._is_begun:
            self._loss = f"the worker process that merged files {how}"
        else:
            self._status = JobStatus(refusal=f"the worker process {how} before it had begun")


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


# --- in the worker --------------------------------------------------------------------------------------


def serve(carry_out: CarryOut, *, idle_seconds: float = IDLE_SECONDS) -> None:
    """Be a worker: do what comes through this process's input, until nothing comes any more.

    Whatever else is written to the output of the process goes where its errors go.
    """
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asked = _Asked()
    Thread(target=asked.read, args=(sys.stdin.buffer,), name="mitoframe-asked", daemon=True).start()
    telling = _Telling(told)
    with suppress(BrokenPipeError), told:
        while (line := asked.next(idle_seconds)) is not None:
            _serve_one(line, carry_out, asked, telling)


def _serve_one(line: bytes, carry_out: CarryOut, asked: _Asked, telling: _Telling) -> None:
    job_id = str(json.loads(line)["job_id"])
    try:
        job = CompactionJob.from_line(line)
        telling.tell(job_id, rows=0)
        files = carry_out(job, lambda: asked.is_over(job_id), lambda rows: telling.tell_now_and_then(job_id, rows))
    except MitoError as error:
        telling.tell(job_id, refused=f"{type(error).__name__}: {error}")
    else:
        telling.tell(job_id, files=[file.to_json() for file in files])


class _Asked:
    """What comes in: jobs one after the other, and who takes them back."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._cancelled: set[str] = set()
        self._is_alone = Event()

    def read(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                self._lines.put(line)
        self._is_alone.set()
        self._lines.put(None)

    def next(self, idle_seconds: float) -> bytes | None:
        try:
            return self._lines.get(timeout=idle_seconds)
        except Empty:
            return None

    def is_over(self, job_id: str) -> bool:
        return job_id in self._cancelled or self._is_alone.is_set()


class _Telling:
    """What goes out. Several threads may say how far they are."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._lock, self._told_at = pipe, Lock(), 0.0

    def tell(self, job_id: str, **what: Any) -> None:
        with self._lock:
            self._pipe.write(_line({"job": job_id, **what}))
            self._pipe.flush()
            self._told_at = monotonic()

    def tell_now_and_then(self, job_id: str, rows: int) -> None:
        if monotonic() - self._told_at >= _TELL_SECONDS:
            self.tell(job_id, rows=rows)
