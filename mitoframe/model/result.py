"""The small results that users get back: what was done, as a value, as text and as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.file import FileMeta
from mitoframe.model.wording import counted


class _Shown:
    """Says in a notebook what it says in a terminal, and has what it holds below, to be opened."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        names = [each.name for each in fields(self) if not each.name.startswith("_")]  # type: ignore[arg-type]
        values = {name: getattr(self, name) for name in names}
        lists = {name: section for name, value in values.items() if (section := _files_section(name, value))}
        plain = [(name, _word(value)) for name, value in values.items() if name not in lists]
        return card(repr(self), [Section(title="Details", rows=plain, note=" "), *lists.values()])


def _files_section(name: str, value: object) -> Section | None:
    """Return a table of files; None of what is none."""
    if not isinstance(value, tuple) or not value:
        return None
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    shown = value[:ROWS_MAX]
    match value[0]:
        case FileMeta():
            header = ("file_id", "rows", "size_bytes", "level")
            rows = [(file.file_id, f"{file.row_count:,}", f"{file.size_bytes:,}", f"L{file.level}") for file in shown]
        case KeptFile():
            header = ("name", "size_bytes", "why")
            rows = [(file.name, f"{file.size_bytes:,}", _KEPT_TEXT[file.why]) for file in shown]
        case _:
            return None
    return Section(title=f"Files {name}", rows=rows, header=header, row_count=len(value))


def _word(value: object) -> str:
    if isinstance(value, tuple):
        more = [f"… {len(value):,} in all"] if len(value) > ROWS_MAX else []
        return ", ".join([*map(str, value[:ROWS_MAX]), *more]) if value else "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult(_Shown):
    """What a write did. The rows are durable (as ``sync`` says) and visible when this exists.

    Attributes:
        table: the table's name.
        rows: rows written.
        first_sequence: the sequence of the first row; the others follow. 0 if nothing was written.
        created: whether the table was made by this write.
        repeated: whether nothing was written, because an earlier write with the same key had been.
        expired: of the rows, those that are older than the table's ``ttl`` lets be read; of a write straight into files
            those in files that hold no others.

    Example:
        >>> WriteResult(table="cpu", rows=2, first_sequence=1, created=True)
        wrote 2 rows to 'cpu' (new table)
        >>> WriteResult(table="cpu", rows=2, first_sequence=1, expired=1)
        wrote 2 rows to 'cpu'; 1 of them has expired by its ttl, and is not read

    """

    table: str
    rows: int
    first_sequence: int = 0
    created: bool = False
    repeated: bool = False
    expired: int = 0
    _undo: Callable[[], UndoResult] | None = field(default=None, compare=False)

    def undo(self) -> UndoResult:
        """Take the write back: rows it replaced return, rows it added go; what was written over it since stays.

        Raises:
            SnapshotExpiredError: the write is older than the time for which replaced rows are kept.
            InvalidInputError: this write wrote nothing.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     result = db["cpu"].write(frame.with_columns(cpu=0.7))
            ...     result.undo()
            ...     db.scan("cpu").collect()["cpu"].to_list()
            took back 1 row of 'cpu'
            [0.5]

        """
        if self._undo is None:
            raise InvalidInputError(f"{self!r}: there is nothing to take back.")
        return self._undo()

    def __repr__(self) -> str:
        rows = f"{counted(self.rows, 'row')}"
        if self.repeated:
            return f"nothing written to {self.table!r}: an earlier write of {rows} had this key"
        new = " (new table)" if self.created else ""
        return f"wrote {rows} to {self.table!r}{new}{self._expired()}"

    def _expired(self) -> str:
        if not self.expired:
            return ""
        which = "all" if self.expired == self.rows else f"{self.expired:,}"
        have, are = ("has", "is") if self.expired == 1 and which != "all" else ("have", "are")
        return f"; {which} of them {have} expired by its ttl, and {are} not read"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult(_Shown):
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

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     result = db["cpu"].delete(tags={"host": "a"})
            ...     result.undo()
            ...     db.scan("cpu").count()
            took back 1 row of 'cpu'
            1

        """
        if self._undo is None:
            raise InvalidInputError(f"{self!r}: there is nothing that could be taken back.")
        return self._undo()

    def __repr__(self) -> str:
        return f"deleted {counted(self.rows, 'row')} from {self.table!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResult(_Shown):
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
        return f"took back {counted(self.rows, 'row')} of {self.table!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceResult(_Shown):
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
        return f"replaced {counted(self.removed, 'row')} of {self.table!r} by {self.rows:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateResult(_Shown):
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
        return f"removed {counted(self.rows, 'row')} from {self.table!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterResult(_Shown):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushResult(_Shown):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactResult(_Shown):
    """What a compaction did, or would do.

    Attributes:
        removed: the SSTs that were merged.
        added: the SSTs that hold their rows now; none in a dry run.
        expired: SSTs that are not listed any more because all their rows have expired.
        merges: how many merges it took.
        dry_run: nothing was done; of what takes several rounds, this is the first.

    Example:
        >>> CompactResult()
        nothing to compact: no files overlap

    """

    removed: tuple[FileMeta, ...] = ()
    added: tuple[FileMeta, ...] = ()
    expired: tuple[FileMeta, ...] = ()
    merges: int = 0
    dry_run: bool = False

    def __repr__(self) -> str:
        would = "would have " if self.dry_run else ""
        told = [f"{would}let {_files(self.expired)} go that had expired"] if self.expired else []
        if self.removed and self.dry_run:
            merges = f"{counted(self.merges, 'merge')}"
            told.append(f"would have merged {_files(self.removed)} in {merges}")
        elif self.removed:
            told.append(f"merged {_files(self.removed)} into {_files(self.added)}")
        return "; ".join(told) or "nothing to compact: no files overlap"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireResult(_Shown):
    """Which files went, or would go, because all their rows have expired.

    Attributes:
        table: the table's name.
        files: the SSTs, none if there were none. Expired rows of others are not read either.
        before: the time up to which rows have expired, in the time column's unit; None without a time to live.
        waiting: SSTs that have expired too, and stay for now: they hide older rows of files that stay.
        is_guarded: a few rows are newer by more than a time to live, too few to be believed.
        dry_run: nothing was done.

    Example:
        >>> ExpireResult(table="cpu")
        nothing of 'cpu' to let go

    """

    table: str
    files: tuple[FileMeta, ...] = ()
    before: int | None = None
    waiting: tuple[FileMeta, ...] = ()
    is_guarded: bool = False
    dry_run: bool = False

    def __repr__(self) -> str:
        would = "would have " if self.dry_run else ""
        guarded = "; a few newer times were not believed" if self.is_guarded else ""
        if not self.files:
            return f"nothing of {self.table!r} to let go{guarded}"
        return f"{would}let {_files(self.files)} of {self.table!r} go{guarded}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexResult(_Shown):
    """What building indexes did.

    Attributes:
        files: the SSTs that have new ones; ``index`` of each says which.

    Example:
        >>> IndexResult()
        nothing to index: every file has the indexes that are asked for

    """

    files: tuple[FileMeta, ...] = ()

    def __repr__(self) -> str:
        if not self.files:
            return "nothing to index: every file has the indexes that are asked for"
        rows = sum(file.row_count for file in self.files)
        size = sum(file.index.size_bytes for file in self.files if file.index is not None)
        files = f"{counted(len(self.files), 'file')}"
        return f"indexed {files} ({counted(rows, 'row')}) in {size:,} bytes"


KeptWhy = Literal["job", "snapshot", "scan", "reader", "grace", "name"]
"""Why a vacuum leaves a file that is not listed any more.

job        it is being written, or waits to be listed
snapshot   a snapshot with a name needs it
scan       a scan or lazy frame in this process reads it
reader     a process that opened the store for reading may read it
grace      it was listed, or stored if it never was, too short a time ago
name       its name is not one that mitoframe makes: it is never touched
"""
_KEPT_TEXT: Mapping[KeptWhy, str] = {
    "job": "being written",
    "snapshot": "for a snapshot",
    "scan": "being read here",
    "reader": "read by another process",
    "grace": "within the grace period",
    "name": "with a foreign name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file that no version lists any more and that stays. ``why`` is one of `KeptWhy`."""

    name: str
    size_bytes: int
    why: KeptWhy

    def __str__(self) -> str:
        return f"{self.name} ({_KEPT_TEXT[self.why]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumResult(_Shown):
    """What a vacuum deleted, or would delete, and what it left.

    Attributes:
        removed: identifiers of the deleted files. Their indexes go with them.
        size_bytes: the space given back.
        kept: files that are not listed any more and stay for now, and why.
        readers: the numbers of other processes that files stay for, as far as they are known.
        dry_run: nothing was done.

    Example:
        >>> VacuumResult(removed=("0" * 32,), size_bytes=2456)
        deleted 1 file, 2,456 bytes
        >>> VacuumResult(dry_run=True, kept=(KeptFile(name="1" * 32 + ".parquet", size_bytes=10, why="grace"),))
        would have deleted 0 files, 0 bytes; kept 1 within the grace period

    """

    removed: tuple[str, ...] = ()
    size_bytes: int = 0
    kept: tuple[KeptFile, ...] = ()
    readers: tuple[int, ...] = ()
    dry_run: bool = False

    def __repr__(self) -> str:
        count, would = len(self.removed), "would have " if self.dry_run else ""
        counts = Counter(file.why for file in self.kept)
        texts = dict(_KEPT_TEXT)
        if self.readers:
            texts["reader"] = f"read by process {' and '.join(map(str, self.readers))}"
        kept = ", ".join(f"{counts[why]:,} {text}" for why, text in texts.items() if counts[why])
        told = f"{would}deleted {counted(count, 'file')}, {self.size_bytes:,} bytes"
        return f"{told}; kept {kept}" if kept else told


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResult(_Shown):
    """A moment of a table that has, or had, a name.

    Attributes:
        table: the table's name.
        name: the snapshot's.
        version: the manifest version; ``scan(as_of=version)`` reads the same as ``scan(as_of=name)``.
        sequence: the newest row of it.
        dropped: whether the name was let go.

    Example:
        >>> SnapshotResult(table="cpu", name="before", version=7, sequence=100)
        snapshot 'before' of 'cpu': version 7, sequence 100

    """

    table: str
    name: str
    version: int
    sequence: int
    dropped: bool = False

    def __repr__(self) -> str:
        if self.dropped:
            return f"dropped snapshot {self.name!r} of {self.table!r}"
        return f"snapshot {self.name!r} of {self.table!r}: version {self.version}, sequence {self.sequence:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult(_Shown):
    """What going back to an earlier moment did.

    Attributes:
        table: the table's name.
        version: the manifest version that it was brought back to.
        sequence: the newest sequence there was then, which tells a moment between two versions.
        before: the version there was before; ``restore(before)`` takes it back.
        changed: whether anything was different.
        expired: rows that are there again and are not read, because they are older than the table's ``ttl`` allows;
            counted are files that hold no others.
        revived: rows that had expired and are read again, because the rows that they were too old for are gone; counted
            likewise.

    Example:
        >>> RestoreResult(table="cpu", version=7, sequence=40, before=12, changed=True)
        restored 'cpu' to version 7, sequence 40; restore(12) takes it back

    """

    table: str
    version: int
    sequence: int
    before: int
    changed: bool
    expired: int = 0
    revived: int = 0

    def __repr__(self) -> str:
        if not self.changed:
            return f"nothing to restore: {self.table!r} is as it was at sequence {self.sequence}"
        moment = f"version {self.version}, sequence {self.sequence}"
        gone = f"; {counted(self.expired, 'row')} of then expired by ttl" if self.expired else ""
        back = f"; {counted(self.revived, 'expired row')} can be read again" if self.revived else ""
        return f"restored {self.table!r} to {moment}{gone}{back}; restore({self.before}) takes it back"


def _files(files: tuple[FileMeta, ...]) -> str:
    rows = sum(file.row_count for file in files)
    size = sum(file.size_bytes for file in files)
    return f"{counted(len(files), 'file')} ({counted(rows, 'row')}, {size:,} bytes)"
