"""How much memory merges may take together, and what becomes of one for which there is not enough.

    it would take more than there ever is      `LimitExceededError`, at once: it is to be skipped, and others go on
    others have what it would take             it waits for a while until they are done, or fails (`BusyError`)

What is taken is an estimate (jobs/outputs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic, sleep
from typing import Literal, TypeAlias

from mitoframe.model.errors import BusyError, ConflictError, LimitExceededError

OnExhausted: TypeAlias = Literal["wait", "fail"]

LOOK_AGAIN_SECONDS = 0.05


class Allowance:
    """Bytes of memory to be lent; ``limit_bytes=None`` is no limit."""

    def __init__(self, limit_bytes: int | None, *, on_exhausted: OnExhausted = "wait", wait_ms: int = 10_000) -> None:
        self._limit_bytes, self._on_exhausted, self._wait_ms = limit_bytes, on_exhausted, wait_ms
        self._lock = Lock()
        self._taken_bytes = 0

    @property
    def taken_bytes(self) -> int:
        return self._taken_bytes

    @contextmanager
    def lend(self, size_bytes: int, is_over: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold so many bytes until the block is left.

        Raises:
            LimitExceededError: there are never so many.
            BusyError: others have them, and did not give them back in time.
            ConflictError: ``is_over`` said while waiting that nobody wants them any more.

        """
        if self._limit_bytes is not None and size_bytes > self._limit_bytes:
            raise LimitExceededError(
                f"the merge would take about {size_bytes} bytes of memory, and all together may take "
                f"{self._limit_bytes}; raise compaction_memory_limit_bytes, or lower row_group_rows."
            )
        self._take(size_bytes, is_over)
        try:
            yield
        finally:
            with self._lock:
                self._taken_bytes -= size_bytes

    def _take(self, size_bytes: int, is_over: Callable[[], bool]) -> None:
        deadline = monotonic() + (self._wait_ms / 1000 if self._on_exhausted == "wait" else 0)
        while not self._try_to_take(size_bytes):
            if is_over():
                raise ConflictError("the compaction was given up while it waited for memory; nothing was changed.")
            if monotonic() >= deadline:
                raise BusyError(
                    "other merges have the memory that this one would take; nothing was changed. Retry later, or raise "
                    "compaction_memory_limit_bytes."
                )
            sleep(LOOK_AGAIN_SECONDS)

    def _try_to_take(self, size_bytes: int) -> bool:
        with self._lock:
            if self._limit_bytes is not None and self._taken_bytes + size_bytes > self._limit_bytes:
                return False
            self._taken_bytes += size_bytes
            return True
