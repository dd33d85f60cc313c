"""Objects in memory: for stores that need not outlive the process, and for tests."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Sequence

from mitoframe.drivers.clock import SystemClock
from mitoframe.drivers.vfs_os import assert_inside
from mitoframe.model.errors import CorruptionError
from mitoframe.ports import Bytes, Clock, ObjectMeta


class MemoryObjectStore:
    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[str, tuple[bytes, ObjectMeta]] = {}
        self._mutex = threading.Lock()

    def get(self, key: str) -> bytes:
        return self._find(key)[0]

    def get_range(self, key: str, start: int, length: int) -> bytes:
        assert start >= 0
        assert length >= 0
        found = self._find(key)[0][start : start + length]
        if len(found) < length:
            raise CorruptionError(
                "the object is too short", path=key, offset=start + len(found), expected=length, found=len(found)
            )
        return found

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return [self.get_range(key, start, length) for start, length in ranges]

    def put_if_absent(self, key: str, data: Bytes) -> None:
        assert_inside(key)
        content = bytes(memoryview(data))  # type: ignore[arg-type]  # the buffer protocol
        meta = ObjectMeta(key=key, size_bytes=len(content), modified_ms=self._clock.now_ms())
        with self._mutex:
            if key in self._objects:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), key)
            self._objects[key] = content, meta

    def put_parts_if_absent(self, key: str, parts: Iterable[Bytes]) -> None:
        whole = bytearray()
        for part in parts:
            whole += memoryview(part)  # type: ignore[arg-type]  # the buffer protocol
        self.put_if_absent(key, whole)

    def head(self, key: str) -> ObjectMeta:
        return self._find(key)[1]

    def list(self, prefix: str) -> list[ObjectMeta]:
        assert_inside(prefix, folder=True)
        with self._mutex:
            metas = [meta for _, meta in self._objects.values()]
        return sorted((meta for meta in metas if meta.key.rpartition("/")[0] == prefix), key=lambda meta: meta.key)

    def delete(self, key: str) -> None:
        with self._mutex:
            self._objects.pop(key, None)

    def sync(self, prefix: str) -> None:
        assert_inside(prefix, folder=True)

    def url(self, key: str) -> str | None:  # noqa: ARG002 - the port's signature
        return None

    def _find(self, key: str) -> tuple[bytes, ObjectMeta]:
        assert_inside(key)
        with self._mutex:
            found = self._objects.get(key)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return found
