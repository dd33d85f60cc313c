"""What others in this process read: for stores in memory, and for tests that play several processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from threading import Lock

from mitoframe.model.ids import ManifestVersion, RegionId
from mitoframe.ports import HeldVersions, Reader


class MemoryPins:
    """One who reads. Whoever is made ``beside`` him hears what he says."""

    def __init__(self, beside: MemoryPins | None = None) -> None:
        self._all: _Said = beside._all if beside is not None else _Said()
        self._is_closed = False

    def hold(self, oldest: Mapping[RegionId, ManifestVersion]) -> bool:
        with self._all.lock:
            if self._is_closed:
                return False
            self._all.by_reader[id(self)] = dict(oldest)
            return True

    def held(self) -> HeldVersions:
        with self._all.lock:
            said = [item for each in self._all.by_reader.values() for item in each.items()]
        oldest: dict[RegionId, ManifestVersion] = {}
        for region_id, version in said:
            oldest[region_id] = min(version, oldest.get(region_id, version))
        return HeldVersions(oldest=oldest)

    def readers(self) -> tuple[Reader, ...]:
        with self._all.lock:
            said = list(self._all.by_reader.items())
        return tuple(
            Reader(
                identifier=f"{number:032x}",
                process_id=os.getpid(),
                host=socket.gethostname(),
                since_ms=None,
                held=HeldVersions(oldest=oldest),
            )
            for number, oldest in said
        )

    def forget(self, identifier: str) -> bool:
        return all(reader.identifier != identifier for reader in self.readers())  # Who is in this process is not dead.

    def close(self) -> None:
        with self._all.lock:
            self._is_closed = True
            self._all.by_reader.pop(id(self), None)


class _Said:
    def __init__(self) -> None:
        self.lock = Lock()
        self.by_reader: dict[int, dict[RegionId, ManifestVersion]] = {}
