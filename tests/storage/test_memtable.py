from __future__ import annotations

import pytest
from builders import Row, batch_of, delete, metadata_of, newest, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.ids import EntryId, Sequence
from mitoframe.storage.memtable import Memtable, MemtableStats

METADATA = metadata_of()
INT64 = st.integers(-(2**63), 2**63 - 1)

unnumbered = st.tuples(st.booleans(), st.integers(-3, 3), st.sampled_from([None, "a", "b"]), INT64)
writes = st.lists(st.lists(unnumbered, min_size=1, max_size=5), max_size=6)


def numbered(drawn) -> list[list[Row]]:
    """Give rows rising sequences, with a gap between batches."""
    batches, sequence = [], 0
    for batch in drawn:
        rows = []
        for is_put, time, host, cpu in batch:
            sequence += 1
            rows.append(put(sequence, time, host, cpu) if is_put else delete(sequence, time, host))
        batches.append(rows)
        sequence += 3
    return batches


def filled(batches: list[list[Row]]) -> Memtable:
    memtable = Memtable(1)
    for number, rows in enumerate(batches, start=1):
        memtable.insert(batch_of(METADATA, rows), EntryId(number))
    return memtable


@settings(deadline=None)
@given(writes, st.integers(0, 60))
def test_a_snapshot_holds_exactly_what_is_visible(drawn, visible):
    batches = numbered(drawn)

    found = filled(batches).snapshot(Sequence(visible))

    wanted = [row for rows in batches for row in rows if row.sequence <= visible]
    assert [row for batch in found for row in rows_of(batch)] == wanted


@settings(deadline=None)
@given(writes, st.integers(0, 60))
def test_the_sorted_form_is_the_newest_visible_row_of_each_key(drawn, visible):
    batches = numbered(drawn)

    found = filled(batches).sorted(Sequence(visible))

    wanted = newest(row for rows in batches for row in rows if row.sequence <= visible)
    assert (rows_of(found) if found is not None else []) == wanted


@settings(deadline=None)
@given(writes, st.lists(st.integers(0, 60), max_size=8))
def test_the_sorted_form_stays_right_while_rows_come_and_readers_look_back(drawn, looks):
    memtable, known = Memtable(1), []
    batches = numbered(drawn)

    for number, rows in enumerate(batches, start=1):
        memtable.insert(batch_of(METADATA, rows), EntryId(number))
        known += rows
        for visible in [rows[-1].sequence, *looks]:
            found = memtable.sorted(Sequence(visible))
            wanted = newest(row for row in known if row.sequence <= visible)
            assert (rows_of(found) if found is not None else []) == wanted


def test_the_sorted_form_is_made_once_for_readers_of_the_same_rows():
    memtable = filled([[put(1, 5), put(2, 3)]])

    assert memtable.sorted(Sequence(2)) is memtable.sorted(Sequence(9))
    assert memtable.sorted(Sequence(1)) is not memtable.sorted(Sequence(2))


@settings(deadline=None)
@given(writes)
def test_statistics_are_those_of_all_rows(drawn):
    batches = numbered(drawn)
    rows = [row for batch in batches for row in batch]

    memtable = filled(batches)

    stats = memtable.stats
    assert stats.row_count == len(rows)
    assert stats.delete_count == sum(row.op_type == 0 for row in rows)
    assert stats.min_time == min((row.time for row in rows), default=None)
    assert stats.max_time == max((row.time for row in rows), default=None)
    assert stats.min_sequence == min((row.sequence for row in rows), default=0)
    assert stats.max_sequence == max((row.sequence for row in rows), default=0)
    assert stats.size_bytes == sum(batch_of(METADATA, batch).size_bytes for batch in batches)
    assert memtable.last_entry_id == len(batches)
    assert memtable.is_empty() == (not rows)


def test_an_empty_memtable_has_nothing_to_show():
    memtable = Memtable(7)

    assert memtable.stats == MemtableStats()
    assert memtable.snapshot(Sequence(5)) == ()
    assert memtable.sorted(Sequence(5)) is None


def test_rows_that_are_not_newer_than_all_that_are_here_are_a_programmers_mistake():
    memtable = filled([[put(1, 1), put(2, 2)]])

    with pytest.raises(AssertionError):
        memtable.insert(batch_of(METADATA, [put(2, 9)]), EntryId(2))
    with pytest.raises(AssertionError):
        memtable.insert(batch_of(METADATA, []), EntryId(2))
