"""All kernels compiled or loaded ahead of the first call, for measurements and for processes that fork."""

from __future__ import annotations

from mitoframe.kernels import aggregate, dedup, hashing, jit, keys, merge, pages, replay, series, sort

ROOMS = (aggregate, dedup, hashing, keys, merge, pages, replay, series, sort)
"""The modules whose kernels there are to load."""


def warm_up() -> int:
    """Load every kernel and return how many there are. Loading what is loaded is free."""
    kernels = jit.kernels()
    for kernel in kernels:
        kernel.load()
    return len(kernels)
