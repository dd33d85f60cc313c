"""`Batch`: the one thing that crosses the write path, the memtable, the merge and the flush.

Tags are kept as integers. ``series`` lists each distinct tag tuple once; ``codes`` says which of them a row belongs
to. Everything that sorts, merges or deduplicates works on (codes, times, sequences) and never looks at a string.

    series     RecordBatch, k rows: one column per tag, in the metadata's order
    codes      int32[n], each in [0, k)
    times      int64[n], in the time column's unit
    sequences  uint64[n]
    op_types   uint8[n], `OpType`
    fields     RecordBatch, n rows: one column per field, in the metadata's order

A batch is *sorted* when its series are distinct and in order (column by column, nulls first) and its rows are in the
order (code, time, newest sequence first). Sources, flush and merge hand each other sorted batches only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.memory import POOL
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.ids import Sequence
    from mitoframe.model.schema import RegionMetadata

    Number = TypeVar("Number", bound=np.generic)
    Codes: TypeAlias = npt.NDArray[np.int32]
    Times: TypeAlias = npt.NDArray[np.int64]
    Sequences: TypeAlias = npt.NDArray[np.uint64]
    OpTypes: TypeAlias = npt.NDArray[np.uint8]
    Take: TypeAlias = npt.NDArray[np.int64]
    TagsAs: TypeAlias = Literal["string", "dictionary", "view"]


class OpType(IntEnum):
    """What a row does to its key. The values are written to disk: do not change them."""

    DELETE = 0
    PUT = 1


class Rows(Protocol):
    """Sorted rows that can be had in pieces, once: a `Batch`, an order that gathers when asked, files being read."""

    @property
    def series(self) -> pa.RecordBatch: ...
    def slices(self, rows_max: int) -> Iterator[Batch]: ...
    def fields_with_nulls(self) -> set[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    series: pa.RecordBatch
    codes: Codes
    times: Times
    sequences: Sequences
    op_types: OpTypes
    fields: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.times)

    def with_sequence(self, first: Sequence) -> Batch:
        """Number the rows from ``first`` on. Copies no data."""
        return replace(self, sequences=np.arange(first, first + len(self), dtype=np.uint64))

    def with_series(self, series: pa.RecordBatch, ranks: Codes) -> Batch:
        """Point into another table of series; ``ranks`` says where in it each of the batch's own is."""
        return replace(self, series=series, codes=ranks[self.codes])

    @property
    def size_bytes(self) -> int:
        """Memory held, in bytes."""
        numbers = self.codes.nbytes + self.times.nbytes + self.sequences.nbytes + self.op_types.nbytes
        return numbers + int(self.fields.get_total_buffer_size()) + int(self.series.get_total_buffer_size())

    def take(self, rows: Take) -> Batch:
        """Gather rows by position."""
        indices = pa.array(rows)
        return replace(
            self,
            codes=gather(self.codes, indices),
            times=gather(self.times, indices),
            sequences=gather(self.sequences, indices),
            op_types=gather(self.op_types, indices),
            fields=take_fields(self.fields, indices),
        )

    def slices(self, rows_max: int) -> Iterator[Batch]:
        """Yield the rows in batches of up to ``rows_max``. Copies no data."""
        for start in range(0, len(self), rows_max):
            yield self.slice(start, min(rows_max, len(self) - start))

    def fields_with_nulls(self) -> set[str]:
        """Name the fields that hold a null."""
        return {
            name
            for name, column in zip(self.fields.schema.names, self.fields.columns, strict=True)
            if column.null_count
        }

    def slice(self, start: int, length: int) -> Batch:
        """View ``length`` rows from ``start``. Copies no data."""
        stop = start + length
        return replace(
            self,
            codes=self.codes[start:stop],
            times=self.times[start:stop],
            sequences=self.sequences[start:stop],
            op_types=self.op_types[start:stop],
            fields=self.fields.slice(start, length),
        )

    def select_fields(self, names: Many[str]) -> Batch:
        """Keep the named fields only, in that order. Copies no data."""
        return replace(self, fields=self.fields.select(list(names)))

    def to_arrow(self, metadata: RegionMetadata, names: Many[str], *, tags_as: TagsAs = "string") -> pa.RecordBatch:
        """Lay the rows out as users see them: the named columns, in that order.

        Internal columns may be named too. ``tags_as="dictionary"`` keeps string tags encoded, ``tags_as="view"`` makes
        them string views; neither costs a copy of the strings.
        """
        columns = [self._column(metadata, name, tags_as) for name in names]
        if not columns:
            return fields_without_columns(len(self))
        return pa.RecordBatch.from_arrays(columns, names=list(names))

    def _column(self, metadata: RegionMetadata, name: str, tags_as: TagsAs) -> pa.Array:
        if name == metadata.time.name:
            return pa.array(self.times).view(metadata.time.type)
        if name == SEQUENCE_COLUMN:
            return pa.array(self.sequences)
        if name == OP_TYPE_COLUMN:
            return pa.array(self.op_types)
        if name in self.fields.schema.names:
            return self.fields.column(name)
        tag = self.series.column(name)
        if tags_as == "dictionary" and pa.types.is_large_string(tag.type):
            return _encode_tag(tag, self.codes)
        if tags_as == "view" and pa.types.is_large_string(tag.type):
            return _view_tag(tag, self.codes)
        return tag.take(pa.array(self.codes))


def _encode_tag(tag: pa.Array, codes: Codes) -> pa.DictionaryArray:
    encoded = tag.dictionary_encode()
    # Rows outnumber values by far, so the narrowest index is worth a cast.
    indices = encoded.indices.cast(_index_type(len(encoded.dictionary)))
    return pa.DictionaryArray.from_arrays(
        pc.take(indices, pa.array(codes), boundscheck=False, memory_pool=POOL), encoded.dictionary
    )


def _view_tag(tag: pa.Array, codes: Codes) -> pa.Array:
    """Gather strings as views: 16 bytes each, that are the string itself if it is short, or else say where it is."""
    validity, views, *strings = pc.cast(tag, pa.string_view()).buffers()
    # A complex number is what NumPy has of that size; it is only copied.
    of_series = np.frombuffer(views, dtype=np.complex128)[: len(tag)]
    rows_valid = None
    if validity is not None:
        rows_valid = pc.take(tag.is_valid(), pa.array(codes), boundscheck=False, memory_pool=POOL).buffers()[1]
    gathered = pa.py_buffer(of_series[codes])
    return pa.Array.from_buffers(pa.string_view(), len(codes), [rows_valid, gathered, *strings])


def _index_type(values: int) -> pa.DataType:
    if values <= np.iinfo(np.int8).max:
        return pa.int8()
    return pa.int16() if values <= np.iinfo(np.int16).max else pa.int32()


def repeated(value: Number, count: int) -> npt.NDArray[Number]:
    """Return a value as an array of so many, without the memory for them. What `np.broadcast_to` does, in a tenth."""
    held = np.array(value)
    found: npt.NDArray[Number] = np.ndarray((count,), held.dtype, held, strides=(0,))
    found.flags.writeable = False
    return found


def gather(values: npt.NDArray[Number], rows: pa.Array) -> npt.NDArray[Number]:
    """Take elements by position. Arrow's memory is used again from call to call, where NumPy's is fresh each time."""
    taken: npt.NDArray[Number] = pc.take(pa.array(values), rows, boundscheck=False, memory_pool=POOL).to_numpy()
    return taken


def concat_numbers(parts: Many[npt.NDArray[Number]]) -> npt.NDArray[Number]:
    """Put arrays after each other, in memory of their own and of Arrow's."""
    together: npt.NDArray[Number] = pa.concat_arrays(list(map(pa.array, parts)), memory_pool=POOL).to_numpy()
    return together


def take_fields(fields: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Gather rows of columns by position."""
    if not fields.num_columns:
        return fields_without_columns(len(rows))
    columns = [pc.take(column, rows, boundscheck=False, memory_pool=POOL) for column in fields.columns]
    return pa.RecordBatch.from_arrays(columns, schema=fields.schema)


def slices_of(fields: pa.RecordBatch, starts: Take, stops: Take) -> pa.RecordBatch:
    """Put stretches of rows after each other: where they are long, that is much faster than to gather rows."""
    if not fields.num_columns:
        return fields_without_columns(int((stops - starts).sum()))
    stretches = [slice(start, stop) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    columns = [_slices_of(column, stretches) for column in fields.columns]
    return pa.RecordBatch.from_arrays(columns, names=fields.schema.names)


def _slices_of(column: pa.Array, stretches: list[slice]) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(_slices_of(column.indices, stretches), column.dictionary, safe=False)
    if (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) and not column.null_count:
        values = column.to_numpy()  # Whose slices cost a tenth of Arrow's.
        return pa.array(np.concatenate([values[rows] for rows in stretches]), column.type)
    return pa.concat_arrays([column[rows] for rows in stretches], memory_pool=POOL)


def joined(batches: Many[Batch]) -> Batch:
    """Put batches after each other. Requires: at least one, and none has its sequences yet.

    Series that are in several are listed several times, which no reader minds.
    """
    if len(batches) == 1:
        return batches[0]
    bases = np.cumsum([0, *(len(batch.series) for batch in batches[:-1])])
    codes = [batch.codes + np.int32(base) for batch, base in zip(batches, bases, strict=True)]
    return Batch(
        series=concat_fields([batch.series for batch in batches]),
        codes=np.concatenate(codes).astype(np.int32, copy=False),
        times=np.concatenate([batch.times for batch in batches]),
        sequences=np.concatenate([batch.sequences for batch in batches]),
        op_types=np.concatenate([batch.op_types for batch in batches]),
        fields=concat_fields([batch.fields for batch in batches]),
    )


def concat_batches(batches: Many[Batch]) -> Batch:
    """Put batches with one table of series after each other, in memory of their own."""
    assert all(batch.series is batches[0].series for batch in batches)
    return Batch(
        series=batches[0].series,
        codes=concat_numbers([batch.codes for batch in batches]),
        times=concat_numbers([batch.times for batch in batches]),
        sequences=concat_numbers([batch.sequences for batch in batches]),
        op_types=concat_numbers([batch.op_types for batch in batches]),
        fields=concat_fields([batch.fields for batch in batches]),
    )


def concat_fields(parts: Many[pa.RecordBatch]) -> pa.RecordBatch:
    """Put the rows of several batches of one schema after each other, in memory of their own."""
    if not parts[0].num_columns:
        return fields_without_columns(sum(part.num_rows for part in parts))
    columns = [
        pa.concat_arrays([part.column(i) for part in parts], memory_pool=POOL) for i in range(parts[0].num_columns)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=parts[0].schema)


def fields_without_columns(rows: int) -> pa.RecordBatch:
    """Return the fields of a table that has none: no columns, but a length.

    >>> fields_without_columns(3).num_rows
    3
    """
    return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None], children=[]))
