r"""A region's journal: what happened to it, when, and to which files; `replay` it, and it gives the files there are.

    part     = header line, entry line...    an immutable object; entries are oldest first
    line     = checksum " " body "\n"        checksum = CRC32C of the body, eight hexadecimal digits; body = JSON
    header   = {"format", "first", "last"}
    entry    = `JournalEntry.to_json`

The manifest decides what is so; the journal remembers it for longer. The newest versions need no part, because the
manifest has their edits until the checkpoint after the next: they are made entries of when somebody asks, so that a
crash loses nothing but how long they took. A new part takes in those before it that have no more entries than it has,
and so there are few, and each entry is written again a few times only. A name says which parts are in it: what a crash
left beside it does not count. When there are too many entries, the oldest become one that says which files there were.

A part is cut short, damaged or lost at no one's peril: what can be read of it counts, `History.damage` says what could
not, and an entry that starts anew tells the files of the moment from which on everything is known again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any

import google_crc32c

from mitoframe.failpoints import reached
from mitoframe.model.edit import Change, FileEdit, SnapshotEdit
from mitoframe.model.errors import BusyError, ConfigError
from mitoframe.model.ids import FIRST_VERSION, FileId, ManifestVersion, RegionId
from mitoframe.storage.manifest import unfold
from mitoframe.storage.paths import JournalName, journal_folder, journal_key, parse_journal_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mitoframe.model.edit import Edit, RegionState
    from mitoframe.model.file import FileMeta
    from mitoframe.ports import ObjectStore, RegionGcInfo
    from mitoframe.storage.manifest import Unfolded

JOURNAL_FORMAT = 1
BEFORE_ALL = ManifestVersion(-1)
READ_ATTEMPTS_MAX = 100
"""How often a journal is read again because another process is joining its parts."""
KEPT_SHARE = 0.75
"""What part of the most entries there may be is left when the oldest are rolled up."""
_UNKNOWN = "what happened before is not known in full"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One thing that happened.

    Attributes:
        version: the manifest version that did it; or, if ``is_aside``, the newest there was.
        what: in a word: flush, compact, alter, truncate, gc and so on.
        reason: why it was done, where there are several reasons.
        begun_ms: when the first of its files was begun.
        at_ms: when it was done.
        inputs: files that were there before and are not listed any more; for a gc those that were deleted.
        outputs: files that are there since.
        rows_in: rows in ``inputs``, None if that is not known.
        rows_out: rows in ``outputs``.
        bytes_in: size of ``inputs``, None if that is not known.
        bytes_out: size of ``outputs``, or of the indexes that were built.
        starts_anew: all that was there before does not count, ``outputs`` are all files there are.
        is_aside: no manifest version was needed for it.
        is_rebuilt: it was told by the manifest, which does not know how long it took.

    """

    version: ManifestVersion
    what: str
    reason: str = ""
    begun_ms: int = 0
    at_ms: int = 0
    inputs: tuple[FileId, ...] = ()
    outputs: tuple[FileId, ...] = ()
    rows_in: int | None = 0
    rows_out: int | None = 0
    bytes_in: int | None = 0
    bytes_out: int | None = 0
    starts_anew: bool = False
    is_aside: bool = False
    is_rebuilt: bool = False

    def to_json(self) -> dict[str, Any]:
        """Write what differs from the defaults."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in known.items() if name in _ALWAYS or value != _DEFAULTS[name]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> JournalEntry:
        lists: dict[str, Any] = {name: tuple(value[name]) for name in ("inputs", "outputs") if name in value}
        return JournalEntry(**value | lists)


_ALWAYS = ("version", "what")
_DEFAULTS = {field.name: field.default for field in fields(JournalEntry)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a journal by their names: those that count, oldest first, and those that others have taken in."""

    live: tuple[JournalName, ...] = ()
    taken_in: tuple[JournalName, ...] = ()

    @property
    def through(self) -> ManifestVersion:
        """The newest manifest version that some part tells of."""
        return max((name.through for name in self.live), default=BEFORE_ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All entries, oldest first, and what could not be read, in words."""

    entries: tuple[JournalEntry, ...]
    damage: tuple[str, ...] = ()


# --- entries ----------------------------------------------------------------------------------------------


def entry_of_actions(
    version: ManifestVersion, actions: Sequence[Edit], state: RegionState | None, ended_ms: int | None = None
) -> JournalEntry:
    """Say what a version of a manifest did.

    Args:
        version: its number.
        actions: its edits.
        state: one before it, or one soon after it, which still knows the files that it removed.
        ended_ms: when it was done, None if nobody looked at the clock.

    """
    return reduce(_joined, (_entry_of_edit(version, edit, _files_of(state, edit), ended_ms) for edit in actions))


def _joined(entry: JournalEntry, following: JournalEntry) -> JournalEntry:
    return replace(
        entry,
        what=entry.what if entry.what == following.what else f"{entry.what}, {following.what}",
        begun_ms=min(entry.begun_ms, following.begun_ms),
        at_ms=following.at_ms,
        inputs=(*entry.inputs, *following.inputs),
        outputs=(*entry.outputs, *following.outputs),
        rows_in=_sum(entry.rows_in, following.rows_in),
        rows_out=_sum(entry.rows_out, following.rows_out),
        bytes_in=_sum(entry.bytes_in, following.bytes_in),
        bytes_out=_sum(entry.bytes_out, following.bytes_out),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _files_of(state: RegionState | None, edit: Edit) -> dict[FileId, FileMeta]:
    """Return the files that an edit removes or forgets, as far as a state knows them."""
    if state is None or not isinstance(edit, FileEdit):
        return {}
    wanted = {*edit.removed, *edit.forgotten}
    if not wanted:
        return {}
    removed = {item.file_id: item.file for item in state.removed_files if item.file is not None}
    return {file_id: file for file_id in wanted if (file := state.files.get(file_id) or removed.get(file_id))}


def _entry_of_edit(
    version: ManifestVersion, edit: Edit, files: Mapping[FileId, FileMeta], ended_ms: int | None
) -> JournalEntry:
    if not isinstance(edit, FileEdit):
        what, at_ms = _what(version, edit), ended_ms or edit.at_ms
        return JournalEntry(version=version, what=what, begun_ms=edit.at_ms, at_ms=at_ms, is_rebuilt=ended_ms is None)
    inputs = edit.removed or edit.forgotten
    known = [files[file_id] for file_id in inputs if file_id in files]
    all_known = len(known) == len(inputs)
    made = [] if edit.what == "restore" else [file.created_ms for file in edit.added]
    return JournalEntry(
        version=version,
        what=edit.what or "update",
        reason=edit.reason if edit.reason != edit.what else "",
        begun_ms=min([edit.at_ms, *made]),
        at_ms=ended_ms or edit.at_ms,
        inputs=inputs,
        outputs=tuple(file.file_id for file in edit.added),
        rows_in=sum(file.row_count for file in known) if all_known else None,
        rows_out=sum(file.row_count for file in edit.added),
        bytes_in=sum(file.size_bytes for file in known) if all_known else None,
        bytes_out=sum(file.size_bytes for file in edit.added) + sum(index.size_bytes for _, index in edit.indexed),
        is_rebuilt=ended_ms is None,
    )


def _what(version: ManifestVersion, edit: Change | SnapshotEdit) -> str:
    if isinstance(edit, SnapshotEdit):
        return "drop_snapshot" if edit.is_dropped else "snapshot"
    return "create" if version == FIRST_VERSION else "alter"


def entry_of_gc(info: RegionGcInfo, newest: ManifestVersion, at_ms: int) -> JournalEntry:
    """Say which files were deleted. ``newest`` is the newest manifest version there is."""
    return JournalEntry(
        version=newest if info.version is None else info.version,
        what="gc",
        begun_ms=info.begun_ms,
        at_ms=at_ms,
        inputs=info.removed_files,
        rows_in=None,
        bytes_in=info.size_bytes,
        is_aside=info.version is None,
    )


def entry_of_state(state: RegionState, reason: str) -> JournalEntry:
    """Begin anew with the files of a state."""
    files = state.files.values()
    at_ms = state.past.entries[-1].at_ms if state.past.entries else 0
    return JournalEntry(
        version=state.version,
        what="start",
        reason=reason,
        begun_ms=at_ms,
        at_ms=at_ms,
        outputs=tuple(file.file_id for file in files),
        rows_out=sum(file.row_count for file in files),
        bytes_out=sum(file.size_bytes for file in files),
        starts_anew=True,
        is_rebuilt=True,
    )


def replay(entries: Iterable[JournalEntry]) -> frozenset[FileId]:
    """Return the files there are after all entries. Requires: they are complete, or some entry starts anew."""
    files: set[FileId] = set()
    for entry in entries:
        files = set() if entry.starts_anew else files.difference(entry.inputs)
        files.update(entry.outputs)
    return frozenset(files)


# --- the end of the manifest --------------------------------------------------------------------------------


def completed(
    store: ObjectStore, region_id: RegionId, through: ManifestVersion, told: Sequence[JournalEntry]
) -> list[JournalEntry]:
    """Return the entries of all versions after ``through`` up to the newest that was told, whether told or not."""
    entries = {entry.version: entry for entry in told if not entry.is_aside and entry.version > through}
    aside = [entry for entry in told if entry.is_aside]
    newest = max(entries, default=through)
    if len(entries) < newest - through:
        unfolded = unfold(store, region_id)
        rebuilt = [entry for entry in _rebuilt(unfolded) if through < entry.version <= newest]
        entries = {entry.version: entry for entry in rebuilt} | entries
        base = unfolded.base
        if base is not None and _missing(entries, through, base.version):
            gap = f"what happened after version {through} is not in the manifest any more"
            aside.append(entry_of_state(base, gap))
    return sorted([*entries.values(), *aside], key=_place)


def _rebuilt(unfolded: Unfolded) -> list[JournalEntry]:
    """Return an entry for each version that the manifest still has the edit of."""
    made = []
    for version, steps in groupby(unfolded.steps, lambda step: step.version):
        first, *others = steps
        made.append(entry_of_actions(version, [first.edit, *(step.edit for step in others)], first.before))
    return made


def _missing(known: Iterable[ManifestVersion], after: ManifestVersion, upto: ManifestVersion) -> bool:
    """Tell whether some version in (after, upto] is not known."""
    return not set(range(after + 1, upto + 1)).issubset(known)


def _place(entry: JournalEntry) -> tuple[int, int]:
    """Order entries: a version, then the files there were after it, then what happened beside it."""
    return entry.version, 1 if entry.starts_anew else 2 if entry.is_aside else 0


# --- reading ------------------------------------------------------------------------------------------------


def list_parts(store: ObjectStore, region_id: RegionId) -> Parts:
    names = [name for item in store.list(journal_folder(region_id)) if (name := parse_journal_key(item.key))]
    taken_in = {name for name in names if any(_holds(other, name) for other in names)}
    live = sorted((name for name in names if name not in taken_in), key=lambda name: name.last)
    return Parts(live=tuple(live), taken_in=tuple(sorted(taken_in)))


def _holds(part: JournalName, other: JournalName) -> bool:
    return part.first <= other.last < part.last


def read_history(store: ObjectStore, region_id: RegionId, told: Sequence[JournalEntry] = ()) -> History:
    """Return all that is known. ``told`` are entries that are in no part yet.

    Raises:
        ConfigError: a newer mitoframe wrote the journal.
        CorruptionError: the manifest cannot be read.

    """
    stored, damage = _read_parts(store, region_id)
    unfolded = unfold(store, region_id)
    entries: dict[ManifestVersion, JournalEntry] = {}
    for entry in (*stored, *told, *_rebuilt(unfolded)):
        if not entry.is_aside and not entry.starts_anew:
            entries.setdefault(entry.version, entry)
    # What is being stored at this moment may be in both.
    others = list(dict.fromkeys(entry for entry in (*stored, *told) if entry.is_aside or entry.starts_anew))
    base = unfolded.base
    if base is not None:
        begun = max((entry.version for entry in others if entry.starts_anew), default=BEFORE_ALL)
        if _missing(entries, begun, base.version):
            others.append(entry_of_state(base, _UNKNOWN))
    return History(entries=tuple(sorted([*entries.values(), *others], key=_place)), damage=tuple(damage))


def _read_parts(store: ObjectStore, region_id: RegionId) -> tuple[list[JournalEntry], list[str]]:
    for _ in range(READ_ATTEMPTS_MAX):
        entries, damage = [], []
        try:
            for name in list_parts(store, region_id).live:
                found, broken = read_part(store, region_id, name)
                entries += found
                damage += [broken] if broken else []
        except FileNotFoundError:
            continue  # Another part has taken it in meanwhile.
        return entries, damage
    raise BusyError(
        f"the journal of region {region_id} changed {READ_ATTEMPTS_MAX} times while it was read; try again."
    )


def read_part(store: ObjectStore, region_id: RegionId, name: JournalName) -> tuple[list[JournalEntry], str]:
    """Return the entries up to the first line that is damaged, and what is wrong with it, if any is.

    Raises:
        ConfigError: a newer mitoframe wrote it.

    """
    key = journal_key(region_id, name)
    bodies = [_body(line) for line in store.get(key).splitlines(keepends=True)]
    good = bodies.index(None) if None in bodies else len(bodies)
    header, *values = bodies[:good] or [None]
    if header is None:
        return [], f"{key} has no header that can be read"
    if header["format"] > JOURNAL_FORMAT:
        raise ConfigError(
            f"{key} has journal format {header['format']}, newer than {JOURNAL_FORMAT}; update mitoframe."
        )
    if (header["first"], header["last"]) != (name.first, name.last):
        return [], f"{key} is another part, of the name {header['first']}-{header['last']}"
    entries = [JournalEntry.from_json(value) for value in values if value is not None]
    lost = name.entries - len(entries)
    return entries, f"{key} ends after {len(entries)} entries, {lost} are lost" if lost else ""


def _body(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None if it is not what was written."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % google_crc32c.value(body):
        return None
    value: dict[str, Any] = json.loads(body)
    return value


# --- writing ------------------------------------------------------------------------------------------------


def append_part(
    store: ObjectStore, region_id: RegionId, parts: Parts, entries: Sequence[JournalEntry], entries_max: int
) -> Parts:
    """Store entries as a part that takes in those before it that are not larger; return what parts there are then.

    Requires: nobody else writes to this journal; ``entries`` is not empty.

    Raises:
        FileExistsError: somebody else did.

    """
    live, taken = list(parts.live), list[JournalName]()
    gathered = list(entries)
    is_full = sum(name.entries for name in live) + len(gathered) > entries_max
    while live and (is_full or live[-1].entries <= len(gathered)):
        found, damage = read_part(store, region_id, live[-1])
        if damage and not is_full:
            break  # As long as it is there, it is told what is missing.
        gathered = [*found, *gathered]
        taken.append(live.pop())
    if is_full:
        gathered = _rolled_up(store, region_id, gathered, max(int(entries_max * KEPT_SHARE), 1))
    last = max((name.last for name in parts.live), default=0) + 1
    name = JournalName(
        first=min([last, *(part.first for part in taken)]),
        last=last,
        through=max([parts.through, *(entry.version for entry in gathered if not entry.is_aside)]),
        entries=len(gathered),
    )
    store.put_if_absent(journal_key(region_id, name), _encode(name, gathered))
    reached("journal.stored")
    for part in (*taken, *parts.taken_in):
        store.delete(journal_key(region_id, part))
    return Parts(live=(*live, name))


def _encode(name: JournalName, entries: Iterable[JournalEntry]) -> bytes:
    header = {"format": JOURNAL_FORMAT, "first": name.first, "last": name.last}
    return b"".join(_line(body) for body in (header, *(entry.to_json() for entry in entries)))


def _line(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (google_crc32c.value(text), text)


def _rolled_up(
    store: ObjectStore, region_id: RegionId, entries: Sequence[JournalEntry], kept: int
) -> list[JournalEntry]:
    """Return the newest entries, and before them one that says which files there were."""
    older, newer = list(entries[:-kept]), list(entries[-kept:])
    if not older:
        return newer
    begun = max((entry.version for entry in older if entry.starts_anew), default=BEFORE_ALL)
    if _missing([entry.version for entry in older if not entry.is_aside], begun, older[-1].version):
        # Which files there were is not known: whatever is needed after that has to be told by the manifest.
        unfolded = unfold(store, region_id)
        whole = [] if unfolded.base is None else [entry_of_state(unfolded.base, _UNKNOWN)]
        return [*whole, *_rebuilt(unfolded)]
    start = JournalEntry(
        version=older[-1].version,
        what="start",
        reason=f"{sum(not entry.starts_anew for entry in older):,} older entries were rolled up",
        begun_ms=older[-1].at_ms,
        at_ms=older[-1].at_ms,
        outputs=tuple(sorted(replay(older))),
        rows_out=None,
        bytes_out=None,
        starts_anew=True,
    )
    return [start, *newer]
