"""The write path, whole: sequence, log, memtable, publish.

Writers of all threads meet here. Each queues its write and waits; the commit lane takes everything that is queued as
one group: one append and one fsync for all of them, whatever their regions. Where an fsync is slow, a group waits a
moment for the writers who were in the last one (engine/gathering.py). Nothing here runs on a caller's thread, so
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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, RLock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from mitoframe.engine.errand import Errand, done
from mitoframe.engine.gathering import Gathering
from mitoframe.engine.parts import COMMIT_LANE
from mitoframe.failpoints import reached
from mitoframe.model.edit import write_key
from mitoframe.model.errors import DiskFullError
from mitoframe.model.ids import EntryId, Sequence
from mitoframe.model.past import Mark
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
    """One queued write. ``encoded`` is None if the table has no log; ``known_by`` is set with the sequences.

    ``writer`` is the thread that waits for it.
    """

    region: Region
    encoded: EncodedWrite | None
    batch: Batch
    key: str
    at_ms: int
    known_by: WriteKey | None = None
    writer: int = field(default_factory=get_ident)
    errand: Errand[Written] = field(default_factory=Errand)

    @property
    def may_repeat(self) -> bool:
        return bool(self.key) and not self.key.startswith("\0")

    def place(self, first: Sequence) -> None:
        """Give the rows their sequences."""
        self.batch = self.batch.with_sequence(first)
        self.known_by = write_key(self.key, self.batch, self.at_ms) if self.key else None

    def settle(self) -> None:
        first = Sequence(int(self.batch.sequences[0]))
        self.errand.succeed(Written(first_sequence=first, row_count=len(self.batch), at_ms=self.at_ms))

    def settle_as(self, known: WriteKey) -> None:
        """Say that an earlier write did it."""
        self.errand.succeed(
            Written(first_sequence=known.first_sequence, row_count=known.row_count, at_ms=known.at_ms, repeated=True)
        )


class Committer:
    """Commits writes. ``sync`` is called with the log after each append, and decides whether to wait for the disk."""

    def __init__(self, parts: Parts, sync: Callable[[Wal], None]) -> None:
        self._wal, self._scheduler = parts.wal, parts.scheduler
        self._sync = sync
        self._queue: deque[_Write] = deque()
        self._turn = RLock()
        self._queue_lock = Lock()
        self._gathering = Gathering()
        self._all_there: SimpleQueue[None] = SimpleQueue()  # A token when that may be; one too many does no harm.

    def commit(
        self, region: Region, encoded: EncodedWrite | None, batch: Batch, *, key: str = "", at_ms: int = 0
    ) -> Written:
        """Make rows durable and visible. Requires: they are fully validated, and there is at least one."""
        return self.begin(region, encoded, batch, key=key, at_ms=at_ms).result()

    def begin(
        self, region: Region, encoded: EncodedWrite | None, batch: Batch, *, key: str = "", at_ms: int = 0
    ) -> Errand[Written]:
        """Queue a write, without waiting for it."""
        write = _Write(region=region, encoded=encoded, batch=batch, key=key, at_ms=at_ms)
        try:
            with self._queue_lock:
                self._queue.append(write)
                if len(self._queue) == self._gathering.expected:
                    self._all_there.put(None)
            write.errand.hand_to(self._scheduler, COMMIT_LANE, self._commit_group)
        except BaseException:
            write.errand.withdraw()  # Interrupted between the two, it would stay for the next group.
            raise
        return write.errand

    def quietly(self, change: Callable[[], Result]) -> Result:
        """Run ``change`` while no write is under way. Requires: not called by such a change."""
        return done(self._scheduler, COMMIT_LANE, partial(self._alone, change))

    def settled(self) -> None:
        """Return when every write that was queued before this call has been done or withdrawn."""
        self.quietly(lambda: None)

    def _alone(self, change: Callable[[], Result]) -> Result:
        with self._turn:
            return change()

    def _commit_group(self) -> None:
        with self._turn:
            if not self._queue:
                return  # An earlier job has done what this one was submitted for.
            self._gather()
            group = [write for write in self._drain() if write.errand.begin()]
            try:
                originals, repetitions = _tell_apart([write for write in group if self._is_writable(write)])
                if originals:
                    self._commit_locked(originals)
                for write, known in repetitions:
                    write.settle_as(known)
            except BaseException as error:
                for write in group:
                    if not write.errand.is_ended:
                        write.errand.fail(error)
                if not isinstance(error, Exception):
                    raise

    def _gather(self) -> None:
        """Wait for those who are likely to come in a moment, so that one sync does for all."""
        if len(self._queue) >= self._gathering.expected or not self._gathering.begin():
            return
        while len(self._queue) < self._gathering.expected and (seconds := self._gathering.seconds_left()) > 0:
            with suppress(Empty):
                self._all_there.get(timeout=seconds)
        self._gathering.end(complete=len(self._queue) >= self._gathering.expected)

    def _drain(self) -> list[_Write]:
        with self._queue_lock:
            group = list(self._queue)
            self._queue.clear()
        return group

    def _is_writable(self, write: _Write) -> bool:
        try:
            write.region.check_writable()
        except Exception as error:  # noqa: BLE001 - handed to the writer it belongs to
            write.errand.fail(error)
            return False
        return True

    def _commit_locked(self, group: list[_Write]) -> None:
        try:
            self._install(group, self._log(group))
        except DiskFullError:
            raise  # The log took its part back: nothing was written.
        except BaseException as error:
            for write in group:
                write.region.poison(error)
            raise
        with self._queue_lock:
            self._gathering.served([write.writer for write in (*group, *self._queue)])
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
        began = monotonic()
        self._sync(self._wal)
        self._gathering.synced(monotonic() - began)
        reached("write.logged")
        return EntryId(last_entry - len(logged))

    def _install(self, group: list[_Write], entry_id: EntryId) -> None:
        for write in group:
            entry_id = EntryId(entry_id + (write.encoded is not None))
            control, batch = write.region.control, write.batch
            control.current().version.mutable.insert(batch, entry_id, at_ms=write.at_ms, key=write.known_by)
            reached("write.inserted")
            newest = Sequence(int(batch.sequences[-1]))
            control.publish(newest, entry_id, Mark(newest, write.at_ms))
        reached("write.published")


def _tell_apart(group: list[_Write]) -> tuple[list[_Write], list[tuple[_Write, WriteKey]]]:
    """Separate writes to be done, which get their sequences, from those that an earlier write did.

    Each is judged as if those before it had been done, those of this group included.
    """
    originals: list[_Write] = []
    repetitions: list[tuple[_Write, WriteKey]] = []
    following: dict[RegionId, Sequence] = {}
    begun: dict[RegionId, list[WriteKey]] = {}
    for write in group:
        region, region_id = write.region, write.region.region_id
        before = begun.setdefault(region_id, [])
        known = region.find_write(write.key, before) if write.may_repeat else None
        if known is not None:
            repetitions.append((write, known))
            continue
        write.place(following.get(region_id) or Sequence(region.control.current().visible + 1))
        following[region_id] = Sequence(int(write.batch.sequences[-1]) + 1)
        before += [write.known_by] if write.known_by is not None else []
        originals.append(write)
    return originals, repetitions
