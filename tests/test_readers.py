"""A process that reads and one that writes, really two: what is read stays, and goes when the reader is killed."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.registry import connect_vfs
from mitoframe.testing.vfs_faults import MUTATIONS, ErrorVfs, FailAt

READ = """
import sys
import mitoframe as mito
from mitoframe.model.request import ScanRequest

with mito.open(sys.argv[1], mode="r") as db:
    table = db["cpu"]
    plan = db.engine.plan(table.region_id, ScanRequest(columns=("load",)))
    changes = table.diff(1, 2)
    print("reads", flush=True)
    sys.stdin.readline()
    loads = [load for rows in db.engine.reading.query(plan) for load in rows.column("load").to_pylist()]
    print(loads, changes.collect().height, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def reader(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds a scan and a lazy frame of the store as it is now."""
    command = [sys.executable, "-c", READ, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert said(process) == "reads"
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def rows(load: float) -> pl.DataFrame:
    return pl.DataFrame({"ts": [datetime(2024, 1, 1)], "host": ["a"], "load": [load]})


@pytest.fixture
def db(tmp_path: Path) -> Iterator[mito.Database]:
    with mito.open(tmp_path / "store", compaction_mode="manual") as db:
        for load in (1.0, 2.0):
            db.write(rows(load), "cpu", time="ts", tags=["host"])
            db["cpu"].flush()
        yield db


def parquet_files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.parquet")}


def test_what_a_process_reads_stays_until_it_is_killed(db: mito.Database, tmp_path: Path) -> None:
    folder, cpu = tmp_path / "store", db["cpu"]
    inputs = parquet_files(folder)

    with reader(folder) as process:
        cpu.compact()
        kept = cpu.vacuum(older_than="0s")
        assert (kept.removed, {file.name for file in kept.kept}) == ((), inputs)
        assert kept.readers == (process.pid,)
        assert repr(kept).endswith(f"kept 2 read by process {process.pid}")
        assert len(parquet_files(folder)) == 3

        go_on(process)
        assert said(process) == "[2.0] 2"

        process.send_signal(signal.SIGKILL)
        process.wait()
        gone = cpu.vacuum(older_than="0s")

    assert {f"{file_id}.parquet" for file_id in gone.removed} == inputs
    assert gone.readers == ()
    assert len(parquet_files(folder)) == 1
    assert list((folder / "readers").iterdir()) == []
    assert cpu.scan().collect()["load"].to_list() == [2.0]


def test_a_process_that_ends_in_good_order_leaves_nothing_behind(db: mito.Database, tmp_path: Path) -> None:
    folder = tmp_path / "store"

    with reader(folder) as process:
        assert len(list((folder / "readers").iterdir())) == 2
        go_on(process)
        go_on(process)
        assert process.wait(30) == 0

    assert list((folder / "readers").iterdir()) == []
    db["cpu"].compact()
    assert len(db["cpu"].vacuum(older_than="0s").removed) == 2


def test_a_reader_in_the_writing_process_is_heard_too(db: mito.Database, tmp_path: Path) -> None:
    db.close()
    with mito.open(tmp_path / "store", mode="r") as reading:
        changes = reading["cpu"].diff(1, 2)
        with mito.open(tmp_path / "store") as writing:
            writing["cpu"].compact()

            kept = writing["cpu"].vacuum(older_than="0s")
            assert [file.why for file in kept.kept] == ["reader", "reader"]
            assert changes.collect().height == 2

    with mito.open(tmp_path / "store") as writing:
        assert len(writing["cpu"].vacuum(older_than="0s").removed) == 2


def test_a_store_that_cannot_be_written_is_read_all_the_same(db: mito.Database, tmp_path: Path) -> None:
    folder = tmp_path / "store"

    mounted_to_be_read = ErrorVfs(
        OsVfs(folder), FailAt(1, errno.EROFS, for_ever=True), kinds={*MUTATIONS, "append", "lock"}
    )
    connection = connect_vfs(mounted_to_be_read, "r", mito.MitoConfig())
    try:
        plan = connection.engine.plan(db["cpu"].region_id, mito.ScanRequest(columns=("load",)))
        assert [rows.num_rows for rows in connection.engine.reading.query(plan)] == [1]
        assert not (folder / "readers").exists()
        db["cpu"].compact()
        assert len(db["cpu"].vacuum(older_than="0s").removed) == 2
    finally:
        connection.close()


def test_where_a_file_is_in_the_way_of_the_readers_folder_reading_goes_on(db: mito.Database, tmp_path: Path) -> None:
    (tmp_path / "store" / "readers").write_text("in the way")

    with mito.open(tmp_path / "store", mode="r") as reading:
        assert reading["cpu"].scan().count() == 1

    db["cpu"].compact()
    assert len(db["cpu"].vacuum(older_than="0s").removed) == 2
