"""`Journal`: the hook that every writing engine has, and that writes down what happened to each region.

What it is told stays in memory until it is worth a part in the store (`storage/journal.py`), about once for every
checkpoint of the manifest, or until the region is closed. Whatever dies before that is told by the manifest when the
journal is next read or written. A journal that cannot be stored keeps nobody from anything: it is told like any other
hook that fails, and tried again with the next thing that happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from mitoframe.ports import RegionHook
from mitoframe.storage.journal import (
    BEFORE_ALL,
    History,
    JournalEntry,
    Parts,
    append_part,
    completed,
    entry_of_actions,
    entry_of_gc,
    list_parts,
    read_history,
)

if TYPE_CHECKING:
    from mitoframe.model.edit import Edit, RegionState
    from mitoframe.model.ids import ManifestVersion, RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import Clock, ObjectStore, RegionGcInfo

UNSTORED_MAX = 1_000
"""How many entries are kept in memory while they cannot be stored; the manifest has the newest anyway."""


@dataclass(slots=True, eq=False)
class _Book:
    """What is in memory of a region's journal. ``parts`` is None until it is known which there are."""

    lock: Lock = field(default_factory=Lock)
    unstored: list[JournalEntry] = field(default_factory=list)
    parts: Parts | None = None
    storing: Lock = field(default_factory=Lock)


class Journal(RegionHook):
    """The journals of an engine's regions.

    Args:
        store: where they are kept.
        clock: what time it is when something has happened.
        state_of: returns the state of a region, None if it is not open.
        distance: how many manifest deltas there are between two checkpoints.
        entries_max: how many entries of a region are kept.

    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        state_of: Callable[[RegionId], RegionState | None],
        *,
        distance: int,
        entries_max: int,
    ) -> None:
        self._store, self._clock, self._state_of = store, clock, state_of
        # The manifest has the edits of the last two distances at most: a part comes before one of them is over.
        self._due = distance - distance // 4
        self._entries_max = entries_max
        self._books: dict[RegionId, _Book] = {}
        self._lock = Lock()

    def history(self, region_id: RegionId) -> History:
        """Return all that happened to a region, as far as it is known."""
        with self._lock:
            book = self._books.get(region_id)
        return read_history(self._store, region_id, () if book is None else tuple(book.unstored))

    # --- what happens -----------------------------------------------------------------------------------

    def on_manifest_updated(self, region_id: RegionId, actions: Sequence[Edit], version: ManifestVersion) -> None:
        state = self._state_of(region_id)
        if state is None:
            return  # It was let go meanwhile: the manifest tells of it.
        entry = entry_of_actions(version, actions, state, self._clock.now_ms())
        self._note(region_id, self._book(region_id), entry)

    def on_region_gc(
        self,
        region_id: RegionId,
        metadata: RegionMetadata | None,
        store: ObjectStore,  # noqa: ARG002 - it is the one it has
        info: RegionGcInfo,
    ) -> None:
        state = self._state_of(region_id)
        if metadata is None or state is None or (not info.removed_files and info.version is None):
            return
        self._note(region_id, self._book(region_id), entry_of_gc(info, state.version, self._clock.now_ms()))

    def on_region_closed(self, region_id: RegionId) -> None:
        with self._lock:
            book = self._books.pop(region_id, None)
        if book is not None and book.unstored:
            self._store_part(region_id, book)

    def on_region_dropped(self, region_id: RegionId) -> None:
        with self._lock:
            self._books.pop(region_id, None)

    # --- keeping it -------------------------------------------------------------------------------------

    def _book(self, region_id: RegionId) -> _Book:
        with self._lock:
            return self._books.setdefault(region_id, _Book())

    def _note(self, region_id: RegionId, book: _Book, entry: JournalEntry) -> None:
        with book.lock:  # First of all: what a gc did is told by nothing else.
            book.unstored.append(entry)
            del book.unstored[:-UNSTORED_MAX]
        if book.parts is None:
            listed = list_parts(self._store, region_id)
            with book.lock:
                book.parts = book.parts or listed
        with book.lock:
            through = book.parts.through if book.parts is not None else BEFORE_ALL
            newest = max((known.version for known in book.unstored if not known.is_aside), default=through)
        if newest - through >= self._due:
            self._store_part(region_id, book)

    def _store_part(self, region_id: RegionId, book: _Book) -> None:
        """Bring what is in memory to the store, unless somebody is about it."""
        if not book.storing.acquire(blocking=False):
            return
        try:
            told = tuple(book.unstored)
            parts = book.parts or list_parts(self._store, region_id)
            entries = completed(self._store, region_id, parts.through, told)
            if entries:
                parts = append_part(self._store, region_id, parts, entries, self._entries_max)
            stored = {id(entry) for entry in told}
            with book.lock:
                book.parts = parts
                book.unstored = [entry for entry in book.unstored if id(entry) not in stored]
        except BaseException:
            book.parts = None  # Nobody knows which there are.
            raise
        finally:
            book.storing.release()
