from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pytest
from builders import file_id_of, file_of, metadata_of, with_field
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.edit import (
    CONTENT_PREFIX,
    DELETED,
    WRITE_KEYS_MAX,
    WRITTEN,
    Change,
    FileEdit,
    RegionState,
    SnapshotEdit,
    WriteKey,
    edit_from_json,
    find_write,
    undo_key,
)
from mitoframe.model.errors import ConflictError
from mitoframe.model.file import RemovedFile
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.past import Mark

METADATA = metadata_of()
EMPTY = RegionState(metadata=METADATA, options=RegionOptions())
A, B, C = (file_of(name, 0, 9) for name in "abc")

names = st.sampled_from("abcdef")
file_ids = st.lists(names.map(file_id_of), unique=True, max_size=4).map(tuple)
counters = st.none() | st.integers(0, 50)
file_edits = st.builds(
    FileEdit,
    added=st.lists(st.builds(file_of, names, st.integers(-9, 0), st.integers(1, 9)), max_size=3).map(tuple),
    removed=file_ids,
    forgotten=file_ids,
    history=st.lists(st.builds(file_of, names, st.integers(-9, 0), st.integers(1, 9)), max_size=2).map(tuple),
    committed_sequence=counters,
    lost_history=counters,
    write_keys=st.lists(
        st.builds(
            WriteKey,
            key=st.text(max_size=5),
            first_sequence=st.integers(1, 9),
            row_count=st.integers(1, 9),
            min_time=st.integers(-9, 0),
            max_time=st.integers(0, 9),
            at_ms=st.integers(0, 9),
        ),
        max_size=2,
    ).map(tuple),
    forget_writes=st.booleans(),
    at_sequence=st.integers(0, 50),
    flushed_entry_id=counters,
    flushed_sequence=counters,
    compaction_window_ms=st.none() | st.integers(1000, 2000),
    at_ms=st.integers(0, 2**53),
    reason=st.text(max_size=8),
    marks=st.lists(st.builds(Mark, st.integers(1, 9), st.integers(0, 9)), max_size=2).map(tuple),
)
changes = st.builds(
    Change,
    metadata=st.sampled_from([METADATA, with_field(METADATA, "mem", pa.float32())]),
    options=st.builds(RegionOptions, compaction_window_ms=st.none() | st.integers(1000, 2000)),
    at_ms=st.integers(0, 9),
    at_sequence=st.integers(0, 50),
)
snapshot_edits = st.builds(
    SnapshotEdit,
    name=st.sampled_from(["x", "ü"]),
    is_dropped=st.booleans(),
    at_ms=st.integers(0, 9),
    at_sequence=st.integers(0, 50),
)
edits = file_edits | changes | snapshot_edits


def as_json(value):
    return json.loads(json.dumps(value.to_json(), allow_nan=False))


def state_with(*files, **known) -> RegionState:
    state = EMPTY.apply(FileEdit(added=files))
    return state.apply(FileEdit(**known)) if known else state


@settings(deadline=None)
@given(edits)
def test_an_edit_survives_being_json(edit):
    assert edit_from_json(as_json(edit)) == edit


@settings(deadline=None)
@given(st.lists(edits, max_size=8))
def test_a_state_survives_being_json(history):
    state = EMPTY
    for edit in history:
        try:
            state = state.apply(edit)
        except ConflictError:
            continue

    assert RegionState.from_json(as_json(state)) == state


def test_an_action_of_another_version_is_a_value_error():
    with pytest.raises(ValueError, match=r"unknown action \['truncate'\]"):
        edit_from_json({"truncate": {}})


def test_files_come_and_go():
    edit = FileEdit(added=(C,), removed=(A.file_id,), at_ms=77, at_sequence=Sequence(9))

    state = state_with(A, B).apply(edit)

    assert dict(state.files) == {B.file_id: B, C.file_id: replace(C, derived_version=1)}
    assert state.removed_files == (
        RemovedFile(
            file_id=A.file_id, removed_ms=77, removed_sequence=Sequence(9), file=A, removed_version=ManifestVersion(1)
        ),
    )


def test_history_is_removed_as_it_is_added():
    state = state_with(A).apply(FileEdit(added=(B,), history=(C,), at_ms=7, at_sequence=Sequence(3)))

    assert set(state.files) == {A.file_id, B.file_id}
    assert [(file.file, file.removed_ms, file.removed_sequence) for file in state.removed_files] == [(C, 7, 3)]


def test_when_history_is_forgotten_older_moments_cannot_be_told_any_more():
    state = state_with(A, B).apply(FileEdit(removed=(A.file_id,), at_sequence=Sequence(5)))
    state = state.apply(FileEdit(removed=(B.file_id,), at_sequence=Sequence(8)))

    assert state.history_floor == 0
    assert state.apply(FileEdit(forgotten=(A.file_id,))).history_floor == 5
    assert state.apply(FileEdit(lost_history=Sequence(7))).history_floor == 7


def test_sequences_that_were_committed_are_never_given_again():
    state = state_with().apply(FileEdit(committed_sequence=Sequence(9)))

    assert state.committed_sequence == 9
    assert state.apply(FileEdit(flushed_sequence=Sequence(4))).committed_sequence == 9
    assert state.apply(FileEdit(flushed_sequence=Sequence(12))).committed_sequence == 12


def key(name: str, first: int, *times: int, rows: int = 1) -> WriteKey:
    first_time, last_time = times or (0, 0)
    return WriteKey(
        key=name, first_sequence=Sequence(first), row_count=rows, min_time=first_time, max_time=last_time, at_ms=0
    )


def test_the_newest_writes_are_remembered():
    state = EMPTY
    for number in range(WRITE_KEYS_MAX + 5):
        state = state.apply(FileEdit(write_keys=(key(str(number), number + 1),)))

    assert [known.key for known in state.write_keys] == [str(n) for n in range(5, WRITE_KEYS_MAX + 5)]
    assert state.apply(FileEdit(forget_writes=True)).write_keys == ()


CONTENT = CONTENT_PREFIX + "x"


@pytest.mark.parametrize(
    ("name", "later", "repeats", "found"),
    [
        ("load", [], False, True),
        ("load", [key("other", 2)], False, True),
        ("load", [key(DELETED, 2)], False, True),
        ("load", [key(undo_key(Sequence(1), Sequence(1)), 2)], False, False),
        ("load", [key(undo_key(Sequence(7), Sequence(7)), 2)], False, True),
        (CONTENT, [], False, True),
        (CONTENT, [key(DELETED, 2)], False, False),
        (CONTENT, [key(DELETED, 2)], True, False),
        (CONTENT, [key("other", 2, 0, 4)], False, False),
        (CONTENT, [key(WRITTEN, 2, 5, 9)], False, False),
        (CONTENT, [key("other", 2, 6, 9)], False, True),
        (CONTENT, [key("other", 2, 0, 4)], True, True),
        (CONTENT, [key(undo_key(Sequence(1), Sequence(1)), 2, 6, 9)], True, False),
    ],
)
def test_which_keyed_writes_still_count(name, later, repeats, found):
    first = key(name, 1, 2, 5)

    assert find_write([key("before", 1), first, *later], name, repeats=repeats) == (first if found else None)


def test_a_file_that_is_forgotten_is_remembered_no_more():
    state = state_with(A, B).apply(FileEdit(removed=(A.file_id, B.file_id), at_ms=5))

    state = state.apply(FileEdit(forgotten=(A.file_id,)))

    assert [file.file_id for file in state.removed_files] == [B.file_id]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (FileEdit(removed=(C.file_id,)), f"file {C.file_id} is not in the region any more"),
        (FileEdit(added=(A,)), f"file {A.file_id} is in the region already"),
        (FileEdit(added=(A,), removed=(A.file_id,)), f"file {A.file_id} is in the region already"),
    ],
    ids=["remove what is gone", "add what is there", "replace a file by itself"],
)
def test_an_edit_that_does_not_fit_is_a_conflict_and_changes_nothing(edit, message):
    state = state_with(A, B)

    with pytest.raises(ConflictError, match=message):
        state.apply(edit)

    assert set(state.files) == {A.file_id, B.file_id}


def test_what_was_flushed_only_moves_up():
    state = state_with(flushed_entry_id=10, flushed_sequence=100)

    state = state.apply(FileEdit(flushed_entry_id=7, flushed_sequence=150))
    state = state.apply(FileEdit())

    assert (state.flushed_entry_id, state.flushed_sequence) == (10, 150)


def test_the_compaction_window_is_remembered_until_another_is_told():
    state = state_with(compaction_window_ms=3_600_000).apply(FileEdit(reason="flush"))

    assert state.compaction_window_ms == 3_600_000
    assert state.apply(FileEdit(compaction_window_ms=7_200_000)).compaction_window_ms == 7_200_000


def test_a_change_replaces_schema_and_options_and_keeps_the_files():
    metadata = with_field(METADATA, "mem", pa.float32())
    options = RegionOptions(compaction_window_ms=1000)

    state = state_with(A, flushed_entry_id=3).apply(Change(metadata=metadata, options=options))

    assert (state.metadata, state.options) == (metadata, options)
    assert set(state.files) == {A.file_id}
    assert state.flushed_entry_id == 3


def test_nobody_changes_a_state_in_place():
    before = state_with(A)

    after = before.apply(FileEdit(added=(B,)))

    assert set(before.files) == {A.file_id}
    assert isinstance(after.files, Mapping)
    with pytest.raises(TypeError):
        after.files[C.file_id] = C
