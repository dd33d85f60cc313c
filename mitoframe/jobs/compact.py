"""A compaction task becomes SSTs: what is to stay of its inputs, sorted, each row with the sequence it had.

Inputs of any size are merged in the same memory (read/merging.py), and an output is stored while it is encoded. The
outputs of a task are cut before anything is read (jobs/outputs.py), and made by whoever has time: here, one after the
other, and at once where somebody helps and memory allows.

Promises: the inputs stay as they are. Either all outputs are stored, with one time of making, or none: whatever ends
the work in the middle, damage, a full disk or the caller, has what was stored deleted. Where even that fails, there is
a file that nobody lists, which is collected later (jobs/gc.py).
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mitoframe.failpoints import reached
from mitoframe.jobs.outputs import outputs_of, rows_held
from mitoframe.model.errors import ConflictError
from mitoframe.model.file import LEVEL_COMPACTED
from mitoframe.model.memory import release
from mitoframe.read.merging import Extent, FilesToMerge, MergedFiles
from mitoframe.storage.paths import sst_key
from mitoframe.storage.sst_writer import write_sst

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mitoframe.jobs.tasks import CompactionTask
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId
    from mitoframe.model.options import Dedup
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore
    from mitoframe.storage.sst_reader import SstReader

MEMORY_MAX_BYTES = 192 * 1024 * 1024
"""So many outputs are made at once as take no more than this together; one is made in any case."""


def compact_task(
    metadata: RegionMetadata,
    task: CompactionTask,
    *,
    dedup: Dedup,
    store: ObjectStore,
    reader: SstReader,
    new_file_id: Callable[[], FileId],
    row_group_rows: int,
    now_ms: int,
    is_over: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda _: None,
    submit: Callable[[Callable[[], None]], Future[None]] | None = None,
    helpers_max: int = 0,
    memory_max_bytes: int = MEMORY_MAX_BYTES,
    reserve: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> tuple[FileMeta, ...]:
    """Merge a task's inputs, store the result and return it in the order of windows, series and times.

    Args:
        metadata: the schema of what is stored; inputs of older ones are fitted to it.
        task: what to merge, and how the result is cut.
        dedup: which versions of a key stay.
        store: where outputs go.
        reader: reads the inputs.
        new_file_id: names an output; may be called by several threads.
        row_group_rows: rows per row group of the outputs.
        now_ms: when the outputs were made, all of them.
        is_over: asked every now and then whether nobody wants the outcome any more.
        on_progress: told every now and then how many rows of the inputs have been merged; by several threads.
        submit: runs a job elsewhere, for outputs that are made at once; it may as well never come to run it.
        helpers_max: how many such jobs there may be.
        memory_max_bytes: how much memory outputs that are made at once may take together.
        reserve: told about how many bytes of memory the merge takes, before any row is read; holds them until it is
            left, and may wait, or raise what then is raised here.

    Raises:
        CorruptionError: an input cannot be read; its path says which.
        ConflictError: ``is_over`` said so.
        UnavailableError: the store failed; `DiskFullError` if it is full.

    """
    inputs = FilesToMerge(metadata, task.inputs, reader)
    maker = _Maker(
        inputs=inputs,
        dedup=dedup,
        drop_deletes=task.drop_deletes,
        store=store,
        new_file_id=new_file_id,
        row_group_rows=row_group_rows,
        now_ms=now_ms,
    )
    outputs = outputs_of(inputs, task, row_group_rows)
    work = _Work(maker=maker, extents=deque(enumerate(outputs.extents)), is_over=is_over, on_progress=on_progress)
    helper_count = outputs.helper_count(helpers_max, memory_max_bytes) if submit else 0
    try:
        with reserve(outputs.memory_bytes(helper_count)):
            _share_out(work, submit, helper_count)
            work.check()
    except BaseException:
        for file in work.made.values():
            with suppress(OSError):  # Nobody lists the file: what cannot be deleted now is collected later.
                store.delete(sst_key(metadata.region_id, file.file_id))
        raise
    finally:
        release()
    reached("compact.sst_stored")
    return tuple(file for _, file in sorted(work.made.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes an output."""

    inputs: FilesToMerge
    dedup: Dedup
    drop_deletes: bool
    store: ObjectStore
    new_file_id: Callable[[], FileId]
    row_group_rows: int
    now_ms: int

    def make(self, extent: Extent, each_step: Callable[[int], None]) -> FileMeta | None:
        """Store what is left of an extent, and return it; None if nothing is."""
        rows = MergedFiles(
            self.inputs,
            self.dedup,
            drop_deletes=self.drop_deletes,
            extent=extent,
            rows_held=rows_held(self.inputs),
            each_step=each_step,
        )
        if rows.is_empty():
            return None
        return write_sst(
            self.store,
            self.inputs.metadata,
            rows,
            file_id=self.new_file_id(),
            level=LEVEL_COMPACTED,
            row_group_rows=self.row_group_rows,
            created_ms=self.now_ms,
        )


@dataclass(slots=True, kw_only=True)
class _Work:
    """What is left to do, and what was done; shared by whoever helps. Each has a place of his own for what he says."""

    maker: _Maker
    extents: deque[tuple[int, Extent]]
    is_over: Callable[[], bool]
    on_progress: Callable[[int], None]
    made: dict[int, FileMeta] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)

    def do(self) -> None:
        """Make outputs until none is left, or somebody fails."""
        try:
            while (following := self._next()) is not None:
                self.check()
                self._make(*following)
        except BaseException as error:
            self.failures.append(error)
            raise

    def check(self) -> None:
        """Stop here if it is over."""
        if self.failures or self.is_over():
            raise ConflictError("the compaction was given up before it was committed; nothing was changed.")

    def _next(self) -> tuple[int, Extent] | None:
        try:
            return self.extents.popleft()
        except IndexError:  # Asking first would leave room for another thread to take the last one.
            return None

    def _make(self, number: int, extent: Extent) -> None:
        def count(row_count: int) -> None:
            self.check()
            self.rows[number] = self.rows.get(number, 0) + row_count
            self.on_progress(sum(tuple(self.rows.values())))

        file = self.maker.make(extent, count)
        if file is not None:
            self.made[number] = file


def _share_out(work: _Work, submit: Callable[[Callable[[], None]], Future[None]] | None, helper_count: int) -> None:
    """Do all the work, with helpers. Whoever has not begun when nothing is left to do is not waited for."""
    helpers: list[Future[None]] = []
    try:
        if submit is not None:
            helpers += [submit(work.do) for _ in range(helper_count)]
        work.do()
    except BaseException as error:  # noqa: BLE001 - the first of all that failed is raised
        work.failures.append(error)
    begun = [helper for helper in helpers if not helper.cancel()]
    wait(begun)
    if work.failures:
        raise work.failures[0]  # Those that stopped because another failed do not say why.
