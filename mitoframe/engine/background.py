"""Which job runs when: flushes, compactions and garbage collection, and the commit of the edits they return.

One flush and one compaction per region at a time. A flush takes every memtable that is frozen when it starts, so that
requests that come meanwhile are served by one more run at most; the SSTs of one flush are written side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mitoframe.failpoints import reached
from mitoframe.jobs.compact import compact_files
from mitoframe.jobs.flush import flush_memtable, flushed
from mitoframe.jobs.gc import collectable, delete_files, forgettable
from mitoframe.jobs.twcs import CompactionTask, pick_overlapping, window_ms
from mitoframe.model.edit import FileEdit
from mitoframe.model.ids import FileId
from mitoframe.model.request import CompactResult, FlushResult, VacuumResult
from mitoframe.model.timerange import PER_SECOND
from mitoframe.storage.paths import sst_folder

if TYPE_CHECKING:
    from mitoframe.model.file import FileMeta
    from mitoframe.model.options import MitoConfig
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import Clock, ObjectStore, Randomness, Scheduler
    from mitoframe.region.hooks import Hooks
    from mitoframe.region.region import Region
    from mitoframe.storage.memtable import Memtable
    from mitoframe.storage.sst_reader import SstReader

_log = logging.getLogger("mitoframe")

FLUSH_LANE = "flush"
COMPACT_LANE = "compact"
WRITE_LANE = "write"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SstWrite:
    """A frozen memtable on its way to a file that no version lists yet."""

    file_id: FileId
    result: Future[FileMeta]


@dataclass(slots=True, kw_only=True, eq=False)
class _Lanes:
    """What runs for one region. ``writes`` is by memtable id."""

    flush_lock: Lock = field(default_factory=Lock)
    compact_lock: Lock = field(default_factory=Lock)
    write_lock: Lock = field(default_factory=Lock)
    writes: dict[int, _SstWrite] = field(default_factory=dict)
    flush: Future[None] | None = None
    compaction: Future[CompactResult] | None = None


class Background:
    """The jobs of an engine. ``freeze`` exchanges a region's mutable memtable while no write is under way."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        reader: SstReader,
        scheduler: Scheduler,
        clock: Clock,
        randomness: Randomness,
        config: MitoConfig,
        hooks: Hooks,
        freeze: Callable[[Region], object],
    ) -> None:
        self._store, self._reader, self._scheduler = store, reader, scheduler
        self._clock, self._randomness, self._config, self._hooks = clock, randomness, config, hooks
        self._freeze = freeze
        # By the opened region, not by its number: one that is opened anew counts its memtables from 0 again.
        self._lanes: WeakKeyDictionary[Region, _Lanes] = WeakKeyDictionary()
        self._lock = Lock()

    def start_flush(self, region: Region, reason: str) -> Future[None]:
        """Freeze the memtable and flush in the background; a flush that has not started serves this call too."""
        lanes = self._lanes_of(region)
        self._freeze(region)
        reached("flush.frozen")
        self._start_writes(region)
        with self._lock:
            running = lanes.flush
        if running is not None and not running.done() and not running.running():
            return running

        def job() -> None:
            self.flush(region, reason)
            self._compact_if_due(region)

        future = self._scheduler.submit(FLUSH_LANE, job)
        with self._lock:
            lanes.flush = future
        future.add_done_callback(_log_failure)
        return future

    def flush(self, region: Region, reason: str) -> FlushResult:
        """Bring everything that is frozen to SSTs, one a memtable, and return when that is committed."""
        region.check_writable()
        self._start_writes(region)
        lanes = self._lanes_of(region)
        with lanes.flush_lock:
            region.check_writable()
            version = region.control.current().version
            memtables = version.immutables
            if not memtables:
                return FlushResult()
            self._start_writes(region)  # Those frozen meanwhile, and those whose write failed the last time.
            files = self._written(lanes, memtables)
            self._hooks.sst_files_written(version.state.metadata, files)
            region.commit_edit(flushed(memtables, files, at_ms=self._clock.now_ms(), reason=reason), memtables)
            with lanes.write_lock:
                for memtable in memtables:
                    del lanes.writes[memtable.memtable_id]
            return FlushResult(files=tuple(files))

    def _start_writes(self, region: Region) -> None:
        """Begin to write every frozen memtable that is not being written; they are written side by side."""
        lanes = self._lanes_of(region)
        with lanes.write_lock:
            for memtable in region.control.current().version.immutables:
                if memtable.memtable_id not in lanes.writes:
                    file_id = FileId(self._randomness.hex128())
                    job = partial(self._write_sst, region.metadata, memtable, file_id)
                    result = self._scheduler.submit(WRITE_LANE, job)
                    lanes.writes[memtable.memtable_id] = _SstWrite(file_id=file_id, result=result)

    def _write_sst(self, metadata: RegionMetadata, memtable: Memtable, file_id: FileId) -> FileMeta:
        return flush_memtable(
            metadata, memtable, store=self._store, file_id=file_id, config=self._config, now_ms=self._clock.now_ms()
        )

    def _written(self, lanes: _Lanes, memtables: Sequence[Memtable]) -> list[FileMeta]:
        """Wait for the SSTs of all memtables; after the first error is told, the failed ones can be begun anew."""
        with lanes.write_lock:
            writes = {memtable.memtable_id: lanes.writes[memtable.memtable_id] for memtable in memtables}
        wait([write.result for write in writes.values()])
        with lanes.write_lock:
            for memtable_id, write in writes.items():
                if write.result.exception() is not None:
                    del lanes.writes[memtable_id]
        return [write.result.result() for write in writes.values()]

    def compact(self, region: Region, *, files_min: int = 2, reason: str) -> CompactResult:
        """Merge overlapping files window by window and return when all are committed."""
        removed: list[FileMeta] = []
        added: list[FileMeta] = []
        with self._lanes_of(region).compact_lock:
            width_ms = window_ms(region.control.current().version.state)
            for task in self._tasks(region, files_min):
                added += self._merge(region, task, width_ms, reason).added
                removed += task.inputs
        if removed:
            self.vacuum(region, grace_ms=self._config.gc_grace_ms)
        return CompactResult(removed=tuple(removed), added=tuple(added))

    def _tasks(self, region: Region, files_min: int) -> tuple[CompactionTask, ...]:
        state = region.control.current().version.state
        width = window_ms(state) * PER_SECOND[state.metadata.time_unit] // 1000
        return pick_overlapping(state.files.values(), width, files_min)

    def _merge(self, region: Region, task: CompactionTask, width_ms: int, reason: str) -> FileEdit:
        region.check_writable()
        metadata = region.metadata
        edit = compact_files(
            metadata,
            task,
            store=self._store,
            reader=self._reader,
            clock=self._clock,
            randomness=self._randomness,
            config=self._config,
            window_ms=width_ms,
            reason=reason,
        )
        self._hooks.sst_files_written(metadata, edit.added)
        region.commit_edit(edit)
        return edit

    def _compact_if_due(self, region: Region) -> None:
        if not self._tasks(region, self._config.compaction_trigger_files):
            return
        lanes = self._lanes_of(region)
        with self._lock:
            if lanes.compaction is not None and not lanes.compaction.done():
                return
        trigger = self._config.compaction_trigger_files
        future = self._scheduler.submit(
            COMPACT_LANE, partial(self.compact, region, files_min=trigger, reason="automatic")
        )
        with self._lock:
            lanes.compaction = future
        future.add_done_callback(_log_failure)

    def vacuum(self, region: Region, *, grace_ms: int) -> VacuumResult:
        """Delete the files that nobody needs and that have not been listed for ``grace_ms``."""
        lanes = self._lanes_of(region)
        # No job may be between storing an SST and committing it: such a file is in no version yet.
        with lanes.compact_lock, lanes.flush_lock:
            stored = self._store.list(sst_folder(region.region_id))
            state = region.control.current().version.state
            with lanes.write_lock:
                being_written = {write.file_id for write in lanes.writes.values()}
            pinned = region.control.pinned_files() | being_written
            chosen = collectable(state, stored, pinned, now_ms=self._clock.now_ms(), grace_ms=grace_ms)
            deleted = delete_files(self._store, region.region_id, chosen)
            for file_id in deleted:
                self._reader.forget(file_id)
            gone = forgettable(state.removed_files, deleted, stored)
            if gone:
                region.commit_edit(FileEdit(forgotten=gone, at_ms=self._clock.now_ms(), reason="gc"))
        return VacuumResult(removed=deleted, size_bytes=sum(item.size_bytes for item in chosen))

    def _lanes_of(self, region: Region) -> _Lanes:
        with self._lock:
            return self._lanes.setdefault(region, _Lanes())


def _log_failure(future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        _log.error("background job failed error=%r", error, exc_info=error)
