"""Whatever is wrong with a call, a folder or a file: one typed error names it, and nothing that was stored is hurt."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mitoframe as mito
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.registry import connect_vfs
from mitoframe.testing.vfs_faults import ErrorVfs, Fault, Operation

START = datetime(2024, 1, 1)
GOOD = pl.DataFrame({"ts": [START], "host": ["a"], "load": [0.5]})


@pytest.fixture
def database() -> Iterator[mito.Database]:
    """One table ``cpu`` with one row."""
    with mito.open("memory://") as opened:
        opened.write(GOOD, "cpu", time="ts", tags=["host"])
        yield opened


def rows_of(opened: mito.Database) -> list[dict[str, Any]]:
    return opened["cpu"].scan().collect().select(GOOD.columns).to_dicts()


def assert_unchanged(opened: mito.Database) -> None:
    assert opened.tables()["name"].to_list() == ["cpu"]
    assert rows_of(opened) == GOOD.to_dicts()


def pandas_frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"ts": pd.to_datetime([START] * 3), "host": ["a"] * 3} | columns)


def latin_1(letters: bytes) -> pa.Array:
    offsets = np.arange(len(letters) + 1, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(letters), [None, pa.py_buffer(offsets), pa.py_buffer(letters)])


# --- rows ----------------------------------------------------------------------------------------------

TIMES_NULL = [START, None, START]
BAD_ROWS: dict[str, tuple[Callable[[], Any], type[mito.MitoError], str]] = {
    "null time": (
        lambda: pl.DataFrame({"ts": TIMES_NULL, "host": ["a"] * 3}),
        mito.InvalidInputError, r"time column 'ts' is null \(NaT\) in row 1; drop or fill",
    ),
    "NaT": (
        lambda: pandas_frame(ts=pd.to_datetime([START, START, None])),
        mito.InvalidInputError, r"time column 'ts' is null \(NaT\) in row 2; drop or fill",
    ),
    "time out of range": (
        lambda: pa.table({"ts": pa.array([0, 2**63 - 1]).view(pa.timestamp("us")), "host": ["a", "a"]}),
        mito.InvalidInputError, "time in row 1 of 'ts' is out of range",
    ),
    "time that is text": (
        lambda: pl.DataFrame({"ts": ["2024"], "host": ["a"]}),
        mito.SchemaMismatchError, "time column 'ts' is .*convert it",
    ),
    "column twice": (
        lambda: pd.DataFrame([[START, "a", 1.0, 2.0]], columns=["ts", "host", "load", "load"]),
        mito.InvalidInputError, "'load' appears twice; drop or rename",
    ),
    "column name no string": (
        lambda: pandas_frame().assign(load=1.0).rename(columns={"load": 7}),
        mito.InvalidInputError, "column name 7 is a int; rename it to a string",
    ),
    "column names in levels": (
        lambda: pd.DataFrame([[START, "a"]], columns=pd.MultiIndex.from_tuples([("ts", ""), ("host", "")])),
        mito.InvalidInputError, r"column name \('ts', ''\) is a tuple; rename it to a string",
    ),
    "column name no text": (
        lambda: pandas_frame().set_axis(pd.Index(["ts", "\ud800"], dtype=object), axis=1),
        mito.InvalidInputError, r"'\\ud800' has no UTF-8 form; rename it",
    ),
    "no columns in pandas": (
        lambda: pd.DataFrame(index=range(3)), mito.InvalidInputError, "(tag column 'host' is missing|no column 'ts')",
    ),
    "no columns in Polars": (
        pl.DataFrame, mito.InvalidInputError, "(tag column 'host' is missing|no column 'ts')",
    ),
    "no columns in Arrow": (
        lambda: pa.table({}), mito.InvalidInputError, "(tag column 'host' is missing|no column 'ts')",
    ),
    "no columns in a lazy frame": (
        pl.LazyFrame, mito.InvalidInputError, "(tag column 'host' is missing|no column 'ts')",
    ),
    "column twice in Arrow": (
        lambda: pa.Table.from_arrays([pa.nulls(1)] * 2, names=["load", "load"]),
        mito.InvalidInputError, "'load' appears twice; drop or rename",
    ),
    "column name no text in Arrow": (
        lambda: pa.Table.from_arrays([pa.nulls(1)], schema=pa.schema([pa.field(b"\xff", pa.null())])),
        mito.InvalidInputError, r"the column name b'\\xff' is not UTF-8; rename it",
    ),
    "index level without a name": (
        lambda: pd.DataFrame({"load": [1.0]}, index=pd.MultiIndex.from_tuples([(START, "a")], names=["ts", None])),
        mito.InvalidInputError, "no column 'host', and level 1 of the index has no name; name the levels",
    ),
    "index of another name": (
        lambda: pandas_frame().set_index("ts").rename_axis("date"),
        mito.InvalidInputError, "no column 'ts', and the index is called 'date'; give time='date', or",
    ),
    "text and bytes": (
        lambda: pandas_frame(host=pd.Series(["a", b"a", "a"], dtype=object)),
        mito.InvalidInputError, r"column 'host' mixes types: bytes after text \(first seen in row 1\)",
    ),
    "text that is not UTF-8": (
        lambda: pa.table({"ts": pa.array([0, 1], pa.timestamp("us")), "host": latin_1(b"a\xe9")}),
        mito.InvalidInputError, "column 'host' in row 1 holds text that is not UTF-8; decode it first",
    ),
    "mixed zones": (
        lambda: pandas_frame(ts=pd.Series([START, pd.Timestamp(START, tz="UTC"), START], dtype=object)),
        mito.InvalidInputError, "column 'ts' mixes time zones: row 1 has UTC, rows before it None",
    ),
    "reserved column name": (
        lambda: GOOD.with_columns(pl.lit(1).alias("__sequence")),
        mito.InvalidInputError, "'__sequence' starts with two underscores",
    ),
    "unknown column": (
        lambda: GOOD.rename({"load": "laod"}),
        mito.SchemaMismatchError, "no column 'laod'; did you mean 'load'.*Drop it, or add it",
    ),
    "tag missing": (
        lambda: GOOD.drop("host"),
        mito.SchemaMismatchError, "tag column 'host' is missing; it is part of the table's key",
    ),
    "time missing": (
        lambda: GOOD.drop("ts"), mito.SchemaMismatchError, "time column 'ts' is missing",
    ),
    "mixed objects": (
        lambda: pandas_frame(load=pd.Series([0.5, "x", 1.5], dtype=object)),
        mito.InvalidInputError, r"column 'load' mixes types: text after numbers .*row 1\)",
    ),
    "lossy cast": (
        lambda: GOOD.with_columns(pl.lit(2**53 + 1).alias("load")),
        mito.InvalidInputError, "column 'load' in row 0 cannot be kept as float64 without loss",
    ),
    "no Arrow": (lambda: [GOOD], mito.InvalidInputError, "cannot write a list; give a pandas or Polars DataFrame"),
    "polars object column": (
        lambda: GOOD.with_columns(pl.Series("load", [object()], dtype=pl.Object)),
        mito.InvalidInputError, "column 'load' has type Object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_refused_whole_and_earlier_rows_stay(database: mito.Database, name: str) -> None:
    make, error, message = BAD_ROWS[name]

    with pytest.raises(error, match=message):
        database["cpu"].write(make())

    assert_unchanged(database)


@pytest.mark.parametrize("name", sorted(BAD_ROWS.keys() - {"unknown column", "lossy cast", "column name no string"}))
def test_a_first_write_of_bad_rows_makes_no_table(database: mito.Database, name: str) -> None:
    make, _, _ = BAD_ROWS[name]

    with pytest.raises(mito.InvalidInputError):
        database.write(make(), "fresh", time="ts", tags=["host"])

    assert_unchanged(database)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "table 'fresh' is new; say which column is the time"),
        ({"time": "tss"}, "time='tss': no column 'tss'; did you mean 'ts'"),
        ({"time": "ts", "tags": ["hots"]}, "tag='hots': no column 'hots'; did you mean 'host'"),
        ({"time": "ts", "tags": "host"}, r"tags='host' is a string; give a list, such as tags=\['host'\]"),
        ({"time": "ts", "tags": ["ts"]}, "'ts' is both the time and a tag"),
        ({"time": "ts", "tags": ["host", "host"]}, "names a column twice"),
        (
            {"time": "ts", "tags": ["load"]},
            "tag column 'load' has type double; a tag is a string, integer, bool or date",
        ),
        ({"time": "load"}, "time column 'load' has type double; it must be a timestamp"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_name(
    database: mito.Database, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(mito.InvalidInputError, match=message):
        database.write(GOOD, "fresh", **arguments)

    assert_unchanged(database)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": "load"}, "table 'cpu' has the time column 'ts', not 'load'"),
        ({"tags": []}, r"table 'cpu' has the tags \['host'\], not \[\]"),
        ({"tags": ["load"]}, r"table 'cpu' has the tags \['host'\], not \['load'\]"),
        ({"tags": "host"}, r"tags='host' is a string; give a list"),
    ],
)
def test_a_second_write_cannot_change_the_key(database: mito.Database, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(mito.InvalidInputError, match=message):
        database.write(GOOD, "cpu", **arguments)

    assert_unchanged(database)


@pytest.mark.parametrize(
    "name", ["", "a\0b", "../cpu", "/etc/passwd", "..", "a/b", "a\\b", "x" * 256, " cpu", "\u202ecpu", 7]
)
def test_a_name_that_cannot_be_kept_makes_nothing(database: mito.Database, name: Any) -> None:
    with pytest.raises(mito.InvalidInputError, match="table name"):
        database.write(GOOD, name, time="ts", tags=["host"])
    with pytest.raises(mito.InvalidInputError, match="table name"):
        database.create_table(name, {"ts": pl.Datetime("us")}, time="ts")

    assert_unchanged(database)


@pytest.mark.parametrize("name", ["CON", "-rf", "cpu; drop table", "пример", "cpu 'load'", "nul.parquet", "%2e%2e"])
def test_a_name_is_a_value_and_never_a_path(tmp_path: Path, name: str) -> None:
    with mito.open(tmp_path / "store") as opened:
        opened.write(GOOD, name, time="ts")
        opened[name].flush()

        assert opened.tables()["name"].to_list() == [name]
    assert not [path for path in tmp_path.rglob("*") if name in path.name]


# --- questions -----------------------------------------------------------------------------------------

BAD_SCANS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"columns": ["lod"]}, mito.InvalidInputError, "no column 'lod'; did you mean 'load'"),
    ({"columns": ["load", "load"]}, mito.InvalidInputError, "names a column twice"),
    (
        {"columns": "load"},
        mito.InvalidInputError,
        r"columns='load' is a string; give a list, such as columns=\['load'\]",
    ),
    ({"where": pl.col("hots") == "a"}, mito.InvalidInputError, "no column 'hots'; did you mean 'host'"),
    ({"where": "host = 'a'"}, mito.InvalidInputError, "where is a str; give a Polars expression"),
    ({"start": "2025", "end": "2024-01-01"}, mito.InvalidInputError, "start='2025' is not ISO 8601"),
    ({"start": "2025-01-01", "end": "2024-01-01"}, mito.InvalidInputError, "is after end='2024-01-01'; swap them"),
    ({"start": "2024-01-01T00:00+01:00"}, mito.InvalidInputError, "has a zone, the time column has none"),
    ({"start": 2**70}, mito.InvalidInputError, "does not fit a time in us"),
    ({"start": 1.5}, mito.InvalidInputError, "start is a float; give ISO text"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_SCANS, ids=lambda value: str(value)[:40])
def test_a_scan_that_cannot_be_is_refused_before_it_reads(
    database: mito.Database, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        database["cpu"].scan(**arguments)


def test_a_table_that_is_not_there_is_named_with_the_nearest(database: mito.Database) -> None:
    with pytest.raises(mito.TableNotFoundError, match="no table 'cpuu'; did you mean 'cpu'"):
        database["cpuu"]


# --- opening -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "w"}, "mode='w' is not one of 'rw', 'r'"),
        ({"snyc": "never"}, "no setting 'snyc'; did you mean 'sync'"),
        ({"sync": "alway"}, "sync='alway' is not one of 'always'"),
        ({"write_buffer_size_bytes": 0}, "write_buffer_size_bytes=0 must be an integer of at least 1"),
        ({"write_buffer_limit_bytes": 1}, "write_buffer_limit_bytes is below write_buffer_size_bytes"),
        ({"config": mito.MitoConfig(), "sync": "never"}, "give either config= or single settings"),
        ({"config": {"sync": "never"}}, "config is a dict; give a MitoConfig"),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_makes_no_folder(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(mito.ConfigError, match=message):
        mito.open(tmp_path / "store", **arguments)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["s3://bucket/store", "gs://x", "http://x"])
def test_a_url_without_a_driver_says_so(url: str) -> None:
    with pytest.raises(mito.ConfigError, match=f"no driver for {url.partition(':')[0]}://"):
        mito.open(url)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(mito.InvalidInputError, match="is not a folder; give a path"):
        mito.open(path)


@pytest.mark.parametrize("mode", ["rw", "r"])
@pytest.mark.parametrize("below", [False, True])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, mode: Any, below: bool) -> None:
    file = tmp_path / "file"
    file.write_text("mine")

    with pytest.raises(mito.MitoError, match="file"):
        mito.open(file / "store" if below else file, mode=mode)

    assert file.read_text() == "mine"


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(
        mito.InvalidInputError, match=r"not a store and not empty \(it holds thesis.tex\); choose an empty"
    ):
        mito.open(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("path", ["missing", "."])
def test_there_is_nothing_to_read_where_there_is_no_store(tmp_path: Path, path: str) -> None:
    with pytest.raises(mito.InvalidInputError, match=r'there is no store in .*mode="rw" makes one'):
        mito.open(tmp_path / path, mode="r")

    assert list(tmp_path.iterdir()) == []


def fail_with(number: int) -> Callable[[int, Operation], Fault | None]:
    return lambda _, operation: Fault(number)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_a_folder_that_cannot_be_written_is_told_in_our_words(tmp_path: Path, number: int) -> None:
    with mito.open(tmp_path) as opened:
        opened.write(GOOD, "cpu", time="ts", tags=["host"])
    vfs = ErrorVfs(OsVfs(tmp_path), fail_with(number))

    with pytest.raises(mito.UnavailableError) as caught:
        connect_vfs(vfs, "rw", mito.MitoConfig())

    assert str(tmp_path) in str(caught.value) or os.strerror(number) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    with mito.open(tmp_path) as opened:
        assert_unchanged(opened)


def test_a_store_of_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    with mito.open(tmp_path):
        pass
    file = tmp_path / "mitoframe.json"
    newer = file.read_text().replace('"format": 1', '"format": 2')
    file.chmod(0o600)
    file.write_text(newer)

    for mode in ("rw", "r"):
        with pytest.raises(mito.ConfigError, match="the store has format 2, this mitoframe knows 1; update mitoframe"):
            mito.open(tmp_path, mode=mode)  # type: ignore[arg-type]

    assert file.read_text() == newer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "not json",
        '{"format": "1", "store_id": "00000000000000000000000000000000"}',
        '{"format": true, "store_id": "00000000000000000000000000000000"}',
        '{"format": 0, "store_id": "00000000000000000000000000000000"}',
        '{"format": 1, "store_id": "0"}',
        '{"format": 1, "store_id": 7}',
    ],
)
def test_a_store_file_that_is_not_ours_is_corruption(tmp_path: Path, text: str) -> None:
    with mito.open(tmp_path):
        pass
    (tmp_path / "mitoframe.json").write_text(text)

    for mode in ("rw", "r"):
        with pytest.raises(mito.CorruptionError, match=r"mitoframe\.json"):
            mito.open(tmp_path, mode=mode)  # type: ignore[arg-type]


# --- handles -------------------------------------------------------------------------------------------


def test_a_closed_handle_says_so_for_everything() -> None:
    opened = mito.open("memory://")
    opened.write(GOOD, "cpu", time="ts", tags=["host"])
    table, scan = opened["cpu"], opened.scan("cpu")
    opened.close()

    uses: list[Callable[[], object]] = [
        lambda: opened["cpu"], lambda: "cpu" in opened, opened.tables, lambda: opened.scan("cpu"),
        lambda: opened.write(GOOD, "cpu"), lambda: opened.create_table("x", {"ts": pl.Datetime}, time="ts"),
        lambda: table.write(GOOD), table.flush, table.compact, table.vacuum, table.files, table.scan,
        scan.collect, scan.count, scan.to_arrow, scan.to_pandas, scan.explain,
        lambda: scan.to_polars().collect(),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(mito.ClosedError, match="was closed; open"):
            use()
    assert "closed" in repr(opened)
    opened.close()


def test_a_store_opened_for_reading_refuses_every_change(tmp_path: Path) -> None:
    with mito.open(tmp_path) as writer:
        writer.write(GOOD, "cpu", time="ts", tags=["host"])
    with mito.open(tmp_path, mode="r") as reader:
        table = reader["cpu"]
        changes: list[Callable[[], object]] = [
            lambda: reader.write(GOOD, "cpu"), lambda: reader.write(GOOD, "new", time="ts"),
            lambda: reader.create_table("x", {"ts": pl.Datetime("us")}, time="ts"),
            lambda: table.write(GOOD), table.flush, table.compact, table.vacuum,
        ]  # fmt: skip
        for change in changes:
            with pytest.raises(mito.ReadOnlyError, match='mode="rw"'):
                change()
        assert_unchanged(reader)


def child(program: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    prelude = "import sys, os, signal, datetime as dt\nimport polars as pl\nimport mitoframe as mito\n"
    prelude += "GOOD = pl.DataFrame({'ts': [dt.datetime(2024, 1, 1)], 'host': ['a'], 'load': [0.5]})\n"
    command = [sys.executable, "-c", prelude + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, **options)


HOLD = """
db = mito.open(sys.argv[1])
db.write(GOOD, "cpu", time="ts", tags=["host"])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_writer_is_told_who_writes_and_readers_get_in_until_the_first_is_killed(tmp_path: Path) -> None:
    holder = child(HOLD, tmp_path)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"

        with pytest.raises(
            mito.StoreLockedError, match=rf"open for writing by process {holder.pid} on .* since 2"
        ) as caught:
            mito.open(tmp_path)
        assert caught.value.pid == holder.pid

        # The row is acknowledged and in no file: the reader finds it in the log.
        assert not list(tmp_path.rglob("*.parquet"))
        with mito.open(tmp_path, mode="r") as reader:
            assert_unchanged(reader)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()

    with mito.open(tmp_path) as opened:
        assert_unchanged(opened)


FORK = """
db = mito.open(sys.argv[1])
db.write(GOOD, "cpu", time="ts", tags=["host"])
table, scan = db["cpu"], db.scan("cpu")
uses = [lambda: db.write(GOOD, "cpu"), lambda: table.write(GOOD), table.flush, lambda: db["cpu"], scan.count, db.tables]
child = os.fork()
if child == 0:
    seen = []
    for use in uses:
        try:
            use()
            seen.append("no error")
        except mito.ClosedError as error:
            seen.append("" if "before a fork; open it again" in str(error) else str(error))
    db.close()
    if any(seen):
        print(seen, flush=True)
    # Polars cannot run in a forked child; without it the store can be opened anew.
    # Ending the child in good order does not end the parent's store.
    with mito.open(sys.argv[1], mode="r") as again:
        print("cpu" in again, flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
db.write(GOOD.with_columns(host=pl.lit("b")), "cpu")
print(scan.count(), flush=True)
db.close()
"""


def test_a_forked_child_cannot_use_its_parents_handle_and_does_the_parent_no_harm(tmp_path: Path) -> None:
    with child(FORK, tmp_path) as parent:
        try:
            output, _ = parent.communicate(timeout=30)
        finally:
            parent.kill()

    assert (parent.returncode, output) == (0, "True\n2\n")
    with mito.open(tmp_path) as opened:
        assert opened["cpu"].scan().count() == 2


# --- damage --------------------------------------------------------------------------------------------


def store_with(tmp_path: Path, *, flushed: bool) -> Path:
    folder = tmp_path / "store"
    with mito.open(folder, flush_on_close=False) as opened:
        opened.write(GOOD, "cpu", time="ts", tags=["host"])
        if flushed:
            opened["cpu"].flush()
    return folder


@pytest.mark.parametrize(("pattern", "flushed"), [("*.wal", False), ("*.json", True), ("*.parquet", True)])
def test_flipped_and_missing_bytes_are_told_or_harmless(tmp_path: Path, pattern: str, flushed: bool) -> None:
    folder = store_with(tmp_path, flushed=flushed)
    [*files] = [path for path in sorted(folder.rglob(pattern)) if path.name != "writer.json"]
    assert files
    told = 0
    for path in files:
        whole = path.read_bytes()
        path.chmod(0o600)
        for damaged in damages(whole):
            path.write_bytes(damaged)
            told += is_told_or_right(folder, allow_loss=pattern == "*.wal" and whole.startswith(damaged))
        path.write_bytes(whole)
    assert told
    with mito.open(folder, mode="r") as opened:
        assert_unchanged(opened)


def damages(whole: bytes) -> Iterator[bytes]:
    """Flip a bit, or cut, at a sample of places: the first and last bytes and some between."""
    places = sorted({0, 1, 5, 9, 17, *np.linspace(0, len(whole) - 1, 9).astype(int).tolist(), len(whole) - 1})
    for place in places:
        yield whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        yield whole[:place]


def is_told_or_right(folder: Path, *, allow_loss: bool) -> bool:
    """Read the store without changing it. A log that is cut looks like one that a crash cut short."""
    try:
        with mito.open(folder, mode="r") as opened:
            found = rows_of(opened)
    except (mito.CorruptionError, mito.DamageWarning) as error:
        return folder.name in str(error) or ".json" in str(error) or ".parquet" in str(error)
    assert found == GOOD.to_dicts() or (allow_loss and found == [])
    return False
