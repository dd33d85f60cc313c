"""The data sets are what their README says they are, and load wherever the package is."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from mitoframe import datasets
from mitoframe.model.errors import UnavailableError

README = Path(__file__).parent.parent / "datasets" / "README.md"
KEYS = {
    "weather": ["origin", "time_hour"],
    "flights": ["carrier", "origin", "dest", "tailnum", "scheduled_departure"],
}
LOADERS = {"weather": datasets.load_weather, "flights": datasets.load_flights}
NAMES = pytest.mark.parametrize("name", ["weather", "flights"])


def readme_rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its two head lines."""
    section = README.read_text(encoding="utf-8").split(heading, maxsplit=1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def described_type(dtype: pl.DataType) -> str:
    return f"Datetime({dtype.time_unit}, {dtype.time_zone})" if isinstance(dtype, pl.Datetime) else str(dtype)


def rows_with_an_earlier_key(frame: pl.DataFrame, key: list[str]) -> int:
    return frame.height - frame.select(key).n_unique()


@NAMES
def test_readme_tells_size_span_and_keys_of_each_file(name: str) -> None:
    facts = {row[0].removesuffix(".parquet"): row[1:] for row in readme_rows("# Data sets")}

    frame = LOADERS[name]()
    *tags, time = KEYS[name]
    instants = frame[time].dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    found = [
        frame.height,
        frame.width,
        instants.min(),
        instants.max(),
        frame.select(tags).n_unique(),
        rows_with_an_earlier_key(frame, KEYS[name]),
    ]

    assert [str(fact) for fact in found] == facts[name]


@NAMES
def test_readme_tells_every_column_with_its_type_and_nulls(name: str) -> None:
    told = [row[:3] for row in readme_rows(f"## {name}.parquet")]

    frame = LOADERS[name]()

    assert told == [
        [column, described_type(dtype), str(frame[column].null_count())] for column, dtype in frame.schema.items()
    ]


def test_readme_tells_how_many_rows_share_a_key() -> None:
    for described, count in readme_rows("## How times are kept"):
        name, columns = described.split(": ")

        frame = LOADERS[name]()

        assert rows_with_an_earlier_key(frame, columns.split(", ")) == int(count), described


def test_readme_tells_the_hours_without_weather() -> None:
    weather = datasets.load_weather()
    instants = weather["time_hour"].dt.convert_time_zone("UTC")
    all_hours = pl.datetime_range(instants.min(), instants.max(), "1h", time_zone="UTC", eager=True).len()

    rows = weather.group_by("origin").len().sort("origin").rows()

    assert readme_rows("### Missing hours") == [[origin, str(count), str(all_hours - count)] for origin, count in rows]


def test_instants_survive_both_changes_of_the_clock() -> None:
    local = datasets.load_weather().filter(pl.col("origin") == "EWR")["time_hour"]

    spring = local.filter(local.dt.date() == date(2013, 3, 10))[:4]
    autumn = local.filter(local.dt.date() == date(2013, 11, 3))[:3]

    assert spring.dt.hour().to_list() == [0, 1, 3, 4]
    assert spring.dt.convert_time_zone("UTC").dt.hour().to_list() == [5, 6, 7, 8]
    assert autumn.dt.hour().to_list() == [1, 1, 2]
    assert autumn.dt.convert_time_zone("UTC").dt.hour().to_list() == [5, 6, 7]


def test_the_afternoon_is_the_warmest_time_of_day() -> None:
    # An hour read in the wrong zone moves the warmest hour into the night.
    weather = datasets.load_weather()

    by_hour = weather.group_by(pl.col("time_hour").dt.hour().alias("hour")).agg(pl.col("temp").mean())

    assert by_hour.sort("temp")["hour"][-1] in {14, 15, 16}


def test_every_flight_departs_within_the_hour_that_joins_it_to_the_weather() -> None:
    flights = datasets.load_flights()

    hours = flights["scheduled_departure"].dt.truncate("1h")

    assert hours.equals(flights["time_hour"])


@NAMES
def test_rows_are_ordered_by_time_and_tags(name: str) -> None:
    *tags, time = KEYS[name]

    frame = LOADERS[name]()

    assert frame.equals(frame.sort(time, *tags))


@NAMES
def test_files_stay_small_enough_to_ship(name: str) -> None:
    file = README.parent / f"{name}.parquet"

    assert file.stat().st_size < 5_000_000


def test_a_packaged_file_is_preferred_to_the_checkout(tmp_path: Path) -> None:
    packaged, checkout = tmp_path / "packaged", tmp_path / "checkout"
    for folder, value in ((packaged, 1), (checkout, 2)):
        folder.mkdir()
        pl.DataFrame({"value": [value]}).write_parquet(folder / "weather.parquet")

    both = datasets._load("weather", (packaged, checkout))
    (packaged / "weather.parquet").unlink()
    one = datasets._load("weather", (packaged, checkout))

    assert both["value"].to_list() == [1]
    assert one["value"].to_list() == [2]


def test_a_missing_file_says_where_it_was_sought_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"build\.py") as caught:
        datasets._load("weather", (tmp_path,))

    assert str(tmp_path) in str(caught.value)
    assert "weather.parquet" in str(caught.value)
