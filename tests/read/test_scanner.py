from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, create, delete, metadata_of, newest, open_engine, put, read
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.engine.engine import MitoEngine
from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, IsNull, Not, Or, Predicate
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import TIME_MAX, TimeRange
from mitoframe.read.scanner import BATCH_ROWS, count_row_groups, run_plan

METADATA = metadata_of({"host": pa.string(), "rack": pa.int64()}, {"cpu": pa.int64(), "note": pa.string()})
EPOCH, MILLISECOND = datetime(1970, 1, 1), timedelta(milliseconds=1)
NAMES = [*METADATA.names, "__sequence", "__op_type"]

# --- brute force ----------------------------------------------------------------------------------------


def value_of(row: Row, name: str) -> Any:
    if name == "ts":
        return row.time
    if name == "__sequence":
        return row.sequence
    if name == "__op_type":
        return int(row.op_type)
    return row.tags[("host", "rack").index(name)] if name in ("host", "rack") else row.fields[name == "note"]


def holds(predicate: Predicate, row: Row) -> bool | None:
    match predicate:
        case Compare(column=name, operator=operator, value=value):
            found = value_of(row, name)
            if found is None:
                return None
            return {"==": found == value, "<": found < value, ">=": found >= value, "!=": found != value}[operator]
        case IsIn(column=name, values=values):
            found = value_of(row, name)
            return None if found is None else found in values
        case IsNull(column=name):
            return value_of(row, name) is None
        case Not(part=part):
            found = holds(part, row)
            return None if found is None else not found
        case And(parts=parts):
            found = [holds(part, row) for part in parts]
            return False if False in found else None if None in found else True
        case Or(parts=parts):
            found = [holds(part, row) for part in parts]
            return True if True in found else None if None in found else False
    raise AssertionError(predicate)


@dataclass
class Region:
    """An engine, and what is in each of its files and in its memtable, as lists of rows."""

    engine: MitoEngine
    files: dict[str, list[Row]]
    buffer: list[Row]
    last: int = 0

    def write(self, rows: list[Row]) -> None:
        numbered = [replace(row, sequence=self.last + n) for n, row in enumerate(rows, start=1)]
        assert self.engine.write(REGION, batch_of(METADATA, rows)).first_sequence == self.last + 1
        self.buffer += numbered
        self.last += len(rows)

    def flush(self) -> None:
        for file in self.engine.flush(REGION).files:
            self.files[file.file_id] = newest(self.buffer)
        self.buffer = []

    def compact(self) -> None:
        before = dict(self.files)
        self.engine.compact(REGION)
        listed = self.engine.region(REGION).control.current().version.state.files
        merged = [row for file_id in set(before) - set(listed) for row in before[file_id]]
        self.files = {file_id: rows for file_id, rows in before.items() if file_id in listed}
        for file_id in set(listed) - set(before):
            # Which of the merged rows went where does not matter to a scan.
            self.files[file_id], merged = newest(merged), []

    def expected(self, request: ScanRequest) -> list[tuple[Any, ...]]:
        rows = [*self.buffer, *(row for rows in self.files.values() for row in rows)]
        seen = [row for row in rows if request.sequence is None or row.sequence <= request.sequence]
        wanted = request.time_range
        kept = [
            tuple(value_of(row, name) for name in request.columns or METADATA.names)
            for row in newest(seen, drop_deletes=True)
            if wanted.start <= row.time and (row.time < wanted.end or wanted.end == TIME_MAX)
            if holds(request.predicate, row)
        ]
        return sorted(kept, key=in_order)

    def found(self, request: ScanRequest) -> list[tuple[Any, ...]]:
        rows = []
        for batch in run_plan(self.engine.plan(REGION, request), self.engine.reader):
            assert batch.schema.names == list(request.columns or METADATA.names)
            columns = [
                [(ts - EPOCH) // MILLISECOND for ts in column.to_pylist()] if name == "ts" else column.to_pylist()
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            rows += list(zip(*columns, strict=True))
        return sorted(rows, key=in_order)


def in_order(row: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    return [(value is not None, value) for value in row]


def new_region(row_group_rows: int = 3) -> Region:
    engine = open_engine(row_group_rows=row_group_rows)
    create(engine, METADATA)
    return Region(engine, {}, [])


# --- drawing --------------------------------------------------------------------------------------------

HOSTS, RACKS, NOTES = [None, "", "a", "b"], [None, 0, 1], [None, "", "x", "yy"]
HOUR_MS = 3_600_000
times = st.integers(-3, 6) | st.integers(0, 3).map(lambda n: n + 5 * HOUR_MS)
keys = st.tuples(times, st.tuples(st.sampled_from(HOSTS), st.sampled_from(RACKS)))
puts = st.builds(
    lambda key, cpu, note: Row(0, *key, (cpu, note)), keys, st.none() | st.integers(0, 5), st.sampled_from(NOTES)
)
deletes = st.builds(lambda key: Row(0, *key, (None, None), delete(0, 0).op_type), keys)
steps = st.lists(
    st.lists(puts, min_size=1, max_size=6)
    | st.lists(deletes, min_size=1, max_size=3)
    | st.sampled_from(["flush", "flush", "compact"]),
    max_size=14,
)

operators = st.sampled_from(["==", "<", ">=", "!="])
leaves = (
    st.builds(Compare, st.just("ts"), operators, times)
    | st.builds(Compare, st.just("host"), operators, st.sampled_from(["", "a", "zz"]))
    | st.builds(Compare, st.just("rack"), operators, st.integers(-1, 2))
    | st.builds(Compare, st.just("cpu"), operators, st.integers(-1, 6))
    | st.builds(Compare, st.just("note"), operators, st.sampled_from(["", "x"]))
    | st.builds(IsIn, st.just("host"), st.lists(st.sampled_from(["", "a", "zz"]), max_size=2).map(tuple))
    | st.builds(IsIn, st.just("ts"), st.lists(times, max_size=2).map(tuple))
    | st.builds(IsNull, st.sampled_from(["host", "rack", "cpu", "note"]))
)
predicates = st.recursive(
    leaves,
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(lambda some: And(tuple(some)))
        | st.lists(parts, min_size=1, max_size=2).map(lambda some: Or(tuple(some)))
        | parts.map(Not)
    ),
    max_leaves=4,
)
requests = st.builds(
    ScanRequest,
    columns=st.none() | st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(tuple),
    predicate=predicates | st.just(ALWAYS),
    time_range=st.just(TimeRange()) | st.builds(TimeRange, times, times),
    sequence=st.none() | st.integers(0, 40).map(Sequence),
)


@settings(deadline=None, max_examples=120)
@given(steps, st.lists(requests, min_size=1, max_size=4), st.integers(1, 4))
def test_a_scan_finds_what_brute_force_finds(actions, wanted, row_group_rows):
    region = new_region(row_group_rows)
    for action in actions:
        if isinstance(action, list):
            region.write(action)
        else:
            getattr(region, action)()

    for request in wanted:
        assert region.found(request) == region.expected(request)


# --- one by one -----------------------------------------------------------------------------------------


@pytest.fixture
def engine() -> MitoEngine:
    engine = open_engine(row_group_rows=2)
    create(engine, metadata_of())
    return engine


def write(engine: MitoEngine, *rows: Row) -> None:
    engine.write(REGION, batch_of(metadata_of(), list(rows)))


@pytest.mark.parametrize("flushes", [(), (1,), (2,), (1, 2)], ids=str)
def test_a_field_predicate_never_resurrects_an_overwritten_row(engine, flushes):
    for number, cpu in [(1, 99), (2, 5)]:
        write(engine, put(0, 1, cpu=cpu), put(0, 2, cpu=cpu))
        if number in flushes:
            engine.flush(REGION)

    assert read(engine, predicate=Compare("cpu", ">", 90)) == []
    assert read(engine, predicate=Compare("cpu", "==", 5), columns=("cpu",)) == [(5,), (5,)]


@pytest.mark.parametrize("flushes", [(), (1,), (2,), (1, 2)], ids=str)
def test_no_predicate_brings_a_deleted_row_back(engine, flushes):
    for number, row in [(1, put(0, 1, cpu=99)), (2, delete(0, 1))]:
        write(engine, row)
        if number in flushes:
            engine.flush(REGION)

    for predicate in (ALWAYS, Compare("cpu", "==", 99), IsNull("cpu"), Compare("host", "==", "a")):
        assert read(engine, predicate=predicate) == []


def test_a_null_that_overwrites_a_value_is_what_is_found(engine):
    write(engine, put(0, 1, cpu=5))
    engine.flush(REGION)
    write(engine, put(0, 1, cpu=None))

    assert read(engine, columns=("cpu",)) == [(None,)]
    assert read(engine, predicate=Compare("cpu", "==", 5)) == []


def test_no_columns_are_still_rows(engine):
    write(engine, put(0, 1), put(0, 2))
    engine.flush(REGION)
    write(engine, put(0, 2), put(0, 3))

    batches = list(engine.handle_query(REGION, ScanRequest(columns=())))

    assert sum(batch.num_rows for batch in batches) == 3
    assert all(batch.num_columns == 0 for batch in batches)


def test_columns_come_in_the_order_asked_for_with_the_internal_ones(engine):
    write(engine, put(0, 1, "x", 5))

    [batch] = engine.handle_query(REGION, ScanRequest(columns=("__op_type", "cpu", "__sequence", "host")))

    assert batch.to_pylist() == [{"__op_type": 1, "cpu": 5, "__sequence": 1, "host": "x"}]


def test_all_columns_are_those_users_see(engine):
    write(engine, put(0, 1, "x", 5))

    [batch] = engine.handle_query(REGION, ScanRequest())

    assert batch.schema.names == ["host", "ts", "cpu"]
    assert batch.schema.types == metadata_of().arrow_schema().types


def test_an_older_sequence_shows_an_older_state(engine):
    write(engine, put(0, 1, cpu=1))
    write(engine, put(0, 1, cpu=2))
    write(engine, delete(0, 1))

    shown = [read(engine, sequence=Sequence(n), columns=("cpu",)) for n in range(4)]

    assert shown == [[], [(1,)], [(2,)], []]


def test_a_scan_reads_what_was_there_when_it_was_planned(engine):
    write(engine, put(0, 1, cpu=1))
    plan = engine.plan(REGION, ScanRequest(columns=("cpu",)))

    write(engine, put(0, 1, cpu=2))
    engine.flush(REGION)
    engine.compact(REGION)
    engine.vacuum(REGION, grace_ms=0)

    assert [row for batch in run_plan(plan, engine.reader) for row in batch.to_pylist()] == [{"cpu": 1}]


def test_a_scan_keeps_its_files_until_it_is_let_go(engine):
    for cpu in (1, 2):
        write(engine, put(0, 1, cpu=cpu), put(0, 2, cpu=cpu))
        engine.flush(REGION)
    plan = engine.plan(REGION, ScanRequest(columns=("cpu",)))

    engine.compact(REGION)
    assert engine.vacuum(REGION, grace_ms=0).removed == ()
    assert [row for batch in run_plan(plan, engine.reader) for row in batch.to_pylist()] == [{"cpu": 2}] * 2

    del plan
    assert len(engine.vacuum(REGION, grace_ms=0).removed) == 2


def test_many_rows_come_in_batches_of_a_bounded_length(engine):
    count = BATCH_ROWS + 10
    metadata = metadata_of({}, {})
    engine = open_engine()
    create(engine, metadata)
    engine.write(REGION, batch_of(metadata, [Row(0, n, (), ()) for n in range(count)]))

    lengths = [batch.num_rows for batch in engine.handle_query(REGION, ScanRequest())]

    assert lengths == [BATCH_ROWS, 10]


def test_row_groups_that_are_read_are_counted_without_reading_rows(engine):
    write(engine, *(put(0, time, f"h{time}") for time in range(6)))
    engine.flush(REGION)
    write(engine, *(put(0, time, f"h{time}") for time in range(5, 8)))
    engine.flush(REGION)
    write(engine, put(0, 1000, "far"))
    engine.flush(REGION)

    everything = engine.plan(REGION, ScanRequest())
    one_host = engine.plan(REGION, ScanRequest(predicate=Compare("host", "==", "h0")))

    assert count_row_groups(everything, engine.reader) == (6, 6)
    assert count_row_groups(one_host, engine.reader) == (1, 6)
