"""Where the time of queries goes: what stands in the way of the targets that the query benchmark misses.

    python benchmarks/stages.py [--write-results]

*Stages*: two tables of the same 12 hours, of 400 hosts, both merged: one with windows of 12 hours, one with windows of
two. Each is asked for the maximum of a field per minute, of other hosts each time, over all 12 hours. The clock stops
at each stage and goes on in the next, so that stages add up to the whole; what the clock itself takes is in them. What
a fresh process needs before its first kernel runs is measured in processes of its own.

*Floors*: the same question in plain Polars, of a frame in memory that has just the rows of the host; of the same frame
behind the door through which Polars asks a store, which hands it out at once; of one sorted Parquet file of all rows;
and of mitoframe. All with a frame that is held, as the query benchmark does.

*Merging*: whole rows where a field is above 90, and means per hour and host, of all hosts: once with all rows in one
run, and once dealt over four flushes. What counts is the processors' time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import report
import workload
from polars.lazyframe.resolver import LazyFrameResolver, ResolvedLazyFrameProps

import mitoframe
from mitoframe.database import Database
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.reading import Reading
from mitoframe.frames.polars import _Resolver
from mitoframe.read import resample, stretches
from mitoframe.storage.pages import PageReader
from mitoframe.storage.sst_bytes import SstBytes
from mitoframe.tsbs import FIELDS, TAGS, TIME, tsbs_cpu_table

HOSTS, HOURS = 400, 12.0
WARMING, ASKED = 100, 200
WINDOWS = {"one file": "12h", "six files": "2h"}
PROCESSES = 5
RUNS = 4
OURS = "mitoframe, of that in its resolver: the plan and the rows"
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


def stages() -> report.Section:
    plain = {name: _asked(window, Stopwatch()) for name, window in WINDOWS.items()}
    watch = Stopwatch()
    # One thread, so that no stage is waited for in another.
    Reading.in_order = lambda _, jobs, **__: (job() for job in jobs)  # type: ignore[method-assign]
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
    """Return the median seconds of a query."""
    with _store() as (_, database):
        _fill(database, [tsbs_cpu_table(HOSTS, HOURS)], window)
        start, end = database.scan("cpu").bounds()

        def ask(number: int) -> None:
            where = pl.col("hostname") == f"host_{number * 13 % HOSTS}"
            scan = database.scan("cpu", start=start, end=end, where=where)
            scan.resample("1m", {"usage_user": "max"}, by=[])

        return _median(ask, watch)


def _median(ask: Callable[[int], object], watch: Stopwatch | None = None) -> float:
    """Return the median seconds of asking, after some times to warm up."""
    watch = Stopwatch() if watch is None else watch
    for number in range(WARMING):
        ask(number)
    watch.seconds.clear()
    taken = []
    for number in range(WARMING, WARMING + ASKED):
        began = time.perf_counter()
        watch.timed(REST, partial(ask, number))
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@contextmanager
def _store() -> Iterator[tuple[Path, Database]]:
    workload.DATA.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="stages-", dir=workload.DATA) as folder,
        mitoframe.open(Path(folder, "store"), sync="never", compaction_mode="manual") as database,
    ):
        yield Path(folder), database


def _fill(database: Database, parts: Sequence[pa.Table], window: str, *, is_merged: bool = True) -> None:
    """Write rows, flush after each part, and merge them if that is wanted."""
    for rows in parts:
        database.write(rows, "cpu", time=TIME, tags=TAGS, options={"compaction_window": window})
        database["cpu"].flush()
    if is_merged:
        database["cpu"].compact(strict=True)


def floors() -> report.Section:
    rows = tsbs_cpu_table(HOSTS, HOURS)
    with _store() as (folder, database):
        _fill(database, [rows], "12h")
        pq.write_table(database.scan("cpu").to_arrow(), folder / "rows.parquet", row_group_size=102_400)
        of_host = database.scan("cpu", where=pl.col("hostname") == "host_7").collect()
        asked = {
            "a frame in memory, of the rows of the host": of_host.lazy(),
            "the same, handed out by a resolver that does nothing else": _AtOnce(of_host).lazy(),
            "one sorted Parquet file of all rows": pl.scan_parquet(folder / "rows.parquet"),
            "mitoframe": database.scan("cpu").to_polars(),
        }
        found = {name: _median(partial(_ask_plainly, frame)) for name, frame in asked.items()}
        watch = Stopwatch()
        watch.watch(OURS, _Resolver, "resolve_lazyframe")
        # Another frame, because one that was asked the same before is not resolved anew.
        _median(partial(_ask_plainly, database.scan("cpu").to_polars()), watch)
        found[OURS] = watch.seconds[OURS] / ASKED
    return report.Section(
        name="floors",
        title="What a small query takes in plain Polars",
        command="python benchmarks/stages.py --write-results",
        table=report.Table(
            head=["asked of", "microseconds"], rows=[[name, f"{taken * 1e6:,.0f}"] for name, taken in found.items()]
        ),
        notes=[
            f"One host of {HOSTS}, 12 hours, maximum of a field per minute, in plain Polars on a held frame.",
            f"Medians of {ASKED} queries, of other hosts each time where there are others.",
        ],
        raw={"seconds": found},
    )


class _AtOnce(LazyFrameResolver):
    """Hands out a frame that is there."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def schema(self) -> dict[str, Any]:
        return dict(self._frame.schema)

    def cse_eq(self, other: object) -> bool:
        return other is self

    def resolve_lazyframe(
        self, *, projection: list[str] | None, **_: Any
    ) -> tuple[pl.LazyFrame | None, ResolvedLazyFrameProps]:
        wanted = self._frame if projection is None else self._frame.select(projection)
        return wanted.lazy(), ResolvedLazyFrameProps(version_key=None)


def _ask_plainly(frame: pl.LazyFrame, number: int) -> None:
    minute = pl.col(TIME).dt.truncate("1m")
    where = pl.col("hostname") == f"host_{number * 13 % HOSTS}"
    frame.filter(where).group_by(minute).agg(pl.col("usage_user").max()).sort(TIME).collect()


def merging() -> report.Section:
    rows = tsbs_cpu_table(HOSTS, HOURS)
    number = np.arange(len(rows))
    dealt = [rows.filter(pa.array(number % RUNS == run)) for run in range(RUNS)]
    found: dict[str, list[float]] = {}
    for parts in ([rows], dealt):
        with _store() as (_, database):
            _fill(database, parts, "12h", is_merged=len(parts) == 1)
            for name, (ask, *numbers) in WHOLE_TABLE.items():
                found.setdefault(name, []).append(_processor_seconds(partial(ask, database), *numbers))
    return report.Section(
        name="merging",
        title="What it takes to merge while reading",
        command="python benchmarks/stages.py --write-results",
        table=report.Table(
            head=["processor nanoseconds for each row looked at", "one run", "four runs", "ratio"],
            rows=[
                [name, *(f"{taken / len(rows) * 1e9:.1f}" for taken in both), f"{both[1] / both[0]:.2f} times"]
                for name, both in found.items()
            ],
        ),
        notes=[f"{len(rows):,} rows, asked of each field in turn; the least of {len(FIELDS)}."],
        raw={"seconds": found},
    )


def _rows_above(database: Database, field: str, above: int) -> None:
    database.scan("cpu").to_polars().filter(pl.col(field) > above).collect()


def _means(database: Database, field: str, minutes: int) -> None:
    database.scan("cpu").resample(f"{minutes}m", {field: "mean"}, by=["hostname"])


WHOLE_TABLE: dict[str, tuple[Callable[[Database, str, int], None], int, int]] = {
    "whole rows where a field is above 90, plain": (_rows_above, 91, 90),
    "mean per hour and host, verb": (_means, 90, 60),
}
"""What is asked, with which number to warm up, so that no answer is known already, and with which then."""


def _processor_seconds(ask: Callable[[str, int], None], warming: int, number: int) -> float:
    """Return the least time that processors were busy with a question, asked of one field after the other."""
    taken = []
    for field in FIELDS:
        ask(field, warming)
        ask(field, warming + 1)
        began = time.process_time()
        ask(field, number)
        taken.append(time.process_time() - began)
    return min(taken)


def _loaded() -> list[float]:
    done = subprocess.run([sys.executable, "-c", _LOADED], check=True, stdout=subprocess.PIPE, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a small query goes.")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    arguments = parser.parse_args()
    for measure in (floors, merging, stages):
        section = measure()
        print(section.title, report.markdown(section.table), *section.notes, sep="\n")
        if arguments.write_results:
            report.record(section)


if __name__ == "__main__":
    main()
