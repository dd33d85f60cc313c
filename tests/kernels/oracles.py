"""What the kernel tests share: arrays to draw, and the slow way to sort rows."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np

from mitoframe.kernels.jit import Int32Array, Int64Array, Uint64Array

INT64_MIN = int(np.iinfo(np.int64).min)
INT64_MAX = int(np.iinfo(np.int64).max)
UINT64_MAX = int(np.iinfo(np.uint64).max)

NO_NULLS = np.empty(0, np.bool_)

# Few distinct values, so that rows collide; the far ends, so that arithmetic on them would show.
times = st.one_of(st.integers(-3, 3), st.sampled_from([INT64_MIN, INT64_MIN + 1, INT64_MAX - 1, INT64_MAX]))
sequences = st.one_of(st.integers(0, 3), st.sampled_from([2**63 - 1, 2**63, UINT64_MAX - 1, UINT64_MAX]))


def int32s(values: list[int]) -> Int32Array:
    return np.array(values, np.int32)


def int64s(values: list[int]) -> Int64Array:
    return np.array(values, np.int64)


def uint64s(values: list[int]) -> Uint64Array:
    return np.array(values, np.uint64)


def rows(codes_max: int = 3, size_max: int = 60) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """Draw rows of (code, time, sequence)."""
    return st.lists(st.tuples(st.integers(0, codes_max), times, sequences), max_size=size_max)


def to_columns(drawn: list[tuple[int, int, int]]) -> tuple[Int32Array, Int64Array, Uint64Array]:
    return (
        int32s([code for code, _, _ in drawn]),
        int64s([time for _, time, _ in drawn]),
        uint64s([sequence for _, _, sequence in drawn]),
    )


def sorted_by_lexsort(codes: Int32Array, times: Int64Array, sequences: Uint64Array) -> Int64Array:
    """Return the stable order by code, time, and sequence descending; ~ turns an unsigned order around."""
    return np.lexsort((~sequences, times, codes)).astype(np.int64)


def newest_rows(codes: Int32Array, times: Int64Array, take: Int64Array) -> list[int]:
    """Return the first row of each key in the order of ``take``."""
    newest: dict[tuple[int, int], int] = {}
    for row in take.tolist():
        newest.setdefault((int(codes[row]), int(times[row])), row)
    return list(newest.values())
