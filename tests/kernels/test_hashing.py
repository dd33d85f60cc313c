from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import int64s

from mitoframe.kernels.hashing import hash_bytes


def hashes(values: list[bytes]) -> list[int]:
    offsets = int64s([0, *np.cumsum([len(value) for value in values])])
    return hash_bytes(offsets, np.frombuffer(b"".join(values), np.uint8)).tolist()


def fnv1a(value: bytes) -> int:
    found = 0xCBF29CE484222325
    for octet in value:
        found = (found ^ octet) * 0x100000001B3 % 2**64
    return found


@given(st.lists(st.binary(max_size=20), max_size=20))
@settings(deadline=None, max_examples=60)
def test_each_value_has_its_fnv_hash(values):
    assert hashes(values) == [fnv1a(value) for value in values]


@pytest.mark.parametrize(
    ("value", "expected"), [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)]
)
def test_published_hashes_are_met(value, expected):
    assert hashes([value]) == [expected]


def test_a_slice_of_values_is_hashed_where_it_lies():
    data = np.frombuffer(b"xxabcxx", np.uint8)

    assert hash_bytes(int64s([2, 3, 5]), data).tolist() == [fnv1a(b"a"), fnv1a(b"bc")]
