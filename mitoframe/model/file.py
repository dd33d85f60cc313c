"""What is known of an SST without opening it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mitoframe.model.ids import FIRST_VERSION, NO_SEQUENCE, FileId, ManifestVersion, Sequence
from mitoframe.model.index import IndexMeta
from mitoframe.model.timerange import TIME_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mitoframe.model.batch import Times
    from mitoframe.model.timerange import TimeRange

LEVEL_HISTORY = -1
"""Row versions that were superseded before they were flushed; never in a version's list of files."""
LEVEL_FLUSHED = 0
LEVEL_COMPACTED = 1
BLOCK_BYTES = 2 * 1024 * 1024
"""How much of a file a checksum of a part covers. Written to disk: do not change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMeta:
    """One SST, as the manifest lists it.

    ``min_time`` and ``max_time`` are both included, in the time column's unit. ``checksum`` is the CRC32C of the whole
    object, ``blocks`` are those of its blocks of `BLOCK_BYTES`, if there are several. ``delete_count`` counts delete
    markers among ``row_count``. Keys are unique within a file, but for tables that keep every row, and for a delete
    marker below a merged row.

    ``sequence_base`` is added to the sequences in the file: a backfill is written before it is known when its turn
    comes. ``min_sequence`` and ``max_sequence`` have it in them.

    ``index`` is the newest sidecar with indexes of the file's rows, None if it never had one.

    ``derived_version`` is the manifest version in which the file took the place of others, or was listed again; 0 if
    its rows were in no file before.
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
        if not self.derived_version:
            del value["derived_version"]
        if self.index is None:
            del value["index"]
        else:
            value["index"] = self.index.to_json()
        del value["blocks"]
        if self.blocks:
            value["blocks"] = b64encode(np.array(self.blocks, dtype="<u4").tobytes()).decode()
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> FileMeta:
        if "index" in value:
            value = value | {"index": IndexMeta.from_json(value["index"])}
        if "blocks" in value:
            value = value | {"blocks": tuple(np.frombuffer(b64decode(value["blocks"]), dtype="<u4").tolist())}
        return FileMeta(**value)


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
        return asdict(self) | {"file": None if self.file is None else self.file.to_json()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> RemovedFile:
        file = value.get("file")
        return RemovedFile(**value | {"file": None if file is None else FileMeta.from_json(file)})
