"""Frames of keys: what a range holds, and what became of a key."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitoframe import kv
from mitoframe.kv.view import EVENTS_MAX
from mitoframe.model.errors import CompactedError, FutureRevisionError, InvalidInputError


@pytest.fixture
def store():
    with kv.open("memory://") as store:
        yield store


def test_a_frame_has_the_keys_of_a_prefix_as_they_are_or_were(store: kv.KeyValueStore) -> None:
    store.put(b"/a/2", b"two")
    store.put(b"/a/1", b"\xff\x00")
    store.put(b"/b", b"")
    store.put(b"/a/2", b"zwei", lease=store.lease(100, id=9).id)
    store.delete(b"/a/1")

    now, before = store.to_frame(b"/a/"), store.to_frame(b"/a/", revision=4)

    assert now.rows() == [(b"/a/2", b"zwei", 2, 5, 2, 9)]
    assert before.rows() == [(b"/a/1", b"\xff\x00", 3, 3, 1, 0), (b"/a/2", b"two", 2, 2, 1, 0)]
    assert store.to_frame()["key"].to_list() == [b"/a/2", b"/b"]
    assert now["key"].cast(pl.String).to_list() == ["/a/2"]


def test_a_frame_of_nothing_has_the_same_columns(store: kv.KeyValueStore) -> None:
    empty, empty_history = store.to_frame(), store.history(b"a")
    store.put(b"a")

    assert empty.schema == store.to_frame().schema
    assert empty_history.schema == store.history(b"a").schema
    assert (empty.height, empty_history.height) == (0, 0)


def test_a_frame_of_a_revision_that_is_not_there_is_refused(store: kv.KeyValueStore) -> None:
    store.put(b"a")
    store.put(b"a")
    store.compact(3)

    with pytest.raises(CompactedError):
        store.to_frame(revision=2)
    with pytest.raises(FutureRevisionError):
        store.to_frame(revision=4)
    with pytest.raises(InvalidInputError):
        store.history(b"")


def test_history_has_each_put_and_delete_of_a_key(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")
    store.put(b"aa", b"other")
    store.put(b"a", b"2", lease=store.lease(100, id=9).id)
    store.delete(b"a")
    store.put(b"a", b"3")

    assert store.history(b"a").rows() == [
        (2, "put", b"1", 2, 1, 0),
        (4, "put", b"2", 2, 2, 9),
        (5, "delete", None, None, None, None),
        (6, "put", b"3", 6, 1, 0),
    ]


def test_a_long_history_is_told_in_full(store: kv.KeyValueStore) -> None:
    for number in range(EVENTS_MAX + 100):
        store.put(b"a", b"%d" % number)

    assert store.history(b"a")["revision"].to_list() == list(range(2, EVENTS_MAX + 102))


def test_history_begins_with_what_a_compaction_has_left(store: kv.KeyValueStore) -> None:
    for value in (b"1", b"2", b"3"):
        store.put(b"a", value)
    store.put(b"b")
    store.put(b"a", b"4")

    store.compact(5)

    assert store.history(b"a").select("revision", "value", "version").rows() == [(4, b"3", 3), (6, b"4", 4)]
    assert store.history(b"b")["revision"].to_list() == [5]


@given(
    steps=st.lists(st.sampled_from(["put a", "put b", "delete a", "compact"]), max_size=25),
)
def test_history_agrees_with_a_look_at_every_revision(steps: list[str]) -> None:
    with kv.open("memory://") as store:
        for step in steps:
            status = store.status()
            match step.split():
                case ["put", key]:
                    store.put(key.encode(), b"%d" % status.revision)
                case ["delete", key]:
                    store.delete(key.encode())
                case _ if status.revision > status.compact_revision:
                    store.compact(status.revision)

        status = store.status()
        seen = [store.get(b"a", revision=each) for each in range(max(status.compact_revision, 1), status.revision + 1)]
        expected = list(dict.fromkeys(each for each in seen if each))
        told = store.history(b"a")

    puts = told.filter(kind="put")
    assert puts["revision"].to_list() == [each.mod_revision for each in expected]
    assert puts["value"].to_list() == [each.value for each in expected]
    assert told["revision"].is_sorted()


def test_history_that_is_compacted_meanwhile_is_begun_anew(store: kv.KeyValueStore) -> None:
    for value in (b"1", b"2", b"3"):
        store.put(b"a", value)
    looks = iter([lambda: store.compact(4)])
    get = store._ledger.get

    def get_and_compact(key: bytes, *, revision: int = 0) -> kv.KeyValue | None:
        found = get(key, revision=revision)
        for compact in looks:
            compact()
        return found

    store._ledger.get = get_and_compact  # type: ignore[method-assign]

    assert store.history(b"a")["value"].to_list() == [b"3"]
