"""chDB: a MergeTree ordered by (hostname, ts) with the final rows in one part. Since no key is there twice, reading
needs no FINAL, which is to chDB's advantage: the table that takes upserts is a ReplacingMergeTree read with FINAL.

Tags are LowCardinality(String), as its documentation advises. Where hosts are groups, the order of the table is used
(``optimize_aggregation_in_order``), which was twice as fast. The last row of each host is `argMax`; also tried, and
slower: LIMIT 1 BY, argMax of a tuple, IN and joins with each host's greatest time. Answers are Arrow tables; other
formats were not faster.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from chdb.session import Session
from queries_harness import HIGH_FIELD, HIGH_VALUE, HOST, LATEST_MINUTES, ROWS_FILE, TIME, Question, run

SPANS = {"1m": "toStartOfMinute", "1h": "toStartOfHour"}
TABLE = "bench.cpu"
IN_ORDER = "SETTINGS optimize_aggregation_in_order = 1"


class Chdb:
    packages = ("chdb", "chdb-core")

    def make(self, source: Path, folder: Path) -> None:
        rows = source / ROWS_FILE
        columns = ", ".join(f"{field.name} {_type_name(field.type)}" for field in pq.read_schema(rows))
        session = Session(str(folder))
        session.query("CREATE DATABASE bench ENGINE = Atomic")
        session.query(f"CREATE TABLE {TABLE} ({columns}) ENGINE = MergeTree ORDER BY ({HOST}, {TIME})")
        session.query(f"INSERT INTO {TABLE} SELECT * FROM file('{rows}', 'Parquet')")
        session.query(f"OPTIMIZE TABLE {TABLE} FINAL")
        session.close()

    def open(self, folder: Path) -> None:
        self._session = Session(str(folder))
        columns = self._session.query(
            f"SELECT name FROM system.columns WHERE database || '.' || table = '{TABLE}'", "CSV"
        )
        self._columns = [name.strip('"') for name in columns.bytes().decode().split()]

    def answer(self, question: Question, way: str) -> pa.Table:
        assert way == "plain", way
        return self._session.query(self._sql(question), "ArrowTable")

    def close(self) -> None:
        self._session.close()

    def _sql(self, question: Question) -> str:
        rows = f"FROM {TABLE} WHERE {' AND '.join(_conditions(question)) or 'true'}"
        span = f"{SPANS[question.every]}({TIME}) AS span"
        match question.kind:
            case "maxima":
                return _named(question, f"SELECT {span}, {_each('max', question)} {rows} GROUP BY span ORDER BY span")
            case "means":
                keys = f"span, {HOST}"
                groups = f"SELECT {span}, {HOST}, {_each('avg', question)} {rows} GROUP BY {keys} ORDER BY {keys}"
                return f"{_named(question, groups, HOST)} {IN_ORDER}"
            case "high":
                return f"SELECT * {rows} AND {HIGH_FIELD} > {HIGH_VALUE}"
            case "latest":
                spans = f"SELECT {span}, {_each('max', question)} {rows} GROUP BY span"
                return _named(question, f"{spans} ORDER BY span DESC LIMIT {LATEST_MINUTES}")
            case "last":
                return self._last_rows()
            case "rows":
                return f"SELECT {', '.join([TIME, *question.fields])} {rows}"
        raise AssertionError(question.kind)

    def _last_rows(self) -> str:
        others = [name for name in self._columns if name not in (HOST, TIME)]
        latest = ", ".join(f"argMax({name}, {TIME}) AS last_{name}" for name in others)
        names = ", ".join(f"last_{name} AS {name}" for name in others)
        groups = f"SELECT {HOST}, max({TIME}) AS last_time, {latest} FROM {TABLE} GROUP BY {HOST}"
        return f"SELECT {HOST}, last_time AS {TIME}, {names} FROM ({groups}) {IN_ORDER}"


def _named(question: Question, query: str, *keys: str) -> str:
    """Give spans and aggregates the names of what they are of, which within the query are those of the rows."""
    fields = [f"each_{field} AS {field}" for field in question.fields]
    return f"SELECT {', '.join([f'span AS {TIME}', *keys, *fields])} FROM ({query})"


def _each(function: str, question: Question) -> str:
    return ", ".join(f"{function}({field}) AS each_{field}" for field in question.fields)


def _conditions(question: Question) -> list[str]:
    found = []
    if question.start_ns is not None:
        found.append(f"{TIME} >= {_moment(question.start_ns)}")
    if question.end_ns is not None:
        found.append(f"{TIME} < {_moment(question.end_ns)}")
    if len(question.hosts) == 1:
        found.append(f"{HOST} = '{question.hosts[0]}'")
    elif question.hosts:
        found.append(f"{HOST} IN ({', '.join(repr(host) for host in question.hosts)})")
    return found


def _moment(ticks_ns: int) -> str:
    return f"fromUnixTimestamp64Nano({ticks_ns}, 'UTC')"


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "DateTime64(9, 'UTC')"
    return "LowCardinality(String)" if pa.types.is_string(kind) else "Float64"


if __name__ == "__main__":
    run(Chdb())
