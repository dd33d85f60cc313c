"""What a store should show, worked out the slow way: every version of every row, and a loop that folds them.

States are values. An operation says which state follows (`operations`); nothing here looks at a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

Value = float | int | str | None
Key = tuple[str, int]
Fields = Mapping[str, Value]
Shown = tuple[tuple[tuple[str, str], ...], tuple[tuple[Value, ...], ...]]
"""What is read of a table: its columns with their types, and its rows, sorted."""

KEY_COLUMNS = (("host", "large_string"), ("ts", "timestamp[ms]"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version of a row, by the number of the write that it came with; without fields it deletes the key."""

    write: int
    key: Key
    fields: Fields | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableState:
    """A table. ``entries`` are in the order they were written, and the first ``flushed`` of them are in files.

    ``keys`` says which write a key stands for, ``names`` what the table was when a snapshot was made. With a time to
    live, rows of different days are never in one file, so that it does not matter which of a day is the newest.
    """

    columns: tuple[tuple[str, str], ...] = (("value", "double"), ("count", "int32"))
    defaults: Fields = field(default_factory=lambda: MappingProxyType({}))
    dedup: str = "last"
    wal: str = "log"
    ttl_ms: int | None = None
    entries: tuple[Entry, ...] = ()
    flushed: int = 0
    keys: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[str, TableState] = field(default_factory=lambda: MappingProxyType({}))

    def rows(self) -> list[Entry]:
        """Return the visible rows."""
        return [entry for entry in self._folded() if entry.fields is not None and self._is_kept(entry.key)]

    def _folded(self) -> Iterable[Entry]:
        if self.dedup == "none":
            return self.entries
        versions: dict[Key, list[Entry]] = {}
        for entry in reversed(self.entries):
            versions.setdefault(entry.key, []).append(entry)
        fold = _filled if self.dedup == "merge" else _newest
        return map(fold, versions.values())

    def _is_kept(self, key: Key) -> bool:
        if self.ttl_ms is None:
            return True
        return key[1] >= max(entry.key[1] for entry in self.entries) - self.ttl_ms

    def shown(self) -> Shown:
        names = [name for name, _ in self.columns]
        rows = [(*entry.key, *(entry.fields[name] for name in names)) for entry in self.rows() if entry.fields]
        return (*KEY_COLUMNS, *self.columns), tuple(sorted(rows, key=repr))

    def written(self, entries: Iterable[Entry], key: str = "", *, to_files: bool = False) -> TableState:
        """Return the table after a write."""
        new = tuple(entries)
        if key and key in self.keys:
            return self
        keys = {**self.keys, key: new[0].write} if key else self.keys
        if not to_files:
            return replace(self, entries=self.entries + new, keys=keys)
        # Rows in files among others in memory: what a crash would leave of a table without a log stays in front.
        place = self.flushed
        if place == len(self.entries):
            return replace(self, entries=self.entries + new, keys=keys, flushed=place + len(new))
        assert self.wal == "log", "the order of rows in memory and rows in files is not told apart here"
        return replace(self, entries=self.entries + new, keys=keys)

    def all_flushed(self) -> TableState:
        return replace(self, flushed=len(self.entries))

    def without(self, gone: Callable[[Entry], bool]) -> TableState:
        """Return the table as if some versions had never been."""
        kept = [entry for entry in self.entries if not gone(entry)]
        flushed = sum(not gone(entry) for entry in self.entries[: self.flushed])
        return replace(self, entries=tuple(kept), flushed=flushed)

    def forgetting_keys(self) -> TableState:
        return replace(self, keys={})

    def named(self, name: str) -> TableState:
        """Return the table after a snapshot."""
        return replace(self, names={**self.names, name: self})

    def unnamed(self, name: str) -> TableState:
        return replace(self, names={other: state for other, state in self.names.items() if other != name})

    def as_named(self, name: str) -> TableState:
        """Return the table with the rows it had at a snapshot."""
        entries = self.names[name].entries
        return replace(self, entries=entries, flushed=len(entries), keys={})

    def only_visible(self) -> TableState:
        """Return the table with nothing but its visible rows."""
        rows = tuple(self.rows())
        return replace(self, entries=rows, flushed=len(rows))

    def with_fields(self, change: Callable[[Fields], Fields], columns: Iterable[tuple[str, str]]) -> TableState:
        """Return the table with other columns."""
        entries = tuple(
            entry if entry.fields is None else replace(entry, fields=change(entry.fields)) for entry in self.entries
        )
        return replace(self, entries=entries, columns=tuple(columns))

    def after_crash(self) -> TableState:
        """Return what is left of the table when its process dies: all of it, unless it has no log."""
        if self.wal == "log":
            return self
        kept = self.entries[: self.flushed]
        writes = {entry.write for entry in kept}
        keys = {key: write for key, write in self.keys.items() if write in writes}
        return replace(self, entries=kept, keys=keys)


State = Mapping[str, TableState]
"""The tables of a store, by name."""

EMPTY: State = MappingProxyType({})


def changed(state: State, name: str, change: Callable[[TableState], TableState]) -> State:
    return {**state, name: change(state[name])}


def after_crash(state: State) -> State:
    return {name: table.after_crash() for name, table in state.items()}


def shown(state: State) -> dict[str, Shown]:
    """Return what is read of each table, and of each as of its snapshots."""
    now = {name: table.shown() for name, table in state.items()}
    then = {
        at_snapshot(name, snapshot): known.shown()
        for name, table in state.items()
        for snapshot, known in table.names.items()
    }
    return now | then


def at_snapshot(name: str, snapshot: str) -> str:
    """Name a table as of a snapshot."""
    return f"{name} as of {snapshot}"


def _newest(versions: list[Entry]) -> Entry:
    return versions[0]


def _filled(versions: list[Entry]) -> Entry:
    """Fill the nulls of the newest version from older ones, down to a delete."""
    newest = versions[0]
    if newest.fields is None:
        return newest
    fields = dict(newest.fields)
    for older in versions[1:]:
        if older.fields is None:
            break
        fields = {name: older.fields[name] if value is None else value for name, value in fields.items()}
    return replace(newest, fields=fields)
