"""`Watcher`: what happens to keys, revision by revision, whichever process does it.

A watcher pulls. It remembers the next revision that it wants, asks the store for what happened from there on, and where
there is nothing it waits until the store has gone past that. So nothing is queued for it anywhere, nothing can
overflow, and one that is slow costs nobody anything.

Promised: revisions come in order, each once and whole, and none is left out. Where that cannot be had, because what was
not asked for yet has been compacted, `CompactedError` says so, once, and the watch is over. Before a start that has not
come yet nothing is told, not even how far the watch has come.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Protocol, TypeAlias, get_args

from mitoframe.kv.asking import bounds_of, require_range
from mitoframe.model.card import Section, card
from mitoframe.model.errors import CompactedError, InvalidInputError
from mitoframe.model.keyvalue import FROM_KEY, Event, WatchBatch, prefix_end

WAIT_S = 0.1
"""So long it waits at a time, and so long it may take until one that waits sees that it was cancelled."""

Kind: TypeAlias = Literal["put", "delete"]


class Watched(Protocol):
    """What a watcher needs of a store."""

    def revisions(self) -> tuple[int, int]:
        """Return the current and the compacted revision."""

    def events(
        self, key: bytes, end: bytes | None, *, first: int, last: int, with_prev: bool
    ) -> tuple[list[WatchBatch], int]:
        """Return whole revisions in [first, last], some of them if there are many, and through which was looked.

        Raises:
            CompactedError: ``first`` is below the compacted revision.

        """

    def wait_past(self, revision: int, seconds: float) -> int:
        """Wait until the current revision is above ``revision``, or the time is over; return the current one."""


class Watcher:
    """What happens to a key or range from a revision on; made by `KeyValueStore.watch`.

    It is an iterator of `WatchBatch`, one for each revision that did something to what is watched, and waits for more
    until it is cancelled. It is for one thread; only `cancel` may be called by others.

    Example:
        >>> from mitoframe import kv
        >>> with kv.open("memory://") as store, store.watch(b"/job/", prefix=True) as watcher:
        ...     for key in (b"/job/1", b"/other", b"/job/2"):
        ...         _ = store.put(key, b"waiting")
        ...     for batch in watcher:
        ...         print(batch.revision, batch.events[0].kind, batch.events[0].kv.key)
        ...         if batch.revision == store.status().revision:
        ...             break
        2 put b'/job/1'
        4 put b'/job/2'

    """

    def __init__(
        self,
        store: Watched,
        key: bytes,
        end: bytes | None = None,
        *,
        prefix: bool = False,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress: bool = False,
        filters: Kind | Iterable[Kind] = (),
    ) -> None:
        self._store = store
        self._key, self._end = _range_of(*bounds_of(key, end, prefix))
        self._left_out = _kinds_of(filters)
        self._with_prev, self._with_progress = prev_kv, progress
        if start_revision < 0:
            raise InvalidInputError(f"start_revision={start_revision} is negative; 0 is the next one there will be.")
        current, _ = store.revisions()
        self._start = self._next = start_revision or current + 1
        self._ready: deque[WatchBatch] = deque()
        self._is_over = False

    def next(self, timeout: float | None = None) -> WatchBatch | None:
        """Return the next batch; None if there was none for ``timeout`` seconds, or the watch is over.

        Without a timeout it waits as long as it takes.

        Raises:
            CompactedError: what was not asked for yet is not kept any more, and the watch is over. Look at what there
                is at the error's ``compact_revision``, and watch from the one after it.
            ClosedError: the store was closed.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     watcher = store.watch(b"a", prev_kv=True)
            ...     nothing = watcher.next(timeout=0)
            ...     _ = store.put(b"a", b"1")
            ...     print(nothing, watcher.next().events[0].kv.value)
            None b'1'

        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._is_over:
            if self._fetch():
                return self._ready.popleft()
            left = WAIT_S if until is None else min(WAIT_S, until - time.monotonic())
            if left <= 0:
                return None
            self._store.wait_past(self._next - 1, left)
        return None

    def progress(self) -> int | None:
        """Return the revision through which everything was handed out; None while something is still to be.

        It is what to save, to go on from the next one after a restart. Waits for nothing. None if the watch is over.

        Raises:
            CompactedError: what was not asked for yet is not kept any more, and the watch is over.
            ClosedError: the store was closed.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     watcher = store.watch(b"a")
            ...     _ = store.put(b"a"), store.put(b"b")
            ...     print(watcher.progress(), watcher.next().revision, watcher.progress())
            None 2 3

        """
        if self._is_over or (self._fetch() and self._ready[0].events):
            return None
        seen = self._next - 1
        return seen if seen <= self._store.revisions()[0] else None  # Else the start is yet to come.

    def cancel(self) -> None:
        """End the watch; nothing more comes. Cancelling twice is harmless, also from another thread.

        Example:
            >>> from mitoframe import kv
            >>> with kv.open("memory://") as store:
            ...     watcher = store.watch(b"a")
            ...     _ = store.put(b"a")
            ...     watcher.cancel()
            ...     list(watcher)
            []

        """
        self._is_over = True

    def __iter__(self) -> Watcher:
        return self

    def __next__(self) -> WatchBatch:
        batch = self.next()
        if batch is None:
            raise StopIteration
        return batch

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _fetch(self) -> bool:
        """Ask for more if nothing is at hand, until there is something or everything was seen."""
        while not self._ready:
            current, _ = self._store.revisions()
            if current < self._next:
                return False
            self._look(current)
        return True

    def _look(self, current: int) -> None:
        try:
            batches, through = self._store.events(
                self._key, self._end, first=self._next, last=current, with_prev=self._with_prev
            )
        except CompactedError:
            self._is_over = True
            raise
        assert self._next <= through <= current, "every look takes the watch further"
        self._next = through + 1
        self._ready.extend(batch for each in batches if (batch := self._kept(each)).events)
        if self._with_progress and not self._ready and through == current:
            self._ready.append(WatchBatch(revision=through))

    def _kept(self, batch: WatchBatch) -> WatchBatch:
        if not self._left_out:
            return batch
        return WatchBatch(revision=batch.revision, events=tuple(filter(self._is_wanted, batch.events)))

    def _is_wanted(self, event: Event) -> bool:
        return event.kind not in self._left_out

    def __repr__(self) -> str:
        if self._is_over:
            return f"watch of {self._watched()} (over)"
        return f"watch of {self._watched()}, from revision {self._next} on"

    def _repr_html_(self) -> str:
        settings = [("started at", f"{self._start:,}"), ("previous values", "yes" if self._with_prev else "no")]
        left_out = [("left out", ", ".join(f"{kind}s" for kind in sorted(self._left_out)))] if self._left_out else []
        waiting = [("read, not handed out yet", f"{len(self._ready):,}")]
        return card(repr(self), [Section(title="Details", rows=[*settings, *left_out, *waiting], note=" ")])

    def _watched(self) -> str:
        if self._end is None:
            return repr(self._key)
        if self._end == FROM_KEY:
            return "all keys" if self._key == FROM_KEY else f"keys from {self._key!r} on"
        if self._end == prefix_end(self._key):
            return f"keys that begin with {self._key!r}"
        return f"keys from {self._key!r} to before {self._end!r}"


def _range_of(key: bytes, end: bytes | None) -> tuple[bytes, bytes | None]:
    require_range(key, end)
    if end is not None and end != FROM_KEY and end <= key:
        raise InvalidInputError(f"there are no keys from {key!r} to before {end!r}; give an end above the key")
    return key, end


def _kinds_of(filters: Kind | Iterable[Kind]) -> frozenset[Kind]:
    kinds = frozenset([filters] if isinstance(filters, str) else filters)
    if wrong := kinds - {*get_args(Kind)}:
        raise InvalidInputError(f"filters leave out 'put' or 'delete', not {', '.join(map(repr, wrong))}")
    return kinds
