"""Whatever is kept of what was read: a table answers as one that keeps nothing, also after it was changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.read import shares

START = datetime(2024, 1, 1)
BUDGETS = [0, 10_000, None]


def rows(first: int, last: int, load: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "host": [f"h{minute % 5}" for minute in range(first, last)],
            "ts": [START + timedelta(minutes=minute) for minute in range(first, last)],
            "load": [(load + minute) % 100 for minute in range(first, last)],
            "note": [f"{minute % 3}" if minute % 4 else None for minute in range(first, last)],
        },
        schema={"host": pl.String, "ts": pl.Datetime("us"), "load": pl.Int16, "note": pl.String},
    )


QUERIES = [
    lambda lf: lf,
    lambda lf: lf.filter(pl.col("host") == "h2"),
    lambda lf: lf.filter(pl.col("ts") >= START + timedelta(minutes=90)).select("load"),
    lambda lf: lf.filter(pl.col("load") > 50).select("host", "load"),
    lambda lf: lf.filter(pl.col("note").is_null() | (pl.col("host") == "h1")),
    lambda lf: lf.group_by("host").agg(pl.col("load").sum(), pl.len()),
]


class Tables:
    """The same table in stores that keep more and less, beside a frame of what is in it."""

    def __init__(self) -> None:
        config: dict[str, Any] = {"row_group_rows": 7, "compaction_trigger_files": 100}
        self.stores = [mito.open("memory://", cache_size_bytes=budget, **config) for budget in BUDGETS]
        for store in self.stores:
            store.create_table("cpu", rows(0, 1, 0).schema, time="ts", tags=["host"])
        self.truth = rows(0, 0, 0)

    @property
    def tables(self) -> list[mito.Table]:
        return [store["cpu"] for store in self.stores]

    def write(self, frame: pl.DataFrame) -> None:
        for table in self.tables:
            table.write(frame)
            table.flush()
        whole = pl.concat([self.truth, frame.cast(dict(self.truth.schema))])
        self.truth = whole.unique(["host", "ts"], keep="last")

    def check(self) -> None:
        """Ask everything twice: what is kept then is what was found before."""
        for table in self.tables * 2:
            for query in QUERIES:
                found, expected = query(table.scan().to_polars()).collect(), query(self.truth.lazy()).collect()
                assert_frame_equal(found.sort(found.columns), expected.sort(expected.columns))

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture(params=["few", "many"])
def tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    """Three files: the first two overlap, the third stands alone."""
    monkeypatch.setattr(shares, "SHARE_ROWS", 20)
    if request.param == "many":
        monkeypatch.setattr(shares, "FEW_ROWS", 0)
    tables = Tables()
    for frame in (rows(0, 60, 0), rows(40, 80, 30), rows(100, 130, 5)):
        tables.write(frame)
    tables.check()
    yield tables
    tables.close()


def test_a_column_of_another_type_is_not_answered_from_what_was_kept_of_the_old(tables: Tables) -> None:
    for table in tables.tables:
        table.alter(retype={"load": pl.Int64})
    tables.truth = tables.truth.with_columns(pl.col("load").cast(pl.Int64))
    tables.check()

    tables.write(rows(50, 55, 7).with_columns(load=pl.lit(10**12)))

    tables.check()


def test_a_column_that_comes_back_under_its_name_is_another_one(tables: Tables) -> None:
    for table in tables.tables:
        table.alter(drop=["note"])
        table.alter(add={"note": pl.String}, defaults={"note": "new"})
    tables.truth = tables.truth.with_columns(note=pl.lit("new"))

    tables.check()


def test_files_that_were_merged_are_read_anew_and_the_old_ones_forgotten(tables: Tables) -> None:
    for table in tables.tables:
        table.compact()
    tables.check()

    for store, table in zip(tables.stores, tables.tables, strict=True):
        assert table.vacuum(older_than="0s").removed
        engine = store._shared.connection.engine
        listed = engine.region(table.region_id).state.files
        assert set(engine.cache._owned) <= set(listed)

    tables.check()


def test_rows_that_were_truncated_are_not_found_in_what_was_kept(tables: Tables) -> None:
    first, last = START + timedelta(minutes=45), START + timedelta(minutes=110)
    for table in tables.tables:
        table.truncate(start=first, end=last)
    tables.truth = tables.truth.filter((pl.col("ts") < first) | (pl.col("ts") >= last))
    tables.check()

    for table in tables.tables:
        table.truncate()
    tables.truth = tables.truth.clear()
    tables.check()


def test_rows_that_were_deleted_or_exchanged_are_not_found_in_what_was_kept(tables: Tables) -> None:
    gone = pl.col("load") > 20
    for table in tables.tables:
        table.delete(where=gone)
    tables.truth = tables.truth.filter(~gone)
    tables.check()

    first, last = START + timedelta(minutes=10), START + timedelta(minutes=70)
    for table in tables.tables:
        table.replace_range(rows(10, 30, 3), start=first, end=last)
    tables.truth = pl.concat([tables.truth.filter((pl.col("ts") < first) | (pl.col("ts") >= last)), rows(10, 30, 3)])
    tables.check()


def test_a_table_that_was_dropped_and_made_again_starts_empty(tables: Tables) -> None:
    for store in tables.stores:
        store.drop_table("cpu")
        store.create_table("cpu", tables.truth.schema, time="ts", tags=["host"])
    tables.truth = tables.truth.clear()
    tables.check()

    tables.write(rows(0, 20, 50))

    tables.check()


def test_no_more_is_kept_than_may_be(tables: Tables) -> None:
    tables.check()

    sizes = [store._shared.connection.engine.cache.size_bytes for store in tables.stores]

    assert sizes[0] == 0
    assert 0 < sizes[1] <= 10_000 < sizes[2]
