"""Who runs background jobs: the caller itself (`InlineScheduler`), or threads (`ThreadScheduler`).

Both promise that a job's exception ends in its Future and nowhere else. What ends the process (KeyboardInterrupt,
SystemExit) is not a job's result: run inline, it goes through to the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mitoframe.model.errors import ClosedError

Result = TypeVar("Result")


class InlineScheduler:
    """Runs each job inside `submit`, in the order of submission: for tests, and where threads are not wanted."""

    def __init__(self) -> None:
        self._closed = False

    def submit(self, lane: str, job: Callable[[], Result]) -> Future[Result]:
        if self._closed:
            raise _closed(lane)
        return _run_here(job)

    def drain(self) -> None:
        pass

    def close(self) -> None:
        self._closed = True


class ThreadScheduler:
    """Runs each lane in a pool of its own, made at the lane's first job.

    Python waits at exit for jobs already submitted; a job submitted after that runs inside `submit`.
    """

    def __init__(self, workers_per_lane: Mapping[str, int]) -> None:
        assert all(workers > 0 for workers in workers_per_lane.values())
        self._workers_per_lane = dict(workers_per_lane)
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._state = threading.Condition()
        self._unfinished = 0
        self._closed = False
        self._running = threading.local()

    def submit(self, lane: str, job: Callable[[], Result]) -> Future[Result]:
        assert lane in self._workers_per_lane, f"there is no lane {lane!r}"
        with self._state:
            if self._closed:
                raise _closed(lane)
            try:
                future = self._pool_locked(lane).submit(self._run, job)
            except RuntimeError:
                future = None
            else:
                self._unfinished += 1
        if future is None:
            # The interpreter is on its way out and starts no more threads: what a store flushes then, its closer does.
            return _run_here(job)
        # Outside the lock: the callback takes it, and runs here and now if the job has ended already.
        future.add_done_callback(self._finished)
        return future

    def drain(self) -> None:
        """Return when every job has ended, also those that jobs submitted. Requires: not called by a job."""
        assert not getattr(self._running, "inside", False), "a job that waits for all jobs waits for itself"
        with self._state:
            self._state.wait_for(self._is_idle_locked)

    def close(self) -> None:
        """Drain, then take no more jobs. Requires: not called by a job."""
        assert not getattr(self._running, "inside", False), "a job that waits for all jobs waits for itself"
        with self._state:
            self._state.wait_for(self._is_idle_locked)
            self._closed = True
        for pool in self._pools.values():
            pool.shutdown()

    def _run(self, job: Callable[[], Result]) -> Result:
        self._running.inside = True
        try:
            return job()
        finally:
            self._running.inside = False

    def _finished(self, _: Future[Result]) -> None:
        with self._state:
            self._unfinished -= 1
            if self._unfinished == 0:
                self._state.notify_all()

    def _is_idle_locked(self) -> bool:
        return self._unfinished == 0

    def _pool_locked(self, lane: str) -> ThreadPoolExecutor:
        if lane not in self._pools:
            workers = self._workers_per_lane[lane]
            self._pools[lane] = ThreadPoolExecutor(workers, thread_name_prefix=f"mitoframe-{lane}")
        return self._pools[lane]


def _run_here(job: Callable[[], Result]) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()
    try:
        result = job()
    except Exception as error:  # noqa: BLE001 - a background job's failure belongs to its Future
        future.set_exception(error)
    else:
        future.set_result(result)
    return future


def _closed(lane: str) -> ClosedError:
    return ClosedError(f"the scheduler takes no more jobs (lane {lane!r}). Open the store again.")
