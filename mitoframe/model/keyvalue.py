"""The words of a key-value store with revisions: what is asked of it, and what it answers.

They are etcd's, with its meaning. A store has one counter, its *revision*, which every transaction that changes
something raises by one. A key remembers at which revision it was created (``create_revision``), changed last
(``mod_revision``), and how often since it was created (``version``); once deleted and put again it begins anew. Keys
and values are bytes, ordered byte by byte.

Ranges are [key, end). ``end`` None is the key alone; `FROM_KEY` is the key and all after it.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mitoframe.model.card import Section, card
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
    """A key at a revision. ``lease`` is 0 if none is attached; ``value`` is empty where only keys were asked for."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A key's latest state after a revision: ``value`` is None if it was deleted."""

    key: bytes
    value: bytes | None
    mod_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to a key: of a delete ``kv`` has the key and the revision, and nothing else.

    ``prev_kv`` is how the key was before, if that was asked for and is not compacted.
    """

    kind: Literal["put", "delete"]
    kv: KeyValue
    prev_kv: KeyValue | None = None

    @property
    def is_create(self) -> bool:
        return self.kind == "put" and self.kv.create_revision == self.kv.mod_revision


# --- what is asked -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds if what ``target`` names of the key stands so to ``value``; of a range, if it does for every key.

    A key that is not there has 0 for all numbers, and no value: a comparison of its value never holds.
    `V`, `M`, `C`, `L` and `Value` write comparisons as Python does.
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
    """Compare the version of a key: ``V(key) == 0`` holds if it is not there."""
    return Compared(key, "version", end)


def M(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the revision at which a key was changed last."""
    return Compared(key, "mod", end)


def C(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the revision at which a key was created."""
    return Compared(key, "create", end)


def L(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the lease that is attached to a key."""
    return Compared(key, "lease", end)


def Value(key: bytes, end: bytes | None = None) -> Compared:
    """Compare the value of a key."""
    return Compared(key, "value", end)


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key. ``ignore_value`` and ``ignore_lease`` keep what the key has, which must be there then."""

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
    """Delete a key or range; what is not there is no error."""

    key: bytes
    end: bytes | None = None
    prev_kv: bool = False


@dataclass(frozen=True, slots=True)
class Txn:
    """``success`` if every comparison holds, else ``failure``: all of it at one revision, or nothing."""

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

    """

    kvs: tuple[KeyValue, ...]
    revision: int
    count: int
    more: bool = False

    def _repr_html_(self) -> str:
        rows = [(_shown(kv.key), _shown(kv.value), str(kv.mod_revision), str(kv.version)) for kv in self.kvs]
        section = Section(title="Keys", header=("key", "value", "changed at", "version"), rows=rows, is_open=True)
        return card(f"{counted(self.count, 'key')} at revision {self.revision}", [section])


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    revision: int
    prev_kv: KeyValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    revision: int
    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TxnResult:
    """Which branch was taken, the newest revision, and an answer for each operation of the branch."""

    succeeded: bool
    revision: int
    responses: tuple[Response, ...] = ()


Response: TypeAlias = "PutResult | RangeResult | DeleteResult | TxnResult"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBatch:
    """All that happened to what is watched at one revision; no events if it only says how far the watch has come."""

    revision: int
    events: tuple[Event, ...] = ()


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

    """

    path: str
    revision: int
    compact_revision: int
    keys: int
    leases: int
    size_bytes: int
    is_compacting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HashInfo:
    """A checksum of all that is kept up to ``revision``, by which two stores can be compared.

    ``compact_revision`` is the oldest revision that may be read: stores that differ in it have other checksums.
    """

    hash: int
    revision: int
    compact_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A copy of a store: the file, its newest revision, its size, and the SHA-256 of its bytes in hexadecimal."""

    path: str
    revision: int
    size_bytes: int
    sha256: str


def _shown(data: bytes) -> str:
    """Return bytes as people read them: text where it is, escapes where it is not, and not all of what is long."""
    text = data[:200].decode("utf-8", errors="backslashreplace")
    return text if len(data) <= 200 else f"{text}… ({len(data):,} bytes)"
