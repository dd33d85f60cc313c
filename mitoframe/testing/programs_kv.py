"""Random requests to a key-value store with revisions, drawn so that they meet each other.

There are few keys, values and leases, and revisions near those that matter: the newest, the compacted one, and one to
either side. What is drawn depends on a `MemoryKV`, which says what is there. Requests are words of
`mitoframe.model.keyvalue`, not calls: who runs them on two stores sends the same to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mitoframe.model.keyvalue import (
    FROM_KEY,
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    Relation,
    SortOrder,
    SortTarget,
    Target,
    Txn,
)
from mitoframe.testing.model_kv import MemoryKV, number_of

# Neighbours byte by byte: what follows a, what begins like it, what is the end of its prefix, the last of all.
KEYS = (b"\x00", b"a", b"a\x00", b"aa", b"ab", b"a\xff", b"b", b"ba", b"\xff\xff")
ENDS = (*KEYS, FROM_KEY, b"")
VALUES = (b"", b"\x00", b"1", b"2", b"22")
TARGETS: tuple[Target, ...] = ("create", "mod", "version", "value", "lease")
RELATIONS: tuple[Relation, ...] = ("=", "!=", ">", "<")
SORT_TARGETS: tuple[SortTarget, ...] = ("key", "version", "create", "mod", "value")
ORDERS: tuple[SortOrder, ...] = ("none", "ascending", "descending")

Item = TypeVar("Item")


class Random(Protocol):
    """What is needed of ``random.Random``; of Hypothesis it is one that can be shrunk."""

    def choice(self, seq: Sequence[Any], /) -> Any: ...
    def randint(self, a: int, b: int, /) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a watcher is asked to watch."""

    key: bytes
    end: bytes | None
    start_revision: int
    prev_kv: bool
    filters: tuple[str, ...]


class Requests:
    """Draws requests to a store that is as ``model`` is."""

    def __init__(self, random: Random, model: MemoryKV, leases: Sequence[int]) -> None:
        self._random, self._model = random, model
        self._leases = leases

    def operation(self, depth: int = 2) -> Operation:
        kind = self._one_in(8) if depth else False
        if kind:
            return self.txn(depth - 1)
        draw = self._choice((self.put, self.put, self.put, self.get, self.get, self.delete))
        operation: Operation = draw()
        return operation

    def txn(self, depth: int = 2) -> Txn:
        compare = [self.compare() for _ in range(self._random.randint(0, 2))]
        success = [self.operation(depth) for _ in range(self._random.randint(0, 3))]
        failure = [self.operation(depth) for _ in range(self._random.randint(0, 2))]
        return Txn(compare, success, failure)

    def put(self) -> Put:
        ignore_value, ignore_lease = self._one_in(8), self._one_in(8)
        # Every now and then what is given beside is wrong.
        value = b"" if ignore_value and not self._one_in(6) else self._choice(VALUES)
        lease = 0 if ignore_lease and not self._one_in(6) else self.lease()
        return Put(self.key(), value, lease, self._one_in(3), ignore_value, ignore_lease)

    def delete(self) -> Delete:
        return Delete(self.key(), self.end(), self._one_in(2))

    def get(self) -> Get:
        key, end = self.key(), self.end()
        if self._one_in(3):
            return Get(key, end, self.revision())
        return Get(
            key,
            end,
            self.revision(),
            limit=self._random.randint(0, 4),
            sort_by=self._choice(SORT_TARGETS),
            order=self._choice(ORDERS),
            keys_only=self._one_in(4),
            count_only=self._one_in(8),
            min_mod=self._bound(),
            max_mod=self._bound(),
            min_create=self._bound(),
            max_create=self._bound(),
        )

    def compare(self) -> Compare:
        target = self._choice(TARGETS)
        key, end = self.key(), self.end() if self._one_in(3) else None
        return Compare(key, target, self._compared_value(key, target), self._choice(RELATIONS), end)

    def watched(self) -> Watched:
        key, end = self.key(), self.end()
        while end and end != FROM_KEY and end <= key:
            key, end = self.key(), self.end()
        start_revision = 0 if self._one_in(4) else max(self._model.revision + self._random.randint(-8, 2), 0)
        filters = self._choice(((), (), (), ("put",), ("delete",), ("put", "delete")))
        return Watched(
            key=key, end=end, start_revision=start_revision, prev_kv=self._one_in(2), filters=filters
        )  # fmt: skip

    def key(self) -> bytes:
        return b"" if self._one_in(150) else self._choice(KEYS)

    def end(self) -> bytes | None:
        return self._choice(ENDS) if self._one_in(2) else None

    def lease(self) -> int:
        if self._one_in(40):
            return 999
        return self._choice(self._leases) if self._leases and self._one_in(3) else 0

    def revision(self) -> int:
        """Return a revision to look at: mostly the newest, often one that is kept, at times one too far."""
        if not self._one_in(3):
            return 0
        newest, oldest = self._model.revision, max(self._model.compact_revision, 1)
        if self._one_in(12):
            return self._choice((newest + 1, max(oldest - 1, 0)))
        return self._random.randint(max(oldest, newest - 12), newest)

    def compacted_revision(self) -> int:
        newest, oldest = self._model.revision, max(self._model.compact_revision, 0)
        if self._one_in(4):
            return self._choice((newest + 1, newest, oldest, max(oldest - 1, 0)))
        return self._random.randint(oldest, newest)

    def _bound(self) -> int:
        if not self._one_in(8):
            return 0
        return max(self._model.revision - self._random.randint(0, 8), 0)

    def _compared_value(self, key: bytes, target: Target) -> bytes | int:
        kv = self._model.moment(self._model.revision).contents.get(key)
        if target == "value":
            return kv.value if kv and self._one_in(2) else self._choice(VALUES)
        number = number_of(kv or ABSENT, target)
        assert isinstance(number, int)
        return number if self._one_in(2) else max(number + self._random.randint(-1, 1), 0)

    def _one_in(self, many: int) -> bool:
        return self._random.randint(1, many) == many

    def _choice(self, items: Sequence[Item]) -> Item:
        item: Item = self._random.choice(items)
        return item


ABSENT = KeyValue(key=b"", value=b"", create_revision=0, mod_revision=0, version=0)
