"""Which stored files nobody needs any more, and their deletion.

A file that the newest version does not list stays as long as somebody needs it: a job that is writing it, a snapshot, a
version that lives in this process, a version that a reader in another process holds. When nobody does it stays for a
grace period: one since the manifest stopped listing it, for readers who cannot be heard and for taking changes back;
and one of its own for a file that no manifest lists or remembers, which is what a crash leaves between storing an SST
and committing it, by the time the store says it is of. A name that `paths` did not make is never touched.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.ids import FIRST_VERSION
from mitoframe.model.result import KeptFile
from mitoframe.read.history import files_of_snapshots
from mitoframe.storage.paths import parse_sst_key, sst_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Sequence as Many
    from concurrent.futures import Future

    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import RemovedFile
    from mitoframe.model.ids import FileId, ManifestVersion, RegionId
    from mitoframe.model.result import KeptWhy
    from mitoframe.ports import ObjectMeta, ObjectStore

FILES_PER_HELPER = 64
"""Of fewer nobody else deletes any."""
HELPERS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Grace:
    """How long files stay that nobody is known to need.

    Attributes:
        known_ms: since the manifest stopped listing them.
        unknown_ms: since they were stored, if no manifest lists or remembers them.

    """

    known_ms: int
    unknown_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who needs files that the newest version does not list.

    Attributes:
        jobs: files that are being written, or wait to be listed.
        scans: files of the versions that live in this process.
        oldest_read: the oldest version that another process reads; None if none does.

    """

    jobs: frozenset[FileId] = frozenset()
    scans: frozenset[FileId] = frozenset()
    oldest_read: ManifestVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The stored objects that the newest version does not list: which may go now, and why the others may not."""

    chosen: tuple[ObjectMeta, ...]
    kept: tuple[KeptFile, ...]


def survey(state: RegionState, stored: Iterable[ObjectMeta], holders: Holders, *, now_ms: int, grace: Grace) -> Survey:
    """Decide which stored SSTs may be deleted now. Pure."""
    removed = {file.file_id: file for file in state.removed_files}
    of_snapshots = files_of_snapshots(state)
    is_behind = is_read_behind(state, holders.oldest_read)

    def why_kept(item: ObjectMeta, file_id: FileId | None) -> KeptWhy | None:
        if file_id is None:
            return "name"
        if file_id in holders.jobs:
            return "job"
        if file_id in of_snapshots:
            return "snapshot"
        if file_id in holders.scans:
            return "scan"
        known = removed.get(file_id)
        if known is None:
            if is_behind:  # It may have been forgotten for want of a reader, just before one went back to it.
                return "reader"
            return "grace" if now_ms - item.modified_ms < grace.unknown_ms else None
        if _is_read(known, holders.oldest_read):
            return "reader"
        return "grace" if now_ms - known.removed_ms < grace.known_ms else None

    chosen, kept = [], []
    for item in stored:
        file_id = parse_sst_key(item.key)
        if file_id is not None and file_id in state.files:
            continue
        why = why_kept(item, file_id)
        if why is None:
            chosen.append(item)
        else:
            kept.append(KeptFile(name=item.key.rpartition("/")[2], size_bytes=item.size_bytes, why=why))
    return Survey(chosen=tuple(chosen), kept=tuple(kept))


def is_read_behind(state: RegionState, oldest_read: ManifestVersion | None) -> bool:
    """Tell whether another process reads an earlier version than the newest. Pure."""
    return oldest_read is not None and oldest_read < state.version


def kept_for_reader(state: RegionState, oldest_read: ManifestVersion) -> tuple[RemovedFile, ...]:
    """Return the removed files that stay as long as a process reads a version, and that no snapshot needs. Pure."""
    of_snapshots = files_of_snapshots(state)
    return tuple(
        file for file in state.removed_files if file.file_id not in of_snapshots and _is_read(file, oldest_read)
    )


def _is_read(file: RemovedFile, oldest_read: ManifestVersion | None) -> bool:
    """Tell whether a version that another process may read lists a file, or goes back to it."""
    if oldest_read is None:
        return False
    # An early mitoframe did not note in which version a file was removed; in the first one none can be.
    return file.removed_version > oldest_read or file.removed_version <= FIRST_VERSION


def delete_files(
    store: ObjectStore,
    region_id: RegionId,
    files: Many[ObjectMeta],
    *,
    submit: Callable[[Callable[[], None]], Future[None]] | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> tuple[FileId, ...]:
    """Delete stored SSTs and return their identifiers.

    ``submit`` runs a job elsewhere, for many files that are deleted side by side: a store keeps each caller waiting,
    and takes others meanwhile. It may as well never come to run it. ``told`` gets how many have been begun so far, from
    whoever deletes.
    """
    chosen = tuple(map(_file_id_of, files))
    waiting = deque(chosen)

    def delete() -> None:
        while (file_id := _next(waiting)) is not None:
            reached("gc.deleting")
            store.delete(sst_key(region_id, file_id))
            told(len(chosen) - len(waiting))

    helpers: list[Future[None]] = []
    try:
        if submit is not None:
            helpers += [submit(delete) for _ in range(min(len(files) // FILES_PER_HELPER, HELPERS_MAX))]
        delete()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
    return chosen


def _file_id_of(item: ObjectMeta) -> FileId:
    file_id = parse_sst_key(item.key)
    assert file_id is not None, "only names that paths made are ever collected"
    return file_id


def _next(waiting: deque[FileId]) -> FileId | None:
    try:
        return waiting.popleft()
    except IndexError:  # Asking first would leave room for another thread to take the last one.
        return None


def forgettable(state: RegionState, chosen: Iterable[ObjectMeta], stored: Iterable[ObjectMeta]) -> tuple[FileId, ...]:
    """Return the removed files that the manifest need not remember: to be deleted now, or gone already. Pure.

    Those that a snapshot needs are remembered also if they are gone: whoever reads it is to be told.
    """
    staying = {parse_sst_key(item.key) for item in stored} - {parse_sst_key(item.key) for item in chosen}
    staying |= files_of_snapshots(state)
    return tuple(file.file_id for file in state.removed_files if file.file_id not in staying)


def expires(state: RegionState, *, now_ms: int, grace_ms: int) -> bool:
    """Tell whether some file was removed long enough ago, and is not kept for a snapshot. Pure."""
    old = [file.file_id for file in state.removed_files if now_ms - file.removed_ms >= grace_ms]
    return bool(old) and not files_of_snapshots(state).issuperset(old)
