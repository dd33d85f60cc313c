"""What a table is made of, as Arrow tables. Pictures and widgets draw these and know nothing else."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mitoframe.model.timerange import TIME_MIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pyarrow.parquet as pq

    from mitoframe.engine.engine import Health
    from mitoframe.jobs.tasks import CompactionPlan
    from mitoframe.model.file import FileMeta
    from mitoframe.model.flaw import Flaw
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.coverage import Stretches
    from mitoframe.region.version import Version
    from mitoframe.storage.cache import CacheUse
    from mitoframe.storage.journal import FileFacts, JournalEntry
    from mitoframe.storage.memtable import MemtableStats, RangeStats
    from mitoframe.storage.sst_reader import Footer

MEMTABLE_LEVEL = -1
MEMTABLE_NAME = "memtable"


def files(version: Version, *, with_memtable: bool = False) -> pa.Table:
    """Return one row per SST, by time; with ``with_memtable`` also one for the rows that are not in a file yet.

    Columns: file_id, level (0 flushed, 1 compacted, -1 memtable), min_time and max_time (both included), rows, deletes,
    series, size_bytes, min_sequence, max_sequence, row_groups, indexes (such as "cpu inverted"), index_bytes,
    first_key and last_key (the tags up to the first that tells series of the file apart; null if it is not known).
    """
    metadata = version.state.metadata
    names = {column.column_id: column.name for column in metadata.columns}
    found = files_of(version.state.files.values(), names, metadata.time.type)
    if not with_memtable:
        return found
    rows = [_memtable_row(memtable.stats) for memtable in version.memtables if not memtable.is_empty()]
    return pa.concat_tables([found, pa.Table.from_pylist(rows, schema=found.schema)])


def files_of(files: Iterable[FileMeta], names: Mapping[int, str], time_type: pa.DataType) -> pa.Table:
    """Return one row per file, with the columns of `files`; ``names`` are those of columns by their ids."""
    ordered = sorted(files, key=lambda file: (file.min_time, file.level, file.min_sequence))
    return pa.Table.from_pylist([_file_row(file, names) for file in ordered], schema=_files_schema(time_type))


def known_files(version: Version, entries: Iterable[JournalEntry]) -> pa.Table:
    """Return one row per SST that is there or was, as far as the journal tells, and for rows that are in memory.

    The columns of `files`, and created (when it was made), removed_version (null for what is there, 0 if it is not
    known). Of files that are gone for good some columns are null.
    """
    state = version.state
    names = {column.column_id: column.name for column in state.metadata.columns}
    removed = {item.file_id: item for item in state.removed_files if item.file is not None}
    gone = [item.file for item in removed.values() if item.file is not None]
    told = {file_id: facts for entry in entries for file_id, facts in entry.known_facts().items()}
    forgotten = {name: facts for name, facts in told.items() if name not in state.files and name not in removed}
    listed = files(version, with_memtable=True)
    rows = [_file_row(file, names) for file in gone] + [_told_row(name, facts) for name, facts in forgotten.items()]
    made: dict[str, int] = {file.file_id: file.created_ms for file in state.files.values()}
    created = [made.get(file_id) for file_id in listed["file_id"].to_pylist()]
    created += [file.created_ms for file in gone] + [facts.created_ms for facts in forgotten.values()]
    versions = [item.removed_version for item in removed.values()]
    table = pa.concat_tables([listed, pa.Table.from_pylist(rows, schema=listed.schema)])
    return table.append_column("created", pa.array(created, pa.timestamp("ms", "UTC"))).append_column(
        "removed_version", pa.array([None] * len(listed) + versions + [0] * len(forgotten), pa.int64())
    )


def _told_row(file_id: FileId, facts: FileFacts) -> dict[str, Any]:
    return {
        "file_id": file_id,
        "level": facts.level,
        "min_time": facts.min_time,
        "max_time": facts.max_time,
        "rows": facts.row_count,
        "deletes": facts.delete_count,
        "size_bytes": facts.size_bytes,
        "min_sequence": facts.min_sequence,
        "max_sequence": facts.max_sequence,
    }


def memtables(version: Version) -> pa.Table:
    """Return one row per memtable, the oldest first; the last takes rows, the others are being flushed.

    Columns: takes_rows, rows, deletes, series (at most), size_bytes, since (when the first row came).
    """
    stats = [memtable.stats for memtable in version.memtables]
    return pa.table(
        {
            "takes_rows": pa.array([memtable is version.mutable for memtable in version.memtables], pa.bool_()),
            "rows": pa.array([item.row_count for item in stats], pa.uint64()),
            "deletes": pa.array([item.delete_count for item in stats], pa.uint64()),
            "series": pa.array([item.series_count for item in stats], pa.uint64()),
            "size_bytes": pa.array([item.size_bytes for item in stats], pa.uint64()),
            "since": pa.array([item.first_at_ms for item in stats], pa.timestamp("ms", "UTC")),
        }
    )


def row_groups(footer: Footer) -> pa.Table:
    """Return one row per row group of an SST: row_group, rows, size_bytes (in the file), first_row."""
    groups = [footer.parquet.row_group(number) for number in range(footer.parquet.num_row_groups)]
    chunks = [[group.column(place) for place in range(group.num_columns)] for group in groups]
    return pa.table(
        {
            "row_group": pa.array(range(len(groups)), pa.uint32()),
            "rows": pa.array([group.num_rows for group in groups], pa.uint64()),
            "size_bytes": pa.array(
                [sum(chunk.total_compressed_size for chunk in each) for each in chunks], pa.uint64()
            ),
            "first_row": pa.array(footer.starts[:-1], pa.uint64()),
        }
    )


def chunks(footer: Footer) -> pa.Table:
    """Return one row per column of each row group of an SST.

    Columns: row_group, column, type, encodings, compression, size_bytes (in the file), unpacked_bytes, min and max (as
    text), nulls.
    """
    types = {column.name: _type_text(column.type) for column in footer.metadata.columns}
    rows = [
        _chunk_row(number, group.column(place), types)
        for number in range(footer.parquet.num_row_groups)
        for group in [footer.parquet.row_group(number)]
        for place in range(group.num_columns)
    ]
    return pa.Table.from_pylist(rows, schema=_CHUNKS_SCHEMA)


def _type_text(data_type: pa.DataType) -> str:
    """Say what a column holds; a zone is the table's, and not said of each column."""
    if pa.types.is_timestamp(data_type):
        return f"timestamp[{data_type.unit}]"
    return str(data_type).removeprefix("large_")


def _chunk_row(row_group: int, chunk: pq.ColumnChunkMetaData, types: Mapping[str, str]) -> dict[str, Any]:
    found = chunk.statistics
    has_bounds = found is not None and found.has_min_max
    return {
        "row_group": row_group,
        "column": chunk.path_in_schema,
        "type": types.get(chunk.path_in_schema, chunk.physical_type.lower()),
        "encodings": ", ".join(sorted(set(chunk.encodings))),
        "compression": chunk.compression,
        "size_bytes": chunk.total_compressed_size,
        "unpacked_bytes": chunk.total_uncompressed_size,
        "min": str(found.min) if has_bounds else None,
        "max": str(found.max) if has_bounds else None,
        "nulls": found.null_count if found is not None and found.has_null_count else None,
    }


def ends_of_keys(footer: Footer) -> pa.Table:
    """Return the tags of the first and the last series of an SST, in the order of its rows."""
    series = footer.series
    return pa.Table.from_batches([series.slice(0, 1), series.slice(series.num_rows - 1, 1)])


def history(entries: Iterable[JournalEntry], time_type: pa.DataType) -> pa.Table:
    """Return one row per thing that happened to a table, oldest first; see `Table.history`."""
    found = list(entries)
    facts = [list(entry.known_facts().values()) for entry in found]
    first = [min((file.min_time for file in files), default=None) for files in facts]
    last = [max((file.max_time for file in files), default=None) for files in facts]
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
            "min_time": pa.array(first, pa.int64()).view(time_type),
            "max_time": pa.array(last, pa.int64()).view(time_type),
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


def windows(plan: CompactionPlan, metadata: RegionMetadata) -> pa.Table:
    """Return one row per time window, by time; see `Table.windows`."""
    found = compaction_plan(plan, metadata)
    return found.drop_columns(["reason"]).sort_by("window_start")


def coverage(version: Version) -> pa.Table:
    """Return one row per file and one per part of a memtable; see `Table.coverage`."""
    files = list(version.state.files.values())
    buffered = _buffered(version)
    members: list[FileMeta | RangeStats] = [*files, *buffered]
    newest = _newest_before(version)
    return _coverage(
        pa.array([*(file.file_id for file in files), *(MEMTABLE_NAME for _ in buffered)], pa.string()),
        [each.min_time for each in members],
        [each.max_time for each in members],
        [each.row_count for each in members],
        [newest(each.min_sequence) for each in members],
        version.state.metadata.time.type,
    )


def _buffered(version: Version) -> list[RangeStats]:
    return [part.stats for memtable in version.memtables for part in memtable.ranges()]


def coverage_by(stretches: Iterable[Stretches], version: Version, tag_type: pa.DataType) -> pa.Table:
    """Return one row per file and value of a tag, or several if there are gaps; see `Table.coverage`."""
    found = list(stretches)
    newest = _newest_before(version)
    nothing = np.empty(0, dtype=np.int64)
    counts = np.concatenate([nothing, *(each.counts for each in found)])
    names = [MEMTABLE_NAME if source is None else source.file_id for each in found for source in each.sources]
    befores = [newest(sequence) for each in found for sequence in each.min_sequences]
    covers = [each.cover for each in found]
    table = _coverage(
        pa.array(names, pa.string()).take(pa.array(np.repeat(np.arange(len(names)), counts))),
        np.concatenate([nothing, *(cover.starts for cover in covers)]),
        np.concatenate([nothing, *(cover.ends for cover in covers)]),
        np.concatenate([nothing, *(cover.row_counts for cover in covers)]),
        np.repeat(np.array(befores, dtype=np.int64), counts),
        version.state.metadata.time.type,
    )
    return table.add_column(0, "value", pa.chunked_array([cover.values.cast(tag_type) for cover in covers], tag_type))


def _coverage(
    file_ids: pa.Array, starts: Any, ends: Any, row_counts: Any, newest_before: Any, time_type: pa.DataType
) -> pa.Table:
    return pa.table(
        {
            "file_id": file_ids,
            "min_time": pa.array(starts, pa.int64()).view(time_type),
            "max_time": pa.array(ends, pa.int64()).view(time_type),
            "rows": pa.array(row_counts, pa.uint64()),
            "is_late": pa.array(np.asarray(starts, dtype=np.int64) < np.asarray(newest_before, dtype=np.int64)),
        }
    )


def _newest_before(version: Version) -> Callable[[int], int]:
    """Return what tells the newest time in files of which every row was written before a sequence."""
    files = sorted(version.state.files.values(), key=lambda file: file.max_sequence)
    sequences = [file.max_sequence for file in files]
    newest = [TIME_MIN, *accumulate((file.max_time for file in files), max)]
    return lambda sequence: newest[bisect_left(sequences, sequence)]


def stats(version: Version) -> pa.Table:
    """Return a table's figures in one row; see `Table.stats`."""
    files = version.state.files.values()
    members: list[FileMeta | RangeStats] = [*files, *_buffered(version)]
    time_type = version.state.metadata.time.type
    ends = [min(each.min_time for each in members), max(each.max_time for each in members)] if members else [None, None]
    times = [pa.array([end], pa.int64()).view(time_type) for end in ends]
    figures = {
        "rows": sum(file.row_count for file in files),
        "deletes": sum(file.delete_count for file in files),
        "files": len(files),
        "size_bytes": sum(file.size_bytes for file in files),
        "index_bytes": sum(file.index.size_bytes for file in files if file.index is not None),
        "memory_rows": sum(memtable.stats.row_count for memtable in version.memtables),
        "memory_bytes": sum(memtable.stats.size_bytes for memtable in version.memtables),
    }
    known = {name: pa.array([figure], pa.uint64()) for name, figure in figures.items()}
    return pa.table({**known, "min_time": times[0], "max_time": times[1]})


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


def flaws(found: Iterable[Flaw]) -> pa.Table:
    """Return one row per thing that is wrong with a store; see `VerifyReport.to_polars`."""
    names = ("table", "kind", "grade", "path", "what")
    rows = [{name: getattr(flaw, name) or None for name in names} for flaw in found]
    return pa.Table.from_pylist(rows, schema=pa.schema({name: pa.string() for name in names}))


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


_CHUNKS_SCHEMA = pa.schema(
    {
        "row_group": pa.uint32(),
        "column": pa.string(),
        "type": pa.string(),
        "encodings": pa.string(),
        "compression": pa.string(),
        "size_bytes": pa.uint64(),
        "unpacked_bytes": pa.uint64(),
        "min": pa.string(),
        "max": pa.string(),
        "nulls": pa.uint64(),
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
            "first_key": pa.list_(pa.string()),
            "last_key": pa.list_(pa.string()),
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
        "first_key": _first_key(file),
        "last_key": _last_key(file),
    }


def _first_key(file: FileMeta) -> list[str | None] | None:
    tags = file.leading_tags
    return [None if tag.null_count else _word(tag.minimum) for tag in tags] if tags else None


def _last_key(file: FileMeta) -> list[str | None] | None:
    return [_word(tag.maximum) for tag in file.leading_tags] if file.leading_tags else None


def _word(value: Any) -> str | None:
    return None if value is None else str(value)


def _memtable_row(stats: MemtableStats) -> dict[str, Any]:
    return {
        "file_id": MEMTABLE_NAME,
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
        "first_key": None,
        "last_key": None,
    }
