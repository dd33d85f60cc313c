"""The transactions of a key-value store, and those who wait for them.

A `Ledger` remembers nothing of what is stored: each view and each change reads the store's state anew, so that what
other processes have committed is seen. All it keeps is who waits in this process, to be woken by a commit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mitoframe.kv import compaction
from mitoframe.kv.asking import require_lease
from mitoframe.kv.backend_sqlite import MEMORY
from mitoframe.kv.rows import ChangingRows, LeaseRow, Rows
from mitoframe.kv.txn import Changing
from mitoframe.kv.verifying import check_meaning, check_rows
from mitoframe.kv.view import View
from mitoframe.model.errors import UnavailableError

if TYPE_CHECKING:
    from mitoframe.kv.backend import Backend
    from mitoframe.model.keyvalue import KeyValue, WatchBatch

POLL_S = 0.05


class Ledger:
    """The transactions of one store; threads may share it. What is wrong with a call by itself was found before.

    ``sees_leases`` is called whenever somebody sees that there are leases: whoever does sees to it that they end, for
    those who made them may have died.
    """

    def __init__(self, backend: Backend, *, read_only: bool, sees_leases: Callable[[], None]) -> None:
        """Take a backend, which is closed if there is no whole store in it."""
        self.backend = backend
        self._read_only, self._sees_leases = read_only, sees_leases
        self._committed = threading.Condition()
        self._commit_count = 0
        try:
            self._open()
        except BaseException:
            backend.close()
            raise

    def close(self) -> None:
        self.backend.close()
        self._tell()

    # --- transactions ----------------------------------------------------------------------------------

    @contextmanager
    def view(self) -> Iterator[View]:
        with self.backend.begin_read() as transaction:
            rows = Rows(transaction, self.backend.path)
            view = View(rows, rows.state())
            yield view
        if view.state.leases and not self._read_only:
            self._sees_leases()

    @contextmanager
    def change(self) -> Iterator[Changing]:
        with self.backend.begin_write() as transaction:
            rows = ChangingRows(transaction, self.backend.path)
            changing = Changing(rows, rows.state())
            yield changing
            changing.finish()
        if changing.has_changed:
            self._tell()

    def verify(self) -> None:
        """Read everything anew, and compare it: `CorruptionError` if something is not as it was written."""
        self.backend.check()
        with self.backend.begin_read() as transaction:
            rows = Rows(transaction, self.backend.path)
            check_meaning(rows, check_rows(rows))

    # --- for watchers --------------------------------------------------------------------------------------

    def revisions(self) -> tuple[int, int]:
        """Return the current and the compacted revision."""
        with self.view() as view:
            return view.revision, view.state.compact_scheduled

    def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        """Return a key as it was at a revision, as `View.get` does."""
        with self.view() as view:
            return view.get(key, revision)

    def events(
        self, key: bytes, end: bytes | None, *, first: int, last: int, with_prev: bool
    ) -> tuple[list[WatchBatch], int]:
        """Return what happened to a range, as `View.events` does."""
        with self.view() as view:
            return view.events(key, end, first=first, last=last, with_prev=with_prev)

    def wait_past(self, revision: int, seconds: float) -> int:
        """Wait until there is a newer revision, by whomever, or the time is over; return the newest."""
        until = time.monotonic() + seconds
        while True:
            seen = self._commit_count
            current, _ = self.revisions()
            left = until - time.monotonic()
            if current > revision or left <= 0:
                return current
            with self._committed:
                if self._commit_count == seen:
                    # Commits of other processes are told by nobody.
                    self._committed.wait(left if self.backend.path == MEMORY else min(left, POLL_S))

    # --- for leases ----------------------------------------------------------------------------------------

    def grant(self, lease: int, ttl_seconds: int) -> int:
        require_lease(lease)
        with self.change() as changing:
            return changing.grant(lease, ttl_seconds)

    def revoke(self, lease: int, *, stamp: int | None = None) -> int:
        """Delete a lease and its keys, at one revision, which is returned; if nobody has renewed it since a stamp."""
        require_lease(lease)
        with self.change() as changing:
            changing.revoke(lease, stamp)
            return changing.revision

    def renew(self, leases: Iterable[int]) -> dict[int, LeaseRow]:
        """Give those leases new stamps that there are, and return them."""
        with self.change() as changing:
            return {lease: row for lease in leases if (row := changing.renew(lease)) is not None}

    def lease_rows(self, lease: int | None = None) -> dict[int, LeaseRow]:
        """Return all leases, or the one that is asked for if it is there."""
        with self.view() as view:
            if lease is None:
                return dict(view.rows.leases())
            row = view.rows.lease(lease)
            return {} if row is None else {lease: row}

    def lease_mark(self) -> tuple[int, int]:
        """Return what is another one whenever a lease was granted, renewed or revoked."""
        with self.view() as view:
            return view.state.lease_stamp, view.state.leases

    def lease_keys(self, lease: int) -> tuple[bytes, ...]:
        require_lease(lease)
        with self.view() as view:
            return tuple(key for _, key in view.rows.lease_keys(lease))

    # --- opening and waking --------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Wake those who wait for a commit, or for the store to be closed."""
        with self._committed:
            self._commit_count += 1
            self._committed.notify_all()

    def _open(self) -> None:
        self.backend.check()
        with self.backend.begin_read() as transaction:
            is_new = Rows(transaction, self.backend.path).is_new()
        if is_new:
            self._create()
        with self.backend.begin_read() as transaction:
            state = check_rows(Rows(transaction, self.backend.path))
        if not self._read_only and state.compact_finished < state.compact_scheduled:
            compaction.finish(self.change, state.compact_scheduled)

    def _create(self) -> None:
        if self._read_only:
            raise UnavailableError(f"{self.backend.path} is empty: its writer has not finished making it. Try again.")
        with self.backend.begin_write() as transaction:
            rows = ChangingRows(transaction, self.backend.path)
            if rows.is_new():  # nobody else made it meanwhile
                rows.create()
