"""Which of some keys are there already: the one question about rows that a write may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mitoframe.kernels.sort import sort_rows
from mitoframe.storage.runs import merge_rows_of
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from mitoframe.model.batch import Batch
    from mitoframe.read.plan import ScanPlan
    from mitoframe.storage.sst_reader import SstReader

    Mask = npt.NDArray[np.bool_]


def present(plan: ScanPlan, reader: SstReader, batch: Batch) -> Mask:
    """Tell for each row of a batch whether a row with its tags and time is there.

    Requires: the plan reads every row with the times of the batch.
    """
    found = np.zeros(len(batch), dtype=np.bool_)
    for rows in _keys(plan, reader, int(batch.times.min()), int(batch.times.max())):
        found |= _in_both(batch, rows)
    return found


def repeated(batch: Batch) -> Mask:
    """Tell for each row of a batch whether a row before it has its tags and time."""
    _, (ranks,) = unify([batch.series])
    starts, order = _keys_in_order(ranks[batch.codes], batch.times)
    again = np.ones(len(batch), dtype=np.bool_)
    # Rows alike come with the newest, here the last, first: so the original is the last of its key.
    again[order[np.append(starts[1:], len(order)) - 1]] = False
    return again


def _keys(plan: ScanPlan, reader: SstReader, first: int, last: int) -> Iterator[Batch]:
    """Yield the keys of all rows that are seen from ``first`` to ``last``, as batches without fields."""
    metadata, dedup = plan.metadata, plan.version.state.options.dedup
    for group in plan.groups:
        runs = [reader.read(metadata, file, range(file.row_group_count), []) for file in group.files]
        runs += [run.select_fields([]) for part in group.buffered if (run := part.sorted(plan.visible)) is not None]
        visible = [run.take(np.nonzero(run.sequences <= np.uint64(plan.visible))[0]) for run in runs]
        if sum(map(len, visible)):
            yield _within(merge_rows_of(visible, dedup, drop_deletes=True).gather(), first, last)
    for file in plan.direct:
        for row_group in range(file.row_group_count):
            yield _within(reader.read(metadata, file, [row_group], []), first, last)


def _within(rows: Batch, first: int, last: int) -> Batch:
    return rows.take(np.nonzero((rows.times >= first) & (rows.times <= last))[0])


def _in_both(batch: Batch, rows: Batch) -> Mask:
    if not len(rows):
        return np.zeros(len(batch), dtype=np.bool_)
    _, ranks = unify([batch.series, rows.series])
    codes = np.concatenate([ranks[0][batch.codes], ranks[1][rows.codes]])
    starts, order = _keys_in_order(codes, np.concatenate([batch.times, rows.times]))
    has_row = np.maximum.reduceat(order >= len(batch), starts)
    found = np.empty(len(order), dtype=np.bool_)
    found[order] = np.repeat(has_row, np.diff(np.append(starts, len(order))))
    return found[: len(batch)]


def _keys_in_order(
    codes: npt.NDArray[np.int32], times: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each key begins among the rows in order, and that order; the last row of a key comes first."""
    codes = np.ascontiguousarray(codes, dtype=np.int32)
    order = sort_rows(codes, int(codes.max()) + 1, times, np.arange(1, len(codes) + 1, dtype=np.uint64))
    codes, times = codes[order], times[order]
    differs = (codes[1:] != codes[:-1]) | (times[1:] != times[:-1])
    return np.concatenate([np.zeros(1, dtype=np.int64), np.nonzero(differs)[0] + 1]), order
