"""A log that is cut short was torn by a crash; one that has a commit behind what is wrong was damaged."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mitoframe import kv
from mitoframe.kv.sqlite_log import FRAME_HEADER_BYTES, HEADER_BYTES, is_damaged
from mitoframe.model.errors import CorruptionError
from mitoframe.model.keyvalue import FROM_KEY, Put

ALL = (b"\0", FROM_KEY)
PUTS = 24
PAGE_BYTES = 4096
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES


@pytest.fixture
def crashed(tmp_path: Path) -> tuple[Path, Path]:
    """Return a store and its log as a killed writer leaves them."""
    path = tmp_path / "plant.kv"
    crashed, log = tmp_path / "crashed.kv", tmp_path / "crashed.kv-wal"
    with kv.open(path) as store:
        for number in range(PUTS):
            store.txn([], [Put(b"a", b"%d" % number), Put(b"b", b"%d" % number * 900)])
        crashed.write_bytes(path.read_bytes())
        log.write_bytes((tmp_path / "plant.kv-wal").read_bytes())
    return crashed, log


def commits_of(log: bytes) -> list[int]:
    """Return where each commit ends."""
    ends = range(HEADER_BYTES + FRAME_BYTES, len(log) + 1, FRAME_BYTES)
    return [end for end in ends if int.from_bytes(log[end - FRAME_BYTES :][4:8], "big")]


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_a_log_of_a_crash_is_sound_wherever_it_ends(crashed: tuple[Path, Path]) -> None:
    _, log = crashed
    whole = log.read_bytes()

    for size in [*range(0, len(whole), 4999), len(whole)]:
        log.write_bytes(whole[:size])
        assert not is_damaged(str(log))
    assert len(commits_of(whole)) > PUTS


def test_a_log_whose_last_transaction_was_torn_anywhere_is_sound(crashed: tuple[Path, Path]) -> None:
    _, log = crashed
    whole = log.read_bytes()
    draws = random.Random(5)
    start = commits_of(whole)[-2]

    for _ in range(40):
        torn = bytearray(whole)
        for _ in range(3):
            place = draws.randrange(start, len(whole)) // 512 * 512
            torn[place : place + 512] = bytes(len(torn[place : place + 512]))
        torn[:start] = whole[:start]
        log.write_bytes(torn)
        assert not is_damaged(str(log))


def test_what_a_transaction_that_was_taken_back_has_left_in_the_log_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "plain.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA cache_size = 2")
        raw.execute("CREATE TABLE t(a)")
        for rows in (60, 40, 20):
            raw.execute("BEGIN")
            raw.executemany("INSERT INTO t VALUES (zeroblob(3000))", [()] * rows)
            raw.execute("ROLLBACK")
        for _ in range(5):
            raw.execute("INSERT INTO t VALUES (1)")

        assert os.path.getsize(f"{path}-wal") > 40 * 4000
        assert not is_damaged(f"{path}-wal")


def test_a_log_that_was_begun_anew_has_old_frames_behind_it_and_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "plain.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE t(a)")
        for number in range(30):
            raw.execute("INSERT INTO t VALUES (?)", (number,))
        raw.execute("PRAGMA wal_checkpoint(FULL)")
        raw.execute("INSERT INTO t VALUES (-1)")

        log = Path(f"{path}-wal").read_bytes()

    assert len(log) > 20 * FRAME_BYTES
    copy = tmp_path / "copy-wal"
    # Also if that one commit of the new log was torn.
    for place in (HEADER_BYTES + FRAME_BYTES - 1, HEADER_BYTES + 17, None):
        copy.write_bytes(log if place is None else flipped(log, 8 * place))
        assert not is_damaged(str(copy))


def test_a_flipped_bit_of_what_was_synced_is_refused_or_the_last_commit_is_all_that_is_lost(
    crashed: tuple[Path, Path],
) -> None:
    path, log = crashed
    main, whole = path.read_bytes(), log.read_bytes()
    draws = random.Random(11)
    commits = commits_of(whole)
    bits = draws.sample(range(8 * HEADER_BYTES, 8 * len(whole)), 60)

    for bit in bits:
        path.write_bytes(main)
        log.write_bytes(flipped(whole, bit))
        for leftover in path.parent.glob("crashed.kv-shm"):
            leftover.unlink()
        try:
            with kv.open(path) as store:
                store.verify()
                found = store.range(*ALL)
        except CorruptionError:
            continue
        assert bit // 8 >= commits[-3], "damage before the last two commits was not noticed"
        assert found.revision >= PUTS - 1


def test_the_damaged_file_is_named_and_left_alone(crashed: tuple[Path, Path]) -> None:
    path, log = crashed
    damaged = flipped(log.read_bytes(), 8 * (HEADER_BYTES + FRAME_HEADER_BYTES + 100))
    log.write_bytes(damaged)

    for mode in ("rw", "r"):
        with pytest.raises(CorruptionError, match="acknowledged") as caught:
            kv.open(path, mode=mode)
        assert caught.value.path == str(log)

    assert log.read_bytes() == damaged


def test_a_log_that_is_not_there_is_sound(tmp_path: Path) -> None:
    assert not is_damaged(str(tmp_path / "none-wal"))
