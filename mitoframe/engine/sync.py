"""When the log is forced to the disk: at every group of writes, a little later, or never by us."""

from __future__ import annotations

import logging
from threading import Lock, Timer
from typing import TYPE_CHECKING, Protocol

from mitoframe.model.errors import MitoError

if TYPE_CHECKING:
    from mitoframe.model.options import MitoConfig
    from mitoframe.storage.wal import Wal


_log = logging.getLogger("mitoframe")


class SyncPolicy(Protocol):
    def after_append(self, wal: Wal) -> None:
        """Decide whether to wait for the disk now."""

    def close(self) -> None:
        """Sync what waits for it. Afterwards the log may be closed."""


def make_sync_policy(config: MitoConfig) -> SyncPolicy:
    if config.sync == "always":
        return SyncAlways()
    return SyncInterval(config.sync_interval_ms) if config.sync == "interval" else SyncNever()


class SyncAlways:
    def after_append(self, wal: Wal) -> None:
        wal.sync()

    def close(self) -> None:
        pass


class SyncNever:
    def after_append(self, wal: Wal) -> None:
        pass

    def close(self) -> None:
        pass


class SyncInterval:
    """Syncs at most ``interval_ms`` after an append. A failure poisons the log, which tells the next writer."""

    def __init__(self, interval_ms: int) -> None:
        self._seconds = interval_ms / 1000
        self._lock = Lock()
        self._syncing = Lock()
        self._waiting: tuple[Timer, Wal] | None = None

    def after_append(self, wal: Wal) -> None:
        with self._lock:
            if self._waiting is None:
                timer = Timer(self._seconds, self._fire, (wal,))
                timer.daemon = True
                self._waiting = timer, wal
                timer.start()

    def _fire(self, wal: Wal) -> None:
        with self._syncing:
            with self._lock:
                self._waiting = None  # From here on an append may come too late for this sync.
            try:
                wal.sync()
            except MitoError as error:
                _log.error("log not synced error=%r", error)

    def close(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            timer, wal = waiting
            timer.cancel()
            timer.join()
            wal.sync()
        with self._syncing:
            pass  # A timer that went off before has ended its sync now, so that nobody syncs a closed log.
