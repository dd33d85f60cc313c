"""What the scenarios make a store do. Every kind of change of its files is among it, and so is killed, failed and
unplugged by the other tests here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from operations import Compact, Flush, Operation, Place, Reopen, Session
from scenarios import SCENARIOS, Prepared, Scenario

from mitoframe.storage.journal import JournalEntry
from mitoframe.testing.vfs_faults import Operation as Call
from mitoframe.testing.vfs_faults import TraceVfs

KINDS = {
    r"regions/(\w+)/sst/.*": "sst",
    r"regions/(\w+)/index/.*": "index",
    r"regions/(\w+)/journal/.*": "journal",
    r"regions/(\w+)/manifest/\d+\.json": "delta",
    r"regions/(\w+)/manifest/\d+\.checkpoint": "checkpoint",
    r"dropped/(\w+)\.json": "marker of a drop",
}
IN_A_REGION = set(KINDS.values()) - {"marker of a drop"}
EFFECTS = {(what, kind) for what in ("stored", "deleted") for kind in KINDS.values()}
PURGES = {("purged", kind) for kind in IN_A_REGION}
DEEDS = {
    ("merged", "into several files"),
    ("merged", "in several tasks"),
    ("merged", "in strict windows"),
    ("merged", "by itself"),
    ("expired", "files"),
    ("rolled up", "journal"),
    ("collected", "files"),
    ("built", "index"),
}


def reached(scenario: Scenario) -> set[tuple[str, str]]:
    """Return what a store is made to do by what is harmed of a scenario."""
    disk, meta = Prepared(scenario).copy()
    traced = TraceVfs(disk)
    session = Session(Place(traced, meta), scenario.config)
    found: set[tuple[str, str]] = set()
    for operation in scenario.operations:
        before = entries_of(session)
        if isinstance(operation, Reopen):
            session.close()
            session = Session(Place(traced, meta), scenario.config)
        else:
            operation.run(session)
        found.update(deeds(operation, entries_of(session) - before))
    session.close()
    return found | set(effects(traced.operations))


def entries_of(session: Session) -> set[JournalEntry]:
    regions = [entry.regions[0] for entry in session.connection.catalog.tables()]
    return {entry for region in regions for entry in session.engine.history(region).entries}


def deeds(operation: Operation, entries: set[JournalEntry]) -> Iterator[tuple[str, str]]:
    merges = [entry for entry in entries if entry.what == "compact"]
    if any(len(entry.outputs) > 2 for entry in merges):
        is_strict = isinstance(operation, Compact) and operation.strict
        yield "merged", "in strict windows" if is_strict else "into several files"
    if len(merges) > 1:
        yield "merged", "in several tasks"
    if merges and isinstance(operation, Flush):
        yield "merged", "by itself"
    names = {"expire": ("expired", "files"), "gc": ("collected", "files"), "index": ("built", "index")}
    for entry in entries:
        if entry.what in names:
            yield names[entry.what]
        if entry.starts_anew and "rolled up" in entry.reason:
            yield "rolled up", "journal"


def effects(calls: Iterable[Call]) -> Iterator[tuple[str, str]]:
    dropped = set()
    for call in calls:
        path = call.target if call.kind == "link" else call.path if call.kind == "unlink" else None
        for pattern, kind in KINDS.items() if path is not None else ():
            match = re.fullmatch(pattern, path)
            if match is None or path.endswith(".tmp"):
                continue
            yield "stored" if call.kind == "link" else "deleted", kind
            if kind == "marker of a drop":
                dropped.add(match[1])
            elif match[1] in dropped and call.kind == "unlink":
                yield "purged", kind


def test_every_kind_of_change_is_among_the_scenarios() -> None:
    found = {name: reached(scenario) for name, scenario in SCENARIOS.items()}

    assert set().union(*found.values()) == EFFECTS | PURGES | DEEDS
