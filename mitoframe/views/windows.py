"""The compaction windows of a table: how many files lie in each, what is due, and what is still being written to.

The input is the frame that ``table.windows()`` returns, from any library that speaks Arrow. Nothing else is read.
A bar is a window: as wide as it is long, as high as it has files; the dark part is how many of these one time is in at
most, which is what a scan has to merge there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mitoframe.views.style import (
    ACCENT,
    BLUES,
    FAINT,
    INK,
    boxes,
    count_upwards,
    days,
    format_bytes,
    format_count,
    integers,
    new_axes,
    put_legend,
    say_nothing_yet,
    set_time_limits,
    style_axes,
    style_time,
    swatch,
    table_of,
    zone_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.views.style import Flags, Floats, Integers

_FILES_COLOUR, _RUNS_COLOUR = BLUES[0], BLUES[2]
_WIDE_ENOUGH = 0.004
"""Of the picture's width: narrower bars have no outline, which would hide them."""


def draw_windows(windows: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the compaction windows of a table and return the axes.

    Args:
        windows: The frame of ``table.windows()``.
        ax: Where to draw; a new figure if not given.

    """
    table = table_of(windows)
    axes = new_axes(3.2) if ax is None else ax
    style_axes(axes, _title(table))
    if not table.num_rows:
        return say_nothing_yet(axes, "no files yet")
    style_time(axes, zone_of(table, "window_start"))
    left, right = days(table, "window_start"), days(table, "window_end")
    set_time_limits(axes, float(left.min()), float(right.max()))
    files, runs = integers(table, "files"), integers(table, "runs")
    first, last = axes.get_xlim()
    is_wide = (right - left) / (last - first) >= _WIDE_ENOUGH
    handles = [
        _bars(axes, left, right, files, is_wide, _FILES_COLOUR, "files"),
        _bars(axes, left, right, runs, is_wide, _RUNS_COLOUR, "of them at one time"),
    ]
    middles = (left + right) / 2
    is_due, is_active = integers(table, "merges") > 0, table["is_active"].to_numpy().astype(bool)
    handles += _mark(axes, middles[is_due], files[is_due], ACCENT, "to be merged now", marker="v")
    handles += _mark(axes, middles[is_active], files[is_active], "white", "rows came a while ago at most", marker="o")
    axes.set_ylim(0, float(files.max()) * 1.15 + 0.3)
    count_upwards(axes)
    axes.set_ylabel("files", color=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    axes.set_axisbelow(True)
    put_legend(axes, handles)
    return axes


def _bars(axes: Axes, left: Floats, right: Floats, heights: Integers, is_wide: Flags, colour: str, label: str) -> Any:
    """Draw bars from 0 upwards and return the legend's entry."""
    outlines = np.where(is_wide, INK, colour)
    look = {"facecolors": colour, "edgecolors": outlines, "linewidths": 0.5}
    axes.add_collection(boxes(left, right, heights * 1.0, np.zeros(len(left)), **look))
    return swatch(colour, label)


def _mark(axes: Axes, x: Floats, files: Integers, colour: str, label: str, *, marker: str) -> list[Any]:
    """Put a mark above bars and return the legend's entry, if there are any."""
    if not len(x):
        return []
    height = files + 0.04 * max(float(files.max()), 1.0) + 0.1
    look: dict[str, Any] = {"markerfacecolor": colour, "markeredgecolor": INK, "markersize": 5, "markeredgewidth": 0.6}
    return list(axes.plot(x, height, label=label, marker=marker, linestyle="none", clip_on=False, **look))


def _title(table: pa.Table) -> str:
    count = table.num_rows
    if not count:
        return "Compaction windows"
    files, size = int(integers(table, "files").sum()), int(integers(table, "size_bytes").sum())
    due = int((integers(table, "merges") > 0).sum())
    words = f"Compaction windows: {count:,} with {format_count(files, 'file')}, {format_bytes(size)}"
    return words + (f"; {due:,} to be merged now" if due else "")
