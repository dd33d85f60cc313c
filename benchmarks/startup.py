"""What it costs to begin: the import, the first write of a process, and opening a store.

    python benchmarks/startup.py [--write-results]

Import: the time from the interpreter's first own line until ``import pandas, polars, pyarrow`` is done, with and
without ``import mitoframe`` after it, in fresh processes that take turns; the medians' difference counts.
First write: a frame of 1,000 rows into a new store on disk, in a fresh process whose compiled kernels are cached by
an earlier one, until the `WriteResult` is there; from the start of the process and from the end of its imports.
Open: a store with one flushed table of 1,000 rows, again and again in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import report

IMPORT_RUNS = 9
WRITE_RUNS = 7
OPENS = 200
IMPORT_SECONDS_MAX = 0.3
FIRST_WRITE_SECONDS_MAX = 1.5
OPEN_SECONDS_MAX = 0.020

IMPORT_CODE = """
import time
began = time.perf_counter()
import pandas, polars, pyarrow
{more}
print(time.perf_counter() - began)
"""

# time.monotonic is one clock for all processes of the machine, so the parent's reading is the start of the process.
FIRST_WRITE_CODE = """
import sys, time
import pandas, polars, pyarrow
import mitoframe
imported = time.monotonic()
frame = pandas.DataFrame({
    "ts": pandas.date_range("2024-01-01", periods=1000, freq="s"),
    "host": ["a", "b"] * 500,
    "value": [float(number) for number in range(1000)],
})
database = mitoframe.open(sys.argv[1])
result = database.write(frame, "cpu", time="ts", tags=["host"])
written = time.monotonic()
assert database["cpu"].scan().to_polars().collect().height == 1000, result
database.close()
print(written - float(sys.argv[2]), written - imported)
"""

OPEN_CODE = """
import json, sys, time
import pandas
import mitoframe
frame = pandas.DataFrame({
    "ts": pandas.date_range("2024-01-01", periods=1000, freq="s"),
    "host": ["a", "b"] * 500,
    "value": [float(number) for number in range(1000)],
})
database = mitoframe.open(sys.argv[1])
database.write(frame, "cpu", time="ts", tags=["host"])
database["cpu"].flush()
database.close()
seconds = []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    database = mitoframe.open(sys.argv[1])
    seconds.append(time.perf_counter() - began)
    database.close()
print(json.dumps(seconds))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of beginning.")
    parser.add_argument("--write-results", action="store_true", help="put the outcome into RESULTS.md")
    arguments = parser.parse_args()
    section = summary(imports=_imports(), writes=_first_writes(), opens=_opens())
    print(f"{report.markdown(section.table)}\n{report.targets_markdown(section.targets)}")
    if arguments.write_results:
        report.record(section)


def summary(*, imports: dict[str, list[float]], writes: dict[str, list[float]], opens: list[float]) -> report.Section:
    import_cost = statistics.median(imports["with"]) - statistics.median(imports["without"])
    from_start = statistics.median(writes["from_start"])
    from_imported = statistics.median(writes["from_imported"])
    opening = statistics.median(opens)
    slow_open = statistics.quantiles(opens, n=20)[-1]
    return report.Section(
        name="startup",
        title="Beginning",
        command="python benchmarks/startup.py --write-results",
        table=report.Table(
            head=["what", "median"],
            rows=[
                ["import pandas, polars, pyarrow", _milliseconds(statistics.median(imports["without"]))],
                ["the same and mitoframe", _milliseconds(statistics.median(imports["with"]))],
                ["first write, from the start of the process", _milliseconds(from_start)],
                ["first write, from the end of the imports", _milliseconds(from_imported)],
                ["opening a tiny store", _milliseconds(opening)],
                ["opening a tiny store, 95th percentile", _milliseconds(slow_open)],
            ],
        ),
        targets=[
            _target("import mitoframe, beyond the three", import_cost, IMPORT_SECONDS_MAX),
            _target("first write of a process, kernels cached", from_start, FIRST_WRITE_SECONDS_MAX),
            _target("opening a tiny store in a warm process", opening, OPEN_SECONDS_MAX),
        ],
        notes=[f"{IMPORT_RUNS} imports of each kind, {WRITE_RUNS} first writes, {OPENS} opens."],
        raw={"imports": imports, "first_writes": writes, "opens": opens},
    )


def _imports() -> dict[str, list[float]]:
    codes = {"without": IMPORT_CODE.format(more=""), "with": IMPORT_CODE.format(more="import mitoframe")}
    seconds: dict[str, list[float]] = {kind: [] for kind in codes}
    for number in range(IMPORT_RUNS + 1):
        for kind, code in codes.items():
            measured = float(_python(code))
            if number > 0:  # the first of each kind fills the caches of files and bytecode
                seconds[kind].append(measured)
    return seconds


def _first_writes() -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"from_start": [], "from_imported": []}
    for number in range(WRITE_RUNS + 1):
        with tempfile.TemporaryDirectory() as folder:
            from_start, from_imported = map(
                float, _python(FIRST_WRITE_CODE, f"{folder}/store", repr(time.monotonic())).split()
            )
        if number > 0:  # the first compiles the kernels, if nobody has
            seconds["from_start"].append(from_start)
            seconds["from_imported"].append(from_imported)
    return seconds


def _opens() -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        seconds: list[float] = json.loads(_python(OPEN_CODE, f"{folder}/store", str(OPENS)))
    return seconds[1:]


def _python(code: str, *arguments: Any) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def _target(what: str, found_seconds: float, seconds_max: float) -> report.Target:
    return report.Target(
        what=what,
        wanted=f"at most {_milliseconds(seconds_max)}",
        found=_milliseconds(found_seconds),
        is_met=found_seconds <= seconds_max,
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"


if __name__ == "__main__":
    main()
