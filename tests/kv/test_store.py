"""The store: each call's meaning as etcd has it, in memory and in a file, over restarts and between processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mitoframe import kv
from mitoframe.kv.backend import Writing
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.kv.view import EVENTS_MAX
from mitoframe.model.errors import (
    ClosedError,
    CompactedError,
    FutureRevisionError,
    InvalidInputError,
    LimitExceededError,
    ReadOnlyError,
    UnavailableError,
)
from mitoframe.model.keyvalue import FROM_KEY, Change, Delete, Get, Put, Txn, V
from mitoframe.testing.contracts_meta import MetaStoreContract

ALL = (b"\0", FROM_KEY)


class TestAsMetaStoreInMemory(MetaStoreContract):
    @pytest.fixture
    def store(self) -> Iterator[kv.KeyValueStore]:
        with kv.open("memory://") as store:
            yield store


class TestAsMetaStoreInFile(MetaStoreContract):
    @pytest.fixture
    def store(self, path: str) -> Iterator[kv.KeyValueStore]:
        with kv.open(path) as store:
            yield store


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "plant ?#%é.kv")


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, path: str) -> Iterator[kv.KeyValueStore]:
    with kv.open("memory://" if request.param == "memory" else path) as store:
        yield store


def keys_of(found: kv.RangeResult) -> list[bytes]:
    return [each.key for each in found.kvs]


def values_at(store: kv.KeyValueStore, key: bytes, revisions: range) -> list[bytes | None]:
    found = [store.get(key, revision=revision) for revision in revisions]
    return [each and each.value for each in found]


# --- restarts ------------------------------------------------------------------------------------------


def test_after_a_restart_every_key_is_there_and_no_revision_is_used_again(path: str) -> None:
    with kv.open(path) as store:
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        store.put(b"b", b"3")
        store.delete(b"b")
        expected = store.range(*ALL), store.status().revision
        history = values_at(store, b"a", range(1, 6)), values_at(store, b"b", range(1, 6))

    with kv.open(path) as store:
        assert (store.range(*ALL), store.status().revision) == expected
        assert (values_at(store, b"a", range(1, 6)), values_at(store, b"b", range(1, 6))) == history
        assert store.put(b"c").revision == expected[1] + 1


def test_a_store_whose_keys_were_all_deleted_and_compacted_goes_on_from_its_revision(path: str) -> None:
    with kv.open(path) as store:
        for number in range(10):
            store.put(b"k%d" % number)
        store.delete(b"k", prefix=True)
        store.compact(12)

    with kv.open(path) as store:
        assert store.range(*ALL).revision == 12
        assert store.put(b"new").revision == 13


@pytest.mark.parametrize(
    "use",
    [
        lambda store: None,
        lambda store: store.get(b"a"),
        lambda store: store.put(b"a"),
        lambda store: (store.put(b"a"), store.get(b"a")),
        lambda store: store.put(b"a", lease=store.lease(60).id),
    ],
)
def test_only_the_named_file_is_left_on_disk(path: str, use) -> None:
    for _ in range(2):
        with kv.open(path) as store:
            use(store)

        assert [each.name for each in Path(path).parent.iterdir()] == [Path(path).name]


# --- what etcd means -----------------------------------------------------------------------------------


def test_a_delete_of_nothing_is_no_revision(store: kv.KeyValueStore) -> None:
    store.put(b"a")

    gone = store.delete(b"b", FROM_KEY)

    assert (gone.deleted, gone.revision) == (0, 2)
    assert store.status().revision == 2


def test_a_range_is_a_key_an_interval_all_from_a_key_or_everything(store: kv.KeyValueStore) -> None:
    for key in (b"\0", b"a", b"a\0", b"ab", b"b", b"\xff\xff"):
        store.put(key)

    assert keys_of(store.range(b"a")) == [b"a"]
    assert keys_of(store.range(b"a", b"b")) == [b"a", b"a\0", b"ab"]
    assert keys_of(store.range(b"ab", FROM_KEY)) == [b"ab", b"b", b"\xff\xff"]
    assert keys_of(store.range(*ALL)) == [b"\0", b"a", b"a\0", b"ab", b"b", b"\xff\xff"]
    assert keys_of(store.range(b"a", prefix=True)) == [b"a", b"a\0", b"ab"]
    assert keys_of(store.range(b"\xff", prefix=True)) == [b"\xff\xff"]
    assert keys_of(store.range(b"", prefix=True)) == keys_of(store.range(*ALL))
    assert store.range(b"b", b"a").count == 0


def test_the_same_ranges_are_found_at_an_earlier_revision(store: kv.KeyValueStore) -> None:
    for key in (b"\0", b"a", b"a\0", b"ab", b"b", b"\xff\xff"):
        store.put(key, b"old")
    for key in (b"a", b"b"):
        store.put(key, b"new")
    store.delete(b"a", FROM_KEY)

    then = store.range(b"a", b"b", revision=7)

    assert [(each.key, each.value) for each in then.kvs] == [(b"a", b"old"), (b"a\0", b"old"), (b"ab", b"old")]
    assert (then.revision, then.count) == (10, 3)
    assert keys_of(store.range(b"ab", FROM_KEY, revision=9)) == [b"ab", b"b", b"\xff\xff"]
    assert store.range(b"a", FROM_KEY, revision=10).count == 0


def test_a_limit_leaves_the_count_and_says_more(store: kv.KeyValueStore) -> None:
    for number in range(3):
        store.put(b"k%d" % number)

    found = [store.range(*ALL, limit=limit) for limit in range(5)]

    assert [len(each.kvs) for each in found] == [3, 1, 2, 3, 3]
    assert [each.more for each in found] == [False, True, True, False, False]
    assert {each.count for each in found} == {3}


def test_bounds_of_revisions_leave_keys_out_of_the_answer_but_not_of_the_count(store: kv.KeyValueStore) -> None:
    for number in range(4):
        store.put(b"k%d" % number)
    store.put(b"k0")

    assert keys_of(store.range(*ALL, min_mod=4)) == [b"k0", b"k2", b"k3"]
    assert keys_of(store.range(*ALL, max_mod=4)) == [b"k1", b"k2"]
    assert keys_of(store.range(*ALL, min_create=3, max_create=4)) == [b"k1", b"k2"]
    limited = store.range(*ALL, min_mod=4, limit=3)
    assert (len(limited.kvs), limited.count, limited.more) == (3, 4, False)


@pytest.mark.parametrize(
    ("sort_by", "expected"),
    [
        ("key", [b"a", b"b", b"c"]),
        ("version", [b"b", b"c", b"a"]),
        ("create", [b"c", b"a", b"b"]),
        ("mod", [b"c", b"b", b"a"]),
        ("value", [b"b", b"c", b"a"]),
    ],
)
def test_keys_are_sorted_by_what_is_asked(store: kv.KeyValueStore, sort_by: str, expected: list[bytes]) -> None:
    store.put(b"c", b"2")
    store.put(b"a", b"0")
    store.put(b"a", b"0")
    store.put(b"c", b"2")
    store.put(b"b", b"1")
    store.put(b"a", b"3")

    for keys_only in (False, True):
        rising = store.range(*ALL, sort_by=sort_by, keys_only=keys_only)
        falling = store.range(*ALL, sort_by=sort_by, order="descending", limit=2, keys_only=keys_only)

        assert keys_of(rising) == expected
        assert keys_of(falling) == expected[::-1][:2]
        assert all(not each.value for each in rising.kvs) == keys_only


def test_counting_returns_no_keys(store: kv.KeyValueStore) -> None:
    store.put(b"a")
    store.put(b"b")

    found = store.range(*ALL, count_only=True, limit=1)

    assert (found.kvs, found.count, found.more) == ((), 2, False)


def test_a_revision_that_has_not_come_or_is_compacted_is_refused(store: kv.KeyValueStore) -> None:
    for value in (b"1", b"2", b"3", b"4"):
        store.put(b"a", value)
    store.compact(4)

    with pytest.raises(FutureRevisionError) as future:
        store.get(b"a", revision=6)
    with pytest.raises(CompactedError) as compacted:
        store.range(*ALL, revision=3)

    assert (future.value.revision, future.value.current_revision) == (6, 5)
    assert (compacted.value.revision, compacted.value.compact_revision) == (3, 4)
    assert values_at(store, b"a", range(4, 6)) == [b"3", b"4"]
    assert values_at(store, b"a", range(-1, 1)) == [b"4", b"4"]


def test_changes_cannot_be_told_when_deletes_among_them_were_compacted(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")
    store.delete(b"a")
    store.put(b"b", b"2")
    store.compact(4)

    assert store.changes(*ALL, after=3) == (4, (Change(key=b"b", value=b"2", mod_revision=4),))
    with pytest.raises(CompactedError):
        store.changes(*ALL, after=2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda store: store.put(b""),
        lambda store: store.put("text"),
        lambda store: store.put(b"a", "text"),
        lambda store: store.put(b"a", lease=7),
        lambda store: store.put(b"a", lease=-1),
        lambda store: store.put(b"a", ignore_value=True),
        lambda store: store.put(b"a", ignore_lease=True),
        lambda store: store.put(b"there", b"value", ignore_value=True),
        lambda store: store.put(b"there", lease=1, ignore_lease=True),
        lambda store: store.get(b""),
        lambda store: store.range(b"a", b""),
        lambda store: store.range(b"a", b"b", prefix=True),
        lambda store: store.range(b"a", limit=-1),
        lambda store: store.range(b"a", min_mod=3, max_mod=2),
        lambda store: store.range(b"a", min_create=3, max_create=2),
        lambda store: store.range(b"a", max_mod=-1),
        lambda store: store.range(b"a", sort_by="lease"),
        lambda store: store.range(b"a", order="up"),
        lambda store: store.delete(b""),
        lambda store: store.changes(b"", None, after=0),
        lambda store: store._ledger.revoke(7),
        lambda store: store._ledger.grant(-1, 10),
        lambda store: store._ledger.grant(2**63, 10),
        lambda store: store._ledger.grant(0, 0),
        lambda store: store._ledger.grant(0, 9_000_000_001),
        lambda store: store.txn([V(b"a") == b"text"], []),
        lambda store: store.txn([kv.Value(b"a") == 1], []),
        lambda store: store.txn([kv.Compare(b"a", "size", 1)], []),
        lambda store: store.txn([kv.Compare(b"a", "mod", 1, "<=")], []),
        lambda store: store.txn([V(b"") == 1], []),
        lambda store: store.txn([], [b"a"]),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_and_changes_nothing(store: kv.KeyValueStore, wrong) -> None:
    store.put(b"there", b"1")
    before = store.range(*ALL), store.hash_kv(), store._ledger.lease_rows()

    with pytest.raises(InvalidInputError):
        wrong(store)

    assert (store.range(*ALL), store.hash_kv(), store._ledger.lease_rows()) == before
    store.verify()


def test_a_request_may_have_a_megabyte_and_a_half(store: kv.KeyValueStore) -> None:
    most = 1_572_864

    with pytest.raises(LimitExceededError, match="1,572,865"):
        store.put(b"a", b"x" * most)
    with pytest.raises(LimitExceededError):
        store.txn([], [], [Put(b"a", b"x" * (most // 2)), Put(b"b", b"x" * (most // 2))])

    assert store.put(b"a", b"x" * (most - 1)).revision == 2
    assert len(store.get(b"a").value) == most - 1


# --- puts ----------------------------------------------------------------------------------------------


def test_a_put_may_keep_the_value_or_the_lease(store: kv.KeyValueStore) -> None:
    lease = store._ledger.grant(0, 10)
    store.put(b"a", b"1", lease=lease)

    store.put(b"a", b"2", ignore_lease=True)
    kept_lease = store.get(b"a")
    store.put(b"a", ignore_value=True)
    kept_value = store.get(b"a")

    assert (kept_lease.value, kept_lease.lease) == (b"2", lease)
    assert (kept_value.value, kept_value.lease, kept_value.version) == (b"2", 0, 3)
    assert store._ledger.lease_keys(lease) == ()


def test_what_was_before_is_returned_if_it_is_asked_for(store: kv.KeyValueStore) -> None:
    assert store.put(b"a", b"1", prev_kv=True).prev_kv is None
    assert store.put(b"a", b"2").prev_kv is None
    assert store.put(b"a", b"3", prev_kv=True).prev_kv.value == b"2"
    assert store.delete(b"a").prev_kvs == ()
    store.put(b"a", b"4")
    assert [each.value for each in store.delete(b"a", prev_kv=True).prev_kvs] == [b"4"]


# --- leases --------------------------------------------------------------------------------------------


def test_a_revoked_lease_takes_its_keys_with_it_in_one_revision(store: kv.KeyValueStore) -> None:
    lease, other = store._ledger.grant(0, 10), store._ledger.grant(77, 20)
    for key in (b"c", b"a", b"b"):
        store.put(key, lease=lease)
    store.put(b"stays", lease=other)
    before = store.status().revision

    revision = store._ledger.revoke(lease)

    batches, _ = store._ledger.events(*ALL, first=before + 1, last=revision, with_prev=True)
    assert revision == before + 1
    assert [[(each.kind, each.kv.key) for each in batch.events] for batch in batches] == [
        [("delete", b"a"), ("delete", b"b"), ("delete", b"c")]
    ]
    assert [each.prev_kv.lease for each in batches[0].events] == [lease] * 3
    assert store._ledger.lease_rows() == {77: (20, 2)}
    assert store._ledger.lease_keys(other) == (b"stays",)
    assert keys_of(store.range(*ALL)) == [b"stays"]
    store.verify()


def test_a_put_moves_a_key_to_its_new_lease_and_a_delete_lets_it_go(store: kv.KeyValueStore) -> None:
    one, other = store._ledger.grant(0, 10), store._ledger.grant(0, 10)

    store.put(b"a", lease=one)
    store.put(b"a", lease=one)
    first = store._ledger.lease_keys(one), store._ledger.lease_keys(other)
    store.put(b"a", lease=other)
    second = store._ledger.lease_keys(one), store._ledger.lease_keys(other)
    store.delete(b"a")

    assert first == ((b"a",), ())
    assert second == ((), (b"a",))
    assert store._ledger.lease_keys(other) == ()
    assert store._ledger.revoke(other) == store.status().revision == 5
    store.verify()


def test_a_grant_is_no_revision_and_is_there_after_a_restart(path: str) -> None:
    with kv.open(path) as store:
        lease = store._ledger.grant(0, 10)
        store.put(b"a", lease=lease)
        revision = store.status().revision

    with kv.open(path) as store:
        assert store._ledger.lease_rows() == {lease: (10, 1)}
        assert store._ledger.lease_keys(lease) == (b"a",)
        assert store.get(b"a").lease == lease
        assert (store.status().leases, revision) == (1, 2)


def test_lease_numbers_are_chosen_past_those_in_use_and_never_twice(store: kv.KeyValueStore) -> None:
    store._ledger.grant(2, 10)

    chosen = [store._ledger.grant(0, 10) for _ in range(2)]
    store._ledger.revoke(chosen[-1])
    again = store._ledger.grant(0, 10)

    assert chosen == [1, 3]
    assert again == 4
    with pytest.raises(InvalidInputError, match="in use"):
        store._ledger.grant(2, 10)


# --- what happened -------------------------------------------------------------------------------------


def test_events_are_whole_revisions_in_order_with_what_was_before(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")
    store.txn([], [Put(b"b", b"2"), Delete(b"a"), Put(b"x", b"3")])
    store.put(b"a", b"4")

    batches, looked = store._ledger.events(b"a", b"c", first=1, last=99, with_prev=True)

    assert looked == 4
    assert [batch.revision for batch in batches] == [2, 3, 4]
    kinds = [[(each.kind, each.kv.key, each.is_create) for each in batch.events] for batch in batches]
    assert kinds == [
        [("put", b"a", True)],
        [("put", b"b", True), ("delete", b"a", False)],
        [("put", b"a", True)],
    ]
    deleted = batches[1].events[1]
    assert (deleted.kv.value, deleted.kv.mod_revision, deleted.kv.version) == (b"", 3, 0)
    assert deleted.prev_kv.value == b"1"
    assert batches[2].events[0].prev_kv is None
    assert store._ledger.events(b"a", None, first=4, last=3, with_prev=False) == ([], 3)


def test_events_from_the_compacted_revision_on_include_a_delete_at_it(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")
    store.delete(b"a")
    store.put(b"b", b"2")
    store.compact(3)

    batches, _ = store._ledger.events(*ALL, first=3, last=99, with_prev=True)

    assert [(each.kind, each.kv.key, each.prev_kv) for batch in batches for each in batch.events] == [
        ("delete", b"a", None),
        ("put", b"b", None),
    ]
    with pytest.raises(CompactedError):
        store._ledger.events(*ALL, first=2, last=99, with_prev=False)


def test_many_events_come_in_pieces_that_never_divide_a_revision(store: kv.KeyValueStore) -> None:
    revisions = 2 * EVENTS_MAX // 100 + 5
    for _ in range(revisions):
        store.txn([], [Put(b"k%03d" % number) for number in range(100)])

    seen, first = [], 1
    while first <= store.status().revision:
        batches, looked = store._ledger.events(*ALL, first=first, last=store.status().revision, with_prev=False)
        assert sum(len(batch.events) for batch in batches) <= EVENTS_MAX + 100
        seen += batches
        first = looked + 1

    assert [batch.revision for batch in seen] == list(range(2, revisions + 2))
    assert {len(batch.events) for batch in seen} == {100}


def test_waiting_ends_with_a_commit_of_this_or_another_store_or_with_the_time(path: str) -> None:
    with kv.open(path) as store, kv.open(path) as other:
        started = time.monotonic()
        assert store._ledger.wait_past(1, 0.03) == 1
        assert time.monotonic() - started >= 0.03
        for writer in (store, other):
            revision = store.status().revision
            timer = threading.Timer(0.05, writer.put, [b"a"])
            timer.start()
            assert store._ledger.wait_past(revision, 20) == revision + 1
            timer.join()
        assert store._ledger.wait_past(0, 20) == 3
        assert time.monotonic() - started < 10


def test_who_waits_is_woken_by_a_commit_of_the_same_store() -> None:
    # In memory there is nobody else, so that nothing is looked at meanwhile.
    with kv.open("memory://") as store:
        timer = threading.Timer(0.05, store.put, [b"a"])
        timer.start()
        started = time.monotonic()

        assert store._ledger.wait_past(1, 20) == 2

        assert time.monotonic() - started < 10
        timer.join()


def test_waiting_ends_when_the_store_is_closed() -> None:
    store = kv.open("memory://")
    timer = threading.Timer(0.05, store.close)
    timer.start()

    with pytest.raises(ClosedError):
        store._ledger.wait_past(1, 20)

    timer.join()


# --- several at once -----------------------------------------------------------------------------------


def test_stores_of_one_file_see_each_other_and_share_one_revision(path: str) -> None:
    with kv.open(path) as store, kv.open(path) as other, kv.open(path, mode="r") as reader:
        first = store.put(b"a", b"1").revision
        second = other.put(b"a", b"2").revision

        assert (first, second) == (2, 3)
        assert store.get(b"a") == other.get(b"a") == reader.get(b"a")
        assert reader.get(b"a").version == 2
        assert reader.status() == store.status()


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.put(b"a"),
        lambda store: store.delete(b"a"),
        lambda store: store.txn([], [Put(b"a")]),
        lambda store: store.compact(1),
        lambda store: store.defragment(),
        lambda store: store._ledger.grant(0, 10),
    ],
)
def test_a_store_opened_for_reading_changes_nothing(path: str, change) -> None:
    with kv.open(path) as store:
        store.put(b"a")
    before = Path(path).read_bytes()

    with kv.open(path, mode="r") as reader, pytest.raises(ReadOnlyError, match='mode="rw"'):
        change(reader)

    assert Path(path).read_bytes() == before


def test_threads_take_turns_and_no_update_is_lost(store: kv.KeyValueStore) -> None:
    def increment() -> None:
        for _ in range(25):
            done = False
            while not done:
                found = store.get(b"n")
                seen, value = (found.mod_revision, int(found.value)) if found else (0, 0)
                done = store.txn([kv.M(b"n") == seen], [Put(b"n", b"%d" % (value + 1))]).succeeded

    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (store.get(b"n").value, store.status().revision) == (b"100", 101)
    store.verify()


def test_stores_that_make_the_file_together_make_one_store(path: str) -> None:
    stores: list[kv.KeyValueStore] = []
    threads = [threading.Thread(target=lambda: stores.append(kv.open(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    revisions = [each.put(b"a").revision for each in stores]
    for each in stores:
        each.close()

    assert revisions == list(range(2, 10))


def test_stores_that_are_opened_and_closed_beside_each_other_lose_nothing(path: str) -> None:
    def write() -> None:
        for _ in range(12):
            with kv.open(path) as store:
                store.put(b"n")

    def read() -> None:
        for _ in range(12):
            with kv.open(path, mode="r") as store:
                seen.append(store.get(b"n").version)

    seen: list[int] = []
    with kv.open(path) as store:
        store.put(b"n")
    threads = [threading.Thread(target=work) for work in (write, write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(seen), seen) == (12, sorted(seen))
    with kv.open(path) as store:
        assert (store.get(b"n").version, store.status().revision) == (25, 26)
        store.verify()


class SlowBackend(SqliteBackend):
    """A backend whose first writing transaction begins after somebody else has made the store and written to it."""

    is_first = True

    def begin_write(self) -> AbstractContextManager[Writing]:
        if self.is_first:
            self.is_first = False
            with kv.open(self.path) as other:
                other.put(b"a", b"theirs")
        return super().begin_write()


def test_a_store_that_somebody_else_made_meanwhile_is_not_made_again(path: str) -> None:
    with kv.KeyValueStore(SlowBackend(path)) as store:
        assert store.get(b"a").value == b"theirs"
        assert store.put(b"b").revision == 3


def test_readers_see_whole_transactions_while_others_write(path: str) -> None:
    stop, torn = threading.Event(), []

    def read(store: kv.KeyValueStore) -> None:
        while not stop.is_set():
            found = store.range(*ALL)
            if len({each.value for each in found.kvs}) > 1 or any(
                each.mod_revision != found.revision for each in found.kvs
            ):
                torn.append(found)

    with kv.open(path) as store:
        readers = [threading.Thread(target=read, args=(store,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(100):
            store.txn([], [Put(b"left", b"%d" % number), Put(b"right", b"%d" % number)])
        stop.set()
        for reader in readers:
            reader.join()

    assert torn == []


def test_a_long_read_holds_up_no_put_and_does_not_see_it(path: str) -> None:
    with kv.open(path) as store:
        store.put(b"a", b"1")
        with store._ledger.view() as view:
            store.put(b"a", b"2")
            store.compact(3)

            assert view.get(b"a").value == b"1"

        assert store.get(b"a").value == b"2"


# --- the store as a whole ------------------------------------------------------------------------------


def test_the_status_counts_what_is_there(store: kv.KeyValueStore) -> None:
    store.put(b"a", lease=store._ledger.grant(0, 10))
    store.put(b"b")
    store.put(b"b")
    store.delete(b"a")

    status = store.status()

    assert (status.revision, status.compact_revision, status.keys, status.leases) == (5, -1, 1, 1)
    assert status.size_bytes > 4096
    assert not status.is_compacting


def test_a_store_shows_itself_open_closed_and_damaged(path: str) -> None:
    store = kv.open(path)
    store.put(b"a")

    assert repr(store) == f"<key-value store {path}: 1 key at revision 2, 0 leases>"
    assert "1 key at revision 2" in store._repr_html_()
    store.close()
    assert repr(store) == f"<key-value store {path}: closed>"
    assert "closed" in store._repr_html_()


def test_a_store_shows_its_leases_without_a_look_at_keys(tmp_path: Path) -> None:
    with kv.open(tmp_path / "a.kv") as store:
        store.lease(3_600, id=77)
        store.put(b"/secret", b"hidden", lease=77)

        html = store._repr_html_()

    assert "<td" in html
    assert ">77<" in html
    assert "3,600 s" in html
    assert "secret" not in html
    assert "hidden" not in html


def test_a_lease_is_named_by_its_number() -> None:
    with kv.open("memory://") as store, pytest.raises(InvalidInputError, match=r"lease\.id"):
        store.put(b"a", lease=store.lease(10))


def test_a_closed_store_says_so(store: kv.KeyValueStore) -> None:
    store.close()
    store.close()

    calls = [
        lambda: store.get(b"a"),
        lambda: store.put(b"a"),
        store.status,
        store.verify,
        store.defragment,
        lambda: store.compact(1),
        store._ledger.revisions,
        lambda: store._ledger.wait_past(5, 1),
    ]
    for call in calls:
        with pytest.raises(ClosedError):
            call()


@pytest.mark.parametrize("options", [{"mode": "w"}, {"backend": "bolt"}])
def test_options_that_are_not_there_are_refused(path: str, options: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        kv.open(path, **options)

    assert not Path(path).exists()


def test_a_store_in_memory_cannot_be_opened_for_reading() -> None:
    with pytest.raises(InvalidInputError):
        kv.open("memory://", mode="r")


def test_a_missing_folder_or_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        kv.open(tmp_path / "missing" / "plant.kv")
    with pytest.raises(UnavailableError):
        kv.open(tmp_path / "plant.kv", mode="r")

    assert list(tmp_path.iterdir()) == []


def test_nested_reads_in_a_transaction_see_what_was_done_before_them(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")

    result = store.txn([], [Get(b"a"), Put(b"a", b"2"), Get(b"a"), Get(b"a", revision=2), Txn([], [Get(b"a")])])

    before, put, after, then, nested = result.responses
    assert [each.kvs[0].value for each in (before, after, then, nested.responses[0])] == [b"1", b"2", b"1", b"2"]
    assert (put.revision, after.kvs[0].mod_revision, result.revision) == (3, 3, 3)
