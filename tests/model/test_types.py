from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from values import kept_types

from mitoframe.model.types import normalise, type_from_text, type_to_text


@settings(deadline=None)
@given(kept_types)
def test_every_kept_type_survives_being_text(data_type):
    assert type_from_text(type_to_text(data_type)) == data_type


@settings(deadline=None)
@given(kept_types)
def test_a_kept_type_is_kept_as_it_is(data_type):
    assert normalise(data_type) == data_type


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [
        (pa.string(), pa.large_string()),
        (pa.string_view(), pa.large_string()),
        (pa.binary(), pa.large_binary()),
        (pa.binary_view(), pa.large_binary()),
        (pa.binary(4), pa.large_binary()),
        (pa.float16(), pa.float32()),
        (pa.date64(), pa.timestamp("ms")),
        (pa.timestamp("s"), pa.timestamp("ms")),
        (pa.timestamp("s", "UTC"), pa.timestamp("ms", "UTC")),
        (pa.timestamp("us", "+02:00"), pa.timestamp("us", "UTC")),
        (pa.duration("s"), pa.duration("ms")),
        (pa.time32("s"), pa.time64("us")),
        (pa.time32("ms"), pa.time64("us")),
        (pa.decimal32(5, 2), pa.decimal128(5, 2)),
        (pa.decimal64(12, 2), pa.decimal128(12, 2)),
        (pa.dictionary(pa.int8(), pa.string()), pa.large_string()),
        (pa.run_end_encoded(pa.int32(), pa.float16()), pa.float32()),
        (pa.list_(pa.string()), pa.large_list(pa.large_string())),
        (pa.large_list(pa.list_(pa.timestamp("s"))), pa.large_list(pa.large_list(pa.timestamp("ms")))),
    ],
    ids=str,
)
def test_a_type_is_kept_as_one_that_loses_nothing(given_type, kept):
    assert normalise(given_type) == kept


@pytest.mark.parametrize(
    "refused",
    [
        pa.null(),
        pa.struct({"a": pa.int8()}),
        pa.map_(pa.string(), pa.int8()),
        pa.list_(pa.null()),
        pa.dictionary(pa.int8(), pa.null()),
        pa.decimal256(50, 2),
        pa.decimal128(5, -2),
        pa.timestamp("ms", "Mars/Base"),
        pa.month_day_nano_interval(),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_kept_is_told_by_none(refused):
    assert normalise(refused) is None


@pytest.mark.parametrize("text", ["", "int", "timestamp[s]", "list<>", "list<int>", "decimal(5)", "int64 "])
def test_text_that_names_no_type_is_a_value_error(text):
    with pytest.raises(ValueError, match="unknown column type"):
        type_from_text(text)
