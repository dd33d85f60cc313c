"""Gets kernels ready beside the first queries of a process, which do without them.

To import Numba takes a hundred times as long as a small query. So who reads little goes a way without kernels for as
long as they are not ready (`kernels.jit.are_ready`), and they are loaded meanwhile: not for the first query, because a
script that asks one thing and ends would be kept waiting for what it has no use for.

What fails here fails once more, and is told, where a kernel is called.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mitoframe.engine.parts import PURGE_LANE
from mitoframe.kernels import jit
from mitoframe.model.errors import MitoError

if TYPE_CHECKING:
    from mitoframe.ports import Scheduler

QUERIES_WITHOUT = 1
"""So many queries of a store are answered before kernels are loaded for those to come."""


class Warming:
    """Loads kernels in the background, once."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._queries = 0
        self._is_over = False

    def query_begins(self) -> None:
        """Begin to load kernels, if this is one query more than can do without."""
        if jit.are_ready() or self._queries > QUERIES_WITHOUT:
            return
        self._queries += 1  # Of two threads that are here at once both may begin: what is loaded is loaded once.
        if self._queries > QUERIES_WITHOUT:
            with suppress(MitoError):  # Whoever waits for a lane that is closed or broken is told so.
                self._scheduler.submit(PURGE_LANE, partial(jit.prepare, lambda: self._is_over))

    def stop(self) -> None:
        """Load no more. What is under way ends soon."""
        self._is_over = True
