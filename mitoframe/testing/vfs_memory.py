"""A file system in memory that can lose power.

**What survives.** `MemoryVfs.crash` returns one image that a disk may hold after the power failed:

* *File data* up to the last ``sync`` of that file survives. Files are only appended to and cut, so what is at
  stake is everything beyond the shortest length since that sync: it may be as it was at the sync, as it is now,
  or torn: each 512-byte block that was written may have reached the disk or be zero (or hold what was there at
  the sync), and the file may end anywhere in between. A block is never torn in itself, which is what disks promise.
* *Names* survive from the last ``sync_dir`` of their folder. Each create, link, rename and unlink since then was
  kept or lost independently of all others and of the file's data; a rename within one folder is one step, a
  rename between two folders is two. For one name the steps keep their order, so every image is legal.
* *Folders* survive once ``make_dirs`` has returned. *Locks* are gone and ``boot_id`` is another.

The model is as harsh as POSIX allows: syncing a new file does not make its name durable.

`MemoryVfs.killed` returns what the next process finds when only the process died: everything, in the same boot.
Both leave the original as it was, and copy only bytes that can still change, so that a test can call them before
every operation.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mitoframe.drivers.vfs_os import assert_inside
from mitoframe.ports import Bytes, FileLock, FileStat, WritableFile

BLOCK_SIZE_BYTES = 512

Keep = Literal["none", "all", "random"]


class MemoryVfs:
    def __init__(self, root: str = "memory://") -> None:
        self.root = root
        self._boot = 1
        self._ticks = 0
        self._folders: dict[str, _Folder] = {"": _Folder()}
        self._locks: set[str] = set()
        self._mutex = threading.RLock()

    def create(self, path: str) -> WritableFile:
        with self._mutex:
            folder, name = self._locate(path)
            if name in folder.names:
                raise _os_error(errno.EEXIST, path)
            node = _Node(modified_ms=self._tick())
            folder.change({name: node})
            return _MemoryFile(self, node)

    def append(self, path: str) -> WritableFile:
        with self._mutex:
            return _MemoryFile(self, self._node(path))

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        assert start >= 0
        assert length is None or length >= 0
        with self._mutex:
            data = self._node(path).data
            end = len(data) if length is None else min(len(data), start + length)
            return bytes(memoryview(data)[start:end])

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return [self.read(path, start, length) for start, length in ranges]

    def stat(self, path: str) -> FileStat:
        with self._mutex:
            if path in self._folders:
                raise _os_error(errno.EISDIR, path)
            node = self._node(path)
            return FileStat(size_bytes=len(node.data), modified_ms=node.modified_ms)

    def list(self, path: str) -> list[str]:
        with self._mutex:
            folder = self._folder(path)
            inside = f"{path}/" if path else ""
            below = (name.removeprefix(inside) for name in self._folders if name and name.startswith(inside))
            return sorted({*folder.names, *(name for name in below if "/" not in name)})

    def make_dirs(self, path: str) -> None:
        assert_inside(path, folder=True)
        with self._mutex:
            parts = path.split("/") if path else []
            for depth in range(1, len(parts) + 1):
                parent, folder = "/".join(parts[: depth - 1]), "/".join(parts[:depth])
                if parts[depth - 1] in self._folders[parent].names:
                    raise _os_error(errno.EEXIST, folder)
                self._folders.setdefault(folder, _Folder())

    def link(self, source: str, target: str) -> None:
        with self._mutex:
            node = self._node(source)
            folder, name = self._locate(target)
            if name in folder.names:
                raise _os_error(errno.EEXIST, target)
            folder.change({name: node})

    def rename(self, source: str, target: str) -> None:
        with self._mutex:
            node = self._node(source)
            source_folder, source_name = self._locate(source)
            target_folder, target_name = self._locate(target)
            if target_folder.names.get(target_name) is node:
                return
            if source_folder is target_folder:
                target_folder.change({source_name: None, target_name: node})
            else:
                target_folder.change({target_name: node})
                source_folder.change({source_name: None})

    def unlink(self, path: str) -> None:
        with self._mutex:
            self._node(path)
            folder, name = self._locate(path)
            folder.change({name: None})

    def sync_dir(self, path: str) -> None:
        with self._mutex:
            self._folder(path).sync()

    def lock(self, path: str) -> FileLock:
        with self._mutex:
            self._locate(path)
            if path in self._locks:
                raise BlockingIOError(errno.EAGAIN, "locked by another holder", path)
            self._locks.add(path)
            return _MemoryLock(self._locks, path)

    def boot_id(self) -> str:
        return f"boot-{self._boot}"

    def crash(self, rng: np.random.Generator | None = None, keep: Keep = "none") -> MemoryVfs:
        """Return an image that may be found after a power loss now; ``keep="random"`` requires ``rng``."""
        with self._mutex:
            return self._copy(self._boot + 1, _survival(rng, keep))

    def killed(self) -> MemoryVfs:
        """Return what the next process finds if this one dies now and the machine runs on."""
        with self._mutex:
            return self._copy(self._boot, _Unharmed())

    def _copy(self, boot: int, survival: _Survival) -> MemoryVfs:
        copies: dict[int, _Node] = {}

        def copy_of(node: _Node) -> _Node:
            if id(node) not in copies:
                copies[id(node)] = survival.node(node)
            return copies[id(node)]

        image = MemoryVfs(self.root)
        image._boot, image._ticks = boot, self._ticks
        image._folders = {path: survival.folder(folder, copy_of) for path, folder in self._folders.items()}
        return image

    def _folder(self, path: str) -> _Folder:
        assert_inside(path, folder=True)
        if path in self._folders:
            return self._folders[path]
        parent, _, name = path.rpartition("/")
        is_file = parent in self._folders and name in self._folders[parent].names
        raise _os_error(errno.ENOTDIR if is_file else errno.ENOENT, path)

    def _locate(self, path: str) -> tuple[_Folder, str]:
        assert_inside(path)
        parent, _, name = path.rpartition("/")
        return self._folder(parent), name

    def _node(self, path: str) -> _Node:
        folder, name = self._locate(path)
        if name not in folder.names:
            raise _os_error(errno.ENOENT, path)
        return folder.names[name]

    def _tick(self) -> int:
        self._ticks += 1
        return self._ticks

    @contextmanager
    def _changing(self, node: _Node) -> Iterator[None]:
        with self._mutex:
            yield
            node.modified_ms = self._tick()


@dataclass(slots=True)
class _Node:
    """A file's bytes now (``data``) and at its last sync; below ``untouched`` the two were never apart."""

    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    untouched: int = 0
    modified_ms: int = 0


@dataclass(slots=True)
class _Folder:
    """The names now, the names at the last sync, and the steps between the two."""

    names: dict[str, _Node] = field(default_factory=dict)
    synced: dict[str, _Node] = field(default_factory=dict)
    steps: list[Mapping[str, _Node | None]] = field(default_factory=list)

    def change(self, step: Mapping[str, _Node | None]) -> None:
        _apply(step, self.names)
        self.steps.append(step)

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.steps.clear()


class _MemoryFile:
    def __init__(self, vfs: MemoryVfs, node: _Node) -> None:
        self._vfs, self._node, self._closed = vfs, node, False

    def write(self, data: Bytes) -> None:
        self._assert_open()
        with self._vfs._changing(self._node):
            self._node.data += memoryview(data).cast("B")  # type: ignore[arg-type]  # the buffer protocol

    def sync(self) -> None:
        self._assert_open()
        with self._vfs._mutex:
            self._node.synced = bytes(self._node.data)
            self._node.untouched = len(self._node.data)

    def truncate(self, size_bytes: int) -> None:
        self._assert_open()
        assert size_bytes <= len(self._node.data), "a file is cut, never extended"
        with self._vfs._changing(self._node):
            del self._node.data[size_bytes:]
            self._node.untouched = min(self._node.untouched, size_bytes)

    def close(self) -> None:
        self._closed = True

    def _assert_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class _MemoryLock:
    def __init__(self, locks: set[str], path: str) -> None:
        self._locks, self._path, self._held = locks, path, True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._locks.discard(self._path)


class _Survival:
    """What becomes of files and names. This one: only what was synced is left."""

    def node(self, node: _Node) -> _Node:
        return self._settled(node.synced, node.modified_ms)

    def folder(self, folder: _Folder, copy_of: Callable[[_Node], _Node]) -> _Folder:
        names = dict(folder.synced)
        for step in folder.steps:
            if self.step_survives():
                _apply(step, names)
        image = _Folder(names={name: copy_of(node) for name, node in names.items()})
        image.sync()
        return image

    def step_survives(self) -> bool:
        return False

    @staticmethod
    def _settled(data: bytes | bytearray, modified_ms: int) -> _Node:
        return _Node(data=bytearray(data), synced=bytes(data), untouched=len(data), modified_ms=modified_ms)


class _EverythingSurvives(_Survival):
    def node(self, node: _Node) -> _Node:
        return self._settled(node.data, node.modified_ms)

    def step_survives(self) -> bool:
        return True


class _ChanceDecides(_Survival):
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def node(self, node: _Node) -> _Node:
        if node.data == node.synced and node.untouched == len(node.data):
            return self._settled(node.data, node.modified_ms)
        size = self._size(node)
        torn = bytearray(node.synced[:size].ljust(size, b"\0"))
        for block_start in range(node.untouched // BLOCK_SIZE_BYTES * BLOCK_SIZE_BYTES, size, BLOCK_SIZE_BYTES):
            first, last = max(node.untouched, block_start), min(size, block_start + BLOCK_SIZE_BYTES)
            if self._rng.random() < 0.5:
                kept = node.data[first:last]
                torn[first : first + len(kept)] = kept
        return self._settled(torn, node.modified_ms)

    def _size(self, node: _Node) -> int:
        shortest, longest = node.untouched, max(len(node.data), len(node.synced))
        anywhere = int(self._rng.integers(shortest, longest + 1))
        return int(self._rng.choice([len(node.data), len(node.synced), shortest, anywhere]))

    def step_survives(self) -> bool:
        return bool(self._rng.random() < 0.5)


class _Unharmed(_Survival):
    def node(self, node: _Node) -> _Node:
        return _Node(bytearray(node.data), node.synced, node.untouched, node.modified_ms)

    def folder(self, folder: _Folder, copy_of: Callable[[_Node], _Node]) -> _Folder:
        return _Folder(
            names={name: copy_of(node) for name, node in folder.names.items()},
            synced={name: copy_of(node) for name, node in folder.synced.items()},
            steps=[{name: node and copy_of(node) for name, node in step.items()} for step in folder.steps],
        )


def _survival(rng: np.random.Generator | None, keep: Keep) -> _Survival:
    if keep == "random":
        assert rng is not None, "chance needs a generator"
        return _ChanceDecides(rng)
    return _EverythingSurvives() if keep == "all" else _Survival()


def _apply(step: Mapping[str, _Node | None], names: dict[str, _Node]) -> None:
    for name, node in step.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _os_error(number: int, path: str) -> OSError:
    """``OSError`` chooses its subclass (FileNotFoundError, ...) by the number."""
    return OSError(number, os.strerror(number), path)
