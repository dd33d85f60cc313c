"""Time cut into buckets: what `Scan.resample` counts in. A bucket is known by its start.

Times are integers in the time column's unit. `EvenBuckets` are all of one width; `ListedBuckets` are whatever a
calendar makes of days and months, and a time zone of hours, over the times that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from mitoframe.model.batch import Times


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenBuckets:
    """Buckets of one width, of which one starts at ``origin``. Requires: 0 <= origin < width."""

    width: int
    origin: int

    def __post_init__(self) -> None:
        assert 0 <= self.origin < self.width

    def count(self, first: int, last: int) -> int:
        """Return how many buckets the times from ``first`` to ``last`` touch."""
        return (last - self.origin) // self.width - (first - self.origin) // self.width + 1

    def starts(self, first: int, last: int) -> Times:
        """Return the starts of the buckets that the times from ``first`` to ``last`` touch."""
        start = first - (first - self.origin) % self.width
        return start + self.width * np.arange(self.count(first, last), dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBuckets:
    """Buckets from one of ``edges`` up to the next, the last without an end, and where each starts by the clock.

    Stretches with one start are one bucket: an hour that a clock shows twice may lie around another bucket.

    Requires: edges that rise, and no time before the first of them.
    """

    edges: Times
    labels: Times

    def __post_init__(self) -> None:
        assert len(self.edges) == len(self.labels) > 0

    def count(self, first: int, last: int) -> int:
        """Return how many buckets the times from ``first`` to ``last`` touch."""
        return len(self.starts(first, last))

    def starts(self, first: int, last: int) -> Times:
        """Return the starts of the buckets that the times from ``first`` to ``last`` touch.

        Times may be starts themselves, and that of the first bucket may lie before the first edge.
        """
        low, high = np.searchsorted(self.edges, [first, last], side="right")
        starts: Times = np.unique(self.labels[max(int(low) - 1, 0) : max(int(high), 1)])
        return starts


Buckets: TypeAlias = EvenBuckets | ListedBuckets
