"""A scan: what it keeps, in every form, and that it follows the table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

import mitoframe as mito

START = datetime(2024, 1, 1)


def hours(first: int, last: int, load: float = 0.0) -> pl.DataFrame:
    times = [START + timedelta(hours=hour) for hour in range(first, last)]
    return pl.DataFrame({"ts": times, "host": ["a"] * len(times), "load": [load + hour for hour in range(first, last)]})


@pytest.fixture(params=["memory", "file", "both", "overlapping"])
def cpu(request: pytest.FixtureRequest) -> Iterator[mito.Table]:
    """Ten hours of one host, stored in different places."""
    with mito.open("memory://") as database:
        database.write(hours(0, 5), "cpu", time="ts", tags=["host"])
        table = database["cpu"]
        if request.param != "memory":
            table.flush()
        table.write(hours(5, 10))
        if request.param == "overlapping":
            table.write(hours(0, 3, load=100.0))
            table.write(hours(0, 3))
        if request.param in ("file", "overlapping"):
            table.flush()
        yield table


def found(scan: mito.Scan) -> list[float]:
    return sorted(scan.collect()["load"].to_list())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, range(10)),
        ({"start": "2024-01-01T03:00"}, range(3, 10)),
        ({"end": "2024-01-01T03:00"}, range(3)),
        ({"start": START + timedelta(hours=2), "end": START + timedelta(hours=4)}, range(2, 4)),
        ({"start": date(2024, 1, 1), "end": pd.Timestamp("2024-01-01T01:00:00.000000001")}, range(2)),
        ({"start": START, "end": START}, ()),
        ({"start": 10**15 * 9}, ()),
        ({"where": pl.col("load") > 7}, range(8, 10)),
        ({"where": (pl.col("load") > 2) & (pl.col("host") == "a"), "end": "2024-01-01T05:00"}, range(3, 5)),
        ({"where": pl.col("host") == "b"}, ()),
        ({"where": pl.col("load").sqrt() > 2.5}, range(7, 10)),
    ],
    ids=range(11),
)
def test_every_form_of_a_scan_keeps_the_same_rows(cpu: mito.Table, arguments: dict[str, Any], expected: range) -> None:
    scan = cpu.scan(**arguments)

    assert found(scan) == list(expected)
    assert sorted(scan.to_arrow().column("load").to_pylist()) == list(expected)
    assert sorted(scan.to_pandas()["load"]) == list(expected)
    assert scan.count() == len(expected)
    assert sorted(scan.to_polars().collect(engine="streaming")["load"]) == list(expected)
    assert sorted(pl.from_arrow(pa.table(scan))["load"]) == list(expected)  # type: ignore[index,call-overload]


def test_columns_come_as_named_and_in_that_order(cpu: mito.Table) -> None:
    for names in (["load", "host"], ["ts"], ["host", "ts", "load"]):
        assert cpu.scan(columns=names).collect().columns == names
        assert cpu.scan(columns=names).to_arrow().column_names == names
        assert list(cpu.scan(columns=names).to_pandas()) == names
    assert cpu.scan(columns=["host"], where=pl.col("load") == 3).collect().to_dicts() == [{"host": "a"}]


def test_a_scan_and_its_lazy_frame_follow_the_table(cpu: mito.Table) -> None:
    scan = cpu.scan(where=pl.col("load") >= 10)
    lazy = scan.to_polars()
    assert (scan.count(), lazy.collect().height) == (0, 0)

    cpu.write(hours(20, 22))

    assert (scan.count(), lazy.collect().height) == (2, 2)


def test_a_result_keeps_its_rows_whatever_comes_after(cpu: mito.Table) -> None:
    frame, arrow, pandas = cpu.scan().collect(), cpu.scan().to_arrow(), cpu.scan().to_pandas()

    cpu.write(hours(0, 10, load=100.0))
    cpu.flush()
    cpu.compact()
    cpu.vacuum(older_than="0s")

    for result in (frame["load"], arrow.column("load").to_pylist(), pandas["load"]):
        assert sorted(result) == list(range(10))


def test_changing_a_pandas_result_changes_nothing_stored(cpu: mito.Table) -> None:
    frame = cpu.scan().to_pandas()

    frame["load"].to_numpy(copy=False).flags.writeable and frame["load"].to_numpy().fill(-1)
    frame.loc[:, "load"] = -1.0
    frame.loc[:, "host"] = "z"

    assert found(cpu.scan()) == list(range(10))
    assert set(cpu.scan().collect()["host"]) == {"a"}


def test_a_time_with_a_zone_is_asked_for_in_any_zone() -> None:
    times = pl.Series("ts", [START + timedelta(hours=hour) for hour in range(3)]).dt.replace_time_zone("Europe/Paris")
    with mito.open("memory://") as database:
        database.write(pl.DataFrame({"ts": times, "x": [0, 1, 2]}), "rows", time="ts")
        table = database["rows"]

        assert table.scan(start="2024-01-01T01:00").collect()["x"].to_list() == [1, 2]
        assert table.scan(start=datetime(2024, 1, 1, tzinfo=UTC)).collect()["x"].to_list() == [1, 2]
        assert table.scan(end="2024-01-01T01:00+01:00").collect()["x"].to_list() == [0]


def test_explain_says_what_is_read_and_pruned(cpu: mito.Table) -> None:
    explained = str(cpu.scan(start="2024-01-01T07:00").explain())

    assert "where       ts >= 2024-01-01 07:00:00" in explained
    assert "pruned by time" in explained


def test_a_scan_shows_what_it_is(cpu: mito.Table) -> None:
    assert repr(cpu.scan(columns=["load", "ts"])).startswith("scan of 'cpu', columns load, ts; call")
    assert repr(cpu.scan()).startswith("scan of 'cpu', all columns; call")


# --- read at once ---------------------------------------------------------------------------------------

CONDITIONS = [
    None,
    pl.col("host") == "a",
    pl.col("host") == "nobody",
    (pl.col("load") > 2) & (pl.col("load") != 5) & pl.col("host").is_in(["a", "b"]),
    pl.col("load").sqrt() > 2.5,
    pl.col("load") == pl.col("load").max(),
    pl.col("ts").dt.hour() % 2 == 0,
    pl.col("load").map_batches(lambda loads: loads > 3, return_dtype=pl.Boolean, is_elementwise=True),
]


@pytest.mark.parametrize("columns", [None, ["load", "ts"], ["host"], ["ts"]], ids=str)
@pytest.mark.parametrize("where", CONDITIONS, ids=range(len(CONDITIONS)))
def test_rows_that_are_read_at_once_are_those_of_the_lazy_frame(cpu, where, columns):
    for end in (None, START + timedelta(hours=6), START):
        scan = cpu.scan(where=where, columns=columns, end=end)

        assert_frame_equal(scan.collect(), scan.to_polars().collect())


def test_few_rows_are_read_without_asking_polars_for_a_plan(monkeypatch):
    with mito.open("memory://") as database:
        database.write(hours(0, 5), "cpu", time="ts", tags=["host"])
        scan = database.scan("cpu", where=pl.col("host") == "a", columns=["load"])
        monkeypatch.setattr(type(scan), "to_polars", None)

        assert scan.collect()["load"].to_list() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_scan_of_a_closed_store_is_refused_also_when_rows_would_be_few():
    with mito.open("memory://") as database:
        database.write(hours(0, 5), "cpu", time="ts", tags=["host"])
        scan = database.scan("cpu")

    with pytest.raises(mito.ClosedError):
        scan.collect()
