"""What requests to a key-value store mean: pure functions of what it holds, slow and obvious.

`take` says which operations of a transaction are done, `select` what a range finds, `check_request` what is wrong with
a request whatever the store holds. `mitoframe.testing.model_kv` is made of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mitoframe.model.errors import InvalidInputError, LimitExceededError
from mitoframe.model.keyvalue import (
    FROM_KEY,
    Change,
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    Operation,
    Put,
    RangeResult,
    Txn,
    prefix_end,
)

OPERATIONS_MAX = 128
REQUEST_BYTES_MAX = 1_572_864

Contents: TypeAlias = Mapping[bytes, KeyValue]
Writes: TypeAlias = "tuple[set[bytes], list[Delete]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A transaction after its comparisons, and those of the transactions in it, were looked at."""

    succeeded: bool
    operations: tuple[Put | Get | Delete | Taken, ...]

    def all_operations(self) -> Iterator[Put | Get | Delete]:
        for operation in self.operations:
            if isinstance(operation, Taken):
                yield from operation.all_operations()
            else:
                yield operation


def span_of(key: bytes, end: bytes | None, prefix: bool) -> tuple[bytes, bytes | None]:
    """Return key and end of what a call names. Every key begins with the empty prefix."""
    if not prefix:
        return key, end
    if end is not None:
        raise InvalidInputError(f"prefix={prefix} and end={end!r} both say where the range ends. Give one of them.")
    return key or b"\0", prefix_end(key)


def is_within(name: bytes, key: bytes, end: bytes | None) -> bool:
    if end is None:
        return name == key
    return name >= key and (end == FROM_KEY or name < end)


def select(contents: Contents, asked: Get, revision: int) -> RangeResult:
    found = [kv for name, kv in sorted(contents.items()) if is_within(name, asked.key, asked.end)]
    if asked.count_only:
        return RangeResult(kvs=(), revision=revision, count=len(found))
    bounds = (asked.min_mod, asked.max_mod, asked.min_create, asked.max_create)
    kept = [kv for kv in found if _is_bounded(kv, asked)]
    if asked.limit and asked.order == "none" and not any(bounds):
        # As etcd does: without an order the limit cuts by key, and only what is left is sorted by something else.
        kept = kept[: asked.limit + 1]
    kept.sort(key=lambda kv: number_of(kv, asked.sort_by), reverse=asked.order == "descending")
    more = 0 < asked.limit < len(kept)
    kvs = kept[: asked.limit] if more else kept
    return RangeResult(
        kvs=tuple(replace(kv, value=b"") if asked.keys_only else kv for kv in kvs),
        revision=revision,
        count=len(found),
        more=more,
    )


def _is_bounded(kv: KeyValue, asked: Get) -> bool:
    return (
        asked.min_mod <= kv.mod_revision <= (asked.max_mod or kv.mod_revision)
        and asked.min_create <= kv.create_revision <= (asked.max_create or kv.create_revision)
    )  # fmt: skip


def number_of(kv: KeyValue, target: str) -> bytes | int:
    numbers: dict[str, bytes | int] = {
        "key": kv.key,
        "value": kv.value,
        "create": kv.create_revision,
        "mod": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
    }
    return numbers[target]


def take(request: Txn, contents: Contents) -> Taken:
    succeeded = all(holds(comparison, contents) for comparison in request.compare)
    operations = request.success if succeeded else request.failure
    return Taken(
        succeeded=succeeded,
        operations=tuple(take(each, contents) if isinstance(each, Txn) else each for each in operations),
    )


def holds(comparison: Compare, contents: Contents) -> bool:
    kvs = [kv for name, kv in contents.items() if is_within(name, comparison.key, comparison.end)]
    if kvs:
        return all(_stands(number_of(kv, comparison.target), comparison) for kv in kvs)
    return comparison.target != "value" and _stands(0, comparison)


def _stands(left: bytes | int, comparison: Compare) -> bool:
    right = comparison.value
    if comparison.relation == "=":
        return left == right
    if comparison.relation == "!=":
        return left != right
    # Of mixed kinds Python itself refuses, as it should: `check_request` has looked.
    return left > right if comparison.relation == ">" else left < right  # type: ignore[operator]


def change_of(event: Event) -> Change:
    value = event.kv.value if event.kind == "put" else None
    return Change(key=event.kv.key, value=value, mod_revision=event.kv.mod_revision)


# --- what is wrong with a request, whichever branch is taken -------------------------------------------


def check_request(request: Txn) -> None:
    _check_txn(request, OPERATIONS_MAX)
    _writes_of(request.success)
    _writes_of(request.failure)
    size_bytes = _size_bytes(request)
    if size_bytes > REQUEST_BYTES_MAX:
        raise LimitExceededError(f"a request of {size_bytes:,} bytes: at most {REQUEST_BYTES_MAX:,} are taken.")


def _check_txn(request: Txn, operations_max: int) -> None:
    """Check each part of a transaction; what is in it may have as many operations less as it has itself."""
    longest = max(len(request.compare), len(request.success), len(request.failure))
    if longest > operations_max:
        raise InvalidInputError(f"a transaction of more than {OPERATIONS_MAX} operations. Divide it.")
    for comparison in request.compare:
        require_span(comparison.key, comparison.end)
        if isinstance(comparison.value, bytes) != (comparison.target == "value"):
            raise InvalidInputError(f"{comparison.target} is compared with {comparison.value!r}, of another kind.")
    for operation in (*request.success, *request.failure):
        if isinstance(operation, Txn):
            _check_txn(operation, operations_max - longest)
        else:
            _check_operation(operation)


def _check_operation(operation: Put | Get | Delete) -> None:
    require_span(operation.key, None if isinstance(operation, Put) else operation.end)
    if isinstance(operation, Get):
        require_not_negative(limit=operation.limit)
        _require_bounds(operation.min_mod, operation.max_mod)
        _require_bounds(operation.min_create, operation.max_create)
    if isinstance(operation, Put):
        if operation.ignore_value and operation.value:
            raise InvalidInputError("ignore_value keeps the value there is, and a value is given. Leave out one.")
        if operation.ignore_lease and operation.lease:
            raise InvalidInputError("ignore_lease keeps the lease there is, and a lease is given. Leave out one.")


def _writes_of(operations: Sequence[Operation]) -> Writes:
    """Return keys that a branch may put and ranges it may delete; refuse a key put twice, or put and deleted."""
    puts: set[bytes] = set()
    deletes: list[Delete] = []
    for operation in operations:
        more_puts, more_deletes = _writes_of_one(operation)
        _require_distinct(puts, (more_puts, more_deletes))
        _require_distinct(more_puts, (set(), deletes))
        puts |= more_puts
        deletes += more_deletes
    return puts, deletes


def _writes_of_one(operation: Operation) -> Writes:
    if isinstance(operation, Put):
        return {operation.key}, []
    if isinstance(operation, Delete):
        return set(), [operation]
    if isinstance(operation, Txn):
        # Only one of its branches is taken: what one puts the other may put and delete too.
        success, failure = _writes_of(operation.success), _writes_of(operation.failure)
        return success[0] | failure[0], success[1] + failure[1]
    return set(), []


def _require_distinct(puts: set[bytes], others: Writes) -> None:
    for key in puts:
        if key in others[0] or any(is_within(key, delete.key, delete.end) for delete in others[1]):
            raise InvalidInputError(f"duplicate key {key!r}: a transaction changes a key at most once.")


def _size_bytes(request: Txn) -> int:
    """Return how many bytes of keys and values there are."""
    size_bytes = 0
    for comparison in request.compare:
        size_bytes += len(comparison.key) + len(comparison.end or b"")
        size_bytes += len(comparison.value) if isinstance(comparison.value, bytes) else 0
    for operation in (*request.success, *request.failure):
        if isinstance(operation, Txn):
            size_bytes += _size_bytes(operation)
        else:
            size_bytes += len(operation.key)
            size_bytes += len(operation.value) if isinstance(operation, Put) else len(operation.end or b"")
    return size_bytes


def require_span(key: bytes, end: bytes | None) -> None:
    if not key:
        raise InvalidInputError("the key is empty. Give one of at least one byte.")
    if end == b"":
        raise InvalidInputError("the end is empty. None is the key alone, FROM_KEY all from it on.")


def _require_bounds(least: int, most: int) -> None:
    require_not_negative(least=least, most=most)
    if most and least > most:
        raise InvalidInputError(f"no revision is at least {least} and at most {most}.")


def require_not_negative(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 0:
            raise InvalidInputError(f"{name}={number}: give 0 or more.")
