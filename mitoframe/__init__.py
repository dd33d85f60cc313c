"""A time-series store that lives in a notebook: DataFrames in, crash-safe LSM on disk, lazy Polars out.

>>> import mitoframe as mito
>>> db = mito.open("memory://")
>>> db.close()
"""

from mitoframe.accessor import register as _register
from mitoframe.database import Database, open, scan, write  # noqa: A004
from mitoframe.engine.engine import MitoEngine
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
    SchemaMismatchError,
    SnapshotExpiredError,
    StoreLockedError,
    TableExistsError,
    TableNotFoundError,
    UnavailableError,
    UnknownOutcomeError,
)
from mitoframe.model.options import MitoConfig
from mitoframe.model.request import CompactResult, FlushResult, VacuumResult, WriteResult
from mitoframe.ports import RegionHook
from mitoframe.scan import Scan
from mitoframe.table import Table

__all__ = [
    "BusyError",
    "ClosedError",
    "CompactResult",
    "ConfigError",
    "ConflictError",
    "CorruptionError",
    "DamageWarning",
    "Database",
    "DiskFullError",
    "FencedError",
    "FlushResult",
    "InvalidInputError",
    "LimitExceededError",
    "MitoConfig",
    "MitoEngine",
    "MitoError",
    "PoisonedError",
    "ReadOnlyError",
    "RegionHook",
    "Scan",
    "SchemaMismatchError",
    "SnapshotExpiredError",
    "StoreLockedError",
    "Table",
    "TableExistsError",
    "TableNotFoundError",
    "UnavailableError",
    "UnknownOutcomeError",
    "VacuumResult",
    "WriteResult",
    "open",
    "scan",
    "write",
]
__version__ = "0.1.0"

_register()
