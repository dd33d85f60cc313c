"""A time-series store that lives in a notebook: DataFrames in, crash-safe LSM on disk, lazy Polars out.

>>> import mitoframe as mito
>>> db = mito.open("memory://")
>>> db.close()
"""

from mitoframe.accessor import register as _register
from mitoframe.database import Database, open, scan, write  # noqa: A004
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
    TruncateRequest,
    UndoRequest,
)
from mitoframe.model.result import (
    AlterResult,
    CompactResult,
    DeleteResult,
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
from mitoframe.ports import RegionHook
from mitoframe.scan import Scan
from mitoframe.table import Table
from mitoframe.travelling import AtSequence, WhyResult

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
    "DropRequest",
    "FencedError",
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
    "RegionHook",
    "RegionOptions",
    "RepeatedWriteWarning",
    "ReplaceRequest",
    "ReplaceResult",
    "RestoreResult",
    "Scan",
    "ScanRequest",
    "SchemaMismatchError",
    "SnapshotExpiredError",
    "SnapshotResult",
    "StoreLockedError",
    "Table",
    "TableExistsError",
    "TableNotFoundError",
    "TruncateRequest",
    "TruncateResult",
    "UnavailableError",
    "UndoRequest",
    "UndoResult",
    "UnknownOutcomeError",
    "VacuumResult",
    "WhyResult",
    "WriteExplanation",
    "WriteResult",
    "open",
    "scan",
    "write",
]
__version__ = "0.1.0"

_register()
