"""What is known of an SST without opening it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mitoframe.model.ids import FIRST_VERSION, NO_SEQUENCE, FileId, ManifestVersion, Sequence
from mitoframe.model.index import IndexMeta
from mitoframe.model.predicate import ColumnStats
from mitoframe.model.timerange import TIME_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mitoframe.model.batch import Times
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.model.timerange import TimeRange

LEVEL_HISTORY = -1
"""Row versions that were superseded before they were flushed; never in a version's list of files."""
LEVEL_FLUSHED = 0
LEVEL_COMPACTED = 1
BLOCK_BYTES = 256 * 1024
"""How much of a file a checksum of a part covers, in files that are written now."""
FORMER_BLOCK_BYTES = 2 * 1024 * 1024
"""The same in files of which the manifest does not say. Do not change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """One SST, as the manifest lists it.

    ``min_time`` and ``max_time`` are both included, in the time column's unit. ``checksum`` is the CRC32C of the whole
    object, ``blocks`` are those of its blocks of ``block_bytes``, if there are several. ``delete_count`` counts delete
    markers among ``row_count``. Keys are unique within a file, but for tables that keep every row, and for a delete
    marker below a merged row.

    ``sequence_base`` is added to the sequences in the file: a backfill is written before it is known when its turn
    comes. ``min_sequence`` and ``max_sequence`` have it in them.

    ``index`` is the newest sidecar with indexes of the file's rows, None if it never had one.

    ``derived_version`` is the manifest version in which the file took the place of others, or was listed again; 0 if
    its rows were in no file before.

    ``leading_tags`` says what values the first tags have in the file, counted in series: up to the first of which there
    are several, because files are sorted by tags, so that those after it hardly tell files apart. Bounds of long texts
    are wider than need be. Empty if it is not known.

    ``nan_columns`` are the ids of those columns in the file that hold a NaN; None if it is not known.

    ``covers`` says which times the values of tags cover, as ``storage/cover.py`` writes it, of tags of which that is
    short; empty if it is of none, or not known.
    """

    file_id: FileId
    level: int
    size_bytes: int
    checksum: int
    row_count: int
    delete_count: int
    series_count: int
    row_group_count: int
    min_time: int
    max_time: int
    min_sequence: Sequence
    max_sequence: Sequence
    schema_version: int
    created_ms: int
    sequence_base: int = 0
    derived_version: ManifestVersion = FIRST_VERSION
    index: IndexMeta | None = None
    blocks: tuple[int, ...] = ()
    block_bytes: int = FORMER_BLOCK_BYTES
    leading_tags: tuple[ColumnStats, ...] = ()
    nan_columns: tuple[int, ...] | None = None
    covers: str = ""

    def at_sequence(self, base: int) -> FileMeta:
        """Place a file whose sequences begin at 1 after sequence ``base``. Requires: it has no place yet."""
        assert self.sequence_base == 0, "a file is given its place once"
        return replace(
            self,
            sequence_base=base,
            min_sequence=Sequence(self.min_sequence + base),
            max_sequence=Sequence(self.max_sequence + base),
        )

    def to_json(self) -> dict[str, Any]:
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        if not self.sequence_base:
            del value["sequence_base"]
        if not self.derived_version:
            del value["derived_version"]
        if self.index is None:
            del value["index"]
        else:
            value["index"] = self.index.to_json()
        del value["blocks"], value["block_bytes"]
        if self.blocks:
            value["block_bytes"] = self.block_bytes
            value["blocks"] = b64encode(np.array(self.blocks, dtype="<u4").tobytes()).decode()
        del value["leading_tags"], value["nan_columns"]
        if self.leading_tags:
            value["leading_tags"] = [_stats_to_json(stats) for stats in self.leading_tags]
        if self.nan_columns is not None:
            value["nan_columns"] = list(self.nan_columns)
        if not self.covers:
            del value["covers"]
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> FileMeta:
        if "index" in value:
            value = value | {"index": IndexMeta.from_json(value["index"])}
        if "blocks" in value:
            value = value | {"blocks": tuple(np.frombuffer(b64decode(value["blocks"]), dtype="<u4").tolist())}
        if "leading_tags" in value:
            count = value["series_count"]
            value = value | {"leading_tags": tuple(_stats_from_json(stats, count) for stats in value["leading_tags"])}
        if "nan_columns" in value:
            value = value | {"nan_columns": tuple(value["nan_columns"])}
        return FileMeta(**value)


def _stats_to_json(stats: ColumnStats) -> list[Any]:
    return [_value_to_json(stats.minimum), _value_to_json(stats.maximum), stats.null_count]


def _stats_from_json(value: list[Any], series_count: int) -> ColumnStats:
    minimum, maximum, null_count = value
    return ColumnStats(
        minimum=_value_from_json(minimum),
        maximum=_value_from_json(maximum),
        null_count=null_count,
        row_count=series_count,
    )


def _value_to_json(value: Any) -> Any:
    return {"date": value.isoformat()} if isinstance(value, date) else value


def _value_from_json(value: Any) -> Any:
    return date.fromisoformat(value["date"]) if isinstance(value, dict) else value


def columns_without_nan(metadata: RegionMetadata, files: Iterable[FileMeta]) -> frozenset[str]:
    """Return the columns of floats of which it is known that they hold no NaN in any of some files.

    A column is known by its id: widening floats makes no NaN of a number. Of rows that are older than a column nothing
    is said: its initial value may be one.
    """
    known = [file.nan_columns for file in files]
    found = {column_id for ids in known if ids is not None for column_id in ids}
    if None in known:
        return frozenset()
    floats = (column for column in metadata.fields if pa.types.is_floating(column.type))
    return frozenset(column.name for column in floats if column.column_id not in found)


class Timeline:
    """Files by the times they cover, so that those of a range are found among many thousands without a look at each."""

    def __init__(self, files: Iterable[FileMeta]) -> None:
        """Take files of any order; nothing is done before the first question."""
        self._given = files
        self._made: tuple[tuple[FileMeta, ...], Times, Times] | None = None

    @property
    def files(self) -> tuple[FileMeta, ...]:
        """All files, by their first times, then as they were written."""
        return self._ordered()[0]

    def touching(self, wanted: TimeRange) -> list[FileMeta]:
        """Return the files that hold a time of the range, in the same order."""
        files, first, last = self._ordered()
        begun = np.searchsorted(first, wanted.end, side="right" if wanted.end == TIME_MAX else "left")
        return [files[i] for i in np.flatnonzero(last[:begun] >= wanted.start)]

    def _ordered(self) -> tuple[tuple[FileMeta, ...], Times, Times]:
        if self._made is None:  # Two threads may both do it; what they find is the same.
            files = tuple(sorted(self._given, key=lambda file: (file.min_time, file.min_sequence)))
            first = np.array([file.min_time for file in files], dtype=np.int64)
            last = np.array([file.max_time for file in files], dtype=np.int64)
            self._made = files, first, last
        return self._made


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedFile:
    """An SST that no version lists any more, kept a while for readers and for taking changes back.

    ``removed_sequence`` is the newest sequence there was when it was removed, ``removed_version`` the manifest version
    that did it. ``file`` is None if the manifest was written by a mitoframe that did not remember it.
    """

    file_id: FileId
    removed_ms: int
    removed_sequence: Sequence = NO_SEQUENCE
    file: FileMeta | None = None
    removed_version: ManifestVersion = FIRST_VERSION

    def to_json(self) -> dict[str, Any]:
        value = {each.name: getattr(self, each.name) for each in fields(self)}
        return value | {"file": None if self.file is None else self.file.to_json()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> RemovedFile:
        file = value.get("file")
        return RemovedFile(**value | {"file": None if file is None else FileMeta.from_json(file)})
