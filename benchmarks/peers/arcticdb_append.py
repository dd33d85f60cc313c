"""ArcticDB: append pandas frames to a symbol in LMDB. Neither brings rows of a key together nor writes a log.

It is here as the speed of a store that gives up both; its answer counts every delivery and is not compared. Frames
are made pandas frames off the clock. They keep their row numbers as index: rows come out of order, and an append by
time is refused then.
"""

from __future__ import annotations

from pathlib import Path

import arcticdb
import pandas as pd
import pyarrow as pa
from harness import run

MAP_SIZE = "8GB"


class ArcticDb:
    packages = ("arcticdb", "pandas")

    def prepare(self, rows: pa.Table) -> pd.DataFrame:
        return rows.to_pandas()

    def open(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._arctic = arcticdb.Arctic(f"lmdb://{folder}?map_size={MAP_SIZE}")
        self._library = self._arctic.create_library("bench")

    def write(self, rows: pd.DataFrame) -> None:
        self._library.append("cpu", rows)

    def finish(self) -> None:
        """An append returns when its segments are written."""

    def answer(self) -> tuple[int, float]:
        read = self._library.read("cpu", columns=["usage_user"]).data
        return len(read), float(read["usage_user"].sum())

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        del self._library, self._arctic


if __name__ == "__main__":
    run(ArcticDb)
