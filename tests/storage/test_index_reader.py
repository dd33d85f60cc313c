from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexing import indexed, segments_of

from mitoframe.model.alter import AddColumns, DropColumns, ModifyColumnTypes, NewColumn, SetIndexes, alter
from mitoframe.model.errors import DamageWarning, UnavailableError
from mitoframe.model.predicate import (
    And,
    Compare,
    Implied,
    IsIn,
    IsNull,
    Not,
    Opaque,
    Or,
    Predicate,
    RowWise,
    Text,
    matching,
)
from mitoframe.model.rows import RowRanges
from mitoframe.model.schema import INDEX_KINDS
from mitoframe.storage import index_inverted
from mitoframe.storage.index_reader import IndexReader
from mitoframe.storage.paths import index_key

ROWS = 3000
INVERTED_ROWS, SKIPPING_ROWS = 1024, 10_240
WORDS = ["disk", "Disk full", "net up", "straße", "STRASSE 1", "", "a b c", "full-stop", "ab", "abc", "x_y 7"]


def select(columns: pa.RecordBatch, kinds: dict[str, Any], predicate: Predicate, **given: Any) -> RowRanges | None:
    store, metadata, file = indexed(columns, kinds)
    return IndexReader(store).select(metadata, file, predicate, **given)


def matches(columns: pa.RecordBatch, predicate: Predicate) -> np.ndarray:
    """Return the rows that match, found one by one."""
    found = matching(predicate, columns)
    return np.flatnonzero(found.fill_null(False).to_numpy(zero_copy_only=False))


def column_of(pool: list[Any], data_type: pa.DataType, seed: int, *, rows: int = ROWS) -> pa.Array:
    """Draw values from a pool, few of them in each stretch of rows, so that segments differ."""
    draw = np.random.default_rng(seed)
    found: list[Any] = []
    while len(found) < rows:
        some = draw.choice(len(pool), size=min(2, len(pool)), replace=False)
        found += [pool[i] for i in draw.choice(some, size=int(draw.integers(300, 1500)))]
    return pa.array(found[:rows], data_type)


def covers(selected: RowRanges | None, rows: np.ndarray) -> bool:
    return selected is None or set(rows.tolist()) <= set(selected.rows().tolist())


# --- any condition ---------------------------------------------------------------------------------------

POOLS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "count": (pa.int64(), [None, -5, 0, 1, 2, 7, 9, 2**40]),
    "load": (pa.float64(), [None, math.nan, -math.inf, -1.5, -0.0, 0.0, 0.25, 3.0, math.inf]),
    "text": (pa.large_string(), [None, *WORDS]),
}
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def leaves() -> st.SearchStrategy[Predicate]:
    names = st.sampled_from(list(POOLS))
    values = names.flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(POOLS[name][1])))
    many = names.flatmap(lambda name: st.tuples(st.just(name), st.lists(st.sampled_from(POOLS[name][1]), max_size=3)))
    kinds = st.sampled_from(["starts_with", "ends_with", "contains", "matches"])
    patterns = st.sampled_from([*WORDS, "isk", "k f", "DISK", "zz", "l-s", " ", "ss"])
    return st.one_of(
        st.builds(lambda at, operator: Compare(at[0], operator, at[1]), values, operators),
        st.builds(lambda at: IsIn(at[0], tuple(at[1])), many),
        st.builds(IsNull, names),
        st.builds(lambda kind, pattern: Text("text", kind, pattern), kinds, patterns),
        st.just(Opaque("?", evaluate=lambda rows: pa.array([True] * rows.num_rows))),
        st.just(Compare("ts", ">", 5)),
    )


def trees() -> st.SearchStrategy[Predicate]:
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: And(tuple(parts))),
            st.lists(inner, max_size=3).map(lambda parts: Or(tuple(parts))),
            inner.map(Not),
            inner.map(lambda part: Implied(part, And(()))),
        ),
        max_leaves=5,
    )


kinds_of = st.fixed_dictionaries(
    {
        "count": st.sets(st.sampled_from(["inverted", "skipping"])),
        "load": st.sets(st.sampled_from(["inverted", "skipping"])),
        "text": st.sets(st.sampled_from(INDEX_KINDS)),
    }
)


@contextmanager
def pairs_up_to(limit: int) -> Iterator[None]:
    """Let columns have no more pairs of a value and a segment: with none, only zones and filters are left."""
    before, index_inverted.PAIRS_MAX = index_inverted.PAIRS_MAX, limit
    try:
        yield
    finally:
        index_inverted.PAIRS_MAX = before


@pytest.mark.parametrize("pairs_max", [index_inverted.PAIRS_MAX, 0], ids=["with terms", "without"])
@settings(deadline=None, max_examples=70)
@given(trees(), kinds_of, st.integers(0, 50))
def test_no_index_ever_leaves_out_a_row_that_matches(pairs_max, predicate, kinds, seed):
    columns = pa.RecordBatch.from_pydict(
        {name: column_of(pool, data_type, seed + i) for i, (name, (data_type, pool)) in enumerate(POOLS.items())}
    )
    rows = columns.append_column("ts", pa.array(range(ROWS)))

    with pairs_up_to(pairs_max):
        selected = select(columns, kinds, predicate)

    assert covers(selected, matches(rows, predicate))


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(list(POOLS)), st.integers(0, 50))
def test_an_inverted_index_names_exactly_the_segments_with_a_match(data, name, seed):
    data_type, pool = POOLS[name]
    columns = pa.RecordBatch.from_pydict({name: column_of(pool, data_type, seed)})
    values = st.sampled_from(pool)
    leaf = st.one_of(
        st.builds(Compare, st.just(name), operators, values),
        st.lists(values, max_size=3).map(lambda some: IsIn(name, tuple(some))),
        st.just(IsNull(name)),
    )
    predicate = data.draw(st.one_of(leaf, leaf.map(Not), st.tuples(leaf, leaf).map(And), st.tuples(leaf, leaf).map(Or)))

    selected = select(columns, {name: ["inverted"]}, predicate)

    assert selected is not None
    assert segments_of(selected.rows(), INVERTED_ROWS) == segments_of(matches(columns, predicate), INVERTED_ROWS)


# --- every type ------------------------------------------------------------------------------------------

TYPES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int8": (pa.int8(), [-128, 0, 127]),
    "uint64": (pa.uint64(), [0, 5, 2**63, 2**64 - 1]),
    "float32": (pa.float32(), [-0.5, 0.0, 0.25]),
    "bool": (pa.bool_(), [True, False]),
    "binary": (pa.large_binary(), [b"", b"a", b"\0\xff"]),
    "date": (pa.date32(), [date(1969, 12, 31), date(2024, 2, 29)]),
    "timestamp": (pa.timestamp("us", "UTC"), [datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]),
    "ticks": (pa.timestamp("ns"), [-1, 0, 1_700_000_000_000_000_001]),
    "duration": (pa.duration("ms"), [timedelta(-1), timedelta(0), timedelta(milliseconds=7)]),
    "time": (pa.time64("us"), [time(0), time(12, 30, 1, 7)]),
    "decimal": (pa.decimal128(10, 2), [Decimal("-1.50"), Decimal("0.00"), Decimal("3.25")]),
}


@pytest.mark.parametrize("kind", ["inverted", "skipping"])
@pytest.mark.parametrize("name", list(TYPES))
def test_every_type_is_found_and_told_apart(name, kind):
    data_type, pool = TYPES[name]
    rows = SKIPPING_ROWS if kind == "skipping" else INVERTED_ROWS
    blocks = [pa.array([value] * rows, data_type) for value in pool]
    columns = pa.RecordBatch.from_pydict({"x": pa.concat_arrays(blocks)})
    store, metadata, file = indexed(columns, {"x": [kind]}, rows_at_once=3 * rows)
    reader = IndexReader(store)

    for number, value in enumerate(pool):
        one = RowRanges.of([number * rows], [(number + 1) * rows])
        assert reader.select(metadata, file, Compare("x", "==", value)) == one
        assert reader.select(metadata, file, IsIn("x", (value, None))) == one
    assert reader.select(metadata, file, IsIn("x", tuple(pool))) == RowRanges.everything(len(columns))


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (pa.int64(), 2.5),
        (pa.int8(), 1000),
        (pa.uint8(), -1),
        (pa.float32(), 0.1),
        (pa.float64(), math.nan),
        (pa.int64(), "7"),
        (pa.large_string(), 7),
        (pa.timestamp("ms"), datetime(2024, 1, 1, microsecond=1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("operator", ["==", "<"])
def test_a_value_that_the_column_cannot_hold_is_not_looked_up(data_type, value, operator):
    columns = pa.RecordBatch.from_pydict({"x": pa.array([None], data_type)})

    assert select(columns, {"x": ["skipping"]}, Compare("x", operator, value)) is None


def test_a_large_set_is_looked_up_by_an_inverted_index_only():
    columns = pa.RecordBatch.from_pydict({"x": pa.array(range(3000))})
    million = IsIn("x", tuple(range(2048, 1_002_048)))

    assert select(columns, {"x": ["inverted"]}, million) == RowRanges.of([2048], [3000])
    assert select(columns, {"x": ["skipping"]}, million) is None


# --- what is known, and what not -------------------------------------------------------------------------

NUMBERS = pa.RecordBatch.from_pydict({"x": pa.array(range(3000)), "y": pa.array([row // 100 for row in range(3000)])})


def test_nothing_is_known_of_a_file_or_column_without_index():
    store, metadata, file = indexed(NUMBERS, {"x": ["inverted"]})
    reader = IndexReader(store)

    assert reader.select(metadata, replace(file, index=None), Compare("x", "==", 1)) is None
    assert reader.select(metadata, file, Compare("y", "==", 1)) is None
    assert reader.select(metadata, file, And(())) is None
    assert reader.select(metadata, file, Or((Compare("x", "==", 1), Compare("y", "==", 1)))) is None
    assert reader.select(metadata, file, Or(())) is None


def test_no_index_is_read_for_a_condition_that_it_does_not_answer():
    store, metadata, file = indexed(NUMBERS, {"x": ["inverted"]})
    store.delete(index_key(metadata.region_id, file.file_id, 1))

    assert IndexReader(store).select(metadata, file, Compare("y", "==", 1)) is None


def test_conditions_on_several_columns_are_intersected_and_united():
    both = {"x": ["inverted"], "y": ["inverted"]}
    in_x, in_y = Compare("x", "<", 1000), Compare("y", ">", 25)

    assert select(NUMBERS, both, And((in_x, in_y))) == RowRanges.nothing()
    assert select(NUMBERS, both, Or((in_x, in_y))) == RowRanges.of([0, 2048], [1024, 3000])
    assert select(NUMBERS, both, Not(And((in_x, in_y)))) == RowRanges.everything(3000)


def test_tags_may_be_answered_by_whoever_asks():
    def of_tags(predicate: Predicate) -> RowRanges | None:
        return RowRanges.of([7], [9]) if predicate == Compare("host", "==", "a") else None

    known, unknown = Compare("host", "==", "a"), Compare("host", "==", "b")
    in_x = Compare("x", ">=", 2048)
    kinds = {"x": ["inverted"]}

    assert select(NUMBERS, kinds, Or((known, in_x)), of_tags=of_tags) == RowRanges.of([7, 2048], [9, 3000])
    assert select(NUMBERS, kinds, Or((unknown, in_x)), of_tags=of_tags) is None
    assert select(NUMBERS, kinds, And((unknown, in_x)), of_tags=of_tags) == RowRanges.of([2048], [3000])


def test_a_condition_of_a_user_is_asked_of_each_distinct_value_once():
    asked: list[int] = []

    def is_even(rows: pa.RecordBatch) -> pa.BooleanArray:
        asked.append(rows.num_rows)
        return pa.array([None if value is None else value % 2 == 0 for value in rows.column("y").to_pylist()])

    selected = select(NUMBERS, {"y": ["inverted"]}, RowWise(frozenset({"y"}), is_even))

    assert selected == RowRanges.everything(3000)
    assert asked == [31]


class Strange(Exception):
    """Of a library that nobody here knows."""


@pytest.mark.parametrize("error", [Strange(), ValueError(), pa.ArrowInvalid()], ids=repr)
def test_a_condition_that_fails_of_a_value_is_left_to_whoever_applies_it(error):
    def fail(rows: pa.RecordBatch) -> pa.BooleanArray:
        raise error

    assert select(NUMBERS, {"y": ["inverted"]}, RowWise(frozenset({"y"}), fail)) is None
    assert select(NUMBERS, {"x": ["inverted"]}, Compare("x", "==", "text")) is None


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_an_index_answers_for_the_column_it_was_built_of_and_no_other(kind):
    columns = pa.RecordBatch.from_pydict(
        {"x": pa.array(["a"] * 3000, pa.large_string()), "z": pa.array([1] * 3000, pa.int32())}
    )
    store, metadata, file = indexed(columns, {"x": [kind], "z": ["inverted"]})
    reader, strange = IndexReader(store), Text("x", "matches", "b") if kind == "fulltext" else Compare("x", "==", "b")
    dropped = alter(metadata, DropColumns(("x",)))
    again = alter(alter(dropped, AddColumns((NewColumn("x", pa.large_string()),))), SetIndexes({"x": (kind,)}))
    wider = alter(alter(metadata, SetIndexes({"z": ()})), ModifyColumnTypes({"z": pa.float64()}))

    assert reader.select(metadata, file, strange) == RowRanges.nothing()
    assert reader.select(again, file, strange) is None
    assert reader.select(metadata, file, Compare("z", "==", 5)) == RowRanges.nothing()
    assert reader.select(wider, file, Compare("z", "==", 5.0)) is None
    assert reader.select(wider, file, strange) == RowRanges.nothing()


def test_texts_that_were_taken_apart_otherwise_are_not_asked():
    columns = pa.RecordBatch.from_pydict({"x": pa.array(["a"] * 3000, pa.large_string())})
    store, metadata, file = indexed(columns, {"x": ["fulltext"]})
    [entry] = file.index.entries
    older = replace(file, index=replace(file.index, entries=(replace(entry, terms="older"),)))

    assert IndexReader(store).select(metadata, older, Text("x", "matches", "b")) is None


# --- damage ----------------------------------------------------------------------------------------------

TEXTS = pa.RecordBatch.from_pydict(
    {"x": pa.array([row // 40 for row in range(1500)]), "t": pa.array([f"n{row // 500} on" for row in range(1500)])}
).cast(pa.schema({"x": pa.int64(), "t": pa.large_string()}))
QUESTIONS = [
    Compare("x", "==", 30),
    Compare("x", "!=", 3),
    IsNull("x"),
    Text("t", "matches", "N2"),
    IsIn("t", ("n1 on",)),
]
ALL = {"x": ["inverted", "skipping"], "t": list(INDEX_KINDS)}


class Changed:
    """A store whose one object is other bytes than were put."""

    def __init__(self, store: Any, key: str, data: bytes) -> None:
        self._store, self._key, self.data = store, key, data

    def head(self, key: str) -> Any:
        return replace(self._store.head(key), size_bytes=len(self.data))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        assert key == self._key
        return self.data[start : start + length]


@pytest.mark.filterwarnings("ignore::mitoframe.model.errors.DamageWarning")
@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_every_single_bit_that_flips_leaves_the_answer_or_no_answer(kind):
    question = Text("t", "matches", "N2") if kind == "fulltext" else Compare("t", "==", "n1 on")
    store, metadata, file = indexed(TEXTS.slice(0, 20), {"t": [kind]})
    key = index_key(metadata.region_id, file.file_id, 1)
    intact = store.get(key)
    expected = IndexReader(store).select(metadata, file, question)
    harmless = set()

    for at, bit in itertools.product(range(len(intact)), range(8)):
        data = bytearray(intact)
        data[at] ^= 1 << bit
        reader: Any = IndexReader(Changed(store, key, bytes(data)))  # type: ignore[arg-type]
        found = reader.select(metadata, file, question)
        assert found in (None, expected)
        assert reader.is_damaged(file) is (found is None)
        harmless |= {at} if found is not None else set()

    assert harmless <= set(range(8))  # The very beginning is never looked at.


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1])
def test_an_index_that_was_cut_off_is_ignored_with_one_warning(cut):
    store, metadata, file = indexed(TEXTS, ALL)
    key = index_key(metadata.region_id, file.file_id, 1)
    reader: Any = IndexReader(Changed(store, key, store.get(key)[:cut]))  # type: ignore[arg-type]

    with pytest.warns(
        DamageWarning, match=r"index cannot be used: it has [\d,]+ bytes where [\d,]+ were written"
    ) as told:
        assert [reader.select(metadata, file, question) for question in QUESTIONS] == [None] * len(QUESTIONS)

    assert len(told) == 1
    assert reader.is_damaged(file)


def test_a_missing_index_is_ignored_with_one_warning_until_it_is_built_anew():
    store, metadata, file = indexed(TEXTS, ALL)
    data = store.get(index_key(metadata.region_id, file.file_id, 1))
    store.delete(index_key(metadata.region_id, file.file_id, 1))
    reader = IndexReader(store)

    with pytest.warns(DamageWarning, match="it is missing") as told:
        assert reader.select(metadata, file, QUESTIONS[0]) is None
    assert reader.select(metadata, file, QUESTIONS[0]) is None
    assert len(told) == 1

    _, _, other = indexed(TEXTS, ALL)
    anew = replace(other, index=replace(file.index, version=2))
    assert not reader.is_damaged(anew)
    store.put_if_absent(index_key(metadata.region_id, file.file_id, 2), data)
    with pytest.warns(DamageWarning, match="it belongs to another file"):
        assert reader.select(metadata, anew, QUESTIONS[0]) is None


def test_an_index_of_a_newer_format_is_ignored_with_a_warning(monkeypatch):
    monkeypatch.setattr("mitoframe.storage.index_file.INDEX_FORMAT", 2)
    store, metadata, file = indexed(TEXTS, ALL)
    monkeypatch.setattr("mitoframe.storage.index_file.INDEX_FORMAT", 1)

    with pytest.warns(DamageWarning, match="it has format 2, newer than 1"):
        assert IndexReader(store).select(metadata, file, QUESTIONS[0]) is None


class Away(Changed):
    def head(self, key: str) -> Any:
        raise UnavailableError("no answer")


def test_storage_that_does_not_answer_is_asked_again_next_time():
    store, metadata, file = indexed(TEXTS, ALL)
    reader: Any = IndexReader(Away(store, "", b""))  # type: ignore[arg-type]

    assert reader.select(metadata, file, QUESTIONS[0]) is None
    assert not reader.is_damaged(file)


def test_what_was_read_once_is_kept():
    store, metadata, file = indexed(TEXTS, ALL)
    reader = IndexReader(store)
    first = [reader.select(metadata, file, question) for question in QUESTIONS]
    store.delete(index_key(metadata.region_id, file.file_id, 1))

    assert [reader.select(metadata, file, question) for question in QUESTIONS] == first
    reader.forget(file.file_id)
    with pytest.warns(DamageWarning, match="it is missing"):
        assert reader.select(metadata, file, QUESTIONS[0]) is None
