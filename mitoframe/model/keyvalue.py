"""The words of a key-value store with revisions: what is asked of it, and what it answers.

They are etcd's, with its meaning. A store has one counter, its *revision*, which every transaction that changes
something raises by one. A key remembers at which revision it was created (``create_revision``), changed last
(``mod_revision``), and how often since it was created (``version``); once deleted and put again it begins anew. Keys
and values are bytes, ordered byte by byte.

Ranges are [key, end). ``end`` None is the key alone; `FROM_KEY` is the key and all after it.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.wording import counted

FROM_KEY = b"\0"
"""As an end: no end. With ``b"\\0"`` as the key, everything."""

Target: TypeAlias = Literal["create", "mod", "version", "value", "lease"]
Relation: TypeAlias = Literal["=", "!=", ">", "<"]
SortTarget: TypeAlias = Literal["key", "version", "create", "mod", "value"]
SortOrder: TypeAlias = Literal["none", "ascending", "descending"]


def prefix_end(prefix: bytes) -> bytes:
    """Return the end of the range of all keys that begin with ``prefix``.

    >>> prefix_end(b"/table/"), prefix_end(bytes([97, 255])), prefix_end(bytes([255])) == FROM_KEY
    (b'/table0', b'b', True)
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else FROM_KEY


# --- what there is -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """A key at a revision. ``lease`` is 0 if none is attached; ``value`` is empty where only keys were asked for.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"line", b"7"), store.put(b"line", b"8")
        ...     store.get(b"line")
        KeyValue(key=b'line', value=b'8', create_revision=2, mod_revision=3, version=2, lease=0)

    """

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0

    def _repr_html_(self) -> str:
        return card(f"{_shown(self.key)} at revision {self.mod_revision:,}", [_keys_section([self])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A key's latest state after a revision: ``value`` is None if it was deleted.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"a", b"1"), store.put(b"b", b"2"), store.delete(b"a")
        ...     _, changes = store.changes(b"a", b"c", after=1)
        >>> changes[0]
        Change(key=b'a', value=None, mod_revision=4)

    """

    key: bytes
    value: bytes | None
    mod_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to a key: of a delete ``kv`` has the key and the revision, and nothing else.

    ``prev_kv`` is how the key was before, if that was asked for and is not compacted.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store, store.watch(b"a", prev_kv=True) as watcher:
        ...     _ = store.put(b"a", b"1"), store.put(b"a", b"2")
        ...     for _ in range(2):
        ...         [event] = watcher.next().events
        ...         print(event.kind, event.is_create, event.prev_kv and event.prev_kv.value)
        put True None
        put False b'1'

    """

    kind: Literal["put", "delete"]
    kv: KeyValue
    prev_kv: KeyValue | None = None

    @property
    def is_create(self) -> bool:
        """Tell whether the key was not there before."""
        return self.kind == "put" and self.kv.create_revision == self.kv.mod_revision

    def _repr_html_(self) -> str:
        return card(f"{self.kind} at revision {self.kv.mod_revision:,}", [_events_section([self])])


# --- what is asked -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds if what ``target`` names of the key stands so to ``value``; of a range, if it does for every key.

    A key that is not there has 0 for all numbers, and no value: a comparison of its value never holds.
    `V`, `M`, `C`, `L` and `Value` write comparisons as Python does.

    Example:
        >>> from mitoframe import kv
        >>> (kv.V(b"a") == 0) == kv.Compare(b"a", "version", 0)
        True

    """

    key: bytes
    target: Target
    value: int | bytes
    relation: Relation = "="
    end: bytes | None = None


class Compared:
    """One side of a comparison; compare it with a number, or with bytes if it is a value.

    >>> Compared(b"a", "version") == 0
    Compare(key=b'a', target='version', value=0, relation='=', end=None)
    """

    __slots__ = ("_end", "_key", "_target")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, target: Target, end: bytes | None = None) -> None:
        self._key, self._target, self._end = key, target, end

    def __eq__(self, value: int | bytes) -> Compare:  # type: ignore[override]
        return self._compare("=", value)

    def __ne__(self, value: int | bytes) -> Compare:  # type: ignore[override]
        return self._compare("!=", value)

    def __gt__(self, value: int | bytes) -> Compare:
        return self._compare(">", value)

    def __lt__(self, value: int | bytes) -> Compare:
        return self._compare("<", value)

    def _compare(self, relation: Relation, value: int | bytes) -> Compare:
        return Compare(self._key, self._target, value, relation, self._end)


def V(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the version of a key: ``V(key) == 0`` holds if it is not there.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     [store.txn([kv.V(b"a") == 0], [kv.Put(b"a", b"mine")]).succeeded for _ in range(2)]
        [True, False]

    """
    return Compared(key, "version", end)


def M(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the revision at which a key was changed last.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     seen = store.put(b"a", b"1").revision
        ...     _ = store.put(b"b")
        ...     store.txn([kv.M(b"a") == seen], [kv.Put(b"a", b"2")]).succeeded
        True

    """
    return Compared(key, "mod", end)


def C(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the revision at which a key was created.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"a", b"1"), store.put(b"a", b"2")
        ...     store.txn([kv.C(b"a") == 2], [kv.Delete(b"a")]).succeeded
        True

    """
    return Compared(key, "create", end)


def L(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the lease that is attached to a key.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store, store.lease(10) as lease:
        ...     _ = store.put(b"leader", b"me", lease=lease.id)
        ...     store.txn([kv.L(b"leader") == lease.id], [kv.Put(b"epoch", b"2")]).succeeded
        True

    """
    return Compared(key, "lease", end)


def Value(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the value of a key.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"line", b"on")
        ...     store.txn([kv.Value(b"line") == b"on"], [kv.Put(b"line", b"off")]).succeeded
        True

    """
    return Compared(key, "value", end)


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key. ``ignore_value`` and ``ignore_lease`` keep what the key has, which must be there then.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     store.txn([], [kv.Put(b"a", b"1"), kv.Put(b"b", b"2")]).revision
        2

    """

    key: bytes
    value: bytes = b""
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """Look at a key or range, at a revision (0: the newest).

    ``limit`` 0 is none. ``min_mod`` to ``max_create`` bound the revisions of keys, ends included; 0 is no bound.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     [found] = store.txn([], [kv.Put(b"a", b"1"), kv.Get(b"a")]).responses[1].kvs
        ...     found.value
        b'1'

    """

    key: bytes
    end: bytes | None = None
    revision: int = 0
    limit: int = 0
    sort_by: SortTarget = "key"
    order: SortOrder = "none"
    keys_only: bool = False
    count_only: bool = False
    min_mod: int = 0
    max_mod: int = 0
    min_create: int = 0
    max_create: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key or range; what is not there is no error.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"old", b"1")
        ...     store.txn([], [kv.Delete(b"old"), kv.Put(b"new", b"1")]).responses[0].deleted
        1

    """

    key: bytes
    end: bytes | None = None
    prev_kv: bool = False


@dataclass(frozen=True, slots=True)
class Txn:
    """``success`` if every comparison holds, else ``failure``: all of it at one revision, or nothing.

    Example:
        >>> from mitoframe import kv
        >>> unless_there = kv.Txn([kv.V(b"b") == 0], [kv.Put(b"b", b"1")])
        >>> with kv.open("memory://") as store:
        ...     store.txn([], [kv.Put(b"a", b"1"), unless_there]).responses[1].succeeded
        True

    """

    compare: Many[Compare]
    success: Many[Operation] = ()
    failure: Many[Operation] = ()


Operation: TypeAlias = "Put | Get | Delete | Txn"


# --- what is answered ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeResult:
    """What a range holds.

    Attributes:
        kvs: sorted as asked.
        revision: the newest of the store, whichever was asked for.
        count: how many keys the range has, whatever limits and bounds left out.
        more: the limit left some out.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     for key in (b"a", b"b", b"c"):
        ...         _ = store.put(key)
        ...     found = store.range(b"", prefix=True, limit=2)
        ...     [kv.key for kv in found.kvs], found.count, found.more, found.revision
        ([b'a', b'b'], 3, True, 4)

    """

    kvs: tuple[KeyValue, ...]
    revision: int
    count: int
    more: bool = False

    def _repr_html_(self) -> str:
        left_out = f", {len(self.kvs):,} of them here" if len(self.kvs) < self.count else ""
        summary = f"{counted(self.count, 'key')}{left_out}; the store is at revision {self.revision:,}"
        return card(summary, [_keys_section(self.kvs)])


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """The revision of a put, and how the key was before, if that was asked for.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     store.put(b"line", b"7")
        PutResult(revision=2, prev_kv=None)

    """

    revision: int
    prev_kv: KeyValue | None = None

    def _repr_html_(self) -> str:
        before = [self.prev_kv] if self.prev_kv else []
        return card(f"put, at revision {self.revision:,}", [_keys_section(before, "Before")])


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    """The newest revision, how many keys were deleted at it, and how they were before, if that was asked for.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"line", b"7")
        ...     store.delete(b"line"), store.delete(b"line")
        (DeleteResult(revision=3, deleted=1, prev_kvs=()), DeleteResult(revision=3, deleted=0, prev_kvs=()))

    """

    revision: int
    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()

    def _repr_html_(self) -> str:
        summary = f"deleted {counted(self.deleted, 'key')}; the store is at revision {self.revision:,}"
        return card(summary, [_keys_section(self.prev_kvs, "Before")])


@dataclass(frozen=True, slots=True, kw_only=True)
class TxnResult:
    """Which branch was taken, the newest revision, and an answer for each operation of the branch.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     store.txn([kv.V(b"a") > 0], [], [kv.Put(b"a")])
        TxnResult(succeeded=False, revision=2, responses=(PutResult(revision=2, prev_kv=None),))

    """

    succeeded: bool
    revision: int
    responses: tuple[Response, ...] = ()

    def _repr_html_(self) -> str:
        held = "every comparison held" if self.succeeded else "a comparison did not hold"
        rows = [(str(number), _told(response)) for number, response in enumerate(self.responses[:ROWS_MAX], 1)]
        answers = Section(title="Answers", rows=rows, row_count=len(self.responses), is_open=True)
        return card(f"{held}; the store is at revision {self.revision:,}", [answers])


Response: TypeAlias = "PutResult | RangeResult | DeleteResult | TxnResult"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBatch:
    """All that happened to what is watched at one revision; no events if it only says how far the watch has come.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store, store.watch(b"line/", prefix=True) as watcher:
        ...     _ = store.txn([], [kv.Put(b"line/1"), kv.Put(b"line/2")])
        ...     batch = watcher.next()
        ...     batch.revision, [event.kv.key for event in batch.events]
        (2, [b'line/1', b'line/2'])

    """

    revision: int
    events: tuple[Event, ...] = ()

    def _repr_html_(self) -> str:
        what = counted(len(self.events), "event") if self.events else "watched"
        where = f"at revision {self.revision:,}" if self.events else f"through revision {self.revision:,}"
        return card(f"{what} {where}", [_events_section(self.events)])


# --- the store as a whole ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a store is.

    Attributes:
        path: where it is.
        revision: the newest.
        compact_revision: the oldest that may be read; -1 if nothing was ever compacted.
        keys: how many are there now.
        leases: how many there are.
        size_bytes: of the file.
        is_compacting: what was compacted is not all dropped yet.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"line", b"7")
        ...     status = store.status()
        ...     status.keys, status.revision, status.compact_revision
        (1, 2, -1)

    """

    path: str
    revision: int
    compact_revision: int
    keys: int
    leases: int
    size_bytes: int
    is_compacting: bool = False

    def _repr_html_(self) -> str:
        summary = f"{self.path}: {counted(self.keys, 'key')} at revision {self.revision:,}"
        return card(summary, [_details(self, but=("path", "keys", "revision"))])


@dataclass(frozen=True, slots=True, kw_only=True)
class HashInfo:
    """A checksum of all that is kept up to ``revision``, by which two stores can be compared.

    ``compact_revision`` is the oldest revision that may be read: stores that differ in it have other checksums.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     before = store.hash_kv()
        ...     _ = store.put(b"a")
        ...     store.hash_kv(before.revision) == before, store.hash_kv() == before
        (True, False)

    """

    hash: int
    revision: int
    compact_revision: int

    def _repr_html_(self) -> str:
        return card(f"{self.hash:08x}, of revision {self.revision:,}", [_details(self, but=("hash", "revision"))])


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A copy of a store: the file, its newest revision, its size, and the SHA-256 of its bytes in hexadecimal.

    Example:
        >>> import tempfile
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store, tempfile.TemporaryDirectory() as folder:
        ...     copied = store.snapshot(folder + "/copy.kv")
        >>> copied.revision, len(copied.sha256)
        (1, 64)

    """

    path: str
    revision: int
    size_bytes: int
    sha256: str

    def _repr_html_(self) -> str:
        return card(f"copy of revision {self.revision:,}: {self.path}", [_details(self, but=("path", "revision"))])


# --- how it looks --------------------------------------------------------------------------------------


def _keys_section(kvs: Many[KeyValue], title: str = "Keys") -> Section:
    header = ("key", "value", "changed at", "version", "lease")
    rows = [
        (_shown(kv.key), _shown(kv.value), f"{kv.mod_revision:,}", f"{kv.version:,}", str(kv.lease or ""))
        for kv in kvs[:ROWS_MAX]
    ]
    return Section(title=title, header=header, rows=rows, row_count=len(kvs), is_open=True)


def _events_section(events: Many[Event]) -> Section:
    rows = [
        (event.kind, _shown(event.kv.key), _shown(event.kv.value), _shown(event.prev_kv.value) if event.prev_kv else "")
        for event in events[:ROWS_MAX]
    ]
    header = ("", "key", "value", "before")
    return Section(title="Events", header=header, rows=rows, row_count=len(events), is_open=True)


def _details(value: Status | HashInfo | SnapshotInfo, *, but: Many[str]) -> Section:
    named = [(each.name, getattr(value, each.name)) for each in fields(value) if each.name not in but]
    rows = [(name, f"{found:,}" if type(found) is int else str(found)) for name, found in named]
    return Section(title="Details", rows=rows, note=" ", is_open=True)


def _told(response: Response) -> str:
    match response:
        case PutResult():
            return "put"
        case RangeResult(kvs=(kv,), count=1):
            return f"{_shown(kv.key)} is {_shown(kv.value)}"
        case RangeResult():
            return counted(response.count, "key")
        case DeleteResult():
            return f"deleted {counted(response.deleted, 'key')}"
        case TxnResult():
            return "every comparison held" if response.succeeded else "a comparison did not hold"


def _shown(data: bytes) -> str:
    """Return bytes as people read them: text where it is, escapes where it is not, and not all of what is long."""
    text = data[:200].decode("utf-8", errors="backslashreplace")
    text = "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
    return text if len(data) <= 200 else f"{text}… ({len(data):,} bytes)"
