"""The disk is full in the middle of what the store does by itself: nothing is lost, it is told, and when there is room
again everything goes on without being asked (faults.md W6).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

from judge import check, check_files, check_seen, stored_files
from operations import Alter, Compact, Create, Delete, Flush, Place, Session, Write
from scenarios import HISTORY, HOURS, TAKES_ROOM, Prepared, Progress, Scenario

from mitoframe.model.errors import DiskFullError
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.testing.vfs_faults import ErrorVfs, Fault
from mitoframe.testing.vfs_faults import Operation as Call
from mitoframe.testing.vfs_memory import MemoryVfs

JOURNAL = "hook Journal.on_manifest_updated"
"""Until something else happens to the table, its journal has not stored what it has in memory."""
STRIDE = 1 if os.environ.get("MITOFRAME_NIGHTLY") else 3
FILES = (
    Create("cpu", HOURS),
    *(
        step
        for number in range(4)
        for step in (Write(number, day=number // 2), Delete(number + 4, day=number // 2), Flush())
    ),
)
TO_MERGE = Scenario(prepared=FILES, operations=(), settings={"compaction_mode": "manual"})
TO_COLLECT = Scenario(prepared=(*FILES, Compact()), operations=(), settings=HISTORY)
TO_EXPIRE = Scenario(
    prepared=(*FILES, Alter(options={"ttl": "12h"})), operations=(), settings={"compaction_mode": "manual"}
)


class Filling(ErrorVfs):
    """Has no room from one call on, until there is room again; ``refused`` says how often there was none."""

    def __init__(self, disk: MemoryVfs) -> None:
        super().__init__(disk, self._fault, kinds=TAKES_ROOM)
        self.full_from: int | None = None
        self.refused = 0

    def _fault(self, number: int, _: Call) -> Fault | None:
        if self.full_from is None or number < self.full_from:
            return None
        self.refused += 1
        return Fault(errno.ENOSPC, short=number % 2 == 0)


def filled(scenario: Scenario, **settings: Any) -> Iterator[tuple[Session, Filling, Place]]:
    """Open a prepared store again and again; the disk is full from a later call on each time, until it is never."""
    prepared = Prepared(scenario)
    config = replace(scenario.config, **settings)
    for number in count(1, STRIDE):
        disk, meta = prepared.copy()
        filling = Filling(disk)
        session = Session(Place(filling, meta), config)
        session.engine.region(session.region("cpu"))  # What is not open is not looked after.
        filling.full_from = filling.operations + number
        yield session, filling, Place(disk, meta)
        if not filling.refused:
            assert number > 1
            return


def files(session: Session) -> list[FileMeta]:
    return list(session.engine.region(session.region("cpu")).state.files.values())


def is_merged(session: Session) -> bool:
    return {file.level for file in files(session)} == {LEVEL_COMPACTED}


def is_told(session: Session) -> bool:
    """Tell whether `health` says of a lane or a region that the disk is full."""
    health = session.engine.health()
    errors = [lane.last_error for lane in health.lanes]
    errors += [error for region in health.regions for error in region.failures.values()]
    return any(isinstance(error, DiskFullError) for error in errors)


def look(session: Session, scenario: Scenario) -> None:
    """Everything is there, and so is every file that is listed."""
    check_seen(session, scenario.visible(Progress()))
    check_files(session)


def test_merging_goes_on_when_there_is_room() -> None:
    refusals = 0
    settings = {"compaction_mode": "automatic", "compaction_settle_ms": 0, "sst_size_bytes": 4_000, "gc_grace_ms": 0}

    for number, (session, filling, place) in enumerate(filled(TO_MERGE, **settings)):
        session.scheduler.tick()
        look(session, TO_MERGE)
        listed = {file.file_id for file in files(session)}
        if not is_merged(session) or stored_files(session, session.region("cpu")) != listed:
            assert is_told(session)
            refusals += 1
        filling.full_from = None
        session.scheduler.tick()

        assert is_merged(session)
        assert failures(session).keys() <= {JOURNAL}
        look(session, TO_MERGE)
        session.close()
        check(place, TO_MERGE, TO_MERGE.allowed_after_crash(Progress()), thorough=number % 4 == 0)

    assert refusals > 5


def test_deleting_goes_on_when_there_is_room() -> None:
    refusals = 0

    for session, filling, _ in filled(TO_COLLECT, gc_grace_ms=0):
        before = stored_files(session, session.region("cpu"))
        session.scheduler.tick()
        look(session, TO_COLLECT)
        if stored_files(session, session.region("cpu")) == before:
            assert is_told(session)
            refusals += 1
        filling.full_from = None
        session.scheduler.tick()

        assert stored_files(session, session.region("cpu")) == {file.file_id for file in files(session)} < before
        assert failures(session).keys() <= {JOURNAL}
        look(session, TO_COLLECT)
        session.close()

    assert refusals


def test_expiring_goes_on_when_there_is_room() -> None:
    refusals = 0

    for session, filling, _ in filled(TO_EXPIRE, gc_grace_ms=0):
        assert len(files(session)) == 4
        session.scheduler.tick()
        look(session, TO_EXPIRE)
        if len(files(session)) == 4:
            assert is_told(session)
            refusals += 1
        filling.full_from = None
        session.scheduler.tick()

        assert len(files(session)) == 2
        assert failures(session).keys() <= {JOURNAL}
        look(session, TO_EXPIRE)
        session.close()

    assert refusals


def failures(session: Session) -> dict[str, BaseException]:
    return dict(session.engine.health().regions[0].failures)
