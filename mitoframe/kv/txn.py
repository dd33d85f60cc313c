"""What a transaction does: comparisons first, then operations, all at one revision.

A transaction that changes nothing has no revision of its own. All comparisons, also those of nested transactions, see
the state before the first operation; and what can be refused is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from mitoframe.kv.asking import LEASE_MAX, TTL_SECONDS_MAX
from mitoframe.kv.key_index import dropped, next_entry, tombstone
from mitoframe.kv.revision import Entry, Revision, index_key
from mitoframe.kv.rows import LeaseRow
from mitoframe.kv.view import View
from mitoframe.model.errors import CompactedError, FutureRevisionError, InvalidInputError
from mitoframe.model.keyvalue import Delete, DeleteResult, Get, Operation, Put, PutResult, Response, Txn, TxnResult

if TYPE_CHECKING:
    from mitoframe.kv.rows import ChangingRows, State


@dataclass(frozen=True, slots=True)
class Branch:
    """The operations of the branch that is taken; nested transactions are branches, too."""

    succeeded: bool
    operations: tuple[Taken, ...]


Taken: TypeAlias = "Put | Get | Delete | Branch"


class Changing(View):
    """A view that changes what it sees, at the revision after the newest."""

    def __init__(self, rows: ChangingRows, state: State) -> None:
        super().__init__(rows, state)
        self._changing = rows
        self._begun = state
        self._next = Revision(state.revision + 1)

    @property
    def revision(self) -> int:
        return self._begun.revision + (self._next.sub > 0)

    @property
    def has_changed(self) -> bool:
        return self.state != self._begun or self._next.sub > 0 or self._changing.has_changed

    def finish(self) -> None:
        """Write down what is true of the store as a whole; the rest is written."""
        if self.has_changed:
            self._changing.finish(replace(self.state, revision=self.revision))

    # --- operations ------------------------------------------------------------------------------------

    def put(self, put: Put) -> PutResult:
        self._require_possible(put)
        return self._put(put)

    def delete(self, delete: Delete) -> DeleteResult:
        found = list(self._live(delete.key, delete.end, 0))
        before = tuple(self.key_value(*each) for each in found) if delete.prev_kv else ()
        for key, entry in found:
            self._delete(key, entry)
        return DeleteResult(revision=self.revision, deleted=len(found), prev_kvs=before)

    def txn(self, compare: Txn) -> TxnResult:
        branch = self._taken(compare)
        # What is wrong with a put is told before what is wrong with a read, as in etcd.
        for operation in sorted(_flat(branch), key=lambda each: isinstance(each, Get)):
            self._require_possible(operation)
        return self._apply(branch)

    def _taken(self, txn: Txn) -> Branch:
        succeeded = all(map(self.holds, txn.compare))
        operations: Sequence[Operation] = txn.success if succeeded else txn.failure
        return Branch(succeeded, tuple(self._taken(each) if isinstance(each, Txn) else each for each in operations))

    def _apply(self, branch: Branch) -> TxnResult:
        responses = tuple(map(self._respond, branch.operations))
        return TxnResult(succeeded=branch.succeeded, revision=self.revision, responses=responses)

    def _respond(self, operation: Taken) -> Response:
        match operation:
            case Put():
                return self._put(operation)
            case Get():
                return self.range(operation)
            case Delete():
                return self.delete(operation)
            case Branch():
                return self._apply(operation)

    def _require_possible(self, operation: Put | Get | Delete) -> None:
        if isinstance(operation, Get):
            self.require_readable(operation.revision)
        if not isinstance(operation, Put):
            return
        if (operation.ignore_value or operation.ignore_lease) and self.rows.head(operation.key) is None:
            raise InvalidInputError(
                f"key {operation.key!r} is not there, so it has nothing to keep; put it without ignore_value and "
                "ignore_lease"
            )
        if operation.lease:
            self._require_lease(operation.lease)

    # --- compaction ------------------------------------------------------------------------------------

    def schedule_compaction(self, revision: int) -> None:
        """Have revisions below one refused from now on."""
        if revision <= self.state.compact_scheduled:
            raise CompactedError(revision, self.state.compact_scheduled)
        if revision > self.state.revision:
            raise FutureRevisionError(revision, self.state.revision)
        self.state = replace(self.state, compact_scheduled=revision)

    def finish_compaction(self, revision: int) -> None:
        """Say that everything below a revision is dropped."""
        if revision > self.state.compact_finished:
            self.state = replace(self.state, compact_finished=revision)

    def drop_batch(self, start: bytes, revision: int, rows_max: int) -> bytes | None:
        """Drop what a compaction drops of the first rows of ``idx`` from ``start`` on; return where to go on."""
        batch = list(islice(self.rows.entries_from(start), rows_max + 1))
        rest = batch[-1] if len(batch) > rows_max else None
        for key, entry in dropped(batch, revision):
            if (key, entry) != rest:
                self._changing.drop(key, entry)
        return None if rest is None else index_key(rest[0], rest[1].revision)

    # --- leases ----------------------------------------------------------------------------------------

    def grant(self, lease: int, ttl_seconds: int) -> int:
        """Make a lease; 0 has a number chosen."""
        if not 0 < ttl_seconds <= TTL_SECONDS_MAX:
            raise InvalidInputError(f"a lease lives from 1 to {TTL_SECONDS_MAX:,} seconds, not {ttl_seconds}")
        lease = lease or self._free_lease()
        if self.rows.lease(lease) is not None:
            raise InvalidInputError(f"lease {lease} is in use; leave out the id to have one chosen")
        self._changing.set_lease(lease, LeaseRow(ttl_seconds, self._next_stamp()))
        self.state = replace(self.state, leases=self.state.leases + 1)
        return lease

    def renew(self, lease: int) -> LeaseRow | None:
        """Give a lease a new stamp; None if there is no such lease."""
        row = self.rows.lease(lease)
        if row is None:
            return None
        row = row._replace(stamp=self._next_stamp())
        self._changing.set_lease(lease, row)
        return row

    def revoke(self, lease: int, stamp: int | None = None) -> None:
        """Delete a lease with the keys that it is attached to; if its stamp is still this one, where one is given."""
        row = self._require_lease(lease)
        if stamp not in (None, row.stamp):
            raise InvalidInputError(f"lease {lease} has been renewed meanwhile")
        for _, key in list(self.rows.lease_keys(lease)):
            entry = self.rows.head(key)
            if entry is None:
                raise self.rows.corruption(f"key {key!r} has lease {lease} and is not there")
            self._delete(key, entry)
        self._changing.drop_lease(lease)
        self.state = replace(self.state, leases=self.state.leases - 1)

    def _free_lease(self) -> int:
        """Return a number that was never chosen; somebody may have taken it by himself, though."""
        lease = self.state.lease_counter % LEASE_MAX + 1
        while self.rows.lease(lease) is not None:
            lease = lease % LEASE_MAX + 1
        self.state = replace(self.state, lease_counter=lease)
        return lease

    def _next_stamp(self) -> int:
        self.state = replace(self.state, lease_stamp=self.state.lease_stamp + 1)
        return self.state.lease_stamp

    def _require_lease(self, lease: int) -> LeaseRow:
        row = self.rows.lease(lease)
        if row is None:
            raise InvalidInputError(f"there is no lease {lease}; it may have expired: grant another")
        return row

    # --- changes ---------------------------------------------------------------------------------------

    def _put(self, put: Put) -> PutResult:
        old = self.rows.head(put.key)
        before = None if old is None or not put.prev_kv else self.key_value(put.key, old)
        value = self.rows.value(put.key, old) if put.ignore_value and old else put.value
        old_lease = old.lease if old else 0
        lease = old_lease if put.ignore_lease else put.lease
        if old is None:
            self.state = replace(self.state, keys=self.state.keys + 1)
        self._changing.add(put.key, next_entry(old, self._next_revision(), lease), value)
        self._move(put.key, old_lease, lease)
        return PutResult(revision=self.revision, prev_kv=before)

    def _delete(self, key: bytes, entry: Entry) -> None:
        self._changing.add(key, tombstone(self._next_revision()), b"")
        self._move(key, entry.lease, 0)
        self.state = replace(self.state, keys=self.state.keys - 1)

    def _move(self, key: bytes, old_lease: int, lease: int) -> None:
        """Attach a key to a lease, or to none, instead of another."""
        if old_lease == lease:
            return
        if old_lease:
            self._changing.detach(old_lease, key)
        if lease:
            self._changing.attach(lease, key)

    def _next_revision(self) -> Revision:
        revision, self._next = self._next, Revision(self._next.main, self._next.sub + 1)
        return revision


def _flat(branch: Branch) -> Iterator[Put | Get | Delete]:
    for operation in branch.operations:
        if isinstance(operation, Branch):
            yield from _flat(operation)
        else:
            yield operation
