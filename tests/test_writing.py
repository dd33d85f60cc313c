"""From what a user hands in to one write: which way it goes, that it is done once, and that it is all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import mitoframe as mito
from mitoframe import writing
from mitoframe.progress import in_notebook
from mitoframe.writing import Content, check_key, pieces

START = datetime(2024, 1, 1)
SCHEMA = {"host": pl.String, "ts": pl.Datetime("us"), "load": pl.Float64}


def frame(first: int, last: int, load: float = 0.0, host: str = "a") -> pl.DataFrame:
    times = [START + timedelta(minutes=n) for n in range(first, last)]
    data = {"host": [host] * len(times), "ts": times, "load": [load + n for n in range(first, last)]}
    return pl.DataFrame(data, schema=SCHEMA)


@pytest.fixture
def cpu() -> Iterator[mito.Table]:
    with mito.open("memory://", compaction_trigger_files=100, backfill_size_bytes=2_000) as database:
        yield database.create_table("cpu", SCHEMA, time="ts", tags=["host"])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PIECE_ROWS", 10)


def loads(table: mito.Table) -> list[float]:
    return sorted(table.scan().collect()["load"].to_list())


# --- which way --------------------------------------------------------------------------------------------------


def test_a_small_write_waits_in_memory_and_a_large_one_is_in_files_at_once(cpu: mito.Table) -> None:
    cpu.write(frame(0, 10))
    assert cpu.files().height == 0

    result = cpu.write(frame(10, 200))

    assert (result.rows, result.first_sequence) == (190, 11)
    assert cpu.files()["rows"].sum() == 190
    assert loads(cpu) == list(range(200))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("rows", [0, 9, 10, 11, 25])
@pytest.mark.parametrize("kind", ["frame", "lazy", "reader"])
def test_data_is_drawn_in_pieces_of_which_there_is_at_least_one(cpu: mito.Table, kind: str, rows: int) -> None:
    data: Any = frame(0, rows)
    if kind == "lazy":
        data = data.lazy()
    elif kind == "reader":
        table = data.to_arrow()
        data = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=7))

    drawn = list(pieces(data, ["ts", "host"], cpu._metadata))

    assert drawn
    assert all(len(batch) <= 10 for batch in drawn)
    assert [int(time) for batch in drawn for time in batch.times] == frame(0, rows)["ts"].to_physical().to_list()


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_a_write_that_is_small_in_all_are_one_write(cpu: mito.Table) -> None:
    result = cpu.write(pl.concat([frame(0, 12), frame(0, 12, load=100.0)]).lazy())

    assert (result.rows, result.first_sequence, cpu.files().height) == (24, 1, 0)
    assert loads(cpu) == list(range(100, 112))


@pytest.mark.usefixtures("small_pieces")
def test_of_two_rows_of_one_key_in_a_backfill_the_later_counts(cpu: mito.Table) -> None:
    cpu.write(pl.concat([frame(0, 100), frame(0, 100, load=1000.0)]))

    assert loads(cpu) == list(range(1000, 1100))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("rows", [15, 500], ids=["small", "backfill"])
def test_a_value_that_does_not_fit_is_named_by_its_row_and_nothing_is_written(cpu: mito.Table, rows: int) -> None:
    table = pl.concat([frame(0, rows), frame(rows, rows + 1).with_columns(ts=None)])
    before = cpu._version()

    with pytest.raises(mito.InvalidInputError, match=rf"row {rows}\b"):
        cpu.write(table)

    assert loads(cpu) == []
    assert cpu._version() is before


def test_a_stream_that_fails_half_way_writes_nothing(cpu: mito.Table) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for first in (0, 300):
            yield from frame(first, first + 300).to_arrow().to_batches()
        raise RuntimeError("mine")

    schema = frame(0, 1).to_arrow().schema

    with pytest.raises(RuntimeError, match="mine"):
        cpu.write(pa.RecordBatchReader.from_batches(schema, batches()))

    assert loads(cpu) == []
    assert cpu.files().height == 0


def test_a_backfill_can_be_taken_back(cpu: mito.Table) -> None:
    cpu.write(frame(0, 5, load=50.0))
    result = cpu.write(frame(0, 300))

    assert result.undo().rows == 300

    assert loads(cpu) == [50.0 + n for n in range(5)]


# --- once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [5, 300], ids=["small", "backfill"])
@pytest.mark.parametrize("again", [5, 300], ids=["small again", "backfill again"])
def test_a_write_with_a_key_that_was_before_does_nothing(cpu: mito.Table, rows: int, again: int) -> None:
    first = cpu.write(frame(0, rows), key="load")

    second = cpu.write(frame(0, again, load=1000.0), key="load")

    assert (second.repeated, second.rows, second.first_sequence) == (True, rows, first.first_sequence)
    assert loads(cpu) == list(range(rows))
    with pytest.raises(mito.InvalidInputError, match="nothing to take back"):
        second.undo()


def test_without_a_key_nothing_is_assumed_outside_of_notebooks(cpu: mito.Table) -> None:
    assert not in_notebook()
    assert not any(cpu.write(frame(0, rows)).repeated for rows in (5, 5, 300, 300))


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize("rows", [5, 300], ids=["small", "backfill"])
def test_in_a_notebook_equal_rows_are_written_once_and_that_is_said(cpu: mito.Table, rows: int) -> None:
    cpu.write(frame(0, rows))

    with pytest.warns(mito.RepeatedWriteWarning, match=r"had been written to 'cpu' before.*key=\"\""):
        again = cpu.write(frame(0, rows))

    assert again.repeated
    assert not cpu.write(frame(0, rows), key="").repeated
    assert loads(cpu) == list(range(rows))


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize("rows", [5, 300], ids=["small", "backfill"])
def test_in_a_notebook_rows_are_written_again_when_they_are_not_there_any_more(cpu: mito.Table, rows: int) -> None:
    cpu.write(frame(0, rows))
    cpu.write(frame(0, rows, load=1000.0))
    assert not cpu.write(frame(0, rows)).repeated
    cpu.delete(tags={"host": "a"})
    assert not cpu.write(frame(0, rows)).repeated
    cpu.truncate()
    result = cpu.write(frame(0, rows))
    assert not result.repeated
    result.undo()
    assert not cpu.write(frame(0, rows)).repeated

    assert loads(cpu) == list(range(rows))


@pytest.mark.usefixtures("notebook")
def test_rows_that_were_overwritten_without_a_key_are_written_again(cpu: mito.Table) -> None:
    cpu.write(frame(0, 5))
    cpu.write(frame(0, 5, load=1000.0), key="")

    assert not cpu.write(frame(0, 5)).repeated


@pytest.mark.usefixtures("notebook")
def test_a_key_that_was_given_comes_before_the_content(cpu: mito.Table) -> None:
    cpu.write(frame(0, 5), key="one")

    assert not cpu.write(frame(0, 5), key="two").repeated
    assert cpu.write(frame(5, 9), key="two").repeated


@pytest.mark.parametrize(
    ("key", "message"),
    [(5, "key is a int"), ("\0x", "cannot name a write"), ("content:x", "cannot name"), ("ä" * 128, "at most 255")],
)
def test_a_key_that_cannot_be_one_is_refused(cpu: mito.Table, key: Any, message: str) -> None:
    with pytest.raises(mito.InvalidInputError, match=message):
        cpu.write(frame(0, 5), key=key)

    assert loads(cpu) == []


def test_keys_of_full_length_and_none_are_fine() -> None:
    for key in (None, "", "ä" * 127, "x" * 255):
        check_key(key)


def test_content_is_told_apart_by_every_value_column_and_order(cpu: mito.Table) -> None:
    some = frame(0, 3)
    others = [
        some,
        some.with_columns(load=pl.col("load") + 1),
        some.with_columns(load=None),
        some.with_columns(host=pl.lit("b")),
        some.with_columns(host=None),
        some.with_columns(ts=pl.col("ts") + timedelta(microseconds=1)),
        some.reverse(),
        some.head(2),
        pl.concat([some, some]),
    ]

    keys = [key_of(cpu, each) for each in others]

    assert len(set(keys)) == len(others)
    assert keys == [key_of(cpu, each) for each in others]


def key_of(table: mito.Table, *frames: pl.DataFrame) -> str:
    content = Content(table._metadata)
    for each in frames:
        for batch in pieces(each, ["ts", "host"], table._metadata):
            content.include(batch)
    return content.key()


def test_the_same_values_in_other_memory_are_the_same_content(cpu: mito.Table) -> None:
    some = frame(0, 9)
    chunked = pl.concat([frame(-3, 0), some], rechunk=True).slice(3)

    assert key_of(cpu, some) == key_of(cpu, chunked) == key_of(cpu, some.to_pandas()) == key_of(cpu, some.to_arrow())
