"""Every error mitoframe raises on purpose.

Each class says what the caller can do about it, and also inherits the built-in exception that code
unaware of mitoframe would expect. Messages name the thing, what is wrong with it, and the fix.

    MitoError
      InvalidInputError (ValueError)         fix the call
        SchemaMismatchError (TypeError)      fix the frame, or alter the table
        ConfigError                          fix the setting
      TableNotFoundError (KeyError)          ask for another table
      TableExistsError                       choose another name, or open the existing table
      SnapshotExpiredError                   read a newer version
      CompactedError                         read a newer revision of the key-value store
      FutureRevisionError (ValueError)       read a revision that there is
      ReadOnlyError                          open the store with mode="rw"
      ConflictError                          read again and retry
        FencedError                          a newer writer owns this; reopen
      BusyError                              wait and retry
        StoreLockedError                     another process writes here; open with mode="r"
      LimitExceededError                     ask for less, or raise the named limit
      UnavailableError (OSError)             retry the I/O; nothing was changed
        DiskFullError                        free some space, then retry
        UnknownOutcomeError                  reopen and look whether it happened
      CorruptionError                        restore the named file
      ClosedError                            open the store again
      PoisonedError                          reopen; the first cause is attached

A programmer's mistake inside the engine is an ``assert``, not a member of this tree.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from mitoframe.model.card import Section, card

if TYPE_CHECKING:
    from collections.abc import Iterable


class MitoError(Exception):
    """The base of every error that mitoframe raises on purpose."""

    def _repr_html_(self) -> str:
        details = [(name, str(value)) for name, value in vars(self).items() if not name.startswith("_")]
        section = Section(title="Details", rows=details, note=" ", is_open=True)
        return card(f"{type(self).__name__}: {self}", [section])


class InvalidInputError(MitoError, ValueError):
    """The call cannot be carried out as it is; nothing was changed."""


class SchemaMismatchError(InvalidInputError, TypeError):
    """The frame does not fit the table; nothing was written."""


class ConfigError(InvalidInputError):
    """A setting or option has a value it cannot take."""


class TableNotFoundError(MitoError, KeyError):
    """There is no table of that name, or not any more."""

    def __init__(self, name: str, existing: Iterable[str] = (), *, was_dropped: bool = False) -> None:
        self.name = name
        self.existing = tuple(existing)
        missing = f"no table {name!r}{_near_miss(name, self.existing, 'tables')}"
        super().__init__(f"{name} was dropped; nothing of it can be read any more." if was_dropped else missing)

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, which would quote the whole sentence.
        return str(self.args[0])


class TableExistsError(MitoError):
    """A table of that name exists already."""


class SnapshotExpiredError(MitoError):
    """The version asked for is no longer kept."""


class CompactedError(MitoError):
    """A revision of a key-value store is not kept any more. Fields: ``revision``, ``compact_revision``: the oldest."""

    def __init__(self, revision: int, compact_revision: int) -> None:
        self.revision, self.compact_revision = revision, compact_revision
        super().__init__(
            f"revision {revision} was compacted: what is kept begins at {compact_revision}. Read that or a newer one."
        )


class FutureRevisionError(MitoError, ValueError):
    """A revision of a key-value store has not come yet. Fields: ``revision``, ``current_revision``."""

    def __init__(self, revision: int, current_revision: int) -> None:
        self.revision, self.current_revision = revision, current_revision
        super().__init__(
            f"revision {revision} has not come yet: the newest is {current_revision}. Read that, with revision=0."
        )


class ReadOnlyError(MitoError):
    """The store was opened for reading."""


class ConflictError(MitoError):
    """Somebody else was first. Read again and retry."""

    retryable = True


class FencedError(ConflictError):
    """A newer writer has taken over."""

    retryable = False


class BusyError(MitoError):
    """The engine cannot take this now. Wait and retry."""


class StoreLockedError(BusyError):
    """Another process has the store open for writing."""

    def __init__(self, path: str, pid: int | None, host: str | None, since: str | None) -> None:
        self.path, self.pid, self.host, self.since = path, pid, host, since
        holder = f"process {pid} on {host} since {since}" if pid is not None else "another process"
        super().__init__(
            f"{path} is open for writing by {holder}. "
            f'Close it there, or read it here with mitoframe.open({path!r}, mode="r").'
        )


class LimitExceededError(MitoError):
    """The request is larger than a limit allows; the message names the limit."""


class UnavailableError(MitoError, OSError):
    """Storage did not answer. Nothing was changed; the call can be retried."""


class DiskFullError(UnavailableError):
    """There is no space left. Nothing was changed; free some and retry."""


class UnknownOutcomeError(UnavailableError):
    """Storage failed in a way that leaves open whether the change happened. Reopen and look."""


class CorruptionError(MitoError):
    """Stored bytes are not what was written.

    Fields: ``path``, ``offset`` (bytes from its start, or None), ``expected`` and ``found``, ``what`` (the message
    without path and fix).
    """

    def __init__(
        self,
        what: str,
        *,
        path: str,
        offset: int | None = None,
        expected: object = None,
        found: object = None,
        fix: str = "Restore this file from a copy.",
    ) -> None:
        self.path, self.offset, self.expected, self.found = path, offset, expected, found
        place = path if offset is None else f"{path} at byte {offset}"
        self.what = what if expected is None else f"{what} (expected {expected}, found {found})"
        super().__init__(f"{place}: {self.what}. {fix}")


class ClosedError(MitoError):
    """The store, table or engine was closed."""


class PoisonedError(MitoError):
    """A write to storage failed half-way, so this handle takes no more writes. The cause is attached."""


class DamageWarning(UserWarning):
    """Stored bytes are damaged and what could not be read was left out, as asked."""


class RepeatedWriteWarning(UserWarning):
    """Rows were written before, so that writing them again did nothing."""


def unknown_name(kind: str, name: str, existing: Iterable[str]) -> str:
    """Say that there is no ``kind`` called ``name``, with the nearest that exists.

    >>> unknown_name("column", "hots", ["host", "ts"])
    "no column 'hots'; did you mean 'host'? There are 'host', 'ts'."
    """
    return f"no {kind} {name!r}{_near_miss(name, tuple(existing), kind + 's')}"


def _near_miss(name: str, existing: tuple[str, ...], plural: str) -> str:
    if not existing:
        return f"; there are no {plural} yet."
    near = get_close_matches(name, existing, n=1)
    shown = ", ".join(repr(other) for other in existing[:8])
    more = f" and {len(existing) - 8} more" if len(existing) > 8 else ""
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} There are {shown}{more}."
