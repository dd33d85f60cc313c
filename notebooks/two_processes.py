# %% [markdown]
# # Two processes and a kill
#
# One process writes, another reads what it writes, and then the writer is killed in the middle of it. Nothing that it
# had been told is written is missing, and nothing is there by half. Run it with `python notebooks/two_processes.py`, or
# cell by cell.

# %%
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_weather

STORE = Path("demo-out") / "two-processes"

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
weather = load_weather()
days = weather.with_columns(pl.col("time_hour").dt.date().alias("day"))
reports = dict(days.group_by("day").len().iter_rows())

# %% [markdown]
# ## A writer
# It writes the weather of 2013 day by day, flushes each week, and prints a day's date when its `write` has returned,
# and not before: that is what it means to have been told.

# %%
WRITER = """
import sys, time
import polars as pl
import mitoframe as mito
from mitoframe.datasets import load_weather

db = mito.open(sys.argv[1])
weather = load_weather().with_columns(pl.col("time_hour").dt.date().alias("day"))
for number, rows in enumerate(weather.partition_by("day", maintain_order=True, include_key=False)):
    db.write(rows, "weather", time="time_hour", tags=["origin"])
    print(rows["time_hour"][0].date(), flush=True)
    if number % 7 == 6:
        db["weather"].flush()
    time.sleep(0.05)
"""
writer = subprocess.Popen([sys.executable, "-c", WRITER, str(STORE)], stdout=subprocess.PIPE, text=True)
told = [writer.stdout.readline().strip() for _ in range(10)]
print(f"the writer has written {told[0]} to {told[-1]}, and goes on")

# %% [markdown]
# ## A reader
# A second process that wants to write is told who has the store. One that reads is let in, takes no lock, and sees rows
# that are in no file yet.

# %%
try:
    mito.open(STORE)
    refused = None
except mito.StoreLockedError as error:
    refused = error
print(refused)
assert refused is not None
assert refused.pid == writer.pid

# %%
reader = mito.open(STORE, mode="r")
table = reader["weather"]
first = table.scan().count()
print(f"{first} rows, of which {table.stats()['memory_rows'].item()} are not in a file yet")
assert first >= sum(rows for day, rows in reports.items() if str(day) in told)

# %% [markdown]
# `tail(follow=True)` yields rows as they come. Break out of the loop to stop.

# %%
seen = 0
for rows in table.scan(columns=["time_hour", "origin", "temp"]).tail(3, follow=True, interval="20ms"):
    seen += rows.height
    print(f"{rows.height} rows, the newest of {rows['time_hour'].max():%d %B, %H:%M}")
    if seen > 3:
        break
assert seen > 3, "rows came while we looked"

# %% [markdown]
# Each scan sees what is there by then. One that is asked for a moment stays what it was.

# %%
moment = table.scan(as_of=mito.AtSequence(table.sequence))
there = moment.count()
while table.scan().count() == there:
    told.append(writer.stdout.readline().strip())
assert moment.count() == there
print(f"{there} rows there were, {table.scan().count()} there are by now")
reader.close()

# %% [markdown]
# ## The kill
# SIGKILL: no handler runs, nothing is closed. What was printed until then had been written.

# %%
writer.kill()
rest, _ = writer.communicate()
told += rest.split()
print(f"killed after {told[-1]}")

# %% [markdown]
# ## And again
# The lock went with the process, the store opens as if nothing had happened: what is in the log and in no file is read
# from there. Every day that was told is whole. At most one more is there, which had been written and not told yet.

# %%
db = mito.open(STORE)
found = db.scan("weather").to_polars().group_by(pl.col("time_hour").dt.date().alias("day")).len().collect()
counts = dict(found.iter_rows())
assert all(str(day) in told or len(told) == position for position, day in enumerate(sorted(counts)))
assert {str(day) for day in counts} >= set(told), "nothing that was told is missing"
assert all(rows == reports[day] for day, rows in counts.items()), "no day is there by half"
print(f"{len(told)} days were told, {len(counts)} are there, each whole")

# %% [markdown]
# The new writer goes on where the other stopped. Who does not know where that was writes all of it again: rows that are
# there are replaced by themselves.

# %%
db.write(weather, "weather")
rows = db.scan("weather").collect()
assert rows.sort("time_hour", "origin").equals(weather.select(rows.columns).sort("time_hour", "origin"))
print(f"{rows.height:,} rows: the year")
db.close()
