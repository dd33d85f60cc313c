"""Queries in a process where Polars has one thread: whatever waits for what, none waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PATIENCE_SECONDS = 120

PROGRAM = """
import datetime as dt
import polars as pl
import mitoframe as mito
from mitoframe.read import shares

START = dt.datetime(2024, 1, 1)

def rows(first, last, load):
    minutes = list(range(first, last))
    return pl.DataFrame({
        "host": [f"h{minute % 7}" for minute in minutes],
        "ts": [START + dt.timedelta(minutes=minute) for minute in minutes],
        "load": [load + minute for minute in minutes],
    })

assert pl.thread_pool_size() == 1
db = mito.open("memory://", row_group_rows=50)
alone, first, second, third = rows(5000, 5400, 0.0), rows(0, 400, 0.0), rows(200, 600, 1000.0), rows(300, 310, 2000.0)
db.write(alone, "cpu", time="ts", tags=["host"])
cpu = db["cpu"]
cpu.flush()
for frame in (first, second):
    cpu.write(frame)
    cpu.flush()
cpu.write(third)
truth = pl.concat([alone, first, second, third]).unique(["host", "ts"], keep="last", maintain_order=True)
asked = pl.col("load") > 500
queries = {
    "everything": lambda lf: lf,
    "direct": lambda lf: lf.filter(pl.col("ts") >= START + dt.timedelta(minutes=5000)),
    "merged": lambda lf: lf.filter(pl.col("ts") < START + dt.timedelta(minutes=5000)),
    "few": lambda lf: lf.filter(pl.col("host") == "h3"),
    "field": lambda lf: lf.filter(asked),
    "group": lambda lf: lf.group_by("host").agg(pl.col("load").sum(), pl.len()),
    "self join": lambda lf: lf.join(lf.select("host", "ts", again="load"), on=["host", "ts"]),
    "join": lambda lf: lf.filter(asked).join(lf.filter(~asked).select("host", other="ts"), on="host"),
    "concat": lambda lf: pl.concat([lf.filter(asked), lf.filter(~asked), lf]),
    "sorted": lambda lf: lf.sort("load", "host", "ts", descending=True).head(11),
}
for few_rows in (shares.FEW_ROWS, 0):
    for share_rows in (shares.SHARE_ROWS, 60):
        shares.FEW_ROWS, shares.SHARE_ROWS = few_rows, share_rows
        lazy, again = cpu.scan().to_polars(), cpu.scan().to_polars()
        for engine in ("in-memory", "streaming"):
            for name, query in queries.items():
                found, expected = query(lazy).collect(engine=engine), query(truth.lazy()).collect()
                assert found.sort(found.columns).equals(expected.sort(expected.columns)), (name, engine, few_rows)
            assert lazy.head(7).collect(engine=engine).height == 7
            assert lazy.filter(asked).head(7).collect(engine=engine).height == 7
            both = pl.collect_all([lazy.select(pl.len()), again.filter(asked).select(pl.len())], engine=engine)
            assert [frame.item() for frame in both] == [truth.height, truth.filter(asked).height]
        for stop_after in (0, 1, 3):
            batches = lazy.filter(asked).collect_batches(chunk_size=5, lazy=True)
            for _, batch in zip(range(stop_after), batches):
                assert batch.filter(~asked).is_empty()
            del batches
        inner = [cpu.scan().count() for _ in lazy.collect_batches(chunk_size=200)]
        assert set(inner) == {truth.height}
db.close()
print("done")
"""


@pytest.mark.parametrize("polars_threads", [1])
def test_queries_of_every_kind_end_however_few_threads_polars_has(polars_threads: int) -> None:
    environment = os.environ | {"POLARS_MAX_THREADS": str(polars_threads)}

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (ended.stdout.strip(), ended.returncode) == ("done", 0), ended.stderr
