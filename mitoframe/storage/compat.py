"""Rows that were made for one schema, read or written with a newer one.

Columns are matched by id, never by name: a field that was dropped and one that was added under its name later are two.

    in both, of one type      as it is
    in both, retyped          cast; every value fits, or the type could not have been changed (model/alter.py)
    only in the newer         its `Column.initial`, else null; in rows that are yet to be written, its `Column.default`
    only in the older         left out; refused in rows that are yet to be written, if it says anything

Tags and time never change, so only fields are dealt with here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.batch import OpType, fields_without_columns
from mitoframe.model.errors import SchemaMismatchError, unknown_name
from mitoframe.model.memory import POOL
from mitoframe.model.types import cast_is_possible, type_to_text

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from mitoframe.model.batch import Batch
    from mitoframe.model.schema import Column, RegionMetadata


def reads_as_it_is(metadata: RegionMetadata, schema_version: int) -> bool:
    """Tell whether a file of that schema version may be read by column name alone, what it lacks being null."""
    return all(column.since <= schema_version for column in metadata.columns)


def is_unchanged(column: Column, old: RegionMetadata) -> bool:
    """Tell whether rows written with ``old`` hold this column, as it is now."""
    return any(former.column_id == column.column_id and former.type == column.type for former in old.columns)


def former_fields(old: RegionMetadata, new: RegionMetadata, names: Many[str]) -> list[Column]:
    """Return which columns of ``old`` the named fields of ``new`` are made of, as they were then."""
    ids = {field.name: field.column_id for field in new.fields}
    former = {field.column_id: field for field in old.fields}
    return [former[ids[name]] for name in names if ids[name] in former]


def fit_fields(
    fields: pa.RecordBatch, old: RegionMetadata, new: RegionMetadata, names: Many[str] | None = None
) -> pa.RecordBatch:
    """Return rows' fields as ``new`` has them.

    Requires: ``fields`` holds at least `former_fields`, named and typed as ``old`` says.

    Args:
        fields: the fields of rows that were written with ``old``.
        old: the schema they were written with.
        new: the schema they are asked for in.
        names: fields of ``new``, in the order wanted; None for all.

    """
    wanted = {field.name: field for field in new.fields}
    former = {field.column_id: field for field in old.fields}
    chosen = list(wanted) if names is None else list(names)
    if not chosen:
        return fields_without_columns(fields.num_rows)
    columns = [_fit(fields, former.get(wanted[name].column_id), wanted[name]) for name in chosen]
    return pa.RecordBatch.from_arrays(columns, names=chosen)


def _fit(fields: pa.RecordBatch, former: Column | None, field: Column) -> pa.Array:
    if former is None:
        return field.fill_older(fields.num_rows)
    values = fields.column(former.name)
    return values if former.type == field.type else pc.cast(values, field.type, memory_pool=POOL)


# --- rows that are yet to be written ---------------------------------------------------------------------


def fit_batch(batch: Batch, new: RegionMetadata, old: RegionMetadata | None = None) -> Batch:
    """Return rows that are yet to be written as ``new`` has them; the same object if they are so already.

    Args:
        batch: rows of any operations. A field that they lack gets its default, in a delete null.
        new: the schema the region has now.
        old: the schema they were made for; None to go by the names of their fields.

    Raises:
        SchemaMismatchError: they have other tags, a field of another type, or values of a field that is not there.

    """
    if old in (None, new) and _is_laid_out(batch, new):
        return batch
    _check_tags(batch, new)
    sources = _sources(batch, new, old or new)
    _check_unused(batch, new, set(sources.values()), old)
    fields = [(sources.get(field.name), field.type) for field in new.fields]
    if fields == [(field.name, field.type) for field in batch.fields.schema]:
        return batch
    names = [field.name for field in new.fields]
    columns = [_fit_new(batch, sources.get(field.name), field) for field in new.fields]
    fitted = pa.RecordBatch.from_arrays(columns, names=names) if names else fields_without_columns(len(batch))
    return replace(batch, fields=fitted)


def _is_laid_out(batch: Batch, metadata: RegionMetadata) -> bool:
    """Tell whether rows have the columns of a schema, by name and in order."""
    return bool(
        batch.series.schema.equals(metadata.series_schema) and batch.fields.schema.equals(metadata.fields_schema)
    )


def _check_tags(batch: Batch, metadata: RegionMetadata) -> None:
    expected = [(tag.name, tag.type) for tag in metadata.tags]
    if [(tag.name, tag.type) for tag in batch.series.schema] != expected:
        names = ", ".join(f"{name} {type_to_text(data_type)}" for name, data_type in expected) or "none"
        raise SchemaMismatchError(
            f"the batch has the tags {batch.series.schema.names} where the table has {names}; make it for this table."
        )


def _sources(batch: Batch, new: RegionMetadata, old: RegionMetadata) -> dict[str, str]:
    """Return, by the name of each field that the rows have, what it is called there."""
    former = {field.column_id: field.name for field in old.fields}
    given = set(batch.fields.schema.names)
    return {field.name: former[field.column_id] for field in new.fields if former.get(field.column_id) in given}


def _check_unused(batch: Batch, new: RegionMetadata, used: set[str], old: RegionMetadata | None) -> None:
    for name, values in zip(batch.fields.schema.names, batch.fields.columns, strict=True):
        if name in used:
            continue
        if old is None or name not in old.names:
            known = [field.name for field in new.fields]
            raise SchemaMismatchError(f"{unknown_name('field', name, known)} Leave it out, or add it to the table.")
        if values.null_count < len(values):
            raise SchemaMismatchError(f"column {name!r} was dropped from the table meanwhile; leave it out.")


def _fit_new(batch: Batch, source: str | None, field: Column) -> pa.Array:
    if source is None:
        return _defaults(batch, field)
    values = batch.fields.column(source)
    if values.type == field.type:
        return values
    if not cast_is_possible(values.type, field.type):
        raise SchemaMismatchError(
            f"field {field.name!r} is {values.type}, the table has {type_to_text(field.type)}; convert it first."
        )
    return pc.cast(values, field.type, memory_pool=POOL)


def _defaults(batch: Batch, field: Column) -> pa.Array:
    filled = field.fill(len(batch))
    puts = batch.op_types == OpType.PUT
    return filled if puts.all() else pc.if_else(pa.array(puts), filled, pa.nulls(len(batch), field.type))
