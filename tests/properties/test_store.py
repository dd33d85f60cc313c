"""A store against a dictionary: any sequence of writes, overwrites, flushes, compactions, reopenings and scans."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import mitoframe as mito

START = datetime(2024, 1, 1)
SCHEMA = {"host": pl.String, "rack": pl.Int64, "ts": pl.Datetime("us"), "load": pl.Float64, "note": pl.String}
Key = tuple[str | None, int | None, datetime]
Fields = tuple[float | None, str | None]

hosts = st.sampled_from([None, "", "a", "b", "ß", "a b"])
racks = st.sampled_from([None, 0, 1, -5])
# Few minutes, so that keys meet again; some far away, so that files also stand alone.
minutes = st.integers(0, 6) | st.integers(0, 6).map(lambda m: m + 10_000)
loads = st.none() | st.sampled_from([0.0, 1.5, -2.0, float("inf"), 100.0])
notes = st.none() | st.sampled_from(["", "x", "yy"])
rows = st.lists(st.tuples(hosts, racks, minutes, loads, notes), min_size=1, max_size=12)

comparisons = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> pl.Expr:
    """Draw a filter over tags, time and fields, with and, or and not."""
    kind = draw(st.sampled_from(["host", "hosts", "rack", "ts", "day", "load", "null", "text", "and", "or", "not"]))
    if depth == 0 or kind not in ("and", "or", "not"):
        return draw(_leaf(kind))
    left = draw(conditions(depth=depth - 1))
    if kind == "not":
        return ~left
    right = draw(conditions(depth=depth - 1))
    return left & right if kind == "and" else left | right


def _leaf(kind: str) -> st.SearchStrategy[pl.Expr]:
    compare = {
        "==": pl.Expr.eq, "!=": pl.Expr.ne, "<": pl.Expr.lt, "<=": pl.Expr.le, ">": pl.Expr.gt, ">=": pl.Expr.ge,
    }  # fmt: skip
    leaves: dict[str, st.SearchStrategy[pl.Expr]] = {
        "host": st.sampled_from(["a", "b", "zz"]).map(lambda host: pl.col("host") == host),
        "hosts": st.lists(st.sampled_from(["a", "b", ""])).map(lambda some: pl.col("host").is_in(some)),
        "rack": st.builds(lambda op, rack: compare[op](pl.col("rack"), rack), comparisons, st.integers(-6, 2)),
        "ts": st.builds(lambda op, m: compare[op](pl.col("ts"), START + timedelta(minutes=m)), comparisons, minutes),
        "day": st.just(pl.col("ts").dt.date() == START.date()),
        "load": st.builds(lambda op, x: compare[op](pl.col("load"), x), comparisons, st.sampled_from([0.0, 1.5, 99.0])),
        "null": st.sampled_from(["host", "rack", "load", "note"]).map(lambda name: pl.col(name).is_null()),
        "text": st.just(pl.col("note").str.starts_with("y")),
    }
    return leaves.get(kind, st.just(pl.col("load").is_not_null()))


class StoreMachine(RuleBasedStateMachine):
    """The model is a dictionary from key to fields; the store must agree with it after every step."""

    @initialize(
        options=st.sampled_from([{}, {"row_group_rows": 3, "checkpoint_distance": 2, "wal_segment_size_bytes": 5_000}])
    )
    def open_store(self, options: dict[str, Any]) -> None:
        self.folder = tempfile.mkdtemp()
        self.options = options | {"gc_grace_ms": 0, "compaction_trigger_files": 3}
        self.db = mito.open(self.folder, **self.options)
        self.table = self.db.create_table("cpu", SCHEMA, time="ts", tags=["host", "rack"])
        self.model: dict[Key, Fields] = {}

    def teardown(self) -> None:
        self.db.close()
        shutil.rmtree(self.folder)

    @rule(new=rows, library=st.sampled_from(["polars", "pandas", "lazy"]))
    def write(self, new: list[tuple[Any, ...]], library: str) -> None:
        frame = pl.DataFrame(
            [(host, rack, START + timedelta(minutes=m), load, note) for host, rack, m, load, note in new],
            schema=SCHEMA,
            orient="row",
        )

        result = self.table.write(_as(library, frame))

        assert result.rows == len(new)
        for host, rack, time, load, note in frame.iter_rows():
            self.model[host, rack, time] = (load, note)

    @rule()
    def flush(self) -> None:
        self.table.flush()

    @rule()
    def compact(self) -> None:
        self.table.compact()

    @rule()
    def vacuum(self) -> None:
        self.table.vacuum()

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.db = mito.open(self.folder, **self.options)
        self.table = self.db["cpu"]

    @precondition(lambda self: self.model)
    @rule(
        condition=conditions(),
        columns=st.permutations(list(SCHEMA)).flatmap(lambda p: st.integers(1, len(p)).map(lambda n: p[:n])),
        engine=st.sampled_from(["in-memory", "streaming"]),
    )
    def scan(self, condition: pl.Expr, columns: list[str], engine: str) -> None:
        expected = self.truth().filter(condition).select(columns)

        found = self.table.scan().to_polars().filter(condition).select(columns).collect(engine=engine)

        _assert_same_rows(found, expected)

    @precondition(lambda self: self.model)
    @rule(first=minutes, length=st.integers(0, 20_000), condition=conditions())
    def scan_of_a_range(self, first: int, length: int, condition: pl.Expr) -> None:
        start, end = START + timedelta(minutes=first), START + timedelta(minutes=first + length)
        expected = self.truth().filter(pl.col("ts") >= start, pl.col("ts") < end, condition)

        scan = self.table.scan(start=start, end=end, where=condition)

        _assert_same_rows(scan.collect(), expected)
        assert scan.count() == expected.height

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if hasattr(self, "table"):
            _assert_same_rows(self.table.scan().collect(), self.truth())
            assert self.table.scan().count() == len(self.model)

    def truth(self) -> pl.DataFrame:
        return pl.DataFrame([(*key, *fields) for key, fields in self.model.items()], schema=SCHEMA, orient="row")


def _as(library: str, frame: pl.DataFrame) -> pl.DataFrame | pl.LazyFrame | pd.DataFrame:
    if library == "pandas":
        return frame.to_pandas(use_pyarrow_extension_array=True)
    return frame.lazy() if library == "lazy" else frame


def _assert_same_rows(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.schema == expected.select(found.columns).schema
    order = found.columns
    left, right = (frame.select(order).sort(order, nulls_last=False) for frame in (found, expected))
    assert left.equals(right), f"found {left}\nexpected {right}"


NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
StoreMachine.TestCase.settings = settings(
    max_examples=2_000 if NIGHTLY else 40,
    stateful_step_count=60 if NIGHTLY else 30,
    deadline=None,
    derandomize=not NIGHTLY,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestStore = StoreMachine.TestCase
