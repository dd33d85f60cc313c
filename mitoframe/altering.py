"""What users say of columns and options, in the words of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mitoframe.frames.polars import to_arrow_schema
from mitoframe.model.alter import (
    AddColumns,
    Alteration,
    DropColumns,
    DropDefaults,
    ModifyColumnTypes,
    NewColumn,
    SetDefaults,
    SetIndexes,
    UnsetIndexes,
)
from mitoframe.model.errors import ConfigError, InvalidInputError, unknown_name
from mitoframe.model.options import option_least
from mitoframe.model.timerange import parse_duration_ms

FOREVER = "forever"
"""The time to live of a table that has none."""
_DURATIONS = {
    "compaction_window": "compaction_window_ms",
    "auto_flush_interval": "auto_flush_interval_ms",
    "ttl": "ttl_ms",
    "compaction_settle": "compaction_settle_ms",
}
_PLAIN = (
    "dedup",
    "wal",
    "write_buffer_size_bytes",
    "row_group_rows",
    "index_mode",
    "sst_size_bytes",
    "compaction_mode",
    "compaction_policy",
    "compaction_trigger_files",
    "compaction_settled_trigger_files",
    "compaction_input_files_max",
    "compaction_input_size_max_bytes",
)
OPTIONS = (*_PLAIN, *_DURATIONS)


def region_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names of `RegionOptions`.

    Raises:
        ConfigError: there is no such option, or it is a duration that is too short.

    >>> region_options({"compaction_window": "1h", "dedup": "merge"})
    {'compaction_window_ms': 3600000, 'dedup': 'merge'}
    """
    return {option_name(name): _value(name, value) for name, value in options.items()}


def _value(name: str, value: Any) -> Any:
    if name not in _DURATIONS:
        return value
    if name == "ttl" and value == FOREVER:
        return None
    found, least = parse_duration_ms(value, name), option_least(_DURATIONS[name])
    if found < least:
        forever = f'; "{FOREVER}" keeps every row' if name == "ttl" else ""
        raise ConfigError(f"{name}={value!r} is too short: give at least {least} ms{forever}.")
    return found


def option_name(name: str) -> str:
    """Return the name that `RegionOptions` has for an option."""
    if name not in OPTIONS:
        raise ConfigError(unknown_name("option", str(name), OPTIONS))
    return _DURATIONS.get(name, name)


def alterations(
    *,
    add: Mapping[str, Any],
    drop: Sequence[str],
    retype: Mapping[str, Any],
    defaults: Mapping[str, Any],
    drop_defaults: Sequence[str],
    indexes: Mapping[str, Sequence[str]],
    drop_indexes: Sequence[str],
) -> tuple[Alteration, ...]:
    """Return the changes of columns, those that make room first."""
    changes: list[Alteration] = []
    if drop:
        changes.append(DropColumns(_names(drop, "drop")))
    if add:
        types = arrow_types(add)
        new = tuple(NewColumn(name, types[name], default=defaults.get(name)) for name in add)
        changes.append(AddColumns(new))
    if retype:
        changes.append(ModifyColumnTypes(arrow_types(retype)))
    later = {name: value for name, value in defaults.items() if name not in add}
    if later:
        changes.append(SetDefaults(later))
    if drop_defaults:
        changes.append(DropDefaults(_names(drop_defaults, "drop_defaults")))
    if indexes:
        changes.append(SetIndexes({name: _names(kinds, f"indexes[{name!r}]") for name, kinds in indexes.items()}))
    if drop_indexes:
        changes.append(UnsetIndexes(_names(drop_indexes, "drop_indexes")))
    return tuple(changes)


def arrow_types(types: Mapping[str, Any]) -> dict[str, pa.DataType]:
    """Return Polars or Arrow types as Arrow types."""
    arrow = {name: given for name, given in types.items() if isinstance(given, pa.DataType)}
    others = to_arrow_schema({name: given for name, given in types.items() if name not in arrow})
    return {name: arrow.get(name) or others.field(name).type for name in types}


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise InvalidInputError(f"{what}={names!r} is a string; give a list, such as [{names!r}].")
    return tuple(names)
