"""The regions of an engine: create, open, alter, truncate, close, drop.

A region is opened when it is first asked for. Changes of a region go alone (`Gate`): they wait for the writes under
way, and writes that come meanwhile wait for them. Each has one commit point: a version of the manifest, or for a drop
the marker under ``dropped/``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from mitoframe.engine.parts import ERASE_LANE
from mitoframe.failpoints import reached
from mitoframe.jobs.gc import delete_files
from mitoframe.jobs.index import delete_indexes
from mitoframe.model.alter import alter
from mitoframe.model.edit import Change, FileEdit
from mitoframe.model.errors import (
    ConfigError,
    DiskFullError,
    InvalidInputError,
    TableNotFoundError,
    UnavailableError,
    unknown_name,
)
from mitoframe.model.ids import FIRST_VERSION
from mitoframe.model.options import RegionOptions
from mitoframe.ports import RegionGcInfo
from mitoframe.region.hooks import PendingManifestHook
from mitoframe.region.recovery import create_region, open_region, open_region_for_reading, refresh_region
from mitoframe.storage.manifest import exists, is_newest, latest_version
from mitoframe.storage.paths import (
    DROPPED_FOLDER,
    dropped_key,
    index_folder,
    journal_folder,
    manifest_folder,
    parse_dropped_key,
    sst_folder,
)
from mitoframe.storage.wal import encode_write

if TYPE_CHECKING:
    from mitoframe.engine.background import Background
    from mitoframe.engine.commit import Committer
    from mitoframe.engine.holding import Holding
    from mitoframe.engine.parts import Parts
    from mitoframe.model.batch import Batch
    from mitoframe.model.edit import RegionState
    from mitoframe.model.ids import RegionId
    from mitoframe.model.request import AlterRequest, CreateRequest, Written
    from mitoframe.ports import ObjectStore
    from mitoframe.region.control import LivingVersions
    from mitoframe.region.region import Region

_log = logging.getLogger("mitoframe")
_OPTIONS = tuple(RegionOptions.__dataclass_fields__)


class Regions:
    """Those that are open, and how they come and go. ``read_only``: another process writes."""

    def __init__(
        self, parts: Parts, committer: Committer, background: Background, holding: Holding, *, read_only: bool
    ) -> None:
        self._parts, self._committer, self._background, self._holding = parts, committer, background, holding
        self._read_only = read_only
        self._open: dict[RegionId, Region] = {}
        self._openings: dict[RegionId, RLock] = {}
        self._untold: dict[RegionId, Callable[[], None]] = {}
        self._lock = Lock()
        self._dropped = {region for item in parts.store.list(DROPPED_FOLDER) if (region := parse_dropped_key(item.key))}
        self._living: dict[RegionId, LivingVersions] = {}
        if not read_only:
            for region_id in self._dropped:  # A crash after the drop left entries that nobody needs.
                parts.wal.obsolete(region_id, parts.wal.last_id())

    def opened(self) -> tuple[Region, ...]:
        with self._lock:
            return tuple(self._open.values())

    def state_of(self, region_id: RegionId) -> RegionState | None:
        """Return what an open region's manifest says; None if it is not open."""
        region = self._open.get(region_id)
        return None if region is None else region.state

    def dropped(self) -> frozenset[RegionId]:
        """Return the regions that were given up and whose files are still there."""
        return frozenset(self._dropped)

    def forget_log_of_others(self, named: Collection[RegionId]) -> None:
        """Let the log forget regions that nobody names and of which nothing else is left.

        A dropped region's marker goes with its files, while the log may still have entries of it beside those of
        others: nobody else would ever call them obsolete, and all that follows in the log would stay with them.
        """
        wal = self._parts.wal
        for region_id in wal.regions().difference(named):
            if not exists(self._parts.store, region_id):
                wal.obsolete(region_id, wal.last_id())

    def get(self, region_id: RegionId) -> Region:
        """Return a region, opening it if need be."""
        region = self._open.get(region_id)
        if region is not None:
            return region
        with self._opening(region_id):
            return self._get_locked(region_id)

    def refreshed(self, region_id: RegionId) -> Region:
        """Return a region as the writing process has it by now."""
        with self._opening(region_id):
            region = self._get_locked(region_id)
            current = refresh_region(self._parts.store, self._parts.wal, self._parts.hooks, region)
            if current is not region:
                self._holding.keep(current)
                self._keep(current)
            return current

    def let_go_of_earlier(self) -> None:
        """Close what is open and is not as the writing process has it by now. Requires: it is only read here."""
        for region in self.opened():
            with self._opening(region.region_id):
                if self._open.get(region.region_id) is not region or self._is_current(region):
                    continue
                with self._lock:
                    del self._open[region.region_id]
            self._parts.hooks.region_closed(region.region_id)

    def _is_current(self, region: Region) -> bool:
        store, version = self._parts.store, region.control.current().version.manifest_version
        return is_newest(store, region.region_id, version) and not _is_marked_dropped(store, region.region_id)

    @contextmanager
    def _opening(self, region_id: RegionId) -> Iterator[None]:
        """Hold the lock under which a region is opened: others go on meanwhile, also to open others.

        Hooks are told when it has been given back.
        """
        with self._lock:
            opening = self._openings.setdefault(region_id, RLock())
        try:
            with opening:
                yield
        finally:
            with self._lock:
                tell = self._untold.pop(region_id, None)
            if tell is not None:
                tell()

    def _get_locked(self, region_id: RegionId) -> Region:
        region = self._open.get(region_id)
        if region is None:
            region = self._load(region_id)
            self._keep_new(region, partial(self._parts.hooks.region_opened, region.metadata))
        return region

    def _keep_new(self, region: Region, tell: Callable[[], None]) -> None:
        """Keep a region that was not open, and have hooks told of it when its opening is over."""
        self._keep(region)
        with self._lock:
            self._untold[region.region_id] = tell

    def _keep(self, region: Region) -> None:
        with self._lock:
            self._open[region.region_id] = region

    def _load(self, region_id: RegionId) -> Region:
        self._refuse_dropped(region_id)
        parts = self._parts
        if self._read_only:
            return self._load_for_reading(region_id)
        return open_region(
            parts.store, parts.randomness, parts.wal, parts.hooks, region_id, parts.config, parts.watch_recovery
        )

    def _load_for_reading(self, region_id: RegionId) -> Region:
        parts = self._parts
        with self._holding.reaching(region_id, latest_version(parts.store, region_id)):
            if _is_marked_dropped(parts.store, region_id):  # Else its files might be going already.
                raise _dropped(region_id)
            region = open_region_for_reading(parts.store, parts.wal, parts.hooks, region_id, watch=parts.watch_recovery)
            self._holding.keep(region)
            return region

    def _refuse_dropped(self, region_id: RegionId) -> None:
        if region_id in self._dropped:
            raise _dropped(region_id)

    # --- create and close ---------------------------------------------------------------------------------

    def create(self, region_id: RegionId, request: CreateRequest) -> Region:
        """Make a region, or open it if it is there with the same schema. What cannot be opened is never made anew.

        Raises:
            InvalidInputError: it is there with another schema.

        """
        assert request.metadata.region_id == region_id
        parts = self._parts
        with self._opening(region_id):
            self._refuse_dropped(region_id)
            if region_id in self._open or exists(parts.store, region_id):
                region = self._get_locked(region_id)
                if region.metadata != request.metadata:
                    raise InvalidInputError(f"region {region_id} exists with another schema; open it instead.")
                return region
            first = Change(metadata=request.metadata, options=request.options, at_ms=parts.clock.now_ms())
            region = create_region(parts.store, parts.randomness, parts.wal, parts.hooks, first, parts.config)
            reached("create.region_stored")
            self._keep_new(region, partial(self._tell_created, region_id, first))
            return region

    def _tell_created(self, region_id: RegionId, first: Change) -> None:
        self._parts.hooks.manifest_updated(
            PendingManifestHook(region_id=region_id, actions=(first,), version=FIRST_VERSION)
        )
        self._parts.hooks.region_opened(first.metadata)

    def close(self, region_id: RegionId, *, flush: bool) -> None:
        """Let a region go. Closing one that is not open is fine."""
        with self._lock:
            region = self._open.get(region_id)
        if region is None:
            return
        with region.gate.alone(self._parts.config.write_stall_ms):
            if region.is_closed():  # By somebody who was faster.
                return
            if not self._read_only and (flush or region.options.wal == "noop"):
                self.flush_now(region, "close")
            self._committer.quietly(region.close)
            with self._lock:
                if self._open.get(region_id) is region:
                    del self._open[region_id]
        self._parts.hooks.region_closed(region_id)
        if not self._read_only:
            self._background.start_discarding(region)

    def settle_writes(self) -> None:
        """Return when every write that was queued before has been done or withdrawn."""
        self._committer.settled()

    def flush_now(self, region: Region, reason: str) -> None:
        """Bring every row to files. Requires: nobody writes meanwhile, or their rows do not matter."""
        self._committer.quietly(region.freeze)
        self._background.flush(region, reason)

    def write_alone(self, region: Region, batch: Batch, *, key: str) -> Written:
        """Write rows while nobody else can. Requires: the region's gate is held, and the batch fits."""
        at_ms = self._parts.clock.now_ms()
        encoded = None
        if region.options.wal == "log":
            encoded = encode_write(region.metadata, batch, key=key, at_ms=at_ms)
        return self._committer.commit(region, encoded, batch, key=key, at_ms=at_ms)

    # --- alter --------------------------------------------------------------------------------------------

    def alter(self, region_id: RegionId, request: AlterRequest) -> bool:
        """Change schema and options in one step; tell whether anything changed.

        Raises:
            InvalidInputError: a column or option cannot be changed like that; nothing was.

        """
        region = self.get(region_id)
        with region.gate.alone(self._parts.config.write_stall_ms):
            region.check_writable()
            state = region.state
            metadata = state.metadata
            for alteration in request.alterations:
                metadata = alter(metadata, alteration)
            options = changed_options(state.options, request.options, request.unset)
            if (metadata, options) == (state.metadata, state.options):
                return False
            if metadata != state.metadata or _needs_empty_memtable(state.options, options):
                self.flush_now(region, "alter")
            if options.dedup == "none" != state.options.dedup:
                # What was overwritten or deleted and is still in some file would come back otherwise.
                self._background.compactions.settle(region, "alter")
                self._end_history(region)
            region.commit_edit(Change(metadata=metadata, options=options, at_ms=self._parts.clock.now_ms()))
            self._committer.quietly(region.renew_memtable)
            return True

    def _end_history(self, region: Region) -> None:
        """Say that what there was before cannot be brought back: every row that is there counts from now on."""
        visible = region.control.current().visible
        region.commit_edit(FileEdit(lost_history=visible, at_ms=self._parts.clock.now_ms(), reason="alter"))

    # --- truncate -----------------------------------------------------------------------------------------

    def truncate(self, region_id: RegionId, *, unflushed_only: bool) -> int:
        """Remove all rows, or all that are in no file; return how many, versions of one key counted each.

        A flush or compaction under way that has not committed yet finds that its rows are gone. What is removed can be
        read as of an earlier moment, but for rows that no file has: for that they are flushed first, if there is space.

        Raises:
            InvalidInputError: a snapshot has rows that are in no file, and they are to go alone or cannot be flushed.

        """
        region = self.get(region_id)
        with region.gate.alone(self._parts.config.write_stall_ms):
            region.check_writable()
            if not unflushed_only and self._background.keeps_history(region.state):
                with suppress(DiskFullError):
                    self.flush_now(region, "truncate")
            _refuse_if_named(region)
            if not unflushed_only:
                self._background.compactions.cancel(region)
            self._committer.quietly(region.freeze)
            with region.editing():
                snapshot = region.control.current()
                version = snapshot.version
                files = () if unflushed_only else tuple(version.state.files.values())
                buffered = sum(memtable.stats.row_count for memtable in version.immutables)
                edit = FileEdit(
                    removed=tuple(file.file_id for file in files),
                    flushed_entry_id=snapshot.last_entry_id,
                    flushed_sequence=snapshot.visible if version.immutables else None,
                    lost_history=snapshot.visible,
                    forget_writes=True,
                    at_ms=self._parts.clock.now_ms(),
                    reason="truncate",
                )
                region.commit_edit(edit, version.immutables)
            self._background.start_discarding(region)
            return buffered + sum(file.row_count for file in files)

    # --- drop ---------------------------------------------------------------------------------------------

    def drop(self, region_id: RegionId) -> None:
        """Give a region up for good. Its files stay for the grace period, for readers in other processes."""
        region = self.get(region_id)
        with region.gate.alone(self._parts.config.write_stall_ms):
            region.check_writable()
            self._mark_dropped(region)
            reached("drop.marked")
            self._committer.quietly(region.close)
            with self._lock:
                self._dropped.add(region_id)
                self._open.pop(region_id, None)
                self._living[region_id] = region.control.living
        self._background.start_discarding(region)
        try:
            self._parts.wal.obsolete(region_id, region.control.current().last_entry_id)
        except UnavailableError as error:  # The drop stands, and the next process has them forgotten.
            _log.warning("log not trimmed region=%d error=%r", region_id, error)
        self._parts.hooks.region_dropped(region_id)

    def _mark_dropped(self, region: Region) -> None:
        try:
            self._parts.store.put_if_absent(dropped_key(region.region_id), b"{}\n")
        except FileExistsError:
            pass  # An earlier attempt came that far.
        except DiskFullError:
            raise  # Nothing was stored, and that is certain.
        except BaseException as error:
            region.poison(error)
            raise

    def purge(self, grace_ms: int) -> int:
        """Delete the files of regions dropped at least ``grace_ms`` ago; return how many. The marker goes last.

        Those of a region that is still read, by a scan in this process or by another one, stay for another time.
        """
        store, count = self._parts.store, 0
        for item in store.list(DROPPED_FOLDER):
            region_id = parse_dropped_key(item.key)
            if region_id is None or self._parts.clock.now_ms() - item.modified_ms < grace_ms:
                continue
            if self._living.get(region_id) or self._parts.pins.held().of(region_id) is not None:
                continue
            count += self._purge(region_id, item.key)
        return count

    def _purge(self, region_id: RegionId, marker: str) -> int:
        store, begun_ms = self._parts.store, self._parts.clock.now_ms()
        ssts = store.list(sst_folder(region_id))
        removed = delete_files(store, region_id, ssts, submit=partial(self._parts.scheduler.submit, ERASE_LANE))
        delete_indexes(store, region_id, store.list(index_folder(region_id)))
        for part in (*store.list(journal_folder(region_id)), *store.list(manifest_folder(region_id))):
            store.delete(part.key)
        # Without the marker nobody would look for what a power loss brought back.
        for folder in (sst_folder, index_folder, journal_folder, manifest_folder):
            store.sync(folder(region_id))
        reached("drop.purged")
        store.delete(marker)
        with self._lock:
            self._dropped.discard(region_id)
            self._living.pop(region_id, None)
        info = RegionGcInfo(
            removed_files=removed,
            size_bytes=sum(item.size_bytes for item in ssts),
            version=None,
            begun_ms=begun_ms,
            is_region_dropped=True,
            full_file_listing=True,
        )
        self._parts.hooks.region_gc(region_id, None, store, info)
        self._parts.hooks.region_files_removed(region_id)
        return len(removed)


def _dropped(region_id: RegionId) -> TableNotFoundError:
    return TableNotFoundError(f"the table of region {region_id}", was_dropped=True)


def _is_marked_dropped(store: ObjectStore, region_id: RegionId) -> bool:
    try:
        store.head(dropped_key(region_id))
    except FileNotFoundError:
        return False
    return True


def changed_options(options: RegionOptions, changes: Mapping[str, Any], unset: tuple[str, ...]) -> RegionOptions:
    """Return options after some were set and others put back.

    Raises:
        ConfigError: there is no such option, or it cannot have this value, or not any more.

    """
    for name in (*changes, *unset):
        if name not in _OPTIONS:
            raise ConfigError(unknown_name("option", name, _OPTIONS))
    both = set(changes) & set(unset)
    if both:
        raise ConfigError(f"option {min(both)!r} is to be set and unset at once; choose one.")
    defaults = {name: getattr(RegionOptions(), name) for name in unset}
    changed = replace(options, **changes, **defaults)
    if options.dedup != changed.dedup != "none":
        raise ConfigError(
            f"dedup cannot be changed from {options.dedup!r} to {changed.dedup!r}: only 'none' can be switched on "
            "later. Make a new table and write the rows there."
        )
    return changed


def _refuse_if_named(region: Region) -> None:
    """Refuse to give up rows in memory that a snapshot has."""
    state = region.state
    named = [snapshot for snapshot in state.past.snapshots if snapshot.sequence > state.flushed_sequence]
    if named and not all(memtable.is_empty() for memtable in region.control.current().version.memtables):
        raise InvalidInputError(
            f"snapshot {named[-1].name!r} has rows that are in no file yet; flush first, or drop the snapshot. Nothing "
            "was removed."
        )


def _needs_empty_memtable(before: RegionOptions, after: RegionOptions) -> bool:
    return before.dedup != after.dedup or before.wal != after.wal
