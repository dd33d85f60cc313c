from __future__ import annotations

import math
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from builders import metadata_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mitoframe.model.predicate import (
    ALWAYS,
    And,
    ColumnStats,
    Compare,
    IsIn,
    IsNull,
    Not,
    Opaque,
    Or,
    columns_of,
    conjunction,
    describe,
    key_part,
    may_match,
    time_range,
    to_arrow,
)
from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TIME_MIN, TimeRange

SCHEMA = pa.schema(
    {
        "ts": pa.timestamp("ms"),
        "host": pa.large_string(),
        "rack": pa.int64(),
        "cpu": pa.float64(),
        "up": pa.bool_(),
        "day": pa.date32(),
    }
)
DAYS = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)]
VALUES: dict[str, list[Any]] = {
    "ts": [-3, 0, 1, 2, 5, TIME_MIN, TIME_MAX],
    "host": ["", "a", "b", "ä"],
    "rack": [-1, 0, 1, 7],
    "cpu": [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan],
    "up": [True, False],
    "day": DAYS,
}
OPERATORS = ["==", "!=", "<", "<=", ">", ">="]

names = st.sampled_from(SCHEMA.names)
records = st.fixed_dictionaries(
    {name: st.sampled_from(values) | (st.nothing() if name == "ts" else st.none()) for name, values in VALUES.items()}
)


def values_of(name: str) -> st.SearchStrategy[Any]:
    # A number said as an integer is compared with floats too.
    return st.sampled_from([*VALUES[name], *([0, 1] if name == "cpu" else [])]) | st.none()


comparisons = names.flatmap(lambda name: st.builds(Compare, st.just(name), st.sampled_from(OPERATORS), values_of(name)))
# What Arrow and Polars think of NaN and -0.0 in a set differs; nobody asks that.
memberships = st.sampled_from(["ts", "host", "rack", "up", "day"]).flatmap(
    lambda name: st.builds(IsIn, st.just(name), st.lists(values_of(name), max_size=3).map(tuple))
)
leaves = comparisons | memberships | st.builds(IsNull, names)
predicates = st.recursive(
    leaves,
    lambda parts: (
        st.lists(parts, max_size=3).map(lambda some: And(tuple(some)))
        | st.lists(parts, max_size=3).map(lambda some: Or(tuple(some)))
        | parts.map(Not)
    ),
    max_leaves=6,
)


def holds(predicate, row: dict[str, Any], *, nan_is_largest: bool) -> bool | None:
    """Three-valued truth of a condition, row by row: the oracle. None is unknown."""
    match predicate:
        case Compare(column=name, operator=operator, value=value):
            return None if row[name] is None or value is None else compare(row[name], operator, value, nan_is_largest)
        case IsIn(column=name, values=values):
            return None if row[name] is None else any(row[name] == value for value in values)
        case IsNull(column=name):
            return row[name] is None
        case Not(part=part):
            found = holds(part, row, nan_is_largest=nan_is_largest)
            return None if found is None else not found
        case And(parts=parts):
            found = [holds(part, row, nan_is_largest=nan_is_largest) for part in parts]
            return False if False in found else None if None in found else True
        case Or(parts=parts):
            found = [holds(part, row, nan_is_largest=nan_is_largest) for part in parts]
            return True if True in found else None if None in found else False
    raise AssertionError(predicate)


def compare(left: Any, operator: str, right: Any, nan_is_largest: bool) -> bool:
    if nan_is_largest and isinstance(left, float):
        left, right = (
            (math.isnan(left), left if left == left else 0),
            (math.isnan(right), right if right == right else 0),
        )
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[operator]


def stats_of(rows: list[dict[str, Any]]) -> dict[str, ColumnStats]:
    """What Parquet would know: no nulls and no NaN within the bounds, and no bounds where nothing is left."""
    stats = {}
    for name in SCHEMA.names:
        values = [row[name] for row in rows]
        known = [value for value in values if value is not None and value == value]
        stats[name] = ColumnStats(
            minimum=min(known, default=None),
            maximum=max(known, default=None),
            null_count=values.count(None),
            row_count=len(values),
        )
    return stats


@settings(deadline=None, max_examples=300)
@given(predicates, st.lists(records, max_size=6))
@example(Not(IsIn("host", ("a",))), [dict.fromkeys(VALUES) | {"ts": 0}])
@example(IsIn("host", ("a", None)), [dict.fromkeys(VALUES) | {"ts": 0}])
def test_arrow_filters_as_the_oracle_does(predicate, rows):
    numbers = pa.array(range(len(rows)))
    table = pa.Table.from_pylist(rows, SCHEMA).append_column("number", numbers)

    found = table.filter(to_arrow(predicate, SCHEMA)).column("number").to_pylist()

    assert found == [number for number, row in enumerate(rows) if holds(predicate, row, nan_is_largest=False)]


@settings(deadline=None, max_examples=300)
@given(predicates, st.lists(records, max_size=6), st.booleans())
@example(Or((Compare("ts", "<", 0), Compare("ts", ">", 3))), [dict.fromkeys(VALUES) | {"ts": 5}], False)
@example(IsIn("ts", (2, None)), [dict.fromkeys(VALUES) | {"ts": 2}], False)
@example(Compare("ts", "==", TIME_MAX), [dict.fromkeys(VALUES) | {"ts": TIME_MAX}], False)
def test_no_row_outside_the_time_range_matches(predicate, rows, nan_is_largest):
    wanted = time_range(predicate, "ts")

    for row in rows:
        if holds(predicate, row, nan_is_largest=nan_is_largest):
            assert wanted.touches(row["ts"], row["ts"])


@settings(deadline=None, max_examples=500)
@given(predicates, st.lists(records, min_size=1, max_size=4), st.booleans())
@example(
    Compare("cpu", ">", 1), [dict.fromkeys(VALUES) | {"cpu": -2.0}, dict.fromkeys(VALUES) | {"cpu": math.nan}], True
)
@example(Compare("cpu", ">", 1.5), [dict.fromkeys(VALUES) | {"cpu": math.nan}], True)
@example(Compare("cpu", "!=", 1.5), [dict.fromkeys(VALUES) | {"cpu": math.nan}], True)
@example(IsNull("host"), [dict.fromkeys(VALUES)], False)
def test_rows_that_match_are_never_ruled_out_by_their_statistics(predicate, rows, nan_is_largest):
    if any(holds(predicate, row, nan_is_largest=nan_is_largest) for row in rows):
        assert may_match(predicate, stats_of(rows))
        assert may_match(predicate, {})
        assert may_match(predicate, dict.fromkeys(SCHEMA.names, ColumnStats()))


@pytest.mark.parametrize(
    ("predicate", "answer"),
    [
        (Compare("rack", "==", 5), True),
        (Compare("rack", "==", 11), False),
        (Compare("rack", "==", -1), False),
        (Compare("rack", "<", 0), False),
        (Compare("rack", "<", 1), True),
        (Compare("rack", "<=", -1), False),
        (Compare("rack", "<=", 0), True),
        (Compare("rack", ">", 10), False),
        (Compare("rack", ">", 9), True),
        (Compare("rack", ">=", 11), False),
        (Compare("rack", ">=", 10), True),
        (Compare("rack", "!=", 5), True),
        (IsIn("rack", (-5, 20)), False),
        (IsIn("rack", (-5, 10)), True),
        (IsIn("rack", ()), False),
        (IsNull("rack"), False),
        (IsNull("host"), True),
        (Compare("host", "==", "a"), False),
        (And((Compare("rack", "==", 5), Compare("rack", "==", 11))), False),
        (Or((Compare("rack", "==", 5), Compare("rack", "==", 11))), True),
        (Or(()), False),
        (Not(Compare("rack", "==", 5)), True),
        (Opaque(), True),
        (ALWAYS, True),
        (Compare("rack", "==", "text"), True),
        (Compare("other", "==", 1), True),
    ],
    ids=repr,
)
def test_statistics_rule_out_what_they_can(predicate, answer):
    stats = {
        "rack": ColumnStats(minimum=0, maximum=10, null_count=0, row_count=5),
        "host": ColumnStats(null_count=5, row_count=5),
    }

    assert may_match(predicate, stats) is answer


@pytest.mark.parametrize(
    ("predicate", "wanted"),
    [
        (Compare("ts", "==", 5), TimeRange(5, 6)),
        (Compare("ts", "<", 5), TimeRange(TIME_MIN, 5)),
        (Compare("ts", "<=", 5), TimeRange(TIME_MIN, 6)),
        (Compare("ts", ">", 5), TimeRange(6, TIME_MAX)),
        (Compare("ts", ">=", 5), TimeRange(5, TIME_MAX)),
        (Compare("ts", "!=", 5), EVERYTHING),
        (Compare("rack", "==", 5), EVERYTHING),
        (IsIn("ts", (9, 2, 4)), TimeRange(2, 10)),
        (IsIn("ts", ("2024", 4)), EVERYTHING),
        (And((Compare("ts", ">=", 5), Compare("ts", "<", 9), Compare("rack", "==", 1))), TimeRange(5, 9)),
        (Or((Compare("ts", "==", 5), Compare("ts", "==", 9))), TimeRange(5, 10)),
        (Or((Compare("ts", "==", 5), Compare("rack", "==", 9))), EVERYTHING),
        (Or(()), EVERYTHING),
        (Not(Compare("ts", "==", 5)), EVERYTHING),
        (Opaque(), EVERYTHING),
        (ALWAYS, EVERYTHING),
    ],
    ids=repr,
)
def test_a_time_range_is_as_narrow_as_the_condition_says(predicate, wanted):
    assert time_range(predicate, "ts") == wanted


def test_the_key_part_holds_the_conjuncts_that_no_field_decides():
    keys = metadata_of().key_names
    host, time = Compare("host", "==", "a"), Compare("ts", ">", 5)
    mixed = Or((host, Compare("cpu", ">", 1)))

    assert key_part(And((host, Compare("cpu", ">", 1), time, mixed, Opaque())), keys) == And((host, time))
    assert key_part(Not(host), keys) == Not(host)
    assert key_part(And((Or((host, Opaque())), time)), keys) == time
    assert key_part(Not(Opaque()), keys) == ALWAYS
    assert key_part(mixed, keys) == ALWAYS
    assert key_part(ALWAYS, keys) == ALWAYS


@settings(deadline=None)
@given(predicates, records)
def test_a_row_that_matches_matches_the_key_part_too(predicate, row):
    part = key_part(predicate, frozenset({"ts", "host", "rack"}))

    assert columns_of(part) <= {"ts", "host", "rack"}
    if holds(predicate, row, nan_is_largest=False):
        assert holds(part, row, nan_is_largest=False)


@settings(deadline=None)
@given(st.lists(predicates, max_size=4), records)
def test_a_conjunction_holds_when_all_parts_do(parts, row):
    joined = conjunction(parts)

    assert holds(joined, row, nan_is_largest=False) == holds(And(tuple(parts)), row, nan_is_largest=False)
    assert not (isinstance(joined, And) and len(joined.parts) == 1)


def test_all_columns_of_a_condition_are_found():
    predicate = And((Compare("a", "==", 1), Or((IsIn("b", (1,)), Not(IsNull("c")))), Opaque("d > 1")))

    assert columns_of(predicate) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (Compare("host", "==", "a"), "host == 'a'"),
        (IsIn("host", ("a", "b")), "host in ['a', 'b']"),
        (IsIn("rack", (1, 2, 3, 4, 5)), "rack in [1, 2, 3, 4, … 5 in all]"),
        (IsNull("cpu"), "cpu is null"),
        (Not(IsNull("cpu")), "not (cpu is null)"),
        (And((IsNull("cpu"), Compare("ts", ">", 1))), "cpu is null and ts > 1"),
        (Or((IsNull("cpu"), Compare("ts", ">", 1))), "(cpu is null or ts > 1)"),
        (And((Or((IsNull("a"), IsNull("b"))), IsNull("c"))), "(a is null or b is null) and c is null"),
        (Or((And((IsNull("a"), IsNull("b"))), IsNull("c"))), "(a is null and b is null or c is null)"),
        (Or(()), "nothing"),
        (ALWAYS, "everything"),
        (Opaque("f(x)"), "f(x)"),
    ],
    ids=str,
)
def test_a_predicate_reads_as_a_person_would_write_it(predicate, text):
    assert describe(predicate) == text
