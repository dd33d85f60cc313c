"""Predicates as frozen trees: pruned with several times, applied once.

    Predicate = Compare(column, operator, value) | IsIn(column, values) | IsNull(column) | Text(column, kind, pattern)
              | And(parts) | Or(parts) | Not(part)
              | RowWise(columns, evaluate) | Opaque(evaluate) | Implied(part, implied)

Truth has three values, as in SQL: a comparison with null is neither true nor false, and only rows for which the whole
is true are kept. NaN is the largest float and equals itself, and 0.0 equals -0.0, as Polars has it.

`RowWise` is a condition that only its maker can evaluate, one row at a time: it may be asked about a table of series as
well as about rows. `Opaque` is one of which not even that is known: it never prunes, and whoever made it applies it.

Questions for pruning are answered on the safe side: *may* this file, series or row group hold a matching row? Three
functions answer exactly, and fit together: a row matches if `series_mask` keeps its series, `time_range` its time, and
`residual` the row; `matching` is the whole predicate at once.

Values are in the column's own terms: an integer of its unit for a time column, a Python value otherwise.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TIME_MIN, TimeRange

if TYPE_CHECKING:
    import numpy.typing as npt

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
TextKind: TypeAlias = Literal["starts_with", "ends_with", "contains", "matches"]
Evaluate: TypeAlias = "Callable[[pa.RecordBatch], pa.BooleanArray]"
"""Tells of each row of a batch whether it matches. The batch has at least the columns that the condition names."""

NOTHING = TimeRange(0, 0)


@dataclass(frozen=True, slots=True)
class Compare:
    column: str
    operator: Operator
    value: Any


class _Lookup:
    """Values of a set, made ready when first asked for: a set may hold a million and be asked of many row groups."""

    __slots__ = ("_arrays", "_members", "_ordered", "_values")

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values
        self._ordered: list[Any] | None = None
        self._members: frozenset[Any] | None = None
        self._arrays: dict[pa.DataType, pa.Array] = {}

    def ordered(self) -> list[Any]:
        """Return the values in order, without null and NaN. ``TypeError`` if they have none."""
        if self._ordered is None:
            self._ordered = sorted(value for value in self._values if value is not None and not _is_nan(value))
        return self._ordered

    def contains(self, values: Iterable[Any]) -> list[bool | None]:
        """Look each value up; of null it is not known."""
        if self._members is None:
            self._members = frozenset(self._values)
        return [None if value is None else value in self._members for value in values]

    def array(self, data_type: pa.DataType) -> pa.Array:
        """Return the values for Arrow's ``is_in``, which tells 0.0 from -0.0."""
        if data_type not in self._arrays:
            known = [value for value in self._values if value is not None]
            zeros = [0.0, -0.0] if pa.types.is_floating(data_type) and 0 in known else []
            self._arrays[data_type] = pa.array(known + zeros, data_type)
        return self._arrays[data_type]


@dataclass(frozen=True, slots=True)
class IsIn:
    """Like a row of ``==``: a null among the values matches nothing, and a null in the column is neither in nor out."""

    column: str
    values: tuple[Any, ...]
    lookup: _Lookup = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookup", _Lookup(self.values))


@dataclass(frozen=True, slots=True)
class IsNull:
    column: str


@dataclass(frozen=True, slots=True)
class Text:
    """What a string holds, letter by letter; ``matches`` asks for all terms of the pattern (`terms_of`), anywhere."""

    column: str
    kind: TextKind
    pattern: str


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
class RowWise:
    """A condition that its maker evaluates. Requires: what it says of a row depends on that row's ``columns`` alone."""

    columns: frozenset[str]
    evaluate: Evaluate = field(repr=False)
    text: str = "?"


@dataclass(frozen=True, slots=True)
class Opaque:
    """A condition of which nothing is known; its maker applies it, if ``evaluate`` is None, or else `matching` does."""

    text: str = "?"
    columns: frozenset[str] = frozenset()
    evaluate: Evaluate | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Implied:
    """``part``, and what follows from it: ``implied`` is for pruning only, and true of every row that matches."""

    part: Predicate
    implied: Predicate


Predicate: TypeAlias = Compare | IsIn | IsNull | Text | And | Or | Not | RowWise | Opaque | Implied

ALWAYS = And(())
NEVER = Or(())


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStats:
    """What is known of a column's values in some rows; None means not known.

    Bounds are inclusive and leave nulls and NaN out.
    """

    minimum: Any = None
    maximum: Any = None
    null_count: int | None = None
    row_count: int | None = None
    may_hold_nan: bool | None = None


Stats: TypeAlias = Mapping[str, ColumnStats]


# --- trees -----------------------------------------------------------------------------------------------


def conjunction(parts: list[Predicate]) -> Predicate:
    """Join conditions that must all hold, without nesting."""
    flat: list[Predicate] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, And) else [part])
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def conjuncts(predicate: Predicate) -> tuple[Predicate, ...]:
    """Return conditions that must all hold, with negations pushed inward.

    >>> conjuncts(Not(Or((Compare("a", "<", 1), IsNull("b")))))
    (Compare(column='a', operator='>=', value=1), Not(part=IsNull(column='b')))
    """
    return tuple(_flat(_inward(predicate)))


def _flat(predicate: Predicate) -> Iterable[Predicate]:
    if not isinstance(predicate, And):
        return [predicate]
    return [inner for part in predicate.parts for inner in _flat(part)]


_NEGATED: dict[Operator, Operator] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _inward(predicate: Predicate, *, negated: bool = False) -> Predicate:
    """Push negations down to where they meet a condition. A comparison takes them up; the truth stays the same."""
    if not negated and not isinstance(predicate, And | Or | Not | Implied):
        return predicate
    match predicate:
        case Not(part=part):
            return _inward(part, negated=not negated)
        case And(parts=parts) | Or(parts=parts):
            inner = tuple(_inward(part, negated=negated) for part in parts)
            return And(inner) if isinstance(predicate, And) is not negated else Or(inner)
        case Implied(part=part, implied=implied):
            return _inward(part, negated=True) if negated else Implied(_inward(part), _inward(implied))
        case Compare(column=column, operator=operator, value=value) if negated:
            return Compare(column, _NEGATED[operator], value)
        case _:
            return Not(predicate) if negated else predicate


def columns_of(predicate: Predicate) -> frozenset[str]:
    """Return the names of all columns the predicate looks at (those an opaque part does not tell left out)."""
    match predicate:
        case Compare(column=name) | IsIn(column=name) | IsNull(column=name) | Text(column=name):
            return frozenset({name})
        case RowWise(columns=names) | Opaque(columns=names):
            return names
        case And(parts=parts) | Or(parts=parts):
            return frozenset().union(*map(columns_of, parts))
        case Not(part=part) | Implied(part=part):
            return columns_of(part)


def key_part(predicate: Predicate, key_names: frozenset[str]) -> Predicate:
    """Return the conjuncts that look at key columns only: those that may prune before dedup.

    A condition on a field must not: it could drop the newest version of a row and let an older one shine through.
    """
    kept = [part for each in conjuncts(predicate) for part in _key_parts(each, key_names)]
    return conjunction(kept) if kept else ALWAYS


def _key_parts(predicate: Predicate, key_names: frozenset[str]) -> Iterable[Predicate]:
    """Opaque parts are left out, but not what they imply."""
    if isinstance(predicate, Implied) and has_opaque(predicate.part):
        predicate = predicate.implied
    return [] if has_opaque(predicate) or not columns_of(predicate) <= key_names else _flat(predicate)


def has_opaque(predicate: Predicate) -> bool:
    match predicate:
        case Opaque():
            return True
        case And(parts=parts) | Or(parts=parts):
            return any(map(has_opaque, parts))
        case Not(part=part) | Implied(part=part):
            return has_opaque(part)
        case _:
            return False


def has_foreign(predicate: Predicate) -> bool:
    """Tell whether some part is evaluated by its maker, or by nobody."""
    match predicate:
        case RowWise() | Opaque():
            return True
        case And(parts=parts) | Or(parts=parts):
            return any(map(has_foreign, parts))
        case Not(part=part) | Implied(part=part):
            return has_foreign(part)
        case _:
            return False


# --- times -----------------------------------------------------------------------------------------------


def time_range(predicate: Predicate, time_column: str) -> TimeRange:
    """Return a range outside of which no row can match.

    >>> time_range(And((Compare("ts", ">=", 10), Compare("ts", "<", 20))), "ts")
    TimeRange(start=10, end=20)
    """
    return _time_range(_inward(predicate), time_column)


def _time_range(predicate: Predicate, time_column: str) -> TimeRange:
    match predicate:
        case Compare(column=name, operator=operator, value=int(value)) if name == time_column:
            return _range_of(operator, value)
        case IsIn(column=name, values=values) if name == time_column:
            return _range_of_values(values)
        case And(parts=parts):
            return reduce(TimeRange.intersect, (_time_range(part, time_column) for part in parts), EVERYTHING)
        case Or(parts=parts):
            ranges = [found for part in parts if (found := _time_range(part, time_column)) != NOTHING]
            return TimeRange(min(r.start for r in ranges), max(r.end for r in ranges)) if ranges else NOTHING
        case Implied(part=part, implied=implied):
            return _time_range(part, time_column).intersect(_time_range(implied, time_column))
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


def _range_of_values(values: tuple[Any, ...]) -> TimeRange:
    known = [value for value in values if value is not None]
    if not known:
        return NOTHING
    if not all(isinstance(value, int) for value in known):
        return EVERYTHING
    return TimeRange(min(known), _after(max(known)))


def _after(value: int) -> int:
    return min(value + 1, TIME_MAX)


# --- series ----------------------------------------------------------------------------------------------


def series_mask(predicate: Predicate, series: pa.RecordBatch) -> npt.NDArray[np.bool_] | None:
    """Tell of each series whether its rows may match, by its tags; None if all may.

    A condition on tags alone is decided exactly. ``series`` has a column per tag.
    """
    kept = _may_keep(_inward(predicate), series, frozenset(series.schema.names))
    if kept is None:
        return None
    mask: npt.NDArray[np.bool_] = kept.to_numpy(zero_copy_only=False)
    return mask


def _may_keep(predicate: Predicate, series: pa.RecordBatch, names: frozenset[str]) -> pa.BooleanArray | None:
    """Null counts as no match. Requires: negations are pushed inward, so that this may forget what is null."""
    match predicate:
        case And(parts=parts):
            known = [kept for part in parts if (kept := _may_keep(part, series, names)) is not None]
            return reduce(pc.and_, known) if known else None
        case Or(parts=parts):
            found = [_may_keep(part, series, names) for part in parts]
            if any(kept is None for kept in found):
                return None
            return reduce(pc.or_, found, pa.repeat(pa.scalar(False), len(series)))
        case Implied(part=part, implied=implied):
            return _may_keep(And((part, implied)), series, names)
        case _:
            if not _is_decided_by(predicate, names):
                return None
            found = matching(predicate, series)
            return pc.fill_null(found, False) if found.null_count else found


def _is_decided_by(predicate: Predicate, names: frozenset[str]) -> bool:
    return columns_of(predicate) <= names and not has_opaque(predicate)


def residual(predicate: Predicate, tag_names: frozenset[str], time_name: str) -> Predicate:
    """Return what is left to apply to rows of series that `series_mask` keeps and times within `time_range`.

    >>> residual(And((Compare("host", "==", "a"), Compare("ts", ">", 5), IsNull("cpu"))), frozenset({"host"}), "ts")
    IsNull(column='cpu')
    """
    left = [part for part in conjuncts(predicate) if not _is_settled(part, tag_names, time_name)]
    return conjunction(left) if left else ALWAYS


def _is_settled(predicate: Predicate, tag_names: frozenset[str], time_name: str) -> bool:
    match predicate:
        case Compare(column=name, operator=operator, value=int(value)) if name == time_name:
            # A range that ends with the last time of all includes it.
            return operator != "!=" and TIME_MIN <= value < TIME_MAX
        case IsIn(column=name, values=(int(value),)) if name == time_name:
            return TIME_MIN <= value < TIME_MAX
        case Implied(part=part):
            return _is_settled(part, tag_names, time_name)
        case _:
            return _is_decided_by(predicate, tag_names)


# --- statistics ------------------------------------------------------------------------------------------


def may_match(predicate: Predicate, stats: Stats) -> bool:
    """Tell whether rows with these statistics may hold a match. Errs on the side of yes."""
    return _may_match(_inward(predicate), stats)


def _may_match(predicate: Predicate, stats: Stats) -> bool:
    match predicate:
        case And(parts=parts):
            return all(_may_match(part, stats) for part in parts)
        case Or(parts=parts):
            return any(_may_match(part, stats) for part in parts)
        case Implied(part=part, implied=implied):
            return _may_match(implied, stats) and _may_match(part, stats)
        case Not(part=part):
            return _may_be_false(part, stats)
        case IsNull(column=name) if name in stats:
            return stats[name].null_count != 0
        case Compare(column=name) | IsIn(column=name) | Text(column=name) if name in stats:
            return not _is_all_null(stats[name]) and _fits(predicate, stats[name])
        case _:
            return True  # Nothing is known of the others, nor of columns without statistics.


def _is_all_null(stats: ColumnStats) -> bool:
    return stats.row_count is not None and stats.null_count == stats.row_count


def _fits(predicate: Compare | IsIn | Text, stats: ColumnStats) -> bool:
    if stats.minimum is None or stats.maximum is None or _is_nan(stats.minimum) or _is_nan(stats.maximum):
        return True
    try:
        match predicate:
            case Compare(operator=operator, value=value):
                return value is not None and _compare_fits(operator, value, stats)
            case IsIn():
                return _set_fits(predicate, stats)
            case Text(kind="starts_with", pattern=prefix):
                return bool(stats.maximum >= prefix and stats.minimum[: len(prefix)] <= prefix)
            case _:
                return True
    except TypeError:
        return True  # Values that do not compare with the column's tell nothing.


def _compare_fits(operator: Operator, value: Any, stats: ColumnStats) -> bool:
    # Bounds of floats leave NaN out, which is above them all and may be there unless it is known not to be.
    nan_is_possible = isinstance(stats.minimum, float) and stats.may_hold_nan is not False
    value = float(value) if isinstance(stats.minimum, float) else value
    if _is_nan(value):
        return nan_is_possible if operator in ("==", ">=") else operator != ">"
    match operator:
        case "==":
            return bool(stats.minimum <= value <= stats.maximum)
        case "!=":
            return nan_is_possible or not stats.minimum == value == stats.maximum
        case "<":
            return bool(stats.minimum < value)
        case "<=":
            return bool(stats.minimum <= value)
        case ">":
            return nan_is_possible or bool(stats.maximum > value)
        case ">=":
            return nan_is_possible or bool(stats.maximum >= value)


def _set_fits(predicate: IsIn, stats: ColumnStats) -> bool:
    if isinstance(stats.minimum, float) and stats.may_hold_nan is not False and any(map(_is_nan, predicate.values)):
        return True
    ordered = predicate.lookup.ordered()
    first = bisect_left(ordered, stats.minimum)
    return first < len(ordered) and bool(ordered[first] <= stats.maximum)


def _may_be_false(predicate: Predicate, stats: Stats) -> bool:
    """Tell whether a condition may be false, which is more than not true, of any of the rows."""
    match predicate:
        case IsNull(column=name) if name in stats:
            return not _is_all_null(stats[name])
        case IsIn(column=name) | Text(column=name) if name in stats:
            return not _is_all_null(stats[name]) and not _is_true_of_all(predicate, stats[name])
        case _:
            return True


def _is_true_of_all(predicate: IsIn | Text, stats: ColumnStats) -> bool:
    """Tell whether a condition is known to be true of all rows but those with null."""
    low, high = stats.minimum, stats.maximum
    if isinstance(predicate, Text):
        prefixed = predicate.kind == "starts_with" and isinstance(low, str) and isinstance(high, str)
        return prefixed and low.startswith(predicate.pattern) and high.startswith(predicate.pattern)
    return low is not None and not isinstance(low, float) and bool(low == high) and low in predicate.values


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


# --- rows ------------------------------------------------------------------------------------------------


def matching(predicate: Predicate, rows: pa.RecordBatch) -> pa.BooleanArray:
    """Evaluate the whole predicate, row by row: true, false, or null where that is unknown.

    Requires: ``rows`` has the columns of the predicate; of an opaque part, its maker said how to evaluate it.
    """
    if predicate == ALWAYS:
        return pa.repeat(pa.scalar(True), rows.num_rows)
    found = _Evaluation(rows).truth(predicate)
    return pa.repeat(found, rows.num_rows) if isinstance(found, pa.Scalar) else found


@dataclass(frozen=True, slots=True)
class _Evaluation:
    rows: pa.RecordBatch

    def truth(self, predicate: Predicate) -> Any:
        """Return the truth of each row, or one scalar if it is the same for all."""
        match predicate:
            case Compare(column=name, operator=operator, value=value):
                return self._of_values(name, lambda values: _compare(values, operator, value))
            case IsIn(column=name):
                return self._of_values(name, lambda values: _contained(values, predicate))
            case IsNull(column=name):
                return self.rows.column(name).is_null()
            case Text(column=name, kind=kind, pattern=pattern):
                return self._of_values(name, lambda values: _TEXT[kind](values, pattern))
            case And(parts=parts):
                return reduce(pc.and_kleene, map(self.truth, parts)) if parts else pa.scalar(True)
            case Or(parts=parts):
                return reduce(pc.or_kleene, map(self.truth, parts)) if parts else pa.scalar(False)
            case Not(part=part):
                return pc.invert(self.truth(part))
            case Implied(part=part):
                return self.truth(part)
            case RowWise(columns=names, evaluate=evaluate) if len(names) == 1:
                return self._of_distinct(next(iter(names)), evaluate)
            case RowWise() | Opaque():
                assert predicate.evaluate is not None, "an opaque condition is applied by whoever made it"
                return predicate.evaluate(self.rows)

    def _of_values(self, name: str, condition: Callable[[Any], Any]) -> Any:
        """Ask once per distinct value where a column is encoded. Requires: of null nothing is known."""
        column = self.rows.column(name)
        if not isinstance(column, pa.DictionaryArray):
            return condition(column)
        truth = condition(column.dictionary)
        return truth if isinstance(truth, pa.Scalar) else truth.take(column.indices)

    def _of_distinct(self, name: str, evaluate: Evaluate) -> pa.BooleanArray:
        """Ask once per distinct text, and of null, which such a condition may say something of."""
        column = self.rows.column(name)
        if not isinstance(column, pa.DictionaryArray):
            if not pa.types.is_large_string(column.type):
                return evaluate(self.rows)
            column = column.dictionary_encode()
        values = pa.concat_arrays([column.dictionary, pa.nulls(1, column.type.value_type)])
        truth = evaluate(pa.RecordBatch.from_arrays([values], names=[name]))
        return truth.take(column.indices.fill_null(len(values) - 1))


_COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def _compare(column: pa.Array, operator: Operator, value: Any) -> Any:
    if value is None:
        return pa.scalar(None, pa.bool_())
    if pa.types.is_floating(column.type):
        return _compare_floats(column, operator, float(value))
    return _COMPARE[operator](column, pa.scalar(value, column.type))


def _compare_floats(column: pa.Array, operator: Operator, value: float) -> pa.BooleanArray:
    """Arrow finds no comparison with NaN true but ``!=``."""
    is_nan = pc.is_nan(column)
    if math.isnan(value):
        if operator in ("==", ">="):
            return is_nan
        if operator in ("!=", "<"):
            return pc.invert(is_nan)
        return pc.or_(is_nan, pc.invert(is_nan)) if operator == "<=" else pc.and_(is_nan, pc.invert(is_nan))
    found = _COMPARE[operator](column, pa.scalar(value, column.type))
    return pc.or_(found, is_nan) if operator in (">", ">=") else found


def _contained(column: pa.Array, wanted: IsIn) -> pa.BooleanArray:
    if len(column) < len(wanted.values) and not pa.types.is_floating(column.type):
        # Arrow would hash the whole set each time. In Python's eyes all floats that are NaN differ.
        ticks = column.view(pa.int64()) if pa.types.is_timestamp(column.type) else column
        return pa.array(wanted.lookup.contains(ticks.to_pylist()), pa.bool_())
    # Arrow says of a null that it is in no set, so that "not in" would find it.
    found = pc.is_in(column, value_set=wanted.lookup.array(column.type))
    return pc.if_else(column.is_valid(), found, pa.scalar(None, pa.bool_()))


def _matches(texts: Any, pattern: str) -> pa.BooleanArray:
    wanted = terms_of(pattern)
    return pa.array([None if text is None else wanted <= terms_of(text) for text in texts.to_pylist()], pa.bool_())


_TEXT: dict[TextKind, Callable[[Any, str], Any]] = {
    "starts_with": lambda column, pattern: pc.starts_with(column, pattern=pattern),
    "ends_with": lambda column, pattern: pc.ends_with(column, pattern=pattern),
    "contains": lambda column, pattern: pc.match_substring(column, pattern=pattern),
    "matches": _matches,
}
_TERM = re.compile(r"\w+")


def terms_of(text: str) -> frozenset[str]:
    """Return the words of a text: runs of letters, digits and underscores, in any case.

    >>> sorted(terms_of("GET /cpu_load?host=Ä1"))
    ['cpu_load', 'get', 'host', 'ä1']
    """
    return frozenset(_TERM.findall(text.casefold()))


# --- words -----------------------------------------------------------------------------------------------

_VERBS: dict[TextKind, str] = {
    "starts_with": "starts with",
    "ends_with": "ends with",
    "contains": "contains",
    "matches": "matches",
}


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
        case Text(column=name, kind=kind, pattern=pattern):
            return f"{name} {_VERBS[kind]} {pattern!r}"
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
        case Implied(part=part, implied=implied):
            return f"{describe(part, show)} (so {describe(implied, show)})"
        case RowWise(text=text) | Opaque(text=text):
            return text
