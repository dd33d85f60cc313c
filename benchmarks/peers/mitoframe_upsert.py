"""mitoframe as it comes: the log is on and synced once per write, the last row of a key wins.

`finish` flushes, and then waits until the compactions that the flushes started have ended: what follows is at rest.
``--budget-mib`` gives all write buffers together that much memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from harness import TIME, run, tag_columns

import mitoframe


class Mitoframe:
    packages = ("mitoframe", "numba", "numpy", "pandas", "polars")

    def __init__(self, **settings: Any) -> None:
        self._settings = settings

    def prepare(self, rows: pa.Table) -> pa.Table:
        return rows

    def open(self, folder: Path) -> None:
        self.database = mitoframe.open(folder, **self._settings)

    def write(self, rows: pa.Table) -> None:
        self.database.write(rows, "cpu", time=TIME, tags=tag_columns(rows.schema))

    def finish(self) -> None:
        self.database["cpu"].flush()
        self.database.engine.drain()

    def answer(self) -> tuple[int, float]:
        cpu = self.database["cpu"].scan().to_polars()
        return cpu.select(pl.len(), pl.col("usage_user").sum()).collect().row(0)

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        self.database.close()


def _settings() -> dict[str, int]:
    """Take what is ours from the command line and leave the rest to the harness."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--budget-mib", type=int)
    own, sys.argv[1:] = parser.parse_known_args()
    return {} if own.budget_mib is None else {"global_write_buffer_size_bytes": own.budget_mib << 20}


if __name__ == "__main__":
    settings = _settings()
    run(lambda: Mitoframe(**settings))
