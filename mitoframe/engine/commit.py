"""The write path, whole: sequence, log, memtable, publish.

Writers of all threads meet here. Each queues its write and waits; the commit lane takes everything that is queued as
one group: one append and one fsync for all of them, whatever their regions. Nothing here runs on a caller's thread, so
interrupting a caller (Ctrl-C) interrupts nothing but its waiting: a write that was not begun is withdrawn, one that was
is finished first.

Invariants:
  * sequences of a region follow the order of the log;
  * a row is visible only after it is durable (as ``sync`` says) and after all rows with smaller sequences are;
  * a write is in the log whole or not at all, and nothing reaches a memtable that is not in the log, but for tables
    that have none (``wal="noop"``);
  * of writes with the same key one is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import TYPE_CHECKING, TypeVar

from mitoframe.engine.parts import COMMIT_LANE
from mitoframe.failpoints import reached
from mitoframe.model.edit import write_key
from mitoframe.model.errors import DiskFullError
from mitoframe.model.ids import EntryId, Sequence
from mitoframe.model.request import Written

if TYPE_CHECKING:
    from mitoframe.engine.parts import Parts
    from mitoframe.model.batch import Batch
    from mitoframe.model.edit import WriteKey
    from mitoframe.model.ids import RegionId
    from mitoframe.region.region import Region
    from mitoframe.storage.wal import EncodedWrite, Wal

Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True, eq=False)
class _Write:
    """One queued write. ``encoded`` is None if the table has no log."""

    region: Region
    encoded: EncodedWrite | None
    batch: Batch
    key: str
    at_ms: int
    done: Future[Written] = field(default_factory=Future)

    def settle(self, *, repeated: WriteKey | None = None) -> None:
        first, count, at_ms = Sequence(int(self.batch.sequences[0])), len(self.batch), self.at_ms
        if repeated is not None:
            first, count, at_ms = repeated.first_sequence, repeated.row_count, repeated.at_ms
        self.done.set_result(Written(first_sequence=first, row_count=count, at_ms=at_ms, repeated=repeated is not None))


class Committer:
    """Commits writes. ``sync`` is called with the log after each append, and decides whether to wait for the disk."""

    def __init__(self, parts: Parts, sync: Callable[[Wal], None]) -> None:
        self._wal, self._scheduler = parts.wal, parts.scheduler
        self._sync = sync
        self._queue: deque[_Write] = deque()
        self._turn = RLock()
        self._queue_lock = Lock()

    def commit(
        self, region: Region, encoded: EncodedWrite | None, batch: Batch, *, key: str = "", at_ms: int = 0
    ) -> Written:
        """Make rows durable and visible. Requires: they are fully validated, and there is at least one."""
        return finished(self.begin(region, encoded, batch, key=key, at_ms=at_ms))

    def begin(
        self, region: Region, encoded: EncodedWrite | None, batch: Batch, *, key: str = "", at_ms: int = 0
    ) -> Future[Written]:
        """Queue a write, without waiting for it."""
        write = _Write(region=region, encoded=encoded, batch=batch, key=key, at_ms=at_ms)
        with self._queue_lock:
            self._queue.append(write)
        self._scheduler.submit(COMMIT_LANE, self._commit_group)
        return write.done

    def quietly(self, change: Callable[[], Result]) -> Result:
        """Run ``change`` while no write is under way. Requires: not called by such a change."""

        def alone() -> Result:
            with self._turn:
                return change()

        return finished(self._scheduler.submit(COMMIT_LANE, alone))

    def _commit_group(self) -> None:
        with self._turn:
            group = [write for write in self._drain() if write.done.set_running_or_notify_cancel()]
            try:
                writable = [write for write in group if self._is_writable(write)]
                originals, repetitions = _tell_apart(writable)
                if originals:
                    self._commit_locked(originals)
                for write, original in repetitions:
                    write.settle(repeated=original if original is not None else write.region.find_write(write.key))
            except BaseException as error:
                for write in group:
                    if not write.done.done():
                        write.done.set_exception(error)
                if not isinstance(error, Exception):
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
            write.done.set_exception(error)
            return False
        return True

    def _commit_locked(self, group: list[_Write]) -> None:
        following: dict[RegionId, Sequence] = {}
        for write in group:
            region_id = write.region.region_id
            first = following.get(region_id) or Sequence(write.region.control.current().visible + 1)
            following[region_id] = Sequence(first + len(write.batch))
            write.batch = write.batch.with_sequence(first)
        try:
            self._install(group, self._log(group))
        except DiskFullError:
            raise  # The log took its part back: nothing was written.
        except BaseException as error:
            for write in group:
                write.region.poison(error)
            raise
        for write in group:
            write.settle()

    def _log(self, group: list[_Write]) -> EntryId:
        """Append what has a log, and return the id of the entry before."""
        logged = [
            (write.encoded, Sequence(int(write.batch.sequences[0]))) for write in group if write.encoded is not None
        ]
        if not logged:
            return self._wal.last_id()
        last_entry = self._wal.append(logged)
        self._sync(self._wal)
        reached("write.logged")
        return EntryId(last_entry - len(logged))

    def _install(self, group: list[_Write], entry_id: EntryId) -> None:
        for write in group:
            entry_id = EntryId(entry_id + (write.encoded is not None))
            control, batch = write.region.control, write.batch
            key = write_key(write.key, batch, write.at_ms) if write.key else None
            control.current().version.mutable.insert(batch, entry_id, at_ms=write.at_ms, key=key)
            reached("write.inserted")
            control.publish(Sequence(int(batch.sequences[-1])), entry_id)
        reached("write.published")


def _tell_apart(group: list[_Write]) -> tuple[list[_Write], list[tuple[_Write, WriteKey | None]]]:
    """Separate writes to be done from those whose key is known, or is that of a write before in the group (None)."""
    originals: list[_Write] = []
    repetitions: list[tuple[_Write, WriteKey | None]] = []
    begun: set[tuple[RegionId, str]] = set()
    for write in group:
        named = bool(write.key) and not write.key.startswith("\0")
        known = write.region.find_write(write.key) if named else None
        name = (write.region.region_id, write.key)
        if known is not None or name in begun:
            repetitions.append((write, known))
        else:
            originals.append(write)
        if named:
            begun.add(name)
    return originals, repetitions


def finished(future: Future[Result]) -> Result:
    """Wait for a job and return what it returns. Interrupted, withdraw it; if it has begun, let it finish first."""
    try:
        return future.result()
    except BaseException:
        if not future.done() and not future.cancel():
            wait([future])
        raise
