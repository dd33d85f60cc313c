"""Series codes: every distinct tuple of tag values gets one small integer.

Tag columns come dictionary-encoded: an array of int32 codes, -1 for null, and how many values the dictionary has.
`combine_codes` turns any number of them into one array of dense codes, numbered in order of first appearance, and tells
for each the row where it first appears: its representative. A column whose value follows from the tuple so far (the
region of a host) splits nothing and costs one pass; `strings_follow` answers that question before anybody spends time
on dictionary-encoding the column. `dense_ranks` puts tuples in their order.

Promises: no limit on the number of columns or on their cardinalities below 2^31, null is a value of its own, and the
time is linear in the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int32Array, Int64Array, Uint8Array, device, kernel

NULL = -1
"""The code, and the rank, of a missing value."""

_TABLE_PER_ROW = 4
_TABLE_ALWAYS = 1 << 16
_SLOTS_FIRST = 1 << 10
_SCATTER = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: neighbouring keys land far apart


def combine_codes(columns: Sequence[tuple[Int32Array, int]], rows: int) -> tuple[Int32Array, Int64Array]:
    """Return the series code of each row, and for each code the row where it first appears.

    Requires: each column has ``rows`` codes from -1 to its cardinality - 1.

    >>> host = np.array([0, 1, 0, 1], np.int32)
    >>> codes, representatives = combine_codes([(host, 2)], 4)
    >>> codes.tolist(), representatives.tolist()
    ([0, 1, 0, 1], [0, 1])
    """
    codes = np.zeros(rows, np.int32)
    representatives = np.zeros(min(rows, 1), np.int64)
    for column, cardinality in columns:
        assert column.size == rows, f"a tag column has {column.size} codes for {rows} rows"
        if not codes_follow(column, codes, representatives):
            codes, representatives = split_codes(codes, representatives.size, column, cardinality)
    return codes, representatives


def split_codes(codes: Int32Array, count: int, column: Int32Array, cardinality: int) -> tuple[Int32Array, Int64Array]:
    """Combine codes below ``count`` with one more column into new codes and their representatives."""
    pairs = count * (cardinality + 1)
    if pairs <= max(_TABLE_ALWAYS, _TABLE_PER_ROW * codes.size):
        return _split_by_table(codes, count, column, cardinality)
    return _split_by_hash(codes, column, cardinality)


@kernel
def codes_follow(column: Int32Array, codes: Int32Array, representatives: Int64Array) -> bool:
    """Tell whether each row has the column's value of its representative."""
    expected = np.empty(representatives.size, np.int32)
    for code in range(representatives.size):
        expected[code] = column[representatives[code]]
    for row in range(codes.size):  # noqa: SIM110 - numba compiles no generator expressions
        if column[row] != expected[codes[row]]:
            return False
    return True


@kernel
def strings_follow(
    offsets: Int64Array, data: Uint8Array, valid: BoolArray, codes: Int32Array, representatives: Int64Array
) -> bool:
    """Tell whether each row has the bytes, or the null, of its representative. No ``valid`` means no nulls."""
    for row in range(codes.size):
        representative = representatives[codes[row]]
        if valid.size > 0:
            if valid[row] != valid[representative]:
                return False
            if not valid[row]:
                continue
        size = offsets[row + 1] - offsets[row]
        if size != offsets[representative + 1] - offsets[representative]:
            return False
        if not _same_bytes(data, offsets[row], offsets[representative], size):
            return False
    return True


@device
def _same_bytes(data: Uint8Array, left: int, right: int, size: int) -> bool:
    if size < 8:
        return _same_short(data, left, right, size)
    at = 0
    while at + 8 < size:
        if _word(data, left + at) != _word(data, right + at):
            return False
        at += 8
    # The last word ends with the last byte and may overlap the one before.
    return bool(_word(data, left + size - 8) == _word(data, right + size - 8))


@device
def _same_short(data: Uint8Array, left: int, right: int, size: int) -> bool:
    if max(left, right) + 8 > data.size:
        for at in range(size):  # noqa: SIM110
            if data[left + at] != data[right + at]:
                return False
        return True
    differing = _word(data, left) ^ _word(data, right)
    return bool(size == 0 or differing << np.uint64(64 - 8 * size) == 0)


@device
def _word(data: Uint8Array, start: int) -> np.uint64:
    # Spelled out byte by byte, because LLVM knows this for one load of eight bytes. Unsigned, because an index that
    # may be negative is checked eight times.
    at = np.uint64(start)
    return (
        np.uint64(data[at])
        | np.uint64(data[at + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[at + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[at + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[at + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[at + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[at + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[at + np.uint64(7)]) << np.uint64(56)
    )


@kernel
def _split_by_table(
    codes: Int32Array, count: int, column: Int32Array, cardinality: int
) -> tuple[Int32Array, Int64Array]:
    width = cardinality + 1
    table = np.full(count * width, -1, np.int32)
    split = np.empty(codes.size, np.int32)
    representatives = np.empty(min(codes.size, table.size), np.int64)
    found = 0
    for row in range(codes.size):
        pair = np.int64(codes[row]) * width + column[row] + 1
        code = table[pair]
        if code < 0:
            code = np.int32(found)
            table[pair] = code
            representatives[found] = row
            found += 1
        split[row] = code
    return split, representatives[:found].copy()


@kernel
def _split_by_hash(codes: Int32Array, column: Int32Array, cardinality: int) -> tuple[Int32Array, Int64Array]:
    width = cardinality + 1
    slots = np.full(_SLOTS_FIRST, -1, np.int32)
    pairs = np.empty(codes.size, np.int64)
    split = np.empty(codes.size, np.int32)
    representatives = np.empty(codes.size, np.int64)
    found = 0
    for row in range(codes.size):
        pair = np.int64(codes[row]) * width + column[row] + 1
        slot = _slot_of(slots, pairs, pair)
        code = slots[slot]
        if code < 0:
            code = np.int32(found)
            slots[slot] = code
            pairs[found] = pair
            representatives[found] = row
            found += 1
            if 2 * found > slots.size:
                slots = np.full(4 * slots.size, -1, np.int32)
                _fill_slots(slots, pairs, found)
        split[row] = code
    return split, representatives[:found].copy()


@device
def _slot_of(slots: Int32Array, pairs: Int64Array, pair: int) -> np.int64:
    """Return the slot that holds the pair's code, or the free one where it belongs."""
    mask = slots.size - 1
    scattered = np.uint64(pair) * np.uint64(_SCATTER)
    slot = np.int64(scattered >> np.uint64(32)) & mask
    while slots[slot] >= 0 and pairs[slots[slot]] != pair:
        slot = (slot + 1) & mask
    return slot


@device
def _fill_slots(slots: Int32Array, pairs: Int64Array, found: int) -> None:
    for code in range(found):
        slots[_slot_of(slots, pairs, pairs[code])] = code


def dense_ranks(columns: Sequence[Int32Array], rows: int) -> tuple[Int32Array, Int64Array]:
    """Return the place of each row among the distinct tuples, and for each distinct tuple its first row.

    >>> ranks, first_rows = dense_ranks([np.array([1, -1, 1], np.int32)], 3)
    >>> ranks.tolist(), first_rows.tolist()
    ([1, 0, 1], [1, 0])
    """
    ranks = np.zeros(rows, np.int64)
    first_rows = np.zeros(min(rows, 1), np.int64)
    for column in columns:
        assert column.size == rows, f"a tag column has {column.size} ranks for {rows} rows"
        if first_rows.size == rows:
            break  # Every row stands alone: later columns decide nothing.
        pairs = ranks * (np.int64(column.max()) + 2) + column + 1
        _, first_rows, ranks = np.unique(pairs, return_index=True, return_inverse=True)
    return ranks.astype(np.int32), first_rows
