"""The log after a kill at every effect, and after a power loss there; also while it recovers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from log_scenarios import History, Killed, die, live_through_everything, open_log

from mitoframe.drivers import log_file
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.testing.vfs_faults import KillVfs
from mitoframe.testing.vfs_memory import MemoryVfs

SEEDS = 20


@pytest.fixture(autouse=True, params=[log_file.GATHERED_BYTES_MAX, 0], ids=["gathered", "piece by piece"])
def gathered(request, monkeypatch):
    monkeypatch.setattr(log_file, "GATHERED_BYTES_MAX", request.param)


def run_and_kill(vfs, kill_at: int) -> tuple[History, bool]:
    """Return what happened, and whether the process was killed at all."""
    history = History()
    try:
        live_through_everything(KillVfs(vfs, kill_at, die), history)
    except Killed:
        return history, True
    return history, False


def killed_runs():
    for kill_at in itertools.count(1):
        vfs = MemoryVfs()
        history, was_killed = run_and_kill(vfs, kill_at)
        yield vfs, history
        if not was_killed:
            return


def power_losses(vfs: MemoryVfs, seeds: int = SEEDS):
    yield vfs.crash()
    yield vfs.crash(keep="all")
    for seed in range(seeds):
        yield vfs.crash(np.random.default_rng(seed), keep="random")


def test_a_killed_process_loses_no_acknowledged_entry():
    points = 0
    for vfs, history in killed_runs():
        history.check_and_go_on(vfs.killed())
        points += 1

    assert points > 70, "the scenario has shrunk"


def test_a_killed_process_loses_no_acknowledged_entry_on_a_real_disk(tmp_path):
    for kill_at in itertools.count(1, step=4):
        vfs = OsVfs(tmp_path / str(kill_at))
        history, was_killed = run_and_kill(vfs, kill_at)

        history.check_and_go_on(vfs)

        if not was_killed:
            break


def test_a_power_loss_loses_no_acknowledged_entry_and_never_refuses_to_open():
    images = 0
    for vfs, history in killed_runs():
        for image in power_losses(vfs):
            history.check_and_go_on(image)
            images += 1

    assert images > 1_500, "the scenario has shrunk"


def write_groups(vfs, history):
    """Groups of records larger than a block, each group synced, so that a power loss tears between whole records."""
    log = open_log(vfs, segment_size_bytes=100_000)
    for group in range(4):
        for number in range(3):
            history.append(log, (1, bytes([group]) * 300), (2, bytes([number]) * 700))
        history.sync(log)
    for number in range(6):
        history.append(log, (1, bytes([number]) * 450))
    log.close()


def test_a_power_loss_between_records_of_one_group_is_not_taken_for_damage():
    for kill_at in itertools.count(1):
        vfs, history = MemoryVfs(), History()
        try:
            write_groups(KillVfs(vfs, kill_at, die), history)
        except Killed:
            pass
        else:
            break
        for image in power_losses(vfs, seeds=10):
            history.check_and_go_on(image)


def test_a_process_killed_while_it_recovers_loses_nothing_either():
    for number, (vfs, history) in enumerate(killed_runs()):
        if number % 4:
            continue
        starts = [vfs.killed(), *itertools.islice(power_losses(vfs, seeds=1), 3)]
        for start in starts:
            for kill_at in itertools.count(1):
                again = start.killed()
                try:
                    open_log(KillVfs(again, kill_at, die))
                except Killed:
                    history.check_and_go_on(again.killed())
                    history.check_and_go_on(again.crash(np.random.default_rng(kill_at), keep="random"))
                else:
                    break


def test_a_killed_process_followed_by_a_power_loss_of_the_next_loses_nothing():
    for vfs, history in killed_runs():
        second = vfs.killed()
        log = open_log(second)
        entry_id = log.last_id() + 1
        history.append(log, (3, b"second life"))
        history.sync(log)

        for image in power_losses(second, seeds=3):
            reopened = open_log(image)
            history.check(reopened)
            assert reopened.last_id() == entry_id


def test_recovering_twice_gives_the_same():
    for vfs, history in killed_runs():
        image = vfs.crash(np.random.default_rng(1), keep="random")
        first = open_log(image)
        second = open_log(image.killed())

        history.check(first)
        assert (first.last_id(), second.damage) == (second.last_id(), None)


@pytest.mark.parametrize("keep", ["none", "all"])
def test_a_synced_entry_survives_without_closing(keep):
    vfs = MemoryVfs()
    history = History()
    log = open_log(vfs)
    history.append(log, (1, b"kept"))
    history.sync(log)
    history.append(log, (1, b"perhaps"))

    reopened = open_log(vfs.crash(keep=keep))

    history.check(reopened)
    assert reopened.last_id() == (2 if keep == "all" else 1)
