"""What rooms hand each other, and the small results that users get back."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mitoframe.model.predicate import ALWAYS, Predicate
from mitoframe.model.timerange import EVERYTHING, TimeRange

if TYPE_CHECKING:
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
    """Let a region go, flushing it first if asked."""

    flush: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRequest:
    """Write rows; a row with the key of an older one replaces it."""

    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """Delete the rows with these keys, whether or not they are there."""

    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRequest:
    """Write the memtable to SSTs."""

    reason: str = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactRequest:
    """Merge overlapping files."""

    reason: str = "manual"


RegionRequest = CreateRequest | OpenRequest | CloseRequest | PutRequest | DeleteRequest | FlushRequest | CompactRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a write did. The rows are durable (as ``sync`` says) and visible when this exists.

    Attributes:
        table: the table's name.
        rows: rows written.
        first_sequence: the sequence of the first row; the others follow. 0 if nothing was written.
        created: whether the table was made by this write.

    Example:
        >>> WriteResult(table="cpu", rows=2, first_sequence=1, created=True)
        wrote 2 rows to 'cpu' (new table)

    """

    table: str
    rows: int
    first_sequence: int = 0
    created: bool = False

    def __repr__(self) -> str:
        new = " (new table)" if self.created else ""
        return f"wrote {self.rows:,} {_plural(self.rows, 'row')} to {self.table!r}{new}"

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
