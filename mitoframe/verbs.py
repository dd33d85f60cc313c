"""What time series are asked for, beyond rows: `Scan.last`, `Scan.resample`, `Scan.asof`, `Scan.tail`.

Each gives what the same thing written by hand in Polars gives. It is written by hand here too (`_Resampling.by_hand`,
`last_by_hand`), and done so where a condition looks at several rows, or a function or a type is not among those that
read/resample.py knows. Else rows are aggregated where they are read, sorted as the store keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from polars.exceptions import PolarsError

from mitoframe.frames.conditions import plain_predicate
from mitoframe.frames.polars import from_table, lazy_frame
from mitoframe.frames.polars_buckets import Every
from mitoframe.model.buckets import EvenBuckets
from mitoframe.model.errors import InvalidInputError, LimitExceededError, unknown_name
from mitoframe.model.ids import NO_ENTRY
from mitoframe.model.predicate import ALWAYS, Predicate, has_foreign, has_opaque
from mitoframe.model.request import ScanRequest
from mitoframe.model.schema import SEQUENCE_COLUMN
from mitoframe.model.timerange import EVERYTHING, DurationLike, TimeRange
from mitoframe.read.latest import latest as latest_of
from mitoframe.read.plan import plan_scan
from mitoframe.read.resample import Aggregation, is_supported
from mitoframe.read.resample import resample as aggregate
from mitoframe.read.scanner import jobs
from mitoframe.read.stretches import looks
from mitoframe.region.control import Snapshot

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch
    from mitoframe.model.buckets import Buckets
    from mitoframe.read.counts import Counts, Found
    from mitoframe.read.plan import ScanPlan
    from mitoframe.read.resample import Run
    from mitoframe.scan import Scan

Aggregate: TypeAlias = "str | Mapping[str, str | Sequence[str]]"
"""A function of all numeric fields, or fields and the functions of each."""
Fill: TypeAlias = 'Literal["null", "previous", "linear"] | float'
Boundary: TypeAlias = Literal["start", "end"]

Read: TypeAlias = "Callable[[], Batch | None]"
"""Reads some rows of a scan: a sorted batch, or None if there are none."""
Given = TypeVar("Given")
Made = TypeVar("Made")

FUNCTIONS = ("count", "sum", "mean", "min", "max", "first", "last", "std", "var", "median")
FUNCTIONS_KEPT_MAX = 256
"""Of so many functions and types it is remembered whether Polars has one for the other."""
RESULT_SHARE = 64
"""An answer is kept if it takes no more of the cache than one in so many parts."""
SPAN_GROWTH = 4
"""Where the latest buckets are not found in a span of time, one so many times as long is looked at before it."""
ROWS_FILLED_MAX = 100_000_000
"""So many rows, gaps included, may filling make."""


# --- which rows ------------------------------------------------------------------------------------------


class _Asked:
    """Stands for a scan to hear, from Polars, the conditions that would reach it."""

    def __init__(self) -> None:
        self.key = ""
        self.predicate: Predicate = ALWAYS

    def resolve(self, predicate: Predicate) -> _Asked:
        self.predicate = predicate
        return self

    def same_as(self, other: Any) -> bool:
        return self is other

    def rows(self, columns: Sequence[str]) -> list[pa.RecordBatch]:  # noqa: ARG002 - there are none
        return []

    def files(self) -> list[str]:
        return []

    def files_are_new(self) -> bool:
        return True

    def without_nan(self) -> frozenset[str]:
        return frozenset()

    def merges(self) -> list[Any]:
        return []


def exact_predicate(scan: Scan) -> Predicate | None:
    """Return a scan's condition as a predicate, if it says the same of every row, whatever others are looked at."""
    if scan.where is None:
        return ALWAYS
    if scan.known is not None and scan.known[0] is scan.where:
        return scan.known[1]
    return predicate_of(scan.where, scan.metadata.arrow_schema())


def predicate_of(where: pl.Expr, schema: pa.Schema) -> Predicate | None:
    """Return a condition as a predicate, if it says the same of every row, whatever rows are looked at together."""
    plain = plain_predicate(where, schema)
    if plain is not None:
        return plain
    asked = _Asked()
    plan = lazy_frame(asked, schema).filter(where).explain()
    # A condition that stays above the scan was not told, or not all of it.
    return asked.predicate if plan.startswith("RESOLVER") and not has_opaque(asked.predicate) else None


def exact_plan(scan: Scan) -> ScanPlan | None:
    """Decide what to read, if sorted batches can be had with the scan's conditions applied in full."""
    predicate = exact_predicate(scan)
    if predicate is None:
        return None
    return scan.engine.plan(scan.region_id, ScanRequest(predicate=predicate, time_range=scan.time_range))


def reads(scan: Scan, plan: ScanPlan, names: Sequence[str]) -> Iterator[Read]:
    """Yield what reads the rows of a plan with at least these columns, in parts; what is counted goes to the scan."""
    told = scan._runs.begin(plan)
    return (partial(_rows, job, told) for job in jobs(plan, scan.engine.reader, told_apart(plan, names)))


def told_apart(plan: ScanPlan, names: Sequence[str]) -> list[str]:
    """Return columns, each once, and what tells rows with one key apart where there may be several."""
    age = [SEQUENCE_COLUMN] if plan.version.state.options.dedup == "none" else []
    return list(dict.fromkeys([*names, *age]))


def _rows(job: Callable[[], Found], told: Callable[[Counts], None]) -> Batch | None:
    found = job()
    told(found.counts)
    return found.rows


def side_by_side(scan: Scan) -> Run:
    """Return what does work for each item of many on the store's scan lane, and yields the results in order."""

    def run(function: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
        return scan.engine.reading.in_order(partial(function, item) for item in items)

    return run


def remembered(scan: Scan, plan: ScanPlan, question: Hashable, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Return the answer to a question about the rows of a plan: the one that was kept, if it was asked before.

    An answer is good for one moment of the table, which is in the plan's key. A large one is not worth its memory.
    """
    if has_foreign(plan.predicate):
        return make()
    cache, key = scan.engine.cache, (plan.key, plan.predicate, question)
    kept: pl.DataFrame | None = cache.get("results", scan.region_id, key)
    if kept is None:
        kept = make()
        size_bytes = int(kept.estimated_size())
        if size_bytes <= cache.budget_bytes // RESULT_SHARE:
            cache.put("results", scan.region_id, key, kept, size_bytes)
    return kept.clone()


def _all_columns(scan: Scan) -> pl.LazyFrame:
    return replace(scan, columns=None).to_polars()


def chosen_tags(scan: Scan, by: Sequence[str] | None) -> list[str]:
    known = [tag.name for tag in scan.metadata.tags]
    if by is None:
        return known
    if isinstance(by, str):
        raise InvalidInputError(f"by={by!r} is a string; give a list, such as by=[{by!r}].")
    for name in by:
        if name not in known:
            raise InvalidInputError(f"by: {unknown_name('tag', name, known)}")
    if len(set(by)) != len(by):
        raise InvalidInputError(f"by={list(by)!r} names a tag twice.")
    return list(by)


def _fields(scan: Scan) -> dict[str, pa.DataType]:
    """Return the fields that the scan has, and their types."""
    return {
        field.name: field.type for field in scan.metadata.fields if scan.columns is None or field.name in scan.columns
    }


# --- the last rows ---------------------------------------------------------------------------------------


def last(scan: Scan, by: Sequence[str] | None = None, n: int = 1) -> pl.DataFrame:
    """Return the last rows of each group; see `Scan.last`."""
    scan.check_open()
    tags = chosen_tags(scan, by)
    count = checked_count(n)
    plan = exact_plan(scan)
    return last_by_hand(scan, tags, count) if plan is None else last_of(scan, plan, tags, count)


def checked_count(n: object, name: str = "n", what: str = "rows") -> int:
    """Refuse what is no number of rows, or ``what`` else is counted by the argument of that name."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInputError(f"{name}={n!r} is no number of {what}; give an integer of at least 1.")
    return n


def last_of(scan: Scan, plan: ScanPlan, by: Sequence[str], count: int) -> pl.DataFrame:
    """Return the last rows of each group that a plan reads, with the columns of the scan."""
    wanted = tuple(scan.columns if scan.columns is not None else scan.metadata.names)
    return remembered(scan, plan, ("last", tuple(by), count, wanted), partial(_last_of, scan, plan, by, count, wanted))


def _last_of(scan: Scan, plan: ScanPlan, by: Sequence[str], count: int, wanted: Sequence[str]) -> pl.DataFrame:
    batches = scan.engine.reading.last_rows(plan, told_apart(plan, wanted), count, scan._runs.begin(plan))
    found = latest_of(batches, plan.metadata, by=by, count=count)
    if found is None:
        return from_table(scan.metadata.arrow_schema().empty_table()).select(wanted)
    return from_table(pa.Table.from_batches([found.to_arrow(plan.metadata, wanted)]))


def last_by_hand(scan: Scan, by: Sequence[str], n: int) -> pl.DataFrame:
    """Return the last rows of each group as Polars finds them."""
    time, tags = scan.metadata.time.name, [tag.name for tag in scan.metadata.tags]
    rows = _all_columns(scan).sort(time, *tags)
    rows = rows.group_by(by, maintain_order=True).tail(n) if by else rows.tail(n)
    rows = rows.sort(*by, time, *tags)
    return rows.select(scan.columns if scan.columns is not None else scan.metadata.names).collect()


# --- aggregates per bucket -------------------------------------------------------------------------------


def resample(
    scan: Scan,
    every: DurationLike,
    agg: Aggregate,
    *,
    by: Sequence[str] | None = None,
    fill: Fill | None = None,
    boundary: Boundary = "start",
    latest: int | None = None,
) -> pl.DataFrame:
    """Return aggregates per group and bucket; see `Scan.resample`."""
    scan.check_open()
    tags = chosen_tags(scan, by)
    width = Every.parse(every, scan.metadata)
    aggregations = _aggregations(agg, _fields(scan), [*tags, scan.metadata.time.name])
    _check_filling(fill, boundary)
    count = None if latest is None else checked_count(latest, "latest", "buckets")
    made = _Resampling(scan=scan, every=width, by=tags, aggregations=aggregations)
    # What a gap is filled with may come from any bucket before it, and a group's last buckets may be of any time.
    frame, buckets = made.frame(with_gaps=fill is not None, latest=None if fill is not None or tags else count)
    if fill is not None:
        frame = _Filling(scan=scan, by=tags, names=[each.name for each in aggregations]).filled(frame, buckets, fill)
    if count is not None:
        frame = frame.group_by(tags, maintain_order=True).tail(count) if tags else frame.tail(count)
    time = scan.metadata.time.name
    return frame.with_columns(width.next(time)) if boundary == "end" else frame


def _aggregations(agg: Aggregate, fields: Mapping[str, pa.DataType], taken: Sequence[str]) -> list[Aggregation]:
    if isinstance(agg, str):
        agg = {name: agg for name, data_type in fields.items() if _is_number(data_type)}
    if not isinstance(agg, Mapping):
        raise InvalidInputError(f'agg is a {type(agg).__name__}; give a function, "mean", or {{"field": "mean"}}.')
    found: list[Aggregation] = []
    for field, functions in agg.items():
        if field not in fields:
            raise InvalidInputError(f"agg: {unknown_name('field', field, fields)}")
        many = None if isinstance(functions, str) else functions
        for function in [str(functions)] if many is None else many:
            _check_function(field, fields[field], function)
            found.append(
                Aggregation(field=field, function=function, name=field if many is None else f"{field}_{function}")
            )
    names = [*taken, *(each.name for each in found)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError(f"agg makes two columns named {twice!r}; leave one out.")
    if not found:
        raise InvalidInputError("agg asks for nothing: there is no numeric field, or no function was given.")
    return found


def _is_number(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(data_type) or pa.types.is_floating(data_type) or pa.types.is_decimal(data_type))


def _check_function(field: str, data_type: pa.DataType, function: object) -> None:
    if function not in FUNCTIONS:
        raise InvalidInputError(f"agg: {unknown_name('function', str(function), FUNCTIONS)}")
    if not _exists(data_type, str(function)):
        raise InvalidInputError(
            f"agg: {function} of field {field!r} does not exist for its type, {data_type}; count, first and last do."
        )


@lru_cache(maxsize=FUNCTIONS_KEPT_MAX)
def _exists(data_type: pa.DataType, function: str) -> bool:
    """Ask Polars whether it has a function of values of a type."""
    column = from_table(pa.table({"field": pa.nulls(0, data_type)})).lazy()
    try:
        column.select(_call("field", function)).collect_schema()
    except PolarsError:
        return False
    return True


def _call(field: str, function: str) -> pl.Expr:
    made: pl.Expr = getattr(pl.col(field), function)()
    return made


def _check_filling(fill: object, boundary: object) -> None:
    is_number = isinstance(fill, int | float) and not isinstance(fill, bool)
    if fill is not None and not is_number and fill not in ("null", "previous", "linear"):
        raise InvalidInputError(f'fill={fill!r} is not one of "null", "previous", "linear", a number or None.')
    if boundary not in ("start", "end"):
        raise InvalidInputError(f'boundary={boundary!r} is not one of "start" and "end".')


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resampling:
    scan: Scan
    every: Every
    by: Sequence[str]
    aggregations: Sequence[Aggregation]

    def frame(self, *, with_gaps: bool, latest: int | None = None) -> tuple[pl.DataFrame, Buckets | None]:
        """Return the aggregates of buckets that have rows, in order, and the buckets, if they are known.

        Buckets before the ``latest`` so many may be left out. Requires: then there is one group.
        """
        plan = exact_plan(self.scan)
        times = None if plan is None else _times(plan, whole=with_gaps)
        buckets = None if times is None else self.every.buckets(*times)
        if plan is None or (times is not None and buckets is None) or not self._is_supported():
            return self._by_hand(with_gaps=with_gaps, buckets=buckets)
        if buckets is None:
            return self._nothing(), None
        if latest is not None and times is not None and isinstance(buckets, EvenBuckets):
            asked = ("latest", latest, self.every.text, times, tuple(self.aggregations))
            make = partial(self._from_the_end, plan, buckets, times, latest)
            return remembered(self.scan, plan, asked, make), buckets
        question = ("resample", self.every.text, times, tuple(self.by), tuple(self.aggregations))
        return remembered(self.scan, plan, question, partial(self._of_all, plan, buckets)), buckets

    def _of_all(self, plan: ScanPlan, buckets: Buckets) -> pl.DataFrame:
        return self._aggregated(plan, buckets, self.scan._runs.begin(plan))

    def _from_the_end(self, plan: ScanPlan, buckets: EvenBuckets, times: tuple[int, int], latest: int) -> pl.DataFrame:
        """Look at spans of time that grow, from the end backwards, until enough buckets with rows are found."""
        told = self.scan._runs.begin(plan)
        first, last = times
        end, span = plan.time_range.end, latest * buckets.width
        start = last - (last - buckets.origin) % buckets.width + buckets.width - span
        found = [self._aggregated(_within_times(plan, start, end), buckets, told)]
        while sum(map(len, found)) < latest and start > first:
            end, span = start, SPAN_GROWTH * span
            start = end - span
            found.append(self._aggregated(_within_times(plan, start, end), buckets, told))
        return pl.concat(reversed(found))

    def _aggregated(self, plan: ScanPlan, buckets: Buckets, told: Callable[[Counts], None]) -> pl.DataFrame:
        made = aggregate(
            looks(plan, self.scan.engine.reader, self._columns(plan), told),
            plan.metadata,
            by=self.by,
            buckets=buckets,
            aggregations=self.aggregations,
            run=side_by_side(self.scan),
        )
        return pl.DataFrame(made)

    def _columns(self, plan: ScanPlan) -> list[str]:
        """Name what must be read: of rows with one key, only who picks one must know which is newer."""
        fields = list(dict.fromkeys(each.field for each in self.aggregations))
        return told_apart(plan, fields) if self._picks_rows() else fields

    def _picks_rows(self) -> bool:
        return any(each.function in ("first", "last") for each in self.aggregations)

    def _is_supported(self) -> bool:
        types = {field.name: field.type for field in self.scan.metadata.fields}
        return all(is_supported(types[each.field], each.function) for each in self.aggregations)

    def _by_hand(self, *, with_gaps: bool, buckets: Buckets | None) -> tuple[pl.DataFrame, Buckets | None]:
        frame = self.by_hand(_all_columns(self.scan)).collect()
        if with_gaps and buckets is None and len(frame):
            ticks = frame[self.scan.metadata.time.name].to_physical()
            first, last = _within(self.scan, int(ticks.min()), int(ticks.max()))  # type: ignore[arg-type]
            buckets = self.every.buckets(first, last)
        return frame, buckets

    def _nothing(self) -> pl.DataFrame:
        return self.by_hand(from_table(self.scan.metadata.arrow_schema().empty_table()).lazy()).collect()

    def by_hand(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Aggregate as Polars does. Of rows with one time the order is that of their tags."""
        time, tags = self.scan.metadata.time.name, [tag.name for tag in self.scan.metadata.tags]
        if self._picks_rows():
            rows = rows.sort(time, *tags)
        made = [_call(each.field, each.function).alias(each.name) for each in self.aggregations]
        return rows.group_by(*self.by, self.every.truncate(time)).agg(*made).sort(*self.by, time)


def _times(plan: ScanPlan, *, whole: bool) -> tuple[int, int] | None:
    """Return the first and the last time that rows of a plan may have, or with ``whole`` that were asked for."""
    files = [*plan.direct, *(file for group in plan.groups for file in group.files)]
    spans = [(file.min_time, file.max_time) for file in files]
    spans += [(part.stats.min_time, part.stats.max_time) for group in plan.groups for part in group.buffered]
    if not spans:
        return None
    wanted = plan.time_range
    first, last = min(first for first, _ in spans), max(last for _, last in spans)
    first, last = max(first, wanted.start), min(last, wanted.end if wanted.end == EVERYTHING.end else wanted.end - 1)
    if first > last:
        return None
    return _asked_for(plan.request, first, last) if whole else (first, last)


def _within_times(plan: ScanPlan, start: int, end: int) -> ScanPlan:
    """Plan on the same rows, those with a time in [start, end)."""
    wanted = plan.time_range.intersect(TimeRange(start, end))
    snapshot = Snapshot(version=plan.version, visible=plan.visible, last_entry_id=NO_ENTRY)
    return plan_scan(snapshot, replace(plan.request, time_range=wanted))


def _asked_for(request: ScanRequest, first: int, last: int) -> tuple[int, int]:
    start, end = request.time_range.start, request.time_range.end
    return first if start == EVERYTHING.start else start, last if end == EVERYTHING.end else end - 1


def _within(scan: Scan, first: int, last: int) -> tuple[int, int]:
    return _asked_for(ScanRequest(time_range=scan.time_range), first, last)


# --- gaps ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filling:
    """Adds the buckets without rows between the first and the last of each group, or within the scan's own range."""

    scan: Scan
    by: Sequence[str]
    names: Sequence[str]

    def filled(self, frame: pl.DataFrame, buckets: Buckets | None, fill: Fill) -> pl.DataFrame:
        if not len(frame):
            return frame
        if buckets is None:
            raise LimitExceededError(
                "gaps cannot be filled: the buckets are too many, or begin before 1973 in a zone, or in an hour that "
                "the zone's clock skips. Give a scan with start and end, a wider bucket, or a time column in UTC."
            )
        return self._valued(self._spread(frame, buckets), fill)

    def _spread(self, frame: pl.DataFrame, buckets: Buckets) -> pl.DataFrame:
        """Give each group a row for every bucket, null where there was none."""
        time = self.scan.metadata.time.name
        ticks = frame[time].to_physical().to_numpy()
        first, last = _within(self.scan, int(ticks.min()), int(ticks.max()))
        if buckets.count(first, last) > ROWS_FILLED_MAX:
            raise _too_many(buckets.count(first, last))
        starts = buckets.starts(min(first, int(ticks.min())), max(last, int(ticks.max())))
        place = np.searchsorted(starts, ticks)
        group_starts = _group_starts(frame, self.by)
        group_stops = np.append(group_starts[1:], len(frame))
        low, high = place[group_starts], place[group_stops - 1]
        if self.scan.time_range.start != EVERYTHING.start:
            low = np.zeros_like(low)
        if self.scan.time_range.end != EVERYTHING.end:
            high = np.full_like(high, len(starts) - 1)
        lengths = high - low + 1
        total = int(lengths.sum())
        if total > ROWS_FILLED_MAX:
            raise _too_many(total)
        before = np.cumsum(lengths) - lengths
        source = np.full(total, -1, dtype=np.int64)
        source[place + np.repeat(before - low, group_stops - group_starts)] = np.arange(len(frame))
        bucket = starts[np.arange(total) + np.repeat(low - before, lengths)]
        rows = pl.Series(source)
        tags = frame.select(self.by)[np.repeat(group_starts, lengths)].get_columns() if self.by else []
        values = frame.select(pl.col(self.names).gather(rows.set(rows < 0, None)))
        return pl.DataFrame([*tags, pl.Series(time, bucket).cast(frame.schema[time]), *values])

    def _valued(self, frame: pl.DataFrame, fill: Fill) -> pl.DataFrame:
        if fill == "null":
            return frame
        numeric = [name for name in self.names if frame.schema[name].is_numeric()]
        if fill == "previous":
            made = pl.col(self.names).forward_fill()
        elif fill == "linear":
            if numeric != list(self.names):
                other = next(name for name in self.names if name not in numeric)
                raise InvalidInputError(f'fill="linear": column {other!r} is not numeric; fill with "previous".')
            made = pl.col(self.names).interpolate_by(self.scan.metadata.time.name)
        else:
            return frame.with_columns(pl.col(numeric).fill_null(fill))
        return frame.with_columns(made.over(self.by) if self.by else made)


def _group_starts(frame: pl.DataFrame, by: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the first row of each group of a frame that is in order."""
    if not by:
        return np.zeros(1, dtype=np.int64)
    groups = frame.select(pl.struct(by).rle_id()).to_series().to_numpy()
    return np.concatenate([np.zeros(1, dtype=np.int64), np.nonzero(groups[1:] != groups[:-1])[0] + 1])


def _too_many(rows: int) -> LimitExceededError:
    return LimitExceededError(
        f"filling the gaps makes {rows:,} rows, more than {ROWS_FILLED_MAX:,}; give a wider bucket or a shorter range."
    )
