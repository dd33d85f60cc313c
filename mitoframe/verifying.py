"""`VerifyReport`: what came of reading all that a store has stored and holding it against what was written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitoframe import inspection
from mitoframe.frames.polars import from_table
from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.errors import CorruptionError
from mitoframe.model.flaw import Checked, Flaw
from mitoframe.model.wording import counted
from mitoframe.progress import progress
from mitoframe.storage.paths import CATALOG_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from mitoframe.engine.catalog import Catalog, TableEntry
    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.flaw import Grade

SHOWN_MAX = 20
_GRADES: dict[Grade, str] = {"damage": "damaged", "hint": "only hints", "waste": "only waste"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `Database.verify` found.

    Attributes:
        tables: the tables that were looked at.
        flaws: what is wrong, each with kind, grade, table, path and a sentence. The grade is ``"damage"`` (rows cannot
            be read, or may be read wrongly), ``"hint"`` (what makes reading faster, or tells of the past) or
            ``"waste"`` (nothing but space).
        files: SSTs that were read whole.
        rows: rows that were looked at, in files and in the log.
        size_bytes: bytes of the files and their indexes.
        log_entries: entries of the log whose rows are in no file yet.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://") as db:
        ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
        ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
        ...     db.verify()
        nothing is wrong with 1 table: 0 files, 1 row, 0 bytes, 1 log entry

    """

    tables: tuple[str, ...]
    flaws: tuple[Flaw, ...] = ()
    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    log_entries: int = 0

    @property
    def is_damaged(self) -> bool:
        """Whether rows cannot be read, or may be read wrongly."""
        return any(flaw.grade == "damage" for flaw in self.flaws)

    def raise_if_damaged(self) -> None:
        """Do nothing if no rows are in danger.

        Raises:
            CorruptionError: some are; it names the first damaged object, and how many more there are.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.verify().raise_if_damaged()

        """
        damaged = [flaw for flaw in self.flaws if flaw.grade == "damage"]
        if damaged:
            more = f"; {counted(len(damaged) - 1, 'more flaw')} beside it" if len(damaged) > 1 else ""
            raise CorruptionError(f"{damaged[0].what}{more}", path=damaged[0].path)

    def to_polars(self) -> pl.DataFrame:
        """Return one row per flaw: table, kind, grade, path, what.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.verify().to_polars().columns
            ['table', 'kind', 'grade', 'path', 'what']

        """
        return from_table(inspection.flaws(self.flaws))

    def __repr__(self) -> str:
        shown = [f"  {flaw.grade:<6}  {flaw.kind:<10}  {flaw.path}: {flaw.what}" for flaw in self.flaws[:SHOWN_MAX]]
        more = [f"  … and {len(self.flaws) - SHOWN_MAX:,} more"] if len(self.flaws) > SHOWN_MAX else []
        return "\n".join([self._summary(), *shown, *more])

    def _summary(self) -> str:
        looked_at = ", ".join(
            [
                counted(self.files, "file"),
                counted(self.rows, "row"),
                counted(self.size_bytes, "byte"),
                "1 log entry" if self.log_entries == 1 else f"{self.log_entries:,} log entries",
            ]
        )
        tables = counted(len(self.tables), "table")
        if not self.flaws:
            return f"nothing is wrong with {tables}: {looked_at}"
        grades = Counter(flaw.grade for flaw in self.flaws)
        found = ", ".join(f"{grades[grade]:,} {word}" for grade, word in _GRADES.items() if grades[grade])
        return f"{counted(len(self.flaws), 'flaw')} in {tables} ({found}): {looked_at}"

    def _repr_html_(self) -> str:
        rows = [(flaw.grade, flaw.kind, flaw.table, flaw.path, flaw.what) for flaw in self.flaws[:ROWS_MAX]]
        header = ("grade", "kind", "table", "path", "what")
        section = Section(title="Flaws", rows=rows, header=header, row_count=len(self.flaws), is_open=True)
        return card(self._summary(), [section])


def verify(engine: MitoEngine, catalog: Catalog, entries: Sequence[TableEntry]) -> VerifyReport:
    """Verify tables; see `Database.verify`."""
    found = engine.verifying.log()
    with progress("verify", "bytes") as told:
        done = 0

        def advance(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            told(done)

        for entry in entries:
            for region_id in entry.regions:
                checked = engine.verifying.verify(region_id, advance)
                if not any(flaw.grade == "damage" for flaw in checked.flaws):
                    checked += _of_catalog(engine, catalog, entry)
                found += checked.of(entry.name)
    return VerifyReport(
        tables=tuple(entry.name for entry in entries),
        flaws=found.flaws,
        files=found.files,
        rows=found.rows,
        size_bytes=found.size_bytes,
        log_entries=found.log_entries,
    )


def _of_catalog(engine: MitoEngine, catalog: Catalog, entry: TableEntry) -> Checked:
    """Say whether the catalog has another schema than the table; the next alteration or opening puts it right."""
    metadata = engine.newest(entry.regions[0]).metadata
    known = catalog.find(entry.name)
    if known is None or known.regions != entry.regions or known.schema == metadata.to_json():
        return Checked()
    what = "the catalog has another schema of this table than its manifest"
    return Checked(flaws=(Flaw(kind="catalog", grade="hint", path=CATALOG_FILE, what=what),))
