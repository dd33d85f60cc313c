"""When indexes are built, and how they are published.

One file after the other is read, the most urgent first: what somebody asked for, then what a change of the schema made
due, then files that were flushed, then compacted ones. A file that waits or is being read is not queued again; whoever
asks for it waits with the others, and gets what is wanted of it in the end.

A build is published under the region's edit lock if the file is still there and the same indexes are wanted of it. If
the file has gone, so has the work; if others are wanted by now, it is done over. Nothing that fails here fails a flush,
a compaction or a query: it is told by `failures`, and tried again with the region's upkeep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING

from mitoframe.engine.errand import Errand
from mitoframe.engine.parts import INDEX_LANE
from mitoframe.jobs.gc import is_read_behind
from mitoframe.jobs.index import build_index, collectable_indexes, delete_indexes
from mitoframe.model.edit import FileEdit
from mitoframe.model.errors import (
    ClosedError,
    ConflictError,
    CorruptionError,
    InvalidInputError,
    MitoError,
    unknown_name,
)
from mitoframe.model.index import wanted_indexes
from mitoframe.model.schema import INDEX_KINDS
from mitoframe.storage.paths import index_folder, index_key

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mitoframe.engine.parts import Parts
    from mitoframe.model.edit import RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import FileId, RegionId
    from mitoframe.model.index import IndexEntry, IndexMeta
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.region.region import Region

_log = logging.getLogger("mitoframe")


class Urgency(IntEnum):
    """Why an index is built, the most urgent highest."""

    COMPACTED = 0
    FLUSHED = 1
    SCHEMA_CHANGED = 2
    ASKED_FOR = 3


@dataclass(slots=True, kw_only=True, eq=False)
class _Build:
    """A file whose indexes are to be built; ``kinds`` are those to build, None for all that are wanted."""

    region: Region
    file_id: FileId
    kinds: frozenset[str] | None
    urgency: Urgency
    result: Errand[FileMeta | None] = field(default_factory=Errand)

    def ask_for(self, kinds: frozenset[str] | None) -> None:
        """Build these kinds too."""
        self.kinds = None if self.kinds is None or kinds is None else self.kinds | kinds


class Indexing:
    """The builds of an engine. `Background` says when."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = Lock()
        self._builds: dict[tuple[Region, FileId], _Build] = {}
        self._queue: list[tuple[int, int, _Build]] = []
        self._numbers = count()
        self._worker: Future[object] | None = None
        self._is_working = self._is_stopped = False
        self._being_built: list[FileId] = []
        self._unreadable: set[FileId] = set()
        self._failures: dict[int, BaseException] = {}

    # --- when -------------------------------------------------------------------------------------------

    def start_if_due(self, region: Region, urgency: Urgency) -> list[Errand[FileMeta | None]]:
        """Begin to build what is wanted and not there, unless the table has that done by hand; return what is begun."""
        if region.options.index_mode == "manual" or region.is_closed() or region.is_poisoned():
            return []
        due = [file.file_id for file in self._due(region) if file.file_id not in self._unreadable]
        return self._start(region, due, None, urgency)

    def start(
        self, region: Region, file_ids: Iterable[FileId] | None = None, kinds: Iterable[str] | None = None
    ) -> list[Errand[FileMeta | None]]:
        """Begin to build, before anything else, what is wanted and not there of some files; return what is begun.

        Raises:
            InvalidInputError: a file is not in the region, or there is no such kind of index.

        """
        region.check_writable()
        for kind in kinds or ():
            if kind not in INDEX_KINDS:
                raise InvalidInputError(unknown_name("kind of index", kind, INDEX_KINDS))
        files = region.state.files
        for file_id in file_ids or ():
            if file_id not in files:
                raise InvalidInputError(f"file {file_id} is not in the table; files() lists those that are.")
        chosen = None if file_ids is None else frozenset(file_ids)
        only = None if kinds is None else frozenset(kinds)
        due = [file.file_id for file in self._due(region, only) if chosen is None or file.file_id in chosen]
        return self._start(region, due, only, Urgency.ASKED_FOR)

    def stop(self) -> None:
        """Begin nothing more, and give up what is under way; it is done when the store is next open."""
        self._is_stopped = True
        self._give_up(ClosedError("the store was closed before this index was built."))

    def failures(self, region: Region) -> dict[str, BaseException]:
        """Return the last error, if the latest build failed."""
        error = self._failures.get(region.region_id)
        return {} if error is None else {"index": error}

    def _due(self, region: Region, kinds: frozenset[str] | None = None) -> list[FileMeta]:
        state = region.state
        return [file for file in state.files.values() if self._is_due(region, file, kinds)]

    def _is_due(self, region: Region, file: FileMeta, kinds: frozenset[str] | None) -> bool:
        return self._parts.indexes.is_damaged(file) or _listed(file) != self._goal(region, file, kinds)

    def _goal(self, region: Region, file: FileMeta, kinds: frozenset[str] | None) -> tuple[IndexEntry, ...]:
        """Return the indexes a file is to have: those wanted that it has already, and those to be built."""
        wanted = wanted_indexes(region.metadata)
        if kinds is None:
            return wanted
        there = () if self._parts.indexes.is_damaged(file) else _listed(file)
        return tuple(entry for entry in wanted if entry in there or entry.kind in kinds)

    def _start(
        self, region: Region, file_ids: Iterable[FileId], kinds: frozenset[str] | None, urgency: Urgency
    ) -> list[Errand[FileMeta | None]]:
        with self._lock:
            if self._is_stopped:
                return []
            errands = [self._queued_locked(region, file_id, kinds, urgency).result for file_id in file_ids]
            begins, self._is_working = bool(self._queue) and not self._is_working, self._is_working or bool(self._queue)
        if begins:
            self._hand_over()
        for errand in errands:
            errand.carrier = errand.carrier or self._worker
        return errands

    def _queued_locked(self, region: Region, file_id: FileId, kinds: frozenset[str] | None, urgency: Urgency) -> _Build:
        build = self._builds.get((region, file_id))
        if build is None:
            build = _Build(region=region, file_id=file_id, kinds=kinds, urgency=urgency)
            self._builds[region, file_id] = build
        elif urgency <= build.urgency or build.result.is_begun:
            build.ask_for(kinds)
            return build
        build.ask_for(kinds)
        build.urgency = urgency  # It may be queued twice by that: what was begun is not begun again.
        heappush(self._queue, (-urgency, next(self._numbers), build))
        return build

    def _hand_over(self) -> None:
        try:
            self._worker = self._parts.scheduler.submit(INDEX_LANE, self._work)
        except MitoError as error:
            with self._lock:
                self._is_working = False
            self._give_up(error)
            raise

    def _give_up(self, error: MitoError) -> None:
        """Let nothing wait any more."""
        with self._lock:
            # One that is queued twice may have begun, and goes by itself.
            waiting = [build for _, _, build in self._queue if build.result.begin()]
            self._queue = []
            for build in waiting:
                self._builds.pop((build.region, build.file_id), None)
        for build in waiting:
            build.result.fail(error)

    # --- building ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Build until nothing waits."""
        while (build := self._next()) is not None:
            region_id = build.region.region_id
            try:
                build.result.succeed(self._build(build))
                self._failures.pop(region_id, None)
            except (ConflictError, ClosedError) as error:
                build.result.fail(error)  # What it was for is gone: nothing failed.
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one is built
                self._remember(region_id, build.file_id, error)
                build.result.fail(error)

    def _next(self) -> _Build | None:
        with self._lock:
            while self._queue:
                build = heappop(self._queue)[2]
                if build.result.begin():
                    return build
            self._is_working = False
            return None

    def _remember(self, region_id: RegionId, file_id: FileId, error: Exception) -> None:
        _log.error("index not built region=%d file=%s error=%r", region_id, file_id, error)
        self._failures[region_id] = error
        if isinstance(error, CorruptionError):
            self._unreadable.add(file_id)

    def _build(self, build: _Build) -> FileMeta | None:
        """Build until the file has what is wanted of it, and return it; None if it has gone."""
        region, key = build.region, (build.region, build.file_id)
        try:
            while True:
                region.check_writable()
                with self._lock:  # Whoever asks from now on begins anew; whoever did before sees what is wanted by now.
                    file = region.state.files.get(build.file_id)
                    if file is None or not self._is_due(region, file, build.kinds):
                        del self._builds[key]
                        return file
                with self._kept(build.file_id):
                    self._build_once(region, file, build.kinds)
        except BaseException:
            with self._lock:
                self._builds.pop(key, None)
            raise

    def _build_once(self, region: Region, file: FileMeta, kinds: frozenset[str] | None) -> None:
        metadata, goal = region.metadata, self._goal(region, file, kinds)
        index = self._built(metadata, file, goal, lambda: self._go_on(region, file))
        try:
            is_published = self._publish(region, file, goal, kinds, index)
        except (ConflictError, ClosedError):
            self._discard(region, file, index)
            raise
        if not is_published:
            self._discard(region, file, index)

    def _publish(
        self,
        region: Region,
        file: FileMeta,
        goal: tuple[IndexEntry, ...],
        kinds: frozenset[str] | None,
        index: IndexMeta,
    ) -> bool:
        """Let the manifest know, if it is still what is wanted of a file that is still as it was."""
        with region.editing():
            current = region.state.files.get(file.file_id)
            if current is None or current.index != file.index or goal != self._goal(region, file, kinds):
                return False
            now_ms = self._parts.clock.now_ms()
            region.commit_edit(FileEdit(indexed=((file.file_id, index),), at_ms=now_ms, reason="index"))
            return True

    def _discard(self, region: Region, file: FileMeta, index: IndexMeta) -> None:
        """Delete a sidecar that nobody lists, nor ever will: its name was new."""
        if index.size_bytes:
            self._parts.store.delete(index_key(region.region_id, file.file_id, index.version))

    def _built(
        self, metadata: RegionMetadata, file: FileMeta, goal: tuple[IndexEntry, ...], go_on: Callable[[], None]
    ) -> IndexMeta:
        parts = self._parts
        return build_index(
            metadata, file, goal, store=parts.store, reader=parts.reader, now_ms=parts.clock.now_ms, go_on=go_on
        )

    def _go_on(self, region: Region, file: FileMeta) -> None:
        if self._is_stopped or region.is_closed():
            raise ClosedError("the table was closed before this index was built.")
        if file.file_id not in region.state.files:
            raise ConflictError(f"file {file.file_id} is not in the table any more; its index is not needed.")

    # --- with the files ---------------------------------------------------------------------------------

    @contextmanager
    def with_files(self, region: Region, edit: FileEdit) -> Iterator[FileEdit]:
        """Return an edit whose files have their indexes already, if that is how the table wants it, to be committed.

        What cannot be built is left for later.
        """
        metadata = region.metadata
        goal = wanted_indexes(metadata)
        if region.options.index_mode != "sync" or not goal:
            yield edit
            return
        with ExitStack() as kept:
            for file in edit.added:
                kept.enter_context(self._kept(file.file_id))
            yield replace(edit, added=tuple(self._with_index(metadata, file, goal) for file in edit.added))

    def _with_index(self, metadata: RegionMetadata, file: FileMeta, goal: tuple[IndexEntry, ...]) -> FileMeta:
        try:
            return replace(file, index=self._built(metadata, file, goal, lambda: None))
        except Exception as error:  # noqa: BLE001 - a hint that fails never fails the flush
            self._remember(metadata.region_id, file.file_id, error)
            return file

    # --- deletion ---------------------------------------------------------------------------------------

    @contextmanager
    def _kept(self, file_id: FileId) -> Iterator[None]:
        """Let nobody collect a sidecar of a file that is stored before it is listed."""
        with self._lock:
            self._being_built.append(file_id)
        try:
            yield
        finally:
            with self._lock:
                self._being_built.remove(file_id)

    def vacuum(self, region: Region, grace_ms: int) -> None:
        """Delete the sidecars that nobody needs and that have not been listed for ``grace_ms``."""
        state = region.state
        if not wanted_indexes(state.metadata) and not _ever_indexed(state):
            return
        # Asked in this order: a sidecar is listed before it is no longer being built.
        stored = self._parts.store.list(index_folder(region.region_id))
        with self._lock:
            being_built = frozenset(self._being_built)
        with region.editing():
            region.check_writable()
            state = region.state
            chosen = collectable_indexes(
                state,
                stored,
                region.control.living.indexes(),
                being_built,
                is_behind=is_read_behind(state, self._parts.pins.held().of(region.region_id)),
                now_ms=self._parts.clock.now_ms(),
                grace_ms=grace_ms,
            )
            delete_indexes(self._parts.store, region.region_id, chosen)


def _listed(file: FileMeta) -> tuple[IndexEntry, ...]:
    return file.index.entries if file.index is not None else ()


def _ever_indexed(state: RegionState) -> bool:
    former = (removed.file for removed in state.removed_files if removed.file is not None)
    return any(file.index is not None for file in (*state.files.values(), *former))
