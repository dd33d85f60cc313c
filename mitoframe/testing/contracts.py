"""What every implementation of a port must do, as tests to inherit.

Subclass, give the one fixture, and pytest runs the rest::

    class TestMyStore(ObjectStoreContract):
        @pytest.fixture
        def store(self) -> ObjectStore:
            return MyStore()

The contract of `MetaStore` is in `contracts_meta`. Only here and there does the package import pytest.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mitoframe.model.batch import Batch, OpType, fields_without_columns
from mitoframe.model.errors import ClosedError, CorruptionError, UnavailableError
from mitoframe.model.file import LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import EntryId, FileId, ManifestVersion, RegionId, region_id
from mitoframe.model.job import CompactionJob
from mitoframe.model.schema import build_metadata
from mitoframe.ports import (
    Bytes,
    Clock,
    Compactor,
    FileStat,
    JobStatus,
    LogStore,
    ObjectStore,
    Pins,
    Randomness,
    Scheduler,
    Vfs,
)
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

_BUFFERS: list[Bytes] = [
    b"abc",
    bytearray(b"abc"),
    memoryview(b"_abc_")[1:4],
    pa.py_buffer(b"abc"),
    np.frombuffer(b"abc", dtype=np.uint8),
]
_BUFFER_NAMES = ["bytes", "bytearray", "memoryview", "arrow", "numpy"]


class VfsContract:
    """Give a fixture ``vfs`` with an empty root."""

    @pytest.fixture
    def vfs(self) -> Vfs:
        raise NotImplementedError

    def test_a_new_file_is_empty_and_grows_at_its_end(self, vfs: Vfs) -> None:
        file = vfs.create("a")
        assert vfs.read("a") == b""

        file.write(b"one")
        file.write(b"two")
        file.close()

        assert vfs.read("a") == b"onetwo"
        assert vfs.stat("a").size_bytes == 6

    @pytest.mark.parametrize("data", _BUFFERS, ids=_BUFFER_NAMES)
    def test_whatever_has_the_buffer_protocol_can_be_written(self, vfs: Vfs, data: Bytes) -> None:
        file = vfs.create("a")
        file.write(data)
        file.close()

        assert vfs.read("a") == b"abc"

    def test_create_refuses_a_name_that_is_taken_and_leaves_the_file_alone(self, vfs: Vfs) -> None:
        _put(vfs, "a", b"old")

        with pytest.raises(FileExistsError):
            vfs.create("a")

        assert vfs.read("a") == b"old"

    def test_append_goes_on_where_the_file_ended(self, vfs: Vfs) -> None:
        _put(vfs, "a", b"one")

        file = vfs.append("a")
        file.write(b"two")
        file.sync()
        file.close()

        assert vfs.read("a") == b"onetwo"

    def test_truncate_cuts_and_writing_goes_on_at_the_cut(self, vfs: Vfs) -> None:
        file = vfs.create("a")
        file.write(b"abcdef")

        file.truncate(2)
        file.write(b"X")
        file.close()

        assert vfs.read("a") == b"abX"

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [(0, None, b"abcdef"), (2, None, b"cdef"), (2, 3, b"cde"), (4, 99, b"ef"), (99, 1, b""), (0, 0, b"")],
    )
    def test_read_returns_fewer_bytes_only_at_the_end(
        self, vfs: Vfs, start: int, length: int | None, expected: bytes
    ) -> None:
        _put(vfs, "a", b"abcdef")

        assert vfs.read("a", start, length) == expected
        if length is not None:
            assert vfs.read_ranges("a", [(start, length), (0, 2)]) == [expected, b"ab"]

    def test_reading_an_absurd_length_allocates_nothing(self, vfs: Vfs) -> None:
        _put(vfs, "a", b"abc")

        assert vfs.read("a", 1, 2**62) == b"bc"

    def test_what_is_missing_is_a_file_not_found_error(self, vfs: Vfs) -> None:
        calls: list[Callable[[], object]] = [
            lambda: vfs.append("a"),
            lambda: vfs.read("a"),
            lambda: vfs.read_ranges("a", [(0, 1)]),
            lambda: vfs.stat("a"),
            lambda: vfs.list("a"),
            lambda: vfs.unlink("a"),
            lambda: vfs.link("a", "b"),
            lambda: vfs.rename("a", "b"),
            lambda: vfs.sync_dir("a"),
            lambda: vfs.create("a/b"),
            lambda: vfs.lock("a/b"),
        ]
        for call in calls:
            with pytest.raises(FileNotFoundError):
                call()

    def test_list_gives_sorted_names_of_files_and_folders(self, vfs: Vfs) -> None:
        vfs.make_dirs("f/deep/deeper")
        _put(vfs, "f/b", b"")
        _put(vfs, "f/a", b"")

        assert vfs.list("f") == ["a", "b", "deep"]
        assert vfs.list("") == ["f"]

    def test_make_dirs_is_harmless_where_there_are_folders_and_refuses_a_file(self, vfs: Vfs) -> None:
        vfs.make_dirs("f/g")
        vfs.make_dirs("f/g")
        vfs.make_dirs("")
        _put(vfs, "f/file", b"")

        with pytest.raises(FileExistsError):
            vfs.make_dirs("f/file")
        with pytest.raises((FileExistsError, NotADirectoryError)):
            vfs.make_dirs("f/file/below")

    def test_folders_and_files_are_told_apart(self, vfs: Vfs) -> None:
        vfs.make_dirs("f")
        _put(vfs, "a", b"")

        with pytest.raises(IsADirectoryError):
            vfs.stat("f")
        with pytest.raises(NotADirectoryError):
            vfs.list("a")

    def test_link_gives_a_second_name_and_never_replaces(self, vfs: Vfs) -> None:
        _put(vfs, "a", b"one")
        _put(vfs, "taken", b"two")

        vfs.link("a", "b")
        with pytest.raises(FileExistsError):
            vfs.link("a", "taken")
        vfs.unlink("a")

        assert vfs.list("") == ["b", "taken"]
        assert (vfs.read("b"), vfs.read("taken")) == (b"one", b"two")

    def test_rename_replaces_also_across_folders(self, vfs: Vfs) -> None:
        vfs.make_dirs("f")
        _put(vfs, "a", b"new")
        _put(vfs, "f/b", b"old")

        vfs.rename("a", "f/b")

        assert vfs.list("") == ["f"]
        assert vfs.read("f/b") == b"new"

    def test_a_file_that_lost_its_name_can_still_be_written(self, vfs: Vfs) -> None:
        file = vfs.create("a")

        vfs.unlink("a")
        file.write(b"x")
        file.sync()
        file.close()

        assert vfs.list("") == []

    def test_closing_twice_is_harmless_and_a_closed_file_takes_nothing(self, vfs: Vfs) -> None:
        file = vfs.create("a")
        file.close()
        file.close()

        with pytest.raises(OSError, match="file descriptor"):
            file.write(b"x")

    def test_a_lock_has_one_holder_until_it_is_released(self, vfs: Vfs) -> None:
        lock = vfs.lock("lock")
        with pytest.raises(BlockingIOError):
            vfs.lock("lock")

        lock.release()
        lock.release()

        vfs.lock("lock").release()

    @pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../x", "a//x", "./a", "a\0", "a\\b", "", "c:x", "a/"])
    def test_a_path_that_could_leave_the_root_is_a_programmers_mistake(self, vfs: Vfs, path: str) -> None:
        with pytest.raises(AssertionError):
            vfs.create(path)

    def test_sync_dir_and_boot_id_answer(self, vfs: Vfs) -> None:
        vfs.sync_dir("")

        assert vfs.boot_id() == vfs.boot_id()
        assert isinstance(vfs.root, str)

    def test_stat_says_when_a_file_changed(self, vfs: Vfs) -> None:
        _put(vfs, "a", b"abc")

        found = vfs.stat("a")

        assert found == FileStat(size_bytes=3, modified_ms=found.modified_ms)
        assert found.modified_ms > 0


class ObjectStoreContract:
    """Give a fixture ``store`` with nothing in it."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        raise NotImplementedError

    @pytest.mark.parametrize("data", _BUFFERS, ids=_BUFFER_NAMES)
    def test_what_was_put_can_be_got(self, store: ObjectStore, data: Bytes) -> None:
        store.put_if_absent("a/b/c.bin", data)

        assert store.get("a/b/c.bin") == b"abc"
        assert store.head("a/b/c.bin").size_bytes == 3

    @pytest.mark.parametrize("data", _BUFFERS, ids=_BUFFER_NAMES)
    def test_an_object_may_come_in_parts(self, store: ObjectStore, data: Bytes) -> None:
        store.put_parts_if_absent("a/whole", [b"", data, b"de", data])
        store.put_parts_if_absent("a/empty", [])

        assert store.get("a/whole") == b"abcdeabc"
        assert store.get("a/empty") == b""

    def test_a_part_may_lie_where_the_one_before_lay(self, store: ObjectStore) -> None:
        memory = bytearray(3)

        def parts() -> Iterator[Bytes]:
            for text in (b"abc", b"def"):
                memory[:] = text
                yield memory

        store.put_parts_if_absent("k", parts())

        assert store.get("k") == b"abcdef"

    @pytest.mark.parametrize("error", [OSError("not of the store"), ValueError("nor this"), KeyboardInterrupt()])
    def test_parts_that_cannot_be_made_store_nothing(self, store: ObjectStore, error: BaseException) -> None:
        def parts() -> Iterator[Bytes]:
            yield b"abc"
            raise error

        with pytest.raises(type(error)) as caught:
            store.put_parts_if_absent("k", parts())

        assert caught.value is error
        assert store.list("") == []
        store.put_if_absent("k", b"later")

    def test_parts_do_not_replace_an_object(self, store: ObjectStore) -> None:
        store.put_if_absent("k", b"first")

        with pytest.raises(FileExistsError):
            store.put_parts_if_absent("k", [b"sec", b"ond"])

        assert store.get("k") == b"first"

    def test_the_caller_may_reuse_its_buffer(self, store: ObjectStore) -> None:
        data = bytearray(b"abc")
        store.put_if_absent("k", data)

        data[:] = b"xyz"

        assert store.get("k") == b"abc"

    def test_a_key_is_written_once(self, store: ObjectStore) -> None:
        store.put_if_absent("k", b"first")

        with pytest.raises(FileExistsError):
            store.put_if_absent("k", b"second")

        assert store.get("k") == b"first"
        assert [meta.key for meta in store.list("")] == ["k"]

    def test_of_many_threads_one_wins(self, store: ObjectStore) -> None:
        won: list[int] = []

        def put(number: int) -> None:
            try:
                store.put_if_absent("f/k", str(number).encode())
            except FileExistsError:
                return
            won.append(number)

        threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(won) == 1
        assert store.get("f/k") == str(won[0]).encode()

    def test_a_range_is_exact_or_corruption(self, store: ObjectStore) -> None:
        store.put_if_absent("k", b"abcdef")

        assert store.get_range("k", 2, 3) == b"cde"
        assert store.get_range("k", 6, 0) == b""
        assert store.get_ranges("k", [(4, 2), (0, 1), (6, 0), (0, 6)]) == [b"ef", b"a", b"", b"abcdef"]
        assert store.get_ranges("k", []) == []
        with pytest.raises(CorruptionError, match="too short"):
            store.get_ranges("k", [(0, 1), (4, 3)])
        with pytest.raises(CorruptionError, match="too short"):
            store.get_range("k", 4, 3)

    def test_a_missing_key_is_a_file_not_found_error_and_deleting_it_is_not(self, store: ObjectStore) -> None:
        ranges: list[Callable[[str], object]] = [
            lambda key: store.get_range(key, 0, 1),
            lambda key: store.get_ranges(key, [(0, 1)]),
        ]
        for call in (store.get, store.head, *ranges):
            with pytest.raises(FileNotFoundError):
                call("f/none")

        store.delete("f/none")

    def test_a_folder_can_be_synced_whether_or_not_it_is_there(self, store: ObjectStore) -> None:
        store.put_if_absent("f/a", b"")
        store.delete("f/a")

        store.sync("f")
        store.sync("nowhere")

        assert store.list("f") == []

    def test_a_deleted_object_is_gone(self, store: ObjectStore) -> None:
        store.put_if_absent("k", b"x")

        store.delete("k")

        assert store.list("") == []
        with pytest.raises(FileNotFoundError):
            store.get("k")

    def test_list_gives_only_what_is_directly_in_the_folder_sorted(self, store: ObjectStore) -> None:
        for key in ("f/b", "f/a", "f/deep/c", "fa/d", "top"):
            store.put_if_absent(key, key.encode())

        assert [(meta.key, meta.size_bytes) for meta in store.list("f")] == [("f/a", 3), ("f/b", 3)]
        assert [meta.key for meta in store.list("")] == ["top"]
        assert store.list("nowhere") == []

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put_if_absent("k", b"")

        assert store.get("k") == b""
        assert store.head("k").size_bytes == 0


class LogStoreContract:
    """Give a fixture ``log`` with nothing in it."""

    @pytest.fixture
    def log(self) -> LogStore:
        raise NotImplementedError

    def test_ids_are_contiguous_from_one_over_all_regions(self, log: LogStore) -> None:
        assert log.last_id() == 0

        assert log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"])]) == 2
        assert log.append([(RegionId(1), [b"c"])]) == 3

        assert log.last_id() == 3

    def test_a_region_reads_its_own_entries_in_order_from_anywhere(self, log: LogStore) -> None:
        log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"]), (RegionId(1), [b""])])
        log.append([(RegionId(1), [b"d"])])

        assert _log_entries(log, 1) == [(1, b"a"), (3, b""), (4, b"d")]
        assert _log_entries(log, 1, after=1) == [(3, b""), (4, b"d")]
        assert _log_entries(log, 1, after=2) == [(3, b""), (4, b"d")]
        assert _log_entries(log, 2) == [(2, b"b")]
        assert _log_entries(log, 3) == []

    @pytest.mark.parametrize("data", _BUFFERS, ids=_BUFFER_NAMES)
    def test_whatever_has_the_buffer_protocol_can_be_appended(self, log: LogStore, data: Bytes) -> None:
        log.append([(RegionId(1), [data])])
        log.sync()

        assert _log_entries(log, 1) == [(1, b"abc")]

    def test_a_payload_may_come_in_parts(self, log: LogStore) -> None:
        log.append([(RegionId(1), [b"a", memoryview(b"bc"), b"", b"d"]), (RegionId(1), [])])

        assert _log_entries(log, 1) == [(1, b"abcd"), (2, b"")]

    def test_the_caller_may_reuse_its_buffer(self, log: LogStore) -> None:
        data = bytearray(b"abc")
        log.append([(RegionId(1), [data])])

        data[:] = b"xyz"

        assert _log_entries(log, 1) == [(1, b"abc")]

    def test_obsolete_entries_are_forgotten_for_that_region_alone(self, log: LogStore) -> None:
        log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"]), (RegionId(1), [b"c"])])

        log.obsolete(RegionId(1), EntryId(2))

        assert _log_entries(log, 1) == [(3, b"c")]
        assert _log_entries(log, 2) == [(2, b"b")]

    def test_a_region_is_told_of_as_long_as_there_are_entries_of_it(self, log: LogStore) -> None:
        assert log.regions() == frozenset()

        log.append([(RegionId(1), [b"a"]), (RegionId(2), [b"b"]), (RegionId(1), [b"c"])])
        log.obsolete(RegionId(1), EntryId(2))
        log.obsolete(RegionId(2), EntryId(2))

        assert log.regions() == {1}

    def test_forgetting_everything_does_not_turn_the_ids_back(self, log: LogStore) -> None:
        log.append([(RegionId(1), [bytes(100_000)])])

        log.obsolete(RegionId(1), EntryId(1))
        log.obsolete(RegionId(1), EntryId(1))
        log.obsolete(RegionId(9), EntryId(1))

        assert log.last_id() == 1
        assert log.append([(RegionId(1), [b"b"])]) == 2
        assert _log_entries(log, 1) == [(2, b"b")]

    def test_sync_and_refresh_may_be_called_at_any_time(self, log: LogStore) -> None:
        log.sync()
        log.append([(RegionId(1), [b"a"])])
        log.sync()
        log.sync()
        log.refresh()

        assert _log_entries(log, 1) == [(1, b"a")]
        assert log.damage is None

    def test_a_closed_log_takes_and_gives_nothing(self, log: LogStore) -> None:
        log.append([(RegionId(1), [b"a"])])

        log.close()
        log.close()

        for call in (lambda: log.append([(RegionId(1), [b"b"])]), log.sync, lambda: log.read(RegionId(1), EntryId(0))):
            with pytest.raises(ClosedError):
                call()

    def test_threads_get_ids_of_their_own(self, log: LogStore) -> None:
        def append_some(region: int) -> None:
            for number in range(20):
                log.append([(RegionId(region), [f"{region}/{number}".encode()])])
                log.sync()

        threads = [threading.Thread(target=append_some, args=(region,)) for region in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        entries = [_log_entries(log, region) for region in range(1, 5)]
        assert sorted(entry_id for of_one in entries for entry_id, _ in of_one) == list(range(1, 81))
        for region, of_one in enumerate(entries, start=1):
            assert [payload for _, payload in of_one] == [f"{region}/{number}".encode() for number in range(20)]


class SchedulerContract:
    """Give a fixture ``scheduler`` with the lanes "a" and "b"; say how time passes, if it does not by itself."""

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        raise NotImplementedError

    def pass_time(self, scheduler: Scheduler) -> None:  # noqa: ARG002 - for those whose time does not pass by itself
        """Let a few milliseconds pass."""
        time.sleep(0.005)

    def test_a_job_runs_and_its_future_ends(self, scheduler: Scheduler) -> None:
        ran: list[str] = []

        future = scheduler.submit("a", lambda: ran.append("job"))

        assert future.result(timeout=10) is None
        assert ran == ["job"]

    def test_an_exception_ends_in_the_future_and_harms_no_other_job(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise ValueError("broken")

        failed = scheduler.submit("a", fail)
        after = scheduler.submit("a", lambda: None)

        assert isinstance(failed.exception(timeout=10), ValueError)
        assert after.exception(timeout=10) is None

    def test_drain_waits_for_jobs_that_jobs_submitted(self, scheduler: Scheduler) -> None:
        ran: list[int] = []

        def descend(depth: int) -> None:
            if depth:
                scheduler.submit("b" if depth % 2 else "a", lambda: descend(depth - 1))
            ran.append(depth)

        scheduler.submit("a", lambda: descend(20))
        scheduler.drain()

        assert sorted(ran) == list(range(21))

    def test_close_finishes_the_jobs_and_takes_no_more(self, scheduler: Scheduler) -> None:
        ran: list[int] = []
        for number in range(50):
            scheduler.submit("a", lambda number=number: ran.append(number))  # type: ignore[misc]

        scheduler.close()
        scheduler.close()

        assert ran == list(range(50))
        with pytest.raises(ClosedError):
            scheduler.submit("a", lambda: None)

    def test_drain_with_nothing_to_do_returns(self, scheduler: Scheduler) -> None:
        scheduler.drain()

    def test_health_tells_what_became_of_the_jobs_of_each_lane(self, scheduler: Scheduler) -> None:
        error = ValueError("broken")

        def fail() -> None:
            raise error

        for job in (lambda: None, fail, lambda: None):
            scheduler.submit("a", job)
        scheduler.submit("b", lambda: None)
        scheduler.drain()

        a, b = scheduler.health()
        assert (a.lane, a.running, a.waiting, a.finished, a.failed, a.last_error) == ("a", 0, 0, 3, 1, error)
        assert (b.lane, b.running, b.waiting, b.finished, b.failed, b.last_error) == ("b", 0, 0, 1, 0, None)
        assert a.alive == a.threads

    def test_health_sees_a_job_under_way_and_no_longer_when_its_future_has_ended(self, scheduler: Scheduler) -> None:
        during = scheduler.submit("a", scheduler.health).result(timeout=10)
        after = scheduler.health()

        assert [(health.running, health.finished) for health in during if health.lane == "a"] == [(1, 0)]
        assert [(health.running, health.finished) for health in after if health.lane == "a"] == [(0, 1)]

    def test_a_periodic_job_runs_again_and_again_until_it_is_stopped(self, scheduler: Scheduler) -> None:
        ran: list[str] = []

        stop = scheduler.every(1, "a", lambda: ran.append("run"))
        self._until(scheduler, lambda: len(ran) >= 3)
        stop()
        stop()
        scheduler.drain()
        before = len(ran)
        self.pass_time(scheduler)

        assert len(ran) == before

    def test_a_periodic_job_that_fails_is_told_and_runs_again(self, scheduler: Scheduler) -> None:
        ran: list[ValueError] = []

        def fail() -> None:
            ran.append(ValueError(len(ran)))
            raise ran[-1]

        stop = scheduler.every(1, "a", fail)
        self._until(scheduler, lambda: len(ran) >= 2)
        stop()
        scheduler.drain()

        [health] = [health for health in scheduler.health() if health.lane == "a"]
        assert (health.finished, health.failed, health.last_error) == (len(ran), len(ran), ran[-1])

    def test_closing_stops_periodic_jobs(self, scheduler: Scheduler) -> None:
        ran: list[str] = []
        scheduler.every(1, "a", lambda: ran.append("run"))
        self.pass_time(scheduler)

        scheduler.close()
        before = len(ran)
        self.pass_time(scheduler)

        assert len(ran) == before
        with pytest.raises(ClosedError):
            scheduler.every(1, "a", lambda: None)

    def _until(self, scheduler: Scheduler, condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            self.pass_time(scheduler)
        pytest.fail("it never came true")


class PinsContract:
    """Give a fixture ``join``: each call is another process that has the same store open."""

    @pytest.fixture
    def join(self) -> Callable[[], Pins]:
        raise NotImplementedError

    def test_at_first_nobody_reads_anything(self, join: Callable[[], Pins]) -> None:
        held = join().held()

        assert (dict(held.oldest), held.is_partial, held.of(RegionId(1))) == ({}, False, None)

    def test_others_hear_what_is_held_as_often_as_they_ask(self, join: Callable[[], Pins]) -> None:
        writer, reader = join(), join()

        assert reader.hold(_versions({1: 5, 2**40: 0}))

        for _ in range(3):
            held = writer.held()
            assert (dict(held.oldest), held.is_partial) == ({1: 5, 2**40: 0}, False)
        assert (held.of(RegionId(1)), held.of(RegionId(3))) == (5, None)
        assert reader.held() == held

    def test_what_is_said_takes_the_place_of_what_was_said(self, join: Callable[[], Pins]) -> None:
        writer, reader = join(), join()
        reader.hold(_versions({1: 5, 2: 6}))

        reader.hold(_versions({2: 4}))
        assert writer.held().oldest == {2: 4}
        reader.hold({})
        assert writer.held().oldest == {}
        assert reader.hold(_versions({1: 7}))
        assert writer.held().oldest == {1: 7}

    def test_of_several_readers_the_oldest_version_counts(self, join: Callable[[], Pins]) -> None:
        writer, first, second = join(), join(), join()

        first.hold(_versions({1: 5, 2: 1}))
        second.hold(_versions({1: 3, 3: 9}))

        assert writer.held().oldest == {1: 3, 2: 1, 3: 9}

    def test_who_has_closed_holds_nothing_any_more(self, join: Callable[[], Pins]) -> None:
        writer, first, second = join(), join(), join()
        first.hold(_versions({1: 5}))
        second.hold(_versions({1: 6}))

        first.close()
        first.close()

        assert writer.held().oldest == {1: 6}
        assert not first.hold(_versions({1: 1}))
        assert writer.held().oldest == {1: 6}

    def test_who_holds_nothing_can_close(self, join: Callable[[], Pins]) -> None:
        writer = join()
        join().close()

        assert writer.held().oldest == {}

    def test_who_reads_what_is_told(self, join: Callable[[], Pins]) -> None:
        writer, first, second = join(), join(), join()
        first.hold(_versions({1: 5}))
        second.hold(_versions({1: 3, 2: 9}))

        readers = writer.readers()

        told = [sorted(reader.held.oldest.items()) for reader in readers]
        assert sorted(told) == [[(1, 3), (2, 9)], [(1, 5)]]
        assert {(reader.process_id, reader.host, reader.is_dead) for reader in readers} == {
            (os.getpid(), socket.gethostname(), False)
        }
        assert len({reader.identifier for reader in readers}) == 2

    def test_only_the_dead_are_forgotten(self, join: Callable[[], Pins]) -> None:
        writer, reader = join(), join()
        reader.hold(_versions({1: 5}))
        [told] = writer.readers()

        assert not writer.forget(told.identifier)
        assert writer.held().oldest == {1: 5}

        reader.close()
        assert writer.forget(told.identifier)
        assert list(writer.readers()) == []

    def test_threads_of_a_reader_may_speak_at_once(self, join: Callable[[], Pins]) -> None:
        writer, reader = join(), join()
        threads = [
            threading.Thread(target=reader.hold, args=(_versions({1: number, 2: number}),)) for number in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        held = writer.held()
        assert held.of(RegionId(1)) == held.of(RegionId(2)) is not None


class CompactorContract:
    """Give fixtures ``store``, ``compactor``, which merges files of that store, and ``spare``, another, to be closed.

    They may be shared by all tests of the class.
    """

    @pytest.fixture
    def store(self) -> ObjectStore:
        raise NotImplementedError

    @pytest.fixture
    def compactor(self, store: ObjectStore) -> Compactor:
        raise NotImplementedError

    @pytest.fixture
    def spare(self, store: ObjectStore) -> Compactor:
        raise NotImplementedError

    def test_a_job_ends_with_files_of_the_names_it_gives_that_hold_the_newest_rows(
        self, store: ObjectStore, compactor: Compactor
    ) -> None:
        job = _job(store, "a")
        inputs = [store.get(sst_key(_MERGED.region_id, file.file_id)) for file in job.inputs]

        compactor.submit(job)
        status = _ended(compactor, job)

        assert status.refusal is None
        assert status.files is not None
        [file] = status.files
        rows = SstReader(store).read(_MERGED, file, range(file.row_group_count), ["cpu"])
        assert file.file_id in job.output_ids
        assert (rows.times.tolist(), rows.fields.column(0).to_pylist()) == ([0, 1, 2], [1, 11, 12])
        assert rows.sequences.tolist() == [1, 11, 12]
        assert [store.get(sst_key(_MERGED.region_id, file.file_id)) for file in job.inputs] == inputs
        compactor.cancel(job.job_id)

    def test_what_a_job_came_to_is_told_until_it_is_forgotten(self, store: ObjectStore, compactor: Compactor) -> None:
        job = _job(store, "b")
        compactor.submit(job)
        status = _ended(compactor, job)
        before = store.list(sst_folder(_MERGED.region_id))

        assert compactor.poll(job.job_id) == status
        compactor.cancel(job.job_id)

        with pytest.raises(UnavailableError):
            compactor.poll(job.job_id)
        assert store.list(sst_folder(_MERGED.region_id)) == before

    def test_what_cannot_be_done_is_refused_and_nothing_is_left_of_it(
        self, store: ObjectStore, compactor: Compactor
    ) -> None:
        job = _job(store, "c")
        store.delete(sst_key(_MERGED.region_id, job.inputs[1].file_id))
        before = store.list(sst_folder(_MERGED.region_id))

        compactor.submit(job)
        status = _ended(compactor, job)

        assert (status.files, job.inputs[1].file_id in str(status.refusal)) == (None, True)
        assert store.list(sst_folder(_MERGED.region_id)) == before
        compactor.cancel(job.job_id)

    def test_a_job_with_too_few_names_is_refused(self, store: ObjectStore, compactor: Compactor) -> None:
        job = replace(_job(store, "d"), output_ids=())
        before = store.list(sst_folder(_MERGED.region_id))

        compactor.submit(job)

        assert _ended(compactor, job).refusal is not None
        assert store.list(sst_folder(_MERGED.region_id)) == before
        compactor.cancel(job.job_id)

    def test_a_cancelled_job_stores_nothing_more_and_the_next_is_done(
        self, store: ObjectStore, compactor: Compactor
    ) -> None:
        job, following = _job(store, "e"), _job(store, "f")

        compactor.submit(job)
        compactor.cancel(job.job_id)
        before = store.list(sst_folder(_MERGED.region_id))
        compactor.submit(following)
        status = _ended(compactor, following)

        assert status.files is not None
        after = {item.key for item in store.list(sst_folder(_MERGED.region_id))}
        made = {sst_key(_MERGED.region_id, file.file_id) for file in status.files}
        assert after - {item.key for item in before} == made
        compactor.cancel(following.job_id)

    def test_cancelling_what_is_not_known_is_harmless(self, compactor: Compactor) -> None:
        compactor.cancel("0" * 32)

    def test_a_closed_one_takes_no_jobs_and_closing_it_again_is_harmless(
        self, store: ObjectStore, spare: Compactor
    ) -> None:
        spare.close()
        spare.close()

        with pytest.raises(ClosedError):
            spare.submit(_job(store, "9"))


_MERGED = build_metadata(region_id(1, 0), pa.schema([("ts", pa.timestamp("ms")), ("cpu", pa.int64())]), time="ts")


def _job(store: ObjectStore, name: str) -> CompactionJob:
    """Store two files, and return the job to merge them. ``name`` is a digit of its own for each test."""
    return CompactionJob(
        job_id=name * 32,
        metadata=_MERGED,
        inputs=(_sst(store, name * 31 + "0", 1, [0, 1]), _sst(store, name * 31 + "1", 11, [1, 2])),
        output_ids=(FileId(name * 31 + "2"), FileId(name * 31 + "3")),
        dedup="last",
        drop_deletes=False,
        row_group_rows=100,
        now_ms=1,
    )


def _sst(store: ObjectStore, file_id: str, first: int, times: list[int]) -> FileMeta:
    numbers = np.arange(first, first + len(times))
    batch = Batch(
        series=fields_without_columns(1),
        codes=np.zeros(len(times), dtype=np.int32),
        times=np.array(times, dtype=np.int64),
        sequences=numbers.astype(np.uint64),
        op_types=np.full(len(times), OpType.PUT, dtype=np.uint8),
        fields=pa.RecordBatch.from_arrays([pa.array(numbers)], names=["cpu"]),
    )
    return write_sst(
        store, _MERGED, batch, file_id=FileId(file_id), level=LEVEL_FLUSHED, row_group_rows=100, created_ms=0
    )


def _ended(compactor: Compactor, job: CompactionJob) -> JobStatus:
    for _ in range(600):
        status = compactor.poll(job.job_id, 100)
        if status.is_ended:
            return status
    pytest.fail("the job did not end")


class ClockContract:
    """Give a fixture ``clock``."""

    @pytest.fixture
    def clock(self) -> Clock:
        raise NotImplementedError

    def test_the_wall_clock_counts_whole_milliseconds(self, clock: Clock) -> None:
        assert isinstance(clock.now_ms(), int)

    def test_monotonic_time_never_goes_backwards(self, clock: Clock) -> None:
        readings = [clock.monotonic() for _ in range(100)]

        assert readings == sorted(readings)


class RandomnessContract:
    """Give a fixture ``randomness``."""

    @pytest.fixture
    def randomness(self) -> Randomness:
        raise NotImplementedError

    def test_values_are_32_lower_case_hexadecimal_digits_and_differ(self, randomness: Randomness) -> None:
        values = [randomness.hex128() for _ in range(100)]

        assert len(set(values)) == 100
        assert all(len(value) == 32 and set(value) <= set("0123456789abcdef") for value in values)


def _put(vfs: Vfs, path: str, data: bytes) -> None:
    file = vfs.create(path)
    file.write(data)
    file.close()


def _versions(oldest: dict[int, int]) -> dict[RegionId, ManifestVersion]:
    return {RegionId(region): ManifestVersion(version) for region, version in oldest.items()}


def _log_entries(log: LogStore, region: int, after: int = 0) -> list[tuple[int, bytes]]:
    return [(entry.entry_id, entry.payload) for entry in log.read(RegionId(region), EntryId(after))]
