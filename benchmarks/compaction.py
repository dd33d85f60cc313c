"""Compaction: what it costs to decide, and what comes of the decisions by the simulator.

    python benchmarks/compaction.py [--write-results]

Picking: tables of 30,000 files in one window and in many, of which every policy picks up to 16 merges, and as many for
whoever asks for all; processor time, the least of several runs, without the making of the files. Simulation: the same
write histories under both policies, with the same picker.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import report

from mitoframe.jobs.arrivals import DAY_MS, WriteLoad
from mitoframe.jobs.simulator import Simulation, simulate
from mitoframe.jobs.tasks import AUTOMATIC, WHOLE_TABLE, CompactionScope
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.options import HOUR_MS, CompactionOptions, CompactionPolicy

FILES = 30_000
WINDOWS = (1, 30, 1_000, 10_000)
TASKS_MAX = 16
RUNS = 5
PICK_MS_MAX = 100
WRITE_AMPLIFICATION_MAX = 3.0
SIMULATION_MS_PER_FLUSH_MAX = 2.0
POLICIES: tuple[CompactionPolicy, ...] = ("count", "runs")
LATE = "5 percent up to 6 h late, windows of 1 h"
LOADS = {
    "in order, windows of 1 h": WriteLoad(partition_ms=HOUR_MS),
    LATE: WriteLoad(late_share=0.05, partition_ms=HOUR_MS),
    "5 percent up to 6 h late, windows of 1 d": WriteLoad(late_share=0.05),
    "20 percent up to 1 d late, windows of 2 h": WriteLoad(late_share=0.2, late_ms=DAY_MS, partition_ms=2 * HOUR_MS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="What compaction decides, and how fast.")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    arguments = parser.parse_args()
    section = measure()
    print(f"\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}", flush=True)
    if arguments.write_results:
        report.record(section)


def measure() -> report.Section:
    picks = {f"{kind}, {windows:,} windows": ms for windows in WINDOWS for kind, ms in _picks(windows).items()}
    outcomes = {f"{name}: {policy}": _outcome(load, policy) for name, load in LOADS.items() for policy in POLICIES}
    rows = [[f"picking among {FILES:,} files, {name}", f"{ms:.0f} ms"] for name, ms in picks.items()]
    rows += [[name, _told(outcome)] for name, outcome in outcomes.items()]
    return report.Section(
        name="compaction",
        title="Compaction: picking and what comes of it",
        command="python benchmarks/compaction.py",
        table=report.Table(head=["what", "found"], rows=rows),
        targets=[
            _at_most(f"picking among {FILES:,} files, the slowest", max(picks.values()), PICK_MS_MAX, " ms"),
            _at_most(
                "bytes written for each that was flushed, a day with 5 percent late rows",
                outcomes[f"{LATE}: {CompactionOptions().policy}"]["write_amplification"],
                WRITE_AMPLIFICATION_MAX,
                "",
            ),
            _at_most(
                "simulating a flush, the slowest",
                max(outcome["ms_per_flush"] for outcome in outcomes.values()),
                SIMULATION_MS_PER_FLUSH_MAX,
                " ms",
            ),
        ],
        notes=[
            f"Picking: processor time, the least of {RUNS}; up to {TASKS_MAX} merges.",
            "Histories: a day, 400 rows a second, a flush every 10 minutes; simulated, merges take no time.",
        ],
        raw={"picks": picks, "outcomes": outcomes},
    )


# --- picking --------------------------------------------------------------------------------------------


def _picks(windows: int) -> dict[str, float]:
    files = _files(windows)

    def pick(policy: CompactionPolicy, now_ms: int, scope: CompactionScope) -> Callable[[], object]:
        options = CompactionOptions(policy=policy, window_ms=HOUR_MS)
        return lambda: plan_compaction(files, options, now_ms, scope=scope, tasks_max=TASKS_MAX)

    long_after = 1000 * DAY_MS
    return {
        "count, rows come": _least_ms(pick("count", 0, AUTOMATIC)),
        "count, settled": _least_ms(pick("count", long_after, AUTOMATIC)),
        "runs": _least_ms(pick("runs", long_after, AUTOMATIC)),
        "asked for": _least_ms(pick("count", 0, WHOLE_TABLE)),
    }


def _files(windows: int) -> list[FileMeta]:
    random = np.random.default_rng(1)
    number = random.integers(windows, size=FILES)
    begin = (number + random.uniform(0, 0.7, FILES)) * HOUR_MS
    span = random.uniform(0, 0.3, FILES) * HOUR_MS
    size = random.lognormal(15, 1, FILES)
    return [
        FileMeta(
            file_id=FileId(f"{n:032x}"),
            level=0,
            size_bytes=int(size[n]),
            checksum=0,
            row_count=1000,
            delete_count=0,
            series_count=1,
            row_group_count=1,
            min_time=int(begin[n]),
            max_time=int(begin[n] + span[n]),
            min_sequence=Sequence(1000 * n + 1),
            max_sequence=Sequence(1000 * n + 1000),
            schema_version=1,
            created_ms=0,
        )
        for n in range(FILES)
    ]


def _least_ms(job: Callable[[], object]) -> float:
    taken = []
    for _ in range(RUNS):
        began = time.process_time()
        job()
        taken.append(time.process_time() - began)
    return min(taken) * 1e3


# --- simulation -----------------------------------------------------------------------------------------


def _outcome(load: WriteLoad, policy: CompactionPolicy) -> dict[str, Any]:
    arrivals = load.arrivals()
    options = CompactionOptions(policy=policy, window_ms=load.partition_ms)
    results: list[Simulation] = []
    taken_ms = _least_ms(lambda: results.append(simulate(arrivals, options)))
    steps = results[0].steps
    return {
        "ms_per_flush": taken_ms / len(steps["at_ms"]),
        "write_amplification": float(steps["write_amplification"][-1]),
        "runs_max": int(steps["runs_max"].max()),
        "runs_mean": float(steps["runs_mean"][steps["at_ms"] <= arrivals[-1].at_ms].mean()),
        "files_max": int(steps["files"].max()),
        "files_left": len(results[0].files),
        "space": float(steps["stored_bytes"].max() / steps["live_bytes"].max()),
    }


def _told(outcome: dict[str, Any]) -> str:
    return (
        f"written {outcome['write_amplification']:.2f} times, {outcome['runs_mean']:.1f} runs in a window "
        f"(at most {outcome['runs_max']}), at most {outcome['files_max']} files, {outcome['files_left']} left, "
        f"{outcome['space']:.2f} times the space, {outcome['ms_per_flush']:.2f} ms a step"
    )


def _at_most(what: str, found: float, most: float, unit: str) -> report.Target:
    return report.Target(what=what, wanted=f"at most {most:g}{unit}", found=f"{found:.2f}{unit}", is_met=found <= most)


if __name__ == "__main__":
    main()
