from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mitoframe.model.predicate import (
    ALWAYS,
    NEVER,
    And,
    ColumnStats,
    Compare,
    Implied,
    IsIn,
    IsNull,
    Not,
    Opaque,
    Or,
    RowWise,
    Text,
    columns_of,
    conjunction,
    conjuncts,
    describe,
    has_opaque,
    key_part,
    matching,
    may_match,
    residual,
    series_mask,
    terms_of,
    time_range,
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
    "host": ["", "a", "b", "ä", "ab", "ba", "B a_1", "\U0001f40d"],
    "rack": [-1, 0, 1, 7],
    "cpu": [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan],
    "up": [True, False],
    "day": DAYS,
}
OPERATORS = ["==", "!=", "<", "<=", ">", ">="]
TAGS = ("host", "rack", "day")
KEYS = frozenset({*TAGS, "ts"})
NO_ROW = dict.fromkeys(VALUES) | {"ts": 0}

names = st.sampled_from(SCHEMA.names)
records = st.fixed_dictionaries(
    {name: st.sampled_from(values) | (st.nothing() if name == "ts" else st.none()) for name, values in VALUES.items()}
)
row_lists = st.lists(records, max_size=6)


def values_of(name: str) -> st.SearchStrategy[Any]:
    # A number said as an integer is compared with floats too.
    return st.sampled_from([*VALUES[name], *([0, 1] if name == "cpu" else [])]) | st.none()


comparisons = names.flatmap(lambda name: st.builds(Compare, st.just(name), st.sampled_from(OPERATORS), values_of(name)))
memberships = names.flatmap(
    lambda name: st.builds(IsIn, st.just(name), st.lists(values_of(name), max_size=8).map(tuple))
)
texts = st.builds(
    Text,
    st.just("host"),
    st.sampled_from(["starts_with", "ends_with", "contains", "matches"]),
    st.sampled_from(["", "a", "b", "A b", "\U0001f40d", "a_1 B"]),
)
leaves = comparisons | memberships | texts | st.builds(IsNull, names)


def row_wise(part):
    """A condition that only its maker can evaluate, and that has an answer where there is null."""

    def evaluate(rows):
        return pa.array([bool(holds(part, row)) for row in as_rows(rows)], pa.bool_())

    return RowWise(columns_of(part), evaluate)


def trees(leaves):
    return st.recursive(
        leaves,
        lambda parts: (
            st.lists(parts, max_size=3).map(lambda some: And(tuple(some)))
            | st.lists(parts, max_size=3).map(lambda some: Or(tuple(some)))
            | parts.map(Not)
            | st.builds(lambda part, other: Implied(part, Or((part, other))), parts, parts)
        ),
        max_leaves=6,
    )


predicates = trees(leaves | leaves.map(row_wise))


def holds(predicate, row: dict[str, Any]) -> bool | None:
    """Three-valued truth of a condition, row by row: the oracle. None is unknown."""
    match predicate:
        case Compare(column=name, operator=operator, value=value):
            return None if row[name] is None or value is None else compare(row[name], operator, value)
        case IsIn(column=name, values=values):
            found = (compare(row[name], "==", value) for value in values if value is not None)
            return None if row[name] is None else any(found)
        case IsNull(column=name):
            return row[name] is None
        case Text(column=name, kind=kind, pattern=pattern):
            return None if row[name] is None else text_holds(row[name], kind, pattern)
        case RowWise() | Opaque():
            return predicate.evaluate(as_batch([row]))[0].as_py()
        case Implied(part=part):
            return holds(part, row)
        case Not(part=part):
            found = holds(part, row)
            return None if found is None else not found
        case And(parts=parts):
            found = [holds(part, row) for part in parts]
            return False if False in found else None if None in found else True
        case Or(parts=parts):
            found = [holds(part, row) for part in parts]
            return True if True in found else None if None in found else False
    raise AssertionError(predicate)


def compare(left: Any, operator: str, right: Any) -> bool:
    """NaN is the largest number, and equals itself."""
    if isinstance(left, float):
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


def text_holds(text: str, kind: str, pattern: str) -> bool:
    match kind:
        case "starts_with":
            return text.startswith(pattern)
        case "ends_with":
            return text.endswith(pattern)
        case "contains":
            return pattern in text
        case _:
            return words(pattern) <= words(text)


def words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() or letter == "_" else " " for letter in text.lower()).split())


def as_batch(rows: list[dict[str, Any]], *, encoded: bool = False) -> pa.RecordBatch:
    columns = [pa.array([row[each.name] for row in rows], each.type) for each in SCHEMA]
    if encoded:
        columns = [each.dictionary_encode() if each.type == pa.large_string() else each for each in columns]
    return pa.RecordBatch.from_arrays(columns, names=SCHEMA.names)


def as_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch that may have some columns only; times as integers, which Python may not hold otherwise."""
    columns = {
        name: (column.view(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def stats_of(rows: list[dict[str, Any]], *, knows_nan: bool = False) -> dict[str, ColumnStats]:
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
            may_hold_nan=any(value != value for value in values) if knows_nan else None,
        )
    return stats


# --- rows ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(predicates, row_lists, st.booleans())
@example(Not(IsIn("host", ("a",))), [NO_ROW], False)
@example(IsIn("host", ("a", None)), [NO_ROW], False)
@example(IsIn("cpu", (0.0, math.nan)), [NO_ROW | {"cpu": -0.0}, NO_ROW | {"cpu": math.nan}], False)
@example(row_wise(IsNull("host")), [NO_ROW, NO_ROW | {"host": "a"}], True)
@example(IsIn("host", tuple("abcdef")), [NO_ROW, NO_ROW | {"host": "a"}], True)
def test_a_condition_is_evaluated_as_the_oracle_does(predicate, rows, encoded):
    found = matching(predicate, as_batch(rows, encoded=encoded))

    assert found.to_pylist() == [holds(predicate, row) for row in rows]


def test_an_opaque_condition_is_evaluated_by_its_maker():
    second = Opaque("f(x)", frozenset({"rack"}), lambda rows: pa.array([False, True]))
    rows = as_batch([NO_ROW, NO_ROW])

    assert matching(And((second, Not(IsNull("ts")))), rows).to_pylist() == [False, True]
    with pytest.raises(AssertionError, match="whoever made it"):
        matching(Opaque("f(x)"), rows)


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        ("disk full", "Full: DISK /dev/sda", True),
        ("disk full", "disks are full", False),
        ("disk", "disk_full", False),
        ("disk.full", "full disk", True),
        ("größe", "GRÖSSE", True),
        ("", "anything", True),
        ("disk", None, None),
    ],
)
def test_a_text_matches_if_it_has_all_terms(pattern, text, answer):
    rows = pa.RecordBatch.from_pydict({"message": pa.array([text], pa.large_string())})

    assert matching(Text("message", "matches", pattern), rows).to_pylist() == [answer]


def test_terms_are_words_in_any_case():
    assert terms_of("GET /cpu_load?host=Ä1") == {"get", "cpu_load", "host", "ä1"}
    assert terms_of(" ./- ") == frozenset()


def test_a_set_larger_than_what_is_asked_about_is_not_handed_to_arrow_again():
    many = tuple(range(5000))
    few = pa.array([-1, 4999, None], pa.int64())
    times = pa.array([-1, 4999, None], pa.timestamp("ns"))
    rows = pa.RecordBatch.from_pydict({"rack": few, "ts": times, "cpu": few.cast(pa.float64())})

    for name in rows.schema.names:
        predicate = IsIn(name, many)
        assert matching(predicate, rows).to_pylist() == [False, True, None]


# --- times, series, and what is left ---------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(predicates, row_lists)
@example(Or((Compare("ts", "<", 0), Compare("ts", ">", 3))), [NO_ROW | {"ts": 5}])
@example(IsIn("ts", (2, None)), [NO_ROW | {"ts": 2}])
@example(Compare("ts", "==", TIME_MAX), [NO_ROW | {"ts": TIME_MAX}])
def test_no_row_outside_the_time_range_matches(predicate, rows):
    wanted = time_range(predicate, "ts")

    for row in rows:
        if holds(predicate, row):
            assert wanted.touches(row["ts"], row["ts"])


@settings(deadline=None, max_examples=100)
@given(predicates, row_lists)
@example(Not(And((IsNull("host"), Compare("cpu", ">", 1)))), [NO_ROW])
@example(Not(Compare("host", "==", "a")), [NO_ROW, NO_ROW | {"host": "b"}])
def test_no_row_of_a_series_that_is_masked_matches(predicate, rows):
    mask = series_mask(predicate, as_batch(rows).select(TAGS))

    if mask is not None:
        assert mask.dtype == np.bool_
        assert all(mask[number] or not holds(predicate, row) for number, row in enumerate(rows))


@settings(deadline=None, max_examples=100)
@given(trees(leaves.filter(lambda leaf: leaf.column in TAGS)), row_lists)
@example(Not(IsIn("host", ("a",))), [NO_ROW])
def test_a_condition_on_tags_is_decided_exactly_by_the_series(predicate, rows):
    mask = series_mask(predicate, as_batch(rows).select(TAGS))

    expected = [bool(holds(predicate, row)) for row in rows]
    assert (mask is None and all(expected)) or mask.tolist() == expected
    assert residual(predicate, frozenset(TAGS), "ts") == ALWAYS


@settings(deadline=None, max_examples=120)
@given(predicates, row_lists)
@example(Compare("ts", "<", TIME_MAX), [NO_ROW | {"ts": TIME_MAX}])
@example(Compare("ts", ">", TIME_MAX), [NO_ROW | {"ts": TIME_MAX}])
@example(IsIn("ts", (0, 5)), [NO_ROW | {"ts": 2}])
@example(IsIn("ts", ()), [NO_ROW])
@example(Implied(Compare("cpu", ">", 1), ALWAYS), [NO_ROW])
def test_series_times_and_the_residual_together_are_the_whole(predicate, rows):
    mask = series_mask(predicate, as_batch(rows).select(TAGS))
    wanted = time_range(predicate, "ts")
    left = residual(predicate, frozenset(TAGS), "ts")

    for number, row in enumerate(rows):
        kept = (mask is None or mask[number]) and wanted.touches(row["ts"], row["ts"]) and holds(left, row)
        assert bool(kept) == bool(holds(predicate, row))


@pytest.mark.parametrize(
    ("predicate", "left"),
    [
        (Compare("host", "==", "a"), ALWAYS),
        (Not(Text("host", "contains", "a")), ALWAYS),
        (Or((Compare("host", "==", "a"), IsNull("rack"))), ALWAYS),
        (And((Compare("ts", ">=", 5), Not(Compare("ts", ">=", 9)))), ALWAYS),
        (IsIn("ts", (5,)), ALWAYS),
        (IsIn("ts", (5, 9)), IsIn("ts", (5, 9))),
        (Compare("ts", "!=", 5), Compare("ts", "!=", 5)),
        (Compare("ts", "==", None), Compare("ts", "==", None)),
        (And((Compare("host", "==", "a"), Compare("cpu", ">", 1.0))), Compare("cpu", ">", 1.0)),
        (
            Or((Compare("host", "==", "a"), Compare("ts", ">", 1))),
            Or((Compare("host", "==", "a"), Compare("ts", ">", 1))),
        ),
        (And((Compare("host", "==", "a"), Opaque("f(x)"))), Opaque("f(x)")),
        (Implied(Opaque("f(x)"), Compare("ts", ">", 1)), Implied(Opaque("f(x)"), Compare("ts", ">", 1))),
        (RowWise(frozenset({"host"}), lambda rows: rows), ALWAYS),
        (NEVER, ALWAYS),
    ],
    ids=describe,
)
def test_the_residual_is_what_neither_tags_nor_time_decide(predicate, left):
    assert residual(predicate, frozenset(TAGS), "ts") == left


def test_series_of_a_table_without_tags_are_all_or_none():
    rows = pa.RecordBatch.from_struct_array(pa.array([{}], pa.struct([])))

    assert series_mask(Compare("cpu", ">", 1), rows) is None
    assert series_mask(And((NEVER, Compare("cpu", ">", 1))), rows).tolist() == [False]


def test_an_opaque_condition_says_nothing_of_series_but_what_it_implies():
    series = as_batch([NO_ROW | {"host": host} for host in ("a", "b", None)]).select(TAGS)
    implied = Implied(Opaque("f(x)"), Compare("host", "==", "b"))

    assert series_mask(Opaque("f(x)", frozenset({"host"})), series) is None
    assert series_mask(implied, series).tolist() == [False, True, False]
    assert series_mask(Not(implied), series) is None
    assert series_mask(And((Opaque(), Not(IsNull("host")))), series).tolist() == [True, True, False]
    assert series_mask(Or((Opaque(), Not(IsNull("host")))), series) is None


# --- statistics ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=120)
@given(predicates, st.lists(records, min_size=1, max_size=4), st.booleans())
@example(Compare("cpu", ">", 1), [NO_ROW | {"cpu": -2.0}, NO_ROW | {"cpu": math.nan}], False)
@example(Compare("cpu", ">", 1.5), [NO_ROW | {"cpu": math.nan}], False)
@example(Compare("cpu", "!=", 1.5), [NO_ROW | {"cpu": 1.5}, NO_ROW | {"cpu": math.nan}], True)
@example(IsIn("cpu", (math.nan,)), [NO_ROW | {"cpu": 1.5}, NO_ROW | {"cpu": math.nan}], False)
@example(Compare("cpu", ">=", 0.0), [NO_ROW | {"cpu": -0.0}], True)
@example(IsNull("host"), [NO_ROW], False)
@example(Not(Text("host", "starts_with", "a")), [NO_ROW | {"host": "a"}, NO_ROW | {"host": "b"}], False)
def test_rows_that_match_are_never_ruled_out_by_their_statistics(predicate, rows, knows_nan):
    if any(holds(predicate, row) for row in rows):
        assert may_match(predicate, stats_of(rows, knows_nan=knows_nan))
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
        (Compare("only", "!=", 5), False),
        (Compare("only", "!=", 6), True),
        (Not(Compare("rack", ">=", 0)), False),
        (Not(Compare("rack", "<", 5)), True),
        (IsIn("rack", (-5, 20)), False),
        (IsIn("rack", (-5, 10)), True),
        (IsIn("rack", (20, None, 3, -5)), True),
        (IsIn("rack", ()), False),
        (IsIn("rack", ("a", 7)), True),
        (Not(IsIn("only", (5, 6))), False),
        (Not(IsIn("only", (6,))), True),
        (Not(IsIn("rack", (5,))), True),
        (IsNull("rack"), False),
        (IsNull("host"), True),
        (Not(IsNull("host")), False),
        (Not(IsNull("rack")), True),
        (Compare("host", "==", "a"), False),
        (Not(Compare("host", "==", "a")), False),
        (Not(IsIn("host", ("a",))), False),
        (Text("name", "starts_with", "ma"), True),
        (Text("name", "starts_with", "max"), True),
        (Text("name", "starts_with", "z"), False),
        (Text("name", "starts_with", "a"), False),
        (Text("name", "starts_with", "m"), True),
        (Text("name", "contains", "z"), True),
        (Not(Text("name", "starts_with", "m")), False),
        (Not(Text("name", "starts_with", "ma")), True),
        (Not(Text("name", "contains", "m")), True),
        (Compare("cpu", "<", -1.0), False),
        (Compare("cpu", "<", 0.0), True),
        (Compare("cpu", "<=", -2), False),
        (Compare("cpu", "==", 3.0), False),
        (Compare("cpu", "==", 2), True),
        (And((Compare("cpu", ">=", 3.0), Compare("cpu", "<=", 4.0))), True),
        (Compare("cpu", ">", 3.0), True),
        (Compare("cpu", ">", math.nan), False),
        (Compare("cpu", "==", math.nan), True),
        (IsIn("cpu", (3.0, 4.0)), False),
        (IsIn("cpu", (3.0, math.nan)), True),
        (Compare("load", ">", 3.0), False),
        (Compare("load", ">", 1.0), True),
        (Compare("load", ">=", 2.5), False),
        (Compare("load", "==", math.nan), False),
        (IsIn("load", (3.0, math.nan)), False),
        (IsIn("load", (5.0, math.nan, 1.0)), True),
        (Not(Compare("load", "<", 3.0)), False),
        (And((Compare("rack", "==", 5), Compare("rack", "==", 11))), False),
        (Or((Compare("rack", "==", 5), Compare("rack", "==", 11))), True),
        (Not(Or((Compare("rack", ">=", 0), IsNull("rack")))), False),
        (Implied(Opaque(), Compare("rack", ">", 10)), False),
        (Not(Implied(Opaque(), Compare("rack", ">", 10))), True),
        (Or(()), False),
        (Opaque(), True),
        (ALWAYS, True),
        (Compare("rack", "==", "text"), True),
        (Compare("other", "==", 1), True),
    ],
    ids=describe,
)
def test_statistics_rule_out_what_they_can(predicate, answer):
    stats = {
        "rack": ColumnStats(minimum=0, maximum=10, null_count=0, row_count=5),
        "only": ColumnStats(minimum=5, maximum=5, null_count=2, row_count=5),
        "name": ColumnStats(minimum="mad", maximum="mix", null_count=0, row_count=5),
        "cpu": ColumnStats(minimum=-1.0, maximum=2.0, null_count=0, row_count=5),
        "load": ColumnStats(minimum=-1.0, maximum=2.0, null_count=0, row_count=5, may_hold_nan=False),
        "host": ColumnStats(null_count=5, row_count=5),
    }

    assert may_match(predicate, stats) is answer


def test_a_set_is_put_in_order_once_for_all_row_groups():
    predicate = IsIn("rack", tuple(range(1000, 0, -2)))

    ordered = predicate.lookup.ordered()

    assert not may_match(predicate, {"rack": ColumnStats(minimum=501, maximum=501)})
    assert may_match(predicate, {"rack": ColumnStats(minimum=501, maximum=502)})
    assert predicate.lookup.ordered() is ordered
    assert predicate == IsIn("rack", predicate.values)


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
        (IsIn("ts", (9, 2, None, 4)), TimeRange(2, 10)),
        (IsIn("ts", ("2024", 4)), EVERYTHING),
        (IsIn("ts", (None,)), TimeRange(0, 0)),
        (And((Compare("ts", ">=", 5), Compare("ts", "<", 9), Compare("rack", "==", 1))), TimeRange(5, 9)),
        (Or((Compare("ts", "==", 5), Compare("ts", "==", 9))), TimeRange(5, 10)),
        (Or((Compare("ts", "==", 5), Compare("rack", "==", 9))), EVERYTHING),
        (Or((Compare("ts", "==", 5), NEVER)), TimeRange(5, 6)),
        (Or(()), TimeRange(0, 0)),
        (Not(Compare("ts", "==", 5)), EVERYTHING),
        (Not(Compare("ts", ">=", 5)), TimeRange(TIME_MIN, 5)),
        (Not(Or((Compare("ts", "<", 5), Compare("ts", ">", 9)))), TimeRange(5, 10)),
        (Implied(Opaque(), Compare("ts", ">", 5)), TimeRange(6, TIME_MAX)),
        (Not(Implied(Opaque(), Compare("ts", ">", 5))), EVERYTHING),
        (Opaque(), EVERYTHING),
        (ALWAYS, EVERYTHING),
    ],
    ids=describe,
)
def test_a_time_range_is_as_narrow_as_the_condition_says(predicate, wanted):
    assert time_range(predicate, "ts") == wanted


# --- trees -----------------------------------------------------------------------------------------------


def test_the_key_part_holds_the_conjuncts_that_no_field_decides():
    host, time = Compare("host", "==", "a"), Compare("ts", ">", 5)
    mixed = Or((host, Compare("cpu", ">", 1)))

    assert key_part(And((host, Compare("cpu", ">", 1), time, mixed, Opaque())), KEYS) == And((host, time))
    assert key_part(Not(IsNull("host")), KEYS) == Not(IsNull("host"))
    assert key_part(And((Or((host, Opaque())), time)), KEYS) == time
    assert key_part(Implied(Opaque(), And((host, time))), KEYS) == And((host, time))
    assert key_part(Implied(Opaque(), Compare("cpu", ">", 1)), KEYS) == ALWAYS
    assert key_part(Not(Opaque()), KEYS) == ALWAYS
    assert key_part(mixed, KEYS) == ALWAYS
    assert key_part(ALWAYS, KEYS) == ALWAYS


@settings(deadline=None)
@given(predicates, records)
def test_a_row_that_matches_matches_the_key_part_too(predicate, row):
    part = key_part(predicate, KEYS)

    assert columns_of(part) <= KEYS
    if holds(predicate, row):
        assert holds(part, row)


@settings(deadline=None, max_examples=100)
@given(predicates, records)
@example(Not(And((Compare("cpu", "<", math.nan), IsIn("host", ("a",))))), NO_ROW | {"cpu": math.nan})
def test_conjuncts_are_the_same_condition(predicate, row):
    parts = conjuncts(predicate)

    assert holds(And(parts), row) == holds(predicate, row)
    assert not any(isinstance(part, And) for part in parts)
    assert not any(isinstance(part, Not) and isinstance(part.part, And | Or | Not | Compare) for part in parts)


@settings(deadline=None)
@given(st.lists(predicates, max_size=4), records)
def test_a_conjunction_holds_when_all_parts_do(parts, row):
    joined = conjunction(parts)

    assert holds(joined, row) == holds(And(tuple(parts)), row)
    assert not (isinstance(joined, And) and len(joined.parts) == 1)


def test_all_columns_of_a_condition_are_found():
    evaluated = RowWise(frozenset({"d", "e"}), lambda rows: rows)
    predicate = And((Compare("a", "==", 1), Or((IsIn("b", (1,)), Not(IsNull("c")))), Opaque("f > 1"), evaluated))

    assert columns_of(predicate) == {"a", "b", "c", "d", "e"}
    assert columns_of(Implied(Text("a", "contains", "x"), Compare("ts", ">", 1))) == {"a"}
    assert columns_of(Opaque("f > 1", frozenset({"f"}))) == {"f"}


def test_what_is_opaque_is_found_at_any_depth():
    assert has_opaque(Or((IsNull("a"), Not(And((Implied(Opaque(), ALWAYS),))))))
    assert not has_opaque(Implied(row_wise(IsNull("host")), Opaque()))


def test_conditions_with_the_same_text_from_different_makers_differ():
    first, second = (RowWise(frozenset({"a"}), lambda rows, number=number: rows, "f(a)") for number in range(2))

    assert first != second
    assert first == RowWise(frozenset({"a"}), first.evaluate, "f(a)")


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (Compare("host", "==", "a"), "host == 'a'"),
        (IsIn("host", ("a", "b")), "host in ['a', 'b']"),
        (IsIn("rack", (1, 2, 3, 4, 5)), "rack in [1, 2, 3, 4, … 5 in all]"),
        (IsNull("cpu"), "cpu is null"),
        (Text("host", "starts_with", "a"), "host starts with 'a'"),
        (Text("host", "matches", "disk full"), "host matches 'disk full'"),
        (Not(IsNull("cpu")), "not (cpu is null)"),
        (And((IsNull("cpu"), Compare("ts", ">", 1))), "cpu is null and ts > 1"),
        (Or((IsNull("cpu"), Compare("ts", ">", 1))), "(cpu is null or ts > 1)"),
        (And((Or((IsNull("a"), IsNull("b"))), IsNull("c"))), "(a is null or b is null) and c is null"),
        (Or((And((IsNull("a"), IsNull("b"))), IsNull("c"))), "(a is null and b is null or c is null)"),
        (Or(()), "nothing"),
        (ALWAYS, "everything"),
        (Opaque("f(x)"), "f(x)"),
        (RowWise(frozenset({"x"}), lambda rows: rows, "f(x)"), "f(x)"),
        (Implied(Opaque("f(x)"), Compare("ts", ">", 1)), "f(x) (so ts > 1)"),
    ],
    ids=str,
)
def test_a_predicate_reads_as_a_person_would_write_it(predicate, text):
    assert describe(predicate) == text
