"""The compactor: how fast files are merged, and in how much memory, beside Polars.

    python benchmarks/compactor.py [--hosts N] [--hours H] [--store FOLDER] [--write-results]

Generated TSBS rows (ten tags, ten fields) in four overlapping runs, each a flush; or the files of a store that is
there, which is read and left as it is. All files are one task, with outputs of the usual size. Beside it what a plain
Polars program does with the same files: read, sort by host and time, write with Zstandard. Each run is a process of its
own, on all cores; told is the fastest, and the highest peak of the resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import report

import mitoframe
from mitoframe.drivers.clock import SystemRandomness
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.jobs.compact import compact_task
from mitoframe.jobs.tasks import CompactionTask
from mitoframe.model.ids import FileId
from mitoframe.model.options import MIB, CompactionOptions
from mitoframe.storage.paths import sst_key
from mitoframe.storage.sst_reader import SstReader
from mitoframe.tsbs import TAGS, TIME, tsbs_cpu_table

TABLE = "cpu"
RUNS = 4
REPEATS = 3
RATIO_MIN = 0.8
PEAK_MIB_MAX = 512
GIB = 1 << 30
AT_REST = {
    "write_buffer_size_bytes": 16 * GIB,
    "write_buffer_limit_bytes": 32 * GIB,
    "global_write_buffer_size_bytes": 64 * GIB,
    "global_write_buffer_reject_bytes": 128 * GIB,
    "backfill_size_bytes": 16 * GIB,
    "auto_flush_interval_ms": 10**12,
    "compaction_mode": "manual",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast files are merged, and in how much memory.")
    parser.add_argument("--hosts", type=int, default=4000)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--store", type=Path, help="a folder with a store that holds a table 'cpu'")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    parser.add_argument("--run", choices=list(RUNNERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        _run(RUNNERS[arguments.run], arguments.store)
        return
    with tempfile.TemporaryDirectory(prefix="mitoframe-compactor-") as scratch:
        store = arguments.store or _made(Path(scratch) / "store", arguments.hosts, arguments.hours)
        section = _section({name: _measured(name, store) for name in RUNNERS})
    print(f"\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}", flush=True)
    if arguments.write_results:
        report.record(section)


def _made(folder: Path, hosts: int, hours: float) -> Path:
    rows = pl.DataFrame(tsbs_cpu_table(hosts, hours))
    host, tick = pl.col("hostname").str.slice(len("host_")).cast(pl.Int64), pl.col(TIME).cast(pl.Int64) // 10**10
    with mitoframe.open(folder, sync="never", **AT_REST) as database:
        for piece in range(RUNS):
            database.write(rows.filter((host + tick) % RUNS == piece), TABLE, time=TIME, tags=TAGS)
            database[TABLE].flush()
    return folder


# --- one run, in a process of its own -------------------------------------------------------------------


def _merge(store: Path, scratch: Path) -> dict[str, Any]:
    with mitoframe.open(store, mode="r") as database:
        state = database.engine.region(database[TABLE].region_id).state
    reader = SstReader(LocalObjectStore(OsVfs(str(store))))
    randomness = SystemRandomness()
    task = CompactionTask(
        window_start=0,
        inputs=tuple(state.files.values()),
        drop_deletes=True,
        output_size_max_bytes=CompactionOptions().output_size_max_bytes,
    )
    helpers_max = (os.cpu_count() or 1) - 1
    with ThreadPoolExecutor(helpers_max or 1) as pool:
        began = _now()
        made = compact_task(
            state.metadata,
            task,
            dedup=state.options.dedup,
            store=LocalObjectStore(OsVfs(str(scratch))),
            reader=reader,
            new_file_id=lambda: FileId(randomness.hex128()),
            row_group_rows=102_400,
            now_ms=0,
            submit=pool.submit,
            helpers_max=helpers_max,
        )
        taken = _since(began)
    return taken | {
        "rows_in": sum(file.row_count for file in task.inputs),
        "rows_out": sum(file.row_count for file in made),
        "bytes_in": sum(file.size_bytes for file in task.inputs),
        "bytes_out": sum(file.size_bytes for file in made),
        "files_in": len(task.inputs),
        "files_out": len(made),
    }


def _sort(store: Path, scratch: Path) -> dict[str, Any]:
    with mitoframe.open(store, mode="r") as database:
        state = database.engine.region(database[TABLE].region_id).state
    files = [str(store / sst_key(state.metadata.region_id, file_id)) for file_id in state.files]
    began = _now()
    rows = pl.read_parquet(files).sort("hostname", TIME)
    rows.write_parquet(scratch / "sorted.parquet", compression="zstd", compression_level=1)
    taken = _since(began)
    return taken | {
        "rows_in": rows.height,
        "rows_out": rows.height,
        "bytes_in": sum(Path(file).stat().st_size for file in files),
        "bytes_out": (scratch / "sorted.parquet").stat().st_size,
        "files_in": len(files),
        "files_out": 1,
    }


RUNNERS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {"mitoframe": _merge, "Polars": _sort}


def _run(runner: Callable[[Path, Path], dict[str, Any]], store: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mitoframe-compactor-") as scratch:
        measured = runner(store, Path(scratch))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write("\n" + json.dumps(measured | {"peak_bytes": peak_bytes}) + "\n")


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - began[0], "processor_seconds": time.process_time() - began[1]}


# --- the outcome ----------------------------------------------------------------------------------------


def _measured(name: str, store: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--run", name, "--store", str(store)]
    runs = []
    for _ in range(REPEATS):
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    fastest = min(runs, key=lambda run: run["seconds"])
    return fastest | {"peak_bytes": max(run["peak_bytes"] for run in runs)}


def _section(found: dict[str, dict[str, Any]]) -> report.Section:
    ours, theirs = found["mitoframe"], found["Polars"]
    ratio = _rows_per_second(ours) / _rows_per_second(theirs)
    peak_mib = ours["peak_bytes"] / MIB
    return report.Section(
        name="compactor",
        title="Compaction: merging files",
        command="python benchmarks/compactor.py",
        table=report.Table(
            head=["what", "M rows/s", "seconds", "processor seconds", "peak memory", "files", "bytes written"],
            rows=[[name, *_told(run)] for name, run in found.items()],
        ),
        targets=[
            report.Target(
                what="rows merged a second, over Polars reading, sorting and writing the same files",
                wanted=f"at least {RATIO_MIN:g} times",
                found=f"{ratio:.2f} times",
                is_met=ratio >= RATIO_MIN,
            ),
            report.Target(
                what="peak memory of a process that merges",
                wanted=f"at most {PEAK_MIB_MAX} MiB",
                found=f"{peak_mib:.0f} MiB",
                is_met=peak_mib <= PEAK_MIB_MAX,
            ),
        ],
        notes=[
            f"{ours['rows_in']:,} rows in {ours['files_in']} files; the fastest of {REPEATS} processes, on all cores.",
            "Polars: read_parquet, sort by host and time, write_parquet; versions of a row are not told apart.",
        ],
        raw=found,
    )


def _rows_per_second(run: dict[str, Any]) -> float:
    return float(run["rows_in"] / run["seconds"])


def _told(run: dict[str, Any]) -> list[str]:
    return [
        f"{_rows_per_second(run) / 1e6:.2f}",
        f"{run['seconds']:.2f}",
        f"{run['processor_seconds']:.2f}",
        f"{run['peak_bytes'] / MIB:.0f} MiB",
        f"{run['files_in']} to {run['files_out']}",
        f"{run['bytes_out'] / MIB:.0f} MiB",
    ]


if __name__ == "__main__":
    main()
