from __future__ import annotations

import time

import pytest
from builders import REGION, batch_of, create, metadata_of, open_engine, put, read, threads
from gates import PATIENCE_SECONDS, GatedLog, Task, wait_until

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.failpoints import watching
from mitoframe.model.errors import DiskFullError, PoisonedError, UnavailableError
from mitoframe.model.ids import EntryId, region_id
from mitoframe.storage.wal import Wal

METADATA = metadata_of()
OTHER = metadata_of(region=region_id(2, 0))


@pytest.fixture
def log() -> GatedLog:
    return GatedLog()


@pytest.fixture
def engine(log: GatedLog) -> MitoEngine:
    engine = open_engine(MemoryObjectStore(), log, scheduler=threads())
    create(engine, METADATA)
    create(engine, OTHER)
    return engine


def write(engine: MitoEngine, *times: int, metadata=METADATA) -> int:
    return engine.write(
        metadata.region_id, batch_of(metadata, [put(0, time, cpu=time) for time in times])
    ).first_sequence


def queued(engine: MitoEngine, log: GatedLog, *writes) -> tuple[Task, list[Task]]:
    """Hold one write at the log until the others are queued behind it; return both."""
    log.gate.close()
    first = Task(lambda: write(engine, 0))
    log.gate.reached()
    others = [Task(one) for one in writes]
    wait_until(lambda: len(engine._committer._queue) == len(writes))
    return first, others


# --- one writer -----------------------------------------------------------------------------------------


def test_rows_are_numbered_from_one_without_a_gap(engine):
    assert [write(engine, 1, 2), write(engine, 3), write(engine, 4, 5)] == [1, 3, 4]
    assert read(engine, columns=("__sequence",)) == [(1,), (2,), (3,), (4,), (5,)]


def test_each_region_has_numbers_of_its_own(engine):
    write(engine, 1, 2)

    assert write(engine, 1, metadata=OTHER) == 1
    assert write(engine, 3) == 3


def test_the_steps_are_log_memtable_publish_acknowledge(engine, log):
    steps = []

    def look(name: str) -> None:
        control = engine.region(REGION).control.current()
        steps.append((name, log.last_id(), log.syncs, control.version.mutable.stats.row_count, control.visible))

    with watching(look):
        write(engine, 1, 2)

    assert steps == [
        ("write.logged", 1, 1, 0, 0),
        ("write.inserted", 1, 1, 2, 0),
        ("write.published", 1, 1, 2, 2),
    ]


# --- several writers ------------------------------------------------------------------------------------


def test_writes_that_wait_are_committed_as_one_group_with_one_sync(engine, log):
    first, others = queued(engine, log, *(lambda n=n: write(engine, n, n + 10) for n in (1, 2, 3)))

    log.gate.open()

    assert first.result() == 1
    assert sorted(task.result() for task in others) == [2, 4, 6]
    assert (log.groups, log.syncs) == ([1, 3], 2)


def test_where_a_sync_is_slow_writers_that_come_back_are_waited_for(engine, log, monkeypatch):
    def work(number: int) -> None:
        for step in range(12):
            write(engine, 1000 * number + step)

    monkeypatch.setattr(log.gate, "wait", lambda: time.sleep(0.015))
    for task in [Task(lambda number=number: work(number)) for number in range(4)]:
        task.result()

    assert sum(log.groups) == 48
    assert log.syncs == len(log.groups) <= 19, "two writes per sync is what comes about where nobody waits"


def test_a_single_writer_waits_for_nobody_after_others_have_gone(engine, log, monkeypatch):
    monkeypatch.setattr(log.gate, "wait", lambda: time.sleep(0.015))
    for task in [Task(lambda number=number: write(engine, number)) for number in range(4)]:
        task.result()
    for number in range(3):
        write(engine, number)

    assert log.groups[-2:] == [1, 1]
    assert engine._committer._gathering.expected == 1


def test_a_row_is_visible_only_when_it_is_durable(engine, log):
    first, _ = queued(engine, log)

    assert read(engine) == []
    assert engine.region(REGION).control.current().version.mutable.is_empty()

    log.gate.open()
    first.result()
    assert len(read(engine)) == 1


def test_a_group_may_hold_writes_of_several_regions(engine, log):
    first, others = queued(
        engine,
        log,
        lambda: write(engine, 1),
        lambda: write(engine, 1, 2, metadata=OTHER),
        lambda: write(engine, 3, metadata=OTHER),
    )

    log.gate.open()
    first.result()

    mine, *theirs = [task.result() for task in others]
    assert mine == 2
    assert sorted(theirs) in ([1, 2], [1, 3])
    assert log.groups == [1, 3]
    assert len(read(engine, OTHER.region_id)) == 3


def test_sequences_follow_the_log_and_all_rows_are_there_once(engine, log):
    def work(number: int) -> None:
        for step in range(25):
            write(engine, *(1000 * number + 10 * step + n for n in range(1 + step % 3)))

    for task in [Task(lambda number=number: work(number)) for number in range(4)]:
        task.result()

    entries = list(Wal(log).replay(METADATA, EntryId(0)))
    numbers = [int(sequence) for write in entries for sequence in write.batch.sequences]
    logged = [int(time) for write in entries for time in write.batch.times]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(set(logged)) == len(logged) == 4 * sum(1 + step % 3 for step in range(25))
    assert sorted(row[0] for row in read(engine, columns=("cpu",))) == sorted(logged)
    assert log.syncs == len(log.groups)


# --- failures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["append_error", "sync_error"])
def test_a_log_that_fails_tells_every_waiter_and_nothing_becomes_visible(engine, log, broken):
    first, others = queued(engine, log, *(lambda n=n: write(engine, n) for n in (1, 2, 3)))
    error = UnavailableError("the disk is gone")
    first_error = error if broken == "sync_error" else None

    setattr(log, broken, error)
    log.gate.open()
    for task in [first, *others]:
        task.join(PATIENCE_SECONDS)

    assert first.error is first_error
    if broken == "append_error":
        assert [task.error for task in others] == [error] * 3
    else:
        assert all(isinstance(task.error, PoisonedError) and task.error.__cause__ is error for task in others)
    assert len(read(engine)) == (0 if first_error else 1)


def test_after_a_failure_of_unknown_outcome_the_region_takes_no_more_writes(engine, log):
    write(engine, 1)
    cause = UnavailableError("the disk is gone")
    log.sync_error = cause
    with pytest.raises(UnavailableError):
        write(engine, 2)
    log.sync_error = None

    with pytest.raises(PoisonedError) as caught:
        write(engine, 3)
    assert caught.value.__cause__ is cause
    assert [row[2] for row in read(engine)] == [1]
    assert write(engine, 1, metadata=OTHER) == 1


def test_a_poisoned_region_does_not_hold_up_the_others_of_its_group(engine, log):
    log.gate.close()
    first = Task(lambda: write(engine, 0, metadata=OTHER))
    log.gate.reached()
    mine = Task(lambda: write(engine, 1))
    theirs = Task(lambda: write(engine, 1, metadata=OTHER))
    wait_until(lambda: len(engine._committer._queue) == 2)

    engine.region(REGION).poison(UnavailableError("gone"))
    log.gate.open()
    first.result()

    assert theirs.result() == 2
    with pytest.raises(PoisonedError):
        mine.result()
    assert read(engine) == []


def test_a_full_disk_fails_the_write_and_leaves_everything_usable(engine, log):
    first, others = queued(engine, log, *(lambda n=n: write(engine, n) for n in (1, 2)))
    log.append_error = DiskFullError("no space left")
    log.gate.open()
    first.result()
    for task in others:
        with pytest.raises(DiskFullError):
            task.result()

    log.append_error = None

    assert write(engine, 5) == 2
    assert [row[2] for row in read(engine)] == [0, 5]


def test_what_interrupts_the_commit_itself_reaches_every_waiter_and_poisons(engine, log):
    first, others = queued(engine, log, *(lambda n=n: write(engine, n) for n in (1, 2, 3)))
    log.append_error = KeyboardInterrupt()

    log.gate.open()
    first.result()
    for task in others:
        task.join(PATIENCE_SECONDS)

    assert [type(task.error) for task in others] == [KeyboardInterrupt] * 3
    log.append_error = None
    with pytest.raises(PoisonedError):
        write(engine, 5)


def test_rows_that_were_published_before_an_interruption_are_acknowledged(engine, log):
    first, others = queued(engine, log, *(lambda n=n: write(engine, n) for n in (1, 2)))
    seen = []

    def interrupt(name: str) -> None:
        if name == "write.inserted":
            seen.append(name)
            if len(seen) == 3:
                raise KeyboardInterrupt

    with watching(interrupt):
        log.gate.open()
        first.result()
        for task in others:
            task.join(PATIENCE_SECONDS)

    failed = [task for task in others if task.error is not None]
    assert [type(task.error) for task in others].count(type(None)) + len(failed) == 2
    assert len(read(engine)) == 2


def test_nothing_is_written_while_a_change_needs_quiet(engine, log):
    log.gate.close()
    writer = Task(lambda: write(engine, 1))
    log.gate.reached()
    change = Task(lambda: engine._committer.quietly(lambda: engine.region(REGION).control.current().visible))

    time.sleep(0.02)
    assert change.is_alive()

    log.gate.open()
    writer.result()
    assert change.result() == 1
