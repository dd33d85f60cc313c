"""``df.to_mito("cpu", time="ts", tags=["host"])`` on pandas and Polars frames, lazy ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl

from mitoframe.database import Database, current

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mitoframe.model.result import WriteResult


class ToMito:
    """Writes a frame; see `Database.write`. ``mitoframe.write`` is the same for type checkers."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __call__(
        self,
        table: str,
        *,
        time: str | None = None,
        tags: Sequence[str] | None = None,
        key: str | None = None,
        options: Mapping[str, Any] | None = None,
        db: Database | None = None,
    ) -> WriteResult:
        """Write the frame to ``table`` of ``db``, or of the store that was opened last.

        Index levels of a pandas frame that have the name of the time or a tag are columns; a DatetimeIndex without a
        name is the time, if the frame has no such column. Any other index is left behind.
        """
        return (db or current()).write(self._frame, table, time=time, tags=tags, key=key, options=options)


def register() -> None:
    """Give frames their ``to_mito``. Doing it twice is fine."""
    if not hasattr(pd.DataFrame, "to_mito"):
        pd.api.extensions.register_dataframe_accessor("to_mito")(ToMito)
    if not hasattr(pl.DataFrame, "to_mito"):
        pl.api.register_dataframe_namespace("to_mito")(ToMito)
    if not hasattr(pl.LazyFrame, "to_mito"):
        pl.api.register_lazyframe_namespace("to_mito")(ToMito)
