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

# %% [markdown]
# ## Who holds what
# A correction is merged with what it corrects, and nobody needs the files of before any more. But a lazy frame here has
# not been collected yet, and another process has one too: each of the version that there is now, and holds it.

# %%
READER = """
import sys
import mitoframe as mito

frame = mito.open(sys.argv[1], mode="r")["weather"].scan(as_of=int(sys.argv[2])).to_polars()
print("holds", flush=True)
sys.stdin.readline()
print(frame.collect()["temp"].sum())
"""
table = db["weather"]
table.flush()
table.compact()
table.vacuum("0s")
before = table.versions()["version"][-1]
held = table.scan(as_of=before).to_polars()
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
holder = subprocess.Popen([sys.executable, "-c", READER, str(STORE), str(before)], **pipes, text=True)
assert holder.stdout.readline() == "holds\n"
table.write(weather.with_columns(temp=(pl.col("temp") - 32) / 1.8))
table.flush()
table.compact()

# %% [markdown]
# `vacuum` deletes what nobody needs; with `dry_run` it says what it would do, and for whom the rest stays.

# %%
told = table.vacuum("0s", dry_run=True)
print(told)
assert told.readers == (holder.pid,)
assert {file.why for file in told.kept} == {"scan", "reader"}

# %% [markdown]
# The other process collects its frame and ends. Our own is held still, and can be read after a vacuum.

# %%
theirs, _ = holder.communicate("\n")
told = table.vacuum("0s")
print(told)
assert {file.why for file in told.kept} == {"scan"}
assert held.collect()["temp"].sum() == float(theirs) > table.scan().collect()["temp"].sum()

# %% [markdown]
# Let go, and the files can go. Whoever asks for that moment from now on is told, and not given something else.

# %%
del held
print(table.vacuum("0s"))
assert table.vacuum(dry_run=True).kept == ()
try:
    table.scan(as_of=before)
    expired = None
except mito.SnapshotExpiredError as error:
    expired = error
print(expired)
assert expired is not None
db.close()
