from __future__ import annotations

import shutil
from datetime import datetime

import polars as pl
import pytest
from builders import GOLDEN, REGION, batch_of, create, metadata_of, open_engine, put, read, threads
from gates import Task
from hypothesis import given, settings
from hypothesis import strategies as st

import mitoframe as mito
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.journal import Journal
from mitoframe.failpoints import watching
from mitoframe.model.alter import AddColumns, NewColumn
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import DiskFullError, MitoError, UnavailableError
from mitoframe.model.request import AlterRequest, TruncateRequest
from mitoframe.storage.journal import JournalEntry, read_history, replay
from mitoframe.storage.paths import journal_folder, sst_key

METADATA = metadata_of()
SCHEMA = {"ts": pl.Datetime("ms"), "host": pl.String, "load": pl.Float64}


def rows(*hours: int) -> pl.DataFrame:
    times = [datetime(2024, 1, 1, hour) for hour in hours]
    return pl.DataFrame({"ts": times, "host": "a", "load": 1.0}, schema_overrides=SCHEMA)


def started(store=None, log=None, **known) -> MitoEngine:
    engine = open_engine(store, log, **known)
    create(engine, METADATA, compaction_mode="manual")
    return engine


def flush(engine: MitoEngine, *times: int) -> None:
    """Make a file for each time."""
    for moment in times:
        engine.write(REGION, batch_of(METADATA, [put(0, moment)]))
        engine.flush(REGION)


def entries_of(engine: MitoEngine) -> tuple[JournalEntry, ...]:
    return engine.history(REGION).entries


def check(engine: MitoEngine) -> None:
    """The journal tells of the files there are, and of each version once."""
    state = engine.region(REGION).state
    history = engine.history(REGION)
    assert replay(history.entries) == set(state.files)
    versions = [entry.version for entry in history.entries if not entry.starts_anew and not entry.is_aside]
    assert versions == sorted(set(versions))
    assert versions[-1] == state.version
    assert history.damage == ()


def parts(store) -> list[str]:
    return [item.key for item in store.list(journal_folder(REGION))]


# --- the frame ------------------------------------------------------------------------------------------


def test_history_tells_everything_that_happened_to_a_table_in_order():
    with mito.open("memory://", gc_grace_ms=3_600_000) as db:
        table = db.create_table("cpu", SCHEMA, time="ts", tags=["host"])
        for _ in range(2):
            table.write(rows(1, 2))
            table.flush()
        table.compact()
        table.vacuum(older_than="0s")
        table.alter(add={"more": pl.Int64})
        table.snapshot("before")
        table.truncate()
        table.restore("before")
        table.drop_snapshot("before")

        history = table.history()
        files = table.files()

    flushed = [(name, "manual") for name in ("flush", "flush")]
    assert history.select("what", "reason").rows() == [
        ("create", None),
        *flushed,
        ("compact", "manual"),
        ("gc", None),
        ("alter", None),
        ("snapshot", None),
        ("truncate", None),
        ("restore", None),
        ("drop_snapshot", None),
    ]
    assert history["version"].to_list() == list(range(10))
    assert history["rows_in"].to_list() == [0, 0, 0, 4, None, 0, 0, 2, 0, 0]
    assert history["rows_out"].to_list() == [0, 2, 2, 2, 0, 0, 0, 0, 2, 0]
    assert history["outputs"][8].to_list() == files["file_id"].to_list()
    assert history["bytes_out"][8] == files["size_bytes"].sum()
    merged = history["outputs"][1].to_list() + history["outputs"][2].to_list()
    assert sorted(history["inputs"][3]) == sorted(history["inputs"][4]) == sorted(merged)
    assert history["bytes_in"][3] == history["bytes_in"][4] == history["bytes_out"][1] + history["bytes_out"][2]
    assert history["at"].is_sorted()
    assert history["took"].null_count() == 0
    assert not history["starts_anew"].any()


def test_history_of_a_table_that_does_not_exist_is_refused():
    with mito.open("memory://") as db:
        table = db.create_table("cpu", SCHEMA, time="ts")
        db.drop_table("cpu")

        with pytest.raises(mito.TableNotFoundError):
            table.history()


def test_history_is_there_when_the_store_is_opened_again_and_for_who_only_reads(tmp_path):
    with mito.open(tmp_path / "store") as db:
        db.write(rows(1), "cpu", time="ts", tags=["host"])
        db["cpu"].flush()
        before = db["cpu"].history()
        with mito.open(tmp_path / "store", mode="r") as reader:
            assert reader["cpu"].history().equals(before)

    for mode in ("r", "rw"):
        with mito.open(tmp_path / "store", mode=mode) as db:
            assert db["cpu"].history().equals(before)


def test_damage_is_warned_of_and_what_can_be_read_is_told(tmp_path):
    with mito.open(tmp_path / "store") as db:
        db.write(rows(1), "cpu", time="ts", tags=["host"])
    [part] = (tmp_path / "store").glob("regions/*/journal/*")
    part.write_bytes(part.read_bytes()[:-3])

    with mito.open(tmp_path / "store", mode="r") as db, pytest.warns(mito.DamageWarning, match=part.name):
        history = db["cpu"].history()

    assert history["what"].to_list() == ["create", "flush"]
    assert history["took"].null_count() == 1


# --- when it is stored ------------------------------------------------------------------------------------


def test_a_part_is_stored_before_the_manifest_forgets_and_not_for_each_entry():
    store = MemoryObjectStore()
    engine = started(store, checkpoint_distance=8)
    stored = []

    for number in range(40):
        flush(engine, number * 100)
        stored.append(read_history(store, REGION).entries)
        check(engine)

    assert all(not entry.starts_anew for told in stored for entry in told), "nothing was forgotten before it was stored"
    assert len(parts(store)) <= 6
    assert [entry.version for entry in entries_of(engine)] == list(range(41))


def test_flushes_put_a_part_once_in_a_while():
    puts = []

    class Counting(MemoryObjectStore):
        def put_if_absent(self, key, data):
            puts.append(key)
            super().put_if_absent(key, data)

    engine = started(Counting(), checkpoint_distance=10)

    flush(engine, *range(0, 8000, 100))

    assert sum("/journal/" in key for key in puts) == 10


def test_closing_a_table_stores_what_is_not_stored_yet():
    store = MemoryObjectStore()
    engine = started(store)
    flush(engine, 1, 2)
    assert parts(store) == []

    engine.close_region(REGION, flush=False)

    assert len(parts(store)) == 1
    assert not any(entry.is_rebuilt for entry in entries_of(engine))
    engine.close_region(REGION, flush=False)
    assert len(parts(store)) == 1, "nothing happened since"


def test_how_long_things_took_is_told_by_the_clock():
    clock = ManualClock(now_ms=10**12)

    class Dawdling(MemoryObjectStore):
        def put_if_absent(self, key, data):
            super().put_if_absent(key, data)
            if "/sst/" in key:
                clock.advance(250)

    engine = started(Dawdling(clock), clock=clock)

    flush(engine, 1)

    entry = entries_of(engine)[-1]
    assert (entry.begun_ms, entry.at_ms) == (10**12, 10**12 + 250)


def test_a_crash_loses_only_how_long_things_took():
    store, log = MemoryObjectStore(), MemoryLog()
    flush(started(store, log, checkpoint_distance=4), *range(0, 600, 100))

    again = open_engine(store, log, checkpoint_distance=4)

    found = entries_of(again)
    assert [entry.version for entry in found] == list(range(7))
    assert [entry.is_rebuilt for entry in found] == [False] * 6 + [True]
    check(again)


def test_many_short_lives_that_all_end_in_a_crash_leave_no_gap():
    store, log = MemoryObjectStore(), MemoryLog()
    started(store, log, checkpoint_distance=4)

    for number in range(30):
        engine = open_engine(store, log, checkpoint_distance=4, seed=number + 1)
        flush(engine, number * 100)

    assert [entry.version for entry in entries_of(engine)] == list(range(31))
    assert not any(entry.starts_anew for entry in entries_of(engine))
    check(engine)


def test_a_journal_that_is_full_is_rolled_up():
    engine = started(journal_entries_max=20, checkpoint_distance=2)

    flush(engine, *range(0, 10_000, 100))

    assert entries_of(engine)[0].starts_anew
    assert len(entries_of(engine)) <= 23
    check(engine)


@pytest.mark.parametrize("value", [0, 9, -1, 1.5, "many"])
def test_a_limit_that_makes_no_sense_is_refused(value):
    with pytest.raises(mito.ConfigError, match="journal_entries_max"):
        mito.MitoConfig(journal_entries_max=value)


# --- gc ---------------------------------------------------------------------------------------------------


def test_files_that_were_never_listed_are_told_of_when_they_are_deleted():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock)
    flush(engine, 1)
    store.put_if_absent(sst_key(REGION, "f" * 32), b"left by a crash")

    engine.vacuum(REGION, grace_ms=0)

    entry = entries_of(engine)[-1]
    assert (entry.what, entry.inputs, entry.bytes_in, entry.is_aside) == ("gc", ("f" * 32,), 15, True)
    check(engine)
    engine.close_region(REGION, flush=False)
    assert entries_of(engine)[-1] == entry, "it is stored with the rest"


def test_a_gc_that_deletes_nothing_is_not_told_of():
    engine = started()
    flush(engine, 1)

    engine.vacuum(REGION, grace_ms=0)

    assert [entry.what for entry in entries_of(engine)] == ["create", "flush"]


def test_how_long_a_gc_took_is_told_by_the_clock():
    clock = ManualClock(now_ms=10**12)

    class Dawdling(MemoryObjectStore):
        def delete(self, key):
            clock.advance(250)
            super().delete(key)

    engine = started(Dawdling(clock), clock=clock)
    flush(engine, 1, 1)
    engine.compact(REGION)

    engine.vacuum(REGION, grace_ms=0)

    entry = entries_of(engine)[-1]
    assert (entry.what, entry.begun_ms, entry.at_ms) == ("gc", 10**12, 10**12 + 500)


def test_a_gc_is_told_of_later_if_the_parts_cannot_be_listed_when_it_happens():
    class Away(MemoryObjectStore):
        is_away = False

        def list(self, prefix):
            if self.is_away and prefix == journal_folder(REGION):
                raise UnavailableError("away")
            return super().list(prefix)

    clock = ManualClock()
    store = Away(clock)
    engine = open_engine(store, clock=clock)
    create(engine, METADATA)
    engine.close_region(REGION, flush=False)
    store.put_if_absent(sst_key(REGION, "f" * 32), b"left by a crash")
    engine.region(REGION)
    store.is_away = True

    assert engine.vacuum(REGION, grace_ms=0).removed == ("f" * 32,)

    assert list(engine.health().regions[0].failures) == ["hook Journal.on_region_gc"]
    store.is_away = False
    assert [entry.inputs for entry in entries_of(engine) if entry.what == "gc"] == [("f" * 32,)]
    check(engine)


def test_of_a_region_that_was_let_go_meanwhile_nothing_is_stored():
    store = MemoryObjectStore()
    journal = Journal(store, ManualClock(), lambda _: None, distance=1, entries_max=100)

    journal.on_manifest_updated(REGION, (FileEdit(reason="test"),), 1)
    journal.on_region_closed(REGION)

    assert parts(store) == [], "its folder may be gone already"


def test_the_journal_goes_with_the_dropped_table():
    clock = ManualClock()
    store = MemoryObjectStore(clock)
    engine = started(store, clock=clock, checkpoint_distance=1, gc_grace_ms=0)
    flush(engine, 1)
    assert parts(store)

    engine.drop(REGION)
    engine.maintain()

    assert parts(store) == []


# --- when it fails ----------------------------------------------------------------------------------------


class FailingStore(MemoryObjectStore):
    """Raises the error it holds when a part of a journal is stored, before or after that."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.is_stored_first = False

    def put_if_absent(self, key, data):
        fails = self.error is not None and "/journal/" in key
        if not fails or self.is_stored_first:
            super().put_if_absent(key, data)
        if fails:
            raise self.error


@pytest.mark.parametrize("is_stored_first", [False, True])
@pytest.mark.parametrize("error", [DiskFullError("full"), UnavailableError("away")], ids=["full", "away"])
def test_a_journal_that_cannot_be_stored_harms_nothing_is_told_and_tried_again(error, is_stored_first, caplog):
    store = FailingStore()
    engine = started(store, checkpoint_distance=4)
    store.error, store.is_stored_first = error, is_stored_first

    flush(engine, *range(0, 600, 100))

    assert len(read(engine)) == 6
    # What was stored although it failed is found when it is tried again.
    failures = {} if is_stored_first else {"hook Journal.on_manifest_updated": error}
    assert engine.health().regions[0].failures == failures
    assert "hook failed" in caplog.text
    check(engine)
    store.error = None
    flush(engine, 700, 800, 900)
    assert engine.health().regions[0].failures == {}
    assert [entry.version for entry in read_history(store, REGION).entries] == list(range(10))
    check(engine)


def test_while_the_journal_cannot_be_stored_a_table_is_changed_cleaned_up_and_closed_all_the_same():
    store = FailingStore()
    engine = started(store, checkpoint_distance=1)
    store.error = DiskFullError("full")

    flush(engine, 1, 1)
    engine.compact(REGION)
    column = NewColumn("more", METADATA.fields[0].type)
    engine.handle_request(REGION, AlterRequest(alterations=(AddColumns((column,)),)))
    engine.vacuum(REGION, grace_ms=0)
    engine.handle_request(REGION, TruncateRequest())
    engine.close_region(REGION, flush=True)

    assert len(parts(store)) == 1, "no more than there was before"
    assert replay(entries_of(engine)) == set(engine.region(REGION).state.files) == set()
    store.error = None
    flush(engine, 1)
    check(engine)
    store.error = DiskFullError("full again")
    flush(engine, 2)
    engine.close()


def test_a_journal_that_can_never_be_stored_keeps_a_bounded_part_of_itself_in_memory(monkeypatch):
    monkeypatch.setattr("mitoframe.engine.journal.UNSTORED_MAX", 5)
    store = FailingStore()
    engine = started(store, checkpoint_distance=2)
    store.error = DiskFullError("full")

    flush(engine, *range(0, 2000, 100))

    assert sum(entry.starts_anew for entry in entries_of(engine)) == 1
    assert len(entries_of(engine)) < 12
    check(engine)


# --- the property -----------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


class Life:
    """A region whose process dies now and then; everything it does is chosen by hypothesis."""

    def __init__(self, distance: int, entries_max: int) -> None:
        self.store, self.log = MemoryObjectStore(), MemoryLog()
        self.distance, self.entries_max, self.seed, self.count = distance, entries_max, 0, 0
        self.engine = self.opened()
        create(self.engine, METADATA)

    def opened(self) -> MitoEngine:
        self.seed += 1
        return open_engine(
            self.store,
            self.log,
            seed=self.seed,
            gc_grace_ms=3_600_000,
            checkpoint_distance=self.distance,
            journal_entries_max=self.entries_max,
        )

    def do(self, what: str, dies_at: int) -> None:
        """Do something; the process dies at the ``dies_at``-th named point, if there are as many."""
        left = dies_at

        def kill(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        try:
            with watching(kill):
                getattr(self, what)()
        except Killed:
            self.engine = self.opened()
        except MitoError:
            assert left <= 0

    def flush(self) -> None:
        self.count += 1
        flush(self.engine, self.count % 3)

    def compact(self) -> None:
        self.engine.compact(REGION)

    def vacuum(self) -> None:
        self.engine.vacuum(REGION, grace_ms=0)

    def truncate(self) -> None:
        self.engine.handle_request(REGION, TruncateRequest())

    def alter(self) -> None:
        self.count += 1
        column = NewColumn(f"field_{self.count}", METADATA.fields[0].type)
        self.engine.handle_request(REGION, AlterRequest(alterations=(AddColumns((column,)),)))

    def restore(self) -> None:
        kept = self.engine.region(REGION).state.past.kept_entries()
        self.engine.restore(REGION, kept[0].moment)

    def backfill(self) -> None:
        self.engine.bulk_insert(REGION, [batch_of(METADATA, [put(0, 1)])])

    def reopen(self) -> None:
        self.engine.close_region(REGION, flush=False)


DEEDS = ["flush", "flush", "compact", "vacuum", "truncate", "alter", "restore", "backfill", "reopen"]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4),
    st.sampled_from([10, 1_000]),
    st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 12)), max_size=25),
)
def test_the_journal_tells_of_the_files_there_are_whatever_happens_and_whenever_the_process_dies(
    distance, entries_max, deeds
):
    life = Life(distance, entries_max)

    for what, dies_at in deeds:
        life.do(what, dies_at)
        check(life.engine)


def test_the_journal_tells_of_the_files_there_are_while_many_threads_change_them():
    engine = open_engine(
        scheduler=threads(), checkpoint_distance=3, gc_grace_ms=0, compaction_trigger_files=2, journal_entries_max=50
    )
    create(engine, METADATA)

    def work(first: int) -> None:
        for number in range(15):
            flush(engine, first + number % 4)
            engine.history(REGION)

    tasks = [Task(lambda first=first: work(first)) for first in (0, 2)]
    for task in tasks:
        task.result()
    engine.drain()

    check(engine)
    engine.close()


# --- stores of before -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rw", "r"])
@pytest.mark.parametrize("name", ["format-1", "format-2", "format-3"])
def test_a_store_that_has_no_journal_yet_tells_what_its_manifests_do(name, mode, tmp_path):
    shutil.copytree(GOLDEN / "stores" / name, tmp_path / "store")

    with mito.open(tmp_path / "store", mode=mode) as db:
        for table in db.tables()["name"]:
            check_door(db[table])
        if mode == "rw":
            db["cpu ü"].flush()
            db["cpu ü"].compact()
            check_door(db["cpu ü"])


def check_door(table: mito.Table) -> None:
    history = table.history()
    files: set[str] = set()
    for starts_anew, inputs, outputs in history.select("starts_anew", "inputs", "outputs").iter_rows():
        files = (set() if starts_anew else files - set(inputs)) | set(outputs)
    assert files == set(table.files()["file_id"])
