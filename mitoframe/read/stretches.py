"""Rows that are looked at where they lie: pieces of the decoded columns of a row group.

To make a `Batch`, rows are cut out of columns, unpacked, and their codes laid beside them. Whoever walks the runs of
rows of a series needs none of this: `Stretches` say where the rows are, in columns as they are kept, which may be
packed (storage/sst_reader.py) and hold other rows as well.

`looks` divides a plan as `scanner.jobs` does. A file comes as stretches where its rows need no merge and no condition
beside tags and times, and where what must be decoded for it is wanted, or kept already; else, as all that is merged, in
batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from mitoframe.kernels.aggregate import pieces_within
from mitoframe.model.predicate import ALWAYS
from mitoframe.read.apart import lying_apart, newest_of_group
from mitoframe.read.counts import Counts
from mitoframe.read.pieces import Pieces
from mitoframe.read.scanner import Filter, filter_of
from mitoframe.read.shares import cut_file, divide, field_names, file_source, internal_names
from mitoframe.read.sources import select_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Sequence as Many

    import pyarrow as pa

    from mitoframe.model.batch import Batch, Times
    from mitoframe.model.ids import Sequence
    from mitoframe.model.timerange import TimeRange
    from mitoframe.read.plan import ScanPlan
    from mitoframe.read.shares import Share
    from mitoframe.read.sources import BufferSource, FileSource
    from mitoframe.storage.sst_reader import SstReader

    Told = Callable[[Counts], None]

WANTED_MIN = 0.5
"""Row groups are decoded whole if so much of them is asked for."""
LOOK_ROWS = 1_048_576
"""About so many rows are looked at in one go, where they are kept: to hand work to a thread takes its time."""
LOOK_ROW_GROUPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """Sorted rows, one per key: those of ``pieces`` in ``times`` and ``fields``, all with one ``sequence``.

    Codes of pieces are rows of ``series``. There is a row. Columns of ``fields`` may be packed.
    """

    series: pa.RecordBatch
    pieces: Pieces
    times: Times
    fields: pa.RecordBatch
    sequence: Sequence


Looked: TypeAlias = "Iterable[Batch | Stretches]"
"""Rows in any number of parts, none of them empty; to be drawn where they were asked for."""
Look: TypeAlias = "Callable[[], Looked]"


def looks(plan: ScanPlan, reader: SstReader, columns: Many[str], told: Told) -> Iterator[Look]:
    """Yield what reads the rows of a plan, all conditions applied; in any order, side by side.

    ``told`` gets what was counted, from whoever reads.
    """
    condition = filter_of(plan)
    needed = condition.with_columns(columns)
    lying: list[FileSource] = []
    shares: list[Share] = []
    for source in _alone(plan, reader, needed):
        if condition.predicate == ALWAYS and _lies_at_hand(source, plan.time_range):
            lying.append(source)
        else:
            shares += cut_file(plan, source)
    merged = []
    for group in plan.groups:
        newest = newest_of_group(plan, group, reader, columns) if condition.predicate == ALWAYS else None
        if newest is None:
            merged.append(group)
            continue
        told(Counts(rows_read=newest.hidden, rows_shadowed=newest.hidden))
        lying += newest.files
        for buffer in newest.buffered:
            yield partial(_look_at_buffer, buffer, plan.time_range, told)
    for share in chain(divide(replace(plan, direct=(), groups=tuple(merged)), reader, needed), shares):
        yield partial(_read, plan, share, condition, told)
    for source in lying:
        for numbers in _bundles(source, plan.time_range):
            yield partial(_look, source, numbers, plan.time_range, told)


def _read(plan: ScanPlan, share: Share, condition: Filter, told: Told) -> Looked:
    apart = lying_apart(share) if condition.predicate == ALWAYS else None
    if apart is not None:
        told(apart.counts)
        return [
            Stretches(
                series=share.series, pieces=each.pieces, times=each.times, fields=each.fields, sequence=each.sequence
            )
            for each in apart.parts
        ]
    found = share.read(condition.of(plan.metadata), as_kept=True)
    rows = found.rows
    told(found.counts + Counts(rows_returned=0 if rows is None else len(rows)))
    return (rows,) if rows is not None and len(rows) else ()


# --- what lies where it can be looked at ---------------------------------------------------------------------


def _alone(plan: ScanPlan, reader: SstReader, columns: Many[str]) -> Iterator[FileSource]:
    """Yield the files that stand alone, and what of them may match."""
    fields, internal = field_names(plan, columns), internal_names(columns)
    for file in plan.direct:
        pieces = select_rows(reader, plan.metadata, file, plan.predicate)
        yield file_source(plan, file, reader, fields, pieces, internal)


def _lies_at_hand(source: FileSource, wanted: TimeRange) -> bool:
    """Tell whether most of what would be decoded is asked for, or nothing must be decoded."""
    if source.internal:
        return False
    starts, numbers = source.row_group_starts, source.row_groups(source.pieces)
    decoded = sum(int(starts[number + 1] - starts[number]) for number in numbers)
    is_wanted = source.pieces.row_count * _part_of_time(source, wanted) >= WANTED_MIN * decoded
    return is_wanted or _are_kept(source, numbers)


def _part_of_time(source: FileSource, wanted: TimeRange) -> float:
    first, last = source.file.min_time, source.file.max_time
    return max(min(last + 1, wanted.end) - max(first, wanted.start), 0) / (last + 1 - first)


def _are_kept(source: FileSource, numbers: Many[int]) -> bool:
    fields, internal = source.field_names, source.internal
    if not source.reader.cache.holds_any("chunks", source.file.file_id):
        return False
    return not source.reader.cells_to_decode(source.metadata, source.file, numbers, fields, internal)


def _bundles(source: FileSource, wanted: TimeRange) -> Iterator[list[int]]:
    """Yield row groups to be looked at in one go: as they are decoded, or several of those that are kept."""
    numbers = source.row_groups(source.pieces)
    if len(numbers) < 2:
        yield numbers
        return
    rows_each = source.pieces.row_count * _part_of_time(source, wanted) / len(numbers)
    count = min(LOOK_ROW_GROUPS, max(1, int(LOOK_ROWS / max(rows_each, 1)))) if _are_kept(source, numbers) else 1
    yield from (numbers[at : at + count] for at in range(0, len(numbers), count))


# --- looking ---------------------------------------------------------------------------------------------------


def _look(source: FileSource, numbers: Many[int], wanted: TimeRange, told: Told) -> Iterator[Stretches]:
    file, series = source.file, source.series
    is_cut = not (wanted.holds(file.min_time) and wanted.holds(file.max_time))
    bounds = source.time_bounds() if is_cut and file.series_count < file.row_group_count else None
    kept = read = bytes_read = rows = 0
    for number in numbers:
        if bounds is not None and not wanted.touches(*bounds[number]):
            continue
        group = source.reader.row_group(source.metadata, file, number, source.field_names, source.internal)
        kept, read, bytes_read = kept + group.kept, read + group.read, bytes_read + group.bytes_read
        pieces = _pieces_in(source, number, group.times, wanted)
        if len(pieces):
            rows += pieces.row_count
            fields = group.fields(group.stored, as_kept=True)
            yield Stretches(series=series, pieces=pieces, times=group.times, fields=fields, sequence=file.max_sequence)
    told(Counts(chunks_kept=kept, chunks_read=read, bytes_read=bytes_read, rows_read=rows, rows_returned=rows))


def _look_at_buffer(source: BufferSource, wanted: TimeRange, told: Told) -> Looked:
    rows = source.rows
    pieces = source.pieces.between(rows.times, wanted)
    told(Counts(rows_read=pieces.row_count, rows_returned=pieces.row_count))
    if not len(pieces):
        return ()
    sequence, series = source.sequence, source.series
    return [Stretches(series=series, pieces=pieces, times=rows.times, fields=rows.fields, sequence=sequence)]


def _pieces_in(source: FileSource, number: int, times: Times, wanted: TimeRange) -> Pieces:
    """Return the pieces in a row group, counted from its first row, without the rows of other times."""
    first_row, end_row = source.row_group_starts[number : number + 2].tolist()
    pieces = source.pieces
    which, starts, stops = pieces_within(
        pieces.starts, pieces.stops, first_row, end_row, times, wanted.start, wanted.last
    )
    return Pieces(codes=pieces.codes[which], starts=starts, stops=stops)
