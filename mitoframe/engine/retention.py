"""What has expired: left out of every scan from the moment on at which it has, and listed no more soon after.

A time to live is measured as `mitoframe.jobs.retention` says. What it was measured against is noted with every edit of
the manifest after which files tell less (`noted`), and before a bulk write, a change of the table and its closing
(`remember`), so that it counts when the store is opened again. An earlier moment is measured by the options and by the
newest rows of its own: it shows what it showed then, as long as its files are there.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mitoframe.jobs.retention import cutoff_at, expiry_in, measured_time
from mitoframe.jobs.windows import table_of
from mitoframe.model.edit import EXPIRE, FileEdit
from mitoframe.model.options import check_at_least
from mitoframe.model.timerange import PER_SECOND, TIME_MIN

if TYPE_CHECKING:
    from mitoframe.jobs.retention import Expiry
    from mitoframe.jobs.windows import FileTable
    from mitoframe.model.batch import Times
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import ManifestVersion, RegionId
    from mitoframe.model.request import ScanRequest, Written
    from mitoframe.ports import Clock
    from mitoframe.region.control import Snapshot
    from mitoframe.region.region import Region
    from mitoframe.region.version import Version
    from mitoframe.storage.memtable import RangeStats


class Retention:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Of ten thousand files it takes longer to make a table than to answer most queries.
        self._tables: WeakKeyDictionary[Version, FileTable] = WeakKeyDictionary()
        self._measured: dict[RegionId, tuple[ManifestVersion, int]] = {}

    def kept(self, snapshot: Snapshot, request: ScanRequest) -> ScanRequest:
        """Return a request for what there is now that leaves out what has expired."""
        return _without_older(request, self.kept_from(snapshot))

    def kept_then(self, snapshot: Snapshot, request: ScanRequest) -> ScanRequest:
        """Return a request for an earlier moment that leaves out what had expired."""
        return _without_older(request, self.kept_from_then(snapshot))

    def kept_from(self, snapshot: Snapshot) -> int:
        """Return the oldest time that has not expired now; `TIME_MIN` without a time to live."""
        state = snapshot.version.state
        if state.options.ttl_ms is None:
            return TIME_MIN
        return cutoff_at(self._measured_now(snapshot), state.options.ttl_ms, state.metadata.time_unit)

    def kept_from_then(self, snapshot: Snapshot) -> int:
        """Return the oldest time that had not expired at an earlier moment.

        Only what came whole before it counts: newer rows would make others expire that had not then.
        """
        state = snapshot.version.state
        if state.options.ttl_ms is None:
            return TIME_MIN
        table = table_of(file for file in state.files.values() if file.max_sequence <= snapshot.visible)
        parts = [part for part in _buffered(snapshot) if part.max_sequence <= snapshot.visible]
        unit = state.metadata.time_unit
        return cutoff_at(measured_time(table, self._clock.now_ms(), unit, parts), state.options.ttl_ms, unit)

    def expired_count(self, snapshot: Snapshot, times: Times) -> int:
        """Return how many of some times have expired."""
        state = snapshot.version.state
        if state.options.ttl_ms is None or not len(times):
            return 0
        unit = state.metadata.time_unit
        latest = max(self._clock.now_ms() * PER_SECOND[unit] // 1000, state.measured_at or TIME_MIN)
        if times.min() >= cutoff_at(latest, state.options.ttl_ms, unit):
            return 0  # Whatever the data says: nothing is looked at for rows that come when they are made.
        return int((times < self.kept_from(snapshot)).sum())

    def expired_in_files(self, snapshot: Snapshot, written: Written) -> int:
        """Return how many rows of a write that made files are in files of which all rows have expired."""
        state = snapshot.version.state
        if state.options.ttl_ms is None:
            return 0
        kept_from, first = self.kept_from(snapshot), written.first_sequence
        return sum(
            file.row_count
            for file in state.files.values()
            if file.max_time < kept_from and first <= file.min_sequence < first + written.row_count
        )

    def _measured_now(self, snapshot: Snapshot) -> int:
        """Return what a time to live is measured against, which never goes back while nothing but expired rows goes."""
        version = snapshot.version
        state = version.state
        measured = measured_time(
            self._table(version), self._clock.now_ms(), state.metadata.time_unit, _buffered(snapshot)
        )
        if state.measured_at is not None:
            measured = max(measured, state.measured_at)
        region_id = state.metadata.region_id
        since, before = self._measured.get(region_id, (version.manifest_version, measured))
        if before > measured and _only_goes_on(version, since):
            measured = before
        self._measured[region_id] = version.manifest_version, measured
        return measured

    def noted(self, region: Region, edit: FileEdit) -> FileEdit:
        """Return an edit that says what a time to live was measured against before it."""
        snapshot = region.control.current()
        if snapshot.version.state.options.ttl_ms is None:
            return edit
        measured = self._measured_now(snapshot)
        return edit if measured == TIME_MIN else replace(edit, measured_at=measured)

    def remember(self, region: Region) -> None:
        """Write down what a time to live was measured against, before something after which nobody could tell."""
        if region.options.ttl_ms is None:
            return
        with region.editing():
            snapshot = region.control.current()
            state = snapshot.version.state
            if state.options.ttl_ms is None or region.is_closed() or region.is_poisoned():
                return
            measured = self._measured_now(snapshot)
            if measured > (TIME_MIN if state.measured_at is None else state.measured_at):
                now_ms = self._clock.now_ms()
                region.commit_edit(FileEdit(measured_at=measured, at_ms=now_ms, reason=EXPIRE))

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
            measured_min=self._measured_now(snapshot),
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
            edit = FileEdit(removed=removed, at_ms=self._clock.now_ms(), reason=EXPIRE)
            region.commit_edit(self.noted(region, edit))
            return found.files


def _without_older(request: ScanRequest, kept_from: int) -> ScanRequest:
    return request if kept_from <= request.kept_from else replace(request, kept_from=kept_from)


def _only_goes_on(version: Version, since: ManifestVersion) -> bool:
    """Tell whether nothing happened since a version but flushes, merges, bulk writes, and that expired files went."""
    later = takewhile(lambda entry: entry.version > since, reversed(version.state.past.entries))
    return all(entry.is_neutral or entry.what in (EXPIRE, "backfill") for entry in later)


def _buffered(snapshot: Snapshot) -> list[RangeStats]:
    return [part.stats for memtable in snapshot.version.memtables for part in memtable.ranges()]
