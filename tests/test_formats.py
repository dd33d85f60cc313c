"""Formats are promises: a store of every format that was ever released opens for ever.

``tests/golden/stores/format-1`` was written once, by `make_store`, and is never written again; ``format-2`` by
`make_store` and `add_what_is_new`; ``format-3`` by these, `add_earlier_moments` and `add_indexes`; ``format-4`` to
``format-6`` by the same. A change that makes this test fail is a new format: it gets a number and a folder of its own,
and these stay.

Format 2 of manifest and log: history, write keys, sequences of backfills, options, altered columns, mixed operations.
Format 3 of the manifest: earlier moments, snapshots, former schemas, times of writes, indexes beside files. Checksums
of blocks are for files of more than 2 MiB, which is more than is to be kept here; see ``storage/test_sst_bytes.py``.
Format 4 of the manifest: what values the first tags of a file have, and which of its columns hold a NaN.
Format 5 of the manifest: compressed, as ``manifest_compression="zlib"`` has it. What was not was format 4 still.
Format 6 of the manifest: which times the values of tags cover in a file. Compressed or not, it is 6.
"""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.model.index import TERMS
from mitoframe.model.predicate import Compare, Text
from mitoframe.model.rows import RowRanges

STORES = Path(__file__).parent / "golden" / "stores"
NEWEST = "format-6"
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


def make_store(folder: Path, **config: Any) -> None:
    """Write a store with files of both levels, a checkpoint, a delete marker, and rows that are only in the log."""
    db = mito.open(folder, checkpoint_distance=2, gc_grace_ms=0, flush_on_close=False, row_group_rows=7, **config)
    table = db.create_table("cpu ü", SCHEMA, time="ts", tags=["host", "rack"])
    for first in (0, 5, 10):
        table.write(rows(first, first + 10, 100.0 * first))
        table.flush()
    table.compact()
    table.write(rows(30, 40, 0.0))
    table.flush()
    keys = rows(12, 14, 0.0).select("ts", "host", "rack").to_arrow(compat_level=pl.CompatLevel.oldest())
    db.engine.handle_request(table.region_id, mito.DeleteRequest(batch=table.to_batch(keys, delete=True)))
    table.flush()
    table.write(rows(38, 42, 5000.0))
    db.close()


def add_what_is_new(folder: Path, **config: Any) -> None:
    """Write tables that use what format 2 has: the rows in files, and some in the log only."""
    with mito.open(folder, flush_on_close=False, backfill_size_bytes=2_000, row_group_rows=7, **config) as db:
        merged = db.create_table("merged", SCHEMA, time="ts", tags=["host", "rack"], options={"dedup": "merge"})
        merged.write(rows(0, 10, 1.0).drop("note"), key="first load")
        merged.write(rows(0, 10, 2.0).with_columns(load=pl.lit(None, pl.Float64)))
        merged.flush()
        merged.write(rows(0, 60, 3.0)).undo()
        merged.alter(add={"room": pl.String, "seats": pl.Int16}, defaults={"room": "lab"})
        merged.alter(retype={"seats": pl.Int64}, drop=["note"])
        merged.write(rows(8, 12, 4.0).drop("note").with_columns(room=pl.lit("hall"), seats=pl.lit(40, pl.Int64)))
        merged.delete(tags={"rack": 1}, end="2024-03-31T00:04")
        every = db.create_table("every", SCHEMA, time="ts", tags=["host", "rack"], options={"dedup": "none"})
        every.write(rows(0, 60, 0.0), key="second load")
        every.write(rows(0, 3, 0.0))
        gone = db.create_table("gone", SCHEMA, time="ts", tags=["host", "rack"], options={"wal": "noop"})
        gone.write(rows(0, 3, 0.0))
        db.drop_table("gone")


def add_earlier_moments(folder: Path, **config: Any) -> None:
    """Write a table with snapshots: of rows in memory, before a column went, before all rows did."""
    with mito.open(folder, flush_on_close=False, row_group_rows=7, checkpoint_distance=3, **config) as db:
        past = db.create_table("past", SCHEMA, time="ts", tags=["host", "rack"])
        past.write(rows(0, 10, 1.0))
        past.snapshot("in memory")
        past.write(rows(5, 15, 2.0))
        past.flush()
        past.snapshot("with note")
        past.alter(drop=["note"])
        past.write(rows(12, 20, 3.0).drop("note"))
        past.flush()
        past.compact()
        past.snapshot("without note")
        past.truncate()
        past.write(rows(0, 2, 4.0).drop("note"))


def add_indexes(folder: Path, **config: Any) -> None:
    """Write a table with a file whose indexes were built twice, and one that has none yet."""
    with mito.open(folder, flush_on_close=False, row_group_rows=7, **config) as db:
        indexed = db.create_table("indexed", SCHEMA, time="ts", tags=["host", "rack"], options={"index_mode": "manual"})
        indexed.alter(indexes={"load": ["inverted"], "note": ["skipping"]})
        indexed.write(rows(0, 20, 1.0))
        indexed.flush()
        indexed.build_index()
        indexed.alter(indexes={"note": ["skipping", "fulltext"]})
        indexed.build_index()
        indexed.write(rows(20, 30, 1.0))
        indexed.flush()


def check_indexes(db: mito.Database) -> None:
    table = db["indexed"]
    region = db.engine.region(table.region_id)
    first, second = sorted(region.state.files.values(), key=lambda file: file.min_time)
    assert [entry.kind for entry in first.index.entries] == ["inverted", "skipping", "fulltext"]
    assert (first.index.version, second.index) == (2, None)
    # Built with other versions of the tables of letters, an index of words is not asked.
    words = [entry for entry in first.index.entries if entry.terms in ("", TERMS)]
    unknown = [Compare("load", "==", 777.0), Compare("note", "==", "?"), Text("note", "matches", "unknown")]
    for condition in unknown[: len(words)]:
        assert db.engine.indexes.select(region.metadata, first, condition) == RowRanges.nothing()
    known = [Compare("load", "==", 8.0), Compare("note", "==", "üü"), Text("note", "matches", "üü")]
    for condition in known[: len(words)]:
        assert db.engine.indexes.select(region.metadata, first, condition) == RowRanges.everything(20)
    found = table.scan(where=(pl.col("load") == 8.0) | (pl.col("note") == "üü")).collect().sort("ts")
    expected = rows(0, 30, 1.0).filter((pl.col("load") == 8.0) | (pl.col("note") == "üü"))
    assert_frame_equal(found, expected.select(found.columns).sort("ts"))


def check_what_is_known_of_files(db: mito.Database, name: str) -> None:
    files = db.engine.region(db["cpu ü"].region_id).state.files.values()
    assert {bool(file.leading_tags) for file in files} == {name >= "format-4"}
    assert {file.nan_columns for file in files} == {() if name >= "format-4" else None}
    assert {bool(file.covers) for file in files} == {name >= "format-6"}
    covered = db["cpu ü"].coverage(by="host")
    assert set(covered["value"]) == {None, "host-1", "host-2"}
    assert covered["rows"].sum() == db["cpu ü"].coverage()["rows"].sum()
    found = db["cpu ü"].scan(where=pl.col("host") == "host-2").collect().sort("ts")
    assert_frame_equal(found, expected().filter(pl.col("host") == "host-2"))


def check_earlier_moments(db: mito.Database) -> None:
    def last(*written: pl.DataFrame) -> pl.DataFrame:
        newest = pl.concat(written).unique(["ts", "host", "rack"], keep="last", maintain_order=True)
        return newest.select("host", "rack", "ts", *(name for name in ("load", "note") if name in newest.columns))

    first, second = rows(0, 10, 1.0), rows(5, 15, 2.0)
    third = rows(12, 20, 3.0).drop("note")
    for as_of, frame in {
        "in memory": last(first),
        "with note": last(first, second),
        "without note": last(first.drop("note"), second.drop("note"), third),
        None: last(rows(0, 2, 4.0).drop("note")),
    }.items():
        assert_frame_equal(db["past"].scan(as_of=as_of).collect().sort("ts"), frame.sort("ts"))
    assert db["past"].diff("in memory", "with note").collect().height == 15
    named = db["past"].versions().drop_nulls("snapshot")
    assert named["snapshot"].to_list() == ["in memory", "with note", "without note"]


def expected_merged() -> pl.DataFrame:
    old = rows(0, 10, 1.0).filter(~((pl.col("rack") == 1) & (pl.col("ts").dt.minute() < 4)))
    old = old.with_columns(room=pl.lit("lab"), seats=pl.lit(None, pl.Int64))
    new = rows(8, 12, 4.0).with_columns(room=pl.lit("hall"), seats=pl.lit(40, pl.Int64))
    both = pl.concat([old, new]).unique(["ts", "host", "rack"], keep="last", maintain_order=True)
    return both.select("host", "rack", "ts", "load", "room", "seats").sort("ts")


def check_what_is_new(db: mito.Database) -> None:
    names = set(db.tables()["name"])
    assert {"cpu ü", "every", "merged"} <= names
    assert "gone" not in names
    assert_frame_equal(db["merged"].scan().collect().sort("ts"), expected_merged())
    every = pl.concat([rows(0, 60, 0.0), rows(0, 3, 0.0)]).select("host", "rack", "ts", "load", "note")
    assert_frame_equal(db["every"].scan().collect().sort("ts"), every.sort("ts"), check_row_order=False)
    if db.mode == "rw":
        assert db["merged"].write(rows(0, 10, 1.0).drop("note"), key="first load").repeated
        assert db["every"].write(rows(0, 60, 0.0), key="second load").repeated
        assert db["merged"].write(rows(50, 51, 0.0).drop("note")).undo().rows == 1


def expected() -> pl.DataFrame:
    written = [rows(0, 10, 0.0), rows(5, 15, 500.0), rows(10, 20, 1000.0), rows(30, 40, 0.0), rows(38, 42, 5000.0)]
    last = pl.concat(written).unique(["ts", "host", "rack"], keep="last", maintain_order=True)
    return last.join(rows(12, 14, 0.0), on="ts", how="anti").select("host", "rack", "ts", "load", "note").sort("ts")


@pytest.mark.parametrize("mode", ["rw", "r"])
@pytest.mark.parametrize("name", ["format-1", "format-2", "format-3", "format-4", "format-5", "format-6"])
def test_a_store_of_every_format_opens(name: str, mode: str, tmp_path: Path) -> None:
    shutil.copytree(STORES / name, tmp_path / "store")

    with mito.open(tmp_path / "store", mode=mode) as db:
        found = db["cpu ü"].scan().collect().sort("ts")
        if name != "format-1":
            check_what_is_new(db)
        if name >= "format-3":
            check_earlier_moments(db)
            check_indexes(db)
        check_what_is_known_of_files(db, name)

    assert_frame_equal(found, expected())


def make_all(folder: Path, **config: Any) -> None:
    for make in (make_store, add_what_is_new, add_earlier_moments, add_indexes):
        make(folder, **config)


@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_what_is_written_today_is_the_newest_format(compression: str, tmp_path: Path) -> None:
    make_all(tmp_path / "store", manifest_compression=compression)

    with mito.open(tmp_path / "store") as db:
        assert_frame_equal(db["cpu ü"].scan().collect().sort("ts"), expected())
        check_what_is_new(db)
        check_earlier_moments(db)
        check_indexes(db)
        check_what_is_known_of_files(db, NEWEST)


def manifests(folder: Path) -> list[Any]:
    """Return what the manifests of a store say, deltas and checkpoints, as whoever knows no packing reads them."""
    parts = [*folder.rglob("manifest/*.json"), *folder.rglob("manifest/*.checkpoint")]
    return [json.loads(part.read_bytes().partition(b"\n")[0]) for part in parts]


def fields(value: Any, of: str = "") -> set[str]:
    """Name what a JSON value holds, wherever it is."""
    if isinstance(value, list):
        return {name for item in value for name in fields(item, of)}
    if not isinstance(value, dict):
        return set()
    return {name for key, item in value.items() for name in {f"{of}.{key}", *fields(item, f"{of}.{key}")}}


def test_a_manifest_has_nothing_that_the_format_it_names_has_not(tmp_path: Path) -> None:
    make_all(tmp_path / "store")

    written = manifests(tmp_path / "store")

    assert {part["format"] for part in written} == {6}
    assert fields(written) == fields(manifests(STORES / NEWEST))


def test_a_compressed_manifest_is_refused_by_its_number_where_it_is_not_known() -> None:
    assert {part["format"] for part in manifests(STORES / "format-5")} == {4, 5}
    assert all("zlib" in part for part in manifests(STORES / "format-5") if part["format"] == 5)
