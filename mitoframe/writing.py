"""From what a user hands in to one write: in pieces, through log and memtable or straight into SSTs, and only once.

A write of moderate size is one batch. One of `MitoConfig.backfill_size_bytes` or more, a stream or a lazy query of any
size included, is a backfill: sorted once, stored window by window, visible all at once.

In a notebook a cell is easily run twice. There, a write that was given no key has one made of its content, so that
writing the same rows again does nothing, and says so. Elsewhere nothing is assumed.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mitoframe.frames import arrow
from mitoframe.ingest import to_batches
from mitoframe.model.batch import joined
from mitoframe.model.edit import CONTENT_PREFIX
from mitoframe.model.errors import InvalidInputError, RepeatedWriteWarning
from mitoframe.model.wording import counted
from mitoframe.progress import in_notebook, progress

if TYPE_CHECKING:
    from mitoframe.engine.engine import MitoEngine
    from mitoframe.model.batch import Batch
    from mitoframe.model.ids import RegionId
    from mitoframe.model.request import Written
    from mitoframe.model.schema import RegionMetadata

PIECE_ROWS = 262_144
KEY_BYTES_MAX = 255


def write(
    engine: MitoEngine, region_id: RegionId, data: Any, keys: Sequence[str], *, key: str | None, table: str
) -> Written | None:
    """Write all of ``data``, or nothing; return None if it has no rows.

    Args:
        engine: whose region it is.
        region_id: where to.
        data: what a user hands in.
        keys: the names of time and tags.
        key: a name for this write, so that it is done once; None makes one of the content in a notebook; "" has none.
        table: what to call the region in messages.

    Raises:
        InvalidInputError: a value or column does not fit. Nothing was written.

    """
    check_key(key)
    metadata = engine.region(region_id).metadata
    content = Content(metadata) if key is None and in_notebook() else None
    drawn = pieces(data, keys, metadata)
    batches: deque[Batch] = deque()
    size_bytes = 0
    for batch in drawn:
        batches.append(batch)
        size_bytes += batch.size_bytes
        if size_bytes >= engine.config.backfill_size_bytes:
            written = _backfill(engine, region_id, metadata, chain(_drained(batches), drawn), key or "", content, table)
            return _told(written, table, content)
    rows = joined(list(batches))
    if not len(rows):
        return None
    if content is not None:
        content.include(rows)
    name = content.key() if content is not None else key or ""
    return _told(engine.write(region_id, rows, metadata=metadata, key=name), table, content)


def pieces(data: Any, keys: Sequence[str], metadata: RegionMetadata) -> Iterator[Batch]:
    """Yield what a user hands in as batches, drawn when asked for; at least one, which may be empty."""
    first_row = 0
    for piece in data.tables if isinstance(data, Drawn) else to_batches(data, keys, PIECE_ROWS):
        yield arrow.to_batch(metadata, piece, first_row=first_row)
        first_row += len(piece)


def _backfill(
    engine: MitoEngine,
    region_id: RegionId,
    metadata: RegionMetadata,
    batches: Iterator[Batch],
    key: str,
    content: Content | None,
    table: str,
) -> Written | None:
    with progress(f"writing {table!r}", "rows") as told:
        if content is None:
            return engine.bulk_insert(region_id, batches, metadata=metadata, key=key, told=told)
        watched = content.watching(batches)
        return engine.bulk_insert(region_id, watched, metadata=metadata, key=content.key, told=told)


def _drained(batches: deque[Batch]) -> Iterator[Batch]:
    """Yield batches, and hold each no longer than whoever draws them."""
    while batches:
        yield batches.popleft()


def _told(written: Written | None, table: str, content: Content | None) -> Written | None:
    if written is not None and written.repeated and content is not None:
        warnings.warn(
            f"the same {counted(written.row_count, 'row')} had been written to {table!r} before, so nothing was "
            'written now; give key="" to write them again.',
            RepeatedWriteWarning,
            stacklevel=4,
        )
    return written


class Drawn:
    """Data that was begun to be drawn: the first piece, and those to come."""

    def __init__(self, first: pa.Table, others: Iterator[pa.Table]) -> None:
        self.tables = chain([first], others)


def check_key(key: str | None) -> None:
    """Refuse what cannot be the name of a write."""
    if key is None:
        return
    if not isinstance(key, str):
        raise InvalidInputError(f"key is a {type(key).__name__}; give text that names this write.")
    if "\0" in key or key.startswith(CONTENT_PREFIX) or len(key.encode("utf-8", "replace")) > KEY_BYTES_MAX:
        raise InvalidInputError(
            f"key={key[:40]!r} cannot name a write; use at most {KEY_BYTES_MAX} bytes of text without NUL, "
            f"not beginning with {CONTENT_PREFIX!r}."
        )


class Content:
    """What some batches say, as a key: equal rows in equal order have equal keys, others have others."""

    def __init__(self, metadata: RegionMetadata) -> None:
        self._digest = blake2b(digest_size=16)
        self._digest.update(repr([(column.name, str(column.type)) for column in metadata.columns]).encode())

    def include(self, batch: Batch) -> None:
        """Take more rows into account."""
        sink = pa.PythonFile(_Digesting(self._digest.update), mode="w")
        for rows in (batch.series, batch.fields):
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_batch(rows)
        self._digest.update(batch.codes.tobytes())
        self._digest.update(batch.times.tobytes())

    def watching(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.include(batch)
            yield batch

    def key(self) -> str:
        return CONTENT_PREFIX + self._digest.hexdigest()


class _Digesting:
    """A file that passes on what is written to it and keeps nothing."""

    closed = False

    def __init__(self, update: Callable[[bytes], None]) -> None:
        self._update = update

    def write(self, data: bytes) -> int:
        self._update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held."""
