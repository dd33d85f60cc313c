"""`Scan`: what to read of a table, as a frozen value. Nothing is read before one of its ``to_`` methods is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from mitoframe.frames import pandas
from mitoframe.frames.polars import lazy_frame
from mitoframe.model.predicate import Predicate
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import EVERYTHING, TimeRange
from mitoframe.read.plan import explain
from mitoframe.read.scanner import count_row_groups, read_group
from mitoframe.storage.paths import sst_key

if TYPE_CHECKING:
    import pandas as pd

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.plan import ScanPlan


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

    def to_polars(self) -> pl.LazyFrame:
        """Return a LazyFrame; filters, columns and limits set on it are pushed down into the store."""
        self.check_open()
        return self._lazy(_Source(self))

    def _lazy(self, source: _Source) -> pl.LazyFrame:
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
        """Read the rows as a Polars DataFrame."""
        return self.to_polars().collect()

    def to_arrow(self) -> pa.Table:
        """Read the rows as a pyarrow Table with the table's types: large strings, zones kept."""
        frame = self.collect()
        schema = self.metadata.arrow_schema()
        kept = pa.schema([schema.field(name) for name in frame.columns])
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(kept)

    def to_pandas(self) -> pd.DataFrame:
        """Read the rows as a pandas DataFrame with a plain integer index.

        Integers and booleans with nulls come in pandas' nullable types; a null float is NaN.
        """
        return pandas.from_table(self.to_arrow())

    def count(self) -> int:
        """Return the number of rows; from metadata alone where that is exact."""
        self.check_open()
        if self.where is None and self.time_range == EVERYTHING:
            plan = self.engine.plan(self.region_id, ScanRequest())
            if not plan.groups:
                return sum(file.row_count for file in plan.direct)
        return int(self.to_polars().select(pl.len()).collect().item())

    def explain(self) -> str:
        """Say what would be read, how, and what would be skipped and why. Reads footers, no rows."""
        source = _Source(self)
        self._lazy(source).explain()
        plan = source.last_plan
        assert plan is not None, "Polars resolves the plan to explain it"
        kept, total = count_row_groups(plan, self.engine.reader)
        return f"{explain(plan)}\n  row groups  {kept} of {total} to read, {total - kept} pruned by statistics"

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Read the rows as an Arrow C stream, for any library that speaks it."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        chosen = "all columns" if self.columns is None else f"columns {', '.join(self.columns)}"
        return f"scan of {self.table!r}, {chosen}; call .to_polars(), .collect(), .to_pandas() or .explain()"


class _Source:
    """A scan as the lazy frame sees it."""

    def __init__(self, scan: Scan) -> None:
        self._engine, self._region_id, self._check_open = scan.engine, scan.region_id, scan.check_open
        self.last_plan: ScanPlan | None = None

    def resolve(self, predicate: Predicate) -> _Resolved:
        self._check_open()
        self.last_plan = self._engine.plan(self._region_id, ScanRequest(predicate=predicate))
        return _Resolved(self._engine, self.last_plan)

    def same_as(self, other: Any) -> bool:
        return isinstance(other, _Source) and (other._engine, other._region_id) == (self._engine, self._region_id)


class _Resolved:
    """A plan as the lazy frame sees it."""

    def __init__(self, engine: MitoEngine, plan: ScanPlan) -> None:
        self._engine, self._plan = engine, plan
        self.key = plan.key

    def files(self) -> list[str | BytesIO]:
        return [self._place(file) for file in self._plan.direct]

    def _place(self, file: FileMeta) -> str | BytesIO:
        self._engine.reader.verify(self._plan.metadata, file)
        key = sst_key(self._plan.metadata.region_id, file.file_id)
        return self._engine.store.url(key) or BytesIO(self._engine.store.get(key))

    def merges(self) -> list[Callable[[Sequence[str]], Iterator[pa.RecordBatch]]]:
        return [partial(read_group, self._plan, group, self._engine.reader) for group in self._plan.groups]
