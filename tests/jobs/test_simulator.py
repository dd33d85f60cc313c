"""Replays: bytes are conserved, what is left is what the picker leaves, and the figures are what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.simulator import DAY_MS, WriteLoad, flushes_of, simulate
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.file import LEVEL_COMPACTED
from mitoframe.model.ids import Sequence
from mitoframe.model.options import HOUR_MS, CompactionOptions, RegionOptions

MINUTE_MS = 60_000
LATE = WriteLoad(late_share=0.05, partition_ms=HOUR_MS)
"""A day of rows, 5 percent of them up to six hours late, in 144 flushes."""


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
options = st.builds(
    CompactionOptions,
    policy=st.sampled_from(["count", "runs"]),
    window_ms=st.sampled_from([None, HOUR_MS, DAY_MS]),
    output_size_max_bytes=st.sampled_from([1 << 20, 128 << 20]),
    ttl_ms=st.sampled_from([None, 2 * HOUR_MS]),
)


@settings(deadline=None, max_examples=15)
@given(loads, options)
def test_what_was_flushed_is_live_or_dropped_or_expired(load, options):
    flushed = list(load.flushes())

    simulation = simulate(flushed, options)

    steps = simulation.steps
    total = sum(file.size_bytes for file in flushed)
    assert steps["flushed_bytes"][-1] == total
    assert (steps["live_bytes"] + steps["dropped_bytes"] + steps["expired_bytes"] == steps["flushed_bytes"]).all()
    assert steps["live_bytes"][-1] == sum(file.size_bytes for file in simulation.files)
    if simulation.tasks:
        tasks = simulation.tasks
        assert tasks["input_bytes"].sum() - tasks["output_bytes"].sum() == steps["dropped_bytes"][-1]
        assert steps["written_bytes"][-1] == total + tasks["output_bytes"].sum()


@settings(deadline=None, max_examples=10)
@given(loads, options)
def test_what_is_left_is_what_the_picker_finds_nothing_to_do_about(load, options):
    flushed = list(load.flushes())

    simulation = simulate(flushed, options)

    plan = plan_compaction(
        simulation.files,
        options,
        int(simulation.steps["at_ms"][-1]),
        known_window_ms=_window_of(simulation.tasks, flushed, options),
    )
    assert plan.is_empty()
    assert simulation.steps["runs_max"][-1] <= 1


def _window_of(tasks, flushed, options) -> int | None:
    """Return the window that the first merge settled on: that of the files there were then."""
    if options.window_ms is not None or not tasks:
        return options.window_ms
    there = [file for file in flushed if file.created_ms <= tasks["at_ms"][0]]
    return plan_compaction(there, options, 0).window_ms


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


def test_figures_of_a_merge_that_can_be_worked_out_by_hand():
    """Four files of 100 bytes that hold one time, one a minute; the fourth starts a merge."""
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=100, created_ms=n * MINUTE_MS, min_sequence=n, max_sequence=n)
        for n in range(1, 5)
    ]

    simulation = simulate(flushed, CompactionOptions(), grace_ms=HOUR_MS, settles=False)

    assert {name: column.tolist() for name, column in simulation.steps.items()} == {
        "at_ms": [MINUTE_MS, 2 * MINUTE_MS, 3 * MINUTE_MS, 4 * MINUTE_MS],
        "files": [1, 2, 3, 1],
        "live_bytes": [100, 200, 300, 400],
        "stored_bytes": [100, 200, 300, 800],
        "flushed_bytes": [100, 200, 300, 400],
        "written_bytes": [100, 200, 300, 800],
        "dropped_bytes": [0, 0, 0, 0],
        "expired_bytes": [0, 0, 0, 0],
        "write_amplification": [1.0, 1.0, 1.0, 2.0],
        "windows": [1, 1, 1, 1],
        "runs_max": [1, 2, 3, 1],
        "runs_mean": [1.0, 2.0, 3.0, 1.0],
        "depth": [1, 2, 3, 1],
    }
    assert {name: column.tolist() for name, column in simulation.tasks.items()} == {
        "at_ms": [4 * MINUTE_MS],
        "window_start": [0],
        "inputs": [4],
        "outputs": [1],
        "input_bytes": [400],
        "output_bytes": [400],
        "reason": ["4 neighbours, 4 of which overlap, and none is larger than all others together"],
    }
    (left,) = simulation.files
    assert (left.row_count, left.min_sequence, left.max_sequence, left.level) == (40, 1, 4, LEVEL_COMPACTED)


def test_removed_files_are_stored_until_their_grace_is_over():
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=100, created_ms=n * MINUTE_MS, min_sequence=n, max_sequence=n)
        for n in range(1, 5)
    ]

    simulation = simulate(flushed, CompactionOptions(settle_ms=HOUR_MS), grace_ms=HOUR_MS)

    assert simulation.steps["stored_bytes"][3:5].tolist() == [800, 400]


def test_an_output_that_is_too_large_is_divided_and_stays_so():
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=101, created_ms=n, min_sequence=n, max_sequence=n, row_count=7)
        for n in range(1, 4)
    ]

    simulation = simulate(flushed, CompactionOptions(output_size_max_bytes=150))

    assert sorted(file.size_bytes for file in simulation.files) == [101, 101, 101]
    assert sum(file.row_count for file in simulation.files) == 21
    assert len(simulation.tasks["at_ms"]) == 1
    assert simulation.steps["depth"][-1] == 1


def test_delete_markers_that_are_dropped_leave_nothing_where_there_was_nothing_else():
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=100, created_ms=n, delete_count=10, min_sequence=n, max_sequence=n)
        for n in range(1, 5)
    ]

    simulation = simulate(flushed, CompactionOptions())

    assert simulation.files == ()
    assert simulation.steps["dropped_bytes"][-1] == 400


def test_a_day_with_five_percent_of_late_rows_is_written_at_most_three_times_by_default():
    simulation = simulate(LATE.flushes(), CompactionOptions())

    assert simulation.steps["write_amplification"][-1] <= 3
    assert simulation.steps["runs_max"].max() <= 6
    assert len(simulation.files) == 24


def test_the_default_policy_writes_less_than_the_other_and_ends_as_well():
    by_default, other = (simulate(LATE.flushes(), CompactionOptions(policy=policy)) for policy in ("count", "runs"))

    assert CompactionOptions().policy == "count"
    assert by_default.steps["write_amplification"][-1] < 0.5 * other.steps["write_amplification"][-1]
    assert by_default.steps["runs_max"][-1] == other.steps["runs_max"][-1] == 1


def test_a_history_without_flushes_has_no_steps():
    simulation = simulate([], CompactionOptions())

    assert (simulation.steps, simulation.tasks, simulation.files) == ({}, {}, ())


def test_a_real_history_is_that_of_all_flushed_files_that_are_remembered():
    a, b = (file_of(name, 0, 9, min_sequence=Sequence(n), max_sequence=Sequence(n)) for n, name in enumerate("ab", 1))
    both = file_of("c", 0, 9, level=LEVEL_COMPACTED)
    state = RegionState(metadata=metadata_of(), options=RegionOptions())
    for edit in (
        FileEdit(added=(a,)),
        FileEdit(added=(b,)),
        FileEdit(added=(both,), removed=(a.file_id, b.file_id), at_ms=5),
    ):
        state = state.apply(edit)

    assert [file.file_id for file in flushes_of(state)] == [a.file_id, b.file_id]


@pytest.mark.parametrize("policy", ["count", "runs"])
def test_the_same_history_gives_the_same_figures(policy):
    first, second = (simulate(LATE.flushes(), CompactionOptions(policy=policy), settles=False) for _ in range(2))

    assert first.files == second.files
    assert all(np.array_equal(first.steps[name], second.steps[name]) for name in first.steps)
