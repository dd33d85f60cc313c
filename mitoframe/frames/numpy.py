"""An Arrow table as NumPy arrays, value for value; memory is shared where the layouts agree.

    column                           array, and what a null is in it
    float                            float; NaN
    timestamp, date, duration        datetime64 or timedelta64 of the same unit; NaT. Times with a zone are UTC's
    time of day                      timedelta64 since midnight; NaT
    integer, bool                    the same type; with nulls a masked array, so that no value is changed
    string, binary, decimal, list    object; None

An array that shares memory with the table cannot be written to.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Column: TypeAlias = npt.NDArray[Any]


def to_arrays(table: pa.Table) -> dict[str, Column]:
    """Return the columns by name. Those with masked values are ``numpy.ma.MaskedArray``."""
    return {name: _to_array(_whole(table.column(name))) for name in table.column_names}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _to_array(values: pa.Array) -> Column:
    kind = values.type
    if pa.types.is_time64(kind):
        return _to_array(values.view(pa.int64()).view(pa.duration(kind.unit)))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return _to_exact(values)
    if pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        made: Column = values.to_numpy(zero_copy_only=False)
        return made
    return _to_objects(values)


def _to_exact(values: pa.Array) -> Column:
    if not values.null_count:
        made: Column = values.to_numpy(zero_copy_only=False)
        return made
    data: Column = values.fill_null(False if pa.types.is_boolean(values.type) else 0).to_numpy(zero_copy_only=False)
    return np.ma.MaskedArray(data, mask=values.is_null().to_numpy(zero_copy_only=False))


def _to_objects(values: pa.Array) -> Column:
    made = np.empty(len(values), dtype=object)
    for row, value in enumerate(values.to_pylist()):  # NumPy would make a second dimension of lists.
        made[row] = value
    return made
