"""A checksum of what a store holds up to a revision, by which copies of it can be compared.

It is the CRC32C of all changes, in order, as they are kept (revision, numbers, key and value), without those that the
compaction drops, be they still there or not; so it is the same while a compaction runs. A tombstone at the compacted
revision does not count: it is there only to be watched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import google_crc32c

from mitoframe.kv.key_index import dropped
from mitoframe.kv.revision import record_to_bytes

if TYPE_CHECKING:
    from mitoframe.kv.view import View


def hash_changes(view: View, revision: int) -> int:
    """Return the checksum of all changes up to a revision that can be read."""
    compacted, rows = view.state.compact_scheduled, view.rows
    leftover = set()
    if view.state.compact_finished < compacted:
        leftover = {entry.revision for _, entry in dropped(rows.entries_from(b""), compacted)}
    found = 0
    for entry, key, value in rows.records(0, revision + 1):
        if entry.revision in leftover or (entry.is_tombstone and entry.main == compacted):
            continue
        found = google_crc32c.extend(found, entry.revision.to_bytes() + record_to_bytes(entry, key, value))
    return int(found)
