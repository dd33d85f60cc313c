"""The format on disk is a promise: a store of every format that was ever released opens for ever.

``tests/golden/kv/format-1.kv`` was written once, by `make_store`, and is never written again. A change that makes these
tests fail is a new format: it gets a number and a file of its own, and this one stays.
"""

from __future__ import annotations

import shutil
import struct
from contextlib import closing
from pathlib import Path

import google_crc32c
import pytest

from mitoframe import kv
from mitoframe.kv.backend import TREES, Tree
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.model.keyvalue import FROM_KEY, Delete, Put

GOLDEN = Path(__file__).parents[1] / "golden" / "kv" / "format-1.kv"
ALL = (b"\0", FROM_KEY)


def make_store(path: str | Path) -> None:
    """Write a store with history, a compaction, tombstones, leases, and keys that have to be escaped."""
    with kv.open(path) as store:
        lease = store._ledger.grant(0, 60)
        store._ledger.grant(7_000_000_000, 9_000_000_000)
        store.put(b"/line/1", b"one", lease=lease)
        store.put(b"/line/2", b"two")
        store.txn([], [Put(b"/line/1", b"three", lease=lease), Delete(b"/line/2"), Put(b"\0", b"\0\xff")])
        store.put(b"\0\0", b"")
        store.put(b"\xff" * 300, b"large" * 2_000, lease=lease)
        store.compact(4)
        store.delete(b"\0")
        store.put(b"/line/2", b"again", lease=7_000_000_000)


def rows_of(path: str | Path) -> dict[Tree, list[tuple[bytes, bytes]]]:
    with closing(SqliteBackend(str(path), read_only=True)) as backend, backend.begin_read() as transaction:
        return {tree: list(transaction.scan(tree)) for tree in TREES}


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "format-1.kv")
    shutil.copy(GOLDEN, path)
    return path


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_store_of_the_first_format_opens_and_has_all_there_was(path: str, mode: str) -> None:
    with kv.open(path, mode=mode) as store:
        store.verify()
        now, then = store.range(*ALL), store.range(*ALL, revision=4)
        batches, _ = store._ledger.events(*ALL, first=4, last=99, with_prev=False)
        leases = {
            lease: (row.ttl_seconds, store._ledger.lease_keys(lease))
            for lease, row in store._ledger.lease_rows().items()
        }
        status, found = store.status(), store.hash_kv()

    assert [
        (each.key[:9], each.value[:5], each.create_revision, each.mod_revision, each.version) for each in now.kvs
    ] == [
        (b"\0\0", b"", 5, 5, 1),
        (b"/line/1", b"three", 2, 4, 2),
        (b"/line/2", b"again", 8, 8, 1),
        (b"\xff" * 9, b"large", 6, 6, 1),
    ]
    assert [(each.key, each.value, each.lease) for each in then.kvs] == [
        (b"\0", b"\0\xff", 0),
        (b"/line/1", b"three", 1),
    ]
    assert [[(event.kind, event.kv.key[:9]) for event in batch.events] for batch in batches] == [
        [("put", b"/line/1"), ("delete", b"/line/2"), ("put", b"\0")],
        [("put", b"\0\0")],
        [("put", b"\xff" * 9)],
        [("delete", b"\0")],
        [("put", b"/line/2")],
    ]
    assert leases == {1: (60, (b"/line/1", b"\xff" * 300)), 7_000_000_000: (9_000_000_000, (b"/line/2",))}
    assert (status.revision, status.compact_revision, status.keys, status.leases) == (8, 4, 4, 2)
    assert found.hash == 200837592


def test_a_store_of_the_first_format_can_be_written(path: str) -> None:
    with kv.open(path) as store:
        assert store.put(b"/line/1", b"four").revision == 9
        assert store._ledger.grant(0, 60) == 2
        store.compact(9)
        store.verify()
        assert store.get(b"/line/1").version == 3


def test_what_is_written_today_is_the_same_format(tmp_path: Path) -> None:
    make_store(tmp_path / "today.kv")

    assert rows_of(tmp_path / "today.kv") == rows_of(GOLDEN)


def test_rows_are_laid_out_as_they_are_described(tmp_path: Path) -> None:
    path = tmp_path / "tiny.kv"
    with kv.open(path) as store:
        store.put(b"k\0", b"value", lease=store._ledger.grant(0, 60))

    def sealed(tree: str, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        checksum = google_crc32c.value(tree.encode() + struct.pack("<I", len(key)) + key + value)
        return key, value + struct.pack("<I", checksum)

    revision, numbers, lease = struct.pack(">QI", 2, 0), struct.pack("<qqq", 2, 1, 1), struct.pack(">Q", 1)
    expected = {
        "rev": [sealed("rev", revision, numbers + struct.pack("<I", 2) + b"k\0" + b"value")],
        "idx": [sealed("idx", b"k\0\xff\0\0" + revision, numbers)],
        "head": [sealed("head", b"k\0", revision + numbers)],
        "lease": [sealed("lease", lease, struct.pack("<2q", 60, 1))],
        "leasekey": [sealed("leasekey", lease + b"k\0", b"")],
    }
    digest = sum(struct.unpack("<I", value[-4:])[0] for [(_, value)] in expected.values()) % 2**32
    state = struct.pack("<9q", 2, -1, -1, 1, 1, 1, 1, 5, digest)
    expected["meta"] = [sealed("meta", b"format", struct.pack("<I", 1)), sealed("meta", b"state", state)]
    assert rows_of(path) == expected
