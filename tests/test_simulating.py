"""`table.simulate` and `mitoframe.simulate`: what a real engine did is what is told, and other options are as said."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from builders import REGION, Row, batch_of, create, metadata_of, open_engine

import mitoframe as mito
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.options import RegionOptions
from mitoframe.model.request import FlushRequest, TruncateRequest
from mitoframe.simulating import OPTIONS, Replayer, SimulationResult

METADATA = metadata_of()
MINUTE = 60_000
HOUR = 60 * MINUTE
ROWS = 2_000
"""In each flush: as many that what a file costs beside its rows is little."""
FLUSHES, FLUSHES_MAX = 24, 100


class Running:
    """An engine whose clock goes on minute by minute, while rows come and are flushed."""

    def __init__(self, seed: int = 0, *, options: dict | None = None, **config) -> None:
        self.clock, self.scheduler = ManualClock(now_ms=0), InlineScheduler()
        self.store, self.log, self.config = MemoryObjectStore(self.clock), MemoryLog(), config
        self.engine = self.opened()
        create(self.engine, METADATA, **(options or {}))
        self.random, self.flushes = np.random.default_rng(seed), 0

    def opened(self, **more) -> MitoEngine:
        known = {"scheduler": self.scheduler, "clock": self.clock, "maintenance_interval_ms": MINUTE} | self.config
        return open_engine(self.store, self.log, **known, **more)

    def go_on(self, minutes: int, step: int = 1) -> None:
        for _ in range(0, minutes, step):
            self.clock.advance(step * MINUTE)
            self.scheduler.tick()

    def flush(self, *hours: int) -> None:
        """Flush rows of some hours, as many of each, at times that no other flush has."""
        self.flushes += 1
        free = np.arange(self.flushes, HOUR, FLUSHES_MAX)
        times = [
            hour * HOUR + int(time)
            for hour in hours
            for time in self.random.choice(free, ROWS // len(hours), replace=False)
        ]
        values = self.random.integers(2**62, size=len(times)).tolist()
        rows = [Row(0, time, ("a",), (value,)) for time, value in zip(times, values, strict=True)]
        self.engine.write(REGION, batch_of(METADATA, rows))
        self.engine.handle_request(REGION, FlushRequest())

    def simulated(self, **options) -> SimulationResult:
        return Replayer.of_table(self.engine, REGION, "cpu").run(options)

    def told(self, what: str) -> list[tuple[int, int]]:
        """Return when merges were, and how many files they took."""
        entries = self.engine.history(REGION).entries
        return [(entry.at_ms, len(entry.inputs)) for entry in entries if entry.what == what]

    @property
    def files(self) -> list[tuple[int, int, int, int]]:
        files = self.engine.region(REGION).state.files.values()
        return sorted((file.level, file.min_time, file.max_time, file.row_count) for file in files)


def files_of(result: SimulationResult) -> list[tuple[int, int, int, int]]:
    times = (pl.col("min_time", "max_time").dt.timestamp("ms"),)
    return sorted(result.files.select("level", *times, "rows").rows())


# --- a table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["count", "runs"])
@pytest.mark.parametrize("seed", range(2))
def test_a_real_history_replayed_under_the_options_it_had_gives_the_files_there_are(policy, seed):
    running = Running(seed, compaction_policy=policy, options={"compaction_window_ms": HOUR})
    for flush in range(FLUSHES):
        late = int(running.random.integers(0, 4))
        hour = flush // 7
        running.flush(hour, *([hour - late] if 0 < late <= hour else []))
        running.go_on(8)
    running.go_on(30 * 60, step=10)

    result = running.simulated()

    assert files_of(result) == running.files
    assert sum(rows for *_, rows in files_of(result)) == FLUSHES * ROWS
    merges = result.tasks.select(pl.col("at").dt.timestamp("ms"), "inputs").rows()
    assert len(merges) == len(running.told("compact")) > 5
    assert sorted(inputs for _, inputs in merges) == sorted(inputs for _, inputs in running.told("compact"))
    assert all(
        abs(at - real) <= 10 * MINUTE for (at, _), (real, _) in zip(merges, running.told("compact"), strict=True)
    )
    written = sum(entry.bytes_out or 0 for entry in running.engine.history(REGION).entries if entry.outputs)
    assert result.summary["written_bytes"].item() == pytest.approx(written, rel=0.1)
    assert result.steps["write_amplification"].min() >= 1


def test_a_window_that_is_inferred_is_the_one_that_was():
    running = Running()
    for hour in range(6):
        running.flush(hour)
        running.flush(hour)
        running.go_on(20)

    result = running.simulated()

    assert files_of(result) == running.files
    known_ms = running.engine.region(REGION).state.compaction_window_ms
    assert result.summary["compaction_window"].item().total_seconds() * 1000 == known_ms


def test_what_was_truncated_is_gone_in_the_replay_too():
    running = Running(options={"compaction_window_ms": HOUR})
    for _ in range(5):
        running.flush(0)
        running.go_on(1)
    running.engine.handle_request(REGION, TruncateRequest(what="all"))
    running.flush(3)

    result = running.simulated()

    assert files_of(result) == running.files
    assert len(running.files) == 1
    assert result.steps["deleted_bytes"][-1] > 0


def test_a_history_is_the_same_after_the_store_was_opened_again_and_for_who_only_reads():
    running = Running(options={"compaction_window_ms": HOUR}, checkpoint_distance=2, journal_entries_max=10)
    for _ in range(30):
        running.flush(0)
        running.go_on(1)
    running.go_on(30 * 60, step=30)
    there = files_of(running.simulated())

    reader = running.opened(read_only=True)
    told = Replayer.of_table(reader, REGION, "cpu").run({})

    assert files_of(told) == there == running.files
    assert told.unknown_files == 0
    assert told.summary["flushes"].item() < 30  # What is older was rolled up.


def test_each_option_has_its_effect():
    running = Running(options={"compaction_window_ms": HOUR})
    for flush in range(24):
        running.flush(flush // 6, max(flush // 6 - 1, 0))
        running.go_on(10)
    replayer = Replayer.of_table(running.engine, REGION, "cpu")
    usual = replayer.run({})
    size = int(usual.summary["flushed_bytes"].item() / 24)

    def run(**options) -> dict:
        return replayer.run(options).summary.row(0, named=True)

    known = usual.summary.row(0, named=True)
    assert run(compaction_policy="runs")["runs_max"] < known["runs_max"]
    assert run(compaction_trigger_files=20)["files_max"] > known["files_max"]
    assert run(compaction_settled_trigger_files=30)["files"] >= known["files"]
    assert run(compaction_settle="0s")["write_amplification"] != known["write_amplification"]
    twos = {"compaction_trigger_files": 2, "compaction_settled_trigger_files": 2}
    assert run(**twos, compaction_input_files_max=2)["merges"] > run(**twos)["merges"]
    assert run(compaction_input_size_max_bytes=4 * size, sst_size_bytes=4 * size)["files"] > known["files"]
    assert run(sst_size_bytes=2 * size)["files"] > known["files"]
    assert run(ttl="1h")["live_bytes"] < known["live_bytes"]
    assert run(compaction_window="12h")["windows"] == 1 < known["windows"]
    assert run(dedup="merge")["flushes"] == 24


def test_an_option_that_is_none_or_has_no_bearing_is_refused():
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", {"ts": pl.Datetime("ms"), "load": pl.Float64}, time="ts")
        with pytest.raises(mito.ConfigError, match="compaction_windows"):
            cpu.simulate({"compaction_windows": "1h"})
        with pytest.raises(mito.InvalidInputError, match="wal"):
            cpu.simulate({"wal": "noop"})
        with pytest.raises(mito.ConfigError, match="no merge could take as many"):
            cpu.simulate({"compaction_trigger_files": 9, "compaction_input_files_max": 5})
        with pytest.raises(mito.ConfigError, match="compaction_policy"):
            cpu.simulate({"compaction_policy": "none"})


def test_a_table_without_a_history_has_nothing_to_show():
    with mito.open("memory://") as db:
        cpu = db.create_table("cpu", {"ts": pl.Datetime("us"), "load": pl.Float64}, time="ts")

        result = cpu.simulate({"ttl": "1h"})

    assert repr(result).startswith("simulated 0 flushes of 'cpu': 0 merges, written 1.00 times")
    assert (result.steps.height, result.tasks.height, result.files.height) == (0, 0, 0)
    assert result.files.schema["min_time"] == pl.Datetime("us")
    assert result.tasks.schema["window_start"] == pl.Datetime("us")
    assert result.summary.height == 1


def test_the_options_are_those_that_decide_which_files_are_merged():
    deciding = {name for name in RegionOptions.__dataclass_fields__ if name.startswith("compaction_")}

    told = {mito.altering.option_name(name) for name in OPTIONS}

    assert told == deciding - {"compaction_mode"} | {"sst_size_bytes", "ttl_ms", "dedup"}


# --- made up --------------------------------------------------------------------------------------------


def test_frames_have_the_same_columns_whatever_came_of_it():
    some = mito.simulate(options={"compaction_window": "1h"})
    none = mito.simulate(days=0.001)

    for frame in ("steps", "tasks", "files", "summary"):
        assert getattr(some, frame).schema == getattr(none, frame).schema
    assert pl.concat([some.summary, none.summary]).height == 2
    assert (none.tasks.height, none.files.height) == (0, 1)


def test_steps_and_tasks_and_summary_tell_the_same():
    result = mito.simulate(late_share=0.2, options={"compaction_window": "2h", "compaction_policy": "runs"})

    steps, tasks, summary = result.steps, result.tasks, result.summary.row(0, named=True)
    assert steps["at"].is_sorted()
    assert steps["files"][-1] == result.files.height == summary["files"]
    assert steps["live_bytes"][-1] == result.files["size_bytes"].sum() == summary["live_bytes"]
    assert steps["written_bytes"][-1] == steps["flushed_bytes"][-1] + tasks["output_bytes"].sum()
    assert summary["write_amplification"] == summary["written_bytes"] / summary["flushed_bytes"] > 1
    assert (summary["merges"], summary["files_max"]) == (tasks.height, steps["files"].max())
    assert (steps["space_amplification"] >= 1).all()
    assert steps["space_amplification"][-1] == 1
    assert result.files["rows"].sum() == 400 * 24 * 3600
    assert 1 <= summary["read_amplification"] <= summary["runs_max"]


def test_more_series_and_shorter_intervals_are_more_rows():
    def rows(**load) -> int:
        return mito.simulate(days=0.1, **load).files["rows"].sum()

    assert rows(series=100, interval="10s") == rows(series=10, interval="1s") == 86_400
    assert mito.simulate(days=0.1, row_bytes=7).files["size_bytes"].sum() == 7 * rows()


@pytest.mark.parametrize(
    ("load", "match"),
    [
        ({"days": 0}, "days"),
        ({"series": -1}, "series"),
        ({"interval": "0s"}, "interval"),
        ({"late_share": 1.5}, "late_share"),
        ({"days": 10_000, "flush_interval": "1s"}, "flushes"),
        ({"options": {"wal": "log"}}, "wal"),
    ],
)
def test_what_cannot_be_made_up_is_refused(load, match):
    with pytest.raises(mito.InvalidInputError, match=match):
        mito.simulate(**load)


def test_a_result_is_shown_as_text_and_as_html():
    result = mito.simulate(options={"compaction_window": "1h"})

    assert repr(result).count("\n") == 0
    assert "<div>simulated 144 flushes of made up rows" in result._repr_html_()
    assert "write_amplification</td>" in result._repr_html_()
