"""A scan's rows in other hands, against a list of all that was ever written.

Each kind of table has its rows in other places: files that stand alone, files that overlap, memory; with deletes, nulls
that are filled, repeated keys, columns that came and went.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from table_model import KEYS, Column, TableModel
from values import COLUMNS, ROWS, same_bits

import mitoframe as mito
from mitoframe import exporting
from mitoframe.model.request import ScanRequest

START = datetime(2024, 1, 1)
SCHEMA = KEYS | {"load": pl.Float64, "note": pl.String}
HOSTS = ["a", "b", None]


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def rows(first: int, last: int, value: float, *, note: str | None = "x") -> pl.DataFrame:
    """One row per host and minute of [first, last); some loads are null or NaN."""
    return pl.DataFrame(
        [
            {"host": host, "rack": m % 3 or None, "ts": minute(m), "load": _load(m, value), "note": note}
            for m in range(first, last)
            for host in HOSTS
        ],
        schema=SCHEMA,
    )


def _load(number: int, value: float) -> float | None:
    return None if number % 7 == 5 else float("nan") if number % 7 == 6 else value + number


class Store:
    """A table and the list it is measured against."""

    def __init__(self, db: mito.Database, **options: Any) -> None:
        self.db, self.model = db, TableModel(options.get("dedup", "last"))
        self.table = db.create_table("cpu", SCHEMA, time="ts", tags=["host", "rack"], options=options)

    @staticmethod
    def of(db: mito.Database) -> Store:
        """Return what was written by another handle; nothing is known of its rows."""
        store = Store.__new__(Store)
        store.db, store.table = db, db["cpu"]
        return store

    def write(self, frame: pl.DataFrame, *, flush: bool = True) -> None:
        self.table.write(frame)
        self.model.put(frame)
        if flush:
            self.table.flush()

    def delete(self, first: int, last: int, host: str) -> None:
        self.table.delete(start=minute(first), end=minute(last), tags={"host": host})
        keys = [key for key in self.model.keys() if key[0] == host and minute(first) <= key[2] < minute(last)]  # noqa: SIM118
        self.model.delete(keys)

    def scan(self, **wanted: Any) -> mito.Scan:
        return self.table.scan(**wanted)

    def places(self) -> tuple[int, int, int]:
        """Files that stand alone, files that are merged, parts of memory."""
        plan = self.db.engine.plan(self.table.region_id, ScanRequest())
        return len(plan.direct), sum(len(g.files) for g in plan.groups), sum(len(g.buffered) for g in plan.groups)


def plain(db: mito.Database) -> Store:
    store = Store(db)
    for hour in range(4):
        store.write(rows(60 * hour, 60 * hour + 20, 100.0 * hour))
        store.table.alter(options={"compaction_mode": "manual"})
    assert store.places() == (4, 0, 0)
    return store


def overlapping(db: mito.Database) -> Store:
    store = Store(db)
    store.write(rows(200, 220, 0.0))
    store.write(rows(0, 30, 0.0))
    store.write(rows(20, 50, 1000.0))
    store.write(rows(25, 28, 2000.0), flush=False)
    assert store.places() == (1, 2, 1)
    return store


def deletes(db: mito.Database) -> Store:
    store = Store(db)
    store.write(rows(0, 30, 0.0))
    store.write(rows(100, 130, 0.0))
    store.delete(5, 15, "a")
    store.table.flush()
    store.delete(10, 20, "b")
    assert store.places() == (1, 2, 1)
    return store


def merge(db: mito.Database) -> Store:
    store = Store(db, dedup="merge")
    store.write(rows(0, 30, 0.0, note=None))
    store.write(rows(10, 40, 5.0, note="newer").with_columns(load=pl.lit(None, pl.Float64)))
    assert store.places() == (0, 2, 0)
    return store


def append(db: mito.Database) -> Store:
    store = Store(db, dedup="none")
    store.write(rows(0, 30, 0.0))
    store.write(rows(0, 30, 0.0))
    store.write(rows(10, 20, 7.0), flush=False)
    assert store.places() == (2, 0, 1)
    return store


def altered(db: mito.Database) -> Store:
    store = Store(db)
    store.write(rows(0, 20, 0.0))
    store.table.alter(add={"cores": pl.Int16, "room": pl.String}, defaults={"room": "lab"}, drop=["note"])
    del store.model.columns["note"]
    store.model.columns |= {
        "cores": Column(dtype=pl.Int16()),
        "room": Column(dtype=pl.String(), default="lab", initial="lab"),
    }
    store.write(rows(100, 120, 0.0).drop("note").with_columns(cores=pl.lit(8, pl.Int16)))
    return store


def with_a_column_more(db: mito.Database) -> Store:
    """An older file that is read as it is, though it lacks a column."""
    store = Store(db)
    store.write(rows(0, 20, 0.0))
    store.table.alter(add={"cores": pl.Int16})
    store.model.columns["cores"] = Column(dtype=pl.Int16())
    store.write(rows(100, 120, 0.0).with_columns(cores=pl.lit(8, pl.Int16)))
    assert store.places() == (2, 0, 0)
    return store


def empty(db: mito.Database) -> Store:
    return Store(db)


KINDS = [plain, overlapping, deletes, merge, append, altered, with_a_column_more, empty]


KINDS_AND_PLACES = {kind.__name__: (kind, False) for kind in KINDS} | {"in_memory": (overlapping, True)}


@pytest.fixture(scope="module", params=KINDS_AND_PLACES.values(), ids=KINDS_AND_PLACES.keys())
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    make, is_in_memory = request.param
    place = "memory://" if is_in_memory else tmp_path_factory.mktemp("store") / "we[ir]d 'k'=v*" / "host=z"
    with mito.open(place, row_group_rows=16, compaction_trigger_files=100) as db:
        yield make(db)


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.columns == expected.columns
    assert_frame_equal(found.sort(found.columns), expected.sort(expected.columns))


def polars_of(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    frame = pl.from_arrow(relation.to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


# --- streams ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1_000_000, 7])
def test_a_stream_has_all_rows_in_batches_of_the_size_asked_for(store: Store, batch_size: int) -> None:
    reader = exporting.to_reader(store.scan(), batch_size)

    batches = list(reader)

    assert reader.schema == store.table.schema
    assert all(0 < batch.num_rows <= batch_size for batch in batches)
    found = pl.from_arrow(pa.Table.from_batches(batches, reader.schema))
    assert isinstance(found, pl.DataFrame)
    assert_same(found, store.model.frame())


def test_small_batches_are_joined_and_large_ones_cut(store: Store) -> None:
    sizes = [batch.num_rows for batch in exporting.to_reader(store.scan(), 10)]

    assert sum(sizes) == len(store.model.frame())
    assert all(first + second > 10 for first, second in pairwise(sizes))


def test_a_stream_has_only_what_the_scan_is_for(store: Store) -> None:
    scan = store.scan(columns=["load", "host"], start=minute(12), end=minute(110))

    found = pl.from_arrow(exporting.to_reader(scan).read_all())

    assert isinstance(found, pl.DataFrame)
    expected = store.model.frame().filter(pl.col("ts").is_between(minute(12), minute(110), closed="left"))
    assert_same(found, expected.select("load", "host"))


def test_a_condition_that_looks_at_all_rows_is_applied_to_all(store: Store) -> None:
    condition = pl.col("load").fill_nan(None) >= pl.col("load").fill_nan(None).mean()

    found = list(exporting.to_batches(store.scan(where=condition), 10))

    assert all(0 < len(frame) <= 10 for frame in found)
    expected = store.model.frame().filter(condition)
    assert_same(pl.concat(found) if found else expected.clear(), expected)


def test_a_stream_is_of_the_moment_it_was_made(tmp_path: Path) -> None:
    with mito.open(tmp_path, gc_grace_ms=0) as db:
        store = overlapping(db)
        reader = exporting.to_reader(store.scan())
        expected = store.model.frame()

        store.write(rows(0, 300, 9000.0))
        store.table.compact()
        store.table.vacuum()

        found = pl.from_arrow(reader.read_all())
        assert isinstance(found, pl.DataFrame)
        assert_same(found, expected)


def test_a_consumer_may_ask_for_other_types(store: Store) -> None:
    class Stream:
        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            return exporting.to_capsule(store.scan(columns=["host", "load"]), requested_schema)

    wanted = pa.schema([("host", pa.string()), ("load", pa.float32())])

    found = pa.RecordBatchReader.from_stream(Stream(), schema=wanted).read_all()

    assert found.schema == wanted
    assert found.num_rows == len(store.model.frame())


@pytest.mark.parametrize("batch_size", [0, -1, True, 1.5, None])
def test_a_batch_has_at_least_one_row(store: Store, batch_size: Any) -> None:
    with pytest.raises(mito.InvalidInputError, match="batch_size="):
        exporting.to_reader(store.scan(), batch_size)


def test_a_column_that_went_since_the_scan_was_made_is_named() -> None:
    with mito.open("memory://") as db:
        store = Store(db)
        scan = store.scan()
        store.table.alter(drop=["note"])

        with pytest.raises(mito.InvalidInputError, match="'note' of table 'cpu' is gone"):
            exporting.to_reader(scan)


# --- NumPy and pandas ------------------------------------------------------------------------------------


def test_arrays_hold_the_rows(store: Store) -> None:
    arrays = exporting.to_numpy(store.scan(columns=["host", "ts", "load"]))

    assert arrays["ts"].dtype == np.dtype("datetime64[us]")
    found = pl.DataFrame(
        {"host": arrays["host"].tolist(), "ts": arrays["ts"], "load": arrays["load"]},
        schema={"host": pl.String, "ts": pl.Datetime("us"), "load": pl.Float64},
    )
    without_nan = pl.col("load").fill_nan(None)
    expected = store.model.frame().select(found.columns)
    assert_same(found.with_columns(without_nan), expected.with_columns(without_nan))


def test_arrays_can_be_chosen_by_name(store: Store) -> None:
    assert list(exporting.to_numpy(store.scan(), ["load", "host"])) == ["load", "host"]

    with pytest.raises(mito.InvalidInputError, match="did you mean 'load'"):
        exporting.to_numpy(store.scan(), ["loda"])
    with pytest.raises(mito.InvalidInputError, match=r"give a list, such as columns=\['load'\]"):
        exporting.to_numpy(store.scan(), "load")


@pytest.mark.parametrize("backend", [None, "numpy_nullable", "pyarrow"])
@pytest.mark.parametrize("tags_as", [None, "category"])
def test_a_pandas_frame_holds_the_rows(store: Store, backend: Any, tags_as: Any) -> None:
    frame = exporting.to_pandas(store.scan(columns=["host", "ts", "load"]), backend, tags_as=tags_as)

    assert isinstance(frame["host"].dtype, pd.CategoricalDtype) == (tags_as is not None)
    found = pl.DataFrame(
        {
            "host": [None if pd.isna(host) else host for host in frame["host"]],
            "ts": [pd.Timestamp(each).to_pydatetime() for each in frame["ts"]],
            "load": [None if pd.isna(load) else float(load) for load in frame["load"]],
        },
        schema={"host": pl.String, "ts": pl.Datetime("us"), "load": pl.Float64},
    )
    expected = store.model.frame().select(found.columns)
    assert_same(found, expected.with_columns(pl.col("load").fill_nan(None)))


def test_a_pandas_frame_has_the_index_that_is_asked_for(store: Store) -> None:
    by_time = exporting.to_pandas(store.scan(), index="ts")
    by_both = exporting.to_pandas(store.scan(), index=["host", "ts"], tags_as="category")

    assert isinstance(by_time.index, pd.DatetimeIndex)
    assert by_time.index.name == "ts"
    assert by_both.index.names == ["host", "ts"]
    assert "host" not in by_both.columns
    with pytest.raises(mito.InvalidInputError, match="did you mean 'ts'"):
        exporting.to_pandas(store.scan(), index="t")


def test_words_that_pandas_does_not_know_are_refused(store: Store) -> None:
    with pytest.raises(mito.InvalidInputError, match="dtype_backend='arrow' is not one of"):
        exporting.to_pandas(store.scan(), "arrow")  # type: ignore[arg-type]
    with pytest.raises(mito.InvalidInputError, match="tags_as='object' is not one of"):
        exporting.to_pandas(store.scan(), tags_as="object")  # type: ignore[arg-type]


# --- DuckDB ----------------------------------------------------------------------------------------------


def between(first: int, last: int) -> pl.Expr:
    return pl.col("ts").is_between(minute(first), minute(last), closed="none")


QUERIES: dict[str, tuple[str, Callable[[pl.LazyFrame], pl.LazyFrame]]] = {
    "everything": ("SELECT * FROM cpu", lambda lf: lf),
    "time range": (
        "SELECT host, ts, load FROM cpu WHERE ts > '2024-01-01 00:16:00' AND ts < TIMESTAMP '2024-01-01 01:50:00'",
        lambda lf: lf.filter(between(16, 110)).select("host", "ts", "load"),
    ),
    "field": ("SELECT * FROM cpu WHERE load < 1010", lambda lf: lf.filter(pl.col("load") < 1010)),
    "not a number": ("SELECT * FROM cpu WHERE isnan(load)", lambda lf: lf.filter(pl.col("load").is_nan())),
    "larger": ("SELECT * FROM cpu WHERE load > 20", lambda lf: lf.filter(pl.col("load") > 20)),
    "largest": ("SELECT * FROM cpu WHERE load > 1e6", lambda lf: lf.filter(pl.col("load") > 1e6)),
    "tag, time and field": (
        "SELECT * FROM cpu c WHERE host = 'b' AND C.TS BETWEEN '2024-01-01 00:02' AND '2024-01-01 01:44' AND load > 5",
        lambda lf: lf.filter(
            pl.col("host") == "b", pl.col("ts").is_between(minute(2), minute(104)), pl.col("load") > 5
        ),
    ),
    "tags": (
        "SELECT load FROM cpu WHERE rack IN (1, 2) AND (host = 'a' OR host IS NULL)",
        lambda lf: lf.filter(pl.col("rack").is_in([1, 2]), (pl.col("host") == "a") | pl.col("host").is_null()).select(
            "load"
        ),
    ),
    "null tag": ("SELECT ts FROM cpu WHERE rack IS NULL", lambda lf: lf.filter(pl.col("rack").is_null()).select("ts")),
    "one of two hosts": (
        "SELECT ts FROM cpu WHERE host = 'a' AND ts = '2024-01-01 00:12' OR host = 'b' AND ts < DATE '2024-01-02'",
        lambda lf: lf.filter(((pl.col("host") == "a") & (pl.col("ts") == minute(12))) | (pl.col("host") == "b")).select(
            "ts"
        ),
    ),
    "a constant first": (
        "SELECT ts FROM cpu WHERE '2024-01-01 00:10' > ts AND 'a' = host",
        lambda lf: lf.filter(pl.col("ts") < minute(10), pl.col("host") == "a").select("ts"),
    ),
    "some times": (
        "SELECT host, ts FROM cpu WHERE ts IN ('2024-01-01 00:12', '2024-01-01 01:41')",
        lambda lf: lf.filter(pl.col("ts").is_in([minute(12), minute(101)])).select("host", "ts"),
    ),
    "count": ("SELECT count(*) AS len FROM cpu", lambda lf: lf.select(pl.len().cast(pl.Int64))),
    "group by": (
        "SELECT host, count(load) AS load FROM cpu GROUP BY host",
        lambda lf: lf.group_by("host").agg(pl.col("load").count().cast(pl.Int64)),
    ),
    "self join": (
        """
        SELECT a.ts FROM cpu a JOIN cpu b USING (host, ts)
        WHERE a.ts < '2024-01-01 00:15' AND b.ts > '2024-01-01 00:11'
        """,
        lambda lf: lf.join(lf, on=["host", "ts"]).filter(between(11, 15)).select("ts"),
    ),
    "left join": (
        """
        SELECT a.ts, b.host FROM cpu a LEFT JOIN (SELECT * FROM cpu WHERE ts < '2024-01-01 00:12') b USING (host, ts)
        WHERE a.host = 'a' AND a.ts > '2024-01-01 00:08'
        """,
        lambda lf: (
            lf.join(lf.filter(pl.col("ts") < minute(12)), on=["host", "ts"], how="left", coalesce=False)
            .filter(pl.col("host") == "a", pl.col("ts") > minute(8))
            .select("ts", host="host_right")
        ),
    ),
    "nearest of an earlier time": (
        """
        SELECT a.ts, b.ts AS before FROM (SELECT DISTINCT ts FROM cpu WHERE ts > '2024-01-01 00:10') a
        ASOF JOIN (SELECT DISTINCT ts FROM cpu) b ON a.ts >= b.ts WHERE b.ts < '2024-01-01 00:13'
        """,
        lambda lf: lf.filter(between(10, 13)).select("ts", before="ts").unique(),
    ),
    "a name of its own": (
        "WITH cpu AS (SELECT ts, host FROM main.cpu WHERE host = 'b') SELECT ts FROM cpu WHERE ts > '2024-01-01 00:15'",
        lambda lf: lf.filter(pl.col("host") == "b", pl.col("ts") > minute(15)).select("ts"),
    ),
    "an alias that is called like a tag": (
        "SELECT 'z' AS host, ts FROM cpu WHERE host = 'a'",
        lambda lf: lf.filter(pl.col("host") == "a").select(pl.lit("z").alias("host"), "ts"),
    ),
    "a subquery": (
        "SELECT ts FROM cpu WHERE host = 'a' AND ts < (SELECT min(ts) + INTERVAL 5 MINUTE FROM cpu)",
        lambda lf: (
            lf.filter(pl.col("ts") < pl.col("ts").min() + pl.duration(minutes=5))
            .filter(pl.col("host") == "a")
            .select("ts")
        ),
    ),
    "both sides of a union": (
        """
        SELECT ts FROM cpu WHERE ts < '2024-01-01 00:05'
        UNION ALL FROM (SELECT ts FROM cpu WHERE ts > '2024-01-01 01:50')
        """,
        lambda lf: lf.filter((pl.col("ts") < minute(5)) | (pl.col("ts") > minute(110))).select("ts"),
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_sql_agrees_with_brute_force(store: Store, name: str) -> None:
    text, query = QUERIES[name]

    found = polars_of(store.db.sql(text))

    assert_same(found, query(store.model.frame().lazy()).collect())


def test_a_relation_holds_the_rows(store: Store) -> None:
    relation = exporting.to_duckdb(store.scan())

    assert_same(polars_of(relation), store.model.frame())


def test_a_relation_pushes_conditions_below_the_merge_and_stays_right(store: Store) -> None:
    relation = exporting.to_duckdb(store.scan()).filter("load > 20 AND host = 'a' AND ts < '2024-01-01 00:40'")

    expected = store.model.frame().filter(pl.col("load") > 20, pl.col("host") == "a", pl.col("ts") < minute(40))
    assert_same(polars_of(relation.project("load, ts")), expected.select("load", "ts"))


def test_a_relation_has_only_what_the_scan_is_for(store: Store) -> None:
    scan = store.scan(columns=["load", "host"], start=minute(12), end=minute(110), where=pl.col("load") > 15)
    without = store.scan(columns=["load", "host"], start=minute(12), end=minute(110))

    expected = store.model.frame().filter(pl.col("ts").is_between(minute(12), minute(110), closed="left"))
    assert_same(polars_of(exporting.to_duckdb(without)), expected.select("load", "host"))
    assert_same(polars_of(exporting.to_duckdb(scan)), expected.filter(pl.col("load") > 15).select("load", "host"))


def test_a_relation_is_of_the_connection_that_is_given(store: Store) -> None:
    connection = duckdb.connect()

    relation = exporting.to_duckdb(store.scan(), connection)

    relation.create_view("mine")
    assert connection.sql("SELECT count(*) FROM mine").fetchall() == [(len(store.model.frame()),)]


def test_files_that_stand_alone_are_read_by_duckdb_itself(tmp_path: Path) -> None:
    with mito.open(tmp_path) as db:
        store = overlapping(db)

        text = exporting.to_duckdb(store.scan()).explain()
        alone = exporting.to_duckdb(store.scan(start=minute(150))).explain()

        assert "READ_PARQUET" in text
        assert "PYTHON_ARROW_SCAN" in text
        assert "READ_PARQUET" in alone


READS_HOURS_1_AND_2 = [
    "SELECT * FROM cpu WHERE ts >= '2024-01-01 01:00' AND ts < '2024-01-01 02:30'",
    "SELECT * FROM cpu WHERE ts BETWEEN '2024-01-01 01:00' AND '2024-01-01 02:30'",
    "SELECT * FROM cpu WHERE ts = '2024-01-01 01:05' OR ts = TIMESTAMP '2024-01-01 02:05'",
    "SELECT * FROM cpu WHERE ts IN ('2024-01-01 01:05', '2024-01-01 02:05')",
    """
    SELECT 1 FROM cpu a JOIN cpu b USING (host) WHERE a.ts < '2024-01-01 02:30' AND b.ts < '2024-01-01 02:30'
    AND '2024-01-01 01:00' < a.ts AND b.ts > '2024-01-01 01:00'
    """,
    """
    SELECT ts FROM cpu WHERE ts > '2024-01-01 01:00' AND ts < '2024-01-01 01:30'
    UNION ALL SELECT ts FROM cpu WHERE ts > '2024-01-01 02:00' AND ts < '2024-01-01 02:30' AND load > 3
    """,
]
NEEDS_ALL = [
    "SELECT * FROM cpu",
    "SELECT * FROM cpu WHERE ts > '2024-01-01 01:00' OR load > 3",
    "SELECT * FROM cpu a JOIN cpu b USING (host) WHERE a.ts > '2024-01-01 02:00'",
    "SELECT * FROM cpu WHERE ts > '2024-01-01 02:00' AND load < (SELECT max(load) FROM cpu)",
    "SELECT * FROM cpu a ASOF JOIN cpu b ON a.ts >= b.ts WHERE a.ts > '2024-01-01 02:00' AND b.ts > '2024-01-01 02:00'",
    "SELECT * FROM cpu TABLESAMPLE 10 ROWS WHERE ts > '2024-01-01 02:00'",
    "SELECT * FROM cpu AS c(a, b, ts, d, e) WHERE e > '2024-01-01 02:00'",
    "SELECT * FROM cpu WHERE ts > '2024-01-01 02:00' UNION ALL SELECT * FROM query_table('cpu')",
    "SELECT * FROM cpu WHERE ts <> '2024-01-01 02:00' AND NOT ts > '2024-01-01 02:00'",
    "SUMMARIZE cpu",
]


@pytest.mark.parametrize("query", READS_HOURS_1_AND_2)
def test_sql_looks_at_no_file_that_its_times_are_not_in(tmp_path: Path, query: str) -> None:
    with mito.open(tmp_path) as db:
        first, _, _, last = files_of(plain(db), tmp_path)
        first.unlink()
        last.unlink()

        assert db.sql(query).fetchall()


@pytest.mark.parametrize("query", NEEDS_ALL)
def test_sql_reads_every_file_where_it_may_need_it(tmp_path: Path, query: str) -> None:
    with mito.open(tmp_path) as db:
        first, *_ = files_of(plain(db), tmp_path)
        db.sql(query)
        first.write_bytes(b"")

    with mito.open(tmp_path) as db, pytest.raises(mito.CorruptionError, match=first.name):
        db.sql(query)


def files_of(store: Store, folder: Path) -> list[Path]:
    """Return where the files are, by their times."""
    plan = store.db.engine.plan(store.table.region_id, ScanRequest())
    return [next(folder.rglob(f"{file.file_id}.parquet")) for file in plan.direct]


@pytest.mark.parametrize("make", [lambda s: exporting.to_duckdb(s.scan()), lambda s: s.db.sql("SELECT * FROM cpu")],
                         ids=["relation", "sql"])  # fmt: skip
def test_files_stay_while_a_relation_can_read_them(tmp_path: Path, make: Callable[[Store], Any]) -> None:
    with mito.open(tmp_path, gc_grace_ms=0) as db:
        store = overlapping(db)
        expected = store.model.frame()
        derived = make(store).filter("ts < '2024-01-02'")
        before = set(tmp_path.rglob("*.parquet"))

        store.write(rows(0, 300, 9000.0))
        store.table.compact()
        store.table.vacuum()
        gc.collect()
        store.table.vacuum()

        assert before <= set(tmp_path.rglob("*.parquet"))
        assert_same(polars_of(derived), expected)

        del derived
        gc.collect()
        store.table.vacuum()
        assert not before & set(tmp_path.rglob("*.parquet"))


def test_two_tables_and_a_frame_can_be_joined(tmp_path: Path) -> None:
    with mito.open(tmp_path) as db:
        store = plain(db)
        db.write(rows(0, 10, 5.0), 'My "Table', time="ts", tags=["host", "rack"])
        names = pl.DataFrame({"host": ["a"], "word": ["alpha"]})

        found = db.sql(
            """
            SELECT word, cpu.ts, m.load FROM CPU JOIN "my ""table" m USING (host, ts) JOIN Names ON m.host = names.host
            """,
            names=names,
        )

        expected = store.model.frame().join(rows(0, 10, 5.0), on=["host", "ts"]).join(names, on="host")
        assert_same(polars_of(found), expected.select("word", "ts", load="load_right"))


def test_a_table_may_be_called_anything() -> None:
    names = ["cpu", "cpu (merged)", "select", 'a "b" c', "x.y", "schön", "'"]
    with mito.open("memory://") as db:
        for number, name in enumerate(names):
            db.write(pl.DataFrame({"ts": [START], "x": [number]}), name, time="ts")
        quoted = ['"' + name.replace('"', '""') + '"' for name in names]

        found = db.sql(" UNION ALL ".join(f"SELECT x FROM {name}" for name in quoted)).fetchall()

        assert sorted(found) == [(number,) for number in range(len(names))]


def test_variables_of_the_caller_are_no_tables(store: Store) -> None:
    query = rows(0, 1, 0.0)

    for name in ("query", "_TYPES"):  # One is the caller's, one is there where DuckDB is called.
        with pytest.raises(mito.TableNotFoundError):
            store.db.sql(f"SELECT * FROM {name}")
    assert len(query) == 3


def test_a_query_sees_nothing_of_another(store: Store) -> None:
    first = store.db.sql("SELECT * FROM cpu, other", other=pl.DataFrame({"x": [1]}))

    with pytest.raises(mito.TableNotFoundError, match="no table 'other'"):
        store.db.sql("SELECT * FROM other")
    assert first.columns[-1] == "x"


def test_tables_of_two_stores_are_not_confused() -> None:
    with mito.open("memory://") as one, mito.open("memory://") as two:
        one.write(pl.DataFrame({"ts": [START], "x": [1]}), "cpu", time="ts")
        two.write(pl.DataFrame({"ts": [START], "x": [2]}), "mem", time="ts")
        first = one.sql("SELECT x FROM cpu")

        with pytest.raises(mito.TableNotFoundError, match="no table 'cpu'"):
            two.sql("SELECT x FROM cpu")
        two.write(pl.DataFrame({"ts": [START], "x": [3]}), "cpu", time="ts")
        second = two.sql("SELECT x FROM cpu")

        assert first.fetchall() == [(1,)]
        assert second.fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DROP TABLE cpu", "takes one SELECT, and this is DROP"),
        ("INSERT INTO cpu VALUES (1)", "takes one SELECT, and this is INSERT"),
        ("COPY cpu TO 'x.csv'", "takes one SELECT, and this is COPY"),
        ("ATTACH 'x.db'", "takes one SELECT, and this is ATTACH"),
        ("SELECT 1; SELECT 2", "takes one SELECT, and this is SELECT, SELECT"),
        ("", "takes one SELECT, and this is nothing"),
        ("WITH x AS (DELETE FROM cpu RETURNING *) SELECT * FROM x", "takes one SELECT, and in this one is DELETE"),
        ("SHOW TABLES", "db.tables"),
        ("PIVOT cpu ON host USING max(load)", "PIVOT needs to be told the values"),
        ("SELECT * FORM", "DuckDB cannot"),
        ("SELECT nope FROM cpu", '"nope" not found'),
        (3, "the query is a int"),
    ],
)  # fmt: skip
def test_sql_that_cannot_be_done_is_refused(store: Store, query: Any, message: str) -> None:
    with pytest.raises(mito.InvalidInputError, match=message):
        store.db.sql(query)


def test_a_table_that_is_not_there_is_named_with_the_nearest(store: Store) -> None:
    with pytest.raises(mito.TableNotFoundError, match="no table 'cpus'; did you mean 'cpu'"):
        store.db.sql("SELECT * FROM cpus")


def test_a_frame_that_the_query_does_not_read_is_refused(store: Store) -> None:
    with pytest.raises(mito.InvalidInputError, match="no table 'nmaes'; did you mean 'names'"):
        store.db.sql("SELECT * FROM names", nmaes=pl.DataFrame({"x": [1]}))
    with pytest.raises(mito.InvalidInputError, match="names= is a int"):
        store.db.sql("SELECT * FROM names", names=3)


def test_columns_that_differ_by_case_alone_are_refused() -> None:
    with mito.open("memory://") as db:
        db.write(pl.DataFrame({"ts": [START], "x": [1], "X": [2]}), "wide", time="ts")

        with pytest.raises(mito.InvalidInputError, match="columns 'x' and 'X' are one to DuckDB"):
            db.sql("SELECT * FROM wide")
        assert exporting.to_duckdb(db.scan("wide", columns=["X"])).fetchall() == [(2,)]


def test_a_closed_store_answers_nothing() -> None:
    with mito.open("memory://") as db:
        scan = Store(db).scan()

    for call in (lambda: db.sql("SELECT 1"), lambda: exporting.to_duckdb(scan), lambda: exporting.to_reader(scan),
                 lambda: exporting.eject(scan)):  # fmt: skip
        with pytest.raises(mito.ClosedError):
            call()


def test_without_duckdb_it_is_said_how_to_get_it() -> None:
    program = """
import sys
sys.modules["duckdb"] = None
import mitoframe as mito
with mito.open("memory://") as db:
    try:
        db.sql("SELECT 1")
    except mito.InvalidInputError as error:
        assert "pip install 'mitoframe[duckdb]'" in str(error), error
    else:
        raise AssertionError
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# --- types -----------------------------------------------------------------------------------------------

TIMES = {
    "ms": pa.timestamp("ms"),
    "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"),
    "ms of a zone": pa.timestamp("ms", "Europe/Paris"),
    "us of a zone": pa.timestamp("us", "Europe/Paris"),
    "ns of a zone": pa.timestamp("ns", "UTC"),
}
NOT_IN_DUCKDB = {
    "duration_ms": "an INTERVAL holds no 2^62 milliseconds",
    "duration_us": "an INTERVAL comes back as one",
    "duration_ns": "an INTERVAL comes back as one",
}


@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in NOT_IN_DUCKDB])
@pytest.mark.parametrize("where", ["file", "memory"])
def test_every_type_comes_through_duckdb_to_the_last_bit(tmp_path: Path, name: str, where: str) -> None:
    times = pa.array(range(ROWS), pa.timestamp("us"))
    with mito.open(tmp_path) as db:
        db.write(pa.table({"ts": times, "x": COLUMNS[name]}), "t", time="ts")
        if where == "file":
            db["t"].flush()

        found = exporting.to_duckdb(db.scan("t")).order("ts").to_arrow_table().column("x")

        assert same_bits(found.cast(COLUMNS[name].type).combine_chunks(), COLUMNS[name])


def test_durations_are_intervals(tmp_path: Path) -> None:
    spans = pa.array([timedelta(seconds=1), None, timedelta(days=-2)], pa.duration("us"))
    with mito.open(tmp_path) as db:
        db.write(pa.table({"ts": pa.array(range(3), pa.timestamp("us")), "x": spans}), "t", time="ts")
        db["t"].flush()

        assert db.sql("SELECT x FROM t ORDER BY ts").fetchall() == [(value,) for value in spans.to_pylist()]


@pytest.mark.parametrize("name", TIMES)
def test_times_of_every_kind_are_compared_as_they_are_meant(tmp_path: Path, name: str) -> None:
    kind = TIMES[name]
    seconds = pa.array([START + timedelta(seconds=number) for number in range(60)], pa.timestamp("s"))
    times = (seconds.cast(pa.timestamp("s", "UTC")) if kind.tz else seconds).cast(kind)
    with mito.open(tmp_path) as db:
        db.write(pa.table({"ts": times, "x": range(60)}), "t", time="ts")
        db["t"].flush()
        bound = "'2024-01-01 00:00:50+00'" if kind.tz else "'2024-01-01 00:00:50'"
        end = START.replace(tzinfo=UTC) if kind.tz else START

        from_sql = db.sql(f"SELECT x FROM t WHERE ts >= {bound}").fetchall()
        from_scan = exporting.to_duckdb(db.scan("t", start=end + timedelta(seconds=50))).project("x").fetchall()
        ticks = exporting.to_duckdb(db.scan("t", columns=["ts"])).to_arrow_table().column("ts")

        assert sorted(from_sql) == sorted(from_scan) == [(number,) for number in range(50, 60)]
        assert ticks.cast(kind).combine_chunks().sort().equals(times)


def test_times_far_from_ours_are_read_too(tmp_path: Path) -> None:
    ticks = [-(2**62), 0, 2**62]
    with mito.open(tmp_path) as db:
        db.write(pa.table({"ts": pa.array(ticks, pa.timestamp("ms")), "x": [0, 1, 2]}), "t", time="ts")
        db["t"].flush()

        relation = exporting.to_duckdb(db.scan("t", start=-(2**61), end=2**61))

        assert relation.project("x").fetchall() == [(1,)]
        assert sorted(exporting.to_duckdb(db.scan("t")).project("x").fetchall()) == [(0,), (1,), (2,)]


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_bounds_far_from_ours_are_meant_as_they_are(tmp_path: Path, unit: str) -> None:
    ticks = [-(2**61), 0, 2**61]
    with mito.open(tmp_path) as db:
        times = pa.array([-1, 0, 1], pa.timestamp(unit))
        db.write(pa.table({"ts": times, "x": [0, 1, 2]}), "t", time="ts")
        db["t"].flush()

        for start, end, count in [(ticks[0], ticks[2], 3), (ticks[0], 0, 1), (0, ticks[2], 2), (ticks[2], None, 0)]:
            relation = exporting.to_duckdb(db.scan("t", start=start, end=end))
            assert len(relation.fetchall()) == count


def test_columns_may_be_called_anything(tmp_path: Path) -> None:
    names = ['a "quote"', "a.b", "select", "it's", "ä\n", "x", "xx"]
    with mito.open(tmp_path) as db:
        first = pa.table({"ts": pa.array([0, 1], pa.timestamp("us")), **{name: [1, 2] for name in names}})
        db.write(first, "t", time="ts", tags=[names[0]])
        db["t"].flush()
        db.write(first.slice(1), "t")

        relation = exporting.to_duckdb(db.scan("t"))

        assert relation.columns == [names[0], "ts", *names[1:]]
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            assert relation.filter(f"{quoted} = 2").project(quoted).fetchall() == [(2,)]
            assert db.sql(f"SELECT {quoted} FROM t WHERE {quoted} = 2").fetchall() == [(2,)]


# --- plain files -----------------------------------------------------------------------------------------


def test_plain_files_hold_the_rows_or_it_is_said_what_is_in_the_way(store: Store) -> None:
    direct, merged, buffered = store.places()
    if merged or buffered:
        with pytest.raises(mito.InvalidInputError, match=r"compact\(\)|flush\(\)"):
            exporting.eject(store.scan())
        return

    ejected = exporting.eject(store.scan())

    assert len(ejected.files) == direct
    assert_same(ejected.to_polars().collect(), store.model.frame())
    assert_frame_equal(ejected.to_polars().collect(), store.scan().collect())
    assert_frame_equal(run(ejected.code), store.scan().collect())


def run(code: str) -> pl.DataFrame:
    """Run the code in a name space of its own."""
    names: dict[str, Any] = {}
    head, _, expression = code.partition("\n\n")
    exec(head, names)
    found = eval(expression, names).collect()
    assert isinstance(found, pl.DataFrame)
    return found


def test_what_overlaps_is_said_and_mended(tmp_path: Path) -> None:
    with mito.open(tmp_path) as db:
        store = overlapping(db)

        with pytest.raises(mito.InvalidInputError) as refused:
            exporting.eject(store.scan())
        store.table.flush()
        store.table.compact()
        ejected = exporting.eject(store.scan(columns=["load", "ts"], start=minute(5), end=minute(210)))

        assert str(refused.value) == (
            "the files of table 'cpu' are not its rows: 2 files overlap and 9 rows are in memory only from "
            "2024-01-01 00:00:00 to 2024-01-01 00:49:00. Call table.flush() and table.compact(), then eject again."
        )
        expected = store.model.frame().filter(pl.col("ts").is_between(minute(5), minute(210), closed="left"))
        assert_same(ejected.to_polars().collect(), expected.select("load", "ts"))
        assert_same(run(ejected.code), expected.select("load", "ts"))
        assert "# 2024-01-01 00:05:00" in ejected.code


def test_a_range_that_nothing_overlaps_in_can_be_had(tmp_path: Path) -> None:
    with mito.open(tmp_path) as db:
        store = overlapping(db)

        ejected = exporting.eject(store.scan(start=minute(100)))

        assert len(ejected.files) == 1
        assert_same(ejected.to_polars().collect(), rows(200, 220, 0.0))
        assert repr(ejected) == ejected.code
        assert ">import polars" in ejected._repr_html_()


def test_a_condition_is_not_ejected(store: Store) -> None:
    with pytest.raises(mito.InvalidInputError, match="leave where= out"):
        exporting.eject(store.scan(where=pl.col("load") > 1))


def test_ejected_files_stay_while_the_result_lives(tmp_path: Path) -> None:
    with mito.open(tmp_path, gc_grace_ms=0) as db:
        store = plain(db)
        expected = store.model.frame()
        ejected = exporting.eject(store.scan())

        store.write(rows(0, 300, 9000.0))
        store.table.compact()
        store.table.vacuum()

        assert_same(ejected.to_polars().collect(), expected)


def test_every_type_can_be_ejected(tmp_path: Path) -> None:
    times = pa.array(range(ROWS), pa.timestamp("ns", "Europe/Paris"))
    with mito.open(tmp_path) as db:
        db.write(pa.table({"ts": times, **COLUMNS}), "t", time="ts")
        db["t"].flush()
        db["t"].alter(add={"later": pa.large_list(pa.duration("ms"))})

        ejected = exporting.eject(db.scan("t"))

        assert "missing_columns" in ejected.code
        assert_frame_equal(ejected.to_polars().collect(), db.scan("t").collect())
        assert_frame_equal(run(ejected.code), db.scan("t").collect())


# --- any sequence of writes ------------------------------------------------------------------------------

spans = st.tuples(st.integers(0, 40), st.integers(1, 15), st.booleans())


@settings(deadline=None, max_examples=25)
@given(writes=st.lists(spans, max_size=6), first=st.integers(-5, 60), count=st.integers(0, 60), compact=st.booleans())
def test_whatever_was_written_all_hands_hold_the_same(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, int, bool]], first: int, count: int, compact: bool
) -> None:
    start, end = minute(first), minute(first + count)
    with mito.open(tmp_path_factory.mktemp("store"), row_group_rows=8) as db:
        store = Store(db)
        for number, (begin, length, flush) in enumerate(writes):
            store.write(rows(begin, begin + length, 100.0 * number), flush=flush)
        if compact:
            store.table.flush()
            store.table.compact()
        expected = store.model.frame().filter(pl.col("ts").is_between(start, end, closed="left"))
        scan = store.scan(start=start, end=end)

        streamed = pl.from_arrow(exporting.to_reader(scan).read_all())
        assert isinstance(streamed, pl.DataFrame)
        assert_same(streamed, expected)
        assert_same(polars_of(exporting.to_duckdb(scan)), expected)
        assert_same(polars_of(db.sql(f"SELECT * FROM cpu WHERE ts >= '{start}' AND ts < '{end}'")), expected)
        if compact:
            ejected = exporting.eject(scan)
            assert_frame_equal(run(ejected.code), scan.collect())


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda store: exporting.to_duckdb(store.scan()),
        lambda store: store.db.sql("SELECT * FROM cpu"),
        lambda store: store.db.sql("SELECT * FROM cpu WHERE ts < '2024-01-01 01:00'"),
        lambda store: exporting.to_reader(store.scan()).read_all(),
        lambda store: exporting.to_numpy(store.scan()),
        lambda store: exporting.eject(store.scan(start=minute(100))),
    ],
    ids=["relation", "sql", "sql of what is merged", "reader", "numpy", "eject"],
)
def test_damage_is_told_before_anybody_else_reads(tmp_path: Path, read: Callable[[Store], Any]) -> None:
    with mito.open(tmp_path) as db:
        overlapping(db)
    for file in tmp_path.rglob("*.parquet"):
        damaged = bytearray(file.read_bytes())
        damaged[30] ^= 1
        file.write_bytes(damaged)

    with mito.open(tmp_path) as db, pytest.raises(mito.CorruptionError, match="not those that were written"):
        read(Store.of(db))
