"""Verifying a region: what is looked at, in which order, and what counts while others go on working.

A file is read by one job on the scan lane, several at a time, each holding no more than a row group. The version at
hand pins its files for this process. A writer in another process may exchange and delete them meanwhile: what was wrong
with a file counts only if the newest version still lists it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mitoframe.jobs.verify import (
    check_file,
    check_journal,
    check_listing,
    check_log,
    check_log_as_opened,
    check_manifest,
    check_sizes,
    check_state,
)
from mitoframe.model.errors import CorruptionError
from mitoframe.model.flaw import Checked, flaw_of
from mitoframe.read.history import files_of_snapshots
from mitoframe.storage.paths import index_folder, sst_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mitoframe.engine.background import Background
    from mitoframe.engine.parts import Parts
    from mitoframe.engine.reading import Reading
    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import RegionId
    from mitoframe.region.region import Region

Told = Callable[[int], None]


class Verifying:
    """Verifies the regions of an engine. ``newest`` returns one as it is now, also if another process writes."""

    def __init__(
        self, parts: Parts, reading: Reading, background: Background, newest: Callable[[RegionId], Region]
    ) -> None:
        self._parts, self._reading, self._background, self._newest = parts, reading, background, newest

    def verify(self, region_id: RegionId, told: Told) -> Checked:
        """Look at everything of a region; ``told`` gets how many bytes have been read since it was last told.

        Raises:
            UnavailableError: storage did not answer, which says nothing about what it holds.

        """
        found = check_manifest(self._parts.store, region_id)
        try:
            for checked in self._parts_of(region_id, told):
                found += checked
        except CorruptionError as error:  # What the manifest said already, or the log.
            if not any(flaw.path == error.path for flaw in found.flaws):
                found += Checked(flaws=(flaw_of(error, "log"),))
        return found

    def _parts_of(self, region_id: RegionId, told: Told) -> Iterator[Checked]:
        version = self._newest(region_id).control.current().version
        yield check_state(version.state)
        for checked in self._reading.in_order(self._file_checks(version.state), at_once=True):
            told(checked.size_bytes)
            yield self._still_counting(region_id, checked)
        yield self._of_log(region_id)
        yield self._beside(region_id)
        yield check_journal(self._parts.store, region_id)

    def _of_log(self, region_id: RegionId) -> Checked:
        while True:
            state = self._newest(region_id).state
            checked = check_log(self._parts.wal, state)
            # Rows that came after a change of the schema make no sense without it.
            if not checked.flaws or self._newest(region_id).state.version == state.version:
                return checked

    def survey(self, region_id: RegionId) -> Checked:
        """Look at what a listing tells: files that are missing or cut short, and those that nobody lists.

        Raises:
            CorruptionError: the region cannot be opened.
            UnavailableError: storage did not answer.

        """
        state = self._newest(region_id).control.current().version.state
        sizes = check_sizes(state, self._parts.store.list(sst_folder(region_id)))
        return self._still_counting(region_id, sizes) + self._beside(region_id)

    def log(self) -> Checked:
        """Look at how the log was when it was opened."""
        return check_log_as_opened(self._parts.wal)

    def _file_checks(self, state: RegionState) -> Iterator[Callable[[], Checked]]:
        for file in (*state.files.values(), *_only_in_snapshots(state)):
            yield partial(check_file, self._parts.store, state, file)

    def _still_counting(self, region_id: RegionId, checked: Checked) -> Checked:
        """Leave out what is wrong with a file that has gone meanwhile, or whose index has."""
        if not checked.flaws:
            return checked
        now = self._newest(region_id).state
        kept = files_of_snapshots(now) | now.files.keys()
        return checked.without(lambda flaw: flaw.file_id is not None and flaw.file_id not in kept)

    def _beside(self, region_id: RegionId) -> Checked:
        store, grace_ms = self._parts.store, self._parts.config.gc_unknown_grace_ms
        # Asked in this order: a file is in a version before its draft is closed.
        ssts, sidecars = store.list(sst_folder(region_id)), store.list(index_folder(region_id))
        region = self._newest(region_id)
        needed = self._background.being_written(region) | region.control.living.files()
        now_ms = self._parts.clock.now_ms()
        return check_listing(region.state, ssts, sidecars, needed, now_ms=now_ms, grace_ms=grace_ms)


def _only_in_snapshots(state: RegionState) -> list[FileMeta]:
    """Return the files that no version of today lists and a moment with a name needs."""
    needed = files_of_snapshots(state)
    return [item.file for item in state.removed_files if item.file_id in needed and item.file is not None]
