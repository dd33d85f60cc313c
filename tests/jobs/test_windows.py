"""Files by window as arrays, against the same worked out file by file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import file_of, metadata_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.jobs.windows import WINDOW_CHOICES_MS, Groups, groups_of, infer_window_ms, table_of, window_ms
from mitoframe.model.edit import FileEdit, RegionState
from mitoframe.model.file import LEVEL_COMPACTED, LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import ManifestVersion, Sequence
from mitoframe.model.options import HOUR_MS, RegionOptions

file_lists = st.lists(
    st.tuples(
        st.integers(-40, 60),
        st.integers(0, 15),
        st.sampled_from([LEVEL_FLUSHED, LEVEL_COMPACTED]),
        st.integers(0, 2),
        st.integers(1, 2),
        st.integers(1, 50),
    ),
    max_size=14,
).map(
    lambda drawn: [
        file_of(
            f"{n:032x}",
            first,
            first + length,
            level=level,
            derived_version=ManifestVersion(derived),
            created_ms=created,
            min_sequence=Sequence(oldest),
            max_sequence=Sequence(oldest + n),
            size_bytes=n + 1,
        )
        for n, (first, length, level, derived, created, oldest) in enumerate(drawn)
    ]
)
widths = st.integers(1, 40)


def slow_groups(files: list[FileMeta], width: int) -> list[list[FileMeta]]:
    """Return what belongs together: outputs of one merge in one window, and every other file alone."""
    found: dict[tuple[object, ...], list[FileMeta]] = {}
    for file in files:
        is_merged = file.level == LEVEL_COMPACTED and file.derived_version > 0
        of_merge = (file.derived_version, file.created_ms) if is_merged else (file.file_id,)
        found.setdefault((file.max_time // width, *of_merge), []).append(file)
    return list(found.values())


def end(group: list[FileMeta]) -> int:
    first, last = min(file.min_time for file in group), max(file.max_time for file in group)
    return last if last > first else first + 1


def facts(group: list[FileMeta], width: int) -> tuple[int, ...]:
    return (
        group[0].max_time // width,
        min(file.min_time for file in group),
        max(file.max_time for file in group),
        sum(file.size_bytes for file in group),
        len(group),
        min(file.min_sequence for file in group),
        max(file.max_sequence for file in group),
        max(file.created_ms for file in group),
    )


def facts_of(groups: Groups) -> list[tuple[int, ...]]:
    columns = (
        groups.window,
        groups.first,
        groups.last,
        groups.size_bytes,
        groups.file_count,
        groups.min_sequence,
        groups.max_sequence,
        groups.created_ms,
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(deadline=None, max_examples=70)
@given(file_lists, widths)
def test_groups_are_what_belongs_together_by_window_and_time(files, width):
    groups = groups_of(table_of(files), width)

    expected = sorted(
        (facts(group, width) for group in slow_groups(files, width)), key=lambda f: (f[0], f[1], -f[2], f[5])
    )
    found = [] if groups is None else facts_of(groups)
    assert sorted(found) == sorted(expected)
    assert [(f[0], f[1], -f[2], f[5]) for f in found] == [(f[0], f[1], -f[2], f[5]) for f in expected]


@settings(deadline=None, max_examples=70)
@given(file_lists, widths)
def test_members_are_the_files_of_a_group(files, width):
    table = table_of(files)
    groups = groups_of(table, width)

    members = [] if groups is None else [groups.members_of([n]) for n in range(len(groups))]

    found = {frozenset(table.files[k].file_id for k in group) for group in members}
    assert found == {frozenset(file.file_id for file in group) for group in slow_groups(files, width)}


@settings(deadline=None, max_examples=70)
@given(file_lists, widths)
def test_depth_is_how_many_groups_of_a_window_hold_one_time_but_for_ends_that_touch(files, width):
    groups = groups_of(table_of(files), width)

    if groups is not None:
        slow = slow_groups(files, width)
        for number, most in zip(
            groups.window[groups.bounds[:-1]].tolist(),
            groups.per_window(groups.depth, np.maximum).tolist(),
            strict=True,
        ):
            there = [group for group in slow if group[0].max_time // width == number]
            starts = [min(file.min_time for file in group) for group in there]
            assert most == max(
                sum(begin <= time < end(group) for begin, group in zip(starts, there, strict=True)) for time in starts
            )


@settings(deadline=None, max_examples=70)
@given(file_lists, widths, st.booleans())
def test_components_are_cut_where_no_group_of_the_window_goes_on(files, width, touching):
    groups = groups_of(table_of(files), width)

    if groups is not None:
        edges = groups.components(touching=touching).tolist()
        assert (edges[0], edges[-1]) == (0, len(groups))
        for place in range(1, len(groups)):
            before = [k for k in range(place) if groups.window[k] == groups.window[place]]
            first = int(groups.first[place])
            goes_on = any(int(groups.last[k]) >= first if touching else _end(groups, k) > first for k in before)
            assert (place in edges) != goes_on


def _end(groups: Groups, k: int) -> int:
    return max(int(groups.last[k]), int(groups.first[k]) + 1)


def test_only_chosen_files_are_sorted_into_windows():
    table = table_of([file_of(name, 0, 9) for name in "abc"])

    groups = groups_of(table, 10, np.array([0, 2]))

    assert groups is not None
    assert [table.files[k].file_id[0] for k in groups.members_of(range(len(groups)))] == ["a", "c"]
    assert groups_of(table, 10, np.array([], dtype=np.int64)) is None


# --- the window's length --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span_ms", "window"),
    [
        (0, HOUR_MS),
        (HOUR_MS, HOUR_MS),
        (HOUR_MS + 1, 2 * HOUR_MS),
        (3 * HOUR_MS, 12 * HOUR_MS),
        (13 * HOUR_MS, 24 * HOUR_MS),
        (25 * HOUR_MS, 168 * HOUR_MS),
        (1000 * HOUR_MS, 168 * HOUR_MS),
    ],
)
@pytest.mark.parametrize(("unit", "per_ms"), [("ms", 1), ("us", 1000), ("ns", 10**6)])
def test_the_window_is_the_smallest_choice_that_holds_the_flushed_files(span_ms, window, unit, per_ms):
    files = [file_of("a", 0, 0), file_of("b", span_ms * per_ms, span_ms * per_ms)]
    compacted = file_of("c", -(10**15), 0, level=LEVEL_COMPACTED)

    assert infer_window_ms([*files, compacted], unit) == window
    assert window in WINDOW_CHOICES_MS
    assert files[0].level == LEVEL_FLUSHED


def test_the_window_that_was_given_or_remembered_comes_before_what_could_be_inferred():
    inferred = RegionState(metadata=metadata_of(), options=RegionOptions())
    remembered = inferred.apply(FileEdit(compaction_window_ms=7_200_000))
    given_by_user = replace(remembered, options=RegionOptions(compaction_window_ms=1000))

    assert [window_ms(state) for state in (inferred, remembered, given_by_user)] == [HOUR_MS, 7_200_000, 1000]
