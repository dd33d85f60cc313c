"""What a region's rows look like: columns, what each means, and the order everything is kept in.

    tag-1 … tag-m, time  ->  field-1 … field-n

Zero or more tags (nullable), exactly one time column (never null), zero or more fields (nullable). The canonical
column order is tags, time, fields; names starting with two underscores are ours.

A schema changes by alterations (model/alter.py), each a new version of it. Files are not rewritten for that: they hold
the columns they were written with, told apart by ``column_id``, and are read as if they had the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

import pyarrow as pa

from mitoframe.model.errors import InvalidInputError, unknown_name
from mitoframe.model.ids import RegionId
from mitoframe.model.memory import POOL
from mitoframe.model.timerange import TimeUnit
from mitoframe.model.types import (
    normalise,
    repeat,
    same_scalar,
    scalar_from_json,
    scalar_to_json,
    type_from_text,
    type_to_text,
)

SEQUENCE_COLUMN = "__sequence"
OP_TYPE_COLUMN = "__op_type"
RESERVED_PREFIX = "__"


class SemanticType(StrEnum):
    """What a column means. The values are written to disk: do not change them."""

    TAG = "tag"
    TIME = "time"
    FIELD = "field"


INDEX_KINDS = ("inverted", "skipping", "fulltext")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """One column.

    Attributes:
        column_id: what tells it apart for ever: a name may be dropped and given again, an id is not.
        default: what a new row has where a write leaves the column out; None for null. Fields only.
        initial: what rows written before the column was added read as; None for null. It never changes, so that what
            was read once is read again, whatever happens to ``default``.
        indexes: the kinds of index that are wanted of it, in the order of `INDEX_KINDS`.
        since: the schema version from which on files hold the column as it is now. Older ones cannot be read by name
            for it; 0 if any can.

    """

    column_id: int
    name: str
    semantic: SemanticType
    type: pa.DataType
    default: pa.Scalar | None = None
    initial: pa.Scalar | None = None
    indexes: tuple[str, ...] = ()
    since: int = 0

    def __post_init__(self) -> None:
        for value in (self.default, self.initial):
            assert value is None or (value.is_valid and value.type == self.type), "a default has the column's type"
            assert value is None or self.semantic is SemanticType.FIELD, "only fields have defaults"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Column):
            return NotImplemented
        return (
            self._plain() == other._plain()
            and same_scalar(self.default, other.default)
            and same_scalar(self.initial, other.initial)
        )

    def __hash__(self) -> int:
        return hash(self._plain())

    def _plain(self) -> tuple[object, ...]:
        return self.column_id, self.name, self.semantic, self.type, self.indexes, self.since

    def fill(self, rows: int) -> pa.Array:
        """Return the column of new rows that were written without it."""
        return self._repeat(self.default, rows)

    def fill_older(self, rows: int) -> pa.Array:
        """Return the column of rows that are older than it."""
        return self._repeat(self.initial, rows)

    def _repeat(self, value: pa.Scalar | None, rows: int) -> pa.Array:
        return pa.nulls(rows, self.type, POOL) if value is None else repeat(value, rows, POOL)

    def to_json(self) -> dict[str, Any]:
        """Write it down; what is not set is left out."""
        value: dict[str, Any] = {
            "id": self.column_id,
            "name": self.name,
            "semantic": self.semantic,
            "type": type_to_text(self.type),
        }
        if self.default is not None:
            value["default"] = scalar_to_json(self.default)
        if self.initial is not None:
            value["initial"] = scalar_to_json(self.initial)
        if self.indexes:
            value["indexes"] = list(self.indexes)
        if self.since:
            value["since"] = self.since
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> Column:
        data_type = type_from_text(value["type"])
        return Column(
            column_id=value["id"],
            name=value["name"],
            semantic=SemanticType(value["semantic"]),
            type=data_type,
            default=scalar_from_json(value["default"], data_type) if "default" in value else None,
            initial=scalar_from_json(value["initial"], data_type) if "initial" in value else None,
            indexes=tuple(value.get("indexes", ())),
            since=value.get("since", 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionMetadata:
    """A region's schema at one version. ``columns`` are in canonical order.

    Attributes:
        former_names: names of columns that were dropped: files may hold other values under them.
        next_column_id: above every id that was ever given, to a column that was dropped too. What is handed in is a
            lower bound: the columns at hand are counted in any case.
        tags: the columns that are tags, in their order.
        time: the column that is the time.
        fields: the columns that are fields, in their order.
        names: of all columns, in their order.
        tag_names: of the columns that are tags.
        key_names: of the columns that make a row's key: tags and time.
        series_schema: of a batch's series: the tags.
        fields_schema: of a batch's fields.

    """

    region_id: RegionId
    schema_version: int
    columns: tuple[Column, ...]
    former_names: tuple[str, ...] = ()
    next_column_id: int = 0
    # What follows from the columns is found once: every write asks for it.
    tags: tuple[Column, ...] = field(init=False, repr=False, compare=False)
    time: Column = field(init=False, repr=False, compare=False)
    fields: tuple[Column, ...] = field(init=False, repr=False, compare=False)
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    tag_names: frozenset[str] = field(init=False, repr=False, compare=False)
    key_names: frozenset[str] = field(init=False, repr=False, compare=False)
    series_schema: pa.Schema = field(init=False, repr=False, compare=False)
    fields_schema: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys = [column for column in self.columns if column.semantic is not SemanticType.FIELD]
        tags = tuple(column for column in keys if column.semantic is SemanticType.TAG)
        fields = tuple(column for column in self.columns if column.semantic is SemanticType.FIELD)
        found = {
            "next_column_id": max(self.next_column_id, self._highest_id() + 1),
            "tags": tags,
            "time": next(column for column in keys if column.semantic is SemanticType.TIME),
            "fields": fields,
            "series_schema": pa.schema([(tag.name, tag.type) for tag in tags]),
            "fields_schema": pa.schema([(column.name, column.type) for column in fields]),
            "names": tuple(column.name for column in self.columns),
            "tag_names": frozenset(tag.name for tag in tags),
            "key_names": frozenset(column.name for column in keys),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def _highest_id(self) -> int:
        return max((column.column_id for column in self.columns), default=0)

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
        """Write it down; what follows from the rest is left out."""
        value: dict[str, Any] = {
            "region_id": self.region_id,
            "schema_version": self.schema_version,
            "columns": [column.to_json() for column in self.columns],
        }
        if self.former_names:
            value["former_names"] = list(self.former_names)
        if self.next_column_id != self._highest_id() + 1:
            value["next_column_id"] = self.next_column_id
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> RegionMetadata:
        return RegionMetadata(
            region_id=RegionId(value["region_id"]),
            schema_version=value["schema_version"],
            columns=tuple(Column.from_json(column) for column in value["columns"]),
            former_names=tuple(value.get("former_names", ())),
            next_column_id=value.get("next_column_id", 0),
        )


def build_metadata(region_id: RegionId, schema: pa.Schema, *, time: str, tags: Sequence[str] = ()) -> RegionMetadata:
    """Make the first metadata of a region from a frame's schema.

    Raises:
        InvalidInputError: a name or type cannot be kept; the message names it and the fix.

    """
    check_names(schema.names)
    check_roles(schema.names, time, tags)
    types = {name: kept_type(name, schema.field(name).type) for name in schema.names}
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


def kept_type(name: str, data_type: pa.DataType) -> pa.DataType:
    """Return the type a column is kept as, or refuse it by name."""
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
