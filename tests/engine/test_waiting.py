from __future__ import annotations

import threading

import pytest
from builders import threads

from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine import waiting
from mitoframe.engine.waiting import wait
from mitoframe.model.errors import ClosedError


def open_still() -> None:
    """Find nothing wrong."""


def closed() -> None:
    raise ClosedError("closed")


def test_time_passes_by_the_scheduler():
    scheduler = InlineScheduler()
    waiter = threading.Thread(target=wait, args=(scheduler, 60_000, open_still))

    waiter.start()
    while waiter.is_alive():
        scheduler.tick()
        waiter.join(0.01)

    assert scheduler._repeats == {}


def test_a_short_time_passes_soon():
    scheduler = threads()

    wait(scheduler, 1, open_still)

    scheduler.close()


def test_a_store_that_is_closed_meanwhile_ends_the_waiting(monkeypatch):
    monkeypatch.setattr(waiting, "_LOOK_AGAIN_SECONDS", 0.001)

    with pytest.raises(ClosedError):
        wait(InlineScheduler(), 60_000, closed)
