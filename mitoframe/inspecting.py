"""``table.inspect()``: the frames that its widget shows, and what it asks the engine when somebody clicks.

The drawing is in views/ and knows only these frames. Nothing here changes the store, and no row is read: a click on a
file reads its footer.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mitoframe import inspection
from mitoframe.jobs.twcs import plan_compaction
from mitoframe.jobs.windows import window_ms
from mitoframe.model.errors import DamageWarning, InvalidInputError, MitoError, TableNotFoundError
from mitoframe.model.options import RegionOptions, compaction_options
from mitoframe.model.request import CompactRequest
from mitoframe.model.timerange import PER_SECOND, TIME_MAX, TimeRange
from mitoframe.simulating import Replayer, Replaying
from mitoframe.views.panel import TASKS_MAX, Panel, Seen, Still, make_widget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.jobs.tasks import CompactionPlan
    from mitoframe.model.file import FileMeta
    from mitoframe.model.ids import RegionId
    from mitoframe.region.version import Version
    from mitoframe.simulating import SimulationResult

ASKED_ABOUT = ("compaction_window_ms", "compaction_trigger_files", "sst_size_bytes")
"""What the sliders change."""
_SHOWN = ["at", "files", "write_amplification", "runs_max"]


def inspect(source: TableSource) -> Any:
    """Return a widget, or a picture where anywidget is not installed."""
    panel = Panel(source, MitoError)
    try:
        return make_widget(panel)
    except ImportError:
        return Still(panel)


class Curves:
    """A history under other options and as it is, replayed side by side, a step at a time."""

    def __init__(self, replaying: Replaying, usual: Replaying) -> None:
        self._replaying, self._usual = replaying, usual

    def advance(self) -> bool:
        """Take a step with what has come less far; tell whether there is more to come."""
        later = min(self._replaying, self._usual, key=lambda each: each.share)
        later.advance()
        return self.share < 1

    @property
    def share(self) -> float:
        """How much has been replayed, from 0 to 1; 1 at the end and not before."""
        return min(self._replaying.share, self._usual.share)

    def frames(self) -> dict[str, pa.Table]:
        return {"steps": _steps(self._replaying.result()), "usual": _steps(self._usual.result())}


class TableSource:
    """Hands the frames of one table to its widget.

    Args:
        name: of the table.
        engine: which has it.
        region_id: where it is.
        check_open: raises when the store was closed.

    """

    def __init__(self, name: str, engine: MitoEngine, region_id: RegionId, check_open: Callable[[], None]) -> None:
        self._name, self._engine, self._region_id, self._check_open = name, engine, region_id, check_open
        self._history: Replayer | Callable[[], Replayer] | None = None
        self._usual: Replaying | None = None

    def version(self) -> int:
        return self._version().manifest_version

    def _version(self) -> Version:
        self._check_open()
        try:
            return self._engine.newest(self._region_id).control.current().version
        except TableNotFoundError:
            if self._history is None:
                raise
            raise InvalidInputError(f"table {self._name!r} was dropped; what is shown is how it was before.") from None

    def seen(self) -> Seen:
        found = self._version()
        history = self._engine.history(self._region_id)
        for said in history.damage:
            warnings.warn(f"the journal of {self._name!r} is damaged: {said}", DamageWarning, stacklevel=2)
        self._history = partial(Replayer.of_history, history.entries, found.state, self._engine.config, self._name)
        self._usual = None
        plan = self._engine.compaction_plan(self._region_id, CompactRequest(mode="due"))
        options = compaction_options(self._engine.config, found.state.options)
        return Seen(
            table=self._name,
            version=found.manifest_version,
            files=inspection.known_files(found, history.entries),
            history=inspection.history(history.entries, found.state.metadata.time.type),
            windows=inspection.compaction_plan(plan, found.state.metadata),
            window_ms=window_ms(found.state),
            write_buffer_bytes=found.state.options.write_buffer_size_bytes
            or self._engine.config.write_buffer_size_bytes,
            options={
                "compaction_window_ms": window_ms(found.state),
                "compaction_trigger_files": options.trigger_files,
                "sst_size_bytes": options.output_size_max_bytes,
            },
        )

    def footer(self, file_id: str) -> dict[str, pa.Table]:
        version = self._version()
        found = _file(version, file_id)
        metadata = version.state.metadata
        footer = self._engine.reader.footer(metadata, found)
        names = {column.column_id: column.name for column in metadata.columns}
        return {
            "file": inspection.files_of([found], names, metadata.time.type),
            "row_groups": inspection.row_groups(footer),
            "chunks": inspection.chunks(footer),
            "keys": inspection.ends_of_keys(footer),
            "window": self._window_of(found, version),
        }

    def _window_of(self, file: FileMeta, version: Version) -> pa.Table:
        """Return the compaction window that a file counts for, and why it is merged or not."""
        newest = min(file.max_time, TIME_MAX - 1)
        request = CompactRequest(mode="due", time_range=TimeRange(newest, newest + 1))
        return inspection.compaction_plan(
            self._engine.compaction_plan(self._region_id, request), version.state.metadata
        )

    # --- what if ----------------------------------------------------------------------------------------

    def plan(self, options: Mapping[str, int]) -> pa.Table:
        version = self._version()
        state = version.state
        plan = plan_compaction(
            state.files.values(),
            compaction_options(self._engine.config, changed(state.options, options)),
            self._engine.now_ms(),
            unit=state.metadata.time_unit,
            known_window_ms=state.compaction_window_ms,
            tasks_max=TASKS_MAX,
            is_explained=False,
        )
        return _tasks(plan, version)

    def replay(self, options: Mapping[str, int]) -> Curves:
        """Begin to replay the history of what was seen last: a newer one would have to be looked up first."""
        self._check_open()
        replayer = self._replayer()
        if self._usual is None:
            self._usual = replayer.begin({})
        return Curves(replayer.begin(_as_told(options)) if options else self._usual, self._usual)

    def _replayer(self) -> Replayer:
        """Return what was seen last, as a history; most tables are closed before anybody asks for it."""
        if self._history is None:
            self._history = Replayer.of_table(self._engine, self._region_id, self._name)
        elif not isinstance(self._history, Replayer):
            self._history = self._history()
        return self._history

    # --- live -------------------------------------------------------------------------------------------

    def live(self) -> dict[str, pa.Table]:
        version, health = self._version(), self._engine.health()
        flushed, last = int(version.state.flushed_entry_id), int(health.last_entry_id)
        return {
            "memtables": inspection.memtables(version),
            "log": pa.table({"last_entry": [last], "flushed_entry": [flushed], "behind": [max(last - flushed, 0)]}),
            "caches": inspection.caches(self._engine.cache.use()),
            "jobs": inspection.health(health, {self._region_id: self._name}),
        }


def changed(options: RegionOptions, wanted: Mapping[str, int]) -> RegionOptions:
    """Return options with some of them as wanted.

    Raises:
        ConfigError: they contradict each other.
        InvalidInputError: something else is to be changed.

    >>> changed(RegionOptions(), {"compaction_trigger_files": 50}).compaction_trigger_files
    50
    """
    unknown = set(wanted).difference(ASKED_ABOUT)
    if unknown:
        raise InvalidInputError(f"{min(unknown)!r} is not one of {', '.join(ASKED_ABOUT)}.")
    known: dict[str, Any] = dict(wanted)
    return replace(options, **known)


def _as_told(options: Mapping[str, int]) -> dict[str, Any]:
    """Return options by the names that `Table.alter` has for them."""
    window_ms = options.get("compaction_window_ms")
    told: dict[str, Any] = {name: value for name, value in options.items() if name != "compaction_window_ms"}
    return told if window_ms is None else told | {"compaction_window": timedelta(milliseconds=window_ms)}


def _steps(result: SimulationResult) -> pa.Table:
    return pa.table(result.steps).select(_SHOWN)


def _file(version: Version, file_id: str) -> FileMeta:
    """Return a file that is there, or that was and may be still."""
    removed = (item.file for item in version.state.removed_files if item.file is not None)
    known = {str(file.file_id): file for file in (*removed, *version.state.files.values())}
    if file_id not in known:
        raise InvalidInputError(f"file {file_id[:8]} is not there any more; only what it was is known.")
    return known[file_id]


def _tasks(plan: CompactionPlan, version: Version) -> pa.Table:
    width = plan.window_ms * PER_SECOND[version.state.metadata.time_unit] // 1000
    time_type = version.state.metadata.time.type
    starts = [task.window_start for task in plan.tasks]
    return pa.table(
        {
            "window_start": pa.array(starts, pa.int64()).view(time_type),
            "window_end": pa.array([start + width for start in starts], pa.int64()).view(time_type),
            "inputs": pa.array([[file.file_id for file in task.inputs] for task in plan.tasks], pa.list_(pa.string())),
            "size_bytes": pa.array([task.output_size_bytes for task in plan.tasks], pa.int64()),
            "reason": pa.array([task.reason for task in plan.tasks], pa.string()),
        }
    )
