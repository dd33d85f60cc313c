from __future__ import annotations

import pytest

from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.parts import PURGE_LANE
from mitoframe.engine.warming import Warming
from mitoframe.kernels import jit


@pytest.fixture
def prepared(monkeypatch):
    """Kernels that are not ready, and a list of what those who prepare them are told when they ask if it is over."""
    told = []
    monkeypatch.setattr(jit.Kernel, "are_ready", False)
    monkeypatch.setattr(jit, "prepare", lambda is_over: told.append(is_over()))
    return told


def test_a_single_query_loads_no_kernels(prepared):
    warming = Warming(InlineScheduler())

    warming.query_begins()

    assert prepared == []


def test_kernels_are_loaded_in_the_background_from_the_second_query_on_and_once(prepared):
    scheduler = InlineScheduler()
    warming = Warming(scheduler)

    for _ in range(4):
        warming.query_begins()

    assert prepared == [False]
    assert [(lane.lane, lane.finished) for lane in scheduler.health()] == [(PURGE_LANE, 1)]


def test_kernels_that_are_ready_are_not_loaded(prepared, monkeypatch):
    monkeypatch.setattr(jit.Kernel, "are_ready", True)
    warming = Warming(InlineScheduler())

    for _ in range(4):
        warming.query_begins()

    assert prepared == []


def test_what_is_under_way_when_it_is_stopped_is_told_so(prepared):
    warming = Warming(InlineScheduler())

    warming.stop()
    warming.query_begins()
    warming.query_begins()

    assert prepared == [True]


def test_a_query_does_not_fail_because_nothing_can_be_loaded(prepared, monkeypatch):
    broken, closed = InlineScheduler(), InlineScheduler()
    monkeypatch.setattr(jit, "prepare", lambda _: 1 / 0)
    closed.close()

    for scheduler in (broken, closed):
        warming = Warming(scheduler)
        warming.query_begins()
        warming.query_begins()

    assert [lane.failed for lane in broken.health()] == [1]
