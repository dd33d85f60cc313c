from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.storage.cache import LruCache

keys = st.sampled_from("abcd")
steps = st.lists(
    st.tuples(st.just("put"), keys, st.integers(0, 12))
    | st.tuples(st.just("get"), keys)
    | st.tuples(st.just("discard"), keys),
    max_size=30,
)


def test_what_was_put_is_got_and_counted():
    cache: LruCache[str] = LruCache(100)
    cache.put("a", "one", 10)

    assert cache.get("a") == "one"
    assert cache.get("b") is None
    assert (cache.hits, cache.misses, cache.size_bytes, len(cache)) == (1, 1, 10, 1)


def test_the_least_recently_used_goes_first():
    cache: LruCache[int] = LruCache(30)
    for number, key in enumerate("abc"):
        cache.put(key, number, 10)
    cache.get("a")

    cache.put("d", 3, 10)

    assert [cache.get(key) for key in "abcd"] == [0, None, 2, 3]


def test_a_value_over_the_budget_is_not_kept_and_pushes_nothing_out():
    cache: LruCache[int] = LruCache(30)
    cache.put("a", 1, 10)

    cache.put("b", 2, 31)

    assert (cache.get("a"), cache.get("b"), cache.size_bytes) == (1, None, 10)


def test_a_value_over_the_budget_still_replaces_the_one_before():
    cache: LruCache[int] = LruCache(30)
    cache.put("a", 1, 10)

    cache.put("a", 2, 31)

    assert (cache.get("a"), cache.size_bytes) == (None, 0)


@settings(deadline=None)
@given(steps)
def test_a_cache_does_what_an_ordered_list_would(actions):
    cache: LruCache[int] = LruCache(20)
    model: list[tuple[str, int, int]] = []  # key, value, size; the oldest first

    for number, (action, key, *size) in enumerate(actions):
        found = next((entry for entry in model if entry[0] == key), None)
        if action == "get":
            assert cache.get(key) == (found[1] if found else None)
        if found is not None:
            model.remove(found)
        if action == "get" and found is not None:
            model.append(found)
        if action == "discard":
            cache.discard(key)
        if action == "put":
            cache.put(key, number, size[0])
            model.append((key, number, size[0]))
            while sum(entry[2] for entry in model) > 20:
                model.pop(0)

    assert cache.size_bytes == sum(entry[2] for entry in model) <= 20
    assert len(cache) == len(model)


def test_threads_share_a_cache_without_losing_count():
    cache: LruCache[int] = LruCache(50)

    def work(seed: int) -> None:
        for step in range(2000):
            key = str((seed * 7 + step) % 13)
            cache.put(key, step, 1 + step % 9)
            cache.get(key)
            cache.discard(str(step % 5))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    for number in range(13):
        cache.discard(str(number))
    assert (cache.size_bytes, len(cache)) == (0, 0)
    assert cache.hits + cache.misses == 8000
