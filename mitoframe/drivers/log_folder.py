"""The folder of a log: its files' names, and what they hold together.

    folder = { first_entry_id as 20 digits }.wal ...       ids are contiguous over all segments
             ... .wal.tmp                                  a file being written; removed by the next writer
             ... .wal.damaged[.n]                          set aside when damage was accepted; never read again

`LogFolder.find` follows the chain of segments from the oldest to the newest and stops at the first thing that is not
as it was written. Only the end of the newest segment may be torn; a gap, a foreign, renamed, swapped, doubled or
shortened file, and any bad byte elsewhere is damage. What nobody can see here is a log whose newest or oldest segments
were removed altogether: the newest leave no trace, and the oldest are removed when they are no longer needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from mitoframe.drivers.failures import is_disk_full, unavailable
from mitoframe.drivers.log_segment import (
    HEADER_SIZE_BYTES,
    IDS_SKIPPED,
    Chain,
    Damage,
    SegmentHeader,
    decode_header,
    scan,
)
from mitoframe.ports import FileStat, LogDamage, Vfs

TEMPORARY_SUFFIX = ".tmp"

_ATTEMPTS_IN_MOTION = 10
"""How often to look when a writer may have moved the log under a reader's eyes."""

_SEGMENT_NAME = re.compile(r"(\d{20})\.wal")


def segment_name(first_entry_id: int) -> str:
    return f"{first_entry_id:020}.wal"


def parse_segment_name(name: str) -> int | None:
    """Return the first entry id; None if this is not a segment's name."""
    match = _SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match else None


@dataclass(slots=True, kw_only=True, eq=False)
class Segment:
    """``live`` counts the entries that are not obsolete; bytes up to ``synced`` survive a power loss.

    ``stat`` is of the file before it was read: as long as it is the same, so are the bytes.
    """

    name: str
    chain: Chain
    live: int
    synced: int = 0
    stat: FileStat | None = None
    removed: bool = False

    @property
    def first_entry_id(self) -> int:
        return self.chain.header.first_entry_id


class _Reading(NamedTuple):
    """One segment as found. No segment if not even its beginning belongs to this log."""

    segment: Segment | None
    damage: Damage | None
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the folder holds: intact segments (the last perhaps only in part), and names beyond the damage."""

    segments: list[Segment]
    damage: LogDamage | None
    given_up: list[str]


class LogFolder:
    def __init__(self, vfs: Vfs, folder: str, *, store_id: bytes, boot: bytes) -> None:
        self._vfs, self._folder = vfs, folder
        self._store_id, self._boot = store_id, boot

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def place(self, name: str = "") -> str:
        """Say where a file is, or the folder, for people."""
        root = self._vfs.root if self._vfs.root.endswith("/") else f"{self._vfs.root}/"
        return f"{root}{self.path(name)}" if name else f"{root}{self._folder}"

    def prepare(self) -> None:
        """Make the folder, and remove what a crash left half-written."""
        self._vfs.make_dirs(self._folder)
        for name in self._vfs.list(self._folder):
            if name.endswith(TEMPORARY_SUFFIX):
                self._vfs.unlink(self.path(name))

    def sync(self) -> None:
        """Make every name durable."""
        self._vfs.sync_dir(self._folder)

    def write_whole(self, name: str, data: bytes) -> None:
        """Write a whole file so that its name never stands for a part of it."""
        temporary = self.path(name) + TEMPORARY_SUFFIX
        try:
            file = self._vfs.create(temporary)
            try:
                file.write(data)
                file.sync()
            finally:
                file.close()
            self._vfs.rename(temporary, self.path(name))
        except BaseException as error:
            with suppress(OSError):
                self._vfs.unlink(temporary)
            if isinstance(error, OSError) and is_disk_full(error):
                raise unavailable(error, f"writing {self.place(name)}") from error
            raise

    def keep_damaged(self, name: str) -> None:
        """Give a file another name, one that nothing reads."""
        suffix, number = "", 1
        while True:
            try:
                self._vfs.link(self.path(name), self.path(f"{name}.damaged{suffix}"))
            except FileExistsError:
                number += 1
                suffix = f".{number}"
            else:
                return

    def find(self, known: Sequence[Segment] = (), *, in_motion: bool) -> Findings:
        """Read what is there, again if it seems damaged while a writer may be at work (``in_motion``).

        Segments in ``known`` whose files have not changed are taken as they are.
        """
        remaining = _ATTEMPTS_IN_MOTION if in_motion else 1
        while True:
            remaining -= 1
            try:
                findings = self._find(known)
            except FileNotFoundError:
                # A writer may remove a segment after the names were listed.
                if not remaining:
                    raise
                continue
            if not remaining or findings.damage is None or findings.damage.torn:
                return findings

    def _find(self, known: Sequence[Segment]) -> Findings:
        names = self._names()
        segments: list[Segment] = []
        for number, name in enumerate(names):
            newer = names[number + 1 :]
            reading = self._read_segment(name, known, segments[-1] if segments else None)
            if reading.segment is not None:
                segments.append(reading.segment)
            if reading.damage is not None:
                given_up = newer if reading.segment is not None else [name, *newer]
                return Findings(segments=segments, damage=self._describe(reading, newer), given_up=given_up)
        return Findings(segments=segments, damage=None, given_up=[])

    def _describe(self, reading: _Reading, newer: Sequence[str]) -> LogDamage:
        assert reading.damage is not None
        valid = reading.segment.chain.length if reading.segment is not None else 0
        return LogDamage(
            path=reading.path,
            offset=reading.damage.offset,
            reason=reading.damage.reason,
            bytes_lost=reading.size_bytes - valid + sum(self._vfs.stat(self.path(name)).size_bytes for name in newer),
            torn=reading.damage.torn and not newer,
        )

    def _read_segment(self, name: str, known: Sequence[Segment], previous: Segment | None) -> _Reading:
        path = self.path(name)
        stat = self._vfs.stat(path)
        same = _unchanged(known, name, stat)
        if same is not None and self._misplaced(name, same.chain.header, previous) is None:
            return _Reading(same, None, self.place(name), stat.size_bytes)
        data = self._vfs.read(path)
        header = decode_header(data, path=self.place(name))
        if isinstance(header, Damage):
            return _Reading(None, header, self.place(name), len(data))
        misplaced = self._misplaced(name, header, previous)
        if misplaced is not None:
            return _Reading(None, misplaced[1], self.place(misplaced[0]), len(data))
        chain, damage = scan(data, header, boot=self._boot)
        segment = Segment(name=name, chain=chain, live=len(chain.places), stat=stat)
        return _Reading(segment, damage, self.place(name), len(data))

    def _misplaced(self, name: str, header: SegmentHeader, previous: Segment | None) -> tuple[str, Damage] | None:
        """Say which file is wrong, and how, if a whole header does not belong where it stands."""
        if header.store_id != self._store_id:
            reason = f"the segment is of another store ({header.store_id.hex()}, this is {self._store_id.hex()})"
            return name, Damage(offset=0, reason=reason, torn=False)
        if header.first_entry_id != parse_segment_name(name):
            return name, Damage(offset=0, reason=self._why_misnamed(name, header), torn=False)
        if previous is None:
            return None
        if header.previous_first_entry_id != previous.first_entry_id:
            reason = f"the segment before it, {segment_name(header.previous_first_entry_id)}, is missing"
            return name, Damage(offset=0, reason=reason, torn=False)
        end = previous.chain
        if (header.previous_last_entry_id, header.previous_checksum) != (end.last_entry_id, end.last_checksum):
            reason = (
                f"the segment ends after entry {end.last_entry_id}, but was written to {header.previous_last_entry_id}"
            )
            return previous.name, Damage(offset=end.length, reason=reason, torn=False)
        if header.first_entry_id != end.last_entry_id + 1 and not header.flags & IDS_SKIPPED:
            reason = f"the segment begins with entry {header.first_entry_id} instead of {end.last_entry_id + 1}"
            return name, Damage(offset=0, reason=reason, torn=False)
        return None

    def _why_misnamed(self, name: str, header: SegmentHeader) -> str:
        own_name = segment_name(header.first_entry_id)
        there = self._header_under(own_name)
        if there == header:
            return f"the file is a second copy of the segment {own_name}"
        if there is not None and there.first_entry_id == parse_segment_name(name):
            return f"the file holds the segment {own_name}, and that one holds this: the two were swapped"
        return f"the file holds the segment {own_name}, which is not in its place: it was renamed"

    def _header_under(self, name: str) -> SegmentHeader | None:
        """Return what a file begins with; None if it is not there or does not begin well."""
        try:
            data = self._vfs.read(self.path(name), 0, HEADER_SIZE_BYTES)
        except FileNotFoundError:
            return None
        header = decode_header(data, path=self.place(name))
        return None if isinstance(header, Damage) else header

    def _names(self) -> list[str]:
        try:
            names = self._vfs.list(self._folder)
        except FileNotFoundError:
            return []
        return [name for name in names if parse_segment_name(name) is not None]


def _unchanged(known: Sequence[Segment], name: str, stat: FileStat) -> Segment | None:
    """Return a segment that was read to its end and whose file is still the same."""
    same = (segment for segment in known if segment.name == name and segment.stat == stat)
    return next((segment for segment in same if segment.chain.length == stat.size_bytes), None)
