"""`MitoEngine`: regions by their number. Tables and names are the door's business.

Writing goes room -> commit (engine/commit.py). Reading takes a snapshot and plans on it (read/plan.py); nothing here
locks a reader out. Regions come, change and go in engine/lifecycle.py; rows that do not go through the log in
engine/changes.py; slow work is in engine/background.py. Nothing that changes a store runs on a caller's thread, but the
sorting of what the caller hands over: an interrupted caller has only stopped waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mitoframe.engine.background import Background, configured_grace
from mitoframe.engine.changes import Changes
from mitoframe.engine.commit import Committer
from mitoframe.engine.errand import Errand, done
from mitoframe.engine.holding import Alone, Holding
from mitoframe.engine.indexing import Urgency
from mitoframe.engine.journal import Journal
from mitoframe.engine.lifecycle import Regions
from mitoframe.engine.moments import Moments
from mitoframe.engine.parts import CHANGE_LANE, PURGE_LANE, Parts
from mitoframe.engine.patience import Patience
from mitoframe.engine.reading import Reading
from mitoframe.engine.retention import Retention
from mitoframe.engine.room import Room
from mitoframe.engine.sync import make_sync_policy
from mitoframe.engine.verifying import Verifying
from mitoframe.engine.waiting import wait
from mitoframe.jobs.gc import Grace
from mitoframe.jobs.rewrite import RowsInTime
from mitoframe.jobs.tasks import planned
from mitoframe.model.batch import OpType
from mitoframe.model.edit import DELETED, WRITTEN
from mitoframe.model.errors import ClosedError, InvalidInputError, MitoError, ReadOnlyError, UnavailableError
from mitoframe.model.ids import FIRST_VERSION
from mitoframe.model.options import MIB, MitoConfig
from mitoframe.model.predicate import Compare, conjunction
from mitoframe.model.request import (
    AlterRequest,
    BuildIndexRequest,
    BulkInsertRequest,
    CloseRequest,
    CompactRequest,
    CreateRequest,
    DeleteRequest,
    DropRequest,
    FlushRequest,
    OpenRequest,
    PutRequest,
    RegionRequest,
    ReplaceRequest,
    ScanRequest,
    SyncRegionRequest,
    TruncateRequest,
    UndoRequest,
    VacuumRequest,
    Written,
)
from mitoframe.model.result import CompactResult, FlushResult, IndexResult, VacuumResult
from mitoframe.model.wording import counted
from mitoframe.read import lookup
from mitoframe.read.coverage import Stretches, coverage_by
from mitoframe.read.history import hold_everything, moment_of_sequence, moment_of_version, travel
from mitoframe.read.plan import ScanPlan, plan_scan
from mitoframe.region.hooks import Hooks, run_here
from mitoframe.region.recovery import unwatched
from mitoframe.storage.cache import Cache
from mitoframe.storage.compat import fit_batch
from mitoframe.storage.index_reader import IndexReader
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.wal import Wal, encode_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import pyarrow as pa

    from mitoframe.jobs.retention import Expiry
    from mitoframe.jobs.tasks import CompactionPlan
    from mitoframe.model.batch import Batch
    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import EntryId, ManifestVersion, RegionId, Sequence
    from mitoframe.model.past import Moment, NamedSnapshot
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.model.timerange import TimeRange
    from mitoframe.ports import (
        Clock,
        Compactor,
        LaneHealth,
        LogStore,
        ObjectStore,
        Pins,
        Randomness,
        Reader,
        RegionHook,
        Scheduler,
    )
    from mitoframe.region.control import Snapshot
    from mitoframe.region.recovery import Watch
    from mitoframe.region.region import Region
    from mitoframe.region.version import Version
    from mitoframe.storage.journal import History

Result = TypeVar("Result")
_CACHE_BYTES = 512 * MIB
CYCLES_MAX = 3
"""How many compactions of a region are waited for one after the other: others may go on bringing rows for ever."""


class MitoEngine:
    """The regions of one store, opened when first asked for.

    Args:
        object_store: where SSTs and manifests are.
        log: the write-ahead log of all regions.
        scheduler: runs all work; see `mitoframe.engine.parts.LANES`.
        config: values that tune it.
        cache_bytes: how much memory caches may take; None for what the config says, else 512 MiB.
        hooks: told of every flush, compaction and edit; see `RegionHook`.
        compactor: merges files elsewhere; None has them merged here. Whoever made it closes it, after this.
        read_only: another process writes; nothing is written here.
        pins: how processes that read tell the one that writes what they need; None if no other process can read.
        watch_recovery: entered when rows of a region are read from the log; what it gives is told how many so far.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     put = mito.PutRequest(batch=cpu.to_batch(frame))
        ...     db.engine.handle_requests([(cpu.region_id, put), (cpu.region_id, mito.FlushRequest())])
        ...     [batch.num_rows for batch in db.engine.handle_query(cpu.region_id, mito.ScanRequest())]
        [1, 1]
        [1]

    """

    def __init__(
        self,
        *,
        object_store: ObjectStore,
        log: LogStore,
        scheduler: Scheduler,
        clock: Clock,
        randomness: Randomness,
        config: MitoConfig | None = None,
        cache_bytes: int | None = None,
        hooks: Many[RegionHook] = (),
        compactor: Compactor | None = None,
        read_only: bool = False,
        pins: Pins | None = None,
        watch_recovery: Watch = unwatched,
    ) -> None:
        self.config = config or MitoConfig()
        self.store = object_store
        known_bytes = cache_bytes if cache_bytes is not None else self.config.cache_size_bytes
        self.cache = Cache(_CACHE_BYTES if known_bytes is None else known_bytes)
        self.indexes = IndexReader(object_store, self.cache)
        self.reader = SstReader(object_store, self.cache, self.indexes)
        self.read_only = read_only
        self._journal = Journal(
            object_store,
            clock,
            self._state_of,
            distance=self.config.checkpoint_distance,
            entries_max=self.config.journal_entries_max,
        )
        self._patience = Patience(scheduler)
        self._parts = Parts(
            store=object_store,
            reader=self.reader,
            indexes=self.indexes,
            wal=Wal(log),
            scheduler=scheduler,
            clock=clock,
            randomness=randomness,
            config=self.config,
            hooks=Hooks(
                hooks if read_only else (self._journal, *hooks),
                # The journal is ours, and quick: who asks for a flush finds it there when that is done.
                lambda hook, tell: (run_here if hook is self._journal else self._patience.run)(hook, tell),
                object_store.url,
            ),
            pins=pins or Alone(),
            compactor=compactor,
            watch_recovery=watch_recovery,
        )
        self.reading = Reading(self._parts)
        self._sync = make_sync_policy(self.config)
        self._committer = Committer(self._parts, self._sync.after_append)
        self._retention = Retention(clock)
        self._background = Background(self._parts, self._retention, self._committer.quietly)
        self._holding = Holding(self._parts.pins, is_told=read_only and pins is not None)
        self._regions = Regions(self._parts, self._committer, self._background, self._holding, read_only=read_only)
        self._changes = Changes(self._parts, self._regions, self._background)
        self._moments = Moments(self._parts, self._regions, self._background, self._changes)
        self._room = Room(self._regions.opened, self._background, self.config)
        self.verifying = Verifying(self._parts, self.reading, self._background, self.newest)
        self._closing = Lock()
        self._closed = False
        upkeep = self._let_go_of_earlier if read_only else self._upkeep
        self._stop_upkeep = scheduler.every(self.config.maintenance_interval_ms, PURGE_LANE, upkeep)

    # --- requests, by the names that mito2 gives them ---------------------------------------------------

    def handle_request(self, region_id: RegionId, request: RegionRequest) -> int:
        """Carry out a region request and return the number of rows it affected.

        Raises:
            MitoError: what went wrong; nothing was changed unless the error says so.

        """
        match request:
            case CreateRequest():
                self.create(region_id, request)
            case OpenRequest():
                self.region(region_id)
            case CloseRequest():
                self.close_region(region_id, flush=request.flush)
            case DropRequest():
                self.drop(region_id)
            case AlterRequest():
                self.alter(region_id, request)
            case PutRequest() | DeleteRequest():
                [result] = self._handle_rows([(region_id, request)])
                if isinstance(result, MitoError):
                    raise result
                return result
            case BulkInsertRequest():
                written = self.bulk_insert(region_id, request.batches, key=request.key)
                return 0 if written is None or written.repeated else written.row_count
            case ReplaceRequest():
                return sum(self.replace(region_id, [request.time_range], request.batches))
            case UndoRequest():
                return self.undo(region_id, request.first_sequence, request.row_count)
            case FlushRequest():
                return sum(file.row_count for file in self.flush(region_id, request.reason).files)
            case CompactRequest():
                return sum(file.row_count for file in self.compact(region_id, request).added)
            case BuildIndexRequest():
                return sum(file.row_count for file in self.build_index(region_id, request).files)
            case TruncateRequest():
                return self.truncate(region_id, request)
            case SyncRegionRequest():
                self.sync(region_id, request.manifest_version)
            case VacuumRequest():
                self.vacuum(region_id, request.grace_ms, dry_run=request.dry_run)
        return 0

    def handle_requests(self, requests: Iterable[tuple[RegionId, RegionRequest]]) -> list[int | MitoError]:
        """Carry out requests in order and return for each the number of rows it affected, or its error.

        Neighbouring writes, of any regions, are committed together.
        """
        results: list[int | MitoError] = []
        writes: list[tuple[RegionId, PutRequest | DeleteRequest]] = []
        for region_id, request in requests:
            if isinstance(request, PutRequest | DeleteRequest):
                writes.append((region_id, request))
                continue
            results += self._handle_rows(writes)
            writes.clear()
            try:
                results.append(self.handle_request(region_id, request))
            except MitoError as error:
                results.append(error)
        return results + self._handle_rows(writes)

    def _handle_rows(self, writes: Many[tuple[RegionId, PutRequest | DeleteRequest]]) -> list[int | MitoError]:
        """Commit writes as one group and return for each the rows it affected, or its error."""
        entered: dict[RegionId, Region | MitoError] = {}
        ticket = Lock()
        with ticket:
            for region_id in sorted({region_id for region_id, _ in writes}):
                try:
                    entered[region_id] = self._enter(region_id, ticket)
                except MitoError as error:
                    entered[region_id] = error
            begun = [self._begun(entered[region_id], request) for region_id, request in writes]
            results = [_rows_affected(outcome) for outcome in begun]
        for region in self._regions.opened() if writes else ():
            self._room.relieve_after_write(region)
        return results

    def _begun(
        self, region: Region | MitoError, request: PutRequest | DeleteRequest
    ) -> Errand[Written] | MitoError | None:
        """Queue a write; return None if it has no rows, and what is wrong with it if something is."""
        expected = OpType.PUT if isinstance(request, PutRequest) else OpType.DELETE
        key = request.key if isinstance(request, PutRequest) else DELETED
        if isinstance(region, MitoError):
            return region
        if not len(request.batch):
            return None
        try:
            if (request.batch.op_types != expected).any():
                raise InvalidInputError(f"a {type(request).__name__} holds rows of another operation; send them apart.")
            return self._begin(region, fit_batch(request.batch, region.metadata), key)
        except MitoError as error:
            return error

    def handle_query(self, region_id: RegionId, request: ScanRequest) -> Iterator[pa.RecordBatch]:
        """Yield the rows a request asks for, filtered in full and projected."""
        return self.reading.query(self.plan(region_id, request))

    # --- regions ----------------------------------------------------------------------------------------

    def create(self, region_id: RegionId, request: CreateRequest) -> Region:
        """Make a region, or open it if it is there with the same schema; see `Regions.create`."""
        self._check_writable()
        return self._change(lambda: self._regions.create(region_id, request))

    def region(self, region_id: RegionId) -> Region:
        """Return an open region, opening it if need be."""
        self._check_open()
        return self._regions.get(region_id)

    def close_region(self, region_id: RegionId, *, flush: bool) -> None:
        """Let a region go. Closing one that is not open is fine."""
        self._change(partial(self._close_region, region_id, flush=flush))

    def _close_region(self, region_id: RegionId, *, flush: bool) -> None:
        region = next((region for region in self._regions.opened() if region.region_id == region_id), None)
        if region is not None and not self.read_only:
            # A store that cannot be written any more is closed all the same.
            with suppress(MitoError):
                self._retention.remember(region)
        self._regions.close(region_id, flush=flush)

    def alter(self, region_id: RegionId, request: AlterRequest) -> bool:
        """Change a region's schema and options; tell whether anything changed. See `Regions.alter`."""
        self._check_writable()
        region = self.region(region_id)

        def job() -> bool:
            self._retention.remember(region)
            return self._regions.alter(region_id, request)

        changed = self._change(job)
        if changed:
            self._background.index_if_due(self.region(region_id), Urgency.SCHEMA_CHANGED)
        return changed

    def truncate(self, region_id: RegionId, request: TruncateRequest) -> int:
        """Remove rows without looking at them; return how many, versions of one key counted each."""
        self._check_writable()
        if request.what == "time_ranges":
            return self.replace(region_id, request.time_ranges)[0]
        unflushed_only = request.what == "unflushed"
        return self._change(lambda: self._regions.truncate(region_id, unflushed_only=unflushed_only))

    def drop(self, region_id: RegionId) -> None:
        """Give a region up for good."""
        self._check_writable()
        self._change(lambda: self._regions.drop(region_id))

    def dropped(self) -> frozenset[RegionId]:
        """Return the regions that were dropped and whose files are still there."""
        return self._regions.dropped()

    def forget_log_of_others(self, named: Collection[RegionId]) -> None:
        """Let the log forget regions that are not ``named`` and of which nothing else is left."""
        self._check_writable()
        self._regions.forget_log_of_others(named)

    def _state_of(self, region_id: RegionId) -> RegionState | None:
        return self._regions.state_of(region_id)

    def _change(self, change: Callable[[], Result]) -> Result:
        return done(self._parts.scheduler, CHANGE_LANE, change)

    # --- writing ----------------------------------------------------------------------------------------

    def write(
        self, region_id: RegionId, batch: Batch, *, metadata: RegionMetadata | None = None, key: str = ""
    ) -> Written:
        """Make a batch durable and visible.

        Args:
            region_id: where to.
            batch: at least one row.
            metadata: the schema that the batch was made for; if the region has another by now, it is fitted.
            key: a write that had this key before is not done again.

        Raises:
            BusyError: the region has no room, or is being changed, for too long. Nothing was written.
            SchemaMismatchError: the batch does not fit. Nothing was written.

        """
        ticket = Lock()
        with ticket:
            region = self._enter(region_id, ticket)
            written = self._begin(region, fit_batch(batch, region.metadata, metadata), key).result()
        self._room.relieve_after_write(region)
        if written.repeated or region.options.ttl_ms is None:
            return written
        return replace(written, expired=self._retention.expired_count(region.control.current(), batch.times))

    def _enter(self, region_id: RegionId, ticket: Lock) -> Region:
        """Hold off changes of a region that is to be written to, for as long as the ticket is held."""
        self._check_writable()
        region = self.region(region_id)
        region.gate.enter(ticket, self.config.write_stall_ms)
        return region

    def _begin(self, region: Region, batch: Batch, key: str) -> Errand[Written]:
        """Queue a write when there is room for it. Requires: the region is entered."""
        region.check_writable()
        if region.options.dedup == "none" and (batch.op_types == OpType.DELETE).any():
            raise InvalidInputError(
                "rows cannot be deleted by key from a table that keeps every row (dedup='none'); "
                "exchange a time range with replace_range, or truncate it."
            )
        self._room.make(region, batch.size_bytes)
        if not key and region.remembers_content():
            key = WRITTEN  # Else a write known by its content would count although it was written over.
        at_ms = self._parts.clock.now_ms()
        encoded = None
        if region.options.wal == "log":
            encoded = encode_write(region.metadata, batch, key=key, at_ms=at_ms)
        return self._committer.begin(region, encoded, batch, key=key, at_ms=at_ms)

    def bulk_insert(
        self,
        region_id: RegionId,
        batches: Iterable[Batch],
        *,
        metadata: RegionMetadata | None = None,
        key: str | Callable[[], str] = "",
        told: Callable[[int], None] = lambda _: None,
    ) -> Written | None:
        """Sort rows straight into SSTs and make them visible all at once; see `Changes.backfill`."""
        self._check_writable()
        region = self.region(region_id)
        if region.options.ttl_ms is not None:
            self._change(partial(self._retention.remember, region))
        written = self._changes.backfill(region, batches, metadata=metadata, key=key, told=told)
        if written is not None and not written.repeated:
            written = replace(written, expired=self._retention.expired_in_files(region.control.current(), written))
        self._background.compact_if_due(region)
        self._background.index_if_due(region, Urgency.FLUSHED)
        return written

    def replace(
        self,
        region_id: RegionId,
        ranges: Many[TimeRange],
        batches: Iterable[Batch] = (),
        *,
        metadata: RegionMetadata | None = None,
    ) -> tuple[int, int]:
        """Exchange the rows of time ranges for others; return how many went and how many came."""
        self._check_writable()
        region = self.region(region_id)
        counts = self._changes.replace(region, ranges, _checked(batches, ranges), metadata)
        self._background.index_if_due(region, Urgency.FLUSHED)
        return counts

    def only_new(self, region_id: RegionId, batch: Batch, metadata: RegionMetadata) -> Batch:
        """Return a batch if none of its rows has the key of a row that is there, or of one before it.

        Raises:
            InvalidInputError: one has; the message names the first.

        """
        time = metadata.time.name
        first, last = int(batch.times.min()), int(batch.times.max())
        within = conjunction([Compare(time, ">=", first), Compare(time, "<=", last)])
        plan = self.plan(region_id, ScanRequest(predicate=within))
        taken = np.nonzero(lookup.present(plan, self.reader, batch) | lookup.repeated(batch))[0]
        if len(taken):
            raise InvalidInputError(
                f"row {int(taken[0])} has the tags and time of a row that is there already or of one before it, "
                f"{counted(len(taken), 'row')} in all; nothing was written. "
                "Drop such rows, or use write() to replace them."
            )
        return fit_batch(batch, self.region(region_id).metadata, metadata)

    def write_found(self, region_id: RegionId, find: Callable[[], Batch], *, key: str = "") -> Written | None:
        """Write the rows that ``find`` returns; nobody writes to the region between its looking and that."""
        self._check_writable()
        region = self.region(region_id)
        found: list[Batch] = []

        def watched() -> Batch:
            found[:] = [find()]
            return found[0]

        written = self._changes.write_found(region, watched, key=key)
        self._room.relieve_after_write(region)
        if written is None or key == DELETED:
            return written
        return replace(written, expired=self._retention.expired_count(region.control.current(), found[0].times))

    def undo(self, region_id: RegionId, first: Sequence, row_count: int) -> int:
        """Be as if the rows with these sequences had never been written; see `Changes.undo`."""
        self._check_writable()
        return self._changes.undo(self.region(region_id), first, row_count)

    def flush(self, region_id: RegionId, reason: str = "manual") -> FlushResult:
        """Write every row that is visible now to SSTs."""
        self._check_writable()
        return self._background.start_flush(self.region(region_id), reason).result(withdraw=False)

    def compact(
        self,
        region_id: RegionId,
        request: CompactRequest | None = None,
        *,
        told: Callable[[int], None] = lambda _: None,
    ) -> CompactResult:
        """Merge files as a request says, all that overlap if none is given, and wait for it.

        ``told`` gets how many rows have been merged so far, from another thread.

        Raises:
            BusyError: what somebody else asked for is under way.
            ConflictError: it was cancelled, or a newer request took its place. Nothing was lost.
            CorruptionError: files that cannot be read were left out; everything else was merged.

        """
        wanted = request or CompactRequest()
        if wanted.dry_run:
            return planned(self._background.compactions.plan(self.newest(region_id), wanted, is_explained=False))
        self._check_writable()
        region = self.region(region_id)
        return self._background.compactions.ask(region, wanted, told).result()

    def compaction_plan(self, region_id: RegionId, request: CompactRequest) -> CompactionPlan:
        """Say what a request would do now, window by window, and why not more."""
        return self._background.compactions.plan(self.newest(region_id), request)

    def expire(self, region_id: RegionId) -> tuple[FileMeta, ...]:
        """List the files no more in which all rows have expired, and return them. It happens by itself now and then."""
        self._check_writable()
        region = self.region(region_id)
        return done(self._parts.scheduler, PURGE_LANE, lambda: self._retention.drop_expired(region))

    def expiry(self, region_id: RegionId, ttl_ms: int | None = None) -> Expiry | None:
        """Say what has expired by a region's time to live, or by another; None if there is none."""
        return self._retention.expiry(self.newest(region_id), ttl_ms)

    def build_index(
        self,
        region_id: RegionId,
        request: BuildIndexRequest | None = None,
        *,
        told: Callable[[int], None] = lambda _: None,
    ) -> IndexResult:
        """Build the indexes that are asked for and not there, and wait for it. Others that wait go on doing so.

        ``told`` gets how many rows the files have that are done so far.

        Raises:
            InvalidInputError: there is no such file or kind of index.

        """
        self._check_writable()
        return self._background.build_index(self.region(region_id), request or BuildIndexRequest(), told)

    def vacuum(
        self,
        region_id: RegionId,
        grace_ms: int | None = None,
        *,
        dry_run: bool = False,
        told: Callable[[int], None] = lambda _: None,
    ) -> VacuumResult:
        """Delete files that nobody needs any more and whose grace period is over, or only say which.

        ``grace_ms`` counts for files that were listed once and for those that never were; None is as configured, for
        each. ``told`` gets how many files have gone so far, from other threads.
        """
        self._check_writable()
        grace = configured_grace(self.config) if grace_ms is None else Grace(known_ms=grace_ms, unknown_ms=grace_ms)
        return self._background.start_vacuum(self.region(region_id), grace, dry_run=dry_run, told=told).result()

    # --- upkeep -----------------------------------------------------------------------------------------

    def maintain(self) -> None:
        """Do now what is due: flushes by age, compactions, deletions. The engine does it by itself now and then."""
        self._check_writable()
        for flush in done(self._parts.scheduler, PURGE_LANE, self._upkeep):
            flush.result(withdraw=False)
        for region in self._regions.opened():
            for _ in range(CYCLES_MAX):
                compaction = self._background.compact_if_due(region)
                if compaction is None:
                    break
                compaction.result(withdraw=False)

    def _upkeep(self) -> list[Errand[FlushResult]]:
        """See to each region, and raise the first error when all were seen to; return the flushes that were begun."""
        flushes: list[Errand[FlushResult]] = []
        errors: list[MitoError] = []
        for region in self._regions.opened():
            try:
                flushes += self._keep_up(region)
            except MitoError as error:
                errors.append(error)
        self._regions.purge(self.config.gc_grace_ms)
        if errors:
            raise errors[0]
        return flushes

    def _keep_up(self, region: Region) -> list[Errand[FlushResult]]:
        if region.is_poisoned():
            return []
        self._retention.drop_expired(region)
        self._background.vacuum_if_due(region)
        self._background.index_if_due(region, Urgency.COMPACTED)
        self._background.compact_if_due(region)  # Windows settle without a flush.
        now_ms = self._parts.clock.now_ms()
        stats = [memtable.stats for memtable in region.control.current().version.memtables]
        first_ms = min((item.first_at_ms for item in stats if item.first_at_ms is not None), default=now_ms)
        if now_ms - first_ms >= (region.options.auto_flush_interval_ms or self.config.auto_flush_interval_ms):
            return [self._background.start_flush(region, "age")]
        return []

    def _let_go_of_earlier(self) -> None:
        """In a process that reads: hold no version for itself that is not the newest, and say what is still held."""
        try:
            self._regions.let_go_of_earlier()
        finally:
            self._holding.settle()

    def health(self) -> Health:
        """Say how the background work is: each lane, and what went wrong in each open region."""
        return Health(
            last_entry_id=self._parts.wal.last_id(),
            lanes=self._parts.scheduler.health(),
            regions=tuple(
                RegionHealth(
                    region_id=region.region_id,
                    poison=region.poison_cause(),
                    failures=self._background.failures(region) | self._parts.hooks.failures(region.region_id),
                    buffered_bytes=load.mutable + load.frozen,
                    waiting_bytes=load.waiting,
                )
                for region, load in self._room.loads()
            ),
        )

    # --- reading ----------------------------------------------------------------------------------------

    def plan(self, region_id: RegionId, request: ScanRequest) -> ScanPlan:
        """Take a snapshot and decide what to read. Rows acknowledged before this call are in it.

        Raises:
            SnapshotExpiredError: an earlier moment is asked for that is not kept any more.

        """
        control = self.newest(region_id).control
        current = control.current()
        if request.version is not None:
            return self.plan_at(self.snapshot_at(region_id, moment_of_version(current, request.version)), request)
        if request.sequence is not None and request.sequence < current.visible:
            return self.plan_at(self.snapshot_at(region_id, moment_of_sequence(current, request.sequence)), request)
        return plan_scan(current, self._retention.kept(current, request))

    def plan_at(self, snapshot: Snapshot, request: ScanRequest) -> ScanPlan:
        """Decide what to read of an earlier moment, as it was: also what had expired then is left out."""
        return plan_scan(snapshot, self._retention.kept_then(snapshot, request))

    def kept_from(self, snapshot: Snapshot, *, is_past: bool) -> int:
        """Return the oldest time that `plan` reads of what there is now, or `plan_at` of an earlier moment."""
        return self._retention.kept_from_then(snapshot) if is_past else self._retention.kept_from(snapshot)

    def snapshot_at(self, region_id: RegionId, moment: Moment) -> Snapshot:
        """Return what there was at an earlier moment. As long as it is held its files stay.

        Raises:
            SnapshotExpiredError: some of it is not there any more.

        """
        with self._holding.reaching(region_id, moment.version):
            return travel(self.newest(region_id).control, moment)

    def everything(self, region_id: RegionId) -> tuple[Snapshot, Version]:
        """Return what there is now, and a version that lists every file of the past too and so keeps it."""
        with self._holding.reaching(region_id, FIRST_VERSION):
            return hold_everything(self.newest(region_id).control)

    def newest(self, region_id: RegionId) -> Region:
        """Return a region as it is now, also if another process writes."""
        self._check_open()
        return self._regions.refreshed(region_id) if self.read_only else self._regions.get(region_id)

    def sync(self, region_id: RegionId, version: ManifestVersion) -> tuple[ManifestVersion, bool]:
        """Be at a version of a region's manifest, or at a later one that is there.

        Returns the version it is at now, and whether it was at another before.

        Raises:
            InvalidInputError: there is no such version yet.

        """
        before = self.region(region_id).state.version
        now = self.newest(region_id).state.version
        if now < version:
            raise InvalidInputError(
                f"version {version} of region {region_id} is not there, the newest is {now}; ask again later."
            )
        return now, now != before

    def history(self, region_id: RegionId) -> History:
        """Return what happened to a region, as far as its journal tells."""
        self.newest(region_id)  # Whoever asks for what is not there is told so.
        return self._journal.history(region_id)

    def coverage(self, region_id: RegionId, tag: str, told: Callable[[int], None]) -> Iterator[Stretches]:
        """Yield which times each value of a tag covers, by source; see `read.coverage`."""
        return coverage_by(self.newest(region_id).control.current(), self.reader, tag, told)

    # --- earlier moments --------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Return the time by the clock that versions are noted with."""
        return self._parts.clock.now_ms()

    def readers(self) -> Many[Reader]:
        """Return the processes that opened the store for reading and say what they read; see `Pins`."""
        return self._parts.pins.readers()

    def forget_reader(self, identifier: str) -> None:
        """Remove what a reader left who is dead; harmless if it has gone.

        Raises:
            ReadOnlyError: the store was opened for reading.
            UnavailableError: he may live after all, or what he left could not be removed.

        """
        self._check_writable()
        if not self._parts.pins.forget(identifier):
            raise UnavailableError(f"reader {identifier} may live after all, or what it left cannot be removed.")

    def snapshot(self, region_id: RegionId, name: str) -> NamedSnapshot:
        """Give what is there now a name, and keep it; see `Moments.snapshot`."""
        self._check_writable()
        return self._moments.snapshot(self.region(region_id), name)

    def drop_snapshot(self, region_id: RegionId, name: str) -> NamedSnapshot:
        """Let a name go; see `Moments.drop_snapshot`."""
        self._check_writable()
        return self._moments.drop_snapshot(self.region(region_id), name)

    def restore(self, region_id: RegionId, moment: Moment) -> tuple[ManifestVersion, bool]:
        """Be as at an earlier moment; see `Moments.restore`."""
        self._check_writable()
        return self._moments.restore(self.region(region_id), moment)

    def wait(self, interval_ms: int) -> None:
        """Return when that time has passed; `ClosedError` if the store is closed meanwhile."""
        wait(self._parts.scheduler, interval_ms, self._check_open)

    # --- the end ----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Return when all background work has ended. Hooks that are slow are not waited for."""
        self._parts.scheduler.drain()

    def close(self, *, flush: bool | None = None) -> None:
        """Finish background work, flush if configured, and let everything go. Closing twice is fine."""
        with self._closing:
            if self._closed:
                return
            self._closed = True  # Nothing new begins; each region waits for the writes that have.
            scheduler = self._parts.scheduler
            try:
                self._stop_upkeep()
                self._background.stop_indexing()
                self.reading.stop()
                scheduler.drain()
                try:
                    self._let_go(not self.read_only and (self.config.flush_on_close if flush is None else flush))
                finally:
                    self._patience.close()
            finally:
                scheduler.close()
                try:
                    self._sync.close()
                finally:
                    self._parts.wal.close()

    def _let_go(self, flush: bool) -> None:
        """Close every region, and raise the first error when all were tried: one that fails keeps none from it."""
        errors: list[MitoError] = []
        for region in self._regions.opened():
            try:
                self._change(partial(self._close_region, region.region_id, flush=flush))
            except MitoError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this store was closed; open it again with mitoframe.open().")

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError('the store was opened for reading; open it with mode="rw" to change it.')
        self._parts.scheduler.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionHealth:
    """``poison``: why the region takes no more changes. ``failures``: the last error of each kind of failing job."""

    region_id: RegionId
    poison: BaseException | None
    failures: Mapping[str, BaseException]
    buffered_bytes: int
    waiting_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """``last_entry_id``: of the log, which all regions share."""

    last_entry_id: EntryId
    lanes: tuple[LaneHealth, ...]
    regions: tuple[RegionHealth, ...]


def _rows_affected(outcome: Errand[Written] | MitoError | None) -> int | MitoError:
    if outcome is None or isinstance(outcome, MitoError):
        return outcome or 0
    try:
        written = outcome.result()
    except MitoError as error:
        return error
    return 0 if written.repeated else written.row_count


def _checked(batches: Iterable[Batch], ranges: Many[TimeRange]) -> Iterator[Batch]:
    """Pass batches on, and refuse a row that is in none of the ranges."""
    expected, row = RowsInTime(ranges=tuple(ranges)), 0
    for batch in batches:
        outside = np.nonzero(~expected.of_times(batch.times))[0]
        if len(outside):
            raise InvalidInputError(
                f"the time in row {row + int(outside[0])} is not in the range to be replaced; drop such rows, or widen "
                "the range. Nothing was changed."
            )
        row += len(batch)
        yield batch
