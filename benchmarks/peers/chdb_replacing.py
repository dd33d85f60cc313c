"""chDB: a ReplacingMergeTree ordered by the key, fed Arrow tables through the ``Python`` table function.

Two ways. As it comes, with each inserted part synced, which is what a log synced once per batch is to mitoframe.
And ``--fastest``: nothing is synced, and rows of one insert are not brought together before they are written
(``optimize_on_insert=0``). Also tried, and not clearly faster in either way: String columns for the tags, more insert
threads, larger blocks.

No row is brought together with an older one of its key while the clock runs; reading with FINAL does that, and is
how the answer is asked. `settle` is OPTIMIZE FINAL, after which reading without FINAL is right too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
from chdb.session import Session
from harness import KEY, run


class Chdb:
    packages = ("chdb", "chdb-core")

    def __init__(self, *, fastest: bool) -> None:
        self._table_settings = "" if fastest else "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
        self._insert_settings = "SETTINGS optimize_on_insert = 0" if fastest else ""

    def prepare(self, rows: pa.Table) -> pa.Table:
        return rows

    def open(self, folder: Path) -> None:
        self._session = Session(str(folder))
        self._session.query("CREATE DATABASE bench ENGINE = Atomic")
        self._created = False

    def write(self, rows: pa.Table) -> None:
        if not self._created:
            self._create(rows.schema)
        batch = rows  # the table function finds the variable by its name
        self._session.query(f"INSERT INTO bench.cpu SELECT * FROM Python(batch) {self._insert_settings}")
        del batch

    def finish(self) -> None:
        """An insert returns when its part is written."""

    def answer(self) -> tuple[int, float]:
        return self._ask("SELECT count(), sum(usage_user) FROM bench.cpu FINAL")

    def settle(self) -> bool:
        before = self.answer()
        self._session.query("OPTIMIZE TABLE bench.cpu FINAL")
        assert self._ask("SELECT count(), sum(usage_user) FROM bench.cpu") == before
        return True

    def close(self) -> None:
        self._session.close()

    def _create(self, schema: pa.Schema) -> None:
        columns = ", ".join(f"{field.name} {_type_name(field.type)}" for field in schema)
        self._session.query(
            f"CREATE TABLE bench.cpu ({columns}) ENGINE = ReplacingMergeTree ORDER BY ({', '.join(KEY)}) "
            f"{self._table_settings}"
        )
        self._created = True

    def _ask(self, query: str) -> tuple[int, float]:
        count, total = self._session.query(query, "CSV").bytes().decode().strip().split(",")
        return int(count), float(total)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "DateTime64(9, 'UTC')"
    return "LowCardinality(String)" if pa.types.is_string(kind) else "Float64"


if __name__ == "__main__":
    is_fastest = "--fastest" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--fastest"]
    run(lambda: Chdb(fastest=is_fastest))
