"""Formats are promises: a store of every format that was ever released opens for ever.

``tests/golden/stores/format-1`` was written once, by `make_store`, and is never written again. A change that makes this
test fail is a new format: it gets a number and a folder of its own, and this folder stays.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.frames.arrow import to_batch
from mitoframe.model.batch import OpType

STORES = Path(__file__).parent / "golden" / "stores"
SCHEMA = {
    "ts": pl.Datetime("us", "Europe/Paris"),
    "host": pl.String,
    "rack": pl.Int32,
    "load": pl.Float64,
    "note": pl.String,
}


def rows(first: int, last: int, load: float) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "ts": [datetime(2024, 3, 31, 0, minute) for minute in range(first, last)],
            "host": [None if minute % 3 == 0 else f"host-{minute % 3}" for minute in range(first, last)],
            "rack": [minute % 2 for minute in range(first, last)],
            "load": [load + minute for minute in range(first, last)],
            "note": [None if minute % 5 == 0 else "ü" * (minute % 4) for minute in range(first, last)],
        },
        schema_overrides={"rack": pl.Int32},
    ).with_columns(pl.col("ts").dt.replace_time_zone("Europe/Paris"))


def make_store(folder: Path) -> None:
    """Write a store with files of both levels, a checkpoint, a delete marker, and rows that are only in the log."""
    db = mito.open(folder, checkpoint_distance=2, gc_grace_ms=0, flush_on_close=False, row_group_rows=7)
    table = db.create_table("cpu ü", SCHEMA, time="ts", tags=["host", "rack"])
    for first in (0, 5, 10):
        table.write(rows(first, first + 10, 100.0 * first))
        table.flush()
    table.compact()
    table.write(rows(30, 40, 0.0))
    table.flush()
    keys = rows(12, 14, 0.0).select("ts", "host", "rack").to_arrow(compat_level=pl.CompatLevel.oldest())
    db._shared.connection.engine.write(table.region_id, to_batch(table._metadata, keys, OpType.DELETE))
    table.flush()
    table.write(rows(38, 42, 5000.0))
    db.close()


def expected() -> pl.DataFrame:
    written = [rows(0, 10, 0.0), rows(5, 15, 500.0), rows(10, 20, 1000.0), rows(30, 40, 0.0), rows(38, 42, 5000.0)]
    last = pl.concat(written).unique(["ts", "host", "rack"], keep="last", maintain_order=True)
    return last.join(rows(12, 14, 0.0), on="ts", how="anti").select("host", "rack", "ts", "load", "note").sort("ts")


@pytest.mark.parametrize("mode", ["rw", "r"])
@pytest.mark.parametrize("name", ["format-1"])
def test_a_store_of_every_format_opens(name: str, mode: str, tmp_path: Path) -> None:
    shutil.copytree(STORES / name, tmp_path / "store")

    with mito.open(tmp_path / "store", mode=mode) as db:
        found = db["cpu ü"].scan().collect().sort("ts")

    assert_frame_equal(found, expected())


def test_what_is_written_today_is_the_newest_format(tmp_path: Path) -> None:
    make_store(tmp_path / "store")

    with mito.open(tmp_path / "store") as db:
        assert_frame_equal(db["cpu ü"].scan().collect().sort("ts"), expected())
