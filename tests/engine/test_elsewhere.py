"""Merges that a compactor carries out, and compactors that do not do what they should.

What becomes of requests, changes and stale plans is in test_compaction.py, whose tests run with one too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from builders import REGION, batch_of, create, metadata_of, open_engine, put, read, threads
from gates import Gate, Task

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.errors import BusyError, ClosedError, ConflictError, MitoError, UnavailableError
from mitoframe.model.file import FileMeta
from mitoframe.model.job import CompactionJob
from mitoframe.model.request import TruncateRequest
from mitoframe.ports import JobStatus
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.testing.compactors import InlineCompactor

METADATA = metadata_of()
HOUR = 3_600_000


class Counting(InlineCompactor):
    """Knows what it was asked."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.jobs: list[CompactionJob] = []
        self.cancelled: list[str] = []

    def submit(self, job):
        self.jobs.append(job)
        super().submit(job)

    def cancel(self, job_id):
        self.cancelled.append(job_id)
        super().cancel(job_id)

    def has_forgotten_all(self) -> bool:
        return self.cancelled == [job.job_id for job in self.jobs]


def started(compactor: InlineCompactor, store: MemoryObjectStore, **known) -> MitoEngine:
    engine = open_engine(store, compactor=compactor, **{"compaction_trigger_files": 100} | known)
    create(engine, METADATA, compaction_window_ms=HOUR)
    for cpu in (1, 2):
        engine.write(REGION, batch_of(METADATA, [put(0, 1, cpu=cpu), put(0, cpu * 10, cpu=cpu)]))
        engine.flush(REGION)
    return engine


def files(engine: MitoEngine) -> list[FileMeta]:
    return list(engine.region(REGION).state.files.values())


def stored(store: MemoryObjectStore) -> set[str]:
    return {item.key for item in store.list(sst_folder(REGION))}


def keys(engine: MitoEngine) -> set[str]:
    state = engine.region(REGION).state
    known = [*state.files, *(removed.file_id for removed in state.removed_files)]
    return {sst_key(REGION, file_id) for file_id in known}


def values(engine: MitoEngine) -> list[int]:
    return sorted(row[0] for row in read(engine, columns=("cpu",)))


def is_merged(engine: MitoEngine) -> bool:
    return [file.level for file in files(engine)] == [1] and values(engine) == [1, 2, 2]


def test_a_merge_is_carried_out_elsewhere_and_committed_here():
    store = MemoryObjectStore()
    compactor, told = Counting(store), []
    engine = started(compactor, store)

    result = engine.compact(REGION, told=told.append)

    assert is_merged(engine)
    assert (len(result.removed), result.merges, told[-1]) == (2, 1, 4)
    [job] = compactor.jobs
    assert {file.file_id for file in files(engine)} <= set(job.output_ids)
    assert compactor.has_forgotten_all()
    assert stored(store) == keys(engine)


@pytest.mark.parametrize("error", [BusyError("full"), UnavailableError("away"), ClosedError("closed")], ids=repr)
def test_what_is_not_taken_on_is_done_here(error):
    class Refusing(Counting):
        def submit(self, job):
            self.jobs.append(job)
            raise error

    store = MemoryObjectStore()
    compactor = Refusing(store)
    engine = started(compactor, store)

    engine.compact(REGION)

    assert is_merged(engine)
    assert stored(store) == keys(engine)
    assert len(compactor.jobs) == 1
    assert compactor.has_forgotten_all()
    assert engine.health().regions[0].failures == {}
    assert engine.compact(REGION).merges == 0


def test_a_job_that_was_taken_for_refused_and_is_done_late_changes_nothing():
    class Late(InlineCompactor):
        def submit(self, job):
            super().submit(job)
            self.job_id = job.job_id
            raise UnavailableError("the answer was lost")

        def cancel(self, job_id):
            pass

    clock = ManualClock(now_ms=10**12)
    store = MemoryObjectStore(clock)
    compactor = Late(store)
    engine = started(compactor, store, clock=clock, gc_grace_ms=1000, gc_unknown_grace_ms=1000)
    engine.compact(REGION)
    listed = files(engine)

    late = compactor.poll(compactor.job_id).files

    assert late is not None
    assert stored(store) - keys(engine) == {sst_key(REGION, file.file_id) for file in late}
    assert (files(engine), values(engine)) == (listed, [1, 2, 2])
    clock.advance(1001)
    engine.vacuum(REGION)
    assert stored(store) == {sst_key(REGION, file.file_id) for file in listed}


class Lying(Counting):
    """Carries the job out and says something else."""

    def __init__(self, store, tell: Callable[[JobStatus], JobStatus]) -> None:
        super().__init__(store)
        self._tell = tell

    def poll(self, job_id, timeout_ms=0):
        return self._tell(super().poll(job_id, timeout_ms))


@pytest.mark.parametrize(
    "tell",
    [
        lambda status: JobStatus(refusal="changed my mind"),
        lambda status: JobStatus(files=()),
        lambda status: JobStatus(files=(status.files or ()) * 2),
    ],
    ids=["refused", "nothing", "twice"],
)
def test_what_is_refused_or_answered_with_nonsense_is_done_here_and_nothing_is_left_of_it(tell):
    store = MemoryObjectStore()
    compactor = Lying(store, tell)
    engine = started(compactor, store)

    engine.compact(REGION)

    assert is_merged(engine)
    assert len(compactor.jobs) == 1
    assert stored(store) == keys(engine)


def test_a_file_that_went_before_it_was_committed_is_not_listed():
    store = MemoryObjectStore()

    def lose(status: JobStatus) -> JobStatus:
        for file in status.files or ():
            store.delete(sst_key(REGION, file.file_id))
        return status

    engine = started(Lying(store, lose), store)

    engine.compact(REGION)

    assert is_merged(engine)


def test_after_a_worker_vanished_everything_is_as_it_was_and_the_next_merge_is_carried_out_elsewhere():
    class Vanishing(Counting):
        def poll(self, job_id, timeout_ms=0):
            status = super().poll(job_id, timeout_ms)
            if len(self.jobs) == 1:
                raise UnavailableError("the worker is gone")
            return status

    store = MemoryObjectStore()
    compactor = Vanishing(store)
    engine = started(compactor, store)
    before = files(engine), stored(store)

    with pytest.raises(UnavailableError, match="the worker is gone"):
        engine.compact(REGION)

    assert (files(engine), stored(store)) == before
    assert isinstance(engine.health().regions[0].failures["compaction"], UnavailableError)
    engine.compact(REGION)
    assert is_merged(engine)
    assert len(compactor.jobs) == 2
    assert engine.health().regions[0].failures == {}


class Endless(Counting):
    """Stores what it is to store, and goes on for ever."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.gate = Gate()
        self.gate.close()

    def poll(self, job_id, timeout_ms=0):
        super().poll(job_id, timeout_ms)
        if not self.cancelled and not self.gate._open.is_set():
            self.gate._waiting.release()
            self.gate._open.wait(timeout_ms / 1000)
        return JobStatus(row_count=1)


CHANGES: dict[str, Callable[[MitoEngine], object]] = {
    "truncate": lambda engine: engine.truncate(REGION, TruncateRequest(what="all")),
    "drop": lambda engine: engine.drop(REGION),
    "close": lambda engine: engine.close_region(REGION, flush=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_nobody_wants_any_more_is_cancelled_and_deleted(change):
    store = MemoryObjectStore()
    compactor = Endless(store)
    engine = started(compactor, store, scheduler=threads())
    before = stored(store)
    merging = Task(lambda: engine.compact(REGION))
    compactor.gate.reached()

    CHANGES[change](engine)

    with pytest.raises(MitoError) as caught:
        merging.result()
    assert isinstance(caught.value, ConflictError | ClosedError)
    assert compactor.has_forgotten_all()
    engine.drain()
    assert stored(store) == before
    engine.close()


def test_what_was_refused_because_its_files_went_is_not_done_here():
    """Else they would be taken for damaged."""

    class Late(Counting):
        def poll(self, job_id, timeout_ms=0):
            engine.truncate(REGION, TruncateRequest(what="all"))
            engine.vacuum(REGION, grace_ms=0)
            return super().poll(job_id, timeout_ms)

    store = MemoryObjectStore()
    engine = started(Late(store), store, gc_grace_ms=0)

    with pytest.raises(ConflictError):
        engine.compact(REGION)

    assert stored(store) == set()
    assert engine.health().regions[0].failures == {}


def test_outputs_that_are_stored_and_not_committed_yet_are_not_collected():
    class Meanwhile(Counting):
        def poll(self, job_id, timeout_ms=0):
            status = super().poll(job_id, timeout_ms)
            engine.vacuum(REGION, grace_ms=0)
            return status

    store = MemoryObjectStore()
    compactor = Meanwhile(store)
    engine = started(compactor, store)

    engine.compact(REGION)

    assert is_merged(engine)
    assert {file.file_id for file in files(engine)} <= set(compactor.jobs[0].output_ids)


def test_the_memory_that_a_merge_takes_elsewhere_is_taken_from_the_same_budget():
    store = MemoryObjectStore()
    compactor = Endless(store)
    engine = started(compactor, store, scheduler=threads())
    merging = Task(lambda: engine.compact(REGION))
    compactor.gate.reached()

    assert engine._background.compactions._allowance.taken_bytes > 0

    engine.truncate(REGION, TruncateRequest(what="all"))
    with pytest.raises(ConflictError):
        merging.result()
    assert engine._background.compactions._allowance.taken_bytes == 0
    engine.close()
