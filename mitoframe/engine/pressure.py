"""Whether a write may go on: a pure decision from the sizes of a region's memtables."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitoframe.model.options import MitoConfig
    from mitoframe.region.version import Version


class Pressure(Enum):
    GO = "go"
    FLUSH = "flush: start one, do not wait for it"
    STALL = "stall: wait for a flush"


def pressure(version: Version, config: MitoConfig) -> Pressure:
    """Decide what a region's buffers call for after a write, or before the next."""
    mutable = version.mutable.stats.size_bytes
    frozen = sum(memtable.stats.size_bytes for memtable in version.immutables)
    if mutable + frozen >= config.write_buffer_limit_bytes and frozen:
        return Pressure.STALL
    if mutable >= config.write_buffer_size_bytes:
        return Pressure.FLUSH
    return Pressure.GO
