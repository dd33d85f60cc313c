from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from itertools import cycle, islice, product
from operator import and_, or_
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from polars.exceptions import ComputeError, PolarsError
from polars.lazyframe.resolver import FilterExpr, LazyFrameResolver, ResolvedLazyFrameProps

from mitoframe.frames.conditions import _settled_value, check_condition, implied, plain_predicate, to_predicate
from mitoframe.frames.conditions_time import polars_type, time_part
from mitoframe.model.errors import InvalidInputError, SchemaMismatchError
from mitoframe.model.predicate import (
    And,
    ColumnStats,
    Compare,
    IsIn,
    Opaque,
    Predicate,
    RowWise,
    conjuncts,
    describe,
    has_opaque,
    matching,
    may_match,
    residual,
    series_mask,
    time_range,
)
from mitoframe.model.timerange import EVERYTHING

BERLIN = ZoneInfo("Europe/Berlin")
SCHEMA = pa.schema(
    {
        "host": pa.large_string(),
        "rack": pa.int64(),
        "day": pa.date32(),
        "ts": pa.timestamp("ns"),
        "seen": pa.timestamp("ms", "Europe/Berlin"),
        "cpu": pa.float64(),
        "load": pa.float32(),
        "small": pa.int8(),
        "up": pa.bool_(),
        "raw": pa.large_binary(),
    }
)
TAGS = ("host", "rack", "day")
FRAME = pl.from_arrow(SCHEMA.empty_table())
C = pl.col
EPOCH = datetime(1970, 1, 1)
OPERATORS = ["==", "!=", "<", "<=", ">", ">="]


class Listener(LazyFrameResolver):
    """A table that only wants to know what is pushed down to it."""

    def __init__(self) -> None:
        self.heard: list[FilterExpr] = []

    def schema(self) -> dict[str, Any]:
        return dict(FRAME.schema)

    def resolve_lazyframe(self, *, projection, filters, **_):
        self.heard = filters
        return FRAME.lazy().select(projection or FRAME.columns), ResolvedLazyFrameProps(version_key="1")


def pushed(*conditions: pl.Expr) -> list[FilterExpr]:
    listener = Listener()
    listener.lazy().filter(*conditions).collect()
    return listener.heard


def read(condition: pl.Expr) -> Predicate:
    parts = [to_predicate(item, SCHEMA.field) for item in pushed(condition)]
    return parts[0] if len(parts) == 1 else And(tuple(parts))


# --- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (C("host") == "a", "host == 'a'"),
        (pl.lit("a") > C("host"), "host < 'a'"),
        (~(C("rack") >= 3), "rack < 3"),
        (C("cpu") > 1, "cpu > 1.0"),
        (C("load") == 0.1, "load == 0.10000000149011612"),
        (C("cpu").is_nan(), "cpu == nan"),
        (~C("cpu").is_not_nan(), "cpu == nan"),
        (C("day") == date(2024, 1, 1), "day == datetime.date(2024, 1, 1)"),
        (C("up"), "up == True"),
        (~C("up"), "not (up == True)"),
        (C("up") == True, "up == True"),  # noqa: E712
        (C("host").is_null(), "host is null"),
        (C("host").is_not_null(), "not (host is null)"),
        (C("host").eq_missing("a"), "host == 'a' and not (host is null)"),
        (C("host").ne_missing("a"), "(host != 'a' or host is null)"),
        (C("host").eq_missing(None), "host is null"),
        (C("rack").is_between(1, 3), "rack >= 1 and rack <= 3"),
        (C("rack").is_between(1, 3, closed="none"), "rack > 1 and rack < 3"),
        (C("ts").is_between(EPOCH, EPOCH + timedelta(seconds=1), closed="left"), "ts >= 0 and ts < 1000000000"),
        (C("seen") >= datetime(1970, 1, 1, 1, tzinfo=BERLIN), "seen >= 0"),
        (C("host").is_in(["a", "b"]), "host in ['a', 'b']"),
        (C("host").is_in(["a", None]), "host in ['a']"),
        (C("host").is_in(["a", None], nulls_equal=True), "(host in ['a'] or host is null)"),
        (C("host").is_in(["a"], nulls_equal=True), "host in ['a'] and not (host is null)"),
        (C("ts").is_in([EPOCH]), "ts in [0]"),
        (C("host").str.starts_with("a"), "host starts with 'a'"),
        (C("host").str.ends_with("a"), "host ends with 'a'"),
        (C("host").str.contains("a.b", literal=True), "host contains 'a.b'"),
        (C("host").str.contains("ab"), "host contains 'ab'"),
        (C("host").str.contains("^ab", strict=False), "host starts with 'ab'"),
        (C("host").str.contains("ab$"), "host ends with 'ab'"),
        (C("host").str.contains("^ab$"), "host == 'ab'"),
        ((C("host") == "a") | (C("rack") == 1), "(host == 'a' or rack == 1)"),
        ((C("up")) ^ (C("rack") == 1), "(up == True and not (rack == 1) or not (up == True) and rack == 1)"),
        (pl.lit(True), "everything"),
        (pl.lit(False), "nothing"),
        (C("host").str.contains("a|b"), 'col("host").str.contains(["a|b"])'),
        (C("raw") == b"a", '[(col("raw")) == (b"a")]'),
        (C("host") == C("host").str.to_lowercase(), '[(col("host")) == (col("host").str.to_lowercase())]'),
    ],
    ids=str,
)  # fmt: skip
def test_a_condition_is_read_as_it_was_meant(condition, text):
    assert describe(read(condition)) == text


@pytest.mark.parametrize(
    "condition",
    [
        C("host").str.contains("(?i)A"),
        C("host").str.to_lowercase() == "a",
        C("host").str.slice(0, 1) == "a",
        C("host").str.extract(r"(\d+)").cast(pl.Int64, strict=False) > 3,
        C("host").str.replace("a", "b") == "b",
        C("host").str.contains_any(["a", "b"]),
        C("host").fill_null("a") == "a",
        C("host") + "x" == "ax",
        C("rack") > 1.5,
        C("rack") % 2 == 0,
        C("rack") * 2 + 1 == 3,
        C("rack").abs() > 1,
        C("day").dt.year() == 2024,
        C("day") >= datetime(2024, 1, 1, 12),
        C("small") == 300,
        pl.when(C("host") == "a").then(C("rack") > 1).otherwise(C("rack") < 0),
        pl.any_horizontal(C("host") == "a", C("rack") == 1),
        (C("host") == "a").is_not_null(),
        pl.format("{}-{}", "host", "rack") == "a-1",
        C("host").str.to_uppercase().str.starts_with("A"),
        C("host").str.len_chars() > 1,
        C("ts").dt.hour() == 3,
        C("cpu").is_finite(),
    ],
    ids=str,
)
def test_functions_of_one_row_are_known_to_be_that(condition):
    """Fails where another Polars calls a function differently: then it is opaque, and prunes no more."""
    predicate = read(condition)

    assert isinstance(predicate, RowWise)
    assert predicate.columns == frozenset(condition.meta.root_names())


@pytest.mark.parametrize(
    "condition",
    [
        C("host").rank() > 1,
        pl.len() > 1,
        C("rack").max() > 1,
        C("rack") > C("rack").mean(),
        C("rack").sum().over("host") > 1,
        C("host").shift() == "a",
        C("host").is_first_distinct(),
        C("host").is_duplicated(),
        C("host").sort() == "a",
        C("host").reverse() == "a",
        C("rack").cum_sum() > 1,
        C("rack").diff() > 1,
        C("rack").rolling_mean(2) > 1,
        C("host").forward_fill() == "a",
        C("rack").interpolate() > 1,
        C("rack").rle_id() == 1,
        C("rack").shuffle() == 1,
        C("host").is_in(C("host").implode()),
        C("host").cast(pl.Int64) == 1,
        C("rack").hash() > 5,
        C("host").map_elements(lambda text: text.casefold() == "a", return_dtype=pl.Boolean),
        C("host").map_batches(lambda texts: texts == "a", return_dtype=pl.Boolean),
        C("host").map_batches(lambda texts: texts == "a", return_dtype=pl.Boolean, is_elementwise=True),
    ],
    ids=str,
)
def test_what_may_look_at_other_rows_never_prunes(condition):
    series = pa.RecordBatch.from_pydict({"host": ["a", "b"], "rack": [1, 2]})

    for item in pushed(condition):
        predicate = to_predicate(item, SCHEMA.field)

        assert isinstance(predicate, Opaque)
        assert series_mask(predicate, series) is None


def test_a_function_of_the_user_is_applied_to_rows_only():
    calls = []

    def is_new(text):
        calls.append(text)
        return text not in calls[:-1]

    rows = pa.RecordBatch.from_pydict({"host": pa.array(["a", "b", "a"], pa.large_string())})
    predicate = read(C("host").map_elements(is_new, return_dtype=pl.Boolean))

    assert calls == []
    assert series_mask(predicate, rows) is None
    assert matching(predicate, rows).to_pylist() == [True, True, False]


def test_a_regular_expression_is_asked_once_per_distinct_value():
    hosts = pa.array(["a1", None, "b2", "a1"] * 100, pa.large_string())
    asked = []
    predicate = read(C("host").str.contains(r"a\d"))
    counted = RowWise(predicate.columns, lambda rows: asked.append(rows.num_rows) or predicate.evaluate(rows))

    mask = series_mask(counted, pa.RecordBatch.from_pydict({"host": hosts}))

    assert mask.tolist() == [True, False, False, True] * 100
    assert asked == [3]


@pytest.mark.parametrize(
    "condition",
    [C("rack") > 1.5, C("rack").is_in([1.5]), C("cpu") > 1, C("ts") > datetime(2024, 1, 1), C("load") == 0.1],
    ids=str,
)
def test_a_literal_of_another_type_than_the_column_is_left_to_polars(condition):
    """Polars settles types before it pushes a condition down; one that it did not settle would be misread."""
    untyped = FilterExpr(expr=condition, pyarrow_str=None, _pyarrow_expr=None)

    assert isinstance(to_predicate(untyped, SCHEMA.field), RowWise)


def test_a_pattern_that_is_none_is_polars_own_error():
    with pytest.raises(ComputeError, match="regex"):
        pushed(C("host").str.contains("["))


def test_a_set_of_a_million_is_read_without_its_text():
    hosts = [f"host_{number:07}" for number in range(1_000_000)]

    for condition in (C("host").is_in(hosts), ~C("host").is_in(hosts)):
        predicate = conjuncts(read(condition))[0]
        member = predicate if isinstance(predicate, IsIn) else predicate.part

        assert member == IsIn("host", tuple(hosts))
        assert may_match(member, {"host": ColumnStats(minimum="host_0999999", maximum="z")})
        assert not may_match(member, {"host": ColumnStats(minimum="host_1", maximum="z")})


def test_a_long_condition_of_another_kind_is_opaque():
    hosts = [f"host_{number:07}" for number in range(100_000)]

    assert isinstance(read(C("host").str.to_lowercase().is_in(hosts)), Opaque)
    assert isinstance(read(C("host").str.to_lowercase().is_in(hosts[:10])), RowWise)


# --- any condition over any rows -------------------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "host": ["", "a", "b", "ab", "ä", "B a_1", "x.y", "\U0001f40d"],
    "rack": [-1, 0, 1, 7],
    "day": [date(2023, 12, 31), date(2024, 1, 1), date(2024, 2, 29)],
    "ts": [
        datetime(2023, 12, 31, 23, 59, 59, 999_999),
        datetime(2024, 1, 1),
        datetime(2024, 1, 1, 0, 30),
        datetime(1969, 12, 31, 23),
    ],
    "seen": [
        datetime(2024, 3, 31, 0, 59, tzinfo=UTC).astimezone(BERLIN),
        datetime(2024, 3, 31, 1, tzinfo=UTC).astimezone(BERLIN),
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC).astimezone(BERLIN),
    ],
    "cpu": [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan],
    "load": [0.0, -0.0, 0.5, 0.1, math.inf, math.nan],
    "small": [-1, 0, 7],
    "up": [True, False],
    "raw": [b"", b"a"],
}
COMPARISONS = [
    lambda left, right: left == right,
    lambda left, right: left != right,
    lambda left, right: left < right,
    lambda left, right: left <= right,
    lambda left, right: left > right,
    lambda left, right: left >= right,
    lambda left, right: left.eq_missing(right),
    lambda left, right: left.ne_missing(right),
]  # fmt: skip
TEXTS = ["", "a", "b", "A", "ab", "x.y", "a.b", "^a", "b$", "^ab$", "[ab]", "(?i)A", "a|b", r"\.", r"\d", "."]
DAYS = VALUES["day"]

records = st.fixed_dictionaries(
    {name: st.sampled_from(values) | (st.nothing() if name == "ts" else st.none()) for name, values in VALUES.items()}
)
row_lists = st.lists(records, min_size=1, max_size=6)
names = st.sampled_from(list(VALUES))
compare = st.sampled_from(COMPARISONS)


def literals(name: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(VALUES[name]).map(lambda value: pl.lit(value, dtype=FRAME.schema[name]))


@st.composite
def comparisons(draw) -> pl.Expr:
    name = draw(names)
    parts = C(name), draw(literals(name))
    return draw(compare)(*(parts if draw(st.booleans()) else parts[::-1]))


@st.composite
def sets(draw) -> pl.Expr:
    name = draw(names)
    values = draw(st.lists(st.sampled_from(VALUES[name]) | st.none(), max_size=4))
    return C(name).is_in(pl.Series([values], dtype=pl.List(FRAME.schema[name])), nulls_equal=draw(st.booleans()))


@st.composite
def betweens(draw) -> pl.Expr:
    name = draw(names)
    closed = draw(st.sampled_from(["both", "left", "right", "none"]))
    return C(name).is_between(draw(literals(name)), draw(literals(name)), closed=closed)


texts = st.sampled_from(TEXTS).flatmap(
    lambda text: st.sampled_from(
        [
            C("host").str.starts_with(text),
            C("host").str.ends_with(text),
            C("host").str.contains(text),
            C("host").str.contains(text, strict=False),
            C("host").str.contains(text, literal=True),
            C("host").str.contains_any([text, "ä"]),
            C("host").str.to_lowercase() == text,
            C("host").fill_null("a") == text,
            C("host") + "b" == text,
            C("host").str.replace("a", text, literal=True) == "b",
        ]
    )
)
others = st.sampled_from(
    [
        C("up"),
        C("cpu").is_nan(),
        C("cpu").is_not_nan(),
        C("cpu").is_finite(),
        C("rack") > 0.5,
        C("rack") % 2 == 1,
        C("rack") + C("small") > 0,
        C("rack") == C("small"),
        C("small") == 300,
        C("host").str.len_chars() > 1,
        C("day").dt.year() == 2024,
        C("day") >= datetime(2024, 1, 1, 12),
        pl.when(C("host") == "a").then(C("rack") > 0).otherwise(C("up")),
        pl.any_horizontal(C("host") == "a", C("rack") == 1),
        pl.coalesce("host", pl.lit("a")) == "a",
        (C("rack") > 0).is_null(),
        (C("cpu") > 0).fill_null(True),
        pl.lit(True),
    ]
)
nulls = names.flatmap(lambda name: st.sampled_from([C(name).is_null(), C(name).is_not_null()]))
parts_of_time = st.one_of(
    st.builds(lambda apply, value: apply(C("ts").dt.date(), value), compare, st.sampled_from(DAYS)),
    st.builds(lambda apply, value: apply(C("seen").dt.date(), value), compare, st.sampled_from(DAYS)),
    st.builds(lambda apply, value: apply(C("ts").dt.year(), value), compare, st.sampled_from([2023, 2024])),
    st.builds(lambda values: C("ts").dt.date().is_in(values), st.lists(st.sampled_from(DAYS), min_size=1, max_size=2)),
    st.just(C("ts").dt.hour() == 0),
)
conditions = st.recursive(
    st.one_of(comparisons(), sets(), betweens(), texts, others, nulls, parts_of_time),
    lambda inner: st.one_of(
        st.builds(lambda left, right: left & right, inner, inner),
        st.builds(lambda left, right: left | right, inner, inner),
        st.builds(lambda left, right: left ^ right, inner, inner),
        inner.map(lambda part: ~part),
    ),
    max_leaves=5,
)


def as_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(FRAME.schema), strict=False)


def as_batch(frame: pl.DataFrame) -> pa.RecordBatch:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(SCHEMA)
    return table.combine_chunks().to_batches()[0]


def truth_of(frame: pl.DataFrame, condition: pl.Expr) -> list[bool | None]:
    # A literal has one truth for all rows.
    return frame.with_columns(truth=condition)["truth"].to_list()


def stats_of(batch: pa.RecordBatch) -> dict[str, ColumnStats]:
    stats = {}
    for field, column in zip(SCHEMA, batch.columns, strict=True):
        values = (column.view(pa.int64()) if pa.types.is_timestamp(field.type) else column).to_pylist()
        known = [value for value in values if value is not None and value == value]
        stats[field.name] = ColumnStats(
            minimum=min(known, default=None),
            maximum=max(known, default=None),
            null_count=column.null_count,
            row_count=len(column),
        )
    return stats


@settings(deadline=None, max_examples=200)
@given(conditions, row_lists)
@example(~C("host").is_in(["a"], nulls_equal=True), [dict.fromkeys(VALUES) | {"ts": datetime(2024, 1, 1)}])
@example(C("cpu") > 1, [dict.fromkeys(VALUES) | {"ts": datetime(2024, 1, 1), "cpu": math.nan}])
def test_a_predicate_is_as_true_as_the_condition_and_prunes_no_row_that_matches(condition, rows):
    frame = as_frame(rows)
    batch = as_batch(frame)
    wanted = frame.with_row_index("number").filter(condition)["number"].to_list()
    items = pushed(condition)
    predicates = [to_predicate(item, SCHEMA.field) for item in items]

    for item, predicate in zip(items, predicates, strict=True):
        assert matching(predicate, batch).to_pylist() == truth_of(frame, item.expr), describe(predicate)

    whole = And(tuple(predicates))
    mask = series_mask(whole, batch.select(TAGS))
    times = batch.column("ts").view(pa.int64()).to_pylist()
    kept = [
        number
        for number, time in enumerate(times)
        if (mask is None or mask[number]) and time_range(whole, "ts").holds(time)
    ]
    assert set(wanted) <= set(kept)
    assert not wanted or may_match(whole, stats_of(batch))
    left = matching(residual(whole, frozenset(TAGS), "ts"), batch).to_pylist()
    assert [number for number in kept if left[number]] == [
        number for number, truth in enumerate(matching(whole, batch).to_pylist()) if truth
    ]
    extra = reduce(lambda one, other: one & other, implied(whole, SCHEMA), pl.lit(True))
    assert frame.with_row_index("number").filter(condition, extra)["number"].to_list() == wanted


# --- parts of the time -----------------------------------------------------------------------------------

ZONES = [None, "UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata"]
# Clocks were changed in Berlin, at midnight in São Paulo (twice), by half an hour on Lord Howe, by a day on Samoa.
CHANGES = [
    datetime(2024, 3, 31, 1),
    datetime(2024, 10, 27, 1),
    datetime(2018, 11, 4, 3),
    datetime(2018, 2, 18, 2),
    datetime(2024, 4, 6, 15),
    datetime(2011, 12, 30, 10),
    datetime(1970, 1, 1),
    datetime(2024, 1, 1),
]
EVERY = ["1ms", "90s", "1h", "7h", "1d", "3d", "1w", "1mo", "1q", "1y", "1d12h", "5y"]
instants = st.builds(
    lambda change, seconds, micros: change + timedelta(seconds=seconds, microseconds=micros),
    st.sampled_from(CHANGES),
    st.sampled_from([0, -1, 1, 1800, 3600, -3600, 7200, 86_400, -86_400, 12 * 3600]) | st.integers(-(10**6), 10**6),
    st.sampled_from([0, 1, -1, 500, 999_999]),
)


@st.composite
def times_and_conditions(draw) -> tuple[pl.DataType, pl.Series, pl.Expr]:
    """A column of times, and a condition on something made of it that some of its own times are compared with."""
    kind = pl.Datetime(draw(st.sampled_from(["ms", "us", "ns"])), draw(st.sampled_from(ZONES)))
    times = draw(st.lists(instants, min_size=1, max_size=8))
    column = pl.Series("ts", times, dtype=pl.Datetime("us")).cast(pl.Datetime(kind.time_unit))
    if kind.time_unit == "ns":
        column = (column.to_physical() + draw(st.sampled_from([0, 1, 999]))).cast(column.dtype)
    if kind.time_zone is not None:
        column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(kind.time_zone)
    span = timedelta(microseconds=draw(st.integers(-(10**12), 10**12)))
    part = draw(
        st.sampled_from(
            [
                C("ts").dt.date(),
                C("ts").dt.year(),
                C("ts").dt.truncate(draw(st.sampled_from(EVERY))),
                C("ts").dt.timestamp(draw(st.sampled_from(["ms", "us", "ns"]))),
                C("ts").dt.epoch("s"),
                C("ts") + span,
                C("ts") - span,
                (C("ts") + span).dt.date(),
                (C("ts") - span).dt.truncate("1h"),
                C("ts").cast(pl.Date, strict=False),
            ]
        )
    )
    try:
        made = column.to_frame().select(part.alias("made"))["made"]
    except PolarsError:
        assume(False)  # A time that clocks never showed, or showed twice.
    assume(made.null_count() == 0)
    low, high = pl.lit(made[0], dtype=made.dtype), pl.lit(made[-1], dtype=made.dtype)
    shape = draw(st.integers(0, len(COMPARISONS) + 2))
    if shape < len(COMPARISONS):
        return kind, column, COMPARISONS[shape](part, low)
    if shape == len(COMPARISONS):
        return kind, column, part.is_between(low, high)
    if shape == len(COMPARISONS) + 1:
        return kind, column, part.is_in(pl.Series([[made[0], made[-1]]], dtype=pl.List(made.dtype)))
    return kind, column, part.is_between(low, high, closed="left") | (part == high)


def predicate_of_time(kind: pl.DataType, condition: pl.Expr) -> tuple[Predicate, pa.Schema]:
    heard: list[FilterExpr] = []

    class Times(LazyFrameResolver):
        def schema(self):
            return {"ts": kind}

        def resolve_lazyframe(self, *, filters, **_):
            heard.extend(filters)
            return pl.LazyFrame(schema={"ts": kind}), ResolvedLazyFrameProps(version_key="1")

    Times().lazy().filter(condition).collect()
    schema = pa.schema({"ts": pa.timestamp(kind.time_unit, kind.time_zone)})
    return And(tuple(to_predicate(item, schema.field) for item in heard)), schema


@settings(deadline=None, max_examples=200)
@given(times_and_conditions())
def test_no_time_that_matches_is_outside_the_range_that_a_part_of_it_implies(drawn):
    kind, column, condition = drawn
    predicate, schema = predicate_of_time(kind, condition)
    wanted = time_range(predicate, "ts")

    matches = column.to_frame().filter(condition)["ts"]

    assert all(wanted.holds(tick) for tick in matches.to_physical())
    assert matches.to_frame().filter(*implied(predicate, schema), pl.lit(True)).height == len(matches)


@pytest.mark.parametrize(
    ("zone", "condition", "start", "end"),
    [
        (None, C("ts").dt.date() == date(2024, 3, 31), "2024-03-31", "2024-04-01"),
        (None, C("ts").dt.date() > date(2024, 3, 31), "2024-04-01", None),
        (None, C("ts").dt.date() < date(2024, 3, 31), None, "2024-03-31"),
        (None, C("ts").dt.date().is_in([date(2024, 3, 31), date(2024, 3, 1)]), "2024-03-01", "2024-04-01"),
        (None, C("ts").dt.date().is_between(date(2024, 3, 1), date(2024, 3, 2)), "2024-03-01", "2024-03-03"),
        (None, C("ts").cast(pl.Date, strict=False) == date(2024, 3, 31), "2024-03-31", "2024-04-01"),
        (None, C("ts").dt.year() == 2024, "2024-01-01", "2025-01-01"),
        (None, C("ts").dt.year() >= 2024, "2024-01-01", None),
        (None, C("ts").dt.truncate("1h") == datetime(2024, 3, 31), "2024-03-31", "2024-03-31T01:00:00.000001"),
        (None, C("ts").dt.truncate("1mo") == datetime(2024, 2, 1), "2024-02-01", "2024-03-03T00:00:00.000001"),
        (None, C("ts").dt.truncate("1q") == datetime(2024, 7, 1), "2024-07-01", "2024-10-01T00:00:00.000001"),
        (None, C("ts").dt.truncate("1y") == datetime(2024, 1, 1), "2024-01-01", "2025-01-01T00:00:00.000001"),
        (
            "Europe/Berlin",  # A day of 25 hours.
            C("ts").dt.truncate("1d") == datetime(2024, 10, 27, tzinfo=BERLIN),
            "2024-10-26T21:00",
            "2024-10-27T23:00:00.000001",
        ),
        (None, C("ts").dt.epoch("us") >= 10**6, "1970-01-01T00:00:01", None),
        (None, C("ts") + timedelta(hours=1) >= datetime(2024, 1, 1, 1), "2023-12-31T23:59:59.999999", None),
        (None, C("ts") - timedelta(hours=1) < datetime(2024, 1, 1), None, "2024-01-01T01:00:00.000001"),
        ("UTC", C("ts").dt.date() == date(2024, 3, 31), "2024-03-31", "2024-04-01"),
        ("Europe/Berlin", C("ts").dt.date() == date(2024, 6, 1), "2024-05-31T22:00", "2024-06-01T22:00"),
        ("Europe/Berlin", C("ts").dt.date() == date(2024, 3, 31), "2024-03-30T22:00", "2024-03-31T23:00"),
        (None, (C("ts").dt.year() == 2023) | (C("ts").dt.year() == 2024), "2023-01-01", "2025-01-01"),
        (None, C("ts").dt.hour() == 3, None, None),
        (None, C("ts").dt.month() == 3, None, None),
        (None, C("ts").dt.date() != date(2024, 3, 31), None, None),
        (None, ~(C("ts").dt.date() > date(2024, 3, 31)), None, "2024-04-01"),
        (None, C("ts") + timedelta(hours=1) < datetime(2024, 1, 1), None, None),
        (None, C("ts").dt.timestamp("ns") >= 5, None, None),
    ],
    ids=str,
)  # fmt: skip
def test_a_condition_on_a_part_of_the_time_implies_a_range(zone, condition, start, end):
    predicate, _ = predicate_of_time(pl.Datetime("us", zone), condition)

    wanted = time_range(predicate, "ts")

    assert wanted.start == (EVERYTHING.start if start is None else micros(start))
    assert wanted.end == (EVERYTHING.end if end is None else micros(end))


def test_a_span_of_a_coarser_unit_leaves_room_for_what_it_cuts_off():
    kind = pl.Datetime("ns")
    later = C("ts") + timedelta(hours=1)  # In microseconds.
    times = pl.DataFrame({"ts": pl.Series([0, 1, 999, 1000]).cast(kind)})

    predicate, _ = predicate_of_time(kind, later == datetime(1970, 1, 1, 1))

    assert times.filter(later == datetime(1970, 1, 1, 1)).height == 3
    assert time_range(predicate, "ts").holds(0)
    assert time_range(predicate, "ts").holds(999)
    assert not time_range(predicate, "ts").holds(2000)


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_the_last_years_of_all_are_no_trouble(unit, zone):
    for year in (1, 1677, 2262, 9999):
        for condition in (C("ts").dt.date() == date(year, 12, 31), C("ts").dt.year() <= year):
            predicate, _ = predicate_of_time(pl.Datetime(unit, zone), condition)

            assert time_range(predicate, "ts").end >= min(0, time_range(predicate, "ts").start)


def test_a_time_beyond_all_calendars_is_no_trouble():
    kind = pa.timestamp("ms", "Europe/Berlin")
    part = time_part(C("ts").dt.truncate("1d"), pa.schema({"ts": kind}).field)
    beyond = pl.Series([10**17]).cast(polars_type(kind))

    (start,) = part.range_of(">=", beyond)

    assert start == Compare("ts", ">=", 10**17 - 52 * 3_600_000)


# --- literals and conditions that are read as they are written -------------------------------------------

LITERALS = [
    (pa.large_string(), ["", 'ü\0"\\', "\U0001f40d"]),
    (pa.bool_(), [True, False]),
    (pa.float64(), [0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, -1 / 3, math.inf, -math.inf, math.nan]),
    (pa.float32(), [0.5, 0.1]),
    (pa.int8(), [-128, 127]),
    (pa.uint64(), [0, 2**64 - 1]),
    (pa.int64(), [-(2**63), 2**63 - 1]),
    (pa.date32(), [date.min, date(1969, 12, 31), date.max]),
    (pa.large_binary(), [b"a"]),
    *[(pa.timestamp(unit), [EPOCH - timedelta(days=9), datetime(2024, 1, 1, 1, 2, 3)]) for unit in ("ms", "us", "ns")],
    (pa.timestamp("ms", "Europe/Berlin"), [datetime(2024, 1, 1, tzinfo=BERLIN)]),
]


@pytest.mark.parametrize("data_type", [kind for kind, _ in LITERALS], ids=str)
@pytest.mark.parametrize(
    ("written_as", "values"), LITERALS, ids=lambda each: str(each) if isinstance(each, pa.DataType) else ""
)
def test_a_literal_has_the_value_that_polars_finds_or_none(data_type, written_as, values):
    for value in values:
        literal = pl.lit(value, dtype=polars_type(written_as))

        found = _settled_value(literal, data_type)

        if found is None:
            continue
        assert written_as == data_type
        evaluated = pl.select(literal).to_series()
        expected = evaluated.to_physical().item() if pa.types.is_timestamp(data_type) else evaluated.item()
        assert (type(found), repr(found)) == (type(expected), repr(expected))


@pytest.mark.parametrize(
    ("expr", "data_type", "value"),
    [
        (pl.lit("a"), pa.large_string(), "a"),
        (pl.lit(False), pa.bool_(), False),
        (pl.lit(-0.5, dtype=pl.Float64), pa.float64(), -0.5),
        (pl.lit(7, dtype=pl.Int8), pa.int8(), 7),
        (pl.lit(date(2024, 1, 2)), pa.date32(), date(2024, 1, 2)),
        (pl.lit(EPOCH + timedelta(seconds=1)), pa.timestamp("us"), 1_000_000),
        (pl.lit(datetime(1970, 1, 1, 1, 0, 1, tzinfo=BERLIN)), pa.timestamp("us", "Europe/Berlin"), 1_000_000),
    ],
    ids=str,
)
def test_the_usual_literals_are_read_without_being_evaluated(expr, data_type, value):
    assert _settled_value(expr, data_type) == value


USER_VALUES = [
    *("a", "", "b", 1, 0, -1, 200, 2**60, 1.5, -0.0, math.inf, math.nan, True, b"a"),
    *(date(2024, 1, 1), EPOCH, datetime(1970, 1, 1, 1, tzinfo=BERLIN)),
    *(pl.lit(1, dtype=pl.Int64), pl.lit(1, dtype=pl.Int8), pl.lit("a"), pl.lit(EPOCH, dtype=pl.Datetime("ns"))),
]


def compared(name: str, operator: str, value: Any) -> pl.Expr:
    return {
        "==": C(name) == value,
        "!=": C(name) != value,
        "<": C(name) < value,
        "<=": C(name) <= value,
        ">": C(name) > value,
        ">=": C(name) >= value,
    }[operator]


USER_COMPARISONS = [
    compared(name, operator, value) for name, operator, value in product([*SCHEMA.names, "?"], OPERATORS, USER_VALUES)
]
PLAIN = [condition for condition in USER_COMPARISONS if plain_predicate(condition, SCHEMA) is not None]
joined = st.recursive(
    st.sampled_from(PLAIN) | st.lists(st.sampled_from(["a", "b", ""]), min_size=1).map(C("host").is_in),
    lambda parts: st.builds(lambda left, right, join: join(left, right), parts, parts, st.sampled_from([and_, or_])),
    max_leaves=4,
)


@settings(deadline=None, max_examples=100)
@given(joined, row_lists)
def test_a_condition_that_is_read_as_the_user_wrote_it_is_as_true_as_polars_finds_it(condition, rows):
    frame = as_frame(rows)

    predicate = plain_predicate(condition, SCHEMA)

    assert predicate is not None
    assert matching(predicate, as_batch(frame)).to_pylist() == truth_of(frame, condition)


def test_each_comparison_that_is_read_as_the_user_wrote_it_can_be_asked_and_says_the_same():
    frame = as_frame([dict(zip(VALUES, row, strict=True)) for row in zip(*map(cycle_of, VALUES.values()), strict=True)])

    assert len(PLAIN) > 60
    for condition in PLAIN:
        found = matching(plain_predicate(condition, SCHEMA), as_batch(frame)).to_pylist()
        assert found == truth_of(frame, condition), condition


def cycle_of(values: list[Any]) -> list[Any]:
    return list(islice(cycle(values), 30))


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (C("host") == "a", "host == 'a'"),
        (C("cpu") > 90, "cpu > 90.0"),
        ((C("rack") >= 3) & (C("small") != -128) & (C("up") == True), "rack >= 3 and small != -128 and up == True"),  # noqa: E712
        ((C("host") == "a") | (C("ts") < EPOCH), None),
        ((C("host") == "a") | (C("day") < date(2024, 1, 1)), "(host == 'a' or day < datetime.date(2024, 1, 1))"),
        (C("seen") < datetime(1970, 1, 1, 1, tzinfo=BERLIN), None),
        (C("host").is_in(["a", "b"]), "host in ['a', 'b']"),
        (C("rack").is_in([1, 2]), None),
        (C("cpu") > math.inf, None),
        (C("cpu") > 2**60, None),
        (C("load") > 1, None),
        (C("small") > 200, None),
        (C("rack") > 1.5, None),
        (C("rack") == C("small"), None),
        (C("host") > 1, None),
        (C("hots") == "a", None),
        (C("^host$") == "a", None),
        (C("up"), None),
        (pl.lit(True), None),
        ((C("host") == "a") & C("up"), None),
        (C("host").str.to_lowercase() == "a", None),
        ((C("host") == "a").alias("x"), None),
        (C("rack").sum() == 5, None),
    ],
    ids=str,
)
def test_only_what_is_plain_is_read_as_the_user_wrote_it(condition, text):
    found = plain_predicate(condition, SCHEMA)

    assert (None if found is None else describe(found)) == text


def test_a_column_whose_name_is_a_pattern_is_not_read_as_the_user_wrote_it():
    schema = pa.schema({"^host$": pa.large_string(), "host": pa.large_string(), "*": pa.large_string()})

    assert plain_predicate(C("^host$") == "a", schema) is None
    assert plain_predicate(C("*") == "a", schema) is None
    assert plain_predicate(C("^host$").is_in(["a"]), schema) is None


# --- what Polars can prune with --------------------------------------------------------------------------


def test_implied_ranges_let_polars_skip_row_groups(tmp_path, capfd):
    times = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 1, 10), "1h", eager=True, time_unit="ns")
    frame = pl.DataFrame({"ts": times, "cpu": [float(number) for number in range(len(times))]})
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=24)
    condition = C("ts").dt.date() == date(2024, 1, 3)
    predicate = And(tuple(to_predicate(item, SCHEMA.field) for item in pushed(condition)))

    with pl.Config(verbose=True):
        found = pl.scan_parquet(tmp_path / "a.parquet").filter(condition, *implied(predicate, SCHEMA)).collect()

    assert found.equals(frame.filter(condition))
    assert "Predicate pushdown: reading 1 / 10 row groups" in capfd.readouterr().err


def test_a_float_without_nan_gets_an_upper_end():
    predicate = And((Compare("cpu", ">", 90.0), Compare("load", ">=", 0.5), Compare("cpu", "<", 95.0)))
    values = pl.DataFrame({"cpu": [90.0, 90.5, math.inf, 94.0], "load": [0.5, 0.4, math.inf, 1.0]}).cast(
        {"load": pl.Float32}
    )

    assert implied(predicate, SCHEMA) == []
    ends = implied(predicate, SCHEMA, frozenset({"cpu", "load"}))
    assert [values.select(end).to_series().to_list() for end in ends] == [
        [False, True, True, True],
        [True, False, True, True],
    ]


# --- what cannot be asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (C("hots") == "a", "where: no column 'hots'; did you mean 'host'"),
        ((C("host") == "a") & (C("cpus") > 1), "where: no column 'cpus'; did you mean 'cpu'"),
        (C("ts") > "2024-01-01", "to a string value.* compare it with a datetime without a zone"),
        (C("ts") > datetime(2024, 1, 1, tzinfo=UTC), "'ts' holds times without a zone"),
        (C("seen") > datetime(2024, 1, 1), "'seen' holds times in zone 'Europe/Berlin'"),
        (C("seen") > datetime(2024, 1, 1, tzinfo=UTC), "compare it with a datetime in zone 'Europe/Berlin'"),
        (C("cpu"), "does not fit the columns: .*Boolean"),
        (C("host") > 1, "does not fit the columns"),
        (C("rack").is_in(["a"]), "does not fit the columns"),
        (C("host").str.contains("["), "regex parse error: .* unclosed character class"),
    ],
    ids=str,
)
def test_a_condition_that_cannot_be_asked_is_refused_by_name(condition, message):
    with pytest.raises(SchemaMismatchError, match=message):
        check_condition(condition, SCHEMA)


@pytest.mark.parametrize("condition", ["host == 'a'", True, None], ids=repr)
def test_what_is_not_an_expression_is_refused(condition):
    with pytest.raises(InvalidInputError, match=f"where is a {type(condition).__name__}; give a Polars expression"):
        check_condition(condition, SCHEMA)


@settings(deadline=None, max_examples=50)
@given(conditions)
@example(C("rack").max() > 1)
@example(C("^h.*t$") == "a")
@example(C("host").map_elements(lambda text: 1 / 0, return_dtype=pl.Boolean))
def test_what_can_be_asked_is_let_pass(condition):
    check_condition(condition, SCHEMA)


def test_a_conjunct_that_is_opaque_does_not_hide_the_others():
    predicate = read((C("host") == "a") & (C("rack").hash() > 5))

    assert has_opaque(predicate)
    assert Compare("host", "==", "a") in conjuncts(predicate)
    assert not has_opaque(read((C("host") == "a") & (C("cpu") > 1)))
