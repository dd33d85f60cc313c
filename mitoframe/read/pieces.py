"""`Pieces`: which rows of one sorted source may match, series by series.

A source is sorted by (series, time), so the rows of a series lie together and a condition on tags is a choice of
pieces, not of rows. Within a piece times ascend, so a range of times is found by bisection. No row is looked at here,
but for its time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from mitoframe.kernels.aggregate import pieces_within
from mitoframe.model.timerange import TIME_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mitoframe.model.batch import Codes, Take, Times
    from mitoframe.model.rows import RowRanges
    from mitoframe.model.timerange import TimeRange

_BISECTED_MAX = 8
"""Up to so many pieces are bisected one by one; more are worth the kernel, which has to be loaded once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Rows ``starts[i] <= row < stops[i]``, all of series ``codes[i]``. Both ascend, and no piece is empty."""

    codes: Codes
    starts: Take
    stops: Take

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def size_bytes(self) -> int:
        return self.codes.nbytes + self.starts.nbytes + self.stops.nbytes

    @property
    def row_count(self) -> int:
        return int((self.stops - self.starts).sum())

    def part(self, first: int, last: int) -> Pieces:
        """Return the pieces from number ``first`` up to number ``last``."""
        return Pieces(codes=self.codes[first:last], starts=self.starts[first:last], stops=self.stops[first:last])

    def shifted(self, by: int) -> Pieces:
        return Pieces(codes=self.codes, starts=self.starts + by, stops=self.stops + by)

    @staticmethod
    def joined(parts: Sequence[Pieces]) -> Pieces:
        """Return all pieces of several row groups, each still counted from the first row of its own."""
        if len(parts) == 1:
            return parts[0]
        return Pieces(
            codes=np.concatenate([part.codes for part in parts]),
            starts=np.concatenate([part.starts for part in parts]),
            stops=np.concatenate([part.stops for part in parts]),
        )

    def gathered(self) -> Pieces:
        """Return the same rows, as if they lay one after another, from row 0 on."""
        lengths = self.stops - self.starts
        stops = np.cumsum(lengths)
        return Pieces(codes=self.codes, starts=stops - lengths, stops=stops)

    def placed(self, some: Pieces) -> Pieces:
        """Return where some of the `gathered` rows lie here; each of ``some`` is a part of one of these."""
        which = self.holding(some)
        by = self.starts[which] - self.gathered().starts[which]
        return Pieces(codes=some.codes, starts=some.starts + by, stops=some.stops + by)

    def holding(self, some: Pieces) -> Take:
        """Return in which of these pieces some of the `gathered` rows are; each is a part of one."""
        which: Take = np.searchsorted(self.gathered().stops, some.starts, side="right")
        return which

    def stretches(self) -> list[slice]:
        """Return the rows of each piece."""
        return [slice(*bounds) for bounds in zip(self.starts.tolist(), self.stops.tolist(), strict=True)]

    def ends(self, count: int) -> Pieces:
        """Return the last rows of each piece, up to ``count``."""
        return replace(self, starts=np.maximum(self.starts, self.stops - count))

    def within(self, start: int, stop: int) -> Pieces:
        """Return what lies in the rows from ``start`` up to ``stop``, counted from ``start``."""
        first = int(self.stops.searchsorted(start, side="right"))
        last = int(self.starts.searchsorted(stop, side="left"))
        some = self.part(first, last)
        return Pieces(
            codes=some.codes,
            starts=np.maximum(some.starts, start) - start,
            stops=np.minimum(some.stops, stop) - start,
        )

    def only(self, rows: RowRanges) -> Pieces:
        """Return what lies in some ranges of rows."""
        if not len(self) or not len(rows):
            return self.part(0, 0)
        first = np.searchsorted(rows.stops, self.starts, side="right")
        last = np.searchsorted(rows.starts, self.stops, side="left")
        met = np.maximum(last - first, 0)
        which = np.repeat(np.arange(len(self)), met)
        before = np.cumsum(met) - met
        met_range = np.arange(len(which)) - np.repeat(before - first, met)
        return Pieces(
            codes=self.codes[which],
            starts=np.maximum(self.starts[which], rows.starts[met_range]),
            stops=np.minimum(self.stops[which], rows.stops[met_range]),
        )

    def between(self, times: Times, wanted: TimeRange) -> Pieces:
        """Return what lies in a range of times; ``times`` are those of the rows, from row 0 on."""
        if len(self) > _BISECTED_MAX and wanted.start < wanted.end:
            which, starts, stops = pieces_within(
                self.starts, self.stops, 0, len(times), times, wanted.start, wanted.last
            )
            return Pieces(codes=self.codes[which], starts=starts, stops=stops)
        end_side: Literal["left", "right"] = "right" if wanted.end == TIME_MAX else "left"
        bounds = [
            (start + piece.searchsorted(wanted.start), start + piece.searchsorted(wanted.end, side=end_side))
            for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True)
            for piece in (times[start:stop],)
        ]
        starts, stops = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
        kept = starts < stops
        return Pieces(codes=self.codes[kept], starts=starts[kept], stops=stops[kept])

    def row_groups(self, starts: Take) -> list[int]:
        """Return the row groups that hold a row of the pieces; ``starts`` says where they begin."""
        if not len(self):
            return []
        first = starts.searchsorted(self.starts, side="right") - 1
        last = starts.searchsorted(self.stops - 1, side="right") - 1
        if len(self) == 1:
            return list(range(int(first[0]), int(last[0]) + 1))
        if (first == last).all():
            return [int(number) for number in first[np.flatnonzero(np.diff(first, prepend=-1))]]
        steps = np.bincount(first, minlength=len(starts) + 1) - np.bincount(last + 1, minlength=len(starts) + 1)
        return [int(number) for number in np.flatnonzero(np.cumsum(steps) > 0)]

    def row_codes(self) -> Codes:
        """Return the series of each row."""
        codes: Codes = np.repeat(self.codes, self.stops - self.starts)
        return codes

    def is_run(self) -> bool:
        """Tell whether the rows lie together. Requires: there are some."""
        return bool((self.stops[:-1] == self.starts[1:]).all())

    def rows(self) -> Take:
        """Return the number of each row."""
        lengths = self.stops - self.starts
        before = np.cumsum(lengths) - lengths
        rows: Take = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(self.starts - before, lengths)
        return rows


def pieces_of(offsets: Take, chosen: npt.NDArray[np.bool_] | None) -> Pieces:
    """Return the rows of the chosen series (all, if None) of a source; series ``c`` begins at ``offsets[c]``."""
    codes = np.arange(len(offsets) - 1, dtype=np.int32) if chosen is None else np.flatnonzero(chosen).astype(np.int32)
    starts, stops = offsets[codes], offsets[codes + 1]
    some = starts < stops
    if not some.all():
        codes, starts, stops = codes[some], starts[some], stops[some]
    return Pieces(codes=codes, starts=starts, stops=stops)
