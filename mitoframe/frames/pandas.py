"""A pandas DataFrame as an Arrow table, value for value.

NaN stays NaN and is not null; NaT and ``pd.NA`` are null. Index levels are columns if they are named and asked for as
the time or a tag; any other index is left behind, as ``to_parquet(index=False)`` does. NumPy memory is copied, since
its owner may change it.
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


def _convert(name: str, values: pd.Series[Any] | pd.Index[Any]) -> pa.Array | pa.ChunkedArray:
    try:
        if isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub":
            native = values.dtype.newbyteorder("=")
            return pa.array(np.array(values.to_numpy(), dtype=native, copy=True), from_pandas=False)
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        row = _first_odd(values)
        raise InvalidInputError(
            f"column {name!r} mixes types or holds values without an Arrow type (first seen in row {row}): {error}. "
            "Convert the column to one type."
        ) from error


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
