"""`Region`: what is true now of one region, and the one way to change it for good.

The state is `control.current()`; an edit goes through `commit_edit`: manifest, then version, then log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.model.edit import CONTENT_PREFIX, FileEdit, SnapshotEdit, find_write, is_bookkeeping
from mitoframe.model.errors import ClosedError, ConflictError, DiskFullError, PoisonedError, UnavailableError
from mitoframe.model.ids import NO_SEQUENCE
from mitoframe.model.past import thinned
from mitoframe.region.control import Snapshot, VersionControl
from mitoframe.region.gate import Gate
from mitoframe.region.hooks import PendingManifestHook
from mitoframe.storage.memtable import Memtable

if TYPE_CHECKING:
    from mitoframe.model.edit import Edit, RegionState, WriteKey
    from mitoframe.model.ids import ManifestVersion, RegionId
    from mitoframe.model.options import RegionOptions
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.hooks import Hooks
    from mitoframe.region.version import Version
    from mitoframe.storage.manifest import Manifest
    from mitoframe.storage.wal import Wal

_log = logging.getLogger("mitoframe")

MARKS_PER_FLUSH = 32
"""How many times of writes are kept for good of those that a flush brought to files."""


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
        self.gate = Gate()
        self._editors = 0
        self._untold: list[PendingManifestHook] = []
        self._poison: BaseException | None = None
        self._closed = False

    @property
    def state(self) -> RegionState:
        return self.control.current().version.state

    @property
    def metadata(self) -> RegionMetadata:
        return self.state.metadata

    @property
    def options(self) -> RegionOptions:
        return self.state.options

    def remembered_writes(self) -> list[WriteKey]:
        """Return the writes that are known by a key, oldest first."""
        version = self.control.current().version
        buffered = [known for memtable in version.memtables for known in memtable.write_keys]
        return [*version.state.write_keys, *buffered]

    def find_write(self, key: str, begun: Many[WriteKey] = ()) -> WriteKey | None:
        """Return the newest write that had this key, if it is remembered and still counts.

        ``begun`` are writes that come after all there are.
        """
        return find_write([*self.remembered_writes(), *begun], key, repeats=self.options.dedup == "none")

    def remembers_content(self) -> bool:
        """Tell whether some write is known by its content."""
        return any(write.key.startswith(CONTENT_PREFIX) for write in self.remembered_writes())

    def check_writable(self) -> None:
        """Raise `PoisonedError` if a failure left this handle's state unknown, `ClosedError` if it was let go."""
        if self._closed:
            raise ClosedError("this table was closed while it was to be changed; nothing was changed. Open it again.")
        if self._poison is not None:
            raise PoisonedError(
                "a change of this table failed half-way; close the store and open it again."
            ) from self._poison

    def is_closed(self) -> bool:
        return self._closed

    def is_poisoned(self) -> bool:
        return self._poison is not None

    def poison_cause(self) -> BaseException | None:
        return self._poison

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
        mutable = current.version.mutable
        fresh = mutable.fork(mutable.memtable_id + 1, current.version.state.partition_width)
        frozen = self.control.switch(lambda version: version.freeze(fresh))
        mutable.freeze()
        return frozen

    def renew_memtable(self) -> None:
        """Exchange an empty memtable for one that fits the region as it is now.

        Requires: no write is under way; the caller holds the commit lock.
        """
        version = self.control.current().version
        if not version.mutable.is_empty():
            return
        state = version.state
        fresh = Memtable(version.mutable.memtable_id + 1, dedup=state.options.dedup, width=state.partition_width)
        self.control.switch(lambda before: replace(before, mutable=fresh))

    def commit_edit(self, edit: Edit, flushed: Many[Memtable] = ()) -> Version:
        """Make an edit durable, then visible; then let the log forget what it made superfluous.

        ``flushed`` are frozen memtables whose rows are in the edit's files, or given up by it. Requires: every file
        that the edit adds is in the object store; no write is under way if it commits new sequences.

        Raises:
            ConflictError: the edit does not fit any more. Nothing changed.
            PoisonedError: storage failed and whether the edit is durable is unknown.

        """
        assert self._manifest is not None, "a region opened for reading is never edited"
        gone = frozenset(memtable.memtable_id for memtable in flushed)
        with self.editing():
            self.check_writable()
            snapshot = self.control.current()
            edit = self._placed(edit, snapshot)
            # Whether it fits is found out before anything is stored.
            snapshot.version.apply(edit, snapshot.version.manifest_version, gone)
            try:
                if isinstance(edit, SnapshotEdit) or (isinstance(edit, FileEdit) and edit.flushed_entry_id is not None):
                    # With a lazy sync policy a power loss could cut the log below what the manifest calls flushed. New
                    # entries would then get old ids, and the next replay would skip them.
                    self._wal.sync()
                number = self._manifest.append(edit)
            except (ConflictError, DiskFullError):
                raise  # Nothing was stored, and that is certain.
            except BaseException as error:
                self.poison(error)
                raise
            version = self._switch(edit, number, gone)
            reached("edit.switched")
            if not is_bookkeeping(edit):
                self._untold.append(PendingManifestHook(region_id=self.region_id, actions=(edit,), version=number))
            self._tidy_up(edit, self._manifest)
            return version

    def _placed(self, edit: Edit, snapshot: Snapshot) -> Edit:
        """Say in an edit what was there when it came, and when what it brings to files was written."""
        edit = replace(edit, at_sequence=snapshot.visible)
        if not isinstance(edit, FileEdit) or edit.flushed_sequence is None:
            return edit
        marks = self.control.marks(after=snapshot.version.state.flushed_sequence)
        flushed = [mark for mark in marks if mark.sequence <= edit.flushed_sequence]
        return replace(edit, marks=tuple(thinned(flushed, MARKS_PER_FLUSH)))

    @contextmanager
    def editing(self) -> Iterator[None]:
        """Keep other edits out. Hooks are told of those made inside when it is over, outside the lock."""
        told: list[PendingManifestHook] = []
        try:
            with self.control.edit_lock:
                self._editors += 1
                try:
                    yield
                finally:
                    self._editors -= 1
                    if not self._editors:
                        told, self._untold = self._untold, told
        finally:
            for pending in told:
                self._hooks.manifest_updated(pending)

    def _switch(self, edit: Edit, number: ManifestVersion, gone: frozenset[int]) -> Version:
        """Make visible what the manifest holds."""
        try:
            reached("edit.logged")
            committed = edit.committed_sequence if isinstance(edit, FileEdit) else None
            return self.control.switch(
                lambda before: before.apply(edit, number, gone), visible=committed or NO_SEQUENCE
            ).version
        except BaseException as error:  # The version knows less than the manifest: it must not be built upon.
            self.poison(error)
            raise

    def _tidy_up(self, edit: Edit, manifest: Manifest) -> None:
        """Drop what the edit made superfluous. The edit stands without that, and the next one tries again.

        Requires: the edit lock is held.
        """
        try:
            if isinstance(edit, FileEdit) and edit.flushed_entry_id is not None:
                self._wal.obsolete(self.region_id, edit.flushed_entry_id)
                reached("edit.obsoleted")
        except UnavailableError as error:
            _log.warning("log not trimmed region=%d error=%r", self.region_id, error)
        try:
            manifest.checkpoint_if_due()
        except UnavailableError as error:
            _log.warning("checkpoint failed region=%d error=%r", self.region_id, error)
