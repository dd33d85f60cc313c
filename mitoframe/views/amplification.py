"""What keeping a table in order has cost over time: how often each byte was written, and how many files there were.

The input is the frame that ``table.history()`` returns, from any library that speaks Arrow. Nothing else is read.

Write amplification is all bytes that were written to files, over those that came from memory or a backfill: 1 if
nothing was ever merged.
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
    count_upwards,
    days,
    integers,
    new_axes,
    put_legend,
    say_nothing_yet,
    set_time_limits,
    style_axes,
    style_time,
    table_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.views.style import Floats, Integers

_LIVE_CHANGES_NOT = frozenset({"gc", "index"})
"""Deleting what nobody lists changes nothing of what a scan reads, nor does an index."""


def draw_amplification(history: Any, *, ax: Axes | None = None) -> Axes:
    """Draw write amplification and the number of files over time and return the axes of the former.

    Args:
        history: The frame of ``table.history()``.
        ax: Where to draw; a new figure if not given.

    """
    table = table_of(history)
    table = table.filter(table["at"].is_valid())
    axes = new_axes(3.4) if ax is None else ax
    written = write_amplification(table)
    is_known = np.isfinite(written)
    style_axes(axes, f"Write amplification: {written[-1]:.2f}" if is_known.any() else "Write amplification")
    if not is_known.any():
        return say_nothing_yet(axes, "nothing was written to a file yet")
    style_time(axes, "UTC", what="when it was done")
    at = days(table, "at")
    set_time_limits(axes, float(at.min()), float(at.max()))
    look: dict[str, Any] = {"drawstyle": "steps-post", "linewidth": 1.4}
    handles = axes.plot(
        at[is_known], written[is_known], color=BLUES[3], label="bytes written per byte that came", **look
    )
    axes.axhline(1, color=FAINT, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.set_ylim(0, float(written[is_known].max()) * 1.15)
    axes.set_ylabel("write amplification", color=BLUES[3], fontsize=9)
    right = axes.twinx()
    handles += right.plot(at, live_files(table), color=ACCENT, label="files", **look)
    count_upwards(right)
    right.set_ylabel("files", color=ACCENT, fontsize=9)
    right.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    right.spines[["top", "right", "left", "bottom"]].set_visible(False)
    put_legend(right, handles, at=1.08)
    return axes


def write_amplification(history: pa.Table) -> Floats:
    """Return after each entry all bytes written so far, over those of them that were new; NaN before the first.

    What merges read was written before. Where the journal begins anew, its first entry counts as new.
    """
    came_from_files = integers(history, "bytes_in") > 0
    is_anew = history["starts_anew"].to_numpy(zero_copy_only=False).astype(bool)
    out = np.where(np.isin(history["what"].to_pylist(), list(_LIVE_CHANGES_NOT)), 0, integers(history, "bytes_out"))
    new = np.cumsum(np.where(came_from_files & ~is_anew, 0, out))
    ratio: Floats = np.divide(np.cumsum(out), new, out=np.full(len(out), np.nan), where=new > 0)
    return ratio


def live_files(history: pa.Table) -> Integers:
    """Return how many files there were after each entry."""
    lists = (history[name].combine_chunks() for name in ("outputs", "inputs"))
    outputs, inputs = (column.value_lengths().fill_null(0).to_numpy() for column in lists)
    changes = np.where(np.isin(history["what"].to_pylist(), list(_LIVE_CHANGES_NOT)), 0, outputs - inputs)
    is_anew = history["starts_anew"].to_numpy(zero_copy_only=False).astype(bool)
    counts, live = [], 0
    for change, anew, all_of_them in zip(changes.tolist(), is_anew.tolist(), outputs.tolist(), strict=True):
        live = all_of_them if anew else live + change
        counts.append(live)
    return np.array(counts, dtype=np.int64)
