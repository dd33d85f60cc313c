"""The indexes of one SST are built and stored, and those that nobody needs any more found and deleted.

The rows are read in order, a batch at a time; what is held in memory are the indexes. A sidecar is stored under the
next free version before any manifest knows it. What a crash leaves behind then, and what a newer version superseded,
goes after the grace period, so that readers in other processes can finish. A name that `paths` did not make is never
touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import google_crc32c

from mitoframe.failpoints import reached
from mitoframe.model.index import FULLTEXT, INVERTED, SKIPPING, IndexMeta
from mitoframe.storage.index_bloom import SkippingCollector
from mitoframe.storage.index_file import encode_index
from mitoframe.storage.index_fulltext import FulltextCollector
from mitoframe.storage.index_inverted import InvertedCollector
from mitoframe.storage.paths import index_key, parse_index_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pyarrow as pa

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.model.index import IndexEntry
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectMeta, ObjectStore
    from mitoframe.storage.sst_reader import SstReader

ROWS_PER_BATCH = 102_400


class Collector(Protocol):
    """Builds one index of one column."""

    def add(self, values: pa.Array) -> None:
        """Take the values of the next rows, at least one."""

    def finish(self) -> dict[str, pa.RecordBatch]:
        """Return the index in the forms it has."""


COLLECTORS: Mapping[str, Callable[[], Collector]] = {
    INVERTED: InvertedCollector,
    SKIPPING: SkippingCollector,
    FULLTEXT: FulltextCollector,
}


def build_index(
    metadata: RegionMetadata,
    file: FileMeta,
    entries: tuple[IndexEntry, ...],
    *,
    store: ObjectStore,
    reader: SstReader,
    now_ms: Callable[[], int],
    go_on: Callable[[], None] = lambda: None,
) -> IndexMeta:
    """Build indexes of a file and store them. Whoever calls lets the manifest know.

    Args:
        metadata: the schema whose columns ``entries`` are of.
        file: an SST.
        entries: what to build; nothing at all is stored for none, but listed as a version.
        store: where to.
        reader: reads the rows.
        now_ms: what time it is.
        go_on: called now and then; raises if there is no more need.

    Raises:
        CorruptionError: the file cannot be read; nothing was stored.

    """
    version = 1 if file.index is None else file.index.version + 1
    if not entries:
        return IndexMeta(version=version, size_bytes=0, checksum=0, created_ms=now_ms())
    indexes = _collected(metadata, file, entries, reader, go_on)
    while True:
        data = encode_index(file.file_id, version, file.row_count, indexes)
        try:
            store.put_if_absent(index_key(metadata.region_id, file.file_id, version), data)
            break
        except FileExistsError:
            version += 1  # A crash left that one, and nobody lists it.
    reached("index.stored")
    return IndexMeta(
        version=version,
        size_bytes=data.size,
        checksum=google_crc32c.value(data),
        created_ms=now_ms(),
        entries=entries,
    )


def _collected(
    metadata: RegionMetadata,
    file: FileMeta,
    entries: Iterable[IndexEntry],
    reader: SstReader,
    go_on: Callable[[], None],
) -> dict[IndexEntry, dict[str, pa.RecordBatch]]:
    names = {field.column_id: field.name for field in metadata.fields}
    collectors = {entry: COLLECTORS[entry.kind]() for entry in entries}
    wanted = list(dict.fromkeys(names[entry.column_id] for entry in collectors))
    for batch in reader.stream(metadata, file, wanted, ROWS_PER_BATCH):
        go_on()
        for entry, collector in collectors.items():
            collector.add(batch.fields.column(names[entry.column_id]))
    return {entry: collector.finish() for entry, collector in collectors.items()}


# --- deletion --------------------------------------------------------------------------------------------


def collectable_indexes(
    state: RegionState,
    stored: Iterable[ObjectMeta],
    pinned: frozenset[tuple[FileId, int]],
    being_built: frozenset[FileId],
    *,
    is_behind: bool,
    now_ms: int,
    grace_ms: int,
) -> tuple[ObjectMeta, ...]:
    """Return the stored sidecars that may be deleted now. Pure.

    Args:
        state: what the manifest says.
        stored: the objects there are.
        pinned: files and index versions that somebody may look at.
        being_built: files whose index is being built: it may be stored, and listed in a moment.
        is_behind: another process reads an earlier version, which may list any sidecar of a file that is remembered.
        now_ms: the time.
        grace_ms: how long those stay that are not needed.

    """
    former = [removed.file for removed in state.removed_files if removed.file is not None]
    newest = {file.file_id: file.index for file in (*former, *state.files.values())}
    chosen = []
    for item in stored:
        parsed = parse_index_key(item.key)
        if parsed is None or parsed in pinned or parsed[0] in being_built:
            continue
        listed = newest.get(parsed[0])
        if listed is not None and listed.version == parsed[1]:
            continue
        if is_behind and parsed[0] in newest:
            continue
        is_superseded = listed is not None and listed.version > parsed[1]
        since_ms = listed.created_ms if listed is not None and is_superseded else item.modified_ms
        if now_ms - since_ms >= grace_ms:
            chosen.append(item)
    return tuple(chosen)


def delete_indexes(store: ObjectStore, region_id: RegionId, objects: Iterable[ObjectMeta]) -> tuple[FileId, ...]:
    """Delete stored sidecars, names that are not of one left alone; return whose they were."""
    deleted = []
    for item in objects:
        parsed = parse_index_key(item.key)
        if parsed is None:
            continue
        reached("gc.deleting")
        store.delete(index_key(region_id, *parsed))
        deleted.append(parsed[0])
    return tuple(deleted)
