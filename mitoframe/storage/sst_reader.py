"""An SST's rows, row group by row group, as sorted batches.

Every byte is compared with the manifest before it is first used (storage/sst_bytes.py). The footer and the series index
are kept; of the rest only the row groups and columns that are asked for are read, with page checksums verified. Tag
columns are never read: the series index says which series a row belongs to.

There are three ways to read. Jobs take whole row groups once (`read`, `stream`), and nothing of them is kept. Scans
take columns of a row group (`row_group`), which are kept in the store's cache, decoded, for whoever asks next. Of a row
group of which little is wanted, they take only the pages with that (`some_times`, `some_rows`; storage/pages.py).

A file keeps the schema it was written with in its footer. Its rows are handed out as the schema at hand has them
(storage/compat.py), and its statistics are believed only of columns that are still what they were.
"""

from __future__ import annotations

import io
import json
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mitoframe.kernels.series import codes_from_offsets
from mitoframe.model.batch import Batch, concat_numbers, fields_without_columns
from mitoframe.model.errors import ConfigError, CorruptionError, MitoError
from mitoframe.model.memory import POOL
from mitoframe.model.predicate import ColumnStats, Predicate, columns_of, may_match
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN, RegionMetadata
from mitoframe.model.timerange import EVERYTHING, TIME_MAX
from mitoframe.storage.cache import Cache
from mitoframe.storage.compat import fit_fields, former_fields, is_unchanged
from mitoframe.storage.pages import Asked, Found, PageReader, SomeRows, is_plain_number
from mitoframe.storage.paths import sst_key
from mitoframe.storage.series import decode_series
from mitoframe.storage.sst_bytes import SstBytes
from mitoframe.storage.sst_writer import REGION_KEY, SERIES_KEY, SST_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Codes
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.model.schema import Column
    from mitoframe.model.timerange import TimeRange
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.index_reader import IndexReader

IDLE_MAX = 4
_UNFOLDED_TIMES, _FOOTER_BYTES = 8, 20_000
"""Parquet's metadata takes so many times the memory that it takes in a file; and what any footer takes."""
_CACHE_BYTES = 128 * 1024 * 1024
_LEAN_BYTES = 32 * 1024
"""So much of a column is read at a time where many files are read side by side."""
_TAIL_BYTES = 64 * 1024
"""So much of the end of a file is read to open it."""
_AT_HAND_MAX = 4
"""So many footers are at hand that are too large for the cache: one question asks for each of them many times."""
_SCHEMAS_KEPT = 256
"""Files of a table mostly have one schema, which is worked out once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What is kept of an opened file: ``metadata`` is the schema it was written with.

    ``offsets`` has one more entry than ``series``: the first row of each, and the number of rows. ``starts`` has one
    more entry than there are row groups, and is the same for these. ``idle`` are readers that one thread at a time may
    take: making one costs as much as decoding some columns.
    """

    parquet: pq.FileMetaData
    metadata: RegionMetadata
    series: pa.RecordBatch
    offsets: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    nan_columns: tuple[int, ...] | None = None
    idle: deque[pq.ParquetFile] = field(default_factory=lambda: deque(maxlen=IDLE_MAX))
    _places: dict[str, int] = field(default_factory=dict)
    _stats: dict[str, tuple[ColumnStats | None, ...]] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        arrays = self.series.get_total_buffer_size() + self.offsets.nbytes + self.starts.nbytes
        return int(_UNFOLDED_TIMES * self.parquet.serialized_size + arrays + _FOOTER_BYTES)

    def place(self, name: str) -> int | None:
        """Return which of the file's columns has a name, None if it is a nested one."""
        if not self._places:
            described = self.parquet.schema
            self._places.update({described.column(place).path: place for place in range(len(described))})
        return self._places.get(name)

    def stats(self, column: Column) -> tuple[ColumnStats | None, ...]:
        """Return what each row group says of a column. Requires: the column is what it was when this was written."""
        known = self._stats.get(column.name)
        if known is None:
            may_hold_nan = None if self.nan_columns is None else column.column_id in self.nan_columns
            found = _stats_of(self.parquet, column)
            known = tuple(None if of is None else replace(of, may_hold_nan=may_hold_nan) for of in found)
            self._stats[column.name] = known
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Decoded columns of a row group, shared with the cache: nobody writes to them.

    ``sequences`` and ``op_types`` are None unless asked for: a scan can mostly do without. ``stored`` are the fields as
    the file has them, `packed`; `fields` makes of rows of them what was asked for. ``kept`` columns were in the cache;
    ``read`` were read, and take ``bytes_read`` in the file.
    """

    times: npt.NDArray[np.int64]
    stored: pa.RecordBatch
    sequences: npt.NDArray[np.uint64] | None
    op_types: npt.NDArray[np.uint8] | None
    kept: int
    read: int
    bytes_read: int
    fit: Callable[[pa.RecordBatch], pa.RecordBatch]

    def fields(self, rows: pa.RecordBatch, *, as_kept: bool = False) -> pa.RecordBatch:
        """Return some rows of ``stored`` with the fields that were asked for; ``as_kept`` leaves them `packed`."""
        if rows.num_columns and not as_kept:
            rows = pa.RecordBatch.from_arrays(list(map(unpacked, rows.columns)), names=rows.schema.names)
        return self.fit(rows)


class SstReader:
    """Reads the SSTs of a store; shared by all its regions and threads."""

    def __init__(self, store: ObjectStore, cache: Cache | None = None, indexes: IndexReader | None = None) -> None:
        self._bytes = SstBytes(store)
        self.indexes = indexes
        self.cache = Cache(_CACHE_BYTES) if cache is None else cache
        self._pages = PageReader(self._bytes, self.cache)
        self._asked: dict[FileId, set[int]] = {}
        # The newest first; replaced as a whole, so that it needs no lock.
        self._at_hand: tuple[tuple[FileId, Footer], ...] = ()

    def verify(self, metadata: RegionMetadata, file: FileMeta) -> None:
        """Compare a whole file with the manifest, once per process, before somebody else reads it.

        Raises:
            CorruptionError: it is missing, or its size or bytes are not what was written.

        """
        self._bytes.compare(metadata.region_id, file)

    def verify_anew(self, metadata: RegionMetadata, file: FileMeta) -> None:
        """Compare a whole file with every checksum that the manifest has of it, whatever was compared before.

        Raises:
            CorruptionError: as `verify`.

        """
        self._bytes.compare_twice(metadata.region_id, file)

    def tag_columns(self, metadata: RegionMetadata, file: FileMeta, number: int) -> pa.RecordBatch:
        """Read the tags of a row group as other programs see them; here the table of series says it all.

        Raises:
            CorruptionError: what is stored cannot be read.

        """
        footer = self.footer(metadata, file)
        names = [tag.name for tag in footer.metadata.tags]
        with _reading_rows(metadata.region_id, file):
            parquet = self._open(metadata.region_id, file, footer.parquet)
            rows = parquet.read_row_group(number, columns=names, use_threads=False)
        columns = [_one_array(rows.column(tag.name), tag.type) for tag in footer.metadata.tags]
        return pa.RecordBatch.from_arrays(columns, names=names)

    def forget(self, file_id: FileId) -> None:
        """Drop what is kept of a file that was deleted."""
        self.cache.forget(file_id)
        self._at_hand = tuple(entry for entry in self._at_hand if entry[0] != file_id)
        self._asked.pop(file_id, None)
        self._bytes.forget(file_id)

    def footer(self, metadata: RegionMetadata, file: FileMeta) -> Footer:
        """Open a file, or remember it.

        Raises:
            CorruptionError: it is not what was written.
            ConfigError: it was written by a newer mitoframe.

        """
        cached: Footer | None = self.cache.get("footers", file.file_id)
        if cached is not None:
            return cached
        for file_id, at_hand in self._at_hand:
            if file_id == file.file_id:
                return at_hand
        key = sst_key(metadata.region_id, file.file_id)
        try:
            footer = self._read_footer(metadata.region_id, key, file)
        except MitoError:
            raise  # Some are also OSErrors, and say nothing about the file.
        except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
            raise CorruptionError(f"not an SST that this mitoframe can read: {error}", path=key) from error
        self.cache.put("footers", file.file_id, None, footer, footer.size_bytes)
        if not self.cache.holds("footers", file.file_id):
            self._at_hand = ((file.file_id, footer), *self._at_hand[: _AT_HAND_MAX - 1])
        return footer

    def _read_footer(self, region_id: RegionId, key: str, file: FileMeta) -> Footer:
        tail = self._tail(region_id, file)
        parquet = pq.ParquetFile(pa.BufferReader(tail)).metadata
        entries = parquet.metadata
        region = entries[REGION_KEY.encode()]
        sst_format = _parsed(region)["format"]
        if sst_format > SST_FORMAT:
            raise ConfigError(f"{key} has SST format {sst_format}, newer than {SST_FORMAT}; update mitoframe.")
        offset, length, checksum = map(int, entries[SERIES_KEY.encode()].split(b","))
        before = offset - (file.size_bytes - len(tail))
        index = tail[before : before + length] if before >= 0 else self._bytes.read(region_id, file, offset, length)
        if google_crc32c.value(index) != checksum:
            raise ValueError("the series index does not match its checksum")
        series, offsets = decode_series(index, parquet.num_rows)
        counts = [parquet.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
        return Footer(
            parquet=parquet,
            metadata=_schema_of(region),
            series=series,
            offsets=offsets,
            starts=starts,
            nan_columns=file.nan_columns,
        )

    def _tail(self, region_id: RegionId, file: FileMeta) -> bytes:
        """Return the end of a file, in which the whole Parquet footer lies, and mostly the series before it."""
        length = min(file.size_bytes, _TAIL_BYTES)
        tail = self._bytes.read(region_id, file, file.size_bytes - length, length)
        footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8  # Behind it are its length and the magic number.
        if not length < footer_bytes <= file.size_bytes:
            return tail
        return self._bytes.read(region_id, file, file.size_bytes - footer_bytes, footer_bytes)

    def _open(
        self, region_id: RegionId, file: FileMeta, parquet: pq.FileMetaData | None = None, *, buffer_bytes: int = 0
    ) -> pq.ParquetFile:
        """Open a file that is read by row groups, of which all is asked for at once, or so much of a column."""
        source = pa.PythonFile(_SstFile(self._bytes, region_id, file), mode="r")
        return pq.ParquetFile(
            source,
            metadata=parquet,
            page_checksum_verification=True,
            pre_buffer=not buffer_bytes,
            buffer_size=buffer_bytes,
        )

    def matching_row_groups(
        self, metadata: RegionMetadata, file: FileMeta, predicate: Predicate, among: Many[int] | None = None
    ) -> list[int]:
        """Return the row groups (``among`` some, or all) whose statistics do not rule ``predicate`` out."""
        footer = self.footer(metadata, file)
        asked = columns_of(predicate)
        known = {
            column.name: footer.stats(column)
            for column in metadata.columns
            if column.name in asked and is_unchanged(column, footer.metadata)
        }
        return [
            number
            for number in (range(footer.parquet.num_row_groups) if among is None else among)
            if may_match(predicate, {name: of for name, all_of in known.items() if (of := all_of[number]) is not None})
        ]

    def row_group(
        self, metadata: RegionMetadata, file: FileMeta, number: int, field_names: Many[str], internal: Many[str] = ()
    ) -> RowGroup:
        """Read the named fields of ``metadata`` in a row group, and its times, and some of the ``internal`` columns.

        What was read before and is still kept is not read again. What is read now is kept if the row group was asked
        for before: a first look at everything would fill memory with what nobody asks for again.
        """
        footer = self.footer(metadata, file)
        stored = former_fields(footer.metadata, metadata, field_names)
        types = {former.name: former.type for former in stored}
        wanted = [metadata.time.name, *internal, *types]
        columns, missing = self._columns(metadata, file, footer, number, wanted, types)
        if missing and self.was_asked(file, number):
            for name in missing:
                array = packed(columns[name])
                self.cache.put("chunks", file.file_id, (number, name), array, array.get_total_buffer_size())
        times, *others = (unpacked(columns[name]) for name in (metadata.time.name, *internal))
        numbers = dict(zip(internal, others, strict=True))
        fields = [columns[name] for name in types]
        return RowGroup(
            times=times.view(pa.int64()).to_numpy(),
            stored=pa.RecordBatch.from_arrays(fields, names=list(types))
            if types
            else fields_without_columns(len(times)),
            fit=lambda rows: fit_fields(rows, footer.metadata, metadata, field_names),
            sequences=_placed(numbers[SEQUENCE_COLUMN].to_numpy(), file) if SEQUENCE_COLUMN in numbers else None,
            op_types=numbers[OP_TYPE_COLUMN].to_numpy() if OP_TYPE_COLUMN in numbers else None,
            kept=len(wanted) - len(missing),
            read=len(missing),
            bytes_read=_stored_bytes(footer.parquet, number, missing) if missing else 0,
        )

    def some_times(self, metadata: RegionMetadata, file: FileMeta, wanted: Many[SomeRows]) -> npt.NDArray[np.int64]:
        """Return the times of some rows, one range after the other."""
        time = metadata.time
        found = self._some_values(metadata, file, wanted, {time.name: time.type})
        return _integers(found[time.name].values)

    def some_rows(
        self,
        metadata: RegionMetadata,
        file: FileMeta,
        wanted: Many[SomeRows],
        field_names: Many[str],
        internal: Many[str],
        times: npt.NDArray[np.int64],
    ) -> RowGroup:
        """Return some rows, of which ``times`` are known, as if they were a row group.

        Of columns that are not kept only the pages with these rows are read, if they are numbers, and nothing of them
        is kept.
        """
        footer = self.footer(metadata, file)
        stored = former_fields(footer.metadata, metadata, field_names)
        types = {name: _INTERNAL_TYPES[name] for name in internal} | {former.name: former.type for former in stored}
        found = self._some_values(metadata, file, wanted, types)
        numbers = {name: unpacked(found[name].values).to_numpy() for name in internal}
        fields = {former.name: found[former.name].values for former in stored}
        kept = sum(not each.bytes_read for each in found.values())
        return RowGroup(
            times=times,
            stored=pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))
            if fields
            else fields_without_columns(len(times)),
            fit=lambda rows: fit_fields(rows, footer.metadata, metadata, field_names),
            sequences=_placed(numbers[SEQUENCE_COLUMN], file) if SEQUENCE_COLUMN in numbers else None,
            op_types=numbers.get(OP_TYPE_COLUMN),
            kept=kept * len(wanted),
            read=(len(found) - kept) * len(wanted),
            bytes_read=sum(each.bytes_read for each in found.values()),
        )

    def _some_values(
        self, metadata: RegionMetadata, file: FileMeta, wanted: Many[SomeRows], types: Mapping[str, pa.DataType]
    ) -> dict[str, Found]:
        """Return some rows of columns; what is kept of all their row groups is cut out of that."""
        footer = self.footer(metadata, file)
        found = {}
        for name in types if self.cache.holds_any("chunks", file.file_id) else ():
            kept = [self.cache.get("chunks", file.file_id, (rows.number, name)) for rows in wanted]
            if all(column is not None for column in kept):
                found[name] = Found(_cut(kept, wanted), 0)
        asked = {
            name: Asked(place, data_type)
            for name, data_type in types.items()
            if name not in found and is_plain_number(data_type) and (place := footer.place(name)) is not None
        }
        if asked:
            read = self._pages.read(metadata.region_id, file, footer.parquet, list(asked.values()), wanted)
            found |= {name: each for name, each in zip(asked, read, strict=True) if each is not None}
        for name in types.keys() - found.keys():
            found[name] = self._whole_column(metadata, file, footer, name, types[name], wanted)
        return found

    def _whole_column(
        self,
        metadata: RegionMetadata,
        file: FileMeta,
        footer: Footer,
        name: str,
        data_type: pa.DataType,
        wanted: Many[SomeRows],
    ) -> Found:
        """Return some rows of a column that is read, and kept, by whole row groups."""
        columns, bytes_read = [], 0
        for rows in wanted:
            read, missing = self._columns(metadata, file, footer, rows.number, [name], {name: data_type})
            column = read[name]
            if missing:
                size = column.get_total_buffer_size()
                self.cache.put("chunks", file.file_id, (rows.number, name), column, size)
                bytes_read += _stored_bytes(footer.parquet, rows.number, missing)
            columns.append(column)
        return Found(_cut(columns, wanted), bytes_read)

    @staticmethod
    def _idle(footer: Footer) -> pq.ParquetFile | None:
        try:
            return footer.idle.pop()
        except IndexError:  # Asking first would leave room for another thread to take the last one.
            return None

    def was_asked(self, file: FileMeta, number: int) -> bool:
        """Tell whether a row group was asked for before, and remember that it was now."""
        asked = self._asked.setdefault(file.file_id, set())
        known = number in asked
        asked.add(number)
        return known

    def cells_to_decode(
        self, metadata: RegionMetadata, file: FileMeta, numbers: Many[int], field_names: Many[str], internal: Many[str]
    ) -> int:
        """Return how many values `row_group` would have to decode for these row groups."""
        footer = self.footer(metadata, file)
        stored = former_fields(footer.metadata, metadata, field_names)
        names = [metadata.time.name, *internal, *(former.name for former in stored)]
        return sum(
            int(footer.starts[number + 1] - footer.starts[number])
            for number in numbers
            for name in names
            if not self.cache.holds("chunks", file.file_id, (number, name))
        )

    def _columns(
        self,
        metadata: RegionMetadata,
        file: FileMeta,
        footer: Footer,
        number: int,
        names: Many[str],
        types: Mapping[str, pa.DataType],
    ) -> tuple[dict[str, pa.Array], list[str]]:
        """Return columns of a row group as single arrays, each as its file has it, and which of them had to be read."""
        found = {name: self.cache.get("chunks", file.file_id, (number, name)) for name in names}
        missing = [name for name, column in found.items() if column is None]
        if not missing:
            return found, []
        with _reading_rows(metadata.region_id, file):
            parquet = self._idle(footer) or self._open(metadata.region_id, file, footer.parquet)
            rows = parquet.read_row_group(number, columns=missing, use_threads=False)
            footer.idle.append(parquet)
        for name in missing:
            column = rows.column(name)
            found[name] = _one_array(column, types.get(name, column.type))
        return found, missing

    def may_hold_null(self, metadata: RegionMetadata, file: FileMeta, column: Column) -> bool:
        """Tell whether a column of ``metadata`` may be null in some row of a file, as far as its schema says."""
        footer = self.footer(metadata, file)
        stored = [footer.parquet.schema.column(i) for i in range(len(footer.parquet.schema))]
        required = {item.path for item in stored if not item.max_definition_level}
        return not (is_unchanged(column, footer.metadata) and column.name in required)

    def read(self, metadata: RegionMetadata, file: FileMeta, row_groups: Many[int], field_names: Many[str]) -> Batch:
        """Read row groups as one sorted batch with the named fields of ``metadata``, whatever the file calls them."""
        footer = self.footer(metadata, file)
        wanted = _stored_columns(footer, metadata, field_names)
        with _reading_rows(metadata.region_id, file):
            rows = self._open(metadata.region_id, file, footer.parquet).read_row_groups(
                list(row_groups), columns=wanted
            )
        starts = footer.starts
        codes = [codes_from_offsets(footer.offsets, int(starts[n]), int(starts[n + 1])) for n in row_groups]
        found = np.concatenate(codes) if codes else np.zeros(0, dtype=np.int32)
        return _batch(rows, found, footer, metadata, file, field_names)

    def stream(
        self,
        metadata: RegionMetadata,
        file: FileMeta,
        field_names: Many[str],
        rows_max: int,
        *,
        rows: range | None = None,
        times: TimeRange = EVERYTHING,
        is_lean: bool = False,
    ) -> Iterator[Batch]:
        """Read rows in order, in sorted batches of up to ``rows_max``; of a row group no more is unpacked.

        They are all rows of the file, or those of some ``rows`` whose times are in a range. Whoever reads many files
        side by side does it ``is_lean``: a little of each column at a time, instead of what a row group has of it.

        Raises:
            CorruptionError: what is stored cannot be read.

        """
        footer = self.footer(metadata, file)
        wanted = _stored_columns(footer, metadata, field_names)
        asked = range(file.row_count) if rows is None else rows
        buffer_bytes = _LEAN_BYTES if is_lean else 0
        with _reading_rows(metadata.region_id, file):
            parquet = self._open(metadata.region_id, file, footer.parquet, buffer_bytes=buffer_bytes)
            for number in self._row_groups_within(metadata, file, footer, asked, times):
                start = int(footer.starts[number])
                for some in parquet.iter_batches(rows_max, row_groups=[number], columns=wanted, use_threads=False):
                    first, stop = max(asked.start, start), min(asked.stop, start + len(some))
                    if first < stop:
                        cut = pa.Table.from_batches([some.slice(first - start, stop - first)])
                        codes = codes_from_offsets(footer.offsets, first, stop)
                        yield from _in_times(_batch(cut, codes, footer, metadata, file, field_names), times)
                    start += len(some)
                    if start >= asked.stop:
                        break

    def _row_groups_within(
        self, metadata: RegionMetadata, file: FileMeta, footer: Footer, rows: range, times: TimeRange
    ) -> Iterator[int]:
        """Yield the row groups that may have one of some rows with a time in a range."""
        first = int(np.searchsorted(footer.starts, rows.start, side="right")) - 1
        stop = int(np.searchsorted(footer.starts, rows.stop, side="left"))
        is_cut = not (times.holds(file.min_time) and times.holds(file.max_time))
        bounds = footer.stats(metadata.time) if is_cut else ()
        for number in range(first, stop if rows else first):
            of = bounds[number] if bounds else None
            if of is None or of.minimum is None or times.touches(of.minimum, of.maximum):
                yield number


@contextmanager
def _reading_rows(region_id: RegionId, file: FileMeta) -> Iterator[None]:
    """Call what Arrow cannot make sense of damage. A store that fails says nothing about the file."""
    try:
        yield
    except MitoError:
        raise  # Some are also OSErrors.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        key = sst_key(region_id, file.file_id)
        raise CorruptionError(f"a row group cannot be read: {error}", path=key) from error


_INTERNAL_TYPES = {SEQUENCE_COLUMN: pa.uint64(), OP_TYPE_COLUMN: pa.uint8()}
_PACKED_VALUES_MAX = 256
_WHOLE_MAX = 2.0**40
_SAMPLE_ROWS = 1024


def packed(column: pa.Array) -> pa.Array:
    """Keep a column of few different numbers as bytes that say which: an eighth of the memory, and as good as it was.

    Numbers are told apart by their bits, so that no zero loses its sign and no NaN what it carries. They are listed in
    their order, NaN last, so that the least of some is at the least of their places. Whole numbers close to each other
    are listed without a gap, so that places add up as numbers do.
    """
    if not pa.types.is_primitive(column.type) or column.type.bit_width != 64 or not len(column):
        return column
    bits = column.view(pa.int64())
    if pc.count_distinct(bits.slice(0, _SAMPLE_ROWS)).as_py() > _PACKED_VALUES_MAX:
        return column
    encoded = bits.dictionary_encode()
    if len(encoded.dictionary) > _PACKED_VALUES_MAX:
        return column
    listed, places = _in_order(encoded.dictionary.view(column.type))
    indices = pc.take(pa.array(places), encoded.indices, boundscheck=False, memory_pool=POOL)
    return pa.DictionaryArray.from_arrays(indices, listed)


def _in_order(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.uint8]]:
    """Return values as they are listed, and the place of each there."""
    is_number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    numbers = (values if is_number else values.view(pa.int64())).to_numpy()
    if len(numbers) and _are_close_and_whole(numbers):
        lowest = numbers.min()
        places = (numbers - lowest).astype(np.uint8)
        listed = lowest + np.arange(int(places.max()) + 1).astype(numbers.dtype)
    else:
        order = np.argsort(numbers, kind="stable")
        places = np.empty(len(order), dtype=np.uint8)
        places[order] = np.arange(len(order))
        listed = numbers[order]
    made = pa.array(listed)
    return made if made.type == values.type else made.view(values.type), places


def _are_close_and_whole(numbers: npt.NDArray[Any]) -> bool:
    if numbers.dtype == np.float64:
        is_plain = bool((np.abs(numbers) <= _WHOLE_MAX).all() and (numbers == np.floor(numbers)).all())
        if not is_plain or (np.signbit(numbers) & (numbers == 0)).any():
            return False
    return int(numbers.max()) - int(numbers.min()) < _PACKED_VALUES_MAX


def unpacked(column: pa.Array) -> pa.Array:
    """Return a column as it was before it was `packed`. Requires: dictionaries come from there alone."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pc.take(column.dictionary, column.indices, boundscheck=False, memory_pool=POOL)


def _integers(times: pa.Array) -> npt.NDArray[np.int64]:
    integers: npt.NDArray[np.int64] = unpacked(times).view(pa.int64()).to_numpy()
    return integers


def _cut(columns: Many[pa.Array], wanted: Many[SomeRows]) -> pa.Array:
    """Return some rows of a column, which may be kept packed, one range after the other."""
    parts = [
        column.slice(start, stop - start)
        for column, (_, starts, stops) in zip(columns, wanted, strict=True)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    if len(columns) > 1:  # Each may be packed in a way of its own.
        parts = list(map(unpacked, parts))
    return pa.concat_arrays(parts, memory_pool=POOL)


def _stored_columns(footer: Footer, metadata: RegionMetadata, field_names: Many[str]) -> list[str]:
    stored = former_fields(footer.metadata, metadata, field_names)
    return [metadata.time.name, SEQUENCE_COLUMN, OP_TYPE_COLUMN, *(field.name for field in stored)]


def _batch(
    rows: pa.Table, codes: Codes, footer: Footer, metadata: RegionMetadata, file: FileMeta, field_names: Many[str]
) -> Batch:
    stored = former_fields(footer.metadata, metadata, field_names)
    sequences = _numpy(rows.column(SEQUENCE_COLUMN), pa.uint64())
    return Batch(
        series=footer.series,
        codes=codes,
        times=_numpy(rows.column(metadata.time.name), pa.int64()),
        sequences=_placed(sequences, file),
        op_types=_numpy(rows.column(OP_TYPE_COLUMN), pa.uint8()),
        fields=fit_fields(_fields(rows, stored), footer.metadata, metadata, field_names),
    )


def _in_times(rows: Batch, times: TimeRange) -> Iterator[Batch]:
    """Yield those of some rows that have a time in a range, if there are any."""
    if times == EVERYTHING:
        yield rows
        return
    wanted = (rows.times >= times.start) & ((rows.times < times.end) | (times.end == TIME_MAX))
    if wanted.all():
        yield rows
    elif wanted.any():
        yield rows.take(np.flatnonzero(wanted))


def _placed(sequences: npt.NDArray[np.uint64], file: FileMeta) -> npt.NDArray[np.uint64]:
    return sequences + np.uint64(file.sequence_base) if file.sequence_base else sequences


def _numpy(column: pa.ChunkedArray, data_type: pa.DataType) -> npt.NDArray[Any]:
    chunks: list[npt.NDArray[Any]] = [chunk.view(data_type).to_numpy() for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    return concat_numbers(chunks) if chunks else np.zeros(0, dtype=data_type.to_pandas_dtype())


def _fields(rows: pa.Table, fields: Many[Column]) -> pa.RecordBatch:
    if not fields:
        return fields_without_columns(rows.num_rows)
    columns = [_one_array(rows.column(field.name), field.type) for field in fields]
    return pa.RecordBatch.from_arrays(columns, names=[field.name for field in fields])


def _one_array(column: pa.ChunkedArray, data_type: pa.DataType) -> pa.Array:
    if column.type != data_type:
        column = column.cast(data_type)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks or [pa.nulls(0, data_type)], memory_pool=POOL)


def _stored_bytes(parquet: pq.FileMetaData, number: int, names: Many[str]) -> int:
    row_group = parquet.row_group(number)
    chunks = (row_group.column(place) for place in range(row_group.num_columns))
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in names)


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _parsed(region: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(region)
    return found


@lru_cache(maxsize=_SCHEMAS_KEPT)
def _schema_of(region: bytes) -> RegionMetadata:
    return RegionMetadata.from_json(_parsed(region)["metadata"])


def _stats_of(parquet: pq.FileMetaData, column: Column) -> tuple[ColumnStats | None, ...]:
    # The items of a list "x" are called "x.list.element", which a column may be called too.
    places = [
        i
        for i in range(parquet.num_columns)
        if parquet.schema.column(i).path == column.name and not parquet.schema.column(i).max_repetition_level
    ]
    return tuple(_chunk_stats(parquet, number, places, column) for number in range(parquet.num_row_groups))


def _chunk_stats(parquet: pq.FileMetaData, number: int, places: Many[int], column: Column) -> ColumnStats | None:
    row_group = parquet.row_group(number)
    for place in places:
        found = row_group.column(place).statistics
        if found is not None:
            return _column_stats(column, found, row_group.num_rows)
    return None


def _column_stats(column: Column, found: pq.Statistics, row_count: int) -> ColumnStats:
    null_count = found.null_count if found.has_null_count else None
    if not found.has_min_max or column.type == pa.time64("ns"):  # Python's time would drop nanoseconds.
        return ColumnStats(null_count=null_count, row_count=row_count)
    if pa.types.is_timestamp(column.type):
        # The raw integers: a datetime would drop nanoseconds.
        return ColumnStats(minimum=found.min_raw, maximum=found.max_raw, null_count=null_count, row_count=row_count)
    return ColumnStats(minimum=found.min, maximum=found.max, null_count=null_count, row_count=row_count)


class _SstFile(io.RawIOBase):
    """A stored SST as the seekable file that pyarrow wants. pyarrow never opens a path itself."""

    def __init__(self, data: SstBytes, region_id: RegionId, file: FileMeta) -> None:
        self._data, self._region_id, self._file, self._position = data, region_id, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size_bytes}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._file.size_bytes - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        data = self._data.read(self._region_id, self._file, self._position, length) if length else b""
        self._position += len(data)
        return data
