from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import batch_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.batch import fields_without_columns
from mitoframe.storage.series import decode_series, encode_series, unify

TYPES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "host": (pa.large_string(), [None, "", "a", "B", "ä", "𝄞", "\U0000ffff"]),
    "rack": (pa.int64(), [None, -(2**63), -1, 0, 2**63 - 1]),
    "port": (pa.uint8(), [None, 0, 255]),
    "up": (pa.bool_(), [None, False, True]),
    "day": (pa.date32(), [None, date(1969, 12, 31), date(2024, 1, 1)]),
}
Tuples = list[tuple[Any, ...]]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[Tuples]]:
    names = draw(st.lists(st.sampled_from(list(TYPES)), unique=True, max_size=3))
    one = st.tuples(*(st.sampled_from(TYPES[name][1]) for name in names))
    return names, draw(st.lists(st.lists(one, max_size=6), min_size=1, max_size=4))


def table_of(names: list[str], tuples: Tuples) -> pa.RecordBatch:
    if not names:
        return fields_without_columns(len(tuples))
    columns = [pa.array([values[i] for values in tuples], TYPES[name][0]) for i, name in enumerate(names)]
    return pa.RecordBatch.from_arrays(columns, names=names)


def tuples_of(table: pa.RecordBatch) -> Tuples:
    columns = [column.to_pylist() for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def in_order(values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [(value is not None, value.encode() if isinstance(value, str) else value) for value in values]


@settings(deadline=None, max_examples=80)
@given(tables())
def test_series_of_several_tables_get_one_order_nulls_first(drawn):
    names, parts = drawn

    union, ranks = unify([table_of(names, tuples) for tuples in parts])

    wanted = sorted({values for tuples in parts for values in tuples}, key=in_order)
    assert tuples_of(union) == wanted
    assert [[wanted[rank] for rank in found] for found in ranks] == parts
    assert all(found.dtype == np.int32 for found in ranks)


def test_one_table_without_rows_has_no_series():
    union, ranks = unify([table_of(["host"], [])])

    assert (len(union), [found.tolist() for found in ranks]) == (0, [[]])


@settings(deadline=None, max_examples=50)
@given(tables(), st.data())
def test_series_and_their_first_rows_survive_being_bytes(drawn, data):
    names, parts = drawn
    union, _ = unify([table_of(names, [*parts[0], parts[0][0] if parts[0] else tuple(None for _ in names)])])
    counts = data.draw(st.lists(st.integers(0, 5), min_size=len(union), max_size=len(union)))
    offsets = np.cumsum([0, *counts]).astype(np.int64)

    found, found_offsets = decode_series(encode_series(union, offsets).to_pybytes(), int(offsets[-1]))

    assert tuples_of(found) == tuples_of(union)
    assert found.schema == union.schema
    assert found_offsets.tolist() == offsets.tolist()


@pytest.mark.parametrize(
    ("offsets", "row_count"),
    [([1, 2, 3], 3), ([0, 2, 1], 3), ([0, 2, 3], 1), ([-1, 2, 3], 3)],
    ids=["late start", "backwards", "beyond the rows", "negative"],
)
def test_first_rows_that_cannot_be_are_refused(offsets, row_count):
    series = batch_of(metadata_of(), []).series
    table = pa.RecordBatch.from_arrays([pa.array(["a", "b", "c"], pa.large_string())], names=series.schema.names)
    data = encode_series(table, np.array([*offsets, row_count], dtype=np.int64)).to_pybytes()

    with pytest.raises(pa.ArrowInvalid, match="series offsets are not in order"):
        decode_series(data, row_count)
