"""The power goes at any moment: what was synced is there, what was not is there whole or not at all (faults.md T3).

Each scenario runs on a file system in memory that is stopped at the n-th effect. From there, several images that a disk
may hold are recovered: nothing unsynced survived, everything did, or a random part did, with blocks torn and names lost
one by one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pytest
from scenarios import (
    CONFIG,
    REGION,
    SCENARIOS,
    History,
    Scenario,
    check,
    connect,
    create,
    recovered_rows,
    state_after,
    visible,
    write,
)

from mitoframe.model.errors import CorruptionError
from mitoframe.testing.vfs_faults import KillVfs
from mitoframe.testing.vfs_memory import Keep, MemoryVfs

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


@pytest.mark.parametrize("keep", ["none", "random"])
@pytest.mark.parametrize("flush_after", [1, 3, 5])
def test_a_log_that_is_never_synced_loses_only_its_end_and_never_a_later_write(keep: Keep, flush_after: int) -> None:
    disk = MemoryVfs()
    unsynced = replace(CONFIG, sync="never", wal_segment_size_bytes=1_000_000)
    connection = connect(disk, unsynced)
    create(connection)
    for number in range(8):
        write(connection, number)
        if number == flush_after:
            connection.engine.flush(REGION)
    written = [state_after(list(range(count))) for count in range(9)]

    image = disk.crash(np.random.default_rng(flush_after), keep=keep)

    connection = connect(image, unsynced)
    found = visible(connection)
    assert found in written[flush_after + 1 :], "what was flushed is there, and of the rest a beginning"
    survived = list(range(written.index(found)))
    for number in range(20, 22):
        write(connection, number)
    connection.close()
    assert recovered_rows(image) == state_after([*survived, 20, 21])


def test_a_log_that_ends_below_what_was_flushed_is_refused() -> None:
    disk = MemoryVfs()
    connection = connect(disk)
    create(connection)
    for number in range(3):
        write(connection, number)
    connection.engine.flush(REGION)
    connection.close()

    for name in disk.list("wal"):
        disk.unlink(f"wal/{name}")

    connection = connect(disk)
    with pytest.raises(CorruptionError, match=r"log.*ends with entry 0.*manifest.*3"):
        connection.engine.region(REGION)
    connection.close()
