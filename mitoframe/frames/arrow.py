"""Anything that speaks Arrow becomes a `Batch`: the only place that looks at what users hand in.

Columns are matched by name, put in canonical order, cast where nothing is lost, and filled with nulls where a field is
absent. Everything that could be wrong with the data is found here, before the log sees it. A batch owns its memory: a
caller who changes a buffer after (or during) the write changes nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.kernels.keys import combine_codes, split_codes, strings_follow
from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.errors import InvalidInputError, SchemaMismatchError, unknown_name
from mitoframe.model.schema import RegionMetadata, check_names
from mitoframe.model.timerange import TIME_MAX, TIME_MIN
from mitoframe.model.types import normalise, type_to_text

if TYPE_CHECKING:
    import numpy.typing as npt

    from mitoframe.model.batch import Codes
    from mitoframe.model.schema import Column


def to_table(data: Any) -> pa.Table:
    """Take a pyarrow table, record batch or reader, or anything with ``__arrow_c_stream__`` or ``__arrow_c_array__``.

    Raises:
        InvalidInputError: it speaks no Arrow, or what it says is not valid.

    """
    try:
        table = _import(data)
        table.validate()
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"the {type(data).__name__} cannot be read as Arrow: {error}") from error
    check_names(table.schema.names)
    return table


def _import(data: Any) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data).read_all()
    if hasattr(data, "__arrow_c_array__"):
        return pa.Table.from_batches([pa.record_batch(data)])
    raise InvalidInputError(
        f"cannot write a {type(data).__name__}; give a pandas or Polars DataFrame, a pyarrow Table, or anything with "
        "__arrow_c_stream__."
    )


def to_batch(metadata: RegionMetadata, table: pa.Table, op_type: OpType = OpType.PUT, *, owned: bool = False) -> Batch:
    """Fit a table to a region. ``owned`` says that nobody else can change the table's memory.

    A delete needs the key columns only; its fields are null.

    Raises:
        SchemaMismatchError: a column is missing, unknown or of another kind.
        InvalidInputError: a value cannot be kept; the message names column and row.

    """
    _check_columns(metadata, table, op_type)
    times = _times(metadata.time, table.column(metadata.time.name))
    series, codes = _series([(tag, table.column(tag.name)) for tag in metadata.tags], len(table))
    return Batch(
        series=series,
        codes=codes,
        times=times,
        sequences=np.zeros(len(table), dtype=np.uint64),
        op_types=np.full(len(table), op_type, dtype=np.uint8),
        fields=_fields(metadata, table, owned=owned),
    )


def _check_columns(metadata: RegionMetadata, table: pa.Table, op_type: OpType) -> None:
    for name in table.schema.names:
        if name not in metadata.names:
            raise SchemaMismatchError(
                f"{unknown_name('column', name, metadata.names)} Drop it, or add it to the table first."
            )
    for column in (*metadata.tags, metadata.time):
        if column.name not in table.schema.names:
            raise SchemaMismatchError(
                f"the {column.semantic} column {column.name!r} is missing; it is part of the table's key."
            )
    assert op_type is OpType.PUT or set(table.schema.names) <= metadata.key_names


def _times(column: Column, values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    if values.null_count:
        raise InvalidInputError(
            f"the time column {column.name!r} is null (NaT) in row {_first_null(values)}; drop or fill such rows."
        )
    if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
        raise SchemaMismatchError(
            f"the time column {column.name!r} is {values.type}, the table has {type_to_text(column.type)}; convert it."
        )
    if pa.types.is_timestamp(values.type) and (values.type.tz is None) != (column.type.tz is None):
        has, lacks = ("the frame", "the table") if values.type.tz else ("the table", "the frame")
        raise SchemaMismatchError(
            f"the time column {column.name!r} has a zone in {has} and none in {lacks}; "
            "convert it with dt.replace_time_zone (Polars) or dt.tz_localize (pandas)."
        )
    ticks = _one(_cast(column, values)).view(pa.int64()).to_numpy()
    if len(ticks) and (ticks.min() < TIME_MIN or ticks.max() >= TIME_MAX):
        row = int(np.argmax((ticks < TIME_MIN) | (ticks >= TIME_MAX)))
        raise InvalidInputError(f"the time in row {row} of {column.name!r} is out of range.")
    return np.array(ticks, dtype=np.int64, copy=True)


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
        if not _follows(column, codes, representatives):
            encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
            column_codes = encoded.indices.cast(pa.int32()).fill_null(-1).to_numpy(zero_copy_only=False)
            codes, representatives = split_codes(codes, len(representatives), column_codes, len(encoded.dictionary))
    if not columns:
        return fields_without_columns(1), codes
    first_rows = pa.array(representatives)
    distinct = [_plain(column.take(first_rows), tag.type) for (tag, _), column in zip(tags, columns, strict=True)]
    return pa.RecordBatch.from_arrays(distinct, names=[tag.name for tag, _ in tags]), codes


def _tag_values(tag: Column, values: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(values.type) and normalise(values.type) == tag.type:
        return _one(values.unify_dictionaries())
    return _one(_cast(tag, values))


def _plain(values: pa.Array, data_type: pa.DataType) -> pa.Array:
    return values.cast(data_type)


def _follows(column: pa.Array, codes: Codes, representatives: npt.NDArray[np.int64]) -> bool:
    """Tell whether a column is the same for all rows of each series so far."""
    if not pa.types.is_large_string(column.type):
        return False
    validity, offsets, data = column.buffers()
    if offsets is None or data is None:
        return False
    start, stop = column.offset, column.offset + len(column) + 1
    return bool(
        strings_follow(
            np.frombuffer(offsets, dtype=np.int64)[start:stop],
            np.frombuffer(data, dtype=np.uint8),
            _valid(column) if validity is not None else np.zeros(0, dtype=np.bool_),
            codes,
            representatives,
        )
    )


def _valid(column: pa.Array) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _fields(metadata: RegionMetadata, table: pa.Table, *, owned: bool) -> pa.RecordBatch:
    if not metadata.fields:
        return fields_without_columns(len(table))
    present = set(table.schema.names)
    columns = []
    for field in metadata.fields:
        if field.name not in present:
            columns.append(pa.nulls(len(table), field.type))
            continue
        given = table.column(field.name)
        kept = _one(_cast(field, given))
        columns.append(kept if owned or given.type != field.type or given.num_chunks > 1 else _copy(kept))
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in metadata.fields])


def _copy(values: pa.Array) -> pa.Array:
    return pa.concat_arrays([values, values.slice(0, 0)])


def _cast(column: Column, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring values to the column's type, or say which value cannot be."""
    if values.type == column.type:
        return values
    kept = normalise(values.type)
    if not pa.types.is_null(values.type) and (kept is None or not _same_family(kept, column.type)):
        raise SchemaMismatchError(
            f"column {column.name!r} is {values.type}, the table has {type_to_text(column.type)}; convert it first."
        )
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(
            f"column {column.name!r} in row {_first_lossy(values, column.type)} cannot be kept as "
            f"{type_to_text(column.type)} without loss: {error}"
        ) from error


def _same_family(given: pa.DataType, kept: pa.DataType) -> bool:
    return given == kept or any(family(given) and family(kept) for family in _FAMILIES)


def _is_number(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(data_type) or pa.types.is_floating(data_type) or pa.types.is_decimal(data_type))


def _is_moment(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(data_type) or pa.types.is_date(data_type))


_FAMILIES = (_is_number, _is_moment, pa.types.is_duration, pa.types.is_time, pa.types.is_large_list)


def _first_null(values: pa.ChunkedArray) -> int:
    return int(pc.index(values.is_null(), True).as_py())


def _first_lossy(values: pa.ChunkedArray, data_type: pa.DataType) -> int:
    """Find the first value whose cast fails, by halving."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values.slice(low, middle - low).cast(data_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low


def _one(values: pa.ChunkedArray) -> pa.Array:
    if values.num_chunks == 1:
        return values.chunk(0)
    combined = values.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
