from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, create, delete, metadata_of, open_engine
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mitoframe.engine.engine import MitoEngine
from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import Compare, IsIn
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.read import apart
from mitoframe.read.apart import lying_apart, newest_of_group
from mitoframe.read.shares import Share, divide
from mitoframe.storage.sst_reader import unpacked

METADATA = metadata_of({"host": pa.string()}, {"cpu": pa.int64(), "load": pa.float64()})

times = st.integers(0, 30)
hosts = st.sampled_from(["a", "a", "b", "c"]).map(lambda host: (host,))
puts = st.builds(lambda time, tags, cpu: Row(0, time, tags, (cpu, cpu / 2)), times, hosts, st.integers(0, 9))
deletes = st.builds(lambda time: delete(0, time), times).map(lambda row: replace(row, fields=(None, None)))
some_puts = st.lists(puts, min_size=6, max_size=30)
rarely_deleted = st.sampled_from([False] * 9 + [True]).flatmap(lambda some: st.lists(deletes, max_size=2 * some))
steps = st.lists(
    st.tuples(some_puts, rarely_deleted, st.sampled_from(["flush", "flush", None])), min_size=2, max_size=5
)


@pytest.fixture(autouse=True, scope="module")
def nothing_is_too_few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "APART_MIN", 0)
        yield


def region(actions, dedup="last", **config):
    engine = open_engine(**{"row_group_rows": 5, "compaction_trigger_files": 100} | config)
    create(engine, METADATA, dedup=dedup)
    for action in actions:
        if action == "flush":
            engine.flush(REGION)
        elif action:
            engine.write(REGION, batch_of(METADATA, action))
    return engine


def shares_of(engine: MitoEngine, request: ScanRequest | None = None, columns=("load", "cpu")) -> list[Share]:
    return divide(engine.plan(REGION, request or ScanRequest()), engine.reader, columns)


def rows_in(series, codes, times, fields):
    columns = [unpacked(column).to_pylist() for column in fields.columns]
    assert fields.schema.names == ["load", "cpu"]
    return [
        (series.column(0)[int(code)].as_py(), int(time), *row)
        for code, time, *row in zip(codes, times, *columns, strict=True)
    ]


def rows_of_part(share, part):
    rows = part.pieces.rows()
    codes, found = part.pieces.row_codes(), part.times[rows]
    assert len(rows)
    assert sorted(zip(codes, found, strict=True)) == list(zip(codes, found, strict=True))
    return rows_in(share.series, codes, found, part.fields.take(pa.array(rows)))


@settings(deadline=None, max_examples=60)
@given(
    steps,
    st.sampled_from(["last", "last", "last", "merge", "none"]),
    st.just(TimeRange()) | st.builds(TimeRange, times, times),
    st.none() | st.integers(1, 60).map(Sequence),
    st.integers(2, 9),
)
def test_rows_left_where_they_lie_are_those_of_a_merge(actions, dedup, time_range, sequence, row_group_rows):
    actions = [each for step in actions for each in step if each and not (dedup == "none" and each is step[1])]
    engine = region(actions, dedup, row_group_rows=row_group_rows)
    found = shares_of(engine, ScanRequest(time_range=time_range, sequence=sequence))

    for share in found:
        left, merged = lying_apart(share), share.read()

        event("merged" if left is None else "apart")
        if left is not None:
            rows = (
                []
                if merged.rows is None
                else rows_in(merged.rows.series, merged.rows.codes, merged.rows.times, merged.rows.fields)
            )
            assert Counter(row for part in left.parts for row in rows_of_part(share, part)) == Counter(rows)
            assert left.counts.rows_read == merged.counts.rows_read
            assert left.counts.rows_shadowed == merged.counts.rows_shadowed
            assert left.counts.rows_returned == len(rows)


def overlapping(**config):
    first = [Row(0, time, ("a",), (1, 1.0)) for time in range(20)]
    second = [Row(0, time, ("a",), (2, 2.0)) for time in range(15, 30)]
    third = [Row(0, time, (host,), (3, 3.0)) for time in range(10, 16) for host in ("a", "b")]
    return region([first, "flush", second, "flush", third], **config)


def test_what_newer_sources_have_is_left_out_of_older_ones():
    [share] = shares_of(overlapping())

    left = lying_apart(share)

    assert left is not None
    rows = [row for part in left.parts for row in rows_of_part(share, part)]
    assert Counter(row[-1] for row in rows) == {1: 10, 2: 14, 3: 12}
    assert (left.counts.rows_shadowed, left.counts.rows_returned) == (11, 36)


def test_columns_lie_apart_as_they_are_kept():
    engine = overlapping()
    for _ in range(3):
        [share] = shares_of(engine)
        left = lying_apart(share)

    assert left is not None
    assert {str(part.fields.schema.field("load").type)[:10] for part in left.parts} == {"double", "dictionary"}


def test_sources_without_a_wanted_row_are_passed_over():
    rows = [[Row(0, time, ("a",), (time, 1.0)) for time in some] for some in ((0, 9), (1, 8), (2, 4))]
    engine = region([rows[0], "flush", rows[1], "flush", rows[2]])
    [share] = shares_of(engine, ScanRequest(time_range=TimeRange(3, 6)))
    [nowhere] = shares_of(engine, ScanRequest(time_range=TimeRange(3, 4)))

    left, nothing = lying_apart(share), lying_apart(nowhere)

    assert left is not None
    assert [row for part in left.parts for row in rows_of_part(share, part)] == [("a", 4, 1.0, 4)]
    assert nothing is not None
    assert nothing.parts == ()


@pytest.mark.parametrize(
    ("actions", "dedup", "columns"),
    [
        ([[Row(0, 1, ("a",), (1, 1.0))], "flush", [Row(0, 1, ("a",), (2, 1.0))]], "merge", ("cpu",)),
        ([[Row(0, 1, ("a",), (1, 1.0))], "flush", [Row(0, 1, ("a",), (2, 1.0))]], "last", ("cpu", "__sequence")),
        ([[Row(0, 1, ("a",), (1, 1.0))], "flush", [replace(delete(0, 1), fields=(None, None))]], "last", ("cpu",)),
        ([[Row(0, 1, ("a",), (1, 1.0))], "flush"], "last", ("cpu",)),
    ],
    ids=["filled", "sequences wanted", "deleted", "one source"],
)
def test_what_times_do_not_tell_is_merged(actions, dedup, columns):
    [share] = shares_of(region(actions, dedup), columns=columns)

    assert lying_apart(share) is None


def test_few_rows_are_merged(monkeypatch):
    monkeypatch.setattr(apart, "APART_MIN", 48)
    [share] = shares_of(overlapping())
    assert share.row_count == 47

    assert lying_apart(share) is None


def test_rows_far_from_each_other_are_merged():
    rows = [Row(0, time, (host,), (1, 1.0)) for host in "abcdefg" for time in range(3)]
    engine = region([rows, "flush", rows, "flush"])
    near = shares_of(engine, ScanRequest(predicate=Compare("host", "!=", "d")))
    far = shares_of(engine, ScanRequest(predicate=IsIn("host", ("a", "g"))))

    assert all(lying_apart(share) is not None for share in near)
    assert all(lying_apart(share) is None for share in far)


# --- all of a group ------------------------------------------------------------------------------------------


def newest_in(engine: MitoEngine, request: ScanRequest | None = None) -> tuple[Counter, int] | None:
    """Read what is left of the only group of a plan, and count what is hidden in it."""
    plan = engine.plan(REGION, request or ScanRequest())
    [group] = plan.groups
    found = newest_of_group(plan, group, engine.reader, ("load", "cpu"))
    if found is None:
        return None
    rows: Counter = Counter()
    for source in found.files:
        for _, columns, pieces in source.lying(source.pieces, plan.time_range):
            rows.update(rows_at(source.series, pieces, columns.times, columns.stored.select(["load", "cpu"])))
    for source in found.buffered:
        pieces = source.pieces.between(source.rows.times, plan.time_range)
        rows.update(rows_at(source.series, pieces, source.rows.times, source.rows.fields))
    return rows, found.hidden


def rows_at(series, pieces, times, fields):
    rows = pieces.rows()
    return rows_in(series, pieces.row_codes(), times[rows], fields.take(pa.array(rows)))


def read_twice(engine: MitoEngine) -> None:
    """Let the times of all files be kept."""
    for _ in range(2):
        for share in shares_of(engine):
            share.read()


@settings(deadline=None, max_examples=60)
@given(
    steps,
    st.sampled_from(["last", "last", "last", "merge"]),
    st.lists(st.just(TimeRange()) | st.builds(TimeRange, times, st.integers(20, 40)), min_size=1, max_size=3),
    st.none() | st.integers(1, 60).map(Sequence),
    st.integers(2, 9),
    some_puts,
)
def test_the_rows_of_a_group_that_count_are_those_of_a_merge(actions, dedup, ranges, sequence, row_group_rows, more):
    engine = region([each for step in actions for each in step if each], dedup, row_group_rows=row_group_rows)
    read_twice(engine)

    for is_later in (False, True):
        if is_later:
            engine.write(REGION, batch_of(METADATA, more))
        for time_range in ranges:
            request = ScanRequest(time_range=time_range, sequence=sequence)
            plan = engine.plan(REGION, request)
            if len(plan.groups) != 1 or plan.direct:
                continue
            found = newest_in(engine, request)
            event("merged" if found is None else "kept")
            if found is not None:
                merged = [share.read() for share in shares_of(engine, request)]
                rows = [
                    row
                    for each in merged
                    if each.rows is not None
                    for row in rows_in(each.rows.series, each.rows.codes, each.rows.times, each.rows.fields)
                ]
                assert found[0] == Counter(rows)
                assert found[1] == sum(each.counts.rows_shadowed for each in merged)


def test_what_is_kept_of_a_group_is_more_than_was_asked_for_first():
    old, new = ([Row(0, time, ("a",), (value, 1.0)) for time in (0, 1, 20)] for value in (1, 2))
    engine = region([old, "flush", new, "flush"], row_group_rows=2)
    read_twice(engine)

    some = newest_in(engine, ScanRequest(time_range=TimeRange(0, 20)))
    everything = newest_in(engine)

    assert some == (Counter([("a", 0, 1.0, 2), ("a", 1, 1.0, 2)]), 2)
    assert everything == (Counter([("a", 0, 1.0, 2), ("a", 1, 1.0, 2), ("a", 20, 1.0, 2)]), 3)


def test_which_rows_of_a_group_count_is_kept():
    engine = overlapping()

    unread = newest_in(engine)
    read_twice(engine)
    first, kept = newest_in(engine), cached(engine)
    again = newest_in(engine)

    assert unread is None, "to read the times twice would cost more than a merge"
    assert first == again
    assert first is not None
    assert first[1] == 11
    assert kept == cached(engine) == 1


def test_what_is_kept_of_a_group_is_of_no_use_once_something_was_written():
    engine = overlapping()
    read_twice(engine)
    newest_in(engine)

    engine.write(REGION, batch_of(METADATA, [Row(0, 0, ("a",), (9, 9.0))]))
    found = newest_in(engine)

    assert found is not None
    assert found[0]["a", 0, 9.0, 9] == 1
    assert (found[0]["a", 0, 1.0, 1], found[1], cached(engine)) == (0, 12, 2)


def test_of_a_group_of_which_little_is_wanted_nothing_is_kept():
    engine = overlapping()
    read_twice(engine)

    assert newest_in(engine, ScanRequest(time_range=TimeRange(12, 14))) is None
    assert newest_in(engine, ScanRequest(predicate=Compare("host", "==", "a"))) is None
    assert cached(engine) == 0


def cached(engine: MitoEngine) -> int:
    return next(use.entry_count for use in engine.cache.use() if use.kind == "selections")
