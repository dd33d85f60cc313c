"""What is wrong with a store: values that say which object, what kind of promise it breaks, and how bad that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mitoframe.model.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitoframe.model.ids import FileId

FlawKind = Literal["manifest", "file", "rows", "statistics", "index", "log", "journal", "catalog", "orphan"]
Grade = Literal["damage", "hint", "waste"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that is not as it was written, or that nobody needs.

    Attributes:
        kind: which promise is broken. ``"manifest"``: what lists the files. ``"file"``: bytes of an SST, its footer.
            ``"rows"``: their order, keys, counts. ``"statistics"``: what lets scans skip rows. ``"index"``: a sidecar.
            ``"log"``: rows that are in no file yet. ``"journal"``: what happened. ``"catalog"``: names and schemas.
            ``"orphan"``: an object that nobody lists.
        grade: ``"damage"``: rows cannot be read, or may be read wrongly. ``"hint"``: rows are as they were; what is
            wrong is made anew, or only told of the past. ``"waste"``: nothing but space is lost.
        path: the object.
        what: what is wrong with it, in a sentence.
        table: the table's name, empty until somebody who knows it has put it in.
        file_id: the SST that it is about, None if it is about none.
        size_bytes: how much space it takes, where that is the point.

    """

    kind: FlawKind
    grade: Grade
    path: str
    what: str
    table: str = ""
    file_id: FileId | None = None
    size_bytes: int = 0


def flaw_of(error: CorruptionError, kind: FlawKind, *, grade: Grade = "damage", file_id: FileId | None = None) -> Flaw:
    """Tell what an error said."""
    return Flaw(kind=kind, grade=grade, path=error.path, what=error.what, file_id=file_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was looked at, and what was found. They add up.

    Attributes:
        flaws: what is wrong.
        files: SSTs that were read.
        rows: rows that were read, in files and in the log.
        size_bytes: bytes of SSTs and sidecars.
        log_entries: entries of the log.

    """

    flaws: tuple[Flaw, ...] = ()
    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    log_entries: int = 0

    def of(self, table: str) -> Checked:
        """Return the same with the table's name in each flaw."""
        return replace(self, flaws=tuple(replace(flaw, table=table) for flaw in self.flaws))

    def without(self, is_void: Callable[[Flaw], bool]) -> Checked:
        """Return the same without some flaws."""
        return replace(self, flaws=tuple(flaw for flaw in self.flaws if not is_void(flaw)))

    def __add__(self, other: Checked) -> Checked:
        return Checked(
            flaws=self.flaws + other.flaws,
            files=self.files + other.files,
            rows=self.rows + other.rows,
            size_bytes=self.size_bytes + other.size_bytes,
            log_entries=self.log_entries + other.log_entries,
        )
