"""Transactions: comparisons, branches, nesting, one revision for all of it, and refusals before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from mitoframe import kv
from mitoframe.model.errors import CompactedError, FutureRevisionError, InvalidInputError
from mitoframe.model.keyvalue import (
    FROM_KEY,
    C,
    Compare,
    Delete,
    DeleteResult,
    Get,
    L,
    M,
    Operation,
    Put,
    PutResult,
    RangeResult,
    Txn,
    TxnResult,
    V,
    Value,
)

ALL = (b"\0", FROM_KEY)


@pytest.fixture
def store() -> Iterator[kv.KeyValueStore]:
    with kv.open("memory://") as store:
        yield store
        store.verify()


def holds(store: kv.KeyValueStore, *compare: Compare) -> bool:
    return store.txn(compare).succeeded


# --- comparisons ---------------------------------------------------------------------------------------


def test_a_key_that_is_not_there_has_zeros_and_no_value(store: kv.KeyValueStore) -> None:
    for target in (V, M, C, L):
        assert holds(store, target(b"a") == 0)
        assert holds(store, target(b"a") < 1)
        assert not holds(store, target(b"a") != 0)
        assert not holds(store, target(b"a") > 0)
    for comparison in (Value(b"a") == b"", Value(b"a") != b"", Value(b"a") < b"x", Value(b"a") > b""):
        assert not holds(store, comparison)
        assert not holds(store, Compare(b"a", "value", b"", comparison.relation, b"z"))
    assert holds(store, V(b"a", b"z") == 0)


def test_each_target_and_relation_is_compared(store: kv.KeyValueStore) -> None:
    lease = store._ledger.grant(0, 10)
    store.put(b"a", b"m", lease=lease)
    store.put(b"b")
    store.put(b"a", b"m", lease=lease)
    truth = [(V, 2), (M, 4), (C, 2), (L, lease)]

    for target, number in truth:
        assert holds(store, target(b"a") == number)
        assert not holds(store, target(b"a") == number + 1)
        assert holds(store, target(b"a") != number + 1)
        assert not holds(store, target(b"a") != number)
        assert holds(store, target(b"a") > number - 1)
        assert not holds(store, target(b"a") > number)
        assert holds(store, target(b"a") < number + 1)
        assert not holds(store, target(b"a") < number)
    assert holds(store, Value(b"a") == b"m", Value(b"a") > b"l", Value(b"a") < b"n", Value(b"a") != b"")
    assert not holds(store, Value(b"a") == b"m", Value(b"a") == b"n")


def test_a_comparison_of_a_range_holds_if_it_does_for_every_key(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")
    store.put(b"b", b"1")
    store.put(b"c", b"2")

    assert holds(store, Value(b"a", b"c") == b"1")
    assert not holds(store, Value(b"a", b"d") == b"1")
    assert holds(store, M(b"a", FROM_KEY) > 1)
    assert not holds(store, M(b"a", FROM_KEY) > 2)


# --- one revision --------------------------------------------------------------------------------------


def test_all_of_a_transaction_is_one_revision_and_each_operation_is_answered(store: kv.KeyValueStore) -> None:
    store.put(b"old", b"1")

    result = store.txn(
        [V(b"old") == 1],
        [Put(b"a", b"1"), Put(b"b", b"2", prev_kv=True), Delete(b"old", prev_kv=True), Get(b"a", FROM_KEY)],
    )

    put, other, deleted, found = result.responses
    assert (result.succeeded, result.revision) == (True, 3)
    assert put == other == PutResult(revision=3)
    assert isinstance(deleted, DeleteResult)
    assert (deleted.deleted, deleted.prev_kvs[0].value, deleted.revision) == (1, b"1", 3)
    assert isinstance(found, RangeResult)
    assert [(each.key, each.mod_revision) for each in found.kvs] == [(b"a", 3), (b"b", 3)]
    assert store.status().revision == 3
    assert store.range(*ALL, revision=2).kvs[0].key == b"old"


def test_a_transaction_that_changes_nothing_keeps_the_revision(store: kv.KeyValueStore) -> None:
    store.put(b"a")

    result = store.txn([], [Get(b"a"), Delete(b"b"), Txn([], [Delete(b"c")])])

    assert result.revision == store.status().revision == 2
    assert [each.revision for each in result.responses] == [2, 2, 2]


def test_a_key_deleted_and_put_later_begins_anew(store: kv.KeyValueStore) -> None:
    store.put(b"a")
    store.put(b"a")
    store.delete(b"a")

    store.put(b"a")

    found = store.get(b"a")
    assert (found.create_revision, found.mod_revision, found.version) == (5, 5, 1)


# --- nesting -------------------------------------------------------------------------------------------


def test_comparisons_of_nested_transactions_see_the_state_before_the_first_operation(
    store: kv.KeyValueStore,
) -> None:
    result = store.txn([], [Put(b"a", b"1"), Txn([V(b"a") == 0], [Put(b"b", b"not there")], [Put(b"b", b"there")])])

    nested = result.responses[1]
    assert isinstance(nested, TxnResult)
    assert nested.succeeded
    assert (store.get(b"b").value, nested.revision, result.revision) == (b"not there", 2, 2)


def test_a_nested_transaction_takes_its_own_branch(store: kv.KeyValueStore) -> None:
    store.put(b"a")

    result = store.txn([V(b"a") == 0], [Put(b"b")], [Txn([V(b"a") == 1], [Txn([V(b"a") == 7], [], [Put(b"c")])])])

    assert not result.succeeded
    assert store.get(b"b") is None
    assert store.get(b"c").mod_revision == 3


def test_a_range_in_a_transaction_has_its_revision_limit_and_what_is_left_out(store: kv.KeyValueStore) -> None:
    for number in range(3):
        store.put(b"k%d" % number, b"old")
    store.put(b"k0", b"new")

    then, limited, bare = store.txn(
        [], [Get(b"k0", revision=4), Get(b"k", FROM_KEY, limit=2), Get(b"k0", keys_only=True)]
    ).responses

    assert then.kvs[0].value == b"old"
    assert (len(limited.kvs), limited.count, limited.more) == (2, 3, True)
    assert bare.kvs[0].value == b""


# --- refusals ------------------------------------------------------------------------------------------

TWICE: list[list[Operation]] = [
    [Put(b"k"), Put(b"k")],
    [Put(b"k"), Delete(b"k")],
    [Delete(b"k"), Put(b"k")],
    [Delete(b"a", b"z"), Put(b"k")],
    [Put(b"k"), Delete(b"a", FROM_KEY)],
    [Put(b"k"), Txn([], [Put(b"k")])],
    [Txn([], [], [Put(b"k")]), Put(b"k")],
    [Txn([], [Put(b"k")]), Txn([], [Put(b"k")])],
    [Txn([], [Put(b"k")]), Delete(b"a", b"z")],
    [Txn([], [Delete(b"k")]), Put(b"k")],
    [Txn([], [Put(b"k")]), Txn([], [Delete(b"k")])],
    [Txn([], [Txn([], [Put(b"k")])]), Put(b"k")],
]
APART: list[list[Operation]] = [
    [Delete(b"k"), Delete(b"k")],
    [Delete(b"k"), Delete(b"a", b"z")],
    [Put(b"k"), Get(b"k")],
    [Put(b"k"), Delete(b"a", b"k")],
    [Put(b"k"), Delete(b"l", FROM_KEY)],
    [Put(b"k"), Put(b"k\0")],
    [Txn([], [Put(b"k")], [Put(b"k")])],
    [Txn([], [Put(b"k")], [Delete(b"k")])],
]


@pytest.mark.parametrize("operations", TWICE, ids=range(len(TWICE)))
@pytest.mark.parametrize("branch", ["success", "failure"])
def test_a_key_that_is_named_twice_is_refused_whichever_branch_is_taken(
    store: kv.KeyValueStore, operations: Sequence[Operation], branch: str
) -> None:
    with pytest.raises(InvalidInputError, match="duplicate key b'k'"):
        store.txn([], **{branch: operations})

    assert store.status().revision == 1


@pytest.mark.parametrize("operations", APART, ids=range(len(APART)))
def test_what_cannot_collide_is_done(store: kv.KeyValueStore, operations: Sequence[Operation]) -> None:
    assert store.txn([], operations).succeeded


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (Put(b"b", lease=7), InvalidInputError),
        (Put(b"b", ignore_value=True), InvalidInputError),
        (Put(b"b", ignore_lease=True), InvalidInputError),
        (Get(b"b", revision=4), FutureRevisionError),
        (Get(b"b", revision=1), CompactedError),
        (Txn([], [Txn([], [Get(b"b", revision=4)])]), FutureRevisionError),
    ],
)
def test_what_is_not_possible_is_refused_with_all_that_stands_beside_it(
    store: kv.KeyValueStore, operation: Operation, error: type[Exception]
) -> None:
    store.put(b"a")
    store.put(b"a")
    store.compact(2)
    before = store.hash_kv()

    with pytest.raises(error):
        store.txn([], [Put(b"c"), Delete(b"a"), operation])

    assert store.hash_kv() == before
    # The branch that is not taken may be impossible.
    assert store.txn([], [], [operation]).succeeded


def test_a_transaction_may_have_128_operations_nested_ones_included(store: kv.KeyValueStore) -> None:
    puts = [Put(b"k%d" % number) for number in range(129)]

    assert store.txn([], puts[:128]).succeeded
    for too_many in (puts, [*puts[:100], Txn([], [*puts[100:129]])]):
        with pytest.raises(InvalidInputError, match="128"):
            store.txn([], too_many)
    with pytest.raises(InvalidInputError, match="128"):
        store.txn([V(b"a") == 0] * 129)
    assert store.txn([], [*puts[:100], Txn([], puts[101:128])]).succeeded
    assert store.status().revision == 3
