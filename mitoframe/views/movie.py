"""A film of a table: its files over time, level by level, a picture for each version of the manifest that changed them.

The input are the frames ``files`` (one row per file that is there or was) and ``table.history()``. Files lie where
`mitoframe.views.strata` puts them, and stay there for as long as they are there. What a version brought is outlined.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mitoframe.views.strata import MEMTABLE_LEVEL, strata_of
from mitoframe.views.style import (
    ACCENT,
    FAINT,
    INK,
    SizeClasses,
    boxes,
    corners,
    format_bytes,
    format_count,
    new_axes,
    put_legend,
    say_nothing_yet,
    set_time_limits,
    style_axes,
    style_time,
)

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

    from mitoframe.views.strata import Array, Strata

_DAY_MS = 86_400_000
_LANE_FILL = 0.84
_LEVEL_GAP = 0.6
_POINTS_MIN = 1.5
_LIVES_MAX = 100_000
"""More than the widget sends to a page: here the older ones cost time alone."""
_OUTLINED_FILES_MAX = 400
"""Of more files than that a dark outline would hide the colours."""


def shoot_movie(
    files: Any,
    history: Any,
    *,
    first: int | None = None,
    last: int | None = None,
    pictures_max: int = 300,
    interval_ms: int = 150,
    ax: Axes | None = None,
) -> FuncAnimation:
    """Make an animation of a table's files.

    Args:
        files: one row per file that is there or was, as `strata_of` wants them.
        history: The frame of ``table.history()``.
        first: The first version of the manifest to show; the oldest known if None.
        last: The last one; the newest if None.
        pictures_max: Of more versions, so many are shown, evenly chosen, the first and the last among them.
        interval_ms: How long each is shown.
        ax: Where to draw; a new figure if not given.

    """
    from matplotlib.animation import FuncAnimation
    from matplotlib.colors import to_rgba_array

    strata = strata_of(files, history, lives_max=_LIVES_MAX)
    shown = _shown_steps(strata, first, last, pictures_max)
    stored = strata.level != MEMTABLE_LEVEL
    tops, lanes = _tops(strata)
    axes = new_axes(min(6.5, 1.5 + 0.3 * max(lanes, 2))) if ax is None else ax
    style_axes(axes, "")
    figure: Any = axes.figure
    if not len(shown) or not stored.any():
        say_nothing_yet(axes, "no files yet")
        return FuncAnimation(figure, lambda _: [], frames=1, interval=interval_ms)
    left, right = strata.start_ms / _DAY_MS, strata.end_ms / _DAY_MS
    style_time(axes, strata.zone)
    set_time_limits(axes, float(left[stored].min()), float(right[stored].max()))
    span = axes.get_xlim()
    right = np.maximum(right, left + _POINTS_MIN * (span[1] - span[0]) / 600)
    upper = np.array([tops.get(level, 0.0) for level in strata.level.tolist()]) + strata.lane + (1 - _LANE_FILL) / 2
    classes = SizeClasses(strata.size_bytes[stored].astype(np.int64))
    # As numbers: matplotlib takes names one by one, for every picture again.
    colours = to_rgba_array(classes.colours)[classes.of(strata.size_bytes.astype(np.int64))]
    accent, ink = to_rgba_array([ACCENT, INK])
    axes.set_ylim(lanes + _LEVEL_GAP, -0.3)
    axes.set_yticks([tops[level] + 0.5 for level in tops], labels=[f"L{level}" for level in tops])
    for level in list(tops)[1:]:
        axes.axhline(tops[level] - _LEVEL_GAP / 2, color=FAINT, linewidth=0.5, zorder=0)
    put_legend(axes, classes.legend())
    drawn = boxes(left[:0], left[:0], left[:0], left[:0])
    axes.add_collection(drawn)

    shown_now: int | None = None

    def draw(step: int) -> list[Any]:
        nonlocal shown_now
        if step == shown_now:  # The first picture is asked for several times.
            return [drawn]
        shown_now = step
        there = strata.at(step)
        there = there[stored[there]]
        new = strata.born[there] == step
        drawn.set_verts(corners(left[there], right[there], upper[there], upper[there] + _LANE_FILL))
        outlined = len(there) <= _OUTLINED_FILES_MAX
        edges = np.where(new[:, None], accent, ink if outlined else colours[there])
        drawn.set(facecolor=colours[there], edgecolor=edges, linewidth=np.where(new, 1.6, 0.4 if outlined else 0.0))
        axes.set_title(_title(strata, step), loc="left", fontsize=11, color=INK)
        return [drawn]

    draw(int(shown[0]))
    return FuncAnimation(figure, draw, frames=shown.tolist(), interval=interval_ms, repeat=False)


def _shown_steps(strata: Strata, first: int | None, last: int | None, pictures_max: int) -> Array:
    versions = strata.steps.version
    oldest, newest = versions.min() if first is None else first, versions.max() if last is None else last
    steps: Array = np.flatnonzero((versions >= oldest) & (versions <= newest))
    if len(steps) > pictures_max:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, pictures_max).round().astype(int))]
    return steps


def _tops(strata: Strata) -> tuple[dict[int, float], float]:
    """Return where each level begins, and where the last ends."""
    tops, top = {}, 0.0
    for level in strata.levels:
        if level != MEMTABLE_LEVEL:
            tops[level] = top
            top += strata.lanes_of(level, np.arange(len(strata))) + _LEVEL_GAP
    return tops, max(top - _LEVEL_GAP, 1.0)


def _title(strata: Strata, step: int) -> str:
    steps = strata.steps
    at = datetime.fromtimestamp(float(steps.at_ms[step]) / 1000, UTC)
    there = f"{format_count(int(steps.files[step]), 'file')}, {format_bytes(int(steps.size_bytes[step]))}"
    hidden = f" ({format_count(strata.left_out, 'file')} of before left out)" if strata.left_out else ""
    return f"version {int(steps.version[step])}, {at:%Y-%m-%d %H:%M:%S}: {steps.what[step]}; {there}{hidden}"
