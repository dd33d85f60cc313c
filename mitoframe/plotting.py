"""``table.plot``: pictures of a table. matplotlib is loaded when the first is drawn.

Each picture is drawn of a frame that the table gives as well, and of nothing else; it returns matplotlib's axes, to be
changed or saved.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from mitoframe import inspection
from mitoframe.model.errors import ConfigError
from mitoframe.views.amplification import draw_amplification
from mitoframe.views.coverage import draw_coverage
from mitoframe.views.jobs import draw_jobs
from mitoframe.views.keys import draw_keys
from mitoframe.views.movie import shoot_movie
from mitoframe.views.timeline import draw_timeline
from mitoframe.views.windows import draw_windows

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

    from mitoframe.region.version import Version
    from mitoframe.table import Table

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _draws(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Tell what to install if a picture cannot be drawn."""

    @wraps(method)
    def draw(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except ImportError as error:
            raise ConfigError('drawing needs matplotlib: pip install "mitoframe[notebook]"') from error

    return draw


class Plot:
    """Draws a table; get one from ``table.plot``.

    Every method takes ``ax``, where to draw, and makes a new figure if it is None; and raises `ConfigError` if
    matplotlib is not installed.
    """

    def __init__(
        self,
        table: Table,
        version: Callable[[], Version],
        window_ms: Callable[[], int],
        past: Callable[[], tuple[pa.Table, pa.Table]],
    ) -> None:
        self._table, self._version, self._window_ms, self._past = table, version, window_ms, past

    def __repr__(self) -> str:
        kinds = ", ".join(name for name in vars(Plot) if not name.startswith("_"))
        return f"pictures of table {self._table.name!r}: {kinds}"

    @_draws
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
        return draw_timeline(files, windows=timedelta(milliseconds=self._window_ms()), ax=ax)

    @_draws
    def windows(self, ax: Axes | None = None) -> Axes:
        """Draw how many files each compaction window has, and which are due; of the frame ``table.windows()``.

        Args:
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     axes = db["cpu"].plot.windows()

        """
        return draw_windows(self._table.windows(), ax=ax)

    @_draws
    def compactions(self, ax: Axes | None = None) -> Axes:
        """Draw when flushes, compactions and other jobs ran, and what they wrote; of the frame ``table.history()``.

        Args:
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     axes = db["cpu"].plot.compactions()

        """
        return draw_jobs(self._table.history(), ax=ax)

    @_draws
    def amplification(self, ax: Axes | None = None) -> Axes:
        """Draw write amplification and the number of files over time; of the frame ``table.history()``.

        Args:
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     axes = db["cpu"].plot.amplification()

        """
        return draw_amplification(self._table.history(), ax=ax)

    @_draws
    def coverage(self, by: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw gaps, overlaps and late rows, from metadata alone; of the frame ``table.coverage(by)``.

        Args:
            by: the name of a tag, for a line per value.
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.
            InvalidInputError: there is no such tag.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     axes = db["cpu"].plot.coverage(by="host")

        """
        return draw_coverage(self._table.coverage(by), ax=ax)

    @_draws
    def movie(
        self, *, first: int | None = None, last: int | None = None, interval_ms: int = 150, ax: Axes | None = None
    ) -> FuncAnimation:
        """Make a film of the table's files through the versions of its manifest; of more than 300, so many are shown.

        ``movie.save("cpu.gif")`` keeps it, ``movie.to_jshtml()`` plays it in a notebook.

        Args:
            first: the first version to show; the oldest that is known if None.
            last: the last version to show; the newest if None.
            interval_ms: how long each is shown.
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     for day in (1, 2, 3):
            ...         frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, day)], "host": ["a"], "cpu": [0.5]})
            ...         _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...         _ = db["cpu"].flush()
            ...     len(db["cpu"].plot.movie().to_jshtml()) > 10_000
            True

        """
        files, history = self._past()
        return shoot_movie(files, history, first=first, last=last, interval_ms=interval_ms, ax=ax)

    @_draws
    def keys(self, ax: Axes | None = None) -> Axes:
        """Draw which part of time and keys each file holds; of the frame ``table.files()``.

        Args:
            ax: where to draw; a new figure if None.

        Raises:
            ConfigError: matplotlib is not installed.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     axes = db["cpu"].plot.keys()

        """
        return draw_keys(self._table.files(), ax=ax)
