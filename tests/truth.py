"""A table worked out the slow way: every row that was ever written, and what a reader is to see of them.

`seen` is the fold that all of them are measured against. `Tracked` is an engine in memory beside that list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from builders import DELETE, REGION, Row, batch_of, create, metadata_of, open_engine

from mitoframe.drivers.clock import ManualClock
from mitoframe.drivers.log_memory import MemoryLog
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.batch import Batch
from mitoframe.model.options import Dedup
from mitoframe.model.request import ScanRequest, Written

METADATA = metadata_of({"host": pa.string()}, {"cpu": pa.int64(), "note": pa.string()})
EPOCH, MILLISECOND = datetime(1970, 1, 1), timedelta(milliseconds=1)


def seen(rows: Iterable[Row], dedup: Dedup) -> list[Row]:
    """Return what is seen of all rows ever written, in the order of keys."""
    if dedup == "none":
        return sorted((row for row in rows if row.op_type is not DELETE), key=lambda row: (row.key, -row.sequence))
    versions: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.key, -row.sequence)):
        versions.setdefault(row.key, []).append(row)
    return [merged(group, dedup) for group in versions.values() if group[0].op_type is not DELETE]


def merged(versions: list[Row], dedup: Dedup) -> Row:
    """Return the newest of the versions of a key, its nulls filled from older ones if that is how it is."""
    newest, *older = versions
    if dedup == "last":
        return newest
    fields = list(newest.fields)
    for row in older:
        if row.op_type is DELETE:
            break
        fields = [mine if mine is not None else other for mine, other in zip(fields, row.fields, strict=True)]
    return replace(newest, fields=tuple(fields))


def values(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Return rows as a user sees them, in an order of their own."""
    return sorted(((*row.tags, row.time, *row.fields) for row in rows), key=_in_order)


def numbered(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """The same with their sequences."""
    return sorted(((*row.tags, row.time, *row.fields, row.sequence) for row in rows), key=_in_order)


def _in_order(row: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    return [(value is not None, value) for value in row]


class Tracked:
    """An engine, and all rows that were written to it. It can be opened again where it stands."""

    def __init__(
        self,
        dedup: Dedup = "last",
        *,
        window_ms: int | None = None,
        store: MemoryObjectStore | None = None,
        **config: Any,
    ) -> None:
        self.clock = ManualClock(1_000_000)
        self.store, self.log = store or MemoryObjectStore(self.clock), MemoryLog()
        self.dedup: Dedup = dedup
        self.rows: list[Row] = []
        self._config = {"compaction_trigger_files": 100, "flush_on_close": False} | config
        self._opened = 0
        self._open()
        create(self.engine, METADATA, dedup=dedup, compaction_window_ms=window_ms)

    def _open(self) -> None:
        self._opened += 1
        self.engine = open_engine(self.store, self.log, clock=self.clock, seed=self._opened, **self._config)

    def write(self, rows: list[Row], key: str = "") -> Written:
        """Write rows, whatever sequences they name, and remember them with those that they get."""
        return self.remember(rows, self.engine.write(REGION, batch_of(METADATA, rows), key=key))

    def backfill(self, *batches: list[Row], key: str = "") -> Written:
        written = self.engine.bulk_insert(REGION, map(self.batch, batches), key=key)
        assert written is not None
        return self.remember([row for rows in batches for row in rows], written)

    def remember(self, rows: list[Row], written: Written) -> Written:
        assert written.row_count == len(rows)
        if not written.repeated:
            self.rows += [replace(row, sequence=written.first_sequence + n) for n, row in enumerate(rows)]
        return written

    def undo(self, written: Written) -> int:
        """Take a write back, and forget its rows."""
        count = self.engine.undo(REGION, written.first_sequence, written.row_count)
        last = written.first_sequence + written.row_count
        self.rows = [row for row in self.rows if not written.first_sequence <= row.sequence < last]
        return count

    def flush(self) -> None:
        self.engine.flush(REGION)

    def compact(self) -> None:
        self.engine.compact(REGION)

    def reopen(self) -> None:
        """Be killed, and start again."""
        self._open()

    def expected(self) -> list[tuple[Any, ...]]:
        return values(seen(self.rows, self.dedup))

    def found(self, **request: Any) -> list[tuple[Any, ...]]:
        """Return what a scan finds, as `values` does; with ``columns`` as asked for."""
        rows: list[tuple[Any, ...]] = []
        for batch in self.engine.handle_query(REGION, ScanRequest(**request)):
            columns = [
                [(ts - EPOCH) // MILLISECOND for ts in column.to_pylist()] if name == "ts" else column.to_pylist()
                for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            rows += list(zip(*columns, strict=True))
        return sorted(rows, key=_in_order)

    @property
    def files(self) -> list[Any]:
        return list(self.engine.region(REGION).state.files.values())

    @staticmethod
    def batch(rows: list[Row]) -> Batch:
        return batch_of(METADATA, rows)
