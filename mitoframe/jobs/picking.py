"""Which groups of files to merge: the policies, each a pure function of arrays.

    by runs    A window with overlapping groups loses one sorted run at a time, the one that costs least, as soon as
               there are two; a window that is one run has neighbours joined once there are enough. Few runs, many
               rewrites.
    by count   Neighbours in time that fit into one file are merged once there are enough, and only if none is larger
               than all others together: so a row is rewritten a few times however many files come. A window to which
               nothing has come for a while becomes one run at last.
    all        For whoever asks: what overlaps is merged, and neighbours are joined while they fit into one file.

A choice always has at least two groups and leaves one, so that picking comes to an end. Its groups are of one window,
so that their hull overlaps nothing of another window that none of them did.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from mitoframe.jobs.windows import Groups, Ints
    from mitoframe.model.options import CompactionOptions

    Mask = npt.NDArray[np.bool_]

RUNS_PROBED_MAX = 100
GROUPS_PROBED_MAX = 1024
"""Of how many runs, the smallest, every pair is weighed: as many as hold no more groups than this."""
NEIGHBOURS_MAX = 100
"""How many groups of a single run are weighed, the oldest."""
DOMINANCE = 2
"""Neighbours are merged if all together are at least so many times as large as the largest."""
PATIENCE_MAX = 24
"""A window in which a large file would be rewritten for a little waits up to so many times longer."""
_NEVER_MS = -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Groups to merge, by their numbers, and why."""

    groups: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFacts:
    """Every window by its number in ``Groups.bounds``."""

    number: Ints
    group_count: Ints
    file_count: Ints
    size_bytes: Ints
    run_count: Ints
    is_active: Mask


def facts_of(groups: Groups, options: CompactionOptions, now_ms: int) -> WindowFacts:
    """Describe all windows. One is active for a while after the file that has its newest row was made, be it by a
    flush or by a merge: the longer, the more would be rewritten for how little.
    """
    return WindowFacts(
        number=groups.window[groups.bounds[:-1]],
        group_count=np.diff(groups.bounds),
        file_count=groups.per_window(groups.file_count, np.add),
        size_bytes=groups.per_window(groups.size_bytes, np.add),
        run_count=groups.per_window(groups.depth, np.maximum),
        is_active=settled_ms(groups, options) > now_ms,
    )


def settled_ms(groups: Groups, options: CompactionOptions) -> Ints:
    """Return until when each window is active."""
    largest = groups.per_window(groups.size_bytes, np.maximum)
    others = groups.per_window(groups.size_bytes, np.add) - largest
    patience = np.clip(largest / np.maximum(others, 1), 1, np.where(others > 0, PATIENCE_MAX, 1)) * options.settle_ms
    top = np.repeat(groups.per_window(groups.max_sequence, np.maximum), np.diff(groups.bounds))
    newest_ms = groups.per_window(np.where(groups.max_sequence == top, groups.created_ms, _NEVER_MS), np.maximum)
    until: Ints = newest_ms + patience.astype(np.int64)
    return until


# --- by runs --------------------------------------------------------------------------------------------


def pick_by_runs(
    groups: Groups, facts: WindowFacts, windows: Ints, options: CompactionOptions
) -> dict[int, list[Choice]]:
    """Pick in all windows that are given: remove the run that costs least, or join neighbours of the only one."""
    picked = {window: _by_runs(groups, facts, window, options) for window in windows.tolist()}
    return {window: choices for window, choices in picked.items() if choices}


def _by_runs(groups: Groups, facts: WindowFacts, window: int, options: CompactionOptions) -> list[Choice]:
    first, stop = int(groups.bounds[window]), int(groups.bounds[window + 1])
    if facts.run_count[window] > 1:
        chosen = _cheapest_pair(groups, first, stop)
        reason = runs_reason(int(facts.run_count[window]))
        parts = (_smallest(groups, part, options) for part in _clusters(groups, chosen))
        return [Choice(groups=tuple(part.tolist()), reason=reason) for part in parts if len(part) > 1]
    if facts.group_count[window] < options.trigger_files:
        return []
    first, stop = _best_neighbours(groups, first, min(stop, first + NEIGHBOURS_MAX), options)
    if stop - first < 2:
        return []
    return [Choice(groups=tuple(range(first, stop)), reason=joined_reason(int(facts.group_count[window])))]


def runs_reason(runs: int) -> str:
    return f"{runs} sorted runs; merging these removes one for the least"


def joined_reason(groups: int) -> str:
    return f"one sorted run of {groups} files; these neighbours are small"


def sorted_runs(groups: Groups, first: int, stop: int) -> Ints:
    """Divide groups of one window among as few runs as possible, none of which has two that overlap: each goes to the
    first run in which there is room for it.
    """
    runs = np.zeros(stop - first, dtype=np.int64)
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    count = 0
    starts, ends = groups.start_rank[first:stop].tolist(), groups.end_rank[first:stop].tolist()
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        if free:
            run = heappop(free)
        else:
            run, count = count, count + 1
        runs[k] = run
        heappush(busy, (end, run))
    return runs


def _cheapest_pair(groups: Groups, first: int, stop: int) -> Ints:
    """Return the groups of two runs that have a time in common, for the two runs where they are smallest together."""
    runs = sorted_runs(groups, first, stop)
    by_size = np.argsort(np.bincount(runs, weights=groups.size_bytes[first:stop]), kind="stable")
    held = np.cumsum(np.bincount(runs)[by_size])
    count = max(2, min(RUNS_PROBED_MAX, int(np.searchsorted(held, GROUPS_PROBED_MAX, side="right"))))
    place = np.full(len(by_size), -1, dtype=np.int64)
    place[by_size[:count]] = np.arange(min(count, len(by_size)))
    probed = np.flatnonzero(place[runs] >= 0)
    place, probed = place[runs][probed], probed + first
    meets = np.stack([_meets(groups, probed, probed[place == run]) for run in range(place.max() + 1)])
    cost = np.stack([np.bincount(place, weights=met * groups.size_bytes[probed]) for met in meets])
    left, right = np.triu_indices(len(cost), 1)
    best = int(np.argmin((cost + cost.T)[left, right]))
    one, other = int(left[best]), int(right[best])
    found: Ints = probed[(meets[one] & (place == other)) | (meets[other] & (place == one))]
    return found


def _meets(groups: Groups, asked: Ints, run: Ints) -> Mask:
    """Mark those of some groups that have a time in common with one of a run, an end included."""
    begun = np.searchsorted(groups.start_rank[run], groups.last_rank[asked], side="right")
    ended = np.searchsorted(groups.last_rank[run], groups.start_rank[asked], side="left")
    found: Mask = begun > ended
    return found


def _clusters(groups: Groups, chosen: Ints) -> Iterator[Ints]:
    """Divide groups where no time lies in two of them: one output would span what lies between."""
    reach = np.maximum.accumulate(groups.last_rank[chosen])[:-1]
    return iter(np.split(chosen, np.flatnonzero(reach < groups.start_rank[chosen][1:]) + 1))


def _smallest(groups: Groups, chosen: Ints, options: CompactionOptions) -> Ints:
    """Return as many of the smallest groups as one task may take."""
    ordered = chosen[np.argsort(groups.size_bytes[chosen], kind="stable")]
    fits = _fits(np.arange(1, len(ordered) + 1), np.cumsum(groups.size_bytes[ordered]), options)
    return np.sort(ordered[fits])


def _best_neighbours(groups: Groups, first: int, stop: int, options: CompactionOptions) -> tuple[int, int]:
    """Return the stretch of a run that is best joined: many, none much larger than the others, about a full file."""
    count = stop - first
    sizes = groups.size_bytes[first:stop]
    target = options.output_size_max_bytes
    best, found = -np.inf, (first, first)
    for begin in range(count - 1):
        total = np.cumsum(sizes[begin:])
        lengths = np.arange(1, count - begin + 1)
        fits = (lengths > 1) & (total <= target) & _fits(lengths, total, options)
        if not fits.any():
            continue
        largest = np.maximum.accumulate(sizes[begin:])
        share = total / target
        score = np.where(fits, (lengths - 1) / count + 1.5 * (1 - largest / np.maximum(total, 1)) + share, -np.inf)
        top = int(np.argmax(score))
        if score[top] > best:
            best, found = float(score[top]), (first + begin, first + begin + top + 1)
    return found


# --- by count -------------------------------------------------------------------------------------------


def pick_by_count(
    groups: Groups, facts: WindowFacts, windows: Ints, options: CompactionOptions
) -> dict[int, list[Choice]]:
    """Pick in all windows that are given: at most one merge of neighbours in each, or what makes an old one a run."""
    picked: dict[int, list[Choice]] = {}
    edges = groups.components(touching=False)
    for window in windows[(facts.run_count[windows] > 1) & ~facts.is_active[windows]].tolist():
        reason = settled_reason(int(facts.run_count[window]))
        parts = [part for part in _stretches(groups, edges, window, options) if len(part) > 1]
        if parts:
            picked[window] = [Choice(groups=part, reason=reason) for part in parts]
    trigger = np.where(facts.is_active, options.trigger_files, options.settled_trigger_files)
    left = np.setdiff1d(windows[facts.group_count[windows] >= trigger[windows]], list(picked))
    for window, first, stop in _best_intervals(groups, left, trigger, options):
        reason = neighbours_reason(stop - first, _overlapping_count(groups, first, stop))
        picked[window] = [Choice(groups=tuple(range(first, stop)), reason=reason)]
    return picked


def settled_reason(runs: int) -> str:
    return f"{runs} sorted runs, and nothing came for a while; these overlap"


def neighbours_reason(count: int, overlapping: int) -> str:
    return f"{count} neighbours, {overlapping} of which overlap, and none is larger than all others together"


def _best_intervals(
    groups: Groups, windows: Ints, trigger: Ints, options: CompactionOptions
) -> list[tuple[int, int, int]]:
    """Return window, first group and the one after the last of the best stretch of each window that has one: with most
    files, then with most groups that overlap, then with fewest bytes, then the oldest.
    """
    rows = np.concatenate([np.arange(groups.bounds[w], groups.bounds[w + 1]) for w in windows] or [np.arange(0)])
    if not len(rows):
        return []
    window = np.repeat(windows, groups.bounds[windows + 1] - groups.bounds[windows])
    longest = min(options.input_files_max, int((groups.bounds[windows + 1] - groups.bounds[windows]).max()))
    reach = rows[:, None] + np.arange(longest)
    inside = reach < groups.bounds[window + 1][:, None]
    reach = np.minimum(reach, rows.max())
    sizes = np.where(inside, groups.size_bytes[reach], 0)
    total = np.cumsum(sizes, axis=1)
    lengths = np.arange(1, longest + 1)
    eligible = inside & (lengths >= trigger[window][:, None]) & _fits(lengths, total, options)
    eligible &= total <= options.output_size_max_bytes
    eligible &= DOMINANCE * np.maximum.accumulate(sizes, axis=1) <= total
    if not eligible.any():
        return []
    nearest, following = _overlaps(groups, int(rows.min()), int(rows.max()) + 1, longest)
    before, after = nearest[reach - rows.min()] >= rows[:, None], following[reach - rows.min()]
    taking_part = np.cumsum(before | after, axis=1) - (after & ~before)
    merit = np.where(eligible, lengths * (longest + 1) + taking_part, -1)
    return _best_of_each(window, rows, merit, total)


def _best_of_each(window: Ints, rows: Ints, merit: Ints, total: Ints) -> list[tuple[int, int, int]]:
    most = merit.max(axis=1)
    fewest = np.where(merit == most[:, None], total, np.iinfo(np.int64).max)
    length = fewest.argmin(axis=1)
    size_bytes = np.take_along_axis(total, length[:, None], axis=1)[:, 0]
    order = np.lexsort((rows, size_bytes, -most, window))
    order = order[np.concatenate([[True], np.diff(window[order]) != 0])]
    return [(int(window[k]), int(rows[k]), int(rows[k] + length[k] + 1)) for k in order[most[order] > 0]]


def _overlaps(groups: Groups, first: int, stop: int, back_max: int) -> tuple[Ints, Mask]:
    """For each of some groups, return the nearest earlier one (of as many as are given) that overlaps it, -1 for none;
    and whether the next one does.
    """
    starts, ends = groups.start_rank[first:stop], groups.end_rank[first:stop]
    nearest = np.full(len(starts), -1, dtype=np.int64)
    for back in range(min(back_max, len(starts)) - 1, 0, -1):
        overlaps = ends[:-back] > starts[back:]
        nearest[back:][overlaps] = np.flatnonzero(overlaps) + first
    return nearest, np.concatenate([ends[:-1] > starts[1:], [False]])


def _overlapping_count(groups: Groups, first: int, stop: int) -> int:
    """Return how many of some neighbours overlap another of them."""
    starts, ends = groups.start_rank[first:stop], groups.end_rank[first:stop]
    reach = np.maximum.accumulate(ends)
    before = np.concatenate([[False], reach[:-1] > starts[1:]])
    after = np.concatenate([starts[1:] < ends[:-1], [False]])
    return int(np.count_nonzero(before | after))


def _stretches(groups: Groups, edges: Ints, window: int, options: CompactionOptions) -> Iterator[tuple[int, ...]]:
    """Yield the stretches of a window between edges, or as much of each as a task may take."""
    low, high = np.searchsorted(edges, [groups.bounds[window], groups.bounds[window + 1]])
    for first, stop in zip(edges[low:high].tolist(), edges[low + 1 : high + 1].tolist(), strict=True):
        yield (first,) if stop - first == 1 else _taken(groups, first, stop, options)


def _taken(groups: Groups, first: int, stop: int, options: CompactionOptions) -> tuple[int, ...]:
    """Return all groups of a stretch if a task may take them; else the most that were written after each other, and
    of several such choices the smallest.
    """
    chosen = np.arange(first, stop)
    if _fits(len(chosen), groups.size_bytes[chosen].sum(), options):
        return tuple(chosen.tolist())
    chosen = chosen[np.argsort(groups.min_sequence[chosen], kind="stable")]
    sizes = np.concatenate([[0], np.cumsum(groups.size_bytes[chosen])])
    begins = np.arange(len(chosen))
    ends = np.minimum(begins + options.input_files_max, len(chosen))
    if options.input_size_max_bytes is not None:
        within = np.searchsorted(sizes, sizes[:-1] + options.input_size_max_bytes, side="right") - 1
        ends = np.minimum(ends, within)
    best = int(np.lexsort((begins, sizes[np.maximum(ends, begins)] - sizes[begins], begins - ends))[0])
    return tuple(sorted(chosen[best : ends[best]].tolist()))


# --- all ------------------------------------------------------------------------------------------------


def pick_all(groups: Groups, windows: Ints, options: CompactionOptions) -> dict[int, list[Choice]]:
    """Pick in all windows that are given whatever has a time in common, and neighbours that fit into one file."""
    edges = groups.components(touching=True)
    picked = {}
    for window in windows.tolist():
        joined = [one for one in _packed(groups, _stretches(groups, edges, window, options), options) if len(one) > 1]
        if joined:
            picked[window] = [Choice(groups=one, reason="asked for") for one in joined]
    return picked


def _packed(
    groups: Groups, stretches: Iterator[tuple[int, ...]], options: CompactionOptions
) -> Iterator[tuple[int, ...]]:
    pack: tuple[int, ...] = ()
    size_bytes = 0
    for each in stretches:
        more_bytes = sum(int(groups.size_bytes[k]) for k in each)
        fits = size_bytes + more_bytes <= options.output_size_max_bytes
        fits &= len(pack) + len(each) <= options.input_files_max
        # What is only a part of what overlaps must not be joined to what lies beside it.
        if pack and fits and each[-1] + 1 - pack[0] == len(pack) + len(each):
            pack, size_bytes = pack + each, size_bytes + more_bytes
            continue
        if pack:
            yield pack
        pack, size_bytes = each, more_bytes
    if pack:
        yield pack


def _fits(count: Ints | int, size_bytes: Ints, options: CompactionOptions) -> Mask:
    fits: Mask = np.asarray(count) <= options.input_files_max
    return fits if options.input_size_max_bytes is None else fits & (size_bytes <= options.input_size_max_bytes)
