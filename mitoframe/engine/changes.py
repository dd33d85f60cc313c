"""Changes of rows that do not go through the log: a backfill, the exchange of a time range, and taking a write back.

Each stores its files first and then commits one edit, while no write is under way: its rows get the sequences after all
that were given, and are seen all at once. A change that fails or is interrupted before that leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Many
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mitoframe.engine.errand import done
from mitoframe.engine.parts import CHANGE_LANE
from mitoframe.failpoints import reached
from mitoframe.jobs.backfill import Backfill
from mitoframe.jobs.rewrite import RowsGoing, RowsInTime, RowsOfWrite, rewrite_files
from mitoframe.jobs.undo import compensation, files_of_nothing_else
from mitoframe.model.edit import FileEdit, WriteKey, undo_key, undone
from mitoframe.model.errors import ConflictError, SnapshotExpiredError
from mitoframe.model.ids import Sequence
from mitoframe.model.request import Written
from mitoframe.storage.compat import fit_batch

if TYPE_CHECKING:
    from mitoframe.engine.background import Background, Draft
    from mitoframe.engine.lifecycle import Regions
    from mitoframe.engine.parts import Parts
    from mitoframe.model.batch import Batch
    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.model.timerange import TimeRange
    from mitoframe.region.region import Region

Result = TypeVar("Result")

PLANS_MAX = 10
"""How often an exchange is planned anew because others committed something meanwhile."""


class Exchange(NamedTuple):
    """Files that were stored, the edit that lists them, and how many rows go with it."""

    written: tuple[FileMeta, ...]
    edit: FileEdit
    row_count: int = 0


class Changes:
    def __init__(self, parts: Parts, regions: Regions, background: Background) -> None:
        self._parts, self._regions, self._background = parts, regions, background

    # --- backfill -----------------------------------------------------------------------------------------

    def backfill(
        self,
        region: Region,
        batches: Iterable[Batch],
        *,
        metadata: RegionMetadata | None = None,
        key: str | Callable[[], str] = "",
        told: Callable[[int], None] = lambda _: None,
    ) -> Written | None:
        """Sort rows into SSTs and make them visible all at once; None if there were none.

        Other writes go on meanwhile; those acknowledged before this returns count as older. Draws from ``batches`` on
        the caller's thread.

        Args:
            region: where to.
            batches: the rows.
            metadata: the schema that the batches are made for, the region's if None.
            key: a name for the write, or what returns it when all batches were drawn.
            told: called with the number of rows taken so far.

        """
        region.check_writable()
        known = region.find_write(key) if isinstance(key, str) and key else None
        if known is not None:
            return _repeated(known)
        with self._background.drafting(region) as draft:
            builder = self._gather(region, draft, batches, metadata, told)
            files = builder.finish()
            if not files:
                return None
            reached("backfill.stored")
            self._parts.hooks.sst_files_written(region.metadata, files)
            name = key if isinstance(key, str) else key()
            written = self.alone(region, partial(self._commit_backfill, region, draft, files, builder, name))
            if written.repeated:
                draft.close(discard=True)
            return written

    def _gather(
        self,
        region: Region,
        draft: Draft,
        batches: Iterable[Batch],
        metadata: RegionMetadata | None = None,
        told: Callable[[int], None] = lambda _: None,
    ) -> Backfill:
        state, config = region.state, self._parts.config
        builder = Backfill(
            state.metadata,
            dedup=state.options.dedup,
            width=state.partition_width,
            store=self._parts.store,
            new_file_id=draft.new_file_id,
            submit=draft.submit,
            buffer_bytes=config.backfill_buffer_bytes,
            file_bytes=state.options.sst_size_bytes or config.sst_size_bytes,
            row_group_rows=state.options.row_group_rows or config.row_group_rows,
            now_ms=self._parts.clock.now_ms(),
        )
        for batch in batches:
            if len(batch):
                builder.add(fit_batch(batch, state.metadata, metadata))
                told(builder.row_count)
        return builder

    def _commit_backfill(
        self, region: Region, draft: Draft, files: tuple[FileMeta, ...], builder: Backfill, key: str
    ) -> Written:
        known = region.find_write(key) if key else None
        if known is not None:
            return _repeated(known)
        if _would_be_hidden(region, files):
            self._regions.flush_now(region, "backfill")
        base = region.control.current().visible
        written = Written(
            first_sequence=Sequence(base + 1), row_count=builder.row_count, at_ms=self._parts.clock.now_ms()
        )
        placed = tuple(file.at_sequence(base) for file in files)
        draft.commit(
            FileEdit(
                added=placed,
                committed_sequence=Sequence(base + builder.row_count),
                write_keys=(_key_of(key, written, placed),) if key else (),
                at_ms=written.at_ms,
                reason="backfill",
            )
        )
        return written

    def alone(self, region: Region, change: Callable[[], Result]) -> Result:
        """Run a change on its lane, while nobody writes to the region."""

        def job() -> Result:
            with region.gate.alone(self._parts.config.write_stall_ms):
                # A write whose caller was interrupted may be under way still, and is to have its sequences first.
                self._regions.settle_writes()
                region.check_writable()
                return change()

        return done(self._parts.scheduler, CHANGE_LANE, job)

    # --- replace ------------------------------------------------------------------------------------------

    def replace(
        self,
        region: Region,
        ranges: Many[TimeRange],
        batches: Iterable[Batch] = (),
        metadata: RegionMetadata | None = None,
    ) -> tuple[int, int]:
        """Exchange the rows of time ranges for others; return how many went and how many came.

        Requires: every row that comes is in one of the ranges.
        """
        with self._background.drafting(region) as draft:
            builder = self._gather(region, draft, batches, metadata)
            files = builder.finish()
            gone = self.alone(region, partial(self._exchange, region, draft, ranges, files, builder.row_count))
            return gone, builder.row_count

    def _exchange(
        self, region: Region, draft: Draft, ranges: Many[TimeRange], files: tuple[FileMeta, ...], row_count: int
    ) -> int:
        self._regions.flush_now(region, "replace")
        return self._remove(
            region, draft, RowsInTime(ranges=tuple(ranges)), files=files, row_count=row_count, reason="replace"
        )

    def _remove(
        self,
        region: Region,
        draft: Draft,
        going: RowsGoing,
        *,
        files: tuple[FileMeta, ...] = (),
        row_count: int = 0,
        noted: tuple[WriteKey, ...] = (),
        reason: str,
    ) -> int:
        """Commit files without some of their rows, and new files beside them; return how many rows went.

        ``noted`` says which write they were of. If that is not said, what there was before cannot be told any more, and
        no earlier write is remembered.
        """
        config = self._parts.config

        def plan(state: RegionState) -> Exchange | None:
            gone = rewrite_files(
                state.metadata,
                state.files.values(),
                going,
                store=self._parts.store,
                reader=self._parts.reader,
                new_file_id=draft.new_file_id,
                row_group_rows=state.options.row_group_rows or config.row_group_rows,
                now_ms=self._parts.clock.now_ms(),
            )
            if not gone.removed and not files:
                return None
            base = region.control.current().visible
            edit = FileEdit(
                added=(*gone.added, *(file.at_sequence(base) for file in files)),
                removed=tuple(file.file_id for file in gone.removed),
                committed_sequence=Sequence(base + row_count),
                lost_history=None if noted else base,
                forget_writes=not noted,
                write_keys=noted,
                at_ms=self._parts.clock.now_ms(),
                reason=reason,
            )
            return Exchange(written=(*gone.added, *files), edit=edit, row_count=gone.row_count)

        exchanged = self.exchange(region, draft, plan)
        return 0 if exchanged is None else exchanged[1].row_count

    def exchange(
        self, region: Region, draft: Draft, plan: Callable[[RegionState], Exchange | None]
    ) -> tuple[RegionState, Exchange] | None:
        """Exchange files for others; return what it was before, and what was done.

        Hooks are told of the files between plan and commit, while other changes are not held up. If something was
        committed meanwhile, it is planned anew. Requires: nobody writes to the region meanwhile.

        Args:
            region: whose files.
            draft: names those that ``plan`` stores.
            plan: stores files and returns what is to be done, None if nothing is.

        Raises:
            ConflictError: something was committed again and again. Nothing was changed.

        """
        for attempt in range(PLANS_MAX):
            with region.editing():  # No compaction may exchange the files while they are read.
                state = region.state
                planned = plan(state)
            if planned is None:
                return None
            self._parts.hooks.sst_files_written(state.metadata, planned.written)
            reached("rewrite.stored")
            with region.editing():
                is_current = region.state.version == state.version
                if is_current:
                    draft.commit(planned.edit)
            if is_current:
                if attempt:
                    draft.close(discard=True)  # What was stored in vain goes.
                return state, planned
        raise ConflictError(
            f"other files of the table came or went {PLANS_MAX} times while some were to be exchanged; nothing was "
            "changed. Try again."
        )

    # --- look, then write -------------------------------------------------------------------------------------------

    def write_found(self, region: Region, find: Callable[[], Batch], *, key: str = "") -> Written | None:
        """Write the rows that ``find`` returns, so that nobody writes between its looking and that; None if none."""

        def change() -> Written | None:
            batch = find()
            return self._regions.write_alone(region, batch, key=key) if len(batch) else None

        return self.alone(region, change)

    # --- undo ---------------------------------------------------------------------------------------------

    def undo(self, region: Region, first: Sequence, row_count: int) -> int:
        """Be as if the rows with these sequences had never been written; return how many keys, or rows, changed.

        Raises:
            SnapshotExpiredError: versions that these rows replaced are no longer kept.

        """
        last = Sequence(first + row_count - 1)
        return self.alone(region, partial(self._undo, region, first, last))

    def _undo(self, region: Region, first: Sequence, last: Sequence) -> int:
        if region.state.history_floor >= first:
            raise SnapshotExpiredError(
                "this change can no longer be taken back: what it replaced is not kept any more, or rows were "
                "truncated or exchanged since. gc_grace_ms says how long replaced rows are kept."
            )
        others = undone(region.remembered_writes())
        if (first, last) in others:
            return 0
        if region.options.dedup == "none":
            return self._undo_by_removal(region, first, last)
        return self._undo_by_writing(region, first, last, others)

    def _undo_by_writing(
        self, region: Region, first: Sequence, last: Sequence, others: Mapping[tuple[Sequence, Sequence], WriteKey]
    ) -> int:
        # Writes that were taken back before are as if they had never been either, as far as what they replaced is kept;
        # and so is what was written to take them back.
        kept = {spot: by for spot, by in others.items() if spot[0] > region.state.history_floor}
        skipped = [*kept, *((by.first_sequence, by.last_sequence) for by in kept.values())]
        with region.editing():
            snapshot = region.control.current()
            whole = files_of_nothing_else(snapshot, first, last)
            if whole and all(by.first_sequence <= first for by in others.values()):
                self._note_undo(region, first, last, removed=whole)
                return sum(file.row_count for file in whole)
            batch, count = compensation(snapshot, self._parts.reader, first, last, skipped)
            if batch is None:
                self._note_undo(region, first, last)
        if batch is not None:
            self._regions.write_alone(region, batch, key=undo_key(first, last))
        return count

    def _undo_by_removal(self, region: Region, first: Sequence, last: Sequence) -> int:
        self._regions.flush_now(region, "undo")
        with self._background.drafting(region) as draft:
            count = self._remove(
                region,
                draft,
                RowsOfWrite(first=first, last=last),
                noted=(self._undo_mark(region, first, last),),
                reason="undo",
            )
        if not count:
            self._note_undo(region, first, last)
        return count

    def _note_undo(self, region: Region, first: Sequence, last: Sequence, *, removed: Many[FileMeta] = ()) -> None:
        """Remember that a write was taken back, by removing its files or because nothing is left of it."""
        region.commit_edit(
            FileEdit(
                removed=tuple(file.file_id for file in removed),
                write_keys=(self._undo_mark(region, first, last),),
                at_ms=self._parts.clock.now_ms(),
                reason="undo",
            )
        )

    def _undo_mark(self, region: Region, first: Sequence, last: Sequence) -> WriteKey:
        """Stand for an undo that wrote no rows."""
        return WriteKey(
            key=undo_key(first, last),
            first_sequence=Sequence(region.control.current().visible + 1),
            row_count=0,
            min_time=0,
            max_time=-1,
            at_ms=self._parts.clock.now_ms(),
        )


def _would_be_hidden(region: Region, files: Many[FileMeta]) -> bool:
    """Tell whether rows in memory, flushed together with later ones, may hide what files say that come between them.

    Where versions are merged the row of a flush is filled from all of a memtable, and counts as the newest of them. So
    what is in memory has to be in files first; that it is in a memtable of its own would not outlast a crash, after
    which the log is replayed into one.
    """
    if region.options.dedup != "merge":
        return False
    buffered = [part.stats for memtable in region.control.current().version.memtables for part in memtable.ranges()]
    return any(part.min_time <= file.max_time and file.min_time <= part.max_time for file in files for part in buffered)


def _key_of(key: str, written: Written, files: Many[FileMeta]) -> WriteKey:
    return WriteKey(
        key=key,
        first_sequence=written.first_sequence,
        row_count=written.row_count,
        min_time=min(file.min_time for file in files),
        max_time=max(file.max_time for file in files),
        at_ms=written.at_ms,
    )


def _repeated(known: WriteKey) -> Written:
    return Written(first_sequence=known.first_sequence, row_count=known.row_count, at_ms=known.at_ms, repeated=True)
