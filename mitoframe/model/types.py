"""Column types as text, for the manifest and for messages.

The text is Arrow's own where Arrow has one. Strings and binaries have one width here (Arrow's large types), and
dictionaries are the type of their values: how a column is encoded is not what it means.

>>> type_to_text(pa.timestamp("us", "Europe/Paris"))
'timestamp[us, Europe/Paris]'
>>> type_from_text("timestamp[us, Europe/Paris]")
TimestampType(timestamp[us, tz=Europe/Paris])
"""

from __future__ import annotations

import re
from collections.abc import Callable
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
