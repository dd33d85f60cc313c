"""Logs that are not on a disk: `MemoryLog` lasts as long as the object, `NoopLog` keeps nothing at all."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter

from mitoframe.model.errors import ClosedError
from mitoframe.model.ids import NO_ENTRY, EntryId, RegionId
from mitoframe.ports import Bytes, LogDamage, LogEntry

_entry_id = attrgetter("entry_id")


def _bytes(part: Bytes) -> bytes:
    return bytes(memoryview(part))  # type: ignore[arg-type]  # anything with the buffer protocol


class _Undurable:
    """What the two have in common: a last id, and nothing that could be synced, damaged or read anew."""

    damage: LogDamage | None = None

    def __init__(self, last_id: EntryId) -> None:
        self._last_id = last_id
        self._closed = False
        self._mutex = threading.Lock()

    def sync(self) -> None:
        self._check_open()

    def last_id(self) -> EntryId:
        return self._last_id

    def refresh(self) -> None:
        self._check_open()

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the log was closed. Open the store again.")


class MemoryLog(_Undurable):
    """A log for tests, and for stores in memory."""

    def __init__(self) -> None:
        super().__init__(NO_ENTRY)
        self._entries: dict[RegionId, list[LogEntry]] = {}

    def append(self, entries: Sequence[tuple[RegionId, Sequence[Bytes]]]) -> EntryId:
        assert entries, "an empty append is a caller's mistake"
        # Copied, because the caller may change its buffer afterwards.
        payloads = [(region_id, b"".join(map(_bytes, parts))) for region_id, parts in entries]
        with self._mutex:
            self._check_open()
            for region_id, payload in payloads:
                self._last_id = EntryId(self._last_id + 1)
                entry = LogEntry(entry_id=self._last_id, region_id=region_id, payload=payload)
                self._entries.setdefault(region_id, []).append(entry)
            return self._last_id

    def read(self, region_id: RegionId, after: EntryId) -> Iterator[LogEntry]:
        self._check_open()
        entries = list(self._entries.get(region_id, ()))
        return iter(entries[bisect_right(entries, after, key=_entry_id) :])

    def obsolete(self, region_id: RegionId, through: EntryId) -> None:
        with self._mutex:
            self._check_open()
            entries = self._entries.get(region_id, [])
            del entries[: bisect_right(entries, through, key=_entry_id)]

    def regions(self) -> frozenset[RegionId]:
        with self._mutex:
            return frozenset(region_id for region_id, entries in self._entries.items() if entries)


class NoopLog(_Undurable):
    """Counts entries and forgets them: for data that can be loaded again after a crash."""

    def __init__(self, last_id: EntryId = NO_ENTRY) -> None:
        """``last_id`` is the newest id that anything durable refers to: ids are not given twice."""
        super().__init__(last_id)

    def append(self, entries: Sequence[tuple[RegionId, Sequence[Bytes]]]) -> EntryId:
        assert entries, "an empty append is a caller's mistake"
        with self._mutex:
            self._check_open()
            self._last_id = EntryId(self._last_id + len(entries))
            return self._last_id

    def read(self, region_id: RegionId, after: EntryId) -> Iterator[LogEntry]:  # noqa: ARG002 - the port's signature
        self._check_open()
        return iter(())

    def obsolete(self, region_id: RegionId, through: EntryId) -> None:  # noqa: ARG002 - the port's signature
        self._check_open()

    def regions(self) -> frozenset[RegionId]:
        return frozenset()
