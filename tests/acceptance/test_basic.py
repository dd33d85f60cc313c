"""Rows go in and come out: put, overwrite, delete, replay, and what the engine says of itself."""

from __future__ import annotations

import pyarrow as pa
import pytest
from acceptance.steps import (
    HISTORY_OFF,
    METADATA,
    OTHER,
    OTHER_ID,
    buffered_bytes,
    files,
    flush,
    remove,
    row,
    snapshot,
    started,
    state,
    values,
    write,
    write_as,
    write_times,
)
from builders import CPU, HOST, REGION, batch_of, create, metadata_of, open_engine, put, read
from log_scenarios import open_log

import mitoframe
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.alter import AddColumns, NewColumn
from mitoframe.model.errors import ClosedError, CorruptionError, InvalidInputError, SchemaMismatchError
from mitoframe.model.ids import region_id
from mitoframe.model.request import (
    AlterRequest,
    BulkInsertRequest,
    FlushRequest,
    OpenRequest,
    PutRequest,
    ScanRequest,
    TruncateRequest,
)
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.testing.vfs_memory import MemoryVfs

WIDE = metadata_of(HOST, CPU | {"mem": pa.float64(), "note": pa.string()})


def put_fields(**fields: pa.Array) -> PutRequest:
    """Ask for one row whose fields come in the order given here."""
    batch = batch_of(METADATA, [put(0, 1)])
    parts = {name: getattr(batch, name) for name in ("series", "codes", "times", "sequences", "op_types")}
    return PutRequest(batch=type(batch)(**parts, fields=pa.RecordBatch.from_pydict(fields)))


# --- rows -----------------------------------------------------------------------------------------------


def test_rows_come_back_in_the_order_of_tags_and_time():
    engine = started()
    write(engine, put(0, 2, "b", 4), put(0, 1, "b", 3), put(0, 2, "a", 2), put(0, 1, "a", 1))

    for _ in ("in memory", "in a file"):
        found = engine.handle_query(REGION, ScanRequest(columns=("cpu",)))
        assert [value for batch in found for value in batch["cpu"].to_pylist()] == [1, 2, 3, 4]
        flush(engine)


def test_fields_in_another_order_are_told_apart_by_name():
    numbers = metadata_of(HOST, {"cpu": pa.int64(), "mem": pa.int64()})
    engine = started(metadata=numbers)

    engine.handle_request(REGION, put_fields(mem=pa.array([2]), cpu=pa.array([1])))

    assert read(engine, columns=("cpu", "mem")) == [(1, 2)]


def test_fields_of_several_types_in_another_order_are_told_apart_by_name():
    engine = started(metadata=WIDE)

    note = pa.array(["x"], pa.large_string())
    engine.handle_request(REGION, put_fields(note=note, mem=pa.array([0.5]), cpu=pa.array([1])))

    assert read(engine, columns=("cpu", "mem", "note")) == [(1, 0.5, "x")]


def test_a_delete_takes_the_rows_of_its_keys_and_no_others():
    engine = started()
    write(engine, *(put(0, time, host, time) for time in (1, 2, 3) for host in ("a", "b")))

    remove(engine, 1, 3, host="a")

    for _ in ("in memory", "in a file"):
        assert read(engine, columns=("host", "cpu")) == [("a", 2), ("b", 1), ("b", 2), ("b", 3)]
        flush(engine)


def test_a_later_put_replaces_a_row_and_one_that_was_deleted():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = started(store, log)
    write_times(engine, 1, 2, 3)
    remove(engine, 2)
    write(engine, put(0, 1, cpu=10), put(0, 2, cpu=20))

    assert values(engine) == values(open_engine(store, log, seed=1)) == [3, 10, 20]
    flush(engine)
    assert values(engine) == [3, 10, 20]


def test_a_field_that_is_missing_is_filled_and_one_of_a_wrong_type_is_refused():
    engine = started(metadata=WIDE)
    default = AddColumns((NewColumn("load", pa.int32(), default=7),))
    engine.handle_request(REGION, AlterRequest(alterations=(default,)))

    engine.handle_request(REGION, put_fields(mem=pa.array([0.5])))
    with pytest.raises(SchemaMismatchError, match="'mem'"):
        engine.handle_request(REGION, put_fields(mem=pa.array(["much"])))

    assert read(engine, columns=("cpu", "mem", "note", "load")) == [(None, 0.5, None, 7)]
    assert snapshot(engine).visible == 1


def test_a_null_tag_is_a_series_of_its_own_in_memory_and_in_a_file():
    engine = started()
    write(engine, put(0, 1, None, 1), put(0, 1, "", 2), put(0, 1, "a", 3))
    write(engine, put(0, 1, None, 10))

    for _ in range(2):
        assert read(engine, columns=("host", "cpu")) == [(None, 10), ("", 2), ("a", 3)]
        flush(engine)


# --- replay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "segments"])
def test_rows_that_were_not_flushed_are_there_again_after_a_crash_and_count_once(kind):
    vfs, store = MemoryVfs(), MemoryObjectStore()
    memory = MemoryLog()
    reopened = (lambda: memory) if kind == "memory" else (lambda: open_log(vfs))
    log = reopened()
    engine = started(store, log)
    write_times(engine, 1, 2)
    flush(engine)
    write_times(engine, 3)
    write(engine, put(0, 2, cpu=20))
    bytes_before, before = buffered_bytes(engine), read(engine, columns=("cpu", "__sequence"))
    if kind == "segments":
        log.close()

    again = open_engine(store, reopened(), seed=1)

    assert read(again, columns=("cpu", "__sequence")) == before == [(1, 1), (3, 3), (20, 4)]
    assert 0 < buffered_bytes(again) <= 2 * bytes_before
    assert (snapshot(again).visible, snapshot(again).last_entry_id) == (4, 3)
    again.close()


# --- what the engine says of itself ---------------------------------------------------------------------


def test_the_bytes_in_memory_grow_with_each_write_and_go_with_a_flush():
    engine = started()
    sizes = []
    for time in range(3):
        sizes.append(engine.health().regions[0].buffered_bytes)
        write_times(engine, time)

    assert sizes[0] == 0 < sizes[1] < sizes[2] < engine.health().regions[0].buffered_bytes
    flush(engine)
    assert engine.health().regions[0].buffered_bytes == 0


def test_the_bytes_on_disk_grow_with_each_flush():
    engine = started()
    usage = [sum(file.size_bytes for file in files(engine))]
    for time in range(3):
        write_times(engine, time)
        flush(engine)
        usage.append(sum(file.size_bytes for file in files(engine)))

    assert usage == sorted(set(usage))
    assert len(usage) == 4


def test_the_files_that_a_manifest_lists_are_those_in_the_store():
    store = MemoryObjectStore()
    engine = started(store, **HISTORY_OFF)
    create(engine, OTHER)
    for region in (REGION, OTHER_ID):
        for time in (1, 100 * 86_400_000):
            write_times(engine, time, region=region)
            flush(engine, region)

    for region in (REGION, OTHER_ID):
        stored = {item.key: item.size_bytes for item in store.list(sst_folder(region))}
        assert stored == {sst_key(region, file.file_id): file.size_bytes for file in files(engine, region)}
        assert len(stored) == 2


def test_each_open_region_says_its_sequences_entries_options_and_health():
    engine = started(options={"row_group_rows": 7})
    create(engine, OTHER)
    write_times(engine, 1, 2)
    write_times(engine, 1, region=OTHER_ID)

    assert [region.region_id for region in engine.health().regions] == [REGION, OTHER_ID]
    for region, visible, last_entry_id, row_group_rows in [(REGION, 2, 1, 7), (OTHER_ID, 1, 2, None)]:
        assert (snapshot(engine, region).visible, snapshot(engine, region).last_entry_id) == (visible, last_entry_id)
        assert state(engine, region).options.row_group_rows == row_group_rows
    assert all(region.poison is None and not region.failures for region in engine.health().regions)


# --- engines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: PutRequest(batch=batch_of(METADATA, [put(0, 1)])),
        lambda: BulkInsertRequest(batches=[batch_of(METADATA, [put(0, 1)])]),
        FlushRequest,
        OpenRequest,
        TruncateRequest,
        AlterRequest,
    ],
)
def test_an_engine_that_was_closed_takes_no_request(request_of):
    engine = started()
    engine.close()

    with pytest.raises(ClosedError, match="this store was closed"):
        engine.handle_request(REGION, request_of())


def test_a_store_in_a_folder_needs_nothing_but_the_folder(tmp_path):
    with mitoframe.open(tmp_path) as store:
        table = store.create_table("cpu", pa.schema({"ts": pa.timestamp("ms"), "cpu": pa.int64()}), time="ts")
        table.write(pa.table({"ts": pa.array([1], pa.timestamp("ms")), "cpu": [1]}))

    with mitoframe.open(tmp_path) as store:
        assert store.scan("cpu").to_arrow()["cpu"].to_pylist() == [1]


# --- many at once ---------------------------------------------------------------------------------------


def test_many_regions_are_opened_in_one_call_with_their_rows():
    store, log = MemoryObjectStore(), MemoryLog()
    engine = open_engine(store, log)
    regions = [metadata_of(region=region_id(table, 0)) for table in range(1, 21)]
    for metadata in regions:
        create(engine, metadata)
        write_as(metadata, engine, row(1, metadata.region_id >> 32))

    again = open_engine(store, log, seed=1)
    results = again.handle_requests([(metadata.region_id, OpenRequest()) for metadata in regions])

    assert results == [0] * 20
    assert len(again.health().regions) == 20
    assert [values(again, metadata.region_id) for metadata in regions] == [[table] for table in range(1, 21)]


def test_a_region_that_is_missing_is_told_for_itself_and_the_others_are_opened():
    store, log = MemoryObjectStore(), MemoryLog()
    write_times(started(store, log), 1)

    again = open_engine(store, log, seed=1)
    missing, found, also_missing = again.handle_requests(
        [(OTHER_ID, OpenRequest()), (REGION, OpenRequest()), (3, OpenRequest())]
    )

    assert found == 0
    assert isinstance(missing, CorruptionError)
    assert isinstance(also_missing, CorruptionError)
    assert values(again) == [1]


def test_writes_of_several_regions_in_one_call_are_told_apart_and_a_bad_one_harms_no_other():
    engine = started()
    create(engine, OTHER)
    bad = PutRequest(batch=batch_of(WIDE, [row(1, 1, 0.5, "x")]))

    results = engine.handle_requests(
        [
            (REGION, PutRequest(batch=batch_of(METADATA, [put(0, 1, cpu=1), put(0, 2, cpu=2)]))),
            (REGION, bad),
            (OTHER_ID, PutRequest(batch=batch_of(OTHER, [put(0, 5, cpu=5)]))),
            (REGION, FlushRequest()),
            (REGION, PutRequest(batch=batch_of(METADATA, [put(0, 3, cpu=3)]))),
        ]
    )

    assert [result for result in results if isinstance(result, int)] == [2, 1, 2, 1]
    assert isinstance(results[1], SchemaMismatchError)
    assert (values(engine), values(engine, OTHER_ID)) == ([1, 2, 3], [5])


def test_a_put_that_holds_a_delete_is_refused():
    engine = started()
    deletes = batch_of(METADATA, [row(1, None)])
    deletes.op_types[:] = 0

    with pytest.raises(InvalidInputError, match="a PutRequest holds rows of another operation"):
        engine.handle_request(REGION, PutRequest(batch=deletes))

    assert snapshot(engine).visible == 0
