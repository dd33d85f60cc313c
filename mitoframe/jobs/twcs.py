"""Time-window compaction: which files to merge, as a pure function of files, options and now.

`plan_compaction` looks at a table's files window by window (jobs/windows.py), lets a policy choose among the groups of
each (jobs/picking.py), and turns choices into tasks. What it promises, whatever the policy: tasks have no input in
common; expired files (jobs/retention.py) and those that are being compacted are in none; a delete marker is dropped
only where nothing outside a task may hold what it hides, and no earlier moment that somebody holds needs it; and where
rows are filled from older ones, no version is left outside that lies between two that are merged, because a merged row
has one sequence for all its values. Everywhere else a row keeps its sequence through any merge, and which files are
merged together decides nothing but costs.

A plan may be out of date when its turn comes: `is_current` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mitoframe.jobs.picking import Choice, WindowFacts, facts_of, pick_all, pick_by_count, pick_by_runs
from mitoframe.jobs.retention import expiry_in
from mitoframe.jobs.strict import chains, output_windows
from mitoframe.jobs.tasks import AUTOMATIC, CompactionPlan, CompactionScope, CompactionTask, WindowPlan
from mitoframe.jobs.windows import (
    WINDOW_CHOICES_MS,
    FileTable,
    Groups,
    groups_of,
    infer_window_ms,
    table_of,
    window_for_span,
    window_ms,
)
from mitoframe.model.timerange import PER_SECOND, TIME_MAX, TIME_MIN, TimeRange

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from collections.abc import Sequence as Many

    from mitoframe.jobs.windows import Ints
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, Sequence
    from mitoframe.model.options import CompactionOptions, Dedup
    from mitoframe.model.timerange import TimeUnit
    from mitoframe.storage.memtable import RangeStats

__all__ = (
    "WINDOW_CHOICES_MS", "CompactionTask", "infer_window_ms", "is_current", "plan_compaction",
    "window_for_span", "window_ms",
)  # fmt: skip

WINDOWS_AT_ONCE = 64
"""How many windows are weighed together where that is faster; whoever wants a few tasks need not wait for all."""
CLOSURE_FILES_MAX = 256
"""A merge that fills values from older rows may grow to so many files by those it has to take along."""


def plan_compaction(
    files: Iterable[FileMeta],
    options: CompactionOptions,
    now_ms: int,
    *,
    unit: TimeUnit = "ms",
    known_window_ms: int | None = None,
    scope: CompactionScope = AUTOMATIC,
    buffered: Iterable[RangeStats] = (),
    busy: Collection[FileId] = frozenset(),
    held_sequence: Sequence | None = None,
    tasks_max: int | None = None,
    is_explained: bool = True,
) -> CompactionPlan:
    """Return what there is to do now, the newest window first, and why there is not more.

    Args:
        files: all of the table.
        options: what is due, and how much at a time.
        now_ms: the time.
        unit: of the files' times.
        known_window_ms: the window that an earlier compaction settled on.
        scope: what to look at; automatically, all that is due.
        buffered: what is known of rows that are in no file yet.
        busy: files that are being compacted; they are left alone, and count for what others may hold.
        held_sequence: the oldest sequence that somebody still reads changes from; None if nobody does.
        tasks_max: stop looking when there are so many tasks.
        is_explained: whether windows are described; tasks are the same without.

    Raises:
        LimitExceededError: strict windows are asked for, and there would be too many.

    """
    waiting = tuple(buffered)
    table = table_of(files)
    width_ms = options.window_ms or known_window_ms or infer_window_ms(table.files, unit)
    width = width_ms * PER_SECOND[unit] // 1000
    expiry = None
    if options.ttl_ms is not None:
        expiry = expiry_in(table, options.ttl_ms, now_ms, unit=unit, dedup=options.dedup, buffered=waiting)
    gone = {file.file_id for file in (*expiry.files, *expiry.waiting)} if expiry is not None else set()
    left = _numbers(table, gone.union(busy))
    groups = groups_of(table, width, left)
    if groups is not None and options.dedup == "none" and scope.mode == "due":
        groups = groups_of(table, width, _not_full(groups, options))
    if groups is None:
        return CompactionPlan(window_ms=width_ms, expiry=expiry, tasks=(), windows=())
    builder = _Builder(table, groups, options, waiting, held_sequence, width)
    facts = facts_of(groups, options, now_ms)
    windows = _windows_in(facts, scope.times, width)
    for window, choices in _choices(groups, facts, windows, scope, options, width):
        for choice in choices:
            if tasks_max is not None and len(builder.tasks) >= tasks_max:
                break
            builder.add(window, choice, is_strict=scope.mode == "strict")
        if len(builder.tasks) == tasks_max:
            builder.stopped_at = window
            break
    return CompactionPlan(
        window_ms=width_ms,
        expiry=expiry,
        tasks=tuple(builder.tasks),
        windows=tuple(_told(builder, facts, windows, scope, options, width)) if is_explained else (),
    )


def _numbers(table: FileTable, gone: Collection[FileId]) -> Ints | None:
    if not gone:
        return None
    return np.array([n for n, file in enumerate(table.files) if file.file_id not in gone], dtype=np.int64)


def _not_full(groups: Groups, options: CompactionOptions) -> Ints:
    """Return the files that a merge may make fewer of; where all rows are kept, it makes nothing else better."""
    counted = np.repeat(groups.size_bytes <= options.output_size_max_bytes, groups.file_count)
    found: Ints = groups.members[counted]
    return found


def _windows_in(facts: WindowFacts, times: TimeRange, width: int) -> Ints:
    """Return the windows that have a time in a range, the newest first."""
    wanted = _window_numbers(times, width)
    return np.flatnonzero((facts.number >= wanted.start) & (facts.number < wanted.stop))[::-1]


def _window_numbers(times: TimeRange, width: int) -> range:
    if times.is_empty():
        return range(0)
    last = TIME_MAX if times.end == TIME_MAX else times.end - 1
    return range(times.start // width, last // width + 1)


def _choices(
    groups: Groups, facts: WindowFacts, windows: Ints, scope: CompactionScope, options: CompactionOptions, width: int
) -> Iterator[tuple[int, list[Choice]]]:
    """Yield the choices of each window that has any, the newest first."""
    if scope.mode == "strict":
        yield from _strict_choices(groups, scope.times, width)
        return
    at_once = 1 if scope.mode == "due" and options.policy == "runs" else WINDOWS_AT_ONCE
    for start in range(0, len(windows), at_once):
        some = windows[start : start + at_once]
        picked = _picked(groups, facts, some, scope, options)
        yield from ((window, picked[window]) for window in some.tolist() if window in picked)


def _picked(
    groups: Groups, facts: WindowFacts, windows: Ints, scope: CompactionScope, options: CompactionOptions
) -> dict[int, list[Choice]]:
    if scope.mode == "all":
        return pick_all(groups, windows, options)
    if options.policy == "count":
        return pick_by_count(groups, facts, windows, options)
    return pick_by_runs(groups, facts, windows, options)


def _strict_choices(groups: Groups, times: TimeRange, width: int) -> Iterator[tuple[int, list[Choice]]]:
    wanted = _window_numbers(times, width)
    for chain in reversed(chains(groups, width)):
        first, last = int(groups.first[chain].min()) // width, int(groups.last[chain].max()) // width
        if first < wanted.stop and last >= wanted.start:
            newest = int(np.searchsorted(groups.bounds, chain[-1], side="right")) - 1
            yield newest, [Choice(groups=tuple(chain), reason="asked for, in strict windows")]


# --- choices become tasks -------------------------------------------------------------------------------


class _Builder:
    """The tasks there are so far, and why there is none of some windows."""

    def __init__(
        self,
        table: FileTable,
        groups: Groups,
        options: CompactionOptions,
        buffered: Many[RangeStats],
        held_sequence: Sequence | None,
        width: int,
    ) -> None:
        self._table, self._groups, self._options = table, groups, options
        self._buffered, self._held_sequence, self._width = buffered, held_sequence, width
        self._firsts, self._lasts = np.sort(table.first), np.sort(table.last)
        self._group_of = np.full(len(table.files), -1, dtype=np.int64)
        self._group_of[groups.members] = np.repeat(np.arange(len(groups)), groups.file_count)
        self._taken: set[int] = set()
        self.tasks: list[CompactionTask] = []
        self.counts: dict[int, int] = {}
        self.reasons: dict[int, str] = {}
        self.stopped_at = 0

    def add(self, window: int, choice: Choice, *, is_strict: bool) -> None:
        """Make a task of a choice, unless it may not be one."""
        chosen = set(choice.groups)
        if self._options.dedup == "merge":
            refusal = self._close(chosen)
            if refusal is not None:
                self.reasons.setdefault(window, refusal)
                return
        if chosen & self._taken:
            self.reasons.setdefault(window, "what belongs to it is in another task already")
            return
        windows = np.searchsorted(self._groups.bounds, sorted(chosen), side="right") - 1
        self.reasons |= dict.fromkeys(windows.tolist(), choice.reason)
        self._taken |= chosen
        self.counts[window] = self.counts.get(window, 0) + 1
        self.tasks.append(self._task(sorted(chosen), choice.reason, is_strict=is_strict))

    def reason(self, window: int) -> str | None:
        """Say why there is a task of a window, or was none; None if nothing came up."""
        found = self.reasons.get(window)
        if found is None and window < self.stopped_at:
            return "not looked at: newer windows come first"
        return found

    def _task(self, chosen: list[int], reason: str, *, is_strict: bool) -> CompactionTask:
        members = np.array(self._groups.members_of(chosen))
        first, last = int(self._table.first[members].min()), int(self._table.last[members].max())
        files = sorted(
            (self._table.files[k] for k in members.tolist()),
            key=lambda file: (file.min_time, file.max_time, file.min_sequence, file.file_id),
        )
        return CompactionTask(
            window_start=last // self._width * self._width,
            inputs=tuple(files),
            drop_deletes=self._may_drop_deletes(members, first, last),
            reason=reason,
            output_size_bytes=sum(file.size_bytes for file in files),
            output_size_max_bytes=self._options.output_size_max_bytes,
            output_windows=output_windows(first, last, self._width) if is_strict else (),
        )

    def _may_drop_deletes(self, members: Ints, first: int, last: int) -> bool:
        newest = int(self._table.max_sequence[members].max())
        if self._held_sequence is not None and newest > self._held_sequence:
            return False
        others = self._others(members, first, last)
        if np.any(self._table.min_sequence[others] < newest):
            return False
        return not any(
            part.min_time <= last and part.max_time >= first and part.min_sequence < newest for part in self._buffered
        )

    def _others(self, members: Ints, first: int, last: int) -> Ints:
        """Return the files outside a task that have a time in common with it."""
        begun = np.searchsorted(self._firsts, last, side="right")
        if begun - np.searchsorted(self._lasts, first, side="left") == len(members):
            return np.arange(0)
        return np.setdiff1d(self._table.overlapping(first, last), members, assume_unique=True)

    def _close(self, chosen: set[int]) -> str | None:
        """Take along what may hold versions between those that are chosen, whatever its window. Return why that is not
        possible, None if it was.
        """
        table = self._table
        while True:
            members = np.array(self._groups.members_of(chosen))
            first, last = int(table.first[members].min()), int(table.last[members].max())
            oldest, newest = int(table.min_sequence[members].min()), int(table.max_sequence[members].max())
            for part in self._buffered:
                if part.min_time <= last and part.max_time >= first and _lies_between(part, oldest, newest):
                    return "rows that are in no file yet lie between the versions it holds"
            others = self._others(members, first, last)
            between = (table.min_sequence[others] <= newest) & (table.max_sequence[others] >= oldest)
            if not between.any():
                return None
            more = self._group_of[others[between]]
            if (more < 0).any():
                name = table.files[others[between][more < 0][0]].file_id
                return f"file {name}, which cannot be merged now, lies between the versions it holds"
            chosen |= set(more.tolist())
            if len(self._groups.members_of(chosen)) > CLOSURE_FILES_MAX:
                return f"more than {CLOSURE_FILES_MAX} files hold versions between each other"


def _lies_between(part: FileMeta | RangeStats, oldest: int, newest: int) -> bool:
    return part.min_sequence <= newest and part.max_sequence >= oldest


def is_current(
    task: CompactionTask, files: Mapping[FileId, FileMeta], *, dedup: Dedup, buffered: Iterable[RangeStats] = ()
) -> bool:
    """Tell whether a task still holds for the files there are now: its inputs are among them, and nothing came since
    that it would bring back to sight, or hide.
    """
    if any(file.file_id not in files for file in task.inputs):
        return False
    if not task.drop_deletes and dedup != "merge":
        return True
    first, last = _times_of(task.inputs)
    oldest = min(file.min_sequence for file in task.inputs)
    newest = max(file.max_sequence for file in task.inputs)
    inside = {file.file_id for file in task.inputs}
    others: list[FileMeta | RangeStats] = [file for file in files.values() if file.file_id not in inside]
    touching = [each for each in (*others, *buffered) if each.min_time <= last and each.max_time >= first]
    if task.drop_deletes and any(each.min_sequence < newest for each in touching):
        return False
    return dedup != "merge" or not any(_lies_between(each, oldest, newest) for each in touching)


# --- why, and why not -----------------------------------------------------------------------------------


def _told(
    builder: _Builder,
    facts: WindowFacts,
    windows: Ints,
    scope: CompactionScope,
    options: CompactionOptions,
    width: int,
) -> Iterator[WindowPlan]:
    for window, number, files, size_bytes, runs, is_active in zip(
        windows.tolist(),
        facts.number[windows].tolist(),
        facts.file_count[windows].tolist(),
        facts.size_bytes[windows].tolist(),
        facts.run_count[windows].tolist(),
        facts.is_active[windows].tolist(),
        strict=True,
    ):
        yield WindowPlan(
            times=TimeRange(max(number * width, TIME_MIN), min((number + 1) * width, TIME_MAX)),
            file_count=files,
            size_bytes=size_bytes,
            run_count=runs,
            is_active=is_active,
            task_count=builder.counts.get(window, 0),
            reason=builder.reason(window)
            or _why_not(files, int(facts.group_count[window]), runs, options, scope, is_active=is_active),
        )


def _why_not(
    files: int, group_count: int, runs: int, options: CompactionOptions, scope: CompactionScope, *, is_active: bool
) -> str:
    if group_count == 1:
        return "one file" if files == 1 else f"one merge's {files} files, divided by series"
    if scope.mode != "due":
        return "no files that touch, and no neighbours that fit into one file"
    is_waiting = is_active and options.policy == "count"
    trigger = options.trigger_files if is_waiting or options.policy == "runs" else options.settled_trigger_files
    what = f"{runs} sorted runs of {files} files" if runs > 1 else f"one sorted run of {files} files"
    if runs > 1 and not is_waiting:
        return f"{what}, too large for one merge"
    if group_count < trigger:
        until = ", or until nothing comes for a while" if runs > 1 else ""
        return f"{what}: waits until there are {trigger}{until}"
    if options.policy == "runs":
        return f"{what}: no neighbours fit into one file"
    until = "; waits until nothing comes for a while" if runs > 1 else ""
    return f"{what}: no {trigger} neighbours fit into one file, none larger than the others together{until}"


def _times_of(group: Many[FileMeta]) -> tuple[int, int]:
    return min(file.min_time for file in group), max(file.max_time for file in group)
