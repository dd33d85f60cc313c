"""What a scan has done, as a value that comes up with the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was done for some rows.

    Attributes:
        chunks_kept: columns of row groups that were in the cache.
        chunks_read: those that were read from files.
        bytes_read: what these take in the files.
        rows_read: rows of the series and times that were asked for, all versions.
        rows_shadowed: of those, rows that a newer version or a delete marker hides.
        rows_returned: rows handed out, after all conditions that the store applies itself.

    """

    chunks_kept: int = 0
    chunks_read: int = 0
    bytes_read: int = 0
    rows_read: int = 0
    rows_shadowed: int = 0
    rows_returned: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            chunks_kept=self.chunks_kept + other.chunks_kept,
            chunks_read=self.chunks_read + other.chunks_read,
            bytes_read=self.bytes_read + other.bytes_read,
            rows_read=self.rows_read + other.rows_read,
            rows_shadowed=self.rows_shadowed + other.rows_shadowed,
            rows_returned=self.rows_returned + other.rows_returned,
        )


NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Sorted rows of one source in batches, one after the other and none empty, and what was done for them."""

    batches: tuple[Batch, ...]
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows, None if there are none, and what was done for them."""

    rows: Batch | None
    counts: Counts
