"""The drawing model of a table's files: over which time each lies, in which lane, and from which step to which.

A *step* is a version of the manifest that changed which files there are; the frame of ``table.history()`` tells them.
A *life* is a file from the step that brought it to the step that took it away: a file that was listed again has two.
Each level has lanes, and no two lives of a lane are there at one step over one time, so that a file stays where it is
while steps go by, and the lanes that are taken at a step are about as many as a scan has to merge. The newest step has
as few as can be.

Everything here is a pure function of frames, from any library that speaks Arrow. `Strata.packed` is what goes to a
browser: one buffer of columns, and a header that says where each lies.

    buffer = column, padding to 8 bytes, column...      little endian
    header = {name: [type, offset, count]}              type = the name of a JavaScript typed array
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from mitoframe.views.style import integers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Header: TypeAlias = "dict[str, tuple[str, int, int]]"

MEMTABLE_LEVEL = -1
LANES_MAX = 100
"""What is deeper shares the last lane: more could not be told apart."""
STEPS_MAX = 4_000
"""How many of the newest steps there are."""
LIVES_MAX = 20_000
"""How many files are drawn one by one; of more, those that are gone are left out first, the longest gone foremost."""
SHADES = 5
OVERLAP_SHADES = (1, 2, 3, 5)
"""How many others share a file's time where the next shade begins."""

_MS_PER = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_ALIGNED = 8
_TYPED_ARRAYS = {"f8": "Float64Array", "f4": "Float32Array", "i4": "Int32Array", "u1": "Uint8Array", "i1": "Int8Array"}
_NO_STEP = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What happened, oldest first; there is an entry for each step in every column.

    ``files`` and ``size_bytes`` are what there is afterwards, as far as files are known.
    """

    version: Array
    at_ms: Array
    took_ms: Array
    what: tuple[str, ...]
    reason: tuple[str, ...]
    inputs: Array
    outputs: Array
    bytes_in: Array
    bytes_out: Array
    files: Array
    size_bytes: Array

    def __len__(self) -> int:
        return len(self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Lives as columns, by level and first time; rows that are not in a file yet are a life of `MEMTABLE_LEVEL`.

    Attributes:
        file_ids: the file of each.
        level: 0 flushed, 1 compacted, -1 memory.
        lane: from 0; see the module.
        start_ms: its first time, in milliseconds since 1970.
        end_ms: its last time, which is in it.
        born: the step that brought it; -1 if it was there before the first.
        died: the first step without it; the number of steps if it is there now.
        rows: how many.
        size_bytes: of the file.
        created_ms: when it was made, 0 if that is not known.
        min_sequence: of any row.
        max_sequence: of any row.
        steps: what happened.
        zone: of the times, None for none.
        left_out: how many lives are not here because there would be too many.

    """

    file_ids: tuple[str, ...]
    level: Array
    lane: Array
    start_ms: Array
    end_ms: Array
    born: Array
    died: Array
    rows: Array
    size_bytes: Array
    created_ms: Array
    min_sequence: Array
    max_sequence: Array
    steps: Steps
    zone: str | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.file_ids)

    def at(self, step: int) -> Array:
        """Return which lives are there after a step, by number."""
        return np.flatnonzero((self.born <= step) & (self.died > step))

    @property
    def now(self) -> Array:
        """Which are there after the last step."""
        return self.at(len(self.steps) - 1)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that occur, as rows flow through them."""
        return tuple(sorted(set(self.level.tolist())))

    def lanes_of(self, level: int, chosen: Array) -> int:
        """Return how many lanes some lives take of a level."""
        lanes = self.lane[chosen][self.level[chosen] == level]
        return int(lanes.max()) + 1 if len(lanes) else 0

    def packed(self) -> tuple[Header, bytes]:
        """Return all columns as one buffer, and where each lies in it."""
        names = {name: number for number, name in enumerate(dict.fromkeys(self.steps.what))}
        reasons = {name: number for number, name in enumerate(dict.fromkeys(self.steps.reason))}
        steps = self.steps
        return pack(
            {
                "file_id": _id_bytes(self.file_ids),
                "level": self.level.astype("i1"),
                "lane": self.lane.astype("u1"),
                "start": self.start_ms.astype("f8"),
                "end": self.end_ms.astype("f8"),
                "born": self.born.astype("i4"),
                "died": self.died.astype("i4"),
                "rows": self.rows.astype("f8"),
                "size": self.size_bytes.astype("f8"),
                "created": self.created_ms.astype("f8"),
                "min_sequence": self.min_sequence.astype("f8"),
                "max_sequence": self.max_sequence.astype("f8"),
                "age_shade": ranks(self.created_ms).astype("u1"),
                "size_shade": size_shades(self.size_bytes)[0].astype("u1"),
                "step_version": steps.version.astype("i4"),
                "step_at": steps.at_ms.astype("f8"),
                "step_took": steps.took_ms.astype("f4"),
                "step_what": np.array([names[name] for name in steps.what], dtype="i4"),
                "step_reason": np.array([reasons[name] for name in steps.reason], dtype="i4"),
                "step_inputs": steps.inputs.astype("i4"),
                "step_outputs": steps.outputs.astype("i4"),
                "step_bytes_in": steps.bytes_in.astype("f8"),
                "step_bytes_out": steps.bytes_out.astype("f8"),
                "step_files": steps.files.astype("i4"),
                "step_size": steps.size_bytes.astype("f8"),
            }
        )


def strata_of(files: Any, history: Any, *, lives_max: int = LIVES_MAX) -> Strata:
    """Lay out the files of a table.

    Requires: the history has an entry, as that of every table has.

    Args:
        files: one row per file, with those that are gone as far as they are known: the columns of ``table.files()``,
            ``created`` and ``removed_version`` (null for a file that is there).
        history: the frame of ``table.history()``.
        lives_max: how many may be drawn.

    """
    files, history = pa.table(files), pa.table(history)
    told = _told(history)
    is_there = files["removed_version"].is_null().to_numpy() & files["min_time"].is_valid().to_numpy()
    lives = _lives(files, is_there, told)
    lives.sort(key=lambda life: (-life.died, -life.born))
    left_out = max(len(lives) - lives_max, 0)
    chosen = lives[:lives_max]
    levels, starts, ends = integers(files, "level"), integers(files, "min_time"), integers(files, "max_time")
    chosen.sort(key=lambda life: (levels[life.row], starts[life.row], ends[life.row], life.born))
    rows = np.array([life.row for life in chosen], dtype=np.int64)
    born = np.array([life.born for life in chosen], dtype=np.int64)
    died = np.array([life.died for life in chosen], dtype=np.int64)
    sizes = integers(files, "size_bytes")[rows]
    ids = files["file_id"].to_pylist()
    return Strata(
        file_ids=tuple(ids[row] for row in rows),
        level=levels[rows],
        lane=_lanes_by_level(levels[rows], starts[rows], ends[rows], born, died),
        start_ms=milliseconds(files, "min_time")[rows],
        end_ms=milliseconds(files, "max_time")[rows],
        born=born,
        died=died,
        rows=integers(files, "rows")[rows],
        size_bytes=sizes,
        created_ms=integers(files, "created")[rows],
        min_sequence=integers(files, "min_sequence")[rows],
        max_sequence=integers(files, "max_sequence")[rows],
        steps=_steps(told, levels[rows], sizes, born, died),
        zone=files.schema.field("min_time").type.tz,
        left_out=left_out,
    )


def milliseconds(table: pa.Table, name: str) -> Array:
    """Return a column of times as milliseconds since 1970; a null is 0."""
    times: Array = integers(table, name) * _MS_PER[table.schema.field(name).type.unit]
    return times


# --- steps and lives -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """The entries of a history that changed which files there are."""

    version: Array
    at_ms: Array
    took_ms: Array
    bytes_in: Array
    bytes_out: Array
    what: tuple[str, ...]
    reason: tuple[str, ...]
    inputs: tuple[list[str], ...]
    outputs: tuple[list[str], ...]
    starts_anew: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.version)


@dataclass(slots=True, eq=False)
class _Life:
    row: int
    born: int
    died: int = _NO_STEP


def _told(history: pa.Table) -> _Told:
    what, anew = history["what"].to_pylist(), history["starts_anew"].to_pylist()
    inputs, outputs = history["inputs"].to_pylist(), history["outputs"].to_pylist()
    reasons = history["reason"].to_pylist()
    changed = [
        number
        for number, name in enumerate(what)
        if name == "create" or (name != "gc" and (inputs[number] or outputs[number] or anew[number]))
    ]
    chosen = np.array(changed[-STEPS_MAX:], dtype=np.int64)
    return _Told(
        version=integers(history, "version")[chosen],
        at_ms=integers(history, "at")[chosen],
        took_ms=integers(history, "took")[chosen],
        bytes_in=integers(history, "bytes_in")[chosen],
        bytes_out=integers(history, "bytes_out")[chosen],
        what=tuple(what[number] for number in chosen),
        reason=tuple(reasons[number] or "" for number in chosen),
        inputs=tuple(inputs[number] for number in chosen),
        outputs=tuple(outputs[number] for number in chosen),
        starts_anew=tuple(bool(anew[number]) for number in chosen),
    )


def _lives(files: pa.Table, is_there: Array, told: _Told) -> list[_Life]:
    """Return every life there was at some step. Files that are there now are, whatever the history says."""
    file_ids, count = files["file_id"].to_pylist(), len(told)
    row_of = {file_id: row for row, file_id in enumerate(file_ids)}
    living: dict[str, _Life] = {}
    lives: list[_Life] = []
    for step, (inputs, outputs) in enumerate(zip(told.inputs, told.outputs, strict=True)):
        for file_id in set(living).difference(outputs) if told.starts_anew[step] else inputs:
            if file_id in living:
                living.pop(file_id).died = step
        for file_id in outputs:
            if file_id in row_of and file_id not in living:
                living[file_id] = _Life(row=row_of[file_id], born=step)
                lives.append(living[file_id])
    for life in living.values():
        life.died = count if is_there[life.row] else count - 1
    lives += _untold(files, is_there, told, {life.row for life in lives})
    return [life for life in lives if life.died > max(life.born, 0)]


def _untold(files: pa.Table, is_there: Array, told: _Told, known: set[int]) -> Iterator[_Life]:
    """Yield lives of files that came before the first step, and of rows in memory."""
    removed, levels, count = files["removed_version"].to_pylist(), files["level"].to_pylist(), len(told)
    for row in range(len(files)):
        if row in known:
            continue
        if is_there[row]:
            yield _Life(row=row, born=count - 1 if levels[row] == MEMTABLE_LEVEL else _NO_STEP, died=count)
        elif removed[row] is not None:
            yield _Life(row=row, born=_NO_STEP, died=int(np.searchsorted(told.version, removed[row])))


def _steps(told: _Told, levels: Array, sizes: Array, born: Array, died: Array) -> Steps:
    is_file, count = levels != MEMTABLE_LEVEL, len(told)
    come, gone, sizes = np.maximum(born[is_file], 0), died[is_file], sizes[is_file].astype(np.float64)
    files = np.bincount(come, minlength=count + 1) - np.bincount(gone, minlength=count + 1)
    size = np.bincount(come, sizes, minlength=count + 1) - np.bincount(gone, sizes, minlength=count + 1)
    return Steps(
        version=told.version,
        at_ms=told.at_ms,
        took_ms=told.took_ms,
        what=told.what,
        reason=told.reason,
        inputs=np.array([len(names) for names in told.inputs], dtype=np.int64),
        outputs=np.array([len(names) for names in told.outputs], dtype=np.int64),
        bytes_in=told.bytes_in,
        bytes_out=told.bytes_out,
        files=np.cumsum(files)[:count],
        size_bytes=np.cumsum(size)[:count].astype(np.int64),
    )


# --- lanes ---------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Lane:
    """Intervals that do not overlap, by their starts."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def place(self, start: int, end: int) -> int | None:
        """Return where an interval [start, end] would stand, None if it overlaps one that is there."""
        at = bisect_left(self.starts, start)
        if at < len(self.starts) and self.starts[at] <= end:
            return None
        return None if at and self.ends[at - 1] >= start else at

    def insert(self, at: int, start: int, end: int) -> None:
        self.starts.insert(at, start)
        self.ends.insert(at, end)

    def remove(self, start: int) -> None:
        at = bisect_left(self.starts, start)
        del self.starts[at], self.ends[at]


def stack(starts: Sequence[int], ends: Sequence[int], born: Sequence[int], died: Sequence[int]) -> list[int]:
    """Give each life the lowest lane that is free over [start, end] from ``born`` until ``died``.

    The newest are placed first, so that those that are there now take as few lanes as can be.

    >>> stack([0, 5, 3], [4, 9, 7], [0, 0, 1], [2, 2, 2])
    [0, 0, 1]
    >>> stack([0, 0], [9, 9], [0, 1], [1, 2])
    [0, 0]
    """
    placed = [0] * len(starts)
    lanes: list[_Lane] = []
    leaving: list[tuple[int, int]] = []
    for index in sorted(range(len(starts)), key=lambda each: (-died[each], starts[each], ends[each])):
        while leaving and -leaving[0][0] >= died[index]:  # It came when this one was gone.
            other = heappop(leaving)[1]
            lanes[placed[other]].remove(starts[other])
        found = _free_lane(lanes, starts[index], ends[index])
        if found is None:
            placed[index] = LANES_MAX - 1
            continue
        placed[index], at = found
        lanes[placed[index]].insert(at, starts[index], ends[index])
        heappush(leaving, (-born[index], index))
    return placed


def _free_lane(lanes: list[_Lane], start: int, end: int) -> tuple[int, int] | None:
    """Return the lowest lane with room and the place in it, None if there would be too many lanes."""
    for number, lane in enumerate(lanes):
        at = lane.place(start, end)
        if at is not None:
            return number, at
    if len(lanes) == LANES_MAX:
        return None
    lanes.append(_Lane())
    return len(lanes) - 1, 0


def _lanes_by_level(levels: Array, starts: Array, ends: Array, born: Array, died: Array) -> Array:
    lanes = np.zeros(len(levels), dtype=np.int64)
    for level in set(levels.tolist()):
        chosen = np.flatnonzero(levels == level)
        lanes[chosen] = stack(
            starts[chosen].tolist(), ends[chosen].tolist(), born[chosen].tolist(), died[chosen].tolist()
        )
    return lanes


# --- shades --------------------------------------------------------------------------------------------


def overlaps(starts: Array, ends: Array) -> Array:
    """Return with how many others each interval, both ends included, has a time in common.

    >>> overlaps(np.array([0, 2, 9]), np.array([4, 5, 9])).tolist()
    [1, 1, 0]
    """
    begun = np.searchsorted(np.sort(starts), ends, side="right")
    over = np.searchsorted(np.sort(ends), starts, side="left")
    return begun - over - 1


def overlap_shades(counts: Array) -> Array:
    """Return the shade of each count."""
    return np.searchsorted(OVERLAP_SHADES, counts, side="right")


def ranks(values: Array) -> Array:
    """Return the fifth of the distinct values that each is in: of five files of five ages, each has a shade."""
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) < 2:
        return np.full(len(values), SHADES - 1)
    return place * (SHADES - 1) // (len(distinct) - 1)


def size_shades(sizes: Array) -> tuple[Array, tuple[int, ...]]:
    """Return the shade of each size, and at which sizes the shades but the first begin: by factors, not by bytes."""
    files = sizes[sizes > 0]
    if not len(files) or files.min() == files.max():
        return np.full(len(sizes), SHADES // 2), ()
    bounds = np.geomspace(files.min(), files.max(), SHADES + 1)[1:-1]
    return np.searchsorted(bounds, sizes, side="right"), tuple(round(bound) for bound in bounds.tolist())


# --- bytes ---------------------------------------------------------------------------------------------


def pack(columns: Mapping[str, Array]) -> tuple[Header, bytes]:
    """Put columns into one buffer; see the module."""
    header: Header = {}
    parts: list[bytes] = []
    offset = 0
    for name, column in columns.items():
        data = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<")).tobytes()
        header[name] = (_TYPED_ARRAYS[f"{column.dtype.kind}{column.dtype.itemsize}"], offset, len(column))
        padding = -len(data) % _ALIGNED
        parts += [data, bytes(padding)]
        offset += len(data) + padding
    return header, b"".join(parts)


def _id_bytes(file_ids: Iterable[str]) -> Array:
    """Return 16 bytes for each identifier, zeros for one that is no hexadecimal number of as many."""
    hexadecimal = "".join(file_id if len(file_id) == 32 else "0" * 32 for file_id in file_ids)
    return np.frombuffer(bytes.fromhex(hexadecimal), dtype=np.uint8)
