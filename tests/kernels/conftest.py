from __future__ import annotations

import pytest

from mitoframe.kernels import sort


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    """Let all kernels run compiled: with Numba at hand, none runs as it is written."""
    sort.is_sorted.load()
