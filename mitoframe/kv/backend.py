"""What a key-value store keeps its rows in: named trees of bytes, sorted, changed in transactions.

A transaction that writes is alone, across threads and processes, and waits for its turn; `BusyError` if that takes too
long. It is durable when its ``with`` block has ended, and has left no trace if that raised. One that reads sees what
was committed before it began, holds up nobody, and is held up by nobody.

    kv/backend_sqlite.py    one file
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeAlias

Tree: TypeAlias = Literal["meta", "rev", "idx", "head", "lease", "leasekey"]
TREES: tuple[Tree, ...] = ("meta", "rev", "idx", "head", "lease", "leasekey")


class Reading(Protocol):
    """What can be done in a transaction that reads."""

    def get(self, tree: Tree, key: bytes) -> bytes | None: ...

    def scan(
        self, tree: Tree, start: bytes = b"", end: bytes | None = None, *, descending: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with keys in [start, end), sorted; to the last if ``end`` is None.

        Requires: nothing is written to that tree while rows are drawn.
        """


class Writing(Reading, Protocol):
    """What can be done in a transaction that writes; it sees its own changes."""

    def put(self, tree: Tree, key: bytes, value: bytes) -> None: ...

    def delete(self, tree: Tree, key: bytes) -> None:
        """Remove a row. A missing one is no error."""


class Backend(Protocol):
    path: str
    """Where it is, for messages; ``memory://`` if it ends with the process."""

    def begin_read(self) -> AbstractContextManager[Reading]: ...

    def begin_write(self) -> AbstractContextManager[Writing]:
        """Begin the one transaction that may write; `UnknownOutcomeError` if it is open whether it was committed."""

    def copy(self, path: str) -> None:
        """Write one committed state to a new file, durably, without holding up anybody."""

    def defragment(self) -> None:
        """Give space back that is not in use."""

    def check(self) -> None:
        """Look for damage in the structure that holds the rows: `CorruptionError`."""

    def size_bytes(self) -> int: ...

    def close(self) -> None:
        """Let everything go. Closing twice is harmless."""
