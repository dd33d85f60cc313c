"""One log for all regions, in segment files of a `Vfs`.

The bytes of a segment are described in `log_segment`, the names in the folder in `log_folder`.

**Writing.** A segment is made under a temporary name, synced, then renamed, so it never has a torn header.
`append` only writes. `sync` makes the file durable, and the folder when a name is new. A segment beyond its size is
synced before the next is made. A segment found at opening is never written to again: the next append starts another.
An entry is lost only while it is not synced, and then together with all later ones.

**Giving back.** A segment whose entries are all obsolete is removed, oldest first, one durable removal at a time, so
that what remains is always an unbroken chain. One segment always stays: its header carries the next id, so ids
never start again. What is obsolete is not itself recorded: after reopening, entries in segments that are still
there can be read again, and the owner of a region must tell the log again.

**Opening** reads and checks every segment and keeps no payloads. What is not as it was written is torn (what a crash
while writing leaves at the end) or other damage, and ``recovery`` says what becomes of it:

    tolerate_torn_tail   torn: cut off by a writer, ignored by a reader     other damage: `CorruptionError`
    strict               torn: `CorruptionError` for a writer               other damage: `CorruptionError`
    point_in_time        torn: as tolerated                                 other damage: the log ends before it

Where the log ends before damage, a writer sets the bytes it gives up aside, and ids go on above all that may have been
given, so that none is ever given twice. A reader never refuses a torn end: it may be a write under way. A newer format
is refused by all.

**Errors.** A full disk during `append` is undone, and so is an interruption (Ctrl-C). Any other error of the
operating system poisons the log, above all one from a sync: whether the bytes are durable is then unknown and
asking again would not tell.

Safe for several threads. Readers take no lock: they copy a region's list of places, which is one step.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from mitoframe.drivers.clock import SystemRandomness
from mitoframe.drivers.failures import is_disk_full, unavailable
from mitoframe.drivers.log_folder import Findings, LogFolder, Segment, parse_segment_name, segment_name
from mitoframe.drivers.log_segment import (
    IDS_SKIPPED,
    KIND_DATA,
    KIND_SEAL,
    RECORD_HEADER_SIZE_BYTES,
    Chain,
    Mark,
    Place,
    SegmentHeader,
    boot_hash,
    decode_record,
    encode_record,
    is_whole,
)
from mitoframe.model.errors import (
    ClosedError,
    CorruptionError,
    DiskFullError,
    MitoError,
    PoisonedError,
    ReadOnlyError,
    UnknownOutcomeError,
)
from mitoframe.model.ids import NO_ENTRY, EntryId, RegionId
from mitoframe.ports import Bytes, LogDamage, LogEntry, Randomness, Vfs, WritableFile

if TYPE_CHECKING:
    from mitoframe.model.options import WalRecovery

SEGMENT_SIZE_BYTES = 64 << 20
GATHERED_BYTES_MAX = 1 << 20
"""What is smaller is written in one call: copying it costs less than a call for each of its parts."""
SPENT_SIZE_BYTES = 16 << 10
"""A last segment with nothing left to keep is replaced once it is larger than this."""

_FIX = 'Open with mode="r" to read what is intact; open with wal_recovery="point_in_time" to go on without the rest.'
_FIX_TORN = (
    "A crash while writing leaves such an end, and nothing that was synced is lost with it; "
    'open with wal_recovery="tolerate_torn_tail" to go on without it.'
)


class _Indexed(NamedTuple):
    entry_id: EntryId
    segment: Segment
    offset: int
    length: int


class SegmentLog:
    def __init__(
        self,
        vfs: Vfs,
        folder: str = "wal",
        *,
        store_id: str,
        segment_size_bytes: int = SEGMENT_SIZE_BYTES,
        read_only: bool = False,
        recovery: WalRecovery = "tolerate_torn_tail",
        randomness: Randomness | None = None,
    ) -> None:
        """Open the log in ``folder``, or start one. ``store_id`` is 32 hexadecimal digits."""
        self._vfs = vfs
        self._store_id = bytes.fromhex(store_id)
        assert len(self._store_id) == 16, "a store id has 32 hexadecimal digits"
        self._boot = boot_hash(vfs.boot_id())
        self._folder = LogFolder(vfs, folder, store_id=self._store_id, boot=self._boot)
        self._randomness = randomness or SystemRandomness()
        self._segment_size_bytes = segment_size_bytes
        self._read_only, self._recovery = read_only, recovery
        self._mutex = threading.Lock()
        self._cause: BaseException | None = None
        self._closed = False
        self._file: WritableFile | None = None
        self._names_synced = True
        self._segments: list[Segment] = []
        self._index: dict[RegionId, list[_Indexed]] = {}
        self.damage: LogDamage | None = None
        try:
            with self._translated("opening the log in"):
                self._open()
        except BaseException:
            self._let_go()
            raise

    # --- the port ----------------------------------------------------------------------------------------

    def append(self, entries: Sequence[tuple[RegionId, Sequence[Bytes]]]) -> EntryId:
        assert entries, "an empty append is a caller's mistake"
        payloads = [(region_id, [_view(part) for part in parts]) for region_id, parts in entries]
        with self._mutex:
            self._check_writable()
            with self._poisoning("appending"):
                segment = self._segment_with_room_locked()
                self._write_locked(segment, KIND_DATA, payloads)
            return EntryId(segment.chain.last_entry_id)

    def sync(self) -> None:
        with self._mutex:
            self._check_writable()
            with self._poisoning("syncing"):
                self._sync_locked()

    def read(self, region_id: RegionId, after: EntryId) -> Iterator[LogEntry]:
        self._check_open()
        places = list(self._index.get(region_id, ()))
        return self._entries(region_id, places[bisect_right(places, after, key=_entry_id) :])

    def obsolete(self, region_id: RegionId, through: EntryId) -> None:
        with self._mutex:
            self._check_writable()
            self._forget_locked(region_id, through)
            self._remove_spent_locked()

    def regions(self) -> frozenset[RegionId]:
        with self._mutex:
            return frozenset(region_id for region_id, places in self._index.items() if places)

    def last_id(self) -> EntryId:
        return EntryId(self._segments[-1].chain.last_entry_id) if self._segments else NO_ENTRY

    def refresh(self) -> None:
        with self._mutex:
            self._check_open()
            if not self._read_only:
                return
            with self._translated("reading the log in"):
                self._adopt(self._find())

    def close(self) -> None:
        """Sync, seal and let go. What was appended stays readable for the next who opens the log."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            try:
                if self._file is not None and self._cause is None:
                    with self._poisoning("closing"):
                        self._seal_locked()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()

    # --- opening -----------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._read_only:
            self._adopt(self._find())
            return
        self._folder.prepare()
        findings = self._find()
        self._adopt(findings)
        if findings.damage is None or findings.damage.torn:
            self._settle(findings)
        else:
            self._give_up(findings)

    def _find(self) -> Findings:
        findings = self._folder.find(self._segments, in_motion=self._read_only)
        damage = findings.damage
        if damage is None or self._is_accepted(damage):
            return findings
        fix = _FIX_TORN if damage.torn else _FIX
        raise CorruptionError(damage.reason, path=damage.path, offset=damage.offset, fix=fix)

    def _is_accepted(self, damage: LogDamage) -> bool:
        if damage.torn:
            return self._recovery != "strict" or self._read_only
        return self._recovery == "point_in_time"

    def _adopt(self, findings: Findings) -> None:
        index: dict[RegionId, list[_Indexed]] = {}
        for segment in findings.segments:
            for place in segment.chain.places:
                index.setdefault(place.region_id, []).append(_indexed(segment, place))
        self._segments, self._index = findings.segments, index
        # What looks torn to a reader may be a write under way.
        torn_for_reader = self._read_only and findings.damage is not None and findings.damage.torn
        self.damage = None if torn_for_reader else findings.damage

    # --- repair ------------------------------------------------------------------------------------------

    def _settle(self, findings: Findings) -> None:
        """Cut off a torn end and make durable what was read, because the process that wrote it may not have."""
        for name in findings.given_up:
            self._vfs.unlink(self._folder.path(name))
        if self._segments:
            self._settle_last(torn=findings.damage is not None and not findings.given_up)
        self._folder.sync()
        if self._segments and self._segments[-1].chain.places and not self._segments[-1].chain.sealed:
            # From here on these entries are no longer the end of the log, where damage could pass for a torn write.
            with suppress(DiskFullError):
                self._start_segment()

    def _settle_last(self, *, torn: bool) -> None:
        last = self._segments[-1]
        file = self._vfs.append(self._folder.path(last.name))
        try:
            if torn:
                file.truncate(last.chain.length)
            file.sync()
        finally:
            file.close()

    def _give_up(self, findings: Findings) -> None:
        """End the log before the damage. Until the last step, the next opening finds damage again and begins anew."""
        assert findings.damage is not None
        last = self._segments[-1] if self._segments else None
        # A record takes at least its header, so no more ids than this can have been given.
        ids_given_up = findings.damage.bytes_lost // RECORD_HEADER_SIZE_BYTES + 1
        newest_name = max((parse_segment_name(name) or 0 for name in findings.given_up), default=0)
        self._start_segment(skip_to=max(newest_name, self.last_id()) + ids_given_up + 1)
        self._sync_names()
        for name in reversed(findings.given_up):
            self._folder.keep_damaged(name)
            self._vfs.unlink(self._folder.path(name))
        if last is not None and self._vfs.stat(self._folder.path(last.name)).size_bytes > last.chain.length:
            self._folder.keep_damaged(last.name)
            self._folder.write_whole(last.name, self._vfs.read(self._folder.path(last.name), 0, last.chain.length))
        self._folder.sync()

    # --- writing -----------------------------------------------------------------------------------------

    def _segment_with_room_locked(self) -> Segment:
        if self._file is None:
            return self._start_segment()
        last = self._segments[-1]
        return last if last.chain.length < self._segment_size_bytes else self._roll_locked()

    def _roll_locked(self) -> Segment:
        if self._file is not None:
            self._sync_locked()
        return self._start_segment()

    def _start_segment(self, *, skip_to: int | None = None) -> Segment:
        """Make the next segment and write there from now on. Its name is durable after the next sync."""
        header = self._next_header(skip_to)
        name = segment_name(header.first_entry_id)
        self._folder.write_whole(name, header.encode())
        segment = Segment(name=name, chain=Chain.start(header), live=0)
        file = self._vfs.append(self._folder.path(name))
        if self._file is not None:
            self._file.close()
        self._file, self._names_synced = file, False
        if self._segments and self._segments[-1].name == name:
            self._segments.pop()
        self._segments.append(segment)
        return segment

    def _next_header(self, skip_to: int | None) -> SegmentHeader:
        last = self._segments[-1] if self._segments else None
        salt = bytes.fromhex(self._randomness.hex128())
        if last is not None and not last.chain.places and skip_to is None:
            # Nothing was ever written to it: the new one takes its name and its place in the chain.
            return replace(last.chain.header, boot=self._boot, salt=salt)
        return SegmentHeader(
            store_id=self._store_id,
            boot=self._boot,
            salt=salt,
            first_entry_id=skip_to or self.last_id() + 1,
            previous_first_entry_id=last.first_entry_id if last else 0,
            previous_last_entry_id=last.chain.last_entry_id if last else 0,
            previous_checksum=last.chain.last_checksum if last else 0,
            flags=IDS_SKIPPED if skip_to else 0,
        )

    def _write_locked(
        self, segment: Segment, kind: int, payloads: Sequence[tuple[RegionId, Sequence[memoryview]]]
    ) -> None:
        """Write records and move the chain; or, after a full disk or an interruption, leave all as it was."""
        assert self._file is not None
        before, live_before = segment.chain.mark(), segment.live
        pieces: list[bytes | memoryview] = []
        try:
            for region_id, parts in payloads:
                header = encode_record(
                    segment.chain, parts, region_id=region_id, kind=kind, synced_through=segment.synced
                )
                pieces += [header, *parts]
                segment.chain.follow(decode_record(header, 0))
            for data in _gathered(pieces):
                self._file.write(data)
            for place in segment.chain.places[before.places :]:
                segment.live += 1
                self._index.setdefault(place.region_id, []).append(_indexed(segment, place))
        except OSError as error:
            if not is_disk_full(error):
                raise
            self._undo_locked(segment, before, live_before, cause=error)
            raise unavailable(error, f"appending to {self._folder.place(segment.name)}") from error
        except BaseException as error:
            self._undo_locked(segment, before, live_before, cause=error)
            raise

    def _undo_locked(self, segment: Segment, before: Mark, live_before: int, *, cause: BaseException) -> None:
        assert self._file is not None
        undone = False
        try:
            self._file.truncate(before.length)
            self._file.sync()
            undone = True
        finally:
            if not undone:
                self._cause = self._cause or cause
        for place in segment.chain.go_back(before):
            places = self._index.get(place.region_id, [])
            if places and places[-1].entry_id > before.last_entry_id:
                del places[bisect_right(places, before.last_entry_id, key=_entry_id) :]
        segment.live = live_before
        segment.synced = before.length

    def _sync_locked(self) -> None:
        last = self._segments[-1] if self._segments else None
        if last is not None and self._file is not None and last.synced < last.chain.length:
            length = last.chain.length
            self._file.sync()
            self._sync_names()
            last.synced = length
        self._sync_names()

    def _sync_names(self) -> None:
        if not self._names_synced:
            self._folder.sync()
            self._names_synced = True

    def _seal_locked(self) -> None:
        """Mark the end, so that damage before it can never pass for a torn write. A full disk is no reason to fail."""
        last = self._segments[-1]
        self._sync_locked()
        if not last.chain.places:
            return
        with suppress(DiskFullError):
            self._write_locked(last, KIND_SEAL, [(RegionId(0), [])])
        self._sync_locked()

    # --- reading -----------------------------------------------------------------------------------------

    def _entries(self, region_id: RegionId, places: Sequence[_Indexed]) -> Iterator[LogEntry]:
        for place in places:
            payload = self._payload(place)
            if payload is not None:
                yield LogEntry(entry_id=place.entry_id, region_id=region_id, payload=payload)

    def _payload(self, place: _Indexed) -> bytes | None:
        """Read a record again and check it again; None if its segment was removed since, being obsolete."""
        segment = place.segment
        try:
            data = self._vfs.read(
                self._folder.path(segment.name), place.offset, RECORD_HEADER_SIZE_BYTES + place.length
            )
        except FileNotFoundError as error:
            if segment.removed or self._read_only:
                return None
            raise CorruptionError(
                "the segment has vanished", path=self._folder.place(segment.name), fix=_FIX
            ) from error
        except OSError as error:
            raise unavailable(error, f"reading {self._folder.place(segment.name)}") from error
        if len(data) == RECORD_HEADER_SIZE_BYTES + place.length:
            record = decode_record(data, 0)
            if record.entry_id == place.entry_id and is_whole(data, 0, record, segment.chain.seed):
                return data[RECORD_HEADER_SIZE_BYTES:]
        raise CorruptionError(
            f"entry {place.entry_id} is no longer what it was when the log was opened",
            path=self._folder.place(segment.name),
            offset=place.offset,
            fix=_FIX,
        )

    # --- giving back -------------------------------------------------------------------------------------

    def _forget_locked(self, region_id: RegionId, through: EntryId) -> None:
        places = self._index.get(region_id, [])
        count = bisect_right(places, through, key=_entry_id)
        for place in places[:count]:
            place.segment.live -= 1
        del places[:count]

    def _remove_spent_locked(self) -> None:
        self._remove_oldest_spent_locked()
        last = self._segments[-1] if self._segments else None
        if len(self._segments) == 1 and last and not last.live and last.chain.length > SPENT_SIZE_BYTES:
            # A full disk is why space is given back; if there is none for a header, then another time.
            with suppress(DiskFullError), self._poisoning("appending"):
                self._roll_locked()
            self._remove_oldest_spent_locked()

    def _remove_oldest_spent_locked(self) -> None:
        while len(self._segments) > 1 and not self._segments[0].live:
            # One durable step at a time: a power loss that kept a later removal and lost an earlier one would
            # look like a missing segment. And the newest name first, because it carries the ids on.
            with self._poisoning("syncing names"):
                self._sync_names()
            oldest = self._segments[0]
            try:
                with suppress(FileNotFoundError):
                    self._vfs.unlink(self._folder.path(oldest.name))
            except OSError as error:
                raise unavailable(error, f"removing {self._folder.place(oldest.name)}") from error
            oldest.removed = True
            del self._segments[0]
            self._names_synced = False
            with self._poisoning("syncing names"):
                self._sync_names()

    # --- state -------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the log in {self._folder.place()} was closed. Open the store again.")

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise ReadOnlyError(
                f'the log in {self._folder.place()} was opened for reading. Open the store with mode="rw".'
            )
        if self._cause is not None:
            raise PoisonedError(
                f"the log in {self._folder.place()} takes no more writes after an error ({self._cause}). "
                "Open the store again to see what is durable."
            ) from self._cause

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except MitoError:
            raise
        except OSError as error:
            raise unavailable(error, f"{doing} {self._folder.place()}") from error

    @contextmanager
    def _poisoning(self, doing: str) -> Iterator[None]:
        """Let no call through after an error of the operating system that leaves open what is on the disk."""
        try:
            yield
        except MitoError:
            raise
        except OSError as error:
            self._cause = self._cause or error
            raise UnknownOutcomeError(
                f"{doing} in {self._folder.place()} failed ({error}); whether it is durable is unknown. "
                "Open the store again and look."
            ) from error


def _indexed(segment: Segment, place: Place) -> _Indexed:
    return _Indexed(place.entry_id, segment, place.offset, place.length)


def _view(part: Bytes) -> memoryview:
    return memoryview(part).cast("B")  # type: ignore[arg-type]  # anything with the buffer protocol


def _gathered(pieces: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the same bytes in fewer pieces."""
    held: list[bytes | memoryview] = []
    size_bytes = 0
    for piece in filter(len, pieces):
        if held and size_bytes + len(piece) > GATHERED_BYTES_MAX:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size_bytes = [], 0
        held.append(piece)
        size_bytes += len(piece)
    if held:
        yield held[0] if len(held) == 1 else b"".join(held)


def _entry_id(place: _Indexed) -> EntryId:
    return place.entry_id
