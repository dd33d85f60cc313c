"""Pins as files: what a process that died leaves, what cannot be written, locked or understood, and who is faster."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.pins_file import ATTEMPTS_MAX, FilePins
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.model.ids import ManifestVersion, RegionId
from mitoframe.ports import Vfs
from mitoframe.testing.vfs_faults import MUTATIONS, ErrorVfs, FailAt, TraceVfs
from mitoframe.testing.vfs_memory import MemoryVfs

REGION, VERSION = RegionId(1), ManifestVersion(5)


def pins_in(vfs: Vfs, seed: int = 0) -> FilePins:
    return FilePins(vfs, "readers", SeededRandomness(seed))


def test_the_files_of_a_process_that_died_go_when_somebody_asks() -> None:
    vfs = MemoryVfs()
    pins_in(vfs).hold({REGION: VERSION})
    after_death = vfs.killed()  # The kernel has freed the lock.
    assert len(after_death.list("readers")) == 2

    assert pins_in(after_death, 1).held().oldest == {}

    assert after_death.list("readers") == []
    assert pins_in(vfs, 1).held().oldest == {REGION: VERSION}


@pytest.mark.parametrize("suffix", ["lock", "json", "tmp"])
def test_whatever_a_power_loss_spares_of_a_pin_goes(suffix: str) -> None:
    vfs = MemoryVfs()
    vfs.make_dirs("readers")
    vfs.create(f"readers/{'0' * 32}.{suffix}").close()

    assert not pins_in(vfs).held().is_partial

    assert vfs.list("readers") == []


def test_a_process_that_ends_in_good_order_leaves_nothing() -> None:
    vfs = MemoryVfs()
    pins = pins_in(vfs)
    pins.hold({REGION: VERSION})

    pins.close()

    assert vfs.list("readers") == []


def test_who_only_listens_writes_nothing() -> None:
    vfs = MemoryVfs()

    assert pins_in(vfs).held().oldest == {}

    assert vfs.list("") == []


def test_a_pin_says_whose_it_is(tmp_path: Path) -> None:
    pins = pins_in(OsVfs(tmp_path))
    pins.hold({REGION: VERSION})

    [said] = (tmp_path / "readers").glob("*.json")

    body = json.loads(said.read_bytes())
    assert (body["pid"], body["oldest"]) == (os.getpid(), {"1": 5})
    pins.close()


@pytest.mark.parametrize(
    "said",
    [b"", b"[]", b"{", b'{"format": 2, "oldest": {}}', b'{"format": 1}', b'{"format": 1, "oldest": {"x": 1}}', b"\xff"],
    ids=repr,
)
def test_what_is_not_understood_stands_for_everything_until_its_process_dies(said: bytes) -> None:
    vfs = MemoryVfs()
    pins_in(vfs).hold({REGION: VERSION})
    [name] = [name for name in vfs.list("readers") if name.endswith(".json")]
    vfs.unlink(f"readers/{name}")
    file = vfs.create(f"readers/{name}")
    file.write(said)

    held = pins_in(vfs, 1).held()

    assert held.is_partial
    assert held.of(RegionId(77)) == -1
    assert not pins_in(vfs.killed(), 1).held().is_partial


@pytest.mark.parametrize(("code", "is_partial"), [(errno.EIO, True), (errno.ENOENT, False), (errno.ENOTDIR, False)])
def test_where_nobody_can_be_heard_everything_may_be_read_and_where_nobody_can_speak_nothing_is(
    code: int, is_partial: bool
) -> None:
    deaf = ErrorVfs(MemoryVfs(), FailAt(1, code), kinds={"list"})

    assert pins_in(deaf).held().is_partial is is_partial


@pytest.mark.parametrize("name", ["notes.txt", "x.lock", "0" * 32 + ".txt", "0" * 31 + "G.lock", "0" * 33 + ".lock"])
def test_other_files_are_left_alone(name: str) -> None:
    vfs = MemoryVfs()
    vfs.make_dirs("readers")
    vfs.create(f"readers/{name}").close()

    assert pins_in(vfs).held().oldest == {}

    assert vfs.list("readers") == [name]


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_where_nothing_can_be_written_nobody_knows_and_nothing_is_raised(number: int, code: int) -> None:
    vfs = MemoryVfs()
    kinds = {*MUTATIONS, "list", "stat", "lock"}
    pins = pins_in(ErrorVfs(vfs, FailAt(number, code), kinds=kinds))

    is_known = pins.hold({REGION: VERSION})

    assert pins_in(vfs, 1).held().oldest == ({REGION: VERSION} if is_known else {})
    pins.close()
    assert pins_in(vfs, 2).held().oldest == {}
    assert "readers" not in vfs.list("") or vfs.list("readers") == [], "the lock was given back"


def test_what_could_be_said_once_stays_said_while_the_disk_is_full_and_is_tried_again() -> None:
    vfs = MemoryVfs()
    faults = FullDisk(vfs)
    pins = pins_in(faults)
    pins.hold({REGION: VERSION})

    faults.is_full = True
    assert not pins.hold({REGION: ManifestVersion(9)})
    assert pins_in(vfs, 1).held().oldest == {REGION: VERSION}

    faults.is_full = False
    assert pins.hold({REGION: ManifestVersion(9)})
    assert pins_in(vfs, 1).held().oldest == {REGION: 9}


class FullDisk(TraceVfs):
    is_full = False

    def rename(self, source, target):
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)
        super().rename(source, target)


def test_a_file_system_without_locks_is_asked_once_and_reading_goes_on() -> None:
    vfs = LockLess(MemoryVfs())
    pins = pins_in(vfs)

    assert not pins.hold({REGION: VERSION})
    assert not pins.hold({REGION: VERSION})

    assert vfs.asked == 1
    pins.close()


def leave(vfs: Vfs, process_id: int, host: str | None = None) -> str:
    """Leave what a process does that has died, and return its identifier."""
    identifier = "0" * 32
    body = {"format": 1, "pid": process_id, "host": host or socket.gethostname(), "oldest": {"1": 5}}
    vfs.make_dirs("readers")
    vfs.create(f"readers/{identifier}.lock").close()
    file = vfs.create(f"readers/{identifier}.json")
    file.write(json.dumps(body).encode())
    file.close()
    return identifier


def ended() -> int:
    """Return the number of a process that there is no more."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        pass
    return process.pid


def test_who_has_died_where_locks_cannot_be_tried_counts_until_he_is_forgotten() -> None:
    vfs = LockLess(MemoryVfs())
    identifier = leave(vfs, ended())
    pins = pins_in(vfs)

    [reader] = pins.readers()
    assert (reader.identifier, reader.is_dead, reader.held.oldest) == (identifier, True, {REGION: VERSION})
    assert pins.held().oldest == {REGION: VERSION}

    assert pins.forget(identifier)
    assert pins.forget(identifier), "once more is harmless"
    assert vfs.list("readers") == []


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_who_lives_or_is_elsewhere_is_not_forgotten(host: str | None) -> None:
    vfs = LockLess(MemoryVfs())
    identifier = leave(vfs, os.getpid() if host is None else ended(), host)
    pins = pins_in(vfs)

    assert [reader.is_dead for reader in pins.readers()] == [False]
    assert not pins.forget(identifier)
    assert pins.held().oldest == {REGION: VERSION}


def test_who_has_his_lock_is_not_dead_whatever_number_he_gives() -> None:
    vfs = MemoryVfs()
    identifier = leave(vfs, ended())
    lock = vfs.lock(f"readers/{identifier}.lock")

    assert [reader.is_dead for reader in pins_in(vfs).readers()] == [False]
    assert not pins_in(vfs).forget(identifier)

    lock.release()
    assert pins_in(vfs).readers() == ()


def test_who_is_not_understood_is_told_all_the_same() -> None:
    vfs = LockLess(MemoryVfs())
    leave(vfs, ended())
    vfs.unlink(f"readers/{'0' * 32}.json")
    file = vfs.create(f"readers/{'0' * 32}.json")
    file.write(b"{")
    file.close()

    [reader] = pins_in(vfs).readers()

    assert (reader.process_id, reader.host, reader.is_dead) == (None, None, False)
    assert reader.held.of(REGION) == -1


def test_where_nobody_can_be_heard_nobody_is_told() -> None:
    assert pins_in(ErrorVfs(MemoryVfs(), FailAt(1, errno.EIO), kinds={"list"})).readers() == ()


class LockLess(TraceVfs):
    asked = 0

    def lock(self, path):
        self.asked += 1
        raise NotImplementedError("no locks here")


class ClearingVfs(TraceVfs):
    """Lets somebody who clears away come between the making of a lock's file and its locking."""

    def __init__(self, inner: MemoryVfs, outcome: str, times: int) -> None:
        super().__init__(inner)
        self.files, self.outcome, self.times = inner, outcome, times

    def lock(self, path):
        if not self.times:
            return super().lock(path)
        self.times -= 1
        if self.outcome == "he has the lock":
            raise BlockingIOError(errno.EAGAIN, "locked by another holder", path)
        self.files.unlink(path)
        return super().lock(path)


@pytest.mark.parametrize("outcome", ["he has the lock", "he has removed the file"])
def test_a_lock_that_is_cleared_away_as_it_is_made_is_made_anew(outcome: str) -> None:
    vfs = MemoryVfs()

    assert pins_in(ClearingVfs(vfs, outcome, 3)).hold({REGION: VERSION})
    assert pins_in(vfs, 1).held().oldest == {REGION: VERSION}

    assert not pins_in(ClearingVfs(vfs, outcome, ATTEMPTS_MAX), 2).hold({REGION: ManifestVersion(1)})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_neither_speaks_for_its_parent_nor_ends_what_it_says(tmp_path: Path) -> None:
    pins = pins_in(OsVfs(tmp_path))
    pins.hold({REGION: VERSION})

    child = os.fork()
    if child == 0:
        said = pins.hold({})
        pins.close()
        os._exit(int(said))

    assert os.waitpid(child, 0)[1] == 0
    assert pins_in(OsVfs(tmp_path), 1).held().oldest == {REGION: VERSION}
    pins.close()
