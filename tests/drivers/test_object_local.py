from __future__ import annotations

import errno
import itertools

import numpy as np
import pytest

from mitoframe.drivers.clock import ManualClock, SeededRandomness
from mitoframe.drivers.object_local import LocalObjectStore
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.model.errors import DiskFullError, UnavailableError, UnknownOutcomeError
from mitoframe.testing.vfs_faults import ErrorVfs, FailAt, Fault, KillVfs, TraceVfs
from mitoframe.testing.vfs_memory import MemoryVfs

DATA = b"x" * 1500


class Killed(BaseException):
    pass


def die():
    raise Killed


def open_store(vfs):
    return LocalObjectStore(vfs, SeededRandomness(1))


def test_a_put_is_written_synced_linked_and_made_durable_in_that_order():
    traced = TraceVfs(MemoryVfs())
    store = open_store(traced)

    store.put_if_absent("f/k", b"abc")
    store.put_if_absent("f/l", b"abc")

    temporary = traced.operations[1].path
    assert temporary.startswith("f/k.")
    assert temporary.endswith(".tmp")
    assert traced.render().splitlines()[:7] == [
        "make_dirs f",
        f"create {temporary}",
        f"write {temporary} 3",
        f"sync {temporary}",
        f"link {temporary} -> f/k",
        f"unlink {temporary}",
        "sync_dir f",
    ]
    assert [operation.kind for operation in traced.operations].count("make_dirs") == 1


def test_a_crash_at_any_point_leaves_the_whole_object_or_none_and_a_sweep_leaves_nothing_else():
    for kill_at in itertools.count(1):
        vfs = MemoryVfs()
        acknowledged = False
        try:
            open_store(KillVfs(vfs, kill_at, die)).put_if_absent("f/k", DATA)
            acknowledged = True
        except Killed:
            pass

        images = [vfs.killed(), vfs.crash(), vfs.crash(keep="all")]
        images += [vfs.crash(np.random.default_rng(seed), keep="random") for seed in range(20)]
        for image in images:
            store = open_store(image)
            store.sweep()
            found = [meta.key for meta in store.list("f")]
            assert found == ["f/k"] if acknowledged else found in ([], ["f/k"])
            assert not found or store.get("f/k") == DATA
            if "f" in image.list(""):
                assert image.list("f") == [key.removeprefix("f/") for key in found]
            assert [meta.key for meta in open_store(image.crash()).list("f")] == found, "what was seen was not durable"

        if acknowledged:
            break
    assert kill_at == 9


@pytest.mark.parametrize(("number", "expected"), [(errno.EIO, UnavailableError), (errno.ENOSPC, DiskFullError)])
@pytest.mark.parametrize("short", [False, True])
def test_an_error_before_the_link_leaves_nothing_and_the_put_can_be_tried_again(number, expected, short):
    for point in range(1, 6):
        inner = MemoryVfs()
        store = open_store(ErrorVfs(inner, FailAt(point, number, short=short)))

        if point == 5 and number == errno.EIO:
            expected = UnknownOutcomeError
        with pytest.raises(expected) as caught:
            store.put_if_absent("f/k", DATA)
        assert isinstance(caught.value.__cause__, OSError)
        assert "f/k" in str(caught.value)

        assert not inner.list("") or inner.list("f") == []
        store.put_if_absent("f/k", DATA)
        assert store.get("f/k") == DATA


def test_an_error_after_the_link_leaves_the_outcome_unknown():
    store = open_store(ErrorVfs(MemoryVfs(), FailAt(1, errno.EIO), kinds={"sync_dir"}))

    with pytest.raises(UnknownOutcomeError, match="look whether it is there"):
        store.put_if_absent("f/k", DATA)


def test_a_temporary_file_that_cannot_be_removed_does_not_fail_the_put():
    inner = MemoryVfs()
    store = open_store(ErrorVfs(inner, FailAt(1, errno.EIO), kinds={"unlink"}))

    store.put_if_absent("f/k", DATA)

    assert [meta.key for meta in store.list("f")] == ["f/k"]
    assert len(inner.list("f")) == 2
    assert store.sweep() == 1
    assert inner.list("f") == ["k"]


def test_a_sync_is_never_tried_twice_on_one_file():
    synced = []
    faulty = ErrorVfs(
        MemoryVfs(), lambda number, operation: synced.append(operation.path) or Fault(errno.EIO), kinds={"sync"}
    )
    store = open_store(faulty)

    for _ in range(3):
        with pytest.raises(UnavailableError):
            store.put_if_absent("f/k", DATA)

    assert len(set(synced)) == len(synced) == 3


@pytest.mark.parametrize("kind", ["read", "stat", "list", "unlink"])
def test_a_failing_medium_is_unavailable_and_names_what_was_asked_for(kind):
    inner = MemoryVfs()
    open_store(inner).put_if_absent("f/k", DATA)
    store = open_store(ErrorVfs(inner, lambda number, operation: Fault(errno.EIO), kinds={kind}))
    call = {"read": store.get, "stat": store.head, "list": lambda key: store.list("f"), "unlink": store.delete}[kind]

    with pytest.raises(UnavailableError, match="f"):
        call("f/k")


def test_sweep_removes_only_temporary_files_and_looks_everywhere():
    vfs = MemoryVfs()
    store = open_store(vfs)
    hexadecimal = "0123456789abcdef" * 2
    vfs.make_dirs("a/b/c")
    for path in (f"x.{hexadecimal}.tmp", f"a/b/c/y.{hexadecimal}.tmp", "a/short.tmp", "a/plain", f"a/{hexadecimal}"):
        vfs.create(path).close()

    assert store.sweep("a") == 1
    assert store.sweep() == 1
    assert store.sweep("nowhere") == 0

    assert vfs.list("") == ["a"]
    assert vfs.list("a") == [hexadecimal, "b", "plain", "short.tmp"]


def test_a_url_is_a_path_on_disk_and_nothing_elsewhere(tmp_path):
    store = LocalObjectStore(OsVfs(tmp_path))
    store.put_if_absent("f/k", b"x")

    with open(store.url("f/k"), "rb") as file:
        assert file.read() == b"x"
    assert LocalObjectStore(MemoryVfs()).url("f/k") is None
    assert LocalObjectStore(MemoryVfs("C:\\data")).url("k") == "C:\\data/k"
    assert MemoryObjectStore().url("k") is None


def test_objects_in_memory_are_stamped_by_the_given_clock():
    store = MemoryObjectStore(ManualClock(now_ms=77))

    store.put_if_absent("k", b"x")

    assert store.head("k").modified_ms == 77
