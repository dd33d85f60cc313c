"""Whether what a region has stored is what was written: every checksum and every invariant, and nothing is changed.

Each function looks at one kind of thing and says what is wrong with it; `engine/verifying.py` says in which order. What
was read, compared or kept before does not count: all of it is read again from the store.
"""

from __future__ import annotations

from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any

import google_crc32c
import pyarrow as pa

from mitoframe.model.errors import CorruptionError
from mitoframe.model.flaw import Checked, Flaw, flaw_of
from mitoframe.model.ids import Sequence
from mitoframe.model.index import FULLTEXT
from mitoframe.model.predicate import Compare, IsNull
from mitoframe.storage.cache import Cache
from mitoframe.storage.index_reader import IndexReader
from mitoframe.storage.journal import read_history
from mitoframe.storage.manifest import find_damage
from mitoframe.storage.paths import index_key, manifest_folder, parse_index_key, parse_sst_key, sst_key
from mitoframe.storage.sst_check import check_sst
from mitoframe.storage.sst_reader import SstReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.schema import Column, RegionMetadata
    from mitoframe.ports import ObjectMeta, ObjectStore
    from mitoframe.storage.wal import Wal

SAMPLE_ROWS = 16
"""Of so many rows of each row group an index is asked whether it would find them."""
_CACHE_BYTES = 64 * 1024 * 1024
_READ_BYTES = 8 * 1024 * 1024


# --- manifest and state -----------------------------------------------------------------------------------


def check_manifest(store: ObjectStore, region_id: RegionId) -> Checked:
    """Say what is wrong with the parts of a manifest."""
    return Checked(flaws=tuple(flaw_of(error, "manifest") for error in find_damage(store, region_id)))


def check_state(state: RegionState) -> Checked:
    """Say what in a region's state cannot be, whatever its files hold. Pure."""
    path = manifest_folder(state.metadata.region_id)
    flaws = [
        Flaw(kind="manifest", grade="damage", path=path, what=what, file_id=file_id)
        for file_id, file in state.files.items()
        for what in _of_listed(state, file_id, file)
    ]
    return Checked(flaws=tuple(flaws))


def _of_listed(state: RegionState, file_id: FileId, file: FileMeta) -> Iterator[str]:
    for is_wrong, what in (
        (file.file_id != file_id, "has another identifier"),
        (file.row_count < 1 or not 0 <= file.delete_count <= file.row_count, "has an impossible number of rows"),
        (file.min_time > file.max_time, "ends before it begins"),
        (file.min_sequence > file.max_sequence, "has its newest row before its oldest"),
        (file.max_sequence > state.committed_sequence, "has rows that are newer than any that were committed"),
        (file.schema_version > state.metadata.schema_version, "has a schema that the table never had"),
    ):
        if is_wrong:
            yield f"file {file_id} as it is listed {what}"


# --- files ------------------------------------------------------------------------------------------------


def check_file(store: ObjectStore, state: RegionState, file: FileMeta) -> Checked:
    """Read a file and its indexes anew, and say what is wrong with them."""
    found = check_sst(store, state.metadata, file, state.options.dedup)
    if file.index is None or not file.index.size_bytes:
        return found
    flaws = _of_index(store, state.metadata, file, reads_rows=not found.flaws)
    return found + Checked(flaws=flaws, size_bytes=file.index.size_bytes)


def _of_index(store: ObjectStore, metadata: RegionMetadata, file: FileMeta, *, reads_rows: bool) -> tuple[Flaw, ...]:
    assert file.index is not None
    key = index_key(metadata.region_id, file.file_id, file.index.version)
    indexes = IndexReader(store, Cache(_CACHE_BYTES))
    what = _of_sidecar(store, key, file) or indexes.damage(metadata, file)
    if what is None and reads_rows:
        what = _of_answers(SstReader(store, Cache(_CACHE_BYTES)), indexes, metadata, file)
    return (Flaw(kind="index", grade="hint", path=key, what=what, file_id=file.file_id),) if what else ()


def _of_sidecar(store: ObjectStore, key: str, file: FileMeta) -> str | None:
    assert file.index is not None
    checksum, size_bytes = 0, file.index.size_bytes
    try:
        found_bytes = store.head(key).size_bytes
        if found_bytes != size_bytes:
            return f"it has {found_bytes:,} bytes where {size_bytes:,} were written"
        for start in range(0, size_bytes, _READ_BYTES):
            part = store.get_range(key, start, min(_READ_BYTES, size_bytes - start))
            checksum = google_crc32c.extend(checksum, part)
    except FileNotFoundError:
        return "it is missing"
    return None if checksum == file.index.checksum else "its bytes are not those that were written"


def _of_answers(reader: SstReader, indexes: IndexReader, metadata: RegionMetadata, file: FileMeta) -> str | None:
    """Ask the indexes for the values of some rows, and say if one would not be found."""
    assert file.index is not None
    asked = {entry.column_id for entry in file.index.entries if entry.kind != FULLTEXT}
    columns = [column for column in metadata.fields if column.column_id in asked]
    first_row = 0
    for number in range(file.row_group_count if columns else 0):
        rows = reader.read(metadata, file, [number], [column.name for column in columns])
        step = max(len(rows) // SAMPLE_ROWS, 1)
        for place in islice(range(0, len(rows), step), SAMPLE_ROWS):
            for column, values in zip(columns, rows.fields.columns, strict=True):
                question = _question(column, values[place])
                found = None if question is None else indexes.select(metadata, file, question)
                if found is not None and not len(found.clip(first_row + place, first_row + place + 1)):
                    return f"its index of column {column.name!r} hides row {first_row + place}"
        first_row += len(rows)
    return None


def _question(column: Column, value: pa.Scalar) -> Predicate | None:
    """Return a condition that a value fulfils, None for types that are not asked for so simply."""
    if not value.is_valid:
        return IsNull(column.name)
    plain: Any = value.as_py() if _is_plain(column.type) else None
    is_asked_for = plain is not None and not (isinstance(plain, float) and isnan(plain))
    return Compare(column.name, "==", plain) if is_asked_for else None


def _is_plain(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(data_type) or pa.types.is_float64(data_type) or pa.types.is_string(data_type))


# --- the log ----------------------------------------------------------------------------------------------


def check_log(wal: Wal, state: RegionState) -> Checked:
    """Read the entries of a region that are in no file yet, and say what is wrong with them."""
    wal.refresh()  # A writer in another process is further on than when this one last looked.
    if wal.last_id() < state.flushed_entry_id:
        what = f"the log ends with entry {wal.last_id()}, and entries up to {state.flushed_entry_id} are in files"
        return Checked(flaws=(Flaw(kind="log", grade="damage", path="wal", what=what),))
    entries = rows = 0
    newest = state.flushed_sequence
    try:
        for write in wal.replay(state.metadata, state.flushed_entry_id):
            first, last = int(write.batch.sequences[0]), int(write.batch.sequences[-1])
            if first <= newest:
                raise CorruptionError(f"entry {write.entry_id} has sequences that are older than others", path="wal")
            newest = Sequence(last)
            entries, rows = entries + 1, rows + len(write.batch)
    except CorruptionError as error:
        return Checked(flaws=(flaw_of(error, "log"),), log_entries=entries, rows=rows)
    return Checked(log_entries=entries, rows=rows)


def check_log_as_opened(wal: Wal) -> Checked:
    """Say what was found broken when the log was opened, unless it is what a crash leaves behind."""
    damage = wal.damage
    if damage is None or damage.torn:
        return Checked()
    what = f"{damage.reason} at byte {damage.offset}; {damage.bytes_lost:,} bytes cannot be read"
    return Checked(flaws=(Flaw(kind="log", grade="damage", path=damage.path, what=what),))


# --- what is beside ---------------------------------------------------------------------------------------


def check_journal(store: ObjectStore, region_id: RegionId) -> Checked:
    """Say what of the journal cannot be read. Requires: the manifest can."""
    damage = read_history(store, region_id).damage
    return Checked(flaws=tuple(Flaw(kind="journal", grade="hint", path=_first(said), what=said) for said in damage))


def _first(said: str) -> str:
    return said.partition(" ")[0]


def check_listing(
    state: RegionState,
    ssts: Iterable[ObjectMeta],
    sidecars: Iterable[ObjectMeta],
    needed: frozenset[FileId],
    *,
    now_ms: int,
    grace_ms: int,
) -> Checked:
    """Say which stored objects no manifest ever listed, as far as it remembers. Pure.

    What was listed once and waits for its deletion is none of them. ``needed`` are files that somebody reads or is
    about to list. Requires: the objects were listed before ``state`` was current.
    """
    known = needed | state.files.keys() | {file.file_id for file in state.removed_files}
    orphans = [item for item in ssts if (file_id := parse_sst_key(item.key)) is not None and file_id not in known]
    for item in sidecars:
        parsed = parse_index_key(item.key)
        if parsed is not None and not _is_listed_index(state, known, *parsed):
            orphans.append(item)
    return Checked(flaws=tuple(_orphan(item) for item in orphans if now_ms - item.modified_ms >= grace_ms))


def _is_listed_index(state: RegionState, known: frozenset[FileId], file_id: FileId, version: int) -> bool:
    """Tell whether a sidecar is listed, or was: versions of a file's sidecars rise."""
    file = state.files.get(file_id)
    if file is None:
        return file_id in known
    return file.index is not None and version <= file.index.version


def _orphan(item: ObjectMeta) -> Flaw:
    what = f"no manifest lists this object of {item.size_bytes:,} bytes"
    return Flaw(kind="orphan", grade="waste", path=item.key, what=what, size_bytes=item.size_bytes)


def check_sizes(state: RegionState, stored: Iterable[ObjectMeta]) -> Checked:
    """Say which listed files are missing or have another size, from a listing alone. Pure.

    Requires: they were listed after ``state`` was current, and its files are not deleted meanwhile.
    """
    there: Mapping[FileId | None, int] = {parse_sst_key(item.key): item.size_bytes for item in stored}
    flaws = []
    for file in state.files.values():
        found = there.get(file.file_id)
        if found == file.size_bytes:
            continue
        what = "it is missing" if found is None else f"it has {found:,} bytes where {file.size_bytes:,} were written"
        key = sst_key(state.metadata.region_id, file.file_id)
        flaws.append(Flaw(kind="file", grade="damage", path=key, what=what, file_id=file.file_id))
    return Checked(flaws=tuple(flaws))
