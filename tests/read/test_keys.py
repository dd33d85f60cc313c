"""Files are skipped by what the manifest knows of their tags: never one that holds a series that is asked for."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import combinations
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from builders import file_of, metadata_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.ids import EntryId, ManifestVersion, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.predicate import And, Compare, IsIn, IsNull, Not, Opaque, Or, Predicate, Text, series_mask
from mitoframe.model.request import ScanRequest
from mitoframe.read.plan import plan_scan
from mitoframe.region.control import Snapshot
from mitoframe.region.version import Version
from mitoframe.storage.memtable import Memtable
from mitoframe.storage.series import unify
from mitoframe.storage.sst_writer import TAG_CHARACTERS_MAX, leading_tags

TAGS = {"site": pa.large_string(), "rack": pa.int16(), "day": pa.date32(), "up": pa.bool_()}
METADATA = metadata_of(TAGS)
LONG = "z" * TAG_CHARACTERS_MAX
VALUES: dict[str, list[Any]] = {
    "site": ["", "a", "ab", "b", LONG, LONG + "a", LONG + "\U0010ffff", "\U0010ffff" * (TAG_CHARACTERS_MAX + 1)],
    "rack": [-3, 0, 1, 7],
    "day": [date(1, 1, 1), date(2024, 1, 1), date(2024, 1, 2)],
    "up": [False, True],
}
series_rows = st.tuples(*(st.sampled_from(values) | st.none() for values in VALUES.values()))
tables = st.lists(series_rows, min_size=1, max_size=4, unique=True)
comparisons = st.sampled_from(list(VALUES)).flatmap(
    lambda name: st.one_of(
        st.builds(
            Compare, st.just(name), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.sampled_from(VALUES[name])
        ),
        st.builds(IsIn, st.just(name), st.lists(st.sampled_from(VALUES[name]) | st.none(), max_size=3).map(tuple)),
        st.just(IsNull(name)),
    )
)
texts = st.builds(
    Text, st.just("site"), st.sampled_from(["starts_with", "contains"]), st.sampled_from(["a", "b", "zz", LONG + "a"])
)
others = st.sampled_from([Compare("cpu", ">", 5), Compare("ts", ">", 5), Opaque()])
conditions = st.recursive(
    comparisons | texts | others,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts)))
        | st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=5,
)


def snapshot_of(files, metadata=METADATA) -> Snapshot:
    state = RegionState(metadata=metadata, options=RegionOptions()).apply(FileEdit(added=tuple(files)))
    version = Version(state=state, manifest_version=ManifestVersion(7), mutable=Memtable(0), immutables=())
    return Snapshot(version=version, visible=Sequence(100), last_entry_id=EntryId(9))


def names(files) -> str:
    return "".join(file.file_id[0] for file in files)


def series_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(TAGS.values())]
    series, _ = unify([pa.RecordBatch.from_arrays(columns, names=list(TAGS))])
    return series


def file_with(name: str, series: pa.RecordBatch, *, is_known: bool = True):
    known = leading_tags(series) if is_known else ()
    return file_of(name, 0, 100, series_count=len(series), leading_tags=known)


@settings(deadline=None, max_examples=160)
@given(st.lists(st.tuples(tables, st.booleans()), min_size=1, max_size=4), conditions)
@example([([("ab", None, None, None)], True)], Not(Text("site", "starts_with", "a")))
@example([([(None, 1, None, None), ("a", 1, None, None)], True)], IsNull("site"))
@example([([(LONG + "a", 1, None, None), (LONG + "b", 1, None, None)], True)], Compare("site", "==", LONG + "b"))
def test_a_file_that_holds_a_series_asked_for_is_never_skipped(written, condition: Predicate):
    tables = [series_of(rows) for rows, _ in written]
    files = [
        file_with(f"{number}", series, is_known=is_known)
        for number, (series, (_, is_known)) in enumerate(zip(tables, written, strict=True))
    ]

    plan = plan_scan(snapshot_of(files), ScanRequest(predicate=condition))

    for number, series in enumerate(tables):
        mask = series_mask(condition, series)
        if mask is None or mask.any():
            assert files[number] not in plan.pruned or not plan.time_range.touches(0, 100)
    assert plan.off_keys <= len(plan.pruned)


@settings(deadline=None, max_examples=120)
@given(st.lists(st.tuples(tables, st.booleans()), min_size=2, max_size=5))
def test_files_of_one_time_that_hold_a_series_in_common_are_merged(written):
    tables = [series_of(rows) for rows, _ in written]
    files = [
        file_with(f"{number}", series, is_known=is_known)
        for number, (series, (_, is_known)) in enumerate(zip(tables, written, strict=True))
    ]

    plan = plan_scan(snapshot_of(files), ScanRequest())

    group_of = {file.file_id: number for number, group in enumerate(plan.groups) for file in group.files}
    assert sorted([*group_of, *(file.file_id for file in plan.direct)]) == sorted(file.file_id for file in files)
    for (one, series), (other, others) in combinations(zip(files, tables, strict=True), 2):
        if {tuple(row.items()) for row in series.to_pylist()} & {tuple(row.items()) for row in others.to_pylist()}:
            assert group_of[one.file_id] == group_of[other.file_id]


@pytest.mark.parametrize(
    ("tables", "shape"),
    [
        ([["a", "b"], ["c", "d"], ["e"]], ("abc", [])),  # As a merge leaves them that was cut between series.
        ([["a", "c"], ["b", "d"], ["e"]], ("c", ["ab"])),
        ([["a", "b"], ["b", "d"], ["d", "e"]], ("", ["abc"])),
        ([["e"], ["a", "c"], ["b", "e"]], ("", ["abc"])),  # The first meets the third, which meets the second.
        ([[None, "a"], ["b"], [None, "c"]], ("b", ["ac"])),
    ],
    ids=repr,
)
def test_files_of_one_time_that_hold_no_series_in_common_are_read_as_they_are(tables, shape):
    metadata = metadata_of({"host": pa.large_string()})
    files = []
    for name, hosts in zip("abc", tables, strict=True):
        series = pa.RecordBatch.from_arrays([pa.array(hosts, pa.large_string())], names=["host"])
        files.append(file_of(name, 0, 100, series_count=len(hosts), leading_tags=leading_tags(series)))

    plan = plan_scan(snapshot_of(files, metadata=metadata), ScanRequest())

    assert (names(plan.direct), [names(group.files) for group in plan.groups]) == shape


@pytest.mark.parametrize(
    ("condition", "pruned"),
    [
        (Compare("host", "==", "d"), "ac"),
        (Compare("host", "<", "c"), "bc"),
        (IsIn("host", ("a", "b")), "bc"),
        (Text("host", "starts_with", "g"), "ab"),
        (Not(Text("host", "starts_with", "g")), "c"),
        (IsNull("host"), "abc"),
        (Or((Compare("host", "==", "a"), Compare("host", ">", "g"))), "b"),
        (And((Compare("host", "==", "a"), Opaque(), Compare("cpu", ">", 90))), "bc"),
        (Or((Compare("host", "==", "a"), Compare("cpu", ">", 90))), ""),
        (Compare("rack", "==", 5), "c"),
    ],
    ids=repr,
)
def test_files_whose_tags_are_beyond_what_is_asked_for_are_skipped(condition, pruned):
    """Of the second tag something is known only in the file in which all series share the first."""
    metadata = metadata_of({"host": pa.large_string(), "rack": pa.int64()})
    tables = [
        [("a", 1), ("c", 2)],
        [("d", 1), ("f", 2)],
        [("g1", 1), ("g1", 2)],
    ]
    files = [
        file_of(name, 0, 100, series_count=2, leading_tags=leading_tags(two_tags(rows)))
        for name, rows in zip("abc", tables, strict=True)
    ]

    plan = plan_scan(snapshot_of(files, metadata=metadata), ScanRequest(predicate=condition))

    assert names(plan.pruned) == pruned
    assert plan.off_keys == len(pruned)


def two_tags(rows: list[tuple[str, int]]) -> pa.RecordBatch:
    hosts, racks = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(hosts, pa.large_string()), pa.array(racks, pa.int64())], names=["host", "rack"]
    )


def test_what_is_left_of_files_with_the_same_times_stands_alone():
    series = [series_of([(name, None, None, None)]) for name in "ab"]
    files = [file_with(name, table) for name, table in zip("ab", series, strict=True)]

    plan = plan_scan(snapshot_of(files), ScanRequest(predicate=Compare("site", "==", "a")))

    assert (names(plan.direct), plan.groups, names(plan.pruned)) == ("a", (), "b")


def test_what_is_kept_of_the_longest_tags_is_short():
    file = file_with("a", series_of([(letter * 100_000, 1, None, True) for letter in "ab"]))

    assert len(str(file.to_json())) < 1000
    assert len(file.leading_tags) == 1


# --- all the way ------------------------------------------------------------------------------------------

START = datetime(2024, 1, 1)


def frame(hosts: list[str | None], value: float) -> pl.DataFrame:
    return pl.DataFrame(
        [{"host": host, "ts": START + timedelta(hours=n), "cpu": value} for host in hosts for n in range(3)],
        schema={"host": pl.String, "ts": pl.Datetime("us"), "cpu": pl.Float64},
    )


WRITES = [
    frame(["a", "b"], 1.0),
    frame(["c", "d"], 2.0),
    frame([None, "b"], 3.0),
    frame(["d", "e"], 4.0),
]
host = pl.col("host")
QUESTIONS = [
    host == "b",
    host.is_null(),
    host.is_in(["a", "e"]),
    ~host.is_in(["a", "b"]),
    host.str.starts_with("d") | (host < "b"),
    (host == "d") & (pl.col("cpu") < 3),
    (host == "d") | (pl.col("cpu") == 3),
    host > "e",
    host.eq_missing("c"),
    host.ne_missing("c"),
]


@pytest.fixture(scope="module")
def db():
    with mito.open("memory://", compaction_trigger_files=100) as db:
        table = db.create_table("cpu", WRITES[0].schema, time="ts", tags=["host"])
        for written in WRITES:
            table.write(written)
            table.flush()
        yield db


@pytest.mark.parametrize("condition", QUESTIONS, ids=str)
def test_rows_are_those_of_brute_force(db, condition):
    everything = pl.concat(WRITES).unique(["host", "ts"], keep="last", maintain_order=True)

    found = db.scan("cpu", where=condition).collect()

    expected = everything.filter(condition)
    assert_frame_equal(found.sort("host", "ts"), expected.select(found.columns).sort("host", "ts"))


def test_the_receipt_tells_which_condition_skipped_files_by_their_keys(db):
    report = db.scan("cpu", where=(host == "c") & (pl.col("cpu") < 9)).explain()

    assert "files       1 of 4 to read, 0 pruned by time, 3 by key range" in str(report)
    assert [(rung.condition, rung.skipped, rung.of) for rung in report.rungs if rung.unit == "files"] == [
        ("host == 'c', by key range", 3, 4)
    ]


def test_files_that_are_skipped_are_not_opened(db):
    engine = db.engine
    files = engine.region(db["cpu"].region_id).state.files
    for file_id in files:
        engine.cache.forget(file_id)

    assert db.scan("cpu", where=host == "c").collect().height == 3

    opened = [file for file_id, file in files.items() if engine.cache.holds("footers", file_id)]
    assert [file.leading_tags[0].minimum for file in opened] == ["c"]
