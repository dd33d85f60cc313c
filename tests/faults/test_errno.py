"""The disk fails at any call: a typed error, no acknowledged row lost, and the store opens again (faults.md T4)."""

from __future__ import annotations

import errno
import os

import pytest
from scenarios import (
    CONFIG,
    REGION,
    SCENARIOS,
    History,
    check,
    connect,
    create,
    recovered_rows,
    state_after,
    visible,
    write,
)

from mitoframe.model.errors import DiskFullError, MitoError
from mitoframe.testing.vfs_faults import ErrorVfs, FailAt
from mitoframe.testing.vfs_memory import MemoryVfs

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
STRIDE = 1 if NIGHTLY else 11


def with_fault(name: str, base: MemoryVfs, fault: FailAt) -> tuple[MemoryVfs, History, MitoError | None, int]:
    """Run a scenario with a fault; return the disk, what was acknowledged, the error, and the operations counted."""
    disk = base.killed()
    faulty = ErrorVfs(disk, fault)
    acked, started = list(range(SCENARIOS[name].prepared)), []
    error = None
    try:
        SCENARIOS[name].run(faulty, started.append, acked.append)
    except MitoError as raised:
        error = raised
    under_way = started[-1] if started and started[-1] not in acked else None
    return disk.killed(), History(acked=acked, under_way=under_way), error, faulty.operations


@pytest.mark.timeout(14_400 if NIGHTLY else 300)
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_failing_call_loses_nothing(name: str, number: int, for_ever: bool) -> None:
    base = MemoryVfs()
    SCENARIOS[name].prepare(base)
    failures = 0

    for fail_at in range(1, 10_000, STRIDE):
        short = fail_at % 2 == 0
        disk, history, error, operations = with_fault(
            name, base, FailAt(fail_at, number, for_ever=for_ever, short=short)
        )
        if operations < fail_at:
            break
        failures += error is not None
        check(history, recovered_rows(disk))

    assert failures, "no fault was ever told"


def test_a_full_disk_refuses_a_write_and_takes_it_when_there_is_room() -> None:
    for fail_at in range(1, 12):
        disk = MemoryVfs()
        connection = connect(disk)
        create(connection)
        write(connection, 0)
        connection.close()
        faulty = ErrorVfs(disk, FailAt(10_000, errno.ENOSPC), kinds={"write", "create"})
        connection = connect(faulty)
        connection.engine.region(REGION)
        faulty._rule = FailAt(faulty.operations + fail_at, errno.ENOSPC)
        refused: list[int] = []

        for number in range(1, 6):
            try:
                write(connection, number)
            except DiskFullError:
                refused.append(number)
                write(connection, number)

        assert visible(connection) == state_after(list(range(6)))
        connection.close()
        check(History(acked=list(range(6)), under_way=None), recovered_rows(disk))
        assert CONFIG.sync == "always"
