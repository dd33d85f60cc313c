"""Random requests to a key-value store with revisions, drawn so that they meet each other.

There are few keys, values and leases, and revisions near those that matter: the newest, the compacted one, and one to
either side. What is drawn depends on a `MemoryKV`, which says what is there. Requests are words of
`mitoframe.model.keyvalue`, not calls: who runs them on two stores sends the same to both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mitoframe.model.errors import CompactedError, MitoError
from mitoframe.model.keyvalue import (
    FROM_KEY,
    Compare,
    Delete,
    Get,
    KeyValue,
    Operation,
    Put,
    Relation,
    Response,
    SortOrder,
    SortTarget,
    Target,
    Txn,
    WatchBatch,
)
from mitoframe.testing.model_kv import MemoryKV
from mitoframe.testing.requests_kv import number_of

# Neighbours byte by byte: what follows a, what begins like it, what is the end of its prefix, the last of all.
KEYS = (b"\x00", b"a", b"a\x00", b"aa", b"ab", b"a\xff", b"b", b"ba", b"\xff\xff")
ENDS = (*KEYS, FROM_KEY)
VALUES = (b"", b"\x00", b"1", b"2", b"22")
TARGETS: tuple[Target, ...] = ("create", "mod", "version", "value", "lease")
RELATIONS: tuple[Relation, ...] = ("=", "!=", ">", "<")
SORT_TARGETS: tuple[SortTarget, ...] = ("key", "version", "create", "mod", "value")
ORDERS: tuple[SortOrder, ...] = ("none", "ascending", "descending")
GET_OPTIONS = (
    "revision", "limit", "sort_by", "order", "keys_only", "count_only", "min_mod", "max_mod", "min_create", "max_create"
)  # fmt: skip

Item = TypeVar("Item")


class Random(Protocol):
    """What is needed of ``random.Random``."""

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
        if depth and self._one_in(6):
            return self.txn(depth - 1)
        kind = self._random.randint(1, 8)
        if kind <= 4:
            return self.put()
        return self.get() if kind <= 7 else self.delete()

    def txn(self, depth: int = 2) -> Txn:
        compare = [self.compare() for _ in range(self._random.randint(0, 2))]
        success = [self.operation(depth) for _ in range(self._random.randint(0, 3))]
        failure = [self.operation(depth) for _ in range(self._random.randint(0, 2))]
        return Txn(compare, success, failure)

    def put(self) -> Put:
        ignore_value, ignore_lease = self._one_in(12), self._one_in(12)
        # Every now and then what is given beside is wrong.
        value = b"" if ignore_value and not self._one_in(6) else self._choice(VALUES)
        lease = 0 if ignore_lease and not self._one_in(6) else self.lease()
        return Put(self.key(), value, lease, self._one_in(3), ignore_value, ignore_lease)

    def delete(self) -> Delete:
        return Delete(self.key(), self.end() if self._one_in(2) else None, self._one_in(2))

    def get(self) -> Get:
        key, end = self.span()
        if self._one_in(4):
            return Get(key, end, self.revision())
        (min_mod, max_mod), (min_create, max_create) = self._bounds(), self._bounds()
        return Get(
            key,
            end,
            self.revision(),
            limit=self._random.randint(0, 4),
            sort_by=self._choice(SORT_TARGETS),
            order=self._choice(ORDERS),
            keys_only=self._one_in(4),
            count_only=self._one_in(8),
            min_mod=min_mod,
            max_mod=max_mod,
            min_create=min_create,
            max_create=max_create,
        )

    def compare(self) -> Compare:
        target = self._choice(TARGETS)
        key, end = self.span() if self._one_in(3) else (self.key(), None)
        return Compare(key, target, self._compared_value(key, target), self._choice(RELATIONS), end)

    def watched(self) -> Watched:
        key, end = self._choice(KEYS), self.end()
        while end is not None and end != FROM_KEY and end <= key:
            key, end = self._choice(KEYS), self.end()
        newest, oldest = self._model.revision, self._model.compact_revision
        start_revision = self._choice((0, oldest, oldest, newest + self._random.randint(-8, 2)))
        filters = self._choice(((), (), (), ("put",), ("delete",), ("put", "delete")))
        return Watched(
            key=key, end=end, start_revision=max(start_revision, 0), prev_kv=self._one_in(2), filters=filters
        )  # fmt: skip

    def span(self) -> tuple[bytes, bytes | None]:
        """Return a key and an end, which are everything every now and then."""
        return (b"\0", FROM_KEY) if self._one_in(3) else (self.key(), self.end())

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
        return self._choice((oldest, self._random.randint(max(oldest, newest - 12), newest)))

    def compacted_revision(self) -> int:
        newest, oldest = self._model.revision, max(self._model.compact_revision, 0)
        if self._one_in(4):
            return self._choice((newest + 1, newest, oldest, max(oldest - 1, 0)))
        return self._random.randint(oldest, newest)

    def _bounds(self) -> tuple[int, int]:
        if not self._one_in(4):
            return 0, 0
        newest = self._model.revision
        least, most = (max(newest - self._random.randint(0, 8), 0) for _ in range(2))
        least = least if self._one_in(2) else 0
        return (least, most) if least <= most or self._one_in(6) else (most, least)

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


# --- running them --------------------------------------------------------------------------------------


def run(store: Any, operation: Operation) -> Response:
    """Run an operation by the call that a store has for it."""
    match operation:
        case Put(key, value):
            options = ("lease", "prev_kv", "ignore_value", "ignore_lease")
            answer = store.put(key, value, **_fields(operation, options))
        case Get(key, end):
            answer = store.range(key, end, **_fields(operation, GET_OPTIONS))
        case Delete(key, end, prev_kv):
            answer = store.delete(key, end, prev_kv=prev_kv)
        case Txn(compare, success, failure):
            answer = store.txn(compare, success, failure)
    response: Response = answer
    return response


def outcome(call: Callable[[], object]) -> object:
    """Return what a call answers, or the error that it raises."""
    try:
        return call()
    except MitoError as error:
        return error


def essence(answer: object) -> object:
    """Return of an error what two stores must agree on, which is not its words; and anything else as it is."""
    if not isinstance(answer, MitoError):
        return answer
    fields = ("compact_revision", "current_revision")
    return type(answer), [getattr(answer, name, None) for name in fields]


def told(watcher: Any) -> tuple[list[WatchBatch], object]:
    """Return what a watcher has to tell without waiting, and the essence of the error by which it is over."""
    batches: list[WatchBatch] = []
    try:
        while (batch := watcher.next(timeout=0)) is not None:
            batches.append(batch)
    except CompactedError as error:
        return batches, essence(error)
    return batches, None


def _fields(operation: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(operation, name) for name in names}
