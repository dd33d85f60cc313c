"""Maintenance: what compaction costs and what it leaves, what ingest loses by it, and what many files cost.

    python benchmarks/maintenance.py [--write-results] [--sections compactor amplification beside files] [--small]

Four sections of the results: "compactor" is how fast files are merged, and in how much memory, beside Polars;
"amplification" what the picker's decisions come to, and how fast they are made; "beside" what is left of the rate of
ingest while flushes and compactions run; "files" a vacuum of 10,000 files and the opening of a table of 10,000. What is
timed runs in a process of its own, which says what it measured in its last line; ratios are of runs that took turns.
``--small`` is a quick try, and is not recorded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ingest
import numpy as np
import polars as pl
import report
import workload

import mitoframe
from mitoframe.drivers import vfs_os
from mitoframe.drivers.clock import ManualClock, SeededRandomness, SystemRandomness
from mitoframe.drivers.log_memory import NoopLog
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.engine.engine import MitoEngine
from mitoframe.frames.arrow import to_batch
from mitoframe.jobs import backfill
from mitoframe.jobs.arrivals import DAY_MS, WriteLoad, flushes_of
from mitoframe.jobs.compact import compact_task
from mitoframe.jobs.picking import PATIENCE_MAX
from mitoframe.jobs.simulator import simulate
from mitoframe.jobs.tasks import AUTOMATIC, WHOLE_TABLE, CompactionScope, CompactionTask
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId, region_id
from mitoframe.model.ids import Sequence as RowSequence
from mitoframe.model.options import HOUR_MS, MIB, CompactionOptions, CompactionPolicy, MitoConfig, RegionOptions
from mitoframe.model.request import CompactRequest, CreateRequest
from mitoframe.model.schema import build_metadata
from mitoframe.storage import memtable
from mitoframe.storage.paths import sst_key
from mitoframe.storage.sst_reader import SstReader
from mitoframe.tsbs import SCHEMA, TAGS, TIME, tsbs_cpu, tsbs_cpu_table

sys.path.insert(0, str(ingest.PEERS))
from harness import WARM_UP_ROWS, read, repeated, status_bytes, tag_columns
from queries_stores import AT_REST

TABLE = "cpu"
COMMAND = "make bench"
SECTIONS = ("compactor", "amplification", "beside", "files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        hosts: of all tables but those of many files; each sends a row every 10 seconds.
        merged_hours: of what is merged beside Polars.
        merged_more: what is merged for its memory has so many times the rows.
        day_hosts: of the day whose bytes are counted.
        repeats: how often rows of two hours come while ingest is timed.
        files: of the table that is opened and vacuumed.
        rounds: runs of each kind that is timed.

    """

    hosts: int = 4000
    merged_hours: float = 3.0
    merged_more: int = 4
    day_hosts: int = 1000
    repeats: int = 3
    files: int = 10_000
    rounds: int = 3


SMALL = Scale(hosts=400, merged_hours=2.0, day_hosts=100, repeats=2, files=500, rounds=2)


def main() -> None:
    parser = argparse.ArgumentParser(description="What maintenance costs, and what it leaves.")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--small", action="store_true", help="a quick try, which is not recorded")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    parser.add_argument("--run", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        name, *rest = arguments.run
        sys.stdout.write("\n" + json.dumps(RUNNERS[name](*rest)) + "\n")
        return
    scale = SMALL if arguments.small else Scale()
    for name in arguments.sections:
        section = MEASURES[name](scale)
        print(f"\n{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}", flush=True)
        if arguments.write_results and not arguments.small:
            report.record(section)


def _run(name: str, *arguments: object) -> dict[str, Any]:
    """Run something in a fresh process, and return what it measured."""
    command = [sys.executable, __file__, "--run", name, *map(str, arguments)]
    os.sync()  # What the run before left unwritten is not this one's to write.
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:24} {json.dumps({key: found for key, found in measured.items() if np.isscalar(found)})}", flush=True)
    return measured


@contextmanager
def _scratch() -> Iterator[Path]:
    workload.DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="maintenance-", dir=workload.DATA) as folder:
        yield Path(folder)


# --- merging files --------------------------------------------------------------------------------------

OVERLAPPING = 4
"""So many files hold the same hosts and times."""
RATIO_MIN = 0.8
PEAK_MIB_MAX = 512


def measure_compactor(scale: Scale) -> report.Section:
    with _scratch() as scratch:
        store, larger = scratch / "store", scratch / "larger"
        _make_overlapping(store, scale, 1)
        _make_overlapping(larger, scale, scale.merged_more)
        runs: dict[str, list[dict[str, Any]]] = {"mitoframe": [], "Polars": []}
        for _ in range(scale.rounds):
            runs["mitoframe"].append(_run("merge", store))
            runs["Polars"].append(_run("sort", store))
        runs[f"mitoframe, {scale.merged_more} times the rows"] = [_run("merge", larger)]
    fastest = {name: min(of_one, key=lambda run: run["seconds"]) for name, of_one in runs.items()}
    ratio = _rows_per_second(fastest["mitoframe"]) / _rows_per_second(fastest["Polars"])
    processor = fastest["Polars"]["processor_seconds"] / fastest["mitoframe"]["processor_seconds"]
    peak_mib = max(run["peak_bytes"] for name, of_one in runs.items() if name != "Polars" for run in of_one) / MIB
    return report.Section(
        name="compactor",
        title="Compaction: merging files",
        command=COMMAND,
        table=report.Table(
            head=["what", "M rows/s", "seconds", "processor seconds", "peak memory", "files", "bytes written"],
            rows=[[name, *_merge_cells(run)] for name, run in fastest.items()],
        ),
        targets=[
            report.Target(
                what="rows merged a second, over Polars reading, sorting and writing the same files",
                wanted=f"at least {RATIO_MIN:g} times",
                found=f"{ratio:.2f} times",
                is_met=ratio >= RATIO_MIN,
            ),
            _at_most("peak memory of a process that merges, the highest", peak_mib, PEAK_MIB_MAX, " MiB", digits=0),
        ],
        notes=_notes_on_merging(fastest["mitoframe"], processor, scale),
        raw=runs,
    )


def _notes_on_merging(ours: Mapping[str, Any], processor: float, scale: Scale) -> list[str]:
    return [
        (
            f"{ours['rows_in']:,} rows; {OVERLAPPING} files hold the same hosts and times. All are one "
            f"task, with outputs of the usual size; the fastest of {scale.rounds} processes, on all cores."
        ),
        "Polars: read_parquet, sort by host and time, write_parquet; versions of a row are not told apart.",
        f"By processor time mitoframe is at {processor:.2f} times the rate of Polars.",
        "Peak memory is that of the whole process, with imports and compiled code.",
    ]


def _make_overlapping(folder: Path, scale: Scale, times: int) -> None:
    """Write the rows in overlapping files, and again later, so often; a write of any size becomes a file at once."""
    rows = pl.DataFrame(tsbs_cpu_table(scale.hosts, scale.merged_hours))
    host, tick = pl.col("hostname").str.slice(len("host_")).cast(pl.Int64), pl.col(TIME).cast(pl.Int64) // 10**10
    with mitoframe.open(folder, sync="never", backfill_size_bytes=1, compaction_mode="manual") as database:
        for number, piece in itertools.product(range(times), range(OVERLAPPING)):
            dealt = rows.filter((host + tick) % OVERLAPPING == piece)
            later = dealt.with_columns(pl.col(TIME) + pl.duration(seconds=round(number * scale.merged_hours * 3600)))
            database.write(later, TABLE, time=TIME, tags=TAGS)


def _merge(store: str) -> dict[str, Any]:
    with mitoframe.open(store, mode="r") as database:
        state = database.engine.region(database[TABLE].region_id).state
    reader = SstReader(LocalObjectStore(OsVfs(store)))
    randomness = SystemRandomness()
    task = CompactionTask(
        window_start=0,
        inputs=tuple(state.files.values()),
        drop_deletes=True,
        output_size_max_bytes=CompactionOptions().output_size_max_bytes,
    )
    helpers_max = (os.cpu_count() or 1) - 1
    with _scratch() as scratch, ThreadPoolExecutor(helpers_max or 1) as pool:
        began = _now()
        made = compact_task(
            state.metadata,
            task,
            dedup=state.options.dedup,
            store=LocalObjectStore(OsVfs(str(scratch))),
            reader=reader,
            new_file_id=lambda: FileId(randomness.hex128()),
            row_group_rows=MitoConfig().row_group_rows,
            now_ms=0,
            submit=pool.submit,
            helpers_max=helpers_max,
        )
        taken = _since(began)
    return taken | {
        "rows_in": sum(file.row_count for file in task.inputs),
        "rows_out": sum(file.row_count for file in made),
        "bytes_out": sum(file.size_bytes for file in made),
        "files_in": len(task.inputs),
        "files_out": len(made),
        "peak_bytes": status_bytes("VmHWM"),
    }


def _sort(store: str) -> dict[str, Any]:
    with mitoframe.open(store, mode="r") as database:
        state = database.engine.region(database[TABLE].region_id).state
    files = [str(Path(store) / sst_key(state.metadata.region_id, file_id)) for file_id in state.files]
    with _scratch() as scratch:
        began = _now()
        rows = pl.read_parquet(files).sort("hostname", TIME)
        rows.write_parquet(scratch / "sorted.parquet", compression="zstd", compression_level=1)
        taken = _since(began)
        bytes_out = (scratch / "sorted.parquet").stat().st_size
    return taken | {
        "rows_in": rows.height,
        "rows_out": rows.height,
        "bytes_out": bytes_out,
        "files_in": len(files),
        "files_out": 1,
        "peak_bytes": status_bytes("VmHWM"),
    }


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - began[0], "processor_seconds": time.process_time() - began[1]}


def _rows_per_second(run: Mapping[str, Any]) -> float:
    return float(run["rows_in"] / run["seconds"])


def _merge_cells(run: Mapping[str, Any]) -> list[str]:
    return [
        f"{_rows_per_second(run) / 1e6:.2f}",
        f"{run['seconds']:.2f}",
        f"{run['processor_seconds']:.2f}",
        f"{run['peak_bytes'] / MIB:.0f} MiB",
        f"{run['files_in']} to {run['files_out']}",
        f"{run['bytes_out'] / MIB:.0f} MiB",
    ]


# --- what the picker's decisions come to ----------------------------------------------------------------

PICKED_FILES = 30_000
PICKED_WINDOWS = (1, 30, 1_000, 10_000)
TASKS_MAX = 16
LEAST_OF = 3
PICK_MS_MAX = 100
WRITE_AMPLIFICATION_MAX = 3.0
SIMULATION_MS_PER_FLUSH_MAX = 2.0
POLICIES: tuple[CompactionPolicy, ...] = ("count", "runs")
FULL_BUFFER_MINUTES = 28
"""When 4,000 hosts with ten fields, a row each every 10 seconds, have filled the write buffer of a table."""
BY_DEFAULT = "as it comes"
FEW = WriteLoad(late_share=0.05, flush_ms=FULL_BUFFER_MINUTES * 60_000)
MANY = WriteLoad(late_share=0.05)
LOADS: dict[str, tuple[WriteLoad, int | None]] = {
    BY_DEFAULT: (FEW, None),
    "a flush every 10 minutes": (MANY, None),
    "windows of 1 h": (FEW, HOUR_MS),
    "windows of 12 h": (FEW, 12 * HOUR_MS),
    "windows of 1 d": (FEW, DAY_MS),
    "in order": (replace(FEW, late_share=0.0), None),
    "20 percent up to 1 d late": (replace(FEW, late_share=0.2, late_ms=DAY_MS), None),
}
"""Histories, and the windows that are asked for."""
REGION = region_id(1, 0)


def measure_amplification(scale: Scale) -> report.Section:
    picks = {f"{kind}, {windows:,} windows": ms for windows in PICKED_WINDOWS for kind, ms in _picks(windows).items()}
    real = _run("day", scale.day_hosts)
    outcomes = {
        f"{name}: {policy}": _outcome(load, window_ms, policy)
        for name, (load, window_ms) in LOADS.items()
        for policy in POLICIES
    }
    simulated = outcomes[f"{BY_DEFAULT}: {CompactionOptions().policy}"]
    rows = [[f"{name} (simulated)", *_outcome_cells(outcome)] for name, outcome in outcomes.items()]
    rows.insert(0, [f"{scale.day_hosts:,} hosts, written and merged", *_outcome_cells(real)])
    slowest_ms = max(outcome["ms_per_flush"] for outcome in outcomes.values())
    return report.Section(
        name="amplification",
        title="Compaction: what is picked, and what comes of it",
        command=COMMAND,
        table=report.Table(
            head=["what", "written", "runs in a window, mean", "most", "files, most", "files left", "space"], rows=rows
        ),
        targets=[
            _at_most("bytes written for each flushed, a day, 5 percent late", real["written"], WRITE_AMPLIFICATION_MAX),
            _at_most("the same, simulated, rows up to 6 h late", simulated["written"], WRITE_AMPLIFICATION_MAX),
            _at_most(f"picking among {PICKED_FILES:,} files, the slowest", max(picks.values()), PICK_MS_MAX, " ms"),
            _at_most("simulating a flush, the slowest", slowest_ms, SIMULATION_MS_PER_FLUSH_MAX, " ms"),
        ],
        notes=_notes_on_picking(picks),
        raw={"picks": picks, "real": real, "outcomes": outcomes},
    )


def _notes_on_picking(picks: Mapping[str, float]) -> list[str]:
    return [
        (
            "A day of rows, one per host every 10 seconds, 5 percent of them late; then time goes by until all has "
            "settled. Written: bytes of all files that were made, for each byte that was flushed. Space: the most "
            "that was stored, with files in their grace of an hour, for each byte that is left."
        ),
        (
            "Written and merged: an engine in memory whose clock is moved along, by default options but for the write "
            "buffer, which is as much smaller as the hosts are fewer than 4,000; rows are up to half an hour late."
        ),
        (
            f"Simulated: 400 rows a second, up to 6 h late, a flush every {FULL_BUFFER_MINUTES} minutes where nothing "
            "else is said, as 4,000 hosts fill a write buffer; windows as the first merge finds them where none are "
            "told. Merges take no time."
        ),
        f"Picking up to {TASKS_MAX} merges, processor time, the least of {LEAST_OF}: "
        + "; ".join(f"{name} {ms:.0f} ms" for name, ms in picks.items())
        + ".",
    ]


def _picks(windows: int) -> dict[str, float]:
    files = _picked_files(windows)

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


def _picked_files(windows: int) -> list[FileMeta]:
    random = np.random.default_rng(1)
    number = random.integers(windows, size=PICKED_FILES)
    begin = (number + random.uniform(0, 0.7, PICKED_FILES)) * HOUR_MS
    span = random.uniform(0, 0.3, PICKED_FILES) * HOUR_MS
    size = random.lognormal(15, 1, PICKED_FILES)
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
            min_sequence=RowSequence(1000 * n + 1),
            max_sequence=RowSequence(1000 * n + 1000),
            schema_version=1,
            created_ms=0,
        )
        for n in range(PICKED_FILES)
    ]


def _least_ms(job: Callable[[], object]) -> float:
    taken = []
    for _ in range(LEAST_OF):
        began = time.process_time()
        job()
        taken.append(time.process_time() - began)
    return min(taken) * 1e3


def _outcome(load: WriteLoad, window_ms: int | None, policy: CompactionPolicy) -> dict[str, Any]:
    options = CompactionOptions(policy=policy, window_ms=window_ms)
    flushed = _flushed(load, options)
    arrivals = flushes_of(flushed)
    taken_ms = _least_ms(lambda: simulate(arrivals, options))
    simulation = simulate(arrivals, options)
    steps = simulation.steps
    return {
        "ms_per_flush": taken_ms / len(steps["at_ms"]),
        "written": float(steps["write_amplification"][-1]),
        "runs_mean": float(steps["runs_mean"][steps["at_ms"] <= arrivals[-1].at_ms].mean()),
        "runs_max": int(steps["runs_max"].max()),
        "files_max": int(steps["files"].max()),
        "files_left": len(simulation.files),
        "space": float(steps["stored_bytes"].max() / steps["live_bytes"].max()),
    }


def _flushed(load: WriteLoad, options: CompactionOptions) -> list[FileMeta]:
    """Return the files of a history: a flush divides its rows by days until the first merge has found the windows."""
    if options.window_ms is not None:
        return list(replace(load, partition_ms=options.window_ms).flushes())
    flushed = list(replace(load, partition_ms=DAY_MS).flushes())
    for at_ms in sorted({file.created_ms for file in flushed}):
        there = [file for file in flushed if file.created_ms <= at_ms]
        plan = plan_compaction(there, options, at_ms)
        if plan.tasks:
            later = replace(load, partition_ms=plan.window_ms).flushes()
            return there + [file for file in later if file.created_ms > at_ms]
    return flushed


def _day(hosts: str) -> dict[str, Any]:
    """Write a day of rows into an engine whose clock follows them, and add up what was written to files."""
    clock = ManualClock()
    engine = MitoEngine(
        object_store=MemoryObjectStore(clock),
        log=NoopLog(),
        scheduler=InlineScheduler(),
        clock=clock,
        randomness=SeededRandomness(1),
        config=MitoConfig(**_buffers(hosts)),
    )
    metadata = build_metadata(REGION, SCHEMA, time=TIME, tags=TAGS)
    region = engine.create(REGION, CreateRequest(metadata=metadata, options=RegionOptions(wal="noop")))
    files_max, minutes = 0, 24 * 60
    for batch in tsbs_cpu(int(hosts), minutes / 60, late=0.05, batches=minutes):
        clock.advance(60_000)
        engine.write(REGION, to_batch(metadata, batch))
        files_max = max(files_max, len(region.state.files))
    engine.flush(REGION)
    for _ in range(2 * PATIENCE_MAX):
        clock.advance(HOUR_MS)
        engine.compact(REGION, CompactRequest(mode="due"))
    made = [entry for entry in engine.history(REGION).entries if entry.what in ("flush", "compact")]
    flushed_bytes = sum(entry.bytes_out for entry in made if entry.what == "flush")
    return {
        "written": sum(entry.bytes_out for entry in made) / flushed_bytes,
        "flushes": sum(entry.what == "flush" for entry in made),
        "merges": sum(entry.what == "compact" for entry in made),
        "window_ms": region.state.compaction_window_ms,
        "flushed_bytes": flushed_bytes,
        "files_max": files_max,
        "files_left": len(region.state.files),
    }


def _outcome_cells(outcome: Mapping[str, Any]) -> list[str]:
    def told(name: str, form: str) -> str:
        return format(outcome[name], form) if name in outcome else ""

    return [
        f"{outcome['written']:.2f} times",
        told("runs_mean", ".1f"),
        told("runs_max", "d"),
        told("files_max", "d"),
        told("files_left", "d"),
        told("space", ".2f") and f"{outcome['space']:.2f} times",
    ]


# --- ingest beside flushes and compactions --------------------------------------------------------------

SPAN_HOURS = 2.0
LOSS_MAX = 0.25
PAUSING = 3
"""A writer that pauses writes for one part in so many of the time, if nothing slows it down."""
QUIET = "nothing beside"
FLUSHING = "flushes"
BUSY = "flushes and compactions"
BESIDE: dict[str, dict[str, Any]] = {
    QUIET: AT_REST,
    FLUSHING: {"compaction_mode": "manual", "flush_on_close": False},
    BUSY: {"flush_on_close": False},
}


def measure_beside(scale: Scale) -> report.Section:
    load = workload.prepare(hosts=scale.hosts, hours=SPAN_HOURS, batches=12, seed=123)

    def ingest_once(name: str, every_seconds: float) -> dict[str, Any]:
        with _scratch() as scratch:
            return _run("ingest", name, load.path, scratch, scale.repeats, every_seconds, scale.hosts)

    every_seconds = PAUSING * statistics.median(ingest_once(QUIET, 0.0)["write_seconds"])
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*BESIDE, *map(_pausing, BESIDE))}
    for number in range(scale.rounds):
        for name in list(BESIDE)[:: 1 if number % 2 == 0 else -1]:
            runs[name].append(ingest_once(name, 0.0))
            runs[_pausing(name)].append(ingest_once(name, every_seconds))
    rates = {name: statistics.median(run["rows_per_second"] for run in of_one) for name, of_one in runs.items()}
    quiet = {name: rates[QUIET if name in BESIDE else _pausing(QUIET)] for name in runs}
    return report.Section(
        name="beside",
        title="Ingest beside flushes and compactions",
        command=COMMAND,
        table=report.Table(
            head=["beside ingest", "rows/s", "less by", "slowest write", "flushes", "merges", "processor seconds"],
            rows=[[name, *_beside_cells(runs[name], rates[name], quiet[name])] for name in runs],
        ),
        targets=[
            report.Target(
                what=f"ingest, taken down by flushes and compactions, {what}",
                wanted=f"at most {LOSS_MAX:.0%}",
                found=f"{1 - rates[name] / quiet[name]:.0%}",
                is_met=rates[name] >= (1 - LOSS_MAX) * quiet[name],
            )
            for what, name in (("a writer that pauses", _pausing(BUSY)), ("one that never does", BUSY))
        ],
        notes=_notes_on_ingest(load, scale, runs),
        raw={"every_seconds": every_seconds, "runs": runs},
    )


def _pausing(name: str) -> str:
    return f"{name}, with pauses"


def _notes_on_ingest(
    load: workload.Workload, scale: Scale, runs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[str]:
    rows = load.rows * scale.repeats

    def each(name: str) -> float:
        """Return microseconds of processor time for a row."""
        return float(statistics.median(run["processor_seconds"] for run in runs[name])) / rows * 1e6

    return [
        (
            f"{rows:,} rows in {load.batches * scale.repeats} batches, from one thread, each synced; the clock stops "
            "at the last acknowledgement. The rows are those of the ingest benchmark, again and again, each time later."
        ),
        (
            "Nothing beside: write buffers that hold everything, so that nothing is ever flushed. The others have the "
            f"usual write buffer, {MitoConfig().write_buffer_size_bytes // MIB} MiB, and wait as usual where flushes "
            "do not keep up; one compacts when asked only. Merges: how many had ended when the clock stopped."
        ),
        (
            f"With pauses: a batch comes every so often that nothing else keeps the writer for one part in {PAUSING} "
            "of the time; rows per second are those of the time spent in writes."
        ),
        (
            f"Processor time for a row: {each(QUIET):.2f} us with nothing beside, {each(FLUSHING):.2f} us with flushes"
            f", {each(BUSY):.2f} us with both until the last acknowledgement. On {os.cpu_count()} processors flushes "
            f"alone allow a writer that never pauses {(os.cpu_count() or 1) / each(FLUSHING):.2f} M rows a second."
        ),
        f"Medians of {scale.rounds} rounds of fresh processes, in turns.",
    ]


def _buffers(hosts: str) -> dict[str, int]:
    """Return write buffers that are as much smaller than the usual ones as the hosts are fewer than 4,000."""
    usual, names = MitoConfig(), ("write_buffer_size_bytes", "write_buffer_limit_bytes")
    return {name: getattr(usual, name) * int(hosts) // 4000 for name in names}


def _ingest(name: str, source: str, folder: str, repeats: str, every_seconds: str, hosts: str) -> dict[str, Any]:
    settings = _buffers(hosts) | BESIDE[name]
    if name == QUIET:
        memtable.PARTS_MERGED = sys.maxsize  # Merging them would encode rows, as a flush does.
    batches = repeated(read(Path(source)), int(repeats), SPAN_HOURS * 3600)
    tags = tag_columns(batches[0].schema)
    with mitoframe.open(f"{folder}/warm-up", **settings) as database:
        database.write(batches[0].slice(0, WARM_UP_ROWS), TABLE, time=TIME, tags=tags)
        database[TABLE].flush()
    database = mitoframe.open(f"{folder}/store", **settings)
    began, taken = _now(), []
    for number, batch in enumerate(batches):
        time.sleep(max(0.0, number * float(every_seconds) - (time.perf_counter() - began[0])))
        taken.append(_timed(lambda batch=batch: database.write(batch, TABLE, time=TIME, tags=tags))[0])
    measured = _since(began)
    history = database[TABLE].history()["what"].to_list()
    rows = sum(batch.num_rows for batch in batches)
    database.close()
    return measured | {
        "rows": rows,
        "rows_per_second": rows / sum(taken),
        "write_seconds": taken,
        "slowest_seconds": max(taken),
        "flushes": history.count("flush"),
        "merges": history.count("compact"),
    }


def _beside_cells(runs: Sequence[Mapping[str, Any]], rate: float, quiet: float) -> list[str]:
    def median(name: str) -> float:
        return float(statistics.median(run[name] for run in runs))

    return [
        ingest.rate_text(rate),
        f"{1 - rate / quiet:.0%}",
        f"{median('slowest_seconds') * 1e3:.0f} ms",
        f"{median('flushes'):.0f}",
        f"{median('merges'):.0f}",
        f"{median('processor_seconds'):.1f}",
    ]


# --- many files -----------------------------------------------------------------------------------------

ROWS_PER_FILE = 24
"""A vacuum and an opening never look into a file."""
VACUUM_SECONDS_MAX = 2.0
OPEN_SECONDS_MAX = 0.3


def measure_files(scale: Scale) -> report.Section:
    with _scratch() as scratch:
        store = scratch / "store"
        _run("make", store, scale.files)
        opens = [_run("open", store) for _ in range(2 * scale.rounds)]
        vacuums = []
        for _ in range(scale.rounds):
            copy = scratch / "copy"
            shutil.copytree(store, copy)
            vacuums.append(_run("vacuum", copy))
            shutil.rmtree(copy)

    def median(runs: Sequence[Mapping[str, Any]], name: str) -> float:
        return float(statistics.median(run[name] for run in runs))

    opening, vacuum = median(opens, "seconds"), median(vacuums, "seconds")
    told = [
        ("opening, in a fresh process that has its imports", opening),
        ("opening again, in the same process", median(opens, "again_seconds")),
        ("vacuum that deletes all files", vacuum),
        ("vacuum that finds nothing to delete", median(vacuums, "idle_seconds")),
    ]
    files = f"{scale.files:,} files"
    return report.Section(
        name="files",
        title="Many files",
        command=COMMAND,
        table=report.Table(head=["what", "median"], rows=[[what, f"{seconds * 1e3:.0f} ms"] for what, seconds in told]),
        targets=[
            _at_most(f"vacuum of {files}", vacuum, VACUUM_SECONDS_MAX, " s"),
            _at_most(f"opening a table of {files}", opening * 1e3, OPEN_SECONDS_MAX * 1e3, " ms", digits=0),
        ],
        notes=_notes_on_files(files, scale),
        raw={"opens": opens, "vacuums": vacuums},
    )


def _notes_on_files(files: str, scale: Scale) -> list[str]:
    return [
        (
            f"One table of {files}; opening is until its state is there, with the store's. Before the vacuum the table "
            "is truncated, so that no file is needed any more, and no grace is given."
        ),
        (
            f"{2 * scale.rounds} openings and {scale.rounds} vacuums, each in a fresh process; files are in the page "
            "cache."
        ),
    ]


def _make_files(folder: str, files: str) -> dict[str, Any]:
    """Write rows at once, an hour into each file however few they are; the manifest is a checkpoint."""
    backfill.FILE_ROWS_MIN = 1
    # Waiting for the disk ten thousand times takes minutes, and is not what is measured.
    vfs_os._sync = os.fsync = lambda _: None
    rows = tsbs_cpu_table(ROWS_PER_FILE // 6, int(files), interval="10m")
    settings = {"backfill_size_bytes": 1, "compaction_mode": "manual", "checkpoint_distance": 1}
    with mitoframe.open(folder, sync="never", **settings) as database:
        database.write(rows, TABLE, time=TIME, tags=TAGS, options={"compaction_window": "1h"})
        found = len(database[TABLE].files())
    assert found == int(files), found
    return {"files": found}


def _open(store: str) -> dict[str, Any]:
    return {"seconds": _opened_seconds(store), "again_seconds": _opened_seconds(store)}


def _opened_seconds(store: str) -> float:
    began = time.perf_counter()
    database = mitoframe.open(store)
    state = database.engine.region(database[TABLE].region_id).state
    seconds = time.perf_counter() - began
    assert state.files
    database.close()
    return seconds


def _vacuum(store: str) -> dict[str, Any]:
    with mitoframe.open(store) as database:
        table = database[TABLE]
        files = len(table.files())
        idle_seconds, nothing = _timed(lambda: table.vacuum("0s"))
        table.truncate()
        seconds, gone = _timed(lambda: table.vacuum("0s"))
    assert not nothing.removed, nothing
    assert len(gone.removed) == files, gone
    return {"seconds": seconds, "idle_seconds": idle_seconds, "files": files}


def _timed(action: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


# --- telling --------------------------------------------------------------------------------------------


def _at_most(what: str, found: float, most: float, unit: str = " times", *, digits: int = 2) -> report.Target:
    return report.Target(
        what=what, wanted=f"at most {most:g}{unit}", found=f"{found:.{digits}f}{unit}", is_met=found <= most
    )


MEASURES: dict[str, Callable[[Scale], report.Section]] = {
    "compactor": measure_compactor,
    "amplification": measure_amplification,
    "beside": measure_beside,
    "files": measure_files,
}
RUNNERS: dict[str, Callable[..., dict[str, Any]]] = {
    "merge": _merge,
    "sort": _sort,
    "day": _day,
    "ingest": _ingest,
    "make": _make_files,
    "open": _open,
    "vacuum": _vacuum,
}


if __name__ == "__main__":
    main()
