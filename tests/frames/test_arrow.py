"""What a frame becomes before the log sees it: series, exact values, own memory, or an error that names the row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.frames import arrow
from mitoframe.ingest import to_table
from mitoframe.model.batch import Batch, OpType
from mitoframe.model.errors import InvalidInputError, SchemaMismatchError
from mitoframe.model.ids import region_id
from mitoframe.model.schema import RegionMetadata, build_metadata

TIME = pa.timestamp("us")


def metadata_of(
    columns: dict[str, pa.DataType], tags: tuple[str, ...] = (), time: pa.DataType = TIME
) -> RegionMetadata:
    return build_metadata(region_id(1, 0), pa.schema({"ts": time, **columns}), time="ts", tags=list(tags))


def with_time(columns: dict[str, Any], rows: int) -> pa.Table:
    return pa.table({"ts": pa.array(range(rows), TIME), **columns})


def batch_of(kept: pa.DataType, given: Any) -> Batch:
    return arrow.to_batch(metadata_of({"x": kept}), arrow.to_table(with_time({"x": given}, len(given))))


def kept_values(kept: pa.DataType, given: Any) -> list[Any]:
    values: list[Any] = batch_of(kept, given).fields.column("x").to_pylist()
    return values


# --- series --------------------------------------------------------------------------------------------

TAG_VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.sampled_from(["", "a", "aa", "eu-west-1a", "eu-west-1b", "a\0", "é", "longer than one word"]),
    pa.large_string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    pa.string_view(): st.sampled_from(["", "a", "twelve bytes", "thirteen bytes", "thirteen bytez"]),
    pa.int64(): st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]),
    pa.uint8(): st.integers(0, 3),
    pa.bool_(): st.booleans(),
    pa.date32(): st.sampled_from([date(1970, 1, 1), date(1969, 12, 31)]),
}


@st.composite
def tag_tables(draw: Callable[[Any], Any]) -> tuple[pa.Table, list[tuple[Any, ...]]]:
    """Tags free, constant, or following from one that may come after; encoded or not, in one chunk or more."""
    size = draw(st.integers(0, 30))
    names = [f"tag{number}" for number in range(draw(st.integers(0, 12)))]
    group = draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    columns, rows = {}, []
    for name in names:
        kind = draw(st.sampled_from(list(TAG_VALUES)))
        value = st.none() | TAG_VALUES[kind]
        by_group = draw(st.lists(value, min_size=5, max_size=5))
        values = [by_group[number] for number in group]
        if values and draw(st.booleans()):
            values[draw(st.integers(0, size - 1))] = draw(value)
        if draw(st.booleans()):
            values = draw(st.permutations(values))
        array = pa.array(values, kind)
        columns[name] = array.dictionary_encode() if draw(st.booleans()) and kind != pa.string_view() else array
        rows.append(values)
    table = with_time(columns, size)
    if draw(st.booleans()):
        cut = draw(st.integers(0, size))
        table = pa.concat_tables([table.slice(0, cut), table.slice(0, 0), table.slice(cut)])
    return table, list(zip(*rows, strict=True)) if rows else [()] * size


@given(tag_tables())
@settings(deadline=None, max_examples=120)
def test_series_are_the_distinct_tag_tuples_in_order_of_appearance(
    drawn: tuple[pa.Table, list[tuple[Any, ...]]],
) -> None:
    table, tuples = drawn
    tags = tuple(table.column_names[1:])

    batch = arrow.to_batch(build_metadata(region_id(1, 0), table.schema, time="ts", tags=list(tags)), table)

    known: dict[tuple[Any, ...], int] = {}
    codes = [known.setdefault(tuple_, len(known)) for tuple_ in tuples]
    assert batch.codes.tolist() == codes
    assert [tuple(row[tag] for tag in tags) for row in batch.series.to_pylist()] == (
        list(known) if tags else [()] * len(batch.series)
    )


@pytest.mark.parametrize("start", [0, 1, 7, 8, 9])
def test_a_slice_takes_part_with_its_own_rows_only(start: int) -> None:
    hosts = pa.array([None if row % 5 == 0 else f"host_{row // 2}" for row in range(40)], pa.large_string())
    region = pa.array([None if row % 5 == 0 else "eu" for row in range(40)], pa.large_string())
    table = with_time({"host": hosts, "region": region}, 40).slice(start, 20)

    batch = arrow.to_batch(metadata_of({"host": pa.string(), "region": pa.string()}, ("host", "region")), table)

    found = batch.series.take(pa.array(batch.codes)).to_pylist()
    assert found == table.select(["host", "region"]).to_pylist()


def test_a_slice_is_not_judged_by_the_rows_before_it() -> None:
    values = pa.array(["a"] * 5 + ["a", "b", "a", "b", "a"], pa.large_string())
    table = with_time({"region": pa.array(["eu"] * 10, pa.large_string()), "host": values}, 10).slice(5)

    batch = arrow.to_batch(metadata_of({"region": pa.string(), "host": pa.string()}, ("region", "host")), table)

    assert batch.codes.tolist() == [0, 1, 0, 1, 0]


def test_a_dictionary_that_holds_null_and_a_value_twice_makes_one_series_of_each() -> None:
    untidy = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None, 3]), pa.array(["a", None, "a", "unused"]))

    batch = arrow.to_batch(metadata_of({"host": pa.string()}, ("host",)), with_time({"host": untidy}, 5))

    assert batch.codes.tolist() == [0, 1, 0, 1, 2]
    assert batch.series.column("host").to_pylist() == ["a", None, "unused"]


@pytest.mark.parametrize("at", range(12))
def test_one_different_row_among_many_makes_a_series_of_its_own(at: int) -> None:
    rows = 5000
    tags = {f"tag{number}": pa.array([f"value of {number}"] * rows) for number in range(12)}
    odd = [f"value of {at}"] * rows
    odd[-1] = f"value oF {at}"
    table = with_time(tags | {f"tag{at}": pa.array(odd)}, rows)

    batch = arrow.to_batch(metadata_of(dict.fromkeys(tags, pa.string()), tuple(tags)), table)

    assert batch.codes.tolist() == [0] * (rows - 1) + [1]


# --- memory --------------------------------------------------------------------------------------------

Frame = Callable[[np.ndarray[Any, Any]], Any]


def arrow_frame(values: np.ndarray[Any, Any]) -> pa.Table:
    return with_time({"x": pa.array(values)}, len(values))


def pandas_frame(values: Any) -> pd.DataFrame:
    return pd.DataFrame({"ts": pd.to_datetime(range(len(values))), "x": values}, copy=False)


def masked(values: np.ndarray[Any, Any]) -> pd.DataFrame:
    none = np.zeros(len(values), np.bool_)
    return pandas_frame(pd.arrays.FloatingArray(values, none) if values.dtype.kind == "f" else values)


SHARING: dict[str, Frame] = {
    "arrow": arrow_frame,
    "arrow and an empty chunk": lambda x: pa.concat_tables([arrow_frame(x), arrow_frame(x[:0])]),
    "polars of arrow": lambda x: pl.from_arrow(arrow_frame(x)),
    "polars": lambda x: pl.DataFrame({"ts": pl.Series(range(len(x))).cast(pl.Datetime("us")), "x": x}),
    "pandas": pandas_frame,
    "pandas masked": masked,
    "pandas arrow": lambda x: pandas_frame(pd.arrays.ArrowExtensionArray(pa.array(x))),
}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("dtype", ["f8", "i4", "M8[us]"])
def test_what_the_caller_changes_after_the_write_changes_nothing(name: str, dtype: str) -> None:
    values = np.arange(8).astype(dtype)
    frame = SHARING[name](values)
    table = to_table(frame, ["ts"])
    batch = arrow.to_batch(build_metadata(region_id(1, 0), table.schema, time="ts"), table)
    before = batch.fields.column("x").to_pylist()

    values[:] = values[::-1].copy()

    assert batch.fields.column("x").to_pylist() == before


def test_the_time_and_the_text_of_an_arrow_table_are_copied_too() -> None:
    ticks, letters = np.arange(3), np.frombuffer(b"abc", np.uint8).copy()
    text = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.arange(4, dtype=np.int32)), pa.py_buffer(letters)]
    )
    table = pa.table({"ts": pa.array(ticks).view(TIME), "tag": text, "x": text})
    batch = arrow.to_batch(metadata_of({"tag": pa.string(), "x": pa.string()}, ("tag",)), table)

    ticks[:] = 9
    letters[:] = ord("z")

    assert batch.times.tolist() == [0, 1, 2]
    assert batch.series.column("tag").to_pylist() == ["a", "b", "c"]
    assert batch.fields.column("x").to_pylist() == ["a", "b", "c"]


def test_a_slice_keeps_no_more_memory_than_its_rows() -> None:
    table = with_time({"x": np.zeros(100_000)}, 100_000)

    batch = arrow.to_batch(metadata_of({"x": pa.float64()}), table.slice(10, 10))

    assert batch.size_bytes < 1000


# --- casts ---------------------------------------------------------------------------------------------

LOSSLESS = [
    (pa.int64(), pa.array([1, None], pa.int32()), [1, None]),
    (pa.int8(), pa.array([127, -128], pa.int64()), [127, -128]),
    (pa.int64(), pa.array([3.0, None]), [3, None]),
    (pa.int64(), pa.array([2**63 - 1], pa.uint64()), [2**63 - 1]),
    (pa.float64(), pa.array([2**53], pa.int64()), [2.0**53]),
    (pa.float64(), pa.array([0.1], pa.float32()), [np.float64(np.float32(0.1))]),
    (pa.float32(), pa.array([0.5, None, float("inf"), -0.0]), [0.5, None, float("inf"), -0.0]),
    (pa.timestamp("ns"), pa.array([1], pa.timestamp("us")), [pd.Timestamp(1000)]),
    (pa.timestamp("us"), pa.array([5000], pa.timestamp("ns")), [pd.Timestamp(5000)]),
    (pa.timestamp("us", "UTC"), pa.array([1], pa.timestamp("us", "Europe/Paris")), [pd.Timestamp(1000, tz="UTC")]),
    (pa.timestamp("us"), pa.array([date(1970, 1, 2)]), [pd.Timestamp("1970-01-02")]),
    (pa.date32(), pa.array([86_400_000_000], pa.timestamp("us")), [date(1970, 1, 2)]),
    (pa.duration("us"), pa.array([2], pa.duration("ms")), [timedelta(milliseconds=2)]),
    (pa.decimal128(10, 3), pa.array([Decimal("1.20")], pa.decimal128(5, 2)), [Decimal("1.200")]),
    (pa.string(), pa.nulls(2), [None, None]),
    (pa.list_(pa.string()), pa.array([[], [None]], pa.list_(pa.null())), [[], [None]]),
    (pa.list_(pa.int64()), pa.array([[1], None], pa.list_(pa.int8())), [[1], None]),
    (pa.list_(pa.float32()), pa.array([[0.5, float("inf")], None]), [[0.5, float("inf")], None]),
    (pa.list_(pa.int8()), pa.array([[300], [1], [300]]).slice(1, 1), [[1]]),
]


@pytest.mark.parametrize(
    ("kept", "given", "expected"), LOSSLESS, ids=lambda value: str(getattr(value, "type", ""))[:40]
)
def test_a_cast_that_loses_nothing_is_made(kept: pa.DataType, given: pa.Array, expected: list[Any]) -> None:
    found = kept_values(kept, given)

    assert found == expected
    assert [str(value) for value in found] == [str(value) for value in expected]


LOSSY = [
    (pa.float32(), [0.5, 0.1], pa.float64()),
    (pa.float32(), [1.0, 1e300], pa.float64()),
    (pa.int64(), [3.0, 3.5], pa.float64()),
    (pa.int64(), [3.0, float("nan")], pa.float64()),
    (pa.int64(), [1, 2**63], pa.uint64()),
    (pa.int8(), [127, 128], pa.int64()),
    (pa.uint8(), [0, -1], pa.int64()),
    (pa.float64(), [1, 2**53 + 1], pa.int64()),
    (pa.float32(), [1, 2**24 + 1], pa.int64()),
    (pa.timestamp("us"), [1000, 1001], pa.timestamp("ns")),
    (pa.timestamp("ns"), [0, 2**62], pa.timestamp("us")),
    (pa.date32(), [86_400_000_000, 1], pa.timestamp("us")),
    (pa.duration("ms"), [1000, 1001], pa.duration("us")),
    (pa.time64("us"), [1000, 1001], pa.time64("ns")),
    (pa.decimal128(10, 1), [Decimal("1.50"), Decimal("1.55")], pa.decimal128(5, 2)),
    (pa.list_(pa.float32()), [[0.5], [0.5, 0.1]], pa.list_(pa.float64())),
    (pa.list_(pa.int8()), [[1], [1, 300]], pa.list_(pa.int64())),
]


@pytest.mark.parametrize(("kept", "values", "given"), LOSSY, ids=str)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_cast_that_loses_something_names_column_and_row(
    kept: pa.DataType, values: list[Any], given: pa.DataType, before: int
) -> None:
    good, bad = values

    with pytest.raises(InvalidInputError, match=rf"column 'x' in row {before} cannot be kept as .* without loss"):
        batch_of(kept, pa.array([good] * before + [bad, good], given))


@pytest.mark.parametrize(
    ("kept", "given"),
    [
        (pa.float64(), pa.array([Decimal("0.5")])),
        (pa.decimal128(10, 2), pa.array([0.5])),
        (pa.string(), pa.array([1])),
        (pa.int64(), pa.array(["1"])),
        (pa.int64(), pa.array([True])),
        (pa.bool_(), pa.array([1])),
        (pa.string(), pa.array([b"a"])),
        (pa.binary(), pa.array(["a"])),
        (pa.int64(), pa.array([1], pa.timestamp("us"))),
        (pa.timestamp("us"), pa.array([1])),
        (pa.timestamp("us"), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.timestamp("us", "UTC"), pa.array([1], pa.timestamp("us"))),
        (pa.duration("us"), pa.array([1], pa.time64("us"))),
        (pa.list_(pa.string()), pa.array([[1]])),
        (pa.list_(pa.int64()), pa.array([1])),
        (pa.int64(), pa.array([{"a": 1}])),
    ],
    ids=str,
)
def test_a_column_of_another_kind_is_refused_and_both_types_are_named(kept: pa.DataType, given: pa.Array) -> None:
    with pytest.raises(SchemaMismatchError, match=r"column 'x' is .*, the table has .*; convert it"):
        batch_of(kept, given)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.timestamp("us", zone) for zone in ("Mars/Base", "America", "../UTC")),
        *(pa.decimal128(5, -2), pa.decimal256(50, 2), pa.struct({"a": pa.int64()}), pa.map_(pa.string(), pa.int64())),
        *(pa.list_(pa.int64(), 2), pa.list_(pa.timestamp("us", "Mars/Base")), pa.month_day_nano_interval()),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_kept_is_refused_by_column_and_type(kind: pa.DataType) -> None:
    with pytest.raises(InvalidInputError, match=r"column 'x' has type .*, which cannot be kept; cast it or leave"):
        metadata_of({"x": kind})


# --- time ----------------------------------------------------------------------------------------------


def times_of(given: Any, kept: pa.DataType = TIME) -> list[int]:
    table = arrow.to_table(pa.table({"ts": given}))
    times: list[int] = arrow.to_batch(metadata_of({}, time=kept), table).times.tolist()
    return times


@pytest.mark.parametrize("row", [0, 3, 6])
@pytest.mark.parametrize("chunks", [1, 3])
def test_a_null_time_names_its_row(row: int, chunks: int) -> None:
    ticks = [None if number == row else number for number in range(7)]
    whole = pa.array(ticks, TIME)
    parts = [whole] if chunks == 1 else [whole.slice(0, 2), whole.slice(2, 0), whole.slice(2)]

    with pytest.raises(InvalidInputError, match=rf"the time column 'ts' is null \(NaT\) in row {row}; drop or fill"):
        times_of(pa.chunked_array(parts))


@pytest.mark.parametrize("tick", [-(2**63), 2**63 - 1])
def test_a_time_out_of_range_names_its_row(tick: int) -> None:
    ticks = pa.array(np.array([0, 1, tick])).view(TIME)

    with pytest.raises(InvalidInputError, match="the time in row 2 of 'ts' is out of range"):
        times_of(ticks)


def test_a_time_that_overflows_the_tables_unit_names_its_row() -> None:
    with pytest.raises(InvalidInputError, match=r"column 'ts' in row 1 cannot be kept as timestamp\[ns\] without loss"):
        times_of(pa.array([0, 10**13], pa.timestamp("ms")), pa.timestamp("ns"))


def test_times_may_come_as_dates_encoded_or_in_a_coarser_unit() -> None:
    day = 86_400_000_000

    assert times_of(pa.array([date(1970, 1, 2)])) == [day]
    assert times_of(pa.array([7, 7], TIME).dictionary_encode()) == [7, 7]
    assert times_of(pa.array([1], pa.timestamp("s"))) == [10**6]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_time_with_a_zone_and_one_without_are_not_mixed(zone: str | None) -> None:
    other = "UTC" if zone is None else None

    with pytest.raises(SchemaMismatchError, match=r"a zone in .* and none in .*replace_time_zone.*tz_localize"):
        times_of(pa.array([0], pa.timestamp("us", zone)), pa.timestamp("us", other))


@pytest.mark.parametrize("given", [pa.array(["2024-01-01"]), pa.array([1])], ids=str)
def test_a_time_that_is_no_timestamp_is_refused(given: pa.Array) -> None:
    with pytest.raises(SchemaMismatchError, match=r"the time column 'ts' is (string|int64)"):
        times_of(given)


# --- what is no frame ----------------------------------------------------------------------------------


def array_of(kind: pa.DataType, offsets: list[int], data: bytes) -> pa.Array:
    dtype = np.int64 if kind in (pa.large_string(), pa.large_binary()) else np.int32
    buffers = [None, pa.py_buffer(np.array(offsets, dtype)), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("offsets", [[0, 900, 2], [0, -5, 2]])
def test_offsets_that_lead_elsewhere_are_refused_and_never_followed(kind: pa.DataType, offsets: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="column 'x' is not valid Arrow"):
        arrow.to_table(with_time({"x": array_of(kind, offsets, b"ab")}, 2))


def test_a_dictionary_index_out_of_range_is_refused() -> None:
    forged = pa.DictionaryArray.from_arrays(pa.array([0, 7]), ["a"], safe=False)

    with pytest.raises(InvalidInputError, match="column 'x' is not valid Arrow"):
        arrow.to_table(with_time({"x": forged}, 2))


@pytest.mark.parametrize("index", [7, -2])
def test_a_dictionary_index_changed_after_it_was_checked_is_refused_and_never_followed(index: int) -> None:
    indices = np.zeros(3, np.int32)
    hosts = pa.DictionaryArray.from_arrays(pa.array(indices), ["a"])
    table = arrow.to_table(with_time({"host": hosts}, 3))

    indices[1] = index

    with pytest.raises(InvalidInputError, match="a dictionary index was changed while the rows were written"):
        arrow.to_batch(metadata_of({"host": pa.string()}, ("host",)), table)


@pytest.mark.parametrize("tags", [(), ("x",)])
def test_text_that_is_not_utf8_is_refused(tags: tuple[str, ...]) -> None:
    table = arrow.to_table(with_time({"x": array_of(pa.string(), [0, 1, 2], b"a\xff")}, 2))

    with pytest.raises(InvalidInputError, match="column 'x' in row 1 holds text that is not UTF-8; decode it"):
        arrow.to_batch(metadata_of({"x": pa.string()}, tags), table)


def test_buffers_that_begin_at_an_odd_address_are_read() -> None:
    odd = np.zeros(1 + 8 * 4, np.uint8)[1:]
    odd[:] = np.array([0, 1, 2, 3]).view(np.uint8)
    hosts = pa.Array.from_buffers(pa.large_string(), 3, [None, pa.py_buffer(odd), pa.py_buffer(b"aab")])
    constant = pa.array(["eu"] * 3, pa.large_string())

    batch = arrow.to_batch(
        metadata_of({"region": pa.string(), "host": pa.string()}, ("region", "host")),
        arrow.to_table(with_time({"region": constant, "host": hosts}, 3)),
    )

    assert batch.codes.tolist() == [0, 0, 1]


@pytest.mark.parametrize("data", [{"ts": [1]}, [1], 5, None, "rows", object()], ids=lambda data: type(data).__name__)
def test_what_speaks_no_arrow_is_refused_by_its_type(data: object) -> None:
    with pytest.raises(InvalidInputError, match=rf"cannot write a {type(data).__name__}; give a pandas or Polars"):
        arrow.to_table(data)


@pytest.mark.parametrize("data", [pl.Series([1]), pa.chunked_array([[1]])], ids=["polars", "arrow"])
def test_a_single_column_is_no_table(data: object) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read as Arrow"):
        arrow.to_table(data)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ts", "ts"], "column name 'ts' appears twice"),
        (["ts", ""], "column name '' is empty or holds a NUL"),
        (["ts", "a\0b"], "is empty or holds a NUL"),
        (["ts", "__sequence"], "starts with two underscores, which are reserved"),
    ],
)
def test_a_column_name_that_cannot_be_kept_is_named(names: list[str], message: str) -> None:
    table = pa.Table.from_arrays([pa.array([0], TIME), pa.array([1])], names=names)

    with pytest.raises(InvalidInputError, match=message):
        arrow.to_table(table)


def test_a_delete_needs_the_key_only() -> None:
    table = with_time({"host": pa.array(["a"])}, 1)

    batch = arrow.to_batch(metadata_of({"host": pa.string(), "x": pa.int64()}, ("host",)), table, OpType.DELETE)

    assert batch.op_types.tolist() == [OpType.DELETE]
    assert batch.fields.to_pylist() == [{"x": None}]


def test_a_delete_takes_no_notice_of_fields_that_are_given():
    table = pa.table({"ts": pa.array([1], pa.timestamp("ms")), "host": ["a"], "x": [7]})

    batch = arrow.to_batch(metadata_of({"host": pa.string(), "x": pa.int64()}, ("host",)), table, OpType.DELETE)

    assert batch.op_types.tolist() == [OpType.DELETE]
    assert batch.fields.to_pylist() == [{"x": None}]
