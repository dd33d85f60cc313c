"""A region's gate: writes go through side by side; a change of the region itself waits for them and goes alone.

While somebody waits to go alone nobody new is let in, so that a steady stream of writes cannot keep a change out. A
write that finds the gate shut waits, up to its deadline.

A thread that is interrupted (Ctrl-C) anywhere on its way holds nothing afterwards: what stands for being inside is an
object that dies with the frame that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from time import monotonic
from weakref import WeakSet

from mitoframe.model.errors import BusyError

_LOOK_AGAIN_SECONDS = 0.05


class _Token:
    """Somebody who is inside, or waits to be alone."""

    __slots__ = ("__weakref__",)


class Gate:
    def __init__(self) -> None:
        self._changed = Condition()
        self._inside: WeakSet[_Token] = WeakSet()
        self._alone: WeakSet[_Token] = WeakSet()

    @contextmanager
    def shared(self, timeout_ms: int) -> Iterator[None]:
        """Go through unless somebody goes alone.

        Raises:
            BusyError: the gate stayed shut for ``timeout_ms``.

        """
        token = _Token()
        with self._changed:
            self._wait(lambda: not self._alone, timeout_ms, "a change of the table")
            self._inside.add(token)
        try:
            yield
        finally:
            self._leave(self._inside, token)

    @contextmanager
    def alone(self, timeout_ms: int) -> Iterator[None]:
        """Wait until everybody is out, and keep everybody out.

        Raises:
            BusyError: somebody stayed inside for ``timeout_ms``.

        """
        token = _Token()
        with self._changed:
            self._wait(lambda: not self._alone, timeout_ms, "another change of the table")
            self._alone.add(token)
        try:
            with self._changed:
                self._wait(lambda: not self._inside, timeout_ms, "writes that are under way")
            yield
        finally:
            self._leave(self._alone, token)

    def waiting(self) -> bool:
        """Tell whether somebody is alone, or about to be."""
        return bool(self._alone)

    def _wait(self, ready: Callable[[], bool], timeout_ms: int, what: str) -> None:
        deadline = monotonic() + timeout_ms / 1000
        while not ready():
            left = deadline - monotonic()
            if left <= 0:
                raise BusyError(
                    f"waited {timeout_ms} ms for {what} and gave up; nothing was changed. "
                    "Retry, or raise write_stall_ms."
                )
            # Woken when somebody leaves; looks again by itself for those who were interrupted and said nothing.
            self._changed.wait(min(left, _LOOK_AGAIN_SECONDS))

    def _leave(self, group: WeakSet[_Token], token: _Token) -> None:
        with self._changed:
            group.discard(token)
            self._changed.notify_all()
