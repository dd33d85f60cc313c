"""From a URL to the parts an engine is made of. The only importer of drivers.

./plant, /data/plant      a folder on this machine
memory://, memory://name  this process only; gone when it ends
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from math import ceil
from typing import TYPE_CHECKING, Literal

from mitoframe.drivers.clock import SystemClock, SystemRandomness
from mitoframe.drivers.compactor_processes import ProcessCompactor, serve
from mitoframe.drivers.failures import is_disk_full, unavailable
from mitoframe.drivers.lock_file import WriterLock, one_at_a_time
from mitoframe.drivers.log_file import SegmentLog
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.pins_file import FilePins
from mitoframe.drivers.pins_memory import MemoryPins
from mitoframe.drivers.scheduler import ThreadScheduler
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.engine.catalog import Catalog
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.opening import roll_forward
from mitoframe.engine.parts import (
    ASKED_LANE,
    CHANGE_LANE,
    COMPACT_LANE,
    ERASE_LANE,
    FLUSH_LANE,
    HOOK_LANE,
    LANES,
    MERGE_LANE,
    SCAN_LANE,
    WRITE_LANE,
)
from mitoframe.jobs.elsewhere import carry_out
from mitoframe.jobs.gc import HELPERS_MAX as ERASERS_MAX
from mitoframe.model.errors import (
    ConfigError,
    CorruptionError,
    DamageWarning,
    InvalidInputError,
    MitoError,
    UnavailableError,
)
from mitoframe.model.ids import RegionId, table_id_of
from mitoframe.progress import progress
from mitoframe.region.hooks import check_hook
from mitoframe.storage.paths import (
    CATALOG_FILE,
    HOLDER_FILE,
    LOCK_FILE,
    LOG_FOLDER,
    READERS_FOLDER,
    REGIONS_FOLDER,
    STORE_FILE,
    parse_region_folder,
)

if TYPE_CHECKING:
    from mitoframe.model.options import MitoConfig
    from mitoframe.ports import (
        Compactor,
        LogDamage,
        LogStore,
        MetaStore,
        ObjectStore,
        Pins,
        Randomness,
        RegionHook,
        Scheduler,
        Vfs,
    )

__all__ = [
    "STORE_FORMAT",
    "Connection",
    "Mode",
    "canonical_url",
    "connect",
    "connect_vfs",
    "is_memory",
    "merge_for_others",
    "merging_command",
    "one_at_a_time",
]

_log = logging.getLogger("mitoframe")

Mode = Literal["rw", "r"]
STORE_FORMAT = 1
WRITERS_MAX = 4
CHANGES_MAX = 4
"""A change waits for the writes of its table; this many tables may be changed at a time."""
COMPACTION_SHARE = 4
"""How many processors there are for each table that is merged at a time, if the config does not say."""
HOOKS_MAX = 4
"""So many hooks may be slow at a time without keeping others waiting."""
CACHE_SHARE = 8
"""What part of the machine's memory may be spent on caches: one in so many."""
MERGING_PROGRAM = "mitoframe.compactor"
"""What a process runs that merges files for another."""
HOOK_GROUP = "mitoframe.hooks"
"""Packages offer hooks under this name."""
_STORE_ID = re.compile(r"[0-9a-f]{32}")
_OURS = (STORE_FILE, LOCK_FILE, HOLDER_FILE, CATALOG_FILE, LOG_FOLDER, REGIONS_FOLDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An open store: its engine, its catalog, and how to let both go."""

    engine: MitoEngine
    catalog: Catalog
    close: Callable[[], None]


def is_memory(url: str) -> bool:
    return url.startswith("memory://")


def canonical_url(url: str | os.PathLike[str]) -> str:
    """Return one spelling for each store.

    Raises:
        ConfigError: there is no driver for this kind of URL.

    """
    text = os.fspath(url)
    if is_memory(text):
        return text
    if "://" in text:
        scheme = text.partition("://")[0]
        raise ConfigError(f"there is no driver for {scheme}:// yet; open a folder, or memory:// for a try.")
    if not text or "\0" in text:
        raise InvalidInputError(f"{text!r} is not a folder; give a path.")
    return os.path.realpath(os.path.expanduser(text))


def connect(url: str, mode: Mode, config: MitoConfig, hooks: Sequence[RegionHook]) -> Connection:
    """Open a store, making it if ``mode`` is ``"rw"`` and it is not there. Installed hooks are told first."""
    hooks = (*installed_hooks(), *hooks)
    return _connect_memory(config, hooks) if is_memory(url) else connect_vfs(OsVfs(url), mode, config, hooks)


def installed_hooks() -> tuple[RegionHook, ...]:
    """Make the hooks that installed packages offer: entry points of the group `HOOK_GROUP` that return one when called.

    One that cannot be made is logged, and keeps nobody from opening a store.
    """
    hooks: list[RegionHook] = []
    for entry in _hook_entries():
        try:
            hook = entry.load()()
            check_hook(hook)
        except Exception:  # noqa: BLE001 - a hook is somebody else's code
            _log.exception("installed hook not used name=%s value=%s", entry.name, entry.value)
            continue
        hooks.append(hook)
    return tuple(hooks)


@cache
def _hook_entries() -> tuple[EntryPoint, ...]:
    # Finding them reads a file of every package there is: once is enough for a process.
    return tuple(entry_points(group=HOOK_GROUP))


def _connect_memory(config: MitoConfig, hooks: Sequence[RegionHook]) -> Connection:
    _refuse_processes(config, "memory://")
    with ExitStack() as opened:
        meta = SqliteMetaStore(":memory:")
        opened.callback(meta.close)
        parts = MemoryObjectStore(), MemoryLog(), meta, _scheduler(config), config, hooks
        return _connection(opened, *parts, pins=MemoryPins())


def _connection(
    opened: ExitStack,
    store: ObjectStore,
    log: LogStore,
    meta: MetaStore,
    scheduler: Scheduler,
    config: MitoConfig,
    hooks: Sequence[RegionHook],
    *,
    pins: Pins | None = None,
    compactor: Compactor | None = None,
    read_only: bool = False,
    after_crash: bool = False,
) -> Connection:
    """Join the parts; closing the connection closes the engine, with it the log, then all that was ``opened``."""
    if pins is not None:
        opened.callback(pins.close)
    engine = MitoEngine(
        object_store=store,
        log=log,
        scheduler=scheduler,
        clock=SystemClock(),
        randomness=SystemRandomness(),
        config=config,
        cache_bytes=_cache_bytes(config),
        hooks=hooks,
        compactor=compactor,
        read_only=read_only,
        pins=pins,
        watch_recovery=lambda: progress("recover", "rows"),
    )
    opened.callback(engine.close)
    catalog = Catalog(meta, hidden=engine.dropped() if read_only else ())
    if not read_only:
        roll_forward(engine, catalog, after_crash=after_crash)
    return Connection(engine=engine, catalog=catalog, close=opened.pop_all().close)


def connect_vfs(
    vfs: Vfs,
    mode: Mode,
    config: MitoConfig,
    hooks: Sequence[RegionHook] = (),
    scheduler: Scheduler | None = None,
    meta: MetaStore | None = None,
) -> Connection:
    """Open a store in the folder that a file system is rooted at; ``meta`` is its catalog, if not a file there."""
    scheduler = scheduler or _scheduler(config)
    try:
        if mode == "rw":
            return _connect_writer(vfs, config, hooks, scheduler, meta)
        return _connect_reader(vfs, config, hooks, scheduler, meta)
    except MitoError:
        raise
    except OSError as error:
        if is_disk_full(error):
            raise unavailable(error, f"opening {vfs.root}") from error
        raise UnavailableError(
            f"{vfs.root} cannot be {'written' if mode == 'rw' else 'read'}: {error.strerror or error}. "
            'Choose a folder that you may write, or read this one with mode="r".'
        ) from error


def _connect_writer(
    vfs: Vfs, config: MitoConfig, hooks: Sequence[RegionHook], scheduler: Scheduler, meta: MetaStore | None
) -> Connection:
    vfs.make_dirs("")
    _refuse_foreign(vfs)
    randomness = SystemRandomness()
    with ExitStack() as opened:
        lock = WriterLock.acquire(vfs, SystemClock(), lock_path=LOCK_FILE, holder_path=HOLDER_FILE)
        store = LocalObjectStore(vfs, randomness)
        # Left in good order only if nothing raised, neither while opening nor while closing, and no put was left open.
        opened.push(lambda kind, *_: lock.release(in_good_order=kind is None and not store.needs_sweep))
        if lock.after_crash:
            store.sweep()
        store_id = _make_store(store, randomness)
        meta = meta or SqliteMetaStore(_catalog_path(vfs))
        opened.callback(meta.close)
        _check_catalog(vfs, Catalog(meta))
        log = SegmentLog(
            vfs,
            LOG_FOLDER,
            store_id=store_id,
            segment_size_bytes=config.wal_segment_size_bytes,
            recovery=config.wal_recovery,
        )
        _tell_damage(log.damage)
        pins = FilePins(vfs, READERS_FOLDER, randomness)
        compactor = _compactor(opened, vfs, store, config)
        parts = store, log, meta, scheduler, config, hooks
        return _connection(opened, *parts, pins=pins, compactor=compactor, after_crash=lock.after_crash)


def _connect_reader(
    vfs: Vfs, config: MitoConfig, hooks: Sequence[RegionHook], scheduler: Scheduler, meta: MetaStore | None
) -> Connection:
    store = LocalObjectStore(vfs, SystemRandomness())
    try:
        store_id = _store_id(store)
    except (FileNotFoundError, UnavailableError) as error:
        if isinstance(error, UnavailableError) and not isinstance(error.__cause__, NotADirectoryError):
            raise
        raise InvalidInputError(f'there is no store in {vfs.root}; mode="rw" makes one.') from None
    with ExitStack() as opened:
        meta = meta or SqliteMetaStore(_catalog_path(vfs), read_only=True)
        opened.callback(meta.close)
        _check_catalog(vfs, Catalog(meta))
        log = SegmentLog(
            vfs,
            LOG_FOLDER,
            store_id=store_id,
            segment_size_bytes=config.wal_segment_size_bytes,
            read_only=True,
            recovery="point_in_time",
        )
        _tell_damage(log.damage)
        pins = FilePins(vfs, READERS_FOLDER, SystemRandomness())
        return _connection(opened, store, log, meta, scheduler, config, hooks, pins=pins, read_only=True)


def _compactor(opened: ExitStack, vfs: Vfs, store: LocalObjectStore, config: MitoConfig) -> ProcessCompactor | None:
    """Return what merges in other processes, if that is wanted. None is started before there is something to merge."""
    if config.compaction_runner == "local":
        return None
    if not os.path.isabs(vfs.root):
        _refuse_processes(config, vfs.root)
    # As many as there are threads that may want one, see `_scheduler`.
    compactor = ProcessCompactor(merging_command(vfs.root), workers_max=2 * _compaction_threads(config))

    def close() -> None:
        compactor.close()
        store.needs_sweep |= compactor.left_litter

    opened.callback(close)
    return compactor


def _refuse_processes(config: MitoConfig, root: str) -> None:
    if config.compaction_runner == "processes":
        raise ConfigError(
            f"{root} is in this process only, where no other can merge its files; open a folder, or leave "
            'compaction_runner at "local".'
        )


def merging_command(root: str) -> tuple[str, ...]:
    """Return how a process is started that merges files of the store in a folder."""
    return (sys.executable, "-P", "-m", MERGING_PROGRAM, root)


def merge_for_others(root: str) -> None:
    """Merge files of a store for the process that writes it, until that has ended. See `MERGING_PROGRAM`."""
    scheduler = ThreadScheduler({MERGE_LANE: max((os.cpu_count() or 1) - 1, 1)})
    store = LocalObjectStore(OsVfs(root))
    serve(partial(carry_out, store=store, submit=partial(scheduler.submit, MERGE_LANE)))


def _scheduler(config: MitoConfig) -> ThreadScheduler:
    processors = os.cpu_count() or 1
    threads = {CHANGE_LANE: CHANGES_MAX, FLUSH_LANE: 2, WRITE_LANE: min(processors, WRITERS_MAX), SCAN_LANE: processors}
    threads |= dict.fromkeys((COMPACT_LANE, ASKED_LANE), _compaction_threads(config))
    threads |= {MERGE_LANE: max(processors - 1, 1), ERASE_LANE: ERASERS_MAX}
    # What a hook does may take for ever: a store is closed all the same.
    return ThreadScheduler(dict.fromkeys(LANES, 1) | threads | {HOOK_LANE: HOOKS_MAX}, not_awaited=(HOOK_LANE,))


def _compaction_threads(config: MitoConfig) -> int:
    return config.compaction_threads or ceil((os.cpu_count() or 1) / COMPACTION_SHARE)


def _cache_bytes(config: MitoConfig) -> int | None:
    """Return how much may be cached, if the config or the machine tells."""
    if config.cache_size_bytes is not None:
        return config.cache_size_bytes
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Not every system tells.
        return None
    return memory // CACHE_SHARE


def _catalog_path(vfs: Vfs) -> str:
    # sqlite3 opens its own file: its durability is its own, and well tested. A root that is no path is in memory.
    return os.path.join(vfs.root, CATALOG_FILE) if os.path.isabs(vfs.root) else ":memory:"


def _check_catalog(vfs: Vfs, catalog: Catalog) -> None:
    """Refuse a catalog that was emptied or exchanged: it would show no tables, and give their ids away again."""
    if not os.path.isabs(vfs.root):
        return
    try:
        found = [parse_region_folder(name) for name in vfs.list(REGIONS_FOLDER)]
    except FileNotFoundError:
        return
    newest = max((region for region in found if region is not None), default=RegionId(0))
    known = catalog.last_table_id()
    if table_id_of(newest) > known:
        raise CorruptionError(
            f"the catalog has given out table ids up to {known}, but there are files of table {table_id_of(newest)}: "
            "it was lost or exchanged",
            path=CATALOG_FILE,
        )


def _refuse_foreign(vfs: Vfs) -> None:
    names = vfs.list("")
    # A name that starts like ours is a temporary file of a process that was killed while it made the store.
    foreign = [name for name in names if not name.startswith((*_OURS, "."))]
    if foreign and STORE_FILE not in names:
        shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        raise InvalidInputError(
            f"{vfs.root} is not a store and not empty (it holds {shown}); choose an empty or a new folder."
        )


def _make_store(store: ObjectStore, randomness: Randomness) -> str:
    try:
        return _store_id(store)
    except FileNotFoundError:
        store_id = randomness.hex128()
        store.put_if_absent(STORE_FILE, json.dumps({"format": STORE_FORMAT, "store_id": store_id}).encode() + b"\n")
        return store_id


def _store_id(store: ObjectStore) -> str:
    data = store.get(STORE_FILE)
    try:
        body = json.loads(data)
        number, store_id = body["format"], body["store_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours() from error
    if type(number) is int and number > STORE_FORMAT:
        raise ConfigError(f"the store has format {number}, this mitoframe knows {STORE_FORMAT}; update mitoframe.")
    if type(number) is not int or number < 1 or not isinstance(store_id, str) or not _STORE_ID.fullmatch(store_id):
        raise _not_ours()
    return store_id


def _not_ours() -> CorruptionError:
    return CorruptionError("this is not what mitoframe wrote", path=STORE_FILE)


def _tell_damage(damage: LogDamage | None) -> None:
    if damage is None:
        return
    said = f"{damage.path} at byte {damage.offset}: {damage.reason}; {damage.bytes_lost} bytes left out"
    if damage.torn:
        _log.warning("log ends in a write that a crash cut short %s", said)
    else:
        warnings.warn(f"the log is damaged: {said}", DamageWarning, stacklevel=5)
