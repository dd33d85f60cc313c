"""What a manifest remembers of a region's earlier moments, so that they can be read again.

A *moment* is a manifest version and a sequence: the files of that version, and of the rows in memory then those up to
the sequence. Two moments are equal in rows if nothing lies between them but edits that change no row (a flush, a
compaction): `Past.newest_equal` tells.

    entries     a line per version: what it was, and the sequences before and after it
    marks       at which time which sequence was the newest: a few for each flush, so that a time can be looked up
    former      schemas and options that are no longer those of the region
    snapshots   moments with a name, which stay until they are dropped
    kept_since  moments before this version cannot be read any more, but for those with a name

All lists are bounded. Of the entries those that change no row go first: sequences still find their version without
them. When one that does has to go, the moments before the next go with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from mitoframe.model.ids import FIRST_VERSION, NO_SEQUENCE, ManifestVersion, Sequence
from mitoframe.model.options import RegionOptions
from mitoframe.model.schema import RegionMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable

ENTRIES_MAX = 1_000
MARKS_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A region as it was: after an edit, with the rows up to a sequence."""

    version: ManifestVersion
    sequence: Sequence


class Mark(NamedTuple):
    """At this time, rows up to this sequence had been written."""

    sequence: Sequence
    at_ms: int


class VersionEntry(NamedTuple):
    """One version of a manifest.

    Attributes:
        version: its number.
        before: the newest sequence before it.
        sequence: the newest sequence after it; more than ``before`` if it brought rows of its own.
        at_ms: when it was committed; never less than that of the version before.
        what: in a word: flush, compact, truncate and so on.
        row_count: rows in files after it, versions of one key counted each.
        is_neutral: no row that can be seen came, changed or went with it.

    """

    version: ManifestVersion
    before: Sequence
    sequence: Sequence
    at_ms: int
    what: str
    row_count: int
    is_neutral: bool

    @property
    def moment(self) -> Moment:
        return Moment(version=self.version, sequence=self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSnapshot:
    """A moment that somebody gave a name, and that is kept for it."""

    name: str
    version: ManifestVersion
    sequence: Sequence
    at_ms: int

    @property
    def moment(self) -> Moment:
        return Moment(version=self.version, sequence=self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerSchema:
    """What schema and options were before a version."""

    before: ManifestVersion
    metadata: RegionMetadata
    options: RegionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    entries: tuple[VersionEntry, ...] = ()
    marks: tuple[Mark, ...] = ()
    former: tuple[FormerSchema, ...] = ()
    snapshots: tuple[NamedSnapshot, ...] = ()
    kept_since: ManifestVersion = FIRST_VERSION

    # --- looking back -----------------------------------------------------------------------------------

    def snapshot(self, name: str) -> NamedSnapshot | None:
        return next((known for known in self.snapshots if known.name == name), None)

    def entry(self, version: int) -> VersionEntry | None:
        return next((entry for entry in self.entries if entry.version == version), None)

    def at_sequence(self, sequence: Sequence) -> Moment | None:
        """Return the first moment at which the row of a sequence was there, and nothing that came after it.

        None if no version is remembered that is as old.
        """
        older = takewhile(lambda entry: entry.version == FIRST_VERSION or entry.before < sequence, self.entries)
        versions = [entry.version for entry in older]
        return Moment(version=versions[-1], sequence=sequence) if versions else None

    def newest_equal(self, moment: Moment) -> Moment:
        """Return the newest moment with the same rows."""
        later = (entry for entry in self.entries if entry.version > moment.version)
        equal = takewhile(lambda entry: entry.is_neutral and entry.before == moment.sequence, later)
        return replace(moment, version=max((entry.version for entry in equal), default=moment.version))

    def is_kept(self, moment: Moment) -> bool:
        """Tell whether all that a moment needs is there still."""
        named = any(known.moment == moment for known in self.snapshots)
        return named or self.newest_equal(moment).version >= self.kept_since

    def kept_entries(self) -> tuple[VersionEntry, ...]:
        """Return the versions that can be read, oldest first: what `is_kept` says of each, in one pass."""
        named = {known.version for known in self.snapshots}
        kept: list[VersionEntry] = []
        newest_equal, following = self.kept_since, None
        for entry in reversed(self.entries):
            if following is None or not following.is_neutral or following.before != entry.sequence:
                newest_equal = entry.version
            if newest_equal >= self.kept_since or entry.version in named:
                kept.append(entry)
            following = entry
        return tuple(reversed(kept))

    def metadata_at(self, version: ManifestVersion) -> FormerSchema | None:
        """Return the schema and options of a version, None if they are those of today."""
        return next((schema for schema in self.former if version < schema.before), None)

    # --- going on ---------------------------------------------------------------------------------------

    def with_entry(self, entry: VersionEntry) -> Past:
        """Remember the next version."""
        at_ms = max(entry.at_ms, self.entries[-1].at_ms if self.entries else 0)
        return replace(self, entries=(*self.entries, entry._replace(at_ms=at_ms)))._bounded()

    def with_marks(self, marks: Iterable[Mark]) -> Past:
        """Remember more marks. Requires: they are newer than all there are."""
        added = (*self.marks, *marks)
        return replace(self, marks=added[-MARKS_MAX:]) if len(added) > len(self.marks) else self

    def with_snapshot(self, snapshot: NamedSnapshot) -> Past:
        return replace(self, snapshots=(*self.snapshots, snapshot))

    def without_snapshot(self, name: str) -> Past:
        return replace(self, snapshots=tuple(known for known in self.snapshots if known.name != name))._pruned()

    def with_former(self, former: FormerSchema) -> Past:
        return replace(self, former=(*self.former, former))

    def since(self, version: ManifestVersion) -> Past:
        """Say that what is needed for moments before a version may be gone."""
        return self if version <= self.kept_since else replace(self, kept_since=version)._pruned()

    def _bounded(self) -> Past:
        if len(self.entries) <= ENTRIES_MAX:
            return self
        # Not the newest: what comes next may be equal to it.
        place = next((i for i, entry in enumerate(self.entries[:-1]) if entry.version and entry.is_neutral), None)
        if place is not None:
            return replace(self, entries=self.entries[:place] + self.entries[place + 1 :])
        return replace(self, entries=self.entries[1:]).since(self.entries[1].version)

    def _pruned(self) -> Past:
        """Forget what nobody can ask for any more."""
        named = {known.version for known in self.snapshots}
        kept = self.kept_entries()
        oldest = min((entry.version for entry in kept), default=self.kept_since)
        former = tuple(schema for schema in self.former if schema.before > min([oldest, *named]))
        first = min((entry.before for entry in kept), default=NO_SEQUENCE)
        marks = tuple(mark for mark in self.marks if mark.sequence >= first)
        return replace(self, entries=kept, former=former, marks=marks)

    def to_json(self) -> dict[str, Any]:
        return {
            "entries": [list(entry) for entry in self.entries],
            "marks": [list(mark) for mark in self.marks],
            "former": [
                {
                    "before": schema.before,
                    "metadata": schema.metadata.to_json(),
                    "options": schema.options.to_json(),
                }
                for schema in self.former
            ],
            "snapshots": [asdict(snapshot) for snapshot in self.snapshots],
            "kept_since": self.kept_since,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Past:
        return Past(
            entries=tuple(VersionEntry(*entry) for entry in value["entries"]),
            marks=tuple(Mark(*mark) for mark in value["marks"]),
            former=tuple(
                FormerSchema(
                    before=schema["before"],
                    metadata=RegionMetadata.from_json(schema["metadata"]),
                    options=RegionOptions.from_json(schema["options"]),
                )
                for schema in value["former"]
            ),
            snapshots=tuple(NamedSnapshot(**snapshot) for snapshot in value["snapshots"]),
            kept_since=value["kept_since"],
        )


def thinned(marks: list[Mark], count_max: int) -> list[Mark]:
    """Return about evenly spread marks, no more than ``count_max``, the last among them."""
    if len(marks) <= count_max:
        return marks
    return [marks[(number + 1) * len(marks) // count_max - 1] for number in range(count_max)]
