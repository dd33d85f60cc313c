"""Divides a `ScanPlan` into shares, each a piece of work of bounded size that reads final rows.

A file that is read as it is gives a share for every so many rows. A group that is merged is cut by series, and a
series that is too long for one share by time: each share takes from every source the rows of the same series and
times, so no key is in two of them, and shares can be read in any order, at once, and given up half-way. What is in
memory is what the shares under way hold. Within a share: cut at the visible sequence, merge, keep the newest row of
each key, drop deleted keys; where only one source has rows there, they pass as they are.

Conditions on tags and time have been applied exactly when rows come out of a share, all others not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.model.predicate import ALWAYS, columns_of, key_part
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN
from mitoframe.model.timerange import TimeRange
from mitoframe.read.counts import NO_COUNTS, Counts, Found
from mitoframe.read.plan import MergeGroup
from mitoframe.read.sources import FileSource, Source, buffer_source, can_order, select_rows
from mitoframe.storage.runs import joined_parts, merge_coded_parts
from mitoframe.storage.series import unify
from mitoframe.storage.sst_reader import packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Batch, Codes, Take
    from mitoframe.model.file import FileMeta
    from mitoframe.model.options import Dedup
    from mitoframe.read.counts import Read
    from mitoframe.read.pieces import Pieces
    from mitoframe.read.plan import ScanPlan
    from mitoframe.storage.runs import SortedRows
    from mitoframe.storage.sst_reader import SstReader

SHARE_ROWS = 262_144
"""About how many rows a share reads, of all its sources together."""
BUFFERED_PACKED_MIN = 65_536
"""From so many rows on, those of a memtable are packed for a merge with files."""
FEW_ROWS = 1_048_576
"""So many rows are handed over in memory."""
FEW_CELLS = 1_200_000
"""Where more values than this must be decoded, Polars is faster, if it can read the files as they are."""


class Condition(Protocol):
    """What rows must meet, and the columns that it looks at."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    def matching(self, rows: Batch) -> Take | None:
        """Return which rows match, None if all do. Fields may be packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Pieces of one source, with codes that point into the series of the share."""

    source: Source
    pieces: Pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a scan. Without ``versions`` the sequences and operations of merged rows are not gathered."""

    parts: tuple[Part, ...]
    series: pa.RecordBatch
    wanted: TimeRange
    dedup: Dedup
    versions: bool

    @property
    def row_count(self) -> int:
        """An upper bound of its rows, before anything but tags was looked at."""
        return sum(part.pieces.row_count for part in self.parts)

    def read(self, condition: Condition | None = None, *, as_kept: bool = False) -> Found:
        """Return the rows that meet a condition, sorted, one per key, none deleted.

        What the condition looks at is put together first, and the rest for the rows that meet it alone. Which version
        of a key counts is settled before. Fields ``as_kept`` may be packed (storage/sst_reader.py).
        """
        found = self._read(condition)
        return found if as_kept or found.rows is None else replace(found, rows=_unpacked(found.rows))

    def _read(self, condition: Condition | None) -> Found:
        read = [part.source.read(part.pieces, self.wanted, self.series) for part in self.parts]
        counts = sum((each.counts for each in read), NO_COUNTS)
        runs = [each.batches for each in read if each.batches]
        if not runs:
            return Found(rows=None, counts=counts)
        if len(runs) == 1 and self._is_clean(read):
            return Found(rows=_chosen(joined_parts(runs[0]), condition), counts=counts)
        merged = merge_coded_parts(runs, self.dedup, drop_deletes=True)
        shadowed = Counts(rows_shadowed=counts.rows_read - len(merged))
        if condition is not None and len(merged):
            merged = self._matching(merged, condition)
        rows = merged.gather(versions=self.versions) if len(merged) else None
        return Found(rows=rows, counts=counts + shadowed)

    def _matching(self, merged: SortedRows, condition: Condition) -> SortedRows:
        fields = [name for name in condition.columns if name in merged.pile.field_names]
        looked_at = merged.select_fields(fields)
        keys = len(fields) < len(condition.columns)
        matching = condition.matching(looked_at.gather(versions=self.versions and keys, keys=keys))
        return merged if matching is None else merged.chosen(matching)

    def _is_clean(self, read: Many[Read]) -> bool:
        return all(part.source.is_clean for part, each in zip(self.parts, read, strict=True) if each.batches)

    def known_rows(self) -> int | None:
        """Return how many rows there are, if that is known without reading them."""
        [*others, part] = self.parts
        source = part.source
        if (
            others
            or not source.is_clean
            or not isinstance(source, FileSource)
            or source.file.max_sequence > source.visible
        ):
            return None
        within = self.wanted.holds(source.file.min_time) and self.wanted.holds(source.file.max_time)
        return part.pieces.row_count if within else None


def _chosen(rows: Batch, condition: Condition | None) -> Batch | None:
    matching = None if condition is None else condition.matching(rows)
    if matching is None:
        return rows
    return rows.take(matching) if len(matching) else None


def _packed(rows: Batch) -> Batch:
    return _with_columns(rows, list(map(packed, rows.fields.columns)))


def _unpacked(rows: Batch) -> Batch:
    if not any(pa.types.is_dictionary(column.type) for column in rows.fields.columns):
        return rows
    return _with_columns(rows, list(map(unpacked, rows.fields.columns)))


def _with_columns(rows: Batch, columns: list[pa.Array]) -> Batch:
    if not columns:
        return rows
    return replace(rows, fields=pa.RecordBatch.from_arrays(columns, names=rows.fields.schema.names))


def divide(plan: ScanPlan, reader: SstReader, columns: Many[str]) -> Iterator[Share]:
    """Yield the shares of a plan, which read the named columns. Opens footers on the way, reads no rows of files.

    Nobody should hold those that are done: what a share has read may be kept in it for the next.
    """
    fields, internal = field_names(plan, columns), internal_names(columns)
    if plan.request.distribution == "series":
        yield from cut_group(plan, _all_sources(plan, reader, columns), columns)
        return
    for group in plan.groups:
        yield from cut_group(plan, sources_of(plan, group, reader, columns), columns)
    for file in plan.direct:
        pieces = select_rows(reader, plan.metadata, file, plan.predicate)
        yield from cut_file(plan, file_source(plan, file, reader, fields, pieces, internal))


def few_shares(plan: ScanPlan, reader: SstReader, columns: Many[str]) -> list[Share] | None:
    """Return the shares of a plan if they hold few rows, else None."""
    if _row_count(plan) > FEW_ROWS and not _may_choose(plan):
        return None
    found = list(divide(plan, reader, columns))
    if sum(share.row_count for share in found) > FEW_ROWS:
        return None
    return found if plan.groups or _is_worth_decoding(found) else None


def _is_worth_decoding(found: Many[Share]) -> bool:
    """Tell whether little must be decoded."""
    parts = [
        (part.source, part.pieces) for share in found for part in share.parts if isinstance(part.source, FileSource)
    ]
    return sum(source.cells_to_decode(pieces) for source, pieces in parts) <= FEW_CELLS


def _may_choose(plan: ScanPlan) -> bool:
    """Tell whether a condition may choose among series, or among rows by an index."""
    indexed = {column.name for column in plan.metadata.columns if column.indexes}
    asks_for_series = key_part(plan.predicate, plan.metadata.tag_names) != ALWAYS
    return asks_for_series or not indexed.isdisjoint(columns_of(plan.predicate))


def _row_count(plan: ScanPlan) -> int:
    """Return about how many rows the files and memtables of a plan have in the range of times."""
    files = [file for group in plan.groups for file in group.files]
    buffered = sum(part.stats.row_count for group in plan.groups for part in group.buffered)
    return buffered + sum(_rows_within(file, plan.time_range) for file in (*plan.direct, *files))


def _rows_within(file: FileMeta, wanted: TimeRange) -> int:
    both = wanted.intersect(TimeRange(file.min_time, file.max_time + 1))
    return file.row_count * max(both.end - both.start, 0) // (file.max_time + 1 - file.min_time)


def file_source(
    plan: ScanPlan,
    file: FileMeta,
    reader: SstReader,
    fields: tuple[str, ...],
    pieces: Pieces,
    internal: tuple[str, ...],
) -> FileSource:
    return FileSource(
        reader=reader,
        metadata=plan.metadata,
        file=file,
        field_names=fields,
        pieces=pieces,
        visible=plan.visible,
        internal=internal,
    )


def sources_of(plan: ScanPlan, group: MergeGroup, reader: SstReader, columns: Many[str]) -> list[Source]:
    """Open what is merged, and leave out what holds nothing that may match."""
    fields = field_names(plan, columns)
    in_order = are_in_order(group, columns)
    sources: list[Source] = []
    for file in group.files:
        pieces = select_rows(reader, plan.metadata, file, group.key_predicate)
        internal = internal_of(plan, file, columns, in_order=in_order)
        sources.append(replace(file_source(plan, file, reader, fields, pieces, internal), recent={}))
    sources += buffer_sources(plan, group, columns)
    return [source for source in sources if len(source.pieces)]


def buffer_sources(plan: ScanPlan, group: MergeGroup, columns: Many[str]) -> Iterator[Source]:
    """Yield the parts of memtables in a group."""
    for part in group.buffered:
        rows = part.sorted(plan.visible)
        if rows is not None:
            source = buffer_source(rows.select_fields(field_names(plan, columns)), group.key_predicate)
            # Packed once, as files are, where most of it is merged with these.
            is_packed = group.files and 2 * source.pieces.row_count > len(rows) > BUFFERED_PACKED_MIN
            yield replace(source, rows=_packed(source.rows)) if is_packed else source


def are_in_order(group: MergeGroup, columns: Many[str]) -> bool:
    """Tell whether the members of a group can be told apart by age, so that nobody need look at rows' sequences."""
    ranges = [(file.min_sequence, file.max_sequence) for file in group.files]
    ranges += [(part.stats.min_sequence, part.stats.max_sequence) for part in group.buffered]
    return SEQUENCE_COLUMN not in columns and can_order(ranges)


def _all_sources(plan: ScanPlan, reader: SstReader, columns: Many[str]) -> list[Source]:
    """Open everything as if it were one group to merge."""
    together = MergeGroup(
        files=(*plan.direct, *(file for group in plan.groups for file in group.files)),
        buffered=tuple(part for group in plan.groups for part in group.buffered),
        key_predicate=key_part(plan.predicate, plan.metadata.key_names),
    )
    return sources_of(plan, together, reader, columns)


def internal_of(plan: ScanPlan, file: FileMeta, columns: Many[str], *, in_order: bool) -> tuple[str, ...]:
    """Name the internal columns of a file that a merge must look at."""
    has_versions = file.level < LEVEL_FLUSHED or file.max_sequence > plan.visible
    sequences = (SEQUENCE_COLUMN,) if has_versions or not in_order else ()
    op_types = (OP_TYPE_COLUMN,) if file.delete_count or OP_TYPE_COLUMN in columns else ()
    return (*sequences, *op_types)


def cut_file(plan: ScanPlan, source: FileSource) -> Iterator[Share]:
    """Cut a file that is read as it is between row groups; of many rows, each is a share, so that none are joined."""
    pieces, starts = source.pieces, source.row_group_starts
    decoded_max = SHARE_ROWS if pieces.row_count <= FEW_ROWS else 0
    begun, held = None, 0
    for number in source.row_groups(pieces):
        # However few of them are kept.
        count = source.rows_to_decode(number, pieces) if decoded_max else int(starts[number + 1] - starts[number])
        if begun is not None and held + count > decoded_max:
            yield _share(plan, source, _rows_between(pieces, int(starts[begun]), int(starts[number])))
            begun, held = None, 0
        begun = number if begun is None else begun
        held += count
    if begun is not None:
        yield _share(plan, source, _rows_between(pieces, int(starts[begun]), int(pieces.stops[-1])))


def _rows_between(pieces: Pieces, start: int, stop: int) -> Pieces:
    return pieces.within(start, stop).shifted(start)


def _share(plan: ScanPlan, source: Source, pieces: Pieces) -> Share:
    return Share(
        parts=(Part(source=source, pieces=pieces),),
        series=source.series,
        wanted=plan.time_range,
        dedup=plan.version.state.options.dedup,
        versions=True,
    )


def cut_group(plan: ScanPlan, sources: list[Source], columns: Many[str]) -> Iterator[Share]:
    """Cut what is merged by series, and a series that is long by time."""
    if not sources:
        return
    series, placed = _unified(sources)
    weights = np.zeros(len(series), dtype=np.int64)
    for pieces in placed:
        weights += np.bincount(pieces.codes, pieces.stops - pieces.starts, len(series)).astype(np.int64)
    for first, last in _cuts(weights):
        parts = [
            Part(source=source, pieces=some)
            for source, pieces in zip(sources, placed, strict=True)
            if len(some := pieces.part(*(int(at) for at in np.searchsorted(pieces.codes, [first, last]))))
        ]
        yield from _cut_by_time(
            Share(
                parts=tuple(parts),
                series=series,
                wanted=plan.time_range,
                dedup=plan.version.state.options.dedup,
                versions=bool(internal_names(columns)),
            )
        )


def _unified(sources: Many[Source]) -> tuple[pa.RecordBatch, list[Pieces]]:
    """Bring the series that are chosen of several sources into one order, and point the pieces into it."""
    if len(sources) == 1:
        return sources[0].series, [sources[0].pieces]
    chosen = [np.unique(source.pieces.codes) for source in sources]
    tables = [
        source.series if len(some) == len(source.series) else source.series.take(pa.array(some))
        for source, some in zip(sources, chosen, strict=True)
    ]
    union, found = _unify_different(tables)
    placed = []
    for source, some, ranks in zip(sources, chosen, found, strict=True):
        of_code = np.full(len(source.series), -1, dtype=np.int32)
        of_code[some] = ranks
        placed.append(replace(source.pieces, codes=of_code[source.pieces.codes]))
    return union, placed


def _unify_different(tables: Many[pa.RecordBatch]) -> tuple[pa.RecordBatch, list[Codes]]:
    """`unify` tables each of which is in order. Files often have the same series, which is told at once."""
    different: list[pa.RecordBatch] = []
    which = []
    for table in tables:
        at = next((n for n, known in enumerate(different) if known is table or known.equals(table)), len(different))
        which.append(at)
        if at == len(different):
            different.append(table)
    if len(different) == 1:
        return different[0], [np.arange(len(different[0]), dtype=np.int32)] * len(tables)
    union, ranks = unify(different)
    return union, [ranks[at] for at in which]


def _cuts(weights: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut series into runs of about `SHARE_ROWS` rows. ``weights`` are the rows of each."""
    before = np.cumsum(weights) - weights
    edges = np.flatnonzero(np.diff(before // SHARE_ROWS)) + 1
    bounds = [0, *edges.tolist(), len(weights)]
    return ((first, last) for first, last in pairwise(bounds) if weights[first:last].any())


def _cut_by_time(share: Share) -> Iterator[Share]:
    """Cut a share that is too large where the row groups of its largest file begin."""
    files = [part for part in share.parts if isinstance(part.source, FileSource)]
    if share.row_count <= 2 * SHARE_ROWS or not files:
        yield share
        return
    largest = max(files, key=lambda part: part.pieces.row_count)
    assert isinstance(largest.source, FileSource)
    bounds = largest.source.time_bounds()
    edges = sorted({bounds[number][0] for number in largest.source.row_groups(largest.pieces)[1:]})
    row_groups_each = max(1, len(edges) * SHARE_ROWS // share.row_count)
    start = share.wanted.start
    for edge in edges[row_groups_each - 1 :: row_groups_each]:
        if start < edge < share.wanted.end:
            yield replace(share, wanted=TimeRange(start, edge))
            start = edge
    yield replace(share, wanted=TimeRange(start, share.wanted.end))


def internal_names(columns: Many[str]) -> tuple[str, ...]:
    return tuple(name for name in (SEQUENCE_COLUMN, OP_TYPE_COLUMN) if name in columns)


def field_names(plan: ScanPlan, columns: Many[str]) -> tuple[str, ...]:
    known = {field.name for field in plan.metadata.fields}
    return tuple(name for name in columns if name in known)
