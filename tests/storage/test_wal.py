from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import pyarrow as pa
import pytest
from builders import HOST, REGION, Row, batch_of, delete, metadata_of, put, rows_of, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, FIELD_TYPES, ROWS, same_bits

from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.model.alter import AddColumns, DropColumns, ModifyColumnTypes, NewColumn, alter
from mitoframe.model.batch import Batch
from mitoframe.model.errors import ConfigError, CorruptionError, InvalidInputError
from mitoframe.model.ids import NO_ENTRY, EntryId, Sequence, region_id
from mitoframe.model.schema import RegionMetadata
from mitoframe.storage import wal as wal_module
from mitoframe.storage.wal import KEY_SIZE_BYTES_MAX, ReplayedWrite, Wal, encode_write

METADATA = metadata_of()

# Three rows put and one deleted, as the first release wrote them. Never to be made anew.
PUTS_OF_VERSION_1 = (
    "c-oax%SyvQ6ur|-lR<(+j1bgCR0I(>f*;TyaNk`kwV(@WzzQydE0<ZibK}C#5d49Dg3Eq_&_z8nb89D~@o`CV=FFTqH#7GNL4=0_"
    "vJo*>!r~lJ029MjD5j9wq%cAV2~J=NU&&wVmzq5(=0bSJhFK4hYTRZmF<y+W$960Y*Lk1WM@LK<XO4{<1=4u*X&EtQ67wHc)8#y="
    "b3QkRJC}KQz}R8jbhPe$2@mD&Y1Z%DftGE}^ZNW6hU*Y-2}PxwKd9?K%d^+V<+{F)1-|{W9@_gB?+NoK<0V=N-;H$sVNl#qWpfFA"
    "_KBm-9BqiV*Bf764T)YHeM8O7{`|}S!RUNQrd|p=6klb|=Y0P|{U3g)|NSrZ52-o!ygne0A2D{lz9|^@z1jwzPZJlPXQ}lAXt`K!"
    "(Kmg|x(y7ErvY?3lPIE!re30^KJ|Q7F+3Ddm$SJIuMa-}bm3X%"
)
DELETES_OF_VERSION_1 = (
    "c-oaxK}y6x5bQQFJ4l3pIRsWPhzB3w1M&gyds}5)(1UEi74{fBdGrw;e1=c(2_AidH|^=E(aA`nHcV=2rn)=R-AqJ`Wo-x8;^0H9"
    "6)bR@Q%2iloQ_lBB+SS+#n;6u)u)uRj3%lo5Q9sL`_K~ba&@zI`&7Bj`-C{wa;lIy*JzZa8l$0a%jKld|8SZa@|3~*!W;<=+Y#^>"
    "SOs?+#iOtKNbJMY>a4ljmF=F0x>(13ozU*w*V*IiKkIGZv5|EG{;08dtH9fRovm)s-qM51#kO`Yfwl^?nXLJIeRaJgdJgmhJyrku"
    "hyP-Au_Wz>5f6hB)OhFnANso)>F@n7{mn-DI|bI!x#tJKChGqzy7zS*>T}FFnE7B1gmyi>>E8?O-jeY-8uIJK^>g+Kie5@("
)

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
    return [(write.entry_id, rows_of(write.batch)) for write in wal.replay(metadata, EntryId(after))]


def only_write(wal: Wal, metadata: RegionMetadata) -> ReplayedWrite:
    [write] = wal.replay(metadata, NO_ENTRY)
    return write


def of_version_1(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def payload_of(batch: Batch, metadata: RegionMetadata = METADATA, **options) -> bytes:
    parts = encode_write(metadata, batch, **options).payload(Sequence(int(batch.sequences[0])))
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

    found = only_write(wal, metadata).batch
    assert [name for name in COLUMNS if not same_bits(found.fields.column(name), COLUMNS[name])] == []
    assert found.fields.schema.names == list(COLUMNS)


@settings(deadline=None)
@given(
    st.sampled_from([pa.float64(), pa.int64()]),
    st.lists(
        st.none()
        | st.sampled_from([0, 1, -1, 127, 128, -129, 2**15, 2**31 - 1, 2**31, -(2**31), 2**53])
        | st.integers(-200, 200)
    ),
    st.lists(st.sampled_from([-0.0, 0.5, float("nan"), float("inf"), 1e300]), max_size=1),
    st.integers(0, 3),
)
def test_numbers_that_fit_fewer_bits_come_back_bit_by_bit(data_type, whole, odd, start):
    # Only a large write is narrowed: nulls make it large.
    values = [*([None] * 5000), *whole, *(odd if data_type == pa.float64() else []), 1][start:]
    metadata = metadata_of(fields={"value": data_type})
    rows = batch_of(metadata, [Row(n + 1, n, fields=(None,)) for n in range(len(values))])
    fields = pa.RecordBatch.from_arrays([pa.array(values, data_type)], names=["value"])

    wal = logged(metadata, Batch(**{name: getattr(rows, name) for name in rows.__slots__} | {"fields": fields}))

    [found] = wal.replay(metadata, NO_ENTRY)
    assert same_bits(found.batch.fields.column("value"), fields.column("value"))


def rows_stream(payload: bytes) -> tuple[bytes, pa.Table]:
    """Return what lies before the rows in a payload, and the rows."""
    start = 48 + int.from_bytes(payload[24:32], "little")
    with pa.ipc.open_stream(payload[start:]) as reader:
        return payload[:start], reader.read_all()


@pytest.mark.parametrize(
    ("last", "kept_as"),
    [
        (None, pa.int8()),
        (127.0, pa.int8()),
        (128.0, pa.int16()),
        (2.0**31 - 1, pa.int32()),
        (2.0**31, pa.float64()),
        (0.5, pa.float64()),
        (-0.0, pa.float64()),
        (float("nan"), pa.float64()),
    ],
)
def test_numbers_take_as_many_bits_as_the_widest_of_them_needs(last, kept_as):
    metadata = metadata_of(fields={"value": pa.float64()})
    numbers = [*(float(n % 100) for n in range(4095)), last]

    payload = payload_of(batch_of(metadata, [Row(n, n, fields=(numbers[n],)) for n in range(4096)]), metadata)

    assert rows_stream(payload)[1].schema.field("3").type == kept_as


def test_the_numbers_of_a_small_write_are_logged_as_they_are():
    payload = payload_of(batch_of(METADATA, [put(1, 1)]))

    assert rows_stream(payload)[1].schema.field("3").type == pa.int64()


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


@pytest.mark.parametrize("compressed_from_bytes", [0, 1 << 30])
def test_it_makes_no_difference_whether_a_stream_is_compressed(compressed_from_bytes, monkeypatch):
    monkeypatch.setattr(wal_module, "_COMPRESSED_FROM_BYTES", compressed_from_bytes)
    rows = [put(n, n % 7, "ab"[n % 2] if n % 3 else None, n if n % 5 else None) for n in range(1, 200)]

    assert replayed(logged(METADATA, batch_of(METADATA, rows)), METADATA) == [(1, rows)]


def test_a_large_write_is_compressed_and_a_small_one_is_not():
    rows = [put(n, n) for n in range(1, 80_000)]
    large, small = batch_of(METADATA, rows), batch_of(METADATA, rows[:1000])

    assert len(payload_of(large)) < large.fields.nbytes + large.times.nbytes
    assert len(payload_of(small)) > small.fields.nbytes + small.times.nbytes
    assert replayed(logged(METADATA, large), METADATA) == [(1, rows)]


@given(st.lists(st.tuples(times, st.sampled_from([None, "a"]), st.booleans()), min_size=1, max_size=6))
@settings(deadline=None)
def test_rows_of_mixed_operations_come_back_as_what_they_were(drawn):
    rows = [
        delete(n, time, host) if is_delete else put(n, time, host, n)
        for n, (time, host, is_delete) in enumerate(drawn, start=1)
    ]

    assert replayed(logged(METADATA, batch_of(METADATA, rows)), METADATA) == [(1, rows)]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.integers(-(2**63), 2**63 - 1))
def test_a_key_and_a_time_come_back(key, at_ms):
    rows = [put(1, 1)]
    wal = log_holding(payload_of(batch_of(METADATA, rows), key=key, at_ms=at_ms))

    write = only_write(wal, METADATA)

    assert (write.entry_id, write.key, write.at_ms, rows_of(write.batch)) == (1, key, at_ms, rows)


def test_a_key_may_be_as_long_as_its_length_can_say_and_no_longer():
    batch = batch_of(METADATA, [put(1, 1)])

    assert only_write(log_holding(payload_of(batch, key="k" * KEY_SIZE_BYTES_MAX)), METADATA).key[-1] == "k"
    with pytest.raises(InvalidInputError, match="has 65536 bytes; 65535 is the most"):
        encode_write(METADATA, batch, key="k" * (KEY_SIZE_BYTES_MAX + 1))
    with pytest.raises(InvalidInputError, match="not text that can be written"):
        encode_write(METADATA, batch, key="\ud800")


def test_a_write_without_rows_is_a_programmers_mistake():
    with pytest.raises(AssertionError, match="no rows"):
        encode_write(METADATA, batch_of(METADATA, []))


def test_the_layout_is_the_one_that_is_documented():
    payload = payload_of(batch_of(METADATA, [put(7, 1), delete(8, 2)]), key="schlüssel", at_ms=-2)

    assert payload[:8] == bytes([2, 1, 0, 0]) + (1).to_bytes(4, "little")
    row_count, first_sequence, series_length = (int.from_bytes(payload[at : at + 8], "little") for at in (8, 16, 24))
    assert (row_count, first_sequence) == (2, 7)
    assert int.from_bytes(payload[32:40], "little", signed=True) == -2
    assert payload[40:48] == (10).to_bytes(2, "little") + bytes(6)
    assert payload[48:64] == "schlüssel".encode() + bytes(6)
    series = pa.ipc.open_stream(payload[64 : 64 + series_length]).read_all()
    rows = pa.ipc.open_stream(payload[64 + series_length :]).read_all()
    assert series.to_pydict() == {"host": ["a"]}
    assert rows.to_pydict() == {"__code": [0, 0], "__time": [1, 2], "__op": [1, 0], "3": [0, None]}


def test_an_entry_of_the_first_version_is_read_for_ever():
    wal = Wal(MemoryLog())
    for text in (PUTS_OF_VERSION_1, DELETES_OF_VERSION_1):
        wal._log.append([(REGION, [of_version_1(text)])])

    puts = [put(7, 1000, "a", 1), put(8, 2000, None, None), put(9, 1000, "ß", -5)]
    assert replayed(wal, METADATA) == [(1, puts), (2, [delete(10, 1000, "a")])]
    assert {(write.key, write.at_ms) for write in wal.replay(METADATA, NO_ENTRY)} == {("", 0)}


def test_an_entry_of_the_first_version_is_read_with_a_later_schema():
    wal = log_holding(of_version_1(PUTS_OF_VERSION_1))
    dropped = alter(METADATA, DropColumns(("cpu",)))
    added_again = alter(dropped, AddColumns((NewColumn("cpu", pa.int64(), default=9),)))

    assert only_write(wal, dropped).batch.fields.num_columns == 0
    assert only_write(wal, added_again).batch.fields.to_pydict() == {"cpu": [9, 9, 9]}


def test_an_entry_of_the_first_version_whose_fields_have_other_names_is_corruption():
    renamed = replace(METADATA, columns=(*METADATA.columns[:-1], replace(METADATA.columns[-1], name="mem")))

    with pytest.raises(CorruptionError, match="column 'cpu' is called 'mem'"):
        replayed(log_holding(of_version_1(PUTS_OF_VERSION_1)), renamed)


def test_an_entry_from_before_a_field_was_added_has_nulls_or_its_default_there():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1, cpu=5)]))
    new = NewColumn("mem", pa.float32(), first=True), NewColumn("load", pa.int64(), default=7)

    found = only_write(wal, alter(METADATA, AddColumns(new))).batch

    assert found.fields.schema == pa.schema({"mem": pa.float32(), "cpu": pa.int64(), "load": pa.int64()})
    assert found.fields.to_pylist() == [{"mem": None, "cpu": 5, "load": 7}]


def test_an_entry_from_before_a_field_was_retyped_is_cast():
    metadata = metadata_of(fields={"cpu": pa.int32()})
    wal = logged(metadata, batch_of(metadata, [put(1, 1, cpu=-5), put(2, 2, cpu=None)]))

    found = only_write(wal, alter(metadata, ModifyColumnTypes({"cpu": pa.float64()}))).batch

    assert found.fields.column("cpu").equals(pa.array([-5.0, None]))


def test_a_field_that_was_dropped_does_not_come_back_under_the_name_of_another():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1, cpu=5)]))
    later = alter(alter(METADATA, DropColumns(("cpu",))), AddColumns((NewColumn("cpu", pa.int64()),)))

    assert only_write(wal, later).batch.fields.to_pylist() == [{"cpu": None}]


def test_an_entry_of_a_schema_that_the_manifest_does_not_know_yet_is_corruption():
    later = with_field(METADATA, "mem", pa.float32())
    wal = logged(later, batch_of(later, [Row(1, 1, ("a",), (1, 2.0))]))

    with pytest.raises(CorruptionError, match="schema version 2, the manifest ends at 1"):
        replayed(wal, METADATA)


def test_an_entry_of_another_schema_is_corruption_and_not_data():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1)]))

    others = metadata_of(fields={"cpu": pa.string()}), metadata_of({"rack": pa.int64()}), metadata_of({})
    for metadata in (*others, metadata_of(fields={}), metadata_of(fields={"cpu": pa.int64(), "mem": pa.int64()})):
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
            batch = only_write(log_holding(bytes(damaged)), METADATA).batch
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
    [
        (0, 0, "there is no format 0"),
        (1, 1, "flags 0x1 and operation 1 do not go together"),
        (2, 2, "2 is not a valid OpType"),
        (3, 1, "not one of format 2"),
        (8, 6, "row count or series codes"),
        (24, 255, "log entry 1"),
        (31, 255, "the series end after the entry"),
        (41, 255, "not one of format 2"),
        (47, 1, "not one of format 2"),
        (48, 0xFF, "invalid start byte"),
        (49, 1, "not one of format 2"),
    ],
)
def test_a_head_that_cannot_be_is_corruption(offset, value, reason):
    payload = bytearray(payload_of(batch_of(METADATA, [put(n, n) for n in range(1, 6)]), key="k"))
    payload[offset] = value

    with pytest.raises(CorruptionError, match=reason):
        replayed(log_holding(bytes(payload)), METADATA)


def test_an_unknown_flag_is_corruption_whatever_the_operation():
    for row in (put(1, 1), delete(1, 1)):
        payload = bytearray(payload_of(batch_of(METADATA, [row])))
        payload[1] = 2

        with pytest.raises(CorruptionError, match="flags 0x2 and operation"):
            replayed(log_holding(bytes(payload)), METADATA)


@pytest.mark.parametrize(("offset", "value"), [(2, 1), (3, 1), (4, 2)])
def test_a_head_that_the_first_version_never_wrote_is_corruption(offset, value):
    payload = bytearray(of_version_1(PUTS_OF_VERSION_1))
    payload[offset] = value

    with pytest.raises(CorruptionError, match="not one of format 1"):
        replayed(log_holding(bytes(payload)), with_field(METADATA, "mem", pa.float32()))


@pytest.mark.parametrize(("flags", "operation"), [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("rows", [[put(1, 1), put(2, 2)], [delete(1, 1), delete(2, 2)], [put(1, 1), delete(2, 2)]])
def test_a_head_never_turns_mixed_rows_into_others_or_others_into_mixed(flags, operation, rows):
    payload = bytearray(payload_of(batch_of(METADATA, rows)))
    is_mixed = payload[1]
    payload[1], payload[2] = flags, operation

    if flags == is_mixed:
        assert replayed(log_holding(bytes(payload)), METADATA)
    else:
        with pytest.raises(CorruptionError, match="log entry 1 does not hold the rows"):
            replayed(log_holding(bytes(payload)), METADATA)


def mixed_payload(op_types: pa.Array, field_names: tuple[str, ...] = ("3",)) -> bytes:
    """Write a payload by hand whose rows say their own operations."""
    keys = {"__code": pa.array([0, 0], pa.int32()), "__time": pa.array([1, 2]), "__op": op_types}
    rows = pa.RecordBatch.from_pydict(keys | {name: pa.nulls(2, pa.int64()) for name in field_names})
    whole = payload_of(batch_of(METADATA, [put(1, 1), delete(2, 2)]))
    series_length = int.from_bytes(whole[24:32], "little")
    return whole[: 48 + series_length] + _stream(rows)


def _stream(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def test_an_operation_that_is_neither_is_corruption():
    assert replayed(log_holding(mixed_payload(pa.array([0, 1], pa.uint8()))), METADATA)

    for op_types, reason in [
        (pa.array([0, 2], pa.uint8()), "there is no operation 2"),
        (pa.array([0, None], pa.uint8()), "lacks its series, time or operation"),
        (pa.array([0, 1], pa.int8()), "should begin with"),
    ]:
        with pytest.raises(CorruptionError, match=reason):
            replayed(log_holding(mixed_payload(op_types)), METADATA)


@pytest.mark.parametrize("names", [("3", "03"), ("cpu",), ()])
def test_fields_that_are_not_told_apart_by_their_ids_are_corruption(names):
    with pytest.raises(CorruptionError, match="log entry 1 does not hold the rows"):
        replayed(log_holding(mixed_payload(pa.array([0, 1], pa.uint8()), names)), METADATA)


def test_an_entry_of_a_newer_format_asks_for_an_update():
    payload = b"\x03" + payload_of(batch_of(METADATA, [put(1, 1)]))[1:]

    with pytest.raises(ConfigError, match="format 3, newer than 2; update mitoframe"):
        replayed(log_holding(payload), METADATA)


def test_what_is_obsolete_is_not_replayed():
    wal = logged(METADATA, batch_of(METADATA, [put(1, 1)]), batch_of(METADATA, [put(2, 2)]))

    wal.obsolete(REGION, EntryId(1))

    assert replayed(wal, METADATA) == [(2, [put(2, 2)])]
