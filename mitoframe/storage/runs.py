"""Batches in, sorted rows out: the only sort, merge and dedup in the house.

Memtable, scan, flush and compaction all come here. Series are brought into one order first (`unify`); after that a row
is (rank, time, sequence), three integers, and the kernels do the rest. Keys keep their newest row only.

What comes out is an order, not yet rows: `SortedRows` gathers them when they are wanted, all at once or slice by slice,
so that a flush of any size needs the memory of one row group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.kernels.dedup import keep_last_visible
from mitoframe.kernels.merge import merge_runs
from mitoframe.kernels.sort import sort_and_keep_last
from mitoframe.model.batch import Batch, fields_without_columns, gather
from mitoframe.model.memory import POOL
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from mitoframe.model.batch import Codes, OpTypes, Sequences, Take, Times


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedRows:
    """Rows of several batches in their final order: ``take`` says which, and where they are."""

    series: pa.RecordBatch
    codes: Codes
    times: Times
    sequences: Sequences
    op_types: OpTypes
    fields: tuple[pa.Array | pa.ChunkedArray, ...]
    field_names: tuple[str, ...]
    take: Take

    def __len__(self) -> int:
        return len(self.take)

    def slices(self, rows_max: int) -> Iterator[Batch]:
        """Yield the rows as sorted batches of up to ``rows_max``, all with the same series."""
        for start in range(0, len(self.take), rows_max):
            yield self._gather(self.take[start : start + rows_max])

    def gather(self) -> Batch:
        """Return all rows as one sorted batch."""
        return self._gather(self.take)

    def _gather(self, rows: Take) -> Batch:
        indices = pa.array(rows)
        columns = [_one_chunk(pc.take(column, indices, memory_pool=POOL)) for column in self.fields]
        return Batch(
            series=self.series,
            codes=gather(self.codes, indices),
            times=gather(self.times, indices),
            sequences=gather(self.sequences, indices),
            op_types=gather(self.op_types, indices),
            fields=pa.RecordBatch.from_arrays(columns, names=list(self.field_names))
            if columns
            else fields_without_columns(len(rows)),
        )


def sort_rows_of(batches: Sequence[Batch]) -> SortedRows:
    """Order batches of any order, the newest row of each key, delete markers included.

    Requires: at least one batch.
    """
    series, codes, times, sequences = _keys(batches)
    return _sorted_rows(
        batches, series, codes, times, sequences, sort_and_keep_last(codes, len(series), times, sequences)
    )


def merge_rows_of(runs: Sequence[Batch], *, drop_deletes: bool) -> SortedRows:
    """Order sorted batches, the newest row of each key.

    With ``drop_deletes`` a key whose newest row is a delete marker vanishes; that is right only if no row of the key
    can be anywhere else. Requires: at least one run, each sorted.
    """
    series, codes, times, sequences = _keys(runs)
    starts = np.cumsum([0, *map(len, runs)], dtype=np.int64)
    order = merge_runs(codes, times, sequences, starts)
    op_types = np.concatenate([run.op_types for run in runs])
    take = keep_last_visible(codes, times, op_types, order, drop_deletes=drop_deletes)
    return _sorted_rows(runs, series, codes, times, sequences, take)


def sort_batches(batches: Sequence[Batch]) -> Batch:
    """`sort_rows_of`, gathered."""
    return sort_rows_of(batches).gather()


def _keys(batches: Sequence[Batch]) -> tuple[pa.RecordBatch, Codes, Times, Sequences]:
    """Put the keys of batches after each other, with codes that point into one sorted series table."""
    series, ranks = unify([batch.series for batch in batches])
    codes = np.concatenate([rank[batch.codes] for rank, batch in zip(ranks, batches, strict=True)])
    times = np.concatenate([batch.times for batch in batches])
    return series, codes, times, np.concatenate([batch.sequences for batch in batches])


def _sorted_rows(
    batches: Sequence[Batch], series: pa.RecordBatch, codes: Codes, times: Times, sequences: Sequences, take: Take
) -> SortedRows:
    names = tuple(batches[0].fields.schema.names)
    return SortedRows(
        series=series,
        codes=codes,
        times=times,
        sequences=sequences,
        op_types=np.concatenate([batch.op_types for batch in batches]),
        fields=tuple(_gatherable([batch.fields.column(i) for batch in batches]) for i in range(len(names))),
        field_names=names,
        take=take,
    )


def _gatherable(chunks: list[pa.Array]) -> pa.Array | pa.ChunkedArray:
    """Return a column that rows can be taken from piece by piece, without copying it whole where that is possible."""
    if len(chunks) == 1:
        return chunks[0]
    # Arrow takes from chunks of fixed width directly; chunks of any other type it would join anew at every call.
    return pa.chunked_array(chunks) if _is_fixed_width(chunks[0].type) else pa.concat_arrays(chunks)


def _is_fixed_width(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(data_type) or pa.types.is_decimal(data_type))


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
