"""What a table's files would have become under other options: a history of flushes, replayed with the picker.

The history is a real one or made up (jobs/arrivals.py). After every flush the picker is asked until it finds nothing
more, and merges are done at once; between flushes, and after the last, it is asked when a window has had no rows for
long enough. Nothing is read or written: an output is as large as its inputs together, less the delete markers that are
dropped. So bytes are conserved: what is flushed is live, or dropped, or expired, or was deleted.

Without deletes and a time to live, and where the last row wins, windows have nothing to do with each other. Such a
history, from the moment on at which the length of a window is known, is played through by a compiled twin of
the picker (kernels/replay.py) and not by the picker itself: thousands of flushes in milliseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mitoframe.jobs.arrivals import Arrival
from mitoframe.jobs.forwarding import Standing, divided, forward
from mitoframe.jobs.picking import settled_ms
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.jobs.windows import FlushedBounds, groups_of, infer_window_ms, table_of
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.model.options import HOUR_MS
from mitoframe.model.timerange import PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Many

    from mitoframe.jobs.tasks import CompactionTask
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import CompactionOptions
    from mitoframe.model.timerange import TimeUnit

    Columns: TypeAlias = dict[str, np.ndarray[Any, np.dtype[Any]]]

ROUNDS_MAX = 1_000
"""Of picking at one moment; each removes a file, so that it is never reached but by a fault."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulation:
    """What came of it, as columns.

    Attributes:
        steps: a line for each moment at which something came or was merged, and one for when the last removed file has
            gone. ``at_ms``; ``files``, ``live_bytes``; ``stored_bytes`` with those of removed files in their grace;
            ``flushed_bytes``, ``written_bytes`` (flushed and merged), ``dropped_bytes``, ``expired_bytes`` and
            ``deleted_bytes`` so far; ``write_amplification`` so far; ``windows``; ``runs_max`` and ``runs_mean`` of
            them, which is how many files a look at one time merges.
        tasks: a line for each merge. ``at_ms``, ``window_start``, ``inputs``, ``outputs``, ``input_bytes``,
            ``output_bytes``, ``reason``.
        files: those that are left.
        window_ms: how long a window is at the end, None if nothing told.

    """

    steps: Columns
    tasks: Columns
    files: tuple[FileMeta, ...]
    window_ms: int | None = None


def simulate(
    arrivals: Iterable[Arrival],
    options: CompactionOptions,
    *,
    unit: TimeUnit = "ms",
    grace_ms: int = HOUR_MS,
    is_compiled: bool = True,
) -> Simulation:
    """Replay what came, oldest first, until nothing is left that the picker waits for.

    ``grace_ms`` is how long a removed file stays. Unless ``is_compiled``, all is done by the picker itself.
    """
    replay = Replay(arrivals, options, unit=unit, grace_ms=grace_ms, is_compiled=is_compiled)
    while replay.advance():
        pass
    return replay.result()


def _by_moment(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """Return arrivals so that no two are of one moment."""
    found: list[Arrival] = []
    for arrival in arrivals:
        if found and found[-1].at_ms == arrival.at_ms:
            before = () if arrival.starts_anew else found[-1].files
            starts_anew = arrival.starts_anew or found[-1].starts_anew
            found[-1] = Arrival(at_ms=arrival.at_ms, files=(*before, *arrival.files), starts_anew=starts_anew)
        else:
            found.append(arrival)
    return found


def _plain_from(arrivals: Many[Arrival], options: CompactionOptions) -> int:
    """Return from which arrival on windows have nothing to do with each other."""
    if options.ttl_ms is not None or options.dedup != "last":
        return len(arrivals)
    if any(file.delete_count for arrival in arrivals for file in arrival.files):
        return len(arrivals)
    return max((number + 1 for number, arrival in enumerate(arrivals) if arrival.starts_anew), default=0)


class Replay:
    """A history that is replayed a round of picking at a time, for whoever cannot wait for all of it."""

    def __init__(
        self,
        arrivals: Iterable[Arrival],
        options: CompactionOptions,
        *,
        unit: TimeUnit = "ms",
        grace_ms: int = HOUR_MS,
        is_compiled: bool = True,
    ) -> None:
        """Take what `simulate` takes."""
        self.options, self.unit, self.grace_ms = options, unit, grace_ms
        self._left = _by_moment(arrivals)
        self._plain_from = _plain_from(self._left, options) if is_compiled else len(self._left)
        self._taken = 0
        self._ended: Simulation | None = None
        self.removed: deque[tuple[int, int]] = deque()
        self._removed_bytes = 0
        self.flushed_bytes = self.merged_bytes = self.dropped_bytes = self.expired_bytes = self.deleted_bytes = 0
        self._made = 0
        self._settles_ms: int | None = None
        self._now_ms: int | None = None
        """A moment at which more may be due than what was merged so far."""
        self._rounds = 0
        self._is_changed = False
        self.window_ms = options.window_ms
        self.files: dict[FileId, FileMeta] = {}
        self.steps: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []

    def advance(self) -> bool:
        """Ask the picker once, or go to the end at once where that is quick; tell whether there is more to come."""
        if self._ended is not None:
            return False
        if self._now_ms is not None:
            self._merge_more(self._now_ms)
            return True
        until_ms = self._left[self._taken].at_ms if self._taken < len(self._left) else None
        if self._settles_ms is not None and (until_ms is None or self._settles_ms < until_ms):
            self._begin(self._settles_ms, is_changed=False)
        elif until_ms is None:
            self._end()
        elif self._taken >= self._plain_from:
            self._ended = self._forwarded(self._left[self._taken :])
        else:
            self._take(self._left[self._taken])
            self._taken += 1
        return self._ended is None

    @property
    def share(self) -> float:
        """How much of what came has been replayed, from 0 to 1; 1 at the end and not before."""
        return 1.0 if self._ended is not None else self._taken / (len(self._left) + 1)

    def result(self) -> Simulation:
        """Return what has come of it so far."""
        return self._ended if self._ended is not None else self._so_far()

    def _take(self, arrival: Arrival) -> None:
        """Let files come."""
        came = {file.file_id: file for file in arrival.files}
        if arrival.starts_anew:
            gone = [file for file in self.files.values() if file.file_id not in came]
            brought = sum(file.size_bytes for file_id, file in came.items() if file_id not in self.files)
            self.deleted_bytes += sum(file.size_bytes for file in gone) - brought
            self._remove(arrival.at_ms, gone)
        else:
            self.flushed_bytes += sum(file.size_bytes for file in arrival.files)
        self.files |= came
        self._begin(arrival.at_ms, is_changed=True)

    def _begin(self, now_ms: int, *, is_changed: bool) -> None:
        self._now_ms, self._is_changed, self._rounds = now_ms, is_changed, 0

    def _merge_more(self, now_ms: int) -> None:
        """Merge what is due; if nothing is, this moment is over."""
        if self._rounds < ROUNDS_MAX and self._compact(now_ms):
            self._is_changed = True
            self._rounds += 1
            return
        self._now_ms = None
        if self._is_changed:
            self._note(now_ms)
        else:
            self._settles_ms = self._next_settling(now_ms)

    def _forwarded(self, arrivals: Many[Arrival]) -> Simulation:
        """Return what comes of this and all that is still to come. Requires: as `forward` says.

        Until the first merge settles how long windows are, that follows from the files there are: it changes a few
        times at most, and what comes between two such moments is replayed as if it did not change any more.
        """
        so_far = self._so_far()
        stretches = [(0, self.window_ms)] if self.window_ms else self._stretches(arrivals)
        for (begin, window_ms), following in zip(stretches, [*stretches[1:], None], strict=True):
            later = forward(
                self._standing(arrivals[begin].at_ms),
                arrivals[begin:],
                self.options,
                width=self._width_of(window_ms),
                grace_ms=self.grace_ms,
            )
            if following is None or (later.tasks and later.tasks["at_ms"][0] < arrivals[following[0]].at_ms):
                return Simulation(
                    steps=_together(so_far.steps, later.steps),
                    tasks=_together(so_far.tasks, later.tasks),
                    files=later.files,
                    window_ms=window_ms if later.tasks else self.window_ms,
                )
            is_before = later.steps["at_ms"] < arrivals[following[0]].at_ms
            steps = {name: column[is_before] for name, column in later.steps.items()}
            so_far = replace(so_far, steps=_together(so_far.steps, steps))
            for arrival in arrivals[begin : following[0]]:
                self.files |= {file.file_id: file for file in arrival.files}
                self.flushed_bytes += sum(file.size_bytes for file in arrival.files)
        raise AssertionError("the last stretch has no end")

    def _stretches(self, arrivals: Many[Arrival]) -> list[tuple[int, int]]:
        """Return from which arrival on windows are how long, as long as nothing is merged."""
        found: list[tuple[int, int]] = []
        bounds = FlushedBounds(self.files.values())
        for number, arrival in enumerate(arrivals):
            bounds.add(arrival.files)
            window_ms = bounds.window_ms(self.unit)
            if not found or found[-1][1] != window_ms:
                found.append((number, window_ms))
        return found

    def _standing(self, now_ms: int) -> Standing:
        return Standing(
            now_ms=now_ms,
            made=self._made,
            files=tuple(self.files.values()),
            removed=tuple(self.removed),
            flushed_bytes=self.flushed_bytes,
            merged_bytes=self.merged_bytes,
            dropped_bytes=self.dropped_bytes,
            expired_bytes=self.expired_bytes,
            deleted_bytes=self.deleted_bytes,
        )

    def _so_far(self) -> Simulation:
        return Simulation(
            steps=_columns(self.steps),
            tasks=_columns(self.tasks),
            files=tuple(self.files.values()),
            window_ms=self.window_ms,
        )

    def _end(self) -> None:
        """Let the last removed file go."""
        if self.removed:
            self._note(self.removed[-1][0] + self.grace_ms)
        self._ended = self._so_far()

    def _compact(self, at_ms: int) -> bool:
        plan = plan_compaction(
            self.files.values(),
            self.options,
            at_ms,
            unit=self.unit,
            known_window_ms=self.window_ms,
            is_explained=False,
        )
        for task in plan.tasks:
            self.window_ms = plan.window_ms
            self._merge(at_ms, task)
        if plan.expiry is not None and plan.expiry.files:
            self.expired_bytes += plan.expiry.size_bytes
            self._remove(at_ms, plan.expiry.files)
        return not plan.is_empty()

    def _merge(self, at_ms: int, task: CompactionTask) -> None:
        dropped = sum(_marker_bytes(file) for file in task.inputs) if task.drop_deletes else 0
        outputs = self._outputs(at_ms, task, dropped)
        output_bytes = sum(file.size_bytes for file in outputs)
        self.merged_bytes += output_bytes
        self.dropped_bytes += dropped
        self._remove(at_ms, task.inputs)
        self.files |= {file.file_id: file for file in outputs}
        self.tasks.append(
            {
                "at_ms": at_ms,
                "window_start": task.window_start,
                "inputs": len(task.inputs),
                "outputs": len(outputs),
                "input_bytes": task.output_size_bytes,
                "output_bytes": output_bytes,
                "reason": task.reason,
            }
        )

    def _outputs(self, at_ms: int, task: CompactionTask, dropped_bytes: int) -> list[FileMeta]:
        self._made += 1
        inputs = task.inputs
        deletes = 0 if task.drop_deletes else sum(file.delete_count for file in inputs)
        rows = sum(file.row_count - file.delete_count for file in inputs) + deletes
        size_bytes = task.output_size_bytes - dropped_bytes
        if not rows:
            return []
        merged = replace(
            inputs[0],
            level=LEVEL_COMPACTED,
            size_bytes=size_bytes,
            row_count=rows,
            delete_count=deletes,
            min_time=min(file.min_time for file in inputs),
            max_time=max(file.max_time for file in inputs),
            min_sequence=min(file.min_sequence for file in inputs),
            max_sequence=max(file.max_sequence for file in inputs),
            created_ms=at_ms,
        )
        limit = task.output_size_max_bytes
        return divided(merged, max(1, -(-size_bytes // limit)) if limit else 1, self._made)

    def _remove(self, at_ms: int, files: Iterable[FileMeta]) -> None:
        for file in files:
            del self.files[file.file_id]
            self.removed.append((at_ms, file.size_bytes))
            self._removed_bytes += file.size_bytes

    def _note(self, at_ms: int) -> None:
        """Add a line, and find out when a window will have settled."""
        while self.removed and self.removed[0][0] + self.grace_ms <= at_ms:
            self._removed_bytes -= self.removed.popleft()[1]
        live_bytes = sum(file.size_bytes for file in self.files.values())
        written_bytes = self.flushed_bytes + self.merged_bytes
        self.steps.append(
            {
                "at_ms": at_ms,
                "files": len(self.files),
                "live_bytes": live_bytes,
                "stored_bytes": live_bytes + self._removed_bytes,
                "flushed_bytes": self.flushed_bytes,
                "written_bytes": written_bytes,
                "dropped_bytes": self.dropped_bytes,
                "expired_bytes": self.expired_bytes,
                "deleted_bytes": self.deleted_bytes,
                "write_amplification": written_bytes / self.flushed_bytes if self.flushed_bytes else 1.0,
                **self._reading(),
            }
        )
        self._settles_ms = self._next_settling(at_ms)

    def _reading(self) -> dict[str, Any]:
        """Tell how many files a look at one time has to merge."""
        groups = groups_of(table_of(self.files.values()), self._width)
        if groups is None:
            return {"windows": 0, "runs_max": 0, "runs_mean": 0.0}
        runs = groups.per_window(groups.depth, np.maximum)
        return {
            "windows": len(runs),
            "runs_max": int(runs.max()),
            "runs_mean": float(runs.mean()),
        }

    def _next_settling(self, now_ms: int) -> int | None:
        """Return when the next window of several files will have had no rows for long enough, None if none will."""
        groups = groups_of(table_of(self.files.values()), self._width)
        if groups is None:
            return None
        moments = settled_ms(groups, self.options)[np.diff(groups.bounds) > 1]
        later = moments[moments > now_ms]
        return int(later.min()) if len(later) else None

    @property
    def _width(self) -> int:
        """How long a window is, in the unit of the files' times."""
        return self._width_of(self.window_ms or infer_window_ms(self.files.values(), self.unit))

    def _width_of(self, window_ms: int) -> int:
        return window_ms * PER_SECOND[self.unit] // 1000


def _marker_bytes(file: FileMeta) -> int:
    return file.size_bytes * file.delete_count // max(file.row_count, 1)


def _together(some: Columns, more: Columns) -> Columns:
    """Return the lines of some columns, and after them those of others."""
    if not some or not more:
        return some or more
    return {name: np.concatenate([column, more[name]]) for name, column in some.items()}


def _columns(rows: list[dict[str, Any]]) -> Columns:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
