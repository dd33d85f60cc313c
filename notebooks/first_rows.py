# %% [markdown]
# # First rows
#
# A folder, a frame, a question: the weather of New York City's airports goes into a store and comes out again. Run it
# with `python notebooks/first_rows.py`, or cell by cell; it needs `pip install ".[notebook]"`.

# %%
import shutil
from pathlib import Path

import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_weather

STORE = Path("demo-out") / "first-rows"

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
weather = load_weather()
in_summer = pl.col("time_hour").dt.month() > 6

# %% [markdown]
# ## Rows in
# A store is a folder; it is made if it is not there. The first write makes the table: it says which column is the time
# and which are tags. Rows with the same tags and time are versions of one row, here a report of one airport's hour.

# %%
db = mito.open(STORE)
print(weather.filter(~in_summer).to_mito("weather", time="time_hour", tags=["origin"]))

# %% [markdown]
# Later writes need the name only. They take pandas just as well, and anything that speaks Arrow. When `to_mito`
# returns, the rows are on the disk, in a log; nothing has to be closed or saved for that.

# %%
print(weather.filter(in_summer).to_pandas().to_mito("weather"))
print(db.tables())

# %% [markdown]
# ## The same rows again
# A file that is loaded twice is the usual accident. Here it changes nothing: the newest version of a row counts.

# %%
july = weather.filter(pl.col("time_hour").dt.month() == 7)
july.to_mito("weather")
table = db["weather"]
print(f"{weather.height + july.height:,} rows were written; the table has {table.scan().count():,}")
assert table.scan().count() == weather.height

# %% [markdown]
# ## A question
# `to_polars()` is a LazyFrame: nothing is read until `collect()`, and then only what the conditions leave. `explain()`
# says what that is.

# %%
table.flush()
scan = table.scan(start="2013-07-01", end="2013-08-01")
hot = scan.to_polars().filter(pl.col("temp") > 95).group_by("origin").agg(pl.len().alias("hours"), pl.col("temp").max())
found = hot.sort("origin").collect()
print("Hours above 95 degrees in July")
print(found)
print(scan.explain())
by_hand = july.filter(pl.col("temp") > 95).group_by("origin").agg(pl.len().alias("hours"), pl.col("temp").max())
assert found.equals(by_hand.sort("origin")), "what Polars finds in the frame itself"

# %% [markdown]
# The same rows as pandas, as Arrow, or by a verb for time series:

# %%
print(scan.to_pandas(index="time_hour")[["origin", "temp"]].head(3))
print(table.scan(columns=["origin", "time_hour", "temp"]).last())
print(table.scan().resample("1mo", {"temp": ["min", "max"]}, by=["origin"]).head(3))

# %% [markdown]
# ## What is in the folder
# Plain Parquet, sorted by tags and time. Each bar is a file: what it holds, and from when to when.

# %%
print(table.files().select("level", "min_time", "max_time", "rows", "size_bytes"))
table.plot.timeline()

# %% [markdown]
# ## Tomorrow
# Close the store, open it again: all is there. pandas says of a number that is missing that it is not a number, and so
# it was written; otherwise the rows are what they were.

# %%
db.close()
with mito.open(STORE, mode="r") as again:
    rows = again.scan("weather").collect()
assert rows.fill_nan(None).sort("time_hour", "origin").equals(weather.select(rows.columns).sort("time_hour", "origin"))
print(f"{rows.height:,} rows")
