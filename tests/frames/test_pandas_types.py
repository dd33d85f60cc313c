"""Arrow columns as pandas columns: the backends, categories, the index; with pandas 2 and 3."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from values import COLUMNS

from mitoframe.frames.pandas import from_table
from mitoframe.model.errors import InvalidInputError


@pytest.mark.parametrize("name", COLUMNS)
def test_arrows_own_types_hold_every_value(name: str) -> None:
    column = COLUMNS[name]

    series = from_table(pa.table({"x": column}), backend="pyarrow")["x"]

    assert series.dtype == pd.ArrowDtype(column.type)
    assert pa.array(series.array, column.type).equals(column) or pa.types.is_floating(column.type)
    assert series.isna().tolist() == column.is_null(nan_is_null=False).to_pylist()


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("int8", "Int8"),
        ("int64", "Int64"),
        ("uint64", "UInt64"),
        ("bool", "boolean"),
        ("float32", "Float32"),
        ("float64", "Float64"),
    ],
)
def test_nullable_types_are_used_for_every_column(name: str, dtype: str) -> None:
    column = COLUMNS[name]
    whole = column.drop_null()

    series = from_table(pa.table({"x": column}), backend="numpy_nullable")["x"]
    without_nulls = from_table(pa.table({"x": whole}), backend="numpy_nullable")["x"]

    assert str(series.dtype) == str(without_nulls.dtype) == dtype
    assert [value for value in series if value is not pd.NA and value == value] == [
        value for value in column.to_pylist() if value is not None and value == value
    ]
    assert all(series[row] is pd.NA for row, value in enumerate(column.to_pylist()) if value is None)


def test_nullable_strings_are_pandas_own() -> None:
    series = from_table(pa.table({"x": COLUMNS["string"]}), backend="numpy_nullable")["x"]

    assert isinstance(series.dtype, pd.StringDtype)
    assert [None if value is pd.NA else value for value in series] == COLUMNS["string"].to_pylist()


@pytest.mark.parametrize("backend", [None, "numpy_nullable", "pyarrow"])
@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([["b", "a", None], ["a", "c"]], pa.large_string()),
        pa.chunked_array([[3, 1, None], [1, -2]], pa.int16()),
        pa.chunked_array([[True, None], [False]]),
        pa.chunked_array([[5, None], [3]], pa.date32()),
        pa.chunked_array([[None, None]], pa.large_string()),
        pa.chunked_array([], pa.large_string()),
    ],
    ids=["string", "int", "bool", "date", "nulls", "empty"],
)
def test_a_category_is_what_astype_makes(column: pa.ChunkedArray, backend: Any) -> None:
    table = pa.table({"x": column, "y": pa.nulls(len(column), pa.float64())})

    found = from_table(table, backend=backend, categories=["x"])["x"]

    assert isinstance(found.dtype, pd.CategoricalDtype)
    values = column.to_pylist()
    assert [None if pd.isna(value) else value for value in found] == values
    assert found.cat.categories.tolist() == sorted({value for value in values if value is not None})


def test_named_columns_become_the_index_in_their_order() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.5]})

    assert from_table(table).index.equals(pd.RangeIndex(2))
    assert from_table(table, index=["b"]).index.tolist() == ["x", "y"]
    both = from_table(table, index=["b", "a"], categories=["b"])
    assert both.index.names == ["b", "a"]
    assert both.columns.tolist() == ["c"]
    with pytest.raises(InvalidInputError, match="index: no column 'd'"):
        from_table(table, index=["d"])


@pytest.mark.parametrize("backend", [None, "numpy_nullable", "pyarrow"])
def test_a_frame_owns_its_memory(backend: Any) -> None:
    table = pa.table({"a": pa.array([1.0, 2.0])})
    frame = from_table(table, backend=backend)

    frame.iloc[0, 0] = 9.0

    assert table.column("a").to_pylist() == [1.0, 2.0]


def test_another_backend_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="dtype_backend='numpy' is not one of"):
        from_table(pa.table({"a": [1]}), backend="numpy")  # type: ignore[arg-type]
