# %% [markdown]
# # Inside a file
#
# An LSM engine calls its files sorted string tables, SSTs. Here each is plain Parquet that anything can read, with two
# columns more than you wrote and some notes in its footer. We open one without mitoframe. Run it with
# `python notebooks/inside_a_file.py`, or cell by cell; it needs `pip install ".[notebook]"`.

# %%
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

import mitoframe as mito
from mitoframe.datasets import load_flights

STORE = Path("demo-out") / "inside-a-file"
KEY = ["carrier", "origin", "dest", "tailnum"]

shutil.rmtree(STORE, ignore_errors=True)
STORE.parent.mkdir(exist_ok=True)
january = load_flights().filter(pl.col("scheduled_departure").dt.month() == 1)

# %% [markdown]
# ## One file
# A month of flights, flushed. Row groups are small here so that there are several; a table of any size has 102,400 rows
# in each. The field `flight` gets an index.

# %%
db = mito.open(STORE, row_group_rows=2_000)
db.write(january, "flights", time="scheduled_departure", tags=KEY, options={"compaction_window": "365d"})
flights = db["flights"]
flights.flush()
flights.alter(indexes={"flight": ["inverted"]})
print(flights.build_index())
files = flights.files()
print(files.select("file_id", "level", "rows", "series", "row_groups", "size_bytes", "min_sequence", "max_sequence"))
[path] = STORE.glob(f"regions/*/sst/{files['file_id'].item()}.parquet")
assert path.stat().st_size == files["size_bytes"].item()

# %% [markdown]
# ## The rows
# Sorted by tags, then time, so that the rows of a series lie together: that is why the last row of a series, or a
# series' hour, is found without reading the others. `__sequence` says when a row came; of two rows with the same key
# the higher one counts. `__op_type` is 1 for a row and 0 for the mark of a delete.

# %%
rows = pl.read_parquet(path)
print(rows.select(*KEY, "scheduled_departure", "__sequence", "__op_type").head(5))
tags_and_time = rows.select(*KEY, "scheduled_departure")
assert tags_and_time.equals(tags_and_time.sort(*KEY, "scheduled_departure", nulls_last=False))
assert rows["__sequence"].is_unique().all()

# %% [markdown]
# ## The footer
# What Parquet itself keeps: row groups with the least and greatest value of each column. The first tag splits them
# well, since it sorts first; the time does not within a file, but it tells files apart.

# %%
footer = pq.ParquetFile(path).metadata
names = footer.schema.to_arrow_schema().names


def bounds(group: int, name: str) -> str:
    statistics = footer.row_group(group).column(names.index(name)).statistics
    return f"{statistics.min} to {statistics.max}"


groups = pl.DataFrame(
    {
        "rows": [footer.row_group(group).num_rows for group in range(footer.num_row_groups)],
        "carrier": [bounds(group, "carrier") for group in range(footer.num_row_groups)],
        "flight": [bounds(group, "flight") for group in range(footer.num_row_groups)],
    }
)
print(groups)
assert groups["rows"].sum() == footer.num_rows == rows.height

# %% [markdown]
# ## What a column costs
# Tags are nearly free: sorted, and kept as numbers of a dictionary.

# %%
cost = pl.DataFrame(
    [
        {"column": name, "encodings": ", ".join(chunk.encodings), "size_bytes": chunk.total_compressed_size}
        for group in range(footer.num_row_groups)
        for name, chunk in zip(names, map(footer.row_group(group).column, range(footer.num_columns)), strict=True)
    ]
)
sizes = cost.group_by("column", maintain_order=True).agg(pl.col("encodings").first(), pl.col("size_bytes").sum())
print(sizes.sort("size_bytes", descending=True))
per_row = dict(sizes.select("column", pl.col("size_bytes") / rows.height).iter_rows())
print(f"a carrier takes {per_row['carrier']:.2f} bytes a row, a delay {per_row['dep_delay']:.2f}")
assert per_row["carrier"] < 0.1 * per_row["dep_delay"]

# %% [markdown]
# ## What mitoframe adds
# Between the last row group and the footer lies the table of series: each combination of tags, once, with the row where
# it begins. Readers that do not know of it step over it. Conditions on tags are decided there, exactly.

# %%
print(sorted(key.decode() for key in footer.metadata if not key.startswith(b"ARROW")))
scan = flights.scan(where=pl.col("tailnum") == "N14228", start="2013-01-01", end="2013-02-01")
print(scan.explain())
assert scan.explain().rows[0] == scan.count(), "only the rows of that aircraft are looked at"

# %% [markdown]
# An index lies beside the file, not in it. It is a hint of which rows may have a value, and is left out if damaged.

# %%
number = flights.scan(where=pl.col("flight") == 1545)
print(number.explain())
[index] = STORE.glob(f"regions/*/index/{files['file_id'].item()}.*.index")
print(f"the index of {rows.height:,} rows takes {index.stat().st_size:,} bytes")
assert number.explain().rows[0] < rows.height / 10
assert number.count() == rows.filter(pl.col("flight") == 1545).height

# %%
db.close()
