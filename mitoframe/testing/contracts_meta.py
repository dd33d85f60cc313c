"""The contract of a `MetaStore`, as tests to inherit.

    class TestMyStore(MetaStoreContract):
        @pytest.fixture
        def store(self): ...

The store may hold other keys and be at any revision: each test works under keys of its own. The last test runs random
programs against a model that keeps the whole contents of every revision in a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from mitoframe.model.errors import ClosedError, InvalidInputError
from mitoframe.model.keyvalue import Change, Compare, Delete, KeyValue, Put, TxnResult
from mitoframe.ports import MetaStore

Target = Literal["create", "mod", "version"]
TARGETS: tuple[Target, ...] = ("create", "mod", "version")
_prefixes = count(1)


def contract_prefix() -> bytes:
    """Return a folder of keys that no other test of this process uses."""
    return b"/contract/%d/" % next(_prefixes)


def outcome(result: TxnResult) -> tuple[bool, int]:
    """Return what every store tells of a transaction; one may answer each operation as well."""
    return result.succeeded, result.revision


class MetaStoreContract:
    """What every `MetaStore` must do. Subclasses give a ``store`` fixture."""

    @pytest.fixture
    def store(self) -> Iterator[MetaStore]:
        raise NotImplementedError("give a fixture called store")

    @pytest.fixture
    def key(self) -> bytes:
        return contract_prefix() + b"key"

    def test_a_missing_key_is_an_empty_range_and_compares_as_zero(self, store: MetaStore, key: bytes) -> None:
        found = store.range(key)

        answers = [store.txn([Compare(key, target, 0)], []).succeeded for target in TARGETS]

        assert found.kvs == ()
        assert answers == [True, True, True]

    def test_a_put_raises_the_revision_by_one_and_is_read_back(self, store: MetaStore, key: bytes) -> None:
        before = store.range(key).revision

        result = store.txn([], [Put(key, b"value")])

        after = store.range(key)
        assert outcome(result) == (True, before + 1)
        assert after.revision == before + 1
        assert after.kvs == (_kv(key, b"value", created=before + 1, modified=before + 1, version=1),)

    def test_a_second_put_keeps_the_create_revision_and_counts_the_version(self, store: MetaStore, key: bytes) -> None:
        created = store.txn([], [Put(key, b"1")]).revision

        modified = store.txn([], [Put(key, b"2")]).revision

        assert store.range(key).kvs == (_kv(key, b"2", created=created, modified=modified, version=2),)

    def test_a_put_of_the_same_value_is_a_change(self, store: MetaStore, key: bytes) -> None:
        first = store.txn([], [Put(key, b"1")]).revision

        second = store.txn([], [Put(key, b"1")]).revision

        assert second == first + 1
        assert store.range(key).kvs[0].version == 2

    def test_a_key_made_again_after_a_delete_starts_over(self, store: MetaStore, key: bytes) -> None:
        store.txn([], [Put(key, b"1")])
        store.txn([], [Put(key, b"2")])
        store.txn([], [Delete(key)])
        gone = store.range(key).kvs
        zeros = [store.txn([Compare(key, target, 0)], []).succeeded for target in TARGETS]

        again = store.txn([], [Put(key, b"3")]).revision

        assert gone == ()
        assert zeros == [True, True, True]
        assert store.range(key).kvs == (_kv(key, b"3", created=again, modified=again, version=1),)

    def test_deleting_a_missing_key_changes_nothing(self, store: MetaStore, key: bytes) -> None:
        store.txn([], [Put(key, b"1")])
        before = store.txn([], [Delete(key)]).revision

        twice = store.txn([], [Delete(key)])
        never = store.txn([], [Delete(key + b"never")])

        assert (twice.revision, never.revision) == (before, before)
        assert store.changes(key, None, after=before) == (before, ())

    def test_a_transaction_that_changes_nothing_keeps_the_revision(self, store: MetaStore, key: bytes) -> None:
        before = store.range(key).revision

        empty = store.txn([], [])
        lost = store.txn([Compare(key, "version", 7)], [Put(key, b"1")])

        assert outcome(empty) == (True, before)
        assert outcome(lost) == (False, before)
        assert store.range(key).kvs == ()

    def test_all_operations_of_a_transaction_share_its_revision(self, store: MetaStore, key: bytes) -> None:
        store.txn([], [Put(key + b"1", b"old")])

        revision = store.txn([], [Delete(key + b"1"), Put(key + b"2", b"b"), Put(key + b"3", b"c")]).revision

        _, changes = store.changes(key, key + b"\xff", after=revision - 1)
        assert changes == (
            Change(key=key + b"1", value=None, mod_revision=revision),
            Change(key=key + b"2", value=b"b", mod_revision=revision),
            Change(key=key + b"3", value=b"c", mod_revision=revision),
        )

    def test_one_failed_comparison_takes_the_other_branch(self, store: MetaStore, key: bytes) -> None:
        revision = store.txn([], [Put(key, b"1")]).revision
        holds, fails = Compare(key, "mod", revision), Compare(key, "create", 0)

        result = store.txn([holds, fails], [Put(key, b"won")], [Put(key, b"lost")])

        assert outcome(result) == (False, revision + 1)
        assert store.range(key).kvs[0].value == b"lost"

    def test_comparisons_see_the_state_before_the_transaction(self, store: MetaStore, key: bytes) -> None:
        revision = store.txn([], [Put(key, b"1")]).revision
        all_hold = [Compare(key, "create", revision), Compare(key, "mod", revision), Compare(key, "version", 1)]

        result = store.txn(all_hold, [Put(key, b"2")])

        assert result.succeeded

    def test_a_range_is_sorted_by_bytes_and_half_open(self, store: MetaStore, key: bytes) -> None:
        names = [b"b", b"a", b"aa", b"\xfe", b"\x00", b"c"]
        store.txn([], [Put(key + name, name) for name in names])

        found = store.range(key + b"a", key + b"c")
        everything = store.range(key, key + b"\xff")

        assert [kv.value for kv in found.kvs] == [b"a", b"aa", b"b"]
        assert [kv.value for kv in everything.kvs] == sorted(names)
        assert store.range(key + b"c", key + b"a").kvs == ()

    def test_any_bytes_are_a_value(self, store: MetaStore, key: bytes) -> None:
        values = [b"", b"\x00", bytes(range(256)), b"x" * 100_000]

        store.txn([], [Put(key + b"%d" % number, value) for number, value in enumerate(values)])

        assert [kv.value for kv in store.range(key, key + b"\xff").kvs] == values

    def test_changes_report_only_the_latest_state_after_a_revision(self, store: MetaStore, key: bytes) -> None:
        store.txn([], [Put(key + b"old", b"1")])
        seen = store.txn([], [Put(key + b"deleted", b"1")]).revision
        modified = store.txn([], [Put(key + b"put", b"1")]).revision + 1
        store.txn([], [Put(key + b"put", b"2")])
        deleted = store.txn([], [Delete(key + b"deleted")]).revision

        revision, changes = store.changes(key, key + b"\xff", after=seen)

        assert revision == deleted
        assert changes == (
            Change(key=key + b"deleted", value=None, mod_revision=deleted),
            Change(key=key + b"put", value=b"2", mod_revision=modified),
        )
        assert store.changes(key, key + b"\xff", after=revision) == (revision, ())
        assert store.changes(key + b"put", None, after=seen) == (revision, changes[1:])

    @pytest.mark.parametrize("branch", ["success", "failure"])
    def test_a_key_named_twice_is_refused_whichever_branch_is_taken(
        self, store: MetaStore, key: bytes, branch: str
    ) -> None:
        before = store.range(key).revision

        once, again, gone = Put(key, b"1"), Put(key, b"2"), Delete(key)
        for twice in ((once, again), (once, gone), (gone, once)):
            with pytest.raises(InvalidInputError, match="duplicate key"):
                store.txn([], twice if branch == "success" else (), twice if branch == "failure" else ())

        assert store.range(key).revision == before
        assert store.txn([], [Delete(key), Delete(key)]).revision == before

    def test_an_empty_key_is_refused(self, store: MetaStore) -> None:
        with pytest.raises(InvalidInputError, match="empty"):
            store.range(b"")
        with pytest.raises(InvalidInputError, match="empty"):
            store.txn([], [Put(b"", b"1")])
        with pytest.raises(InvalidInputError, match="empty"):
            store.txn([Compare(b"", "mod", 0)], [])

    def test_a_closed_store_says_so(self, store: MetaStore, key: bytes) -> None:
        store.close()
        store.close()

        with pytest.raises(ClosedError):
            store.range(key)
        with pytest.raises(ClosedError):
            store.txn([], [Put(key, b"1")])

    def test_random_programs_agree_with_the_model(self, store: MetaStore) -> None:
        class Machine(MetaStoreMachine):
            def __init__(self) -> None:
                super().__init__(store)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )


def _kv(key: bytes, value: bytes, *, created: int, modified: int, version: int) -> KeyValue:
    return KeyValue(key=key, value=value, create_revision=created, mod_revision=modified, version=version)


# --- model ---------------------------------------------------------------------------------------------

Contents = dict[bytes, KeyValue]


class MetaStoreModel:
    """What a `MetaStore` is, written down: one dict per revision, in a list. Slow and obvious."""

    def __init__(self, first_revision: int) -> None:
        self.first_revision = first_revision
        self.history: list[Contents] = [{}]

    @property
    def revision(self) -> int:
        return self.first_revision + len(self.history) - 1

    @property
    def contents(self) -> Contents:
        return self.history[-1]

    def range(self, key: bytes, end: bytes | None) -> tuple[KeyValue, ...]:
        return tuple(kv for name, kv in sorted(self.contents.items()) if _within(name, key, end))

    def txn(
        self, compare: list[Compare], success: list[Put | Delete], failure: list[Put | Delete] | None = None
    ) -> TxnResult:
        succeeded = all(self.number(each.key, each.target) == each.value for each in compare)
        following = dict(self.contents)
        for operation in success if succeeded else failure or []:
            self._apply(following, operation)
        if following != self.contents:
            self.history.append(following)
        return TxnResult(succeeded=succeeded, revision=self.revision)

    def number(self, key: bytes, target: str) -> int:
        kv = self.contents.get(key)
        if kv is None:
            return 0
        numbers: dict[str, int] = {"create": kv.create_revision, "mod": kv.mod_revision, "version": kv.version}
        return numbers[target]

    def changes(self, key: bytes, end: bytes | None, *, after: int) -> tuple[Change, ...]:
        latest: dict[bytes, Change] = {}
        for number, (old, new) in enumerate(zip(self.history, self.history[1:], strict=False), start=1):
            for name in old.keys() | new.keys():
                if old.get(name) != new.get(name):
                    value = new[name].value if name in new else None
                    latest[name] = Change(key=name, value=value, mod_revision=self.first_revision + number)
        found = (change for _, change in sorted(latest.items()) if _within(change.key, key, end))
        return tuple(change for change in found if change.mod_revision > after)

    def _apply(self, contents: Contents, operation: Put | Delete) -> None:
        if isinstance(operation, Delete):
            contents.pop(operation.key, None)
            return
        revision, old = self.revision + 1, contents.get(operation.key)
        created, version = (old.create_revision, old.version + 1) if old else (revision, 1)
        contents[operation.key] = _kv(
            operation.key, operation.value, created=created, modified=revision, version=version
        )


def _within(name: bytes, key: bytes, end: bytes | None) -> bool:
    return name == key if end is None else key <= name < end


# --- machine -------------------------------------------------------------------------------------------

NAMES = st.sampled_from([b"a", b"aa", b"b", b"b\x00", b"c"])
VALUES = st.binary(max_size=3)
OPERATIONS = st.lists(
    st.one_of(st.builds(Put, NAMES, VALUES), st.builds(Delete, NAMES)), max_size=4, unique_by=lambda each: each.key
)
# True compares with the number the key really has, False with one it has not.
COMPARISONS = st.lists(st.tuples(NAMES, st.sampled_from(TARGETS), st.sampled_from([True, True, False])), max_size=3)
AGES = st.integers(min_value=-2, max_value=12)


class MetaStoreMachine(RuleBasedStateMachine):
    """Runs the same random program on a store and on the model, and compares every answer."""

    def __init__(self, store: MetaStore) -> None:
        super().__init__()
        self.store = store

    @initialize()
    def begin(self) -> None:
        self.prefix = contract_prefix()
        self.model = MetaStoreModel(self.store.range(self.prefix).revision)

    @rule(comparisons=COMPARISONS, success=OPERATIONS, failure=OPERATIONS)
    def txn(
        self,
        comparisons: list[tuple[bytes, Target, bool]],
        success: list[Put | Delete],
        failure: list[Put | Delete],
    ) -> None:
        compare = [self._comparison(*each) for each in comparisons]
        branches = [self._under_prefix(success), self._under_prefix(failure)]

        assert outcome(self.store.txn(compare, *branches)) == outcome(self.model.txn(compare, *branches))

    @rule(name=NAMES, end=st.none() | NAMES)
    def range(self, name: bytes, end: bytes | None) -> None:
        key, last = self._bounds(name, end)

        found = self.store.range(key, last)

        assert found.kvs == self.model.range(key, last)
        assert found.revision == self.model.revision

    @rule(name=NAMES, end=st.none() | NAMES, age=AGES)
    def changes(self, name: bytes, end: bytes | None, age: int) -> None:
        (key, last), after = self._bounds(name, end), self.model.revision - age

        assert self.store.changes(key, last, after=after) == (
            self.model.revision,
            self.model.changes(key, last, after=after),
        )

    @precondition(lambda self: self.model.contents)
    @rule(name=NAMES)
    def refused_transactions_change_nothing(self, name: bytes) -> None:
        twice = [Put(self.prefix + name, b"1"), Put(self.prefix + name, b"2")]

        with suppress(InvalidInputError):
            self.store.txn([], twice)
            raise AssertionError("a duplicate key was accepted")

    def teardown(self) -> None:
        key, end = self.prefix, self.prefix + b"\xff"
        assert self.store.range(key, end).kvs == self.model.range(key, end)

    def _bounds(self, name: bytes, end: bytes | None) -> tuple[bytes, bytes | None]:
        return self.prefix + name, None if end is None else self.prefix + end

    def _comparison(self, name: bytes, target: Target, holds: bool) -> Compare:
        key = self.prefix + name
        return Compare(key, target, self.model.number(key, target) + (0 if holds else 1))

    def _under_prefix(self, operations: list[Put | Delete]) -> list[Any]:
        return [
            Put(self.prefix + each.key, each.value) if isinstance(each, Put) else Delete(self.prefix + each.key)
            for each in operations
        ]
