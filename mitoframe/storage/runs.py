"""Batches in, sorted rows out: the only sort, merge and dedup in the house.

Memtable, scan, flush and compaction all come here. Series are brought into one order first (`unify`); after that a row
is (rank, time, sequence), three integers, and the kernels do the rest. What becomes of the versions of a key, the rows
with its tags and time, is the table's choice:

    "last"     the newest stays
    "merge"    the newest stays, its nulls filled from older versions, newest first, down to a delete marker
    "none"     all stay

A delete marker stays unless the caller knows that nothing older is left for it to hide. With "merge" a merged row is
then followed by the newest marker among its versions, so that nothing older from elsewhere fills through the marker.

Promises: rows may be merged in steps. With "merge" each step must take, of the versions of any one key, some that
follow each other, because a merged row says no longer which value is how old.

What comes out is an order, not yet rows: `SortedRows` gathers them when they are wanted, all at once or slice by slice,
so that a flush of any size needs the memory of a few row groups.

Memory that is fresh costs more than what is done in it, so a merge asks for little: where the sequences of its runs do
not overlap the order of the runs stands for them, and sequences and operations are put together only where they are
asked for. Fields may come `packed`, are put in order as the bytes they are then, and stay packed if they are so in most
rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.kernels.dedup import first_valid, keep_repeated, version_spans
from mitoframe.kernels.merge import ALIKE, NOTHING_DELETED, merge_and_keep_last, merge_runs
from mitoframe.kernels.sort import sort_and_keep_last, sort_rows
from mitoframe.model.batch import Batch, OpType, concat_numbers, fields_without_columns, gather, repeated
from mitoframe.model.memory import POOL
from mitoframe.storage.series import unify
from mitoframe.storage.sst_reader import packed, unpacked

if TYPE_CHECKING:
    import numpy.typing as npt

    from mitoframe.kernels.jit import BoolArray
    from mitoframe.model.batch import Codes, Take, Times
    from mitoframe.model.options import Dedup

Number = TypeVar("Number", bound=np.generic)

_SLICES_AT_ONCE = 2
"""The chunks of a column are joined anew at every take, which costs more than taking a slice; so it takes two."""
_PACKED_MIN = 16_384
"""Fields of fewer rows are unpacked: to bring what the bytes say in line would cost more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedRows:
    """Rows of several batches in their final order: ``take`` says which, ``pile`` where they are."""

    pile: _Pile
    take: Take
    filling: _Filling | None = None

    @property
    def series(self) -> pa.RecordBatch:
        return self.pile.series

    @property
    def times(self) -> Times:
        """The rows' times, in their order."""
        return self.pile.times[self.take]

    def __len__(self) -> int:
        return len(self.take)

    def chosen(self, positions: Take) -> SortedRows:
        """Keep the rows at these positions of the order. Requires: they ascend."""
        return replace(
            self, take=self.take[positions], filling=self.filling.chosen(positions) if self.filling else None
        )

    def select_fields(self, names: Sequence[str]) -> SortedRows:
        """Keep the named fields only, in that order."""
        places = [self.pile.field_names.index(name) for name in names]
        fields = tuple(self.pile.fields[place] for place in places)
        filling = self.filling and replace(self.filling, valid=tuple(self.filling.valid[place] for place in places))
        return replace(self, pile=replace(self.pile, fields=fields, field_names=tuple(names)), filling=filling)

    def slices(self, rows_max: int) -> Iterator[Batch]:
        """Yield the rows as sorted batches of up to ``rows_max``, all with the same series."""
        rows = rows_max * _SLICES_AT_ONCE
        for start in range(0, len(self.take), rows):
            yield from self._gather(start, start + rows).slices(rows_max)

    def fields_with_nulls(self) -> set[str]:
        """Name the fields that may hold a null: a row that is not taken may be the only one that does."""
        columns = zip(self.pile.field_names, self.pile.fields, strict=True)
        return {name for name, column in columns if column.null_count}

    def gather(self, *, versions: bool = True, keys: bool = True) -> Batch:
        """Return all rows as one sorted batch.

        Without ``versions`` their sequences and operations say 0 and put, without ``keys`` codes and times are 0.
        """
        return self._gather(0, len(self.take), versions=versions, keys=keys)

    def _gather(self, start: int, stop: int, *, versions: bool = True, keys: bool = True) -> Batch:
        indices = pa.array(self.take[start:stop])
        pile, count = self.pile, len(indices)
        return Batch(
            series=pile.series,
            codes=gather(pile.codes, indices) if keys else repeated(np.int32(0), count),
            times=gather(pile.times, indices) if keys else repeated(np.int64(0), count),
            sequences=gather(pile.sequences.whole, indices) if versions else repeated(np.uint64(0), count),
            op_types=gather(pile.op_types.whole, indices) if versions else repeated(np.uint8(OpType.PUT), count),
            fields=self._gather_fields(indices, start, stop),
        )

    def _gather_fields(self, indices: pa.Array, start: int, stop: int) -> pa.RecordBatch:
        if not self.pile.fields:
            return fields_without_columns(len(indices))
        sources = self.filling.sources(indices, start, stop) if self.filling else [indices] * len(self.pile.fields)
        columns = [
            pc.take(_one_chunk(column), source, boundscheck=False, memory_pool=POOL)
            for column, source in zip(self.pile.fields, sources, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=list(self.pile.field_names))


class _Parts(Generic[Number]):
    """Arrays that lie after each other once somebody asks for the whole; until then they cost nothing."""

    def __init__(self, parts: Sequence[npt.NDArray[Number]]) -> None:
        self.parts = parts

    @cached_property
    def whole(self) -> npt.NDArray[Number]:
        return concat_numbers(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pile:
    """The rows of several batches after each other, with codes that point into one sorted series table."""

    series: pa.RecordBatch
    codes: Codes
    times: Times
    sequences: _Parts[np.uint64]
    op_types: _Parts[np.uint8]
    fields: tuple[pa.Array | pa.ChunkedArray, ...]
    field_names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filling:
    """Which versions each row's fields come from: of the row's span in ``order`` the first that is not null.

    A field without nulls needs no ``valid``: it comes from the row itself.
    """

    order: Take
    starts: Take
    stops: Take
    valid: tuple[BoolArray | None, ...]

    def chosen(self, positions: Take) -> _Filling:
        return replace(self, starts=self.starts[positions], stops=self.stops[positions])

    def sources(self, indices: pa.Array, start: int, stop: int) -> list[pa.Array]:
        """Return for each field where the values of rows ``start`` to ``stop`` are; the rows are at ``indices``."""
        spans = self.starts[start:stop], self.stops[start:stop]
        return [indices if valid is None else pa.array(first_valid(self.order, *spans, valid)) for valid in self.valid]


def sort_rows_of(batches: Sequence[Batch], dedup: Dedup = "last") -> SortedRows:
    """Order batches of any order, delete markers included.

    Requires: at least one batch.
    """
    pile = _pile(batches)
    match dedup:
        case "last":
            return SortedRows(pile=pile, take=_sort_last(pile))
        case "merge":
            return _merge_versions(pile, _sort_all(pile), drop_deletes=False)
        case "none":
            return SortedRows(pile=pile, take=_sort_all(pile))


def merge_rows_of(runs: Sequence[Batch], dedup: Dedup = "last", *, drop_deletes: bool) -> SortedRows:
    """Order sorted batches, each of which may hold several versions of a key.

    With ``drop_deletes`` no delete marker is left, and a key whose newest row is one vanishes; that is right only if no
    row of the key can be anywhere else. With ``dedup="none"`` a marker hides nothing.

    Requires: at least one run, each sorted.
    """
    return merge_coded_rows(_coded(runs), dedup, drop_deletes=drop_deletes)


def merge_coded_rows(runs: Sequence[Batch], dedup: Dedup, *, drop_deletes: bool) -> SortedRows:
    """`merge_rows_of` for runs that share one table of series, which is in order: nothing is compared but numbers."""
    return merge_coded_parts([[run] for run in runs], dedup, drop_deletes=drop_deletes)


def merge_coded_parts(runs: Sequence[Sequence[Batch]], dedup: Dedup, *, drop_deletes: bool) -> SortedRows:
    """`merge_coded_rows` for runs that come in parts, one after the other; to join them first would cost a copy.

    Sequences that are the same in all of a part need not be written out: `repeated` does.

    Requires: each run has a part.
    """
    ordered = _newest_first(runs)
    runs = ordered or runs
    pile = _pile_of_coded([part for run in runs for part in run])
    starts = np.cumsum([0, *(sum(map(len, run)) for run in runs)], dtype=np.int64)
    columns = pile.codes, pile.times, ALIKE if ordered else pile.sequences.whole, starts
    deleted = _deleted(pile.op_types)
    keeps_markers = bool(deleted.size) and not drop_deletes
    if dedup == "last" or (dedup == "merge" and not keeps_markers and not _has_nulls(pile)):
        take = merge_and_keep_last(*columns, deleted if drop_deletes else NOTHING_DELETED)
        return SortedRows(pile=pile, take=take)
    order = merge_runs(*columns)
    if dedup == "merge":
        return _merge_versions(pile, order, drop_deletes=drop_deletes)
    return SortedRows(pile=pile, take=order[~deleted[order]] if deleted.size and drop_deletes else order)


def _newest_first(runs: Sequence[Sequence[Batch]]) -> Sequence[Sequence[Batch]] | None:
    """Order runs so that all sequences of each are above those of the next, or return None if they overlap."""
    filled = [run for run in runs if any(map(len, run))]
    if len(filled) <= 1:
        return filled or runs[:1]
    spans = [(*_lowest_and_highest(run), run) for run in filled]
    spans.sort(key=lambda span: span[0], reverse=True)
    if any(newer[0] <= older[1] for newer, older in pairwise(spans)):
        return None
    return [run for _, _, run in spans]


def _lowest_and_highest(run: Sequence[Batch]) -> tuple[int, int]:
    parts = [_distinct_at_most(part.sequences) for part in run if len(part)]
    return min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)


def _deleted(op_types: _Parts[np.uint8]) -> BoolArray:
    """Tell which rows are delete markers, `NOTHING_DELETED` if none is."""
    if all((_distinct_at_most(part) == OpType.PUT).all() for part in op_types.parts):
        return NOTHING_DELETED
    deleted: BoolArray = op_types.whole == OpType.DELETE
    return deleted


def _distinct_at_most(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Leave out repetitions that need no look to be known: those of an array that was broadcast."""
    return values[:1] if values.strides == (0,) else values


def joined_parts(parts: Sequence[Batch]) -> Batch:
    """Put the parts of one run after each other."""
    if len(parts) == 1:
        return parts[0]
    pile = _pile_of_coded(parts)
    names = list(pile.field_names)
    count = len(pile.times)
    columns = list(map(_one_chunk, pile.fields))
    return Batch(
        series=pile.series,
        codes=pile.codes,
        times=pile.times,
        sequences=pile.sequences.whole,
        op_types=pile.op_types.whole,
        fields=pa.RecordBatch.from_arrays(columns, names=names) if names else fields_without_columns(count),
    )


def sort_batches(batches: Sequence[Batch], dedup: Dedup = "last") -> Batch:
    """`sort_rows_of`, gathered."""
    return sort_rows_of(batches, dedup).gather()


def sort_versions_of(batches: Sequence[Batch], dedup: Dedup) -> tuple[SortedRows, SortedRows | None]:
    """Order batches of any order as `sort_rows_of` does, and beside it the versions that an earlier moment would need.

    Those are, with "last", all rows but the newest of each key, and with "merge" all versions of each key that has
    several, the newest too, because it was filled since. Both together hold, after dedup, what was true after any
    sequence: leave out the rows above it first. None if there are no such versions.

    Requires: at least one batch.
    """
    if dedup == "none":
        return sort_rows_of(batches, dedup), None
    pile = _pile(batches)
    if dedup == "last":
        rows = SortedRows(pile=pile, take=_sort_last(pile))
        superseded = _sort_rest(pile, rows.take)
    else:
        order = _sort_all(pile)
        rows = _merge_versions(pile, order, drop_deletes=False)
        superseded = keep_repeated(pile.codes, pile.times, order)
    return rows, SortedRows(pile=pile, take=superseded) if len(superseded) else None


def _pile(batches: Sequence[Batch]) -> _Pile:
    return _pile_of_coded(_coded(batches))


def _coded(batches: Sequence[Batch]) -> list[Batch]:
    """Let batches share one table of series."""
    series, ranks = unify([batch.series for batch in batches])
    return [batch.with_series(series, rank) for rank, batch in zip(ranks, batches, strict=True)]


def _pile_of_coded(batches: Sequence[Batch]) -> _Pile:
    assert all(batch.series is batches[0].series for batch in batches)
    names = tuple(batches[0].fields.schema.names)
    return _Pile(
        series=batches[0].series,
        codes=concat_numbers([batch.codes for batch in batches]),
        times=concat_numbers([batch.times for batch in batches]),
        sequences=_Parts([batch.sequences for batch in batches]),
        op_types=_Parts([batch.op_types for batch in batches]),
        fields=tuple(_gatherable([batch.fields.column(i) for batch in batches]) for i in range(len(names))),
        field_names=names,
    )


def _sort_all(pile: _Pile) -> Take:
    return sort_rows(pile.codes, len(pile.series), pile.times, pile.sequences.whole)


def _sort_last(pile: _Pile) -> Take:
    return sort_and_keep_last(pile.codes, len(pile.series), pile.times, pile.sequences.whole)


def _sort_rest(pile: _Pile, taken: Take) -> Take:
    """Order the rows that were not taken. They are few as a rule, so sorting them beats sorting all rows once more."""
    left = np.ones(len(pile.times), dtype=np.bool_)
    left[taken] = False
    rows = np.flatnonzero(left)
    return rows[sort_rows(pile.codes[rows], len(pile.series), pile.times[rows], pile.sequences.whole[rows])]


def _merge_versions(pile: _Pile, order: Take, *, drop_deletes: bool) -> SortedRows:
    starts, stops = version_spans(pile.codes, pile.times, pile.op_types.whole, order, drop_deletes)
    rows = SortedRows(pile=pile, take=order[starts])
    if len(starts) == len(order) or not _has_nulls(pile):
        return rows
    valid = tuple(map(_validity, pile.fields))
    return replace(rows, filling=_Filling(order=order, starts=starts, stops=stops, valid=valid))


def _has_nulls(pile: _Pile) -> bool:
    return any(column.null_count for column in pile.fields)


def _validity(column: pa.Array | pa.ChunkedArray) -> BoolArray | None:
    if column.null_count == 0:
        return None
    valid: BoolArray = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _gatherable(chunks: list[pa.Array]) -> pa.Array | pa.ChunkedArray:
    """Return a column that rows can be taken from piece by piece, without copying it whole where that is possible."""
    if len(chunks) == 1:
        return chunks[0]
    if any(map(_is_packed, chunks)):
        together = _packed_together(chunks)
        if together is not None:
            return together
        chunks = list(map(unpacked, chunks))
    # Joined once and kept, fixed-width columns would double the memory of a flush; others are taken from too slowly.
    return pa.chunked_array(chunks) if _is_fixed_width(chunks[0].type) else pa.concat_arrays(chunks, memory_pool=POOL)


def _is_packed(column: pa.Array) -> bool:
    return bool(pa.types.is_dictionary(column.type))


def _packed_together(chunks: list[pa.Array]) -> pa.DictionaryArray | None:
    """Join chunks of which some are packed, as a packed one, or return None if that is not worth it or has no room."""
    row_count = sum(map(len, chunks))
    if row_count < _PACKED_MIN or 2 * sum(map(len, filter(_is_packed, chunks))) < row_count:
        return None
    chunks = [packed(chunk) for chunk in chunks if len(chunk)]
    if not all(map(_is_packed, chunks)):
        return None
    listed = chunks[0].dictionary
    if all(chunk.dictionary.equals(listed) for chunk in chunks):
        return _packed([chunk.indices for chunk in chunks], listed)
    # A list is a column of few different values, and where these are listed is what its bytes become.
    renumbered = packed(pa.concat_arrays([chunk.dictionary for chunk in chunks]))
    if not _is_packed(renumbered):
        return None
    stops = np.cumsum([len(chunk.dictionary) for chunk in chunks])
    parts = [
        pc.take(
            renumbered.indices[stop - len(chunk.dictionary) : stop], chunk.indices, boundscheck=False, memory_pool=POOL
        )
        for chunk, stop in zip(chunks, stops.tolist(), strict=True)
    ]
    return _packed(parts, renumbered.dictionary)


def _packed(indices: list[pa.Array], listed: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.concat_arrays(indices, memory_pool=POOL), listed, safe=False)


def _is_fixed_width(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(data_type) or pa.types.is_decimal(data_type))


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks, memory_pool=POOL)
