"""Rows as bytes: they come back as they were, sort as what they mean, and are refused if they were changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.kv.backend import TREES, Tree
from mitoframe.kv.revision import (
    Entry,
    Revision,
    head_from_bytes,
    head_to_bytes,
    index_bound,
    index_key,
    is_sealed,
    lease_from_bytes,
    lease_key_from_bytes,
    lease_to_bytes,
    record_from_bytes,
    record_to_bytes,
    seal,
    split_index_key,
)

# Zeros and the largest byte are what escaping is about.
KEYS = st.lists(st.sampled_from([b"\x00", b"\x01", b"a", b"\xff"]), min_size=1, max_size=5).map(b"".join)
REVISIONS = st.builds(Revision, st.integers(0, 2**63 - 1), st.integers(0, 127))
ENTRIES = st.builds(Entry, REVISIONS, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))


@given(one=st.tuples(KEYS, REVISIONS), other=st.tuples(KEYS, REVISIONS))
@settings(max_examples=150)
def test_rows_of_the_index_sort_by_key_and_revision(one: tuple[bytes, Revision], other: tuple[bytes, Revision]) -> None:
    assert (index_key(*one) < index_key(*other)) == (one < other)


@given(key=KEYS, other=st.tuples(KEYS, REVISIONS))
@settings(max_examples=150)
def test_a_bound_parts_smaller_keys_from_the_others(key: bytes, other: tuple[bytes, Revision]) -> None:
    assert (index_key(*other) < index_bound(key)) == (other[0] < key)


@given(key=st.binary(min_size=1, max_size=9), entry=ENTRIES, value=st.binary(max_size=9))
def test_rows_come_back_as_they_were(key: bytes, entry: Entry, value: bytes) -> None:
    lease = entry.lease

    assert split_index_key(index_key(key, entry.revision)) == (key, entry.revision)
    assert head_from_bytes(head_to_bytes(entry)) == entry
    assert record_from_bytes(entry.revision, record_to_bytes(entry, key, value)) == (entry, key, value)
    assert lease_from_bytes(lease_to_bytes(lease)) == lease
    assert lease_key_from_bytes(lease_to_bytes(lease) + key) == (lease, key)


@given(one=REVISIONS, other=REVISIONS)
def test_revisions_sort_as_their_bytes(one: Revision, other: Revision) -> None:
    assert (one.to_bytes() < other.to_bytes()) == (one < other)
    assert Revision.from_bytes(one.to_bytes()) == one


@pytest.mark.parametrize("size", range(8))
def test_any_flipped_bit_breaks_the_seal(size: int) -> None:
    key, sealed = b"key", seal("meta", b"key", b"value"[:size])

    flipped = [_flip(sealed, bit) for bit in range(8 * len(sealed))]
    moved = [is_sealed("meta", _flip(key, bit), sealed) for bit in range(8 * len(key))]

    assert is_sealed("meta", key, sealed)
    assert not any(is_sealed("meta", key, each) for each in flipped)
    assert not any(moved)


def test_a_row_of_another_tree_or_cut_short_is_not_what_was_sealed() -> None:
    sealed = seal("meta", b"key", b"value")

    assert [tree for tree in TREES if is_sealed(tree, b"key", sealed)] == ["meta"]
    assert not any(is_sealed("meta", b"key", sealed[:size]) for size in range(len(sealed)))
    assert not is_sealed("meta", b"keyv", seal("meta", b"key", b"value")[1:])


@pytest.mark.parametrize("damaged", [None, 7, 1.5, "text", bytearray(b"text"), b""])
def test_what_is_no_bytes_is_not_what_was_sealed(damaged: object) -> None:
    assert not is_sealed("meta", b"key", damaged)  # type: ignore[arg-type]
    assert not is_sealed("meta", damaged, seal("meta", b"key", b"value"))  # type: ignore[arg-type]


@pytest.mark.parametrize("tree", TREES)
def test_a_row_that_is_too_short_to_be_taken_apart_is_refused_although_its_checksum_is_right(tree: Tree) -> None:
    smallest = {"meta": (0, 0), "rev": (12, 28), "idx": (14, 24), "head": (0, 36), "lease": (8, 16), "leasekey": (8, 0)}
    key_bytes, value_bytes = smallest[tree]

    def is_good(key: bytes, value: bytes) -> bool:
        return is_sealed(tree, key, seal(tree, key, value))

    assert is_good(b"k" * key_bytes, b"v" * value_bytes)
    assert not any(is_good(b"k" * size, b"v" * value_bytes) for size in range(key_bytes))
    assert not any(is_good(b"k" * key_bytes, b"v" * size) for size in range(value_bytes))


def _flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
