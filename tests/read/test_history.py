"""Earlier moments, against a table of which every one is remembered."""

from __future__ import annotations

import pyarrow as pa
import pytest
from builders import REGION, Row, open_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import HOUR_MS, Remembered, carry_out, changes, modes, steps, upkeep, writes
from truth import METADATA, seen

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.failpoints import watching
from mitoframe.model.alter import AddColumns, DropColumns, NewColumn
from mitoframe.model.errors import DiskFullError, InvalidInputError, SnapshotExpiredError
from mitoframe.model.file import LEVEL_HISTORY
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.past import Moment
from mitoframe.model.request import AlterRequest, ScanRequest, TruncateRequest
from mitoframe.read.history import moment_of_time, travel
from mitoframe.region.control import Snapshot, VersionControl
from mitoframe.region.region import MARKS_PER_FLUSH
from mitoframe.storage.paths import sst_folder


@settings(deadline=None, max_examples=80)
@given(modes, steps)
def test_every_moment_reads_as_it_was(dedup, actions):
    table = Remembered(dedup, window_ms=HOUR_MS)

    carry_out(table, actions)

    assert table.found() == table.expected()
    table.check_sequences()
    table.check_versions()


names = st.sampled_from("pq")
naming = st.tuples(st.sampled_from(["snapshot", "snapshot", "drop_snapshot"]), names)
deleting = st.just(("vacuum",))
kept_steps = st.lists(writes | writes | upkeep | upkeep | changes | naming | deleting, min_size=1, max_size=16)


class Named(Remembered):
    """One that takes or drops a name only where it can."""

    def snapshot(self, name: str) -> None:
        if name not in self.names:
            super().snapshot(name)

    def drop_snapshot(self, name: str) -> None:
        if name in self.names:
            super().drop_snapshot(name)


@settings(deadline=None, max_examples=80)
@given(modes, kept_steps, st.sampled_from([0, 3, 3_600_000]))
def test_a_snapshot_stays_and_no_other_moment_is_ever_wrong(dedup, actions, grace_ms):
    table = Named(dedup, window_ms=HOUR_MS, gc_grace_ms=grace_ms)

    carry_out(table, actions)

    assert table.found() == table.expected()
    table.check_names()
    table.check_sequences(may_expire=True)
    table.check_versions(may_expire=True)


def put(time: int, cpu: int | None = 0, host: str | None = "a") -> Row:
    return Row(0, time, (host,), (cpu, None))


def test_what_was_truncated_is_there_as_of_before_also_from_memory():
    table = Remembered()
    table.write([put(1), put(2)])
    table.flush()
    table.write([put(2, 5), put(3)])

    table.truncate()

    assert table.found() == []
    assert table.found(sequence=3) == [("a", 1, 0, None), ("a", 2, 5, None)]
    assert table.check_sequences() == 4


def test_a_file_of_superseded_versions_is_not_read_as_it_is_though_it_stands_alone():
    table = Remembered()
    for cpu in (1, 2, 3):
        table.write([put(1, cpu)])
    table.flush()

    plan = table.engine.plan(REGION, ScanRequest(sequence=Sequence(2)))

    assert not plan.direct
    [group] = plan.groups
    assert [file.level for file in group.files] == [LEVEL_HISTORY]
    assert table.found(sequence=2) == [("a", 1, 2, None)]


def test_an_earlier_moment_has_the_schema_of_then():
    table = Remembered()
    table.write([put(1, 7)])
    table.engine.alter(REGION, AlterRequest(alterations=(DropColumns(names=("cpu",)),)))
    load = NewColumn(name="load", type=pa.string())
    table.engine.alter(REGION, AlterRequest(alterations=(AddColumns(columns=(load,)),)))
    version = table.state.past.entries[1].version

    then = table.engine.plan(REGION, ScanRequest(version=version))

    assert then.metadata.names == METADATA.names
    assert table.found(version=version) == [("a", 1, 7, None)]
    assert table.found() == [("a", 1, None, None)]  # host, ts, note, load


def test_a_table_that_keeps_every_row_from_now_on_read_only_the_newest_before():
    table = Remembered("last")
    table.write([put(1, 1)])
    table.write([put(1, 2)])
    table.engine.alter(REGION, AlterRequest(options={"dedup": "none"}))
    table.engine.write(REGION, table.batch([put(1, 3)]))

    assert table.found() == [("a", 1, 2, None), ("a", 1, 3, None)]
    assert table.found(sequence=1) == [("a", 1, 1, None)]
    assert table.found(sequence=2) == [("a", 1, 2, None)]


def test_a_plan_on_an_earlier_moment_keeps_its_files_as_long_as_it_is_held():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.write([put(1, 2)])
    table.flush()
    plan = table.engine.plan(REGION, ScanRequest(sequence=Sequence(1)))
    table.compact()

    table.vacuum()

    [file] = plan.version.state.files.values()
    assert table.engine.reader.read(METADATA, file, [0], ["cpu"]).fields.column("cpu").to_pylist() == [1]
    del plan
    table.vacuum()
    with pytest.raises(SnapshotExpiredError):
        table.found(sequence=1)


def test_who_asks_for_what_is_gone_is_told_what_there_is_and_what_to_do():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.snapshot("first")
    table.write([put(1, 2)])
    table.flush()
    table.write([put(1, 3)])
    table.flush()
    table.compact()
    table.vacuum()

    with pytest.raises(SnapshotExpiredError) as caught:
        table.found(sequence=2)

    assert "sequence 2 is not kept any more" in str(caught.value)
    assert "snapshots 'first'" in str(caught.value)
    assert "gc_grace_ms" in str(caught.value)
    assert table.found(version=table.state.past.snapshot("first").version) == [("a", 1, 1, None)]


@pytest.mark.parametrize("wal", ["log", "noop"])
@pytest.mark.parametrize("grace_ms", [0, 1])
def test_rows_that_are_only_in_memory_are_kept_for_a_snapshot(wal, grace_ms):
    table = Remembered(gc_grace_ms=grace_ms)
    table.engine.alter(REGION, AlterRequest(options={"wal": wal}))
    table.write([put(1, 1)])
    table.snapshot("first")
    table.reopen()
    table.write([put(1, 2)])
    table.flush()
    table.vacuum()
    table.clock.advance(10)
    table.engine.maintain()
    table.reopen()

    table.check_names()


def test_a_snapshot_outlives_a_change_of_the_grace_period():
    table = Remembered()
    table.write([put(1, 1)])
    table.snapshot("first")
    table._config |= {"gc_grace_ms": 0}
    table.reopen()

    table.write([put(1, 2)])
    table.flush()
    table.vacuum()

    table.check_names()


def test_unflushed_rows_that_a_snapshot_has_are_not_given_up():
    table = Remembered()
    table.write([put(1, 1)])
    table.snapshot("first")

    with pytest.raises(InvalidInputError, match="snapshot 'first' has rows that are in no file yet"):
        table.engine.truncate(REGION, TruncateRequest(what="unflushed"))

    table.drop_snapshot("first")
    assert table.engine.truncate(REGION, TruncateRequest(what="unflushed")) == 1
    with pytest.raises(SnapshotExpiredError):
        table.found(version=0)


def test_a_snapshot_keeps_nothing_once_it_is_dropped():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.snapshot("first")
    table.write([put(1, 2)])
    table.flush()
    table.compact()
    table.vacuum()
    assert len(table.store.list(sst_folder(REGION))) == 2

    table.drop_snapshot("first")
    table.vacuum()

    assert len(table.store.list(sst_folder(REGION))) == 1


def test_a_restore_reads_and_writes_nothing_that_is_in_files_already():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    version = table.state.version
    table.write([put(1, 2)])
    table.flush()
    table.compact()
    before = {item.key for item in table.store.list(sst_folder(REGION))}

    table.restore(version)

    assert {item.key for item in table.store.list(sst_folder(REGION))} == before
    assert table.found() == [("a", 1, 1, None)]


@pytest.mark.parametrize("dedup", ["last", "merge"])
def test_what_was_superseded_in_memory_is_restored_into_a_file_of_its_own(dedup):
    table = Remembered(dedup)
    table.write([put(1, 1), put(1, 2)])
    table.snapshot("first")
    version = table.state.version
    table.write([put(1, 3), put(2, 3)])
    table.flush()

    table.restore(version)

    assert table.found() == [("a", 1, 2, None)]
    table.compact()
    assert table.found() == [("a", 1, 2, None)]


def test_a_restore_is_taken_back_by_another():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    first = table.state.version
    table.write([put(1, 2), put(2)])
    table.flush()
    second = table.state.version

    table.restore(first)
    table.write([put(3)])
    table.restore(second)

    assert table.found() == [("a", 1, 2, None), ("a", 2, 0, None)]
    table.check_versions()
    table.check_sequences()


def test_a_restore_to_what_there_is_changes_nothing():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    moment = table.state.past.entries[-1].moment

    assert table.engine.restore(REGION, moment) == (table.state.version, False)


def test_a_moment_with_another_dedup_is_not_restored():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    moment = table.state.past.entries[-1].moment
    table.engine.alter(REGION, AlterRequest(options={"dedup": "none"}))

    with pytest.raises(InvalidInputError, match="had dedup='last' then and has 'none' now"):
        table.engine.restore(REGION, moment)


# --- times ----------------------------------------------------------------------------------------------


def at_time(table: Remembered, at_ms: int) -> list:
    control = table.engine.region(REGION).control
    moment = moment_of_time(control, at_ms, "then")
    return table.found(version=moment.version) if moment.sequence == 0 else table.found(sequence=moment.sequence)


@pytest.mark.parametrize("later", [[], ["reopen"], ["flush"], ["flush", "reopen"], ["flush", "compact", "reopen"]])
def test_a_time_is_looked_up_to_the_millisecond_for_writes_that_are_few(later):
    table = Remembered()
    table.clock.advance(1)
    moments = []
    for cpu in range(1, 10):
        moments.append(table.clock.now_ms())
        table.write([put(1, cpu)])
    for name in later:
        getattr(table, name)()

    for cpu, at_ms in enumerate(moments[:-1], start=1):
        assert at_time(table, at_ms) == [("a", 1, cpu, None)]
    assert at_time(table, moments[0] - 1) == []


def test_of_many_writes_of_a_flush_some_times_are_kept():
    table = Remembered()
    began_ms = table.clock.now_ms()
    for cpu in range(200):
        table.write([put(1, cpu)])
    table.flush()
    table.reopen()

    found = [at_time(table, began_ms + number)[0][2] for number in range(20, 199)]

    assert found == sorted(found)
    assert all(number - 10 <= cpu <= number for number, cpu in enumerate(found, start=20))
    assert len(table.state.past.marks) <= MARKS_PER_FLUSH


def test_a_clock_that_is_put_back_does_not_put_rows_in_another_order():
    table = Remembered()
    table.write([put(1, 1)])
    table.clock.set(10)
    table.write([put(1, 2)])

    with pytest.raises(SnapshotExpiredError):
        at_time(table, 11)
    assert at_time(table, 1_000_000) == [("a", 1, 2, None)]


def test_a_time_before_all_that_is_kept_is_refused():
    table = Remembered()

    with pytest.raises(SnapshotExpiredError, match="then is not kept any more"):
        at_time(table, 999_999)


# --- what goes on meanwhile -----------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "spared"), [("edit.logged", True), ("edit.switched", False), ("gc.deleting", False)])
def test_a_moment_that_is_asked_for_while_its_files_are_collected_is_whole_or_refused(point, spared):
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.write([put(1, 2)])
    table.flush()
    table.compact()
    control = table.engine.region(REGION).control
    moment = Moment(version=ManifestVersion(1), sequence=Sequence(1))
    held = []

    def ask(name: str) -> None:
        if name == point and not held:
            try:
                held.append(travel(control, moment))
            except SnapshotExpiredError:
                held.append(None)

    with watching(ask):
        table.vacuum()

    assert (held[0] is not None) == spared
    if spared:
        [file] = held[0].version.state.files.values()
        rows = table.engine.reader.read(METADATA, file, [0], ["cpu"])
        assert rows.fields.column("cpu").to_pylist() == [1]


def test_a_moment_whose_files_went_before_it_was_pinned_is_refused():
    table = Remembered()
    table.write([put(1, 1)])
    table.flush()
    table.write([put(1, 2)])
    table.flush()
    table.compact()
    late = LatePins(table.engine.region(REGION).control, table.vacuum)

    with pytest.raises(SnapshotExpiredError):
        travel(late, Moment(version=ManifestVersion(1), sequence=Sequence(1)))


class LatePins(VersionControl):
    """The control of a region; something happens before each pin."""

    def __init__(self, control: VersionControl, before) -> None:
        self._control, self._before = control, before

    def current(self) -> Snapshot:
        return self._control.current()

    def pin(self, version) -> None:
        self._before()
        self._control.pin(version)


def test_rows_that_a_crash_took_never_give_their_sequences_to_others():
    table = Remembered()
    table.engine.alter(REGION, AlterRequest(options={"wal": "noop"}))
    table.write([put(1), put(2)])
    table.engine.alter(REGION, AlterRequest(options={"row_group_rows": 7}))
    version = table.state.version
    table.reopen()

    written = table.engine.write(REGION, table.batch([put(3)]))

    assert written.first_sequence == 3
    assert table.found(version=version) == []
    assert table.found() == [("a", 3, 0, None)]


@pytest.mark.parametrize("dedup", ["last", "merge", "none"])
def test_readers_in_another_process_go_back_too(dedup):
    table = Remembered(dedup)
    table.write([put(1, 1), put(2, 2)])
    table.flush()
    table.write([put(1, 3)])
    table.snapshot("first")
    table.write([put(1, 4)])
    reading = open_engine(table.store, table.log, clock=table.clock, read_only=True)
    found = []

    for batch in reading.handle_query(REGION, ScanRequest(version=table.state.version, columns=("cpu",))):
        found += batch.column("cpu").to_pylist()

    assert sorted(found) == sorted(row.fields[0] for row in seen(table.names["first"], dedup))


@pytest.mark.parametrize("later", [[], ["flush"], ["flush", "compact", "vacuum"], ["truncate", "vacuum"]])
def test_an_open_scan_reads_what_there_was_when_it_was_opened(later):
    table = Remembered()
    table.write([put(1, 1), put(2, 2)])
    table.flush()
    table.write([put(1, 3)])
    open_scan = table.engine.plan(REGION, ScanRequest(columns=("cpu",)))
    bound = open_scan.visible

    table.write([put(2, 9), put(7, 7)])
    for name in later:
        getattr(table, name)()

    rows = [cpu for batch in table.engine.reading.query(open_scan) for cpu in batch.column("cpu").to_pylist()]
    assert (bound, sorted(rows)) == (3, [2, 3])


def test_a_truncate_without_space_gives_up_what_a_snapshot_does_not_have():
    store = FullStore(ManualClock())
    table = Remembered(store=store)
    table.write([put(1)])
    table.flush()
    table.snapshot("first")
    table.write([put(2)])
    store.is_full = True

    table.engine.truncate(REGION, TruncateRequest())

    assert table.found() == []
    assert table.found(version=table.state.past.snapshot("first").version) == [("a", 1, 0, None)]
    with pytest.raises(SnapshotExpiredError):
        table.found(sequence=Sequence(1))


def test_a_truncate_without_space_is_refused_if_a_snapshot_has_rows_in_memory():
    store = FullStore(ManualClock())
    table = Remembered(store=store)
    table.write([put(1)])
    table.snapshot("first")
    store.is_full = True

    with pytest.raises(InvalidInputError, match="snapshot 'first' has rows that are in no file yet"):
        table.engine.truncate(REGION, TruncateRequest())

    table.check_names()


class FullStore(MemoryObjectStore):
    """A store that takes no more SSTs once it is full."""

    is_full = False

    def put_if_absent(self, key: str, data) -> None:
        if self.is_full and key.endswith(".parquet"):
            raise DiskFullError("there is no space left.")
        super().put_if_absent(key, data)
