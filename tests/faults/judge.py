"""Whether a store that something happened to still keeps its promises.

It is opened, read, and opened again: the second time must find the same. Every file that a manifest lists must be
there, and the journals must tell of the same ones. Then everything that crashes leave lying about is collected, writes
that are known by a key are made again, every table is written to and flushed, and after all that the store must hold
what brute force says, and nothing besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pyarrow as pa
from expected import Shown, State, at_snapshot, shown
from operations import Place, Session, Write, keyed
from scenarios import Scenario

from mitoframe.model.ids import FileId, RegionId
from mitoframe.model.options import MitoConfig
from mitoframe.model.request import ScanRequest
from mitoframe.ports import Vfs
from mitoframe.registry import Mode
from mitoframe.storage.journal import replay
from mitoframe.storage.paths import (
    CATALOG_FILE,
    STORE_FILE,
    parse_index_key,
    parse_region_folder,
    parse_sst_key,
    sst_folder,
)

PROBE = 99


def check(place: Place, scenario: Scenario, allowed: list[State], *, thorough: bool = True) -> None:
    """Raise AssertionError if an acknowledged row is missing, one that was never written is there, or litter stays.

    If not ``thorough`` the store is only opened and read.
    """
    config = replace(scenario.config, gc_grace_ms=0)
    with opened(place, config) as session:
        found = observed(session)
        states = [state for state in allowed if shown(state) == found]
        assert states, difference(found, [shown(state) for state in allowed])
        check_files(session)
    if not thorough:
        return
    with opened(place, config) as session:
        assert observed(session) == found, "a second recovery finds something else"
        _collect(session)
        states = _go_on(session, scenario, states)
        found = observed(session)
        assert found in [shown(state) for state in states], difference(found, [shown(state) for state in states])
        check_files(session)
        _let_names_go(session)
        now = observed(session)
        assert now == {name: found[name] for name in now}, "without its snapshots a table is another"
        _check_tidy(session)
    with opened(place, config) as session:
        assert observed(session) == now, "what was written after the recovery is not there"


def check_readable(place: Place, scenario: Scenario, allowed: list[State]) -> None:
    """Raise AssertionError if whoever only reads finds something else, before a writer came by."""
    if not exists(place.vfs):
        return
    with opened(place, scenario.config, "r") as session:
        check_seen(session, allowed)


def exists(vfs: Vfs) -> bool:
    """Tell whether the making of the store came so far that it can be opened for reading."""
    return {STORE_FILE, CATALOG_FILE} <= set(vfs.list(""))


def check_seen(session: Session, states: list[State]) -> None:
    """Raise AssertionError if an open store shows none of these states."""
    found = observed(session)
    assert found in [shown(state) for state in states], difference(found, [shown(state) for state in states])


@contextmanager
def opened(place: Place, config: MitoConfig, mode: Mode = "rw") -> Iterator[Session]:
    session = Session(place, config, mode)
    try:
        yield session
    finally:
        session.close()


def check_files(session: Session) -> None:
    """Raise AssertionError if a file is not stored that a table lists, also one that it lists as removed, or if the
    table's journal tells of other files, or could not be read.
    """
    for entry in session.connection.catalog.tables():
        region = entry.regions[0]
        state = session.engine.region(region).state
        needed = set(state.files) | {file.file_id for file in state.removed_files}
        lost = needed - stored_files(session, region)
        assert not lost, f"{entry.name!r} lists {sorted(lost)}, which are not stored"
        history = session.engine.history(region)
        assert not history.damage
        assert replay(history.entries) == set(state.files), f"the journal of {entry.name!r} tells of other files"


def stored_files(session: Session, region: RegionId) -> set[FileId | None]:
    """Return which files of a region there are."""
    with suppress(FileNotFoundError):
        return {parse_sst_key(name) for name in files_of(session.place.vfs, sst_folder(region))}
    return set()


def observed(session: Session) -> dict[str, Shown]:
    """Read everything, also as of snapshots; what the catalog says of a table must be what it says of itself."""
    found = {}
    for entry in session.connection.catalog.tables():
        region = session.engine.region(entry.regions[0])
        agreed = entry.schema == region.metadata.to_json() or session.engine.read_only
        assert agreed, f"catalog and manifest disagree on {entry.name!r}"
        found[entry.name] = _shown(session, entry.name, ScanRequest())
        for snapshot in region.state.past.snapshots:
            then = ScanRequest(version=snapshot.version)
            found[at_snapshot(entry.name, snapshot.name)] = _shown(session, entry.name, then)
    return found


def _shown(session: Session, name: str, request: ScanRequest) -> Shown:
    metadata = session.engine.plan(session.region(name), request).metadata
    rows = []
    for batch in session.engine.handle_query(metadata.region_id, request):
        assert batch.schema.types == metadata.arrow_schema().types, "a batch has other types than its table"
        columns = [
            column.cast(pa.int64()).to_pylist() if pa.types.is_timestamp(column.type) else column.to_pylist()
            for column in batch.columns
        ]
        rows += list(zip(*columns, strict=True))
    columns = tuple((column.name, str(column.type)) for column in metadata.arrow_schema())
    return columns, tuple(sorted(rows, key=repr))


def difference(found: dict[str, Shown], allowed: list[dict[str, Shown]]) -> str:
    """Say how what was found differs from each state that is allowed."""
    return "\n".join(
        f"differs from allowed state {number}: {_difference(found, state)}" for number, state in enumerate(allowed)
    )


def _difference(found: dict[str, Shown], state: dict[str, Shown]) -> str:
    if found.keys() != state.keys():
        return f"the tables are {sorted(found)} instead of {sorted(state)}"
    told = []
    for name, (columns, rows) in state.items():
        if columns != found[name][0]:
            told.append(f"{name}: columns {found[name][0]} instead of {columns}")
            continue
        lost = [row for row in rows if row not in found[name][1]]
        extra = [row for row in found[name][1] if row not in rows]
        if lost or extra or len(rows) != len(found[name][1]):
            told.append(f"{name}: {len(found[name][1])} rows, not {len(rows)}; lost {lost}; never written {extra}")
    return "; ".join(told)


# --- afterwards ------------------------------------------------------------------------------------------------


def _collect(session: Session) -> None:
    """Delete what nobody needs, at once."""
    for entry in session.connection.catalog.tables():
        session.engine.vacuum(entry.regions[0], 0)
    session.engine.maintain()


def _go_on(session: Session, scenario: Scenario, states: list[State]) -> list[State]:
    """Make keyed writes again, and one that is new; return what may be there then."""
    there = {entry.name for entry in session.connection.catalog.tables()}
    for name in sorted(there):
        if session.engine.region(session.region(name)).options.ttl_ms is not None:
            session.table(name).flush()  # A file with rows of several days tells less of which of them have expired.
    again = [write for write in keyed((*scenario.prepared, *scenario.operations)) if write.name in there]
    # Backwards: done twice in their order, writes would leave the rows that they left when done once.
    for write in (*reversed(again), *(Write(PROBE, name) for name in sorted(there))):
        write.run(session)
        states = [write.outcomes(state)[-1] for state in states]
    for name in sorted(there):
        session.table(name).flush()
    return states


def _let_names_go(session: Session) -> None:
    """Drop the snapshots, and delete what only they needed."""
    for entry in session.connection.catalog.tables():
        for snapshot in session.engine.region(entry.regions[0]).state.past.snapshots:
            session.engine.drop_snapshot(entry.regions[0], snapshot.name)
    _collect(session)


def _check_tidy(session: Session) -> None:
    """Every stored file is listed by the table it belongs to, and the log holds no more than its newest segment."""
    vfs = session.place.vfs
    names = set(files_of(vfs))
    assert not [name for name in names if name.endswith(".tmp")], "a temporary file stays"
    assert not [name for name in names if name.startswith("dropped/")], "the marker of a dropped table stays"
    segments = [name for name in names if name.startswith("wal/")]
    assert len(segments) <= 1, f"everything is flushed, but the log keeps {sorted(segments)}"
    named = {entry.regions[0] for entry in session.connection.catalog.tables()}
    for folder in vfs.list("regions") if named else ():
        region = parse_region_folder(folder)
        assert region is not None
        stored = [name for name in names if name.startswith(f"regions/{folder}/")]
        files = {parse_sst_key(name) for name in stored if "/sst/" in name}
        if region in named:
            listed = session.engine.region(region).state.files
            assert files == set(listed), f"orphans in {folder}: {sorted(stored)}"
            indexes = {parse_index_key(name) for name in stored if "/index/" in name}
            wanted = {
                (file.file_id, index.version) for file in listed.values() if (index := file.index) and index.entries
            }
            assert indexes == wanted, f"indexes {indexes} are stored, and {wanted} are listed"
        else:
            # A table whose making was killed leaves its first manifest under a number that is never given again.
            assert len(stored) <= 1, f"a region without a name keeps {sorted(stored)}"
            assert not files


def files_of(vfs: Vfs, folder: str = "") -> Iterator[str]:
    """Yield the path of every file."""
    for name in vfs.list(folder):
        path = f"{folder}/{name}" if folder else name
        try:
            vfs.stat(path)
        except IsADirectoryError:
            yield from files_of(vfs, path)
        else:
            yield path
