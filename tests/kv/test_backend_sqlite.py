"""The SQLite backend: transactions, what is durable, killed writers, failing media, and other processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import mitoframe
from mitoframe import kv
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.model.errors import (
    BusyError,
    ClosedError,
    CorruptionError,
    DiskFullError,
    MitoError,
    UnavailableError,
    UnknownOutcomeError,
)
from mitoframe.model.keyvalue import FROM_KEY, Put

ALL = (b"\0", FROM_KEY)
ROUNDS = 100 if "MITOFRAME_NIGHTLY" in os.environ else 8


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "plant ?#%é.kv")


@pytest.fixture(params=["memory", "file"])
def backend(request: pytest.FixtureRequest, path: str) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend("memory://" if request.param == "memory" else path)) as backend:
        yield backend


# --- transactions --------------------------------------------------------------------------------------


def test_rows_are_put_replaced_deleted_and_scanned_in_order(backend: SqliteBackend) -> None:
    with backend.begin_write() as rows:
        for key in (b"b", b"", b"a", b"c", b"\xff"):
            rows.put("head", key, key * 2)
        rows.put("head", b"a", b"new")
        rows.put("rev", b"a", b"another tree")
        rows.delete("head", b"c")
        rows.delete("head", b"never")
        inside = list(rows.scan("head"))

    with backend.begin_read() as rows:
        assert list(rows.scan("head")) == inside == [(b"", b""), (b"a", b"new"), (b"b", b"bb"), (b"\xff", b"\xff\xff")]
        assert list(rows.scan("head", b"a", b"b")) == [(b"a", b"new")]
        assert [key for key, _ in rows.scan("head", b"a", descending=True)] == [b"\xff", b"b", b"a"]
        assert [key for key, _ in rows.scan("head", b"", b"b", descending=True)] == [b"a", b""]
        assert (rows.get("head", b"b"), rows.get("head", b"c")) == (b"bb", None)


def test_a_transaction_that_raises_leaves_no_trace(backend: SqliteBackend) -> None:
    with backend.begin_write() as rows:
        rows.put("head", b"a", b"1")

    with pytest.raises(ZeroDivisionError), backend.begin_write() as rows:  # noqa: PT012 - what raises is inside
        rows.put("head", b"a", b"2" * 5)
        rows.put("head", b"b", b"2" * (1 // 0))

    with backend.begin_read() as rows:
        assert list(rows.scan("head")) == [(b"a", b"1")]


def test_one_who_reads_sees_what_was_committed_before(path: str) -> None:
    with closing(SqliteBackend(path)) as backend:
        with backend.begin_read() as rows:
            before = list(rows.scan("head"))
            with backend.begin_write() as other:
                other.put("head", b"a", b"1")

            assert list(rows.scan("head")) == before == []
        with backend.begin_read() as rows:
            assert list(rows.scan("head")) == [(b"a", b"1")]


def test_one_who_writes_holds_up_nobody_who_reads(path: str) -> None:
    with closing(SqliteBackend(path)) as backend, backend.begin_write() as rows:
        rows.put("head", b"a", b"1")

        with backend.begin_read() as other:
            assert list(other.scan("head")) == []


def test_writers_wait_for_each_other(path: str) -> None:
    order: list[str] = []

    def write(backend: SqliteBackend) -> None:
        with backend.begin_write():
            order.append("second")

    with closing(SqliteBackend(path)) as backend, closing(SqliteBackend(path)) as other:
        threads = [threading.Thread(target=write, args=(each,)) for each in (backend, other)]
        with backend.begin_write():
            for thread in threads:
                thread.start()
            time.sleep(0.1)
            order.append("first")
        for thread in threads:
            thread.join()

    assert order == ["first", "second", "second"]


def test_a_file_that_others_hold_is_busy(path: str) -> None:
    with closing(SqliteBackend(path)) as backend, closing(SqliteBackend(path)) as other:
        backend._writer.execute("PRAGMA busy_timeout = 10")
        with other.begin_write():
            with pytest.raises(BusyError), backend.begin_write():
                pass
            with backend.begin_read() as rows:
                assert list(rows.scan("head")) == []

        with backend.begin_write() as rows:
            rows.put("head", b"a", b"1")


def test_commits_are_synced_one_by_one(path: str) -> None:
    with closing(SqliteBackend(path)) as backend:
        pragmas = [backend._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]

    full = 2
    assert pragmas == [full, b"wal"]


def test_readers_give_their_connections_back(path: str) -> None:
    with closing(SqliteBackend(path)) as backend:
        for _ in range(3):
            with backend.begin_read(), backend.begin_read():
                pass
        assert len(backend._idle) == 2
        reading = backend.begin_read()
        rows = reading.__enter__()
        backend.close()

        # Who has begun to read may read to the end.
        assert list(rows.scan("head")) == []
        reading.__exit__(None, None, None)
        assert backend._idle == []
        with pytest.raises(ClosedError), backend.begin_read():
            pass


def test_a_forked_child_is_told_to_open_the_store_again(path: str) -> None:
    with closing(SqliteBackend(path)) as backend:
        backend._process = os.getpid() + 1

        for begin in (backend.begin_read, backend.begin_write):
            with pytest.raises(ClosedError, match="another process"), begin():
                pass
        backend._process = os.getpid()


def test_a_reader_of_a_closed_store_leaves_no_files_and_needs_none(path: str) -> None:
    with kv.open(path) as store:
        store.put(b"a", b"1")
    folder = Path(path).parent

    with kv.open(path, mode="r") as reader:
        assert reader.get(b"a").value == b"1"
        assert [each.name for each in folder.iterdir()] == [Path(path).name]
        # A writer who comes later disturbs nobody.
        with kv.open(path) as store:
            store.put(b"a", b"2")
            with reader._ledger.view() as view:
                store.put(b"a", b"3")
                assert view.get(b"a").value == b"2"
        assert reader.get(b"a").value == b"3"


def test_what_a_writer_left_half_done_who_died_while_opening_is_undone_for_readers(path: str, tmp_path: Path) -> None:
    with kv.open(path) as store:
        store.txn([], [Put(b"key%d" % number, b"old" * 500) for number in range(50)])
    died = str(tmp_path / "died.kv")
    with closing(kv.open(path, mode="r")) as reader, closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA cache_size = 1")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("UPDATE rev SET value = x'00'")
        shutil.copy(path, died)
        shutil.copy(f"{path}-journal", f"{died}-journal")
        raw.execute("ROLLBACK")
        before = reader.range(*ALL)

    with kv.open(died, mode="r") as reader:
        assert reader.range(*ALL) == before
        # And again, while it is open.
        Path(died).write_bytes(Path(path).read_bytes())
        assert reader.range(*ALL) == before


# --- crashes -------------------------------------------------------------------------------------------

# Fresh processes: an empty package in place of ours, whose __init__ loads data frame libraries.
WRITER = """
import sys, types
package = sys.modules["mitoframe"] = types.ModuleType("mitoframe")
package.__path__ = [sys.argv[2]]
from mitoframe import kv
from mitoframe.kv import Delete, Put

store = kv.open(sys.argv[1])
found = store.get(b"left")
number = int(found.value) if found else 0
print("open", flush=True)
while True:
    number += 1
    value = b"%d" % number
    lease = store._ledger.grant(0, 60) if number % 5 == 0 else 0
    odd = [Put(b"odd", value)] if number % 2 else [Delete(b"odd")]
    last = store.txn([], [Put(b"left", value, lease=lease), Put(b"padding", value * 500), *odd, Put(b"right", value)])
    print(number, last.revision, flush=True)
    if number % 7 == 0:
        store.compact(last.revision - 3)
    if number % 50 == 0:
        store.defragment()
    if number % 3 == 0:
        store.close()
        store = kv.open(sys.argv[1])
"""


def acknowledged_before_kill(path: str, delay_s: float) -> list[tuple[int, int]]:
    """Return numbers and revisions that a writer said it had put, before it was killed."""
    command = [sys.executable, "-c", WRITER, path, str(Path(mitoframe.__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split("\n")[:-1]
        return [(int(number), int(revision)) for number, revision in map(str.split, lines)]


def test_a_kill_at_any_moment_loses_nothing_shows_no_half_and_uses_no_revision_again(path: str) -> None:
    draws, number, revision = random.Random(20130101), 0, 1

    for round_number in range(ROUNDS):
        acknowledged = acknowledged_before_kill(path, draws.uniform(0, 0.05))
        if acknowledged:
            assert acknowledged[0][1] in (revision + 1, revision + 2)
            number, revision = acknowledged[-1]

        # Readers must get in first, too, even past what a killed writer has left.
        with kv.open(path, mode="r" if round_number % 2 else "rw") as store:
            found = store.range(*ALL)
            values = {each.key: each.value for each in found.kvs}
            assert found.revision in (revision, revision + 1)
            number += found.revision - revision
            revision = found.revision
            if number:
                assert values[b"left"] == values[b"right"] == b"%d" % number
                assert values[b"padding"] == values[b"left"] * 500
                assert values.get(b"odd") == (values[b"left"] if number % 2 else None)
                assert {each.mod_revision for each in found.kvs} == {revision}
            store.verify()

    assert number > ROUNDS


def test_a_log_cut_short_by_a_crash_is_read_up_to_its_last_commit(path: str, tmp_path: Path) -> None:
    with kv.open(path) as store:
        for number in range(1, 6):
            store.put(b"a", b"%d" % number)
        main, log = Path(path).read_bytes(), Path(f"{path}-wal").read_bytes()

    seen = []
    for size in range(0, len(log) + 1, 1997):
        crashed = tmp_path / f"crashed{size}.kv"
        crashed.write_bytes(main)
        Path(f"{crashed}-wal").write_bytes(log[:size])
        with kv.open(crashed) as store:
            store.verify()
            found = store.get(b"a")
            assert store.status().revision == (int(found.value) + 1 if found else 1)
            seen.append(store.status().revision)

    assert seen == sorted(seen)
    assert (seen[0], len(set(seen)) > 3) == (1, True)


# --- failing media -------------------------------------------------------------------------------------


def test_a_full_disk_changes_nothing_and_the_store_goes_on(path: str) -> None:
    with kv.open(path) as store:
        store.put(b"a", b"1")
        # SQLite answers with the same error as for a full disk.
        pages = store._ledger.backend._writer.execute("PRAGMA page_count").fetchone()[0]
        store._ledger.backend._writer.execute(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(DiskFullError) as caught:
            store.txn([], [Put(b"a", b"2"), Put(b"b", b"x" * 100_000)])

        assert isinstance(caught.value.__cause__, sqlite3.Error)
        assert [(each.key, each.value) for each in store.range(*ALL).kvs] == [(b"a", b"1")]
        assert store.put(b"a", b"3").revision == 3
        store.verify()


FILE_LIMIT = """
import resource, signal, sys, types
package = sys.modules["mitoframe"] = types.ModuleType("mitoframe")
package.__path__ = [sys.argv[2]]
from mitoframe import kv
from mitoframe.model.errors import UnavailableError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = kv.open(sys.argv[1])
store.put(b"a", b"0")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), hard))
done = 0
try:
    while True:
        store.put(b"a", b"%d" % (done + 1) * 3000)
        done += 1
except UnavailableError as error:
    assert isinstance(error.__cause__, Exception)
    print(type(error).__name__, flush=True)
shown = store.get(b"a").value
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert store.get(b"a").value == shown
store.verify()
after = store.put(b"after").revision
print(done, len(shown), after, store.get(b"a", revision=after - 1).value[:9])
store.close()
"""


@pytest.mark.parametrize("limit", range(60_000, 100_000, 5_500))
def test_a_failing_write_is_told_loses_nothing_and_the_store_goes_on(path: str, limit: int) -> None:
    command = [sys.executable, "-c", FILE_LIMIT, path, str(Path(mitoframe.__file__).parent), str(limit)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)

    assert child.returncode == 0, child.stderr
    kind, told = child.stdout.strip().split("\n")
    done, _, revision, value = told.split()
    assert kind in (UnavailableError.__name__, UnknownOutcomeError.__name__, DiskFullError.__name__)
    assert value.startswith(f"b'{done}") or kind == UnknownOutcomeError.__name__
    with kv.open(path) as store:
        assert store.status().revision == int(revision)
        store.verify()


class FailingCommit:
    """A connection whose COMMIT fails as the operating system makes it fail; all else is SQLite's."""

    def __init__(self, inner: sqlite3.Connection, code: int) -> None:
        self.inner, self.code = inner, code

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if statement != "COMMIT":
            return self.inner.execute(statement, values)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = self.code
        raise error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, UnknownOutcomeError),
        (sqlite3.SQLITE_FULL, DiskFullError),
        (sqlite3.SQLITE_BUSY, BusyError),
        (sqlite3.SQLITE_CORRUPT, CorruptionError),
    ],
)
def test_only_a_commit_that_fails_on_the_medium_has_an_unknown_outcome(
    path: str, code: int, expected: type[MitoError]
) -> None:
    with kv.open(path) as store:
        real = store._ledger.backend._writer
        store._ledger.backend._writer = FailingCommit(real, code)

        with pytest.raises(MitoError) as caught:
            store.put(b"a", b"1")

        store._ledger.backend._writer = real
        assert type(caught.value) is expected
        assert store.get(b"a") is None
        assert store.put(b"a").revision == 2
