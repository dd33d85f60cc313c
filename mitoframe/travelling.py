"""Earlier moments as users say them: ``as_of``, ``versions()``, ``diff``, ``why``.

A moment is said as

    5                      the manifest version 5, as ``versions()`` lists it
    "before cleaning"      the snapshot of that name
    "2024-01-31T12:00"     a time, or a date or datetime: what had been written by then. Without a zone it is UTC.
    AtSequence(1200)       when the row of that sequence had come, and nothing that was changed after it

Times are looked up among those that are remembered: of each version, and of writes. Those of writes that are in memory
or in the log are known to the millisecond; of those that a flush brought to files about 32 are kept, evenly spread. A
time between two that are known means the earlier.

Reading as of a moment is reading the schema of then. The moment is looked up once, when it is asked for, and as long as
what came of that is held its files stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.frames.polars import from_table, lazy_frame
from mitoframe.model.batch import OpType
from mitoframe.model.card import card
from mitoframe.model.errors import CorruptionError, InvalidInputError, unknown_name
from mitoframe.model.ids import NO_SEQUENCE, Sequence
from mitoframe.model.predicate import time_range
from mitoframe.model.timerange import parse_time
from mitoframe.read.diff import Moments, changes, schema_of
from mitoframe.read.history import (
    expired,
    marks_of,
    moment_of_sequence,
    moment_of_time,
    moment_of_version,
)
from mitoframe.read.provenance import Copy, Key, KeyVersion, trace
from mitoframe.storage.paths import parse_sst_key

if TYPE_CHECKING:
    from collections.abc import Sequence as Many
    from io import BytesIO

    import polars as pl

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.ids import RegionId
    from mitoframe.model.past import Moment
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.request import ScanRequest
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.plan import ScanPlan
    from mitoframe.region.control import Snapshot
    from mitoframe.region.version import Version

NAME_LENGTH_MAX = 255


@dataclass(frozen=True, slots=True)
class AtSequence:
    """The moment at which the row of a sequence had come, and nothing that was changed after it.

    Every row that is written has the next sequence of its table; a `WriteResult` says which its first row has.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     first = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     _ = db.write(frame.with_columns(cpu=0.7), "cpu")
        ...     db["cpu"].scan(as_of=mito.AtSequence(first.first_sequence), columns=["cpu"]).collect().item()
        0.5

    """

    sequence: int

    def __post_init__(self) -> None:
        if not isinstance(self.sequence, int) or isinstance(self.sequence, bool) or self.sequence < 0:
            raise InvalidInputError(f"sequence={self.sequence!r} is not an integer of at least 0.")


AsOf: TypeAlias = int | str | date | datetime | AtSequence
"""A moment as users say it; see the module's text."""


# --- which moment is meant --------------------------------------------------------------------------------


def moment_of(engine: MitoEngine, region_id: RegionId, as_of: AsOf, what: str = "as_of") -> Moment:
    """Find the moment that is meant.

    Raises:
        SnapshotExpiredError: it is not kept any more.
        InvalidInputError: it cannot be one.

    """
    match as_of:
        case AtSequence():
            return _moment_of_sequence(engine, region_id, Sequence(as_of.sequence), what)
        case int() if not isinstance(as_of, bool):
            return _moment_of_version(engine, region_id, as_of, what)
        case str():
            return _moment_of_text(engine, region_id, as_of, what)
        case date():
            return _moment_of_time(engine, region_id, as_of, what)
    raise InvalidInputError(
        f"{what} is a {type(as_of).__name__}; give a version, the name of a snapshot, a time, or AtSequence(n)."
    )


def _moment_of_sequence(engine: MitoEngine, region_id: RegionId, sequence: Sequence, what: str) -> Moment:
    current = engine.newest(region_id).control.current()
    if sequence > current.visible:
        raise InvalidInputError(f"{what}=AtSequence({sequence}) is yet to come: the newest is {current.visible}.")
    return moment_of_sequence(current, sequence)


def _moment_of_version(engine: MitoEngine, region_id: RegionId, version: int, what: str) -> Moment:
    current = engine.newest(region_id).control.current()
    newest = current.version.manifest_version
    if not 0 <= version <= newest:
        raise InvalidInputError(
            f"{what}={version} is not a version: there are 0 to {newest}, and versions() lists those that can be read. "
            "A sequence is given as AtSequence(n)."
        )
    return moment_of_version(current, version)


def _moment_of_text(engine: MitoEngine, region_id: RegionId, text: str, what: str) -> Moment:
    """Find a snapshot of that name, else take it for a time. No name can be taken for one (`check_name`)."""
    past = engine.newest(region_id).state.past
    named = past.snapshot(text)
    if named is not None:
        return named.moment
    if not _is_time(text):
        names = [known.name for known in past.snapshots]
        raise InvalidInputError(f"{what}: {unknown_name('snapshot', text, names)} It is not a time in ISO 8601 either.")
    return _moment_of_time(engine, region_id, text, what)


def _moment_of_time(engine: MitoEngine, region_id: RegionId, as_of: str | date, what: str) -> Moment:
    at_ms = _milliseconds(as_of, what)
    if at_ms > engine.now_ms():
        raise InvalidInputError(f"{what}={as_of!r} is yet to come; leave it out to read what there is now.")
    return moment_of_time(engine.newest(region_id).control, at_ms, f"{what}={as_of!r}")


def _milliseconds(value: str | date, what: str) -> int:
    """Return the last millisecond that is not after a time."""
    later_us = parse_time(value, "us", "UTC", what)
    return later_us // 1000


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def check_name(name: str) -> str:
    """Refuse what cannot be the name of a snapshot: nothing may look like a time."""
    if not isinstance(name, str) or not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidInputError(f"name={name!r} is not a text of 1 to {NAME_LENGTH_MAX} printable characters.")
    if _is_time(name):
        raise InvalidInputError(f"name={name!r} reads as a time; choose a name that does not.")
    return name


def snapshot_of(engine: MitoEngine, region_id: RegionId, as_of: AsOf) -> Snapshot:
    """Return what there was at the moment that is meant. As long as it is held its files stay."""
    return engine.snapshot_at(region_id, moment_of(engine, region_id, as_of))


def sequence_of(engine: MitoEngine, region_id: RegionId, since: AsOf) -> Sequence:
    """Return the newest sequence of the moment that is meant."""
    if isinstance(since, AtSequence):
        return Sequence(since.sequence)  # Rows that came later are all there, also if the moment itself is not.
    return moment_of(engine, region_id, since, "since").sequence


# --- scans ------------------------------------------------------------------------------------------------


class EngineAt:
    """An engine as a scan of one moment sees it: it plans on what there was then, and is otherwise the same.

    ``snapshot`` is None for what there is now; of it only rows above ``min_sequence`` are seen.
    """

    def __init__(self, engine: MitoEngine, snapshot: Snapshot | None, min_sequence: Sequence = NO_SEQUENCE) -> None:
        self._engine, self._snapshot, self._min_sequence = engine, snapshot, min_sequence

    def plan(self, region_id: RegionId, request: ScanRequest) -> ScanPlan:
        wanted = replace(request, min_sequence=max(request.min_sequence, self._min_sequence))
        if self._snapshot is None:
            return self._engine.plan(region_id, wanted)
        return self._engine.plan_at(self._snapshot, wanted)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EngineAt) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash((id(self._engine), self._min_sequence))

    @property
    def is_of_the_past(self) -> bool:
        """Whether no row that is written from now on will be seen."""
        return self._snapshot is not None

    @property
    def _parts(self) -> tuple[int, int, Sequence]:
        return id(self._engine), id(self._snapshot), self._min_sequence


def is_of_the_past(engine: object) -> bool:
    """Tell whether an engine reads an earlier moment, as that of a scan with ``as_of`` does."""
    return isinstance(engine, EngineAt) and engine.is_of_the_past


def engine_at(
    engine: MitoEngine, region_id: RegionId, as_of: AsOf | None, since: AsOf | None
) -> tuple[MitoEngine, RegionMetadata]:
    """Return an engine that reads as of a moment, and the schema of then."""
    if as_of is None and since is None:
        return engine, engine.region(region_id).metadata
    snapshot = None if as_of is None else snapshot_of(engine, region_id, as_of)
    min_sequence = NO_SEQUENCE if since is None else sequence_of(engine, region_id, since)
    metadata = engine.region(region_id).metadata if snapshot is None else snapshot.version.state.metadata
    return cast("MitoEngine", EngineAt(engine, snapshot, min_sequence)), metadata


@contextmanager
def telling_apart(engine: MitoEngine, region_id: RegionId) -> Iterator[None]:
    """Tell a file that the writing process has deleted meanwhile from one that is damaged or lost.

    Raises:
        SnapshotExpiredError: in place of a `CorruptionError` about a file that is on no list any more.

    """
    try:
        yield
    except CorruptionError as error:
        file_id = parse_sst_key(error.path)
        if file_id is None:
            raise
        state = engine.newest(region_id).state
        if file_id in state.files or any(file.file_id == file_id for file in state.removed_files):
            raise
        raise expired(state, "what is being read") from error


# --- versions ---------------------------------------------------------------------------------------------


def versions(version: Version) -> pa.Table:
    """Return one row per manifest version that can be read, oldest first."""
    state = version.state
    names = {snapshot.version: snapshot.name for snapshot in state.past.snapshots}
    kept = state.past.kept_entries()
    return pa.table(
        {
            "version": pa.array([entry.version for entry in kept], pa.int64()),
            "sequence": pa.array([entry.sequence for entry in kept], pa.uint64()),
            "at": pa.array([entry.at_ms or None for entry in kept], pa.timestamp("ms", "UTC")),
            "what": pa.array([entry.what for entry in kept], pa.string()),
            "rows": pa.array([entry.row_count for entry in kept], pa.uint64()),
            "snapshot": pa.array([names.get(entry.version) for entry in kept], pa.string()),
        }
    )


# --- diff -------------------------------------------------------------------------------------------------


def diff(
    engine: MitoEngine, region_id: RegionId, check_open: Callable[[], None], v1: AsOf, v2: AsOf | None
) -> pl.LazyFrame:
    """Return a lazy frame of what changed from one moment to another, or to now."""
    control = engine.newest(region_id).control
    before = snapshot_of(engine, region_id, v1)
    after = control.current() if v2 is None else snapshot_of(engine, region_id, v2)
    moments = Moments(
        before=before,
        after=after,
        kept_before=engine.kept_from(before, is_past=True),
        kept_after=engine.kept_from(after, is_past=v2 is not None),
    )
    return lazy_frame(_Changes(engine, region_id, check_open, moments), schema_of(moments.metadata))


class _Changes:
    """Changes between two moments, as the lazy frame sees them."""

    def __init__(
        self, engine: MitoEngine, region_id: RegionId, check_open: Callable[[], None], moments: Moments
    ) -> None:
        self._engine, self._region_id, self._check_open = engine, region_id, check_open
        self.moments = moments

    def resolve(self, predicate: Predicate) -> _Changed:
        self._check_open()
        return _Changed(self._engine, self.moments, predicate)

    def same_as(self, other: Any) -> bool:
        return isinstance(other, _Changes) and other.moments is self.moments


@dataclass(frozen=True, slots=True)
class _Changed:
    engine: MitoEngine
    moments: Moments
    predicate: Predicate

    @property
    def key(self) -> str:
        moments = self.moments
        return "-".join(
            f"{snapshot.version.manifest_version}.{snapshot.visible}.{kept_from}"
            for snapshot, kept_from in ((moments.before, moments.kept_before), (moments.after, moments.kept_after))
        )

    def rows(self, columns: Many[str]) -> None:
        """What is few is not known before it is read."""

    def files(self) -> list[str | BytesIO]:
        return []

    def files_are_new(self) -> bool:
        return True

    def without_nan(self) -> frozenset[str]:
        return frozenset()

    def merges(self) -> list[Callable[[Many[str]], Iterator[pa.RecordBatch]]]:
        within = time_range(self.predicate, self.moments.metadata.time.name)
        return [partial(changes, self.moments, self.engine.reading.sorted_batches, within=within)]


# --- why --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyResult:
    """Every version of one row that is known, newest first.

    Attributes:
        table: the table's name.
        key: the row's tags and time.
        versions: what each says, what became of it, and where it lies.
        fields: the fields and their types.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     _ = db["cpu"].delete(tags={"host": "a"})
        ...     db["cpu"].why(host="a", time="2024-01-01").to_polars().select("sequence", "op", "fate").rows()
        [(2, 'delete', 'delete marker'), (1, 'put', 'deleted')]

    """

    table: str
    key: Mapping[str, Any]
    versions: tuple[KeyVersion, ...]
    fields: pa.Schema

    def to_polars(self) -> pl.DataFrame:
        """Return one row per copy of a version.

        Columns: sequence, op, fate, by_sequence, by_version, by_what (what did it), written, file_id (null in memory),
        level, row_group, row, listed (whether scans of today read it), and the fields.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db["cpu"].why(host="a", time="2024-01-01").to_polars().select("sequence", "fate").rows()
            [(1, 'visible')]

        """
        return from_table(self._to_arrow())

    def _to_arrow(self) -> pa.Table:
        copies = [(version, copy) for version in self.versions for copy in version.copies]
        columns = {name: pa.array([read(version, copy) for version, copy in copies], kind)
                   for name, (kind, read) in _COLUMNS.items()}  # fmt: skip
        fields = {field.name: pa.array([version.values[field.name] for version, _ in copies], field.type)
                  for field in self.fields}  # fmt: skip
        return pa.table([*columns.values(), *fields.values()], names=[*columns, *fields])

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.key.items())
        if not self.versions:
            return f"{self.table!r}, {shown}: no version of this row is known"
        count = len(self.versions)
        lines = [f"{self.table!r}, {shown}: {count} {'version' if count == 1 else 'versions'}"]
        return "\n".join([*lines, *(line for version in self.versions for line in _lines(version))])

    def _repr_html_(self) -> str:
        head, *_ = repr(self).splitlines()
        return card(head) + (self.to_polars()._repr_html_() if self.versions else "")


_COLUMNS: dict[str, tuple[pa.DataType, Callable[[KeyVersion, Copy], Any]]] = {
    "sequence": (pa.uint64(), lambda version, _: version.sequence),
    "op": (pa.string(), lambda version, _: _operation(version)),
    "fate": (pa.string(), lambda version, _: version.fate),
    "by_sequence": (pa.uint64(), lambda version, _: version.by_sequence),
    "by_version": (pa.int64(), lambda version, _: version.by_edit[0] if version.by_edit else None),
    "by_what": (pa.string(), lambda version, _: version.by_edit[1] if version.by_edit else None),
    "written": (pa.timestamp("ms", "UTC"), lambda version, _: version.written_ms),
    "file_id": (pa.string(), lambda _, copy: copy.file.file_id if copy.file else None),
    "level": (pa.int8(), lambda _, copy: copy.file.level if copy.file else None),
    "row_group": (pa.uint32(), lambda _, copy: copy.row_group),
    "row": (pa.uint64(), lambda _, copy: copy.row),
    "listed": (pa.bool_(), lambda _, copy: copy.removed is None),
}


def why(
    engine: MitoEngine, region_id: RegionId, table: str, row: Mapping[str, Any] | None, named: Mapping[str, Any]
) -> WhyResult:
    """Find every version of the row that is meant."""
    control = engine.newest(region_id).control
    metadata = control.current().version.state.metadata
    key = _key(metadata, {**(row or {}), **named})
    current, held = engine.everything(region_id)
    found = trace(current, engine.reader, key, marks_of(control), engine.kept_from(current, is_past=False))
    del held  # Until here it kept the files.
    shown = {tag.name: value for tag, value in zip(metadata.tags, key.tags, strict=True)}
    return WhyResult(
        table=table,
        key=shown | {metadata.time.name: str(pc.cast(pa.scalar(key.time, metadata.time.type), pa.string()))},
        versions=found,
        fields=pa.schema([(field.name, field.type) for field in metadata.fields]),
    )


def _key(metadata: RegionMetadata, given: Mapping[str, Any]) -> Key:
    tags, time = [tag.name for tag in metadata.tags], metadata.time.name
    # "time" may be said for the time column whatever it is called, unless another column is called so.
    values = {time if name == "time" and "time" not in metadata.names else name: value for name, value in given.items()}
    for name in values:
        if name not in metadata.names:
            raise InvalidInputError(unknown_name("column", name, metadata.key_names))
    for name in [*tags, time]:
        if name not in values:
            raise InvalidInputError(f"why needs the whole key of a row; {name!r} is missing.")
    moment = parse_time(values[time], metadata.time_unit, metadata.time_zone, time)
    return Key(tags=tuple(_tag(metadata, name, values[name]) for name in tags), time=moment)


def _tag(metadata: RegionMetadata, name: str, value: Any) -> Any:
    data_type = next(tag.type for tag in metadata.tags if tag.name == name)
    try:
        return pa.scalar(value, data_type).as_py()
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"{name}={value!r} cannot be a value of that tag, which is {data_type}.") from None


def _lines(version: KeyVersion) -> Iterator[str]:
    values = ", ".join(f"{name}={_shown(value)}" for name, value in version.values.items())
    said = values if version.op_type is OpType.PUT else "delete"
    yield f"  sequence {version.sequence:,}: {said}; {_fate(version)}"
    if version.written_ms is not None:
        at = pa.scalar(version.written_ms, pa.timestamp("ms", "UTC")).as_py()
        yield f"    written  {at:%Y-%m-%d %H:%M:%S} UTC"
    for copy in version.copies:
        yield f"    {_place(copy)}"


def _fate(version: KeyVersion) -> str:
    if version.fate == "expired":
        return "expired by ttl" if version.by_edit is None else f"expired by ttl (version {version.by_edit[0]})"
    if version.by_edit is not None:
        number, what = version.by_edit
        return f"removed by {what} (version {number})"
    if version.by_sequence is None:
        return version.fate
    return f"{'merged into' if version.fate == 'merged' else f'{version.fate} by'} {version.by_sequence:,}"


def _place(copy: Copy) -> str:
    if copy.file is None:
        return "in memory"
    listed = "in" if copy.removed is None else "was in"
    level = "history" if copy.file.level < 0 else f"level {copy.file.level}"
    return f"{listed} file {copy.file.file_id}, {level}, row group {copy.row_group}, row {copy.row}"


def _operation(version: KeyVersion) -> str:
    return "put" if version.op_type is OpType.PUT else "delete"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, datetime) else repr(value)
