"""Arrow columns as arrays: every type, its extremes and its nulls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from values import COLUMNS, same_bits

from mitoframe.frames.numpy import Column, to_arrays


def array_of(column: pa.Array) -> Column:
    return to_arrays(pa.table({"x": pa.chunked_array([column])}))["x"]


def value_of(array: Column, row: int) -> Any:
    """Return a value as Arrow would take it, None where it is missing."""
    value = array[row]
    if value is np.ma.masked or (array.dtype.kind in "mM" and np.isnat(value)):
        return None
    return value


@pytest.mark.parametrize("name", [name for name, column in COLUMNS.items() if not pa.types.is_floating(column.type)])
def test_values_and_nulls_come_back(name: str) -> None:
    column = COLUMNS[name]

    array = array_of(column)

    assert len(array) == len(column)
    values = [value_of(array, row) for row in range(len(array))]
    if pa.types.is_time(column.type):
        values = [None if value is None else int(value.astype(np.int64)) for value in values]
        assert pa.array(values, pa.int64()).cast(column.type).equals(column)
    elif pa.types.is_temporal(column.type):
        assert [None if value is None else int(value.astype(np.int64)) for value in values] == _ticks(column)
    else:
        assert pa.array([_plain(value) for value in values], column.type).equals(column)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _ticks(column: pa.Array) -> list[int | None]:
    ticks: list[int | None] = column.view(pa.int32() if column.type == pa.date32() else pa.int64()).to_pylist()
    return ticks


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_floats_come_back_to_the_bit_and_nulls_are_not_a_number(name: str) -> None:
    column = COLUMNS[name]

    array = array_of(column)

    assert array.dtype == column.type.to_pandas_dtype()
    assert same_bits(pa.array(array, mask=np.asarray(column.is_null())), column)
    assert all(math.isnan(array[row]) for row, value in enumerate(column.to_pylist()) if value is None)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pa.array([1, 2], pa.timestamp("ns", "Europe/Paris")), "datetime64[ns]"),
        (pa.array([1, 2], pa.timestamp("ms")), "datetime64[ms]"),
        (pa.array([1, 2], pa.date32()), "datetime64[D]"),
        (pa.array([1, 2], pa.duration("us")), "timedelta64[us]"),
        (pa.array([1, 2], pa.time64("ns")), "timedelta64[ns]"),
        (pa.array([1, None], pa.int8()), "int8"),
        (pa.array([True, None]), "bool"),
        (pa.array(["a", None], pa.large_string()), "object"),
    ],
    ids=["zoned", "ms", "date", "duration", "time", "int8", "bool", "string"],
)
def test_a_type_becomes(column: pa.Array, dtype: str) -> None:
    assert array_of(column).dtype == np.dtype(dtype)


def test_numbers_without_nulls_share_their_memory() -> None:
    column = pa.array(range(1000), pa.float64())

    array = array_of(column)

    assert array.ctypes.data == column.buffers()[1].address
    assert not array.flags.writeable


def test_lists_of_one_length_stay_lists() -> None:
    column = pa.array([[1, 2], [3, 4]], pa.large_list(pa.int64()))

    array = array_of(column)

    assert array.shape == (2,)
    assert array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", COLUMNS)
def test_several_chunks_and_none_are_one_array(name: str) -> None:
    column = COLUMNS[name]
    chunked = pa.chunked_array([column.slice(0, 2), column.slice(2)])

    both = to_arrays(pa.table({"x": chunked, "none": chunked.slice(0, 6)}))
    none = to_arrays(pa.table({"x": pa.chunked_array([], column.type)}))

    assert len(both["x"]) == len(column)
    assert none["x"].shape == (0,)
    assert none["x"].dtype == array_of(column).dtype
