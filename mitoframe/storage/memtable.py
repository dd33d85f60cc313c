"""The write buffer of a region: rows not yet in an SST, by time window, sorted when somebody needs them sorted.

    Memtable
      partition         rows of one window of time: floor(time / width); one for all times if there is no width
        open part       batches of fewer than 1024 rows, side by side; closed at 4096 rows
        raw part        an open part that was closed, or one larger batch: as it came
        sorted part     one sorted batch; every version of every key is in it
        encoded part    the newest row of each key as the Parquet bytes of an SST, and beside it the versions that those
                        rows supersede, as a sorted batch

Inserting is on the path of every write, so it sorts nothing: it appends to a tuple, and copies rows only where a batch
spans partitions. A reader sorts and merges what it reads and leaves the result in place of what it was made of.
Where many writes come and nobody reads, parts pile up: once `PARTS_MERGED` of about the same size are there, merging
them is work that is due (`work_due`), and `tidy` does it. A row is rewritten once for each such size, so the work per
row grows with the logarithm of the buffer. A large merged part is encoded: it takes a fraction of the memory, and the
flush stores it as it is.

Promises: every version of a key that was inserted can be read until the memtable is dropped; dedup is for flush and
scan. `stats` is exact and looks at no row: bytes are those of all buffers held, each counted once.

One thread inserts, one tidies, any number read. Parts and partitions are immutable, and what there is of them hangs on
one reference, exchanged under a lock that is held for that alone. A reader takes the reference and no lock; it locks
only to leave a result behind. An exchange names the parts that it replaces; if another thread was faster, it is a
no-op.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mitoframe.model.ids import NO_ENTRY, NO_SEQUENCE, EntryId, Sequence
from mitoframe.storage.runs import merge_rows_of, sort_batches, sort_versions_of
from mitoframe.storage.sst_writer import EncodedSst, decode_sst, encode_sst

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Batch, Take, Times
    from mitoframe.model.edit import WriteKey
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata

PARTITIONS_MAX = 64
OPEN_BATCH_ROWS_MAX = 1024
OPEN_PART_ROWS = 4096
PARTS_MERGED = 16
WRITE_KEY_BYTES = 256
"""What a write key is counted as: about what its text, its numbers and its place in the tuple take."""

_Buffer: TypeAlias = tuple[int, int]  # Address and size in bytes.
_WIDTH_MAX = 2**62
_ONLY_PARTITION = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemtableLimits:
    """When a merged part is encoded, and in row groups of how many rows."""

    encode_rows: int = 1_024_000
    encode_bytes: int = 64 * 1024 * 1024
    row_group_rows: int = 102_400


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeStats:
    """What is known of some rows without looking at them. Times and sequences are inclusive."""

    row_count: int
    delete_count: int
    min_time: int
    max_time: int
    min_sequence: Sequence
    max_sequence: Sequence

    def __add__(self, other: RangeStats) -> RangeStats:
        return RangeStats(
            row_count=self.row_count + other.row_count,
            delete_count=self.delete_count + other.delete_count,
            min_time=min(self.min_time, other.min_time),
            max_time=max(self.max_time, other.max_time),
            min_sequence=min(self.min_sequence, other.min_sequence),
            max_sequence=max(self.max_sequence, other.max_sequence),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemtableStats:
    """What is known of a memtable without looking at its rows. Times are inclusive, None when empty.

    Attributes:
        row_count: rows as they were written, superseded versions and delete markers included.
        size_bytes: memory held by rows, sorted forms kept for readers, encoded parts and write keys.
        series_count: no more distinct series than this are here. The series of every part are counted, so a series in
            several parts counts several times; it is exact for a memtable of one part, as after a read.
        part_count: in how many pieces the rows lie.
        first_at_ms: when the first rows came; None when empty.

    """

    row_count: int = 0
    delete_count: int = 0
    size_bytes: int = 0
    min_time: int | None = None
    max_time: int | None = None
    min_sequence: Sequence = NO_SEQUENCE
    max_sequence: Sequence = NO_SEQUENCE
    series_count: int = 0
    part_count: int = 0
    first_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRows:
    """The newest rows of keys as an SST that can be stored as it is, and the versions that they supersede."""

    sst: EncodedSst
    metadata: RegionMetadata
    row_group_rows: int
    superseded: Batch | None

    def batches(self) -> tuple[Batch, ...]:
        """Return all versions as sorted batches."""
        newest = decode_sst(self.metadata, self.sst)
        return (newest,) if self.superseded is None else (newest, self.superseded)


# --- parts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """Raw batches in the order they came, one sorted batch, or encoded rows (then without ``batches``)."""

    batches: tuple[Batch, ...]
    is_sorted: bool
    row_count: int
    series_count: int
    min_sequence: Sequence
    max_sequence: Sequence
    encoded: EncodedRows | None = None

    def all_batches(self) -> tuple[Batch, ...]:
        return self.encoded.batches() if self.encoded is not None else self.batches


def _raw_part(batches: tuple[Batch, ...]) -> _Part:
    return _Part(
        batches=batches,
        is_sorted=False,
        row_count=sum(map(len, batches)),
        series_count=sum(len(batch.series) for batch in batches),
        min_sequence=Sequence(int(batches[0].sequences[0])),
        max_sequence=Sequence(int(batches[-1].sequences[-1])),
    )


def _extended(part: _Part | None, batch: Batch) -> _Part:
    if part is None:
        return _raw_part((batch,))
    return replace(
        part,
        batches=(*part.batches, batch),
        row_count=part.row_count + len(batch),
        series_count=part.series_count + len(batch.series),
        max_sequence=Sequence(int(batch.sequences[-1])),
    )


def _sorted_part(batch: Batch) -> _Part:
    return _Part(
        batches=(batch,),
        is_sorted=True,
        row_count=len(batch),
        series_count=len(batch.series),
        min_sequence=Sequence(int(batch.sequences.min())),
        max_sequence=Sequence(int(batch.sequences.max())),
    )


def _encoded_part(metadata: RegionMetadata, batches: Many[Batch], dedup: Dedup, row_group_rows: int) -> _Part:
    newest, superseded = sort_versions_of(batches, dedup)
    return _Part(
        batches=(),
        is_sorted=True,
        row_count=sum(map(len, batches)),
        series_count=len(newest.series),
        min_sequence=Sequence(min(int(batch.sequences.min()) for batch in batches)),
        max_sequence=Sequence(max(int(batch.sequences.max()) for batch in batches)),
        encoded=EncodedRows(
            sst=encode_sst(metadata, newest, row_group_rows),
            metadata=metadata,
            row_group_rows=row_group_rows,
            superseded=superseded.gather() if superseded is not None else None,
        ),
    )


def _tier(part: _Part) -> int:
    """Return which parts are of about the same size: those of one tier differ less than sixteenfold."""
    return (part.row_count.bit_length() - 1) // (PARTS_MERGED.bit_length() - 1)


def _merged_versions(parts: Iterable[_Part], visible: Sequence) -> Batch | None:
    """Return the rows up to ``visible`` as one sorted batch, all versions; None if there are none."""
    raw: list[Batch] = []
    runs: list[Batch] = []
    for part in parts:
        if part.min_sequence <= visible:
            batches = part.all_batches()
            cut = batches if part.max_sequence <= visible else [_cut(batch, visible) for batch in batches]
            (runs if part.is_sorted else raw).extend(batch for batch in cut if len(batch))
    if raw:
        runs.append(sort_batches(raw, "none"))
    if len(runs) <= 1:
        return runs[0] if runs else None
    return merge_rows_of(runs, "none", drop_deletes=False).gather()


def _cut(batch: Batch, visible: Sequence) -> Batch:
    if int(batch.sequences.max()) <= visible:
        return batch
    return batch.take(np.flatnonzero(batch.sequences <= np.uint64(visible)))


# --- partitions -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    """What the last reader read, if that is not simply a part."""

    visible: Sequence
    run: Batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Partition:
    """The rows of one window. ``open_part`` takes the next small batch. ``series_bound`` is the sum over its parts."""

    stats: RangeStats
    series_bound: int = 0
    parts: tuple[_Part, ...] = ()
    open_part: _Part | None = None
    kept: _Kept | None = None

    @property
    def all_parts(self) -> tuple[_Part, ...]:
        return self.parts if self.open_part is None else (*self.parts, self.open_part)

    @property
    def part_count(self) -> int:
        return len(self.parts) + (self.open_part is not None)

    def with_batch(self, batch: Batch) -> _Partition:
        """Return the partition with one more batch, whose rows ``stats`` counts already."""
        is_small = len(batch) < OPEN_BATCH_ROWS_MAX
        part = _extended(self.open_part, batch) if is_small else _raw_part((batch,))
        is_open = is_small and part.row_count < OPEN_PART_ROWS
        return _Partition(
            stats=self.stats,
            series_bound=self.series_bound + len(batch.series),
            parts=self.parts if is_open else (*self.parts, part),
            open_part=part if is_open else None if is_small else self.open_part,
        )

    def joined_with(self, other: _Partition) -> _Partition:
        return _Partition(
            stats=self.stats + other.stats,
            series_bound=self.series_bound + other.series_bound,
            parts=self.all_parts + other.all_parts,
        )

    def exchanging(self, old: Many[_Part], new: _Part) -> _Partition | None:
        """Return the partition with ``new`` in place of parts, or None if they are not all here any more.

        A part is known by its first batch: it only ever grows at the end, by batches that came since ``old`` was looked
        at. Those stay, as a part of their own. Requires: no part of ``old`` is encoded.
        """
        missing = {id(part.batches[0]): part for part in old}
        parts: list[_Part] = []
        open_part = self.open_part
        for part in self.all_parts:
            match = missing.pop(id(part.batches[0]), None) if part.batches else None
            later = part.batches[len(match.batches) :] if match is not None else ()
            rest = part if match is None else _raw_part(later) if later else None
            if part is self.open_part:
                open_part = rest
            elif rest is not None:
                parts.append(rest)
        if missing:
            return None
        series_bound = self.series_bound + new.series_count - sum(part.series_count for part in old)
        return _Partition(stats=self.stats, series_bound=series_bound, parts=(new, *parts), open_part=open_part)

    def due(self) -> tuple[_Part, ...]:
        """Return the parts that are to be merged into one, none if they are not many enough."""
        if len(self.parts) < PARTS_MERGED:
            return ()
        tiers: dict[int, list[_Part]] = {}
        for part in self.parts:
            if part.encoded is None:
                tiers.setdefault(_tier(part), []).append(part)
        return next((tuple(parts) for _, parts in sorted(tiers.items()) if len(parts) >= PARTS_MERGED), ())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layout:
    """All that is in a memtable at a moment. Partition ``n`` holds the times from ``n * width`` on."""

    width: int | None
    partitions: Mapping[int, _Partition] = field(default_factory=lambda: MappingProxyType({}))

    def with_partition(self, number: int, partition: _Partition) -> _Layout:
        return replace(self, partitions={**self.partitions, number: partition})

    def with_batch(self, number: int, batch: Batch, stats: RangeStats) -> _Layout:
        known = self.partitions.get(number)
        partition = _Partition(stats=stats) if known is None else replace(known, stats=known.stats + stats)
        return self.with_partition(number, partition.with_batch(batch))

    def widened(self, doublings: int) -> _Layout:
        """Return the same rows in partitions that are wider by a power of two."""
        if not doublings or self.width is None:
            return self
        partitions: dict[int, _Partition] = {}
        for number, partition in self.partitions.items():
            coarse = number >> doublings
            known = partitions.get(coarse)
            partitions[coarse] = partition if known is None else known.joined_with(partition)
        return _Layout(width=self.width << doublings, partitions=partitions)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemtableRange:
    """The rows of one partition at the moment `Memtable.ranges` was called; later ones may show up beside them."""

    stats: RangeStats
    _memtable: Memtable
    _width: int | None
    _number: int
    _partition: _Partition

    def sorted(self, visible: Sequence) -> Batch | None:
        """Return the rows up to ``visible`` as one sorted batch, all versions; None if there are none."""
        return self._memtable._read(self._newest(), visible)

    def batches(self) -> tuple[Batch, ...]:
        """Return all rows, in batches of any order."""
        return tuple(batch for part in self._partition.all_parts for batch in part.all_batches())

    def encoded(self) -> EncodedRows | None:
        """Return all rows in the form of an SST, if that is how they are kept."""
        parts = self._partition.all_parts
        return parts[0].encoded if len(parts) == 1 else None

    def _newest(self) -> _Partition:
        """Return the partition as it is now, which may be tidier; as it was if partitions were regrouped since."""
        layout = self._memtable._layout
        if layout.width != self._width:
            return self._partition
        return layout.partitions.get(self._number, self._partition)


# --- the memtable ---------------------------------------------------------------------------------------


class Memtable:
    """Rows not yet in an SST. ``memtable_id`` counts up within a region.

    ``width`` is that of a partition, in the unit of the rows' times. No more than `PARTITIONS_MAX` partitions are made:
    where rows would need more, the width doubles until they fit.
    """

    def __init__(
        self,
        memtable_id: int,
        *,
        dedup: Dedup = "last",
        width: int | None = None,
        limits: MemtableLimits | None = None,
    ) -> None:
        assert width is None or width >= 1
        self.memtable_id = memtable_id
        self.dedup = dedup
        self.limits = limits or MemtableLimits()
        self.last_entry_id = NO_ENTRY
        self._layout = _Layout(width=width if width is None else min(width, _WIDTH_MAX))
        self.write_keys: tuple[WriteKey, ...] = ()
        self._stats = MemtableStats()
        self._series_bound = 0
        self._holders: dict[_Buffer, int] = {}
        self._is_frozen = False
        self._lock = Lock()

    def insert(self, batch: Batch, entry_id: EntryId, *, at_ms: int = 0, key: WriteKey | None = None) -> None:
        """Add the rows of a log entry, and the key that the write is known by.

        Requires: their sequences rise and are above all that are here; the memtable is not frozen.
        """
        assert not self._is_frozen, "a frozen memtable takes no more rows"
        assert len(batch), "an empty batch has no place in a memtable"
        assert int(batch.sequences[0]) > self._stats.max_sequence
        total = _stats_of(batch)
        doublings, pieces = _split(batch, total, self._layout)
        counts = {number: total if piece is batch else _stats_of(piece) for number, piece in pieces.items()}
        taken = [buffer for piece in pieces.values() for buffer in _buffers_of(piece)]
        with self._lock:
            layout = self._layout.widened(doublings)
            for number, piece in pieces.items():
                layout = layout.with_batch(number, piece, counts[number])
            stats = _including(self._stats, total, at_ms)
            if key is not None:
                self.write_keys = (*self.write_keys, key)
                stats = replace(stats, size_bytes=stats.size_bytes + WRITE_KEY_BYTES)
            self._switch_locked(layout, stats, taken=taken)
            self.last_entry_id = entry_id

    @property
    def stats(self) -> MemtableStats:
        return self._stats

    @property
    def width(self) -> int | None:
        """The width of partitions now."""
        return self._layout.width

    def is_empty(self) -> bool:
        return not self._layout.partitions

    def freeze(self) -> None:
        """Take no more rows. Readers go on."""
        self._is_frozen = True

    def fork(self, memtable_id: int, width: int | None) -> Memtable:
        """Return an empty memtable of the same kind."""
        return Memtable(memtable_id, dedup=self.dedup, width=width, limits=self.limits)

    def ranges(self) -> tuple[MemtableRange, ...]:
        """Return the partitions in the order of time. No two have a time in common."""
        layout = self._layout
        return tuple(
            MemtableRange(
                stats=partition.stats, _memtable=self, _width=layout.width, _number=number, _partition=partition
            )
            for number, partition in sorted(layout.partitions.items())
        )

    def sorted(self, visible: Sequence) -> Batch | None:
        """Return the rows up to ``visible`` of all partitions as one sorted batch, all versions; None if none."""
        runs = [run for each in self.ranges() if (run := each.sorted(visible)) is not None]
        if len(runs) <= 1:
            return runs[0] if runs else None
        return merge_rows_of(runs, "none", drop_deletes=False).gather()

    def work_due(self) -> bool:
        """Tell whether `tidy` would do anything. Cheap."""
        return bool(self._due())

    def tidy(self, metadata: RegionMetadata | None = None) -> None:
        """Merge parts that piled up; encode those that become large, if the rows' ``metadata`` is given.

        Rows of a "merge" table are not encoded: a merged row does not tell its originals, so they would have to be
        kept beside it, and nothing would be saved.
        """
        while parts := self._due():
            self._exchange(parts, self._merged_part(parts, metadata))

    def _due(self) -> tuple[_Part, ...]:
        """Return parts of one partition that are to be merged; none once the memtable is on its way to a file."""
        partitions = () if self._is_frozen else self._layout.partitions.values()
        return next((parts for partition in partitions if (parts := partition.due())), ())

    def _merged_part(self, parts: Many[_Part], metadata: RegionMetadata | None) -> _Part:
        batches = [batch for part in parts for batch in part.batches]
        is_large = (
            sum(map(len, batches)) >= self.limits.encode_rows
            or sum(batch.size_bytes for batch in batches) >= self.limits.encode_bytes
        )
        if is_large and metadata is not None and self.dedup != "merge":
            return _encoded_part(metadata, batches, self.dedup, self.limits.row_group_rows)
        return _all_merged(parts)

    def _read(self, partition: _Partition, visible: Sequence) -> Batch | None:
        """Return a partition's rows up to ``visible``, and keep what was made for the next reader."""
        visible = min(visible, partition.stats.max_sequence)
        if partition.kept is not None and partition.kept.visible == visible:
            return partition.kept.run
        whole = [part for part in partition.all_parts if part.encoded is None and part.max_sequence <= visible]
        others = [part for part in partition.all_parts if part.encoded is not None or part.max_sequence > visible]
        if len(whole) > 1 or (whole and not whole[0].is_sorted):
            merged = _all_merged(whole)
            partition = self._exchange(whole, merged) or partition
            whole = [merged]
        if not others:
            return whole[0].batches[0]
        run = _merged_versions([*whole, *others], visible)
        if run is not None:
            self._keep(partition, _Kept(visible=visible, run=run))
        return run

    def _exchange(self, old: Many[_Part], new: _Part) -> _Partition | None:
        """Put ``new`` in place of parts, and return the partition, if they are all there; else do nothing."""
        taken = list(_part_buffers(new))
        released = [buffer for part in old for buffer in _part_buffers(part)]
        with self._lock:
            for number, known in self._layout.partitions.items():
                partition = known.exchanging(old, new)
                if partition is not None:
                    layout = self._layout.with_partition(number, partition)
                    self._switch_locked(layout, self._stats, taken=taken, released=released)
                    return partition
        return None

    def _keep(self, partition: _Partition, kept: _Kept) -> None:
        taken = list(_buffers_of(kept.run))
        with self._lock:
            for number, known in self._layout.partitions.items():
                if known is partition:
                    layout = self._layout.with_partition(number, replace(partition, kept=kept))
                    self._switch_locked(layout, self._stats, taken=taken)
                    return

    def _switch_locked(
        self, layout: _Layout, stats: MemtableStats, *, taken: Iterable[_Buffer], released: Iterable[_Buffer] = ()
    ) -> None:
        """Make ``layout`` what there is, and count it: rows are in ``stats`` already, memory and parts are not."""
        gone = _without(self._layout.partitions, layout.partitions)
        come = _without(layout.partitions, self._layout.partitions)
        still_kept = {id(partition.kept) for partition in come}
        dropped = [each.kept.run for each in gone if each.kept is not None and id(each.kept) not in still_kept]
        growth_bytes = self._hold_locked(taken)
        growth_bytes -= self._let_go_locked([*released, *(buffer for run in dropped for buffer in _buffers_of(run))])
        self._series_bound += sum(each.series_bound for each in come) - sum(each.series_bound for each in gone)
        self._stats = replace(
            stats,
            size_bytes=stats.size_bytes + growth_bytes,
            part_count=stats.part_count + sum(each.part_count for each in come) - sum(each.part_count for each in gone),
            series_count=min(self._series_bound, stats.row_count),
        )
        self._layout = layout

    def _hold_locked(self, buffers: Iterable[_Buffer]) -> int:
        """Count buffers as held once more, and return the bytes that were not held before."""
        size_bytes = 0
        for buffer in buffers:
            count = self._holders.get(buffer, 0)
            self._holders[buffer] = count + 1
            size_bytes += 0 if count else buffer[1]
        return size_bytes

    def _let_go_locked(self, buffers: Iterable[_Buffer]) -> int:
        """Count buffers as held once less, and return the bytes that are not held any more."""
        size_bytes = 0
        for buffer in buffers:
            count = self._holders.pop(buffer) - 1
            if count:
                self._holders[buffer] = count
            else:
                size_bytes += buffer[1]
        return size_bytes


def _without(some: Mapping[int, _Partition], others: Mapping[int, _Partition]) -> list[_Partition]:
    return [partition for number, partition in some.items() if others.get(number) is not partition]


def _all_merged(parts: Many[_Part]) -> _Part:
    run = _merged_versions(parts, max(part.max_sequence for part in parts))
    assert run is not None
    return _sorted_part(run)


# --- the way in -----------------------------------------------------------------------------------------


def _split(batch: Batch, stats: RangeStats, layout: _Layout) -> tuple[int, dict[int, Batch]]:
    """Return how often the partitions' width must double for a batch to fit, and its rows by partition after that."""
    if layout.width is None:
        return 0, {_ONLY_PARTITION: batch}
    low, high = stats.min_time // layout.width, stats.max_time // layout.width
    if low == high:
        doublings = _doublings(np.array([*layout.partitions, low], dtype=np.int64))
        return doublings, {low >> doublings: batch}
    numbers = batch.times // layout.width
    doublings = _doublings(np.concatenate([np.array([*layout.partitions], dtype=np.int64), _distinct(numbers)]))
    numbers >>= doublings
    distinct = _distinct(numbers).tolist()
    if len(distinct) == 1:
        return doublings, {distinct[0]: batch}
    return doublings, {number: _rows_at(batch, np.flatnonzero(numbers == number)) for number in distinct}


def _doublings(numbers: Times) -> int:
    """Return how often numbers must be halved until no more than `PARTITIONS_MAX` are distinct."""
    doublings = 0
    while len(numbers) > PARTITIONS_MAX and len(numbers := np.unique(numbers)) > PARTITIONS_MAX:
        numbers = numbers >> 1
        doublings += 1
    return doublings


def _distinct(numbers: Times) -> Times:
    low, high = int(numbers.min()), int(numbers.max())
    if high - low >= len(numbers):
        return np.unique(numbers)
    return np.flatnonzero(np.bincount(numbers - low)) + low  # No sort where they lie close together.


def _rows_at(batch: Batch, rows: Take) -> Batch:
    """Return some rows, without copying them where they lie side by side."""
    first, count = int(rows[0]), len(rows)
    lie_together = int(rows[-1]) - first + 1 == count
    return _with_used_series(batch.slice(first, count) if lie_together else batch.take(rows))


def _with_used_series(batch: Batch) -> Batch:
    """Return the batch with only those series that have rows in it."""
    used: npt.NDArray[np.bool_] = np.zeros(len(batch.series), dtype=np.bool_)
    used[batch.codes] = True
    if used.all():
        return batch
    places = np.cumsum(used, dtype=np.int32) - np.int32(1)
    return replace(batch, series=batch.series.take(np.flatnonzero(used)), codes=places[batch.codes])


def _stats_of(batch: Batch) -> RangeStats:
    return RangeStats(
        row_count=len(batch),
        delete_count=len(batch) - int(np.count_nonzero(batch.op_types)),
        min_time=int(batch.times.min()),
        max_time=int(batch.times.max()),
        min_sequence=Sequence(int(batch.sequences[0])),
        max_sequence=Sequence(int(batch.sequences[-1])),
    )


def _including(stats: MemtableStats, added: RangeStats, at_ms: int) -> MemtableStats:
    return replace(
        stats,
        row_count=stats.row_count + added.row_count,
        delete_count=stats.delete_count + added.delete_count,
        min_time=added.min_time if stats.min_time is None else min(stats.min_time, added.min_time),
        max_time=added.max_time if stats.max_time is None else max(stats.max_time, added.max_time),
        min_sequence=stats.min_sequence or added.min_sequence,
        max_sequence=added.max_sequence,
        first_at_ms=at_ms if stats.first_at_ms is None else stats.first_at_ms,
    )


# --- memory ---------------------------------------------------------------------------------------------


def _part_buffers(part: _Part) -> Iterator[_Buffer]:
    yield from (buffer for batch in part.batches for buffer in _buffers_of(batch))
    if part.encoded is None:
        return
    yield part.encoded.sst.data.address, part.encoded.sst.data.size
    if part.encoded.superseded is not None:
        yield from _buffers_of(part.encoded.superseded)


def _buffers_of(batch: Batch) -> Iterator[_Buffer]:
    """Yield the address and the size of all that a batch holds, but of what is empty."""
    for array in (batch.codes, batch.times, batch.sequences, batch.op_types):
        if array.nbytes:
            yield array.__array_interface__["data"][0], array.nbytes
    for column in (*batch.series.columns, *batch.fields.columns):
        for buffer in column.buffers():
            if buffer is not None and buffer.size:
                yield buffer.address, buffer.size
