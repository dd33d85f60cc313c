"""Revisions, and how rows are written down: bytes that sort as what they mean, each row with a checksum of its own.

    revision    main (uint64 BE), sub (uint32 BE): the place of a change in its transaction
    rev         revision                    -> numbers, length of key (uint32 LE), key, value
    idx         escaped key, 00 00, revision -> numbers
    head        key                         -> revision, numbers; only of keys that are there
    lease       id (uint64 BE)              -> seconds to live, stamp (2 x int64 LE)
    leasekey    id (uint64 BE), key         -> nothing
    meta        "format", "state"           -> see kv/rows.py

    numbers     create_revision, version, lease (3 x int64 LE); a tombstone has version 0, and 0 for the others
    escaped     00 in a key is 00 FF, so that keys sort as themselves, and 00 00 is smaller than what any goes on with

A stored value is followed by the CRC32C (uint32 LE) of: name of the tree, length of the row's key (uint32 LE), the
row's key, the value. A row that was changed, moved, or found in another tree is refused.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import google_crc32c

from mitoframe.kv.backend import TREES, Tree

CHECKSUM_BYTES = 4

_REVISION = struct.Struct(">QI")
_NUMBERS = struct.Struct("<qqq")
_LENGTH = struct.Struct("<I")
_LEASE = struct.Struct(">Q")
_TERMINATOR = b"\0\0"
_SIZES: dict[Tree, tuple[int, int]] = {
    "meta": (0, 0),
    "rev": (_REVISION.size, _NUMBERS.size + _LENGTH.size),
    "idx": (len(_TERMINATOR) + _REVISION.size, _NUMBERS.size),
    "head": (0, _REVISION.size + _NUMBERS.size),
    "lease": (_LEASE.size, struct.calcsize("<2q")),
    "leasekey": (_LEASE.size, 0),
}
"""The least that key and value of a row have: shorter ones are refused rather than taken apart."""
_SEEDS = {tree: int(google_crc32c.value(tree.encode())) for tree in TREES}


class Revision(NamedTuple):
    """``main`` is what the store counts; ``sub`` tells the changes of one transaction apart."""

    main: int
    sub: int = 0

    def to_bytes(self) -> bytes:
        """Return bytes that sort as revisions do.

        >>> Revision.from_bytes(Revision(7, 1).to_bytes())
        Revision(main=7, sub=1)
        """
        return _REVISION.pack(self.main, self.sub)

    @classmethod
    def from_bytes(cls, data: bytes) -> Revision:
        return cls(*_REVISION.unpack_from(data))


class Entry(NamedTuple):
    """A change of a key, without key and value."""

    revision: Revision
    create_revision: int
    version: int
    lease: int

    @property
    def main(self) -> int:
        return self.revision.main

    @property
    def is_tombstone(self) -> bool:
        return self.version == 0


# --- rows ----------------------------------------------------------------------------------------------


def index_bound(key: bytes) -> bytes:
    """Return where the rows of ``key`` begin in ``idx``; those of smaller keys lie before it."""
    return key.replace(b"\0", b"\0\xff") + _TERMINATOR


def index_key(key: bytes, revision: Revision) -> bytes:
    return index_bound(key) + revision.to_bytes()


def split_index_key(data: bytes) -> tuple[bytes, Revision]:
    escaped, revision = data[: -_REVISION.size], data[-_REVISION.size :]
    return escaped.removesuffix(_TERMINATOR).replace(b"\0\xff", b"\0"), Revision.from_bytes(revision)


def numbers_to_bytes(entry: Entry) -> bytes:
    return _NUMBERS.pack(*entry[1:])


def numbers_from_bytes(revision: Revision, data: bytes) -> Entry:
    return Entry(revision, *_NUMBERS.unpack_from(data))


def head_to_bytes(entry: Entry) -> bytes:
    return entry.revision.to_bytes() + numbers_to_bytes(entry)


def head_from_bytes(data: bytes) -> Entry:
    return numbers_from_bytes(Revision.from_bytes(data[: _REVISION.size]), data[_REVISION.size :])


def record_to_bytes(entry: Entry, key: bytes, value: bytes) -> bytes:
    return numbers_to_bytes(entry) + _LENGTH.pack(len(key)) + key + value


def record_from_bytes(revision: Revision, data: bytes) -> tuple[Entry, bytes, bytes]:
    """Return a change, its key and its value."""
    entry = numbers_from_bytes(revision, data[: _NUMBERS.size])
    start = _NUMBERS.size + _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, _NUMBERS.size)
    return entry, data[start : start + length], data[start + length :]


def lease_to_bytes(lease: int) -> bytes:
    return _LEASE.pack(lease)


def lease_from_bytes(data: bytes) -> int:
    return int(_LEASE.unpack_from(data)[0])


def lease_key_from_bytes(data: bytes) -> tuple[int, bytes]:
    return lease_from_bytes(data[: _LEASE.size]), data[_LEASE.size :]


# --- checksums -----------------------------------------------------------------------------------------


def checksum(tree: Tree, key: bytes, value: bytes) -> int:
    return int(google_crc32c.extend(_SEEDS[tree], _LENGTH.pack(len(key)) + key + value))


def seal(tree: Tree, key: bytes, value: bytes) -> bytes:
    """Return a value as it is stored."""
    return value + _LENGTH.pack(checksum(tree, key, value))


def stored_checksum(sealed: bytes) -> int:
    return int(_LENGTH.unpack(sealed[-CHECKSUM_BYTES:])[0])


def is_sealed(tree: Tree, key: bytes, sealed: bytes) -> bool:
    """Say whether this is what was stored there."""
    # SQLite returns text, numbers or None where damage has changed a type.
    if type(key) is not bytes or type(sealed) is not bytes:
        return False
    key_bytes, value_bytes = _SIZES[tree]
    if len(key) < key_bytes or len(sealed) < value_bytes + CHECKSUM_BYTES:
        return False
    return stored_checksum(sealed) == checksum(tree, key, sealed[:-CHECKSUM_BYTES])
