"""A pandas DataFrame as an Arrow table and back, value for value.

NaN stays NaN and is not null; NaT, None and ``pd.NA`` are null. In an object column NaN is a value among floats, and
missing among anything else. A column of objects must be of one kind (text, bytes, numbers, datetimes, ...): what Arrow
would quietly turn into the kind of the first is refused, with the row.

Index levels are columns if they are named and asked for as the time or a tag. A DatetimeIndex without a name is the
time, if no column or level has the time's name. Any other index is left behind, as ``to_parquet(index=False)`` does.
Memory is shared where the layouts agree: whoever keeps the table copies it.

On the way back integers and booleans with nulls become pandas' nullable types, because NumPy would make floats of the
ones (and change those above 2^53) and objects of the others. A null float becomes NaN, as everywhere in pandas. All
columns may be asked for in pandas' nullable types, or in Arrow's, in the words of `pandas.read_parquet`; a column that
is to be a category has its values in order as the categories.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.frames.blame import NOT_CONVERTED, first_failing
from mitoframe.model.errors import InvalidInputError, unknown_name
from mitoframe.model.schema import check_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import numpy.typing as npt


Backend: TypeAlias = Literal["numpy_nullable", "pyarrow"]


def is_frame(data: object) -> bool:
    return isinstance(data, pd.DataFrame)


def to_table(frame: pd.DataFrame, keys: Sequence[str]) -> pa.Table:
    """Convert a frame; ``keys`` are the names that may be found in its index, the time's first.

    Raises:
        InvalidInputError: a column's name or values have no Arrow form; the message names the column.

    """
    names = frame.columns.tolist()
    check_names(names)
    arrays = {name: _convert(name, values) for name, values in _levels(frame.index, names, keys).items()}
    arrays |= {str(name): _convert(str(name), values) for name, values in frame.items()}
    try:
        return pa.table(arrays)
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the column name {error.object!r} has no UTF-8 form; rename it.") from error


def _levels(index: pd.Index[Any], names: Sequence[str], keys: Sequence[str]) -> dict[str, pd.Index[Any]]:
    """Return the index levels that are columns, by name. ``names`` are the frame's own columns."""
    levels = {
        str(name): index.get_level_values(str(name)) for name in index.names if name in keys and name not in names
    }
    missing = [key for key in keys if key not in names and key not in levels]
    if missing:
        levels |= _unnamed_time(index, missing[0], is_time=missing[0] == keys[0])
    return levels


def _unnamed_time(index: pd.Index[Any], missing: str, *, is_time: bool) -> dict[str, pd.Index[Any]]:
    """Return a DatetimeIndex as the time that is missing, or say what is in the way."""
    if isinstance(index, pd.MultiIndex):
        if None in index.names:
            level = index.names.index(None)
            raise InvalidInputError(
                f"there is no column {missing!r}, and level {level} of the index has no name; name the levels, as in "
                f"df.index.set_names({missing!r}, level={level})."
            )
    elif is_time and isinstance(index, pd.DatetimeIndex):
        if index.name is None:
            return {missing: index}
        raise InvalidInputError(
            f"there is no column {missing!r}, and the index is called {index.name!r}; give time={index.name!r}, or "
            f"df.rename_axis({missing!r})."
        )
    return {}


def from_table(
    table: pa.Table, *, backend: Backend | None = None, categories: Collection[str] = (), index: Sequence[str] = ()
) -> pd.DataFrame:
    """Make a frame that owns its memory.

    Args:
        table: the columns.
        backend: the types of all columns: ``"numpy_nullable"`` or ``"pyarrow"``; None as the module says.
        categories: columns that become categories instead.
        index: columns that become the index, in this order; a plain integer one if there are none.

    Raises:
        InvalidInputError: there is no such backend, or no such column for the index.

    """
    if backend not in (None, "numpy_nullable", "pyarrow"):
        raise InvalidInputError(f"dtype_backend={backend!r} is not one of None, 'numpy_nullable', 'pyarrow'.")
    for name in index:
        if name not in table.column_names:
            raise InvalidInputError(f"index: {unknown_name('column', name, table.column_names)}")
    series = {
        name: _from_categories_of(column) if name in categories else _from_column(column, backend)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    frame = pd.DataFrame(series, index=pd.RangeIndex(len(table)), copy=True)
    return frame.set_index(list(index)) if index else frame


def _from_column(column: pa.ChunkedArray, backend: Backend | None) -> pd.Series[Any]:
    if backend == "pyarrow":
        return column.to_pandas(types_mapper=pd.ArrowDtype)  # type: ignore[no-any-return]
    if backend == "numpy_nullable":
        return column.to_pandas(types_mapper=_ALL_NULLABLE.get)  # type: ignore[no-any-return]
    mapper = _NULLABLE.get if column.null_count else None
    made: pd.Series[Any] = column.to_pandas(types_mapper=mapper, integer_object_nulls=True)
    return made


def _from_categories_of(column: pa.ChunkedArray) -> pd.Series[Any]:
    """Make a category of a column; its values in order are the categories, as ``astype("category")`` has them."""
    values = pc.drop_null(pc.unique(column))
    values = values.take(pc.sort_indices(values))
    codes = pc.index_in(column, values).combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False)
    made = pd.Categorical.from_codes(codes, categories=pd.Index(values.to_pandas()))
    return pd.Series(made)


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
_ALL_NULLABLE = {
    **_NULLABLE,
    pa.float32(): pd.Float32Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.large_string(): pd.StringDtype(),
}


# --- columns ---------------------------------------------------------------------------------------------


def _convert(name: str, values: pd.Series[Any] | pd.Index[Any]) -> pa.Array | pa.ChunkedArray:
    dtype = values.dtype  # Asking for it is not cheap, nor is comparing one of pandas' own.
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return _from_objects(name, values.to_numpy())
    if isinstance(dtype, pd.CategoricalDtype):
        return _from_categories(name, values, dtype.categories)
    try:
        if isinstance(dtype, np.dtype) and dtype.kind in "fiubmM":
            native = dtype.newbyteorder("=")
            return pa.array(np.ascontiguousarray(values.to_numpy(), dtype=native), from_pandas=False)
        return pa.array(values, from_pandas=True)
    except NOT_CONVERTED as error:
        raise InvalidInputError(
            f"column {name!r} has the pandas type {dtype}, which has no Arrow form: {error}. Convert the column."
        ) from error


def _from_categories(
    name: str, values: pd.Series[Any] | pd.Index[Any], categories: pd.Index[Any]
) -> pa.Array | pa.ChunkedArray:
    if not len(categories):
        return pa.nulls(len(values))
    if categories.dtype != object or len({_kind(type(category)) for category in categories}) == 1:
        return pa.array(values, from_pandas=True)
    # Whether an odd category matters, only the rows can tell.
    return _from_objects(name, np.asarray(values, dtype=object))


_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "bytes": (bytes, bytearray, memoryview),
    "booleans": (bool, np.bool_),
    "NumPy datetimes": (np.datetime64,),
    "NumPy durations": (np.timedelta64,),
    "numbers": (int, float, Decimal, np.integer, np.floating),
    "datetimes": (datetime,),
    "dates": (date,),
    "times": (time,),
    "durations": (timedelta,),
    "lists": (list, tuple, np.ndarray),
}


def _kind(found: type) -> str:
    """Say what a value of a type is; a type that is two things is the first (a bool is an int, a datetime a date)."""
    return next((kind for kind, types in _KINDS.items() if issubclass(found, types)), found.__name__)


def _from_objects(name: str, values: npt.NDArray[np.object_]) -> pa.Array | pa.ChunkedArray:
    missing = pd.isna(values)
    types = set(map(type, values[~missing]))
    if any(_kind(found) == "lists" for found in types):
        types = {type(value) for _, value in _present(values, missing)}
    if len({_kind(found) for found in types}) > 1:
        _refuse_mixed_kinds(name, values, missing)
    if len(types) > 1 and any(issubclass(found, np.number) for found in types):
        values = _without_numpy(values)
    try:
        array = _infer_exactly(values, missing)
    except NOT_CONVERTED as error:
        row = first_failing(len(values), lambda count: _infer_exactly(values[:count], missing[:count]))
        raise InvalidInputError(
            f"column {name!r} mixes types or holds values without an Arrow type (first seen in row {row}): {error}. "
            "Convert the column to one type."
        ) from error
    _refuse_lost_zones(name, values, missing, _leaf(array.type))
    return array


def _refuse_mixed_kinds(name: str, values: npt.NDArray[np.object_], missing: npt.NDArray[np.bool_]) -> None:
    first = None
    for row, value in _present(values, missing):
        kind = _kind(type(value))
        first = first or kind
        if kind != first:
            raise InvalidInputError(
                f"column {name!r} mixes types: {kind} after {first} (first seen in row {row}). Convert the column to "
                "one type."
            )


def _without_numpy(values: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Make Python's numbers of NumPy's: where several types meet, Arrow wraps unsigned ones and cuts fractions off."""
    plain = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        plain[row] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _present(values: npt.NDArray[np.object_], missing: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Any]]:
    """Yield row and value of what is not missing; of lists, what is in them."""
    for row in np.flatnonzero(~missing):
        for value in _leaves(values[row]):
            yield int(row), value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield from value[:1]  # The others are of the same type.
    elif isinstance(value, list | tuple | np.ndarray):
        for item in value:
            yield from _leaves(item)
    elif not (value is None or value is pd.NA or value != value):
        yield value


def _infer_exactly(values: npt.NDArray[np.object_], missing: npt.NDArray[np.bool_]) -> pa.Array | pa.ChunkedArray:
    """Convert objects, where Arrow's own guess makes NaN null and cuts nanoseconds off."""
    array = pa.array(values, mask=missing, from_pandas=True)
    leaf = _leaf(array.type)
    if pa.types.is_floating(leaf):
        is_nan = np.array([isinstance(value, float | np.floating) for value in values], dtype=np.bool_)
        return pa.array(values, array.type, mask=missing & ~is_nan, from_pandas=False)
    if _is_microseconds(leaf) and any(_has_nanoseconds(value) for _, value in _present(values, missing)):
        return pa.array(values, _in_nanoseconds(array.type), mask=missing, from_pandas=True)
    return array


def _leaf(data_type: pa.DataType) -> pa.DataType:
    return _leaf(data_type.value_type) if pa.types.is_list(data_type) else data_type


def _is_microseconds(data_type: pa.DataType) -> bool:
    return bool((pa.types.is_timestamp(data_type) or pa.types.is_duration(data_type)) and data_type.unit == "us")


def _has_nanoseconds(value: object) -> bool:
    if isinstance(value, pd.Timestamp):
        return value.nanosecond != 0
    return isinstance(value, pd.Timedelta) and value.nanoseconds != 0


def _in_nanoseconds(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_list(data_type):
        return pa.list_(_in_nanoseconds(data_type.value_type))
    return pa.timestamp("ns", data_type.tz) if pa.types.is_timestamp(data_type) else pa.duration("ns")


def _refuse_lost_zones(
    name: str, values: npt.NDArray[np.object_], missing: npt.NDArray[np.bool_], kept: pa.DataType
) -> None:
    """Refuse datetimes of several zones, or some without one, for which Arrow would take the first one's; and times."""
    if not (pa.types.is_timestamp(kept) or pa.types.is_time(kept)):
        return
    first: str | None = None
    for row, value in _present(values, missing):
        zone = str(getattr(value, "tzinfo", None))
        if pa.types.is_time(kept) and zone != "None":
            raise InvalidInputError(f"column {name!r} has a time of day with the zone {zone} in row {row}; remove it.")
        first = first or zone
        if zone != first:
            raise InvalidInputError(
                f"column {name!r} mixes time zones: row {row} has {zone}, rows before it {first}. "
                "Convert the column with pd.to_datetime(..., utc=True)."
            )
