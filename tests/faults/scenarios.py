"""What a store is made to do while it is killed, starved or unplugged, and how to tell that nothing was lost.

Every write is a number. Its rows follow from the number, so the rows that must be there follow from the numbers that
were acknowledged. Keys repeat from write to write, and every fourth write deletes, so that merging is tested too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from mitoframe.database import Database, _Shared
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.frames.arrow import to_batch
from mitoframe.model.batch import OpType
from mitoframe.model.ids import RegionId, region_id
from mitoframe.model.options import MitoConfig
from mitoframe.model.request import ScanRequest
from mitoframe.model.schema import RegionMetadata, build_metadata
from mitoframe.ports import Vfs
from mitoframe.registry import Connection, connect_vfs
from mitoframe.storage.manifest import exists

REGION: RegionId = region_id(1, 0)
HOSTS = 3
MINUTES = 12
ROWS_PER_WRITE = 9

CONFIG = MitoConfig(
    wal_segment_size_bytes=6_000,
    checkpoint_distance=2,
    row_group_rows=10,
    compaction_trigger_files=100,
    gc_grace_ms=0,
    flush_on_close=False,
)

Key = tuple[str, int]
Rows = dict[Key, float]
Started = Callable[[int], None]
Acked = Callable[[int], None]


def metadata() -> RegionMetadata:
    schema = pa.schema({"ts": pa.timestamp("ms"), "host": pa.string(), "value": pa.float64()})
    return build_metadata(REGION, schema, time="ts", tags=["host"])


def is_delete(number: int) -> bool:
    return number % 4 == 3


def rows_of(number: int) -> Rows:
    """What write ``number`` says: keys with values; a delete's values do not count."""
    rows: Rows = {}
    for position in range(ROWS_PER_WRITE):
        place = (number * 7 + position * 5) % (HOSTS * MINUTES)
        rows[f"host_{place % HOSTS}", place // HOSTS * 60_000] = number * 1000.0 + position
    return rows


def state_after(numbers: list[int]) -> Rows:
    """Brute force: what is visible after these writes, in this order."""
    state: Rows = {}
    for number in numbers:
        for key, value in rows_of(number).items():
            if is_delete(number):
                state.pop(key, None)
            else:
                state[key] = value
    return state


def connect(vfs: Vfs, config: MitoConfig = CONFIG) -> Connection:
    return connect_vfs(vfs, "rw", config, scheduler=InlineScheduler())


def create(connection: Connection) -> None:
    """Make the table through the door; the first table of a store has the region that is looked at here."""
    database = Database(_Shared(url="", connection=connection, mode="rw"), "rw")
    schema = pa.schema({"ts": pa.timestamp("ms"), "host": pa.string(), "value": pa.float64()})
    assert database.create_table("cpu", schema, time="ts", tags=["host"]).region_id == REGION


def write(connection: Connection, number: int) -> None:
    rows = rows_of(number)
    columns: dict[str, pa.Array] = {
        "ts": pa.array([time for _, time in rows], pa.timestamp("ms")),
        "host": pa.array([host for host, _ in rows], pa.string()),
    }
    operation = OpType.DELETE if is_delete(number) else OpType.PUT
    if operation is OpType.PUT:
        columns["value"] = pa.array(list(rows.values()))
    connection.engine.write(REGION, to_batch(metadata(), pa.table(columns), operation))


def visible(connection: Connection) -> Rows:
    """Read everything back; each key must be there once."""
    found: Rows = {}
    for batch in connection.engine.handle_query(REGION, ScanRequest()):
        times = batch.column("ts").view(pa.int64()).to_pylist()
        for host, time, value in zip(
            batch.column("host").to_pylist(), times, batch.column("value").to_pylist(), strict=True
        ):
            assert (host, time) not in found, f"{host} at {time} is there twice"
            found[host, time] = value
    return found


# --- scenarios -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """``prepare`` runs unharmed and acknowledges the writes ``range(prepared)``; ``run`` is what is killed."""

    prepared: int
    prepare: Callable[[Vfs], None]
    run: Callable[[Vfs, Started, Acked], None]


def _write_all(connection: Connection, numbers: range, started: Started, acked: Acked) -> None:
    for number in numbers:
        started(number)
        write(connection, number)
        acked(number)


def _nothing(_: int) -> None:
    pass


def _empty(vfs: Vfs) -> None:
    """Leave the folder empty."""


def _with_writes(count: int, *, flush_every: int = 0) -> Callable[[Vfs], None]:
    def prepare(vfs: Vfs) -> None:
        connection = connect(vfs)
        create(connection)
        for number in range(count):
            write(connection, number)
            if flush_every and number % flush_every == flush_every - 1:
                connection.engine.flush(REGION)
        connection.close()

    return prepare


def _run_create(vfs: Vfs, started: Started, acked: Acked) -> None:
    connection = connect(vfs)
    create(connection)
    _write_all(connection, range(3), started, acked)
    connection.close()


def _run_writes(vfs: Vfs, started: Started, acked: Acked) -> None:
    connection = connect(vfs)
    _write_all(connection, range(4, 24), started, acked)
    connection.close()


def _run_flushes(vfs: Vfs, started: Started, acked: Acked) -> None:
    connection = connect(vfs)
    for first in range(8, 20, 3):
        _write_all(connection, range(first, first + 3), started, acked)
        connection.engine.flush(REGION)
    connection.close()


def _run_compaction(vfs: Vfs, started: Started, acked: Acked) -> None:
    connection = connect(vfs)
    for first in (12, 16):
        connection.engine.compact(REGION)
        _write_all(connection, range(first, first + 4), started, acked)
        connection.engine.flush(REGION)
    connection.engine.compact(REGION)
    connection.engine.vacuum(REGION)
    connection.close()


def _run_checkpoints(vfs: Vfs, started: Started, acked: Acked) -> None:
    connection = connect(vfs)
    for number in range(6, 14):
        _write_all(connection, range(number, number + 1), started, acked)
        connection.engine.flush(REGION)
    connection.close()


def _run_recoveries(vfs: Vfs, started: Started, acked: Acked) -> None:
    for number in range(30, 36):
        connection = connect(vfs)
        connection.engine.region(REGION)
        _write_all(connection, range(number, number + 1), started, acked)
        if number % 2:
            connection.engine.flush(REGION)
        connection.close()


SCENARIOS = {
    "create": Scenario(prepared=0, prepare=_empty, run=_run_create),
    "writes": Scenario(prepared=4, prepare=_with_writes(4), run=_run_writes),
    "flushes": Scenario(prepared=8, prepare=_with_writes(8, flush_every=3), run=_run_flushes),
    "compaction": Scenario(prepared=12, prepare=_with_writes(12, flush_every=3), run=_run_compaction),
    "checkpoints": Scenario(prepared=6, prepare=_with_writes(6, flush_every=2), run=_run_checkpoints),
    "recoveries": Scenario(prepared=30, prepare=_with_writes(30, flush_every=11), run=_run_recoveries),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the outside knows of a run: writes acknowledged, and the one under way (None if there is none)."""

    acked: list[int]
    under_way: int | None

    def allowed(self) -> list[Rows]:
        """Every state that loses nothing and invents nothing: the last write is there whole, or not at all."""
        states = [state_after(self.acked)]
        if self.under_way is not None:
            states.append(state_after([*self.acked, self.under_way]))
        return states


def recovered_rows(vfs: Vfs) -> Rows | None:
    """Open, read, close, and do it again: the second time must find the same. None if there is no region."""
    found: list[Rows | None] = []
    for _ in range(2):
        connection = connect(vfs)
        try:
            found.append(_rows_if_created(connection))
        finally:
            connection.close()
    assert found[0] == found[1], "a second recovery finds other rows"
    return found[0]


def _rows_if_created(connection: Connection) -> Rows | None:
    return visible(connection) if exists(connection.engine.store, REGION) else None


def check(history: History, found: Rows | None) -> None:
    """Raise AssertionError if an acknowledged row is missing or a row is there that was never written."""
    if found is None:
        assert not history.acked, "the region is gone, with acknowledged rows in it"
        return
    allowed = history.allowed()
    assert found in allowed, (
        f"{_difference(found, allowed[0])} (acknowledged {history.acked}, under way {history.under_way})"
    )


def _difference(found: Rows, expected: Rows) -> str:
    lost = {key: value for key, value in expected.items() if found.get(key) != value}
    extra = {key: value for key, value in found.items() if key not in expected}
    return f"lost or wrong: {lost}; never written or deleted: {extra}"
