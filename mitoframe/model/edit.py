"""All that can happen to a region, as values, and the state they fold into.

A region's manifest is a list of these. ``state.apply(edit)`` is pure: it returns the next state or raises
`ConflictError`, and nobody changes a state in place. The JSON is written to disk: a change of it is a new format.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from mitoframe.model.errors import ConflictError
from mitoframe.model.file import FileMeta, RemovedFile
from mitoframe.model.ids import NO_ENTRY, NO_SEQUENCE, EntryId, FileId, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.schema import RegionMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The region's schema and options from now on. The first action of every manifest."""

    metadata: RegionMetadata
    options: RegionOptions

    def to_json(self) -> dict[str, Any]:
        return {"change": {"metadata": self.metadata.to_json(), "options": self.options.to_json()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEdit:
    """Files come and go, and with them the part of the log that is no longer needed.

    ``flushed_entry_id`` and ``flushed_sequence`` only ever move up. ``forgotten`` names removed files whose objects
    have been deleted.
    """

    added: tuple[FileMeta, ...] = ()
    removed: tuple[FileId, ...] = ()
    forgotten: tuple[FileId, ...] = ()
    flushed_entry_id: EntryId | None = None
    flushed_sequence: Sequence | None = None
    compaction_window_ms: int | None = None
    at_ms: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "files": {
                "added": [file.to_json() for file in self.added],
                "removed": list(self.removed),
                "forgotten": list(self.forgotten),
                "flushed_entry_id": self.flushed_entry_id,
                "flushed_sequence": self.flushed_sequence,
                "compaction_window_ms": self.compaction_window_ms,
                "at_ms": self.at_ms,
                "reason": self.reason,
            }
        }


Edit: TypeAlias = Change | FileEdit


def edit_from_json(value: dict[str, Any]) -> Edit:
    """Read what ``to_json`` wrote. ``ValueError`` for an action this version does not know."""
    match value:
        case {"change": body}:
            return Change(
                metadata=RegionMetadata.from_json(body["metadata"]), options=RegionOptions.from_json(body["options"])
            )
        case {"files": body}:
            return FileEdit(
                **body
                | {
                    "added": tuple(FileMeta.from_json(file) for file in body["added"]),
                    "removed": tuple(body["removed"]),
                    "forgotten": tuple(body["forgotten"]),
                }
            )
        case _:
            raise ValueError(f"unknown action {sorted(value)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionState:
    """What a manifest says when all its edits are folded together."""

    metadata: RegionMetadata
    options: RegionOptions
    files: Mapping[FileId, FileMeta] = field(default_factory=lambda: MappingProxyType({}))
    removed_files: tuple[RemovedFile, ...] = ()
    flushed_entry_id: EntryId = NO_ENTRY
    flushed_sequence: Sequence = NO_SEQUENCE
    compaction_window_ms: int | None = None

    def apply(self, edit: Edit) -> RegionState:
        """Return the state after ``edit``.

        Raises:
            ConflictError: the edit removes a file that is not there, or adds one that is.

        """
        if isinstance(edit, Change):
            return replace(self, metadata=edit.metadata, options=edit.options)
        for file_id in edit.removed:
            if file_id not in self.files:
                raise ConflictError(f"file {file_id} is not in the region any more; plan again from the current files.")
        for file in edit.added:
            if file.file_id in self.files:
                raise ConflictError(f"file {file.file_id} is in the region already; it was added before.")
        return replace(
            self,
            files=self._files_after(edit),
            removed_files=self._removed_after(edit),
            flushed_entry_id=max(self.flushed_entry_id, edit.flushed_entry_id or NO_ENTRY),
            flushed_sequence=max(self.flushed_sequence, edit.flushed_sequence or NO_SEQUENCE),
            compaction_window_ms=edit.compaction_window_ms or self.compaction_window_ms,
        )

    def _files_after(self, edit: FileEdit) -> Mapping[FileId, FileMeta]:
        kept = {file_id: file for file_id, file in self.files.items() if file_id not in edit.removed}
        return MappingProxyType(kept | {file.file_id: file for file in edit.added})

    def _removed_after(self, edit: FileEdit) -> tuple[RemovedFile, ...]:
        waiting = tuple(file for file in self.removed_files if file.file_id not in edit.forgotten)
        return waiting + tuple(RemovedFile(file_id=file_id, removed_ms=edit.at_ms) for file_id in edit.removed)

    def to_json(self) -> dict[str, Any]:
        return {
            "metadata": self.metadata.to_json(),
            "options": self.options.to_json(),
            "files": [file.to_json() for file in self.files.values()],
            "removed_files": [file.to_json() for file in self.removed_files],
            "flushed_entry_id": self.flushed_entry_id,
            "flushed_sequence": self.flushed_sequence,
            "compaction_window_ms": self.compaction_window_ms,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> RegionState:
        files = [FileMeta.from_json(file) for file in value["files"]]
        return RegionState(
            **value
            | {
                "metadata": RegionMetadata.from_json(value["metadata"]),
                "options": RegionOptions.from_json(value["options"]),
                "files": MappingProxyType({file.file_id: file for file in files}),
                "removed_files": tuple(RemovedFile.from_json(file) for file in value["removed_files"]),
            }
        )
