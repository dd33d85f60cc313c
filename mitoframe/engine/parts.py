"""What an engine is made of, handed to those who do its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitoframe.model.options import MitoConfig
    from mitoframe.ports import Clock, Compactor, ObjectStore, Pins, Randomness, Scheduler
    from mitoframe.region.hooks import Hooks
    from mitoframe.region.recovery import Watch
    from mitoframe.storage.index_reader import IndexReader
    from mitoframe.storage.sst_reader import SstReader
    from mitoframe.storage.wal import Wal

COMMIT_LANE = "commit"
CHANGE_LANE = "change"
FLUSH_LANE = "flush"
WRITE_LANE = "write"
COMPACT_LANE = "compact"
ASKED_LANE = "asked"
MERGE_LANE = "merge"
INDEX_LANE = "index"
SCAN_LANE = "scan"
TIDY_LANE = "tidy"
PURGE_LANE = "purge"
ERASE_LANE = "erase"
HOOK_LANE = "hook"
LANES = (
    COMMIT_LANE,
    CHANGE_LANE,
    FLUSH_LANE,
    WRITE_LANE,
    COMPACT_LANE,
    ASKED_LANE,
    MERGE_LANE,
    INDEX_LANE,
    SCAN_LANE,
    TIDY_LANE,
    PURGE_LANE,
    ERASE_LANE,
    HOOK_LANE,
)
"""Kinds of work, each with threads of its own, so that none waits for another kind.

commit    the log and the memtables: every acknowledged row goes through here
change    alter, truncate, replace, undo, drop: they wait for writes, and writes for them
flush     frozen memtables, one region after the other, in the order they were frozen
write     the SSTs of flushes and backfills, side by side
compact   merging SSTs that are due, as many regions at a time as there are threads
asked     merging SSTs that somebody asked for: it waits for nothing that is merged unasked
merge     helping with a merge that somebody asked for
index     building indexes
scan      reading and merging what scans ask for
tidy      sorting and merging inside memtables
purge     deleting files
erase     helping where many are deleted, because a store takes its time for each
hook      other people's code that is told what happened
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    store: ObjectStore
    reader: SstReader
    indexes: IndexReader
    wal: Wal
    scheduler: Scheduler
    clock: Clock
    randomness: Randomness
    config: MitoConfig
    hooks: Hooks
    pins: Pins
    watch_recovery: Watch
    compactor: Compactor | None = None
