from __future__ import annotations

import logging

import pytest
from builders import GOLDEN, REGION, batch_of, create, file_id_of, file_of, metadata_of, open_engine, put, read
from tracing import TracingHook, TracingLog, TracingStore

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.failpoints import watching
from mitoframe.model.edit import Change, FileEdit
from mitoframe.model.errors import (
    ConflictError,
    DiskFullError,
    PoisonedError,
    UnavailableError,
    UnknownOutcomeError,
)
from mitoframe.model.ids import EntryId, Sequence
from mitoframe.model.options import MitoConfig, RegionOptions
from mitoframe.region.hooks import Hooks
from mitoframe.region.recovery import create_region, open_region
from mitoframe.region.region import Region
from mitoframe.storage.manifest import load
from mitoframe.storage.wal import Wal
from mitoframe.testing.golden import assert_golden

METADATA = metadata_of()
A, B = file_of("a", 0, 9), file_of("b", 0, 9)


class FailingStore(MemoryObjectStore):
    """Raises the error it holds, before or after it stored something."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.key_part = ""

    def put_if_absent(self, key, data):
        if self.error is not None and self.key_part in key:
            raise self.error
        super().put_if_absent(key, data)


def region_in(store, log=None, hooks=(), distance: int = 10) -> Region:
    first = Change(metadata=METADATA, options=RegionOptions())
    return create_region(
        store,
        SeededRandomness(0),
        Wal(log or MemoryLog()),
        Hooks(hooks),
        first,
        MitoConfig(checkpoint_distance=distance),
    )


def fill(region: Region, *sequences: int) -> None:
    """Give the region rows, as the commit leader does."""
    for sequence in sequences:
        region.control.current().version.mutable.insert(batch_of(METADATA, [put(sequence, 1)]), EntryId(sequence))
        region.control.publish(Sequence(sequence), EntryId(sequence))


# --- order ----------------------------------------------------------------------------------------------


def test_the_order_of_effects_is_file_manifest_version_hook_log():
    trace: list[str] = []
    store, log, hook = TracingStore(trace), TracingLog(trace), TracingHook(trace)
    engine = open_engine(store, log, hooks=[hook], checkpoint_distance=3, gc_grace_ms=0)
    heading = trace.append

    def seen(name: str) -> None:
        version = engine.region(REGION).control.current().version if name.startswith("edit.") else None
        known = f": readers see {len(version.state.files)} files" if version else ""
        heading(f"point   {name}{known}")

    heading("# create")
    create(engine, METADATA)
    with watching(seen):
        for number in range(2):
            heading(f"# write {number + 1}")
            engine.write(REGION, batch_of(METADATA, [put(0, 5, cpu=number), put(0, 7, "b")]))
            heading(f"# flush {number + 1}")
            engine.flush(REGION)
        heading("# compact")
        engine.compact(REGION)

    assert_golden(GOLDEN / "order_of_effects.txt", "\n".join(trace) + "\n")


# --- edits ----------------------------------------------------------------------------------------------


def test_an_edit_is_durable_and_visible_when_it_returns():
    store = MemoryObjectStore()
    region = region_in(store)

    version = region.commit_edit(FileEdit(added=(A,)))

    assert version is region.control.current().version
    assert set(version.state.files) == set(load(store, REGION).state.files) == {A.file_id}
    assert version.manifest_version == load(store, REGION).version == 1


def test_an_edit_that_does_not_fit_leaves_the_region_usable():
    region = region_in(MemoryObjectStore())

    with pytest.raises(ConflictError):
        region.commit_edit(FileEdit(removed=(file_id_of("f"),)))

    region.commit_edit(FileEdit(added=(A,)))
    assert set(region.control.current().version.state.files) == {A.file_id}


def test_a_full_disk_leaves_the_region_usable():
    store = FailingStore()
    region = region_in(store)

    store.error = DiskFullError("no space left")
    with pytest.raises(DiskFullError):
        region.commit_edit(FileEdit(added=(A,)))
    store.error = None

    region.check_writable()
    region.commit_edit(FileEdit(added=(B,)))
    assert set(region.control.current().version.state.files) == {B.file_id}


@pytest.mark.parametrize(
    "error", [UnavailableError("no answer"), UnknownOutcomeError("timed out"), KeyboardInterrupt()], ids=repr
)
def test_an_edit_of_unknown_fate_poisons_the_region_with_its_first_cause(error):
    store = FailingStore()
    region = region_in(store)

    store.error = error
    with pytest.raises(type(error)):
        region.commit_edit(FileEdit(added=(A,)))
    store.error = None

    for _ in range(2):
        with pytest.raises(PoisonedError, match="close the store and open it again") as caught:
            region.commit_edit(FileEdit(added=(B,)))
        assert caught.value.__cause__ is error
    assert dict(region.control.current().version.state.files) == {}


def test_an_edit_that_is_durable_and_not_visible_is_not_built_upon():
    region = region_in(MemoryObjectStore())
    cause = KeyboardInterrupt()

    def interrupt(name: str) -> None:
        if name == "edit.logged":
            raise cause

    with watching(interrupt), pytest.raises(KeyboardInterrupt):
        region.commit_edit(FileEdit(added=(A,)))

    with pytest.raises(PoisonedError) as caught:
        region.commit_edit(FileEdit(added=(B,)))
    assert caught.value.__cause__ is cause


def test_the_first_cause_is_the_one_that_is_told():
    region = region_in(MemoryObjectStore())
    first = UnavailableError("first")

    region.poison(first)
    region.poison(UnavailableError("second"))

    with pytest.raises(PoisonedError) as caught:
        region.check_writable()
    assert caught.value.__cause__ is first


def test_a_checkpoint_that_fails_does_not_undo_the_edit_and_is_tried_again(caplog):
    store = FailingStore()
    region = region_in(store, distance=2)

    store.error, store.key_part = DiskFullError("no space left"), "checkpoint"
    with caplog.at_level(logging.WARNING, "mitoframe"):
        region.commit_edit(FileEdit(added=(A,)))
    store.error = None
    region.commit_edit(FileEdit(added=(B,)))

    assert "checkpoint failed" in caplog.text
    assert load(store, REGION).checkpoints == (2,)
    assert set(load(store, REGION).state.files) == {A.file_id, B.file_id}


class LogThatForgetsNothing(MemoryLog):
    def obsolete(self, region_id, through):
        raise UnavailableError("removing wal/1: Input/output error")


def test_a_log_that_cannot_forget_does_not_undo_the_edit(caplog):
    store = MemoryObjectStore()
    region = region_in(store, LogThatForgetsNothing(), distance=1)

    with caplog.at_level(logging.WARNING, "mitoframe"):
        version = region.commit_edit(FileEdit(added=(A,), flushed_entry_id=EntryId(0), flushed_sequence=Sequence(0)))

    assert set(version.state.files) == {A.file_id}
    assert "log not trimmed" in caplog.text
    assert load(store, REGION).checkpoints == (1,), "what follows is done all the same"


# --- freezing -------------------------------------------------------------------------------------------


def test_freezing_an_empty_memtable_changes_nothing():
    region = region_in(MemoryObjectStore())
    before = region.control.current()

    assert region.freeze() is before


def test_frozen_rows_are_still_seen_and_new_ones_go_elsewhere():
    region = region_in(MemoryObjectStore())
    fill(region, 1, 2)

    snapshot = region.freeze()
    fill(region, 3)

    assert [memtable.stats.row_count for memtable in snapshot.version.memtables] == [2, 1]
    assert snapshot.visible == 2
    assert region.control.current().version.mutable.memtable_id == 1


def test_a_flush_forgets_its_memtables_and_the_log_up_to_them():
    log = MemoryLog()
    region = region_in(MemoryObjectStore(), log)
    log.append([(REGION, [b"1"])] * 3)
    fill(region, 1, 2)
    frozen = region.freeze().version.immutables
    fill(region, 3)
    region.freeze()

    version = region.commit_edit(FileEdit(added=(A,), flushed_entry_id=2, flushed_sequence=2), frozen)

    assert [memtable.memtable_id for memtable in version.memtables] == [1, 2]
    assert [entry.entry_id for entry in log.read(REGION, 0)] == [3]


def test_an_edit_that_flushes_nothing_leaves_the_log_alone():
    log = MemoryLog()
    region = region_in(MemoryObjectStore(), log)
    log.append([(REGION, [b"1"])])

    region.commit_edit(FileEdit(added=(A,)))

    assert [entry.entry_id for entry in log.read(REGION, 0)] == [1]


# --- hooks ----------------------------------------------------------------------------------------------


class RaisingHook:
    def on_sst_files_written(self, region_id, metadata, files):
        raise RuntimeError("hook broke on files")

    def on_manifest_updated(self, region_id, actions, version):
        raise RuntimeError("hook broke on manifest")


def test_a_hook_that_raises_harms_neither_the_region_nor_the_next_hook(caplog):
    trace: list[str] = []
    engine = open_engine(hooks=[RaisingHook(), TracingHook(trace)])

    create(engine, METADATA)
    engine.write(REGION, batch_of(METADATA, [put(0, 1, cpu=5)]))
    engine.flush(REGION)

    assert [row[2] for row in read(engine)] == [5]
    assert trace == [
        "hook    manifest updated: version 0, Change",
        "hook    sst files written: 1 with 1 rows",
        "hook    manifest updated: version 1, FileEdit",
    ]
    assert "hook broke on files" in caplog.text
    assert "hook broke on manifest" in caplog.text


def test_a_hook_is_told_once_the_edit_is_durable_and_visible():
    store, seen = MemoryObjectStore(), []

    class LookingHook:
        region: Region | None = None

        def on_manifest_updated(self, region_id, actions, version):
            if self.region is not None:
                current = self.region.control.current().version
                seen.append((version, current.manifest_version, load(store, REGION).version))

    hook = LookingHook()
    hook.region = region_in(store, hooks=[hook])

    hook.region.commit_edit(FileEdit(added=(A,)))

    assert seen == [(1, 1, 1)]


def test_opening_a_region_lets_the_log_forget_what_a_crash_left():
    store, log = MemoryObjectStore(), MemoryLog()
    region = region_in(store, log)
    log.append([(REGION, [b"1"])] * 2)

    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name == "edit.switched":
            raise Killed

    with watching(kill), pytest.raises(Killed):
        region.commit_edit(FileEdit(added=(A,), flushed_entry_id=2, flushed_sequence=5))
    assert len(list(log.read(REGION, 0))) == 2

    open_region(store, SeededRandomness(1), Wal(log), Hooks(), REGION, MitoConfig())

    assert list(log.read(REGION, 0)) == []
