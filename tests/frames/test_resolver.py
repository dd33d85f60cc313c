"""The lazy frame against brute force: 13 queries, both Polars engines, rows in every kind of place at once.

Keys are written again and again and some are deleted, so that each answer needs merge, dedup and delete markers right.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from values import COLUMNS

import mitoframe as mito
from mitoframe.frames.arrow import to_batch
from mitoframe.frames.polars import _from_batch, _merge_scan, _path_scan, from_table
from mitoframe.model.batch import OpType
from mitoframe.model.request import ScanRequest
from mitoframe.read import shares

START = datetime(2024, 1, 1)
KEYS = ["host", "ts"]
HOSTS = ["a", "b", "c"]
QUERY_COUNT = 13

Query = Callable[[pl.LazyFrame], pl.LazyFrame]


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def rows(first: int, last: int, value: float) -> pl.DataFrame:
    """One row per host and minute of [first, last)."""
    return pl.DataFrame(
        [
            {"host": host, "ts": minute(m), "value": value + m, "note": f"{host}{m}"}
            for m in range(first, last)
            for host in HOSTS
        ],
        schema={"host": pl.String, "ts": pl.Datetime("us"), "value": pl.Float64, "note": pl.String},
    )


# In the order written. Two files that overlap, one that stands alone, and a memtable over the first two.
WRITES = [
    ("clean file", rows(100, 120, 0.0), OpType.PUT),
    ("first file", rows(0, 20, 1000.0), OpType.PUT),
    ("second file", rows(15, 25, 2000.0), OpType.PUT),
    ("second file", rows(3, 5, 0.0).select(KEYS), OpType.DELETE),
    ("memtable", rows(10, 13, 3000.0), OpType.PUT),
    ("memtable", rows(18, 19, 0.0).select(KEYS), OpType.DELETE),
    ("memtable", rows(4, 5, 4000.0).filter(pl.col("host") == "a"), OpType.PUT),
]


def truth() -> pl.DataFrame:
    """Brute force: all rows ever written, the last of each key, deleted keys gone."""
    everything = pl.concat(
        [
            frame.with_columns(pl.lit(number).alias("order"), pl.lit(op_type == OpType.PUT).alias("put"))
            for number, (_, frame, op_type) in enumerate(WRITES)
        ],
        how="diagonal",
    )
    last = everything.sort([*KEYS, "order"]).unique(KEYS, keep="last", maintain_order=True)
    return last.filter("put").drop("order", "put").select("host", "ts", "value", "note")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mito.Table]:
    with mito.open(tmp_path_factory.mktemp("store"), row_group_rows=10) as db:
        cpu = db.create_table("cpu", rows(0, 1, 0.0).schema, time="ts", tags=["host"])
        engine, metadata = db._shared.connection.engine, cpu._metadata
        place = WRITES[0][0]
        for where, frame, op_type in WRITES:
            if where != place:
                cpu.flush()
            place = where
            engine.write(
                cpu.region_id, to_batch(metadata, frame.to_arrow(compat_level=pl.CompatLevel.oldest()), op_type)
            )
        plan = engine.plan(cpu.region_id, ScanRequest())
        assert len(plan.direct) == 1, "the clean file is handed to Polars as it is"
        assert [(len(group.files), len(group.buffered)) for group in plan.groups] == [(2, 1)]
        yield cpu


@pytest.fixture(params=["few", "many"])
def lazy(request: pytest.FixtureRequest, table: mito.Table, monkeypatch: pytest.MonkeyPatch) -> pl.LazyFrame:
    """A frame whose rows are handed over in memory, or as a file and as a source that merges."""
    if request.param == "many":
        monkeypatch.setattr(shares, "FEW_ROWS", 0)
    return table.scan().to_polars()


QUERIES: dict[str, Query] = {
    "everything": lambda lf: lf,
    "time range": lambda lf: lf.filter(pl.col("ts") >= minute(16), pl.col("ts") < minute(110)),
    "field": lambda lf: lf.filter(pl.col("value") < 1010),
    "tag, time and field": lambda lf: lf.filter(
        (pl.col("host") == "b") & pl.col("ts").is_between(minute(2), minute(104)) & (pl.col("value") > 5)
    ),
    "tag, one column": lambda lf: lf.filter(pl.col("host").is_in(["a", "c"])).select("note"),
    "columns in another order": lambda lf: lf.select("value", "host", "ts"),
    "length": lambda lf: lf.select(pl.len()),
    "group by": lambda lf: lf.group_by("host").agg(pl.col("value").sum(), pl.len()),
    "self join": lambda lf: lf.join(lf.select(*KEYS, pl.col("value").alias("again")), on=KEYS),
    "top k": lambda lf: lf.sort("value", "host", "ts", descending=True).head(7),
    "latest": lambda lf: lf.select(pl.col("ts").max()),
    "head before a filter, counted": lambda lf: lf.head(5).filter(pl.col("host").is_not_null()).select(pl.len()),
    "head after a filter, counted": lambda lf: lf.filter(pl.col("host") == "a").head(5).select(pl.len()),
}


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.columns == expected.columns
    assert_frame_equal(found.sort(found.columns), expected.sort(expected.columns))


def test_there_are_as_many_queries_as_promised() -> None:
    assert len(QUERIES) == QUERY_COUNT


def test_the_truth_has_overwritten_and_deleted_rows() -> None:
    written = sum(len(frame) for _, frame, op_type in WRITES if op_type is OpType.PUT)

    assert len(truth()) < written
    assert truth().filter(pl.col("ts") == minute(4)).to_dicts() == [
        {"host": "a", "ts": minute(4), "value": 4004.0, "note": "a4"}
    ]


def test_few_rows_are_in_memory_and_many_in_a_file_and_a_merge(lazy: pl.LazyFrame) -> None:
    plan = lazy.explain()
    found = [part for part in ("DF [", "Parquet SCAN [", "mitoframe merge") if part in plan]

    assert found == (["DF ["] if shares.FEW_ROWS else ["Parquet SCAN [", "mitoframe merge"])


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_agrees_with_brute_force(lazy: pl.LazyFrame, name: str, engine: str) -> None:
    query = QUERIES[name]

    found = query(lazy).collect(engine=engine)

    assert_same(found, query(truth().lazy()).collect(engine="in-memory"))


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("count", [1, 5, 17, 1000])
def test_head_is_cut_before_a_filter_that_follows_it(lazy: pl.LazyFrame, count: int, engine: str) -> None:
    first = lazy.head(count).collect(engine=engine)
    condition = pl.col("value") > 2000

    found = lazy.head(count).filter(condition).collect(engine=engine)

    assert first.height == min(count, truth().height)
    assert_same(found, first.filter(condition))


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_one_shared_frame_serves_all_queries_twice(lazy: pl.LazyFrame, engine: str) -> None:
    for _ in range(2):
        for name, query in QUERIES.items():
            if not name.startswith("head"):
                assert_same(query(lazy).collect(engine=engine), query(truth().lazy()).collect(engine="in-memory"))


def test_the_same_query_twice_gives_equal_frames(lazy: pl.LazyFrame) -> None:
    query = lazy.filter(pl.col("value") > 1500).sort("host", "ts")

    assert_frame_equal(query.collect(), query.collect())


def test_a_frame_made_before_a_write_sees_it(tmp_path) -> None:
    with mito.open(tmp_path / "store") as db:
        db.write(rows(0, 2, 0.0), "cpu", time="ts", tags=["host"])
        frame = db["cpu"].scan().to_polars()
        assert frame.collect().height == 6

        db["cpu"].write(rows(5, 6, 0.0))

        assert frame.collect().height == 9
        db["cpu"].flush()
        assert frame.collect().height == 9


# --- files that are handed over as they are ------------------------------------------------------------


@pytest.fixture
def as_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand over no rows in memory, and start with nothing that an earlier query left."""
    monkeypatch.setattr(shares, "FEW_ROWS", 0)
    _path_scan.cache_clear()


def check_files(table: mito.Table, frame: pl.LazyFrame, file_count: int, expected: pl.DataFrame) -> None:
    """Ask twice: there are so many files, all read as they are, and their rows are what is expected."""
    listed = table._engine.plan(table.region_id, ScanRequest())
    assert (len(listed.direct), len(listed.groups)) == (file_count, 0)
    for _ in range(2):
        assert_same(frame.collect(), expected)
        assert_same(frame.filter(pl.col("value") > 3).collect(), expected.filter(pl.col("value") > 3))


def test_files_that_have_not_changed_are_scanned_by_the_plan_that_was_made_for_them(tmp_path, as_files) -> None:
    with mito.open(tmp_path) as db:
        db.write(rows(0, 5, 0.0), "cpu", time="ts", tags=["host"])
        db["cpu"].flush()

        for _ in range(3):
            assert_same(db["cpu"].scan().to_polars().collect(), rows(0, 5, 0.0))

    assert (_path_scan.cache_info().misses, _path_scan.cache_info().hits) == (1, 2)


def test_a_frame_sees_the_files_of_the_moment(tmp_path, as_files) -> None:
    early, late, newer = rows(0, 5, 0.0), rows(10, 15, 0.0), rows(10, 15, 100.0)
    with mito.open(tmp_path, compaction_trigger_files=100) as db:
        table = db.create_table("cpu", early.schema, time="ts", tags=["host"])
        frame = table.scan().to_polars()
        table.write(early)
        table.flush()
        check_files(table, frame, 1, early)

        table.write(late)
        table.flush()
        check_files(table, frame, 2, pl.concat([early, late]))

        table.write(newer)
        table.flush()
        table.compact()
        check_files(table, frame, 1, pl.concat([early, newer]))

        table.truncate()
        check_files(table, frame, 0, early.clear())

        table.write(newer)
        table.flush()
        check_files(table, frame, 1, newer)


def test_a_frame_shows_the_columns_of_the_moment_whatever_its_files_have(tmp_path, as_files) -> None:
    first, second = rows(0, 5, 0.0), rows(10, 15, 0.0)
    with mito.open(tmp_path, compaction_trigger_files=100) as db:
        table = db.create_table("cpu", first.schema, time="ts", tags=["host"])
        table.write(first)
        table.flush()
        check_files(table, table.scan().to_polars(), 1, first)

        table.alter(add={"more": pl.Int64})
        wider = first.with_columns(more=pl.lit(None, pl.Int64))
        check_files(table, table.scan().to_polars(), 1, wider)

        table.write(second.with_columns(more=7))
        table.flush()
        wider = pl.concat([wider, second.with_columns(more=pl.lit(7, pl.Int64))])
        check_files(table, table.scan().to_polars(), 2, wider)

        table.alter(drop=["note"])
        check_files(table, table.scan().to_polars(), 2, wider.drop("note"))


def test_a_table_that_was_dropped_and_made_anew_shows_its_own_rows(tmp_path, as_files) -> None:
    old, new = rows(0, 5, 0.0), rows(0, 5, 50.0)
    with mito.open(tmp_path) as db:
        for expected in (old, new):
            table = db.create_table("cpu", old.schema, time="ts", tags=["host"])
            table.write(expected)
            table.flush()
            check_files(table, table.scan().to_polars(), 1, expected)
            db.drop_table("cpu")


def test_a_store_that_was_removed_and_made_anew_at_its_place_shows_its_own_rows(tmp_path, as_files) -> None:
    for expected in (rows(0, 5, 0.0), rows(0, 5, 50.0)):
        with mito.open(tmp_path / "store") as db:
            table = db.create_table("cpu", expected.schema, time="ts", tags=["host"])
            table.write(expected)
            table.flush()
            check_files(table, table.scan().to_polars(), 1, expected)
        shutil.rmtree(tmp_path / "store")


# --- plans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_one_query_may_scan_twice_with_different_conditions(lazy: pl.LazyFrame, engine: str) -> None:
    def query(frame: pl.LazyFrame) -> pl.LazyFrame:
        early, late = frame.filter(pl.col("ts") < minute(6)), frame.filter(pl.col("ts") >= minute(17))
        both = pl.concat([early, late, frame])
        return both.join(early.select("host", pl.col("value").alias("early")), on="host")

    assert_same(query(lazy).collect(engine=engine), query(truth().lazy()).collect(engine="in-memory"))


def test_a_self_join_reads_the_store_once(lazy: pl.LazyFrame) -> None:
    plan = lazy.join(lazy, on=KEYS).explain()

    assert "CACHE" in plan


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_merged_source_cuts_before_it_filters(engine: str) -> None:
    """For ``head`` and then ``filter`` Polars hands a source both a limit and a condition: the limit comes first."""
    numbers = pl.DataFrame({"number": range(100), "other": range(100)})

    def merge(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, 100, 7):
            yield from numbers.slice(start, 7).select(columns).to_arrow().combine_chunks().to_batches()

    source = _merge_scan(merge, numbers.schema)

    assert source.head(10).filter(pl.col("number") >= 5).collect(engine=engine)["number"].to_list() == [5, 6, 7, 8, 9]
    assert source.filter(pl.col("number") >= 5).head(3).collect(engine=engine)["number"].to_list() == [5, 6, 7]
    assert source.filter(pl.col("other") > 97).select("number").collect(engine=engine).columns == ["number"]


def test_few_rows_become_the_frame_that_any_rows_become():
    with_views = {"tag": pa.array(["a", None, "b" * 20] * 2, pa.string_view())}
    rows = pa.RecordBatch.from_pydict(with_views | COLUMNS)

    for some in (rows, rows.slice(3, 5), rows.slice(0, 0)):
        expected = from_table(pa.Table.from_batches([some]))
        assert _from_batch(some).schema == expected.schema
        assert_frame_equal(_from_batch(some), expected)
