from __future__ import annotations

import errno
import threading
import time

import pytest

from mitoframe.testing.golden import REWRITE_VARIABLE, assert_golden
from mitoframe.testing.vfs_faults import MUTATIONS, ErrorVfs, FailAt, KillVfs, Operation, SlowVfs, TraceVfs
from mitoframe.testing.vfs_memory import MemoryVfs


class Killed(BaseException):
    pass


def die():
    raise Killed


def everything(vfs):
    vfs.make_dirs("f")
    file = vfs.create("f/a")
    file.write(b"0123456789")
    file.sync()
    file.truncate(8)
    file.close()
    vfs.link("f/a", "f/b")
    vfs.rename("f/b", "f/c")
    vfs.unlink("f/a")
    vfs.sync_dir("f")
    file = vfs.append("f/c")
    file.write(b"ab")
    file.close()
    return vfs.read("f/c"), vfs.stat("f/c").size_bytes, vfs.list("f")


def test_a_trace_prints_every_call_and_changes_nothing():
    traced = TraceVfs(MemoryVfs())

    assert everything(traced) == everything(MemoryVfs()) == (b"01234567ab", 10, ["c"])

    assert traced.render().splitlines() == [
        "make_dirs f",
        "create f/a",
        "write f/a 10",
        "sync f/a",
        "truncate f/a 8",
        "link f/a -> f/b",
        "rename f/b -> f/c",
        "unlink f/a",
        "sync_dir f",
        "append f/c",
        "write f/c 2",
        "read f/c",
        "stat f/c",
        "list f",
    ]
    assert traced.render(sizes=False, kinds={"write", "truncate"}) == "write f/a\ntruncate f/a\nwrite f/c\n"
    assert {operation.kind for operation in traced.operations} > MUTATIONS


def test_an_error_hits_each_operation_once():
    for number in range(1, 11):
        inner = TraceVfs(MemoryVfs())
        faulty = ErrorVfs(inner, FailAt(number, errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            everything(faulty)
        assert faulty.operations == number
        assert len([operation for operation in inner.operations if operation.kind in MUTATIONS]) == number - 1

    untouched = ErrorVfs(MemoryVfs(), FailAt(11, errno.EIO))
    everything(untouched)
    assert untouched.operations == 10


def test_an_error_may_be_for_ever_or_pass():
    for for_ever in (False, True):
        faulty = ErrorVfs(MemoryVfs(), FailAt(1, errno.ENOSPC, for_ever=for_ever))
        with pytest.raises(OSError, match="No space"):
            faulty.create("a")
        if for_ever:
            with pytest.raises(OSError, match="No space"):
                faulty.create("a")
        else:
            faulty.create("a")


def test_a_short_write_gets_half_of_its_bytes_down():
    inner = MemoryVfs()
    file = ErrorVfs(inner, FailAt(1, errno.ENOSPC, short=True), kinds={"write"}).create("a")

    with pytest.raises(OSError, match="No space"):
        file.write(b"12345")

    assert inner.read("a") == b"12"


def test_only_the_chosen_kinds_are_counted():
    inner = MemoryVfs()
    faulty = ErrorVfs(inner, FailAt(1, errno.EIO), kinds={"read"})

    with pytest.raises(OSError, match="Input/output"):
        everything(faulty)

    assert inner.list("f") == ["c"]


def test_a_kill_stops_before_each_effect_and_half_way_through_each_write():
    states = []
    for kill_at in range(1, 13):
        inner = TraceVfs(MemoryVfs())
        with pytest.raises(Killed):
            everything(KillVfs(inner, kill_at, die))
        mutations = [operation.line() for operation in inner.operations if operation.kind in MUTATIONS]
        states.append(mutations[-1] if mutations else "")

    assert states == [
        "",
        "make_dirs f",
        "create f/a",
        "write f/a 5",
        "write f/a 10",
        "sync f/a",
        "truncate f/a 8",
        "link f/a -> f/b",
        "rename f/b -> f/c",
        "unlink f/a",
        "sync_dir f",
        "write f/c 1",
    ]
    counted = KillVfs(MemoryVfs(), 0, die)
    everything(counted)
    assert counted.operations == 12


def test_the_dead_stay_dead():
    inner = MemoryVfs()
    vfs = KillVfs(inner, 2, die)
    file = vfs.create("a")
    with pytest.raises(Killed):
        file.write(b"x")

    for call in (lambda: vfs.unlink("a"), lambda: file.write(b"y"), lambda: vfs.read("a"), file.sync):
        with pytest.raises(Killed):
            call()

    assert inner.read("a") == b""


def seconds_of(call, *arguments) -> float:
    begun = time.monotonic()
    call(*arguments)
    return time.monotonic() - begun


def test_a_slow_file_system_takes_its_time_over_syncs_alone():
    slow = SlowVfs(MemoryVfs(), sync_ms=30)

    assert everything(slow) == everything(MemoryVfs())
    file = slow.create("a")

    assert seconds_of(file.sync) >= 0.03
    assert seconds_of(slow.sync_dir, "") >= 0.03
    assert seconds_of(lambda: [file.write(b"x") for _ in range(20)]) < 0.03 * 20


def test_slow_syncs_at_once_take_as_long_as_one():
    slow = SlowVfs(MemoryVfs(), sync_ms=100)
    files = [slow.create(name) for name in "abcd"]
    threads = [threading.Thread(target=file.sync) for file in files]

    def all_at_once():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert 0.1 <= seconds_of(all_at_once) < 0.4


def test_a_slow_sync_that_fails_is_slow_too():
    slow = SlowVfs(ErrorVfs(MemoryVfs(), FailAt(1, errno.EIO), kinds={"sync"}), sync_ms=30)
    file = slow.create("a")

    begun = time.monotonic()
    with pytest.raises(OSError, match="Input/output"):
        file.sync()

    assert time.monotonic() - begun >= 0.03


def test_a_call_on_the_root_folder_prints_as_a_dot():
    assert Operation("list", "").line() == "list ."


def test_a_golden_file_is_compared_and_rewritten_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.delenv(REWRITE_VARIABLE, raising=False)
    with pytest.raises(AssertionError, match="missing"):
        assert_golden(tmp_path / "new" / "x.txt", "a\n")

    monkeypatch.setenv(REWRITE_VARIABLE, "1")
    assert_golden(tmp_path / "new" / "x.txt", "a\n")
    monkeypatch.delenv(REWRITE_VARIABLE)

    assert_golden(tmp_path / "new" / "x.txt", "a\n")
    with pytest.raises(AssertionError, match="differs"):
        assert_golden(tmp_path / "new" / "x.txt", "b\n")
