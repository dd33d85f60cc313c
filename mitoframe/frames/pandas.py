"""A pandas DataFrame as an Arrow table and back, value for value.

NaN stays NaN and is not null; NaT and ``pd.NA`` are null. Index levels are columns if they are named and asked for as
the time or a tag; any other index is left behind, as ``to_parquet(index=False)`` does. Memory is shared where the
layouts agree: whoever keeps the table copies it.

On the way back integers and booleans with nulls become pandas' nullable types, because NumPy would make floats of the
ones (and change those above 2^53) and objects of the others. A null float becomes NaN, as everywhere in pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mitoframe.model.errors import InvalidInputError
from mitoframe.model.schema import check_names

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_frame(data: object) -> bool:
    return isinstance(data, pd.DataFrame)


def to_table(frame: pd.DataFrame, keys: Sequence[str]) -> pa.Table:
    """Convert a frame; ``keys`` are the names that may be found in its index.

    Raises:
        InvalidInputError: a column's name or values have no Arrow form; the message names the column.

    """
    check_names(frame.columns)
    levels = [str(name) for name in frame.index.names if name in keys and name not in frame.columns]
    arrays = {name: _convert(name, frame.index.get_level_values(name)) for name in levels}
    arrays |= {str(name): _convert(str(name), frame[name]) for name in frame.columns}
    return pa.table(arrays)


def from_table(table: pa.Table) -> pd.DataFrame:
    """Make a frame that owns its memory and has a plain integer index."""
    series = {name: _from_column(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    return pd.DataFrame(series, index=pd.RangeIndex(len(table)), copy=True)


def _from_column(column: pa.ChunkedArray) -> pd.Series[Any]:
    mapper = _NULLABLE.get if column.null_count else None
    made: pd.Series[Any] = column.to_pandas(types_mapper=mapper, integer_object_nulls=True)
    return made


_NULLABLE = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}


def _convert(name: str, values: pd.Series[Any] | pd.Index[Any]) -> pa.Array | pa.ChunkedArray:
    try:
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub":
            native = values.dtype.newbyteorder("=")
            return pa.array(np.ascontiguousarray(values.to_numpy(), dtype=native), from_pandas=False)
        array = pa.array(values, from_pandas=True)
    except (ValueError, TypeError, OverflowError, pa.ArrowNotImplementedError) as error:
        row = _first_odd(values)
        raise InvalidInputError(
            f"column {name!r} mixes types or holds values without an Arrow type (first seen in row {row}): {error}. "
            "Convert the column to one type."
        ) from error
    if values.dtype == object and pa.types.is_timestamp(array.type):
        _refuse_mixed_zones(name, values)
    return array


def _refuse_mixed_zones(name: str, values: pd.Series[Any] | pd.Index[Any]) -> None:
    """Refuse datetimes of several zones, or some without one: Arrow would take the first one's for all."""
    zones = [None if pd.isna(value) else str(value.tzinfo) for value in values]
    known = [zone for zone in zones if zone is not None]
    for row, zone in enumerate(zones):
        if zone not in (None, known[0]):
            raise InvalidInputError(
                f"column {name!r} mixes time zones: row {row} has {zone}, rows before it {known[0]}. "
                "Convert the column with pd.to_datetime(..., utc=True)."
            )


def _first_odd(values: pd.Series[Any] | pd.Index[Any]) -> int:
    """Return the first row whose value is of another type than the values before it."""
    expected: type | None = None
    for row, value in enumerate(values):
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            continue
        expected = expected or type(value)
        if type(value) is not expected:
            return row
    return 0
