"""Back-pressure: whether there is room for a write, the flushes that make some, and the waiting for them.

What to do is decided in `pressure`; here it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from mitoframe.engine.errand import Errand, first_ended
from mitoframe.engine.pressure import Load, Pressure, pressure, to_flush
from mitoframe.model.errors import BusyError, ClosedError, ConflictError

if TYPE_CHECKING:
    from mitoframe.engine.background import Background
    from mitoframe.model.ids import RegionId
    from mitoframe.model.options import MitoConfig
    from mitoframe.model.result import FlushResult
    from mitoframe.region.region import Region


LOOK_AGAIN_SECONDS = 0.05


class _Waiting:
    """A write that waits; of no size once it does no longer."""

    __slots__ = ("region_id", "size_bytes")

    def __init__(self, region_id: RegionId, size_bytes: int) -> None:
        self.region_id, self.size_bytes = region_id, size_bytes


class Room:
    def __init__(self, opened: Callable[[], Iterable[Region]], background: Background, config: MitoConfig) -> None:
        self._opened, self._background, self._config = opened, background, config
        self._waiting: list[_Waiting] = []
        self._lock = Lock()

    def make(self, region: Region, size_bytes: int) -> None:
        """Return when there is room for a write to ``region``.

        Raises:
            BusyError: there was none in time, or too much waits already. Nothing was written.

        """
        if self._judge(region) in (Pressure.GO, Pressure.FLUSH):
            return
        deadline = monotonic() + self._config.write_stall_ms / 1000
        self._refuse_if_crowded(region)
        waiting = _Waiting(region.region_id, size_bytes)
        try:
            with self._lock:
                self._waiting = [*(other for other in self._waiting if other.size_bytes), waiting]
            self._wait(region, deadline)
        finally:
            waiting.size_bytes = 0  # One step: an interrupted write counts no longer, whatever else is not done.

    def _wait(self, region: Region, deadline: float) -> None:
        while self._judge(region) in (Pressure.STALL, Pressure.REJECT):
            # Memory also comes free when rows are given up, which no flush tells.
            flushed = first_ended(self._relieve(region), min(deadline - monotonic(), LOOK_AGAIN_SECONDS))
            if monotonic() >= deadline:
                raise BusyError(
                    f"the write waited {self._config.write_stall_ms} ms for a flush and gave up; nothing was written. "
                    "Retry, or raise write_buffer_limit_bytes, global_write_buffer_size_bytes or write_stall_ms."
                )
            for flush in flushed:
                # What keeps a flush from succeeding is what the writer should hear of; rows that were given up are not.
                with suppress(ConflictError, ClosedError):
                    flush.result(withdraw=False)

    def relieve_after_write(self, region: Region) -> None:
        """Start the flushes that the buffers call for by now, and the tidying that the region's memtable does."""
        if self._judge(region) is Pressure.GO:
            self._background.tidy_if_due(region)
            return
        for crowded in self._crowded(region):
            self._background.start_flush(crowded, "buffer full")

    def loads(self) -> list[tuple[Region, Load]]:
        """Return what each open region holds."""
        return [(region, self._load_of(region)) for region in self._opened()]

    def _living(self) -> list[tuple[Region, Load]]:
        """Return what can be flushed: what a poisoned region holds is no reason to keep others waiting for ever."""
        return [(region, load) for region, load in self.loads() if not region.is_poisoned()]

    def _judge(self, region: Region) -> Pressure:
        loads = self._living()
        own = next((load for other, load in loads if other is region), Load())
        # Where there is one region, all of them hold what it holds.
        everything = own if len(loads) == 1 else sum((load for _, load in loads), Load())
        return pressure(own, everything, region.options, self._config)

    def _load_of(self, region: Region) -> Load:
        version = region.control.current().version
        # The list is exchanged and never changed: reading it needs no lock.
        waiting = sum(item.size_bytes for item in self._waiting if item.region_id == region.region_id)
        return Load(
            mutable=version.mutable.stats.size_bytes,
            frozen=sum(memtable.stats.size_bytes for memtable in version.immutables),
            waiting=waiting,
        )

    def _refuse_if_crowded(self, region: Region) -> None:
        if self._judge(region) is Pressure.REJECT:
            raise BusyError(
                "the write buffers are full and as much waits already; nothing was written. Retry later, or raise "
                "write_buffer_limit_bytes or global_write_buffer_reject_bytes."
            )

    def _relieve(self, region: Region) -> list[Errand[FlushResult]]:
        return [self._background.start_flush(crowded, "buffer full") for crowded in self._crowded(region)]

    def _crowded(self, region: Region) -> list[Region]:
        """Return the regions to flush: this one if it is over its own mark, else the largest of all."""
        loads = self._living()
        own = next((load for other, load in loads if other is region), Load())
        if pressure(own, Load(), region.options, self._config) is not Pressure.GO:
            return [region]
        chosen = to_flush([(other.region_id, load) for other, load in loads], self._config)
        named = [other for other, _ in loads if other.region_id in chosen]
        # Where nothing takes writes any more, what is being flushed is waited for.
        return named or [other for other, load in loads if load.frozen] or [region]
