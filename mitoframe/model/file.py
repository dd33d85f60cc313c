"""What is known of an SST without opening it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mitoframe.model.ids import NO_SEQUENCE, FileId, Sequence

LEVEL_HISTORY = -1
"""Row versions that were superseded before they were flushed; never in a version's list of files."""
LEVEL_FLUSHED = 0
LEVEL_COMPACTED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """One SST, as the manifest lists it.

    ``min_time`` and ``max_time`` are both included, in the time column's unit. ``checksum`` is the CRC32C of the whole
    object. ``delete_count`` counts delete markers among ``row_count``. Keys are unique within a file, but for tables
    that keep every row, and for a delete marker below a merged row.

    ``sequence_base`` is added to the sequences in the file: a backfill is written before it is known when its turn
    comes. ``min_sequence`` and ``max_sequence`` have it in them.
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
        value = asdict(self)
        if not self.sequence_base:
            del value["sequence_base"]
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> FileMeta:
        return FileMeta(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedFile:
    """An SST that no version lists any more, kept a while for readers and for taking changes back.

    ``removed_sequence`` is the newest sequence there was when it was removed. ``file`` is None if the manifest was
    written by a mitoframe that did not remember it.
    """

    file_id: FileId
    removed_ms: int
    removed_sequence: Sequence = NO_SEQUENCE
    file: FileMeta | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"file": None if self.file is None else self.file.to_json()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> RemovedFile:
        file = value.get("file")
        return RemovedFile(**value | {"file": None if file is None else FileMeta.from_json(file)})
