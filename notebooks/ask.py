# %% [markdown]
# # Asking
#
# A year of flights and the weather of their airports, asked in six ways: lazily with Polars, for the last rows, for
# averages per week, for what the weather was at that moment, in SQL, and by a field with an index. Each time the store
# can say what it need not read. Run it with `python notebooks/ask.py`, or cell by cell; it needs
# `pip install ".[notebook,duckdb]"`.

# %%
import shutil
from pathlib import Path

import matplotlib as mpl
import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_flights, load_weather

mpl.use("Agg")
from matplotlib import pyplot as plt

OUT = Path("demo-out")
STORE = OUT / "ask"

shutil.rmtree(STORE, ignore_errors=True)
OUT.mkdir(exist_ok=True)
# A year of flights is little data: smaller row groups let a query skip parts of a file.
db = mito.open(STORE, row_group_rows=2_000)
db.write(load_weather(), "weather", time="time_hour", tags=["origin"])
db.write(load_flights(), "flights", time="scheduled_departure", tags=["carrier", "origin", "dest", "tailnum"])
flights, weather = db["flights"], db["weather"]
flights.flush()
print(flights)

# %% [markdown]
# ## Lazily, with a receipt
# `to_polars()` is a LazyFrame. What is set on it afterwards is pushed down just as what `scan` was given. `explain()`
# says what would be read and which condition rules out what; after a run, `report` says what was read. The second run
# finds the columns decoded in memory.

# %%
late = flights.scan(where=pl.col("carrier").is_in(["UA", "VX"]), start="2013-07-04", end="2013-07-06")
print("\n1. United and Virgin around the fourth of July")
print(late.explain())
frame = late.to_polars().filter(pl.col("dep_delay") > 60).select("carrier", "dest", "dep_delay")
print(frame.sort("dep_delay", descending=True).head(3).collect())

# %%
for turn in ("first", "second"):
    late.collect()
    read = late.report.run
    print(f"{turn} run: {read.bytes_read:,} bytes read, {read.chunks_kept} columns found in memory")
assert read.bytes_read == 0, "all of it was kept"

# %% [markdown]
# A condition on the date says nothing about the time that Parquet's statistics could use. The store works out the range
# that follows from it, with the days of 23 and 25 hours of the column's zone.

# %%
by_date = flights.scan(where=pl.col("scheduled_departure").dt.date() == pl.date(2013, 3, 10))
print("\n2. The day on which summer time began")
print("\n".join(str(by_date.explain()).split("\n")[:3]))

# %% [markdown]
# ## The last row of each series
# Rows of a series lie together and in order, so the last ones are found without reading the others.

# %%
aircraft = flights.scan(where=pl.col("tailnum").str.starts_with("N90"))
seen = aircraft.last(by=["tailnum"])
print(f"\n3. Where {seen.height} aircraft were last seen")
print(seen.select("tailnum", "scheduled_departure", "origin", "dest").head(4))
by_hand = aircraft.to_polars().sort("scheduled_departure", *flights.tags).group_by("tailnum").tail(1)
assert seen.equals(by_hand.sort("tailnum").select(seen.columns).collect()), "the same as written by hand"

# %% [markdown]
# ## Aggregates per bucket of time
# `resample` goes by the clock of the column's zone: a week begins on a Monday in New York.

# %%
weeks = flights.scan().resample("1w", {"dep_delay": ["mean", "count"]}, by=["origin"])
print("\n4. Delays by airport and week")
print(weeks.head(4))
by_hand = (
    flights.scan()
    .to_polars()
    .group_by("origin", pl.col("scheduled_departure").dt.truncate("1w"))
    .agg(pl.col("dep_delay").count().alias("flown"))
    .sort("origin", "scheduled_departure")
    .collect()
)
assert weeks["dep_delay_count"].equals(by_hand["flown"], check_names=False), "the same as written by hand"

# %%
figure, axes = plt.subplots(figsize=(11, 4), layout="constrained")
for (origin,), rows in weeks.group_by("origin", maintain_order=True):
    axes.plot(rows["scheduled_departure"], rows["dep_delay_mean"], label=origin)
axes.set_ylabel("minutes")
axes.set_title("Delay of departures, mean of each week of 2013", loc="left")
axes.legend(frameon=False)
figure.savefig(OUT / "delays.png", dpi=120)
print(f"picture: {OUT / 'delays.png'}")

# %% [markdown]
# Hours are missing in the weather. `fill` puts a row where one should be, here on the line between its neighbours.

# %%
hours = weather.scan(where=pl.col("origin") == "JFK", start="2013-11-01", end="2013-11-04")
with_gaps, without = hours.resample("1h", {"temp": "mean"}), hours.resample("1h", {"temp": "mean"}, fill="linear")
print(f"\n5. JFK: {with_gaps.height} hours were reported, {without.height} there were (one of the days has 25)")

# %% [markdown]
# ## What was known at that moment
# `asof` joins to each row of a frame the one that was there at its time: the weather of the last report before takeoff.

# %%
storm = flights.scan(start="2013-03-07", end="2013-03-10", columns=["scheduled_departure", "origin", "dep_delay"])
wind = weather.scan(columns=["origin", "time_hour", "wind_speed"])
joined = wind.asof(storm, on="scheduled_departure", by=["origin"], tolerance="2h")
print("\n6. Delays against the wind, in the storm of March")
print(
    joined.group_by((pl.col("wind_speed") // 10 * 10).alias("wind_mph"))
    .agg(pl.col("dep_delay").mean().round(1), pl.len().alias("flights"))
    .sort("wind_mph")
)

# %% [markdown]
# ## In SQL
# Every table is there by its name. DuckDB reads the files by itself, those that the query's conditions leave. A time
# without a zone is one of DuckDB's session, not of the column: say the offset.

# %%
late_in_december = db.sql(
    """
    SELECT carrier, avg(arr_delay) AS arr_delay, count(*) AS flights
    FROM flights
    WHERE scheduled_departure >= '2013-12-01 00:00:00-05'
    GROUP BY carrier ORDER BY arr_delay DESC LIMIT 3
    """
)
print("\n7. Who was late in December, in SQL")
print(late_in_december.pl())
december = flights.scan(start="2013-12-01").resample("1y", {"arr_delay": ["mean", "count"]}, by=["carrier"])
latest = december.sort("arr_delay_mean", descending=True).head(3)
assert late_in_december.pl()["carrier"].equals(latest["carrier"]), "whoever is asked"

# %% [markdown]
# ## By a field
# Tags need no index: conditions on them are decided on the table of series. One on a field reads everything, unless the
# field has an index, which files get in the background, or now.

# %%
number = flights.scan(where=pl.col("flight") == 1545)
before = number.explain().rows[0]
flights.alter(indexes={"flight": ["inverted"]})
print("\n8. Flights 1545")
print(flights.build_index())
after = number.explain().rows[0]
print(f"{number.count()} flights; at most {before:,} rows looked at without the index, {after:,} with it")
assert after < before / 5

# %% [markdown]
# ## What it all left in memory
# One budget for everything that is kept, `cache_size_bytes`.

# %%
print()
print(db.caches().filter(pl.col("entries") > 0).select("kind", "entries", "size_bytes", "hits", "hit_rate"))
db.close()
