"""Runs a `ScanPlan`: sources, merge, dedup, then (for the engine's own scans) filter and project.

Order within a merged group: skip row groups by key conditions, cut at the visible sequence, merge, keep the newest row
of each key, drop deleted keys. Filters on fields come only after that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.predicate import columns_of, to_arrow
from mitoframe.model.timerange import EVERYTHING, TIME_MAX
from mitoframe.storage.runs import merge_rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    from mitoframe.model.batch import Batch, Rows
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import Sequence
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.timerange import TimeRange
    from mitoframe.read.plan import MergeGroup, ScanPlan
    from mitoframe.storage.sst_reader import SstReader

BATCH_ROWS = 131_072


def read_group(plan: ScanPlan, group: MergeGroup, reader: SstReader, columns: Many[str]) -> Iterator[pa.RecordBatch]:
    """Merge a group and yield its visible rows as users see them, sorted, in batches of `BATCH_ROWS`."""
    fields = _field_names(plan, columns)
    runs = [
        _visible(reader.read(plan.metadata, file, row_groups, fields), plan.visible)
        for file in group.files
        if (row_groups := reader.matching_row_groups(plan.metadata, file, group.key_predicate))
    ]
    for part in group.buffered:
        run = part.sorted(plan.visible)
        if run is not None:
            runs.append(run.select_fields(fields))
    runs = [run for run in runs if len(run)]
    if runs:
        yield from _laid_out(plan, merge_rows_of(runs, plan.version.state.options.dedup, drop_deletes=True), columns)


def read_file(plan: ScanPlan, file: FileMeta, reader: SstReader, columns: Many[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a direct file, row group by row group; here every condition may skip."""
    fields = _field_names(plan, columns)
    for row_group in reader.matching_row_groups(plan.metadata, file, plan.request.predicate):
        yield from _laid_out(plan, reader.read(plan.metadata, file, [row_group], fields), columns)


def run_plan(plan: ScanPlan, reader: SstReader) -> Iterator[pa.RecordBatch]:
    """Yield the rows the plan's request asks for: filtered in full, projected, in no particular order of groups."""
    metadata, request = plan.metadata, plan.request
    wanted = list(request.columns if request.columns is not None else metadata.names)
    needed = list(dict.fromkeys([*wanted, metadata.time.name, *sorted(columns_of(request.predicate))]))
    for group in plan.groups:
        for rows in read_group(plan, group, reader, needed):
            yield _filtered(rows, metadata.time.name, plan.time_range, request.predicate).select(wanted)
    for file in plan.direct:
        for rows in read_file(plan, file, reader, needed):
            yield _filtered(rows, metadata.time.name, plan.time_range, request.predicate).select(wanted)


def _field_names(plan: ScanPlan, columns: Many[str]) -> list[str]:
    known = {field.name for field in plan.metadata.fields}
    return [name for name in columns if name in known]


def _visible(batch: Batch, visible: Sequence) -> Batch:
    if not len(batch) or int(batch.sequences.max()) <= visible:
        return batch
    return batch.take(np.nonzero(batch.sequences <= np.uint64(visible))[0])


def _laid_out(plan: ScanPlan, rows: Rows, columns: Many[str]) -> Iterator[pa.RecordBatch]:
    for batch in rows.slices(BATCH_ROWS):
        yield batch.to_arrow(plan.metadata, columns)


def _filtered(rows: pa.RecordBatch, time: str, wanted: TimeRange, predicate: Predicate) -> pa.RecordBatch:
    condition = to_arrow(predicate, rows.schema)
    if wanted != EVERYTHING:
        ticks = pc.field(time).cast(pa.int64())
        end = ticks <= wanted.end if wanted.end == TIME_MAX else ticks < wanted.end
        condition = condition & (ticks >= wanted.start) & end
    return rows.filter(condition)


def count_row_groups(plan: ScanPlan, reader: SstReader) -> tuple[int, int]:
    """Return how many row groups the plan reads, and how many its files have. Opens footers only."""
    kept = total = 0
    for group in plan.groups:
        for file in group.files:
            kept += len(reader.matching_row_groups(plan.metadata, file, group.key_predicate))
            total += file.row_group_count
    for file in plan.direct:
        kept += len(reader.matching_row_groups(plan.metadata, file, plan.request.predicate))
        total += file.row_group_count
    return kept, total
