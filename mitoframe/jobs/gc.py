"""Which stored files nobody needs any more, and their deletion.

A file goes when no version that lives in this process lists it, when no snapshot needs it, and when the manifest has
not listed it for ``grace_ms``, so that readers in other processes can finish. A file that no manifest ever listed is
what a crash left behind between storing an SST and committing it; it goes after the same grace, measured by the store's
own clock. A name that `paths` did not make is never touched.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import wait
from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.read.history import files_of_snapshots
from mitoframe.storage.paths import parse_sst_key, sst_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Sequence as Many
    from concurrent.futures import Future

    from mitoframe.model.edit import RegionState
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.ports import ObjectMeta, ObjectStore

FILES_PER_HELPER = 64
"""Of fewer nobody else deletes any."""
HELPERS_MAX = 8


def collectable(
    state: RegionState, stored: Iterable[ObjectMeta], pinned: frozenset[FileId], *, now_ms: int, grace_ms: int
) -> tuple[ObjectMeta, ...]:
    """Return the stored SSTs that may be deleted now. Pure."""
    removed_ms = {file.file_id: file.removed_ms for file in state.removed_files}
    needed = pinned | files_of_snapshots(state)
    chosen = []
    for item in stored:
        file_id = parse_sst_key(item.key)
        if file_id is None or file_id in needed or file_id in state.files:
            continue
        if now_ms - removed_ms.get(file_id, item.modified_ms) >= grace_ms:
            chosen.append(item)
    return tuple(chosen)


def delete_files(
    store: ObjectStore,
    region_id: RegionId,
    files: Many[ObjectMeta],
    *,
    submit: Callable[[Callable[[], None]], Future[None]] | None = None,
) -> tuple[FileId, ...]:
    """Delete stored SSTs and return their identifiers.

    ``submit`` runs a job elsewhere, for many files that are deleted side by side: a store keeps each caller waiting,
    and takes others meanwhile. It may as well never come to run it.
    """
    chosen = tuple(map(_file_id_of, files))
    waiting = deque(chosen)

    def delete() -> None:
        while (file_id := _next(waiting)) is not None:
            reached("gc.deleting")
            store.delete(sst_key(region_id, file_id))

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


def unpinned(files: Iterable[ObjectMeta], pinned: frozenset[FileId]) -> tuple[ObjectMeta, ...]:
    """Return the stored SSTs that nobody holds. Pure."""
    return tuple(item for item in files if parse_sst_key(item.key) not in pinned)


def expires(state: RegionState, *, now_ms: int, grace_ms: int) -> bool:
    """Tell whether some file was removed long enough ago, and is not kept for a snapshot. Pure."""
    old = [file.file_id for file in state.removed_files if now_ms - file.removed_ms >= grace_ms]
    return bool(old) and not files_of_snapshots(state).issuperset(old)
