# %% [markdown]
# # A year of flights
#
# Every day the schedule of flights out of New York City arrives; a day later the same flights arrive again, with their
# delays filled in. That is an upsert: same tags and time, new values. Run it with `make demo`, or cell by cell.

# %%
import shutil
import time
from pathlib import Path

import matplotlib as mpl
import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_flights, load_weather

mpl.use("Agg")
from matplotlib import pyplot as plt

OUT = Path("demo-out")
KEY = ["carrier", "origin", "dest", "tailnum"]
KNOWN_LATER = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]

shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()
flights = load_flights().with_columns(pl.col("scheduled_departure").dt.date().alias("day"))
days = flights.partition_by("day", maintain_order=True)

# %% [markdown]
# ## Rows in
# One batch a day: today's flights with what is known in the morning, and yesterday's once more with their delays.
# Each write is in the log before it returns; a flush turns it into a Parquet file.

# %%
# Automatic compaction would merge files as we go; here it waits, so that there is something to see. A week of flights
# is little data: smaller row groups let a query skip parts of a file.
db = mito.open(OUT / "plant", compaction_mode="manual", row_group_rows=1_000)
print(db.write(load_weather(), "weather", time="time_hour", tags=["origin"]))

started = time.perf_counter()
table = db.create_table(
    "flights",
    flights.drop("day").schema,
    time="scheduled_departure",
    tags=KEY,
    options={"compaction_window": "7d"},
)
yesterday = None
for today in days:
    morning = today.with_columns(pl.lit(None).cast(pl.Int32).alias(name) for name in KNOWN_LATER)
    batch = morning if yesterday is None else pl.concat([yesterday, morning])
    batch.drop("day").to_mito("flights")
    table.flush()
    yesterday = today
table.write(yesterday.drop("day"))
table.flush()
seconds = time.perf_counter() - started
written = table.files()["rows"].sum()
print(f"{len(days)} daily batches in {seconds:.1f} s: {written:,} rows written for {flights.height:,} flights")
print(table)

# %% [markdown]
# ## Compaction
# Files of one week that overlap become one.

# %%
figure, (above, below) = plt.subplots(2, 1, figsize=(11, 7), sharex=True, layout="constrained")
table.plot.timeline(ax=above)
above.set_title(f"before: {table.files().height} files", loc="left")
print(table.compact())
table.plot.timeline(ax=below)
below.set_title(f"after: {table.files().height} files", loc="left")
figure.savefig(OUT / "timeline.png", dpi=120)
print(f"picture: {OUT / 'timeline.png'}")
assert table.scan().count() == flights.height, "each flight is there once"

# %% [markdown]
# ## Three lazy queries
# `explain()` says what a query will not read, and which condition rules it out. More of that is in `ask.py`.

# %%
united_in_july = table.scan(where=pl.col("carrier") == "UA", start="2013-07-04", end="2013-07-05")
print("\n1. United on the fourth of July, delays by hour")
print(united_in_july.explain())
print(
    united_in_july.to_polars()
    .group_by(pl.col("scheduled_departure").dt.hour().alias("hour"))
    .agg(pl.len().alias("flights"), pl.col("dep_delay").mean().round(1))
    .sort("hour")
    .head(5)
    .collect()
)

# %%
december = table.scan(start="2013-12-01", columns=["carrier", "arr_delay"])
print("\n2. Who was late in December")
print(december.explain())
print(
    december.to_polars()
    .group_by("carrier")
    .agg(pl.col("arr_delay").mean().round(1), pl.len().alias("flights"))
    .sort("arr_delay", descending=True)
    .head(5)
    .collect()
)

# %%
storms = table.scan(start="2013-03-07", end="2013-03-10")
print("\n3. Delays against the wind of that hour, in the storm of March")
print(storms.explain())
wind = db.scan("weather", columns=["origin", "time_hour", "wind_speed"]).to_polars()
print(
    storms.to_polars()
    .join(wind, on=["origin", "time_hour"])
    .group_by((pl.col("wind_speed") // 10 * 10).alias("wind_mph"))
    .agg(pl.col("dep_delay").mean().round(1), pl.len().alias("flights"))
    .sort("wind_mph")
    .collect()
)

# %%
db.close()
print(f"\nthe store is {OUT / 'plant'}: plain Parquet under regions/*/sst, readable by anything")
