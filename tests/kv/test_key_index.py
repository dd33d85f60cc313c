"""What changes of a key say: tables to check by eye, and any history against a plain list of (revision, value)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitoframe.kv.key_index import KeyIndex, by_key, dropped, is_dropped, next_entry, tombstone
from mitoframe.kv.revision import Entry, Revision

PUT, DELETE = True, False
# (steps to the next revision, what happens there)
HISTORIES = st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12)


@dataclass
class PlainKey:
    """The truth: every change in a list, with the version that it made, 0 for a delete."""

    changes: list[tuple[int, int, int]] = field(default_factory=list)
    """Revision, the revision of creation, the version."""

    def change(self, revision: int, kind: bool) -> bool:
        created, version = self.changes[-1][1:] if self.changes else (0, 0)
        if kind is PUT:
            self.changes.append((revision, created if version else revision, version + 1))
        elif version:
            self.changes.append((revision, 0, 0))
        else:
            return False
        return True

    def at(self, revision: int) -> tuple[int, int, int] | None:
        before = [change for change in self.changes if change[0] <= revision]
        return before[-1] if before and before[-1][2] else None


def built(history: list[tuple[int, bool]]) -> tuple[KeyIndex, PlainKey, int]:
    """Return both, and the last revision."""
    plain, entries, revision = PlainKey(), [], 1
    for step, kind in history:
        revision += step
        if not plain.change(revision, kind):
            continue
        last = entries[-1] if entries else None
        entries.append(next_entry(last, Revision(revision), 0) if kind is PUT else tombstone(Revision(revision)))
    return KeyIndex(key=b"key", entries=tuple(entries)), plain, revision


def shown(entry: Entry | None) -> tuple[int, int, int] | None:
    return entry and (entry.main, entry.create_revision, entry.version)


def index_of(*revisions: int) -> KeyIndex:
    """Return an index of puts, and of tombstones where a revision is negative."""
    entries: list[Entry] = []
    for each in revisions:
        last = entries[-1] if entries else None
        entries.append(next_entry(last, Revision(each), 0) if each > 0 else tombstone(Revision(-each)))
    return KeyIndex(key=b"key", entries=tuple(entries))


@given(history=HISTORIES)
def test_a_key_was_at_each_revision_what_the_list_says(history: list[tuple[int, bool]]) -> None:
    index, plain, last = built(history)

    assert [shown(index.get(at)) for at in range(last + 2)] == [plain.at(at) for at in range(last + 2)]


@given(history=HISTORIES, data=st.data())
def test_a_compaction_changes_nothing_that_may_still_be_read(
    history: list[tuple[int, bool]], data: st.DataObject
) -> None:
    index, plain, last = built(history)
    revision = data.draw(st.integers(0, last))

    compacted = index.compact(revision)

    assert [shown(compacted.get(at)) for at in range(revision, last + 2)] == [
        plain.at(at) for at in range(revision, last + 2)
    ]
    old = [entry for entry in compacted.entries if entry.main < revision]
    # Of what is older than the revision only that is left which the key was then.
    assert [shown(entry) for entry in old] == [each for each in [plain.at(revision)] if each and each[0] < revision]
    assert [entry for entry in compacted.entries if entry.main >= revision] == [
        entry for entry in index.entries if entry.main >= revision
    ]


@given(history=HISTORIES, data=st.data())
def test_compacting_in_steps_is_compacting_at_once(history: list[tuple[int, bool]], data: st.DataObject) -> None:
    index, _, last = built(history)
    steps = sorted(data.draw(st.lists(st.integers(0, last), min_size=1, max_size=4)))

    stepped = index
    for each in steps:
        stepped = stepped.compact(each)

    assert stepped == index.compact(steps[-1])


@given(histories=st.lists(HISTORIES, max_size=4), revision=st.integers(0, 40))
def test_what_is_dropped_of_many_keys_is_what_each_drops(
    histories: list[list[tuple[int, bool]]], revision: int
) -> None:
    indexes = [(b"key%d" % number, built(history)[0]) for number, history in enumerate(histories)]
    rows = [(key, entry) for key, index in indexes for entry in index.entries]

    gone = list(dropped(rows, revision))

    kept = {(key, entry) for key, index in indexes for entry in index.compact(revision).entries}
    assert gone == [row for row in rows if row not in kept]


@pytest.mark.parametrize(
    ("revisions", "compacted", "kept"),
    [
        ((2, 4, 6), 1, (2, 4, 6)),
        ((2, 4, 6), 2, (2, 4, 6)),
        ((2, 4, 6), 3, (2, 4, 6)),
        ((2, 4, 6), 4, (4, 6)),
        ((2, 4, 6), 5, (4, 6)),
        ((2, 4, 6), 6, (6,)),
        # A key that is alive stays, however far the compaction goes.
        ((2, 4, 6), 99, (6,)),
        ((2, -4, 6), 3, (2, -4, 6)),
        # A tombstone stays at its very revision, and goes after it.
        ((2, -4, 6), 4, (-4, 6)),
        ((2, -4, 6), 5, (6,)),
        ((2, -4), 4, (-4,)),
        ((2, -4), 5, ()),
        ((2, -4, 6, -8), 7, (6, -8)),
        ((), 7, ()),
    ],
)
def test_a_compaction_keeps(revisions: tuple[int, ...], compacted: int, kept: tuple[int, ...]) -> None:
    found = index_of(*revisions).compact(compacted)

    assert tuple(-entry.main if entry.is_tombstone else entry.main for entry in found.entries) == kept


def test_a_generation_is_a_life_from_put_to_tombstone() -> None:
    index = index_of(2, 3, -5, 7, -8, 9)

    assert [[entry.main for entry in generation] for generation in index.generations()] == [[2, 3, 5], [7, 8], [9]]
    assert [[entry.version for entry in generation] for generation in index.generations()] == [[1, 2, 0], [1, 0], [1]]
    assert index_of().generations() == ()


def test_a_key_put_again_begins_anew() -> None:
    index = index_of(2, 3, -5, 7)

    assert shown(index.get(4)) == (3, 2, 2)
    assert index.get(5) is index.get(6) is None
    assert shown(index.get(7)) == (7, 7, 1)


def test_rows_are_gathered_by_key() -> None:
    rows = [(b"a", index_of(2).entries[0]), (b"a", index_of(2, 3).entries[1]), (b"b", index_of(4).entries[0])]

    assert [(index.key, len(index.entries)) for index in by_key(rows)] == [(b"a", 2), (b"b", 1)]


def test_the_newest_of_a_key_that_is_there_is_never_dropped() -> None:
    [entry] = index_of(2).entries

    assert not is_dropped(entry, None, 1_000)
    assert is_dropped(entry, index_of(2, 3).entries[1], 3)
    assert not is_dropped(entry, index_of(2, 3).entries[1], 2)
