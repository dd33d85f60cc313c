from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pyarrow as pa
import pytest
from builders import GOLDEN, batch_of, file_of, metadata_of, put
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.alter import AddColumns, DropColumns, ModifyColumnTypes, NewColumn, SetDefaults, alter
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.ids import EntryId, ManifestVersion, Sequence
from mitoframe.model.options import Dedup, RegionOptions
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, IsNull, Not, Opaque, Or
from mitoframe.model.request import ScanRequest
from mitoframe.model.schema import RegionMetadata
from mitoframe.model.timerange import TimeRange
from mitoframe.read.plan import ScanPlan, explain, plan_scan
from mitoframe.region.control import Snapshot
from mitoframe.region.version import Version
from mitoframe.storage.memtable import Memtable, MemtableRange
from mitoframe.testing.golden import assert_golden

METADATA = metadata_of()
EVERYTHING_VISIBLE = 1000


def memtable_of(number: int, *times: int, first: int = 100) -> Memtable:
    memtable = Memtable(number)
    if times:
        rows = [put(first + n, time) for n, time in enumerate(times)]
        memtable.insert(batch_of(METADATA, rows), EntryId(number + 1))
    return memtable


def snapshot_of(
    files,
    memtables=(),
    visible: int = EVERYTHING_VISIBLE,
    *,
    dedup: Dedup = "last",
    metadata: RegionMetadata = METADATA,
) -> Snapshot:
    state = RegionState(metadata=metadata, options=RegionOptions(dedup=dedup)).apply(FileEdit(added=tuple(files)))
    *immutables, mutable = memtables or (Memtable(0),)
    version = Version(state=state, manifest_version=ManifestVersion(7), mutable=mutable, immutables=tuple(immutables))
    return Snapshot(version=version, visible=Sequence(visible), last_entry_id=EntryId(9))


def names(files) -> str:
    return "".join(file.file_id[0] for file in files)


def shape(plan: ScanPlan) -> tuple[str, list[tuple[str, int]], str]:
    """Direct files, groups as (files, number of parts in memory), pruned files."""
    return names(plan.direct), [(names(g.files), len(g.buffered)) for g in plan.groups], names(plan.pruned)


# --- grouping -------------------------------------------------------------------------------------------

spans = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    files = [
        file_of(
            f"{number:032x}",
            *draw(spans),
            delete_count=draw(st.sampled_from([0, 0, 1])),
            min_sequence=number * 10,
            max_sequence=number * 10 + 9,
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    memtables = [
        memtable_of(number, *draw(st.lists(st.integers(0, 35), max_size=3)), first=100 + 10 * number)
        for number in range(draw(st.integers(1, 3)))
    ]
    return snapshot_of(files, memtables, draw(st.integers(0, 130)))


ranges = st.builds(TimeRange, st.integers(-5, 35), st.integers(-5, 40)) | st.just(TimeRange())


def span_of(source) -> tuple[int, int]:
    known = source.stats if isinstance(source, MemtableRange) else source
    return known.min_time, known.max_time


def overlap(left, right) -> bool:
    (a, b), (c, d) = span_of(left), span_of(right)
    return a <= d and c <= b


@settings(deadline=None, max_examples=100)
@given(snapshots(), ranges, st.none() | st.integers(0, 130))
def test_sources_with_a_common_time_are_merged_and_what_is_read_directly_overlaps_nothing(snapshot, wanted, sequence):
    plan = plan_scan(snapshot, ScanRequest(time_range=wanted, sequence=sequence))
    visible = min(snapshot.visible, snapshot.visible if sequence is None else sequence)

    groups = [[*group.files, *group.buffered] for group in plan.groups] + [[file] for file in plan.direct]
    for left, right in combinations(groups, 2):
        assert not any(overlap(a, b) for a in left for b in right)
    for file in plan.direct:
        assert file.delete_count == 0
        assert file.max_sequence <= visible


@settings(deadline=None, max_examples=100)
@given(snapshots(), ranges, st.none() | st.integers(0, 130))
def test_what_is_not_read_holds_no_row_that_could_be_wanted(snapshot, wanted, sequence):
    plan = plan_scan(snapshot, ScanRequest(time_range=wanted, sequence=sequence))

    read = [*plan.direct, *(file for group in plan.groups for file in group.files)]
    buffered = [span_of(part) for group in plan.groups for part in group.buffered]
    everything = snapshot.version.state.files.values()
    assert sorted([*names_of(read), *names_of(plan.pruned)]) == sorted(names_of(everything))
    assert len(read) == len(set(names_of(read)))
    for file in plan.pruned:
        assert not wanted.touches(file.min_time, file.max_time) or file.min_sequence > plan.visible
    for part in (part for memtable in snapshot.version.memtables for part in memtable.ranges()):
        if span_of(part) not in buffered:
            assert not wanted.touches(*span_of(part)) or part.stats.min_sequence > plan.visible


def names_of(files) -> list[str]:
    return [file.file_id for file in files]


def test_files_connected_through_a_third_are_merged_together():
    a, b, c = file_of("a", 0, 10), file_of("b", 5, 20), file_of("c", 15, 30)

    assert shape(plan_scan(snapshot_of([a, b, c]), ScanRequest())) == ("", [("abc", 0)], "")
    assert shape(plan_scan(snapshot_of([a, c]), ScanRequest())) == ("ac", [], "")


def test_a_file_inside_a_long_one_does_not_end_the_group():
    files = [file_of("a", 0, 100), file_of("b", 10, 20), file_of("c", 50, 60)]

    assert shape(plan_scan(snapshot_of(files), ScanRequest())) == ("", [("abc", 0)], "")


def test_files_that_share_one_moment_are_merged():
    assert shape(plan_scan(snapshot_of([file_of("a", 0, 10), file_of("b", 10, 20)]), ScanRequest()))[1] == [("ab", 0)]


def test_a_file_with_delete_markers_is_never_read_directly():
    plan = plan_scan(snapshot_of([file_of("a", 0, 10, delete_count=1)]), ScanRequest())

    assert shape(plan) == ("", [("a", 0)], "")


def test_a_file_that_is_only_partly_visible_is_never_read_directly():
    files = [file_of("a", 0, 10, max_sequence=10), file_of("b", 20, 30, min_sequence=8, max_sequence=12)]

    assert shape(plan_scan(snapshot_of(files), ScanRequest(sequence=10))) == ("a", [("b", 0)], "")


def test_a_sequence_beyond_what_is_visible_shows_no_more():
    assert plan_scan(snapshot_of([], visible=5), ScanRequest(sequence=50)).visible == 5


def test_the_memtable_is_merged_with_the_files_it_overlaps():
    files = [file_of("a", 0, 10), file_of("b", 20, 30)]

    plan = plan_scan(snapshot_of(files, [memtable_of(0, 25, 40)]), ScanRequest())

    assert shape(plan) == ("a", [("b", 1)], "")


# --- every row is kept, and schemas of other times ----------------------------------------------------------------


def test_where_every_row_is_kept_nothing_is_merged():
    files = [file_of("a", 0, 10), file_of("b", 5, 20)]

    plan = plan_scan(snapshot_of(files, [memtable_of(0, 8), memtable_of(1, 9, first=200)], dedup="none"), ScanRequest())

    assert shape(plan) == ("ab", [("", 1), ("", 1)], "")


def test_a_file_with_the_columns_of_today_is_read_directly_whatever_was_changed_elsewhere():
    older = replace(METADATA, schema_version=5)

    assert shape(plan_scan(snapshot_of([file_of("a", 0, 10)], metadata=older), ScanRequest())) == ("a", [], "")


def test_a_file_older_than_a_column_is_not_handed_over_as_it_is():
    """Its column of that name is another one, or has another type or a default."""
    changed = alter(metadata_of(fields={"cpu": pa.int32()}), ModifyColumnTypes({"cpu": pa.int64()}))
    files = [file_of("a", 0, 10), file_of("b", 20, 30, schema_version=changed.schema_version)]

    assert shape(plan_scan(snapshot_of(files, metadata=changed), ScanRequest())) == ("b", [("a", 0)], "")


@pytest.mark.parametrize(
    ("alterations", "direct"),
    [
        ((AddColumns((NewColumn("room", pa.string()),)),), True),
        ((AddColumns((NewColumn("room", pa.string(), default="lab"),)),), False),
        ((DropColumns(("cpu",)),), True),
        ((DropColumns(("cpu",)), AddColumns((NewColumn("cpu", pa.int64()),))), False),
        ((SetDefaults({"cpu": 5}),), True),
    ],
    ids=["added", "added with a default", "dropped", "dropped and added", "default for rows to come"],
)
def test_only_what_parquet_itself_can_say_is_left_to_parquet(alterations, direct):
    changed = METADATA
    for alteration in alterations:
        changed = alter(changed, alteration)

    plan = plan_scan(snapshot_of([file_of("a", 0, 10)], metadata=changed), ScanRequest())

    assert bool(plan.direct) is direct


# --- pruning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "pruned"),
    [
        (ScanRequest(time_range=TimeRange(10, 20)), "ac"),
        (ScanRequest(predicate=Compare("ts", ">", 19)), "ab"),
        (ScanRequest(predicate=Compare("ts", "<", 20), time_range=TimeRange(10)), "ac"),
        (ScanRequest(predicate=IsIn("ts", (3, 5))), "bc"),
        (ScanRequest(predicate=Compare("cpu", ">", 5)), ""),
        (ScanRequest(time_range=TimeRange(100, 200)), "abc"),
    ],
    ids=repr,
)
def test_files_outside_the_time_asked_for_are_pruned(request_, pruned):
    files = [file_of("a", 0, 9), file_of("b", 10, 19), file_of("c", 20, 29)]

    assert names(plan_scan(snapshot_of(files), request_).pruned) == pruned


def test_only_conditions_on_the_key_may_skip_within_a_group():
    files = [file_of("a", 0, 10), file_of("b", 5, 20)]
    predicate = And((Compare("host", "==", "x"), Compare("cpu", ">", 5), Opaque()))

    plan = plan_scan(snapshot_of(files), ScanRequest(predicate=predicate, time_range=TimeRange(3, 9)))

    assert plan.groups[0].key_predicate == And(
        (Compare("host", "==", "x"), Compare("ts", ">=", 3), Compare("ts", "<", 9))
    )


def test_equal_keys_mean_equal_rows():
    snapshot = snapshot_of([file_of("a", 0, 9)], visible=50)

    assert plan_scan(snapshot, ScanRequest()).key == "7.50"
    assert plan_scan(snapshot, ScanRequest(sequence=20)).key == "7.20"


# --- explain --------------------------------------------------------------------------------------------

FILES = [
    file_of("a", 0, 100, row_count=1200),
    file_of("b", 50, 150, row_count=34_567, min_sequence=11, max_sequence=20),
    file_of("c", 200, 300, row_count=1_000_000, min_sequence=21, max_sequence=30),
    file_of("d", 400, 500, row_count=5, delete_count=2, min_sequence=31, max_sequence=40),
]
HOST = Or((IsIn("host", ("a", "b")), Not(IsNull("host"))))
CASES = {
    "everything": (FILES, [250, 600], ScanRequest()),
    "one_file": (FILES, [], ScanRequest(time_range=TimeRange(200, 301))),
    "key_and_field": (
        FILES,
        [120],
        ScanRequest(
            columns=("cpu", "__sequence"),
            predicate=And((HOST, Compare("cpu", ">", 90))),
            time_range=TimeRange(20, 180),
            sequence=Sequence(25),
        ),
    ),
    "nothing": (FILES, [], ScanRequest(predicate=Compare("ts", ">", 1000), columns=())),
    "empty_region": ([], [], ScanRequest(predicate=ALWAYS)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_explains_itself(name):
    files, buffered, request = CASES[name]
    memtables = [memtable_of(0, *buffered, first=20)]

    text = explain(plan_scan(snapshot_of(files, memtables), request))

    assert_golden(GOLDEN / "explain" / f"{name}.txt", text + "\n")
