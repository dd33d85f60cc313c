"""`open` and `Database`: a store, its tables, and the store that is meant when none is named."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from mitoframe import doctor, exporting, inspection, verifying, writing
from mitoframe.altering import region_options
from mitoframe.diagnosis import of_damage
from mitoframe.doctor import DoctorReport
from mitoframe.engine.catalog import TableEntry, validate_table_name
from mitoframe.engine.engine import MitoEngine
from mitoframe.failpoints import reached
from mitoframe.frames import arrow
from mitoframe.frames.polars import from_table, to_arrow_schema
from mitoframe.ingest import to_batches
from mitoframe.model.card import Section, card
from mitoframe.model.errors import (
    ClosedError,
    ConfigError,
    InvalidInputError,
    SchemaMismatchError,
    TableExistsError,
    unknown_name,
)
from mitoframe.model.ids import RegionId, region_id
from mitoframe.model.options import MitoConfig, RegionOptions
from mitoframe.model.request import CreateRequest
from mitoframe.model.result import WriteResult
from mitoframe.model.schema import RegionMetadata, build_metadata
from mitoframe.model.timerange import TimeLike
from mitoframe.ports import RegionHook
from mitoframe.registry import Connection, Mode, canonical_url, connect, one_at_a_time
from mitoframe.scan import Scan
from mitoframe.table import Table, read_only
from mitoframe.travelling import AsOf
from mitoframe.verifying import VerifyReport

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation


@dataclass(slots=True, kw_only=True, eq=False)
class _Shared:
    """A connection and the number of handles on it: one store in one process has one engine.

    ``entries`` are tables that were written to by name, so that the next write need not look them up: nobody but the
    one writing process drops a table and gives its name to another. What it dropped is ``gone``.
    """

    url: str
    connection: Connection
    mode: Mode
    process_id: int = field(default_factory=os.getpid)
    handles: int = 0
    entries: dict[str, TableEntry] = field(default_factory=dict)
    gone: set[RegionId] = field(default_factory=set)

    def find(self, name: str) -> TableEntry | None:
        """Return the table to write to, if it is there."""
        known = self.entries.get(name) if isinstance(name, str) else None
        if known is not None and self.gone.isdisjoint(known.regions):
            return known
        found = self.connection.catalog.find(name)
        if found is not None:
            self.entries[name] = found
        return found


_shared: dict[str, _Shared] = {}
_default: list[Database] = []


def open(  # noqa: A001 - mitoframe.open is the name, as in zarr.open or shelve.open
    path: str | os.PathLike[str],
    *,
    mode: Mode = "rw",
    config: MitoConfig | None = None,
    hooks: Sequence[RegionHook] = (),
    **settings: Any,
) -> Database:
    """Open a store, making it if it is not there, and make it the default of ``mitoframe.write`` and ``scan``.

    Args:
        path: a folder, or ``"memory://"`` for a store that lives as long as its handle.
        mode: ``"rw"`` for the one writing process, ``"r"`` to read, also while another process writes. What is read is
            kept from deletion by a file in the folder, which goes with the process; where none can be made, it is kept
            for the writer's ``gc_grace_ms`` only.
        config: how the engine behaves; or give single settings by name.
        hooks: told of every flush, compaction and edit.
        settings: fields of `MitoConfig`, such as ``sync="interval"``.

    Raises:
        StoreLockedError: another process writes to it; the message says which.
        CorruptionError: stored bytes are damaged; the message names the file.

    Example:
        >>> import mitoframe as mito
        >>> with mito.open("memory://") as db:
        ...     db.tables().height
        0

    """
    if mode not in ("rw", "r"):
        raise ConfigError(f"mode={mode!r} is not one of 'rw', 'r'.")
    url, wanted = canonical_url(path), _config(config, settings)
    with one_at_a_time():
        shared = _shared.get(url)
        if shared is not None and (mode == "r" or shared.mode == "rw"):
            if hooks or ((config or settings) and wanted != shared.connection.engine.config):
                raise ConfigError(f"{url} is open already in this process, with other settings; close it there first.")
            return _handle(shared, mode)
        shared = _Shared(url=url, connection=connect(url, mode, wanted, hooks), mode=mode)
        if url != "memory://" and (mode == "rw" or url not in _shared):
            _shared[url] = shared
        return _handle(shared, mode)


def _handle(shared: _Shared, mode: Mode) -> Database:
    shared.handles += 1
    database = Database(shared, mode)
    _default.append(database)
    return database


def _config(config: MitoConfig | None, settings: Mapping[str, Any]) -> MitoConfig:
    if config is not None and settings:
        raise ConfigError("give either config= or single settings, not both.")
    if config is not None and not isinstance(config, MitoConfig):
        raise ConfigError(f"config is a {type(config).__name__}; give a MitoConfig, or single settings by name.")
    known = [setting.name for setting in fields(MitoConfig)]
    for name in settings:
        if name not in known:
            raise ConfigError(unknown_name("setting", name, known))
    return config or MitoConfig(**settings)


@atexit.register
def _close_all() -> None:
    with ExitStack() as stack:  # Each is closed, also if another fails.
        for shared in _shared.values():
            stack.callback(shared.connection.close)
    _shared.clear()


def _forget_all() -> None:
    """Leave the stores of a parent process to it: its lock, threads and files are not this child's."""
    _shared.clear()
    _default.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def current() -> Database:
    """Return the store that was opened last and is still open.

    Raises:
        ClosedError: none is.

    """
    if not _default:
        raise ClosedError('no store is open; call mitoframe.open("folder") first.')
    return _default[-1]


class Database:
    """An open store. Close it, or use it in a ``with`` block; an open one is closed when Python ends.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     db["cpu"].scan().count()
        1

    """

    def __init__(self, shared: _Shared, mode: Mode) -> None:
        self._shared = shared
        self.mode = mode
        self.closed = False

    @property
    def path(self) -> str:
        """The folder or URL."""
        return self._shared.url

    @property
    def engine(self) -> MitoEngine:
        """The engine below, for requests by region; ``table.region_id`` says which. Both doors lead to one room."""
        self._check_open()
        return self._shared.connection.engine

    # --- tables -----------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Table:
        """Return a table; `TableNotFoundError` if there is none of that name."""
        self._check_open()
        return self._table(self._shared.connection.catalog.get(name))

    def __contains__(self, name: str) -> bool:
        self._check_open()
        return self._shared.connection.catalog.find(name) is not None

    def tables(self) -> pl.DataFrame:
        """Return one row per table: name, time column, tags, and how many fields.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.tables().rows()
            [('cpu', 'ts', ['host'], 1)]

        """
        self._check_open()
        entries = self._shared.connection.catalog.tables()
        metadata = [RegionMetadata.from_json(entry.schema) for entry in entries]
        table = pa.table(
            {
                "name": pa.array([entry.name for entry in entries], pa.string()),
                "time": pa.array([item.time.name for item in metadata], pa.string()),
                "tags": pa.array([[tag.name for tag in item.tags] for item in metadata], pa.list_(pa.string())),
                "fields": pa.array([len(item.fields) for item in metadata], pa.uint32()),
            }
        )
        return from_table(table)

    def create_table(
        self,
        name: str,
        schema: Mapping[str, Any] | pa.Schema,
        *,
        time: str,
        tags: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Table:
        """Make an empty table.

        Args:
            name: any text without control characters; it never becomes a path.
            schema: column names and types, as a Polars schema or an Arrow schema.
            time: the time column, a timestamp; never null.
            tags: the columns that, with the time, make a row's key. May be null.
            options: as in `Table.alter`, such as ``{"dedup": "merge", "compaction_window": "7d"}``.

        Raises:
            TableExistsError: the name is taken.

        Example:
            >>> import mitoframe as mito, polars as pl
            >>> with mito.open("memory://") as db:
            ...     schema = {"ts": pl.Datetime("ms"), "host": pl.String, "load": pl.Float64}
            ...     cpu = db.create_table("cpu", schema, time="ts", tags=["host"])
            ...     cpu.tags, cpu.schema.names
            (('host',), ['host', 'ts', 'load'])

        """
        arrow_schema = schema if isinstance(schema, pa.Schema) else to_arrow_schema(schema)
        self._check_writable()
        self._check_free(name)
        return self._create(name, _metadata(arrow_schema, time, tags), _region_options(options or {}))

    def drop_table(self, name: str) -> None:
        """Give a table up for good, rows and all. Its files go after the grace period (``gc_grace_ms``).

        The name is free again when this returns.

        Raises:
            TableNotFoundError: there is no table of that name.

        Example:
            >>> import mitoframe as mito, polars as pl
            >>> with mito.open("memory://") as db:
            ...     _ = db.create_table("cpu", {"ts": pl.Datetime("ms")}, time="ts")
            ...     db.drop_table("cpu")
            ...     "cpu" in db
            False

        """
        self._check_writable()
        entry = self._shared.connection.catalog.get(name)
        engine = self._shared.connection.engine
        self._shared.gone.update(entry.regions)
        for region in entry.regions:
            if region not in engine.dropped():  # An earlier attempt may have come that far.
                engine.drop(region)
        self._shared.connection.catalog.drop_table(entry)
        reached("drop.unnamed")

    def maintain(self) -> None:
        """Do now what the store does by itself now and then: flushes by age, compactions, deletions. Waits for it.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.maintain()
            ...     db.health()["failed"].sum()
            0

        """
        self._check_writable()
        self._shared.connection.engine.maintain()

    def health(self) -> pl.DataFrame:
        """Return one row per lane of background work and per open table: what runs, what waits, what went wrong.

        Columns: kind ("lane" or "table"), name, ok, running, waiting, finished, failed (jobs), buffered_bytes, error.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.health().filter(pl.col("kind") == "table").select("name", "ok").rows()
            [('cpu', True)]

        """
        self._check_open()
        names = {region: entry.name for entry in self._shared.connection.catalog.tables() for region in entry.regions}
        return from_table(inspection.health(self._shared.connection.engine.health(), names))

    def caches(self) -> pl.DataFrame:
        """Return one row per kind of thing that is kept in memory for scans, and how often it was of use.

        Columns: kind, entries, size_bytes, hits, misses, hit_rate (null before the first question), evictions. All
        kinds share one budget, ``cache_size_bytes`` of the config.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     "footer" in " ".join(db.caches()["kind"])
            True

        """
        self._check_open()
        return from_table(inspection.caches(self._shared.connection.engine.cache.use()))

    def verify(self, *tables: str) -> VerifyReport:
        """Read all that is stored, and hold it against every checksum and everything else that was promised.

        Nothing is changed, so it works with ``mode="r"`` too, also while another process writes. What was read before
        does not count; no more than a row group of a file is in memory.

        Args:
            tables: their names; all if none is given.

        Raises:
            TableNotFoundError: there is no table of that name.
            UnavailableError: storage did not answer, which says nothing about what it holds.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     _ = db["cpu"].flush()
            ...     report = db.verify()
            ...     report.is_damaged, report.files, report.rows
            (False, 1, 1)

        """
        entries = self._entries(tables)
        return verifying.verify(self._shared.connection.engine, self._shared.connection.catalog, entries)

    def doctor(self, *tables: str, thorough: bool = False) -> DoctorReport:
        """Say what could be better about the tables, by which evidence, and mend what is wanted to be.

        Args:
            tables: their names; all if none is given.
            thorough: whether to `verify` them too, which reads everything.

        Raises:
            TableNotFoundError: there is no table of that name.

        Example:
            >>> import mitoframe as mito, polars as pl
            >>> with mito.open("memory://") as db:
            ...     _ = db.create_table("cpu", {"ts": pl.Datetime("ms")}, time="ts")
            ...     db.doctor()
            nothing to say about 1 table

        """
        entries, engine = self._entries(tables), self._shared.connection.engine
        flaws = verifying.verify(engine, self._shared.connection.catalog, entries).flaws if thorough else ()
        findings = [of_damage("", flaw) for flaw in flaws if not flaw.table]  # Of the log, which is of all tables.
        for entry in entries:
            known = tuple(flaw for flaw in flaws if flaw.table == entry.name)
            findings += doctor.examine(engine, self._table(entry), known)
        return DoctorReport(tables=tuple(entry.name for entry in entries), findings=tuple(findings))

    def _entries(self, tables: Sequence[str]) -> list[TableEntry]:
        self._check_open()
        catalog = self._shared.connection.catalog
        return [catalog.get(name) for name in dict.fromkeys(tables)] if tables else list(catalog.tables())

    def _check_free(self, name: str) -> None:
        validate_table_name(name)
        if self._shared.connection.catalog.find(name) is not None:
            raise TableExistsError(f"there is a table {name!r} already; write to it, or choose another name.")

    def _create(self, name: str, template: RegionMetadata, options: RegionOptions) -> Table:
        """Make the region, then name it: the name is the commit point, a region without one is never found."""
        catalog = self._shared.connection.catalog
        table_id = catalog.allocate_table_id()
        region = region_id(table_id, 0)
        metadata = replace(template, region_id=region)
        self._shared.connection.engine.create(region, CreateRequest(metadata=metadata, options=options))
        entry = catalog.create_table(table_id, name, metadata.to_json(), [region])
        reached("create.named")
        return self._table(entry)

    def _table(self, entry: TableEntry) -> Table:
        return Table(
            entry,
            self._shared.connection.engine,
            self._check_open,
            self._check_writable,
            lambda metadata: self._remember_schema(entry.name, metadata),
        )

    def _remember_schema(self, name: str, metadata: RegionMetadata) -> None:
        """Let the catalog know the schema that a table has by now; the table's manifest is what counts."""
        catalog = self._shared.connection.catalog
        entry = catalog.get(name)
        if entry.schema != metadata.to_json():
            catalog.update_schema(entry, metadata.to_json())

    # --- rows -------------------------------------------------------------------------------------------

    def write(
        self,
        data: Any,
        table: str,
        *,
        time: str | None = None,
        tags: Sequence[str] | None = None,
        key: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> WriteResult:
        """Write rows to a table, making it on the first write.

        Args:
            data: a pandas or Polars frame, or anything that speaks Arrow.
            table: the table's name.
            time: the time column; needed on the first write.
            tags: the columns that, with the time, make a row's key; none if left out on the first write.
            key: a name for this write, so that it is done only once; see `Table.write`.
            options: of the table, if this makes it; see `Table.alter`.

        Raises:
            InvalidInputError: a column or value does not fit, the table is new and ``time`` is missing, or the table
                has another time or other tags than these. Nothing was written.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.write(frame.with_columns(cpu=0.7), "cpu")
            ...     db.scan("cpu").collect()["cpu"].to_list()
            wrote 1 row to 'cpu'
            [0.7]

        """
        self._check_writable()
        entry = self._shared.find(table)
        if entry is not None:
            existing = self._table(entry)
            _check_same_key(existing, time, tags)
            if options:
                existing.check_options(region_options(options))
            return existing.write(data, key=key)
        validate_table_name(table)
        if time is None:
            raise InvalidInputError(f"table {table!r} is new; say which column is the time, as in time='ts'.")
        writing.check_key(key)
        return self._write_first(data, table, time, tags or (), key, _region_options(options or {}))

    def _write_first(
        self, data: Any, name: str, time: str, tags: Sequence[str], key: str | None, options: RegionOptions
    ) -> WriteResult:
        # The table is made of the first rows, when they were found to be good; if a later one is not, it goes again.
        drawn = to_batches(data, [time, *tags], writing.PIECE_ROWS)
        first = next(drawn)
        template = _metadata(first.schema, time, tags)
        arrow.to_batch(template, first)
        table = self._create(name, template, options)
        try:
            written = table.write(writing.Drawn(first, drawn), key=key)
        except BaseException:
            self.drop_table(name)
            raise
        return replace(written, created=True)

    def scan(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        as_of: AsOf | None = None,
        since: AsOf | None = None,
    ) -> Scan:
        """Describe rows of a table to read; see `Table.scan`.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.scan("cpu", columns=["cpu"], where=pl.col("host") == "a").collect().rows()
            [(0.5,)]

        """
        return self[table].scan(columns=columns, where=where, start=start, end=end, as_of=as_of, since=since)

    def sql(self, query: str, /, **frames: Any) -> DuckDBPyRelation:
        """Ask in SQL, with every table of the store there by its name. Needs DuckDB: ``mitoframe[duckdb]``.

        What comes back is DuckDB's relation: ``.pl()``, ``.df()`` and ``.to_arrow_table()`` run it, ``.filter()`` and
        the like go on. A time without a zone is UTC. Each table is read as it was when this was called. Of the files,
        those are left out that the query's plain conditions on time and tags rule out; the others DuckDB reads itself,
        with its own pushdown.

        Args:
            query: one SELECT, in DuckDB's SQL.
            frames: frames of pandas, Polars or Arrow that the query reads too, by the names it calls them.

        Raises:
            InvalidInputError: the query is no SELECT, DuckDB does not understand it, or DuckDB is not installed.
            TableNotFoundError: it reads a table that is not there.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.sql("SELECT max(cpu) FROM cpu WHERE ts >= '2024-01-01' AND host = 'a'").fetchall()
            [(0.5,)]

        """
        self._check_open()
        tables = self.tables().get_column("name").to_list()
        return exporting.sql(query, tables, lambda name: self[name].scan(), frames)

    # --- the end ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let the store go. The last handle flushes and ends background work. Closing twice is fine.

        Example:
            >>> import mitoframe as mito
            >>> db = mito.open("memory://")
            >>> db.close()
            >>> db.tables()
            Traceback (most recent call last):
            mitoframe.model.errors.ClosedError: ...

        """
        with one_at_a_time():
            if self.closed:
                return
            self.closed = True
            with suppress(ValueError):
                _default.remove(self)
            if self._is_of_a_parent():
                return
            self._shared.handles -= 1
            if self._shared.handles == 0:
                if _shared.get(self._shared.url) is self._shared:
                    del _shared[self._shared.url]
                self._shared.connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"this handle on {self.path} was closed; open the store again.")
        if self._is_of_a_parent():
            raise ClosedError(
                f"this handle on {self.path} is of process {self._shared.process_id} before a fork; open it again here."
            )

    def _is_of_a_parent(self) -> bool:
        return self._shared.process_id != os.getpid()

    def _check_writable(self) -> None:
        self._check_open()
        if self.mode == "r":
            read_only()

    def __repr__(self) -> str:
        state = "closed" if self.closed else self.mode
        return f"store {self.path} ({state})"

    def _repr_html_(self) -> str:
        if self.closed:
            return card(repr(self))
        header = ("name", "time", "tags", "fields")
        rows = [(name, time, ", ".join(tags), f"{fields:,}") for name, time, tags, fields in self.tables().iter_rows()]
        tables = Section(title="Tables", rows=rows, header=header, is_open=True)
        usual, config = MitoConfig(), self.engine.config
        settings = [(each.name, getattr(config, each.name)) for each in fields(config)]
        changed = [(name, repr(value)) for name, value in settings if value != getattr(usual, name)]
        return card(repr(self), [tables, Section(title="Changed settings", rows=changed)])


def _metadata(schema: pa.Schema, time: str, tags: Sequence[str]) -> RegionMetadata:
    return build_metadata(region_id(0, 0), schema, time=time, tags=tags)


def _region_options(options: Mapping[str, Any]) -> RegionOptions:
    return RegionOptions(**region_options(options))


def _check_same_key(table: Table, time: str | None, tags: Sequence[str] | None) -> None:
    if isinstance(tags, str):
        raise InvalidInputError(f"tags={tags!r} is a string; give a list, such as tags=[{tags!r}].")
    if time is not None and time != table.time:
        raise SchemaMismatchError(f"table {table.name!r} has the time column {table.time!r}, not {time!r}.")
    if tags is not None and tuple(tags) != table.tags:
        raise SchemaMismatchError(f"table {table.name!r} has the tags {list(table.tags)!r}, not {list(tags)!r}.")


def write(
    data: Any,
    table: str,
    *,
    time: str | None = None,
    tags: Sequence[str] | None = None,
    key: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> WriteResult:
    """Write rows to a table of the store that was opened last; see `Database.write`.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://"):
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     mito.write(frame, "cpu", time="ts", tags=["host"])
        wrote 1 row to 'cpu' (new table)

    """
    return current().write(data, table, time=time, tags=tags, key=key, options=options)


def scan(
    table: str,
    *,
    columns: Sequence[str] | None = None,
    where: pl.Expr | None = None,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    as_of: AsOf | None = None,
    since: AsOf | None = None,
) -> Scan:
    """Describe rows to read of the store that was opened last; see `Table.scan`.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://"):
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = mito.write(frame, "cpu", time="ts", tags=["host"])
        ...     mito.scan("cpu", start="2024-01-01").to_polars().select("cpu").collect().item()
        0.5

    """
    return current().scan(table, columns=columns, where=where, start=start, end=end, as_of=as_of, since=since)
