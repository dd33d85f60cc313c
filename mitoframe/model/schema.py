"""What a region's rows look like: columns, what each means, and the order everything is kept in.

    tag-1 … tag-m, time  ->  field-1 … field-n

Zero or more tags (nullable), exactly one time column (never null), zero or more fields (nullable). The canonical
column order is tags, time, fields; names starting with two underscores are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import pyarrow as pa

from mitoframe.model.errors import InvalidInputError, unknown_name
from mitoframe.model.ids import RegionId
from mitoframe.model.timerange import TimeUnit
from mitoframe.model.types import normalise, type_from_text, type_to_text

SEQUENCE_COLUMN = "__sequence"
OP_TYPE_COLUMN = "__op_type"
RESERVED_PREFIX = "__"


class SemanticType(StrEnum):
    """What a column means. The values are written to disk: do not change them."""

    TAG = "tag"
    TIME = "time"
    FIELD = "field"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    column_id: int
    name: str
    semantic: SemanticType
    type: pa.DataType

    def to_json(self) -> dict[str, Any]:
        return {"id": self.column_id, "name": self.name, "semantic": self.semantic, "type": type_to_text(self.type)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Column:
        return Column(
            column_id=value["id"],
            name=value["name"],
            semantic=SemanticType(value["semantic"]),
            type=type_from_text(value["type"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionMetadata:
    """A region's schema at one version. ``columns`` are in canonical order."""

    region_id: RegionId
    schema_version: int
    columns: tuple[Column, ...]

    @property
    def tags(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.semantic is SemanticType.TAG)

    @property
    def time(self) -> Column:
        return next(column for column in self.columns if column.semantic is SemanticType.TIME)

    @property
    def fields(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.semantic is SemanticType.FIELD)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def key_names(self) -> frozenset[str]:
        """The columns that make a row's key: tags and time."""
        return frozenset(column.name for column in self.columns if column.semantic is not SemanticType.FIELD)

    @property
    def time_unit(self) -> TimeUnit:
        return cast("TimeUnit", self.time.type.unit)

    @property
    def time_zone(self) -> str | None:
        return cast("str | None", self.time.type.tz)

    def arrow_schema(self) -> pa.Schema:
        """The schema users see: strings as strings, no internal columns."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.semantic is not SemanticType.TIME) for c in self.columns])

    def to_json(self) -> dict[str, Any]:
        return {
            "region_id": self.region_id,
            "schema_version": self.schema_version,
            "columns": [column.to_json() for column in self.columns],
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> RegionMetadata:
        return RegionMetadata(
            region_id=RegionId(value["region_id"]),
            schema_version=value["schema_version"],
            columns=tuple(Column.from_json(column) for column in value["columns"]),
        )


def build_metadata(region_id: RegionId, schema: pa.Schema, *, time: str, tags: Sequence[str] = ()) -> RegionMetadata:
    """Make the first metadata of a region from a frame's schema.

    Raises:
        InvalidInputError: a name or type cannot be kept; the message names it and the fix.

    """
    check_names(schema.names)
    check_roles(schema.names, time, tags)
    types = {name: _kept_type(name, schema.field(name).type) for name in schema.names}
    _check_time_type(time, types[time])
    for tag in tags:
        _check_tag_type(tag, types[tag])
    ordered = [*tags, time, *(name for name in schema.names if name != time and name not in tags)]
    roles = {time: SemanticType.TIME} | dict.fromkeys(tags, SemanticType.TAG)
    return RegionMetadata(
        region_id=region_id,
        schema_version=1,
        columns=tuple(
            Column(column_id=number, name=name, semantic=roles.get(name, SemanticType.FIELD), type=types[name])
            for number, name in enumerate(ordered, start=1)
        ),
    )


def check_names(names: Iterable[object]) -> None:
    """Refuse column names that are not distinct, non-empty strings outside our own ``__`` space."""
    seen = set()
    for name in names:
        if not isinstance(name, str):
            raise InvalidInputError(f"column name {name!r} is a {type(name).__name__}; rename it to a string.")
        if not name or "\0" in name:
            raise InvalidInputError(f"column name {name!r} is empty or holds a NUL; rename it.")
        if name.startswith(RESERVED_PREFIX):
            raise InvalidInputError(f"column name {name!r} starts with two underscores, which are reserved; rename it.")
        if name in seen:
            raise InvalidInputError(f"column name {name!r} appears twice; drop or rename one of them.")
        seen.add(name)


def check_roles(names: Sequence[str], time: str, tags: Sequence[str]) -> None:
    """Refuse a time or tag column that is missing or named twice."""
    if isinstance(tags, str):
        raise InvalidInputError(f"tags={tags!r} is a string; give a list, such as tags=[{tags!r}].")
    for role, name in [("time", time), *(("tag", tag) for tag in tags)]:
        if name not in names:
            raise InvalidInputError(f"{role}={name!r}: {unknown_name('column', name, names)}")
    if time in tags:
        raise InvalidInputError(f"column {time!r} is both the time and a tag; leave it out of tags.")
    if len(set(tags)) != len(tags):
        raise InvalidInputError(f"tags={list(tags)!r} names a column twice.")


def _kept_type(name: str, data_type: pa.DataType) -> pa.DataType:
    kept = normalise(data_type)
    if kept is None and pa.types.is_null(data_type):
        raise InvalidInputError(f"column {name!r} holds only nulls, so its type is unknown; cast it, or leave it out.")
    if kept is None:
        raise InvalidInputError(f"column {name!r} has type {data_type}, which cannot be kept; cast it or leave it out.")
    return kept


def _check_time_type(name: str, data_type: pa.DataType) -> None:
    if not pa.types.is_timestamp(data_type):
        raise InvalidInputError(
            f"the time column {name!r} has type {data_type}; it must be a timestamp. Convert it first, for example "
            f'with pl.col({name!r}).str.to_datetime(), pl.from_epoch({name!r}, time_unit="s") or pd.to_datetime().'
        )


def _check_tag_type(name: str, data_type: pa.DataType) -> None:
    allowed = (
        pa.types.is_large_string(data_type)
        or pa.types.is_integer(data_type)
        or pa.types.is_boolean(data_type)
        or pa.types.is_date32(data_type)
    )
    if not allowed:
        raise InvalidInputError(
            f"tag column {name!r} has type {data_type}; a tag is a string, integer, bool or date. "
            "Make it a field, or cast it to a string."
        )
