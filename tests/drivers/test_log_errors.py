"""The log when the operating system says no: at every operation, once and for ever."""

from __future__ import annotations

import errno
import itertools

import pytest
from log_scenarios import History, entries_of, live_through_everything, open_log

from mitoframe.drivers import log_file
from mitoframe.model.errors import DiskFullError, MitoError, PoisonedError, UnavailableError, UnknownOutcomeError
from mitoframe.model.ids import EntryId, RegionId
from mitoframe.testing.vfs_faults import ErrorVfs, FailAt, Fault
from mitoframe.testing.vfs_memory import MemoryVfs

NUMBERS = [errno.EIO, errno.ENOSPC, errno.EDQUOT]


class FailsWhere:
    """Fails operations of one kind while it is switched on."""

    def __init__(self, kind, number, *, short=False):
        self.kind, self.fault, self.on = kind, Fault(number, short), False

    def __call__(self, number, operation):
        return self.fault if self.on and operation.kind == self.kind else None


def error_of(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except MitoError as error:
        return error


def append_and_sync(log, payload):
    log.append([(RegionId(1), [payload])])
    log.sync()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("short", [False, True])
def test_an_error_at_any_operation_is_typed_and_loses_nothing(number, for_ever, short):
    for point in itertools.count(1):
        disk = MemoryVfs()
        faulty = ErrorVfs(disk, FailAt(point, number, for_ever=for_ever, short=short))
        history = History()

        error = error_of(live_through_everything, faulty, history)
        assert error is None or (isinstance(error, UnavailableError) and error.__cause__.errno == number)

        history.check_and_go_on(disk.killed())
        history.check_and_go_on(disk.crash())
        if faulty.operations < point:
            break
    assert point > 50, "the scenario has shrunk"


@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_while_reading_at_open_is_typed_and_changes_nothing(number):
    disk = MemoryVfs()
    log = open_log(disk)
    log.append([(RegionId(1), [b"a"])])
    log.close()

    for point in itertools.count(1):
        faulty = ErrorVfs(disk, FailAt(point, number), kinds={"list", "read", "stat", "append"})
        error = error_of(open_log, faulty, read_only=True)
        assert isinstance(error, UnavailableError | None)
        if faulty.operations < point:
            break

    assert point > 3
    assert entries_of(open_log(disk)) == {1: (1, b"a")}


@pytest.mark.parametrize("kind", ["write", "sync"])
@pytest.mark.parametrize("short", [False, True])
def test_an_io_error_poisons_the_log_and_the_first_cause_stays_attached(kind, short):
    disk = MemoryVfs()
    rule = FailsWhere(kind, errno.EIO, short=short)
    faulty = ErrorVfs(disk, rule)
    log = open_log(faulty)
    log.append([(RegionId(1), [b"a"])])
    log.sync()

    rule.on = True
    with pytest.raises(UnknownOutcomeError) as first:
        append_and_sync(log, b"b")
    rule.on = False
    operations = faulty.operations

    for call in (lambda: log.append([(RegionId(1), [b"c"])]), log.sync, lambda: log.obsolete(RegionId(1), EntryId(1))):
        with pytest.raises(PoisonedError) as later:
            call()
        assert later.value.__cause__ is first.value.__cause__
    assert entries_of(log)[1] == (1, b"a")
    log.close()
    assert faulty.operations == operations, "a poisoned log touched its files"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_undone_and_writing_resumes_without_reopening(number):
    disk = MemoryVfs()
    rule = FailsWhere("write", number, short=True)
    log = open_log(ErrorVfs(disk, rule))
    log.append([(RegionId(1), [b"a"])])

    rule.on = True
    for _ in range(2):
        with pytest.raises(DiskFullError, match="Free some space"):
            log.append([(RegionId(1), [b"b"]), (RegionId(2), [b"c"])])
        assert log.last_id() == 1
        assert entries_of(log) == {1: (1, b"a")}
    rule.on = False

    assert log.append([(RegionId(2), [b"d"])]) == 2
    log.sync()
    assert entries_of(log) == {1: (1, b"a"), 2: (2, b"d")} == entries_of(open_log(disk.crash()))


class FullAt:
    """Has no room from the n-th operation on, until it is switched off."""

    def __init__(self, point, number, *, short):
        self.fault, self.left, self.on = Fault(number, short), point, False

    def __call__(self, number, operation):
        if not self.on:
            return None
        self.left -= 1
        takes_room = operation.kind in ("create", "write", "rename") or operation.path.endswith(".tmp")
        return self.fault if self.left <= 0 and takes_room and operation.kind != "unlink" else None


RECORDS = [(RegionId(1), [b"head" * 12, b"key", b"rows" * 40]), (RegionId(2), [b"", b"more" * 9])]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("segment_size_bytes", "making"), [(10_000, 0), (100, 4)], ids=["same segment", "roll"])
@pytest.mark.parametrize(("gathered_bytes_max", "writes"), [(1000, 1), (100, 3), (0, 6)])
def test_a_disk_that_fills_at_any_point_of_an_append_takes_the_records_back_and_goes_on(
    number, short, segment_size_bytes, making, gathered_bytes_max, writes, monkeypatch
):
    """The points are the writes of two records; before them, where a segment is made, its file, header and name."""
    monkeypatch.setattr(log_file, "GATHERED_BYTES_MAX", gathered_bytes_max)
    points, refused = making + writes, 0
    for point in range(1, points + 1):
        disk = MemoryVfs()
        rule = FullAt(point, number, short=short)
        log = open_log(ErrorVfs(disk, rule), segment_size_bytes=segment_size_bytes)
        log.append([(RegionId(1), [b"a" * 100])])
        log.sync()

        rule.on = True
        for _ in range(2):
            error = error_of(log.append, RECORDS)
            assert isinstance(error, DiskFullError), f"point {point}: {error!r}"
            refused += 1
            assert error.__cause__.errno == number
            assert log.last_id() == 1
            assert entries_of(log) == {1: (1, b"a" * 100)} == entries_of(open_log(disk.killed()))
        rule.on = False

        assert log.append(RECORDS) == 3
        log.sync()
        expected = {1: (1, b"a" * 100)} | {n: (region, b"".join(parts)) for n, (region, parts) in enumerate(RECORDS, 2)}
        assert entries_of(log) == expected == entries_of(open_log(disk.crash()))
        log.close()
        assert entries_of(open_log(disk, recovery="strict")) == expected

    assert refused == 2 * points


def test_a_full_disk_while_making_a_segment_leaves_the_old_one_in_use():
    disk = MemoryVfs()
    rule = FailsWhere("create", errno.ENOSPC)
    log = open_log(ErrorVfs(disk, rule), segment_size_bytes=100)
    log.append([(RegionId(1), [b"a"])])

    rule.on = True
    with pytest.raises(DiskFullError):
        log.append([(RegionId(1), [b"b"])])
    rule.on = False

    assert log.append([(RegionId(1), [b"c"])]) == 2
    assert entries_of(log) == {1: (1, b"a"), 2: (1, b"c")}


def test_a_full_disk_that_cannot_be_undone_poisons():
    disk = MemoryVfs()
    full = FailsWhere("write", errno.ENOSPC)
    stuck = FailsWhere("truncate", errno.EIO)
    log = open_log(ErrorVfs(ErrorVfs(disk, full), stuck))
    log.append([(RegionId(1), [b"a"])])

    full.on = stuck.on = True
    with pytest.raises(UnknownOutcomeError):
        log.append([(RegionId(1), [b"b"])])
    full.on = stuck.on = False

    with pytest.raises(PoisonedError) as caught:
        log.append([(RegionId(1), [b"b"])])
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_a_full_disk_does_not_keep_a_store_from_opening_closing_or_giving_back():
    disk = MemoryVfs()
    log = open_log(disk)
    log.append([(RegionId(1), [b"x" * 50_000])])
    log.sync()
    killed = disk.killed()
    rule = FailsWhere("write", errno.ENOSPC)
    rule.on = True

    reopened = open_log(ErrorVfs(killed, rule))
    reopened.obsolete(RegionId(1), EntryId(1))
    reopened.close()

    assert open_log(killed).last_id() == 1


class Interrupted:
    """Raises KeyboardInterrupt at a write, as Ctrl-C does, with half of it done."""

    def __init__(self, inner):
        self.inner, self.on = inner, False

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def append(self, path):
        outer, file = self, self.inner.append(path)

        class File:
            def __getattr__(self, name):
                return getattr(file, name)

            def write(self, data):
                if outer.on:
                    file.write(bytes(data)[: len(bytes(data)) // 2])
                    raise KeyboardInterrupt
                file.write(data)

        return File()


def test_an_interruption_is_undone_and_the_log_goes_on():
    disk = MemoryVfs()
    vfs = Interrupted(disk)
    log = open_log(vfs)
    log.append([(RegionId(1), [b"a"])])

    vfs.on = True
    with pytest.raises(KeyboardInterrupt):
        log.append([(RegionId(1), [b"b"])])
    vfs.on = False

    assert log.append([(RegionId(1), [b"c"])]) == 2
    log.close()
    assert entries_of(open_log(disk)) == {1: (1, b"a"), 2: (1, b"c")}


def test_an_error_while_removing_a_segment_changes_nothing_and_can_be_retried():
    disk = MemoryVfs()
    rule = FailsWhere("unlink", errno.EIO)
    log = open_log(ErrorVfs(disk, rule), segment_size_bytes=100)
    for payload in (b"a", b"b"):
        log.append([(RegionId(1), [payload])])
    before = disk.list("wal")

    rule.on = True
    with pytest.raises(UnavailableError):
        log.obsolete(RegionId(1), EntryId(1))
    assert disk.list("wal") == before
    rule.on = False
    log.obsolete(RegionId(1), EntryId(1))

    assert len(disk.list("wal")) == len(before) - 1
    assert log.append([(RegionId(1), [b"c"])]) == 3
