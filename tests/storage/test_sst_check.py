"""Each promise of an SST is seen to be broken, and none is where all are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, delete, file_id_of, metadata_of, put, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from values import COLUMNS, FIELD_TYPES, ROWS

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import Batch, OpType
from mitoframe.model.errors import UnavailableError
from mitoframe.model.file import FileMeta
from mitoframe.model.flaw import Flaw
from mitoframe.model.predicate import ColumnStats
from mitoframe.model.schema import RegionMetadata
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_bytes import block_checksums
from mitoframe.storage.sst_check import check_sst
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of()
KEY = sst_key(REGION, file_id_of("a"))
GOOD = [put(3, 10, "a", 1), put(2, 20, "a", 2), put(4, 5, "b", 3), put(5, 6, "b", None)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """Rows that say of themselves what is not so."""

    rows: Batch
    series: pa.RecordBatch

    def slices(self, rows_max: int) -> Iterator[Batch]:
        return self.rows.slices(rows_max)

    def fields_with_nulls(self) -> set[str]:
        return self.rows.fields_with_nulls()


def stored(
    rows: object, metadata: RegionMetadata = METADATA, row_group_rows: int = 2
) -> tuple[MemoryObjectStore, FileMeta]:
    store = MemoryObjectStore()
    file = write_sst(
        store,
        metadata,
        rows,  # type: ignore[arg-type]
        file_id=file_id_of("a"),
        level=1,
        row_group_rows=row_group_rows,
        created_ms=0,
    )
    return store, file


def given_rows(rows: Sequence[Row], metadata: RegionMetadata = METADATA) -> tuple[MemoryObjectStore, FileMeta]:
    """Store rows in the order given, whether it is the right one or not."""
    return stored(batch_of(metadata, rows), metadata)


def flaws(store: MemoryObjectStore, file: FileMeta, dedup: str = "last", metadata: RegionMetadata = METADATA):
    return check_sst(store, metadata, file, dedup).flaws  # type: ignore[arg-type]


def said(found: Sequence[Flaw]) -> list[tuple[str, str]]:
    return [(flaw.kind, flaw.what) for flaw in found]


def exchanged(store: MemoryObjectStore, file: FileMeta, data: bytes) -> FileMeta:
    """Store other bytes, and let the manifest have their checksums: only what they mean is wrong."""
    store.delete(KEY)
    store.put_if_absent(KEY, data)
    blocks = block_checksums(pa.py_buffer(data))
    return replace(file, size_bytes=len(data), checksum=google_crc32c.value(data), blocks=blocks)


def test_nothing_is_wrong_with_a_file_as_it_was_written() -> None:
    store, file = given_rows(GOOD)

    found = check_sst(store, METADATA, file, "last")

    assert found.flaws == ()
    assert (found.files, found.rows, found.size_bytes) == (1, 4, file.size_bytes)


def test_nothing_is_wrong_with_a_file_of_every_type() -> None:
    metadata = metadata_of(fields=FIELD_TYPES)
    rows = batch_of(metadata, [Row(n + 1, n, fields=(None,) * len(COLUMNS)) for n in range(ROWS)])
    fields = pa.RecordBatch.from_arrays(list(COLUMNS.values()), names=list(COLUMNS))
    store, file = stored(replace(rows, fields=fields), metadata, row_group_rows=3)

    assert flaws(store, file, metadata=metadata) == ()


def test_nothing_is_wrong_with_a_file_of_an_earlier_schema() -> None:
    store, file = given_rows(GOOD)

    assert flaws(store, file, metadata=with_field(METADATA, "load", pa.float64())) == ()


tags = st.one_of(st.none(), st.text(max_size=80), st.sampled_from(["a", "b"]))
numbers = st.one_of(st.none(), st.floats())


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(tags, st.integers(0, 3), numbers, st.sampled_from(OpType)), min_size=1, max_size=12),
    row_group_rows=st.integers(1, 5),
    dedup=st.sampled_from(["last", "merge", "none"]),
)
def test_nothing_is_wrong_with_any_rows_as_they_were_written(rows: list, row_group_rows: int, dedup: str) -> None:
    metadata = metadata_of(fields={"cpu": pa.float64()})
    batch = batch_of(metadata, [Row(n + 1, time, (tag,), (cpu,), op) for n, (tag, time, cpu, op) in enumerate(rows)])
    store, file = stored(sort_batches([batch], dedup), metadata, row_group_rows)

    assert flaws(store, file, dedup, metadata) == ()


@pytest.mark.parametrize("bit", [0, 5_000, 9_000, -1])
def test_a_flipped_bit_is_seen(bit: int) -> None:
    store, file = given_rows(GOOD)
    data = bytearray(store.get(KEY))
    data[bit % (8 * len(data)) // 8] ^= 1 << bit % 8
    store.delete(KEY)
    store.put_if_absent(KEY, bytes(data))

    [flaw] = flaws(store, file)

    assert (flaw.kind, flaw.grade, flaw.path, flaw.file_id) == ("file", "damage", KEY, file.file_id)
    assert "not those that were written" in flaw.what


def test_a_missing_file_and_one_that_was_cut_short_are_seen() -> None:
    store, file = given_rows(GOOD)
    data = store.get(KEY)
    store.delete(KEY)
    [missing] = flaws(store, file)
    store.put_if_absent(KEY, data[:-1])
    [short] = flaws(store, file)

    assert "it is missing" in missing.what
    assert "another size" in short.what


def test_the_whole_file_is_compared_also_where_its_blocks_are() -> None:
    metadata = metadata_of(fields={"cpu": pa.float64()})
    noise = np.random.default_rng(1).random(60_000)
    rows = batch_of(metadata, [Row(n + 1, n, ("a",), (float(value),)) for n, value in enumerate(noise)])
    store, file = stored(rows, metadata, 30_000)

    assert file.blocks
    assert flaws(store, file, metadata=metadata) == ()
    assert said(flaws(store, replace(file, checksum=file.checksum ^ 1), metadata=metadata))[0][0] == "file"


def test_storage_that_does_not_answer_says_nothing_about_the_file() -> None:
    class Away(MemoryObjectStore):
        def get_ranges(self, key, ranges):
            raise UnavailableError("away")

    store, file = given_rows(GOOD)
    away = Away()
    away.put_if_absent(KEY, store.get(KEY))

    with pytest.raises(UnavailableError):
        flaws(away, file)


@pytest.mark.parametrize(
    ("lie", "kind", "what"),
    [
        ({"row_count": 5}, "file", "rows: 5 by the manifest, 4 by the footer"),
        ({"row_group_count": 3}, "file", "row groups: 3 by the manifest, 2 by the footer"),
        ({"series_count": 1}, "file", "series: 1 by the manifest, 2 by the footer"),
        ({"schema_version": 2}, "file", "schema version: 2 by the manifest, 1 by the footer"),
        ({"delete_count": 1}, "rows", "deletes: 1 by the manifest, 0 by the rows"),
        ({"min_time": 4}, "rows", "first time: 4 by the manifest, 5 by the rows"),
        ({"max_time": 19}, "rows", "last time: 19 by the manifest, 20 by the rows"),
        ({"min_sequence": 3}, "rows", "a sequence is not from 3 to 5, as the manifest says"),
        ({"max_sequence": 4}, "rows", "a sequence is not from 2 to 4, as the manifest says"),
        (
            {"leading_tags": (ColumnStats(minimum="b", maximum="b", null_count=0, row_count=2),)},
            "file",
            "tag 'host' has other values than the manifest says",
        ),
        (
            {"leading_tags": (ColumnStats(minimum="a", maximum="b", null_count=1, row_count=2),)},
            "file",
            "tag 'host' has other values than the manifest says",
        ),
        (
            {"covers": '{"0":[["a","b"],[2,2]]}'},
            "file",
            "the values of tag 'host' cover other times than the manifest says",
        ),
    ],
)
def test_a_manifest_that_says_otherwise_is_seen(lie: dict, kind: str, what: str) -> None:
    store, file = given_rows(GOOD)

    assert (kind, what) in said(flaws(store, replace(file, **lie)))


def test_a_file_of_another_region_is_seen() -> None:
    store, file = given_rows(GOOD)
    other = metadata_of(region=type(REGION)(REGION + 1))
    store.put_if_absent(sst_key(other.region_id, file.file_id), store.get(KEY))

    assert any("region:" in flaw.what for flaw in flaws(store, file, metadata=other))


@pytest.mark.parametrize("row_group_rows", [1, 2, 9])
def test_rows_that_are_not_in_order_are_seen_also_between_row_groups(row_group_rows: int) -> None:
    rows = batch_of(METADATA, [put(1, 30, "a"), put(2, 20, "a")])
    store, file = stored(rows, row_group_rows=row_group_rows)

    assert ("rows", "rows are not in the order of series, time, newest first") in said(flaws(store, file))


@pytest.mark.parametrize(
    ("rows", "dedup", "expected"),
    [
        ([put(2, 10), put(1, 10)], "last", True),
        ([put(2, 10), put(1, 10)], "none", False),
        ([put(2, 10), delete(1, 10)], "merge", False),
        ([put(2, 10), delete(1, 10)], "last", True),
        ([delete(2, 10), put(1, 10)], "merge", True),
        ([delete(2, 10), delete(1, 10)], "merge", True),
        ([put(2, 10), put(1, 10)], "merge", True),
        ([put(1, 10), put(2, 11)], "last", False),
    ],
)
def test_a_key_that_is_there_twice_is_seen_where_the_table_has_it_once(
    rows: list[Row], dedup: str, expected: bool
) -> None:
    store, file = given_rows(rows)

    found = said(flaws(store, file, dedup))

    assert found == ([("rows", "a key is there twice")] if expected else [])


def test_older_rows_of_a_key_before_newer_ones_are_not_in_order() -> None:
    store, file = given_rows([put(1, 10), put(2, 10)])

    assert said(flaws(store, file, "none")) == [("rows", "rows are not in the order of series, time, newest first")]


def test_tags_that_say_otherwise_than_the_table_of_series_are_seen() -> None:
    rows = batch_of(METADATA, GOOD)
    store, file = stored(Lying(rows=rows, series=pa.record_batch({"host": ["a", "c"]})))

    assert said(flaws(store, file)) == [("rows", "tag 'host' says otherwise than the table of series")]


@pytest.mark.parametrize("hosts", [["b", "a"], ["a", "a"]])
def test_a_table_of_series_that_is_not_in_order_is_seen(hosts: list[str]) -> None:
    rows = batch_of(METADATA, GOOD)
    series = pa.record_batch({"host": hosts})
    store, file = stored(Lying(rows=replace(rows, series=series), series=series))

    assert ("file", "the table of series is not in order, or has one of them twice") in said(flaws(store, file))


def test_a_nan_that_the_manifest_does_not_know_of_is_seen() -> None:
    metadata = metadata_of(fields={"cpu": pa.float64()})
    store, file = given_rows([Row(1, 1, ("a",), (float("nan"),))], metadata)
    unknown, denied = replace(file, nan_columns=None), replace(file, nan_columns=())

    assert flaws(store, file, metadata=metadata) == ()
    assert flaws(store, unknown, metadata=metadata) == ()
    assert said(flaws(store, denied, metadata=metadata)) == [
        ("statistics", "column 'cpu' holds a NaN, and the manifest says that it does not")
    ]


@pytest.mark.parametrize(
    ("column", "fields", "true", "lie"),
    [
        ("cpu", (7777,), (7777).to_bytes(8, "little"), (7776).to_bytes(8, "little")),
        ("cpu", (-7777,), (-7777).to_bytes(8, "little", signed=True), (-7776).to_bytes(8, "little", signed=True)),
        ("ts", (1,), (123_456).to_bytes(8, "little"), (123_455).to_bytes(8, "little")),
        ("host", (1,), b"zzz", b"zza"),
    ],
)
def test_statistics_that_do_not_hold_are_seen(column: str, fields: tuple, true: bytes, lie: bytes) -> None:
    rows = [Row(1, 5, ("m",), (0,)), Row(2, 123_456, ("zzz",), fields)]
    store, file = given_rows(rows)
    data = store.get(KEY)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert true in data[footer:]

    file = exchanged(store, file, data[:footer] + data[footer:].replace(true, lie))

    assert said(flaws(store, file)) == [
        ("statistics", f"statistics of column {column!r} do not hold in row group 0"),
    ]


def test_what_is_wrong_with_many_row_groups_is_told_once() -> None:
    store, file = given_rows([put(n, 100 - n) for n in range(1, 20)])

    assert said(flaws(store, file)) == [("rows", "rows are not in the order of series, time, newest first")]
