"""Objects as files of a `Vfs`: the key is the path.

**Put-if-absent without a torn object.** The bytes go to ``{key}.{32 hex digits}.tmp`` in the key's own folder and
are synced; then a hard link gives them their key, which fails if the key is taken; then the temporary name goes
and the folder is synced. A crash leaves the whole object or none, and perhaps a temporary file, which `list` does
not show and `sweep` removes.

An error before the link means that nothing was changed. At or after the link nobody can tell, so it is an
`UnknownOutcomeError`. Nothing here is ever retried, least of all a sync: a caller that tries again writes
another temporary file.

**Whoever will write must `sweep` first.** The last writer may have died between a link and the sync of its
folder: what can be read is then not yet durable, and must become so before anything is built upon it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from mitoframe.drivers.clock import SystemRandomness
from mitoframe.drivers.failures import is_disk_full, unavailable
from mitoframe.drivers.vfs_os import assert_inside
from mitoframe.model.errors import CorruptionError, UnknownOutcomeError
from mitoframe.ports import Bytes, ObjectMeta, Randomness, Vfs

_TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY_NAME = re.compile(r".+\.[0-9a-f]{32}\.tmp")
_ABSOLUTE_ROOT = re.compile(r"/|[A-Za-z]:[/\\]")


class LocalObjectStore:
    def __init__(self, vfs: Vfs, randomness: Randomness | None = None) -> None:
        self._vfs = vfs
        self._randomness = randomness or SystemRandomness()
        self._folders_made: set[str] = set()
        self.needs_sweep = False
        """Whether something was left that only a `sweep` puts right: a name that may not be durable, or litter."""
        self._has_real_paths = _ABSOLUTE_ROOT.match(vfs.root) is not None

    def get(self, key: str) -> bytes:
        with _reading(f"reading object {key}"):
            return self._vfs.read(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get_ranges(key, [(start, length)])[0]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        with _reading(f"reading object {key}"):
            found = self._vfs.read_ranges(key, ranges)
        for data, (start, length) in zip(found, ranges, strict=True):
            if len(data) != length:
                raise CorruptionError(
                    "the object is too short",
                    path=f"{self._vfs.root}/{key}",
                    offset=start + len(data),
                    expected=length,
                    found=len(data),
                )
        return found

    def put_if_absent(self, key: str, data: Bytes) -> None:
        self.put_parts_if_absent(key, (data,))

    def put_parts_if_absent(self, key: str, parts: Iterable[Bytes]) -> None:
        assert_inside(key)
        assert not key.endswith(_TEMPORARY_SUFFIX), f"{key!r} would be taken for a temporary file"
        folder = key.rpartition("/")[0]
        temporary = f"{key}.{self._randomness.hex128()}{_TEMPORARY_SUFFIX}"
        try:
            with _writing(f"storing object {key}"):
                self._make_folder(folder)
            self._write(temporary, parts, f"storing object {key}")
            self._link(temporary, key)
        finally:
            self._discard(temporary)
        try:
            self._vfs.sync_dir(folder)
        except OSError as error:
            raise self._unknown(key) from error

    def head(self, key: str) -> ObjectMeta:
        with _reading(f"looking for object {key}"):
            found = self._vfs.stat(key)
        return ObjectMeta(key=key, size_bytes=found.size_bytes, modified_ms=found.modified_ms)

    def list(self, prefix: str) -> list[ObjectMeta]:
        keys = (_join(prefix, name) for name in self._names(prefix) if not name.endswith(_TEMPORARY_SUFFIX))
        return [meta for meta in map(self._object, keys) if meta is not None]

    def delete(self, key: str) -> None:
        with _writing(f"deleting object {key}"), suppress(FileNotFoundError):
            self._vfs.unlink(key)

    def sync(self, prefix: str) -> None:
        with _writing(f"syncing folder {prefix or self._vfs.root}"), suppress(FileNotFoundError):
            self._vfs.sync_dir(prefix)

    def url(self, key: str) -> str | None:
        return f"{self._vfs.root}/{key}" if self._has_real_paths else None

    def sweep(self, prefix: str = "") -> int:
        """Remove what crashes left under ``prefix``, make every name there durable, and count what was removed.

        Requires: no other put is under way; that is, the caller is the store's only writer and has just opened it.
        """
        return sum(self._sweep_folder(folder) for folder in self._folders_under(prefix))

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders_made:
            self._vfs.make_dirs(folder)
            self._folders_made.add(folder)

    def _write(self, temporary: str, parts: Iterable[Bytes], doing: str) -> None:
        with _writing(doing):
            file = self._vfs.create(temporary)
        try:
            for part in parts:  # What it raises is not of this store's making.
                with _writing(doing):
                    file.write(part)
            with _writing(doing):
                file.sync()
        finally:
            with _writing(doing):
                file.close()

    def _link(self, temporary: str, key: str) -> None:
        try:
            self._vfs.link(temporary, key)
        except FileExistsError:
            raise
        except OSError as error:
            raise unavailable(error, f"storing object {key}") if is_disk_full(error) else self._unknown(key) from error

    def _discard(self, temporary: str) -> None:
        try:
            self._vfs.unlink(temporary)
        except FileNotFoundError:
            pass
        except OSError:
            self.needs_sweep = True  # Until then what stays is invisible.

    def _unknown(self, key: str) -> UnknownOutcomeError:
        self.needs_sweep = True
        return UnknownOutcomeError(
            f"storing object {key} failed half-way; look whether it is there before trying again."
        )

    def _sweep_folder(self, folder: str) -> int:
        leftovers = [name for name in self._names(folder) if _TEMPORARY_NAME.fullmatch(name)]
        with _writing(f"cleaning folder {folder or self._vfs.root}"):
            for name in leftovers:
                self._vfs.unlink(_join(folder, name))
            self._vfs.sync_dir(folder)
        return len(leftovers)

    def _folders_under(self, prefix: str) -> Iterator[str]:
        if not self._is_folder(prefix):
            return
        yield prefix
        for name in self._names(prefix):
            yield from self._folders_under(_join(prefix, name))

    def _is_folder(self, path: str) -> bool:
        if path == "":
            return True
        try:
            self._vfs.stat(path)
        except IsADirectoryError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _names(self, folder: str) -> Sequence[str]:
        """Return a folder's names; none if there is no such folder, because folders are made at the first put."""
        with _reading(f"listing {folder or self._vfs.root}"):
            try:
                return self._vfs.list(folder)
            except FileNotFoundError:
                return []

    def _object(self, key: str) -> ObjectMeta | None:
        """Return what is known of an object; None for a folder, and for one that was deleted since it was listed."""
        try:
            return self.head(key)
        except (FileNotFoundError, IsADirectoryError):
            return None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


@contextmanager
def _reading(doing: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError):
        raise
    except OSError as error:
        raise unavailable(error, doing) from error


@contextmanager
def _writing(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable(error, doing) from error
