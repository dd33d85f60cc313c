"""Kills a real process at every file-system effect of every scenario, and reads what is left.

Syncs are no effects here: what a process leaves that is killed before one is what it leaves if it is killed after it,
when more has to be there.

Run as a program, before any thread has started: each attempt is a fork that runs the scenario on a real folder and gets
SIGKILL at the n-th effect (a write counts twice: before it and half-way). What was begun and acknowledged comes through
a pipe. Another process opens the folder, twice, and compares with brute force. For a sample of the points, the recovery
itself is killed at each of its effects, and recovered again. Prints one line of JSON.

Most of the time goes into memory: what a child touches is copied for it, and after each fork the kernel maps anew what
its parent touches. So whoever forks does nothing else; but it has run a scenario once, so that children find loaded
what they need. One that Polars has no part in: its threads would be missing in each child, which would wait for them.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
from judge import check, check_readable, opened
from operations import Place
from scenarios import SCENARIOS, Progress, Scenario

from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.failpoints import CRASH_POINTS, watching
from mitoframe.testing.vfs_faults import MUTATIONS, KillVfs
from mitoframe.testing.warm import warm_up

STARTED, ACKNOWLEDGED, REACHED = 1, 2, 3
EFFECTS = MUTATIONS - {"sync", "sync_dir"}
THOROUGH_EVERY = 4
READ_EVERY = 10
WARMING = "flushes"
ALIKE = frozenset({"indexes", "altering columns"})
"""The longest scenarios, whose steps do much the same; like recoveries they may be thinned."""
THIN_STRIDE = 3
"""Odd, so that it falls out of step with effects that come in twos and fours."""
NAMED_MIN = 4
"""How often each named point is met, where the scenarios of one shard come by it so often."""
_RECORD = struct.Struct("<BI")
_POINTS = tuple(CRASH_POINTS)

Told = list[tuple[int, int]]
Work = Callable[[int], None]
"""What a child does, given the end of the pipe that it tells through."""


class Telling(Progress):
    """Tells the parent how far it has come."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe

    def start(self) -> None:
        os.write(self._pipe, _RECORD.pack(STARTED, 0))

    def acknowledge(self) -> None:
        os.write(self._pipe, _RECORD.pack(ACKNOWLEDGED, 0))


def progress_of(told: Told) -> Progress:
    """Return how far a child had come by what it told."""
    kinds = [kind for kind, _ in told if kind != REACHED]
    return Progress(acked=kinds.count(ACKNOWLEDGED), under_way=kinds[-1:] == [STARTED])


def kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL returns to nobody")


def in_child(work: Work) -> tuple[bool, Told]:
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


def place_of(folder: Path, kill_at: int = 0) -> Place:
    """Return the store in a folder; at that effect, counted from 1, its process is killed."""
    vfs = OsVfs(str(folder))
    return Place(KillVfs(vfs, kill_at, kill_self, kinds=EFFECTS) if kill_at else vfs)


def preparation(scenario: Scenario, folder: Path) -> Work:
    return lambda _: scenario.prepare(place_of(folder))


def scenario_work(scenario: Scenario, folder: Path, kill_at: int) -> Work:
    return lambda pipe: scenario.run(place_of(folder, kill_at), Telling(pipe))


def recovery_work(scenario: Scenario, folder: Path, kill_at: int) -> Work:
    """Open, flush every table, collect what can be, and close."""

    def work(_: int) -> None:
        with opened(place_of(folder, kill_at), scenario.config) as session:
            for entry in session.connection.catalog.tables():
                session.engine.flush(entry.regions[0])
            session.engine.maintain()

    return work


def watched_work(scenario: Scenario, folder: Path) -> Work:
    """Tell every named crash point that is reached."""

    def work(pipe: int) -> None:
        with watching(lambda name: _tell_point(pipe, name)):
            scenario.run(place_of(folder), Telling(pipe))

    return work


def _tell_point(pipe: int, name: str) -> None:
    os.write(pipe, _RECORD.pack(REACHED, _POINTS.index(name)))


def point_work(scenario: Scenario, folder: Path, point: str, occurrence: int) -> Work:
    """Kill at the n-th time that a named crash point is reached."""
    left = count(occurrence - 1, -1)

    def reached(name: str) -> None:
        if name == point and next(left) == 0:
            kill_self()

    def work(pipe: int) -> None:
        with watching(reached):
            scenario.run(place_of(folder), Telling(pipe))

    return work


class Judge:
    """A process beside this one that says whether a store keeps its promises. It is not forked, and need not wait for
    the kernel whenever it touches something.
    """

    def __init__(self) -> None:
        (reading, self._asking), (self._hearing, writing) = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(reading)
            os.close(writing)
            return
        os.close(self._asking)
        os.close(self._hearing)
        try:
            with open(reading, encoding="utf-8") as questions:
                for question in questions:
                    look(**json.loads(question))
                    os.write(writing, b"+")
        except BaseException:  # noqa: BLE001 - a child must not return into the parent's code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def ask(self, **question: object) -> None:
        """Call `look` there. Raises AssertionError if that fails; its traceback has been printed."""
        os.write(self._asking, json.dumps(question).encode() + b"\n")
        assert os.read(self._hearing, 1), "a store does not keep its promises"

    def close(self) -> None:
        os.close(self._asking)
        os.waitpid(self._pid, 0)


def look(*, name: str, folder: str, acked: int, under_way: bool, looked: int) -> None:
    """Raise AssertionError if the store in a folder is not what a scenario may leave that came so far."""
    scenario, place = SCENARIOS[name], place_of(Path(folder))
    allowed = scenario.allowed_after_crash(Progress(acked=acked, under_way=under_way))
    if looked % READ_EVERY == 0:
        check_readable(place, scenario, allowed)
    check(place, scenario, allowed, thorough=looked % THOROUGH_EVERY == 0)


def copied(source: Path, target: Path) -> None:
    """Make a folder as another one is, whatever it was before."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=shutil.copyfile)


class Harness:
    def __init__(self, root: Path, judge: Judge, *, double_every: int, thin: bool) -> None:
        self.root = root
        self.judge = judge
        self.double_every = double_every
        self.stride_alike = THIN_STRIDE if thin else 1
        self.points = 0
        self.double_points = 0
        self.named: Counter[str] = Counter()

    def warm_up(self) -> None:
        scenario = self.prepare(WARMING)
        scenario.run(place_of(next(self.folders())), Progress())
        gc.collect()
        gc.freeze()  # A collection in a child would touch, and so copy, everything it shares with the parent.

    def prepare(self, name: str) -> Scenario:
        """Make the store that a scenario begins with."""
        base = self.root / "base"
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir()
        in_child(preparation(SCENARIOS[name], base))
        return SCENARIOS[name]

    def folders(self) -> Iterator[Path]:
        """Yield fresh copies of the prepared store, for ever."""
        while True:
            copied(self.root / "base", self.root / "work")
            yield self.root / "work"

    def look(self, name: str, folder: Path, progress: Progress) -> None:
        looked = self.points + self.double_points
        self.judge.ask(name=name, folder=str(folder), acked=progress.acked, under_way=progress.under_way, looked=looked)

    def kill_everywhere(self, name: str) -> None:
        scenario, stride = self.prepare(name), self.stride_alike if name in ALIKE else 1
        for number, folder in enumerate(self.folders()):
            kill_at = 1 + number * stride
            survived, told = in_child(scenario_work(scenario, folder, kill_at))
            if survived:
                return
            self.points += 1
            if self.points % self.double_every == 0:
                self.kill_recovery(name, folder, progress_of(told))
            else:
                self.look(name, folder, progress_of(told))

    def kill_recovery(self, name: str, folder: Path, progress: Progress) -> None:
        killed = self.root / "killed"
        copied(folder, killed)
        first = 1 + self.points // self.double_every % self.stride_alike
        for kill_at in count(first, self.stride_alike):
            copied(killed, folder)
            survived, _ = in_child(recovery_work(SCENARIOS[name], folder, kill_at))
            self.double_points += not survived
            self.look(name, folder, progress)
            if survived:
                return

    def kill_at_named_points(self, name: str) -> None:
        """Kill where each point is reached for the first and for the last time, if that was not done often enough.
        Requires: the scenario was prepared.
        """
        scenario, folders = SCENARIOS[name], self.folders()
        _, told = in_child(watched_work(scenario, next(folders)))
        for number, times in Counter(number for kind, number in told if kind == REACHED).items():
            for occurrence in {1, times} if self.named[_POINTS[number]] < NAMED_MIN else ():
                folder = next(folders)
                survived, told = in_child(point_work(scenario, folder, _POINTS[number], occurrence))
                assert not survived, f"{_POINTS[number]} was not reached again"
                self.points += 1
                self.named[_POINTS[number]] += 1
                self.look(name, folder, progress_of(told))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--thin", action="store_true", help=f"where effects are alike, kill at every {THIN_STRIDE}rd")
    parser.add_argument("--double-every", type=int, default=45, help="kill the recovery of every n-th point as well")
    parser.add_argument("--shard", type=int, default=0, help="which of the shards this is")
    parser.add_argument("--shards", type=int, default=1, help="into how many the scenarios are divided")
    arguments = parser.parse_args()
    logging.getLogger("mitoframe").setLevel(logging.ERROR)
    pa.set_cpu_count(1)
    warm_up()
    judge = Judge()
    # In memory where that exists: a killed process loses nothing that it gave to the kernel, on any file system.
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as root:
        harness = Harness(Path(root), judge, double_every=arguments.double_every, thin=arguments.thin)
        harness.warm_up()
        for name in list(SCENARIOS)[arguments.shard :: arguments.shards]:
            try:
                harness.kill_everywhere(name)
                harness.kill_at_named_points(name)
            except BaseException as error:
                error.add_note(f"in scenario {name!r}")
                raise
    judge.close()
    print(json.dumps({"points": harness.points, "double_points": harness.double_points, "named": harness.named}))


if __name__ == "__main__":
    main()
