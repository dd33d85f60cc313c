"""A region's gate: writes go through side by side; a change of the region itself waits for them and goes alone.

While somebody waits to go alone nobody new is let in, so that a steady stream of writes cannot keep a change out. A
write that finds the gate shut waits, up to its deadline.

Whoever goes through carries a *ticket*: a lock of its own, which it holds by a ``with`` statement for as long as it is
inside. Giving it back is leaving. A thread may be interrupted (Ctrl-C) between any two steps, and then what is left to
do is not done; but a ``with`` on a lock is never left without the lock being given back. Nobody is told of that: those
who wait look again every few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic, sleep

from mitoframe.model.errors import BusyError

_LOOK_AGAIN_SECONDS = 0.002


class Gate:
    def __init__(self) -> None:
        self._lock = Lock()
        self._inside: list[Lock] = []
        self._alone: list[Lock] = []

    def enter(self, ticket: Lock, timeout_ms: int) -> None:
        """Go through unless somebody goes alone. Requires: ``ticket`` is held, by a ``with`` statement.

        Raises:
            BusyError: the gate stayed shut for ``timeout_ms``.

        """
        _wait(lambda: self._joins(self._inside, ticket), timeout_ms, "a change of the table")

    def enter_alone(self, ticket: Lock, timeout_ms: int) -> None:
        """Wait until everybody is out, and keep everybody out. Requires: as for `enter`.

        Raises:
            BusyError: somebody stayed inside for ``timeout_ms``.

        """
        _wait(lambda: self._joins(self._alone, ticket), timeout_ms, "another change of the table")
        _wait(lambda: not self._has_anybody(self._inside), timeout_ms, "writes that are under way")

    @contextmanager
    def alone(self, timeout_ms: int) -> Iterator[None]:
        """`enter_alone` for a block. Requires: on a thread that nobody interrupts."""
        ticket = Lock()
        with ticket:
            self.enter_alone(ticket, timeout_ms)
            yield

    def waiting(self) -> bool:
        """Tell whether somebody is alone, or about to be."""
        return self._has_anybody(self._alone)

    def _joins(self, group: list[Lock], ticket: Lock) -> bool:
        with self._lock:
            if _held(self._alone):
                return False
            group[:] = [*_held(group), ticket]
            return True

    def _has_anybody(self, group: list[Lock]) -> bool:
        with self._lock:
            return bool(_held(group))


def _held(group: list[Lock]) -> list[Lock]:
    return [ticket for ticket in group if ticket.locked()]


def _wait(ready: Callable[[], bool], timeout_ms: int, what: str) -> None:
    deadline = monotonic() + timeout_ms / 1000
    while not ready():
        if monotonic() >= deadline:
            raise BusyError(
                f"waited {timeout_ms} ms for {what} and gave up; nothing was changed. Retry, or raise write_stall_ms."
            )
        sleep(_LOOK_AGAIN_SECONDS)
