"""What may be asked of a store: everything that is wrong with a call by itself is found here, before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import get_args

from mitoframe.model.errors import InvalidInputError, LimitExceededError
from mitoframe.model.keyvalue import (
    FROM_KEY,
    Compare,
    Delete,
    Get,
    Operation,
    Put,
    Relation,
    SortOrder,
    SortTarget,
    Target,
    Txn,
    prefix_end,
)

OPERATIONS_MAX = 128
REQUEST_BYTES_MAX = 1_572_864
LEASE_MAX = 2**63 - 1
TTL_SECONDS_MAX = 9_000_000_000

_REVISION_BOUNDS = ("limit", "min_mod", "max_mod", "min_create", "max_create")


# --- ranges --------------------------------------------------------------------------------------------


def bounds_of(key: bytes, end: bytes | None, prefix: bool) -> tuple[bytes, bytes | None]:
    """Return key and end of what a call names; the empty prefix is everything."""
    if not prefix:
        return key, end
    if end is not None:
        raise InvalidInputError("a range has an end or is a prefix, not both; leave one out")
    return (key or FROM_KEY), prefix_end(key)


def within(key: bytes, start: bytes, end: bytes | None) -> bool:
    """Say whether a key is in a range."""
    if end is None:
        return key == start
    return start <= key and (end == FROM_KEY or key < end)


def overlaps(put: Put, other: Delete | Put) -> bool:
    """Say whether an operation names the key that is put."""
    return within(put.key, other.key, other.end if isinstance(other, Delete) else None)


def require_range(key: bytes, end: bytes | None) -> None:
    _require_bytes("key", key)
    if not key:
        raise InvalidInputError("a key must not be empty; give it at least one byte")
    if end is None:
        return
    _require_bytes("end", end)
    if not end:
        raise InvalidInputError("the end of a range must not be empty; None is the key alone, FROM_KEY all from it on")


# --- operations ----------------------------------------------------------------------------------------


def require_get(get: Get) -> None:
    require_range(get.key, get.end)
    _require_one_of("sort_by", get.sort_by, get_args(SortTarget))
    _require_one_of("order", get.order, get_args(SortOrder))
    for name in _REVISION_BOUNDS:
        if getattr(get, name) < 0:
            raise InvalidInputError(f"{name} must be 0 or more, not {getattr(get, name)}")
    for name, least, most in (("mod", get.min_mod, get.max_mod), ("create", get.min_create, get.max_create)):
        if most and least > most:
            raise InvalidInputError(f"min_{name} {least} is above max_{name} {most}; exchange them")


def require_put(put: Put) -> None:
    require_range(put.key, None)
    _require_bytes("value", put.value)
    require_lease(put.lease)
    if put.ignore_value and put.value:
        raise InvalidInputError("ignore_value keeps the value that the key has; leave out value")
    if put.ignore_lease and put.lease:
        raise InvalidInputError("ignore_lease keeps the lease that the key has; leave out lease")


def require_lease(lease: int) -> None:
    if not isinstance(lease, int):
        raise InvalidInputError(f"a lease is named by its number, such as lease.id, not by a {type(lease).__name__}")
    if not 0 <= lease <= LEASE_MAX:
        raise InvalidInputError(f"a lease is a number from 0 to {LEASE_MAX}, not {lease}")


def require_compare(compare: Compare) -> None:
    require_range(compare.key, compare.end)
    _require_one_of("target", compare.target, get_args(Target))
    _require_one_of("relation", compare.relation, get_args(Relation))
    if isinstance(compare.value, bytes) != (compare.target == "value"):
        raise InvalidInputError(f"{compare.target} of {compare.key!r} cannot be compared with {compare.value!r}")


def require_txn(txn: Txn) -> None:
    """Check a transaction with all that is nested in it, the branches that will not be taken included."""
    _require_operations(txn, OPERATIONS_MAX)
    _named(txn.success)
    _named(txn.failure)
    if (size_bytes := _size_bytes(txn)) > REQUEST_BYTES_MAX:
        raise LimitExceededError(
            f"the request has {size_bytes:,} bytes of keys and values, more than {REQUEST_BYTES_MAX:,}; divide it"
        )


def _require_operations(txn: Txn, count_max: int) -> None:
    count = max(len(txn.compare), len(txn.success), len(txn.failure))
    if count > count_max:
        raise InvalidInputError(f"a transaction may have {OPERATIONS_MAX} operations; divide it")
    for compare in txn.compare:
        require_compare(compare)
    for operation in (*txn.success, *txn.failure):
        match operation:
            case Txn():
                _require_operations(operation, count_max - count)
            case Put():
                require_put(operation)
            case Get():
                require_get(operation)
            case Delete():
                require_range(operation.key, operation.end)
            case _:
                raise InvalidInputError(f"{operation!r} is no operation; give Put, Get, Delete or Txn")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What a branch puts and deletes."""

    puts: tuple[Put, ...] = ()
    deletes: tuple[Delete, ...] = ()

    def __or__(self, other: _Named) -> _Named:
        return _Named(puts=self.puts + other.puts, deletes=self.deletes + other.deletes)


def _named(operations: Iterable[Operation]) -> _Named:
    """Return what a branch changes; refuse a key put twice, or put and deleted: the outcome would hang on the order."""
    found = _Named()
    for operation in operations:
        match operation:
            case Put():
                other = _Named(puts=(operation,))
            case Delete():
                other = _Named(deletes=(operation,))
            case Txn():
                # Only one of its branches is taken, so these may name the same.
                other = _named(operation.success) | _named(operation.failure)
            case _:
                continue
        _require_apart(found.puts, other.puts)
        _require_apart(found.puts, other.deletes)
        _require_apart(other.puts, found.deletes)
        found |= other
    return found


def _require_apart(puts: Sequence[Put], others: Sequence[Put | Delete]) -> None:
    for put in puts:
        if any(overlaps(put, other) for other in others):
            raise InvalidInputError(f"duplicate key {put.key!r} in one transaction; name each key once")


def _size_bytes(request: object) -> int:
    """Return how many bytes of keys and values a request has."""
    if isinstance(request, bytes):
        return len(request)
    if isinstance(request, list | tuple):
        return sum(map(_size_bytes, request))
    if isinstance(request, Txn | Put | Get | Delete | Compare):
        return sum(_size_bytes(getattr(request, field.name)) for field in fields(request))
    return 0


def _require_bytes(name: str, value: object) -> None:
    if type(value) is not bytes:
        raise InvalidInputError(f"{name} must be bytes, not {type(value).__name__}")


def _require_one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InvalidInputError(f"{name} {value!r} is none of {', '.join(map(repr, allowed))}")
