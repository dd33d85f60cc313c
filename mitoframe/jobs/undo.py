"""What it takes to be as if some rows had never been written.

Rows are told by their sequences. For every key among them the row is looked for that there would be without them: in
memtables, in SSTs, and in SSTs that were replaced since. What comes out is a batch to be written on top: that row where
there is one, a delete marker where there is none. Keys that were written again later keep their newer row; with
``dedup="merge"`` they lose what these rows had filled in.

A merged row stands for several versions and has the sequence of the newest. Its originals are in older files: they are
taken first, and of several rows with one key and sequence the first counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.predicate import Compare, conjunction
from mitoframe.storage.runs import merge_rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import Sequence
    from mitoframe.model.options import Dedup
    from mitoframe.region.control import Snapshot
    from mitoframe.storage.memtable import Memtable
    from mitoframe.storage.sst_reader import SstReader

    Positions = npt.NDArray[np.int64]


def files_of_nothing_else(snapshot: Snapshot, first: Sequence, last: Sequence) -> tuple[FileMeta, ...]:
    """Return the files that hold the rows of these sequences, if nothing is lost with them but these rows.

    None if a row of others is among them, if some are in memory, or if a row that they replaced is not in any file by
    now.
    """
    version = snapshot.version
    if any(_memtable_has(memtable, first, last) for memtable in version.memtables):
        return ()
    if any(file.removed_sequence >= first for file in version.state.removed_files):
        return ()
    touched = [file for file in version.state.files.values() if _file_has(file, first, last)]
    alone = all(file.min_sequence >= first and file.max_sequence <= last for file in touched)
    return tuple(touched) if alone else ()


def compensation(
    snapshot: Snapshot,
    reader: SstReader,
    first: Sequence,
    last: Sequence,
    skipped: Iterable[tuple[Sequence, Sequence]] = (),
) -> tuple[Batch | None, int]:
    """Return the batch to write on top, None if nothing is left to take back, and the number of its keys.

    ``skipped`` are sequences of rows that do not count either, first and last of each: writes that were taken back
    before, and what took them back.

    Requires: versions superseded since the oldest of all these rows are still there (``state.history_floor``), and no
    row was removed otherwise than by writing on top of it, or is skipped; not for ``dedup="none"``.
    """
    skipped = [span for span in skipped if span[0] <= span[1]]
    state = snapshot.version.state
    oldest = min([first, *(span[0] for span in skipped)])
    # What was removed before these rows came was not there for them to replace. Oldest first: originals come before
    # the merged rows that stand for them.
    replaced = [item.file for item in state.removed_files if item.file is not None and item.removed_sequence >= oldest]
    files = [*replaced, *state.files.values()]
    span = _span(snapshot, reader, files, first, last)
    if span is None:
        return None, 0
    runs = [run for file in files if (run := _read(snapshot, reader, file, span)) is not None]
    runs += _memtable_runs(snapshot, span)
    versions = _distinct(merge_rows_of(runs, "none", drop_deletes=False).gather())
    taken = _of(versions, first, last)
    gone = taken.copy()
    for others in skipped:
        gone |= _of(versions, *others)
    return _difference(versions, taken, gone, state.options.dedup)


def _of(versions: Batch, first: Sequence, last: Sequence) -> npt.NDArray[np.bool_]:
    return (versions.sequences >= np.uint64(first)) & (versions.sequences <= np.uint64(last))


def _difference(
    versions: Batch, taken: npt.NDArray[np.bool_], gone: npt.NDArray[np.bool_], dedup: Dedup
) -> tuple[Batch | None, int]:
    """Compare the newest row of each key that ``taken`` rows have with what it would be without ``gone`` rows."""
    starts = _key_starts(versions)
    chosen = np.maximum.reduceat(taken, starts)
    touched = np.nonzero(chosen if dedup == "merge" else chosen & gone[starts])[0]
    if not len(touched):
        return None, 0
    other = _first_of_each(np.nonzero(~gone)[0], starts, len(versions))
    stays = (other >= 0) & (versions.op_types[other] == OpType.PUT)
    fields = _fields_without(versions, ~gone, dedup, np.where(stays, np.cumsum(stays) - 1, -1)[touched])
    op_types = np.where(stays[touched], OpType.PUT, OpType.DELETE).astype(np.uint8)
    rows = starts[touched]
    result = Batch(
        series=versions.series,
        codes=versions.codes[rows],
        times=versions.times[rows],
        sequences=np.zeros(len(rows), dtype=np.uint64),
        op_types=op_types,
        fields=fields,
    )
    return (_after_deletes(result) if dedup == "merge" else result), len(touched)


def _fields_without(versions: Batch, others: npt.NDArray[np.bool_], dedup: Dedup, places: Positions) -> pa.RecordBatch:
    """Return the fields of the rows there would be, null where there would be none (-1)."""
    indices = pa.array(places, mask=places < 0)
    left = np.nonzero(others)[0]
    if not versions.fields.num_columns:
        return fields_without_columns(len(places))
    if not len(left):
        columns = [pa.nulls(len(places), column.type) for column in versions.fields.columns]
        return pa.RecordBatch.from_arrays(columns, names=versions.fields.schema.names)
    rows = merge_rows_of([versions.take(left)], dedup, drop_deletes=True).gather()
    return rows.fields.take(indices)


def _after_deletes(batch: Batch) -> Batch:
    """Put a delete marker before each row: a merged row would take from what is to be gone."""
    count = len(batch)
    twice = np.tile(np.arange(count, dtype=np.int64), 2)
    op_types = np.concatenate([np.full(count, OpType.DELETE, dtype=np.uint8), batch.op_types])
    columns = [pa.concat_arrays([pa.nulls(count, column.type), column]) for column in batch.fields.columns]
    fields = (
        pa.RecordBatch.from_arrays(columns, names=batch.fields.schema.names)
        if columns
        else fields_without_columns(2 * count)
    )
    return Batch(
        series=batch.series,
        codes=batch.codes[twice],
        times=batch.times[twice],
        sequences=batch.sequences[twice],
        op_types=op_types,
        fields=fields,
    )


# --- versions ------------------------------------------------------------------------------------------------


def _key_starts(batch: Batch) -> Positions:
    """Return the first row of each key of sorted rows."""
    differs = (batch.codes[1:] != batch.codes[:-1]) | (batch.times[1:] != batch.times[:-1])
    return np.concatenate([np.zeros(1, dtype=np.int64), np.nonzero(differs)[0] + 1])


def _first_of_each(rows: Positions, starts: Positions, count: int) -> Positions:
    """Return the first of the chosen rows in each key, -1 where none is chosen."""
    places = np.searchsorted(rows, starts)
    found = np.append(rows, count)[places]
    return np.where(found < np.append(starts[1:], count), found, -1)


def _distinct(batch: Batch) -> Batch:
    """Keep the first of the rows that share key and sequence."""
    same = (
        (batch.codes[1:] == batch.codes[:-1])
        & (batch.times[1:] == batch.times[:-1])
        & (batch.sequences[1:] == batch.sequences[:-1])
    )
    return batch if not same.any() else batch.take(np.nonzero(np.append(True, ~same))[0])


# --- reading -------------------------------------------------------------------------------------------------


def _span(
    snapshot: Snapshot, reader: SstReader, files: Iterable[FileMeta], first: Sequence, last: Sequence
) -> tuple[int, int] | None:
    """Return the first and last time of the rows with these sequences in files and memtables; None without any."""
    version = snapshot.version
    runs = [
        reader.read(version.state.metadata, file, range(file.row_group_count), [])
        for file in files
        if _file_has(file, first, last)
    ]
    for memtable in version.memtables:
        if _memtable_has(memtable, first, last):
            runs += [run for part in memtable.ranges() if (run := part.sorted(snapshot.visible)) is not None]
    times = [run.times[(run.sequences >= np.uint64(first)) & (run.sequences <= np.uint64(last))] for run in runs]
    times = [some for some in times if len(some)]
    if not times:
        return None
    return min(int(some.min()) for some in times), max(int(some.max()) for some in times)


def _read(snapshot: Snapshot, reader: SstReader, file: FileMeta, span: tuple[int, int]) -> Batch | None:
    if file.min_time > span[1] or file.max_time < span[0]:
        return None
    metadata = snapshot.version.state.metadata
    within = conjunction([Compare(metadata.time.name, ">=", span[0]), Compare(metadata.time.name, "<=", span[1])])
    row_groups = reader.matching_row_groups(metadata, file, within)
    names = [field.name for field in metadata.fields]
    return _within(reader.read(metadata, file, row_groups, names), span) if row_groups else None


def _memtable_runs(snapshot: Snapshot, span: tuple[int, int]) -> Iterable[Batch]:
    for memtable in snapshot.version.memtables:
        for part in memtable.ranges():
            run = part.sorted(snapshot.visible)
            if run is not None:
                yield _within(run, span)


def _within(run: Batch, span: tuple[int, int]) -> Batch:
    inside = (run.times >= span[0]) & (run.times <= span[1])
    return run if inside.all() else run.take(np.nonzero(inside)[0])


def _file_has(file: FileMeta, first: Sequence, last: Sequence) -> bool:
    return file.min_sequence <= last and file.max_sequence >= first


def _memtable_has(memtable: Memtable, first: Sequence, last: Sequence) -> bool:
    stats = memtable.stats
    return bool(stats.row_count) and stats.min_sequence <= last and stats.max_sequence >= first
