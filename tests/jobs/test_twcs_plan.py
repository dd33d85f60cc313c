"""Time-window compaction: golden texts of files in and plans out, and what must hold for any files and options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from builders import GOLDEN, file_id_of, file_of
from hypothesis import given, settings
from hypothesis import strategies as st
from picker_text import answer

from mitoframe.jobs.picking import PATIENCE_MAX
from mitoframe.jobs.strict import inputs_of
from mitoframe.jobs.tasks import AUTOMATIC, WHOLE_TABLE, CompactionScope, CompactionTask
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.errors import ConfigError, LimitExceededError
from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.options import CompactionOptions
from mitoframe.model.timerange import TIME_MAX, TIME_MIN, TimeRange
from mitoframe.storage.memtable import RangeStats
from mitoframe.testing.golden import assert_golden

CASES = sorted((GOLDEN / "compaction").glob("*.txt"))
WINDOW = 1000


def test_there_are_golden_texts():
    assert len(CASES) >= 41


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_plan_is_as_written(path: Path):
    assert_golden(path, answer(path.read_text(encoding="utf-8")))


# --- any files ------------------------------------------------------------------------------------------


@st.composite
def file_lists(draw: st.DrawFn) -> list[FileMeta]:
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(-30, 60),
                st.sampled_from([0, 1, 2, 5, 15, 30]),
                st.integers(1, 60),
                st.integers(0, 20),
                st.sampled_from([1, 1, 2, 8, 40]),
                st.sampled_from([LEVEL_FLUSHED, LEVEL_FLUSHED, LEVEL_COMPACTED]),
                st.integers(0, 3),
                st.integers(0, 100),
            ),
            max_size=14,
        )
    )
    return [
        file_of(
            f"{number:032x}",
            first * 100,
            (first + length) * 100,
            min_sequence=Sequence(oldest),
            max_sequence=Sequence(oldest + rows),
            size_bytes=size,
            level=level,
            derived_version=ManifestVersion(derived if level == LEVEL_COMPACTED else 0),
            created_ms=created,
        )
        for number, (first, length, oldest, rows, size, level, derived, created) in enumerate(drawn)
    ]


@st.composite
def options(draw: st.DrawFn) -> CompactionOptions:
    return CompactionOptions(
        policy=draw(st.sampled_from(["count", "runs"])),
        window_ms=WINDOW,
        trigger_files=draw(st.integers(2, 3)),
        settled_trigger_files=draw(st.integers(2, 3)),
        settle_ms=draw(st.sampled_from([0, 50, 10_000])),
        input_files_max=draw(st.sampled_from([3, 5, 32])),
        output_size_max_bytes=draw(st.sampled_from([10, 100])),
        dedup=draw(st.sampled_from(["last", "merge", "none"])),
    )


scopes = st.sampled_from([AUTOMATIC, WHOLE_TABLE, CompactionScope(mode="strict")])
times = st.integers(0, 200)


def overlap(left: FileMeta, right: FileMeta) -> bool:
    return left.min_time <= right.max_time and right.min_time <= left.max_time


def hull(files: Iterable[FileMeta]) -> FileMeta:
    known = list(files)
    return replace(
        known[0],
        min_time=min(file.min_time for file in known),
        max_time=max(file.max_time for file in known),
        min_sequence=min(file.min_sequence for file in known),
        max_sequence=max(file.max_sequence for file in known),
    )


def others_of(task: CompactionTask, files: list[FileMeta]) -> list[FileMeta]:
    inside = {file.file_id for file in task.inputs}
    return [file for file in files if file.file_id not in inside]


@settings(deadline=None, max_examples=70)
@given(file_lists(), options(), times, scopes, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(files, options, now, scope, random):
    shuffled = random.sample(files, len(files))

    assert plan_compaction(files, options, now, scope=scope) == plan_compaction(shuffled, options, now, scope=scope)


@settings(deadline=None, max_examples=60)
@given(file_lists(), options(), times, scopes, st.sets(st.integers(0, 13), max_size=3), st.integers(50, 4000))
def test_no_file_is_in_two_tasks_nor_one_that_is_busy_or_expired(files, options, now, scope, numbers, ttl):
    busy = {file.file_id for file in files if int(file.file_id, 16) in numbers}
    options = replace(options, ttl_ms=ttl)

    plan = plan_compaction(files, options, now, scope=scope, busy=busy)

    assert plan.expiry is not None
    expired = {file.file_id for file in (*plan.expiry.files, *plan.expiry.waiting)}
    picked = [file.file_id for task in plan.tasks for file in task.inputs]
    assert len(set(picked)) == len(picked)
    assert set(picked) <= {file.file_id for file in files} - busy - expired


@settings(deadline=None, max_examples=60)
@given(file_lists(), options(), times, st.sampled_from([AUTOMATIC, WHOLE_TABLE]))
def test_an_output_overlaps_no_file_of_another_window_that_none_of_its_inputs_did(files, options, now, scope):
    for task in plan_compaction(files, options, now, scope=scope).tasks:
        windows = {file.max_time // WINDOW for file in task.inputs}
        for other in others_of(task, files):
            if other.max_time // WINDOW not in windows:
                begun = overlap(hull(task.inputs), other)
                assert begun == any(overlap(file, other) for file in task.inputs)


@settings(deadline=None, max_examples=60)
@given(file_lists(), options(), times, scopes)
def test_a_merge_that_fills_values_leaves_out_no_version_between_two_it_takes(files, options, now, scope):
    for task in plan_compaction(files, replace(options, dedup="merge"), now, scope=scope).tasks:
        output = hull(task.inputs)
        for other in others_of(task, files):
            lies_between = other.min_sequence <= output.max_sequence and output.min_sequence <= other.max_sequence
            assert not (lies_between and overlap(output, other))


@settings(deadline=None, max_examples=60)
@given(file_lists(), options(), times, scopes, st.none() | st.integers(1, 80), st.integers(-30, 60))
def test_delete_markers_are_dropped_exactly_where_nobody_needs_them(files, options, now, scope, held, first):
    buffered = RangeStats(
        row_count=10,
        delete_count=0,
        min_time=first * 100,
        max_time=first * 100 + 300,
        min_sequence=Sequence(70),
        max_sequence=Sequence(79),
    )

    plan = plan_compaction(files, options, now, scope=scope, buffered=[buffered], held_sequence=held)

    for task in plan.tasks:
        output = hull(task.inputs)
        is_held = held is not None and output.max_sequence > held
        may_hide = any(
            overlap(output, other) and other.min_sequence < output.max_sequence
            for other in [*others_of(task, files), buffered]
        )
        assert task.drop_deletes != (is_held or may_hide)


# --- going on until nothing is left ---------------------------------------------------------------------


def merged(task: CompactionTask, number: int, now: int) -> list[FileMeta]:
    """Return the outputs of a task, divided by series if they are too large."""
    assert task.output_size_max_bytes is not None
    parts = -(-task.output_size_bytes // task.output_size_max_bytes)
    return [
        replace(
            hull(task.inputs),
            file_id=file_id_of(f"{number:08x}{part:08x}"),
            level=LEVEL_COMPACTED,
            size_bytes=task.output_size_bytes // parts,
            created_ms=now,
            derived_version=ManifestVersion(100 + number),
        )
        for part in range(parts)
    ]


def settled(files: list[FileMeta], options: CompactionOptions, scope: CompactionScope) -> list[FileMeta]:
    """Return the files that are left when nothing more is picked, however late it is."""
    numbers = count(1)
    now = 0
    for _ in range(len(files) + 2):
        now += (PATIENCE_MAX + 1) * (options.settle_ms + 200)
        tasks = plan_compaction(files, options, now, scope=scope).tasks
        if not tasks:
            return files
        for task in tasks:
            files = others_of(task, files) + merged(task, next(numbers), now)
    raise AssertionError("picking does not come to an end")


def overlapping_in_a_window(files: list[FileMeta]) -> list[tuple[FileMeta, FileMeta]]:
    """Return pairs of one window that have more than an end in common, and are not of one merge."""

    def end(file: FileMeta) -> int:
        return max(file.max_time, file.min_time + 1)

    return [
        (one, other)
        for place, one in enumerate(files)
        for other in files[:place]
        if one.max_time // WINDOW == other.max_time // WINDOW
        and (not one.derived_version or one.derived_version != other.derived_version)
        and one.min_time < end(other)
        and other.min_time < end(one)
    ]


@settings(deadline=None, max_examples=70)
@given(file_lists(), options(), st.sampled_from([AUTOMATIC, WHOLE_TABLE]))
def test_windows_to_which_nothing_comes_end_as_one_sorted_run(files, options, scope):
    if options.dedup == "none":
        options = replace(options, dedup="last")
    files = [replace(file, derived_version=ManifestVersion(0)) for file in files]

    left = settled(files, options, scope)

    assert overlapping_in_a_window(left) == []


@settings(deadline=None, max_examples=60)
@given(file_lists(), options())
def test_where_all_rows_are_kept_picking_comes_to_an_end(files, options):
    settled(files, replace(options, dedup="none"), AUTOMATIC)


@settings(deadline=None, max_examples=60)
@given(file_lists(), options())
def test_what_was_asked_for_once_leaves_nothing_to_ask_for(files, options):
    roomy = replace(options, dedup="last", output_size_max_bytes=10_000, input_files_max=32)
    files = [replace(file, derived_version=ManifestVersion(0)) for file in files]
    plan = plan_compaction(files, roomy, 0, scope=WHOLE_TABLE)

    for number, task in enumerate(plan.tasks):
        files = others_of(task, files) + merged(task, number, 0)

    assert len({file.max_time // WINDOW for file in files}) == len(files)
    assert plan_compaction(files, roomy, 0, scope=WHOLE_TABLE).is_empty()


# --- strict windows -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(file_lists(), options(), st.integers(-30, 60), st.integers(0, 30))
def test_strict_windows_take_everything_that_is_in_them_and_leave_nothing_that_reaches_into_two(
    files, options, first, length
):
    files = [replace(file, derived_version=ManifestVersion(0)) for file in files]
    wanted = TimeRange(first * 100, (first + length) * 100)
    options = replace(options, dedup="last")

    plan = plan_compaction(files, options, 0, scope=CompactionScope(mode="strict", times=wanted))

    picked = {file.file_id for task in plan.tasks for file in task.inputs}
    for task in plan.tasks:
        assert all(window.start % WINDOW == 0 and window.end == window.start + WINDOW for window in task.output_windows)
        assert all(
            any(window.holds(time) for window in task.output_windows)
            for file in task.inputs
            for time in (file.min_time, file.max_time)
        )
        assert not any(
            window.touches(other.min_time, other.max_time)
            for window in task.output_windows
            for other in others_of(task, files)
        )
    for file in files:
        start = file.min_time // WINDOW * WINDOW
        is_wanted = any(wanted.touches(at, at + WINDOW - 1) for at in range(start, file.max_time + 1, WINDOW))
        if wanted.start < wanted.end and is_wanted and file.max_time >= start + WINDOW:
            assert file.file_id in picked


def test_only_files_that_reach_into_a_window_have_to_be_read_for_it():
    files = [file_of("a", 0, WINDOW), file_of("b", WINDOW, 3 * WINDOW), file_of("c", 2 * WINDOW - 1, 2 * WINDOW - 1)]
    (task,) = plan_compaction(files, CompactionOptions(window_ms=WINDOW), 0, scope=CompactionScope(mode="strict")).tasks

    read = [[file.file_id[0] for file in inputs_of(task, window)] for window in task.output_windows]

    assert read == [["a"], ["a", "b", "c"], ["b"], ["b"]]


def test_strict_windows_that_are_too_many_are_refused():
    files = [file_of("a", 0, 10_001 * WINDOW)]

    with pytest.raises(LimitExceededError, match="10002 windows"):
        plan_compaction(files, CompactionOptions(window_ms=WINDOW), 0, scope=CompactionScope(mode="strict"))


# --- edges ----------------------------------------------------------------------------------------------


def test_a_table_without_files_has_nothing_to_do():
    plan = plan_compaction([], CompactionOptions(), 0)

    assert plan.is_empty()
    assert (plan.windows, plan.window_ms) == ((), 3_600_000)


def test_the_first_and_the_last_time_there_are_can_be_compacted():
    files = [
        file_of("a", TIME_MIN, TIME_MIN + 5),
        file_of("b", TIME_MIN, TIME_MIN + 5),
        file_of("c", TIME_MAX - 5, TIME_MAX),
        file_of("d", TIME_MAX - 5, TIME_MAX),
    ]

    plan = plan_compaction(files, CompactionOptions(window_ms=WINDOW), 0, scope=WHOLE_TABLE)

    assert [[file.file_id[0] for file in task.inputs] for task in plan.tasks] == [["c", "d"], ["a", "b"]]
    assert [window.times.end for window in plan.windows] == [TIME_MAX, (TIME_MIN // WINDOW + 1) * WINDOW]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_window_is_as_long_in_any_unit(unit):
    ticks = {"ms": 1, "us": 1000, "ns": 10**6}[unit]
    files = [file_of("ab"[n], n * 3_600_000 * ticks, (n + 1) * 3_600_000 * ticks - 1) for n in range(2)]

    plan = plan_compaction(files, CompactionOptions(window_ms=3_600_000), 0, unit=unit)

    assert [window.times.start for window in plan.windows] == [3_600_000 * ticks, 0]


def test_a_plan_without_explanations_has_the_same_tasks():
    files = [file_of(f"{n:032x}", 0, 100) for n in range(5)]
    options = CompactionOptions(window_ms=WINDOW)

    plain = plan_compaction(files, options, 10**9, is_explained=False)

    assert plain == replace(plan_compaction(files, options, 10**9), windows=())
    assert len(plain.tasks) == 1


def test_a_task_says_how_large_what_becomes_of_it_is():
    files = [file_of("ab"[n], 0, 100, size_bytes=700) for n in range(2)]

    (task,) = plan_compaction(files, CompactionOptions(window_ms=WINDOW, output_size_max_bytes=1000), 10**9).tasks

    assert (task.output_size_bytes, task.output_size_max_bytes, task.output_windows) == (1400, 1000, ())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"policy": "size"}, "'runs', 'count'"),
        ({"dedup": "first"}, "'last', 'merge', 'none'"),
        ({"trigger_files": 1}, "at least 2"),
        ({"settled_trigger_files": 1}, "at least 2"),
        ({"window_ms": 999}, "at least 1000"),
        ({"settle_ms": -1}, "at least 0"),
        ({"ttl_ms": 0}, "at least 1"),
        ({"input_files_max": 1}, "at least 2"),
        ({"trigger_files": 33}, "no merge could take as many"),
        ({"settled_trigger_files": 5, "input_files_max": 4}, "no merge could take as many"),
        ({"input_size_max_bytes": 10, "output_size_max_bytes": 11}, "output_size_max_bytes is above"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        CompactionOptions(**wrong)
