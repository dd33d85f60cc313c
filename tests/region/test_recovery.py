from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from builders import REGION, Row, batch_of, create, delete, metadata_of, newest, open_engine, put, read
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.failpoints import watching
from mitoframe.model.errors import CorruptionError, ReadOnlyError
from mitoframe.model.ids import EntryId
from mitoframe.model.request import ScanRequest
from mitoframe.region.hooks import Hooks
from mitoframe.region.recovery import open_region_for_reading
from mitoframe.storage.wal import Wal

METADATA = metadata_of()
EPOCH, MILLISECOND = datetime(1970, 1, 1), timedelta(milliseconds=1)
COLUMNS = ("host", "ts", "cpu", "__sequence")


class Killed(BaseException):
    """What a crash point raises to end a process."""


@dataclass
class Disk:
    """What outlives a process, and the rows that were acknowledged, by their sequences."""

    store: MemoryObjectStore = field(default_factory=lambda: MemoryObjectStore(ManualClock()))
    log: MemoryLog = field(default_factory=MemoryLog)
    rows: list[Row] = field(default_factory=list)
    seed: int = 0

    def start(self, *, read_only: bool = False) -> MitoEngine:
        self.seed += 1
        return open_engine(self.store, self.log, seed=self.seed, read_only=read_only, checkpoint_distance=3)

    def write(self, engine: MitoEngine, *rows: Row) -> None:
        first = engine.write(REGION, batch_of(METADATA, rows)).first_sequence
        self.rows += [
            Row(first + number, row.time, row.tags, row.fields, row.op_type) for number, row in enumerate(rows)
        ]

    def expected(self) -> list[tuple]:
        kept = newest(self.rows, drop_deletes=True)
        return [(row.tags[0], row.time, row.fields[0], row.sequence) for row in kept]


def seen(engine: MitoEngine) -> list[tuple]:
    return [(host, (ts - EPOCH) // MILLISECOND, cpu, number) for host, ts, cpu, number in read(engine, columns=COLUMNS)]


def new_disk() -> Disk:
    disk = Disk()
    create(disk.start(), METADATA)
    return disk


hosts = st.sampled_from([None, "a", "b"])
writes = st.lists(
    st.builds(put, st.just(0), st.integers(0, 4), hosts, st.integers(0, 99))
    | st.builds(delete, st.just(0), st.integers(0, 4), hosts),
    min_size=1,
    max_size=4,
)
steps = st.lists(
    st.sampled_from(["flush", "compact", "restart", "vacuum"]) | writes.map(lambda rows: ("write", rows)), max_size=12
)


def run(disk: Disk, engine: MitoEngine, step) -> MitoEngine:
    if step == "flush":
        engine.flush(REGION)
    elif step == "compact":
        engine.compact(REGION)
    elif step == "vacuum":
        engine.vacuum(REGION, grace_ms=0)
    elif step == "restart":
        return disk.start()
    else:
        is_put = step[1][0].op_type
        disk.write(engine, *[row for row in step[1] if row.op_type == is_put])
    return engine


@settings(deadline=None, max_examples=60)
@given(steps)
def test_a_region_opened_anew_at_any_point_has_the_same_rows(actions):
    disk = new_disk()
    engine = disk.start()

    for action in actions:
        engine = run(disk, engine, action)
        assert seen(engine) == seen(disk.start()) == disk.expected()


@settings(deadline=None, max_examples=60)
@given(steps)
def test_a_process_that_reads_sees_every_row_once_whatever_the_writer_does(actions):
    disk = new_disk()
    engine = disk.start()
    reader = disk.start(read_only=True)

    for action in actions:
        engine = run(disk, engine, action)
        assert seen(reader) == disk.expected()


@settings(deadline=None, max_examples=60)
@given(steps, st.data())
def test_a_crash_at_any_point_loses_no_acknowledged_row_and_makes_up_none(actions, data):
    disk = new_disk()
    countdown = data.draw(st.integers(0, 40))

    def maybe_kill(_: str) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown < 0:
            raise Killed

    attempted: list[Row] = []
    with watching(maybe_kill):
        try:
            engine = disk.start()
            for action in actions:
                attempted = action[1] if isinstance(action, tuple) else []
                engine = run(disk, engine, action)
                attempted = []
        except Killed:
            pass

    found = seen(disk.start())
    if found != disk.expected():
        # A write that was never acknowledged may be there, but then whole.
        is_put = attempted[0].op_type
        unacknowledged = [row for row in attempted if row.op_type == is_put]
        first = max((row.sequence for row in disk.rows), default=0) + 1
        disk.rows += [
            Row(first + n, row.time, row.tags, row.fields, row.op_type) for n, row in enumerate(unacknowledged)
        ]
    assert found == disk.expected()


def test_recovering_writes_nothing_and_can_be_repeated():
    disk = new_disk()
    engine = disk.start()
    disk.write(engine, put(0, 1), put(0, 2))
    engine.flush(REGION)
    disk.write(engine, put(0, 1, cpu=7))
    objects = {item.key for folder in ("manifest", "sst") for item in disk.store.list(f"regions/1_0000000000/{folder}")}

    for _ in range(3):
        again = disk.start()
        assert seen(again) == disk.expected()
        assert again.region(REGION).control.current().visible == 3

    left = {item.key for folder in ("manifest", "sst") for item in disk.store.list(f"regions/1_0000000000/{folder}")}
    assert left == objects


@pytest.mark.parametrize("point", ["recover.version_built", "recover.replayed"])
def test_a_crash_while_recovering_changes_nothing(point):
    disk = new_disk()
    disk.write(disk.start(), put(0, 1), put(0, 2))

    def kill(name: str) -> None:
        if name == point:
            raise Killed

    with watching(kill), pytest.raises(Killed):
        disk.start().region(REGION)

    assert seen(disk.start()) == disk.expected()


@pytest.mark.parametrize("point", ["flush.sst_stored", "edit.logged", "edit.switched"])
def test_a_flush_cut_short_anywhere_gives_each_row_once(point):
    disk = new_disk()
    engine = disk.start()
    disk.write(engine, put(0, 1, cpu=1), put(0, 2, cpu=2))

    def kill(name: str) -> None:
        if name == point:
            raise Killed

    with watching(kill), pytest.raises(Killed):
        engine.flush(REGION)

    engine = disk.start()
    assert seen(engine) == disk.expected()
    version = engine.region(REGION).control.current().version
    assert sum(file.row_count for file in version.state.files.values()) + version.mutable.stats.row_count == 2
    disk.write(engine, put(0, 1, cpu=3))
    engine.flush(REGION)
    assert seen(disk.start()) == disk.expected()


def test_sequences_go_on_where_the_last_process_stopped():
    disk = new_disk()
    engine = disk.start()
    disk.write(engine, put(0, 1), put(0, 2))
    engine.flush(REGION)
    disk.write(engine, put(0, 3))

    assert disk.start().write(REGION, batch_of(METADATA, [put(0, 4)])).first_sequence == 4


def test_sequences_are_not_given_twice_when_everything_is_flushed():
    disk = new_disk()
    engine = disk.start()
    disk.write(engine, put(0, 1), put(0, 2))
    engine.flush(REGION)
    assert list(disk.log.read(REGION, EntryId(0))) == []

    assert disk.start().write(REGION, batch_of(METADATA, [put(0, 4)])).first_sequence == 3


def test_a_log_that_lost_its_newest_end_is_not_written_to():
    disk = new_disk()
    engine = disk.start()
    disk.write(engine, put(0, 1))
    engine.flush(REGION)
    disk.log = MemoryLog()

    with pytest.raises(CorruptionError, match=r"the log ends with entry 0, but the manifest .* up to 1 are in files"):
        disk.start().region(REGION)
    assert seen(disk.start(read_only=True)) == disk.expected()


# --- reading what another process writes ----------------------------------------------------------------


def test_a_reader_sees_rows_written_after_it_opened():
    disk = new_disk()
    writer, reader = disk.start(), disk.start(read_only=True)
    assert seen(reader) == []

    disk.write(writer, put(0, 1, cpu=1))
    assert seen(reader) == disk.expected()
    disk.write(writer, put(0, 1, cpu=2))
    assert seen(reader) == disk.expected()


def test_a_scan_under_way_is_not_disturbed_by_rows_that_come_later():
    disk = new_disk()
    writer, reader = disk.start(), disk.start(read_only=True)
    disk.write(writer, put(0, 1, cpu=1))
    under_way = reader.handle_query(REGION, ScanRequest(columns=("cpu",)))
    disk.write(writer, put(0, 1, cpu=2))
    assert seen(reader) == disk.expected()

    assert [row for batch in under_way for row in batch.to_pylist()] == [{"cpu": 1}]


class BusyLog(MemoryLog):
    """Lets the writer work just before a reader reads the log, or just after."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list = []
        self.after: list = []

    def read(self, region_id, after):
        if self.before:
            self.before.pop(0)()
        entries = super().read(region_id, after)
        if self.after:
            self.after.pop(0)()
        return entries


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("opened", [False, True], ids=["opening", "refreshing"])
def test_a_flush_while_a_reader_looks_hides_no_row(moment, opened):
    log = BusyLog()
    disk = Disk(log=log)
    create(disk.start(), METADATA)
    writer, reader = disk.start(), disk.start(read_only=True)
    disk.write(writer, put(0, 1, cpu=1))
    if opened:
        assert seen(reader) == disk.expected()
    disk.write(writer, put(0, 2, cpu=2))
    acknowledged = disk.expected()

    def flush_and_write() -> None:
        writer.flush(REGION)
        disk.write(writer, put(0, 3, cpu=3))

    getattr(log, moment).append(flush_and_write)

    found = seen(reader)

    assert found in (acknowledged, disk.expected())
    assert seen(reader) == disk.expected()


def test_a_flush_between_reading_the_manifest_and_reading_the_log_hides_no_row():
    log = BusyLog()
    disk = Disk(log=log)
    create(disk.start(), METADATA)
    writer = disk.start()
    disk.write(writer, put(0, 1, cpu=1))
    log.before.append(lambda: writer.flush(REGION))

    region = open_region_for_reading(disk.store, Wal(log), Hooks(), REGION)

    version = region.control.current().version
    assert [file.row_count for file in version.state.files.values()] == [1]
    assert region.control.current().visible == 1


def test_a_reader_writes_nothing():
    disk = new_disk()
    reader = disk.start(read_only=True)
    reader.region(REGION)

    with pytest.raises(ReadOnlyError):
        reader.write(REGION, batch_of(METADATA, [put(0, 1)]))
    with pytest.raises(AssertionError):
        reader.region(REGION).commit_edit(METADATA)


def test_a_region_that_is_not_there_cannot_be_opened():
    disk = Disk()

    for read_only in (False, True):
        with pytest.raises(CorruptionError, match="the region has no manifest"):
            disk.start(read_only=read_only).region(REGION)
