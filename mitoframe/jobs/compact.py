"""A compaction task becomes one SST, and the edit that exchanges the inputs for it. Sequences are kept as they are.

Inputs of any number and size are merged in the same memory; the output is held in memory until it is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.edit import FileEdit
from mitoframe.model.file import LEVEL_COMPACTED
from mitoframe.model.memory import release
from mitoframe.read.merging import MergedFiles
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitoframe.jobs.twcs import CompactionTask
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.sst_reader import SstReader


def compact_files(
    metadata: RegionMetadata,
    task: CompactionTask,
    *,
    dedup: Dedup,
    store: ObjectStore,
    reader: SstReader,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
    window_ms: int,
    reason: str,
) -> FileEdit:
    """Merge a task's inputs and store the result. The inputs stay as they are until the edit is committed.

    Raises:
        CorruptionError: an input cannot be read; nothing was stored.

    """
    rows = MergedFiles(metadata, task.inputs, reader, dedup, drop_deletes=task.drop_deletes)
    added: tuple[FileMeta, ...] = ()
    if not rows.is_empty():
        added = (
            write_sst(
                store,
                metadata,
                rows,
                file_id=new_file_id(),
                level=LEVEL_COMPACTED,
                row_group_rows=row_group_rows,
                created_ms=now_ms,
            ),
        )
    release()
    reached("compact.sst_stored")
    return FileEdit(
        added=added,
        removed=tuple(file.file_id for file in task.inputs),
        compaction_window_ms=window_ms,
        at_ms=now_ms,
        reason=reason,
    )
