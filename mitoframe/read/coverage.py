"""Which times the series of a table cover, as far as metadata tells: no row of a file is read.

A series covers the range of times of each row group that holds rows of it; row groups of a file that touch are one
`Stretch`. A row group of few series says nothing of gaps within it. Rows in memory are told exactly to their ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mitoframe.model.ids import Sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import Column
    from mitoframe.region.control import Snapshot
    from mitoframe.storage.sst_reader import Footer, SstReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Of one file, or of memory if there is none: which values of a tag cover which times, both included.

    One entry per stretch: they lie value by value and by time, and no two of a value touch. ``min_sequence`` is that of
    the oldest row of the file or memtable.
    """

    file: FileMeta | None
    min_sequence: Sequence
    values: pa.Array
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    row_counts: npt.NDArray[np.int64]


def coverage_by(snapshot: Snapshot, reader: SstReader, tag: str, told: Callable[[int], None]) -> Iterator[Stretch]:
    """Yield what each file and memtable covers, by the values of a tag. Opens the footers of all files.

    ``told`` gets how many files have been looked at.
    """
    version = snapshot.version
    time = version.state.metadata.time
    for number, file in enumerate(version.state.files.values(), 1):
        footer = reader.footer(version.state.metadata, file)
        values = footer.series.column(tag)
        yield _of_row_groups(file, footer, values, time) if file.row_group_count > 1 else _of_one(file, footer, values)
        told(number)
    for memtable in version.memtables:
        rows = memtable.sorted(snapshot.visible)
        if rows is not None:
            yield _of_batch(rows, tag)


def _of_one(file: FileMeta, footer: Footer, tags: pa.Array) -> Stretch:
    """Every value of a file of one row group covers what the file covers."""
    encoded = tags.dictionary_encode(null_encoding="encode")
    count = len(encoded.dictionary)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return Stretch(
        file=file,
        min_sequence=file.min_sequence,
        values=encoded.dictionary,
        starts=np.full(count, file.min_time),
        ends=np.full(count, file.max_time),
        row_counts=np.bincount(codes, np.diff(footer.offsets), count).astype(np.int64),
    )


def _of_row_groups(file: FileMeta, footer: Footer, tags: pa.Array, time: Column) -> Stretch:
    bounds = [
        (file.min_time, file.max_time) if of is None or of.minimum is None else (of.minimum, of.maximum)
        for of in footer.stats(time)
    ]
    cuts = np.unique(np.concatenate([footer.offsets, footer.starts]))
    first_rows, row_counts = cuts[:-1], np.diff(cuts)
    series = np.searchsorted(footer.offsets, first_rows, side="right") - 1
    groups = np.searchsorted(footer.starts, first_rows, side="right") - 1
    starts, ends = np.array(bounds, dtype=np.int64).reshape(-1, 2)[groups].T
    return _joined(file, file.min_sequence, tags, series, starts, ends, row_counts)


def _of_batch(rows: Batch, tag: str) -> Stretch:
    first_rows = np.flatnonzero(np.diff(rows.codes, prepend=-1))
    end_rows = np.append(first_rows[1:], len(rows))
    series = rows.codes[first_rows].astype(np.int64)
    starts, ends = rows.times[first_rows], rows.times[end_rows - 1]
    oldest = Sequence(int(rows.sequences.min()))
    return _joined(None, oldest, rows.series.column(tag), series, starts, ends, end_rows - first_rows)


def _joined(
    file: FileMeta | None,
    min_sequence: Sequence,
    tags: pa.Array,
    series: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    row_counts: npt.NDArray[np.int64],
) -> Stretch:
    """Put what touches together, value by value."""
    encoded = tags.dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False)[series]
    order = np.lexsort([starts, codes])
    codes, starts, ends = codes[order], starts[order], ends[order]
    is_first = np.ones(len(order), dtype=bool)
    furthest = 0
    for at, (code, start, end) in enumerate(zip(codes.tolist(), starts.tolist(), ends.tolist(), strict=True)):
        is_first[at] = at == 0 or code != codes[at - 1] or start > furthest
        furthest = end if is_first[at] else max(furthest, end)
    first = np.flatnonzero(is_first)
    return Stretch(
        file=file,
        min_sequence=min_sequence,
        values=encoded.dictionary.take(pa.array(codes[first])),
        starts=starts[first],
        ends=np.maximum.reduceat(ends, first),
        row_counts=np.add.reduceat(row_counts[order], first),
    )
