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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, TypeAlias

import google_crc32c

from mitoframe.model.errors import (
    ClosedError,
    CompactedError,
    FutureRevisionError,
    InvalidInputError,
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
)
from mitoframe.testing.requests_kv import (
    Contents,
    Taken,
    change_of,
    check_request,
    is_within,
    require_not_negative,
    require_span,
    select,
    span_of,
    take,
)

TTL_SECONDS_MAX = 9_000_000_000

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
        require_span(key, end)
        with self._changed:
            self._require_open()
            first = max(after, 0) + 1
            if first < self._compact_revision:
                raise CompactedError(first, self._compact_revision)
            events = [event for moment in self._moments[first - 1 :] for event in moment.events]
        latest = {event.kv.key: event for event in events if is_within(event.kv.key, key, end)}
        return self.revision, tuple(change_of(latest[name]) for name in sorted(latest))

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
        require_span(key, end)
        if end is not None and end != FROM_KEY and end <= key:
            raise InvalidInputError(f"the range from {key!r} to {end!r} is empty: nothing can happen in it.")
        require_not_negative(start_revision=start_revision)
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
        require_not_negative(id=id)
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
            self._require_kept()
            revision, self.next_revision = self.next_revision, self.next_revision + 1
            events = tuple(self._seen(event) for event in self._store.moment(revision).events if self._wants(event))
            if events:
                return WatchBatch(revision=revision, events=events)
        return None

    def progress(self) -> int | None:
        """Return the revision through which everything was told; None if something is still to be, or it is over."""
        newest = self._store.status().revision
        if self._is_over or self.next_revision > newest + 1:
            return None
        self._require_kept()
        ahead = [self._store.moment(revision) for revision in range(self.next_revision, newest + 1)]
        return None if any(self._wants(event) for moment in ahead for event in moment.events) else newest

    def cancel(self) -> None:
        self._is_over = True

    def _require_kept(self) -> None:
        if self.next_revision < self._store.compact_revision:
            self._is_over = True
            raise CompactedError(self.next_revision, self._store.compact_revision)

    def _wants(self, event: Event) -> bool:
        return is_within(event.kv.key, self._key, self._end) and event.kind not in self._filters

    def _seen(self, event: Event) -> Event:
        before = event.kv.mod_revision - 1
        if not self._prev_kv or before < max(self._store.compact_revision, 1):
            return event
        return replace(event, prev_kv=self._store.moment(before).contents.get(event.kv.key))
