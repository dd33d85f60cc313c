"""What is worth keeping of opened files, under one budget: the least recently used goes first."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """A dictionary that holds at most ``budget_bytes``. Safe to use from several threads."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._entries: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._size_bytes = 0
        self._lock = Lock()
        self.hits = 0
        self.misses = 0

    def get(self, key: str) -> Value | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: str, value: Value, size_bytes: int) -> None:
        """Keep a value of that size, and drop the oldest until everything fits. One over the budget is not kept."""
        with self._lock:
            self._remove_locked(key)
            if size_bytes > self._budget_bytes:
                return
            self._entries[key] = (value, size_bytes)
            self._size_bytes += size_bytes
            while self._size_bytes > self._budget_bytes:
                _, (_, freed) = self._entries.popitem(last=False)
                self._size_bytes -= freed

    def discard(self, key: str) -> None:
        with self._lock:
            self._remove_locked(key)

    def _remove_locked(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= entry[1]

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._entries)
