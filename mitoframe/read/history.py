"""Which files and rows there were at an earlier moment.

Sequences never change, and no file that was removed goes before its time, so an earlier moment is a choice among files
that are still there. It is told file by file:

    rows that were in no file before    the file counts if it holds rows as old as the moment (it may have been flushed
                                        since: then the rows were in memory), and had not been removed yet
    rows that other files held          the file counts from the version on in which it took their place; before that,
                                        those others do
    versions superseded in memory       their file was removed as it was added, so it counts before that only

Of each the rows up to the moment's sequence count. Together that is every row once, but for versions that a later merge
joined to newer ones: those are there in the files they were in then.

`travel` makes a `Snapshot` of it like any other: whoever plans and reads on it need not know that it is of the past. It
has the schema and the options of then.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from mitoframe.model.errors import SnapshotExpiredError
from mitoframe.model.ids import ManifestVersion
from mitoframe.model.past import Mark, Moment
from mitoframe.region.control import Snapshot, VersionControl
from mitoframe.region.version import Version
from mitoframe.storage.memtable import Memtable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, Sequence

ATTEMPTS_MAX = 10
"""How often a moment is looked for again because files went meanwhile."""


def files_at(state: RegionState, moment: Moment) -> tuple[FileMeta, ...]:
    """Return the files that together hold the rows of a moment. Requires: it is kept."""
    removed = [item.file for item in state.removed_files if item.removed_version > moment.version]
    # The indexes of a removed file go before it does.
    without_index = [replace(file, index=None) for file in removed if file is not None]
    return tuple(file for file in [*state.files.values(), *without_index] if _was_there(file, moment))


def _was_there(file: FileMeta, moment: Moment) -> bool:
    if file.derived_version:
        return file.derived_version <= moment.version
    return file.min_sequence <= moment.sequence


def files_of_snapshots(state: RegionState) -> frozenset[FileId]:
    """Return the files that moments with a name need."""
    snapshots = state.past.snapshots
    return frozenset(file.file_id for snapshot in snapshots for file in files_at(state, snapshot.moment))


def state_at(state: RegionState, moment: Moment) -> RegionState:
    """Return the files, the schema and the options of a moment. Requires: it is kept."""
    files = MappingProxyType({file.file_id: file for file in files_at(state, moment)})
    former = state.past.metadata_at(moment.version)
    if former is None:
        return replace(state, files=files)
    return replace(state, files=files, metadata=former.metadata, options=former.options)


def travel(control: VersionControl, moment: Moment) -> Snapshot:
    """Return what there was at a moment. As long as its version is held its files stay.

    Raises:
        SnapshotExpiredError: some of it is not there any more.

    """
    for _ in range(ATTEMPTS_MAX):
        current = control.current()
        past = _snapshot_at(current, moment)
        control.pin(past.version)
        # A deletion may have looked for pins before that one was set: then it has changed what is listed by now.
        if _all_listed(control.current().version.state, past.version.state.files):
            return past
    raise expired(control.current().version.state, f"the moment at sequence {moment.sequence}")


def hold_everything(control: VersionControl) -> tuple[Snapshot, Version]:
    """Return what there is now, and a version that lists every file of the past too and so keeps it."""
    for _ in range(ATTEMPTS_MAX):
        current = control.current()
        state = current.version.state
        removed = {item.file_id: item.file for item in state.removed_files if item.file is not None}
        files = MappingProxyType({**removed, **state.files})
        since = min((ManifestVersion(item.removed_version - 1) for item in state.removed_files), default=state.version)
        held = replace(current.version, state=replace(state, files=files), manifest_version=since)
        control.pin(held)
        if _all_listed(control.current().version.state, files):
            return current, held
    raise expired(control.current().version.state, "what was kept a moment ago")


def _snapshot_at(current: Snapshot, moment: Moment) -> Snapshot:
    state = current.version.state
    if not state.past.is_kept(moment):
        raise expired(state, f"version {moment.version} at sequence {moment.sequence}")
    past = state_at(state, moment)
    buffered = (memtable for memtable in current.version.memtables if _holds_older(memtable, moment.sequence))
    version = Version(
        state=past,
        manifest_version=moment.version,
        mutable=Memtable(0, dedup=past.options.dedup),
        immutables=tuple(buffered),
    )
    return Snapshot(version=version, visible=moment.sequence, last_entry_id=current.last_entry_id)


def _holds_older(memtable: Memtable, sequence: Sequence) -> bool:
    return not memtable.is_empty() and memtable.stats.min_sequence <= sequence


def _all_listed(state: RegionState, wanted: Iterable[FileId]) -> bool:
    return {*state.files, *(file.file_id for file in state.removed_files)}.issuperset(wanted)


# --- which moment is meant --------------------------------------------------------------------------------


def moment_of_version(current: Snapshot, version: int) -> Moment:
    """Return the moment of a manifest version.

    Raises:
        SnapshotExpiredError: there is no such version, or what it needs is gone.

    """
    state = current.version.state
    entry = state.past.entry(version)
    if entry is None:
        raise expired(state, f"version {version}")
    return _kept(state, entry.moment, f"version {version}")


def moment_of_sequence(current: Snapshot, sequence: Sequence) -> Moment:
    """Return the moment at which the row of a sequence had come, and nothing that was changed after it.

    Raises:
        SnapshotExpiredError: what it needs is gone.

    """
    state = current.version.state
    found = state.past.at_sequence(sequence)
    if found is None:
        raise expired(state, f"sequence {sequence}")
    return _kept(state, found, f"sequence {sequence}")


def moment_of_time(control: VersionControl, at_ms: int, shown: str) -> Moment:
    """Return the newest moment that is known to be no later than a time.

    Raises:
        SnapshotExpiredError: nothing that is kept is as old.

    """
    current = control.current()
    state = current.version.state
    entry = next((entry for entry in reversed(state.past.entries) if entry.at_ms <= at_ms), None)
    mark = next((mark for mark in reversed(marks_of(control)) if mark.at_ms <= at_ms), None)
    if mark is not None and (entry is None or mark.sequence > entry.sequence):
        return moment_of_sequence(current, mark.sequence)
    if entry is None:
        raise expired(state, shown)
    return _kept(state, entry.moment, shown)


def marks_of(control: VersionControl) -> list[Mark]:
    """Return when which sequence was the newest, oldest first: those of files, and finer those of memory."""
    recent = control.marks()
    state = control.current().version.state
    oldest = recent[0].sequence if recent else None
    return [*(mark for mark in state.past.marks if oldest is None or mark.sequence < oldest), *recent]


def _kept(state: RegionState, moment: Moment, shown: str) -> Moment:
    if any(known.moment == moment for known in state.past.snapshots):
        return moment  # As it is: its files are kept for it, and not for one that is equal.
    if not state.past.is_kept(moment):
        raise expired(state, shown)
    return state.past.newest_equal(moment)


def expired(state: RegionState, shown: str) -> SnapshotExpiredError:
    """Say that a moment cannot be read any more, what can be, and what to do."""
    kept = state.past.kept_entries()
    there = f"are versions {kept[0].version} to {kept[-1].version}" if kept else "is what there is now"
    named = ", ".join(repr(snapshot.name) for snapshot in state.past.snapshots)
    return SnapshotExpiredError(
        f"{shown} is not kept any more, or never was. Kept {there}"
        f"{f' and snapshots {named}' if named else ''}; versions() lists them. gc_grace_ms says how long earlier rows "
        "are kept; snapshot(name) keeps a moment until it is dropped."
    )
