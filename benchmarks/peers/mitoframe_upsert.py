"""mitoframe as it comes: the log is on and synced once per write, the last row of a key wins, a flush at the end."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
from harness import TIME, run, tag_columns

import mitoframe


class Mitoframe:
    packages = ("mitoframe", "numba", "numpy", "pandas", "polars")

    def prepare(self, rows: pa.Table) -> pa.Table:
        return rows

    def open(self, folder: Path) -> None:
        self.database = mitoframe.open(folder)

    def write(self, rows: pa.Table) -> None:
        self.database.write(rows, "cpu", time=TIME, tags=tag_columns(rows.schema))

    def finish(self) -> None:
        self.database["cpu"].flush()

    def answer(self) -> tuple[int, float]:
        cpu = self.database["cpu"].scan().to_polars()
        return cpu.select(pl.len(), pl.col("usage_user").sum()).collect().row(0)

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        self.database.close()


if __name__ == "__main__":
    run(Mitoframe)
