"""Schema and options change: what older rows read as afterwards, and what waits for what meanwhile."""

from __future__ import annotations

import pyarrow as pa
import pytest
from acceptance.steps import (
    HISTORY_OFF,
    METADATA,
    alter,
    buffered_rows,
    files,
    flush,
    remove,
    row,
    snapshot,
    started,
    state,
    threads,
    values,
    write,
    write_as,
    write_times,
)
from builders import CPU, HOST, REGION, batch_of, metadata_of, open_engine, put, read
from gates import GatedStore, Task, wait_until

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.alter import (
    AddColumns,
    DropColumns,
    ModifyColumnTypes,
    NewColumn,
    SetDefaults,
    SetIndexes,
    UnsetIndexes,
)
from mitoframe.model.errors import ConfigError, InvalidInputError
from mitoframe.model.predicate import IsNull, Not
from mitoframe.storage.manifest import load

MEM = AddColumns((NewColumn("mem", pa.float64()),))
WIDE = metadata_of(HOST, CPU | {"mem": pa.float64()})


def indexes(engine) -> dict[str, tuple[str, ...]]:
    return {column.name: column.indexes for column in state(engine).metadata.columns}


# --- columns --------------------------------------------------------------------------------------------


def test_added_fields_are_in_the_manifest_and_older_rows_read_as_null_also_after_reopening():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1, 2, 3)

    alter(engine, AddColumns((NewColumn("first", pa.string(), first=True),)))
    alter(engine, MEM)

    again = open_engine(store, log, seed=1)
    assert load(store, REGION).state.metadata == state(engine).metadata
    for opened in (engine, again):
        assert state(opened).metadata.schema_version == 3
        assert state(opened).metadata.names == ("host", "ts", "first", "cpu", "mem")
        assert read(opened, columns=("first", "cpu", "mem")) == [(None, 1, None), (None, 2, None), (None, 3, None)]


@pytest.mark.parametrize(
    "alteration", [DropColumns(("host",)), DropColumns(("ts",)), ModifyColumnTypes({"ts": pa.int64()})], ids=repr
)
def test_the_key_cannot_be_altered(alteration):
    engine = started()

    with pytest.raises(InvalidInputError):
        alter(engine, alteration)

    assert state(engine).metadata == METADATA
    assert snapshot(engine).version.manifest_version == 0


def test_a_condition_on_an_added_field_finds_the_older_rows_that_lack_it_and_no_overwritten_one():
    engine = started()
    write_times(engine, 1, 2)
    flush(engine)
    alter(engine, MEM)
    write_as(WIDE, engine, row(2, 20, 0.5))

    assert read(engine, columns=("cpu",), predicate=IsNull("mem")) == [(1,)]
    assert read(engine, columns=("cpu",), predicate=Not(IsNull("mem"))) == [(20,)]


def test_rows_of_the_new_schema_are_read_beside_the_older_ones_after_altering_and_reopening():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)
    alter(engine, MEM)
    write_as(WIDE, engine, row(2, 2, 0.5))

    again = open_engine(store, log, seed=1)
    write_as(WIDE, again, row(3, 3, 1.5))

    for _ in range(2):
        assert read(again, columns=("cpu", "mem")) == [(1, None), (2, 0.5), (3, 1.5)]
        flush(again)


def test_adding_a_field_at_a_place_again_is_refused_and_changes_nothing():
    engine = started()
    placed = AddColumns((NewColumn("mem", pa.float64(), after="cpu"),))
    alter(engine, placed)
    metadata, version = state(engine).metadata, snapshot(engine).version.manifest_version

    with pytest.raises(InvalidInputError, match="'mem' is there already and stays where it is"):
        alter(engine, placed)

    assert (state(engine).metadata, snapshot(engine).version.manifest_version) == (metadata, version)


def test_adding_a_field_that_is_there_without_a_place_is_fine_and_no_edit():
    engine = started()
    alter(engine, MEM)
    version = snapshot(engine).version.manifest_version

    assert alter(engine, MEM) is False

    assert snapshot(engine).version.manifest_version == version


@pytest.mark.parametrize("kind", ["fulltext", "inverted", "skipping"])
def test_an_index_that_is_set_or_unset_is_kept_by_the_manifest(kind):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1)

    alter(engine, SetIndexes({"host": (kind,)}))
    with_index = indexes(open_engine(store, log, seed=1))
    alter(engine, UnsetIndexes(("host",)))
    without = indexes(open_engine(store, log, seed=2))

    assert (with_index["host"], without["host"]) == ((kind,), ())
    assert values(engine) == [1]


def test_rows_made_for_an_older_schema_are_filled_and_replayed_so():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    alter(engine, AddColumns((NewColumn("mem", pa.float64(), default=2.5),)))
    stale = batch_of(METADATA, [put(0, 1, cpu=1)])

    engine.write(REGION, stale, metadata=METADATA)
    alter(engine, SetDefaults({"mem": 7.5}))
    engine.write(REGION, batch_of(METADATA, [put(0, 2, cpu=2)]), metadata=METADATA)

    assert read(engine, columns=("cpu", "mem")) == [(1, 2.5), (2, 7.5)]
    assert read(open_engine(store, log, seed=1), columns=("cpu", "mem")) == [(1, 2.5), (2, 7.5)]


def test_a_bulk_insert_made_for_an_older_schema_is_filled():
    engine = started()
    alter(engine, AddColumns((NewColumn("mem", pa.float64(), default=2.5),)))

    engine.bulk_insert(REGION, [batch_of(METADATA, [put(0, 1, cpu=1)])], metadata=METADATA)

    assert read(engine, columns=("cpu", "mem")) == [(1, 2.5)]


# --- what waits for what --------------------------------------------------------------------------------


def test_an_alteration_waits_for_a_flush_under_way_and_then_applies():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1)
    store.gate.close()
    flushing = Task(lambda: flush(engine))
    store.gate.reached()
    write_times(engine, 2)

    altering = Task(lambda: alter(engine, MEM))
    wait_until(engine.region(REGION).gate.waiting)
    assert state(engine).metadata.schema_version == 1
    store.gate.open()

    assert (flushing.result(), altering.result()) == (1, True)
    assert state(engine).metadata.schema_version == 2
    assert buffered_rows(engine) == 0
    assert read(engine, columns=("cpu", "mem")) == [(1, None), (2, None)]
    engine.close()


def test_a_write_waits_for_an_alteration_under_way_and_then_succeeds():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1)
    store.gate.close()
    altering = Task(lambda: alter(engine, MEM))
    store.gate.reached()

    writing = Task(lambda: write_times(engine, 2))
    writing.join(0.05)
    assert writing.is_alive()
    assert values(engine) == [1]
    store.gate.open()

    assert altering.result() is True
    assert writing.result() == 1
    assert read(engine, columns=("cpu", "mem")) == [(1, None), (2, None)]
    engine.close()


def test_options_of_all_kinds_are_published_together_and_after_the_flush():
    store = GatedStore()
    engine = started(store, scheduler=threads())
    write_times(engine, 1)
    before = state(engine).options
    store.gate.close()

    altering = Task(lambda: alter(engine, dedup="none", auto_flush_interval_ms=5))
    store.gate.reached()
    assert state(engine).options == before
    store.gate.open()
    altering.result()

    after = state(engine).options
    assert (after.dedup, after.auto_flush_interval_ms) == ("none", 5)
    assert snapshot(engine).version.manifest_version == 3  # Flush, end of history, one change for both.
    engine.close()


def test_an_option_that_touches_no_row_takes_effect_at_once_and_flushes_nothing():
    engine = started()
    write_times(engine, 1)

    alter(engine, auto_flush_interval_ms=1234)

    assert state(engine).options.auto_flush_interval_ms == 1234
    assert (files(engine), buffered_rows(engine)) == ([], 1)
    alter(engine, unset=("auto_flush_interval_ms",))
    assert state(engine).options.auto_flush_interval_ms is None


# --- append mode ----------------------------------------------------------------------------------------


def test_append_mode_switched_on_with_rows_there_keeps_one_of_each_old_key_and_all_new_rows():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, **HISTORY_OFF)
    write(engine, put(0, 1, cpu=1), put(0, 2, cpu=2))
    flush(engine)
    write(engine, put(0, 1, cpu=10))

    alter(engine, dedup="none")
    assert buffered_rows(engine) == 0
    write(engine, put(0, 2, cpu=20))
    write(engine, put(0, 2, cpu=30))

    again = open_engine(store, log, seed=1)
    assert values(engine) == values(again) == [2, 10, 20, 30]
    assert state(again).options.dedup == "none"


def test_append_mode_switched_on_brings_no_deleted_row_back():
    engine = started(**HISTORY_OFF)
    write_times(engine, 1, 2)
    flush(engine)
    remove(engine, 1)
    write_times(engine, 3)

    alter(engine, dedup="none")

    assert values(engine) == [2, 3]


def test_append_mode_switched_on_in_an_empty_region_flushes_nothing_and_lasts():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)

    alter(engine, dedup="none")
    write(engine, put(0, 1, cpu=1))
    write(engine, put(0, 1, cpu=1))

    again = open_engine(store, log, seed=1)
    assert files(engine) == []
    assert values(engine) == values(again) == [1, 1]
    flush(again)
    assert values(again) == [1, 1]


@pytest.mark.parametrize("mode", ["last", "merge"])
def test_append_mode_cannot_be_switched_off(mode):
    engine = started(options={"dedup": "none"})

    with pytest.raises(ConfigError, match="only 'none' can be switched on later"):
        alter(engine, dedup=mode)

    assert state(engine).options.dedup == "none"


def test_append_mode_takes_the_place_of_merge_mode():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, metadata=WIDE, options={"dedup": "merge"}, **HISTORY_OFF)
    write_as(WIDE, engine, row(1, None, 0.5), row(2, 2, None))
    write_as(WIDE, engine, row(1, 1, None))

    alter(engine, dedup="none")
    write_as(WIDE, engine, row(2, None, 1.5))

    again = open_engine(store, log, seed=1)
    for opened in (engine, again):
        assert state(opened).options.dedup == "none"
        assert read(opened, columns=("cpu", "mem")) == [(None, 1.5), (1, 0.5), (2, None)]
