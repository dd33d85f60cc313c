"""SSTs without some of their rows: for exchanging a time range, and for taking a write back where keys repeat.

What is known of a file tells whether it loses all its rows, maybe some, or none; it is read only where it may be some:
twice, a row group at a time, the keys of all rows first, to know which stay, then the rows that do. Rows keep their
sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mitoframe.model.timerange import TIME_MAX
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt
    import pyarrow as pa

    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, Sequence
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.model.timerange import TimeRange
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.sst_reader import SstReader

    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What to exchange. ``removed`` files lose ``row_count`` rows; ``added`` hold what is left of them."""

    removed: tuple[FileMeta, ...]
    added: tuple[FileMeta, ...]
    row_count: int


class RowsGoing(Protocol):
    """Which rows go."""

    def holds(self, file: FileMeta) -> bool:
        """Tell whether all rows of a file go."""

    def touches(self, file: FileMeta) -> bool:
        """Tell whether any row of a file may go."""

    def of(self, rows: Batch) -> Mask:
        """Tell which of some rows go. They come without fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsInTime:
    """Rows whose time is in one of some ranges."""

    ranges: tuple[TimeRange, ...]

    def holds(self, file: FileMeta) -> bool:
        return any(span.holds(file.min_time) and span.holds(file.max_time) for span in self.ranges)

    def touches(self, file: FileMeta) -> bool:
        return any(span.touches(file.min_time, file.max_time) for span in self.ranges)

    def of(self, rows: Batch) -> Mask:
        return self.of_times(rows.times)

    def of_times(self, times: npt.NDArray[np.int64]) -> Mask:
        found = np.zeros(len(times), dtype=np.bool_)
        for span in self.ranges:
            found |= (times >= span.start) & ((times < span.end) | (span.end == TIME_MAX))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOfWrite:
    """Rows with the sequences of one write, both ends included."""

    first: Sequence
    last: Sequence

    def holds(self, file: FileMeta) -> bool:
        return self.first <= file.min_sequence and file.max_sequence <= self.last

    def touches(self, file: FileMeta) -> bool:
        return file.min_sequence <= self.last and file.max_sequence >= self.first

    def of(self, rows: Batch) -> Mask:
        return (rows.sequences >= np.uint64(self.first)) & (rows.sequences <= np.uint64(self.last))


def rewrite_files(
    metadata: RegionMetadata,
    files: Iterable[FileMeta],
    going: RowsGoing,
    *,
    store: ObjectStore,
    reader: SstReader,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
) -> Rewritten:
    """Store what stays of each file. Files that keep every row are left alone, and the inputs stay as they are."""
    removed: list[FileMeta] = []
    added: list[FileMeta] = []
    row_count = 0
    for file in files:
        if not going.touches(file):
            continue
        if going.holds(file):
            removed.append(file)
            row_count += file.row_count
            continue
        kept = _KeptRows(metadata, file, going, reader)
        if len(kept) == file.row_count:
            continue
        removed.append(file)
        row_count += file.row_count - len(kept)
        if len(kept):
            added.append(
                write_sst(
                    store,
                    metadata,
                    kept,
                    file_id=new_file_id(),
                    level=file.level,
                    row_group_rows=row_group_rows,
                    created_ms=now_ms,
                )
            )
    return Rewritten(removed=tuple(removed), added=tuple(added), row_count=row_count)


class _KeptRows:
    """The rows of a file that stay, as `Rows`."""

    def __init__(self, metadata: RegionMetadata, file: FileMeta, going: RowsGoing, reader: SstReader) -> None:
        self._metadata, self._file, self._reader = metadata, file, reader
        self._masks = [~going.of(reader.read(metadata, file, [number], [])) for number in range(file.row_group_count)]
        self._row_count = sum(int(np.count_nonzero(mask)) for mask in self._masks)

    @property
    def series(self) -> pa.RecordBatch:
        return self._reader.footer(self._metadata, self._file).series

    def __len__(self) -> int:
        return self._row_count

    def fields_with_nulls(self) -> set[str]:
        """Name the fields that may hold a null: nobody has looked."""
        return {field.name for field in self._metadata.fields}

    def slices(self, rows_max: int) -> Iterator[Batch]:
        names = [field.name for field in self._metadata.fields]
        for number, mask in enumerate(self._masks):
            if mask.any():
                rows = self._reader.read(self._metadata, self._file, [number], names)
                yield from (rows if mask.all() else rows.take(np.nonzero(mask)[0])).slices(rows_max)
