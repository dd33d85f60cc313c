"""What rooms hand each other, and the small results that users get back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from mitoframe.model.errors import InvalidInputError
from mitoframe.model.predicate import ALWAYS, Predicate
from mitoframe.model.timerange import EVERYTHING, TimeRange

if TYPE_CHECKING:
    from mitoframe.model.alter import Alteration
    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import Sequence
    from mitoframe.model.options import RegionOptions
    from mitoframe.model.schema import RegionMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest:
    """What to read of a region.

    Attributes:
        columns: names in the order wanted; None for all. ``__sequence`` and ``__op_type`` may be named.
        predicate: rows to keep; applied in full after dedup.
        time_range: a further condition on the time column.
        sequence: only rows with a sequence up to this; None for all that are visible now.

    """

    columns: tuple[str, ...] | None = None
    predicate: Predicate = ALWAYS
    time_range: TimeRange = EVERYTHING
    sequence: Sequence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """Make a region; opening one that is there with the same metadata is fine."""

    metadata: RegionMetadata
    options: RegionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """Open an existing region."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """Let a region go, flushing it first if asked. One whose rows are not in the log is always flushed."""

    flush: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRequest:
    """Give a region up for good. Its files go in the background, after the grace period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterRequest:
    """Change a region's schema and options, all of it or nothing.

    Attributes:
        alterations: changes of columns, applied in this order.
        options: options to set, by the names of `RegionOptions`.
        unset: options to put back to their defaults.

    """

    alterations: tuple[Alteration, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """Write rows; a row with the key of an older one replaces it.

    With a ``key`` that an earlier write had nothing is written.
    """

    batch: Batch
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """Delete the rows with these keys, whether or not they are there."""

    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkInsertRequest:
    """Write rows of any number straight into SSTs, all of them at once visible. With a ``key`` as in `PutRequest`."""

    batches: Iterable[Batch]
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceRequest:
    """Exchange all rows of a time range for others, which may be none. Every row must be in the range."""

    time_range: TimeRange
    batches: Iterable[Batch] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoRequest:
    """Take a write back: be as if its rows had never been written.

    ``first_sequence`` and ``row_count`` are those that the write was acknowledged with.
    """

    first_sequence: Sequence
    row_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRequest:
    """Write the memtable to SSTs."""

    reason: str = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactRequest:
    """Merge overlapping files."""

    reason: str = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateRequest:
    """Remove rows without looking at them.

    Attributes:
        what: ``"all"`` rows; only those ``"unflushed"``, which no file has; or those in ``"time_ranges"``.
        time_ranges: half-open, in the time column's unit.

    """

    what: Literal["all", "unflushed", "time_ranges"] = "all"
    time_ranges: tuple[TimeRange, ...] = ()


RegionRequest = (
    CreateRequest
    | OpenRequest
    | CloseRequest
    | DropRequest
    | AlterRequest
    | PutRequest
    | DeleteRequest
    | BulkInsertRequest
    | ReplaceRequest
    | UndoRequest
    | FlushRequest
    | CompactRequest
    | TruncateRequest
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where a write's rows are among all rows of the region. ``repeated``: an earlier write with its key did it."""

    first_sequence: Sequence
    row_count: int
    at_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a write did. The rows are durable (as ``sync`` says) and visible when this exists.

    Attributes:
        table: the table's name.
        rows: rows written.
        first_sequence: the sequence of the first row; the others follow. 0 if nothing was written.
        created: whether the table was made by this write.
        repeated: whether nothing was written, because an earlier write with the same key had been.

    Example:
        >>> WriteResult(table="cpu", rows=2, first_sequence=1, created=True)
        wrote 2 rows to 'cpu' (new table)

    """

    table: str
    rows: int
    first_sequence: int = 0
    created: bool = False
    repeated: bool = False
    _undo: Callable[[], UndoResult] | None = field(default=None, compare=False)

    def undo(self) -> UndoResult:
        """Take the write back: rows it replaced return, rows it added go; what was written over it since stays.

        Raises:
            SnapshotExpiredError: the write is older than the time for which replaced rows are kept.
            InvalidInputError: this write wrote nothing.

        """
        if self._undo is None:
            raise InvalidInputError(f"{self!r}: there is nothing to take back.")
        return self._undo()

    def __repr__(self) -> str:
        if self.repeated:
            return f"nothing written to {self.table!r}: these {self.rows:,} {_plural(self.rows, 'row')} were before"
        new = " (new table)" if self.created else ""
        return f"wrote {self.rows:,} {_plural(self.rows, 'row')} to {self.table!r}{new}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    """What a delete did.

    Attributes:
        table: the table's name.
        rows: rows that were there and are gone.

    Example:
        >>> DeleteResult(table="cpu", rows=2)
        deleted 2 rows from 'cpu'

    """

    table: str
    rows: int
    _undo: Callable[[], UndoResult] | None = field(default=None, compare=False)

    def undo(self) -> UndoResult:
        """Bring the rows back that nobody has written since.

        Raises:
            SnapshotExpiredError: the delete is older than the time for which deleted rows are kept.
            InvalidInputError: nothing was deleted, or the files the rows were in were removed whole.

        """
        if self._undo is None:
            raise InvalidInputError(f"{self!r}: there is nothing that could be taken back.")
        return self._undo()

    def __repr__(self) -> str:
        return f"deleted {self.rows:,} {_plural(self.rows, 'row')} from {self.table!r}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResult:
    """What taking a change back did.

    Attributes:
        table: the table's name.
        rows: rows that are as they were before.

    Example:
        >>> UndoResult(table="cpu", rows=2)
        took back 2 rows of 'cpu'

    """

    table: str
    rows: int

    def __repr__(self) -> str:
        return f"took back {self.rows:,} {_plural(self.rows, 'row')} of {self.table!r}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceResult:
    """What exchanging a time range did.

    Attributes:
        table: the table's name.
        removed: rows that were in the range, versions of one key counted each.
        rows: rows that are there now.

    Example:
        >>> ReplaceResult(table="cpu", removed=3, rows=2)
        replaced 3 rows of 'cpu' by 2

    """

    table: str
    removed: int
    rows: int

    def __repr__(self) -> str:
        return f"replaced {self.removed:,} {_plural(self.removed, 'row')} of {self.table!r} by {self.rows:,}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateResult:
    """What truncating a table removed.

    Attributes:
        table: the table's name.
        rows: rows that were stored, versions of one key counted each.

    Example:
        >>> TruncateResult(table="cpu", rows=2)
        removed 2 rows from 'cpu'

    """

    table: str
    rows: int

    def __repr__(self) -> str:
        return f"removed {self.rows:,} {_plural(self.rows, 'row')} from {self.table!r}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterResult:
    """What altering a table did.

    Attributes:
        table: the table's name.
        schema_version: the version of its schema from now on.
        changed: whether anything is different.

    Example:
        >>> AlterResult(table="cpu", schema_version=2, changed=True)
        altered 'cpu', schema version 2

    """

    table: str
    schema_version: int
    changed: bool

    def __repr__(self) -> str:
        return f"{'altered' if self.changed else 'no change of'} {self.table!r}, schema version {self.schema_version}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushResult:
    """What a flush did.

    Attributes:
        files: the SSTs written, none if there was nothing to flush.

    Example:
        >>> FlushResult()
        nothing to flush

    """

    files: tuple[FileMeta, ...] = ()

    def __repr__(self) -> str:
        return f"flushed {_files(self.files)}" if self.files else "nothing to flush"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactResult:
    """What a compaction did.

    Attributes:
        removed: the SSTs that were merged.
        added: the SSTs that hold their rows now.

    Example:
        >>> CompactResult()
        nothing to compact: no files overlap

    """

    removed: tuple[FileMeta, ...] = ()
    added: tuple[FileMeta, ...] = ()

    def __repr__(self) -> str:
        if not self.removed:
            return "nothing to compact: no files overlap"
        return f"merged {_files(self.removed)} into {_files(self.added)}"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumResult:
    """What a vacuum deleted.

    Attributes:
        removed: identifiers of the deleted files.
        size_bytes: the space given back.

    Example:
        >>> VacuumResult(removed=("0" * 32,), size_bytes=2456)
        deleted 1 file, 2,456 bytes

    """

    removed: tuple[str, ...] = ()
    size_bytes: int = 0

    def __repr__(self) -> str:
        count = len(self.removed)
        return f"deleted {count:,} {_plural(count, 'file')}, {self.size_bytes:,} bytes"

    def _repr_html_(self) -> str:
        return f"<span>{escape(repr(self))}</span>"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else noun + "s"


def _files(files: tuple[FileMeta, ...]) -> str:
    rows = sum(file.row_count for file in files)
    size = sum(file.size_bytes for file in files)
    return f"{len(files):,} {_plural(len(files), 'file')} ({rows:,} rows, {size:,} bytes)"
