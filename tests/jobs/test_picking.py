"""What the policies choose, against the same choice made by trying everything."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from builders import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.picking import facts_of, pick_all, pick_by_count, pick_by_runs, sorted_runs
from mitoframe.jobs.windows import Groups, groups_of, table_of
from mitoframe.model.ids import Sequence
from mitoframe.model.options import CompactionOptions

WIDTH = 100
NOW = 10

spans = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([0, 1, 3, 9]), st.sampled_from([1, 1, 2, 3, 8])),
    min_size=1,
    max_size=10,
)


def window_of(drawn: list[tuple[int, int, int]]) -> Groups:
    """Make groups of one window; all files were flushed just now."""
    files = [
        file_of(
            f"{n:032x}",
            first,
            min(first + length, WIDTH - 1),
            size_bytes=size,
            created_ms=NOW,
            min_sequence=Sequence(n),
            max_sequence=Sequence(n),
        )
        for n, (first, length, size) in enumerate(drawn)
    ]
    groups = groups_of(table_of(files), WIDTH)
    assert groups is not None
    return groups


def overlap(groups: Groups, one: int, other: int, *, touching: bool = False) -> bool:
    first, last = groups.first.tolist(), groups.last.tolist()
    if touching:
        return first[one] <= last[other] and first[other] <= last[one]
    ends = [max(stop, start + 1) for start, stop in zip(first, last, strict=True)]
    return first[one] < ends[other] and first[other] < ends[one]


def picked(groups: Groups, options: CompactionOptions, now: int = NOW) -> list[tuple[int, ...]]:
    facts = facts_of(groups, options, now)
    pick = pick_by_count if options.policy == "count" else pick_by_runs
    return [choice.groups for choice in pick(groups, facts, np.array([0]), options).get(0, [])]


# --- by count -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(spans, st.integers(2, 4), st.integers(4, 6), st.integers(6, 30))
def test_the_best_neighbours_are_those_that_trying_all_finds(drawn, trigger, inputs_max, output_max):
    groups = window_of(drawn)
    options = CompactionOptions(trigger_files=trigger, input_files_max=inputs_max, output_size_max_bytes=output_max)

    tried = []
    for first in range(len(groups)):
        for stop in range(first + trigger, min(first + inputs_max, len(groups)) + 1):
            sizes = groups.size_bytes[first:stop].tolist()
            if sum(sizes) <= output_max and 2 * max(sizes) <= sum(sizes):
                members = range(first, stop)
                meeting = sum(any(overlap(groups, k, m) for m in members if m != k) for k in members)
                tried.append((first - stop, -meeting, sum(sizes), first, tuple(members)))

    assert picked(groups, options) == ([min(tried)[-1]] if tried else [])


@settings(deadline=None, max_examples=70)
@given(spans)
def test_in_a_settled_window_all_that_overlaps_is_chosen(drawn):
    groups = window_of(drawn)
    options = CompactionOptions(settle_ms=0)

    choices = picked(groups, options)

    together = {frozenset(pair) for choice in choices for pair in combinations(choice, 2)}
    if any(overlap(groups, *pair) for pair in combinations(range(len(groups)), 2)):
        for pair in combinations(range(len(groups)), 2):
            assert not overlap(groups, *pair) or frozenset(pair) in together
        for choice in choices:
            assert all(any(overlap(groups, k, m) for m in choice if m != k) for k in choice)


@settings(deadline=None, max_examples=70)
@given(spans, st.integers(4, 5), st.integers(8, 20))
def test_what_overlaps_and_is_too_much_for_one_merge_is_taken_as_it_was_written(drawn, inputs_max, bytes_max):
    groups = window_of([(0, 9, size) for _, _, size in drawn])
    options = CompactionOptions(
        settle_ms=0, input_files_max=inputs_max, input_size_max_bytes=bytes_max, output_size_max_bytes=bytes_max
    )

    choices = picked(groups, options, now=10**9)

    by_sequence = np.argsort(groups.min_sequence).tolist()
    sizes = groups.size_bytes.tolist()
    tried = []
    for first in range(len(groups)):
        for stop in range(first + 2, min(first + inputs_max, len(groups)) + 1):
            members = by_sequence[first:stop]
            total = sum(sizes[k] for k in members)
            if total <= bytes_max:
                tried.append((first - stop, total, first, tuple(sorted(members))))
    assert choices[:1] == ([min(tried)[-1]] if tried else [])


# --- by runs --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(spans)
def test_sorted_runs_are_as_few_as_can_be_and_have_no_overlap(drawn):
    groups = window_of(drawn)

    runs = sorted_runs(groups, 0, len(groups)).tolist()

    assert not any(runs[k] == runs[m] and overlap(groups, k, m) for k, m in combinations(range(len(groups)), 2))
    assert len(set(runs)) == groups.depth.max()
    for k, run in enumerate(runs):  # There was no room in an earlier one.
        assert all(any(runs[m] == other and overlap(groups, k, m) for m in range(k)) for other in range(run))


@settings(deadline=None, max_examples=60)
@given(spans)
def test_the_two_runs_that_cost_least_are_those_that_trying_all_finds(drawn):
    groups = window_of(drawn)
    runs, sizes = sorted_runs(groups, 0, len(groups)).tolist(), groups.size_bytes.tolist()

    choices = picked(groups, CompactionOptions(policy="runs", trigger_files=2, settled_trigger_files=2))

    if max(runs):
        total = [
            sum(size for size, run in zip(sizes, runs, strict=True) if run == each) for each in range(max(runs) + 1)
        ]
        by_size = sorted(range(max(runs) + 1), key=lambda run: (total[run], run))
        tried = []
        for place, (one, other) in enumerate(combinations(by_size, 2)):
            meeting = [
                k
                for k, run in enumerate(runs)
                if run in (one, other)
                and any(
                    runs[m] != run and runs[m] in (one, other) and overlap(groups, k, m, touching=True)
                    for m in range(len(runs))
                )
            ]
            tried.append((sum(sizes[k] for k in meeting), place, meeting))
        assert sorted(k for choice in choices for k in choice) == min(tried)[-1]


@settings(deadline=None, max_examples=70)
@given(st.lists(st.sampled_from([1, 2, 5, 20]), min_size=1, max_size=8), st.integers(2, 40), st.integers(2, 4))
def test_neighbours_of_one_run_are_those_with_the_best_score(sizes, target, trigger):
    groups = window_of([(10 * n, 5, size) for n, size in enumerate(sizes)])
    options = CompactionOptions(
        policy="runs", output_size_max_bytes=target, trigger_files=trigger, settled_trigger_files=2
    )

    tried = []
    for first, stop in combinations(range(len(sizes) + 1), 2):
        part = sizes[first:stop]
        if len(part) > 1 and sum(part) <= target:
            score = (len(part) - 1) / len(sizes) + 1.5 * (1 - max(part) / sum(part)) + sum(part) / target
            tried.append((-score, first, stop))

    expected = [tuple(range(*min(tried)[1:]))] if tried and len(sizes) >= trigger else []
    assert picked(groups, options) == expected


# --- all ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=70)
@given(spans, st.integers(1, 30))
def test_whoever_asks_gets_all_that_touches_merged_and_neighbours_packed_into_files(drawn, output_max):
    groups = window_of(drawn)
    options = CompactionOptions(output_size_max_bytes=output_max)

    found = [choice.groups for choice in pick_all(groups, np.array([0]), options).get(0, [])]

    stretches: list[list[int]] = []
    for k in range(len(groups)):
        if stretches and any(overlap(groups, k, m, touching=True) for m in range(k)):
            stretches[-1].append(k)
        else:
            stretches.append([k])
    packs: list[list[int]] = []
    for stretch in stretches:
        if packs and int(groups.size_bytes[[*packs[-1], *stretch]].sum()) <= output_max:
            packs[-1] += stretch
        else:
            packs.append(list(stretch))
    assert found == [tuple(pack) for pack in packs if len(pack) > 1]
