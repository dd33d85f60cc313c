# %% [markdown]
# # Watching compaction
#
# A fleet of hosts reports for a day, some rows late, some corrected. Every hour makes a file; files pile up and are
# merged, window by window. We watch what is due, why, what it costs, and what it is good for. Run it with
# `python notebooks/watching_compaction.py`, or cell by cell; it needs `pip install ".[notebook]"`.

# %%
import shutil
from pathlib import Path

import polars as pl
from matplotlib import pyplot as plt

import mitoframe as mito
from mitoframe.tsbs import TAGS, TIME, tsbs_cpu

STORE = Path("demo-out") / "watching-compaction"

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
deliveries = list(tsbs_cpu(hosts=20, hours=24, interval="1m", late=0.05, corrected=0.05, batches=24))
keys = {key for rows in deliveries for key in pl.from_arrow(rows).select("hostname", TIME).iter_rows()}
print(f"{len(deliveries)} deliveries, {sum(rows.num_rows for rows in deliveries):,} rows of {len(keys):,} keys")

# %% [markdown]
# ## Files pile up
# Left alone, the store merges by itself while we look. Here it waits to be asked, so that every run looks the same.
# A window of six hours: files are merged with others of their window only.

# %%
db = mito.open(STORE, compaction_mode="manual")
for rows in deliveries[:12]:
    db.write(rows, "cpu", time=TIME, tags=list(TAGS), options={"compaction_window": "6h"})
    db["cpu"].flush()
cpu = db["cpu"]
print(cpu.windows().select("window_start", "files", "runs", "is_active", "merges"))

# %% [markdown]
# Late rows make files reach back into the hours before, so files overlap. Where they do, a scan has to merge them, and
# `runs` says how many at most. A window with enough of them is due; `compaction_plan` gives the reason.

# %%
plan = cpu.compaction_plan()
for row in plan.iter_rows(named=True):
    print(f"{row['window_start']:%H:%M}  {row['files']} files, merges to be done: {row['merges']}; {row['reason']}")
assert plan["merges"].sum() > 0, "something is due"
cpu.plot.windows()

# %% [markdown]
# ## A merge
# `dry_run` says what would be merged. Then it is: the newest version of each row goes to the next level.

# %%
print(cpu.compact(dry_run=True))
before, piled = cpu.files(), cpu.scan().collect()
print(cpu.compact())
after = cpu.files()
assert after.height < before.height
assert after["rows"].sum() < before["rows"].sum(), "older versions of rows are gone"
assert cpu.scan().collect().equals(piled), "and nobody who reads can tell"

# %% [markdown]
# The rest of the day, with a merge every six hours.

# %%
for number, rows in enumerate(deliveries[12:], start=13):
    cpu.write(rows)
    cpu.flush()
    if number % 6 == 0:
        print(f"after hour {number}: {cpu.compact()}")
assert cpu.scan().count() == len(keys)

# %% [markdown]
# ## Before and after
# Each window has one file now. It reaches back as far as its late rows do: a file belongs to the window of its newest.

# %%
print(f"{before.height} files before the first merge, {cpu.files().height} now for twice as many hours")
cpu.plot.timeline()

# %% [markdown]
# `strict` cuts at the windows, so that no two files overlap any more and a scan reads each as it is. That costs one
# more rewrite, so it is done by hand only.

# %%
print(cpu.compact(strict=True))
assert cpu.windows()["runs"].to_list() == [1] * 4
assert cpu.files()["rows"].sum() == len(keys), "of each row one version"
cpu.plot.timeline()

# %% [markdown]
# ## The film
# The same as it came about: a picture for each version of the table, from the eighth file to what the first merge left.

# %%
film = cpu.plot.movie(first=8, last=15, interval_ms=400)
film.save(STORE.parent / "compaction.gif", writer="pillow")
print(f"{(STORE.parent / 'compaction.gif').stat().st_size:,} bytes")

# %% [markdown]
# ## What happened
# `history` has every flush, merge and clean-up since the table was made. It is kept in the store.

# %%
history = cpu.history()
done = history.group_by("what", maintain_order=True).agg(
    pl.len().alias("times"), pl.col("rows_in", "rows_out", "bytes_out").sum()
)
print(done)
assert dict(done.select("what", "times").iter_rows())["flush"] == len(deliveries)

# %%
figure, (jobs, cost) = plt.subplots(2, 1, figsize=(11, 8), layout="constrained")
cpu.plot.compactions(ax=jobs)
cpu.plot.amplification(ax=cost)
plt.show()

# %% [markdown]
# ## What it costs
# Write amplification: bytes written for each byte that was flushed. That is the price of few files: a later trigger
# makes it lower, and reading dearer. `tuning.py` plays that through.

# %%
flushed = history.filter(pl.col("what") == "flush")["bytes_out"].sum()
merged = history.filter(pl.col("what") == "compact")["bytes_out"].sum()
print(f"{flushed:,} bytes flushed, {merged:,} written by merges: {(flushed + merged) / flushed:.2f} times in all")
assert 1 < (flushed + merged) / flushed < 4

# %% [markdown]
# ## What is left behind
# Files that were merged stay for an hour (`gc_grace_ms`), because somebody may still read them or go back. `vacuum`
# deletes them now.

# %%
print(cpu.vacuum(older_than="0s"))
assert cpu.scan().count() == len(keys)
db.close()
