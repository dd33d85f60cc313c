"""Merges that somebody else carries out: the job that is sent, what he does, and whether what he says can be.

A job names its outputs before anything is written, so that they are known to whoever looks after files, whatever
becomes of it. What comes back is believed only as far as it can be seen from here; the files' bytes are compared with
their checksums when they are first read, as those of any file.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitoframe.jobs.compact import MEMORY_MAX_BYTES, compact_task
from mitoframe.jobs.outputs import outputs_of
from mitoframe.jobs.tasks import CompactionTask
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.file import LEVEL_COMPACTED
from mitoframe.model.job import CompactionJob
from mitoframe.read.merging import FilesToMerge
from mitoframe.storage.paths import sst_key
from mitoframe.storage.sst_reader import SstReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many
    from concurrent.futures import Future

    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore


_NUMBERS = (
    "size_bytes",
    "checksum",
    "row_count",
    "delete_count",
    "series_count",
    "row_group_count",
    "min_time",
    "max_time",
    "min_sequence",
    "max_sequence",
    "schema_version",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A job, and about how much memory whoever carries it out takes for it."""

    job: CompactionJob
    memory_bytes: int


def sending_of(
    metadata: RegionMetadata,
    task: CompactionTask,
    *,
    dedup: Dedup,
    reader: SstReader,
    job_id: str,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
    helpers_max: int,
) -> Sending:
    """Make a job of a task; the arguments are those of `compact_task`.

    Raises:
        CorruptionError: an input cannot be opened; its path says which.

    """
    outputs = outputs_of(FilesToMerge(metadata, task.inputs, reader), task, row_group_rows)
    helper_count = outputs.helper_count(helpers_max, MEMORY_MAX_BYTES)
    job = CompactionJob(
        job_id=job_id,
        metadata=metadata,
        inputs=task.inputs,
        output_ids=tuple(new_file_id() for _ in outputs.extents),
        dedup=dedup,
        drop_deletes=task.drop_deletes,
        output_windows=task.output_windows,
        output_size_max_bytes=task.output_size_max_bytes,
        row_group_rows=row_group_rows,
        now_ms=now_ms,
        helpers_max=helper_count,
    )
    return Sending(job=job, memory_bytes=outputs.memory_bytes(helper_count))


def carry_out(
    job: CompactionJob,
    is_over: Callable[[], bool],
    on_progress: Callable[[int], None],
    *,
    store: ObjectStore,
    submit: Callable[[Callable[[], None]], Future[None]] | None = None,
) -> tuple[FileMeta, ...]:
    """Do what a job says, in the store that its files are in, and return what was stored.

    Raises:
        InvalidInputError: it names fewer outputs than there are.
        MitoError: as `compact_task` does. Nothing is left of it.

    """
    unused = deque(job.output_ids)

    def new_file_id() -> FileId:
        try:
            return unused.popleft()
        except IndexError:
            raise InvalidInputError(f"job {job.job_id} names fewer outputs than there are; plan again.") from None

    return compact_task(
        job.metadata,
        _task_of(job),
        dedup=job.dedup,
        store=store,
        reader=SstReader(store),
        new_file_id=new_file_id,
        row_group_rows=job.row_group_rows,
        now_ms=job.now_ms,
        is_over=is_over,
        on_progress=on_progress,
        submit=submit,
        helpers_max=job.helpers_max,
    )


def _task_of(job: CompactionJob) -> CompactionTask:
    return CompactionTask(
        window_start=job.inputs[0].min_time,
        inputs=job.inputs,
        drop_deletes=job.drop_deletes,
        output_size_max_bytes=job.output_size_max_bytes,
        output_windows=job.output_windows,
    )


def objection(job: CompactionJob, files: Many[FileMeta], store: ObjectStore) -> str | None:
    """Say why these files cannot be what a job came to, as far as that shows without reading them; None if they can."""
    if len({file.file_id for file in files}) < len(files) or not {file.file_id for file in files} <= {*job.output_ids}:
        return "it names files that the job does not"
    if not all(_is_plain(job, file) for file in files):
        return "it made files of another kind"
    if any(file.schema_version != job.metadata.schema_version for file in files):
        return "it wrote another schema"
    if not _least_rows(job) <= sum(file.row_count for file in files) <= sum(file.row_count for file in job.inputs):
        return "there are too few rows, or too many"
    if files and not _lies_within(_bounds(files), _bounds(job.inputs)):
        return "there are rows of times or sequences that there were not"
    if not _may_vanish(job) and (not files or _bounds(files)[1:] != _bounds(job.inputs)[1:]):
        return "the first, last or newest row is missing"
    return next((why for file in files if (why := _not_stored(job, file, store)) is not None), None)


def _is_plain(job: CompactionJob, file: FileMeta) -> bool:
    if any(type(getattr(file, name)) is not int for name in _NUMBERS):
        return False
    is_as_made = not file.sequence_base and not file.derived_version and file.index is None
    return file.level == LEVEL_COMPACTED and file.created_ms == job.now_ms and is_as_made


def _may_vanish(job: CompactionJob) -> bool:
    """Tell whether there may be no row of a key any more: else each has the one that is newest."""
    return job.drop_deletes and any(file.delete_count for file in job.inputs)


def _least_rows(job: CompactionJob) -> int:
    """Return how many rows there are left at least: keys differ within a file, and a marker deletes one."""
    deleted = sum(file.delete_count for file in job.inputs) if job.drop_deletes else 0
    if job.dedup == "none":
        return sum(file.row_count for file in job.inputs) - deleted
    return max(file.row_count - file.delete_count for file in job.inputs) - deleted


def _bounds(files: Many[FileMeta]) -> tuple[int, int, int, int]:
    """Return the oldest sequence, the newest, the first time and the last."""
    return (
        min(file.min_sequence for file in files),
        max(file.max_sequence for file in files),
        min(file.min_time for file in files),
        max(file.max_time for file in files),
    )


def _lies_within(inner: tuple[int, int, int, int], outer: tuple[int, int, int, int]) -> bool:
    return inner[0] >= outer[0] and inner[1] <= outer[1] and inner[2] >= outer[2] and inner[3] <= outer[3]


def _not_stored(job: CompactionJob, file: FileMeta, store: ObjectStore) -> str | None:
    try:
        size_bytes = store.head(sst_key(job.metadata.region_id, file.file_id)).size_bytes
    except FileNotFoundError:
        return f"file {file.file_id} is not there"
    return None if size_bytes == file.size_bytes else f"file {file.file_id} has {size_bytes} bytes"
