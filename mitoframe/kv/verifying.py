"""Looking for damage: of rows by themselves, as opening does, and of what rows say of each other, as `verify` does.

`check_rows` reads every row once: each is what was written there, they are in order, and none is missing or too many.
`check_meaning` then holds the trees against each other: every change is in ``rev`` and in ``idx``, keys count their
versions, ``head`` is what ``idx`` says last, leases and keys name each other, and what was compacted is gone.
"""

from __future__ import annotations

from itertools import pairwise, starmap
from typing import TYPE_CHECKING

from mitoframe.kv.backend import TREES
from mitoframe.kv.key_index import KeyIndex, by_key
from mitoframe.kv.rows import DIGEST_MODULUS, Rows, State
from mitoframe.model.keyvalue import FROM_KEY

if TYPE_CHECKING:
    from mitoframe.kv.revision import Entry


def check_rows(rows: Rows) -> State:
    """Read all rows, return the state: `CorruptionError` if a row is not what was written, or not there."""
    rows.require_format()
    state = rows.state()
    row_count = digest = 0
    for tree in TREES:
        last: bytes | None = None
        for key, checksum in rows.sealed(tree):
            if last is not None and key <= last:
                raise rows.corruption(f"the rows of {tree!r} are out of order")
            last = key
            if tree != "meta":
                row_count, digest = row_count + 1, digest + checksum
    digest %= DIGEST_MODULUS
    if (row_count, digest) != (state.rows, state.digest):
        raise rows.corruption(
            "rows are missing or changed",
            expected=f"{state.rows} rows with digest {state.digest:08x}",
            found=f"{row_count} with {digest:08x}",
        )
    return state


def check_meaning(rows: Rows, state: State) -> None:
    """Compare what the trees say: `CorruptionError` naming the first that does not fit."""
    if not state.compact_finished <= state.compact_scheduled <= state.revision:
        raise rows.corruption("the compaction is ahead of the revisions")
    key_count = entry_count = 0
    attached: set[tuple[int, bytes]] = set()
    for index in by_key(rows.entries_from(b"")):
        _check_entries(rows, state, index)
        newest = index.get(state.revision)
        if rows.head(index.key) != newest:
            raise rows.corruption(f"the newest of key {index.key!r} is not what its index says")
        entry_count += len(index.entries)
        key_count += newest is not None
        if newest and newest.lease:
            attached.add((newest.lease, index.key))
    heads = sum(1 for _ in rows.heads(b"", FROM_KEY))
    records = sum(1 for _ in rows.records(0))
    _check_count(rows, "keys", state.keys, key_count)
    _check_count(rows, "keys with a newest change", key_count, heads)
    _check_count(rows, "changes", entry_count, records)
    _check_leases(rows, state, attached)


def _check_entries(rows: Rows, state: State, index: KeyIndex) -> None:
    if index.entries[-1].main > state.revision:
        raise rows.corruption(f"key {index.key!r} was changed in the future")
    for entry in index.entries:
        rows.value(index.key, entry)
    if not _begins_well(index.entries[0], state) or not all(starmap(_follows, pairwise(index.entries))):
        raise rows.corruption(f"the versions of key {index.key!r} do not follow each other")
    if state.compact_finished == state.compact_scheduled and index.compact(state.compact_finished) != index:
        raise rows.corruption(f"key {index.key!r} has changes that were compacted")


def _begins_well(first: Entry, state: State) -> bool:
    return _creates(first) or first.main <= state.compact_scheduled


def _creates(entry: Entry) -> bool:
    return entry.version == 1 and entry.create_revision == entry.main


def _follows(previous: Entry, entry: Entry) -> bool:
    if previous.is_tombstone:
        return _creates(entry)
    if entry.is_tombstone:
        return True
    return (entry.version, entry.create_revision) == (previous.version + 1, previous.create_revision)


def _check_leases(rows: Rows, state: State, attached: set[tuple[int, bytes]]) -> None:
    leases = {lease for lease, _ in rows.leases()}
    _check_count(rows, "leases", state.leases, len(leases))
    if set(rows.lease_keys()) != attached:
        raise rows.corruption("leases and keys do not name each other")
    if missing := {lease for lease, _ in attached} - leases:
        raise rows.corruption(f"keys have leases that are not there: {', '.join(map(str, sorted(missing)))}")


def _check_count(rows: Rows, what: str, expected: int, found: int) -> None:
    if expected != found:
        raise rows.corruption(f"the number of {what} is wrong", expected=expected, found=found)
