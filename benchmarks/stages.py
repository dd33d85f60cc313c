"""Where the time of a small query goes: one host, with a verb, in one file and in six, and what Numba costs at first.

    python benchmarks/stages.py [--write-results]

Two tables of the same 12 hours, of 400 hosts, both merged: one with windows of 12 hours, one with windows of two. Each
is asked for the maximum of a field per minute, of other hosts each time, over all 12 hours. The clock stops at each
stage and goes on in the next, so that stages add up to the whole; what the clock itself takes is in them. What a fresh
process needs before its first kernel runs is measured in processes of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import polars as pl
import report
import workload

import mitoframe
from mitoframe.database import Database
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.reading import Reading
from mitoframe.read import resample, stretches
from mitoframe.storage.pages import PageReader
from mitoframe.storage.sst_bytes import SstBytes
from mitoframe.tsbs import TAGS, TIME, tsbs_cpu_table

HOSTS, HOURS = 400, 12.0
WARMING, ASKED = 100, 200
WINDOWS = {"one file": "12h", "six files": "2h"}
PROCESSES = 5
WHOLE = "the whole"
REST = "threads, the frame, and everything else"
_LOADED = """
import json, time
began = time.perf_counter()
import numba.core.dispatcher, numba.core.caching
imported = time.perf_counter()
import mitoframe
from mitoframe.kernels import jit
from mitoframe.kernels.pages import page_rows
loading = time.perf_counter()
page_rows.load()
loaded = time.perf_counter()
for kernel in jit._kernels:
    kernel.load()
print(json.dumps([imported - began, loaded - loading, (time.perf_counter() - loaded) / (len(jit._kernels) - 1)]))
"""


class Stopwatch:
    """Adds up the time spent in each of some functions, without what others of them took inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[list[Any]] = []

    def watch(self, stage: str, owner: Any, name: str) -> None:
        """Have the calls of a function counted as a stage."""
        function = getattr(owner, name)

        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return self.timed(stage, lambda: function(*args, **kwargs))

        setattr(owner, name, watched)

    def timed(self, stage: str, job: Callable[[], Any]) -> Any:
        began, inside = time.perf_counter(), [0.0]
        self._stack.append(inside)
        try:
            return job()
        finally:
            self._stack.pop()
            taken = time.perf_counter() - began
            self.seconds[stage] = self.seconds.get(stage, 0.0) + taken - inside[0]
            if self._stack:
                self._stack[-1][0] += taken


STAGES: dict[str, tuple[Any, str]] = {
    "the scan: table, columns, times": (Database, "scan"),
    "the plan: files, times, conditions": (MitoEngine, "plan"),
    "series and row groups of each file": (stretches, "select_rows"),
    "pages found, checked and decoded": (PageReader, "read"),
    "bytes read from files": (SstBytes, "read_ranges"),
    "maxima of the rows of each file": (resample, "_cells_of_rows"),
    "maxima of the files put together": (resample, "_combined"),
}


def measure() -> report.Section:
    plain = {name: _asked(window, Stopwatch()) for name, window in WINDOWS.items()}
    watch = Stopwatch()
    # One thread, so that no stage is waited for in another.
    Reading.in_order = lambda _, jobs: (job() for job in jobs)  # type: ignore[method-assign]
    for stage, (owner, name) in STAGES.items():
        watch.watch(stage, owner, name)
    staged = {}
    for name, window in WINDOWS.items():
        watch.seconds.clear()
        _asked(window, watch)
        means = {stage: watch.seconds.get(stage, 0.0) / ASKED for stage in (*STAGES, REST)}
        staged[name] = means | {WHOLE: sum(means.values())}
    loads = [_loaded() for _ in range(PROCESSES)]
    imported, first, each = (statistics.median(of) * 1e3 for of in zip(*loads, strict=True))
    return report.Section(
        name="stages",
        title="Where the time of a small query goes",
        command="python benchmarks/stages.py --write-results",
        table=report.Table(
            head=["stage, microseconds", *WINDOWS],
            rows=[
                [stage, *(f"{staged[name][stage] * 1e6:,.0f}" for name in WINDOWS)] for stage in (*STAGES, REST, WHOLE)
            ],
        ),
        notes=[
            f"One host of {HOSTS}, 12 hours, maximum of a field per minute; {ASKED} queries, other hosts each time.",
            "Stages: means, one thread, a clock at each. Without clocks, on all threads, the median query took "
            + ", ".join(f"{plain[name] * 1e6:,.0f} us in {name}" for name in WINDOWS)
            + ".",
            (
                f"In a fresh process, kernels in Numba's cache: {imported:.0f} ms to import Numba, {first:.0f} ms to "
                f"load its first kernel, {each:.1f} ms for each further one."
            ),
        ],
        raw={"staged": staged, "plain": plain, "numba_ms": [imported, first, each]},
    )


def _asked(window: str, watch: Stopwatch) -> float:
    """Return the median seconds of a query, after some to warm up."""
    workload.DATA.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="stages-", dir=workload.DATA) as folder,
        mitoframe.open(folder, sync="never") as database,
    ):
        rows = tsbs_cpu_table(HOSTS, HOURS)
        database.write(rows, "cpu", time=TIME, tags=TAGS, options={"compaction_window": window})
        database["cpu"].flush()
        database["cpu"].compact(strict=True)
        start, end = database.scan("cpu").bounds()

        def ask(number: int) -> None:
            where = pl.col("hostname") == f"host_{number * 13 % HOSTS}"
            scan = database.scan("cpu", start=start, end=end, where=where)
            scan.resample("1m", {"usage_user": "max"}, by=[])

        for number in range(WARMING):
            ask(number)
        watch.seconds.clear()
        taken = []
        for number in range(WARMING, WARMING + ASKED):
            began = time.perf_counter()
            watch.timed(REST, lambda number=number: ask(number))
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _loaded() -> list[float]:
    done = subprocess.run([sys.executable, "-c", _LOADED], check=True, stdout=subprocess.PIPE, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a small query goes.")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    arguments = parser.parse_args()
    section = measure()
    print(report.markdown(section.table))
    print("\n".join(section.notes))
    if arguments.write_results:
        report.record(section)


if __name__ == "__main__":
    main()
