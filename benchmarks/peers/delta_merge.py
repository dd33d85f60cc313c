"""delta-rs: MERGE on the key, updating what matches and inserting what does not; each merge is a commit.

Delta tables have no nanoseconds, so times are made microseconds off the clock. Nothing is synced: delta-rs leaves
that to the operating system. The default settings were the fastest tried: bounding the target's times in the
predicate and reading the source at once (``streamed_exec=False``) did not help. Files of earlier versions stay until
a vacuum and count as bytes on disk.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from harness import KEY, TIME, run


class DeltaRs:
    packages = ("deltalake", "polars")

    def prepare(self, rows: pa.Table) -> pa.Table:
        position = rows.schema.get_field_index(TIME)
        return rows.set_column(position, TIME, rows[TIME].cast(pa.timestamp("us")))

    def open(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._table: DeltaTable | None = None

    def write(self, rows: pa.Table) -> None:
        if self._table is None:
            self._table = DeltaTable.create(self._folder, rows.schema)
        merge = self._table.merge(
            rows,
            predicate=" AND ".join(f"stored.{name} = given.{name}" for name in KEY),
            source_alias="given",
            target_alias="stored",
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def finish(self) -> None:
        """A merge returns when its files and its commit are written."""

    def answer(self) -> tuple[int, float]:
        assert self._table is not None
        rows = pl.scan_parquet(self._table.file_uris())
        return rows.select(pl.len(), pl.col("usage_user").sum()).collect().row(0)

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        self._table = None


if __name__ == "__main__":
    run(DeltaRs)
