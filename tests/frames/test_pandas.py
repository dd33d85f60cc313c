"""Columns that only pandas has: objects, categories, missing values of every kind, and what has no Arrow form."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

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
        ([[1.5, None], None, np.array([2.5])], pa.list_(pa.float64()), [[1.5, None], None, [2.5]]),
        ([np.nan, "a"], pa.string(), [None, "a"]),
        ([2, np.nan], pa.int64(), [2, None]),
        ([np.int8(1), np.float32(0.5)], pa.float64(), [1.0, 0.5]),
        ([np.float16(0.5), 2049], pa.float64(), [0.5, 2049.0]),
        ([[np.float16(0.5)], np.array([2049])], pa.list_(pa.float64()), [[0.5], [2049.0]]),
        ([np.float32(0.1), np.float32(2.5)], pa.float32(), [np.float32(0.1), 2.5]),
        ([Decimal("NaN"), Decimal(1)], pa.decimal128(1, 0), [None, Decimal(1)]),
        ([np.datetime64(1, "ns"), pd.NaT], pa.timestamp("ns"), [pd.Timestamp(1), None]),
        ([time(1, 2), None], pa.time64("us"), [time(1, 2), None]),
        ([None, np.nan, pd.NA, pd.NaT], pa.null(), [None] * 4),
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
        ([1, 2, 2**70], 2),
        (["a", "\ud800"], 1),
        (["a", b"a"], 1),
        ([b"a", None, "a"], 2),
        ([date(2024, 1, 1), datetime(2024, 1, 1, 5)], 1),
        ([pd.Timestamp(0), np.datetime64(0, "ns")], 1),
        ([1.5, None, True], 2),
        ([True, 1], 1),
        ([1, 2.5, 2**53 + 1], 2),
        ([Decimal("1.5"), 1, 0.5], 2),
        ([0.5, np.uint64(2**64 - 1)], 1),
        ([["a"], None, ["a", b"a"]], 2),
        ([["a"], "a"], 1),
        ([[1], [[1]]], 1),
        ([datetime(1, 1, 1), pd.Timestamp(1)], 1),
    ],
)
def test_objects_of_mixed_types_are_refused_with_column_and_row(values: list[Any], row: int) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"column 'x' mixes types.*first seen in row {row}\).*Convert the column"
    ):
        column_of(pd.Series(values, dtype=object))


@pytest.mark.parametrize("other", [pd.Timestamp(0), pd.Timestamp(0, tz="Europe/Paris")])
def test_datetimes_of_mixed_zones_are_refused_with_column_and_row(other: pd.Timestamp) -> None:
    values = pd.Series([None, pd.Timestamp(0, tz="UTC"), pd.NaT, other], dtype=object)

    with pytest.raises(InvalidInputError, match="column 'x' mixes time zones: row 3 has"):
        column_of(values)


@pytest.mark.parametrize(
    ("values", "kind", "ticks"),
    [
        ([pd.Timestamp(1), None, pd.NaT], pa.timestamp("ns"), [1, None, None]),
        ([datetime(1970, 1, 1), pd.Timestamp(1)], pa.timestamp("ns"), [0, 1]),
        ([pd.Timestamp(1, tz="Europe/Paris")], pa.timestamp("ns", "Europe/Paris"), [1]),
        ([pd.Timestamp(1000), datetime(1, 1, 1)], pa.timestamp("us"), [1, -62_135_596_800_000_000]),
        ([pd.Timedelta(1), timedelta(microseconds=1)], pa.duration("ns"), [1, 1000]),
        ([[pd.Timestamp(1)], None], pa.list_(pa.timestamp("ns")), [[pd.Timestamp(1)], None]),
    ],
)
def test_objects_keep_their_nanoseconds(values: list[Any], kind: pa.DataType, ticks: list[Any]) -> None:
    found = column_of(pd.Series(values, dtype=object))

    assert found.type == kind
    assert (found if pa.types.is_list(kind) else found.cast(pa.int64())).to_pylist() == ticks


def test_the_hour_that_comes_twice_is_two_instants() -> None:
    paris = ZoneInfo("Europe/Paris")
    values = [datetime(2024, 10, 27, 2, 30, fold=fold, tzinfo=paris) for fold in (0, 1)]

    first, second = column_of(pd.Series(values, dtype=object)).cast(pa.int64()).to_pylist()

    assert second - first == 3600 * 10**6


def test_a_time_of_day_with_a_zone_is_refused_with_column_and_row() -> None:
    with pytest.raises(InvalidInputError, match="column 'x' has a time of day with the zone UTC in row 1; remove it"):
        column_of(pd.Series([None, time(1, tzinfo=UTC)], dtype=object))


def test_a_zone_within_a_list_is_not_lost_either() -> None:
    with pytest.raises(InvalidInputError, match="column 'x' mixes time zones: row 1 has None, rows before it UTC"):
        column_of(pd.Series([[pd.Timestamp(0, tz="UTC")], [pd.Timestamp(0)]], dtype=object))


def test_datetimes_of_one_zone_may_be_objects() -> None:
    values = pd.Series([None, pd.Timestamp(0, tz="UTC")], dtype=object)

    assert column_of(values).type.tz == "UTC"


@pytest.mark.parametrize("values", [np.array([1j]), np.array([1], np.longdouble), pd.arrays.SparseArray([0.0])])
def test_numbers_without_an_arrow_type_are_refused(values: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"column 'x' has the pandas type .*, which has no Arrow form"):
        column_of(values)


def test_nan_stays_nan_and_nat_is_null() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan], "t": pd.to_datetime([0, None])})

    table = to_table(frame, [])

    assert table.column("x").null_count == 0
    assert table.column("t").null_count == 1


@pytest.mark.parametrize("nested", [False, True])
def test_nan_among_float_objects_is_a_value_and_none_is_null(nested: bool) -> None:
    values = [[1.5, np.nan, None]] if nested else [1.5, np.nan, None, pd.NA, pd.NaT]

    found = column_of(pd.Series(values, dtype=object))

    floats = found.chunk(0).values if nested else found
    assert floats.is_null().to_pylist() == [False, False, True, True, True][: len(floats)]
    assert np.isnan(floats[1].as_py())


def test_nan_in_a_masked_array_is_a_value_where_the_mask_says_so() -> None:
    array = pd.arrays.FloatingArray(np.array([np.nan, np.nan]), np.array([False, True]))

    assert column_of(pd.Series(array)).null_count == 1


def test_categories_that_no_row_has_and_nulls_stay_what_they_are() -> None:
    found = column_of(pd.Categorical(["a", None, "a"], categories=["z", "a"]))

    assert pa.types.is_dictionary(found.type)
    assert found.to_pylist() == ["a", None, "a"]


def test_a_categorical_without_categories_holds_only_nulls_of_no_type() -> None:
    found = column_of(pd.Categorical([None, None]))

    assert found.type == pa.null()
    assert len(found) == 2


@pytest.mark.parametrize("values", [["b", 1, "a"], ["b", b"a"]])
def test_categories_of_mixed_types_are_refused_with_column_and_row(values: list[Any]) -> None:
    categorical = pd.Categorical(values, categories=pd.Index(["unused", *dict.fromkeys(values)], dtype=object))

    with pytest.raises(InvalidInputError, match=r"column 'x' mixes types.*row 1"):
        column_of(categorical)


def test_an_unused_category_of_another_type_does_no_harm() -> None:
    categorical = pd.Categorical(["a", None], categories=pd.Index([1, "a"], dtype=object))

    assert column_of(categorical).to_pylist() == ["a", None]


def test_a_column_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"the column name '\\ud800' has no UTF-8 form; rename it"):
        to_table(pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)), [])


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


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_a_datetime_index_without_a_name_is_the_time_that_is_missing(zone: str | None) -> None:
    frame = pd.DataFrame({"x": [1]}, index=pd.DatetimeIndex(["2024-01-01"], tz=zone))

    table = to_table(frame, ["ts", "x"])

    assert table.column_names == ["ts", "x"]
    assert table["ts"][0].as_py() == pd.Timestamp("2024-01-01", tz=zone)


def test_a_datetime_index_without_a_name_is_no_tag() -> None:
    frame = pd.DataFrame({"ts": [0]}, index=pd.DatetimeIndex(["2024-01-01"]))

    assert to_table(frame, ["ts", "host"]).column_names == ["ts"]


@pytest.mark.parametrize("index", [pd.RangeIndex(1), pd.Index(["a"]), pd.period_range("2024", periods=1, freq="D")])
def test_another_index_without_a_name_is_left_behind(index: pd.Index[Any]) -> None:
    assert to_table(pd.DataFrame({"x": [1]}, index=index), ["ts"]).column_names == ["x"]


def test_a_datetime_index_of_another_name_is_told_how_to_be_the_time() -> None:
    frame = pd.DataFrame({"x": [1]}, index=pd.DatetimeIndex(["2024-01-01"], name="date"))

    with pytest.raises(
        InvalidInputError, match=r"no column 'ts', and the index is called 'date'; give time='date', or .*'ts'\)"
    ):
        to_table(frame, ["ts"])


@pytest.mark.parametrize(("names", "missing", "level"), [([None, "host"], "ts", 0), (["ts", None], "host", 1)])
def test_a_level_without_a_name_is_told_how_to_be_the_key_that_is_missing(
    names: list[str | None], missing: str, level: int
) -> None:
    index = pd.MultiIndex.from_tuples([(pd.Timestamp(0), "a")], names=names)

    with pytest.raises(
        InvalidInputError,
        match=rf"no column '{missing}', and level {level} of the index.*set_names\('{missing}', level={level}",
    ):
        to_table(pd.DataFrame({"x": [0]}, index=index), ["ts", "host"])


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
