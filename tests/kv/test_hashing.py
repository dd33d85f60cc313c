"""The checksum of a store: the same for the same contents, another for other contents, and steady."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mitoframe import kv
from mitoframe.kv.store import KeyValueStore
from mitoframe.model.errors import CompactedError, FutureRevisionError
from mitoframe.model.keyvalue import Delete, Put


def filled() -> KeyValueStore:
    store = kv.open("memory://")
    for number in range(1, 10):
        store.txn([], [Put(b"a%d" % (number % 3), b"%d" % number), Delete(b"a%d" % ((number + 1) % 3))])
    return store


def test_equal_stores_have_equal_hashes_at_every_revision() -> None:
    one, other = filled(), filled()

    hashes = [one.hash_kv(revision) for revision in range(1, 11)]

    assert hashes == [other.hash_kv(revision) for revision in range(1, 11)]
    assert [each.revision for each in hashes] == list(range(1, 11))
    assert len({each.hash for each in hashes}) == 10
    assert one.hash_kv() == hashes[-1]


def test_the_hash_of_this_history_never_changes() -> None:
    # What a hash is made of is a promise: stores of different versions are compared by it.
    store = filled()

    assert [store.hash_kv(revision).hash for revision in (2, 5, 10)] == [2962903141, 938034025, 3607212533]


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.put(b"a1", b"other"),
        lambda store: store.put(b"a4", b"1"),
        lambda store: store.delete(b"a0"),
        lambda store: store.put(b"a0", b"9", lease=store._ledger.grant(5, 5)),
    ],
)
def test_another_change_gives_another_hash(change: Callable[[KeyValueStore], object]) -> None:
    one, other = filled(), filled()
    one.put(b"a0", b"9")

    change(other)

    assert one.hash_kv().revision == other.hash_kv().revision
    assert one.hash_kv().hash != other.hash_kv().hash
    assert one.hash_kv(10) == other.hash_kv(10)


def test_stores_compacted_to_the_same_revision_in_different_steps_have_the_same_hash() -> None:
    one, other = filled(), filled()

    one.compact(7)
    other.compact(3)
    other.compact(7)

    assert [one.hash_kv(revision) for revision in range(7, 11)] == [
        other.hash_kv(revision) for revision in range(7, 11)
    ]
    assert one.hash_kv().compact_revision == 7


def test_a_tombstone_at_the_compacted_revision_does_not_count() -> None:
    one, other = kv.open("memory://"), kv.open("memory://")
    for store in (one, other):
        store.put(b"a")
    one.txn([], [Put(b"b"), Delete(b"a")])
    other.txn([], [Put(b"b")])
    before = one.hash_kv().hash

    one.compact(3)

    assert one.hash_kv(3).hash != before
    with one._ledger.view() as view:
        assert any(entry.is_tombstone for entry, _, _ in view.rows.records(0))
    alone = kv.open("memory://")
    alone.delete(b"a")
    alone.put(b"x")
    alone.delete(b"x")
    alone.compact(3)
    assert alone.hash_kv(3).hash == kv.open("memory://").hash_kv().hash == 0


def test_hashes_of_revisions_that_are_gone_or_have_not_come_are_refused() -> None:
    store = filled()
    store.compact(5)

    with pytest.raises(CompactedError):
        store.hash_kv(4)
    with pytest.raises(FutureRevisionError):
        store.hash_kv(11)
    assert store.hash_kv(5).revision == 5
