"""Predicates as frozen trees: pruned with several times, applied once.

    Predicate = Compare(column, operator, value) | IsIn(column, values) | IsNull(column) | And | Or | Not | Opaque

`Opaque` stands for a condition that cannot be expressed here (a user's function, say): it never prunes, and whoever
made it applies it. All questions are answered on the safe side: *may* this file hold a matching row?

Values are in the column's own terms: an integer of its unit for a time column, a Python value otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TIME_MIN, TimeRange

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Compare:
    column: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class IsIn:
    """Like a row of ``==``: a null among the values matches nothing, and a null in the column is neither in nor out."""

    column: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    column: str


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Predicate


@dataclass(frozen=True, slots=True)
class Opaque:
    text: str = "?"


Predicate: TypeAlias = Compare | IsIn | IsNull | And | Or | Not | Opaque

ALWAYS = And(())


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStats:
    """What is known of a column's values in some rows; None means not known. Bounds are inclusive and skip nulls."""

    minimum: Any = None
    maximum: Any = None
    null_count: int | None = None
    row_count: int | None = None


Stats: TypeAlias = Mapping[str, ColumnStats]


def conjunction(parts: list[Predicate]) -> Predicate:
    """Join conditions that must all hold, without nesting."""
    flat: list[Predicate] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, And) else [part])
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def columns_of(predicate: Predicate) -> frozenset[str]:
    """Return the names of all columns the predicate looks at (none are known for an opaque part)."""
    match predicate:
        case Compare(column=name) | IsIn(column=name) | IsNull(column=name):
            return frozenset({name})
        case And(parts=parts) | Or(parts=parts):
            return frozenset().union(*map(columns_of, parts))
        case Not(part=part):
            return columns_of(part)
        case _:
            return frozenset()


def key_part(predicate: Predicate, key_names: frozenset[str]) -> Predicate:
    """Return the conjuncts that look at key columns only: those that may prune before dedup.

    A condition on a field must not: it could drop the newest version of a row and let an older one shine through.
    """
    parts = predicate.parts if isinstance(predicate, And) else (predicate,)
    kept = [part for part in parts if not _has_opaque(part) and columns_of(part) <= key_names]
    return conjunction(kept) if kept else ALWAYS


def _has_opaque(predicate: Predicate) -> bool:
    match predicate:
        case Opaque():
            return True
        case And(parts=parts) | Or(parts=parts):
            return any(map(_has_opaque, parts))
        case Not(part=part):
            return _has_opaque(part)
        case _:
            return False


def time_range(predicate: Predicate, time_column: str) -> TimeRange:
    """Return a range outside of which no row can match.

    >>> time_range(And((Compare("ts", ">=", 10), Compare("ts", "<", 20))), "ts")
    TimeRange(start=10, end=20)
    """
    match predicate:
        case Compare(column=name, operator=operator, value=int(value)) if name == time_column:
            return _range_of(operator, value)
        case IsIn(column=name, values=values) if name == time_column and values:
            if all(isinstance(value, int) for value in values):
                return TimeRange(min(values), _after(max(values)))
            return EVERYTHING
        case And(parts=parts):
            return reduce(TimeRange.intersect, (time_range(part, time_column) for part in parts), EVERYTHING)
        case Or(parts=parts) if parts:
            ranges = [time_range(part, time_column) for part in parts]
            return TimeRange(min(r.start for r in ranges), max(r.end for r in ranges))
        case _:
            return EVERYTHING


def _range_of(operator: Operator, value: int) -> TimeRange:
    match operator:
        case "==":
            return TimeRange(value, _after(value))
        case "<":
            return TimeRange(TIME_MIN, value)
        case "<=":
            return TimeRange(TIME_MIN, _after(value))
        case ">":
            return TimeRange(_after(value), TIME_MAX)
        case ">=":
            return TimeRange(value, TIME_MAX)
        case _:
            return EVERYTHING


def _after(value: int) -> int:
    return min(value + 1, TIME_MAX)


def may_match(predicate: Predicate, stats: Stats) -> bool:
    """Tell whether rows with these statistics may hold a match. Errs on the side of yes."""
    match predicate:
        case And(parts=parts):
            return all(may_match(part, stats) for part in parts)
        case Or(parts=parts):
            return any(may_match(part, stats) for part in parts)
        case Compare(column=name, operator=operator, value=value) if name in stats:
            return _compare_may_match(stats[name], operator, value)
        case IsIn(column=name, values=values) if name in stats:
            return any(_compare_may_match(stats[name], "==", value) for value in values)
        case IsNull(column=name) if name in stats:
            return stats[name].null_count != 0
        case _:
            return True  # Not, Opaque and unknown columns never prune.


def _compare_may_match(stats: ColumnStats, operator: Operator, value: Any) -> bool:
    if stats.row_count is not None and stats.null_count == stats.row_count:
        return False  # A comparison with null is never true.
    if stats.minimum is None or stats.maximum is None or value is None or float in (type(value), type(stats.minimum)):
        # Floats never prune: NaN is above everything for Polars and outside the statistics for Parquet.
        return True
    try:
        match operator:
            case "==":
                return bool(stats.minimum <= value <= stats.maximum)
            case "<":
                return bool(stats.minimum < value)
            case "<=":
                return bool(stats.minimum <= value)
            case ">":
                return bool(stats.maximum > value)
            case ">=":
                return bool(stats.maximum >= value)
            case _:
                return True
    except TypeError:
        return True  # Values that do not compare with the column's tell nothing.


def to_arrow(predicate: Predicate, schema: pa.Schema) -> pc.Expression:
    """Return the condition as an Arrow expression over columns of ``schema``. Requires: no opaque part."""
    match predicate:
        case Compare(column=name, operator=operator, value=value):
            return _compare_to_arrow(pc.field(name), operator, pa.scalar(value, schema.field(name).type))
        case IsIn(column=name, values=values):
            known = pa.array([value for value in values if value is not None], schema.field(name).type)
            # Arrow says of a null that it is in no set, so that "not in" would find it.
            return pc.if_else(pc.field(name).is_valid(), pc.field(name).isin(known), pa.scalar(None, pa.bool_()))
        case IsNull(column=name):
            return pc.field(name).is_null()
        case And(parts=parts):
            return reduce(lambda left, right: left & right, (to_arrow(p, schema) for p in parts), pc.scalar(True))
        case Or(parts=parts):
            return reduce(lambda left, right: left | right, (to_arrow(p, schema) for p in parts), pc.scalar(False))
        case Not(part=part):
            return ~to_arrow(part, schema)
        case _:
            raise AssertionError("an opaque condition is applied by whoever made it")


def _compare_to_arrow(column: pc.Expression, operator: Operator, value: pa.Scalar) -> pc.Expression:
    match operator:
        case "==":
            return column == value
        case "!=":
            return column != value
        case "<":
            return column < value
        case "<=":
            return column <= value
        case ">":
            return column > value
        case _:
            return column >= value


def describe(predicate: Predicate, show: Callable[[str, Any], str] = lambda _, value: repr(value)) -> str:
    """Write a predicate the way a person would. ``show`` turns a column's value into text.

    >>> describe(And((Compare("host", "==", "a"), Not(IsNull("cpu")))))
    "host == 'a' and not (cpu is null)"
    """
    match predicate:
        case Compare(column=name, operator=operator, value=value):
            return f"{name} {operator} {show(name, value)}"
        case IsIn(column=name, values=values):
            shown = ", ".join(show(name, value) for value in values[:4])
            more = f", … {len(values)} in all" if len(values) > 4 else ""
            return f"{name} in [{shown}{more}]"
        case IsNull(column=name):
            return f"{name} is null"
        case And(parts=()):
            return "everything"
        case Or(parts=()):
            return "nothing"
        case And(parts=parts):
            return " and ".join(describe(part, show) for part in parts)
        case Or(parts=parts):
            return "(" + " or ".join(describe(part, show) for part in parts) + ")"
        case Not(part=part):
            return f"not ({describe(part, show)})"
        case Opaque(text=text):
            return text
