"""Real files under one root folder.

Promises what `mitoframe.ports.Vfs` says, by these means:

* ``write`` loops until the kernel has taken every byte; interrupted calls are repeated by Python itself.
* ``sync`` is fdatasync where there is one, F_FULLFSYNC on macOS, fsync elsewhere. It is called once: after a
  failed sync the kernel may have marked the lost pages clean, so that a second one would succeed and lie.
* ``make_dirs`` syncs the parent of each folder on its way, also of folders that exist, because the process that
  made them may have died before it could.
* Files are 0600 and folders 0700. A symbolic link is never followed at the end of a path, and what is not a
  regular file (a FIFO would block) is refused.

Refuses, by assertion, any path that leaves the root: paths are made by mitoframe of numbers and UUIDs.

A lock belongs to the process that took it. A forked child holds no part of it: its copy releases nothing, and
the lock ends with the parent even if the child lives on. On Windows folders cannot be synced and need not be.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import filelock

from mitoframe.ports import Bytes, FileLock, FileStat, WritableFile

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_FLAGS = (
    getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must fail, not wait
    | getattr(os, "O_BINARY", 0)
)
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")

if sys.platform == "darwin":
    import fcntl

    def _sync(descriptor: int) -> None:
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            # Network file systems do not know the request; then nothing was tried and fsync is the first attempt.
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(descriptor)

else:
    _sync = getattr(os, "fdatasync", os.fsync)


def assert_inside(path: str, *, folder: bool = False) -> None:
    """Assert that a path is relative, plain, and stays under its root. ``""`` is the root folder itself."""
    if folder and path == "":
        return
    assert "\0" not in path, f"NUL in path {path!r}"
    assert "\\" not in path, f"backslash in path {path!r}"
    assert ":" not in path, f"colon in path {path!r}"
    assert all(part not in ("", ".", "..") for part in path.split("/")), f"path {path!r} is not plain and relative"


class OsVfs:
    """Files under ``root``, which need not exist yet: ``make_dirs("")`` makes it."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)

    def create(self, path: str) -> WritableFile:
        return _OsFile(self._open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def append(self, path: str) -> WritableFile:
        file = _OsFile(self._open(path, os.O_WRONLY))
        file.seek_end()
        return file

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        descriptor = self._open(path, os.O_RDONLY)
        try:
            return _read_range(descriptor, _size(descriptor), start, length)
        finally:
            os.close(descriptor)

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        descriptor = self._open(path, os.O_RDONLY)
        try:
            size_bytes = _size(descriptor)
            return [_read_range(descriptor, size_bytes, start, length) for start, length in ranges]
        finally:
            os.close(descriptor)

    def stat(self, path: str) -> FileStat:
        found = os.stat(self._full(path), follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return FileStat(size_bytes=found.st_size, modified_ms=found.st_mtime_ns // 1_000_000)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(self._full(path, folder=True)))

    def make_dirs(self, path: str) -> None:
        assert_inside(path, folder=True)
        self._make_root()
        folder = self.root
        for part in path.split("/") if path else ():
            parent, folder = folder, os.path.join(folder, part)
            _make_folder(folder)
            _sync_folder(parent)

    def link(self, source: str, target: str) -> None:
        os.link(self._full(source), self._full(target))

    def rename(self, source: str, target: str) -> None:
        os.replace(self._full(source), self._full(target))

    def unlink(self, path: str) -> None:
        os.unlink(self._full(path))

    def sync_dir(self, path: str) -> None:
        _sync_folder(self._full(path, folder=True))

    def lock(self, path: str) -> FileLock:
        full = self._full(path)
        os.stat(os.path.dirname(full))  # the library would make a missing folder, and not durably
        lock = filelock.FileLock(full, thread_local=False, mode=_FILE_MODE)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise BlockingIOError(errno.EAGAIN, "locked by another holder", path) from error
        return _OsLock(lock)

    def boot_id(self) -> str:
        try:
            return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def _full(self, path: str, *, folder: bool = False) -> str:
        assert_inside(path, folder=folder)
        return os.path.join(self.root, path) if path else self.root

    def _open(self, path: str, flags: int) -> int:
        descriptor = os.open(self._full(path), flags | _FLAGS, _FILE_MODE)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)

    def _make_root(self) -> None:
        missing = []
        folder = self.root
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            _make_folder(folder)
            _sync_folder(os.path.dirname(folder))


class _OsFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def seek_end(self) -> None:
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def write(self, data: Bytes) -> None:
        remaining = memoryview(data).cast("B")  # type: ignore[arg-type]  # anything with the buffer protocol
        while remaining:
            written = os.write(self._descriptor, remaining)
            if written == 0:
                raise OSError(errno.EIO, "the operating system took none of the bytes")
            remaining = remaining[written:]

    def sync(self) -> None:
        _sync(self._descriptor)

    def truncate(self, size_bytes: int) -> None:
        assert size_bytes <= os.fstat(self._descriptor).st_size, "a file is cut, never extended"
        os.ftruncate(self._descriptor, size_bytes)
        self.seek_end()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class _OsLock:
    def __init__(self, lock: filelock.BaseFileLock) -> None:
        self._lock = lock
        self._process_id = os.getpid()

    def release(self) -> None:
        # A forked child shares the kernel's lock with its parent; releasing here would take it from the parent.
        if os.getpid() == self._process_id:
            self._lock.release()


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def _read_range(descriptor: int, size_bytes: int, start: int, length: int | None) -> bytes:
    assert start >= 0
    assert length is None or length >= 0
    # Bounded by the file, so that a length read from damaged bytes allocates nothing.
    available = max(0, size_bytes - start)
    wanted = available if length is None else min(length, available)
    data = _read_at(descriptor, wanted, start)
    while len(data) < wanted and (more := _read_at(descriptor, wanted - len(data), start + len(data))):
        data += more
    return data


def _read_at(descriptor: int, length: int, start: int) -> bytes:
    if sys.platform == "win32":
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.read(descriptor, length)
    return os.pread(descriptor, length, start)


def _make_folder(folder: str) -> None:
    try:
        os.mkdir(folder, _FOLDER_MODE)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise


def _sync_folder(folder: str) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
