"""DuckDB: INSERT OR REPLACE from a registered Arrow table into a table with a primary key; each statement commits.

A commit syncs DuckDB's log. `finish` is a checkpoint, which moves what the log still holds into the database file.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
from harness import KEY, run


class DuckDb:
    packages = ("duckdb",)

    def prepare(self, rows: pa.Table) -> pa.Table:
        return rows

    def open(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._connection = duckdb.connect(folder / "cpu.duckdb")
        self._created = False

    def write(self, rows: pa.Table) -> None:
        if not self._created:
            self._create(rows.schema)
        self._connection.register("batch", rows)
        self._connection.execute("INSERT OR REPLACE INTO cpu SELECT * FROM batch")
        self._connection.unregister("batch")

    def finish(self) -> None:
        self._connection.execute("CHECKPOINT")

    def answer(self) -> tuple[int, float]:
        found = self._connection.execute("SELECT count(*), sum(usage_user) FROM cpu").fetchone()
        assert found is not None
        return int(found[0]), float(found[1])

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        self._connection.close()

    def _create(self, schema: pa.Schema) -> None:
        columns = ", ".join(f"{field.name} {_type_name(field.type)}" for field in schema)
        self._connection.execute(f"CREATE TABLE cpu ({columns}, PRIMARY KEY ({', '.join(KEY)}))")
        self._created = True


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP_NS"
    return "VARCHAR" if pa.types.is_string(kind) else "DOUBLE"


if __name__ == "__main__":
    run(DuckDb)
