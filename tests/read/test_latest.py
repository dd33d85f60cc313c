from __future__ import annotations

from collections.abc import Iterable

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from builders import Row, batch_of, metadata_of, rows_of
from hypothesis import given, settings

from mitoframe.model.batch import Batch
from mitoframe.read import latest as module
from mitoframe.read.latest import last_rows, latest
from mitoframe.storage.runs import sort_rows_of

METADATA = metadata_of({"host": pa.string(), "rack": pa.int64()}, {"x": pa.int64()})
TAGS = ["host", "rack"]

tuples = st.tuples(st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, -1, 2]))
drawn_rows = st.lists(st.tuples(st.integers(-5, 5), tuples), max_size=50)


def numbered(keys: list[tuple[int, tuple[str | None, int | None]]]) -> list[Row]:
    return [Row(number, time, tags, (number,)) for number, (time, tags) in enumerate(keys, start=1)]


def sorted_batch(rows: list[Row]) -> Batch:
    return sort_rows_of([batch_of(METADATA, rows)], "none").gather()


def in_order(row: Row) -> tuple[object, ...]:
    return row.time, [(value is not None, value) for value in row.tags], row.sequence


def brute_force(rows: Iterable[Row], by: list[str], count: int) -> list[Row]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in sorted(rows, key=in_order):
        group = tuple((value is not None, value) for value in (row.tags[TAGS.index(name)] for name in by))
        groups.setdefault(group, []).append(row)
    return [row for group in sorted(groups) for row in groups[group][-count:]]


@pytest.mark.parametrize("by", [["host", "rack"], ["rack", "host"], ["rack"], []], ids=str)
@given(drawn_rows, st.lists(st.integers(0, 3), min_size=50, max_size=50), st.integers(1, 4), st.sampled_from([0, 99]))
@settings(deadline=None, max_examples=80)
def test_the_last_rows_of_each_group_are_found(by, keys, places, count, rows_apart_max):
    rows = numbered(keys)
    parts = [[row for row, place in zip(rows, places, strict=False) if place == part] for part in range(4)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_APART_MAX", rows_apart_max)
        found = latest([sorted_batch(part) for part in parts if part], METADATA, by=by, count=count)

    assert ([] if found is None else rows_of(found)) == brute_force(rows, by, count)


@given(drawn_rows.filter(bool), st.integers(1, 4))
@settings(deadline=None, max_examples=80)
def test_a_batch_is_cut_down_to_a_sorted_one_that_may_be_asked_again(keys, count):
    batch = sorted_batch(numbered(keys))

    cut = last_rows(batch, count)

    kept = brute_force(rows_of(batch), TAGS, count)
    assert rows_of(cut) == [row for row in rows_of(batch) if row in kept]
    assert cut.series is batch.series
    assert rows_of(last_rows(cut, 1)) == rows_of(last_rows(batch, 1))


def test_a_batch_without_rows_says_nothing():
    empty = sorted_batch(numbered([(1, ("a", 1))])).slice(0, 0)

    assert latest([empty], METADATA, by=TAGS) is None


def test_a_table_without_tags_is_one_series():
    metadata = metadata_of({}, {"x": pa.int64()})
    batches = [batch_of(metadata, [Row(time, time, (), (time,))]) for time in (3, 9, 5)]

    found = latest(batches, metadata, by=[], count=2)

    assert [row.time for row in rows_of(found)] == [5, 9]
