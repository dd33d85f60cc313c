"""The log at work: segments, giving back, readers beside a writer, and the calls it makes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_scenarios import entries_of, open_log, segment_paths

from mitoframe.drivers import log_segment
from mitoframe.drivers.log_file import SPENT_SIZE_BYTES, parse_segment_name, segment_name
from mitoframe.drivers.log_memory import MemoryLog, NoopLog
from mitoframe.model.errors import ReadOnlyError
from mitoframe.model.ids import EntryId, RegionId
from mitoframe.testing.golden import assert_golden
from mitoframe.testing.vfs_faults import TraceVfs
from mitoframe.testing.vfs_memory import MemoryVfs

GOLDEN = Path(__file__).parents[1] / "golden" / "log_calls.txt"


def test_names_sort_like_ids_and_are_read_back():
    names = [segment_name(first) for first in (1, 2, 10, 2**63)]

    assert names == sorted(names)
    assert [parse_segment_name(name) for name in names] == [1, 2, 10, 2**63]
    for other in ("1.wal", "00000000000000000001.wal.tmp", "00000000000000000001.wal.damaged", "x.wal", ""):
        assert parse_segment_name(other) is None


def test_a_closed_log_reopens_with_everything():
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"])])
    log.close()

    reopened = open_log(vfs)

    assert entries_of(reopened) == {1: (1, b"a"), 2: (2, b"b")}
    assert (reopened.last_id(), reopened.damage) == (2, None)


def test_a_segment_found_at_opening_is_never_written_to_again():
    vfs = MemoryVfs()
    for payload in (b"a", b"b", b"c"):
        log = open_log(vfs)
        log.append([(RegionId(1), [payload])])
        log.sync()
        vfs = vfs.killed()

    reopened = open_log(vfs)

    assert entries_of(reopened) == {1: (1, b"a"), 2: (1, b"b"), 3: (1, b"c")}
    assert [parse_segment_name(path[4:]) for path in segment_paths(vfs)] == [1, 2, 3, 4]


def test_opening_again_and_again_leaves_no_files_behind():
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(1), [b"a"])])
    log.sync()

    for _ in range(5):
        vfs = vfs.killed()
        open_log(vfs)

    assert len(segment_paths(vfs)) == 2


def test_an_empty_log_that_is_opened_and_closed_has_no_files():
    vfs = MemoryVfs()
    open_log(vfs).close()

    assert vfs.list("wal") == []


def test_one_region_that_was_not_flushed_keeps_every_later_segment():
    vfs = MemoryVfs()
    log = open_log(vfs, segment_size_bytes=100)
    for region in (1, 2, 1, 1):
        log.append([(RegionId(region), [b"x"])])

    log.obsolete(RegionId(1), EntryId(4))
    assert [parse_segment_name(path[4:]) for path in segment_paths(vfs)] == [2, 3, 4]
    log.obsolete(RegionId(2), EntryId(2))

    assert [parse_segment_name(path[4:]) for path in segment_paths(vfs)] == [4]
    assert entries_of(log) == {}


def test_a_large_spent_segment_is_replaced_by_an_empty_one_that_carries_the_ids_on():
    vfs = MemoryVfs()
    log = open_log(vfs, segment_size_bytes=1 << 20)
    log.append([(RegionId(1), [bytes(SPENT_SIZE_BYTES)])])
    log.obsolete(RegionId(1), EntryId(1))

    (path,) = segment_paths(vfs)

    assert vfs.stat(path).size_bytes == 96
    for image in (vfs.killed(), vfs.crash()):
        reopened = open_log(image)
        assert reopened.last_id() == 1
        assert reopened.append([(RegionId(1), [b"b"])]) == 2


def test_a_small_spent_segment_is_left_alone():
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(1), [b"a"])])
    log.obsolete(RegionId(1), EntryId(1))

    assert [parse_segment_name(path[4:]) for path in segment_paths(vfs)] == [1]


def test_what_was_obsolete_may_come_back_after_reopening_and_can_be_forgotten_again():
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"])])
    log.obsolete(RegionId(1), EntryId(1))
    log.close()

    reopened = open_log(vfs)
    assert entries_of(reopened) == {1: (1, b"a"), 2: (2, b"b")}
    reopened.obsolete(RegionId(1), EntryId(1))

    assert entries_of(reopened) == {2: (2, b"b")}


def test_a_reader_that_has_begun_is_not_disturbed_by_obsolete():
    vfs = MemoryVfs()
    log = open_log(vfs, segment_size_bytes=100)
    for payload in (b"a", b"b", b"c"):
        log.append([(RegionId(1), [payload])])
    reading = log.read(RegionId(1), EntryId(0))
    first = next(reading)

    log.obsolete(RegionId(1), EntryId(2))

    assert [first.payload, *(entry.payload for entry in reading)] == [b"a", b"c"]


def test_a_reader_process_sees_what_was_appended_when_it_refreshes():
    vfs = MemoryVfs()
    writer = open_log(vfs, segment_size_bytes=150)
    reader = open_log(vfs, read_only=True)
    assert (reader.last_id(), entries_of(reader)) == (0, {})

    for number in range(1, 6):
        writer.append([(RegionId(1), [bytes([number]) * 60])])
        assert reader.last_id() == number - 1
        reader.refresh()
        assert reader.last_id() == number
        assert entries_of(reader) == entries_of(writer)

    writer.obsolete(RegionId(1), EntryId(3))
    assert set(entries_of(reader)) <= {1, 2, 3, 4, 5}
    reader.refresh()
    assert {4, 5} <= set(entries_of(reader))
    assert reader.last_id() == 5


def test_a_reader_takes_a_half_written_record_for_not_yet_there():
    vfs = MemoryVfs()
    writer = open_log(vfs, segment_size_bytes=10_000)
    writer.append([(RegionId(1), [b"a"])])
    reader = open_log(vfs, read_only=True)
    (path,) = segment_paths(vfs)
    before = vfs.stat(path).size_bytes
    writer.append([(RegionId(1), [b"b" * 20])])
    whole = vfs.read(path)

    for length in range(before, len(whole)):
        image = vfs.killed()
        image.append(path).truncate(length)
        late = open_log(image, read_only=True)
        assert (entries_of(late), late.damage) == ({1: (1, b"a")}, None)
        assert image.read(path) == whole[:length]

    reader.refresh()
    assert entries_of(reader) == entries_of(writer)


def test_a_reader_forgets_entries_that_the_writer_undid():
    vfs = MemoryVfs()
    writer = open_log(vfs, segment_size_bytes=10_000)
    writer.append([(RegionId(1), [b"a"])])
    (path,) = segment_paths(vfs)
    size = vfs.stat(path).size_bytes
    writer.append([(RegionId(1), [b"undone"])])
    reader = open_log(vfs, read_only=True)
    assert reader.last_id() == 2

    vfs.append(path).truncate(size)
    reader.refresh()

    assert entries_of(reader) == {1: (1, b"a")}


def test_a_reader_notices_an_entry_that_was_undone_and_written_anew_at_the_same_length():
    vfs = MemoryVfs()
    writer = open_log(vfs, segment_size_bytes=10_000)
    writer.append([(RegionId(1), [b"a"])])
    (path,) = segment_paths(vfs)
    without = vfs.killed()
    writer.append([(RegionId(1), [b"old"])])
    reader = open_log(vfs, read_only=True)
    assert entries_of(reader)[2] == (1, b"old")

    header = log_segment.decode_header(without.read(path), path=path)
    chain, _ = log_segment.scan(without.read(path), header, boot=header.boot)
    record = log_segment.encode_record(chain, [memoryview(b"new")], region_id=2, kind=0, synced_through=0)
    file = vfs.append(path)
    file.truncate(chain.length)
    file.write(record + b"new")
    reader.refresh()

    assert entries_of(reader) == {1: (1, b"a"), 2: (2, b"new")}


class BeforeReading:
    """Lets something happen just before a file is read for the first time."""

    def __init__(self, inner, path, happen):
        self.inner, self.path, self.happen = inner, path, happen

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def stat(self, path):
        if path == self.path:
            self.path = None
            self.happen()
        return self.inner.stat(path)


def test_a_segment_that_is_removed_while_a_reader_looks_is_no_damage():
    vfs = MemoryVfs()
    writer = open_log(vfs, segment_size_bytes=100)
    for payload in (b"a", b"b", b"c"):
        writer.append([(RegionId(1), [payload])])
    second = segment_paths(vfs)[1]

    reader = open_log(BeforeReading(vfs, second, lambda: writer.obsolete(RegionId(1), EntryId(2))), read_only=True)

    assert entries_of(reader) == {3: (1, b"c")}


def test_a_reader_beside_a_busy_writer_never_fails():
    vfs = MemoryVfs()
    writer = open_log(vfs, segment_size_bytes=300)
    reader = open_log(vfs, read_only=True)
    written = threading.Event()
    failures = []

    def write():
        for number in range(1, 400):
            writer.append([(RegionId(number % 2), [bytes([number % 251]) * (number % 90)])])
            writer.sync()
            if number % 7 == 0:
                writer.obsolete(RegionId(0), EntryId(number - 3))
                writer.obsolete(RegionId(1), EntryId(number - 3))
        written.set()

    def follow():
        last = 0
        try:
            while not written.is_set():
                reader.refresh()
                assert reader.last_id() >= last
                last = reader.last_id()
                for entry in reader.read(RegionId(1), EntryId(0)):
                    assert entry.payload == bytes([entry.entry_id % 251]) * (entry.entry_id % 90)
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures, failures
    reader.refresh()
    assert reader.last_id() == 399


def test_a_reader_changes_nothing_and_says_so():
    vfs = MemoryVfs()
    writer = open_log(vfs)
    writer.append([(RegionId(1), [b"a"])])
    traced = TraceVfs(vfs)
    reader = open_log(traced, read_only=True)

    for call in (
        lambda: reader.append([(RegionId(1), [b"b"])]),
        reader.sync,
        lambda: reader.obsolete(RegionId(1), EntryId(1)),
    ):
        with pytest.raises(ReadOnlyError, match='mode="rw"'):
            call()
    reader.refresh()
    reader.close()

    assert {operation.kind for operation in traced.operations} <= {"list", "stat", "read"}


def test_a_reader_of_a_store_without_a_log_finds_nothing():
    reader = open_log(MemoryVfs(), read_only=True)

    assert (reader.last_id(), entries_of(reader), reader.damage) == (0, {}, None)


def test_a_writer_removes_what_a_crash_left_half_made():
    vfs = MemoryVfs()
    log = open_log(vfs)
    log.append([(RegionId(1), [b"a"])])
    log.close()
    vfs.create("wal/00000000000000000002.wal.tmp").close()

    reopened = open_log(vfs)

    assert not [name for name in vfs.list("wal") if name.endswith(".tmp")]
    assert reopened.append([(RegionId(1), [b"b"])]) == 2


def test_sync_syncs_once_for_many_appends_and_not_at_all_for_none():
    traced = TraceVfs(MemoryVfs())
    log = open_log(traced, segment_size_bytes=10_000)
    log.append([(RegionId(1), [b"a"])])
    log.sync()
    traced.operations.clear()

    for _ in range(5):
        log.append([(RegionId(1), [b"b"])])
    log.sync()
    log.sync()

    assert [operation.kind for operation in traced.operations] == ["write"] * 5 + ["sync"]


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"), st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=60)), min_size=1, max_size=4)
        ),
        st.tuples(st.just("obsolete"), st.tuples(st.integers(1, 3), st.integers(0, 30))),
        st.tuples(st.just("sync"), st.none()),
        st.tuples(st.just("reopen"), st.booleans()),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=80)
@given(operations=operations, segment_size_bytes=st.sampled_from([100, 300, 100_000]))
def test_the_log_does_what_a_log_in_memory_does(operations, segment_size_bytes):
    vfs = MemoryVfs()
    log = open_log(vfs, segment_size_bytes=segment_size_bytes)
    model = MemoryLog()
    told = {}

    for name, argument in operations:
        if name == "append":
            entries = [(RegionId(region), [payload]) for region, payload in argument]
            assert log.append(entries) == model.append(entries)
        elif name == "obsolete":
            region, through = argument
            told[region] = max(told.get(region, 0), through)
            log.obsolete(RegionId(region), EntryId(min(through, log.last_id())))
            model.obsolete(RegionId(region), EntryId(min(through, model.last_id())))
            told[region] = min(told[region], log.last_id())
        elif name == "sync":
            log.sync()
        elif argument:
            log.close()
            log = open_log(vfs, segment_size_bytes=segment_size_bytes)
        else:
            vfs = vfs.killed()
            log = open_log(vfs, segment_size_bytes=segment_size_bytes)

        expected = entries_of(model)
        found = entries_of(log)
        assert log.last_id() == model.last_id()
        assert {entry_id: found[entry_id] for entry_id in expected} == expected
        assert all(entry_id <= told.get(found[entry_id][0], 0) for entry_id in found.keys() - expected.keys())


def test_a_noop_log_counts_and_keeps_nothing():
    log = NoopLog(last_id=EntryId(7))

    assert log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"])]) == 9

    assert log.last_id() == 9
    assert list(log.read(RegionId(1), EntryId(0))) == []


def test_the_calls_are_the_ones_that_were_agreed_upon():
    traced = TraceVfs(MemoryVfs())
    lines = []

    def note(title):
        lines.append(f"# {title}\n{traced.render()}\n")
        traced.operations.clear()

    log = open_log(traced, segment_size_bytes=200)
    note("open an empty folder")
    log.append([(RegionId(1), [b"x" * 40])])
    note("first append")
    log.sync()
    note("sync, the segment's name is new")
    log.append([(RegionId(1), [b"x" * 60]), (RegionId(2), [b"y"])])
    log.sync()
    note("append two entries and sync")
    log.append([(RegionId(2), [b"z" * 20_000])])
    log.sync()
    note("append beyond the segment size and sync")
    log.obsolete(RegionId(1), EntryId(2))
    note("obsolete while another region needs the segment")
    log.obsolete(RegionId(2), EntryId(3))
    note("obsolete the first segment")
    log.obsolete(RegionId(2), EntryId(4))
    note("obsolete everything")
    log.append([(RegionId(1), [b"x"])])
    note("append after that")
    log.close()
    note("close with an entry not yet synced")
    log = open_log(traced, segment_size_bytes=200)
    note("open what was closed")
    list(log.read(RegionId(1), EntryId(0)))
    note("read one entry")
    log.append([(RegionId(1), [b"x"])])
    log.sync()
    note("append and sync after opening")
    log = open_log(traced, segment_size_bytes=200)
    note("open what was not closed")

    assert_golden(GOLDEN, "\n".join(line.rstrip("\n") + "\n" for line in lines))
