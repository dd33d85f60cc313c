"""When the log is forced to the disk: at every group of writes, a little later, or never by us."""

from __future__ import annotations

from threading import Lock, Timer
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mitoframe.model.options import MitoConfig
    from mitoframe.storage.wal import Wal


class SyncPolicy(Protocol):
    def after_append(self, wal: Wal) -> None:
        """Decide whether to wait for the disk now."""

    def close(self) -> None: ...


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
        self._timer: Timer | None = None

    def after_append(self, wal: Wal) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = Timer(self._seconds, self._fire, (wal,))
                self._timer.daemon = True
                self._timer.start()

    def _fire(self, wal: Wal) -> None:
        with self._lock:
            self._timer = None
        wal.sync()

    def close(self) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
