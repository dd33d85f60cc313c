# %% [markdown]
# # What if
#
# How long a window should be, and how many files should pile up before they are merged, depends on how rows come. A
# table knows how they came: `simulate` replays its own history of flushes under other options, in milliseconds, and
# touches nothing. We try some on sixty days of flights, choose, and see whether it was true. Run it with
# `python notebooks/tuning.py`, or cell by cell; it needs `pip install ".[notebook]"`.

# %%
import shutil
from itertools import pairwise
from pathlib import Path

import polars as pl
from matplotlib import pyplot as plt

import mitoframe as mito
from mitoframe.datasets import load_flights

OUT = Path("demo-out") / "tuning"
DAYS = 60

shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir(parents=True)
flights = load_flights().with_columns(pl.col("scheduled_departure").dt.date().alias("day"))
days = [rows.drop("day") for rows in flights.partition_by("day", maintain_order=True)[:DAYS]]
batches = [days[0], *(pl.concat(pair) for pair in pairwise(days))]

# %% [markdown]
# ## A history
# Each day brings its flights, and those of the day before once more with their delays. Nothing is merged here, whatever
# piles up: we only want to know how rows come.


# %%
def load(store: Path, options: dict[str, object]) -> mito.Database:
    db = mito.open(store, compaction_mode=options.pop("compaction_mode", "automatic"))
    for batch in batches:
        db.write(
            batch,
            "flights",
            time="scheduled_departure",
            tags=["carrier", "origin", "dest", "tailnum"],
            options=options,
        )
        db["flights"].flush()
        db.maintain()
    return db


piled = load(OUT / "as-it-is", {"compaction_mode": "manual", "compaction_window": "7d"})
table = piled["flights"]
print(table)

# %% [markdown]
# ## What the doctor says
# `db.doctor()` goes by the same figures, and says what to do: join the many small files, which it can do by itself; and
# think about the tail number, which makes nearly each flight a series of its own, which it cannot.

# %%
report = piled.doctor()
print(report)
assert [finding.kind for finding in report.findings] == ["tiny_files", "many_series"]
assert [finding.can_fix for finding in report.findings] == [True, False]

# %% [markdown]
# ## What if
# One replay for each choice. `written` is how often each byte was written, `files_max` how many files there were at
# most: the two pull in opposite directions.

# %%
choices = [
    {"compaction_window": window, "compaction_trigger_files": trigger}
    for window in ("7d", "14d", "30d")
    for trigger in (2, 4, 8)
]
results = [table.simulate(options) for options in choices]
told = pl.concat([result.summary for result in results])
print(
    told.select(
        pl.col("compaction_window").dt.total_days().alias("window_days"),
        pl.col("compaction_trigger_files").alias("trigger"),
        "merges",
        "files",
        pl.col("write_amplification").round(2).alias("written"),
        "files_max",
    )
)
weekly = told.filter(pl.col("compaction_window").dt.total_days() == 7).sort("compaction_trigger_files")
assert weekly["write_amplification"].is_sorted(descending=True), "a later trigger writes less"
assert weekly["files_max"].is_sorted(), "and lets more files pile up"

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for options, result in zip(choices, results, strict=True):
    if options["compaction_window"] == "7d":
        steps, label = result.steps, f"trigger {options['compaction_trigger_files']}"
        left.step(range(steps.height), steps["files"], label=label)
        right.step(range(steps.height), steps["write_amplification"], label=label)
left.set_title("files, step by step", loc="left")
right.set_title("bytes written for each that came", loc="left")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# What would be merged, and when, is a frame too.

# %%
eager = results[choices.index({"compaction_window": "7d", "compaction_trigger_files": 2})]
print(eager.tasks.select("window_start", "inputs", "outputs", "input_bytes", "reason").head(3))

# %% [markdown]
# ## Was it true
# The same days into a store that merges by itself, with the options that the replay was told.

# %%
chosen = load(OUT / "chosen", {"compaction_window": "7d", "compaction_trigger_files": 2})
real = chosen["flights"]
history = real.history()
flushed = history.filter(pl.col("what") == "flush")["bytes_out"].sum()
merged = history.filter(pl.col("what") == "compact")["bytes_out"].sum()
foretold, found = eager.summary["write_amplification"].item(), (flushed + merged) / flushed
merges = history.filter(pl.col("what") == "compact").height
print(f"{merges} merges, {eager.summary['merges'].item()} were foretold")
print(f"{real.files().height} files, {eager.summary['files'].item()} were foretold")
print(f"written {found:.2f} times, {foretold:.2f} times was foretold")
assert merges == eager.summary["merges"].item()
assert real.files().height == eager.summary["files"].item()
assert found < foretold

# %% [markdown]
# Merges and files are as foretold. Less was written, because here every flight comes twice: a merge keeps one of two
# rows, which a replay of files alone cannot know. What it says of bytes is rather too much, and right to compare
# choices.
#
# Where there is no history yet, `mitoframe.simulate` makes one up: so many series, every so often, so many rows late.

# %%
plan = [
    mito.simulate(series=1_000, interval="10s", late_share=share, options={"compaction_window": "2h"}).summary
    for share in (0.0, 0.05, 0.2)
]
both = pl.concat(plan).select("merges", "files", "runs_max", pl.col("write_amplification").round(2))
print(both)
assert both["write_amplification"].is_sorted(), "late rows cost"

# %% [markdown]
# ## And the other store
# What piled up there goes when the doctor may mend it.

# %%
print(report.fix())
print(table)
assert table.files().height < 20
piled.close()
chosen.close()
