"""Where time and identifiers come from: the only module that reads the wall clock or draws random values.

`SystemClock` and `SystemRandomness` ask the operating system. `ManualClock` and `SeededRandomness` are their
twins for tests and simulations: the clock moves only when told to, and a seed gives the same identifiers in
every run and on every platform.
"""

from __future__ import annotations

import itertools
import secrets
import time
from hashlib import blake2b


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved.

    >>> clock = ManualClock(now_ms=1_000)
    >>> clock.advance(500)
    >>> clock.now_ms(), clock.monotonic()
    (1500, 0.5)
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._elapsed_ms / 1_000

    def advance(self, delta_ms: int) -> None:
        """Let time pass: both the wall clock and the monotonic one."""
        assert delta_ms >= 0, "time does not run backwards; to set the wall clock back use set()"
        self._now_ms += delta_ms
        self._elapsed_ms += delta_ms

    def set(self, now_ms: int) -> None:
        """Set the wall clock, backwards too, as an operator would. No time passes."""
        self._now_ms = now_ms


class SystemRandomness:
    def hex128(self) -> str:
        return secrets.token_hex(16)


class SeededRandomness:
    """The same identifiers for the same seed, all different.

    >>> SeededRandomness(1).hex128() == SeededRandomness(1).hex128() != SeededRandomness(2).hex128()
    True
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._numbers = itertools.count()

    def hex128(self) -> str:
        number = next(self._numbers)
        return blake2b(f"{self._seed}/{number}".encode(), digest_size=16).hexdigest()
