"""Handles: one engine per store and process, the default store, and every way a store is let go."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

import mitoframe as mito
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.registry import connect_vfs
from mitoframe.testing.vfs_faults import TraceVfs

START = datetime(2024, 1, 1)


def frame(host: str = "a", load: float = 0.5) -> pl.DataFrame:
    return pl.DataFrame({"ts": [START], "host": [host], "load": [load]})


def write(database: mito.Database, host: str = "a", load: float = 0.5) -> mito.WriteResult:
    return database.write(frame(host, load), "cpu", time="ts", tags=["host"])


@pytest.fixture
def memory() -> Iterator[mito.Database]:
    with mito.open("memory://") as database:
        yield database


def test_a_store_opened_twice_is_one_store_and_closing_one_handle_keeps_the_other(tmp_path: Path) -> None:
    first, second = mito.open(tmp_path), mito.open(f"{tmp_path}/../{tmp_path.name}/")
    write(first)
    assert second["cpu"].scan().count() == 1

    first.close()

    write(second, "b")
    assert second["cpu"].scan().count() == 2
    second.close()
    with mito.open(tmp_path) as again:
        assert again["cpu"].scan().count() == 2


def test_a_table_that_another_handle_dropped_is_made_anew_by_the_next_write(tmp_path: Path) -> None:
    with mito.open(tmp_path) as first, mito.open(tmp_path) as second:
        write(first)
        write(first, "b")

        second.drop_table("cpu")

        assert write(first).created
        assert not write(first, "c").created
        assert second["cpu"].scan().count() == 2


def test_a_table_that_was_written_to_is_not_looked_up_again(memory: mito.Database, monkeypatch) -> None:
    write(memory)
    write(memory)
    monkeypatch.setattr(type(memory._shared.connection.catalog), "find", lambda *_: pytest.fail("looked up"))

    assert write(memory, "b").rows == 1


def test_what_a_closed_handle_gave_away_is_closed_also_while_another_is_open(tmp_path: Path) -> None:
    with mito.open(tmp_path), mito.open(tmp_path) as closed:
        write(closed)
        table, scan = closed["cpu"], closed.scan("cpu")
        lazy = scan.to_polars()
        table.flush()
        closed.close()

        for use in (lambda: table.schema, table.files, scan.count, scan.to_polars, lazy.collect):
            with pytest.raises(mito.ClosedError, match=r"this handle on .* was closed"):
                use()


def test_a_reader_in_the_writing_process_sees_each_write_at_once_and_changes_nothing(tmp_path: Path) -> None:
    with mito.open(tmp_path) as writer:
        write(writer)
        with mito.open(tmp_path, mode="r") as reader:
            write(writer, "b")

            assert reader["cpu"].scan().count() == 2
            with pytest.raises(mito.ReadOnlyError):
                write(reader)
        assert writer["cpu"].scan().count() == 2


def test_a_writer_can_be_opened_beside_a_reader_and_both_work(tmp_path: Path) -> None:
    with mito.open(tmp_path) as writer:
        write(writer)
    with mito.open(tmp_path, mode="r") as reader:
        with mito.open(tmp_path) as writer:
            write(writer, "b")
            assert reader["cpu"].scan().count() == 2
        assert reader["cpu"].scan().count() == 2


def test_two_memory_stores_are_two_and_a_named_one_is_shared() -> None:
    with mito.open("memory://") as first, mito.open("memory://") as second:
        write(first)
        assert "cpu" not in second
    with mito.open("memory://shared") as first, mito.open("memory://shared") as second:
        write(first)
        assert "cpu" in second


def test_the_default_store_is_the_one_opened_last_that_is_still_open() -> None:
    with mito.open("memory://") as outer:
        with mito.open("memory://") as inner:
            mito.write(frame(), "cpu", time="ts", tags=["host"])
            assert "cpu" in inner
            assert "cpu" not in outer
        mito.write(frame("b"), "cpu", time="ts", tags=["host"])
        assert mito.scan("cpu").collect()["host"].to_list() == ["b"]


def test_without_an_open_store_the_default_says_what_to_do() -> None:
    for use in (lambda: mito.write(frame(), "cpu", time="ts"), lambda: mito.scan("cpu")):
        with pytest.raises(mito.ClosedError, match=r'no store is open; call mitoframe.open\("folder"\) first'):
            use()


def test_a_with_block_closes_also_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="mine"), mito.open("memory://") as database:
        raise RuntimeError("mine")

    assert database.closed


def test_closing_writes_plain_parquet(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        write(database)

    [file] = tmp_path.rglob("*.parquet")
    assert pl.read_parquet(file)["host"].to_list() == ["a"]


def test_a_process_that_never_closes_leaves_its_rows_in_parquet(tmp_path: Path) -> None:
    program = (
        "import sys, datetime as dt, polars as pl, mitoframe as mito\n"
        "db = mito.open(sys.argv[1])\n"
        "frame = pl.DataFrame({'ts': [dt.datetime(2024, 1, 1)], 'host': ['a']})\n"
        "db.write(frame, 'cpu', time='ts', tags=['host'])\n"
    )

    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    [file] = tmp_path.rglob("*.parquet")
    assert pl.read_parquet(file)["host"].to_list() == ["a"]
    assert not (tmp_path / "writer.json").exists()


def test_threads_that_open_and_close_one_store_at_once_share_it(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        write(database)
    errors: list[BaseException] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        try:
            for _ in range(5):
                barrier.wait()
                with mito.open(tmp_path) as own:
                    assert own["cpu"].scan().count() == 1
        except BaseException as error:  # noqa: BLE001 - told below
            barrier.abort()
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_a_store_that_is_open_cannot_be_opened_with_other_settings(tmp_path: Path) -> None:
    with mito.open(tmp_path, sync="never"), mito.open(tmp_path, sync="never"), mito.open(tmp_path):
        with pytest.raises(mito.ConfigError, match="open already in this process, with other settings"):
            mito.open(tmp_path, sync="always")
        with pytest.raises(mito.ConfigError, match="did you mean 'sync'"):
            mito.open(tmp_path, snyc="always")


def test_a_closed_store_is_kept_by_nobody() -> None:
    database = mito.open("memory://")
    engine = weakref.ref(database._shared.connection.engine)
    database.close()

    del database
    gc.collect()

    assert engine() is None


def test_a_clean_open_and_close_syncs_little_and_writes_only_who_holds_the_store(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        write(database)
    traced = TraceVfs(OsVfs(tmp_path))

    connection = connect_vfs(traced, "rw", mito.MitoConfig())
    connection.engine.region(connection.catalog.get("cpu").regions[0])
    connection.close()

    kinds = [operation.kind for operation in traced.operations]
    written = {operation.path for operation in traced.operations if operation.kind in ("create", "write")}
    assert written == {"writer.json.tmp"}
    assert kinds.count("sync") + kinds.count("sync_dir") <= 3


def test_only_a_writer_that_follows_a_crash_looks_through_all_folders(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        write(database)
    leftover = next(tmp_path.rglob("*.parquet")).with_suffix(f".parquet.{32 * 'a'}.tmp")
    leftover.touch()

    with mito.open(tmp_path):
        assert leftover.exists()
    (tmp_path / "writer.json").write_text("{")
    with mito.open(tmp_path) as database:
        assert not leftover.exists()
        assert database["cpu"].scan().count() == 1


def test_tables_are_listed_with_their_keys(memory: mito.Database) -> None:
    memory.create_table("b", {"ts": pl.Datetime("ms"), "host": pl.String}, time="ts", tags=["host"])
    write(memory)

    assert memory.tables().to_dicts() == [
        {"name": "b", "time": "ts", "tags": ["host"], "fields": 0},
        {"name": "cpu", "time": "ts", "tags": ["host"], "fields": 1},
    ]


def test_a_name_that_is_taken_is_refused(memory: mito.Database) -> None:
    write(memory)

    with pytest.raises(mito.TableExistsError, match="table 'cpu' already"):
        memory.create_table("cpu", {"ts": pl.Datetime("ms")}, time="ts")
    with pytest.raises(mito.TableExistsError, match="differs only by case"):
        memory.write(frame(), "CPU", time="ts")


@pytest.mark.parametrize("schema", [{"ts": "datetime"}, {"ts": 7}, [("ts", object)], 5])
def test_a_schema_that_is_none_is_refused(memory: mito.Database, schema: object) -> None:
    with pytest.raises(mito.InvalidInputError):
        memory.create_table("x", schema, time="ts")  # type: ignore[arg-type]

    assert memory.tables().height == 0


def test_an_unknown_option_is_refused_with_the_near_miss(memory: mito.Database) -> None:
    with pytest.raises(mito.ConfigError, match="no option 'compaction_windows'; did you mean 'compaction_window'"):
        memory.create_table("x", {"ts": pl.Datetime("ms")}, time="ts", options={"compaction_windows": "1h"})

    assert "x" not in memory


def test_a_compaction_window_is_a_duration(memory: mito.Database) -> None:
    memory.create_table("x", {"ts": pl.Datetime("ms")}, time="ts", options={"compaction_window": "1h"})

    with pytest.raises(mito.InvalidInputError, match="compaction_window='1 fortnight' is not a duration"):
        memory.create_table("y", {"ts": pl.Datetime("ms")}, time="ts", options={"compaction_window": "1 fortnight"})


def test_handles_show_what_they_are(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        assert repr(database) == f"store {tmp_path} (rw)"
        assert f"<div>store {tmp_path} (rw)</div>" in database._repr_html_()
    assert repr(database) == f"store {tmp_path} (closed)"


# --- tables come and go -----------------------------------------------------------------------------------------


def test_a_dropped_table_is_gone_and_its_name_is_free(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        write(database)
        table = database["cpu"]
        database.drop_table("cpu")

        assert "cpu" not in database
        with pytest.raises(mito.TableNotFoundError):
            database.drop_table("cpu")
        with pytest.raises(mito.MitoError):
            table.write(frame())
        assert write(database, "b").created
        assert database["cpu"].scan().collect()["host"].to_list() == ["b"]
    with mito.open(tmp_path) as database:
        assert database["cpu"].scan().collect()["host"].to_list() == ["b"]


def test_a_first_write_that_fails_half_way_leaves_no_table(memory: mito.Database, monkeypatch) -> None:
    monkeypatch.setattr("mitoframe.writing.PIECE_ROWS", 2)
    good, bad = frame(), frame().with_columns(ts=pl.lit(None, pl.Datetime("us")))

    with pytest.raises(mito.InvalidInputError, match="row 3"):
        memory.write(pl.concat([good, good, good, bad]), "cpu", time="ts", tags=["host"])

    assert "cpu" not in memory
    assert write(memory).created


def test_options_make_a_table_and_must_be_those_it_has(memory: mito.Database) -> None:
    options = {"dedup": "none", "compaction_window": "1h"}
    for _ in range(2):
        memory.write(frame(), "cpu", time="ts", tags=["host"], options=options)

    assert memory["cpu"].scan().count() == 2
    with pytest.raises(mito.InvalidInputError, match="has dedup='none', not 'last'"):
        memory.write(frame(), "cpu", options={"dedup": "last"})
    with pytest.raises(mito.ConfigError, match="did you mean 'dedup'"):
        memory.write(frame(), "cpu", options={"dedupe": "last"})


@pytest.mark.parametrize(("time", "tags"), [("host", None), (None, []), (None, ["load"]), (None, "host")])
def test_a_write_that_means_another_key_is_refused(memory: mito.Database, time: str | None, tags) -> None:
    write(memory)

    with pytest.raises(mito.InvalidInputError):
        memory.write(frame("b"), "cpu", time=time, tags=tags)

    assert memory["cpu"].scan().count() == 1


def test_a_key_makes_a_write_a_no_op_also_after_opening_again(tmp_path: Path) -> None:
    with mito.open(tmp_path) as database:
        database.write(frame(), "cpu", time="ts", tags=["host"], key="first")
    with mito.open(tmp_path) as database:
        assert database.write(frame("b"), "cpu", key="first").repeated
        assert database["cpu"].scan().collect()["host"].to_list() == ["a"]


def test_a_key_that_cannot_be_one_makes_no_table(memory: mito.Database) -> None:
    with pytest.raises(mito.InvalidInputError, match="cannot name a write"):
        memory.write(frame(), "cpu", time="ts", key="\0")

    assert "cpu" not in memory


def test_rows_without_a_log_are_there_after_closing(tmp_path: Path) -> None:
    with mito.open(tmp_path, flush_on_close=False) as database:
        database.write(frame(), "cpu", time="ts", tags=["host"], options={"wal": "noop"})
    with mito.open(tmp_path) as database:
        assert database["cpu"].scan().count() == 1


def test_health_tells_lanes_and_tables(memory: mito.Database) -> None:
    write(memory)

    found = memory.health()

    assert found["ok"].all()
    assert set(found["kind"]) == {"lane", "table"}
    assert found.filter(pl.col("kind") == "table")["name"].to_list() == ["cpu"]
    assert found.filter(pl.col("name") == "cpu")["buffered_bytes"].item() > 0


def test_what_is_due_is_done_when_asked_for(tmp_path: Path) -> None:
    with mito.open(tmp_path, auto_flush_interval_ms=1, compaction_trigger_files=100) as database:
        write(database)
        time.sleep(0.01)

        database.maintain()

        assert database["cpu"].files().height == 1
