"""`Scan.tail`: the last rows of a table, and those that come after them.

Rows are numbered as they are written, and a snapshot says up to where it sees. So what is new since a snapshot is what
has a higher number, whoever wrote it, in this process or another, and wherever it lies by now. Nothing is kept between
two looks but that number: no snapshot is held, no file is pinned, and who stops asking owes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import polars as pl
import pyarrow as pa

from mitoframe import verbs
from mitoframe.frames.polars import from_table
from mitoframe.model.errors import InvalidInputError, SnapshotExpiredError
from mitoframe.model.ids import Sequence
from mitoframe.model.request import ScanRequest
from mitoframe.model.timerange import DurationLike, parse_duration_ms
from mitoframe.travelling import is_of_the_past, telling_apart

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch
    from mitoframe.model.predicate import Predicate
    from mitoframe.scan import Scan
    from mitoframe.verbs import Read

Seen = TypeVar("Seen")

ROWS_SHOWN = 10
LOOKS_MAX = 5
"""So often in a row may files vanish between the moment they are listed and that they are read."""


def tail(scan: Scan, n: int | None = None) -> pl.DataFrame:
    """Return the last rows by time; see `Scan.tail`."""
    return verbs.last(scan, by=[], n=ROWS_SHOWN if n is None else n)


def follow(
    scan: Scan, n: int | None = None, *, interval: DurationLike = "1s", wait: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    """Yield the last rows, if asked for, then those that come; see `Scan.tail`. ``wait`` lets so many ms pass."""
    scan.check_open()
    interval_ms = parse_duration_ms(interval, "interval")
    if interval_ms < 1:
        raise InvalidInputError(f"interval={interval!r} is shorter than a millisecond.")
    if is_of_the_past(scan.engine):
        raise InvalidInputError("this scan is of an earlier moment, to which no rows come; leave as_of out to follow.")
    predicate = verbs.exact_predicate(scan)
    if predicate is None:
        raise InvalidInputError(
            "where looks at several rows at once, or is a function of your own, so it cannot be asked about new rows "
            "alone; follow without it, and filter the frames."
        )
    first, seen = _retried(scan, lambda: _start(scan, predicate, n))
    return _frames(scan, predicate, first, seen, interval_ms, wait)


def _frames(
    scan: Scan,
    predicate: Predicate,
    first: pl.DataFrame | None,
    seen: Sequence,
    interval_ms: int,
    wait: Callable[[int], None],
) -> Iterator[pl.DataFrame]:
    if first is not None:
        yield first
    while True:
        scan.check_open()
        rows, seen = _retried(scan, partial(_newer, scan, predicate, seen))
        if rows is None:
            wait(interval_ms)
        else:
            yield rows


def _retried(scan: Scan, look: Callable[[], Seen]) -> Seen:
    """Look again if files vanished: the writer replaced them and cleaned up since they were listed."""
    for left in range(LOOKS_MAX, 0, -1):
        try:
            with telling_apart(scan.engine, scan.region_id):
                return look()
        except SnapshotExpiredError:
            if left == 1:
                raise
    raise AssertionError("the last look returns or raises")


def _start(scan: Scan, predicate: Predicate, n: int | None) -> tuple[pl.DataFrame | None, Sequence]:
    """Return the last rows, if any are asked for, and up to where they were seen."""
    plan = scan.engine.plan(scan.region_id, ScanRequest(predicate=predicate, time_range=scan.time_range))
    return None if n is None else verbs.last_of(scan, plan, [], verbs.checked_count(n)), plan.visible


def _newer(scan: Scan, predicate: Predicate, seen: Sequence) -> tuple[pl.DataFrame | None, Sequence]:
    """Return the rows that came since, if any, and up to where they were seen now."""
    request = ScanRequest(predicate=predicate, time_range=scan.time_range, min_sequence=seen)
    plan = scan.engine.plan(scan.region_id, request)
    if plan.visible <= seen:
        return None, seen
    order = [plan.metadata.time.name, *(tag.name for tag in plan.metadata.tags)]
    wanted = list(scan.columns if scan.columns is not None else plan.metadata.names)
    names = list(dict.fromkeys([*wanted, *order]))
    batches = verbs.side_by_side(scan)(_read, verbs.reads(scan, plan, names))
    found = [batch.to_arrow(plan.metadata, names) for batch in batches if batch is not None]
    if not found:
        return None, plan.visible
    return from_table(pa.Table.from_batches(found)).sort(order).select(wanted), plan.visible


def _read(read: Read) -> Batch | None:
    return read()
