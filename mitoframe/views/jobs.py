"""What happened to a table, job by job, over the time when it was done: a Gantt chart of its journal.

The input is the frame that ``table.history()`` returns, from any library that speaks Arrow. Nothing else is read.
Jobs of a kind that ran at the same time lie in different lanes. Colour is how many bytes a job wrote; what wrote none
is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mitoframe.views.style import (
    FAINT,
    INK,
    SizeClasses,
    boxes,
    days,
    format_bytes,
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
)
from mitoframe.views.timeline import assign_lanes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.views.style import Floats

_ORDER = ("flush", "backfill", "compact", "expire", "gc", "index", "alter", "truncate")
_WROTE_NOTHING = "#eeeeee"
_LANE_FILL = 0.8
_LANES_MAX = 6
"""Of one kind: jobs beyond that lie on top of each other."""
_POINTS_MIN = 2.5
"""A job is drawn at least so wide, however short it was."""


def draw_jobs(history: Any, *, ax: Axes | None = None) -> Axes:
    """Draw when jobs ran and return the axes.

    Args:
        history: The frame of ``table.history()``.
        ax: Where to draw; a new figure if not given.

    """
    table = table_of(history)
    table = table.filter(table["at"].is_valid())
    kinds = _kinds(table)
    axes = new_axes(min(6.0, 1.4 + 0.45 * max(len(kinds), 1))) if ax is None else ax
    style_axes(axes, _title(table))
    if not kinds:
        return say_nothing_yet(axes, "nothing has happened yet")
    style_time(axes, "UTC", what="when it was done")
    begun, ended = _spans(table)
    set_time_limits(axes, float(begun.min()), float(ended.max()))
    wrote = integers(table, "bytes_out")
    classes = SizeClasses(wrote[wrote > 0]) if (wrote > 0).any() else None
    colours = np.full(len(wrote), _WROTE_NOTHING, dtype=object)
    if classes is not None:
        colours[wrote > 0] = np.array(classes.colours)[classes.of(wrote[wrote > 0])]
    names = np.array(table["what"].to_pylist())
    first, last = axes.get_xlim()
    shortest = _POINTS_MIN * (last - first) / (size_inches(axes)[0] * 72)
    for row, kind in enumerate(kinds):
        chosen = np.flatnonzero(names == kind)
        upper, lower = _lanes(begun[chosen], np.maximum(ended[chosen], begun[chosen] + shortest), row)
        right = np.maximum(ended[chosen], begun[chosen] + shortest)
        axes.add_collection(
            boxes(
                begun[chosen], right, upper, lower, facecolors=colours[chosen].tolist(), edgecolors=INK, linewidths=0.3
            )
        )
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_yticks(range(len(kinds)), labels=[_label(table, names, kind) for kind in kinds])
    for row in range(1, len(kinds)):
        axes.axhline(row - 0.5, color=FAINT, linewidth=0.5, zorder=0)
    put_legend(axes, [*(classes.legend() if classes else []), swatch(_WROTE_NOTHING, "wrote no file")])
    return axes


def _kinds(table: pa.Table) -> list[str]:
    """Return the kinds of jobs there are, those that move rows first."""
    found = set(table["what"].to_pylist())
    return [kind for kind in _ORDER if kind in found] + sorted(found.difference(_ORDER))


def _spans(table: pa.Table) -> tuple[Floats, Floats]:
    ended = days(table, "at")
    took_ms = table["took"].cast(pa.int64()).fill_null(0).to_numpy()
    return ended - took_ms / 86_400_000, ended


def _lanes(begun: Floats, ended: Floats, row: int) -> tuple[Floats, Floats]:
    """Place the jobs of one kind side by side within a row of height 1."""
    lanes = np.array(assign_lanes(begun.tolist(), ended.tolist()))
    depth = min(int(lanes.max()) + 1, _LANES_MAX)
    height = _LANE_FILL / depth
    upper = row - _LANE_FILL / 2 + (lanes % depth) * height
    return upper, upper + height


def _label(table: pa.Table, names: Any, kind: str) -> str:
    chosen = names == kind
    wrote = int(integers(table, "bytes_out")[chosen].sum())
    return f"{kind}\n{int(chosen.sum()):,}" + (f", {format_bytes(wrote)}" if wrote else "")


def _title(table: pa.Table) -> str:
    merges = np.array(table["what"].to_pylist()) == "compact" if table.num_rows else np.zeros(0, dtype=bool)
    if not merges.any():
        return f"Jobs: {table.num_rows:,}"
    read, wrote = (format_bytes(int(integers(table, name)[merges].sum())) for name in ("bytes_in", "bytes_out"))
    return f"Jobs: {table.num_rows:,}, {int(merges.sum()):,} of them merges of {read} into {wrote}"
