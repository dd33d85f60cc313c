"""Which row is to blame, when all that Arrow says of a column is that it cannot be converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_CONVERTED = (ValueError, TypeError, OverflowError, pa.ArrowNotImplementedError)
"""What pyarrow raises for values that it cannot convert."""


def first_failing(count: int, attempt: Callable[[int], object]) -> int:
    """Find the first of ``count`` values that makes an attempt with all values up to it fail, by halving.

    ``attempt`` is given how many values to convert, from the first on; with all of them it fails.

    >>> texts = ["1", "2", "x", "3", "y"]
    >>> first_failing(5, lambda count: [int(text) for text in texts[:count]])
    2
    """
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        try:
            attempt(middle)
        except NOT_CONVERTED:
            high = middle
        else:
            low = middle
    return low
