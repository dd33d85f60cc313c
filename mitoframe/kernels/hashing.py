"""Hashes that are written to disk: the same number for the same value, in every process and for ever."""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import Int64Array, Uint8Array, Uint64Array, kernel

_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


@kernel
def hash_bytes(offsets: Int64Array, data: Uint8Array) -> Uint64Array:
    """Return the 64-bit FNV-1a hash of each value; value ``i`` is ``data[offsets[i]:offsets[i + 1]]``.

    Requires: at least one offset; they ascend and are within ``data``.
    """
    hashes = np.empty(offsets.size - 1, np.uint64)
    for i in range(hashes.size):
        value = _FNV_OFFSET
        for at in range(offsets[i], offsets[i + 1]):
            value = (value ^ np.uint64(data[at])) * _FNV_PRIME
        hashes[i] = value
    return hashes
