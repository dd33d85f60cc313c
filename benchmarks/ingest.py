"""Ingest with upsert semantics, mitoframe beside its peers: rows per second, bytes on disk, peak memory.

    python benchmarks/ingest.py [--write-results]

Every run is a fresh process in an empty folder; the systems take turns, in another order each round, and the medians
are compared. What a run does is told in peers/harness.py, what it is fed in workload.py.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
import workload

PEERS = Path(__file__).parent / "peers"
PEERS_PYTHON = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"
OURS = "mitoframe"
RUN_SECONDS_MAX = 900
SPEED_TARGET = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    name: str
    script: str
    what: str
    arguments: tuple[str, ...] = ()
    is_upsert: bool = True


CONTESTANTS = (
    Contestant(name=OURS, script="mitoframe_upsert.py", what="upsert, log synced per batch, flushed"),
    Contestant(name="chDB", script="chdb_replacing.py", what="ReplacingMergeTree, parts synced"),
    Contestant(
        name="chDB fastest",
        script="chdb_replacing.py",
        what="the same, nothing synced, optimize_on_insert=0",
        arguments=("--fastest",),
    ),
    Contestant(name="DuckDB", script="duckdb_upsert.py", what="INSERT OR REPLACE on a primary key"),
    Contestant(name="delta-rs", script="delta_merge.py", what="merge"),
    Contestant(name="ArcticDB", script="arcticdb_append.py", what="append: no upsert, no log", is_upsert=False),
)

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    arguments = _arguments()
    chosen = [one for one in CONTESTANTS if not arguments.only or one.name in arguments.only]
    load = workload.prepare(
        hosts=arguments.hosts, hours=arguments.hours, batches=arguments.batches, seed=arguments.seed
    )
    print(f"{load.rows:,} rows in {load.batches} batches, {load.keys:,} keys", flush=True)
    runs = _run_all(chosen, load, rounds=arguments.rounds, seed=arguments.seed, peers_python=arguments.peers_python)
    section = summary(chosen, runs, load)
    print(f"\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}", flush=True)
    wrong = [one.name for one in chosen if not _is_sound(one, runs[one.name], load)]
    if wrong:
        sys.exit(f"failed, or gave another answer than expected: {', '.join(wrong)}; nothing is recorded")
    if arguments.write_results:
        report.record(section)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ingest with upsert semantics, beside peers.")
    parser.add_argument("--hosts", type=int, default=4000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run these alone, such as mitoframe chDB")
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON, help="the interpreter that has the peers")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    return parser.parse_args()


# --- running -------------------------------------------------------------------------------------------


def _run_all(
    contestants: Sequence[Contestant], load: workload.Workload, *, rounds: int, seed: int, peers_python: Path
) -> Runs:
    runs: Runs = {one.name: [] for one in contestants}
    shuffle = random.Random(seed)
    for number in range(rounds):
        for one in shuffle.sample(list(contestants), len(contestants)):
            measured = _run(one, load, sys.executable if one.name == OURS else str(peers_python))
            runs[one.name].append(measured | {"round": number})
            print(_progress(number, one, measured), flush=True)
    return runs


def _run(contestant: Contestant, load: workload.Workload, interpreter: str) -> dict[str, Any]:
    """Run one system in a fresh process. A failure is a result too; it is told, not hidden."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=workload.DATA))
    command = [
        interpreter,
        str(PEERS / contestant.script),
        *contestant.arguments,
        *("--input", str(load.path)),
        *("--folder", str(folder)),
    ]
    os.sync()  # what the run before left unwritten is not this one's to write
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"failed": str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode != 0:
        return {"failed": done.stderr.strip()[-2000:]}
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _progress(number: int, contestant: Contestant, measured: dict[str, Any]) -> str:
    start = f"round {number + 1}  {contestant.name:14}"
    if "failed" in measured:
        return f"{start} failed: {measured['failed']}"
    return (
        f"{start} {_rate(measured['rows_per_second'])}  {_megabytes(measured['disk_bytes'])} on disk  "
        f"{_megabytes(measured['peak_bytes'])} of memory"
    )


# --- telling -------------------------------------------------------------------------------------------


def summary(contestants: Sequence[Contestant], runs: Runs, load: workload.Workload) -> report.Section:
    medians = {one.name: _medians(runs[one.name]) for one in contestants}
    ours = medians.get(OURS)
    rounds = max(len(of_one) for of_one in runs.values())
    settled = [_settled_note(one.name, runs[one.name]) for one in contestants]
    return report.Section(
        name="ingest",
        title="Ingest with upsert semantics",
        command="make bench",
        table=report.Table(
            head=[
                *("system", "rows/s", "mitoframe is", "on disk", "mitoframe has"),
                *("peak memory", "mitoframe takes", "answer"),
            ],
            rows=[_row(one, medians[one.name], ours, runs[one.name], load) for one in contestants],
        ),
        targets=_targets(medians),
        notes=[
            f"{load.rows:,} rows in {load.batches} batches, of which {load.keys:,} keys remain.",
            f"Medians of {rounds} rounds; each run in a fresh process, the systems in another order each round.",
            "The ratios are mitoframe's median over the peer's.",
            *(f"{one.name}: {one.what}." for one in contestants),
            *(note for note in settled if note),
        ],
        raw={
            "rows": load.rows,
            "keys": load.keys,
            "usage_user_sum": load.usage_user_sum,
            "batches": load.batches,
            "runs": runs,
        },
        versions={
            package: number
            for of_one in runs.values()
            for measured in of_one
            for package, number in measured.get("versions", {}).items()
            if package not in report.PACKAGES
        },
    )


def _row(
    contestant: Contestant,
    median: dict[str, float] | None,
    ours: dict[str, float] | None,
    runs: list[dict[str, Any]],
    load: workload.Workload,
) -> list[str]:
    if median is None:
        return [contestant.name, "failed", *[""] * 6]
    answer = ("same" if _agrees(runs, load) else "**other**") if contestant.is_upsert else "not compared"
    return [
        contestant.name,
        _rate(median["rows_per_second"]),
        _ratio(contestant, ours, median, "rows_per_second"),
        _megabytes(median["disk_bytes"]),
        _ratio(contestant, ours, median, "disk_bytes"),
        _megabytes(median["peak_bytes"]),
        _ratio(contestant, ours, median, "peak_bytes"),
        answer,
    ]


def _targets(medians: dict[str, dict[str, float] | None]) -> list[report.Target]:
    """Compare with chDB at the same durability; unsynced chDB is in the table, with its ratio."""
    ours, theirs = medians.get(OURS), medians.get("chDB")
    if ours is None or theirs is None:
        return []
    ratio = ours["rows_per_second"] / theirs["rows_per_second"]
    return [
        report.Target(
            what="rows per second, mitoframe over chDB, both synced",
            wanted=f"at least {SPEED_TARGET} times",
            found=f"{ratio:.2f} times",
            is_met=ratio >= SPEED_TARGET,
        )
    ]


def _settled_note(name: str, runs: list[dict[str, Any]]) -> str:
    settled = [run for run in runs if run.get("settle_seconds") is not None]
    if not settled:
        return ""
    rate = statistics.median(run["rows"] / (run["seconds"] + run["settle_seconds"]) for run in settled)
    disk_bytes = statistics.median(run["settled_disk_bytes"] for run in settled)
    return f"{name}, OPTIMIZE FINAL included: {_rate(rate)} rows/s, {_megabytes(disk_bytes)} on disk."


def _medians(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    succeeded = [run for run in runs if "failed" not in run]
    if not succeeded:
        return None
    names = ("rows_per_second", "disk_bytes", "peak_bytes")
    return {name: statistics.median(run[name] for run in succeeded) for name in names}


def _is_sound(contestant: Contestant, runs: list[dict[str, Any]], load: workload.Workload) -> bool:
    return _agrees(runs, load) if contestant.is_upsert else all("failed" not in run for run in runs)


def _agrees(runs: list[dict[str, Any]], load: workload.Workload) -> bool:
    expected = (load.keys, load.usage_user_sum)
    return all((run.get("answer_rows"), run.get("answer_sum")) == expected for run in runs)


def _ratio(contestant: Contestant, ours: dict[str, float] | None, theirs: dict[str, float], name: str) -> str:
    if ours is None or contestant.name == OURS or theirs[name] == 0:
        return ""
    return f"{ours[name] / theirs[name]:.2f} times"


def _rate(rows_per_second: float) -> str:
    return f"{rows_per_second / 1e6:.2f} M"


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
