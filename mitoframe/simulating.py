"""What would have become of a table's files under other options: `Table.simulate`, `mitoframe.simulate`.

A history of flushes, the table's own or one made up, is replayed with the picker that compacts tables; no file is read
and none is written. Options have the names that ``table.alter(options=)`` and ``create_table`` take; those that do not
bear on which files are merged are refused.

What it does not know: rows that a merge finds written twice count twice; a merge takes no time; compactions that were
asked for by hand do not happen. Where a time window is given that is not the table's, flushes are cut by it as if the
rows of each file lay evenly in its times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mitoframe import inspection
from mitoframe.altering import region_options
from mitoframe.frames.polars import from_table
from mitoframe.jobs.arrivals import DAY_MS, Arrival, WriteLoad, cut_anew, told_arrivals
from mitoframe.jobs.simulator import Replay
from mitoframe.jobs.simulator import simulate as replayed
from mitoframe.model.card import Section, card
from mitoframe.model.errors import InvalidInputError
from mitoframe.model.options import CompactionOptions, MitoConfig, RegionOptions, compaction_options
from mitoframe.model.timerange import PER_SECOND, DurationLike, parse_duration_ms
from mitoframe.model.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Many

    import polars as pl

    from mitoframe.engine.engine import MitoEngine
    from mitoframe.jobs.simulator import Columns, Simulation
    from mitoframe.model.edit import RegionState
    from mitoframe.model.ids import RegionId
    from mitoframe.model.timerange import TimeUnit
    from mitoframe.storage.journal import JournalEntry

OPTIONS = (
    "compaction_window", "compaction_policy", "compaction_trigger_files", "compaction_settled_trigger_files",
    "compaction_settle", "compaction_input_files_max", "compaction_input_size_max_bytes", "sst_size_bytes", "ttl",
    "dedup",
)  # fmt: skip
FLUSHES_MAX = 100_000
BYTES_MAX = 2**53
"""The most that rows which are made up may weigh: so many are counted exactly, and what merges write of them too."""
_BEGIN_MS = 1_704_067_200_000
"""When rows that are made up begin: 2024."""
_FIRST_ARRIVALS = 16
"""After so many flushes a table without a given window has one."""
_CUT_AT_ONCE = 50
"""How many flushes are cut anew in a step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationResult:
    """What would have become of a table's files. Each property is made when it is asked for.

    Attributes:
        name: the table's, or what was made up.
        options: what decided which files were merged.
        unknown_files: files of the table's history of which too little is remembered; they are left out.

    Example:
        >>> import mitoframe as mito
        >>> result = mito.simulate(late_share=0.05, options={"compaction_window": "1h"})
        >>> result
        simulated 144 flushes of made up rows: 94 merges, written 2.99 times; at most 32 files and 5 runs in a window,
        24 files in the end
        >>> result.summary.select("files", "runs_max").row(0)
        (24, 5)
        >>> result.files.height
        24

    """

    name: str
    options: CompactionOptions
    unknown_files: int
    _simulation: Simulation
    _flushes: int
    _time_type: pa.DataType

    @property
    def steps(self) -> pl.DataFrame:
        """One row per moment at which files came or were merged, and one for when the last removed file has gone.

        Columns: at; files; windows; runs_max and read_amplification (sorted runs in a window: how many files a look at
        one time merges; the most, and on average over windows); live_bytes; stored_bytes (with removed files, which
        stay for ``gc_grace_ms``); and so far: flushed_bytes, written_bytes (flushed and merged), dropped_bytes (delete
        markers), expired_bytes, deleted_bytes (by what else changed the table), write_amplification;
        space_amplification (stored to live).
        """
        steps = self._simulation.steps
        columns = {name: _column(steps, kept, kind) for name, (kept, kind) in _STEPS.items()}
        stored, live = _numbers(steps, "stored_bytes"), _numbers(steps, "live_bytes")
        return from_table(pa.table(columns | {"space_amplification": pa.array(stored / np.maximum(live, 1))}))

    @property
    def tasks(self) -> pl.DataFrame:
        """One row per merge. Columns: at, window_start, inputs, outputs, input_bytes, output_bytes, reason."""
        tasks = self._simulation.tasks
        columns = {name: _column(tasks, kept, kind) for name, (kept, kind) in _TASKS.items()}
        columns["window_start"] = columns["window_start"].view(self._time_type)
        return from_table(pa.table(columns))

    @property
    def files(self) -> pl.DataFrame:
        """One row per file that is left, with the columns of `Table.files` that can be told without the files."""
        found = inspection.files_of(self._simulation.files, {}, self._time_type)
        return from_table(found.drop_columns(_UNKNOWN))

    @property
    def summary(self) -> pl.DataFrame:
        """One row, so that ``pl.concat([a.summary, b.summary])`` compares results.

        Columns: name, flushes, merges, files (in the end), files_max, windows, runs_max, read_amplification (on average
        over time), write_amplification, space_amplification (the most that was stored, to the most that was live),
        flushed_bytes, written_bytes, live_bytes, and the options by their names.
        """
        return from_table(pa.table({name: [value] for name, value in (self._figures() | self._said()).items()}))

    def _figures(self) -> dict[str, Any]:
        steps = self._simulation.steps
        return {
            "name": self.name,
            "flushes": self._flushes,
            "merges": len(_numbers(self._simulation.tasks, "at_ms")),
            "files": len(self._simulation.files),
            "files_max": _most(steps, "files"),
            "windows": _last(steps, "windows"),
            "runs_max": _most(steps, "runs_max"),
            "read_amplification": _over_time(steps, "runs_mean"),
            "write_amplification": float(_last(steps, "write_amplification")),
            "space_amplification": _most(steps, "stored_bytes") / max(_most(steps, "live_bytes"), 1),
            "flushed_bytes": _last(steps, "flushed_bytes"),
            "written_bytes": _last(steps, "written_bytes"),
            "live_bytes": _last(steps, "live_bytes"),
        }

    def _said(self) -> dict[str, Any]:
        options = self.options
        return {
            "compaction_window": pa.scalar(self._simulation.window_ms, pa.duration("ms")),
            "compaction_policy": options.policy,
            "compaction_trigger_files": options.trigger_files,
            "compaction_settled_trigger_files": options.settled_trigger_files,
            "compaction_settle": pa.scalar(options.settle_ms, pa.duration("ms")),
            "compaction_input_files_max": options.input_files_max,
            "compaction_input_size_max_bytes": pa.scalar(options.input_size_max_bytes, pa.int64()),
            "sst_size_bytes": options.output_size_max_bytes,
            "ttl": pa.scalar(options.ttl_ms, pa.duration("ms")),
            "dedup": options.dedup,
        }

    def __repr__(self) -> str:
        known = self._figures()
        unknown = f"; {counted(self.unknown_files, 'file')} left out, of which too little is known"
        return (
            f"simulated {counted(self._flushes, 'flush')} of {self.name}: {counted(known['merges'], 'merge')}, "
            f"written {known['write_amplification']:.2f} times; at most {counted(known['files_max'], 'file')} and "
            f"{counted(known['runs_max'], 'run')} in a window, {counted(known['files'], 'file')} in the end"
            f"{unknown if self.unknown_files else ''}"
        )

    def _repr_html_(self) -> str:
        known = self.summary.row(0, named=True)
        rows = [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in known.items()]
        return card(repr(self), [Section(title="Summary", rows=rows, note=" ", is_open=True)])


class Replayer:
    """A history that can be replayed under one set of options after another; it is looked up once."""

    def __init__(
        self,
        *,
        name: str,
        arrivals: tuple[Arrival, ...],
        config: MitoConfig,
        options: RegionOptions,
        time_type: pa.DataType,
        unit: TimeUnit = "ms",
        cut_by: int,
        unknown_files: int = 0,
    ) -> None:
        """Take what came; ``cut_by`` is the width of the windows by which flushes were cut."""
        self._name, self._arrivals, self._config, self._options = name, arrivals, config, options
        self._time_type, self._unit, self._unknown_files = time_type, unit, unknown_files
        self._cut = {cut_by: arrivals}

    @staticmethod
    def of_table(engine: MitoEngine, region_id: RegionId, name: str) -> Replayer:
        """Look up what came to a table, by its journal."""
        state = engine.newest(region_id).state
        return Replayer.of_history(engine.history(region_id).entries, state, engine.config, name)

    @staticmethod
    def of_history(entries: Iterable[JournalEntry], state: RegionState, config: MitoConfig, name: str) -> Replayer:
        """Take what came to a table from its history, which somebody has looked up."""
        removed = {item.file_id: item.file for item in state.removed_files if item.file is not None}
        told = told_arrivals(entries, {**removed, **state.files})
        return Replayer(
            name=repr(name),
            arrivals=told.arrivals,
            config=config,
            options=state.options,
            time_type=state.metadata.time.type,
            unit=state.metadata.time_unit,
            cut_by=state.partition_width,
            unknown_files=len(told.unknown),
        )

    def run(self, options: Mapping[str, Any]) -> SimulationResult:
        """Replay it under these options, by the names that `Table.alter` has for them, and else those of the table.

        Raises:
            ConfigError: an option is out of range, or contradicts another.
            InvalidInputError: an option has nothing to do with it.

        """
        replaying = self.begin(options)
        while replaying.advance():
            pass
        return replaying.result()

    def begin(self, options: Mapping[str, Any]) -> Replaying:
        """Begin what `run` does, for whoever does it in steps. Raises as that does."""
        return Replaying(self, compaction_options(self._config, replace(self._options, **given_options(options))))

    def _result(self, options: CompactionOptions, arrivals: Many[Arrival], simulation: Simulation) -> SimulationResult:
        return SimulationResult(
            name=self._name,
            options=options,
            unknown_files=self._unknown_files,
            _simulation=simulation,
            _flushes=sum(not arrival.starts_anew for arrival in arrivals),
            _time_type=self._time_type,
        )

    def _width_of(self, options: CompactionOptions) -> int:
        """Return by how long windows what came has to be cut; if none is given, it is left as it came."""
        if options.window_ms is None:
            return next(iter(self._cut))
        return options.window_ms * PER_SECOND[self._unit] // 1000

    def _remember(self, width: int, cut: tuple[Arrival, ...]) -> None:
        """Keep what came as windows of a width cut it; most often it is the width that was asked for before."""
        given, *_ = self._cut.items()
        self._cut = dict([given, (width, cut)])


class Replaying:
    """A history on its way through one set of options, in steps that take some milliseconds each."""

    def __init__(self, replayer: Replayer, options: CompactionOptions) -> None:
        self._replayer, self._options = replayer, options
        self._width = replayer._width_of(options)
        self._cut: list[Arrival] = []
        self._cutting = cut_anew(replayer._arrivals, self._width)
        self._replay: Replay | None = None
        if self._width in replayer._cut:
            self._begin(replayer._cut[self._width])

    def advance(self) -> bool:
        """Take a step; tell whether there is more to come."""
        if self._replay is not None:
            return self._replay.advance()
        more = list(islice(self._cutting, _CUT_AT_ONCE))
        self._cut += more
        if not more:
            self._replayer._remember(self._width, tuple(self._cut))
            self._begin(self._cut)
        return True

    def _begin(self, arrivals: Many[Arrival]) -> None:
        replayer = self._replayer
        self._replay = Replay(arrivals, self._options, unit=replayer._unit, grace_ms=replayer._config.gc_grace_ms)

    @property
    def share(self) -> float:
        """How much has been replayed, from 0 to 1; 1 at the end and not before."""
        return 0.0 if self._replay is None else self._replay.share

    def result(self) -> SimulationResult:
        """Return what has come of it so far."""
        replay = self._replay or Replay((), self._options)
        return self._replayer._result(self._options, self._replayer._cut.get(self._width, ()), replay.result())


def simulate(
    *,
    days: float = 1,
    series: int = 4_000,
    interval: DurationLike = "10s",
    row_bytes: float = 10,
    late_share: float = 0,
    late: DurationLike = "6h",
    flush_interval: DurationLike = "10m",
    options: Mapping[str, Any] | None = None,
) -> SimulationResult:
    """Tell what would become of the files of a table to which rows come like this; `Table.simulate` replays a real one.

    Nothing is written. What merges find written twice, and how long they take, is not counted.

    Args:
        days: for how long rows come.
        series: how many series there are, such as hosts.
        interval: each has a row as often as this.
        row_bytes: of a row in a file; ``table.files()`` tells.
        late_share: which part of the rows comes late, from 0 to 1.
        late: by how much at most; any lateness up to it is as frequent.
        flush_interval: how often what came is flushed.
        options: by the names that `Table.alter` has for them: ``compaction_window``, ``compaction_policy``,
            ``compaction_trigger_files``, ``compaction_settled_trigger_files``, ``compaction_settle``,
            ``compaction_input_files_max``, ``compaction_input_size_max_bytes``, ``sst_size_bytes``, ``ttl``, ``dedup``.

    Raises:
        ConfigError: an option is out of range, or contradicts another.
        InvalidInputError: a number is out of range, or an option has nothing to do with it.

    Example:
        >>> import mitoframe as mito, polars as pl
        >>> runs = mito.simulate(late_share=0.05, options={"compaction_window": "1h", "compaction_policy": "runs"})
        >>> count = mito.simulate(late_share=0.05, options={"compaction_window": "1h", "compaction_policy": "count"})
        >>> both = pl.concat([runs.summary, count.summary])
        >>> both.select("compaction_policy", pl.col("write_amplification").round(1), "runs_max").rows()
        [('runs', 9.8, 1), ('count', 3.0, 5)]

    """
    load = _load(days, series, interval, row_bytes, late_share, late, flush_interval)
    config, told = MitoConfig(), RegionOptions(**given_options(options or {}))
    window_ms = told.compaction_window_ms
    if window_ms is None:
        window_ms = replayed(load.arrivals()[:_FIRST_ARRIVALS], compaction_options(config, told)).window_ms or DAY_MS
    replayer = Replayer(
        name="made up rows",
        arrivals=tuple(replace(load, partition_ms=window_ms).arrivals()),
        config=config,
        options=replace(told, compaction_window_ms=window_ms),
        time_type=pa.timestamp("ms"),
        cut_by=window_ms,
    )
    return replayer.run({})


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names of `RegionOptions`, if they bear on which files are merged.

    Raises:
        ConfigError: there is no such option.
        InvalidInputError: one has nothing to do with it.

    >>> given_options({"compaction_window": "1h"})
    {'compaction_window_ms': 3600000}
    """
    known = region_options(options)
    for name in options:
        if name not in OPTIONS:
            raise InvalidInputError(
                f"the option {name!r} has no bearing on which files are merged; leave it out. Those that have: "
                f"{', '.join(OPTIONS)}."
            )
    return known


def _load(
    days: float,
    series: int,
    interval: DurationLike,
    row_bytes: float,
    late_share: float,
    late: DurationLike,
    flush_interval: DurationLike,
) -> WriteLoad:
    for name, number in {"days": days, "row_bytes": row_bytes}.items():
        if not math.isfinite(number):
            raise InvalidInputError(f"{name}={number!r} is not a number of something.")
    span_ms = round(days * DAY_MS)
    durations = {"interval": interval, "late": late, "flush_interval": flush_interval}
    known = {name: parse_duration_ms(value, name) for name, value in durations.items()}
    for name, value in {"days": span_ms, "series": series, "row_bytes": row_bytes, **known}.items():
        if value <= 0:
            raise InvalidInputError(f"{name} must be more than nothing.")
    if not 0 <= late_share <= 1:
        raise InvalidInputError(f"late_share={late_share!r} is not a part of the rows, from 0 to 1.")
    if span_ms > FLUSHES_MAX * known["flush_interval"]:
        raise InvalidInputError(
            f"that would be more than {FLUSHES_MAX:,} flushes; give fewer days or a longer flush_interval."
        )
    rows = series * (span_ms / known["interval"])
    if rows * max(row_bytes, 1) > BYTES_MAX:
        raise InvalidInputError(f"that would be {rows:.3g} rows of {row_bytes:g} bytes; give fewer series or days.")
    return WriteLoad(
        span_ms=span_ms,
        flush_ms=known["flush_interval"],
        rows_per_second=series * 1000 / known["interval"],
        row_bytes=row_bytes,
        late_share=late_share,
        late_ms=known["late"],
        begin_ms=_BEGIN_MS,
    )


# --- columns --------------------------------------------------------------------------------------------

_UNKNOWN = ["series", "row_groups", "indexes", "index_bytes", "first_key", "last_key"]
_AT = pa.timestamp("ms", "UTC")
_STEPS: dict[str, tuple[str, pa.DataType]] = {
    "at": ("at_ms", _AT),
    "files": ("files", pa.uint64()),
    "windows": ("windows", pa.uint64()),
    "runs_max": ("runs_max", pa.uint64()),
    "read_amplification": ("runs_mean", pa.float64()),
    "live_bytes": ("live_bytes", pa.uint64()),
    "stored_bytes": ("stored_bytes", pa.uint64()),
    "flushed_bytes": ("flushed_bytes", pa.uint64()),
    "written_bytes": ("written_bytes", pa.uint64()),
    "dropped_bytes": ("dropped_bytes", pa.uint64()),
    "expired_bytes": ("expired_bytes", pa.uint64()),
    "deleted_bytes": ("deleted_bytes", pa.int64()),
    "write_amplification": ("write_amplification", pa.float64()),
}
_TASKS: dict[str, tuple[str, pa.DataType]] = {
    "at": ("at_ms", _AT),
    "window_start": ("window_start", pa.int64()),
    "inputs": ("inputs", pa.uint64()),
    "outputs": ("outputs", pa.uint64()),
    "input_bytes": ("input_bytes", pa.uint64()),
    "output_bytes": ("output_bytes", pa.uint64()),
    "reason": ("reason", pa.string()),
}


def _column(columns: Columns, name: str, kind: pa.DataType) -> pa.Array:
    return pa.array(columns[name]).cast(kind) if columns else pa.array([], kind)


def _numbers(columns: Columns, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    return columns[name] if columns else np.zeros(0, dtype=np.int64)


def _most(columns: Columns, name: str) -> int:
    return int(_numbers(columns, name).max(initial=0))


def _last(columns: Columns, name: str) -> Any:
    """Return what a column ends with: of no steps, nothing was written, once."""
    values = _numbers(columns, name)
    return values[-1].item() if len(values) else 1 if name == "write_amplification" else 0


def _over_time(columns: Columns, name: str) -> float:
    """Return the average of a column of which each value holds until the next."""
    values, spans = _numbers(columns, name), np.diff(_numbers(columns, "at_ms"))
    if not spans.sum():
        return float(_last(columns, name))
    return float(np.average(values[:-1], weights=spans))
