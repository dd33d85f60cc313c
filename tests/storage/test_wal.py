from __future__ import annotations

import pyarrow as pa
import pytest
from builders import HOST, REGION, Row, batch_of, delete, metadata_of, put, rows_of, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, FIELD_TYPES, ROWS, same_bits

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.model.batch import Batch
from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.model.ids import NO_ENTRY, EntryId, Sequence, region_id
from mitoframe.model.schema import RegionMetadata
from mitoframe.storage.wal import Wal, encode_write

METADATA = metadata_of()

times = st.integers(-(2**62), 2**62)
writes = st.lists(
    st.lists(st.tuples(times, st.sampled_from([None, "", "a", "ß"]), st.none() | st.integers(-5, 5)), min_size=1),
    max_size=4,
)


def logged(metadata: RegionMetadata, *batches: Batch) -> Wal:
    wal = Wal(MemoryLog())
    for batch in batches:
        wal.append([(encode_write(metadata, batch), Sequence(int(batch.sequences[0])))])
    return wal


def replayed(wal: Wal, metadata: RegionMetadata, after: int = 0) -> list[tuple[EntryId, list[Row]]]:
    return [(entry_id, rows_of(batch)) for entry_id, batch in wal.replay(metadata, EntryId(after))]


def payload_of(batch: Batch, metadata: RegionMetadata = METADATA) -> bytes:
    parts = encode_write(metadata, batch).payload(Sequence(int(batch.sequences[0])))
    return b"".join(memoryview(part) for part in parts)


def log_holding(payload: bytes) -> Wal:
    log = MemoryLog()
    log.append([(REGION, [payload])])
    return Wal(log)


@settings(deadline=None)
@given(writes)
def test_rows_come_back_as_they_were_written(drawn):
    batches, sequence = [], 1
    for write in drawn:
        batches.append([put(sequence + n, time, host, cpu) for n, (time, host, cpu) in enumerate(write)])
        sequence += len(write) + 2

    wal = logged(METADATA, *(batch_of(METADATA, rows) for rows in batches))

    assert replayed(wal, METADATA) == list(enumerate(batches, start=1))


def test_every_kept_type_comes_back_bit_by_bit():
    metadata = metadata_of(fields=FIELD_TYPES)
    rows = [Row(n + 1, n, fields=(None,) * len(COLUMNS)) for n in range(ROWS)]
    fields = pa.RecordBatch.from_arrays(list(COLUMNS.values()), names=list(COLUMNS))
    batch = batch_of(metadata, rows)

    wal = logged(metadata, Batch(**{name: getattr(batch, name) for name in batch.__slots__} | {"fields": fields}))

    [(_, found)] = wal.replay(metadata, NO_ENTRY)
    assert [name for name in COLUMNS if not same_bits(found.fields.column(name), COLUMNS[name])] == []
    assert found.fields.schema.names == list(COLUMNS)


def test_a_slice_is_written_without_the_rest():
    batch = batch_of(METADATA, [put(n, n, cpu=n) for n in range(1, 2000)])

    wal = logged(METADATA, batch.slice(5, 2))

    assert replayed(wal, METADATA) == [(1, [put(6, 6, cpu=6), put(7, 7, cpu=7)])]
    assert len(payload_of(batch.slice(5, 2))) < 2000


@pytest.mark.parametrize("metadata", [metadata_of({}), metadata_of(HOST, {}), metadata_of({}, {})])
def test_a_region_without_tags_or_fields_has_rows_too(metadata):
    rows = [Row(n, 9 - n, ("a",) if metadata.tags else (), (n,) if metadata.fields else ()) for n in range(1, 4)]

    assert replayed(logged(metadata, batch_of(metadata, rows)), metadata) == [(1, rows)]


def test_deletes_come_back_as_deletes():
    rows = [delete(1, 5), delete(2, 6, None)]

    assert replayed(logged(METADATA, batch_of(METADATA, rows)), METADATA) == [(1, rows)]


def test_replay_starts_after_an_entry_and_sees_one_region_only():
    other = metadata_of(region=region_id(2, 0))
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1)]), batch_of(METADATA, [put(2, 2)]))
    wal.append([(encode_write(other, batch_of(other, [put(1, 9)])), Sequence(1))])

    assert replayed(wal, METADATA, after=1) == [(2, [put(2, 2)])]
    assert replayed(wal, other) == [(3, [put(1, 9)])]


def test_writes_appended_together_get_entries_in_their_order():
    wal = Wal(MemoryLog())

    last = wal.append(
        [(encode_write(METADATA, batch_of(METADATA, [put(0, n)])), Sequence(n)) for n in (1, 2, 3)],
    )

    assert last == wal.last_id() == 3
    assert replayed(wal, METADATA) == [(n, [put(n, n)]) for n in (1, 2, 3)]


def test_an_entry_from_before_a_field_was_added_has_nulls_there():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1, cpu=5)]))

    [(_, found)] = wal.replay(with_field(METADATA, "mem", pa.float32()), NO_ENTRY)

    assert found.fields.schema == pa.schema({"cpu": pa.int64(), "mem": pa.float32()})
    assert found.fields.to_pylist() == [{"cpu": 5, "mem": None}]


def test_an_entry_of_another_schema_is_corruption_and_not_data():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1)]))

    for metadata in (metadata_of(fields={"cpu": pa.string()}), metadata_of({"rack": pa.int64()}), metadata_of({})):
        with pytest.raises(CorruptionError, match="log entry 1 does not hold the rows of region"):
            replayed(wal, metadata)


def test_a_payload_cut_anywhere_is_corruption_or_lacks_only_the_end_mark():
    rows = [put(n, n, "a" if n % 2 else None, n) for n in range(1, 6)]
    payload = payload_of(batch_of(METADATA, rows))

    for size in range(len(payload)):
        wal = log_holding(payload[:size])
        if size >= len(payload) - 8:
            assert replayed(wal, METADATA) == [(1, rows)]
            continue
        with pytest.raises(CorruptionError, match="log entry 1 does not hold the rows"):
            replayed(wal, METADATA)


def test_a_payload_with_any_byte_damaged_gives_rows_of_the_region_or_corruption():
    """The log's checksum finds every flipped bit; what is promised here is that none brings the process down."""
    payload = payload_of(batch_of(METADATA, [put(n, n, "a" if n % 2 else None, n) for n in range(1, 6)]))
    refused = 0

    for place in range(len(payload)):
        damaged = bytearray(payload)
        damaged[place] ^= 1 << place % 8
        try:
            [(_, batch)] = log_holding(bytes(damaged)).replay(METADATA, NO_ENTRY)
        except (CorruptionError, ConfigError):
            refused += 1
            continue
        rows = batch.to_arrow(METADATA, METADATA.names)
        rows.validate(full=True)
        assert rows.schema.types == METADATA.arrow_schema().types
        assert len(rows) == 5

    assert refused > len(payload) / 2


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(1, 2, "2 is not a valid OpType"), (8, 6, "row count or series codes"), (24, 255, "log entry 1")],
    ids=["unknown operation", "too many rows", "series too long"],
)
def test_a_head_that_cannot_be_is_corruption(offset, value, reason):
    payload = bytearray(payload_of(batch_of(METADATA, [put(n, n) for n in range(1, 6)])))
    payload[offset] = value

    with pytest.raises(CorruptionError, match=reason):
        replayed(log_holding(bytes(payload)), METADATA)


def test_an_entry_of_a_newer_format_asks_for_an_update():
    payload = b"\x02" + payload_of(batch_of(METADATA, [put(1, 1)]))[1:]

    with pytest.raises(ConfigError, match="format 2, newer than 1; update mitoframe"):
        replayed(log_holding(payload), METADATA)


def test_what_is_obsolete_is_not_replayed():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1)]), batch_of(METADATA, [put(2, 2)]))

    wal.obsolete(REGION, EntryId(1))

    assert replayed(wal, METADATA) == [(2, [put(2, 2)])]
