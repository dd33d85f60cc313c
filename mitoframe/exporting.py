"""A scan's rows in other hands: Arrow streams, NumPy, pandas, DuckDB, and the Parquet files themselves.

All of them give the rows that ``scan.collect()`` gives. What streams is one snapshot, taken when it is asked for, and
its files stay for as long as anybody can still draw from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa

from mitoframe.frames import pandas
from mitoframe.frames.numpy import to_arrays
from mitoframe.frames.polars import from_table, stream, to_table
from mitoframe.model.card import Section, card
from mitoframe.model.errors import InvalidInputError, TableNotFoundError, unknown_name
from mitoframe.model.ids import NO_ENTRY
from mitoframe.model.predicate import ALWAYS, Compare, Predicate, conjunction
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import EVERYTHING, TIME_MIN, TimeRange
from mitoframe.model.wording import counted
from mitoframe.read.plan import plan_scan
from mitoframe.region.control import Snapshot
from mitoframe.storage.paths import sst_key

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from mitoframe.frames.duckdb import Files, Source
    from mitoframe.frames.numpy import Column
    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.plan import MergeGroup, ScanPlan
    from mitoframe.scan import Scan

BATCH_ROWS = 131_072


# --- Arrow, Polars, NumPy --------------------------------------------------------------------------------


def to_reader(scan: Scan, batch_size: int = BATCH_ROWS) -> pa.RecordBatchReader:
    """Return the rows as a stream of batches of at most ``batch_size`` rows, none empty."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidInputError(f"batch_size={batch_size!r} is not a number of rows; give 1 or more.")
    scan.check_open()
    plan = _plan(scan)
    schema = _schema(scan, plan.metadata)
    found = _rows(scan, plan, schema) if scan.where is None else _rows_where(scan, schema, batch_size)
    return pa.RecordBatchReader.from_batches(schema, _cut(found, batch_size))


def to_batches(scan: Scan, rows_max: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
    """Return the rows as Polars frames of at most ``rows_max`` rows, none empty."""
    return (from_table(pa.Table.from_batches([batch])) for batch in to_reader(scan, rows_max))


def to_capsule(scan: Scan, requested_schema: object | None) -> object:
    """Return the rows as an Arrow C stream, cast to the schema that is asked for if that is possible."""
    return to_reader(scan).__arrow_c_stream__(requested_schema)


def to_numpy(scan: Scan, columns: Sequence[str] | None = None) -> dict[str, Column]:
    """Return the columns as arrays, by name."""
    if columns is None:
        return to_arrays(scan.to_arrow())
    if isinstance(columns, str):
        raise InvalidInputError(f"columns={columns!r} is a string; give a list, such as columns=[{columns!r}].")
    there = scan.metadata.names if scan.columns is None else scan.columns
    for name in columns:
        if name not in there:
            raise InvalidInputError(unknown_name("column", name, there))
    return to_arrays(replace(scan, columns=tuple(dict.fromkeys(columns))).to_arrow())


def _plan(scan: Scan, predicate: Predicate = ALWAYS) -> ScanPlan:
    names = None if scan.columns is None else tuple(scan.columns)
    wanted = conjunction([predicate, *_bounds(scan.metadata.time.name, scan.time_range)])
    return scan.engine.plan(scan.region_id, ScanRequest(columns=names, predicate=wanted))


def _bounds(time: str, wanted: TimeRange) -> Iterator[Predicate]:
    if wanted.start != EVERYTHING.start:
        yield Compare(time, ">=", wanted.start)
    if wanted.end != EVERYTHING.end:
        yield Compare(time, "<", wanted.end)


def _schema(scan: Scan, metadata: RegionMetadata) -> pa.Schema:
    """Return the columns that a scan is for, as the table has them now."""
    names = scan.metadata.names if scan.columns is None else scan.columns
    for name in names:
        if name not in metadata.names:
            raise InvalidInputError(
                f"column {name!r} of table {scan.table!r} is gone since this scan was made; scan the table again."
            )
    return _part(metadata.arrow_schema(), names)


def _part(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])


def _rows(scan: Scan, plan: ScanPlan, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    wanted = replace(plan, request=replace(plan.request, columns=tuple(schema.names)))
    for batch in scan.engine.reading.query(wanted):
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _rows_where(scan: Scan, schema: pa.Schema, rows_max: int) -> Iterator[pa.RecordBatch]:
    """Yield what is left of the rows by a condition that only Polars can judge, some at a time."""
    for frame in stream(scan.to_polars(), rows_max):
        yield from to_table(frame).cast(schema).to_batches()


def _cut(batches: Iterator[pa.RecordBatch], rows_max: int) -> Iterator[pa.RecordBatch]:
    """Cut what is too large, and join what is small: only that is copied."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        for start in range(0, batch.num_rows, rows_max):
            piece = batch.slice(start, rows_max)
            if count + piece.num_rows > rows_max:
                yield _joined(waiting)
                waiting, count = [], 0
            waiting.append(piece)
            count += piece.num_rows
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def to_pandas(
    scan: Scan,
    dtype_backend: Literal["numpy_nullable", "pyarrow"] | None = None,
    *,
    index: str | Sequence[str] | None = None,
    tags_as: Literal["category"] | None = None,
) -> pd.DataFrame:
    """Return the rows as a pandas frame."""
    if tags_as not in (None, "category"):
        raise InvalidInputError(f"tags_as={tags_as!r} is not one of None, 'category'.")
    tags = [tag.name for tag in scan.metadata.tags] if tags_as == "category" else []
    names = [index] if isinstance(index, str) else list(index or ())
    return pandas.from_table(scan.to_arrow(), backend=dtype_backend, categories=tags, index=names)


# --- DuckDB ----------------------------------------------------------------------------------------------


def to_duckdb(scan: Scan, connection: DuckDBPyConnection | None = None) -> DuckDBPyRelation:
    """Return the rows as a relation of a connection, or else of DuckDB's default one."""
    scan.check_open()
    duckdb = _duckdb()
    made: DuckDBPyRelation = duckdb.relation(_source(scan, duckdb), connection)
    return made


def sql(
    query: str, tables: Sequence[str], scan_of: Callable[[str], Scan], frames: Mapping[str, object]
) -> DuckDBPyRelation:
    """Run one SELECT over tables, which are known by name, and over frames."""
    duckdb = _duckdb()
    if not isinstance(query, str):
        raise InvalidInputError(f"the query is a {type(query).__name__}; give SQL as a string.")
    prepared = duckdb.Query(query)
    mentioned = {name.lower(): name for name in prepared.names}
    for name, frame in frames.items():
        if mentioned.pop(name.lower(), None) is None:
            raise InvalidInputError(f"the query does not read the frame: {unknown_name('table', name, prepared.names)}")
        prepared.bind_frame(name, frame)
    known = {table.lower(): table for table in tables}  # No two differ by case alone.
    for name, table in known.items():
        if name in mentioned:
            scan = scan_of(table)
            columns = scan.metadata
            needed = prepared.needed(
                name, columns.arrow_schema(), columns.time.name, [tag.name for tag in columns.tags]
            )
            prepared.bind(name, _source(scan, duckdb, needed))
    unknown = [name for key, name in mentioned.items() if key not in known]
    try:
        made: DuckDBPyRelation = prepared.run()
    except InvalidInputError as error:
        if unknown and duckdb.is_missing(error):
            raise TableNotFoundError(unknown[0], tables) from error
        raise
    return made


def _duckdb() -> ModuleType:
    """Load what speaks to DuckDB, which not everybody has."""
    try:
        from mitoframe.frames import duckdb
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise InvalidInputError("DuckDB is not installed; it comes with: pip install 'mitoframe[duckdb]'") from error
    return duckdb


def _source(scan: Scan, duckdb: ModuleType, needed: Predicate = ALWAYS) -> Source:
    """Return a scan's rows for DuckDB; those that ``needed`` rules out may be left out."""
    plan = _plan(scan, needed)
    schema = _schema(scan, plan.metadata)
    duckdb.check_names(schema.names)
    for file in (*plan.direct, *(file for group in plan.groups for file in group.files)):
        scan.engine.reader.verify(plan.metadata, file)  # Later it could only fail inside DuckDB, with DuckDB's error.
    files, merged = _files_and_rest(scan, plan, schema, duckdb)
    made: Source = duckdb.Source(
        schema=schema,
        files=files,
        time=plan.metadata.arrow_schema().field(plan.metadata.time.name),
        time_range=scan.time_range,
        merged=merged,
    )
    return made


Merged = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]


def _files_and_rest(
    scan: Scan, plan: ScanPlan, schema: pa.Schema, duckdb: ModuleType
) -> tuple[tuple[Files, ...], Merged]:
    """Tell what DuckDB reads itself, and how it gets the others."""
    if scan.where is not None:
        table = scan.to_arrow()
        return (), lambda names: iter(table.select(names).to_batches())
    files = _files(scan, plan, schema, duckdb)
    rest = replace(plan, direct=()) if files else plan
    return files, lambda names: _rows(scan, rest, _part(schema, names))


def _files(scan: Scan, plan: ScanPlan, schema: pa.Schema, duckdb: ModuleType) -> tuple[Files, ...]:
    """Group the files that DuckDB can read by the schema they were written with; none if it cannot."""
    time = plan.metadata.arrow_schema().field(plan.metadata.time.name)
    last = max((max(abs(file.min_time), abs(file.max_time)) for file in plan.direct), default=0)
    if not duckdb.reads_files(schema, time, scan.time_range, last):
        return ()
    groups: dict[int, list[FileMeta]] = {}
    for file in plan.direct:
        groups.setdefault(file.schema_version, []).append(file)
    made = []
    for files in groups.values():
        places = _places(scan, plan, files)
        if places is None:
            return ()
        missing = frozenset(schema.names) - frozenset(_names_in(scan, plan, files[0]))
        made.append(duckdb.Files(paths=places, missing=missing))
    return tuple(made)


def _places(scan: Scan, plan: ScanPlan, files: Sequence[FileMeta]) -> tuple[str, ...] | None:
    """Return where the files are, each compared with the manifest; None if other programs cannot get at them."""
    places = []
    for file in files:
        place = scan.engine.store.url(sst_key(plan.metadata.region_id, file.file_id))
        if place is None:
            return None
        scan.engine.reader.verify(plan.metadata, file)
        places.append(place)
    return tuple(places)


def _names_in(scan: Scan, plan: ScanPlan, file: FileMeta) -> tuple[str, ...]:
    return scan.engine.reader.footer(plan.metadata, file).metadata.names


# --- plain Parquet ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejected:
    """A scan without mitoframe: Parquet files, and the Polars code that reads the same rows from them.

    The files are the store's own. They stay for as long as this object lives; to keep them longer, copy them.

    Attributes:
        table: whose rows they are.
        files: where they are, in the order of their first times.
        code: what to run elsewhere; it needs Polars alone.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with mito.open(folder.name) as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     _ = db["cpu"].flush()
        ...     ejected = db.scan("cpu").eject()
        ...     ejected.to_polars().select("cpu").collect().item()
        0.5
        >>> print(ejected.code)
        import polars as pl
        <BLANKLINE>
        pl.scan_parquet(
            [
                '...parquet',
            ],
            glob=False,
            hive_partitioning=False,
        ).select('host', 'ts', 'cpu')
        >>> folder.cleanup()

    """

    table: str
    files: tuple[str, ...]
    code: str
    _frame: pl.LazyFrame = field(repr=False)
    _plan: ScanPlan = field(repr=False)

    def to_polars(self) -> pl.LazyFrame:
        """Return what the code makes: a LazyFrame over the files, with nothing of mitoframe in it."""
        return self._frame

    def __repr__(self) -> str:
        return self.code

    def _repr_html_(self) -> str:
        return card(
            "The same rows without mitoframe", [Section(title="Code", rows=[(self.code,)], note=" ", is_open=True)]
        )


def eject(scan: Scan) -> Ejected:
    """Return the files and the code that give a scan's rows without mitoframe."""
    scan.check_open()
    if scan.where is not None:
        raise InvalidInputError("a condition has no form as code; leave where= out, and filter what eject() gives.")
    plan, kept = _plan_of_files(scan)
    schema = _schema(scan, plan.metadata)
    if plan.groups:
        raise InvalidInputError(_why_merged(scan, plan))
    places = _places(scan, plan, plan.direct)
    if places is None:
        raise InvalidInputError("this store has no files that other programs could read; open it in a folder.")
    dtypes = dict(from_table(plan.metadata.arrow_schema().empty_table()).schema)
    is_complete = bool(places) and all(
        set(dtypes) <= set(_names_in(scan, plan, file)) for file in _one_per_schema(plan.direct)
    )
    time = plan.metadata.time.name
    frame = _scan_files(places, None if is_complete else dtypes)
    for condition in _filters(time, dtypes[time], kept):
        frame = frame.filter(condition)
    return Ejected(
        table=scan.table,
        files=places,
        code=_code(places, None if is_complete else dtypes, kept, plan.metadata, schema.names),
        _frame=frame.select(schema.names),
        _plan=plan,
    )


def _plan_of_files(scan: Scan) -> tuple[ScanPlan, TimeRange]:
    """Return a plan that may read whole files that hold expired rows, and the times to be kept of them."""
    plan = _plan(scan)
    kept = scan.time_range.intersect(TimeRange(plan.request.kept_from))
    snapshot = Snapshot(version=plan.version, visible=plan.visible, last_entry_id=NO_ENTRY)
    return plan_scan(snapshot, replace(plan.request, kept_from=TIME_MIN, time_range=kept)), kept


def _one_per_schema(files: Sequence[FileMeta]) -> list[FileMeta]:
    return list({file.schema_version: file for file in files}.values())


def _scan_files(places: Sequence[str], dtypes: Mapping[str, pl.DataType] | None) -> pl.LazyFrame:
    if not places:
        return pl.LazyFrame(schema=dtypes)
    if dtypes is None:
        return pl.scan_parquet(list(places), glob=False, hive_partitioning=False)
    return pl.scan_parquet(
        list(places),
        schema=dict(dtypes),
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
        hive_partitioning=False,
    )


def _filters(time: str, dtype: pl.DataType, wanted: TimeRange) -> Iterator[pl.Expr]:
    for bound in _bounds(time, wanted):
        assert isinstance(bound, Compare)
        moment = pl.lit(bound.value, dtype=pl.Int64).cast(dtype)
        yield pl.col(time) >= moment if bound.operator == ">=" else pl.col(time) < moment


def _code(
    places: Sequence[str],
    dtypes: Mapping[str, pl.DataType] | None,
    wanted: TimeRange,
    metadata: RegionMetadata,
    names: Sequence[str],
) -> str:
    schema = [] if dtypes is None else ["{", *(f"    {n!r}: {_dtype(t)}," for n, t in dtypes.items()), "}"]
    lines = ["import polars as pl", ""]
    if not places:
        lines += ["pl.LazyFrame(", *_indented(_given("schema", schema)), ")"]
    else:
        arguments = ["[", *(f"    {place!r}," for place in places), "],"]
        if schema:
            arguments += [*_given("schema", schema), 'missing_columns="insert",', 'extra_columns="ignore",']
        arguments += ["glob=False,", "hive_partitioning=False,"]
        lines += ["pl.scan_parquet(", *_indented(arguments), ")"]
    for bound in _bounds(metadata.time.name, wanted):
        assert isinstance(bound, Compare)
        dtype = from_table(metadata.arrow_schema().empty_table()).schema[metadata.time.name]
        shown = pa.scalar(bound.value, metadata.time.type)
        lines[-1] += ".filter("
        lines += _indented(
            [f"pl.col({bound.column!r}) {bound.operator} pl.lit({bound.value}, pl.Int64).cast({_dtype(dtype)})"]
        )
        lines[-1] += f"  # {shown}"
        lines.append(")")
    lines[-1] += f".select({', '.join(map(repr, names))})"
    return "\n".join(lines)


def _given(name: str, value: Sequence[str]) -> list[str]:
    return [f"{name}={value[0]}", *value[1:-1], f"{value[-1]},"]


def _indented(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]


def _dtype(dtype: pl.DataType) -> str:
    return f"pl.List({_dtype(_inner(dtype))})" if isinstance(dtype, pl.List) else f"pl.{dtype!r}"


def _inner(dtype: pl.List) -> pl.DataType:
    inner: Any = dtype.inner
    made: pl.DataType = inner() if isinstance(inner, type) else inner
    return made


def _why_merged(scan: Scan, plan: ScanPlan) -> str:
    """Say where files alone do not hold the rows, and what mends it."""
    shown = "; ".join(_group(plan, group) for group in plan.groups[:3])
    more = f"; and {len(plan.groups) - 3} more" if len(plan.groups) > 3 else ""
    steps = ["flush()"] if any(group.buffered for group in plan.groups) else []
    steps += ["compact()"] if any(group.files for group in plan.groups) or len(plan.groups) > 1 else []
    calls = " and ".join(f"table.{step}" for step in steps)
    return f"the files of table {scan.table!r} are not its rows: {shown}{more}. Call {calls}, then eject again."


def _group(plan: ScanPlan, group: MergeGroup) -> str:
    spans = [(file.min_time, file.max_time) for file in group.files]
    spans += [(part.stats.min_time, part.stats.max_time) for part in group.buffered]
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    buffered = sum(part.stats.row_count for part in group.buffered)
    parts = [f"{len(group.files)} files overlap"] if len(group.files) > 1 else []
    parts += ["a file has deletes or an older schema"] if len(group.files) == 1 and not group.buffered else []
    parts += [f"{counted(buffered, 'row')} {'is' if buffered == 1 else 'are'} in memory only"] if group.buffered else []
    time_type = plan.metadata.time.type
    return f"{' and '.join(parts)} from {pa.scalar(first, time_type)} to {pa.scalar(last, time_type)}"
