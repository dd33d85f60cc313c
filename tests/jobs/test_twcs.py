"""The picker: golden texts of files in and tasks out, and what must hold for any files.

A text has a comment, the files with the times of their first and last row, and what to pick. Below the last line of
dashes is the answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from builders import GOLDEN, file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.twcs import WINDOW_CHOICES_MS, CompactionTask, infer_window_ms, pick_overlapping, window_ms
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.timerange import parse_duration_ms
from mitoframe.storage.memtable import RangeStats
from mitoframe.testing.golden import assert_golden

HOUR_MS = 3_600_000
CASES = sorted((GOLDEN / "twcs").glob("*.txt"))

_FILE = re.compile(r"(\w) L([01]) (-?\d\d:\d\d)\.\.(-?\d\d:\d\d)")
_PICK = re.compile(r"pick window=(\w+) trigger=(\d+)")


def parse(text: str) -> tuple[list[FileMeta], int, int]:
    """Read the files, the window in milliseconds and the trigger of a golden text."""
    files = [
        file_of(name, to_ms(first), to_ms(last), level=int(level)) for name, level, first, last in _FILE.findall(text)
    ]
    [(window, trigger)] = _PICK.findall(text)
    return files, parse_duration_ms(window, "window"), int(trigger)


def to_ms(clock: str) -> int:
    hours, minutes = clock.lstrip("-").split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000 * (-1 if clock.startswith("-") else 1)


def to_clock(milliseconds: int) -> str:
    minutes = abs(milliseconds) // 60_000
    return f"{'-' if milliseconds < 0 else ''}{minutes // 60:02}:{minutes % 60:02}"


def write(tasks: tuple[CompactionTask, ...]) -> str:
    lines = [
        f"window {to_clock(task.window_start)}  {' '.join(file.file_id[0] for file in task.inputs)} -> L1, "
        f"delete markers {'dropped' if task.drop_deletes else 'kept'}"
        for task in tasks
    ]
    return "\n".join(lines or ["nothing to do"]) + "\n"


def test_there_are_golden_texts():
    assert len(CASES) >= 10


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_picker_answers_as_written(path: Path):
    question = "".join(path.read_text(encoding="utf-8").rpartition("----\n")[:2])

    files, window, trigger = parse(question)

    assert_golden(path, question + write(pick_overlapping(files, window, trigger)))


# --- what must hold for any files -----------------------------------------------------------------------

spans = st.tuples(st.integers(-40, 60), st.integers(0, 15))
file_lists = st.lists(spans, max_size=12).map(
    lambda drawn: [file_of(f"{n:032x}", first, first + length) for n, (first, length) in enumerate(drawn)]
)
windows = st.integers(1, 40)


@settings(deadline=None, max_examples=300)
@given(file_lists, windows, st.integers(2, 4))
def test_tasks_are_groups_of_overlapping_files_of_one_window(files, window, trigger):
    tasks = pick_overlapping(files, window, trigger)

    picked = [file for task in tasks for file in task.inputs]
    assert len({file.file_id for file in picked}) == len(picked)
    assert set(picked) <= set(files)
    for task in tasks:
        assert len(task.inputs) >= trigger
        assert {file.max_time // window * window for file in task.inputs} == {task.window_start}
        assert is_connected(task.inputs)


@settings(deadline=None, max_examples=300)
@given(file_lists, windows)
def test_no_overlap_within_a_window_is_left_behind(files, window):
    task_of = {file: n for n, task in enumerate(pick_overlapping(files, window, 2)) for file in task.inputs}

    for left, right in combinations(files, 2):
        if overlap(left, right) and left.max_time // window == right.max_time // window:
            assert task_of[left] == task_of[right]


@settings(deadline=None, max_examples=300)
@given(file_lists, windows)
def test_delete_markers_are_dropped_only_where_nothing_else_may_hold_what_they_hide(files, window):
    for task in pick_overlapping(files, window, 2):
        first = min(file.min_time for file in task.inputs)
        last = max(file.max_time for file in task.inputs)
        others = [file for file in files if file not in task.inputs]

        overlapped = any(file.min_time <= last and first <= file.max_time for file in others)

        assert task.drop_deletes != overlapped


@settings(deadline=None)
@given(file_lists, windows, st.randoms(use_true_random=False))
def test_the_order_of_files_does_not_matter(files, window, random):
    shuffled = random.sample(files, len(files))

    assert [frozenset(task.inputs) for task in pick_overlapping(files, window, 2)] == [
        frozenset(task.inputs) for task in pick_overlapping(shuffled, window, 2)
    ]


@settings(deadline=None)
@given(file_lists, windows)
def test_what_was_merged_is_not_picked_again(files, window):
    for number, task in enumerate(pick_overlapping(files, window, 2)):
        merged = file_of(
            f"{1000 + number:032x}",
            min(file.min_time for file in task.inputs),
            max(file.max_time for file in task.inputs),
            level=LEVEL_COMPACTED,
        )
        files = [file for file in files if file not in task.inputs] + [merged]

    assert pick_overlapping(files, window, 2) == ()


# --- where a merged row says no longer which value is how old ------------------------------------------------

placed_files = st.lists(st.tuples(spans, st.integers(0, 60), st.integers(0, 20)), max_size=10).map(
    lambda drawn: [
        file_of(f"{n:032x}", first, first + length, min_sequence=oldest, max_sequence=oldest + count)
        for n, ((first, length), oldest, count) in enumerate(drawn)
    ]
)


@settings(deadline=None, max_examples=300)
@given(placed_files, windows, st.integers(2, 3))
def test_rows_are_filled_only_from_versions_that_follow_each_other(files, window, trigger):
    """With "merge" no file outside a merge may hold a version between two that are in it."""
    tasks = pick_overlapping(files, window, trigger, dedup="merge")

    others = [task for task in pick_overlapping(files, window, trigger) if task not in tasks]
    assert not any(has_one_between(task.inputs, files) for task in tasks)
    assert all(has_one_between(task.inputs, files) for task in others)
    assert len(tasks) + len(others) == len(pick_overlapping(files, window, trigger, dedup="none"))


def has_one_between(inputs: tuple[FileMeta, ...], files: list[FileMeta]) -> bool:
    first, last = min(file.min_time for file in inputs), max(file.max_time for file in inputs)
    oldest, newest = min(file.min_sequence for file in inputs), max(file.max_sequence for file in inputs)
    return any(
        file.min_time <= last and first <= file.max_time and file.min_sequence <= newest and oldest <= file.max_sequence
        for file in files
        if file not in inputs
    )


@pytest.mark.parametrize(("sequences", "merged"), [((11, 20), 0), ((31, 40), 1)], ids=["between", "after"])
def test_two_files_are_left_alone_when_a_third_of_another_window_came_between_them(sequences, merged):
    a = file_of("a", 0, 9, min_sequence=1, max_sequence=10)
    c = file_of("c", 5, 9, min_sequence=21, max_sequence=30)
    d = file_of("d", 7, 15, min_sequence=sequences[0], max_sequence=sequences[1])

    assert len(pick_overlapping([a, c, d], 10, 2, dedup="merge")) == merged
    assert len(pick_overlapping([a, c, d], 10, 2, dedup="last")) == 1


@pytest.mark.parametrize(
    ("sequences", "times", "merged"),
    [((11, 20), (0, 9), 0), ((31, 40), (0, 9), 1), ((11, 20), (10, 19), 1)],
    ids=["between", "after", "at other times"],
)
def test_two_files_are_left_alone_when_rows_that_are_in_no_file_yet_came_between_them(sequences, times, merged):
    """A backfill is in files at once, and counts as newer than rows that wait in memory."""
    a = file_of("a", 0, 9, min_sequence=1, max_sequence=10)
    c = file_of("c", 5, 9, min_sequence=21, max_sequence=30)
    waiting = RangeStats(
        row_count=10,
        delete_count=0,
        min_time=times[0],
        max_time=times[1],
        min_sequence=Sequence(sequences[0]),
        max_sequence=Sequence(sequences[1]),
    )

    assert len(pick_overlapping([a, c], 10, 2, dedup="merge", buffered=[waiting])) == merged
    assert len(pick_overlapping([a, c], 10, 2, dedup="last", buffered=[waiting])) == 1


def overlap(left: FileMeta, right: FileMeta) -> bool:
    return left.min_time <= right.max_time and right.min_time <= left.max_time


def is_connected(files: tuple[FileMeta, ...]) -> bool:
    reached, waiting = {files[0]}, [files[0]]
    while waiting:
        file = waiting.pop()
        near = [other for other in files if other not in reached and overlap(other, file)]
        reached.update(near)
        waiting += near
    return len(reached) == len(files)


# --- the window's length --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span_ms", "window"),
    [
        (0, HOUR_MS),
        (HOUR_MS, HOUR_MS),
        (HOUR_MS + 1, 2 * HOUR_MS),
        (3 * HOUR_MS, 12 * HOUR_MS),
        (13 * HOUR_MS, 24 * HOUR_MS),
        (25 * HOUR_MS, 168 * HOUR_MS),
        (1000 * HOUR_MS, 168 * HOUR_MS),
    ],
)
@pytest.mark.parametrize(("unit", "per_ms"), [("ms", 1), ("us", 1000), ("ns", 10**6)])
def test_the_window_is_the_smallest_choice_that_holds_the_flushed_files(span_ms, window, unit, per_ms):
    files = [file_of("a", 0, 0), file_of("b", span_ms * per_ms, span_ms * per_ms)]
    compacted = file_of("c", -(10**15), 0, level=LEVEL_COMPACTED)

    assert infer_window_ms([*files, compacted], unit) == window
    assert window in WINDOW_CHOICES_MS
    assert files[0].level == LEVEL_FLUSHED


def test_the_window_that_was_given_or_remembered_comes_before_what_could_be_inferred():
    inferred = RegionState(metadata=metadata_of(), options=RegionOptions())
    remembered = inferred.apply(FileEdit(compaction_window_ms=7_200_000))
    given_by_user = replace(remembered, options=RegionOptions(compaction_window_ms=1000))

    assert [window_ms(state) for state in (inferred, remembered, given_by_user)] == [HOUR_MS, 7_200_000, 1000]


# --- files of similar size --------------------------------------------------------------------------------------


def of_sizes(*sizes: int) -> list[FileMeta]:
    return [file_of("abcdefghij"[n], 0, 100, size_bytes=size << 20) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes_mib", "chosen_mib"),
    [
        ((7, 7, 7), []),
        ((7, 7, 7, 7), [7, 7, 7, 7]),
        ((7, 7, 7, 7, 90), [7, 7, 7, 7]),
        ((7, 7, 7, 28, 28, 28, 28), [7, 7, 7, 28, 28, 28]),
        ((5, 7, 7, 28, 28, 28, 28), [7, 7, 28, 28, 28, 28]),
        ((30, 30, 30, 30, 30, 30), [30, 30, 30, 30]),
        ((90, 90, 90, 90), []),
    ],
)
def test_an_automatic_task_takes_files_of_similar_size_up_to_a_limit(sizes_mib, chosen_mib):
    tasks = pick_overlapping(of_sizes(*sizes_mib), 1000, 4, size_max_bytes=128 << 20)

    assert [file.size_bytes >> 20 for task in tasks for file in task.inputs] == chosen_mib


def test_small_files_are_all_alike():
    files = [file_of("abcd"[n], 0, 100, size_bytes=size) for n, size in enumerate((1, 1000, 500_000, 1 << 20))]

    (task,) = pick_overlapping(files, 1000, 4, size_max_bytes=128 << 20)

    assert len(task.inputs) == 4


def test_rows_are_rewritten_a_few_times_however_many_files_come():
    files, written, rewritten = [], 0, 0
    for number in range(200):
        files.append(file_of(f"{number:03}", 0, 100, size_bytes=2 << 20))
        written += 2
        while tasks := pick_overlapping(files, 1000, 4, size_max_bytes=128 << 20):
            for task in tasks:
                gone = {file.file_id for file in task.inputs}
                size = sum(file.size_bytes for file in task.inputs)
                files = [file for file in files if file.file_id not in gone]
                files.append(file_of(f"m{number:02}{len(files)}", 0, 100, size_bytes=size))
                rewritten += size >> 20

    assert rewritten <= 3 * written


def test_files_that_merely_touch_the_next_are_left_alone_and_those_that_share_a_time_are_merged():
    chain = [file_of(f"c{n:02}", n * 10, n * 10 + 12) for n in range(30)]
    deep = [file_of(f"d{n:02}", 100 + n, 140 + n) for n in range(4)]

    assert pick_overlapping(chain, 1000, 4, size_max_bytes=128 << 20) == ()
    (task,) = pick_overlapping([*chain, *deep], 1000, 4, size_max_bytes=128 << 20)

    assert set(deep) <= set(task.inputs)
    assert max(file.min_time for file in task.inputs) <= min(file.max_time for file in task.inputs)


@settings(deadline=None, max_examples=100)
@given(spans=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), min_size=1, max_size=12))
def test_no_time_is_left_with_as_many_files_of_similar_size_as_start_a_compaction(spans):
    files = [file_of(f"{n:03}", start, start + length) for n, (start, length) in enumerate(spans)]

    tasks = pick_overlapping(files, 1000, 4, size_max_bytes=128 << 20)

    deepest = max(sum(file.min_time <= time <= file.max_time for file in files) for time in range(51))
    assert bool(tasks) == (deepest >= 4)
