"""A history in which windows have nothing to do with each other, replayed in one go by a compiled picker.

`mitoframe.jobs.simulator` hands over where it has come to and what is still to come, and gets what it would have found
itself. Here files become groups, groups become the arrays of `replay_windows`, and merges become steps, tasks, and the
files that are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mitoframe.jobs.picking import (
    GROUPS_PROBED_MAX,
    NEIGHBOURS_MAX,
    PATIENCE_MAX,
    RUNS_PROBED_MAX,
    joined_reason,
    neighbours_reason,
    runs_reason,
    settled_reason,
)
from mitoframe.jobs.windows import groups_of, table_of
from mitoframe.kernels.replay import NO_LIMIT, highest, replay_windows
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.model.ids import FileId, ManifestVersion, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    from mitoframe.jobs.arrivals import Arrival
    from mitoframe.jobs.windows import Ints
    from mitoframe.model.options import CompactionOptions

    Columns: TypeAlias = dict[str, np.ndarray[Any, np.dtype[Any]]]

_FACTS = attrgetter("min_time", "max_time", "size_bytes", "min_sequence", "max_sequence", "row_count", "created_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a replay has come to, after ``made`` merges.

    ``removed`` are times and bytes of removed files that are still stored.
    """

    now_ms: int
    made: int = 0
    files: tuple[FileMeta, ...] = ()
    removed: tuple[tuple[int, int], ...] = ()
    flushed_bytes: int = 0
    merged_bytes: int = 0
    dropped_bytes: int = 0
    expired_bytes: int = 0
    deleted_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forwarded:
    """What came after; as in `Simulation`."""

    steps: Columns
    tasks: Columns
    files: tuple[FileMeta, ...]


def forward(
    standing: Standing, arrivals: Many[Arrival], options: CompactionOptions, *, width: int, grace_ms: int
) -> Forwarded:
    """Replay what is still to come in windows of a width, in the unit of the files' times.

    Requires: arrivals are of different moments, oldest first, and at least one has files; nothing expires, the last row
    wins, and there are no delete markers.
    """
    leaves = _leaves(standing, arrivals, width)
    merged_ms, runs, weighed, size_bytes, offsets, members, *changes = replay_windows(
        np.append(np.flatnonzero(np.diff(leaves.window, prepend=leaves.window[0] - 1)), len(leaves.window)),
        leaves.at_ms,
        leaves.first,
        leaves.last,
        leaves.size_bytes,
        leaves.min_sequence,
        leaves.max_sequence,
        leaves.created_ms,
        options.policy == "runs",
        options.trigger_files,
        options.settled_trigger_files,
        options.settle_ms,
        options.input_files_max,
        NO_LIMIT if options.input_size_max_bytes is None else options.input_size_max_bytes,
        options.output_size_max_bytes,
        PATIENCE_MAX,
        RUNS_PROBED_MAX,
        GROUPS_PROBED_MAX,
        NEIGHBOURS_MAX,
    )
    merges = _Merges(
        at_ms=merged_ms,
        size_bytes=size_bytes,
        runs=runs,
        weighed=weighed,
        outputs=np.maximum(-(-size_bytes // options.output_size_max_bytes), 1),
        offsets=offsets,
        members=members,
    )
    return Forwarded(
        steps=_steps(standing, arrivals, merges, leaves, grace_ms, *changes),
        tasks=_tasks(merges, leaves, options, width) if len(merged_ms) else {},
        files=tuple(_files_left(merges, leaves, standing.made)),
    )


# --- what comes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Leaves:
    """Groups that came, by window and moment; ``files`` of each."""

    window: Ints
    at_ms: Ints
    first: Ints
    last: Ints
    size_bytes: Ints
    min_sequence: Ints
    max_sequence: Ints
    row_count: Ints
    created_ms: Ints
    file_count: Ints
    files: Many[tuple[FileMeta, ...]]


def _leaves(standing: Standing, arrivals: Many[Arrival], width: int) -> _Leaves:
    """Return the groups there are, and each file that is to come as one."""
    files = [*_groups(standing, width), *((file,) for arrival in arrivals for file in arrival.files)]
    count = len(files) - sum(len(arrival.files) for arrival in arrivals)
    came_ms = np.repeat([arrival.at_ms for arrival in arrivals], [len(arrival.files) for arrival in arrivals])
    at_ms = np.concatenate([np.full(count, standing.now_ms, dtype=np.int64), came_ms.astype(np.int64)])
    facts = np.array([_FACTS(file) for group in files for file in group], dtype=np.int64).T.copy()
    file_count = np.array(list(map(len, files)), dtype=np.int64)
    begins = np.cumsum(file_count) - file_count
    first, last, size_bytes, min_sequence, max_sequence, row_count, created_ms = facts
    last = np.maximum.reduceat(last, begins)
    order = np.lexsort((at_ms, last // width))
    return _Leaves(
        window=(last // width)[order],
        at_ms=at_ms[order],
        first=np.minimum.reduceat(first, begins)[order],
        last=last[order],
        size_bytes=np.add.reduceat(size_bytes, begins)[order],
        min_sequence=np.minimum.reduceat(min_sequence, begins)[order],
        max_sequence=np.maximum.reduceat(max_sequence, begins)[order],
        row_count=np.add.reduceat(row_count, begins)[order],
        created_ms=np.maximum.reduceat(created_ms, begins)[order],
        file_count=file_count[order],
        files=[files[k] for k in order.tolist()],
    )


def _groups(standing: Standing, width: int) -> Iterator[tuple[FileMeta, ...]]:
    table = table_of(standing.files)
    groups = groups_of(table, width)
    for group in range(len(groups) if groups is not None else 0):
        assert groups is not None
        yield tuple(table.files[k] for k in groups.members_of([group]))


# --- what came of it ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Merges:
    """Merges, window by window. Their inputs are leaves, and merges before them, numbered after all leaves."""

    at_ms: Ints
    size_bytes: Ints
    runs: Ints
    weighed: Ints
    outputs: Ints
    offsets: Ints
    members: Ints

    def per_merge(self, values: Ints) -> Ints:
        """Add up a number of each leaf and merge over the inputs of each merge."""
        return np.add.reduceat(values[self.members], self.offsets[:-1])

    def roots(self, leaf_count: int) -> Ints:
        """Return what each leaf, and each merge, is part of in the end."""
        roots = np.arange(leaf_count + len(self.at_ms))
        roots[self.members] = leaf_count + np.repeat(np.arange(len(self.at_ms)), np.diff(self.offsets))
        while True:
            further = roots[roots]
            if np.array_equal(further, roots):
                return roots
            roots = further


def _tasks(merges: _Merges, leaves: _Leaves, options: CompactionOptions, width: int) -> Columns:
    leaf_count = len(leaves.first)
    windows = np.empty(leaf_count + len(merges.at_ms), dtype=np.int64)
    windows[:leaf_count] = leaves.window
    windows[merges.roots(leaf_count)[:leaf_count]] = leaves.window
    window_start = windows[merges.roots(leaf_count)[leaf_count:]] * width
    order = np.lexsort((np.arange(len(merges.at_ms)), -window_start, merges.at_ms))
    counts = np.diff(merges.offsets)
    reasons = [
        _reason(options, *facts)
        for facts in zip(
            merges.runs[order].tolist(), counts[order].tolist(), merges.weighed[order].tolist(), strict=True
        )
    ]
    return {
        "at_ms": merges.at_ms[order],
        "window_start": window_start[order],
        "inputs": merges.per_merge(np.concatenate([leaves.file_count, merges.outputs]))[order],
        "outputs": merges.outputs[order],
        "input_bytes": merges.size_bytes[order],
        "output_bytes": merges.size_bytes[order],
        "reason": np.array(reasons),
    }


def _reason(options: CompactionOptions, runs: int, count: int, weighed: int) -> str:
    if options.policy == "runs":
        return runs_reason(runs) if runs else joined_reason(weighed)
    return settled_reason(runs) if runs else neighbours_reason(count, weighed)


def _steps(
    standing: Standing,
    arrivals: Many[Arrival],
    merges: _Merges,
    leaves: _Leaves,
    grace_ms: int,
    changed_ms: Ints,
    runs_before: Ints,
    runs_after: Ints,
) -> Columns:
    arrived_ms = np.array([arrival.at_ms for arrival in arrivals], dtype=np.int64)
    moments = np.unique(np.concatenate([arrived_ms, merges.at_ms]))
    removed_ms = np.concatenate([[at_ms for at_ms, _ in standing.removed], merges.at_ms]).astype(np.int64)
    removed_bytes = np.concatenate([[size for _, size in standing.removed], merges.size_bytes]).astype(np.int64)
    if len(removed_ms) and removed_ms.max() + grace_ms > moments[-1]:
        moments = np.append(moments, removed_ms.max() + grace_ms)
    came_bytes = np.array([sum(file.size_bytes for file in arrival.files) for arrival in arrivals], dtype=np.int64)
    came_files = np.array([len(arrival.files) for arrival in arrivals], dtype=np.int64)
    flushed = standing.flushed_bytes + _until(moments, arrived_ms, came_bytes)
    written = flushed + standing.merged_bytes + _until(moments, merges.at_ms, merges.size_bytes)
    live = sum(file.size_bytes for file in standing.files) + _until(moments, arrived_ms, came_bytes)
    files = len(standing.files) + _until(moments, arrived_ms, came_files)
    if len(merges.at_ms):
        inputs = merges.per_merge(np.concatenate([leaves.file_count, merges.outputs]))
        files = files + _until(moments, merges.at_ms, merges.outputs - inputs)
    stored = live + _until(moments, removed_ms, removed_bytes) - _until(moments - grace_ms, removed_ms, removed_bytes)
    order = np.argsort(changed_ms, kind="stable")
    runs_before, runs_after, changed_ms = runs_before[order], runs_after[order], changed_ms[order]
    windows = _until(moments, changed_ms, (runs_before == 0).astype(np.int64))
    place = np.searchsorted(changed_ms, moments, side="right") - 1
    return {
        "at_ms": moments,
        "files": files,
        "live_bytes": live,
        "stored_bytes": stored,
        "flushed_bytes": flushed,
        "written_bytes": written,
        "dropped_bytes": np.full(len(moments), standing.dropped_bytes),
        "expired_bytes": np.full(len(moments), standing.expired_bytes),
        "deleted_bytes": np.full(len(moments), standing.deleted_bytes),
        "write_amplification": np.where(flushed > 0, written / np.maximum(flushed, 1), 1.0),
        "windows": windows,
        "runs_max": np.where(place >= 0, highest(runs_before, runs_after)[place], 0),
        "runs_mean": _until(moments, changed_ms, runs_after - runs_before) / np.maximum(windows, 1),
    }


def _until(moments: Ints, at_ms: Ints, values: Ints) -> Ints:
    """Return the sum of the values that had come by each moment."""
    order = np.argsort(at_ms, kind="stable")
    sums = np.concatenate([[0], np.cumsum(values[order])])
    found: Ints = sums[np.searchsorted(at_ms[order], moments, side="right")]
    return found


def _files_left(merges: _Merges, leaves: _Leaves, made: int) -> Iterator[FileMeta]:
    count = len(leaves.first)
    roots = merges.roots(count)[:count]
    for leaf in np.flatnonzero(roots == np.arange(count)).tolist():
        yield from leaves.files[leaf]
    merged = np.flatnonzero(roots >= count)
    merged = merged[np.argsort(roots[merged], kind="stable")]
    if not len(merged):
        return
    begins = np.flatnonzero(np.diff(roots[merged], prepend=-1))
    numbers = roots[merged][begins] - count
    facts = zip(
        numbers.tolist(),
        merged[begins].tolist(),
        np.minimum.reduceat(leaves.first[merged], begins).tolist(),
        np.maximum.reduceat(leaves.last[merged], begins).tolist(),
        np.add.reduceat(leaves.row_count[merged], begins).tolist(),
        np.minimum.reduceat(leaves.min_sequence[merged], begins).tolist(),
        np.maximum.reduceat(leaves.max_sequence[merged], begins).tolist(),
        strict=True,
    )
    for number, leaf, first, last, row_count, min_sequence, max_sequence in facts:
        merged_file = replace(
            leaves.files[leaf][0],
            level=LEVEL_COMPACTED,
            size_bytes=int(merges.size_bytes[number]),
            row_count=row_count,
            delete_count=0,
            min_time=first,
            max_time=last,
            min_sequence=Sequence(min_sequence),
            max_sequence=Sequence(max_sequence),
            created_ms=int(merges.at_ms[number]),
        )
        yield from divided(merged_file, int(merges.outputs[number]), made + number + 1)


def divided(file: FileMeta, count: int, number: int) -> list[FileMeta]:
    """Divide what the merge of a number makes among files of about the same size, which differ in series."""
    return [
        replace(
            file,
            file_id=FileId(f"{number:024x}{n:08x}"),
            size_bytes=_share(file.size_bytes, n, count),
            row_count=_share(file.row_count, n, count),
            delete_count=_share(file.delete_count, n, count),
            derived_version=ManifestVersion(number),
        )
        for n in range(count)
    ]


def _share(total: int, number: int, count: int) -> int:
    """Divide a number so that the parts add up to it."""
    return total * (number + 1) // count - total * number // count
