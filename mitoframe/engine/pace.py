"""How a merge that nobody waits for gives way to flushes.

A writer whose buffers are full waits for a flush, and a merge takes processors from it. So while rows are being flushed
a merge rests after each step, several times as long as it kept a processor busy. It is never stopped altogether:
however long rows keep coming, it goes on at a fraction of its speed, and at all of it as soon as no flush is under way.
"""

from __future__ import annotations

from time import monotonic, sleep, thread_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REST_TIMES = 3
"""A step is followed by a rest of so many times the processor time it took."""
LOOK_AGAIN_SECONDS = 0.02


class Pace:
    """The pace of one merge. One thread calls this.

    Args:
        gives_way: whether others are to go first now.
        is_over: whether nobody wants the merge any more.

    """

    def __init__(self, gives_way: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        self._gives_way, self._is_over = gives_way, is_over
        self._worked_seconds = thread_time()

    def step(self) -> None:
        """Rest after a step, if others are to go first, until they need no more or it has been long enough."""
        now = monotonic()
        end = now + REST_TIMES * (thread_time() - self._worked_seconds)
        while now < end and self._gives_way() and not self._is_over():
            sleep(min(LOOK_AGAIN_SECONDS, end - now))
            now = monotonic()
        self._worked_seconds = thread_time()
