"""Changes that were cut short between their commit point and what follows it are finished by the next writer."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from judge import observed, opened
from operations import Create, Drop, LastingMeta, Place, Session, Write
from scenarios import CONFIG

from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.failpoints import watching
from mitoframe.model.errors import PoisonedError, TableNotFoundError, UnknownOutcomeError
from mitoframe.testing.vfs_faults import ErrorVfs, Fault
from mitoframe.testing.vfs_faults import Operation as Call
from mitoframe.testing.vfs_memory import MemoryVfs


class CutShortError(BaseException):
    """Nobody catches it."""


def stop_at(point: str, name: str) -> None:
    if name == point:
        raise CutShortError


@pytest.fixture
def half_dropped(tmp_path: Path) -> Place:
    """Return a store with two tables, one of which is dropped and still has its name."""
    place = Place(OsVfs(str(tmp_path)))
    with opened(place, CONFIG) as session:
        for operation in (Create(), Create("net"), Write(0), Write(1, "net")):
            operation.run(session)
        with pytest.raises(CutShortError), watching(lambda name: stop_at("drop.marked", name)):
            Drop().run(session)
    return place


def test_a_reader_does_not_see_a_table_that_is_half_dropped(half_dropped: Place) -> None:
    with opened(half_dropped, CONFIG, "r") as session:
        assert list(observed(session)) == ["net"]
        assert "cpu" not in session.database
        with pytest.raises(TableNotFoundError, match="net"):
            session.table("cpu")


def test_the_next_writer_finishes_the_drop_and_the_name_is_free(half_dropped: Place) -> None:
    with opened(half_dropped, CONFIG) as session:
        assert list(observed(session)) == ["net"]
        Create().run(session)
        assert observed(session)["cpu"][1] == ()


def failing_markers(number: int, call: Call) -> Fault | None:
    return Fault(errno.EIO) if call.kind == "sync_dir" and call.path == "dropped" else None


def test_a_drop_whose_outcome_is_unknown_takes_no_more_rows_that_it_may_carry_away() -> None:
    place = Place(ErrorVfs(MemoryVfs(), failing_markers), LastingMeta())
    session = Session(place, CONFIG)
    Create().run(session)
    Write(0).run(session)

    with pytest.raises(UnknownOutcomeError):
        Drop().run(session)

    with pytest.raises(PoisonedError):
        Write(1).run(session)


def test_a_name_that_may_not_be_durable_is_made_so_by_the_next_writer() -> None:
    disk, meta = MemoryVfs(), LastingMeta()
    session = Session(Place(ErrorVfs(disk, failing_markers), meta), CONFIG)
    Create().run(session)
    with pytest.raises(UnknownOutcomeError):
        Drop().run(session)
    session.close()

    with opened(Place(disk, meta), CONFIG) as session:
        assert observed(session) == {}
        after_power_loss = disk.crash(keep="none")

    assert after_power_loss.list("dropped"), "the catalog forgot the name, but the marker was not durable"
