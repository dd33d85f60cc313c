"""Damage and loss under a query: a typed error that names the file, or the rows as they were, never other rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.file import FileMeta
from mitoframe.read import shares
from mitoframe.storage.paths import sst_key

START = datetime(2024, 1, 1)
WAYS = ["in memory", "as it is", "merged"]


def rows(first: int, last: int, load: float = 0.0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "host": [("a", "b", "ab")[minute % 3] for minute in range(first, last)],
            "ts": [START + timedelta(minutes=minute) for minute in range(first, last)],
            "load": [None if minute == 2 else load + minute for minute in range(first, last)],
            "note": [("x", "yy", None)[minute % 3] for minute in range(first, last)],
        }
    )


class Store:
    """A table in one file of two row groups, and for ``merged`` a row in memory that overwrites one of it."""

    def __init__(self, way: str, url: str = "memory://") -> None:
        self.db = mito.open(url, row_group_rows=3)
        self.db.write(rows(0, 6), "cpu", time="ts", tags=["host"])
        self.table = self.db["cpu"]
        self.table.flush()
        [self.file] = self.files
        self.key = sst_key(self.table.region_id, self.file.file_id)
        self.data = self.engine.store.get(self.key)
        if way == "merged":
            self.table.write(rows(1, 2, load=100.0))

    @property
    def engine(self) -> MitoEngine:
        return self.db._shared.connection.engine

    @property
    def files(self) -> list[FileMeta]:
        return list(self.engine.region(self.table.region_id).state.files.values())

    def exchange(self, data: bytes | None) -> None:
        """Put other bytes where the file's are, none at all if None, and forget what is known of it."""
        self.lose()
        if data is not None:
            self.engine.store.put_if_absent(self.key, data)
        self.engine.reader.forget(self.file.file_id)

    def lose(self) -> None:
        self.engine.store.delete(self.key)

    def flipped(self, bit: int) -> bytes:
        place = bit // 8
        return self.data[:place] + bytes([self.data[place] ^ 1 << bit % 8]) + self.data[place + 1 :]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "in memory":
        monkeypatch.setattr(shares, "FEW_ROWS", 0)
    return str(request.param)


@pytest.fixture
def store(way: str) -> Iterator[Store]:
    store = Store(way)
    yield store
    store.db.close()


def collected(store: Store) -> pl.DataFrame:
    return store.db.scan("cpu").collect().sort("host", "ts")


def test_the_three_ways_of_reading_find_the_same_rows(store: Store, way: str) -> None:
    expected = rows(0, 6)
    if way == "merged":
        expected = pl.concat([expected.filter(pl.col("ts") != START + timedelta(minutes=1)), rows(1, 2, load=100.0)])

    assert collected(store).equals(expected.sort("host", "ts"))


def test_whatever_bit_is_flipped_before_the_file_is_opened_is_corruption(store: Store) -> None:
    # One bit of every other byte, another one from byte to byte.
    for bit in range(0, len(store.data) * 8, 17):
        store.exchange(store.flipped(bit))

        with pytest.raises(mito.CorruptionError, match="the file's bytes are not those that were written") as caught:
            collected(store)
        assert caught.value.path == store.key


def test_a_file_of_another_length_is_corruption(store: Store) -> None:
    for data in (b"", store.data[:-1], store.data + b"\0", store.data[: len(store.data) // 2]):
        store.exchange(data)

        with pytest.raises(mito.CorruptionError, match="the file has another size"):
            collected(store)


def test_a_file_that_is_put_back_is_read_again(store: Store) -> None:
    expected = collected(store)
    store.exchange(store.flipped(900))
    with pytest.raises(mito.CorruptionError):
        collected(store)

    store.exchange(store.data)

    assert collected(store).equals(expected)


def test_damage_in_a_page_is_found_even_in_bytes_that_were_compared() -> None:
    """What was right when it was read first may be damaged later: each page we decode has a checksum of its own."""
    store = Store("in memory")
    expected = collected(store)
    found = 0
    footer_bytes = int.from_bytes(store.data[-8:-4], "little")

    for bit in range(0, (len(store.data) - 8 - footer_bytes) * 8, 13):
        store.exchange(store.flipped(bit))
        store.engine.reader._bytes._compared[store.file.file_id] = bytearray([1])
        try:
            assert collected(store).equals(expected)
        except mito.CorruptionError:
            found += 1

    store.db.close()
    assert found > 100


Lazy = Callable[[pl.LazyFrame], pl.LazyFrame]
QUERIES: dict[str, Lazy] = {
    "everything": lambda lf: lf,
    "one series": lambda lf: lf.filter(pl.col("host") == "a"),
    "length": lambda lf: lf.select(pl.len()),
    "group": lambda lf: lf.group_by("host").agg(pl.col("load").sum()),
    "self join": lambda lf: lf.join(lf, on=["host", "ts"]),
}


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("name", QUERIES)
def test_a_file_that_is_lost_before_a_query_runs_is_corruption(store: Store, name: str, engine: Any) -> None:
    query = QUERIES[name](store.db.scan("cpu").to_polars())
    store.exchange(None)

    with pytest.raises(mito.CorruptionError, match="missing") as caught:
        query.collect(engine=engine)
    assert caught.value.path == store.key


@pytest.mark.parametrize("name", QUERIES)
def test_a_file_that_is_lost_after_it_was_read_is_missed_or_not_needed(store: Store, name: str) -> None:
    query = QUERIES[name](store.db.scan("cpu").to_polars())
    expected = query.collect()

    store.lose()

    try:
        found = query.collect()
    except (mito.CorruptionError, FileNotFoundError):
        return
    assert found.sort(found.columns).equals(expected.sort(expected.columns))


@pytest.mark.parametrize("way", WAYS[1:], indirect=True)
def test_a_file_that_is_lost_between_planning_and_reading_is_an_error_or_its_rows(way: str, tmp_path: Path) -> None:
    store = Store(way, str(tmp_path / "store"))
    expected = collected(store)
    batches = store.db.scan("cpu").to_polars().collect_batches(chunk_size=1, lazy=True)

    store.exchange(None)

    try:
        found = pl.concat(list(batches)).sort("host", "ts")
    except (mito.CorruptionError, pl.exceptions.PolarsError, FileNotFoundError) as error:
        said = str(error)
    else:
        said = store.file.file_id if found.equals(expected) else "other rows"
    store.db.close()
    assert store.file.file_id in said


def test_a_query_under_way_keeps_its_files_whatever_is_merged_and_removed_meanwhile(store: Store) -> None:
    lazy = store.db.scan("cpu").to_polars()
    expected = collected(store)
    batches = lazy.collect_batches(chunk_size=1, lazy=True)
    first = next(iter(batches))

    store.table.write(rows(3, 9, load=50.0))
    store.table.flush()
    store.table.compact()
    store.table.vacuum(older_than="0s")

    found = pl.concat([first, *batches]).sort("host", "ts")
    assert found.equals(expected)
    assert store.db.scan("cpu").count() == 9


def test_an_answer_that_is_drawn_bit_by_bit_keeps_its_files_whatever_is_asked_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "FEW_ROWS", 0)
    with mito.open(tmp_path, gc_grace_ms=0) as database:
        for hour in range(20):
            times = [datetime(2024, 1, 1, hour, minute) for minute in range(50)]
            database.write(pl.DataFrame({"ts": times, "x": range(50)}), "t", time="ts")
            database["t"].flush()
        table = database["t"]
        lazy = database.scan("t").to_polars()
        drawn = iter(lazy.collect_batches(chunk_size=10, engine="streaming"))
        first = next(drawn)

        table.truncate()
        assert not len(lazy.collect())
        table.vacuum(older_than="0s")

        assert len(first) + sum(map(len, drawn)) == 1000
