"""Column types as text, single values as JSON, and which type may become which.

The text is Arrow's own where Arrow has one. Strings and binaries have one width here (Arrow's large types), and
dictionaries are the type of their values: how a column is encoded is not what it means.

>>> type_to_text(pa.timestamp("us", "Europe/Paris"))
'timestamp[us, Europe/Paris]'
>>> type_from_text("timestamp[us, Europe/Paris]")
TimestampType(timestamp[us, tz=Europe/Paris])

A value as JSON, so that two are written alike if and only if they are the same to the last bit:

    null, bool, integer, string     as JSON has them
    float                           text: the shortest that reads back, "inf", or a NaN's bits: "0x7ff8000000000000"
    decimal                         text
    binary                          text, base64
    date, timestamp, duration, time the integer that Arrow keeps
    list                            a list of such
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

_SIMPLE: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.large_string(),
    "binary": pa.large_binary(),
    "date": pa.date32(),
}
_TEXT = {data_type: text for text, data_type in _SIMPLE.items()}
_NORMAL: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], pa.DataType]], ...] = (
    (lambda t: pa.types.is_string(t) or pa.types.is_string_view(t), lambda _: pa.large_string()),
    (lambda t: pa.types.is_binary(t) or pa.types.is_binary_view(t), lambda _: pa.large_binary()),
    (pa.types.is_fixed_size_binary, lambda _: pa.large_binary()),
    (pa.types.is_float16, lambda _: pa.float32()),
    (pa.types.is_date64, lambda _: pa.timestamp("ms")),
    (pa.types.is_timestamp, lambda t: pa.timestamp("ms" if t.unit == "s" else t.unit, _kept_zone(t.tz))),
    (lambda t: pa.types.is_duration(t) and t.unit == "s", lambda _: pa.duration("ms")),
    (pa.types.is_time32, lambda _: pa.time64("us")),
    (lambda t: pa.types.is_decimal32(t) or pa.types.is_decimal64(t), lambda t: pa.decimal128(t.precision, t.scale)),
)
_OFFSET = re.compile(r"[+-]\d{2}:\d{2}")
_PATTERN = re.compile(
    r"timestamp\[(?P<unit>ms|us|ns)(?:, (?P<zone>[^\]]+))?\]"
    r"|duration\[(?P<span>ms|us|ns)\]"
    r"|time\[(?P<clock>us|ns)\]"
    r"|decimal\((?P<precision>\d+), (?P<scale>-?\d+)\)"
    r"|list<(?P<item>.+)>"
)


def normalise(data_type: pa.DataType) -> pa.DataType | None:
    """Return the type a column of ``data_type`` is kept as, or None if mitoframe cannot keep it.

    Nothing is lost: widths grow, encodings are dropped, and seconds become milliseconds because neither Parquet
    nor Polars has a timestamp in seconds. A zone that is an offset becomes UTC, the same instants: Polars has zones
    with a name only.
    """
    if pa.types.is_dictionary(data_type) or pa.types.is_run_end_encoded(data_type):
        return normalise(data_type.value_type)
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        item = normalise(data_type.value_type)
        return None if item is None else pa.large_list(item)
    if pa.types.is_timestamp(data_type) and not _is_known_zone(_kept_zone(data_type.tz)):
        return None
    if pa.types.is_decimal(data_type) and data_type.scale < 0:
        return None  # Polars has none.
    for matches, kept in _NORMAL:
        if matches(data_type):
            return kept(data_type)
    return data_type if data_type in _TEXT or _is_parametric(data_type) else None


def _is_parametric(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_duration(data_type) or pa.types.is_time64(data_type) or pa.types.is_decimal128(data_type))


def _kept_zone(zone: str | None) -> str | None:
    return "UTC" if zone is not None and _OFFSET.fullmatch(zone) else zone


def _is_known_zone(zone: str | None) -> bool:
    if zone is None:
        return True
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True


def type_to_text(data_type: pa.DataType) -> str:
    """Write a type that `normalise` returned."""
    if pa.types.is_timestamp(data_type):
        return f"timestamp[{data_type.unit}, {data_type.tz}]" if data_type.tz else f"timestamp[{data_type.unit}]"
    if pa.types.is_duration(data_type):
        return f"duration[{data_type.unit}]"
    if pa.types.is_time64(data_type):
        return f"time[{data_type.unit}]"
    if pa.types.is_decimal128(data_type):
        return f"decimal({data_type.precision}, {data_type.scale})"
    if pa.types.is_large_list(data_type):
        return f"list<{type_to_text(data_type.value_type)}>"
    return _TEXT[data_type]


def type_from_text(text: str) -> pa.DataType:
    """Read what `type_to_text` wrote. ``ValueError`` for anything else."""
    if text in _SIMPLE:
        return _SIMPLE[text]
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"unknown column type {text!r}")
    if match["unit"]:
        return pa.timestamp(match["unit"], match["zone"])
    if match["span"]:
        return pa.duration(match["span"])
    if match["clock"]:
        return pa.time64(match["clock"])
    if match["precision"]:
        return pa.decimal128(int(match["precision"]), int(match["scale"]))
    return pa.large_list(type_from_text(match["item"]))


# --- values ----------------------------------------------------------------------------------------------


def scalar_to_json(scalar: pa.Scalar) -> Any:
    """Write a value of a type that `normalise` returned.

    >>> scalar_to_json(pa.scalar(-0.0)), scalar_to_json(pa.scalar(5, pa.timestamp("ns", "UTC")))
    ('-0.0', 5)
    """
    data_type = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_large_list(data_type):
        return [scalar_to_json(item) for item in scalar.values]
    if pa.types.is_floating(data_type):
        return _float_to_text(scalar)
    if pa.types.is_large_binary(data_type):
        return base64.b64encode(scalar.as_py()).decode("ascii")
    if pa.types.is_decimal128(data_type):
        return str(scalar.as_py())
    if pa.types.is_temporal(data_type):
        return scalar.value  # Python's own dates and times end too early and know no nanoseconds.
    return scalar.as_py()


def scalar_from_json(value: Any, data_type: pa.DataType) -> pa.Scalar:
    """Read what `scalar_to_json` wrote.

    >>> scalar_from_json("0x7ff8000000000001", pa.float64())
    <pyarrow.DoubleScalar: nan>
    """
    if value is None:
        return pa.scalar(None, data_type)
    if pa.types.is_large_list(data_type):
        return list_scalar([scalar_from_json(item, data_type.value_type) for item in value], data_type)
    if pa.types.is_floating(data_type):
        return _float_from_text(value, data_type)
    if pa.types.is_large_binary(data_type):
        return pa.scalar(base64.b64decode(value, validate=True), data_type)
    if pa.types.is_decimal128(data_type):
        return pa.scalar(Decimal(value), data_type)
    if pa.types.is_temporal(data_type):
        return pa.array([value], _integer_of(data_type)).view(data_type)[0]
    return pa.scalar(value, data_type)


def same_scalar(left: pa.Scalar | None, right: pa.Scalar | None) -> bool:
    """Tell whether two values are the same to the last bit: Arrow finds no NaN equal, and 0.0 equal to -0.0."""
    if left is None or right is None:
        return left is right
    return bool(left.type == right.type and scalar_to_json(left) == scalar_to_json(right))


def list_scalar(items: list[pa.Scalar], data_type: pa.DataType) -> pa.Scalar:
    """Make one list of values that are of its item type already."""
    parts = [repeat(item, 1) for item in items] or [pa.nulls(0, data_type.value_type)]
    return pa.LargeListArray.from_arrays(pa.array([0, len(items)], pa.int64()), pa.concat_arrays(parts))[0]


def repeat(scalar: pa.Scalar, rows: int, memory_pool: pa.MemoryPool | None = None) -> pa.Array:
    """Make a column of one value."""
    if not rows:
        return pa.nulls(0, scalar.type)  # Arrow cannot repeat a list no times.
    return pa.repeat(scalar, rows, memory_pool=memory_pool)


def _float_to_text(scalar: pa.Scalar) -> str:
    number: float = scalar.as_py()
    return hex(pa.repeat(scalar, 1).view(_integer_of(scalar.type))[0].as_py()) if math.isnan(number) else repr(number)


def _float_from_text(text: str, data_type: pa.DataType) -> pa.Scalar:
    if text.startswith("0x"):
        return pa.array([int(text, 16)], _integer_of(data_type)).view(data_type)[0]
    return pa.scalar(float(text), data_type)


def _integer_of(data_type: pa.DataType) -> pa.DataType:
    """Return the integers that a float's bits or a date's days are seen as."""
    if pa.types.is_floating(data_type):
        return pa.uint32() if data_type.bit_width == 32 else pa.uint64()
    return pa.int32() if data_type.bit_width == 32 else pa.int64()


# --- which type may become which ---------------------------------------------------------------------------

_EXACT_BITS = {pa.float32(): 24, pa.float64(): 53}


def cast_is_possible(old: pa.DataType, new: pa.DataType) -> bool:
    """Tell whether every value of ``old``, whatever it is, is a value of ``new`` and no cast of it can fail.

    Requires: both are types that `normalise` returned.

    A file may be read after one retyping or, rewritten in between, step by step. So the answer is yes only where the
    steps of any way from one type to another end in the same values. That is why a bool is no number here, why a float
    does not become text (0.1 reads differently by way of float64), and why an integer does, but not a date.
    """
    if old == new:
        return True
    if pa.types.is_large_list(old) and pa.types.is_large_list(new):
        return cast_is_possible(old.value_type, new.value_type)
    if pa.types.is_integer(old):
        return _integers_fit(old, new)
    if pa.types.is_decimal128(old) and pa.types.is_decimal128(new):
        return bool(new.scale >= old.scale and new.precision - new.scale >= old.precision - old.scale)
    if pa.types.is_timestamp(old) and pa.types.is_timestamp(new):
        return bool(old.unit == new.unit and old.tz and new.tz)  # The same instants, shown elsewhere.
    # No step to a finer unit but these: an int64 of milliseconds may not fit into one of microseconds.
    finer = ((pa.float32(), pa.float64()), (pa.date32(), pa.timestamp("ms")), (pa.time64("us"), pa.time64("ns")))
    return (old, new) in finer


def _integers_fit(old: pa.DataType, new: pa.DataType) -> bool:
    low, high = _range_of(old)
    if pa.types.is_integer(new):
        new_low, new_high = _range_of(new)
        return new_low <= low and high <= new_high
    if pa.types.is_decimal128(new):
        return bool(len(str(high)) <= new.precision - new.scale)
    return bool(new == pa.large_string() or max(-low, high) <= 2 ** _EXACT_BITS.get(new, 0))


def _range_of(data_type: pa.DataType) -> tuple[int, int]:
    """Return the least and the greatest value of an integer type."""
    bits = data_type.bit_width
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pa.types.is_signed_integer(data_type) else (0, 2**bits - 1)
