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
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.kernels.dedup import first_valid, keep_last_visible, keep_repeated, version_spans
from mitoframe.kernels.merge import merge_runs
from mitoframe.kernels.sort import sort_and_keep_last, sort_rows
from mitoframe.model.batch import Batch, OpType, concat_numbers, fields_without_columns, gather
from mitoframe.model.memory import POOL
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from mitoframe.kernels.jit import BoolArray
    from mitoframe.model.batch import Codes, OpTypes, Sequences, Take, Times
    from mitoframe.model.options import Dedup

_SLICES_AT_ONCE = 2
"""Arrow joins the chunks of a column anew at every take, which costs more than taking a slice; so it takes two."""


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

    def slices(self, rows_max: int) -> Iterator[Batch]:
        """Yield the rows as sorted batches of up to ``rows_max``, all with the same series."""
        rows = rows_max * _SLICES_AT_ONCE
        for start in range(0, len(self.take), rows):
            yield from self._gather(start, start + rows).slices(rows_max)

    def fields_with_nulls(self) -> set[str]:
        """Name the fields that may hold a null: a row that is not taken may be the only one that does."""
        columns = zip(self.pile.field_names, self.pile.fields, strict=True)
        return {name for name, column in columns if column.null_count}

    def gather(self) -> Batch:
        """Return all rows as one sorted batch."""
        return self._gather(0, len(self.take))

    def _gather(self, start: int, stop: int) -> Batch:
        indices = pa.array(self.take[start:stop])
        return Batch(
            series=self.pile.series,
            codes=gather(self.pile.codes, indices),
            times=gather(self.pile.times, indices),
            sequences=gather(self.pile.sequences, indices),
            op_types=gather(self.pile.op_types, indices),
            fields=self._gather_fields(indices, start, stop),
        )

    def _gather_fields(self, indices: pa.Array, start: int, stop: int) -> pa.RecordBatch:
        if not self.pile.fields:
            return fields_without_columns(len(indices))
        sources = self.filling.sources(indices, start, stop) if self.filling else [indices] * len(self.pile.fields)
        columns = [
            _one_chunk(pc.take(column, source, boundscheck=False, memory_pool=POOL))
            for column, source in zip(self.pile.fields, sources, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, names=list(self.pile.field_names))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pile:
    """The rows of several batches after each other, with codes that point into one sorted series table."""

    series: pa.RecordBatch
    codes: Codes
    times: Times
    sequences: Sequences
    op_types: OpTypes
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
    return _merged(_pile(runs), runs, dedup, drop_deletes=drop_deletes)


def merge_coded_rows(runs: Sequence[Batch], dedup: Dedup, *, drop_deletes: bool) -> SortedRows:
    """`merge_rows_of` for runs that share one table of series, which is in order: nothing is compared but numbers."""
    assert all(run.series is runs[0].series for run in runs)
    return _merged(_pile_of_coded(runs), runs, dedup, drop_deletes=drop_deletes)


def _merged(pile: _Pile, runs: Sequence[Batch], dedup: Dedup, *, drop_deletes: bool) -> SortedRows:
    starts = np.cumsum([0, *map(len, runs)], dtype=np.int64)
    order = merge_runs(pile.codes, pile.times, pile.sequences, starts)
    match dedup:
        case "last":
            take = keep_last_visible(pile.codes, pile.times, pile.op_types, order, drop_deletes=drop_deletes)
            return SortedRows(pile=pile, take=take)
        case "merge":
            return _merge_versions(pile, order, drop_deletes=drop_deletes)
        case "none":
            take = order[pile.op_types[order] != OpType.DELETE] if drop_deletes else order
            return SortedRows(pile=pile, take=take)


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
    series, ranks = unify([batch.series for batch in batches])
    return _pile_of_coded([batch.with_series(series, rank) for rank, batch in zip(ranks, batches, strict=True)])


def _pile_of_coded(batches: Sequence[Batch]) -> _Pile:
    names = tuple(batches[0].fields.schema.names)
    return _Pile(
        series=batches[0].series,
        codes=concat_numbers([batch.codes for batch in batches]),
        times=concat_numbers([batch.times for batch in batches]),
        sequences=concat_numbers([batch.sequences for batch in batches]),
        op_types=concat_numbers([batch.op_types for batch in batches]),
        fields=tuple(_gatherable([batch.fields.column(i) for batch in batches]) for i in range(len(names))),
        field_names=names,
    )


def _sort_all(pile: _Pile) -> Take:
    return sort_rows(pile.codes, len(pile.series), pile.times, pile.sequences)


def _sort_last(pile: _Pile) -> Take:
    return sort_and_keep_last(pile.codes, len(pile.series), pile.times, pile.sequences)


def _sort_rest(pile: _Pile, taken: Take) -> Take:
    """Order the rows that were not taken. They are few as a rule, so sorting them beats sorting all rows once more."""
    left = np.ones(len(pile.times), dtype=np.bool_)
    left[taken] = False
    rows = np.flatnonzero(left)
    return rows[sort_rows(pile.codes[rows], len(pile.series), pile.times[rows], pile.sequences[rows])]


def _merge_versions(pile: _Pile, order: Take, *, drop_deletes: bool) -> SortedRows:
    starts, stops = version_spans(pile.codes, pile.times, pile.op_types, order, drop_deletes)
    rows = SortedRows(pile=pile, take=order[starts])
    if len(starts) == len(order) or not any(column.null_count for column in pile.fields):
        return rows
    valid = tuple(map(_validity, pile.fields))
    return replace(rows, filling=_Filling(order=order, starts=starts, stops=stops, valid=valid))


def _validity(column: pa.Array | pa.ChunkedArray) -> BoolArray | None:
    if column.null_count == 0:
        return None
    valid: BoolArray = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _gatherable(chunks: list[pa.Array]) -> pa.Array | pa.ChunkedArray:
    """Return a column that rows can be taken from piece by piece, without copying it whole where that is possible."""
    if len(chunks) == 1:
        return chunks[0]
    # Joined once and kept, fixed-width columns would double the memory of a flush; others are taken from too slowly.
    return pa.chunked_array(chunks) if _is_fixed_width(chunks[0].type) else pa.concat_arrays(chunks, memory_pool=POOL)


def _is_fixed_width(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(data_type) or pa.types.is_decimal(data_type))


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks, memory_pool=POOL)
