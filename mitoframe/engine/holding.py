"""What this process reads, told to the process that writes, so that it deletes nothing of that.

For stores that are opened for reading. Inside the process holding a `Version` is the pin, as always; here the oldest
version that somebody holds of each region is said through the port `Pins`. It covers every later version too, so that
reading what there is now says nothing anew: only the first look at a region, and a look at a moment before all that are
held, are said, *before* anything is looked for. What is looked for afterwards is there for as long as it is held, if it
is still listed then. What is no longer held is said now and then (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from mitoframe.ports import HeldVersions

if TYPE_CHECKING:
    from mitoframe.model.ids import ManifestVersion, RegionId
    from mitoframe.ports import Pins, Reader
    from mitoframe.region.control import LivingVersions
    from mitoframe.region.region import Region


class Alone:
    """The `Pins` of a store that no other process can open."""

    def hold(self, oldest: Mapping[RegionId, ManifestVersion]) -> bool:  # noqa: ARG002 - there is nobody to tell
        return False

    def held(self) -> HeldVersions:
        return HeldVersions(oldest={})

    def readers(self) -> tuple[Reader, ...]:
        return ()

    def forget(self, identifier: str) -> bool:  # noqa: ARG002 - there is nobody
        return True

    def close(self) -> None:
        pass


class Holding:
    """The versions that a process holds of the regions it reads. ``is_told``: another process is to know."""

    def __init__(self, pins: Pins, *, is_told: bool) -> None:
        self._pins, self._is_told = pins, is_told
        self._lock = Lock()
        self._reached: list[tuple[RegionId, ManifestVersion]] = []
        self._living: dict[RegionId, list[LivingVersions]] = {}
        self._said: dict[RegionId, ManifestVersion] = {}

    @contextmanager
    def reaching(self, region_id: RegionId, version: ManifestVersion) -> Iterator[None]:
        """Let every file stay that is listed from a version on, until the block is left; then, what is held by then."""
        if not self._is_told:
            yield
            return
        reached = (region_id, version)
        with self._lock:
            self._reached.append(reached)
            known = self._said.get(region_id)
            if known is None or version < known:
                self._say_locked(self._said | {region_id: version})
        try:
            yield
        finally:
            with self._lock:
                self._reached.remove(reached)

    def keep(self, region: Region) -> None:
        """Let stay what is held of a region that has just been opened. Requires: inside `reaching`, or refreshed."""
        if self._is_told:
            with self._lock:
                held = filter(None, self._living.get(region.region_id, ()))
                self._living[region.region_id] = [*held, region.control.living]

    def settle(self) -> None:
        """Say what is still held, if it is not what was said last."""
        with self._lock:
            every = {region_id: list(filter(None, held)) for region_id, held in self._living.items()}
            self._living = {region_id: held for region_id, held in every.items() if held}
            needed = self._needed_locked()
            if needed != self._said:
                self._say_locked(needed)

    def _needed_locked(self) -> dict[RegionId, ManifestVersion]:
        held = [(region_id, living.oldest()) for region_id, every in self._living.items() for living in every]
        needed: dict[RegionId, ManifestVersion] = {}
        for region_id, version in (*held, *self._reached):
            if version is not None:
                needed[region_id] = min(version, needed.get(region_id, version))
        return needed

    def _say_locked(self, oldest: dict[RegionId, ManifestVersion]) -> None:
        if self._pins.hold(oldest):
            self._said = oldest
