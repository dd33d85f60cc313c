"""`DoctorReport`: what could be better about the tables of a store, and the calls that mend it.

What there is to say follows from rules (`diagnosis.py`). A fix is a public verb and nothing else. What gives rows up is
marked as dangerous, and is done only for who says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.diagnosis import SERIES_MIN, Facts, Finding, Pinned, Sample, findings_of, of_damage
from mitoframe.frames.polars import from_table
from mitoframe.jobs.gc import kept_for_reader
from mitoframe.jobs.windows import window_ms
from mitoframe.model.card import ROWS_MAX, Section, card
from mitoframe.model.errors import CorruptionError, MitoError, ReadOnlyError
from mitoframe.model.flaw import flaw_of
from mitoframe.model.timerange import PER_SECOND
from mitoframe.model.wording import counted
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.file import FileMeta
    from mitoframe.model.flaw import Flaw
    from mitoframe.model.ids import RegionId
    from mitoframe.table import Table

SAMPLED_FILES = 16
"""The series of so many files are looked at, spread over all of them."""
FUTURE_MS = 86_400_000
"""What is later than now by more than this was written by a clock that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixResult:
    """What mending did.

    Attributes:
        done: findings that were mended, each with the result of the call that did it.
        failed: findings that could not be, each with the error.
        left: findings that have no fix, or a dangerous one that nobody asked for.

    Example:
        >>> FixResult()
        nothing to mend

    """

    done: tuple[tuple[Finding, object], ...] = ()
    failed: tuple[tuple[Finding, MitoError], ...] = ()
    left: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        lines = [f"mended  {finding.kind} of {finding.table!r}: {result!r}" for finding, result in self.done]
        lines += [f"failed  {finding.kind} of {finding.table!r}: {error}" for finding, error in self.failed]
        lines += [f"left    {finding.kind} of {finding.table!r}: {_why_left(finding)}" for finding in self.left]
        return "\n".join(lines) or "nothing to mend"

    def _repr_html_(self) -> str:
        told = {
            "Mended": [(finding, repr(result)) for finding, result in self.done],
            "Failed": [(finding, str(error)) for finding, error in self.failed],
            "Left": [(finding, _why_left(finding)) for finding in self.left],
        }
        sections = [
            Section(title=title, rows=[(each.kind, each.table, word) for each, word in rows], is_open=True)
            for title, rows in told.items()
        ]
        return card(self._summary(), sections)

    def _summary(self) -> str:
        counts = {"mended": self.done, "failed": self.failed, "left": self.left}
        return ", ".join(f"{len(every):,} {word}" for word, every in counts.items() if every) or "nothing to mend"


def _why_left(finding: Finding) -> str:
    return "dangerous, and not asked for" if finding.can_fix else finding.advice


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What `Database.doctor` found, the worst first.

    Attributes:
        tables: the tables that were looked at.
        findings: what could be better.

    Example:
        >>> import mitoframe as mito, polars as pl, datetime as dt
        >>> with mito.open("memory://", compaction_mode="manual") as db:
        ...     for hour in range(20):
        ...         frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1, hour)], "host": ["a"], "cpu": [0.5]})
        ...         options = {"compaction_window": "1d"} if hour == 0 else None
        ...         _ = db.write(frame, "cpu", time="ts", tags=["host"], options=options)
        ...         _ = db["cpu"].flush()
        ...     report = db.doctor()
        ...     [finding.kind for finding in report.findings], len(report.fix().done), db.doctor()
        (['tiny_files'], 1, nothing to say about 1 table)

    """

    tables: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def fix(self, *, dangerous: bool = False) -> FixResult:
        """Mend one after another what can be mended; what fails keeps none of the others from it.

        Args:
            dangerous: whether rows may be given up for it; else such findings are left.

        Raises:
            ReadOnlyError: the store was opened for reading.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://", compaction_mode="manual") as db:
            ...     for hour in range(20):
            ...         frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1, hour)], "host": ["a"], "cpu": [0.5]})
            ...         options = {"compaction_window": "1d"} if hour == 0 else None
            ...         _ = db.write(frame, "cpu", time="ts", tags=["host"], options=options)
            ...         _ = db["cpu"].flush()
            ...     db.doctor().fix().left
            ()

        """
        done: list[tuple[Finding, object]] = []
        failed: list[tuple[Finding, MitoError]] = []
        left: list[Finding] = []
        for finding in self.findings:
            if not finding.can_fix or (finding.is_dangerous and not dangerous):
                left.append(finding)
                continue
            try:
                done.append((finding, finding.fix(dangerous=dangerous)))
            except ReadOnlyError:
                raise
            except MitoError as error:
                failed.append((finding, error))
        return FixResult(done=tuple(done), failed=tuple(failed), left=tuple(left))

    def to_polars(self) -> pl.DataFrame:
        """Return one row per finding: table, kind, severity, what, advice, fix, evidence.

        ``fix`` is "yes", "dangerous" or null; ``evidence`` is JSON.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://") as db:
            ...     frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1)], "host": ["a"], "cpu": [0.5]})
            ...     _ = db.write(frame, "cpu", time="ts", tags=["host"])
            ...     db.doctor().to_polars().height
            0

        """
        rows = [
            {
                "table": finding.table,
                "kind": finding.kind,
                "severity": finding.severity,
                "what": finding.what,
                "advice": finding.advice,
                "fix": _fix_word(finding) or None,
                "evidence": json.dumps(dict(finding.evidence)),
            }
            for finding in self.findings
        ]
        return from_table(pa.Table.from_pylist(rows, schema=_SCHEMA))

    def __repr__(self) -> str:
        return "\n".join([self._summary(), *(f"  {finding!r}" for finding in self.findings)])

    def _summary(self) -> str:
        tables = counted(len(self.tables), "table")
        if not self.findings:
            return f"nothing to say about {tables}"
        return f"{counted(len(self.findings), 'finding')} in {tables}"

    def _repr_html_(self) -> str:
        rows = [
            (finding.severity, finding.kind, finding.table, finding.what, finding.advice, _fix_word(finding))
            for finding in self.findings[:ROWS_MAX]
        ]
        header = ("severity", "kind", "table", "what", "advice", "fix()")
        section = Section(title="Findings", rows=rows, header=header, row_count=len(self.findings), is_open=True)
        return card(self._summary(), [section])


def _fix_word(finding: Finding) -> str:
    if not finding.can_fix:
        return ""
    return "dangerous" if finding.is_dangerous else "yes"


_SCHEMA = pa.schema(
    {name: pa.string() for name in ("table", "kind", "severity", "what", "advice", "fix", "evidence")}
)  # fmt: skip


# --- looking ----------------------------------------------------------------------------------------------


def examine(engine: MitoEngine, table: Table, known: tuple[Flaw, ...] = ()) -> tuple[Finding, ...]:
    """Look at a table. ``known`` is what a verification found to be wrong with it."""
    try:
        facts = _facts(engine, table, known)
    except CorruptionError as error:  # It cannot be opened: there is nothing to see but that.
        damaged = {flaw.path: flaw for flaw in (*known, flaw_of(error, "manifest")) if flaw.grade == "damage"}
        return tuple(of_damage(table.name, flaw) for _, flaw in sorted(damaged.items()))
    return tuple(_mendable(engine, table, facts, finding) for finding in findings_of(facts))


def _facts(engine: MitoEngine, table: Table, known: tuple[Flaw, ...]) -> Facts:
    seen = engine.verifying.survey(table.region_id).of(table.name)
    state = engine.newest(table.region_id).state
    future_from = (engine.now_ms() + FUTURE_MS) * PER_SECOND[state.metadata.time_unit] // 1000
    return Facts(
        table=table.name,
        files=table.files(),
        plan=table.compaction_plan(mode="all"),
        window_ms=window_ms(state),
        ttl_ms=state.options.ttl_ms,
        sample=_sample(engine, table.region_id),
        future_from=future_from,
        future_rows=0 if state.options.ttl_ms is None else table.scan(start=future_from).count(),
        pins=tuple(_pins(engine, table.region_id)),
        flaws=tuple(dict.fromkeys((*known, *seen.flaws))),
        listed=state.files,
        time_type=state.metadata.time.type,
    )


def _pins(engine: MitoEngine, region_id: RegionId) -> Iterator[Pinned]:
    """Yield who reads a table, and what stays for him."""
    readers = engine.readers()
    state, expired_ms = engine.newest(region_id).state, engine.now_ms() - engine.config.gc_grace_ms
    for reader in readers:
        version = reader.held.of(region_id)
        if version is None:
            continue
        kept = kept_for_reader(state, version)
        yield Pinned(
            reader=reader,
            version=version,
            files=len(kept),
            size_bytes=sum(item.file.size_bytes for item in kept if item.file is not None),
            overdue_ms=max((expired_ms - item.removed_ms for item in kept if item.removed_ms < expired_ms), default=0),
        )


def _sample(engine: MitoEngine, region_id: RegionId) -> Sample:
    """Look at the tables of series of some files; those that cannot be read are left out."""
    state = engine.newest(region_id).state
    chosen = _spread(list(state.files.values()))
    if not state.metadata.tags or sum(file.series_count for file in chosen) < SERIES_MIN:
        return Sample()
    tables, rows = [], 0
    for file in chosen:
        try:
            tables.append(engine.reader.footer(state.metadata, file).series)
        except CorruptionError:
            continue
        rows += file.row_count
    if not tables:
        return Sample()
    series, _ = unify(tables)
    values = {name: pc.count_distinct(series.column(name)).as_py() for name in series.schema.names}
    return Sample(rows=rows, series=len(series), values=values)


def _spread(files: list[FileMeta]) -> list[FileMeta]:
    """Return some files, from the first to the last by time."""
    ordered = sorted(files, key=lambda file: file.min_time)
    if len(ordered) <= SAMPLED_FILES:
        return ordered
    return [ordered[place] for place in np.linspace(0, len(ordered) - 1, SAMPLED_FILES).astype(int).tolist()]


# --- mending ----------------------------------------------------------------------------------------------


def _mendable(engine: MitoEngine, table: Table, facts: Facts, finding: Finding) -> Finding:
    if _is_hopeless(finding):
        return finding
    return replace(finding, _fix=partial(_mend, engine, table, facts, finding))


def _is_hopeless(finding: Finding) -> bool:
    """Tell whether there is no call that mends it."""
    match finding.kind:
        case "damaged_file":
            return not finding.is_dangerous
        case "stale_pin":
            return not finding.evidence["is_dead"]
        case kind:
            return kind == "many_series"


def _mend(engine: MitoEngine, table: Table, facts: Facts, finding: Finding) -> object:
    match finding.kind:
        case "narrow_windows":
            table.alter(options={"compaction_window": finding.evidence["wider_window"]})
            return table.compact()
        case "tiny_files":
            return table.compact()
        case "orphans":
            return table.vacuum()
        case "stale_pin":
            engine.forget_reader(finding.evidence["identifier"])
            return table.vacuum()
        case "damaged_index":
            return _index_anew(engine, table, finding)
        case "future_times":
            keeps_every_row = engine.region(table.region_id).options.dedup == "none"
            remove = table.truncate if keeps_every_row else table.delete
            return remove(start=facts.future_from)
        case _:
            file = facts.listed[finding.evidence["file_id"]]
            return table.truncate(start=file.min_time, end=file.max_time + 1)


def _index_anew(engine: MitoEngine, table: Table, finding: Finding) -> object:
    if not engine.read_only:
        files = engine.region(table.region_id).state.files
        for file_id in finding.evidence["file_ids"]:
            if file_id in files:
                engine.indexes.distrust(files[file_id])
    return table.build_index()
