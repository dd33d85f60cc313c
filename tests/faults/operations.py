"""What is done to a store, each thing as a value: how it is carried out, and what it means.

``run`` does it through the doors that users have; ``outcomes`` says by brute force which states it may leave when it is
cut short, in their order, the last being that of the whole. One that changes nothing to be seen has one outcome.

Rows follow from a write's number, so that nothing but numbers has to be remembered. Keys repeat from write to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Protocol

import pyarrow as pa
from expected import Entry, Key, State, TableState, Value, changed

from mitoframe.database import Database, _Shared
from mitoframe.drivers.meta_sqlite import SqliteMetaStore
from mitoframe.drivers.scheduler import InlineScheduler
from mitoframe.engine.parts import COMMIT_LANE
from mitoframe.frames.arrow import to_batch
from mitoframe.model.batch import Batch, OpType
from mitoframe.model.errors import MitoError
from mitoframe.model.ids import RegionId
from mitoframe.model.keyvalue import Put
from mitoframe.model.options import MitoConfig
from mitoframe.model.request import CloseRequest, DeleteRequest, PutRequest
from mitoframe.model.timerange import parse_duration_ms
from mitoframe.ports import MetaStore, Vfs
from mitoframe.registry import Mode, connect_vfs
from mitoframe.table import Table

HOSTS = 3
MINUTES = 12
MINUTE_MS = 60_000
DAY_MS = 86_400_000
ROWS_PER_WRITE = 9
TYPES = {
    "double": pa.float64(),
    "float": pa.float32(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "large_string": pa.large_string(),
}


# --- a store ---------------------------------------------------------------------------------------------------


class LastingMeta(SqliteMetaStore):
    """The catalog of a folder in memory: it is there again when the store is opened again."""

    def __init__(self) -> None:
        super().__init__(":memory:")

    def close(self) -> None:
        """Stay."""

    def copy(self) -> LastingMeta:
        """Return a catalog that holds the same. Every transaction is durable at once, as with SQLite on a disk."""
        other = LastingMeta()
        there = self.range(b"\0", b"\xff").kvs
        if there:
            other.txn([], [Put(kv.key, kv.value) for kv in there])
        return other


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is. A real folder has its catalog in itself."""

    vfs: Vfs
    meta: MetaStore | None = None


class GatheringScheduler(InlineScheduler):
    """Runs jobs at once, but lets the commits of one batch wait for the last of them, as threads would."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting_commits = 0

    def submit(self, lane: str, job: Callable[[], Any]) -> Future[Any]:
        if lane == COMMIT_LANE and self.waiting_commits:
            self.waiting_commits -= 1
            return Future()  # The next one commits everything that is queued.
        return super().submit(lane, job)


class Session:
    """An open store, and how to take back what was written in it."""

    def __init__(self, place: Place, config: MitoConfig, mode: Mode = "rw") -> None:
        self.scheduler = GatheringScheduler()
        self.place, self.config = place, config
        self.connection = connect_vfs(place.vfs, mode, config, scheduler=self.scheduler, meta=place.meta)
        self.engine = self.connection.engine
        self.database = Database(_Shared(url="", connection=self.connection, mode=mode), mode)
        self.undo: dict[int, Callable[[], object]] = {}

    def table(self, name: str) -> Table:
        return self.database[name]

    def region(self, name: str) -> RegionId:
        return self.table(name).region_id

    def batch(self, name: str, data: pa.Table, operation: OpType = OpType.PUT) -> Batch:
        return to_batch(self.engine.region(self.region(name)).metadata, data, operation)

    def close(self) -> None:
        self.connection.close()


# --- rows ------------------------------------------------------------------------------------------------------


def keys_of(number: int, day: int = 0) -> list[Key]:
    places = [(number * 7 + position * 5) % (HOSTS * MINUTES) for position in range(ROWS_PER_WRITE)]
    return [(f"host_{place % HOSTS}", place // HOSTS * MINUTE_MS + day * DAY_MS) for place in places]


def made(name: str, data_type: str, number: int, position: int) -> Value:
    """Return what write ``number`` says in a column; "value" and "count" are written, others are left out."""
    if name == "count":
        return None if (number + position) % 3 == 0 else number + position
    value = number * 1000.0 + position
    return f"text {value}" if data_type == "large_string" else value


def entries_of(table: TableState, number: int, day: int = 0) -> list[Entry]:
    """Return what write ``number`` means in a table as it is."""
    return [
        Entry(
            write=number,
            key=key,
            fields={
                name: made(name, data_type, number, position)
                if name in ("value", "count")
                else table.defaults.get(name)
                for name, data_type in table.columns
            },
        )
        for position, key in enumerate(keys_of(number, day))
    ]


def arrow_of(schema: pa.Schema, number: int, keep: Callable[[Key], bool] = lambda _: True, day: int = 0) -> pa.Table:
    """Return write ``number`` as a user hands it in, for a table of that schema."""
    chosen = [(position, key) for position, key in enumerate(keys_of(number, day)) if keep(key)]
    columns = _key_columns([key for _, key in chosen])
    for column in schema:
        if column.name in ("value", "count"):
            values = [made(column.name, str(column.type), number, position) for position, _ in chosen]
            columns[column.name] = pa.array(values, column.type)
    return pa.table(columns)


def _key_columns(keys: list[Key]) -> dict[str, pa.Array]:
    return {
        "ts": pa.array([time for _, time in keys], pa.timestamp("ms")),
        "host": pa.array([host for host, _ in keys], pa.string()),
    }


# --- operations ------------------------------------------------------------------------------------------------


class Operation(Protocol):
    def run(self, session: Session) -> None:
        """Do it."""

    def outcomes(self, state: State) -> list[State]:
        """Return what may be left of it, the last being the whole of it."""


class _Maintenance:
    """Changes nothing to be seen."""

    def outcomes(self, state: State) -> list[State]:
        return [state]


@dataclass(frozen=True, slots=True)
class Create:
    name: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)

    def run(self, session: Session) -> None:
        schema = {"ts": pa.timestamp("ms"), "host": pa.string(), "value": pa.float64(), "count": pa.int32()}
        session.database.create_table(
            self.name, pa.schema(list(schema.items())), time="ts", tags=["host"], options=self.options
        )

    def outcomes(self, state: State) -> list[State]:
        known = {name: value for name, value in self.options.items() if name in ("dedup", "wal")}
        return [{**state, self.name: TableState(**known)}]


@dataclass(frozen=True, slots=True)
class Write:
    number: int
    name: str = "cpu"
    key: str = ""
    day: int = 0

    def run(self, session: Session) -> None:
        table = session.table(self.name)
        result = table.write(arrow_of(table.schema, self.number, day=self.day), key=self.key)
        if not result.repeated:
            session.undo[self.number] = result.undo

    def outcomes(self, state: State) -> list[State]:
        def written(table: TableState) -> TableState:
            return table.written(entries_of(table, self.number, self.day), self.key)

        return [changed(state, self.name, written)]


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes keys, whether they are there or not."""

    number: int
    name: str = "cpu"
    day: int = 0

    def request(self, session: Session) -> DeleteRequest:
        keys = pa.table(_key_columns(keys_of(self.number, self.day)))
        return DeleteRequest(batch=session.batch(self.name, keys, OpType.DELETE))

    def run(self, session: Session) -> None:
        session.engine.handle_request(session.region(self.name), self.request(session))

    def outcomes(self, state: State) -> list[State]:
        markers = [Entry(write=self.number, key=key, fields=None) for key in keys_of(self.number, self.day)]
        return [changed(state, self.name, lambda table: table.written(markers))]


@dataclass(frozen=True, slots=True)
class DeleteWhere:
    number: int
    host: str
    from_minute: int = 0
    to_minute: int = MINUTES
    name: str = "cpu"

    def run(self, session: Session) -> None:
        result = session.table(self.name).delete(
            tags={"host": self.host}, start=_time(self.from_minute), end=_time(self.to_minute)
        )
        session.undo[self.number] = result.undo

    def outcomes(self, state: State) -> list[State]:
        inside = _between(self.from_minute, self.to_minute)
        rows = [entry.key for entry in state[self.name].rows() if entry.key[0] == self.host and inside(entry.key)]
        markers = [Entry(write=self.number, key=key, fields=None) for key in rows]
        return [changed(state, self.name, lambda table: table.written(markers))]


@dataclass(frozen=True, slots=True)
class Batched:
    """Writes and deletes of any tables in one call: each whole or not at all, in their order."""

    parts: tuple[Write | Delete, ...]

    def run(self, session: Session) -> None:
        requests = [(session.region(part.name), _request_of(session, part)) for part in self.parts]
        session.scheduler.waiting_commits = len(requests) - 1
        for result in session.engine.handle_requests(requests):
            if isinstance(result, MitoError):
                raise result

    def outcomes(self, state: State) -> list[State]:
        return list(accumulate(self.parts, lambda before, part: part.outcomes(before)[-1], initial=state))[1:]


def _request_of(session: Session, part: Write | Delete) -> PutRequest | DeleteRequest:
    if isinstance(part, Delete):
        return part.request(session)
    data = arrow_of(session.table(part.name).schema, part.number)
    return PutRequest(batch=session.batch(part.name, data), key=part.key)


@dataclass(frozen=True, slots=True)
class Backfill:
    """A large write, in pieces; two numbers, so that it is larger than others and holds keys twice."""

    number: int
    name: str = "cpu"
    key: str = ""

    def run(self, session: Session) -> None:
        region, schema = session.region(self.name), session.table(self.name).schema
        rows = pa.concat_tables([arrow_of(schema, self.number), arrow_of(schema, self.number + 1)])
        pieces = [session.batch(self.name, rows.slice(start, 7)) for start in range(0, len(rows), 7)]
        written = session.engine.bulk_insert(region, pieces, key=self.key)
        assert written is not None
        session.undo[self.number] = lambda: session.engine.undo(region, written.first_sequence, written.row_count)

    def outcomes(self, state: State) -> list[State]:
        def entries(table: TableState) -> list[Entry]:
            both = entries_of(table, self.number) + entries_of(table, self.number + 1)
            return [replace(entry, write=self.number) for entry in both]

        return [changed(state, self.name, lambda table: table.written(entries(table), self.key, to_files=True))]


@dataclass(frozen=True, slots=True)
class Replace:
    number: int
    from_minute: int
    to_minute: int
    name: str = "cpu"

    def run(self, session: Session) -> None:
        table = session.table(self.name)
        data = arrow_of(table.schema, self.number, _between(self.from_minute, self.to_minute))
        table.replace_range(data, start=_time(self.from_minute), end=_time(self.to_minute))

    def outcomes(self, state: State) -> list[State]:
        inside = _between(self.from_minute, self.to_minute)

        def replaced(table: TableState) -> TableState:
            rest = table.all_flushed().without(lambda entry: inside(entry.key))
            new = [entry for entry in entries_of(table, self.number) if inside(entry.key)]
            return rest.forgetting_keys().written(new, to_files=True)

        return [changed(state, self.name, replaced)]


@dataclass(frozen=True, slots=True)
class Truncate:
    """Removes all rows; those in no file; or those of some minutes, if given."""

    unflushed: bool = False
    minutes: tuple[int, int] | None = None
    name: str = "cpu"

    def run(self, session: Session) -> None:
        start, end = (None, None) if self.minutes is None else map(_time, self.minutes)
        session.table(self.name).truncate(start=start, end=end, unflushed=self.unflushed)

    def outcomes(self, state: State) -> list[State]:
        def truncated(table: TableState) -> TableState:
            if self.minutes is not None:
                inside = _between(*self.minutes)
                rest = table.all_flushed().without(lambda entry: inside(entry.key))
                return rest.forgetting_keys() if len(rest.entries) < len(table.entries) else rest
            kept = table.entries[: table.flushed] if self.unflushed else ()
            return replace(table, entries=kept, flushed=len(kept), keys={})

        return [changed(state, self.name, truncated)]


@dataclass(frozen=True, slots=True)
class Alter:
    """Drops, then adds, then retypes. ``add`` gives name -> (type, default)."""

    add: Mapping[str, tuple[str, Value]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    retype: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).alter(
            indexes=self.indexes,
            add={name: TYPES[data_type] for name, (data_type, _) in self.add.items()},
            defaults={name: default for name, (_, default) in self.add.items() if default is not None},
            drop=self.drop,
            retype={name: TYPES[data_type] for name, data_type in self.retype.items()},
            options=self.options,
            unset=self.unset,
        )

    def outcomes(self, state: State) -> list[State]:
        return [changed(state, self.name, self._altered)]

    def _altered(self, table: TableState) -> TableState:
        if self.options.get("dedup", table.dedup) != table.dedup:
            table = replace(table.only_visible(), dedup=self.options["dedup"])
        if self.options.get("wal", table.wal) != table.wal:
            table = replace(table.all_flushed(), wal=self.options["wal"])
        if "ttl" in self.options:
            table = replace(table, ttl_ms=parse_duration_ms(self.options["ttl"], "ttl"))
        if not (self.add or self.drop or self.retype):
            return table.all_flushed() if self.indexes else table
        kept = {name: self.retype.get(name, data_type) for name, data_type in table.columns if name not in self.drop}
        new = {name: default for name, (_, default) in self.add.items()}
        columns = kept | {name: data_type for name, (data_type, _) in self.add.items()}
        names = kept.keys()
        after = table.with_fields(lambda fields: {name: fields[name] for name in names} | new, columns.items())
        defaults = {name: value for name, value in table.defaults.items() if name in kept} | new
        return replace(after, defaults=defaults).all_flushed()


@dataclass(frozen=True, slots=True)
class Undo:
    """Takes back the write of a number, in the session in which it was made."""

    number: int
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.undo[self.number]()

    def outcomes(self, state: State) -> list[State]:
        def undone(table: TableState) -> TableState:
            keys = {key: write for key, write in table.keys.items() if write != self.number}
            return replace(table.without(lambda entry: entry.write == self.number), keys=keys)

        return [changed(state, self.name, undone)]


@dataclass(frozen=True, slots=True)
class Snapshot:
    snapshot: str
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).snapshot(self.snapshot)

    def outcomes(self, state: State) -> list[State]:
        return [changed(state, self.name, lambda table: table.named(self.snapshot))]


@dataclass(frozen=True, slots=True)
class DropSnapshot:
    snapshot: str
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).drop_snapshot(self.snapshot)

    def outcomes(self, state: State) -> list[State]:
        return [changed(state, self.name, lambda table: table.unnamed(self.snapshot))]


@dataclass(frozen=True, slots=True)
class Restore:
    """Goes back to a snapshot."""

    snapshot: str
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).restore(self.snapshot)

    def outcomes(self, state: State) -> list[State]:
        return [changed(state, self.name, lambda table: table.as_named(self.snapshot))]


@dataclass(frozen=True, slots=True)
class Flush:
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).flush()

    def outcomes(self, state: State) -> list[State]:
        return [changed(state, self.name, TableState.all_flushed)]


@dataclass(frozen=True, slots=True)
class Compact(_Maintenance):
    """Merges what overlaps; strictly, so that no file reaches into two windows."""

    strict: bool = False
    window: str | None = None
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).compact(strict=self.strict, window=self.window)


@dataclass(frozen=True, slots=True)
class Expire(_Maintenance):
    """Lists the files no more that have expired; their rows are not read anyway."""

    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.table(self.name).expire()


@dataclass(frozen=True, slots=True)
class Vacuum(_Maintenance):
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.engine.vacuum(session.region(self.name), 0)


@dataclass(frozen=True, slots=True)
class Maintain(_Maintenance):
    """Deletes what is due: files nobody needs, and dropped tables."""

    def run(self, session: Session) -> None:
        session.database.maintain()


@dataclass(frozen=True, slots=True)
class Drop:
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.database.drop_table(self.name)

    def outcomes(self, state: State) -> list[State]:
        return [{name: table for name, table in state.items() if name != self.name}]


@dataclass(frozen=True, slots=True)
class CloseTable:
    """Lets one table go, flushed or not; one without a log is always flushed. It opens again when asked for."""

    flush: bool
    name: str = "cpu"

    def run(self, session: Session) -> None:
        session.engine.handle_request(session.region(self.name), CloseRequest(flush=self.flush))

    def outcomes(self, state: State) -> list[State]:
        flushes = self.flush or state[self.name].wal == "noop"
        return [changed(state, self.name, TableState.all_flushed)] if flushes else [state]


@dataclass(frozen=True, slots=True)
class Reopen:
    """Closes the store and opens it again; the runner does it."""

    def run(self, session: Session) -> None:
        raise AssertionError("the runner reopens")

    def outcomes(self, state: State) -> list[State]:
        return [closed(state)]


def closed(state: State) -> State:
    """Return the state after closing without a flush: tables without a log are flushed all the same."""
    return {name: table.all_flushed() if table.wal == "noop" else table for name, table in state.items()}


def _time(minute: int) -> str:
    return f"1970-01-01T00:{minute:02}:00"


def _between(first: int, end: int) -> Callable[[Key], bool]:
    return lambda key: first * MINUTE_MS <= key[1] < end * MINUTE_MS


def keyed(operations: tuple[Operation, ...]) -> Iterator[Write | Backfill]:
    """Yield the writes that have a key."""
    for operation in operations:
        if isinstance(operation, Batched):
            yield from keyed(operation.parts)
        elif isinstance(operation, Write | Backfill) and operation.key:
            yield operation
