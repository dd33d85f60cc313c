"""Snapshots of a store and stores from snapshots: whole under their names, or not there.

A copy is written beside the name it will have, synced, read and compared with its checksums, and only then given that
name, which must be free. What a crash leaves is called ``….part``, and the next copy to the same name takes it away.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from mitoframe.kv.backend import Backend
from mitoframe.kv.backend_sqlite import SqliteBackend
from mitoframe.kv.rows import Rows, State
from mitoframe.kv.verifying import check_rows
from mitoframe.model.errors import InvalidInputError, UnavailableError
from mitoframe.model.keyvalue import SnapshotInfo

_CHUNK_BYTES = 1 << 20


def snapshot(backend: Backend, path: str) -> SnapshotInfo:
    """Copy one committed state of a store to a file that is not there yet."""
    path = os.path.abspath(path)
    with _made(path) as part:
        backend.copy(part)
        state = _check_copy(part)
        size_bytes, sha256 = _measure(part)
    return SnapshotInfo(path=path, revision=state.revision, size_bytes=size_bytes, sha256=sha256)


def restore(snapshot_path: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Make a store from a snapshot: a new one, which has all the snapshot has, and goes on from its revision.

    Args:
        snapshot_path: what `KeyValueStore.snapshot` wrote.
        path: of the store, where nothing may be.

    Raises:
        InvalidInputError: there is something at ``path``.
        CorruptionError: the snapshot is damaged.

    Example:
        >>> import tempfile
        >>> from mitoframe import kv
        >>> folder = tempfile.mkdtemp()
        >>> with kv.open("memory://") as store:
        ...     _ = store.put(b"line", b"7")
        ...     _ = store.snapshot(f"{folder}/copy.kv")
        >>> kv.restore(f"{folder}/copy.kv", f"{folder}/plant.kv")
        >>> with kv.open(f"{folder}/plant.kv") as store:
        ...     store.get(b"line").value
        b'7'

    """
    with _made(os.path.abspath(path)) as part, closing(SqliteBackend(str(snapshot_path), read_only=True)) as backend:
        backend.check()
        backend.copy(part)
        _check_copy(part)


def _check_copy(path: str) -> State:
    with closing(SqliteBackend(path, read_only=True)) as backend, backend.begin_read() as transaction:
        return check_rows(Rows(transaction, path))


@contextmanager
def _made(path: str) -> Iterator[str]:
    """Give a name to write to; what is there at the end gets its name, if that is free."""
    part = f"{path}.part"
    _refuse_replacing(path)
    try:
        with suppress(FileNotFoundError):
            os.unlink(part)
        try:
            yield part
            os.link(part, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
        _sync_folder(os.path.dirname(path))
    except FileExistsError:
        _refuse_replacing(path)
        raise
    except OSError as error:
        if isinstance(error, UnavailableError):
            raise
        raise UnavailableError(f"{path} cannot be written ({error}). Check the folder and retry.") from error


def _refuse_replacing(path: str) -> None:
    if os.path.lexists(path) or os.path.lexists(f"{path}-wal"):
        raise InvalidInputError(f"there is something at {path} already; choose another name, or move it away")


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _measure(path: str) -> tuple[int, str]:
    """Return a file's size, and the SHA-256 of its bytes."""
    digest, size_bytes = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return size_bytes, digest.hexdigest()
