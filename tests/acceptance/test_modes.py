"""Append mode, merge mode, and what deletes and conditions mean in each: the same answer wherever the rows lie."""

from __future__ import annotations

import pyarrow as pa
import pytest
from acceptance.steps import (
    HISTORY_OFF,
    files,
    flush,
    remove,
    row,
    snapshot,
    started,
    values,
    write,
    write_as,
    write_times,
)
from builders import CPU, HOST, REGION, metadata_of, open_engine, put, read

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import Compare
from mitoframe.model.request import CompactRequest

WIDE = metadata_of(HOST, CPU | {"mem": pa.float64()})
APPEND = {"dedup": "none"}
MERGE = {"dedup": "merge"}


# --- append mode ----------------------------------------------------------------------------------------


def test_append_mode_keeps_every_row_of_a_key_wherever_it_lies():
    engine = started(options=APPEND)
    write(engine, put(0, 1, cpu=1), put(0, 1, cpu=1), put(0, 2, cpu=2))
    flush(engine)

    write(engine, put(0, 1, cpu=3))

    assert values(engine) == [1, 1, 2, 3]


def test_append_mode_keeps_every_row_through_a_compaction_and_reopening():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, options=APPEND)
    for cpu in (1, 2, 3):
        write(engine, put(0, 1, cpu=cpu), put(0, 1, cpu=cpu))
        flush(engine)

    compacted = engine.handle_request(REGION, CompactRequest())

    assert (compacted, len(files(engine))) == (6, 1)
    assert values(engine) == values(open_engine(store, log, seed=1)) == [1, 1, 2, 2, 3, 3]


def test_append_mode_shows_every_row_of_a_memtable_before_there_is_a_file():
    engine = started(options=APPEND)
    for _ in range(3):
        write_times(engine, 1, 2)

    assert values(engine) == [1, 1, 1, 2, 2, 2]
    assert files(engine) == []


@pytest.mark.parametrize("where", ["in memory", "in a file"])
def test_append_mode_refuses_a_delete_and_changes_nothing(where):
    engine = started(options=APPEND)
    write_times(engine, 1)
    if where == "in a file":
        flush(engine)

    with pytest.raises(InvalidInputError, match="rows cannot be deleted by key from a table that keeps every row"):
        remove(engine, 1)

    assert values(engine) == [1]
    assert snapshot(engine).visible == 1


# --- merge mode -----------------------------------------------------------------------------------------

STEPS = ("nothing", "flush", "flush and compact", "reopen")


def carry_out(step: str, engine, store, log):
    """Let the rows lie elsewhere, and return the engine that has them now."""
    if step.startswith("flush"):
        flush(engine)
    if step.endswith("compact"):
        engine.handle_request(REGION, CompactRequest())
    return open_engine(store, log, seed=len(files(engine)) + 1) if step == "reopen" else engine


@pytest.mark.parametrize("step", STEPS)
def test_merge_mode_fills_nulls_from_older_rows_but_not_through_a_delete(step):
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, metadata=WIDE, options=MERGE)
    steps = [
        lambda: write_as(WIDE, engine, row(1, 1, None), row(2, 2, 0.2), row(3, 3, 0.3), row(4, 4, None)),
        lambda: write_as(WIDE, engine, row(1, None, 0.1), row(2, 20, None)),
        lambda: remove(engine, 3, 4, metadata=WIDE),
        lambda: write_as(WIDE, engine, row(3, None, 0.33), row(5, None, None)),
    ]
    for write_some in steps:
        write_some()
        engine = carry_out(step, engine, store, log)

    assert read(engine, columns=("cpu", "mem")) == [(None, None), (None, 0.33), (1, 0.1), (20, 0.2)]


def test_merge_mode_compacts_to_one_file_with_the_same_rows():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log, metadata=WIDE, options=MERGE, **HISTORY_OFF)
    for rows in ([row(1, 1, None), row(2, 2, None)], [row(1, None, 0.1)], [row(2, None, 0.2), row(1, 10, None)]):
        write_as(WIDE, engine, *rows)
        flush(engine)
    before = read(engine)

    assert engine.handle_request(REGION, CompactRequest()) == 2

    assert read(engine, columns=("cpu", "mem")) == [(2, 0.2), (10, 0.1)]
    assert read(engine) == before == read(open_engine(store, log, seed=1))
    assert [file.row_count for file in files(engine)] == [2]


# --- deletes and conditions -----------------------------------------------------------------------------


def test_a_condition_on_a_field_does_not_bring_an_overwritten_version_back():
    engine = started()
    write(engine, put(0, 1, cpu=1), put(0, 2, cpu=1))
    flush(engine)
    write(engine, put(0, 1, cpu=5))

    for _ in ("rows in memory and in a file", "rows in two files"):
        assert read(engine, columns=("cpu", "__sequence"), predicate=Compare("cpu", "==", 1)) == [(1, 2)]
        flush(engine)


def test_a_deleted_row_is_seen_by_who_looks_at_an_earlier_moment_only():
    engine = started()
    write_times(engine, 1, 2)
    flush(engine)
    remove(engine, 1)

    assert values(engine) == [2]
    assert read(engine, columns=("cpu",), sequence=Sequence(2)) == [(1,), (2,)]
    flush(engine)
    assert values(engine) == [2]
    assert read(engine, columns=("cpu",), sequence=Sequence(2)) == [(1,), (2,)]
