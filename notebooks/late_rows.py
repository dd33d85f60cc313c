# %% [markdown]
# # A day of late and corrected rows
#
# On 8 March 2013 it snowed in New York. We play the day as a store would have seen it: flights are reported every few
# hours, LaGuardia's reports of the early afternoon come at night, and one airline has sent its delays in the wrong unit
# and sends them again. In the end the store has the day as it was. Run it with `python notebooks/late_rows.py`, or cell
# by cell; it needs `pip install ".[notebook]"`.

# %%
import datetime as dt
import shutil
from pathlib import Path

import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_flights

STORE = Path("demo-out") / "late-rows"
KEY = ["carrier", "origin", "dest", "tailnum"]

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
day = load_flights().filter(pl.col("scheduled_departure").dt.date() == dt.date(2013, 3, 8))
hour = pl.col("scheduled_departure").dt.hour()
stuck = (pl.col("origin") == "LGA") & hour.is_between(12, 15)
wrong = pl.col("carrier") == "EV"

# %% [markdown]
# ## The day as it is reported
# A batch every four hours, each flushed to a file, so that we can see them; the merging of files waits until we ask.
# ExpressJet (EV) reports seconds instead of minutes.

# %%
db = mito.open(STORE, compaction_mode="manual", row_group_rows=200)
in_seconds = pl.when(wrong).then(pl.col("dep_delay") * 60).otherwise(pl.col("dep_delay")).alias("dep_delay")
for begin in range(4, 24, 4):
    batch = day.filter(hour.is_between(begin, begin + 3), ~stuck).with_columns(in_seconds)
    written = db.write(batch, "flights", time="scheduled_departure", tags=KEY, options={"compaction_window": "7d"})
    print(f"{begin:>2} o'clock:", written)
    db["flights"].flush()
flights = db["flights"]

# %% [markdown]
# ## Something is missing
# `coverage` knows from metadata alone which times are covered, here for each airport. LaGuardia has a gap.

# %%
flights.plot.coverage(by="origin")

# %%
covered = flights.coverage(by="origin").filter(pl.col("value") == "LGA").sort("min_time")
print(covered.select("value", "min_time", "max_time", "rows", "is_late"))
assert flights.scan(where=stuck).count() == 0

# %% [markdown]
# ## Late rows
# At night they come. `explain_write` says what a write would do, before it is done: all of these rows are older than
# the newest in the table, and none replaces one.

# %%
late = day.filter(stuck)
told = flights.explain_write(late)
print(told)
assert (told.late, told.replaced) == (late.height, 0)
flights.write(late)
flights.flush()

# %% [markdown]
# A late row is a row like any other: who asks for the afternoon finds it at its place. The picture marks the file that
# came late.

# %%
assert flights.coverage()["is_late"].sum() == 1
assert flights.scan(where=stuck).count() == late.height
flights.plot.coverage()

# %% [markdown]
# ## Corrected rows
# The mean delay of ExpressJet looks wrong, and is. The airline sends its flights once more. The rows have the tags and
# times of rows that are there, so they replace them.

# %%
print(
    flights.scan().to_polars().group_by("carrier").agg(pl.col("dep_delay").mean()).sort("dep_delay").tail(3).collect()
)
corrected = day.filter(wrong)
told = flights.explain_write(corrected)
print(told)
assert told.replaced == corrected.height
correction = flights.write(corrected)

# %% [markdown]
# `why` tells where a row comes from: the correction is in memory still, above the file with the row that it hides.

# %%
worst = corrected.sort("dep_delay", nulls_last=True).filter(pl.col("dep_delay") > 0).row(-1, named=True)
story = flights.why(worst).to_polars()
print(story.select("sequence", "fate", "level", "dep_delay"))
assert story["dep_delay"].to_list() == [worst["dep_delay"], worst["dep_delay"] * 60]

# %% [markdown]
# The cell above that wrote the correction may be run again: the same rows replace themselves. And it may be taken back.

# %%
again = flights.write(corrected)
assert flights.scan().count() == day.height
print(again.undo())

# %% [markdown]
# ## The day as it was
# A compaction keeps of each row the newest version. What is read is the same before and after.

# %%
before = flights.scan().collect()
flights.flush()
print(flights.compact())
after = flights.scan().collect()
assert before.equals(after)
assert after.sort("scheduled_departure", *KEY).equals(day.select(after.columns).sort("scheduled_departure", *KEY))
print(f"{after.height} flights, {after['dep_delay'].null_count()} of which never left: as the airports had them")
assert flights.files()["rows"].sum() == day.height, "older versions are gone"
flights.plot.timeline()

# %%
db.close()
