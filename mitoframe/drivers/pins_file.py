"""What the processes of one machine read, in small files: a lock that dies with its process, and what it says.

    {32 hex digits}.lock   held by the process for as long as it reads; the kernel frees it when the process dies
    {32 hex digits}.json   {"format", "pid", "host", "oldest": {region id: manifest version}}; exchanged whole

Whoever asks for what is held tries each lock. One that he gets is of a process that has died, and its files go; one
that he does not get is held, and counts. Files are removed under their lock only, and a process that has taken a lock
looks whether its file is still there, so that none is pinned by a file that nobody sees. None of this need survive a
power loss, and nothing is synced.

Where a lock that is there cannot be tried (the folder has come to lie where there are no locks, the file is another
user's), nobody can tell, and the pin counts. Only `forget` removes such a one, and only if it names a process of this
host that has ended. Hosts are told apart by their names: containers that share a store are to have different ones.

Where nothing can be written or locked (a read-only mount, a file system without locks) nothing is said, and what is
deleted when is up to the grace period. A file of a newer format, or one that cannot be read, stands for everything.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from mitoframe.model.ids import ManifestVersion, RegionId
from mitoframe.ports import HeldVersions, Reader

if TYPE_CHECKING:
    from mitoframe.ports import FileLock, Randomness, Vfs

PIN_FORMAT = 1
ATTEMPTS_MAX = 10
"""How often a name is chosen anew because somebody who clears away was faster."""
_NAME = re.compile(r"([0-9a-f]{32})\.(lock|json|tmp)")
_CANNOT = (OSError, NotImplementedError)
"""What a folder that takes no files, or no locks, answers."""
_NOT_UNDERSTOOD = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a file leads to that does not say what a pin says."""

_log = logging.getLogger("mitoframe")


class FilePins:
    """What one process says in a folder of a `Vfs`, and what it hears there."""

    def __init__(self, vfs: Vfs, folder: str, randomness: Randomness) -> None:
        self._vfs, self._folder, self._randomness = vfs, folder, randomness
        self._process_id = os.getpid()
        self._mutex = Lock()
        self._own: tuple[str, FileLock] | None = None
        self._is_given_up = False

    # --- saying -----------------------------------------------------------------------------------------

    def hold(self, oldest: Mapping[RegionId, ManifestVersion]) -> bool:
        # A forked child shares its parent's lock and may not speak for it.
        if os.getpid() != self._process_id:
            return False
        with self._mutex:
            if self._is_given_up:
                return False
            try:
                self._own = self._own or self._join()
                self._say(self._own[0], oldest)
            except _CANNOT as error:
                self._is_given_up = self._own is None
                _log.info("nobody will know what is read here root=%s error=%r", self._vfs.root, error)
                return False
            return True

    def _join(self) -> tuple[str, FileLock]:
        self._make_folder()
        for _ in range(ATTEMPTS_MAX):
            identifier = self._randomness.hex128()
            path = self._path(identifier, "lock")
            self._vfs.create(path).close()
            try:
                lock = self._vfs.lock(path)
            except BlockingIOError:  # Taken for one whose process has died, between its making and its locking.
                continue
            try:
                self._vfs.stat(path)
            except FileNotFoundError:  # And cleared away.
                lock.release()
                continue
            except BaseException:
                lock.release()
                raise
            return identifier, lock
        raise OSError(f"no lock could be had in {ATTEMPTS_MAX} attempts")

    def _make_folder(self) -> None:
        try:
            self._vfs.list(self._folder)
        except FileNotFoundError:
            self._vfs.make_dirs(self._folder)

    def _say(self, identifier: str, oldest: Mapping[RegionId, ManifestVersion]) -> None:
        body = {
            "format": PIN_FORMAT,
            "pid": self._process_id,
            "host": socket.gethostname(),
            "oldest": {str(region_id): version for region_id, version in oldest.items()},
        }
        temporary = self._path(identifier, "tmp")
        with suppress(FileNotFoundError):  # Left by an attempt that failed.
            self._vfs.unlink(temporary)
        file = self._vfs.create(temporary)
        try:
            file.write(json.dumps(body).encode() + b"\n")
        finally:
            file.close()
        self._vfs.rename(temporary, self._path(identifier, "json"))

    def close(self) -> None:
        if os.getpid() != self._process_id:
            return
        with self._mutex:
            self._is_given_up = True
            own, self._own = self._own, None
        if own is not None:
            self._clear_away(*own)

    # --- hearing ----------------------------------------------------------------------------------------

    def held(self) -> HeldVersions:
        oldest: dict[RegionId, ManifestVersion] = {}
        try:
            for identifier, _ in self._living():
                for region_id, version in self._heard(identifier).items():
                    oldest[region_id] = min(version, oldest.get(region_id, version))
        except (*_CANNOT, *_NOT_UNDERSTOOD) as error:
            _log.warning("what is read by others is not understood root=%s error=%r", self._vfs.root, error)
            return HeldVersions(oldest=oldest, is_partial=True)
        return HeldVersions(oldest=oldest)

    def readers(self) -> tuple[Reader, ...]:
        try:
            every = [self._reader(identifier, is_locked=is_locked) for identifier, is_locked in self._living()]
        except _CANNOT:
            return ()
        return tuple(reader for reader in every if reader is not None)

    def forget(self, identifier: str) -> bool:
        if any(reader.is_dead for reader in self.readers() if reader.identifier == identifier):
            self._unlink(identifier)
        return all(reader.identifier != identifier for reader in self.readers())

    def _living(self) -> Iterator[tuple[str, bool]]:
        """Yield who reads, and whether his lock is held; clear away what those left who do not read any more."""
        try:
            names = self._vfs.list(self._folder)
        except (FileNotFoundError, NotADirectoryError):  # Where there is no such folder nobody can have said anything.
            return
        # Of what a power loss spared the lock need not be among it.
        for identifier in dict.fromkeys(match[1] for match in map(_NAME.fullmatch, names) if match is not None):
            try:
                lock = self._vfs.lock(self._path(identifier, "lock"))
            except FileNotFoundError:  # The folder has gone.
                continue
            except _CANNOT as error:  # Somebody has it; or nobody can tell.
                yield identifier, isinstance(error, BlockingIOError)
                continue
            self._clear_away(identifier, lock)

    def _heard(self, identifier: str) -> dict[RegionId, ManifestVersion]:
        try:
            said = self._vfs.read(self._path(identifier, "json"))
        except FileNotFoundError:  # He has said nothing yet, and looks whether all is there when he has.
            return {}
        return _oldest_of(json.loads(said))

    def _reader(self, identifier: str, *, is_locked: bool) -> Reader | None:
        """Return who has said something, as far as it can be understood."""
        path = self._path(identifier, "json")
        process_id, host, since_ms = None, None, None
        try:
            body = json.loads(self._vfs.read(path))
            since_ms = self._vfs.stat(path).modified_ms
            process_id, host = int(body["pid"]), str(body["host"])
            held = HeldVersions(oldest=_oldest_of(body))
        except FileNotFoundError:
            return None
        except (*_CANNOT, *_NOT_UNDERSTOOD):
            held = HeldVersions(oldest={}, is_partial=True)
        is_dead = not is_locked and host == socket.gethostname() and process_id is not None and _has_ended(process_id)
        return Reader(
            identifier=identifier, process_id=process_id, host=host, since_ms=since_ms, held=held, is_dead=is_dead
        )

    # --- pieces -----------------------------------------------------------------------------------------

    def _clear_away(self, identifier: str, lock: FileLock) -> None:
        """Remove the files of somebody whose lock is held here, the lock's own last, and give it back."""
        try:
            self._unlink(identifier)
        finally:
            lock.release()

    def _unlink(self, identifier: str) -> None:
        for suffix in ("tmp", "json", "lock"):
            with suppress(*_CANNOT):
                self._vfs.unlink(self._path(identifier, suffix))

    def _path(self, identifier: str, suffix: str) -> str:
        return f"{self._folder}/{identifier}.{suffix}"


def _oldest_of(body: dict[str, Any]) -> dict[RegionId, ManifestVersion]:
    if body["format"] > PIN_FORMAT:
        raise ValueError(f"format {body['format']} is newer than {PIN_FORMAT}")
    return {RegionId(int(region_id)): ManifestVersion(int(v)) for region_id, v in body["oldest"].items()}


def _has_ended(process_id: int) -> bool:
    """Tell whether no process of this machine has that number; never where asking would end one."""
    if os.name != "posix":
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # It is somebody else's; or no number of a process.
        return False
    return False
