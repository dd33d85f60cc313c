r"""The bytes of one log segment: what is written, and what is made of bytes that are read back. No I/O here.

All numbers are unsigned and little endian; every checksum is CRC32C.

    segment = header record* [seal]

    header, 96 bytes
       0  magic                 8   b"MITOWAL\x01"
       8  format version        4   1; a newer one is refused
      12  flags                 4   bit 0: the ids before this segment were given up (see `IDS_SKIPPED`)
      16  store id             16
      32  boot                 16   hash of the boot id of the machine that wrote this; zeros if unknown
      48  first entry id        8   of the first record; the next id to be given while there is none
      56  previous first id     8   what the segment before this one is called; 0 if there never was one
      64  previous last id      8   the last entry of the segment before
      72  previous checksum     4   of the last record of the segment before
      76  salt                 16   random, so that no two segments have the same checksum
      92  checksum              4   of bytes 0..92

    record, 48 bytes and the payload (a seal has none, and repeats the last entry id)
       0  marker                4   b"MREC"
       4  checksum              4   of the header's checksum as a seed, bytes 8..48 and the payload
       8  payload length        8
      16  entry id              8   contiguous
      24  region id             8   0 in a seal
      32  synced through        8   up to this offset the segment was durable when this record was written
      40  previous checksum     4   of the record before; of the header for the first record
      44  kind                  4   0 data, 1 seal

Seeding each checksum with the header's, which is salted, binds a record to its segment: bytes that an earlier file
left on the disk, or that somebody stored as a payload, are never taken for records of this one.

**Torn or corrupt?** A crash may leave the end of the *last* segment torn; nothing lost by it was acknowledged. The
first bad record is held for torn unless there is proof of the contrary:

* a later record that is whole was written when these bytes were already durable; a seal, written after
  everything was synced, is such a record;
* the machine has not restarted since, so that the page cache kept everything a killed process had written, and
  the bytes are not what is left by stopping half-way through a record;
* the record is whole but for its length, or whole and in the wrong place, or follows a seal.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import google_crc32c
import numpy as np

from mitoframe.model.errors import ConfigError
from mitoframe.model.ids import EntryId, RegionId

FORMAT_VERSION = 1
HEADER_SIZE_BYTES = 96
RECORD_HEADER_SIZE_BYTES = 48

IDS_SKIPPED = 1
"""Header flag: entries before this segment were lost to damage, and their ids are not given again."""

KIND_DATA, KIND_SEAL = 0, 1

_MAGIC = b"MITOWAL\x01"
_MARKER = b"MREC"
_HEADER = struct.Struct("<8sII16s16sQQQI16s")
_CHECKSUM = struct.Struct("<I")
_RECORD = struct.Struct("<4sIQQQQII")
_CHECKED_FIELDS = struct.Struct("<QQQQII")
_CHECKED_FROM = 8

assert _HEADER.size + _CHECKSUM.size == HEADER_SIZE_BYTES
assert _RECORD.size == _CHECKED_FROM + _CHECKED_FIELDS.size == RECORD_HEADER_SIZE_BYTES

UNKNOWN_BOOT = bytes(16)


def boot_hash(boot_id: str) -> bytes:
    return blake2b(boot_id.encode(), digest_size=16).digest() if boot_id else UNKNOWN_BOOT


def checksum(data: bytes | memoryview, seed: int = 0) -> int:
    # The library takes read-only buffers but no memoryview; an array over the same bytes passes, without a copy.
    return int(google_crc32c.extend(seed, np.frombuffer(data, dtype=np.uint8)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    store_id: bytes
    boot: bytes
    salt: bytes
    first_entry_id: int
    previous_first_entry_id: int = 0
    previous_last_entry_id: int = 0
    previous_checksum: int = 0
    flags: int = 0
    version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        fields = _HEADER.pack(
            _MAGIC,
            self.version,
            self.flags,
            self.store_id,
            self.boot,
            self.first_entry_id,
            self.previous_first_entry_id,
            self.previous_last_entry_id,
            self.previous_checksum,
            self.salt,
        )
        return fields + _CHECKSUM.pack(checksum(fields))


class Place(NamedTuple):
    """Where a data record is: its header begins at ``offset``, and ``length`` is the payload's."""

    entry_id: EntryId
    region_id: RegionId
    offset: int
    length: int


class Record(NamedTuple):
    checksum: int
    length: int
    entry_id: int
    region_id: int
    synced_through: int
    previous_checksum: int
    kind: int

    @property
    def size_bytes(self) -> int:
        return RECORD_HEADER_SIZE_BYTES + self.length


class Mark(NamedTuple):
    """A state of a chain to go back to."""

    length: int
    last_entry_id: int
    last_checksum: int
    sealed: bool
    places: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    offset: int
    reason: str
    torn: bool


@dataclass(slots=True, kw_only=True)
class Chain:
    """The state of a segment at its end: what the next record must follow, and what was read so far."""

    header: SegmentHeader
    seed: int
    length: int
    last_entry_id: int
    last_checksum: int
    sealed: bool = False
    places: list[Place] = field(default_factory=list)

    @classmethod
    def start(cls, header: SegmentHeader) -> Chain:
        (seed,) = _CHECKSUM.unpack(header.encode()[-_CHECKSUM.size :])
        return cls(
            header=header,
            seed=seed,
            length=HEADER_SIZE_BYTES,
            last_entry_id=header.first_entry_id - 1,
            last_checksum=seed,
        )

    def follow(self, record: Record) -> None:
        """Move to the end of a record that fits."""
        if record.kind == KIND_SEAL:
            self.sealed = True
        else:
            place = Place(EntryId(record.entry_id), RegionId(record.region_id), self.length, record.length)
            self.places.append(place)
        self.length += record.size_bytes
        self.last_entry_id, self.last_checksum = record.entry_id, record.checksum

    def mark(self) -> Mark:
        return Mark(self.length, self.last_entry_id, self.last_checksum, self.sealed, len(self.places))

    def go_back(self, mark: Mark) -> list[Place]:
        """Return to an earlier state of this chain, and give the places beyond it."""
        beyond = self.places[mark.places :]
        del self.places[mark.places :]
        self.length, self.last_entry_id = mark.length, mark.last_entry_id
        self.last_checksum, self.sealed = mark.last_checksum, mark.sealed
        return beyond

    def misfit(self, record: Record) -> str | None:
        """Say why a record cannot stand here, if it cannot."""
        if self.sealed:
            return "a record follows the seal"
        if record.kind not in (KIND_DATA, KIND_SEAL):
            return f"unknown kind of record {record.kind}"
        if record.previous_checksum != self.last_checksum:
            return "the record does not follow the one before it"
        expected = self.last_entry_id + (record.kind == KIND_DATA)
        if record.entry_id != expected:
            return f"entry {record.entry_id} stands where entry {expected} belongs"
        if record.synced_through > self.length:
            return "the record claims that its own bytes were already durable"
        return None


def encode_record(
    chain: Chain, parts: Sequence[memoryview], *, region_id: int, kind: int, synced_through: int
) -> bytes:
    """Return the header of the record that comes next. The parts of its payload are to be written after it."""
    fields = _CHECKED_FIELDS.pack(
        sum(map(len, parts)),
        chain.last_entry_id + (kind == KIND_DATA),
        region_id,
        synced_through,
        chain.last_checksum,
        kind,
    )
    sum_of_all = checksum(fields, chain.seed)
    for part in parts:
        sum_of_all = checksum(part, sum_of_all)
    return _MARKER + _CHECKSUM.pack(sum_of_all) + fields


def decode_record(data: bytes, offset: int) -> Record:
    """Read a record's header unchecked. Requires: its 48 bytes are there."""
    return Record(*_RECORD.unpack_from(data, offset)[1:])


def is_whole(data: bytes, offset: int, record: Record, seed: int) -> bool:
    """Check that a record has its marker, is all there, and has the right checksum."""
    if not data.startswith(_MARKER, offset) or record.size_bytes > len(data) - offset:
        return False
    checked = memoryview(data)[offset + _CHECKED_FROM : offset + record.size_bytes]
    return checksum(checked, seed) == record.checksum


def decode_header(data: bytes, *, path: str) -> SegmentHeader | Damage:
    """Read a segment's header. A newer format raises `ConfigError`, which names ``path``."""
    if not data:
        return Damage(offset=0, reason="the segment is empty", torn=True)
    if len(data) < HEADER_SIZE_BYTES:
        return Damage(offset=0, reason="the segment's header is incomplete", torn=True)
    # The name is durable only after the header is, so no crash leaves a header of full length but other bytes.
    fields, stored = data[: _HEADER.size], _CHECKSUM.unpack_from(data, _HEADER.size)[0]
    magic, version, flags, store_id, boot, first, previous_first, previous_last, previous_sum, salt = _HEADER.unpack(
        fields
    )
    if magic != _MAGIC or checksum(fields) != stored or version < 1:
        return Damage(offset=0, reason="the segment's header is damaged", torn=False)
    if version > FORMAT_VERSION or flags & ~IDS_SKIPPED:
        raise ConfigError(
            f"{path}: written by a newer mitoframe (log format {version}, flags {flags:#x}; this one reads format "
            f"{FORMAT_VERSION}). Open the store with that version or a later one."
        )
    return SegmentHeader(
        store_id=store_id,
        boot=boot,
        salt=salt,
        first_entry_id=first,
        previous_first_entry_id=previous_first,
        previous_last_entry_id=previous_last,
        previous_checksum=previous_sum,
        flags=flags,
        version=version,
    )


def scan(data: bytes, header: SegmentHeader, *, boot: bytes) -> tuple[Chain, Damage | None]:
    """Follow the records to the end or to the first that is bad, and judge that one as if the segment were the last."""
    chain = Chain.start(header)
    while chain.length < len(data):
        record, reason, proven = _next_record(data, chain)
        if record is None:
            same_boot = header.boot == boot != UNKNOWN_BOOT
            proven = proven or _is_proven_damage(data, chain, same_boot=same_boot)
            return chain, Damage(offset=chain.length, reason=reason, torn=not proven)
        chain.follow(record)
    return chain, None


def _next_record(data: bytes, chain: Chain) -> tuple[Record | None, str, bool]:
    """Return the next record; or why there is none, and whether that alone proves damage."""
    offset = chain.length
    if len(data) - offset < RECORD_HEADER_SIZE_BYTES:
        return None, "the record's header is incomplete", chain.sealed
    record = decode_record(data, offset)
    if is_whole(data, offset, record, chain.seed):
        misfit = chain.misfit(record)
        return (None, misfit, True) if misfit else (record, "", False)
    if not data.startswith(_MARKER, offset):
        return None, "there is no record where one should begin", chain.sealed
    if record.size_bytes > len(data) - offset:
        return None, "the record is incomplete", chain.sealed
    return None, "the record's checksum does not match its bytes", chain.sealed


def _is_proven_damage(data: bytes, chain: Chain, *, same_boot: bool) -> bool:
    if _is_whole_but_for_its_length(data, chain):
        return True
    later = _whole_records_after(data, chain)
    if same_boot:
        return not _could_be_cut_short(data, chain) or any(True for _ in later)
    return any(record.synced_through > chain.length for record in later)


def _could_be_cut_short(data: bytes, chain: Chain) -> bool:
    """Check whether the bytes after the chain are what stopping half-way through writing a record leaves."""
    offset = chain.length
    start = data[offset : offset + RECORD_HEADER_SIZE_BYTES]
    if len(start) < RECORD_HEADER_SIZE_BYTES:
        return start.startswith(_MARKER[: len(start)])
    record = decode_record(data, offset)
    return start.startswith(_MARKER) and chain.misfit(record) is None and record.size_bytes > len(data) - offset


def _is_whole_but_for_its_length(data: bytes, chain: Chain) -> bool:
    offset = chain.length
    if len(data) - offset < RECORD_HEADER_SIZE_BYTES:
        return False
    record = decode_record(data, offset)
    length = len(data) - offset - RECORD_HEADER_SIZE_BYTES
    fields = _CHECKED_FIELDS.pack(length, *record[2:])
    payload = memoryview(data)[offset + RECORD_HEADER_SIZE_BYTES :]
    return checksum(payload, checksum(fields, chain.seed)) == record.checksum


def _whole_records_after(data: bytes, chain: Chain) -> Iterator[Record]:
    """Find whole records behind the bad one by their marker."""
    offset = data.find(_MARKER, chain.length + 1)
    while 0 <= offset <= len(data) - RECORD_HEADER_SIZE_BYTES:
        record = decode_record(data, offset)
        # These comparisons are cheap and spare nearly all checksums over what only looks like a marker.
        plausible = record.entry_id >= chain.last_entry_id and record.synced_through <= offset
        if plausible and is_whole(data, offset, record, chain.seed):
            yield record
            offset = data.find(_MARKER, offset + record.size_bytes)
        else:
            offset = data.find(_MARKER, offset + 1)
