# %% [markdown]
# # See the store
#
# Three months of flights arrive day by day, each day with the corrections of the day before. `table.inspect()` shows
# what the store made of them: which files there are, how they came to be, and what other options would have done. Run
# it cell by cell: VS Code opens it as it is, for JupyterLab jupytext makes a notebook of it (README says how).
# `python notebooks/inspecting.py` does all but show the widget, and leaves its picture in `demo-out/inspect.html`.

# %%
import shutil
from pathlib import Path

import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_flights

STORE = Path("demo-out") / "inspecting"
DAYS = 90

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
flights = load_flights().with_columns(pl.col("scheduled_departure").dt.date().alias("day"))
days = flights.partition_by("day", maintain_order=True)[:DAYS]

# %% [markdown]
# ## Days come in
# One batch a day: today's flights, and yesterday's once more. A batch is in the log when the write returns; a flush
# makes a Parquet file of it. Once a week the files of a window that overlap are merged: by hand here, so that every run
# of this notebook looks the same. Left alone the store does it by itself.

# %%
db = mito.open(STORE, compaction_mode="manual", row_group_rows=1_000)
table = db.create_table(
    "flights",
    flights.drop("day").schema,
    time="scheduled_departure",
    tags=["carrier", "origin", "dest", "tailnum"],
    options={"compaction_window": "7d"},
)
yesterday = None
for number, today in enumerate(days):
    batch = today if yesterday is None else pl.concat([yesterday, today])
    table.write(batch.drop("day"))
    if number < DAYS - 1:
        table.flush()
    if number % 7 == 6 and number < DAYS - 7:
        table.compact()
    yesterday = today
print(table)

# %% [markdown]
# ## Look
# Files lie over the time that they hold, the newest level on top; files of one level that overlap lie below each other,
# and a scan has to merge them. Orange windows are due to be merged.
#
# * Click a file, or reach it with the arrow keys and press Enter: its row groups, encodings, statistics, key range.
# * Drag the slider below, or press space: files come and go as they did.
# * Move the sliders under *What if*: what would be merged next is marked above, and the curves replay this table's own
#   flushes under those options.
# * Plus and minus zoom, dragging moves, 0 shows all.

# %%
widget = table.inspect()
widget

# %% [markdown]
# ## The same as data
# Whatever is shown is a frame. The picture of the widget is HTML that needs no kernel, for a page or a mail.

# %%
plan = table.compaction_plan()
print(plan.filter(pl.col("merges") > 0).select("window_start", "files", "runs", "merges", "reason"))
assert plan["merges"].sum() > 0, "the last weeks are due"

# %%
picture = widget.to_html()
(STORE.parent / "inspect.html").write_text(picture, encoding="utf-8")
print(f"{len(picture):,} characters of HTML for {table.files().height} files")

# %% [markdown]
# ## The same as a film
# What the slider shows, as a file to send to somebody: here the last two weeks. `film.to_jshtml()` plays it in a page.

# %%
film = table.plot.movie(first=94, interval_ms=250)
film.save(STORE.parent / "inspect.gif", writer="pillow")
print(f"{(STORE.parent / 'inspect.gif').stat().st_size:,} bytes of film")
