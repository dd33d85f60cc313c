"""A `Backend` in one SQLite file, by the standard library's ``sqlite3``.

Each tree is a table of keys and values. Commits go to SQLite's write-ahead log, which is synced once for each
(``synchronous = FULL``); so readers see the last commit before they began, and neither wait for the writer nor make it
wait. A killed writer leaves a log whose unfinished end the next to open the file ignores, unless what is wrong there is
damage (kv/sqlite_log.py). The last writer to close the
file takes the log away and has SQLite go back to a rollback journal, which readers can do without files of their own;
the next writer to open it waits for those who are just reading.

There is one connection that writes, and as many that read as there are threads that read at once. A store in memory has
one for all, and its transactions take turns.

What it refuses: a file that is damaged or another program's (`CorruptionError`); use in a forked child, with which
SQLite's locks cannot be shared.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar
from urllib.parse import quote

from mitoframe.kv import sqlite_log
from mitoframe.kv.backend import TREES, Tree
from mitoframe.model.errors import (
    BusyError,
    ClosedError,
    CorruptionError,
    DiskFullError,
    LimitExceededError,
    MitoError,
    ReadOnlyError,
    UnavailableError,
    UnknownOutcomeError,
)

BUSY_TIMEOUT_S = 5.0
MEMORY = "memory://"

_IDLE_MAX = 8
_RETRY_S = 0.01
_CREATE = {
    tree: f"CREATE TABLE {tree}(key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID" for tree in TREES
}
_SCHEMA = sorted((tree.encode(), statement.encode()) for tree, statement in _CREATE.items())
_GET = {tree: f"SELECT value FROM {tree} WHERE key = ?" for tree in TREES}
_PUT = {tree: f"INSERT OR REPLACE INTO {tree} VALUES (?, ?)" for tree in TREES}
_DELETE = {tree: f"DELETE FROM {tree} WHERE key = ?" for tree in TREES}
_LOOK = "SELECT 1 FROM sqlite_schema LIMIT 1"
_SCAN = {tree: f"SELECT key, value FROM {tree} WHERE key >= ?" for tree in TREES}

# The second when SQLite's message quotes damaged text.
_FOREIGN_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_T = TypeVar("_T")


class _Transaction:
    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, tree: Tree, key: bytes) -> bytes | None:
        row = self._connection.execute(_GET[tree], (key,)).fetchone()
        return None if row is None else row[0]

    def scan(
        self, tree: Tree, start: bytes = b"", end: bytes | None = None, *, descending: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        bounds = (start,) if end is None else (start, end)
        below = "" if end is None else " AND key < ?"
        order = " ORDER BY key DESC" if descending else " ORDER BY key"
        return self._connection.execute(_SCAN[tree] + below + order, bounds)

    def put(self, tree: Tree, key: bytes, value: bytes) -> None:
        self._connection.execute(_PUT[tree], (key, value))

    def delete(self, tree: Tree, key: bytes) -> None:
        self._connection.execute(_DELETE[tree], (key,))


class SqliteBackend:
    """Trees of rows in one file, or in memory.

    >>> backend = SqliteBackend("memory://")
    >>> with backend.begin_write() as rows:
    ...     rows.put("head", b"key", b"value")
    >>> with backend.begin_read() as rows:
    ...     rows.get("head", b"key")
    b'value'
    >>> backend.close()
    """

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        """Open the file at ``path``, made if it is not there and may be written."""
        assert not (read_only and path == MEMORY), "a store in memory has no other writer to read from"
        self.path = path if path == MEMORY else os.path.abspath(path)
        self._read_only = read_only
        self._process = os.getpid()
        self._writing = threading.Lock()
        self._pool = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._logs_ahead = False
        try:
            if self.path != MEMORY and sqlite_log.is_damaged(f"{self.path}-wal"):
                raise CorruptionError("commits are damaged that were acknowledged", path=f"{self.path}-wal")
            with self._translating():
                self._writer = self._connect("ro" if read_only else "rwc")
                self._open(self._writer)
        except BaseException:
            self.close()
            raise

    # --- transactions ----------------------------------------------------------------------------------

    @contextmanager
    def begin_read(self) -> Iterator[_Transaction]:
        """See one committed state."""
        if self.path == MEMORY:
            with self._writing, self._translating():
                yield _Transaction(self._live_writer())
            return
        connection = self._take()
        try:
            with self._translating():
                self._begin_read(connection)
                yield _Transaction(connection)
        finally:
            self._give_back(connection)

    def _begin_read(self, connection: sqlite3.Connection) -> None:
        """Begin on one committed state of the file, first undoing what a killed writer has left half-done."""
        try:
            connection.execute("BEGIN")
            # What is seen is settled by the first look.
            connection.execute(_LOOK).fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        _end(connection)
        with closing(self._connect("rw")) as healer:
            healer.execute(_LOOK).fetchone()
        connection.execute("BEGIN")
        connection.execute(_LOOK).fetchone()

    @contextmanager
    def begin_write(self) -> Iterator[_Transaction]:
        """Change something, alone."""
        if self._read_only:
            raise ReadOnlyError(f'{self.path} was opened for reading. Open the store with mode="rw" to change it.')
        with self._writing, self._translating():
            connection = self._live_writer()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield _Transaction(connection)
                self._commit(connection)
            finally:
                _end(connection)

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            translated = self._translate(error)
            if type(translated) is not UnavailableError:
                raise translated from error
            raise UnknownOutcomeError(
                f"{self.path}: the commit failed ({error}). Read the keys again to see whether it happened."
            ) from error

    # --- the file as a whole ---------------------------------------------------------------------------

    def copy(self, path: str) -> None:
        """Write one committed state to a new file, durably."""
        if self.path == MEMORY:
            with self._writing, self._translating():
                self._live_writer().execute("VACUUM INTO ?", (path,))
        else:
            self._live_writer()
            with self._translating(), closing(self._connect("ro")) as connection:
                connection.execute("VACUUM INTO ?", (path,))
        _sync(path)

    def defragment(self) -> None:
        """Write all rows anew and cut off what is left over."""
        if self._read_only:
            raise ReadOnlyError(f'{self.path} was opened for reading. Open the store with mode="rw" to change it.')
        with self._writing, self._translating():
            connection = self._live_writer()
            connection.execute("VACUUM")
            # The log goes into the file with the next commits, if somebody reads who needs it: nobody waits for that.
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")

    def check(self) -> None:
        """Look for damage in SQLite's own structure."""

        def look(connection: sqlite3.Connection) -> tuple[object, ...]:
            found: tuple[object, ...] = connection.execute("PRAGMA quick_check(1)").fetchone()
            return found

        (problem,) = self._ask(look)
        if problem != b"ok":
            raise self._corruption(bytes(problem).decode(errors="replace") if isinstance(problem, bytearray) else "?")

    def size_bytes(self) -> int:
        """Return how large the file is once what was committed has gone into it."""
        return self._ask(lambda connection: _pragma(connection, "page_count") * _pragma(connection, "page_size"))

    def close(self) -> None:
        """Let the file go. Whoever reads meanwhile reads to the end."""
        with self._writing:
            writer, self._writer = self._writer, None
        with self._pool:
            idle, self._idle = self._idle, []
        if os.getpid() != self._process:
            return
        for connection in idle:
            connection.close()
        if writer is not None:
            if self._logs_ahead:
                _end_log(writer)
            writer.close()

    # --- connections -----------------------------------------------------------------------------------

    def _connect(self, mode: str) -> sqlite3.Connection:
        name = ":memory:" if self.path == MEMORY else f"file:{quote(os.fsencode(self.path))}?mode={mode}"
        connection = sqlite3.connect(
            name, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=self.path != MEMORY
        )
        # Damaged text need not be UTF-8; and a key whose type was flipped from BLOB to TEXT must not look like bytes.
        connection.text_factory = bytearray
        return connection

    def _live_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise ClosedError(f"{self.path} was closed. Open the store again.")
        if os.getpid() != self._process:
            raise ClosedError(f"{self.path} was opened by another process than this one. Open the store again.")
        return self._writer

    def _take(self) -> sqlite3.Connection:
        self._live_writer()
        with self._pool:
            if self._idle:
                return self._idle.pop()
        with self._translating():
            return self._connect("ro")

    def _give_back(self, connection: sqlite3.Connection) -> None:
        _end(connection)
        with self._pool:
            if self._writer is not None and len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def _ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.begin_read() as transaction:
            return work(transaction._connection)

    # --- opening ---------------------------------------------------------------------------------------

    def _open(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA trusted_schema = OFF")
        self._begin_read(connection)
        _end(connection)
        if _pragma(connection, "page_count") == 0:
            self._refuse_stub()
            if self._read_only:
                raise UnavailableError(f"{self.path} is empty: its writer has not finished making it. Try again.")
            self._create(connection)
        tables = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        if tables != _SCHEMA:
            raise self._corruption("this is no key-value store of mitoframe, or it is damaged")
        if not self._read_only:
            self._log_ahead(connection)

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT name FROM sqlite_schema").fetchall():  # nobody else made it meanwhile
            for statement in _CREATE.values():
                connection.execute(statement)
        connection.execute("COMMIT")
        if self.path != MEMORY:
            _sync(os.path.dirname(self.path))

    def _log_ahead(self, connection: sqlite3.Connection) -> None:
        """Have SQLite write ahead; it does not always wait by itself for others who are just doing the same."""
        until = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(_RETRY_S)
        self._logs_ahead = self.path != MEMORY
        connection.execute("PRAGMA synchronous = FULL")

    def _refuse_stub(self) -> None:
        """Refuse a file that is too short to hold a page: SQLite takes it for an empty one."""
        if self.path != MEMORY and os.path.getsize(self.path) > 0:
            raise self._corruption("the file is cut short")

    # --- errors ----------------------------------------------------------------------------------------

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except _FOREIGN_ERRORS as error:
            raise self._translate(error) from error

    def _corruption(self, what: str) -> CorruptionError:
        return CorruptionError(what, path=self.path)

    def _translate(self, error: sqlite3.Error | UnicodeDecodeError) -> MitoError:
        """Turn SQLite's error into ours by its result code; the messages are not a stable interface."""
        if isinstance(error, UnicodeDecodeError):
            return self._corruption("the file's own description is damaged")
        if isinstance(error, sqlite3.ProgrammingError) and self._writer is None:
            return ClosedError(f"{self.path} was closed. Open the store again.")
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_READONLY:
            return ReadOnlyError(f"{self.path} cannot be written. Check the permissions of the file and its folder.")
        match code & 0xFF:
            # The last is about a statement: those that we have are right, so the schema is not.
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT | sqlite3.SQLITE_ERROR:
                return self._corruption(str(error))
            case sqlite3.SQLITE_FULL:
                return DiskFullError(f"{self.path}: no space left for the key-value store. Free some and retry.")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return BusyError(f"{self.path} was locked for {BUSY_TIMEOUT_S} s. Wait and retry.")
            case sqlite3.SQLITE_TOOBIG:
                return LimitExceededError(f"{self.path}: a key or value is larger than SQLite can hold.")
        return UnavailableError(f"{self.path}: the key-value store did not answer ({error}). Check the file and retry.")


# --- pieces --------------------------------------------------------------------------------------------


def _end(connection: sqlite3.Connection) -> None:
    # SQLite ends the transaction by itself after some errors.
    if connection.in_transaction:
        connection.rollback()


def _end_log(connection: sqlite3.Connection) -> None:
    """Go back to a rollback journal, unless others have the file open."""
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA busy_timeout = 0")
        # A connection that has read nothing yet does not know that there is a log.
        connection.execute(_LOOK).fetchone()
        connection.execute("PRAGMA journal_mode = DELETE")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
