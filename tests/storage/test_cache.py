"""The cache against a model of it: two lists, the oldest first, and a budget."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.storage.cache import _ENTRY_BYTES, KINDS, Cache, CacheUse, Kind

BUDGET_BYTES = 10 * _ENTRY_BYTES

kinds: st.SearchStrategy[Kind] = st.sampled_from(["footers", "chunks", "chunks", "results"])
owners = st.sampled_from("ab")
keys = st.sampled_from([None, 0, (1, "cpu")])
sizes = st.integers(0, 2 * _ENTRY_BYTES) | st.sampled_from([BUDGET_BYTES - _ENTRY_BYTES, BUDGET_BYTES, 10**12])
steps = st.lists(
    st.tuples(st.just("put"), kinds, owners, keys, sizes)
    | st.tuples(st.just("get"), kinds, owners, keys)
    | st.tuples(st.just("forget"), owners),
    max_size=40,
)


@dataclass
class Model:
    budget_bytes: int
    entries: list[tuple[tuple[Any, ...], int, int]] = field(default_factory=list)  # key, value, cost; the oldest first
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def get(self, key: tuple[Any, ...]) -> int | None:
        entry = next((entry for entry in self.entries if entry[0] == key), None)
        self.counts[key[0], "misses" if entry is None else "hits"] += 1
        if entry is None:
            return None
        self.entries.remove(entry)
        self.entries.append(entry)
        return entry[1]

    def put(self, key: tuple[Any, ...], value: int, size_bytes: int) -> None:
        self.entries = [entry for entry in self.entries if entry[0] != key]
        cost = size_bytes + _ENTRY_BYTES
        if cost > self.budget_bytes:
            return
        self.entries.append((key, value, cost))
        while sum(entry[2] for entry in self.entries) > self.budget_bytes:
            chunks = [entry for entry in self.entries if entry[0][0] == "chunks"]
            gone = (chunks or self.entries)[0]
            self.entries.remove(gone)
            self.counts[gone[0][0], "evictions"] += 1

    def forget(self, owner: str) -> None:
        self.entries = [entry for entry in self.entries if entry[0][1] != owner]

    def use(self) -> tuple[CacheUse, ...]:
        return tuple(
            CacheUse(
                kind=kind,
                entry_count=sum(key[0] == kind for key, _, _ in self.entries),
                size_bytes=sum(cost for key, _, cost in self.entries if key[0] == kind),
                hits=self.counts[kind, "hits"],
                misses=self.counts[kind, "misses"],
                evictions=self.counts[kind, "evictions"],
            )
            for kind in KINDS
        )


@settings(deadline=None, max_examples=100)
@given(steps, st.sampled_from([0, _ENTRY_BYTES, BUDGET_BYTES]))
def test_a_cache_does_what_its_model_does(actions, budget_bytes):
    cache, model = Cache(budget_bytes), Model(budget_bytes)

    for number, (action, *words) in enumerate(actions):
        match action:
            case "put":
                *key, size_bytes = words
                cache.put(*key, number, size_bytes)
                model.put(tuple(key), number, size_bytes)
            case "get":
                assert cache.get(*words) == model.get(tuple(words))
            case "forget":
                cache.forget(*words)
                model.forget(*words)
        assert cache.use() == model.use()
        # Asking what is there counts for nothing.
        assert all(cache.holds(*key) for key, _, _ in model.entries)
        assert cache.entry_count == len(model.entries)
        assert cache.size_bytes == sum(use.size_bytes for use in cache.use()) <= budget_bytes


def cache_of(*entries: tuple[Kind, str]) -> Cache:
    """Make a cache that is full with these entries."""
    cache = Cache(len(entries) * 2 * _ENTRY_BYTES)
    for kind, owner in entries:
        cache.put(kind, owner, None, f"{kind} of {owner}", _ENTRY_BYTES)
    return cache


def kept(cache: Cache, *entries: tuple[Kind, str]) -> list[bool]:
    return [cache.get(kind, owner) is not None for kind, owner in entries]


def test_what_was_put_is_got_and_counted():
    cache = Cache(BUDGET_BYTES)
    cache.put("footers", "a", None, "one", 10)

    assert cache.get("footers", "a") == "one"
    assert cache.get("footers", "b") is None
    assert cache.get("chunks", "a") is None
    assert cache.use()[0] == CacheUse(
        kind="footers", entry_count=1, size_bytes=10 + _ENTRY_BYTES, hits=1, misses=1, evictions=0
    )
    assert [use.kind for use in cache.use()] == list(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "chunks"])
def test_chunks_go_before_anything_else_however_new_they_are(kind: Kind):
    cache = cache_of((kind, "a"), ("chunks", "b"), (kind, "c"), ("chunks", "d"))
    cache.get("chunks", "b")

    cache.put(kind, "e", None, "new", 2 * _ENTRY_BYTES)

    assert kept(cache, (kind, "a"), (kind, "c"), (kind, "e")) == [True] * 3
    assert kept(cache, ("chunks", "b"), ("chunks", "d")) == [False, False]


def test_of_what_is_no_chunk_the_least_recently_used_goes_first():
    cache = cache_of(("footers", "a"), ("results", "b"), ("last rows", "c"))
    cache.get("footers", "a")

    cache.put("selections", "d", None, "new", _ENTRY_BYTES)

    everything: list[tuple[Kind, str]] = [("footers", "a"), ("results", "b"), ("last rows", "c"), ("selections", "d")]
    assert kept(cache, *everything) == [True, False, True, True]


def test_a_chunk_that_fits_only_without_all_the_rest_does_not_push_it_out():
    cache = cache_of(("footers", "a"), ("footers", "b"))

    cache.put("chunks", "c", None, "large", cache.budget_bytes - _ENTRY_BYTES)

    assert kept(cache, ("footers", "a"), ("footers", "b"), ("chunks", "c")) == [True, True, False]


def test_a_value_over_the_budget_is_not_kept_and_pushes_nothing_out():
    cache = cache_of(("footers", "a"))

    cache.put("footers", "b", None, "huge", cache.budget_bytes)

    assert kept(cache, ("footers", "a"), ("footers", "b")) == [True, False]


def test_a_value_over_the_budget_still_replaces_the_one_before():
    cache = cache_of(("footers", "a"))

    cache.put("footers", "a", None, "huge", cache.budget_bytes)

    assert (cache.get("footers", "a"), cache.size_bytes) == (None, 0)


def test_an_owner_that_is_forgotten_takes_all_of_its_own_along_and_nothing_else():
    cache = cache_of(("footers", "a"), ("chunks", "a"), ("chunks", "b"), ("results", "b"))

    cache.forget("a")
    cache.forget("nobody")

    assert kept(cache, ("footers", "a"), ("chunks", "a"), ("chunks", "b"), ("results", "b")) == [
        False,
        False,
        True,
        True,
    ]
    assert [use.evictions for use in cache.use()] == [0] * len(KINDS)


def test_nothing_is_remembered_of_an_owner_whose_last_entry_went():
    cache = Cache(2 * _ENTRY_BYTES)

    for number in range(100):
        cache.put("chunks", number, None, "one", 0)

    assert len(cache._owned) == sum(use.entry_count for use in cache.use()) == 2


def test_threads_share_a_cache_without_losing_count():
    cache = Cache(20 * _ENTRY_BYTES)

    def work(seed: int) -> None:
        for step in range(2000):
            owner = (seed * 7 + step) % 13
            kind = KINDS[step % len(KINDS)]
            cache.put(kind, owner, step % 3, (kind, owner, step % 3), 1 + step % (3 * _ENTRY_BYTES))
            found = cache.get(kind, owner, step % 3)
            assert found in (None, (kind, owner, step % 3))
            cache.forget(step % 5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert cache.size_bytes == sum(use.size_bytes for use in cache.use()) <= cache.budget_bytes
    assert sum(use.hits + use.misses for use in cache.use()) == 8000
    for owner in range(13):
        cache.forget(owner)
    assert (cache.size_bytes, len(cache._owned)) == (0, 0)
    assert [(use.entry_count, use.size_bytes) for use in cache.use()] == [(0, 0)] * len(KINDS)
