"""How other people's hooks are run: on a lane of their own, in order, and waited for no longer than is good.

Each hook has a line of what it is still to be told, so that it is told one thing at a time and in order, and does not
keep others waiting as long as the lane has threads. Whoever tells it something waits until that has been done, so that
a quick hook sees a flush end before the one who asked for it does. A hook that takes too long is *behind*: from then on
nobody waits for it, until it has come to the end of its line. A line has an end, too: a hook that never returns is told
no more, and that is logged. When the store is closed, all hooks together are waited for once more, as long as for one
thing; what they have not been told by then they are never told.

A hook may ask the engine for something. If that tells the same hook something else, it is told after it has returned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from mitoframe.engine.parts import HOOK_LANE
from mitoframe.model.errors import MitoError

if TYPE_CHECKING:
    from mitoframe.ports import RegionHook, Scheduler

_log = logging.getLogger("mitoframe")

PATIENCE_SECONDS = 1.0
"""How long a hook is waited for."""
WAITING_MAX = 10_000
"""How many things a hook may be behind."""


class _Told(NamedTuple):
    tell: Callable[[], None]
    done: SimpleQueue[None]


@dataclass(slots=True, eq=False)
class _Line:
    """What a hook is still to be told. ``thread`` is the one that tells it, 0 if there is none."""

    hook: RegionHook
    lock: Lock = field(default_factory=Lock)
    waiting: deque[_Told] = field(default_factory=deque)
    is_served: bool = False
    is_behind: bool = False
    is_full: bool = False
    thread: int = 0


class Patience:
    """Runs hooks. ``run`` is what `Hooks` takes."""

    def __init__(self, scheduler: Scheduler, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._scheduler, self._patience_seconds = scheduler, patience_seconds
        self._lines: dict[int, _Line] = {}
        self._lock = Lock()

    def run(self, hook: RegionHook, tell: Callable[[], None]) -> None:
        """Tell a hook something, and wait for it if that is soon done."""
        with self._lock:
            line = self._lines.setdefault(id(hook), _Line(hook))
        told = _Told(tell, SimpleQueue())
        if not self._queue(line, told):
            return
        if line.is_behind or line.thread == get_ident():
            return
        try:
            told.done.get(timeout=self._patience_seconds)
        except Empty:
            line.is_behind = True
            _log.warning("hook is slow and not waited for any more hook=%r waiting=%d", hook, len(line.waiting) + 1)

    def close(self) -> None:
        """Return when every hook has been told everything, or soon. Requires: nothing more will be told."""
        deadline = monotonic() + self._patience_seconds
        for line in tuple(self._lines.values()):
            self._close(line, deadline)

    def _close(self, line: _Line, deadline: float) -> None:
        end = _Told(lambda: None, SimpleQueue())
        with line.lock:
            if not line.is_served:
                return
            line.waiting.append(end)
        try:
            end.done.get(timeout=max(deadline - monotonic(), 0))
        except Empty:
            with line.lock:
                untold = sum(told is not end for told in line.waiting)
                line.waiting.clear()
            _log.warning("hook is left alone, the store is closed hook=%r untold=%d", line.hook, untold)

    def _queue(self, line: _Line, told: _Told) -> bool:
        """Put something at the end of a line, and see to it that the line is served; tell whether it is."""
        with line.lock:
            if len(line.waiting) >= WAITING_MAX:
                if not line.is_full:
                    _log.error("hook is told no more, it is too far behind hook=%r waiting=%d", line.hook, WAITING_MAX)
                line.is_full = True
                return False
            line.waiting.append(told)
            if line.is_served:
                return True
            line.is_served = True
        try:
            self._scheduler.submit(HOOK_LANE, partial(self._serve, line))
        except MitoError as error:
            _log.error("hook not told hook=%r error=%r", line.hook, error)
            with line.lock:
                line.waiting.clear()
                line.is_served = False
            return False
        return True

    def _serve(self, line: _Line) -> None:
        """Tell a hook all that waits, on a thread of the lane."""
        line.thread = get_ident()
        try:
            while (told := self._next(line)) is not None:
                try:
                    told.tell()
                finally:
                    told.done.put(None)
        except BaseException:  # What is told raises nothing but an interruption: who comes next serves the line.
            with line.lock:
                line.is_served, line.thread = False, 0
            raise

    def _next(self, line: _Line) -> _Told | None:
        with line.lock:
            if line.waiting:
                return line.waiting.popleft()
            line.is_served = line.is_behind = line.is_full = False
            line.thread = 0
            return None
