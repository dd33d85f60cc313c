from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event, get_ident

import pytest
from builders import REGION, file_id_of, file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.gc import (
    FILES_PER_HELPER,
    Grace,
    Holders,
    Survey,
    delete_files,
    expires,
    forgettable,
    kept_for_reader,
    survey,
)
from mitoframe.model.edit import FileEdit, RegionState, SnapshotEdit
from mitoframe.model.errors import UnavailableError
from mitoframe.model.ids import FileId, ManifestVersion, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.ports import ObjectMeta
from mitoframe.storage.paths import sst_folder, sst_key

EMPTY = RegionState(metadata=metadata_of(), options=RegionOptions())
NOW_MS, GRACE_MS = 10_000, 1000
NOBODY = Holders()


def looked_at(
    state: RegionState,
    items: list[ObjectMeta],
    holders: Holders = NOBODY,
    *,
    now_ms: int = NOW_MS,
    grace_ms: int = GRACE_MS,
    unknown_ms: int | None = None,
) -> Survey:
    grace = Grace(known_ms=grace_ms, unknown_ms=grace_ms if unknown_ms is None else unknown_ms)
    return survey(state, items, holders, now_ms=now_ms, grace=grace)


def stored(name: str, modified_ms: int = 0) -> ObjectMeta:
    return ObjectMeta(key=sst_key(REGION, file_id_of(name)), size_bytes=10, modified_ms=modified_ms)


def state_of(*, listed: str = "", removed: dict[str, int] | None = None) -> RegionState:
    """List some files, and some that were removed at a time."""
    removed = removed or {}
    state = EMPTY.apply(FileEdit(added=tuple(file_of(name, 0, 1) for name in {*listed, *removed})))
    for name, at_ms in removed.items():
        state = state.apply(FileEdit(removed=(file_id_of(name),), at_ms=at_ms))
    return state


@pytest.mark.parametrize(
    ("state", "item", "pinned", "goes"),
    [
        (state_of(listed="a"), stored("a"), "", False),
        (state_of(removed={"a": 9_000}), stored("a"), "", True),
        (state_of(removed={"a": 9_001}), stored("a"), "", False),
        (state_of(removed={"a": 0}), stored("a"), "a", False),
        (state_of(removed={"a": 0}), stored("a", 9_999), "", True),
        (state_of(), stored("a", 9_000), "", True),
        (state_of(), stored("a", 9_001), "", False),
        (state_of(), stored("a", 0), "a", False),
        (state_of(), stored("a", 20_000), "", False),
    ],
    ids=[
        "listed",
        "removed and old enough",
        "removed a moment ago",
        "removed and pinned",
        "removed long after it was written",
        "left by a crash",
        "perhaps about to be committed",
        "never listed and pinned",
        "the store's clock is ahead",
    ],
)
def test_a_file_goes_when_nobody_needs_it_and_the_grace_is_over(state, item, pinned, goes):
    found = looked_at(state, [item], Holders(scans=frozenset(map(file_id_of, pinned))))

    assert found.chosen == ((item,) if goes else ())
    assert len(found.kept) == (0 if goes or state.files else 1)


@pytest.mark.parametrize("name", ["notes.txt", "a.parquet", "0" * 32 + ".parquet.tmp", "0" * 31 + "G.parquet", ""])
def test_a_name_that_we_did_not_make_is_never_chosen(name):
    item = ObjectMeta(key=f"{sst_folder(REGION)}/{name}", size_bytes=1, modified_ms=0)

    found = looked_at(EMPTY, [item], now_ms=10**15, grace_ms=0)

    assert (found.chosen, [(kept.name, kept.why) for kept in found.kept]) == ((), [(name, "name")])


names = st.sampled_from("abcdef")


@settings(deadline=None)
@given(
    listed=st.sets(names),
    removals=st.lists(st.tuples(names, st.integers(0, 20_000)), unique_by=lambda pair: pair[0]),
    there=st.dictionaries(names, st.integers(0, 20_000)),
    scanned=st.sets(names),
    written=st.sets(names),
    oldest_read=st.none() | st.integers(-1, 8),
    grace_ms=st.integers(0, 5000),
    unknown_ms=st.integers(0, 5000),
)
def test_whatever_is_listed_or_needed_stays_and_the_reason_is_told(
    listed, removals, there, scanned, written, oldest_read, grace_ms, unknown_ms
):
    removed = {name: at_ms for name, at_ms in removals if name not in listed}
    versions = {name: 1 + number for number, name in enumerate(removed)}  # Of which one each was removed.
    state = state_of(listed="".join(sorted(listed)), removed=removed)
    holders = Holders(
        jobs=frozenset(map(file_id_of, written)),
        scans=frozenset(map(file_id_of, scanned)),
        oldest_read=None if oldest_read is None else ManifestVersion(oldest_read),
    )

    def expected(name: str) -> str | None:
        reads = oldest_read is not None
        if name in written:
            return "job"
        if name in scanned:
            return "scan"
        if name in removed:
            if reads and versions[name] > oldest_read:
                return "reader"
            return "grace" if NOW_MS - removed[name] < grace_ms else None
        if reads and oldest_read < state.version:
            return "reader"
        return "grace" if NOW_MS - there[name] < unknown_ms else None

    objects = [stored(name, modified_ms) for name, modified_ms in there.items()]
    found = looked_at(state, objects, holders, grace_ms=grace_ms, unknown_ms=unknown_ms)

    unlisted = [name for name in there if name not in listed]
    assert [item.key.rpartition("/")[2][0] for item in found.chosen] == [n for n in unlisted if expected(n) is None]
    assert [(item.name[0], item.why) for item in found.kept] == [(n, expected(n)) for n in unlisted if expected(n)]


def test_a_file_of_which_it_is_not_noted_when_it_was_removed_stays_for_every_reader():
    state = state_of(removed={"a": 0})
    [removed] = state.removed_files
    early = replace(state, removed_files=(replace(removed, removed_version=ManifestVersion(0)),))

    newest = looked_at(early, [stored("a")], Holders(oldest_read=early.version))

    assert [kept.why for kept in newest.kept] == ["reader"]
    assert looked_at(state, [stored("a")], Holders(oldest_read=state.version)).chosen == (stored("a"),)


def test_chosen_files_are_deleted_and_named():
    store = MemoryObjectStore()
    for name in "abc":
        store.put_if_absent(sst_key(REGION, file_id_of(name)), b"x")

    deleted = delete_files(store, REGION, [stored("a"), stored("c")])

    assert deleted == (file_id_of("a"), file_id_of("c"))
    assert [item.key for item in store.list(sst_folder(REGION))] == [sst_key(REGION, file_id_of("b"))]


MANY = [f"{n:032x}" for n in range(2 * FILES_PER_HELPER)]


class MeetingStore(MemoryObjectStore):
    """Deletes a first file when two are asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = Barrier(2)
        for name in MANY:
            self.put_if_absent(sst_key(REGION, FileId(name)), b"x")
        self.first_of: set[int] = set()

    def delete(self, key: str) -> None:
        if get_ident() not in self.first_of and len(self.first_of) < 2:
            self.first_of.add(get_ident())
            self.meeting.wait(timeout=60)
        super().delete(key)


def many() -> list[ObjectMeta]:
    return [ObjectMeta(key=sst_key(REGION, FileId(name)), size_bytes=1, modified_ms=0) for name in MANY]


def test_many_files_are_deleted_side_by_side():
    store = MeetingStore()

    with ThreadPoolExecutor(1) as pool:
        deleted = delete_files(store, REGION, many(), submit=pool.submit)

    assert list(deleted) == MANY
    assert store.list(sst_folder(REGION)) == []
    assert not store.meeting.broken


def test_helpers_that_never_come_are_not_waited_for():
    store = MemoryObjectStore()
    promised: list[Future[None]] = []

    def submit(job: Callable[[], None]) -> Future[None]:
        promised.append(Future())
        return promised[-1]

    deleted = delete_files(store, REGION, many(), submit=submit)

    assert list(deleted) == MANY
    assert len(promised) == 2
    assert all(helper.cancelled() for helper in promised)


def test_few_files_are_deleted_without_help():
    def submit(job: Callable[[], None]) -> Future[None]:
        raise AssertionError("nobody is needed")

    assert (
        len(delete_files(MemoryObjectStore(), REGION, many()[: FILES_PER_HELPER - 1], submit=submit))
        == FILES_PER_HELPER - 1
    )


def test_what_keeps_a_helper_from_deleting_is_raised():
    class Refusing(MemoryObjectStore):
        def delete(self, key: str) -> None:
            if get_ident() != here:
                raise UnavailableError("not now")
            began.wait(timeout=60)

    def refused(job: Callable[[], None]) -> None:
        try:
            job()
        finally:
            began.set()

    here, began = get_ident(), Event()

    with ThreadPoolExecutor(2) as pool, pytest.raises(UnavailableError, match="not now"):
        delete_files(Refusing(), REGION, many(), submit=lambda job: pool.submit(refused, job))


def test_a_foreign_name_is_never_deleted():
    store = MemoryObjectStore()
    key = f"{sst_folder(REGION)}/notes.txt"
    store.put_if_absent(key, b"mine")

    with pytest.raises(AssertionError):
        delete_files(store, REGION, [ObjectMeta(key=key, size_bytes=4, modified_ms=0)])

    assert store.get(key) == b"mine"


def named_state() -> RegionState:
    """List "b"; "a" was there before, when a snapshot was made, and "c" came and went since."""
    state = EMPTY.apply(FileEdit(added=(file_of("a", 0, 1),), flushed_sequence=Sequence(10), at_sequence=Sequence(10)))
    state = state.apply(SnapshotEdit(name="first", at_sequence=Sequence(10)))
    later = {"min_sequence": Sequence(11), "max_sequence": Sequence(20)}
    added = (file_of("b", 0, 1, **later), file_of("c", 0, 1, **later))
    state = state.apply(FileEdit(added=added, flushed_sequence=Sequence(20), at_sequence=Sequence(20)))
    return state.apply(FileEdit(removed=(file_id_of("a"), file_id_of("c")), at_ms=1, at_sequence=Sequence(20)))


def test_what_a_snapshot_needs_stays_until_it_is_dropped():
    state, objects = named_state(), [stored(name) for name in "abc"]

    def chosen(state: RegionState) -> list[str]:
        found = looked_at(state, objects)
        return [item.key.rpartition("/")[2][0] for item in found.chosen]

    assert chosen(state) == ["c"]
    assert [(kept.name[0], kept.why) for kept in looked_at(state, objects).kept] == [("a", "snapshot")]
    assert chosen(state.apply(SnapshotEdit(name="first", is_dropped=True))) == ["a", "c"]


def test_the_manifest_remembers_what_a_snapshot_needs_although_it_is_gone():
    gone = forgettable(named_state(), [], [])

    assert gone == (file_id_of("c"),)


def test_it_is_worth_looking_only_for_what_no_snapshot_needs():
    state = named_state()

    assert not expires(EMPTY, now_ms=NOW_MS, grace_ms=GRACE_MS)
    assert expires(state, now_ms=NOW_MS, grace_ms=GRACE_MS)
    assert not expires(state, now_ms=NOW_MS, grace_ms=NOW_MS)
    assert not expires(state.apply(FileEdit(forgotten=(file_id_of("c"),))), now_ms=NOW_MS, grace_ms=GRACE_MS)


def test_the_manifest_forgets_what_is_deleted_now_or_gone_already():
    state = state_of(removed=dict.fromkeys("abc", 0))

    gone = forgettable(state, [stored("a")], [stored("a"), stored("b"), stored("f")])

    assert gone == (file_id_of("a"), file_id_of("c"))


def test_what_is_said_to_stay_for_a_reader_is_what_stays_for_him():
    state, objects = named_state(), [stored(name) for name in "abc"]

    told = []
    for version in map(ManifestVersion, range(-1, state.version + 1)):
        kept = looked_at(state, objects, Holders(oldest_read=version)).kept
        told.append([file.file_id for file in kept_for_reader(state, version)])
        assert [f"{file_id}.parquet" for file_id in told[-1]] == [file.name for file in kept if file.why == "reader"]

    assert told[0] == [file_id_of("c")]
    assert told[-1] == []
