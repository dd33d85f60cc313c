from __future__ import annotations

from collections.abc import Iterable

import pytest
from builders import (
    DELETE,
    REGION,
    Row,
    batch_of,
    create,
    delete,
    file_id_of,
    metadata_of,
    newest,
    open_engine,
    put,
    read,
    rows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import Tracked

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.compact import compact_task
from mitoframe.jobs.twcs import CompactionTask
from mitoframe.model.errors import CorruptionError
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.model.ids import FileId
from mitoframe.model.options import Dedup
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of()
COLUMNS = ("host", "ts", "cpu", "__sequence")

keys = st.tuples(st.integers(0, 4), st.sampled_from([None, "a", "b"]))


@st.composite
def files_of_rows(draw: st.DrawFn) -> list[list[Row]]:
    drawn = draw(st.lists(st.lists(st.tuples(keys, st.booleans()), min_size=1, max_size=6), min_size=2, max_size=4))
    numbers = iter(draw(st.permutations(range(1, 1 + sum(map(len, drawn))))))
    return [
        [put(next(numbers), *key, 7) if is_put else delete(next(numbers), *key) for key, is_put in part]
        for part in drawn
    ]


def store_file(store: MemoryObjectStore, name: str, rows: list[Row]) -> FileMeta:
    batch = sort_batches([batch_of(METADATA, rows)])
    return write_sst(store, METADATA, batch, file_id=file_id_of(name), level=0, row_group_rows=2, created_ms=0)


def compact(store: MemoryObjectStore, inputs: Iterable[FileMeta], *, drop_deletes: bool, dedup: Dedup = "last"):
    return compact_task(
        METADATA,
        CompactionTask(window_start=0, inputs=tuple(inputs), drop_deletes=drop_deletes),
        dedup=dedup,
        store=store,
        reader=SstReader(store),
        new_file_id=lambda: FileId(SeededRandomness(3).hex128()),
        row_group_rows=3,
        now_ms=9000,
    )


@settings(deadline=None, max_examples=60)
@given(files_of_rows(), st.booleans())
def test_the_merged_file_holds_the_newest_row_of_each_key_with_its_own_sequence(parts, drop_deletes):
    store = MemoryObjectStore()
    inputs = [store_file(store, "abcd"[n], rows) for n, rows in enumerate(parts)]

    added = compact(store, inputs, drop_deletes=drop_deletes)

    wanted = newest((row for rows in parts for row in rows), drop_deletes=drop_deletes)
    found = [
        row
        for file in added
        for row in rows_of(SstReader(store).read(METADATA, file, range(file.row_group_count), ["cpu"]))
    ]
    assert found == wanted
    assert len(added) == (1 if wanted else 0)


def test_an_output_says_when_it_was_made_and_that_it_was_merged():
    store = MemoryObjectStore()
    inputs = [store_file(store, "a", [put(1, 1)]), store_file(store, "b", [put(2, 1)])]

    [added] = compact(store, inputs, drop_deletes=True)

    assert (added.created_ms, added.level, added.row_group_count) == (9000, LEVEL_COMPACTED, 1)


def test_the_inputs_stay_as_they_are():
    store = MemoryObjectStore()
    inputs = [store_file(store, "a", [put(1, 1)]), store_file(store, "b", [put(2, 1)])]
    before = {name: store.get(sst_key(REGION, file_id_of(name))) for name in "ab"}

    compact(store, inputs, drop_deletes=True)

    assert {name: store.get(sst_key(REGION, file_id_of(name))) for name in "ab"} == before
    assert len(store.list(sst_folder(REGION))) == 3


def test_an_input_that_cannot_be_read_leaves_nothing_behind():
    store = MemoryObjectStore()
    inputs = [store_file(store, "a", [put(1, 1)]), store_file(store, "b", [put(2, 1)])]
    store.delete(sst_key(REGION, file_id_of("b")))

    with pytest.raises(CorruptionError, match=file_id_of("b")):
        compact(store, inputs, drop_deletes=True)

    assert [item.key for item in store.list(sst_folder(REGION))] == [sst_key(REGION, file_id_of("a"))]


# --- as the engine does it ------------------------------------------------------------------------------

HOUR_MS = 3_600_000
times = st.integers(0, 3) | st.integers(0, 3).map(lambda n: HOUR_MS + n) | st.just(HOUR_MS - 1)
writes = st.lists(
    st.lists(st.builds(put, st.just(0), times, st.sampled_from([None, "a"]), st.integers(0, 9)), min_size=1, max_size=4)
    | st.lists(st.builds(delete, st.just(0), times, st.sampled_from([None, "a"])), min_size=1, max_size=4),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=80)
@given(writes, st.lists(st.booleans(), min_size=8, max_size=8))
def test_what_is_visible_is_the_same_before_and_after(drawn, flushes):
    engine = open_engine()
    create(engine, METADATA, compaction_window_ms=HOUR_MS)
    for rows, then_flush in zip(drawn, flushes, strict=False):
        engine.write(REGION, batch_of(METADATA, rows))
        if then_flush:
            engine.flush(REGION)
    before = read(engine, columns=COLUMNS)

    engine.compact(REGION)

    assert read(engine, columns=COLUMNS) == before
    assert engine.compact(REGION).removed == ()


def test_a_delete_marker_stays_while_another_file_may_hold_what_it_hides():
    """The old row lies in a file of the window after: it reaches into this one but is not in its merge."""
    engine = open_engine()
    create(engine, METADATA, compaction_window_ms=1000)
    for rows in ([put(0, 500), put(0, 1500)], [delete(0, 500), delete(0, 400)], [put(0, 450), put(0, 510)]):
        engine.write(REGION, batch_of(METADATA, rows[:1] if rows[0].op_type else rows))
        if rows[0].op_type:
            engine.write(REGION, batch_of(METADATA, rows[1:]))
        engine.flush(REGION)
    before = read(engine, columns=("ts",))

    [merged] = engine.compact(REGION).added

    assert merged.delete_count == 2
    assert read(engine, columns=("ts",)) == before


def test_a_delete_marker_goes_when_everything_it_could_hide_is_in_the_merge():
    engine = open_engine()
    create(engine, METADATA)
    for rows in ([put(0, 500), put(0, 600)], [delete(0, 500)]):
        engine.write(REGION, batch_of(METADATA, rows))
        engine.flush(REGION)

    [merged] = engine.compact(REGION).added

    assert (merged.row_count, merged.delete_count) == (1, 0)


def test_files_whose_rows_are_all_deleted_vanish_without_a_successor():
    engine = open_engine()
    create(engine, METADATA)
    for rows in ([put(0, 500)], [delete(0, 500)]):
        engine.write(REGION, batch_of(METADATA, rows))
        engine.flush(REGION)

    result = engine.compact(REGION)

    assert (len(result.removed), result.added) == (2, ())
    assert read(engine) == []


# --- every way of dedup -----------------------------------------------------------------------------------------

fields = st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from(["", "x"]))
any_puts = st.builds(lambda time, host, some: Row(0, time, (host,), some), times, st.sampled_from([None, "a"]), fields)
any_deletes = st.builds(
    lambda time, host: Row(0, time, (host,), (None, None), DELETE), times, st.sampled_from([None, "a"])
)
steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "backfill"]), st.lists(any_puts, min_size=1, max_size=4))
    | st.tuples(st.just("write"), st.lists(any_deletes, min_size=1, max_size=2))
    | st.sampled_from(["flush", "flush", "flush", "compact"]).map(lambda name: (name, [])),
    min_size=2,
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["last", "merge", "none"]), steps, st.sampled_from([1000, HOUR_MS]), st.sampled_from([1, 10**8]))
def test_no_compaction_changes_what_is_seen(dedup, actions, window_ms, sst_size_bytes):
    table = Tracked(dedup, window_ms=window_ms, sst_size_bytes=sst_size_bytes)
    for name, rows in actions:
        if name == "write":
            if dedup != "none" or rows[0].op_type is not DELETE:
                table.write(rows)
        elif name == "backfill":
            table.backfill(rows)
        else:
            getattr(table, name)()

    table.compact()
    assert table.found() == table.expected()
    table.flush()
    table.compact()
    assert table.found() == table.expected()


def test_a_row_in_memory_is_not_overtaken_by_an_older_value_that_fills_a_newer_row():
    table = Tracked("merge")
    table.write([Row(0, 1, ("a",), (1, "oldest"))])
    table.flush()
    table.write([Row(0, 1, ("a",), (2, None))])
    table.backfill([Row(0, 1, ("a",), (None, "newest"))])

    table.compact()

    assert table.found() == [("a", 1, 2, "newest")]


def test_where_every_row_is_kept_files_are_merged_and_rows_are_not():
    store = MemoryObjectStore()
    inputs = [store_file(store, "a", [put(1, 1), put(2, 2)]), store_file(store, "b", [put(3, 1)])]

    [added] = compact(store, inputs, drop_deletes=True, dedup="none")

    rows = rows_of(SstReader(store).read(METADATA, added, range(added.row_group_count), ["cpu"]))
    assert [(row.sequence, row.time) for row in rows] == [(3, 1), (1, 1), (2, 2)]


@pytest.mark.parametrize("drops", [True, False])
def test_a_merged_row_is_filled_down_to_a_delete_which_stays_unless_all_is_merged(drops):
    store = MemoryObjectStore()
    inputs = [
        store_file(store, "a", [put(1, 1, cpu=7)]),
        store_file(store, "b", [delete(2, 1)]),
        store_file(store, "c", [put(3, 1, cpu=None)]),
    ]

    [added] = compact(store, inputs, drop_deletes=drops, dedup="merge")

    rows = rows_of(SstReader(store).read(METADATA, added, range(added.row_group_count), ["cpu"]))
    assert [(row.sequence, row.fields[0], row.op_type) for row in rows] == [(3, None, 1), (2, None, 0)][: 2 - drops]
