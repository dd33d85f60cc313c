"""The same rows, handed in by every library and in every layout, are stored and read back as the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mitoframe as mito
from mitoframe.failpoints import watching
from mitoframe.frames import arrow
from mitoframe.frames.pandas import from_table
from mitoframe.ingest import to_batches, to_table
from mitoframe.model.ids import region_id
from mitoframe.model.schema import build_metadata

TAGS = {"host": pa.large_string(), "rack": pa.int64(), "spare": pa.bool_(), "since": pa.date32()}
TIMES = {"ts": pa.timestamp("us")}
FIELDS = {
    "bool": pa.bool_(),
    **{str(kind): kind for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): kind for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "float32": pa.float32(),
    "float64": pa.float64(),
    "text": pa.large_string(),
    "bytes": pa.large_binary(),
    "date": pa.date32(),
    "stamp_ms": pa.timestamp("ms"),
    "stamp_us": pa.timestamp("us", "Europe/Paris"),
    "stamp_ns": pa.timestamp("ns"),
    "span": pa.duration("us"),
    "price": pa.decimal128(10, 2),
    "clock": pa.time64("us"),
    "items": pa.large_list(pa.int64()),
    "words": pa.large_list(pa.large_string()),
}
SCHEMA = pa.schema({**TAGS, **TIMES, **FIELDS})
KEYS = [*TAGS, *TIMES]
NANS = (0x7FF8000000000000, 0x7FC00000)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=14)
bits = st.integers(0, 2**64 - 1) | st.sampled_from([1 << 63, 0x7FF8000000000000, 0x7FF80000DEADBEEF, 0xFFF0 << 48])


def values_of(name: str, kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Say what a column may hold, in the numbers that Arrow has under its types."""
    if name in TAGS:
        few = {"host": ["", "a", "ab", "a longer name", "é"], "rack": [-(2**63), 0, 1, 2**63 - 1]}
        return st.sampled_from(few.get(name, [0, 1]))
    if pa.types.is_integer(kind):
        high = 2 ** (kind.bit_width - (1 if pa.types.is_signed_integer(kind) else 0)) - 1
        low = -high - 1 if pa.types.is_signed_integer(kind) else 0
        return st.integers(low, high)
    if pa.types.is_floating(kind):
        return bits
    chosen: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "text": text,
        "bytes": st.binary(max_size=14),
        "ts": st.integers(-3, 3),
        "date": st.integers(-9000, 9000),
        "span": st.integers(-(10**12), 10**12),
        "price": st.integers(-(10**9), 10**9).map(lambda cents: Decimal(cents) / 100),
        "clock": st.integers(0, 86_400 * 10**6 - 1),
        "items": st.lists(st.integers(-9, 9) | st.none(), max_size=3),
        "words": st.lists(text | st.none(), max_size=3),
    }
    return chosen.get(name, st.integers(-(10**12), 10**12))


def column_of(kind: pa.DataType, values: list[Any]) -> pa.Array:
    if pa.types.is_floating(kind):
        # By their bits: a NaN keeps its payload.
        width = np.uint64 if kind == pa.float64() else np.uint32
        patterns = np.array([(value or 0) & int(np.iinfo(width).max) for value in values], width)
        return pa.array(patterns, mask=np.array([value is None for value in values], bool)).view(kind)
    if pa.types.is_boolean(kind):
        return pa.array([None if value is None else bool(value) for value in values], kind)
    return pa.array(values, kind)


@st.composite
def tables(draw: Callable[[Any], Any]) -> pa.Table:
    size = draw(st.integers(0, 8))
    columns = {}
    for field in SCHEMA:
        value = values_of(field.name, field.type)
        value = value if field.name in TIMES else st.none() | value
        columns[field.name] = column_of(field.type, draw(st.lists(value, min_size=size, max_size=size)))
    return pa.table(columns, schema=SCHEMA)


class OnlyStream:
    """Any library's frame: all that is known of it is the Arrow stream."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class OnlyArray:
    def __init__(self, table: pa.Table) -> None:
        self._batch = one_batch(table)

    def __arrow_c_array__(self, requested_schema: object | None = None) -> object:
        return self._batch.__arrow_c_array__(requested_schema)


def one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def in_chunks(table: pa.Table) -> pa.Table:
    """Rows one by one, with chunks of no rows before, between and after them."""
    parts = [table.slice(0, 0)]
    for row in range(len(table)):
        parts += [table.slice(row, 1), table.slice(0, 0)]
    return pa.concat_tables(parts)


def sliced(table: pa.Table) -> pa.Table:
    """A view into a longer table whose other rows are nonsense."""
    nonsense = pa.table({field.name: pa.nulls(3, field.type) for field in SCHEMA}, schema=SCHEMA)
    longer = pa.concat_tables([nonsense, table, nonsense]).combine_chunks()
    return longer.slice(3, len(table))


def small_types(table: pa.Table) -> pa.Table:
    narrow = {"host": pa.string(), "text": pa.string(), "bytes": pa.binary(), "clock": pa.time64("ns")}
    return table.cast(pa.schema([pa.field(field.name, narrow.get(field.name, field.type)) for field in SCHEMA]))


def views(table: pa.Table) -> pa.Table:
    changed = {"host": pa.string_view(), "text": pa.string_view(), "bytes": pa.binary_view()}
    return table.cast(pa.schema([pa.field(field.name, changed.get(field.name, field.type)) for field in SCHEMA]))


def dictionaries(table: pa.Table) -> pa.Table:
    columns = [
        column.dictionary_encode() if name in ("host", "rack", "text", "date", "stamp_us") else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, names=table.column_names)


def untidy_dictionaries(table: pa.Table) -> pa.Table:
    """Dictionaries that no encoder makes: with null, unused values, and each value twice."""
    hosts = table["host"].combine_chunks()
    known = [None, "unused", "", "a", "ab", "a longer name", "é"]
    doubled = pa.array(known + known, pa.large_string())
    codes = [known.index(host) + len(known) * (row % 2) for row, host in enumerate(hosts.to_pylist())]
    encoded = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int16()), doubled)
    return table.set_column(0, "host", encoded)


def untidy_dictionaries_in_chunks(table: pa.Table) -> pa.Table:
    return in_chunks(untidy_dictionaries(table))


def run_ends(table: pa.Table) -> pa.Table:
    encoded = pa.compute.run_end_encode(table["host"])
    return table.set_column(0, "host", encoded)


MASKED = {
    pa.bool_(): pd.BooleanDtype(),
    # In pandas' own masked floats NaN is missing; these keep it.
    pa.float32(): pd.ArrowDtype(pa.float32()),
    pa.float64(): pd.ArrowDtype(pa.float64()),
    **{kind: getattr(pd, f"{str(kind).title().replace('Ui', 'UI')}Dtype")() for kind in FIELDS.values()
       if pa.types.is_integer(kind)},
}  # fmt: skip


def masked(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper=MASKED.get, integer_object_nulls=True)


def arrow_backed(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper=pd.ArrowDtype)


def categorical(table: pa.Table) -> pd.DataFrame:
    frame = arrow_backed(table)
    hosts = table["host"].to_pandas()
    frame["host"] = pd.Categorical(hosts, categories=["unused", "é", "", "a", "ab", "a longer name"])
    return frame


def time_as_index(table: pa.Table) -> pd.DataFrame:
    return arrow_backed(table).set_index("ts")


def keys_as_index(table: pa.Table) -> pd.DataFrame:
    return arrow_backed(table).set_index(["ts", "host"])


def time_as_unnamed_index(table: pa.Table) -> pd.DataFrame:
    frame = arrow_backed(table.drop_columns("ts"))
    return frame.set_index(pd.DatetimeIndex(table["ts"].to_pandas(), name=None))


def numpy_backed(table: pa.Table) -> pd.DataFrame:
    """Objects for all that NumPy has no type for, and for what it could keep only without nulls."""
    exact_in_numpy = [name for name in table.column_names if table.schema.field(name).type in MASKED]
    kept = arrow_backed(table.select(exact_in_numpy))
    others = table.drop_columns(exact_in_numpy)
    frame = others.to_pandas(integer_object_nulls=True, date_as_object=True, timestamp_as_object=False)
    return pd.concat([frame, kept], axis=1)[table.column_names]


def through_duckdb(table: pa.Table) -> Any:
    """DuckDB has intervals of months and days, no durations: that column is left out, and with it comes null."""
    return duckdb.connect().from_arrow(table.drop_columns("span"))


def without_span(table: pa.Table) -> pa.Table:
    return table.set_column(table.column_names.index("span"), "span", pa.nulls(len(table), pa.duration("us")))


CONSTRUCTORS: dict[str, Callable[[pa.Table], Any]] = {
    "pyarrow table": lambda table: table,
    "record batch": one_batch,
    "reader": lambda table: table.to_reader(),
    "stream": OnlyStream,
    "array": OnlyArray,
    "chunks": in_chunks,
    "slice": sliced,
    "32-bit offsets": small_types,
    "views": views,
    "dictionaries": dictionaries,
    "untidy dictionaries": untidy_dictionaries,
    "chunked dictionaries": lambda table: dictionaries(in_chunks(table)),
    "run ends": run_ends,
    "columns in another order": lambda table: table.select(sorted(table.column_names)),
    "dictionaries with null in chunks": untidy_dictionaries_in_chunks,
    "polars": pl.from_arrow,
    "polars in chunks": lambda table: pl.from_arrow(in_chunks(table), rechunk=False),
    "polars sliced": lambda table: pl.from_arrow(sliced(table)),
    "polars lazy": lambda table: pl.from_arrow(table).lazy(),  # type: ignore[union-attr]
    "polars categorical": lambda table: pl.from_arrow(table).with_columns(  # type: ignore[union-attr]
        pl.col("host").cast(pl.Categorical)
    ),
    "polars stream": lambda table: OnlyStream(pl.from_arrow(table)),  # type: ignore[arg-type]
    "pandas masked": masked,
    "pandas arrow": arrow_backed,
    "pandas categorical": categorical,
    "pandas time index": time_as_index,
    "pandas multi-index": keys_as_index,
    "pandas unnamed time index": time_as_unnamed_index,
    "pandas numpy": numpy_backed,
    "pandas sliced": lambda table: arrow_backed(sliced(table)),
    "polars enum": lambda table: pl.from_arrow(table).with_columns(  # type: ignore[union-attr]
        pl.col("host").cast(pl.Enum(["unused", "é", "", "a", "ab", "a longer name"]))
    ),
    "duckdb": through_duckdb,
}
LIMITED = {"duckdb": without_span}
"""What a library can hold of the rows."""


def reading(scan: mito.Scan) -> dict[str, pa.Table]:
    """Read the rows through every door."""
    return {
        "arrow": scan.to_arrow(),
        "polars": scan.to_polars().collect().to_arrow(compat_level=pl.CompatLevel.oldest()).cast(SCHEMA),
        "pandas": from_pandas(scan.to_pandas()),
    }


def expected_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The oracle: a dict by key, the last row wins, sorted with nulls first."""
    by_key = {tuple(row[name] for name in KEYS): number for number, row in enumerate(keys_of(table))}
    order = sorted(by_key, key=lambda key: [(value is not None, value) for value in key])
    return plain(table.take(pa.array([by_key[key] for key in order], pa.int64())))


def keys_of(table: pa.Table) -> list[dict[str, Any]]:
    return table.select(KEYS).to_pylist()


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as Python values; floats as their bits, so that NaN is compared too."""
    return pa.table([exact(column) for column in table.columns], names=table.column_names).to_pylist()


def in_order(table: pa.Table) -> list[dict[str, Any]]:
    """Rows in the order of their keys: rows of several time windows come window by window."""
    return sorted(plain(table), key=lambda row: [(row[name] is not None, row[name]) for name in KEYS])


def exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())
    if not pa.types.is_floating(column.type):
        return column
    bits = f"int{column.type.bit_width}"
    return pa.chunked_array([chunk.view(bits) for chunk in column.chunks], bits)


@pytest.mark.parametrize("name", CONSTRUCTORS)
@given(tables())
@settings(deadline=None, max_examples=5)
def test_every_constructor_stores_the_same_rows(name: str, table: pa.Table) -> None:
    expected = expected_rows(LIMITED.get(name, lambda whole: whole)(table))
    data = CONSTRUCTORS[name](table)

    with mito.open("memory://") as database:
        rows = database.create_table("rows", SCHEMA, time="ts", tags=list(TAGS))
        rows.write(data)
        from_memory = reading(rows.scan())
        rows.flush()
        from_file = reading(rows.scan())

    for found in (from_memory, from_file):
        assert (found["arrow"].schema.names, found["arrow"].schema.types) == (SCHEMA.names, SCHEMA.types)
        assert in_order(found["arrow"]) == in_order(found["polars"]) == expected
        assert list(map(without_nan, in_order(found["pandas"]))) == list(map(without_nan, expected))


@pytest.mark.parametrize("name", CONSTRUCTORS)
@given(table=tables(), rows_max=st.sampled_from([1, 3, 100]))
@settings(deadline=None, max_examples=6)
def test_every_constructor_in_pieces_makes_the_same_rows(name: str, rows_max: int, table: pa.Table) -> None:
    expected = LIMITED.get(name, lambda whole: whole)(table)
    metadata = build_metadata(region_id(1, 0), SCHEMA, time="ts", tags=list(TAGS))

    pieces = list(to_batches(CONSTRUCTORS[name](table), ["ts", *TAGS], rows_max))

    assert [len(piece) for piece in pieces[:-1]] == [rows_max] * (len(pieces) - 1)
    assert 0 < len(pieces[-1]) <= rows_max or len(pieces) == 1
    found = [arrow.to_batch(metadata, piece).to_arrow(metadata, SCHEMA.names) for piece in pieces]
    assert plain(pa.Table.from_batches(found)) == plain(expected)


def from_pandas(frame: pd.DataFrame) -> pa.Table:
    """Take a frame apart by pyarrow's own rules, with nothing of ours in between."""
    columns = {
        field.name: pa.array(frame[field.name], field.type, from_pandas=not pa.types.is_floating(field.type))
        for field in SCHEMA
    }
    return pa.table(columns, schema=SCHEMA)


def without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """A null float is NaN in pandas; any other NaN has its bits."""
    return {name: None if name.startswith("float") and value in NANS else value for name, value in row.items()}


def numpy_columns() -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"):
        yield code, np.array([0, 1, 1, 0, 1]).astype(code)
    yield "f8", np.array([np.nan, -0.0, np.inf, 5e-324, 1.5])
    yield "i8", np.array([-(2**63), 2**63 - 1, 0, 2**53 + 1, -1])
    yield "u8", np.array([2**64 - 1, 0, 1, 2, 2**63], np.uint64)


@pytest.mark.parametrize(("code", "values"), list(numpy_columns()))
@pytest.mark.parametrize("layout", ["plain", "read-only", "strided", "reversed", "big-endian", "fortran"])
def test_numpy_memory_of_any_layout_is_read_bit_by_bit(code: str, values: np.ndarray[Any, Any], layout: str) -> None:
    frame = pd.DataFrame({"ts": pd.to_datetime(range(5)), "value": laid_out(values, layout)}, copy=False)

    with mito.open("memory://") as database:
        database.write(frame, "rows", time="ts")
        found = database["rows"].scan().to_pandas()["value"].to_numpy()

    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


def laid_out(values: np.ndarray[Any, Any], layout: str) -> np.ndarray[Any, Any]:
    if layout == "strided":
        return np.repeat(values, 3)[::3]
    if layout == "reversed":
        return values[::-1].copy()[::-1]
    if layout == "big-endian":
        return values.astype(values.dtype.newbyteorder(">"))
    if layout == "fortran":
        return np.asfortranarray(np.stack([values, values]))[0]
    copied = values.copy()
    copied.setflags(write=layout != "read-only")
    return copied


MOMENTS = ["M8[s]", "M8[ms]", "M8[us]", "M8[ns]", "m8[us]", "m8[ns]"]


@pytest.mark.parametrize("code", [*MOMENTS, "O"])
@pytest.mark.parametrize("layout", ["plain", "read-only", "strided", "reversed", "big-endian", "fortran"])
def test_moments_and_objects_in_memory_of_any_layout_are_read_value_by_value(code: str, layout: str) -> None:
    values = np.array(["a", "", "b", "é", "ab"], object) if code == "O" else np.arange(-2, 3).astype(code)
    frame = pd.DataFrame({"ts": pd.to_datetime(range(5)), "value": laid_out(values, layout)}, copy=False)

    with mito.open("memory://") as database:
        database.write(frame, "rows", time="ts")
        found = database["rows"].scan().to_pandas()["value"].to_numpy()

    assert (found == values).all()


Buffer = tuple[np.ndarray[Any, Any], Callable[[], Any]]


def times_and_floats(library: str) -> Buffer:
    """Return a buffer of the user's and a frame in which it is the time, a tag or a field."""
    # Arrow shares the memory of indices with 32 bits only.
    values = np.arange(4, dtype=np.int32 if "dictionary" in library or "categorical" in library else np.int64)
    other, times = np.arange(4), np.arange(4).astype("M8[us]")
    frames: dict[str, Callable[[], Any]] = {
        "arrow field": lambda: pa.table({"ts": times, "x": values}),
        "arrow tag": lambda: pa.table({"ts": times, "host": values, "x": other}),
        "arrow time": lambda: pa.table({"ts": pa.array(values).view(pa.timestamp("us")), "x": other}),
        "arrow dictionary tag": lambda: pa.table({"ts": times, "host": dictionary_over(values)}),
        "arrow dictionary field": lambda: pa.table({"ts": times, "x": dictionary_over(values)}),
        "polars field": lambda: pl.DataFrame({"ts": times, "x": values}),
        "polars tag": lambda: pl.DataFrame({"ts": times, "host": values}),
        "pandas field": lambda: pd.DataFrame({"ts": times, "x": values}, copy=False),
        "pandas tag": lambda: pd.DataFrame({"ts": times, "host": values}, copy=False),
        "pandas time": lambda: pd.DataFrame({"ts": values.view("M8[us]"), "x": other}, copy=False),
        "pandas categorical": lambda: pd.DataFrame(
            {"ts": times, "host": pd.Categorical.from_codes(values.view(), categories=list("abcd"))}, copy=False
        ),
    }
    return values, frames[library]


def dictionary_over(values: np.ndarray[Any, Any]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(values), list("abcd"))


@pytest.mark.parametrize("moment", ["write.logged", "write.inserted", "write.published", "after"])
@pytest.mark.parametrize(
    "library",
    [
        *("arrow field", "arrow tag", "arrow time", "arrow dictionary tag", "arrow dictionary field", "polars field"),
        *("polars tag", "pandas field", "pandas tag", "pandas time", "pandas categorical"),
    ],
)
def test_a_buffer_changed_while_or_after_it_is_written_changes_nothing(
    tmp_path: Path, library: str, moment: str
) -> None:
    def change(reached: str) -> None:
        if reached == moment:
            values[:] = values[::-1].copy()

    values, make = times_and_floats(library)
    frame = make()
    tags = ["host"] if "tag" in library or "categorical" in library else []
    with mito.open("memory://") as database:
        database.write(make(), "rows", time="ts", tags=tags)
        expected = database["rows"].scan().collect()

    with mito.open(tmp_path, flush_on_close=False) as database:
        rows = database.create_table("rows", to_table(frame, ["ts", *tags]).schema, time="ts", tags=tags)
        with watching(change):
            rows.write(frame)
        change("after")
        from_memory = rows.scan().collect()
    with mito.open(tmp_path) as database:
        from_log = database["rows"].scan().collect()
        database["rows"].flush()
        from_file = database["rows"].scan().collect()

    assert values.tolist() == [3, 2, 1, 0]
    assert from_memory.equals(expected)
    assert from_log.equals(expected)
    assert from_file.equals(expected)


@pytest.mark.parametrize("flush", [False, True])
def test_a_result_that_is_changed_changes_nothing_that_is_stored(flush: bool) -> None:
    with mito.open("memory://") as database:
        database.write(pa.table({"ts": np.array([0, 1], "M8[us]"), "x": [1.5, 2.5]}), "rows", time="ts")
        if flush:
            database["rows"].flush()
        frame = database["rows"].scan().to_pandas()
        frame.loc[:, "x"] = 0.0
        with suppress(ValueError):
            frame["x"].to_numpy()[:] = 0.0

        assert database["rows"].scan().to_pandas()["x"].tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    "kind", [kind for kind in FIELDS.values() if pa.types.is_integer(kind) or pa.types.is_boolean(kind)]
)
def test_a_null_among_integers_or_booleans_changes_no_value_in_pandas(kind: pa.DataType) -> None:
    extremes = [True, None, False] if pa.types.is_boolean(kind) else [2 ** (kind.bit_width - 1) - 1, None, 0]
    table = pa.table({"value": pa.array(extremes, kind)})

    frame = from_table(table)

    assert isinstance(frame["value"].dtype, pd.api.extensions.ExtensionDtype)
    assert [None if value is pd.NA else value for value in frame["value"]] == extremes


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris", "Asia/Kolkata"])
def test_times_keep_their_unit_and_zone_in_every_library(unit: str, zone: str | None) -> None:
    # The hour that Paris had twice is two instants.
    seconds = np.array([0, -1, 1_729_990_800, 1_729_994_400], "i8")
    ticks = seconds * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = pa.array(np.sort(ticks)).view(pa.timestamp(unit, zone))
    kept = pa.timestamp("ms" if unit == "s" else unit, zone)

    for data in (pa.table({"ts": times}), pa.table({"ts": times}).to_pandas()):
        with mito.open("memory://") as database:
            database.write(data, "rows", time="ts")
            scan = database["rows"].scan()
            assert scan.to_arrow().column("ts").combine_chunks().equals(times.cast(kept))
            assert scan.collect().schema["ts"] == pl.Datetime(kept.unit, zone)
            assert scan.to_pandas()["ts"].dtype == kept.to_pandas_dtype()


@pytest.mark.parametrize("zone", ["+02:00", "-05:30"])
def test_a_zone_that_is_an_offset_becomes_utc(zone: str) -> None:
    times = pa.array([0, 10**6], pa.timestamp("us", zone))

    with mito.open("memory://") as database:
        database.write(pa.table({"ts": times, "x": times}), "rows", time="ts")
        scan = database["rows"].scan(start="1970-01-01T00:00:01+00:00")
        found = scan.to_arrow()

    assert found.schema.types == [pa.timestamp("us", "UTC")] * 2
    assert found.column("ts").cast(pa.int64()).to_pylist() == [10**6]


def test_a_pandas_frame_without_a_name_on_its_index_leaves_the_index_behind() -> None:
    frame = pd.DataFrame({"ts": pd.to_datetime([0, 1]), "x": [1, 2]}, index=pd.DatetimeIndex(["2024", "2025"]))

    with mito.open("memory://") as database:
        database.write(frame, "rows", time="ts")

        assert database["rows"].scan().collect().columns == ["ts", "x"]


def test_a_named_index_level_that_is_no_key_is_left_behind() -> None:
    index = pd.MultiIndex.from_tuples([(pd.Timestamp(0), "a", 7)], names=["ts", "host", "run"])

    with mito.open("memory://") as database:
        database.write(pd.DataFrame({"x": [1]}, index=index), "rows", time="ts", tags=["host"])

        assert database["rows"].scan().collect().columns == ["host", "ts", "x"]


NULL_COLUMNS: dict[str, Callable[[], Any]] = {
    "arrow null": lambda: pa.nulls(2),
    "dictionary of no values": lambda: pa.DictionaryArray.from_arrays(pa.nulls(2, pa.int8()), pa.nulls(0, pa.string())),
    "dictionary of nulls": lambda: pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.nulls(1)),
    "polars null": lambda: pl.Series([None, None]),
    "polars categorical": lambda: pl.Series([None, None], dtype=pl.Categorical),
    "pandas None": lambda: pd.Series([None, None], dtype=object),
    "pandas NaN": lambda: pd.Series([np.nan, None], dtype=object),
    "pandas categorical": lambda: pd.Categorical([None, None]),
    "pandas string": lambda: pd.Series([None, None], dtype="string"),
    "pandas arrow null": lambda: pd.Series([None, None], dtype=pd.ArrowDtype(pa.null())),
}


@pytest.mark.parametrize("name", NULL_COLUMNS)
def test_a_tag_and_a_field_without_any_value_are_null_however_they_are_typed(name: str) -> None:
    times, column = np.array([0, 1], "M8[us]"), NULL_COLUMNS[name]()
    make: Any = {"pyarrow": pa.table, "polars": pl.DataFrame}.get(type(column).__module__.partition(".")[0])
    frame = (make or pd.DataFrame)({"ts": times, "host": column, "text": column})
    schema = pa.schema({"ts": pa.timestamp("us"), "host": pa.string(), "text": pa.string()})

    with mito.open("memory://") as database:
        rows = database.create_table("rows", schema, time="ts", tags=["host"])
        rows.write(frame)
        rows.flush()
        found = rows.scan(columns=["host", "text"]).to_arrow().to_pylist()

    assert found == [{"host": None, "text": None}] * 2


NARROW = {"int64": pa.int8(), "float64": pa.float32(), "stamp_ns": pa.timestamp("us")}
REFUSALS: dict[str, tuple[str, pa.Array, str]] = {
    "null time": ("ts", pa.nulls(1, pa.timestamp("us")), r"time column 'ts' is null \(NaT\) in row 3; drop"),
    "late time": ("ts", pa.array([2**63 - 1], pa.timestamp("us")), "the time in row 3 of 'ts' is out of range"),
    "integer": ("int64", pa.array([300]), "column 'int64' in row 3 cannot be kept as int8 without loss"),
    "float": ("float64", pa.array([0.1]), "column 'float64' in row 3 cannot be kept as float32 without loss"),
    "unit": ("stamp_ns", pa.array([1], pa.timestamp("ns")), "column 'stamp_ns' in row 3 cannot be kept as .* without"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_value_that_cannot_be_kept_is_named_by_its_row_in_the_users_frame(name: str, refusal: str) -> None:
    column, bad, message = REFUSALS[refusal]
    data = CONSTRUCTORS[name](numbered_rows(5, column, {3: bad}))
    kept = pa.schema([pa.field(field.name, NARROW.get(field.name, field.type)) for field in SCHEMA])

    with mito.open("memory://") as database:
        rows = database.create_table("rows", kept, time="ts", tags=list(TAGS))
        rows.write(numbered_rows(1, "ts", {}))
        before = plain(rows.scan().to_arrow())
        with pytest.raises(mito.InvalidInputError, match=message):
            rows.write(data)

        assert plain(rows.scan().to_arrow()) == before


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_value_in_a_later_piece_is_named_by_its_row_in_the_whole_too(name: str, refusal: str) -> None:
    column, bad, message = REFUSALS[refusal]
    kept = pa.schema([pa.field(field.name, NARROW.get(field.name, field.type)) for field in SCHEMA])
    metadata = build_metadata(region_id(1, 0), kept, time="ts", tags=list(TAGS))
    pieces = to_batches(CONSTRUCTORS[name](numbered_rows(5, column, {3: bad})), ["ts", *TAGS], 2)

    assert len(arrow.to_batch(metadata, next(pieces))) == 2
    with pytest.raises(mito.InvalidInputError, match=message):
        arrow.to_batch(metadata, next(pieces), first_row=2)


def numbered_rows(count: int, column: str, changed: dict[int, pa.Array]) -> pa.Table:
    """Rows of nulls at the times 0, 1, 2, ..., but for the changed values of one column."""
    table = pa.table({field.name: pa.nulls(count, field.type) for field in SCHEMA if field.name != "ts"})
    table = table.add_column(0, "ts", pa.array(range(count), pa.timestamp("us"))).select(SCHEMA.names)
    for row, value in changed.items():
        values = table[column]
        parts = [*values.slice(0, row).chunks, value, *values.slice(row + 1).chunks]
        table = table.set_column(SCHEMA.names.index(column), column, pa.concat_arrays(parts))
    return table.cast(SCHEMA)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_no_rows_make_the_table_and_one_row_is_one_row(name: str) -> None:
    one = pa.table({field.name: pa.nulls(1, field.type) for field in SCHEMA if field.name != "ts"})
    one = one.add_column(0, "ts", pa.array([0], SCHEMA.field("ts").type)).select(SCHEMA.names).cast(SCHEMA)

    with mito.open("memory://") as database:
        rows = database.create_table("rows", SCHEMA, time="ts", tags=list(TAGS))
        nothing = rows.write(CONSTRUCTORS[name](one.slice(0, 0)))
        assert (nothing.rows, rows.scan().count()) == (0, 0)

        rows.write(CONSTRUCTORS[name](one))
        assert plain(rows.scan().to_arrow()) == plain(one)


def test_a_first_write_without_rows_makes_the_table() -> None:
    empty = SCHEMA.empty_table()
    for data in (empty, pl.from_arrow(empty), empty.to_pandas(types_mapper=pd.ArrowDtype)):
        with mito.open("memory://") as database:
            result = database.write(data, "rows", time="ts", tags=list(TAGS))

            assert (result.rows, result.created) == (0, True)
            assert database["rows"].scan().to_arrow().num_rows == 0


TAG_VALUES: dict[str, pa.Array] = {
    **{str(kind): pa.array([0, None, 1, 2 ** (kind.bit_width - 1) - 1], kind) for kind in FIELDS.values()
       if pa.types.is_integer(kind)},
    "bool": pa.array([False, None, True, None]),
    "date": pa.array([-1, None, 0, 100_000], pa.int32()).cast(pa.date32()),
    "string": pa.array(["", None, "a", "é" * 20]),
    "view": pa.array(["", None, "a", "é" * 20], pa.string_view()),
    "dictionary": pa.array(["", None, "a", "é" * 20]).dictionary_encode(),
    "dictionary of dates": pa.array([-1, None, 0, 1], pa.int32()).cast(pa.date32()).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAG_VALUES)
@pytest.mark.parametrize("library", ["arrow", "polars", "pandas"])
def test_a_tag_of_every_type_is_kept(kind: str, library: str) -> None:
    values = TAG_VALUES[kind]
    table = pa.table({"ts": pa.array([0] * 4, pa.timestamp("us")), "tag": values})
    convert: dict[str, Callable[[pa.Table], Any]] = {
        "arrow": lambda given: given,
        "polars": pl.from_arrow,
        "pandas": lambda given: given.to_pandas(types_mapper=None if "dictionary" in kind else pd.ArrowDtype),
    }

    with mito.open("memory://") as database:
        database.write(convert[library](table), "rows", time="ts", tags=["tag"])
        database["rows"].flush()
        found = database["rows"].scan().to_arrow()["tag"].to_pylist()

    plain_values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    distinct = list(dict.fromkeys(plain_values.to_pylist()))
    assert found == sorted(distinct, key=lambda value: (value is not None, value))
