"""What rooms hand each other: requests, and what became of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mitoframe.model.ids import NO_SEQUENCE
from mitoframe.model.options import check_at_least, check_choice
from mitoframe.model.predicate import ALWAYS, Predicate
from mitoframe.model.timerange import EVERYTHING, TIME_MIN, TimeRange

if TYPE_CHECKING:
    from mitoframe.model.alter import Alteration
    from mitoframe.model.batch import Batch
    from mitoframe.model.ids import FileId, ManifestVersion, Sequence
    from mitoframe.model.options import RegionOptions
    from mitoframe.model.schema import RegionMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """What to read of a region.

    Attributes:
        columns: names in the order wanted; None for all. ``__sequence`` and ``__op_type`` may be named.
        predicate: rows to keep; applied in full after dedup.
        time_range: a further condition on the time column.
        sequence: the rows as they were when that of this sequence had come; None for all that are visible now.
        version: the rows as they were after this manifest version; None for now.
        min_sequence: of the rows that are seen, only those with a sequence above this.
        distribution: how rows are dealt to the parts in which they come. ``"any"``: as they lie. ``"series"``: a part
            has all rows of each of its series, unless these are very many.
        kept_from: rows with earlier times have expired.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     batches = db.engine.handle_query(cpu.region_id, mito.ScanRequest(columns=("cpu",)))
        ...     [batch.num_rows for batch in batches]
        [1]

    """

    columns: tuple[str, ...] | None = None
    predicate: Predicate = ALWAYS
    time_range: TimeRange = EVERYTHING
    sequence: Sequence | None = None
    version: ManifestVersion | None = None
    min_sequence: Sequence = NO_SEQUENCE
    distribution: Literal["any", "series"] = "any"
    kept_from: int = TIME_MIN


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """Make a region; opening one that is there with the same metadata is fine.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     metadata = db.engine.region(cpu.region_id).metadata
        ...     request = mito.CreateRequest(metadata=metadata, options=mito.RegionOptions())
        ...     db.engine.handle_request(cpu.region_id, request)
        0

    """

    metadata: RegionMetadata
    options: RegionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """Open an existing region.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.OpenRequest())
        0

    """


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """Let a region go, flushing it first if asked. One whose rows are not in the log is always flushed.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.CloseRequest())
        0

    """

    flush: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRequest:
    """Give a region up for good. Its files go in the background, after the grace period.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.DropRequest())
        0

    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterRequest:
    """Change a region's schema and options, all of it or nothing.

    Attributes:
        alterations: changes of columns, applied in this order.
        options: options to set, by the names of `RegionOptions`.
        unset: options to put back to their defaults.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.AlterRequest(options={"ttl_ms": 3_600_000}))
        ...     db.engine.region(cpu.region_id).options.ttl_ms
        0
        3600000

    """

    alterations: tuple[Alteration, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """Write rows; a row with the key of an older one replaces it.

    With a ``key`` that an earlier write had nothing is written.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.PutRequest(batch=cpu.to_batch(frame)))
        1

    """

    batch: Batch
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """Delete the rows with these keys, whether or not they are there.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     keys = cpu.to_batch(frame.drop("cpu"), delete=True)
        ...     db.engine.handle_request(cpu.region_id, mito.DeleteRequest(batch=keys))
        ...     cpu.scan().count()
        1
        0

    """

    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkInsertRequest:
    """Write rows of any number straight into SSTs, all of them at once visible. With a ``key`` as in `PutRequest`.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.BulkInsertRequest(batches=[cpu.to_batch(frame)]))
        ...     cpu.files().height
        1
        1

    """

    batches: Iterable[Batch]
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceRequest:
    """Exchange all rows of a time range for others, which may be none. Every row must be in the range.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> from mitoframe.model.timerange import EVERYTHING
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     request = mito.ReplaceRequest(time_range=EVERYTHING, batches=[])
        ...     _ = db.engine.handle_request(cpu.region_id, request)
        ...     cpu.scan().count()
        0

    """

    time_range: TimeRange
    batches: Iterable[Batch] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRequest:
    """Take a write back: be as if its rows had never been written.

    ``first_sequence`` and ``row_count`` are those that the write was acknowledged with.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.UndoRequest(first_sequence=1, row_count=1))
        ...     cpu.scan().count()
        1
        0

    """

    first_sequence: Sequence
    row_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRequest:
    """Write the memtable to SSTs.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.FlushRequest())
        1

    """

    reason: str = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactRequest:
    """Merge files, and let those go that have expired.

    Attributes:
        mode: ``"due"``: what the policy finds due. ``"all"``: whatever overlaps, and small neighbours. ``"strict"``:
            whatever overlaps or reaches into several windows; no file reaches into two afterwards.
        time_range: only windows that have a time in it.
        window_ms: how long a window is, for this request; None is as always.
        dry_run: say what would be done, and do nothing.
        reason: for the journal.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     _ = cpu.flush()
        ...     db.engine.handle_request(cpu.region_id, mito.CompactRequest(mode="strict"))
        0

    """

    mode: Literal["due", "all", "strict"] = "all"
    time_range: TimeRange = EVERYTHING
    window_ms: int | None = None
    dry_run: bool = False
    reason: str = "manual"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("due", "all", "strict"))
        if self.window_ms is not None:
            check_at_least("window_ms", self.window_ms, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildIndexRequest:
    """Build the indexes that columns ask for and files do not have, and return when they are built.

    Attributes:
        file_ids: of which files; None for all.
        kinds: of these kinds only; None for all.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.BuildIndexRequest(kinds=("inverted",)))
        0

    """

    file_ids: tuple[FileId, ...] | None = None
    kinds: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRegionRequest:
    """Be at a version of the manifest, or at a later one: for an engine that reads what another one writes.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.SyncRegionRequest(manifest_version=0))
        0

    """

    manifest_version: ManifestVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumRequest:
    """Delete files that nobody needs any more.

    Attributes:
        grace_ms: how long ago they must have been listed last, or stored if they never were; None is as configured,
            for each.
        dry_run: say what would be done, and do nothing.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.VacuumRequest(grace_ms=0))
        0

    """

    grace_ms: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.grace_ms is not None:
            check_at_least("grace_ms", self.grace_ms, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateRequest:
    """Remove rows without looking at them.

    Attributes:
        what: ``"all"`` rows; only those ``"unflushed"``, which no file has; or those in ``"time_ranges"``.
        time_ranges: half-open, in the time column's unit.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     cpu = db["cpu"]
        ...     db.engine.handle_request(cpu.region_id, mito.TruncateRequest())
        ...     cpu.scan().count()
        1
        0

    """

    what: Literal["all", "unflushed", "time_ranges"] = "all"
    time_ranges: tuple[TimeRange, ...] = ()


RegionRequest = (
    CreateRequest
    | OpenRequest
    | CloseRequest
    | DropRequest
    | AlterRequest
    | PutRequest
    | DeleteRequest
    | BulkInsertRequest
    | ReplaceRequest
    | UndoRequest
    | FlushRequest
    | CompactRequest
    | BuildIndexRequest
    | TruncateRequest
    | SyncRegionRequest
    | VacuumRequest
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where a write's rows are among all rows of the region.

    ``repeated``: an earlier write with its key did it. ``expired``: how many have expired already, and are not read.
    """

    first_sequence: Sequence
    row_count: int
    at_ms: int
    repeated: bool = False
    expired: int = 0
