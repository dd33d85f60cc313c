from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from math import isnan, nan
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from builders import DELETE, PUT, Row, batch_of, delete, metadata_of, newest, put, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mitoframe.model.batch import Batch
from mitoframe.model.options import Dedup
from mitoframe.storage.runs import (
    joined_parts,
    merge_coded_parts,
    merge_coded_rows,
    merge_rows_of,
    sort_batches,
    sort_rows_of,
    sort_versions_of,
)
from mitoframe.storage.series import unify
from mitoframe.storage.sst_reader import packed, unpacked

METADATA = metadata_of({"host": pa.string(), "rack": pa.int64()}, {"cpu": pa.int64(), "note": pa.string()})
FILLED = metadata_of(fields={"cpu": pa.int64(), "note": pa.string(), "count": pa.int64()})

INT64 = st.integers(-(2**63), 2**63 - 1)
tags = st.tuples(st.sampled_from([None, "", "a", "b"]), st.sampled_from([None, -1, 0, 5]))
ops = st.sampled_from([PUT, PUT, DELETE])
unnumbered = st.tuples(tags, st.integers(-2, 3), ops, st.none() | INT64, st.none() | st.text(max_size=2))

seldom_deleted = st.sampled_from([PUT, PUT, PUT, DELETE])
modes = st.sampled_from(get_args(Dedup))
steps = st.sampled_from(["last", "merge"])
# Four keys, so that each has several versions; two fields with gaps, and one without.
versions = st.builds(
    Row,
    sequence=st.just(0),
    time=st.integers(0, 1),
    tags=st.sampled_from([("a",), (None,)]),
    fields=st.tuples(st.none() | st.integers(0, 99), st.none() | st.text("xyz", max_size=2), st.integers(0, 9)),
    op_type=seldom_deleted,
)
without_gaps = st.builds(replace, versions, fields=st.tuples(st.integers(0, 99), st.just("x"), st.integers(0, 9)))


def merge_batches(runs: Sequence[Batch], dedup: Dedup = "last", *, drop_deletes: bool) -> Batch:
    return merge_rows_of(runs, dedup, drop_deletes=drop_deletes).gather()


def survivors(rows: Iterable[Row], dedup: Dedup, *, drop_deletes: bool = False) -> list[Row]:
    """Return what is left of rows, worked out key by key in dictionaries."""
    by_key: dict[tuple[object, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.sequence, reverse=True):
        by_key.setdefault(row.key, []).append(row)
    left = [row for key in sorted(by_key) for row in ONE_KEY[dedup](by_key[key])]
    return [row for row in left if not (drop_deletes and row.op_type is DELETE)]


def merged(newest_first: list[Row]) -> list[Row]:
    """Fill the newest of one key's versions, field by field, down to a delete marker; the marker stays."""
    base, *older = newest_first
    if base.op_type is DELETE:
        return [base]
    for row in older:
        if row.op_type is DELETE:
            return [base, row]
        pairs = zip(base.fields, row.fields, strict=True)
        base = replace(base, fields=tuple(old if value is None else value for value, old in pairs))
    return [base]


ONE_KEY = {"last": lambda newest_first: newest_first[:1], "merge": merged, "none": list}


def numbered(rows: Iterable[Row]) -> list[Row]:
    return [replace(row, sequence=number) for number, row in enumerate(rows, start=1)]


def coded_runs(parts: Sequence[Sequence[Row]]) -> list[Batch]:
    """Sort each part, all versions kept, and let all share one table of series."""
    runs = [sort_batches([batch_of(FILLED, part)], "none") for part in parts]
    series, ranks = unify([run.series for run in runs])
    return [run.with_series(series, rank) for run, rank in zip(runs, ranks, strict=True)]


def visible_at(sequence: int, batch: Batch) -> Batch:
    return batch.take(np.flatnonzero(batch.sequences <= sequence))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Row]]:
    """Rows in some batches, each row with a sequence of its own, in any order of batches."""
    drawn = draw(st.lists(st.lists(unnumbered, max_size=8), min_size=1, max_size=5))
    count = sum(map(len, drawn))
    numbers = iter(draw(st.permutations(range(1, count + 1))))
    return [[Row(next(numbers), time, tag, (cpu, note), op) for tag, time, op, cpu, note in part] for part in drawn]


@st.composite
def shuffled_versions(draw: st.DrawFn, of: st.SearchStrategy[Row] = versions) -> list[list[Row]]:
    """Many versions of few keys, dealt out to some batches in any order."""
    rows = draw(st.permutations(numbered(draw(st.lists(of, max_size=16)))))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    return [rows[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


@st.composite
def versions_in_steps(draw: st.DrawFn) -> list[list[Row]]:
    """Many versions of few keys in batches of which each is newer than the one before, in any order inside."""
    rows = numbered(draw(st.lists(versions, max_size=24)))
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    parts = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    return [draw(st.permutations(rows[start:stop])) for start, stop in parts]


@settings(deadline=None, max_examples=80)
@given(batches())
def test_sorting_keeps_the_newest_row_of_each_key_in_order(parts):
    run = sort_batches([batch_of(METADATA, part) for part in parts])

    assert rows_of(run) == newest(row for part in parts for row in part)


@settings(deadline=None, max_examples=80)
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
@given(shuffled_versions(), modes, st.integers(1, 5), st.booleans())
def test_rows_gathered_in_slices_are_the_rows_gathered_at_once(parts, dedup, rows_max, merge):
    given_batches = [batch_of(FILLED, part) for part in parts]
    if merge:
        rows = merge_rows_of([sort_batches([batch], "none") for batch in given_batches], dedup, drop_deletes=True)
    else:
        rows = sort_rows_of(given_batches, dedup)

    slices = list(rows.slices(rows_max))

    assert [row for part in slices for row in rows_of(part)] == rows_of(rows.gather())
    assert [len(part) for part in slices[:-1]] == [rows_max] * (len(slices) - 1)
    assert sum(map(len, slices)) == len(rows)
    assert all(part.series is rows.series for part in slices)


@settings(deadline=None, max_examples=100)
@given(shuffled_versions(), modes)
def test_sorting_leaves_what_the_mode_of_dedup_says(parts, dedup):
    run = sort_batches([batch_of(FILLED, part) for part in parts], dedup)

    assert rows_of(run) == survivors((row for part in parts for row in part), dedup)


@settings(deadline=None, max_examples=100)
@given(shuffled_versions(), modes, st.booleans())
def test_merging_leaves_what_the_mode_of_dedup_says_of_runs_with_all_versions(parts, dedup, drop_deletes):
    runs = [sort_batches([batch_of(FILLED, part)], "none") for part in parts]

    left = merge_batches(runs, dedup, drop_deletes=drop_deletes)

    assert rows_of(left) == survivors((row for part in parts for row in part), dedup, drop_deletes=drop_deletes)


@pytest.fixture
def nothing_is_too_small_to_stay_packed(monkeypatch):
    monkeypatch.setattr("mitoframe.storage.runs._PACKED_MIN", 0)


def as_kept(batch: Batch, is_packed: list[bool]) -> Batch:
    columns = [
        packed(column) if chosen else column for column, chosen in zip(batch.fields.columns, is_packed, strict=True)
    ]
    return replace(batch, fields=pa.RecordBatch.from_arrays(columns, names=batch.fields.schema.names))


@pytest.mark.usefixtures("nothing_is_too_small_to_stay_packed")
@given(shuffled_versions(), modes, st.booleans(), st.data())
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_with_packed_fields_are_merged_as_if_unpacked(parts, dedup, drop_deletes, data):
    plain = coded_runs(parts)
    kept = [as_kept(run, data.draw(st.tuples(st.booleans(), st.just(False), st.booleans()))) for run in plain]

    left = merge_coded_rows(kept, dedup, drop_deletes=drop_deletes).gather()

    assert rows_of(left) == rows_of(merge_coded_rows(plain, dedup, drop_deletes=drop_deletes).gather())


@pytest.mark.usefixtures("nothing_is_too_small_to_stay_packed")
@pytest.mark.parametrize(
    ("values", "others", "stays"),
    [
        ([1.0, 2.0], [2.0, 1.5], True),
        ([0.0, -0.0], [-0.0, nan], True),
        ([0.5 * n for n in range(200)], [0.25 * n for n in range(1, 400, 2)], False),
    ],
)
def test_packed_fields_stay_so_while_a_byte_tells_their_values_apart(values, others, stays):
    metadata = metadata_of({}, {"cpu": pa.float64()})
    parts = [[Row(n, n, (), (value,)) for n, value in enumerate(part)] for part in (values, others)]
    series, _ = unify([batch_of(metadata, part).series for part in parts])
    first, second = (replace(as_kept(batch_of(metadata, part), [True]), series=series) for part in parts)

    together = joined_parts([first, second]).fields.column("cpu")

    assert pa.types.is_dictionary(together.type) == stays
    bits = unpacked(together).view(pa.int64())
    assert bits.to_pylist() == pa.array([*values, *others]).view(pa.int64()).to_pylist()


def test_few_packed_values_are_unpacked():
    rows = as_kept(batch_of(FILLED, [Row(1, 0, ("a",), (1, "x", 2))]), [True, False, True])
    series, _ = unify([rows.series])

    together = joined_parts([replace(rows, series=series)] * 2)

    assert together.fields.schema == FILLED.fields_schema


def test_chosen_columns_of_rows_may_come_without_their_keys():
    runs_of_one = coded_runs([[Row(1, 5, ("a",), (1, "x", 2))], [Row(2, 6, ("a",), (3, "y", 4))]])

    looked_at = merge_coded_rows(runs_of_one, "last", drop_deletes=True).select_fields(["count", "cpu"])
    rows = looked_at.gather(versions=False, keys=False)

    assert rows.fields.to_pydict() == {"count": [2, 4], "cpu": [1, 3]}
    assert (rows.codes.tolist(), rows.times.tolist()) == ([0, 0], [0, 0])


@settings(deadline=None, max_examples=80)
@given(shuffled_versions(without_gaps), steps, st.booleans())
def test_where_nothing_is_null_the_modes_differ_in_delete_markers_alone(parts, dedup, drop_deletes):
    left = merge_coded_rows(coded_runs(parts), dedup, drop_deletes=drop_deletes).gather()

    assert rows_of(left) == survivors((row for part in parts for row in part), dedup, drop_deletes=drop_deletes)


@settings(deadline=None, max_examples=80)
@given(shuffled_versions() | versions_in_steps(), modes, st.booleans(), st.data())
def test_runs_that_come_in_parts_are_merged_as_if_whole(parts, dedup, drop_deletes, data):
    runs = coded_runs(parts)
    cuts = [sorted(data.draw(st.lists(st.integers(0, len(run)), max_size=2))) for run in runs]
    in_parts = [
        [run.slice(start, stop - start) for start, stop in zip([0, *at], [*at, len(run)], strict=True)]
        for run, at in zip(runs, cuts, strict=True)
    ]

    left = merge_coded_parts(in_parts, dedup, drop_deletes=drop_deletes).gather()

    assert rows_of(left) == rows_of(merge_coded_rows(runs, dedup, drop_deletes=drop_deletes).gather())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(versions, max_size=6, unique_by=lambda row: row.key), min_size=1, max_size=4), modes, st.data()
)
def test_one_sequence_for_all_rows_of_a_run_need_not_be_written_out(parts, dedup, data):
    numbers = data.draw(st.permutations(range(1, len(parts) + 1)))
    runs = coded_runs(
        [[replace(row, sequence=number) for row in part] for number, part in zip(numbers, parts, strict=True)]
    )
    constant = [
        replace(run, sequences=np.broadcast_to(np.uint64(number), len(run)))
        for number, run in zip(numbers, runs, strict=True)
    ]

    left = merge_coded_rows(constant, dedup, drop_deletes=True).gather()

    assert rows_of(left) == rows_of(merge_coded_rows(runs, dedup, drop_deletes=True).gather())


@pytest.mark.parametrize(("first", "last"), [(9, 1), (2, 8)])
def test_every_part_of_a_run_counts_when_runs_are_told_apart_by_age(first, last):
    runs = coded_runs(
        [
            [Row(first, 0, ("a",), (1, "x", 1)), Row(last, 1, ("a",), (1, "x", 1))],
            [Row(5, 1, ("a",), (2, "y", 2))],
        ]
    )

    left = merge_coded_parts([[runs[0].slice(0, 1), runs[0].slice(1, 1)], [runs[1]]], "last", drop_deletes=True)

    assert [row.sequence for row in rows_of(left.gather())] == [first, max(last, 5)]


def test_of_rows_alike_that_of_the_first_run_is_kept():
    runs = [run_of(put(3, 5), put(5, 6, cpu=10)), run_of(put(5, 6, cpu=20), put(9, 7))]

    assert rows_of(merge_batches(runs, drop_deletes=True))[1] == put(5, 6, cpu=10)
    assert rows_of(merge_batches(runs[::-1], drop_deletes=True))[1] == put(5, 6, cpu=20)


@settings(deadline=None, max_examples=30)
@given(shuffled_versions(), modes)
def test_without_versions_rows_say_only_that_they_are_there(parts, dedup):
    rows = merge_coded_rows(coded_runs(parts), dedup, drop_deletes=True)

    bare = rows.gather(versions=False)

    assert rows_of(bare) == [replace(row, sequence=0) for row in rows_of(rows.gather())]
    assert (bare.sequences.dtype, bare.op_types.dtype) == (np.uint64, np.uint8)


@settings(deadline=None, max_examples=100)
@given(versions_in_steps(), steps, st.booleans(), st.data())
def test_merging_neighbours_in_steps_leaves_what_merging_at_once_leaves(parts, dedup, drop_deletes, data):
    runs = [sort_batches([batch_of(FILLED, part)], dedup) for part in parts]

    while len(runs) > 2:
        first = data.draw(st.integers(0, len(runs) - 2))
        stop = data.draw(st.integers(first + 2, len(runs)))
        neighbours = data.draw(st.permutations(runs[first:stop]))
        runs[first:stop] = [merge_batches(neighbours, dedup, drop_deletes=False)]
    left = merge_batches(runs, dedup, drop_deletes=drop_deletes)

    assert rows_of(left) == survivors((row for part in parts for row in part), dedup, drop_deletes=drop_deletes)


@settings(deadline=None, max_examples=80)
@given(shuffled_versions(), modes, st.booleans())
def test_newest_and_superseded_rows_hold_every_earlier_moment(parts, dedup, drop_deletes):
    rows = [row for part in parts for row in part]
    kept, superseded = sort_versions_of([batch_of(FILLED, part) for part in parts], dedup)
    runs = [part.gather() for part in (kept, superseded) if part is not None]

    for sequence in range(len(rows) + 1):
        left = merge_batches([visible_at(sequence, run) for run in runs], dedup, drop_deletes=drop_deletes)

        earlier = (row for row in rows if row.sequence <= sequence)
        assert rows_of(left) == survivors(earlier, dedup, drop_deletes=drop_deletes)


@settings(deadline=None, max_examples=80)
@given(shuffled_versions(), modes)
def test_superseded_are_the_rows_that_the_newest_do_not_tell(parts, dedup):
    rows = survivors((row for part in parts for row in part), "none")
    keys = [row.key for row in rows]

    kept, superseded = sort_versions_of([batch_of(FILLED, part) for part in parts], dedup)

    lost = {
        "last": [row for row in rows if row not in survivors(rows, "last")],
        "merge": [row for row in rows if keys.count(row.key) > 1],
        "none": [],
    }
    assert rows_of(kept.gather()) == survivors(rows, dedup)
    assert (superseded is None) == (lost[dedup] == [])
    assert superseded is None or rows_of(superseded.gather()) == lost[dedup]


def run_of(*rows: Row) -> Batch:
    return sort_batches([batch_of(metadata_of(), rows)], "none")


def test_a_null_is_filled_from_the_newest_row_that_has_a_value():
    runs = [run_of(put(1, 5, cpu=10)), run_of(put(2, 5, cpu=20), put(4, 5, cpu=None)), run_of(put(3, 5, cpu=None))]

    assert rows_of(merge_batches(runs, "merge", drop_deletes=True)) == [put(4, 5, cpu=20)]
    assert rows_of(merge_batches(runs, "last", drop_deletes=True)) == [put(4, 5, cpu=None)]


def test_a_field_that_is_null_in_all_versions_stays_null():
    runs = [run_of(put(1, 5, cpu=None), put(1, 6)), run_of(put(2, 5, cpu=None))]

    assert rows_of(merge_batches(runs, "merge", drop_deletes=True)) == [put(2, 5, cpu=None), put(1, 6)]


def test_nothing_fills_through_a_delete_marker_that_was_merged_before():
    files = [run_of(put(1, 5, cpu=10)), run_of(delete(2, 5)), run_of(put(3, 5, cpu=None))]

    partly = merge_batches(files[1:], "merge", drop_deletes=False)
    wholly = merge_batches([files[0], partly], "merge", drop_deletes=True)

    assert rows_of(partly) == [put(3, 5, cpu=None), delete(2, 5)]
    assert rows_of(wholly) == [put(3, 5, cpu=None)]


def test_a_key_whose_newest_row_is_a_delete_marker_is_not_filled():
    runs = [run_of(put(1, 5, cpu=10)), run_of(put(2, 5, cpu=20)), run_of(delete(3, 5))]

    assert rows_of(merge_batches(runs, "merge", drop_deletes=False)) == [delete(3, 5)]
    assert rows_of(merge_batches(runs, "merge", drop_deletes=True)) == []


def test_not_a_number_is_a_value_that_older_rows_do_not_fill():
    metadata = metadata_of(fields={"load": pa.float64(), "heat": pa.float64()})
    parts = [[Row(1, 5, ("a",), (1.5, 2.5))], [Row(2, 5, ("a",), (nan, None))]]

    (row,) = rows_of(sort_batches([batch_of(metadata, part) for part in parts], "merge"))

    assert isnan(row.fields[0])
    assert row.fields[1] == 2.5


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (pa.bool_(), True),
        (pa.duration("ms"), timedelta(seconds=1)),
        (pa.large_binary(), b"\x00"),
        (pa.large_list(pa.int64()), [1, None]),
        (pa.decimal128(10, 2), Decimal("1.50")),
    ],
    ids=str,
)
@pytest.mark.parametrize("parts_count", [1, 2])
def test_fields_of_any_type_are_filled(data_type, value, parts_count):
    metadata = metadata_of(fields={"value": data_type, "count": pa.int64()})
    rows = [Row(1, 5, ("a",), (value, 1)), Row(2, 5, ("a",), (None, 2))]
    parts = [rows] if parts_count == 1 else [rows[:1], rows[1:]]

    run = sort_batches([batch_of(metadata, part) for part in parts], "merge")

    assert rows_of(run) == [Row(2, 5, ("a",), (value, 2))]
    assert run.fields.schema.types == [data_type, pa.int64()]


def test_an_appended_row_stays_beside_its_like():
    runs = [run_of(put(1, 5, cpu=10)), run_of(put(3, 5, cpu=30)), run_of(put(2, 5, cpu=20))]

    left = merge_batches(runs, "none", drop_deletes=True)

    assert rows_of(left) == [put(3, 5, cpu=30), put(2, 5, cpu=20), put(1, 5, cpu=10)]


def test_a_region_without_fields_is_merged_in_every_mode():
    metadata = metadata_of(fields={})
    parts = [[Row(1, 5, ("a",), ())], [Row(2, 5, ("a",), ()), Row(3, 6, ("a",), ())]]
    runs = [sort_batches([batch_of(metadata, part)]) for part in parts]

    counts = {dedup: len(merge_batches(runs, dedup, drop_deletes=True)) for dedup in get_args(Dedup)}

    assert counts == {"last": 2, "merge": 2, "none": 3}


def test_nothing_superseded_is_nothing_to_keep():
    batch = batch_of(metadata_of(), [put(2, 6, cpu=None), put(1, 5), delete(3, 7)])

    assert all(sort_versions_of([batch], dedup)[1] is None for dedup in get_args(Dedup))
