from __future__ import annotations

import json
from dataclasses import replace

import google_crc32c
import pytest
from builders import REGION, file_id_of, file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.clock import ManualClock, SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.edit import Change, FileEdit, RegionState, SnapshotEdit
from mitoframe.model.errors import ConfigError, ConflictError, CorruptionError, UnavailableError
from mitoframe.model.ids import FileId
from mitoframe.model.options import RegionOptions
from mitoframe.storage.manifest import MANIFEST_FORMAT, Manifest, advance, exists, find_damage, latest_version, load
from mitoframe.storage.paths import manifest_folder, manifest_key

FIRST = Change(metadata=metadata_of(), options=RegionOptions())


def create(store, distance: int = 10, seed: int = 0, *, packs: bool = False) -> Manifest:
    return Manifest.create(store, SeededRandomness(seed), FIRST, distance, packs=packs)


def reopen(store, distance: int = 10, seed: int = 1, *, packs: bool = False) -> Manifest:
    return Manifest.open(store, SeededRandomness(seed), REGION, distance, packs=packs)


def adding(number: int) -> FileEdit:
    return FileEdit(added=(file_of(f"{number:032x}", 0, number),), flushed_entry_id=number, at_ms=number)


def grown(store, edits: int, distance: int = 10, *, packs: bool = False) -> Manifest:
    manifest = create(store, distance, packs=packs)
    for number in range(1, edits + 1):
        manifest.append(adding(number))
        manifest.checkpoint_if_due()
    return manifest


def names(store) -> list[str]:
    return [item.key.rpartition("/")[2].lstrip("0") for item in store.list(manifest_folder(REGION))]


def seal(body: dict) -> bytes:
    line = json.dumps(body, separators=(",", ":")).encode()
    return line + b"\n%08x\n" % google_crc32c.value(line)


def replace_object(store: MemoryObjectStore, key: str, data: bytes) -> None:
    store.delete(key)
    store.put_if_absent(key, data)


# --- what is appended is what is read -------------------------------------------------------------------

steps = st.lists(
    st.sampled_from(["append", "append", "append", "remove", "options", "checkpoint", "reopen"]), max_size=30
)


@settings(deadline=None, max_examples=60)
@given(steps, st.integers(1, 6), st.lists(st.booleans(), min_size=1, max_size=3))
def test_a_manifest_is_the_fold_of_its_edits_however_often_it_is_opened(actions, distance, packing):
    store = MemoryObjectStore(ManualClock())
    manifest = create(store, distance, packs=packing[0])
    followed = load(store, REGION)
    state, version = RegionState(metadata=FIRST.metadata, options=FIRST.options).apply(FIRST), 0

    for number, action in enumerate(actions):
        if action == "reopen":
            manifest = reopen(store, distance, seed=number + 2, packs=packing[number % len(packing)])
            followed = advance(store, REGION, followed.version, followed.state)
            assert (followed.version, followed.state) == (version, state)
        elif action == "checkpoint":
            manifest.checkpoint_if_due()
        else:
            some: list[FileId] = list(state.files)[:1] if action == "remove" else []
            edit = adding(number) if action == "append" else FileEdit(removed=tuple(some), at_ms=number)
            if action == "options":
                edit = Change(metadata=FIRST.metadata, options=RegionOptions(compaction_window_ms=1000 + number))
            state, version = state.apply(edit), version + 1
            assert manifest.append(edit) == version
        assert (manifest.version, manifest.state) == (version, state)

    for loaded in (load(store, REGION), advance(store, REGION, followed.version, followed.state)):
        assert (loaded.version, loaded.state) == (version, state)
    assert latest_version(store, REGION) == version


def test_a_region_that_was_never_made_does_not_exist():
    store = MemoryObjectStore()

    assert not exists(store, REGION)
    assert latest_version(store, REGION) == -1
    with pytest.raises(CorruptionError, match="the region has no manifest"):
        load(store, REGION)


def test_names_that_are_not_ours_are_passed_over():
    store = MemoryObjectStore()
    create(store)
    store.put_if_absent(f"{manifest_folder(REGION)}/notes.txt", b"")

    assert load(store, REGION).version == 0


# --- checkpoints ----------------------------------------------------------------------------------------


def test_a_checkpoint_is_written_when_that_many_deltas_have_come():
    store = MemoryObjectStore()

    grown(store, edits=3, distance=4)
    assert names(store) == [".json", "1.json", "2.json", "3.checkpoint", "3.json"]


def test_deltas_that_two_checkpoints_cover_are_dropped():
    store = MemoryObjectStore()

    grown(store, edits=9, distance=3)

    assert names(store) == ["5.checkpoint", "6.json", "7.json", "8.checkpoint", "8.json", "9.json"]


def test_the_distance_is_kept_across_openings():
    store = MemoryObjectStore()
    grown(store, edits=3, distance=3)

    manifest = reopen(store, distance=3)
    manifest.append(adding(4))
    manifest.checkpoint_if_due()
    assert "4.checkpoint" not in names(store)
    manifest.append(adding(5))
    manifest.checkpoint_if_due()

    assert names(store) == ["2.checkpoint", "3.json", "4.json", "5.checkpoint", "5.json"]


def test_a_checkpoint_left_by_a_writer_that_died_is_as_good_as_ours():
    store = MemoryObjectStore()
    grown(store, edits=5, distance=3)
    manifest = reopen(store, distance=3)
    key = manifest_key(REGION, manifest.version, "checkpoint")
    left = store.get(key)
    store.delete(key)
    manifest = reopen(store, distance=3)
    store.put_if_absent(key, left)

    manifest.checkpoint_if_due()

    assert store.get(key) == left
    assert reopen(store).state == manifest.state


def test_one_damaged_checkpoint_loses_nothing():
    store = MemoryObjectStore()
    manifest = grown(store, edits=9, distance=3)
    key = manifest_key(REGION, 8, "checkpoint")

    for damage in (b"", store.get(key)[:-3], store.get(key).replace(b'"version"', b'"Version"')):
        replace_object(store, key, damage)
        loaded = load(store, REGION)
        assert (loaded.version, loaded.state) == (9, manifest.state)


def test_a_damaged_checkpoint_does_not_make_an_older_good_one_go():
    store = MemoryObjectStore()
    grown(store, edits=9, distance=3)
    replace_object(store, manifest_key(REGION, 8, "checkpoint"), b"zeros")
    manifest = reopen(store, distance=3)

    for number in (10, 11):
        manifest.append(adding(number))
        manifest.checkpoint_if_due()
    for number in (10, 11):
        replace_object(store, manifest_key(REGION, number, "checkpoint"), b"zeros")

    assert load(store, REGION).state == manifest.state


def test_without_any_good_checkpoint_the_damaged_one_is_named():
    store = MemoryObjectStore()
    grown(store, edits=9, distance=3)

    for version in (5, 8):
        replace_object(store, manifest_key(REGION, version, "checkpoint"), b"zeros")

    with pytest.raises(CorruptionError, match="this part of the manifest was cut short") as caught:
        load(store, REGION)
    assert caught.value.path == manifest_key(REGION, 5, "checkpoint")


class UndeletableStore(MemoryObjectStore):
    is_failing = False

    def delete(self, key):
        if self.is_failing:
            raise UnavailableError("no answer")
        super().delete(key)


def test_a_checkpoint_counts_although_what_it_covers_cannot_be_deleted_and_that_is_made_up_for():
    store = UndeletableStore()
    manifest = grown(store, edits=4, distance=3)
    manifest.append(adding(5))

    store.is_failing = True
    with pytest.raises(UnavailableError):
        manifest.checkpoint_if_due()
    assert names(store)[:3] == [".json", "1.json", "2.checkpoint"]
    assert "5.checkpoint" in names(store)
    assert load(store, REGION).state == manifest.state
    manifest.append(adding(6))
    manifest.checkpoint_if_due()
    store.is_failing = False
    for number in (7, 8):
        manifest.append(adding(number))
    manifest.checkpoint_if_due()

    assert names(store) == ["5.checkpoint", "6.json", "7.json", "8.checkpoint", "8.json"]
    assert reopen(store).state == manifest.state


# --- compression ----------------------------------------------------------------------------------------


def packings(store, suffix: str = "") -> list[bool]:
    keys = [item.key for item in store.list(manifest_folder(REGION)) if item.key.endswith(suffix)]
    return ["zlib" in json.loads(store.get(key).partition(b"\n")[0]) for key in keys]


def test_what_is_packed_is_shorter_says_so_and_reads_the_same():
    plain, packed = MemoryObjectStore(), MemoryObjectStore()

    expected = grown(plain, edits=9, distance=3)
    found = grown(packed, edits=9, distance=3, packs=True)

    assert names(plain) == names(packed)
    assert (set(packings(plain)), set(packings(packed))) == ({False}, {True})
    sizes = [{item.key: item.size_bytes for item in store.list(manifest_folder(REGION))} for store in (plain, packed)]
    assert all(sizes[1][key] < size for key, size in sizes[0].items())
    assert load(packed, REGION) == load(plain, REGION)
    assert found.state == expected.state


def test_what_would_be_longer_is_not_packed():
    store = MemoryObjectStore()
    manifest = create(store, packs=True)

    manifest.append(SnapshotEdit(name="x"))

    assert packings(store)[1] is False


def test_packing_can_be_switched_at_any_opening():
    store = MemoryObjectStore()
    grown(store, edits=2, packs=True)

    for number, packs in enumerate([False, True, False], start=3):
        reopen(store, seed=number, packs=packs).append(adding(number))

    assert packings(store) == [True, True, True, False, True, False]
    assert len(reopen(store).state.files) == 5


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (True, True)], ids=str)
def test_checkpoints_are_read_however_each_is_packed(wanted):
    store = MemoryObjectStore()
    expected = grown(store, edits=5, distance=100)
    for number, packs in enumerate(wanted, start=6):
        expected = reopen(store, distance=1, seed=number, packs=packs)
        expected.append(adding(number))
        expected.checkpoint_if_due()

    found = load(store, REGION)

    checkpoints = [item.key for item in store.list(manifest_folder(REGION)) if item.key.endswith(".checkpoint")]
    assert packings(store, ".checkpoint") == list(wanted)
    assert (found.version, found.state) == (7, expected.state)
    store.delete(checkpoints[-1])  # So that the one before it is needed.
    assert load(store, REGION) == replace(found, checkpoints=found.checkpoints[:-1])


def test_a_packed_version_that_is_ours_although_the_answer_was_lost_is_committed():
    store = LostResponseStore()

    manifest = create(store, packs=True)

    assert manifest.append(adding(1)) == 1
    assert load(store, REGION).state == manifest.state


@pytest.mark.parametrize(
    "packed", ["", "AAAA", "no base64!", "eJwDAAAAAAE="], ids=["nothing", "no zlib", "no base64", "no JSON"]
)
def test_a_packing_that_cannot_be_undone_is_corruption_that_names_the_delta(packed):
    store = MemoryObjectStore()
    create(store)
    key = manifest_key(REGION, 1, "json")

    store.put_if_absent(key, seal({"format": 5, "version": 1, "zlib": packed}))

    with pytest.raises(CorruptionError, match="what is packed in this part of the manifest is damaged") as caught:
        load(store, REGION)
    assert caught.value.path == key


# --- following ------------------------------------------------------------------------------------------


class CountingStore(MemoryObjectStore):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []

    def get(self, key):
        self.got.append(key.rpartition("/")[2].lstrip("0"))
        return super().get(key)


def test_who_follows_reads_only_what_is_new():
    store = CountingStore()
    manifest = grown(store, edits=4)
    known = load(store, REGION)
    for number in (5, 6):
        manifest.append(adding(number))
    store.got.clear()

    found = advance(store, REGION, known.version, known.state)

    assert (found.version, found.state) == (6, manifest.state)
    assert store.got == ["5.json", "6.json"]


def test_who_follows_from_before_what_was_cleaned_up_begins_at_a_checkpoint():
    store = CountingStore()
    manifest = grown(store, edits=1, distance=3)
    known = load(store, REGION)
    for number in range(2, 12):
        manifest.append(adding(number))
        manifest.checkpoint_if_due()
    store.got.clear()

    found = advance(store, REGION, known.version, known.state)

    assert (found.version, found.state) == (11, manifest.state)
    assert store.got[0] == "11.checkpoint"


def test_who_follows_sees_a_manifest_that_is_cleaned_up_while_it_reads():
    class Cleaning(MemoryObjectStore):
        meanwhile = None

        def get(self, key):
            if self.meanwhile is not None:
                deed, self.meanwhile = self.meanwhile, None
                deed()
            return super().get(key)

    store = Cleaning()
    manifest = grown(store, edits=5, distance=3)
    known = load(store, REGION)
    manifest.append(adding(6))

    def commit_more() -> None:
        for number in range(7, 14):
            manifest.append(adding(number))
            manifest.checkpoint_if_due()

    store.meanwhile = commit_more

    found = advance(store, REGION, known.version, known.state)

    assert (found.version, found.state) == (13, manifest.state)


def test_who_follows_is_told_of_damage():
    store = MemoryObjectStore()
    manifest = grown(store, edits=2)
    known = load(store, REGION)
    manifest.append(adding(3))
    replace_object(store, manifest_key(REGION, 3, "json"), b"zeros")

    with pytest.raises(CorruptionError) as caught:
        advance(store, REGION, known.version, known.state)
    assert caught.value.path == manifest_key(REGION, 3, "json")


# --- damage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [manifest_key(REGION, 1, "json"), manifest_key(REGION, 2, "checkpoint")])
def test_any_flipped_byte_is_found(key):
    store = MemoryObjectStore()
    manifest = grown(store, edits=2, distance=3)
    data = store.get(key)

    for place in range(len(data)):
        replace_object(store, key, data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        if key.endswith("json"):
            store.delete(manifest_key(REGION, 2, "checkpoint"))
            # Where the checksum's own end of line begins nobody can tell.
            told = "cut short" if data[place : place + 1] == b"\n" != data[place:] else "not those that were written"
            with pytest.raises(CorruptionError, match=told) as caught:
                load(store, REGION)
            assert caught.value.path == key
        else:
            assert load(store, REGION).state == manifest.state


def test_a_delta_torn_anywhere_is_corruption_that_names_it():
    store = MemoryObjectStore()
    grown(store, edits=2)
    key = manifest_key(REGION, 2, "json")
    data = store.get(key)

    for size in range(len(data)):
        replace_object(store, key, data[:size])
        with pytest.raises(CorruptionError, match="this part of the manifest was cut short") as caught:
            load(store, REGION)
        assert (caught.value.path, caught.value.offset) == (key, size)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_gap_is_corruption_that_names_what_is_missing(missing):
    store = MemoryObjectStore()
    grown(store, edits=3)

    store.delete(manifest_key(REGION, missing, "json"))

    with pytest.raises(CorruptionError, match="this manifest delta is missing") as caught:
        load(store, REGION)
    assert caught.value.path == manifest_key(REGION, missing, "json")


@pytest.mark.parametrize("kind", ["json", "checkpoint"])
def test_a_newer_format_asks_for_an_update(kind):
    store = MemoryObjectStore()
    grown(store, edits=2, distance=3)
    key = manifest_key(REGION, 2, kind)
    body = json.loads(store.get(key).partition(b"\n")[0])
    if kind == "json":
        store.delete(manifest_key(REGION, 2, "checkpoint"))

    replace_object(store, key, seal(body | {"format": MANIFEST_FORMAT + 1}))

    with pytest.raises(
        ConfigError, match=rf"has manifest format {MANIFEST_FORMAT + 1}, newer than {MANIFEST_FORMAT}; "
    ):
        load(store, REGION)


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([FileEdit(removed=(file_id_of("f"),)).to_json()], "is not in the region any more"),
        ([{"truncate": {}}], "unknown action"),
        ([{"files": {"added": [{}], "removed": [], "forgotten": []}}], "does not fit"),
        ([{"change": {}}], "does not fit"),
    ],
    ids=["removes what is not there", "unknown action", "half a file", "half a change"],
)
def test_an_edit_that_cannot_be_is_corruption_that_names_the_delta(edits, reason):
    store = MemoryObjectStore()
    create(store)
    key = manifest_key(REGION, 1, "json")

    store.put_if_absent(key, seal({"format": 1, "version": 1, "commit_id": "x", "edits": edits}))

    with pytest.raises(CorruptionError, match=reason) as caught:
        load(store, REGION)
    assert caught.value.path == key


def test_a_manifest_that_does_not_begin_with_a_schema_is_corruption():
    store = MemoryObjectStore()
    body = {"format": 1, "version": 0, "commit_id": "x", "edits": [FileEdit().to_json()]}
    store.put_if_absent(manifest_key(REGION, 0, "json"), seal(body))

    with pytest.raises(CorruptionError, match="the first action does not define the region"):
        load(store, REGION)


def test_a_delta_under_another_versions_name_is_corruption():
    store = MemoryObjectStore()
    grown(store, edits=2)

    replace_object(store, manifest_key(REGION, 2, "json"), store.get(manifest_key(REGION, 1, "json")))

    with pytest.raises(CorruptionError) as caught:
        load(store, REGION)
    assert caught.value.path == manifest_key(REGION, 2, "json")


def test_another_versions_checkpoint_under_this_name_is_corruption():
    store = MemoryObjectStore()
    manifest = grown(store, edits=9, distance=3)

    replace_object(store, manifest_key(REGION, 8, "checkpoint"), store.get(manifest_key(REGION, 5, "checkpoint")))

    assert load(store, REGION).state == manifest.state


# --- races ----------------------------------------------------------------------------------------------


def test_the_second_writer_of_a_version_loses():
    store = MemoryObjectStore()
    first = create(store)
    second = reopen(store)
    first.append(adding(1))

    with pytest.raises(ConflictError, match="manifest version 1 was written by somebody else; open again"):
        second.append(adding(2))

    assert second.version == 0
    assert set(load(store, REGION).state.files) == set(first.state.files)


def test_a_region_is_made_once():
    store = MemoryObjectStore()
    create(store)

    with pytest.raises(ConflictError, match="manifest version 0 was written by somebody else"):
        create(store, seed=1)


def test_an_edit_that_does_not_fit_is_not_stored():
    store = MemoryObjectStore()
    manifest = create(store)

    with pytest.raises(ConflictError):
        manifest.append(FileEdit(removed=(file_id_of("f"),)))

    assert (manifest.version, names(store)) == (0, [".json"])


class LostResponseStore(MemoryObjectStore):
    """Stores, and then answers as a retried request would be answered."""

    def put_if_absent(self, key, data):
        super().put_if_absent(key, data)
        raise FileExistsError(key)


def test_a_version_that_is_ours_although_the_answer_was_lost_is_committed():
    store = LostResponseStore()

    manifest = create(store)

    assert manifest.append(adding(1)) == 1
    assert load(store, REGION).state == manifest.state


class FailingStore(MemoryObjectStore):
    failing = False

    def put_if_absent(self, key, data):
        if self.failing:
            raise UnavailableError("no answer")
        super().put_if_absent(key, data)


def test_a_version_that_could_not_be_stored_is_not_taken():
    store = FailingStore()
    manifest = create(store)

    store.failing = True
    with pytest.raises(UnavailableError):
        manifest.append(adding(1))
    store.failing = False

    assert (manifest.version, dict(manifest.state.files)) == (0, {})
    assert manifest.append(adding(2)) == 1


class CleaningStore(MemoryObjectStore):
    """Lets a writer commit and clean up right after a reader has listed what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile = []

    def list(self, prefix):
        listed = super().list(prefix)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return listed


def test_a_reader_sees_a_manifest_that_is_cleaned_up_while_it_reads():
    store = CleaningStore()
    manifest = grown(store, edits=5, distance=3)

    def commit_more() -> None:
        for number in range(6, 12):
            manifest.append(adding(number))
            manifest.checkpoint_if_due()

    store.meanwhile = [commit_more]

    loaded = load(store, REGION)

    assert (loaded.version, loaded.state) == (11, manifest.state)


def test_a_delta_that_is_listed_but_never_there_is_corruption():
    class HalfGoneStore(MemoryObjectStore):
        def get(self, key):
            raise FileNotFoundError(key)

    store = HalfGoneStore()
    create(store)

    with pytest.raises(CorruptionError) as caught:
        load(store, REGION)
    assert caught.value.path == manifest_key(REGION, 0, "json")


# --- damage ---------------------------------------------------------------------------------------------


def damaged_parts(store: MemoryObjectStore) -> list[str]:
    return [error.path.rpartition("/")[2].lstrip("0") for error in find_damage(store, REGION)]


def flip(store: MemoryObjectStore, version: int, kind: str) -> None:
    key = manifest_key(REGION, version, kind)
    data = bytearray(store.get(key))
    data[10] ^= 1
    replace_object(store, key, bytes(data))


@pytest.mark.parametrize("edits", [0, 1, 9, 10, 25, 39])
def test_nothing_is_wrong_with_a_manifest_as_it_was_written(edits: int) -> None:
    store = MemoryObjectStore()
    grown(store, edits)

    assert damaged_parts(store) == []


@pytest.mark.parametrize(
    ("version", "kind"), [(9, "checkpoint"), (19, "checkpoint"), (12, "json"), (25, "json"), (19, "json")]
)
def test_each_damaged_part_is_found_also_if_opening_can_do_without(version: int, kind: str) -> None:
    store = MemoryObjectStore()
    grown(store, 25)

    flip(store, version, kind)

    assert damaged_parts(store) == [f"{version}.{kind}"]


@pytest.mark.parametrize("version", [12, 25])
def test_a_delta_that_is_missing_is_found(version: int) -> None:
    store = MemoryObjectStore()
    grown(store, 26)

    store.delete(manifest_key(REGION, version, "json"))

    assert damaged_parts(store) == [f"{version}.json"]


def test_what_was_left_before_the_last_checkpoint_but_one_does_not_count() -> None:
    store = MemoryObjectStore()
    grown(store, 25)
    store.put_if_absent(manifest_key(REGION, 3, "json"), b"left by a crash while it was cleaned up")

    assert damaged_parts(store) == []


def test_a_checkpoint_that_says_otherwise_than_the_deltas_is_found() -> None:
    store = MemoryObjectStore()
    grown(store, 25)
    key = manifest_key(REGION, 19, "checkpoint")
    body = json.loads(store.get(key).splitlines()[0])
    body["state"]["files"].pop()
    replace_object(store, key, seal(body))

    [error] = find_damage(store, REGION)

    assert (error.path, error.what) == (key, "the checkpoint says otherwise than the deltas before it")


def test_a_manifest_that_is_not_there_is_damage() -> None:
    assert damaged_parts(MemoryObjectStore()) == ["manifest"]
