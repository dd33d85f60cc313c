"""Keys as Polars frames: what a range holds, and how a key came to be what it is.

Keys and values are bytes, so their columns are Binary; where they are text, ``cast(pl.String)`` shows it. This is
the one room of kv/ that knows Polars.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import polars as pl

from mitoframe.kv.watch import Watched
from mitoframe.model.errors import CompactedError
from mitoframe.model.keyvalue import Event, KeyValue

KEYS = {
    "key": pl.Binary,
    "value": pl.Binary,
    "create_revision": pl.Int64,
    "mod_revision": pl.Int64,
    "version": pl.Int64,
    "lease": pl.Int64,
}
HISTORY = {
    "revision": pl.Int64,
    "kind": pl.String,
    "value": pl.Binary,
    "create_revision": pl.Int64,
    "version": pl.Int64,
    "lease": pl.Int64,
}
ATTEMPTS_MAX = 10
"""How often history is begun anew because somebody compacted meanwhile."""


class Readable(Watched, Protocol):
    """What is needed of a store to tell a key's history."""

    def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None: ...


def to_frame(kvs: Iterable[KeyValue]) -> pl.DataFrame:
    """Return a row for each key."""
    rows = [(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease) for kv in kvs]
    return pl.DataFrame(rows, schema=KEYS, orient="row")


def history(store: Readable, key: bytes) -> pl.DataFrame:
    """Return a row for each put and delete of a key that is kept, oldest first."""
    for _ in range(ATTEMPTS_MAX - 1):
        try:
            return _history(store, key)
        except CompactedError:
            continue
    return _history(store, key)


def _history(store: Readable, key: bytes) -> pl.DataFrame:
    last, compacted = store.revisions()
    first = max(compacted, 1)
    # What a compaction keeps of a key may be older than the revision that was compacted to.
    kept = store.get(key, revision=first)
    rows = [_put_row(kept)] if kept and kept.mod_revision < first else []
    while first <= last:
        batches, through = store.events(key, None, first=first, last=last, with_prev=False)
        rows += [_row(event) for batch in batches for event in batch.events]
        first = through + 1
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def _row(event: Event) -> tuple[object, ...]:
    return _put_row(event.kv) if event.kind == "put" else (event.kv.mod_revision, "delete", None, None, None, None)


def _put_row(kv: KeyValue) -> tuple[object, ...]:
    return kv.mod_revision, "put", kv.value, kv.create_revision, kv.version, kv.lease
