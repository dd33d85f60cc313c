"""The same rows, handed in by every library and in every layout, are stored and read back as the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mitoframe as mito
from mitoframe.frames.pandas import from_table

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
T = TypeVar("T")

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
def tables(draw: Callable[[Any], Any], rows_max: int = 8) -> pa.Table:
    size = draw(st.integers(0, rows_max))
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
    return table.to_pandas(types_mapper=MASKED.get)


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
    "polars": pl.from_arrow,
    "polars in chunks": lambda table: pl.from_arrow(in_chunks(table), rechunk=False),
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
}


def stored(data: Any, read: Callable[[mito.Scan], T], *, flush: bool = False) -> T:
    """Write to a new table and return what ``read`` finds in it."""
    with mito.open("memory://") as database:
        table = database.create_table("rows", SCHEMA, time="ts", tags=list(TAGS))
        table.write(data)
        if flush:
            table.flush()
        return read(table.scan())


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


def exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())
    if not pa.types.is_floating(column.type):
        return column
    bits = f"int{column.type.bit_width}"
    return pa.chunked_array([chunk.view(bits) for chunk in column.chunks], bits)


@pytest.mark.parametrize("name", CONSTRUCTORS)
@given(tables())
@settings(deadline=None, max_examples=12)
def test_every_constructor_stores_the_same_rows(name: str, table: pa.Table) -> None:
    data = CONSTRUCTORS[name](table)

    found = stored(data, mito.Scan.to_arrow)

    assert (found.schema.names, found.schema.types) == (SCHEMA.names, SCHEMA.types)
    assert plain(found) == expected_rows(table)


@given(tables(rows_max=20))
@settings(deadline=None, max_examples=30)
def test_rows_read_back_from_a_file_are_the_rows_written(table: pa.Table) -> None:
    found = stored(table, mito.Scan.to_arrow, flush=True)

    assert (found.schema.names, found.schema.types) == (SCHEMA.names, SCHEMA.types)
    assert plain(found) == expected_rows(table)


@pytest.mark.parametrize("flush", [False, True])
@given(table=tables())
@settings(deadline=None, max_examples=20)
def test_polars_and_pandas_read_what_arrow_reads(flush: bool, table: pa.Table) -> None:
    polars_frame, pandas_frame = stored(table, lambda scan: (scan.to_polars().collect(), scan.to_pandas()), flush=flush)

    through_polars = polars_frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(SCHEMA)
    assert plain(through_polars) == expected_rows(table)
    assert [without_nan(row) for row in plain(from_pandas(pandas_frame))] == [
        without_nan(row) for row in expected_rows(table)
    ]


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
            assert scan.to_arrow().column("ts").chunk(0).equals(times.cast(kept))
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


def test_an_empty_frame_makes_the_table_and_no_rows() -> None:
    empty = SCHEMA.empty_table()
    for data in (empty, pl.from_arrow(empty), empty.to_pandas(types_mapper=pd.ArrowDtype)):
        with mito.open("memory://") as database:
            result = database.write(data, "rows", time="ts", tags=list(TAGS))

            assert (result.rows, result.created) == (0, True)
            assert database["rows"].scan().to_arrow().num_rows == 0
