"""Work that another thread does: who takes it back does so once, and for good."""

from __future__ import annotations

import pytest

from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.errand import Errand, send
from mitoframe.engine.parts import SCAN_LANE


def test_what_was_withdrawn_stays_so_however_often_that_is_asked_and_is_not_done() -> None:
    errand: Errand[int] = Errand()
    done: list[int] = []

    assert [errand.withdraw(), errand.withdraw()] == [True, True]

    errand.run(lambda: done.append(1) or 1)
    assert not done
    assert not errand.begin()


def test_what_was_begun_is_not_withdrawn_and_not_begun_again() -> None:
    errand: Errand[int] = Errand()

    assert [errand.begin(), errand.begin()] == [True, False]
    assert not errand.withdraw()
    assert errand.is_begun


def test_what_went_wrong_is_told_as_a_value_or_raised_as_is_asked() -> None:
    def fails() -> int:
        raise ValueError("no")

    errand = send(InlineScheduler(), SCAN_LANE, fails)

    assert isinstance(errand.failure(), ValueError)
    with pytest.raises(ValueError, match="no"):
        errand.result()
    assert send(InlineScheduler(), SCAN_LANE, lambda: 1).failure() is None
