"""Opening a region: fold the manifest, replay the log, and be where the last process was.

Rows keep the sequences they were written with, and only entries above ``flushed_entry_id`` are replayed, so a crash at
any point and any number of crashes while recovering give the same region. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from mitoframe.failpoints import reached
from mitoframe.model.edit import write_key
from mitoframe.model.errors import BusyError, CorruptionError
from mitoframe.model.ids import EntryId, RegionId, Sequence
from mitoframe.model.past import Mark
from mitoframe.region.control import VersionControl
from mitoframe.region.region import Region
from mitoframe.region.version import Version
from mitoframe.storage.manifest import Loaded, Manifest, advance, is_newest, load
from mitoframe.storage.memtable import Memtable

if TYPE_CHECKING:
    from mitoframe.model.edit import Change, RegionState
    from mitoframe.model.ids import ManifestVersion
    from mitoframe.model.options import MitoConfig
    from mitoframe.ports import ObjectStore, Randomness
    from mitoframe.region.hooks import Hooks
    from mitoframe.storage.wal import ReplayedWrite, Wal


READ_ATTEMPTS_MAX = 100
"""How often a region is read again because another process is changing it."""


Watch: TypeAlias = Callable[[], AbstractContextManager[Callable[[int], None]]]
"""Entered while rows are read from the log; what it gives is told how many so far."""


def unwatched() -> AbstractContextManager[Callable[[int], None]]:
    """Be the `Watch` of somebody who does not care."""
    return nullcontext(lambda _: None)


def create_region(
    store: ObjectStore, randomness: Randomness, wal: Wal, hooks: Hooks, first: Change, config: MitoConfig
) -> Region:
    """Write a region's first manifest and open it. Hooks are still to be told."""
    packs = config.manifest_compression == "zlib"
    manifest = Manifest.create(store, randomness, first, config.checkpoint_distance, packs=packs)
    region_id = first.metadata.region_id
    return Region(region_id, _replay(wal, manifest.state, manifest.version), manifest, wal, hooks)


def open_region(
    store: ObjectStore,
    randomness: Randomness,
    wal: Wal,
    hooks: Hooks,
    region_id: RegionId,
    config: MitoConfig,
    watch: Watch = unwatched,
) -> Region:
    """Open a region for writing."""
    packs = config.manifest_compression == "zlib"
    manifest = Manifest.open(store, randomness, region_id, config.checkpoint_distance, packs=packs)
    reached("recover.version_built")
    _check_log_reaches(wal, region_id, manifest.state.flushed_entry_id)
    control = _replay(wal, manifest.state, manifest.version, watch)
    reached("recover.replayed")
    # A crash between the manifest and the log left entries that nobody needs.
    wal.obsolete(region_id, manifest.state.flushed_entry_id)
    return Region(region_id, control, manifest, wal, hooks)


def _check_log_reaches(wal: Wal, region_id: RegionId, flushed_entry_id: EntryId) -> None:
    """Refuse a log that lost its newest end: entries written to it from now on would get ids that count as flushed."""
    if wal.last_id() < flushed_entry_id:
        raise CorruptionError(
            f"the log ends with entry {wal.last_id()}, but the manifest of region {region_id} says that entries up to "
            f"{flushed_entry_id} are in files: newer parts of the log are missing",
            path="wal",
            fix='Restore them; or read the table with mode="r", which needs no log for what is in files.',
        )


def open_region_for_reading(
    store: ObjectStore,
    wal: Wal,
    hooks: Hooks,
    region_id: RegionId,
    known: Version | None = None,
    watch: Watch = unwatched,
) -> Region:
    """Open a region that another process may be writing. Writes nothing, locks nothing.

    Of a version that is ``known`` nothing is read again.
    """
    loaded = None if known is None else Loaded(version=known.manifest_version, state=known.state, checkpoints=())
    for _ in range(READ_ATTEMPTS_MAX):
        if loaded is None:
            loaded = load(store, region_id)
        else:
            loaded = advance(store, region_id, loaded.version, loaded.state)
        damage: CorruptionError | None = None
        try:
            control = _replay(wal, loaded.state, loaded.version, watch)
        except CorruptionError as error:  # Rows of a schema that is newer than the manifest read before.
            damage = error
        # The writer may have flushed between the two reads and dropped log entries with it: then the manifest has moved
        # on, and reading both again sees the file instead.
        if is_newest(store, region_id, loaded.version):
            if damage is not None:
                raise damage
            return Region(region_id, control, None, wal, hooks)
        wal.refresh()
    raise BusyError(f"region {region_id} was changed {READ_ATTEMPTS_MAX} times while it was being read; read again.")


def refresh_region(store: ObjectStore, wal: Wal, hooks: Hooks, region: Region) -> Region:
    """Return the region as the writer in another process has it by now."""
    wal.refresh()
    version = region.control.current().version
    try:
        entries = list(wal.replay(version.state.metadata, region.control.current().last_entry_id))
    except CorruptionError:
        # Rows of a newer schema: the manifest has moved on, or there is no sense in them.
        if is_newest(store, region.region_id, version.manifest_version):
            raise
        return open_region_for_reading(store, wal, hooks, region.region_id, version)
    # Asked after the log was read: what no manifest says is flushed by now had not been dropped from the log then.
    if not is_newest(store, region.region_id, version.manifest_version):
        return open_region_for_reading(store, wal, hooks, region.region_id, version)
    for write in entries:
        _insert_and_publish(region.control, write)
    return region


def _replay(
    wal: Wal, state: RegionState, manifest_version: ManifestVersion, watch: Watch = unwatched
) -> VersionControl:
    memtable = Memtable(0, dedup=state.options.dedup, width=state.partition_width)
    version = Version(state=state, manifest_version=manifest_version, mutable=memtable)
    control = VersionControl(version, state.committed_sequence, state.flushed_entry_id)
    writes = wal.replay(state.metadata, state.flushed_entry_id)
    first = next(writes, None)
    if first is None:  # As after every close in good order: then nobody needs to watch.
        return control
    with watch() as told:
        row_count = 0
        for write in chain([first], writes):
            _insert_and_publish(control, write)
            row_count += len(write.batch)
            told(row_count)
    return control


def _insert_and_publish(control: VersionControl, write: ReplayedWrite) -> None:
    current = control.current()
    newest = _insert(current.version.mutable, write)
    control.publish(max(current.visible, newest), write.entry_id, Mark(newest, write.at_ms))


def _insert(memtable: Memtable, write: ReplayedWrite) -> Sequence:
    """Do again what the log says, and return the newest sequence of it."""
    key = write_key(write.key, write.batch, write.at_ms) if write.key else None
    memtable.insert(write.batch, write.entry_id, at_ms=write.at_ms, key=key)
    return Sequence(int(write.batch.sequences[-1]))
