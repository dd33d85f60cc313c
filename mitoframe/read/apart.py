"""Rows of a share that would be merged, left where they lie: of each source those that no newer one hides.

Whoever walks the rows of each series, and does not mind in which order the sources come, needs no merge: only to know
which rows count. Times say so (`newest_of_pieces`), no other column is touched, and where rows are hidden pieces fall
apart around them.

`lying_apart` and `newest_of_group` refuse what cannot be told that way: delete markers, sources whose sequences
overlap, rows that are not visible, values that are filled from older versions. Few rows are refused too, for which a
merge is as good.

Files never change, so which rows of a group count is worth keeping: `newest_of_group` finds it out for all of them, if
their times are at hand, and the next time nothing is compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mitoframe.kernels.merge import newest_of_pieces
from mitoframe.model.batch import OpType
from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.model.predicate import ALWAYS, residual
from mitoframe.model.timerange import TIME_MAX, TimeRange
from mitoframe.read.counts import NO_COUNTS, Counts
from mitoframe.read.pieces import Pieces
from mitoframe.read.shares import are_in_order, cut_group, field_names, file_source, internal_names, sources_of
from mitoframe.read.sources import BufferSource, FileSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import pyarrow as pa

    from mitoframe.model.batch import Batch, Take, Times
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import Sequence
    from mitoframe.read.plan import MergeGroup, ScanPlan
    from mitoframe.read.shares import Part, Share
    from mitoframe.read.sources import Source
    from mitoframe.storage.memtable import RangeStats
    from mitoframe.storage.sst_reader import SstReader

APART_MIN = 65_536
"""Shares of fewer rows are merged."""
_SPREAD_MAX = 2
"""Times are put together with those of the rows between pieces, if these are not too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """Rows ``pieces`` of ``times`` and ``fields``, which may be packed; ``sequence`` says how new their source is."""

    pieces: Pieces
    times: Times
    fields: pa.RecordBatch
    sequence: Sequence
    source: Source = field(compare=False)
    first_row: int = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """The rows of a share, in parts: each sorted, none empty, and no key twice in all."""

    parts: tuple[Lying, ...]
    counts: Counts


def lying_apart(share: Share) -> Apart | None:
    """Return the rows of a share where they lie, None if they have to be merged.

    Requires: the share is to be read with all its rows, whatever their fields say.
    """
    if len(share.parts) < 2 or share.row_count < APART_MIN or share.dedup != "last" or share.versions:
        return None
    if not _are_in_order(share.parts) or not all(map(_is_told_by_times, share.parts)):
        return None
    parts, _, counts = _apart(share)
    return Apart(parts=parts, counts=counts)


def _apart(share: Share) -> tuple[tuple[Lying, ...], Times, Counts]:
    """Return what is left, the times of the rows that are hidden, and what was done."""
    counts, runs = NO_COUNTS, []
    for part in sorted(share.parts, key=_age):
        run = []
        for lying, some in _lying(part, share):
            counts += some
            run.append(lying)
        runs.append(run)
    left, hidden_times = _newest(runs)
    hidden = len(hidden_times)
    return left, hidden_times, counts + Counts(rows_shadowed=hidden, rows_returned=counts.rows_read - hidden)


def _are_in_order(parts: Many[Part]) -> bool:
    """Tell whether the sources can be told apart by age; a file of which no sequences are read says so of all."""
    return any(isinstance(part.source, FileSource) and not part.source.internal for part in parts)


def _is_told_by_times(part: Part) -> bool:
    source, pieces = part.source, part.pieces
    if isinstance(source, BufferSource):
        return bool((source.rows.op_types == OpType.PUT).all())
    assert isinstance(source, FileSource)
    is_near = int(pieces.stops[-1] - pieces.starts[0]) <= _SPREAD_MAX * pieces.row_count
    return is_near and source.is_clean and not source.internal and source.file.max_sequence <= source.visible


def _age(part: Part) -> int:
    """Rank by age, the newest first. As no two sources overlap, any row of one tells."""
    return -(part.source.file.max_sequence if isinstance(part.source, FileSource) else _sequence_in(part.source))


def _sequence_in(source: Source) -> Sequence:
    assert isinstance(source, BufferSource)
    return source.sequence


def _lying(part: Part, share: Share) -> Iterator[tuple[Lying, Counts]]:
    source = part.source
    if isinstance(source, BufferSource):
        rows = source.rows
        pieces = part.pieces.between(rows.times, share.wanted)
        if len(pieces):
            lying = Lying(
                pieces=pieces,
                times=rows.times,
                fields=rows.fields,
                sequence=source.sequence,
                source=source,
                first_row=0,
            )
            yield lying, Counts(rows_read=pieces.row_count)
        return
    assert isinstance(source, FileSource)
    for first_row, group, pieces in source.lying(part.pieces, share.wanted):
        read = Counts(
            chunks_kept=group.kept, chunks_read=group.read, bytes_read=group.bytes_read, rows_read=pieces.row_count
        )
        fields = group.fields(group.stored, as_kept=True)
        sequence = source.file.max_sequence
        lying = Lying(
            pieces=pieces, times=group.times, fields=fields, sequence=sequence, source=source, first_row=first_row
        )
        yield lying, read


def _newest(runs: Many[Many[Lying]]) -> tuple[tuple[Lying, ...], Times]:
    """Leave out of each run the rows that another one before it has, and return their times too."""
    lying = [each for run in runs for each in run]
    if not lying:
        return (), np.empty(0, dtype=np.int64)
    spans = [slice(int(each.pieces.starts[0]), int(each.pieces.stops[-1])) for each in lying]
    first_rows = np.cumsum([0, *(span.stop - span.start for span in spans)])
    moved = [int(first) - span.start for first, span in zip(first_rows[:-1], spans, strict=True)]
    first_pieces = np.cumsum([0, *(len(each.pieces) for each in lying)])
    first_of_run = np.cumsum([0, *(sum(len(each.pieces) for each in run) for run in runs)])
    times = np.concatenate([each.times[span] for each, span in zip(lying, spans, strict=True)])
    which, starts, stops, hidden = newest_of_pieces(
        np.concatenate([each.pieces.codes for each in lying]),
        np.concatenate([each.pieces.starts + by for each, by in zip(lying, moved, strict=True)]),
        np.concatenate([each.pieces.stops + by for each, by in zip(lying, moved, strict=True)]),
        first_of_run,
        times,
    )
    left = []
    bounds = np.searchsorted(which, first_pieces).tolist()
    for each, by, piece, first, last in zip(lying, moved, first_pieces.tolist(), bounds[:-1], bounds[1:], strict=False):
        if first < last:
            codes = each.pieces.codes[which[first:last] - piece]
            pieces = Pieces(codes=codes, starts=starts[first:last] - by, stops=stops[first:last] - by)
            left.append(replace(each, pieces=pieces))
    return tuple(left), times[hidden]


# --- all of a group ------------------------------------------------------------------------------------------

GROUP_PART_MIN = 0.5
"""Of a group of which so much is asked for, all is compared, to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The rows of a group that count: of files, and of what is in memory. ``hidden`` rows of those times do not."""

    files: tuple[FileSource, ...]
    buffered: tuple[BufferSource, ...]
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What is kept of a group: the pieces of each of its files and memtables that count, and when the others are."""

    files: tuple[Pieces, ...]
    buffered: tuple[Pieces, ...]
    hidden_times: Times

    @property
    def size_bytes(self) -> int:
        return self.hidden_times.nbytes + sum(pieces.size_bytes for pieces in (*self.files, *self.buffered))


def newest_of_group(plan: ScanPlan, group: MergeGroup, reader: SstReader, columns: Many[str]) -> Newest | None:
    """Return which rows of a group count, with some columns; None if that cannot be told at once.

    Requires: nothing is asked for but times.
    """
    if not _is_kept_whole(plan, group, columns):
        return None
    # What was written to a memtable since has other sequences.
    key = tuple(file.file_id for file in group.files), tuple(part.stats for part in group.buffered), plan.visible
    owner = group.files[0].file_id
    kept: _Kept | None = reader.cache.get("selections", owner, key)
    if kept is None:
        kept = _kept_of(plan, group, reader)
        if kept is None:
            return None
        reader.cache.put("selections", owner, key, kept, kept.size_bytes)
    fields = field_names(plan, columns)
    rows = (part.sorted(plan.visible) for part in group.buffered)
    wanted = plan.time_range
    first = np.searchsorted(kept.hidden_times, wanted.start, side="left")
    stop = np.searchsorted(kept.hidden_times, wanted.end, side="right" if wanted.end == TIME_MAX else "left")
    return Newest(
        files=tuple(
            file_source(plan, file, reader, fields, pieces, ())
            for file, pieces in zip(group.files, kept.files, strict=True)
        ),
        buffered=tuple(
            BufferSource(rows=some.select_fields(fields), pieces=pieces)
            for some, pieces in zip(rows, kept.buffered, strict=True)
            if some is not None
        ),
        hidden=max(int(stop - first), 0),
    )


def _is_kept_whole(plan: ScanPlan, group: MergeGroup, columns: Many[str]) -> bool:
    if plan.version.state.options.dedup != "last" or plan.request.distribution != "any" or plan.request.min_sequence:
        return False
    if residual(plan.predicate, frozenset(), plan.metadata.time.name) != ALWAYS:
        return False
    if internal_names(columns) or not are_in_order(group, columns) or not group.files:
        return False
    members: list[FileMeta | RangeStats] = [*group.files, *(part.stats for part in group.buffered)]
    if any(each.delete_count or each.max_sequence > plan.visible for each in members):
        return False
    if any(file.level < LEVEL_FLUSHED for file in group.files):
        return False
    row_count = sum(each.row_count for each in members)
    wanted = sum(each.row_count * _part_of_time(each.min_time, each.max_time, plan.time_range) for each in members)
    return row_count >= APART_MIN and wanted >= GROUP_PART_MIN * row_count


def _part_of_time(first: int, last: int, wanted: TimeRange) -> float:
    return max(min(last + 1, wanted.end) - max(first, wanted.start), 0) / (last + 1 - first)


def _kept_of(plan: ScanPlan, group: MergeGroup, reader: SstReader) -> _Kept | None:
    """Compare all rows of a group, None if the times of its files are not in memory."""
    # The times that are asked for also stand in the group's predicate, which would leave row groups out.
    everything = replace(plan, time_range=TimeRange())
    sources = sources_of(everything, replace(group, key_predicate=ALWAYS), reader, ())
    files = [source for source in sources if isinstance(source, FileSource)]
    if any(source.cells_to_decode(source.pieces) for source in files):
        return None
    found: dict[int, list[Lying]] = {id(source): [] for source in sources}
    hidden = []
    for share in cut_group(everything, sources, ()):
        parts, hidden_times, _ = _apart(share)
        hidden.append(hidden_times)
        for part in parts:
            found[id(part.source)].append(part)
    buffered = [source for source in sources if isinstance(source, BufferSource)]
    offsets = {id(source): reader.footer(plan.metadata, source.file).offsets for source in files}
    return _Kept(
        files=tuple(_joined(found[id(source)], offsets[id(source)]) for source in files),
        buffered=tuple(_joined(found[id(source)], _offsets(source.rows)) for source in buffered),
        hidden_times=np.sort(np.concatenate(hidden)),
    )


def _offsets(rows: Batch) -> Take:
    return np.searchsorted(rows.codes, np.arange(len(rows.series) + 1, dtype=np.int32))


def _joined(parts: Many[Lying], offsets: Take) -> Pieces:
    """Put pieces of one source after each other, counted from its first row; its series begin at ``offsets``."""
    nothing = np.empty(0, dtype=np.int64)
    starts = np.concatenate([nothing, *(part.pieces.starts + part.first_row for part in parts)])
    stops = np.concatenate([nothing, *(part.pieces.stops + part.first_row for part in parts)])
    order = np.argsort(starts, kind="stable")  # Shares are cut by time too, and come one after the other.
    codes = (np.searchsorted(offsets, starts[order], side="right") - 1).astype(np.int32)
    return Pieces(codes=codes, starts=starts[order], stops=stops[order])
