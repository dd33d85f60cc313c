"""What is worth keeping of a store's files in memory, under one budget for all of it.

    footers      of opened SSTs: Parquet metadata, series, offsets
    chunks       decoded columns of row groups
    pages        where those of a column begin, and its dictionary
    indexes      of SSTs, decoded
    selections   which rows of a file with many series a condition chose, and which of a merged group are the newest
    last rows    of every series in a file
    results      of whole questions, good for one moment of a region

When the budget is spent, the least recently used chunks go first: they are many and cheap to read again. Only then does
what else is there go, the least recently used first. Every entry belongs to an owner, a file as a rule, and goes with
it: files never change, so an entry is right for as long as its file is there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["footers", "chunks", "pages", "indexes", "selections", "last rows", "results"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ENTRY_BYTES = 256
"""What an entry costs beside its value."""

_Key: TypeAlias = tuple[Kind, Hashable, Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """How one kind of entry fares."""

    kind: Kind
    entry_count: int
    size_bytes: int
    hits: int
    misses: int
    evictions: int


class _Ledger:
    """What is counted of one kind."""

    __slots__ = ("entries", "evictions", "hits", "misses", "size_bytes")

    def __init__(self) -> None:
        self.entries = self.size_bytes = self.hits = self.misses = self.evictions = 0


class Cache:
    """A dictionary of limited size, shared by all scans of a store. Safe to use from several threads."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._lock = Lock()
        self._chunks: OrderedDict[_Key, tuple[Any, int]] = OrderedDict()
        self._others: OrderedDict[_Key, tuple[Any, int]] = OrderedDict()
        self._owned: dict[Hashable, set[_Key]] = {}
        self._counts: dict[tuple[Kind, Hashable], int] = {}
        self._ledgers = {kind: _Ledger() for kind in KINDS}
        self._size_bytes = 0

    def get(self, kind: Kind, owner: Hashable, key: Hashable = None) -> Any:
        """Return what is kept, or None."""
        full_key = kind, owner, key
        with self._lock:
            shelf, ledger = self._shelf(kind), self._ledgers[kind]
            entry = shelf.get(full_key)
            if entry is None:
                ledger.misses += 1
                return None
            ledger.hits += 1
            shelf.move_to_end(full_key)
            return entry[0]

    def holds(self, kind: Kind, owner: Hashable, key: Hashable = None) -> bool:
        """Tell whether something is kept, without a claim on it."""
        return (kind, owner, key) in self._shelf(kind)

    def holds_any(self, kind: Kind, owner: Hashable) -> bool:
        """Tell whether something of a kind is kept for an owner."""
        return self._counts.get((kind, owner), 0) > 0

    def put(self, kind: Kind, owner: Hashable, key: Hashable, value: Any, size_bytes: int) -> None:
        """Keep a value of that size, and let others go until everything fits. One over the budget is not kept."""
        full_key = kind, owner, key
        cost = size_bytes + _ENTRY_BYTES
        with self._lock:
            self._remove_locked(full_key)
            if cost > self.budget_bytes:
                return
            self._shelf(kind)[full_key] = value, cost
            self._owned.setdefault(owner, set()).add(full_key)
            self._counts[kind, owner] = self._counts.get((kind, owner), 0) + 1
            self._size_bytes += cost
            ledger = self._ledgers[kind]
            ledger.entries += 1
            ledger.size_bytes += cost
            while self._size_bytes > self.budget_bytes:
                self._evict_locked()

    def forget(self, owner: Hashable) -> None:
        """Drop all that belongs to an owner."""
        with self._lock:
            for full_key in tuple(self._owned.get(owner, ())):
                self._remove_locked(full_key)

    def use(self) -> tuple[CacheUse, ...]:
        """Say how each kind fares."""
        with self._lock:
            return tuple(
                CacheUse(
                    kind=kind,
                    entry_count=ledger.entries,
                    size_bytes=ledger.size_bytes,
                    hits=ledger.hits,
                    misses=ledger.misses,
                    evictions=ledger.evictions,
                )
                for kind, ledger in self._ledgers.items()
            )

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def entry_count(self) -> int:
        return len(self._chunks) + len(self._others)

    def _shelf(self, kind: Kind) -> OrderedDict[_Key, tuple[Any, int]]:
        return self._chunks if kind == "chunks" else self._others

    def _evict_locked(self) -> None:
        oldest = next(iter(self._chunks or self._others))
        self._ledgers[oldest[0]].evictions += 1
        self._remove_locked(oldest)

    def _remove_locked(self, full_key: _Key) -> None:
        kind, owner, _ = full_key
        entry = self._shelf(kind).pop(full_key, None)
        if entry is None:
            return
        owned = self._owned[owner]
        owned.discard(full_key)
        if not owned:
            del self._owned[owner]
        left = self._counts.pop((kind, owner)) - 1
        if left:
            self._counts[kind, owner] = left
        self._size_bytes -= entry[1]
        self._ledgers[kind].entries -= 1
        self._ledgers[kind].size_bytes -= entry[1]
