from __future__ import annotations

from collections.abc import Callable

import pytest

from mitoframe.engine import pace
from mitoframe.engine.pace import LOOK_AGAIN_SECONDS, REST_TIMES, Pace


class Time:
    """Time that passes by sleeping, by waiting for something else, and by working."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept = self.worked = 0.0

    def work(self, seconds: float) -> None:
        self.worked += seconds
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= LOOK_AGAIN_SECONDS
        self.slept += seconds
        self.now += seconds


@pytest.fixture
def time(monkeypatch) -> Time:
    passing = Time()
    monkeypatch.setattr(pace, "monotonic", lambda: passing.now)
    monkeypatch.setattr(pace, "thread_time", lambda: passing.worked)
    monkeypatch.setattr(pace, "sleep", passing.sleep)
    return passing


def stepped(
    time: Time, *seconds: float, gives_way: Callable[[], bool] = lambda: True, is_over: Callable[[], bool] = bool
) -> None:
    kept = Pace(gives_way, is_over)
    for each in seconds:
        time.work(each)
        time.now += 7.0
        kept.step()


def test_a_step_is_followed_by_a_rest_in_proportion_while_others_go_first(time):
    stepped(time, 0.5, 0.1)

    assert time.slept == pytest.approx(REST_TIMES * 0.6)


def test_nobody_rests_when_nobody_else_is_to_go_first(time):
    stepped(time, 0.5, 0.1, gives_way=lambda: False)

    assert time.slept == 0


def test_a_rest_ends_soon_after_others_need_no_more(time):
    stepped(time, 10.0, gives_way=lambda: time.now < 118.0)

    assert 1.0 <= time.slept <= 1.0 + 2 * LOOK_AGAIN_SECONDS


def test_a_rest_ends_soon_after_the_merge_is_over(time):
    stepped(time, 10.0, is_over=lambda: time.now >= 118.0)

    assert 1.0 <= time.slept <= 1.0 + 2 * LOOK_AGAIN_SECONDS
