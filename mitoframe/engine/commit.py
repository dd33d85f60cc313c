"""The write path, whole: sequence, log, memtable, publish.

Writers of all threads meet here. Each queues its write; whoever gets the turn commits everything that is queued as one
group: one append and one fsync for all of them. The others find their write done when their turn comes.

Invariants:
  * sequences of a region follow the order of the log;
  * a row is visible only after it is durable (as ``sync`` says) and after all rows with smaller sequences are;
  * a write is in the log whole or not at all, and nothing reaches a memtable that is not in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import TYPE_CHECKING, TypeVar

from mitoframe.failpoints import reached
from mitoframe.model.errors import DiskFullError, PoisonedError
from mitoframe.model.ids import EntryId, Sequence

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch
    from mitoframe.model.ids import RegionId
    from mitoframe.region.region import Region
    from mitoframe.storage.wal import EncodedWrite, Wal

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True, eq=False)
class _Write:
    """One queued write and, when it is done, its first sequence or the error."""

    region: Region
    encoded: EncodedWrite
    batch: Batch
    first: Sequence | None = None
    error: BaseException | None = field(default=None)


class Committer:
    """Commits writes. ``sync`` is called with the log after each append, and decides whether to wait for the disk."""

    def __init__(self, wal: Wal, sync: Callable[[Wal], None]) -> None:
        self._wal = wal
        self._sync = sync
        self._queue: deque[_Write] = deque()
        self._turn = RLock()
        self._queue_lock = Lock()

    def commit(self, region: Region, encoded: EncodedWrite, batch: Batch) -> Sequence:
        """Make rows durable and visible; return the sequence of the first. Requires: the rows are fully validated."""
        write = _Write(region=region, encoded=encoded, batch=batch)
        with self._queue_lock:
            self._queue.append(write)
        with self._turn:
            if write.first is None and write.error is None:
                self._commit_group_locked()
        if write.error is not None:
            raise write.error
        assert write.first is not None
        return write.first

    def quietly(self, change: Callable[[], Result]) -> Result:
        """Run ``change`` while no write is under way."""
        with self._turn:
            return change()

    def _commit_group_locked(self) -> None:
        group = self._drain()
        try:
            writable = [write for write in group if self._is_writable(write)]
            if writable:
                self._commit_locked(writable)
        except BaseException as error:
            # Only the thread that was interrupted is to see that it was; the others have lost a write.
            told = error if isinstance(error, Exception) else _interrupted(error)
            for write in group:
                if write.first is None:
                    write.error = write.error or told
            raise

    def _drain(self) -> list[_Write]:
        with self._queue_lock:
            group = list(self._queue)
            self._queue.clear()
        return group

    def _is_writable(self, write: _Write) -> bool:
        try:
            write.region.check_writable()
        except Exception as error:  # noqa: BLE001 - handed to the writer it belongs to
            write.error = error
        return write.error is None

    def _commit_locked(self, group: list[_Write]) -> None:
        following: dict[RegionId, Sequence] = {}
        batches = []
        for write in group:
            region_id = write.region.region_id
            first = following.get(region_id) or Sequence(write.region.control.current().visible + 1)
            following[region_id] = Sequence(first + len(write.batch))
            batches.append(write.batch.with_sequence(first))
        try:
            last_entry = self._wal.append(
                [
                    (write.encoded, Sequence(int(batch.sequences[0])))
                    for write, batch in zip(group, batches, strict=True)
                ]
            )
            self._sync(self._wal)
            reached("write.logged")
            self._install(group, batches, last_entry)
        except DiskFullError:
            raise  # The log took its part back: nothing was written.
        except BaseException as error:
            for write in group:
                write.region.poison(error)
            raise

    def _install(self, group: list[_Write], batches: list[Batch], last_entry: EntryId) -> None:
        entry_id = last_entry - len(group)
        for write, batch in zip(group, batches, strict=True):
            entry_id += 1
            control = write.region.control
            control.current().version.mutable.insert(batch, EntryId(entry_id))
            reached("write.inserted")
            control.publish(Sequence(int(batch.sequences[-1])), EntryId(entry_id))
            write.first = Sequence(int(batch.sequences[0]))
        reached("write.published")


def _interrupted(cause: BaseException) -> PoisonedError:
    error = PoisonedError("another thread was interrupted while it wrote these rows; open the store again and look.")
    error.__cause__ = cause
    return error
