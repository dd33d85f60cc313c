"""A key-value store with etcd's meaning in one file: revisions, transactions, earlier revisions, leases, watching.

from mitoframe import kv

store = kv.open("./plant.kv")
store.txn([kv.V(b"owner") == 0], [kv.Put(b"owner", b"me")], [kv.Get(b"owner")])
"""

from mitoframe.kv.copying import restore
from mitoframe.kv.lessor import Lease
from mitoframe.kv.store import KeyValueStore, open  # noqa: A004 - as `mitoframe.open`
from mitoframe.kv.watch import Watcher
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
    "Compare",
    "Delete",
    "DeleteResult",
    "Event",
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
