from __future__ import annotations

import pytest

from mitoframe.engine import gathering
from mitoframe.engine.gathering import SYNC_SECONDS_MIN, WAIT_SECONDS_MAX, Gathering

SLOW = 0.005


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(gathering, "monotonic", lambda: 100.0)


def after(*writers: int, sync_seconds: float = SLOW, groups: int = 20) -> Gathering:
    """Return what is known after some groups of these writers."""
    made = Gathering()
    for _ in range(groups):
        made.synced(sync_seconds)
        made.served(writers)
    return made


def test_those_who_were_here_last_time_are_waited_for_less_long_than_a_sync_takes():
    made = after(1, 2, 3, 4)

    assert made.begin()

    assert made.expected == 4
    assert SLOW / 2 < made.seconds_left() < SLOW


def test_one_writer_is_not_waited_for_however_many_writes_it_makes_at_once():
    assert not after(7).begin()
    assert not after(7, 7, 7).begin()
    assert not Gathering().begin()


def test_nobody_is_waited_for_where_a_sync_is_quick():
    assert not after(1, 2, sync_seconds=SYNC_SECONDS_MIN / 2).begin()


def test_how_long_a_sync_takes_is_learned_anew_when_the_disk_gets_quicker():
    made = after(1, 2)
    for _ in range(20):
        made.synced(SYNC_SECONDS_MIN / 10)

    assert not made.begin()


def test_there_is_a_limit_to_waiting_for_the_slowest_disk():
    made = after(1, 2, sync_seconds=10)

    made.begin()

    assert made.seconds_left() == pytest.approx(WAIT_SECONDS_MAX)


def test_who_does_not_come_is_waited_for_less_and_less_often_and_again_once_all_came():
    made, waits = after(1, 2), []
    for _ in range(200):
        waits.append(made.begin())
        if waits[-1]:
            made.end(complete=False)

    assert waits[:12] == [True, False, True, False, False, False, True, *[False] * 5]
    assert 6 <= sum(waits) <= 8

    while not made.begin():
        pass
    made.end(complete=True)
    assert made.begin()
