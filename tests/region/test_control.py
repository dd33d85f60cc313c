from __future__ import annotations

import gc
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
from builders import file_of, metadata_of

from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.ids import EntryId, ManifestVersion, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.past import Mark
from mitoframe.region.control import MARKS_KEPT_MAX, VersionControl
from mitoframe.region.version import Version
from mitoframe.storage.memtable import Memtable

A, B, C = (file_of(name, 0, 9) for name in "abc")


def control_of(*files) -> VersionControl:
    state = RegionState(metadata=metadata_of(), options=RegionOptions()).apply(FileEdit(added=files))
    version = Version(state=state, manifest_version=ManifestVersion(0), mutable=Memtable(0))
    return VersionControl(version, Sequence(5), EntryId(2))


def editing(edit: FileEdit):
    return lambda version: version.apply(edit, ManifestVersion(version.manifest_version + 1))


def test_a_reader_takes_version_and_visible_sequence_together():
    control = control_of(A)
    before = control.current()

    control.publish(Sequence(9), EntryId(3))
    control.switch(editing(FileEdit(added=(B,))))

    assert (before.visible, before.last_entry_id, set(before.version.state.files)) == (5, 2, {A.file_id})
    after = control.current()
    assert (after.visible, after.last_entry_id, set(after.version.state.files)) == (9, 3, {A.file_id, B.file_id})


def test_switching_keeps_what_is_visible_and_publishing_keeps_the_version():
    control = control_of(A)

    switched = control.switch(editing(FileEdit(added=(B,))))
    control.publish(Sequence(6), EntryId(3))

    assert (switched.visible, switched.last_entry_id) == (5, 2)
    assert control.current().version is switched.version


def test_a_change_that_fails_changes_nothing():
    control = control_of(A)
    before = control.current()

    with pytest.raises(ZeroDivisionError):
        control.switch(lambda version: 1 / 0)

    assert control.current() is before
    control.publish(Sequence(6), EntryId(3))  # The lock was given back.


def test_a_file_is_pinned_while_a_version_that_lists_it_lives():
    control = control_of(A, B)
    held = control.current()

    control.switch(editing(FileEdit(added=(C,), removed=(A.file_id, B.file_id))))
    assert control.living.files() == {A.file_id, B.file_id, C.file_id}

    del held
    gc.collect()
    assert control.living.files() == {C.file_id}


def test_a_version_that_was_never_current_pins_its_files_too():
    control = control_of(A)
    version = control.current().version
    past = replace(version, state=version.state.apply(FileEdit(added=(B,))))

    control.pin(past)

    assert control.living.files() == {A.file_id, B.file_id}
    del past
    gc.collect()
    assert control.living.files() == {A.file_id}


def test_the_oldest_version_that_is_held_is_known():
    control = control_of(A)
    held = control.current()
    control.switch(lambda version: version.apply(FileEdit(added=(B,)), ManifestVersion(1)))
    assert control.living.oldest() == held.version.manifest_version == 0

    del held
    gc.collect()
    assert control.living.oldest() == 1
    living = control.living
    del control
    gc.collect()
    assert (living.oldest(), bool(living)) == (None, False)


def test_times_of_writes_are_kept_and_only_ever_rise():
    control = control_of()

    for sequence, at_ms in [(1, 10), (2, 10), (3, 12), (4, 11), (5, 0), (6, 12), (7, 13)]:
        control.publish(Sequence(sequence), EntryId(sequence), Mark(Sequence(sequence), at_ms))

    assert control.marks() == [(2, 10), (6, 12), (7, 13)]
    assert control.marks(after=Sequence(2)) == [(6, 12), (7, 13)]


def test_of_very_many_times_every_other_is_let_go():
    control = control_of()

    for number in range(1, MARKS_KEPT_MAX + 2):
        control.publish(Sequence(number), EntryId(number), Mark(Sequence(number), number))

    marks = control.marks()
    assert len(marks) == MARKS_KEPT_MAX // 2
    assert marks[-1].sequence == MARKS_KEPT_MAX + 1
    assert max(later.at_ms - earlier.at_ms for earlier, later in pairwise(marks)) <= 3


def test_two_threads_lose_none_of_each_others_switches():
    control = control_of()

    def add(first: int) -> None:
        for number in range(first, first + 200):
            control.switch(editing(FileEdit(added=(file_of(f"{number:032x}", 0, 1),))))
            control.publish(Sequence(number), EntryId(number))

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    version = control.current().version
    assert (len(version.state.files), version.manifest_version) == (600, 600)


def test_freezing_gives_new_rows_a_new_memtable_and_keeps_the_old_one_in_order():
    control = control_of(A)
    first, second, third = control.current().version.mutable, Memtable(1), Memtable(2)

    version = control.current().version.freeze(second).freeze(third)

    assert version.immutables == (first, second)
    assert version.mutable is third
    assert version.memtables == (first, second, third)


def test_an_edit_takes_away_the_memtables_it_flushed_and_no_others():
    version = control_of(A).current().version.freeze(Memtable(1)).freeze(Memtable(2))

    after = version.apply(FileEdit(added=(B,)), ManifestVersion(1), frozenset({0}))

    assert [memtable.memtable_id for memtable in after.memtables] == [1, 2]
    assert (after.manifest_version, set(after.state.files)) == (1, {A.file_id, B.file_id})
    assert [memtable.memtable_id for memtable in version.memtables] == [0, 1, 2]


def test_versions_that_look_alike_are_still_two_pins():
    version = control_of(A).current().version

    assert replace(version) != version
