"""What a transaction sees of a store: ranges at a revision, comparisons, how a key was before, what happened.

Everything is read in the transaction that asks; nothing is remembered between two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from mitoframe.kv.asking import within
from mitoframe.kv.key_index import by_key
from mitoframe.model.errors import CompactedError, FutureRevisionError
from mitoframe.model.keyvalue import Change, Compare, Event, Get, KeyValue, RangeResult, WatchBatch

if TYPE_CHECKING:
    from mitoframe.kv.revision import Entry
    from mitoframe.kv.rows import Rows, State

EVENTS_MAX = 1_000
LOOKED_AT_MAX = 10_000
"""Changes that one call of `View.events` looks at, so that a watcher of few keys holds no transaction for long."""

_NUMBERS: dict[str, Callable[[Entry], int]] = {
    "create": attrgetter("create_revision"),
    "mod": attrgetter("main"),
    "version": attrgetter("version"),
    "lease": attrgetter("lease"),
}


class View:
    """The rows of a transaction, and what the store's state was when it began."""

    def __init__(self, rows: Rows, state: State) -> None:
        self.rows, self.state = rows, state

    @property
    def revision(self) -> int:
        """The newest revision that can be seen, the transaction's own included."""
        return self.state.revision

    # --- ranges ----------------------------------------------------------------------------------------

    def require_readable(self, revision: int) -> None:
        if revision > self.state.revision:
            raise FutureRevisionError(revision, self.state.revision)
        if 0 < revision < self.state.compact_scheduled:
            raise CompactedError(revision, self.state.compact_scheduled)

    def range(self, get: Get) -> RangeResult:
        """Answer a question about a range."""
        self.require_readable(get.revision)
        found = list(self._live(get.key, get.end, get.revision))
        if get.count_only:
            return RangeResult(kvs=(), revision=self.revision, count=len(found))
        wanted = self._sorted([each for each in _near(found, get) if _passes(each[1], get)], get)
        more = 0 < get.limit < len(wanted)
        fill = key_value if get.keys_only else self.key_value
        kvs = tuple(fill(*each) for each in (wanted[: get.limit] if more else wanted))
        return RangeResult(kvs=kvs, revision=self.revision, count=len(found), more=more)

    def _sorted(self, found: list[tuple[bytes, Entry]], get: Get) -> list[tuple[bytes, Entry]]:
        is_falling = get.order == "descending"
        if get.sort_by == "key":
            return found[::-1] if is_falling else found
        if get.sort_by == "value":
            return sorted(found, key=lambda each: self.rows.value(*each), reverse=is_falling)
        number = _NUMBERS[get.sort_by]
        return sorted(found, key=lambda each: number(each[1]), reverse=is_falling)

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        """Return a key as it was at a revision; 0 is now."""
        self.require_readable(revision)
        return next((self.key_value(*each) for each in self._live(key, None, revision)), None)

    def key_value(self, key: bytes, entry: Entry) -> KeyValue:
        return key_value(key, entry, self.rows.value(key, entry))

    def _live(self, key: bytes, end: bytes | None, revision: int) -> Iterator[tuple[bytes, Entry]]:
        """Yield the keys of a range that were there at a revision, sorted."""
        now = revision <= 0 or revision == self.revision
        if end is None:
            entry = self.rows.head(key) if now else self.rows.entry_before(key, revision + 1)
            if entry is not None and not entry.is_tombstone:
                yield key, entry
        elif now:
            yield from self.rows.heads(key, end)
        else:
            for index in by_key(self.rows.entries(key, end)):
                if entry := index.get(revision):
                    yield index.key, entry

    # --- comparisons -----------------------------------------------------------------------------------

    def holds(self, compare: Compare) -> bool:
        """Say whether a comparison holds for every key that it names."""
        found = list(self._live(compare.key, compare.end, 0))
        if compare.target == "value":
            values = [self.rows.value(key, entry) for key, entry in found]
            return bool(values) and all(_stands(compare, value) for value in values)
        numbers = [_NUMBERS[compare.target](entry) for _, entry in found] or [0]
        return all(_stands(compare, number) for number in numbers)

    # --- what happened ---------------------------------------------------------------------------------

    def events(
        self, key: bytes, end: bytes | None, *, first: int, last: int, with_prev: bool
    ) -> tuple[list[WatchBatch], int]:
        """Return what happened to a range in revisions [first, last], and through which was looked.

        Whole revisions, oldest first, until there are about `EVENTS_MAX` events.
        """
        if first < self.state.compact_scheduled:
            raise CompactedError(first, self.state.compact_scheduled)
        last = min(last, self.revision)
        batches: list[WatchBatch] = []
        event_count = looked_at = 0
        for main, group in groupby(self.rows.records(first, last + 1), key=lambda record: record[0].main):
            records = list(group)
            events = tuple(self._event(*each, with_prev) for each in records if within(each[1], key, end))
            if events:
                batches.append(WatchBatch(revision=main, events=events))
            event_count, looked_at = event_count + len(events), looked_at + len(records)
            if event_count >= EVENTS_MAX or looked_at >= LOOKED_AT_MAX:
                return batches, main
        return batches, last

    def changes(self, key: bytes, end: bytes | None, after: int) -> tuple[Change, ...]:
        """Return the latest state of every key of a range that changed after a revision, sorted."""
        if max(after + 1, 0) < self.state.compact_scheduled:
            raise CompactedError(after + 1, self.state.compact_scheduled)
        latest = {
            found: Change(key=found, value=None if entry.is_tombstone else value, mod_revision=entry.main)
            for entry, found, value in self.rows.records(after + 1)
            if within(found, key, end)
        }
        return tuple(sorted(latest.values(), key=attrgetter("key")))

    def before(self, key: bytes, main: int) -> KeyValue | None:
        """Return how a key was before a revision; None if it was not there, or that is compacted."""
        if main - 1 < self.state.compact_scheduled:
            return None
        entry = self.rows.entry_before(key, main)
        return None if entry is None or entry.is_tombstone else self.key_value(key, entry)

    def _event(self, entry: Entry, key: bytes, value: bytes, with_prev: bool) -> Event:
        return Event(
            kind="delete" if entry.is_tombstone else "put",
            kv=key_value(key, entry, value),
            prev_kv=self.before(key, entry.main) if with_prev else None,
        )


# --- pieces --------------------------------------------------------------------------------------------


def key_value(key: bytes, entry: Entry, value: bytes = b"") -> KeyValue:
    return KeyValue(
        key=key,
        value=value,
        create_revision=entry.create_revision,
        mod_revision=entry.main,
        version=entry.version,
        lease=entry.lease,
    )


def _near(found: list[tuple[bytes, Entry]], get: Get) -> list[tuple[bytes, Entry]]:
    """Return what a limit leaves of a range in the order of keys; it is all, unless no other order is asked for.

    That is etcd's meaning: without an order the limit comes before sorting by something other than keys.
    """
    is_bounded = get.min_mod or get.max_mod or get.min_create or get.max_create
    if get.limit == 0 or get.order != "none" or is_bounded:
        return found
    return found[: get.limit + 1]  # One more shows that there are more.


def _passes(entry: Entry, get: Get) -> bool:
    return (
        get.min_mod <= entry.main
        and (not get.max_mod or entry.main <= get.max_mod)
        and get.min_create <= entry.create_revision
        and (not get.max_create or entry.create_revision <= get.max_create)
    )


def _stands(compare: Compare, found: int | bytes) -> bool:
    wanted: int | bytes = compare.value
    match compare.relation:
        case "=":
            return found == wanted
        case "!=":
            return found != wanted
        case ">":
            return found > wanted  # type: ignore[operator]
        case "<":
            return found < wanted  # type: ignore[operator]
