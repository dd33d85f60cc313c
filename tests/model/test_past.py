"""Which moments a manifest remembers, and which of them can be read."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from builders import file_id_of, file_of, metadata_of, with_field
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.edit import Change, FileEdit, RegionState, SnapshotEdit
from mitoframe.model.errors import ConflictError
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.past import (
    ENTRIES_MAX,
    MARKS_MAX,
    Mark,
    Moment,
    NamedSnapshot,
    Past,
    VersionEntry,
    thinned,
)

METADATA = metadata_of()
FIRST = Change(metadata=METADATA, options=RegionOptions())
EMPTY = RegionState(metadata=METADATA, options=RegionOptions()).apply(FIRST)


def flush(name: str, sequence: int, **known) -> FileEdit:
    file = file_of(name, 0, 9, min_sequence=Sequence(sequence), max_sequence=Sequence(sequence))
    facts = {"added": (file,), "flushed_sequence": Sequence(sequence), "at_sequence": Sequence(sequence)}
    return FileEdit(**facts | known)


def compaction(name: str, *removed: str, sequence: int) -> FileEdit:
    return FileEdit(
        added=(file_of(name, 0, 9, max_sequence=Sequence(sequence)),),
        removed=tuple(map(file_id_of, removed)),
        compaction_window_ms=1000,
        at_sequence=Sequence(sequence),
    )


def truncate(*removed: str, sequence: int) -> FileEdit:
    return FileEdit(removed=tuple(map(file_id_of, removed)), at_sequence=Sequence(sequence), reason="truncate")


def after(*edits) -> RegionState:
    state = EMPTY
    for edit in edits:
        state = state.apply(edit)
    return state


def moment(version: int, sequence: int) -> Moment:
    return Moment(version=ManifestVersion(version), sequence=Sequence(sequence))


def test_each_version_says_what_it_was():
    state = after(
        flush("a", 5),
        flush("b", 7, at_sequence=Sequence(9)),
        compaction("c", "a", "b", sequence=9),
        FileEdit(added=(file_of("d", 0, 9, min_sequence=Sequence(10)),), committed_sequence=Sequence(12),
                 at_sequence=Sequence(9), reason="backfill"),
        SnapshotEdit(name="x", at_sequence=Sequence(12)),
        Change(metadata=with_field(METADATA, "mem", pa.float32()), options=RegionOptions(), at_sequence=Sequence(12)),
        truncate("c", "d", sequence=12),
        FileEdit(forgotten=(file_id_of("a"),), at_sequence=Sequence(12), reason="gc"),
    )  # fmt: skip

    told = [(each.version, each.before, each.sequence, each.what, each.is_neutral) for each in state.past.entries]

    assert told[-7:] == [
        (2, 9, 9, "flush", True),
        (3, 9, 9, "compact", True),
        (4, 9, 12, "backfill", False),
        (5, 12, 12, "snapshot", True),
        (6, 12, 12, "alter", False),
        (7, 12, 12, "truncate", False),
        (8, 12, 12, "gc", True),
    ]
    assert after(flush("a", 5)).past.entries[0] == (0, 0, 0, 0, "create", 0, False)
    assert state.version == 8
    assert state.past.entries[-1].row_count == 0


def test_a_sequence_is_the_moment_before_anything_that_came_after_it():
    past = after(flush("a", 5), truncate("a", sequence=5), flush("b", 8), compaction("c", "b", sequence=9)).past

    assert past.at_sequence(Sequence(0)) == moment(0, 0)
    assert past.at_sequence(Sequence(5)) == moment(0, 5)
    assert past.at_sequence(Sequence(6)) == moment(2, 6)
    assert past.at_sequence(Sequence(9)) == moment(3, 9)
    assert past.at_sequence(Sequence(50)) == moment(4, 50)
    assert Past().at_sequence(Sequence(5)) is None


def test_moments_are_equal_as_long_as_no_row_changes():
    past = after(flush("a", 5), compaction("b", "a", sequence=5), truncate("b", sequence=5), flush("c", 6)).past

    assert past.newest_equal(moment(0, 5)) == moment(2, 5)
    assert past.newest_equal(moment(2, 5)) == moment(2, 5)
    assert past.newest_equal(moment(0, 4)) == moment(0, 4)
    assert past.newest_equal(moment(3, 6)) == moment(4, 6)


def test_what_was_forgotten_takes_the_moments_before_its_removal_with_it():
    state = after(flush("a", 5), flush("b", 7), compaction("c", "a", "b", sequence=8), flush("d", 9))

    state = state.apply(FileEdit(forgotten=(file_id_of("a"),), at_sequence=Sequence(9)))

    assert state.past.kept_since == 3
    assert [entry.version for entry in state.past.entries] == [3, 4, 5]
    assert not state.past.is_kept(moment(1, 5))
    assert state.past.is_kept(moment(2, 8))  # The compaction changed nothing, and has all of it.


@pytest.mark.parametrize(
    ("edit", "kept_since"),
    [
        (flush("b", 7), 0),
        (flush("b", 7, lost_history=Sequence(7)), 2),
        (FileEdit(flushed_sequence=Sequence(7), lost_history=Sequence(7), at_sequence=Sequence(7)), 2),
        (FileEdit(removed=(file_id_of("a"),), lost_history=Sequence(7), at_sequence=Sequence(7)), 0),
        (FileEdit(removed=(file_id_of("a"),)), 2),
    ],
    ids=["flush", "flush without history", "rows given up", "files removed", "nobody says when"],
)
def test_rows_that_are_lost_take_the_moments_before_with_them(edit, kept_since):
    assert after(flush("a", 5), edit).past.kept_since == kept_since


def test_a_moment_with_a_name_is_kept_whatever_goes():
    state = after(flush("a", 5), SnapshotEdit(name="x", at_sequence=Sequence(5)), flush("b", 7))
    state = state.apply(compaction("c", "a", "b", sequence=7))

    state = state.apply(FileEdit(forgotten=(file_id_of("b"),), at_sequence=Sequence(7)))

    assert state.past.is_kept(moment(2, 5))
    assert not state.past.is_kept(moment(1, 4))
    assert state.past.entry(2).what == "snapshot"
    state = state.apply(SnapshotEdit(name="x", is_dropped=True, at_sequence=Sequence(7)))
    assert not state.past.is_kept(moment(2, 5))
    assert state.past.entry(2) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=12),
    st.integers(0, 12),
    st.sets(st.integers(0, 11)),
)
def test_the_versions_that_can_be_read_are_those_whose_moments_are_kept(drawn, kept_since, named):
    entries, newest = [], 0
    for number, (count, is_neutral) in enumerate(drawn):
        before, newest = newest + number % 2, newest + number % 2 + (0 if is_neutral else count)
        known = ManifestVersion(number), Sequence(before), Sequence(newest), 0, "", 0, is_neutral
        entries.append(VersionEntry(*known))
    snapshots = tuple(
        NamedSnapshot(name=str(entry.version), version=entry.version, sequence=entry.sequence, at_ms=0)
        for entry in entries
        if entry.version in named
    )
    past = Past(entries=tuple(entries), snapshots=snapshots, kept_since=ManifestVersion(kept_since))

    assert past.kept_entries() == tuple(entry for entry in entries if past.is_kept(entry.moment))


def test_a_name_is_given_once_and_dropped_once():
    state = after(SnapshotEdit(name="x"))

    with pytest.raises(ConflictError, match="there is a snapshot 'x' already"):
        state.apply(SnapshotEdit(name="x"))
    with pytest.raises(ConflictError, match="there is no snapshot 'y'"):
        state.apply(SnapshotEdit(name="y", is_dropped=True))


def test_former_schemas_are_kept_as_long_as_a_moment_has_them():
    wider = with_field(METADATA, "mem", pa.float32())
    widest = with_field(wider, "io", pa.float32())
    state = after(
        Change(metadata=wider, options=RegionOptions()),
        Change(metadata=wider, options=RegionOptions()),
        Change(metadata=widest, options=RegionOptions(dedup="none")),
    )

    assert state.past.metadata_at(ManifestVersion(0)).metadata == METADATA
    assert state.past.metadata_at(ManifestVersion(2)).metadata == wider
    assert state.past.metadata_at(ManifestVersion(2)).options.dedup == "last"
    assert state.past.metadata_at(ManifestVersion(3)) is None
    assert [schema.metadata for schema in state.past.since(ManifestVersion(1)).former] == [wider]
    assert state.past.since(ManifestVersion(3)).former == ()


def test_what_is_remembered_is_bounded_and_versions_that_change_rows_stay_longest():
    state = after(flush("a", 1), truncate("a", sequence=1))
    for number in range(ENTRIES_MAX + 10):
        state = state.apply(FileEdit(at_sequence=Sequence(number + 2), marks=(Mark(Sequence(number + 2), number),) * 9))

    assert len(state.past.entries) == ENTRIES_MAX
    assert [entry.what for entry in state.past.entries[:2]] == ["create", "truncate"]
    assert state.past.kept_since == 0
    assert len(state.past.marks) == MARKS_MAX


def test_when_even_those_are_too_many_older_moments_go():
    past = Past()
    for number in range(ENTRIES_MAX + 3):
        entry = VersionEntry(ManifestVersion(number), Sequence(number), Sequence(number), 0, "replace", 0, False)
        past = past.with_entry(entry)

    assert past.kept_since == 3
    assert [entry.version for entry in past.entries][:2] == [3, 4]


def test_times_of_versions_never_go_back():
    state = after(flush("a", 1, at_ms=10), flush("b", 2, at_ms=7), flush("c", 3, at_ms=12))

    assert [entry.at_ms for entry in state.past.entries] == [0, 10, 10, 12]


def test_of_a_state_that_was_written_before_only_now_is_known():
    state = after(flush("a", 5), flush("b", 7))
    old = json.loads(json.dumps(state.to_json()))
    del old["past"]

    past = RegionState.from_json(old).past

    assert [(each.version, each.sequence, each.row_count) for each in past.entries] == [(2, 7, 20)]
    assert past.at_sequence(Sequence(7)) == moment(2, 7)
    assert past.at_sequence(Sequence(6)) is None
    assert not past.is_kept(moment(1, 5))


@pytest.mark.parametrize("count", [0, 1, 5, 6, 11, 100])
def test_thinned_marks_are_spread_and_end_with_the_last(count):
    marks = [Mark(Sequence(number), number) for number in range(count)]

    found = thinned(marks, 5)

    assert len(found) == min(count, 5)
    assert found[-1:] == marks[-1:]
    assert found == sorted(set(found))
