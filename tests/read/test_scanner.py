from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from builders import PUT, REGION, Row, batch_of, create, delete, metadata_of, open_engine, put, read, rows_of
from hypothesis import event, given, settings
from hypothesis import strategies as st
from truth import seen

from mitoframe.engine.engine import MitoEngine
from mitoframe.model.batch import Batch
from mitoframe.model.ids import Sequence
from mitoframe.model.options import Dedup
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, IsNull, Not, Or, Predicate
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import TIME_MAX, TimeRange
from mitoframe.read import shares
from mitoframe.read.receipt import report_on
from mitoframe.read.scanner import BATCH_ROWS, few_jobs, jobs, run_plan
from mitoframe.read.sources import RECENT_MAX

METADATA = metadata_of({"host": pa.string(), "rack": pa.int64()}, {"cpu": pa.int64(), "note": pa.string()})
HOUR_MS = 3_600_000
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
    """An engine, and all rows that were ever written to it."""

    engine: MitoEngine
    dedup: Dedup
    rows: list[Row] = field(default_factory=list)

    def write(self, rows: list[Row]) -> None:
        """Write rows; markers not where none hides anything."""
        kept = [row for row in rows if self.dedup != "none" or row.op_type is PUT]
        if kept:
            first = self.engine.write(REGION, batch_of(METADATA, kept)).first_sequence
            self.rows += [replace(row, sequence=first + n) for n, row in enumerate(kept)]

    def flush(self) -> None:
        self.engine.flush(REGION)

    def compact(self) -> None:
        self.engine.compact(REGION)

    def seen(self, request: ScanRequest) -> list[Row]:
        """Return what there was at the request's moment, whatever it asks for."""
        there = [row for row in self.rows if request.sequence is None or row.sequence <= request.sequence]
        return seen(there, self.dedup)

    def expected_rows(self, request: ScanRequest) -> list[Row]:
        wanted = request.time_range
        return [
            row
            for row in self.seen(request)
            if wanted.start <= row.time and (row.time < wanted.end or wanted.end == TIME_MAX)
            if holds(request.predicate, row)
        ]

    def expected(self, request: ScanRequest) -> list[tuple[Any, ...]]:
        names = request.columns if request.columns is not None else METADATA.names
        kept = [tuple(value_of(row, name) for name in names) for row in self.expected_rows(request)]
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


def new_region(dedup: Dedup = "last", **config: Any) -> Region:
    engine = open_engine(**{"row_group_rows": 3, "compaction_trigger_files": 100} | config)
    create(engine, METADATA, dedup=dedup, compaction_window_ms=HOUR_MS)
    return Region(engine, dedup)


def carry_out(region: Region, actions: list[list[Row] | str]) -> None:
    for action in actions:
        if isinstance(action, list):
            region.write(action)
        else:
            getattr(region, action)()


# --- drawing --------------------------------------------------------------------------------------------

HOSTS, RACKS, NOTES = [None, "", "a", "b"], [None, 0, 1], [None, "", "x", "yy"]
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


modes: st.SearchStrategy[Dedup] = st.sampled_from(["last", "merge", "none"])


@settings(deadline=None, max_examples=70)
@given(modes, steps, st.lists(requests, min_size=1, max_size=4), st.integers(1, 4))
def test_a_scan_finds_what_brute_force_finds(dedup, actions, wanted, row_group_rows):
    region = new_region(dedup, row_group_rows=row_group_rows)

    carry_out(region, actions)

    for request in wanted:
        assert region.found(request) == region.expected(request)


# --- shares ---------------------------------------------------------------------------------------------


@contextmanager
def limits(*, share_rows: int, few_rows: int = 0) -> Iterator[None]:
    """Cut shares as if so few rows were many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "SHARE_ROWS", share_rows)
        patch.setattr(shares, "FEW_ROWS", few_rows)
        yield


# One host has most rows, so that there is something to cut by time.
long_keys = st.tuples(st.integers(0, 40), st.tuples(st.sampled_from(["a", "a", "a", "b"]), st.just(0)))
long_puts = st.builds(
    lambda key, cpu, note: Row(0, *key, (cpu, note)), long_keys, st.none() | st.integers(0, 5), st.sampled_from(NOTES)
)
long_steps = st.lists(
    st.lists(long_puts, min_size=8, max_size=30) | st.lists(deletes, min_size=1, max_size=3) | st.just("flush"),
    min_size=2,
    max_size=8,
)


def order_of(row: Row) -> tuple[Any, ...]:
    return (*row.key, -row.sequence)


def check_sorted(rows: list[Row], dedup: Dedup) -> None:
    order = [order_of(row) if dedup == "none" else row.key for row in rows]
    assert order == sorted(order)
    assert dedup == "none" or len(set(order)) == len(order)


@pytest.mark.parametrize(("overlap", "held_max"), [(False, 0), (True, RECENT_MAX)], ids=["alone", "merged"])
def test_what_a_scan_holds_of_a_file_does_not_grow_with_the_file_nor_with_their_number(overlap, held_max):
    engine = open_engine(row_group_rows=2, cache_size_bytes=0, compaction_trigger_files=1000)
    create(engine, METADATA)
    for number in range(6):
        start = 0 if overlap else 100 * number
        engine.write(REGION, batch_of(METADATA, [Row(0, start + n, ("a", 0), (n, None)) for n in range(40)]))
        engine.flush(REGION)

    with limits(share_rows=8):
        found = list(shares.divide(engine.plan(REGION, ScanRequest()), engine.reader, ["cpu"]))
        assert len(found) > 6
        for share in found:
            share.read()

    held = {id(part.source): len(part.source.recent or ()) for share in found for part in share.parts}
    assert max(held.values()) == held_max


@settings(deadline=None, max_examples=80)
@given(
    modes,
    steps | long_steps,
    requests,
    st.integers(1, 4),
    st.sampled_from([1, 2, 5, 12]),
    st.permutations(range(50)),
)
def test_shares_are_read_in_any_order_and_hold_every_row_once(
    dedup, actions, request, row_group_rows, share_rows, order
):
    region = new_region(dedup, row_group_rows=row_group_rows)
    carry_out(region, actions)
    names = tuple(field.name for field in METADATA.fields)

    with limits(share_rows=share_rows):
        plan = region.engine.plan(REGION, request)
        found = list(shares.divide(plan, region.engine.reader, (*names, "__sequence")))
    read_in_order = {number: found[number].read() for number in order if number < len(found)}
    read_in_order |= {number: found[number].read() for number in range(50, len(found))}

    kept: list[Row] = []
    for number, each in read_in_order.items():
        rows, counts = each.rows, each.counts
        assert counts.rows_read - counts.rows_shadowed == (0 if rows is None else len(rows))
        if rows is None:
            continue
        assert 0 < len(rows) <= found[number].row_count
        check_sorted(rows_of(rows), dedup)
        kept += rows_of(rows)
        event("a share of several sources" if len(found[number].parts) > 1 else "a share of one source")
    there = region.seen(replace(request, predicate=ALWAYS))
    assert dedup == "none" or len({row.key for row in kept}) == len(kept), "no key is in two shares"
    assert len({row.sequence for row in kept}) == len(kept)
    assert set(kept) <= set(there), "what comes out of a share is final"
    assert set(kept) >= set(region.expected_rows(request)), "only what cannot match is left out"


@settings(deadline=None, max_examples=80)
@given(modes, steps | long_steps, requests, st.sampled_from([1, 3, 8]), st.randoms(use_true_random=False))
def test_jobs_may_be_done_in_any_order_and_need_no_sequences(dedup, actions, request, share_rows, random):
    region = new_region(dedup)
    carry_out(region, actions)

    with limits(share_rows=share_rows):
        todo = list(jobs(region.engine.plan(REGION, request), region.engine.reader, ("cpu", "note")))
    random.shuffle(todo)
    found = [row for job in todo for rows in [job().rows] if rows is not None for row in rows_of(rows)]

    expected = region.expected_rows(request)
    assert Counter((row.key, row.fields) for row in found) == Counter((row.key, row.fields) for row in expected)


@settings(deadline=None, max_examples=60)
@given(modes, steps | long_steps, requests, st.sampled_from([1, 3, 8]))
def test_batches_come_sorted_each_with_series_of_its_own(dedup, actions, request, share_rows):
    region = new_region(dedup)
    carry_out(region, actions)
    columns = ("note", "cpu", "__sequence")

    with limits(share_rows=share_rows):
        plan = region.engine.plan(REGION, request)
        batches = list(region.engine.reading.sorted_batches(plan, columns))

    found: list[Row] = []
    for batch in batches:
        rows = [replace(row, fields=_by_name(batch, row)) for row in rows_of(batch)]
        check_sorted(rows, dedup)
        assert rows
        found += rows
    assert sorted(found, key=order_of) == region.expected_rows(request)


def _by_name(batch: Batch, row: Row) -> tuple[Any, ...]:
    named = dict(zip(batch.fields.schema.names, row.fields, strict=True))
    return named["cpu"], named["note"]


@pytest.mark.parametrize("dedup", ["last", "merge"])
def test_a_long_series_is_cut_by_time_where_row_groups_begin(dedup):
    region = new_region(dedup, row_group_rows=4)
    for offset in (0, 1):
        region.write([Row(0, 2 * n + offset, ("a", 0), (n, None)) for n in range(100)])
        region.write([Row(0, 1000, ("b", 0), (0, None))])
        region.flush()
    region.write([Row(0, n, ("a", 0), (None, "x")) for n in range(50, 90)])

    with limits(share_rows=20):
        plan = region.engine.plan(REGION, ScanRequest())
        found = list(shares.divide(plan, region.engine.reader, ("cpu", "note")))

    assert len(plan.groups) == 1
    assert len(found) > 8
    read = [rows for share in found for rows in [share.read().rows] if rows is not None]
    assert max(map(len, read)) <= 2 * 20
    found_rows = [row for rows in read for row in rows_of(rows)]
    assert [(row.key, row.fields) for row in found_rows] == [
        (row.key, row.fields) for row in region.seen(ScanRequest())
    ]


def test_of_a_series_that_is_cut_by_time_no_row_group_is_read_that_a_share_does_not_touch():
    region = new_region(row_group_rows=10, cache_size_bytes=100_000_000)
    for offset in (0, 1):
        region.write([Row(0, 2 * n + offset, ("a", 0), (n, None)) for n in range(200)])
        region.flush()

    with limits(share_rows=40):
        found = list(shares.divide(region.engine.plan(REGION, ScanRequest()), region.engine.reader, ("cpu",)))
    counts = [share.read().counts for share in found]

    assert len(found) >= 8
    columns = 2  # The time and one field: the files are told apart by age.
    assert sum(count.chunks_read for count in counts) == 40 * columns, "each is decoded once"
    assert max(count.chunks_read + count.chunks_kept for count in counts) <= 8 * columns


@pytest.mark.parametrize(("few_rows", "are_few"), [(19, False), (20, True)])
def test_rows_are_few_up_to_a_number(few_rows, are_few):
    region = new_region()
    region.write([Row(0, n, ("a" if n < 20 else "b", 0), (n, None)) for n in range(30)])
    region.flush()

    with limits(share_rows=7, few_rows=few_rows):
        plan = region.engine.plan(REGION, ScanRequest(predicate=Compare("host", "==", "a")))
        found = few_jobs(plan, region.engine.reader, ("cpu",))

    assert (found is not None) is are_few
    if found is not None:
        assert sum(job().counts.rows_returned for job in found) == 20


@pytest.mark.parametrize("is_flushed", [True, False], ids=["file", "memory"])
def test_how_many_rows_there_are_in_a_range_of_times_is_guessed_without_opening_a_file(is_flushed):
    region = new_region()
    region.write([Row(0, n, ("a", 0), (n, None)) for n in range(30)])
    if is_flushed:
        region.flush()

    with limits(share_rows=7, few_rows=29):
        everything = few_jobs(region.engine.plan(REGION, ScanRequest()), region.engine.reader, ("cpu",))
        opened = [use.entry_count for use in region.engine.cache.use() if use.kind == "footers"]
        few = ScanRequest(time_range=TimeRange(20, 90))
        late = few_jobs(region.engine.plan(REGION, few), region.engine.reader, ("cpu",))

    assert everything is None
    assert opened == [0]
    assert (late is not None) is is_flushed


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

    assert report_on(everything, engine.reader).row_groups == (6, 6)
    assert report_on(one_host, engine.reader).row_groups == (1, 3), "of the files that may have that host"
