"""A key-value store with etcd's meaning in one file: revisions, transactions, earlier moments, leases, watching.

    open, restore                 a store; a store from a snapshot
    KeyValueStore                 put, get, range, delete, txn, watch, lease, compact, snapshot and the like
    V, M, C, L, Value             comparisons of a transaction, written as Python does
    Put, Get, Delete, Txn         its operations
    Watcher, Lease                what happens to keys; keys that go when nobody renews them
    KeyValue, ...Result, ...Info  what is answered
    FROM_KEY, prefix_end          ends of ranges

>>> from mitoframe import kv
>>> with kv.open("memory://") as store:
...     for who in (b"me", b"you"):
...         taken = store.txn([kv.V(b"owner") == 0], [kv.Put(b"owner", who)], [kv.Get(b"owner")])
...         print(taken.succeeded, store.get(b"owner").value)
True b'me'
False b'me'
"""

from mitoframe.kv.copying import restore
from mitoframe.kv.lessor import Lease
from mitoframe.kv.store import KeyValueStore, open  # noqa: A004 - as `mitoframe.open`
from mitoframe.kv.watch import Watcher
from mitoframe.model.errors import CompactedError, FutureRevisionError
from mitoframe.model.keyvalue import (
    FROM_KEY,
    C,
    Change,
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    HashInfo,
    KeyValue,
    L,
    M,
    Put,
    PutResult,
    RangeResult,
    SnapshotInfo,
    Status,
    Txn,
    TxnResult,
    V,
    Value,
    WatchBatch,
    prefix_end,
)

__all__ = [
    "FROM_KEY",
    "C",
    "Change",
    "CompactedError",
    "Compare",
    "Delete",
    "DeleteResult",
    "Event",
    "FutureRevisionError",
    "Get",
    "HashInfo",
    "KeyValue",
    "KeyValueStore",
    "L",
    "Lease",
    "M",
    "Put",
    "PutResult",
    "RangeResult",
    "SnapshotInfo",
    "Status",
    "Txn",
    "TxnResult",
    "V",
    "Value",
    "WatchBatch",
    "Watcher",
    "open",
    "prefix_end",
    "restore",
]
