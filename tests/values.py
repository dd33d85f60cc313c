"""Every type that is kept, as a strategy; and a column of each with the values that break things.

Nulls, NaN with a payload, -0.0, the ends of ranges, empty and long strings.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

ROWS = 6
"""Rows of each column."""

_NAN_WITH_PAYLOAD = 0x7FF8_0000_DEAD_BEEF
_NEGATIVE_NAN = 0xFFF8_0000_0000_0001


def _doubles() -> pa.Array:
    bits = np.array([_NAN_WITH_PAYLOAD, _NEGATIVE_NAN, 1 << 63, 0, 0x7FF0 << 48, 0], dtype=np.uint64)
    return pa.array(bits.view(np.float64), mask=np.arange(ROWS) == 5)


def _integers(data_type: pa.DataType, bits: int, signed: bool) -> pa.Array:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return pa.array([low, high, None, 0, 1, high - 1], data_type)


def _ticks(data_type: pa.DataType, ticks: list[int | None]) -> pa.Array:
    return pa.array(ticks, pa.int64()).cast(data_type)


SPREAD = [0, -1, None, 1, 2**62, -(2**62)]

COLUMNS: dict[str, pa.Array] = {
    "bool": pa.array([True, False, None, True, False, None]),
    "int8": _integers(pa.int8(), 8, True),
    "int16": _integers(pa.int16(), 16, True),
    "int32": _integers(pa.int32(), 32, True),
    "int64": _integers(pa.int64(), 64, True),
    "uint8": _integers(pa.uint8(), 8, False),
    "uint16": _integers(pa.uint16(), 16, False),
    "uint32": _integers(pa.uint32(), 32, False),
    "uint64": _integers(pa.uint64(), 64, False),
    "float32": pa.array([float("nan"), -0.0, None, 1.5, float("-inf"), 3e-45], pa.float32()),
    "float64": _doubles(),
    "string": pa.array(["", None, "a", "ä\0\n", "𝄞" * 40, "'\"<"], pa.large_string()),
    "binary": pa.array([b"", None, b"\0", b"\xff" * 70, b"PAR1", b"a"], pa.large_binary()),
    "date": pa.array([0, -1, None, 1, 100_000, -100_000], pa.int32()).cast(pa.date32()),
    "timestamp_ms": _ticks(pa.timestamp("ms"), SPREAD),
    "timestamp_us_utc": _ticks(pa.timestamp("us", "UTC"), SPREAD),
    "timestamp_ns_paris": _ticks(pa.timestamp("ns", "Europe/Paris"), SPREAD),
    "duration_ms": _ticks(pa.duration("ms"), SPREAD),
    "duration_us": _ticks(pa.duration("us"), SPREAD),
    "duration_ns": _ticks(pa.duration("ns"), SPREAD),
    "time_us": _ticks(pa.time64("us"), [0, 1, None, 86_399_999_999, 5, 6]),
    "time_ns": _ticks(pa.time64("ns"), [0, 1, None, 86_399_999_999_999, 5, 6]),
    "decimal": pa.array(
        [Decimal("1.50"), Decimal("-0.01"), None, Decimal(0), Decimal("1e5"), None], pa.decimal128(12, 2)
    ),
    "decimal_wide": pa.array([Decimal(10**37), Decimal(-1), None, None, None, Decimal(0)], pa.decimal128(38, 0)),
    "list": pa.array([[], None, [1, None], [2], [], [3, 4, 5]], pa.large_list(pa.int64())),
    "nested": pa.array(
        [[["a", None], []], None, [], [None], [["b"]], [[]]], pa.large_list(pa.large_list(pa.large_string()))
    ),
    "all_null": pa.nulls(ROWS, pa.float64()),
}
FIELD_TYPES = {name: column.type for name, column in COLUMNS.items()}


SIMPLE = [
    pa.bool_(),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64(), pa.large_string(), pa.large_binary(), pa.date32()),
]
units = st.sampled_from(["ms", "us", "ns"])
zones = st.sampled_from([None, "UTC", "Europe/Paris", "America/Argentina/Buenos_Aires"])
decimals = st.integers(1, 38).flatmap(lambda precision: st.integers(0, precision).map(lambda s: (precision, s)))
scalar_types = (
    st.sampled_from(SIMPLE)
    | st.builds(pa.timestamp, units, zones)
    | st.builds(pa.duration, units)
    | st.sampled_from([pa.time64("us"), pa.time64("ns")])
    | decimals.map(lambda pair: pa.decimal128(*pair))
)
kept_types = st.recursive(scalar_types, lambda items: items.map(pa.large_list), max_leaves=3)


def same_bits(left: pa.Array, right: pa.Array) -> bool:
    """Tell whether two columns hold the same values, NaN payloads and signs of zero included."""
    if left.type != right.type or left.is_valid() != right.is_valid():
        return False
    if pa.types.is_floating(left.type):
        width = np.uint32 if left.type == pa.float32() else np.uint64
        left, right = (pa.array(side.drop_null().to_numpy(zero_copy_only=False).view(width)) for side in (left, right))
    return bool(left.equals(right))
