"""Waiting for a while, by the scheduler's measure of time: for readers that look again and again for new rows."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from mitoframe.engine.parts import TIDY_LANE

if TYPE_CHECKING:
    from mitoframe.ports import Scheduler

_LOOK_AGAIN_SECONDS = 1.0
"""How soon it is noticed that the store was closed, so that no time will ever come."""


def wait(scheduler: Scheduler, interval_ms: int, check_open: Callable[[], None]) -> None:
    """Return when that time has passed. May be interrupted at any moment.

    Raises:
        ClosedError: the store was closed meanwhile.

    """
    woken: SimpleQueue[None] = SimpleQueue()
    stop = scheduler.every(interval_ms, TIDY_LANE, lambda: woken.put(None))
    try:
        while True:
            try:
                return woken.get(timeout=_LOOK_AGAIN_SECONDS)
            except Empty:
                check_open()
    finally:
        stop()
