"""Data in pieces: of one size, in bounded memory, checked as the whole would be, and of one schema."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mitoframe.ingest import to_batches
from mitoframe.model.errors import InvalidInputError

SCHEMA = pa.schema({"ts": pa.timestamp("us"), "x": pa.int64()})


def rows(first: int, last: int) -> pa.Table:
    numbers = np.arange(first, last)
    return pa.table({"ts": pa.array(numbers).view(pa.timestamp("us")), "x": numbers}, schema=SCHEMA)


def reader_of(sizes: list[int]) -> pa.RecordBatchReader:
    """Yield batches of these sizes."""
    stops = np.cumsum([0, *sizes]).tolist()
    batches = [rows(*span).combine_chunks().to_batches() for span in pairwise(stops)]
    empty = pa.RecordBatch.from_pylist([], schema=SCHEMA)
    return pa.RecordBatchReader.from_batches(SCHEMA, iter([found[0] if found else empty for found in batches]))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], [0]),
        ([0, 0], [0]),
        ([1] * 7, [3, 3, 1]),
        ([6], [3, 3]),
        ([2, 0, 2, 0, 2], [3, 3]),
        ([1, 10, 1], [3, 3, 3, 3]),
        ([2], [2]),
    ],
)
def test_batches_of_any_size_become_pieces_of_one_size(sizes: list[int], expected: list[int]) -> None:
    pieces = list(to_batches(reader_of(sizes), ["ts"], 3))

    assert [len(piece) for piece in pieces] == expected
    assert pa.concat_tables(pieces)["x"].to_pylist() == list(range(sum(sizes)))
    assert all(piece.schema == SCHEMA for piece in pieces)


def test_no_more_is_read_than_the_piece_that_is_asked_for_takes() -> None:
    asked: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(10):
            asked.append(number)
            yield rows(number, number + 1).to_batches()[0]

    pieces = to_batches(pa.RecordBatchReader.from_batches(SCHEMA, batches()), ["ts"], 2)
    next(pieces)

    assert asked == [0, 1]


@pytest.mark.parametrize(
    "data", [rows(0, 9), rows(0, 9).to_pandas(), pl.DataFrame(rows(0, 9))], ids=["arrow", "pandas", "polars"]
)
def test_a_frame_in_memory_is_viewed_and_not_copied(data: Any) -> None:
    pieces = list(to_batches(data, ["ts"], 4))

    addresses = [piece["x"].chunk(0).buffers()[1].address + 8 * piece["x"].chunk(0).offset for piece in pieces]
    assert [address - addresses[0] for address in addresses] == [0, 32, 64]


OTHERS = {
    "type": pa.schema({"ts": pa.timestamp("us"), "x": pa.float64()}),
    "name": pa.schema({"ts": pa.timestamp("us"), "y": pa.int64()}),
    "fewer columns": pa.schema({"ts": pa.timestamp("us")}),
    "more columns": pa.schema({"ts": pa.timestamp("us"), "x": pa.int64(), "y": pa.int64()}),
}


@pytest.mark.parametrize("change", OTHERS)
def test_a_reader_that_changes_its_columns_is_refused_after_the_pieces_before(change: str) -> None:
    other = pa.RecordBatch.from_arrays([pa.nulls(1, kind) for kind in OTHERS[change].types], schema=OTHERS[change])
    batches = [*rows(0, 2).to_batches(), other]
    pieces = to_batches(pa.RecordBatchReader.from_batches(SCHEMA, iter(batches)), ["ts"], 2)

    assert next(pieces)["x"].to_pylist() == [0, 1]
    with pytest.raises(InvalidInputError, match=r"the data changes its columns on the way: .* came where .* was annou"):
        next(pieces)


def test_a_query_that_fails_on_the_way_says_so_in_its_own_words() -> None:
    relation = duckdb.connect().sql(
        "select make_timestamp(range) as ts, if(range < 300000, '1', 'one')::bigint as x from range(400000)"
    )
    pieces = to_batches(relation, ["ts"], 1000)

    with pytest.raises(OSError, match="Could not convert string 'one'"):
        list(pieces)


def test_what_a_readers_own_code_raises_comes_through() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows(0, 2).to_batches()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(to_batches(pa.RecordBatchReader.from_batches(SCHEMA, batches()), ["ts"], 1))


@pytest.mark.parametrize("data", [[1], 5, "rows", pl.Series([1])], ids=lambda data: type(data).__name__)
def test_what_is_no_frame_is_refused_before_a_piece(data: object) -> None:
    with pytest.raises(InvalidInputError, match="cannot"):
        next(to_batches(data, ["ts"], 1))


def test_every_piece_is_checked_for_offsets_that_lead_elsewhere() -> None:
    good = pa.record_batch({"x": pa.array(["a"]).dictionary_encode()})
    astray = pa.DictionaryArray.from_arrays(pa.array([7], pa.int32()), ["a"], safe=False)
    forged = pa.RecordBatch.from_arrays([astray], schema=good.schema)
    pieces = to_batches(pa.RecordBatchReader.from_batches(good.schema, iter([good, forged])), ["ts"], 1)

    next(pieces)
    with pytest.raises(InvalidInputError, match="column 'x' is not valid Arrow"):
        next(pieces)


def test_objects_of_pandas_are_judged_as_a_whole() -> None:
    frame = pd.DataFrame({"ts": pd.to_datetime([0, 1, 2]), "x": pd.Series([None, None, "a"], dtype=object)})

    first, *_ = to_batches(frame, ["ts"], 2)

    assert first["x"].type == pa.string()


PEAK = """
import resource, sys
import polars as pl, pyarrow as pa
from mitoframe.ingest import to_batches
file, source = sys.argv[1:]
if source == "duckdb":
    import duckdb
    data = duckdb.connect(config={"memory_limit": "200MB"}).sql(f"select * from '{file}'")
elif source == "reader":
    import pyarrow.parquet as pq
    parquet = pq.ParquetFile(file)
    data = pa.RecordBatchReader.from_batches(parquet.schema_arrow, parquet.iter_batches(100_000))
else:
    data = pl.scan_parquet(file).with_columns(pl.col("x0") * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(len(piece) for piece in to_batches(data, ["ts"], 100_000))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 4 M rows of 8 columns, 256 MB of numbers, in a small file."""
    path = tmp_path_factory.mktemp("large") / "rows.parquet"
    part = pa.table(
        {"ts": pa.array(range(500_000), pa.timestamp("us"))} | {f"x{n}": np.zeros(500_000) for n in range(7)}
    )
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(8):
            writer.write_table(part, row_group_size=50_000)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count peak memory in other units")
@pytest.mark.parametrize("source", ["lazy", "reader", "duckdb"])
def test_a_source_larger_than_memory_needs_the_memory_of_a_few_pieces(large_file: Path, source: str) -> None:
    command = [sys.executable, "-c", PEAK, str(large_file), source]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)

    count, peak_mib = map(int, found.stdout.split())
    assert count == 4_000_000
    assert peak_mib < 150
