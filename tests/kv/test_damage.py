"""Damaged files: every flipped bit gives a typed error or the same answers, and what is no store is left alone."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mitoframe import kv
from mitoframe.model.errors import CorruptionError, MitoError, UnavailableError
from mitoframe.model.keyvalue import FROM_KEY, Delete, Put

ALL = (b"\0", FROM_KEY)
EVERY_BIT = "MITOFRAME_NIGHTLY" in os.environ


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a store of some keys with history, a lease, and room that is not in use."""
    path = str(tmp_path / "plant.kv")
    with kv.open(path) as store:
        lease = store._ledger.grant(0, 60)
        store.put(b"/line/1", b"first" * 9, lease=lease)
        store.put(b"/line/2", b"second" * 9)
        store.txn([], [Put(b"/line/1", b"third" * 9), Delete(b"/line/2"), Put(b"/site", b"fourth" * 9)])
        store.put(b"/line/1", b"fifth" * 9, lease=lease)
        store.compact(3)
        store.defragment()
    return path


def answers(path: str, mode: str) -> object:
    with kv.open(path, mode=mode) as store:
        now = store.range(*ALL), store.get(b"/line/2"), store.range(*ALL, revision=4)
        past = store._ledger.events(*ALL, first=3, last=9, with_prev=True), store.hash_kv(), store._ledger.lease_keys(1)
        if mode == "r":
            return now, past
        won = store.txn([kv.V(b"/line/2") == 0], [Put(b"/line/2", b"sixth" * 900), Delete(b"/site")])
        return now, past, won, store.range(*ALL), store.changes(*ALL, after=4), store._ledger.revoke(1)


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def used_bits(data: bytes, count: int) -> list[int]:
    """Return bits of the header and of bytes that are not zero, which mean something, and a few others."""
    draws = random.Random(7)
    used = [8 * position + bit for position, byte in enumerate(data) if byte or position < 100 for bit in range(8)]
    return sorted({*draws.sample(used, count), *(draws.randrange(8 * len(data)) for _ in range(count // 10))})


def refuse_or_answer(path: str, mode: str, expected: object) -> type[MitoError] | None:
    try:
        assert answers(path, mode) == expected
    except MitoError as error:
        return type(error)
    return None


def clear_but(path: str) -> None:
    for leftover in Path(path).parent.glob("*-*"):
        leftover.unlink()


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_flipped_bit_gives_a_typed_error_or_the_same_answers(path: str, tmp_path: Path, mode: str) -> None:
    intact = Path(path).read_bytes()
    copy = str(tmp_path / "copy.kv")
    shutil.copy(path, copy)
    expected = answers(copy, mode)
    bits = range(8 * len(intact)) if EVERY_BIT else used_bits(intact, 150)

    found = []
    for bit in bits:
        clear_but(path)
        Path(path).write_bytes(flipped(intact, bit))
        found.append(refuse_or_answer(path, mode, expected))

    assert {each for each in found if each} <= {CorruptionError}
    assert found.count(CorruptionError) > len(found) // 20


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_file_cut_short_is_refused(path: str, mode: str) -> None:
    intact = Path(path).read_bytes()

    for size in range(1, len(intact), 509):
        Path(path).write_bytes(intact[:size])
        with pytest.raises(CorruptionError):
            answers(path, mode)
        clear_but(path)


def test_rows_that_lie_in_the_wrong_order_are_refused(path: str) -> None:
    damaged = bytearray(Path(path).read_bytes())
    page_size_bytes, page_header_bytes = 4096, 8
    with closing(sqlite3.connect(path)) as raw:
        (root,) = raw.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'head'").fetchone()
    first = (root - 1) * page_size_bytes + page_header_bytes
    # The places of the first two rows in the page, exchanged: all rows are there, and searching misses them.
    damaged[first : first + 4] = damaged[first + 2 : first + 4] + damaged[first : first + 2]
    Path(path).write_bytes(damaged)

    with pytest.raises(CorruptionError):
        kv.open(path)


@pytest.mark.parametrize("contents", [b"not a database at all, but long enough to look like a file" * 20, b"x"])
@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_foreign_file_is_refused_and_left_alone(path: str, contents: bytes, mode: str) -> None:
    Path(path).write_bytes(contents)

    with pytest.raises(CorruptionError) as caught:
        kv.open(path, mode=mode)

    assert caught.value.path == path
    assert Path(path).read_bytes() == contents


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE theirs(a)")
    before = path.read_bytes()

    for mode in ("r", "rw"):
        with pytest.raises(CorruptionError, match="no key-value store"):
            kv.open(path, mode=mode)

    assert path.read_bytes() == before


def test_a_reader_of_a_file_that_is_being_made_is_told_to_wait(tmp_path: Path) -> None:
    path = tmp_path / "new.kv"
    path.touch()

    with pytest.raises(UnavailableError, match="Try again"):
        kv.open(path, mode="r")
