"""What hooks are told, row by row of the table in `RegionHook`, and that nothing a hook does harms a region."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from builders import REGION, batch_of, create, delete, metadata_of, open_engine, put, read, threads
from gates import Gate, Task, wait_until

import mitoframe as mito
from mitoframe import registry
from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine import patience
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import HOOK_LANE, LANES
from mitoframe.engine.patience import Patience
from mitoframe.model.alter import AddColumns, NewColumn, SetIndexes
from mitoframe.model.edit import Change, FileEdit, SnapshotEdit
from mitoframe.model.errors import ConfigError, UnavailableError
from mitoframe.model.ids import FIRST_VERSION, Sequence
from mitoframe.model.past import Moment
from mitoframe.model.request import AlterRequest, CompactRequest, DeleteRequest, ReplaceRequest, TruncateRequest
from mitoframe.model.timerange import TimeRange
from mitoframe.ports import JobStatus, RegionHook
from mitoframe.region.hooks import EVENTS
from mitoframe.storage.manifest import load
from mitoframe.storage.paths import index_folder, manifest_folder, sst_folder, sst_key
from mitoframe.testing.compactors import InlineCompactor

METADATA = metadata_of()
FILES, MANIFEST = "files", "manifest"
DAY = 86_400_000


class Recorder(RegionHook):
    """Remembers what it is told, in a word each, and all of it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.told: list[tuple] = []

    def on_sst_files_written(self, region_id, metadata, files):
        self._note(FILES, region_id, metadata, files)

    def on_manifest_updated(self, region_id, actions, version):
        self._note(MANIFEST, region_id, actions, version)

    def on_region_opened(self, region_id, metadata):
        self._note("opened", region_id, metadata)

    def on_region_closed(self, region_id):
        self._note("closed", region_id)

    def on_region_dropped(self, region_id):
        self._note("dropped", region_id)

    def on_region_files_removed(self, region_id):
        self._note("files removed", region_id)

    def on_region_gc(self, region_id, metadata, store, info):
        self._note("gc", region_id, metadata, store, info)

    def _note(self, word, *told):
        self.words.append(word)
        self.told.append(told)

    def forget(self) -> None:
        self.words.clear()
        self.told.clear()

    def last(self, word: str) -> tuple:
        """Return what it was told last of a kind."""
        return self.told[len(self.words) - 1 - self.words[::-1].index(word)]


def started(hook, store=None, log=None, **known) -> MitoEngine:
    engine = open_engine(store, log, **{"hooks": [hook]} | known)
    create(engine, METADATA)
    return engine


def flushed(engine: MitoEngine, *times: int) -> None:
    """Make a file for each time."""
    for moment in times:
        engine.write(REGION, batch_of(METADATA, [put(0, moment), put(0, moment + 1)]))
        engine.flush(REGION)


def files_of(engine: MitoEngine) -> set[str]:
    return set(engine.region(REGION).state.files)


# --- the table ------------------------------------------------------------------------------------------


def alter(engine: MitoEngine) -> None:
    column = NewColumn("more", METADATA.fields[0].type)
    engine.handle_request(REGION, AlterRequest(alterations=(AddColumns((column,)),)))


def index(engine: MitoEngine) -> None:
    engine.build_index(REGION)


def undo(engine: MitoEngine) -> None:
    written = engine.bulk_insert(REGION, [batch_of(METADATA, [put(0, 50)])])
    assert written is not None
    engine.undo(REGION, written.first_sequence, 1)


def restore_half_a_flush(engine: MitoEngine) -> None:
    version = engine.region(REGION).state.version
    engine.restore(REGION, Moment(version=version, sequence=Sequence(3)))


def keep_every_row(engine: MitoEngine) -> None:
    engine.handle_request(REGION, AlterRequest(options={"dedup": "none"}))


def give_up_what_is_in_memory(engine: MitoEngine) -> None:
    engine.write(REGION, batch_of(METADATA, [put(0, 9)]))
    engine.handle_request(REGION, TruncateRequest(what="unflushed"))


COVERAGE: dict[str, tuple[Callable[[MitoEngine], object], list[str]]] = {
    "flush": (lambda engine: flushed(engine, 5), [FILES, MANIFEST]),
    "compaction": (lambda engine: engine.compact(REGION), [FILES, MANIFEST]),
    "backfill": (lambda engine: engine.bulk_insert(REGION, [batch_of(METADATA, [put(0, 7)])]), [FILES, MANIFEST]),
    "replace with rows": (
        lambda engine: engine.handle_request(
            REGION, ReplaceRequest(time_range=TimeRange(0, 3), batches=[batch_of(METADATA, [put(0, 2)])])
        ),
        [FILES, MANIFEST],
    ),
    "undo of a whole file": (undo, [FILES, MANIFEST, MANIFEST]),
    "restore": (lambda engine: engine.restore(REGION, engine.region(REGION).state.past.entries[1].moment), [MANIFEST]),
    "restore of a part of a file": (restore_half_a_flush, [FILES, MANIFEST]),
    "alter": (alter, [MANIFEST]),
    "alter that has to merge first": (keep_every_row, [FILES, MANIFEST, MANIFEST, MANIFEST]),
    "truncate": (lambda engine: engine.handle_request(REGION, TruncateRequest()), [MANIFEST]),
    "truncate of what is in memory": (give_up_what_is_in_memory, [MANIFEST]),
    "a snapshot": (lambda engine: engine.snapshot(REGION, "now"), [MANIFEST]),
}


@pytest.mark.parametrize("row", COVERAGE)
def test_what_is_told_of(row):
    happens, expected = COVERAGE[row]
    hook = Recorder()
    engine = started(hook, gc_grace_ms=3_600_000)
    flushed(engine, 1, 2)
    hook.forget()

    happens(engine)

    assert [word for word in hook.words if word in (FILES, MANIFEST)] == expected
    assert all(told[0] == REGION for told in hook.told)


class AskedCompactor(InlineCompactor):
    """Counts what it did, which may all have been in vain."""

    def __init__(self, store: MemoryObjectStore, *, refuses: bool) -> None:
        super().__init__(store)
        self.refuses = refuses
        self.done = 0

    def poll(self, job_id, timeout_ms=0):
        status = super().poll(job_id, timeout_ms)
        self.done += 1
        return JobStatus(refusal="changed my mind") if self.refuses else status


@pytest.mark.parametrize("refuses", [False, True], ids=["done", "refused"])
@pytest.mark.parametrize("row", ["compaction", "alter that has to merge first"])
def test_of_what_is_merged_elsewhere_or_refused_there_the_same_is_told(row, refuses):
    happens, expected = COVERAGE[row]
    hook, store = Recorder(), MemoryObjectStore()
    compactor = AskedCompactor(store, refuses=refuses)
    engine = started(hook, store, compactor=compactor, gc_grace_ms=3_600_000)
    flushed(engine, 1, 2)
    inputs = files_of(engine)
    hook.forget()

    happens(engine)

    assert compactor.done == 1
    assert [word for word in hook.words if word in (FILES, MANIFEST)] == expected
    first = hook.words.index(FILES)
    [info] = hook.told[first][2]
    [edit] = hook.told[first + 1][1]
    assert edit.added == (info.file,)
    assert set(edit.removed) == inputs
    assert (REGION, info.file.file_id) == (hook.told[first][0], *files_of(engine))
    assert len(store.get(info.key)) == info.file.size_bytes


def test_of_files_that_have_expired_only_the_edit_is_told():
    hook, clock = Recorder(), ManualClock(now_ms=20 * DAY)
    engine = started(hook, clock=clock)
    flushed(engine, 0, 10 * DAY)
    engine.handle_request(REGION, AlterRequest(options={"ttl_ms": DAY}))
    hook.forget()

    engine.maintain()

    assert [word for word in hook.words if word in (FILES, MANIFEST)] == [MANIFEST]
    assert [(action.reason, len(action.removed)) for action in hook.last(MANIFEST)[1]] == [("expire", 1)]


def test_of_a_new_region_the_first_edit_is_told_and_then_that_it_is_open():
    hook = Recorder()

    started(hook)

    assert hook.words == [MANIFEST, "opened"]
    assert hook.told[0][2] == 0
    assert [type(action) for action in hook.told[0][1]] == [Change]
    assert hook.told[1] == (REGION, METADATA)


def test_of_an_index_built_in_the_background_only_the_edit_is_told():
    hook = Recorder()
    with mito.open("memory://", hooks=[hook]) as db:
        table = db.create_table("cpu", {"ts": pl.Datetime("ms"), "load": pl.Int64}, time="ts")
        table.write(pl.DataFrame({"ts": [1, 2], "load": [1, 2]}, schema=table_schema()))
        table.flush()
        table.alter(indexes={"load": ["inverted"]})
        db.engine.drain()
        hook.forget()

        table.write(pl.DataFrame({"ts": [3, 4], "load": [1, 2]}, schema=table_schema()))
        table.flush()
        db.engine.drain()

    assert hook.words[:3] == [FILES, MANIFEST, MANIFEST]
    actions = hook.told[2][1]
    assert [action.what for action in actions] == ["index"]


def table_schema() -> dict[str, pl.DataType]:
    return {"ts": pl.Datetime("ms"), "load": pl.Int64()}


def test_an_index_built_with_its_file_is_told_with_the_file():
    hook = Recorder()
    with mito.open("memory://", hooks=[hook]) as db:
        table = db.create_table(
            "cpu", {"ts": pl.Datetime("ms"), "load": pl.Int64}, time="ts", options={"index_mode": "sync"}
        )
        table.alter(indexes={"load": ["inverted"]})
        table.write(pl.DataFrame({"ts": [1, 2], "load": [1, 2]}, schema=table_schema()))

        table.flush()

        [info] = hook.last(FILES)[2]
        assert info.file.index is not None
        assert info.file == next(iter(db.engine.region(table.region_id).state.files.values()))


# --- what is not told -----------------------------------------------------------------------------------


def write_one(engine: MitoEngine) -> None:
    engine.write(REGION, batch_of(METADATA, [put(0, 9)]))


def delete_one(engine: MitoEngine) -> None:
    engine.handle_request(REGION, DeleteRequest(batch=batch_of(METADATA, [delete(0, 1)])))


def undo_a_write(engine: MitoEngine) -> None:
    written = engine.write(REGION, batch_of(METADATA, [put(0, 1)]))
    engine.undo(REGION, written.first_sequence, 1)


def alter_nothing(engine: MitoEngine) -> None:
    engine.handle_request(REGION, AlterRequest(options={"dedup": "last"}))


NOT_TOLD: dict[str, Callable[[MitoEngine], object]] = {
    "a write": write_one,
    "a delete": delete_one,
    "an undo that writes on top": undo_a_write,
    "a scan": read,
    "a flush of nothing": lambda engine: engine.flush(REGION),
    "a compaction that finds nothing to do": lambda engine: engine.compact(REGION),
    "an alteration that changes nothing": alter_nothing,
    "an index that nobody wants": index,
    "a plan": lambda engine: engine.compaction_plan(REGION, CompactRequest()),
    "upkeep that finds nothing to do": lambda engine: engine.maintain(),
}


@pytest.mark.parametrize("row", NOT_TOLD)
def test_what_is_not_told_of(row):
    hook = Recorder()
    engine = started(hook, gc_grace_ms=3_600_000)
    flushed(engine, 1)
    engine.maintain()
    hook.forget()

    NOT_TOLD[row](engine)

    assert hook.words == []


def test_what_is_found_again_after_a_crash_is_not_told():
    store, log, hook = MemoryObjectStore(), MemoryLog(), Recorder()
    before = started(Recorder(), store, log, checkpoint_distance=2)
    flushed(before, 1, 2, 3)
    write_one(before)

    assert len(read(open_engine(store, log, hooks=[hook], seed=1))) == 5

    assert hook.words == ["opened"]


def test_gc_is_told_as_such_and_not_as_a_change_of_the_manifest():
    hook = Recorder()
    engine = started(hook, gc_grace_ms=3_600_000)
    flushed(engine, 1, 1)
    removed = files_of(engine)
    engine.compact(REGION)
    before = engine.region(REGION).state.version
    hook.forget()

    result = engine.vacuum(REGION, grace_ms=0)

    assert engine.region(REGION).state.version == before + 1, "the manifest forgot the files"
    assert hook.words == ["gc"]
    _, metadata, store, info = hook.told[0]
    assert (metadata, store) == (METADATA, engine.store)
    assert set(info.removed_files) == removed
    assert (info.size_bytes, info.version) == (result.size_bytes, before + 1)
    assert (info.is_region_dropped, info.full_file_listing) == (False, True)


def test_a_gc_that_finds_nothing_is_told_as_one_that_looked_at_every_file():
    hook = Recorder()
    engine = started(hook)
    flushed(engine, 1)
    hook.forget()

    engine.vacuum(REGION)

    info = hook.last("gc")[3]
    assert hook.words == ["gc"]
    assert (info.removed_files, info.version, info.full_file_listing) == ((), None, True)


def test_what_was_deleted_is_told_also_if_indexes_cannot_be_looked_for():
    class Away(MemoryObjectStore):
        is_away = False

        def list(self, prefix):
            if self.is_away and prefix == index_folder(REGION):
                raise UnavailableError("away")
            return super().list(prefix)

    hook, store = Recorder(), Away()
    engine = started(hook, store, compaction_mode="manual")
    engine.handle_request(REGION, AlterRequest(alterations=(SetIndexes({"cpu": ("inverted",)}),)))
    flushed(engine, 1, 1)
    removed = files_of(engine)
    engine.compact(REGION)
    store.is_away = True

    with pytest.raises(UnavailableError):
        engine.vacuum(REGION, grace_ms=0)

    assert set(hook.last("gc")[3].removed_files) == removed


def test_a_checkpoint_is_not_told():
    hook, store = Recorder(), MemoryObjectStore()
    engine = started(hook, store, checkpoint_distance=1)
    hook.forget()

    flushed(engine, 1)

    assert any(item.key.endswith("00001.checkpoint") for item in store.list(manifest_folder(REGION)))
    assert hook.words == [FILES, MANIFEST]


def test_a_drop_is_told_as_such_and_not_as_a_change_of_the_manifest():
    hook = Recorder()
    engine = started(hook)
    hook.forget()

    engine.drop(REGION)

    assert hook.words == ["dropped"]
    assert hook.told == [(REGION,)]


def test_a_reader_is_not_told_what_the_writer_does():
    store, log, hook = MemoryObjectStore(), MemoryLog(), Recorder()
    writer = open_engine(store, log)
    create(writer, METADATA)
    reader = open_engine(store, log, hooks=[hook], read_only=True)
    read(reader)
    flushed(writer, 1)

    assert len(read(reader)) == 2

    assert hook.words == ["opened"]


def test_a_reader_that_lets_go_of_an_earlier_version_has_closed_the_region():
    store, log, hook, time = MemoryObjectStore(), MemoryLog(), Recorder(), InlineScheduler()
    writer = open_engine(store, log)
    create(writer, METADATA)
    reader = open_engine(store, log, hooks=[hook], read_only=True, scheduler=time)
    read(reader)

    time.tick()
    assert hook.words == ["opened"]
    flushed(writer, 1)
    time.tick()
    assert hook.words == ["opened", "closed"]
    assert len(read(reader)) == 2
    assert hook.words == ["opened", "closed", "opened"]


def test_files_that_were_told_and_whose_edit_is_refused_are_never_heard_of_again():
    class Truncating(Recorder):
        engine: MitoEngine | None = None

        def on_sst_files_written(self, region_id, metadata, files):
            super().on_sst_files_written(region_id, metadata, files)
            engine, self.engine = self.engine, None
            if engine is not None:
                engine.truncate(REGION, TruncateRequest())

    hook = Truncating()
    engine = started(hook)
    flushed(engine, 1, 1)
    hook.forget()
    hook.engine = engine

    with pytest.raises(mito.ConflictError):
        engine.compact(REGION)

    assert hook.words == [FILES, MANIFEST]
    [info] = hook.told[0][2]
    [truncated] = hook.told[1][1]
    assert (truncated.reason, truncated.added) == ("truncate", ())
    assert info.file.file_id not in files_of(engine)


def test_a_hook_is_told_of_its_own_store_and_of_no_other():
    mine, others = Recorder(), Recorder()
    engine = started(mine)
    started(others)
    others.forget()

    flushed(engine, 1)

    assert mine.words[-2:] == [FILES, MANIFEST]
    assert others.words == []


def test_a_refused_edit_is_not_told():
    hook = Recorder()
    engine = started(hook)
    flushed(engine, 1)
    region = engine.region(REGION)
    hook.forget()

    with pytest.raises(mito.MitoError):
        region.commit_edit(FileEdit(removed=("0" * 32,)))

    assert hook.words == []


# --- with what ------------------------------------------------------------------------------------------


def test_files_are_told_before_the_manifest_knows_them_and_edits_after(tmp_path):
    known: list[tuple[str, int]] = []

    class Looking(Recorder):
        store: MemoryObjectStore

        def _note(self, word, *told):
            super()._note(word, *told)
            if word in (FILES, MANIFEST):
                known.append((word, len(load(self.store, REGION).state.files)))

    hook = Looking()
    hook.store = MemoryObjectStore()
    engine = started(hook, hook.store)
    known.clear()

    flushed(engine, 1)

    assert known == [(FILES, 0), (MANIFEST, 1)]


def test_of_a_file_all_is_told_and_where_it_is(tmp_path):
    hook = Recorder()
    with mito.open(tmp_path / "store", hooks=[hook]) as db:
        table = db.create_table("cpu", table_schema(), time="ts")
        table.write(pl.DataFrame({"ts": [1, 2], "load": [1, 2]}, schema=table_schema()))

        table.flush()

        region_id, metadata, [info] = hook.last(FILES)
        state = db.engine.region(table.region_id).state
        assert (region_id, metadata) == (table.region_id, state.metadata)
        assert info.file == state.files[info.file.file_id]
        assert info.key == sst_key(region_id, info.file.file_id)
        assert pl.read_parquet(info.url)["load"].to_list() == [1, 2]


def test_the_whole_list_of_actions_is_told_with_the_version():
    hook = Recorder()
    engine = started(hook)
    flushed(engine, 1)

    engine.snapshot(REGION, "now")
    region_id, actions, version = hook.last(MANIFEST)

    assert region_id == REGION
    assert version == engine.region(REGION).state.version == 2
    [action] = actions
    assert isinstance(action, SnapshotEdit)
    assert action.name == "now"


# --- lifecycle ------------------------------------------------------------------------------------------


def test_opening_is_told_once_and_again_when_it_is_opened_again():
    store, log, hook = MemoryObjectStore(), MemoryLog(), Recorder()
    started(Recorder(), store, log)
    engine = open_engine(store, log, hooks=[hook])

    engine.region(REGION)
    engine.region(REGION)
    create(engine, METADATA)

    assert hook.words == ["opened"]
    engine.close_region(REGION, flush=False)
    engine.region(REGION)
    assert hook.words == ["opened", "closed", "opened"]


def test_closing_is_told_once_also_when_the_store_is_closed():
    hook = Recorder()
    engine = started(hook)
    hook.forget()

    engine.close_region(REGION, flush=False)
    engine.close_region(REGION, flush=False)
    assert hook.words == ["closed"]
    assert hook.told == [(REGION,)]

    engine.region(REGION)
    engine.close()
    assert hook.words == ["closed", "opened", "closed"]


def test_a_reading_process_tells_its_own_hooks_when_it_closes():
    store, log, hook = MemoryObjectStore(), MemoryLog(), Recorder()
    flushed(started(Recorder(), store, log), 1)
    reader = open_engine(store, log, hooks=[hook], read_only=True)
    read(reader)

    reader.close()

    assert hook.words == ["opened", "closed"]


def test_a_drop_is_told_also_if_the_log_cannot_forget_it(caplog):
    class Remembering(MemoryLog):
        def obsolete(self, region_id, through):
            raise UnavailableError("the log is away")

    hook = Recorder()
    engine = started(hook, log=Remembering())
    write_one(engine)
    hook.forget()

    engine.drop(REGION)

    assert hook.words == ["dropped"]
    assert "log not trimmed" in caplog.text
    with pytest.raises(mito.TableNotFoundError):
        engine.region(REGION)


def test_of_a_dropped_region_it_is_told_when_its_files_have_gone():
    hook, clock = Recorder(), ManualClock()
    engine = started(hook, MemoryObjectStore(clock), clock=clock, gc_grace_ms=1000)
    flushed(engine, 1)
    files = files_of(engine)
    hook.forget()

    engine.drop(REGION)
    engine.maintain()
    assert hook.words == ["dropped"]
    clock.advance(1000)
    engine.maintain()
    engine.maintain()

    assert hook.words == ["dropped", "gc", "files removed"]
    _, metadata, store, info = hook.told[1]
    assert (metadata, store) == (None, engine.store)
    assert set(info.removed_files) == files
    assert info.size_bytes > 0
    assert (info.is_region_dropped, info.full_file_listing, info.version) == (True, True, None)
    assert hook.told[2] == (REGION,)


def test_a_region_that_cannot_be_opened_is_not_told_of():
    hook = Recorder()
    engine = open_engine(hooks=[hook])

    with pytest.raises(mito.MitoError):
        engine.region(REGION)

    assert hook.words == []


# --- hooks that fail --------------------------------------------------------------------------------------


class Raising(RegionHook):
    error: BaseException | None = None

    def __getattribute__(self, name):
        if name in EVENTS:
            return self._fail
        return super().__getattribute__(name)

    def _fail(self, *told):
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1)], ids=["error", "exit"])
def test_a_hook_that_raises_harms_nothing_and_is_told_by_health(error, caplog):
    failing, hook = Raising(), Recorder()
    failing.error = error
    engine = open_engine(hooks=[failing, hook])

    create(engine, METADATA)
    flushed(engine, 1, 1)
    engine.compact(REGION)
    engine.vacuum(REGION, grace_ms=0)

    assert len(read(engine)) == 2
    assert {FILES, MANIFEST, "gc", "opened"} <= set(hook.words), "the others are told"
    [health] = engine.health().regions
    assert health.failures["hook Raising.on_manifest_updated"] is error
    assert len(health.failures) == 4
    assert "hook failed" in caplog.text
    failing.error = None
    flushed(engine, 5)
    assert set(engine.health().regions[0].failures) == {"hook Raising.on_region_gc", "hook Raising.on_region_opened"}


def test_of_two_hooks_of_one_class_the_one_that_fails_is_told_by_health():
    failing, well = Raising(), Raising()
    failing.error = RuntimeError("broken")
    engine = started(well, hooks=[failing, well, Recorder()])

    flushed(engine, 1)

    failures = engine.health().regions[0].failures
    assert failures["hook Raising.on_manifest_updated"] is failing.error
    failing.error, well.error = None, RuntimeError("broken too")
    flushed(engine, 2)
    failures = engine.health().regions[0].failures
    assert "hook Raising.on_manifest_updated" not in failures
    assert failures["hook Raising (2).on_manifest_updated"] is well.error


def test_a_hook_that_raises_what_ends_a_process_holds_up_nobody(caplog):
    hook = Raising()
    engine = open_engine(scheduler=threads(), hooks=[hook])
    create(engine, METADATA)
    hook.error = KeyboardInterrupt()

    flushed(engine, 1, 2, 3)

    assert "hook is slow" not in caplog.text, "it was waited for in vain"
    [lane] = [lane for lane in engine.health().lanes if lane.lane == HOOK_LANE]
    assert (lane.failed, lane.last_error) == (6, hook.error)
    hook.error = None
    assert len(read(engine)) == 4
    engine.close()


def test_a_hook_that_only_has_some_methods_is_told_of_those():
    class Small:
        closed = 0

        def on_region_closed(self, region_id):
            self.closed += 1

    hook = Small()
    engine = started(hook)
    flushed(engine, 1)

    engine.close_region(REGION, flush=False)

    assert hook.closed == 1


@pytest.mark.parametrize("wrong", [42, Recorder, "on_region_closed", None], ids=["number", "class", "text", "none"])
def test_what_is_no_hook_is_refused(wrong):
    with pytest.raises(ConfigError, match="is not a hook"):
        mito.open("memory://", hooks=[wrong])


# --- hooks that are slow ------------------------------------------------------------------------------------


class Slow(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def _note(self, word, *told):
        self.gate.wait()
        super()._note(word, *told)


def test_a_hook_that_does_not_return_holds_up_neither_the_region_nor_other_hooks(caplog):
    slow, quick = Slow(), Recorder()
    scheduler = ThreadScheduler(dict.fromkeys(LANES, 1) | {HOOK_LANE: 2})
    engine = open_engine(scheduler=scheduler, hooks=[slow, quick])
    create(engine, METADATA)
    slow.gate.close()
    begun = time.monotonic()

    flushed(engine, 1, 3, 5)

    assert time.monotonic() - begun < 5 * patience.PATIENCE_SECONDS, "it was waited for again and again"
    assert quick.words == [MANIFEST, "opened", *[FILES, MANIFEST] * 3]
    assert slow.words == [MANIFEST, "opened"]
    assert "hook is slow" in caplog.text
    slow.gate.open()
    wait_until(lambda: len(slow.words) == 8)
    assert slow.told == quick.told, "it is told all of it, in order"
    flushed(engine, 7)
    assert slow.words[-2:] == [FILES, MANIFEST], "it is waited for again"
    engine.close()


def test_a_store_whose_hook_never_returns_does_everything_and_is_closed(caplog):
    stuck, quick = Slow(), Recorder()
    store = MemoryObjectStore()
    scheduler = ThreadScheduler(dict.fromkeys(LANES, 1) | {HOOK_LANE: 2}, not_awaited=(HOOK_LANE,))
    engine = open_engine(store, scheduler=scheduler, hooks=[stuck, quick], gc_grace_ms=0)
    stuck.gate.close()
    begun = time.monotonic()

    create(engine, METADATA)
    flushed(engine, 1, 1)
    engine.compact(REGION)
    alter(engine)
    engine.maintain()
    engine.handle_request(REGION, TruncateRequest())
    flushed(engine, 5)
    engine.close()

    assert time.monotonic() - begun < 6 * patience.PATIENCE_SECONDS, "it was waited for again and again"
    assert stuck.words == []
    assert {FILES, MANIFEST, "opened", "gc"} <= set(quick.words)
    assert quick.words[-1] == "closed"
    assert f"untold={len(quick.words) - 1}" in caplog.text
    assert [file.row_count for file in load(store, REGION).state.files.values()] == [2]
    stuck.gate.open()


def test_what_a_hook_is_behind_with_is_told_when_the_store_is_closed_if_that_is_soon(caplog):
    slow = Slow()
    scheduler = ThreadScheduler(dict.fromkeys(LANES, 1), not_awaited=(HOOK_LANE,))
    engine = open_engine(scheduler=scheduler, hooks=[slow])
    slow.gate.close()
    create(engine, METADATA)
    flushed(engine, 1)
    slow.gate.open()

    engine.close()

    assert slow.words == [MANIFEST, "opened", FILES, MANIFEST, "closed"]
    assert "left alone" not in caplog.text


def test_a_quick_hook_has_been_told_when_the_flush_is_over():
    hook = Recorder()
    engine = open_engine(scheduler=threads(), hooks=[hook], compaction_mode="manual")
    create(engine, METADATA)

    for number in range(20):
        flushed(engine, number)
        assert hook.words[-1] == MANIFEST
        assert hook.told[-1][2] == number + 1

    engine.close()


@pytest.mark.parametrize("event", ["on_manifest_updated", "on_region_opened", "on_sst_files_written"])
def test_no_lock_of_the_region_is_held_while_a_hook_is_told(event):
    found = []

    class Editing:
        def edit(self, *_):
            if engine is not None and not found:
                found.append(Task(lambda: engine.region(REGION).commit_edit(FileEdit(reason="test"))).result())

    setattr(Editing, event, Editing.edit)
    store, log = MemoryObjectStore(), MemoryLog()
    engine = None
    before = started(Recorder(), store, log)
    before.write(REGION, batch_of(METADATA, [put(0, 1)]))
    engine = open_engine(store, log, hooks=[Editing()])

    engine.region(REGION)
    engine.flush(REGION)

    assert found
    assert len(read(engine)) == 1


EXCHANGES: dict[str, tuple[dict[str, str], Callable[[MitoEngine], object]]] = {
    "replace": ({}, lambda engine: engine.replace(REGION, [TimeRange(1, 2)], [batch_of(METADATA, [put(0, 1)])])),
    "undo": ({"dedup": "none"}, lambda engine: engine.undo(REGION, Sequence(2), 1)),
    "restore": ({}, lambda engine: engine.restore(REGION, Moment(version=FIRST_VERSION, sequence=Sequence(1)))),
}


def exchanging(what: str, meanwhile: Callable[[MitoEngine], object]) -> tuple[Recorder, MitoEngine]:
    """Exchange files, and let another thread do something when a hook is told of the first that were stored."""
    options, exchange = EXCHANGES[what]

    class Acting(Recorder):
        has_acted = True

        def on_sst_files_written(self, region_id, metadata, files):
            super().on_sst_files_written(region_id, metadata, files)
            if not self.has_acted:
                self.has_acted = True
                Task(lambda: meanwhile(engine)).result()

    hook = Acting()
    engine = open_engine(hooks=[hook], gc_grace_ms=3_600_000)
    create(engine, METADATA, **options)
    flushed(engine, 1)
    hook.forget()
    hook.has_acted = False
    exchange(engine)
    return hook, engine


@pytest.mark.parametrize("what", EXCHANGES)
def test_what_is_committed_while_a_hook_is_told_of_exchanged_files_has_them_planned_anew(what):
    hook, engine = exchanging(what, lambda engine: engine.region(REGION).commit_edit(FileEdit(reason="test")))

    assert engine.health().regions[0].failures == {}, "the other thread was kept waiting"
    assert hook.words == [FILES, MANIFEST, FILES, MANIFEST]
    assert [info.file.file_id for info in hook.told[2][2]] == [file.file_id for file in hook.told[3][1][0].added]
    in_vain = {info.key for info in hook.told[0][2]} - {info.key for info in hook.told[2][2]}
    assert in_vain
    assert in_vain.isdisjoint(item.key for item in engine.store.list(sst_folder(REGION)))
    assert len(read(engine)) == {"replace": 2, "undo": 1, "restore": 1}[what]


def test_an_exchange_whose_files_change_again_and_again_is_refused_and_leaves_nothing(monkeypatch):
    engines: list[MitoEngine] = []
    monkeypatch.setattr("mitoframe.engine.changes.PLANS_MAX", 1)

    with pytest.raises(mito.ConflictError, match="nothing was changed"):
        exchanging("replace", lambda engine: engines.append(engine) or engine.snapshot(REGION, "meanwhile"))

    [engine] = engines
    assert {item.key for item in engine.store.list(sst_folder(REGION))} == {
        sst_key(REGION, file_id) for file_id in files_of(engine)
    }
    assert len(read(engine)) == 2


def test_a_hook_may_flush_the_region_it_is_told_of():
    class Flushing(Recorder):
        engine: MitoEngine | None = None

        def on_manifest_updated(self, region_id, actions, version):
            super().on_manifest_updated(region_id, actions, version)
            engine, self.engine = self.engine, None
            if engine is not None:
                flushed(engine, 9)

    hook = Flushing()
    engine = open_engine(scheduler=threads(), hooks=[hook])
    create(engine, METADATA)
    hook.engine = engine

    flushed(engine, 1)

    wait_until(lambda: hook.words == [MANIFEST, "opened", *[FILES, MANIFEST] * 2])
    assert len(read(engine)) == 4
    engine.close()


def test_a_line_has_an_end(monkeypatch, caplog):
    monkeypatch.setattr(patience, "WAITING_MAX", 3)
    gate, told = Gate(), []
    scheduler = ThreadScheduler({HOOK_LANE: 1})
    line = Patience(scheduler, patience_seconds=0.01)
    hook = Recorder()
    gate.close()
    line.run(hook, gate.wait)

    for number in range(5):
        line.run(hook, partial(told.append, number))

    gate.open()
    scheduler.drain()
    assert told == [0, 1, 2]
    assert caplog.text.count("hook is told no more") == 1
    line.run(hook, partial(told.append, 6))
    assert told == [0, 1, 2, 6]
    scheduler.close()


def test_a_line_is_served_again_after_an_interruption():
    line, hook, told = Patience(InlineScheduler()), Recorder(), []

    class Interrupted(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        line.run(hook, interrupt)
    line.run(hook, partial(told.append, 1))

    assert told == [1]


def test_without_a_lane_nothing_is_told_and_nothing_raised(caplog):
    scheduler, told = InlineScheduler(), []
    scheduler.close()

    Patience(scheduler).run(Recorder(), partial(told.append, 1))

    assert told == []
    assert "hook not told" in caplog.text


# --- installed hooks ----------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package with these lines of entry points; its module writes down what its hooks are told."""

    def install(*lines: str) -> Path:
        folder, journal = tmp_path / "packages", tmp_path / "told.txt"
        info = folder / "telling-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: telling\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[mitoframe.hooks]", *lines]) + "\n")
        (folder / "telling_package.py").write_text(
            "class Hook:\n"
            "    def on_region_opened(self, region_id, metadata):\n"
            f"        with open({json.dumps(str(journal))}, 'a') as file:\n"
            "            file.write(metadata.time.name + '\\n')\n"
        )
        monkeypatch.syspath_prepend(folder)
        return journal

    registry._hook_entries.cache_clear()
    yield install
    registry._hook_entries.cache_clear()
    sys.modules.pop("telling_package", None)


def test_a_hook_that_a_package_offers_is_told(installed, tmp_path):
    journal = installed("telling = telling_package:Hook")

    with mito.open(tmp_path / "store") as db:
        db.create_table("cpu", table_schema(), time="ts")

    assert journal.read_text() == "ts\n"


def test_an_offered_hook_that_is_broken_keeps_nobody_from_opening_a_store(installed, tmp_path, caplog):
    journal = installed("broken = telling_package:Missing", "none = builtins:object", "telling = telling_package:Hook")

    with mito.open("memory://") as db:
        db.create_table("cpu", table_schema(), time="ts")

    assert journal.read_text() == "ts\n"
    assert caplog.text.count("installed hook not used") == 2
