"""Every built-in driver against the contract of its port."""

from __future__ import annotations

import pytest

from mitoframe.drivers.clock import ManualClock, SeededRandomness, SystemClock, SystemRandomness
from mitoframe.drivers.compactor_processes import ProcessCompactor
from mitoframe.drivers.log_file import SegmentLog
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.pins_file import FilePins
from mitoframe.drivers.pins_memory import MemoryPins
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.registry import merging_command
from mitoframe.testing.compactors import InlineCompactor
from mitoframe.testing.contracts import (
    ClockContract,
    CompactorContract,
    LogStoreContract,
    ObjectStoreContract,
    PinsContract,
    RandomnessContract,
    SchedulerContract,
    VfsContract,
)
from mitoframe.testing.vfs_faults import ErrorVfs, KillVfs, SlowVfs, TraceVfs
from mitoframe.testing.vfs_memory import MemoryVfs

STORE_ID = "0123456789abcdef" * 2


class TestOsVfs(VfsContract):
    @pytest.fixture
    def vfs(self, tmp_path):
        return OsVfs(tmp_path)


class TestMemoryVfs(VfsContract):
    @pytest.fixture
    def vfs(self):
        return MemoryVfs()


class TestWrappedVfs(VfsContract):
    @pytest.fixture
    def vfs(self):
        never_killed = KillVfs(MemoryVfs(), 0, lambda: pytest.fail("killed"))
        return TraceVfs(SlowVfs(ErrorVfs(never_killed, lambda number, operation: None), sync_ms=0.1))


class TestMemoryObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryObjectStore()


class TestLocalObjectStoreOnDisk(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalObjectStore(OsVfs(tmp_path))


class TestLocalObjectStoreInMemory(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        return LocalObjectStore(MemoryVfs())


class TestMemoryLog(LogStoreContract):
    @pytest.fixture
    def log(self):
        return MemoryLog()


class TestSegmentLogOnDisk(LogStoreContract):
    @pytest.fixture
    def log(self, tmp_path):
        with_log = SegmentLog(OsVfs(tmp_path), store_id=STORE_ID)
        yield with_log
        with_log.close()


class TestSegmentLogOfTinySegments(LogStoreContract):
    @pytest.fixture
    def log(self):
        return SegmentLog(MemoryVfs(), store_id=STORE_ID, segment_size_bytes=200)


class TestInlineScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self):
        return InlineScheduler()

    def pass_time(self, scheduler):
        scheduler.tick()


class TestThreadScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self):
        scheduler = ThreadScheduler({"a": 1, "b": 2})
        yield scheduler
        scheduler.close()


class TestMemoryPins(PinsContract):
    @pytest.fixture
    def join(self):
        first = MemoryPins()
        return lambda: MemoryPins(beside=first)


class TestFilePinsOnDisk(PinsContract):
    @pytest.fixture
    def join(self, tmp_path):
        return lambda: FilePins(OsVfs(tmp_path), "readers", SystemRandomness())


class TestFilePinsInMemory(PinsContract):
    @pytest.fixture
    def join(self):
        vfs = MemoryVfs()
        return lambda: FilePins(vfs, "readers", SystemRandomness())


class TestInlineCompactor(CompactorContract):
    @pytest.fixture
    def store(self):
        return MemoryObjectStore()

    @pytest.fixture
    def compactor(self, store):
        return InlineCompactor(store)

    @pytest.fixture
    def spare(self, store):
        return InlineCompactor(store)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def process_compactor(folder):
    compactor = ProcessCompactor(merging_command(folder))
    yield compactor
    compactor.close()


class TestProcessCompactor(CompactorContract):
    """One worker does the jobs of all tests."""

    @pytest.fixture
    def store(self, folder):
        return LocalObjectStore(OsVfs(folder))

    @pytest.fixture
    def compactor(self, process_compactor):
        return process_compactor

    @pytest.fixture
    def spare(self, folder):
        return ProcessCompactor(merging_command(folder))


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self):
        return SystemClock()


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self):
        return ManualClock()


class TestSystemRandomness(RandomnessContract):
    @pytest.fixture
    def randomness(self):
        return SystemRandomness()


class TestSeededRandomness(RandomnessContract):
    @pytest.fixture
    def randomness(self):
        return SeededRandomness(7)
