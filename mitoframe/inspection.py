"""What a table is made of, as Arrow tables. Pictures and widgets draw these and know nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mitoframe.engine.engine import Health
    from mitoframe.jobs.tasks import CompactionPlan
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.version import Version
    from mitoframe.storage.cache import CacheUse
    from mitoframe.storage.journal import JournalEntry
    from mitoframe.storage.memtable import MemtableStats

MEMTABLE_LEVEL = -1


def files(version: Version, *, with_memtable: bool = False) -> pa.Table:
    """Return one row per SST, by time; with ``with_memtable`` also one for the rows that are not in a file yet.

    Columns: file_id, level (0 flushed, 1 compacted, -1 memtable), min_time and max_time (both included), rows, deletes,
    series, size_bytes, min_sequence, max_sequence, row_groups, indexes (such as "cpu inverted"), index_bytes.
    """
    ordered = sorted(version.state.files.values(), key=lambda file: (file.min_time, file.level, file.min_sequence))
    names = {column.column_id: column.name for column in version.state.metadata.columns}
    rows = [_file_row(file, names) for file in ordered]
    if with_memtable:
        rows += [_memtable_row(memtable.stats) for memtable in version.memtables if not memtable.is_empty()]
    return pa.Table.from_pylist(rows, schema=_files_schema(version.state.metadata.time.type))


def history(entries: Iterable[JournalEntry]) -> pa.Table:
    """Return one row per thing that happened to a table, oldest first; see `Table.history`."""
    found = list(entries)
    times = {
        "at": [entry.at_ms or None for entry in found],
        "took": [max(entry.at_ms - entry.begun_ms, 0) if _is_timed(entry) else None for entry in found],
    }
    return pa.table(
        {
            "version": pa.array([entry.version for entry in found], pa.int64()),
            "at": pa.array(times["at"], pa.timestamp("ms", "UTC")),
            "took": pa.array(times["took"], pa.duration("ms")),
            "what": pa.array([entry.what for entry in found], pa.string()),
            "reason": pa.array([entry.reason or None for entry in found], pa.string()),
            "inputs": pa.array([entry.inputs for entry in found], pa.list_(pa.string())),
            "outputs": pa.array([entry.outputs for entry in found], pa.list_(pa.string())),
            "rows_in": pa.array([entry.rows_in for entry in found], pa.uint64()),
            "rows_out": pa.array([entry.rows_out for entry in found], pa.uint64()),
            "bytes_in": pa.array([entry.bytes_in for entry in found], pa.uint64()),
            "bytes_out": pa.array([entry.bytes_out for entry in found], pa.uint64()),
            "starts_anew": pa.array([entry.starts_anew for entry in found], pa.bool_()),
        }
    )


def compaction_plan(plan: CompactionPlan, metadata: RegionMetadata) -> pa.Table:
    """Return one row per time window, the newest first; see `Table.compaction_plan`."""
    windows, time_type = plan.windows, metadata.time.type
    return pa.table(
        {
            "window_start": pa.array([window.times.start for window in windows], pa.int64()).view(time_type),
            "window_end": pa.array([window.times.end for window in windows], pa.int64()).view(time_type),
            "files": pa.array([window.file_count for window in windows], pa.uint64()),
            "size_bytes": pa.array([window.size_bytes for window in windows], pa.uint64()),
            "runs": pa.array([window.run_count for window in windows], pa.uint64()),
            "is_active": pa.array([window.is_active for window in windows], pa.bool_()),
            "merges": pa.array([window.task_count for window in windows], pa.uint64()),
            "reason": pa.array([window.reason for window in windows], pa.string()),
        }
    )


def _is_timed(entry: JournalEntry) -> bool:
    return not entry.is_rebuilt and bool(entry.begun_ms)


def caches(uses: Iterable[CacheUse]) -> pa.Table:
    """Return one row per kind of cache entry; see `Database.caches`."""
    found = list(uses)
    asked = [use.hits + use.misses for use in found]
    return pa.table(
        {
            "kind": pa.array([use.kind for use in found], pa.string()),
            "entries": pa.array([use.entry_count for use in found], pa.uint64()),
            "size_bytes": pa.array([use.size_bytes for use in found], pa.uint64()),
            "hits": pa.array([use.hits for use in found], pa.uint64()),
            "misses": pa.array([use.misses for use in found], pa.uint64()),
            "hit_rate": pa.array(
                [use.hits / times if times else None for use, times in zip(found, asked, strict=True)], pa.float64()
            ),
            "evictions": pa.array([use.evictions for use in found], pa.uint64()),
        }
    )


def health(found: Health, names: Mapping[RegionId, str]) -> pa.Table:
    """Return one row per lane of background work and one per open table.

    Columns: kind ("lane" or "table"), name, ok, running, waiting, finished and failed (jobs of a lane), buffered_bytes
    (of a table's memory), error (the last one).
    """
    rows: list[dict[str, Any]] = [
        {
            "kind": "lane",
            "name": lane.lane,
            "ok": lane.alive == lane.threads,
            "running": lane.running,
            "waiting": lane.waiting,
            "finished": lane.finished,
            "failed": lane.failed,
            "error": None if lane.last_error is None else repr(lane.last_error),
        }
        for lane in found.lanes
    ]
    for region in found.regions:
        errors = [repr(error) for error in (region.poison, *region.failures.values()) if error is not None]
        rows.append(
            {
                "kind": "table",
                "name": names.get(region.region_id, str(region.region_id)),
                "ok": not errors,
                "buffered_bytes": region.buffered_bytes,
                "error": "; ".join(errors) or None,
            }
        )
    return pa.Table.from_pylist(rows, schema=_HEALTH_SCHEMA)


_HEALTH_SCHEMA = pa.schema(
    {
        "kind": pa.string(),
        "name": pa.string(),
        "ok": pa.bool_(),
        "running": pa.uint32(),
        "waiting": pa.uint32(),
        "finished": pa.uint64(),
        "failed": pa.uint64(),
        "buffered_bytes": pa.uint64(),
        "error": pa.string(),
    }
)


def _files_schema(time_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        {
            "file_id": pa.string(),
            "level": pa.int8(),
            "min_time": time_type,
            "max_time": time_type,
            "rows": pa.uint64(),
            "deletes": pa.uint64(),
            "series": pa.uint64(),
            "size_bytes": pa.uint64(),
            "min_sequence": pa.uint64(),
            "max_sequence": pa.uint64(),
            "row_groups": pa.uint32(),
            "indexes": pa.list_(pa.string()),
            "index_bytes": pa.uint64(),
        }
    )


def _file_row(file: FileMeta, names: Mapping[int, str]) -> dict[str, Any]:
    entries = file.index.entries if file.index is not None else ()
    return {
        "file_id": file.file_id,
        "level": file.level,
        "min_time": file.min_time,
        "max_time": file.max_time,
        "rows": file.row_count,
        "deletes": file.delete_count,
        "series": file.series_count,
        "size_bytes": file.size_bytes,
        "min_sequence": file.min_sequence,
        "max_sequence": file.max_sequence,
        "row_groups": file.row_group_count,
        "indexes": [f"{names[entry.column_id]} {entry.kind}" for entry in entries if entry.column_id in names],
        "index_bytes": file.index.size_bytes if file.index is not None else 0,
    }


def _memtable_row(stats: MemtableStats) -> dict[str, Any]:
    return {
        "file_id": "memtable",
        "level": MEMTABLE_LEVEL,
        "min_time": stats.min_time,
        "max_time": stats.max_time,
        "rows": stats.row_count,
        "deletes": stats.delete_count,
        "series": None,
        "size_bytes": stats.size_bytes,
        "min_sequence": stats.min_sequence,
        "max_sequence": stats.max_sequence,
        "row_groups": None,
        "indexes": [],
        "index_bytes": 0,
    }
