"""Batches in, one sorted batch out: the only sort, merge and dedup in the house.

Memtable, scan, flush and compaction all come here. Series are brought into one order first (`unify`); after that a row
is (rank, time, sequence), three integers, and the kernels do the rest. Keys keep their newest row only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mitoframe.kernels.dedup import keep_last_visible
from mitoframe.kernels.merge import merge_runs
from mitoframe.kernels.sort import sort_and_keep_last
from mitoframe.model.batch import Batch, concat_fields
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Sequence


def sort_batches(batches: Sequence[Batch]) -> Batch:
    """Sort batches in any order into one sorted batch with the newest row of each key, delete markers included.

    Requires: at least one batch.
    """
    rows = _together(batches)
    return rows.take(sort_and_keep_last(rows.codes, len(rows.series), rows.times, rows.sequences))


def merge_batches(runs: Sequence[Batch], *, drop_deletes: bool) -> Batch:
    """Merge sorted batches into one with the newest row of each key.

    With ``drop_deletes`` a key whose newest row is a delete marker vanishes; that is right only if no row of the key
    can be anywhere else. Requires: at least one run, each sorted.
    """
    rows = _together(runs)
    starts = np.cumsum([0, *map(len, runs)], dtype=np.int64)
    order = merge_runs(rows.codes, rows.times, rows.sequences, starts)
    kept = keep_last_visible(rows.codes, rows.times, rows.op_types, order, drop_deletes=drop_deletes)
    if len(runs) == 1 and len(kept) == len(rows):
        return rows
    return rows.take(kept)


def _together(batches: Sequence[Batch]) -> Batch:
    """Put batches after each other, with codes that point into one sorted series table."""
    series, ranks = unify([batch.series for batch in batches])
    codes = [rank[batch.codes] for rank, batch in zip(ranks, batches, strict=True)]
    if len(batches) == 1:
        only = batches[0]
        return Batch(
            series=series,
            codes=codes[0],
            times=only.times,
            sequences=only.sequences,
            op_types=only.op_types,
            fields=only.fields,
        )
    return Batch(
        series=series,
        codes=np.concatenate(codes),
        times=np.concatenate([batch.times for batch in batches]),
        sequences=np.concatenate([batch.sequences for batch in batches]),
        op_types=np.concatenate([batch.op_types for batch in batches]),
        fields=concat_fields([batch.fields for batch in batches]),
    )
