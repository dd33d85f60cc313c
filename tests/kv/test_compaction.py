"""Compaction: what stays readable, what goes, what is refused; interrupted, resumed, and beside others."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe import kv
from mitoframe.kv import compaction
from mitoframe.kv.backend import Writing
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.kv.rows import Rows
from mitoframe.kv.store import KeyValueStore
from mitoframe.model.errors import CompactedError, FutureRevisionError, UnavailableError
from mitoframe.model.keyvalue import FROM_KEY, Delete, Put

ALL = (b"\0", FROM_KEY)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "plant.kv")


def kept(store: KeyValueStore) -> list[tuple[int, bytes, bytes]]:
    """Return the changes that are still stored, and deletes as b"-"."""
    with store._ledger.view() as view:
        return [(entry.main, key, b"-" if entry.is_tombstone else value) for entry, key, value in view.rows.records(0)]


def readable(store: KeyValueStore, first: int) -> list[object]:
    last = store.status().revision
    return [store.range(*ALL, revision=revision) for revision in range(first, last + 1)]


class BreakingBackend(SqliteBackend):
    """A backend whose writing transactions fail from the n-th on, as a disk does."""

    def __init__(self, path: str, writes_left: int) -> None:
        super().__init__(path)
        self.writes_left = writes_left

    def begin_write(self) -> AbstractContextManager[Writing]:
        if not self.writes_left:
            raise UnavailableError("the disk is gone")
        self.writes_left -= 1
        return super().begin_write()


# --- what stays ----------------------------------------------------------------------------------------


def test_a_key_that_is_alive_stays_however_far_a_compaction_goes() -> None:
    with kv.open("memory://") as store:
        store.put(b"a", b"1")
        store.put(b"b", b"1")
        store.put(b"a", b"2")
        store.put(b"b", b"2")

        store.compact(5)

        assert kept(store) == [(4, b"a", b"2"), (5, b"b", b"2")]
        assert [each.value for each in store.range(*ALL).kvs] == [b"2", b"2"]
        assert (store.get(b"a").version, store.get(b"a").create_revision) == (2, 2)
        assert store.put(b"a", b"3").revision == 6
        assert store.get(b"a").version == 3


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        (1, [(2, b"a", b"1"), (3, b"a", b"2"), (4, b"b", b"1"), (5, b"b", b"-"), (6, b"a", b"3")]),
        (3, [(3, b"a", b"2"), (4, b"b", b"1"), (5, b"b", b"-"), (6, b"a", b"3")]),
        (5, [(3, b"a", b"2"), (5, b"b", b"-"), (6, b"a", b"3")]),
        (6, [(6, b"a", b"3")]),
    ],
)
def test_of_each_key_the_last_change_up_to_the_revision_stays(
    revision: int, expected: list[tuple[int, bytes, bytes]]
) -> None:
    with kv.open("memory://") as store:
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        store.put(b"b", b"1")
        store.delete(b"b")
        store.put(b"a", b"3")
        before = readable(store, revision)

        store.compact(revision)

        assert kept(store) == expected
        assert readable(store, revision) == before
        store.verify()


def test_a_tombstone_that_was_kept_for_its_revision_goes_with_the_next_compaction() -> None:
    with kv.open("memory://") as store:
        store.put(b"a")
        store.delete(b"a")
        store.put(b"b")
        store.compact(3)
        first = kept(store)

        store.compact(4)

        assert first == [(3, b"a", b"-"), (4, b"b", b"")]
        assert kept(store) == [(4, b"b", b"")]


OPERATIONS = st.lists(
    st.one_of(
        st.builds(Put, st.sampled_from([b"a", b"b", b"\0", b"a\0"])),
        st.builds(Delete, st.just(b"a"), st.none() | st.just(b"b")),
    ),
    max_size=20,
)


@given(operations=OPERATIONS, data=st.data())
@settings(max_examples=40)
def test_any_history_reads_the_same_after_any_compactions(operations: list[Put | Delete], data: st.DataObject) -> None:
    with kv.open("memory://") as store:
        for operation in operations:
            store.txn([], [operation])
        last = store.status().revision
        revisions = sorted(data.draw(st.sets(st.integers(0, last), max_size=3)))

        for revision in revisions:
            before = readable(store, max(revision, 1))
            store.compact(revision)
            assert readable(store, max(revision, 1)) == before
            store.verify()


# --- refusals ------------------------------------------------------------------------------------------


def test_a_compaction_below_the_last_or_above_the_newest_revision_is_refused() -> None:
    with kv.open("memory://") as store:
        for _ in range(4):
            store.put(b"a")
        store.compact(3)

        for revision in (-1, 0, 2, 3):
            with pytest.raises(CompactedError) as compacted:
                store.compact(revision)
            assert compacted.value.compact_revision == 3
        with pytest.raises(FutureRevisionError):
            store.compact(6)

        assert store.status().compact_revision == 3
        store.compact(5)
        assert store.status().compact_revision == 5


# --- interrupted ---------------------------------------------------------------------------------------


def busy_store(path: str, keys: int = 40, rounds: int = 60) -> None:
    with kv.open(path) as store:
        for number in range(rounds):
            store.txn([], [Put(b"k%d" % key, b"%d" % number) for key in range(keys)])
        store.delete(b"k1")


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_a_compaction_that_was_interrupted_is_finished_when_the_store_is_opened(path: str, writes: int) -> None:
    busy_store(path)
    with kv.open(path) as store:
        revision = store.status().revision - 1
        before = readable(store, revision)
    with KeyValueStore(BreakingBackend(path, writes)) as broken:
        with pytest.raises(UnavailableError):
            broken.compact(revision)

        # It is decided, and all that may be read is there, whatever has gone.
        assert broken.status().is_compacting
        assert broken.status().compact_revision == revision
        assert readable(broken, revision) == before
        with pytest.raises(CompactedError):
            broken.get(b"k3", revision=revision - 1)
        broken.verify()
        interrupted = broken.hash_kv(), broken.hash_kv(revision)

    with kv.open(path) as store:
        assert not store.status().is_compacting
        assert readable(store, revision) == before
        assert (store.hash_kv(), store.hash_kv(revision)) == interrupted
        assert len(kept(store)) < 100
        store.verify()


def test_a_store_opened_for_reading_leaves_a_compaction_unfinished(path: str) -> None:
    busy_store(path)
    with KeyValueStore(BreakingBackend(path, 2)) as broken, suppress(UnavailableError):
        broken.compact(60)

    with kv.open(path, mode="r") as reader:
        assert reader.status().is_compacting
        assert reader.get(b"k3").value == b"59"
        reader.verify()


# --- beside others -------------------------------------------------------------------------------------


class CountingBackend(SqliteBackend):
    """A backend that has somebody else write after every batch."""

    def __init__(self, path: str, other: KeyValueStore) -> None:
        super().__init__(path)
        self.other, self.batches = other, 0

    @contextmanager
    def begin_write(self) -> Iterator[Writing]:
        with super().begin_write() as transaction:
            yield transaction
        self.batches += 1
        self.other.put(b"between", b"%d" % self.batches)


def test_others_write_between_the_batches_of_a_compaction(path: str) -> None:
    busy_store(path)
    rows = 40 * 60
    with kv.open(path) as other, KeyValueStore(CountingBackend(path, other)) as store:
        store.compact(60)

        schedule, batches = 1, rows // compaction.BATCH_ROWS + 1
        assert store.get(b"between").version == schedule + batches
        store.verify()
        assert len(kept(store)) == 40 + 40 + 1 + schedule + batches


def test_readers_and_writers_go_on_while_compactions_run(path: str) -> None:
    stop, wrong, draws = threading.Event(), [], random.Random(3)

    def read(store: KeyValueStore) -> None:
        while not stop.is_set():
            revision, compacted = store._ledger.revisions()
            asked = draws.randint(max(compacted, 1), revision)
            with suppress(CompactedError):
                found = store.range(*ALL, revision=asked)
                if asked > 1 and (found.count != 20 or {int(each.value) for each in found.kvs} != {asked}):
                    wrong.append((asked, found))

    with kv.open(path) as store:
        thread = threading.Thread(target=read, args=(store,))
        thread.start()
        for revision in range(2, 120):
            store.txn([], [Put(b"k%d" % key, b"%d" % revision) for key in range(20)])
            if revision % 10 == 0:
                store.compact(revision - 3)
        stop.set()
        thread.join()
        store.verify()

    assert wrong == []


def test_rows_read_by_nobody_any_more_are_gone(path: str) -> None:
    busy_store(path)
    with kv.open(path) as store:
        store.compact(store.status().revision)
        with store._ledger.backend.begin_read() as transaction:
            trees = {tree: sum(1 for _ in transaction.scan(tree)) for tree in ("rev", "idx", "head")}
            state = Rows(transaction, path).state()

    # The key that was deleted last has its tombstone.
    assert trees == {"rev": 40, "idx": 40, "head": 39}
    assert state.rows == sum(trees.values())
