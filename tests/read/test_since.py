"""Rows that came after a sequence, against all rows with theirs."""

from __future__ import annotations

import pytest
from builders import DELETE, REGION, Row
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import HOUR_MS, Remembered, carry_out, modes, steps
from truth import seen, values

from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import Compare
from mitoframe.model.request import ScanRequest


def put(time: int, cpu: int | None = 0, note: str | None = None) -> Row:
    return Row(0, time, ("a",), (cpu, note))


only_rows = steps.filter(lambda actions: not {"undo", "restore"} & {action[0] for action in actions})


@settings(deadline=None, max_examples=70)
@given(modes, only_rows, st.data())
def test_of_the_rows_that_are_seen_those_are_found_that_came_later(dedup, actions, data):
    table = Remembered(dedup, window_ms=HOUR_MS)
    carry_out(table, actions)
    after = data.draw(st.integers(0, table.visible))

    found = table.found(min_sequence=Sequence(after))

    assert found == values(row for row in seen(table.rows, dedup) if row.sequence > after)


def test_files_without_a_later_row_are_not_read():
    table = Remembered(window_ms=HOUR_MS)
    for hour in range(4):
        table.write([put(hour * HOUR_MS)])
        table.flush()

    plan = table.engine.plan(REGION, ScanRequest(min_sequence=Sequence(3)))

    assert [file.min_sequence for file in plan.direct] == [4]
    assert not plan.groups
    assert len(plan.pruned) == 3


def test_a_file_with_older_rows_too_is_not_handed_over_as_it_is():
    table = Remembered()
    table.write([put(1), put(2)])
    table.flush()

    plan = table.engine.plan(REGION, ScanRequest(min_sequence=Sequence(1)))

    assert not plan.direct
    assert table.found(min_sequence=Sequence(1)) == [("a", 2, 0, None)]


def test_a_row_that_came_later_has_what_older_ones_fill_in():
    table = Remembered("merge")
    table.write([put(1, 1, "x")])
    table.flush()
    table.write([put(1, None, "y")])

    assert table.found(min_sequence=Sequence(1)) == [("a", 1, 1, "y")]


def test_a_delete_is_no_row():
    table = Remembered()
    table.write([put(1), put(2)])
    table.write([Row(0, 1, ("a",), (None, None), DELETE)])

    assert table.found(min_sequence=Sequence(1)) == [("a", 2, 0, None)]
    assert table.found(min_sequence=Sequence(2)) == []


@pytest.mark.parametrize("flushed", [False, True])
def test_a_sequence_and_another_condition_go_together(flushed):
    table = Remembered()
    table.write([put(1, 1), put(2, 2), put(3, 3)])
    if flushed:
        table.flush()

    found = table.found(min_sequence=Sequence(1), predicate=Compare("cpu", "<", 3), columns=("ts", "__sequence"))

    assert found == [(2, 2)]


def test_rows_between_two_sequences_are_those_of_the_one_moment_that_came_after_the_other():
    table = Remembered()
    for cpu in range(1, 5):
        table.write([put(1, cpu), put(cpu + 1, cpu)])

    found = table.found(min_sequence=Sequence(2), sequence=Sequence(6), columns=("ts", "cpu"))

    assert found == [(1, 3), (3, 2), (4, 3)]
