"""What a region is at one moment: an immutable value that readers hold while writers go on.

How to read a region: take (version, visible sequence) from its `VersionControl` in one step, then look at nothing else.
The version lists the files and the memtables; of a memtable, only rows up to the visible sequence count. As long as a
version object lives, the files it lists are not deleted: holding it *is* the pin.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mitoframe.model.errors import ConflictError
from mitoframe.model.file import Timeline

if TYPE_CHECKING:
    from mitoframe.model.edit import Edit, RegionState
    from mitoframe.model.ids import ManifestVersion
    from mitoframe.storage.memtable import Memtable


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True, eq=False)
class Version:
    """Requires: memtables newer than ``state.flushed_entry_id`` only. ``immutables`` are oldest first.

    ``timeline`` holds the files of the state by their times.
    """

    state: RegionState
    manifest_version: ManifestVersion
    mutable: Memtable
    immutables: tuple[Memtable, ...] = ()
    timeline: Timeline = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeline", Timeline(self.state.files.values()))

    @property
    def memtables(self) -> tuple[Memtable, ...]:
        return (*self.immutables, self.mutable)

    @property
    def memory_bytes(self) -> int:
        """What the memtables hold."""
        return sum(memtable.stats.size_bytes for memtable in self.memtables)

    def apply(self, edit: Edit, manifest_version: ManifestVersion, flushed: frozenset[int] = frozenset()) -> Version:
        """Return the version after ``edit``, without the immutable memtables that it flushed or gave up.

        Raises:
            ConflictError: the edit does not fit any more, or one of these memtables has been given up meanwhile.

        """
        if not flushed <= {memtable.memtable_id for memtable in self.immutables}:
            raise ConflictError("the rows to be flushed were truncated meanwhile; nothing is left to flush.")
        return replace(
            self,
            state=self.state.apply(edit),
            manifest_version=manifest_version,
            immutables=tuple(memtable for memtable in self.immutables if memtable.memtable_id not in flushed),
        )

    def freeze(self, fresh: Memtable) -> Version:
        """Return the version in which the mutable memtable takes no more rows and ``fresh`` does."""
        return replace(self, mutable=fresh, immutables=(*self.immutables, self.mutable))
