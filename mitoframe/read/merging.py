"""The rows of several SSTs as one sorted stream, in memory that does not grow with their size.

All files are sorted alike, so they are read side by side, of each some rows at a time. The smallest of the last keys
held bounds what can be merged: below it, nothing more can come from any file. What is below goes, what is left stays,
and whoever has nothing left reads on. A key is never cut in two, because the bound itself waits.

What is merged may be an *extent* of all: some series, at some times. The tables of series say which rows of each file
these are, so extents are read apart from each other, in any order or at once, and no key is in two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mitoframe.model.batch import concat_batches, take_fields
from mitoframe.model.timerange import EVERYTHING, TimeRange
from mitoframe.storage.runs import merge_coded_parts
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Sequence as Many

    from mitoframe.model.batch import Batch, Codes
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.storage.sst_reader import SstReader


ROWS_HELD = 65_536
"""Of all files together."""
ROWS_READ_MIN = 4096
"""Of one file at a time, however many there are: each step of the merge has a price of its own."""
FETCHED_MAX_BYTES = 64 * 1024 * 1024
"""If a row group of each file takes more than this together, they are fetched a little at a time."""
_COPIED_MAX = 4
"""What is left of rows is copied if it is less than one in so many: it would keep all of them in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The rows of series number ``first`` up to number ``last`` of `FilesToMerge`, at some times."""

    first: int
    last: int
    times: TimeRange = EVERYTHING


class FilesToMerge:
    """Files, and the series of all of them in one order."""

    def __init__(self, metadata: RegionMetadata, files: Many[FileMeta], reader: SstReader) -> None:
        """Open the files.

        Raises:
            CorruptionError: one of them cannot be read; its path says which.

        """
        assert files
        self.metadata, self.files, self.reader = metadata, tuple(files), reader
        self.series, ranks = unify([reader.footer(metadata, file).series for file in files])
        self.ranks: Mapping[FileId, Codes] = dict(zip([file.file_id for file in files], ranks, strict=True))
        """Where each series of a file is in ``series``."""

    def rows_of(self, file: FileMeta, extent: Extent) -> range:
        """Return which rows of a file are of an extent's series."""
        first, last = np.searchsorted(self.ranks[file.file_id], [extent.first, extent.last])
        offsets = self.reader.footer(self.metadata, file).offsets
        return range(int(offsets[first]), int(offsets[last]))

    def series_of(self, files: Many[FileMeta], extent: Extent) -> tuple[pa.RecordBatch, Codes]:
        """Return the series of an extent that some files have, and of all series which of these each is, or -1."""
        is_there = np.zeros(len(self.series), dtype=np.bool_)
        for file in files:
            is_there[self.ranks[file.file_id]] = True
        chosen = np.flatnonzero(is_there[extent.first : extent.last]) + extent.first
        codes = np.full(len(self.series), -1, dtype=np.int32)
        codes[chosen] = np.arange(len(chosen), dtype=np.int32)
        if len(chosen) == extent.last - extent.first:
            return self.series.slice(extent.first, len(chosen)), codes
        return take_fields(self.series, pa.array(chosen)), codes

    def files_with(self, extent: Extent) -> list[FileMeta]:
        """Return the files that may have rows in an extent."""
        return [
            file
            for file in self.files
            if self.rows_of(file, extent) and extent.times.touches(file.min_time, file.max_time)
        ]


class MergedFiles:
    """Rows, as `Rows`: they are read while they are drawn, once."""

    def __init__(
        self,
        inputs: FilesToMerge,
        dedup: Dedup,
        *,
        drop_deletes: bool,
        extent: Extent | None = None,
        rows_held: int = ROWS_HELD,
        each_step: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Begin to read. With ``drop_deletes`` keys whose newest row is a delete marker vanish (`merge_rows_of`).

        ``each_step`` is told how many more rows have been merged; what it raises ends the merge.
        """
        self._inputs, self._each_step = inputs, each_step
        self._extent = extent or Extent(first=0, last=len(inputs.series))
        self._files = inputs.files_with(self._extent)
        self.series, self._codes = inputs.series_of(self._files, self._extent)
        # Half as many may be left of each when it reads on.
        self._rows_read = max(rows_held * 2 // (3 * max(len(self._files), 1)), min(rows_held, ROWS_READ_MIN))
        self._merged = self._merge(dedup, drop_deletes=drop_deletes)
        self._first = next(self._merged, None)

    def is_empty(self) -> bool:
        """Tell whether no row is left of all."""
        return self._first is None

    def fields_with_nulls(self) -> set[str]:
        """Name the fields that may hold a null."""
        metadata, reader = self._inputs.metadata, self._inputs.reader
        return {
            field.name
            for field in metadata.fields
            if any(reader.may_hold_null(metadata, file, field) for file in self._files)
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

    def _merge(self, dedup: Dedup, *, drop_deletes: bool) -> Iterator[Batch]:
        runs = [self._run(file) for file in self._files]
        while runs:
            for run in runs:
                run.fill()
            bound = min((run.last_key() for run in runs if run.may_go_on), default=None)
            parts = [taken for run in runs if (taken := run.take_below(bound))]
            runs = [run for run in runs if not run.is_done()]
            if not parts:
                continue
            merged = merge_coded_parts(parts, dedup, drop_deletes=drop_deletes)
            self._each_step(len(merged.pile.times))
            if len(merged):
                yield merged.gather()

    def _run(self, file: FileMeta) -> _Run:
        inputs, extent = self._inputs, self._extent
        stream = inputs.reader.stream(
            inputs.metadata,
            file,
            [field.name for field in inputs.metadata.fields],
            self._rows_read,
            rows=inputs.rows_of(file, extent),
            times=extent.times,
            is_lean=sum(each.size_bytes // each.row_group_count for each in self._files) > FETCHED_MAX_BYTES,
        )
        codes = self._codes[inputs.ranks[file.file_id]]
        return _Run((batch.with_series(self.series, codes) for batch in stream), self._rows_read // 2)


class _Run:
    """A file on its way: what was read of it and is not merged yet."""

    def __init__(self, rows: Iterator[Batch], few: int) -> None:
        """Read on when there are no more than a ``few`` left: else a file with one row left bounds a step alone."""
        self._rows, self._few = rows, few
        self._held: list[Batch] = []
        self.may_go_on = True
        """Whether there may be more in the file than was read."""

    def is_done(self) -> bool:
        return not self._held and not self.may_go_on

    def fill(self) -> None:
        """Read on until there is enough below the last key, which has to wait for those that may be like it."""
        while self.may_go_on and (sum(map(len, self._held)) <= self._few or self._is_one_key()):
            rows = next(self._rows, None)
            if rows is None:
                self.may_go_on = False
            else:
                self._held.append(rows)

    def last_key(self) -> tuple[int, int]:
        return int(self._held[-1].codes[-1]), int(self._held[-1].times[-1])

    def _is_one_key(self) -> bool:
        first = self._held[0]
        return (int(first.codes[0]), int(first.times[0])) == self.last_key()

    def take_below(self, bound: tuple[int, int] | None) -> list[Batch]:
        """Return the rows before a key, all if there is no bound, and hold the rest."""
        taken = []
        for number, rows in enumerate(self._held):
            stop = len(rows) if bound is None else _first_from(rows, bound)
            if stop:
                taken.append(rows.slice(0, stop))
            if stop < len(rows):
                self._held[: number + 1] = [_rest(rows, stop)]
                return taken
        self._held = []
        return taken


def _rest(rows: Batch, start: int) -> Batch:
    rest = rows.slice(start, len(rows) - start)
    return concat_batches([rest]) if start and len(rest) * _COPIED_MAX < len(rows) else rest


def _joined(batches: list[Batch]) -> Batch:
    return batches[0] if len(batches) == 1 else concat_batches(batches)


def _first_from(rows: Batch, key: tuple[int, int]) -> int:
    """Return the first row that is not before a key."""
    code, time = key
    start = int(np.searchsorted(rows.codes, code, side="left"))
    stop = int(np.searchsorted(rows.codes, code, side="right"))
    return start + int(np.searchsorted(rows.times[start:stop], time, side="left"))
