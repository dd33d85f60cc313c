"""Whether an SST keeps every promise that was made when it was written.

Its bytes are compared with the manifest, then all rows are read, row group by row group, and held against what footer
and manifest say of them: how many there are and of which series, when they are, in which order, which keys they have,
and what statistics say of every column. What somebody compared before does not count: each check takes a reader of its
own, which remembers nothing. No more than a row group is in memory.

Statistics are checked of numbers, texts, booleans and timestamps; of other types only their nulls are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.batch import OpType
from mitoframe.model.errors import CorruptionError
from mitoframe.model.flaw import Checked, Flaw, flaw_of
from mitoframe.storage.cache import Cache
from mitoframe.storage.cover import pieces_of, said_of, words_of
from mitoframe.storage.paths import sst_key
from mitoframe.storage.series import unify
from mitoframe.storage.sst_reader import SstReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.model.flaw import FlawKind
    from mitoframe.model.options import Dedup
    from mitoframe.model.predicate import ColumnStats
    from mitoframe.model.schema import Column, RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.sst_reader import Footer

    Mask = npt.NDArray[np.bool_]

_FOOTER_BYTES_MAX = 64 * 1024 * 1024
_KINDS_WITH_BOUNDS = (
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_timestamp,
)


def check_sst(store: ObjectStore, metadata: RegionMetadata, file: FileMeta, dedup: Dedup) -> Checked:
    """Read a file anew, whole, and say what is wrong with it.

    Args:
        store: where it is.
        metadata: of the region that lists it.
        file: what the manifest says of it.
        dedup: which rows of one key the table shows; if all, keys may repeat.

    Raises:
        ConfigError: it was written by a newer mitoframe.
        UnavailableError: storage did not answer, which says nothing about the file.

    """
    reader = SstReader(store, Cache(_FOOTER_BYTES_MAX))
    flaws: list[Flaw] = []
    seen = _Seen()
    try:
        reader.verify_anew(metadata, file)
        footer = reader.footer(metadata, file)
        flaws += _told(metadata, file, "file", _of_footer(metadata, file, footer))
        for number in range(footer.parquet.num_row_groups):
            flaws += _of_row_group(reader, metadata, file, footer, number, dedup, seen)
        flaws += _told(metadata, file, "rows", _of_counts(file, seen))
    except CorruptionError as error:
        flaws.append(flaw_of(error, "file", file_id=file.file_id))
    except (pa.ArrowException, KeyError, ValueError) as error:
        flaws += _told(metadata, file, "rows", iter([f"no sense can be made of its rows: {error!r}"]))
    return Checked(flaws=_distinct(flaws), files=1, rows=seen.row_count, size_bytes=file.size_bytes)


def _told(metadata: RegionMetadata, file: FileMeta, kind: FlawKind, sentences: Iterator[str]) -> list[Flaw]:
    path = sst_key(metadata.region_id, file.file_id)
    return [Flaw(kind=kind, grade="damage", path=path, what=what, file_id=file.file_id) for what in sentences]


def _distinct(flaws: list[Flaw]) -> tuple[Flaw, ...]:
    """Tell what is wrong with many row groups once."""
    return tuple(dict.fromkeys(flaws))


@dataclass(slots=True, kw_only=True, eq=False)
class _Seen:
    """What was learnt of the rows so far; ``last`` is the row before the next row group."""

    row_count: int = 0
    delete_count: int = 0
    min_time: int | None = None
    max_time: int | None = None
    last: tuple[npt.NDArray[Any], ...] | None = field(default=None)

    def add(self, rows: Batch) -> None:
        self.row_count += len(rows)
        self.delete_count += int(np.count_nonzero(rows.op_types == OpType.DELETE))
        first, last = int(rows.times.min()), int(rows.times.max())
        self.min_time = first if self.min_time is None else min(self.min_time, first)
        self.max_time = last if self.max_time is None else max(self.max_time, last)
        self.last = tuple(values[-1:] for values in _keys(rows))


def _keys(rows: Batch) -> tuple[npt.NDArray[Any], ...]:
    return rows.codes, rows.times, rows.sequences, rows.op_types


# --- the footer -------------------------------------------------------------------------------------------


def _of_footer(metadata: RegionMetadata, file: FileMeta, footer: Footer) -> Iterator[str]:
    for name, listed, found in (
        ("rows", file.row_count, footer.parquet.num_rows),
        ("row groups", file.row_group_count, footer.parquet.num_row_groups),
        ("series", file.series_count, len(footer.series)),
        ("schema version", file.schema_version, footer.metadata.schema_version),
        ("region", metadata.region_id, footer.metadata.region_id),
    ):
        if listed != found:
            yield f"{name}: {listed} by the manifest, {found} by the footer"
    if not _is_in_order(footer.series):
        yield "the table of series is not in order, or has one of them twice"
    for place, stats in enumerate(file.leading_tags):
        if _is_outside(stats, footer.series.column(place)):
            yield f"tag {footer.series.schema.names[place]!r} has other values than the manifest says"
    pieces = pieces_of(file, footer, metadata.time)
    for place, name in enumerate(footer.series.schema.names):
        said = said_of(file, place)
        if said not in (None, words_of(footer.series.column(place), pieces)):
            yield f"the values of tag {name!r} cover other times than the manifest says"


def _is_in_order(series: pa.RecordBatch) -> bool:
    if not series.num_columns:
        return len(series) <= 1
    _, [ranks] = unify([series])
    return bool((np.diff(ranks) > 0).all())


# --- rows -------------------------------------------------------------------------------------------------


def _of_row_group(
    reader: SstReader,
    metadata: RegionMetadata,
    file: FileMeta,
    footer: Footer,
    number: int,
    dedup: Dedup,
    seen: _Seen,
) -> list[Flaw]:
    """Check a row group as the file has it, whatever the table's schema is by now."""
    stored = replace(footer.metadata, region_id=metadata.region_id)
    rows = reader.read(stored, file, [number], [column.name for column in stored.fields])
    if not len(rows):
        return _told(metadata, file, "rows", iter([f"row group {number} is empty"]))
    tags = reader.tag_columns(stored, file, number)
    found = [
        *_told(metadata, file, "rows", _of_rows(file, rows, dedup, seen)),
        *_told(metadata, file, "rows", _of_tags(rows, tags)),
        *_told(metadata, file, "statistics", _of_statistics(stored, file, footer, number, rows, tags)),
    ]
    seen.add(rows)
    return found


def _of_rows(file: FileMeta, rows: Batch, dedup: Dedup, seen: _Seen) -> Iterator[str]:
    before = seen.last or tuple(values[:0] for values in _keys(rows))
    codes, times, sequences, op_types = (
        np.concatenate(pair) for pair in zip(before, _keys(rows), strict=True)
    )  # fmt: skip
    same_series = codes[1:] == codes[:-1]
    same_key = same_series & (times[1:] == times[:-1])
    falls = (codes[1:] < codes[:-1]) | (same_series & (times[1:] < times[:-1]))
    if (falls | (same_key & (sequences[1:] >= sequences[:-1]))).any():
        yield "rows are not in the order of series, time, newest first"
    if dedup != "none":
        below = np.full(len(same_key), dedup == "merge")  # A delete marker may lie below a merged row.
        if (same_key & ~(below & (op_types[1:] == OpType.DELETE) & (op_types[:-1] == OpType.PUT))).any():
            yield "a key is there twice"
    if (op_types > OpType.PUT).any():
        yield "a row is neither put nor deleted"
    if int(sequences.min()) < file.min_sequence or int(sequences.max()) > file.max_sequence:
        yield f"a sequence is not from {file.min_sequence} to {file.max_sequence}, as the manifest says"


def _of_tags(rows: Batch, tags: pa.RecordBatch) -> Iterator[str]:
    codes = pa.array(rows.codes)
    for name, column in zip(tags.schema.names, tags.columns, strict=True):
        if not rows.series.column(name).take(codes).equals(column):
            yield f"tag {name!r} says otherwise than the table of series"


def _of_counts(file: FileMeta, seen: _Seen) -> Iterator[str]:
    for name, listed, found in (
        ("rows", file.row_count, seen.row_count),
        ("deletes", file.delete_count, seen.delete_count),
        ("first time", file.min_time, seen.min_time),
        ("last time", file.max_time, seen.max_time),
    ):
        if listed != found:
            yield f"{name}: {listed} by the manifest, {found} by the rows"


# --- statistics -------------------------------------------------------------------------------------------


def _of_statistics(
    stored: RegionMetadata, file: FileMeta, footer: Footer, number: int, rows: Batch, tags: pa.RecordBatch
) -> Iterator[str]:
    values = dict(zip(tags.schema.names, tags.columns, strict=True))
    values |= dict(zip(rows.fields.schema.names, rows.fields.columns, strict=True))
    values[stored.time.name] = pa.array(rows.times)
    for column in stored.columns:
        stats = footer.stats(column)[number]
        if stats is not None and _is_outside(stats, values[column.name]):
            yield f"statistics of column {column.name!r} do not hold in row group {number}"
        if _holds_untold_nan(file, column, values[column.name]):
            yield f"column {column.name!r} holds a NaN, and the manifest says that it does not"


def _is_outside(stats: ColumnStats, values: pa.Array) -> bool:
    """Tell whether some value is not what statistics say: a condition on it would skip it."""
    if stats.null_count is not None and stats.null_count != values.null_count:
        return True
    if not any(is_of(values.type) for is_of in _KINDS_WITH_BOUNDS):
        return False
    integers = values.view(pa.int64()) if pa.types.is_timestamp(values.type) else values
    ends = pc.min_max(integers).as_py()
    if ends["min"] is None:
        return False
    too_small = stats.minimum is not None and ends["min"] < stats.minimum
    return bool(too_small or (stats.maximum is not None and ends["max"] > stats.maximum))


def _holds_untold_nan(file: FileMeta, column: Column, values: pa.Array) -> bool:
    if file.nan_columns is None or column.column_id in file.nan_columns or not pa.types.is_floating(values.type):
        return False
    return bool(pc.any(pc.is_nan(values)).as_py())
