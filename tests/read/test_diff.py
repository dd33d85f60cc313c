"""Changes between two moments, against both of them compared by hand."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, create, metadata_of, open_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import HOUR_MS, Remembered, carry_out, modes, steps
from truth import EPOCH, MILLISECOND, seen

from mitoframe.model.alter import AddColumns, NewColumn
from mitoframe.model.ids import Sequence
from mitoframe.model.request import AlterRequest
from mitoframe.model.timerange import EVERYTHING, TimeRange
from mitoframe.read.diff import CHANGE_COLUMN, Moments, changes, differing_times
from mitoframe.read.history import moment_of_sequence, moment_of_version, travel


def between(table: Remembered, first: int, last: int | None = None) -> Moments:
    """Take two versions of a table, or one and what there is now."""
    control = table.engine.region(REGION).control

    def at(version: int) -> Any:
        return travel(control, moment_of_version(control.current(), version))

    return Moments(before=at(first), after=control.current() if last is None else at(last))


def found(
    table: Remembered, moments: Moments, columns: list[str] | None = None, within: TimeRange = EVERYTHING
) -> list[tuple[Any, ...]]:
    """Return what changed, as tuples, in the order it came."""
    names = columns or [*moments.metadata.names, CHANGE_COLUMN]
    rows: list[tuple[Any, ...]] = []
    for batch in changes(moments, table.engine.reading.sorted_batches, names, within):
        assert batch.schema.names == names
        columns_ = [column.to_pylist() for column in batch.columns]
        if "ts" in names:
            columns_[names.index("ts")] = [(ts - EPOCH) // MILLISECOND for ts in columns_[names.index("ts")]]
        rows += list(zip(*columns_, strict=True))
    return rows


def by_hand(table: Remembered, before: list[Row], after: list[Row]) -> Counter:
    """Compare all rows of two moments."""
    old, new = seen(before, table.dedup), seen(after, table.dedup)
    if table.dedup == "none":
        gone, came = {row.sequence for row in old}, {row.sequence for row in new}
        lost = [(*shown(row), "delete") for row in old if row.sequence not in came]
        return Counter([*lost, *((*shown(row), "insert") for row in new if row.sequence not in gone)])
    was, now = {row.key: row for row in old}, {row.key: row for row in new}
    rows = [(*shown(was[key]), "delete") for key in was.keys() - now.keys()]
    rows += [(*shown(now[key]), "insert") for key in now.keys() - was.keys()]
    for key in was.keys() & now.keys():
        if was[key].fields != now[key].fields:
            rows += [(*shown(was[key]), "update_before"), (*shown(now[key]), "update_after")]
    return Counter(rows)


def shown(row: Row) -> tuple[Any, ...]:
    return *row.tags, row.time, *row.fields


@settings(deadline=None, max_examples=100)
@given(modes, steps, st.data())
def test_changes_are_those_that_are_found_by_comparing_all_rows(dedup, actions, data):
    table = Remembered(dedup, window_ms=HOUR_MS)
    carry_out(table, actions)
    versions = st.sampled_from(list(table.versions))
    first, last = data.draw(versions), data.draw(st.none() | versions)
    after = table.rows if last is None else table.versions[last]

    rows = found(table, between(table, first, last))

    assert Counter(rows) == by_hand(table, table.versions[first], after)


def put(time: int, cpu: int | None = 0, host: str | None = "a") -> Row:
    return Row(0, time, (host,), (cpu, None))


def test_an_update_is_two_rows_that_follow_each_other():
    table = Remembered()
    table.write([put(1, 1), put(2, 2), put(3, 3)])
    table.flush()
    version = table.state.version
    table.write([put(1, 5), put(2, 2), put(4, 4)])
    table.write([Row(0, 3, ("a",), (None, None), 0)])

    rows = found(table, between(table, version), ["ts", "cpu", CHANGE_COLUMN])

    assert rows == [
        (1, 1, "update_before"),
        (1, 5, "update_after"),
        (3, 3, "delete"),
        (4, 4, "insert"),
    ]


def test_a_merged_row_that_lost_what_an_older_version_filled_in_is_an_update():
    table = Remembered("merge")
    first = table.write([Row(0, 1, ("a",), (1, "x"))])
    table.flush()
    table.write([Row(0, 1, ("a",), (5, None))])
    table.flush()
    version = table.state.version
    table.undo(first)
    assert table.state.past.entries[-1].what == "undo"  # The file went; nothing was written on top.

    rows = found(table, between(table, version), ["cpu", "note", CHANGE_COLUMN])

    assert rows == [(5, "x", "update_before"), (5, None, "update_after")]


def test_two_moments_that_have_the_same_files_differ_in_what_they_see_of_them():
    table = Remembered()
    table.write([put(1, 1), put(2, 2)])
    table.write([put(3, 3)])
    table.flush()
    control = table.engine.region(REGION).control
    before, after = (travel(control, moment_of_sequence(control.current(), Sequence(sequence))) for sequence in (1, 3))

    rows = found(table, Moments(before=before, after=after), ["ts", CHANGE_COLUMN])

    assert before.version.state.files.keys() == after.version.state.files.keys()
    assert rows == [(2, "insert"), (3, "insert")]


def test_a_compaction_between_two_moments_is_no_change():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.write([put(1, 2)])
    table.flush()
    version = table.state.version
    table.compact()

    assert differing_times(between(table, version)) == []


def test_what_a_compaction_moved_is_compared_without_its_values():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.write([put(1, 2)])
    table.flush()
    version = table.state.version
    table.write([put(9, 9)])
    table.compact()
    moments = between(table, version)
    asked = []

    def rows_of(plan, columns):
        asked.append((plan.time_range.start, *columns))
        return table.engine.reading.sorted_batches(plan, columns)

    [batch] = changes(moments, rows_of, ["ts"])

    assert differing_times(moments) == [TimeRange(1, 2), TimeRange(9, 10)]
    assert len(batch) == 1
    assert {columns for start, *columns_ in asked if start == 1 for columns in columns_} == {"__sequence"}


def test_files_that_both_moments_have_are_not_looked_at():
    table = Remembered(window_ms=HOUR_MS)
    table.write([put(hour * HOUR_MS) for hour in range(5)])
    table.flush()
    table.write([put(9 * HOUR_MS)])
    table.flush()
    version = table.state.version
    table.write([put(7 * HOUR_MS)])
    table.flush()
    read = []

    def rows_of(plan, columns):
        read.extend([*plan.direct, *(file for group in plan.groups for file in group.files)])
        return table.engine.reading.sorted_batches(plan, columns)

    list(changes(between(table, version), rows_of, ["ts", CHANGE_COLUMN]))

    assert {file.min_time for file in read} == {7 * HOUR_MS}


def test_only_times_that_are_asked_for_are_compared():
    table = Remembered()
    version = table.state.version
    table.write([put(1), put(2), put(3)])
    table.flush()

    assert found(table, between(table, version), ["ts"], TimeRange(2, 3)) == [(2,)]


def test_moments_of_two_schemas_are_compared_in_the_newer():
    table = Remembered()
    table.write([put(1, 1), put(2, 2)])
    table.flush()
    version = table.state.version
    column = NewColumn(name="load", type=pa.float64(), default=0.5)
    table.engine.alter(REGION, AlterRequest(alterations=(AddColumns(columns=(column,)),)))

    assert found(table, between(table, version)) == []
    backwards = between(table, version)
    assert found(table, Moments(before=backwards.after, after=backwards.before)) == []


@pytest.mark.parametrize(
    ("data_type", "value", "other"),
    [
        (pa.float64(), math.nan, 1.0),
        (pa.list_(pa.int64()), [1, None], [1]),
        (pa.large_string(), "", None),
        (pa.bool_(), True, False),
        (pa.decimal128(5, 2), None, 1),
    ],
    ids=str,
)
def test_a_row_that_is_written_again_as_it_was_is_no_change(data_type, value, other):
    metadata = metadata_of(fields={"value": data_type})
    engine = open_engine()
    create(engine, metadata)
    engine.write(REGION, batch_of(metadata, [Row(0, 1, ("a",), (value,)), Row(0, 2, ("a",), (value,))]))
    engine.flush(REGION)
    control = engine.region(REGION).control
    before = travel(control, moment_of_version(control.current(), 1))
    engine.write(REGION, batch_of(metadata, [Row(0, 1, ("a",), (value,)), Row(0, 2, ("a",), (other,))]))

    [batch] = changes(Moments(before=before, after=control.current()), engine.reading.sorted_batches, ["ts"])

    assert [(ts - EPOCH) // MILLISECOND for ts in batch.column("ts").to_pylist()] == [2, 2]
