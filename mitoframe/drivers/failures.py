"""How the operating system's errors become ours, for every driver that stands on a `Vfs`."""

from __future__ import annotations

import errno

from mitoframe.model.errors import DiskFullError, UnavailableError

_DISK_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


def is_disk_full(error: OSError) -> bool:
    return error.errno in _DISK_FULL


def unavailable(error: OSError, doing: str) -> UnavailableError:
    """Say that ``doing`` failed and changed nothing. Raise the result ``from`` the error.

    >>> unavailable(OSError(errno.ENOSPC, "No space left on device"), "writing wal/1")
    DiskFullError('writing wal/1: No space left on device. Free some space, then try again.')
    """
    reason = error.strerror or str(error) or type(error).__name__
    if is_disk_full(error):
        return DiskFullError(f"{doing}: {reason}. Free some space, then try again.")
    return UnavailableError(f"{doing}: {reason}. Check the disk or the connection, then try again.")
