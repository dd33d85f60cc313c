"""What processes that have one store see of each other: changes, and leases whose holders die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mitoframe import kv
from mitoframe.model.errors import ReadOnlyError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.kv"


@contextmanager
def process(code: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program with the store open, which goes on when it is written a line."""
    start = "import sys\nfrom mitoframe import kv\nstore = kv.open(sys.argv[1])\n"
    command = [sys.executable, "-W", "error", "-c", start + code, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def eventually(condition: Callable[[], object]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(condition())


ECHO = """
with store.watch(b"/said/", prefix=True) as watcher:
    print("watching", flush=True)
    for batch in watcher:
        [event] = batch.events
        store.put(b"/heard", b"%d" % batch.revision)
        if event.kv.value == b"last":
            break
"""


def test_processes_watch_what_others_write_and_miss_nothing(path: Path) -> None:
    with kv.open(path) as store, store.watch(b"/heard") as watcher, process(ECHO, path) as echo:
        assert echo.stdout.readline() == "watching\n"

        said = [store.put(b"/said/%d" % (number % 7), b"x").revision for number in range(50)]
        said.append(store.put(b"/said/", b"last").revision)

        heard = [watcher.next(timeout=PATIENCE_S) for _ in said]
        assert [int(batch.events[0].kv.value) for batch in heard] == said
        assert watcher.progress() == store.status().revision == 1 + 2 * len(said)


HOLDER = """
lease = store.lease(1, keepalive=True)
store.put(b"/leader", b"other", lease=lease.id)
print(lease.id, flush=True)
sys.stdin.readline()
"""


def test_what_a_killed_process_held_goes_and_who_only_looks_sees_to_it(path: Path) -> None:
    with kv.open(path) as store, process(HOLDER, path) as holder:
        lease = int(holder.stdout.readline())
        while_alive = store.get(b"/leader")

        killed = time.monotonic()
        holder.send_signal(signal.SIGKILL)

        assert while_alive.lease == lease
        assert eventually(lambda: store.get(b"/leader") is None)
        assert time.monotonic() - killed >= 1 / 2  # It had been renewed half a second before at the most.
        assert store.leases() == ()
        assert store.history(b"/leader")["kind"].to_list() == ["put", "delete"]


def test_a_lease_is_kept_alive_by_another_process_than_the_one_that_lets_leases_expire(path: Path) -> None:
    with kv.open(path) as store:
        own = store.lease(1)
        assert eventually(lambda: own.remaining() == -1)  # So it is this one that does.
        with process(HOLDER, path) as holder:
            lease = int(holder.stdout.readline())
            stamps: set[int] = set()

            def renewed_often() -> bool:
                rows = store._ledger.lease_rows(lease)
                stamps.update(row.stamp for row in rows.values())
                return not rows or len(stamps) >= 5

            assert eventually(renewed_often)
            assert store.get(b"/leader").lease == lease

            _, errors = holder.communicate("\n", timeout=PATIENCE_S)  # It ends; lease and thread do not hold it.

            assert (holder.returncode, errors) == (0, "")
            assert eventually(lambda: store.get(b"/leader") is None)


def test_who_reads_takes_no_turn_and_makes_no_lease(path: Path) -> None:
    with kv.open(path) as store:
        store.lease(100, id=7)
        store.put(b"a", lease=7)
    with kv.open(path, mode="r") as reader:
        watcher = reader.watch(b"a", start_revision=1)

        assert watcher.next(timeout=PATIENCE_S).events[0].kv.lease == 7
        assert [(lease.id, lease.keys()) for lease in reader.leases()] == [(7, (b"a",))]
        for refused in (lambda: reader.lease(10), reader.leases()[0].keepalive, reader.leases()[0].revoke):
            with pytest.raises(ReadOnlyError):
                refused()
        assert reader._lessor._thread is None
