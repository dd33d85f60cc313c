"""`Errand`: work that another thread does, and the waiting for it.

The one who waits may be interrupted (Ctrl-C) between any two of its steps, and must not harm the one who works. A
`Future` is guarded by a condition, which is entered in Python code: an interruption there can leave it locked, and the
thread that wants to tell the result then hangs for ever, and its lane with it. Here both meet only at a dictionary and
a queue, each of which is one step to use.

An interrupted waiter withdraws what was not begun; what was begun it lets finish first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from mitoframe.model.errors import MitoError

if TYPE_CHECKING:
    from mitoframe.ports import Scheduler

Result = TypeVar("Result")

_LOOK_AGAIN_SECONDS = 1.0
"""How soon it is noticed that the thread that was to do the work has died, or that an interrupted one kept a token."""
_POLL_SECONDS = 0.002
_WITHDRAWN = object()


class Errand(Generic[Result]):
    """``carrier`` is the scheduler's job that is to do it; once that has ended, so has this, or it never will."""

    def __init__(self) -> None:
        self.carrier: Future[object] | None = None
        self._claim: dict[None, object] = {}  # Whoever begins it, or withdraws it, is the first and only one in it.
        self._wakes: SimpleQueue[None] = SimpleQueue()  # A token at the end, which who waits passes on.
        self._is_ended = False
        self._result: Result | None = None
        self._error: BaseException | None = None

    # --- who works ----------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Tell whether it is still to be done. From here on it cannot be withdrawn."""
        mine = object()
        return self._claim.setdefault(None, mine) is mine

    def succeed(self, result: Result) -> None:
        self._result = result
        self._end()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        self._is_ended = True
        self._wakes.put(None)

    def run(self, job: Callable[[], Result]) -> None:
        """Do it by doing ``job``, unless it was withdrawn."""
        if not self.begin():
            return
        try:
            result = job()
        except BaseException as error:
            self.fail(error)
            raise
        self.succeed(result)

    # --- who waits ----------------------------------------------------------------------------------------

    def hand_to(self, scheduler: Scheduler, lane: str, job: Callable[[], object]) -> None:
        """Submit the job that is to do it; interrupted meanwhile, withdraw it."""
        try:
            self.carrier = scheduler.submit(lane, job)
        except BaseException:
            self.withdraw()
            raise

    @property
    def is_begun(self) -> bool:
        return bool(self._claim)

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    @property
    def is_lost(self) -> bool:
        """Tell whether it will never end, because the thread that was to do it has died."""
        return self.carrier is not None and self.carrier.done() and not self.is_ended

    def withdraw(self) -> bool:
        """Tell whether it was not begun, and now never will be; asked again, the same."""
        return self._claim.setdefault(None, _WITHDRAWN) is _WITHDRAWN

    def failure(self) -> BaseException | None:
        """Wait, and return what went wrong, if something did. Requires: it was not withdrawn."""
        try:
            self._wait()
        except MitoError as error:  # The thread that was to do it has died.
            return error
        return self._error

    def result(self, *, withdraw: bool = True) -> Result:
        """Wait, and return what it came to, or raise that.

        Interrupted: withdraw it or let it finish first, unless others wait for it too (``withdraw=False``).
        """
        try:
            self._wait()
        except BaseException:
            if withdraw and not self.is_ended and not self.withdraw():
                with suppress(MitoError):
                    self._wait()
            raise
        if self._error is not None:
            raise self._error
        return cast("Result", self._result)

    def _wait(self) -> None:
        while not self.is_ended:
            with suppress(Empty):
                self._wakes.get(timeout=_LOOK_AGAIN_SECONDS)
                self._wakes.put(None)
            if self.carrier is not None and self.is_lost:
                self.carrier.result()


def send(scheduler: Scheduler, lane: str, job: Callable[[], Result]) -> Errand[Result]:
    """Have a job done on a lane."""
    errand: Errand[Result] = Errand()
    errand.hand_to(scheduler, lane, partial(errand.run, job))
    return errand


def done(scheduler: Scheduler, lane: str, job: Callable[[], Result]) -> Result:
    """Have a job done on a lane and return what it returns."""
    return send(scheduler, lane, job).result()


def first_ended(errands: Iterable[Errand[Result]], timeout_seconds: float) -> list[Errand[Result]]:
    """Return those that have ended as soon as one has, none if that takes too long."""
    waiting, deadline = list(errands), monotonic() + timeout_seconds
    while True:
        ended = [errand for errand in waiting if errand.is_ended]
        if ended or monotonic() >= deadline:
            return ended
        sleep(_POLL_SECONDS)
