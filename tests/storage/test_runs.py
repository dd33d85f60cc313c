from __future__ import annotations

import pyarrow as pa
from builders import DELETE, PUT, Row, batch_of, delete, metadata_of, newest, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.batch import Batch
from mitoframe.storage.runs import merge_rows_of, sort_batches, sort_rows_of

METADATA = metadata_of({"host": pa.string(), "rack": pa.int64()}, {"cpu": pa.int64(), "note": pa.string()})

INT64 = st.integers(-(2**63), 2**63 - 1)
tags = st.tuples(st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, -1, 0, 5]))
ops = st.sampled_from([PUT, PUT, DELETE])
unnumbered = st.tuples(tags, st.integers(-2, 3), ops, st.none() | INT64, st.none() | st.text(max_size=2))


def merge_batches(runs: list[Batch], *, drop_deletes: bool) -> Batch:
    return merge_rows_of(runs, drop_deletes=drop_deletes).gather()


@st.composite
def batches(draw: st.DrawFn) -> list[list[Row]]:
    """Rows in some batches, each row with a sequence of its own, in any order of batches."""
    drawn = draw(st.lists(st.lists(unnumbered, max_size=8), min_size=1, max_size=5))
    count = sum(map(len, drawn))
    numbers = iter(draw(st.permutations(range(1, count + 1))))
    return [[Row(next(numbers), time, tag, (cpu, note), op) for tag, time, op, cpu, note in part] for part in drawn]


@settings(deadline=None, max_examples=150)
@given(batches())
def test_sorting_keeps_the_newest_row_of_each_key_in_order(parts):
    run = sort_batches([batch_of(METADATA, part) for part in parts])

    assert rows_of(run) == newest(row for part in parts for row in part)


@settings(deadline=None, max_examples=150)
@given(batches(), st.booleans())
def test_merging_keeps_the_newest_row_of_each_key_in_order(parts, drop_deletes):
    runs = [sort_batches([batch_of(METADATA, part)]) for part in parts]

    merged = merge_batches(runs, drop_deletes=drop_deletes)

    assert rows_of(merged) == newest((row for part in parts for row in part), drop_deletes=drop_deletes)


@settings(deadline=None, max_examples=50)
@given(batches())
def test_a_merge_sees_a_key_in_runs_that_lie_apart(parts):
    """What was merged before can be merged again, in any grouping, with the same rows left."""
    runs = [sort_batches([batch_of(METADATA, part)]) for part in parts]

    in_steps = runs[0]
    for run in runs[1:]:
        in_steps = merge_batches([run, in_steps], drop_deletes=False)

    assert rows_of(in_steps) == rows_of(merge_batches(runs, drop_deletes=False))


def test_a_region_without_tags_or_fields_is_merged_by_time():
    metadata = metadata_of({}, {})
    parts = [[Row(1, 5, (), ()), Row(2, 3, (), ())], [Row(3, 5, (), (), DELETE)]]

    merged = merge_batches([sort_batches([batch_of(metadata, part)]) for part in parts], drop_deletes=True)

    assert rows_of(merged) == [Row(2, 3, (), ())]


def test_series_that_nobody_belongs_to_harm_nothing():
    metadata = metadata_of()
    batch = batch_of(metadata, [put(1, 1, "z"), put(2, 1, "a"), put(3, 1, None)]).slice(0, 2)

    run = merge_batches([sort_batches([batch])], drop_deletes=True)

    assert rows_of(run) == [put(2, 1, "a"), put(1, 1, "z")]


def test_a_single_run_still_loses_its_delete_markers():
    metadata = metadata_of()
    run = sort_batches([batch_of(metadata, [put(1, 1), delete(2, 2), put(3, 3)])])

    assert rows_of(merge_batches([run], drop_deletes=True)) == [put(1, 1), put(3, 3)]
    assert rows_of(merge_batches([run], drop_deletes=False)) == [put(1, 1), delete(2, 2), put(3, 3)]


@settings(deadline=None, max_examples=60)
@given(batches(), st.integers(1, 5), st.booleans())
def test_rows_gathered_in_slices_are_the_rows_gathered_at_once(parts, rows_max, merge):
    given_batches = [batch_of(METADATA, part) for part in parts]
    if merge:
        rows = merge_rows_of([sort_batches([batch]) for batch in given_batches], drop_deletes=True)
    else:
        rows = sort_rows_of(given_batches)

    slices = list(rows.slices(rows_max))

    assert [row for part in slices for row in rows_of(part)] == rows_of(rows.gather())
    assert [len(part) for part in slices[:-1]] == [rows_max] * (len(slices) - 1)
    assert sum(map(len, slices)) == len(rows)
    assert all(part.series is rows.series for part in slices)
