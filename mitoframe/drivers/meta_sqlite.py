"""A `MetaStore` in one SQLite file, by the standard library's ``sqlite3``.

What it promises: a transaction is atomic, and durable when `txn` returns; other processes see it at their next call.
Revisions follow etcd: an empty store is at revision 1, a transaction that changes something raises the revision by
one, all of its keys share it, and a transaction that changes nothing leaves it alone. Deleted keys stay as tombstones,
so that `changes` can report them.

What it refuses: a file of a newer format (`ConfigError`), a file that is damaged or is no catalog (`CorruptionError`).
SQLite keeps no checksums, so we do: every row carries a CRC32C, and the single row of ``meta`` holds the number of
rows and the sum of their checksums. Opening reads every row once, which finds rows that were lost, moved or changed;
catalogs are small. Later reads check the rows they return.

    meta(id = 1, format, revision, rows, digest, crc)
    kv(key, value, create_revision, mod_revision, version, deleted, crc)       a tombstone has value b'', numbers 0
    kv.crc     CRC32C of: length of key, create_revision, mod_revision, version, deleted (5 x int64 LE), key, value
    meta.crc   CRC32C of: format, revision, rows, digest (4 x int64 LE)
    digest     sum of all kv.crc, modulo 2**32

The rollback journal is used rather than SQLite's write-ahead log: readers then need no shared memory and no write
permission. A reader that meets the journal of a killed writer cannot undo it through a read-only connection, so
it opens the file for writing once to let SQLite undo it.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

import google_crc32c

from mitoframe.model.errors import (
    BusyError,
    ClosedError,
    ConfigError,
    CorruptionError,
    DiskFullError,
    InvalidInputError,
    LimitExceededError,
    MitoError,
    ReadOnlyError,
    UnavailableError,
    UnknownOutcomeError,
)
from mitoframe.model.keyvalue import Change, Compare, Delete, KeyValue, Put, RangeResult, TxnResult

FORMAT = 1
BUSY_TIMEOUT_S = 5.0
MEMORY = ":memory:"

_FIRST_REVISION = 1
_DIGEST_MODULUS = 2**32
_TYPES_OF_ROW = (bytes, bytes, int, int, int, int)
_NUMBERS_OF_ROW = struct.Struct("<5q")
_NUMBERS_OF_STATE = struct.Struct("<4q")

_CREATE_KV = (
    "CREATE TABLE kv(key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL, create_revision INTEGER NOT NULL, "
    "mod_revision INTEGER NOT NULL, version INTEGER NOT NULL, deleted INTEGER NOT NULL, crc INTEGER NOT NULL) "
    "WITHOUT ROWID"
)
_CREATE_META = (
    "CREATE TABLE meta(id INTEGER NOT NULL PRIMARY KEY, format INTEGER NOT NULL, revision INTEGER NOT NULL, "
    "rows INTEGER NOT NULL, digest INTEGER NOT NULL, crc INTEGER NOT NULL)"
)
_SCHEMA = [(b"kv", _CREATE_KV.encode()), (b"meta", _CREATE_META.encode())]
_SELECT_ROWS = "SELECT key, value, create_revision, mod_revision, version, deleted, crc FROM kv"

# The second when SQLite's message quotes damaged text.
_FOREIGN_ERRORS = (sqlite3.Error, UnicodeDecodeError)

_T = TypeVar("_T")
_Operation: TypeAlias = "Put | Delete"


class _Row(NamedTuple):
    """In the order of the columns; a tuple because opening makes one for every row there is."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    deleted: int

    def checksum(self) -> int:
        numbers = (len(self.key), self.create_revision, self.mod_revision, self.version, self.deleted)
        return int(google_crc32c.value(_NUMBERS_OF_ROW.pack(*numbers) + self.key + self.value))

    def to_key_value(self) -> KeyValue:
        return KeyValue(
            key=self.key,
            value=self.value,
            create_revision=self.create_revision,
            mod_revision=self.mod_revision,
            version=self.version,
        )

    def to_change(self) -> Change:
        return Change(key=self.key, value=None if self.deleted else self.value, mod_revision=self.mod_revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The row of ``meta``: what is true of the store as a whole."""

    revision: int
    rows: int
    digest: int

    def checksum(self) -> int:
        return int(google_crc32c.value(_NUMBERS_OF_STATE.pack(FORMAT, self.revision, self.rows, self.digest)))


class SqliteMetaStore:
    """Small values by key in one file.

    >>> store = SqliteMetaStore(":memory:")
    >>> store.txn([Compare(b"a", "create", 0)], [Put(b"a", b"1")])
    TxnResult(succeeded=True, revision=2, responses=())
    >>> store.range(b"a").kvs[0].value
    b'1'
    """

    def __init__(self, path: str, read_only: bool = False) -> None:
        """Open the store at ``path``, made if it is not there; ``":memory:"`` is one that ends with the process."""
        assert not (read_only and path == MEMORY), "a store in memory has no other writer to read from"
        self.path = path if path == MEMORY else os.path.abspath(path)
        self._read_only = read_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = _connect(self.path, "ro" if read_only else "rwc")
            self._open()
        except _FOREIGN_ERRORS as error:
            self.close()
            raise self._translate(error) from error
        except BaseException:
            self.close()
            raise

    # --- the port --------------------------------------------------------------------------------------

    def range(self, key: bytes, end: bytes | None = None) -> RangeResult:
        """Return the key, or all keys in [key, end), sorted."""
        _require_key(key)

        def read(connection: sqlite3.Connection) -> RangeResult:
            kvs = tuple(row.to_key_value() for row in self._rows(connection, key, end) if not row.deleted)
            return RangeResult(kvs=kvs, revision=self._state(connection).revision, count=len(kvs))

        return self._read(read)

    def changes(self, key: bytes, end: bytes | None, *, after: int) -> tuple[int, tuple[Change, ...]]:
        """Return the current revision and every key of the range that changed after revision ``after``."""
        _require_key(key)

        def read(connection: sqlite3.Connection) -> tuple[int, tuple[Change, ...]]:
            revision = self._state(connection).revision
            if revision <= after:
                return revision, ()
            rows = self._rows(connection, key, end)
            return revision, tuple(row.to_change() for row in rows if row.mod_revision > after)

        return self._read(read)

    def txn(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete], failure: Sequence[Put | Delete] = ()
    ) -> TxnResult:
        """Apply ``success`` if every comparison holds, else ``failure``; atomically and durably."""
        for comparison in compare:
            assert (comparison.relation, comparison.end) == ("=", None), "single keys are compared for equality"
            _require_key(comparison.key)
        for operations in (success, failure):
            _require_distinct_keys(operations)
        if self._read_only:
            raise ReadOnlyError(f'{self.path} was opened for reading. Open the store with mode="rw" to change it.')
        with self._lock:
            connection = self._live_connection()
            try:
                return self._txn_locked(connection, compare, success, failure)
            except _FOREIGN_ERRORS as error:
                raise self._translate(error) from error
            finally:
                if connection.in_transaction:
                    connection.rollback()

    def close(self) -> None:
        """Let the file go. Closing twice is harmless."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # --- transactions ----------------------------------------------------------------------------------

    def _txn_locked(
        self,
        connection: sqlite3.Connection,
        compare: Sequence[Compare],
        success: Sequence[_Operation],
        failure: Sequence[_Operation],
    ) -> TxnResult:
        connection.execute("BEGIN IMMEDIATE")
        before = self._state(connection)
        succeeded = all(self._holds(connection, comparison) for comparison in compare)
        after = self._apply(connection, before, success if succeeded else failure)
        if after != before:
            _write_state(connection, after)
            self._commit(connection)
        return TxnResult(succeeded=succeeded, revision=after.revision)

    def _holds(self, connection: sqlite3.Connection, comparison: Compare) -> bool:
        row = self._row(connection, comparison.key)
        found = {
            "create": row.create_revision if row else 0,
            "mod": row.mod_revision if row and not row.deleted else 0,
            "version": row.version if row else 0,
        }
        return found[comparison.target] == comparison.value

    def _apply(self, connection: sqlite3.Connection, state: _State, operations: Iterable[_Operation]) -> _State:
        revision = state.revision + 1
        for operation in operations:
            old = self._row(connection, operation.key)
            new = _row_after(operation, old, revision)
            if new is None:
                continue
            _write_row(connection, new)
            state = _State(
                revision=revision,
                rows=state.rows + (old is None),
                digest=(state.digest + new.checksum() - (old.checksum() if old else 0)) % _DIGEST_MODULUS,
            )
        return state

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

    # --- reading ---------------------------------------------------------------------------------------

    def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._lock:
            connection = self._live_connection()
            try:
                return self._snapshot_locked(connection, work)
            except _FOREIGN_ERRORS as error:
                raise self._translate(error) from error

    def _snapshot_locked(self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``work`` on one committed state of the file, first undoing what a killed writer left half-done."""
        try:
            return _in_snapshot(connection, work)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        healer = _connect(self.path, "rw")
        try:
            _in_snapshot(healer, lambda healed: healed.execute("SELECT count(*) FROM sqlite_schema").fetchone())
        finally:
            healer.close()
        return _in_snapshot(connection, work)

    def _row(self, connection: sqlite3.Connection, key: bytes) -> _Row | None:
        return next(iter(self._rows(connection, key, None)), None)

    def _rows(self, connection: sqlite3.Connection, key: bytes, end: bytes | None) -> list[_Row]:
        if end is None:
            found = connection.execute(f"{_SELECT_ROWS} WHERE key = ?", (key,))
        else:
            found = connection.execute(f"{_SELECT_ROWS} WHERE key >= ? AND key < ? ORDER BY key", (key, end))
        return [self._checked_row(values) for values in found]

    def _checked_row(self, values: tuple[Any, ...]) -> _Row:
        *fields, crc = values
        if tuple(map(type, fields)) != _TYPES_OF_ROW:
            raise self._corruption(f"the row of key {values[0]!r} is damaged")
        row = _Row(*fields)
        if row.checksum() != crc:
            raise self._corruption(f"the value of key {row.key!r} is damaged", expected=crc, found=row.checksum())
        return row

    def _state(self, connection: sqlite3.Connection) -> _State:
        rows = connection.execute("SELECT id, format, revision, rows, digest, crc FROM meta").fetchall()
        match rows:
            case [(1, int(_), int(revision), int(count), int(digest), crc)]:
                state = _State(revision=revision, rows=count, digest=digest)
                if state.checksum() == crc:
                    return state
                raise self._corruption("the catalog's summary is damaged", expected=crc, found=state.checksum())
        raise self._corruption("the catalog's summary is damaged")

    # --- opening ---------------------------------------------------------------------------------------

    def _open(self) -> None:
        connection = self._live_connection()
        connection.execute("PRAGMA trusted_schema = OFF")
        if not self._read_only:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            self._create_if_empty(connection)
        self._snapshot_locked(connection, self._verify)

    def _create_if_empty(self, connection: sqlite3.Connection) -> None:
        if _page_count(connection) > 0:
            return
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT name FROM sqlite_schema").fetchall():  # nobody else made it meanwhile
            self._refuse_stub()
            connection.execute(_CREATE_KV)
            connection.execute(_CREATE_META)
            _write_state(connection, _State(revision=_FIRST_REVISION, rows=0, digest=0))
        connection.execute("COMMIT")

    def _refuse_stub(self) -> None:
        """Refuse a file that is too short to hold a page: SQLite takes it for an empty one."""
        if self.path != MEMORY and os.path.getsize(self.path) > 0:
            raise self._corruption("the file is cut short")

    def _verify(self, connection: sqlite3.Connection) -> None:
        """Read everything once, and refuse what we did not write."""
        if self._read_only and _page_count(connection) == 0:
            self._refuse_stub()
            raise UnavailableError(f"{self.path} is empty: its writer has not finished making it. Try again.")
        self._refuse_newer_format(connection)
        tables = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        if tables != _SCHEMA:
            raise self._corruption("this is not a mitoframe catalog, or it is damaged")
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != b"ok":
            raise self._corruption(problem.decode(errors="replace"))
        self._verify_rows(connection)

    def _refuse_newer_format(self, connection: sqlite3.Connection) -> None:
        try:
            row = connection.execute("SELECT format FROM meta").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            raise self._corruption("this is not a mitoframe catalog, or it is damaged") from error
        if row is None or not isinstance(row[0], int) or row[0] < FORMAT:
            raise self._corruption("the catalog's format number is damaged")
        if row[0] > FORMAT:
            raise ConfigError(
                f"{self.path} has catalog format {row[0]}, this version of mitoframe reads {FORMAT}. "
                "Open it with a newer mitoframe."
            )

    def _verify_rows(self, connection: sqlite3.Connection) -> None:
        state = self._state(connection)
        keys, digest = [], 0
        for values in connection.execute(_SELECT_ROWS):
            row = self._checked_row(values)
            keys.append(row.key)
            digest = (digest + values[-1]) % _DIGEST_MODULUS
        if (len(keys), digest) != (state.rows, state.digest):
            raise self._corruption(
                "keys are missing or changed",
                expected=f"{state.rows} keys with digest {state.digest:08x}",
                found=f"{len(keys)} with {digest:08x}",
            )
        if any(left >= right for left, right in pairwise(keys)):
            raise self._corruption("the keys are out of order")

    def _live_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ClosedError(f"{self.path} was closed. Open the store again.")
        return self._connection

    # --- errors ----------------------------------------------------------------------------------------

    def _corruption(self, what: str, expected: object = None, found: object = None) -> CorruptionError:
        return CorruptionError(what, path=self.path, expected=expected, found=found)

    def _translate(self, error: sqlite3.Error | UnicodeDecodeError) -> MitoError:
        """Turn SQLite's error into ours by its result code; the messages are not a stable interface."""
        if isinstance(error, UnicodeDecodeError):
            return self._corruption("the catalog's own description is damaged")
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_READONLY:
            return ReadOnlyError(f"{self.path} cannot be written. Check the permissions of the file and its folder.")
        match code & 0xFF:
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
                return self._corruption(str(error))
            case sqlite3.SQLITE_FULL:
                return DiskFullError(f"{self.path}: no space left for the catalog. Free some and retry.")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return BusyError(f"{self.path} was locked for {BUSY_TIMEOUT_S} s. Wait and retry.")
            case sqlite3.SQLITE_TOOBIG:
                return LimitExceededError(f"{self.path}: a key or value is larger than SQLite can hold.")
        return UnavailableError(f"{self.path}: the catalog did not answer ({error}). Check the file and retry.")


# --- pieces --------------------------------------------------------------------------------------------


def _connect(path: str, mode: str) -> sqlite3.Connection:
    name = path if path == MEMORY else f"file:{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(
        name, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=path != MEMORY
    )
    # Damaged text need not be UTF-8; and a key whose type was flipped from BLOB to TEXT must not look like bytes.
    connection.text_factory = bytearray
    return connection


def _in_snapshot(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        # SQLite ends the transaction by itself after some errors.
        if connection.in_transaction:
            connection.rollback()


def _page_count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


def _row_after(operation: _Operation, old: _Row | None, revision: int) -> _Row | None:
    """Return what the key becomes, or None if the operation changes nothing."""
    alive = old is not None and not old.deleted
    if isinstance(operation, Put):
        return _Row(
            key=operation.key,
            value=operation.value,
            create_revision=old.create_revision if old and alive else revision,
            mod_revision=revision,
            version=old.version + 1 if old else 1,  # a tombstone's is 0
            deleted=0,
        )
    if not alive:
        return None
    return _Row(key=operation.key, value=b"", create_revision=0, mod_revision=revision, version=0, deleted=1)


def _write_row(connection: sqlite3.Connection, row: _Row) -> None:
    values = (row.key, row.value, row.create_revision, row.mod_revision, row.version, row.deleted, row.checksum())
    connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def _write_state(connection: sqlite3.Connection, state: _State) -> None:
    values = (FORMAT, state.revision, state.rows, state.digest, state.checksum())
    connection.execute("INSERT OR REPLACE INTO meta VALUES (1, ?, ?, ?, ?, ?)", values)


def _require_key(key: bytes) -> None:
    if not key:
        raise InvalidInputError("a key must not be empty; give it at least one byte")


def _require_distinct_keys(operations: Iterable[_Operation]) -> None:
    """Refuse a key that is put twice, or put and deleted: the outcome would hang on the order, as etcd sees it too."""
    operations = list(operations)
    put: set[bytes] = set()
    deleted = {operation.key for operation in operations if isinstance(operation, Delete)}
    for operation in operations:
        _require_key(operation.key)
        if not isinstance(operation, Put):
            continue
        if operation.key in put or operation.key in deleted:
            raise InvalidInputError(f"duplicate key {operation.key!r} in one transaction; name each key once")
        put.add(operation.key)
