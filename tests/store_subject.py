"""A store in a file, as `mitoframe.testing.machine_kv` and its contract take it."""

from __future__ import annotations

from pathlib import Path

from mitoframe import kv
from mitoframe.testing.machine_kv import Subject


class StoreSubject(Subject):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._open()

    def reopen(self) -> None:
        self.store.close()
        self._open()

    def _open(self) -> None:
        self.store = kv.open(self.path, now=self.clock.monotonic)
        # The first look at leases gives each its full time; it is not left to the thread, which looks when it likes.
        self.store._lessor.tick()

    def expire(self) -> None:
        self.store._lessor.tick()

    def verify(self) -> None:
        self.store.verify()
