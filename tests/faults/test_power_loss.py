"""The power goes at any moment: what was synced is there, what was not is there whole or not at all (faults.md T3).

Each scenario runs once, on a file system in memory. Before every effect, images are taken that a disk may hold if the
power fails there: nothing unsynced survived, everything did, or a random part did, with blocks torn and names lost one
by one; by day one of these, in turn. Images that are equal at the same step of the scenario are recovered once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
import pytest
from expected import EMPTY, State, at_snapshot, shown
from judge import check, files_of, observed, opened
from operations import Create, Flush, LastingMeta, Operation, Place, Session, Snapshot, Write
from scenarios import CONFIG, SCENARIOS, Prepared, Progress, Scenario

from mitoframe.model.errors import CorruptionError
from mitoframe.testing.vfs_faults import ErrorVfs, Fault
from mitoframe.testing.vfs_faults import Operation as Call
from mitoframe.testing.vfs_memory import Keep, MemoryVfs

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
RANDOM_IMAGES = 60
THOROUGH_EVERY = 1 if NIGHTLY else 4


@dataclass(slots=True)
class PowerLosses:
    """Called before every effect of a scenario: recovers what a power loss there may leave."""

    scenario: Scenario
    disk: MemoryVfs
    meta: LastingMeta
    progress: Progress = field(default_factory=Progress)
    effects: int = 0
    seen: set[bytes] = field(default_factory=set)

    def __call__(self, number: int, call: Call) -> Fault | None:
        self.look(number)
        return None

    def look(self, number: int) -> None:
        self.effects = number
        for image in self._images(number):
            name = self._name(image)
            if name in self.seen:
                continue
            self.seen.add(name)
            allowed = self.scenario.allowed_after_crash(self.progress)
            thorough = len(self.seen) % THOROUGH_EVERY == 0
            check(Place(image, self.meta.copy()), self.scenario, allowed, thorough=thorough)

    def _images(self, number: int) -> Iterator[MemoryVfs]:
        if NIGHTLY or number % 5 == 0:
            yield self.disk.crash(keep="none")
        if NIGHTLY or number % 5 == 2:
            yield self.disk.crash(keep="all")
        for nth in range(RANDOM_IMAGES if NIGHTLY else number % 5 in (1, 3, 4)):
            yield self.disk.crash(np.random.default_rng([number, nth]), keep="random")

    def _name(self, image: MemoryVfs) -> bytes:
        digest = blake2b(repr((self.progress.acked, self.progress.under_way)).encode(), digest_size=16)
        for path in sorted(files_of(image)):
            digest.update(path.encode())
            digest.update(blake2b(image.read(path)).digest())
        return digest.digest()


@pytest.mark.timeout(14_400 if NIGHTLY else 300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_acknowledged_row_is_lost(name: str) -> None:
    scenario = SCENARIOS[name]
    disk, meta = Prepared(scenario).copy()
    losses = PowerLosses(scenario, disk, meta)

    scenario.run(Place(ErrorVfs(disk, losses), meta), losses.progress)
    losses.look(losses.effects + 1)

    assert losses.progress.acked == len(scenario.operations) + 1
    assert len(losses.seen) > losses.effects / 2, "less than one image for every other effect"


def written(count: int) -> State:
    """Return the state after so many writes."""
    operations: list[Operation] = [Create(), *(Write(number) for number in range(count))]
    state = EMPTY
    for operation in operations:
        state = operation.outcomes(state)[-1]
    return state


@pytest.mark.parametrize("keep", ["none", "random"])
@pytest.mark.parametrize("flush_after", [1, 3, 5])
def test_a_log_that_is_never_synced_loses_only_its_end_and_never_a_later_write(keep: Keep, flush_after: int) -> None:
    disk, meta = MemoryVfs(), LastingMeta()
    unsynced = replace(CONFIG, sync="never", wal_segment_size_bytes=1_000_000)
    session = Session(Place(disk, meta), unsynced)
    Create().run(session)
    for number in range(8):
        Write(number).run(session)
        if number == flush_after:
            Flush().run(session)

    image = Place(disk.crash(np.random.default_rng(flush_after), keep=keep), meta)

    with opened(image, unsynced) as session:
        found = observed(session)
        survivors = [count for count in range(flush_after + 1, 9) if shown(written(count)) == found]
        assert survivors, "what was flushed is there, and of the rest a beginning"
        state = written(survivors[0])
        for number in range(20, 22):
            Write(number).run(session)
            state = Write(number).outcomes(state)[-1]
    with opened(image, unsynced) as session:
        assert observed(session) == shown(state)


@pytest.mark.parametrize("keep", ["none", "random"])
@pytest.mark.parametrize("grace_ms", [0, 1], ids=["flushed for it", "in the log"])
def test_what_a_snapshot_has_is_not_lost_where_the_log_is_never_synced(keep: Keep, grace_ms: int) -> None:
    disk, meta = MemoryVfs(), LastingMeta()
    unsynced = replace(CONFIG, sync="never", wal_segment_size_bytes=1_000_000, gc_grace_ms=grace_ms)
    session = Session(Place(disk, meta), unsynced)
    for operation in (Create(), Write(0), Write(1), Snapshot("p"), Write(2)):
        operation.run(session)

    image = Place(disk.crash(np.random.default_rng(1), keep=keep), meta)

    with opened(image, unsynced) as session:
        found = observed(session)
        then = found.pop(at_snapshot("cpu", "p"))
        assert then == shown(written(2))["cpu"]
        assert found in [shown(written(2)), shown(written(3))]


def test_a_log_that_ends_below_what_was_flushed_is_refused() -> None:
    place = Place(MemoryVfs(), LastingMeta())
    with opened(place, CONFIG) as session:
        for operation in (Create(), Write(0), Write(1), Write(2), Flush()):
            operation.run(session)

    for name in place.vfs.list("wal"):
        place.vfs.unlink(f"wal/{name}")

    with opened(place, CONFIG) as session, pytest.raises(CorruptionError, match=r"log.*ends with entry 0.*manifest.*3"):
        session.engine.region(session.region("cpu"))
