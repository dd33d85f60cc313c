"""The rows of several SSTs as one sorted stream, in memory that grows neither with their size nor with their number.

All files are sorted alike, so they are read side by side, of each some rows at a time. The smallest of the last keys
held bounds what can be merged: below it, nothing more can come from any file. What is below goes, what is left stays,
and whoever has nothing left reads on. A key is never cut in two, because the bound itself waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mitoframe.model.batch import concat_batches
from mitoframe.storage.runs import merge_coded_rows
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import pyarrow as pa

    from mitoframe.model.batch import Batch, Codes
    from mitoframe.model.file import FileMeta
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.storage.sst_reader import SstReader


ROWS_HELD = 131_072
"""Of all files together."""
ROWS_READ_MIN = 8192
"""Of one file at a time, however many there are: each step of the merge has a price of its own."""


class MergedFiles:
    """Rows, as `Rows`: they are read while they are drawn, once."""

    def __init__(
        self,
        metadata: RegionMetadata,
        files: Many[FileMeta],
        reader: SstReader,
        dedup: Dedup,
        *,
        drop_deletes: bool,
        rows_held: int = ROWS_HELD,
    ) -> None:
        """Open the files. With ``drop_deletes`` keys whose newest row is a delete marker vanish (`merge_rows_of`)."""
        self._metadata, self._files, self._reader = metadata, files, reader
        self.series, ranks = unify([reader.footer(metadata, file).series for file in files])
        self._rows_read = max(rows_held // len(files), min(rows_held, ROWS_READ_MIN))
        self._merged = self._merge(ranks, dedup, drop_deletes=drop_deletes)
        self._first = next(self._merged, None)

    def is_empty(self) -> bool:
        """Tell whether no row is left of all."""
        return self._first is None

    def fields_with_nulls(self) -> set[str]:
        """Name the fields that may hold a null."""
        return {
            field.name
            for field in self._metadata.fields
            if any(self._reader.may_hold_null(self._metadata, file, field) for file in self._files)
        }

    def slices(self, rows_max: int) -> Iterator[Batch]:
        """Yield the rows as sorted batches of ``rows_max``, all with the same series; the last may be shorter."""
        waiting: list[Batch] = []
        missing = rows_max
        for rows in self._drawn():
            start = 0
            while len(rows) - start >= missing:
                yield _joined([*waiting, rows.slice(start, missing)])
                start += missing
                waiting, missing = [], rows_max
            if start < len(rows):
                rest = rows.slice(start, len(rows) - start)
                waiting.append(concat_batches([rest]) if start else rest)  # Else it keeps alive what went before it.
                missing -= len(rest)
        if waiting:
            yield _joined(waiting)

    def _drawn(self) -> Iterator[Batch]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
            del first
            yield from self._merged

    def _merge(self, ranks: Many[Codes], dedup: Dedup, *, drop_deletes: bool) -> Iterator[Batch]:
        names = [field.name for field in self._metadata.fields]
        runs = [
            _Run(self._reader.stream(self._metadata, file, names, self._rows_read), file.row_count, self.series, rank)
            for file, rank in zip(self._files, ranks, strict=True)
        ]
        while runs:
            for run in runs:
                run.fill()
            bound = min((run.last_key() for run in runs if run.may_go_on()), default=None)
            taken = [run.take_below(bound) for run in runs]
            runs = [run for run in runs if not run.is_done()]
            parts = [part for part in taken if len(part)]
            if parts:
                rows = merge_coded_rows(parts, dedup, drop_deletes=drop_deletes)
                if len(rows):
                    yield rows.gather()
            elif bound is not None:
                # All that is held of a file is one key: what follows it is needed before anything can go.
                for run in runs:
                    if run.may_go_on() and run.last_key() == bound:
                        run.read_on()


class _Run:
    """A file on its way: what was read of it and is not merged yet."""

    def __init__(self, rows: Iterator[Batch], row_count: int, series: pa.RecordBatch, ranks: Codes) -> None:
        self._rows, self._left, self._series, self._ranks = rows, row_count, series, ranks
        self._held: Batch | None = None

    def may_go_on(self) -> bool:
        """Tell whether there is more in the file than was read."""
        return self._left > 0

    def is_done(self) -> bool:
        return self._held is None and not self.may_go_on()

    def fill(self) -> None:
        if self._held is None and self.may_go_on():
            self.read_on()

    def read_on(self) -> None:
        rows = next(self._rows).with_series(self._series, self._ranks)
        self._held = rows if self._held is None else concat_batches([self._held, rows])
        self._left -= len(rows)

    def last_key(self) -> tuple[int, int]:
        assert self._held is not None
        return int(self._held.codes[-1]), int(self._held.times[-1])

    def take_below(self, bound: tuple[int, int] | None) -> Batch:
        """Return the rows before a key, all if there is no bound, and hold the rest."""
        assert self._held is not None
        held, count = self._held, len(self._held)
        stop = count if bound is None else _first_from(held, bound)
        self._held = held.slice(stop, count - stop) if stop < count else None
        return held.slice(0, stop)


def _joined(batches: list[Batch]) -> Batch:
    return batches[0] if len(batches) == 1 else concat_batches(batches)


def _first_from(rows: Batch, key: tuple[int, int]) -> int:
    """Return the first row that is not before a key."""
    code, time = key
    start = int(np.searchsorted(rows.codes, code, side="left"))
    stop = int(np.searchsorted(rows.codes, code, side="right"))
    return start + int(np.searchsorted(rows.times[start:stop], time, side="left"))
