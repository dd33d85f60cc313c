"""`Region`: what is true now of one region, and the one way to change it for good.

The state is `control.current()`; an edit goes through `commit_edit`: manifest, then version, then log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Many
from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import ClosedError, ConflictError, DiskFullError, PoisonedError, UnavailableError
from mitoframe.region.control import Snapshot, VersionControl
from mitoframe.storage.memtable import Memtable

if TYPE_CHECKING:
    from mitoframe.model.edit import Edit
    from mitoframe.model.ids import RegionId
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.hooks import Hooks
    from mitoframe.region.version import Version
    from mitoframe.storage.manifest import Manifest
    from mitoframe.storage.wal import Wal

_log = logging.getLogger("mitoframe")


class Region:
    """One region, open. ``manifest`` is None for a region that is only read."""

    def __init__(
        self, region_id: RegionId, control: VersionControl, manifest: Manifest | None, wal: Wal, hooks: Hooks
    ) -> None:
        self.region_id = region_id
        self.control = control
        self._manifest = manifest
        self._wal = wal
        self._hooks = hooks
        self._poison: BaseException | None = None
        self._closed = False

    @property
    def metadata(self) -> RegionMetadata:
        return self.control.current().version.state.metadata

    def check_writable(self) -> None:
        """Raise `PoisonedError` if a failure left this handle's state unknown, `ClosedError` if it was let go."""
        if self._closed:
            raise ClosedError("this table was closed while it was to be changed; nothing was changed. Open it again.")
        if self._poison is not None:
            raise PoisonedError(
                "a change of this table failed half-way; close the store and open it again."
            ) from self._poison

    def poison(self, cause: BaseException) -> None:
        """Refuse all further changes. The first cause is the one that is told."""
        self._poison = self._poison or cause

    def close(self) -> None:
        """Refuse all further changes: they belong to whoever opens the region next. Waits for an edit under way.

        Requires: no write is under way; the caller holds the commit lock.
        """
        with self.control.edit_lock:
            self._closed = True

    def freeze(self) -> Snapshot:
        """Give new rows a new memtable and return the state to flush.

        Requires: no write is under way; the caller holds the commit lock.
        """
        current = self.control.current()
        if current.version.mutable.is_empty():
            return current
        fresh = Memtable(current.version.mutable.memtable_id + 1)
        return self.control.switch(lambda version: version.freeze(fresh))

    def commit_edit(self, edit: Edit, flushed: Many[Memtable] = ()) -> Version:
        """Make an edit durable, then visible; then let the log forget what it made superfluous.

        Requires: every file that the edit adds is in the object store.

        Raises:
            ConflictError: the edit does not fit any more. Nothing changed.
            PoisonedError: storage failed and whether the edit is durable is unknown.

        """
        assert self._manifest is not None, "a region opened for reading is never edited"
        gone = frozenset(memtable.memtable_id for memtable in flushed)
        with self.control.edit_lock:
            self.check_writable()
            try:
                if isinstance(edit, FileEdit) and edit.flushed_entry_id is not None:
                    # With a lazy sync policy a power loss could cut the log below what the manifest calls flushed. New
                    # entries would then get old ids, and the next replay would skip them.
                    self._wal.sync()
                number = self._manifest.append(edit)
            except (ConflictError, DiskFullError):
                raise  # Nothing was stored, and that is certain.
            except BaseException as error:
                self.poison(error)
                raise
            reached("edit.logged")
            version = self.control.switch(lambda before: before.apply(edit, number, gone)).version
        reached("edit.switched")
        self._hooks.manifest_updated(version.state.metadata, edit, number)
        self._tidy_up(edit, self._manifest)
        return version

    def _tidy_up(self, edit: Edit, manifest: Manifest) -> None:
        """Drop what the edit made superfluous. The edit stands without that, and the next one tries again."""
        try:
            if isinstance(edit, FileEdit) and edit.flushed_entry_id is not None:
                self._wal.obsolete(self.region_id, edit.flushed_entry_id)
                reached("edit.obsoleted")
        except UnavailableError as error:
            _log.warning("log not trimmed region=%d error=%r", self.region_id, error)
        try:
            with self.control.edit_lock:
                manifest.checkpoint_if_due()
        except UnavailableError as error:
            _log.warning("checkpoint failed region=%d error=%r", self.region_id, error)
