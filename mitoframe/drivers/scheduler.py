"""Who runs background jobs: the caller itself (`InlineScheduler`), or threads (`ThreadScheduler`).

**A job's exception** ends in its Future and in `health`, and nowhere else. In a thread that holds for KeyboardInterrupt
and SystemExit too. Run in the caller's thread they go through to the caller, because they may well be meant for it.

**Lanes** share no thread and no queue: a long job in one never holds up another. What they share is one lock, held for
a few steps at a time and never while a job or a Future's callback runs.

**A thread that dies** of anything but a job's exception breaks its lane: the job it ran and all that wait fail with
`PoisonedError`, as does the next `submit`. A job that runs in another thread of that lane goes on and tells the truth.

**Lanes that are not awaited** run jobs that may never end, such as other people's code. Nothing here waits for one that
runs, and when the scheduler is closed those that have not begun are cancelled.

**At exit** Python waits for jobs already submitted; a job submitted after that runs inside `submit`. So does one for
which the system has no thread. A scheduler that nobody holds any more ends its threads once they have done their jobs.

A caller may be interrupted (Ctrl-C) anywhere in `submit`: the job is then either queued whole or not at all, and a
thread that was being started leaves at once. `Thread.is_alive` is never asked, because Python 3.11, interrupted there,
takes a living thread for dead, for good: each thread has a lock that is held while it lives.
"""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Condition, Event, Lock, Thread, current_thread
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakSet, finalize

from mitoframe.model.errors import ClosedError, PoisonedError
from mitoframe.ports import LaneHealth

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Tally:
    """What became of a lane's jobs."""

    finished: int = 0
    failed: int = 0
    last_error: BaseException | None = None

    def count(self, error: BaseException | None) -> None:
        self.finished += 1
        if error is not None:
            self.failed += 1
            self.last_error = error


class InlineScheduler:
    """Runs each job inside `submit`, in the order of submission: for tests, and where threads are not wanted."""

    def __init__(self) -> None:
        self._closed = False
        self._tallies: dict[str, _Tally] = {}
        self._running: dict[str, int] = {}
        self._repeats: dict[object, tuple[str, Callable[[], object]]] = {}

    def submit(self, lane: str, job: Callable[[], Result]) -> Future[Result]:
        if self._closed:
            raise _closed(lane)
        self._running[lane] = self._running.get(lane, 0) + 1
        try:
            return _run_here(job, self._tallies.setdefault(lane, _Tally()))
        finally:
            self._running[lane] -= 1

    def every(self, interval_ms: int, lane: str, job: Callable[[], object]) -> Callable[[], None]:
        """Remember a job for `tick`. No time passes here: it never runs by itself."""
        assert interval_ms > 0, "a job that runs all the time leaves no time for others"
        if self._closed:
            raise _closed(lane)
        name = object()
        self._repeats[name] = lane, job

        def stop() -> None:
            self._repeats.pop(name, None)

        return stop

    def tick(self) -> None:
        """Run every periodic job once."""
        for name, (lane, job) in list(self._repeats.items()):
            if name in self._repeats:
                self.submit(lane, job)

    def check(self) -> None:
        """Do nothing: here is no thread that could have died."""

    def health(self) -> tuple[LaneHealth, ...]:
        return tuple(_health(lane, tally, running=self._running[lane]) for lane, tally in self._tallies.items())

    def drain(self) -> None:
        pass

    def close(self) -> None:
        self._closed = True
        self._repeats.clear()


class ThreadScheduler:
    """Runs each lane in threads of its own, made as its first jobs come.

    Args:
        workers_per_lane: how many threads each lane has at most.
        not_awaited: the lanes whose jobs may never end; see the module.

    """

    def __init__(self, workers_per_lane: Mapping[str, int], not_awaited: Collection[str] = ()) -> None:
        assert all(workers > 0 for workers in workers_per_lane.values())
        assert all(lane in workers_per_lane for lane in not_awaited), "there is no such lane"
        # The threads hold the crew and not this object, so that it can be forgotten while they wait for work.
        self._crew = _Crew(workers_per_lane, not_awaited)
        finalize(self, self._crew.dismiss).atexit = False

    def submit(self, lane: str, job: Callable[[], Result]) -> Future[Result]:
        return self._crew.submit(lane, job)

    def every(self, interval_ms: int, lane: str, job: Callable[[], object]) -> Callable[[], None]:
        """Run a job ``interval_ms`` from now, and again as long after each run has ended."""
        return self._crew.every(interval_ms, lane, job)

    def check(self) -> None:
        """Raise `PoisonedError` if a thread of any lane has died. Cheap, and takes no lock while all live."""
        self._crew.check()

    def health(self) -> tuple[LaneHealth, ...]:
        return self._crew.health()

    def drain(self) -> None:
        """Return when every job has ended, also those that jobs submitted, but for lanes that are not awaited.

        Requires: not called by a job.
        """
        self._crew.drain()

    def close(self) -> None:
        """Drain, then take no more jobs. Requires: not called by a job."""
        self._crew.close()


@dataclass(slots=True, eq=False)
class _Job:
    """One run to come or under way. ``counted``: it has ended, but who waits for it may not have been told yet."""

    call: Callable[[], Any]
    repeat: _Repeat | None = None
    future: Future[Any] = field(default_factory=Future)
    counted: bool = False


@dataclass(slots=True, eq=False)
class _Repeat:
    """A periodic job: its next run is ``due``, unless there is one already."""

    call: Callable[[], object]
    interval_seconds: float
    due: float
    job: _Job | None = None


@dataclass(slots=True, eq=False)
class _Lane:
    """A lane's jobs and threads.

    Attributes:
        wakes: a token for each time that an idle thread should look; one too many does no harm.
        running: by thread. A job is in here before it leaves ``waiting``, so that it is never nowhere.
        falling: jobs that a death ended, while their futures are told.
        threads: those started that were not asked to leave, each with a lock that is held while it lives; ``dead`` are
            those of them that left nevertheless.

    """

    name: str
    threads_max: int
    is_awaited: bool = True
    wakes: SimpleQueue[None] = field(default_factory=SimpleQueue)
    waiting: deque[_Job] = field(default_factory=deque)
    running: dict[Thread, _Job] = field(default_factory=dict)
    falling: list[_Job] = field(default_factory=list)
    repeats: list[_Repeat] = field(default_factory=list)
    threads: dict[Thread, Lock] = field(default_factory=dict)
    dead: set[Thread] = field(default_factory=set)
    cause: BaseException | None = None
    tally: _Tally = field(default_factory=_Tally)

    def is_idle(self) -> bool:
        return not (self.waiting or self.running or self.falling)

    def claim(self, thread: Thread) -> _Job | None:
        """Take the next job that was not cancelled."""
        while self.waiting:
            job = self.waiting[0]
            self.running[thread] = job
            self.waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                return job
            del self.running[thread]
        return None

    def queue_due(self, now: float) -> None:
        for repeat in self.repeats:
            if repeat.job is None and repeat.due <= now:
                repeat.job = _Job(repeat.call, repeat)
                self.waiting.append(repeat.job)

    def seconds_to_next(self, now: float) -> float | None:
        """Say how long nothing becomes due; None if nothing will by itself."""
        return min((max(repeat.due - now, 0.0) for repeat in self.repeats if repeat.job is None), default=None)

    def ended(self) -> list[Thread]:
        """Return the threads that have died and are not known to have."""
        return [thread for thread, life in tuple(self.threads.items()) if not life.locked() and thread not in self.dead]

    def bury(self, thread: Thread, cause: BaseException | None) -> None:
        """Take note that a thread has died: from now on this lane does nothing."""
        self.dead.add(thread)
        self.cause = self.cause or cause
        self.repeats.clear()
        self.falling += [self.running.pop(thread)] if thread in self.running else []
        self.falling += self.waiting
        self.waiting.clear()

    def died(self) -> PoisonedError:
        error = PoisonedError(f"a background thread of lane {self.name!r} died; close the store and open it again.")
        error.__cause__ = self.cause
        return error

    def health(self) -> LaneHealth:
        return _health(
            self.name,
            self.tally,
            threads=len(self.threads),
            alive=len(self.threads) - len(self.dead),
            running=sum(not job.counted for job in self.running.values()),
            waiting=len(self.waiting),
        )


class _Crew:
    """The lanes of a scheduler and the threads in them.

    ``_lock`` guards everything in the lanes. It is entered as the lock itself, never as a condition: an exception from
    outside (Ctrl-C, a thread told to stop) cannot then come between taking it and the block that gives it back.
    """

    def __init__(self, workers_per_lane: Mapping[str, int], not_awaited: Collection[str]) -> None:
        self._lanes = {
            name: _Lane(name, workers, is_awaited=name not in not_awaited) for name, workers in workers_per_lane.items()
        }
        self._lock = Lock()
        self._idle = Condition(self._lock)
        self._closed = False
        self._dismissed = _exiting.is_set()
        self._process_id = os.getpid()
        _crews.add(self)

    def submit(self, lane_name: str, call: Callable[[], Any]) -> Future[Any]:
        lane = self._lane(lane_name)
        job = _Job(call)
        with self._lock:
            self._check_locked(lane)
            if not self._dismissed and self._has_hands_locked(lane):
                # A thread and a token first, so that nothing that comes between leaves a job without them.
                lane.wakes.put(None)
                lane.waiting.append(job)
                return job.future
        return _run_here(call, lane.tally)

    def every(self, interval_ms: int, lane_name: str, call: Callable[[], object]) -> Callable[[], None]:
        assert interval_ms > 0, "a job that runs all the time leaves no time for others"
        lane = self._lane(lane_name)
        repeat = _Repeat(call, interval_ms / 1000, monotonic() + interval_ms / 1000)
        with self._lock:
            self._check_locked(lane)
            lane.repeats.append(repeat)
            self._mind_time_locked(lane)
        return lambda: self._stop(lane, repeat)

    def check(self) -> None:
        for lane in self._lanes.values():
            if self._ended(lane):
                self._bury_the_dead()  # With the lock held, one that has just left in good order is not among them.
            if lane.dead:
                raise lane.died()

    def health(self) -> tuple[LaneHealth, ...]:
        self._bury_the_dead()
        with self._lock:
            return tuple(lane.health() for lane in self._lanes.values())

    def drain(self) -> None:
        self._check_outside()
        self._bury_the_dead()
        with self._lock:
            self._idle.wait_for(self._is_idle_locked)

    def close(self) -> None:
        self._check_outside()
        self._bury_the_dead()
        with self._lock:
            for lane in self._lanes.values():
                lane.repeats.clear()
            self._idle.wait_for(self._is_idle_locked)
            self._closed = True
            left = [job for lane in self._lanes.values() if not lane.is_awaited for job in lane.waiting]
        for job in left:
            job.future.cancel()
        self.dismiss()
        self.join()

    def dismiss(self) -> None:
        """Let threads leave when nothing waits. Takes no lock: the garbage collector may call this anywhere."""
        self._dismissed = True
        for lane in self._lanes.values():
            for _ in range(lane.threads_max):
                lane.wakes.put(None)

    def join(self) -> None:
        with self._lock:
            threads = [
                thread
                for lane in self._lanes.values()
                for thread in lane.threads
                if lane.is_awaited or thread not in lane.running
            ]
        for thread in threads:
            thread.join()

    # --- what a thread does ------------------------------------------------------------------------------

    def work(self, lane: _Lane, life: Lock) -> None:
        """Do a lane's jobs. ``life`` is held, and is given back at the end, whatever that is."""
        try:
            self._work(lane)
        finally:
            life.release()

    def _work(self, lane: _Lane) -> None:
        cause: BaseException | None = None
        try:
            if not self._is_counted(lane):
                return  # Who started it was interrupted before it could say so.
            while (job := self._take(lane)) is not None:
                self._run(lane, job)
                del job  # What a job holds is not held until the next one comes.
        except BaseException as error:  # noqa: BLE001 - told to everybody who waits for this lane
            cause = error
        self._leave(lane, cause)

    def _is_counted(self, lane: _Lane) -> bool:
        with self._lock:
            return current_thread() in lane.threads

    def _take(self, lane: _Lane) -> _Job | None:
        """Wait for a job; None when there will be none."""
        me = current_thread()
        while True:
            with self._lock:
                now = monotonic() if lane.repeats else 0.0
                if not self._dismissed:
                    lane.queue_due(now)
                job = lane.claim(me)
                if job is not None:
                    if lane.repeats:
                        self._mind_time_locked(lane)
                    return job
                self._tell_if_idle_locked()
                if self._dismissed:
                    lane.wakes.put(None)  # Each who leaves wakes the next, however many there are.
                    return None
                seconds = lane.seconds_to_next(now)
            with suppress(Empty):
                lane.wakes.get(timeout=seconds)

    def _run(self, lane: _Lane, job: _Job) -> None:
        try:
            result = job.call()
        except BaseException as error:  # noqa: BLE001 - a background job's failure belongs to its Future
            self._count(lane, job, error)
            job.future.set_exception(error)
        else:
            self._count(lane, job, None)
            job.future.set_result(result)
        with self._lock:
            del lane.running[current_thread()]
            self._tell_if_idle_locked()

    def _count(self, lane: _Lane, job: _Job, error: BaseException | None) -> None:
        with self._lock:
            lane.tally.count(error)
            job.counted = True
            if job.repeat is not None:
                job.repeat.job, job.repeat.due = None, monotonic() + job.repeat.interval_seconds

    def _leave(self, lane: _Lane, cause: BaseException | None) -> None:
        with self._lock:
            if cause is not None:
                lane.bury(current_thread(), cause)
            else:
                lane.threads.pop(current_thread(), None)
        self._tell_falling(lane)

    # --- death -------------------------------------------------------------------------------------------

    def _bury_the_dead(self) -> None:
        """Notice threads that ended without a word: in a process that was forked, for one."""
        for lane in self._lanes.values():
            with self._lock:
                self._bury_locked(lane)
            self._tell_falling(lane)

    def _bury_locked(self, lane: _Lane) -> None:
        for thread in self._ended(lane):
            lane.bury(thread, None)

    def _ended(self, lane: _Lane) -> list[Thread]:
        """Return the threads whose end was not noticed yet. A fork leaves none of them to the child."""
        if os.getpid() != self._process_id:
            return [thread for thread in lane.threads if thread not in lane.dead]
        return lane.ended()

    def _tell_falling(self, lane: _Lane) -> None:
        for job in tuple(lane.falling):
            # A future may be cancelled or even done already, and what its callbacks raise is for nobody here.
            with suppress(BaseException):
                job.future.set_exception(lane.died())
        with self._lock:
            lane.falling = [job for job in lane.falling if not job.future.done()]
            self._tell_if_idle_locked()

    # --- small things ------------------------------------------------------------------------------------

    def _lane(self, name: str) -> _Lane:
        assert name in self._lanes, f"there is no lane {name!r}"
        return self._lanes[name]

    def _check_locked(self, lane: _Lane) -> None:
        if self._closed:
            raise _closed(lane.name)
        self._bury_locked(lane)
        if lane.dead:
            raise lane.died()

    def _check_outside(self) -> None:
        me = current_thread()
        inside = any(me in lane.running for lane in self._lanes.values())
        assert not inside, "a job that waits for all jobs waits for itself"

    def _has_hands_locked(self, lane: _Lane) -> bool:
        """See to it that somebody will run one more job."""
        spare = len(lane.threads) - len(lane.running)
        if len(lane.waiting) >= spare and len(lane.threads) < lane.threads_max:
            self._start_thread_locked(lane)
        return bool(lane.threads)

    def _mind_time_locked(self, lane: _Lane) -> None:
        """See to it that a thread that has nothing else to do waits for the next periodic job, if there can be one."""
        if len(lane.running) < len(lane.threads):
            lane.wakes.put(None)
        elif len(lane.threads) < lane.threads_max and not self._dismissed:
            self._start_thread_locked(lane)

    def _start_thread_locked(self, lane: _Lane) -> None:
        name = f"mitoframe-{lane.name}-{len(lane.threads)}"
        # A daemon, because Python would otherwise wait for it before it calls what ends it, see `_finish_at_exit`.
        life = Lock()
        life.acquire()
        thread = Thread(target=self.work, args=(lane, life), name=name, daemon=True)
        with suppress(RuntimeError):  # The system has no more threads, or Python starts none on its way out.
            thread.start()
            lane.threads[thread] = life

    def _stop(self, lane: _Lane, repeat: _Repeat) -> None:
        with self._lock:
            if repeat in lane.repeats:
                lane.repeats.remove(repeat)
            job = repeat.job
        if job is not None:
            job.future.cancel()

    def _is_idle_locked(self) -> bool:
        return all(lane.is_idle() for lane in self._lanes.values() if lane.is_awaited)

    def _tell_if_idle_locked(self) -> None:
        if self._is_idle_locked():
            self._idle.notify_all()


_crews: WeakSet[_Crew] = WeakSet()
_exiting = Event()


@atexit.register
def _finish_at_exit() -> None:
    _exiting.set()
    crews = list(_crews)
    for crew in crews:
        crew.dismiss()
    for crew in crews:
        crew.join()


def _run_here(job: Callable[[], Result], tally: _Tally) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()
    try:
        result = job()
    except Exception as error:  # noqa: BLE001 - a background job's failure belongs to its Future
        tally.count(error)
        future.set_exception(error)
    except BaseException as error:
        tally.count(error)
        raise
    else:
        tally.count(None)
        future.set_result(result)
    return future


def _health(
    lane: str, tally: _Tally, *, threads: int = 0, alive: int = 0, running: int = 0, waiting: int = 0
) -> LaneHealth:
    return LaneHealth(
        lane=lane,
        threads=threads,
        alive=alive,
        running=running,
        waiting=waiting,
        finished=tally.finished,
        failed=tally.failed,
        last_error=tally.last_error,
    )


def _closed(lane: str) -> ClosedError:
    return ClosedError(f"the scheduler takes no more jobs (lane {lane!r}). Open the store again.")
