"""The widget of ``table.inspect()``: what it shows as JSON and bytes, and what it answers.

A `Source` hands over frames; nothing here knows where they come from. The drawing is ``panel.js``, a plain module that
travels with the widget: nothing is fetched from anywhere, and a page that was loaded asks only the kernel. It has two
traits, and asks by messages:

    header    JSON: what there is to say in words, and where each column lies in `columns`   (`strata.Strata.packed`)
    columns   the files and steps, as one buffer
    message   {"ask": "footer", "file": identifier} | {"ask": "plan" or "replay", "options": {...}} | {"ask": "live"},
              each with "id", and with "unasked" if nobody clicked anything
    answer    {"id", ...} of `answer`, or {"id", "error"}

No answer keeps the kernel for longer than about `REPLAY_SECONDS`: a history that takes longer to replay is answered as
far as it has come, with "share", and the page asks again until that is 1 or a slider has moved.

The page asks for what is new, about once a second while it can be seen, so that a notebook that nobody looks at costs
nothing; `Budget` says how often, so that it costs little where much changes. What opening a page costs is not paid for:
the first curves of a machine take seconds to compile, and the page would stand still for as long as those are few of.
The traits change only when files did.

anywidget is imported with the first widget, not before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic, thread_time
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mitoframe.views.still import draw_still, summary
from mitoframe.views.strata import Strata, milliseconds, pack, size_shades, strata_of
from mitoframe.views.style import format_bytes

SCRIPT = Path(__file__).with_name("panel.js")
STYLE = Path(__file__).with_name("panel.css")
WINDOWS_MAX = 5_000
"""How many of the newest windows are drawn."""
POINTS_MAX = 240
"""How many points a curve has at most: a page has few more pixels for it."""
TASKS_MAX = 25
"""How many merges are looked for; that there would be more is told."""
ROW_GROUPS_MAX = 64
REPLAY_SECONDS = 0.04
"""How long a history is replayed for an answer; more is for the next one."""
REPLAYS_MAX = 8
"""How many are kept on their way, or at their end: sliders go back and forth, and a widget may be on several pages."""
LIVE_MS = 1_000
LIVE_SHARE = 0.008
"""Of one processor, for all that a widget does by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A table at one moment, in frames.

    Attributes:
        table: its name.
        version: of its manifest.
        files: see `strata_of`.
        history: the frame of ``table.history()``.
        windows: the frame of ``table.compaction_plan()``.
        window_ms: how long a compaction window is.
        write_buffer_bytes: how large memory grows before it is flushed.
        options: what the sliders stand at, by their names: compaction_window_ms, compaction_trigger_files,
            sst_size_bytes.

    """

    table: str
    version: int
    files: Any
    history: Any
    windows: Any
    window_ms: int
    write_buffer_bytes: int
    options: Mapping[str, int]


class Curves(Protocol):
    """What would have become of a table's history, replayed a step at a time."""

    def advance(self) -> bool:
        """Take a step of some milliseconds; tell whether there is more to come."""

    @property
    def share(self) -> float:
        """How much has been replayed, from 0 to 1; 1 at the end and not before."""

    def frames(self) -> Mapping[str, Any]:
        """Return what has come of it so far as frames: ``steps``, and ``usual`` as it is.

        Columns: at, files, write_amplification, runs_max.
        """


class Source(Protocol):
    """What a widget asks."""

    def version(self) -> int:
        """Return the newest version of the manifest."""

    def seen(self) -> Seen:
        """Return what there is now."""

    def footer(self, file_id: str) -> Mapping[str, Any]:
        """Return frames: ``file``, ``row_groups``, ``chunks``, ``keys``, ``window``."""

    def plan(self, options: Mapping[str, int]) -> Any:
        """Return the frame of what would be merged next, up to `TASKS_MAX`."""

    def replay(self, options: Mapping[str, int]) -> Curves:
        """Begin to replay the history of what was seen last."""

    def live(self) -> Mapping[str, Any]:
        """Return frames: ``memtables``, ``log``, ``caches``, ``jobs``."""


class Budget:
    """Lets something happen again only when what it cost is a small share of the time since.

    >>> now = iter([0.0, 1.0, 4.0])
    >>> budget = Budget(0.01, now=lambda: next(now))
    >>> budget.spend(0.02)
    >>> budget.is_free(), budget.is_free()
    (False, True)
    """

    def __init__(self, share: float, *, now: Callable[[], float] = monotonic) -> None:
        self._share, self._now = share, now
        self._free_at = float("-inf")

    def is_free(self) -> bool:
        return self._now() >= self._free_at

    def spend(self, seconds: float) -> None:
        self._free_at = max(self._free_at, self._now()) + seconds / self._share


class Panel:
    """What a widget shows and answers, without a widget.

    Args:
        source: whom to ask.
        refusals: errors that are told in the page; others are programmers' mistakes.

    """

    def __init__(self, source: Source, refusals: type[Exception]) -> None:
        self._source, self._refusals = source, refusals
        self._budget = Budget(LIVE_SHARE / 2)
        self._curves: dict[frozenset[tuple[str, int]], Curves] = {}
        self.seen, self.strata = self._look()

    def _look(self) -> tuple[Seen, Strata]:
        seen = self._source.seen()
        return seen, strata_of(seen.files, seen.history)

    def refresh(self) -> bool:
        """Look again if there is a newer version, and time for it; tell whether anything is new."""
        try:
            if self._source.version() == self.seen.version or not self._budget.is_free():
                return False
            began = thread_time()
            self.seen, self.strata = self._look()
        except self._refusals:
            return False  # The next answer says why.
        self._budget.spend(thread_time() - began)
        self._curves.clear()
        return True

    def payload(self) -> tuple[str, bytes]:
        """Return what the two traits hold."""
        files, columns = self.strata.packed()
        windows, more = _window_columns(self.seen.windows)
        offset = len(columns)
        moved = {name: (kind, offset + at, count) for name, (kind, at, count) in windows.items()}
        return json.dumps(_facts(self.seen, self.strata) | {"columns": files | moved}), columns + more

    def still(self) -> str:
        """Return the table as it is now, as HTML that needs nothing else."""
        return draw_still(self.strata, table=self.seen.table, windows=self.seen.windows, history=self.seen.history)

    def __repr__(self) -> str:
        return f"inspect {self.seen.table!r}: {summary(self.strata)}"

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what a page asks."""
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "footer": lambda: self._footer(message["file"]),
            "plan": lambda: self._plan(_numbers(message["options"])),
            "replay": lambda: self._replay(_numbers(message["options"])),
            "live": self._live,
        }
        began = thread_time()
        try:
            found = answers[message["ask"]]()
        except self._refusals as error:
            found = {"error": str(error)}
        if message.get("unasked"):
            self._budget.spend(thread_time() - began)
        return found | {"id": message["id"], "ask": message["ask"]}

    def _footer(self, file_id: str) -> dict[str, Any]:
        frames = self._source.footer(file_id)
        found = {name: rows_of(frame) for name, frame in frames.items()}
        chunks, groups = found.pop("chunks", []), found.pop("row_groups", [])
        return found | {
            "columns": _columns_of(chunks),
            "chunks": [chunk for chunk in chunks if chunk["row_group"] < ROW_GROUPS_MAX],
            "row_groups": groups[:ROW_GROUPS_MAX],
            "row_group_count": len(groups),
        }

    def _plan(self, options: Mapping[str, int]) -> dict[str, Any]:
        tasks = rows_of(self._source.plan(options))
        number_of = {file_id: number for number, file_id in enumerate(self.strata.file_ids)}
        for task in tasks:
            task["file_count"] = len(task["inputs"])
            task["inputs"] = [number_of[file_id] for file_id in task["inputs"] if file_id in number_of]
        return {
            "task_count": len(tasks),
            "file_count": sum(task["file_count"] for task in tasks),
            "size_bytes": sum(task["size_bytes"] for task in tasks),
            "has_more": len(tasks) >= TASKS_MAX,
            "tasks": tasks,
        }

    def _replay(self, options: Mapping[str, int]) -> dict[str, Any]:
        curves = self._replaying(options)
        began = thread_time()
        while curves.advance() and thread_time() - began < REPLAY_SECONDS:
            pass
        frames = {name: pa.table(frame) for name, frame in curves.frames().items()}
        thinned = {name: _thinned(frame) for name, frame in frames.items()}
        return thinned | {"share": curves.share, "most": {name: _most(frame) for name, frame in frames.items()}}

    def _replaying(self, options: Mapping[str, int]) -> Curves:
        """Return what is on its way under these options, or begin it."""
        key = frozenset(options.items())
        curves = self._curves.pop(key, None) or self._source.replay(options)
        self._curves[key] = curves
        if len(self._curves) > REPLAYS_MAX:
            del self._curves[next(iter(self._curves))]
        return curves

    def _live(self) -> dict[str, Any]:
        began = thread_time()
        found: dict[str, Any] = {name: rows_of(frame) for name, frame in self._source.live().items()}
        cost_ms = 1000 * (thread_time() - began)
        return found | {"version": self._source.version(), "next_ms": max(LIVE_MS, cost_ms / (LIVE_SHARE / 2))}


def make_widget(panel: Panel) -> Any:
    """Return a widget that shows a panel.

    Raises:
        ImportError: anywidget is not installed.

    """
    return _widget_class()(panel)


@cache
def _widget_class() -> Any:
    import anywidget
    import traitlets

    class InspectWidget(anywidget.AnyWidget):  # type: ignore[misc]
        """Shows a table's files; everything else about it is in `Panel`."""

        # As text: of a file anywidget tells its widgets when it changes, and so keeps all there ever were.
        _esm = SCRIPT.read_text(encoding="utf-8")
        _css = STYLE.read_text(encoding="utf-8")
        header = traitlets.Unicode().tag(sync=True)
        columns = traitlets.Bytes().tag(sync=True)

        def __init__(self, panel: Panel) -> None:
            header, columns = panel.payload()
            super().__init__(header=header, columns=columns)
            self._panel = panel
            self.on_msg(self._asked)

        def _asked(self, _: Any, message: Any, __: Any) -> None:
            self.send(self._panel.answer(message))
            if message["ask"] == "live" and self._panel.refresh():
                header, columns = self._panel.payload()
                with self.hold_sync():
                    self.header, self.columns = header, columns

        def _repr_mimebundle_(self, **options: Any) -> Any:
            """Show the picture where there are no widgets: on pages that were exported, and on GitHub."""
            shown = super()._repr_mimebundle_(**options)
            if shown is None:
                return None
            data, metadata = shown if isinstance(shown, tuple) else (shown, {})
            return data | {"text/html": self._panel.still(), "text/plain": repr(self)}, metadata

        def __repr__(self) -> str:
            return repr(self._panel)

        def to_html(self) -> str:
            """Return the picture that stands in for the widget, to be saved or mailed."""
            return self._panel.still()

    return InspectWidget


class Still:
    """Stands in for the widget where anywidget is not installed."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def _repr_html_(self) -> str:
        return self._panel.still()

    def to_html(self) -> str:
        """Return the same, to be saved or mailed."""
        return self._panel.still()

    def __repr__(self) -> str:
        return repr(self._panel)


# --- frames as JSON ------------------------------------------------------------------------------------


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return a frame as JSON has it: times as text, in their zone."""
    table = pa.table(frame)
    plain = [column.cast(pa.string()) if pa.types.is_temporal(column.type) else column for column in table.columns]
    rows: list[dict[str, Any]] = pa.Table.from_arrays(plain, names=table.schema.names).to_pylist()
    return rows


def _numbers(options: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in options.items()}


def _facts(seen: Seen, strata: Strata) -> dict[str, Any]:
    return {
        "table": seen.table,
        "version": seen.version,
        "zone": strata.zone,
        "window_ms": seen.window_ms,
        "write_buffer_bytes": seen.write_buffer_bytes,
        "options": dict(seen.options),
        "left_out": strata.left_out,
        "live_ms": LIVE_MS,
        "whats": list(dict.fromkeys(strata.steps.what)),
        "reasons": list(dict.fromkeys(strata.steps.reason)),
        "shades": {
            "age": ["oldest", "", "", "", "newest"],
            "size": _size_labels(strata),
            "overlap": ["alone", "1 other", "2", "3 or 4", "5 or more"],
        },
    }


def _size_labels(strata: Strata) -> list[str]:
    bounds = size_shades(strata.size_bytes)[1]
    if not bounds:
        return []
    return [f"below {format_bytes(bounds[0])}", *(f"{format_bytes(bound)} on" for bound in bounds)]


def _window_columns(windows: Any) -> tuple[dict[str, tuple[str, int, int]], bytes]:
    table = pa.table(windows).slice(0, WINDOWS_MAX)
    return pack(
        {
            "window_start": milliseconds(table, "window_start"),
            "window_end": milliseconds(table, "window_end"),
            "window_files": table["files"].cast(pa.int32()).to_numpy(),
            "window_runs": table["runs"].cast(pa.int32()).to_numpy(),
            "window_merges": table["merges"].cast(pa.int32()).to_numpy(),
        }
    )


def _columns_of(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum the chunks of each column up."""
    found: dict[str, dict[str, Any]] = {}
    for chunk in chunks:
        known = found.setdefault(chunk["column"], chunk | {"size_bytes": 0, "unpacked_bytes": 0, "nulls": 0})
        known["size_bytes"] += chunk["size_bytes"]
        known["unpacked_bytes"] += chunk["unpacked_bytes"]
        known["nulls"] += chunk["nulls"] or 0
        known["encodings"] = ", ".join(sorted({*known["encodings"].split(", "), *chunk["encodings"].split(", ")}))
    return list(found.values())


def _most(table: pa.Table) -> dict[str, float]:
    """Return the most of each column but times: it need not be among the points that are drawn."""
    numbers = (name for name in table.column_names if not pa.types.is_timestamp(table.schema.field(name).type))
    return {name: max(table[name].to_pylist(), default=0) for name in numbers}


def _thinned(table: pa.Table) -> dict[str, list[float]]:
    """Return each column of a table at no more than so many rows, the last one among them; times in milliseconds."""
    chosen = np.linspace(0, max(len(table) - 1, 0), min(len(table), POINTS_MAX)).astype(np.int64)
    return {
        field.name: milliseconds(table, field.name)[chosen].tolist()
        if pa.types.is_timestamp(field.type)
        else table[field.name].take(pa.array(chosen)).to_pylist()
        for field in table.schema
    }
