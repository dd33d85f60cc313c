"""All that can happen to a region, as values, and the state they fold into.

A region's manifest is a list of these. ``state.apply(edit)`` is pure: it returns the next state or raises
`ConflictError`, and nobody changes a state in place. The JSON is written to disk: a change of it is a new format.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from mitoframe.model.errors import ConflictError
from mitoframe.model.file import FileMeta, RemovedFile
from mitoframe.model.ids import FIRST_VERSION, NO_ENTRY, NO_SEQUENCE, EntryId, FileId, ManifestVersion, Sequence
from mitoframe.model.index import IndexMeta
from mitoframe.model.options import RegionOptions
from mitoframe.model.past import FormerSchema, Mark, NamedSnapshot, Past, VersionEntry
from mitoframe.model.schema import RegionMetadata
from mitoframe.model.timerange import PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mitoframe.model.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The region's schema and options from now on. The first action of every manifest."""

    metadata: RegionMetadata
    options: RegionOptions
    at_ms: int = 0
    at_sequence: Sequence = NO_SEQUENCE

    def to_json(self) -> dict[str, Any]:
        placed = {"at_ms": self.at_ms, "at_sequence": self.at_sequence}
        known = {name: value for name, value in placed.items() if value}
        return {"change": {"metadata": self.metadata.to_json(), "options": self.options.to_json()} | known}


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEdit:
    """The moment of this edit has a name from now on, or the moment of that name has none any more."""

    name: str
    is_dropped: bool = False
    at_ms: int = 0
    at_sequence: Sequence = NO_SEQUENCE

    def to_json(self) -> dict[str, Any]:
        return {"snapshot": asdict(self)}


CONTENT_PREFIX = "content:"
"""Keys that stand for what was written, not for a write that somebody named."""
EXPIRE = "expire"
"""Why files go of which all rows have expired."""
DELETED = "\0delete"
"""In the place of a key: rows were deleted."""
WRITTEN = "\0write"
"""In the place of a key: rows were written without one, while writes were remembered by their content."""
_UNDO_PREFIX = "\0undo:"


def undo_key(first: Sequence, last: Sequence) -> str:
    """In the place of a key: the write of these sequences was taken back."""
    return f"{_UNDO_PREFIX}{first}:{last}"


def undone(known: Iterable[WriteKey]) -> dict[tuple[Sequence, Sequence], WriteKey]:
    """Return the sequences of writes that were taken back, and for each the write that did it; it may have no rows."""
    found = {}
    for write in known:
        if write.key.startswith(_UNDO_PREFIX):
            first, _, last = write.key.removeprefix(_UNDO_PREFIX).partition(":")
            found[Sequence(int(first)), Sequence(int(last))] = write
    return found


def find_write(known: Iterable[WriteKey], key: str, *, repeats: bool) -> WriteKey | None:
    """Return the newest write of this key that still counts; ``known`` are given oldest first.

    A write that was taken back does not count. One that is known by its content counts only while what it wrote is
    what there is: not after a delete nor, unless ``repeats`` (every row is kept), after a write to the same times.
    """
    by_content = key.startswith(CONTENT_PREFIX)
    taken_back: set[str] = set()
    later: list[WriteKey] = []
    for write in reversed(list(known)):
        if write.key == key:
            counts = undo_key(write.first_sequence, write.last_sequence) not in taken_back
            covered = by_content and not repeats and any(write.meets(other) for other in later)
            return write if counts and not covered else None
        if write.key == DELETED and by_content:
            return None
        if write.key.startswith(_UNDO_PREFIX):
            taken_back.add(write.key)
        later.append(write)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteKey:
    """A write that is known by a key, so that it is not done twice. Times are inclusive."""

    key: str
    first_sequence: Sequence
    row_count: int
    min_time: int
    max_time: int
    at_ms: int

    @property
    def last_sequence(self) -> Sequence:
        return Sequence(self.first_sequence + self.row_count - 1)

    def meets(self, other: WriteKey) -> bool:
        """Tell whether both have a time in common."""
        return self.min_time <= other.max_time and other.min_time <= self.max_time

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> WriteKey:
        return WriteKey(**value)


def write_key(key: str, batch: Batch, at_ms: int) -> WriteKey:
    """Say where the rows of a keyed write are. Requires: they have their sequences."""
    return WriteKey(
        key=key,
        first_sequence=Sequence(int(batch.sequences[0])),
        row_count=len(batch),
        min_time=int(batch.times.min()),
        max_time=int(batch.times.max()),
        at_ms=at_ms,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEdit:
    """Files come and go, and with them the part of the log that is no longer needed.

    Attributes:
        added: SSTs that hold rows of the region from now on.
        removed: SSTs that no longer do. Their objects stay for a while.
        forgotten: removed SSTs whose objects have been deleted.
        history: SSTs of row versions that are superseded already: as if added and removed at once.
        flushed_entry_id: entries of the log up to this are in files, or given up. Only ever moves up.
        flushed_sequence: the same in rows.
        committed_sequence: no row written later has a sequence up to this. Only ever moves up.
        lost_history: versions superseded up to this sequence were not kept.
        write_keys: keyed writes whose rows are in ``added``.
        forget_writes: no earlier keyed write counts any more: its rows may have been removed.
        marks: when rows up to which sequence had been written, for those that left memory.
        indexed: the sidecars that files have from now on; their rows are what they were.
        measured_at: what a time to live was counted back from, in the time column's unit; None without one. Merged
            files tell less of how new the data is, and what has expired is not to come back with a merge.

    """

    added: tuple[FileMeta, ...] = ()
    removed: tuple[FileId, ...] = ()
    forgotten: tuple[FileId, ...] = ()
    history: tuple[FileMeta, ...] = ()
    flushed_entry_id: EntryId | None = None
    flushed_sequence: Sequence | None = None
    committed_sequence: Sequence | None = None
    lost_history: Sequence | None = None
    compaction_window_ms: int | None = None
    write_keys: tuple[WriteKey, ...] = ()
    forget_writes: bool = False
    at_ms: int = 0
    at_sequence: Sequence = NO_SEQUENCE
    reason: str = ""
    marks: tuple[Mark, ...] = ()
    indexed: tuple[tuple[FileId, IndexMeta], ...] = ()
    measured_at: int | None = None

    @property
    def is_flush(self) -> bool:
        """Tell whether rows that were in memory are in files now, and nothing else happened."""
        return self.flushed_sequence is not None and not self.removed and bool(self.added or self.history)

    @property
    def is_neutral(self) -> bool:
        """Tell whether no row that can be seen comes, changes or goes."""
        if self.loses_rows:
            return self.is_flush
        return self.is_flush or self.compaction_window_ms is not None or not (self.added or self.removed)

    @property
    def takes_nothing(self) -> bool:
        """Tell whether no row goes but those that have expired, so that the data is no older afterwards."""
        return self.is_neutral or self.reason == EXPIRE or (not self.removed and not self.loses_rows)

    @property
    def loses_rows(self) -> bool:
        """Tell whether rows left memory and are in no file, so that no moment before can be told."""
        return self.lost_history is not None and self.flushed_sequence is not None

    @property
    def what(self) -> str:
        """Say in a word what it does."""
        if self.is_flush:
            return "flush"
        return "compact" if self.compaction_window_ms is not None else self.reason

    def to_json(self) -> dict[str, Any]:
        marks = {"marks": [list(mark) for mark in self.marks]} if self.marks else {}
        sidecars = [{"file_id": file_id, "index": index.to_json()} for file_id, index in self.indexed]
        indexed = {"indexed": sidecars} if sidecars else {}
        measured = {"measured_at": self.measured_at} if self.measured_at is not None else {}
        return {
            "files": {
                "added": [file.to_json() for file in self.added],
                "removed": list(self.removed),
                "forgotten": list(self.forgotten),
                "history": [file.to_json() for file in self.history],
                "flushed_entry_id": self.flushed_entry_id,
                "flushed_sequence": self.flushed_sequence,
                "committed_sequence": self.committed_sequence,
                "lost_history": self.lost_history,
                "compaction_window_ms": self.compaction_window_ms,
                "write_keys": [key.to_json() for key in self.write_keys],
                "forget_writes": self.forget_writes,
                "at_ms": self.at_ms,
                "at_sequence": self.at_sequence,
                "reason": self.reason,
            }
            | marks
            | indexed
            | measured
        }


Edit: TypeAlias = Change | FileEdit | SnapshotEdit


def is_bookkeeping(edit: Edit) -> bool:
    """Tell whether nothing happened but that files which were removed before are forgotten."""
    if not isinstance(edit, FileEdit) or not edit.forgotten:
        return False
    return edit == FileEdit(
        forgotten=edit.forgotten, reason=edit.reason, at_ms=edit.at_ms, at_sequence=edit.at_sequence
    )


NO_VERSION = ManifestVersion(-1)
"""Of the state that the first edit is applied to."""
DAY_MS = 86_400_000
WRITE_KEYS_MAX = 1_000
"""How many keyed writes a region remembers, the newest."""


def edit_from_json(value: dict[str, Any]) -> Edit:
    """Read what ``to_json`` wrote. ``ValueError`` for an action this version does not know."""
    match value:
        case {"change": body}:
            return Change(
                **body
                | {
                    "metadata": RegionMetadata.from_json(body["metadata"]),
                    "options": RegionOptions.from_json(body["options"]),
                }
            )
        case {"snapshot": body}:
            return SnapshotEdit(**body)
        case {"files": body}:
            # Before format 2, versions that were superseded in memory were not kept.
            lost = {} if "history" in body else {"lost_history": body["flushed_sequence"]}
            return FileEdit(
                **body
                | lost
                | {
                    "added": tuple(FileMeta.from_json(file) for file in body["added"]),
                    "removed": tuple(body["removed"]),
                    "forgotten": tuple(body["forgotten"]),
                    "history": tuple(FileMeta.from_json(file) for file in body.get("history", ())),
                    "write_keys": tuple(WriteKey.from_json(key) for key in body.get("write_keys", ())),
                    "marks": tuple(Mark(*mark) for mark in body.get("marks", ())),
                    "indexed": tuple(
                        (item["file_id"], IndexMeta.from_json(item["index"])) for item in body.get("indexed", ())
                    ),
                }
            )
        case _:
            raise ValueError(f"unknown action {sorted(value)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionState:
    """What a manifest says when all its edits are folded together.

    ``history_floor``: to take a write of a sequence up to it back, versions are missing. ``version`` is that of the
    newest edit. ``past`` is what is known of earlier moments. ``measured_at`` is the latest that a time to live was
    counted back from, None if none was, or if rows have gone since.
    """

    metadata: RegionMetadata
    options: RegionOptions
    files: Mapping[FileId, FileMeta] = field(default_factory=lambda: MappingProxyType({}))
    removed_files: tuple[RemovedFile, ...] = ()
    flushed_entry_id: EntryId = NO_ENTRY
    flushed_sequence: Sequence = NO_SEQUENCE
    committed_sequence: Sequence = NO_SEQUENCE
    history_floor: Sequence = NO_SEQUENCE
    compaction_window_ms: int | None = None
    write_keys: tuple[WriteKey, ...] = ()
    version: ManifestVersion = NO_VERSION
    past: Past = field(default_factory=Past)
    measured_at: int | None = None

    @property
    def partition_width(self) -> int:
        """The time width of memtable partitions, in the time column's unit: the compaction window, a day if unknown."""
        window_ms = self.options.compaction_window_ms or self.compaction_window_ms or DAY_MS
        return window_ms * PER_SECOND[self.metadata.time_unit] // 1000

    def apply(self, edit: Edit) -> RegionState:
        """Return the state after ``edit``.

        Raises:
            ConflictError: the edit removes a file that is not there, or adds one that is; or likewise with snapshots.

        """
        following = replace(
            self,
            version=ManifestVersion(self.version + 1),
            committed_sequence=max(self.committed_sequence, edit.at_sequence),
            past=self._past_after(edit),
        )
        match edit:
            case Change():
                measured_at = self.measured_at if edit.options.ttl_ms is not None else None
                return replace(following, metadata=edit.metadata, options=edit.options, measured_at=measured_at)
            case SnapshotEdit():
                return following
            case FileEdit():
                return following._with_files(edit)

    def _with_files(self, edit: FileEdit) -> RegionState:
        for file_id in edit.removed:
            if file_id not in self.files:
                raise ConflictError(f"file {file_id} is not in the region any more; plan again from the current files.")
        for file in edit.added:
            if file.file_id in self.files:
                raise ConflictError(f"file {file.file_id} is in the region already; it was added before.")
        for file_id, _ in edit.indexed:
            if file_id not in self.files:
                raise ConflictError(f"file {file_id} is not in the region any more; its index is not needed.")
        flushed_sequence = max(self.flushed_sequence, edit.flushed_sequence or NO_SEQUENCE)
        return replace(
            self,
            files=self._files_after(edit),
            removed_files=self._removed_after(edit),
            flushed_entry_id=max(self.flushed_entry_id, edit.flushed_entry_id or NO_ENTRY),
            flushed_sequence=flushed_sequence,
            committed_sequence=max(self.committed_sequence, flushed_sequence, edit.committed_sequence or NO_SEQUENCE),
            history_floor=self._floor_after(edit),
            compaction_window_ms=edit.compaction_window_ms or self.compaction_window_ms,
            write_keys=((() if edit.forget_writes else self.write_keys) + edit.write_keys)[-WRITE_KEYS_MAX:],
            measured_at=self._measured_after(edit),
        )

    def _measured_after(self, edit: FileEdit) -> int | None:
        known = [edit.measured_at, self.measured_at if edit.takes_nothing else None]
        return max((time for time in known if time is not None), default=None)

    def _files_after(self, edit: FileEdit) -> Mapping[FileId, FileMeta]:
        removed = frozenset(edit.removed)  # Of ten thousand, asking a tuple for each takes seconds.
        kept = {file_id: file for file_id, file in self.files.items() if file_id not in removed}
        indexed = {file_id: replace(self.files[file_id], index=index) for file_id, index in edit.indexed}
        return MappingProxyType(kept | {file.file_id: self._placed(file, edit) for file in edit.added} | indexed)

    def _placed(self, file: FileMeta, edit: FileEdit) -> FileMeta:
        """Note in which version a file took the place of others: before, its rows are to be read from those."""
        is_derived = not edit.is_flush and file.min_sequence <= edit.at_sequence
        version = self.version if is_derived else FIRST_VERSION
        # Of ten thousand files that are opened hardly any changes.
        return file if file.derived_version == version else replace(file, derived_version=version)

    def _removed_after(self, edit: FileEdit) -> tuple[RemovedFile, ...]:
        forgotten = frozenset(edit.forgotten)
        waiting = tuple(file for file in self.removed_files if file.file_id not in forgotten)
        gone = (*(self.files[file_id] for file_id in edit.removed), *edit.history)
        return waiting + tuple(
            RemovedFile(
                file_id=file.file_id,
                removed_ms=edit.at_ms,
                removed_sequence=edit.at_sequence,
                file=file,
                removed_version=self.version,
            )
            for file in gone
        )

    def _floor_after(self, edit: FileEdit) -> Sequence:
        forgotten = [file.removed_sequence for file in self._forgotten_by(edit)]
        return max([self.history_floor, edit.lost_history or NO_SEQUENCE, *forgotten])

    def _forgotten_by(self, edit: FileEdit) -> list[RemovedFile]:
        forgotten = frozenset(edit.forgotten)
        return [file for file in self.removed_files if file.file_id in forgotten]

    # --- earlier moments --------------------------------------------------------------------------------

    def _past_after(self, edit: Edit) -> Past:
        """Return what is known of earlier moments after ``edit``."""
        past = self.past.with_entry(self._entry(edit))
        match edit:
            case Change() if (edit.metadata, edit.options) != (self.metadata, self.options):
                former = FormerSchema(
                    before=ManifestVersion(self.version + 1), metadata=self.metadata, options=self.options
                )
                return past.with_former(former)
            case FileEdit():
                return past.with_marks(edit.marks).since(self._kept_after(edit))
            case SnapshotEdit():
                return self._named_after(edit, past)
            case _:
                return past

    def _entry(self, edit: Edit) -> VersionEntry:
        newest = self.past.entries[-1] if self.past.entries else None
        before = max(edit.at_sequence, newest.sequence if newest is not None else NO_SEQUENCE)
        row_count = newest.row_count if newest is not None else sum(file.row_count for file in self.files.values())
        sequence, what, is_neutral = before, "create" if self.version == NO_VERSION else "alter", False
        if isinstance(edit, FileEdit):
            sequence = max(before, edit.committed_sequence or NO_SEQUENCE)
            what, is_neutral = edit.what, edit.is_neutral
            row_count += sum(file.row_count for file in edit.added)
            row_count -= sum(self.files[file_id].row_count for file_id in edit.removed if file_id in self.files)
        if isinstance(edit, SnapshotEdit):
            what, is_neutral = "drop_snapshot" if edit.is_dropped else "snapshot", True
        return VersionEntry(
            version=ManifestVersion(self.version + 1),
            before=before,
            sequence=sequence,
            at_ms=edit.at_ms,
            what=what,
            row_count=row_count,
            is_neutral=is_neutral,
        )

    def _kept_after(self, edit: FileEdit) -> ManifestVersion:
        """Return the version before which moments cannot be told after an edit."""
        forgotten = [file.removed_version for file in self._forgotten_by(edit)]
        # Before format 2 it was not said what was there when files were removed.
        is_vague = bool(edit.removed) and edit.at_sequence == NO_SEQUENCE
        lost = [ManifestVersion(self.version + 1)] if edit.loses_rows or is_vague else []
        return max([self.past.kept_since, *forgotten, *lost])

    def _named_after(self, edit: SnapshotEdit, past: Past) -> Past:
        is_known = past.snapshot(edit.name) is not None
        if edit.is_dropped:
            if not is_known:
                raise ConflictError(f"there is no snapshot {edit.name!r} any more.")
            return past.without_snapshot(edit.name)
        if is_known:
            raise ConflictError(f"there is a snapshot {edit.name!r} already; drop it, or choose another name.")
        entry = past.entries[-1]
        return past.with_snapshot(
            NamedSnapshot(name=edit.name, version=entry.version, sequence=entry.sequence, at_ms=entry.at_ms)
        )

    def to_json(self) -> dict[str, Any]:
        measured = {"measured_at": self.measured_at} if self.measured_at is not None else {}
        return measured | {
            "metadata": self.metadata.to_json(),
            "options": self.options.to_json(),
            "files": [file.to_json() for file in self.files.values()],
            "removed_files": [file.to_json() for file in self.removed_files],
            "flushed_entry_id": self.flushed_entry_id,
            "flushed_sequence": self.flushed_sequence,
            "committed_sequence": self.committed_sequence,
            "history_floor": self.history_floor,
            "compaction_window_ms": self.compaction_window_ms,
            "write_keys": [key.to_json() for key in self.write_keys],
            "version": self.version,
            "past": self.past.to_json(),
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> RegionState:
        files = [FileMeta.from_json(file) for file in value["files"]]
        return RegionState(
            **value
            | {
                "metadata": RegionMetadata.from_json(value["metadata"]),
                "options": RegionOptions.from_json(value["options"]),
                "files": MappingProxyType({file.file_id: file for file in files}),
                "removed_files": tuple(RemovedFile.from_json(file) for file in value["removed_files"]),
                "committed_sequence": value.get("committed_sequence", value["flushed_sequence"]),
                "history_floor": value.get("history_floor", value["flushed_sequence"]),
                "write_keys": tuple(WriteKey.from_json(key) for key in value.get("write_keys", ())),
                "past": Past.from_json(value["past"]) if "past" in value else _unknown_past(value, files),
            }
        )


def _unknown_past(value: dict[str, Any], files: list[FileMeta]) -> Past:
    """Return what is known where a state was written before earlier moments could be read: that it is now."""
    newest = Sequence(value.get("committed_sequence", value["flushed_sequence"]))
    entry = VersionEntry(
        version=value["version"],
        before=max(Sequence(newest - 1), NO_SEQUENCE),  # What was there before its newest row is not told.
        sequence=newest,
        at_ms=max((file.created_ms for file in files), default=0),
        what="update",
        row_count=sum(file.row_count for file in files),
        is_neutral=False,
    )
    return Past(entries=(entry,), kept_since=value["version"])
