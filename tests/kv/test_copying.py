"""Snapshots, restored stores and defragmenting: whole or not there, and the same store as before."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from mitoframe import kv
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.kv.store import KeyValueStore
from mitoframe.model.errors import CorruptionError, InvalidInputError, UnavailableError
from mitoframe.model.keyvalue import FROM_KEY, Put

ALL = (b"\0", FROM_KEY)


@pytest.fixture
def store(tmp_path: Path) -> KeyValueStore:
    store = kv.open(tmp_path / "plant.kv")
    lease = store._ledger.grant(0, 60)
    for number in range(30):
        store.put(b"k%d" % (number % 7), b"%d" % number, lease=lease if number % 2 else 0)
    store.compact(9)
    store.delete(b"k3")
    return store


def everything(store: KeyValueStore) -> object:
    first, last = 9, store.status().revision
    history = [store.range(*ALL, revision=revision) for revision in range(first, last + 1)]
    leases = {
        lease: (seconds, store._ledger.lease_keys(lease)) for lease, seconds in store._ledger.lease_rows().items()
    }
    return history, leases, store.hash_kv(), store.status().compact_revision


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_store_restored_from_a_snapshot_has_all_there_was_and_goes_on(
    tmp_path: Path, store: KeyValueStore, where: str
) -> None:
    if where == "memory":
        store = kv.open("memory://")
        store._ledger.grant(0, 60)
        for number in range(12):
            store.put(b"a", b"%d" % number)
        store.compact(9)
    expected = everything(store)

    info = store.snapshot(tmp_path / "copy.kv")
    store.put(b"later")
    kv.restore(info.path, tmp_path / "other.kv")

    copied = Path(info.path).read_bytes()
    with kv.open(tmp_path / "other.kv") as restored:
        assert everything(restored) == expected
        restored.verify()
        assert restored.put(b"new").revision == info.revision + 1
    assert info.path == str(tmp_path / "copy.kv")
    assert (info.size_bytes, info.sha256) == (len(copied), hashlib.sha256(copied).hexdigest())
    assert {each.name for each in tmp_path.iterdir()} - {"plant.kv", "plant.kv-wal", "plant.kv-shm"} == {
        "copy.kv",
        "other.kv",
    }


def test_a_snapshot_can_be_opened_as_a_store(tmp_path: Path, store: KeyValueStore) -> None:
    expected = everything(store)
    info = store.snapshot(tmp_path / "copy.kv")

    with kv.open(info.path, mode="r") as copy:
        assert everything(copy) == expected
    assert hashlib.sha256(Path(info.path).read_bytes()).hexdigest() == info.sha256


def test_a_snapshot_is_one_revision_while_others_write(tmp_path: Path, store: KeyValueStore) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.txn([], [Put(b"left", b"%d" % number), Put(b"right", b"%d" % number)])

    writer = threading.Thread(target=write)
    writer.start()
    infos = [store.snapshot(tmp_path / f"copy{number}.kv") for number in range(5)]
    stop.set()
    writer.join()

    for info in infos:
        with kv.open(info.path, mode="r") as copy:
            assert copy.status().revision == info.revision
            assert copy.get(b"left") is None or copy.get(b"left").value == copy.get(b"right").value
            copy.verify()


def test_nothing_that_is_there_is_replaced(tmp_path: Path, store: KeyValueStore) -> None:
    info = store.snapshot(tmp_path / "copy.kv")
    before = Path(info.path).read_bytes()

    with pytest.raises(InvalidInputError, match=r"copy\.kv"):
        store.snapshot(info.path)
    with pytest.raises(InvalidInputError, match=r"plant\.kv"):
        kv.restore(info.path, tmp_path / "plant.kv")

    assert Path(info.path).read_bytes() == before
    assert store.put(b"a").revision == info.revision + 1


class RacingBackend(SqliteBackend):
    """A backend during whose copies somebody else takes the name."""

    def copy(self, path: str) -> None:
        super().copy(path)
        Path(path.removesuffix(".part")).write_bytes(b"theirs")


def test_a_name_that_is_taken_while_the_copy_is_made_is_left_alone(tmp_path: Path) -> None:
    with KeyValueStore(RacingBackend(str(tmp_path / "plant.kv"))) as store:
        with pytest.raises(InvalidInputError):
            store.snapshot(tmp_path / "copy.kv")

        assert (tmp_path / "copy.kv").read_bytes() == b"theirs"
        assert not (tmp_path / "copy.kv.part").exists()


def test_a_copy_that_a_crash_cut_short_is_in_nobodys_way(tmp_path: Path, store: KeyValueStore) -> None:
    (tmp_path / "copy.kv.part").write_bytes(b"half")

    info = store.snapshot(tmp_path / "copy.kv")

    kv.restore(info.path, tmp_path / "other.kv")
    assert not (tmp_path / "copy.kv.part").exists()


@pytest.mark.parametrize("damage", ["missing", "foreign", "cut", "flipped", "empty"])
def test_a_snapshot_that_is_none_makes_no_store(tmp_path: Path, store: KeyValueStore, damage: str) -> None:
    path = Path(store.snapshot(tmp_path / "copy.kv").path)
    data = bytearray(path.read_bytes())
    match damage:
        case "missing":
            path.unlink()
        case "foreign":
            path.write_bytes(b"not a store at all, but long enough to look like one" * 100)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            data[data.index(b"k2")] ^= 1
            path.write_bytes(data)
        case "empty":
            path.write_bytes(b"")

    with pytest.raises((CorruptionError, UnavailableError)):
        kv.restore(path, tmp_path / "other.kv")

    assert not list(tmp_path.glob("other*"))


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path, store: KeyValueStore) -> None:
    with pytest.raises(UnavailableError):
        store.snapshot(tmp_path / "missing" / "copy.kv")
    assert store.put(b"a").revision == 33


@pytest.mark.parametrize("where", ["memory", "file"])
def test_defragmenting_gives_space_back_and_changes_nothing(tmp_path: Path, where: str) -> None:
    with kv.open("memory://" if where == "memory" else tmp_path / "large.kv") as store:
        for number in range(60):
            store.put(b"a", b"x" * 10_000)
            store.put(b"b%d" % number)
        store.compact(store.status().revision)
        before, size_bytes = (store.range(*ALL), store.hash_kv()), store.status().size_bytes

        store.defragment()

        assert (store.range(*ALL), store.hash_kv()) == before
        assert store.status().size_bytes < size_bytes / 5
        # At once, and not only when the store is closed.
        assert (
            sum(each.stat().st_size for each in tmp_path.glob("large.kv*") if each.suffix != ".kv-shm") < size_bytes / 5
        )
        assert store.put(b"c").revision == 122
        store.verify()


def test_defragmenting_beside_a_reader_holds_neither_up(store: KeyValueStore) -> None:
    with store._ledger.view() as view:
        before = view.get(b"k1")

        store.defragment()

        assert view.get(b"k1") == before
    assert store.get(b"k1") == before
