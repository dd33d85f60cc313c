"""Ordinary stores and logs that wait at a gate, so that a test decides what happens while they work."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.failpoints import watching

PATIENCE_SECONDS = 10


class Gate:
    """Open until it is closed. `reached` returns when somebody waits at it."""

    def __init__(self) -> None:
        self._open, self._waiting = threading.Event(), threading.Semaphore(0)
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        if not self._open.is_set():
            self._waiting.release()
            assert self._open.wait(PATIENCE_SECONDS), "nobody opened the gate"

    def reached(self) -> None:
        assert self._waiting.acquire(timeout=PATIENCE_SECONDS), "nobody came to the gate"


@contextmanager
def merges_wait() -> Iterator[Gate]:
    """Let every merge wait when its outputs are stored and nothing is committed."""
    gate = Gate()
    gate.close()

    def wait(name: str) -> None:
        if name == "compact.sst_stored":
            gate.wait()

    with watching(wait):
        try:
            yield gate
        finally:
            gate.open()


class GatedStore(MemoryObjectStore):
    """Waits before an SST is stored, and raises ``error`` instead of storing one if there is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.error: BaseException | None = None

    def put_if_absent(self, key, data):
        if "/sst/" in key:
            self.gate.wait()
            if self.error is not None:
                raise self.error
        super().put_if_absent(key, data)


class GatedLog(MemoryLog):
    """Waits before a sync, counts, and raises the errors it is given instead of appending or syncing."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.groups: list[int] = []
        self.syncs = 0
        self.append_error: BaseException | None = None
        self.sync_error: BaseException | None = None

    def append(self, entries):
        if self.append_error is not None:
            raise self.append_error
        self.groups.append(len(entries))
        return super().append(entries)

    def sync(self):
        self.gate.wait()
        if self.sync_error is not None:
            raise self.sync_error
        self.syncs += 1
        super().sync()


class Task(threading.Thread):
    """Runs a function in a thread of its own and keeps what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self.error = error

    def result(self) -> Any:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), "the task did not end"
        if self.error is not None:
            raise self.error
        return self._result


def wait_until(condition: Callable[[], bool], *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + patience_seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


def interrupted(function: Callable[[], Any], after_seconds: float) -> KeyboardInterrupt | None:
    """Run a function on the main thread and interrupt it as Ctrl-C does; return the interruption, if it was in time.

    Whoever keeps what is returned keeps the frames it came through, as a notebook does.
    """
    armed = True

    def strike(*_: object) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, after_seconds)
        function()
    except KeyboardInterrupt as interruption:
        return interruption
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return None


class Interruptible(threading.Thread):
    """Calls a function again and again until `stop`; every error, one from outside included, starts it anew."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._turn, self._is_over = threading.Lock(), False
        self.errors: list[BaseException] = []
        self.start()

    def run(self) -> None:
        while not self._is_over:
            try:
                self._call()
            except BaseException as error:  # noqa: BLE001 - kept, with the frames it came through
                self.errors.append(error)

    def _call(self) -> None:
        while not self._is_over:
            try:
                self._function()
            except BaseException as error:  # noqa: BLE001
                self.errors.append(error)

    def interrupt(self) -> None:
        with self._turn:
            if not self._is_over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.ident or 0), ctypes.py_object(KeyboardInterrupt)
                )

    def stop(self) -> None:
        with self._turn:
            self._is_over = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), None)
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), "the thread did not end"
