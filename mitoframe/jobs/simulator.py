"""What a table's files would have become under other options: a history of flushes, replayed with the picker.

The history is a real one (`flushes_of` a table's state) or made up (`WriteLoad.flushes`). After every flush the picker
is asked until it finds nothing more, and merges are done at once; after the last it is asked again as time goes by,
until all has settled. Nothing is read or written: an output is as large as its inputs together, less the delete markers
that are dropped. So bytes are conserved: what is flushed is live, or dropped, or expired.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mitoframe.jobs.flush import SST_ROWS_MIN
from mitoframe.jobs.picking import PATIENCE_MAX
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.jobs.windows import groups_of, table_of
from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import FileId, ManifestVersion, Sequence
from mitoframe.model.options import HOUR_MS
from mitoframe.model.timerange import PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mitoframe.jobs.tasks import CompactionTask
    from mitoframe.model.edit import RegionState
    from mitoframe.model.options import CompactionOptions
    from mitoframe.model.timerange import TimeUnit

    Columns: TypeAlias = dict[str, np.ndarray[Any, np.dtype[Any]]]

DAY_MS = 24 * HOUR_MS
ROUNDS_MAX = 1_000
"""Of picking at one moment; each removes a file, so that it is never reached but by a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What came of it, as columns.

    Attributes:
        steps: a line for each moment. ``at_ms``; ``files``, ``live_bytes``; ``stored_bytes`` with those of removed
            files in their grace; ``flushed_bytes``, ``written_bytes`` (flushed and merged), ``dropped_bytes`` and
            ``expired_bytes`` so far; ``write_amplification`` so far; ``windows``; ``runs_max`` and ``runs_mean`` of
            them; ``depth``: how many files hold one time at most.
        tasks: a line for each merge. ``at_ms``, ``window_start``, ``inputs``, ``outputs``, ``input_bytes``,
            ``output_bytes``, ``reason``.
        files: those that are left.

    """

    steps: Columns
    tasks: Columns
    files: tuple[FileMeta, ...]


def simulate(
    flushed: Iterable[FileMeta],
    options: CompactionOptions,
    *,
    unit: TimeUnit = "ms",
    grace_ms: int = HOUR_MS,
    settles: bool = True,
) -> Simulation:
    """Replay a history of flushed files; those that were made at one time are of one flush.

    ``grace_ms`` is how long a removed file stays. With ``settles`` time goes on after the last flush until nothing that
    the picker waits for is left.
    """
    replay = _Replay(options, unit, grace_ms)
    by_flush = sorted(flushed, key=lambda file: (file.created_ms, file.min_sequence, file.file_id))
    for at_ms, files in groupby(by_flush, key=lambda file: file.created_ms):
        replay.flush(at_ms, list(files))
    if settles and by_flush:
        last_ms, step_ms = by_flush[-1].created_ms, max(options.settle_ms, 1)
        for n in range(1, 2 * PATIENCE_MAX + 1):
            replay.flush(last_ms + n * step_ms, [])
    return Simulation(steps=_columns(replay.steps), tasks=_columns(replay.tasks), files=tuple(replay.files.values()))


def flushes_of(state: RegionState) -> list[FileMeta]:
    """Return the flushed files of a table, as far back as its manifest remembers them."""
    known = {file.file_id: file for file in state.files.values()}
    known |= {removed.file.file_id: removed.file for removed in state.removed_files if removed.file is not None}
    return [file for file in known.values() if file.level == LEVEL_FLUSHED]


class _Replay:
    def __init__(self, options: CompactionOptions, unit: TimeUnit, grace_ms: int) -> None:
        self._options, self._unit, self._grace_ms = options, unit, grace_ms
        self._window_ms = options.window_ms
        self._removed: deque[tuple[int, int]] = deque()
        self._removed_bytes = 0
        self._flushed_bytes = self._merged_bytes = self._dropped_bytes = self._expired_bytes = 0
        self._made = 0
        self.files: dict[FileId, FileMeta] = {}
        self.steps: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []

    def flush(self, at_ms: int, files: list[FileMeta]) -> None:
        """Let a flush come, or none, and merge until nothing is due."""
        self.files |= {file.file_id: file for file in files}
        self._flushed_bytes += sum(file.size_bytes for file in files)
        for _ in range(ROUNDS_MAX):
            if not self._compact(at_ms):
                break
        while self._removed and self._removed[0][0] + self._grace_ms <= at_ms:
            self._removed_bytes -= self._removed.popleft()[1]
        self.steps.append(self._step(at_ms))

    def _compact(self, at_ms: int) -> bool:
        plan = plan_compaction(
            self.files.values(),
            self._options,
            at_ms,
            unit=self._unit,
            known_window_ms=self._window_ms,
            is_explained=False,
        )
        for task in plan.tasks:
            self._window_ms = plan.window_ms
            self._merge(at_ms, task)
        if plan.expiry is not None and plan.expiry.files:
            self._expired_bytes += plan.expiry.size_bytes
            self._remove(at_ms, plan.expiry.files)
        return not plan.is_empty()

    def _merge(self, at_ms: int, task: CompactionTask) -> None:
        dropped = sum(_marker_bytes(file) for file in task.inputs) if task.drop_deletes else 0
        outputs = self._outputs(at_ms, task, dropped)
        output_bytes = sum(file.size_bytes for file in outputs)
        self._merged_bytes += output_bytes
        self._dropped_bytes += dropped
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
        """Divide a task's rows among files that are not too large; they are of one merge, and differ in series."""
        self._made += 1
        inputs = task.inputs
        deletes = 0 if task.drop_deletes else sum(file.delete_count for file in inputs)
        rows = sum(file.row_count - file.delete_count for file in inputs) + deletes
        size_bytes = task.output_size_bytes - dropped_bytes
        count = max(1, -(-size_bytes // task.output_size_max_bytes)) if task.output_size_max_bytes else 1
        if not rows:
            return []
        return [
            replace(
                inputs[0],
                file_id=FileId(f"{self._made:024x}{n:08x}"),
                level=LEVEL_COMPACTED,
                size_bytes=_share(size_bytes, n, count),
                row_count=_share(rows, n, count),
                delete_count=_share(deletes, n, count),
                min_time=min(file.min_time for file in inputs),
                max_time=max(file.max_time for file in inputs),
                min_sequence=min(file.min_sequence for file in inputs),
                max_sequence=max(file.max_sequence for file in inputs),
                created_ms=at_ms,
                derived_version=ManifestVersion(self._made),
            )
            for n in range(count)
        ]

    def _remove(self, at_ms: int, files: Iterable[FileMeta]) -> None:
        for file in files:
            del self.files[file.file_id]
            self._removed.append((at_ms, file.size_bytes))
            self._removed_bytes += file.size_bytes

    def _step(self, at_ms: int) -> dict[str, Any]:
        live_bytes = sum(file.size_bytes for file in self.files.values())
        written_bytes = self._flushed_bytes + self._merged_bytes
        return {
            "at_ms": at_ms,
            "files": len(self.files),
            "live_bytes": live_bytes,
            "stored_bytes": live_bytes + self._removed_bytes,
            "flushed_bytes": self._flushed_bytes,
            "written_bytes": written_bytes,
            "dropped_bytes": self._dropped_bytes,
            "expired_bytes": self._expired_bytes,
            "write_amplification": written_bytes / max(self._flushed_bytes, 1),
            **self._reading(),
        }

    def _reading(self) -> dict[str, Any]:
        """Tell how many files a look at one time has to merge."""
        table = table_of(self.files.values())
        width = (self._window_ms or DAY_MS) * PER_SECOND[self._unit] // 1000
        groups = groups_of(table, width)
        if groups is None:
            return {"windows": 0, "runs_max": 0, "runs_mean": 0.0, "depth": 0}
        runs = groups.per_window(groups.depth, np.maximum)
        everywhere = groups_of(table, _ONE_WINDOW)
        assert everywhere is not None
        return {
            "windows": len(runs),
            "runs_max": int(runs.max()),
            "runs_mean": float(runs.mean()),
            "depth": int(everywhere.depth.max()),
        }


_ONE_WINDOW = 2**62


def _marker_bytes(file: FileMeta) -> int:
    return file.size_bytes * file.delete_count // max(file.row_count, 1)


def _share(total: int, number: int, count: int) -> int:
    """Divide a number so that the parts add up to it."""
    return total * (number + 1) // count - total * number // count


def _columns(rows: list[dict[str, Any]]) -> Columns:
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


# --- histories that are made up -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLoad:
    """Rows that come evenly, some of them late. The same load makes the same files.

    Attributes:
        span_ms: how long rows come.
        flush_ms: how often what came is flushed.
        rows_per_second: how many come.
        row_bytes: of a row in a file.
        late_share: which part of the rows is late.
        late_ms: by how much at most; any lateness up to it is as frequent.
        partition_ms: a flush writes a file for each window of this length, but for windows with few rows.
        delete_share: which part of the rows are delete markers.
        begin_ms: when the first row comes.

    """

    span_ms: int = DAY_MS
    flush_ms: int = 10 * 60_000
    rows_per_second: int = 400
    row_bytes: int = 10
    late_share: float = 0.0
    late_ms: int = 6 * HOUR_MS
    partition_ms: int = DAY_MS
    delete_share: float = 0.0
    begin_ms: int = 0

    def flushes(self) -> Iterator[FileMeta]:
        """Yield the files that are flushed, in the order in which they come; times are in milliseconds."""
        sequence = 1
        for number in range(-(-self.span_ms // self.flush_ms)):
            start = self.begin_ms + number * self.flush_ms
            stop = min(start + self.flush_ms, self.begin_ms + self.span_ms)
            parts = self._joined(self._rows_by_window(start, stop))
            following = sequence + sum(rows for rows, _, _ in parts)
            for part, (rows, first, last) in enumerate(parts):
                yield FileMeta(
                    file_id=FileId(f"{number:016x}{part:015x}f"),
                    level=LEVEL_FLUSHED,
                    size_bytes=rows * self.row_bytes,
                    checksum=0,
                    row_count=rows,
                    delete_count=int(rows * self.delete_share),
                    series_count=1,
                    row_group_count=1,
                    min_time=first,
                    max_time=last,
                    min_sequence=Sequence(sequence),
                    max_sequence=Sequence(following - 1),
                    schema_version=1,
                    created_ms=stop,
                )
            sequence = following

    def _rows_by_window(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return rows, first and last time of each window that rows of a flush belong to, the oldest first."""
        total = self.rows_per_second * (stop - start) // 1000
        late = int(total * self.late_share)
        since = max(start - self.late_ms, self.begin_ms)
        if since == start:
            late = 0  # Nothing was there yet for them to be late for.
        found: dict[int, tuple[int, int, int]] = {}
        for rows, low, high in ((late, since, start), (total - late, start, stop)):
            if not rows:
                continue
            for first in range(low // self.partition_ms * self.partition_ms, high, self.partition_ms):
                begin, end = max(first, low), min(first + self.partition_ms, high)
                part = rows * (end - low) // (high - low) - rows * (begin - low) // (high - low)
                if part:
                    known = found.get(first, (0, begin, end - 1))
                    found[first] = known[0] + part, min(known[1], begin), max(known[2], end - 1)
        return [found[first] for first in sorted(found)]

    def _joined(self, parts: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Join windows with few rows to the one before, as a flush does."""
        joined: list[tuple[int, int, int]] = []
        count = SST_ROWS_MIN
        for rows, first, last in parts:
            count += rows
            if count < SST_ROWS_MIN:
                joined[-1] = joined[-1][0] + rows, joined[-1][1], last
            else:
                joined.append((rows, first, last))
                count = rows
        return joined
