"""Generated rows are TSBS rows, come again from the same seed, and are disturbed as much as was asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.errors import InvalidInputError
from mitoframe.tsbs import FIELDS, LATENESS_TICKS_MAX, SCHEMA, TAGS, TIME, tsbs_cpu, tsbs_cpu_table

KEY = ["hostname", TIME]
DISTURBED = {"late": 0.05, "duplicate": 0.03, "corrected": 0.04}

shares = st.sampled_from([0.0, 0.01, 0.1, 0.33])


def frame(table: pa.Table) -> pl.DataFrame:
    result = pl.from_arrow(table)
    assert isinstance(result, pl.DataFrame)
    return result


def made(**arguments: Any) -> pl.DataFrame:
    return frame(tsbs_cpu_table(**arguments))


def final_state(delivered: pl.DataFrame) -> pl.DataFrame:
    return delivered.unique(KEY, keep="last", maintain_order=True).sort(KEY)


def walks(rows: pl.DataFrame, hosts: int) -> np.ndarray:
    """Return the values as (field, tick, host); the rows are undisturbed."""
    return np.stack([rows[field].to_numpy().reshape(-1, hosts) for field in FIELDS])


def test_rows_come_tick_by_tick_with_all_hosts_in_each() -> None:
    rows = made(hosts=3, hours=0.01, interval="12s", start="2024-05-01T00:00:00+02:00")

    begin = datetime(2024, 4, 30, 22)
    assert rows["ts"].to_list() == [begin + timedelta(seconds=12 * tick) for tick in range(3) for _ in range(3)]
    assert rows["hostname"].to_list() == ["host_0", "host_1", "host_2"] * 3


def test_schema_is_time_in_nanoseconds_then_ten_strings_then_ten_floats() -> None:
    table = tsbs_cpu_table(hosts=2, hours=0.1)

    assert table.schema == SCHEMA
    assert table.schema.names == [TIME, *TAGS, *FIELDS]
    assert table.schema.types == [pa.timestamp("ns"), *[pa.string()] * 10, *[pa.float64()] * 10]
    assert sum(column.null_count for column in table.columns) == 0


def test_all_tags_follow_from_the_hostname() -> None:
    hosts = 500

    rows = made(hosts=hosts, hours=0.01)

    assert rows.select(TAGS).unique().height == hosts
    assert rows["hostname"].n_unique() == hosts


def test_a_fleet_spreads_over_all_values_of_its_tags() -> None:
    rows = made(hosts=4000, hours=0.003).select(TAGS)

    distinct = dict(zip(TAGS, rows.select(pl.all().n_unique()).row(0), strict=True))
    assert distinct == {
        "hostname": 4000,
        "region": 9,
        "datacenter": 23,
        "rack": 100,
        "os": 3,
        "arch": 2,
        "team": 4,
        "service": 20,
        "service_version": 2,
        "service_environment": 3,
    }
    assert rows.select(pl.col("datacenter").str.starts_with(pl.col("region")).all()).item()


def test_walks_start_anywhere_and_stay_whole_numbers_in_range() -> None:
    values = walks(made(hosts=2000, hours=1, interval="1m"), hosts=2000)

    assert values.min() == 0.0
    assert values.max() == 100.0
    assert np.array_equal(values, np.floor(values))
    starts = np.bincount(values[:, 0].astype(int).ravel() // 10, minlength=10)
    assert np.allclose(starts[:10] / starts.sum(), 0.1, atol=0.02)


def test_steps_are_those_of_a_floored_walk_of_standard_normals() -> None:
    values = walks(made(hosts=500, hours=1), hosts=500)

    inside = (values[:, :-1] > 10) & (values[:, :-1] < 90)
    steps = np.diff(values, axis=1)[inside]
    long_steps = (values[:, 9:] - values[:, :-9])[inside[:, :-8]]

    # Rounding down adds the difference of two nearly independent uniform remainders: a variance of up to 1/6.
    assert abs(steps.mean()) < 0.02
    assert steps.var() == pytest.approx(1.0 + 1 / 6, rel=0.02)
    assert long_steps.var() == pytest.approx(9.0 + 1 / 6, rel=0.05)


def test_walks_of_hosts_and_fields_do_not_move_together() -> None:
    steps = np.diff(walks(made(hosts=2, hours=5), hosts=2), axis=1)

    correlations = np.corrcoef(steps.transpose(0, 2, 1).reshape(20, -1))

    assert np.abs(correlations - np.eye(20)).max() < 0.12


def test_same_seed_gives_same_rows_and_another_seed_gives_others() -> None:
    arguments = {"hosts": 5, "hours": 1, **DISTURBED}

    first, again, other = (tsbs_cpu_table(seed=seed, **arguments) for seed in (7, 7, 8))

    assert first.equals(again)
    assert not first.equals(other)


@settings(deadline=None, max_examples=40)
@given(
    hosts=st.integers(1, 6),
    ticks=st.integers(1, 400),
    batches=st.integers(1, 400),
    seed=st.integers(0, 2**32),
    late=shares,
    duplicate=shares,
    corrected=shares,
)
def test_batches_only_cut_the_same_deliveries(
    hosts: int, ticks: int, batches: int, seed: int, late: float, duplicate: float, corrected: float
) -> None:
    arguments: dict[str, Any] = {
        "hosts": hosts,
        "hours": ticks / 360,
        "seed": seed,
        "late": late,
        "duplicate": duplicate,
        "corrected": corrected,
    }
    batches = min(batches, ticks)

    cut = list(tsbs_cpu(**arguments, batches=batches))
    whole = list(tsbs_cpu(**arguments, batches=1))

    assert len(cut) == batches
    assert len(whole) == 1
    assert pa.concat_tables(cut).combine_chunks().equals(whole[0])


@settings(deadline=None, max_examples=40)
@given(hosts=st.integers(1, 6), ticks=st.integers(1, 400), late=shares, duplicate=shares, corrected=shares)
def test_last_delivery_of_every_key_is_the_row_made_unless_corrected(
    hosts: int, ticks: int, late: float, duplicate: float, corrected: float
) -> None:
    hours = ticks / 360
    delivered = made(hosts=hosts, hours=hours, late=late, duplicate=duplicate, corrected=corrected)
    undisturbed = made(hosts=hosts, hours=hours).sort(KEY)

    state = final_state(delivered)

    assert state.select(TIME, *TAGS).equals(undisturbed.select(TIME, *TAGS))
    changed = state.select(pl.any_horizontal(pl.col(field) != undisturbed[field] for field in FIELDS)).to_series()
    if corrected == 0.0:
        assert not changed.any()
    twice_with_other_values = delivered.unique([*KEY, *FIELDS]).height - state.height
    assert changed.sum() == twice_with_other_values


def test_a_correction_changes_all_ten_fields_within_their_range() -> None:
    delivered = made(hosts=20, hours=2, corrected=0.2)
    undisturbed = made(hosts=20, hours=2).sort(KEY)

    state = final_state(delivered)
    differs = np.stack([(state[field] != undisturbed[field]).to_numpy() for field in FIELDS])

    assert (differs.all(axis=0) | ~differs.any(axis=0)).all()
    values = state.select(FIELDS).to_numpy()
    assert values.min() >= 0.0
    assert values.max() <= 100.0
    assert np.array_equal(values, np.floor(values))


def test_shares_come_out_as_asked() -> None:
    hosts, ticks = 100, 720
    rows = hosts * ticks

    duplicates = made(hosts=hosts, hours=2, duplicate=0.03)
    corrections = made(hosts=hosts, hours=2, corrected=0.04)
    all_three = made(hosts=hosts, hours=2, **DISTURBED)

    assert duplicates.height / rows - 1.0 == pytest.approx(0.03, rel=0.1)
    assert duplicates.is_duplicated().sum() == 2 * (duplicates.height - rows)
    assert corrections.height / rows - 1.0 == pytest.approx(0.04, rel=0.1)
    assert corrections.is_duplicated().sum() == 0
    assert all_three.height / rows - 1.0 == pytest.approx(0.07, rel=0.1)


def test_late_rows_come_once_and_at_most_so_many_ticks_after_their_time() -> None:
    hosts, ticks = 100, 720

    delivered = made(hosts=hosts, hours=2, late=0.05).with_row_index()

    newest = delivered["ts"].cum_max()
    lag_ticks = ((newest - delivered["ts"]).dt.total_seconds() // 10).to_numpy()
    assert delivered.height == delivered.select(KEY).n_unique() == hosts * ticks
    assert (lag_ticks > 0).mean() == pytest.approx(0.05, rel=0.1)
    assert lag_ticks.max() == LATENESS_TICKS_MAX


def test_second_deliveries_come_after_the_first_and_often_in_another_batch() -> None:
    batches = [frame(table) for table in tsbs_cpu(50, 2, duplicate=0.1, corrected=0.1, batches=12)]

    numbered = pl.concat(rows.with_columns(batch=pl.lit(number)) for number, rows in enumerate(batches))
    deliveries = numbered.group_by(KEY).agg("batch").filter(pl.col("batch").list.len() == 2)

    crossing = deliveries.select(pl.col("batch").list.last() - pl.col("batch").list.first()).to_series()
    assert crossing.min() == 0
    assert (crossing > 0).mean() > 0.5


def test_default_batches_hold_about_a_quarter_of_a_million_rows() -> None:
    sizes = [table.num_rows for table in tsbs_cpu(4000, 0.5)]

    assert sizes == [240_000] * 3


def test_batches_follow_each_other_in_time() -> None:
    batches = list(tsbs_cpu(7, 1, batches=5))

    spans = [(rows["ts"].min(), rows["ts"].max()) for rows in map(frame, batches)]
    assert all(before[1] < after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize("interval", ["10s", "10000ms", "10 s", timedelta(seconds=10)])
def test_interval_may_be_written_in_several_ways(interval: str | timedelta) -> None:
    table = tsbs_cpu_table(hosts=2, hours=0.1, interval=interval)

    assert table.equals(tsbs_cpu_table(hosts=2, hours=0.1))


@pytest.mark.parametrize("start", ["2016-01-01", datetime(2016, 1, 1), datetime(2016, 1, 1, tzinfo=UTC)])
def test_start_without_a_zone_is_utc(start: str | datetime) -> None:
    table = tsbs_cpu_table(hosts=1, hours=0.01, start=start)

    assert frame(table)["ts"][0] == datetime(2016, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"hosts": 0}, "hosts"),
        ({"hours": 0.0}, "hours"),
        ({"hours": -1.0}, "hours"),
        ({"hours": float("nan")}, "hours"),
        ({"hours": float("inf")}, "hours"),
        ({"hours": 1e9}, "start"),
        ({"interval": "10 fortnights"}, "interval"),
        ({"interval": "0s"}, "interval"),
        ({"interval": timedelta(0)}, "interval"),
        ({"start": "yesterday"}, "start"),
        ({"start": "0001-01-01"}, "start"),
        ({"seed": -1}, "seed"),
        ({"late": -0.1}, "late"),
        ({"duplicate": 1.1}, "duplicate"),
        ({"corrected": float("nan")}, "corrected"),
        ({"late": 0.5, "duplicate": 0.3, "corrected": 0.3}, "late, duplicate and corrected"),
        ({"batches": 0}, "batches"),
        ({"batches": 361}, "batches"),
    ],
)
def test_senseless_arguments_are_refused_at_the_call(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        tsbs_cpu(**{"hosts": 2, "hours": 1.0, **arguments})
