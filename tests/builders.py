"""Small regions, rows and engines for tests, and the answers worked out the slow way.

A `Row` is a row as a person would write it down. `batch_of` and `rows_of` are the two ways between rows and a `Batch`;
`newest` is the oracle of every merge: a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mitoframe.drivers.clock import ManualClock, SeededRandomness
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import CHANGE_LANE, FLUSH_LANE, HOOK_LANE, LANES, WRITE_LANE
from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.file import LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import FileId, RegionId, region_id
from mitoframe.model.ids import Sequence as RowSequence
from mitoframe.model.options import MitoConfig, RegionOptions
from mitoframe.model.request import CreateRequest, ScanRequest
from mitoframe.model.schema import RegionMetadata, build_metadata

GOLDEN = Path(__file__).parent / "golden"
REGION = region_id(1, 0)
HOST = {"host": pa.string()}
CPU = {"cpu": pa.int64()}
PUT, DELETE = OpType.PUT, OpType.DELETE


def metadata_of(
    tags: Mapping[str, pa.DataType] = HOST,
    fields: Mapping[str, pa.DataType] = CPU,
    *,
    time_type: pa.DataType | None = None,
    region: RegionId = REGION,
) -> RegionMetadata:
    """Describe a region with a time column ``ts`` in milliseconds."""
    columns = {**tags, "ts": time_type or pa.timestamp("ms"), **fields}
    return build_metadata(region, pa.schema(list(columns.items())), time="ts", tags=list(tags))


def with_field(metadata: RegionMetadata, name: str, data_type: pa.DataType) -> RegionMetadata:
    """Return the metadata after a field was added."""
    column = replace(metadata.columns[-1], column_id=len(metadata.columns) + 1, name=name, type=data_type)
    return replace(metadata, schema_version=metadata.schema_version + 1, columns=(*metadata.columns, column))


@dataclass(frozen=True, slots=True)
class Row:
    sequence: int
    time: int
    tags: tuple[Any, ...] = ("a",)
    fields: tuple[Any, ...] = (0,)
    op_type: OpType = PUT

    @property
    def key(self) -> tuple[Any, ...]:
        """Order of rows as a file has them: tags with nulls first, then time."""
        return (*((value is not None, value) for value in self.tags), self.time)


def put(sequence: int, time: int, host: str | None = "a", cpu: int | None = 0) -> Row:
    return Row(sequence, time, (host,), (cpu,))


def delete(sequence: int, time: int, host: str | None = "a") -> Row:
    return Row(sequence, time, (host,), (None,), DELETE)


def batch_of(metadata: RegionMetadata, rows: Sequence[Row]) -> Batch:
    """Make a batch of rows, in the order given."""
    tuples = list(dict.fromkeys(row.tags for row in rows))
    series = [pa.array([tags[i] for tags in tuples], tag.type) for i, tag in enumerate(metadata.tags)]
    fields = [pa.array([row.fields[i] for row in rows], field.type) for i, field in enumerate(metadata.fields)]
    return Batch(
        series=_record_batch(series, [tag.name for tag in metadata.tags], len(tuples)),
        codes=np.array([tuples.index(row.tags) for row in rows], dtype=np.int32),
        times=np.array([row.time for row in rows], dtype=np.int64),
        sequences=np.array([row.sequence for row in rows], dtype=np.uint64),
        op_types=np.array([row.op_type for row in rows], dtype=np.uint8),
        fields=_record_batch(fields, [field.name for field in metadata.fields], len(rows)),
    )


def _record_batch(columns: list[pa.Array], names: list[str], rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(columns, names=names) if columns else fields_without_columns(rows)


def rows_of(batch: Batch) -> list[Row]:
    """Read a batch's rows, in its order."""
    tuples = _tuples(batch.series)
    return [
        Row(int(sequence), int(time), tuples[code], fields, OpType(int(op_type)))
        for code, time, sequence, op_type, fields in zip(
            batch.codes, batch.times, batch.sequences, batch.op_types, _tuples(batch.fields), strict=True
        )
    ]


def _tuples(rows: pa.RecordBatch) -> list[tuple[Any, ...]]:
    columns = [column.to_pylist() for column in rows.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * rows.num_rows


def newest(rows: Iterable[Row], *, drop_deletes: bool = False) -> list[Row]:
    """Return the newest row of each key, in order."""
    kept: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row.key not in kept or kept[row.key].sequence < row.sequence:
            kept[row.key] = row
    survivors = [row for row in kept.values() if not (drop_deletes and row.op_type is DELETE)]
    return sorted(survivors, key=lambda row: row.key)


def file_of(name: str, first: int, last: int, **known: Any) -> FileMeta:
    """Describe a file that nobody opens. ``name`` may be short: it is repeated to the length of an identifier."""
    facts = {
        "level": LEVEL_FLUSHED,
        "size_bytes": 1000,
        "checksum": 0,
        "row_count": 10,
        "delete_count": 0,
        "series_count": 1,
        "row_group_count": 1,
        "min_sequence": RowSequence(1),
        "max_sequence": RowSequence(10),
        "schema_version": 1,
        "created_ms": 0,
    }
    return FileMeta(file_id=file_id_of(name), min_time=first, max_time=last, **facts | known)


def file_id_of(name: str) -> FileId:
    return FileId((name * 32)[:32])


def open_engine(
    store: MemoryObjectStore | None = None,
    log: MemoryLog | None = None,
    *,
    scheduler: Any = None,
    clock: Any = None,
    seed: int = 0,
    hooks: Sequence[Any] = (),
    compactor: Any = None,
    read_only: bool = False,
    pins: Any = None,
    **config: Any,
) -> MitoEngine:
    """Open an engine in memory, with a clock that stands still and jobs that run at once."""
    clock = clock or ManualClock()
    return MitoEngine(
        object_store=store or MemoryObjectStore(clock),
        log=log or MemoryLog(),
        scheduler=scheduler or InlineScheduler(),
        clock=clock,
        randomness=SeededRandomness(seed),
        config=MitoConfig(**config),
        hooks=hooks,
        compactor=compactor,
        read_only=read_only,
        pins=pins,
    )


def threads(**more: int) -> ThreadScheduler:
    """Return lanes as a store has them; ``more`` says how many threads some have."""
    several = dict.fromkeys((CHANGE_LANE, FLUSH_LANE, WRITE_LANE), 2)
    return ThreadScheduler(dict.fromkeys(LANES, 1) | several | more, not_awaited=(HOOK_LANE,))


def create(engine: MitoEngine, metadata: RegionMetadata, **options: Any) -> None:
    request = CreateRequest(metadata=metadata, options=RegionOptions(**options))
    engine.handle_request(metadata.region_id, request)


def read(engine: MitoEngine, region: RegionId = REGION, **request: Any) -> list[tuple[Any, ...]]:
    """Return what a scan yields, as sorted tuples."""
    found: list[tuple[Any, ...]] = []
    for rows in engine.handle_query(region, ScanRequest(**request)):
        found += _tuples(rows)
    return sorted(found, key=lambda row: [(value is not None, value) for value in row])
