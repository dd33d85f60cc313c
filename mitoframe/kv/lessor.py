"""Leases: keys that go when nobody says any more that he lives.

A lease has a time to live. Whoever holds it says `Lease.keepalive` in time, or lets it be said in the background; keys
that were put with it are deleted, all at one revision, when it expires or is revoked.

Which leases there are is in the store, with their time to live and a number, their *stamp*: each grant and each renewal
gives a new one, higher than all before. When a lease expires is in no file. Each process has a clock of its own, and
reckons from when it came to know of a stamp, which is never before it was given; so no lease expires early, whatever
dies or stands still. Of all processes that have the store open for writing only one lets leases expire: the one that
holds the lock file beside it, which the kernel frees when it dies. The next one to get it gives every lease its full
time again. Whoever lets a lease expire does so only if the stamp is still the one he reckoned from, as the transaction
finds it that deletes the keys: a renewal is never overtaken. A process that has the lock and stands still holds up the
end of leases, and hastens none.

One thread does all of that, and renews what is to be renewed in the background. It begins as soon as it is seen that
the store has leases, ends with `close`, and keeps no process alive.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import filelock

from mitoframe.kv.asking import TTL_SECONDS_MAX
from mitoframe.kv.rows import LeaseRow
from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.errors import InvalidInputError, MitoError
from mitoframe.model.wording import counted

TICK_S = 0.25
REVOKES_MAX = 250
"""In one tick; with four in a second that is a thousand."""
RENEWALS_PER_TTL = 3

_log = logging.getLogger("mitoframe")


class LeaseStore(Protocol):
    """What leases need of a store. What it does is durable when it returns."""

    def grant(self, lease: int, ttl_seconds: int) -> int:
        """Make a lease, and return its number: one that is chosen, if it is 0. One that is in use is refused."""

    def revoke(self, lease: int, *, stamp: int | None = None) -> int:
        """Delete a lease and its keys at one revision, and return that; if its stamp is this one, or none is given.

        Raises:
            InvalidInputError: there is no such lease, or not with that stamp.

        """

    def renew(self, leases: Iterable[int]) -> Mapping[int, LeaseRow]:
        """Give those leases that there are new stamps, and return them."""

    def lease_rows(self, lease: int | None = None) -> Mapping[int, LeaseRow]:
        """Return all leases; or the one that is asked for, if it is there."""

    def lease_mark(self) -> tuple[int, int]:
        """Return what is another one whenever a lease was granted, renewed or revoked; at little cost."""

    def lease_keys(self, lease: int) -> tuple[bytes, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Term:
    """What this process reckons with: until ``deadline``, unless the stamp is another one by then."""

    ttl_seconds: int
    stamp: int
    deadline: float


class Lease:
    """Keys put with ``lease=lease.id`` go when it ends; made by `KeyValueStore.lease`.

    As a context manager it is revoked at the end of the block. A process that dies in the block leaves it to expire.

    Attributes:
        id: what `KeyValueStore.put` takes.
        ttl_seconds: so long it lives after it was granted or renewed, at least.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store:
        ...     with store.lease(10, keepalive=True) as lease:
        ...         _ = store.put(b"/leader", b"me", lease=lease.id)
        ...         print(lease.keys(), lease.remaining() > 5)
        ...     print(store.get(b"/leader"))
        (b'/leader',) True
        None

    """

    def __init__(self, lessor: Lessor, lease_id: int, ttl_seconds: int) -> None:
        self._lessor = lessor
        self.id, self.ttl_seconds = lease_id, ttl_seconds

    def remaining(self) -> float:
        """Return the seconds that are left, by what this process knows of renewals; -1 once it is gone.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     lease = store.lease(60)
            ...     print(55 < lease.remaining() <= 60)
            ...     _ = lease.revoke()
            ...     print(lease.remaining())
            True
            -1.0

        """
        return self._lessor.remaining(self.id)

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys that go with it, sorted.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     lease = store.lease(60)
            ...     _ = store.put(b"b", lease=lease.id), store.put(b"a", lease=lease.id)
            ...     lease.keys()
            (b'a', b'b')

        """
        return self._lessor.store.lease_keys(self.id)

    def keepalive(self) -> None:
        """Begin its time to live anew.

        Raises:
            InvalidInputError: it has expired, or was revoked.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     lease = store.lease(60)
            ...     lease.keepalive()

        """
        self._lessor.renew(self.id)

    def revoke(self) -> int:
        """End it now, and return the revision: the one that deleted its keys, if it had any.

        Raises:
            InvalidInputError: it has expired, or was revoked before.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     lease = store.lease(60)
            ...     _ = store.put(b"a", lease=lease.id)
            ...     print(lease.revoke(), store.get(b"a"))
            3 None

        """
        return self._lessor.revoke(self.id)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(InvalidInputError):  # It is gone already, which is what was wanted.
            self.revoke()

    def __repr__(self) -> str:
        return f"lease {self.id} of {counted(self.ttl_seconds, 'second')}, {self._lessor.left(self.id)}"

    def _repr_html_(self) -> str:
        return card(repr(self))


class Lessor:
    """The leases of a store, as one process sees them: it grants, renews and, if it is its turn, lets them expire.

    ``now`` is a clock that only goes forward. ``lock_path`` is the file whose lock says whose turn it is; without one
    it is this process's, as where nobody else has the store.
    """

    def __init__(self, store: LeaseStore, now: Callable[[], float], lock_path: str | None) -> None:
        self.store = store
        self._now, self._lock_path = now, lock_path
        self._process_id = os.getpid()
        self._mutex = threading.Lock()
        self._terms: dict[int, _Term] = {}
        self._kept: set[int] = set()
        self._mark: tuple[int, int] | None = None
        self._has_turn = lock_path is None
        self._lock: filelock.BaseFileLock | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # --- leases -----------------------------------------------------------------------------------------

    def grant(self, ttl_seconds: int, *, lease_id: int = 0, keepalive: bool = False) -> Lease:
        """Make a lease. ``keepalive`` renews it at each tick that is due, until it is revoked or the lessor closed."""
        _check_ttl(ttl_seconds)
        granted = self.store.grant(lease_id, ttl_seconds)
        self._learn(self.store.lease_rows(granted))
        if keepalive:
            with self._mutex:
                self._kept.add(granted)
        return Lease(self, granted, ttl_seconds)

    def leases(self) -> tuple[Lease, ...]:
        """Return all that there are, by id."""
        rows = self.store.lease_rows()
        self._learn(rows)
        return tuple(Lease(self, lease_id, row.ttl_seconds) for lease_id, row in sorted(rows.items()))

    def remaining(self, lease_id: int) -> float:
        """Return the seconds left; -1 if there is no such lease."""
        rows = self.store.lease_rows(lease_id)
        self._learn(rows)
        term = self._terms.get(lease_id)
        return max(term.deadline - self._now(), 0.0) if term and lease_id in rows else -1.0

    def renew(self, lease_id: int) -> None:
        """Give a lease its full time again, unless that is over."""
        term = self._terms.get(lease_id)
        if term and self._has_turn and term.deadline <= self._now():
            self._expire(lease_id, term)
        if lease_id not in self._renew((lease_id,)):
            raise InvalidInputError(f"there is no lease {lease_id}: it has expired, or was revoked; grant another")

    def revoke(self, lease_id: int) -> int:
        """Delete a lease and its keys."""
        with self._mutex:
            self._kept.discard(lease_id)
        revision = self.store.revoke(lease_id)
        self._forget(lease_id)
        return revision

    def left(self, lease_id: int) -> str:
        """Say what is left of a lease, by what is known without a look at the store."""
        term = self._terms.get(lease_id)
        return f"{max(term.deadline - self._now(), 0):,.1f} s left" if term else "not known to be there"

    def told(self) -> Section:
        """Say which leases there are."""
        leases = self.leases()
        rows = [
            (str(each.id), f"{each.ttl_seconds:,} s", self.left(each.id).removesuffix(" left"))
            for each in leases[:ROWS_MAX]
        ]
        return Section(title="Leases", header=("id", "time to live", "left"), rows=rows, row_count=len(leases))

    # --- the thread -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to renew and to let expire, in the background. Harmless if it has begun."""
        if self._thread is not None:
            return
        with self._mutex:
            if self._thread is None and not self._stop.is_set():
                # A daemon that does not hold what it works for: neither the process nor the store lives on for it.
                work = (weakref.ref(self), self._stop)
                self._thread = threading.Thread(target=_work, args=work, name="mitoframe-lessor", daemon=True)
                self._thread.start()

    def tick(self) -> None:
        """Do what is due: renew first, so that what stands still for a while costs none of our own leases."""
        self._renew_kept()
        if not self._has_turn:
            self._try_turn()
        self._learn_all()
        if self._has_turn:
            self._expire_due()

    def close(self) -> None:
        """End the thread, and let another process have the turn. Closing twice is harmless."""
        self._stop.set()
        if os.getpid() != self._process_id:
            return  # A forked child has no thread, and the lock is its parent's.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._has_turn = False
        if self._lock is not None:
            # Should two have a turn for once, because they locked different files, each finds what the other has done.
            with suppress(OSError):
                os.unlink(self._lock.lock_file)
            self._lock.release()
            self._lock = None

    # --- what is known ----------------------------------------------------------------------------------

    def _learn(self, rows: Mapping[int, LeaseRow]) -> None:
        """Reckon with what the store says now; by a clock that is read afterwards, so that no lease expires early."""
        now = self._now()
        with self._mutex:
            for lease_id, row in rows.items():
                known = self._terms.get(lease_id)
                if known is None or known.stamp < row.stamp:  # Else another thread has read something newer.
                    deadline = now + row.ttl_seconds
                    self._terms[lease_id] = _Term(ttl_seconds=row.ttl_seconds, stamp=row.stamp, deadline=deadline)

    def _learn_all(self) -> None:
        mark = self.store.lease_mark()
        if mark == self._mark:
            return
        rows = self.store.lease_rows()
        with self._mutex:
            self._mark = mark
            self._terms = {lease_id: term for lease_id, term in self._terms.items() if lease_id in rows}
        self._learn(rows)

    def _forget(self, *ids: int) -> None:
        with self._mutex:
            for lease_id in ids:
                self._terms.pop(lease_id, None)
                self._kept.discard(lease_id)

    # --- what is done -----------------------------------------------------------------------------------

    def _renew(self, ids: Iterable[int]) -> Mapping[int, LeaseRow]:
        rows = self.store.renew(ids)
        self._learn(rows)
        return rows

    def _renew_kept(self) -> None:
        now = self._now()
        with self._mutex:
            due = [lease_id for lease_id in self._kept if self._is_to_be_renewed(lease_id, now)]
        if not due:
            return
        gone = set(due) - self._renew(due).keys()
        self._forget(*gone)
        for lease_id in gone:
            _log.warning("lease lost although it was kept alive id=%d", lease_id)

    def _is_to_be_renewed(self, lease_id: int, now: float) -> bool:
        term = self._terms.get(lease_id)
        if term is None:
            return True
        return now >= term.deadline - term.ttl_seconds * (RENEWALS_PER_TTL - 1) / RENEWALS_PER_TTL

    def _expire_due(self) -> None:
        now = self._now()
        with self._mutex:
            due = [(lease_id, term) for lease_id, term in self._terms.items() if term.deadline <= now]
        for lease_id, term in sorted(due, key=lambda each: (each[1].deadline, each[0]))[:REVOKES_MAX]:
            if self._stop.is_set():
                return
            self._expire(lease_id, term)

    def _expire(self, lease_id: int, term: _Term) -> None:
        try:
            self.store.revoke(lease_id, stamp=term.stamp)
        except InvalidInputError:  # Revoked meanwhile, or renewed by another process: it is looked at again.
            with self._mutex:
                self._terms.pop(lease_id, None)
                self._mark = None
        else:
            self._forget(lease_id)

    def _try_turn(self) -> None:
        assert self._lock_path is not None, "what has no lock has its turn from the beginning"
        self._lock = _try_lock(self._lock_path)
        if self._lock is None:
            return
        with self._mutex:
            self._terms, self._mark = {}, None  # Reckoned anew: nobody knows what the one before us had heard of.
        self._has_turn = True


def _work(reference: weakref.ref[Lessor], stop: threading.Event) -> None:
    while not stop.wait(TICK_S):
        lessor = reference()
        if lessor is None:
            return
        try:
            lessor.tick()
        except MitoError as error:  # A store that is busy, or a disk that is full, may be well at the next tick.
            _log.warning("leases were not looked after error=%r", error)
        del lessor


def _try_lock(path: str) -> filelock.BaseFileLock | None:
    lock = filelock.FileLock(path, thread_local=False, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except (filelock.Timeout, OSError):  # Held elsewhere; or nothing can be locked here, and nothing expires.
        return None
    return lock


def _check_ttl(ttl_seconds: int) -> None:
    if not isinstance(ttl_seconds, int) or not 0 < ttl_seconds <= TTL_SECONDS_MAX:
        raise InvalidInputError(
            f"a lease lives a whole number of seconds, 1 to {TTL_SECONDS_MAX:,}, not {ttl_seconds!r}"
        )
