"""A real etcd, asked and answering in our words.

`running` starts one in a folder in memory, on free ports of this machine, and ends it. `EtcdKV` speaks to it, by the
messages of ``aetcd`` on a channel that waits for each answer.
"""

from __future__ import annotations

import queue
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mitoframe.model.errors import CompactedError, FutureRevisionError, InvalidInputError, LimitExceededError, MitoError
from mitoframe.model.keyvalue import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    KeyValue,
    Operation,
    Put,
    PutResult,
    RangeResult,
    Response,
    Txn,
    TxnResult,
    WatchBatch,
)
from mitoframe.testing.programs_kv import Watched

grpc = pytest.importorskip("grpc", reason="etcd is spoken to by grpc, which is not installed (pip install aetcd)")
rpc = pytest.importorskip("aetcd.rpc", reason="the messages of etcd are those of aetcd, which is not installed")

START_TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 20

TARGETS = {"version": 0, "create": 1, "mod": 2, "value": 3, "lease": 4}
RELATIONS = {"=": 0, ">": 1, "<": 2, "!=": 3}
ORDERS = {"none": 0, "ascending": 1, "descending": 2}
SORT_TARGETS = {"key": 0, "version": 1, "create": 2, "mod": 3, "value": 4}
FILTERS = {"put": 0, "delete": 1}
# What the end of a message of etcd means in ours.
ERRORS: dict[str, Callable[[], MitoError]] = {
    "has been compacted": lambda: CompactedError(0, 0),
    "is a future revision": lambda: FutureRevisionError(0, 0),
    "request is too large": lambda: LimitExceededError("too large"),
    "key is not provided": lambda: InvalidInputError("empty"),
    "value is provided": lambda: InvalidInputError("value"),
    "lease is provided": lambda: InvalidInputError("lease"),
    "key not found": lambda: InvalidInputError("missing"),
    "duplicate key given in txn request": lambda: InvalidInputError("duplicate key"),
    "too many operations in txn request": lambda: InvalidInputError("operations"),
    "requested lease not found": lambda: InvalidInputError("lease"),
    "lease already exists": lambda: InvalidInputError("lease"),
    "too large lease TTL": lambda: InvalidInputError("ttl"),
}


@contextmanager
def running() -> Iterator[EtcdKV]:
    """Start an etcd with nothing in it, and end it."""
    program = shutil.which("etcd")
    if program is None:
        pytest.skip("etcd is not installed (Debian: apt-get install etcd-server)")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=_folder_in_memory()))
        clients, peers = (f"http://127.0.0.1:{port}" for port in _free_ports(2))
        options = {
            "data-dir": folder, "listen-client-urls": clients, "advertise-client-urls": clients,
            "listen-peer-urls": peers, "initial-advertise-peer-urls": peers, "initial-cluster": f"default={peers}",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(_end, process)
        channel = stack.enter_context(grpc.insecure_channel(clients.removeprefix("http://")))
        grpc.channel_ready_future(channel).result(timeout=START_TIMEOUT_S)
        store = EtcdKV(channel)
        stack.callback(store.close)
        store.run(Get(b"\0"), wait_for_ready=True)
        yield store


def _folder_in_memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _free_ports(many: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(many)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class EtcdKV:
    """Runs our words on etcd."""

    def __init__(self, channel: Any) -> None:
        self._kv, self._lease = rpc.KVStub(channel), rpc.LeaseStub(channel)
        self._watches = EtcdWatches(channel)

    def run(self, operation: Operation, wait_for_ready: bool = False) -> Response:
        """Run an operation by the call that etcd has for it."""
        call = {Put: self._kv.Put, Get: self._kv.Range, Delete: self._kv.DeleteRange, Txn: self._kv.Txn}[
            type(operation)
        ]
        answer = _translated(call, message_of(operation), wait_for_ready=wait_for_ready)
        return response_of(operation, answer)

    def compact(self, revision: int) -> None:
        _translated(self._kv.Compact, rpc.CompactionRequest(revision=revision, physical=True))

    def grant(self, ttl_seconds: int, lease: int) -> None:
        _translated(self._lease.LeaseGrant, rpc.LeaseGrantRequest(TTL=ttl_seconds, ID=lease))

    def revoke(self, lease: int) -> int:
        answer = _translated(self._lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=lease))
        return int(answer.header.revision)

    def keys_of(self, lease: int) -> tuple[bytes, ...]:
        answer = _translated(self._lease.LeaseTimeToLive, rpc.LeaseTimeToLiveRequest(ID=lease, keys=True))
        return tuple(sorted(answer.keys))

    def watch(self, watched: Watched) -> EtcdWatcher:
        return self._watches.watch(watched)

    def close(self) -> None:
        self._watches.close()


class EtcdWatches:
    """All watchers of one stream; a thread hands each what is its own."""

    def __init__(self, channel: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._created: queue.SimpleQueue[EtcdWatcher] = queue.SimpleQueue()
        self._watchers: dict[int, EtcdWatcher] = {}
        self._stream = rpc.WatchStub(channel).Watch(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def watch(self, watched: Watched) -> EtcdWatcher:
        request = rpc.WatchCreateRequest(
            key=watched.key,
            range_end=watched.end or b"",
            start_revision=watched.start_revision,
            prev_kv=watched.prev_kv,
            filters=[FILTERS[each] for each in watched.filters],
        )
        self._requests.put(rpc.WatchRequest(create_request=request))
        return self._created.get(timeout=ANSWER_TIMEOUT_S)

    def cancel(self, watch_id: int) -> None:
        self._requests.put(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=watch_id)))

    def close(self) -> None:
        self._requests.put(None)
        self._stream.cancel()
        self._reader.join(timeout=ANSWER_TIMEOUT_S)

    def _read(self) -> None:
        try:
            for response in self._stream:
                if response.created:
                    watcher = EtcdWatcher(self, response.watch_id)
                    self._watchers[response.watch_id] = watcher
                    self._created.put(watcher)
                elif (watcher := self._watchers.get(response.watch_id)) is not None:
                    watcher.answers.put(response)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise


@dataclass(slots=True)
class EtcdWatcher:
    """What one watcher was told so far."""

    watches: EtcdWatches
    watch_id: int
    answers: queue.SimpleQueue[Any]

    def __init__(self, watches: EtcdWatches, watch_id: int) -> None:
        self.watches, self.watch_id, self.answers = watches, watch_id, queue.SimpleQueue()

    def next(self, timeout: float) -> list[WatchBatch]:
        """Return what came in one response; raise CompactedError if that is what it says."""
        try:
            response = self.answers.get(timeout=timeout)
        except queue.Empty:
            return []
        if response.compact_revision:
            raise CompactedError(0, response.compact_revision)
        return _by_revision([event_of(event) for event in response.events])

    def cancel(self) -> None:
        self.watches.cancel(self.watch_id)


def _by_revision(events: list[Event]) -> list[WatchBatch]:
    batches: dict[int, list[Event]] = {}
    for event in events:
        batches.setdefault(event.kv.mod_revision, []).append(event)
    return [WatchBatch(revision=revision, events=tuple(each)) for revision, each in batches.items()]


def _translated(call: Callable[..., Any], message: Any, *, wait_for_ready: bool = False) -> Any:
    try:
        return call(message, timeout=ANSWER_TIMEOUT_S, wait_for_ready=wait_for_ready)
    except grpc.RpcError as error:
        for ending, made in ERRORS.items():
            if error.details().endswith(ending):
                raise made() from error
        raise


# --- our words as messages ------------------------------------------------------------------------------


def message_of(operation: Operation) -> Any:
    if isinstance(operation, Put):
        return rpc.PutRequest(
            key=operation.key,
            value=operation.value,
            lease=operation.lease,
            prev_kv=operation.prev_kv,
            ignore_value=operation.ignore_value,
            ignore_lease=operation.ignore_lease,
        )
    if isinstance(operation, Delete):
        return rpc.DeleteRangeRequest(key=operation.key, range_end=operation.end or b"", prev_kv=operation.prev_kv)
    if isinstance(operation, Get):
        return _message_of_get(operation)
    return rpc.TxnRequest(
        compare=[_message_of_compare(each) for each in operation.compare],
        success=[_wrapped(each) for each in operation.success],
        failure=[_wrapped(each) for each in operation.failure],
    )


def _message_of_get(operation: Get) -> Any:
    return rpc.RangeRequest(
        key=operation.key,
        range_end=operation.end or b"",
        revision=operation.revision,
        limit=operation.limit,
        sort_target=SORT_TARGETS[operation.sort_by],
        sort_order=ORDERS[operation.order],
        keys_only=operation.keys_only,
        count_only=operation.count_only,
        min_mod_revision=operation.min_mod,
        max_mod_revision=operation.max_mod,
        min_create_revision=operation.min_create,
        max_create_revision=operation.max_create,
    )


def _message_of_compare(compare: Compare) -> Any:
    fields = {"create": "create_revision", "mod": "mod_revision"}
    return rpc.Compare(
        key=compare.key,
        range_end=compare.end or b"",
        target=TARGETS[compare.target],
        result=RELATIONS[compare.relation],
        **{fields.get(compare.target, compare.target): compare.value},
    )


def _wrapped(operation: Operation) -> Any:
    fields = {Put: "request_put", Get: "request_range", Delete: "request_delete_range", Txn: "request_txn"}
    return rpc.RequestOp(**{fields[type(operation)]: message_of(operation)})


# --- messages as our words ------------------------------------------------------------------------------


def response_of(operation: Operation, answer: Any) -> Response:
    revision = answer.header.revision
    if isinstance(operation, Put):
        return PutResult(revision=revision, prev_kv=_kv_in(answer))
    if isinstance(operation, Delete):
        return DeleteResult(revision=revision, deleted=answer.deleted, prev_kvs=tuple(map(kv_of, answer.prev_kvs)))
    if isinstance(operation, Get):
        kvs = tuple(map(kv_of, answer.kvs))
        return RangeResult(kvs=kvs, revision=revision, count=answer.count, more=answer.more)
    operations = operation.success if answer.succeeded else operation.failure
    responses = tuple(
        response_of(each, getattr(response, response.WhichOneof("response")))
        for each, response in zip(operations, answer.responses, strict=True)
    )
    return TxnResult(succeeded=answer.succeeded, revision=revision, responses=responses)


def event_of(event: Any) -> Event:
    return Event(kind="delete" if event.type else "put", kv=kv_of(event.kv), prev_kv=_kv_in(event))


def kv_of(kv: Any) -> KeyValue:
    return KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def _kv_in(answer: Any) -> KeyValue | None:
    return kv_of(answer.prev_kv) if answer.HasField("prev_kv") else None
