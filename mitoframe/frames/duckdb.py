"""DuckDB: the rows of a table as a relation, and SQL over tables that nobody had to register.

Files that stand alone are given to DuckDB by name, and it reads them with its own pushdown. The rest, which has to be
merged, is a data set that DuckDB scans through Arrow: the columns it asks for are read, merged, and only then filtered
by the condition that it pushed down, so that no condition ever meets a row that a newer one replaced.

Of floats DuckDB believes that the statistics of a Parquet file speak of NaN too, which they do not: it skips NaN where
it looks for large values, and finds it among small ones. So it gets to see floats through an expression.

Whatever a relation reads stays as it was when the relation was made: the data set holds the snapshot, DuckDB holds the
data set for as long as the relation, or one derived from it, lives, and a snapshot's files are not deleted.

SQL is not understood here but for one thing: which rows of a table a query cannot need, from the plainest conditions on
its time and tags in its syntax tree. Everything else about a query is taken to need every row.

    type of a column            in DuckDB
    timestamp[ms|us|ns]         TIMESTAMP_MS, TIMESTAMP, TIMESTAMP_NS; with a zone TIMESTAMPTZ or, of ns, TIMESTAMPTZ_NS
    duration                    INTERVAL, of microseconds
    time[us|ns]                 TIME, TIME_NS
    string, binary, list        VARCHAR, BLOB, T[]
    the others                  the type of that name
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.dataset

from mitoframe.model.errors import InvalidInputError
from mitoframe.model.predicate import ALWAYS, Compare, IsIn, Operator, Or, Predicate, conjunction
from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TIME_MIN, TimeRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Sequence as Many


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Parquet files that can be read as they are, and the columns that none of them has, which are null."""

    paths: tuple[str, ...]
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows for DuckDB: those of the files that are in the time range, and those that ``merged`` yields.

    ``merged`` takes column names and can be called again and again, from any thread. It holds what pins the files.
    """

    schema: pa.Schema
    files: tuple[Files, ...]
    time: pa.Field
    time_range: TimeRange
    merged: Callable[[Many[str]], Iterator[pa.RecordBatch]]


def relation(source: Source, connection: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
    """Return rows as a relation of a connection, or else of DuckDB's default one. No row is read."""
    place = connection if connection is not None else duckdb.default_connection()
    parts = [place.sql(_select(files, source)) for files in source.files]
    made = place.from_arrow(_Merged(source.schema, source.merged))
    for part in parts:
        made = made.union(part)  # Of all rows: DuckDB's relations say "union" for UNION ALL.
    return made


def check_names(names: Many[str]) -> None:
    """Refuse column names that are one to DuckDB, to which case means nothing.

    Raises:
        InvalidInputError: there are two of that kind.

    """
    seen: dict[str, str] = {}
    for name in names:
        former = seen.setdefault(name.lower(), name)
        if former != name:
            raise InvalidInputError(
                f"the columns {former!r} and {name!r} are one to DuckDB, to which case means nothing; leave one out "
                "with columns=[...], or rename it."
            )


class _Merged(pyarrow.dataset.Dataset):  # type: ignore[misc]
    """Rows that have to be merged, as the data set that DuckDB knows how to push columns and conditions into.

    DuckDB looks at ``schema`` and calls ``scanner``, and drops the conditions that it gave: they are applied here, just
    as it means them. Nothing else of a data set is there, so nobody else gets to see one.
    """

    def __init__(self, schema: pa.Schema, read: Callable[[Many[str]], Iterator[pa.RecordBatch]]) -> None:
        self._columns, self._read = schema, read

    @property
    def schema(self) -> pa.Schema:
        return self._columns

    def scanner(
        self,
        columns: list[str] | None = None,
        filter: pa.compute.Expression | None = None,  # noqa: A002 - the name that DuckDB uses
        **_: Any,
    ) -> pyarrow.dataset.Scanner:
        names = self._needed(columns, filter)
        return pyarrow.dataset.Scanner.from_batches(
            self._read(names), schema=_part(self._columns, names), columns=columns, filter=filter
        )

    def _needed(self, columns: list[str] | None, condition: pa.compute.Expression | None) -> list[str]:
        """Return the columns to read. What a condition looks at can only be found in its text, so some more may be."""
        if columns is None:
            return list(self._columns.names)
        text = str(condition)
        return [name for name in self._columns.names if name in columns or name in text] or self._columns.names[:1]


def _part(schema: pa.Schema, names: Many[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


# --- files as SQL ----------------------------------------------------------------------------------------


def reads_files(schema: pa.Schema, time: pa.Field, time_range: TimeRange, last: int) -> bool:
    """Tell whether DuckDB reads a table's Parquet files as the rows they are.

    It takes a duration for a number, and fails at milliseconds that are no microseconds. Of a field all can be feared;
    of the time it is known that none is further from 1970 than ``last``.
    """
    others = (field.type for field in schema if field.name != time.name)
    bounds = [bound for bound in (time_range.start, time_range.end) if bound not in (TIME_MIN, TIME_MAX)]
    return (
        all(_is_read_alike(data_type) for data_type in others)
        and all(_is_common_era(bound, time.type) for bound in bounds)
        and (time.type.unit != "ms" or last < TIME_MAX // 1000)
    )


def _is_read_alike(data_type: pa.DataType) -> bool:
    if pa.types.is_large_list(data_type):
        return _is_read_alike(data_type.value_type)
    is_milliseconds = pa.types.is_timestamp(data_type) and data_type.unit == "ms"
    return not (is_milliseconds or pa.types.is_duration(data_type))


_TICKS = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_YEAR_1_S, _YEAR_10000_S = -62_135_596_800, 253_402_300_800


def _is_common_era(ticks: int, time_type: pa.TimestampType) -> bool:
    """Tell whether a time is in the years 1 to 9999, which are written alike everywhere."""
    return _YEAR_1_S <= ticks // _TICKS[time_type.unit] < _YEAR_10000_S


def _select(files: Files, source: Source) -> str:
    columns = ", ".join(_column(field, is_missing=field.name in files.missing) for field in source.schema)
    places = ", ".join(_text(_without_patterns(path)) for path in files.paths)
    conditions = " AND ".join(_conditions(source))
    where = f" WHERE {conditions}" if conditions else ""
    return f"SELECT {columns} FROM read_parquet([{places}], hive_partitioning=false){where}"


def _column(field: pa.Field, *, is_missing: bool) -> str:
    name = _name(field.name)
    if is_missing:
        return f"CAST(NULL AS {_type(field.type)}) AS {name}"
    if pa.types.is_floating(field.type):
        return f"CASE WHEN {name} IS NULL THEN NULL ELSE {name} END AS {name}"
    if pa.types.is_timestamp(field.type) and field.type.unit == "ms":
        return f"CAST({name} AS {_type(field.type)}) AS {name}"
    return name


def _conditions(source: Source) -> Iterator[str]:
    for operator, bound, is_open in (
        (">=", source.time_range.start, source.time_range.start == EVERYTHING.start),
        ("<", source.time_range.end, source.time_range.end == EVERYTHING.end),
    ):
        if not is_open:
            yield f"{_name(source.time.name)} {operator} {_moment(bound, source.time.type)}"


def _moment(ticks: int, time_type: pa.TimestampType) -> str:
    text = str(pa.scalar(ticks, pa.timestamp(time_type.unit)).cast(pa.string()))
    return f"CAST({_text(text + '+00' if time_type.tz else text)} AS {_type(time_type)})"


_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.large_string(): "VARCHAR",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.time64("ns"): "TIME_NS",
}
_NAIVE = {"ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}
_AWARE = {"ms": "TIMESTAMPTZ", "us": "TIMESTAMPTZ", "ns": "TIMESTAMPTZ_NS"}


def _type(data_type: pa.DataType) -> str:
    """Name the type that DuckDB makes of a column it reads through Arrow."""
    if pa.types.is_large_list(data_type):
        return f"{_type(data_type.value_type)}[]"
    if pa.types.is_timestamp(data_type):
        return (_AWARE if data_type.tz else _NAIVE)[data_type.unit]
    if pa.types.is_decimal128(data_type):
        return f"DECIMAL({data_type.precision}, {data_type.scale})"
    return _TYPES[data_type]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _without_patterns(path: str) -> str:
    """Write a path so that DuckDB takes it for one file, whatever the folders are called."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in path)


# --- queries ---------------------------------------------------------------------------------------------


class Query:
    """One SELECT. Bind what it reads, then run it.

    Raises:
        InvalidInputError: it is not SQL, or does something else than read.

    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._cursor = _root(os.getpid()).cursor()
        # Else it would depend on the machine what a time without a zone means.
        self._cursor.execute("SET TimeZone = 'UTC'")
        try:
            _check_reads([statement.type for statement in self._cursor.extract_statements(text)])
            self._tree = json.loads(self._cursor.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0][0])
        except duckdb.Error as error:
            raise InvalidInputError(f"DuckDB cannot read this query: {error}") from error
        except RecursionError as error:
            raise InvalidInputError("the query is nested too deeply to be read; cut it into several.") from error
        _check_tree(self._tree)

    @property
    def names(self) -> list[str]:
        """The tables that are mentioned, as they are spelt there; some may be of the query's own WITH clause."""
        nodes = [node for node in _nodes(self._tree) if node.get("type") == "BASE_TABLE"]
        ours = [node for node in nodes if not node.get("catalog_name") and node.get("schema_name") in ("", "main")]
        return sorted({node["table_name"] for node in ours})

    def needed(self, table: str, schema: pa.Schema, time: str, tags: Many[str]) -> Predicate:
        """Return a condition that holds for every row that the query needs of a table. It errs on the side of more."""
        reader = _Conditions(schema=schema, time=time, tags=frozenset(tags), evaluate=self._evaluate)
        try:
            return _needed(self._tree, table, reader) if _is_plain(self._tree) else ALWAYS
        except RecursionError:
            return ALWAYS

    def _evaluate(self, text: str, types: Many[str]) -> int | None:
        """Return the microseconds since 1970 that a text means when it is cast to these types, one after the other."""
        casts = "$1"
        for name in types:
            casts = f"CAST({casts} AS {name})"
        try:
            found = self._cursor.execute(f"SELECT epoch_us({casts})", [text]).fetchall()[0][0]
        except duckdb.Error:
            return None
        return found if isinstance(found, int) and abs(found) < 2**62 else None

    def bind(self, name: str, source: Source) -> None:
        """Let a name stand for rows in this query."""
        inner = f"{name}\t(merged)"  # No table is called like that: their names hold no control characters.
        self._cursor.register(inner, _Merged(source.schema, source.merged))
        parts = [*(_select(files, source) for files in source.files), f"SELECT * FROM {_name(inner)}"]
        self._cursor.execute(f"CREATE TEMP VIEW {_name(name)} AS {' UNION ALL '.join(parts)}")

    def bind_frame(self, name: str, frame: object) -> None:
        """Let a name stand for a frame of any library that DuckDB knows."""
        try:
            self._cursor.register(name, frame)
        except (duckdb.Error, ValueError, TypeError) as error:
            raise InvalidInputError(
                f"{name}= is a {type(frame).__name__}, which DuckDB cannot read: {error}"
            ) from error

    def run(self) -> duckdb.DuckDBPyRelation:
        """Return the answer as a relation. It reads when it is asked for rows."""
        try:
            return self._cursor.sql(self._text)
        except duckdb.Error as error:
            raise InvalidInputError(f"DuckDB cannot run this query: {error}") from error


def is_missing(error: InvalidInputError) -> bool:
    """Tell whether a query was refused because something that it names is not there."""
    return isinstance(error.__cause__, duckdb.CatalogException)


@cache
def _root(process_id: int) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 - a forked child needs one of its own
    """Return the process's own DuckDB in memory: each query gets a cursor of it, and on that its temporary views.

    Variables of the caller are not tables: what a query reads is named where it is called.
    """
    return duckdb.connect(":memory:", config={"python_enable_replacements": "false"})


# --- what a query needs ----------------------------------------------------------------------------------
#
# Each mention of a table may need other rows of it, so what the table must give is the union. A mention whose rows all
# pass the WHERE clause of its own SELECT needs those for which the clause can be true; any other one needs all rows.

_JOINS = {"INNER", "LEFT", "RIGHT", "OUTER"}
_SOURCES = {"BASE_TABLE", "JOIN", "SUBQUERY", "EMPTY", "EMPTY_FROM", "EXPRESSION_LIST", "TABLE_FUNCTION"}
_READS_BY_NAME = {"query", "query_table"}
_OPERATORS: dict[str, Operator] = {
    "COMPARE_EQUAL": "==",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_MIRRORED: dict[Operator, Operator] = {"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TYPES_OF_MOMENTS = {
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "TIMESTAMPTZ": "TIMESTAMPTZ",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "TIMESTAMPTZ_NS": "TIMESTAMPTZ",
}

Node = dict[str, Any]


def _check_reads(kinds: list[duckdb.StatementType]) -> None:
    if kinds == [duckdb.StatementType.SELECT]:
        return
    if kinds == [duckdb.StatementType.MULTI]:
        raise InvalidInputError(
            "PIVOT needs to be told the values, as in PIVOT cpu ON host IN ('a', 'b') USING max(load)."
        )
    found = ", ".join(kind.name for kind in kinds) or "nothing"
    raise InvalidInputError(
        f"sql() takes one SELECT, and this is {found}. Rows are changed with table.write() and table.delete(), tables "
        "with db.create_table() and db.drop_table()."
    )


def _check_tree(tree: Node) -> None:
    if tree["error"]:
        raise InvalidInputError(f"DuckDB cannot read this query: {tree['error_message']}")
    for node in _nodes(tree):
        kind = str(node.get("type"))
        if kind.endswith("_QUERY_NODE"):
            raise InvalidInputError(f"sql() takes one SELECT, and in this one is {kind.removesuffix('_QUERY_NODE')}.")
        if kind == "SHOW_REF" and node.get("query") is None:
            raise InvalidInputError("sql() takes one SELECT; db.tables() lists the tables.")


def _nodes(tree: object) -> Iterator[Node]:
    """Yield every node of a tree, in the order of the text."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(reversed(node.values()))
        elif isinstance(node, list):
            waiting.extend(reversed(node))


def _is_plain(tree: Node) -> bool:
    """Tell whether tables are mentioned nowhere but where tables are."""
    for node in _nodes(tree):
        source = node.get("from_table")
        if isinstance(source, dict) and any(each.get("type") not in _SOURCES for each in _from(source)):
            return False
        if str(node.get("function_name")).lower() in _READS_BY_NAME:
            return False
    return True


def _from(source: Node) -> Iterator[Node]:
    """Yield the parts of a FROM clause, joins and what they join."""
    yield source
    if source.get("type") == "JOIN":
        yield from _from(source["left"])
        yield from _from(source["right"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mention:
    """A table in a FROM clause. ``is_alone``: nothing else is in it."""

    alias: str
    is_alone: bool
    where: Node | None


def _needed(tree: Node, table: str, reader: _Conditions) -> Predicate:
    mentions = dict(_mentions(tree))
    parts: list[Predicate] = []
    for node in _nodes(tree):
        if node.get("type") == "BASE_TABLE" and str(node.get("table_name")).lower() == table.lower():
            mention = mentions.get(id(node))
            found = None if mention is None or mention.where is None else reader.read(mention.where, mention)
            if found is None:
                return ALWAYS
            parts.append(found)
    if not parts:
        return ALWAYS
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _mentions(tree: Node) -> Iterator[tuple[int, _Mention]]:
    for node in _nodes(tree):
        source = node.get("from_table")
        if node.get("type") == "SELECT_NODE" and isinstance(source, dict):
            tables = list(_plain_tables(source))
            for each in tables:
                alias = str(each.get("alias") or each.get("table_name")).lower()
                yield id(each), _Mention(alias=alias, is_alone=each is source, where=node.get("where_clause"))


def _plain_tables(source: Node) -> Iterator[Node]:
    """Yield the tables of a FROM clause of which rows that fail the WHERE clause leave no trace.

    Not so where a row chooses the nearest of others (ASOF), goes by its number (POSITIONAL), or is drawn (a sample).
    """
    if source.get("type") == "BASE_TABLE":
        if not (source.get("sample") or source.get("at_clause") or source.get("column_name_alias")):
            yield source
    elif source.get("type") == "JOIN" and _is_plain_join(source):
        yield from _plain_tables(source["left"])
        yield from _plain_tables(source["right"])


def _is_plain_join(source: Node) -> bool:
    kind = source.get("ref_type")
    return kind == "CROSS" or (kind == "REGULAR" and source.get("join_type") in _JOINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conditions:
    """Reads conditions of a syntax tree as predicates that are implied by them, or as None."""

    schema: pa.Schema
    time: str
    tags: frozenset[str]
    evaluate: Callable[[str, Many[str]], int | None]

    def read(self, node: Node, mention: _Mention) -> Predicate | None:
        children = node.get("children", [])
        match node.get("type"):
            case "CONJUNCTION_AND":
                known = [part for child in children if (part := self.read(child, mention)) is not None]
                return conjunction(known) if known else None
            case "CONJUNCTION_OR":
                parts = [self.read(child, mention) for child in children]
                return None if None in parts else Or(tuple(part for part in parts if part is not None))
            case "COMPARE_BETWEEN":
                name = self._column(node["input"], mention)
                bounds = (self._compare(name, ">=", node["lower"]), self._compare(name, "<=", node["upper"]))
                known = [part for part in bounds if part is not None]
                return conjunction(known) if known else None
            case "COMPARE_IN":
                return self._is_in(self._column(children[0], mention), children[1:])
            case str(kind) if kind in _OPERATORS:
                name = self._column(node["left"], mention)
                if name is not None:
                    return self._compare(name, _OPERATORS[kind], node["right"])
                return self._compare(self._column(node["right"], mention), _MIRRORED[_OPERATORS[kind]], node["left"])
            case _:
                return None

    def _column(self, node: Node, mention: _Mention) -> str | None:
        if node.get("type") != "COLUMN_REF":
            return None
        *qualifiers, name = node["column_names"]
        is_ours = mention.is_alone if not qualifiers else [mention.alias] == [each.lower() for each in qualifiers]
        spelt = {each.lower(): each for each in (self.time, *self.tags)}
        return spelt.get(name.lower()) if is_ours else None

    def _compare(self, name: str | None, operator: Operator, node: Node) -> Predicate | None:
        if name == self.time:
            return self._compare_time(operator, node)
        value = None if name is None or operator != "==" else self._tag_value(name, node)
        return None if value is None or name is None else Compare(name, "==", value)

    def _compare_time(self, operator: Operator, node: Node) -> Predicate | None:
        span = self._span(node)
        if span is None:
            return None
        at_least, at_most = Compare(self.time, ">=", span[0]), Compare(self.time, "<=", span[1])
        if operator == "==":
            return conjunction([at_least, at_most])
        return at_least if operator in (">", ">=") else at_most

    def _is_in(self, name: str | None, nodes: list[Node]) -> Predicate | None:
        if name is None or not nodes:
            return None
        if name == self.time:
            spans = [self._span(node) for node in nodes]
            known = [span for span in spans if span is not None]
            if len(known) < len(spans):
                return None
            first, last = min(span[0] for span in known), max(span[1] for span in known)
            return conjunction([Compare(name, ">=", first), Compare(name, "<=", last)])
        values = [self._tag_value(name, node) for node in nodes]
        return None if None in values else IsIn(name, tuple(values))

    def _tag_value(self, name: str, node: Node) -> str | int | None:
        literal: Mapping[str, str] = node.get("literal") or {}
        data_type = self.schema.field(name).type
        if node.get("type") != "VALUE_CONSTANT":
            return None
        if literal.get("kind") == "STRING" and pa.types.is_large_string(data_type):
            return literal["text"]
        if literal.get("kind") == "INTEGER" and pa.types.is_integer(data_type):
            return int(literal["text"])
        return None

    def _span(self, node: Node) -> tuple[int, int] | None:
        """Return the ticks between which a constant moment is for sure, a microsecond of doubt on either side."""
        kind = self.schema.field(self.time).type
        goal = "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
        types = [goal]
        if node.get("type") == "OPERATOR_CAST" and not node.get("try_cast"):
            given = _TYPES_OF_MOMENTS.get(str(node["type_expr"].get("type_name")).upper())
            if given is None or (given == "TIMESTAMPTZ" and goal != given):
                return None  # What a zone makes of a naive time depends on more than the time.
            types, node = [given, goal], node["child"]
        literal: Mapping[str, str] = node.get("literal") or {}
        if node.get("type") != "VALUE_CONSTANT" or literal.get("kind") != "STRING":
            return None
        found = self.evaluate(literal["text"], types)
        return None if found is None else _ticks_around(found, kind.unit)


def _ticks_around(microseconds: int, unit: str) -> tuple[int, int]:
    ticks, of = _TICKS[unit], _TICKS["us"]
    first, last = (microseconds - 1) * ticks // of, -((microseconds + 1) * -ticks // of)
    return max(first, TIME_MIN), min(last, TIME_MAX)
