"""What a query needs of a table, read off its syntax tree; each line can be checked by eye."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from mitoframe.frames.duckdb import Query, _without_patterns
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.predicate import describe

SCHEMA = pa.schema(
    [
        ("host", pa.large_string()),
        ("rack", pa.int64()),
        ("ts", pa.timestamp("us")),
        ("load", pa.float64()),
    ]
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds(text: str) -> int:
    return int((datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH).total_seconds())


JANUARY_1, JANUARY_2 = seconds("2024-01-01") * 10**6, seconds("2024-01-02") * 10**6


def needed(query: str, time_type: pa.DataType | None = None) -> str:
    schema = SCHEMA if time_type is None else SCHEMA.set(2, pa.field("ts", time_type))
    return describe(Query(query).needed("cpu", schema, "ts", ["host", "rack"]))


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("host = 'a'", "host == 'a'"),
        ("'a' = host AND rack = -5", "host == 'a' and rack == -5"),
        ("host IN ('a', 'it''s')", 'host in [\'a\', "it\'s"]'),
        ("cpu.host = 'a' AND CPU.Rack = 1", "host == 'a' and rack == 1"),
        ("host = 'a' OR rack = 1", "(host == 'a' or rack == 1)"),
        ("host = 'a' AND load > 3", "host == 'a'"),
        ("ts >= '2024-01-01'", f"ts >= {JANUARY_1 - 1}"),
        ("ts > DATE '2024-01-01'", f"ts >= {JANUARY_1 - 1}"),
        ("TIMESTAMP '2024-01-01' > ts", f"ts <= {JANUARY_1 + 1}"),
        ("ts = '2024-01-01'", f"ts >= {JANUARY_1 - 1} and ts <= {JANUARY_1 + 1}"),
        ("ts BETWEEN '2024-01-01' AND '2024-01-02'", f"ts >= {JANUARY_1 - 1} and ts <= {JANUARY_2 + 1}"),
        ("ts BETWEEN '2024-01-01' AND now()", f"ts >= {JANUARY_1 - 1}"),
        ("ts IN ('2024-01-02', '2024-01-01')", f"ts >= {JANUARY_1 - 1} and ts <= {JANUARY_2 + 1}"),
        ("(ts > '2024-01-01' AND host = 'a') OR (host = 'b' AND load = 1)",
         f"(ts >= {JANUARY_1 - 1} and host == 'a' or host == 'b')"),
    ],
)  # fmt: skip
def test_plain_conditions_on_time_and_tags_are_understood(condition: str, found: str) -> None:
    assert needed(f"SELECT * FROM cpu WHERE {condition}") == found


@pytest.mark.parametrize(
    "condition",
    [
        "load > 3",
        "host = 'a' OR load > 3",
        "NOT host = 'a'",
        "host <> 'a'",
        "host > 'a'",
        "host = rack",
        "host = 5",
        "rack = '5'",
        "rack = 5.5",
        "host LIKE 'a%'",
        "host IN ('a', load)",
        "host IN (SELECT 'a')",
        "lower(host) = 'a'",
        "ts < now()",
        "ts < 'tomorrow'",
        "ts < TRY_CAST('2024-01-01' AS TIMESTAMP)",
        "ts < TIMESTAMPTZ '2024-01-01'",
        "ts IN ('2024-01-01', now())",
        "ts = NULL",
        "ts <> '2024-01-01'",
        "other.ts > '2024-01-01'",
        "infinity.ts = 'infinity'",
    ],
)
def test_of_anything_else_nothing_is_concluded(condition: str) -> None:
    assert needed(f"SELECT * FROM cpu WHERE {condition}") == "everything"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("FROM cpu AS c WHERE c.host = 'a' AND cpu.rack = 1", "host == 'a'"),
        ("FROM cpu a JOIN cpu b USING (ts) WHERE a.host = 'a' AND b.host = 'b'", "(host == 'a' or host == 'b')"),
        ("FROM cpu JOIN mem USING (ts) WHERE cpu.host = 'a'", "host == 'a'"),
        ("FROM mem LEFT JOIN cpu USING (ts) WHERE cpu.host = 'a'", "host == 'a'"),
        ("FROM cpu, mem WHERE cpu.host = 'a'", "host == 'a'"),
        ("SELECT * FROM (SELECT * FROM cpu WHERE host = 'a') WHERE rack = 1", "host == 'a'"),
        ("WITH x AS (FROM cpu WHERE host = 'a') FROM x", "host == 'a'"),
        ("FROM cpu WHERE host = 'a' UNION FROM cpu WHERE host = 'b'", "(host == 'a' or host == 'b')"),
        ("FROM mem WHERE x = (SELECT max(load) FROM cpu WHERE host = 'a')", "host == 'a'"),
        ("SELECT 1 HAVING EXISTS (FROM cpu WHERE host = 'a')", "host == 'a'"),
    ],
)
def test_each_mention_counts(query: str, found: str) -> None:
    assert needed(query) == found


@pytest.mark.parametrize(
    "query",
    [
        "FROM cpu JOIN mem USING (ts) WHERE host = 'a'",
        "FROM cpu a JOIN cpu b USING (ts) WHERE a.host = 'a'",
        "FROM cpu WHERE host = 'a' UNION FROM cpu",
        "FROM cpu TABLESAMPLE 5 ROWS WHERE host = 'a'",
        "FROM cpu AS c(rack, host) WHERE host = 'a'",
        "FROM cpu ASOF JOIN mem ON cpu.ts >= mem.ts WHERE cpu.host = 'a'",
        "FROM mem POSITIONAL JOIN cpu WHERE cpu.host = 'a'",
        "FROM mem SEMI JOIN cpu USING (ts) WHERE mem.host = 'a'",
        "FROM mem ANTI JOIN cpu USING (ts) WHERE mem.host = 'a'",
        "FROM cpu WHERE host = 'a' UNION FROM query_table('cpu')",
        "FROM cpu WHERE host = 'a' UNION FROM query('FROM cpu')",
        "FROM (UNPIVOT cpu ON load) WHERE host = 'a'",
        "FROM mem WHERE host = 'a'",
        "FROM other.cpu WHERE ts < now()",
        "DESCRIBE cpu",
    ],
)
def test_every_row_may_be_needed(query: str) -> None:
    assert needed(query) == "everything"


@pytest.mark.parametrize(
    ("unit", "first", "last"),
    [
        ("ms", JANUARY_1 // 1000 - 1, JANUARY_1 // 1000 + 1),
        ("us", JANUARY_1 - 1, JANUARY_1 + 1),
        ("ns", (JANUARY_1 - 1) * 1000, (JANUARY_1 + 1) * 1000),
    ],
)
def test_moments_are_put_in_the_columns_unit_with_some_doubt(unit: str, first: int, last: int) -> None:
    query = "FROM cpu WHERE ts = '2024-01-01'"
    aware = "FROM cpu WHERE ts = TIMESTAMPTZ '2024-01-01 01:00:00+01'"

    assert needed(query, pa.timestamp(unit)) == f"ts >= {first} and ts <= {last}"
    assert needed(aware, pa.timestamp(unit, "Europe/Paris")) == f"ts >= {first} and ts <= {last}"


def test_moments_beyond_the_column_are_cut_off() -> None:
    assert needed("FROM cpu WHERE ts < '9999-01-01'", pa.timestamp("ns")) == f"ts <= {2**63 - 1}"


def test_a_query_that_is_nested_deeply_is_read_or_refused() -> None:
    def deep(terms: int) -> str:
        return "FROM cpu WHERE host = 'a' AND load > " + " + ".join(["1"] * terms)

    assert needed(deep(200)) == "host == 'a'"
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        needed(deep(900))
    with pytest.raises(InvalidInputError, match="DuckDB cannot read this query"):
        needed("SELECT " + "(" * 20_000 + "1" + ")" * 20_000)


def test_the_names_of_tables_are_found() -> None:
    query = """
        WITH x AS (FROM "My Table") SELECT (SELECT 1 FROM sub), 'no.table' FROM x, main.cpu, CPU c, other.gone
        WHERE EXISTS (FROM inner_one) UNION FROM range(3)
    """

    assert Query(query).names == ["CPU", "My Table", "cpu", "inner_one", "sub", "x"]


def test_a_path_stands_for_one_file_whatever_it_is_called() -> None:
    assert _without_patterns("/a[b]*?/c'.parquet") == "/a[[]b][*][?]/c'.parquet"
