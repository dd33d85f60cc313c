"""The contract of a key-value store with revisions, as tests to inherit.

    class TestMyStore(KeyValueContract):
        @pytest.fixture
        def subject(self): ...

A `Subject` is a store with nothing in it, and what a test does to it from outside. What etcd promises, and its own
tests hold, is here as far as it can be seen from outside; `mitoframe.testing.machine_kv` draws everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeAlias

import pytest

from mitoframe.model.errors import (
    ClosedError,
    CompactedError,
    FutureRevisionError,
    InvalidInputError,
    LimitExceededError,
)
from mitoframe.model.keyvalue import (
    FROM_KEY,
    Change,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    KeyValue,
    L,
    M,
    Operation,
    Put,
    PutResult,
    RangeResult,
    Relation,
    Target,
    Txn,
    TxnResult,
    V,
    Value,
    WatchBatch,
)
from mitoframe.testing.machine_kv import Subject
from mitoframe.testing.model_kv import TTL_SECONDS_MAX
from mitoframe.testing.programs_kv import run
from mitoframe.testing.requests_kv import OPERATIONS_MAX, REQUEST_BYTES_MAX

EVERYTHING = (b"\0", FROM_KEY)

Ask: TypeAlias = Callable[[Operation], Any]


class _Contract:
    """What the parts of the contract share."""

    @pytest.fixture
    def subject(self) -> Iterator[Subject]:
        raise NotImplementedError("give a fixture called subject")

    @pytest.fixture
    def store(self, subject: Subject) -> Any:
        return subject.store

    @pytest.fixture(params=["call", "txn"])
    def ask(self, request: pytest.FixtureRequest, store: Any) -> Ask:
        """Run an operation by its own call, or alone in a transaction: it is the same."""
        if request.param == "call":
            return lambda operation: run(store, operation)
        return lambda operation: store.txn([], [operation]).responses[0]


class RangeContract(_Contract):
    """Looking: at a key, an interval, from a key on, at everything; now and then."""

    def test_an_empty_store_is_at_revision_one(self, store: Any) -> None:
        assert store.range(*EVERYTHING) == RangeResult(kvs=(), revision=1, count=0)
        assert store.get(b"a") is None
        assert store.status().compact_revision == -1

    @pytest.mark.parametrize(
        ("key", "end", "found"),
        [
            (b"b", None, b"b"),
            (b"bb", None, b""),
            (b"a", b"c", b"ab"),
            (b"a", b"a", b""),
            (b"c", b"a", b""),
            (b"x", b"z", b""),
            (b"b", FROM_KEY, b"bcd"),
            (b"bb", FROM_KEY, b"cd"),
            (b"e", FROM_KEY, b""),
            (*EVERYTHING, b"abcd"),
        ],
    )
    def test_a_range_is_a_key_an_interval_or_all_from_a_key_on(
        self, store: Any, ask: Ask, key: bytes, end: bytes | None, found: bytes
    ) -> None:
        put_all(store, b"dbca")
        put_all(store, b"ef")
        store.delete(b"e", FROM_KEY)

        answer = ask(Get(key, end))
        earlier = ask(Get(key, end, revision=5))

        assert keys(answer) == keys(earlier) == found
        assert (answer.count, answer.more, answer.revision) == (len(found), False, 8)

    def test_keys_are_ordered_byte_by_byte(self, store: Any) -> None:
        names = [b"\xff\xff", b"a\x00", b"a", b"\x00", b"ab", b"aa", b"a\xff", b"\xff", b"B"]
        for name in names:
            store.put(name)

        assert [kv.key for kv in store.range(*EVERYTHING).kvs] == sorted(names)
        assert [kv.key for kv in store.range(b"a", prefix=True).kvs] == [b"a", b"a\x00", b"aa", b"ab", b"a\xff"]
        assert [kv.key for kv in store.range(b"\xff", prefix=True).kvs] == [b"\xff", b"\xff\xff"]

    def test_an_earlier_revision_is_read_as_it_was_under_the_newest_revision(self, store: Any, ask: Ask) -> None:
        store.put(b"a", b"1")
        store.put(b"b", b"2")
        store.put(b"a", b"3")
        store.delete(b"b")

        states = [
            [(kv.key, kv.value, kv.version) for kv in ask(Get(*EVERYTHING, revision=revision)).kvs]
            for revision in range(1, 6)
        ]

        a1, b2, a3 = (b"a", b"1", 1), (b"b", b"2", 1), (b"a", b"3", 2)
        assert states == [[], [a1], [a1, b2], [a3, b2], [a3]]
        assert ask(Get(b"a", revision=2)).revision == 5

    @pytest.mark.parametrize(
        ("limit", "found", "more"),
        [(0, b"abc", False), (1, b"a", True), (2, b"ab", True), (3, b"abc", False), (9, b"abc", False)],
    )
    def test_a_limit_cuts_keys_and_never_the_count(
        self, store: Any, ask: Ask, limit: int, found: bytes, more: bool
    ) -> None:
        put_all(store, b"abc")

        answer = ask(Get(*EVERYTHING, limit=limit))

        assert (keys(answer), answer.count, answer.more) == (found, 3, more)

    @pytest.mark.parametrize(
        ("options", "found", "more"),
        [
            ({"min_mod": 4}, b"ac", False),
            ({"max_mod": 4}, b"bc", False),
            ({"min_mod": 4, "max_mod": 4}, b"c", False),
            ({"min_create": 3}, b"bc", False),
            ({"max_create": 3}, b"ab", False),
            ({"min_mod": 6}, b"", False),
            ({"max_create": 3, "limit": 1}, b"a", True),
            ({"min_mod": 4, "limit": 2}, b"ac", False),
        ],
    )
    def test_bounds_leave_keys_out_before_the_limit_and_never_of_the_count(
        self, store: Any, options: dict[str, int], found: bytes, more: bool
    ) -> None:
        put_all(store, b"abc")
        store.put(b"a", b"again")

        answer = store.range(*EVERYTHING, **options)

        assert (keys(answer), answer.count, answer.more) == (found, 3, more)

    @pytest.mark.parametrize(
        ("sort_by", "ascending", "descending"),
        [
            ("key", b"abcd", b"dcba"),
            ("version", b"bdca", b"acbd"),
            ("create", b"dcba", b"abcd"),
            ("mod", b"dbac", b"cabd"),
            ("value", b"dacb", b"bcad"),
        ],
    )
    def test_keys_are_sorted_by_what_is_asked(
        self, store: Any, sort_by: str, ascending: bytes, descending: bytes
    ) -> None:
        for key, value in (
            (b"d", b"0"),
            (b"c", b"7"),
            (b"b", b"9"),
            (b"a", b"8"),
            (b"a", b"2"),
            (b"a", b"1"),
            (b"c", b"3"),
        ):
            store.put(key, value)

        orders = [
            keys(store.range(*EVERYTHING, sort_by=sort_by, order=order))
            for order in ("none", "ascending", "descending")
        ]
        first_two = keys(store.range(*EVERYTHING, sort_by=sort_by, order="descending", limit=2))

        assert orders == [ascending, ascending, descending]
        assert first_two == descending[:2]

    def test_without_an_order_the_limit_cuts_by_key_before_anything_is_sorted(self, store: Any) -> None:
        for key, value in ((b"a", b"9"), (b"b", b"8"), (b"c", b"7"), (b"d", b"1")):
            store.put(key, value)

        answer = store.range(*EVERYTHING, sort_by="value", limit=2)

        assert (keys(answer), answer.more) == (b"cb", True)

    def test_values_or_keys_may_be_left_out(self, store: Any) -> None:
        put_all(store, b"abc")

        assert [kv.value for kv in store.range(*EVERYTHING, keys_only=True).kvs] == [b"", b"", b""]
        assert keys(store.range(*EVERYTHING, keys_only=True, sort_by="value", order="descending")) == b"cba"
        assert store.range(*EVERYTHING, count_only=True, limit=1) == RangeResult(kvs=(), revision=4, count=3)
        assert store.range(*EVERYTHING, count_only=True, revision=2).count == 1

    def test_a_revision_that_has_not_come_is_refused(self, store: Any, ask: Ask) -> None:
        store.put(b"a")

        with pytest.raises(FutureRevisionError) as error:
            ask(Get(b"a", revision=3))

        assert (error.value.revision, error.value.current_revision) == (3, 2)

    def test_changes_are_the_latest_state_of_what_changed_since(self, store: Any) -> None:
        put_all(store, b"abc")
        store.delete(b"b")
        store.put(b"c", b"new")

        gone, new = Change(key=b"b", value=None, mod_revision=5), Change(key=b"c", value=b"new", mod_revision=6)
        assert store.changes(*EVERYTHING, after=3) == (6, (gone, new))
        assert store.changes(b"a", b"c", after=4) == (6, (gone,))
        assert store.changes(*EVERYTHING, after=6) == (6, ())

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda store: store.range(b""),
            lambda store: store.range(b"", b"b"),
            lambda store: store.range(b"a", limit=-1),
            lambda store: store.range(b"a", min_mod=-1),
            lambda store: store.range(b"a", b"b", prefix=True),
            lambda store: store.range(b"a", b""),
            lambda store: store.put(b""),
            lambda store: store.delete(b""),
            lambda store: store.watch(b""),
            lambda store: store.txn([V(b"") == 0]),
            lambda store: store.put(b"a", b"1", ignore_value=True),
            lambda store: store.put(b"a", lease=1, ignore_lease=True),
            lambda store: store.put(b"missing", ignore_value=True),
            lambda store: store.put(b"missing", ignore_lease=True),
            lambda store: store.put(b"a", lease=404),
            lambda store: store.txn([Value(b"a") == 7]),
            lambda store: store.txn([M(b"a") == b"7"]),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_changes_nothing(
        self, store: Any, wrong: Callable[[Any], object]
    ) -> None:
        store.put(b"a", b"before")

        with pytest.raises(InvalidInputError):
            wrong(store)

        assert store.range(*EVERYTHING) == RangeResult(kvs=(kv_of(b"a", b"before", 2),), revision=2, count=1)

    def test_a_closed_store_says_so(self, store: Any) -> None:
        watcher = store.watch(b"a")
        store.close()
        store.close()

        for call in (lambda: store.get(b"a"), lambda: store.put(b"a"), lambda: store.compact(1), store.leases):
            with pytest.raises(ClosedError):
                call()
        with pytest.raises(ClosedError):
            watcher.next(timeout=0)


class ChangeContract(_Contract):
    """Puts and deletes."""

    def test_a_key_counts_its_versions_and_remembers_when_it_was_created(self, store: Any, ask: Ask) -> None:
        store.put(b"other")

        for version in range(1, 6):
            answer = ask(Put(b"a", b"%d" % version))
            assert answer == PutResult(revision=2 + version)
            assert store.get(b"a") == KeyValue(
                key=b"a", value=b"%d" % version, create_revision=3, mod_revision=2 + version, version=version
            )

    def test_a_key_put_again_after_a_delete_begins_anew(self, store: Any) -> None:
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        store.delete(b"a")
        store.put(b"a", b"3")

        assert store.get(b"a") == kv_of(b"a", b"3", 5)
        assert store.get(b"a", revision=4) is None
        assert store.get(b"a", revision=3) == KeyValue(
            key=b"a", value=b"2", create_revision=2, mod_revision=3, version=2
        )

    def test_a_put_of_the_same_value_is_a_change(self, store: Any) -> None:
        assert [store.put(b"a", b"1").revision for _ in range(3)] == [2, 3, 4]

    def test_any_bytes_are_a_value(self, store: Any) -> None:
        values = [b"", b"\x00", bytes(range(256)), b"x" * 100_000]

        for value in values:
            store.put(b"a", value)

        assert [store.get(b"a", revision=revision).value for revision in range(2, 6)] == values

    def test_a_put_may_keep_the_value_or_the_lease_there_is(self, store: Any) -> None:
        lease = store.lease(60)
        store.put(b"a", b"1", lease=lease.id)

        store.put(b"a", b"2", ignore_lease=True)
        store.put(b"a", ignore_value=True)

        kept, detached = store.get(b"a", revision=3), store.get(b"a")
        assert (kept.value, kept.lease) == (b"2", lease.id)
        assert (detached.value, detached.lease, detached.version) == (b"2", 0, 3)
        assert lease.keys() == ()

    def test_what_was_before_is_returned_if_it_is_asked_for(self, store: Any) -> None:
        first = store.put(b"a", b"1", prev_kv=True)
        second = store.put(b"a", b"2", prev_kv=True)
        store.put(b"b", b"3")
        deleted = store.delete(b"a", FROM_KEY, prev_kv=True)

        last = KeyValue(key=b"a", value=b"2", create_revision=2, mod_revision=3, version=2)
        assert (first.prev_kv, second.prev_kv) == (None, kv_of(b"a", b"1", 2))
        assert deleted == DeleteResult(revision=5, deleted=2, prev_kvs=(last, kv_of(b"b", b"3", 4)))
        assert store.put(b"a").prev_kv is None

    @pytest.mark.parametrize(
        ("key", "end", "deleted", "left"),
        [
            (b"a", None, 1, b"bcd"),
            (b"b", b"d", 2, b"ad"),
            (b"b", FROM_KEY, 3, b"a"),
            (*EVERYTHING, 4, b""),
            (b"x", None, 0, b"abcd"),
            (b"x", b"z", 0, b"abcd"),
            (b"c", b"a", 0, b"abcd"),
        ],
    )
    def test_a_delete_counts_what_it_deletes_and_is_a_revision_only_if_that_is_something(
        self, store: Any, ask: Ask, key: bytes, end: bytes | None, deleted: int, left: bytes
    ) -> None:
        put_all(store, b"abcd")

        answer = ask(Delete(key, end))
        again = ask(Delete(key, end))

        revision = 6 if deleted else 5
        assert answer == DeleteResult(revision=revision, deleted=deleted)
        assert again == DeleteResult(revision=revision, deleted=0)
        assert keys(store.range(*EVERYTHING)) == left
        assert keys(store.range(*EVERYTHING, revision=5)) == b"abcd"

    def test_a_request_may_have_a_megabyte_and_a_half(self, store: Any) -> None:
        store.put(b"a", b"x" * 1_500_000)

        with pytest.raises(LimitExceededError):
            store.put(b"a", b"x" * REQUEST_BYTES_MAX)

        assert store.get(b"a").version == 1


class TxnContract(_Contract):
    """Comparisons, and many operations at one revision."""

    @pytest.mark.parametrize("target", ["create", "mod", "version", "lease"])
    @pytest.mark.parametrize(("relation", "holds"), [("=", "e"), ("!=", "gl"), (">", "g"), ("<", "l")])
    def test_a_number_of_a_key_is_compared(self, store: Any, target: Target, relation: Relation, holds: str) -> None:
        store.put(b"a", lease=store.lease(60, id=7).id)
        store.put(b"a", ignore_lease=True)
        actual = {"create": 2, "mod": 3, "version": 2, "lease": 7}[target]

        # What the key has is equal to, greater than and less than what it is compared with.
        answers = {
            name: store.txn([Compare(b"a", target, actual + difference, relation)]).succeeded
            for name, difference in (("e", 0), ("g", -1), ("l", 1))
        }

        assert {name for name, answer in answers.items() if answer} == set(holds)

    @pytest.mark.parametrize(("relation", "holds"), [("=", [b"b"]), ("!=", [b"a", b"c"]), (">", [b"a"]), ("<", [b"c"])])
    def test_values_are_compared_byte_by_byte(self, store: Any, relation: Relation, holds: list[bytes]) -> None:
        store.put(b"k", b"b")

        found = [v for v in (b"a", b"b", b"c") if store.txn([Compare(b"k", "value", v, relation)]).succeeded]

        assert found == holds

    @pytest.mark.parametrize("end", [None, b"b", FROM_KEY])
    def test_what_is_not_there_has_zeros_and_no_value(self, store: Any, end: bytes | None) -> None:
        numbers: list[Target] = ["create", "mod", "version", "lease"]
        relations: list[Relation] = ["=", "!=", ">", "<"]

        zeros = [store.txn([Compare(b"a", target, 0, "=", end)]).succeeded for target in numbers]
        ones = [store.txn([Compare(b"a", target, 1, "<", end)]).succeeded for target in numbers]
        values = [store.txn([Compare(b"a", "value", b"", relation, end)]).succeeded for relation in relations]

        assert zeros == ones == [True] * 4
        assert values == [False] * 4

    def test_a_comparison_of_a_range_holds_if_it_does_for_every_key(self, store: Any) -> None:
        put_all(store, b"abc")

        assert store.txn([M(b"a", b"c") < 4]).succeeded
        assert not store.txn([M(b"a", b"d") < 4]).succeeded
        assert store.txn([M(b"b", FROM_KEY) > 2]).succeeded
        assert not store.txn([M(*EVERYTHING) > 2]).succeeded

    def test_one_comparison_that_fails_takes_the_other_branch(self, store: Any) -> None:
        store.put(b"a", b"1")

        answer = store.txn([V(b"a") == 1, M(b"a") > 2], [Put(b"won")], [Put(b"lost"), Get(b"a")])

        assert answer == TxnResult(
            succeeded=False,
            revision=3,
            responses=(
                PutResult(revision=3),
                RangeResult(kvs=(kv_of(b"a", b"1", 2),), revision=3, count=1),
            ),
        )
        assert keys(store.range(b"l", FROM_KEY)) == b"lost"

    def test_operations_see_those_before_them_and_all_are_one_revision(self, store: Any) -> None:
        store.put(b"a", b"old")
        operations: list[Operation] = [
            Get(b"b"), Put(b"b", b"new"), Get(b"b"), Delete(b"a", prev_kv=True), Get(*EVERYTHING), Get(*EVERYTHING, 2)
        ]  # fmt: skip

        answer = store.txn([], operations)

        a, b = kv_of(b"a", b"old", 2), kv_of(b"b", b"new", 3)
        assert answer.responses == (
            RangeResult(kvs=(), revision=2, count=0),
            PutResult(revision=3),
            RangeResult(kvs=(b,), revision=3, count=1),
            DeleteResult(revision=3, deleted=1, prev_kvs=(a,)),
            RangeResult(kvs=(b,), revision=3, count=1),
            RangeResult(kvs=(a,), revision=3, count=1),
        )
        assert (answer.revision, store.status().revision) == (3, 3)

    @pytest.mark.parametrize(
        "operations",
        [[], [Get(b"a")], [Delete(b"x")], [Delete(b"x", FROM_KEY), Get(*EVERYTHING)], [Txn([], [Get(b"a")])]],
    )
    def test_a_transaction_that_changes_nothing_keeps_the_revision(
        self, store: Any, operations: list[Operation]
    ) -> None:
        store.put(b"a")

        assert store.txn([], operations).revision == 2
        assert store.status().revision == 2

    def test_each_transaction_is_one_revision_whatever_it_does(self, store: Any) -> None:
        revisions = [store.txn([], [Put(b"a"), Put(b"b"), Delete(b"c")]).revision for _ in range(100)]

        assert revisions == list(range(2, 102))
        assert store.get(b"b").version == 100

    def test_comparisons_in_a_transaction_see_the_store_before_all_of_it(self, store: Any) -> None:
        inner = Txn([V(b"a") == 0], [Put(b"inner", b"was absent")], [Put(b"inner", b"was there")])

        answer = store.txn([], [Put(b"a"), inner])

        assert answer.responses[1].succeeded
        assert store.get(b"inner") == kv_of(b"inner", b"was absent", 2)
        assert store.get(b"a").mod_revision == 2

    @pytest.mark.parametrize("branch", ["success", "failure"])
    @pytest.mark.parametrize(
        "operations",
        [
            [Put(b"a"), Put(b"a")],
            [Put(b"a"), Delete(b"a")],
            [Delete(b"a"), Put(b"a")],
            [Put(b"b"), Delete(b"a", b"c")],
            [Delete(b"a", FROM_KEY), Put(b"b")],
            [Put(b"a"), Txn([], [Put(b"a")])],
            [Put(b"a"), Txn([], [], [Delete(b"a", b"b")])],
            [Txn([], [Put(b"a")]), Txn([], [], [Put(b"a")])],
            [Txn([], [Put(b"a")]), Txn([], [Delete(b"a")])],
            [Txn([], [Put(b"a"), Put(b"a")])],
        ],
    )
    def test_a_key_changed_twice_is_refused_whichever_branch_is_taken(
        self, store: Any, operations: list[Operation], branch: str
    ) -> None:
        with pytest.raises(InvalidInputError, match="duplicate key"):
            store.txn([], *((operations, []) if branch == "success" else ([], operations)))

        assert store.status().revision == 1

    @pytest.mark.parametrize(
        "operations",
        [
            [Delete(b"a"), Delete(b"a", b"c")],
            [Put(b"c"), Delete(b"a", b"c")],
            [Put(b"a"), Delete(b"b", b"a")],
            [Txn([], [Put(b"a")], [Put(b"a")])],
            [Txn([], [Put(b"a")], [Delete(b"a")])],
            [Put(b"a"), Get(b"a")],
        ],
    )
    def test_what_cannot_meet_is_done(self, store: Any, operations: list[Operation]) -> None:
        assert len(store.txn([], operations).responses) == len(operations)

    @pytest.mark.parametrize(
        ("impossible", "error"),
        [
            (Get(b"a", revision=99), FutureRevisionError),
            (Get(b"a", revision=2), CompactedError),
            (Put(b"z", lease=404), InvalidInputError),
            (Put(b"z", ignore_value=True), InvalidInputError),
        ],
    )
    def test_what_cannot_be_done_undoes_all_beside_it_and_does_no_harm_where_it_is_not_taken(
        self, store: Any, impossible: Operation, error: type[Exception]
    ) -> None:
        put_all(store, b"abc")
        store.compact(3)
        before = store.range(*EVERYTHING)

        for operations in ([Put(b"n"), Delete(b"a"), impossible], [Put(b"n"), Txn([], [impossible])]):
            with pytest.raises(error):
                store.txn([], operations)
        assert store.range(*EVERYTHING) == before
        assert store.txn([], [Put(b"n")], [impossible]).succeeded

    def test_a_transaction_may_have_128_operations_each_level_counted(self, store: Any) -> None:
        def puts(many: int) -> list[Operation]:
            return [Put(b"%03d" % number) for number in range(many)]

        assert store.txn([], puts(OPERATIONS_MAX)).revision == 2
        for compare, operations in (
            ([], puts(OPERATIONS_MAX + 1)),
            ([V(b"a") == 0] * (OPERATIONS_MAX + 1), []),
            ([], [Txn([], puts(OPERATIONS_MAX))]),
        ):
            with pytest.raises(InvalidInputError):
                store.txn(compare, operations)
        assert store.txn([], [Txn([], puts(OPERATIONS_MAX - 1))]).revision == 3


class CompactionContract(_Contract):
    """What is forgotten, what stays, and what is said of it."""

    @pytest.mark.parametrize(
        ("first", "second", "error"),
        [
            (3, 2, CompactedError),
            (3, 3, CompactedError),
            (0, 0, CompactedError),
            (3, 4, None),
            (3, 5, None),
            (3, 6, FutureRevisionError),
        ],
    )
    def test_a_compaction_goes_forward_and_not_past_the_newest(
        self, store: Any, first: int, second: int, error: type[Exception] | None
    ) -> None:
        put_all(store, b"abca")
        store.compact(first)

        if error is None:
            store.compact(second)
        else:
            with pytest.raises(error):
                store.compact(second)

        assert store.status().compact_revision == (second if error is None else first)

    def test_what_is_below_a_compaction_is_refused_and_at_it_reads_as_before(self, store: Any, ask: Ask) -> None:
        put_all(store, b"aba")
        store.delete(b"b")
        before = {revision: store.range(*EVERYTHING, revision=revision) for revision in range(1, 6)}

        store.compact(4)

        for revision in (1, 2, 3):
            with pytest.raises(CompactedError) as error:
                ask(Get(*EVERYTHING, revision=revision))
            assert (error.value.revision, error.value.compact_revision) == (revision, 4)
        for revision in (4, 5):
            assert store.range(*EVERYTHING, revision=revision) == before[revision]

    @pytest.mark.parametrize("compacted", range(2, 10))
    def test_a_compaction_keeps_of_each_key_what_can_still_be_read(self, subject: Subject, compacted: int) -> None:
        store = subject.store
        store.put(b"once", b"1")
        store.put(b"often", b"2")
        store.put(b"often", b"3")
        store.put(b"gone", b"4")
        store.delete(b"gone")
        store.put(b"back", b"5")
        store.delete(b"back")
        store.put(b"back", b"6")
        expected = {revision: store.range(*EVERYTHING, revision=revision) for revision in range(compacted, 10)}

        store.compact(compacted)
        subject.reopen()

        found = {revision: subject.store.range(*EVERYTHING, revision=revision) for revision in range(compacted, 10)}
        assert found == expected
        subject.verify()

    def test_a_store_whose_keys_were_all_deleted_and_compacted_goes_on_from_its_revision(
        self, subject: Subject
    ) -> None:
        put_all(subject.store, b"ab")
        subject.store.delete(*EVERYTHING)
        subject.store.compact(4)

        subject.reopen()

        assert subject.store.range(*EVERYTHING) == RangeResult(kvs=(), revision=4, count=0)
        assert subject.store.status().compact_revision == 4
        assert subject.store.put(b"a").revision == 5
        assert subject.store.get(b"a") == kv_of(b"a", b"", 5)

    def test_changes_that_were_compacted_cannot_be_told(self, store: Any) -> None:
        put_all(store, b"ab")
        store.delete(b"a")
        store.put(b"c")
        store.compact(4)

        assert store.changes(b"a", None, after=3) == (5, (Change(key=b"a", value=None, mod_revision=4),))
        with pytest.raises(CompactedError):
            store.changes(b"a", None, after=2)

    def test_a_hash_is_of_what_is_kept_up_to_a_revision(self, store: Any) -> None:
        put_all(store, b"aba")
        then = store.hash_kv(3)
        newest = store.hash_kv()
        store.put(b"c")

        assert store.hash_kv(3) == then
        assert newest == store.hash_kv(4)
        assert (newest.revision, newest.compact_revision) == (4, -1)
        assert len({store.hash_kv(revision).hash for revision in range(2, 6)}) == 4

        store.compact(4)

        assert store.hash_kv(5).compact_revision == 4
        with pytest.raises(CompactedError):
            store.hash_kv(3)
        with pytest.raises(FutureRevisionError):
            store.hash_kv(6)

    def test_a_hash_after_a_compaction_is_the_same_whatever_way_led_there(self, subject: Subject) -> None:
        store = subject.store
        put_all(store, b"abab")
        store.delete(b"a")
        for revision in (2, 4, 6):
            store.compact(revision)
        hashes = [store.hash_kv() for _ in range(5)]

        subject.reopen()

        assert set(hashes) == {subject.store.hash_kv()}


class LeaseContract(_Contract):
    """Keys that go when a lease ends."""

    def test_ids_are_given_or_chosen_and_never_shared(self, subject: Subject) -> None:
        chosen = subject.store.lease(10, id=1)
        given = [subject.store.lease(10).id for _ in range(3)]
        there = [lease.id for lease in subject.store.leases()]
        with pytest.raises(InvalidInputError):
            subject.store.lease(10, id=1)

        for lease in subject.store.leases()[1:]:
            lease.revoke()
        given.append(subject.store.lease(10).id)
        subject.reopen()
        given.append(subject.store.lease(10).id)

        assert (chosen.id, there) == (1, sorted({1, *given[:3]}))
        assert len({1, *given}) == 6, "what was given once is never given again"

    @pytest.mark.parametrize("ttl_seconds", [0, -1, TTL_SECONDS_MAX + 1])
    def test_a_time_to_live_that_cannot_be_is_refused(self, store: Any, ttl_seconds: int) -> None:
        with pytest.raises(InvalidInputError):
            store.lease(ttl_seconds)

        assert store.lease(TTL_SECONDS_MAX).ttl_seconds == TTL_SECONDS_MAX

    def test_leases_are_no_revision_until_they_delete_keys(self, store: Any) -> None:
        lease = store.lease(10)
        lease.keepalive()

        assert lease.revoke() == 1
        assert (store.status().revision, store.leases()) == (1, ())

    def test_revoking_deletes_the_keys_sorted_at_one_revision(self, store: Any) -> None:
        lease, watcher = store.lease(10), store.watch(*EVERYTHING, start_revision=7)
        for key in (b"c", b"a", b"b"):
            store.put(key, lease=lease.id)
        store.put(b"d")
        store.put(b"a", ignore_value=True, lease=lease.id)
        held = lease.keys()

        revision = lease.revoke()

        assert (held, revision) == ((b"a", b"b", b"c"), 7)
        assert [event.kv.key for event in watcher.next(timeout=1).events] == [b"a", b"b", b"c"]
        assert keys(store.range(*EVERYTHING)) == b"d"
        for again in (lease.revoke, lease.keepalive, lambda: store.put(b"a", lease=lease.id)):
            with pytest.raises(InvalidInputError):
                again()
        assert (lease.remaining(), store.status().leases) == (-1, 0)

    def test_a_key_belongs_to_the_lease_it_was_put_with_last(self, store: Any, ask: Ask) -> None:
        first, second = store.lease(10), store.lease(10)

        ask(Put(b"a", lease=first.id))
        ask(Put(b"a", lease=first.id))
        twice = store.get(b"a")
        store.put(b"a", lease=second.id)
        store.put(b"b", lease=second.id)
        store.put(b"b")
        store.put(b"c", lease=second.id)
        store.delete(b"c")
        store.put(b"c")

        assert (twice.version, twice.lease) == (2, first.id)
        assert (first.keys(), second.keys()) == ((), (b"a",))
        assert store.txn([L(b"a") == second.id, L(b"b") == 0]).succeeded
        first.revoke()
        assert keys(store.range(*EVERYTHING)) == b"abc"
        second.revoke()
        assert keys(store.range(*EVERYTHING)) == b"bc"

    def test_a_refused_transaction_attaches_nothing(self, store: Any) -> None:
        lease = store.lease(10)

        with pytest.raises(InvalidInputError):
            store.txn([], [Put(b"a", lease=lease.id), Put(b"b", lease=404)])

        assert lease.keys() == ()

    def test_a_lease_ends_after_its_time_and_never_before(self, subject: Subject) -> None:
        short, renewed, long = (subject.store.lease(seconds) for seconds in (2, 2, 3))
        for lease, key in ((short, b"s"), (renewed, b"r"), (long, b"l")):
            subject.store.put(key, lease=lease.id)

        subject.clock.advance(1_900)
        subject.expire()
        renewed.keepalive()
        before = keys(subject.store.range(*EVERYTHING))
        subject.clock.advance(200)
        subject.expire()
        after = keys(subject.store.range(*EVERYTHING))
        subject.clock.advance(1_000)
        subject.expire()

        assert (before, after) == (b"lrs", b"lr")
        assert keys(subject.store.range(*EVERYTHING)) == b"r"
        assert subject.store.status().revision == 6
        assert renewed.remaining() == pytest.approx(0.8)

    def test_what_is_over_cannot_be_kept_alive(self, subject: Subject) -> None:
        lease = subject.store.lease(2)
        subject.store.put(b"a", lease=lease.id)
        subject.clock.advance(2_000)

        with pytest.raises(InvalidInputError):
            lease.keepalive()

        assert subject.store.get(b"a") is None

    def test_leases_of_a_store_that_is_opened_again_have_their_keys_and_their_full_time(self, subject: Subject) -> None:
        lease = subject.store.lease(10, id=5)
        subject.store.put(b"a", lease=lease.id)
        subject.clock.advance(9_000)

        subject.reopen()
        subject.clock.advance(9_000)
        subject.expire()

        (again,) = subject.store.leases()
        assert (again.id, again.ttl_seconds, again.keys()) == (5, 10, (b"a",))
        subject.clock.advance(1_000)
        subject.expire()
        assert (subject.store.leases(), subject.store.get(b"a")) == ((), None)


class WatchContract(_Contract):
    """Being told what happens."""

    @pytest.mark.parametrize("starts_in_the_past", [False, True])
    @pytest.mark.parametrize(
        ("key", "options", "revisions"),
        [
            (b"a", {}, [2, 5]),
            (b"a", {"end": b"b"}, [2, 3, 5]),
            (b"a", {"prefix": True}, [2, 3, 5]),
            (b"b", {"end": FROM_KEY}, [4, 6]),
            (b"\0", {"end": FROM_KEY}, [2, 3, 4, 5, 6]),
            (b"x", {}, []),
        ],
    )
    def test_a_watcher_is_told_of_its_keys_revision_by_revision(
        self, store: Any, key: bytes, options: dict[str, Any], revisions: list[int], starts_in_the_past: bool
    ) -> None:
        watchers = [] if starts_in_the_past else [store.watch(key, **options)]
        for name in (b"a", b"aa", b"b"):
            store.put(name)
        store.delete(b"a")
        store.put(b"c")
        watchers.append(store.watch(key, start_revision=2, **options))

        for watcher in watchers:
            assert [batch.revision for batch in drained(watcher)] == revisions

    def test_an_event_is_a_put_with_all_there_is_or_a_delete_with_its_key(self, store: Any) -> None:
        watcher = store.watch(b"a")
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        store.delete(b"a")

        events = events_of(drained(watcher))

        second = KeyValue(key=b"a", value=b"2", create_revision=2, mod_revision=3, version=2)
        assert events == [
            Event(kind="put", kv=kv_of(b"a", b"1", 2)),
            Event(kind="put", kv=second),
            Event(kind="delete", kv=gone(b"a", 4)),
        ]
        assert [event.is_create for event in events] == [True, False, False]

    def test_all_that_one_revision_did_is_one_batch_in_order(self, store: Any) -> None:
        put_all(store, b"abc")
        watcher = store.watch(*EVERYTHING)

        store.txn([], [Put(b"z"), Delete(b"a", b"c"), Txn([], [Put(b"d")])])
        store.delete(*EVERYTHING)

        first, second = drained(watcher)
        assert [(event.kind, event.kv.key) for event in first.events] == [
            ("put", b"z"), ("delete", b"a"), ("delete", b"b"), ("put", b"d")
        ]  # fmt: skip
        assert [event.kv.key for event in second.events] == [b"c", b"d", b"z"]
        assert {event.kv.mod_revision for event in first.events} == {first.revision} == {5}

    @pytest.mark.parametrize(
        ("filters", "revisions"),
        [((), [2, 3, 4, 5]), (("put",), [3, 5]), (("delete",), [2, 4]), (("put", "delete"), [])],
    )
    def test_kinds_that_are_filtered_are_left_out(
        self, store: Any, filters: tuple[Literal["put", "delete"], ...], revisions: list[int]
    ) -> None:
        watcher = store.watch(b"a", filters=filters)
        for _ in range(2):
            store.put(b"a")
            store.delete(b"a")

        assert [batch.revision for batch in drained(watcher)] == revisions

    def test_how_a_key_was_before_is_told_if_asked_for_and_kept(self, store: Any) -> None:
        store.put(b"a", b"1")
        store.put(b"a", b"2")
        store.delete(b"a")
        store.put(b"a", b"3")

        def before(start_revision: int) -> list[bytes | None]:
            watcher = store.watch(b"a", start_revision=start_revision, prev_kv=True)
            return [event.prev_kv.value if event.prev_kv else None for event in events_of(drained(watcher))]

        assert before(1) == [None, b"1", b"2", None]
        store.compact(3)
        assert before(3) == [None, b"2", None]

    def test_nothing_is_told_before_a_start_that_is_yet_to_come(self, store: Any) -> None:
        watcher = store.watch(b"a", start_revision=4)

        told = [(store.put(b"a").revision, [batch.revision for batch in drained(watcher)]) for _ in range(4)]

        assert told == [(2, []), (3, []), (4, [4]), (5, [5])]

    def test_a_start_below_the_compacted_revision_is_told_once_and_is_the_end(self, store: Any) -> None:
        put_all(store, b"aaaa")
        store.compact(4)
        watcher = store.watch(b"a", start_revision=3)

        with pytest.raises(CompactedError) as error:
            watcher.next(timeout=0)

        store.put(b"a")
        assert error.value.compact_revision == 4
        assert watcher.next(timeout=0) is None
        assert list(watcher) == []

    @pytest.mark.parametrize("last", ["put", "delete"])
    def test_a_start_at_the_compacted_revision_is_told_of_what_happened_there(self, store: Any, last: str) -> None:
        put_all(store, b"ab")
        revision = store.put(b"a").revision if last == "put" else store.delete(b"a").revision
        store.put(b"b")

        store.compact(revision)

        batches = drained(store.watch(*EVERYTHING, start_revision=revision))
        assert [(batch.revision, batch.events[0].kind) for batch in batches] == [(4, last), (5, "put")]

    def test_a_compaction_takes_nothing_from_a_watcher_that_has_come_as_far(self, store: Any) -> None:
        watcher = store.watch(*EVERYTHING)
        for compacted in (None, 3, 5, 7):
            if compacted is not None:
                store.compact(compacted)
            put_all(store, b"ab")
            assert [batch.revision for batch in drained(watcher)] == [
                store.status().revision - 1,
                store.status().revision,
            ]

    def test_a_long_past_is_caught_up_with_whole_revisions(self, store: Any) -> None:
        for number in range(30):
            store.txn([], [Put(b"%03d" % key, b"%d" % number) for key in range(100)])

        batches = drained(store.watch(*EVERYTHING, start_revision=1))

        assert [(batch.revision, len(batch.events)) for batch in batches] == [(each, 100) for each in range(2, 32)]

    @pytest.mark.parametrize("end", [b"a", b"b"])
    def test_a_range_that_is_empty_cannot_be_watched(self, store: Any, end: bytes) -> None:
        with pytest.raises(InvalidInputError):
            store.watch(b"b", end)

    def test_nothing_comes_after_cancelling(self, store: Any) -> None:
        cancelled, left = store.watch(b"a"), store.watch(b"a")
        store.put(b"a")

        cancelled.cancel()
        cancelled.cancel()
        with left:
            assert left.next(timeout=0) is not None
        store.put(b"a")

        assert [cancelled.next(timeout=0), left.next(timeout=0)] == [None, None]
        assert list(cancelled) == []

    def test_progress_is_the_revision_through_which_everything_was_told(self, store: Any) -> None:
        watcher, future = store.watch(b"a"), store.watch(b"a", start_revision=5)
        at_first = watcher.progress()
        store.put(b"b")
        beside = watcher.progress()
        store.put(b"a")
        waiting = watcher.progress()
        watcher.next(timeout=0)

        assert (at_first, beside, waiting, watcher.progress(), future.progress()) == (1, 2, None, 3, None)
        store.put(b"b")
        assert future.progress() == 4
        watcher.cancel()
        assert watcher.progress() is None

    def test_watchers_share_nothing(self, store: Any) -> None:
        store.put(b"a", b"1")
        plain, before, filtered = (
            store.watch(b"a", start_revision=2, **options) for options in ({}, {"prev_kv": True}, {"filters": ("put",)})
        )
        store.put(b"a", b"2")

        assert [event.prev_kv is None for event in events_of(drained(before))] == [True, False]
        assert [event.prev_kv is None for event in events_of(drained(plain))] == [True, True]
        assert drained(filtered) == []

    def test_who_waits_is_woken_by_what_happens(self, store: Any) -> None:
        watcher = store.watch(b"a")

        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(watcher.next, timeout=30)
            store.put(b"b")
            revision = store.put(b"a").revision
            batch = waiting.result(timeout=30)

        assert batch.revision == revision

    def test_watching_goes_on_without_a_gap_where_it_ended_before_the_store_was_closed(self, subject: Subject) -> None:
        watcher = subject.store.watch(*EVERYTHING)
        put_all(subject.store, b"ab")
        seen = drained(watcher)[-1].revision
        put_all(subject.store, b"cd")

        subject.reopen()

        batches = drained(subject.store.watch(*EVERYTHING, start_revision=seen + 1))
        assert [event.kv.key for event in events_of(batches)] == [b"c", b"d"]


class RestartContract(_Contract):
    """What is there after the store was closed and opened."""

    def test_everything_is_there_and_no_revision_is_used_again(self, subject: Subject) -> None:
        store = subject.store
        put_all(store, b"abc")
        store.put(b"a", b"again")
        store.delete(b"b")
        store.compact(3)
        status = store.status()
        expected = {revision: store.range(*EVERYTHING, revision=revision) for revision in range(3, 7)}
        events = drained(store.watch(*EVERYTHING, start_revision=3, prev_kv=True))

        subject.reopen()

        store = subject.store
        assert (store.status().revision, store.status().compact_revision) == (status.revision, status.compact_revision)
        assert {revision: store.range(*EVERYTHING, revision=revision) for revision in range(3, 7)} == expected
        assert drained(store.watch(*EVERYTHING, start_revision=3, prev_kv=True)) == events
        with pytest.raises(CompactedError):
            store.compact(3)
        assert store.put(b"b").revision == 7
        assert store.get(b"a").version == 2

    def test_a_store_that_is_opened_after_every_change_is_as_one_that_stayed_open(self, subject: Subject) -> None:
        for number in range(12):
            key = b"%d" % (number % 3)
            if number % 4 == 3:
                subject.store.delete(key)
            else:
                subject.store.put(key, b"%d" % number)
            subject.reopen()

        answers = [keys(subject.store.range(*EVERYTHING, revision=revision)) for revision in range(1, 14)]
        assert answers == [b"", b"0", b"01", b"012", b"12", b"12", b"12", b"012", b"02", b"02", b"02", b"012", b"01"]
        subject.verify()


class ThreadContract(_Contract):
    """Many threads on one store."""

    def test_what_threads_see_is_one_history(self, store: Any) -> None:
        """Every write has a revision of its own, and every read is what that history says of the revision it names."""
        writers, rounds = 3, 15

        def write(number: int) -> list[Any]:
            return [
                store.txn([], [Put(b"%d" % number, b"%d" % each), Put(b"last", b"%d" % number), Get(*EVERYTHING)])
                for each in range(rounds)
            ]

        def read(_: int) -> list[Any]:
            return [store.range(*EVERYTHING) for _ in range(rounds)]

        with ThreadPoolExecutor(2 * writers) as pool:
            written = [pool.submit(write, number) for number in range(writers)]
            looked = [pool.submit(read, number) for number in range(writers)]
            writes = [future.result(timeout=60) for future in written]
            reads = [future.result(timeout=60) for future in looked]

        assert sorted(each.revision for thread in writes for each in thread) == list(range(2, 2 + writers * rounds))
        seen_within = [each.responses[-1] for thread in writes for each in thread]
        for answer in (*seen_within, *(each for thread in reads for each in thread)):
            assert answer.kvs == store.range(*EVERYTHING, revision=answer.revision).kvs
        for thread in (*writes, *reads):
            revisions = [each.revision for each in thread]
            assert revisions == sorted(revisions), "time goes forward for each thread"

    def test_of_threads_that_compare_and_put_one_wins_each_round(self, store: Any) -> None:
        def count_up(_: int) -> int:
            won = 0
            while won < 10:
                kv = store.get(b"counter")
                seen, value = (kv.mod_revision, int(kv.value)) if kv else (0, 0)
                won += store.txn([M(b"counter") == seen], [Put(b"counter", b"%d" % (value + 1))]).succeeded
            return won

        with ThreadPoolExecutor(3) as pool:
            wins = sum(pool.map(count_up, range(3), timeout=60))

        assert (wins, store.get(b"counter").value, store.status().revision) == (30, b"30", 31)

    def test_watchers_beside_writers_are_told_everything_once_whole_and_in_order(self, store: Any) -> None:
        writers, rounds = 2, 20
        last = 1 + writers * rounds

        def write(number: int) -> None:
            for each in range(rounds):
                operations: list[Operation] = [Put(b"%d" % number, b"%d" % each), Put(b"shared", b"%d" % number)]
                store.txn([], operations if each % 3 else [Delete(b"shared"), operations[0]])

        def watch(options: dict[str, Any]) -> list[WatchBatch]:
            batches: list[WatchBatch] = []
            with store.watch(*EVERYTHING, start_revision=1, **options) as watcher:
                while not batches or batches[-1].revision < last:
                    batch = watcher.next(timeout=30)
                    assert batch is not None
                    batches.append(batch)
            return batches

        with ThreadPoolExecutor(writers + 2) as pool:
            watching = [pool.submit(watch, options) for options in ({}, {"prev_kv": True})]
            for future in [pool.submit(write, number) for number in range(writers)]:
                future.result(timeout=60)
            plain, before = (future.result(timeout=60) for future in watching)

        assert [batch.revision for batch in plain] == [batch.revision for batch in before] == list(range(2, last + 1))
        for revision, kvs in replayed(before).items():
            assert kvs == store.range(*EVERYTHING, revision=revision).kvs
        for event in events_of(before):
            assert event.prev_kv == store.get(event.kv.key, revision=event.kv.mod_revision - 1)

    def test_watchers_that_come_and_go_hang_nobody(self, store: Any) -> None:
        def come_and_go(number: int) -> None:
            for each in range(10):
                watcher = store.watch(b"a", start_revision=each % 3)
                store.put(b"a", b"%d" % number)
                watcher.next(timeout=0)
                watcher.cancel()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(come_and_go, range(4), timeout=60))

        assert store.status().revision == 41


class KeyValueContract(
    RangeContract,
    ChangeContract,
    TxnContract,
    CompactionContract,
    LeaseContract,
    WatchContract,
    RestartContract,
    ThreadContract,
):
    """All of it. Subclasses give a ``subject`` fixture."""


# --- words ---------------------------------------------------------------------------------------------


def put_all(store: Any, names: bytes) -> None:
    """Put keys of one byte, with their own name as the value."""
    for name in names:
        store.put(bytes([name]), bytes([name]))


def keys(answer: RangeResult) -> bytes:
    return b"".join(kv.key for kv in answer.kvs)


def kv_of(key: bytes, value: bytes, revision: int) -> KeyValue:
    """Return a key as it is when it was put once."""
    return KeyValue(key=key, value=value, create_revision=revision, mod_revision=revision, version=1)


def gone(key: bytes, revision: int) -> KeyValue:
    """Return what an event says of a key that was deleted."""
    return KeyValue(key=key, value=b"", create_revision=0, mod_revision=revision, version=0)


def drained(watcher: Any) -> list[WatchBatch]:
    """Return what a watcher has to tell without waiting."""
    return list(iter(lambda: watcher.next(timeout=0), None))


def events_of(batches: Sequence[WatchBatch]) -> list[Event]:
    return [event for batch in batches for event in batch.events]


def replayed(batches: Sequence[WatchBatch]) -> dict[int, tuple[KeyValue, ...]]:
    """Return what a store holds after each revision, by what was told of it."""
    contents: dict[bytes, KeyValue] = {}
    states = {}
    for batch in batches:
        for event in batch.events:
            if event.kind == "put":
                contents[event.kv.key] = event.kv
            else:
                contents.pop(event.kv.key)
        states[batch.revision] = tuple(kv for _, kv in sorted(contents.items()))
    return states
