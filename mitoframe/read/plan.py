"""What a scan will read, decided without reading a row.

1. Files and memtables whose time range cannot match are left out, and files whose first tags cannot. Tags are part of
   the key: what such a file holds are no other versions of rows that are asked for. What has expired is one more
   condition on the time; a file that holds such rows is never direct, because whoever reads it would see them.
2. What is left is grouped: sources that have a time in common may hold the same key and must be merged, unless their
   first tags say that no series is in both, as with the outputs of a merge that was cut between series; a file that
   stands alone, holds no delete markers, is wholly visible and has the columns of today can be read as it is
   (*direct*). Where every row is kept (``dedup="none"``) nothing is merged, and every source stands alone.
3. Within a merged group only conditions on key columns may skip row groups. A condition on a field could skip the
   newest version of a row and let an older one shine through; such conditions wait until after dedup.

Pruning only ever skips. The whole predicate is applied once, at the end, by whoever runs the plan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.file import LEVEL_HISTORY
from mitoframe.model.predicate import ALWAYS, Compare, conjunction, conjuncts, describe, key_part, may_match, time_range
from mitoframe.model.schema import SEQUENCE_COLUMN
from mitoframe.model.timerange import EVERYTHING, TIME_MIN, TimeRange, connected
from mitoframe.model.wording import counted
from mitoframe.storage.compat import reads_as_it_is

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from mitoframe.model.file import FileMeta, Timeline
    from mitoframe.model.ids import ManifestVersion, Sequence
    from mitoframe.model.options import Dedup
    from mitoframe.model.predicate import ColumnStats, Predicate
    from mitoframe.model.request import ScanRequest
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.control import Snapshot
    from mitoframe.region.version import Version
    from mitoframe.storage.memtable import Memtable, MemtableRange


SOURCES_COMPARED_MAX = 64
"""Of how many sources with a time in common each pair is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeGroup:
    """Sources that must be merged. ``key_predicate`` may skip row groups of its files."""

    files: tuple[FileMeta, ...]
    buffered: tuple[MemtableRange, ...]
    key_predicate: Predicate


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPlan:
    """``direct`` and ``groups`` together hold every row that may match. Holding the plan pins its files.

    ``predicate`` is all that is asked for, with the range of times; ``time_range`` what follows from it for times.
    ``listed`` are the files that there are, ``off_keys`` so many of those that hold times asked for, but no such tags.
    """

    version: Version
    visible: Sequence
    request: ScanRequest
    predicate: Predicate
    time_range: TimeRange
    direct: tuple[FileMeta, ...]
    groups: tuple[MergeGroup, ...]
    listed: Timeline
    off_keys: int = 0

    @property
    def pruned(self) -> tuple[FileMeta, ...]:
        """The files that are not read, by their times."""
        read = {file.file_id for file in self.direct}
        read.update(file.file_id for group in self.groups for file in group.files)
        return tuple(file for file in self.listed.files if file.file_id not in read)

    @property
    def metadata(self) -> RegionMetadata:
        return self.version.state.metadata

    @property
    def manifest_version(self) -> ManifestVersion:
        return self.version.manifest_version

    @property
    def key(self) -> str:
        """Equal keys mean equal rows."""
        since = f".{self.request.min_sequence}" if self.request.min_sequence else ""
        kept = f".from{self.request.kept_from}" if self.request.kept_from != TIME_MIN else ""
        return f"{self.manifest_version}.{self.visible}{since}{kept}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A file or a part of a memtable, by the times it covers (inclusive)."""

    first: int
    last: int
    file: FileMeta | None = None
    buffered: MemtableRange | None = None

    @property
    def max_sequence(self) -> Sequence:
        if self.file is not None:
            return self.file.max_sequence
        assert self.buffered is not None
        return self.buffered.stats.max_sequence


def plan_scan(snapshot: Snapshot, request: ScanRequest) -> ScanPlan:
    """Decide what to read of a snapshot."""
    version = snapshot.version
    visible = snapshot.visible if request.sequence is None else min(snapshot.visible, request.sequence)
    metadata = version.state.metadata
    predicate = _with_range(request, metadata)
    wanted = time_range(predicate, metadata.time.name)
    listed = version.timeline
    touched = [file for file in listed.touching(wanted) if file.min_sequence <= visible]
    files = with_tags(touched, metadata, predicate)
    sources = [_Source(first=file.min_time, last=file.max_time, file=file) for file in files]
    sources += _memtable_sources(version.memtables, wanted, visible)
    key_predicate = key_part(predicate, metadata.key_names)
    direct: list[FileMeta] = []
    groups: list[MergeGroup] = []
    for group in _newer(_groups(sources, version.state.options.dedup), request.min_sequence):
        alone = group[0].file if len(group) == 1 else None
        if alone is not None and _reads_as_it_is(alone, metadata, visible, request):
            direct.append(alone)
        else:
            groups.append(_merge_group(group, key_predicate))
    return ScanPlan(
        version=version,
        visible=visible,
        request=request,
        predicate=predicate,
        time_range=wanted,
        direct=tuple(direct),
        groups=tuple(groups),
        listed=listed,
        off_keys=len(touched) - len(files),
    )


def with_expired(plan: ScanPlan) -> ScanPlan:
    """Return a plan that reads what has expired too, for whoever leaves it out by himself."""
    if plan.request.kept_from == TIME_MIN:
        return plan
    time = plan.metadata.time.name
    is_kept = Compare(time, ">=", plan.request.kept_from)
    predicate = conjunction([part for part in conjuncts(plan.predicate) if part != is_kept])
    return replace(plan, predicate=predicate, time_range=time_range(predicate, time))


def with_tags(files: Many[FileMeta], metadata: RegionMetadata, predicate: Predicate) -> Many[FileMeta]:
    """Return the files that may hold tags as asked for, by what the manifest knows of their first tags."""
    asked = key_part(predicate, metadata.tag_names)
    if asked == ALWAYS:
        return files
    # Tags are never altered: those of a file of any time are those of today.
    names = [tag.name for tag in metadata.tags]
    return [file for file in files if may_match(asked, dict(zip(names, file.leading_tags, strict=False)))]


def _groups(sources: list[_Source], dedup: Dedup) -> list[list[_Source]]:
    if dedup == "none":
        return [[source] for source in sources]
    groups = connected(sources, lambda source: source.first, lambda source: source.last)
    return [part for group in groups for part in _apart(group)]


def _apart(group: list[_Source]) -> list[list[_Source]]:
    """Divide sources that have times in common by the series that they may have in common."""
    files = [source.file for source in group if source.file is not None and source.file.leading_tags]
    if not 1 < len(files) == len(group) <= SOURCES_COMPARED_MAX:
        return [group]
    left, parts = list(range(len(group))), []
    while left:
        part = [left.pop(0)]
        for one in part:  # It grows meanwhile.
            part += [other for other in left if _may_share_a_key(files[one], files[other])]
            left = [other for other in left if other not in part]
        parts.append([group[number] for number in sorted(part)])
    return parts


def _may_share_a_key(one: FileMeta, other: FileMeta) -> bool:
    if one.min_time > other.max_time or other.min_time > one.max_time:
        return False
    return all(_may_share(*tags) for tags in zip(one.leading_tags, other.leading_tags, strict=False))


def _may_share(one: ColumnStats, other: ColumnStats) -> bool:
    if one.null_count != 0 and other.null_count != 0:
        return True
    if one.minimum is None or other.minimum is None or one.maximum is None or other.maximum is None:
        return True
    return bool(one.minimum <= other.maximum and other.minimum <= one.maximum)


def _newer(groups: list[list[_Source]], min_sequence: Sequence) -> list[list[_Source]]:
    """Leave out groups without a row above a sequence. Of others all is kept: a row may be filled from older ones."""
    return [group for group in groups if any(source.max_sequence > min_sequence for source in group)]


def _reads_as_it_is(file: FileMeta, metadata: RegionMetadata, visible: Sequence, request: ScanRequest) -> bool:
    if file.level == LEVEL_HISTORY or file.delete_count or file.min_time < request.kept_from:
        return False
    if not request.min_sequence < file.min_sequence <= file.max_sequence <= visible:
        return False
    return reads_as_it_is(metadata, file.schema_version)


def _memtable_sources(memtables: Many[Memtable], wanted: TimeRange, visible: Sequence) -> list[_Source]:
    return [
        _Source(first=part.stats.min_time, last=part.stats.max_time, buffered=part)
        for memtable in memtables
        for part in memtable.ranges()
        if part.stats.min_sequence <= visible and wanted.touches(part.stats.min_time, part.stats.max_time)
    ]


def _merge_group(sources: list[_Source], key_predicate: Predicate) -> MergeGroup:
    return MergeGroup(
        files=tuple(source.file for source in sources if source.file is not None),
        buffered=tuple(source.buffered for source in sources if source.buffered is not None),
        key_predicate=key_predicate,
    )


def _with_range(request: ScanRequest, metadata: RegionMetadata) -> Predicate:
    parts = [request.predicate]
    if request.min_sequence:
        parts.append(Compare(SEQUENCE_COLUMN, ">", request.min_sequence))
    start = max(request.time_range.start, request.kept_from)
    if start != EVERYTHING.start:
        parts.append(Compare(metadata.time.name, ">=", start))
    if request.time_range.end != EVERYTHING.end:
        parts.append(Compare(metadata.time.name, "<", request.time_range.end))
    return conjunction(parts)


def explain(plan: ScanPlan) -> str:
    """Write a plan as text: what is read how, and what is skipped and why."""
    show = show_values(plan.metadata)
    read = len(plan.direct) + sum(len(group.files) for group in plan.groups)
    total = len(plan.listed.files)
    by_tags = f", {plan.off_keys} by key range" if plan.off_keys else ""
    lines = [
        f"scan at manifest version {plan.manifest_version}, sequence {plan.visible}",
        f"  where       {describe(plan.predicate, show)}",
        f"  files       {read} of {total} to read, {total - read - plan.off_keys} pruned by time{by_tags}",
    ]
    if plan.direct:
        lines.append(f"  as they are {counted(len(plan.direct), 'file')} without overlap, {_rows(plan.direct)}")
    for group in plan.groups:
        buffered = sum(part.stats.row_count for part in group.buffered)
        parts = [f"{counted(len(group.files), 'file')} with {_rows(group.files)}"] if group.files else []
        parts += [f"{counted(buffered, 'row')} in memory"] if group.buffered else []
        lines.append(f"  merged      {' and '.join(parts)}, skipping by {describe(group.key_predicate, show)}")
    if not plan.direct and not plan.groups:
        lines.append("  nothing to read")
    return "\n".join(lines)


def show_values(metadata: RegionMetadata) -> Callable[[str, Any], str]:
    """Return how to write values: times are integers in a predicate and dates to a person."""
    time = metadata.time

    def show(name: str, value: Any) -> str:
        if name != time.name or not isinstance(value, int):
            return repr(value)
        text = str(pc.cast(pa.scalar(value, time.type), pa.string()))
        return re.sub(r"\.0+(?=\D|$)", "", text)

    return show


def _rows(files: Many[FileMeta]) -> str:
    return counted(sum(file.row_count for file in files), "row")
