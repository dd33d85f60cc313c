"""What a picker is asked and what it answers: frozen values, from which a person can read why.

A *scope* says what to look at, a *plan* what there is to do now, and of every window what it consists of and why it is
picked or not. A dry run is the plan and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from mitoframe.model.result import CompactResult
from mitoframe.model.timerange import EVERYTHING, TimeRange

if TYPE_CHECKING:
    from mitoframe.jobs.retention import Expiry
    from mitoframe.model.file import FileMeta

Mode: TypeAlias = Literal["due", "all", "strict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionScope:
    """What to compact: windows that have a time in ``times``.

    ``"due"``: what the policy finds due. ``"all"``: every window that is not one sorted run of files as large as they
    may be. ``"strict"``: the same, and no file reaches into two windows afterwards.
    """

    mode: Mode = "due"
    times: TimeRange = EVERYTHING

    @staticmethod
    def window_of(time: int, *, mode: Mode = "all") -> CompactionScope:
        """Say the one window that holds a time.

        >>> CompactionScope.window_of(5).times
        TimeRange(start=5, end=6)
        """
        return CompactionScope(mode=mode, times=TimeRange(time, time + 1))


AUTOMATIC = CompactionScope()
WHOLE_TABLE = CompactionScope(mode="all")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionTask:
    """Files to merge.

    Attributes:
        window_start: where the window of the newest row begins.
        inputs: the files, by their first times.
        drop_deletes: set only when no other file may hold an older version of any of their keys.
        reason: why they were picked, for people.
        output_size_bytes: about how large the outputs are together, duplicates not taken off.
        output_size_max_bytes: an output of this size is followed by another at the next series; None is no limit.
        output_windows: each has outputs of its own, and rows that are in none of them do not exist; none for outputs
            that hold any time.

    """

    window_start: int
    inputs: tuple[FileMeta, ...]
    drop_deletes: bool
    reason: str = ""
    output_size_bytes: int = 0
    output_size_max_bytes: int | None = None
    output_windows: tuple[TimeRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """One window: what it consists of, and why it is picked or not.

    Attributes:
        times: its start and end.
        file_count: of files whose newest row it holds, but for expired ones and those that are being compacted.
        size_bytes: of these files.
        run_count: sorted runs: how many of them a time of the window is in at most.
        is_active: rows came to it a short while ago.
        task_count: how many tasks of the plan are made of it.
        reason: for people.

    """

    times: TimeRange
    file_count: int
    size_bytes: int
    run_count: int
    is_active: bool
    task_count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionPlan:
    """What there is to do now. Tasks have no input in common; the newest window comes first.

    Attributes:
        window_ms: how long a window is; to be remembered with the first compaction.
        expiry: what the time to live says, None without one. Its files are in no task.
        tasks: what to merge.
        windows: every window that was looked at, the newest first.

    """

    window_ms: int
    expiry: Expiry | None
    tasks: tuple[CompactionTask, ...]
    windows: tuple[WindowPlan, ...]

    def is_empty(self) -> bool:
        """Tell whether there is nothing to do."""
        return not self.tasks and (self.expiry is None or not self.expiry.files)


def planned(plan: CompactionPlan) -> CompactResult:
    """Return a plan as what a compaction would do."""
    return CompactResult(
        removed=tuple(file for task in plan.tasks for file in task.inputs),
        expired=plan.expiry.files if plan.expiry is not None else (),
        merges=len(plan.tasks),
        dry_run=True,
    )
