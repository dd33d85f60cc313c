"""`Scan`: what to read of a table, as a frozen value. Nothing is read before one of its ``to_`` methods is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import polars as pl
import pyarrow as pa

from mitoframe import exporting, following, joining, verbs
from mitoframe.frames.polars import Merge, ScanSource, from_batches, from_table, lazy_frame
from mitoframe.model.card import Section, card
from mitoframe.model.errors import InvalidInputError, SnapshotExpiredError
from mitoframe.model.predicate import Predicate, has_foreign
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import EVERYTHING, DurationLike, TimeRange
from mitoframe.read.floats import prunable_above
from mitoframe.read.receipt import ScanReport, report_on, total
from mitoframe.storage.paths import sst_key
from mitoframe.travelling import telling_apart

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import pandas as pd
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.exporting import Ejected
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.counts import Counts
    from mitoframe.read.plan import MergeGroup, ScanPlan


Result = TypeVar("Result")


class _Runs:
    """What is remembered of a scan's last run."""

    def __init__(self) -> None:
        self.plan: ScanPlan | None = None
        self.counts: list[Counts] = []

    def begin(self, plan: ScanPlan) -> Callable[[Counts], None]:
        """Forget the run before, and return where this one's counts go."""
        self.plan, self.counts = plan, []
        return self.counts.append  # Several threads may draw rows of one run.


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Rows of a table; get one from ``table.scan()``.

    It follows the table: each ``collect`` sees what is there at that moment, all of it acknowledged before.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> db = mito.open("memory://")
        >>> frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        >>> db.write(frame, "cpu", time="ts", tags=["host"])
        wrote 1 row to 'cpu' (new table)
        >>> db.scan("cpu", where=pl.col("host") == "a", columns=["cpu"]).collect().to_dicts()
        [{'cpu': 0.5}]
        >>> db.close()

    """

    table: str
    engine: MitoEngine
    check_open: Callable[[], None]
    region_id: RegionId
    metadata: RegionMetadata
    columns: tuple[str, ...] | None = None
    where: pl.Expr | None = None
    time_range: TimeRange = EVERYTHING
    known: tuple[pl.Expr, Predicate] | None = field(default=None, repr=False, compare=False)
    """A condition that was read before, and what it says."""
    _runs: _Runs = field(default_factory=_Runs, repr=False, compare=False)

    def to_polars(self) -> pl.LazyFrame:
        """Return a LazyFrame; filters, columns and limits set on it are pushed down into the store.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     lazy = db.scan("cpu").to_polars()
            ...     lazy.filter(pl.col("host") == "a").select(pl.col("cpu").max()).collect().item()
            0.5

        """
        self.check_open()
        return self._lazy(_Source(self))

    def _lazy(self, source: ScanSource) -> pl.LazyFrame:
        frame = lazy_frame(source, self.metadata.arrow_schema())
        for condition in self._conditions():
            frame = frame.filter(condition)
        return frame if self.columns is None else frame.select(self.columns)

    def _conditions(self) -> Iterator[pl.Expr]:
        time = self.metadata.time
        kind = pl.Datetime(self.metadata.time_unit, self.metadata.time_zone)
        if self.time_range.start != EVERYTHING.start:
            yield pl.col(time.name) >= pl.lit(self.time_range.start, dtype=pl.Int64).cast(kind)
        if self.time_range.end != EVERYTHING.end:
            yield pl.col(time.name) < pl.lit(self.time_range.end, dtype=pl.Int64).cast(kind)
        if self.where is not None:
            yield self.where

    def collect(self) -> pl.DataFrame:
        """Read the rows as a Polars DataFrame.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.scan("cpu").collect().height
            1

        """
        self.check_open()
        found = self._few()
        return self.to_polars().collect() if found is None else found

    def _few(self) -> pl.DataFrame | None:
        """Return the rows if they are few and the store can tell them by itself, which spares asking Polars."""
        predicate = verbs.exact_predicate(self)
        if predicate is None or has_foreign(predicate):
            return None
        resolved = _Resolved(_Source(self), predicate, self.time_range)
        if not resolved.has_schema(self.metadata):
            return None
        columns = self.metadata.names if self.columns is None else self.columns
        rows = resolved.rows(columns) if columns else None
        return None if rows is None else from_batches(rows, columns, self.metadata.arrow_schema())

    def to_arrow(self) -> pa.Table:
        """Read the rows as a pyarrow Table with the table's types: large strings, zones kept.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.scan("cpu").to_arrow().num_rows
            1

        """
        frame = self.collect()
        schema = self.metadata.arrow_schema()
        kept = pa.schema([schema.field(name) for name in frame.columns])
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(kept)

    def to_pandas(
        self,
        dtype_backend: Literal["numpy_nullable", "pyarrow"] | None = None,
        *,
        index: str | Sequence[str] | None = None,
        tags_as: Literal["category"] | None = None,
    ) -> pd.DataFrame:
        """Read the rows as a pandas DataFrame.

        Args:
            dtype_backend: the types of all columns, as in `pandas.read_parquet`. None means NumPy's types; of these,
                integers and booleans with nulls come in pandas' nullable types, and a null float is NaN.
            index: a column or columns to be the index; a plain integer one if None.
            tags_as: ``"category"`` for tags as categories, which takes less memory and groups faster.

        Raises:
            InvalidInputError: there is no such backend or column.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     str(db.scan("cpu").to_pandas(index="ts", tags_as="category")["host"].dtype)
            'category'

        """
        return exporting.to_pandas(self, dtype_backend, index=index, tags_as=tags_as)

    def to_arrow_reader(self, batch_size: int = exporting.BATCH_ROWS) -> pa.RecordBatchReader:
        """Read the rows as a stream, in memory that does not grow with their number.

        It is one snapshot, taken now, whatever is written, compacted or vacuumed while it is drawn.

        Args:
            batch_size: the most rows of a batch.

        Raises:
            InvalidInputError: it is less than 1.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, day) for day in (1, 2, 3)], "cpu": [1, 2, 3]})
            ...     _ = db.write(frame, "cpu", time="ts")
            ...     [batch.num_rows for batch in db.scan("cpu").to_arrow_reader(batch_size=2)]
            [2, 1]

        """
        return exporting.to_reader(self, batch_size)

    def batches(self, rows_max: int = exporting.BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Read the rows as Polars frames, some at a time, in memory that does not grow with their number.

        Args:
            rows_max: the most rows of a frame.

        Raises:
            InvalidInputError: it is less than 1.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, day) for day in (1, 2, 3)], "cpu": [1, 2, 3]})
            ...     _ = db.write(frame, "cpu", time="ts")
            ...     [frame["cpu"].sum() for frame in db.scan("cpu").batches(2)]
            [3, 3]

        """
        return exporting.to_batches(self, rows_max)

    def to_numpy(self, columns: Sequence[str] | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """Read the columns as NumPy arrays, by name; without a copy where there is one chunk of plain numbers.

        Times are datetime64 of the column's unit (those with a zone in UTC), times of day timedelta64 since midnight;
        text, decimals and lists are objects. A null is NaN or NaT; None among objects; integers and booleans with
        nulls come as ``numpy.ma.MaskedArray``.

        Args:
            columns: names to keep, in this order.

        Raises:
            InvalidInputError: there is no such column.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts")
            ...     db.scan("cpu").to_numpy()["ts"].dtype
            dtype('<M8[us]')

        """
        return exporting.to_numpy(self, columns)

    def to_duckdb(self, connection: DuckDBPyConnection | None = None) -> DuckDBPyRelation:
        """Hand the rows to DuckDB as a relation; no row is read yet. Needs DuckDB: ``mitoframe[duckdb]``.

        DuckDB reads files that stand alone by itself, and asks for the other rows: either way it pushes its columns and
        conditions down. The relation is of this moment, and its files stay as long as it, or one made of it, lives. A
        scan with ``where`` is read now, into memory; a condition given to ``relation.filter()`` is pushed down.

        Args:
            connection: whose relation it is to be; DuckDB's default connection if None.

        Raises:
            InvalidInputError: DuckDB is not installed, or two columns differ by case alone.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.scan("cpu").to_duckdb().filter("host = 'a'").project("cpu").fetchall()
            [(0.5,)]

        """
        return exporting.to_duckdb(self, connection)

    def eject(self) -> Ejected:
        """Say how to read the same rows without mitoframe: the Parquet files and the Polars code, if nothing overlaps.

        Raises:
            InvalidInputError: rows are in memory only, or files overlap: the message says when, and what mends it. Or
                the scan has ``where``, or the store is not in a folder.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt, tempfile
            >>> folder = tempfile.TemporaryDirectory()
            >>> with mito.open(folder.name) as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     db.scan("cpu").eject().to_polars().select("cpu").collect().item()
            0.5
            >>> folder.cleanup()

        """
        return exporting.eject(self)

    def last(self, by: Sequence[str] | None = None, n: int = 1) -> pl.DataFrame:
        """Return the last rows by time of each series, or of each group of series.

        As ``to_polars().sort(time, *tags).group_by(by).tail(n)``: of rows with one time the one whose tags come last is
        last. The rows come in order of (by, time).

        Args:
            by: tags to group by; None for all of them, so for each series; [] for the last rows of all.
            n: how many rows of each.

        Raises:
            InvalidInputError: there is no such tag, or ``n`` is less than 1.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     times = [dt.datetime(2024, 1, 1, hour) for hour in (1, 2, 3)]
            ...     frame = pl.DataFrame({"ts": times, "host": ["a", "a", "b"], "cpu": [0.5, 0.7, 0.1]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.scan("cpu", columns=["host", "cpu"]).last().rows()
            [('a', 0.7), ('b', 0.1)]

        """
        return verbs.last(self, by, n)

    def resample(
        self,
        every: DurationLike,
        agg: verbs.Aggregate,
        *,
        by: Sequence[str] | None = None,
        fill: verbs.Fill | None = None,
        boundary: verbs.Boundary = "start",
        latest: int | None = None,
    ) -> pl.DataFrame:
        """Return aggregates per group and bucket of time.

        As ``to_polars().group_by(*by, pl.col(time).dt.truncate(every)).agg(...)``, with Polars' types and its ways with
        null and NaN: nulls are left out (``first`` and ``last`` return them), NaN goes through sums and means, ``min``
        and ``max`` leave it out. Of rows with one time, ``first`` and ``last`` go by the order of their tags. Sums of
        floats may differ in their last digits. The rows come in order of (by, time).

        Args:
            every: the width of a bucket, in Polars' words ("10s", "1h", "1d", "1w", "1mo", "1y") or a timedelta. Days
                and longer go by the clock of the column's zone, with its days of 23 and 25 hours.
            agg: a function of every numeric field, such as "mean"; or fields and their functions, such as
                ``{"cpu": "mean"}`` or ``{"cpu": ["mean", "max"]}``, which makes ``cpu_mean`` and ``cpu_max``. There are
                count, sum, mean, min, max, first, last, std, var and median.
            by: tags to group by; None for all of them, [] for none.
            fill: what to put where a bucket, from the first to the last of its group, has no rows or null: "null", the
                "previous" value, "linear" between the values around it by time, or a number. From ``start`` and up to
                ``end`` where the scan has them. None leaves such buckets out.
            boundary: whether the time of a bucket is its "start" or its "end", which is the next one's start.
            latest: so many of the last rows of each group of the answer, and no others. Without ``fill`` these are the
                group's last buckets that have rows, with it also such as were filled. If ``by`` is [] and nothing is
                filled, no more is read than it takes to find them.

        Raises:
            InvalidInputError: there is no such field, tag or function, or it does not fit the field's type.
            LimitExceededError: filling would make too many rows.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     times = [dt.datetime(2024, 1, 1, hour) for hour in (0, 1, 5)]
            ...     frame = pl.DataFrame({"ts": times, "host": ["a", "a", "a"], "cpu": [1.0, 3.0, 5.0]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     print(db.scan("cpu").resample("2h", "mean", fill="linear")["cpu"].to_list())
            ...     print(db.scan("cpu").resample("2h", "mean", latest=1)["cpu"].to_list())
            [2.0, 3.5, 5.0]
            [5.0]

        """
        return verbs.resample(self, every, agg, by=by, fill=fill, boundary=boundary, latest=latest)

    def asof(
        self,
        left: Any,
        *,
        on: str | None = None,
        by: Sequence[str] | None = None,
        strategy: joining.Strategy = "backward",
        tolerance: DurationLike | None = None,
    ) -> pl.DataFrame:
        """Join rows of this scan to a frame's rows by time: to each the row that was there at that moment.

        As Polars' ``left.join_asof(rows, ...)``, where only rows are read that the join may find. The frame's rows keep
        their order, which may be any. A null tag matches nothing. Times are compared as instants, whatever their units.

        Args:
            left: a frame of pandas, Polars or Arrow.
            on: its column of times; None for the one called as the table's time.
            by: tags that must be equal, columns of both; None for those tags that the frame has, [] for none.
            strategy: the last row that is not later ("backward"), the first that is not earlier ("forward"), or the
                "nearest".
            tolerance: how far away in time a row may be.

        Raises:
            InvalidInputError: a column is missing or of another type, or only one of the times has a zone.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     times = [dt.datetime(2024, 1, 1, hour) for hour in (0, 2)]
            ...     _ = db.write(pl.DataFrame({"ts": times, "price": [1.0, 2.0]}), "quotes", time="ts")
            ...     trades = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1, 3), dt.datetime(2024, 1, 1, 1)]})
            ...     db.scan("quotes").asof(trades)["price"].to_list()
            [2.0, 1.0]

        """
        return joining.asof(self, left, on=on, by=by, strategy=strategy, tolerance=tolerance)

    @overload
    def tail(self, n: int | None = ..., *, follow: Literal[False] = ...) -> pl.DataFrame: ...
    @overload
    def tail(
        self, n: int | None = ..., *, follow: Literal[True], interval: DurationLike = ...
    ) -> Iterator[pl.DataFrame]: ...
    def tail(
        self, n: int | None = None, *, follow: bool = False, interval: DurationLike = "1s"
    ) -> pl.DataFrame | Iterator[pl.DataFrame]:
        """Return the last rows by time; or, to ``follow``, yield rows as they come, also from another process.

        What comes is what was written after this call, in a frame per look; a row that was written again comes again,
        one that was deleted does not. Close the generator, or break out of the loop, to stop.

        Args:
            n: how many rows, 10 if None; to follow, how many of those that are there come first, none if None.
            follow: whether to go on with rows that come later.
            interval: how long to wait, when nothing new was there, before looking again.

        Raises:
            InvalidInputError: ``where`` looks at several rows at once and so cannot be asked about new rows alone; or,
                to follow, the scan is of an earlier moment.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1, hour) for hour in range(5)], "x": range(5)})
            ...     _ = db.write(frame, "log", time="ts")
            ...     new = db.scan("log").tail(1, follow=True)
            ...     _ = db.write(pl.DataFrame({"ts": [dt.datetime(2024, 1, 2)], "x": [9]}), "log")
            ...     db.scan("log").tail(2)["x"].to_list(), next(new)["x"].to_list(), next(new)["x"].to_list()
            ([4, 9], [4], [9])

        """
        if not follow:
            return following.tail(self, n)
        return following.follow(self, n, interval=interval, wait=self.engine.wait)

    def count(self) -> int:
        """Return the number of rows; from metadata alone where that is exact.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.scan("cpu", end="2024-01-01").count(), db.scan("cpu").count()
            (0, 1)

        """
        plan = self._exact_plan()
        if plan is not None:
            return self.engine.reading.count(plan, self._runs.begin(plan))
        return int(self.to_polars().select(pl.len()).collect().item())

    def bounds(self) -> tuple[Any, Any]:
        """Return the first and the last time, (None, None) without rows; from metadata alone where that is exact.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     first, last = db.scan("cpu").bounds()
            ...     first == last == dt.datetime(2024, 1, 1)
            True

        """
        time = self.metadata.time
        plan = self._exact_plan()
        if plan is None:
            return (
                self.to_polars()
                .select(pl.col(time.name).min(), pl.col(time.name).max().name.suffix("_"))
                .collect()
                .row(0)
            )
        found = self.engine.reading.bounds(plan)
        times = pa.array([None, None] if found is None else found, pa.int64()).view(time.type)
        return tuple(from_table(pa.table({time.name: times}))[time.name])

    def _exact_plan(self) -> ScanPlan | None:
        """Decide what to read, if all conditions are such that the store can apply them by itself."""
        self.check_open()
        return verbs.exact_plan(self)

    def explain(self) -> ScanReport:
        """Say what would be read, how, and what each condition would let it skip. Reads footers, no rows of files.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     db.scan("cpu", end="2023-01-01").explain().rows
            (0, 1)

        """
        source = _Planned(self)
        self._lazy(source).explain()
        assert source.plan is not None, "Polars resolves the plan to explain it"
        return report_on(source.plan, self.engine.reader)

    @property
    def report(self) -> ScanReport:
        """The receipt of this scan's last run: what was skipped and why, and what was read, merged and dropped.

        Raises:
            InvalidInputError: it has not run.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     scan = db.scan("cpu")
            ...     _ = scan.collect()
            ...     scan.report.run.rows_read
            1

        """
        plan = self._runs.plan
        if plan is None:
            raise InvalidInputError("this scan has not run yet; call .collect() first, or .explain() to see its plan.")
        return report_on(plan, self.engine.reader, total(self._runs.counts))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Read the rows as an Arrow C stream, for any library that speaks it; in other types, if it asks for them."""
        return exporting.to_capsule(self, requested_schema)

    def __repr__(self) -> str:
        chosen = "all columns" if self.columns is None else f"columns {', '.join(self.columns)}"
        return f"scan of {self.table!r}, {chosen}; call .to_polars(), .collect(), .to_pandas() or .explain()"

    def _repr_html_(self) -> str:
        asked = [str(condition) for condition in self._conditions()]
        names = self.metadata.names if self.columns is None else self.columns
        types = {column.name: str(column.type) for column in self.metadata.columns}
        columns = [(name, types.get(name, "")) for name in names]
        return card(
            repr(self),
            [
                Section(title="Conditions", rows=[(text,) for text in asked], is_open=True),
                Section(title="Columns", rows=columns),
            ],
        )


class _Source:
    """A scan as the lazy frame sees it."""

    def __init__(self, scan: Scan) -> None:
        self.engine, self.region_id, self._check_open = scan.engine, scan.region_id, scan.check_open
        self.runs = scan._runs

    def resolve(self, predicate: Predicate) -> _Resolved:
        self._check_open()
        return _Resolved(self, predicate)

    def plan(self, predicate: Predicate, time_range: TimeRange = EVERYTHING) -> ScanPlan:
        return self.engine.plan(self.region_id, ScanRequest(predicate=predicate, time_range=time_range))

    def same_as(self, other: Any) -> bool:
        return isinstance(other, _Source) and (other.engine, other.region_id) == (self.engine, self.region_id)


class _Resolved:
    """A plan as the lazy frame sees it."""

    def __init__(self, source: _Source, predicate: Predicate, time_range: TimeRange = EVERYTHING) -> None:
        self._source, self._engine, self._predicate = source, source.engine, predicate
        self._time_range = time_range
        self._take(source.plan(predicate, time_range))

    def _take(self, plan: ScanPlan) -> None:
        self._plan, self._told, self.key = plan, self._source.runs.begin(plan), plan.key

    def has_schema(self, metadata: RegionMetadata) -> bool:
        return self._plan.metadata.schema_version == metadata.schema_version

    def rows(self, columns: Sequence[str]) -> list[pa.RecordBatch] | None:
        return self._read(lambda: self._engine.reading.few_rows(self._plan, columns, self._told))

    def files(self) -> list[str | BytesIO]:
        return self._read(lambda: [self._place(file) for file in self._plan.direct])

    def files_are_new(self) -> bool:
        newest = self._plan.metadata.schema_version
        return all(file.schema_version == newest for file in self._plan.direct)

    def without_nan(self) -> frozenset[str]:
        return prunable_above(self._plan, self._engine.reader)

    def _read(self, read: Callable[[], Result]) -> Result:
        """Read; if the process that writes has deleted files since they were planned on, plan and read once more."""
        planned = self.key
        try:
            with self._telling_apart():
                return read()
        except SnapshotExpiredError:
            self._take(self._source.plan(self._predicate, self._time_range))
            if self.key == planned:
                raise
        with self._telling_apart():
            return read()

    def _telling_apart(self) -> AbstractContextManager[None]:
        return telling_apart(self._engine, self._source.region_id)

    def _place(self, file: FileMeta) -> str | BytesIO:
        self._engine.reader.verify(self._plan.metadata, file)
        key = sst_key(self._plan.metadata.region_id, file.file_id)
        return self._engine.store.url(key) or BytesIO(self._engine.store.get(key))

    def merges(self) -> list[Merge]:
        return [partial(self._merge, group) for group in self._plan.groups]

    def _merge(self, group: MergeGroup, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with self._telling_apart():
            yield from self._engine.reading.group_rows(self._plan, group, columns, self._told)


class _Planned:
    """A scan that is planned and not run: it is without rows."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self.plan: ScanPlan | None = None
        self.key = ""

    def resolve(self, predicate: Predicate) -> _Planned:
        self._scan.check_open()
        self.plan = self._scan.engine.plan(self._scan.region_id, ScanRequest(predicate=predicate))
        return self

    def same_as(self, other: Any) -> bool:
        return self is other

    def rows(self, columns: Sequence[str]) -> list[pa.RecordBatch]:  # noqa: ARG002 - there are none
        return []

    def files(self) -> list[str | BytesIO]:
        return []

    def files_are_new(self) -> bool:
        return True

    def without_nan(self) -> frozenset[str]:
        return frozenset()

    def merges(self) -> list[Merge]:
        return []
