"""What becomes one output of a merge, and how much memory making it takes.

Outputs are cut before anything is read, by what the footers of the inputs tell, so that they can be made in any order
and at once: between series, and a series that is too long for one output by time. No key is in two of them. What a
merge leaves of its inputs is less than they take, by the versions that go, and by packing; so an output is about as
large as it may be, or smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mitoframe.jobs.strict import inputs_of
from mitoframe.model.file import BLOCK_BYTES
from mitoframe.model.timerange import EVERYTHING, TimeRange
from mitoframe.read.merging import FETCHED_MAX_BYTES, ROWS_HELD, ROWS_READ_MIN, Extent
from mitoframe.storage.sst_writer import PAGE_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.jobs.tasks import CompactionTask
    from mitoframe.model.file import FileMeta
    from mitoframe.read.merging import FilesToMerge

    Sizes = npt.NDArray[np.float64]

OUTPUTS_MAX = 1000
"""A window has no more outputs than this, however small they should be."""
HELD_BYTES = 64 * 1024 * 1024
"""Rows that are read and not merged take about this much: of wide tables, fewer are held."""
_KEY_BYTES = 4 + 8 + 8 + 1
_COPIES = 4
"""Rows are in memory so many times: as read, as merged, as encoded, and what was freed and is kept for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a merge is cut into: ``extents`` become an output each, if there is a row in them.

    ``each_bytes`` is about how much memory making one of them takes.
    """

    extents: tuple[Extent, ...]
    each_bytes: int

    def helper_count(self, helpers_max: int, memory_max_bytes: int) -> int:
        """Return how many may help, so that all together take no more than that."""
        return max(min(helpers_max, len(self.extents) - 1, memory_max_bytes // self.each_bytes - 1), 0)

    def memory_bytes(self, helper_count: int) -> int:
        """Return about how much memory the merge takes with so many helpers."""
        return self.each_bytes * (1 + helper_count)


def outputs_of(inputs: FilesToMerge, task: CompactionTask, row_group_rows: int) -> Outputs:
    """Cut a merge into outputs. The same inputs are cut alike wherever that is done."""
    extents = tuple(extents_of(inputs, task))
    most = max((inputs.files_with(extent) for extent in extents), key=len, default=[])
    return Outputs(extents=extents, each_bytes=output_memory_bytes(inputs, most, row_group_rows))


def extents_of(inputs: FilesToMerge, task: CompactionTask) -> Iterator[Extent]:
    """Yield what becomes an output each, if there is a row in it. Together they hold every row that is to stay."""
    for window in task.output_windows or (EVERYTHING,):
        files = inputs_of(task, window)
        if files:
            yield from _cut(inputs, files, window, task.output_size_max_bytes)


def _cut(
    inputs: FilesToMerge, files: Many[FileMeta], window: TimeRange, size_max_bytes: int | None
) -> Iterator[Extent]:
    sizes = _sizes_of_series(inputs, files, window)
    ends = np.cumsum(sizes)
    total = float(ends[-1])
    most = total if size_max_bytes is None else max(size_max_bytes, 2 * total / OUTPUTS_MAX)
    if total <= most:
        yield Extent(first=0, last=len(sizes), times=window)
        return
    each = total / ceil(total / most)
    first = 0
    while first < len(sizes):
        before = float(ends[first - 1]) if first else 0.0
        last = min(int(np.searchsorted(ends, before + each)) + 1, len(sizes))
        if last - first > 1 and ends[last - 1] - before > most:
            last -= 1
        extent = Extent(first=first, last=last, times=window)
        pieces = ceil(float(ends[last - 1] - before) / most) if last - first == 1 else 1
        yield from _cut_by_time(inputs, files, extent, pieces) if pieces > 1 else (extent,)
        first = last


def _sizes_of_series(inputs: FilesToMerge, files: Many[FileMeta], window: TimeRange) -> Sizes:
    """Return about how many bytes each series takes in some files, at the times of a window."""
    sizes = np.zeros(len(inputs.series), dtype=np.float64)
    for file in files:
        footer = inputs.reader.footer(inputs.metadata, file)
        before = np.concatenate([[0.0], np.cumsum(_unpacked_sizes(inputs, file), dtype=np.float64)])
        before *= file.size_bytes * _share(file, window) / before[-1]
        sizes[inputs.ranks[file.file_id]] += np.diff(np.interp(footer.offsets, footer.starts, before))
    return sizes


def _share(file: FileMeta, window: TimeRange) -> float:
    """Return about which part of a file lies in a window."""
    first, last = max(file.min_time, window.start), min(file.max_time, window.last)
    return (last - first + 1) / (file.max_time - file.min_time + 1)


def _cut_by_time(inputs: FilesToMerge, files: Many[FileMeta], extent: Extent, pieces: int) -> Iterator[Extent]:
    """Cut a series where row groups begin, into about so many pieces."""
    begun = sorted(each for file in files for each in _row_groups(inputs, file, extent))
    rows = np.array([count for _, count in begun], dtype=np.int64)
    which = (np.cumsum(rows) - rows) * pieces // max(int(rows.sum()), 1)
    cuts = {begun[at][0] for at in np.flatnonzero(np.diff(which)) + 1}
    inside = sorted(time for time in cuts if extent.times.start < time < extent.times.end)
    for start, end in pairwise([extent.times.start, *inside, extent.times.end]):
        yield Extent(first=extent.first, last=extent.last, times=TimeRange(start, end))


def _row_groups(inputs: FilesToMerge, file: FileMeta, extent: Extent) -> Iterator[tuple[int, int]]:
    """Yield the first time of each row group that has rows of an extent, and how many."""
    footer = inputs.reader.footer(inputs.metadata, file)
    bounds = footer.stats(inputs.metadata.time)
    wanted = inputs.rows_of(file, extent)
    for of, start, stop in zip(bounds, footer.starts[:-1].tolist(), footer.starts[1:].tolist(), strict=True):
        count = min(stop, wanted.stop) - max(start, wanted.start)
        if count > 0 and of is not None and of.minimum is not None:
            yield of.minimum, count


# --- memory ---------------------------------------------------------------------------------------------


def rows_held(inputs: FilesToMerge) -> int:
    """Return how many rows a merge may hold."""
    return max(1, min(ROWS_HELD, HELD_BYTES // _row_bytes(inputs)))


def output_memory_bytes(inputs: FilesToMerge, files: Many[FileMeta], row_group_rows: int) -> int:
    """Return about how much memory making an output of some files takes, whatever their size.

    Text that repeats is counted as if it were stored once.
    """
    count, row_bytes = len(files), _row_bytes(inputs)
    held = max(rows_held(inputs), count * min(rows_held(inputs), ROWS_READ_MIN))
    fetched = min(sum(file.size_bytes // file.row_group_count for file in files), FETCHED_MAX_BYTES)
    pages = sum(int(_stored_row_bytes(inputs, file) * PAGE_ROWS) for file in files)
    rows = (held + row_group_rows) * row_bytes * _COPIES
    return rows + fetched + pages + 2 * BLOCK_BYTES + int(inputs.series.nbytes)


def _row_bytes(inputs: FilesToMerge) -> int:
    """Return how many bytes a row takes in memory."""
    widths = [_width(field.type) for field in inputs.metadata.fields]
    fixed = _KEY_BYTES + sum(width for width in widths if width is not None)
    texts = widths.count(None)
    if not texts:
        return fixed
    return fixed + 8 * texts + int(max(_stored_row_bytes(inputs, file) for file in inputs.files))


def _width(data_type: pa.DataType) -> int | None:
    """Return how many bytes a value takes, None if that depends on the value."""
    is_fixed = pa.types.is_primitive(data_type) or pa.types.is_decimal(data_type)
    return max(data_type.bit_width // 8, 1) if is_fixed else None


def _stored_row_bytes(inputs: FilesToMerge, file: FileMeta) -> float:
    """Return how many bytes a row takes in a file when they are unpacked."""
    return sum(_unpacked_sizes(inputs, file)) / file.row_count


def _unpacked_sizes(inputs: FilesToMerge, file: FileMeta) -> list[int]:
    """Return how many bytes each row group takes when it is unpacked; values that repeat may be listed once."""
    parquet = inputs.reader.footer(inputs.metadata, file).parquet
    return [parquet.row_group(number).total_byte_size for number in range(file.row_group_count)]
