from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.errors import InvalidInputError
from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TIME_MIN, TimeRange, parse_duration_ms, parse_time

NOON_S = 1_704_110_400  # 2024-01-01T12:00Z

edges = st.integers(-20, 20) | st.sampled_from([TIME_MIN, TIME_MAX])
ranges = st.builds(TimeRange, edges, edges)
times = st.integers(-22, 22) | st.sampled_from([TIME_MIN, TIME_MAX - 1])


def holds(wanted: TimeRange, time: int) -> bool:
    return wanted.start <= time < wanted.end


# --- points ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "2024-01-01T12:00",
        "2024-01-01 12:00:00",
        "20240101T120000",
        datetime(2024, 1, 1, 12),
        pd.Timestamp("2024-01-01 12:00"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("unit", "per_second"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_moment_may_be_said_in_many_ways(said, unit, per_second):
    assert parse_time(said, unit, None, "start") == NOON_S * per_second


def test_a_date_is_its_midnight():
    midnight = NOON_S * 1000 - 12 * 3_600_000

    assert parse_time(date(2024, 1, 1), "ms", None, "start") == midnight
    assert parse_time("2024-01-01", "ms", None, "start") == midnight


def test_an_integer_is_taken_as_it_is():
    assert parse_time(-17, "ns", "Europe/Paris", "start") == -17


def test_a_pandas_timestamp_keeps_its_nanoseconds():
    moment = pd.Timestamp(1_700_000_000_123_456_789)

    assert parse_time(moment, "ns", None, "start") == 1_700_000_000_123_456_789


@pytest.mark.parametrize(("unit", "ticks"), [("ms", -1), ("us", -1_000), ("ns", -1_000_000)])
def test_times_before_1970_count_down(unit, ticks):
    assert parse_time("1969-12-31T23:59:59.999", unit, None, "start") == ticks


def test_a_moment_between_two_ticks_means_the_later_for_both_ends_are_half_open():
    between = "2024-01-01T12:00:00.000001"

    assert parse_time(between, "ms", None, "start") == NOON_S * 1000 + 1
    assert parse_time("1969-12-31T23:59:59.999999", "ms", None, "start") == 0


@pytest.mark.parametrize(
    ("said", "zone"),
    [("2024-01-01T13:00", "Europe/Paris"), ("2024-01-01T06:00", "America/Chicago"), ("2024-01-01T12:00", "UTC")],
)
def test_a_moment_without_a_zone_is_in_the_columns_zone(said, zone):
    assert parse_time(said, "ms", zone, "start") == NOON_S * 1000


@pytest.mark.parametrize("zone", ["Mars/Base", "../etc"])
def test_a_column_with_an_unknown_zone_asks_for_a_moment_with_one(zone):
    with pytest.raises(InvalidInputError, match=r"start has no zone and the time column's, .* is not known here"):
        parse_time("2024-01-01", "ms", zone, "start")

    assert parse_time("2024-01-01T12:00Z", "ms", zone, "start") == NOON_S * 1000


@pytest.mark.parametrize(
    "said",
    [
        "2024-01-01T14:00+02:00",
        datetime(2024, 1, 1, 12, tzinfo=UTC),
        datetime(2024, 1, 1, 7, tzinfo=timezone(timedelta(hours=-5))),
        datetime(2024, 1, 1, 21, tzinfo=ZoneInfo("Asia/Tokyo")),
        pd.Timestamp("2024-01-01 13:00", tz="Europe/Paris"),
    ],
    ids=repr,
)
def test_a_moment_with_a_zone_is_that_moment_in_any_columns_zone(said):
    assert parse_time(said, "ms", "America/New_York", "start") == NOON_S * 1000


@pytest.mark.parametrize("said", ["2024-01-01T12:00Z", pd.Timestamp("2024-01-01", tz="UTC")], ids=repr)
def test_a_moment_with_a_zone_is_refused_by_a_column_without(said):
    with pytest.raises(InvalidInputError, match=r"end=2024-01-01T.* has a zone, the time column has none"):
        parse_time(said, "ms", None, "end")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("yesterday", "start='yesterday' is not ISO 8601"),
        ("", "start='' is not ISO 8601"),
        ("2024-13-01", "is not ISO 8601"),
        (1.5, "start is a float"),
        (True, "start is a bool"),
        (None, "start is a NoneType"),
        (timedelta(hours=1), "start is a timedelta"),
        (2**63, "does not fit a time in ns"),
        (-(2**63), "does not fit a time in ns"),
        ("2300-01-01", "does not fit a time in ns"),
        ("1600-01-01", "does not fit a time in ns"),
        (pd.NaT, "does not fit a time in ns"),
    ],
    ids=repr,
)
def test_what_is_no_time_is_refused_by_the_arguments_name(said, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_time(said, "ns", None, "start")


# --- spans ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "milliseconds"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        (" 1.5 h ", 5_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("0s", 0),
        (timedelta(days=1, milliseconds=5), 86_400_005),
    ],
    ids=repr,
)
def test_a_span_is_text_or_a_timedelta(said, milliseconds):
    assert parse_duration_ms(said, "window") == milliseconds


@pytest.mark.parametrize("said", ["", "1", "h", "-1h", "1 year", "1h30m", 5, None, True], ids=repr)
def test_what_is_no_span_is_refused_by_the_arguments_name(said):
    with pytest.raises(InvalidInputError, match=r"window=.* is not a duration"):
        parse_duration_ms(said, "window")


# --- ranges ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(ranges, ranges, times)
def test_an_intersection_holds_what_both_hold(left, right, time):
    assert holds(left.intersect(right), time) == (holds(left, time) and holds(right, time))


@settings(deadline=None)
@given(ranges)
def test_everything_changes_nothing_it_is_intersected_with(wanted):
    assert EVERYTHING.intersect(wanted) == wanted == wanted.intersect(EVERYTHING)


@settings(deadline=None)
@given(st.builds(TimeRange, st.integers(-20, 20), st.integers(-20, 20)))
def test_an_empty_range_holds_nothing_and_any_other_its_start(wanted):
    assert wanted.is_empty() != holds(wanted, wanted.start)


@settings(deadline=None)
@given(st.builds(TimeRange, st.integers(-20, 20), st.integers(-20, 20)), st.integers(-9, 9), st.integers(0, 9))
def test_a_range_touches_rows_if_it_may_hold_one_of_their_times(wanted, first, length):
    last = first + length

    if any(holds(wanted, time) for time in range(first, last + 1)):
        assert wanted.touches(first, last)
    elif not wanted.is_empty():
        assert not wanted.touches(first, last)


def test_a_range_to_the_end_of_time_touches_the_last_moment():
    assert TimeRange(5, TIME_MAX).touches(TIME_MAX, TIME_MAX)
    assert not TimeRange(5, TIME_MAX - 1).touches(TIME_MAX, TIME_MAX)
