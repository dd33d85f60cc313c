"""Anything that speaks Arrow becomes a `Batch`: the only place that looks at what users hand in.

Columns are matched by name, put in canonical order, cast where nothing is lost, and filled with nulls where a field is
absent. Everything that could be wrong with the data is found here, before the log sees it: no kernel follows an offset
that was not checked. A batch owns its memory: a caller who changes a buffer after the write changes nothing here.
That costs one copy of the fields, for Polars frames too: they may share memory with a NumPy array.

A message that names a row counts in the user's frame: over its chunks, and over the pieces it was handed on in.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.frames.blame import first_failing
from mitoframe.kernels.keys import NULL, combine_codes, split_codes, strings_follow
from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.errors import InvalidInputError, SchemaMismatchError, unknown_name
from mitoframe.model.memory import POOL
from mitoframe.model.schema import RegionMetadata, check_names
from mitoframe.model.timerange import TIME_MAX, TIME_MIN
from mitoframe.model.types import normalise, type_to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from mitoframe.model.batch import Codes
    from mitoframe.model.schema import Column

_SMALL_BYTES = 1 << 20


def to_table(data: Any) -> pa.Table:
    """Take a pyarrow table, record batch or reader, or anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``.

    Raises:
        InvalidInputError: it speaks no Arrow, or what it says is not valid.

    """
    if isinstance(data, pa.Table):
        return check_layout(data)
    with _readable(data):
        table = _reader(data).read_all()
    return check_layout(table)


def stream(data: Any) -> Iterator[pa.Table]:
    """Yield the same rows piece by piece as they come, after an empty piece that shows the schema.

    Raises:
        InvalidInputError: as in `to_table`.

    """
    with _readable(data):
        reader = _reader(data)
        schema = reader.schema
        check_names(schema.names)
    yield schema.empty_table()
    while True:
        with _readable(data):
            batch = next(reader, None)
        if batch is None:
            return
        yield check_layout(pa.Table.from_batches([batch]))


def check_layout(table: pa.Table) -> pa.Table:
    """Return the table if it is safe to touch: no offset or index leads out of its buffer.

    Text is not looked at here; `to_batch` does that where there are fewer values to look at.

    Raises:
        InvalidInputError: it is not, or its column names are not distinct strings.

    """
    with _readable(table):
        names = table.schema.names
    check_names(names)
    for name, column in zip(names, table.columns, strict=True):
        try:
            for chunk in column.chunks:
                _check_chunk(chunk)
        except pa.ArrowInvalid as error:
            raise InvalidInputError(f"column {name!r} is not valid Arrow: {error}; make it anew.") from error
    return table


def _check_chunk(chunk: pa.Array) -> None:
    if not _has_offsets(chunk.type):
        chunk.validate(full=True)
        return
    chunk.validate()
    offsets = _offsets(chunk)
    if not (offsets[:-1] <= offsets[1:]).all():
        raise pa.ArrowInvalid("its offsets do not ascend")


@contextmanager
def _readable(data: Any) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"the {type(data).__name__} cannot be read as Arrow: {error}") from error
    except UnicodeDecodeError as error:  # Arrow takes any bytes as a name, and reads them when asked.
        raise InvalidInputError(f"the column name {error.object!r} is not UTF-8; rename it.") from error


def _reader(data: Any) -> pa.RecordBatchReader:
    if isinstance(data, pa.RecordBatchReader):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data)
    if hasattr(data, "__arrow_c_array__"):
        return _reader(pa.record_batch(data))
    raise InvalidInputError(
        f"cannot write a {type(data).__name__}; give a pandas or Polars DataFrame, a pyarrow Table, or anything with "
        "__arrow_c_stream__."
    )


def check_same_columns(first: pa.Schema, given: pa.Schema) -> None:
    """Refuse a piece whose columns are not those of the first piece."""
    if given.equals(first):
        return
    for expected, found in zip_longest(first, given):
        if expected is None or found is None or not expected.equals(found):
            raise InvalidInputError(
                f"the data changes its columns on the way: {_described(found)} came where {_described(expected)} was "
                "announced; make all batches of one schema."
            )


def _described(field: pa.Field | None) -> str:
    return "no column" if field is None else f"{field.name!r} ({field.type})"


class _RowError(InvalidInputError):
    """A row that cannot be kept, which knows its number. Never leaves `to_batch`."""

    def __init__(self, before: str, row: int, after: str) -> None:
        super().__init__(f"{before} row {row}{after}")
        self.before, self.row, self.after = before, row, after

    def counted_from(self, first_row: int) -> InvalidInputError:
        return InvalidInputError(f"{self.before} row {first_row + self.row}{self.after}")


def to_batch(metadata: RegionMetadata, table: pa.Table, op_type: OpType = OpType.PUT, *, first_row: int = 0) -> Batch:
    """Fit a table to a region.

    A delete needs the key columns only; its fields are null, whatever the table has in them. ``first_row`` is the
    number, in what the user gave, of the table's first row.

    Raises:
        SchemaMismatchError: a column is missing, unknown or of another kind.
        InvalidInputError: a value cannot be kept; the message names column and row.

    """
    names = table.schema.names
    _check_columns(metadata, names)
    present = metadata.key_names if op_type is OpType.DELETE else frozenset(names)
    try:
        return _fit(metadata, table, present, op_type)
    except _RowError as error:
        raise error.counted_from(first_row) from error.__cause__


def _fit(metadata: RegionMetadata, table: pa.Table, present: frozenset[str], op_type: OpType) -> Batch:
    times = _times(metadata.time, table.column(metadata.time.name))
    series, codes = _series([(tag, table.column(tag.name)) for tag in metadata.tags], len(table))
    _check_series(series, codes)
    fields = _fields(metadata, table, present, op_type)
    _check_text(fields, lambda position: position)
    return Batch(
        series=series,
        codes=codes,
        times=times,
        sequences=np.zeros(len(table), dtype=np.uint64),
        op_types=np.full(len(table), op_type, dtype=np.uint8),
        fields=fields,
    )


def _check_columns(metadata: RegionMetadata, given: Sequence[str]) -> None:
    unknown = frozenset(given).difference(metadata.names)
    if unknown:
        name = next(name for name in given if name in unknown)
        raise SchemaMismatchError(
            f"{unknown_name('column', name, metadata.names)} Drop it, or add it to the table first."
        )
    missing = metadata.key_names.difference(given)
    if missing:
        column = next(column for column in (*metadata.tags, metadata.time) if column.name in missing)
        raise SchemaMismatchError(
            f"the {column.semantic} column {column.name!r} is missing; it is part of the table's key."
        )


def _check_series(series: pa.RecordBatch, codes: Codes) -> None:
    """Refuse text that is not UTF-8. Requires: the offsets are ours."""
    if not all(map(_is_ascii, series.columns)):
        _check_text(series, lambda position: int(np.argmax(codes == position)))


def _is_ascii(column: pa.Array) -> bool:
    """Tell at little cost whether a column is no text, or a little of which every byte is a character."""
    if not pa.types.is_large_string(column.type):
        return True
    data = column.buffers()[2]
    return data is None or (data.size <= _SMALL_BYTES and data.to_pybytes().isascii())


def _check_text(columns: pa.RecordBatch, row_of: Callable[[int], int]) -> None:
    for name, column in zip(columns.schema.names, columns.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            row = row_of(first_failing(len(column), partial(_validate_first, column)))
            raise _RowError(f"column {name!r} in", row, " holds text that is not UTF-8; decode it first.") from error


def _validate_first(column: pa.Array, count: int) -> None:
    # A slice of lists is validated with the items of all lists, a copy with its own.
    pa.concat_arrays([column.slice(0, count), column.slice(0, 0)]).validate(full=True)


# --- time ------------------------------------------------------------------------------------------------


def _times(column: Column, given: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    values = _decode(given)
    if values.null_count:
        raise _RowError(
            f"the time column {column.name!r} is null (NaT) in", _first_null(values), "; drop or fill such rows."
        )
    if not _is_moment(values.type):
        raise SchemaMismatchError(
            f"the time column {column.name!r} is {values.type}, the table has {type_to_text(column.type)}; convert it."
        )
    if (_zone(values.type) is None and _zone(column.type)) or (_zone(values.type) and _zone(column.type) is None):
        has, lacks = ("the frame", "the table") if _zone(values.type) else ("the table", "the frame")
        raise SchemaMismatchError(
            f"the time column {column.name!r} has a zone in {has} and none in {lacks}; "
            "convert it with dt.replace_time_zone (Polars) or dt.tz_localize (pandas)."
        )
    ticks = np.array(_one(_cast(column, values)).view(pa.int64()).to_numpy(), dtype=np.int64, copy=True)
    if len(ticks) and (ticks.min() < TIME_MIN or ticks.max() >= TIME_MAX):
        row = int(np.argmax((ticks < TIME_MIN) | (ticks >= TIME_MAX)))
        raise _RowError("the time in", row, f" of {column.name!r} is out of range; drop or correct such rows.")
    return ticks


# --- tags ------------------------------------------------------------------------------------------------


def _series(tags: list[tuple[Column, pa.ChunkedArray]], rows: int) -> tuple[pa.RecordBatch, Codes]:
    """Return the distinct tag tuples and each row's position among them.

    A tag that only repeats what the tags before it say (every host has one region) costs one comparison per row; only a
    tag that splits series is dictionary-encoded.
    """
    if not rows:
        empty = [pa.nulls(0, tag.type) for tag, _ in tags]
        return pa.RecordBatch.from_arrays(empty, names=[tag.name for tag, _ in tags]), np.zeros(0, dtype=np.int32)
    codes, representatives = combine_codes([], rows)
    columns = []
    for tag, values in tags:
        column = _tag_values(tag, values)
        columns.append(column)
        # Where each row has a series of its own there is nothing left to split.
        if len(representatives) < rows and not _follows(column, codes, representatives):
            codes, representatives = split_codes(codes, len(representatives), *_encode(column))
    if not columns:
        return fields_without_columns(1), codes
    given = pa.RecordBatch.from_arrays(columns, names=[tag.name for tag, _ in tags])
    distinct = _copied([given]) if len(representatives) == rows else given.take(pa.array(representatives))
    return _plain(distinct, [tag for tag, _ in tags]), codes


def _tag_values(tag: Column, values: pa.ChunkedArray) -> pa.Array:
    """Return a tag's rows in its type, or dictionary-encoded if they came so."""
    if values.type == tag.type:
        return _one(values)
    if pa.types.is_dictionary(values.type) and normalise(values.type) == tag.type and _can_unify(values):
        return _one(values.unify_dictionaries())
    return _one(_cast(tag, values))


def _can_unify(values: pa.ChunkedArray) -> bool:
    return values.num_chunks <= 1 or not any(chunk.dictionary.null_count for chunk in values.chunks)


def _encode(column: pa.Array) -> tuple[Codes, int]:
    """Return each row's code, -1 for null, and how many codes there are."""
    if not pa.types.is_dictionary(column.type):
        encoded = column.dictionary_encode()
        indices = encoded.indices.fill_null(NULL) if encoded.null_count else encoded.indices
        return indices.to_numpy(), len(encoded.dictionary)
    # Arrow lets a dictionary hold a value twice, or null: only its values tell what its codes mean.
    codes, count = _encode(column.dictionary)
    if count == len(column.dictionary):
        return _indices(column), count
    return np.append(codes, np.int32(NULL))[_indices(column)], count


def _indices(column: pa.DictionaryArray) -> Codes:
    """Return the indices in memory of their own: kernels follow them, and pandas' categories lie in NumPy arrays."""
    codes: Codes = np.array(column.indices.cast(pa.int32()).fill_null(NULL), copy=True)
    if len(codes) and not NULL <= codes.min() <= codes.max() < len(column.dictionary):
        raise InvalidInputError("a dictionary index was changed while the rows were written; write a copy.")
    return codes


def _plain(series: pa.RecordBatch, tags: Sequence[Column]) -> pa.RecordBatch:
    """Undo the encoding of tags that came dictionary-encoded."""
    types = series.schema.types
    if not any(map(pa.types.is_dictionary, types)):
        return series
    columns = [
        values.dictionary.take(values.indices).cast(tag.type) if pa.types.is_dictionary(values.type) else values
        for values, tag in zip(series.columns, tags, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=series.schema.names)


def _follows(column: pa.Array, codes: Codes, representatives: npt.NDArray[np.int64]) -> bool:
    """Tell whether a column is the same for all rows of each series so far; False where it is not cheap to tell."""
    if not pa.types.is_large_string(column.type):
        return False
    buffer = column.buffers()[2]
    if buffer is None:
        return False
    valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else np.zeros(0, dtype=np.bool_)
    data = np.frombuffer(buffer, dtype=np.uint8)
    return bool(strings_follow(_offsets(column), data, valid, codes, representatives))


# --- fields ----------------------------------------------------------------------------------------------


def _fields(metadata: RegionMetadata, table: pa.Table, present: frozenset[str], op_type: OpType) -> pa.RecordBatch:
    """Return all fields: one that is absent has its default, but in a delete. A null that was given stays null."""
    if not metadata.fields:
        return fields_without_columns(len(table))
    columns = []
    for field in metadata.fields:
        if field.name in present:
            columns.append(_cast(field, table.column(field.name)))
        elif op_type is OpType.PUT:
            columns.append(pa.chunked_array([field.fill(len(table))]))
        else:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
    given = pa.Table.from_arrays(columns, names=[field.name for field in metadata.fields])
    if not len(table):
        return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in metadata.fields], schema=given.schema)
    return _copied(given.to_batches())


def _copied(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    # One is handed back as it is, more than one are copied: so there is always one more, an empty one.
    return pa.concat_batches([*batches, batches[0].slice(0, 0)], memory_pool=POOL)


def _copy(values: pa.ChunkedArray) -> pa.Array:
    # As above.
    return pa.concat_arrays([*values.chunks, pa.nulls(0, values.type)], memory_pool=POOL)


# --- casts -----------------------------------------------------------------------------------------------


def _cast(column: Column, given: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring values to the column's type, or say which value cannot be."""
    if given.type == column.type:
        return given
    values = _decode(given)
    if values.type == column.type:
        return values
    if not _is_same_kind(values.type, column.type):
        raise SchemaMismatchError(
            f"column {column.name!r} is {values.type}, the table has {type_to_text(column.type)}; convert it first."
        )
    try:
        return _cast_exactly(values, column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        row = first_failing(len(values), lambda count: _cast_exactly(values.slice(0, count), column.type))
        raise _RowError(
            f"column {column.name!r} in",
            row,
            f" cannot be kept as {type_to_text(column.type)} without loss: {error}; change the value, or cast the "
            "column yourself.",
        ) from error


def _decode(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undo a dictionary or run-end encoding."""
    if pa.types.is_dictionary(values.type):
        return pa.chunked_array([chunk.dictionary_decode() for chunk in values.chunks], values.type.value_type)
    return pc.run_end_decode(values) if pa.types.is_run_end_encoded(values.type) else values


def _is_same_kind(given: pa.DataType, kept: pa.DataType) -> bool:
    """Tell whether one type may be cast to the other at all; whether a value may is another question."""
    if pa.types.is_null(given):
        return True
    if _is_list(given) and _is_list(kept):
        return _is_same_kind(given.value_type, kept.value_type)
    if _is_moment(given) and _is_moment(kept):
        return (_zone(given) is None) == (_zone(kept) is None)
    return normalise(given) == kept or any(kind(given) and kind(kept) for kind in _KINDS)


def _is_list(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_list(data_type) or pa.types.is_large_list(data_type))


def _is_number(data_type: pa.DataType) -> bool:
    # Decimals stand apart: hardly any has a float that is equal to it.
    return bool(pa.types.is_integer(data_type) or pa.types.is_floating(data_type))


def _is_moment(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(data_type) or pa.types.is_date(data_type))


def _zone(data_type: pa.DataType) -> str | None:
    return data_type.tz if pa.types.is_timestamp(data_type) else None


_KINDS = (_is_number, pa.types.is_decimal, pa.types.is_duration, pa.types.is_time)


def _cast_exactly(values: pa.ChunkedArray, data_type: pa.DataType) -> pa.ChunkedArray:
    """Cast, or raise ``pa.ArrowInvalid`` if a value would change."""
    if _is_list(values.type):
        values = pa.chunked_array([_copy(values)])  # Arrow casts also the items of rows that a slice leaves out.
    kept = pc.cast(values, data_type, memory_pool=POOL)
    if _may_round(values.type, data_type) and not _is_equal(values, kept.cast(values.type)):
        raise pa.ArrowInvalid("the value would be rounded")
    return kept


def _may_round(given: pa.DataType, kept: pa.DataType) -> bool:
    """Tell whether Arrow casts between these types without looking at what is lost."""
    if pa.types.is_large_list(kept) and not pa.types.is_null(given):
        return _may_round(given.value_type, kept.value_type)
    return bool(
        (pa.types.is_float64(given) and pa.types.is_float32(kept))
        or (pa.types.is_timestamp(given) and pa.types.is_date(kept))
    )


def _is_equal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> bool:
    if _is_list(left.type):
        return _is_equal(pc.list_flatten(left), pc.list_flatten(right))
    same = pc.equal(left, right)
    if pa.types.is_floating(left.type):
        same = pc.or_(same, pc.and_(pc.is_nan(left), pc.is_nan(right)))
    return pc.all(same, min_count=0).as_py() is not False


def _first_null(values: pa.ChunkedArray) -> int:
    return int(pc.index(values.is_null(), True).as_py())


# --- layout ----------------------------------------------------------------------------------------------


def _one(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    combined = values.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _has_offsets(data_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(data_type)
        or pa.types.is_large_string(data_type)
        or pa.types.is_binary(data_type)
        or pa.types.is_large_binary(data_type)
    )


def _offsets(column: pa.Array) -> npt.NDArray[Any]:
    """Return where each value of a string or binary column begins, and last where the last one ends."""
    is_wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    dtype = np.dtype(np.int64 if is_wide else np.int32)
    buffer = column.buffers()[1]
    if buffer is None or not buffer.size:  # Arrow allows that for a column without rows.
        return np.zeros(1, dtype)
    return np.frombuffer(buffer, dtype, count=len(column) + 1, offset=column.offset * dtype.itemsize)
