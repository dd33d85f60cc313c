"""A table's files over time, as text: a line per level, a character per stretch of time.

A character says how many files hold times of its stretch: a space for none, a digit, ``+`` for ten or more. What is in
no file is a gap, and what is in many is slow to read until it is merged. A drawing takes as long for thirty thousand
files as it takes to look at each once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from datetime import datetime

    import numpy.typing as npt
    import polars as pl

LABEL_WIDTH = 9
"""How wide what stands before each line is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """How many files of each level hold times of each of so many stretches, and the first time and the last."""

    start: datetime
    end: datetime
    file_count: int
    levels: dict[int, list[int]]


def depths(files: pl.DataFrame, width: int) -> Depths | None:
    """Count the files of each stretch; None if there are none. ``files`` is what `Table.files` returns."""
    if not files.height:
        return None
    first = files["min_time"].cast(int).to_numpy()
    last = files["max_time"].cast(int).to_numpy()
    start, end = int(first.min()), int(last.max())
    span = max(end - start + 1, width)
    levels = files["level"].to_numpy()
    return Depths(
        start=cast("datetime", files["min_time"].min()),
        end=cast("datetime", files["max_time"].max()),
        file_count=files.height,
        levels={
            int(level): _counts(first[levels == level] - start, last[levels == level] - start, span, width)
            for level in sorted(set(levels.tolist()), reverse=True)
        },
    )


def _counts(first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], span: int, width: int) -> list[int]:
    changes = np.zeros(width + 1, dtype=np.int64)
    np.add.at(changes, _places(first, span, width), 1)
    np.add.at(changes, _places(last, span, width) + 1, -1)
    counts: list[int] = np.cumsum(changes)[:-1].tolist()
    return counts


def _places(times: npt.NDArray[np.int64], span: int, width: int) -> npt.NDArray[np.int64]:
    # In floats: times of nanoseconds, multiplied, would not fit an integer.
    return np.minimum((times / span * width).astype(np.int64), width - 1)


def draw(found: Depths) -> list[str]:
    """Return the lines of a drawing."""
    lines = [f"level {level}".ljust(LABEL_WIDTH) + _line(counts) for level, counts in found.levels.items()]
    width = max(len(counts) for counts in found.levels.values())
    start, end = str(found.start), str(found.end)
    return [*lines, " " * LABEL_WIDTH + start + " " * max(width - len(start) - len(end), 1) + end]


def _line(counts: list[int]) -> str:
    return "".join(" " if not count else str(count) if count < 10 else "+" for count in counts)
