"""The key-value store: what can be asked of it, each in one transaction of its ledger.

There is one commit point: the backend's commit, which is durable before a call returns. The current revision, the rows
of keys and the rows of leases are all in it, so a kill leaves all of a call or nothing, and a restart goes on from the
revision that was committed last. Nothing is remembered in memory between calls: other processes' commits are seen at
once, and there is nothing to build when a store is opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from mitoframe.kv import compaction, copying
from mitoframe.kv.asking import bounds_of, require_get, require_range, require_txn
from mitoframe.kv.backend_sqlite import MEMORY, SqliteBackend
from mitoframe.kv.hashing import hash_changes
from mitoframe.kv.ledger import Ledger
from mitoframe.kv.lessor import Lease, Lessor
from mitoframe.kv.watch import Kind, Watcher
from mitoframe.model.card import Section, card
from mitoframe.model.errors import ClosedError, InvalidInputError, MitoError
from mitoframe.model.keyvalue import (
    Change,
    Compare,
    Delete,
    DeleteResult,
    Get,
    HashInfo,
    KeyValue,
    Operation,
    Put,
    PutResult,
    RangeResult,
    SnapshotInfo,
    SortOrder,
    SortTarget,
    Status,
    Txn,
    TxnResult,
)
from mitoframe.model.wording import counted

if TYPE_CHECKING:
    import os
    from types import TracebackType

    import polars as pl

    from mitoframe.kv.backend import Backend


def open(  # noqa: A001 - as `mitoframe.open`
    path: str | os.PathLike[str],
    *,
    mode: Literal["rw", "r"] = "rw",
    backend: Literal["sqlite"] = "sqlite",
    now: Callable[[], float] = time.monotonic,
) -> KeyValueStore:
    """Open the key-value store at ``path``, made if it is not there.

    Everything that is stored is read once, and compared with its checksums. What a compaction that was interrupted has
    left is dropped. Any number of processes may have a store open, for writing too: they take turns.

    Args:
        path: a file; ``"memory://"`` is a store that ends with the process.
        mode: ``"r"`` changes nothing.
        backend: what keeps the rows.
        now: seconds that only grow, by which leases expire.

    Raises:
        CorruptionError: it is damaged, or is none.
        ConfigError: a newer mitoframe has made it.

    Example:
        >>> from mitoframe import kv
        >>> store = kv.open("memory://")
        >>> store.put(b"/plant/line", b"7").revision
        2
        >>> store.close()

    """
    if mode not in ("rw", "r"):
        raise InvalidInputError(f"mode {mode!r} is neither 'rw' nor 'r'")
    if backend != "sqlite":
        raise InvalidInputError(f"there is no backend {backend!r} for key-value stores; there is 'sqlite'")
    if path == MEMORY and mode == "r":
        raise InvalidInputError('a store in memory is new, so that there is nothing to read; leave out mode="r"')
    return KeyValueStore(SqliteBackend(str(path), read_only=mode == "r"), read_only=mode == "r", now=now)


class KeyValueStore:
    """Keys and values with revisions, as `open` returns it; threads may share it.

    >>> from mitoframe import kv
    >>> with kv.open("memory://") as store:
    ...     _ = store.put(b"line", b"7")
    ...     _ = store.put(b"line", b"8")
    ...     store.get(b"line").value, store.get(b"line", revision=2).value
    (b'8', b'7')
    """

    def __init__(self, backend: Backend, *, read_only: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._path = backend.path
        self._ledger = Ledger(backend, read_only=read_only, sees_leases=self._look_after_leases)
        self._lessor = Lessor(self._ledger, now, None if backend.path == MEMORY else f"{backend.path}-lessor")

    def _look_after_leases(self) -> None:
        self._lessor.start()

    # --- reading ---------------------------------------------------------------------------------------

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
        """Return a key, or all keys in [key, end), sorted.

        Args:
            key: where the range begins.
            end: where it ends; None is the key alone, `FROM_KEY` all from it on.
            prefix: the range is of all keys that begin with ``key``.
            revision: as things were then; 0 is now.
            limit: the most keys that are returned; 0 is all.
            sort_by: ``"key"``, ``"version"``, ``"create"``, ``"mod"`` or ``"value"``.
            order: ``"ascending"`` or ``"descending"``; ``"none"`` is ascending.
            keys_only: leave values out.
            count_only: return no keys, only how many there are.
            min_mod: leave out what was changed last before this revision; 0 is no bound, as with the following.
            max_mod: or after this one.
            min_create: or was created before this one.
            max_create: or after this one.

        Raises:
            CompactedError: that revision is not kept any more.
            FutureRevisionError: that revision has not come yet.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> for line in (b"/line/1", b"/line/2", b"/site"):
            ...     _ = store.put(line, b"on")
            >>> [found.key for found in store.range(b"/line/", prefix=True).kvs]
            [b'/line/1', b'/line/2']

        """
        key, end = bounds_of(key, end, prefix)
        get = Get(
            key,
            end,
            revision=revision,
            limit=limit,
            sort_by=sort_by,
            order=order,
            keys_only=keys_only,
            count_only=count_only,
            min_mod=min_mod,
            max_mod=max_mod,
            min_create=min_create,
            max_create=max_create,
        )
        require_get(get)
        with self._ledger.view() as view:
            return view.range(get)

    def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        """Return a key, or None if it is not there; ``revision`` 0 is now. Errors are those of `range`.

        Example:
            >>> from mitoframe import kv
            >>> kv.open("memory://").get(b"nothing") is None
            True

        """
        require_range(key, None)
        return self._ledger.get(key, revision=revision)

    def changes(self, key: bytes, end: bytes | None, *, after: int) -> tuple[int, tuple[Change, ...]]:
        """Return the current revision, and the latest state of every key of the range that changed after ``after``.

        Raises:
            CompactedError: deletes since then are not all known any more.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> seen = store.put(b"a", b"1").revision
            >>> _ = store.delete(b"a")
            >>> store.changes(b"a", None, after=seen)
            (3, (Change(key=b'a', value=None, mod_revision=3),))

        """
        require_range(key, end)
        with self._ledger.view() as view:
            return view.revision, view.changes(key, end, after)

    # --- changing --------------------------------------------------------------------------------------

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
        """Set a key.

        Args:
            key: at least one byte.
            value: any bytes.
            lease: the key goes when this lease does; 0 is none, which also detaches one that it has.
            prev_kv: return how the key was before.
            ignore_value: keep the value that the key has, which must be there then.
            ignore_lease: keep the lease that the key has, which must be there then.

        Raises:
            InvalidInputError: the key is empty, there is no such lease, or nothing to keep.
            LimitExceededError: key and value have more than 1.5 MiB.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> _ = store.put(b"line", b"7")
            >>> store.put(b"line", b"8", prev_kv=True).prev_kv.value
            b'7'

        """
        put = Put(key, value, lease=lease, prev_kv=prev_kv, ignore_value=ignore_value, ignore_lease=ignore_lease)
        require_txn(Txn((), (put,)))
        with self._ledger.change() as changing:
            return changing.put(put)

    def delete(
        self, key: bytes, end: bytes | None = None, *, prefix: bool = False, prev_kv: bool = False
    ) -> DeleteResult:
        """Delete a key or range, as `range` names it; what is not there is no error, and no revision.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> _ = store.put(b"line", b"7")
            >>> store.delete(b"line").deleted, store.delete(b"line").deleted
            (1, 0)

        """
        delete = Delete(*bounds_of(key, end, prefix), prev_kv=prev_kv)
        require_txn(Txn((), (delete,)))
        with self._ledger.change() as changing:
            return changing.delete(delete)

    def txn(
        self, compare: Sequence[Compare], success: Sequence[Operation] = (), failure: Sequence[Operation] = ()
    ) -> TxnResult:
        """Do ``success`` if every comparison holds, else ``failure``: all of it at one revision, or nothing.

        Comparisons see the state before the transaction; operations see what those before them did.

        Raises:
            InvalidInputError: a key is named twice, there are more than 128 operations, or one is not possible.
            LimitExceededError: keys and values have more than 1.5 MiB.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> store.txn([kv.V(b"owner") == 0], [kv.Put(b"owner", b"me")], [kv.Get(b"owner")]).succeeded
            True

        """
        txn = Txn(tuple(compare), tuple(success), tuple(failure))
        require_txn(txn)
        with self._ledger.change() as changing:
            return changing.txn(txn)

    # --- watching and leases ---------------------------------------------------------------------------

    def watch(
        self,
        key: bytes,
        end: bytes | None = None,
        *,
        prefix: bool = False,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress: bool = False,
        filters: Kind | Iterable[Kind] = (),
    ) -> Watcher:
        """Return an iterator of what happens to a key or range, whichever process does it.

        Args:
            key: a key, or where a range begins, as in `range`.
            end: where it ends.
            prefix: watch all keys that begin with ``key``.
            start_revision: tell what happened from there on; 0 is from now on. It may be yet to come.
            prev_kv: tell how keys were before, unless that is compacted.
            progress: tell also how far the watch has come where nothing was to be told, as a batch without events.
            filters: ``"put"`` or ``"delete"`` leaves these out.

        Raises:
            InvalidInputError: there are no such keys, or no such filter.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store, store.watch(b"/line/", prefix=True) as watcher:
            ...     _ = store.put(b"/line/1", b"on")
            ...     watcher.next().events[0].kv.value
            b'on'

        """
        return Watcher(
            self._ledger,
            key,
            end,
            prefix=prefix,
            start_revision=start_revision,
            prev_kv=prev_kv,
            progress=progress,
            filters=filters,
        )

    def lease(self, ttl_seconds: int, *, id: int = 0, keepalive: bool = False) -> Lease:  # noqa: A002 - etcd's word
        """Make a lease: keys put with it go when it is revoked, or not renewed for its time to live.

        Args:
            ttl_seconds: whole seconds; it never ends earlier, and some fraction of a second later.
            id: a number of your own choice that no lease has; 0 has one chosen.
            keepalive: renew it in the background until it is revoked, the store is closed, or the process dies.

        Raises:
            InvalidInputError: the id is in use, or there is no such time to live.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     with store.lease(10, keepalive=True) as lease:
            ...         _ = store.put(b"/leader", b"me", lease=lease.id)
            ...     print(store.get(b"/leader"))
            None

        """
        return self._lessor.grant(ttl_seconds, lease_id=id, keepalive=keepalive)

    def leases(self) -> tuple[Lease, ...]:
        """Return all leases there are, by id, whoever made them.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     _ = store.lease(10, id=7)
            ...     [lease.id for lease in store.leases()]
            [7]

        """
        return self._lessor.leases()

    # --- frames ----------------------------------------------------------------------------------------

    def to_frame(self, prefix: bytes = b"", *, revision: int = 0) -> pl.DataFrame:
        """Return the keys that begin with a prefix as a frame, now or as they were at a revision.

        Raises:
            CompactedError: that revision is not kept any more.
            FutureRevisionError: that revision has not come yet.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     _ = store.put(b"/line/1", b"on"), store.put(b"/line/2", b"off")
            ...     store.to_frame(b"/line/").select("key", "value", "mod_revision").rows()
            [(b'/line/1', b'on', 2), (b'/line/2', b'off', 3)]

        """
        from mitoframe.kv.frame import to_frame

        return to_frame(self.range(prefix, prefix=True, revision=revision).kvs)

    def history(self, key: bytes) -> pl.DataFrame:
        """Return what became of a key, a row for each put and delete since the oldest revision that is kept.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     _ = store.put(b"line", b"on"), store.delete(b"line"), store.put(b"line", b"off")
            ...     store.history(b"line").select("revision", "kind", "value").rows()
            [(2, 'put', b'on'), (3, 'delete', None), (4, 'put', b'off')]

        """
        require_range(key, None)
        from mitoframe.kv.frame import history

        return history(self._ledger, key)

    # --- the store as a whole --------------------------------------------------------------------------

    def status(self) -> Status:
        """Say how the store is, without reading what it holds.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> _ = store.put(b"line", b"7")
            >>> store.status().revision, store.status().keys
            (2, 1)

        """
        with self._ledger.view() as view:
            state = view.state
        return Status(
            path=self._path,
            revision=state.revision,
            compact_revision=state.compact_scheduled,
            keys=state.keys,
            leases=state.leases,
            size_bytes=self._ledger.backend.size_bytes(),
            is_compacting=state.compact_finished < state.compact_scheduled,
        )

    def compact(self, revision: int) -> None:
        """Forget what keys were before a revision, and keys that were gone by then; return when that is done.

        Older revisions are refused from now on. Others may write meanwhile.

        Raises:
            CompactedError: that was compacted already.
            FutureRevisionError: that revision has not come yet.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> for value in (b"1", b"2", b"3"):
            ...     _ = store.put(b"line", value)
            >>> store.compact(3)
            >>> store.get(b"line", revision=3).value, store.status().compact_revision
            (b'2', 3)

        """
        with self._ledger.change() as changing:
            changing.schedule_compaction(revision)
        compaction.finish(self._ledger.change, revision)

    def hash_kv(self, revision: int = 0) -> HashInfo:
        """Return a checksum of all that is kept up to a revision, by which copies can be compared; 0 is now.

        Raises:
            CompactedError: that revision is not kept any more.
            FutureRevisionError: that revision has not come yet.

        Example:
            >>> from mitoframe import kv
            >>> one, other = kv.open("memory://"), kv.open("memory://")
            >>> _ = one.put(b"a", b"1"), other.put(b"a", b"1")
            >>> one.hash_kv() == other.hash_kv()
            True

        """
        with self._ledger.view() as view:
            view.require_readable(revision)
            asked = revision if revision > 0 else view.revision
            return HashInfo(
                hash=hash_changes(view, asked), revision=asked, compact_revision=view.state.compact_scheduled
            )

    def verify(self) -> None:
        """Read everything anew and compare it: checksums, and what keys, revisions and leases say of each other.

        Raises:
            CorruptionError: something is not as it was written; the message says what.

        Example:
            >>> from mitoframe import kv
            >>> kv.open("memory://").verify()

        """
        self._ledger.verify()

    def snapshot(self, path: str | os.PathLike[str]) -> SnapshotInfo:
        """Copy the store as it is now to a new file, while others go on; `restore` makes a store from it.

        Raises:
            InvalidInputError: there is something at ``path``.

        Example:
            >>> import tempfile
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> store.snapshot(tempfile.mkdtemp() + "/copy.kv").revision
            1

        """
        return copying.snapshot(self._ledger.backend, str(path))

    def defragment(self) -> None:
        """Give space back that compactions and deletes have left in the file. Writers wait meanwhile, readers do not.

        Example:
            >>> from mitoframe import kv
            >>> kv.open("memory://").defragment()

        """
        self._ledger.backend.defragment()

    def close(self) -> None:
        """Let the store go; what was put is there, and leases go on. Closing twice is harmless.

        Example:
            >>> from mitoframe import kv
            >>> store = kv.open("memory://")
            >>> store.close()

        """
        self._lessor.close()
        self._ledger.close()

    def __enter__(self) -> KeyValueStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            return f"<{self._summary(self.status())}>"
        except MitoError as error:
            return f"<key-value store {self._path}: {_reason(error)}>"

    def _repr_html_(self) -> str:
        try:
            status, leases = self.status(), self._lessor.told()
        except MitoError as error:
            return card(f"key-value store {self._path}: {_reason(error)}")
        rows = [
            ("path", status.path),
            ("revision", f"{status.revision:,}"),
            ("oldest revision", f"{max(status.compact_revision, 1):,}"),
            ("keys", f"{status.keys:,}"),
            ("leases", f"{status.leases:,}"),
            ("size", f"{status.size_bytes:,} bytes"),
        ]
        return card(self._summary(status), [Section(title="Status", rows=rows, note=" ", is_open=True), leases])

    def _summary(self, status: Status) -> str:
        return (
            f"key-value store {status.path}: {counted(status.keys, 'key')} at revision {status.revision:,}, "
            f"{counted(status.leases, 'lease')}"
        )


def _reason(error: MitoError) -> str:
    return "closed" if isinstance(error, ClosedError) else str(error)
