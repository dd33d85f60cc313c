"""An upper end for floats is told to Polars only where there is no NaN, and where it lets something be skipped."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import mitoframe as mito
from mitoframe.frames.conditions import implied
from mitoframe.model.predicate import And, Compare, IsNull, Or
from mitoframe.model.request import ScanRequest
from mitoframe.read.floats import prunable_above

START = datetime(2024, 1, 1)
SCHEMA = {"ts": pl.Datetime("us"), "cpu": pl.Float64, "load": pl.Float32, "rack": pl.Int64}
ROW_GROUP_ROWS = 10


def rows(day: int, cpu: list[float | None]) -> pl.DataFrame:
    times = [START + timedelta(days=100 * day, minutes=minute) for minute in range(len(cpu))]
    columns = {"ts": times, "cpu": cpu, "load": cpu, "rack": list(range(len(cpu)))}
    return pl.DataFrame(columns, schema=SCHEMA, strict=False)


RISING = [float(number) for number in range(30)]
WITH_NAN = [*RISING[:-1], math.nan]


def store(*files: list[float | None]) -> mito.Database:
    db = mito.open("memory://", row_group_rows=ROW_GROUP_ROWS)
    table = db.create_table("cpu", SCHEMA, time="ts")
    for day, cpu in enumerate(files):
        table.write(rows(day, cpu))
        table.flush()
    return db


def told(db: mito.Database, condition) -> frozenset[str]:
    plan = db.engine.plan(db["cpu"].region_id, ScanRequest(predicate=condition))
    return prunable_above(plan, db.engine.reader)


@pytest.mark.parametrize(
    ("condition", "columns"),
    [
        (Compare("cpu", ">", 15.0), ("cpu",)),
        (Compare("cpu", ">=", 9.0), ()),
        (Compare("cpu", ">=", 9.5), ("cpu",)),
        (Compare("cpu", "<", 15.0), ()),
        (Compare("rack", ">", 15), ()),
        (And((Compare("cpu", ">", 15.0), Compare("load", ">", 25.0))), ("cpu", "load")),
        (And((Compare("cpu", ">", -5.0), Compare("load", ">", 25.0), IsNull("rack"))), ("load",)),
        (Or((Compare("cpu", ">", 15.0), Compare("load", ">", 25.0))), ()),
    ],
    ids=repr,
)
def test_columns_are_told_where_a_row_group_holds_nothing_above(condition, columns):
    with store(RISING, RISING) as db:
        assert told(db, condition) == set(columns)


def test_one_file_with_nan_or_of_which_nothing_is_known_is_enough_to_tell_nothing():
    condition = And((Compare("cpu", ">", 15.0), Compare("ts", ">", 0)))
    with store(RISING, WITH_NAN) as db:
        plan = db.engine.plan(db["cpu"].region_id, ScanRequest(predicate=condition))
        clean, _ = plan.direct
        older = replace(clean, nan_columns=None)

        assert prunable_above(plan, db.engine.reader) == frozenset()
        assert prunable_above(replace(plan, direct=(clean,)), db.engine.reader) == {"cpu"}
        assert prunable_above(replace(plan, direct=(clean, older)), db.engine.reader) == frozenset()


def test_a_column_that_older_files_do_not_have_is_null_there_and_no_nan():
    with store(RISING) as db:
        db["cpu"].alter(add={"new": pl.Float64})
        db["cpu"].write(rows(3, RISING).with_columns(new=pl.col("cpu")))
        db["cpu"].flush()
        condition = pl.col("new") > 25

        assert told(db, Compare("new", ">", 25.0)) == {"new"}
        assert db.scan("cpu", where=condition).collect()["new"].to_list() == [26.0, 27.0, 28.0, 29.0]


numbers = st.sampled_from([-1.0, 0.0, 5.0, math.inf, -math.inf, math.nan, None])
files = st.lists(st.lists(numbers, min_size=1, max_size=3 * ROW_GROUP_ROWS), min_size=1, max_size=3)
bounds = st.sampled_from([-math.inf, -1.0, 0.0, 4.0, math.inf, math.nan])


@settings(deadline=None, max_examples=40)
@given(files, bounds, st.sampled_from([">", ">="]))
def test_rows_are_those_of_brute_force(written, bound, operator):
    above = pl.col("cpu") > bound if operator == ">" else pl.col("cpu") >= bound
    everything = pl.concat([rows(day, cpu) for day, cpu in enumerate(written)])
    with store(*written) as db:
        predicate = Compare("cpu", operator, bound)
        schema = db["cpu"].scan().metadata.arrow_schema()
        ends = implied(predicate, schema, told(db, predicate))

        found = db.scan("cpu", where=above).collect()

    assert_frame_equal(found, everything.filter(above).select(found.columns))
    assert_frame_equal(everything.filter(above, *ends), everything.filter(above))


@pytest.mark.parametrize(
    ("written", "kept"),
    [(RISING, [2]), (WITH_NAN, [1, 2]), ([*RISING[:10], *[None] * 10, *RISING[20:]], [2])],
    ids=["without NaN", "with NaN", "with nulls"],
)
def test_row_groups_are_skipped_by_their_statistics_where_the_file_holds_no_nan(written, kept):
    with store(written) as db:
        region = db.engine.region(db["cpu"].region_id)
        (file,) = region.state.files.values()

        found = db.engine.reader.matching_row_groups(region.metadata, file, Compare("cpu", ">", 19.5))

    assert found == ([0, *kept] if kept == [1, 2] else kept)
