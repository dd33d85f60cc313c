"""The last rows of each series, with a look at no others.

A file holds the rows of a series in order of time, so its last ones are known by offset. Where nothing was deleted and
nothing but tags is asked for, the last rows of all files and memtables together hold the last rows there are: of a
key in one of them no other holds a version that is not among its own last ones. Files never change, so what is found of
a whole file is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitoframe.model.batch import concat_batches
from mitoframe.model.file import LEVEL_FLUSHED
from mitoframe.model.predicate import ALWAYS, residual, series_mask
from mitoframe.read.pieces import pieces_of
from mitoframe.read.shares import (
    are_in_order,
    buffer_sources,
    cut_file,
    cut_group,
    field_names,
    file_source,
    internal_names,
    internal_of,
)
from mitoframe.read.sources import buffer_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Sequence as Many

    from mitoframe.model.batch import Batch
    from mitoframe.model.file import FileMeta
    from mitoframe.read.counts import Found
    from mitoframe.read.plan import ScanPlan
    from mitoframe.read.sources import Source
    from mitoframe.storage.memtable import RangeStats
    from mitoframe.storage.sst_reader import SstReader

    Run = Callable[[Iterable[Callable[[], Found]]], Iterable[Found]]


def are_told_by_ends(plan: ScanPlan) -> bool:
    """Tell whether the last rows of files and memtables tell those of the series."""
    files = [*plan.direct, *(file for group in plan.groups for file in group.files)]
    sources: list[FileMeta | RangeStats] = [*files, *(part.stats for group in plan.groups for part in group.buffered)]
    if plan.version.state.options.dedup == "none" or residual(plan.predicate, plan.metadata.tag_names, "") != ALWAYS:
        return False  # Where rows of one key are kept, the newest of a time lies first and not last.
    if any(file.level < LEVEL_FLUSHED for file in files):
        return False
    return all(not source.delete_count and source.max_sequence <= plan.visible for source in sources)


def end_jobs(
    plan: ScanPlan, reader: SstReader, columns: Many[str], count: int, run: Run
) -> Iterator[Callable[[], Found]]:
    """Yield jobs whose rows hold the last ``count`` of each series. Requires: `are_told_by_ends`.

    ``run`` does jobs side by side: those that look for the ends of a file.
    """
    for group in plan.groups:
        in_order = are_in_order(group, columns)
        sources: list[Source] = [
            _ends(plan, reader, file, internal_of(plan, file, columns, in_order=in_order), columns, count, run)
            for file in group.files
        ]
        sources += buffer_sources(plan, group, columns)
        yield from (share.read for share in cut_group(plan, [s for s in sources if len(s.pieces)], columns))
    for file in plan.direct:
        source = _ends(plan, reader, file, internal_names(columns), columns, count, run)
        yield from (share.read for share in cut_group(plan, [source] if len(source.pieces) else [], columns))


def _ends(
    plan: ScanPlan,
    reader: SstReader,
    file: FileMeta,
    internal: tuple[str, ...],
    columns: Many[str],
    count: int,
    run: Run,
) -> Source:
    """Return the last rows of the series of a file that are asked for."""
    footer = reader.footer(plan.metadata, file)
    key = plan.metadata.schema_version, count, internal, field_names(plan, columns)
    kept: Batch | None = reader.cache.get("last rows", file.file_id, key)
    chosen = series_mask(plan.predicate, footer.series)
    if kept is None:
        pieces = pieces_of(footer.offsets, chosen).ends(count)
        source = file_source(plan, file, reader, field_names(plan, columns), pieces, internal)
        if chosen is not None and not chosen.all():
            return source  # Of a few series the ends are read at once; it is all of them that are worth keeping.
        found = run(share.read for share in cut_file(plan, source))
        kept = concat_batches([each.rows for each in found if each.rows is not None])
        reader.cache.put("last rows", file.file_id, key, kept, kept.size_bytes)
    return buffer_source(kept, plan.predicate, is_clean=True)
