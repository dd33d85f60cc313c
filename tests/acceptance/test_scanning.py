"""What scans find and in which parts: columns, statistics that prune, last rows of series, parts by series."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from acceptance.steps import files, flush, row, started, write_as
from builders import CPU, HOST, REGION, Row, metadata_of, read, rows_of

import mitoframe as mito
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import ThreadScheduler
from mitoframe.engine import reading
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import LANES
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, IsNull, Or, Predicate
from mitoframe.model.request import CompactRequest, ScanRequest
from mitoframe.read import shares, sources
from mitoframe.storage.paths import sst_key

WIDE = metadata_of(HOST, CPU | {"note": pa.string()})
START = datetime(1970, 1, 1)
MILLISECOND = timedelta(milliseconds=1)


# --- columns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [("note", "ts"), ("cpu",), ("ts", "host"), ("host", "ts", "cpu", "note")], ids=str)
@pytest.mark.parametrize("where", ["in memory", "in a file", "in both", "in files that overlap"])
def test_only_the_columns_asked_for_come_and_in_that_order(where, columns):
    engine = started(metadata=WIDE)
    for number, cpu in enumerate([1, 2]):
        write_as(WIDE, engine, row(number, cpu, f"note {cpu}"), row(5, cpu, None, host=None))
        if where == "in files that overlap" or (where == "in both" and number == 0):
            flush(engine)
    if where == "in a file":
        flush(engine)

    batches = list(engine.handle_query(REGION, ScanRequest(columns=columns)))

    assert {tuple(batch.schema.names) for batch in batches} == {columns}
    whole = [
        {"host": None, "ts": START + 5 * MILLISECOND, "cpu": 2, "note": None},
        {"host": "a", "ts": START, "cpu": 1, "note": "note 1"},
        {"host": "a", "ts": START + MILLISECOND, "cpu": 2, "note": "note 2"},
    ]
    found = [found for batch in batches for found in batch.to_pylist()]
    assert found == [{name: values[name] for name in columns} for values in whole]


# --- statistics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_compacted", [False, True], ids=["flushed", "compacted"])
def test_the_statistics_of_every_row_group_are_its_least_and_greatest_value_to_the_last_letter(is_compacted):
    store = MemoryObjectStore()
    engine = started(store, metadata=WIDE, row_group_rows=4)
    long = ["x" * 128 + letter for letter in "abcde"] + ["ü" * 1_000 + letter for letter in "fg"] + [None]
    for offset in (0, 3):
        for time, note in enumerate(long):
            write_as(WIDE, engine, row(time + offset, time * 7 % 5, note, host=long[time % 7]))
        flush(engine)
    if is_compacted:
        engine.handle_request(REGION, CompactRequest())

    for file in files(engine):
        parquet = pq.ParquetFile(pa.BufferReader(store.get(sst_key(REGION, file.file_id))))
        assert parquet.num_row_groups > 1
        for number in range(parquet.num_row_groups):
            for place, name in enumerate(parquet.schema_arrow.names):
                values = parquet.read_row_group(number, columns=[name]).column(name).to_pylist()
                known = [value for value in values if value is not None]
                statistics = parquet.metadata.row_group(number).column(place).statistics
                assert (statistics.min, statistics.max) == (min(known, default=None), max(known, default=None)), name
                assert statistics.null_count == len(values) - len(known), name
    for note in long[:-1]:
        assert {note} == {found for (found,) in read(engine, columns=("note",), predicate=Compare("note", "==", note))}


# --- what is kept of one question and asked for by another ----------------------------------------------


@pytest.mark.parametrize("few_rows", [0, 1_000], ids=["many", "few"])
def test_conditions_that_choose_other_times_never_get_each_others_rows(monkeypatch, few_rows):
    monkeypatch.setattr(shares, "FEW_ROWS", few_rows)
    monkeypatch.setattr(sources, "SERIES_KEPT_MIN", 0)
    engine = started(metadata=WIDE, row_group_rows=2)
    write_as(WIDE, engine, *(row(time, time, None) for time in range(8)))
    flush(engine)
    write_as(WIDE, engine, *(row(time, time, "newer") for time in range(6, 12)))
    pairs = [(1, 2), (3, 4), (1, 4), (5, 7), (6, 11), (2, 9)]

    for left, right in pairs * 2:
        for condition in (
            Or((Compare("ts", "==", left), Compare("ts", "==", right))),
            Or((Compare("ts", "<=", left), Compare("ts", ">=", right))),
            IsIn("ts", (left, right)),
        ):
            wanted = [time for time in range(12) if holds(condition, time)]
            assert read(engine, columns=("cpu",), predicate=condition) == [(time,) for time in wanted]


def holds(condition: Predicate, time: int) -> bool:
    match condition:
        case Or(parts=parts):
            return any(holds(part, time) for part in parts)
        case IsIn(values=values):
            return time in values
        case Compare(operator=operator, value=value):
            return {"==": time == value, "<=": time <= value, ">=": time >= value}[operator]
    raise AssertionError(condition)


# --- the last rows --------------------------------------------------------------------------------------


def frame(*rows: tuple[str, int, int]) -> pl.DataFrame:
    data = [(host, START + timedelta(minutes=minute), cpu) for host, minute, cpu in rows]
    return pl.DataFrame(data, schema={"host": pl.String, "ts": pl.Datetime("ms"), "cpu": pl.Int64}, orient="row")


def filled(db: mito.Database, dedup: str) -> mito.Table:
    """Write four series whose last rows lie in different places."""
    table = db.create_table("cpu", frame().schema, time="ts", tags=["host"], options={"dedup": dedup})
    table.write(frame(("a", 1, 0), ("a", 9, 1), ("b", 1, 1), ("c", 1, 1), ("d", 5, 1)))
    table.flush()
    table.write(frame(("a", 2, 2), ("b", 7, 2), ("d", 5, 2)))
    table.flush()
    table.write(frame(("c", 3, 3), ("b", 2, 3)))
    return table


@pytest.fixture
def db() -> Iterator[mito.Database]:
    with mito.open("memory://", compaction_trigger_files=100) as db:
        yield db


LAST = frame(("a", 9, 1), ("b", 7, 2), ("c", 3, 3), ("d", 5, 2))


@pytest.mark.parametrize("dedup", ["last", "merge", "none"])
def test_the_last_row_of_each_series_is_found_wherever_it_lies(db, dedup):
    table = filled(db, dedup)

    for change in (lambda: None, table.flush, table.compact):
        change()
        for _ in ("read", "kept"):
            assert table.scan().last().equals(LAST)


def test_a_last_row_that_is_deleted_uncovers_the_one_before_it(db):
    table = filled(db, "last")
    assert table.scan().last().equals(LAST)

    table.delete(tags={"host": ["a", "b"]}, start="1970-01-01T00:07")

    for change in (lambda: None, table.flush, table.compact):
        change()
        assert table.scan().last().equals(frame(("a", 2, 2), ("b", 2, 3), ("c", 3, 3), ("d", 5, 2)))


SOME = {
    "a series": (pl.col("host") == "b", frame(("b", 7, 2))),
    "a value": (pl.col("cpu") < 2, frame(("a", 9, 1), ("b", 1, 1), ("c", 1, 1))),
    "another value": (pl.col("cpu") == 2, frame(("a", 2, 2), ("b", 7, 2), ("d", 5, 2))),
    "times": (
        (pl.col("ts") == START + timedelta(minutes=1)) | (pl.col("ts") == START + timedelta(minutes=3)),
        frame(("a", 1, 0), ("b", 1, 1), ("c", 3, 3)),
    ),
    "other times": (
        (pl.col("ts") == START + timedelta(minutes=2)) | (pl.col("ts") == START + timedelta(minutes=5)),
        frame(("a", 2, 2), ("b", 2, 3), ("d", 5, 2)),
    ),
    "all": (None, LAST),
}


@pytest.mark.parametrize("order", [list(SOME), list(reversed(SOME))], ids=["all at last", "all at first"])
def test_what_is_kept_of_the_last_rows_of_some_is_never_taken_for_those_of_all(db, order):
    table = filled(db, "last")

    for _ in ("read", "kept"):
        for name in order:
            where, expected = SOME[name]
            assert table.scan(where=where).last().equals(expected), name


# --- parts by series ------------------------------------------------------------------------------------

HOSTS = [f"h{number}" for number in range(8)]


def scattered(engine: MitoEngine) -> dict[tuple[str, int], tuple[int, str | None]]:
    """Write a file that stands alone, two that overlap, and rows in memory; return what there is."""
    there: dict[tuple[str, int], tuple[int, str | None]] = {}
    for cpu, times in [(0, range(1000, 1005)), (1, range(6)), (2, range(3, 9)), (3, range(8, 11))]:
        rows = [row(time, cpu, f"{host} {time}", host=host) for time in times for host in HOSTS]
        write_as(WIDE, engine, *rows)
        there |= {(host, time): (cpu, f"{host} {time}") for time in times for host in HOSTS}
        if cpu < 3:
            flush(engine)
    return there


def parts(engine: MitoEngine, **request: Any) -> list[list[Row]]:
    """Return the rows of each part that a scan comes in."""
    plan = engine.plan(REGION, ScanRequest(**request))
    return [rows_of(batch) for batch in engine.reading.sorted_batches(plan, ("cpu", "note"))]


def test_dealt_by_series_a_part_has_all_rows_of_its_series_in_order(monkeypatch):
    monkeypatch.setattr(shares, "SHARE_ROWS", 50)
    engine = started(metadata=WIDE, row_group_rows=4, compaction_trigger_files=100)
    there = scattered(engine)

    by_series, as_they_lie = parts(engine, distribution="series"), parts(engine)

    assert 1 < len(by_series) < len(HOSTS)
    keys = [(found.tags[0], found.time) for part in by_series for found in part]
    assert keys == sorted(there), "parts follow one another in the order of series"
    for left, right in pairwise(by_series):
        assert {found.tags for found in left}.isdisjoint(found.tags for found in right)
    assert sum(("h0",) in {found.tags for found in part} for part in as_they_lie) > 1, "else there is nothing to deal"


@pytest.mark.parametrize(
    "predicate",
    [
        ALWAYS,
        Compare("host", ">=", "h5"),
        Compare("cpu", "==", 1),
        Compare("note", "==", "h2 4"),
        And((Compare("ts", ">", 2), Compare("ts", "<", 1002), Compare("cpu", "<", 3))),
        Or((Compare("host", "==", "h1"), Compare("ts", "==", 8))),
        IsNull("note"),
    ],
    ids=repr,
)
def test_the_same_rows_are_found_however_they_are_dealt(monkeypatch, predicate):
    monkeypatch.setattr(shares, "SHARE_ROWS", 30)
    engine = started(metadata=WIDE, row_group_rows=4, compaction_trigger_files=100)
    there = scattered(engine)

    found = [
        sorted((found.tags[0], found.time, *found.fields) for part in dealt for found in part)
        for dealt in (parts(engine, predicate=predicate, distribution=how) for how in ("any", "series"))
    ]

    expected = sorted((*key, *fields) for key, fields in there.items() if matches(predicate, key, fields))
    assert found == [expected, expected]


def matches(predicate: Predicate, key: tuple[str, int], fields: tuple[int, str | None]) -> bool:
    values = dict(zip(("host", "ts", "cpu", "note"), (*key, *fields), strict=True))
    match predicate:
        case And(parts=parts):
            return all(matches(part, key, fields) for part in parts)
        case Or(parts=parts):
            return any(matches(part, key, fields) for part in parts)
        case IsNull(column=name):
            return values[name] is None
        case Compare(column=name, operator=operator, value=value):
            found: Any = values[name]
            return {"==": found == value, ">=": found >= value, ">": found > value, "<": found < value}[operator]
    return True


@pytest.mark.parametrize("distribution", ["any", "series"])
def test_scans_of_many_parts_on_one_thread_all_come_to_an_end(monkeypatch, distribution):
    monkeypatch.setattr(shares, "SHARE_ROWS", 4)
    with closing(
        started(
            metadata=WIDE,
            row_group_rows=4,
            compaction_trigger_files=100,
            scheduler=ThreadScheduler(dict.fromkeys(LANES, 1)),
        )
    ) as engine:
        there = scattered(engine)
        request = ScanRequest(distribution=distribution)
        scans = [
            engine.reading.sorted_batches(engine.plan(REGION, request), ("cpu",)) for _ in range(3 * reading._AHEAD)
        ]

        counts = [0] * len(scans)
        drawing = dict(enumerate(scans))
        while drawing:
            for number, scan in list(drawing.items()):
                batch = next(scan, None)
                if batch is None:
                    del drawing[number]
                else:
                    counts[number] += len(batch)

    assert counts == [len(there)] * len(scans)
