"""Polars' conditions as predicates, and back.

An expression is taken apart with the public ``meta.pop`` and recognised by putting it together again: what
``column.str.starts_with(literal)`` makes of the same parts is equal to it (``meta.eq``), or it is something else. So
every option counts, and a Polars that learns a new one is not misread. Requires an expression as Polars pushes it down:
types are settled, and each literal has the type of the column it is compared with.

What cannot be said as a predicate is evaluated by Polars: `RowWise` where every function in it is on the list of those
that look at one row at a time, else `Opaque`, which skips nothing. Conditions on parts of the time imply a range of it
(frames/conditions_time.py).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeAlias, TypeGuard

import numpy as np
import polars as pl
import pyarrow as pa
from polars.exceptions import ColumnNotFoundError, PolarsError
from polars.lazyframe.resolver import FilterExpr

from mitoframe.frames.conditions_time import Field, polars_type, single_literal, time_part
from mitoframe.model.errors import InvalidInputError, SchemaMismatchError, unknown_name
from mitoframe.model.predicate import (
    ALWAYS,
    NEVER,
    And,
    Compare,
    Evaluate,
    Implied,
    IsIn,
    IsNull,
    Not,
    Opaque,
    Operator,
    Or,
    Predicate,
    RowWise,
    Text,
    columns_of,
    conjunction,
    conjuncts,
    time_range,
)
from mitoframe.model.timerange import TIME_MAX, TIME_MIN

Closed: TypeAlias = Literal["both", "left", "right", "none"]

_COMPARE: dict[Operator, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_MIRRORED: dict[Operator, Operator] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BETWEEN: dict[Closed, tuple[Operator, Operator]] = {
    "both": (">=", "<="),
    "left": (">=", "<"),
    "right": (">", "<="),
    "none": (">", "<"),
}


def to_predicate(item: FilterExpr, field: Field) -> Predicate:
    """Read a condition that Polars pushes down; ``field`` tells the type of a column."""
    return _Reader(field).read(item.expr)


@dataclass(frozen=True, slots=True)
class _Reader:
    field: Field

    def read(self, expr: pl.Expr) -> Predicate:
        if expr.meta.is_column():
            return Compare(expr.meta.output_name(), "==", True)
        if expr.meta.is_literal():
            return self._constant(expr)
        match expr.meta.pop():
            case [part]:
                found = self._unary(expr, part)
            case [right, left]:
                found = self._binary(expr, left, right)
            case [high, low, part]:
                found = self._between(expr, part, low, high)
            case _:
                found = None
        return found if found is not None else self._evaluated(expr)

    def _constant(self, expr: pl.Expr) -> Predicate:
        values = pl.select(expr).to_series()
        if len(values) != 1 or values.dtype != pl.Boolean or values.item() is None:
            return Opaque(str(expr))
        return ALWAYS if values.item() else NEVER

    def _unary(self, expr: pl.Expr, part: pl.Expr) -> Predicate | None:
        if (~part).meta.eq(expr):
            return Not(self.read(part))
        name = _column(part)
        if name is None:
            return None
        if part.is_null().meta.eq(expr):
            return IsNull(name)
        if part.is_not_null().meta.eq(expr):
            return Not(IsNull(name))
        if part.is_nan().meta.eq(expr):
            return Compare(name, "==", math.nan)
        return Compare(name, "!=", math.nan) if part.is_not_nan().meta.eq(expr) else None

    def _binary(self, expr: pl.Expr, left: pl.Expr, right: pl.Expr) -> Predicate | None:
        operator = _operator(expr, left, right)
        if operator is not None:
            return self._comparison(expr, left, operator, right)
        # Arithmetic has two parts as well, and putting conditions together only makes sense for conditions.
        if (left & right).meta.eq(expr):
            return conjunction([self.read(left), self.read(right)])
        if (left | right).meta.eq(expr):
            return Or((self.read(left), self.read(right)))
        if (left ^ right).meta.eq(expr):
            first, second = self.read(left), self.read(right)
            return Or((And((first, Not(second))), And((Not(first), second))))
        return self._missing(expr, left, right) or self._set(expr, left, right) or self._text(expr, left, right)

    def _comparison(self, expr: pl.Expr, left: pl.Expr, operator: Operator, right: pl.Expr) -> Predicate | None:
        if left.meta.is_literal():
            left, operator, right = right, _MIRRORED[operator], left
        name = _column(left)
        if name is None:
            return self._of_time(expr, left, [(operator, right)])
        value = self._value(name, right)
        return None if value is None else Compare(name, operator, value)

    def _between(self, expr: pl.Expr, part: pl.Expr, low: pl.Expr, high: pl.Expr) -> Predicate | None:
        for closed, (above, below) in _BETWEEN.items():
            if part.is_between(low, high, closed=closed).meta.eq(expr):
                name = _column(part)
                if name is None:
                    return self._of_time(expr, part, [(above, low), (below, high)])
                first, last = self._value(name, low), self._value(name, high)
                if first is None or last is None:
                    return None
                return And((Compare(name, above, first), Compare(name, below, last)))
        return None

    def _missing(self, expr: pl.Expr, left: pl.Expr, right: pl.Expr) -> Predicate | None:
        """Read the comparisons for which null equals null."""
        is_equal = left.eq_missing(right).meta.eq(expr)
        if not is_equal and not left.ne_missing(right).meta.eq(expr):
            return None
        column, literal = (right, left) if left.meta.is_literal() else (left, right)
        name = _column(column)
        value = None if name is None else self._value(name, literal)
        if name is None or value is None:
            return None
        if is_equal:
            return And((Compare(name, "==", value), Not(IsNull(name))))
        return Or((Compare(name, "!=", value), IsNull(name)))

    def _set(self, expr: pl.Expr, left: pl.Expr, right: pl.Expr) -> Predicate | None:
        if not right.meta.is_literal():
            return None
        nulls_equal = left.is_in(right, nulls_equal=True).meta.eq(expr)
        if not nulls_equal and not left.is_in(right).meta.eq(expr):
            return None
        name = _column(left)
        if name is None:
            return None if nulls_equal else self._of_time(expr, left, [("==", right)])
        items = _items(right)
        if items is None:
            return None
        has_nulls = items.null_count() > 0
        values = self._values(name, items.drop_nulls() if has_nulls else items)
        if values is None:
            return None
        found = IsIn(name, tuple(values))
        if not nulls_equal:
            return found
        return Or((found, IsNull(name))) if has_nulls else And((found, Not(IsNull(name))))

    def _text(self, expr: pl.Expr, left: pl.Expr, right: pl.Expr) -> Predicate | None:
        name = _column(left)
        if name is None or not right.meta.is_literal() or not _is_text(self.field(name).type):
            return None
        pattern = self._value(name, right)
        if pattern is None:
            return None
        if left.str.starts_with(right).meta.eq(expr):
            return Text(name, "starts_with", pattern)
        if left.str.ends_with(right).meta.eq(expr):
            return Text(name, "ends_with", pattern)
        for strict in (True, False):
            if left.str.contains(right, literal=True, strict=strict).meta.eq(expr):
                return Text(name, "contains", pattern)
            if left.str.contains(right, strict=strict).meta.eq(expr):
                return _plain_pattern(name, pattern)
        return None

    # --- literals ---

    def _value(self, name: str, literal: pl.Expr) -> Any:
        """Return one value in the column's terms, or None."""
        known = _settled_value(literal, self.field(name).type)
        if known is not None:
            return known
        found = single_literal(literal)
        values = None if found is None else self._values(name, found)
        return values[0] if values is not None and len(values) == 1 else None

    def _values(self, name: str, literals: pl.Series) -> list[Any] | None:
        data_type = self.field(name).type
        if not _is_plain(data_type) or literals.dtype != polars_type(data_type):
            return None
        if pa.types.is_timestamp(data_type):
            ticks: list[int] = literals.to_numpy().view(np.int64).tolist()
            return ticks
        return literals.to_list()

    # --- conditions on parts of the time ---

    def _of_time(self, expr: pl.Expr, part: pl.Expr, bounds: list[tuple[Operator, pl.Expr]]) -> Predicate:
        whole = self._evaluated(expr)
        time = time_part(part, self.field)
        if time is None:
            return whole
        ranges = [time.range_of(operator, _known(literal)) for operator, literal in bounds]
        implied = [bound for found in ranges for bound in found]
        return Implied(whole, conjunction(implied)) if implied else whole

    def _evaluated(self, expr: pl.Expr) -> Predicate:
        names = frozenset(expr.meta.root_names())
        evaluate = _evaluator(expr, sorted(names))
        if names and _is_row_wise(expr):
            return RowWise(names, evaluate, str(expr))
        return Opaque(str(expr), names, evaluate)


def _operator(expr: pl.Expr, left: pl.Expr, right: pl.Expr) -> Operator | None:
    """Return how an expression compares its two parts, if it does."""
    for operator, compare in _COMPARE.items():
        if compare(left, right).meta.eq(expr):
            return operator
    return None


def _column(expr: pl.Expr) -> str | None:
    return expr.meta.output_name() if expr.meta.is_column() else None


def _known(literal: pl.Expr) -> pl.Series | None:
    """Return the values of a literal, or of the list that it is, without nulls."""
    values = single_literal(literal)
    return values.item().drop_nulls() if values is not None and values.dtype == pl.List else values


def _items(expr: pl.Expr) -> pl.Series | None:
    """Return the items of a literal list."""
    values = single_literal(expr)
    return values.item() if values is not None and values.dtype == pl.List else None


def _is_text(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(data_type) or pa.types.is_string(data_type))


def _is_plain(data_type: pa.DataType) -> bool:
    """Tell whether values of a type compare in Python as they do in Polars."""
    return bool(
        _is_text(data_type)
        or pa.types.is_integer(data_type)
        or pa.types.is_floating(data_type)
        or pa.types.is_boolean(data_type)
        or pa.types.is_date32(data_type)
        or pa.types.is_timestamp(data_type)
    )


_PLAIN = re.compile(r"(\^?)([^\\.+*?()|\[\]{}^$]*)(\$?)", re.DOTALL)


def _plain_pattern(name: str, pattern: str) -> Predicate | None:
    """Read a regular expression that asks for nothing but the letters it is made of."""
    found = _PLAIN.fullmatch(pattern)
    match found and found.groups():
        case ("", letters, ""):
            return Text(name, "contains", letters)
        case ("^", letters, ""):
            return Text(name, "starts_with", letters)
        case ("", letters, "$"):
            return Text(name, "ends_with", letters)
        case ("^", letters, "$"):
            return Compare(name, "==", letters)
        case _:
            return None


# --- literals, as Polars writes them down ----------------------------------------------------------------

# Evaluating a literal takes ten times as long as reading it. Only what is written in just this way is read; whatever is
# not, or not any more, is evaluated. Floats that are not finite are written as null, and small ones not exactly.
_KINDS: dict[pa.DataType, str] = {
    pa.string(): "String",
    pa.large_string(): "String",
    pa.bool_(): "Boolean",
    pa.float64(): "Float64",
    pa.date32(): "Date",
    pa.int8(): "Int8",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
}
_UNITS = {"ms": "Milliseconds", "us": "Microseconds", "ns": "Nanoseconds"}
_FIRST_DAY = date(1970, 1, 1)
_DAYS = range((date.min - _FIRST_DAY).days, (date.max - _FIRST_DAY).days + 1)


def _settled_value(expr: pl.Expr, data_type: pa.DataType) -> Any:
    """Return the value of a literal of the very type, in the column's terms; None if it is not known."""
    match _written(expr):
        case {"Literal": {"Scalar": scalar}}:
            return _scalar_value(scalar, data_type)
        case _:
            return None


def _written(expr: pl.Expr) -> Any:
    """Return how Polars writes a literal down. Of another expression nothing is said: it may be huge."""
    if not expr.meta.is_literal():
        return None
    try:
        return json.loads(expr.meta.serialize(format="json"))
    except (PolarsError, ValueError):
        return None


def _scalar_value(scalar: Any, data_type: pa.DataType) -> Any:
    kind, type_options = _kind(data_type)
    value = scalar.get(kind) if isinstance(scalar, dict) else None
    if kind == "Datetime":
        match value:
            case [int(ticks), *options] if options == type_options:
                return ticks
            case _:
                return None
    if kind == "Date":
        return _FIRST_DAY + timedelta(value) if isinstance(value, int) and value in _DAYS else None
    return value


@lru_cache(maxsize=256)
def _kind(data_type: pa.DataType) -> tuple[str, list[Any]]:
    """Return the word for a type of literals, and what else is written of it."""
    if not pa.types.is_timestamp(data_type):
        return _KINDS.get(data_type, ""), []
    zone = None if data_type.tz is None else {"inner": data_type.tz}
    return "Datetime", [_UNITS.get(data_type.unit), zone]


def plain_predicate(condition: pl.Expr, schema: pa.Schema) -> Predicate | None:
    """Read a condition as a user wrote it, if it only compares columns with values of their types, and joins that.

    What is read so needs no check, and Polars would push down the same. None for all else.
    """
    if condition.meta.is_literal() or condition.meta.is_column():
        return None
    match condition.meta.pop():
        case [right, left]:
            pass
        case _:
            return None
    operator = _operator(condition, left, right)
    if operator is not None:
        return _plain_comparison(left, operator, right, schema)
    if (left & right).meta.eq(condition):
        both = _plain_parts(left, right, schema)
        return None if both is None else conjunction(both)
    if (left | right).meta.eq(condition):
        both = _plain_parts(left, right, schema)
        return None if both is None else Or(tuple(both))
    # Of sets, those of texts: numbers may yet be brought to the column's type, or the column to theirs.
    name = _column(left)
    is_text = name in schema.names and _is_text(schema.field(name).type)
    return _Reader(schema.field)._set(condition, left, right) if is_text else None


def _plain_parts(left: pl.Expr, right: pl.Expr, schema: pa.Schema) -> list[Predicate] | None:
    first = plain_predicate(left, schema)
    second = None if first is None else plain_predicate(right, schema)
    return None if first is None or second is None else [first, second]


def _plain_comparison(left: pl.Expr, operator: Operator, right: pl.Expr, schema: pa.Schema) -> Predicate | None:
    name = _column(left)
    if name is None or name not in schema.names:
        return None
    data_type = schema.field(name).type
    match _written(right):
        case {"Literal": {"Scalar": scalar}}:
            value = _scalar_value(scalar, data_type)
        case {"Literal": {"Dyn": {"Int": int(number)}}} if abs(number) <= _EXACT_MAX:
            value = _number(number, data_type)
        case {"Literal": {"Dyn": {"Float": float(number)}}} if data_type == pa.float64():
            value = number
        case _:
            value = None
    return None if value is None else Compare(name, operator, value)


_EXACT_MAX = 2**53


def _number(number: int, data_type: pa.DataType) -> int | float | None:
    """Return an integer as a column has it, if it can have it."""
    if data_type == pa.float64():
        return float(number)
    if not pa.types.is_integer(data_type):
        return None
    bits = data_type.bit_width
    least, most = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pa.types.is_signed_integer(data_type) else (0, 2**bits - 1)
    )
    return number if least <= number <= most else None


# --- what Polars evaluates -------------------------------------------------------------------------------


def _evaluator(expr: pl.Expr, names: list[str]) -> Evaluate:
    def evaluate(rows: pa.RecordBatch) -> pa.BooleanArray:
        frame = pl.from_arrow(pa.Table.from_batches([_plain_rows(rows.select(names))]))
        assert isinstance(frame, pl.DataFrame)
        truth = frame.select(expr.alias("truth")).to_series()
        assert len(truth) == rows.num_rows, "a condition has one answer per row"
        return truth.rechunk().to_arrow()

    return evaluate


def _plain_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    columns = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


# Functions that say of a row what depends on that row alone, always the same, and cannot fail. Their names are those in
# Polars' serialised expressions, which no document fixes: a name that is not known here makes a condition opaque.
_ROW_WISE = {
    "": "FillNull Coalesce Abs Negate MinHorizontal MaxHorizontal",
    "Boolean": """
        Not IsNull IsNotNull IsNan IsNotNan IsFinite IsInfinite IsIn IsBetween AnyHorizontal AllHorizontal
    """,
    "StringExpr": """
        Contains ContainsAny StartsWith EndsWith Lowercase Uppercase LenBytes LenChars Slice Head Tail StripChars
        StripCharsStart StripCharsEnd StripPrefix StripSuffix Replace Extract CountMatches Find ZFill PadStart PadEnd
        Reverse ConcatHorizontal Format
    """,
    "TemporalExpr": """
        Year IsoYear IsLeapYear Quarter Month Week WeekDay Day OrdinalDay Hour Minute Second Millisecond Microsecond
        Nanosecond Date Time TimeStamp Truncate Century Millennium
    """,
}
_FUNCTIONS = frozenset((family, name) for family, names in _ROW_WISE.items() for name in names.split())
_OPERATORS = frozenset(
    (
        *("Eq", "NotEq", "Lt", "LtEq", "Gt", "GtEq", "EqValidity", "NotEqValidity"),
        *("And", "Or", "Xor", "LogicalAnd", "LogicalOr"),
        *("Plus", "Minus", "Multiply", "Modulus", "FloorDivide", "TrueDivide"),
    )
)
# Their second part may be told per row, and then fail for some; a literal fails for all or none.
_WITH_PATTERN = frozenset({"Contains", "Replace", "Extract", "CountMatches", "Find"})
_SERIALIZED_CHARACTERS_MAX = 1_000_000


def _is_row_wise(expr: pl.Expr) -> bool:
    try:
        text = expr.meta.serialize(format="json")
        return len(text) <= _SERIALIZED_CHARACTERS_MAX and _is_known(json.loads(text))
    except (PolarsError, ValueError, RecursionError):
        return False  # A user's own function, or a format of another time.


def _is_known(node: Any) -> bool:
    match node:
        case {"Column": str()} | {"Literal": {"Scalar": _} | {"Dyn": _}}:
            return True
        case {
            "Cast": {
                "expr": inner,
                "dtype": {"Literal": str() | {"Datetime": _}},
                "options": "NonStrict" | "Overflowing",
            }
        }:
            return _is_known(inner)
        case {"BinaryExpr": {"left": left, "op": str(operator), "right": right}}:
            return operator in _OPERATORS and _is_known(left) and _is_known(right)
        case {"Ternary": {"predicate": predicate, "truthy": truthy, "falsy": falsy}}:
            return all(map(_is_known, (predicate, truthy, falsy)))
        case {"Function": {"input": [*inputs], "function": function}}:
            return _is_known_function(function, inputs) and all(map(_is_known, inputs))
        case _:
            return False


def _is_known_function(function: Any, inputs: list[Any]) -> bool:
    family, name = _named(function)
    is_fixed = name not in _WITH_PATTERN or all("Literal" in each for each in inputs[1:])
    return (family, name) in _FUNCTIONS and is_fixed


def _named(function: Any) -> tuple[str, str]:
    """Return a function's family and name, whether it has options or not."""
    match function:
        case str(name):
            return "", name
        case {**families} if len(families) == 1:
            ((family, inner),) = families.items()
            return str(family), inner if isinstance(inner, str) else _named(inner)[0]
        case _:
            return "", ""


# --- predicates as Polars' conditions --------------------------------------------------------------------


def implied(predicate: Predicate, schema: pa.Schema, without_nan: frozenset[str] = frozenset()) -> list[pl.Expr]:
    """Return conditions that follow from a predicate and that Polars can prune with, where it cannot with the original.

    A range of the time for conditions on its parts; and for floats of which it is known that they hold no NaN, an end
    for ``>`` and ``>=``, which for Polars include NaN.
    """
    ranges = [each for name in sorted(_strengthened(predicate)) for each in _within(predicate, schema.field(name))]
    ends = [_below_nan(each, schema) for each in conjuncts(predicate) if _is_above(each) and each.column in without_nan]
    return ranges + ends


def _strengthened(predicate: Predicate) -> frozenset[str]:
    """Return the columns of which conditions imply something."""
    match predicate:
        case And(parts=parts) | Or(parts=parts):
            return frozenset().union(*map(_strengthened, parts))
        case Implied(implied=inner):
            return columns_of(inner)
        case _:
            return frozenset()


def _within(predicate: Predicate, time: pa.Field) -> Iterator[pl.Expr]:
    wanted, kind = time_range(predicate, time.name), polars_type(time.type)
    if wanted.start != TIME_MIN:
        yield pl.col(time.name) >= pl.lit(wanted.start, dtype=pl.Int64).cast(kind)
    if wanted.end != TIME_MAX:
        yield pl.col(time.name) < pl.lit(wanted.end, dtype=pl.Int64).cast(kind)


def _is_above(predicate: Predicate) -> TypeGuard[Compare]:
    return isinstance(predicate, Compare) and predicate.operator in (">", ">=") and isinstance(predicate.value, float)


def _below_nan(above: Compare, schema: pa.Schema) -> pl.Expr:
    low, high = (pl.lit(end, dtype=polars_type(schema.field(above.column).type)) for end in (above.value, math.inf))
    return pl.col(above.column).is_between(low, high, closed="right" if above.operator == ">" else "both")


def check_condition(condition: object, schema: pa.Schema) -> Predicate | None:
    """Refuse what cannot filter rows of ``schema``, before anything is read. Return what `plain_predicate` does.

    Raises:
        SchemaMismatchError: it names a column that there is not, or compares what does not compare.
        InvalidInputError: it is not a Polars expression.

    """
    if not isinstance(condition, pl.Expr):
        example = 'pl.col("host") == "a"'
        raise InvalidInputError(f"where is a {type(condition).__name__}; give a Polars expression, such as {example}.")
    plain = plain_predicate(condition, schema)
    if plain is not None:
        return plain
    frame = pl.from_arrow(schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    try:
        frame.lazy().filter(condition).collect()
    except ColumnNotFoundError as error:
        raise SchemaMismatchError(f"where: {_missing_column(condition, schema, error)}") from error
    except PolarsError as error:
        fault = f"where={condition} does not fit the columns: {_brief(error)}.{_about_times(condition, schema)}"
        raise SchemaMismatchError(fault) from error
    return None


def _missing_column(condition: pl.Expr, schema: pa.Schema, error: PolarsError) -> str:
    missing = [name for name in condition.meta.root_names() if name not in schema.names]
    return unknown_name("column", missing[0], schema.names) if missing else _brief(error)


def _brief(error: PolarsError) -> str:
    """Return the first paragraph, on one line; what follows shows Polars' plan."""
    return " ".join(str(error).split("\n\n", 1)[0].split())


def _about_times(condition: pl.Expr, schema: pa.Schema) -> str:
    asked = frozenset(condition.meta.root_names())
    for field in schema:
        if field.name in asked and pa.types.is_timestamp(field.type):
            zone = f"in zone {field.type.tz!r}" if field.type.tz else "without a zone"
            return f" Column {field.name!r} holds times {zone}; compare it with a datetime {zone}."
    return ""
