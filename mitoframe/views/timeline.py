"""The SST timeline: which files cover which time, level by level.

Each file is a bar from its first to its last timestamp, both included. Levels lie below each other as rows flow
through them: unflushed rows, then L0, then L1. Files of a level that overlap in time lie in different lanes, so the
height of a level is what a scan has to merge. Colour is size.

The input is the frame that ``table.files()`` returns, from any library that speaks Arrow. Nothing else is read.
matplotlib is imported at the first picture, not before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush
from itertools import pairwise
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
    format_count,
    format_duration,
    format_rows,
    integers,
    new_axes,
    put_legend,
    say_nothing_yet,
    set_time_limits,
    size_inches,
    style_axes,
    style_time,
    swatch,
    zone_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mitoframe.views.style import Flags, Floats, Integers

MEMTABLE_LEVEL = -1
LABELLED_FILES_MAX = 12
WINDOWS_DRAWN_MAX = 150

_MEMTABLE_COLOUR = "#fbe3c0"
_MEMTABLE_HATCH_COLOUR = "#c98a2b"

_LANE_FILL = 0.82
_LANE_POINTS_MIN = 4
"""Lanes lower than this touch: gaps of less than a pixel would show as stripes that are not there."""
_OUTLINED_POINTS_MIN = 3
_OUTLINED_FILES_MAX = 100
"""Above that many files in a level, bars narrower than that have no dark outline: it would hide their colour."""
_GROUP_GAP = 0.35
_GROUP_HEIGHT_MIN = 0.12
"""Of the highest level: how high a level with few lanes is drawn at least."""
_CHARACTER_POINTS = 4.9
_LABEL_POINTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bars:
    """The files of one level. Times are days since 1970, as matplotlib counts them."""

    level: int
    starts: Floats
    ends: Floats
    lanes: Integers
    sizes: Integers
    rows: Integers
    names: list[str]

    @property
    def depth(self) -> int:
        return int(self.lanes.max()) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Where a level lies: ``top`` and ``height`` on the y axis, which points down."""

    bars: _Bars
    top: float
    height: float

    @property
    def pitch(self) -> float:
        return self.height / self.bars.depth


def draw_timeline(files: Any, *, windows: timedelta | Iterable[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Draw the files of a table over time and return the axes.

    Args:
        files: The frame of ``table.files()``.
        windows: Compaction windows to mark: their length (they begin at whole multiples since 1970), or the
            times of their boundaries.
        ax: Where to draw; a new figure if not given.

    """
    table = pa.table(files)
    groups = _groups(_bars_by_level(table))
    axes = _new_axes(groups) if ax is None else ax
    _style(axes, groups)
    if not groups:
        return say_nothing_yet(axes, "no files yet")
    style_time(axes, zone_of(table, "min_time"))
    set_time_limits(axes, *_time_limits(groups))
    first, last = axes.get_xlim()
    handles = [
        *_draw_files(axes, groups),
        *_draw_memtable(axes, groups),
        *_draw_windows(axes, windows, first, last),
    ]
    if sum(len(group.bars.names) for group in groups) <= LABELLED_FILES_MAX:
        _label_bars(axes, groups)
    put_legend(axes, handles)
    return axes


def assign_lanes(starts: Sequence[Any], ends: Sequence[Any]) -> list[int]:
    """Give each interval [start, end], both ends included, the lowest lane that is free all along it.

    Intervals that share a lane do not overlap, and there are as many lanes as intervals at the busiest moment.

    >>> assign_lanes([0, 5, 3, 6], [4, 9, 7, 8])
    [0, 0, 1, 2]
    """
    lanes = [0] * len(starts)
    busy: list[tuple[Any, int]] = []
    free: list[int] = []
    for index in sorted(range(len(starts)), key=lambda each: (starts[each], ends[each])):
        while busy and busy[0][0] < starts[index]:
            heappush(free, heappop(busy)[1])
        lanes[index] = heappop(free) if free else len(busy)
        heappush(busy, (ends[index], lanes[index]))
    return lanes


# --- reading the frame ---------------------------------------------------------------------------------


def _bars_by_level(table: pa.Table) -> list[_Bars]:
    has_times = table["min_time"].is_valid().to_numpy()  # an empty memtable has none
    levels = integers(table, "level")
    return [_bars(table, level, (levels == level) & has_times) for level in sorted(set(levels[has_times].tolist()))]


def _bars(table: pa.Table, level: int, chosen: Flags) -> _Bars:
    starts, ends = integers(table, "min_time")[chosen], integers(table, "max_time")[chosen]
    return _Bars(
        level=level,
        starts=days(table, "min_time")[chosen],
        ends=days(table, "max_time")[chosen],
        lanes=np.array(assign_lanes(starts.tolist(), ends.tolist()), dtype=np.int64),
        sizes=integers(table, "size_bytes")[chosen],
        rows=integers(table, "rows")[chosen],
        names=[name for name, is_chosen in zip(table["file_id"].to_pylist(), chosen, strict=True) if is_chosen],
    )


def _groups(levels: list[_Bars]) -> list[_Group]:
    deepest = max((bars.depth for bars in levels), default=0)
    groups, top = [], 0.0
    for bars in levels:
        height = max(bars.depth, deepest * _GROUP_HEIGHT_MIN)
        groups.append(_Group(bars=bars, top=top, height=height))
        top += height + max(_GROUP_GAP, deepest * _GROUP_GAP / 10)
    return groups


def _time_limits(groups: list[_Group]) -> tuple[float, float]:
    first = min(float(group.bars.starts.min()) for group in groups)
    return first, max(float(group.bars.ends.max()) for group in groups)


# --- drawing -------------------------------------------------------------------------------------------


def _draw_files(axes: Axes, groups: list[_Group]) -> list[Any]:
    """Draw the bars of all levels and return the legend's entries for their sizes."""
    files = [group for group in groups if group.bars.level != MEMTABLE_LEVEL]
    if not files:
        return []
    classes = SizeClasses(np.concatenate([group.bars.sizes for group in files]))
    for group in files:
        colours = np.array(classes.colours)[classes.of(group.bars.sizes)]
        axes.add_collection(_collection(group, axes, colours))
    return classes.legend()


def _draw_memtable(axes: Axes, groups: list[_Group]) -> list[Any]:
    look: dict[str, Any] = {"edgecolor": _MEMTABLE_HATCH_COLOUR, "hatch": "////"}
    for group in groups:
        if group.bars.level == MEMTABLE_LEVEL:
            collection = _collection(group, axes, np.array([_MEMTABLE_COLOUR] * len(group.bars.names)))
            collection.set(**look)
            axes.add_collection(collection)
            return [swatch(_MEMTABLE_COLOUR, "not flushed yet", **look)]
    return []


def _collection(group: _Group, axes: Axes, colours: Any) -> Any:
    """Return all bars of a level. Every bar has an edge, so that one narrower than a pixel stays visible."""
    left, right = group.bars.starts, group.bars.ends
    points_per_day, points_per_lane = _points(group, axes)
    is_wide = (right - left) * points_per_day >= _OUTLINED_POINTS_MIN
    is_outlined = (is_wide | (len(left) <= _OUTLINED_FILES_MAX)) & (points_per_lane >= _LANE_POINTS_MIN)
    return boxes(
        left,
        right,
        *_upper_and_lower(group, axes),
        facecolors=colours,
        edgecolors=np.where(is_outlined, INK, colours),
        linewidths=np.where(is_outlined, 0.5, min(1.0, points_per_lane / 4)),
        zorder=2,
    )


def _upper_and_lower(group: _Group, axes: Axes) -> tuple[Floats, Floats]:
    fill = _LANE_FILL if _points(group, axes)[1] >= _LANE_POINTS_MIN else 1.0
    upper = group.top + (group.bars.lanes + (1 - fill) / 2) * group.pitch
    return upper, upper + fill * group.pitch


def _points(group: _Group, axes: Axes) -> tuple[float, float]:
    """Return how many points (1/72 inch) a day is wide and a lane of the group is high."""
    width, height = size_inches(axes)
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    return width * 72 / (right - left), height * 72 * group.pitch / (bottom - top)


def _draw_windows(axes: Axes, windows: timedelta | Iterable[Any] | None, first: float, last: float) -> list[Any]:
    from matplotlib.lines import Line2D

    if windows is None:
        return []
    boundaries = _boundaries(windows, first, last)
    label = f"{format_duration(windows)} windows" if isinstance(windows, timedelta) else "compaction windows"
    if len(boundaries) > WINDOWS_DRAWN_MAX:
        return [Line2D([], [], color="none", label=f"{label}\n({len(boundaries):,}, not drawn)")]
    axes.vlines(
        boundaries, 0, 1, transform=axes.get_xaxis_transform(), color=FAINT, linewidth=0.7, linestyle=(0, (4, 3)),
        zorder=1,
    )  # fmt: skip
    return [Line2D([], [], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label=label)]


def _boundaries(windows: timedelta | Iterable[Any], first: float, last: float) -> Floats:
    if not isinstance(windows, timedelta):
        found = days(pa.table({"boundary": windows}), "boundary")
        return np.unique(found[(found >= first) & (found <= last)])
    length = windows / timedelta(days=1)
    return np.arange(math.ceil(first / length), math.floor(last / length) + 1) * length


def _label_bars(axes: Axes, groups: list[_Group]) -> None:
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    for group in groups:
        characters_per_day = _points(group, axes)[0] / _CHARACTER_POINTS
        upper, lower = _upper_and_lower(group, axes)
        middles = (group.bars.starts + group.bars.ends) / 2, (upper + lower) / 2
        widths = (group.bars.ends - group.bars.starts) * characters_per_day
        for index, (x, y) in enumerate(zip(*middles, strict=True)):
            text = _fitting_label(group.bars, index, float(widths[index]))
            if text:
                axes.text(x, y, text, ha="center", va="center", fontsize=_LABEL_POINTS, color=INK, zorder=3, bbox=box)


def _fitting_label(bars: _Bars, index: int, characters: float) -> str:
    rows, size = format_rows(int(bars.rows[index])), format_bytes(int(bars.sizes[index]))
    if bars.level == MEMTABLE_LEVEL:
        candidates = [rows]
    else:
        candidates = [f"{bars.names[index][:8]} · {size} · {rows}", f"{size} · {rows}", size]
    return next((text for text in candidates if len(text) + 2 <= characters), "")


# --- axes ----------------------------------------------------------------------------------------------


def _new_axes(groups: list[_Group]) -> Axes:
    lanes = sum(group.height for group in groups)
    return new_axes(min(7.0, 1.5 + 0.35 * max(lanes, len(groups))))


def _style(axes: Axes, groups: list[_Group]) -> None:
    style_axes(axes, _title(groups))
    axes.set_yticks(
        [group.top + group.height / 2 for group in groups], labels=[_level_label(group.bars) for group in groups]
    )
    bottom = groups[-1].top + groups[-1].height if groups else 1.0
    axes.set_ylim(bottom * 1.02 + 0.1, -bottom * 0.02 - 0.1)
    for above, below in pairwise(groups):
        axes.axhline((above.top + above.height + below.top) / 2, color=FAINT, linewidth=0.5, zorder=0)


def _title(groups: list[_Group]) -> str:
    files = [group.bars for group in groups if group.bars.level != MEMTABLE_LEVEL]
    count = sum(len(bars.names) for bars in files)
    rows, size = sum(int(bars.rows.sum()) for bars in files), sum(int(bars.sizes.sum()) for bars in files)
    return f"SST timeline: {format_count(count, 'file')}" + (
        f", {format_rows(rows)}, {format_bytes(size)}" if count else ""
    )


def _level_label(bars: _Bars) -> str:
    if bars.level == MEMTABLE_LEVEL:
        return f"memtable\n{format_rows(int(bars.rows.sum()))}"
    return f"L{bars.level}\n{format_count(len(bars.names), 'file')}, {format_bytes(int(bars.sizes.sum()))}"
