"""What could be better about a table, by what is seen of it: rules as pure functions of `Facts`.

Facts are frames that everybody can look at (`Table.files`, `Table.compaction_plan`) and a few values. `doctor.py`
gathers them, and knows the call that mends a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa

from mitoframe.model.card import Section, card
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.wording import counted

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

    from mitoframe.model.file import FileMeta
    from mitoframe.model.flaw import Flaw
    from mitoframe.model.ids import FileId, ManifestVersion
    from mitoframe.ports import Reader

Severity = Literal["info", "warning", "damage"]

SMALL_BYTES = 1024 * 1024
"""A file, or what a window holds, is small below this: opening it costs as much as reading it."""
SMALL_FILES_MIN = 16
"""So many small files that could be joined are worth a finding."""
WINDOWS_MIN = 32
"""In fewer windows than this it does not matter how little each holds."""
WINDOW_GOAL_BYTES = 8 * 1024 * 1024
"""A window is to hold as much as this."""
SERIES_MIN = 10_000
ROWS_PER_SERIES_MIN = 8
"""So many series with fewer rows than this each are no time series any more."""
STALE_MS = 86_400_000
"""A reader for whom files stay so much longer than they otherwise would has been forgotten."""
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
WINDOW_CHOICES_MS = (_HOUR_MS, 2 * _HOUR_MS, 12 * _HOUR_MS, *(days * _DAY_MS for days in (1, 7, 28, 364)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that could be better.

    Attributes:
        kind: ``"tiny_files"``, ``"narrow_windows"``, ``"many_series"``, ``"future_times"``, ``"stale_pin"``,
            ``"orphans"``, ``"damaged_file"`` or ``"damaged_index"``.
        table: the table's name.
        severity: ``"info"``, ``"warning"`` or ``"damage"``.
        what: what was seen, in a sentence.
        evidence: the figures behind it.
        advice: what to do.
        is_dangerous: whether `fix` gives rows up for good.

    Example:
        >>> finding = Finding(kind="tiny_files", table="cpu", severity="info", what="40 of 41 files are small",
        ...                   evidence={"small_files": 40}, advice="Join them with compact().")
        >>> finding
        info     tiny_files      'cpu': 40 of 41 files are small. Join them with compact().
        >>> finding.can_fix
        False

    """

    kind: str
    table: str
    severity: Severity
    what: str
    evidence: Mapping[str, Any]
    advice: str
    is_dangerous: bool = False
    _fix: Callable[[], object] | None = field(default=None, compare=False)

    @property
    def can_fix(self) -> bool:
        """Whether there is a call that mends it."""
        return self._fix is not None

    def fix(self, *, dangerous: bool = False) -> object:
        """Do what mends it, and return the result of the call that does.

        Args:
            dangerous: whether rows may be given up for it.

        Raises:
            InvalidInputError: there is no fix, or it is dangerous and nobody said that it may be.
            ReadOnlyError: the store was opened for reading.

        Example:
            >>> import mitoframe as mito, polars as pl, datetime as dt
            >>> with mito.open("memory://", compaction_mode="manual") as db:
            ...     for hour in range(20):
            ...         frame = pl.DataFrame({"ts": [dt.datetime(2024, 1, 1, hour)], "host": ["a"], "cpu": [0.5]})
            ...         options = {"compaction_window": "1d"} if hour == 0 else None
            ...         _ = db.write(frame, "cpu", time="ts", tags=["host"], options=options)
            ...         _ = db["cpu"].flush()
            ...     [finding] = db.doctor().findings
            ...     finding.fix()
            merged 20 files (...) into 1 file (...)

        """
        if self._fix is None:
            raise InvalidInputError(f"{self.kind} of {self.table!r} cannot be mended by itself. {self.advice}")
        if self.is_dangerous and not dangerous:
            raise InvalidInputError(
                f"mending {self.kind} of {self.table!r} gives rows up for good: {self.advice} "
                "Call fix(dangerous=True) if that is meant."
            )
        return self._fix()

    def __repr__(self) -> str:
        return f"{self.severity:<7}  {self.kind:<14}  {self.table!r}: {self.what}. {self.advice}"

    def _repr_html_(self) -> str:
        rows = [(name, str(value)) for name, value in self.evidence.items()]
        return card(repr(self), [Section(title="Evidence", rows=rows, note=" ")])


# --- the rules --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The series of some files of a table: ``values`` says how many there are of each tag."""

    rows: int = 0
    series: int = 0
    values: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What a process that reads keeps of a table.

    Attributes:
        reader: the process.
        files: how many files that are not listed any more stay for it.
        size_bytes: their size.
        overdue_ms: for how long the first of them would have been gone without it.

    """

    reader: Reader
    version: ManifestVersion
    files: int = 0
    size_bytes: int = 0
    overdue_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules look at.

    Attributes:
        table: its name.
        files: what `Table.files` returns.
        plan: what `Table.compaction_plan` returns with ``mode="all"``.
        window_ms: how long a compaction window is.
        ttl_ms: the time to live, None if there is none.
        sample: the series of some files.
        future_from: the first time that no right clock can have written by now, in the time column's unit.
        future_rows: how many rows are not earlier.
        pins: the processes that read it, and what stays for them.
        flaws: what is known to be wrong with what is stored.
        listed: the files that are listed, by identifier.
        time_type: the type of the time column.

    """

    table: str
    files: pl.DataFrame
    plan: pl.DataFrame
    window_ms: int
    ttl_ms: int | None = None
    sample: Sample = field(default_factory=Sample)
    future_from: int = 0
    future_rows: int = 0
    pins: tuple[Pinned, ...] = ()
    flaws: tuple[Flaw, ...] = ()
    listed: Mapping[FileId, FileMeta] = field(default_factory=dict)
    time_type: pa.DataType = field(default_factory=lambda: pa.timestamp("ms"))


def damaged_files(facts: Facts) -> Iterator[Finding]:
    """What cannot be read, or may be read wrongly, object by object."""
    damaged = {flaw.path: flaw for flaw in reversed(facts.flaws) if flaw.grade == "damage"}
    for _, flaw in sorted(damaged.items()):
        file = None if flaw.file_id is None else facts.listed.get(flaw.file_id)
        yield of_damage(facts.table, flaw) if file is None else _of_damaged_file(facts, flaw, file)


def of_damage(table: str, flaw: Flaw) -> Finding:
    """Say that an object is damaged that no call can do without."""
    return Finding(
        kind="damaged_file",
        table=table,
        severity="damage",
        what=f"{flaw.path}: {flaw.what}",
        evidence={"path": flaw.path},
        advice="Restore it from a copy, while the store is closed.",
    )


def _of_damaged_file(facts: Facts, flaw: Flaw, file: FileMeta) -> Finding:
    first, last = shown(file.min_time, facts.time_type), shown(file.max_time, facts.time_type)
    return Finding(
        kind="damaged_file",
        table=facts.table,
        severity="damage",
        what=f"{flaw.path}: {flaw.what}",
        evidence={
            "path": flaw.path,
            "file_id": file.file_id,
            "rows": file.row_count,
            "first_time": first,
            "last_time": last,
        },
        advice=f"Restore it from a copy, or give up all rows of the table from {first} to {last}.",
        is_dangerous=True,
    )


def damaged_indexes(facts: Facts) -> Iterator[Finding]:
    """Indexes that cannot be used."""
    broken = [flaw for flaw in facts.flaws if flaw.kind == "index"]
    if broken:
        yield Finding(
            kind="damaged_index",
            table=facts.table,
            severity="warning",
            what=f"{counted(len(broken), 'index file')} cannot be used, the first because {broken[0].what}",
            evidence={"paths": [flaw.path for flaw in broken], "file_ids": [flaw.file_id for flaw in broken]},
            advice="Rows are found without; build them anew with build_index().",
        )


def future_times(facts: Facts) -> Iterator[Finding]:
    """Rows of a table with a time to live that are later than any right clock says."""
    if facts.ttl_ms is None or not facts.future_rows:
        return
    first = shown(facts.future_from, facts.time_type)
    yield Finding(
        kind="future_times",
        table=facts.table,
        severity="warning",
        what=f"{counted(facts.future_rows, 'row')} not before {first}, more than a day from now, of a table with a ttl",
        evidence={"rows": facts.future_rows, "from": first, "ttl_ms": facts.ttl_ms},
        advice="They stay for as much longer. Delete them, if their clock was wrong, with delete(start=...).",
        is_dangerous=True,
    )


def narrow_windows(facts: Facts) -> Iterator[Finding]:
    """Windows that hold so little each that files stay small for ever: what is in two windows is never joined."""
    plan = facts.plan
    if plan.height < WINDOWS_MIN or facts.window_ms >= WINDOW_CHOICES_MS[-1]:
        return
    median = int(cast("float", plan["size_bytes"].median()))
    if median >= SMALL_BYTES:
        return
    wider_ms = _wider(facts)
    yield Finding(
        kind="narrow_windows",
        table=facts.table,
        severity="warning",
        what=f"each of {plan.height:,} windows of {duration(facts.window_ms)} holds but {median:,} bytes or so",
        evidence={
            "windows": plan.height,
            "median_bytes": median,
            "window": duration(facts.window_ms),
            "wider_window": duration(wider_ms),
        },
        advice=f'Set a wider one, alter(options={{"compaction_window": "{duration(wider_ms)}"}}), then compact().',
    )


def _wider(facts: Facts) -> int:
    """Return the shortest window that would hold enough, or all there is."""
    first = cast("datetime", facts.plan["window_start"].min())
    last = cast("datetime", facts.plan["window_end"].max())
    span_ms = int((last - first).total_seconds() * 1000)
    bytes_per_ms = int(facts.plan["size_bytes"].sum()) / max(span_ms, 1)
    longer = [choice for choice in WINDOW_CHOICES_MS if choice > facts.window_ms]
    enough = (choice for choice in longer if choice * bytes_per_ms >= WINDOW_GOAL_BYTES or choice >= span_ms)
    return next(enough, longer[-1])


def tiny_files(facts: Facts) -> Iterator[Finding]:
    """Small files beside each other that a compaction would join."""
    small = int((facts.files["size_bytes"] < SMALL_BYTES).sum())
    merging = facts.plan.filter(facts.plan["merges"] > 0)
    joined = min(small, int(merging["files"].sum()))
    if joined < SMALL_FILES_MIN:
        return
    yield Finding(
        kind="tiny_files",
        table=facts.table,
        severity="warning",
        what=f"{small:,} of {facts.files.height:,} files have less than 1 MiB, and {joined:,} could be joined",
        evidence={
            "files": facts.files.height,
            "small_files": small,
            "could_be_joined": joined,
            "windows": merging.height,
            "mean_bytes": int(cast("float", facts.files["size_bytes"].mean())),
        },
        advice='Join them with compact(); larger writes, and compaction_mode="automatic", keep them from coming.',
    )


def many_series(facts: Facts) -> Iterator[Finding]:
    """Tags that are different in nearly every row, so that nothing is a series over time."""
    sample = facts.sample
    if sample.series < SERIES_MIN or sample.rows >= sample.series * ROWS_PER_SERIES_MIN:
        return
    tag = max(sample.values, key=lambda name: sample.values[name])
    rows, values = counted(sample.rows, "row"), counted(sample.values[tag], "value")
    yield Finding(
        kind="many_series",
        table=facts.table,
        severity="warning",
        what=f"{sample.series:,} series for {rows}; tag {tag!r} alone has {values}",
        evidence={"series": sample.series, "rows": sample.rows, "tag": tag, "values": dict(sample.values)},
        advice=f"What is different in each row belongs among the fields: write to a table without {tag!r} in its tags.",
    )


def stale_pins(facts: Facts) -> Iterator[Finding]:
    """Processes that keep files for a long time, or that have died and still seem to read."""
    for pin in facts.pins:
        if pin.reader.is_dead or pin.overdue_ms >= STALE_MS:
            yield _of_pin(facts.table, pin)


def _of_pin(table: str, pin: Pinned) -> Finding:
    reader = pin.reader
    who = "a process" if reader.process_id is None else f"process {reader.process_id} on {reader.host}"
    which = "anything" if reader.held.is_partial else f"version {pin.version}"
    does = "has died, and what it left still says that it may read" if reader.is_dead else "may read"
    return Finding(
        kind="stale_pin",
        table=table,
        severity="warning",
        what=f"{who} {does} {which}, for which {counted(pin.files, 'file')} of {pin.size_bytes:,} bytes cannot go",
        evidence={
            "pid": reader.process_id,
            "host": reader.host,
            "since": None if reader.since_ms is None else shown(reader.since_ms, pa.timestamp("ms", "UTC")),
            "version": None if reader.held.is_partial else pin.version,
            "files": pin.files,
            "size_bytes": pin.size_bytes,
            "overdue_ms": pin.overdue_ms,
            "identifier": reader.identifier,
            "is_dead": reader.is_dead,
        },
        advice=(
            "Let fix() remove what it left."
            if reader.is_dead
            else "Let go there of scans, lazy frames and tables of then, or close() the store, or end the process."
        ),
    )


def orphans(facts: Facts) -> Iterator[Finding]:
    """Objects that a crash left behind."""
    waste = [flaw for flaw in facts.flaws if flaw.kind == "orphan"]
    if waste:
        size_bytes = sum(flaw.size_bytes for flaw in waste)
        yield Finding(
            kind="orphans",
            table=facts.table,
            severity="info",
            what=f"{counted(len(waste), 'object')} of {size_bytes:,} bytes that nobody lists",
            evidence={"paths": [flaw.path for flaw in waste], "size_bytes": size_bytes},
            advice="A crash left them; vacuum() deletes them.",
        )


RULES = (damaged_files, damaged_indexes, future_times, narrow_windows, tiny_files, many_series, stale_pins, orphans)
"""The worst first; what widens windows comes before what joins files in them."""


def findings_of(facts: Facts) -> tuple[Finding, ...]:
    """Return what there is to say about a table. Pure: none of it can be mended yet."""
    return tuple(finding for rule in RULES for finding in rule(facts))


# --- words ------------------------------------------------------------------------------------------------


def shown(time: int, time_type: pa.DataType) -> str:
    return str(pa.scalar(time, pa.int64()).cast(time_type))


def duration(milliseconds: int) -> str:
    for unit, length in (("d", _DAY_MS), ("h", _HOUR_MS), ("m", 60_000), ("s", 1000)):
        if milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"
