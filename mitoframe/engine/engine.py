"""`MitoEngine`: regions by their number. Tables and names are the door's business.

Writing goes pressure -> commit (engine/commit.py). Reading takes a snapshot and plans on it (read/plan.py); nothing
here locks a reader out. Slow work is in engine/background.py.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import RLock
from typing import TYPE_CHECKING

from mitoframe.engine.background import Background
from mitoframe.engine.commit import Committer
from mitoframe.engine.pressure import Pressure, pressure
from mitoframe.engine.sync import make_sync_policy
from mitoframe.failpoints import reached
from mitoframe.model.edit import Change
from mitoframe.model.errors import BusyError, ClosedError, InvalidInputError, ReadOnlyError
from mitoframe.model.options import MitoConfig
from mitoframe.model.request import (
    CloseRequest,
    CompactRequest,
    CompactResult,
    CreateRequest,
    DeleteRequest,
    FlushRequest,
    FlushResult,
    OpenRequest,
    PutRequest,
    RegionRequest,
    ScanRequest,
    VacuumResult,
)
from mitoframe.read.plan import ScanPlan, plan_scan
from mitoframe.read.scanner import run_plan
from mitoframe.region.hooks import Hooks
from mitoframe.region.recovery import create_region, open_region, open_region_for_reading, refresh_region
from mitoframe.storage.manifest import exists
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.wal import Wal, encode_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from mitoframe.model.batch import Batch
    from mitoframe.model.ids import RegionId
    from mitoframe.ports import Clock, LogStore, ObjectStore, Randomness, RegionHook, Scheduler
    from mitoframe.region.region import Region


class MitoEngine:
    """The regions of one store, opened when first asked for.

    Args:
        object_store: where SSTs and manifests are.
        log: the write-ahead log of all regions.
        scheduler: runs background jobs.
        config: values that tune it.
        hooks: told of every flush, compaction and edit.
        read_only: another process writes; nothing is written here.

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
        hooks: Sequence[RegionHook] = (),
        read_only: bool = False,
    ) -> None:
        self.config = config or MitoConfig()
        self.store = object_store
        self.reader = SstReader(object_store)
        self.read_only = read_only
        self._randomness = randomness
        self._wal = Wal(log)
        self._hooks = Hooks(hooks)
        self._sync = make_sync_policy(self.config)
        self._committer = Committer(self._wal, self._sync.after_append)
        self._scheduler = scheduler
        self._background = Background(
            store=object_store,
            reader=self.reader,
            scheduler=scheduler,
            clock=clock,
            randomness=randomness,
            config=self.config,
            hooks=self._hooks,
            freeze=lambda region: self._committer.quietly(region.freeze),
        )
        self._regions: dict[RegionId, Region] = {}
        self._lock = RLock()
        self._closed = False

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
            case PutRequest() | DeleteRequest():
                if len(request.batch):
                    self.write(region_id, request.batch)
                return len(request.batch)
            case FlushRequest():
                return sum(file.row_count for file in self.flush(region_id, request.reason).files)
            case CompactRequest():
                return sum(file.row_count for file in self.compact(region_id, request.reason).added)
        return 0

    def handle_query(self, region_id: RegionId, request: ScanRequest) -> Iterator[pa.RecordBatch]:
        """Yield the rows a request asks for, filtered in full and projected."""
        return run_plan(self.plan(region_id, request), self.reader)

    # --- regions ----------------------------------------------------------------------------------------

    def create(self, region_id: RegionId, request: CreateRequest) -> Region:
        """Make a region, or open it if it is there with the same schema.

        Raises:
            InvalidInputError: it is there with another schema.

        """
        self._check_writable()
        assert request.metadata.region_id == region_id
        with self._lock:
            if region_id in self._regions or exists(self.store, region_id):
                region = self.region(region_id)
                if region.metadata != request.metadata:
                    raise InvalidInputError(f"region {region_id} exists with another schema; open it instead.")
                return region
            first = Change(metadata=request.metadata, options=request.options)
            region = create_region(
                self.store, self._randomness, self._wal, self._hooks, first, self.config.checkpoint_distance
            )
            reached("create.region_stored")
            self._regions[region_id] = region
            return region

    def region(self, region_id: RegionId) -> Region:
        """Return an open region, opening it if need be."""
        self._check_open()
        with self._lock:
            region = self._regions.get(region_id)
            if region is None:
                region = self._open(region_id)
                self._regions[region_id] = region
            return region

    def _open(self, region_id: RegionId) -> Region:
        if self.read_only:
            return open_region_for_reading(self.store, self._wal, self._hooks, region_id)
        return open_region(
            self.store, self._randomness, self._wal, self._hooks, region_id, self.config.checkpoint_distance
        )

    def close_region(self, region_id: RegionId, *, flush: bool) -> None:
        """Let a region go. Closing one that is not open is fine."""
        with self._lock:
            region = self._regions.get(region_id)
            if region is None:
                return
            if flush and not self.read_only:
                self.flush(region_id, "close")
            self._committer.quietly(region.close)
            self._regions.pop(region_id)

    # --- writing ----------------------------------------------------------------------------------------

    def write(self, region_id: RegionId, batch: Batch) -> int:
        """Make a batch durable and visible; return the sequence of its first row.

        Requires: the batch fits the region's metadata and is not empty.
        """
        self._check_writable()
        region = self.region(region_id)
        self._make_room(region)
        first = self._committer.commit(region, encode_write(region.metadata, batch), batch)
        if pressure(region.control.current().version, self.config) is not Pressure.GO:
            self._background.start_flush(region, "buffer full")
        return first

    def _make_room(self, region: Region) -> None:
        """Wait while a region's memtables are over the limit."""
        if pressure(region.control.current().version, self.config) is not Pressure.STALL:
            return
        flush = self._background.start_flush(region, "buffer full")
        try:
            flush.result(self.config.write_stall_ms / 1000)
        except FutureTimeoutError:
            raise BusyError(
                f"the write waited {self.config.write_stall_ms} ms for a flush and gave up; nothing was written. "
                "Retry, or raise write_buffer_limit_bytes or write_stall_ms."
            ) from None

    def flush(self, region_id: RegionId, reason: str = "manual") -> FlushResult:
        """Write every row that is visible now to SSTs."""
        self._check_writable()
        region = self.region(region_id)
        self._committer.quietly(region.freeze)
        reached("flush.frozen")
        return self._background.flush(region, reason)

    def compact(self, region_id: RegionId, reason: str = "manual") -> CompactResult:
        """Merge the overlapping files of each time window into one."""
        self._check_writable()
        return self._background.compact(self.region(region_id), reason=reason)

    def vacuum(self, region_id: RegionId, grace_ms: int | None = None) -> VacuumResult:
        """Delete files that nobody needs any more."""
        self._check_writable()
        grace = self.config.gc_grace_ms if grace_ms is None else grace_ms
        return self._background.vacuum(self.region(region_id), grace_ms=grace)

    # --- reading ----------------------------------------------------------------------------------------

    def plan(self, region_id: RegionId, request: ScanRequest) -> ScanPlan:
        """Take a snapshot and decide what to read. Rows acknowledged before this call are in it."""
        region = self.region(region_id)
        if self.read_only:
            region = self._refreshed(region)
        return plan_scan(region.control.current(), request)

    def _refreshed(self, region: Region) -> Region:
        with self._lock:
            current = refresh_region(self.store, self._wal, self._hooks, region)
            self._regions[region.region_id] = current
            return current

    # --- the end ----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Return when all background work has ended."""
        self._scheduler.drain()

    def close(self, *, flush: bool | None = None) -> None:
        """Finish background work, flush if configured, and let everything go. Closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            try:
                if not self.read_only:
                    self._scheduler.drain()
                    if self.config.flush_on_close if flush is None else flush:
                        for region_id in list(self._regions):
                            self.flush(region_id, "close")
            finally:
                self._closed = True
                self._scheduler.close()
                try:
                    self._sync.close()
                finally:
                    self._wal.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this store was closed; open it again with mitoframe.open().")

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError('the store was opened for reading; open it with mode="rw" to change it.')
