"""Runs scans: the shares of a plan on the scan lane, several at once, and what they yield in order.

What is in memory is bounded: the shares under way and a few done ones. Whoever stops drawing
stops the rest, but for what is under way. A share never waits for another, and runs nothing of Polars: so a scan goes
on however few threads Polars has, and whichever of them draws.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mitoframe.engine.errand import send
from mitoframe.engine.parts import SCAN_LANE
from mitoframe.engine.warming import Warming
from mitoframe.model.errors import ClosedError
from mitoframe.read.ends import are_told_by_ends, end_jobs
from mitoframe.read.latest import last_rows
from mitoframe.read.plan import with_expired
from mitoframe.read.scanner import counting_jobs, few_jobs, group_jobs, jobs, known_bounds, laid_out, wanted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Sequence as Many

    import pyarrow as pa

    from mitoframe.engine.errand import Errand
    from mitoframe.engine.parts import Parts
    from mitoframe.model.batch import Batch
    from mitoframe.read.counts import Counts, Found
    from mitoframe.read.plan import MergeGroup, ScanPlan

    Told = Callable[[Counts], None]

Result = TypeVar("Result")
_AHEAD = 1 + (os.cpu_count() or 1)
"""How many shares are under way or wait to be drawn."""
_LONG_SECONDS = 0.001
"""A job that takes less is done before another thread is awake, and two threads would take turns at Python's lock."""


def _nobody(_: Counts) -> None:
    """Take what was counted, if nobody asks."""


class Reading:
    """``told`` of each method gets what was counted, bit by bit, on the thread that draws."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._warming = Warming(parts.scheduler)
        self._is_over = False

    def stop(self) -> None:
        """Refuse to read on, and load nothing for queries to come: the engine is closed."""
        self._is_over = True
        self._warming.stop()

    def few_rows(self, plan: ScanPlan, columns: Many[str], told: Told = _nobody) -> list[pa.RecordBatch] | None:
        """Return the rows of a plan with these columns, if they are few; see `scanner.few_jobs`."""
        self._warming.query_begins()
        found = few_jobs(plan, self._parts.reader, columns)
        return None if found is None else list(self._viewed(plan, found, columns, told))

    def group_rows(
        self, plan: ScanPlan, group: MergeGroup, columns: Many[str], told: Told = _nobody
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a group that is merged, with these columns."""
        return self._viewed(plan, group_jobs(plan, group, self._parts.reader, columns), columns, told)

    def sorted_batches(self, plan: ScanPlan, columns: Many[str], told: Told = _nobody) -> Iterator[Batch]:
        """Yield the rows of a plan as batches, each sorted and with a table of series of its own; no key comes twice.

        All conditions have been applied.
        """
        for found in self.in_order(jobs(plan, self._parts.reader, columns)):
            told(found.counts)
            if found.rows is not None:
                yield found.rows

    def last_rows(self, plan: ScanPlan, columns: Many[str], count: int, told: Told = _nobody) -> Iterator[Batch]:
        """Yield batches as `sorted_batches` does, with the last ``count`` rows of each series and few others."""
        everything = with_expired(plan)  # The last rows of what is kept are what is kept of the last rows.
        if not are_told_by_ends(everything):
            yield from (last_rows(rows, count) for rows in self.sorted_batches(plan, columns, told))
            return

        def run(jobs: Iterable[Callable[[], Found]]) -> Iterator[Found]:
            for found in self.in_order(jobs):
                told(found.counts)
                yield found

        for found in run(end_jobs(everything, self._parts.reader, columns, count, run)):
            rows = None if found.rows is None else _not_before(found.rows, plan.request.kept_from)
            if rows is not None:
                yield rows

    def count(self, plan: ScanPlan, told: Told = _nobody) -> int:
        """Return how many rows there are, all conditions applied. What metadata tells is not read."""
        row_count = 0
        for counts in self.in_order(counting_jobs(plan, self._parts.reader)):
            told(counts)
            row_count += counts.rows_returned
        return row_count

    def bounds(self, plan: ScanPlan) -> tuple[int, int] | None:
        """Return the first and the last time of the rows there are; None if there are none."""
        known = known_bounds(plan)
        if known is not None:
            return known
        ends = [(int(rows.times.min()), int(rows.times.max())) for rows in self.sorted_batches(plan, ())]
        return (min(first for first, _ in ends), max(last for _, last in ends)) if ends else None

    def query(self, plan: ScanPlan) -> Iterator[pa.RecordBatch]:
        """Yield the rows that a plan's request asks for, filtered in full and projected."""
        wanted = wanted_of(plan)
        for rows in self.sorted_batches(plan, wanted):
            yield from laid_out(plan, rows, wanted)

    def _viewed(
        self, plan: ScanPlan, found: Iterable[Callable[[], Found]], columns: Many[str], told: Told
    ) -> Iterator[pa.RecordBatch]:
        for batches, counts in self.in_order(partial(_viewed, plan, job, columns) for job in found):
            told(counts)
            yield from batches

    def in_order(self, todo: Iterable[Callable[[], Result]], *, at_once: bool = False) -> Iterator[Result]:
        """Do jobs and yield what they return, in their order: the next one right here if nobody has begun it, and those
        ahead of it on the scan lane; ``at_once``, or as soon as one took long enough to be worth another thread.
        """
        left = iter(todo)
        sent: deque[tuple[Callable[[], Result], Errand[Result]]] = deque()
        here = next(left, None)
        ahead = _AHEAD - 1 if at_once else 0
        try:
            while here is not None or sent:
                if here is None:
                    job, errand = sent.popleft()
                    here = job if errand.withdraw() else errand.result
                if self._is_over:
                    raise ClosedError("the store was closed while this was read; open it again.")
                sent.extend((job, self._send(job)) for job in islice(left, max(ahead - len(sent), 0)))
                began = perf_counter()
                result = here()
                if perf_counter() - began >= _LONG_SECONDS:
                    ahead = _AHEAD - 1
                yield result
                here = None if sent else next(left, None)
        finally:
            for _, errand in sent:
                errand.withdraw()

    def _send(self, job: Callable[[], Result]) -> Errand[Result]:
        return send(self._parts.scheduler, SCAN_LANE, job)


def _not_before(rows: Batch, time: int) -> Batch | None:
    kept = np.flatnonzero(rows.times >= time)
    if len(kept) == len(rows):
        return rows
    return rows.take(kept) if len(kept) else None


def _viewed(plan: ScanPlan, job: Callable[[], Found], columns: Many[str]) -> tuple[list[pa.RecordBatch], Counts]:
    found = job()
    if found.rows is None:
        return [], found.counts
    return list(laid_out(plan, found.rows, columns, tags_as="view")), found.counts
