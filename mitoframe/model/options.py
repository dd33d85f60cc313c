"""Values that tune an engine and a table. Only values: the objects that do the work are passed beside them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from mitoframe.model.errors import ConfigError, unknown_name

MIB = 1024 * 1024
HOUR_MS = 3_600_000

Sync = Literal["always", "interval", "never"]
WalRecovery = Literal["tolerate_torn_tail", "point_in_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MitoConfig:
    """How an engine behaves. Every limit of the engine has its name here.

    Attributes:
        sync: when a write is on the disk before it returns. ``"always"``: yes, one fsync per group of writes.
            ``"interval"``: at most ``sync_interval_ms`` later. ``"never"``: when the system likes (a killed process
            loses nothing, a power loss may).
        sync_interval_ms: the longest time a write stays unsynced at ``sync="interval"``.
        wal_segment_size_bytes: a log segment is followed by a new one at this size.
        wal_recovery: what opening does with a damaged log. ``"tolerate_torn_tail"``: drop what a crash left
            half-written, refuse anything else. ``"point_in_time"``: keep all before the damage, set the rest aside.
        write_buffer_size_bytes: a region's memtable is flushed at this size.
        write_buffer_limit_bytes: writes wait for a flush while a region's memtables hold this much.
        write_stall_ms: the longest such wait before `BusyError`.
        checkpoint_distance: manifest deltas between two checkpoints.
        row_group_rows: rows per Parquet row group.
        compaction_trigger_files: overlapping files in a time window that start an automatic compaction.
        gc_grace_ms: how long a file stays after the last version that needs it, for readers in other processes.
        flush_on_close: whether closing writes the memtable to Parquet, so that the folder holds plain files.

    Example:
        >>> MitoConfig(sync="interval", sync_interval_ms=50).sync
        'interval'
        >>> MitoConfig(sync="sometimes")
        Traceback (most recent call last):
        mitoframe.model.errors.ConfigError: sync='sometimes' is not one of 'always', 'interval', 'never'.

    """

    sync: Sync = "always"
    sync_interval_ms: int = 200
    wal_segment_size_bytes: int = 64 * MIB
    wal_recovery: WalRecovery = "tolerate_torn_tail"
    write_buffer_size_bytes: int = 64 * MIB
    write_buffer_limit_bytes: int = 256 * MIB
    write_stall_ms: int = 60_000
    checkpoint_distance: int = 10
    row_group_rows: int = 102_400
    compaction_trigger_files: int = 4
    gc_grace_ms: int = HOUR_MS
    flush_on_close: bool = True

    def __post_init__(self) -> None:
        _check_choice("sync", self.sync, ("always", "interval", "never"))
        _check_choice("wal_recovery", self.wal_recovery, ("tolerate_torn_tail", "point_in_time"))
        _check_choice("flush_on_close", self.flush_on_close, (True, False))
        for name in _AT_LEAST_ONE:
            _check_at_least(name, getattr(self, name), 1)
        _check_at_least("gc_grace_ms", self.gc_grace_ms, 0)
        _check_at_least("compaction_trigger_files", self.compaction_trigger_files, 2)
        if self.write_buffer_limit_bytes < self.write_buffer_size_bytes:
            raise ConfigError(
                "write_buffer_limit_bytes is below write_buffer_size_bytes; raise it, or lower the other."
            )


_AT_LEAST_ONE = (
    "sync_interval_ms",
    "wal_segment_size_bytes",
    "write_buffer_size_bytes",
    "write_buffer_limit_bytes",
    "write_stall_ms",
    "checkpoint_distance",
    "row_group_rows",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOptions:
    """How one table behaves; kept in its manifest.

    Attributes:
        compaction_window_ms: the time window whose files are compacted together; None infers it from the data.

    """

    compaction_window_ms: int | None = None

    def __post_init__(self) -> None:
        if self.compaction_window_ms is not None:
            _check_at_least("compaction_window_ms", self.compaction_window_ms, 1000)

    def to_json(self) -> dict[str, Any]:
        return {"compaction_window_ms": self.compaction_window_ms}

    @staticmethod
    def from_json(value: dict[str, Any]) -> RegionOptions:
        known = [field.name for field in fields(RegionOptions)]
        for name in value:
            if name not in known:
                raise ConfigError(unknown_name("option", name, known))
        return RegionOptions(**value)


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}.")


def _check_at_least(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}={value!r} must be an integer of at least {least}.")
