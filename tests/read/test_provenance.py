"""What is told of a row, against what was done to it."""

from __future__ import annotations

from builders import DELETE, REGION, Row
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import HOUR_MS, Remembered, carry_out, modes, steps
from truth import seen

from mitoframe.read.history import hold_everything, marks_of
from mitoframe.read.provenance import Key, KeyVersion, trace


def told(table: Remembered, time: int, host: str | None = "a") -> tuple[KeyVersion, ...]:
    control = table.engine.region(REGION).control
    current, held = hold_everything(control)
    found = trace(current, table.engine.reader, Key(tags=(host,), time=time), marks_of(control))
    assert held.state.files.keys() >= {copy.file.file_id for each in found for copy in each.copies if copy.file}
    return found


def fates(table: Remembered, time: int) -> list[tuple]:
    return [(each.sequence, each.fate, each.by_sequence or each.by_edit) for each in told(table, time)]


def put(time: int, cpu: int | None = 0, note: str | None = None) -> Row:
    return Row(0, time, ("a",), (cpu, note))


def gone(time: int) -> Row:
    return Row(0, time, ("a",), (None, None), DELETE)


@settings(deadline=None, max_examples=70)
@given(modes, steps, st.sampled_from([None, "a"]))
def test_what_is_told_to_be_visible_is_what_a_scan_shows(dedup, actions, host):
    table = Remembered(dedup, window_ms=HOUR_MS)
    carry_out(table, actions)
    shown = seen(table.rows, dedup)

    for time in {row.time for row in [*table.rows, *(row for rows in table.moments.values() for row in rows)]}:
        found = told(table, time, host)

        visible = [dict(each.values) for each in found if each.fate == "visible"]
        expected = [row.fields for row in shown if (row.time, row.tags) == (time, (host,))]
        assert len(visible) == len(expected)
        if dedup != "merge":
            assert sorted(map(repr, (tuple(row.values()) for row in visible))) == sorted(map(repr, expected))
        assert [each.sequence for each in found] == sorted((each.sequence for each in found), reverse=True)


def test_every_version_is_told_wherever_it_lies():
    table = Remembered()
    table.write([put(1, 1)])
    table.write([put(1, 2), put(9)])
    table.flush()
    table.write([put(1, 3)])

    newest, second, first = told(table, 1)

    assert [copy.file for copy in newest.copies] == [None]
    [copy] = second.copies
    assert (copy.file.level, copy.row_group, copy.row, copy.removed) == (0, 0, 0, None)
    [copy] = first.copies
    assert (copy.file.level, copy.removed.removed_version) == (-1, 1)
    assert [each.values["cpu"] for each in (newest, second, first)] == [3, 2, 1]
    assert [each.written_ms for each in (newest, second, first)] == [1_000_003, 1_000_001, 1_000_000]


def test_what_took_the_place_of_a_version_is_named():
    table = Remembered()
    table.write([put(1, 1)])
    table.write([put(1, 2)])
    table.flush()
    table.write([gone(1)])
    table.flush()
    table.write([put(1, 4)])

    assert fates(table, 1) == [
        (4, "visible", None),
        (3, "shadowed", 4),
        (2, "deleted", 3),
        (1, "shadowed", 2),
    ]


def test_a_row_that_is_deleted_is_told_to_be():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.write([gone(1)])
    table.flush()
    assert fates(table, 1) == [(2, "delete marker", None), (1, "deleted", 2)]

    table.compact()

    assert fates(table, 1) == [(2, "removed", (table.state.version, "compact")), (1, "deleted", 2)]


def test_a_row_that_was_truncated_was_not_shadowed_by_what_came_afterwards():
    table = Remembered()
    table.write([put(1, 1)])
    table.truncate()
    version = table.state.version
    table.write([put(1, 2)])

    assert fates(table, 1) == [(2, "visible", None), (1, "removed", (version, "truncate"))]


def test_a_row_that_was_brought_back_is_visible_again():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    before = table.state.version
    table.write([put(1, 2)])
    table.restore(before)

    assert fates(table, 1) == [(2, "removed", (table.state.version, "restore")), (1, "visible", None)]


def test_of_a_merged_row_the_versions_say_into_which_they_went():
    table = Remembered("merge")
    table.write([put(1, 1, "x")])
    table.flush()
    table.write([put(1, None, "y")])
    table.flush()
    assert fates(table, 1) == [(2, "visible", None), (1, "merged", 2)]

    table.compact()

    newest, older = told(table, 1)
    assert (dict(newest.values), dict(older.values)) == ({"cpu": 1, "note": "y"}, {"cpu": 1, "note": "x"})


def test_where_every_row_is_kept_every_row_is_visible():
    table = Remembered("none")
    table.write([put(1, 1), put(1, 1)])
    table.flush()
    table.write([put(1, 1)])

    assert fates(table, 1) == [(3, "visible", None), (2, "visible", None), (1, "visible", None)]


def test_of_what_is_gone_nothing_is_told():
    table = Remembered(gc_grace_ms=0)
    table.write([put(1, 1)])
    table.flush()
    table.write([put(1, 2)])
    table.flush()
    table.compact()
    table.vacuum()

    assert fates(table, 1) == [(2, "visible", None)]
    assert fates(table, 7) == []
