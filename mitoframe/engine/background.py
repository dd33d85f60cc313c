"""Which job runs when: flushes, tidying and garbage collection, and the commit of the edits they return.

Compactions are in engine/compaction.py, indexes in engine/indexing.py.

One flush per region at a time. A flush takes every memtable that is frozen when it starts, so that
requests that come meanwhile are served by one more run at most; the SSTs of one flush are written side by side. A job
whose rows were truncated meanwhile finds its edit refused (`ConflictError`) and removes what it wrote.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from mitoframe.engine.compaction import Compactions
from mitoframe.engine.errand import Errand, send
from mitoframe.engine.indexing import Indexing, Urgency
from mitoframe.engine.parts import ERASE_LANE, FLUSH_LANE, PURGE_LANE, TIDY_LANE, WRITE_LANE
from mitoframe.failpoints import reached
from mitoframe.jobs.flush import FlushedMemtable, flush_memtable, flushed
from mitoframe.jobs.gc import Grace, Holders, Survey, delete_files, expires, forgettable, survey
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import ClosedError, ConflictError, DiskFullError, MitoError
from mitoframe.model.ids import FileId
from mitoframe.model.result import CompactResult, FlushResult, IndexResult, VacuumResult
from mitoframe.ports import RegionGcInfo
from mitoframe.storage.paths import parse_sst_key, sst_folder, sst_key

if TYPE_CHECKING:
    from mitoframe.engine.parts import Parts
    from mitoframe.engine.retention import Retention
    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import ManifestVersion
    from mitoframe.model.options import MitoConfig
    from mitoframe.model.request import BuildIndexRequest
    from mitoframe.ports import ObjectMeta
    from mitoframe.region.region import Region
    from mitoframe.storage.memtable import Memtable

Result = TypeVar("Result")

_log = logging.getLogger("mitoframe")


class Draft:
    """Files that are being written and that no version lists yet. As long as it is open nobody collects them."""

    def __init__(self, region: Region, parts: Parts, drafts: set[Draft]) -> None:
        self._region, self._parts, self._drafts = region, parts, drafts
        self._closed = False
        self._writes: list[Errand[Any]] = []
        self.file_ids: list[FileId] = []
        drafts.add(self)

    def new_file_id(self) -> FileId:
        """Name a file that is about to be written."""
        file_id = FileId(self._parts.randomness.hex128())
        self.file_ids.append(file_id)
        return file_id

    def submit(self, job: Callable[[], Result]) -> Errand[Result]:
        """Have a file written in the background."""
        write: Errand[Result] = Errand()
        self._writes.append(write)  # Known before it is begun: who is interrupted in between waits for it nevertheless.
        write.hand_to(self._parts.scheduler, WRITE_LANE, partial(write.run, job))
        return write

    def commit(self, edit: FileEdit, flushed: Sequence[Memtable] = ()) -> None:
        """Commit the edit that lists the files.

        Raises:
            ConflictError: the edit does not fit any more, or the draft was given up meanwhile. Nothing changed.

        """
        with self._region.editing():
            if self._closed:
                raise ConflictError("the change was withdrawn before it was committed; nothing was changed.")
            self._region.commit_edit(edit, flushed)

    def close(self, *, discard: bool) -> None:
        """Let the files be as they are; or delete those that turned out to be listed nowhere."""
        if discard:
            begun = [write for write in self._writes if not write.withdraw()]
            for write in begun:
                write.failure()  # Only waited for: a file that is stored after the others are deleted would stay.
            with self._region.editing():
                self._closed = True
                if not self._region.is_poisoned():  # Else nobody knows what the manifest lists.
                    self._delete_unlisted()
        self._closed = True
        self._drafts.discard(self)

    def _delete_unlisted(self) -> None:
        state = self._region.state
        listed = {*state.files, *(file.file_id for file in state.removed_files)}
        for file_id in self.file_ids:
            if file_id in listed:
                continue
            try:
                self._parts.store.delete(sst_key(self._region.region_id, file_id))
            except MitoError as error:  # It is collected later.
                _log.warning("file not deleted region=%d file=%s error=%r", self._region.region_id, file_id, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SstWrite:
    """A frozen memtable on its way to files."""

    draft: Draft
    result: Errand[FlushedMemtable]


@dataclass(slots=True, kw_only=True, eq=False)
class _Lanes:
    """What runs for one region.

    Attributes:
        writes: the files of frozen memtables, by memtable id.
        flush: the flush that was handed over and has not ended.
        next_flush: the one that is handed over after it, and its reason.

    """

    flush_lock: Lock = field(default_factory=Lock)
    write_lock: Lock = field(default_factory=Lock)
    writes: dict[int, _SstWrite] = field(default_factory=dict)
    drafts: set[Draft] = field(default_factory=set)
    flush: Errand[FlushResult] | None = None
    next_flush: tuple[Errand[FlushResult], str] | None = None
    tidying: Future[None] | None = None
    vacuumed_ms: int = 0
    failures: dict[str, BaseException] = field(default_factory=dict)


class Background:
    """The jobs of an engine. ``quietly`` runs what exchanges a region's memtable, while no write is under way.

    ``compactions`` are those of its regions.
    """

    def __init__(
        self,
        parts: Parts,
        retention: Retention,
        quietly: Callable[[Callable[[], Errand[FlushResult]]], Errand[FlushResult]],
    ) -> None:
        self._parts, self._retention, self._quietly = parts, retention, quietly
        self._keeps_history = parts.config.gc_grace_ms > 0
        # By the opened region, not by its number: one that is opened anew counts its memtables from 0 again.
        self._all: WeakKeyDictionary[Region, _Lanes] = WeakKeyDictionary()
        self._indexing = Indexing(parts)
        self._lock = Lock()
        self.compactions = Compactions(
            parts,
            self._indexing,
            retention,
            drafting=self.drafting,
            remembering=self._remembering,
            after=self._after_compaction,
            gives_way=self.is_flushing,
        )

    def failures(self, region: Region) -> dict[str, BaseException]:
        """Return the last error of each kind of job whose latest run failed."""
        of_files = self._indexing.failures(region) | self.compactions.failures(region)
        return self._lanes_of(region).failures | of_files

    # --- flush ------------------------------------------------------------------------------------------

    def start_flush(self, region: Region, reason: str) -> Errand[FlushResult]:
        """Freeze the memtable and flush in the background; a flush that has not started serves this call too.

        Others may wait for the same errand: nobody withdraws it.
        """
        return self._quietly(partial(self._begin_flush, region, reason))

    def _begin_flush(self, region: Region, reason: str) -> Errand[FlushResult]:
        """Freeze, begin the files, and see to the flush. Never on the thread of a caller, who may be interrupted."""
        region.freeze()
        reached("flush.frozen")
        if not region.is_poisoned() and not region.is_closed():
            self._start_writes(region)
        lanes = self._lanes_of(region)
        with self._lock:
            if lanes.next_flush is not None:
                return lanes.next_flush[0]
            errand: Errand[FlushResult] = Errand()
            running = lanes.flush
            if running is not None and not running.is_begun and not running.is_lost:
                return running
            if running is not None and not running.is_ended and not running.is_lost:
                # It would only wait for the one that runs, and keep a thread from other regions.
                errand.carrier = running.carrier
                lanes.next_flush = errand, reason
                return errand
            lanes.flush = errand
        self._hand_over_flush(region, errand, reason)
        return errand

    def _hand_over_flush(self, region: Region, errand: Errand[FlushResult], reason: str) -> None:
        errand.hand_to(self._parts.scheduler, FLUSH_LANE, partial(self._run_flush, region, errand, reason))

    def _run_flush(self, region: Region, errand: Errand[FlushResult], reason: str) -> None:
        try:
            errand.run(partial(self._flush_and_compact, region, reason))
        finally:
            lanes = self._lanes_of(region)
            with self._lock:
                following, lanes.next_flush = lanes.next_flush, None
                lanes.flush = following[0] if following is not None else None
            if following is not None:
                try:
                    self._hand_over_flush(region, *following)
                except MitoError as error:
                    following[0].fail(error)

    def _flush_and_compact(self, region: Region, reason: str) -> FlushResult:
        with self._remembering(region, "flush"):
            result = self.flush(region, reason)
        # The flush stands, whatever becomes of what is to follow it.
        with suppress(Exception), self._remembering(region, "compaction planning"):
            self.compact_if_due(region)
        self.index_if_due(region, Urgency.FLUSHED)
        return result

    def flush(self, region: Region, reason: str) -> FlushResult:
        """Bring everything that is frozen to SSTs and return when that is committed. Requires: not on the caller's
        own thread if the caller may be interrupted.
        """
        lanes = self._lanes_of(region)
        with lanes.flush_lock:
            memtables = region.control.current().version.immutables
            if not memtables:
                return FlushResult()  # Perhaps whoever closed the table was faster.
            region.check_writable()
            self._start_writes(region)  # Those frozen meanwhile, and those whose write failed the last time.
            outputs = self._written(lanes, memtables)
            files = [file for output in outputs for file in output.files]
            try:
                edit = flushed(outputs, memtables, at_ms=self._parts.clock.now_ms(), reason=reason)
                if not self.keeps_history(region.state):
                    edit = replace(edit, lost_history=edit.flushed_sequence)
                with self._indexing.with_files(region, edit) as indexed:
                    self._parts.hooks.sst_files_written(region.metadata, indexed.added)
                    with region.editing():
                        indexed = self.compactions.with_window(region, indexed)
                        region.commit_edit(self._retention.noted(region, indexed), memtables)
            except ConflictError:
                self._end_writes(lanes, _ids(memtables), discard=True)
                raise
            self._end_writes(lanes, _ids(memtables), discard=False)
            return FlushResult(files=tuple(files))

    def _start_writes(self, region: Region) -> None:
        """Begin to write every frozen memtable that is not being written; they are written side by side."""
        lanes = self._lanes_of(region)
        with lanes.write_lock:
            for memtable in region.control.current().version.immutables:
                if memtable.memtable_id not in lanes.writes:
                    draft = self.draft(region)
                    result = draft.submit(partial(self._write_memtable, region, memtable, draft))
                    lanes.writes[memtable.memtable_id] = _SstWrite(draft=draft, result=result)

    def is_flushing(self) -> bool:
        """Tell whether rows of some region are on their way from memory to files."""
        with self._lock:
            return any(lanes.writes for lanes in self._all.values())

    def _end_writes(self, lanes: _Lanes, memtable_ids: Iterable[int], *, discard: bool) -> None:
        with lanes.write_lock:
            ended = [lanes.writes.pop(memtable_id) for memtable_id in memtable_ids]
        for write in ended:
            write.draft.close(discard=discard)

    def start_discarding(self, region: Region) -> None:
        """In the background, delete the files of memtables that were given up, or of a region that was let go."""

        def job() -> None:
            with self._lanes_of(region).flush_lock:
                self._discard_given_up(region)
            if region.is_closed():
                with self._lock:
                    self._all.pop(region, None)

        self._parts.scheduler.submit(FLUSH_LANE, job)

    def _discard_given_up(self, region: Region) -> None:
        """Requires: the flush lock is held."""
        lanes = self._lanes_of(region)
        with lanes.write_lock:
            wanted = set() if region.is_closed() else _ids(region.control.current().version.immutables)
            given_up = set(lanes.writes) - wanted
        self._end_writes(lanes, given_up, discard=True)

    def _write_memtable(self, region: Region, memtable: Memtable, draft: Draft) -> FlushedMemtable:
        state = region.state
        return flush_memtable(
            state.metadata,
            memtable,
            store=self._parts.store,
            new_file_id=draft.new_file_id,
            row_group_rows=state.options.row_group_rows or self._parts.config.row_group_rows,
            now_ms=self._parts.clock.now_ms(),
            keep_history=self.keeps_history(state),
        )

    def keeps_history(self, state: RegionState) -> bool:
        """Tell whether superseded versions are kept. Whoever makes the first snapshot flushes what is not kept."""
        return self._keeps_history or bool(state.past.snapshots)

    def _written(self, lanes: _Lanes, memtables: Sequence[Memtable]) -> list[FlushedMemtable]:
        """Wait for the SSTs of all memtables; after the first error is told, the failed ones can be begun anew."""
        with lanes.write_lock:
            writes = {memtable.memtable_id: lanes.writes[memtable.memtable_id] for memtable in memtables}
        failed = [memtable_id for memtable_id, write in writes.items() if write.result.failure() is not None]
        self._end_writes(lanes, failed, discard=True)
        return [write.result.result(withdraw=False) for write in writes.values()]

    def draft(self, region: Region) -> Draft:
        """Begin to write files that an edit will list."""
        return Draft(region, self._parts, self._lanes_of(region).drafts)

    @contextmanager
    def drafting(self, region: Region) -> Iterator[Draft]:
        """Write files and commit the edit that lists them; if that does not come about they are deleted."""
        draft = self.draft(region)
        try:
            yield draft
        except BaseException:
            draft.close(discard=True)
            raise
        draft.close(discard=False)

    # --- compaction -------------------------------------------------------------------------------------

    def compact_if_due(self, region: Region) -> Errand[CompactResult] | None:
        """Start what is due, or have what is under way look once more; return what is under way now.

        Others may wait for the same errand: nobody withdraws it.
        """
        return self.compactions.start_if_due(region)

    def _after_compaction(self, region: Region) -> None:
        with suppress(DiskFullError):  # The merge stands, and what is left is deleted when there is room.
            self._vacuum_told(region, configured_grace(self._parts.config))
        self.index_if_due(region, Urgency.COMPACTED)

    # --- indexes ----------------------------------------------------------------------------------------

    def index_if_due(self, region: Region, urgency: Urgency) -> None:
        """Begin to build the indexes that are wanted and not there, in the background."""
        try:
            self._indexing.start_if_due(region, urgency)
        except MitoError as error:  # The files are there without them.
            _log.warning("indexes not begun region=%d error=%r", region.region_id, error)

    def build_index(
        self, region: Region, request: BuildIndexRequest, told: Callable[[int], None] = lambda _: None
    ) -> IndexResult:
        """Build indexes that are wanted and not there, before those of others, and wait for it.

        Files that go meanwhile need none. ``told`` gets how many rows the files have that are done so far.
        """
        built: list[FileMeta] = []
        row_count = 0
        for errand in self._indexing.start(region, request.file_ids, request.kinds):
            with suppress(ConflictError):
                file = errand.result(withdraw=False)
                if file is not None:
                    built.append(file)
                    row_count += file.row_count
                    told(row_count)
        return IndexResult(files=tuple(built))

    def stop_indexing(self) -> None:
        """Give up what is being built, and begin nothing more: closing does not wait for it."""
        self._indexing.stop()

    # --- tidying ----------------------------------------------------------------------------------------

    def tidy_if_due(self, region: Region) -> None:
        """Sort and merge inside the memtable that takes writes, in the background."""
        memtable = region.control.current().version.mutable
        if not memtable.work_due():
            return
        lanes = self._lanes_of(region)
        with self._lock:
            if lanes.tidying is not None and not lanes.tidying.done():
                return

        def job() -> None:
            with self._remembering(region, "tidy"):
                memtable.tidy(region.metadata)

        future = self._parts.scheduler.submit(TIDY_LANE, job)
        with self._lock:
            lanes.tidying = future

    # --- deletion ---------------------------------------------------------------------------------------

    def start_vacuum(
        self,
        region: Region,
        grace: Grace,
        *,
        dry_run: bool = False,
        told: Callable[[int], None] = lambda _: None,
    ) -> Errand[VacuumResult]:
        """Begin a vacuum. ``told`` gets how many files have gone so far, from other threads."""
        job = partial(self._vacuum_told, region, grace, dry_run=dry_run, told=told)
        return send(self._parts.scheduler, PURGE_LANE, job)

    def _vacuum_told(
        self,
        region: Region,
        grace: Grace,
        *,
        dry_run: bool = False,
        told: Callable[[int], None] = lambda _: None,
    ) -> VacuumResult:
        with self._remembering(region, "vacuum"):
            return self.vacuum(region, grace, dry_run=dry_run, told=told)

    def vacuum_if_due(self, region: Region) -> None:
        """Delete files whose grace period is over, and now and then look for what a crash left behind."""
        lanes, grace, now_ms = self._lanes_of(region), configured_grace(self._parts.config), self._parts.clock.now_ms()
        expired = expires(region.state, now_ms=now_ms, grace_ms=grace.known_ms)
        if expired or now_ms - lanes.vacuumed_ms >= min(grace.known_ms, grace.unknown_ms):
            lanes.vacuumed_ms = now_ms
            self._vacuum_told(region, grace)

    def being_written(self, region: Region) -> frozenset[FileId]:
        """Return the files that are, or are going to be, stored before a manifest lists them."""
        drafts = tuple(self._lanes_of(region).drafts)
        return frozenset(file_id for draft in drafts for file_id in tuple(draft.file_ids))

    def vacuum(
        self,
        region: Region,
        grace: Grace,
        *,
        dry_run: bool = False,
        told: Callable[[int], None] = lambda _: None,
    ) -> VacuumResult:
        """Delete the files that nobody needs and whose grace period is over, or only say which."""
        begun_ms = self._parts.clock.now_ms()
        # Asked in this order: a file is in a version before its draft is closed.
        stored = self._parts.store.list(sst_folder(region.region_id))
        being_written = self.being_written(region)
        with region.editing():
            region.check_writable()
            state = region.state
            found = self._survey(region, state, stored, being_written, grace)
            if dry_run:
                return self._vacuumed(region, found, dry_run=True)
            # Forgotten first: a file that is gone and still listed would pass for history that can be read.
            gone = forgettable(state, found.chosen, stored)
            version: ManifestVersion | None = None
            if gone:
                edit = FileEdit(forgotten=gone, at_ms=self._parts.clock.now_ms(), reason="gc")
                version = region.commit_edit(edit).manifest_version
                # Somebody may have gone back to an earlier moment meanwhile, and found them listed still.
                spared = self._survey(region, state, found.chosen, being_written, grace)
                found = Survey(chosen=spared.chosen, kept=(*found.kept, *spared.kept))
            deleted = delete_files(
                self._parts.store,
                region.region_id,
                found.chosen,
                submit=partial(self._parts.scheduler.submit, ERASE_LANE),
                told=told,
            )
            for file_id in deleted:
                self._parts.reader.forget(file_id)
                self._parts.indexes.forget(file_id)
        result = self._vacuumed(region, found, dry_run=False)
        info = RegionGcInfo(
            removed_files=deleted,
            size_bytes=result.size_bytes,
            version=version,
            begun_ms=begun_ms,
            is_region_dropped=False,
            full_file_listing=True,
        )
        self._parts.hooks.region_gc(region.region_id, region.metadata, self._parts.store, info)
        self._indexing.vacuum(region, grace.known_ms)
        return result

    def _survey(
        self,
        region: Region,
        state: RegionState,
        stored: Iterable[ObjectMeta],
        being_written: frozenset[FileId],
        grace: Grace,
    ) -> Survey:
        """Look who needs which files now. Requires: ``state`` was the newest before this is called."""
        holders = Holders(
            jobs=being_written,
            scans=region.control.living.files(),
            oldest_read=self._parts.pins.held().of(region.region_id),
        )
        return survey(state, stored, holders, now_ms=self._parts.clock.now_ms(), grace=grace)

    def _vacuumed(self, region: Region, found: Survey, *, dry_run: bool) -> VacuumResult:
        file_ids = [file_id for item in found.chosen if (file_id := parse_sst_key(item.key)) is not None]
        return VacuumResult(
            removed=tuple(file_ids),
            size_bytes=sum(item.size_bytes for item in found.chosen),
            kept=found.kept,
            readers=self._readers_of(region) if any(file.why == "reader" for file in found.kept) else (),
            dry_run=dry_run,
        )

    def _readers_of(self, region: Region) -> tuple[int, ...]:
        """Return the processes that say that they read a region, as far as they can be understood."""
        reading = [each for each in self._parts.pins.readers() if each.held.of(region.region_id) is not None]
        return tuple(sorted({each.process_id for each in reading if each.process_id is not None}))

    # --- pieces -----------------------------------------------------------------------------------------

    @contextmanager
    def _remembering(self, region: Region, kind: str) -> Iterator[None]:
        """Keep a failed job's error until a later run of its kind succeeds."""
        failures = self._lanes_of(region).failures
        try:
            yield
        except (ConflictError, ClosedError):
            raise  # What the job worked for is gone: nothing failed.
        except Exception as error:
            _log.error("background job failed kind=%s region=%d error=%r", kind, region.region_id, error)
            failures[kind] = error
            raise
        failures.pop(kind, None)

    def _lanes_of(self, region: Region) -> _Lanes:
        with self._lock:
            return self._all.setdefault(region, _Lanes())


def configured_grace(config: MitoConfig) -> Grace:
    return Grace(known_ms=config.gc_grace_ms, unknown_ms=config.gc_unknown_grace_ms)


def _ids(memtables: Iterable[Memtable]) -> set[int]:
    return {memtable.memtable_id for memtable in memtables}
