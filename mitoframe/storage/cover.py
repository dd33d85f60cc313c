"""Which times the values of a tag cover in a file, and how the manifest says so.

A value covers the range of times of each row group that holds rows of it; row groups that touch are one *stretch*. A
row group of few rows of a value says nothing of gaps within it.

What is short is kept with the file in the manifest (`FileMeta.covers`), so that a look at all files of a table opens
none. It is JSON, by the place of the tag in the key:

    {"0": [values, row counts], "2": [values, row counts, starts, ends]}

Starts and ends are counted from the file's first time; without them every value covers all of the file. Tags of many
values are left out, and so is what `COVERS_CHARACTERS_MAX` has no room for: their files have to be opened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import Column
    from mitoframe.storage.sst_reader import Footer

    Integers = npt.NDArray[np.int64]

COVERS_CHARACTERS_MAX = 512
"""So much is told to the manifest of a file, which is read whole whenever a table is opened."""
VALUES_MAX = 64
_SAMPLE = 1024
_FEW_CELLS = 4
"""Up to so many cells for each piece are counted, and not sorted."""
_PLAIN_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
"""What JSON has, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The rows that each row group has of each series: which they are of, how many; and the times of the row groups."""

    series: Integers
    groups: Integers
    row_counts: Integers
    first_times: Integers
    last_times: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """One entry per stretch, value by value and by time; no two of a value touch. Times are included."""

    values: pa.Array
    starts: Integers
    ends: Integers
    row_counts: Integers


def cut(offsets: Integers, starts: Integers, times: Many[tuple[int, int]]) -> Pieces:
    """Return what each row group has of each series.

    ``offsets`` and ``starts`` are the first rows of these and of those, and the number of rows; ``times`` those between
    which each row group lies, both included.
    """
    cuts = np.union1d(offsets, starts)
    first_times, last_times = np.array(times, dtype=np.int64).T
    return Pieces(
        series=np.searchsorted(offsets, cuts[:-1], side="right") - 1,
        groups=np.searchsorted(starts, cuts[:-1], side="right") - 1,
        row_counts=np.diff(cuts),
        first_times=first_times,
        last_times=last_times,
    )


def pieces_of(file: FileMeta, footer: Footer, time: Column) -> Pieces:
    """Return the pieces of a file; where the footer says nothing of times, the manifest does."""
    if file.row_group_count == 1:
        times = [(file.min_time, file.max_time)]
    else:
        known = (None if of is None or of.minimum is None else (of.minimum, of.maximum) for of in footer.stats(time))
        times = [each or (file.min_time, file.max_time) for each in known]
    return cut(footer.offsets, footer.starts, times)


def cover_of(tags: pa.Array, pieces: Pieces) -> Cover:
    """Tell what the values of a tag cover: ``tags`` has that of each series."""
    encoded = tags.dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    group_count = len(pieces.first_times)
    cells, row_counts = _summed(codes[pieces.series] * group_count + pieces.groups, pieces.row_counts)
    codes, groups = np.divmod(cells, group_count)
    return joined(encoded.dictionary, codes, pieces.first_times[groups], pieces.last_times[groups], row_counts)


def _summed(cells: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Return which cells there are, in order, and the sum of the counts of each."""
    if int(cells.max()) < _FEW_CELLS * len(cells):
        sums = np.bincount(cells, counts).astype(np.int64)
        there = np.flatnonzero(sums)
        return there, sums[there]
    order = np.argsort(cells, kind="stable")
    cells, first = np.unique(cells[order], return_index=True)
    return cells, np.add.reduceat(counts[order], first)


def joined(values: pa.Array, codes: Integers, starts: Integers, ends: Integers, row_counts: Integers) -> Cover:
    """Put what touches together, value by value: ``codes`` say which of ``values`` a range of times is of."""
    order = np.lexsort([starts, codes])
    codes, starts, ends, row_counts = codes[order], starts[order], ends[order], row_counts[order]
    is_first = np.append(True, codes[1:] != codes[:-1])[: len(codes)]
    if not is_first.all():
        furthest = 0
        for at, (begins, start, end) in enumerate(zip(is_first.tolist(), starts.tolist(), ends.tolist(), strict=True)):
            is_first[at] = begins or start > furthest
            furthest = end if is_first[at] else max(furthest, end)
    first = np.flatnonzero(is_first)
    return Cover(
        values=values.take(pa.array(codes[first])),
        starts=starts[first],
        ends=np.maximum.reduceat(ends, first),
        row_counts=np.add.reduceat(row_counts, first),
    )


def covers(series: pa.RecordBatch, pieces: Pieces) -> str:
    """Return what the manifest is to know of a file; empty if nothing of it is short."""
    found: list[str] = []
    room = COVERS_CHARACTERS_MAX - len("{}")
    for place, column in enumerate(series.columns):
        if not any(is_plain(column.type) for is_plain in _PLAIN_TYPES) or _has_many(column):
            continue
        text = f'"{place}":{json.dumps(words_of(column, pieces), separators=(",", ":"))}'
        if len(text) + len(",") <= room:
            found.append(text)
            room -= len(text) + len(",")
    return f"{{{','.join(found)}}}" if found else ""


def _has_many(column: pa.Array) -> bool:
    # Mostly the first series tell; not of the tags by which series are sorted first.
    return len(column.slice(0, _SAMPLE).unique()) > VALUES_MAX or len(column.unique()) > VALUES_MAX


def words_of(tags: pa.Array, pieces: Pieces) -> list[list[Any]]:
    """Return what the manifest says of one tag of a file."""
    cover = cover_of(tags, pieces)
    first, last = int(pieces.first_times.min()), int(pieces.last_times.max())
    words = [cover.values.to_pylist(), cover.row_counts.tolist()]
    if (cover.starts != first).any() or (cover.ends != last).any():
        # In Python's numbers: a file may span more than 64 bits count.
        words += [[time - first for time in times.tolist()] for times in (cover.starts, cover.ends)]
    return words


# --- of many files -------------------------------------------------------------------------------------


def said_of(file: FileMeta, place: int) -> list[Any] | None:
    """Return what the manifest says of a tag in a file, None if the file has to be opened."""
    return json.loads(file.covers).get(str(place)) if file.covers else None


def cover_said(files: Many[FileMeta], said: Many[list[Any]], tag_type: pa.DataType) -> tuple[Integers, Cover]:
    """Return how many stretches each of some files has, and all of these, of what `said_of` told."""
    counts = np.array([len(each[1]) for each in said], dtype=np.int64)
    return counts, Cover(
        values=pa.array(chain.from_iterable(each[0] for each in said), tag_type),
        starts=_times(said, 2, [file.min_time for file in files], [file.min_time for file in files]),
        ends=_times(said, 3, [file.min_time for file in files], [file.max_time for file in files]),
        row_counts=np.array([count for each in said for count in each[1]], dtype=np.int64),
    )


def _times(said: Many[list[Any]], place: int, origins: list[int], usual: list[int]) -> Integers:
    found: list[int] = []
    for each, origin, otherwise in zip(said, origins, usual, strict=True):
        found += [origin + time for time in each[place]] if len(each) > place else [otherwise] * len(each[1])
    return np.array(found, dtype=np.int64)
