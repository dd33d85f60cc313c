"""Rows with meaning, over the bytes of a backend's transaction: every row read is checked, every row written is sealed.

    meta "format"   format (uint32 LE)
    meta "state"    revision, compact_scheduled, compact_finished, lease_counter, lease_stamp, keys, leases, rows,
                    digest (9 x int64 LE)

``rows`` counts the rows of all other trees, and ``digest`` is the sum of their checksums, modulo 2**32: so a row that
was lost is noticed when all are read (kv/verifying.py), which opening does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from mitoframe.kv.revision import (
    CHECKSUM_BYTES,
    Entry,
    Revision,
    head_from_bytes,
    head_to_bytes,
    index_bound,
    index_key,
    is_sealed,
    lease_from_bytes,
    lease_key_from_bytes,
    lease_to_bytes,
    numbers_from_bytes,
    numbers_to_bytes,
    record_from_bytes,
    record_to_bytes,
    seal,
    split_index_key,
    stored_checksum,
)
from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.model.keyvalue import FROM_KEY

if TYPE_CHECKING:
    from mitoframe.kv.backend import Reading, Tree, Writing

FORMAT = 1
DIGEST_MODULUS = 2**32

_FORMAT = struct.Struct("<I")
_STATE = struct.Struct("<9q")
_LEASE_ROW = struct.Struct("<2q")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is true of the store as a whole.

    Attributes:
        revision: the newest; an empty store has 1.
        compact_scheduled: the oldest that may be read; -1 if nothing was ever compacted.
        compact_finished: what was dropped for; below ``compact_scheduled`` if some of it is still there.
        lease_counter: the last lease number that was given.
        lease_stamp: the last stamp of a lease that was given; none is given twice.
        keys: how many are there.
        leases: how many are there.
        rows: of all trees but ``meta``.
        digest: the sum of their checksums.

    """

    revision: int = 1
    compact_scheduled: int = -1
    compact_finished: int = -1
    lease_counter: int = 0
    lease_stamp: int = 0
    keys: int = 0
    leases: int = 0
    rows: int = 0
    digest: int = 0

    def to_bytes(self) -> bytes:
        return _STATE.pack(
            self.revision,
            self.compact_scheduled,
            self.compact_finished,
            self.lease_counter,
            self.lease_stamp,
            self.keys,
            self.leases,
            self.rows,
            self.digest,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        revision, scheduled, finished, lease_counter, lease_stamp, keys, leases, rows, digest = _STATE.unpack(data)
        return cls(
            revision=revision,
            compact_scheduled=scheduled,
            compact_finished=finished,
            lease_counter=lease_counter,
            lease_stamp=lease_stamp,
            keys=keys,
            leases=leases,
            rows=rows,
            digest=digest,
        )


class LeaseRow(NamedTuple):
    """A lease: the seconds that it was granted for, and a number that is new with each grant and renewal."""

    ttl_seconds: int
    stamp: int


class Rows:
    """The rows that a transaction sees. ``end`` is as in model/keyvalue.py, but for None, which callers resolve."""

    def __init__(self, transaction: Reading, path: str) -> None:
        self._reading = transaction
        self.path = path

    def is_new(self) -> bool:
        """Say whether nobody has made a store of this yet."""
        return next(self._reading.scan("meta"), None) is None

    def require_format(self) -> None:
        """Refuse what a newer mitoframe has made: `ConfigError`."""
        data = self._get("meta", b"format")
        if data is None or len(data) != _FORMAT.size:
            raise self.corruption("the format of the key-value store is missing")
        (number,) = _FORMAT.unpack(data)
        if number > FORMAT:
            raise ConfigError(
                f"{self.path} has format {number} of the key-value store, this version of mitoframe reads {FORMAT}. "
                "Open it with a newer mitoframe."
            )

    def state(self) -> State:
        data = self._get("meta", b"state")
        if data is None or len(data) != _STATE.size:
            raise self.corruption("the summary of the key-value store is missing")
        return State.from_bytes(data)

    # --- keys ------------------------------------------------------------------------------------------

    def head(self, key: bytes) -> Entry | None:
        """Return the entry of a key that is there now."""
        data = self._get("head", key)
        return None if data is None else head_from_bytes(data)

    def heads(self, key: bytes, end: bytes) -> Iterator[tuple[bytes, Entry]]:
        """Yield keys of a range that are there now, sorted."""
        for found, data in self._scan("head", key, None if end == FROM_KEY else end):
            yield found, head_from_bytes(data)

    def entries(self, key: bytes, end: bytes) -> Iterator[tuple[bytes, Entry]]:
        """Yield all that is kept of the keys of a range, sorted by key and revision."""
        return self.entries_from(index_bound(key), None if end == FROM_KEY else index_bound(end))

    def entries_from(self, start: bytes, end: bytes | None = None) -> Iterator[tuple[bytes, Entry]]:
        """Yield what `entries` does, between bounds as they are stored."""
        for row, data in self._scan("idx", start, end):
            key, revision = split_index_key(row)
            yield key, numbers_from_bytes(revision, data)

    def entry_before(self, key: bytes, main: int) -> Entry | None:
        """Return the last entry of a key before a revision, be it a tombstone; None if none is kept."""
        bounds = index_bound(key), index_key(key, Revision(max(main, 0)))
        for row, data in self._scan("idx", *bounds, descending=True):
            return numbers_from_bytes(split_index_key(row)[1], data)
        return None

    def value(self, key: bytes, entry: Entry) -> bytes:
        data = self._get("rev", entry.revision.to_bytes())
        if data is None:
            raise self.corruption(f"revision {entry.main} of key {key!r} is missing")
        before_value = record_to_bytes(entry, key, b"")
        if not data.startswith(before_value):
            raise self.corruption(f"revision {entry.main} of key {key!r} is another one's")
        return data[len(before_value) :]

    def records(self, first: int, end: int | None = None) -> Iterator[tuple[Entry, bytes, bytes]]:
        """Yield changes with their keys and values, revisions in [first, end)."""
        stop = None if end is None else Revision(end).to_bytes()
        for row, data in self._scan("rev", Revision(max(first, 0)).to_bytes(), stop):
            yield record_from_bytes(Revision.from_bytes(row), data)

    # --- leases ----------------------------------------------------------------------------------------

    def lease(self, lease: int) -> LeaseRow | None:
        """Return what there is of a lease; None if there is no such lease."""
        data = self._get("lease", lease_to_bytes(lease))
        return None if data is None else LeaseRow(*_LEASE_ROW.unpack(data))

    def leases(self) -> Iterator[tuple[int, LeaseRow]]:
        for row, data in self._scan("lease"):
            yield lease_from_bytes(row), LeaseRow(*_LEASE_ROW.unpack(data))

    def lease_keys(self, lease: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield leases and the keys they are attached to, sorted; of all leases, or of one."""
        start, end = (b"", None) if lease is None else (lease_to_bytes(lease), lease_to_bytes(lease + 1))
        for row, _ in self._scan("leasekey", start, end):
            yield lease_key_from_bytes(row)

    # --- bytes -----------------------------------------------------------------------------------------

    def sealed(self, tree: Tree) -> Iterator[tuple[bytes, int]]:
        """Yield the keys of a tree's rows, as they lie, and their checksums, which are right."""
        for key, data in self._reading.scan(tree):
            self._unsealed(tree, key, data)
            yield key, stored_checksum(data)

    def corruption(self, what: str, expected: object = None, found: object = None) -> CorruptionError:
        return CorruptionError(what, path=self.path, expected=expected, found=found)

    def _get(self, tree: Tree, key: bytes) -> bytes | None:
        data = self._reading.get(tree, key)
        return None if data is None else self._unsealed(tree, key, data)

    def _scan(
        self, tree: Tree, start: bytes = b"", end: bytes | None = None, *, descending: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, data in self._reading.scan(tree, start, end, descending=descending):
            yield key, self._unsealed(tree, key, data)

    def _unsealed(self, tree: Tree, key: bytes, data: bytes) -> bytes:
        if not is_sealed(tree, key, data):
            raise self.corruption(f"the row {key!r} of {tree!r} is damaged")
        return data[:-CHECKSUM_BYTES]


class ChangingRows(Rows):
    """Rows that can be written; `finish` says so in the state."""

    def __init__(self, transaction: Writing, path: str) -> None:
        super().__init__(transaction, path)
        self._writing = transaction
        self._rows = self._digest = 0

    @property
    def has_changed(self) -> bool:
        return self._rows != 0 or self._digest != 0

    def create(self) -> None:
        """Make an empty store."""
        self._writing.put("meta", b"format", seal("meta", b"format", _FORMAT.pack(FORMAT)))
        self.finish(State())

    def finish(self, state: State) -> State:
        """Write and return the state, with rows and digest as they are by now."""
        after = replace(state, rows=state.rows + self._rows, digest=(state.digest + self._digest) % DIGEST_MODULUS)
        self._writing.put("meta", b"state", seal("meta", b"state", after.to_bytes()))
        self._rows = self._digest = 0
        return after

    def add(self, key: bytes, entry: Entry, value: bytes) -> None:
        """Add a change of a key, which is its newest."""
        self._put("rev", entry.revision.to_bytes(), record_to_bytes(entry, key, value))
        self._put("idx", index_key(key, entry.revision), numbers_to_bytes(entry))
        if entry.is_tombstone:
            self._delete("head", key)
        else:
            self._put("head", key, head_to_bytes(entry), replaces=True)

    def drop(self, key: bytes, entry: Entry) -> None:
        """Forget a change of a key, which is not its newest, or is a tombstone."""
        self._delete("rev", entry.revision.to_bytes())
        self._delete("idx", index_key(key, entry.revision))

    def set_lease(self, lease: int, row: LeaseRow) -> None:
        self._put("lease", lease_to_bytes(lease), _LEASE_ROW.pack(*row), replaces=True)

    def drop_lease(self, lease: int) -> None:
        self._delete("lease", lease_to_bytes(lease))

    def attach(self, lease: int, key: bytes) -> None:
        self._put("leasekey", lease_to_bytes(lease) + key, b"")

    def detach(self, lease: int, key: bytes) -> None:
        self._delete("leasekey", lease_to_bytes(lease) + key)

    def _put(self, tree: Tree, key: bytes, value: bytes, *, replaces: bool = False) -> None:
        if replaces:
            self._forget(tree, key)
        data = seal(tree, key, value)
        self._count(1, stored_checksum(data))
        self._writing.put(tree, key, data)

    def _delete(self, tree: Tree, key: bytes) -> None:
        self._forget(tree, key)
        self._writing.delete(tree, key)

    def _forget(self, tree: Tree, key: bytes) -> None:
        data = self._writing.get(tree, key)
        if data is not None:
            self._unsealed(tree, key, data)
            self._count(-1, -stored_checksum(data))

    def _count(self, rows: int, digest: int) -> None:
        self._rows += rows
        self._digest += digest
