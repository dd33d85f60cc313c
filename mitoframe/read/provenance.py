"""Where a row comes from: every version of one key that is known, in which file and row, and what became of it.

All files are asked that may hold the key: those of today, those that were removed and are still kept, the histories of
flushes, and memtables. A version may lie in several of them, because a compaction copies it; each copy is told.

    visible         what a scan shows; a merged row has values of older versions too
    delete marker   the newest version says that there is no row
    shadowed        a newer version of the key took its place
    merged          a newer version took its place and has values of it where it is null
    deleted         a newer version is a delete marker
    expired         it is older than the time to live, and is not read whether its file is there or not
    removed         no newer version did it: its file was taken away, by what is said beside it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.batch import Batch, OpType
from mitoframe.model.edit import EXPIRE
from mitoframe.model.ids import Sequence
from mitoframe.model.timerange import TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Sequence as Many

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta, RemovedFile
    from mitoframe.model.ids import ManifestVersion
    from mitoframe.model.past import Mark
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.control import Snapshot
    from mitoframe.storage.sst_reader import SstReader

Fate = Literal["visible", "delete marker", "shadowed", "merged", "deleted", "expired", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The tags of a row, in the order of the schema, and its time."""

    tags: tuple[Any, ...]
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Where a version lies: row ``row`` of a row group, or in memory if there is no file.

    ``removed`` says when the file was taken off the list, None if it is on it.
    """

    file: FileMeta | None
    row_group: int | None
    row: int | None
    removed: RemovedFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """One version of a key.

    Attributes:
        sequence: its number among all rows.
        op_type: what it says: there is a row, or there is none.
        values: its fields, as they were written, or merged by then.
        written_ms: when it was written, None if that is not known any more; it may be somewhat later than it was.
        fate: what became of it.
        by_sequence: the version that did it, if one did.
        by_edit: the manifest version that did it, and what that was, if none did.
        copies: where it lies, those that are read first.

    """

    sequence: Sequence
    op_type: OpType
    values: Mapping[str, Any]
    written_ms: int | None
    fate: Fate
    by_sequence: Sequence | None = None
    by_edit: tuple[ManifestVersion, str] | None = None
    copies: tuple[Copy, ...] = ()


def trace(
    snapshot: Snapshot, reader: SstReader, key: Key, marks: Many[Mark], kept_from: int = TIME_MIN
) -> tuple[KeyVersion, ...]:
    """Return all versions of a key that are known, newest first.

    ``marks`` say when which sequence came, and earlier times than ``kept_from`` have expired.

    Requires: the files that were removed are kept meanwhile (`history.hold_everything`).
    """
    found: dict[Sequence, list[tuple[Copy, Batch]]] = {}
    for copy, row in [*_in_memory(snapshot, key), *_in_files(snapshot, reader, key)]:
        found.setdefault(Sequence(int(row.sequences[0])), []).append((copy, row))
    facts = {sequence: _Facts.of(copies) for sequence, copies in found.items()}
    versions = [_told(snapshot.version.state, sequence, facts, marks) for sequence in sorted(facts, reverse=True)]
    if key.time >= kept_from:
        return tuple(versions)
    return tuple(replace(each, fate="expired") if each.fate == "visible" else each for each in versions)


# --- what became of them ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    copies: tuple[Copy, ...]
    row: Batch

    @staticmethod
    def of(copies: Many[tuple[Copy, Batch]]) -> _Facts:
        ordered = sorted(copies, key=lambda each: each[0].removed is not None)
        return _Facts(copies=tuple(copy for copy, _ in ordered), row=ordered[0][1])

    @property
    def op_type(self) -> OpType:
        return OpType(int(self.row.op_types[0]))

    @property
    def is_listed(self) -> bool:
        return self.copies[0].removed is None

    @property
    def last_removal(self) -> RemovedFile:
        """The edit after which no listed file had it. Requires: it is not listed."""
        removals = [copy.removed for copy in self.copies if copy.removed is not None]
        return max(removals, key=lambda removed: removed.removed_version)


def _told(state: RegionState, sequence: Sequence, facts: Mapping[Sequence, _Facts], marks: Many[Mark]) -> KeyVersion:
    fate, by_sequence, by_edit = _fate(state, sequence, facts)
    mine = facts[sequence]
    return KeyVersion(
        sequence=sequence,
        op_type=mine.op_type,
        values=mine.row.fields.to_pylist()[0] if mine.row.fields.num_columns else {},
        written_ms=next((mark.at_ms for mark in marks if mark.sequence >= sequence), None),
        fate=fate,
        by_sequence=by_sequence,
        by_edit=by_edit,
        copies=mine.copies,
    )


def _fate(
    state: RegionState, sequence: Sequence, facts: Mapping[Sequence, _Facts]
) -> tuple[Fate, Sequence | None, tuple[ManifestVersion, str] | None]:
    mine, dedup = facts[sequence], state.options.dedup
    # A version can only have been replaced by one that came while it was listed.
    reach = None if mine.is_listed else mine.last_removal.removed_sequence
    newer = [other for other in facts if other > sequence and (reach is None or other <= reach)]
    if reach is None:
        newer = [other for other in newer if facts[other].is_listed]
    if newer and dedup != "none":
        by = min(newer)
        if facts[by].op_type is OpType.DELETE:
            return "deleted", by, None
        return ("merged" if dedup == "merge" and mine.op_type is OpType.PUT else "shadowed"), by, None
    if mine.is_listed:
        return ("visible" if mine.op_type is OpType.PUT else "delete marker"), None, None
    removal = mine.last_removal
    entry = state.past.entry(removal.removed_version)
    what = entry.what if entry is not None else "update"
    return ("expired" if what == EXPIRE else "removed"), None, (removal.removed_version, what)


# --- where they lie ---------------------------------------------------------------------------------------


def _in_memory(snapshot: Snapshot, key: Key) -> Iterator[tuple[Copy, Batch]]:
    for memtable in snapshot.version.memtables:
        for part in memtable.ranges():
            rows = part.sorted(snapshot.visible) if part.stats.min_time <= key.time <= part.stats.max_time else None
            if rows is None:
                continue
            code = _code(rows.series, key)
            if code is not None:
                chosen = np.flatnonzero((rows.codes == code) & (rows.times == key.time))
                for row in chosen:
                    yield Copy(file=None, row_group=None, row=None), rows.slice(int(row), 1)


def _in_files(snapshot: Snapshot, reader: SstReader, key: Key) -> Iterator[tuple[Copy, Batch]]:
    state = snapshot.version.state
    listed: list[tuple[FileMeta, RemovedFile | None]] = [(file, None) for file in state.files.values()]
    removed = [(item.file, item) for item in state.removed_files if item.file is not None]
    for file, removal in [*listed, *removed]:
        if file.min_time <= key.time <= file.max_time:
            yield from _in_file(state.metadata, reader, file, removal, key)


def _in_file(
    metadata: RegionMetadata, reader: SstReader, file: FileMeta, removal: RemovedFile | None, key: Key
) -> Iterator[tuple[Copy, Batch]]:
    footer = reader.footer(metadata, file)
    code = _code(footer.series, key)
    if code is None:
        return
    first, last = int(footer.offsets[code]), int(footer.offsets[code + 1])
    names = [field.name for field in metadata.fields]
    for row_group in range(file.row_group_count):
        start, stop = int(footer.starts[row_group]), int(footer.starts[row_group + 1])
        if first >= stop or last <= start:
            continue
        rows = reader.read(metadata, file, [row_group], names)
        low, high = max(first - start, 0), min(last, stop) - start
        for row in low + np.flatnonzero(rows.times[low:high] == key.time):
            copy = Copy(file=file, row_group=row_group, row=int(row), removed=removal)
            yield copy, rows.slice(int(row), 1)


def _code(series: pa.RecordBatch, key: Key) -> int | None:
    """Return which series has the tags of a key, None if there is none."""
    matches = np.ones(len(series), dtype=np.bool_)
    for column, value in zip(series.columns, key.tags, strict=True):
        wanted = pa.scalar(value, column.type)
        same = pc.fill_null(pc.equal(column, wanted), False) if wanted.is_valid else column.is_null()
        matches &= same.to_numpy(zero_copy_only=False)
    found = np.flatnonzero(matches)
    return int(found[0]) if len(found) else None
