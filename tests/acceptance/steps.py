"""What the acceptance tests do all the time: an engine with one region, requests to it, and a look at its state."""

from __future__ import annotations

from builders import REGION, Row, batch_of, create, metadata_of, open_engine, put, read
from gates import Gate

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import ThreadScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import CHANGE_LANE, FLUSH_LANE, LANES, WRITE_LANE
from mitoframe.model.alter import Alteration
from mitoframe.model.batch import OpType
from mitoframe.model.edit import RegionState
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import RegionId, region_id
from mitoframe.model.request import AlterRequest, BulkInsertRequest, DeleteRequest, FlushRequest, PutRequest
from mitoframe.model.schema import RegionMetadata
from mitoframe.ports import Bytes, Clock, LogStore
from mitoframe.region.control import Snapshot

METADATA = metadata_of()
OTHER_ID = region_id(2, 0)
OTHER = metadata_of(region=OTHER_ID)
HOUR = 3_600_000
HISTORY_OFF = {"gc_grace_ms": 0}
"""Superseded rows are not kept, so that a flush stores nothing but what a scan reads."""


class SlowManifest(MemoryObjectStore):
    """Waits before a manifest version is stored, and before one is read if it is slow to read too."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.gate, self.reading = Gate(), Gate()

    def get(self, key: str) -> bytes:
        if "/manifest/" in key:
            self.reading.wait()
        return super().get(key)

    def put_if_absent(self, key: str, data: Bytes) -> None:
        if "/manifest/" in key:
            self.gate.wait()
        super().put_if_absent(key, data)


def threads() -> ThreadScheduler:
    """Lanes as a store on disk has them, with more hands for SSTs."""
    return ThreadScheduler(dict.fromkeys(LANES, 1) | {CHANGE_LANE: 4, FLUSH_LANE: 2, WRITE_LANE: 4})


def one_flush_at_a_time() -> ThreadScheduler:
    return ThreadScheduler(dict.fromkeys(LANES, 1) | {CHANGE_LANE: 4, WRITE_LANE: 4})


def started(
    store: MemoryObjectStore | None = None,
    log: LogStore | None = None,
    *,
    metadata: RegionMetadata = METADATA,
    options: dict | None = None,
    **known,
) -> MitoEngine:
    """Open an engine and make the region."""
    engine = open_engine(store, log, **known)
    create(engine, metadata, **(options or {}))
    return engine


def rows_to(region: RegionId, *rows: Row) -> PutRequest:
    return PutRequest(batch=batch_of(metadata_of(region=region), rows))


def write(engine: MitoEngine, *rows: Row, region: RegionId = REGION) -> int:
    return engine.handle_request(region, rows_to(region, *rows))


def row(time: int, *fields, host: str | None = "a") -> Row:
    return Row(0, time, (host,), fields)


def write_as(metadata: RegionMetadata, engine: MitoEngine, *rows: Row) -> int:
    """Write rows of a schema that is not the plain one."""
    return engine.handle_request(metadata.region_id, PutRequest(batch=batch_of(metadata, rows)))


def write_times(engine: MitoEngine, *times: int, region: RegionId = REGION) -> int:
    """Write rows whose value is their time."""
    return write(engine, *(put(0, time, cpu=time) for time in times), region=region)


def remove(engine: MitoEngine, *times: int, host: str | None = "a", metadata: RegionMetadata = METADATA) -> int:
    nothing = (None,) * len(metadata.fields)
    rows = [Row(0, time, (host,), nothing, OpType.DELETE) for time in times]
    return engine.handle_request(metadata.region_id, DeleteRequest(batch=batch_of(metadata, rows)))


def bulk_insert(engine: MitoEngine, *times: int, region: RegionId = REGION) -> int:
    batch = batch_of(metadata_of(region=region), [put(0, time, cpu=time) for time in times])
    return engine.handle_request(region, BulkInsertRequest(batches=[batch]))


def flush(engine: MitoEngine, region: RegionId = REGION) -> int:
    return engine.handle_request(region, FlushRequest())


def alter(engine: MitoEngine, *alterations: Alteration, unset: tuple[str, ...] = (), **options) -> bool:
    return engine.alter(REGION, AlterRequest(alterations=alterations, options=options, unset=unset))


def values(engine: MitoEngine, region: RegionId = REGION, column: str = "cpu") -> list:
    return [row[0] for row in read(engine, region, columns=(column,))]


def snapshot(engine: MitoEngine, region: RegionId = REGION) -> Snapshot:
    return engine.region(region).control.current()


def state(engine: MitoEngine, region: RegionId = REGION) -> RegionState:
    return engine.region(region).state


def files(engine: MitoEngine, region: RegionId = REGION) -> list[FileMeta]:
    return list(state(engine, region).files.values())


def buffered_rows(engine: MitoEngine, region: RegionId = REGION) -> int:
    return sum(memtable.stats.row_count for memtable in snapshot(engine, region).version.memtables)


def buffered_bytes(engine: MitoEngine, region: RegionId = REGION) -> int:
    return snapshot(engine, region).version.memory_bytes
