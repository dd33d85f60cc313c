"""Segments: the rows of a file cut into equal parts, which is as precisely as an index answers.

Values come in arrays of any length, one after another; `Cut` says which segments an array touches and where in it each
begins. `Segments` is what every index knows of each segment, whatever its kind: whether it holds a null, a NaN, or any
other value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mitoframe.storage.index_values import nan_mask, null_mask

if TYPE_CHECKING:
    from mitoframe.model.rows import RowNumbers
    from mitoframe.storage.index_values import Mask


@dataclass(frozen=True, slots=True)
class Cut:
    """An array of values cut at the bounds of segments.

    Attributes:
        segments: the number of each segment it touches, ascending.
        starts: where in the array each of them begins; the first at 0.
        length: of the array.

    """

    segments: RowNumbers
    starts: RowNumbers
    length: int

    @property
    def lengths(self) -> RowNumbers:
        return np.diff(self.starts, append=self.length)

    def segment_of_rows(self) -> RowNumbers:
        return np.repeat(self.segments, self.lengths)


def cut(first_row: int, length: int, granularity: int) -> Cut:
    """Cut an array whose first value is that of row ``first_row``. Requires: it is not empty."""
    assert length > 0
    segments = np.arange(first_row // granularity, (first_row + length - 1) // granularity + 1, dtype=np.int64)
    starts = np.maximum(segments * granularity - first_row, 0)
    return Cut(segments, starts, length)


def reduced(ufunc: np.ufunc, values: Mask | RowNumbers, starts: RowNumbers) -> Mask:
    """Combine the values from each start up to the next."""
    result: Mask = ufunc.reduceat(values, starts)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """What each segment of ``granularity`` rows holds. ``values`` are those that are neither null nor NaN."""

    granularity: int
    nulls: Mask
    nans: Mask
    values: Mask

    def __len__(self) -> int:
        return len(self.nulls)

    def to_batch(self) -> pa.RecordBatch:
        columns = [pa.array(mask) for mask in (self.nulls, self.nans, self.values)]
        return pa.RecordBatch.from_arrays(columns, names=["nulls", "nans", "values"])

    @staticmethod
    def from_batch(batch: pa.RecordBatch, granularity: int) -> Segments:
        """Read what `to_batch` wrote. ``KeyError`` or ``ValueError`` if it is not that."""
        nulls, nans, values = (
            batch.column(name).to_numpy(zero_copy_only=False) for name in ("nulls", "nans", "values")
        )
        return Segments(granularity=granularity, nulls=nulls, nans=nans, values=values)


class SegmentsCollector:
    """Finds out `Segments` while the values pass by."""

    def __init__(self, granularity: int) -> None:
        self.granularity = granularity
        self.row_count = 0
        self._known = Segments(granularity=granularity, nulls=_none(0), nans=_none(0), values=_none(0))

    def add(self, values: pa.Array) -> Cut:
        """Take the next values, at least one, and return how they are cut."""
        found = cut(self.row_count, len(values), self.granularity)
        self.row_count += len(values)
        nulls, nans = null_mask(values), nan_mask(values)
        count = int(found.segments[-1]) + 1
        self._known = replace(
            self._known,
            nulls=self._with(self._known.nulls, nulls, found, count),
            nans=self._with(self._known.nans, nans & ~nulls, found, count),
            values=self._with(self._known.values, ~(nulls | nans), found, count),
        )
        return found

    @staticmethod
    def _with(known: Mask, rows: Mask, found: Cut, count: int) -> Mask:
        grown = np.concatenate([known, _none(count - len(known))])
        grown[found.segments] |= reduced(np.logical_or, rows, found.starts)
        return grown

    def finish(self) -> Segments:
        return self._known


def _none(count: int) -> Mask:
    return np.zeros(count, np.bool_)
