"""What a key-value store with revisions is, written down: slow and obvious.

`MemoryKV` keeps the whole contents of the store after every revision in a list, and beside them what happened at that
revision. Nothing is ever taken out of the list: compaction is one number, below which nobody may look. Which keys a
lease has is looked up in the contents, and a watcher is a number that walks through the list. Other stores are held
against this one (`mitoframe.testing.contracts_kv`), and this one is held against etcd.

It has the calls of `mitoframe.kv.KeyValueStore`, except those about files, frames and other processes. Leases run out
by the clock it is given, when `expire` is called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, TypeAlias

import google_crc32c

from mitoframe.model.errors import (
    ClosedError,
    CompactedError,
    FutureRevisionError,
    InvalidInputError,
    LimitExceededError,
)
from mitoframe.model.keyvalue import (
    FROM_KEY,
    Change,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    HashInfo,
    KeyValue,
    Operation,
    Put,
    PutResult,
    RangeResult,
    Response,
    SortOrder,
    SortTarget,
    Status,
    Txn,
    TxnResult,
    WatchBatch,
    prefix_end,
)

OPERATIONS_MAX = 128
REQUEST_BYTES_MAX = 1_572_864
TTL_SECONDS_MAX = 9_000_000_000

Contents: TypeAlias = Mapping[bytes, KeyValue]
EventKind: TypeAlias = Literal["put", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The store after a revision: all that it held, and what had happened, in order."""

    contents: Contents
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    ttl_seconds: int
    ends_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A transaction after its comparisons, and those of the transactions in it, were looked at."""

    succeeded: bool
    operations: tuple[Put | Get | Delete | Taken, ...]

    def all_operations(self) -> Iterator[Put | Get | Delete]:
        for operation in self.operations:
            if isinstance(operation, Taken):
                yield from operation.all_operations()
            else:
                yield operation


class MemoryKV:
    """A key-value store that ends with the process.

    >>> store = MemoryKV()
    >>> store.put(b"a", b"1").revision, store.put(b"a", b"2").revision
    (2, 3)
    >>> store.get(b"a", revision=2).value
    b'1'
    """

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._changed = threading.Condition(threading.RLock())
        self._is_closed = False
        # The first moment is revision 1: empty, and nothing has happened.
        self._moments: list[Moment] = [Moment(contents={})]
        self._compact_revision = -1
        self._leases: dict[int, Granted] = {}
        self._last_lease = 0

    def __enter__(self) -> MemoryKV:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def revision(self) -> int:
        return len(self._moments)

    @property
    def compact_revision(self) -> int:
        return self._compact_revision

    def reopen(self) -> None:
        """Do what closing and opening does to a store that is kept: leases have their full time again."""
        with self._changed:
            self._is_closed = False
            for lease, granted in self._leases.items():
                self._leases[lease] = replace(granted, ends_at=self._now() + granted.ttl_seconds)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # --- reading ---------------------------------------------------------------------------------------

    def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        found = self.range(key, revision=revision).kvs
        return found[0] if found else None

    def range(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        prefix: bool = False,
        revision: int = 0,
        limit: int = 0,
        sort_by: SortTarget = "key",
        order: SortOrder = "none",
        keys_only: bool = False,
        count_only: bool = False,
        min_mod: int = 0,
        max_mod: int = 0,
        min_create: int = 0,
        max_create: int = 0,
    ) -> RangeResult:
        key, end = span_of(key, end, prefix)
        bounds = (min_mod, max_mod, min_create, max_create)
        asked = Get(key, end, revision, limit, sort_by, order, keys_only, count_only, *bounds)
        answer = self.txn((), (asked,)).responses[0]
        assert isinstance(answer, RangeResult)
        return answer

    def changes(self, key: bytes, end: bytes | None, *, after: int) -> tuple[int, tuple[Change, ...]]:
        """Return the current revision, and of every key of the range that changed after ``after`` its latest state."""
        _require_span(key, end)
        with self._changed:
            self._require_open()
            first = max(after, 0) + 1
            if first < self._compact_revision:
                raise CompactedError(first, self._compact_revision)
            events = [event for moment in self._moments[first - 1 :] for event in moment.events]
        latest = {event.kv.key: event for event in events if is_within(event.kv.key, key, end)}
        return self.revision, tuple(_change_of(latest[name]) for name in sorted(latest))

    def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        prefix: bool = False,
        start_revision: int = 0,
        prev_kv: bool = False,
        filters: Iterable[EventKind] = (),
    ) -> MemoryWatcher:
        """Return a watcher of what happens from ``start_revision`` on; 0 is what is next. ``filters`` are left out."""
        key, end = span_of(key, end, prefix)
        _require_span(key, end)
        if end is not None and end != FROM_KEY and end <= key:
            raise InvalidInputError(f"the range from {key!r} to {end!r} is empty: nothing can happen in it.")
        _require_not_negative(start_revision=start_revision)
        with self._changed:
            self._require_open()
            first = start_revision or self.revision + 1
        return MemoryWatcher(self, key, end, first, prev_kv, frozenset(filters))

    # --- writing ---------------------------------------------------------------------------------------

    def put(
        self,
        key: bytes,
        value: bytes = b"",
        *,
        lease: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
    ) -> PutResult:
        answer = self.txn((), (Put(key, value, lease, prev_kv, ignore_value, ignore_lease),)).responses[0]
        assert isinstance(answer, PutResult)
        return answer

    def delete(
        self, key: bytes, end: bytes | None = None, *, prefix: bool = False, prev_kv: bool = False
    ) -> DeleteResult:
        key, end = span_of(key, end, prefix)
        answer = self.txn((), (Delete(key, end, prev_kv),)).responses[0]
        assert isinstance(answer, DeleteResult)
        return answer

    def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation] = (), failure: Sequence[Operation] = ()
    ) -> TxnResult:
        request = Txn(compare, success, failure)
        check_request(request)
        with self._changed:
            self._require_open()
            # All comparisons, of inner transactions too, see the store as it was before.
            taken = take(request, self._moments[-1].contents)
            self._check_against_store(taken)
            draft = Draft(self._moments[-1].contents, self.revision)
            result = self._apply(draft, taken)
            self._publish(draft)
        return result

    def compact(self, revision: int) -> None:
        with self._changed:
            self._require_open()
            if revision <= self._compact_revision:
                raise CompactedError(revision, self._compact_revision)
            if revision > self.revision:
                raise FutureRevisionError(revision, self.revision)
            self._compact_revision = revision

    def hashed_rows(self, revision: int = 0) -> tuple[tuple[int, KeyValue | bytes], ...]:
        """Return what a hash of a revision is made of: each put, and the key of each delete, with its revision.

        Of what was compacted that is the put of each key that could still be read, and no delete.
        """
        with self._changed:
            self._require_open()
            self._require_readable(revision)
            last, compacted = revision or self.revision, max(self._compact_revision, 0)
            kept = set(self._moments[compacted - 1].contents.values()) if compacted else set()
            events = [event for moment in self._moments[:last] for event in moment.events]
        return tuple(
            (event.kv.mod_revision, event.kv if event.kind == "put" else event.kv.key)
            for event in events
            if event.kv.mod_revision > compacted or event.kv in kept
        )

    def hash_kv(self, revision: int = 0) -> HashInfo:
        with self._changed:
            rows = repr(self.hashed_rows(revision)).encode()
            return HashInfo(
                hash=int(google_crc32c.value(rows)),
                revision=revision or self.revision,
                compact_revision=self._compact_revision,
            )

    def status(self) -> Status:
        with self._changed:
            self._require_open()
            return Status(
                path="memory://",
                revision=self.revision,
                compact_revision=self._compact_revision,
                keys=len(self._moments[-1].contents),
                leases=len(self._leases),
                size_bytes=0,
            )

    # --- leases ----------------------------------------------------------------------------------------

    def lease(self, ttl_seconds: int, *, id: int = 0) -> MemoryLease:  # noqa: A002 - etcd's word
        if not 0 < ttl_seconds <= TTL_SECONDS_MAX:
            raise InvalidInputError(f"a lease of {ttl_seconds} s: give 1 to {TTL_SECONDS_MAX:,}.")
        _require_not_negative(id=id)
        with self._changed:
            self._require_open()
            if id in self._leases:
                raise InvalidInputError(f"lease {id} is in use. Choose another id, or 0 to be given one.")
            while id == 0 or id in self._leases:
                self._last_lease += 1
                id = self._last_lease  # noqa: A001
            self._leases[id] = Granted(ttl_seconds=ttl_seconds, ends_at=self._now() + ttl_seconds)
        return MemoryLease(self, id, ttl_seconds)

    def leases(self) -> tuple[MemoryLease, ...]:
        with self._changed:
            self._require_open()
            return tuple(MemoryLease(self, each, granted.ttl_seconds) for each, granted in sorted(self._leases.items()))

    def keep_alive(self, lease: int) -> None:
        with self._changed:
            ttl_seconds = self._granted(lease).ttl_seconds
            if self.remaining(lease) == 0:
                self.revoke(lease)
            self._granted(lease)
            self._leases[lease] = Granted(ttl_seconds=ttl_seconds, ends_at=self._now() + ttl_seconds)

    def remaining(self, lease: int) -> float:
        """Return seconds: 0 if it is over and was not revoked yet, -1 if there is no such lease."""
        with self._changed:
            self._require_open()
            granted = self._leases.get(lease)
            return max(granted.ends_at - self._now(), 0.0) if granted else -1.0

    def keys_of(self, lease: int) -> tuple[bytes, ...]:
        with self._changed:
            self._granted(lease)
            return tuple(sorted(kv.key for kv in self._moments[-1].contents.values() if kv.lease == lease))

    def revoke(self, lease: int) -> int:
        """Delete the keys of a lease at one revision, and the lease; return the revision."""
        with self._changed:
            draft = Draft(self._moments[-1].contents, self.revision)
            for key in self.keys_of(lease):
                draft.delete(key)
            del self._leases[lease]
            self._publish(draft)
            return self.revision

    def expire(self) -> None:
        """Revoke each lease that is over, first those that were over first."""
        with self._changed:
            ends = [(granted.ends_at, lease) for lease, granted in self._leases.items()]
            for ends_at, lease in sorted(ends):
                if ends_at <= self._now():
                    self.revoke(lease)

    # --- within ----------------------------------------------------------------------------------------

    def moment(self, revision: int) -> Moment:
        return self._moments[revision - 1]

    def wait_for(self, revision: int, timeout: float | None) -> bool:
        """Wait until the store is at a revision; return whether it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self.revision >= revision, timeout)
            self._require_open()
            return self.revision >= revision

    def _publish(self, draft: Draft) -> None:
        if draft.events:
            self._moments.append(Moment(contents=draft.contents, events=tuple(draft.events)))
            self._changed.notify_all()

    def _apply(self, draft: Draft, taken: Taken) -> TxnResult:
        responses = tuple(self._answer(draft, operation) for operation in taken.operations)
        return TxnResult(succeeded=taken.succeeded, revision=draft.revision, responses=responses)

    def _answer(self, draft: Draft, operation: Put | Get | Delete | Taken) -> Response:
        if isinstance(operation, Taken):
            return self._apply(draft, operation)
        if isinstance(operation, Get):
            # What the transaction did before is seen, unless a revision is asked for.
            revision = operation.revision
            contents = self.moment(revision).contents if revision > 0 else draft.contents
            return select(contents, operation, draft.revision)
        if isinstance(operation, Put):
            previous = draft.contents.get(operation.key)
            draft.put(operation)
            return PutResult(revision=draft.revision, prev_kv=previous if operation.prev_kv else None)
        gone = [kv for _, kv in sorted(draft.contents.items()) if is_within(kv.key, operation.key, operation.end)]
        for kv in gone:
            draft.delete(kv.key)
        prev_kvs = tuple(gone) if operation.prev_kv else ()
        return DeleteResult(revision=draft.revision, deleted=len(gone), prev_kvs=prev_kvs)

    def _check_against_store(self, taken: Taken) -> None:
        """Refuse what is taken if any of it cannot be done: first puts, then reads, in the order they have in etcd."""
        operations = list(taken.all_operations())
        for operation in operations:
            if isinstance(operation, Put):
                self._check_put(operation)
        for operation in operations:
            if isinstance(operation, Get):
                self._require_readable(operation.revision)

    def _check_put(self, operation: Put) -> None:
        if operation.lease:
            self._granted(operation.lease)
        keeps = operation.ignore_value or operation.ignore_lease
        if keeps and operation.key not in self._moments[-1].contents:
            raise InvalidInputError(f"there is no key {operation.key!r} whose value or lease could be kept.")

    def _require_readable(self, revision: int) -> None:
        if revision > self.revision:
            raise FutureRevisionError(revision, self.revision)
        if 0 < revision < self._compact_revision:
            raise CompactedError(revision, self._compact_revision)

    def _granted(self, lease: int) -> Granted:
        self._require_open()
        if lease not in self._leases:
            raise InvalidInputError(f"there is no lease {lease}: it was never granted, was revoked, or is over.")
        return self._leases[lease]

    def _require_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the store was closed. Open it again.")


class Draft:
    """What a transaction has done so far; nobody else sees it."""

    def __init__(self, contents: Contents, before: int) -> None:
        self.contents = dict(contents)
        self.events: list[Event] = []
        self._before = before

    @property
    def revision(self) -> int:
        return self._before + 1 if self.events else self._before

    def put(self, operation: Put) -> None:
        old = self.contents.get(operation.key)
        kv = KeyValue(
            key=operation.key,
            value=old.value if operation.ignore_value and old else operation.value,
            create_revision=old.create_revision if old else self._before + 1,
            mod_revision=self._before + 1,
            version=old.version + 1 if old else 1,
            lease=old.lease if operation.ignore_lease and old else operation.lease,
        )
        self.contents[kv.key] = kv
        self.events.append(Event(kind="put", kv=kv))

    def delete(self, key: bytes) -> None:
        del self.contents[key]
        gone = KeyValue(key=key, value=b"", create_revision=0, mod_revision=self._before + 1, version=0)
        self.events.append(Event(kind="delete", kv=gone))


class MemoryLease:
    """A lease of a `MemoryKV`."""

    def __init__(self, store: MemoryKV, id: int, ttl_seconds: int) -> None:  # noqa: A002
        self._store, self.id, self.ttl_seconds = store, id, ttl_seconds

    def keys(self) -> tuple[bytes, ...]:
        return self._store.keys_of(self.id)

    def keepalive(self) -> None:
        self._store.keep_alive(self.id)

    def remaining(self) -> float:
        return self._store.remaining(self.id)

    def revoke(self) -> int:
        return self._store.revoke(self.id)


class MemoryWatcher:
    """A number that walks through the revisions of a `MemoryKV`."""

    def __init__(
        self,
        store: MemoryKV,
        key: bytes,
        end: bytes | None,
        next_revision: int,
        prev_kv: bool,
        filters: frozenset[EventKind],
    ) -> None:
        self._store, self._key, self._end = store, key, end
        self.next_revision, self._prev_kv, self._filters = next_revision, prev_kv, filters
        self._is_over = False

    def __enter__(self) -> MemoryWatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __iter__(self) -> Iterator[WatchBatch]:
        while (batch := self.next()) is not None:
            yield batch

    def next(self, timeout: float | None = None) -> WatchBatch | None:
        """Return what happened next, of one revision; None if nothing did in ``timeout`` seconds, or it is over."""
        while not self._is_over:
            if not self._store.wait_for(self.next_revision, timeout):
                return None
            if self.next_revision < self._store.compact_revision:
                self._is_over = True
                raise CompactedError(self.next_revision, self._store.compact_revision)
            revision, self.next_revision = self.next_revision, self.next_revision + 1
            events = tuple(self._seen(event) for event in self._store.moment(revision).events if self._wants(event))
            if events:
                return WatchBatch(revision=revision, events=events)
        return None

    def cancel(self) -> None:
        self._is_over = True

    def _wants(self, event: Event) -> bool:
        return is_within(event.kv.key, self._key, self._end) and event.kind not in self._filters

    def _seen(self, event: Event) -> Event:
        before = event.kv.mod_revision - 1
        if not self._prev_kv or before < max(self._store.compact_revision, 1):
            return event
        return replace(event, prev_kv=self._store.moment(before).contents.get(event.kv.key))


# --- pure ----------------------------------------------------------------------------------------------


def span_of(key: bytes, end: bytes | None, prefix: bool) -> tuple[bytes, bytes | None]:
    """Return key and end of what a call names. Every key begins with the empty prefix."""
    if not prefix:
        return key, end
    if end is not None:
        raise InvalidInputError(f"prefix={prefix} and end={end!r} both say where the range ends. Give one of them.")
    return key or b"\0", prefix_end(key)


def is_within(name: bytes, key: bytes, end: bytes | None) -> bool:
    if end is None:
        return name == key
    return name >= key and (end == FROM_KEY or name < end)


def select(contents: Contents, asked: Get, revision: int) -> RangeResult:
    found = [kv for name, kv in sorted(contents.items()) if is_within(name, asked.key, asked.end)]
    if asked.count_only:
        return RangeResult(kvs=(), revision=revision, count=len(found))
    bounds = (asked.min_mod, asked.max_mod, asked.min_create, asked.max_create)
    kept = [kv for kv in found if _is_bounded(kv, asked)]
    if asked.limit and asked.order == "none" and not any(bounds):
        # As etcd does: without an order the limit cuts by key, and only what is left is sorted by something else.
        kept = kept[: asked.limit + 1]
    kept.sort(key=lambda kv: number_of(kv, asked.sort_by), reverse=asked.order == "descending")
    more = 0 < asked.limit < len(kept)
    kvs = kept[: asked.limit] if more else kept
    return RangeResult(
        kvs=tuple(replace(kv, value=b"") if asked.keys_only else kv for kv in kvs),
        revision=revision,
        count=len(found),
        more=more,
    )


def _is_bounded(kv: KeyValue, asked: Get) -> bool:
    return (
        asked.min_mod <= kv.mod_revision <= (asked.max_mod or kv.mod_revision)
        and asked.min_create <= kv.create_revision <= (asked.max_create or kv.create_revision)
    )  # fmt: skip


def number_of(kv: KeyValue, target: str) -> bytes | int:
    numbers: dict[str, bytes | int] = {
        "key": kv.key,
        "value": kv.value,
        "create": kv.create_revision,
        "mod": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
    }
    return numbers[target]


def take(request: Txn, contents: Contents) -> Taken:
    succeeded = all(holds(comparison, contents) for comparison in request.compare)
    operations = request.success if succeeded else request.failure
    return Taken(
        succeeded=succeeded,
        operations=tuple(take(each, contents) if isinstance(each, Txn) else each for each in operations),
    )


def holds(comparison: Compare, contents: Contents) -> bool:
    kvs = [kv for name, kv in contents.items() if is_within(name, comparison.key, comparison.end)]
    if kvs:
        return all(_stands(number_of(kv, comparison.target), comparison) for kv in kvs)
    return comparison.target != "value" and _stands(0, comparison)


def _stands(left: bytes | int, comparison: Compare) -> bool:
    right = comparison.value
    if comparison.relation == "=":
        return left == right
    if comparison.relation == "!=":
        return left != right
    # Of mixed kinds Python itself refuses, as it should: `check_request` has looked.
    return left > right if comparison.relation == ">" else left < right  # type: ignore[operator]


def _change_of(event: Event) -> Change:
    value = event.kv.value if event.kind == "put" else None
    return Change(key=event.kv.key, value=value, mod_revision=event.kv.mod_revision)


# --- what is wrong with a request, whichever branch is taken -------------------------------------------


def check_request(request: Txn) -> None:
    _check_txn(request, OPERATIONS_MAX)
    _writes_of(request.success)
    _writes_of(request.failure)
    size_bytes = _size_bytes(request)
    if size_bytes > REQUEST_BYTES_MAX:
        raise LimitExceededError(f"a request of {size_bytes:,} bytes: at most {REQUEST_BYTES_MAX:,} are taken.")


def _check_txn(request: Txn, operations_max: int) -> None:
    """Check each part of a transaction; what is in it may have as many operations less as it has itself."""
    longest = max(len(request.compare), len(request.success), len(request.failure))
    if longest > operations_max:
        raise InvalidInputError(f"a transaction of more than {OPERATIONS_MAX} operations. Divide it.")
    for comparison in request.compare:
        _require_span(comparison.key, comparison.end)
        if isinstance(comparison.value, bytes) != (comparison.target == "value"):
            raise InvalidInputError(f"{comparison.target} is compared with {comparison.value!r}, of another kind.")
    for operation in (*request.success, *request.failure):
        if isinstance(operation, Txn):
            _check_txn(operation, operations_max - longest)
        else:
            _check_operation(operation)


def _check_operation(operation: Put | Get | Delete) -> None:
    _require_span(operation.key, None if isinstance(operation, Put) else operation.end)
    if isinstance(operation, Get):
        _require_not_negative(limit=operation.limit)
        _require_bounds(operation.min_mod, operation.max_mod)
        _require_bounds(operation.min_create, operation.max_create)
    if isinstance(operation, Put):
        if operation.ignore_value and operation.value:
            raise InvalidInputError("ignore_value keeps the value there is, and a value is given. Leave out one.")
        if operation.ignore_lease and operation.lease:
            raise InvalidInputError("ignore_lease keeps the lease there is, and a lease is given. Leave out one.")


Writes: TypeAlias = "tuple[set[bytes], list[Delete]]"


def _writes_of(operations: Sequence[Operation]) -> Writes:
    """Return keys that a branch may put and ranges it may delete; refuse a key put twice, or put and deleted."""
    puts: set[bytes] = set()
    deletes: list[Delete] = []
    for operation in operations:
        more_puts, more_deletes = _writes_of_one(operation)
        _require_distinct(puts, (more_puts, more_deletes))
        _require_distinct(more_puts, (set(), deletes))
        puts |= more_puts
        deletes += more_deletes
    return puts, deletes


def _writes_of_one(operation: Operation) -> Writes:
    if isinstance(operation, Put):
        return {operation.key}, []
    if isinstance(operation, Delete):
        return set(), [operation]
    if isinstance(operation, Txn):
        # Only one of its branches is taken: what one puts the other may put and delete too.
        success, failure = _writes_of(operation.success), _writes_of(operation.failure)
        return success[0] | failure[0], success[1] + failure[1]
    return set(), []


def _require_distinct(puts: set[bytes], others: Writes) -> None:
    for key in puts:
        if key in others[0] or any(is_within(key, delete.key, delete.end) for delete in others[1]):
            raise InvalidInputError(f"duplicate key {key!r}: a transaction changes a key at most once.")


def _size_bytes(request: Txn) -> int:
    """Return how many bytes of keys and values there are."""
    size_bytes = 0
    for comparison in request.compare:
        size_bytes += len(comparison.key) + len(comparison.end or b"")
        size_bytes += len(comparison.value) if isinstance(comparison.value, bytes) else 0
    for operation in (*request.success, *request.failure):
        if isinstance(operation, Txn):
            size_bytes += _size_bytes(operation)
        else:
            size_bytes += len(operation.key)
            size_bytes += len(operation.value) if isinstance(operation, Put) else len(operation.end or b"")
    return size_bytes


def _require_span(key: bytes, end: bytes | None) -> None:
    if not key:
        raise InvalidInputError("the key is empty. Give one of at least one byte.")
    if end == b"":
        raise InvalidInputError("the end is empty. None is the key alone, FROM_KEY all from it on.")


def _require_bounds(least: int, most: int) -> None:
    _require_not_negative(least=least, most=most)
    if most and least > most:
        raise InvalidInputError(f"no revision is at least {least} and at most {most}.")


def _require_not_negative(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 0:
            raise InvalidInputError(f"{name}={number}: give 0 or more.")
