"""What a store is made to do while it is killed, starved or unplugged.

A scenario is a list of operations on a store that others have prepared; together they go through every request there
is. Nothing here knows of faults: who runs a scenario is told what was started and what was acknowledged, and asks it
which states that allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from expected import EMPTY, State, after_crash
from operations import (
    Alter,
    Backfill,
    Batched,
    CloseTable,
    Compact,
    Create,
    Delete,
    DeleteWhere,
    Drop,
    DropSnapshot,
    Expire,
    Flush,
    LastingMeta,
    Maintain,
    Operation,
    Place,
    Reopen,
    Replace,
    Restore,
    Session,
    Snapshot,
    Truncate,
    Undo,
    Vacuum,
    Write,
    closed,
)

from mitoframe.model.errors import MitoError
from mitoframe.model.options import HOUR_MS, MitoConfig
from mitoframe.testing.vfs_memory import MemoryVfs

CONFIG = MitoConfig(
    wal_segment_size_bytes=6_000,
    checkpoint_distance=2,
    row_group_rows=10,
    compaction_trigger_files=100,
    backfill_buffer_bytes=300,
    gc_grace_ms=0,
    flush_on_close=False,
)
TAKES_ROOM = frozenset({"create", "write", "link", "rename", "make_dirs"})
"""What a full disk refuses."""


@dataclass(slots=True)
class Progress:
    """How far a scenario has come: operations acknowledged, and whether the one after them was begun."""

    acked: int = 0
    under_way: bool = False

    def start(self) -> None:
        self.under_way = True

    def acknowledge(self) -> None:
        self.acked, self.under_way = self.acked + 1, False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``prepared`` runs unharmed; ``operations``, and opening and closing around them, are what is harmed."""

    operations: tuple[Operation, ...]
    prepared: tuple[Operation, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def config(self) -> MitoConfig:
        return replace(CONFIG, **self.settings)

    def prepare(self, place: Place) -> None:
        _run(self.prepared, place, self.config, Progress())

    def run(self, place: Place, progress: Progress) -> None:
        """Carry everything out and keep count; closing is the last step."""
        _run(self.operations, place, self.config, progress)

    @cached_property
    def _outcomes(self) -> list[list[State]]:
        """What each step may leave; first what was prepared, last the closing of the store."""
        outcomes: list[list[State]] = [[EMPTY]]
        for operation in (*self.prepared, Reopen(), *self.operations, Reopen()):
            outcomes.append(operation.outcomes(outcomes[-1][-1]))
        return outcomes[len(self.prepared) + 1 :]

    def allowed_after_crash(self, progress: Progress) -> list[State]:
        """Return what a store may hold whose process died."""
        return [after_crash(state) for state in self._states(progress)]

    def allowed_after_error(self, progress: Progress) -> list[State]:
        """Return what a store may hold that an operation failed in and that was closed then, as far as it could be."""
        states = self._states(progress)
        return [after_crash(state) for state in (*states, *map(closed, states))]

    def visible(self, progress: Progress) -> list[State]:
        """Return what the process itself may see."""
        return self._states(progress)

    def _states(self, progress: Progress) -> list[State]:
        following = self._outcomes[progress.acked + 1] if progress.under_way else ()
        return [self._outcomes[progress.acked][-1], *following]


class Prepared:
    """A store in memory that a scenario can begin with, to be copied."""

    def __init__(self, scenario: Scenario) -> None:
        self._disk, self._meta = MemoryVfs(), LastingMeta()
        scenario.prepare(Place(self._disk, self._meta))

    def copy(self) -> tuple[MemoryVfs, LastingMeta]:
        return self._disk.killed(), self._meta.copy()


def _run(
    operations: tuple[Operation, ...],
    place: Place,
    config: MitoConfig,
    progress: Progress,
) -> None:
    session = Session(place, config)
    try:
        for operation in operations:
            progress.start()
            if isinstance(operation, Reopen):
                session.close()
                session = Session(place, config)
            else:
                operation.run(session)
            progress.acknowledge()
        progress.start()
        session.close()
        progress.acknowledge()
    except MitoError:
        with suppress(MitoError):
            session.close()
        raise


def _flushed(*numbers: int, name: str = "cpu", day: int = 0) -> tuple[Operation, ...]:
    """One file, of the writes of these numbers."""
    return (*(Write(number, name, day=day) for number in numbers), Flush(name))


HISTORY = {"gc_grace_ms": HOUR_MS}
HOURS = {"compaction_window": "1h"}
MERGE = {"dedup": "merge"}
NONE = {"dedup": "none"}
NOOP = {"wal": "noop"}

SCENARIOS = {
    "create": Scenario(
        operations=(Create(), Write(0), Create("net", MERGE), Write(1, "net"), Create("log", NONE), Write(2, "log")),
    ),
    "writes": Scenario(
        prepared=(Create(), Write(0), Delete(1)),
        operations=(Write(2), Write(3), Delete(4), Write(5), Delete(6), Write(7), Write(8), Write(9)),
    ),
    "batches": Scenario(
        prepared=(Create(), Create("net", MERGE), Write(0), Write(1, "net"), Flush()),
        operations=(
            Batched((Write(2), Write(3, "net"), Delete(4), Write(5))),
            Flush("net"),
            Batched((Write(6, "net"), Write(7, key="seven"), Delete(8, "net"))),
            Batched((Write(7, key="seven"), Write(9))),
        ),
    ),
    "flushes": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(*_flushed(3), Delete(4), *_flushed(5), Write(6), *_flushed(7)),
    ),
    "flushes with history": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(*_flushed(3), *_flushed(5, 6), Vacuum()),
        settings=HISTORY,
    ),
    "keys": Scenario(
        prepared=(Create(), Write(0, key="a"), Flush(), Write(1, key="b")),
        operations=(
            Write(0, key="a"),
            Write(2, key="c"),
            Write(1, key="b"),
            Flush(),
            Write(2, key="c"),
            Backfill(3, key="d"),
            Backfill(3, key="d"),
            Reopen(),
            Write(5, key="e"),
            Write(3, key="d"),
        ),
    ),
    "keys, keeping all": Scenario(
        prepared=(Create("cpu", NONE), Write(0, key="a"), Flush(), Write(1, key="b")),
        operations=(Write(2, key="c"), Write(1, key="b"), Backfill(3, key="d"), Flush(), Write(2, key="c"), Reopen()),
    ),
    "deletes": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(DeleteWhere(3, "host_1"), Write(4), Delete(5), Flush(), DeleteWhere(6, "host_0", 2, 7), Undo(6)),
        settings=HISTORY,
    ),
    "compaction": Scenario(
        prepared=(Create(), *_flushed(0, 1), *_flushed(2), Delete(3), *_flushed(4)),
        operations=(Compact(), Write(5), Delete(6), Flush(), Compact(strict=True, window="4m"), Vacuum()),
    ),
    "compaction with history": Scenario(
        prepared=(Create("cpu", MERGE), *_flushed(0, 1), *_flushed(2), Delete(3), *_flushed(4)),
        operations=(Compact(), *_flushed(5), Compact(), Vacuum()),
        settings=HISTORY,
    ),
    "dividing": Scenario(
        prepared=(Create("cpu", HOURS), *_flushed(0), *_flushed(1), *_flushed(2, day=1), *_flushed(3, day=1)),
        operations=(Compact(), Vacuum()),
        settings={"sst_size_bytes": 2_000},
    ),
    "merging by itself": Scenario(
        prepared=(Create("cpu", MERGE), *_flushed(0, 1)),
        operations=(Delete(2), Write(3), Flush()),
        settings={"compaction_policy": "runs"},
    ),
    "expiring": Scenario(
        prepared=(Create("cpu", HOURS), *_flushed(0), *_flushed(1), Snapshot("p"), *_flushed(2, day=1)),
        operations=(
            Alter(options={"ttl": "12h"}),
            Expire(),
            *_flushed(3, day=2),
            DropSnapshot("p"),
            Vacuum(),
        ),
    ),
    "checkpoints": Scenario(
        prepared=(Create(), *(step for number in range(6) for step in _flushed(number))),
        operations=(*_flushed(6), *_flushed(7), *_flushed(8), *_flushed(9)),
        settings={"journal_entries_max": 10},
    ),
    "recoveries": Scenario(
        prepared=(Create(), *_flushed(0, 1), *(Write(number) for number in range(2, 8))),
        operations=(Write(8), Reopen(), Write(9), Flush(), Reopen(), Delete(10), Reopen(), Write(11)),
    ),
    "backfills": Scenario(
        prepared=(Create(), Create("net", MERGE), Write(0), Write(1, "net")),
        operations=(Backfill(2), Write(4), Backfill(5, "net"), Flush("net"), Backfill(7, key="seven"), Compact()),
    ),
    "replacing": Scenario(
        prepared=(Create(), *_flushed(0, 1), *_flushed(2), Write(3, key="three")),
        operations=(Replace(4, 2, 6), Write(5), Replace(6, 0, 12), Delete(7), Replace(8, 5, 20), Write(3, key="three")),
    ),
    "truncating": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2, key="two")),
        operations=(
            Truncate(unflushed=True),
            Write(3),
            Write(2, key="two"),
            Truncate(minutes=(3, 7)),
            Write(4),
            Truncate(),
            Write(5),
            Truncate(unflushed=True),
        ),
    ),
    "altering columns": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(
            Alter(add={"room": ("large_string", "lab"), "level": ("int32", None)}, retype={"count": "int64"}),
            Write(3),
            Alter(drop=("value",)),
            Write(4),
            Alter(add={"value": ("large_string", None)}),
            Write(5),
            Flush(),
            Compact(),
        ),
    ),
    "indexes": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(
            Alter(indexes={"value": ("inverted", "skipping")}),
            *_flushed(3),
            Compact(),
            Alter(indexes={"value": ("skipping",), "count": ("inverted",)}, options={"index_mode": "sync"}),
            *_flushed(4),
            Vacuum(),
            Alter(indexes={"value": (), "count": ()}),
            Vacuum(),
        ),
    ),
    "altering options": Scenario(
        prepared=(Create(), *_flushed(0, 1), Delete(2), *_flushed(3), Write(4), Delete(5), Write(6)),
        operations=(
            Alter(options={"compaction_window": "1h", "row_group_rows": 5}),
            Alter(options=NONE),
            Write(7),
            Write(8),
            Flush(),
            Alter(options=NOOP, unset=("row_group_rows",)),
            Write(9),
            Alter(options={"wal": "log"}),
            Write(10),
        ),
    ),
    "merging to none": Scenario(
        prepared=(Create("cpu", MERGE), *_flushed(0, 1), Delete(2), *_flushed(3), Write(4)),
        operations=(Alter(options=NONE, add={"room": ("large_string", "lab")}), Write(5), Flush(), Write(6)),
    ),
    "dropping": Scenario(
        prepared=(
            *(Create(), Create("net"), Alter(indexes={"value": ("inverted",)})),
            *(*_flushed(0, 1), *_flushed(2), Compact(), Write(2), Write(3, "net")),
        ),
        operations=(Write(4), Drop(), Create("cpu", MERGE), Write(5), Maintain(), Write(6, "net"), Drop("net"), Drop()),
    ),
    "dropping with grace": Scenario(
        prepared=(Create(), Create("net"), *_flushed(0), Write(2), Write(3, "net")),
        operations=(Drop(), Write(4, "net"), Flush("net"), Reopen(), Create(), Write(5), Maintain()),
        settings=HISTORY,
    ),
    "undoing": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(Write(3, key="a"), Undo(3), Write(3, key="a"), Flush(), Write(4), Flush(), Undo(3), Delete(5)),
        settings=HISTORY,
    ),
    "undoing backfills": Scenario(
        prepared=(Create(), *_flushed(0, 1)),
        operations=(Backfill(2, key="two"), Undo(2), Backfill(2, key="two"), Write(5), Flush(), Undo(2)),
        settings=HISTORY,
    ),
    "undoing in merge": Scenario(
        prepared=(Create("cpu", MERGE), *_flushed(0, 1), Write(2)),
        operations=(Write(3), Write(4), Undo(3), Flush(), Compact(), Write(5), Undo(4)),
        settings=HISTORY,
    ),
    "undoing in none": Scenario(
        prepared=(Create("cpu", NONE), *_flushed(0, 1), Write(2)),
        operations=(Write(3), Write(4), Undo(3), Backfill(5), Flush(), Compact(), Undo(5)),
        settings=HISTORY,
    ),
    "merging": Scenario(
        prepared=(Create("cpu", MERGE), *_flushed(0, 1), Write(2)),
        operations=(Write(3), Delete(4), Flush(), Write(5), Compact(), DeleteWhere(6, "host_2"), Flush(), Compact()),
    ),
    "keeping all": Scenario(
        prepared=(Create("cpu", NONE), *_flushed(0, 1), Write(2)),
        operations=(Write(3), Write(3), Flush(), Compact(), Truncate(minutes=(0, 3)), Replace(4, 4, 9), Write(5)),
    ),
    "snapshots": Scenario(
        prepared=(Create(), *_flushed(0, 1), Write(2)),
        operations=(Snapshot("p"), Write(3), Snapshot("q"), *_flushed(4), Compact(), DropSnapshot("p"), Vacuum()),
    ),
    "going back": Scenario(
        prepared=(Create("cpu", MERGE), *_flushed(0, 1), Write(2), Snapshot("p"), Delete(3), Write(4)),
        operations=(Snapshot("q"), Restore("p"), Write(5), Truncate(), Restore("q")),
        settings=HISTORY,
    ),
    "without a log": Scenario(
        prepared=(Create("cpu", NOOP), Create("net"), Write(0), Flush(), Write(1, "net"), Write(2)),
        operations=(
            Write(3),
            Write(4, "net"),
            Flush(),
            Write(5, key="five"),
            Batched((Write(6), Write(7, "net"))),
            Reopen(),
            Write(5, key="five"),
            Delete(8),
            CloseTable(flush=False),
            Write(9),
            Truncate(unflushed=True),
            Write(10),
        ),
    ),
    "closing": Scenario(
        prepared=(Create(), Create("net", NONE), *_flushed(0), Write(1), Write(2, "net")),
        operations=(CloseTable(flush=True), Write(3), CloseTable(flush=False), Write(4), Reopen(), Write(5, "net")),
        settings={"flush_on_close": True},
    ),
}
