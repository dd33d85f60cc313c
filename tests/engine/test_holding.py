"""A process that reads keeps what it reads from the vacuum of the process that writes, for as long as it reads it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from builders import REGION, batch_of, create, file_id_of, metadata_of, open_engine, put

from mitoframe import travelling
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.pins_memory import MemoryPins
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.alter import SetIndexes
from mitoframe.model.errors import InvalidInputError, MitoError, SnapshotExpiredError, TableNotFoundError
from mitoframe.model.ids import FileId, ManifestVersion
from mitoframe.model.request import AlterRequest, BuildIndexRequest, ScanRequest, SyncRegionRequest, VacuumRequest
from mitoframe.storage.paths import index_folder, manifest_folder, manifest_key, sst_folder, sst_key

METADATA = metadata_of()
BEFORE = ManifestVersion(1)
"""When the rows said 1, of which the second flush made 2."""


class Shared:
    """A store that one process writes and others read. Each has a scheduler whose time is passed by hand."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock(now_ms=10**12)
        self.objects, self.log = MemoryObjectStore(self.clock), MemoryLog()
        self.pins = MemoryPins()
        self.writer_time = InlineScheduler()
        self.writer = open_engine(
            self.objects, self.log, clock=self.clock, pins=self.pins, scheduler=self.writer_time, **config
        )
        create(self.writer, METADATA)

    def reader(self, **options: Any) -> Reader:
        return Reader(self, **options)

    def write(self, cpu: int) -> None:
        self.writer.write(REGION, batch_of(METADATA, [put(0, 1, cpu=cpu), put(0, 2, cpu=cpu)]))
        self.writer.flush(REGION)

    def merge(self) -> None:
        self.writer.compact(REGION)

    def vacuum(self) -> set[FileId]:
        return set(self.writer.vacuum(REGION, grace_ms=0).removed)

    def files(self) -> set[FileId]:
        return set(self.writer.region(REGION).state.files)

    def version(self) -> int:
        return self.writer.region(REGION).state.version

    def held(self) -> int | None:
        return self.pins.held().of(REGION)


class Reader:
    def __init__(self, shared: Shared, **options: Any) -> None:
        self.time = InlineScheduler()
        self.pins = MemoryPins(beside=shared.pins)
        self.engine = open_engine(
            shared.objects,
            shared.log,
            clock=shared.clock,
            read_only=True,
            scheduler=self.time,
            pins=self.pins,
            **options,
        )

    def plan(self, **request: Any) -> Any:
        return self.engine.plan(REGION, ScanRequest(columns=("cpu",), **request))

    def values(self, plan: Any) -> list[int]:
        return sorted(value for rows in self.engine.reading.query(plan) for value in rows.column("cpu").to_pylist())

    def die(self) -> None:
        """End as a killed process does: nothing is said any more."""
        self.pins.close()

    def upkeep(self) -> None:
        gc.collect()
        self.time.tick()


@pytest.fixture
def shared() -> Shared:
    shared = Shared()
    shared.write(1)
    shared.write(2)
    return shared


def test_what_a_reader_holds_stays_until_he_dies(shared: Shared) -> None:
    reader = shared.reader()
    plan = reader.plan()
    inputs = shared.files()

    shared.merge()
    assert shared.vacuum() == set()
    assert reader.values(plan) == [2, 2]

    reader.die()
    assert shared.vacuum() == inputs


def test_a_reader_that_cannot_say_what_he_reads_has_the_grace_period_only(shared: Shared) -> None:
    reader = shared.reader()
    reader.die()
    plan = reader.plan()
    inputs = shared.files()

    shared.merge()

    assert shared.vacuum() == inputs
    with pytest.raises(MitoError):
        reader.values(plan)


def test_what_a_reader_let_go_of_may_go_after_his_upkeep(shared: Shared) -> None:
    reader = shared.reader()
    plan, inputs = reader.plan(), shared.files()
    shared.merge()

    reader.upkeep()
    assert reader.values(reader.plan()) == [2, 2], "of the newest version, which he opened anew"
    assert shared.vacuum() == set()

    del plan
    shared.write(2)
    reader.upkeep()
    assert shared.held() is None, "he reads nothing that is not the newest, and so nothing"
    assert shared.vacuum() == inputs
    assert reader.values(reader.plan()) == [2, 2]
    assert shared.held() == shared.version()


def test_a_reader_of_the_newest_version_keeps_saying_so(shared: Shared) -> None:
    reader = shared.reader()
    reader.plan()

    for _ in range(2):
        reader.upkeep()
        assert shared.held() == shared.version()


def test_only_files_that_came_off_the_list_since_are_kept_for_a_reader(shared: Shared) -> None:
    before = shared.files()
    shared.merge()
    reader = shared.reader()
    plan = reader.plan()
    merged = shared.files()
    shared.write(3)
    shared.merge()

    assert not merged & shared.files()
    assert shared.vacuum() >= before
    assert shared.objects.head(sst_key(REGION, FileId(min(merged))))
    assert reader.values(plan) == [2, 2]


def test_of_two_versions_that_are_held_the_older_counts(shared: Shared) -> None:
    reader = shared.reader()
    old = reader.plan()
    shared.merge()
    shared.write(3)
    new = reader.plan()
    shared.merge()

    reader.upkeep()

    assert shared.vacuum() == set()
    assert (reader.values(old), reader.values(new)) == ([2, 2], [3, 3])
    del old
    reader.upkeep()
    assert len(shared.vacuum()) == 2
    assert reader.values(new) == [3, 3]


def test_nothing_is_said_anew_for_looking_again(shared: Shared) -> None:
    reader = shared.reader()
    said: list[Any] = []
    hold = reader.pins.hold
    reader.pins.hold = lambda oldest: bool(said.append(dict(oldest))) or hold(oldest)  # type: ignore[method-assign]

    for cpu in range(5):
        reader.plan()
        shared.write(cpu)

    assert len(said) == 1


# --- between saying and looking -------------------------------------------------------------------------


class Meanwhile(MemoryObjectStore):
    """Does something before or after an object or a folder is looked at."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.looks = 0
        self.at: int | None = None
        self.what: Callable[[], object] = lambda: None

    def _look(self) -> None:
        self.looks += 1
        if self.looks == self.at:
            self.at = None
            self.what()

    def get(self, key):
        self._look()
        return super().get(key)

    def head(self, key):
        self._look()
        return super().head(key)

    def list(self, prefix):
        self._look()
        return super().list(prefix)


def looks_of(deed: Callable[[], object], store: Meanwhile) -> int:
    store.looks, store.at = 0, None
    deed()
    return store.looks


def meanwhile_store() -> tuple[Shared, Meanwhile]:
    shared = Shared()
    store = Meanwhile(shared.clock)
    shared.objects = store
    shared.writer = open_engine(store, MemoryLog(), clock=shared.clock, pins=shared.pins, checkpoint_distance=3)
    create(shared.writer, METADATA)
    shared.write(1)
    shared.write(2)
    return shared, store


def test_whenever_the_writer_merges_and_vacuums_while_a_region_is_opened_its_files_are_there() -> None:
    shared, store = meanwhile_store()
    looks = looks_of(shared.reader().plan, store)
    assert looks > 3

    for at in range(1, looks + 1):
        reader = shared.reader()
        store.looks, store.at, store.what = 0, at, lambda: (shared.merge(), shared.vacuum())
        plan = reader.plan()
        shared.vacuum()
        assert reader.values(plan) == [2, 2], at
        reader.die()
        shared.write(2)


def test_whenever_the_writer_vacuums_while_a_reader_goes_back_he_is_told_or_reads_what_there_was() -> None:
    shared, store = meanwhile_store()
    shared.merge()

    def back(reader: Reader) -> Any:
        reader.plan()
        return reader.plan(version=BEFORE)

    looks = looks_of(lambda: back(shared.reader()), store)
    outcomes = set()
    for at in range(1, looks + 1):
        shared, store = meanwhile_store()
        shared.merge()
        reader = shared.reader()
        store.looks, store.at, store.what = 0, at, shared.vacuum
        try:
            plan = back(reader)
        except SnapshotExpiredError:
            outcomes.add("told")
            continue
        shared.vacuum()
        assert reader.values(plan) == [1, 1], at
        outcomes.add("read")

    assert outcomes == {"told", "read"}


def test_who_goes_back_while_the_manifest_forgets_files_keeps_them_until_he_dies(shared: Shared) -> None:
    inputs = shared.files()
    shared.merge()
    reader = shared.reader()
    reader.plan()
    plans: list[Any] = []

    listen = shared.pins.held

    def going_back() -> Any:
        """Answer as it is before he goes back, when the vacuum asks for the first time."""
        heard = listen()
        if not plans:
            plans.append(reader.plan(version=BEFORE))
        return heard

    shared.pins.held = going_back  # type: ignore[method-assign]

    assert shared.vacuum() == set()

    assert shared.writer.region(REGION).state.removed_files == ()
    assert reader.values(plans[0]) == [1, 1]
    assert shared.vacuum() == set(), "no manifest remembers them now, and he still reads them"
    assert reader.values(plans[0]) == [1, 1]
    reader.die()
    assert shared.vacuum() == inputs


# --- earlier moments ------------------------------------------------------------------------------------


def test_a_moment_before_the_newest_is_held_too(shared: Shared) -> None:
    inputs = shared.files()
    shared.merge()
    reader = shared.reader()
    plan = reader.plan(version=BEFORE)
    assert shared.held() == BEFORE

    assert shared.vacuum() == set()
    assert reader.values(plan) == [1, 1]

    del plan
    reader.upkeep()
    assert shared.vacuum() == inputs
    with pytest.raises(SnapshotExpiredError):
        reader.plan(version=BEFORE)


def test_all_that_is_remembered_is_held_while_a_row_is_traced(shared: Shared) -> None:
    shared.merge()
    reader = shared.reader()
    reader.plan()
    current, held = reader.engine.everything(REGION)

    assert shared.vacuum() == set()
    reader.upkeep()
    assert shared.vacuum() == set()
    assert len(held.state.files) == 3
    del current, held
    reader.upkeep()
    assert len(shared.vacuum()) == 2


def test_a_diff_holds_both_moments(shared: Shared) -> None:
    shared.merge()
    reader = shared.reader()
    changes = travelling.diff(reader.engine, REGION, lambda: None, BEFORE, None)

    reader.upkeep()

    assert shared.vacuum() == set()
    assert sorted(changes.collect()["cpu"]) == [1, 1, 2, 2]


# --- other files ----------------------------------------------------------------------------------------


def test_the_files_of_a_dropped_table_stay_while_a_process_reads_it() -> None:
    shared = Shared(gc_grace_ms=0)
    shared.write(1)
    reader = shared.reader()
    plan = reader.plan()
    late = shared.reader()
    shared.writer.drop(REGION)

    shared.writer.maintain()
    assert reader.values(plan) == [1, 1]
    with pytest.raises(TableNotFoundError, match=r"^the table of region \d+ was dropped; nothing"):
        late.plan()
    late.upkeep()

    reader.die()
    shared.writer.maintain()
    assert shared.objects.list(sst_folder(REGION)) == []


def test_a_process_that_only_did_read_a_table_does_not_keep_it_from_being_dropped() -> None:
    shared = Shared(gc_grace_ms=0)
    shared.write(1)
    reader = shared.reader()
    reader.values(reader.plan())
    shared.writer.drop(REGION)

    reader.upkeep()
    shared.writer.maintain()

    assert shared.objects.list(sst_folder(REGION)) == []


def test_an_index_that_an_earlier_version_lists_stays_while_that_is_read(shared: Shared) -> None:
    shared.writer.alter(REGION, AlterRequest(alterations=(SetIndexes({"cpu": ("inverted",)}),)))
    shared.writer.handle_request(REGION, BuildIndexRequest())
    reader = shared.reader()
    plan = reader.plan()
    before = {item.key for item in shared.objects.list(index_folder(REGION))}
    shared.writer.alter(REGION, AlterRequest(alterations=(SetIndexes({"cpu": ("skipping",)}),)))
    shared.writer.handle_request(REGION, BuildIndexRequest())

    shared.vacuum()
    assert {item.key for item in shared.objects.list(index_folder(REGION))} > before

    del plan
    reader.die()
    shared.vacuum()
    assert not {item.key for item in shared.objects.list(index_folder(REGION))} & before


def test_the_writers_own_upkeep_listens_to_readers() -> None:
    shared = Shared(gc_grace_ms=1_000)
    shared.write(1)
    shared.write(2)
    reader, inputs = shared.reader(), shared.files()
    plan = reader.plan()
    shared.merge()
    shared.clock.advance(10_000)

    shared.writer_time.tick()
    assert reader.values(plan) == [2, 2]

    reader.die()
    shared.writer_time.tick()
    assert not {item.key for item in shared.objects.list(sst_folder(REGION))} & {
        sst_key(REGION, file_id) for file_id in inputs
    }


# --- being told -----------------------------------------------------------------------------------------


def test_a_vacuum_says_what_goes_what_stays_and_why(shared: Shared) -> None:
    shared.merge()
    reader = shared.reader()
    plan = reader.plan()
    merged = shared.files()
    shared.write(3)
    shared.merge()
    shared.objects.put_if_absent(f"{sst_folder(REGION)}/notes.txt", b"mine")

    asked = shared.writer.vacuum(REGION, grace_ms=0, dry_run=True)
    stored = len(shared.objects.list(sst_folder(REGION)))
    done = shared.writer.vacuum(REGION, grace_ms=0)

    assert (asked.removed, asked.kept, asked.size_bytes) == (done.removed, done.kept, done.size_bytes)
    assert {(file.name, file.why) for file in done.kept} >= {
        ("notes.txt", "name"),
        *((f"{file_id}.parquet", "reader") for file_id in merged),
    }
    assert (asked.dry_run, done.dry_run) == (True, False)
    assert stored - len(shared.objects.list(sst_folder(REGION))) == len(done.removed) == 2
    assert reader.values(plan) == [2, 2]


def test_a_dry_run_changes_nothing(shared: Shared) -> None:
    shared.merge()
    version, objects = shared.version(), shared.objects.list(sst_folder(REGION))

    found = shared.writer.vacuum(REGION, grace_ms=0, dry_run=True)

    assert len(found.removed) == 2
    assert (shared.version(), shared.objects.list(sst_folder(REGION))) == (version, objects)


def test_a_vacuum_can_be_requested(shared: Shared) -> None:
    shared.merge()

    assert shared.writer.handle_request(REGION, VacuumRequest(grace_ms=0, dry_run=True)) == 0
    assert len(shared.objects.list(sst_folder(REGION))) == 3
    shared.writer.handle_request(REGION, VacuumRequest())
    assert len(shared.objects.list(sst_folder(REGION))) == 3
    shared.writer.handle_request(REGION, VacuumRequest(grace_ms=0))
    assert len(shared.objects.list(sst_folder(REGION))) == 1


def test_a_file_that_was_never_listed_has_a_grace_of_its_own() -> None:
    shared = Shared(gc_grace_ms=1_000, gc_unknown_grace_ms=5_000)
    shared.write(1)
    shared.write(2)
    shared.merge()
    left = file_id_of("e")
    shared.objects.put_if_absent(sst_key(REGION, left), b"half a flush")

    shared.clock.advance(1_000)
    assert len(shared.writer.vacuum(REGION).removed) == 2
    shared.clock.advance(3_999)
    assert shared.writer.vacuum(REGION).removed == ()
    shared.clock.advance(1)
    assert shared.writer.vacuum(REGION).removed == (left,)


# --- going to a version ---------------------------------------------------------------------------------


def test_a_reader_can_be_sent_to_a_version(shared: Shared) -> None:
    reader: MitoEngine = shared.reader().engine
    seen = reader.region(REGION).state.version
    shared.write(3)
    shared.merge()
    newest = shared.version()
    assert seen < newest

    assert reader.sync(REGION, ManifestVersion(newest - 1)) == (newest, True)
    assert reader.sync(REGION, ManifestVersion(newest)) == (newest, False)
    assert reader.handle_request(REGION, SyncRegionRequest(manifest_version=ManifestVersion(0))) == 0
    with pytest.raises(InvalidInputError, match=rf"version {newest + 1} of region .* the newest is {newest}"):
        reader.sync(REGION, ManifestVersion(newest + 1))
    assert shared.writer.sync(REGION, ManifestVersion(newest)) == (newest, False)


def test_a_reader_can_be_sent_to_a_version_whose_deltas_a_checkpoint_has_replaced() -> None:
    shared = Shared(checkpoint_distance=2)
    shared.write(1)
    reader: MitoEngine = shared.reader().engine
    seen = reader.region(REGION).state.version
    for cpu in range(2, 8):
        shared.write(cpu)
    deltas = [item.key for item in shared.objects.list(manifest_folder(REGION)) if item.key.endswith(".json")]
    assert manifest_key(REGION, ManifestVersion(seen + 1), "json") not in deltas

    assert reader.sync(REGION, ManifestVersion(seen + 1)) == (shared.version(), True)

    assert reader.region(REGION).state == shared.writer.region(REGION).state
