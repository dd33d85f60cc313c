from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Event, get_ident

import pytest
from builders import REGION, file_id_of, file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.gc import FILES_PER_HELPER, collectable, delete_files, expires, forgettable, unpinned
from mitoframe.model.edit import FileEdit, RegionState, SnapshotEdit
from mitoframe.model.errors import UnavailableError
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.ports import ObjectMeta
from mitoframe.storage.paths import sst_folder, sst_key

EMPTY = RegionState(metadata=metadata_of(), options=RegionOptions())
NOW_MS, GRACE_MS = 10_000, 1000


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
    pins = frozenset(map(file_id_of, pinned))

    chosen = collectable(state, [item], pins, now_ms=NOW_MS, grace_ms=GRACE_MS)

    assert chosen == ((item,) if goes else ())


@pytest.mark.parametrize("name", ["notes.txt", "a.parquet", "0" * 32 + ".parquet.tmp", "0" * 31 + "G.parquet", ""])
def test_a_name_that_we_did_not_make_is_never_chosen(name):
    item = ObjectMeta(key=f"{sst_folder(REGION)}/{name}", size_bytes=1, modified_ms=0)

    assert collectable(EMPTY, [item], frozenset(), now_ms=10**15, grace_ms=0) == ()


names = st.sampled_from("abcdef")


@settings(deadline=None)
@given(
    st.sets(names),
    st.dictionaries(names, st.integers(0, 20_000)),
    st.dictionaries(names, st.integers(0, 20_000)),
    st.sets(names),
    st.integers(0, 5000),
)
def test_whatever_is_listed_or_pinned_stays(listed, removed, there, pinned, grace_ms):
    removed = {name: at_ms for name, at_ms in removed.items() if name not in listed}
    state = state_of(listed="".join(listed), removed=removed)
    objects = [stored(name, modified_ms) for name, modified_ms in there.items()]

    chosen = collectable(state, objects, frozenset(map(file_id_of, pinned)), now_ms=NOW_MS, grace_ms=grace_ms)

    gone = {item.key.rpartition("/")[2][0] for item in chosen}
    assert gone == {
        name for name in there if name not in listed | pinned and NOW_MS - removed.get(name, there[name]) >= grace_ms
    }


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
        found = collectable(state, objects, frozenset(), now_ms=NOW_MS, grace_ms=GRACE_MS)
        return [item.key.rpartition("/")[2][0] for item in found]

    assert chosen(state) == ["c"]
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


def test_what_was_pinned_meanwhile_is_spared():
    assert unpinned([stored("a"), stored("b")], frozenset({file_id_of("a")})) == (stored("b"),)


def test_the_manifest_forgets_what_is_deleted_now_or_gone_already():
    state = state_of(removed=dict.fromkeys("abc", 0))

    gone = forgettable(state, [stored("a")], [stored("a"), stored("b"), stored("f")])

    assert gone == (file_id_of("a"), file_id_of("c"))
