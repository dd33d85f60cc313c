"""Taking a write back, against the list of all rows without those of that write."""

from __future__ import annotations

import pytest
from builders import DELETE, REGION, Row, batch_of
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import METADATA, Tracked, seen, values

from mitoframe.jobs.undo import compensation, files_of_nothing_else
from mitoframe.model.errors import SnapshotExpiredError
from mitoframe.model.ids import Sequence
from mitoframe.model.options import Dedup
from mitoframe.model.request import AlterRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange

HOUR_MS = 3_600_000
times = st.integers(0, 3) | st.integers(0, 2).map(lambda n: HOUR_MS - 1 + n)
hosts = st.sampled_from([None, "a"])
fields = st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from(["", "x"]))
puts = st.builds(lambda time, host, values: Row(0, time, (host,), values), times, hosts, fields)
deletes = st.builds(lambda time, host: Row(0, time, (host,), (None, None), DELETE), times, hosts)
modes = st.sampled_from(["last", "merge", "none"])
upkeep = st.sampled_from(["flush", "flush", "compact", "reopen"])
steps = st.lists(
    st.tuples(st.just("write"), st.lists(puts, min_size=1, max_size=4))
    | st.tuples(st.just("write"), st.lists(deletes, min_size=1, max_size=3))
    | upkeep.map(lambda name: (name, [])),
    min_size=1,
    max_size=12,
)


def put(time: int, cpu: int | None = 0, note: str | None = None, host: str | None = "a") -> Row:
    return Row(0, time, (host,), (cpu, note))


def gone(time: int, host: str | None = "a") -> Row:
    return Row(0, time, (host,), (None, None), DELETE)


def carry_out(table: Tracked, actions) -> list:
    """Do what was drawn, and return what was written."""
    results = []
    for name, rows in actions:
        if name != "write":
            getattr(table, name)()
        elif table.dedup != "none" or rows[0].op_type is not DELETE:
            results.append(table.write(rows))
    return results


@settings(deadline=None, max_examples=70)
@given(modes, steps, st.data(), st.lists(upkeep, max_size=3))
def test_the_table_reads_as_if_the_write_had_never_been(dedup, actions, data, later):
    table = Tracked(dedup, window_ms=HOUR_MS)
    results = carry_out(table, actions)
    if not results:
        return

    table.undo(data.draw(st.sampled_from(results)))

    assert table.found() == table.expected()
    for name in later:
        getattr(table, name)()
        assert table.found() == table.expected(), name


@settings(deadline=None, max_examples=80)
@given(modes, steps, st.data(), steps)
def test_writes_go_on_as_if_it_had_never_been(dedup, actions, data, later):
    table = Tracked(dedup, window_ms=HOUR_MS)
    results = carry_out(table, actions)
    if not results:
        return

    table.undo(data.draw(st.sampled_from(results)))
    carry_out(table, later)

    assert table.found() == table.expected()


@settings(deadline=None, max_examples=80)
@given(modes, st.lists(st.lists(puts, min_size=1, max_size=5), min_size=1, max_size=3), steps, st.lists(upkeep))
def test_a_backfill_is_taken_back_like_any_write(dedup, batches, before, later):
    table = Tracked(dedup, window_ms=HOUR_MS)
    carry_out(table, before)
    table.flush()
    written = table.backfill(*batches)
    for name in later:
        getattr(table, name)()

    table.undo(written)

    assert table.found() == table.expected()


@settings(deadline=None, max_examples=80)
@given(modes, steps, st.data())
def test_a_write_that_was_taken_back_is_not_there_to_be_taken_back_again(dedup, actions, data):
    table = Tracked(dedup, window_ms=HOUR_MS)
    results = carry_out(table, actions)
    if not results:
        return
    written = data.draw(st.sampled_from(results))
    table.undo(written)
    before = table.found()

    try:
        table.undo(written)
    except SnapshotExpiredError:
        assert table.engine.region(REGION).state.history_floor >= written.first_sequence

    assert table.found() == before


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["last", "merge"]), steps, st.data())
def test_files_of_nothing_else_lose_nothing_else(dedup, actions, data):
    table = Tracked(dedup, window_ms=HOUR_MS)
    results = carry_out(table, actions)
    if not results:
        return
    written = data.draw(st.sampled_from(results))
    first, last = written.first_sequence, Sequence(written.first_sequence + written.row_count - 1)

    files = files_of_nothing_else(table.engine.region(REGION).control.current(), first, last)

    if files:
        assert all(first <= file.min_sequence and file.max_sequence <= last for file in files)
        others = [row for row in table.rows if not first <= row.sequence <= last]
        batch, _ = compensation(table.engine.region(REGION).control.current(), table.engine.reader, first, last)
        if batch is not None:
            table.engine.write(REGION, batch)
        assert table.found() == values(seen(others, dedup))


# --- one by one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushes", [(), (1,), (2,), (1, 2)], ids=str)
@pytest.mark.parametrize(("dedup", "left"), [("last", (5, "x")), ("merge", (5, "x")), ("none", (5, "x"))])
def test_the_row_that_was_replaced_is_back(dedup: Dedup, left, flushes):
    table = Tracked(dedup)
    for number, row in [(1, put(1, 5, "x")), (2, put(1, None, "y"))]:
        written = table.write([row])
        if number in flushes:
            table.flush()

    assert table.undo(written) == 1

    assert table.found() == [("a", 1, *left)]


def test_a_row_that_was_written_over_since_stays_as_it_is():
    table = Tracked("last")
    first = table.write([put(1, 5), put(2, 6)])
    table.write([put(1, 7)])

    assert table.undo(first) == 1

    assert table.found() == [("a", 1, 7, None)]


@pytest.mark.parametrize("then", [(), ("flush",), ("flush", "compact"), ("flush", "reopen")], ids=str)
def test_a_merged_row_loses_what_the_write_had_filled_in(then):
    table = Tracked("merge")
    first = table.write([put(1, 5, "x"), put(2, 6)])
    table.flush()
    table.write([put(1, 7, None)])
    for name in then:
        getattr(table, name)()

    table.undo(first)

    assert table.found() == [("a", 1, 7, None)]


def test_a_delete_is_taken_back_where_nothing_was_written_since():
    table = Tracked("last")
    table.write([put(1, 5), put(2, 6)])
    deleted = table.write([gone(1), gone(2)])
    table.write([put(2, 7)])

    assert table.undo(deleted) == 1

    assert table.found() == [("a", 1, 5, None), ("a", 2, 7, None)]


def test_where_every_row_is_kept_only_those_of_the_write_go():
    table = Tracked("none")
    table.write([put(1, 5)])
    written = table.write([put(1, 5), put(1, 5), put(2, 6)])

    assert table.undo(written) == 3

    assert table.found() == [("a", 1, 5, None)]


def test_files_that_hold_nothing_else_are_given_up_whole():
    table = Tracked("last")
    table.write([put(1, 5)])
    table.flush()
    [kept] = table.files
    written = table.backfill([put(1, 6), put(2, 6)])

    assert table.undo(written) == 2

    assert table.files == [kept]
    assert table.found() == [("a", 1, 5, None)]


@pytest.mark.parametrize("dedup", ["last", "merge"])
def test_files_are_not_given_up_when_what_they_replaced_is_in_none(dedup: Dedup):
    """The older version was overwritten in the same memtable: only the history has it."""
    table = Tracked(dedup)
    table.write([put(1, 5)])
    written = table.write([put(1, 6)])
    table.flush()
    assert (
        files_of_nothing_else(
            table.engine.region(REGION).control.current(), written.first_sequence, written.first_sequence
        )
        == ()
    )

    table.undo(written)

    assert table.found() == [("a", 1, 5, None)]


@pytest.mark.parametrize("dedup", ["last", "merge", "none"])
def test_what_is_not_kept_any_more_cannot_be_brought_back(dedup: Dedup):
    table = Tracked(dedup, gc_grace_ms=1000)
    table.write([put(1, 5)])
    table.flush()
    written = table.write([put(1, 6)])
    table.flush()
    table.compact()
    table.clock.advance(1000)
    table.engine.vacuum(REGION)
    before = table.found()

    with pytest.raises(SnapshotExpiredError, match="gc_grace_ms"):
        table.undo(written)

    assert table.found() == before


def test_with_no_grace_what_a_flush_dropped_is_not_made_up():
    table = Tracked("last", gc_grace_ms=0)
    table.write([put(1, 5)])
    written = table.write([put(1, 6)])
    table.flush()

    with pytest.raises(SnapshotExpiredError):
        table.undo(written)

    assert table.found() == [("a", 1, 6, None)]


@pytest.mark.parametrize("dedup", ["last", "merge"])
@pytest.mark.parametrize("change", ["truncate", "truncate a range", "replace"])
def test_after_rows_went_without_being_overwritten_nothing_older_is_taken_back(dedup: Dedup, change: str):
    table = Tracked(dedup)
    written = table.write([put(1, 5), put(HOUR_MS, 5)])
    table.flush()
    engine = table.engine
    match change:
        case "truncate":
            engine.truncate(REGION, TruncateRequest())
        case "truncate a range":
            engine.truncate(REGION, TruncateRequest(what="time_ranges", time_ranges=(TimeRange(0, 10),)))
        case "replace":
            engine.replace(REGION, [TimeRange(0, 10)], [batch_of(METADATA, [put(1, 6)])])
    before = table.found()

    with pytest.raises(SnapshotExpiredError, match="truncated or exchanged"):
        table.undo(written)

    assert table.found() == before


def test_what_is_written_after_that_is_taken_back_as_ever():
    table = Tracked("last")
    table.write([put(1, 5)])
    table.engine.truncate(REGION, TruncateRequest())
    table.rows.clear()
    table.write([put(1, 6)])
    written = table.write([put(1, 7)])

    table.undo(written)

    assert table.found() == [("a", 1, 6, None)]


# --- one after the other ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dedup", ["last", "merge"])
def test_a_write_below_files_that_were_taken_back_is_taken_back_too(dedup: Dedup):
    table = Tracked(dedup)
    written = table.write([put(1, 5), put(2, 5)])
    table.flush()

    table.undo(table.backfill([put(1, 6)]))
    assert table.found() == [("a", 1, 5, None), ("a", 2, 5, None)]

    table.undo(written)
    assert table.found() == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["oldest first", "newest first"])
@pytest.mark.parametrize("dedup", ["last", "merge"])
def test_two_writes_that_were_taken_back_are_as_if_neither_had_been(dedup: Dedup, order: tuple[int, int]):
    table = Tracked(dedup)
    table.write([put(1, 4)])
    written = [table.write([put(1, 5), put(2, 5)]), table.write([put(1, 6), put(2, 6)])]

    for number in order:
        table.undo(written[number])

    assert table.found() == [("a", 1, 4, None)]


def test_where_every_row_is_kept_one_write_after_the_other_is_taken_back():
    table = Tracked("none")
    written = [table.write([put(1, cpu)]) for cpu in (4, 5, 6)]

    for each in reversed(written):
        table.undo(each)

    assert table.found() == []


def test_what_was_overwritten_before_every_row_was_kept_is_not_lost_silently():
    table = Tracked("last")
    table.write([put(1, 5)])
    written = table.write([put(1, 6)])
    table.engine.alter(REGION, AlterRequest(options={"dedup": "none"}))

    with pytest.raises(SnapshotExpiredError):
        table.undo(written)
