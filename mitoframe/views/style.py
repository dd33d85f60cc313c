"""What all pictures share: colours, axes with times on them, sizes in words.

matplotlib is imported at the first picture, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.floating[Any]]]"
Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

SIZE_CLASSES_MAX = 4
INK = "#333333"
FAINT = "#c4c4c4"
ACCENT = "#c2571a"
"""For what asks to be looked at."""
BLUES = ("#b5d2ea", "#78add5", "#3880b9", "#0b3f7c")
"""Light to dark, so that an order of sizes survives grey printing."""

_BLUES_OF_CLASSES = {1: (2,), 2: (1, 3), 3: (0, 2, 3), 4: (0, 1, 2, 3)}
_UNITS_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_WIDTH_INCHES = 9.5


# --- reading frames --------------------------------------------------------------------------------------


def table_of(frame: Any) -> pa.Table:
    """Return a frame of any library that speaks Arrow, with texts that Arrow can filter: those of Polars it cannot."""
    table = pa.table(frame)
    return table.cast(pa.schema([field.with_type(_plain(field.type)) for field in table.schema]))


def _plain(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(data_type):
        return pa.string()
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return pa.list_(_plain(data_type.value_type))
    return data_type


def integers(table: pa.Table, name: str) -> Integers:
    """Return a column as int64; a null is 0, a time is counted in its unit."""
    column: Integers = table[name].cast(pa.int64()).fill_null(0).to_numpy()
    return column


def days(table: pa.Table, name: str) -> Floats:
    """Return times as days since 1970, as matplotlib counts them; a null is NaN."""
    column = table[name]
    counted: Floats = column.cast(pa.int64()).cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy()
    return counted / _UNITS_PER_DAY[column.type.unit]


def zone_of(table: pa.Table, name: str) -> str | None:
    zone: str | None = table.schema.field(name).type.tz
    return zone


# --- axes ------------------------------------------------------------------------------------------------


def new_axes(height_inches: float) -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "mitoframe[notebook]"') from error

    figure = pyplot.figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    axes: Axes = figure.add_subplot()
    return axes


def style_axes(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.tick_params(axis="x", labelsize=9, color=FAINT, labelcolor=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def style_time(axes: Axes, zone: str | None, *, what: str = "time") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9, tz=zone or "UTC")
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone or "UTC"))
    axes.set_xlabel(f"{what} ({zone})" if zone else what, color=INK)


def set_time_limits(axes: Axes, first: float, last: float) -> None:
    margin = 0.015 * (last - first) or 1 / 24
    axes.set_xlim(first - margin, last + margin)


def say_nothing_yet(axes: Axes, what: str) -> Axes:
    """Write in the middle of empty axes why they are."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color=INK)
    return axes


def count_upwards(axes: Axes) -> None:
    """Let the y axis begin at 0 and be marked at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def put_legend(axes: Axes, handles: Sequence[Any], *, at: float = 1.01) -> None:
    """Put a legend to the right of a picture, where it hides nothing."""
    look: dict[str, Any] = {"borderaxespad": 0, "frameon": False, "fontsize": 8.5}
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(at, 1.0), **look)


def boxes(left: Floats, right: Floats, upper: Floats, lower: Floats, **look: Any) -> Any:
    """Return rectangles as one artist: thousands of single patches would take seconds."""
    from matplotlib.collections import PolyCollection

    return PolyCollection(corners(left, right, upper, lower), **look)


def corners(left: Floats, right: Floats, upper: Floats, lower: Floats) -> Any:
    """Return the corners of rectangles, (rectangle, corner, x and y)."""
    return np.stack(
        [np.stack([left, right, right, left], axis=1), np.stack([upper, upper, lower, lower], axis=1)], axis=2
    )


def swatch(colour: str, label: str, **look: Any) -> Any:
    """Return a legend's entry for a colour."""
    from matplotlib.patches import Patch

    usual: dict[str, Any] = {"facecolor": colour, "edgecolor": INK, "linewidth": 0.5, "label": label}
    return Patch(**usual | look)


def size_inches(axes: Axes) -> tuple[float, float]:
    box = axes.get_window_extent()
    dots_per_inch = axes.figure.get_dpi()
    return float(box.width / dots_per_inch), float(box.height / dots_per_inch)


# --- sizes and words -------------------------------------------------------------------------------------


class SizeClasses:
    """Decades of bytes: the largest that occurs, and up to three below it."""

    def __init__(self, sizes: Integers) -> None:
        decades = _decades(sizes)
        self.last = int(decades.max())
        self.first = max(int(decades.min()), self.last - SIZE_CLASSES_MAX + 1)
        numbers = range(self.first, self.last + 1)
        self.colours = [BLUES[index] for index in _BLUES_OF_CLASSES[len(numbers)]]
        self.labels = [self._label(number, smallest=int(decades.min())) for number in numbers]

    def of(self, sizes: Integers) -> Integers:
        """Return the class of each size, an index into ``colours``."""
        return np.maximum(_decades(sizes), self.first) - self.first

    def legend(self) -> list[Any]:
        return [swatch(colour, label) for colour, label in zip(self.colours, self.labels, strict=True)]

    def _label(self, decade: int, smallest: int) -> str:
        if decade == self.first and smallest < decade:
            return f"under {format_bytes(10 ** (decade + 1))}"
        return f"{format_bytes(10**decade)} to {format_bytes(10 ** (decade + 1))}"


def _decades(sizes: Integers) -> Integers:
    decades: Integers = np.floor(np.log10(np.maximum(sizes, 1))).astype(np.int64)
    return decades


def format_bytes(size_bytes: int) -> str:
    """Write a size for people.

    >>> [format_bytes(size) for size in (0, 999, 1_000, 12_345, 99_950, 1_250_000_000)]
    ['0 B', '999 B', '1 kB', '12.3 kB', '100 kB', '1.25 GB']
    """
    return _scaled(size_bytes, ("B", "kB", "MB", "GB", "TB", "PB"), separator=" ")


def format_rows(count: int) -> str:
    """Write a number of rows for people.

    >>> [format_rows(count) for count in (1, 1_000, 86_400, 2_880_000)]
    ['1 row', '1k rows', '86.4k rows', '2.88M rows']
    """
    return _scaled(count, ("", "k", "M", "bn", "tn"), separator="") + (" row" if count == 1 else " rows")


def format_count(count: int, noun: str) -> str:
    """Write how many there are of something.

    >>> format_count(1, "file"), format_count(30_000, "file")
    ('1 file', '30,000 files')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_duration(length: timedelta) -> str:
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if length % unit == timedelta(0):
            return f"{length // unit} {name}"
    return f"{length.total_seconds():g} s"


def _scaled(number: float, units: Sequence[str], *, separator: str) -> str:
    for unit in units[:-1]:
        if number < 999.5:
            return f"{number:.3g}{separator}{unit}"
        number /= 1000
    return f"{number:.3g}{separator}{units[-1]}"
