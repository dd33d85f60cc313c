"""The power goes at any moment: what was synced is there, what was not is there whole or not at all (faults.md T3).

Each scenario runs on a file system in memory that is stopped at the n-th effect. From there, several images that a disk
may hold are recovered: nothing unsynced survived, everything did, or a random part did, with blocks torn and names lost
one by one.
"""

from __future__ import annotations

import os
from typing import NoReturn

import numpy as np
import pytest
from scenarios import SCENARIOS, History, Scenario, check, recovered_rows

from mitoframe.testing.vfs_faults import KillVfs
from mitoframe.testing.vfs_memory import MemoryVfs

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
STRIDE = 1 if NIGHTLY else 9
RANDOM_IMAGES = 40 if NIGHTLY else 3


class PowerLossError(BaseException):
    """Nobody catches it: the machine is off."""


def pull_the_plug() -> NoReturn:
    raise PowerLossError


def run_until(scenario: Scenario, disk: MemoryVfs, kill_at: int) -> History | None:
    """Run a scenario until its n-th effect; None if it ended before."""
    history = History(acked=list(range(scenario.prepared)), under_way=None)
    under_way: list[int] = []
    try:
        scenario.run(KillVfs(disk, kill_at, pull_the_plug), under_way.append, history.acked.append)
    except PowerLossError:
        last = under_way[-1] if under_way and under_way[-1] not in history.acked else None
        return History(acked=history.acked, under_way=last)
    return None


def images(disk: MemoryVfs, seed: int) -> list[MemoryVfs]:
    random = [disk.crash(np.random.default_rng([seed, n]), keep="random") for n in range(RANDOM_IMAGES)]
    return [disk.crash(keep="none"), disk.crash(keep="all"), *random]


@pytest.mark.timeout(14_400 if NIGHTLY else 300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_acknowledged_row_is_lost(name: str) -> None:
    scenario = SCENARIOS[name]
    base = MemoryVfs()
    scenario.prepare(base)
    points = 0

    for kill_at in range(1, 10_000, STRIDE):
        disk = base.killed()
        history = run_until(scenario, disk, kill_at)
        if history is None:
            break
        points += 1
        for image in images(disk, kill_at):
            check(history, recovered_rows(image))

    assert points >= 5
