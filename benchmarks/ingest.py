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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
import workload

PEERS = Path(__file__).parent / "peers"
PEERS_PYTHON = Path(__file__).parent.parent / ".venv-peers" / "bin" / "python"
OURS = "mitoframe"
RUN_SECONDS_MAX = 900.0
START_SECONDS_MAX = 30.0
"""What a run may take beyond that before its clock starts."""
BATCHES_PER_HOUR = 6
"""With 4,000 hosts a batch has 240,000 rows."""
SPEED_TARGET = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    name: str
    script: str
    what: str
    arguments: tuple[str, ...] = ()
    is_upsert: bool = True
    seconds_max: float = RUN_SECONDS_MAX


CONTESTANTS = (
    Contestant(name=OURS, script="mitoframe_upsert.py", what="upsert, log synced per batch, flushed, compacted"),
    Contestant(name="chDB", script="chdb_replacing.py", what="ReplacingMergeTree, parts synced"),
    Contestant(
        name="chDB fastest",
        script="chdb_replacing.py",
        what="the same, nothing synced, optimize_on_insert=0",
        arguments=("--fastest",),
    ),
    Contestant(name="DuckDB", script="duckdb_upsert.py", what="INSERT OR REPLACE on a primary key"),
    Contestant(name="delta-rs", script="delta_merge.py", what="merge", seconds_max=300.0),
    Contestant(name="ArcticDB", script="arcticdb_append.py", what="append: no upsert, no log", is_upsert=False),
)

Runs = dict[str, list[dict[str, Any]]]
Medians = Mapping[str, dict[str, float] | None]
Targets = list[report.Target]


def main() -> None:
    arguments = _arguments()
    chosen = [one for one in CONTESTANTS if not arguments.only or one.name in arguments.only]
    batches = arguments.batches or max(1, round(arguments.hours * BATCHES_PER_HOUR))
    load = workload.prepare(hosts=arguments.hosts, hours=arguments.hours, batches=batches, seed=arguments.seed)
    print(f"{load.rows:,} rows in {load.batches} batches, {load.keys:,} keys", flush=True)
    runs = run_all(chosen, load, rounds=arguments.rounds, seed=arguments.seed, peers_python=arguments.peers_python)
    section = summary(chosen, runs, load, name="ingest", title="Ingest with upsert semantics", targets=_targets)
    print(f"\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}", flush=True)
    stop_if_wrong(chosen, runs, load)
    if arguments.write_results:
        report.record(section)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ingest with upsert semantics, beside peers.")
    parser.add_argument("--hosts", type=int, default=4000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--batches", type=int, help=f"{BATCHES_PER_HOUR} an hour, if not told")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run these alone, such as mitoframe chDB")
    parser.add_argument("--peers-python", type=Path, default=PEERS_PYTHON, help="the interpreter that has the peers")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    return parser.parse_args()


# --- running -------------------------------------------------------------------------------------------


def run_all(
    contestants: Sequence[Contestant],
    load: workload.Workload,
    *,
    rounds: int,
    seed: int,
    peers_python: Path,
    options: Sequence[str] = (),
) -> Runs:
    """Let the systems take turns. ``options`` are the harness's."""
    runs: Runs = {one.name: [] for one in contestants}
    shuffle = random.Random(seed)
    for number in range(rounds):
        for one in shuffle.sample(list(contestants), len(contestants)):
            interpreter = sys.executable if one.name == OURS else str(peers_python)
            measured = run_one(one, load, interpreter, options)
            runs[one.name].append(measured | {"round": number})
            print(_progress(number, one, measured), flush=True)
    return runs


def run_one(
    contestant: Contestant, load: workload.Workload, interpreter: str, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Run one system in a fresh process. A failure is a result too, and so is a run that was stopped for its length."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=workload.DATA))
    command = [
        interpreter,
        str(PEERS / contestant.script),
        *contestant.arguments,
        *("--input", str(load.path)),
        *("--folder", str(folder)),
        *options,
    ]
    os.sync()  # what the run before left unwritten is not this one's to write
    try:
        seconds_max = contestant.seconds_max + START_SECONDS_MAX
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds_max)
    except subprocess.TimeoutExpired:
        return {"stopped_after_seconds": contestant.seconds_max}
    except OSError as error:
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
    if _was_stopped(measured):
        return f"{start} stopped after {measured['stopped_after_seconds']:.0f} s"
    return (
        f"{start} {rate_text(measured['rows_per_second'])}  {_megabytes(measured['disk_bytes'])} on disk  "
        f"{_megabytes(measured['peak_bytes'])} of memory"
    )


# --- telling -------------------------------------------------------------------------------------------


def summary(
    contestants: Sequence[Contestant],
    runs: Runs,
    load: workload.Workload,
    *,
    name: str,
    title: str,
    targets: Callable[[Medians], Targets],
) -> report.Section:
    medians = {one.name: medians_of(runs[one.name]) for one in contestants}
    ours = medians.get(OURS)
    rounds = max(len(of_one) for of_one in runs.values())
    settled = [_settled_note(one.name, runs[one.name]) for one in contestants]
    return report.Section(
        name=name,
        title=title,
        command="make bench",
        table=report.Table(
            head=[
                *("system", "rows/s", "mitoframe is", "on disk", "bytes per row", "mitoframe has"),
                *("peak memory", "mitoframe takes", "answer"),
            ],
            rows=[_row(one, medians[one.name], ours, runs[one.name], load) for one in contestants],
        ),
        targets=targets(medians),
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
        stopped = any(map(_was_stopped, runs))
        return [contestant.name, f"not done in {contestant.seconds_max:.0f} s" if stopped else "failed", *[""] * 7]
    answer = ("same" if _agrees(runs, load) else "**other**") if contestant.is_upsert else "not compared"
    return [
        contestant.name,
        rate_text(median["rows_per_second"]),
        _ratio(contestant, ours, median, "rows_per_second"),
        _megabytes(median["disk_bytes"]),
        f"{median['disk_bytes'] / load.keys:.1f}",
        _ratio(contestant, ours, median, "disk_bytes"),
        _megabytes(median["peak_bytes"]),
        _ratio(contestant, ours, median, "peak_bytes"),
        answer,
    ]


def _targets(medians: Medians) -> Targets:
    """Compare with chDB at the same durability; unsynced chDB is in the table, with its ratio."""
    return [
        *ratio_target(medians, "chDB", SPEED_TARGET, "rows per second, mitoframe over chDB, both synced"),
        *ratio_target(medians, "delta-rs", 5, "rows per second, mitoframe over delta-rs' merge"),
        *disk_target(medians),
    ]


def ratio_target(medians: Medians, peer: str, wanted: float, what: str) -> Targets:
    """Compare rates; nothing if one of the two did not run."""
    ours, theirs = medians.get(OURS), medians.get(peer)
    if ours is None or theirs is None:
        return []
    return [_ratio_target(what, wanted, ours["rows_per_second"] / theirs["rows_per_second"])]


def stopped_target(
    medians: Medians, runs: Runs, load: workload.Workload, peer: str, wanted: float, what: str
) -> Targets:
    """Compare rates as `ratio_target`; of a peer that was stopped it is known that it is slower than its limit."""
    ours, limits = medians.get(OURS), [run["stopped_after_seconds"] for run in runs.get(peer, []) if _was_stopped(run)]
    if ours is None or not limits:
        return ratio_target(medians, peer, wanted, what)
    return [_ratio_target(what, wanted, ours["rows_per_second"] * min(limits) / load.rows, more="more than ")]


def _ratio_target(what: str, wanted: float, ratio: float, more: str = "") -> report.Target:
    return report.Target(
        what=what, wanted=f"at least {wanted:g} times", found=f"{more}{ratio:.2f} times", is_met=ratio >= wanted
    )


def disk_target(medians: Medians) -> Targets:
    """Compare bytes on disk with the peer that needs the fewest."""
    ours = medians.get(OURS)
    peers = {name: median["disk_bytes"] for name, median in medians.items() if name != OURS and median is not None}
    if ours is None or not peers:
        return []
    least = min(peers, key=lambda name: peers[name])
    ratio = ours["disk_bytes"] / peers[least]
    return [
        report.Target(
            what=f"bytes on disk, mitoframe over the least of its peers ({least})",
            wanted="below 1 times",
            found=f"{ratio:.2f} times",
            is_met=ratio < 1,
        )
    ]


def _settled_note(name: str, runs: list[dict[str, Any]]) -> str:
    settled = [run for run in runs if run.get("settle_seconds") is not None]
    if not settled:
        return ""
    rate = statistics.median(run["rows"] / (run["seconds"] + run["settle_seconds"]) for run in settled)
    disk_bytes = statistics.median(run["settled_disk_bytes"] for run in settled)
    return f"{name}, OPTIMIZE FINAL included: {rate_text(rate)} rows/s, {_megabytes(disk_bytes)} on disk."


def medians_of(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    succeeded = [run for run in runs if "failed" not in run and not _was_stopped(run)]
    if not succeeded:
        return None
    names = ("rows_per_second", "disk_bytes", "peak_bytes")
    return {name: statistics.median(run[name] for run in succeeded) for name in names}


def stop_if_wrong(contestants: Sequence[Contestant], runs: Runs, load: workload.Workload) -> None:
    wrong = [one.name for one in contestants if not _is_sound(one, runs[one.name], load)]
    if wrong:
        sys.exit(f"failed, or gave another answer than expected: {', '.join(wrong)}; nothing is recorded")


def _is_sound(contestant: Contestant, runs: list[dict[str, Any]], load: workload.Workload) -> bool:
    return _agrees(runs, load) if contestant.is_upsert else all("failed" not in run for run in runs)


def _agrees(runs: list[dict[str, Any]], load: workload.Workload) -> bool:
    expected = (load.keys, load.usage_user_sum)
    answers = [(run.get("answer_rows"), run.get("answer_sum")) for run in runs if not _was_stopped(run)]
    return all(answer == expected for answer in answers)


def _was_stopped(run: dict[str, Any]) -> bool:
    return "stopped_after_seconds" in run


def _ratio(contestant: Contestant, ours: dict[str, float] | None, theirs: dict[str, float], name: str) -> str:
    if ours is None or contestant.name == OURS or theirs[name] == 0:
        return ""
    return f"{ours[name] / theirs[name]:.2f} times"


def rate_text(rows_per_second: float) -> str:
    return f"{rows_per_second / 1e6:.2f} M"


def _megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
