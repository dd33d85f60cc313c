"""A frozen memtable becomes an SST, and several the edit that says so. No lock, no manifest: values in, values out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.edit import FileEdit
from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.storage.runs import sort_rows_of
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import MitoConfig
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.memtable import Memtable


def flush_memtable(
    metadata: RegionMetadata,
    memtable: Memtable,
    *,
    store: ObjectStore,
    file_id: FileId,
    config: MitoConfig,
    now_ms: int,
) -> FileMeta:
    """Write the rows of a frozen memtable, the newest of each key, delete markers included.

    Requires: the memtable is not empty.
    """
    file = write_sst(
        store,
        metadata,
        sort_rows_of(memtable.snapshot(memtable.stats.max_sequence)),
        file_id=file_id,
        level=LEVEL_FLUSHED,
        row_group_rows=config.row_group_rows,
        created_ms=now_ms,
    )
    reached("flush.sst_stored")
    return file


def flushed(memtables: Many[Memtable], files: Many[FileMeta], *, at_ms: int, reason: str) -> FileEdit:
    """Return the edit that lists the files and lets the log forget the rows.

    Requires: the memtables are given oldest first, and all older ones are flushed.
    """
    return FileEdit(
        added=tuple(files),
        flushed_entry_id=memtables[-1].last_entry_id,
        flushed_sequence=memtables[-1].stats.max_sequence,
        at_ms=at_ms,
        reason=reason,
    )
