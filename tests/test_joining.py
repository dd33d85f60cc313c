from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe import joining
from mitoframe.model.errors import InvalidInputError

START = datetime(2024, 1, 1)
SCHEMA = {"ts": pl.Datetime("ms"), "host": pl.String, "rack": pl.Int64, "x": pl.Int64}

hosts, racks = st.sampled_from([None, "a", "b"]), st.sampled_from([None, 1])
writes = st.lists(
    st.lists(st.tuples(st.integers(0, 12), hosts, racks, st.none() | st.integers(0, 9)), min_size=1, max_size=12),
    max_size=4,
)
asked = st.lists(st.tuples(st.none() | st.integers(-2, 14), hosts, racks), max_size=4)


def at(minute: int | None) -> datetime | None:
    return None if minute is None else START + timedelta(minutes=minute)


def table_of(database: mito.Database, writes: list[list[tuple[Any, ...]]]) -> mito.Table:
    table = database.create_table("cpu", SCHEMA, time="ts", tags=["host", "rack"])
    for number, write in enumerate(writes):
        table.write(pl.DataFrame([(at(time), *rest) for time, *rest in write], schema=SCHEMA, orient="row"))
        if number % 2 == 0:
            table.flush()
    return table


def left_of(asked: list[tuple[Any, ...]], on: str, unit: Any) -> pl.DataFrame:
    schema = {on: pl.Datetime(unit), "host": pl.String, "rack": pl.Int64}
    return pl.DataFrame([(at(time), *rest) for time, *rest in asked], schema=schema, orient="row")


@given(
    writes,
    asked,
    st.sampled_from([[], ["host"], ["host", "rack"]]),
    st.sampled_from(["backward", "forward", "nearest"]),
    st.sampled_from([None, "0s", "3m", timedelta(minutes=7)]),
    st.sampled_from([None, pl.col("x") > 2, pl.col("x") > pl.col("x").mean()]),
)
@settings(deadline=None, max_examples=60)
def test_a_join_finds_what_polars_finds_in_all_rows(writes, asked, by, strategy, tolerance, where):
    left = left_of(asked, "at", "ms")
    with mito.open("memory://") as database:
        scan = table_of(database, writes).scan(where=where)

        found = scan.asof(left, on="at", by=by, strategy=strategy, tolerance=tolerance)

        right = scan.collect().sort("ts", "host", "rack")
    numbered = left.with_row_index().sort("at")
    joined = numbered.join_asof(
        right,
        left_on="at",
        right_on="ts",
        by=by or None,
        strategy=strategy,
        tolerance=tolerance,
        check_sortedness=False,
    )
    expected = joined.sort("index").drop("index")
    assert_frame_equal(found.select(expected.columns), expected)
    assert set(found.columns) == set(expected.columns)


def test_a_row_before_the_first_time_asked_for_is_found_as_far_as_the_tolerance_reaches(cpu):
    left = left_of([(13, "a", 1)], "ts", "ms")

    assert cpu.scan().asof(left, tolerance="3m")["x"].to_list() == [1]
    assert cpu.scan().asof(left, tolerance="2m")["x"].to_list() == [None]
    assert cpu.scan().asof(left, strategy="forward", tolerance="7m")["x"].to_list() == [2]
    assert cpu.scan().asof(left, strategy="forward", tolerance="6m")["x"].to_list() == [None]


def test_a_condition_on_all_rows_is_asked_of_all_rows(cpu):
    cpu.write(pl.DataFrame([(at(0), "c", 1, 100)], schema=SCHEMA, orient="row"))
    above = cpu.scan(where=pl.col("x") > pl.col("x").mean())

    assert above.asof(left_of([(15, "b", 1)], "ts", "ms"), tolerance="10m")["x"].to_list() == [None]
    assert above.asof(left_of([(20, "c", 1)], "ts", "ms"))["x"].to_list() == [100]


@pytest.fixture
def cpu() -> Iterator[mito.Table]:
    with mito.open("memory://") as database:
        yield table_of(database, [[(0, "a", 1, 0), (10, "a", 1, 1), (20, "a", 1, 2), (15, "b", 1, 3)]])


def test_time_and_tags_are_found_by_their_names(cpu):
    left = left_of([(12, "a", 1), (16, "b", 1), (5, "b", 1)], "ts", "us")

    found = cpu.scan().asof(left)

    assert found.columns == ["ts", "host", "rack", "x"]
    assert found["x"].to_list() == [1, 3, None]
    assert found["ts"].to_list() == left["ts"].to_list()


def test_only_the_columns_of_the_scan_are_joined(cpu):
    left = left_of([(12, "a", 1)], "at", "ns").drop("rack")

    assert cpu.scan(columns=["x"]).asof(left, on="at").columns == ["at", "host", "x"]
    assert cpu.scan(columns=["x", "ts"]).asof(left, on="at").columns == ["at", "host", "x", "ts"]


def test_a_time_finer_than_the_tables_is_compared_as_it_is(cpu):
    just_before = left_of([(20, "a", 1)], "ts", "us").with_columns(pl.col("ts") - pl.duration(microseconds=1))

    assert cpu.scan().asof(just_before)["x"].to_list() == [1]
    assert cpu.scan().asof(just_before, strategy="forward", tolerance="1us")["x"].to_list() == [2]
    assert cpu.scan().asof(just_before, strategy="backward", tolerance="9m")["x"].to_list() == [None]


def test_frames_of_other_libraries_are_welcome(cpu):
    left = pd.DataFrame({"ts": [START + timedelta(minutes=12)], "host": ["a"], "rack": [1]})

    assert cpu.scan().asof(left)["x"].to_list() == [1]
    assert cpu.scan().asof(pl.LazyFrame(left))["x"].to_list() == [1]


def test_only_times_that_may_be_found_are_read(cpu, monkeypatch):
    seen: list[pl.DataFrame] = []
    concat = pl.concat
    monkeypatch.setattr(joining.pl, "concat", lambda frames: seen.append(concat(frames)) or seen[-1])

    cpu.scan().asof(left_of([(12, "a", 1)], "ts", "ms"))
    cpu.scan().asof(left_of([(12, "a", 1)], "ts", "ms"), tolerance="1m")
    cpu.scan().asof(left_of([(12, "b", 1), (16, "b", 1)], "ts", "ms"), strategy="forward")

    assert [frame["x"].to_list() for frame in seen] == [[1], [], [3]]


def test_times_with_and_without_a_zone_are_not_compared(cpu):
    left = pl.DataFrame({"ts": [datetime(2024, 1, 1, tzinfo=UTC)]})

    with pytest.raises(InvalidInputError, match=r"the column has a zone, the table's time has none"):
        cpu.scan().asof(left)


def test_zones_may_differ():
    with mito.open("memory://") as database:
        times = pl.Series("ts", [START]).dt.replace_time_zone("UTC")
        database.write(pl.DataFrame({"ts": times, "x": [1]}), "rows", time="ts")
        left = pl.DataFrame({"ts": times.dt.convert_time_zone("Asia/Tokyo")})

        found = database["rows"].scan().asof(left)

    assert found["x"].to_list() == [1]
    assert found.schema["ts"] == pl.Datetime("us", "Asia/Tokyo")


@pytest.mark.parametrize(
    "arguments",
    [
        {"on": "tz"},
        {"on": "host"},
        {"by": ["hsot"]},
        {"by": "host"},
        {"strategy": "sideways"},
        {"tolerance": "soon"},
        {"tolerance": "-1h"},
        {"tolerance": timedelta(seconds=-1)},
        {"tolerance": 5},
        {"tolerance": "1mo"},
    ],
    ids=str,
)
def test_what_cannot_be_joined_is_refused(cpu, arguments):
    with pytest.raises(InvalidInputError):
        cpu.scan().asof(left_of([(12, "a", 1)], "ts", "ms"), **arguments)


def test_tags_of_another_type_are_refused(cpu):
    left = left_of([(12, "a", 1)], "ts", "ms").with_columns(pl.col("rack").cast(pl.String))

    with pytest.raises(InvalidInputError, match="cannot be joined"):
        cpu.scan().asof(left)
