"""Where a table has rows: gaps, how many files lie on top of each other, and where rows came late.

The input is the frame that ``table.coverage()`` returns, from any library that speaks Arrow. Nothing else is read: that
frame knows of files and row groups, not of rows, so that a gap shorter than these is not seen.

The picture is a grid: a line for each value of the tag, or for several where there are many, and a column for each of
`COLUMNS` equal pieces of time. A cell is as dark as files overlap in it at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.views.style import (
    ACCENT,
    BLUES,
    INK,
    days,
    format_count,
    integers,
    new_axes,
    put_legend,
    say_nothing_yet,
    style_axes,
    style_time,
    swatch,
    table_of,
    zone_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.views.style import Flags, Floats, Integers

COLUMNS = 400
LINES_MAX = 200
LABELS_MAX = 24
_DEEPEST = len(BLUES)
_GAP_COLOUR = "#ffffff"
_LATE_POINTS = 2.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """``depth[line, column]`` is how many files overlap at most; ``late`` are the cells in which late rows begin."""

    depth: Integers
    late: Flags
    first: float
    last: float


def draw_coverage(coverage: Any, *, ax: Axes | None = None) -> Axes:
    """Draw where a table has rows and return the axes.

    Args:
        coverage: The frame of ``table.coverage()``.
        ax: Where to draw; a new figure if not given.

    """
    from matplotlib.colors import ListedColormap
    from matplotlib.lines import Line2D

    table = table_of(coverage)
    values, lines = _lines(table)
    line_count = int(lines.max()) + 1 if len(lines) else 0
    axes = new_axes(min(6.5, 1.5 + 0.22 * max(line_count, 2))) if ax is None else ax
    style_axes(axes, _title(table, values))
    if not line_count:
        return say_nothing_yet(axes, "no files yet")
    grid = lay_out(lines, days(table, "min_time"), days(table, "max_time"), _flags(table, "is_late"))
    style_time(axes, zone_of(table, "min_time"))
    axes.imshow(
        np.minimum(grid.depth, _DEEPEST),
        extent=(grid.first, grid.last, line_count - 0.5, -0.5),
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap([_GAP_COLOUR, *BLUES]),
        vmin=0,
        vmax=_DEEPEST,
    )
    if line_count <= LABELS_MAX:
        axes.hlines(np.arange(line_count - 1) + 0.5, grid.first, grid.last, color="white", linewidth=1.5)
    handles: list[Any] = [swatch(_GAP_COLOUR, "no rows")]
    deepest = int(grid.depth.max())
    handles += [
        swatch(BLUES[depth - 1], _depth_label(depth, deepest)) for depth in range(1, min(deepest, _DEEPEST) + 1)
    ]
    if grid.late.any():
        line, column = np.nonzero(grid.late)
        width = (grid.last - grid.first) / COLUMNS
        axes.plot(
            grid.first + (column + 0.5) * width,
            line + 0.0,
            linestyle="none",
            marker=".",
            markersize=_LATE_POINTS,
            color=ACCENT,
        )
        handles.append(
            Line2D([], [], linestyle="none", marker="o", markersize=4, color=ACCENT, label="holds rows that came late")
        )
    _label_lines(axes, values, line_count)
    put_legend(axes, handles)
    return axes


def lay_out(lines: Integers, starts: Floats, ends: Floats, is_late: Flags, columns: int = COLUMNS) -> Grid:
    """Count how many intervals [start, end], with both ends, overlap at most in each piece of time, line by line."""
    first, last = float(starts.min()), float(ends.max())
    last = last if last > first else first + 1 / 86_400
    width = (last - first) / columns
    shape = int(lines.max()) + 1, columns
    depth = np.zeros(shape, dtype=np.int64)
    # Where an interval ends as another begins they overlap, so beginnings come first.
    line = np.concatenate([lines, lines])
    time = np.concatenate([starts, ends])
    change = np.repeat([1, -1], len(lines))
    order = np.lexsort([-change, time, line])
    line, time = line[order], time[order]
    open_now = np.cumsum(change[order])  # Each line ends with none open.
    until = np.append(time[1:], time[-1:])
    is_open = open_now > 0
    from_column, to_column = (_column(each[is_open], first, width, columns) for each in (time, until))
    lengths = to_column - from_column + 1
    cells = np.repeat(from_column - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    np.maximum.at(depth, (np.repeat(line[is_open], lengths), cells), np.repeat(open_now[is_open], lengths))
    late = np.zeros(shape, dtype=bool)
    late[lines[is_late], _column(starts[is_late], first, width, columns)] = True
    return Grid(depth=depth, late=late, first=first, last=last)


def _column(time: Floats, first: float, width: float, columns: int) -> Integers:
    return np.clip(((time - first) / width).astype(np.int64), 0, columns - 1)


def _lines(table: pa.Table) -> tuple[list[str] | None, Integers]:
    """Return the values of the tag in order, and the line on which each row of the frame is drawn."""
    if "value" not in table.column_names:
        return None, np.zeros(table.num_rows, dtype=np.int64)
    column = table["value"].cast(pa.string()).combine_chunks()
    values = pc.array_sort_indices(column.unique(), null_placement="at_start")
    ordered = column.unique().take(values)
    ranks = pc.index_in(column, value_set=ordered, skip_nulls=False).to_numpy().astype(np.int64)
    each = -(-len(ordered) // LINES_MAX)
    return ["null" if value is None else value for value in ordered.to_pylist()], ranks // max(each, 1)


def _label_lines(axes: Axes, values: list[str] | None, line_count: int) -> None:
    if values is None:
        axes.set_yticks([])
        return
    each = -(-len(values) // line_count)
    shown = np.unique(np.linspace(0, line_count - 1, min(LABELS_MAX, line_count)).round().astype(int))
    axes.set_yticks(shown, labels=[values[line * each] for line in shown])
    axes.tick_params(axis="y", labelsize=8)
    if each > 1:
        axes.set_ylabel(f"{each} to a line", color=INK, fontsize=8)


def _depth_label(depth: int, deepest: int) -> str:
    if depth == _DEEPEST and deepest > depth:
        return f"{depth} to {deepest:,} files overlap"
    return "one file" if depth == 1 else f"{depth} files overlap"


def _flags(table: pa.Table, name: str) -> Flags:
    found: Flags = table[name].to_numpy().astype(bool)
    return found


def _title(table: pa.Table, values: list[str] | None) -> str:
    if not table.num_rows:
        return "Coverage"
    what = format_count(int(integers(table, "rows").sum()), "row")
    return f"Coverage: {what}" + (f" of {format_count(len(values), 'value')}" if values else "")
