"""A time-series store that lives in a notebook: DataFrames in, crash-safe LSM on disk, lazy Polars out.

    open, write, scan             a store, rows in, rows out, by way of `Database`, `Table` and `Scan`
    MitoConfig, RegionOptions     how a store and a table behave
    AtSequence                    an earlier moment, where no version, name or time says it
    ...Result                     what writing and upkeep did
    MitoError and its kinds       what went wrong, with what and how to mend it
    MitoEngine, ...Request        the engine below, for those who build on it
    RegionHook                    is told what it does, with SstFileInfo and RegionGcInfo

>>> import mitoframe as mito, polars as pl, datetime as dt
>>> with mito.open("memory://") as db:
...     times = [dt.datetime(2024, 1, 1, hour) for hour in range(4)]
...     frame = pl.DataFrame({"ts": times, "host": ["a", "b"] * 2, "load": [0.1, 0.2, 0.3, 0.4]})
...     print(frame.to_mito("cpu", time="ts", tags=["host"]))
...     mito.scan("cpu").to_polars().filter(pl.col("host") == "a").select("load").collect()["load"].to_list()
...     mito.scan("cpu", columns=["host", "load"]).last().rows()
wrote 4 rows to 'cpu' (new table)
[0.1, 0.3]
[('a', 0.3), ('b', 0.4)]
"""

from mitoframe.accessor import register as _register
from mitoframe.database import Database, open, scan, write  # noqa: A004
from mitoframe.diagnosis import Finding
from mitoframe.doctor import DoctorReport, FixResult
from mitoframe.engine.engine import MitoEngine
from mitoframe.explaining import WriteExplanation
from mitoframe.model.errors import (
    BusyError,
    ClosedError,
    ConfigError,
    ConflictError,
    CorruptionError,
    DamageWarning,
    DiskFullError,
    FencedError,
    InvalidInputError,
    LimitExceededError,
    MitoError,
    PoisonedError,
    ReadOnlyError,
    RepeatedWriteWarning,
    SchemaMismatchError,
    SnapshotExpiredError,
    StoreLockedError,
    TableExistsError,
    TableNotFoundError,
    UnavailableError,
    UnknownOutcomeError,
)
from mitoframe.model.options import MitoConfig, RegionOptions
from mitoframe.model.request import (
    AlterRequest,
    BuildIndexRequest,
    BulkInsertRequest,
    CloseRequest,
    CompactRequest,
    CreateRequest,
    DeleteRequest,
    DropRequest,
    FlushRequest,
    OpenRequest,
    PutRequest,
    ReplaceRequest,
    ScanRequest,
    SyncRegionRequest,
    TruncateRequest,
    UndoRequest,
    VacuumRequest,
)
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
from mitoframe.ports import RegionGcInfo, RegionHook, SstFileInfo
from mitoframe.scan import Scan
from mitoframe.simulating import SimulationResult, simulate
from mitoframe.table import Table
from mitoframe.travelling import AtSequence, WhyResult
from mitoframe.verifying import VerifyReport

__all__ = [
    "AlterRequest",
    "AlterResult",
    "AtSequence",
    "BuildIndexRequest",
    "BulkInsertRequest",
    "BusyError",
    "CloseRequest",
    "ClosedError",
    "CompactRequest",
    "CompactResult",
    "ConfigError",
    "ConflictError",
    "CorruptionError",
    "CreateRequest",
    "DamageWarning",
    "Database",
    "DeleteRequest",
    "DeleteResult",
    "DiskFullError",
    "DoctorReport",
    "DropRequest",
    "ExpireResult",
    "FencedError",
    "Finding",
    "FixResult",
    "FlushRequest",
    "FlushResult",
    "IndexResult",
    "InvalidInputError",
    "LimitExceededError",
    "MitoConfig",
    "MitoEngine",
    "MitoError",
    "OpenRequest",
    "PoisonedError",
    "PutRequest",
    "ReadOnlyError",
    "RegionGcInfo",
    "RegionHook",
    "RegionOptions",
    "RepeatedWriteWarning",
    "ReplaceRequest",
    "ReplaceResult",
    "RestoreResult",
    "Scan",
    "ScanRequest",
    "SchemaMismatchError",
    "SimulationResult",
    "SnapshotExpiredError",
    "SnapshotResult",
    "SstFileInfo",
    "StoreLockedError",
    "SyncRegionRequest",
    "Table",
    "TableExistsError",
    "TableNotFoundError",
    "TruncateRequest",
    "TruncateResult",
    "UnavailableError",
    "UndoRequest",
    "UndoResult",
    "UnknownOutcomeError",
    "VacuumRequest",
    "VacuumResult",
    "VerifyReport",
    "WhyResult",
    "WriteExplanation",
    "WriteResult",
    "open",
    "scan",
    "simulate",
    "write",
]
__version__ = "0.1.0"

_register()
