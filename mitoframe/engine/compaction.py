"""Compactions of regions: who asks, what runs, and what becomes of requests that come meanwhile.

A region has one *cycle* at a time: it lets go what has expired, asks the picker
(`jobs.twcs.plan_compaction`), merges task by task, each with a commit of its own, and asks again until there is nothing
more to do.

    something may be due, and a cycle runs       it looks once more before it ends, or another follows it
    somebody asks, and an automatic one waits    the request goes first, and the automatic cycle follows it
    somebody asks, and an automatic cycle runs   the request waits in the one place there is; a newer one takes it
    somebody asks, and what was asked for runs   refused (`BusyError`)
    the table is truncated, dropped or closed    the merge under way stops at its next step, and waiting requests too

Regions are merged side by side, as many as there are threads. What somebody asked for has threads of its own, so that
it never waits for what is merged unasked, and what is due never waits for people.

A plan may be out of date when its turn comes: a task is checked against the files there are before it is merged, and
once more when its edit is committed (`is_current`). One that does not hold any more is dropped, and the picker asked
anew. Whatever goes wrong before the commit, the inputs are as they were, and what was written is deleted. A file that
turns out to be damaged is left alone from then on, told of, and others are merged without it. A merge that would take
more memory than there may be is skipped.

Where there is a `Compactor`, merges are carried out elsewhere (engine/elsewhere.py), and planned, checked and committed
here, as ever.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from mitoframe.engine.allowance import Allowance
from mitoframe.engine.elsewhere import RefusedError, have_done
from mitoframe.engine.errand import Errand
from mitoframe.engine.pace import Pace
from mitoframe.engine.parts import ASKED_LANE, COMPACT_LANE, MERGE_LANE
from mitoframe.jobs.compact import compact_task
from mitoframe.jobs.elsewhere import sending_of
from mitoframe.jobs.tasks import CompactionScope, CompactionTask
from mitoframe.jobs.twcs import is_current, plan_compaction
from mitoframe.jobs.windows import window_ms
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import BusyError, ConflictError, CorruptionError, LimitExceededError, MitoError
from mitoframe.model.options import compaction_options
from mitoframe.model.request import CompactRequest
from mitoframe.model.result import CompactResult
from mitoframe.model.timerange import connected
from mitoframe.storage.paths import parse_sst_key

if TYPE_CHECKING:
    from mitoframe.engine.background import Draft
    from mitoframe.engine.indexing import Indexing
    from mitoframe.engine.parts import Parts
    from mitoframe.engine.retention import Retention
    from mitoframe.jobs.tasks import CompactionPlan
    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.ports import Compactor
    from mitoframe.region.region import Region
    from mitoframe.storage.memtable import RangeStats

_log = logging.getLogger("mitoframe")

AUTOMATIC = CompactRequest(mode="due", reason="automatic")
TASKS_AT_ONCE = 8
"""How many tasks are done before the picker is asked again: rows that came meanwhile are in newer windows."""
HELPERS_MAX = (os.cpu_count() or 1) - 1
"""How many help with a merge that somebody waits for. One that is automatic leaves processors to others."""
CONFLICTS_MAX = 10
"""How many tasks in a row may turn out to be out of date; each time, somebody else has changed the region."""

_Merge: TypeAlias = "Callable[[_Merging, RegionState, Draft], tuple[FileMeta, ...]]"
"""Makes the outputs of a task; what it names in the draft is deleted if it raises."""
Drafting = Callable[["Region"], "AbstractContextManager[Draft]"]
Remembering = Callable[["Region", str], "AbstractContextManager[None]"]


@dataclass(slots=True, eq=False)
class _Cycle:
    """A request that is carried out. ``told`` gets how many rows were merged so far; ``skipped`` files are left out."""

    errand: Errand[CompactResult]
    request: CompactRequest
    told: Callable[[int], None]
    is_cancelled: bool = False
    skipped: set[FileId] = field(default_factory=set)

    @property
    def is_automatic(self) -> bool:
        return self.request is AUTOMATIC


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merging:
    """One task of a cycle, before which ``rows`` have been merged."""

    region: Region
    task: CompactionTask
    cycle: _Cycle
    now_ms: int
    rows: int

    @property
    def helpers_max(self) -> int:
        return 0 if self.cycle.is_automatic else HELPERS_MAX

    def tell(self, row_count: int) -> None:
        self.cycle.told(self.rows + row_count)


@dataclass(slots=True, eq=False)
class _Desk:
    """What goes on for one region.

    Attributes:
        merging: held by whoever merges its files.
        cycle: the one that was handed over and has not ended.
        waiting: the request that is next.
        is_triggered: something may have become due since the cycle has looked.
        damaged: files that could not be read.
        window_ms: how long the windows were when something was due for the first time; the manifest does not say yet.

    """

    merging: Lock = field(default_factory=Lock)
    cycle: _Cycle | None = None
    waiting: _Cycle | None = None
    is_triggered: bool = False
    damaged: dict[FileId, CorruptionError] = field(default_factory=dict)
    window_ms: int | None = None


@dataclass(slots=True)
class _Done:
    """What a cycle has done so far."""

    removed: dict[FileId, FileMeta] = field(default_factory=dict)
    added: dict[FileId, FileMeta] = field(default_factory=dict)
    expired: list[FileMeta] = field(default_factory=list)
    merges: int = 0
    row_count: int = 0

    def note(self, task: CompactionTask, added: tuple[FileMeta, ...]) -> None:
        assert len(task.inputs) > 1 or task.inputs[0].file_id not in self.added, "a picker comes to an end"
        self.removed |= {file.file_id: file for file in task.inputs}
        self.added |= {file.file_id: file for file in added}
        self.merges += 1
        self.row_count += sum(file.row_count for file in task.inputs)

    def result(self) -> CompactResult:
        passing = self.removed.keys() & self.added.keys()
        return CompactResult(
            removed=tuple(file for file_id, file in self.removed.items() if file_id not in passing),
            added=tuple(file for file_id, file in self.added.items() if file_id not in passing),
            expired=tuple(self.expired),
            merges=self.merges,
        )


class Compactions:
    """The compactions of an engine's regions.

    Args:
        parts: what the engine is made of.
        indexing: makes the indexes of outputs.
        retention: says what has expired.
        drafting: opens a draft; what it names is deleted if its edit does not come about.
        remembering: keeps the error of a job that fails.
        after: called when a cycle has changed something.
        gives_way: whether merges that nobody waits for are to go slowly now.

    """

    def __init__(
        self,
        parts: Parts,
        indexing: Indexing,
        retention: Retention,
        *,
        drafting: Drafting,
        remembering: Remembering,
        after: Callable[[Region], None],
        gives_way: Callable[[], bool],
    ) -> None:
        self._gives_way = gives_way
        self._parts, self._indexing, self._retention = parts, indexing, retention
        self._drafting, self._remembering, self._after = drafting, remembering, after
        self._desks: WeakKeyDictionary[Region, _Desk] = WeakKeyDictionary()
        self._lock = Lock()
        self._allowance = Allowance(
            parts.config.compaction_memory_limit_bytes,
            on_exhausted=parts.config.compaction_on_exhausted,
            wait_ms=parts.config.compaction_memory_wait_ms,
        )

    def failures(self, region: Region) -> dict[str, BaseException]:
        """Return the error of each file that is listed and cannot be read."""
        listed = region.state.files
        damaged = tuple(self._desk_of(region).damaged.items())
        return {f"damaged file {file_id}": error for file_id, error in damaged if file_id in listed}

    # --- asking -----------------------------------------------------------------------------------------

    def plan(
        self,
        region: Region,
        request: CompactRequest,
        *,
        skipped: frozenset[FileId] = frozenset(),
        tasks_max: int | None = None,
        is_explained: bool = True,
    ) -> CompactionPlan:
        """Say what a request would do now, and why not more; of what takes several rounds, the first.

        Raises:
            LimitExceededError: strict windows are asked for, and there would be too many.

        """
        version = region.control.current().version
        state = version.state
        options = compaction_options(self._parts.config, state.options)
        if request.window_ms is not None:
            options = replace(options, window_ms=request.window_ms)
        return plan_compaction(
            state.files.values(),
            options,
            self._parts.clock.now_ms(),
            unit=state.metadata.time_unit,
            known_window_ms=state.compaction_window_ms or self._desk_of(region).window_ms,
            scope=CompactionScope(mode=request.mode, times=request.time_range),
            buffered=_buffered(region),
            busy=skipped | self._desk_of(region).damaged.keys(),
            tasks_max=tasks_max,
            is_explained=is_explained,
        )

    def ask(self, region: Region, request: CompactRequest, told: Callable[[int], None]) -> Errand[CompactResult]:
        """Have a request carried out in the background.

        Raises:
            BusyError: what somebody asked for is under way.

        """
        asked = _Cycle(errand=Errand(), request=request, told=told)
        desk = self._desk_of(region)
        replaced: _Cycle | None = None
        with self._lock:
            running = _alive(desk.cycle)
            is_next = running is None or self._overtake_locked(desk, running)
            if is_next:
                desk.cycle = asked
            elif running is not None and running.is_automatic:
                desk.waiting, replaced = asked, desk.waiting
                asked.errand.carrier = running.errand.carrier
            else:
                raise BusyError("a compaction of this table that was asked for is under way; wait until it has ended.")
        if replaced is not None:
            _give_up(replaced, "a newer request took the place of this one before it began")
        if is_next:
            self._hand_over(region, asked)
        return asked.errand

    def _overtake_locked(self, desk: _Desk, running: _Cycle) -> bool:
        """Have an automatic cycle that waits for a thread give way, and follow later; tell whether it does."""
        if not running.is_automatic or not running.errand.begin():
            return False
        running.errand.succeed(CompactResult())
        desk.is_triggered = True
        return True

    def start_if_due(self, region: Region) -> Errand[CompactResult] | None:
        """Start what is due, or have the cycle under way look once more; return what is under way now."""
        desk = self._desk_of(region)
        with self._lock:
            running = _alive(desk.cycle)
            if running is not None:
                desk.is_triggered = True
                return running.errand
        if not self._is_due(region):
            return None
        cycle = _automatic()
        with self._lock:
            running = _alive(desk.cycle)
            if running is not None:
                desk.is_triggered = True
                return running.errand
            desk.cycle = cycle
        self._hand_over(region, cycle)
        return cycle.errand

    def _is_due(self, region: Region) -> bool:
        if not self._merges_by_itself(region):
            found = self._retention.expiry(region)
            return found is not None and bool(found.files)
        plan = self.plan(region, AUTOMATIC, tasks_max=1, is_explained=False)
        if plan.tasks and not _knows_window(region.state):
            self._desk_of(region).window_ms = plan.window_ms
        return not plan.is_empty()

    def with_window(self, region: Region, edit: FileEdit) -> FileEdit:
        """Have a flush say how long the windows are, where they are settled and no edit said so: rows that are flushed
        from then on are divided by windows, however long the first merge takes.
        """
        if not edit.is_flush or _knows_window(region.state):
            return edit
        return replace(edit, compaction_window_ms=self._desk_of(region).window_ms)

    def _merges_by_itself(self, region: Region) -> bool:
        return (region.options.compaction_mode or self._parts.config.compaction_mode) == "automatic"

    def cancel(self, region: Region) -> None:
        """Stop the merge under way at its next step, and give up the request that waits. Returns at once."""
        desk = self._desk_of(region)
        with self._lock:
            waiting, desk.waiting = desk.waiting, None
            if desk.cycle is not None:
                desk.cycle.is_cancelled = True
        if waiting is not None:
            _give_up(waiting, "the compaction was cancelled, because the table was changed meanwhile")

    # --- cycles -----------------------------------------------------------------------------------------

    def _hand_over(self, region: Region, cycle: _Cycle) -> None:
        lane = COMPACT_LANE if cycle.is_automatic else ASKED_LANE
        try:
            cycle.errand.hand_to(self._parts.scheduler, lane, partial(self._run, region, cycle))
        except BaseException:
            desk = self._desk_of(region)
            with self._lock:
                if desk.cycle is cycle:
                    desk.cycle = None
            raise

    def _run(self, region: Region, cycle: _Cycle) -> None:
        try:
            cycle.errand.run(partial(self._carry_out, region, cycle))
        finally:
            following = self._following(region, cycle)
            if following is not None:
                try:
                    self._hand_over(region, following)
                except MitoError as error:
                    following.errand.fail(error)

    def _following(self, region: Region, ended: _Cycle) -> _Cycle | None:
        """Return what is to follow a cycle that has ended: what was asked for, else what may have become due."""
        desk = self._desk_of(region)
        with self._lock:
            if desk.cycle is not ended:  # Somebody was faster: what waits follows that one.
                return None
            following, desk.waiting = desk.waiting, None
            if following is None and desk.is_triggered and not region.is_closed():
                following = _automatic()
            desk.cycle = following
            return following

    def _carry_out(self, region: Region, cycle: _Cycle) -> CompactResult:
        done, desk = _Done(), self._desk_of(region)
        self._begin_to_look(cycle, desk)
        with self._remembering(region, "compaction"):
            with desk.merging:
                done.expired += self._retention.drop_expired(region)
                self._merge_all(region, cycle, desk, done)
            if done.removed or done.expired:
                self._after(region)
        return done.result()

    def _merge_all(self, region: Region, cycle: _Cycle, desk: _Desk, done: _Done) -> None:
        """Merge until nothing is left to be merged. What cannot be merged is left out, and told of at the end."""
        if cycle.is_automatic and not self._merges_by_itself(region):
            return
        refusal: MitoError | None = None
        conflicts = 0
        while tasks := self._tasks(region, cycle, desk):
            for task in tasks:
                try:
                    added = self._merge(region, task, cycle, done.row_count)
                except ConflictError:
                    region.check_writable()
                    conflicts += 1
                    if conflicts > CONFLICTS_MAX or cycle.is_cancelled:
                        raise
                    break  # The plan is out of date: what else is in it may be too.
                except CorruptionError as error:
                    refusal = refusal or error
                    _set_aside(region, desk, task, error)
                    break
                except LimitExceededError as error:
                    refusal = refusal or error
                    cycle.skipped.update(file.file_id for file in task.inputs)
                    _log.warning("merge skipped region=%d error=%r", region.region_id, error)
                    break
                conflicts = 0
                done.note(task, added)
                cycle.told(done.row_count)
        if refusal is not None:
            raise refusal

    def _tasks(self, region: Region, cycle: _Cycle, desk: _Desk) -> tuple[CompactionTask, ...]:
        self._begin_to_look(cycle, desk)
        skipped = frozenset(cycle.skipped)
        return self.plan(region, cycle.request, skipped=skipped, tasks_max=TASKS_AT_ONCE, is_explained=False).tasks

    def _begin_to_look(self, cycle: _Cycle, desk: _Desk) -> None:
        """Note that an automatic cycle looks what is due: what comes from now on has to be looked at again."""
        if cycle.is_automatic:
            with self._lock:
                desk.is_triggered = False

    def _is_over(self, region: Region, cycle: _Cycle) -> bool:
        return cycle.is_cancelled or region.is_closed() or region.is_poisoned()

    # --- one task ---------------------------------------------------------------------------------------

    def _merge(self, region: Region, task: CompactionTask, cycle: _Cycle, merged_rows: int = 0) -> tuple[FileMeta, ...]:
        """Merge the inputs of a task and commit the outputs in their place.

        Raises:
            ConflictError: it is cancelled, or its plan is out of date. Nothing changed.

        """
        region.check_writable()
        self._check(region, task, cycle)
        merging = _Merging(region=region, task=task, cycle=cycle, now_ms=self._parts.clock.now_ms(), rows=merged_rows)
        if self._parts.compactor is not None:
            try:
                return self._commit_merge(merging, partial(self._merge_elsewhere, self._parts.compactor))
            except RefusedError as error:
                _log.warning("merged here and not elsewhere region=%d reason=%s", region.region_id, error)
            region.check_writable()
            self._check(region, task, cycle)  # Perhaps it was refused because its files went.
        return self._commit_merge(merging, self._merge_here)

    def _commit_merge(self, merging: _Merging, merge: _Merge) -> tuple[FileMeta, ...]:
        region, task, cycle = merging.region, merging.task, merging.cycle
        state = region.state
        with self._drafting(region) as draft:
            added = merge(merging, state, draft)
            edit = FileEdit(
                added=added,
                removed=tuple(file.file_id for file in task.inputs),
                compaction_window_ms=self._window_ms(region, state),
                at_ms=merging.now_ms,
                reason=cycle.request.reason,
            )
            with self._indexing.with_files(region, edit) as indexed:
                self._parts.hooks.sst_files_written(state.metadata, indexed.added)
                with region.editing():
                    region.check_writable()
                    self._check(region, task, cycle)
                    draft.commit(self._retention.noted(region, indexed))
        return added

    def _window_ms(self, region: Region, state: RegionState) -> int:
        settled = None if _knows_window(state) else self._desk_of(region).window_ms
        return settled or window_ms(state)

    def _merge_here(self, merging: _Merging, state: RegionState, draft: Draft) -> tuple[FileMeta, ...]:
        is_over = partial(self._is_over, merging.region, merging.cycle)
        pace = Pace(self._gives_way, is_over)

        def on_progress(row_count: int) -> None:
            merging.tell(row_count)
            if merging.cycle.is_automatic:
                pace.step()

        return compact_task(
            state.metadata,
            merging.task,
            dedup=state.options.dedup,
            store=self._parts.store,
            reader=self._parts.reader,
            new_file_id=draft.new_file_id,
            row_group_rows=state.options.row_group_rows or self._parts.config.row_group_rows,
            now_ms=merging.now_ms,
            is_over=is_over,
            on_progress=on_progress,
            submit=partial(self._parts.scheduler.submit, MERGE_LANE),
            helpers_max=merging.helpers_max,
            reserve=lambda size_bytes: self._allowance.lend(size_bytes, is_over),
        )

    def _merge_elsewhere(
        self, compactor: Compactor, merging: _Merging, state: RegionState, draft: Draft
    ) -> tuple[FileMeta, ...]:
        is_over = partial(self._is_over, merging.region, merging.cycle)
        sending = sending_of(
            state.metadata,
            merging.task,
            dedup=state.options.dedup,
            reader=self._parts.reader,
            job_id=self._parts.randomness.hex128(),
            new_file_id=draft.new_file_id,
            row_group_rows=state.options.row_group_rows or self._parts.config.row_group_rows,
            now_ms=merging.now_ms,
            helpers_max=merging.helpers_max,
        )
        with self._allowance.lend(sending.memory_bytes, is_over):
            return have_done(compactor, sending.job, self._parts.store, is_over=is_over, on_progress=merging.tell)

    def _check(self, region: Region, task: CompactionTask, cycle: _Cycle) -> None:
        """Refuse to go on with what was cancelled, or was planned on other files."""
        if cycle.is_cancelled:
            raise ConflictError("the compaction was cancelled, because the table was changed meanwhile.")
        state = region.state
        if not is_current(task, state.files, dedup=state.options.dedup, buffered=_buffered(region)):
            raise ConflictError("the files that were to be merged are not those of the table any more; plan again.")

    def settle(self, region: Region, reason: str) -> None:
        """Merge every file that shares a time with another, or holds a delete marker, whatever its window.

        Afterwards each key is in one row of one file, and nothing is deleted but not gone. Requires: nobody writes.
        """
        cycle = _Cycle(errand=Errand(), request=CompactRequest(reason=reason), told=lambda _: None)
        with self._desk_of(region).merging:
            files = region.state.files.values()
            for group in connected(files, lambda file: file.min_time, lambda file: file.max_time):
                if len(group) > 1 or group[0].delete_count:
                    task = CompactionTask(window_start=group[0].min_time, inputs=tuple(group), drop_deletes=True)
                    self._merge(region, task, cycle)

    def _desk_of(self, region: Region) -> _Desk:
        with self._lock:
            return self._desks.setdefault(region, _Desk())


def _automatic() -> _Cycle:
    return _Cycle(errand=Errand(), request=AUTOMATIC, told=lambda _: None)


def _alive(cycle: _Cycle | None) -> _Cycle | None:
    """Return a cycle unless it has ended, or never will, or was never handed over."""
    if cycle is None or cycle.errand.is_ended or cycle.errand.is_lost:
        return None
    return cycle if cycle.errand.carrier is not None or cycle.errand.is_begun else None


def _give_up(cycle: _Cycle, why: str) -> None:
    if cycle.errand.begin():  # Unless whoever asked was interrupted.
        cycle.errand.fail(ConflictError(f"{why}; nothing was changed by it. Ask again."))


def _set_aside(region: Region, desk: _Desk, task: CompactionTask, error: CorruptionError) -> None:
    """Leave a damaged file alone from now on.

    Raises:
        CorruptionError: it is none of the task's.

    """
    file_id = parse_sst_key(error.path)
    if file_id is None or all(file.file_id != file_id for file in task.inputs):
        raise error
    _log.error("damaged file left out of compactions region=%d file=%s error=%r", region.region_id, file_id, error)
    desk.damaged[file_id] = error


def _knows_window(state: RegionState) -> bool:
    return bool(state.options.compaction_window_ms or state.compaction_window_ms)


def _buffered(region: Region) -> list[RangeStats]:
    version = region.control.current().version
    return [part.stats for memtable in version.memtables for part in memtable.ranges()]
