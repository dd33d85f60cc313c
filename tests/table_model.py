"""What a table should hold, the obvious way: a list of all that was ever written to it, and a fold over that list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

import polars as pl

Key = tuple[str | None, int | None, datetime]
KEYS = {"host": pl.String, "rack": pl.Int64, "ts": pl.Datetime("us")}
FIELDS = {"load": pl.Float64(), "note": pl.String()}


@dataclass(slots=True, kw_only=True, eq=False)
class Column:
    """A field of the table. Another one under the same name, later, is another column.

    ``default`` is what rows hold that are written without it; ``initial`` what those hold that are older than it.
    """

    dtype: pl.DataType
    default: Any = None
    initial: Any = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One row of one write; ``values`` is None for a delete."""

    write: int
    key: Key
    values: dict[Column, Any] | None


@dataclass(slots=True)
class TableModel:
    dedup: str
    columns: dict[str, Column] = field(default_factory=lambda: {name: Column(dtype=t) for name, t in FIELDS.items()})
    rows: list[Row] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    # --- changes ----------------------------------------------------------------------------------------------

    def put(self, frame: pl.DataFrame) -> int:
        """Write the rows of a frame, and return the number of this write."""
        number = next(self._numbers)
        for row in frame.iter_rows(named=True):
            values = {column: row.get(name, column.default) for name, column in self.columns.items()}
            self.rows.append(Row(write=number, key=(row["host"], row["rack"], row["ts"]), values=values))
        return number

    def delete(self, keys: Iterable[Key]) -> int:
        number = next(self._numbers)
        self.rows += [Row(write=number, key=key, values=None) for key in keys]
        return number

    def remove(self, goes: Callable[[Row], bool]) -> None:
        """Be as if these rows had never been written."""
        self.rows = [row for row in self.rows if not goes(row)]

    def keep_seen(self) -> None:
        """Forget what is not seen any more."""
        if self.dedup != "none":
            number = next(self._numbers)
            self.rows = [Row(write=number, key=key, values=values) for key, values in self._seen()]

    # --- what is seen -----------------------------------------------------------------------------------------

    def frame(self) -> pl.DataFrame:
        """Return what a scan is to find."""
        schema = KEYS | {name: column.dtype for name, column in self.columns.items()}
        rows = [(*key, *(values[column] for column in self.columns.values())) for key, values in self._seen()]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def keys(self) -> list[Key]:
        return [key for key, _ in self._seen()]

    def _seen(self) -> list[tuple[Key, dict[Column, Any]]]:
        if self.dedup == "none":
            return [(row.key, self._values(row.values)) for row in self.rows if row.values is not None]
        found: dict[Key, dict[Column, Any]] = {}
        for row in self.rows:
            older = found.pop(row.key, None)
            if row.values is not None:
                newer = self._values(row.values)
                found[row.key] = _filled(newer, older) if self.dedup == "merge" and older is not None else newer
        return list(found.items())

    def _values(self, values: dict[Column, Any]) -> dict[Column, Any]:
        return {column: values.get(column, column.initial) for column in self.columns.values()}


def _filled(newer: dict[Column, Any], older: dict[Column, Any]) -> dict[Column, Any]:
    return {column: older[column] if value is None else value for column, value in newer.items()}
