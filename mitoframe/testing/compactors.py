"""A compactor without processes: for tests, and to begin another one from."""

from __future__ import annotations

from mitoframe.jobs.elsewhere import carry_out
from mitoframe.model.errors import ClosedError, MitoError, UnavailableError
from mitoframe.model.job import CompactionJob
from mitoframe.ports import JobStatus, ObjectStore


class InlineCompactor:
    """Does a job when somebody first asks how it is, in his thread, as if it had come through a pipe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lines: dict[str, bytes] = {}
        self._ended: dict[str, JobStatus] = {}
        self._closed = False

    def submit(self, job: CompactionJob) -> None:
        if self._closed:
            raise ClosedError("the compactor takes no more jobs.")
        self._lines[job.job_id] = job.to_line()

    def poll(self, job_id: str, timeout_ms: int = 0) -> JobStatus:
        del timeout_ms  # It never takes longer than it takes.
        if job_id not in self._lines:
            raise UnavailableError(f"job {job_id} is not known here.")
        if job_id not in self._ended:
            self._ended[job_id] = self._carried_out(self._lines[job_id])
        return self._ended[job_id]

    def _carried_out(self, line: bytes) -> JobStatus:
        rows = [0]
        try:
            files = carry_out(CompactionJob.from_line(line), lambda: False, rows.append, store=self._store)
        except MitoError as error:
            return JobStatus(row_count=rows[-1], refusal=str(error))
        return JobStatus(row_count=rows[-1], files=files)

    def cancel(self, job_id: str) -> None:
        self._lines.pop(job_id, None)
        self._ended.pop(job_id, None)

    def close(self) -> None:
        self._closed = True
        self._lines.clear()
