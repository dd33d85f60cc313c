"""Whether a group of writes waits for more of them to come before it goes to the disk.

Writers that were told together come back one after another. If the first of them were taken alone, the others would
have to wait for its sync and then for their own: four writers would be served two by two, or one by three. So a group
waits for those who were here last time: only while that is likely to save a sync, and for less time than a sync takes.

    a disk that syncs quickly           nobody is waited for
    one writer                          nobody is waited for
    somebody did not come in time       the next groups do not wait: one, then two, four and so on, until all come again
"""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic

SYNC_SECONDS_MIN = 0.001
"""A sync that takes less is not worth waiting for."""
WAIT_SECONDS_MAX = 0.02
_SHARE_OF_SYNC = 0.8
_GROUPS_SKIPPED_MAX = 64
_WEIGHT = 0.25


class Gathering:
    """What the groups before say about the next one. One thread calls this."""

    def __init__(self) -> None:
        self.expected = 0
        self._sync_seconds = 0.0
        self._skipped = 0
        self._to_skip = 0
        self._deadline = 0.0

    def begin(self) -> bool:
        """Tell whether to wait until ``expected`` writes are there; for how long, `seconds_left` says."""
        if self.expected < 2 or self._sync_seconds < SYNC_SECONDS_MIN:
            return False
        if self._to_skip:
            self._to_skip -= 1
            return False
        self._deadline = monotonic() + min(_SHARE_OF_SYNC * self._sync_seconds, WAIT_SECONDS_MAX)
        return True

    def seconds_left(self) -> float:
        return self._deadline - monotonic()

    def end(self, *, complete: bool) -> None:
        """Take note of whether all came in time."""
        self._skipped = 0 if complete else min(2 * self._skipped + 1, _GROUPS_SKIPPED_MAX)
        self._to_skip = self._skipped

    def synced(self, seconds: float) -> None:
        """Take note of how long it took to make a group durable."""
        self._sync_seconds += _WEIGHT * (seconds - self._sync_seconds)

    def served(self, writers: Collection[int]) -> None:
        """Take note of who was in a group, or came while it was made durable."""
        self.expected = len(set(writers))
