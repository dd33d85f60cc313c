"""Memory that is lent comes back, and nobody has what another has."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from mitoframe.engine.allowance import Allowance
from mitoframe.model.errors import BusyError, ConflictError, LimitExceededError


def test_what_was_lent_comes_back_whatever_happens() -> None:
    allowance = Allowance(100, on_exhausted="fail")

    with allowance.lend(60), allowance.lend(40):
        assert allowance.taken_bytes == 100
    with pytest.raises(ValueError, match="on the way"), allowance.lend(100):
        raise ValueError("on the way")

    assert allowance.taken_bytes == 0


def test_what_is_more_than_there_ever_is_is_refused_at_once() -> None:
    allowance = Allowance(100, wait_ms=10**9)

    with pytest.raises(LimitExceededError, match="compaction_memory_limit_bytes"), allowance.lend(101):
        pass

    assert allowance.taken_bytes == 0


@pytest.mark.parametrize(("on_exhausted", "wait_ms"), [("fail", 10**9), ("wait", 1)])
def test_what_others_have_is_not_lent(on_exhausted: str, wait_ms: int) -> None:
    allowance = Allowance(100, on_exhausted=on_exhausted, wait_ms=wait_ms)  # type: ignore[arg-type]

    with allowance.lend(60):
        with pytest.raises(BusyError), allowance.lend(41):
            pass
        with allowance.lend(40):
            pass

    with allowance.lend(41):
        pass


def test_whoever_waits_gets_it_when_it_comes_back() -> None:
    allowance, has_it, may_go = Allowance(100), Event(), Event()

    def holder() -> None:
        with allowance.lend(100):
            has_it.set()
            may_go.wait(20)

    thread = Thread(target=holder)
    thread.start()
    assert has_it.wait(20)

    def asked() -> bool:
        may_go.set()
        return False

    with allowance.lend(100, asked):
        assert allowance.taken_bytes == 100
    thread.join()

    assert allowance.taken_bytes == 0


def test_whoever_is_not_wanted_any_more_does_not_wait() -> None:
    allowance = Allowance(100, wait_ms=10**9)

    with allowance.lend(100), pytest.raises(ConflictError), allowance.lend(1, lambda: True):
        pass


def test_without_a_limit_there_is_always_enough() -> None:
    allowance = Allowance(None, on_exhausted="fail")

    with allowance.lend(10**15), allowance.lend(10**15):
        pass
