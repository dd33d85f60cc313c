"""DuckDB: a table of its own with the final rows in the order of (hostname, ts), as its documentation advises, so that
row groups can be skipped by their smallest and largest values. Opened read-only; answers are Arrow tables.

The last row of each host is a semi-join with each host's greatest time. Also tried, and slower: `arg_max` of the whole
row or of each column, DISTINCT ON, and QUALIFY with row_number. For spans of time `date_trunc` was faster than
`time_bucket`.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from queries_harness import HIGH_FIELD, HIGH_VALUE, HOST, LATEST_MINUTES, ROWS_FILE, TIME, Question, run

UNITS = {"1m": "minute", "1h": "hour"}


class DuckDb:
    packages = ("duckdb",)

    def make(self, source: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        with duckdb.connect(folder / "cpu.duckdb") as connection:
            connection.execute("SET enable_progress_bar = false")
            rows = f"read_parquet('{source / ROWS_FILE}')"
            connection.execute(f"CREATE TABLE cpu AS SELECT * FROM {rows} ORDER BY {HOST}, {TIME}")
            connection.execute("CHECKPOINT")

    def open(self, folder: Path) -> None:
        self._connection = duckdb.connect(folder / "cpu.duckdb", read_only=True)
        self._connection.execute("SET enable_progress_bar = false")

    def answer(self, question: Question, way: str) -> pa.Table:
        assert way == "plain", way
        return self._connection.sql(_sql(question)).to_arrow_table()

    def close(self) -> None:
        self._connection.close()


def _sql(question: Question) -> str:
    rows = f"FROM cpu WHERE {' AND '.join(_conditions(question)) or 'true'}"
    span = f"date_trunc('{UNITS[question.every]}', {TIME}) AS span"
    match question.kind:
        case "maxima":
            return _renamed(f"SELECT {span}, {_each('max', question)} {rows} GROUP BY span ORDER BY span")
        case "means":
            keys = f"span, {HOST}"
            return _renamed(f"SELECT {span}, {HOST}, {_each('avg', question)} {rows} GROUP BY {keys} ORDER BY {keys}")
        case "high":
            return f"SELECT * {rows} AND {HIGH_FIELD} > {HIGH_VALUE}"
        case "latest":
            spans = f"SELECT {span}, {_each('max', question)} {rows} GROUP BY span"
            return _renamed(f"{spans} ORDER BY span DESC LIMIT {LATEST_MINUTES}")
        case "last":
            latest = f"SELECT {HOST}, max({TIME}) AS {TIME} FROM cpu GROUP BY {HOST}"
            return f"SELECT * FROM cpu SEMI JOIN ({latest}) AS latest USING ({HOST}, {TIME})"
        case "rows":
            return f"SELECT {', '.join([TIME, *question.fields])} {rows}"
    raise AssertionError(question.kind)


def _renamed(query: str) -> str:
    """Give the span the name of the time, which within the query is the name of the rows' own."""
    return f"SELECT span AS {TIME}, * EXCLUDE span FROM ({query})"


def _each(function: str, question: Question) -> str:
    return ", ".join(f"{function}({field}) AS {field}" for field in question.fields)


def _conditions(question: Question) -> list[str]:
    found = []
    if question.start_ns is not None:
        found.append(f"{TIME} >= make_timestamp_ns({question.start_ns})")
    if question.end_ns is not None:
        found.append(f"{TIME} < make_timestamp_ns({question.end_ns})")
    if len(question.hosts) == 1:
        found.append(f"{HOST} = '{question.hosts[0]}'")
    elif question.hosts:
        found.append(f"{HOST} IN ({', '.join(repr(host) for host in question.hosts)})")
    return found


if __name__ == "__main__":
    run(DuckDb())
