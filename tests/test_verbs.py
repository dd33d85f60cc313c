from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe import verbs
from mitoframe.model.errors import InvalidInputError, LimitExceededError
from mitoframe.model.predicate import Compare

START = datetime(2024, 3, 30, 22)
FUNCTIONS = ["count", "sum", "mean", "min", "max", "first", "last", "std", "var", "median"]
SCHEMA = {
    "ts": pl.Datetime("ms"),
    "host": pl.String,
    "rack": pl.Int64,
    "load": pl.Float64,
    "hits": pl.Int32,
    "note": pl.String,
}


def row(minute: int, host: str | None, rack: int | None, load: float | None, hits: int | None) -> dict[str, Any]:
    note = None if hits is None else f"n{hits}"
    return {
        "ts": START + timedelta(minutes=minute),
        "host": host,
        "rack": rack,
        "load": load,
        "hits": hits,
        "note": note,
    }


rows = st.builds(
    row,
    st.integers(-200, 400),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, 1]),
    st.none() | st.integers(-8, 8).map(lambda number: number / 2) | st.sampled_from([math.nan, math.inf]),
    st.none() | st.integers(-3, 3),
)
writes = st.lists(st.lists(rows, min_size=1, max_size=15), min_size=1, max_size=4)
conditions = st.sampled_from(
    [
        None,
        pl.col("host") == "a",
        pl.col("load") > 1,
        (pl.col("rack") == 1) & (pl.col("hits") < 2),
        pl.col("ts").dt.hour() < 12,
        pl.col("note").str.contains("[12]"),
        pl.col("hits") > pl.col("hits").mean(),
        (pl.col("hits") >= 0) & pl.col("host").is_first_distinct(),
        pl.col("hits").map_batches(lambda hits: hits > 0, return_dtype=pl.Boolean),
    ]
)
widths = st.sampled_from(["7m", "1h", "90m", "1d", "1w", "1mo", "1q", timedelta(hours=2)])
groupings = st.sampled_from([None, [], ["host"], ["rack"], ["rack", "host"]])


def table_of(database: mito.Database, writes: list[list[dict[str, Any]]], zone: str | None = None) -> mito.Table:
    """Write some of it to files, and leave the rest in memory."""
    schema = SCHEMA | {"ts": pl.Datetime("ms", zone)}
    table = database.create_table("cpu", schema, time="ts", tags=["host", "rack"])
    for number, write in enumerate(writes):
        frame = pl.DataFrame(write, schema=SCHEMA).with_columns(pl.col("ts").cast(pl.Datetime("ms")))
        table.write(
            frame.with_columns(pl.col("ts").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)) if zone else frame
        )
        if number % 2 == 0:
            table.flush()
    return table


def text_of(every: str | timedelta) -> str:
    return f"{int(every.total_seconds())}s" if isinstance(every, timedelta) else every


def by_hand(lazy: pl.LazyFrame, every: str | timedelta, by: list[str]) -> pl.DataFrame:
    made = [
        getattr(pl.col(name), function)().alias(f"{name}_{function}")
        for name, functions in AGG.items()
        for function in functions
    ]
    ordered = lazy.sort("ts", "host", "rack")
    return ordered.group_by(*by, pl.col("ts").dt.truncate(text_of(every))).agg(made).sort(*by, "ts").collect()


AGG = {"load": FUNCTIONS, "hits": FUNCTIONS, "note": ["count", "first", "last", "min"]}
BY_KERNELS = {"load": FUNCTIONS[:-1], "hits": FUNCTIONS[:-1], "note": ["count", "first", "last"]}


@given(writes, conditions, widths, groupings, st.sampled_from([None, "Europe/Paris", "America/St_Johns"]))
@settings(deadline=None, max_examples=60)
def test_resampling_is_what_polars_makes_of_the_same_rows(writes, where, every, by, zone):
    with mito.open("memory://") as database:
        table = table_of(database, writes, zone)
        scan = table.scan(where=where)
        expected = by_hand(table.scan().to_polars().filter(pl.lit(True) if where is None else where), every,
                           ["host", "rack"] if by is None else by)  # fmt: skip

        by_polars = scan.resample(every, AGG, by=by)
        by_kernels = scan.resample(every, BY_KERNELS, by=by)

    assert_frame_equal(by_polars, expected, rel_tol=1e-9, abs_tol=1e-9)
    assert_frame_equal(by_kernels, expected.select(by_kernels.columns), rel_tol=1e-9, abs_tol=1e-9)


@given(
    writes,
    conditions,
    widths,
    groupings,
    st.integers(1, 6),
    st.sampled_from([None, None, "null", "previous", 0.0]),
    st.sampled_from([None, "Europe/Paris"]),
)
@settings(deadline=None, max_examples=60)
def test_the_latest_buckets_are_the_last_rows_of_each_group_of_all_of_them(writes, where, every, by, n, fill, zone):
    aggregates = {"load": ["sum", "max", "first"], "hits": ["count", "mean", "last"]}
    with mito.open("memory://") as database:
        scan = table_of(database, writes, zone).scan(where=where)
        everything = scan.resample(every, aggregates, by=by, fill=fill)

        found = scan.resample(every, aggregates, by=by, fill=fill, latest=n)

    tags = ["host", "rack"] if by is None else by
    expected = everything.group_by(tags, maintain_order=True).tail(n) if tags else everything.tail(n)
    assert_frame_equal(found, expected, rel_tol=1e-9, abs_tol=1e-9)


def test_for_the_latest_buckets_no_more_is_read_than_it_takes():
    minutes = [*range(0, 2000, 2), 2990, 2999]
    with mito.open("memory://") as database:
        table = table_of(database, [[row(minute, "a", 1, float(minute), 1) for minute in minutes]])
        scan = table.scan()

        for n, counted in ((1, 1), (2, 2), (3, 13)):
            found = scan.resample("1m", {"load": "max"}, by=[], latest=n)

            assert found["load"].to_list() == [1998.0, 2990.0, 2999.0][-n:]
            assert scan.report.run.rows_returned == counted


def test_the_latest_buckets_are_filled_from_those_before_them():
    with mito.open("memory://") as database:
        table = table_of(database, [[row(0, "a", 1, 5.0, 1), row(60, "a", 1, None, 1)]])

        found = table.scan().resample("30m", {"load": "max"}, by=[], fill="previous", latest=1)

    assert found.to_dicts() == [{"ts": START + timedelta(hours=1), "load": 5.0}]


def test_the_latest_buckets_of_a_scan_end_where_it_ends():
    with mito.open("memory://") as database:
        table = table_of(database, [[row(minute, "a", 1, float(minute), 1) for minute in range(0, 300, 10)]])
        scan = table.scan(start=START + timedelta(minutes=15), end=START + timedelta(minutes=111))

        found = scan.resample("30m", {"load": "count"}, by=[], latest=2, boundary="end")
        more = scan.resample("30m", {"load": "count"}, by=[], latest=100)

    assert found["ts"].to_list() == [START + timedelta(minutes=90), START + timedelta(minutes=120)]
    assert found["load"].to_list() == [3, 3]
    assert more["load"].to_list() == [1, 3, 3, 3]


@given(writes, conditions, groupings, st.integers(1, 3), st.sampled_from([None, ["load"], ["ts", "rack", "note"]]))
@settings(deadline=None, max_examples=60)
def test_the_last_rows_are_those_that_polars_finds(writes, where, by, n, columns):
    with mito.open("memory://") as database:
        table = table_of(database, writes)
        lazy = table.scan().to_polars().filter(pl.lit(True) if where is None else where).sort("ts", "host", "rack")

        found = table.scan(where=where, columns=columns).last(by, n)

        tags = ["host", "rack"] if by is None else by
        last = lazy.group_by(tags, maintain_order=True).tail(n) if tags else lazy.tail(n)
        expected = last.sort(*tags, "ts", "host", "rack").select(columns or list(table.schema.names)).collect()
    assert_frame_equal(found, expected)


def test_kernels_do_what_they_can_and_polars_the_rest(monkeypatch):
    with mito.open("memory://") as database:
        table = table_of(database, [[row(0, "a", 1, 1.0, 1)]])
        asked: list[str] = []
        monkeypatch.setattr(verbs._Resampling, "_by_hand", lambda self, **_: asked.append("polars") or (None, None))

        table.scan(where=pl.col("load") > 0).resample("1h", "mean")
        assert asked == []

        table.scan(where=pl.col("load") > pl.col("load").mean()).resample("1h", "mean")
        table.scan().resample("1h", "median")
        assert asked == ["polars", "polars"]


@pytest.fixture
def cpu() -> Iterator[mito.Table]:
    with mito.open("memory://") as database:
        hours = [(0, "a", 1.0, 1), (1, "a", 2.0, 2), (4, "a", 5.0, None), (2, "b", 7.0, 7), (2.5, "b", None, 8)]
        yield table_of(database, [[row(int(hour * 60), host, 1, load, hits) for hour, host, load, hits in hours]])


def hours(frame: pl.DataFrame) -> list[int]:
    return [int((time - START).total_seconds() // 3600) for time in frame["ts"]]


def test_one_function_of_all_numeric_fields_keeps_their_names(cpu):
    found = cpu.scan().resample("1h", "max", by=["host"])

    assert found.columns == ["host", "ts", "load", "hits"]
    assert found["hits"].to_list() == [1, 2, None, 8]


def test_only_fields_of_the_scan_are_aggregated(cpu):
    assert cpu.scan(columns=["hits"]).resample("1h", "sum", by=[]).columns == ["ts", "hits"]
    with pytest.raises(InvalidInputError, match="load"):
        cpu.scan(columns=["hits"]).resample("1h", {"load": "sum"})


def test_buckets_may_be_labelled_with_their_end(cpu):
    assert hours(cpu.scan().resample("1h", "sum", by=[], boundary="end")) == [1, 2, 3, 5]
    months = cpu.scan().resample("1mo", "sum", by=[], boundary="end")
    assert months["ts"].to_list() == [datetime(2024, 4, 1)]


def test_gaps_are_filled_within_each_group(cpu):
    found = cpu.scan().resample("1h", {"hits": "sum"}, by=["host"], fill="null")

    assert found["host"].to_list() == ["a"] * 5 + ["b"]
    assert hours(found) == [0, 1, 2, 3, 4, 2]
    assert found["hits"].to_list() == [1, 2, None, None, 0, 15]


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("null", [1.0, 2.0, None, None, 5.0]),
        ("previous", [1.0, 2.0, 2.0, 2.0, 5.0]),
        ("linear", [1.0, 2.0, 3.0, 4.0, 5.0]),
        (-1, [1.0, 2.0, -1.0, -1.0, 5.0]),
    ],
)
def test_gaps_are_filled_in_the_way_asked_for(cpu, fill, expected):
    found = cpu.scan(where=pl.col("host") == "a").resample("1h", {"load": "mean"}, fill=fill)

    assert found["load"].to_list() == expected


def test_a_null_is_a_gap_too_and_one_at_an_end_stays(cpu):
    scan = cpu.scan(where=pl.col("host") == "b")

    assert scan.resample("30m", {"load": "mean"}, fill="null")["load"].to_list() == [7.0, None]
    assert scan.resample("30m", {"load": "mean"}, fill="previous")["load"].to_list() == [7.0, 7.0]
    assert scan.resample("30m", {"load": "mean"}, fill="linear")["load"].to_list() == [7.0, None]


def test_no_group_is_filled_with_values_of_another(cpu):
    scan = cpu.scan(start=START, end=START + timedelta(hours=5))

    for fill in ("previous", "linear"):
        found = scan.resample("1h", {"load": "mean"}, by=["host"], fill=fill)
        assert found.filter(pl.col("host") == "b")["load"].to_list()[:3] == [None, None, 7.0]


def test_gaps_are_filled_up_to_the_ends_of_the_scan(cpu):
    scan = cpu.scan(start=START - timedelta(hours=1), end=START + timedelta(hours=6), where=pl.col("host") == "b")

    found = scan.resample("1h", {"hits": "sum"}, fill=0)

    assert hours(found) == [-1, 0, 1, 2, 3, 4, 5]
    assert found["hits"].to_list() == [0, 0, 0, 15, 0, 0, 0]


def test_an_hour_that_the_clock_shows_twice_is_two_buckets_and_a_day_has_25():
    zone = "Europe/Paris"
    midnight = datetime(2024, 10, 27, tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)
    minutes = [int((midnight - START).total_seconds() // 60) + 60 * hour for hour in range(25)]
    with mito.open("memory://") as database:
        table = table_of(database, [[row(minute, "a", 1, 1.0, 1) for minute in minutes]], zone)

        by_hour = table.scan().resample("1h", {"hits": "sum"}, by=[], fill=0)
        by_day = table.scan().resample("1d", {"hits": "sum"}, by=[], boundary="end")

    assert by_hour["hits"].to_list() == [1] * 25
    assert by_day.to_dicts() == [{"ts": datetime(2024, 10, 28, tzinfo=ZoneInfo(zone)), "hits": 25}]


@pytest.mark.parametrize("minute", [0, 3])  # At most one of them is where a bucket begins.
def test_gaps_are_filled_where_the_first_bucket_of_a_zone_begins_before_the_first_row(minute):
    with mito.open("memory://") as database:
        table = table_of(database, [[row(minute, "a", 1, 1.0, 1)]], "Europe/Paris")

        filled = table.scan().resample("7m", {"hits": "sum"}, fill=0)

    assert filled["hits"].to_list() == [1]


def test_rows_of_another_age_that_were_overwritten_do_not_count(cpu):
    cpu.write(pl.DataFrame([row(0, "a", 1, 100.0, 100)], schema=SCHEMA))

    assert cpu.scan().resample("1h", {"hits": "sum"}, by=["host"])["hits"].to_list() == [100, 2, 0, 15]
    assert cpu.scan(where=pl.col("hits") < 100).last(["host"])["hits"].to_list() == [2, 8]


def test_nothing_to_read_makes_an_empty_frame_of_the_same_columns(cpu):
    nothing = cpu.scan(start="2030-01-01")

    assert nothing.resample("1h", AGG).schema == cpu.scan().resample("1h", AGG).schema
    assert (
        nothing.resample("1h", BY_KERNELS, fill="linear" if False else 0).schema
        == cpu.scan().resample("1h", BY_KERNELS).schema
    )
    assert nothing.last().schema == cpu.scan().last().schema
    assert len(nothing.last()) == len(nothing.resample("1h", AGG)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1x", "mean"), "every='1x'"),
        (("0h", "mean"), "shorter than"),
        (("1us", "mean"), "shorter than"),
        (("-1h", "mean"), "every='-1h'"),
        (("1mo2d", "mean"), "every='1mo2d'"),
        ((5, "mean"), "no duration"),
        (("1h", "avg"), "avg"),
        (("1h", {"laod": "mean"}), "did you mean 'load'"),
        (("1h", {"note": "mean"}), "'note' does not exist"),
        (("1h", {"host": "count"}), "'host'"),
        (("1h", {}), "asks for nothing"),
        (("1h", 5), "agg is a int"),
        (("1h", {"load": ["mean", "mean"]}), "two columns"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(cpu, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        cpu.scan().resample(*arguments)


def test_other_arguments_that_make_no_sense_are_refused(cpu):
    scan = cpu.scan()
    for refused in (
        lambda: scan.resample("1h", "mean", by=["hsot"]),
        lambda: scan.resample("1h", "mean", by="host"),
        lambda: scan.resample("1h", "mean", by=["host", "host"]),
        lambda: scan.resample("1h", "mean", fill="backward"),
        lambda: scan.resample("1h", "mean", fill=True),
        lambda: scan.resample("1h", "mean", boundary="middle"),
        lambda: scan.resample("1h", "mean", latest=0),
        lambda: scan.resample("1h", "mean", latest=True),
        lambda: scan.resample("1h", {"note": "last"}, by=["host"], fill="linear"),
        lambda: scan.last(n=0),
        lambda: scan.last(n=True),
        lambda: scan.last("host"),
    ):
        with pytest.raises(InvalidInputError):
            refused()


def test_filling_more_than_memory_holds_is_refused(cpu):
    with pytest.raises(LimitExceededError, match="rows"):
        cpu.scan(start="1000-01-01").resample("1ms", {"load": "mean"}, fill="null")


@pytest.mark.parametrize(
    "where",
    [
        pl.col("host") == "a",
        pl.col("host") != "a",
        pl.col("host").is_in(["a", "b"]),
        (pl.col("host") == "a") | (pl.col("note").is_in(["n1"])),
        pl.col("load") > 1,
    ],
    ids=["equal", "unequal", "among", "either", "number"],
)
def test_plain_conditions_say_what_polars_would_make_of_them(cpu, monkeypatch, where):
    monkeypatch.setattr(verbs, "plain_predicate", lambda *_: None)
    pushed_down = verbs.predicate_of(where, cpu.schema)
    monkeypatch.undo()
    monkeypatch.setattr(verbs, "lazy_frame", None)  # Polars is not asked.

    assert verbs.predicate_of(where, cpu.schema) == pushed_down != verbs.ALWAYS


@pytest.mark.parametrize(
    ("where", "is_exact"),
    [
        (None, True),
        ((pl.col("hits") > 1) & pl.col("host").is_in(["a"]), True),
        (pl.col("hits").abs() > pl.col("rack"), True),
        (pl.col("hits") > pl.col("hits").mean(), False),
        ((pl.col("rack") == 1) & (pl.col("hits").shift(1) > 1), False),
        (pl.col("hits").map_elements({1, 2}.__contains__, return_dtype=pl.Boolean), False),
    ],
    ids=["none", "plain", "of two columns", "of all rows", "of the row before", "of one's own"],
)
def test_only_conditions_that_are_known_to_look_at_one_row_are_applied_where_rows_are_read(cpu, where, is_exact):
    assert (verbs.exact_predicate(cpu.scan(where=where)) is not None) == is_exact


def test_a_condition_that_was_read_when_the_scan_was_made_is_not_read_again(cpu, monkeypatch):
    scan = cpu.scan(where=pl.col("host") == "a")
    other = replace(scan, where=pl.col("host") == "b")
    monkeypatch.setattr(verbs, "predicate_of", lambda where, _: where)

    assert verbs.exact_predicate(scan) == Compare("host", "==", "a")
    assert verbs.exact_predicate(other) is other.where
