"""Whether a write may go on, and which memtables to flush: pure decisions from sizes.

Two budgets, that of the region and that of all regions together. Below the first mark of both a write goes on; from
there on it goes on while a flush is started; at the limit it waits for the flush; and when what waits has doubled the
limit, it is refused, because a queue that only grows helps nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitoframe.model.ids import RegionId
    from mitoframe.model.options import MitoConfig, RegionOptions


class Pressure(IntEnum):
    """What is to be done; the greater, the more urgent."""

    GO = 0
    FLUSH = 1  # Start a flush, do not wait for it.
    STALL = 2  # Wait for a flush.
    REJECT = 3  # Refuse at once.


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What memtables hold, and what waits to be written to them. Bytes.

    ``mutable`` takes writes, ``frozen`` is being flushed.
    """

    mutable: int = 0
    frozen: int = 0
    waiting: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            mutable=self.mutable + other.mutable,
            frozen=self.frozen + other.frozen,
            waiting=self.waiting + other.waiting,
        )


def pressure(region: Load, everything: Load, options: RegionOptions, config: MitoConfig) -> Pressure:
    """Decide what the buffers call for after a write, or before the next."""
    return max(_of_region(region, options, config), _of_all(everything, config))


def _of_region(load: Load, options: RegionOptions, config: MitoConfig) -> Pressure:
    flush_at = options.write_buffer_size_bytes or config.write_buffer_size_bytes
    limit = max(config.write_buffer_limit_bytes, flush_at)
    return _judge(load, flush_at=flush_at, limit=limit, reject_at=2 * limit)


def _of_all(load: Load, config: MitoConfig) -> Pressure:
    limit = config.global_write_buffer_size_bytes
    return _judge(load, flush_at=limit // 2, limit=limit, reject_at=config.global_write_buffer_reject_bytes)


def _judge(load: Load, *, flush_at: int, limit: int, reject_at: int) -> Pressure:
    held = load.mutable + load.frozen
    if held >= limit:
        return Pressure.REJECT if load.waiting and held + load.waiting >= reject_at else Pressure.STALL
    return Pressure.FLUSH if load.mutable >= flush_at else Pressure.GO


def to_flush(loads: Iterable[tuple[RegionId, Load]], config: MitoConfig) -> tuple[RegionId, ...]:
    """Return the regions to flush so that all memtables that take writes hold less than half the global budget.

    The largest first, and no more than that takes.
    """
    ordered = sorted(loads, key=lambda item: item[1].mutable, reverse=True)
    held = sum(load.mutable for _, load in ordered)
    chosen = []
    for region_id, load in ordered:
        if held < config.global_write_buffer_size_bytes // 2 or not load.mutable:
            break
        chosen.append(region_id)
        held -= load.mutable
    return tuple(chosen)
