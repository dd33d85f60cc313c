"""Named crash points: places where a test may stop the process between two effects.

Production code calls ``reached("flush.sst_stored")``; it costs one comparison with None. A test installs a
callback with `watching` and may raise or kill from it. Every name is declared here, so that a test can check
that all of them were met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType

CRASH_POINTS = MappingProxyType(
    {
        "write.logged": "the rows are in the log, not yet in the memtable",
        "write.inserted": "the rows are in the memtable, not yet visible",
        "write.published": "the rows are visible, not yet acknowledged",
        "flush.frozen": "the memtable is frozen, nothing is written",
        "flush.sst_stored": "the SST is stored, the manifest does not know it",
        "compact.sst_stored": "the merged SST is stored, the manifest does not know it",
        "index.stored": "the sidecar is stored, the manifest does not know it",
        "edit.logged": "the manifest holds the edit, the version does not",
        "edit.switched": "readers see the edit, the log still holds the rows",
        "edit.obsoleted": "the log was told to forget the rows",
        "checkpoint.stored": "the checkpoint is stored, older deltas are still there",
        "checkpoint.cleaned": "older deltas are gone",
        "create.region_stored": "the region's first manifest is stored, the catalog does not name the table",
        "create.named": "the catalog names the table",
        "drop.marked": "the drop is decided, the catalog still names the table",
        "drop.unnamed": "the catalog no longer names the dropped table, its files are still there",
        "drop.purged": "the dropped region's files are gone, the marker is still there",
        "rewrite.stored": "the files without the rows that go are stored, the manifest does not know them",
        "backfill.stored": "the backfill's files are stored, the manifest does not know them",
        "recover.version_built": "the manifest is folded, the log is not replayed",
        "recover.replayed": "the log is replayed",
        "journal.stored": "a part of the journal is stored, those that it takes in are still there",
        "gc.deleting": "the manifest no longer lists the file, the file is still there",
    }
)

_callback: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Say that a crash point was reached."""
    if _callback is not None:
        assert name in CRASH_POINTS, f"undeclared crash point {name!r}"
        _callback(name)


@contextmanager
def watching(callback: Callable[[str], None]) -> Iterator[None]:
    """Call ``callback`` with the name of every crash point reached inside the block."""
    global _callback  # noqa: PLW0603 - one switch for the process is the point of it
    before, _callback = _callback, callback
    try:
        yield
    finally:
        _callback = before
