"""Replays: bytes are conserved, what is left is what the picker leaves, and the figures are what they are called."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from builders import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.arrivals import DAY_MS, Arrival, WriteLoad, flushes_of
from mitoframe.jobs.simulator import Replay, Simulation, simulate
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.file import LEVEL_COMPACTED
from mitoframe.model.options import HOUR_MS, CompactionOptions

MINUTE_MS = 60_000
NIGHTLY = os.environ.get("MITOFRAME_NIGHTLY") == "1"
LATE = WriteLoad(late_share=0.05, partition_ms=HOUR_MS)
"""A day of rows, 5 percent of them up to six hours late, in 144 flushes."""


def _lines(columns: dict) -> list[dict]:
    values = [column.tolist() for column in columns.values()]
    return [dict(zip(columns, line, strict=True)) for line in zip(*values, strict=True)]


def plain(simulation: Simulation) -> tuple:
    """Return what came of a replay, without names that do not matter."""
    steps, tasks = _lines(simulation.steps), _lines(simulation.tasks)
    tasks.sort(key=lambda task: (task["at_ms"], task["window_start"]))  # At one moment, windows come in any order.
    nameless = [replace(file, file_id="", derived_version=0) for file in simulation.files]
    order = sorted(nameless, key=lambda file: (file.min_time, file.max_time, file.min_sequence, file.size_bytes))
    return steps, tasks, order, simulation.window_ms


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

    simulation = simulate(flushes_of(flushed), options)

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

    simulation = simulate(flushes_of(flushed), options)

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


def test_figures_of_a_merge_that_can_be_worked_out_by_hand():
    """Four files of 100 bytes that hold one time, one a minute; the fourth starts a merge."""
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=100, created_ms=n * MINUTE_MS, min_sequence=n, max_sequence=n)
        for n in range(1, 5)
    ]

    simulation = simulate(flushes_of(flushed), CompactionOptions(), grace_ms=HOUR_MS)

    assert {name: column.tolist() for name, column in simulation.steps.items()} == {
        "at_ms": [MINUTE_MS, 2 * MINUTE_MS, 3 * MINUTE_MS, 4 * MINUTE_MS, HOUR_MS + 4 * MINUTE_MS],
        "files": [1, 2, 3, 1, 1],
        "live_bytes": [100, 200, 300, 400, 400],
        "stored_bytes": [100, 200, 300, 800, 400],
        "flushed_bytes": [100, 200, 300, 400, 400],
        "written_bytes": [100, 200, 300, 800, 800],
        "dropped_bytes": [0, 0, 0, 0, 0],
        "expired_bytes": [0, 0, 0, 0, 0],
        "deleted_bytes": [0, 0, 0, 0, 0],
        "write_amplification": [1.0, 1.0, 1.0, 2.0, 2.0],
        "windows": [1, 1, 1, 1, 1],
        "runs_max": [1, 2, 3, 1, 1],
        "runs_mean": [1.0, 2.0, 3.0, 1.0, 1.0],
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


def test_an_output_that_is_too_large_is_divided_and_stays_so():
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=101, created_ms=n, min_sequence=n, max_sequence=n, row_count=7)
        for n in range(1, 4)
    ]

    simulation = simulate(flushes_of(flushed), CompactionOptions(output_size_max_bytes=150))

    assert sorted(file.size_bytes for file in simulation.files) == [101, 101, 101]
    assert sum(file.row_count for file in simulation.files) == 21
    assert len(simulation.tasks["at_ms"]) == 1
    assert simulation.steps["runs_max"][-1] == 1


def test_delete_markers_that_are_dropped_leave_nothing_where_there_was_nothing_else():
    flushed = [
        file_of(f"{n}", 0, 50, size_bytes=100, created_ms=n, delete_count=10, min_sequence=n, max_sequence=n)
        for n in range(1, 5)
    ]

    simulation = simulate(flushes_of(flushed), CompactionOptions())

    assert simulation.files == ()
    assert simulation.steps["dropped_bytes"][-1] == 400


def test_a_day_with_five_percent_of_late_rows_is_written_at_most_three_times_by_default():
    simulation = simulate(LATE.arrivals(), CompactionOptions())

    assert simulation.steps["write_amplification"][-1] <= 3
    assert simulation.steps["runs_max"].max() <= 6
    assert len(simulation.files) == 24


def test_the_default_policy_writes_less_than_the_other_and_ends_as_well():
    by_default, other = (simulate(LATE.arrivals(), CompactionOptions(policy=policy)) for policy in ("count", "runs"))

    assert CompactionOptions().policy == "count"
    assert by_default.steps["write_amplification"][-1] < 0.5 * other.steps["write_amplification"][-1]
    assert by_default.steps["runs_max"][-1] == other.steps["runs_max"][-1] == 1


def test_a_history_without_flushes_has_no_steps():
    simulation = simulate([], CompactionOptions())

    assert (simulation.steps, simulation.tasks, simulation.files) == ({}, {}, ())


@pytest.mark.parametrize("policy", ["count", "runs"])
def test_the_same_history_gives_the_same_figures(policy):
    first, second = (simulate(LATE.arrivals(), CompactionOptions(policy=policy)) for _ in range(2))

    assert first.files == second.files
    assert all(np.array_equal(first.steps[name], second.steps[name]) for name in first.steps)


# --- the compiled picker ----------------------------------------------------------------------------------


flushes = st.tuples(
    st.sampled_from([1, MINUTE_MS, MINUTE_MS, HOUR_MS, 30 * HOUR_MS]),  # How long after the one before.
    st.lists(
        st.tuples(
            st.integers(-2, 40),  # When it begins, in steps of ten minutes.
            st.sampled_from([0, 1, 10, 70]),  # How many minutes it is long.
            st.sampled_from([1, 100, 100, 120, 1000, 5000]),
            st.sampled_from([0, 0, 5]),  # How long before it was listed it was made.
            st.sampled_from([0, 0, 0, LEVEL_COMPACTED]),
        ),
        min_size=1,
        max_size=3,
    ),
)
histories = st.lists(flushes, min_size=1, max_size=40)


def arrivals_of(history, *, begin_ms: int = 0, name: str = "0") -> list[Arrival]:
    arrivals, at_ms, sequence = [], begin_ms, 0
    for number, (pause_ms, drawn) in enumerate(history):
        at_ms += pause_ms
        files = []
        for part, (first, minutes, size_bytes, early_ms, level) in enumerate(drawn):
            sequence += 1
            file = file_of(
                name,
                first * 10 * MINUTE_MS,
                first * 10 * MINUTE_MS + minutes * MINUTE_MS,
                size_bytes=size_bytes,
                row_count=size_bytes // 3 + 1,
                min_sequence=sequence,
                max_sequence=sequence,
                created_ms=at_ms - early_ms,
                level=level,
            )
            files.append(replace(file, file_id=f"{name}{number:015x}{part:016x}"))
        arrivals.append(Arrival(at_ms=at_ms, files=tuple(files)))
    return arrivals


wanted = st.builds(
    CompactionOptions,
    policy=st.sampled_from(["count", "runs"]),
    window_ms=st.sampled_from([HOUR_MS, HOUR_MS, 7 * HOUR_MS, None]),
    trigger_files=st.integers(2, 5),
    settled_trigger_files=st.integers(2, 4),
    settle_ms=st.sampled_from([0, 1000, HOUR_MS, 3 * HOUR_MS]),
    input_files_max=st.integers(5, 9),
    input_size_max_bytes=st.sampled_from([None, 10_000, 20_000]),
    output_size_max_bytes=st.sampled_from([300, 2_000, 10_000]),
)


@settings(deadline=None, max_examples=2_000 if NIGHTLY else 50)
@given(histories, wanted)
def test_the_compiled_picker_merges_what_the_picker_does_at_the_same_moments(history, options):
    arrivals = arrivals_of(history)

    compiled, by_picker = (simulate(arrivals, options, is_compiled=is_compiled) for is_compiled in (True, False))

    assert plain(compiled) == plain(by_picker)


@settings(deadline=None, max_examples=60 if NIGHTLY else 4)
@given(
    loads.map(lambda load: replace(load, delete_share=0.0)),
    st.sampled_from([None, HOUR_MS]),
    st.sampled_from(["count", "runs"]),
)
def test_the_compiled_picker_does_as_the_picker_with_the_defaults(load, window_ms, policy):
    options = CompactionOptions(window_ms=window_ms, policy=policy)

    assert plain(simulate(load.arrivals(), options)) == plain(simulate(load.arrivals(), options, is_compiled=False))


@pytest.mark.parametrize(("count", "span", "longest"), [(300, 60, 1200), (1500, 3000, 300)])
def test_of_many_runs_the_compiled_picker_weighs_those_that_the_picker_weighs(count, span, longest):
    """The cheapest pair of all is not among those that either compares: these are too many runs, or groups of them."""
    generator = np.random.default_rng(count)
    drawn = (generator.integers(0, span // 6, count), generator.integers(1, longest, count))
    sizes = 1 + (generator.exponential(1, count) ** 6 * 10).astype(np.int64)
    files = [(first, minutes, size, 0, 0) for first, minutes, size in np.stack([*drawn, sizes]).T.tolist()]
    options = CompactionOptions(policy="runs", window_ms=365 * DAY_MS, input_files_max=20)
    arrivals = arrivals_of([(0, files)])

    compiled, by_picker = (simulate(arrivals, options, is_compiled=is_compiled) for is_compiled in (True, False))

    assert plain(compiled) == plain(by_picker)


@settings(deadline=None, max_examples=10)
@given(histories, histories)
def test_a_history_that_begins_anew_goes_on_with_the_files_there_were_then(first, second):
    before = arrivals_of(first)
    rest = arrivals_of(second, begin_ms=before[-1].at_ms, name="f")
    rest[0] = replace(rest[0], starts_anew=True)
    options = CompactionOptions(window_ms=HOUR_MS, settle_ms=1000)

    whole, alone = simulate([*before, *rest], options), simulate(rest, options)

    assert plain(whole)[2] == plain(alone)[2]
    steps = whole.steps
    assert (steps["live_bytes"] + steps["deleted_bytes"] == steps["flushed_bytes"]).all()
    assert plain(whole) == plain(simulate([*before, *rest], options, is_compiled=False))


@pytest.mark.parametrize("policy", ["count", "runs"])
def test_windows_grow_with_what_comes_as_long_as_nothing_is_merged(policy):
    """Files that lie hour by hour, then days apart: the windows they are in are told anew at each step."""
    history = [(MINUTE_MS, [(place, 10, 100, 0, 0)]) for place in (0, 2, 7, 30, 80, 90, 4000, 4002)]
    options = CompactionOptions(policy=policy, trigger_files=30, settled_trigger_files=30)

    compiled, by_picker = (simulate(arrivals_of(history), options, is_compiled=each) for each in (True, False))

    assert plain(compiled) == plain(by_picker)
    assert compiled.window_ms is None
    assert len(set(compiled.steps["windows"].tolist())) > 1


def test_a_replay_tells_what_has_come_of_it_so_far():
    options = CompactionOptions(ttl_ms=30 * DAY_MS)
    replay, shares = Replay(LATE.arrivals(), options), [0.0]
    whole = simulate(LATE.arrivals(), options)

    while replay.advance():
        shares.append(replay.share)
        so_far = replay.result()
        assert all(
            np.array_equal(whole.steps[name][: len(so_far.steps["at_ms"])], so_far.steps[name]) for name in so_far.steps
        )

    assert shares == sorted(shares)
    assert shares[-1] < replay.share == 1.0
    assert plain(replay.result()) == plain(whole)
    assert not replay.advance()


def test_thousands_of_flushes_take_milliseconds():
    """Generously: it is a few hundredths of a second, and the picker itself would take more than ten."""
    arrivals = WriteLoad(span_ms=70 * DAY_MS, late_share=0.05, partition_ms=HOUR_MS).arrivals()
    options = CompactionOptions(window_ms=HOUR_MS)
    simulate(arrivals, options)

    began = time.process_time()
    simulation = simulate(arrivals, options)
    taken_ms = (time.process_time() - began) * 1e3

    assert len(arrivals) == 10_080
    assert len(simulation.tasks["at_ms"]) > 5_000
    assert taken_ms < 5_000
