"""The disk fails at any call: a typed error, no acknowledged row lost, and the store opens again (faults.md T4).

Every effect of every scenario is failed, in each of eight ways; by day every other one, in one of the eight, which
differs from call to call.
"""

from __future__ import annotations

import errno
import os
from itertools import count, product

import pytest
from judge import check, check_seen
from operations import Operation, Place, Reopen, Session
from scenarios import SCENARIOS, TAKES_ROOM, Prepared, Progress, Scenario

from mitoframe.model.errors import DiskFullError, MitoError
from mitoframe.testing.vfs_faults import ErrorVfs, FailAt, Fault
from mitoframe.testing.vfs_faults import Operation as Call

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
THOROUGH_EVERY = 1 if NIGHTLY else 4

ERRORS = ((errno.EIO, False), (errno.ENOSPC, False), (errno.EINTR, False), (errno.ENOSPC, True))
"""The number, and whether half of a write gets through first."""
WAYS = tuple(product(ERRORS, (False, True)))
"""An error, and whether it stays for ever."""
CALLS_WITHOUT_ROOM = 4


def is_tried(number: int) -> bool:
    """Tell whether a call is made to fail: every other one, out of step with what takes six calls again and again."""
    return NIGHTLY or (number + number // 7) % 2 == 1


def fail(scenario: Scenario, prepared: Prepared, fault: FailAt, *, thorough: bool) -> tuple[bool, bool]:
    """Run a scenario with a fault and look at what is left. Return whether it came to that, and whether it was told."""
    disk, meta = prepared.copy()
    faulty = ErrorVfs(disk, fault)
    progress = Progress()
    told = False
    try:
        scenario.run(Place(faulty, meta), progress)
    except MitoError:
        told = True
    check(Place(disk.killed(), meta), scenario, scenario.allowed_after_error(progress), thorough=thorough)
    return faulty.operations >= fault.number, told


@pytest.mark.timeout(14_400 if NIGHTLY else 300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failing_call_loses_nothing(name: str) -> None:
    scenario = SCENARIOS[name]
    prepared = Prepared(scenario)
    runs = told = 0

    for number in filter(is_tried, count(1)):
        ways = WAYS if NIGHTLY else (WAYS[runs % len(WAYS)],)
        for (error, short), for_ever in ways:
            fault = FailAt(number, error, for_ever=for_ever, short=short)
            met, was_told = fail(scenario, prepared, fault, thorough=runs % THOROUGH_EVERY == 0)
            runs, told = runs + met, told + was_told
        if not met:
            break

    assert told > runs / 2, "most faults were never told"


class FullFor:
    """Leaves no room for a few calls, from the one of that number on."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, number: int, call: Call) -> Fault | None:
        full = self.number <= number < self.number + CALLS_WITHOUT_ROOM
        return Fault(errno.ENOSPC, short=number % 2 == 0) if full else None


def insist(operation: Operation, session: Session) -> int:
    """Try until there is room, and return how often there was none."""
    for refused in range(CALLS_WITHOUT_ROOM + 1):
        try:
            operation.run(session)
        except DiskFullError:
            continue
        return refused
    raise AssertionError(f"{operation} was refused though there is room")


@pytest.mark.timeout(14_400 if NIGHTLY else 300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_full_disk_refuses_and_the_same_handle_goes_on_when_there_is_room(name: str) -> None:
    scenario = SCENARIOS[name]
    prepared = Prepared(scenario)
    refusals = 0

    for number in count(1, 1 if NIGHTLY else 5):
        disk, meta = prepared.copy()
        faulty = ErrorVfs(disk, lambda n, call: None, kinds=TAKES_ROOM)
        session = Session(Place(faulty, meta), scenario.config)
        opening = faulty.operations
        faulty._rule = FullFor(opening + number)
        progress = Progress()
        for operation in scenario.operations:
            if isinstance(operation, Reopen):
                break
            refusals += insist(operation, session)
            progress.acknowledge()
        if faulty.operations < opening + number:
            break
        check_seen(session, scenario.visible(progress))
        faulty._rule = lambda n, call: None
        session.close()
        allowed = scenario.allowed_after_error(progress)
        check(Place(disk, meta), scenario, allowed, thorough=number % 4 == 0)

    assert refusals, "the disk was never full"
