"""A store against a list of writes: anything that can be done to a table, in any order, killed and unplugged between.

The store is in a file system in memory, so that it can be killed and lose power at any step; its clock stands still
until it is moved, in either direction. Files are small, buffers smaller, so that the engine flushes, rolls, checkpoints
and compacts by itself all the time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from table_model import KEYS, Key, TableModel

import mitoframe as mito
from mitoframe.database import Database, _Shared
from mitoframe.drivers.clock import ManualClock, SeededRandomness
from mitoframe.drivers.log_file import SegmentLog
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.scheduler import InlineScheduler, ThreadScheduler
from mitoframe.engine.catalog import Catalog
from mitoframe.engine.engine import MitoEngine
from mitoframe.engine.parts import LANES
from mitoframe.model.ids import Sequence
from mitoframe.ports import Scheduler
from mitoframe.registry import Connection
from mitoframe.storage.journal import replay
from mitoframe.storage.paths import LOG_FOLDER
from mitoframe.testing.vfs_memory import MemoryVfs

START = datetime(2024, 1, 1)
START_MS = 1_704_067_200_000
STORE_ID = "5" * 32

hosts = st.sampled_from([None, "", "a", "b", "ß", "a b"])
racks = st.sampled_from([None, 0, 1, -5])
# Few minutes, so that keys meet again; some far away, so that files also stand alone.
minutes = st.integers(0, 6) | st.integers(0, 6).map(lambda m: m + 10_000)
loads = st.none() | st.sampled_from([0.0, 1.5, -2.0, float("inf"), 100.0])
notes = st.none() | st.sampled_from(["", "x", "yy"])
numbers = st.none() | st.integers(0, 9)
rows = st.lists(st.tuples(hosts, racks, minutes, loads, notes, numbers, numbers), min_size=1, max_size=12)
few_rows = st.lists(st.tuples(hosts, racks, minutes, loads, notes, numbers, numbers), min_size=1, max_size=3)
lengths = st.integers(0, 8) | st.integers(0, 20_000)
extras = st.sampled_from(["x", "y"])

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


configs = st.fixed_dictionaries(
    {
        "sync": st.sampled_from(["always", "always", "interval", "never"]),
        "row_group_rows": st.sampled_from([2, 3, 1000]),
        "checkpoint_distance": st.integers(1, 4),
        "wal_segment_size_bytes": st.sampled_from([400, 5_000, 1 << 20]),
        "write_buffer_size_bytes": st.sampled_from([500, 3_000, 1 << 20]),
        "backfill_size_bytes": st.sampled_from([300, 700, 1 << 20]),
        "backfill_buffer_bytes": st.sampled_from([200, 1 << 20]),
        "compaction_trigger_files": st.integers(2, 4),
        "compaction_settle_ms": st.sampled_from([0, 3_600_000]),
        "gc_grace_ms": st.sampled_from([0, 10_000, 10_000]),
        "flush_on_close": st.booleans(),
    }
)
table_options = st.fixed_dictionaries(
    {"dedup": st.sampled_from(["last", "merge", "none"]), "wal": st.sampled_from(["log", "log", "log", "noop"])},
    optional={
        "compaction_window": st.sampled_from(["1h", "5m"]),
        "compaction_policy": st.sampled_from(["runs", "count"]),
        "row_group_rows": st.just(2),
        "sst_size_bytes": st.sampled_from([300, 4_000]),
        "ttl": st.just("1000d"),
    },
)


@dataclass(slots=True, kw_only=True)
class Done:
    """A change that may be taken back. ``number`` is the model's, ``first`` and ``count`` say where its rows are."""

    number: int
    first: int
    count: int
    keys: frozenset[Key]
    may_be_expired: bool = False


class StoreMachine(RuleBasedStateMachine):
    """The store must agree with the model after every step."""

    @initialize(config=configs, options=table_options, threads=st.sampled_from([False, False, True]))
    def open_store(self, config: dict[str, Any], options: dict[str, Any], threads: bool) -> None:
        self.vfs, self.meta, self.clock = MemoryVfs(), SqliteMetaStore(":memory:"), ManualClock(START_MS)
        self.seeds, self.threads = count(), threads
        self.config = mito.MitoConfig(**config, sync_interval_ms=1)
        self.wal = options["wal"]
        self.connect()
        schema = KEYS | {"load": pl.Float64, "note": pl.String}
        self.table = self.db.create_table("cpu", schema, time="ts", tags=["host", "rack"], options=options)
        self.model = TableModel(options["dedup"])
        self.done: list[Done] = []
        self.named: dict[str, Done | None] = {}
        self.newest_time = START - timedelta(days=1000)

    def connect(self) -> None:
        randomness = SeededRandomness(next(self.seeds))
        store = LocalObjectStore(self.vfs, randomness)
        store.sweep()
        log = SegmentLog(self.vfs, LOG_FOLDER, store_id=STORE_ID, segment_size_bytes=self.config.wal_segment_size_bytes)
        engine = MitoEngine(
            object_store=store,
            log=log,
            scheduler=self.scheduler(),
            clock=self.clock,
            randomness=randomness,
            config=self.config,
        )
        connection = Connection(engine=engine, catalog=Catalog(self.meta), close=engine.close)
        self.db = Database(_Shared(url="", connection=connection, mode="rw", handles=1), "rw")
        if "cpu" in self.db:
            self.table = self.db["cpu"]

    def scheduler(self) -> Scheduler:
        return ThreadScheduler(dict.fromkeys(LANES, 1)) if self.threads else InlineScheduler()

    def teardown(self) -> None:
        if hasattr(self, "db"):
            if not self.engine.health().regions[0].poison:
                self.journal_tells_of_the_files_there_are()
            self.db.close()
            self.meta.close()

    def journal_tells_of_the_files_there_are(self) -> None:
        self.engine.drain()
        history = self.engine.history(self.table.region_id)
        assert not history.damage
        assert replay(history.entries) == set(self.engine.region(self.table.region_id).state.files)

    @property
    def engine(self) -> MitoEngine:
        return self.db._shared.connection.engine

    def frame(self, drawn: list[tuple[Any, ...]]) -> pl.DataFrame:
        """Make a frame of drawn rows, with the columns that the table has now."""
        data = [(host, rack, START + timedelta(minutes=m), *fields) for host, rack, m, *fields in drawn]
        everything = pl.DataFrame(
            data,
            schema=KEYS | {"load": pl.Float64, "note": pl.String, "x": pl.Int64, "y": pl.Int64},
            orient="row",
        )
        self.newest_time = max(self.newest_time, *everything["ts"])
        known = {name: column.dtype for name, column in self.model.columns.items()}
        return everything.select(*KEYS, *(pl.col(name).cast(dtype) for name, dtype in known.items()))

    def remember(self, number: int, keys: list[Key]) -> Done:
        """Note where the rows are that were written just now."""
        last = self.engine.region(self.table.region_id).control.current().visible
        done = Done(
            number=number,
            first=last - len(keys) + 1,
            count=len(keys),
            keys=frozenset(keys),
            may_be_expired=not self.config.gc_grace_ms,
        )
        self.done.append(done)
        return done

    def history_may_be_lost(self) -> None:
        for done in self.done:
            done.may_be_expired = True

    def rows_went(self) -> None:
        """Rows went without being overwritten: what was before is not known any more, nor which writes were done."""
        self.done.clear()
        self.named = {}

    # --- rows come and go -------------------------------------------------------------------------------------

    @rule(new=rows, library=st.sampled_from(["polars", "pandas", "lazy"]), leaves_out=st.sets(extras))
    def write(self, new: list[tuple[Any, ...]], library: str, leaves_out: set[str]) -> None:
        frame = self.frame(new).drop(leaves_out, strict=False)

        result = self.table.write(_as(library, frame))

        assert result.rows == len(new)
        self.remember(self.model.put(frame), _keys_of(frame))

    @rule(new=few_rows, key=st.sampled_from(["first", "second"]))
    def write_once(self, new: list[tuple[Any, ...]], key: str) -> None:
        frame = self.frame(new)

        result = self.table.write(frame, key=key)

        if key in self.named and self.named[key] is not None:
            assert result.repeated
        if not result.repeated:
            self.named[key] = self.remember(self.model.put(frame), _keys_of(frame))
        else:
            assert key in self.named
            assert result.first_sequence

    @rule(new=few_rows)
    def append(self, new: list[tuple[Any, ...]]) -> None:
        frame = self.frame(new)
        keys, there = _keys_of(frame), set(self.model.keys())
        if self.model.dedup != "none" and (there & set(keys) or len(set(keys)) < len(keys)):
            with pytest.raises(mito.InvalidInputError, match="there already"):
                self.table.append(frame)
            return

        self.table.append(frame)

        self.remember(self.model.put(frame), keys)

    @rule(
        first=st.none() | minutes,
        length=st.none() | lengths,
        tags=st.sampled_from([{}, {"host": "a"}, {"host": ["b", None]}, {"rack": None}, {"host": "", "rack": [0, 1]}]),
        where=st.none() | conditions(depth=1),
    )
    def delete(self, first: int | None, length: int | None, tags: dict[str, Any], where: pl.Expr | None) -> None:
        given = _bounds(first, length) | ({"tags": tags} if tags else {}) | ({} if where is None else {"where": where})
        if not given or self.model.dedup == "none":
            with pytest.raises(mito.InvalidInputError):
                self.table.delete(**given)
            return
        going = self.model.frame().filter(_within(first, length), *_tag_conditions(tags))
        going = going if where is None else going.filter(where)

        result = self.table.delete(**given)

        keys = _keys_of(going)
        assert result.rows == len(keys)
        if keys:
            self.remember(self.model.delete(keys), keys)
            event("deleted")

    @rule(first=st.none() | minutes, length=st.none() | lengths, drawn=rows)
    def replace_range(self, first: int | None, length: int | None, drawn: list[tuple[Any, ...]]) -> None:
        frame = self.frame(drawn).filter(_within(first, length))

        result = self.table.replace_range(frame, **_bounds(first, length))

        assert result.rows == frame.height
        changed = result.rows or result.removed
        self.model.remove(lambda row: _is_within(row.key[2], first, length))
        if frame.height:
            self.model.put(frame)
        if changed:
            self.rows_went()

    @rule(first=minutes, drawn=rows)
    def replace_range_refuses_rows_outside_of_it(self, first: int, drawn: list[tuple[Any, ...]]) -> None:
        frame = self.frame(drawn)
        outside = [n for n, time in enumerate(frame["ts"]) if not _is_within(time, first, 2)]
        if outside:
            with pytest.raises(mito.InvalidInputError, match=rf"row {outside[0]} is not in the range"):
                self.table.replace_range(frame, **_bounds(first, 2))

    @rule(first=st.none() | minutes, length=st.none() | lengths)
    def truncate(self, first: int | None, length: int | None) -> None:
        self.table.truncate(**_bounds(first, length))

        self.model.remove(lambda row: _is_within(row.key[2], first, length))
        self.history_may_be_lost()
        self.named = dict.fromkeys(self.named)
        if first is None and length is None:
            self.rows_went()

    @rule(new=few_rows)
    def truncate_what_is_in_no_file(self, new: list[tuple[Any, ...]]) -> None:
        self.table.flush()
        frame = self.frame(new)
        self.table.write(frame)

        result = self.table.truncate(unflushed=True)

        assert result.rows in (0, frame.height), "a write was flushed in part"
        if not result.rows:  # It was in a file already.
            self.model.put(frame)
        self.rows_went()

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        done = data.draw(st.sampled_from(self.done), label="taken back")
        keeps_every_row = self.model.dedup == "none"

        try:
            self.engine.undo(self.table.region_id, Sequence(done.first), done.count)
        except mito.SnapshotExpiredError:
            assert done.may_be_expired, "what it replaced should still be kept"
            event("too late to undo")
            return

        event("undone")
        self.model.remove(lambda row: row.write == done.number)
        # What another change did to the same keys is now partly what this one did.
        self.done = [] if keeps_every_row else [other for other in self.done if not other.keys & done.keys]
        self.history_may_be_lost()
        self.named = {key: None for key, other in self.named.items() if other is not done}

    # --- the table changes ------------------------------------------------------------------------------------

    @rule(name=extras, default=numbers, again=st.booleans())
    def add_a_field(self, name: str, default: int | None, again: bool) -> None:
        dtype = pl.Int16()
        given: dict[str, Any] = {"add": {name: dtype}} | ({} if default is None else {"defaults": {name: default}})
        if name in self.model.columns:
            if not again:
                return
            given["drop"] = [name]
            del self.model.columns[name]

        self.table.alter(**given)

        self.model.columns[name] = type(self.model.columns["load"])(dtype=dtype, default=default, initial=default)

    @rule(name=extras)
    def drop_a_field(self, name: str) -> None:
        if name in self.model.columns:
            self.table.alter(drop=[name])
            del self.model.columns[name]

    @rule(name=extras)
    def widen_a_field(self, name: str) -> None:
        wider = {pl.Int16(): pl.Int32(), pl.Int32(): pl.Int64()}
        column = self.model.columns.get(name)
        if column is not None and column.dtype in wider:
            self.table.alter(retype={name: wider[column.dtype]})
            column.dtype = wider[column.dtype]

    @rule(name=extras, default=numbers)
    def change_a_default(self, name: str, default: int | None) -> None:
        if name in self.model.columns:
            self.table.alter(**({"drop_defaults": [name]} if default is None else {"defaults": {name: default}}))
            self.model.columns[name].default = default

    @rule(
        options=st.fixed_dictionaries(
            {},
            optional={
                "row_group_rows": st.integers(1, 4),
                "compaction_window": st.sampled_from(["1h", "1d"]),
                "compaction_policy": st.sampled_from(["runs", "count"]),
            },
        ),
        unset=st.sets(st.sampled_from(["row_group_rows", "compaction_window", "auto_flush_interval"])),
    )
    def set_options(self, options: dict[str, Any], unset: set[str]) -> None:
        self.table.alter(options=options, unset=sorted(unset - set(options)))

    @precondition(lambda self: self.model.dedup != "none" and len(self.model.rows) > 20)
    @rule()
    def keep_every_row_from_now_on(self) -> None:
        self.table.alter(options={"dedup": "none"})

        self.model.keep_seen()
        self.model.dedup = "none"
        self.done.clear()
        event("every row is kept")

    # --- time passes, and processes ---------------------------------------------------------------------------

    @rule(what=st.sampled_from(["flush", "flush", "vacuum", "vacuum all", "maintain", "journal"]))
    def look_after_files(self, what: str) -> None:
        match what:
            case "flush":
                self.table.flush()
            case "journal":
                self.journal_tells_of_the_files_there_are()
            case "vacuum":
                self.table.vacuum()
            case "vacuum all":
                self.table.vacuum(older_than="0s")
            case "maintain":
                self.db.maintain()
        if what in ("vacuum all", "maintain"):
            self.history_may_be_lost()

    @rule(
        mode=st.sampled_from(["due", "all", "all", "strict"]),
        first=st.none() | minutes,
        length=st.none() | lengths,
        window=st.sampled_from([None, None, "1h", "1d"]),
        is_asked_first=st.booleans(),
    )
    def compact(
        self, mode: Any, first: int | None, length: int | None, window: str | None, is_asked_first: bool
    ) -> None:
        request = self.table._compact_request(mode, *_bounds_in_order(first, length), window)
        if is_asked_first:
            self.table.compaction_plan(mode=mode, window=window)
            self.engine.compact(self.table.region_id, replace(request, dry_run=True))

        # A background thread may have been faster: then the files to be merged are gone.
        with suppress(mito.ConflictError):
            self.engine.compact(self.table.region_id, request)

    @precondition(lambda self: self.model.rows)
    @rule(ttl_minutes=st.sampled_from([1, 1, 2, 5, 5_000]), is_late=st.sampled_from([True, True, False]))
    def rows_expire(self, ttl_minutes: int, is_late: bool) -> None:
        """Give rows a time to live for a while; what does not outlive it is gone for good."""
        now_ms = self.clock.now_ms()
        if is_late:
            self.clock.set(START_MS + 20_000 * 60_000)
        due = min(self.newest_time, START + timedelta(milliseconds=self.clock.now_ms() - START_MS))
        everything = self.model.frame()

        self.table.alter(options={"ttl": f"{ttl_minutes}m"})
        self.table.expire()
        found = self.table.scan().collect()

        kept_from = found["ts"].min() if found.height else self.newest_time + timedelta(minutes=1)
        _assert_same_rows(found, everything.filter(pl.col("ts") >= kept_from))
        too_early = everything.filter(pl.col("ts") < kept_from, pl.col("ts") >= due - timedelta(minutes=ttl_minutes))
        assert too_early.is_empty(), "rows expired before their time"
        event("rows expired" if found.height < everything.height else "no rows expired")
        # Those that are not read any more may be there still: they would come back without the option.
        self.table.truncate(end=kept_from)
        self.table.alter(options={"ttl": "forever"})
        self.clock.set(now_ms)
        self.model.remove(lambda row: row.key[2] < kept_from)
        self.done.clear()
        self.named = dict.fromkeys(self.named)

    @rule(by_ms=st.sampled_from([1, 20_000, 3_600_000, -1, -5_000, -10_000_000]))
    def set_the_clock(self, by_ms: int) -> None:
        self.clock.set(self.clock.now_ms() + by_ms)
        self.history_may_be_lost()

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.connect()

    @precondition(lambda self: self.wal == "log")
    @rule(unplugged=st.booleans(), keep=st.sampled_from(["none", "all", "random"]), seed=st.integers(0, 9))
    def die(self, unplugged: bool, keep: Any, seed: int) -> None:
        """Go on with what the next process finds; of the old one nothing reaches it."""
        found = self.vfs.killed()
        if unplugged and self.config.sync == "always":
            found = self.vfs.crash(np.random.default_rng(seed), keep)
        self.engine.close(flush=False)
        self.vfs = found
        self.connect()

    # --- reading ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.rows)
    @rule(condition=conditions(), data=st.data(), engine=st.sampled_from(["in-memory", "streaming"]))
    def scan(self, condition: pl.Expr, data: st.DataObject, engine: Any) -> None:
        names = [*KEYS, *self.model.columns]
        columns = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1), label="columns")
        expected = self.model.frame().filter(condition).select(columns)

        found = self.table.scan().to_polars().filter(condition).select(columns).collect(engine=engine)

        _assert_same_rows(found, expected)

    @precondition(lambda self: self.model.rows)
    @rule(first=minutes, length=lengths, condition=conditions())
    def scan_of_a_range(self, first: int, length: int, condition: pl.Expr) -> None:
        expected = self.model.frame().filter(_within(first, length), condition)

        scan = self.table.scan(**_bounds(first, length), where=condition)

        _assert_same_rows(scan.collect(), expected)
        assert scan.count() == expected.height

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if hasattr(self, "table"):
            expected = self.model.frame()
            _assert_same_rows(self.table.scan().collect(), expected)
            assert self.table.scan().count() == expected.height


def _as(library: str, frame: pl.DataFrame) -> pl.DataFrame | pl.LazyFrame | pd.DataFrame:
    if library == "pandas":
        return frame.to_pandas(use_pyarrow_extension_array=True)
    return frame.lazy() if library == "lazy" else frame


def _keys_of(frame: pl.DataFrame) -> list[Key]:
    return frame.select(*KEYS).rows()


def _bounds(first: int | None, length: int | None) -> dict[str, Any]:
    """Say a range of minutes as users do; open where something is None."""
    start = {} if first is None else {"start": START + timedelta(minutes=first)}
    return start | ({} if length is None else {"end": START + timedelta(minutes=(first or 0) + length)})


def _bounds_in_order(first: int | None, length: int | None) -> tuple[datetime | None, datetime | None]:
    bounds = _bounds(first, length)
    return bounds.get("start"), bounds.get("end")


def _is_within(time: datetime, first: int | None, length: int | None) -> bool:
    bounds = _bounds(first, length)
    return bounds.get("start", time) <= time and ("end" not in bounds or time < bounds["end"])


def _within(first: int | None, length: int | None) -> pl.Expr:
    bounds = _bounds(first, length)
    after = pl.col("ts") >= bounds["start"] if "start" in bounds else pl.lit(True)
    return after & (pl.col("ts") < bounds["end"] if "end" in bounds else pl.lit(True))


def _tag_conditions(tags: dict[str, Any]) -> list[pl.Expr]:
    """Compare tags value by value, null with null."""
    many = {name: value if isinstance(value, list) else [value] for name, value in tags.items()}
    return [pl.any_horizontal(pl.col(name).eq_missing(pl.lit(v)) for v in some) for name, some in many.items()]


def _assert_same_rows(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.schema == expected.select(found.columns).schema
    order = found.columns
    left, right = (frame.select(order).sort(order, nulls_last=False) for frame in (found, expected))
    assert left.equals(right), f"found {left}\nexpected {right}"


NIGHTLY = bool(os.environ.get("MITOFRAME_NIGHTLY"))
StoreMachine.TestCase.settings = settings(
    max_examples=2_000 if NIGHTLY else 60,
    stateful_step_count=60 if NIGHTLY else 40,
    deadline=None,
    derandomize=not NIGHTLY,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestStore = StoreMachine.TestCase
