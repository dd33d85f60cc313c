from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from builders import metadata_of

from mitoframe.frames import polars_buckets
from mitoframe.frames.polars_buckets import Every
from mitoframe.model.buckets import EvenBuckets
from mitoframe.model.errors import InvalidInputError

# Each has its own trouble: clocks that jump at midnight or a minute after it, by half an hour, at other times each
# year, or that are a quarter of an hour away from the others.
ZONES = [
    None,
    "UTC",
    "Europe/Paris",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "America/Havana",
    "Africa/Casablanca",
]
WIDTHS = ["10s", "7m", "15m", "45m", "1h", "90m", "2h", "7h", "1d", "3d", "1w", "2w", "1mo", "1q", "1y"]
SPANS = [
    ("1969-11-20", "1970-02-10"),
    ("2007-10-20", "2007-11-20"),
    ("2010-02-20", "2010-03-20"),
    ("2018-10-25", "2018-11-25"),
]


def ticks(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def every_of(text: str | timedelta, zone: str | None = None, unit: str = "ms") -> Every:
    return Every.parse(text, metadata_of(time_type=pa.timestamp(unit, zone)))


@pytest.mark.parametrize("zone", ZONES)
def test_buckets_are_those_that_polars_truncates_to(zone):
    draw = np.random.default_rng(5)
    compared = 0
    for text in WIDTHS:
        every = every_of(text, zone)
        for first, last in (map(ticks, span) for span in SPANS):
            buckets = every.buckets(first, last)
            if buckets is None:
                assert first < 0
                continue
            minutes = 60_000 * draw.integers(first // 60_000, last // 60_000, 2_000)
            times = np.concatenate([minutes, draw.integers(first, last, 2_000), [first, last]])

            if isinstance(buckets, EvenBuckets):
                found = times - (times - buckets.origin) % buckets.width
            else:
                found = buckets.labels[np.searchsorted(buckets.edges, times, side="right") - 1]

            expected = pl.Series(times).cast(pl.Datetime("ms", zone)).dt.truncate(text).to_physical().to_numpy()
            np.testing.assert_array_equal(found, expected, err_msg=f"{text} in {zone} from {first}")
            compared += 1
    assert compared >= len(WIDTHS) * 3


@pytest.mark.parametrize(
    ("text", "zone", "is_even"),
    [
        ("10s", "Europe/Paris", True),
        ("1m", "America/St_Johns", True),
        ("1h", "Europe/Paris", False),
        ("1w", None, True),
        ("1d", "UTC", True),
        ("1d", "Europe/Paris", False),
        ("1mo", None, False),
    ],
)
def test_buckets_are_even_where_no_clock_can_disturb_them(text, zone, is_even):
    buckets = every_of(text, zone).buckets(ticks("2024-01-01"), ticks("2024-02-01"))

    assert isinstance(buckets, EvenBuckets) == is_even


def test_polars_is_left_to_truncate_where_the_buckets_would_be_too_many(monkeypatch):
    monkeypatch.setattr(polars_buckets, "TIMES_TRIED_MAX", 10)

    assert every_of("7m", "Europe/Paris").buckets(ticks("2024-01-01"), ticks("2024-02-01")) is None
    assert every_of("1mo").buckets(ticks("2000-01-01"), ticks("2024-02-01")) is None


def test_a_width_may_be_a_timedelta():
    assert every_of(timedelta(hours=1)).buckets(0, 1) == EvenBuckets(width=3_600_000, origin=0)


@pytest.mark.parametrize(
    "value", ["", "x", "1x", "0h", "-1h", "1us", "1mo2d", 5, None, timedelta(0), timedelta(microseconds=5)]
)
def test_what_is_no_width_is_refused(value):
    with pytest.raises(InvalidInputError, match="every="):
        every_of(value)


def test_days_and_hours_do_not_mix_in_a_zone():
    assert every_of("1d12h").buckets(0, 1) is not None
    with pytest.raises(InvalidInputError, match="cannot mix"):
        every_of("1d12h", "Europe/Paris")
