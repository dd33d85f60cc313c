"""Where each series lies in sorted rows, and back from a place to its series.

An SST does not store a code per row: its rows are sorted by series, so the first row of each says it all. The offsets
have one entry more than there are series; series ``c`` is the rows from ``offsets[c]`` up to ``offsets[c + 1]``, and
may be empty.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import Int32Array, Int64Array, kernel


@kernel
def series_offsets(codes: Int32Array, count: int) -> Int64Array:
    """Return the first row of each series, and last the number of rows.

    Requires: ``codes`` ascend and are at least 0 and below ``count``.
    """
    offsets = np.empty(count + 1, np.int64)
    known = 0
    for row in range(codes.size):
        while known <= codes[row]:
            offsets[known] = row
            known += 1
    offsets[known:] = codes.size
    return offsets


@kernel
def codes_from_offsets(offsets: Int64Array, start: int, stop: int) -> Int32Array:
    """Return the series code of each row from ``start`` to ``stop``.

    Requires: 0 <= start <= stop <= offsets[-1].
    """
    codes = np.empty(stop - start, np.int32)
    code = np.searchsorted(offsets, start, side="right") - 1
    for row in range(start, stop):
        while offsets[code + 1] <= row:
            code += 1
        codes[row - start] = code
    return codes
