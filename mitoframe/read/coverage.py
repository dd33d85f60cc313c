"""Which times the series of a table cover, as far as metadata tells: no row of a file is read.

What a file covers by the values of a tag is in the manifest where that is short (`storage/cover.py`); other files are
opened. Rows in memory are told exactly to their ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from mitoframe.model.ids import Sequence
from mitoframe.storage.cover import Cover, cover_of, cover_said, joined, pieces_of, said_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Sequence as Many

    import numpy.typing as npt

    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.control import Snapshot
    from mitoframe.storage.sst_reader import SstReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """What some sources cover: each has the next of ``counts`` entries of ``cover``.

    Sources are files, or None for a memtable; ``min_sequences`` are those of their oldest rows.
    """

    sources: Many[FileMeta | None]
    min_sequences: Many[Sequence]
    counts: npt.NDArray[np.int64]
    cover: Cover


def coverage_by(snapshot: Snapshot, reader: SstReader, tag: str, told: Callable[[int], None]) -> Iterator[Stretches]:
    """Yield what the files and memtables cover, by the values of a tag, the files in the order of the version.

    ``told`` gets how many files have been looked at.
    """
    version = snapshot.version
    metadata = version.state.metadata
    place = [column.name for column in metadata.tags].index(tag)
    looked_at = 0
    known = ((file, said_of(file, place)) for file in version.state.files.values())
    for is_said, group in groupby(known, key=lambda each: each[1] is not None):
        if is_said:
            files, said = zip(*group, strict=True)
            looked_at += len(files)
            told(looked_at)
            oldest = [file.min_sequence for file in files]
            counts, cover = cover_said(files, said, metadata.tags[place].type)
            yield Stretches(sources=files, min_sequences=oldest, counts=counts, cover=cover)
            continue
        for file, _ in group:
            looked_at += 1
            told(looked_at)
            yield _of_one(file, file.min_sequence, _opened(reader, metadata, file, tag))
    for memtable in version.memtables:
        rows = memtable.sorted(snapshot.visible)
        if rows is not None:
            yield _of_one(None, Sequence(int(rows.sequences.min())), _of_batch(rows, tag))


def _of_one(source: FileMeta | None, min_sequence: Sequence, cover: Cover) -> Stretches:
    count = np.array([len(cover.values)])
    return Stretches(sources=[source], min_sequences=[min_sequence], counts=count, cover=cover)


def _opened(reader: SstReader, metadata: RegionMetadata, file: FileMeta, tag: str) -> Cover:
    footer = reader.footer(metadata, file)
    return cover_of(footer.series.column(tag), pieces_of(file, footer, metadata.time))


def _of_batch(rows: Batch, tag: str) -> Cover:
    """Return what sorted rows cover: each series from its first row to its last."""
    first_rows = np.flatnonzero(np.diff(rows.codes, prepend=-1))
    end_rows = np.append(first_rows[1:], len(rows))
    encoded = rows.series.column(tag).dictionary_encode(null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False)[rows.codes[first_rows]].astype(np.int64)
    starts, ends = rows.times[first_rows], rows.times[end_rows - 1]
    return joined(encoded.dictionary, codes, starts, ends, end_rows - first_rows)
