"""Merges in real worker processes: the same rows as here, whatever there is to merge and whoever is killed."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from builders import batch_of, create, delete, metadata_of, open_engine, put, read
from gates import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

import mitoframe as mito
from mitoframe.drivers.compactor_processes import ProcessCompactor
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.engine.engine import MitoEngine
from mitoframe.model.errors import UnavailableError
from mitoframe.model.ids import RegionId, region_id
from mitoframe.model.request import CompactRequest
from mitoframe.registry import merging_command
from mitoframe.storage.paths import sst_folder, sst_key

HOUR = 3_600_000
EVERYTHING = ("host", "ts", "cpu", "__sequence")
EXAMPLES = 300 if os.environ.get("MITOFRAME_NIGHTLY") else 12
KILLED_WHEN_STORED = """
import os, sys
from mitoframe.failpoints import watching
from mitoframe.registry import merge_for_others

def die(name):
    if name == "compact.sst_stored" and os.path.exists(sys.argv[2]):
        os.unlink(sys.argv[2])
        os.kill(os.getpid(), 9)

with watching(die):
    merge_for_others(sys.argv[1])
"""


OWNER = """
import sys
import datetime as dt
import polars as pl
import mitoframe as mito
from mitoframe import registry

folder, stored, worker = sys.argv[1:]
registry.merging_command = lambda root: (sys.executable, "-c", worker, root, stored)
db = mito.open(folder, compaction_runner="processes", compaction_trigger_files=100)
for load in (1.0, 2.0):
    frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "load": [load]})
    db.write(frame, "cpu", time="ts", tags=["host"])
    db["cpu"].flush()
db["cpu"].compact()
"""
WAITS_WHEN_STORED = """
import os, sys, time
from mitoframe.failpoints import watching
from mitoframe.registry import merge_for_others

def wait(name):
    if name == "compact.sst_stored":
        with open(sys.argv[2], "w") as stored:
            stored.write(str(os.getpid()))
        while os.path.exists(sys.argv[2]):
            time.sleep(0.01)

with watching(wait):
    merge_for_others(sys.argv[1])
"""


class NamingCompactor(ProcessCompactor):
    """Remembers how many jobs it got, and what outputs it was to make."""

    def __init__(self, command) -> None:
        super().__init__(command)
        self.jobs = 0
        self.names: set[str] = set()

    def submit(self, job):
        self.jobs += 1
        self.names.update(job.output_ids)
        super().submit(job)


@dataclass(kw_only=True)
class Twins:
    """Two engines that are to have the same rows: one merges in another process, one here."""

    elsewhere: MitoEngine
    here: MitoEngine
    compactor: NamingCompactor
    regions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def both(self) -> tuple[MitoEngine, MitoEngine]:
        return self.elsewhere, self.here


@contextmanager
def twins(folder: str, command: tuple[str, ...]) -> Iterator[Twins]:
    quiet = {"compaction_trigger_files": 1000, "row_group_rows": 4}
    compactor = NamingCompactor(command)
    elsewhere = open_engine(LocalObjectStore(OsVfs(folder)), compactor=compactor, **quiet)
    here = open_engine(MemoryObjectStore(), **quiet)
    try:
        yield Twins(elsewhere=elsewhere, here=here, compactor=compactor)
    finally:
        compactor.close()
        for engine in (elsewhere, here):
            engine.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("store"))
    with twins(folder, merging_command(folder)) as pair:
        yield pair


rows = st.lists(
    st.tuples(st.sampled_from([put, put, put, delete]), st.integers(0, 7), st.sampled_from(["a", "b", None])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=EXAMPLES)
@given(
    parts=st.lists(rows, min_size=2, max_size=5),
    dedup=st.sampled_from(["last", "merge"]),
    mode=st.sampled_from(["all", "strict"]),
    size_bytes=st.sampled_from([1, 2000, 10**9]),
)
def test_what_is_merged_elsewhere_is_what_is_merged_here(pair, parts, dedup, mode, size_bytes):
    region = region_id(next(pair.regions), 0)
    metadata, jobs = metadata_of(region=region), pair.compactor.jobs
    for engine in pair.both():
        create(engine, metadata, dedup=dedup, sst_size_bytes=size_bytes, compaction_window_ms=HOUR)
        for part in parts:
            written = [make(0, hour * HOUR // 3, host) for make, hour, host in part]
            engine.write(region, batch_of(metadata, written))
            engine.flush(region)

    results = [engine.compact(region, CompactRequest(mode=mode)) for engine in pair.both()]

    assert pair.compactor.jobs - jobs == results[0].merges == results[1].merges
    assert {file.file_id for file in results[0].added} <= pair.compactor.names
    assert described(pair.elsewhere, region) == described(pair.here, region)
    seen = [read(engine, region, columns=EVERYTHING) for engine in pair.both()]
    assert seen[0] == seen[1]


def described(engine: MitoEngine, region: RegionId) -> list[tuple[int, ...]]:
    return sorted(
        (
            file.level,
            file.min_time,
            file.max_time,
            file.min_sequence,
            file.max_sequence,
            file.row_count,
            file.delete_count,
        )
        for file in engine.region(region).state.files.values()
    )


def test_a_worker_that_is_killed_with_its_outputs_stored_changes_nothing_and_the_next_one_does_it(tmp_path):
    armed, region = tmp_path / "armed", region_id(1, 0)
    folder, metadata = str(tmp_path / "store"), metadata_of(region=region_id(1, 0))
    with twins(folder, (sys.executable, "-c", KILLED_WHEN_STORED, folder, str(armed))) as pair:
        engine, store = pair.elsewhere, pair.elsewhere.store
        create(engine, metadata, compaction_window_ms=HOUR)
        for cpu in (1, 2):
            engine.write(region, batch_of(metadata, [put(0, 1, cpu=cpu)]))
            engine.flush(region)
        before = dict(engine.region(region).state.files)
        armed.touch()

        with pytest.raises(UnavailableError, match=r"ended \(exit code -9\)"):
            engine.compact(region)

        assert not armed.exists()
        assert engine.region(region).state.files == before
        assert {item.key for item in store.list(sst_folder(region))} == {sst_key(region, file_id) for file_id in before}
        assert len(engine.compact(region).removed) == 2
        assert read(engine, region, columns=("cpu",)) == [(2,)]
        assert pair.compactor.jobs == 2


def test_after_the_process_that_has_the_store_was_killed_the_worker_ends_and_what_it_stored_is_collected(tmp_path):
    folder, stored = tmp_path / "store", tmp_path / "stored"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder), str(stored), WAITS_WHEN_STORED])
    wait_until(lambda: stored.exists() and stored.read_text() != "", patience_seconds=60)
    worker_id = int(stored.read_text())

    owner.kill()
    owner.wait()
    with mito.open(folder, gc_grace_ms=0, gc_unknown_grace_ms=0, compaction_mode="manual") as db:
        cpu = db["cpu"]
        sst = folder / sst_folder(cpu.region_id)
        assert (len(list(sst.iterdir())), cpu.files().height) == (3, 2)
        stored.unlink()
        wait_until(lambda: not Path(f"/proc/{worker_id}").exists(), patience_seconds=60)

        assert cpu.scan().collect()["load"].to_list() == [2.0]
        cpu.vacuum()

        assert len(list(sst.iterdir())) == 2
        assert len(cpu.compact().removed) == 2


def frame_of(load: float) -> pl.DataFrame:
    return pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "load": [load]})


def test_a_store_in_a_folder_merges_in_processes_if_it_is_to(tmp_path):
    with mito.open(tmp_path, compaction_runner="processes", compaction_trigger_files=100) as db:
        for load in (1.0, 2.0):
            db.write(frame_of(load), "cpu", time="ts", tags=["host"])
            db["cpu"].flush()
        compactor = db.engine._parts.compactor
        assert isinstance(compactor, ProcessCompactor)

        assert len(db["cpu"].compact().removed) == 2
        assert len(compactor._idle) == 1  # It was not done here.
        [worker] = compactor._idle

    assert worker._process.returncode == 0  # It was told to end, and did.
    with mito.open(tmp_path) as db:
        assert db["cpu"].scan().collect()["load"].to_list() == [2.0]
        assert db["cpu"].files()["level"].to_list() == [1]


@pytest.mark.parametrize("is_littered", [True, False])
def test_what_a_killed_worker_may_have_left_is_removed_at_the_next_opening(tmp_path, is_littered):
    with mito.open(tmp_path, compaction_runner="processes") as db:
        db.write(frame_of(1.0), "cpu", time="ts", tags=["host"])
        db["cpu"].flush()
        folder = tmp_path / sst_folder(db["cpu"].region_id)
        left = folder / f"x.parquet.{'0' * 32}.tmp"
        left.touch()
        db.engine._parts.compactor.left_litter = is_littered

    mito.open(tmp_path).close()

    assert left.exists() != is_littered


def test_what_is_in_this_process_only_cannot_be_merged_in_another():
    with pytest.raises(mito.ConfigError, match='open a folder, or leave compaction_runner at "local"'):
        mito.open("memory://", compaction_runner="processes")
