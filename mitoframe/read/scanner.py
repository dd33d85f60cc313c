"""Runs a `ScanPlan`: jobs that read its shares and apply what is left of its conditions.

Jobs may be done in any order, side by side (engine/reading.py). What is counted comes up with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.batch import gather
from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.model.predicate import ALWAYS, columns_of, conjunction, conjuncts, has_foreign, matching, residual
from mitoframe.read.counts import Counts, Found
from mitoframe.read.shares import cut_group, divide, few_shares, sources_of
from mitoframe.storage.sst_reader import unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Batch, TagsAs, Take
    from mitoframe.model.file import FileMeta
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.plan import MergeGroup, ScanPlan
    from mitoframe.read.shares import Share
    from mitoframe.storage.memtable import RangeStats
    from mitoframe.storage.sst_reader import SstReader

BATCH_ROWS = 131_072


def wanted_of(plan: ScanPlan) -> list[str]:
    """Return the columns that a plan's request asks for."""
    columns = plan.request.columns
    return list(plan.metadata.names if columns is None else columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What of the conditions is left when rows come out of a share, and the columns it looks at."""

    predicate: Predicate
    columns: tuple[str, ...]

    def with_columns(self, columns: Many[str]) -> tuple[str, ...]:
        """Name what must be read to apply this and return some columns."""
        return tuple(dict.fromkeys((*columns, *self.columns)))

    def without_foreign(self) -> Filter:
        """Leave out what the maker of a condition would have to evaluate."""
        kept = conjunction([part for part in conjuncts(self.predicate) if not has_foreign(part)])
        return Filter(predicate=kept, columns=tuple(sorted(columns_of(kept))))

    def of(self, metadata: RegionMetadata) -> _Matching | None:
        """Return what a share applies to its rows, None if there is nothing left to apply."""
        return None if self.predicate == ALWAYS else _Matching(filter=self, metadata=metadata)

    def apply(self, plan: ScanPlan, rows: Batch | None) -> Batch | None:
        """Return the rows that match, None if none does."""
        condition = self.of(plan.metadata)
        if rows is None or condition is None:
            return rows
        chosen = condition.matching(rows)
        if chosen is None:
            return rows
        return rows.take(chosen) if len(chosen) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matching:
    """A filter of rows of one schema, as `Condition`."""

    filter: Filter
    metadata: RegionMetadata

    @property
    def columns(self) -> tuple[str, ...]:
        return self.filter.columns

    def matching(self, rows: Batch) -> Take | None:
        looked_at = rows.to_arrow(self.metadata, self.columns)
        masks = [_mask(part, looked_at) for part in conjuncts(self.filter.predicate)]
        chosen = np.flatnonzero(reduce(np.logical_and, masks))
        return None if len(chosen) == len(rows) else chosen


def _mask(part: Predicate, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Tell which rows match. Of a column that is packed, each value is looked at once and not each row."""
    names = columns_of(part)
    rows = rows.select(sorted(names))
    column = rows.column(0) if len(names) == 1 else None
    if column is not None and pa.types.is_dictionary(column.type) and not column.null_count and not has_foreign(part):
        of_values = _truth(part, pa.RecordBatch.from_arrays([column.dictionary], names=rows.schema.names))
        # Bytes, because Arrow takes bits one by one.
        return gather(of_values.view(np.uint8), column.indices).view(np.bool_)
    return _truth(part, pa.RecordBatch.from_arrays(list(map(unpacked, rows.columns)), names=rows.schema.names))


def _truth(part: Predicate, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    truth: npt.NDArray[np.bool_] = pc.fill_null(matching(part, rows), False).to_numpy(zero_copy_only=False)
    return truth


def filter_of(plan: ScanPlan) -> Filter:
    """Return what a plan's request asks for beside tags and times."""
    left = residual(plan.predicate, plan.metadata.tag_names, plan.metadata.time.name)
    return Filter(predicate=left, columns=tuple(sorted(columns_of(left))))


def jobs(plan: ScanPlan, reader: SstReader, columns: Many[str]) -> Iterator[Callable[[], Found]]:
    """Yield jobs that each return final rows, all conditions applied. They may be done in any order, side by side."""
    condition = filter_of(plan)
    for share in divide(plan, reader, condition.with_columns(columns)):
        yield partial(_filtered, plan, share, condition)


def group_jobs(
    plan: ScanPlan, group: MergeGroup, reader: SstReader, columns: Many[str]
) -> Iterator[Callable[[], Found]]:
    """Yield jobs for a group that is merged; conditions that their maker evaluates are left to him."""
    condition = filter_of(plan).without_foreign()
    needed = condition.with_columns(columns)
    for share in cut_group(plan, sources_of(plan, group, reader, needed), needed):
        yield partial(_filtered, plan, share, condition)


def few_jobs(plan: ScanPlan, reader: SstReader, columns: Many[str]) -> list[Callable[[], Found]] | None:
    """Return jobs for a whole plan if it is about few rows, else None; conditions as in `group_jobs`."""
    condition = filter_of(plan).without_foreign()
    found = few_shares(plan, reader, condition.with_columns(columns))
    return None if found is None else [partial(_filtered, plan, share, condition) for share in found]


def counting_jobs(plan: ScanPlan, reader: SstReader) -> Iterator[Callable[[], Counts]]:
    """Yield jobs that together return how many rows there are. What metadata tells is not read."""
    condition = filter_of(plan)
    for share in divide(plan, reader, condition.columns):
        yield partial(_counted, plan, share, condition)


def _counted(plan: ScanPlan, share: Share, condition: Filter) -> Counts:
    known = share.known_rows() if condition.predicate == ALWAYS else None
    return _filtered(plan, share, condition).counts if known is None else Counts(rows_returned=known)


def known_bounds(plan: ScanPlan) -> tuple[int, int] | None:
    """Return the first and the last time of a plan's rows, if files and memtables tell; None if they must be read.

    A time of a source is one of a row that is seen, whichever version of it, unless rows were deleted or are left out.
    """
    time = plan.metadata.time.name
    if residual(plan.predicate, frozenset(), time) != ALWAYS:
        return None
    files = [*plan.direct, *(file for group in plan.groups for file in group.files)]
    buffered = [part.stats for group in plan.groups for part in group.buffered]
    sources: list[FileMeta | RangeStats] = [*files, *buffered]
    is_whole = all(
        not each.delete_count
        and each.max_sequence <= plan.visible
        and plan.time_range.holds(each.min_time)
        and plan.time_range.holds(each.max_time)
        for each in sources
    )
    if not sources or not is_whole or any(file.level < LEVEL_FLUSHED for file in files):
        return None
    return min(each.min_time for each in sources), max(each.max_time for each in sources)


def _filtered(plan: ScanPlan, share: Share, condition: Filter) -> Found:
    found = share.read(condition.of(plan.metadata))
    rows = found.rows
    return Found(rows=rows, counts=found.counts + Counts(rows_returned=0 if rows is None else len(rows)))


def laid_out(
    plan: ScanPlan, rows: Batch, columns: Many[str], *, tags_as: TagsAs = "string"
) -> Iterator[pa.RecordBatch]:
    """Yield rows as users see them."""
    for batch in rows.slices(BATCH_ROWS):
        yield batch.to_arrow(plan.metadata, columns, tags_as=tags_as)


def run_plan(plan: ScanPlan, reader: SstReader) -> Iterator[pa.RecordBatch]:
    """Yield the rows a plan's request asks for: filtered in full, projected, one share after the other."""
    wanted = wanted_of(plan)
    for job in jobs(plan, reader, wanted):
        rows = job().rows
        if rows is not None:
            yield from laid_out(plan, rows, wanted)
