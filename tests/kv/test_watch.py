"""Watchers: every revision once, in order and whole; or told that it is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitoframe import kv
from mitoframe.kv.view import EVENTS_MAX, LOOKED_AT_MAX
from mitoframe.kv.watch import Watcher
from mitoframe.model.errors import ClosedError, CompactedError, InvalidInputError
from mitoframe.model.keyvalue import FROM_KEY, WatchBatch

PATIENCE_S = 30
"""What never comes fails after this long; nothing that works waits for it."""


@pytest.fixture
def store():
    with kv.open("memory://") as store:
        yield store


def taken(watcher: Watcher) -> list[WatchBatch]:
    """Return what there is to be had without waiting."""
    batches = []
    while (batch := watcher.next(timeout=0)) is not None:
        batches.append(batch)
    return batches


def told(batches: list[WatchBatch]) -> list[tuple[int, list[tuple[str, bytes]]]]:
    return [(batch.revision, [(each.kind, each.kv.key) for each in batch.events]) for batch in batches]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE_S)
    return not thread.is_alive()


# --- what is watched -----------------------------------------------------------------------------------


def test_a_watcher_of_a_key_is_told_of_that_key_alone_from_now_on(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"before")
    watcher = store.watch(b"a")

    store.put(b"a", b"1")
    store.put(b"aa", b"2")
    store.delete(b"a")

    batches = taken(watcher)
    assert told(batches) == [(3, [("put", b"a")]), (5, [("delete", b"a")])]
    assert (batches[0].events[0].kv.value, batches[0].events[0].kv.version) == (b"1", 2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"key": b"a", "end": b"b"}, [b"a", b"a0", b"a\xff"]),
        ({"key": b"a0", "end": FROM_KEY}, [b"a0", b"a\xff", b"b"]),
        ({"key": FROM_KEY, "end": FROM_KEY}, [b"a", b"a0", b"a\xff", b"b"]),
        ({"key": b"a", "prefix": True}, [b"a", b"a0", b"a\xff"]),
        ({"key": b"", "prefix": True}, [b"a", b"a0", b"a\xff", b"b"]),
        ({"key": b"b"}, [b"b"]),
    ],
    ids=["range", "from a key on", "everything", "prefix", "empty prefix", "key"],
)
@pytest.mark.parametrize("start_revision", [0, 1], ids=["as it happens", "catching up"])
def test_a_range_is_half_open_and_may_have_no_end(
    store: kv.KeyValueStore, options: dict, expected: list[bytes], start_revision: int
) -> None:
    watcher = store.watch(**options, start_revision=start_revision)

    for key in (b"a", b"a0", b"a\xff", b"b"):
        store.put(key)

    assert [event.kv.key for batch in taken(watcher) for event in batch.events] == expected


@pytest.mark.parametrize(
    "options",
    [
        {"key": b""},
        {"key": b"b", "end": b"a"},
        {"key": b"a", "end": b"a"},
        {"key": b"a", "end": b""},
        {"key": b"a", "end": b"b", "prefix": True},
        {"key": b"a", "start_revision": -1},
        {"key": b"a", "filters": ("puts",)},
        {"key": b"a", "filters": "get"},
    ],
    ids=str,
)
def test_what_cannot_be_watched_is_refused(store: kv.KeyValueStore, options: dict) -> None:
    with pytest.raises(InvalidInputError):
        store.watch(**options)


def test_all_that_one_revision_did_is_one_batch_in_order(store: kv.KeyValueStore) -> None:
    for key in (b"b", b"a", b"c"):
        store.put(key)
    watcher = store.watch(b"", prefix=True)

    store.delete(b"", prefix=True)

    assert told(taken(watcher)) == [(5, [("delete", b"a"), ("delete", b"b"), ("delete", b"c")])]


@pytest.mark.parametrize(("filters", "kinds"), [(("put",), ["delete"]), ("delete", ["put"]), (("put", "delete"), [])])
def test_kinds_that_are_filtered_are_left_out(store: kv.KeyValueStore, filters: tuple, kinds: list[str]) -> None:
    watcher = store.watch(b"a", filters=filters)

    store.put(b"a")
    store.delete(b"a")

    assert [event.kind for batch in taken(watcher) for event in batch.events] == kinds


def test_how_a_key_was_before_is_told_if_asked_for(store: kv.KeyValueStore) -> None:
    store.put(b"a", b"1")
    asked, not_asked = store.watch(b"a", prev_kv=True), store.watch(b"a")

    store.put(b"a", b"2")
    store.delete(b"a")

    assert [batch.events[0].prev_kv.value for batch in taken(asked)] == [b"1", b"2"]
    assert [batch.events[0].prev_kv for batch in taken(not_asked)] == [None, None]


# --- from when on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_revision", [1, 2, 4, 7])
def test_what_happened_from_the_start_on_is_caught_up_with(store: kv.KeyValueStore, start_revision: int) -> None:
    for number in range(5):
        store.put(b"a", b"%d" % number)

    watcher = store.watch(b"a", start_revision=start_revision)
    store.put(b"a", b"and on")

    assert [batch.revision for batch in taken(watcher)] == list(range(max(start_revision, 2), 8))


def test_nothing_is_told_before_a_start_that_is_yet_to_come(store: kv.KeyValueStore) -> None:
    watcher = store.watch(b"a", start_revision=4, progress=True)

    store.put(b"a")
    store.put(b"a")
    early, progress = taken(watcher), watcher.progress()
    store.put(b"a")

    assert (early, progress) == ([], 3)
    assert told(taken(watcher)) == [(4, [("put", b"a")])]


def test_progress_is_not_told_before_the_start(store: kv.KeyValueStore) -> None:
    watcher = store.watch(b"a", start_revision=9)

    store.put(b"a")

    assert watcher.progress() is None


def test_a_start_below_the_compacted_revision_is_told_once_and_ends_the_watch(store: kv.KeyValueStore) -> None:
    for _ in range(5):
        store.put(b"a")
    store.compact(4)
    watcher = store.watch(b"a", start_revision=3)

    with pytest.raises(CompactedError) as caught:
        watcher.next()

    assert (caught.value.revision, caught.value.compact_revision) == (3, 4)
    assert list(watcher) == []
    assert watcher.next() is None
    assert watcher.progress() is None


def test_a_start_at_the_compacted_revision_is_legal(store: kv.KeyValueStore) -> None:
    store.put(b"a")
    store.put(b"b")
    store.delete(b"a")
    store.compact(4)

    assert told(taken(store.watch(b"a", start_revision=4))) == [(4, [("delete", b"a")])]


def test_what_was_read_before_a_compaction_is_handed_out_and_what_was_not_is_told(store: kv.KeyValueStore) -> None:
    watcher = store.watch(b"a")
    store.put(b"a", b"1")
    store.put(b"a", b"2")
    first = watcher.next()
    store.put(b"a", b"3")
    store.put(b"a", b"4")
    store.compact(5)

    assert first.revision == 2
    assert watcher.next(timeout=0).revision == 3
    with pytest.raises(CompactedError):
        watcher.next(timeout=0)


def test_catching_up_in_several_looks_keeps_revisions_whole_and_misses_none(store: kv.KeyValueStore) -> None:
    count = EVENTS_MAX + 100
    for number in range(count):
        store.put(b"a%04d" % number)
    store.delete(b"a", prefix=True)
    store.put(b"a")

    batches = taken(store.watch(b"a", prefix=True, start_revision=1))

    assert [batch.revision for batch in batches] == list(range(2, count + 4))
    assert [len(batch.events) for batch in batches] == [*[1] * count, count, 1]


def test_a_long_way_through_what_others_did_is_no_reason_to_wait(store: kv.KeyValueStore) -> None:
    watcher, with_progress = store.watch(b"a"), store.watch(b"a", progress=True)
    others = [kv.Put(b"other%d" % number) for number in range(128)]
    for _ in range(LOOKED_AT_MAX // len(others) + 2):
        store.txn([], others)
    revision = store.put(b"a").revision

    assert told([watcher.next(timeout=0)]) == [(revision, [("put", b"a")])]
    assert told(taken(with_progress)) == [(revision, [("put", b"a")])]


def test_a_watch_goes_on_in_a_store_that_was_restored(store: kv.KeyValueStore, tmp_path: Path) -> None:
    watcher = store.watch(b"a", prefix=True)
    store.put(b"a1")
    store.put(b"a2")
    seen = watcher.next().revision
    store.snapshot(tmp_path / "copy.kv")

    kv.restore(tmp_path / "copy.kv", tmp_path / "restored.kv")
    with kv.open(tmp_path / "restored.kv") as restored:
        again = restored.watch(b"a", prefix=True, start_revision=seen + 1)
        restored.put(b"a3")

        assert told(taken(again)) == [(3, [("put", b"a2")]), (4, [("put", b"a3")])]


STEPS = st.lists(st.sampled_from(["put a", "put b", "delete a", "compact", "next", "next", "progress"]), max_size=40)


@given(steps=STEPS, filters=st.sets(st.sampled_from(["put", "delete"]), max_size=1), start_revision=st.integers(0, 6))
def test_every_event_is_handed_out_once_or_was_compacted_before_it_was_asked_for(
    steps: list[str], filters: set, start_revision: int
) -> None:
    with kv.open("memory://") as store:
        watcher = store.watch(b"a", start_revision=start_revision, filters=filters)
        wanted = start_revision or 2
        expected: list[int] = []
        for step in [*steps, "next", "progress", *["next"] * len(steps)]:
            status = store.status()
            try:
                match step.split():
                    case ["put", key]:
                        revision = store.put(key.encode()).revision
                        expected += [revision] * (key == "a" and revision >= wanted and "put" not in filters)
                    case ["delete", key]:
                        done = store.delete(key.encode())
                        expected += [done.revision] * (
                            done.deleted * (done.revision >= wanted) and "delete" not in filters
                        )
                    case ["compact"] if status.revision > status.compact_revision:
                        store.compact(status.revision)
                    case ["next"]:
                        batch = watcher.next(timeout=0)
                        assert [batch and batch.revision] == (expected[:1] or [None])
                        expected = expected[1:]
                    case ["progress"] if (through := watcher.progress()) is not None:
                        assert expected == []
                        assert through == max(status.revision, wanted - 1)
            except CompactedError as error:
                asked, compacted = error.revision, error.compact_revision
                assert asked < compacted == status.compact_revision
                assert watcher.next() is None
                return

        assert expected == []


# --- progress ------------------------------------------------------------------------------------------


def test_progress_is_told_once_all_that_was_to_be_told_was_handed_out(store: kv.KeyValueStore) -> None:
    watcher = store.watch(b"a")
    nothing = watcher.progress()
    store.put(b"a")
    store.put(b"other")
    behind = watcher.progress()

    batch = watcher.next()

    assert (nothing, behind, batch.revision, watcher.progress()) == (1, None, 2, 3)
    assert store.watch(b"a", start_revision=watcher.progress() + 1).next(timeout=0) is None


def test_a_watcher_that_asked_for_it_hears_how_far_it_has_come(store: kv.KeyValueStore) -> None:
    asked, not_asked = store.watch(b"a", progress=True), store.watch(b"a")

    store.put(b"a")
    with_event = taken(asked)
    store.put(b"other")
    store.put(b"other")
    without = taken(asked)

    assert told(with_event) == [(2, [("put", b"a")])]
    assert told(without) == [(4, [])]
    assert taken(asked) == []
    assert [batch.revision for batch in taken(not_asked)] == [2]


# --- waiting -------------------------------------------------------------------------------------------


def test_who_waits_is_woken_by_what_happens(store: kv.KeyValueStore) -> None:
    watcher, got = store.watch(b"a"), []
    waiting = in_thread(lambda: got.append(watcher.next()))

    store.put(b"other")
    store.put(b"a", b"now")

    assert ended(waiting)
    assert got[0].events[0].kv.value == b"now"


def test_iterating_goes_on_until_another_thread_cancels(store: kv.KeyValueStore) -> None:
    watcher, got = store.watch(b"a"), []
    enough = threading.Event()

    def read() -> None:
        for batch in watcher:
            got.append(batch.revision)
            if len(got) == 3:
                enough.set()

    reading = in_thread(read)
    for _ in range(3):
        store.put(b"a")
    assert enough.wait(PATIENCE_S)
    watcher.cancel()

    assert ended(reading)
    assert got == [2, 3, 4]


def test_nothing_comes_after_cancelling(store: kv.KeyValueStore) -> None:
    with store.watch(b"a") as watcher:
        store.put(b"a")
        store.put(b"a")
        first = watcher.next()

    watcher.cancel()

    assert first.revision == 2
    assert watcher.next() is None
    assert list(watcher) == []


def test_who_waits_when_the_store_is_closed_is_told(store: kv.KeyValueStore) -> None:
    watcher, errors = store.watch(b"a"), []

    def read() -> None:
        with pytest.raises(ClosedError) as caught:
            watcher.next()
        errors.append(caught.value)

    waiting = in_thread(read)
    store.close()

    assert ended(waiting)
    assert len(errors) == 1
    with pytest.raises(ClosedError):
        store.watch(b"a", start_revision=5)


def test_watchers_that_come_and_go_while_it_is_written_miss_nothing_and_hang_nobody(store: kv.KeyValueStore) -> None:
    written, watched = 200, {}

    def read(number: int) -> None:
        start = store.status().revision + 1
        with store.watch(b"a", start_revision=start) as watcher:
            for batch in watcher:
                watched.setdefault((number, start), []).append(batch.revision)
                if batch.revision == written + 1 or (number % 2 and len(watched[number, start]) == 5):
                    return

    store.put(b"a")
    threads = [in_thread(lambda number=number: read(number)) for number in range(8)]
    for _ in range(written - 1):
        store.put(b"a")

    assert [ended(thread) for thread in threads] == [True] * 8
    assert all(got == list(range(start, start + len(got))) for (_, start), got in watched.items())


def test_cancelling_and_closing_at_the_same_time_hangs_nobody(tmp_path: Path) -> None:
    store = kv.open(tmp_path / "store.kv")
    watchers = [store.watch(b"a", prefix=True) for _ in range(20)]

    def read(watcher: Watcher) -> None:
        with suppress(ClosedError):
            for _ in watcher:
                pass

    def write() -> None:
        with suppress(ClosedError):
            while True:
                store.put(b"a")

    threads = [in_thread(lambda watcher=watcher: read(watcher)) for watcher in watchers]
    threads.append(in_thread(write))
    assert store.watch(b"a").next(timeout=PATIENCE_S)
    threads += [in_thread(watcher.cancel) for watcher in watchers[::2]]
    store.close()

    assert {ended(thread) for thread in threads} == {True}


# --- how it looks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"key": b"a"}, "watch of b'a', from revision 2 on"),
        ({"key": b"a", "prefix": True}, "watch of keys that begin with b'a', from revision 2 on"),
        ({"key": b"a", "end": FROM_KEY}, "watch of keys from b'a' on, from revision 2 on"),
        ({"key": b"", "prefix": True}, "watch of all keys, from revision 2 on"),
        ({"key": b"a", "end": b"q"}, "watch of keys from b'a' to before b'q', from revision 2 on"),
    ],
    ids=str,
)
def test_it_says_what_it_watches(store: kv.KeyValueStore, options: dict, text: str) -> None:
    assert repr(store.watch(**options)) == text


def test_its_picture_needs_no_store_and_escapes_what_keys_say(store: kv.KeyValueStore) -> None:
    watcher = store.watch(b"<b>", prev_kv=True, filters=("put",))
    store.close()
    open_html = watcher._repr_html_()
    watcher.cancel()

    assert "&lt;b&gt;" in open_html
    assert "<b>" not in open_html
    assert "puts" in open_html
    assert repr(watcher) == "watch of b'<b>' (over)"
