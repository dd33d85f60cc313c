"""`VersionControl`: the one place where a region's current version is exchanged.

Two locks, always taken in this order: ``edit_lock`` for as long as a manifest edit takes (I/O included; edits follow
one another), and a private one for the exchange of a pointer. Readers take none: they read one reference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, RLock

from mitoframe.model.ids import NO_SEQUENCE, EntryId, FileId, Sequence
from mitoframe.region.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A version and what is visible of its memtables, taken together."""

    version: Version
    visible: Sequence
    last_entry_id: EntryId


class VersionControl:
    """``living`` are the versions that somebody holds, the current one included."""

    def __init__(self, version: Version, visible: Sequence, last_entry_id: EntryId) -> None:
        self.edit_lock = RLock()
        self._lock = Lock()
        self._current = Snapshot(version=version, visible=visible, last_entry_id=last_entry_id)
        self.living: weakref.WeakSet[Version] = weakref.WeakSet((version,))

    def current(self) -> Snapshot:
        """Return what a reader may see now."""
        return self._current  # One reference, exchanged whole: reading it needs no lock.

    def publish(self, visible: Sequence, last_entry_id: EntryId) -> None:
        """Make rows up to ``visible`` seen. Requires: all of them are in the memtable."""
        with self._lock:
            version = self._current.version
            self._current = Snapshot(version=version, visible=visible, last_entry_id=last_entry_id)

    def switch(self, change: Callable[[Version], Version], visible: Sequence = NO_SEQUENCE) -> Snapshot:
        """Exchange the version for ``change`` of it, and in the same step make rows up to ``visible`` seen.

        ``change`` must be pure and quick.
        """
        with self._lock:
            before = self._current
            version = change(before.version)
            self.living.add(version)
            self._current = Snapshot(
                version=version, visible=max(before.visible, visible), last_entry_id=before.last_entry_id
            )
            return self._current

    def pinned_files(self) -> frozenset[FileId]:
        """Return the files that some living version lists, the current one included."""
        with self._lock:
            return frozenset(file_id for version in self.living for file_id in version.state.files)
