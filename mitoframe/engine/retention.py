"""What has expired: left out of every scan from the moment on at which it has, and listed no more soon after.

A time to live is measured as `mitoframe.jobs.retention` says. An earlier moment is measured by the options and by the
newest rows of its own: it shows what it showed then, as long as its files are there.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mitoframe.jobs.retention import cutoff_at, expiry_in, newest_time
from mitoframe.jobs.windows import table_of
from mitoframe.model.edit import FileEdit
from mitoframe.model.options import check_at_least

if TYPE_CHECKING:
    from mitoframe.jobs.retention import Expiry
    from mitoframe.jobs.windows import FileTable
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import ManifestVersion, RegionId
    from mitoframe.model.request import ScanRequest
    from mitoframe.ports import Clock
    from mitoframe.region.control import Snapshot
    from mitoframe.region.region import Region
    from mitoframe.region.version import Version
    from mitoframe.storage.memtable import RangeStats

EXPIRE = "expire"
"""What the journal calls it when files go because all their rows have expired."""


class Retention:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Of ten thousand files it takes longer to make a table than to answer most queries.
        self._tables: WeakKeyDictionary[Version, FileTable] = WeakKeyDictionary()
        self._newest: dict[RegionId, tuple[ManifestVersion, int]] = {}

    def kept(self, snapshot: Snapshot, request: ScanRequest) -> ScanRequest:
        """Return a request for what there is now that leaves out what has expired."""
        ttl_ms = snapshot.version.state.options.ttl_ms
        return request if ttl_ms is None else self._without_older(snapshot, request, ttl_ms, self._newest_now(snapshot))

    def kept_then(self, snapshot: Snapshot, request: ScanRequest) -> ScanRequest:
        """Return a request for an earlier moment that leaves out what had expired.

        Only what came whole before it counts: newer rows would make others expire that had not then.
        """
        state = snapshot.version.state
        if state.options.ttl_ms is None:
            return request
        table = table_of(file for file in state.files.values() if file.max_sequence <= snapshot.visible)
        parts = [part for part in _buffered(snapshot) if part.max_sequence <= snapshot.visible]
        return self._without_older(snapshot, request, state.options.ttl_ms, newest_time(table, parts))

    def _without_older(self, snapshot: Snapshot, request: ScanRequest, ttl_ms: int, newest: int) -> ScanRequest:
        unit = snapshot.version.state.metadata.time_unit
        cutoff = cutoff_at(newest, ttl_ms, self._clock.now_ms(), unit)
        return replace(request, kept_from=max(request.kept_from, cutoff))

    def _newest_now(self, snapshot: Snapshot) -> int:
        """Return how new the data is, or was before: what has expired does not come back with a merge, after which less
        is known of when rows are.
        """
        version = snapshot.version
        newest = newest_time(self._table(version), _buffered(snapshot))
        region_id = version.state.metadata.region_id
        since, before = self._newest.get(region_id, (version.manifest_version, newest))
        if before > newest and _only_goes_on(version, since):
            newest = before
        self._newest[region_id] = version.manifest_version, newest
        return newest

    def _table(self, version: Version) -> FileTable:
        known = self._tables.get(version)
        if known is None:
            known = self._tables[version] = table_of(version.state.files.values())
        return known

    def expiry(self, region: Region, ttl_ms: int | None = None) -> Expiry | None:
        """Return what has expired by a table's time to live, or by another; None if there is none.

        Raises:
            ConfigError: it is no time to live.

        """
        if ttl_ms is not None:
            check_at_least("ttl_ms", ttl_ms, 1)
        snapshot = region.control.current()
        state = snapshot.version.state
        if ttl_ms is None:
            ttl_ms = state.options.ttl_ms
        if ttl_ms is None:
            return None
        return expiry_in(
            self._table(snapshot.version),
            ttl_ms,
            self._clock.now_ms(),
            unit=state.metadata.time_unit,
            dedup=state.options.dedup,
            buffered=_buffered(snapshot),
        )

    def drop_expired(self, region: Region) -> tuple[FileMeta, ...]:
        """List the files no more that hold nothing but expired rows, and return them. They go after the grace period.

        A merge under way that has one of them finds its edit refused, and is planned anew.
        """
        found = self.expiry(region)
        if found is None or not found.files:
            return ()
        with region.editing():
            region.check_writable()
            found = self.expiry(region)  # The files may have changed, and options too.
            if found is None or not found.files:
                return ()
            removed = tuple(file.file_id for file in found.files)
            region.commit_edit(FileEdit(removed=removed, at_ms=self._clock.now_ms(), reason=EXPIRE))
            return found.files


def _only_goes_on(version: Version, since: ManifestVersion) -> bool:
    """Tell whether nothing happened since a version but flushes, merges, and that expired files went."""
    later = takewhile(lambda entry: entry.version > since, reversed(version.state.past.entries))
    return all(entry.is_neutral or entry.what == EXPIRE for entry in later)


def _buffered(snapshot: Snapshot) -> list[RangeStats]:
    return [part.stats for memtable in snapshot.version.memtables for part in memtable.ranges()]
