"""``table.plot``: pictures of a table. matplotlib is loaded when the first is drawn."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mitoframe import inspection
from mitoframe.model.errors import ConfigError
from mitoframe.views.timeline import draw_timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from mitoframe.region.version import Version


class Plot:
    """Draws a table; get one from ``table.plot``."""

    def __init__(self, version: Callable[[], Version], window_ms: Callable[[], int]) -> None:
        self._version, self._window_ms = version, window_ms

    def timeline(self, ax: Axes | None = None) -> Axes:
        """Draw the table's SSTs over time, by level, with the compaction windows behind them.

        Args:
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     axes = db["cpu"].plot.timeline()

        """
        files = inspection.files(self._version(), with_memtable=True)
        try:
            return draw_timeline(files, windows=timedelta(milliseconds=self._window_ms()), ax=ax)
        except ImportError as error:
            raise ConfigError('drawing needs matplotlib: pip install "mitoframe[notebook]"') from error
