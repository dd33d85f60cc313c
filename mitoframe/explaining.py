"""What a write would do, found out without writing: windows, repeated and late rows, casts, files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from mitoframe.frames import arrow
from mitoframe.frames.polars import from_table
from mitoframe.ingest import to_table
from mitoframe.jobs.backfill import FILE_ROWS_MIN, cuts, rows_per_file
from mitoframe.jobs.flush import SST_ROWS_MIN
from mitoframe.jobs.twcs import window_for_span
from mitoframe.model.card import Section, card
from mitoframe.model.predicate import Compare, conjunction
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import PER_SECOND
from mitoframe.model.types import normalise, type_to_text
from mitoframe.model.wording import counted
from mitoframe.read import lookup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.batch import Batch
    from mitoframe.model.ids import RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.version import Version

    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteExplanation:
    """What a write would do.

    Attributes:
        table: the table's name.
        rows: rows handed in.
        repeated: rows with the tags and time of a row before them; of such rows the last one counts.
        replaced: rows whose tags and time are in the table already.
        late: rows older than the newest row of the table.
        casts: what would be converted or filled, a line each.
        windows: a frame with a row for each time window: ``window`` (its start), ``rows``, ``repeated``, ``replaced``,
            ``late``.
        path: ``"memory"``: through log and write buffer; ``"files"``: sorted straight into files.
        files: about how many files the rows make.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     db["cpu"].explain_write(frame)
        writing 1 row to 'cpu', through memory, would
          replace      1 row already there
          repeat       0 rows within the data
          come late    0 rows (0 %), older than the newest in the table
          touch        1 window
          make         1 file

    """

    table: str
    rows: int
    repeated: int
    replaced: int
    late: int
    casts: tuple[str, ...]
    windows: pl.DataFrame
    path: str
    files: int

    def __repr__(self) -> str:
        way = "through memory" if self.path == "memory" else "straight into files"
        share = round(100 * self.late / self.rows) if self.rows else 0
        lines = [
            f"writing {counted(self.rows, 'row')} to {self.table!r}, {way}, would",
            f"  replace      {counted(self.replaced, 'row')} already there",
            f"  repeat       {counted(self.repeated, 'row')} within the data",
            f"  come late    {counted(self.late, 'row')} ({share} %), older than the newest in the table",
            f"  touch        {counted(self.windows.height, 'window')}",
            f"  make         {counted(self.files, 'file')}",
            *(f"  convert      {cast}" for cast in self.casts),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        first, *rest = repr(self).splitlines()
        lines = [(line[2:15].strip(), line[15:]) for line in rest]
        return card(first, [Section(title="What it would do", rows=lines, note=" ", is_open=True)]) + (
            self.windows._repr_html_()
        )


def explain_write(
    engine: MitoEngine, region_id: RegionId, data: Any, keys: Sequence[str], *, table: str
) -> WriteExplanation:
    """Find out what writing ``data`` would do. Nothing is written; refuses what a write would refuse."""
    given = to_table(data, keys)
    metadata = engine.region(region_id).metadata
    batch = arrow.to_batch(metadata, given)
    version = engine.region(region_id).control.current().version
    repeated, replaced, late = _marks(engine, region_id, metadata, version, batch)
    width = _width(version, batch)
    is_large = batch.size_bytes >= engine.config.backfill_size_bytes
    return WriteExplanation(
        table=table,
        rows=len(batch),
        repeated=int(repeated.sum()),
        replaced=int(replaced.sum()),
        late=int(late.sum()),
        casts=tuple(_casts(metadata, given)),
        windows=_windows(metadata, batch, width, repeated, replaced, late),
        path="files" if is_large else "memory",
        files=_files(batch, width, _file_bytes(engine, version) if is_large else None),
    )


def _file_bytes(engine: MitoEngine, version: Version) -> int:
    return version.state.options.sst_size_bytes or engine.config.sst_size_bytes


def _marks(
    engine: MitoEngine, region_id: RegionId, metadata: RegionMetadata, version: Version, batch: Batch
) -> tuple[Mask, Mask, Mask]:
    if not len(batch):
        nothing = np.zeros(0, dtype=np.bool_)
        return nothing, nothing, nothing
    time = metadata.time.name
    first, last = int(batch.times.min()), int(batch.times.max())
    within = conjunction([Compare(time, ">=", first), Compare(time, "<=", last)])
    plan = engine.plan(region_id, ScanRequest(predicate=within))
    newest = max(
        [file.max_time for file in version.state.files.values()]
        + [part.stats.max_time for memtable in version.memtables for part in memtable.ranges()],
        default=first,
    )
    return lookup.repeated(batch), lookup.present(plan, engine.reader, batch), batch.times < newest


def _width(version: Version, batch: Batch) -> int:
    """Return the window the rows would be counted in: the table's, or what would be inferred for them."""
    state = version.state
    known = state.options.compaction_window_ms or state.compaction_window_ms
    unit = PER_SECOND[state.metadata.time_unit]
    span = int(batch.times.max()) - int(batch.times.min()) if len(batch) else 0
    return (known or window_for_span(span * 1000 // unit)) * unit // 1000


def _windows(
    metadata: RegionMetadata, batch: Batch, width: int, repeated: Mask, replaced: Mask, late: Mask
) -> pl.DataFrame:
    numbers, places = np.unique(batch.times // width, return_inverse=True)
    counts = {
        name: np.bincount(places[mask], minlength=len(numbers))
        for name, mask in (("repeated", repeated), ("replaced", replaced), ("late", late))
    }
    columns = {
        "window": pa.array(numbers * width).view(metadata.time.type),
        "rows": pa.array(np.bincount(places, minlength=len(numbers)), pa.uint64()),
    }
    return from_table(pa.table(columns | {name: pa.array(count, pa.uint64()) for name, count in counts.items()}))


def _files(batch: Batch, width: int, file_bytes: int | None) -> int:
    if not len(batch):
        return 0
    if file_bytes is None:
        return sum(1 for _ in cuts(batch.times, width, SST_ROWS_MIN, len(batch)))
    return sum(1 for _ in cuts(batch.times, width, FILE_ROWS_MIN, rows_per_file(file_bytes)))


def _casts(metadata: RegionMetadata, given: pa.Table) -> Iterator[str]:
    for column in metadata.columns:
        if column.name not in given.schema.names:
            filled = "null" if column.default is None else repr(column.default.as_py())
            yield f"{column.name}: absent, filled with {filled}"
            continue
        kept = normalise(given.schema.field(column.name).type)
        if kept != column.type:
            found = "null" if kept is None else type_to_text(kept)
            yield f"{column.name}: {found} to {type_to_text(column.type)}"
