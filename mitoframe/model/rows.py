"""`RowRanges`: which rows of a file are worth a look, as sorted half-open ranges of row numbers.

Whatever narrows a scan (the table of series, row-group statistics, an index) says it in this form, and they are
intersected: a row that one of them rules out is not read. Ranges are kept in one form only, so that equal sets of rows
are equal values: none is empty, and between two there is a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

RowNumbers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RowRanges:
    """Rows ``starts[i] <= row < stops[i]`` for each ``i``.

    Requires: ``starts[i] < stops[i] < starts[i + 1]``, nothing below 0; `of` brings any ranges into that form. The
    arrays are not changed after they are handed over.
    """

    starts: RowNumbers
    stops: RowNumbers

    def __post_init__(self) -> None:
        assert self.starts.dtype == self.stops.dtype == np.int64
        assert len(self.starts) == len(self.stops)
        assert not len(self.starts) or self.starts[0] >= 0, "rows are counted from 0"
        assert bool((self.starts < self.stops).all()), "no range is empty"
        assert bool((self.stops[:-1] < self.starts[1:]).all()), "ranges are sorted, with gaps between them"

    @staticmethod
    def everything(row_count: int) -> RowRanges:
        """Return all rows of a file."""
        return RowRanges.of(np.zeros(1, np.int64), np.full(1, row_count, np.int64))

    @staticmethod
    def nothing() -> RowRanges:
        return RowRanges(np.empty(0, np.int64), np.empty(0, np.int64))

    @staticmethod
    def of(starts: npt.ArrayLike, stops: npt.ArrayLike) -> RowRanges:
        """Return the rows that are in any of these ranges, which may be empty, overlap and come in any order.

        >>> RowRanges.of([8, 0, 3], [9, 3, 5])
        RowRanges([0, 5), [8, 9))
        """
        first, last = np.asarray(starts, np.int64), np.asarray(stops, np.int64)
        is_some = first < last
        return _covered(first[is_some], last[is_some], 1)

    @staticmethod
    def from_mask(mask: npt.NDArray[np.bool_], granularity: int = 1) -> RowRanges:
        """Return the rows of the segments that are set, segment ``i`` being ``granularity`` rows from ``i`` times that.

        The last segment counts as full: clip to the rows there are.

        >>> RowRanges.from_mask(np.array([True, True, False, True]), 10).clip(0, 35)
        RowRanges([0, 20), [30, 35))
        """
        padded = np.zeros(len(mask) + 2, np.int8)
        padded[1:-1] = mask
        steps = np.diff(padded)
        starts, stops = np.nonzero(steps == 1)[0], np.nonzero(steps == -1)[0]
        return RowRanges(starts.astype(np.int64) * granularity, stops.astype(np.int64) * granularity)

    @property
    def count(self) -> int:
        """How many rows there are in all."""
        return int((self.stops - self.starts).sum())

    @property
    def is_empty(self) -> bool:
        return not len(self.starts)

    def intersect(self, other: RowRanges) -> RowRanges:
        """Return the rows that are in both."""
        return _covered(*_joined(self, other), 2)

    def union(self, other: RowRanges) -> RowRanges:
        """Return the rows that are in either."""
        return _covered(*_joined(self, other), 1)

    def clip(self, start: int, stop: int) -> RowRanges:
        """Return the rows from ``start`` up to ``stop``, those of a row group, say, still counted from the file's."""
        first = int(np.searchsorted(self.stops, start, side="right"))
        last = int(np.searchsorted(self.starts, stop, side="left"))
        if first >= last or start >= stop:
            return RowRanges.nothing()
        return RowRanges(np.maximum(self.starts[first:last], start), np.minimum(self.stops[first:last], stop))

    def shift(self, by: int) -> RowRanges:
        """Return the ranges with ``by`` added to each row number."""
        return RowRanges(self.starts + by, self.stops + by)

    def rows(self) -> RowNumbers:
        """Return the number of each row, ascending."""
        lengths = self.stops - self.starts
        before = np.cumsum(lengths) - lengths
        rows: RowNumbers = np.arange(self.count, dtype=np.int64) + np.repeat(self.starts - before, lengths)
        return rows

    def to_mask(self, row_count: int, granularity: int = 1) -> npt.NDArray[np.bool_]:
        """Tell of each segment of ``granularity`` rows whether any row of it is in a range."""
        segment_count = -(-row_count // granularity)
        inside = self.clip(0, row_count)
        steps = np.zeros(segment_count + 1, np.int64)
        np.add.at(steps, inside.starts // granularity, 1)
        np.add.at(steps, (inside.stops - 1) // granularity + 1, -1)
        mask: npt.NDArray[np.bool_] = np.cumsum(steps[:-1]) > 0
        return mask

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts.tolist(), self.stops.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowRanges):
            return NotImplemented
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.stops, other.stops)

    def __hash__(self) -> int:
        return hash((self.starts.tobytes(), self.stops.tobytes()))

    def __repr__(self) -> str:
        return f"RowRanges({', '.join(f'[{start}, {stop})' for start, stop in self)})"


def _joined(one: RowRanges, other: RowRanges) -> tuple[RowNumbers, RowNumbers]:
    return np.concatenate([one.starts, other.starts]), np.concatenate([one.stops, other.stops])


def _covered(starts: RowNumbers, stops: RowNumbers, least: int) -> RowRanges:
    """Return the rows that are in at least so many of the ranges. Requires: no range is empty."""
    if not len(starts):
        return RowRanges.nothing()
    edges, where = np.unique(np.concatenate([starts, stops]), return_inverse=True)
    count = len(edges)
    depth = np.cumsum(
        np.bincount(where[: len(starts)], minlength=count) - np.bincount(where[len(starts) :], minlength=count)
    )
    found = RowRanges.from_mask(depth >= least)
    return RowRanges(edges[found.starts], edges[found.stops])
