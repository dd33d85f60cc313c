"""Columns that only pandas has: objects, categories, missing values of every kind, and what has no Arrow form."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mitoframe.frames.pandas import from_table, to_table
from mitoframe.model.errors import InvalidInputError


def column_of(values: Any) -> pa.ChunkedArray:
    return to_table(pd.DataFrame({"x": values}), []).column("x")


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["a", None, np.nan, pd.NA], pa.string(), ["a", None, None, None]),
        ([b"a", None], pa.binary(), [b"a", None]),
        ([date(2024, 1, 1), None], pa.date32(), [date(2024, 1, 1), None]),
        ([Decimal("1.5"), None], pa.decimal128(2, 1), [Decimal("1.5"), None]),
        ([timedelta(seconds=1), None], pa.duration("us"), [timedelta(seconds=1), None]),
        ([1, None], pa.int64(), [1, None]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([[1], None], pa.list_(pa.int64()), [[1], None]),
    ],
)
def test_objects_of_one_type_are_a_column_of_that_type(
    values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    found = column_of(pd.Series(values, dtype=object))

    assert found.type == kind
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "row"),
    [
        ([1, 2, "a"], 2),
        (["a", None, 1], 2),
        ([None, True, 2], 2),
        ([1.5, "a"], 1),
        ([object(), object()], 0),
        ([2**70, 1], 0),
        (["a", "\ud800"], 0),
    ],
)
def test_objects_of_mixed_types_are_refused_with_column_and_row(values: list[Any], row: int) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"column 'x' mixes types .*first seen in row {row}\).*Convert the column"
    ):
        column_of(pd.Series(values, dtype=object))


@pytest.mark.parametrize("other", [pd.Timestamp(0), pd.Timestamp(0, tz="Europe/Paris")])
def test_datetimes_of_mixed_zones_are_refused_with_column_and_row(other: pd.Timestamp) -> None:
    values = pd.Series([None, pd.Timestamp(0, tz="UTC"), pd.NaT, other], dtype=object)

    with pytest.raises(InvalidInputError, match="column 'x' mixes time zones: row 3 has"):
        column_of(values)


def test_datetimes_of_one_zone_may_be_objects() -> None:
    values = pd.Series([None, pd.Timestamp(0, tz="UTC")], dtype=object)

    assert column_of(values).type.tz == "UTC"


@pytest.mark.parametrize("values", [np.array([1j]), np.array([1], np.longdouble), pd.arrays.SparseArray([0.0])])
def test_numbers_without_an_arrow_type_are_refused(values: Any) -> None:
    with pytest.raises(InvalidInputError, match="column 'x' mixes types or holds values without an Arrow type"):
        column_of(values)


def test_nan_stays_nan_and_nat_is_null() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan], "t": pd.to_datetime([0, None])})

    table = to_table(frame, [])

    assert table.column("x").null_count == 0
    assert table.column("t").null_count == 1


def test_categories_that_no_row_has_and_nulls_stay_what_they_are() -> None:
    found = column_of(pd.Categorical(["a", None, "a"], categories=["z", "a"]))

    assert pa.types.is_dictionary(found.type)
    assert found.to_pylist() == ["a", None, "a"]


@pytest.mark.parametrize("names", [[1], [("a", "b")], [None], [1.5], [pd.Timestamp(0)]])
def test_a_column_name_that_is_no_string_is_refused(names: list[Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"column name .* is a .*; rename it to a string"):
        to_table(pd.DataFrame([[1]], columns=pd.Index(names, dtype=object)), [])


def test_a_column_name_that_appears_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="column name 'x' appears twice"):
        to_table(pd.DataFrame([[1, 2]], columns=["x", "x"]), [])


def test_only_the_levels_asked_for_come_out_of_an_index() -> None:
    index = pd.MultiIndex.from_tuples([(1, 2, 3)], names=["ts", "host", None])

    table = to_table(pd.DataFrame({"x": [0]}, index=index), ["ts", "host", "x"])

    assert table.column_names == ["ts", "host", "x"]


def test_a_column_wins_over_an_index_level_of_its_name() -> None:
    frame = pd.DataFrame({"ts": [1]}, index=pd.Index([2], name="ts"))

    assert to_table(frame, ["ts"]).to_pydict() == {"ts": [1]}


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64(), pa.timestamp("us"), pa.bool_(), pa.large_string()])
@pytest.mark.parametrize("others", [0, 2])
def test_a_frame_read_back_owns_its_memory(kind: pa.DataType, others: int) -> None:
    values = pa.array([0, 1, 0]).cast(kind)
    table = pa.table({"x": values} | {f"other{number}": values for number in range(others)})
    before = values.to_pylist()

    frame = from_table(table)
    frame.loc[:, "x"] = frame["x"].iloc[::-1].to_numpy().copy()[[0, 0, 0]]
    raw = frame["x"].array
    raw[:] = raw[1]

    assert table.column("x").to_pylist() == before


def test_a_list_with_a_null_keeps_large_integers() -> None:
    frame = from_table(pa.table({"x": pa.array([[2**53 + 1, None]])}))

    assert list(frame["x"][0]) == [2**53 + 1, None]


def test_rows_without_columns_keep_their_number() -> None:
    table = pa.table({"x": [1, 2]}).select([])

    assert len(from_table(table)) == 2
