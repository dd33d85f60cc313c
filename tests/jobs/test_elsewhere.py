"""A job does what the task does that it was made of, and what comes back is believed only if it can be."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from builders import REGION, Row, batch_of, delete, file_id_of, metadata_of, put, rows_of

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.compact import compact_task
from mitoframe.jobs.elsewhere import Sending, carry_out, objection, sending_of
from mitoframe.jobs.tasks import CompactionTask
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId
from mitoframe.model.job import CompactionJob
from mitoframe.model.timerange import TimeRange
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of()
FIRST = [put(sequence, sequence, host) for sequence, host in enumerate("aabbcc", start=1)]
SECOND = [put(7, 2, "a", 5), delete(8, 3, "b"), put(9, 9, "d")]


def stored(store: MemoryObjectStore, name: str, rows: list[Row]) -> FileMeta:
    batch = sort_batches([batch_of(METADATA, rows)])
    return write_sst(store, METADATA, batch, file_id=file_id_of(name), level=0, row_group_rows=2, created_ms=0)


def task_of(store: MemoryObjectStore, **known) -> CompactionTask:
    inputs = stored(store, "a", FIRST), stored(store, "b", SECOND)
    return CompactionTask(window_start=0, inputs=inputs, **{"drop_deletes": False} | known)


def sent(store: MemoryObjectStore, task: CompactionTask, **known) -> Sending:
    randomness = SeededRandomness(3)
    return sending_of(
        METADATA,
        task,
        dedup="last",
        reader=SstReader(store),
        job_id="f" * 32,
        new_file_id=lambda: FileId(randomness.hex128()),
        row_group_rows=3,
        now_ms=9000,
        helpers_max=0,
        **known,
    )


def never() -> bool:
    return False


def done(store: MemoryObjectStore, job: CompactionJob) -> tuple[FileMeta, ...]:
    return carry_out(CompactionJob.from_line(job.to_line()), never, lambda _: None, store=store)


def rows(store: MemoryObjectStore, files: tuple[FileMeta, ...]) -> list[list[Row]]:
    return [rows_of(SstReader(store).read(METADATA, file, range(file.row_group_count), ["cpu"])) for file in files]


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"drop_deletes": True},
        {"output_size_max_bytes": 1},
        {"output_windows": (TimeRange(0, 4), TimeRange(4, 8), TimeRange(8, 12))},
    ],
    ids=["markers stay", "markers go", "in parts", "in windows"],
)
def test_a_job_makes_the_files_that_its_task_makes(known):
    store, asked = MemoryObjectStore(), []
    task, names = task_of(store, **known), SeededRandomness(4)
    here = compact_task(
        METADATA,
        task,
        dedup="last",
        store=store,
        reader=SstReader(store),
        new_file_id=lambda: FileId(names.hex128()),
        row_group_rows=3,
        now_ms=9000,
        reserve=lambda size_bytes: asked.append(size_bytes) or _Nothing(),
    )

    sending = sent(store, task)
    elsewhere = done(store, sending.job)

    assert rows(store, elsewhere) == rows(store, here)
    assert {file.file_id for file in elsewhere} <= set(sending.job.output_ids)
    assert [sending.memory_bytes] == asked
    assert objection(sending.job, elsewhere, store) is None


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_a_job_with_too_few_names_leaves_nothing_behind():
    store = MemoryObjectStore()
    job = sent(store, task_of(store, output_size_max_bytes=1)).job
    before = store.list(sst_folder(REGION))

    with pytest.raises(InvalidInputError, match="names fewer outputs"):
        done(store, replace(job, output_ids=job.output_ids[:1]))

    assert store.list(sst_folder(REGION)) == before


LIES = {
    "a name of its own": ("names files that the job does not", lambda job, files: [change(files[0], file_id="e" * 32)]),
    "a name twice": ("names files that the job does not", lambda job, files: [*files, files[0]]),
    "an input": ("names files that the job does not", lambda job, files: list(job.inputs)),
    "nothing": ("too few rows, or too many", lambda job, files: []),
    "one of several": ("first, last or newest row is missing", lambda job, files: files[:-1]),
    "another level": ("files of another kind", lambda job, files: [change(file, level=0) for file in files]),
    "another time of making": (
        "files of another kind",
        lambda job, files: [change(file, created_ms=1) for file in files],
    ),
    "moved sequences": ("files of another kind", lambda job, files: [change(file, sequence_base=5) for file in files]),
    "an index": ("files of another kind", lambda job, files: [change(file, index=object()) for file in files]),
    "no number": ("files of another kind", lambda job, files: [change(file, row_count="3") for file in files]),
    "another schema": ("wrote another schema", lambda job, files: [change(file, schema_version=9) for file in files]),
    "more rows": ("too few rows, or too many", lambda job, files: [change(file, row_count=99) for file in files]),
    "later rows": (
        "times or sequences that there were not",
        lambda job, files: [change(f, max_time=99) for f in files],
    ),
    "newer rows": (
        "times or sequences that there were not",
        lambda job, files: [change(file, max_sequence=99) for file in files],
    ),
    "another size": (r"has \d+ bytes", lambda job, files: [change(file, size_bytes=1) for file in files]),
}


def change(file: FileMeta, **facts) -> FileMeta:
    return replace(file, **facts)


@pytest.mark.parametrize("lie", LIES)
def test_what_cannot_be_is_not_believed(lie):
    why, told = LIES[lie]
    store = MemoryObjectStore()
    job = sent(store, task_of(store, output_size_max_bytes=1)).job
    files = done(store, job)
    assert len(files) > 1

    found = objection(job, told(job, list(files)), store)

    assert re.search(why, str(found)), found


def test_a_file_that_is_not_there_is_not_believed():
    store = MemoryObjectStore()
    job = sent(store, task_of(store)).job
    files = done(store, job)
    store.delete(sst_key(REGION, files[0].file_id))

    assert objection(job, files, store) == f"file {files[0].file_id} is not there"


def test_where_deleted_keys_vanish_nothing_may_be_left():
    store = MemoryObjectStore()
    inputs = stored(store, "a", [put(1, 1)]), stored(store, "b", [delete(2, 1)])
    job = sent(store, CompactionTask(window_start=0, inputs=inputs, drop_deletes=True)).job

    assert done(store, job) == ()
    assert objection(job, (), store) is None


def test_where_nothing_may_vanish_there_is_something_also_of_markers_alone():
    store = MemoryObjectStore()
    inputs = stored(store, "a", [delete(1, 1)]), stored(store, "b", [delete(2, 1)])
    job = sent(store, CompactionTask(window_start=0, inputs=inputs, drop_deletes=False)).job

    assert objection(job, done(store, job), store) is None
    assert objection(job, (), store) == "the first, last or newest row is missing"


def test_where_there_are_no_markers_no_row_may_vanish_though_markers_might():
    store = MemoryObjectStore()
    inputs = stored(store, "a", [put(1, 1, "a")]), stored(store, "b", [put(2, 2, "b")])
    task = CompactionTask(window_start=0, inputs=inputs, drop_deletes=True, output_size_max_bytes=1)
    job = sent(store, task).job
    files = done(store, job)

    assert objection(job, files, store) is None
    assert objection(job, files[:1], store) == "the first, last or newest row is missing"
