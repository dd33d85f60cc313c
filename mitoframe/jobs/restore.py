"""A table as it was at an earlier moment, made of files that are still there: an exchange. No lock, no manifest.

A file of then that holds nothing newer is listed again as it is: nothing is read and nothing is written. What was in
memory then has been flushed since, together with newer rows or beside what superseded it; of those files a copy is
written without the newer rows. So a restore costs what came after the last flush before the moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mitoframe.model.file import LEVEL_FLUSHED, LEVEL_HISTORY
from mitoframe.read.history import files_at
from mitoframe.storage.runs import merge_rows_of
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.past import Moment
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.sst_reader import SstReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What to exchange. ``added`` are files that were there before, and ``written`` are new."""

    removed: tuple[FileId, ...]
    added: tuple[FileMeta, ...]
    written: tuple[FileMeta, ...]


def restore_files(
    state: RegionState,
    moment: Moment,
    *,
    store: ObjectStore,
    reader: SstReader,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
) -> Restored:
    """Store what cannot be listed as it is, and return the exchange.

    Requires: the moment is kept, every row is in a file, and the table deduplicates as it did then.
    """
    wanted = files_at(state, moment)
    whole = {file.file_id: file for file in wanted if _is_whole(file, moment)}
    written = [
        _cut(state, file, moment, store, reader, new_file_id, row_group_rows, now_ms)
        for file in wanted
        if file.file_id not in whole
    ]
    return Restored(
        removed=tuple(file_id for file_id in state.files if file_id not in whole),
        added=tuple(file for file_id, file in whole.items() if file_id not in state.files),
        written=tuple(file for file in written if file is not None),
    )


def _is_whole(file: FileMeta, moment: Moment) -> bool:
    return file.level != LEVEL_HISTORY and file.max_sequence <= moment.sequence


def _cut(
    state: RegionState,
    file: FileMeta,
    moment: Moment,
    store: ObjectStore,
    reader: SstReader,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
) -> FileMeta | None:
    """Store the rows of a file up to a moment, one per key; None if there are none."""
    metadata = state.metadata
    rows = reader.read(metadata, file, range(file.row_group_count), [field.name for field in metadata.fields])
    older = rows.take(np.flatnonzero(rows.sequences <= np.uint64(moment.sequence)))
    if not len(older):
        return None
    return write_sst(
        store,
        metadata,
        merge_rows_of([older], state.options.dedup, drop_deletes=False),
        file_id=new_file_id(),
        level=LEVEL_FLUSHED,
        row_group_rows=row_group_rows,
        created_ms=now_ms,
    )
