"""What the processes of one machine read, in small files: a lock that dies with its process, and what it says.

    {32 hex digits}.lock   held by the process for as long as it reads; the kernel frees it when the process dies
    {32 hex digits}.json   {"format", "pid", "host", "oldest": {region id: manifest version}}; exchanged whole

Whoever asks for what is held tries each lock. One that he gets is of a process that has died, and its files go; one
that he does not get is held, and counts. Files are removed under their lock only, and a process that has taken a lock
looks whether its file is still there, so that none is pinned by a file that nobody sees. None of this need survive a
power loss, and nothing is synced.

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
from typing import TYPE_CHECKING

from mitoframe.model.ids import ManifestVersion, RegionId
from mitoframe.ports import HeldVersions

if TYPE_CHECKING:
    from mitoframe.ports import FileLock, Randomness, Vfs

PIN_FORMAT = 1
ATTEMPTS_MAX = 10
"""How often a name is chosen anew because somebody who clears away was faster."""
_NAME = re.compile(r"([0-9a-f]{32})\.(lock|json|tmp)")
_CANNOT = (OSError, NotImplementedError)
"""What a folder that takes no files, or no locks, answers."""

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
            for identifier in self._living():
                for region_id, version in self._heard(identifier).items():
                    oldest[region_id] = min(version, oldest.get(region_id, version))
        except (*_CANNOT, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("what is read by others is not understood root=%s error=%r", self._vfs.root, error)
            return HeldVersions(oldest=oldest, is_partial=True)
        return HeldVersions(oldest=oldest)

    def _living(self) -> Iterator[str]:
        """Yield who reads, and clear away what those left who do not any more."""
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
            except _CANNOT:  # Somebody has it; or nobody can tell.
                yield identifier
                continue
            self._clear_away(identifier, lock)

    def _heard(self, identifier: str) -> dict[RegionId, ManifestVersion]:
        try:
            body = json.loads(self._vfs.read(self._path(identifier, "json")))
        except FileNotFoundError:  # He has said nothing yet, and looks whether all is there when he has.
            return {}
        if body["format"] > PIN_FORMAT:
            raise ValueError(f"format {body['format']} is newer than {PIN_FORMAT}")
        return {RegionId(int(region_id)): ManifestVersion(int(v)) for region_id, v in body["oldest"].items()}

    # --- pieces -----------------------------------------------------------------------------------------

    def _clear_away(self, identifier: str, lock: FileLock) -> None:
        """Remove the files of somebody whose lock is held here, the lock's own last, and give it back."""
        try:
            for suffix in ("tmp", "json", "lock"):
                with suppress(*_CANNOT):
                    self._vfs.unlink(self._path(identifier, suffix))
        finally:
            lock.release()

    def _path(self, identifier: str, suffix: str) -> str:
        return f"{self._folder}/{identifier}.{suffix}"
