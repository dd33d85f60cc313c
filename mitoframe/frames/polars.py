"""Polars in and out: frames to Arrow, and a region as a LazyFrame whose filters, columns and limit are pushed down.

`lazy_frame` returns Polars' own plan around a resolver. At each ``collect`` Polars asks it for the plan of that moment.
Few rows are handed over as they are, in memory. Of many, files that overlap nothing are handed over as a plain
``scan_parquet``, groups that must be merged as a source around the merge kernel. Filters are used to skip and never
claimed as applied: Polars filters once more, after dedup, which is what makes skipping safe. Requires Polars 2 (the
resolver is not in Polars 1).
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source
from polars.lazyframe.resolver import FilterExpr, LazyFrameResolver, ResolvedLazyFrameProps

from mitoframe.frames.conditions import implied, to_predicate
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.predicate import Predicate, conjunction

PINNED_MAX = 8
"""So many answers of one lazy frame may be drawn at a time, each from a version of its own."""


class Resolved(Protocol):
    """What is to be read at one moment. ``key`` is equal for equal rows. Holding it keeps the files from deletion."""

    @property
    def key(self) -> str: ...

    def rows(self, columns: Sequence[str]) -> Sequence[pa.RecordBatch] | None:
        """Return the rows with these columns, in this order, if they are few, and had at little cost; else None."""

    def files(self) -> Sequence[str | io.BytesIO]:
        """Return the Parquet files that can be read as they are, verified: a path, or the bytes where there is none."""

    def files_are_new(self) -> bool:
        """Tell whether the files have all columns of today, as they are today."""

    def without_nan(self) -> frozenset[str]:
        """Return columns of floats that hold no NaN in any of the files, where saying so lets Polars skip rows."""

    def merges(self) -> Sequence[Merge]:
        """Return what must be merged: each takes column names and yields rows with these columns, in this order."""


Merge = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]


class ScanSource(Protocol):
    """What a lazy frame needs of a region."""

    def resolve(self, predicate: Predicate) -> Resolved:
        """Take a snapshot and decide what to read; rows that ``predicate`` rules out may be left out."""

    def same_as(self, other: ScanSource) -> bool:
        """Tell whether both stand for the same rows at any moment."""


def is_frame(data: object) -> bool:
    return isinstance(data, pl.DataFrame)


def is_lazy(data: object) -> bool:
    return isinstance(data, pl.LazyFrame)


def to_table(frame: pl.DataFrame) -> pa.Table:
    """Convert a frame. Memory is shared where the layouts agree."""
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if isinstance(dtype, pl.Object | pl.Int128 | pl.UInt128):
            raise InvalidInputError(f"column {name!r} has type {dtype}, which Arrow does not know; cast it.")
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect()


def stream(frame: pl.LazyFrame, rows_max: int) -> Iterator[pl.DataFrame]:
    """Run a query and yield its rows as they come, in order, after an empty frame that shows the columns."""
    yield pl.DataFrame(schema=frame.collect_schema())
    yield from frame.collect_batches(chunk_size=rows_max, maintain_order=True, lazy=True, engine="streaming")


def slices(frame: pl.DataFrame, rows_max: int) -> Iterator[pl.DataFrame]:
    """View a frame in pieces, after an empty one that shows the columns."""
    yield frame.head(0)
    yield from frame.iter_slices(rows_max)


def from_table(table: pa.Table) -> pl.DataFrame:
    """Make a frame of an Arrow table."""
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return made


def _from_batch(rows: pa.RecordBatch) -> pl.DataFrame:
    """Make a frame of few rows without a hop to Polars' threads, for which a busy machine makes a query wait."""
    return pl.DataFrame([pl.Series(name, column) for name, column in zip(rows.schema.names, rows.columns, strict=True)])


def from_batches(rows: Sequence[pa.RecordBatch], columns: Sequence[str], schema: pa.Schema) -> pl.DataFrame:
    """Make a frame of few rows that have just the named columns of a schema, in that order."""
    if not rows:
        types = _polars_schema(schema)
        return pl.DataFrame(schema={name: types[name] for name in columns})
    return _from_batch(rows[0]) if len(rows) == 1 else from_table(pa.Table.from_batches(rows))


def to_arrow_schema(schema: Any) -> pa.Schema:
    """Convert a mapping of names to Polars types."""
    try:
        return to_table(pl.DataFrame(schema=dict(schema))).schema
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"the schema is not a mapping of names to Polars types: {error}") from error


def lazy_frame(source: ScanSource, schema: pa.Schema) -> pl.LazyFrame:
    """Return a region as a LazyFrame. Nothing is read before ``collect``."""
    return _Resolver(source, schema).lazy()


@lru_cache(maxsize=64)
def _polars_schema(schema: pa.Schema) -> pl.Schema:
    return from_table(schema.empty_table()).schema


class _Resolver(LazyFrameResolver):
    def __init__(self, source: ScanSource, schema: pa.Schema) -> None:
        self._source, self._schema, self._arrow_schema = source, _polars_schema(schema), schema
        # Whoever draws an earlier answer bit by bit still needs its files.
        self._pinned: deque[Resolved] = deque(maxlen=PINNED_MAX)

    def schema(self) -> dict[str, Any]:
        return dict(self._schema)

    def cse_eq(self, other: object) -> bool:
        return isinstance(other, _Resolver) and self._source.same_as(other._source)

    def resolve_lazyframe(
        self,
        *,
        projection: list[str] | None,
        limit: int | None,  # noqa: ARG002 - Polars applies it itself
        filters: list[FilterExpr],
        filter_columns: list[str],  # noqa: ARG002 - they are in the projection
        filter_drop_columns_idx: int | None,  # noqa: ARG002 - Polars drops them itself
        existing_resolved_version_key: str | None,
    ) -> tuple[pl.LazyFrame | None, ResolvedLazyFrameProps]:
        predicate = conjunction([to_predicate(item, self._arrow_schema.field) for item in filters])
        found = self._source.resolve(predicate)
        if existing_resolved_version_key == found.key:
            return None, ResolvedLazyFrameProps(version_key=found.key)
        self._pinned.append(found)
        columns = projection if projection is not None else list(self._schema)
        rows = found.rows(columns or [next(iter(self._schema))])
        frame = self._lazy(found, predicate) if rows is None else from_batches(rows, columns, self._arrow_schema).lazy()
        if rows is None or not columns:  # Few rows come with just the columns that are asked for.
            frame = frame.select(columns)
        # Only now: a plan whose files have gone meanwhile is made anew, and has another key.
        return frame, ResolvedLazyFrameProps(version_key=found.key)

    def _lazy(self, found: Resolved, predicate: Predicate) -> pl.LazyFrame:
        parts = [_merge_scan(merge, self._schema) for merge in found.merges()]
        files = found.files()
        if files:
            schema = None if found.files_are_new() else self._schema
            parts.append(self._pruned(_file_scan(files, schema), predicate, found.without_nan()))
        if len(parts) == 1:
            return parts[0]
        names = list(self._schema)
        return pl.concat([part.select(names) for part in parts]) if parts else pl.LazyFrame(schema=self._schema)

    def _pruned(self, rows: pl.LazyFrame, predicate: Predicate, without_nan: frozenset[str]) -> pl.LazyFrame:
        """Add what Polars can skip by, where it cannot by the conditions themselves."""
        conditions = implied(predicate, self._arrow_schema, without_nan)
        return rows.filter(*conditions) if conditions else rows


def _file_scan(files: Sequence[str | io.BytesIO], schema: pl.Schema | None) -> pl.LazyFrame:
    """Scan files, which all have the columns of the first if no schema is given."""
    paths = tuple(file for file in files if isinstance(file, str))
    if len(paths) == len(files):
        return _path_scan(paths, None if schema is None else tuple(schema.items()))
    return _scan_parquet(list(files), schema)


@lru_cache(maxsize=32)
def _path_scan(paths: tuple[str, ...], columns: tuple[tuple[str, pl.DataType], ...] | None) -> pl.LazyFrame:
    """Scan files whose content never changes; without a schema the frame keeps the first footer it has read."""
    return _scan_parquet(list(paths), None if columns is None else pl.Schema(columns))


def _scan_parquet(files: Any, schema: pl.Schema | None) -> pl.LazyFrame:
    return pl.scan_parquet(
        files,
        schema=schema,
        missing_columns="raise" if schema is None else "insert",
        extra_columns="ignore",
        glob=False,
        hive_partitioning=False,
    )


def _merge_scan(merge: Merge, schema: pl.Schema) -> pl.LazyFrame:
    """Wrap a merge as a Polars source. Order matters: merge, then limit, then the whole predicate, then project."""

    def rows(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001
    ) -> Iterator[pl.DataFrame]:
        wanted = with_columns if with_columns is not None else list(schema)
        needed = wanted if predicate is None else list(dict.fromkeys([*wanted, *predicate.meta.root_names()]))
        left = n_rows
        for batch in merge(needed):
            frame = from_table(pa.Table.from_batches([batch]))
            if left is not None:
                frame = frame.head(left)
                left -= len(frame)
            yield (frame if predicate is None else frame.filter(predicate)).select(wanted)
            if left == 0:
                return

    return register_io_source(rows, schema=schema, explain_name="mitoframe merge")
