"""`VersionControl`: the one place where a region's current version is exchanged.

Two locks, always taken in this order: ``edit_lock`` for as long as a manifest edit takes (I/O included; edits follow
one another), and a private one for the exchange of a pointer. Readers take none: they read one reference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, RLock

from mitoframe.model.ids import NO_SEQUENCE, EntryId, FileId, ManifestVersion, Sequence
from mitoframe.model.past import Mark, thinned
from mitoframe.region.version import Version

MARKS_KEPT_MAX = 8_192
"""How many times of writes are kept in memory. When they are more, every other one is let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A version and what is visible of its memtables, taken together."""

    version: Version
    visible: Sequence
    last_entry_id: EntryId


class LivingVersions:
    """The versions of a region that somebody holds. It holds none of them itself."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._versions: weakref.WeakSet[Version] = weakref.WeakSet()

    def __bool__(self) -> bool:
        return bool(self._versions)

    def add(self, version: Version) -> None:
        with self._lock:
            self._versions.add(version)

    def oldest(self) -> ManifestVersion | None:
        """Return the number of the oldest; None if nobody holds any."""
        with self._lock:
            return min((version.manifest_version for version in self._versions), default=None)

    def files(self) -> frozenset[FileId]:
        """Return the files that some of them lists."""
        with self._lock:
            return frozenset(file_id for version in self._versions for file_id in version.state.files)

    def indexes(self) -> frozenset[tuple[FileId, int]]:
        """Return the files and versions of the indexes that some of them lists."""
        with self._lock:
            return frozenset(
                (file.file_id, file.index.version)
                for version in self._versions
                for file in version.state.files.values()
                if file.index is not None
            )


class VersionControl:
    """``living`` are the versions that somebody holds, the current one included."""

    def __init__(self, version: Version, visible: Sequence, last_entry_id: EntryId) -> None:
        self.edit_lock = RLock()
        self._lock = Lock()
        self._current = Snapshot(version=version, visible=visible, last_entry_id=last_entry_id)
        self._marks: list[Mark] = []
        self.living = LivingVersions()
        self.living.add(version)

    def current(self) -> Snapshot:
        """Return what a reader may see now."""
        return self._current  # One reference, exchanged whole: reading it needs no lock.

    def publish(self, visible: Sequence, last_entry_id: EntryId, mark: Mark | None = None) -> None:
        """Make rows up to ``visible`` seen; ``mark`` says when the newest was written.

        Requires: all of them are in the memtable.
        """
        with self._lock:
            version = self._current.version
            self._current = Snapshot(version=version, visible=visible, last_entry_id=last_entry_id)
            if mark is not None and mark.at_ms:
                self._mark_locked(mark)

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

    def _mark_locked(self, mark: Mark) -> None:
        """Note when a sequence came. Of those that came in one millisecond the last is enough."""
        marks = self._marks
        if marks and mark.at_ms <= marks[-1].at_ms:  # Less if the clock was put back: times only ever rise.
            marks[-1] = Mark(mark.sequence, marks[-1].at_ms)
            return
        marks.append(mark)
        if len(marks) > MARKS_KEPT_MAX:
            self._marks = thinned(marks, MARKS_KEPT_MAX // 2)

    def marks(self, after: Sequence = NO_SEQUENCE) -> list[Mark]:
        """Return when rows with sequences above ``after`` were written, oldest first."""
        with self._lock:
            return [mark for mark in self._marks if mark.sequence > after]

    def pin(self, version: Version) -> None:
        """Keep the files of a version that was never current as long as somebody holds it.

        Whoever pins looks afterwards whether the files are still listed: a deletion may have been under way.
        """
        self.living.add(version)
