"""Ingest at length, in small pieces, by several threads, and within a budget of memory: two sections of the results.

    python benchmarks/scale.py [--write-results]

"scale" is what ingest.py measures with the rows of twelve hours, in one round; a system that takes longer than its
limit is stopped, and the table says so. "writers" is the rest: batches of 1,000 rows beside the peers that take them;
one thread and four at a fast disk and at one whose syncs take 5 ms; and mitoframe alone with ten times the rows, which
tells whether it slows down, and whether its memory keeps to the budget. The longer runs get the rows of two hours again
and again, each time two hours later.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ingest
import pyarrow as pa
import report
import workload

HOURS = 2.0
TEN_TIMES = 10
SMALL_ROWS, SMALL_BATCH_ROWS = 200_000, 1_000
SYNC_MS = 5.0
ROUNDS = 3
BUDGET_MIB = 256
"""For all write buffers. Ten times the rows take ten times as much."""
BEYOND_BUDGET_MIB = 300
THREADS_SCRIPT = ingest.PEERS / "mitoframe_threads.py"
SMALL = (ingest.OURS, "DuckDB", "chDB")


def main() -> None:
    arguments = _arguments()
    load = workload.prepare(hosts=arguments.hosts, hours=HOURS, batches=12, seed=123)
    sections = []
    if "scale" in arguments.sections:
        sections.append(_scale(load, arguments))
    if "writers" in arguments.sections:
        sections.append(_writers(load, arguments))
    for section in sections:
        print(f"\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}", flush=True)
        if arguments.write_results:
            report.record(section)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ingest at length, in small pieces, by several threads.")
    parser.add_argument("--hosts", type=int, default=4000)
    parser.add_argument("--hours", type=float, default=12.0, help="of the section scale: a multiple of 2")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the section writers")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run these systems alone")
    parser.add_argument("--sections", nargs="*", default=["scale", "writers"])
    parser.add_argument("--peers-python", type=Path, default=ingest.PEERS_PYTHON)
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace, names: Sequence[str]) -> list[ingest.Contestant]:
    return [
        one for one in ingest.CONTESTANTS if one.name in names and (not arguments.only or one.name in arguments.only)
    ]


def _repeated(load: workload.Workload, times: int) -> tuple[workload.Workload, list[str]]:
    longer = replace(
        load,
        batches=load.batches * times,
        rows=load.rows * times,
        keys=load.keys * times,
        usage_user_sum=load.usage_user_sum * times,
    )
    return longer, ["--repeat", str(times), "--span-seconds", str(HOURS * 3600)]


# --- at length -----------------------------------------------------------------------------------------


def _scale(load: workload.Workload, arguments: argparse.Namespace) -> report.Section:
    chosen = _chosen(arguments, [one.name for one in ingest.CONTESTANTS])
    longer, options = _repeated(load, round(arguments.hours / HOURS))
    print(f"{longer.rows:,} rows in {longer.batches} batches", flush=True)
    runs = ingest.run_all(chosen, longer, rounds=1, seed=123, peers_python=arguments.peers_python, options=options)
    ingest.stop_if_wrong(chosen, runs, longer)
    return ingest.summary(
        chosen,
        runs,
        longer,
        name="scale",
        title=f"Ingest of {arguments.hours:g} hours",
        targets=lambda medians: _scale_targets(medians, runs, longer),
    )


def _scale_targets(medians: ingest.Medians, runs: ingest.Runs, load: workload.Workload) -> ingest.Targets:
    what = "rows per second, mitoframe over"
    return [
        *ingest.ratio_target(medians, "chDB", 2.5, f"{what} chDB, both synced"),
        *ingest.ratio_target(medians, "DuckDB", 6, f"{what} DuckDB's upsert"),
        *ingest.stopped_target(medians, runs, load, "delta-rs", 5, f"{what} delta-rs' merge"),
        *ingest.ratio_target(medians, "ArcticDB", 1, f"{what} ArcticDB's append"),
        *ingest.disk_target(medians),
    ]


# --- writers -------------------------------------------------------------------------------------------


def _writers(load: workload.Workload, arguments: argparse.Namespace) -> report.Section:
    piece = _first_rows(load, SMALL_ROWS)
    small_runs = _run_small(piece, arguments)
    thread_runs = _run_threads(piece, arguments.rounds)
    once, often = _run_lengths(load, arguments)
    small = {name: _median(of_one) for name, of_one in small_runs.items()}
    threads = {name: _median(of_one) for name, of_one in thread_runs.items()}
    lengths = {"once": _median(once), "ten times": _median(often)}
    peak_bytes = statistics.median(run["peak_bytes"] for run in often)
    rows = [[f"{name}, batches of 1,000 rows, one thread", _thousands(rate)] for name, rate in small.items()]
    rows += [[f"mitoframe, batches of 1,000 rows, {name}", _thousands(rate)] for name, rate in threads.items()]
    rows += [[f"mitoframe, {load.rows:,} rows, {name}", _thousands(rate)] for name, rate in lengths.items()]
    return report.Section(
        name="writers",
        title="Small batches, several threads, length, memory",
        command="make bench",
        table=report.Table(head=["what", "rows/s"], rows=rows),
        targets=[
            *_at_least("batches of 1,000 rows, mitoframe over DuckDB", small, ingest.OURS, "DuckDB", 3.0),
            *_at_least("syncs take 5 ms, four threads over one", threads, "4 threads, slow", "1 thread, slow", 2.5),
            *_at_least("fast disk, four threads over one", threads, "4 threads, fast", "1 thread, fast", 1.0),
            *_at_least("rows per second at ten times the rows over once", lengths, "ten times", "once", 0.9),
            _memory_target(peak_bytes),
        ],
        notes=[
            f"Medians of {arguments.rounds} rounds, each run in a fresh process.",
            _note_on_small(piece.rows),
            _note_on_memory(),
        ],
        raw={"small": small_runs, "threads": thread_runs, "once": once, "ten_times": often},
    )


def _run_small(piece: workload.Workload, arguments: argparse.Namespace) -> ingest.Runs:
    options = ["--batch-rows", str(SMALL_BATCH_ROWS), "--rows", str(piece.rows)]
    return _sound(_chosen(arguments, SMALL), piece, arguments, options)


def _run_lengths(
    load: workload.Workload, arguments: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    budget = ("--budget-mib", str(BUDGET_MIB))
    ours = [replace(one, arguments=budget) for one in ingest.CONTESTANTS if one.name == ingest.OURS]
    longer, options = _repeated(load, TEN_TIMES)
    once = _sound(ours, load, arguments, [])
    return once[ingest.OURS], _sound(ours, longer, arguments, options)[ingest.OURS]


def _sound(
    contestants: Sequence[ingest.Contestant],
    load: workload.Workload,
    arguments: argparse.Namespace,
    options: Sequence[str],
) -> ingest.Runs:
    runs = ingest.run_all(
        contestants, load, rounds=arguments.rounds, seed=123, peers_python=arguments.peers_python, options=options
    )
    ingest.stop_if_wrong(contestants, runs, load)
    return runs


def _first_rows(load: workload.Workload, rows_max: int) -> workload.Workload:
    """Tell what the first rows hold; all of them are in the first batch, where no key comes twice."""
    with pa.OSFile(str(load.path)) as source:
        first = pa.ipc.open_file(source).get_batch(0)
    rows = min(rows_max, len(first) // SMALL_BATCH_ROWS * SMALL_BATCH_ROWS)
    total = sum(first.column("usage_user").slice(0, rows).to_pylist())
    return replace(load, batches=rows // SMALL_BATCH_ROWS, rows=rows, keys=rows, usage_user_sum=total)


def _run_threads(load: workload.Workload, rounds: int) -> ingest.Runs:
    runs: ingest.Runs = {}
    for _ in range(rounds):
        for disk, sync_ms in (("slow", SYNC_MS), ("fast", 0.0)):
            for threads in (1, 4):
                name = f"{threads} thread{'s' * (threads > 1)}, {disk}"
                measured = _run_threads_once(load, threads, sync_ms)
                print(f"{name:24} {_thousands(measured['rows_per_second'])}", flush=True)
                runs.setdefault(name, []).append(measured)
    return runs


def _run_threads_once(load: workload.Workload, threads: int, sync_ms: float) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=workload.DATA))
    command = [sys.executable, str(THREADS_SCRIPT), "--input", str(load.path), "--folder", str(folder)]
    command += ["--threads", str(threads), "--sync-ms", str(sync_ms), "--rows", str(load.rows)]
    try:
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    measured: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    if measured["answer_rows"] != load.rows:
        sys.exit(f"{threads} threads wrote {load.rows} rows, and {measured['answer_rows']} are there")
    return measured


# --- telling -------------------------------------------------------------------------------------------


def _note_on_small(rows: int) -> str:
    return (
        f"Batches of 1,000 rows: {rows:,} rows. Beside peers the clock runs until all are in final files; with "
        "several threads until the last batch is acknowledged."
    )


def _note_on_memory() -> str:
    return (
        f"Length and memory: {BUDGET_MIB} MiB for all write buffers (`global_write_buffer_size_bytes`), which ten "
        "times the rows would fill ten times; memory is how far the resident set rises meanwhile."
    )


def _median(runs: Sequence[dict[str, Any]]) -> float:
    return float(statistics.median(run["rows_per_second"] for run in runs))


def _at_least(what: str, rates: dict[str, float], ours: str, theirs: str, wanted: float) -> ingest.Targets:
    if ours not in rates or theirs not in rates:
        return []
    ratio = rates[ours] / rates[theirs]
    return [
        report.Target(
            what=what, wanted=f"at least {wanted:g} times", found=f"{ratio:.2f} times", is_met=ratio >= wanted
        )
    ]


def _memory_target(peak_bytes: float) -> report.Target:
    most_mib = BUDGET_MIB + BEYOND_BUDGET_MIB
    return report.Target(
        what="peak memory at ten times the write buffers' budget",
        wanted=f"at most {most_mib} MiB",
        found=f"{peak_bytes / 2**20:.0f} MiB",
        is_met=peak_bytes <= most_mib << 20,
    )


def _thousands(rows_per_second: float) -> str:
    return f"{rows_per_second / 1e3:,.0f} k"


if __name__ == "__main__":
    main()
