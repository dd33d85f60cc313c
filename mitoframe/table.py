"""`Table`: rows in, scans out, and the work in between when you want to do it yourself."""

from __future__ import annotations

import warnings
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from mitoframe import explaining, inspection, simulating, travelling, writing
from mitoframe.altering import alterations, option_name, region_options
from mitoframe.frames import arrow
from mitoframe.frames.conditions import check_condition
from mitoframe.frames.polars import from_table
from mitoframe.ingest import to_table
from mitoframe.inspecting import TableSource, inspect
from mitoframe.jobs.twcs import window_ms
from mitoframe.model.batch import OpType
from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.edit import DELETED
from mitoframe.model.errors import DamageWarning, InvalidInputError, MitoError, ReadOnlyError, unknown_name
from mitoframe.model.request import AlterRequest, BuildIndexRequest, CompactRequest, TruncateRequest
from mitoframe.model.result import (
    AlterResult,
    CompactResult,
    DeleteResult,
    ExpireResult,
    FlushResult,
    IndexResult,
    ReplaceResult,
    RestoreResult,
    SnapshotResult,
    TruncateResult,
    UndoResult,
    VacuumResult,
    WriteResult,
)
from mitoframe.model.timerange import EVERYTHING, DurationLike, TimeLike, TimeRange, parse_duration_ms, parse_time
from mitoframe.model.wording import counted
from mitoframe.plotting import Plot
from mitoframe.progress import progress
from mitoframe.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from mitoframe.engine.catalog import TableEntry
    from mitoframe.engine.engine import MitoEngine
    from mitoframe.explaining import WriteExplanation
    from mitoframe.model.batch import Batch
    from mitoframe.model.request import Written
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.version import Version
    from mitoframe.simulating import SimulationResult
    from mitoframe.travelling import AsOf, WhyResult


ROWS_DELETED_ONE_BY_ONE_MAX = 1_000_000
"""A range with more rows is taken out of the files instead of being covered with delete markers."""


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
        remember_schema: Callable[[RegionMetadata], None],
    ) -> None:
        self.name = entry.name
        self._engine = engine
        self._check_open, self._check_writable = check_open, check_writable
        self._remember_schema = remember_schema
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

    def write(self, data: Any, *, key: str | None = None) -> WriteResult:
        """Write rows; a row with the tags and time of an older one replaces it (see ``dedup`` in `alter`).

        When this returns the rows are durable and every later scan sees them. All of the data is written, or nothing.
        Data of any size may come, also from a LazyFrame or a reader: much of it is sorted straight into files.

        Args:
            data: a pandas or Polars frame, or anything that speaks Arrow. Columns are matched by name; a field that is
                absent has its default, else null.
            key: a name for this write. One that an earlier write had makes this a no-op, so that a cell or a job can
                be run again. In a notebook the content is its own key; ``""`` has none.

        Raises:
            InvalidInputError: a value or column does not fit; the message names it.
            BusyError: the write buffers stayed full, or the table was being changed, for too long.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].write(frame, key="first load")
            ...     db["cpu"].write(frame, key="first load")
            wrote 1 row to 'cpu' (new table)
            wrote 1 row to 'cpu'
            nothing written to 'cpu': an earlier write of 1 row had this key

        """
        self._check_writable()
        keys = [self.time, *self.tags]
        written = writing.write(self._engine, self.region_id, data, keys, key=key, table=self.name)
        return self._result(written)

    def to_batch(self, data: Any, *, delete: bool = False) -> Batch:
        """Return data as what `PutRequest` and `BulkInsertRequest` take, or with ``delete`` what `DeleteRequest` takes.

        Args:
            data: as in `write`; to delete, the tags and the time are enough, and values of fields do not matter.
            delete: whether to delete the rows with these keys.

        Raises:
            InvalidInputError: a value or column does not fit, as in `write`.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     cpu = db.create_table("cpu", {"ts": pl.Datetime("ms"), "load": pl.Float64}, time="ts")
            ...     batch = cpu.to_batch(pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "load": [0.5]}))
            ...     db.engine.handle_request(cpu.region_id, mito.PutRequest(batch=batch))
            1

        """
        operation = OpType.DELETE if delete else OpType.PUT
        return arrow.to_batch(self._metadata, to_table(data, [self.time, *self.tags]), operation)

    def explain_write(self, data: Any) -> WriteExplanation:
        """Say what `write` would do with this data: windows, repeated and late rows, casts, files. Writes nothing.

        Args:
            data: as in `write`; it is held in memory whole.

        Raises:
            InvalidInputError: a value or column does not fit, as in `write`.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     told = db["cpu"].explain_write(frame)
            ...     told.rows, told.replaced, told.late
            (1, 1, 0)

        """
        self._check_open()
        return explaining.explain_write(self._engine, self.region_id, data, [self.time, *self.tags], table=self.name)

    def append(self, data: Any) -> WriteResult:
        """Write rows that must be new: none may have the tags and time of a row that is there, or of another.

        Args:
            data: as in `write`; it is held in memory whole.

        Raises:
            InvalidInputError: a row is there already; the message names the first. Nothing was written.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].append(frame.with_columns(host=pl.lit("b")))
            ...     db["cpu"].append(frame)
            Traceback (most recent call last):
            mitoframe.model.errors.InvalidInputError: ...

        """
        self._check_writable()
        metadata = self._metadata
        batch = arrow.to_batch(metadata, to_table(data, [self.time, *self.tags]))
        if not len(batch):
            return self._result(None)
        if self._engine.region(self.region_id).options.dedup == "none":
            return self._result(self._engine.write(self.region_id, batch, metadata=metadata))
        find = partial(self._engine.only_new, self.region_id, batch, metadata)
        return self._result(self._engine.write_found(self.region_id, find))

    def delete(
        self,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        tags: Mapping[str, Any] | None = None,
        where: pl.Expr | None = None,
    ) -> DeleteResult:
        """Delete the rows that fulfil all conditions given, at least one: atomically, and visible at once.

        Args:
            start: the first time to delete.
            end: the first time not to delete any more.
            tags: values of tags, or lists of them, such as ``{"host": ["a", "b"]}``.
            where: a Polars condition on any columns.

        Raises:
            InvalidInputError: no condition was given, a column does not exist, or the table keeps every row.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)] * 2, "host": ["a", "b"], "cpu": [0.5, 0.7]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].delete(tags={"host": "a"})
            deleted 1 row from 'cpu'

        """
        self._check_writable()
        if start is None and end is None and not tags and where is None:
            raise InvalidInputError("delete needs a condition; to remove all rows call truncate().")
        _looked_at(where)
        self._refuse_deleting()
        conditions = [*_tag_conditions(self.tags, tags or {}), *([] if where is None else [where])]
        scan = self.scan(columns=[*self.tags, self.time], where=pl.all_horizontal(conditions) if conditions else None,
                         start=start, end=end)  # fmt: skip
        if not conditions and scan.count() > ROWS_DELETED_ONE_BY_ONE_MAX:
            gone, _ = self._engine.replace(self.region_id, [scan.time_range])
            return DeleteResult(table=self.name, rows=gone)

        def find() -> Batch:
            return self.to_batch(scan.to_arrow(), delete=True)

        written = self._engine.write_found(self.region_id, find, key=DELETED)
        return DeleteResult(
            table=self.name, rows=written.row_count if written is not None else 0, _undo=self._undo_of(written)
        )

    def _refuse_deleting(self) -> None:
        if self._engine.region(self.region_id).options.dedup == "none":
            raise InvalidInputError(
                f"table {self.name!r} keeps every row (dedup='none'), so rows cannot be deleted one by one; exchange a "
                "time range with replace_range(), or remove one with truncate(start=, end=)."
            )

    def replace_range(self, data: Any, start: TimeLike | None = None, end: TimeLike | None = None) -> ReplaceResult:
        """Exchange all rows from ``start`` up to ``end`` for others: atomically, and visible at once.

        Args:
            data: as in `write`; every row must be in the range.
            start: the first time to exchange; open if None.
            end: the first time not to exchange any more; open if None.

        Raises:
            InvalidInputError: a row is not in the range, or does not fit. Nothing was changed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].replace_range(frame.with_columns(host=pl.lit("b")), "2024-01-01", "2024-01-02")
            replaced 1 row of 'cpu' by 1

        """
        self._check_writable()
        metadata = self._metadata
        span = _time_range(metadata, start, end)
        batches = writing.pieces(data, [self.time, *self.tags], metadata)
        gone, came = self._engine.replace(self.region_id, [span], batches, metadata=metadata)
        return ReplaceResult(table=self.name, removed=gone, rows=came)

    def truncate(
        self, *, start: TimeLike | None = None, end: TimeLike | None = None, unflushed: bool = False
    ) -> TruncateResult:
        """Remove all rows, or all from ``start`` up to ``end``, or those that are in no file yet.

        While it is kept, `restore` brings back what was in a file.

        Args:
            start: the first time to remove.
            end: the first time not to remove any more.
            unflushed: remove only rows that are still in memory and in the log.

        Raises:
            InvalidInputError: a range was given together with ``unflushed``.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].truncate()
            ...     db["cpu"].scan().count()
            0

        """
        self._check_writable()
        ranged = start is not None or end is not None
        if ranged and unflushed:
            raise InvalidInputError("unflushed rows are removed whatever their time; leave out start and end.")
        if ranged:
            span = _time_range(self._metadata, start, end)
            request = TruncateRequest(what="time_ranges", time_ranges=(span,))
        else:
            request = TruncateRequest(what="unflushed" if unflushed else "all")
        return TruncateResult(table=self.name, rows=self._engine.truncate(self.region_id, request))

    def alter(
        self,
        *,
        add: Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        retype: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        drop_defaults: Sequence[str] = (),
        indexes: Mapping[str, Sequence[str]] | None = None,
        drop_indexes: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        unset: Sequence[str] = (),
    ) -> AlterResult:
        """Change columns and options, all of it or nothing. Rows that are there go on reading as they did.

        Args:
            add: new fields and their types, Polars or Arrow; older rows have the default given for them in
                ``defaults``, else null.
            drop: fields to drop.
            retype: fields and their new types, which must hold all that the old ones can.
            defaults: what fields hold in rows that are written without them.
            drop_defaults: fields that are null again in such rows.
            indexes: kinds of index for tags or fields: ``"inverted"``, ``"skipping"``, ``"fulltext"``.
            drop_indexes: tags or fields to have none.
            options: ``dedup`` ("last": the newest row of a key wins; "merge": its nulls are filled from older rows;
                "none": every row is kept; only "none" can be switched on later), ``compaction_window``, ``wal`` ("log"
                or "noop"), ``write_buffer_size_bytes``, ``auto_flush_interval``, ``row_group_rows``, ``index_mode``
                ("background": indexes are built soon after a file is there; "sync": with it; "manual": by
                `build_index`), ``ttl`` (rows that are older than the newest by this are not read any more, and go; it
                is counted from the clock where that is earlier; "forever" is none), ``compaction_mode`` ("automatic"
                or "manual"), ``compaction_policy`` ("count" or "runs"), ``compaction_trigger_files``,
                ``compaction_settled_trigger_files``, ``compaction_settle``, ``compaction_input_files_max``,
                ``compaction_input_size_max_bytes``, ``sst_size_bytes``: see `MitoConfig`.
            unset: options to put back to what the store says.

        Raises:
            InvalidInputError: part of it cannot be done; the message names it. Nothing was changed.

        Example:
            >>> import mitoframe as mito, polars as pl
            >>> with mito.open("memory://") as db:
            ...     cpu = db.create_table("cpu", {"ts": pl.Datetime("ms"), "load": pl.Float32}, time="ts")
            ...     cpu.alter(add={"room": pl.String}, defaults={"room": "lab"}, retype={"load": pl.Float64})
            altered 'cpu', schema version 3

        """
        self._check_writable()
        request = AlterRequest(
            alterations=alterations(
                add=add or {},
                drop=drop,
                retype=retype or {},
                defaults=defaults or {},
                drop_defaults=drop_defaults,
                indexes=indexes or {},
                drop_indexes=drop_indexes,
            ),
            options=region_options(options or {}),
            unset=tuple(option_name(name) for name in unset),
        )
        try:
            changed = self._engine.alter(self.region_id, request)
        finally:  # Also if waiting for it was interrupted: it may have come about.
            metadata = self._metadata
            self._remember_schema(metadata)
        return AlterResult(table=self.name, schema_version=metadata.schema_version, changed=changed)

    def check_options(self, wanted: Mapping[str, Any]) -> None:
        """Refuse options, by the names of `RegionOptions`, that the table does not have."""
        options = self._engine.region(self.region_id).options
        for name, value in wanted.items():
            if getattr(options, name) != value:
                raise InvalidInputError(
                    f"table {self.name!r} has {name}={getattr(options, name)!r}, not {value!r}; leave the option out, "
                    "or change it with alter(options=...)."
                )

    def _result(self, written: Written | None) -> WriteResult:
        if written is None:
            return WriteResult(table=self.name, rows=0)
        return WriteResult(
            table=self.name,
            rows=written.row_count,
            first_sequence=written.first_sequence,
            repeated=written.repeated,
            expired=written.expired,
            _undo=None if written.repeated else self._undo_of(written),
        )

    def _undo_of(self, written: Written | None) -> Callable[[], UndoResult] | None:
        if written is None:
            return None

        def undo() -> UndoResult:
            self._check_writable()
            rows = self._engine.undo(self.region_id, written.first_sequence, written.row_count)
            return UndoResult(table=self.name, rows=rows)

        return undo

    # --- reading ----------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        as_of: AsOf | None = None,
        since: AsOf | None = None,
    ) -> Scan:
        """Describe rows to read; nothing is read yet.

        Args:
            columns: names to keep, in this order.
            where: a Polars condition.
            start: the first time to keep.
            end: the first time not to keep any more.
            as_of: an earlier moment to read instead of what there is at each ``collect``: a version that `versions`
                lists, the name of a `snapshot`, a time (what had been written by then), or ``AtSequence(n)``. The
                columns are those of then.
            since: only rows that were written after a moment, said in the same way. Of a row that was written again
                the newest is there; of one that was deleted nothing: see `diff`.

        Raises:
            InvalidInputError: a column does not exist, or the range is reversed.
            SnapshotExpiredError: the moment is not kept any more.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     scan = db["cpu"].scan(columns=["ts", "cpu"], where=pl.col("host") == "a", start="2024-01-01")
            ...     scan.to_polars().select("cpu").collect().item()
            0.5

        """
        self._check_open()
        engine, metadata = travelling.engine_at(self._engine, self.region_id, as_of, since)
        chosen = None if columns is None else _distinct(columns)
        for name in [*(chosen or ()), *_looked_at(where)]:
            if name not in metadata.names:
                raise InvalidInputError(unknown_name("column", name, metadata.names))
        plain = None if where is None else check_condition(where, metadata.arrow_schema())
        return Scan(
            table=self.name,
            engine=engine,
            check_open=self._check_open,
            region_id=self.region_id,
            metadata=metadata,
            columns=chosen,
            where=where,
            time_range=_time_range(metadata, start, end),
            known=None if plain is None or where is None else (where, plain),
        )

    # --- earlier moments --------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The sequence of the newest row: what `scan` takes as ``since=AtSequence(n)`` to go on from here."""
        self._check_open()
        return self._engine.newest(self.region_id).control.current().visible

    def snapshot(self, name: str) -> SnapshotResult:
        """Give what there is now a name, by which it can be read until `drop_snapshot`.

        Nothing is copied: files that are replaced later stay as long as the snapshot needs them.

        Raises:
            InvalidInputError: the name is taken, or reads as a time.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].snapshot("before")
            ...     _ = db["cpu"].delete(tags={"host": "a"})
            ...     db["cpu"].scan().count(), db["cpu"].scan(as_of="before").count()
            (0, 1)

        """
        self._check_writable()
        made = self._engine.snapshot(self.region_id, travelling.check_name(name))
        return SnapshotResult(table=self.name, name=name, version=made.version, sequence=made.sequence)

    def drop_snapshot(self, name: str) -> SnapshotResult:
        """Let the name of a moment go; what was kept for it goes with the next `vacuum`.

        Raises:
            InvalidInputError: there is no snapshot of that name.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].snapshot("before")
            ...     _ = db["cpu"].drop_snapshot("before")
            ...     db["cpu"].versions()["snapshot"].drop_nulls().to_list()
            []

        """
        self._check_writable()
        gone = self._engine.drop_snapshot(self.region_id, name)
        return SnapshotResult(table=self.name, name=name, version=gone.version, sequence=gone.sequence, dropped=True)

    def versions(self) -> pl.DataFrame:
        """Return one row per version that can be read with ``scan(as_of=version)``, oldest first.

        Columns: version, sequence (the newest row's), at, what ("flush", "compact", "alter", ...), rows (in files,
        versions of one key counted each), snapshot (its name, if it has one). A write makes no version until it is
        flushed; ``as_of`` a time or ``AtSequence(n)`` reads what was between two versions.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     db["cpu"].versions().select("version", "what", "rows").rows()[-1]
            (1, 'flush', 1)

        """
        self._check_open()
        return from_table(travelling.versions(self._engine.newest(self.region_id).control.current().version))

    def restore(self, as_of: AsOf) -> RestoreResult:
        """Be as at an earlier moment again: one new version, which going back once more takes back.

        Files of then are listed again, so that little is read or written. The columns and options stay those of today,
        a ``ttl`` too, which is counted from the newest row there is afterwards: what had expired because of rows that
        are gone by that is read again, and what is too old even so is not. The result says how much that is.

        Args:
            as_of: a moment, as `scan` takes it.

        Raises:
            SnapshotExpiredError: the moment is not kept any more.
            InvalidInputError: the table deduplicated otherwise then.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].snapshot("before")
            ...     _ = db["cpu"].delete(tags={"host": "a"})
            ...     _ = db["cpu"].restore("before")
            ...     db["cpu"].scan().count()
            1

        """
        self._check_writable()
        moment = travelling.moment_of(self._engine, self.region_id, as_of)
        kept_before = self._kept_from()
        before, changed = self._engine.restore(self.region_id, moment)
        files = self._version().state.files.values() if changed else ()
        kept_now = self._kept_from()
        return RestoreResult(
            table=self.name,
            version=moment.version,
            sequence=moment.sequence,
            before=before,
            changed=changed,
            expired=sum(file.row_count for file in files if file.max_time < kept_now),
            revived=sum(file.row_count for file in files if kept_now <= file.max_time < kept_before),
        )

    def _kept_from(self) -> int:
        """Return the oldest time that has not expired."""
        return self._engine.kept_from(self._engine.newest(self.region_id).control.current(), is_past=False)

    def diff(self, v1: AsOf, v2: AsOf | None = None) -> pl.LazyFrame:
        """Return what changed from one moment to another, or to now, as a lazy frame.

        It has the table's columns and ``__change``: ``"insert"``, ``"delete"``, or for a row that has other values the
        two rows ``"update_before"`` and ``"update_after"``, one after the other. A row that has expired meanwhile is a
        ``"delete"``. Only files that differ between the two moments are read, and those that have the same times.

        Args:
            v1: the earlier moment, as `scan` takes it for ``as_of``.
            v2: the later one; None for what there is when this is called.

        Raises:
            SnapshotExpiredError: one of them is not kept any more.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)] * 2, "host": ["a", "b"], "cpu": [0.5, 0.7]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].snapshot("first")
            ...     _ = db.write(frame.with_columns(cpu=0.7), "cpu")
            ...     db["cpu"].diff("first").select("host", "cpu", "__change").collect().rows()
            [('a', 0.5, 'update_before'), ('a', 0.7, 'update_after')]

        """
        self._check_open()
        return travelling.diff(self._engine, self.region_id, self._check_open, v1, v2)

    def why(self, row: Mapping[str, Any] | None = None, /, **key: Any) -> WhyResult:
        """Tell where a row comes from: every version of it that is known, where it lies, and what became of it.

        Args:
            row: the row's tags and time, such as a row of a frame as a dictionary; its fields do not matter.
            key: the same by name; ``time`` means the time column whatever it is called.

        Raises:
            InvalidInputError: a tag or the time is missing, or there is no such column.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db.write(frame.with_columns(cpu=0.7), "cpu")
            ...     db["cpu"].why(host="a", time="2024-01-01").to_polars().select("sequence", "fate", "cpu").rows()
            [(2, 'visible', 0.7), (1, 'shadowed', 0.5)]

        """
        self._check_open()
        return travelling.why(self._engine, self.region_id, self.name, row, key)

    # --- upkeep, done by itself in the background ---------------------------------------------------------

    def flush(self) -> FlushResult:
        """Write every row that is still in memory to a Parquet file.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].flush()
            ...     db["cpu"].flush()
            flushed 1 file (...)
            nothing to flush

        """
        self._check_writable()
        return self._engine.flush(self.region_id)

    def compact(
        self,
        *,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        window: DurationLike | None = None,
        strict: bool = False,
        dry_run: bool = False,
    ) -> CompactResult:
        """Merge the files that overlap within a time window, and small ones beside each other, now and not when due.

        Files in which all rows have expired go (see ``ttl`` in `alter`).

        Args:
            start: the first time to look at: windows are merged whole that have a time from here on.
            end: the first time not to look at any more.
            window: how long a window is, for this once: ``"1d"``; else as ever.
            strict: rewrite files that reach into several windows too, so that afterwards none does.
            dry_run: say what would be merged first, and do nothing.

        Raises:
            BusyError: what somebody else asked for is under way.
            CorruptionError: files that cannot be read were left out; everything else was merged.
            LimitExceededError: the windows are so short that there would be too many.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     for cpu in (0.5, 0.7):
            ...         _ = db.write(frame.with_columns(cpu=cpu), "cpu", time="ts", tags=["host"])
            ...         _ = db["cpu"].flush()
            ...     result = db["cpu"].compact()
            ...     len(result.removed), len(result.added), db["cpu"].compact()
            (2, 1, nothing to compact: no files overlap)

        """
        check = self._check_open if dry_run else self._check_writable
        check()
        request = self._compact_request("strict" if strict else "all", start, end, window, dry_run=dry_run)
        with progress(f"compact {self.name}", "rows") as told:
            return self._engine.compact(self.region_id, request, told=told)

    def compaction_plan(
        self,
        *,
        mode: Literal["due", "all", "strict"] = "due",
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        window: DurationLike | None = None,
    ) -> pl.DataFrame:
        """Return one row per time window that holds files: what would be merged now, and why not more.

        Columns: window_start, window_end (the first time that is not in it any more), files, size_bytes, runs (how many
        files one time is in at most), is_active (rows came a short while ago), merges, reason. A file counts for the
        window of its newest row.

        Args:
            mode: ``"due"``: what is merged by itself; ``"all"``: by `compact`; ``"strict"``: with its ``strict=True``.
            start: as in `compact`.
            end: as in `compact`.
            window: as in `compact`.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     for cpu in (0.5, 0.7):
            ...         _ = db.write(frame.with_columns(cpu=cpu), "cpu", time="ts", tags=["host"])
            ...         _ = db["cpu"].flush()
            ...     db["cpu"].compaction_plan().select("files", "runs", "merges", "reason").row(0)
            (2, 2, 0, '2 sorted runs of 2 files: waits until there are 4, or until nothing comes for a while')

        """
        self._check_open()
        request = self._compact_request(mode, start, end, window)
        plan = self._engine.compaction_plan(self.region_id, request)
        return from_table(inspection.compaction_plan(plan, self._metadata))

    def _compact_request(
        self,
        mode: Literal["due", "all", "strict"],
        start: TimeLike | None,
        end: TimeLike | None,
        window: DurationLike | None,
        *,
        dry_run: bool = False,
    ) -> CompactRequest:
        return CompactRequest(
            mode=mode,
            time_range=_time_range(self._metadata, start, end),
            window_ms=None if window is None else parse_duration_ms(window, "window"),
            dry_run=dry_run,
        )

    def expire(self, *, ttl: DurationLike | None = None, dry_run: bool = False) -> ExpireResult:
        """Let the files go in which all rows have expired, now and not in a while.

        Rows that have expired are not read anyway, whatever file they are in.

        Args:
            ttl: another time to live than the table's (see `alter`), to see what it would do: only for a dry run.
            dry_run: say what would go, and do nothing.

        Raises:
            InvalidInputError: another time to live was given, and not for a dry run.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://", compaction_mode="manual") as db:
            ...     for day in (1, 1, 2, 2, 9, 9):
            ...         frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, day)] * 2, "host": ["a", "b"]})
            ...         _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...         _ = db["cpu"].flush()
            ...     len(db["cpu"].expire(ttl="3d", dry_run=True).files)
            4

        """
        if ttl is not None and not dry_run:
            raise InvalidInputError(
                f"expire(ttl={ttl!r}) would remove rows that the table keeps; give dry_run=True to see which, or set "
                "the option ttl with alter()."
            )
        check = self._check_open if dry_run else self._check_writable
        check()
        found = self._engine.expiry(self.region_id, None if ttl is None else parse_duration_ms(ttl, "ttl"))
        if found is None:
            return ExpireResult(table=self.name, dry_run=dry_run)
        return ExpireResult(
            table=self.name,
            files=found.files if dry_run else self._engine.expire(self.region_id),
            before=found.cutoff,
            waiting=found.waiting,
            is_guarded=found.is_guarded,
            dry_run=dry_run,
        )

    def build_index(self, *, kinds: Sequence[str] | None = None) -> IndexResult:
        """Build the indexes that columns ask for (see `alter`) and files do not have; by default it happens by itself.

        Args:
            kinds: of these kinds only: ``"inverted"``, ``"skipping"``, ``"fulltext"``.

        Raises:
            InvalidInputError: there is no such kind of index.

        Example:
            >>> import mitoframe as mito, polars as pl
            >>> with mito.open("memory://") as db:
            ...     log = db.create_table("log", {"ts": pl.Datetime("ms"), "text": pl.String}, time="ts")
            ...     _ = log.alter(indexes={"text": ["fulltext"]})
            ...     log.build_index()
            nothing to index: every file has the indexes that are asked for

        """
        self._check_writable()
        if isinstance(kinds, str):
            raise InvalidInputError(f"kinds={kinds!r} is a string; give a list, such as [{kinds!r}].")
        request = BuildIndexRequest(kinds=None if kinds is None else tuple(kinds))
        with progress(f"index {self.name}", "rows") as told:
            return self._engine.build_index(self.region_id, request, told=told)

    def vacuum(self, older_than: DurationLike | None = None, *, dry_run: bool = False) -> VacuumResult:
        """Delete files that nobody needs any more. The engine does it by itself now and then.

        What a snapshot, a scan or a job here needs stays, and so does what a process needs that has the store open for
        reading, until it dies. Only readers that cannot say so, where nothing can be written or locked, have to be
        done within the grace period.

        Args:
            older_than: how long ago a file must have been replaced, or stored if no version ever listed it; if None
                ``gc_grace_ms``, and ``gc_unknown_grace_ms`` for the latter. What was replaced later can be taken back,
                and read with ``as_of``.
            dry_run: only say what would be done.

        Example:
            >>> import mitoframe as mito, polars as pl
            >>> from datetime import datetime
            >>> with mito.open("memory://") as db:
            ...     cpu = db.create_table("cpu", {"ts": pl.Datetime("ms"), "load": pl.Float64}, time="ts")
            ...     for load in (1.0, 2.0):
            ...         _ = cpu.write(pl.DataFrame({"ts": [datetime(2024, 1, 1)], "load": [load]}))
            ...         _ = cpu.flush()
            ...     _ = cpu.compact()
            ...     cpu.vacuum(dry_run=True)
            would have deleted 0 files, 0 bytes; kept 2 within the grace period

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     for _ in range(2):
            ...         _ = db.write(frame, "cpu")
            ...         _ = db["cpu"].flush()
            ...     _ = db["cpu"].compact()
            ...     db["cpu"].vacuum(older_than="0s")
            deleted ... files, ... bytes

        """
        self._check_writable()
        grace_ms = None if older_than is None else parse_duration_ms(older_than, "older_than")
        with progress(f"vacuum {self.name}", "files") as told:
            return self._engine.vacuum(self.region_id, grace_ms, dry_run=dry_run, told=told)

    # --- looking ----------------------------------------------------------------------------------------

    def files(self) -> pl.DataFrame:
        """Return one row per Parquet file: level, time range (inclusive), rows, deletes, series, bytes, sequences.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     db["cpu"].files().select("level", "rows", "series").rows()
            [(0, 1, 1)]

        """
        return from_table(inspection.files(self._version()))

    def history(self) -> pl.DataFrame:
        """Return one row per thing that happened to the table, oldest first: flushes, compactions, changes, deletions.

        Columns: version, at (when it was done), took (null if the process died before it was written down), what
        ("create", "flush", "compact", "alter", "truncate", "gc", ...), reason ("size", "age", "manual", ...), inputs
        and outputs (files that went and came; for a gc those that were deleted), rows_in, rows_out, bytes_in,
        bytes_out, min_time and max_time (of the rows in outputs, both included), starts_anew (what is known begins
        here, with all files there were: what is older was rolled up, ``journal_entries_max`` says when). Warns
        (`DamageWarning`) if a part of it cannot be read.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     db["cpu"].history().select("version", "what", "rows_out").rows()
            [(0, 'create', 0), (1, 'flush', 1)]

        """
        self._check_open()
        found = self._engine.history(self.region_id)
        for said in found.damage:
            warnings.warn(f"the journal of {self.name!r} is damaged: {said}", DamageWarning, stacklevel=2)
        return from_table(inspection.history(found.entries, self._metadata.time.type))

    def simulate(self, options: Mapping[str, Any] | None = None) -> SimulationResult:
        """Tell what would have become of the table's files under other options: its history of flushes is replayed.

        Nothing is read but the history, and nothing is written; `mitoframe.simulate` replays one that is made up.

        Args:
            options: options that were otherwise, by the names that `alter` has for them: ``compaction_window``,
                ``compaction_policy``, ``compaction_trigger_files``, ``compaction_settled_trigger_files``,
                ``compaction_settle``, ``compaction_input_files_max``, ``compaction_input_size_max_bytes``,
                ``sst_size_bytes``, ``ttl``, ``dedup``. All others are those of the table.

        Raises:
            ConfigError: an option is out of range, or contradicts another.
            InvalidInputError: an option has nothing to do with which files are merged.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     for _ in range(3):
            ...         _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...         _ = db["cpu"].flush()
            ...     results = [db["cpu"].simulate({"compaction_trigger_files": count}) for count in (2, 3)]
            ...     [result.summary.select("flushes", "merges", "files").row(0) for result in results]
            [(3, 2, 1), (3, 1, 1)]

        """
        self._check_open()
        return simulating.Replayer.of_table(self._engine, self.region_id, self.name).run(options or {})

    def windows(self) -> pl.DataFrame:
        """Return one row per time window that holds files, by time; `compaction_plan` says more.

        Columns: window_start, window_end (the first time that is not in it any more), files, size_bytes, runs (how many
        files one time is in at most), is_active (rows came a short while ago), merges (to be done now). A file counts
        for the window of its newest row.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     for day in (1, 1, 2):
            ...         frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, day)], "host": ["a"], "cpu": [0.5]})
            ...         _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...         _ = db["cpu"].flush()
            ...     db["cpu"].windows().select("files", "runs").rows()
            [(2, 2), (1, 1)]

        """
        self._check_open()
        plan = self._engine.compaction_plan(self.region_id, self._compact_request("due", None, None, None))
        return from_table(inspection.windows(plan, self._metadata))

    def coverage(self, by: str | None = None) -> pl.DataFrame:
        """Return which times are covered by rows, from metadata alone: gaps, overlaps, late rows.

        Columns: value (of the tag, if one is named), file_id ("memtable" for rows in memory), min_time and max_time
        (both included), rows, is_late (begins before a time that already lay in a file when all of it was written).
        Without a tag one row per file, from the manifest. With one a row per file and value, or several where row
        groups of the file leave a gap between them; files with more than some dozens of values are opened for that,
        some thousands a second.

        Args:
            by: the name of a tag.

        Raises:
            InvalidInputError: there is no such tag.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     days = [dt.datetime(2024, 1, day) for day in (1, 2, 3)]
            ...     frame = pl.DataFrame({"ts": days, "host": ["a", "a", "b"], "cpu": 0.5})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].coverage(by="host").select("value", "rows").rows()
            [('a', 2), ('b', 1)]

        """
        version = self._version()
        if by is None:
            return from_table(inspection.coverage(version))
        if by not in self.tags:
            raise InvalidInputError(unknown_name("tag", by, self.tags))
        tag_type = next(column.type for column in self._metadata.columns if column.name == by)
        with progress(f"coverage of {self.name}", "files") as told:
            stretches = self._engine.coverage(self.region_id, by, told)
            return from_table(inspection.coverage_by(stretches, version, tag_type))

    def stats(self) -> pl.DataFrame:
        """Return the table's figures, in one row.

        Columns: rows and deletes (in files, before versions of a key are merged), files, size_bytes, index_bytes,
        memory_rows, memory_bytes (not in a file yet), min_time, max_time (null if there are no rows).

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].stats().select("rows", "files", "memory_rows").row(0)
            (0, 0, 1)

        """
        return from_table(inspection.stats(self._version()))

    def inspect(self) -> Any:
        """Return a widget that shows the table's files over time, how they came to be, and what other options would do.

        Click a file, or move to it with the arrow keys and press Enter, to see its footer. Drag the slider of versions,
        or press space, to see files come and go. Where there are no widgets it is a picture, in HTML.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     db["cpu"].inspect()
            inspect 'cpu': 1 file, 1 row, ... kB, version 1

        """
        return inspect(TableSource(self.name, self._engine, self.region_id, self._check_open))

    @property
    def plot(self) -> Plot:
        """Pictures of the table, such as ``table.plot.timeline()``."""
        return Plot(self, self._version, lambda: window_ms(self._version().state), self._past)

    def _past(self) -> tuple[pa.Table, pa.Table]:
        """Return the files that are there or were, and what happened to them."""
        version, entries = self._version(), self._engine.history(self.region_id).entries
        return inspection.known_files(version, entries), inspection.history(entries, self._metadata.time.type)

    def _version(self) -> Version:
        self._check_open()
        return self._engine.region(self.region_id).control.current().version

    def __repr__(self) -> str:
        try:
            return f"table {self.name!r}: {self._described(self._version())}"
        except MitoError as error:  # Who looks at a table wants to know what is the matter with it, and no traceback.
            return f"table {self.name!r}: {error}"

    def _described(self, version: Version) -> str:
        files = version.state.files.values()
        rows = sum(file.row_count for file in files)
        buffered = sum(memtable.stats.row_count for memtable in version.memtables)
        tags = ", ".join(self.tags) or "none"
        return (
            f"time {self.time}, tags {tags}, {counted(len(self._metadata.fields), 'field')}; "
            f"{counted(len(files), 'file')} with {counted(rows, 'row')}, {counted(buffered, 'row')} in memory"
        )

    def _repr_html_(self) -> str | None:
        try:
            state = self._version().state
        except MitoError:
            return None  # What `repr` says of it is shown instead.
        roles = {self.time: "time"} | dict.fromkeys(self.tags, "tag")
        columns = [(column.name, str(column.type), roles.get(column.name, "")) for column in self._metadata.columns]
        newest = sorted(state.files.values(), key=lambda file: file.max_sequence, reverse=True)[:ROWS_MAX]
        files = [(file.file_id, f"L{file.level}", f"{file.row_count:,}", f"{file.size_bytes:,}") for file in newest]
        options = [(each.name, value) for each in fields(state.options) if (value := getattr(state.options, each.name))]
        return card(
            repr(self),
            [
                Section(title="Columns", rows=columns, is_open=True),
                Section(
                    title="Files, the newest first",
                    rows=files,
                    header=("file_id", "level", "rows", "size_bytes"),
                    row_count=len(state.files),
                ),
                Section(title="Options", rows=[(name, str(value)) for name, value in options]),
            ],
        )


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


def _tag_conditions(known: Sequence[str], tags: Mapping[str, Any]) -> Iterator[pl.Expr]:
    for name, value in tags.items():
        if name not in known:
            raise InvalidInputError(unknown_name("tag", name, known))
        many = isinstance(value, list | tuple | set | frozenset)
        yield pl.col(name).is_in(list(value), nulls_equal=True) if many else pl.col(name).eq_missing(pl.lit(value))


def _time_range(metadata: RegionMetadata, start: TimeLike | None, end: TimeLike | None) -> TimeRange:
    unit, zone = metadata.time_unit, metadata.time_zone
    first = EVERYTHING.start if start is None else parse_time(start, unit, zone, "start")
    last = EVERYTHING.end if end is None else parse_time(end, unit, zone, "end")
    if first > last:
        raise InvalidInputError(f"start={start!r} is after end={end!r}; swap them.")
    return TimeRange(first, last)
