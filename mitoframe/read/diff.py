"""Which rows came, changed and went between two moments, without reading what is the same in both.

1. Files that only one of the moments has, or that hold rows which only one of them sees, may hold a difference; so may
   memtables, and times that had expired at one of the moments and not at the other: what has expired is a row that is
   not there any more. Where no such source has a time, nothing differs.
2. Of the times where one has, the keys and sequences of both moments are read, and no values. A row is never rewritten,
   so a key with the same sequence in both is the same row: a compaction ends here.
3. Of the keys that differ, the rows of both moments are read. A row that was written again as it was is no change.

A change is one row or two:

    insert          a row that was not there before
    update_before   a row as it was before, followed by ...
    update_after    ... the same key afterwards
    delete          a row that is not there any more

Where every row is kept (``dedup="none"``) rows have no key, and nothing is ever updated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.batch import concat_batches, concat_fields
from mitoframe.model.request import ScanRequest
from mitoframe.model.schema import SEQUENCE_COLUMN
from mitoframe.model.timerange import EVERYTHING, TIME_MIN, TimeRange, connected
from mitoframe.read.plan import ScanPlan, plan_scan
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Batch, Codes, Sequences, Times
    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.control import Snapshot
    from mitoframe.storage.memtable import RangeStats

    Mask = npt.NDArray[np.bool_]
    Positions = npt.NDArray[np.int64]

CHANGE_COLUMN = "__change"
INSERT, UPDATE_BEFORE, UPDATE_AFTER, DELETE = "insert", "update_before", "update_after", "delete"
_ONLY_ADDING = ("create", "alter", "backfill")
_ABSENT = -1

RowsOf: TypeAlias = Callable[[ScanPlan, "Many[str]"], Iterator["Batch"]]
"""Reads a plan: sorted batches with the named columns, no key twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Two moments of one region, to be read in one schema: the newer of theirs.

    Rows with times before ``kept_before`` had expired at the first, and those before ``kept_after`` at the second.
    """

    before: Snapshot
    after: Snapshot
    kept_before: int = TIME_MIN
    kept_after: int = TIME_MIN

    @property
    def metadata(self) -> RegionMetadata:
        both = self.before.version.state.metadata, self.after.version.state.metadata
        return max(both, key=lambda metadata: metadata.schema_version)

    @property
    def keeps_every_row(self) -> bool:
        """Tell whether rows have no key, but are known by their sequence."""
        return any(snapshot.version.state.options.dedup == "none" for snapshot in (self.before, self.after))

    @property
    def fills_alike(self) -> bool:
        """Tell whether a row with the same newest version has the same values in both.

        A merged row has values of older versions too; one of those may have been taken away below it, or brought back.
        """
        merges = any(snapshot.version.state.options.dedup == "merge" for snapshot in (self.before, self.after))
        first, last = sorted(snapshot.version.manifest_version for snapshot in (self.before, self.after))
        past = max((self.before, self.after), key=lambda snapshot: snapshot.version.state.version).version.state.past
        between = (entry for entry in past.entries if first < entry.version <= last)
        return not merges or all(entry.is_neutral or entry.what in _ONLY_ADDING for entry in between)

    def sides(self) -> tuple[_Side, _Side]:
        """Return both, in one schema."""
        return (
            _Side(snapshot=self._fitted(self.before), kept_from=self.kept_before),
            _Side(snapshot=self._fitted(self.after), kept_from=self.kept_after),
        )

    def _fitted(self, snapshot: Snapshot) -> Snapshot:
        version = snapshot.version
        if version.state.metadata == self.metadata:
            return snapshot
        fitted = replace(version.state, metadata=self.metadata)
        return replace(snapshot, version=replace(version, state=fitted))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    snapshot: Snapshot
    kept_from: int

    def plan(self, span: TimeRange) -> ScanPlan:
        return plan_scan(self.snapshot, ScanRequest(time_range=span, kept_from=self.kept_from))


def schema_of(metadata: RegionMetadata) -> pa.Schema:
    """Return the columns of a table of changes: those of the table, and what happened."""
    return metadata.arrow_schema().append(pa.field(CHANGE_COLUMN, pa.large_string()))


def changes(
    moments: Moments, rows_of: RowsOf, columns: Many[str], within: TimeRange = EVERYTHING
) -> Iterator[pa.RecordBatch]:
    """Yield what changed in a range of times, with these columns, in the order of keys for each stretch of time."""
    for span in differing_times(moments, within):
        keys = _differing_keys(moments, rows_of, span)
        if keys is not None:
            yield _laid_out(moments, keys, rows_of, columns)


# --- where to look ----------------------------------------------------------------------------------------


def differing_times(moments: Moments, within: TimeRange = EVERYTHING) -> list[TimeRange]:
    """Return the ranges of times in which something may differ, in order; no two have a time in common."""
    spans = [span for span in _differing_spans(moments) if within.touches(*span)]
    groups = connected(spans, lambda span: span[0], lambda span: span[1])
    return [TimeRange(group[0][0], max(last for _, last in group) + 1).intersect(within) for group in groups]


def _differing_spans(moments: Moments) -> Iterator[tuple[int, int]]:
    """Yield the first and the last time of each source that the moments do not share."""
    before, after = moments.before, moments.after
    low, high = sorted((before.visible, after.visible))
    files = before.version.state.files, after.version.state.files
    for file_id in files[0].keys() | files[1].keys():
        file = files[0].get(file_id) or files[1][file_id]
        is_shared = file_id in files[0] and file_id in files[1]
        if not is_shared or (low < file.max_sequence and file.min_sequence <= high and low != high):
            yield file.min_time, file.max_time
    for memtable in {memtable for some in (before, after) for memtable in some.version.memtables}:
        for part in memtable.ranges():
            if part.stats.max_sequence > low and part.stats.min_sequence <= high:
                yield part.stats.min_time, part.stats.max_time
    yield from _expiring_spans(moments)


def _expiring_spans(moments: Moments) -> Iterator[tuple[int, int]]:
    """Yield the times that had expired at one of the moments only, as far as some source has them."""
    first, stop = sorted((moments.kept_before, moments.kept_after))
    for version in (moments.before.version, moments.after.version) if first < stop else ():
        parts = [part.stats for memtable in version.memtables for part in memtable.ranges()]
        sources: list[FileMeta | RangeStats] = [*version.state.files.values(), *parts]
        for source in sources:
            if source.min_time < stop and source.max_time >= first:
                yield max(source.min_time, first), min(source.max_time, stop - 1)


# --- which keys -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """Keys in order, and for each whether it was there ``before`` and is there ``after``.

    ``sequences`` are part of the key where every row is kept.
    """

    series: pa.RecordBatch
    codes: Codes
    times: Times
    sequences: Sequences | None
    before: Mask
    after: Mask

    def __len__(self) -> int:
        return len(self.codes)

    def find(self, batch: Batch) -> Positions:
        """Return which key each row of a batch has, -1 where it is none of these."""
        _, (known, found) = unify([self.series, batch.series])
        columns: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = [
            (known[self.codes], found[batch.codes]),
            (self.times, batch.times),
        ]
        if self.sequences is not None:
            columns.append((self.sequences, batch.sequences))
        mine = np.zeros(len(self), dtype=np.int64)
        theirs = np.zeros(len(batch), dtype=np.int64)
        is_known = np.ones(len(batch), dtype=np.bool_)
        for wanted, given in columns:  # Column by column the key becomes one number, as dense as there are keys.
            values, places = np.unique(wanted, return_inverse=True)
            at = np.minimum(np.searchsorted(values, given), len(values) - 1)
            is_known &= values[at] == given
            mine, theirs = mine * len(values) + places, theirs * len(values) + at
            dense, mine = np.unique(mine, return_inverse=True)
            at = np.minimum(np.searchsorted(dense, theirs), len(dense) - 1)
            is_known &= dense[at] == theirs
            theirs = at
        order = np.argsort(mine)
        return np.where(is_known, order[np.searchsorted(mine[order], theirs)], _ABSENT)


def _differing_keys(moments: Moments, rows_of: RowsOf, span: TimeRange) -> _Keys | None:
    """Return the keys whose rows are not the same in both, None if there are none."""
    sides = [list(_rows(side, rows_of, span, [SEQUENCE_COLUMN])) for side in moments.sides()]
    batches = [*sides[0], *sides[1]]
    if not batches:
        return None
    series, ranks = unify([batch.series for batch in batches])
    codes = np.concatenate([rank[batch.codes] for rank, batch in zip(ranks, batches, strict=True)])
    times = np.concatenate([batch.times for batch in batches])
    sequences = np.concatenate([batch.sequences for batch in batches])
    is_after = np.arange(len(codes)) >= sum(map(len, sides[0]))
    by_row = moments.keeps_every_row
    order = np.lexsort((is_after, *((sequences,) if by_row else ()), times, codes))
    codes, times, sequences, is_after = codes[order], times[order], sequences[order], is_after[order]
    same_key = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    if by_row:
        same_key &= sequences[1:] == sequences[:-1]
    is_pair = np.append(same_key, False)  # This row and the next are of one key: the one before, the other after.
    is_second = np.append(False, same_key)
    same_row = is_pair & np.append(sequences[1:] == sequences[:-1], False) & moments.fills_alike
    chosen = np.flatnonzero(~is_second & ~same_row)
    if not len(chosen):
        return None
    return _Keys(
        series=series,
        codes=codes[chosen],
        times=times[chosen],
        sequences=sequences[chosen] if by_row else None,
        before=~is_after[chosen],
        after=is_after[chosen] | is_pair[chosen],
    )


def _rows(side: _Side, rows_of: RowsOf, span: TimeRange, columns: Many[str]) -> Iterator[Batch]:
    for batch in rows_of(side.plan(span), columns):
        if len(batch):
            yield batch


# --- their rows -------------------------------------------------------------------------------------------


def _laid_out(moments: Moments, keys: _Keys, rows_of: RowsOf, columns: Many[str]) -> pa.RecordBatch:
    """Read the rows of some keys and lay the changes out."""
    before, after = moments.sides()
    old, new = _found(keys, before, rows_of, moments.metadata), _found(keys, after, rows_of, moments.metadata)
    changed = _changed(keys, old, new)
    is_old, is_new = keys.before & changed, keys.after & changed
    # The row of before comes first: of key n at place 2n, the row of after at 2n + 1.
    places = np.concatenate([2 * np.flatnonzero(is_old), 2 * np.flatnonzero(is_new) + 1])
    order = pa.array(np.argsort(places))
    rows = [
        side.to_arrow(moments.metadata, [name for name in columns if name != CHANGE_COLUMN])
        for side in (_taken(old, keys.before, is_old), _taken(new, keys.after, is_new))
        if side is not None
    ]
    what = np.concatenate(
        [np.where(keys.after[is_old], UPDATE_BEFORE, DELETE), np.where(keys.before[is_new], UPDATE_AFTER, INSERT)]
    )
    kinds = pa.array(what, pa.large_string()).take(order)
    together = concat_fields(rows)
    arrays = [kinds if name == CHANGE_COLUMN else together.column(name).take(order) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _found(keys: _Keys, side: _Side, rows_of: RowsOf, metadata: RegionMetadata) -> Batch | None:
    """Return a moment's rows of these keys, in their order; None if it has none."""
    span = TimeRange(int(keys.times.min()), int(keys.times.max()) + 1)
    names = [SEQUENCE_COLUMN, *(field.name for field in metadata.fields)]
    taken: list[Batch] = []
    places: list[Positions] = []
    for batch in _rows(side, rows_of, span, names):
        at = keys.find(batch)
        rows = np.flatnonzero(at >= 0)
        if len(rows):
            taken.append(replace(batch.take(rows), series=keys.series, codes=keys.codes[at[rows]]))
            places.append(at[rows])
    if not taken:
        return None
    return concat_batches(taken).take(np.argsort(np.concatenate(places)))


def _taken(rows: Batch | None, has: Mask, wanted: Mask) -> Batch | None:
    """Choose of rows that stand for the keys which ``has`` names those of the keys that are ``wanted``."""
    return None if rows is None else rows.take(np.flatnonzero(wanted[has]))


def _changed(keys: _Keys, old: Batch | None, new: Batch | None) -> Mask:
    """Tell of which keys there is more to say than that they were written again as they were."""
    changed = np.ones(len(keys), dtype=np.bool_)
    both = keys.before & keys.after
    if old is None or new is None or not both.any():
        return changed
    mine, theirs = old.take(np.flatnonzero(both[keys.before])), new.take(np.flatnonzero(both[keys.after]))
    same = np.ones(len(mine), dtype=np.bool_)
    for left, right in zip(mine.fields.columns, theirs.fields.columns, strict=True):
        same &= _equal(left, right)
    changed[both] = ~same
    return changed


def _equal(left: pa.Array, right: pa.Array) -> Mask:
    """Compare values of one type; nulls are equal to each other, and so are NaNs."""
    try:
        equal = pc.fill_null(pc.equal(left, right), False)
    except pa.ArrowNotImplementedError:  # Nested values.
        equal = pa.array([mine == theirs for mine, theirs in zip(left.to_pylist(), right.to_pylist(), strict=True)])
    equal = pc.or_(equal, pc.and_(left.is_null(), right.is_null()))
    if pa.types.is_floating(left.type):
        equal = pc.or_(equal, pc.fill_null(pc.and_(pc.is_nan(left), pc.is_nan(right)), False))
    found: Mask = equal.to_numpy(zero_copy_only=False)
    return found
