"""From a URL to the parts of a store, and what the folder looks like then."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import polars as pl
import pytest
from gates import Gate

import mitoframe as mito
from mitoframe import registry
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.lock_file import WriterLock
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.engine.parts import ASKED_LANE, COMPACT_LANE
from mitoframe.model.options import MitoConfig
from mitoframe.ports import Vfs
from mitoframe.registry import canonical_url, connect_vfs
from mitoframe.testing.vfs_faults import ErrorVfs, FailAt
from mitoframe.testing.vfs_memory import MemoryVfs


def acquire(vfs: Vfs, now_ms: int = 1_704_067_200_000) -> WriterLock:
    return WriterLock.acquire(vfs, ManualClock(now_ms), lock_path="writer.lock", holder_path="writer.json")


def test_one_store_has_one_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    spellings = ["store", "./store", "store/", tmp_path / "store", "link", "~/store", "store/../store"]

    assert {canonical_url(spelling) for spelling in spellings} == {os.path.realpath(tmp_path / "store")}
    assert canonical_url("memory://x") == "memory://x"


def test_a_store_has_an_identifier_that_stays(tmp_path: Path) -> None:
    identifiers = set()
    for _ in range(2):
        with mito.open(tmp_path):
            identifiers.add((tmp_path / "mitoframe.json").read_text())

    [text] = identifiers
    assert json.loads(text).keys() == {"format", "store_id"}


@pytest.mark.parametrize(
    "left", ["writer.json.tmp", "mitoframe.json.0123456789abcdef0123456789abcdef.tmp", "writer.lock"]
)
def test_what_a_process_killed_while_making_a_store_leaves_is_not_foreign(tmp_path: Path, left: str) -> None:
    (tmp_path / left).touch()

    with mito.open(tmp_path):
        pass


def test_a_store_can_live_on_any_file_system(tmp_path: Path) -> None:
    with_memory_files = MemoryVfs(str(tmp_path))

    connection = connect_vfs(with_memory_files, "rw", mito.MitoConfig())
    connection.close()

    assert "mitoframe.json" in with_memory_files.list("")


def test_the_holder_is_named_while_it_holds_and_not_after(tmp_path: Path) -> None:
    vfs = OsVfs(tmp_path)

    lock = acquire(vfs)

    holder = json.loads((tmp_path / "writer.json").read_text())
    assert holder == {"pid": os.getpid(), "host": socket.gethostname(), "since": "2024-01-01T00:00:00+00:00"}
    lock.release(in_good_order=True)
    assert not (tmp_path / "writer.json").exists()


@pytest.mark.parametrize("in_good_order", [True, False])
def test_the_next_writer_knows_whether_the_last_one_left_in_good_order(tmp_path: Path, in_good_order: bool) -> None:
    vfs = OsVfs(tmp_path)
    first = acquire(vfs)
    assert not first.after_crash
    first.release(in_good_order=in_good_order)

    second = acquire(vfs)

    assert second.after_crash is not in_good_order
    second.release(in_good_order=True)


def test_a_lock_is_not_kept_by_who_could_not_write_its_name(tmp_path: Path) -> None:
    vfs = OsVfs(tmp_path)
    failing = ErrorVfs(vfs, FailAt(1, errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught:
        acquire(failing)

    acquire(vfs).release(in_good_order=True)
    assert caught.tb is not None  # Kept until here, and with it whatever would let go of the lock by being forgotten.


def test_a_killed_writer_is_a_crash_also_when_it_had_just_begun() -> None:
    vfs = MemoryVfs()
    vfs.make_dirs("")
    acquire(vfs)

    lock = acquire(vfs.killed())

    assert lock.after_crash


@pytest.mark.parametrize("holder", ["", "{", "[1]", '{"pid": null}'])
def test_a_lock_whose_holder_is_unknown_is_a_lock_all_the_same(tmp_path: Path, holder: str) -> None:
    vfs = OsVfs(tmp_path)
    lock = acquire(vfs)
    (tmp_path / "writer.json").write_text(holder)

    with pytest.raises(mito.StoreLockedError, match="open for writing by another process"):
        acquire(vfs)
    lock.release(in_good_order=True)


def test_a_catalog_that_was_emptied_is_refused_and_not_taken_for_a_new_one(tmp_path: Path) -> None:
    with mito.open(tmp_path / "store") as db:
        db.create_table("cpu", {"ts": pl.Datetime("ms")}, time="ts")
    (tmp_path / "store" / "catalog.sqlite3").write_bytes(b"")

    for mode in ("rw", "r"):
        with pytest.raises(mito.MitoError, match="catalog"):
            mito.open(tmp_path / "store", mode=mode)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list open files")
@pytest.mark.parametrize("damaged", ["catalog.sqlite3", "wal/00000000000000000001.wal"])
def test_a_store_that_cannot_be_opened_is_let_go_of_whole(damaged: str, tmp_path: Path) -> None:
    with mito.open(tmp_path / "store", flush_on_close=False) as db:
        table = db.create_table("cpu", {"ts": pl.Datetime("ms")}, time="ts")
        table.write(pl.DataFrame({"ts": [0]}, schema={"ts": pl.Datetime("ms")}))
    good = (tmp_path / "store" / damaged).read_bytes()
    (tmp_path / "store" / damaged).write_bytes(b"\0" + good[1:] if damaged.startswith("wal") else b"")

    with pytest.raises(mito.CorruptionError) as told:
        mito.open(tmp_path / "store")

    # The error keeps the frames it passed through alive: what they forgot to close is open still.
    held = [path for path in map(_target, Path("/proc/self/fd").glob("*")) if str(tmp_path) in path]
    assert held == [], told.value
    (tmp_path / "store" / damaged).write_bytes(good)
    with mito.open(tmp_path / "store") as db:
        assert db["cpu"].scan().count() == 1


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # The folder was being listed through it.
        return ""


@pytest.mark.parametrize("lane", [COMPACT_LANE, ASKED_LANE])
@pytest.mark.parametrize(("setting", "expected"), [(3, 3), (None, -(-(os.cpu_count() or 1) // 4))])
def test_as_many_tables_are_merged_at_a_time_as_the_config_says(lane: str, setting: int | None, expected: int) -> None:
    scheduler, gate = registry._scheduler(MitoConfig(compaction_threads=setting)), Gate()
    gate.close()

    jobs = [scheduler.submit(lane, gate.wait) for _ in range(expected + 1)]
    for _ in range(expected):
        gate.reached()

    [health] = [health for health in scheduler.health() if health.lane == lane]
    assert (health.running, health.waiting) == (expected, 1)
    gate.open()
    for job in jobs:
        job.result()
    scheduler.close()
