"""File systems that watch, fail, kill and dawdle: wrappers around any `Vfs`, and around the files it hands out.

    TraceVfs   records every operation, and prints them as lines for a golden file
    ErrorVfs   raises OSError where a rule says so, once or for ever; a write may be cut short first
    KillVfs    ends the process at the n-th effect, also in the middle of a write
    SlowVfs    takes its time over every fsync, as a disk does that has no memory of its own

A loop that raises ``number`` (or ``kill_at``) until a run gets through untouched has met every point::

    for number in itertools.count(1):
        faulty = ErrorVfs(MemoryVfs(), FailAt(number, errno.EIO))
        scenario(faulty)
        if faulty.operations < number:
            break
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from mitoframe.ports import Bytes, FileLock, FileStat, Vfs, WritableFile

T = TypeVar("T")

MUTATIONS = frozenset({"create", "write", "sync", "truncate", "link", "rename", "unlink", "make_dirs", "sync_dir"})
"""The kinds of operations that change what a crash leaves behind."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: its kind is the name of the method; ``size_bytes`` is what was written, asked for or cut to."""

    kind: str
    path: str
    target: str | None = None
    size_bytes: int | None = None

    def line(self, *, sizes: bool = True) -> str:
        """Print the call.

        >>> Operation("rename", "a", target="b").line(), Operation("write", "a", size_bytes=7).line()
        ('rename a -> b', 'write a 7')
        """
        target = f" -> {self.target}" if self.target is not None else ""
        size = f" {self.size_bytes}" if sizes and self.size_bytes is not None else ""
        return f"{self.kind} {self.path or '.'}{target}{size}"


class _WrappedVfs:
    """Sends every operation through `_around`."""

    def __init__(self, inner: Vfs) -> None:
        self.inner = inner
        self.root = inner.root

    def _around(self, operation: Operation, whole: Callable[[], T], first_half: Callable[[], object]) -> T:
        raise NotImplementedError

    def _run(self, operation: Operation, whole: Callable[[], T]) -> T:
        return self._around(operation, whole, _nothing)

    def create(self, path: str) -> WritableFile:
        return _WrappedFile(self, path, self._run(Operation("create", path), lambda: self.inner.create(path)))

    def append(self, path: str) -> WritableFile:
        return _WrappedFile(self, path, self._run(Operation("append", path), lambda: self.inner.append(path)))

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        operation = Operation("read", path, size_bytes=length)
        return self._run(operation, lambda: self.inner.read(path, start, length))

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        operation = Operation("read", path, size_bytes=sum(length for _, length in ranges))
        return self._run(operation, lambda: self.inner.read_ranges(path, ranges))

    def stat(self, path: str) -> FileStat:
        return self._run(Operation("stat", path), lambda: self.inner.stat(path))

    def list(self, path: str) -> list[str]:
        return self._run(Operation("list", path), lambda: self.inner.list(path))

    def make_dirs(self, path: str) -> None:
        self._run(Operation("make_dirs", path), lambda: self.inner.make_dirs(path))

    def link(self, source: str, target: str) -> None:
        self._run(Operation("link", source, target=target), lambda: self.inner.link(source, target))

    def rename(self, source: str, target: str) -> None:
        self._run(Operation("rename", source, target=target), lambda: self.inner.rename(source, target))

    def unlink(self, path: str) -> None:
        self._run(Operation("unlink", path), lambda: self.inner.unlink(path))

    def sync_dir(self, path: str) -> None:
        self._run(Operation("sync_dir", path), lambda: self.inner.sync_dir(path))

    def lock(self, path: str) -> FileLock:
        return self._run(Operation("lock", path), lambda: self.inner.lock(path))

    def boot_id(self) -> str:
        return self.inner.boot_id()


class _WrappedFile:
    def __init__(self, vfs: _WrappedVfs, path: str, inner: WritableFile) -> None:
        self._vfs, self._path, self._inner = vfs, path, inner

    def write(self, data: Bytes) -> None:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]  # the buffer protocol
        self._vfs._around(
            Operation("write", self._path, size_bytes=len(view)),
            lambda: self._inner.write(view),
            lambda: self._inner.write(view[: len(view) // 2]),
        )

    def sync(self) -> None:
        self._vfs._run(Operation("sync", self._path), self._inner.sync)

    def truncate(self, size_bytes: int) -> None:
        operation = Operation("truncate", self._path, size_bytes=size_bytes)
        self._vfs._run(operation, lambda: self._inner.truncate(size_bytes))

    def close(self) -> None:
        # A descriptor must never leak because a test fails things, so closing always goes through.
        self._inner.close()


class TraceVfs(_WrappedVfs):
    """Records every operation before it is carried out, in ``operations``."""

    def __init__(self, inner: Vfs) -> None:
        super().__init__(inner)
        self.operations: list[Operation] = []

    def render(self, *, sizes: bool = True, kinds: Collection[str] | None = None) -> str:
        """Print one line per operation, of the given kinds or of all."""
        chosen = (operation for operation in self.operations if kinds is None or operation.kind in kinds)
        return "".join(operation.line(sizes=sizes) + "\n" for operation in chosen)

    def _around(
        self,
        operation: Operation,
        whole: Callable[[], T],
        first_half: Callable[[], object],  # noqa: ARG002 - the base's signature
    ) -> T:
        self.operations.append(operation)
        return whole()


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: this ``errno``; with ``short`` a write first gets half of its bytes down."""

    errno: int
    short: bool = False


Rule = Callable[[int, Operation], Fault | None]
"""Given an operation and its number from 1, say what goes wrong, if anything."""


@dataclass(frozen=True, slots=True)
class FailAt:
    """Fails the operation of that number; with ``for_ever`` all later ones too."""

    number: int
    errno: int
    for_ever: bool = False
    short: bool = False

    def __call__(self, number: int, operation: Operation) -> Fault | None:  # noqa: ARG002 - a `Rule`
        hit = number >= self.number if self.for_ever else number == self.number
        return Fault(self.errno, self.short) if hit else None


class ErrorVfs(_WrappedVfs):
    """Fails by rule. Only operations of the given kinds are counted, in ``operations``, and put to the rule."""

    def __init__(self, inner: Vfs, rule: Rule, *, kinds: Collection[str] = MUTATIONS) -> None:
        super().__init__(inner)
        self.operations = 0
        self._rule = rule
        self._kinds = kinds

    def _around(self, operation: Operation, whole: Callable[[], T], first_half: Callable[[], object]) -> T:
        if operation.kind not in self._kinds:
            return whole()
        self.operations += 1
        fault = self._rule(self.operations, operation)
        if fault is None:
            return whole()
        if fault.short:
            first_half()
        raise OSError(fault.errno, os.strerror(fault.errno), operation.path)


class KillVfs(_WrappedVfs):
    """Calls ``kill`` before the ``kill_at``-th operation (0: never) of the given kinds; a write counts twice: before,
    and half-way.

    ``kill`` ends the process (``os._exit``) or raises what nobody catches. In the latter case the dead stay dead:
    whatever their ``finally`` blocks attempt is killed again and changes nothing. ``operations`` counts the points.
    """

    def __init__(
        self, inner: Vfs, kill_at: int, kill: Callable[[], NoReturn], *, kinds: Collection[str] = MUTATIONS
    ) -> None:
        super().__init__(inner)
        self.operations = 0
        self._kill_at = kill_at
        self._kill = kill
        self._kinds = kinds
        self._dead = False

    def _around(self, operation: Operation, whole: Callable[[], T], first_half: Callable[[], object]) -> T:
        if self._dead:
            self._kill()
        if operation.kind not in self._kinds:
            return whole()
        self._point(_nothing)
        if operation.kind == "write":
            self._point(first_half)
        return whole()

    def _point(self, effect: Callable[[], object]) -> None:
        self.operations += 1
        if self.operations == self._kill_at:
            effect()
            self._dead = True
            self._kill()


class SlowVfs(_WrappedVfs):
    """Lets every fsync, of files and of folders, take at least ``sync_ms``. Several at once go side by side."""

    def __init__(self, inner: Vfs, sync_ms: float) -> None:
        assert sync_ms >= 0
        super().__init__(inner)
        self._sync_seconds = sync_ms / 1000

    def _around(
        self,
        operation: Operation,
        whole: Callable[[], T],
        first_half: Callable[[], object],  # noqa: ARG002 - the base's signature
    ) -> T:
        if operation.kind not in ("sync", "sync_dir"):
            return whole()
        ends_at = time.monotonic() + self._sync_seconds
        try:
            return whole()
        finally:
            time.sleep(max(ends_at - time.monotonic(), 0))


def _nothing() -> None:
    pass
