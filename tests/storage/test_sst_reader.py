from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from builders import HOST, REGION, Row, batch_of, delete, file_id_of, metadata_of, newest, put, rows_of, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, FIELD_TYPES, ROWS, same_bits

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import Batch
from mitoframe.model.errors import ConfigError, CorruptionError
from mitoframe.model.file import FileMeta
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, IsNull, Not, Opaque, matching
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN, RegionMetadata
from mitoframe.storage import sst_reader
from mitoframe.storage.cache import Cache
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import RowGroup, SstReader, packed, unpacked
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of()
KEY = sst_key(REGION, file_id_of("a"))


def write(metadata: RegionMetadata, batch: Batch, row_group_rows: int = 2) -> tuple[MemoryObjectStore, FileMeta]:
    store = MemoryObjectStore()
    file = write_sst(
        store,
        metadata,
        sort_batches([batch]),
        file_id=file_id_of("a"),
        level=0,
        row_group_rows=row_group_rows,
        created_ms=0,
    )
    return store, file


def holding(data: bytes) -> MemoryObjectStore:
    store = MemoryObjectStore()
    store.put_if_absent(KEY, data)
    return store


def read_all(reader: SstReader, metadata: RegionMetadata, file: FileMeta) -> Batch:
    return reader.read(metadata, file, range(file.row_group_count), [field.name for field in metadata.fields])


@pytest.fixture(scope="module")
def small() -> tuple[bytes, FileMeta]:
    store, file = write(METADATA, batch_of(METADATA, [put(1, 1), put(2, 2, None), put(3, 3, "b"), delete(4, 5)]))
    return store.get(KEY), file


# --- rows -----------------------------------------------------------------------------------------------

rows = st.lists(
    st.tuples(st.integers(-5, 5), st.sampled_from([None, "", "a", "ß", "long" * 20]), st.none() | st.integers(-9, 9)),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(1, 7), st.data())
def test_any_row_groups_are_read_as_the_rows_they_hold(drawn, row_group_rows, data):
    written = [put(n, time, host, cpu) for n, (time, host, cpu) in enumerate(drawn, start=1)]
    store, file = write(METADATA, batch_of(METADATA, written), row_group_rows)
    wanted = newest(written)
    groups = data.draw(st.lists(st.integers(0, file.row_group_count - 1), unique=True).map(sorted))

    batch = SstReader(store).read(METADATA, file, groups, ["cpu"])

    parts = [wanted[group * row_group_rows : (group + 1) * row_group_rows] for group in groups]
    assert rows_of(batch) == [row for part in parts for row in part]


def test_every_kept_type_is_read_bit_by_bit():
    metadata = metadata_of(fields=FIELD_TYPES)
    numbers = batch_of(metadata, [Row(n + 1, n, fields=(None,) * len(COLUMNS)) for n in range(ROWS)])
    fields = pa.RecordBatch.from_arrays(list(COLUMNS.values()), names=list(COLUMNS))
    store, file = write(metadata, Batch(**{n: getattr(numbers, n) for n in numbers.__slots__} | {"fields": fields}))

    found = read_all(SstReader(store), metadata, file)

    assert [name for name in COLUMNS if not same_bits(found.fields.column(name), COLUMNS[name])] == []
    assert found.fields.schema.names == list(COLUMNS)


@pytest.mark.parametrize(
    ("metadata", "keys"),
    [(metadata_of({}), [(), ()]), (metadata_of(HOST, {}), [("a",), (None,)]), (metadata_of({}, {}), [(), ()])],
)
def test_a_region_without_tags_or_fields_is_read_too(metadata, keys):
    written = [Row(n + 1, n, key, (n,) if metadata.fields else ()) for n, key in enumerate(keys)]
    store, file = write(metadata, batch_of(metadata, written), row_group_rows=1)

    assert rows_of(read_all(SstReader(store), metadata, file)) == newest(written)


@pytest.mark.parametrize("tag_type", [pa.int8(), pa.uint64(), pa.bool_(), pa.date32()], ids=str)
def test_tags_that_are_no_strings_are_read_too(tag_type):
    metadata = metadata_of({"tag": tag_type})
    values = pa.array([1, None, 0], pa.int64()).cast(pa.int32()).cast(tag_type).to_pylist()
    written = [Row(n + 1, n, (value,)) for n, value in enumerate(values)]
    store, file = write(metadata, batch_of(metadata, written))

    assert rows_of(read_all(SstReader(store), metadata, file)) == newest(written)


def test_fields_are_read_in_the_order_asked_for_and_no_others():
    metadata = metadata_of(fields={"x": pa.int64(), "y": pa.string(), "x.y": pa.bool_()})
    store, file = write(metadata, batch_of(metadata, [Row(1, 1, fields=(5, "five", True))]))
    reader = SstReader(store)

    for names, wanted in [(["y", "x"], ("five", 5)), (["x.y"], (True,)), (["x"], (5,)), ([], ())]:
        [row] = rows_of(reader.read(metadata, file, [0], names))
        assert row.fields == wanted


@pytest.mark.parametrize("tail_bytes", [8, 100, 1_000, 1 << 16])
def test_a_file_is_opened_however_little_of_its_end_is_read_at_first(tail_bytes, monkeypatch):
    metadata = metadata_of(HOST)
    batch = batch_of(metadata, [put(0, time, f"h{time:02}") for time in range(40)])
    store, file = write(metadata, batch)
    monkeypatch.setattr(sst_reader, "_TAIL_BYTES", tail_bytes)

    footer = SstReader(store).footer(metadata, file)

    assert footer.parquet.num_row_groups == file.row_group_count == 20
    assert footer.series.column("host").to_pylist() == [f"h{time:02}" for time in range(40)]
    assert footer.metadata == metadata


def test_no_row_groups_are_no_rows(small):
    data, file = small

    batch = SstReader(holding(data)).read(METADATA, file, [], ["cpu"])

    assert (len(batch), batch.fields.num_rows) == (0, 0)
    assert batch.fields.schema.names == ["cpu"]


def test_a_field_that_was_added_later_is_null(small):
    data, file = small
    metadata = with_field(METADATA, "mem", pa.list_(pa.float32()).value_type)

    found = read_all(SstReader(holding(data)), metadata, file)

    assert found.fields.schema == pa.schema({"cpu": pa.int64(), "mem": pa.float32()})
    assert found.fields.column("mem").null_count == 4
    assert found.fields.column("cpu").to_pylist() == [0, 0, None, 0]


def test_a_field_that_was_dropped_is_not_looked_for(small):
    data, file = small

    assert read_all(SstReader(holding(data)), metadata_of(HOST, {}), file).fields.num_columns == 0


def test_row_groups_of_a_file_without_the_field_are_never_skipped_by_it(small):
    data, file = small
    metadata = with_field(METADATA, "mem", pa.float32())

    groups = SstReader(holding(data)).matching_row_groups(metadata, file, IsNull("mem"))

    assert groups == [0, 1]


# --- row groups, as they are kept ----------------------------------------------------------------------


class CountingStore(MemoryObjectStore):
    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[int, int]] = []

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.ranges.append((start, length))
        return super().get_range(key, start, length)


def written_to(
    store: MemoryObjectStore, metadata: RegionMetadata, written: list[Row], row_group_rows: int = 2, *, name: str = "a"
) -> FileMeta:
    return write_sst(
        store,
        metadata,
        sort_batches([batch_of(metadata, written)]),
        file_id=file_id_of(name),
        level=0,
        row_group_rows=row_group_rows,
        created_ms=0,
    )


def fields_of(group: RowGroup) -> pa.RecordBatch:
    return group.fields(group.stored)


def reader_of(store: MemoryObjectStore, budget_bytes: int = 1 << 20) -> SstReader:
    return SstReader(store, Cache(budget_bytes))


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(1, 7), st.sampled_from([0, 1500, 1 << 20]), st.data())
def test_any_columns_of_any_row_group_are_read_as_they_are_whatever_is_kept(drawn, row_group_rows, budget_bytes, data):
    metadata = metadata_of(HOST, {"cpu": pa.int64(), "note": pa.string()})
    written = [Row(n, time, (host,), (cpu, host)) for n, (time, host, cpu) in enumerate(drawn, start=1)]
    store, file = write(metadata, batch_of(metadata, written), row_group_rows)
    reader = reader_of(store, budget_bytes)
    groups = [newest(written)[start : start + row_group_rows] for start in range(0, file.row_count, row_group_rows)]
    asked: set[int] = set()
    to_be_kept: set[tuple[int, str]] = set()

    for _ in range(6):
        number = data.draw(st.integers(0, file.row_group_count - 1))
        names = data.draw(st.permutations(["cpu", "note"]).flatmap(lambda some: st.sampled_from([some, some[:1], []])))
        internal = data.draw(
            st.sampled_from([(), (SEQUENCE_COLUMN,), (OP_TYPE_COLUMN,), (OP_TYPE_COLUMN, SEQUENCE_COLUMN)])
        )

        found = reader.row_group(metadata, file, number, names, internal)

        assert found.times.tolist() == [row.time for row in groups[number]]
        assert (found.times.dtype, fields_of(found).num_rows) == (np.int64, len(groups[number]))
        assert fields_of(found).schema.names == list(names)
        for name in names:
            assert fields_of(found).column(name).to_pylist() == [row.fields[name == "note"] for row in groups[number]]
        assert (found.sequences is not None, found.op_types is not None) == (
            SEQUENCE_COLUMN in internal,
            OP_TYPE_COLUMN in internal,
        )
        if found.sequences is not None:
            assert found.sequences.tolist() == [row.sequence for row in groups[number]]
        if found.op_types is not None:
            assert found.op_types.tolist() == [row.op_type for row in groups[number]]
        assert found.kept + found.read == 1 + len(names) + len(internal)
        assert bool(found.read) == bool(found.bytes_read)
        wanted = {(number, name) for name in (metadata.time.name, *names, *internal)}
        if budget_bytes == 1 << 20:
            assert found.kept == len(wanted & to_be_kept)
        else:
            assert found.kept <= bool(budget_bytes) * len(wanted & to_be_kept)
        to_be_kept |= wanted if number in asked else set()
        asked.add(number)


def test_a_column_is_kept_when_its_row_group_is_asked_for_again_and_not_read_from_then_on():
    written = [put(n, n, f"h{n % 3}", n) for n in range(1, 41)]
    store = CountingStore()
    file = written_to(store, METADATA, written, row_group_rows=10)
    reader = reader_of(store)
    first = reader.row_group(METADATA, file, 2, ["cpu"], [SEQUENCE_COLUMN])
    assert reader.cache.entry_count == 1, "the footer alone"
    second = reader.row_group(METADATA, file, 2, ["cpu"], [SEQUENCE_COLUMN])
    store.ranges.clear()

    third = reader.row_group(METADATA, file, 2, ["cpu"], [SEQUENCE_COLUMN])
    assert store.ranges == []
    more = reader.row_group(METADATA, file, 2, ["cpu"], [SEQUENCE_COLUMN, OP_TYPE_COLUMN])

    assert [(each.read, each.kept) for each in (first, second, third, more)] == [(3, 0), (3, 0), (0, 3), (1, 3)]
    assert fields_of(first).equals(fields_of(third))
    assert 0 < sum(length for _, length in store.ranges) < 300, "of the one column alone"


def test_a_row_group_is_kept_for_what_was_asked_of_itself_alone():
    written = [put(n, n, "a", n) for n in range(1, 31)]
    store, file = write(METADATA, batch_of(METADATA, written), row_group_rows=10)
    reader = reader_of(store)

    found = [reader.row_group(METADATA, file, number, ["cpu"]) for number in (0, 1, 2, 1, 0, 1)]

    assert [each.read for each in found] == [2, 2, 2, 2, 2, 0]


def test_what_is_kept_of_a_file_goes_with_it():
    store, file = write(METADATA, batch_of(METADATA, [put(1, 1), put(2, 2)]))
    reader = reader_of(store)
    for _ in range(2):
        reader.row_group(METADATA, file, 0, ["cpu"])
    assert reader.cache.entry_count == 3

    reader.forget(file.file_id)

    assert reader.cache.entry_count == 0
    assert not reader.was_asked(file, 0)
    store.delete(KEY)
    with pytest.raises(CorruptionError, match="it is missing"):
        reader.row_group(METADATA, file, 0, ["cpu"])


@pytest.mark.parametrize(
    ("budget_bytes", "file_count", "opened_again"), [(0, 4, False), (0, 5, True), (1 << 20, 5, False)]
)
def test_footers_that_the_cache_has_no_room_for_are_read_again_only_after_some_others(
    budget_bytes, file_count, opened_again
):
    store = CountingStore()
    files = [written_to(store, METADATA, [put(1, 1, name)], name=name) for name in "abcde"[:file_count]]
    reader = reader_of(store, budget_bytes)
    for file in files:
        reader.footer(METADATA, file)
    store.ranges.clear()

    again = [reader.footer(METADATA, file) for file in files[::-1] * 2]

    assert bool(store.ranges) == opened_again
    assert [footer.series.column("host").to_pylist() for footer in again] == [
        [name] for name in "edcba"[-file_count:]
    ] * 2


def test_a_footer_that_the_cache_has_no_room_for_goes_with_its_file():
    store, file = write(METADATA, batch_of(METADATA, [put(1, 1)]))
    reader = reader_of(store, 0)
    reader.footer(METADATA, file)
    store.delete(KEY)
    assert len(reader.footer(METADATA, file).series) == 1

    reader.forget(file.file_id)

    with pytest.raises(CorruptionError, match="it is missing"):
        reader.footer(METADATA, file)


def test_what_is_kept_is_what_the_file_says_and_fitted_to_the_schema_at_hand_each_time():
    store, file = write(METADATA, batch_of(METADATA, [put(1, 1, cpu=7), put(2, 2, cpu=None)]))
    reader = reader_of(store)
    wider = replace(
        METADATA,
        schema_version=2,
        columns=tuple(
            replace(column, type=pa.float64()) if column.name == "cpu" else column for column in METADATA.columns
        ),
    )

    found = [reader.row_group(metadata, file, 0, ["cpu"]) for metadata in (METADATA, wider, METADATA, wider)]

    assert [each.read for each in found] == [2, 2, 0, 0]
    assert [fields_of(each).column("cpu").to_pylist() for each in found] == [[7, None], [7.0, None]] * 2
    assert [fields_of(each).schema.field("cpu").type for each in found] == [pa.int64(), pa.float64()] * 2


def test_a_field_that_is_in_the_schema_only_is_not_looked_for_in_the_file():
    store, file = write(METADATA, batch_of(METADATA, [put(1, 1), put(2, 2)]))
    metadata = with_field(METADATA, "mem", pa.float32())

    found = reader_of(store).row_group(metadata, file, 0, ["mem", "cpu"])

    assert fields_of(found).column("mem").to_pylist() == [None, None]
    assert found.read == 2


def test_sequences_count_from_the_files_base():
    store, file = write(METADATA, batch_of(METADATA, [put(1, 1), put(2, 2)]))

    found = reader_of(store).row_group(METADATA, replace(file, sequence_base=100), 0, [], [SEQUENCE_COLUMN])

    assert found.sequences is not None
    assert found.sequences.tolist() == [101, 102]


def test_how_much_is_to_be_decoded_is_told_before_it_is():
    written = [put(n, n, "a", n) for n in range(1, 26)]
    store, file = write(METADATA, batch_of(METADATA, written), row_group_rows=10)
    reader = reader_of(store)

    told = []
    for _ in range(3):
        told.append(reader.cells_to_decode(METADATA, file, [0, 2], ["cpu"], [OP_TYPE_COLUMN]))
        reader.row_group(METADATA, file, 2, ["cpu"])

    assert told == [3 * 15, 3 * 15, 3 * 10 + 5]


def test_threads_share_what_is_kept():
    written = [put(n, n, f"h{n % 3}", n) for n in range(1, 101)]
    store, file = write(METADATA, batch_of(METADATA, written), row_group_rows=10)
    reader = reader_of(store, 4000)

    def read(seed: int) -> bool:
        for step in range(40):
            number = (seed + step * 3) % file.row_group_count
            group = reader.row_group(METADATA, file, number, ["cpu"], [SEQUENCE_COLUMN])
            assert group.sequences is not None
            assert fields_of(group).column("cpu").to_pylist() == group.sequences.tolist()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_what_is_kept_packed_is_found_as_it_was_read():
    written = [put(n, n, "a", n % 5 or None) for n in range(1, 31)]
    store, file = write(METADATA, batch_of(METADATA, written), row_group_rows=10)
    reader = reader_of(store)

    found = [reader.row_group(METADATA, file, 1, ["cpu"], [SEQUENCE_COLUMN]) for _ in range(3)]

    assert [group.read for group in found] == [3, 3, 0]
    for group in found:
        assert fields_of(group).column("cpu").to_pylist() == [row.fields[0] for row in written[10:20]]
        assert (group.times.tolist(), group.times.dtype) == (list(range(11, 21)), np.int64)
        assert group.sequences is not None
        assert group.sequences.tolist() == list(range(11, 21))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("repeats", [1, 200])
def test_a_packed_column_is_unpacked_bit_by_bit(name, repeats):
    column = pa.concat_arrays([COLUMNS[name]] * repeats)

    for some in (column, column.slice(1, len(column) - 2), column.slice(0, 0), pa.nulls(5, column.type)):
        kept = packed(some)
        again = unpacked(kept)
        assert again.type == some.type
        assert same_bits(again, some)


def test_numbers_that_are_few_take_a_byte_each_and_others_stay_as_they_are():
    few = pa.array([0.0, -0.0, math.nan, 1.5, None] * 1000)
    many = pa.array(range(5000))
    late = pa.array([0] * 2000 + list(range(3000)))

    assert pa.types.is_dictionary(packed(few).type)
    assert packed(few).get_total_buffer_size() < few.get_total_buffer_size() / 6
    assert packed(many) is many
    assert packed(late) is late


@pytest.mark.parametrize(
    ("values", "listed"),
    [
        ([7.0, 3.0, 4.0, None], [3.0, 4.0, 5.0, 6.0, 7.0]),
        ([2.5, -1.0, math.inf, 0.0], [-1.0, 0.0, 2.5, math.inf]),
        ([9, -2, 9, 1], list(range(-2, 10))),
        ([2**63 - 1, -(2**63), 0], [-(2**63), 0, 2**63 - 1]),
        ([300.0, 1.0, 0.0], [0.0, 1.0, 300.0]),
    ],
    ids=["whole and close", "of any kind", "integers", "far integers", "far"],
)
def test_packed_numbers_are_listed_in_order_and_whole_ones_without_a_gap(values, listed):
    kept = packed(pa.array(values))

    assert kept.dictionary.to_pylist() == listed
    assert unpacked(kept).to_pylist() == values


# --- pruning --------------------------------------------------------------------------------------------


def hosts_file() -> tuple[SstReader, FileMeta]:
    """Row groups: (None, a), (b, c), (d, d)."""
    written = [put(n + 1, n * 10, host, n) for n, host in enumerate([None, "a", "b", "c", "d", "d"])]
    store, file = write(METADATA, batch_of(METADATA, written))
    return SstReader(store), file


@pytest.mark.parametrize(
    ("predicate", "groups"),
    [
        (ALWAYS, [0, 1, 2]),
        (Compare("host", "==", "c"), [1]),
        (Compare("host", ">", "b"), [1, 2]),
        (Compare("host", "==", "zz"), []),
        (IsIn("host", ("a", "d")), [0, 2]),
        (IsNull("host"), [0]),
        (Compare("ts", ">=", 40), [2]),
        (Compare("ts", "<", 20), [0]),
        (And((Compare("ts", ">=", 15), Compare("ts", "<", 35))), [1]),
        (Compare("cpu", "==", 5), [2]),
        (Not(Compare("host", "==", "c")), [0, 1, 2]),
        (Opaque(), [0, 1, 2]),
    ],
    ids=repr,
)
def test_row_groups_that_cannot_match_are_skipped(predicate, groups):
    reader, file = hosts_file()

    assert reader.matching_row_groups(METADATA, file, predicate) == groups


def test_a_field_named_like_the_items_of_a_list_is_not_taken_for_them():
    metadata = metadata_of(fields={"x.list.element": pa.int64(), "x": pa.list_(pa.int64())})
    store, file = write(metadata, batch_of(metadata, [Row(1, 1, fields=(5, [100]))]))

    assert SstReader(store).matching_row_groups(metadata, file, Compare("x.list.element", "==", 5)) == [0]


PROBES: dict[str, list[Any]] = {
    "bool": [True, False],
    "float32": [0, 0.0, -0.0, 1, 1.5, math.inf],
    "float64": [0, 0.0, 1, -math.inf, math.nan],
    "timestamp_ms": [0, datetime(1970, 1, 1)],
    "timestamp_us_utc": [0, 1],
    "timestamp_ns_paris": [0, 2**62],
    "duration_ms": [0, timedelta(0)],
    "time_us": [time(0), time(0, 0, 0, 1), time(23, 59, 59, 999_999)],
    "time_ns": [time(0), time(0, 0, 0, 1), time(23, 59, 59, 999_999)],
}


@pytest.mark.parametrize("name", [name for name, column in COLUMNS.items() if not pa.types.is_nested(column.type)])
@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
def test_no_row_group_with_a_matching_value_of_any_type_is_skipped(name, operator):
    column = COLUMNS[name]
    metadata = metadata_of(fields={name: column.type})
    numbers = batch_of(metadata, [Row(n + 1, n, fields=(None,)) for n in range(ROWS)])
    fields = pa.RecordBatch.from_arrays([column], names=[name])
    batch = Batch(**{n: getattr(numbers, n) for n in numbers.__slots__} | {"fields": fields})
    store, file = write(metadata, batch, row_group_rows=2)
    reader = SstReader(store)

    probes = PROBES.get(name) or [value for value in column.to_pylist() if value is not None]
    for value in probes:
        predicate = Compare(name, operator, value)
        rows = np.flatnonzero(pc.fill_null(matching(predicate, fields), False))
        wanted = {int(row) // 2 for row in rows}
        assert wanted <= set(reader.matching_row_groups(metadata, file, predicate)), value


# --- damage ---------------------------------------------------------------------------------------------


def test_any_flipped_byte_is_corruption_that_names_the_file(small):
    data, file = small

    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        with pytest.raises(CorruptionError, match=r"the file's bytes are not those") as caught:
            read_all(SstReader(holding(damaged)), METADATA, file)
        assert caught.value.path == KEY


def test_any_other_length_is_corruption_that_names_the_file(small):
    data, file = small

    for size in [*range(len(data)), len(data) + 1]:
        with pytest.raises(CorruptionError, match="the file has another size") as caught:
            read_all(SstReader(holding((data + b"\0")[:size])), METADATA, file)
        assert caught.value.path == KEY


def test_a_missing_file_is_corruption_that_names_it(small):
    _, file = small

    with pytest.raises(CorruptionError, match="the manifest lists this file, but it is missing") as caught:
        read_all(SstReader(MemoryObjectStore()), METADATA, file)
    assert caught.value.path == KEY


def test_damage_after_the_file_was_opened_is_never_returned_as_rows(small):
    data, file = small
    wanted = rows_of(read_all(SstReader(holding(data)), METADATA, file))
    found_damaged = 0

    for place in range(0, len(data), 7):
        store = holding(data)
        reader = SstReader(store)
        reader.footer(METADATA, file)
        store.delete(KEY)
        store.put_if_absent(KEY, data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            assert rows_of(read_all(reader, METADATA, file)) == wanted
        except CorruptionError:
            found_damaged += 1

    assert found_damaged > 30


def test_a_file_that_vanishes_after_it_was_opened_is_corruption(small):
    data, file = small
    store = holding(data)
    reader = SstReader(store)
    reader.footer(METADATA, file)

    store.delete(KEY)

    with pytest.raises(CorruptionError, match="the manifest lists this file, but it is missing"):
        read_all(reader, METADATA, file)


def resealed(file: FileMeta, data: bytes) -> tuple[MemoryObjectStore, FileMeta]:
    """Describe other bytes as what was written, as a newer mitoframe or a foreign hand might."""
    facts = file.to_json() | {"size_bytes": len(data), "checksum": google_crc32c.value(data)}
    return holding(data), FileMeta.from_json(facts)


def test_a_file_of_a_newer_format_asks_for_an_update(small):
    data, file = small
    newer = data.replace(b'{"format": 1, "metadata"', b'{"format": 2, "metadata"')
    assert newer != data

    store, file = resealed(file, newer)

    with pytest.raises(ConfigError, match="SST format 2, newer than 1; update mitoframe"):
        read_all(SstReader(store), METADATA, file)


def test_a_parquet_file_that_is_no_sst_is_corruption(small):
    _, file = small
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"ts": [1]}), sink)

    for data in (sink.getvalue().to_pybytes(), b"", b"PAR1PAR1"):
        store, other = resealed(file, data)
        with pytest.raises(CorruptionError, match="not an SST that this mitoframe can read"):
            read_all(SstReader(store), METADATA, other)


def test_a_series_index_that_is_not_the_files_own_is_corruption(small):
    data, file = small
    offset = int(pq.ParquetFile(pa.BufferReader(data)).metadata.metadata[b"mitoframe.series"].split(b",")[0])

    store, file = resealed(file, data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])

    with pytest.raises(CorruptionError, match="the series index does not match its checksum"):
        read_all(SstReader(store), METADATA, file)


# --- opening --------------------------------------------------------------------------------------------


def test_a_file_is_read_whole_once_and_in_parts_from_then_on():
    written = [put(n, n * n, f"h{n % 50}", n * 7919) for n in range(1, 2001)]
    store = CountingStore()
    file = written_to(store, METADATA, written, row_group_rows=100)
    reader = SstReader(store)

    reader.read(METADATA, file, [0], ["cpu"])
    opening = sum(length for _, length in store.ranges)
    store.ranges.clear()
    reader.read(METADATA, file, [3], ["cpu"])

    assert opening >= file.size_bytes
    assert 0 < sum(length for _, length in store.ranges) < file.size_bytes / 10


def test_a_footer_that_was_pushed_out_is_read_again(small):
    data, file = small

    reader = SstReader(holding(data), Cache(0))

    assert len(read_all(reader, METADATA, file)) == len(read_all(reader, METADATA, file)) == 4


def test_the_last_idle_reader_may_be_taken_by_another_thread_at_the_last_moment(small):
    data, file = small
    reader = SstReader(holding(data))
    footer = reader.footer(METADATA, file)
    just_taken = type("JustTaken", (deque,), {"__bool__": lambda _: True})()
    object.__setattr__(footer, "idle", just_taken)

    assert len(reader.row_group(METADATA, file, 0, ["cpu"]).times)
    assert len(just_taken) == 1, "what was opened instead is idle now"
