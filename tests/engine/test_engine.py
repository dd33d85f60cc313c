from __future__ import annotations

import pyarrow as pa
import pytest
from builders import REGION, batch_of, create, delete, metadata_of, open_engine, put, read, with_field
from gates import GatedStore, Task

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.errors import ClosedError, CorruptionError, InvalidInputError, ReadOnlyError, UnavailableError
from mitoframe.model.ids import region_id
from mitoframe.model.options import RegionOptions
from mitoframe.model.predicate import Compare
from mitoframe.model.request import (
    CloseRequest,
    CompactRequest,
    CreateRequest,
    DeleteRequest,
    FlushRequest,
    OpenRequest,
    PutRequest,
    ScanRequest,
)

METADATA = metadata_of()
OTHER = region_id(2, 0)


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def engine(store, log) -> MitoEngine:
    engine = open_engine(store, log)
    create(engine, METADATA)
    return engine


def putting(*rows) -> PutRequest:
    return PutRequest(batch=batch_of(METADATA, rows))


def values(engine: MitoEngine) -> list[int]:
    return sorted(row[0] for row in read(engine, columns=("cpu",)))


# --- requests -------------------------------------------------------------------------------------------


def test_each_request_says_how_many_rows_it_affected(engine):
    requests = [
        (CreateRequest(metadata=METADATA, options=RegionOptions()), 0),
        (OpenRequest(), 0),
        (putting(put(0, 1, cpu=1), put(0, 2, cpu=2)), 2),
        (FlushRequest(), 2),
        (FlushRequest(), 0),
        (DeleteRequest(batch=batch_of(METADATA, [delete(0, 1)])), 1),
        (putting(put(0, 3, cpu=3)), 1),
        (FlushRequest(reason="test"), 2),
        (CompactRequest(), 2),
        (CompactRequest(), 0),
        (CloseRequest(), 0),
        (CloseRequest(), 0),
    ]

    assert [engine.handle_request(REGION, request) for request, _ in requests] == [rows for _, rows in requests]
    assert values(engine) == [2, 3]


def test_writing_no_rows_does_nothing(engine, log):
    assert engine.handle_request(REGION, putting()) == 0
    assert engine.handle_request(REGION, DeleteRequest(batch=batch_of(METADATA, []))) == 0
    assert log.last_id() == 0


def test_a_query_yields_the_rows_that_were_there_when_it_was_made(engine):
    engine.handle_request(REGION, putting(put(0, 1, cpu=1), put(0, 2, cpu=2)))

    found = engine.handle_query(REGION, ScanRequest(columns=("cpu",), predicate=Compare("cpu", ">", 1)))
    engine.handle_request(REGION, putting(put(0, 3, cpu=3)))

    assert [row for batch in found for row in batch.to_pylist()] == [{"cpu": 2}]


def test_deleting_a_row_that_is_not_there_is_fine(engine):
    engine.handle_request(REGION, DeleteRequest(batch=batch_of(METADATA, [delete(0, 77)])))

    assert values(engine) == []


# --- regions --------------------------------------------------------------------------------------------


def test_making_a_region_again_opens_it(engine, store, log):
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))

    create(engine, METADATA)
    again = open_engine(store, log, seed=1)
    create(again, METADATA)

    assert values(engine) == values(again) == [5]


def test_making_a_region_again_with_another_schema_is_refused(engine):
    with pytest.raises(InvalidInputError, match=f"region {REGION} exists with another schema; open it instead"):
        create(engine, with_field(METADATA, "mem", pa.float32()))


def test_a_region_that_was_never_made_cannot_be_opened_or_queried(engine):
    with pytest.raises(CorruptionError, match="the region has no manifest"):
        engine.handle_request(OTHER, OpenRequest())
    with pytest.raises(CorruptionError, match="the region has no manifest"):
        engine.handle_query(OTHER, ScanRequest())


def test_regions_share_a_log_and_nothing_else(engine):
    other = metadata_of(region=OTHER)
    create(engine, other)
    engine.handle_request(REGION, putting(put(0, 1, cpu=1)))
    engine.handle_request(OTHER, PutRequest(batch=batch_of(other, [put(0, 1, cpu=2)])))

    engine.handle_request(REGION, FlushRequest())

    assert values(engine) == [1]
    assert read(engine, OTHER, columns=("cpu", "__sequence")) == [(2, 1)]


@pytest.mark.parametrize("flush", [True, False])
def test_a_region_that_was_let_go_is_opened_again_when_asked_for(engine, flush):
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))

    engine.handle_request(REGION, CloseRequest(flush=flush))

    assert values(engine) == [5]
    assert len(engine.region(REGION).control.current().version.state.files) == flush
    assert engine.write(REGION, batch_of(METADATA, [put(0, 2)])).first_sequence == 2


def test_a_handle_on_a_region_that_was_let_go_changes_nothing_any_more(engine):
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))
    stale = engine.region(REGION)
    engine.handle_request(REGION, CloseRequest(flush=False))
    engine.handle_request(REGION, putting(put(0, 2, cpu=6)))

    with pytest.raises(ClosedError, match="closed while it was to be changed; nothing was changed"):
        engine._background.start_flush(stale, "late").result()

    engine.handle_request(REGION, FlushRequest())
    assert values(engine) == [5, 6]


def test_a_file_written_for_a_region_that_was_let_go_is_not_taken_for_one_of_its_successors(store, log):
    """The commit of the first flush fails after the file was stored; the region opened anew has more rows to flush."""

    class RefusingStore(MemoryObjectStore):
        refusing = False

        def put_if_absent(self, key, data):
            if self.refusing and key.endswith(".json"):
                raise UnavailableError("no answer")
            super().put_if_absent(key, data)

    store = RefusingStore()
    engine = open_engine(store, log)
    create(engine, METADATA)
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))
    store.refusing = True
    with pytest.raises(UnavailableError):
        engine.handle_request(REGION, FlushRequest())
    store.refusing = False
    engine.handle_request(REGION, CloseRequest(flush=False))

    engine.handle_request(REGION, putting(put(0, 2, cpu=6)))
    engine.handle_request(REGION, FlushRequest())

    assert values(engine) == [5, 6]
    assert values(open_engine(store, log, seed=1)) == [5, 6]


def test_closing_a_region_waits_for_a_flush_under_way():
    store = GatedStore()
    engine = open_engine(store)
    create(engine, METADATA)
    engine.write(REGION, batch_of(METADATA, [put(0, 1, cpu=5)]))
    store.gate.close()
    flush = Task(lambda: engine.flush(REGION))
    store.gate.reached()

    closing = Task(lambda: engine.handle_request(REGION, CloseRequest()))
    store.gate.open()
    flush.result()
    closing.result()

    assert values(engine) == [5]


# --- refusals -------------------------------------------------------------------------------------------

CHANGES = {
    "create": lambda engine: create(engine, METADATA),
    "put": lambda engine: engine.handle_request(REGION, putting(put(0, 1))),
    "delete": lambda engine: engine.handle_request(REGION, DeleteRequest(batch=batch_of(METADATA, [delete(0, 1)]))),
    "flush": lambda engine: engine.handle_request(REGION, FlushRequest()),
    "compact": lambda engine: engine.handle_request(REGION, CompactRequest()),
    "vacuum": lambda engine: engine.vacuum(REGION),
}
READS = {
    "open": lambda engine: engine.handle_request(REGION, OpenRequest()),
    "query": lambda engine: engine.handle_query(REGION, ScanRequest()),
    "plan": lambda engine: engine.plan(REGION, ScanRequest()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_engine_opened_for_reading_changes_nothing(engine, store, log, change):
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))
    reader = open_engine(store, log, read_only=True)

    with pytest.raises(ReadOnlyError, match='open it with mode="rw" to change it'):
        CHANGES[change](reader)

    assert values(reader) == [5]


@pytest.mark.parametrize("use", CHANGES | READS)
def test_an_engine_that_was_closed_does_nothing(engine, use):
    engine.close()

    with pytest.raises(ClosedError, match=r"this store was closed; open it again with mitoframe.open\(\)"):
        (CHANGES | READS)[use](engine)


def test_closing_a_reader_changes_nothing_and_closing_its_region_is_fine(engine, store):
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))
    reader = open_engine(store, MemoryLog(), read_only=True)
    reader.region(REGION)

    reader.handle_request(REGION, CloseRequest())
    reader.close()

    assert engine.region(REGION).control.current().version.manifest_version == 0


# --- the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "asked", "files"), [(True, None, 1), (False, None, 0), (True, False, 0), (False, True, 1)]
)
def test_closing_flushes_if_configured_or_asked(store, log, configured, asked, files):
    engine = open_engine(store, log, flush_on_close=configured)
    create(engine, METADATA)
    engine.handle_request(REGION, putting(put(0, 1, cpu=5)))
    region = engine.region(REGION)

    engine.close(flush=asked)

    assert len(region.control.current().version.state.files) == files


def test_closing_twice_is_fine(engine):
    engine.close()
    engine.close()


def test_a_flush_that_fails_at_closing_is_told_and_the_engine_is_closed_all_the_same():
    store = GatedStore()
    engine = open_engine(store)
    create(engine, METADATA)
    engine.handle_request(REGION, putting(put(0, 1)))
    store.error = InvalidInputError("no")

    with pytest.raises(InvalidInputError):
        engine.close()

    with pytest.raises(ClosedError):
        engine.region(REGION)
