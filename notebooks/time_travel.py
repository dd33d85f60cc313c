# %% [markdown]
# # Time travel and undo
#
# The weather of 2013 has a wind of 1048 miles per hour in it. We correct that, make a mistake while we are at it, find
# out what we did, and go back. Run it with `python notebooks/time_travel.py`, or cell by cell.

# %%
import shutil
from pathlib import Path

import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_weather

STORE = Path("demo-out") / "time-travel"

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
db = mito.open(STORE)
db.write(load_weather(), "weather", time="time_hour", tags=["origin"])
weather = db["weather"]
weather.flush()

# %% [markdown]
# ## A name for what there is now
# Nothing is copied. Files that are replaced later stay for as long as the snapshot has its name.

# %%
print(weather.snapshot("as delivered"))

# %% [markdown]
# ## A correction
# Same tags and time: the row is replaced. `diff` shows what changed, `why` where a row comes from.

# %%
hurricane = weather.scan(where=pl.col("wind_speed") > 200).collect()
weather.write(hurricane.with_columns(wind_speed=pl.lit(None, pl.Float64)))
print("\n1. What the correction changed")
print(weather.diff("as delivered").select("origin", "time_hour", "wind_speed", "__change").collect())

# %%
print("\n2. Why the row is as it is")
story = weather.why(hurricane.row(0, named=True)).to_polars()
print(story.select("sequence", "fate", "by_sequence", "level", "row", "wind_speed"))
assert story["fate"].to_list() == ["visible", "shadowed"]

# %% [markdown]
# ## A slip
# The temperatures should be in Celsius in our frame, not in the store. It is written anyway; every row has other values
# now. The write is known by its result, so it can be taken back, and only it.

# %%
corrected = weather.sequence
celsius = weather.scan().collect().with_columns(temp=(pl.col("temp") - 32) / 1.8)
slip = weather.write(celsius)
print("\n3. A slip, and what it did to New Year's morning")
changes = weather.diff(mito.AtSequence(corrected))
morning = changes.filter(pl.col("time_hour").dt.date() == pl.date(2013, 1, 1), pl.col("origin") == "JFK")
print(morning.select("time_hour", "temp", "__change").head(4).collect())
print(slip.undo())
assert changes.collect().height > 50_000, "a frame of two moments does not change"
assert weather.diff(mito.AtSequence(corrected)).collect().is_empty(), "as if it had never been written"

# %% [markdown]
# ## Only what is new
# Rows have numbers that rise with each write. Whoever remembers the last one reads on from there. The undo wrote the
# old values once more, so that such a reader learns of them.

# %%
news = weather.scan(since=mito.AtSequence(corrected))
print(f"\n4. {news.count():,} rows were written since the correction; the table has {weather.scan().count():,}")

# %% [markdown]
# ## A worse slip
# No result was kept of this one. The table goes back to a moment: a version, a time, a sequence or a name.

# %%
weather.delete(where=pl.col("origin") != "JFK")
print(f"\n5. {weather.scan().count():,} rows are left; as delivered it had", end=" ")
print(f"{weather.scan(as_of='as delivered').count():,}")
print(weather.restore(mito.AtSequence(corrected)))
print(f"{weather.scan().count():,} rows, the correction among them:", end=" ")
print(weather.scan(where=pl.col("wind_speed") > 200).count(), "above 200 miles per hour")
assert weather.diff(mito.AtSequence(corrected)).collect().is_empty()

# %% [markdown]
# ## What can be read
# Restoring is one more version, so that it can be taken back too. Moments without a name are kept for `gc_grace_ms`, an
# hour unless you say otherwise.

# %%
versions = weather.versions()
print(versions)
assert weather.scan(as_of=versions["version"][-2]).count() < weather.scan().count(), "the slip can still be read"

# %%
weather.drop_snapshot("as delivered")
print(weather.vacuum())
db.close()
