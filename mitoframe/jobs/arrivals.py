"""What came to a table, flush by flush: as a journal tells it, or made up. The simulator replays it.

A journal tells of every file that came what decides how it is compacted. What the simulator does by itself (merging,
letting go what has expired) is left out; where something else changed the table (a truncate, a replaced range, a
restore), the replay begins anew with the files there were then.

Another window cuts the rows of a flush otherwise. `cut_anew` does as a flush would, as if the rows of each file lay
evenly between its first and its last time: where windows become longer that is exact, and else an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from mitoframe.jobs.flush import SST_ROWS_MIN
from mitoframe.model.file import LEVEL_FLUSHED, FileMeta
from mitoframe.model.ids import FIRST_VERSION, FileId, ManifestVersion, Sequence
from mitoframe.model.options import HOUR_MS
from mitoframe.storage.journal import FileFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Sequence as Many

    from mitoframe.storage.journal import JournalEntry

DAY_MS = 24 * HOUR_MS
PIECES_MAX = 1_000
"""Into how many windows the rows of one file are divided at most; with so few rows each, they share files anyway."""
_COMING = frozenset({"flush", "backfill"})
_DONE_BY_ITSELF = frozenset({"compact", "expire", "gc"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Files that come at a moment, of one flush; with ``starts_anew`` all that was there before goes."""

    at_ms: int
    files: tuple[FileMeta, ...]
    starts_anew: bool = False


def flushes_of(files: Iterable[FileMeta]) -> list[Arrival]:
    """Return files as flushes: those that were made at one time are of one."""
    ordered = sorted(files, key=lambda file: (file.created_ms, file.min_sequence, file.file_id))
    return [
        Arrival(at_ms=at_ms, files=tuple(made)) for at_ms, made in groupby(ordered, key=lambda file: file.created_ms)
    ]


# --- a journal ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldArrivals:
    """What a journal tells. ``unknown`` files came too, of which it does not say enough."""

    arrivals: tuple[Arrival, ...]
    unknown: tuple[FileId, ...] = ()


def told_arrivals(entries: Iterable[JournalEntry], listed: Mapping[FileId, FileMeta]) -> ToldArrivals:
    """Return what came, oldest first. ``listed`` are files that are known anyway: an older journal says less."""
    known: dict[FileId, FileMeta] = {}
    unknown: dict[FileId, None] = {}
    there: set[FileId] = set()
    arrivals: list[Arrival] = []
    newest, at_ms = 0, 0
    for entry in entries:
        for file_id, file in _files_of(entry, listed, newest).items():
            if file is None:
                unknown[file_id] = None
            else:
                known.setdefault(file_id, file)
                newest = max(newest, file.max_sequence)
        if entry.starts_anew:
            there.clear()
        there.difference_update(entry.inputs)
        there.update(entry.outputs)
        at_ms = max(at_ms, entry.at_ms)
        kinds = set(entry.what.split(", "))
        if (entry.inputs or entry.outputs or entry.starts_anew) and not kinds & _DONE_BY_ITSELF:
            starts_anew = entry.starts_anew or not kinds & _COMING
            came = sorted(there) if starts_anew else entry.outputs
            files = tuple(known[file_id] for file_id in came if file_id in known)
            if files or starts_anew:
                arrivals.append(Arrival(at_ms=at_ms, files=files, starts_anew=starts_anew))
    return ToldArrivals(arrivals=tuple(arrivals), unknown=tuple(unknown))


def _files_of(entry: JournalEntry, listed: Mapping[FileId, FileMeta], newest: int) -> dict[FileId, FileMeta | None]:
    """Return the files that came with an entry, None for those of which nothing is known."""
    told = entry.known_facts()
    found: dict[FileId, FileMeta | None] = {}
    for file_id in entry.outputs:
        facts = told.get(file_id) or (FileFacts.of(listed[file_id]) if file_id in listed else None)
        found[file_id] = None if facts is None else _file(file_id, facts, entry, newest)
    return found


def _file(file_id: FileId, facts: FileFacts, entry: JournalEntry, newest: int) -> FileMeta:
    is_derived = "flush" not in entry.what and facts.min_sequence <= newest
    return _made_up(file_id, facts, entry.version if is_derived else FIRST_VERSION)


def _made_up(file_id: FileId, facts: FileFacts, derived_version: ManifestVersion = FIRST_VERSION) -> FileMeta:
    return FileMeta(
        file_id=file_id,
        checksum=0,
        series_count=1,
        row_group_count=1,
        schema_version=1,
        derived_version=derived_version,
        level=facts.level,
        min_time=facts.min_time,
        max_time=facts.max_time,
        row_count=facts.row_count,
        delete_count=facts.delete_count,
        size_bytes=facts.size_bytes,
        min_sequence=Sequence(facts.min_sequence),
        max_sequence=Sequence(facts.max_sequence),
        created_ms=facts.created_ms,
    )


# --- windows --------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Rows of one flush that lie in one window."""

    first: int
    last: int
    row_count: int
    delete_count: int
    size_bytes: int

    def joined(self, other: _Piece) -> _Piece:
        return _Piece(
            min(self.first, other.first),
            max(self.last, other.last),
            self.row_count + other.row_count,
            self.delete_count + other.delete_count,
            self.size_bytes + other.size_bytes,
        )


def cut_anew(arrivals: Iterable[Arrival], width: int) -> Iterator[Arrival]:
    """Yield arrivals with the files of flushes as a window of this width, in the unit of their times, would cut them.

    Large writes, which come sorted into files, stay as they are.
    """
    for number, arrival in enumerate(arrivals):
        flushed = [file for file in arrival.files if file.level == LEVEL_FLUSHED]
        if arrival.starts_anew or not flushed:
            yield arrival
            continue
        pieces: dict[int, _Piece] = {}
        for file in flushed:
            for window, piece in _pieces(file, width):
                pieces[window] = pieces[window].joined(piece) if window in pieces else piece
        sequences = min(file.min_sequence for file in flushed), max(file.max_sequence for file in flushed)
        created_ms = max(file.created_ms for file in flushed)
        cut = [
            _made_up(_name(number, part), FileFacts(LEVEL_FLUSHED, *piece, *sequences, created_ms))
            for part, piece in enumerate(shared_files([pieces[window] for window in sorted(pieces)]))
        ]
        others = (file for file in arrival.files if file.level != LEVEL_FLUSHED)
        yield replace(arrival, files=(*cut, *others))


def _name(number: int, part: int) -> FileId:
    return FileId(f"{number:016x}{part:015x}f")


def _pieces(file: FileMeta, width: int) -> Iterator[tuple[int, _Piece]]:
    """Yield the windows that a file reaches into, and what it has in each."""
    first, stop = file.min_time, file.max_time + 1
    low, high = first // width, file.max_time // width
    if low == high:
        yield low, _Piece(first, file.max_time, file.row_count, file.delete_count, file.size_bytes)
        return
    step = width * -(-(high - low + 1) // PIECES_MAX)
    for begin in range(low * width, stop, step):
        since, until = max(begin, first), min(begin + step, stop)
        parts = [_part(total, since - first, until - first, stop - first)
                 for total in (file.row_count, file.delete_count, file.size_bytes)]  # fmt: skip
        yield begin // width, _Piece(since, until - 1, *parts)


def _part(total: int, since: int, until: int, span: int) -> int:
    """Divide a number by time so that all parts add up to it."""
    return total * until // span - total * since // span


def shared_files(pieces: Many[_Piece]) -> list[_Piece]:
    """Join windows with few rows to the one before, as a flush does (`flush.joined`)."""
    files: list[_Piece] = []
    row_count = SST_ROWS_MIN
    for piece in pieces:
        row_count += piece.row_count
        if row_count < SST_ROWS_MIN:
            files[-1] = files[-1].joined(piece)
        else:
            files.append(piece)
            row_count = piece.row_count
    return files


# --- histories that are made up -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLoad:
    """Rows that come evenly, some of them late. The same load makes the same files.

    Attributes:
        span_ms: how long rows come.
        flush_ms: how often what came is flushed.
        rows_per_second: how many come.
        row_bytes: of a row in a file.
        late_share: which part of the rows is late.
        late_ms: by how much at most; any lateness up to it is as frequent.
        partition_ms: a flush writes a file for each window of this length, but for windows with few rows.
        delete_share: which part of the rows are delete markers.
        begin_ms: when the first row comes.

    """

    span_ms: int = DAY_MS
    flush_ms: int = 10 * 60_000
    rows_per_second: float = 400
    row_bytes: float = 10
    late_share: float = 0.0
    late_ms: int = 6 * HOUR_MS
    partition_ms: int = DAY_MS
    delete_share: float = 0.0
    begin_ms: int = 0

    def arrivals(self) -> list[Arrival]:
        """Return what is flushed, in the order in which it comes."""
        return flushes_of(self.flushes())

    def flushes(self) -> Iterator[FileMeta]:
        """Yield the files that are flushed, in the order in which they come; times are in milliseconds."""
        sequence = 1
        for number in range(-(-self.span_ms // self.flush_ms)):
            start = self.begin_ms + number * self.flush_ms
            stop = min(start + self.flush_ms, self.begin_ms + self.span_ms)
            parts = shared_files(self._rows_by_window(start, stop))
            following = sequence + sum(piece.row_count for piece in parts)
            for part, piece in enumerate(parts):
                facts = FileFacts(LEVEL_FLUSHED, *piece, sequence, following - 1, stop)
                yield _made_up(_name(number, part), facts)
            sequence = following

    def _rows_by_window(self, start: int, stop: int) -> list[_Piece]:
        """Return what there is in each window that rows of a flush belong to, the oldest first."""
        total = int(self.rows_per_second * (stop - start) / 1000)
        late = int(total * self.late_share)
        since = max(start - self.late_ms, self.begin_ms)
        if since == start:
            late = 0  # Nothing was there yet for them to be late for.
        found: dict[int, _Piece] = {}
        for rows, low, high in ((late, since, start), (total - late, start, stop)):
            if not rows:
                continue
            for first in range(low // self.partition_ms * self.partition_ms, high, self.partition_ms):
                begin, end = max(first, low), min(first + self.partition_ms, high)
                part = _part(rows, begin - low, end - low, high - low)
                if part:
                    piece = self._piece(begin, end - 1, part)
                    found[first] = found[first].joined(piece) if first in found else piece
        return [found[first] for first in sorted(found)]

    def _piece(self, first: int, last: int, rows: int) -> _Piece:
        return _Piece(first, last, rows, int(rows * self.delete_share), int(rows * self.row_bytes))
