"""The receipt of a scan: what there was, what each condition let it skip, and what was done for the rest.

What is skipped is found here once more, condition by condition, with the functions that the scan itself skips by; a
scan that nobody asks about pays nothing for it. Footers are opened, rows are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitoframe.model.card import Section, card
from mitoframe.model.predicate import ALWAYS, conjuncts, describe, key_part, series_mask, time_range
from mitoframe.model.wording import counted
from mitoframe.read.counts import NO_COUNTS
from mitoframe.read.plan import explain, show_values, with_tags
from mitoframe.read.sources import select_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Many

    from mitoframe.model.file import FileMeta
    from mitoframe.model.predicate import Predicate
    from mitoframe.read.counts import Counts
    from mitoframe.read.plan import ScanPlan
    from mitoframe.storage.sst_reader import SstReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What one condition, taken alone, lets a scan skip of what it would else look at.

    Attributes:
        condition: as text.
        skipped: how many ``of`` the ``unit`` it rules out.
        of: how many there are.
        unit: ``"files"``, ``"series"``, ``"row groups"``, or ``"rows"`` where an index tells.

    """

    condition: str
    skipped: int
    of: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What a scan reads and skips; after a run, what it did.

    Attributes:
        plan: files, groups and conditions, as text.
        rungs: what each condition let it skip, the cheapest way to find out first.
        series: how many series are read, and how many the files that are read have, added up file by file.
        row_groups: the same of row groups.
        rows: at most so many rows are looked at, and so many there are in all files.
        run: what was counted when rows were read; None before. Files that Polars reads by itself are not in it.

    """

    plan: str
    rungs: tuple[Rung, ...]
    series: tuple[int, int]
    row_groups: tuple[int, int]
    rows: tuple[int, int]
    run: Counts | None = None

    def __str__(self) -> str:
        return "\n".join([self.plan, *(f"  {name:<12}{text}" for name, text in self._lines())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        first, *rest = self.plan.split("\n")
        told = [(line[2:14].strip(), line[14:]) for line in rest]
        rows = [(name, text.strip()) for name, text in [*told, *self._lines()]]
        return card(first, [Section(title="Receipt" if self.run else "Plan", rows=rows, note=" ", is_open=True)])

    def _lines(self) -> Iterator[tuple[str, str]]:
        for rung in self.rungs:
            yield "skips", f"{rung.skipped:,} of {rung.of:,} {rung.unit} by {rung.condition}"
        yield "series", f"{_of(*self.series)}, file by file"
        yield "row groups", f"{_of(*self.row_groups)} to read, {self.row_groups[1] - self.row_groups[0]:,} pruned"
        yield "rows", f"at most {_of(*self.rows)} looked at"
        if self.run is not None:
            yield from _run_lines(self.run)


def _run_lines(run: Counts) -> Iterator[tuple[str, str]]:
    chunks = run.chunks_kept + run.chunks_read
    yield (
        "read",
        f"{run.bytes_read:,} bytes in {run.chunks_read:,} column chunks; {run.chunks_kept:,} of {chunks:,} kept",
    )
    yield "came", f"{counted(run.rows_read, 'row')}, {run.rows_shadowed:,} of them hidden by newer ones"


def _of(some: int, total: int) -> str:
    return f"{some:,} of {total:,}"


def report_on(plan: ScanPlan, reader: SstReader, run: Counts | None = None) -> ScanReport:
    """Say what a plan reads and skips."""
    metadata = plan.metadata
    opened = [(file, reader.footer(metadata, file)) for file, _ in _files(plan)]
    chosen = [
        (file, select_rows(reader, metadata, file, _allowed(plan, plan.predicate, alone=alone)))
        for file, alone in _files(plan)
    ]
    kept_series = sum(len(set(pieces.codes.tolist())) for _, pieces in chosen)
    touched = sum(
        len(pieces.row_groups(footer.starts)) for (_, pieces), (_, footer) in zip(chosen, opened, strict=True)
    )
    buffered = sum(part.stats.row_count for group in plan.groups for part in group.buffered)
    return ScanReport(
        plan=explain(plan),
        rungs=tuple(_rungs(plan, reader)),
        series=(kept_series, sum(len(footer.series) for _, footer in opened)),
        row_groups=(touched, sum(file.row_group_count for file, _ in opened)),
        rows=(
            buffered + sum(pieces.row_count for _, pieces in chosen),
            buffered + sum(file.row_count for file in plan.listed.files),
        ),
        run=run,
    )


def _files(plan: ScanPlan) -> list[tuple[FileMeta, bool]]:
    """Return the files that are read, and of each whether it stands alone."""
    merged = [(file, False) for group in plan.groups for file in group.files]
    return [*((file, True) for file in plan.direct), *merged]


def _allowed(plan: ScanPlan, predicate: Predicate, *, alone: bool) -> Predicate:
    """Return what of a condition may skip rows: where files are merged, only what looks at keys."""
    return predicate if alone else key_part(predicate, plan.metadata.key_names)


def _rungs(plan: ScanPlan, reader: SstReader) -> Iterator[Rung]:
    show = show_values(plan.metadata)
    for part in conjuncts(plan.predicate):
        for unit, how, skipped, of in (
            ("files", "", *_skipped_by_times(plan, part)),
            ("files", ", by key range", *_skipped_by_tags(plan, part)),
            ("series", "", *_skipped_series(plan, reader, part)),
            ("row groups", "", *_skipped_row_groups(plan, reader, part)),
            ("rows", ", by its index", *_skipped_by_index(plan, reader, part)),
        ):
            if skipped:
                yield Rung(condition=describe(part, show) + how, skipped=skipped, of=of, unit=unit)


def _skipped_by_times(plan: ScanPlan, part: Predicate) -> tuple[int, int]:
    files = plan.listed.files
    wanted = time_range(part, plan.metadata.time.name)
    return sum(not wanted.touches(file.min_time, file.max_time) for file in files), len(files)


def _skipped_by_tags(plan: ScanPlan, part: Predicate) -> tuple[int, int]:
    files = plan.listed.files
    return len(files) - len(with_tags(files, plan.metadata, part)), len(files)


def _skipped_series(plan: ScanPlan, reader: SstReader, part: Predicate) -> tuple[int, int]:
    skipped = of = 0
    for file, _ in _files(plan):
        series = reader.footer(plan.metadata, file).series
        mask = series_mask(part, series)
        skipped += 0 if mask is None else int((~mask).sum())
        of += len(series)
    return skipped, of


def _skipped_row_groups(plan: ScanPlan, reader: SstReader, part: Predicate) -> tuple[int, int]:
    skipped = of = 0
    for file, alone in _files(plan):
        allowed = _allowed(plan, part, alone=alone)
        if allowed != ALWAYS:
            kept = reader.matching_row_groups(plan.metadata, file, allowed)
            skipped += file.row_group_count - len(kept)
        of += file.row_group_count
    return skipped, of


def _skipped_by_index(plan: ScanPlan, reader: SstReader, part: Predicate) -> tuple[int, int]:
    """Tell how many rows indexes rule out; where files are merged, only those of a condition on keys may be asked."""
    skipped = of = 0
    for file, alone in _files(plan):
        allowed = _allowed(plan, part, alone=alone)
        found = None
        if reader.indexes is not None and allowed != ALWAYS:
            found = reader.indexes.select(plan.metadata, file, allowed)
        skipped += 0 if found is None else file.row_count - found.count
        of += file.row_count
    return skipped, of


def total(counts: Many[Counts]) -> Counts | None:
    """Add up what was counted, None if nothing was."""
    return sum(counts, NO_COUNTS) if counts else None
