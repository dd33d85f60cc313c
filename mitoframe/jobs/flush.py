"""Frozen memtables become one SST, and the edit that says so. No lock, no manifest: a value in, a value out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.edit import FileEdit
from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.model.ids import FileId
from mitoframe.storage.runs import merge_batches
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from mitoframe.model.options import MitoConfig
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import Clock, ObjectStore, Randomness
    from mitoframe.storage.memtable import Memtable


def flush_memtables(
    metadata: RegionMetadata,
    memtables: Many[Memtable],
    *,
    store: ObjectStore,
    clock: Clock,
    randomness: Randomness,
    config: MitoConfig,
    reason: str,
) -> FileEdit:
    """Write the rows of frozen memtables, the newest of each key, delete markers included.

    Requires: the memtables are frozen, not empty and given oldest first, and all older ones are flushed.
    """
    runs = [memtable.sorted(memtable.stats.max_sequence) for memtable in memtables]
    rows = merge_batches([run for run in runs if run is not None], drop_deletes=False)
    now_ms = clock.now_ms()
    file = write_sst(
        store,
        metadata,
        rows,
        file_id=FileId(randomness.hex128()),
        level=LEVEL_FLUSHED,
        row_group_rows=config.row_group_rows,
        created_ms=now_ms,
    )
    reached("flush.sst_stored")
    return FileEdit(
        added=(file,),
        flushed_entry_id=memtables[-1].last_entry_id,
        flushed_sequence=memtables[-1].stats.max_sequence,
        at_ms=now_ms,
        reason=reason,
    )
