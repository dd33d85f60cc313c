"""Rows of any number, sorted straight into SSTs: history that is loaded in one go needs no log and no memtable.

Batches are gathered up to a budget, sorted once, and written window by window, each file within whole windows and
about as large as asked for. Of rows that come in the order of time, as history does, every window is written once; of
rows that come in another order, a window gets a file from each budget's worth, and compaction merges them later.

The files are as compaction would make them, and count as its own. They are in no version until their edit is
committed, all at once. Their sequences begin at 1; the edit places them after all there are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mitoframe.model.file import LEVEL_COMPACTED
from mitoframe.model.ids import Sequence
from mitoframe.storage.runs import sort_rows_of
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.runs import SortedRows

FILE_ROWS_MIN = 100_000
"""Neighbouring windows with fewer rows share a file."""
BYTES_PER_ROW_AT_FIRST = 32
"""What a stored row takes, as long as no file tells."""


class Stored(Protocol):
    """A file that is being stored."""

    def result(self) -> FileMeta:
        """Wait for it; raises what went wrong."""


class Backfill:
    """Gathers, sorts and stores. ``submit`` runs a job that stores a file, here or elsewhere; errors come from it."""

    def __init__(
        self,
        metadata: RegionMetadata,
        *,
        dedup: Dedup,
        width: int,
        store: ObjectStore,
        new_file_id: Callable[[], FileId],
        submit: Callable[[Callable[[], FileMeta]], Stored],
        buffer_bytes: int,
        file_bytes: int,
        row_group_rows: int,
        now_ms: int,
    ) -> None:
        """``width`` is that of a window, in the time column's unit."""
        self._metadata, self._dedup, self._width = metadata, dedup, width
        self._store, self._new_file_id, self._submit = store, new_file_id, submit
        self._buffer_bytes, self._file_bytes = buffer_bytes, file_bytes
        self._row_group_rows, self._now_ms = row_group_rows, now_ms
        self._gathered: list[Batch] = []
        self._gathered_bytes = 0
        self._jobs: list[Stored] = []
        self._files: list[FileMeta] = []
        self.row_count = 0

    def add(self, batch: Batch) -> None:
        """Take more rows. Their memory may be the caller's: it is read until this or a later call returns."""
        self._gathered.append(batch.with_sequence(Sequence(self.row_count + 1)))
        self._gathered_bytes += batch.size_bytes
        self.row_count += len(batch)
        if self._gathered_bytes >= self._buffer_bytes:
            self._store_gathered(everything=False)

    def finish(self) -> tuple[FileMeta, ...]:
        """Store what is left and return all files, at no place in the region's sequence yet."""
        if self._gathered:
            self._store_gathered(everything=True)
        self._collect()
        return tuple(self._files)

    def _store_gathered(self, *, everything: bool) -> None:
        """Sort what was gathered and store it; the newest window is kept for what may come, unless all must go."""
        self._collect()
        batches, self._gathered, self._gathered_bytes = self._gathered, [], 0
        if not everything:
            batches = self._keep_newest_window(batches)
        rows = sort_rows_of(batches, self._dedup)
        for part in self._per_file(rows):
            job = partial(self._write, part, self._new_file_id())
            self._jobs.append(self._submit(job))

    def _keep_newest_window(self, batches: list[Batch]) -> list[Batch]:
        newest = max(int(batch.times.max()) for batch in batches)
        start = newest // self._width * self._width
        later = [batch.times >= start for batch in batches]
        held = sum(
            _size_of_some(batch, int(np.count_nonzero(mask))) for batch, mask in zip(batches, later, strict=True)
        )
        if held * 2 > self._buffer_bytes or all(mask.all() for mask in later):
            return batches  # A window larger than what can be gathered.
        kept, now = [], []
        for batch, mask in zip(batches, later, strict=True):
            if mask.all():
                kept.append(batch)
            elif not mask.any():
                now.append(batch)
            else:
                kept.append(batch.take(np.nonzero(mask)[0]))
                now.append(batch.take(np.nonzero(~mask)[0]))
        self._gathered, self._gathered_bytes = kept, sum(batch.size_bytes for batch in kept)
        return now

    def _per_file(self, rows: SortedRows) -> Iterator[SortedRows]:
        """Split sorted rows by time, so that no two files of one sort have a time in common."""
        times = rows.times
        for first, last in cuts(times, self._width, FILE_ROWS_MIN, self._file_rows()):
            inside = (times >= first) & (times <= last)
            yield rows if inside.all() else rows.chosen(np.nonzero(inside)[0])

    def _file_rows(self) -> int:
        size = sum(file.size_bytes for file in self._files)
        count = sum(file.row_count for file in self._files)
        return rows_per_file(self._file_bytes, max(size / count, 1) if count else BYTES_PER_ROW_AT_FIRST)

    def _write(self, rows: SortedRows, file_id: FileId) -> FileMeta:
        return write_sst(
            self._store,
            self._metadata,
            rows,
            file_id=file_id,
            level=LEVEL_COMPACTED,
            row_group_rows=self._row_group_rows,
            created_ms=self._now_ms,
        )

    def _collect(self) -> None:
        """Wait for the files being stored: no more than one budget's worth is under way."""
        jobs, self._jobs = self._jobs, []
        self._files += [job.result() for job in jobs]


def _size_of_some(batch: Batch, row_count: int) -> int:
    """Return about how many bytes some rows of a batch take when they are taken out: all its series go with them."""
    if not row_count:
        return 0
    series_bytes = int(batch.series.get_total_buffer_size())
    return series_bytes + (batch.size_bytes - series_bytes) * row_count // len(batch)


def rows_per_file(file_bytes: int, bytes_per_row: float = BYTES_PER_ROW_AT_FIRST) -> int:
    """Return how many rows make a file of about that size."""
    return max(int(file_bytes / bytes_per_row), FILE_ROWS_MIN)


def cuts(times: npt.NDArray[np.int64], width: int, rows_min: int, rows_max: int) -> Iterator[tuple[int, int]]:
    """Return closed intervals of time that hold all of them, each of at most ``rows_max`` rows where times allow it.

    Cuts are at multiples of ``width``, where that gives files of at least ``rows_min`` rows; a window with more than
    ``rows_max`` rows is cut within.
    """
    ordered = np.sort(times)
    at = 0
    while at < len(ordered):
        stop = _window_stop(ordered, at, width)
        while stop < len(ordered) and stop - at < rows_min:
            stop = _window_stop(ordered, stop, width)
        if stop - at > rows_max:
            stop = int(np.searchsorted(ordered, ordered[at + rows_max - 1], side="right"))
        yield int(ordered[at]), int(ordered[stop - 1])
        at = stop


def _window_stop(ordered: npt.NDArray[np.int64], at: int, width: int) -> int:
    """Return the first row after the window of row ``at``."""
    last = (int(ordered[at]) // width + 1) * width - 1
    return int(np.searchsorted(ordered, last, side="right"))
