"""Aggregates per group and time bucket, from batches that are sorted already.

Of each batch one pass makes *cells*: what is known of a (group, bucket) so far, such as a count, a sum, the earliest
row. Cells of several batches are put together by adding, comparing and picking, so it does not matter how the rows of
a series are spread over batches, nor in which order these come. Batches are worked on apart from each other: whoever
calls says with ``run``, a function like ``map``, on how many threads. Rows may also come as `Stretches`, and are then
counted where they lie, packed as they are kept.

What a function means is what Polars means by it:

    count            values that are not null
    sum              nulls are left out, of nothing it is 0; small integers are summed as int64, others wrap around
    mean, var, std   nulls are left out; null of nothing, ``var`` and ``std`` (of a sample) of a single value too
    min, max         nulls and NaN are left out; NaN only where nothing but NaN is there
    first, last      by time, null or not; of rows with one time the first, or last, in order of series, then of age

NaN goes through sums and means. Sums of floats are added in another order than Polars adds them, so their last digits
may differ.

`is_supported` tells what can be done here; the rest is for others to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.kernels.aggregate import (
    add_floats,
    add_integers,
    choose,
    count_valid,
    extreme_floats,
    extreme_integers,
    first_of_runs,
    last_of_runs,
    pieces_of_codes,
    range_of_floats,
    range_of_integers,
    range_of_places,
    runs_between,
    runs_of_width,
    squares_of_floats,
    sum_floats,
    sum_integers,
    sum_packed_floats,
    sum_packed_integers,
)
from mitoframe.kernels.sort import sort_rows
from mitoframe.model.buckets import EvenBuckets
from mitoframe.model.memory import POOL
from mitoframe.read.grouping import Grouping, merged_groups
from mitoframe.read.stretches import Stretches
from mitoframe.storage.sst_reader import unpacked

if TYPE_CHECKING:
    import numpy.typing as npt

    from mitoframe.model.batch import Batch, Codes, Sequences, Take, Times
    from mitoframe.model.buckets import Buckets
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.read.stretches import Look

    Numbers: TypeAlias = npt.NDArray[Any]

Given = TypeVar("Given")
Made = TypeVar("Made")

CELLS_APART_MAX = 1 << 21
"""So many cells may wait before they are put together with those of other batches."""

CELLS_REDUCED_MIN = 4096
"""So many cells are put together before others come to them: they are still near the processor."""

_TABLE_PER_CELL = 4
_NO_NULLS = np.empty(0, dtype=np.bool_)
_TOP_BIT = np.int64(np.iinfo(np.int64).min)
_SUMS = {pa.int32(): np.int32, pa.uint32(): np.uint32, pa.uint64(): np.uint64, pa.bool_(): np.uint32}


class Run(Protocol):
    """Calls a function for each item, perhaps side by side, and yields what it returns in the order of the items."""

    def __call__(self, function: Callable[[Given], Made], items: Iterable[Given], /) -> Iterator[Made]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """A function of a field, and the name of the column that it makes."""

    field: str
    function: str
    name: str


def is_supported(data_type: pa.DataType, function: str) -> bool:
    """Tell whether `resample` can do this to a field of that type."""
    if function in ("count", "first", "last"):
        return True
    is_number = pa.types.is_integer(data_type) or pa.types.is_boolean(data_type) or pa.types.is_floating(data_type)
    return is_number and function in ("sum", "mean", "min", "max", "var", "std")


def resample(
    looks: Iterable[Look],
    metadata: RegionMetadata,
    *,
    by: Sequence[str],
    buckets: Buckets,
    aggregations: Sequence[Aggregation],
    run: Run = map,
) -> pa.RecordBatch:
    """Return a row for each group and bucket that has rows: the tags ``by``, the bucket's start, the aggregates.

    Each of ``looks`` returns sorted rows with the fields that are aggregated; it is called where ``run`` runs it, so
    that reading goes on side by side with counting. Rows come in order of group, then time.

    Requires: every aggregation `is_supported`.
    """
    grouping = Grouping(by, [tag.name for tag in metadata.tags])
    numbering = _numbering(buckets)
    work = partial(_cells_of, grouping=grouping, numbering=numbering, needs=_needs(metadata, aggregations))
    cells = _put_together(part for part in run(work, looks) if part is not None)
    types = {field.name: field.type for field in metadata.fields}
    if cells is None:
        return _empty(
            metadata, by, [(each.name, _result_type(types[each.field], each.function)) for each in aggregations]
        )
    columns = [cells.groups.column(name).take(pa.array(cells.codes)) for name in by]
    columns.append(pa.array(numbering.starts(cells.buckets)).view(metadata.time.type))
    columns += [_result(cells, each.field, types[each.field], each.function) for each in aggregations]
    names = [*by, metadata.time.name, *(each.name for each in aggregations)]
    return pa.RecordBatch.from_arrays(columns, names=names)


# --- buckets by number -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """Rows ``starts[i] <= row < stops[i]`` are of the series ``codes[i]`` and the bucket number ``buckets[i]``."""

    starts: Take
    stops: Take
    lengths: Take
    codes: Codes
    buckets: Times


class _Numbering(Protocol):
    """Buckets as numbers in their order, close to each other."""

    def runs(self, codes: Codes, starts: Take, stops: Take, times: Times) -> _Runs:
        """Cut pieces, each of the rows of one series, where buckets begin."""

    def starts(self, buckets: Times) -> Times: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Even:
    buckets: EvenBuckets

    def runs(self, codes: Codes, starts: Take, stops: Take, times: Times) -> _Runs:
        width, origin = self.buckets.width, self.buckets.origin
        starts, stops, buckets, pieces = runs_of_width(starts, stops, times, width, origin)
        return _Runs(starts=starts, stops=stops, lengths=stops - starts, codes=codes[pieces], buckets=buckets)

    def starts(self, buckets: Times) -> Times:
        return buckets * self.buckets.width + self.buckets.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    edges: Times
    numbers: Times
    labels: Times

    def runs(self, codes: Codes, starts: Take, stops: Take, times: Times) -> _Runs:
        starts, stops, stretches, pieces = runs_between(starts, stops, times, self.edges)
        buckets = self.numbers[stretches]
        return _Runs(starts=starts, stops=stops, lengths=stops - starts, codes=codes[pieces], buckets=buckets)

    def starts(self, buckets: Times) -> Times:
        return self.labels[buckets]


def _numbering(buckets: Buckets) -> _Numbering:
    if isinstance(buckets, EvenBuckets):
        return _Even(buckets=buckets)
    labels, numbers = np.unique(buckets.labels, return_inverse=True)
    return _Listed(edges=buckets.edges, numbers=numbers.astype(np.int64), labels=labels)


# --- what is kept of a cell ------------------------------------------------------------------------------

Kind: TypeAlias = Literal["count", "integers", "floats", "least", "greatest", "squares", "first", "last"]
"""What is kept of a field: how many values, their sum as integers or as floats, the least and the greatest of them,
the squared distances from their mean, and the value of the first and of the last row.
"""
_Numbers: TypeAlias = "dict[tuple[str, Kind], Numbers]"
_KINDS: dict[str, tuple[Kind, ...]] = {
    "count": ("count",),
    "mean": ("count", "floats"),
    "min": ("count", "least"),
    "max": ("count", "greatest"),
    "first": ("first",),
    "last": ("last",),
    "var": ("count", "floats", "squares"),
    "std": ("count", "floats", "squares"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What is to be kept of a field. Floats and integers are compared and summed as what they are."""

    kinds: frozenset[Kind]
    is_float: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pick:
    """One row of each cell: when it was, of which series (a row of ``_Cells.series``), how new, and a field's value."""

    times: Times
    codes: Codes
    sequences: Sequences
    values: pa.Array

    def take(self, rows: Take) -> _Pick:
        values = pc.take(self.values, pa.array(rows), boundscheck=False, memory_pool=POOL)
        return _Pick(times=self.times[rows], codes=self.codes[rows], sequences=self.sequences[rows], values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cells:
    """What is known of groups and buckets: row ``codes[i]`` of ``groups``, bucket number ``buckets[i]``."""

    groups: pa.RecordBatch
    series: pa.RecordBatch
    codes: Codes
    buckets: Times
    numbers: _Numbers
    picks: dict[tuple[str, Kind], _Pick]

    def __len__(self) -> int:
        return len(self.codes)


def _needs(metadata: RegionMetadata, aggregations: Sequence[Aggregation]) -> dict[str, _Need]:
    types = {field.name: field.type for field in metadata.fields}
    kinds: dict[str, set[Kind]] = {}
    for each in aggregations:
        is_float = pa.types.is_floating(types[each.field])
        sums: tuple[Kind, ...] = ("floats" if is_float else "integers",)
        kinds.setdefault(each.field, set()).update(sums if each.function == "sum" else _KINDS[each.function])
    return {
        name: _Need(kinds=frozenset(found), is_float=pa.types.is_floating(types[name])) for name, found in kinds.items()
    }


# --- from rows to cells ----------------------------------------------------------------------------------


def _cells_of(look: Look, *, grouping: Grouping, numbering: _Numbering, needs: dict[str, _Need]) -> _Cells | None:
    return _put_together(_cells_of_rows(rows, grouping, numbering, needs) for rows in look())


def _cells_of_rows(
    rows: Batch | Stretches, grouping: Grouping, numbering: _Numbering, needs: dict[str, _Need]
) -> _Cells:
    groups, numbers_of_groups = grouping.of(rows.series)
    runs = _runs(rows, numbering)
    numbers: _Numbers = {}
    picks: dict[tuple[str, Kind], _Pick] = {}
    for name, need in needs.items():
        column = rows.fields.column(name)
        for kind, found in _numbers(column, need, runs):
            numbers[name, kind] = found
        for kind in need.kinds & {"first", "last"}:
            picks[name, kind] = _picked(rows, runs, column, kind)
    cells = _Cells(
        groups=groups,
        series=rows.series,
        codes=numbers_of_groups[runs.codes],
        buckets=runs.buckets,
        numbers=numbers,
        picks=picks,
    )
    return _reduced(cells) if len(cells) >= CELLS_REDUCED_MIN else cells


def _runs(rows: Batch | Stretches, numbering: _Numbering) -> _Runs:
    if isinstance(rows, Stretches):
        return numbering.runs(rows.pieces.codes, rows.pieces.starts, rows.pieces.stops, rows.times)
    bounds = pieces_of_codes(rows.codes)
    return numbering.runs(rows.codes[bounds[:-1]], bounds[:-1], bounds[1:], rows.times)


def _picked(rows: Batch | Stretches, runs: _Runs, column: pa.Array, kind: Kind) -> _Pick:
    """Choose the first or the last row of each run."""
    chosen = (first_of_runs if kind == "first" else last_of_runs)(rows.times, runs.starts, runs.stops)
    values = pc.take(column, pa.array(chosen), boundscheck=False, memory_pool=POOL)
    if isinstance(rows, Stretches):
        sequences = np.full(len(chosen), rows.sequence, dtype=np.uint64)
    else:
        sequences = rows.sequences[chosen]
    return _Pick(times=rows.times[chosen], codes=runs.codes, sequences=sequences, values=unpacked(values))


def _numbers(column: pa.Array, need: _Need, runs: _Runs) -> Iterator[tuple[Kind, Numbers]]:
    """Yield what is to be kept of the values of each run."""
    kinds = need.kinds - {"first", "last"}
    if not kinds:
        return
    if pa.types.is_dictionary(column.type):
        if _is_counted_packed(column, kinds):
            yield from _numbers_of_packed(column, kinds, runs)
            return
        column = unpacked(column)
    starts, stops = runs.starts, runs.stops
    valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else _NO_NULLS
    count = count_valid(valid, starts, stops) if len(valid) else runs.lengths
    if "count" in kinds:
        yield "count", count
    if "integers" in kinds:
        yield "integers", sum_integers(_words(column), valid, starts, stops)
    if kinds & {"least", "greatest"}:
        if need.is_float:
            extremes: tuple[Numbers, Numbers] = range_of_floats(_float_bits(column), valid, starts, stops)
        else:
            extremes = range_of_integers(_ordered_words(column), valid, starts, stops)
        if "least" in kinds:
            yield "least", extremes[0]
        if "greatest" in kinds:
            yield "greatest", extremes[1]
    if "floats" in kinds:
        bits = _float_bits(column)
        sums = sum_floats(bits, valid, starts, stops)
        yield "floats", sums
        if "squares" in kinds:
            yield "squares", squares_of_floats(bits, valid, starts, stops, _mean(sums, count).view(np.int64))


# --- from packed columns to numbers ------------------------------------------------------------------------


def _is_counted_packed(column: pa.DictionaryArray, kinds: frozenset[Kind]) -> bool:
    """Tell whether a packed column need not be unpacked: it has no nulls, and extremes are those of places."""
    if column.indices.null_count or "squares" in kinds:
        return False
    if not kinds & {"least", "greatest"}:
        return True
    values = _raw(column.dictionary)
    return bool((values[1:] >= values[:-1]).all())


def _numbers_of_packed(
    column: pa.DictionaryArray, kinds: frozenset[Kind], runs: _Runs
) -> Iterator[tuple[Kind, Numbers]]:
    values, places, starts, stops = column.dictionary, _raw(column.indices), runs.starts, runs.stops
    if "count" in kinds:
        yield "count", runs.lengths
    if "integers" in kinds:
        yield "integers", sum_packed_integers(places, _words(values), starts, stops)
    if "floats" in kinds:
        yield "floats", sum_packed_floats(places, _float_bits(values), starts, stops)
    if kinds & {"least", "greatest"}:
        ordered = _raw(values) if pa.types.is_floating(values.type) else _ordered_words(values)
        least, greatest = range_of_places(places, starts, stops)
        if "least" in kinds:
            yield "least", ordered[least]
        if "greatest" in kinds:
            yield "greatest", ordered[greatest]


# --- columns as words ----------------------------------------------------------------------------------------


def _raw(column: pa.Array) -> Numbers:
    """View a column's values; where it is null they may be anything."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    kind = column.type.to_pandas_dtype()
    if not len(column):
        return np.empty(0, dtype=kind)
    return np.frombuffer(column.buffers()[1], dtype=kind)[column.offset : column.offset + len(column)]


def _words(column: pa.Array) -> npt.NDArray[np.int64]:
    raw = _raw(column)
    return raw.view(np.int64) if raw.dtype.itemsize == 8 else raw.astype(np.int64)


def _ordered_words(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return int64 that compare as the column's integers do."""
    return _words(column) ^ _TOP_BIT if pa.types.is_uint64(column.type) else _words(column)


def _float_bits(column: pa.Array) -> npt.NDArray[np.int64]:
    return _raw(column).astype(np.float64, copy=False).view(np.int64)


def _mean(sums: Numbers, counts: Numbers) -> Numbers:
    """Divide; 0 where there is nothing."""
    means: Numbers = sums / np.maximum(counts, 1)
    return means


# --- from cells to fewer cells -----------------------------------------------------------------------------


def _put_together(parts: Iterable[_Cells]) -> _Cells | None:
    """Combine all cells, now and then on the way so that not too many wait."""
    pile: list[_Cells] = []
    apart = 0
    for part in parts:
        pile.append(part)
        apart += len(part)
        if apart > max(CELLS_APART_MAX, 2 * len(pile[0])):
            pile, apart = [_combined(pile)], 0
    return _combined(pile) if pile else None


def _combined(parts: Sequence[_Cells]) -> _Cells:
    if len(parts) == 1:
        return _reduced(parts[0])
    groups, numbers_of_groups = _in_one_order([part.groups for part in parts])
    series, ranks = groups, numbers_of_groups
    if parts[0].picks and any(part.series is not part.groups for part in parts):
        series, ranks = _in_one_order([part.series for part in parts])
    together = _Cells(
        groups=groups,
        series=series,
        codes=np.concatenate([numbers[part.codes] for numbers, part in zip(numbers_of_groups, parts, strict=True)]),
        buckets=np.concatenate([part.buckets for part in parts]),
        numbers=_numbers_together([part.numbers for part in parts]),
        picks={key: _joined([part.picks[key] for part in parts], ranks) for key in parts[0].picks},
    )
    return _reduced(together)


def _numbers_together(parts: Sequence[_Numbers]) -> _Numbers:
    """Put arrays after each other. Fields without nulls share their counts, before and after."""
    made: dict[tuple[int, ...], Numbers] = {}
    together: _Numbers = {}
    for key in parts[0]:
        found = [part[key] for part in parts]
        identity = tuple(map(id, found))
        if identity not in made:
            made[identity] = np.concatenate(found)
        together[key] = made[identity]
    return together


def _in_one_order(tables: Sequence[pa.RecordBatch]) -> tuple[pa.RecordBatch, list[Codes]]:
    """Do as `merged_groups` for tables that are each in order; the parts of a file have one and the same."""
    if all(table is tables[0] for table in tables):
        return tables[0], [np.arange(len(tables[0]), dtype=np.int32)] * len(tables)
    return merged_groups(tables)


def _joined(picks: Sequence[_Pick], ranks: Sequence[Codes]) -> _Pick:
    return _Pick(
        times=np.concatenate([pick.times for pick in picks]),
        codes=np.concatenate([rank[pick.codes] for rank, pick in zip(ranks, picks, strict=True)]),
        sequences=np.concatenate([pick.sequences for pick in picks]),
        values=pa.concat_arrays([pick.values for pick in picks], memory_pool=POOL),
    )


def _reduced(cells: _Cells) -> _Cells:
    """Order cells by group and bucket, and make one of those that share both."""
    if _is_rising(cells.codes, cells.buckets):
        return cells
    places, first = _places(cells.codes, cells.buckets, len(cells.groups))
    count = len(first)
    numbers: _Numbers = {}
    counts_made: dict[int, Numbers] = {}
    for key, found in cells.numbers.items():
        if key[1] == "count":
            if id(found) not in counts_made:
                counts_made[id(found)] = _added("count", found, places, count)
            numbers[key] = counts_made[id(found)]
        elif key[1] != "squares":
            numbers[key] = _added(key[1], found, places, count)
    for (name, kind), found in cells.numbers.items():
        if kind == "squares":
            counts = cells.numbers[name, "count"]
            mean = _mean(numbers[name, "floats"], numbers[name, "count"])
            moved = _moved(found, counts, _mean(cells.numbers[name, "floats"], counts), mean[places])
            numbers[name, kind] = add_floats(moved.view(np.int64), places, count)
    return replace(
        cells,
        codes=cells.codes[first],
        buckets=cells.buckets[first],
        numbers=numbers,
        picks={key: _chosen(pick, places, count, key[1]) for key, pick in cells.picks.items()},
    )


def _is_rising(codes: Codes, buckets: Times) -> bool:
    if (codes[1:] < codes[:-1]).any():
        return False
    return bool(((codes[1:] > codes[:-1]) | (buckets[1:] > buckets[:-1])).all())


def _places(codes: Codes, buckets: Times, groups: int) -> tuple[Take, Take]:
    """Return where each cell goes among the distinct ones in order, and one cell for each of these."""
    low = int(buckets.min())
    span = int(buckets.max()) - low + 1
    if groups * span <= _TABLE_PER_CELL * len(codes):
        return _places_by_table(codes * np.int64(span) + (buckets - low), groups * span)
    order = sort_rows(codes, groups, buckets, np.zeros(len(codes), dtype=np.uint64))
    codes, buckets = codes[order], buckets[order]
    is_new = np.ones(len(codes), dtype=np.bool_)
    is_new[1:] = (codes[1:] != codes[:-1]) | (buckets[1:] != buckets[:-1])
    places = np.empty(len(codes), dtype=np.int64)
    places[order] = np.cumsum(is_new) - 1
    return places, order[is_new]


def _places_by_table(keys: Take, size: int) -> tuple[Take, Take]:
    """Do it with a table of all keys that there may be."""
    cell_of_key = np.full(size, -1, dtype=np.int64)
    cell_of_key[keys] = np.arange(len(keys))
    is_there = cell_of_key >= 0
    return (np.cumsum(is_there) - 1)[keys], cell_of_key[is_there]


def _added(kind: Kind, found: Numbers, places: Take, count: int) -> Numbers:
    is_float = found.dtype == np.float64
    words = found.view(np.int64)
    if kind in ("least", "greatest"):
        return (extreme_floats if is_float else extreme_integers)(words, places, count, kind == "greatest")
    return (add_floats if is_float else add_integers)(words, places, count)


def _moved(squares: Numbers, counts: Numbers, means: Numbers, mean: Numbers) -> Numbers:
    """Return squared distances from ``means`` as distances from another ``mean`` (Chan, Golub and LeVeque)."""
    with np.errstate(invalid="ignore", over="ignore"):  # Infinities give NaN, as they should.
        away = means - mean
        moved: Numbers = squares + counts * away * away
    return moved


def _chosen(pick: _Pick, places: Take, count: int, kind: Kind) -> _Pick:
    return pick.take(choose(pick.times, pick.codes, pick.sequences, places, count, kind == "last"))


# --- from cells to columns -----------------------------------------------------------------------------------


def _result_type(data_type: pa.DataType, function: str) -> pa.DataType:
    if function == "count":
        return pa.uint32()
    if function in ("mean", "var", "std"):
        return pa.float32() if pa.types.is_float32(data_type) else pa.float64()
    if function == "sum" and not pa.types.is_floating(data_type):
        return pa.from_numpy_dtype(_SUMS.get(data_type, np.int64))
    return data_type


def _result(cells: _Cells, name: str, data_type: pa.DataType, function: str) -> pa.Array:
    if function in ("first", "last"):
        return cells.picks[name, "first" if function == "first" else "last"].values
    made = _result_type(data_type, function)
    if function == "count":
        return _array(cells.numbers[name, "count"], made)
    if function == "sum":
        return _array(cells.numbers[name, "floats" if pa.types.is_floating(data_type) else "integers"], made)
    count = cells.numbers[name, "count"]
    if function in ("min", "max"):
        found = cells.numbers[name, "least" if function == "min" else "greatest"]
        return _array(found ^ _TOP_BIT if pa.types.is_uint64(data_type) else found, made, count < 1)
    if function == "mean":
        return _array(_mean(cells.numbers[name, "floats"], count), made, count < 1)
    variance = cells.numbers[name, "squares"] / np.maximum(count - 1, 1)
    return _array(np.sqrt(variance) if function == "std" else variance, made, count < 2)


def _array(values: Numbers, data_type: pa.DataType, mask: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    with np.errstate(over="ignore"):  # A float64 that is too large for a float32 is infinite there.
        return pa.array(values.astype(data_type.to_pandas_dtype(), copy=False), data_type, mask=mask)


def _empty(metadata: RegionMetadata, by: Sequence[str], made: Sequence[tuple[str, pa.DataType]]) -> pa.RecordBatch:
    tags = {tag.name: tag.type for tag in metadata.tags}
    schema = pa.schema([*((name, tags[name]) for name in by), (metadata.time.name, metadata.time.type), *made])
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
