"""Asks the indexes of an SST which of its rows may match a condition.

An index is a hint. Whatever it does not know selects every row; one that is missing, damaged or newer than this
mitoframe is told of once with a `DamageWarning` and left alone, until it has been built anew. It answers for a column
as it was when it was built, known by id and type: a column that was altered since is as one without index.

What is selected is a superset of the rows that match *in this file*. Where other sources may hold newer versions of
the same keys, conditions on fields must not be asked at all: they could hide the newest version of a row and let an
older one shine through (`predicate.key_part`).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from mitoframe.model.errors import CorruptionError, DamageWarning, UnavailableError
from mitoframe.model.index import FULLTEXT, INVERTED, SKIPPING, entry_of
from mitoframe.model.predicate import And, Implied, IsNull, Not, Or, columns_of, conjunction, conjuncts, has_opaque
from mitoframe.model.rows import RowRanges
from mitoframe.storage.cache import Cache
from mitoframe.storage.index_bloom import SKIPPING_ROWS, Blooms
from mitoframe.storage.index_file import read_blob, read_footer
from mitoframe.storage.index_fulltext import FULLTEXT_ROWS, Fulltext
from mitoframe.storage.index_inverted import INVERTED_ROWS, Terms, Zones
from mitoframe.storage.index_segments import Segments
from mitoframe.storage.paths import index_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.index import IndexEntry
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.schema import Column, RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.index_file import IndexFooter
    from mitoframe.storage.index_values import Mask

_log = logging.getLogger("mitoframe")
_CACHE_BYTES = 32 * 1024 * 1024
_DAMAGE = (ValueError, KeyError, TypeError, pa.ArrowException, OSError, CorruptionError)
_ROWS = {INVERTED: INVERTED_ROWS, SKIPPING: SKIPPING_ROWS, FULLTEXT: FULLTEXT_ROWS}

OfTags: TypeAlias = Callable[["Predicate"], RowRanges | None]
"""Answers a condition on tags alone; None if it cannot."""


class _DamagedIndexError(Exception):
    """What is wrong with an index. It never leaves this module."""


class IndexReader:
    """Reads the indexes of a store; shared by all its regions and threads."""

    def __init__(self, store: ObjectStore, cache: Cache | None = None) -> None:
        self._store = store
        self._cache = cache or Cache(_CACHE_BYTES)
        self._damaged: dict[FileId, int] = {}

    def select(
        self, metadata: RegionMetadata, file: FileMeta, predicate: Predicate, of_tags: OfTags = lambda _: None
    ) -> RowRanges | None:
        """Return ranges of the file's rows outside of which none matches; None if nothing is known.

        Args:
            metadata: the schema whose names the condition uses.
            file: an SST.
            predicate: what is asked. Requires: on fields only if no other source may hold the same keys.
            of_tags: answers for tags, so that "this host, or that value" can be answered too.

        """
        if file.index is None or not file.index.entries or self.is_damaged(file):
            return None
        known = _Known(self, metadata, file, {column.name: column for column in metadata.columns}, of_tags)
        if not known.has_any(predicate):
            return None
        try:
            return known.rows(conjunction(list(conjuncts(predicate))))
        except UnavailableError as error:
            _log.warning("index not read file=%s error=%r", file.file_id, error)
        except _DamagedIndexError as error:
            self._tell_damage(metadata, file, error)
        return None

    def is_damaged(self, file: FileMeta) -> bool:
        """Tell whether the index that a file has now was found to be of no use."""
        return file.index is not None and self._damaged.get(file.file_id) == file.index.version

    def damage(self, metadata: RegionMetadata, file: FileMeta) -> str | None:
        """Read all indexes of a file, and say what is wrong with the first that cannot be used; None if nothing is.

        Raises:
            UnavailableError: storage did not answer, which says nothing about them.

        """
        try:
            for entry in file.index.entries if file.index is not None else ():
                self.index(metadata, file, entry)
        except _DamagedIndexError as error:
            return str(error)
        return None

    def distrust(self, file: FileMeta) -> None:
        """Leave the index that a file has now alone until it has been built anew."""
        if file.index is not None:
            self._damaged[file.file_id] = file.index.version

    def forget(self, file_id: FileId) -> None:
        """Drop what is known of the indexes of a file that was deleted."""
        self._damaged.pop(file_id, None)
        self._cache.forget(file_id)

    def _tell_damage(self, metadata: RegionMetadata, file: FileMeta, damage: _DamagedIndexError) -> None:
        assert file.index is not None
        self._damaged[file.file_id] = file.index.version
        key = index_key(metadata.region_id, file.file_id, file.index.version)
        warnings.warn(
            f"{key}: this index cannot be used: {damage}. Rows are found without it; it is built anew in the "
            "background, or now by build_index().",
            DamageWarning,
            stacklevel=3,
        )

    def index(self, metadata: RegionMetadata, file: FileMeta, entry: IndexEntry) -> _Index:
        """Read one index, or remember it."""
        try:
            return self._index(metadata, file, entry)
        except UnavailableError:
            raise
        except FileNotFoundError as error:
            raise _DamagedIndexError("it is missing") from error
        except _DAMAGE as error:
            raise _DamagedIndexError(str(error)) from error

    def _footer(self, metadata: RegionMetadata, file: FileMeta) -> IndexFooter:
        assert file.index is not None
        place = "index", file.index.version
        found: IndexFooter | None = self._cache.get("indexes", file.file_id, place)
        if found is None:
            key = index_key(metadata.region_id, file.file_id, file.index.version)
            found = read_footer(self._store, key, file.index.size_bytes)
            expected = file.file_id, file.index.version, file.row_count
            if (found.file_id, found.version, found.row_count) != expected:
                raise ValueError("it belongs to another file")
            self._cache.put("indexes", file.file_id, place, found, 200 * len(found.blobs))
        return found

    def _index(self, metadata: RegionMetadata, file: FileMeta, entry: IndexEntry) -> _Index:
        assert file.index is not None
        place = "index", file.index.version, entry
        found: _Index | None = self._cache.get("indexes", file.file_id, place)
        if found is None:
            key = index_key(metadata.region_id, file.file_id, file.index.version)
            blobs = self._footer(metadata, file).forms(entry)
            batches = {form: read_blob(self._store, key, blob) for form, blob in blobs.items()}
            found = _decode(entry, batches, file.row_count)
            size_bytes = sum(batch.get_total_buffer_size() for batch in batches.values())
            self._cache.put("indexes", file.file_id, place, found, size_bytes)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """One index of one column, in the forms it has."""

    segments: Segments
    terms: Terms | None = None
    zones: Zones | None = None
    blooms: Blooms | None = None
    fulltext: Fulltext | None = None

    def matching(self, leaf: Predicate, column: Column) -> list[Mask]:
        """Return which segments may match a condition on the column, as far as each form knows."""
        match leaf:
            case IsNull():
                return [self.segments.nulls]
            case Not(part=IsNull()):
                return [self.segments.values | self.segments.nans]
        found = []
        if self.zones is not None and (mask := self.zones.matching(leaf)) is not None:
            found.append(mask & self.segments.values | self.segments.nans)
        if self.blooms is not None and (mask := self.blooms.matching(leaf, column.type)) is not None:
            found.append(mask)
        if self.fulltext is not None and (mask := self.fulltext.matching(leaf, self.segments)) is not None:
            found.append(mask)
        return found


def _decode(entry: IndexEntry, batches: Mapping[str, pa.RecordBatch], row_count: int) -> _Index:
    """Take an index apart. ``KeyError`` or ``ValueError`` if it is not one."""
    granularity = _ROWS[entry.kind]
    segments = Segments.from_batch(batches["segments"], granularity)
    count = -(-row_count // granularity)
    if len(segments) != count:
        raise ValueError(f"it has {len(segments)} segments where there are {count}")
    terms = Terms.from_batch(batches["terms"], count) if "terms" in batches else None
    blooms = Blooms.from_batch(batches["bloom"]) if "bloom" in batches else None
    if any(len(batches[form]) != count for form in ("zones", "bloom") if form in batches):
        raise ValueError("its forms do not fit each other")
    if entry.kind == FULLTEXT:
        return _Index(segments=segments, fulltext=Fulltext(terms, blooms))
    zones = Zones.from_batch(batches["zones"], entry.type) if "zones" in batches else None
    return _Index(segments=segments, terms=terms, zones=zones, blooms=blooms)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the indexes of one file say of one condition."""

    reader: IndexReader
    metadata: RegionMetadata
    file: FileMeta
    columns: Mapping[str, Column]
    of_tags: OfTags

    def has_any(self, predicate: Predicate) -> bool:
        """Tell whether a column that the condition looks at has an index that can be used."""
        return any(self._entries(name) for name in columns_of(predicate))

    def rows(self, predicate: Predicate) -> RowRanges | None:
        """Return which rows may match. Requires: negations are pushed inward."""
        exact = self._of_one_column(predicate)
        if exact is not None:
            return exact
        match predicate:
            case And(parts=parts):
                return _in_all(self.rows(part) for part in _by_column(parts))
            case Or(parts=parts):
                return _in_any([self.rows(part) for part in parts])
            case Implied(part=part, implied=implied):
                return _in_all([self.rows(part), self.rows(implied)])
            case _:
                return self._of_leaf(predicate)

    def _of_one_column(self, predicate: Predicate) -> RowRanges | None:
        """Ask the distinct values of the one column that a condition looks at, however it is put together."""
        names = columns_of(predicate)
        if not names or has_opaque(predicate):
            return None
        if names <= {tag.name for tag in self.metadata.tags}:
            return self.of_tags(predicate)
        [name, *others] = names
        for index in [] if others else self._indexes(name):
            if index.terms is not None and (mask := index.terms.matching(predicate, name, index.segments)) is not None:
                return self._rows_of(mask, index)
        return None

    def _of_leaf(self, leaf: Predicate) -> RowRanges | None:
        names = columns_of(leaf)
        if len(names) != 1 or has_opaque(leaf):
            return None
        [name] = names
        return _in_all(
            self._rows_of(mask, index)
            for index in self._indexes(name)
            for mask in index.matching(leaf, self.columns[name])
        )

    def _rows_of(self, mask: Mask, index: _Index) -> RowRanges:
        return RowRanges.from_mask(mask, index.segments.granularity).clip(0, self.file.row_count)

    def _indexes(self, name: str) -> list[_Index]:
        return [self.reader.index(self.metadata, self.file, entry) for entry in self._entries(name)]

    def _entries(self, name: str) -> list[IndexEntry]:
        column = self.columns.get(name)
        if column is None or self.file.index is None:
            return []
        return [entry for entry in self.file.index.entries if entry == entry_of(column, entry.kind)]


def _by_column(parts: Iterable[Predicate]) -> list[Predicate]:
    """Put conditions on one column together: ``5 < x`` and ``x < 9`` are asked of each value at once."""
    found: dict[object, list[Predicate]] = {}
    for number, part in enumerate(parts):
        names = columns_of(part)
        alone = len(names) == 1 and not has_opaque(part)
        found.setdefault(names if alone else number, []).append(part)
    # What stood alone before stands alone now, so that this comes to an end.
    return [part for some in found.values() for part in ([conjunction(some)] if len(found) > 1 else some)]


def _in_all(known: Iterable[RowRanges | None]) -> RowRanges | None:
    some = [rows for rows in known if rows is not None]
    return reduce(RowRanges.intersect, some) if some else None


def _in_any(known: list[RowRanges | None]) -> RowRanges | None:
    some = [rows for rows in known if rows is not None]
    return reduce(RowRanges.union, some, RowRanges.nothing()) if len(some) == len(known) else None
