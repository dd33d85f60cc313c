"""A table's files as HTML that needs nothing else: one SVG, and what it shows in words. For where widgets do not run.

Up to `FILES_MAX` files are bars, each with its facts as a tooltip. Of more, a level is a skyline: how high it is at a
time says how many files hold that time, so that its size does not depend on how many files there are.

Colours are attributes, for pages that take styles away, and a style beside them, which knows dark pages.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from mitoframe.views.strata import MEMTABLE_LEVEL, milliseconds, size_shades
from mitoframe.views.style import format_bytes, format_count, format_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mitoframe.views.strata import Array, Strata

FILES_MAX = 400
SKYLINE_COLUMNS = 420
ROWS_MAX = 12
"""How many lines the lists below the picture have."""

_STYLE = Path(__file__).with_name("panel.css")
_WIDTH, _LEFT, _RIGHT = 960.0, 110.0, 12.0
_TOP, _LANES_HEIGHT, _LANE_MAX, _GAP, _AXIS = 8.0, 240.0, 16.0, 12.0, 26.0
_LEVEL_MIN = 18.0
_BAR_MIN = 1.5
_SHADES = ("#b7d3ea", "#8fbcdd", "#5b9bcb", "#2f78b7", "#1a5490")
_MEMORY = "#e0a050"
_FAINT = "#8888"
_WINDOW, _WINDOW_DUE = "#7f7f7f14", "#f0a03033"
_WINDOWS_DRAWN_MAX = 200
_SECOND = 1_000.0
_STEPS_MS = tuple(
    _SECOND * seconds
    for seconds in (
        1e-3, 1e-2, 0.1, 1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600,
        2_592_000, 7_776_000, 31_536_000, 157_680_000, 315_360_000, 3_153_600_000,
    )
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def draw_still(strata: Strata, *, table: str, windows: Any, history: Any) -> str:
    """Return a table's files as HTML.

    Args:
        strata: what to draw; what is there after the last step is drawn.
        table: its name.
        windows: the frame of ``table.compaction_plan()``, drawn behind the files and listed.
        history: the frame of ``table.history()``, whose end is listed.

    """
    windows, history = pa.table(windows), pa.table(history)
    parts = [
        f'<div class="mito-panel mito-still"><style>{_style()}</style>',
        f'<div class="mito-head"><b>{escape(table)}</b> {escape(summary(strata))}</div>',
        _svg(strata, windows, table),
        _details("Compaction windows", len(windows), _table(windows.slice(0, ROWS_MAX), _WINDOW_COLUMNS)),
        _details("What happened", len(history), _table(_last(history), _HISTORY_COLUMNS)),
        "</div>",
    ]
    return "".join(parts)


def summary(strata: Strata) -> str:
    """Say in a line what there is now."""
    now = strata.now
    files = now[strata.level[now] != MEMTABLE_LEVEL]
    memory = now[strata.level[now] == MEMTABLE_LEVEL]
    said = [
        f"{len(files):,} file" + ("" if len(files) == 1 else "s"),
        format_rows(int(strata.rows[files].sum())),
        format_bytes(int(strata.size_bytes[files].sum())),
    ]
    if len(memory):
        said.append(f"{format_rows(int(strata.rows[memory].sum()))} in memory")
    return ", ".join([*said, f"version {int(strata.steps.version[-1])}"])


@cache
def _style() -> str:
    return _STYLE.read_text(encoding="utf-8")


# --- the picture ---------------------------------------------------------------------------------------


def _svg(strata: Strata, windows: pa.Table, table: str) -> str:
    now = strata.now
    if not len(now):
        return '<p class="mito-none">no files yet</p>'
    first, last = time_limits(strata.start_ms[now], strata.end_ms[now])
    levels = [level for level in strata.levels if (strata.level[now] == level).any()]
    tops, lane_height, bottom = _rows(strata, levels, now)
    x = _Scale(first, last)
    height = bottom + _AXIS
    body = [*_windows(windows, x, bottom), *_axis(x, strata.zone, bottom)]
    for level in levels:
        chosen = now[strata.level[now] == level]
        draw = _bars if len(now) <= FILES_MAX else _skyline
        body += draw(strata, chosen, x, tops[level], lane_height)
        body.append(_level_label(strata, level, chosen, tops[level]))
    return (
        f'<svg class="mito-svg" viewBox="0 0 {_WIDTH:g} {height:.1f}" role="img" font-size="11" fill="currentColor" '
        f'style="max-width:100%" aria-label="files of {escape(table)} over time, {escape(summary(strata))}">'
        f"{''.join(body)}</svg>"
    )


class _Scale:
    """From milliseconds to places."""

    def __init__(self, first: float, last: float) -> None:
        self.first, self.last = first, last
        self._per_ms = (_WIDTH - _LEFT - _RIGHT) / (last - first)

    def __call__(self, at_ms: Any) -> Any:
        return _LEFT + (at_ms - self.first) * self._per_ms


def time_limits(starts: Array, ends: Array) -> tuple[float, float]:
    """Return between which times to draw: all there are, and a little room.

    >>> time_limits(np.array([0.0]), np.array([100.0]))
    (-1.5, 101.5)
    """
    first, last = float(starts.min()), float(ends.max())
    margin = 0.015 * (last - first) or max(1_000.0, 1e-9 * abs(first))
    return first - margin, last + margin


def _rows(strata: Strata, levels: list[int], now: Array) -> tuple[dict[int, float], float, float]:
    """Return where each level begins, how high a lane is, and where the last ends."""
    lanes = {level: strata.lanes_of(level, now) for level in levels}
    lane_height = min(_LANE_MAX, _LANES_HEIGHT / sum(lanes.values()))
    tops, top = {}, _TOP
    for level in levels:
        tops[level] = top
        top += max(lanes[level] * lane_height, _LEVEL_MIN) + _GAP
    return tops, lane_height, top


def _bars(strata: Strata, chosen: Array, x: _Scale, top: float, lane_height: float) -> Iterator[str]:
    shades = size_shades(strata.size_bytes)[0]
    fill = lane_height * (0.84 if lane_height > 3 else 1)
    for number in chosen:
        left, right = x(strata.start_ms[number]), x(strata.end_ms[number])
        is_memory = strata.level[number] == MEMTABLE_LEVEL
        colour = _MEMORY if is_memory else _SHADES[shades[number]]
        name = "memory" if is_memory else f"s{shades[number]}"
        y = top + strata.lane[number] * lane_height
        yield (
            f'<rect class="mito-{name}" fill="{colour}" x="{left:.1f}" y="{y:.1f}" '
            f'width="{max(right - left, _BAR_MIN):.1f}" height="{fill:.1f}" rx="1"><title>'
            f"{escape(_facts(strata, int(number)))}</title></rect>"
        )


def _facts(strata: Strata, number: int) -> str:
    zone = zone_of(strata.zone)
    times = f"{moment(strata.start_ms[number], zone)} to {moment(strata.end_ms[number], zone)}"
    size, rows = format_bytes(int(strata.size_bytes[number])), format_rows(int(strata.rows[number]))
    sequences = f"sequences {strata.min_sequence[number]:,} to {strata.max_sequence[number]:,}"
    return f"{strata.file_ids[number][:8]} · L{strata.level[number]} · {times} · {rows} · {size} · {sequences}"


def _skyline(strata: Strata, chosen: Array, x: _Scale, top: float, lane_height: float) -> Iterator[str]:
    """Draw how many files hold each time, as one shape."""
    edges = np.linspace(x.first, x.last, SKYLINE_COLUMNS + 1)
    counts = holding(strata.start_ms[chosen], strata.end_ms[chosen], edges)
    height = max(strata.lanes_of(int(strata.level[chosen[0]]), chosen) * lane_height, _LEVEL_MIN)
    scale = height / max(int(counts.max()), 1)
    places = [f"M{x(edges[0]):.1f} {top + height:.1f}"]
    for column, count in enumerate(counts):
        level = top + height - count * scale
        places.append(f"V{level:.1f}H{x(edges[column + 1]):.1f}")
    is_memory = strata.level[chosen[0]] == MEMTABLE_LEVEL
    name, colour = ("memory", _MEMORY) if is_memory else ("s3", _SHADES[3])
    title = f"{format_count(len(chosen), 'file')}, at most {int(counts.max()):,} over one time"
    path = f"{''.join(places)}V{top + height:.1f}Z"
    yield f'<path class="mito-{name}" fill="{colour}" d="{path}"><title>{title}</title></path>'


def holding(starts: Array, ends: Array, edges: Array) -> Array:
    """Return how many intervals have a time in each column between two neighbouring edges.

    >>> holding(np.array([0, 2]), np.array([2, 5]), np.array([0, 1, 2, 4])).tolist()
    [1, 2, 2]
    """
    begun = np.searchsorted(np.sort(starts), edges[1:], side="right")
    over = np.searchsorted(np.sort(ends), edges[:-1], side="left")
    counts: Array = begun - over
    return counts


def _windows(windows: pa.Table, x: _Scale, bottom: float) -> Iterator[str]:
    """Draw windows behind the files, those that are due in another colour."""
    if len(windows) > _WINDOWS_DRAWN_MAX:
        return
    starts, ends = milliseconds(windows, "window_start"), milliseconds(windows, "window_end")
    for start, end, merges in zip(starts, ends, windows["merges"].to_pylist(), strict=True):
        left, right = max(x(start), _LEFT), min(x(end), _WIDTH - _RIGHT)
        name, colour = ("due", _WINDOW_DUE) if merges else ("window", _WINDOW)
        yield (
            f'<rect class="mito-{name}" fill="{colour}" x="{left:.1f}" y="0" width="{max(right - left - 0.6, 0):.1f}" '
            f'height="{bottom:.1f}"/>'
        )


def _axis(x: _Scale, zone: str | None, bottom: float) -> Iterator[str]:
    yield f'<line x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{bottom:.1f}" y2="{bottom:.1f}" stroke="{_FAINT}"/>'
    for at_ms, label in time_ticks(x.first, x.last, zone):
        yield (
            f'<line x1="{x(at_ms):.1f}" x2="{x(at_ms):.1f}" y1="{bottom:.1f}" y2="{bottom + 4:.1f}" stroke="{_FAINT}"/>'
            f'<text x="{x(at_ms):.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{label}</text>'
        )


def _level_label(strata: Strata, level: int, chosen: Array, top: float) -> str:
    if level == MEMTABLE_LEVEL:
        words = "memory", format_rows(int(strata.rows[chosen].sum()))
    else:
        words = f"L{level}", f"{len(chosen):,} · {format_bytes(int(strata.size_bytes[chosen].sum()))}"
    return f'<text x="4" y="{top + 11:.1f}"><tspan font-weight="bold">{words[0]}</tspan> {words[1]}</text>'


# --- times ---------------------------------------------------------------------------------------------


def zone_of(name: str | None) -> tzinfo:
    """Return a time zone; UTC for none, and for times whose column has none."""
    if name is None or name == "UTC":
        return UTC
    if name[0] in "+-":
        hours, _, minutes = name[1:].partition(":")
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return timezone(-offset if name[0] == "-" else offset)
    return ZoneInfo(name)


def moment(at_ms: float, zone: tzinfo = UTC) -> str:
    """Write a time for people.

    >>> moment(0.0), moment(86_400_000.5)
    ('1970-01-01 00:00:00', '1970-01-02 00:00:00.000500')
    """
    try:
        return str((_EPOCH + timedelta(milliseconds=float(at_ms))).astimezone(zone).replace(tzinfo=None))
    except OverflowError:
        return f"{at_ms:g} ms"


def time_ticks(first: float, last: float, zone: str | None, count: int = 8) -> list[tuple[float, str]]:
    """Return about so many round times between two, and what to write there.

    >>> [label for _, label in time_ticks(0.0, 4 * 86_400_000.0, None, 4)]
    ['1970-01-01', '01-02', '01-03', '01-04', '01-05']
    """
    step = _step((last - first) / count)
    offset_ms = _offset_ms(first, zone)
    begin = np.ceil((first + offset_ms) / step) * step - offset_ms
    ticks: list[tuple[float, str]] = []
    day = ""
    for at_ms in (begin + step * np.arange((last - begin) // step + 1)).tolist():
        text = moment(at_ms, zone_of(zone))
        ticks.append((at_ms, _tick_label(text, day, step)))
        day = text[:10]
    return ticks


def _step(wanted: float) -> float:
    """Return the round length of time that is at least as long; beyond centuries any number that is round."""
    magnitude = 10.0 ** np.floor(np.log10(wanted))
    return float(next(step for step in (*_STEPS_MS, *(magnitude * n for n in (1, 2, 5, 10))) if step >= wanted))


def _tick_label(text: str, day_before: str, step: float) -> str:
    day, _, clock = text.partition(" ")
    time = clock[:5] if step >= 60 * _SECOND else clock[:12]
    if day == day_before:
        return time
    shown = day[5:] if day[:4] == day_before[:4] else day
    return shown if clock == "00:00:00" or step >= 86_400 * _SECOND else f"{shown} {time}"


def _offset_ms(at_ms: float, zone: str | None) -> float:
    try:
        offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone_of(zone)).utcoffset()
    except OverflowError:
        return 0.0
    return 0.0 if offset is None else offset / timedelta(milliseconds=1)


# --- words ---------------------------------------------------------------------------------------------

_WINDOW_COLUMNS = ("window_start", "window_end", "files", "runs", "size_bytes", "merges", "reason")
_HISTORY_COLUMNS = ("version", "at", "what", "reason", "rows_out", "bytes_out")


def _last(history: pa.Table) -> pa.Table:
    return history.slice(max(len(history) - ROWS_MAX, 0)).take(list(range(min(len(history), ROWS_MAX) - 1, -1, -1)))


def _details(title: str, count: int, body: str) -> str:
    shown = f"{count:,}" if count <= ROWS_MAX else f"{ROWS_MAX} of {count:,}"
    return f"<details><summary>{title} ({shown})</summary>{body}</details>"


def _table(table: pa.Table, names: Iterable[str]) -> str:
    columns = {name: _texts(table[name], name) for name in names}
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
        for row in zip(*columns.values(), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _texts(column: pa.ChunkedArray, name: str) -> list[str]:
    if pa.types.is_temporal(column.type):
        values = column.cast(pa.string()).to_pylist()
    else:
        values = column.to_pylist()
    if "bytes" in name:
        return ["" if value is None else format_bytes(value) for value in values]
    return ["" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in values]
