"""The write buffer of a region: Arrow batches in the order they came, sorted when somebody needs them sorted.

One thread inserts (the commit leader); any number of threads read. A reader takes a snapshot: the batches there are,
cut at the sequence that is visible to it. Batches are immutable, so a snapshot costs a tuple; the sorted form of the
last snapshot is kept, since the next reader usually wants the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mitoframe.model.ids import NO_ENTRY, NO_SEQUENCE, EntryId, Sequence
from mitoframe.storage.runs import sort_batches

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class MemtableStats:
    """What is known of a memtable without looking at its rows. Times are inclusive, None when empty."""

    row_count: int = 0
    delete_count: int = 0
    size_bytes: int = 0
    min_time: int | None = None
    max_time: int | None = None
    min_sequence: Sequence = NO_SEQUENCE
    max_sequence: Sequence = NO_SEQUENCE

    def including(self, batch: Batch) -> MemtableStats:
        first, last = int(batch.times.min()), int(batch.times.max())
        low, high = Sequence(int(batch.sequences[0])), Sequence(int(batch.sequences[-1]))
        return MemtableStats(
            row_count=self.row_count + len(batch),
            delete_count=self.delete_count + int(np.count_nonzero(batch.op_types == 0)),
            size_bytes=self.size_bytes + batch.size_bytes,
            min_time=first if self.min_time is None else min(self.min_time, first),
            max_time=last if self.max_time is None else max(self.max_time, last),
            min_sequence=low if self.min_sequence == NO_SEQUENCE else self.min_sequence,
            max_sequence=max(self.max_sequence, high),
        )


class Memtable:
    """Rows not yet in an SST. ``memtable_id`` counts up within a region."""

    def __init__(self, memtable_id: int) -> None:
        self.memtable_id = memtable_id
        self._batches: list[Batch] = []
        self._stats = MemtableStats()
        self.last_entry_id = NO_ENTRY
        self._sorted: tuple[Sequence, Batch] | None = None

    def insert(self, batch: Batch, entry_id: EntryId) -> None:
        """Add the rows of a log entry. Requires: their sequences rise and are above all that are here."""
        assert len(batch), "an empty batch has no place in a memtable"
        assert int(batch.sequences[0]) > self._stats.max_sequence
        self._stats = self._stats.including(batch)
        self._batches.append(batch)
        self.last_entry_id = entry_id

    @property
    def stats(self) -> MemtableStats:
        return self._stats

    def is_empty(self) -> bool:
        return not self._batches

    def snapshot(self, visible: Sequence) -> tuple[Batch, ...]:
        """Return the batches whose rows have a sequence up to ``visible``."""
        batches = []
        for batch in tuple(self._batches):
            if int(batch.sequences[-1]) <= visible:
                batches.append(batch)
                continue
            count = int(np.searchsorted(batch.sequences, np.uint64(visible), side="right"))
            if count:
                batches.append(batch.slice(0, count))
            break
        return tuple(batches)

    def sorted(self, visible: Sequence) -> Batch | None:
        """Return the rows up to ``visible`` as one sorted batch, the newest of each key; None if there are none."""
        batches = self.snapshot(visible)
        if not batches:
            return None
        newest = Sequence(int(batches[-1].sequences[-1]))
        kept = self._sorted
        if kept is not None and kept[0] == newest:
            return kept[1]
        run = sort_batches(batches)
        self._sorted = (newest, run)
        return run
