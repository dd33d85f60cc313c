"""Years of flushes and merges in milliseconds: the policies that decide what is due, played through window by window.

The policies themselves are `pick_by_count` and `pick_by_runs` of `mitoframe.jobs.picking`, written for tables with many
windows at one moment; here is the same for one window at many moments, for whoever wants to see what other options
would have made of a history. A test compares both, merge by merge.

A window's *groups* (see `mitoframe.jobs.windows`) are numbered: first those that come, in the order in which they do,
then those that merges make. Groups that are there lie in the order of their first times, of their last times downwards,
and of their sequences.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import Int64Array, device, kernel

NEVER_MS = -(2**62)
"""Before any moment."""
NO_LIMIT = 2**62
_TAKEN = -1
"""Stands for the run of a group that is merged."""


@kernel
def replay_windows(
    window_starts: Int64Array,
    at_ms: Int64Array,
    first: Int64Array,
    last: Int64Array,
    size_bytes: Int64Array,
    min_sequence: Int64Array,
    max_sequence: Int64Array,
    created_ms: Int64Array,
    is_by_runs: bool,
    trigger_files: int,
    settled_trigger_files: int,
    settle_ms: int,
    input_files_max: int,
    input_size_max_bytes: int,
    output_size_max_bytes: int,
    patience_max: int,
    runs_probed_max: int,
    groups_probed_max: int,
    neighbours_max: int,
) -> tuple[
    Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array
]:  # fmt: skip
    """Merge whatever is due whenever groups come or a window has settled.

    Return of each merge when it was; how many sorted runs the window had, if that is why, else 0; if it is 0, by count
    how many of the inputs overlap, by runs how many groups the window had; and its bytes; where the inputs of each
    begin, and the inputs; and of each change of a window's number of sorted runs the moment, and the number before and
    after.

    By runs, what is due does not depend on whether a window has settled.

    Requires: groups are sorted by window, then by ``at_ms``; ``window_starts`` says where each window's begin, and at
    the end how many groups there are; two runs or more are probed.
    """
    came = first.size
    starts, stops, ends = np.empty(2 * came, np.int64), np.empty(2 * came, np.int64), np.empty(2 * came, np.int64)
    sizes, sequences = np.empty(2 * came, np.int64), np.empty(2 * came, np.int64)
    created, newest = np.empty(2 * came, np.int64), np.empty(2 * came, np.int64)
    for group in range(came):
        starts[group], stops[group] = first[group], last[group]
        ends[group] = last[group] if last[group] > first[group] else first[group] + 1
        sizes[group], sequences[group] = size_bytes[group], min_sequence[group]
        created[group], newest[group] = created_ms[group], max_sequence[group]
    merged_ms, merged_runs = np.empty(came, np.int64), np.empty(came, np.int64)
    weighed, offsets = np.empty(came, np.int64), np.zeros(came + 1, np.int64)
    members = np.empty(2 * came, np.int64)
    changed_ms = np.empty(2 * came, np.int64)
    runs_before, runs_after = np.empty(2 * came, np.int64), np.empty(2 * came, np.int64)
    there, scratch = np.empty(came, np.int64), np.empty(came, np.int64)
    # What is merged at once: the places of all inputs, and where in that each merge begins.
    chosen, picked = np.empty(came, np.int64), np.zeros(came + 1, np.int64)
    run_of, run_ends, by_size = np.empty(came, np.int64), np.empty(came, np.int64), np.empty(came, np.int64)
    run_bytes, held = np.empty(came, np.int64), np.empty(came + 1, np.int64)
    merges, changes = 0, 0
    for window in range(window_starts.size - 1):
        count, known_runs = 0, 0
        following, stop = window_starts[window], window_starts[window + 1]
        now_ms = NEVER_MS
        while True:
            wakes_ms = _settled_ms(there, count, sizes, created, newest, settle_ms, patience_max)
            is_waiting = count > 1 and wakes_ms > now_ms and not is_by_runs
            if following < stop and (not is_waiting or at_ms[following] <= wakes_ms):
                now_ms = at_ms[following]
                while following < stop and at_ms[following] == now_ms:
                    count = _insert(there, count, following, starts, stops, sequences)
                    following += 1
            elif is_waiting:
                now_ms = wakes_ms
            else:
                break
            while True:
                runs = _runs(there, count, starts, ends, scratch)
                is_active = _settled_ms(there, count, sizes, created, newest, settle_ms, patience_max) > now_ms
                picks = 0
                if is_by_runs and runs > 1:
                    picks = _cheapest_pair(
                        there, count, starts, stops, ends, sizes, runs_probed_max, groups_probed_max, input_files_max,
                        input_size_max_bytes, scratch, run_of, run_ends, by_size, run_bytes, held, chosen, picked,
                    )  # fmt: skip
                elif runs > 1 and not is_active:
                    picks = _overlapping_stretches(
                        there, count, starts, ends, sizes, sequences, input_files_max, input_size_max_bytes, scratch,
                        chosen, picked,
                    )  # fmt: skip
                deciding_runs = runs if picks > 0 else 0
                trigger = trigger_files if is_active or is_by_runs else settled_trigger_files
                if is_by_runs and runs == 1 and count >= trigger:
                    picks = _best_neighbours(
                        there, min(count, neighbours_max), sizes, input_files_max, input_size_max_bytes,
                        output_size_max_bytes, chosen, picked,
                    )  # fmt: skip
                    scratch[0] = count
                elif picks == 0 and count >= trigger and not is_by_runs:
                    picks = _best_interval(
                        there, count, starts, ends, sizes, trigger, input_files_max,
                        min(input_size_max_bytes, output_size_max_bytes), scratch, chosen, picked,
                    )  # fmt: skip
                if picks == 0:
                    break
                made = came + merges
                for pick in range(picks):
                    begins, finishes, size, sequence, top = NO_LIMIT, -NO_LIMIT, 0, NO_LIMIT, 0
                    at = offsets[merges]
                    for place in range(picked[pick], picked[pick + 1]):
                        group = there[chosen[place]]
                        members[at] = group
                        at += 1
                        begins, finishes = min(begins, starts[group]), max(finishes, stops[group])
                        sequence, top = min(sequence, sequences[group]), max(top, newest[group])
                        size += sizes[group]
                    new = came + merges
                    starts[new], stops[new], sizes[new], sequences[new] = begins, finishes, size, sequence
                    ends[new] = finishes if finishes > begins else begins + 1
                    created[new], newest[new] = now_ms, top
                    merged_ms[merges], merged_runs[merges] = now_ms, deciding_runs
                    weighed[merges] = 0 if deciding_runs > 0 else scratch[0]
                    merges += 1
                    offsets[merges] = at
                count = _without(there, count, chosen, picked[picks])
                for new in range(made, came + merges):
                    count = _insert(there, count, new, starts, stops, sequences)
            if runs != known_runs:
                changed_ms[changes] = now_ms
                runs_before[changes], runs_after[changes] = known_runs, runs
                known_runs = runs
                changes += 1
    return (
        merged_ms[:merges].copy(), merged_runs[:merges].copy(), weighed[:merges].copy(),
        sizes[came : came + merges].copy(), offsets[: merges + 1].copy(), members[: offsets[merges]].copy(),
        changed_ms[:changes].copy(), runs_before[:changes].copy(), runs_after[:changes].copy(),
    )  # fmt: skip


@kernel
def highest(before: Int64Array, after: Int64Array) -> Int64Array:
    """Return the highest of some numbers after each change of one of them from what it was to something else.

    A number that is 0 counts for nothing.

    >>> highest(np.array([0, 0, 3]), np.array([3, 2, 1])).tolist()
    [3, 3, 2]
    """
    most = 0
    for each in after:
        most = max(most, each)
    counts = np.zeros(most + 1, np.int64)
    found = np.empty(after.size, np.int64)
    top = 0
    for change in range(after.size):
        counts[before[change]] -= 1
        counts[after[change]] += 1
        top = max(top, after[change])
        while top > 0 and counts[top] <= 0:
            top -= 1
        found[change] = top
    return found


@device
def _settled_ms(
    there: Int64Array,
    count: int,
    sizes: Int64Array,
    created: Int64Array,
    newest: Int64Array,
    settle_ms: int,
    patience_max: int,
) -> int:
    """Return until when a window is active: as `picking.settled_ms`."""
    total, largest, top, newest_ms = 0, 0, -1, NEVER_MS
    for place in range(count):
        group = there[place]
        total += sizes[group]
        largest = max(largest, sizes[group])
        if newest[group] > top:
            top, newest_ms = newest[group], created[group]
        elif newest[group] == top:
            newest_ms = max(newest_ms, created[group])
    patience = 1.0
    others = total - largest
    if others > 0:
        patience = min(max(largest / others, 1.0), float(patience_max))
    return newest_ms + int(patience * settle_ms)


@device
def _insert(
    there: Int64Array, count: int, group: int, starts: Int64Array, stops: Int64Array, sequences: Int64Array
) -> int:
    """Put a group in its place, and return how many there are."""
    place = count
    while place > 0:
        other = there[place - 1]
        is_before = starts[other] < starts[group]
        if starts[other] == starts[group]:
            is_before = stops[other] > stops[group]
            if stops[other] == stops[group]:
                is_before = sequences[other] <= sequences[group]
        if is_before:
            break
        there[place] = other
        place -= 1
    there[place] = group
    return count + 1


@device
def _without(there: Int64Array, count: int, chosen: Int64Array, picked: int) -> int:
    """Take out the groups in chosen places, which are in order, and return how many are left."""
    left, taken = 0, 0
    for place in range(count):
        if taken < picked and chosen[taken] == place:
            taken += 1
            continue
        there[left] = there[place]
        left += 1
    return left


@device
def _runs(there: Int64Array, count: int, starts: Int64Array, ends: Int64Array, scratch: Int64Array) -> int:
    """Return how many groups hold one time at most."""
    for place in range(count):
        end, at = ends[there[place]], place
        while at > 0 and scratch[at - 1] > end:  # Ends lie nearly in order already.
            scratch[at] = scratch[at - 1]
            at -= 1
        scratch[at] = end
    ended, most = 0, 0
    for place in range(count):
        while scratch[ended] <= starts[there[place]]:
            ended += 1
        most = max(most, place + 1 - ended)
    return most


@device
def _overlapping_stretches(
    there: Int64Array,
    count: int,
    starts: Int64Array,
    ends: Int64Array,
    sizes: Int64Array,
    sequences: Int64Array,
    files_max: int,
    size_max_bytes: int,
    scratch: Int64Array,
    chosen: Int64Array,
    picked: Int64Array,
) -> int:
    """Choose each stretch of groups without a gap, or as much of it as a merge may take; return how many merges."""
    begin, picks = 0, 0
    while begin < count:
        reach, stop = ends[there[begin]], begin + 1
        while stop < count and starts[there[stop]] < reach:
            reach = max(reach, ends[there[stop]])
            stop += 1
        if stop - begin > 1:
            at = picked[picks]
            taken = _taken(there, begin, stop, sizes, sequences, files_max, size_max_bytes, scratch, chosen, at)
            if taken > 1:
                picks += 1
                picked[picks] = at + taken
        begin = stop
    return picks


@device
def _taken(
    there: Int64Array,
    begin: int,
    stop: int,
    sizes: Int64Array,
    sequences: Int64Array,
    files_max: int,
    size_max_bytes: int,
    scratch: Int64Array,
    chosen: Int64Array,
    chosen_from: int,
) -> int:
    """Choose a stretch, or the most of it that were written after each other, of several such the smallest."""
    for place in range(begin, stop):
        at = place - begin
        while at > 0 and sequences[there[scratch[at - 1]]] > sequences[there[place]]:
            scratch[at] = scratch[at - 1]
            at -= 1
        scratch[at] = place
    count, most, fewest_bytes, best = stop - begin, 0, 0, 0
    until, size = 0, 0
    for since in range(count):
        if until < since:
            until, size = since, 0
        while until < count and until - since < files_max and size + sizes[there[scratch[until]]] <= size_max_bytes:
            size += sizes[there[scratch[until]]]
            until += 1
        if until - since > most or (until - since == most and size < fewest_bytes):
            most, fewest_bytes, best = until - since, size, since
        if until > since:
            size -= sizes[there[scratch[since]]]
    for taken in range(most):
        place, at = scratch[best + taken], chosen_from + taken
        while at > chosen_from and chosen[at - 1] > place:
            chosen[at] = chosen[at - 1]
            at -= 1
        chosen[at] = place
    return most


@device
def _best_interval(
    there: Int64Array,
    count: int,
    starts: Int64Array,
    ends: Int64Array,
    sizes: Int64Array,
    trigger: int,
    files_max: int,
    size_max_bytes: int,
    scratch: Int64Array,
    chosen: Int64Array,
    picked: Int64Array,
) -> int:
    """Choose neighbours none of which is larger than all others together; return how many merges, one or none.

    The most, of such those of which most overlap, then the smallest. How many of them overlap is left in ``scratch``.
    """
    most, most_overlapping, fewest_bytes, best = 0, 0, 0, 0
    for begin in range(count - trigger + 1):
        size, largest, reach, overlapping = 0, 0, -NO_LIMIT, 0
        is_counted = True
        for place in range(begin, min(begin + files_max, count)):
            group = there[place]
            size += sizes[group]
            if size > size_max_bytes:
                break
            largest = max(largest, sizes[group])
            if not is_counted and ends[there[place - 1]] > starts[group]:
                overlapping += 1  # The one before: it overlaps none before it, but this one.
            is_counted = reach > starts[group]
            if is_counted:
                overlapping += 1
            reach = max(reach, ends[group])
            length = place + 1 - begin
            if length < trigger or 2 * largest > size:
                continue
            is_better = length > most or (length == most and overlapping > most_overlapping)
            if is_better or (length == most and overlapping == most_overlapping and size < fewest_bytes):
                most, most_overlapping, fewest_bytes, best = length, overlapping, size, begin
    for place in range(most):
        chosen[place] = best + place
    picked[1] = most
    scratch[0] = most_overlapping
    return 1 if most > 0 else 0


# --- by runs --------------------------------------------------------------------------------------------


@device
def _cheapest_pair(
    there: Int64Array,
    count: int,
    starts: Int64Array,
    stops: Int64Array,
    ends: Int64Array,
    sizes: Int64Array,
    runs_probed_max: int,
    groups_probed_max: int,
    files_max: int,
    size_max_bytes: int,
    scratch: Int64Array,
    run_of: Int64Array,
    run_ends: Int64Array,
    by_size: Int64Array,
    run_bytes: Int64Array,
    held: Int64Array,
    chosen: Int64Array,
    picked: Int64Array,
) -> int:
    """Choose what two sorted runs have in common, of those two where it is least; return how many merges.

    Requires: there are two runs or more.
    """
    runs = _sorted_runs(there, count, starts, ends, run_of, run_ends)
    probed = _smallest_runs(
        there, count, sizes, runs, runs_probed_max, groups_probed_max, run_of, by_size, run_bytes, held
    )
    # The groups of the runs that are probed, run by run; ``held`` says where each begins, and where the last ends.
    at = 0
    for place in range(probed):
        held[place] = at
        for group in range(count):
            if run_of[group] == by_size[place]:
                scratch[at] = group
                at += 1
    held[probed] = at
    fewest_bytes, one, other = NO_LIMIT, 0, 1
    for left in range(probed):
        for right in range(left + 1, probed):
            cost = _meeting(there, starts, stops, sizes, scratch, held, left, right, run_of, False)
            cost += _meeting(there, starts, stops, sizes, scratch, held, right, left, run_of, False)
            if cost < fewest_bytes:
                fewest_bytes, one, other = cost, left, right
    _meeting(there, starts, stops, sizes, scratch, held, one, other, run_of, True)
    _meeting(there, starts, stops, sizes, scratch, held, other, one, run_of, True)
    found = 0
    for place in range(count):
        if run_of[place] == _TAKEN:
            by_size[found] = place
            found += 1
    return _clusters(there, starts, stops, sizes, files_max, size_max_bytes, by_size, found, scratch, chosen, picked)


@device
def _sorted_runs(
    there: Int64Array, count: int, starts: Int64Array, ends: Int64Array, run_of: Int64Array, run_ends: Int64Array
) -> int:
    """Put each group into the first run with room for it: as `picking.sorted_runs`. Return how many there are."""
    runs = 0
    for place in range(count):
        group, run = there[place], 0
        while run < runs and run_ends[run] > starts[group]:
            run += 1
        run_of[place], run_ends[run] = run, ends[group]
        runs = max(runs, run + 1)
    return runs


@device
def _smallest_runs(
    there: Int64Array,
    count: int,
    sizes: Int64Array,
    runs: int,
    runs_max: int,
    groups_max: int,
    run_of: Int64Array,
    by_size: Int64Array,
    run_bytes: Int64Array,
    held: Int64Array,
) -> int:
    """Sort runs by their bytes, and return how many of them are weighed against each other."""
    for run in range(runs):
        run_bytes[run], held[run] = 0, 0
    for place in range(count):
        run_bytes[run_of[place]] += sizes[there[place]]
        held[run_of[place]] += 1
    for run in range(runs):
        at = run
        while at > 0 and run_bytes[by_size[at - 1]] > run_bytes[run]:
            by_size[at] = by_size[at - 1]
            at -= 1
        by_size[at] = run
    probed, groups = 0, 0
    while probed < runs and groups + held[by_size[probed]] <= groups_max:
        groups += held[by_size[probed]]
        probed += 1
    return min(max(2, min(runs_max, probed)), runs)


@device
def _meeting(
    there: Int64Array,
    starts: Int64Array,
    stops: Int64Array,
    sizes: Int64Array,
    lying: Int64Array,
    begins: Int64Array,
    asked: int,
    run: int,
    run_of: Int64Array,
    is_taken: bool,
) -> int:
    """Return the bytes of those groups of a run that have a time in common with one of another, an end included."""
    total, other = 0, begins[run]
    for at in range(begins[asked], begins[asked + 1]):
        group = there[lying[at]]
        while other < begins[run + 1] and stops[there[lying[other]]] < starts[group]:
            other += 1
        if other < begins[run + 1] and starts[there[lying[other]]] <= stops[group]:
            total += sizes[group]
            if is_taken:
                run_of[lying[at]] = _TAKEN
    return total


@device
def _clusters(
    there: Int64Array,
    starts: Int64Array,
    stops: Int64Array,
    sizes: Int64Array,
    files_max: int,
    size_max_bytes: int,
    found: Int64Array,
    count: int,
    scratch: Int64Array,
    chosen: Int64Array,
    picked: Int64Array,
) -> int:
    """Choose of each stretch without a gap as many of the smallest as a merge may take; return how many merges."""
    begin, picks = 0, 0
    while begin < count:
        reach, stop = stops[there[found[begin]]], begin + 1
        while stop < count and starts[there[found[stop]]] <= reach:
            reach = max(reach, stops[there[found[stop]]])
            stop += 1
        taken = _smallest(there, found, begin, stop, sizes, files_max, size_max_bytes, scratch, chosen, picked[picks])
        if taken > 1:
            picks += 1
            picked[picks] = picked[picks - 1] + taken
        begin = stop
    return picks


@device
def _smallest(
    there: Int64Array,
    found: Int64Array,
    begin: int,
    stop: int,
    sizes: Int64Array,
    files_max: int,
    size_max_bytes: int,
    scratch: Int64Array,
    chosen: Int64Array,
    chosen_from: int,
) -> int:
    for place in range(begin, stop):
        at = place - begin
        while at > 0 and sizes[there[scratch[at - 1]]] > sizes[there[found[place]]]:
            scratch[at] = scratch[at - 1]
            at -= 1
        scratch[at] = found[place]
    taken, size = 0, 0
    while taken < min(stop - begin, files_max) and size + sizes[there[scratch[taken]]] <= size_max_bytes:
        place, at = scratch[taken], chosen_from + taken
        size += sizes[there[place]]
        while at > chosen_from and chosen[at - 1] > place:
            chosen[at] = chosen[at - 1]
            at -= 1
        chosen[at] = place
        taken += 1
    return taken


@device
def _best_neighbours(
    there: Int64Array,
    count: int,
    sizes: Int64Array,
    files_max: int,
    size_max_bytes: int,
    output_size_max_bytes: int,
    chosen: Int64Array,
    picked: Int64Array,
) -> int:
    """Choose the stretch of a run that is best joined: many, none much larger than the others, about a full file."""
    most, best, found = 0, 0, -np.inf
    for begin in range(count - 1):
        size, largest = 0, 0
        for place in range(begin, min(begin + files_max, count)):
            size += sizes[there[place]]
            largest = max(largest, sizes[there[place]])
            if size > min(size_max_bytes, output_size_max_bytes):
                break
            length = place + 1 - begin
            score = (length - 1) / count + 1.5 * (1 - largest / max(size, 1)) + size / output_size_max_bytes
            if length > 1 and score > found:
                most, best, found = length, begin, score
    for place in range(most):
        chosen[place] = best + place
    picked[1] = most
    return 1 if most > 0 else 0
