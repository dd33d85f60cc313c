"""What the query benchmark's systems have in common: the questions, and a process that answers them on the clock.

    python queries_<system>.py make  --source FOLDER --folder STORE    make the store from the rows
    python queries_<system>.py serve --folder STORE                    answer questions, one line of JSON each
    python queries_<system>.py once  --folder STORE --question JSON --way WAY --began SECONDS

A *question* says what is asked, a *way* how: every system has the way "plain", mitoframe has "verbs" as well. Asked on
standard input, one line of JSON, is {"question", "way", "save"}; told on standard output is {"seconds", "rows"}, or
{"absent"} where the system has no such way of asking this, or {"failed"} with the end of the traceback.

The clock runs from the call until the whole answer is in this process's memory, in the form the system hands out for
the next step in Python: a Polars frame or an Arrow table. ``save`` writes the answer to an Arrow file, off the clock.
``once`` is the first question of a process: told are the seconds it took, with those of opening the store, and with
those since the process was started (``began`` is the parent's reading of `time.monotonic`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

TIME, HOST = "ts", "hostname"
HIGH_FIELD, HIGH_VALUE = "usage_user", 90.0
LATEST_MINUTES = 5
FAILURE_CHARACTERS_MAX = 2_000
ROWS_FILE = "final.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query with its parameters.

    ``kind`` is one of: ``maxima``, the maximum of each field per span of time over the hosts; ``means``, the mean of
    each field per hour and host; ``high``, whole rows with usage_user above 90; ``latest``, the maximum of usage_user
    in each of the five latest minutes before ``end_ns``; ``last``, the last row of each host; ``rows``, time and fields
    as they are.
    """

    kind: str
    fields: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    start_ns: int | None = None
    end_ns: int | None = None
    every: str = "1m"


class System(Protocol):
    @property
    def packages(self) -> tuple[str, ...]:
        """The distributions whose versions belong in the report."""

    def make(self, source: Path, folder: Path) -> None:
        """Make the store of the rows in ``source``."""

    def open(self, folder: Path) -> None: ...

    def answer(self, question: Question, way: str) -> Any:
        """Return a Polars frame or an Arrow table, or None if this cannot be asked in this way."""

    def close(self) -> None: ...


def run(system: System) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["make", "serve", "once"])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--question", type=json.loads)
    parser.add_argument("--way", default="plain")
    parser.add_argument("--began", type=float)
    arguments = parser.parse_args()
    if arguments.task == "make":
        system.make(arguments.source, arguments.folder)
    elif arguments.task == "serve":
        _serve(system, arguments.folder)
    else:
        _once(system, arguments.folder, to_question(arguments.question), arguments.way, arguments.began)


def to_question(told: dict[str, Any]) -> Question:
    return Question(**{**told, "fields": tuple(told["fields"]), "hosts": tuple(told["hosts"])})


def _serve(system: System, folder: Path) -> None:
    tell = _private_output()
    system.open(folder)
    tell({"versions": {package: version(package) for package in ("pyarrow", *system.packages)}})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            tell(_answer(system, to_question(asked["question"]), asked["way"], asked["save"]))
        except Exception:  # noqa: BLE001 - whatever it is, the parent is told
            tell({"failed": traceback.format_exc()[-FAILURE_CHARACTERS_MAX:]})
    system.close()


def _answer(system: System, question: Question, way: str, save: str | None) -> dict[str, Any]:
    gc.collect()
    began = time.perf_counter()
    answer = system.answer(question, way)
    seconds = time.perf_counter() - began
    if answer is None:
        return {"absent": True}
    if save is not None:
        _save(answer, Path(save))
    return {"seconds": seconds, "rows": len(answer)}


def _once(system: System, folder: Path, question: Question, way: str, process_began: float) -> None:
    tell = _private_output()
    imported = time.monotonic()
    system.open(folder)
    opened = time.monotonic()
    answer = system.answer(question, way)
    answered = time.monotonic()
    if answer is None:
        tell({"absent": True})
    else:
        tell({"first": answered - opened, "opened": answered - imported, "started": answered - process_began})
    system.close()


def _save(answer: Any, path: Path) -> None:
    table = answer if isinstance(answer, pa.Table) else answer.to_arrow()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _private_output() -> Any:
    """Return how to tell the parent; what anybody else prints goes to standard error."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        private.write(json.dumps(message) + "\n")
        private.flush()

    return tell
