"""What the changes of one key say: where it was at a revision, its generations, and what a compaction keeps.

A generation is the life of a key, from the put that creates it to its tombstone; a key put again begins another. All
here are pure functions of entries, sorted by revision; the store reads them from its tree ``idx`` when they are needed
and remembers nothing, so that a restart has nothing to build, and other processes' changes are seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from operator import itemgetter

from mitoframe.kv.revision import Entry, Revision


def next_entry(previous: Entry | None, revision: Revision, lease: int) -> Entry:
    """Return the entry of a put; ``previous`` is the key's last, None if the key never was or is not known any more."""
    if previous is None or previous.is_tombstone:
        return Entry(revision, revision.main, 1, lease)
    return Entry(revision, previous.create_revision, previous.version + 1, lease)


def tombstone(revision: Revision) -> Entry:
    return Entry(revision, 0, 0, 0)


def is_dropped(entry: Entry, following: Entry | None, compact_revision: int) -> bool:
    """Say whether a compaction drops an entry; ``following`` is the next of the same key.

    What a key was at the compacted revision stays, and all that came later. A tombstone goes, unless it is of that very
    revision: somebody who watches from there has to be told.
    """
    if entry.main > compact_revision:
        return False
    if following is not None and following.main <= compact_revision:
        return True
    return entry.is_tombstone and entry.main < compact_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyIndex:
    """All entries of a key that are kept."""

    key: bytes
    entries: tuple[Entry, ...]

    def get(self, revision: int) -> Entry | None:
        """Return the entry that the key had at a revision; None if it was not there."""
        found = None
        for entry in self.entries:
            if entry.main > revision:
                break
            found = entry
        return None if found is None or found.is_tombstone else found

    def generations(self) -> tuple[tuple[Entry, ...], ...]:
        """Return the entries of each life, oldest first; the last one ends with a tombstone if the key is gone."""
        found: list[list[Entry]] = [[]]
        for entry in self.entries:
            found[-1].append(entry)
            if entry.is_tombstone:
                found.append([])
        return tuple(tuple(entries) for entries in found if entries)

    def compact(self, revision: int) -> KeyIndex:
        """Return what a compaction leaves."""
        followed = pairwise((*self.entries, None))
        kept = (each for each, following in followed if each and not is_dropped(each, following, revision))
        return KeyIndex(key=self.key, entries=tuple(kept))


def by_key(rows: Iterable[tuple[bytes, Entry]]) -> Iterator[KeyIndex]:
    """Gather rows of ``idx``, which are sorted by key and revision."""
    for key, group in groupby(rows, key=itemgetter(0)):
        yield KeyIndex(key=key, entries=tuple(entry for _, entry in group))


def dropped(rows: Iterable[tuple[bytes, Entry]], compact_revision: int) -> Iterator[tuple[bytes, Entry]]:
    """Yield those rows of ``idx`` that a compaction drops; the last is taken for the last of its key."""
    previous: tuple[bytes, Entry] | None = None
    for row in chain(rows, [None]):
        if previous is not None:
            following = row[1] if row and row[0] == previous[0] else None
            if is_dropped(previous[1], following, compact_revision):
                yield previous
        previous = row
