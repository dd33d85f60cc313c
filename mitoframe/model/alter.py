"""Alterations: values that say what changes in a schema, and the pure function that changes it.

    Alteration = AddColumns | DropColumns | ModifyColumnTypes | SetDefaults | DropDefaults | SetIndexes | UnsetIndexes

`alter` refuses or returns the whole next schema; nothing is ever half altered, and no row is touched. Rows that are
there already go on reading as they did: a column that is added reads as its default at that time (else null) in older
rows, and what happens to the default later concerns later writes only.

The time column and the tags make every row's key, and files are sorted by them: no alteration adds, drops or retypes
one. A field becomes another type only if each value that the old type can hold is one of the new type, so that no file
can hold a value that fails to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from mitoframe.model.errors import InvalidInputError, unknown_name
from mitoframe.model.schema import INDEX_KINDS, Column, RegionMetadata, SemanticType, check_names, kept_type
from mitoframe.model.types import cast_is_possible, list_scalar, normalise, same_scalar, type_to_text


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A field to add: at the end, ``first``, or ``after`` another field. None is no default."""

    name: str
    type: pa.DataType
    _: KW_ONLY
    default: Any = None
    after: str | None = None
    first: bool = False


@dataclass(frozen=True, slots=True)
class AddColumns:
    """Add fields. One that is there already just so is left as it is, unless a place is asked for."""

    columns: tuple[NewColumn, ...]


@dataclass(frozen=True, slots=True)
class DropColumns:
    """Drop fields. Their values are gone, also if a field of that name is added again."""

    names: tuple[str, ...]
    _: KW_ONLY
    missing_ok: bool = False


@dataclass(frozen=True, slots=True)
class ModifyColumnTypes:
    """Give fields a wider type."""

    types: Mapping[str, pa.DataType]


@dataclass(frozen=True, slots=True)
class SetDefaults:
    """Say what fields hold in rows that are written without them from now on."""

    defaults: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DropDefaults:
    """Let fields be null in rows that are written without them from now on."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetIndexes:
    """Say which kinds of index a tag or field is to have, instead of those it has."""

    indexes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class UnsetIndexes:
    """Let tags or fields have no index."""

    names: tuple[str, ...]


Alteration: TypeAlias = (
    AddColumns | DropColumns | ModifyColumnTypes | SetDefaults | DropDefaults | SetIndexes | UnsetIndexes
)


def alter(metadata: RegionMetadata, alteration: Alteration) -> RegionMetadata:
    """Return the next version of a schema, or the same object if nothing changes.

    Raises:
        InvalidInputError: a part of it cannot be done; the message names the column and the fix.

    """
    altered = _altered(metadata, alteration)
    return metadata if altered == metadata else replace(altered, schema_version=_next_version(metadata))


def _next_version(metadata: RegionMetadata) -> int:
    return metadata.schema_version + 1


def _altered(metadata: RegionMetadata, alteration: Alteration) -> RegionMetadata:
    match alteration:
        case AddColumns(columns):
            check_names(column.name for column in columns)
            for column in columns:
                metadata = _added(metadata, column)
            return metadata
        case DropColumns(names, missing_ok=missing_ok):
            return _dropped(metadata, _listed(names), missing_ok)
        case ModifyColumnTypes(types):
            return _exchanged(metadata, [_retyped(metadata, name, types[name]) for name in types])
        case SetDefaults(defaults):
            return _exchanged(metadata, [_with_default(metadata, name, defaults[name]) for name in defaults])
        case DropDefaults(names):
            fields = [_field(metadata, name, "has no default") for name in _listed(names)]
            return _exchanged(metadata, [replace(field, default=None) for field in fields])
        case SetIndexes(indexes):
            return _exchanged(metadata, [_with_indexes(metadata, name, indexes[name]) for name in indexes])
        case UnsetIndexes(names):
            return _exchanged(metadata, [_with_indexes(metadata, name, ()) for name in _listed(names)])


def _exchanged(metadata: RegionMetadata, columns: Iterable[Column]) -> RegionMetadata:
    by_id = {column.column_id: column for column in columns}
    return replace(metadata, columns=tuple(by_id.get(column.column_id, column) for column in metadata.columns))


# --- looking columns up ----------------------------------------------------------------------------------


def _listed(names: Iterable[str]) -> Iterator[str]:
    if isinstance(names, str):
        raise InvalidInputError(f"names={names!r} is a string; give a tuple, such as names=({names!r},).")
    return iter(names)


def _column(metadata: RegionMetadata, name: str) -> Column:
    for column in metadata.columns:
        if column.name == name:
            return column
    raise InvalidInputError(unknown_name("column", name, metadata.names))


def _field(metadata: RegionMetadata, name: str, refusal: str) -> Column:
    column = _column(metadata, name)
    if column.semantic is SemanticType.FIELD:
        return column
    role = "the time column" if column.semantic is SemanticType.TIME else "a tag"
    raise InvalidInputError(
        f"column {name!r} is {role}, part of every row's key, and {refusal}; "
        "write the rows to a new table if its key must be another."
    )


# --- adding and dropping ---------------------------------------------------------------------------------


def _added(metadata: RegionMetadata, new: NewColumn) -> RegionMetadata:
    data_type = kept_type(new.name, new.type)
    default = None if new.default is None else check_default(new.name, data_type, new.default)
    if new.name in metadata.names:
        _check_identical(_column(metadata, new.name), new, data_type, default)
        return metadata
    is_simple = default is None and new.name not in metadata.former_names
    column = Column(
        column_id=metadata.next_column_id,
        name=new.name,
        semantic=SemanticType.FIELD,
        type=data_type,
        default=default,
        initial=default,
        since=0 if is_simple else _next_version(metadata),
    )
    place = _place(metadata, new)
    return replace(metadata, columns=(*metadata.columns[:place], column, *metadata.columns[place:]))


def _check_identical(column: Column, new: NewColumn, data_type: pa.DataType, default: pa.Scalar | None) -> None:
    name = column.name
    if column.semantic is not SemanticType.FIELD:
        raise InvalidInputError(f"column {name!r} is there already as the table's {column.semantic}; choose a name.")
    if column.type != data_type:
        raise InvalidInputError(
            f"column {name!r} is there already as {type_to_text(column.type)}, not {type_to_text(data_type)}; "
            "choose another name, or modify its type."
        )
    if not same_scalar(column.default, default):
        raise InvalidInputError(f"column {name!r} is there already with another default; set or drop its default.")
    if new.first or new.after is not None:
        raise InvalidInputError(f"column {name!r} is there already and stays where it is; leave its place out.")


def _place(metadata: RegionMetadata, new: NewColumn) -> int:
    if new.first and new.after is not None:
        raise InvalidInputError(f"column {new.name!r} cannot be first and after {new.after!r}; choose one.")
    if new.first:
        return len(metadata.key_names)
    if new.after is None:
        return len(metadata.columns)
    if new.after in metadata.key_names:
        raise InvalidInputError(
            f"column {new.name!r} cannot be after {new.after!r}: fields come after tags and time; use first=True."
        )
    names = [field.name for field in metadata.fields]
    if new.after not in names:
        raise InvalidInputError(f"column {new.name!r}, after={new.after!r}: {unknown_name('field', new.after, names)}")
    return metadata.names.index(new.after) + 1


def _dropped(metadata: RegionMetadata, names: Iterable[str], missing_ok: bool) -> RegionMetadata:
    fields = [_field(metadata, name, "cannot be dropped") for name in names if name in metadata.names or not missing_ok]
    ids = {field.column_id for field in fields}
    return replace(
        metadata,
        columns=tuple(column for column in metadata.columns if column.column_id not in ids),
        former_names=tuple(dict.fromkeys([*metadata.former_names, *(field.name for field in fields)])),
    )


# --- types -----------------------------------------------------------------------------------------------


def _retyped(metadata: RegionMetadata, name: str, data_type: pa.DataType) -> Column:
    field = _field(metadata, name, "keeps its type")
    kept = kept_type(name, data_type)
    if kept == field.type:
        return field
    if not cast_is_possible(field.type, kept):
        raise InvalidInputError(
            f"column {name!r} is {type_to_text(field.type)}, and not every value of that is one of "
            f"{type_to_text(kept)}; add a new column and copy the values that fit."
        )
    return replace(
        field,
        type=kept,
        default=_cast(field.default, kept),
        initial=_cast(field.initial, kept),
        since=_next_version(metadata),
    )


def _cast(value: pa.Scalar | None, data_type: pa.DataType) -> pa.Scalar | None:
    return None if value is None else value.cast(data_type)


# --- defaults --------------------------------------------------------------------------------------------


def _with_default(metadata: RegionMetadata, name: str, value: Any) -> Column:
    field = _field(metadata, name, "has no default")
    return replace(field, default=check_default(name, field.type, value))


def check_default(name: str, data_type: pa.DataType, value: Any) -> pa.Scalar:
    """Return ``value`` as a column's type, without loss.

    Args:
        name: the column's name, for the message.
        data_type: a type that is kept.
        value: of Python, NumPy, pandas or Arrow, of the column's kind: a number for a number, a moment for a moment.

    Raises:
        InvalidInputError: it is null, of another kind, or not exactly one of the type's values.

    """
    if value is None or (isinstance(value, pa.Scalar) and not value.is_valid):
        raise InvalidInputError(f"column {name!r}: null is no default, it is what a column without one is filled with.")
    try:
        return _exactly(data_type, value)
    except (pa.ArrowException, ValueError, TypeError, ArithmeticError) as error:
        raise InvalidInputError(
            f"column {name!r}: {value!r} is no exact value of {type_to_text(data_type)} ({error}); give one, such as a "
            "pyarrow scalar of that type."
        ) from error


def _exactly(data_type: pa.DataType, value: Any) -> pa.Scalar:
    if pa.types.is_large_list(data_type):
        return _list_of(data_type, value)
    if pa.types.is_decimal128(data_type):
        return pa.scalar(_decimal_of(value), data_type)
    given = _as_arrow(value)
    if not given.is_valid:
        raise ValueError("it is null")
    kept = normalise(given.type)
    if kept is None or not _is_same_kind(kept, data_type):
        raise TypeError(f"it is a {given.type}")
    given = given.cast(kept)
    result = given.cast(data_type)
    if not same_scalar(result.cast(kept), given):
        raise ValueError("it would be rounded")
    return result


def _list_of(data_type: pa.DataType, value: Any) -> pa.Scalar:
    if isinstance(value, pa.ListScalar | pa.LargeListScalar):
        value = value.values
    elif not isinstance(value, list | tuple | np.ndarray):
        raise TypeError("it is no list")
    item_type = data_type.value_type
    return list_scalar([_item(item_type, item) for item in value], data_type)


def _item(data_type: pa.DataType, value: Any) -> pa.Scalar:
    if value is None or (isinstance(value, pa.Scalar) and not value.is_valid):
        return pa.scalar(None, data_type)
    return _exactly(data_type, value)


def _decimal_of(value: Any) -> Decimal:
    plain = value.as_py() if isinstance(value, pa.Scalar) else value
    if isinstance(plain, np.integer):
        plain = int(plain)
    if isinstance(plain, bool) or not isinstance(plain, int | Decimal):
        raise TypeError(f"it is a {type(plain).__name__}")
    return Decimal(plain)


def _as_arrow(value: Any) -> pa.Scalar:
    if isinstance(value, pa.Scalar):
        return value
    if isinstance(value, np.generic):
        return pa.array(np.array([value]))[0]
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.scalar(value, pa.int64() if value < 2**63 else pa.uint64())
    if isinstance(value, time) and value.tzinfo is not None:
        raise TypeError("it has a zone")  # Arrow would drop it.
    inferred = pa.scalar(value)
    # Arrow takes pandas' moments and spans for Python's, which have no nanoseconds.
    if isinstance(value, datetime) and getattr(value, "nanosecond", None):
        return pa.scalar(value, pa.timestamp("ns", inferred.type.tz))
    if isinstance(value, timedelta) and getattr(value, "nanoseconds", None):
        return pa.scalar(value, pa.duration("ns"))
    return inferred


def _is_same_kind(given: pa.DataType, kept: pa.DataType) -> bool:
    if pa.types.is_timestamp(kept) and kept.tz is None:
        return bool(pa.types.is_date32(given) or (pa.types.is_timestamp(given) and given.tz is None))
    if pa.types.is_timestamp(kept):
        return bool(pa.types.is_timestamp(given) and given.tz is not None)
    return given == kept or any(is_kind(given) and is_kind(kept) for is_kind in _KINDS)


def _is_number(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(data_type) or pa.types.is_floating(data_type))


_KINDS = (_is_number, pa.types.is_duration, pa.types.is_time)


# --- indexes ---------------------------------------------------------------------------------------------


def _with_indexes(metadata: RegionMetadata, name: str, kinds: Iterable[str]) -> Column:
    column = _column(metadata, name)
    if column.semantic is SemanticType.TIME:
        raise InvalidInputError(f"column {name!r} is the time column: files are sorted by it and need no index of it.")
    if isinstance(kinds, str):
        raise InvalidInputError(f"column {name!r}: indexes={kinds!r} is a string; give a tuple, such as ({kinds!r},).")
    wanted = set(kinds)
    for kind in sorted(wanted.difference(INDEX_KINDS)):
        raise InvalidInputError(f"column {name!r}: {unknown_name('kind of index', kind, INDEX_KINDS)}")
    if "fulltext" in wanted and not pa.types.is_large_string(column.type):
        raise InvalidInputError(
            f"column {name!r} is {type_to_text(column.type)}, and a fulltext index is one of text; leave it out."
        )
    return replace(column, indexes=tuple(kind for kind in INDEX_KINDS if kind in wanted))
