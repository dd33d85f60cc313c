"""Which part of the keys each file holds: a map with time from left to right and keys in order from top to bottom.

A file is a box from its first to its last time, and from its first to its last key, as far as the manifest knows them.
Boxes that overlap are what a scan has to merge; files whose boxes do not can be told apart without being opened.

The input is the frame that ``table.files()`` returns, from any library that speaks Arrow. Nothing else is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mitoframe.views.style import (
    BLUES,
    INK,
    boxes,
    days,
    format_count,
    integers,
    new_axes,
    put_legend,
    say_nothing_yet,
    set_time_limits,
    size_inches,
    style_axes,
    style_time,
    swatch,
    table_of,
    zone_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.views.style import Integers

Key: TypeAlias = "tuple[str | None, ...]"

LABELS_MAX = 12
_LABEL_CHARACTERS_MAX = 28
_POINTS_MIN = 1.5
_LEVEL_COLOURS = {0: BLUES[0], 1: BLUES[2]}


def draw_keys(files: Any, *, ax: Axes | None = None) -> Axes:
    """Draw what part of time and keys each file holds and return the axes.

    Args:
        files: The frame of ``table.files()``.
        ax: Where to draw; a new figure if not given.

    """
    table = table_of(files)
    known = table.filter(table["first_key"].is_valid())
    axes = new_axes(4.2) if ax is None else ax
    left_out = table.num_rows - known.num_rows
    words = f"Keys: {format_count(known.num_rows, 'file')}"
    style_axes(axes, words + (f"; of {left_out:,} more the keys are not known" if left_out else ""))
    if not known.num_rows:
        return say_nothing_yet(axes, "no files with known keys yet")
    style_time(axes, zone_of(known, "min_time"))
    left, right = days(known, "min_time"), days(known, "max_time")
    set_time_limits(axes, float(left.min()), float(right.max()))
    firsts, lasts = ([tuple(key) for key in known[name].to_pylist()] for name in ("first_key", "last_key"))
    keys, upper, lower = place_keys(firsts, lasts)
    width, height = size_inches(axes)
    span = axes.get_xlim()
    right = np.maximum(right, left + _POINTS_MIN * (span[1] - span[0]) / (width * 72))
    levels = integers(known, "level")
    colours = np.where(levels > 0, _LEVEL_COLOURS[1], _LEVEL_COLOURS[0])
    is_few = known.num_rows <= height * 72
    outlines = INK if is_few else colours
    look: dict[str, Any] = {"facecolors": colours, "edgecolors": outlines, "linewidths": 0.4, "alpha": 0.55}
    axes.add_collection(boxes(left, right, upper * 1.0, lower + 1.0, **look))
    axes.set_ylim(len(keys) + 0.02 * len(keys), -0.02 * len(keys))
    shown = np.unique(np.linspace(0, len(keys) - 1, min(LABELS_MAX, len(keys))).round().astype(int))
    axes.set_yticks(shown + 0.5, labels=[_label(keys[place]) for place in shown])
    found = sorted({min(level, 1) for level in levels.tolist()})
    put_legend(axes, [swatch(_LEVEL_COLOURS[level], ("flushed", "compacted")[level], alpha=0.55) for level in found])
    return axes


def place_keys(firsts: list[Key], lasts: list[Key]) -> tuple[list[Key], Integers, Integers]:
    """Return the keys at which files begin or end, in order, and at which of them each does.

    A null is less than any text, as in files.

    >>> keys, first, last = place_keys([("b",), (None,)], [("c",), ("b",)])
    >>> keys, first.tolist(), last.tolist()
    ([(None,), ('b',), ('c',)], [1, 0], [2, 1])
    """
    keys = sorted(set(firsts) | set(lasts), key=_rank)
    place = {key: at for at, key in enumerate(keys)}
    first, last = (np.array([place[key] for key in ends], dtype=np.int64) for ends in (firsts, lasts))
    return keys, first, last


def _rank(key: Key) -> tuple[tuple[bool, str], ...]:
    return tuple((value is not None, value or "") for value in key)


def _label(key: Key) -> str:
    words = ", ".join("null" if value is None else value for value in key) or "all"
    return words if len(words) <= _LABEL_CHARACTERS_MAX else words[: _LABEL_CHARACTERS_MAX - 1] + "…"
