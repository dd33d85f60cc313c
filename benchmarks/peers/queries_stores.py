"""The rows of the query benchmark in one Parquet file, and the stores that mitoframe is asked on, by their state:

* ``compacted``: all deliveries, late, double and corrected ones included, written, flushed, compacted strictly;
* ``overlapping``: the same rows dealt over four flushes, so that each window has four runs that hold the same hosts and
  times, and a last piece of two percent that is in log and memtable only. A row that is corrected later lies in an
  earlier piece. Automatic flushes and compactions are kept from running, here and when the store is opened to be read;
* ``files``: other rows, a year of ten hosts with one row a minute, in about as many files as ``--files`` says;
* ``fourfold``: the final rows four times over, each time later by their span, and compacted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from queries_harness import HOST, ROWS_FILE, TIME

import mitoframe
from mitoframe.jobs import backfill
from mitoframe.tsbs import SCHEMA, TAGS, tsbs_cpu_table

DELIVERIES_FILE = "deliveries.arrow"
GIB = 1 << 30
RUNS = 4
MEMTABLE_SHARE = 50
"""One row in so many stays in the memtable."""
STATES = ("compacted", "overlapping", "files", "fourfold")
AT_REST = {
    "write_buffer_size_bytes": 16 * GIB,
    "write_buffer_limit_bytes": 32 * GIB,
    "global_write_buffer_size_bytes": 64 * GIB,
    "global_write_buffer_reject_bytes": 128 * GIB,
    "backfill_size_bytes": 16 * GIB,
    "auto_flush_interval_ms": 10**12,
    "compaction_mode": "manual",
    "flush_on_close": False,
}
OPTIONS = {"compaction_window": "12h"}
"""As long as most questions look back: the fewer files hold a host's rows, the faster they are found."""
ROW_GROUP_ROWS = 102_400
ROWS_AT_A_TIME = 20 * ROW_GROUP_ROWS
TICK_NS = 10 * 10**9
YEAR_HOSTS, YEAR_HOURS = 10, 8_760.0
FOURFOLD = 4


def make(state: str, source: Path, folder: Path, files: int) -> None:
    match state:
        case "compacted":
            _make_compacted(source / DELIVERIES_FILE, folder)
        case "overlapping":
            _make_overlapping(source / DELIVERIES_FILE, folder)
        case "files":
            _make_files(files, folder)
        case "fourfold":
            _make_fourfold(source / ROWS_FILE, folder)


def write_final(deliveries: Path, path: Path) -> None:
    """Write the last row of each key, in order, into one Parquet file as pyarrow writes it."""
    with pa.memory_map(str(deliveries)) as source:
        table = pa.ipc.open_file(source).read_all()
        keys = pl.DataFrame(table.select([HOST, TIME])).with_row_index("place")
        places = keys.unique([HOST, TIME], keep="last").sort(HOST, TIME)["place"]
        with pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=True) as writer:
            for piece in places.to_frame().iter_slices(ROWS_AT_A_TIME):
                writer.write_table(table.take(piece["place"].to_arrow()), row_group_size=ROW_GROUP_ROWS)


def _make_compacted(deliveries: Path, folder: Path) -> None:
    with mitoframe.open(folder, sync="never") as database:
        for batch in _batches(deliveries):
            database.write(batch, "cpu", time=TIME, tags=TAGS, options=OPTIONS)
        database["cpu"].flush()
        database.engine.drain()
        database["cpu"].compact(strict=True)


def _make_overlapping(deliveries: Path, folder: Path) -> None:
    places = _dealt(deliveries)
    with mitoframe.open(folder, sync="never", **AT_REST) as database:
        for piece in range(RUNS + 1):
            first = 0
            for batch in _batches(deliveries):
                mine = places.slice(first, len(batch)) == piece
                database.write(batch.filter(mine.to_arrow()), "cpu", time=TIME, tags=TAGS)
                first += len(batch)
            if piece < RUNS:
                database["cpu"].flush()
        found = database["cpu"].files()
        assert len(found) >= RUNS, found


def _dealt(deliveries: Path) -> pl.Series:
    """Return the piece of each row: told by its key, and one piece earlier for a row that is replaced later."""
    keys = pl.concat([pl.DataFrame(batch.select([HOST, TIME])) for batch in _batches(deliveries)])
    host, tick = pl.col(HOST).str.slice(len("host_")).cast(pl.Int64), pl.col(TIME).cast(pl.Int64) // TICK_NS
    is_in_memtable = (host * 7 + tick) % MEMTABLE_SHARE == 0
    piece = pl.when(is_in_memtable).then(RUNS).otherwise((host + tick) % RUNS)
    is_replaced = ~pl.struct(HOST, TIME).is_last_distinct()
    earlier = pl.max_horizontal(piece - 1, 0)
    return keys.select(pl.when(is_replaced).then(earlier).otherwise(piece).alias("piece"))["piece"]


def _make_files(files: int, folder: Path) -> None:
    """Write a year at once, window by window, each into a file of its own however few rows that has."""
    backfill.FILE_ROWS_MIN = 1
    rows = tsbs_cpu_table(YEAR_HOSTS, YEAR_HOURS, interval="60s")
    window = f"{round(YEAR_HOURS * 3_600 / files)}s"
    settings = {"backfill_size_bytes": 1, "compaction_mode": "manual"}
    with mitoframe.open(folder, sync="never", **settings) as database:
        database.write(rows, "cpu", time=TIME, tags=TAGS, options={"compaction_window": window})
        found = len(database["cpu"].files())
    assert files <= found <= files * 1.2, found


def _make_fourfold(rows: Path, folder: Path) -> None:
    final = pl.scan_parquet(rows)
    first, last = final.select(pl.col(TIME).min().alias("first"), pl.col(TIME).max().alias("last")).collect().row(0)
    span = last - first + timedelta(seconds=10)
    with mitoframe.open(folder, sync="never", backfill_size_bytes=1) as database:
        for number in range(FOURFOLD):
            later = final.with_columns(pl.col(TIME) + span * number)
            database.write(later, "cpu", time=TIME, tags=TAGS, options=OPTIONS)
        database.engine.drain()
        database["cpu"].compact(strict=True)


def _batches(deliveries: Path) -> Iterator[pa.Table]:
    with pa.memory_map(str(deliveries)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(number)])
