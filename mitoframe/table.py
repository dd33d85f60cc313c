"""`Table`: rows in, scans out, and the work in between when you want to do it yourself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from mitoframe import inspection
from mitoframe.frames import arrow
from mitoframe.frames.polars import from_table
from mitoframe.ingest import to_table
from mitoframe.jobs.twcs import window_ms
from mitoframe.model.errors import InvalidInputError, ReadOnlyError, unknown_name
from mitoframe.model.request import CompactResult, FlushResult, VacuumResult, WriteResult
from mitoframe.model.timerange import EVERYTHING, DurationLike, TimeLike, TimeRange, parse_duration_ms, parse_time
from mitoframe.plotting import Plot
from mitoframe.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from mitoframe.engine.catalog import TableEntry
    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.version import Version


class Table:
    """One table of an open store; get it with ``db["cpu"]``.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> db = mito.open("memory://")
        >>> cpu = db.create_table("cpu", {"ts": pl.Datetime("ms"), "host": pl.String, "load": pl.Float64},
        ...                       time="ts", tags=["host"])
        >>> cpu.write(pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "load": [0.5]}))
        wrote 1 row to 'cpu'
        >>> cpu.scan().count()
        1
        >>> db.close()

    """

    def __init__(
        self,
        entry: TableEntry,
        engine: MitoEngine,
        check_open: Callable[[], None],
        check_writable: Callable[[], None],
    ) -> None:
        self.name = entry.name
        self._engine = engine
        self._check_open, self._check_writable = check_open, check_writable
        self.region_id = entry.regions[0]

    @property
    def _metadata(self) -> RegionMetadata:
        self._check_open()
        return self._engine.region(self.region_id).metadata

    @property
    def schema(self) -> pa.Schema:
        """The columns in canonical order (tags, time, fields), as an Arrow schema."""
        return self._metadata.arrow_schema()

    @property
    def time(self) -> str:
        """The name of the time column."""
        return self._metadata.time.name

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the tag columns."""
        return tuple(tag.name for tag in self._metadata.tags)

    # --- writing ----------------------------------------------------------------------------------------

    def write(self, data: Any) -> WriteResult:
        """Write rows; a row with the tags and time of an older one replaces it.

        When this returns the rows are durable and every later scan sees them. All of the frame is written, or nothing.

        Args:
            data: a pandas or Polars frame, or anything that speaks Arrow. Columns are matched by name; a field that is
                absent is null.

        Raises:
            InvalidInputError: a value or column does not fit; the message names it.

        """
        self._check_writable()
        metadata = self._metadata
        table = to_table(data, [self.time, *self.tags])
        batch = arrow.to_batch(metadata, table)
        if not len(batch):
            return WriteResult(table=self.name, rows=0)
        first = self._engine.write(self.region_id, batch)
        return WriteResult(table=self.name, rows=len(batch), first_sequence=first)

    # --- reading ----------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
    ) -> Scan:
        """Describe rows to read; nothing is read yet.

        Args:
            columns: names to keep, in this order.
            where: a Polars condition.
            start: the first time to keep.
            end: the first time not to keep any more.

        Raises:
            InvalidInputError: a column does not exist, or the range is reversed.

        """
        metadata = self._metadata
        chosen = None if columns is None else _distinct(columns)
        for name in [*(chosen or ()), *_looked_at(where)]:
            if name not in metadata.names:
                raise InvalidInputError(unknown_name("column", name, metadata.names))
        return Scan(
            table=self.name,
            engine=self._engine,
            check_open=self._check_open,
            region_id=self.region_id,
            metadata=metadata,
            columns=chosen,
            where=where,
            time_range=_time_range(metadata, start, end),
        )

    # --- upkeep, done by itself in the background ---------------------------------------------------------

    def flush(self) -> FlushResult:
        """Write every row that is still in memory to a Parquet file."""
        self._check_writable()
        return self._engine.flush(self.region_id)

    def compact(self) -> CompactResult:
        """Merge the files that overlap within a time window."""
        self._check_writable()
        return self._engine.compact(self.region_id)

    def vacuum(self, older_than: DurationLike | None = None) -> VacuumResult:
        """Delete files that no version needs any more.

        Args:
            older_than: how long ago a file must have been replaced; ``gc_grace_ms`` if None. Readers in other processes
                may still need younger ones.

        """
        self._check_writable()
        grace_ms = None if older_than is None else parse_duration_ms(older_than, "older_than")
        return self._engine.vacuum(self.region_id, grace_ms)

    # --- looking ----------------------------------------------------------------------------------------

    def files(self) -> pl.DataFrame:
        """Return one row per Parquet file: level, time range (inclusive), rows, deletes, series, bytes, sequences."""
        return from_table(inspection.files(self._version()))

    @property
    def plot(self) -> Plot:
        """Pictures of the table, such as ``table.plot.timeline()``."""
        return Plot(self._version, lambda: window_ms(self._version().state))

    def _version(self) -> Version:
        self._check_open()
        return self._engine.region(self.region_id).control.current().version

    def __repr__(self) -> str:
        state = self._version().state
        rows = sum(file.row_count for file in state.files.values())
        buffered = sum(memtable.stats.row_count for memtable in self._version().memtables)
        tags = ", ".join(self.tags) or "none"
        return (
            f"table {self.name!r}: time {self.time}, tags {tags}, {len(self._metadata.fields)} fields; "
            f"{len(state.files):,} files with {rows:,} rows, {buffered:,} rows in memory"
        )

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


def read_only() -> None:
    """Refuse a change through a handle that was opened for reading."""
    raise ReadOnlyError('the store was opened for reading; open it with mode="rw" to change it.')


def _distinct(columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str):
        raise InvalidInputError(f"columns={columns!r} is a string; give a list, such as columns=[{columns!r}].")
    if len(set(columns)) != len(columns):
        raise InvalidInputError(f"columns={list(columns)!r} names a column twice.")
    return tuple(columns)


def _looked_at(where: pl.Expr | None) -> list[str]:
    if where is None:
        return []
    if not isinstance(where, pl.Expr):
        raise InvalidInputError(f"where is a {type(where).__name__}; give a Polars expression, pl.col('load') > 0.5.")
    return where.meta.root_names()


def _time_range(metadata: RegionMetadata, start: TimeLike | None, end: TimeLike | None) -> TimeRange:
    unit, zone = metadata.time_unit, metadata.time_zone
    first = EVERYTHING.start if start is None else parse_time(start, unit, zone, "start")
    last = EVERYTHING.end if end is None else parse_time(end, unit, zone, "end")
    if first > last:
        raise InvalidInputError(f"start={start!r} is after end={end!r}; swap them.")
    return TimeRange(first, last)
