"""Polars over one Parquet file of the final rows: sorted by (hostname, ts), written by pyarrow, dictionaries on, zstd,
102,400 rows per group. `ask` is plain Polars on any lazy frame; mitoframe's is asked with the same code. The lazy frame
is made once and asked again and again, as in a notebook: Polars then remembers the file's footer, and answers small
queries in half the time.

The last row of each host is a comparison with the greatest time over the host. Also tried, and slower: `max_by` or a
sort per group, a sort with `unique`, and a semi-join with each host's greatest time.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from queries_harness import (
    HIGH_FIELD,
    HIGH_VALUE,
    HOST,
    LATEST_MINUTES,
    ROWS_FILE,
    TIME,
    Question,
    run,
)


def ask(frame: pl.LazyFrame, question: Question) -> pl.DataFrame:
    return _query(frame, question).collect()


def _query(frame: pl.LazyFrame, question: Question) -> pl.LazyFrame:
    fields = list(question.fields)
    rows = frame.filter(*conditions(question))
    match question.kind:
        case "maxima":
            return rows.group_by(pl.col(TIME).dt.truncate(question.every)).agg(pl.col(fields).max()).sort(TIME)
        case "means":
            keys = [pl.col(TIME).dt.truncate(question.every), pl.col(HOST)]
            return rows.group_by(keys).agg(pl.col(fields).mean()).sort(TIME, HOST)
        case "high":
            return rows.filter(pl.col(HIGH_FIELD) > HIGH_VALUE)
        case "latest":
            minutes = rows.group_by(pl.col(TIME).dt.truncate(question.every)).agg(pl.col(fields).max())
            return minutes.sort(TIME, descending=True).head(LATEST_MINUTES)
        case "last":
            return rows.filter(pl.col(TIME) == pl.col(TIME).max().over(HOST))
        case "rows":
            return rows.select(TIME, *fields)
    raise AssertionError(question.kind)


def conditions(question: Question) -> list[pl.Expr]:
    found = times(question)
    if question.hosts:
        found.append(hosts(question))
    return found


def hosts(question: Question) -> pl.Expr:
    if len(question.hosts) == 1:
        return pl.col(HOST) == question.hosts[0]
    return pl.col(HOST).is_in(question.hosts)


def times(question: Question) -> list[pl.Expr]:
    found = []
    if question.start_ns is not None:
        found.append(pl.col(TIME) >= _moment(question.start_ns))
    if question.end_ns is not None:
        found.append(pl.col(TIME) < _moment(question.end_ns))
    return found


def _moment(ticks_ns: int) -> pl.Expr:
    return pl.lit(ticks_ns, dtype=pl.Int64).cast(pl.Datetime("ns"))


class Polars:
    packages = ("polars",)

    def make(self, source: Path, folder: Path) -> None:
        """The file that all stores are made of is this system's store."""
        folder.mkdir(parents=True)
        (folder / ROWS_FILE).hardlink_to(source / ROWS_FILE)

    def open(self, folder: Path) -> None:
        self._rows = pl.scan_parquet(folder / ROWS_FILE)

    def answer(self, question: Question, way: str) -> pl.DataFrame | None:
        return ask(self._rows, question) if way == "plain" else None

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    run(Polars())
