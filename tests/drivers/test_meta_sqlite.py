"""The SQLite `MetaStore`: the contract, and what is SQLite's own: crashes, damage, locks, other processes."""

from __future__ import annotations

import errno
import os
import random
import shutil
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
from mitoframe.drivers import meta_sqlite
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.model.errors import (
    BusyError,
    ConfigError,
    CorruptionError,
    DiskFullError,
    InvalidInputError,
    MitoError,
    ReadOnlyError,
    UnavailableError,
    UnknownOutcomeError,
)
from mitoframe.model.keyvalue import Compare, Delete, Put
from mitoframe.testing.contracts_meta import MetaStoreContract

ALL = (b"\x00", b"\xff")


class TestInMemory(MetaStoreContract):
    @pytest.fixture
    def store(self) -> Iterator[SqliteMetaStore]:
        with closing(SqliteMetaStore(":memory:")) as store:
            yield store


class TestInFile(MetaStoreContract):
    @pytest.fixture
    def store(self, path: str) -> Iterator[SqliteMetaStore]:
        with closing(SqliteMetaStore(path)) as store:
            yield store


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cata log?#%é.sqlite")


@pytest.fixture
def store(path: str) -> Iterator[SqliteMetaStore]:
    with closing(SqliteMetaStore(path)) as store:
        yield store


# --- what is there again -------------------------------------------------------------------------------


def test_an_empty_store_is_at_revision_one(store: SqliteMetaStore) -> None:
    assert store.range(b"a").revision == 1


def test_everything_is_there_after_reopening(path: str, store: SqliteMetaStore) -> None:
    store.txn([], [Put(b"a", b"1"), Put(b"b", b"2")])
    store.txn([], [Put(b"a", b"3"), Delete(b"b")])
    expected = store.range(*ALL), store.changes(*ALL, after=0)
    store.close()

    with closing(SqliteMetaStore(path)) as again:
        assert (again.range(*ALL), again.changes(*ALL, after=0)) == expected
        assert again.txn([], [Put(b"b", b"4")]).revision == 4


def test_only_the_named_file_is_left_on_disk(path: str, store: SqliteMetaStore) -> None:
    store.txn([], [Put(b"a", b"1")])
    store.close()

    assert [each.name for each in Path(path).parent.iterdir()] == [Path(path).name]


def test_commits_are_synced_with_the_folder_and_roll_back_by_journal(store: SqliteMetaStore) -> None:
    pragmas = [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]

    extra = 3
    assert pragmas == [extra, b"delete"]


def test_two_writers_see_each_other_and_share_one_revision(path: str, store: SqliteMetaStore) -> None:
    with closing(SqliteMetaStore(path)) as other:
        first = store.txn([], [Put(b"a", b"1")]).revision
        seen = other.range(b"a")
        lost = other.txn([Compare(b"a", "create", 0)], [Put(b"a", b"2")])
        second = other.txn([Compare(b"a", "mod", first)], [Put(b"a", b"2")])

        assert (seen.revision, seen.kvs[0].value) == (first, b"1")
        assert not lost.succeeded
        assert store.range(b"a").kvs[0].value == b"2"
        assert store.changes(*ALL, after=first)[0] == second.revision == first + 1


def test_a_reader_sees_commits_of_a_writer_and_may_not_write(path: str, store: SqliteMetaStore) -> None:
    with closing(SqliteMetaStore(path, read_only=True)) as reader:
        store.txn([], [Put(b"a", b"1")])

        assert reader.range(b"a").kvs[0].value == b"1"
        with pytest.raises(ReadOnlyError, match='mode="rw"'):
            reader.txn([], [Put(b"a", b"2")])


def test_threads_and_connections_take_turns(path: str, store: SqliteMetaStore) -> None:
    failures: list[MitoError] = []

    def increment(store: SqliteMetaStore) -> None:
        try:
            for _ in range(25):
                done = False
                while not done:
                    kvs = store.range(b"n").kvs
                    value, seen = (int(kvs[0].value), kvs[0].mod_revision) if kvs else (0, 0)
                    done = store.txn([Compare(b"n", "mod", seen)], [Put(b"n", b"%d" % (value + 1))]).succeeded
        except MitoError as error:
            failures.append(error)

    with closing(SqliteMetaStore(path)) as other:
        threads = [threading.Thread(target=increment, args=(each,)) for each in (store, store, other, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = store.range(b"n")
    assert failures == []
    assert (found.kvs[0].value, found.kvs[0].version, found.revision) == (b"100", 100, 101)


def test_processes_that_make_the_store_together_get_one_store(path: str) -> None:
    stores: list[SqliteMetaStore] = []
    threads = [threading.Thread(target=lambda: stores.append(SqliteMetaStore(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    revisions = [each.txn([], [Put(b"a", b"1")]).revision for each in stores]
    for each in stores:
        each.close()

    assert revisions == list(range(2, 10))


# --- crashes -------------------------------------------------------------------------------------------

# Thirty fresh processes: an empty package in place of ours, whose __init__ loads data frame libraries.
WRITER = """
import sys, types
package = sys.modules["mitoframe"] = types.ModuleType("mitoframe")
package.__path__ = [sys.argv[2]]
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.model.keyvalue import Delete, Put

store = SqliteMetaStore(sys.argv[1])
start = store.range(b"left").kvs
number = int(start[0].value) if start else 0
while True:
    number += 1
    value = b"%d" % number
    odd = [Put(b"odd", value)] if number % 2 else [Delete(b"odd")]
    store.txn([], [Put(b"left", value), Put(b"padding", value * 2000), *odd, Put(b"right", value)])
    print(number, flush=True)
"""


def acknowledged_before_kill(path: str, delay_s: float) -> int:
    command = [sys.executable, "-c", WRITER, path, str(Path(mitoframe.__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(delay_s)
        writer.kill()
        return int((first + writer.stdout.read()).split("\n")[-2])


def test_a_kill_at_any_moment_keeps_every_acknowledged_transaction_whole(path: str) -> None:
    delays = random.Random(20130101)

    for round_number in range(30):
        acknowledged = acknowledged_before_kill(path, delays.uniform(0, 0.02))

        # Readers must get in first, too, even past the journal of the killed writer.
        with closing(SqliteMetaStore(path, read_only=round_number % 2 == 0)) as store:
            found = store.range(*ALL)
            values = {kv.key: kv.value for kv in found.kvs}
            number = int(values[b"left"])
            assert number in (acknowledged, acknowledged + 1)
            assert values[b"right"] == values[b"left"]
            assert values[b"padding"] == values[b"left"] * 2000
            assert values.get(b"odd") == (values[b"left"] if number % 2 else None)
            assert found.revision == number + 1


@pytest.fixture
def hot_path(path: str, tmp_path: Path) -> str:
    """A file as a writer leaves it that dies half-way through writing pages, with its journal beside it."""
    with closing(SqliteMetaStore(path)) as store:
        store.txn([], [Put(b"key%d" % number, b"old" * 500) for number in range(50)])
    hot = tmp_path / "hot.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA cache_size = 1")
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("UPDATE kv SET value = x'00'")
        shutil.copy(path, hot)
        shutil.copy(path + "-journal", f"{hot}-journal")
    return str(hot)


def assert_old_values(store: SqliteMetaStore) -> None:
    found = store.range(*ALL)
    assert {kv.value for kv in found.kvs} == {b"old" * 500}
    assert (len(found.kvs), found.revision) == (50, 2)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_half_written_transaction_is_undone_at_opening(hot_path: str, read_only: bool) -> None:
    with closing(SqliteMetaStore(hot_path, read_only=read_only)) as store:
        assert_old_values(store)


def test_a_reader_already_open_gets_past_the_journal_of_a_writer_that_died(
    path: str, hot_path: str, tmp_path: Path
) -> None:
    target = str(tmp_path / "live.sqlite")
    shutil.copy(path, target)
    with closing(SqliteMetaStore(target, read_only=True)) as reader:
        # Same file, now as the dead writer left it.
        Path(target).write_bytes(Path(hot_path).read_bytes())
        shutil.copy(f"{hot_path}-journal", f"{target}-journal")

        assert_old_values(reader)


# --- damage --------------------------------------------------------------------------------------------


def small_store(path: str) -> None:
    with closing(SqliteMetaStore(path)) as store:
        store.txn([], [Put(b"/table/cpu", b"first" * 9), Put(b"/table/disk", b"second" * 9)])
        store.txn([], [Put(b"/table/cpu", b"third" * 9), Delete(b"/table/disk"), Put(b"/table/mem", b"fourth" * 9)])


def answers(path: str, read_only: bool) -> object:
    with closing(SqliteMetaStore(path, read_only=read_only)) as store:
        before = store.range(*ALL), store.range(b"/table/mem"), store.changes(*ALL, after=0)
        if read_only:
            return before
        won = store.txn([Compare(b"/table/disk", "create", 0)], [Put(b"/table/disk", b"fifth" * 900)])
        return before, won, store.range(*ALL), store.changes(*ALL, after=2)


def assert_typed_error_or(expected: object, path: str, read_only: bool) -> bool:
    try:
        assert answers(path, read_only) == expected
    except MitoError:
        return True
    return False


def test_a_flipped_byte_anywhere_gives_a_typed_error_or_right_answers(path: str) -> None:
    small_store(path)
    expected, intact, refused = answers(path, read_only=True), Path(path).read_bytes(), 0

    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(intact):
            # The lowest bit turns types into their neighbours: a key of bytes into one of text.
            for mask in (0x01, 0xFF) if byte else (0xFF,):
                os.pwrite(file.fileno(), bytes([byte ^ mask]), position)
                refused += assert_typed_error_or(expected, path, read_only=True)
            os.pwrite(file.fileno(), bytes([byte]), position)

    assert refused > 1000


def test_writing_into_a_damaged_file_gives_a_typed_error_or_right_answers(path: str, tmp_path: Path) -> None:
    small_store(path)
    intact, bits = Path(path).read_bytes(), random.Random(7)
    copy = str(tmp_path / "copy.sqlite")
    shutil.copy(path, copy)
    expected = answers(copy, read_only=False)
    used = [position for position, byte in enumerate(intact) if byte] + list(range(100))

    for position in used:
        damaged = bytearray(intact)
        damaged[position] ^= 1 << bits.randrange(8)
        for leftover in Path(path).parent.iterdir():
            leftover.unlink()
        Path(path).write_bytes(damaged)
        assert_typed_error_or(expected, path, read_only=False)


def test_rows_that_lie_in_the_wrong_order_are_refused(path: str) -> None:
    small_store(path)
    damaged = bytearray(Path(path).read_bytes())
    page_size_bytes, page_header_bytes, leaf_of_keys = 4096, 8, 0x0A
    first = page_size_bytes + page_header_bytes
    assert damaged[page_size_bytes] == leaf_of_keys
    # The places of the first two rows in the page, exchanged: all rows are there, and searching misses them.
    damaged[first : first + 4] = damaged[first + 2 : first + 4] + damaged[first : first + 2]
    Path(path).write_bytes(damaged)

    with pytest.raises(CorruptionError):
        SqliteMetaStore(path)


def test_a_list_of_free_pages_that_names_a_page_in_use_is_refused(path: str) -> None:
    with closing(SqliteMetaStore(path)) as store:
        store.txn([], [Put(b"large", b"x" * 100_000), Put(b"small", b"y")])
        store.txn([], [Delete(b"large")])
    damaged = bytearray(Path(path).read_bytes())
    first_free_page, page_of_keys = slice(32, 36), 2
    assert int.from_bytes(damaged[first_free_page], "big") > page_of_keys
    # The next write would put other bytes over the keys.
    damaged[first_free_page] = page_of_keys.to_bytes(4, "big")
    Path(path).write_bytes(damaged)

    with pytest.raises(CorruptionError):
        SqliteMetaStore(path)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_cut_short_is_refused(path: str, read_only: bool) -> None:
    small_store(path)
    intact = Path(path).read_bytes()

    for size in range(1, len(intact), 509):
        Path(path).write_bytes(intact[:size])
        with pytest.raises(MitoError):
            answers(path, read_only)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM kv WHERE key = x'61'",
        "UPDATE kv SET value = x'00' WHERE key = x'61'",
        "UPDATE kv SET key = x'63' WHERE key = x'61'",
        "UPDATE kv SET mod_revision = 9 WHERE key = x'61'",
        "UPDATE kv SET crc = 'text'",
        "UPDATE meta SET revision = 7",
        "UPDATE meta SET format = 0",
        "DELETE FROM meta",
        "DROP TABLE kv",
        "CREATE INDEX extra ON kv(mod_revision)",
    ],
)
def test_rows_changed_by_another_program_are_refused_at_opening(path: str, statement: str) -> None:
    with closing(SqliteMetaStore(path)) as store:
        store.txn([], [Put(b"a", b"1"), Put(b"b", b"2")])
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(statement)

    with pytest.raises(CorruptionError) as caught:
        SqliteMetaStore(path)

    assert caught.value.path == path


def test_a_value_damaged_while_open_is_refused_when_read(path: str, store: SqliteMetaStore) -> None:
    store.txn([], [Put(b"a", b"1"), Put(b"b", b"2")])
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE kv SET value = x'00' WHERE key = x'61'")

    assert store.range(b"b").kvs[0].value == b"2"
    with pytest.raises(CorruptionError, match="b'a'"):
        store.range(b"a")


@pytest.mark.parametrize("contents", [b"not a database at all, but long enough to look like a file" * 20, b"x"])
def test_a_foreign_file_is_refused_and_left_alone(path: str, contents: bytes) -> None:
    Path(path).write_bytes(contents)

    for read_only in (True, False):
        with pytest.raises(CorruptionError) as caught:
            SqliteMetaStore(path, read_only=read_only)

    assert caught.value.path == path
    assert Path(path).read_bytes() == contents


def test_a_database_of_another_program_is_refused_and_left_alone(path: str) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE theirs(a)")
    before = Path(path).read_bytes()

    with pytest.raises(CorruptionError, match="not a mitoframe catalog"):
        SqliteMetaStore(path)

    assert Path(path).read_bytes() == before


def test_a_newer_format_is_refused_by_name(path: str) -> None:
    small_store(path)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(f"UPDATE meta SET format = {meta_sqlite.FORMAT + 1}")

    with pytest.raises(ConfigError, match="newer mitoframe"):
        SqliteMetaStore(path)


# --- errors of the medium ------------------------------------------------------------------------------


def test_a_full_disk_changes_nothing_and_the_store_goes_on(path: str, store: SqliteMetaStore) -> None:
    store.txn([], [Put(b"a", b"1")])
    with closing(sqlite3.connect(path)) as raw:
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
    # SQLite answers with the same error as for a full disk.
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(DiskFullError) as caught:
        store.txn([], [Put(b"a", b"2"), Put(b"b", b"x" * 100_000)])

    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert [(kv.key, kv.value) for kv in store.range(*ALL).kvs] == [(b"a", b"1")]
    assert store.txn([], [Put(b"a", b"3")]).revision == 3


FILE_LIMIT = """
import resource, signal, sys
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.model.errors import UnavailableError
from mitoframe.model.keyvalue import Put

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteMetaStore(sys.argv[1])
store.txn([], [Put(b"a", b"1")])
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
try:
    store.txn([], [Put(b"a", b"2"), Put(b"b", b"x" * 100_000)])
except UnavailableError as error:
    assert isinstance(error.__cause__, Exception)
    print(type(error).__name__, store.range(b"a").kvs[0].value, store.range(b"b").kvs)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_failing_write_is_unavailable_and_rolled_back(path: str) -> None:
    child = subprocess.run([sys.executable, "-c", FILE_LIMIT, path], capture_output=True, text=True, check=False)

    kind, shown = child.stdout.strip().split(" ", 1)
    assert kind in (UnavailableError.__name__, UnknownOutcomeError.__name__), child.stderr
    assert shown == "b'1' ()"
    with closing(SqliteMetaStore(path)) as store:
        assert [kv.value for kv in store.range(*ALL).kvs] == [b"1"]


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
    ],
)
def test_only_a_commit_that_fails_on_the_medium_has_an_unknown_outcome(
    store: SqliteMetaStore, code: int, expected: type[MitoError]
) -> None:
    real = store._connection
    store._connection = FailingCommit(real, code)

    with pytest.raises(MitoError) as caught:
        store.txn([], [Put(b"a", b"1")])

    store._connection = real
    assert type(caught.value) is expected
    assert store.range(b"a").kvs == ()


def test_a_locked_file_is_busy(path: str, store: SqliteMetaStore) -> None:
    store._connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")

        with pytest.raises(BusyError):
            store.txn([], [Put(b"a", b"1")])
        assert store.range(b"a").kvs == ()

    assert store.txn([], [Put(b"a", b"1")]).succeeded


def test_a_missing_folder_or_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        SqliteMetaStore(str(tmp_path / "missing" / "catalog.sqlite"))
    with pytest.raises(UnavailableError):
        SqliteMetaStore(str(tmp_path / "catalog.sqlite"), read_only=True)

    assert isinstance(caught.value, OSError)
    assert caught.value.errno != errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_a_file_that_is_being_made_is_told_to_wait(path: str) -> None:
    Path(path).touch()

    with pytest.raises(UnavailableError, match="Try again"):
        SqliteMetaStore(path, read_only=True)


def test_a_value_too_large_for_sqlite_is_refused(store: SqliteMetaStore) -> None:
    store._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)

    with pytest.raises(MitoError, match="larger"):
        store.txn([], [Put(b"a", b"x" * 2000)])

    assert store.range(b"a").revision == 1


def test_the_refusal_of_a_duplicate_names_the_key(store: SqliteMetaStore) -> None:
    with pytest.raises(InvalidInputError, match="b'twice'"):
        store.txn([], [Put(b"twice", b"1"), Put(b"twice", b"2")])
