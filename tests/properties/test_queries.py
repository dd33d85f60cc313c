"""Queries against a table that goes on changing: every answer is compared with what Polars makes of a dictionary.

Rows are few and in memory, so that steps are cheap and there are many of them. What decides how rows are read (how many
are few, how large a share is, how much is kept) is drawn small, so that a handful of rows takes every way there is.

A query is drawn from a seed, which is quick; run ``Query(seed)`` again to see what it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
import pytest
from builders import open_engine
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from table_model import KEYS, TableModel

import mitoframe as mito
from mitoframe.database import Database, _Shared
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine.catalog import Catalog
from mitoframe.engine.parts import LANES
from mitoframe.read import scanner, shares, sources
from mitoframe.registry import Connection

NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
START, MINUTE = datetime(2024, 1, 1), timedelta(minutes=1)
HOSTS = [None, "", "a", "b", "ab", "ß", "a.b"]
RACKS = [None, 0, 1, -5]
LOADS = [None, 0.0, -0.0, 1.5, -2.0, float("inf"), float("nan"), 100.0]
NOTES = [None, "", "x", "yy", "x y"]
NUMBERS = [None, 0, 1, 7]
# Few minutes, so that keys meet again; some far away, so that files also stand alone.
MINUTES = [0, 1, 2, 3, 4, 5, 6, 7, 10_000, 10_001, 10_002]
SCHEMA = KEYS | {"load": pl.Float64, "note": pl.String}

Frame: TypeAlias = pl.LazyFrame
Ask: TypeAlias = Callable[[Frame], Frame]


# --- conditions ------------------------------------------------------------------------------------------


def condition(rng: Random, columns: list[str], depth: int = 2) -> pl.Expr:
    """Draw a condition on some of the columns."""
    kind = rng.random()
    if depth and kind < 0.15:
        return condition(rng, columns, depth - 1) & condition(rng, columns, depth - 1)
    if depth and kind < 0.3:
        return condition(rng, columns, depth - 1) | condition(rng, columns, depth - 1)
    if depth and kind < 0.38:
        return ~condition(rng, columns, depth - 1)
    name = rng.choice(columns)
    return _CONDITIONS.get(name, _on_number)(rng, name)


def _compared(rng: Random, expression: pl.Expr, value: Any) -> pl.Expr:
    compare = rng.choice([pl.Expr.eq, pl.Expr.ne, pl.Expr.lt, pl.Expr.le, pl.Expr.gt, pl.Expr.ge])
    return compare(expression, value)


def _some(rng: Random, values: list[Any]) -> list[Any]:
    return rng.sample(values, rng.randint(0, 3))


def _on_text(rng: Random, name: str) -> pl.Expr:
    column, values = pl.col(name), [value for value in HOSTS + NOTES if value is not None]
    match rng.randrange(9):
        case 0 | 1 | 2:
            return _compared(rng, column, rng.choice(values))
        case 3:
            return column.is_in(_some(rng, values))
        case 4:
            return column.str.starts_with(rng.choice(values))
        case 5:
            return column.str.ends_with(rng.choice(values))
        case 6:
            return column.str.contains(rng.choice(["^a", "b$", "a.b", "x|y", ""]))
        case 7:
            return column.str.len_chars() > rng.randint(0, 2)
        case _:
            return _null(rng, column)


def _on_number(rng: Random, name: str) -> pl.Expr:
    column = pl.col(name)
    match rng.randrange(6):
        case 0 | 1:
            return _compared(rng, column, rng.randint(-6, 8))
        case 2:
            return column.is_in(_some(rng, [0, 1, 7, -5, 3]))
        case 3:
            return column.is_between(rng.randint(-6, 2), rng.randint(-1, 8), closed=rng.choice(["both", "none"]))
        case 4:
            return _compared(rng, column * 2 + 1, rng.randint(-9, 15))
        case _:
            return _null(rng, column)


def _on_float(rng: Random, name: str) -> pl.Expr:
    column, value = pl.col(name), rng.choice(LOADS[1:])
    match rng.randrange(7):
        case 0 | 1 | 2:
            return _compared(rng, column, value)
        case 3:
            return column.is_in(_some(rng, LOADS[1:]))
        case 4:
            return column.is_between(value, rng.choice(LOADS[1:]))
        case 5:
            return column.is_nan() if rng.random() < 0.5 else column.is_finite()
        case _:
            return _null(rng, column)


def _on_time(rng: Random, name: str) -> pl.Expr:
    column, time = pl.col(name), START + timedelta(minutes=rng.choice(MINUTES))
    match rng.randrange(8):
        case 0 | 1 | 2:
            return _compared(rng, column, time)
        case 3:
            return column.is_between(
                time, time + timedelta(minutes=rng.randint(0, 5)), closed=rng.choice(["left", "both"])
            )
        case 4:
            return column.is_in([START + timedelta(minutes=minute) for minute in _some(rng, MINUTES)])
        case 5:
            return _compared(rng, column.dt.date(), time.date())
        case 6:
            return _compared(rng, column.dt.truncate("2m"), time)
        case _:
            return column.dt.minute() == rng.randint(0, 6)


def _null(rng: Random, column: pl.Expr) -> pl.Expr:
    return column.is_null() if rng.random() < 0.5 else column.is_not_null()


_CONDITIONS: dict[str, Callable[[Random, str], pl.Expr]] = {
    "host": _on_text, "note": _on_text, "load": _on_float, "twice": _on_float, "ts": _on_time,
}  # fmt: skip


# --- queries ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """``ask`` makes a query of a frame. If its rows are not determined, ``part_of`` is what they are taken from."""

    ask: Ask
    text: str
    part_of: Ask | None = None


def query(seed: int, columns: list[str]) -> Query:
    rng = Random(seed)
    kind = rng.choice(list(_QUERIES))
    drawn = _QUERIES[kind](rng, columns)
    return drawn if isinstance(drawn, Query) else Query(ask=drawn, text=kind)


def _chosen(rng: Random, columns: list[str]) -> list[str]:
    return rng.sample(columns, rng.randint(1, len(columns)))


def _filter(rng: Random, columns: list[str]) -> Ask:
    some, conditions = _chosen(rng, columns), [condition(rng, columns) for _ in range(rng.randint(1, 2))]
    return lambda lf: lf.filter(*conditions).select(some)


def _late_filter(rng: Random, columns: list[str]) -> Ask:
    first, second = condition(rng, columns), condition(rng, [*columns, "twice"])
    return lambda lf: lf.filter(first).with_columns(twice=pl.col("load") * 2).filter(second)


def _everything(rng: Random, columns: list[str]) -> Ask:
    some = _chosen(rng, columns)
    return lambda lf: lf.select(some)


def _head(rng: Random, columns: list[str]) -> Query:
    where, number, some = condition(rng, columns), rng.randint(0, 9), _chosen(rng, columns)
    start = rng.choice([0, 0, 2])
    return Query(
        ask=lambda lf: lf.filter(where).slice(start, number).select(some),
        text="head",
        part_of=lambda lf: lf.filter(where).select(some),
    )


def _head_before_filter(rng: Random, columns: list[str]) -> Query:
    first, where, number = condition(rng, columns), condition(rng, columns), rng.randint(0, 9)
    return Query(
        ask=lambda lf: lf.filter(first).head(number).select(pl.all(), kept=where.fill_null(False)),
        text="head before filter",
        part_of=lambda lf: lf.filter(first).select(pl.all(), kept=where.fill_null(False)),
    )


def _sort_with_limit(rng: Random, columns: list[str]) -> Ask:
    where, number, descending = condition(rng, columns), rng.randint(1, 9), rng.random() < 0.5
    order = rng.sample(columns, len(columns))
    return lambda lf: lf.filter(where).sort(order, descending=descending, nulls_last=descending).head(number)


def _group(rng: Random, columns: list[str]) -> Ask:
    where, by = condition(rng, columns), rng.choice([["host"], ["host", "rack"], ["note"], ["ts"]])
    return lambda lf: (
        lf.filter(where)
        .group_by(by)
        .agg(pl.len(), pl.col("load").max().alias("most"), pl.col("ts").min().alias("first"))
    )


def _aggregate(rng: Random, columns: list[str]) -> Ask:
    where = condition(rng, columns)
    what = rng.choice([[pl.len()], [pl.col("ts").max()], [pl.col("host").n_unique(), pl.col("load").null_count()]])
    return lambda lf: lf.filter(where).select(what)


def _length(_rng: Random, _columns: list[str]) -> Ask:
    return lambda lf: lf.select(pl.len())


def _join(rng: Random, columns: list[str]) -> Ask:
    left, right = condition(rng, columns), condition(rng, columns)
    how = rng.choice(["inner", "left", "semi", "anti"])
    on = rng.choice([["host", "ts"], ["ts"], ["host", "rack", "ts"]])
    return lambda lf: lf.filter(left).join(lf.filter(right).select(*on, "load"), on=on, how=how)


def _self_join(_rng: Random, _columns: list[str]) -> Ask:
    keys = ["host", "rack", "ts"]
    return lambda lf: lf.join(lf.select(*keys, pl.col("note").alias("again")), on=keys)


def _concat(rng: Random, columns: list[str]) -> Ask:
    first, second, some = condition(rng, columns), condition(rng, columns), _chosen(rng, columns)
    return lambda lf: pl.concat([lf.filter(first).select(some), lf.filter(second).select(some), lf.select(some)])


def _unique(rng: Random, columns: list[str]) -> Ask:
    where, some = condition(rng, columns), _chosen(rng, columns)
    return lambda lf: lf.filter(where).select(some).unique()


_QUERIES: dict[str, Callable[[Random, list[str]], Ask | Query]] = {
    "filter": _filter,
    "late filter": _late_filter,
    "everything": _everything,
    "head": _head,
    "head before filter": _head_before_filter,
    "sort with limit": _sort_with_limit,
    "group": _group,
    "aggregate": _aggregate,
    "length": _length,
    "join": _join,
    "self join": _self_join,
    "concat": _concat,
    "unique": _unique,
}


# --- the machine -----------------------------------------------------------------------------------------

seeds = st.integers(0, 2**32)
engines = st.sampled_from(["in-memory", "in-memory", "in-memory", "streaming"])
configs = st.fixed_dictionaries(
    {
        "cache_size_bytes": st.sampled_from([0, 10_000, None]),
        "row_group_rows": st.sampled_from([2, 4, 1000]),
        "write_buffer_size_bytes": st.sampled_from([2_000, 1 << 20]),
        "compaction_trigger_files": st.sampled_from([3, 4, 100]),
        "gc_grace_ms": st.sampled_from([0, 10_000]),
    }
)
ROOMS_OF_LIMITS = {"BATCH_ROWS": scanner, "PAGES_TIMES": sources, "are_ready": sources}
limits = st.fixed_dictionaries(
    {
        "SHARE_ROWS": st.sampled_from([6, 15, shares.SHARE_ROWS]),
        "FEW_ROWS": st.sampled_from([0, 12, shares.FEW_ROWS, shares.FEW_ROWS]),
        "FEW_CELLS": st.sampled_from([0, shares.FEW_CELLS]),
        "are_ready": st.just(lambda: True),
        "PAGES_TIMES": st.sampled_from([0, sources.PAGES_TIMES]),
        "BATCH_ROWS": st.sampled_from([3, scanner.BATCH_ROWS]),
    }
)

indexes_of_numbers = st.dictionaries(
    st.sampled_from(["host", "rack", "load"]), st.sampled_from([["inverted"], ["skipping"], ["inverted", "skipping"]])
)
indexes = st.builds(
    lambda numbers, texts: numbers | texts,
    indexes_of_numbers,
    st.sampled_from([{}, {"note": ["fulltext"]}, {"note": ["inverted", "skipping", "fulltext"]}]),
)


class QueryMachine(RuleBasedStateMachine):
    """Each query must find what it finds among the model's rows."""

    dedup = "last"

    @initialize(
        config=configs,
        small=limits,
        threads=st.sampled_from([0, 0, 2]),
        index_mode=st.sampled_from(["background", "sync", "manual"]),
        indexes=indexes,
        first_writes=st.lists(seeds, max_size=4),
    )
    def open_store(
        self,
        config: dict[str, Any],
        small: dict[str, int],
        threads: int,
        index_mode: str,
        indexes: dict[str, list[str]],
        first_writes: list[int],
    ) -> None:
        self.patch = pytest.MonkeyPatch()
        for name, value in small.items():
            self.patch.setattr(ROOMS_OF_LIMITS.get(name, shares), name, value)
        scheduler = ThreadScheduler(dict.fromkeys(LANES, threads)) if threads else InlineScheduler()
        engine = open_engine(scheduler=scheduler, **config)
        self.meta = SqliteMetaStore(":memory:")
        connection = Connection(engine=engine, catalog=Catalog(self.meta), close=engine.close)
        self.db = Database(_Shared(url="", connection=connection, mode="rw", handles=1), "rw")
        options = {"dedup": self.dedup, "compaction_window": "1h", "index_mode": index_mode}
        self.table = self.db.create_table("cpu", SCHEMA, time="ts", tags=["host", "rack"], options=options)
        if indexes:
            self.table.alter(indexes=indexes)
        self.model = TableModel(self.dedup)
        self.changed()
        self.lazy = self.table.scan().to_polars()
        for seed in first_writes:
            self.write_to_a_file(seed)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.meta.close()
            self.patch.undo()

    def changed(self) -> None:
        self.truth = self.model.frame()
        self.columns = self.truth.columns

    # --- rows come and go ---------------------------------------------------------------------------------

    @rule(seed=seeds)
    def write(self, seed: int) -> None:
        rng = Random(seed)
        rows = [
            (
                rng.choice(HOSTS),
                rng.choice(RACKS),
                START + timedelta(minutes=rng.choice(MINUTES)),
                rng.choice(LOADS),
                rng.choice(NOTES),
                rng.choice(NUMBERS),
            )
            for _ in range(rng.randint(1, 8))
        ]
        frame = pl.DataFrame(rows, schema=SCHEMA | {"x": pl.Int64}, orient="row")
        frame = frame.select(pl.col(name).cast(dtype) for name, dtype in self.truth.schema.items())
        self.table.write(frame)
        self.model.put(frame)
        self.changed()

    @rule(seed=seeds)
    def write_to_a_file(self, seed: int) -> None:
        self.write(seed)
        self.table.flush()

    @precondition(lambda self: self.model.dedup != "none")
    @rule(seed=seeds)
    def delete(self, seed: int) -> None:
        where = condition(Random(seed), ["host", "ts"], depth=0)
        keys = self.truth.filter(where).select(*KEYS).rows()
        self.table.delete(where=where)
        self.model.delete(keys)
        self.changed()

    @rule(seed=seeds)
    def truncate(self, seed: int) -> None:
        rng = Random(seed)
        first = START + timedelta(minutes=rng.choice(MINUTES))
        last = first + timedelta(minutes=rng.randint(1, 3))
        self.table.truncate(start=first, end=last)
        self.model.remove(lambda row: first <= row.key[2] < last)
        self.changed()

    @rule(what=st.sampled_from(["flush", "flush", "flush", "compact", "vacuum", "vacuum all"]))
    def look_after_files(self, what: str) -> None:
        match what:
            case "flush":
                self.table.flush()
            case "compact":
                with suppress(mito.ConflictError):
                    self.table.compact()
            case "vacuum":
                self.table.vacuum()
            case _:
                self.table.vacuum(older_than="0s")

    @rule(indexes=indexes, step=st.sampled_from(["set", "set", "drop", "build", "build"]))
    def index(self, indexes: dict[str, list[str]], step: str) -> None:
        match step:
            case "set" if indexes:
                self.table.alter(indexes=indexes)
            case "drop" if indexes:
                self.table.alter(drop_indexes=list(indexes))
            case "build":
                self.table.build_index()

    @rule(default=st.sampled_from([None, 3]), step=st.sampled_from(["add", "widen", "drop", "drop"]))
    def alter(self, default: int | None, step: str) -> None:
        known = self.model.columns.get("x")
        match step:
            case "add" if known is None:
                given: dict[str, Any] = {"add": {"x": pl.Int16()}}
                self.table.alter(**given, **({} if default is None else {"defaults": {"x": default}}))
                column = type(self.model.columns["load"])
                self.model.columns["x"] = column(dtype=pl.Int16(), default=default, initial=default)
            case "widen" if known is not None and known.dtype == pl.Int16():
                self.table.alter(retype={"x": pl.Int64()})
                known.dtype = pl.Int64()
            case "drop" if known is not None:
                self.table.alter(drop=["x"])
                del self.model.columns["x"]
            case _:
                return
        self.changed()
        self.table = self.db["cpu"]
        self.lazy = self.table.scan().to_polars()

    # --- questions ----------------------------------------------------------------------------------------

    def ask(self, seed: int, engine: Any, frame: Frame) -> None:
        drawn = query(seed, self.columns)
        note(f"{drawn.text}: {drawn.ask(frame).explain(optimized=False)}") if NIGHTLY else note(drawn.text)
        found = collected(drawn, frame, engine)
        truth = (drawn.part_of or drawn.ask)(self.truth.lazy()).collect(engine="in-memory")
        if drawn.part_of is None:
            assert_same_rows(found, truth)
        else:
            height = drawn.ask(self.truth.lazy()).select(pl.len()).collect(engine="in-memory").item()
            assert found.height == height
            assert_part_of(found, truth)

    @rule(seed=seeds, engine=engines)
    def query(self, seed: int, engine: Any) -> None:
        self.ask(seed, engine, self.lazy)

    @rule(seed=seeds, engine=engines)
    def query_again(self, seed: int, engine: Any) -> None:
        self.ask(seed % 20, engine, self.lazy)

    @rule(seed=seeds, engine=engines)
    def query_of_a_new_scan(self, seed: int, engine: Any) -> None:
        self.ask(seed, engine, self.table.scan().to_polars())

    @rule(seed=seeds)
    def scan(self, seed: int) -> None:
        rng = Random(seed)
        first = START + timedelta(minutes=rng.choice(MINUTES))
        last = first + timedelta(minutes=rng.randint(0, 10))
        where, some = condition(rng, self.columns), _chosen(rng, self.columns)
        expected = self.truth.filter(where, (pl.col("ts") >= first) & (pl.col("ts") < last)).select(some)

        scan = self.table.scan(start=first, end=last, where=where, columns=some)

        match rng.randrange(4):
            case 0:
                assert_same_rows(scan.collect(), expected)
            case 1:
                assert scan.count() == expected.height
            case 2:
                assert_same_rows(pl.DataFrame(pl.from_arrow(scan.to_arrow())), expected)
            case _:
                found = pl.from_arrow(pa.table(scan))
                assert_same_rows(pl.DataFrame(found), expected)

    @rule(seed=seeds)
    def stream(self, seed: int) -> None:
        """Stop before the end, or not."""
        rng = Random(seed)
        where = condition(rng, self.columns)
        stop_after = rng.choice([0, 1, 2, 1000])
        batches = self.lazy.filter(where).collect_batches(chunk_size=3)
        found = [batch for _, batch in zip(range(stop_after), batches, strict=False)]
        expected = self.truth.filter(where)
        if found:
            assert_part_of(pl.concat(found), expected)
        if stop_after == 1000:
            assert sum(batch.height for batch in found) == expected.height

    @rule()
    def count(self) -> None:
        assert self.table.scan().count() == self.truth.height


def collected(drawn: Query, frame: Frame, engine: Any) -> pl.DataFrame:
    try:
        return drawn.ask(frame).collect(engine=engine)
    except (pl.exceptions.ShapeError, pl.exceptions.SchemaError):
        # Polars puts an empty frame with all columns for a filter that it knows to be false, if the same resolver is
        # in the query twice; a union then refuses it.
        assert drawn.text == "concat"
        return drawn.ask(frame).collect(engine=engine, optimizations=pl.QueryOptFlags(comm_subplan_elim=False))


def assert_same_rows(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.schema == expected.schema
    left, right = (frame.sort(frame.columns) if frame.width else frame for frame in (found, expected))
    assert left.equals(right), f"found {left}\nexpected {right}"


def assert_part_of(found: pl.DataFrame, whole: pl.DataFrame) -> None:
    """Check that each row is there, at least as often."""
    assert found.schema == whole.schema
    columns = found.columns
    there = whole.group_by(columns).agg(there=pl.len())
    counted = found.group_by(columns).agg(count=pl.len()).join(there, on=columns, how="left", nulls_equal=True)
    assert counted.filter(pl.col("there").is_null() | (pl.col("count") > pl.col("there"))).is_empty(), (
        f"{found} {whole}"
    )


class MergeMachine(QueryMachine):
    """Nulls are filled from older versions."""

    dedup = "merge"


class KeepMachine(QueryMachine):
    """Every row is kept."""

    dedup = "none"


SETTINGS = settings(
    max_examples=2_500 if NIGHTLY else 102,
    stateful_step_count=60,
    deadline=None,
    derandomize=not NIGHTLY,
    suppress_health_check=list(HealthCheck),
)


def case_of(machine: type[QueryMachine]) -> Any:
    machine.TestCase.settings = SETTINGS
    return pytest.mark.timeout(0 if NIGHTLY else 300)(machine.TestCase)


TestLast, TestMerge, TestNone = map(case_of, (QueryMachine, MergeMachine, KeepMachine))
