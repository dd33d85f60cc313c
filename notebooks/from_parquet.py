# %% [markdown]
# # From a folder of Parquet files to a store
#
# Twelve exports of a year's weather, with what such folders tend to have: a month that was exported twice, a column of
# another type in one file, one that is missing in another. We load them, ask, correct, and leave again with plain
# Parquet. Run it with `python notebooks/from_parquet.py`, or cell by cell; it needs `pip install ".[notebook]"`.

# %%
import shutil
from pathlib import Path

import polars as pl

import mitoframe as mito
from mitoframe.datasets import load_weather

OUT = Path("demo-out") / "from-parquet"
EXPORTS, STORE = OUT / "exports", OUT / "store"

shutil.rmtree(OUT, ignore_errors=True)
EXPORTS.mkdir(parents=True)
weather = load_weather()
month = pl.col("time_hour").dt.month()

# %% [markdown]
# ## The folder
# March was exported on its last day, and once more in April with a corrected pressure. In June the humidity came in
# whole numbers; in September the gusts were left out.

# %%
CORRECTED = (month == 3) & (pl.col("pressure") < 1000)
paths = []
for number in range(1, 13):
    export = weather.filter(month == number)
    if number == 3:
        export = export.with_columns(pl.when(CORRECTED).then(None).otherwise(pl.col("pressure")).alias("pressure"))
    if number == 6:
        export = export.with_columns(pl.col("humid").round().cast(pl.Int64))
    if number == 9:
        export = export.drop("wind_gust")
    paths.append(EXPORTS / f"weather-{number:02}.parquet")
    export.write_parquet(paths[-1])
paths.append(EXPORTS / "weather-03-again.parquet")
weather.filter(month == 3).write_parquet(paths[-1])
print(f"{len(paths)} files")

# %% [markdown]
# As it is, the folder cannot be asked: types differ, and March counts twice.

# %%
try:
    pl.scan_parquet(paths).select(pl.len(), pl.col("humid").mean()).collect()
except pl.exceptions.PolarsError as error:
    print(f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
else:
    raise AssertionError("the types differ")
rows_in_folder = sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in paths)
print(f"{rows_in_folder:,} rows, {weather.height:,} hours were reported")
assert rows_in_folder > weather.height

# %% [markdown]
# ## Loading
# File by file, in the order in which they were made. Each is a LazyFrame: a file larger than memory goes through just
# as well, straight into sorted files. The key makes it safe to run the cell again: a file that is in is left out.

# %%
db = mito.open(STORE)
for path in paths:
    result = db.write(pl.scan_parquet(path), "weather", time="time_hour", tags=["origin"], key=path.name)
table = db["weather"]
print(result)
print(db.write(pl.scan_parquet(paths[-1]), "weather", key=paths[-1].name))
print(table)

# %% [markdown]
# Each hour is there once, March as it was corrected; whole numbers became floats, and gusts that are missing are null.

# %%
loaded = table.scan().collect()
expected = weather.with_columns(
    pl.when(month == 6).then(pl.col("humid").round()).otherwise(pl.col("humid")).alias("humid"),
    pl.when(month == 9).then(None).otherwise(pl.col("wind_gust")).alias("wind_gust"),
).select(loaded.columns)
assert loaded.sort("time_hour", "origin").equals(expected.sort("time_hour", "origin"))
print(f"{loaded.height:,} rows of {rows_in_folder:,}")

# %% [markdown]
# ## What the folder could not do
# A correction is a write, a deletion is a line, and both can be taken back.

# %%
wind = pl.col("wind_speed") > 200
impossible = table.scan(where=wind).collect()
print(impossible.select("time_hour", "origin", "wind_speed"))
table.write(impossible.with_columns(wind_speed=pl.lit(None, pl.Float64)))
assert table.scan(where=wind).count() == 0

# %%
gone = table.delete(tags={"origin": "LGA"}, start="2013-12-01")
print(gone)
december = table.scan(start="2013-12-01").collect()
assert sorted(december["origin"].unique()) == ["EWR", "JFK"]
print(gone.undo())
assert table.scan().count() == weather.height

# %% [markdown]
# ## And back
# The store's files are Parquet. Merged, so that no two hold the same row, they can be read without mitoframe; `eject`
# says how.

# %%
table.flush()
table.compact(window="365d")
ejected = table.scan().eject()
print(ejected.code)
plain = ejected.to_polars().collect()
assert plain.sort("time_hour", "origin").equals(table.scan().collect().sort("time_hour", "origin"))
stored, exported = table.files()["size_bytes"].sum(), sum(path.stat().st_size for path in paths)
print(f"{exported:,} bytes were exported in {len(paths)} files, {stored:,} are stored in {table.files().height}")
table.plot.timeline()

# %%
db.close()
