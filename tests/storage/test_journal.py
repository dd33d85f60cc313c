from __future__ import annotations

from dataclasses import replace

import pytest
from builders import GOLDEN, REGION, file_id_of, file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.edit import Change, FileEdit, SnapshotEdit
from mitoframe.model.errors import BusyError, ConfigError, CorruptionError
from mitoframe.model.ids import FileId, ManifestVersion
from mitoframe.model.options import RegionOptions
from mitoframe.storage.journal import (
    FileFacts,
    JournalEntry,
    Parts,
    _line,
    append_part,
    completed,
    entry_of_actions,
    list_parts,
    read_history,
    read_part,
    replay,
)
from mitoframe.storage.manifest import Manifest, load
from mitoframe.storage.paths import (
    JournalName,
    journal_folder,
    journal_key,
    manifest_key,
    parse_journal_key,
    parse_manifest_key,
)
from mitoframe.testing.golden import assert_golden

METADATA = metadata_of()
FACTS = FileFacts(0, -5, 9, 3, 1, 4, 7, 9, 1)
FIRST = Change(metadata=METADATA, options=RegionOptions(), at_ms=1)


def manifest_of(store, edits: int, distance: int = 1_000) -> Manifest:
    """Make a region with so many versions: each adds a file, and every third one exchanges all for one."""
    manifest = Manifest.create(store, SeededRandomness(0), FIRST, distance)
    for number in range(1, edits):
        commit(manifest, number)
    return manifest


def commit(manifest: Manifest, number: int) -> None:
    removed = tuple(manifest.state.files) if number % 3 == 0 else ()
    reason = "manual" if number % 3 else "automatic"
    added = file_of(f"{number:08x}", 0, 9, created_ms=1000 * number)
    manifest.append(
        FileEdit(
            added=(added,),
            removed=removed,
            at_ms=1000 * number + 5,
            reason=reason,
            flushed_sequence=None if removed else 1,
            compaction_window_ms=1000 if removed else None,
        )
    )
    manifest.checkpoint_if_due()


def entry(version: int, *, added: str = "", removed: str = "", **known) -> JournalEntry:
    outputs = tuple(file_id_of(name) for name in added)
    inputs = tuple(file_id_of(name) for name in removed)
    return JournalEntry(version=ManifestVersion(version), what="flush", outputs=outputs, inputs=inputs, **known)


def parts_of(store, *groups: list[JournalEntry], entries_max: int = 1_000) -> Parts:
    parts = list_parts(store, REGION)
    for group in groups:
        parts = append_part(store, REGION, parts, group, entries_max)
    assert parts.live == list_parts(store, REGION).live
    return parts


def stored(store) -> list[JournalEntry]:
    return [entry for name in list_parts(store, REGION).live for entry in read_part(store, REGION, name)[0]]


# --- entries --------------------------------------------------------------------------------------------


def test_an_entry_says_what_came_and_went_with_rows_and_bytes_and_how_long_it_took():
    store = MemoryObjectStore()
    manifest = manifest_of(store, 3)
    files = tuple(manifest.state.files)
    merged = file_of("c", 0, 9, row_count=15, size_bytes=700, created_ms=90)
    edit = FileEdit(added=(merged,), removed=files, at_ms=95, reason="manual", compaction_window_ms=1000)

    found = entry_of_actions(ManifestVersion(3), [edit], manifest.state, ended_ms=120)

    assert found == JournalEntry(
        version=ManifestVersion(3),
        what="compact",
        reason="manual",
        begun_ms=90,
        at_ms=120,
        inputs=files,
        outputs=(merged.file_id,),
        rows_in=20,
        rows_out=15,
        bytes_in=2000,
        bytes_out=700,
        facts=(FileFacts.of(merged),),
    )


def test_rows_of_files_that_nobody_remembers_are_not_made_up():
    edit = FileEdit(removed=(file_id_of("a"),), at_ms=95, reason="truncate")

    found = entry_of_actions(ManifestVersion(3), [edit], None)

    assert (found.rows_in, found.bytes_in, found.is_rebuilt) == (None, None, True)


@pytest.mark.parametrize(
    ("version", "edit", "what", "reason"),
    [
        (0, FIRST, "create", ""),
        (4, FIRST, "alter", ""),
        (4, SnapshotEdit(name="now"), "snapshot", ""),
        (4, SnapshotEdit(name="now", is_dropped=True), "drop_snapshot", ""),
        (4, FileEdit(added=(file_of("a", 0, 9),), flushed_sequence=4, reason="size"), "flush", "size"),
        (4, FileEdit(removed=(file_id_of("a"),), reason="truncate"), "truncate", ""),
        (4, FileEdit(removed=(file_id_of("a"),), reason="restore"), "restore", ""),
        (4, FileEdit(forgotten=(file_id_of("a"),), reason="gc"), "gc", ""),
        (4, FileEdit(removed=(file_id_of("a"),)), "update", ""),
    ],
)  # fmt: skip
def test_an_entry_says_in_a_word_what_happened_and_why(version, edit, what, reason):
    found = entry_of_actions(ManifestVersion(version), [edit], None)

    assert (found.what, found.reason) == (what, reason)


def test_a_restore_was_not_begun_when_its_files_were_made():
    edit = FileEdit(added=(file_of("a", 0, 9, created_ms=3),), reason="restore", at_ms=500)

    assert entry_of_actions(ManifestVersion(4), [edit], None).begun_ms == 500


def test_several_actions_of_one_version_are_one_entry():
    first = FileEdit(added=(file_of("a", 0, 9),), reason="undo", at_ms=5)
    second = FileEdit(removed=(file_id_of("b"),), reason="truncate", at_ms=7)

    found = entry_of_actions(ManifestVersion(4), [first, second], None)

    assert (found.what, found.at_ms, found.rows_out, found.rows_in) == ("undo, truncate", 7, 10, None)
    assert replay([entry(3, added="b"), found]) == {file_id_of("a")}


def test_replaying_forgets_what_was_before_an_entry_that_starts_anew():
    entries = [entry(0, added="ab"), entry(1, added="c", starts_anew=True), entry(2, added="d", removed="c")]

    assert replay(entries[:1]) == {file_id_of("a"), file_id_of("b")}
    assert replay(entries[:2]) == {file_id_of("c")}
    assert replay(entries) == {file_id_of("d")}


# --- parts ----------------------------------------------------------------------------------------------


def test_what_is_stored_is_read_again():
    store = MemoryObjectStore()
    entries = [
        entry(0, reason="size", begun_ms=1, at_ms=2, rows_out=3, bytes_out=4),
        entry(1, removed="a", rows_in=None, bytes_in=None, is_rebuilt=True),
        entry(1, is_aside=True),
        entry(2, added="ab", starts_anew=True),
    ]

    parts_of(store, entries)

    assert stored(store) == entries


def test_the_format_is_this():
    store = MemoryObjectStore()
    entries = [
        entry(0, added="a", reason="size", begun_ms=1, at_ms=2, rows_out=3, bytes_out=4, facts=(FACTS,)),
        entry(1, removed="a", rows_in=None, bytes_in=5, is_rebuilt=True),
        entry(2, added="bc", facts=(None, FACTS), starts_anew=True),
    ]

    [name] = parts_of(store, entries).live

    assert_golden(GOLDEN / "journal" / "format-2.jsonl", store.get(journal_key(REGION, name)).decode())


@pytest.mark.parametrize(("format_version", "entries"), [(1, 2), (2, 3)])
def test_the_format_of_the_golden_part_is_read_for_ever(format_version, entries):
    store, name = MemoryObjectStore(), JournalName(1, 1, ManifestVersion(entries - 1), entries)
    golden = GOLDEN / "journal" / f"format-{format_version}.jsonl"
    store.put_if_absent(journal_key(REGION, name), golden.read_bytes())

    found, damage = read_part(store, REGION, name)

    assert [each.version for each in found] == list(range(entries))
    assert (found[0].rows_out, found[1].rows_in, found[1].bytes_in) == (3, None, 5)
    assert [each.facts for each in found] == {1: [(), ()], 2: [(FACTS,), (), (None, FACTS)]}[format_version]
    assert damage == ""


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_parts_stay_few_and_hold_every_entry_in_order(sizes):
    store, version = MemoryObjectStore(), 0
    parts = Parts()
    for size in sizes:
        entries = [entry(version + number) for number in range(size)]
        version += size
        parts = append_part(store, REGION, parts, entries, 10_000)

    assert [each.version for each in stored(store)] == list(range(version))
    assert parts.through == version - 1
    assert len(store.list(journal_folder(REGION))) == len(parts.live)
    counts = [name.entries for name in parts.live]
    assert counts == sorted(set(counts), reverse=True), "each part is larger than the next"


def test_of_parts_of_one_size_there_are_as_many_as_the_logarithm_says():
    store, parts, puts = MemoryObjectStore(), Parts(), 0

    for number in range(100):
        entries = [entry(8 * number + place) for place in range(8)]
        parts = append_part(store, REGION, parts, entries, 10_000)
        puts += parts.live[-1].entries

    assert [name.entries for name in parts.live] == [8 * 64, 8 * 32, 8 * 4]
    assert puts <= 800 * 7, "each entry is stored a few times only"


def test_what_a_crash_left_of_parts_that_were_taken_in_does_not_count_and_goes_with_the_next():
    store = MemoryObjectStore()
    [small] = parts_of(store, [entry(0, added="a")]).live
    key = journal_key(REGION, small)
    left = store.get(key)
    [joined] = parts_of(store, [entry(1, added="b")]).live
    store.put_if_absent(key, left)

    parts = list_parts(store, REGION)
    assert (parts.live, parts.taken_in) == ((joined,), (small,))
    assert [each.version for each in stored(store)] == [0, 1]

    append_part(store, REGION, parts, [entry(2)], 1_000)
    assert key not in [item.key for item in store.list(journal_folder(REGION))]
    assert [each.version for each in stored(store)] == [0, 1, 2]


def test_somebody_elses_part_is_not_written_over():
    store = MemoryObjectStore()
    parts_of(store, [entry(0)])

    with pytest.raises(FileExistsError):
        append_part(store, REGION, Parts(), [entry(0)], 1_000)


def test_names_of_parts_are_read_as_they_were_made():
    name = JournalName(3, 12, ManifestVersion(40), 7)

    assert parse_journal_key(journal_key(REGION, name)) == name
    assert parse_journal_key(journal_key(REGION, name) + ".tmp") is None
    assert parse_journal_key(manifest_key(REGION, ManifestVersion(1), "json")) is None


# --- rolling up -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(10, 40), st.integers(1, 7), st.integers(1, 150))
def test_a_journal_that_is_full_is_rolled_up_and_still_tells_which_files_there_are(entries_max, size, versions):
    store = MemoryObjectStore()
    manifest = manifest_of(store, versions)
    history = read_history(store, REGION).entries
    parts = Parts()

    for start in range(0, versions, size):
        parts = append_part(store, REGION, parts, history[start : start + size], entries_max)
        assert sum(name.entries for name in parts.live) <= max(entries_max, size) + 1

    assert replay(stored(store)) == set(manifest.state.files)
    assert stored(store)[-1] == history[-1]
    assert stored(store)[0].starts_anew is (versions > entries_max)


def test_rolled_up_entries_are_counted():
    store = MemoryObjectStore()
    manifest_of(store, 31)
    history = read_history(store, REGION).entries

    parts_of(store, list(history[:10]), list(history[10:20]), list(history[20:]), entries_max=20)

    first = stored(store)[0]
    assert first.what == "start"
    assert first.reason == "16 older entries were rolled up"
    assert first.version == 15
    assert [each.version for each in stored(store)] == list(range(15, 31))


def test_what_is_damaged_is_not_rolled_up_as_if_it_were_known():
    store = MemoryObjectStore()
    manifest = manifest_of(store, 40, distance=5)
    known = [entry(version, added="f") for version in (0, 1, 5, 6)]

    parts_of(store, [*known, *(entry(version) for version in range(7, 40))], entries_max=20)

    assert replay(stored(store)) == set(manifest.state.files)
    assert stored(store)[0].starts_anew


# --- damage ---------------------------------------------------------------------------------------------


def damaged(store, name: JournalName, change) -> MemoryObjectStore:
    """Return a store with one part changed."""
    other = MemoryObjectStore()
    for folder in (journal_folder(REGION), journal_folder(REGION).replace("journal", "manifest")):
        for item in store.list(folder):
            data = store.get(item.key)
            other.put_if_absent(item.key, change(data) if item.key == journal_key(REGION, name) else data)
    return other


def test_whatever_is_cut_off_a_part_the_rest_is_read_and_the_files_are_right():
    store = MemoryObjectStore()
    manifest = manifest_of(store, 30, distance=4)
    [name] = parts_of(store, [entry(version) for version in range(25)]).live
    size = len(store.get(journal_key(REGION, name)))

    for length in range(0, size, 37):
        history = read_history(damaged(store, name, lambda data, length=length: data[:length]), REGION)
        assert replay(history.entries) == set(manifest.state.files)
        [said] = history.damage
        assert journal_key(REGION, name) in said


def test_a_flipped_byte_anywhere_loses_what_follows_and_nothing_else():
    store = MemoryObjectStore()
    manifest = manifest_of(store, 12, distance=4)
    [name] = parts_of(store, [entry(version) for version in range(3)]).live
    data = store.get(journal_key(REGION, name))

    for place in range(len(data)):
        history = read_history(damaged(store, name, flipped(place)), REGION)
        assert replay(history.entries) == set(manifest.state.files)
        good = len(data[:place].splitlines(keepends=True)) - (not data[:place].endswith(b"\n")) - 1
        kept = [each.version for each in history.entries if each.version < 3]
        assert kept == list(range(max(good, 0)))
        assert len(history.damage) == 1


def flipped(place: int):
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_part_is_not_taken_in_by_others():
    store = MemoryObjectStore()
    [name] = parts_of(store, [entry(0)]).live
    store = damaged(store, name, lambda data: data[:-1])

    parts = parts_of(store, [entry(1)])

    assert [part.last for part in parts.live] == [1, 2]


def test_a_part_under_the_name_of_another_is_told():
    store = MemoryObjectStore()
    [name] = parts_of(store, [entry(0)]).live
    other = name._replace(last=9)
    store.put_if_absent(journal_key(REGION, other), store.get(journal_key(REGION, name)))

    found, damage = read_part(store, REGION, other)

    assert found == []
    assert "another part" in damage


def test_a_part_of_a_newer_format_is_refused():
    store, name = MemoryObjectStore(), JournalName(1, 1, ManifestVersion(0), 0)
    store.put_if_absent(journal_key(REGION, name), _line({"format": 3, "first": 1, "last": 1}))
    manifest_of(store, 2)

    with pytest.raises(ConfigError, match="newer"):
        read_history(store, REGION)


def test_a_journal_that_changes_all_the_time_is_given_up():
    class Changing(MemoryObjectStore):
        def get(self, key):
            if "/journal/" in key:
                raise FileNotFoundError(key)
            return super().get(key)

    store = Changing()
    manifest_of(store, 2)
    store.put_if_absent(journal_key(REGION, JournalName(1, 1, ManifestVersion(0), 0)), b"")

    with pytest.raises(BusyError):
        read_history(store, REGION)


# --- what only the manifest tells -------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("versions", [1, 2, 9, 25])
def test_without_a_journal_the_manifest_tells_what_it_still_knows(distance, versions):
    store = MemoryObjectStore()
    manifest = manifest_of(store, versions, distance)

    history = read_history(store, REGION)

    assert replay(history.entries) == set(manifest.state.files)
    assert history.entries[-1].version == versions - 1
    assert history.entries[0].starts_anew is (history.entries[0].version > 0)
    assert history.damage == ()


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_whatever_was_told_and_stored_and_lost_the_journal_tells_which_files_there_are(data):
    distance = data.draw(st.integers(1, 6))
    store = MemoryObjectStore()
    manifest = Manifest.create(store, SeededRandomness(0), FIRST, distance)
    parts, told = Parts(), []
    for number in range(1, data.draw(st.integers(2, 30))):
        before = manifest.state
        commit(manifest, number)
        step = data.draw(st.sampled_from(["told", "told", "store", "lost"]))
        if step == "lost":  # As in a crash: what was told and not stored is not known any more.
            told = []
            continue
        file_ids = tuple(before.files) if number % 3 == 0 else ()
        new: tuple[FileId, ...] = tuple(set(manifest.state.files) - set(before.files))
        told.append(JournalEntry(version=manifest.version, what="told", inputs=file_ids, outputs=new))
        if step == "store":
            entries = completed(store, REGION, parts.through, told)
            parts, told = append_part(store, REGION, list_parts(store, REGION), entries, 1_000), []

    history = read_history(store, REGION, told)

    assert replay(history.entries) == set(manifest.state.files) == set(load(store, REGION).state.files)
    versions = [each.version for each in history.entries if not each.starts_anew]
    assert versions == sorted(set(versions)), "each version is told once, in order"


def test_what_is_told_counts_before_what_the_manifest_tells():
    store = MemoryObjectStore()
    manifest_of(store, 3)
    told = replace(read_history(store, REGION).entries[2], at_ms=777, is_rebuilt=False)

    history = read_history(store, REGION, [told])

    assert [each.is_rebuilt for each in history.entries] == [True, True, False]
    assert history.entries[2].at_ms == 777


def test_entries_that_were_not_told_are_completed_up_to_the_newest_that_was():
    store = MemoryObjectStore()
    manifest_of(store, 6)
    whole = read_history(store, REGION).entries
    told = [replace(whole[4], what="told"), entry(4, is_aside=True)]

    found = completed(store, REGION, ManifestVersion(1), told)

    assert found == [whole[2], whole[3], *told]


def test_what_the_manifest_forgot_is_bridged_by_the_files_there_were():
    store = MemoryObjectStore()
    manifest = manifest_of(store, 20, distance=3)
    newest = read_history(store, REGION).entries[-1]

    found = completed(store, REGION, ManifestVersion(2), [newest])

    assert found[0].starts_anew
    assert "after version 2" in found[0].reason
    assert replay(found) == set(manifest.state.files)


@pytest.mark.parametrize("kind", ["checkpoint", "json"])
def test_a_damaged_part_of_the_manifest_that_nobody_needs_to_open_it_does_not_keep_the_journal_from_being_read(kind):
    store = MemoryObjectStore()
    manifest = manifest_of(store, 24, distance=5)
    older, newer = sorted(
        (parsed[0], item.key)
        for item in store.list(journal_folder(REGION).replace("journal", "manifest"))
        if (parsed := parse_manifest_key(item.key)) and parsed[1] == "checkpoint"
    )
    bad = older[1] if kind == "checkpoint" else manifest_key(REGION, ManifestVersion(older[0] + 2), "json")
    whole = store.get(bad)
    store.delete(bad)
    store.put_if_absent(bad, whole[:-4])

    history = read_history(store, REGION)

    assert replay(history.entries) == set(manifest.state.files)
    assert history.entries[0].version == newer[0]


def test_a_manifest_that_cannot_be_read_is_told_as_such():
    store = MemoryObjectStore()
    manifest_of(store, 3)
    key = manifest_key(REGION, ManifestVersion(1), "json")
    store.delete(key)

    with pytest.raises(CorruptionError, match="missing"):
        read_history(store, REGION)


def test_a_manifest_that_is_cleaned_up_meanwhile_is_listed_again():
    class Cleaning(MemoryObjectStore):
        """Is cleaned up between a listing and a reading."""

        def list(self, prefix):
            found = super().list(prefix)
            if prefix.endswith("/manifest") and writer is not None and not cleaned:
                cleaned.append(True)
                for number in range(12, 24):
                    commit(writer, number)
            return found

    store, writer, cleaned = Cleaning(), None, []
    writer = manifest_of(store, 12, distance=3)
    cleaned.clear()

    history = read_history(store, REGION)

    assert cleaned
    assert replay(history.entries) == set(writer.state.files)


def test_what_is_told_while_it_is_stored_is_told_once():
    store = MemoryObjectStore()
    manifest_of(store, 2)
    told = [replace(read_history(store, REGION).entries[1], is_rebuilt=False), entry(1, is_aside=True)]
    parts_of(store, told)

    history = read_history(store, REGION, told)

    assert list(history.entries[1:]) == told


def test_what_was_told_and_stored_already_is_not_stored_again():
    told = [entry(2), entry(3), entry(2, is_aside=True)]

    assert completed(MemoryObjectStore(), REGION, ManifestVersion(2), told) == [told[2], told[1]]


def test_what_happened_beside_a_version_does_not_tell_of_the_version():
    store = MemoryObjectStore()

    parts = parts_of(store, [entry(2)], [entry(5, is_aside=True)])

    assert parts.through == list_parts(store, REGION).through == 2
