"""Where rows come from: an SST or a part of a memtable, as something sorted that is read piece by piece.

`select_rows` climbs the ladder of what may skip, cheapest first: the table of series (tags), row-group statistics,
indexes. What it returns may match; time is cut exactly when the rows are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from mitoframe.kernels.jit import are_ready
from mitoframe.model.batch import Batch, OpType, gather, repeated, slices_of, take_fields
from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import ALWAYS, has_foreign, residual, series_mask
from mitoframe.model.rows import RowRanges
from mitoframe.read.counts import NO_COUNTS, Counts, Read
from mitoframe.read.pieces import Pieces, pieces_of
from mitoframe.storage.pages import SomeRows
from mitoframe.storage.sst_writer import PAGE_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Take
    from mitoframe.model.file import FileMeta
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.model.timerange import TimeRange
    from mitoframe.storage.sst_reader import Footer, RowGroup, SstReader


Number = TypeVar("Number", bound=np.generic)
STRETCH_ROWS = 64
"""From this length on, on the average, pieces are copied one by one."""
PAGES_TIMES = 2
"""Where a row group has this many times the pages that rows are in, these are read alone."""
RECENT_MAX = 3
"""So many row groups of a source are held for the shares that follow."""
SERIES_KEPT_MIN = 10_000
"""What is chosen of a file with so many series is remembered."""


class Source(Protocol):
    """Sorted rows. ``is_clean``: one row per key and no delete markers, so that alone it needs no merge."""

    @property
    def series(self) -> pa.RecordBatch: ...
    @property
    def pieces(self) -> Pieces: ...
    @property
    def is_clean(self) -> bool: ...

    def read(self, pieces: Pieces, wanted: TimeRange, series: pa.RecordBatch) -> Read:
        """Return some of the pieces' rows, those in a range of times. The pieces' codes point into ``series``.

        Fields are as they are kept: they may be packed (storage/sst_reader.py).
        """


def select_rows(reader: SstReader, metadata: RegionMetadata, file: FileMeta, predicate: Predicate) -> Pieces:
    """Return the rows of a file that may match. Requires: ``predicate`` is one that may skip here."""
    footer = reader.footer(metadata, file)
    if len(footer.series) < SERIES_KEPT_MIN or has_foreign(predicate):
        return _select(reader, metadata, file, footer, predicate)
    # Found in a moment where series are few, so that only many are worth remembering.
    key = metadata.schema_version, file.index, predicate
    kept: Pieces | None = reader.cache.get("selections", file.file_id, key)
    if kept is None:
        kept = _select(reader, metadata, file, footer, predicate)
        reader.cache.put("selections", file.file_id, key, kept, kept.size_bytes)
    return kept


def _select(
    reader: SstReader, metadata: RegionMetadata, file: FileMeta, footer: Footer, predicate: Predicate
) -> Pieces:
    pieces = pieces_of(footer.offsets, series_mask(predicate, footer.series))
    left = _unsettled(predicate, metadata, file)
    if left == ALWAYS or not len(pieces):
        return pieces
    touched = pieces.row_groups(footer.starts)
    row_groups = reader.matching_row_groups(metadata, file, left, touched)
    if len(row_groups) < len(touched):
        pieces = pieces.only(RowRanges.of(footer.starts[:-1][row_groups], footer.starts[1:][row_groups]))
    if reader.indexes is not None and len(pieces):
        indexed = reader.indexes.select(metadata, file, left, partial(_rows_of_tags, footer))
        if indexed is not None:
            pieces = pieces.only(indexed)
    return pieces


def _rows_of_tags(footer: Footer, predicate: Predicate) -> RowRanges | None:
    """Return the rows of the series that may match, None if tags say nothing about it."""
    mask = series_mask(predicate, footer.series)
    if mask is None:
        return None
    return RowRanges.of(footer.offsets[:-1][mask], footer.offsets[1:][mask])


def _unsettled(predicate: Predicate, metadata: RegionMetadata, file: FileMeta) -> Predicate:
    """Return the conditions that row-group statistics may add something to."""
    if file.series_count < file.row_group_count:
        return residual(predicate, metadata.tag_names, "")  # A series spans row groups: their times differ.
    return residual(predicate, metadata.tag_names, metadata.time.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Rows of an SST.

    ``recent`` holds row groups for the shares that follow; None where no row group is in two shares, because what it
    holds lives as long as the scan, for every file. Of sequences and operations those are read that ``internal`` names.
    Else every row has the file's newest sequence, and is put. That is the truth as far as a merge needs it, if the file
    has no delete markers, and the sequences of no other source are among its own.

    ``row_group_starts`` are the first row of each row group, and the number of rows.
    """

    reader: SstReader
    metadata: RegionMetadata
    file: FileMeta
    field_names: tuple[str, ...]
    pieces: Pieces
    visible: Sequence
    internal: tuple[str, ...] = ()
    recent: dict[int, RowGroup] | None = field(default=None, compare=False)
    row_group_starts: Take = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Asked for again and again; the rest of the footer may go while rows are read.
        object.__setattr__(self, "row_group_starts", self.reader.footer(self.metadata, self.file).starts)

    @property
    def series(self) -> pa.RecordBatch:
        return self.reader.footer(self.metadata, self.file).series

    @property
    def is_clean(self) -> bool:
        return self.file.level >= 0 and not self.file.delete_count

    def row_groups(self, pieces: Pieces) -> list[int]:
        """Return the row groups that hold a row of some pieces."""
        return pieces.row_groups(self.row_group_starts)

    def rows_to_decode(self, number: int, pieces: Pieces) -> int:
        """Return of how many rows a column must be decoded to read pieces that lie in one row group."""
        starts = self.row_group_starts
        some = pieces.within(int(starts[number]), int(starts[number + 1]))
        if self._is_found_by_pages(number, some):
            return _pages_touched(some) * PAGE_ROWS
        return int(starts[number + 1] - starts[number])

    def cells_to_decode(self, pieces: Pieces) -> int:
        """Return about how many values must be decoded to read some pieces."""
        starts, whole, rows = self.row_group_starts, [], 0
        for number in self.row_groups(pieces):
            count = self.rows_to_decode(number, pieces)
            if count < starts[number + 1] - starts[number]:
                rows += count
            else:
                whole.append(number)
        cells = rows * (1 + len(self.internal) + len(self.field_names))
        return cells + self.reader.cells_to_decode(self.metadata, self.file, whole, self.field_names, self.internal)

    def time_bounds(self) -> Many[tuple[int, int]]:
        """Return the first and the last time in each row group."""
        stats = self.reader.footer(self.metadata, self.file).stats(self.metadata.time)
        everything = self.file.min_time, self.file.max_time
        return [everything if of is None or of.minimum is None else (of.minimum, of.maximum) for of in stats]

    def read(self, pieces: Pieces, wanted: TimeRange, series: pa.RecordBatch) -> Read:
        starts = self.row_group_starts
        is_cut = not (wanted.holds(self.file.min_time) and wanted.holds(self.file.max_time))
        bounds = self.time_bounds() if is_cut and self.file.series_count < self.file.row_group_count else None
        parts = [
            (number, pieces.within(int(starts[number]), int(starts[number + 1])))
            for number in self.row_groups(pieces)
            if bounds is None or wanted.touches(*bounds[number])
        ]
        batches, counts = [], NO_COUNTS
        for is_by_pages, some in groupby(parts, lambda part: self._is_found_by_pages(*part)):
            for group, rows in (self._pages if is_by_pages else self._whole)(list(some), wanted if is_cut else None):
                counts += Counts(chunks_kept=group.kept, chunks_read=group.read, bytes_read=group.bytes_read)
                if len(rows):
                    batches.append(self._visible(_gathered(group, rows, series, self.file.max_sequence)))
        kept = tuple(batch for batch in batches if len(batch))
        return Read(batches=kept, counts=counts + Counts(rows_read=sum(map(len, kept))))

    def lying(self, pieces: Pieces, wanted: TimeRange) -> Iterator[tuple[int, RowGroup, Pieces]]:
        """Yield row groups: the first row, the columns, and which rows of the pieces are in it and in a range of times.

        They are counted from the first row of the row group.
        """
        bounds = self.time_bounds() if self.file.series_count < self.file.row_group_count else None
        for number in self.row_groups(pieces):
            if bounds is not None and not wanted.touches(*bounds[number]):
                continue
            group = self._row_group(number)
            first_row, end_row = self.row_group_starts[number : number + 2].tolist()
            some = pieces.within(first_row, end_row).between(group.times, wanted)
            if len(some):
                yield first_row, group, some

    def _is_found_by_pages(self, number: int, pieces: Pieces) -> bool:
        """Tell whether rows lie in few of a row group's pages, and it is not at hand."""
        if not are_ready() or (self.recent is not None and number in self.recent):
            return False  # Loading kernels takes longer than what a first question could save.
        starts = self.row_group_starts
        page_count = -(-int(starts[number + 1] - starts[number]) // PAGE_ROWS)
        return _pages_touched(pieces) * PAGES_TIMES <= page_count

    def _whole(self, parts: Many[tuple[int, Pieces]], wanted: TimeRange | None) -> Iterator[tuple[RowGroup, Pieces]]:
        """Yield row groups, each with which of its rows are wanted."""
        for number, pieces in parts:
            group = self._row_group(number)
            yield group, pieces if wanted is None else pieces.between(group.times, wanted)

    def _pages(self, parts: Many[tuple[int, Pieces]], wanted: TimeRange | None) -> Iterator[tuple[RowGroup, Pieces]]:
        """Yield of several row groups the wanted rows alone, as if they were one; nothing if there are none."""
        numbers = np.repeat([number for number, _ in parts], [len(pieces) for _, pieces in parts])
        pieces = Pieces.joined([pieces for _, pieces in parts])
        times = self.reader.some_times(self.metadata, self.file, _by_row_group(numbers, pieces))
        if wanted is not None:
            cut = pieces.gathered().between(times, wanted)
            if not len(cut):
                return
            times = _cut(times, cut.stretches())
            numbers, pieces = numbers[pieces.holding(cut)], pieces.placed(cut)
        rows = _by_row_group(numbers, pieces)
        group = self.reader.some_rows(self.metadata, self.file, rows, self.field_names, self.internal, times)
        yield group, pieces.gathered()

    def _row_group(self, number: int) -> RowGroup:
        """Read a row group, or take it from the share before, which may end where this one begins."""
        if self.recent is None:
            return self.reader.row_group(self.metadata, self.file, number, self.field_names, self.internal)
        known = self.recent.pop(number, None)
        if known is None:
            known = self.reader.row_group(self.metadata, self.file, number, self.field_names, self.internal)
        self.recent[number] = replace(known, kept=known.kept + known.read, read=0, bytes_read=0)
        for older in list(self.recent)[:-RECENT_MAX]:
            self.recent.pop(older, None)  # Several threads may be here.
        return known

    def _visible(self, batch: Batch) -> Batch:
        if self.file.max_sequence <= self.visible:
            return batch
        return batch.take(np.flatnonzero(batch.sequences <= np.uint64(self.visible)))


def _by_row_group(numbers: Take, pieces: Pieces) -> list[SomeRows]:
    """Say of pieces in several row groups, counted from the first row of each, which rows of which they are."""
    if len(numbers) == 1:
        return [SomeRows(int(numbers[0]), pieces.starts, pieces.stops)]
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return [
        SomeRows(int(numbers[first]), pieces.starts[first:last], pieces.stops[first:last])
        for first, last in pairwise(edges)
    ]


def _pages_touched(pieces: Pieces) -> int:
    """Return in about how many pages of a column rows lie."""
    return len(pieces) + pieces.row_count // PAGE_ROWS


_Way: TypeAlias = list[slice] | pa.Array
"""Which rows, as stretches or one by one."""


def _cut(values: npt.NDArray[Number], way: _Way) -> npt.NDArray[Number]:
    if isinstance(way, list):
        return values[way[0]] if len(way) == 1 else np.concatenate([values[rows] for rows in way])
    return gather(values, way)


def _gathered(group: RowGroup, pieces: Pieces, series: pa.RecordBatch, sequence: Sequence) -> Batch:
    """Return the rows of pieces that are counted from the row group's first row."""
    row_count = pieces.row_count
    way: _Way
    if pieces.is_run():
        start = int(pieces.starts[0])
        way, stored = [slice(start, start + row_count)], group.stored.slice(start, row_count)
    elif row_count >= STRETCH_ROWS * len(pieces):
        way = pieces.stretches()
        stored = slices_of(group.stored, pieces.starts, pieces.stops)
    else:
        way = pa.array(pieces.rows())
        stored = take_fields(group.stored, way)
    times = _cut(group.times, way)
    sequences = None if group.sequences is None else _cut(group.sequences, way)
    op_types = None if group.op_types is None else _cut(group.op_types, way)
    return Batch(
        series=series,
        codes=pieces.row_codes(),
        times=times,
        sequences=repeated(np.uint64(sequence), row_count) if sequences is None else sequences,
        op_types=repeated(np.uint8(OpType.PUT), row_count) if op_types is None else op_types,
        fields=group.fields(stored, as_kept=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSource:
    """Rows in memory; those of a memtable may be several versions of a key."""

    rows: Batch
    pieces: Pieces
    is_clean: bool = False

    @property
    def series(self) -> pa.RecordBatch:
        return self.rows.series

    @property
    def sequence(self) -> Sequence:
        """The sequence of one of the rows, which tells how new they are where no other source has one among theirs."""
        return Sequence(int(self.rows.sequences[0]))

    def read(self, pieces: Pieces, wanted: TimeRange, series: pa.RecordBatch) -> Read:
        some = pieces.between(self.rows.times, wanted)
        batches = (_rows_of(self.rows, some, series),) if len(some) else ()
        return Read(batches=batches, counts=Counts(rows_read=some.row_count))


def _rows_of(rows: Batch, pieces: Pieces, series: pa.RecordBatch) -> Batch:
    is_run = pieces.is_run()
    found = rows.slice(int(pieces.starts[0]), pieces.row_count) if is_run else rows.take(pieces.rows())
    return replace(found, series=series, codes=pieces.row_codes())


def can_order(ranges: Many[tuple[Sequence, Sequence]]) -> bool:
    """Tell whether sources can be told apart by age without a look at their rows' sequences: no two ranges meet."""
    ordered = sorted(ranges)
    return all(before[1] < after[0] for before, after in pairwise(ordered))


def buffer_source(rows: Batch, predicate: Predicate, *, is_clean: bool = False) -> BufferSource:
    """Choose of sorted rows those that may match."""
    offsets = np.searchsorted(rows.codes, np.arange(len(rows.series) + 1, dtype=np.int32))
    return BufferSource(rows=rows, pieces=pieces_of(offsets, series_mask(predicate, rows.series)), is_clean=is_clean)
