"""What came to a table: made up, told by a journal, or cut by other windows; no row is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from builders import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.arrivals import DAY_MS, PIECES_MAX, Arrival, WriteLoad, cut_anew, flushes_of, told_arrivals
from mitoframe.jobs.flush import SST_ROWS_MIN
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.model.ids import ManifestVersion
from mitoframe.model.options import HOUR_MS
from mitoframe.storage.journal import FileFacts, JournalEntry

MINUTE_MS = 60_000

loads = st.builds(
    WriteLoad,
    span_ms=st.integers(1, 8).map(lambda hours: hours * HOUR_MS),
    flush_ms=st.sampled_from([7 * MINUTE_MS, 10 * MINUTE_MS, HOUR_MS]),
    rows_per_second=st.sampled_from([1, 17, 400]),
    row_bytes=st.sampled_from([10, 1000]),
    late_share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    late_ms=st.sampled_from([MINUTE_MS, 3 * HOUR_MS]),
    partition_ms=st.sampled_from([HOUR_MS, DAY_MS]),
    delete_share=st.sampled_from([0.0, 0.1, 1.0]),
    begin_ms=st.sampled_from([0, -5 * HOUR_MS, 10**12]),
)


# --- made up --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(loads)
def test_a_made_up_load_has_all_its_rows_in_the_order_of_their_sequences(load):
    files = list(load.flushes())

    rows = sum(
        load.rows_per_second * (min(load.flush_ms, load.span_ms - start) // 1000)
        for start in range(0, load.span_ms, load.flush_ms)
    )
    assert sum(file.row_count for file in files) == rows
    assert files == list(load.flushes())
    assert len({file.file_id for file in files}) == len(files)
    by_flush = {file.created_ms: (file.min_sequence, file.max_sequence) for file in files}
    assert [first for first, _ in by_flush.values()][1:] == [last + 1 for _, last in by_flush.values()][:-1]
    assert all(file.min_time <= file.max_time < file.created_ms for file in files)
    assert all(load.begin_ms <= file.min_time for file in files)


def test_late_rows_are_as_many_and_as_late_as_said():
    (first, second) = WriteLoad(
        span_ms=2 * HOUR_MS, flush_ms=HOUR_MS, late_share=0.25, late_ms=30 * MINUTE_MS, rows_per_second=100
    ).flushes()

    assert (first.min_time, first.max_time, first.row_count) == (0, HOUR_MS - 1, 360_000)
    assert (second.min_time, second.max_time, second.row_count) == (30 * MINUTE_MS, 2 * HOUR_MS - 1, 360_000)


def test_windows_of_few_rows_share_a_file_as_a_flush_makes_them():
    few = WriteLoad(span_ms=3 * HOUR_MS, flush_ms=3 * HOUR_MS, rows_per_second=1, partition_ms=HOUR_MS)

    assert [file.row_count for file in few.flushes()] == [10_800]
    assert len(list(replace(few, rows_per_second=10).flushes())) == 3


# --- a journal ------------------------------------------------------------------------------------------


def told(version: int, what: str, *files: FileMeta, gone: tuple[FileMeta, ...] = (), **known) -> JournalEntry:
    return JournalEntry(
        version=ManifestVersion(version),
        what=what,
        at_ms=known.pop("at_ms", 100 * version),
        inputs=tuple(file.file_id for file in gone),
        outputs=tuple(file.file_id for file in files),
        facts=tuple(FileFacts.of(file) for file in files),
        **known,
    )


def names(arrivals) -> list[tuple[int, str, bool]]:
    return [
        (each.at_ms, "".join(sorted(file.file_id[0] for file in each.files)), each.starts_anew) for each in arrivals
    ]


A, B, C, D = (
    file_of(name, 10 * n, 10 * n + 5, min_sequence=n + 1, max_sequence=n + 1, created_ms=100 * n, delete_count=n)
    for n, name in enumerate("abcd")
)
AB = file_of("e", 0, 15, level=LEVEL_COMPACTED, min_sequence=1, max_sequence=2)


def test_what_came_is_told_as_it_was_and_merges_and_what_expired_are_left_out():
    entries = [
        told(0, "create"),
        told(1, "flush", A),
        told(2, "flush", B, C),
        told(3, "compact", AB, gone=(A, B)),
        told(4, "expire", gone=(AB,)),
        told(5, "gc", gone=(A, B)),
        told(6, "backfill", D),
    ]

    found = told_arrivals(entries, {})

    assert names(found.arrivals) == [(100, "a", False), (200, "bc", False), (600, "d", False)]
    assert found.unknown == ()
    assert FileFacts.of(found.arrivals[1].files[0]) == FileFacts.of(B)
    assert {file.derived_version for arrival in found.arrivals for file in arrival.files} == {0}


@pytest.mark.parametrize("what", ["truncate", "replace", "restore", "undo", "update"])
def test_what_changes_a_table_otherwise_begins_anew_with_the_files_there_were_then(what):
    entries = [told(1, "flush", A), told(2, "flush", B), told(3, what, C, gone=(A,)), told(4, "flush", D)]

    found = told_arrivals(entries, {})

    assert names(found.arrivals) == [(100, "a", False), (200, "b", False), (300, "bc", True), (400, "d", False)]


def test_what_was_rolled_up_is_there_at_the_beginning():
    found = told_arrivals([told(7, "start", A, AB, starts_anew=True), told(8, "flush", C)], {})

    assert names(found.arrivals) == [(700, "ae", True), (800, "c", False)]


def test_the_outputs_of_one_merge_belong_together_where_a_replay_begins_with_them():
    one, other = (replace(AB, file_id=name * 32) for name in "ef")
    entries = [told(1, "flush", A), told(2, "compact", one, other, gone=(A,)), told(3, "truncate", gone=(B,))]

    [_, begun] = told_arrivals(entries, {}).arrivals

    assert [file.derived_version for file in begun.files] == [2, 2]


def test_files_of_which_a_journal_says_nothing_are_looked_up_or_else_left_out():
    entries = [replace(told(1, "flush", A, B), facts=()), replace(told(2, "flush", C), facts=())]

    found = told_arrivals(entries, {A.file_id: A})

    assert names(found.arrivals) == [(100, "a", False)]
    assert found.unknown == (B.file_id, C.file_id)


def test_a_clock_that_went_back_does_not_turn_the_order_around():
    entries = [told(1, "flush", A, at_ms=500), told(2, "flush", B, at_ms=400)]

    assert names(told_arrivals(entries, {}).arrivals) == [(500, "a", False), (500, "b", False)]


# --- windows --------------------------------------------------------------------------------------------


def totals(arrival: Arrival) -> tuple[int, ...]:
    files = arrival.files
    return (
        sum(file.row_count for file in files),
        sum(file.delete_count for file in files),
        sum(file.size_bytes for file in files),
        min(file.min_time for file in files),
        max(file.max_time for file in files),
        min(file.min_sequence for file in files),
        max(file.max_sequence for file in files),
    )


@settings(deadline=None, max_examples=25)
@given(loads, st.sampled_from([1, 7 * MINUTE_MS, HOUR_MS, DAY_MS]))
def test_whatever_the_window_nothing_is_lost_and_files_are_as_a_flush_makes_them(load, width):
    arrivals = load.arrivals()

    cut = list(cut_anew(arrivals, width))

    assert [totals(each) for each in cut] == [totals(each) for each in arrivals]
    for before, after in zip(arrivals, cut, strict=True):
        assert after.at_ms == before.at_ms
        assert len(after.files) <= len(before.files) * PIECES_MAX
        for one, other in pairwise(after.files):
            assert one.max_time < other.min_time
            assert one.row_count + other.row_count >= SST_ROWS_MIN
    assert len({file.file_id for each in cut for file in each.files}) == sum(len(each.files) for each in cut)


@settings(deadline=None, max_examples=15)
@given(loads.map(lambda load: replace(load, partition_ms=HOUR_MS, rows_per_second=40_000, delete_share=0.0)))
def test_longer_windows_are_cut_as_if_they_had_been_so_from_the_beginning(load):
    cut = list(cut_anew(load.arrivals(), DAY_MS))

    assert [totals(each) for each in cut] == [totals(each) for each in replace(load, partition_ms=DAY_MS).arrivals()]
    assert [len(each.files) for each in cut] == [
        len(each.files) for each in replace(load, partition_ms=DAY_MS).arrivals()
    ]


def test_rows_are_divided_among_windows_by_time():
    file = file_of("a", 0, 4 * HOUR_MS - 1, row_count=400_000, size_bytes=4_000, delete_count=40)

    [cut] = cut_anew(flushes_of([file]), HOUR_MS)

    assert [(each.min_time, each.max_time) for each in cut.files] == [
        (hour * HOUR_MS, (hour + 1) * HOUR_MS - 1) for hour in range(4)
    ]
    assert {(each.row_count, each.size_bytes, each.delete_count) for each in cut.files} == {(100_000, 1_000, 10)}


def test_files_that_were_not_flushed_stay_as_they_are_and_so_does_what_a_replay_begins_with():
    backfilled = replace(AB, max_time=10 * DAY_MS)
    begun = Arrival(at_ms=1, files=(replace(A, max_time=10 * DAY_MS),), starts_anew=True)

    [first, second] = cut_anew([begun, Arrival(at_ms=2, files=(backfilled,))], HOUR_MS)

    assert first == begun
    assert second.files == (backfilled,)
