"""What is known of an SST without opening it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mitoframe.model.ids import FileId, Sequence

LEVEL_FLUSHED = 0
LEVEL_COMPACTED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """One SST, as the manifest lists it.

    ``min_time`` and ``max_time`` are both included, in the time column's unit. ``checksum`` is the CRC32C of the whole
    object. ``delete_count`` counts delete markers among ``row_count``. Keys are unique within a file.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> FileMeta:
        return FileMeta(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedFile:
    """An SST that no version lists any more, waiting for its readers to finish."""

    file_id: FileId
    removed_ms: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> RemovedFile:
        return RemovedFile(**value)
