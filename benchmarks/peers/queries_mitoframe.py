"""mitoframe, asked with plain Polars and with its own verbs, on one of the stores that queries_stores.py makes.

``--state`` says on which; ``--files`` belongs to the state of that name.
"""

from __future__ import annotations

import argparse
import sys
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import polars as pl
from queries_harness import HIGH_FIELD, HIGH_VALUE, HOST, LATEST_MINUTES, TIME, Question, run
from queries_polars import ask, hosts
from queries_stores import AT_REST, STATES, make

import mitoframe


class Mitoframe:
    packages = ("mitoframe", "numba", "numpy", "pandas", "polars")

    def __init__(self, state: str, files: int) -> None:
        self._state, self._files = state, files

    def make(self, source: Path, folder: Path) -> None:
        make(self._state, source, folder, self._files)

    def open(self, folder: Path) -> None:
        self._database = mitoframe.open(folder, **(AT_REST if self._state == "overlapping" else {}))
        self._rows = self._database.scan("cpu").to_polars()

    def answer(self, question: Question, way: str) -> pl.DataFrame | None:
        if way == "plain":
            return ask(self._rows, question)
        return self._answer_with_verbs(question)

    def _answer_with_verbs(self, question: Question) -> pl.DataFrame | None:
        settings: dict[str, Any] = {"start": question.start_ns, "end": question.end_ns}
        where = [hosts(question)] if question.hosts else []
        if question.kind == "high":
            where.append(pl.col(HIGH_FIELD) > HIGH_VALUE)
        if question.kind == "rows":
            settings["columns"] = [TIME, *question.fields]
        if where:
            settings["where"] = reduce(and_, where)
        scan: Any = self._database.scan("cpu", **settings)
        if question.kind in ("high", "rows"):
            return scan.collect()
        if question.kind == "last":
            return scan.last()
        if question.kind == "means":
            return scan.resample(question.every, dict.fromkeys(question.fields, "mean"), by=[HOST])
        maxima = dict.fromkeys(question.fields, "max")
        if question.kind == "latest":
            return scan.resample(question.every, maxima, by=[], latest=LATEST_MINUTES).reverse()
        return scan.resample(question.every, maxima, by=[])

    def close(self) -> None:
        self._database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--state", choices=STATES, default=STATES[0])
    parser.add_argument("--files", type=int, default=10)
    own, sys.argv[1:] = parser.parse_known_args()
    run(Mitoframe(own.state, own.files))
