from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from builders import Row, batch_of, metadata_of
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from mitoframe.model.batch import Batch
from mitoframe.model.buckets import Buckets, EvenBuckets, ListedBuckets
from mitoframe.model.ids import Sequence
from mitoframe.model.schema import RegionMetadata
from mitoframe.read import resample as module
from mitoframe.read.pieces import pieces_of
from mitoframe.read.resample import Aggregation, is_supported, resample
from mitoframe.read.stretches import Look, Looked, Stretches
from mitoframe.storage.runs import sort_rows_of
from mitoframe.storage.sst_reader import packed

FUNCTIONS = ("count", "sum", "mean", "min", "max", "first", "last", "var", "std")
TAGS = {"host": pa.string(), "rack": pa.int64()}
TYPES = {
    **{str(kind): kind for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{str(kind): kind for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{str(kind): kind for kind in (pa.float32(), pa.float64(), pa.bool_(), pa.decimal128(9, 2), pa.string())},
}


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Draw nulls, a few plain values and, where sums stay exact in a float, the ends of the type."""
    if pa.types.is_boolean(kind):
        return st.none() | st.booleans()
    if pa.types.is_floating(kind):
        plain = st.integers(-8, 8).map(lambda number: number / 4)
        return st.none() | plain | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        top = 2 ** (kind.bit_width - signed)
        return st.none() | st.integers(0, 9) | st.sampled_from([top - 1, -top if signed else 0])
    if pa.types.is_decimal(kind):
        return st.none() | st.decimals(-9, 9, places=2, allow_nan=False)
    return st.none() | st.sampled_from(["", "a", "b"])


@st.composite
def regions(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(TYPES)) -> tuple[RegionMetadata, list[list[Row]]]:
    """Draw rows with distinct keys, spread over batches in any way."""
    kind = TYPES[draw(st.sampled_from(kinds))]
    hosts, racks = st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, -1, 2])
    keys = st.tuples(st.integers(-25, 25), st.tuples(hosts, racks))
    drawn = draw(st.dictionaries(keys, st.tuples(values(kind), st.integers(0, 3)), max_size=40))
    parts: list[list[Row]] = [[], [], [], []]
    for number, ((time, tags), (value, part)) in enumerate(drawn.items(), start=1):
        parts[part].append(Row(number, time, tags, (value,)))
    return metadata_of(TAGS, {"x": kind}), parts


def batches_of(metadata: RegionMetadata, parts: Iterable[list[Row]]) -> list[Batch]:
    return [sort_rows_of([batch_of(metadata, rows)]).gather() for rows in parts if rows]


def frame_of(metadata: RegionMetadata, rows: Iterable[Row]) -> pl.DataFrame:
    """Lay rows out as a person would sort them: by time, then by tags."""
    ordered = sorted(rows, key=lambda row: (row.time, row.key, row.sequence))
    names = metadata.names
    columns = [[row.tags[i] for row in ordered] for i in range(len(metadata.tags))]
    columns += [[row.time for row in ordered]]
    columns += [[row.fields[i] for row in ordered] for i in range(len(metadata.fields))]
    kinds = [column.type if column.name != "ts" else pa.int64() for column in metadata.columns]
    table = pa.table([pa.array(part, kind) for part, kind in zip(columns, kinds, strict=True)], names=list(names))
    return pl.DataFrame(table).with_columns(pl.col("ts").cast(pl.Datetime("ms")))


def by_hand(frame: pl.DataFrame, by: list[str], bucket: pl.Expr, functions: Iterable[str]) -> pl.DataFrame:
    made = [getattr(pl.col("x"), function)().alias(function) for function in functions]
    return frame.group_by(*by, bucket).agg(*made).sort(*by, "ts")


def looks_at(batches: Iterable[Batch]) -> list[Look]:
    return [partial(_itself, (batch,)) for batch in batches]


def _itself(rows: Looked) -> Looked:
    return rows


def lying(batch: Batch) -> Stretches:
    """Keep rows as a cache would, between others that are not looked at."""
    batch = batch.take(np.array([0, *range(len(batch)), len(batch) - 1]))
    offsets = np.searchsorted(batch.codes[1:-1], np.arange(len(batch.series) + 1)) + 1
    kept = [packed(column) for column in batch.fields.columns]
    return Stretches(
        series=batch.series,
        pieces=pieces_of(offsets, None),
        times=batch.times,
        fields=pa.RecordBatch.from_arrays(kept, names=batch.fields.schema.names),
        sequence=Sequence(1),
    )


def by_kernels(
    metadata: RegionMetadata, batches: Iterable[Batch], by: list[str], buckets: Buckets, functions: Iterable[str]
) -> pl.DataFrame:
    return as_frame(metadata, looks_at(batches), by, buckets, functions)


def as_frame(
    metadata: RegionMetadata, looks: Iterable[Look], by: list[str], buckets: Buckets, functions: Iterable[str]
) -> pl.DataFrame:
    wanted = [Aggregation(field="x", function=function, name=function) for function in functions]
    return pl.DataFrame(resample(looks, metadata, by=by, buckets=buckets, aggregations=wanted))


def supported(metadata: RegionMetadata, parts: Iterable[list[Row]]) -> list[str]:
    """Name the functions to compare; of integers that no float can hold, only those that are exact."""
    kind = metadata.fields[0].type
    is_large = pa.types.is_integer(kind) and any(abs(row.fields[0] or 0) > 2**40 for part in parts for row in part)
    return [
        name for name in FUNCTIONS if is_supported(kind, name) and not (is_large and name in ("mean", "var", "std"))
    ]


@pytest.mark.parametrize("by", [["host", "rack"], ["rack", "host"], ["host"], ["rack"], []], ids=str)
@given(regions(), st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_it_is_what_polars_makes_of_the_same_rows(by, region, width):
    metadata, parts = region
    functions = supported(metadata, parts)
    frame = frame_of(metadata, [row for part in parts for row in part])

    made = by_kernels(metadata, batches_of(metadata, parts), by, EvenBuckets(width=width, origin=0), functions)

    expected = by_hand(frame, by, pl.col("ts").dt.truncate(f"{width}ms"), functions)
    assert_frame_equal(made, expected, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("by", [["host", "rack"], ["rack"], []], ids=str)
@given(
    regions(("double", "double", "int64", "uint64", "bool", "string")),
    st.integers(1, 30),
    st.sampled_from([("count", "sum", "mean"), ("count", "min", "max", "first", "last"), FUNCTIONS]),
)
@settings(deadline=None, max_examples=60)
def test_packed_rows_that_are_counted_where_they_lie_make_the_same(by, region, width, wanted):
    metadata, parts = region
    functions = [function for function in supported(metadata, parts) if function in wanted]
    looks = [partial(_itself, (lying(batch),)) for batch in batches_of(metadata, parts)]

    made = as_frame(metadata, looks, by, EvenBuckets(width=width, origin=0), functions)

    expected = by_hand(
        frame_of(metadata, [row for part in parts for row in part]),
        by,
        pl.col("ts").dt.truncate(f"{width}ms"),
        functions,
    )
    assert_frame_equal(made, expected, rel_tol=1e-6, abs_tol=1e-6)


def test_the_greatest_of_packed_numbers_is_a_number():
    metadata = metadata_of(TAGS, {"x": pa.float64()})
    rows = [Row(time + 1, time, ("a", 1), (value,)) for time, value in enumerate([1.0, math.nan, -math.inf, 0.5])]
    [batch] = batches_of(metadata, [rows])

    made = as_frame(
        metadata, [lambda: (lying(batch),)], [], EvenBuckets(width=9, origin=0), ["min", "max", "sum", "count"]
    )

    assert made.row(0)[1:3] == (-math.inf, 1.0)
    assert math.isnan(made["sum"][0])
    assert made["count"].to_list() == [4]


@given(regions(("double", "int64")), st.integers(1, 9), st.integers(1, 4), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_neither_the_size_of_the_parts_nor_when_they_are_combined_matters(region, width, rows_at_once, cells_max):
    metadata, parts = region
    batches, buckets, functions = (
        batches_of(metadata, parts),
        EvenBuckets(width=width, origin=0),
        supported(metadata, parts),
    )
    whole = by_kernels(metadata, batches, ["host"], buckets, functions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CELLS_APART_MAX", cells_max)
        patch.setattr(module, "CELLS_REDUCED_MIN", cells_max)
        parts_of_batches = [part for batch in batches for part in batch.slices(rows_at_once)]
        pieces = by_kernels(metadata, parts_of_batches, ["host"], buckets, functions)

    assert_frame_equal(pieces, whole, rel_tol=1e-6, abs_tol=1e-6)


@given(regions(("double",)), st.lists(st.integers(-20, 30), unique=True).map(sorted))
@settings(deadline=None, max_examples=60)
def test_listed_buckets_reach_from_edge_to_edge(region, later_edges):
    metadata, parts = region
    edges = np.array([-25, *later_edges], np.int64) if -25 not in later_edges else np.array(later_edges, np.int64)
    frame = frame_of(metadata, [row for part in parts for row in part])
    bucket = pl.col("ts").map_batches(
        lambda ts: pl.Series(edges[np.searchsorted(edges, ts.to_physical().to_numpy(), side="right") - 1]).cast(
            pl.Datetime("ms")
        ),
        return_dtype=pl.Datetime("ms"),
    )

    made = by_kernels(
        metadata, batches_of(metadata, parts), ["host"], ListedBuckets(edges=edges, labels=edges), ["sum"]
    )

    assert_frame_equal(made, by_hand(frame, ["host"], bucket, ["sum"]), rel_tol=1e-6)


def test_stretches_with_one_label_are_one_bucket():
    metadata = metadata_of()
    batch = batch_of(metadata, [Row(time, time, ("a",), (10**time,)) for time in range(4)])
    buckets = ListedBuckets(edges=np.array([0, 1, 2, 3], np.int64), labels=np.array([7, 9, 7, 9], np.int64))
    wanted = [Aggregation(field="cpu", function="sum", name="sum")]

    made = resample(looks_at([batch]), metadata, by=["host"], buckets=buckets, aggregations=wanted)

    assert made.column("sum").to_pylist() == [101, 1010]
    assert made.column("ts").cast(pa.int64()).to_pylist() == [7, 9]


def test_of_rows_with_one_key_the_newest_is_the_last():
    metadata = metadata_of()
    rows = [Row(sequence, time, ("a",), (sequence,)) for sequence, time in [(3, 0), (1, 0), (4, 5), (2, 5)]]
    batches = [batch_of(metadata, rows), batch_of(metadata, [Row(9, 5, ("a",), (9,)), Row(0, 0, ("a",), (0,))])]
    batches = [sort_rows_of([batch], "none").gather() for batch in batches]
    wanted = [Aggregation(field="cpu", function=function, name=function) for function in ("first", "last")]

    one, both = (
        resample(looks_at(some), metadata, by=["host"], buckets=EvenBuckets(width=100, origin=0), aggregations=wanted)
        for some in (batches[:1], batches)
    )

    assert one.select(["first", "last"]).to_pylist() == [{"first": 1, "last": 4}]
    assert both.select(["first", "last"]).to_pylist() == [{"first": 0, "last": 9}]


def test_without_rows_the_columns_are_those_that_rows_would_make():
    metadata = metadata_of(TAGS, {"x": pa.float32()})
    batches = batches_of(metadata, [[Row(1, 1, ("a", 1), (1.0,))]])
    buckets = EvenBuckets(width=5, origin=0)

    nothing = by_kernels(metadata, [], ["rack"], buckets, FUNCTIONS)

    assert_frame_equal(nothing, by_kernels(metadata, batches, ["rack"], buckets, FUNCTIONS).clear())


def test_rows_are_read_by_whoever_the_caller_says():
    metadata = metadata_of()
    looks: list[Look] = [*looks_at(batches_of(metadata, [[Row(1, 1)], [Row(2, 2)]])), tuple]
    asked: list[Look] = []

    def run(work: Callable[[Look], Any], items: Iterable[Look]) -> Iterator[Any]:
        for item in items:
            asked.append(item)
            yield work(item)

    wanted = [Aggregation(field="cpu", function="count", name="n")]
    made = resample(looks, metadata, by=[], buckets=EvenBuckets(width=5, origin=0), aggregations=wanted, run=run)

    assert asked == looks
    assert made.column("n").to_pylist() == [2]
