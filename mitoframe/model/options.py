"""Values that tune an engine and a table. Only values: the objects that do the work are passed beside them."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any, Literal

from mitoframe.model.errors import ConfigError, unknown_name
from mitoframe.model.timerange import LONGEST_MS

MIB = 1024 * 1024
HOUR_MS = 3_600_000

Sync = Literal["always", "interval", "never"]
WalRecovery = Literal["tolerate_torn_tail", "point_in_time", "strict"]
Dedup = Literal["last", "merge", "none"]
WalMode = Literal["log", "noop"]
IndexMode = Literal["background", "sync", "manual"]
CompactionPolicy = Literal["runs", "count"]
CompactionMode = Literal["automatic", "manual"]
OnExhausted = Literal["wait", "fail"]
ManifestCompression = Literal["none", "zlib"]
CompactionRunner = Literal["local", "processes"]
INPUT_FILES_MAX = 32


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
            ``"strict"``: refuse any damage, a half-written end included.
        write_buffer_size_bytes: a region's memtable is flushed at this size.
        write_buffer_limit_bytes: writes wait for a flush while a region's memtables hold this much, and are refused
            (`BusyError`) at once while they and the writes that wait hold twice as much.
        global_write_buffer_size_bytes: the same for the memtables of all regions together: at half of it the largest
            are flushed, at all of it writes wait.
        global_write_buffer_reject_bytes: writes are refused at once while all memtables and waiting writes hold this.
        write_stall_ms: the longest wait of a write, for a flush or for a change of the table, before `BusyError`.
        auto_flush_interval_ms: rows stay in memory no longer than this before they are flushed.
        maintenance_interval_ms: how often the engine looks by itself for what is due (flushes by age, files to delete).
        backfill_size_bytes: a single write of at least this many bytes is sorted into SSTs at once, without passing
            through log and memtable.
        backfill_buffer_bytes: how much of such a write is sorted in memory at a time.
        sst_size_bytes: about how large an SST made of such a write, or by a compaction, becomes.
        checkpoint_distance: manifest deltas between two checkpoints.
        manifest_compression: ``"zlib"``: what is written to manifests takes less room, and an older mitoframe refuses
            it. ``"none"``: it is plain JSON.
        row_group_rows: rows per Parquet row group.
        compaction_mode: ``"automatic"``: files are merged as soon as they are due. ``"manual"``: when asked.
        compaction_threads: how many tables are merged at a time, and as many more of those that somebody asks for; None
            is one for four processors.
        compaction_runner: ``"local"``: merges run in this process. ``"processes"``: in processes of their own, one for
            each that runs at a time, which leaves this one to others; for stores in folders.
        compaction_policy: ``"count"``: files of a time window are merged once there are enough of similar size, and one
            to which nothing comes any more becomes one sorted run. ``"runs"``: as soon as two files of it overlap.
        compaction_trigger_files: how many files start a merge in a window to which rows come. Fewer make for faster
            scans, more for faster ingest of rows that come in no order of time.
        compaction_settled_trigger_files: how many files without overlap are joined in a window to which nothing comes
            any more.
        compaction_settle_ms: how long nothing must have come to a window for that.
        compaction_input_files_max: how many files one merge takes; None is 32, or as many as start one.
        compaction_input_size_max_bytes: how many bytes; None is any number: a merge takes the same memory for all.
        compaction_memory_limit_bytes: how much memory all merges may take together; None is no limit. A merge that
            would take more alone is skipped.
        compaction_on_exhausted: what becomes of a merge for which others leave too little. ``"wait"``: it waits for
            ``compaction_memory_wait_ms`` before it fails. ``"fail"``: it fails, and is tried again later.
        compaction_memory_wait_ms: the longest such wait.
        gc_grace_ms: how long files and row versions stay after the last version that needs them, for taking a write
            back, and for readers in other processes that cannot say what they read.
        gc_unknown_grace_ms: how long a file stays that no version ever listed: what a crash left, or a stranger put
            there under a name such as ours.
        journal_entries_max: how many entries of a table's journal are kept; the oldest are rolled up into one.
        cache_size_bytes: how much memory may be spent on keeping what scans have read and found out, for the next; None
            is an eighth of the machine's, 0 keeps nothing.
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
    global_write_buffer_size_bytes: int = 512 * MIB
    global_write_buffer_reject_bytes: int = 1024 * MIB
    write_stall_ms: int = 60_000
    auto_flush_interval_ms: int = HOUR_MS // 2
    maintenance_interval_ms: int = 60_000
    backfill_size_bytes: int = 128 * MIB
    backfill_buffer_bytes: int = 256 * MIB
    sst_size_bytes: int = 128 * MIB
    checkpoint_distance: int = 10
    manifest_compression: ManifestCompression = "none"
    row_group_rows: int = 102_400
    compaction_mode: CompactionMode = "automatic"
    compaction_threads: int | None = None
    compaction_runner: CompactionRunner = "local"
    compaction_policy: CompactionPolicy = "count"
    compaction_trigger_files: int = 4
    compaction_settled_trigger_files: int = 4
    compaction_settle_ms: int = HOUR_MS
    compaction_input_files_max: int | None = None
    compaction_input_size_max_bytes: int | None = None
    compaction_memory_limit_bytes: int | None = None
    compaction_on_exhausted: OnExhausted = "wait"
    compaction_memory_wait_ms: int = 10_000
    gc_grace_ms: int = HOUR_MS
    gc_unknown_grace_ms: int = 24 * HOUR_MS
    journal_entries_max: int = 10_000
    cache_size_bytes: int | None = None
    flush_on_close: bool = True

    def __post_init__(self) -> None:
        check_choice("sync", self.sync, ("always", "interval", "never"))
        check_choice("wal_recovery", self.wal_recovery, ("tolerate_torn_tail", "point_in_time", "strict"))
        check_choice("flush_on_close", self.flush_on_close, (True, False))
        check_choice("manifest_compression", self.manifest_compression, ("none", "zlib"))
        check_choice("compaction_on_exhausted", self.compaction_on_exhausted, ("wait", "fail"))
        check_choice("compaction_runner", self.compaction_runner, ("local", "processes"))
        if self.compaction_memory_limit_bytes is not None:
            check_at_least("compaction_memory_limit_bytes", self.compaction_memory_limit_bytes, 1)
        check_at_least("compaction_memory_wait_ms", self.compaction_memory_wait_ms, 0)
        if self.compaction_threads is not None:
            check_at_least("compaction_threads", self.compaction_threads, 1)
            check_at_most("compaction_threads", self.compaction_threads, COMPACTION_THREADS_MAX)
        for name in _AT_LEAST_ONE:
            check_at_least(name, getattr(self, name), 1)
        check_at_least("gc_grace_ms", self.gc_grace_ms, 0)
        check_at_least("gc_unknown_grace_ms", self.gc_unknown_grace_ms, 0)
        check_at_least("journal_entries_max", self.journal_entries_max, JOURNAL_ENTRIES_LEAST)
        if self.cache_size_bytes is not None:
            check_at_least("cache_size_bytes", self.cache_size_bytes, 0)
        check_at_most("row_group_rows", self.row_group_rows, ROW_GROUP_ROWS_MAX)
        for lower, upper in _ORDERED:
            if getattr(self, upper) < getattr(self, lower):
                raise ConfigError(f"{upper} is below {lower}; raise it, or lower the other.")
        _check_compaction(self)
        for field in fields(self):
            if field.name.endswith("_ms"):
                check_at_most(field.name, getattr(self, field.name), LONGEST_MS)


_AT_LEAST_ONE = (
    "sync_interval_ms",
    "wal_segment_size_bytes",
    "write_buffer_size_bytes",
    "write_buffer_limit_bytes",
    "global_write_buffer_size_bytes",
    "global_write_buffer_reject_bytes",
    "write_stall_ms",
    "auto_flush_interval_ms",
    "maintenance_interval_ms",
    "backfill_size_bytes",
    "backfill_buffer_bytes",
    "sst_size_bytes",
    "checkpoint_distance",
    "row_group_rows",
)
JOURNAL_ENTRIES_LEAST = 10
"""Fewer would not say more than the newest few versions of a manifest do."""
_ORDERED = (
    ("write_buffer_size_bytes", "write_buffer_limit_bytes"),
    ("global_write_buffer_size_bytes", "global_write_buffer_reject_bytes"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionOptions:
    """How one table behaves; kept in its manifest. None means what the engine's `MitoConfig` says.

    Attributes:
        compaction_window_ms: the time window whose files are compacted together; None infers it from the data.
        dedup: which rows of one key are seen. ``"last"``: the newest. ``"merge"``: the newest, with its nulls filled
            from older ones. ``"none"``: all of them; nothing can be deleted by key.
        wal: ``"log"``: a write is in the log before it returns. ``"noop"``: it is in memory only until it is flushed,
            so that a crash loses what was not.
        write_buffer_size_bytes: this table's memtable is flushed at this size.
        auto_flush_interval_ms: this table's rows stay in memory no longer.
        row_group_rows: rows per Parquet row group.
        index_mode: when the indexes that columns ask for are built. ``"background"``: soon after a file is there.
            ``"sync"``: with each file that is flushed or compacted, which takes longer. ``"manual"``: when asked.
        ttl_ms: rows that are older than the newest by this are not read any more, and go; None keeps them for ever.
        sst_size_bytes: about how large an SST that is not flushed becomes.
        compaction_mode: as in `MitoConfig`, and so the others whose names begin like this.
        compaction_policy: see there.
        compaction_trigger_files: see there.
        compaction_settled_trigger_files: see there.
        compaction_settle_ms: see there.
        compaction_input_files_max: see there.
        compaction_input_size_max_bytes: see there.

    Example:
        >>> RegionOptions(dedup="merge", ttl_ms=3_600_000).dedup
        'merge'

    """

    compaction_window_ms: int | None = None
    dedup: Dedup = "last"
    wal: WalMode = "log"
    write_buffer_size_bytes: int | None = None
    auto_flush_interval_ms: int | None = None
    row_group_rows: int | None = None
    index_mode: IndexMode = "background"
    ttl_ms: int | None = None
    sst_size_bytes: int | None = None
    compaction_mode: CompactionMode | None = None
    compaction_policy: CompactionPolicy | None = None
    compaction_trigger_files: int | None = None
    compaction_settled_trigger_files: int | None = None
    compaction_settle_ms: int | None = None
    compaction_input_files_max: int | None = None
    compaction_input_size_max_bytes: int | None = None

    def __post_init__(self) -> None:
        check_choice("index_mode", self.index_mode, ("background", "sync", "manual"))
        check_choice("dedup", self.dedup, ("last", "merge", "none"))
        check_choice("wal", self.wal, ("log", "noop"))
        for name, least in _REGION_LEAST.items():
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), least)
        if self.row_group_rows is not None:
            check_at_most("row_group_rows", self.row_group_rows, ROW_GROUP_ROWS_MAX)
        _check_compaction(self)

    def to_json(self) -> dict[str, Any]:
        """Write what differs from the default, so that an older mitoframe reads a table that uses nothing newer."""
        changed = {field.name: getattr(self, field.name) for field in fields(self) if _differs(self, field)}
        return {"compaction_window_ms": self.compaction_window_ms} | changed

    @staticmethod
    def from_json(value: dict[str, Any]) -> RegionOptions:
        known = [field.name for field in fields(RegionOptions)]
        for name in value:
            if name not in known:
                raise ConfigError(unknown_name("option", name, known))
        return RegionOptions(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionOptions:
    """What decides which files are merged; a picker needs nothing else but the files and the time.

    Attributes:
        policy: ``"count"``: files are merged once there are enough of similar size, and a time window to which nothing
            comes any more becomes one sorted run. ``"runs"``: as soon as two files of a window overlap.
        window_ms: the time window whose files are compacted together; None is the one remembered, or inferred.
        trigger_files: how many files start a merge in a window to which rows come.
        settled_trigger_files: how many files without overlap are joined in a window to which nothing comes any more.
        settle_ms: how long nothing must have come to a window for that; longer where much would be rewritten for
            little.
        input_files_max: files of one merge; those that an earlier merge divided by series count as one.
        input_size_max_bytes: bytes of one merge; None is no limit: a merge takes the same memory for any.
        output_size_max_bytes: a file that becomes as large is followed by another.
        ttl_ms: rows that are older than the newest by this expire; None keeps them for ever.
        dedup: which rows of one key are seen, as in `RegionOptions`.

    """

    # The simulator's figures for a day of 10-second data, 5 percent of it up to 6 h late, by default options (see
    # benchmarks/maintenance.py): "count" writes each byte 2.8 times and has 3.4 runs in a window on average meanwhile,
    # "runs" writes it 6.6 times and has 1; both leave one file in each window. In one window of a day it is 3.9 against
    # 27.8 times.
    policy: CompactionPolicy = "count"
    window_ms: int | None = None
    trigger_files: int = 4
    settled_trigger_files: int = 4
    settle_ms: int = HOUR_MS
    input_files_max: int = 32
    input_size_max_bytes: int | None = None
    output_size_max_bytes: int = 128 * MIB
    ttl_ms: int | None = None
    dedup: Dedup = "last"

    def __post_init__(self) -> None:
        check_choice("policy", self.policy, ("runs", "count"))
        check_choice("dedup", self.dedup, ("last", "merge", "none"))
        for name, least in _COMPACTION_LEAST.items():
            if getattr(self, name) is not None:
                check_at_least(name, getattr(self, name), least)
        for name in ("trigger_files", "settled_trigger_files"):
            if getattr(self, name) > self.input_files_max:
                raise ConfigError(
                    f"{name}={getattr(self, name)} is above input_files_max={self.input_files_max}: no merge could "
                    "take as many; lower it, or raise the other."
                )
        if self.input_size_max_bytes is not None and self.input_size_max_bytes < self.output_size_max_bytes:
            raise ConfigError("output_size_max_bytes is above input_size_max_bytes; lower it, or raise the other.")


_COMPACTION_LEAST = {
    "window_ms": 1000,
    "trigger_files": 2,
    "settled_trigger_files": 2,
    "settle_ms": 0,
    "input_files_max": 2,
    "input_size_max_bytes": 1,
    "output_size_max_bytes": 1,
    "ttl_ms": 1,
}
COMPACTION_THREADS_MAX = 256
ROW_GROUP_ROWS_MAX = 10 * 1024 * 1024
COMPACTION_FILES_MAX = 1_000_000
_REGION_LEAST = {
    "compaction_window_ms": 1000,
    "write_buffer_size_bytes": 1,
    "auto_flush_interval_ms": 1,
    "row_group_rows": 1,
    "ttl_ms": 1,
    "sst_size_bytes": 1,
}
_COMPACTION_NUMBERS = {
    "compaction_trigger_files": 2,
    "compaction_settled_trigger_files": 2,
    "compaction_settle_ms": 0,
    "compaction_input_files_max": 2,
    "compaction_input_size_max_bytes": 1,
}
_COMPACTION_MOST = {
    "compaction_trigger_files": COMPACTION_FILES_MAX,
    "compaction_settled_trigger_files": COMPACTION_FILES_MAX,
    "compaction_settle_ms": LONGEST_MS,
    "compaction_input_files_max": COMPACTION_FILES_MAX,
}


def option_least(name: str) -> int:
    """Return the least number that an option of a table may be.

    >>> option_least("compaction_window_ms")
    1000
    """
    return (_REGION_LEAST | _COMPACTION_NUMBERS)[name]


def compaction_options(config: MitoConfig, options: RegionOptions) -> CompactionOptions:
    """Return what decides which files of a table are merged: what the table says, and else what the store does.

    What the table says counts: where a limit of the store contradicts it, the store's gives way.

    >>> compaction_options(MitoConfig(), RegionOptions(compaction_trigger_files=50)).input_files_max
    50
    """
    known = {name: _first(getattr(options, name), getattr(config, name)) for name in _COMPACTION_NUMBERS}
    triggers = ("compaction_trigger_files", "compaction_settled_trigger_files")
    if options.compaction_input_files_max is not None:
        known |= {name: min(known[name], options.compaction_input_files_max) for name in triggers}
    files_max = max(known["compaction_input_files_max"] or INPUT_FILES_MAX, *(known[name] for name in triggers))
    output_bytes = options.sst_size_bytes or config.sst_size_bytes
    input_bytes = known["compaction_input_size_max_bytes"]
    if input_bytes is not None and input_bytes < output_bytes:
        if options.sst_size_bytes is None:
            output_bytes = input_bytes
        else:
            input_bytes = output_bytes
    return CompactionOptions(
        policy=options.compaction_policy or config.compaction_policy,
        window_ms=options.compaction_window_ms,
        trigger_files=known["compaction_trigger_files"],
        settled_trigger_files=known["compaction_settled_trigger_files"],
        settle_ms=known["compaction_settle_ms"],
        input_files_max=files_max,
        input_size_max_bytes=input_bytes,
        output_size_max_bytes=output_bytes,
        ttl_ms=options.ttl_ms,
        dedup=options.dedup,
    )


def _check_compaction(options: MitoConfig | RegionOptions) -> None:
    """Refuse what is out of range, or contradicts what is given beside it."""
    optional = (None,) if isinstance(options, RegionOptions) else ()
    check_choice("compaction_mode", options.compaction_mode, ("automatic", "manual", *optional))
    check_choice("compaction_policy", options.compaction_policy, ("runs", "count", *optional))
    known = {field.name: field.default for field in fields(options)}
    for name, least in _COMPACTION_NUMBERS.items():
        if getattr(options, name) is not None or known[name] is not None:
            check_at_least(name, getattr(options, name), least)
    for name, most in _COMPACTION_MOST.items():
        if getattr(options, name) is not None:
            check_at_most(name, getattr(options, name), most)
    files_max = options.compaction_input_files_max
    for name in ("compaction_trigger_files", "compaction_settled_trigger_files"):
        given = getattr(options, name)
        if given is not None and files_max is not None and given > files_max:
            raise ConfigError(
                f"{name}={given} is above compaction_input_files_max={files_max}: no merge could take as many; lower "
                "it, or raise the other."
            )
    input_bytes, output_bytes = options.compaction_input_size_max_bytes, options.sst_size_bytes
    if input_bytes is not None and output_bytes is not None and input_bytes < output_bytes:
        raise ConfigError("sst_size_bytes is above compaction_input_size_max_bytes; lower it, or raise the other.")


def _first(given: Any, default: Any) -> Any:
    return default if given is None else given


def _differs(options: RegionOptions, field: Field[Any]) -> bool:
    return bool(getattr(options, field.name) != field.default)


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise `ConfigError` unless a value is one of some."""
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}.")


def check_at_most(name: str, value: int, most: int) -> None:
    """Raise `ConfigError` if a number is too large."""
    if value > most:
        raise ConfigError(f"{name}={value} is above {most}; lower it.")


def check_at_least(name: str, value: object, least: int) -> None:
    """Raise `ConfigError` unless a value is an integer that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}={value!r} must be an integer of at least {least}.")
