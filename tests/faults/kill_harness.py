"""Kills a real process at every file-system effect of every scenario, and reads what is left.

Run as a program, before any thread has started: each attempt is a fork that runs the scenario on a real folder and gets
SIGKILL at the n-th effect (a write counts twice: before it and half-way). What was acknowledged comes through a pipe.
The parent opens the folder, twice, and compares with brute force. For a sample of the points, the recovery itself is
killed at each of its effects, and recovered again. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
from scenarios import REGION, SCENARIOS, History, Scenario, check, connect, recovered_rows

from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.failpoints import CRASH_POINTS, watching
from mitoframe.storage.manifest import exists
from mitoframe.testing.vfs_faults import KillVfs
from mitoframe.testing.warm import warm_up

STARTED, ACKED = 1, 2
_RECORD = struct.Struct("<BI")


def kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL returns to nobody")


def in_child(work: Callable[[int], None]) -> tuple[bool, list[tuple[int, int]]]:
    """Fork, run ``work`` with the pipe's end, and return whether it lived to the end and what it told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            work(writing)
        except BaseException as error:  # noqa: BLE001 - a child must not return into the parent's code
            sys.stderr.write(f"{error!r}\n")
            os._exit(3)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), f"the scenario failed by itself with {status}"
    return status == 0, [_RECORD.unpack_from(data, at) for at in range(0, len(data), _RECORD.size)]


def scenario_work(scenario: Scenario, folder: Path, kill_at: int) -> Callable[[int], None]:
    def work(pipe: int) -> None:
        vfs = KillVfs(OsVfs(str(folder)), kill_at, kill_self)
        scenario.run(vfs, lambda n: _tell(pipe, STARTED, n), lambda n: _tell(pipe, ACKED, n))

    return work


def recovery_work(folder: Path, kill_at: int) -> Callable[[int], None]:
    def work(_: int) -> None:
        connection = connect(KillVfs(OsVfs(str(folder)), kill_at, kill_self))
        if exists(connection.engine.store, REGION):
            connection.engine.region(REGION)
            connection.engine.flush(REGION)
        connection.close()

    return work


def point_work(scenario: Scenario, folder: Path, point: str, occurrence: int) -> Callable[[int], None]:
    """Kill at the n-th time that a named crash point is reached."""
    left = [occurrence]

    def reached(name: str) -> None:
        if name == point:
            left[0] -= 1
            if left[0] == 0:
                kill_self()

    def work(pipe: int) -> None:
        with watching(reached):
            scenario.run(OsVfs(str(folder)), lambda n: _tell(pipe, STARTED, n), lambda n: _tell(pipe, ACKED, n))

    return work


def _tell(pipe: int, kind: int, number: int) -> None:
    os.write(pipe, _RECORD.pack(kind, number))


def history_of(scenario: Scenario, told: list[tuple[int, int]]) -> History:
    acked = [*range(scenario.prepared), *(number for kind, number in told if kind == ACKED)]
    under_way = told[-1][1] if told and told[-1][0] == STARTED else None
    return History(acked=acked, under_way=under_way)


class Harness:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.points = 0
        self.double_points = 0
        self.named: dict[str, int] = {}

    def folders(self, scenario: Scenario) -> Iterator[Path]:
        """Yield fresh copies of the prepared store, for ever."""
        base = self.root / "base"
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir()
        scenario.prepare(OsVfs(str(base)))
        work = self.root / "work"
        while True:
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(base, work)
            yield work

    def kill_everywhere(self, scenario: Scenario, *, stride: int, double_every: int) -> None:
        for number, folder in enumerate(self.folders(scenario)):
            kill_at = 1 + number * stride
            survived, told = in_child(scenario_work(scenario, folder, kill_at))
            if survived:
                return
            self.points += 1
            history = history_of(scenario, told)
            if double_every and number % double_every == 0:
                self.kill_recovery(folder, history)
            else:
                check(history, recovered_rows(OsVfs(str(folder))))

    def kill_recovery(self, folder: Path, history: History) -> None:
        killed = self.root / "killed"
        shutil.rmtree(killed, ignore_errors=True)
        shutil.copytree(folder, killed)
        kill_at = 0
        survived = False
        while not survived:
            kill_at += 1
            shutil.rmtree(folder)
            shutil.copytree(killed, folder)
            survived, _ = in_child(recovery_work(folder, kill_at))
            self.double_points += not survived
            check(history, recovered_rows(OsVfs(str(folder))))

    def kill_at_named_points(self, scenario: Scenario) -> None:
        folders = self.folders(scenario)
        for point in CRASH_POINTS:
            occurrence = 0
            survived = False
            while not survived and occurrence < 3:
                occurrence += 1
                folder = next(folders)
                survived, told = in_child(point_work(scenario, folder, point, occurrence))
                if not survived:
                    self.named[point] = self.named.get(point, 0) + 1
                    check(history_of(scenario, told), recovered_rows(OsVfs(str(folder))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stride", type=int, default=1, help="kill at every n-th effect only")
    parser.add_argument("--double-every", type=int, default=80, help="kill the recovery of every n-th point as well")
    arguments = parser.parse_args()
    logging.getLogger("mitoframe").setLevel(logging.ERROR)
    pa.set_cpu_count(1)
    warm_up()
    # In memory where that exists: a killed process loses nothing that it gave to the kernel, on any file system.
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as root:
        harness = Harness(Path(root))
        for scenario in SCENARIOS.values():
            harness.kill_everywhere(scenario, stride=arguments.stride, double_every=arguments.double_every)
            harness.kill_at_named_points(scenario)
    print(json.dumps({"points": harness.points, "double_points": harness.double_points, "named": harness.named}))


if __name__ == "__main__":
    main()
