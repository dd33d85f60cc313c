"""A merge that a `Compactor` carries out, watched until it has ended.

    it is refused, or answered with what cannot be    `RefusedError`: it is done here
    whoever had begun it vanishes                     `UnavailableError`: what ended him may end this process as well,
                                                      so it is not done here; the next cycle tries again
    nobody wants it any more                          `ConflictError`, and it is cancelled

Whatever comes of it, the compactor has forgotten it afterwards and stores nothing more for it; what it stored is
deleted by whoever named the outputs. A job that comes to life again later, though it was taken for refused, stores
files that nobody lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.jobs.elsewhere import objection
from mitoframe.model.errors import ConflictError, MitoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mitoframe.model.file import FileMeta
    from mitoframe.model.job import CompactionJob
    from mitoframe.ports import Compactor, ObjectStore

POLL_MS = 50
"""How soon it is noticed that nobody wants a merge any more."""


class RefusedError(Exception):
    """The merge is not done elsewhere. Nobody outside the engine sees this."""


def have_done(
    compactor: Compactor,
    job: CompactionJob,
    store: ObjectStore,
    *,
    is_over: Callable[[], bool],
    on_progress: Callable[[int], None],
) -> tuple[FileMeta, ...]:
    """Have a job done, and return what was stored.

    Raises:
        RefusedError: it will not be done.
        UnavailableError: nobody knows what became of it.
        ConflictError: ``is_over`` said so.

    """
    try:
        _submit(compactor, job)
        files = _watched(compactor, job, is_over, on_progress)
    finally:  # Also if it was not taken on: perhaps it was, and only the answer was lost.
        compactor.cancel(job.job_id)
    why_not = objection(job, files, store)
    if why_not is not None:
        raise RefusedError(f"it was answered with what cannot be: {why_not}")
    reached("compact.sst_stored")
    return files


def _submit(compactor: Compactor, job: CompactionJob) -> None:
    try:
        compactor.submit(job)
    except MitoError as error:
        raise RefusedError(str(error)) from error


def _watched(
    compactor: Compactor, job: CompactionJob, is_over: Callable[[], bool], on_progress: Callable[[int], None]
) -> tuple[FileMeta, ...]:
    while True:
        if is_over():
            raise ConflictError("the compaction was given up before it was committed; nothing was changed.")
        status = compactor.poll(job.job_id, POLL_MS)
        on_progress(status.row_count)
        if status.refusal is not None:
            raise RefusedError(status.refusal)
        if status.files is not None:
            return status.files
