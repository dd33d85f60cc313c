"""The last rows of each series, or of each group of series, by time.

Within a batch a series' last rows lie at its end, so nothing else is touched: `last_rows` cuts a batch down to them.
What it returns is a sorted batch again, with the same series; it may be kept, and asked again for as many rows or
fewer. `latest` puts such batches together.

Rows are in the order (time, series, age): of rows with one time the one of the last series is last, and of rows with
one key, where all are kept, the newest. No two rows are alike in that, so the answer depends on the rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mitoframe.kernels.aggregate import last_of_series
from mitoframe.model.batch import concat_batches
from mitoframe.read.grouping import Grouping, merged_groups

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch, Codes, Take
    from mitoframe.model.schema import RegionMetadata

ROWS_APART_MAX = 1 << 20
"""So many rows may wait before those that are not among the last are let go."""


def last_rows(batch: Batch, count: int = 1) -> Batch:
    """Keep the last rows of each series of a sorted batch."""
    rows = last_of_series(batch.codes, batch.times, count)
    return batch if len(rows) == len(batch) else batch.take(rows)


def latest(batches: Iterable[Batch], metadata: RegionMetadata, *, by: Sequence[str], count: int = 1) -> Batch | None:
    """Return the last rows of each group of series with the same tags ``by``, in order of (group, time, series, age).

    None if there is no row. Requires: sorted batches; a series may be in several of them, with any times.
    """
    grouping = Grouping(by, [tag.name for tag in metadata.tags])
    pile: list[Batch] = []
    apart = 0
    for batch in batches:
        if not len(batch):
            continue
        # Of a group no series has more among the last than the group itself.
        pile.append(last_rows(batch, count))
        apart += len(pile[-1])
        if apart > max(ROWS_APART_MAX, 2 * len(pile[0])):
            pile, apart = [_last_of_groups(pile, grouping, count)], 0
    return _last_of_groups(pile, grouping, count) if pile else None


def _last_of_groups(parts: Sequence[Batch], grouping: Grouping, count: int) -> Batch:
    together = _together(parts)
    _, numbers = grouping.of(together.series)
    groups = numbers[together.codes]
    order = np.lexsort((together.sequences, together.codes, together.times, groups)).astype(np.int64)
    return together.take(order[_is_near_end(groups[order], count)])


def _together(parts: Sequence[Batch]) -> Batch:
    """Put batches after each other, their series in one table."""
    if len(parts) == 1:
        return parts[0]
    series, ranks = merged_groups([part.series for part in parts])
    return concat_batches([part.with_series(series, rank) for part, rank in zip(parts, ranks, strict=True)])


def _is_near_end(groups: Codes, count: int) -> Take:
    """Tell which elements are among the last ``count`` of a stretch of equal ones."""
    stops = np.append(np.nonzero(groups[1:] != groups[:-1])[0] + 1, len(groups))
    lengths = np.diff(stops, prepend=0)
    return np.nonzero(np.repeat(stops, lengths) - np.arange(len(groups)) <= count)[0]
