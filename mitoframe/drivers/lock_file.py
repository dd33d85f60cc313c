"""The one writer of a store: the kernel holds the lock and frees it when the process dies; a file beside it says who.

The holder's file is there from `acquire` to a `release` in good order. Whoever takes the lock and finds one follows a
writer that was killed or failed, or lost power (``after_crash``), and has to make durable and clean up what that one
left. Its content is for messages only: it may be stale or torn, and nothing is decided by it.

Within a process, threads that open or let go of stores take turns (`one_at_a_time`), since only all of them together
hold the lock.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import RLock
from typing import TYPE_CHECKING, Any

from mitoframe.model.errors import StoreLockedError

if TYPE_CHECKING:
    from mitoframe.ports import Clock, FileLock, Vfs


_turn = RLock()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let no other thread of this process open or close a store meanwhile."""
    with _turn:
        yield


def _begin_anew() -> None:
    """Free the turn in a forked child: a thread that stayed with the parent may have had it."""
    global _turn  # noqa: PLW0603 - one turn for the process is the point of it
    _turn = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class WriterLock:
    """Held from `acquire` to `release`, by one process. ``after_crash``: the holder before did not release it."""

    def __init__(self, lock: FileLock, vfs: Vfs, holder_path: str, *, after_crash: bool) -> None:
        self._lock, self._vfs, self._holder_path = lock, vfs, holder_path
        self._process_id = os.getpid()
        self.after_crash = after_crash

    @staticmethod
    def acquire(vfs: Vfs, clock: Clock, *, lock_path: str, holder_path: str) -> WriterLock:
        """Take the lock at once, and say in ``holder_path`` who has it.

        Raises:
            StoreLockedError: another process has it; the message says which.

        """
        try:
            lock = vfs.lock(lock_path)
        except BlockingIOError:
            holder = _read_holder(vfs, holder_path)
            raise StoreLockedError(vfs.root, holder.get("pid"), holder.get("host"), holder.get("since")) from None
        try:
            after_crash = _exists(vfs, holder_path)
            _write_holder(vfs, clock, holder_path)
        except BaseException:
            lock.release()
            raise
        return WriterLock(lock, vfs, holder_path, after_crash=after_crash)

    def release(self, *, in_good_order: bool) -> None:
        """Give the lock up. ``in_good_order``: everything written is durable and there is nothing to clean up."""
        if os.getpid() != self._process_id:
            return  # A forked child: the lock and the store are its parent's.
        if in_good_order:
            # If the file stays, the next writer looks around once more than needed.
            with suppress(OSError):
                self._vfs.unlink(self._holder_path)
        self._lock.release()


def _exists(vfs: Vfs, path: str) -> bool:
    try:
        vfs.stat(path)
    except FileNotFoundError:
        return False
    return True


def _read_holder(vfs: Vfs, path: str) -> dict[str, Any]:
    try:
        holder = json.loads(vfs.read(path))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _write_holder(vfs: Vfs, clock: Clock, path: str) -> None:
    since = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).isoformat(timespec="seconds")
    data = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()
    temporary = f"{path}.tmp"
    try:
        file = vfs.create(temporary)
    except FileExistsError:  # Left by a process that was killed here.
        vfs.unlink(temporary)
        file = vfs.create(temporary)
    file.write(data)
    file.close()
    vfs.rename(temporary, path)
    vfs.sync_dir(path.rpartition("/")[0])
