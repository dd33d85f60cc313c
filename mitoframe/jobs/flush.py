"""A frozen memtable becomes SSTs, and several the edit that says so. No lock, no manifest: values in, values out.

Each partition of the memtable becomes one SST, so that a file covers a window of time; neighbours that hold few rows
share one, so that sparse data over years does not become hundreds of tiny files. The versions that newer rows of the
same memtable supersede may go to one further SST, the *history*, which no scan reads and which undo and time travel do.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.edit import FileEdit
from mitoframe.model.file import LEVEL_FLUSHED, LEVEL_HISTORY
from mitoframe.storage.paths import sst_key
from mitoframe.storage.runs import merge_rows_of, sort_rows_of, sort_versions_of
from mitoframe.storage.sst_writer import encode_sst, store_sst

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from mitoframe.model.batch import Batch, Rows
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.memtable import Memtable, MemtableRange
    from mitoframe.storage.sst_writer import EncodedSst

SST_ROWS_MIN = 20_000
"""Neighbouring partitions with fewer rows than this together share an SST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushedMemtable:
    """The SSTs of one memtable. ``files`` are in the order of time and have none in common."""

    files: tuple[FileMeta, ...]
    history: tuple[FileMeta, ...] = ()


def flush_memtable(
    metadata: RegionMetadata,
    memtable: Memtable,
    *,
    store: ObjectStore,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
    keep_history: bool,
) -> FlushedMemtable:
    """Write the rows of a frozen memtable, deduplicated as its table asks for, delete markers included.

    With ``keep_history`` the versions of keys that an earlier moment would need are written too. After an error nothing
    that this call stored is left.

    Requires: the memtable is not empty.
    """
    assert not memtable.is_empty()
    superseded: list[Batch] = []
    with ExitStack() as undo:

        def put(sst: EncodedSst, level: int = LEVEL_FLUSHED) -> FileMeta:
            file_id = new_file_id()
            file = store_sst(store, metadata, sst, file_id=file_id, level=level, created_ms=now_ms)
            undo.callback(_delete, store, sst_key(metadata.region_id, file_id))
            reached("flush.sst_stored")
            return file

        files = []
        for group in joined(memtable.ranges()):
            sst, rest = _encoded(metadata, group, memtable.dedup, row_group_rows, keep_history=keep_history)
            files.append(put(sst))
            superseded += rest
        history: tuple[FileMeta, ...] = ()
        if superseded:
            history = (put(encode_sst(metadata, _merged(superseded), row_group_rows), LEVEL_HISTORY),)
        undo.pop_all()
    return FlushedMemtable(files=tuple(files), history=history)


def joined(ranges: Many[MemtableRange]) -> list[list[MemtableRange]]:
    """Return which partitions share an SST. They are given and returned in the order of time."""
    groups: list[list[MemtableRange]] = []
    row_count = SST_ROWS_MIN
    for each in ranges:
        row_count += each.stats.row_count
        if row_count < SST_ROWS_MIN:
            groups[-1].append(each)
        else:
            groups.append([each])
            row_count = each.stats.row_count
    return groups


def _encoded(
    metadata: RegionMetadata, group: Many[MemtableRange], dedup: Dedup, row_group_rows: int, *, keep_history: bool
) -> tuple[EncodedSst, list[Batch]]:
    """Return the SST of some partitions, and the rows that it supersedes if they are wanted."""
    ready = group[0].encoded() if len(group) == 1 else None
    if ready is not None and (ready.metadata, ready.row_group_rows) == (metadata, row_group_rows):
        return ready.sst, _one_or_none(ready.superseded if keep_history else None)
    batches = [batch for each in group for batch in each.batches()]
    if not keep_history:
        return encode_sst(metadata, sort_rows_of(batches, dedup), row_group_rows), []
    rows, superseded = sort_versions_of(batches, dedup)
    rest = superseded.gather() if superseded is not None else None
    return encode_sst(metadata, rows, row_group_rows), _one_or_none(rest)


def _one_or_none(batch: Batch | None) -> list[Batch]:
    return [] if batch is None else [batch]


def _merged(runs: Many[Batch]) -> Rows:
    return runs[0] if len(runs) == 1 else merge_rows_of(runs, "none", drop_deletes=False)


def _delete(store: ObjectStore, key: str) -> None:
    with suppress(OSError):  # Nobody lists the file: what cannot be deleted now is collected later.
        store.delete(key)


def flushed(outputs: Many[FlushedMemtable], memtables: Many[Memtable], *, at_ms: int, reason: str) -> FileEdit:
    """Return the edit that lists the files and lets the log forget the rows.

    Requires: outputs and memtables belong together and are given oldest first, and all older ones are flushed.
    """
    assert len(outputs) == len(memtables)
    return FileEdit(
        added=tuple(file for output in outputs for file in output.files),
        history=tuple(file for output in outputs for file in output.history),
        flushed_entry_id=memtables[-1].last_entry_id,
        flushed_sequence=memtables[-1].stats.max_sequence,
        write_keys=tuple(key for memtable in memtables for key in memtable.write_keys),
        at_ms=at_ms,
        reason=reason,
    )
