from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from mitoframe.drivers import vfs_os
from mitoframe.drivers.vfs_os import OsVfs

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@posix
def test_files_and_folders_are_private(tmp_path):
    before = os.umask(0)
    try:
        vfs = OsVfs(tmp_path / "root")
        vfs.make_dirs("f/g")
        vfs.create("f/a").close()
    finally:
        os.umask(before)

    for path in ("root", "root/f", "root/f/g"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "root/f/a").stat().st_mode) == 0o600


@posix
def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"outside")
    vfs = OsVfs(tmp_path / "root")
    vfs.make_dirs("")
    os.symlink(tmp_path / "secret", tmp_path / "root/a")

    for call in (vfs.read, vfs.append, vfs.create):
        with pytest.raises(OSError, match=r"symbolic links|exists"):
            call("a")

    assert (tmp_path / "secret").read_bytes() == b"outside"


@posix
@pytest.mark.timeout(10)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a")

    with pytest.raises(OSError, match=r"not a regular file|No such device"):
        OsVfs(tmp_path).read("a")
    with pytest.raises(OSError, match=r"not a regular file|No such device"):
        OsVfs(tmp_path).append("a")


def test_make_dirs_makes_the_root_and_syncs_every_parent(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(vfs_os, "_sync_folder", synced.append)
    vfs = OsVfs(tmp_path / "x" / "root")

    vfs.make_dirs("f/g")

    expected = [tmp_path, tmp_path / "x", tmp_path / "x/root", tmp_path / "x/root/f"]
    assert synced == [str(folder) for folder in expected]
    synced.clear()
    vfs.make_dirs("f/g")
    assert synced == [str(folder) for folder in expected[2:]], "who made them may have died before it could sync them"


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    write, sizes = os.write, []

    def write_a_little(descriptor, data):
        sizes.append(len(data))
        return write(descriptor, data[:3])

    monkeypatch.setattr(os, "write", write_a_little)
    file = OsVfs(tmp_path).create("a")
    file.write(b"abcdefgh")
    file.close()

    assert sizes == [8, 5, 2]
    assert OsVfs(tmp_path).read("a") == b"abcdefgh"


def test_a_write_that_takes_nothing_is_an_error_and_no_endless_loop(tmp_path, monkeypatch):
    file = OsVfs(tmp_path).create("a")
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)

    with pytest.raises(OSError, match="took none"):
        file.write(b"a")
    file.close()


def test_a_truncated_file_that_is_extended_is_a_programmers_mistake(tmp_path):
    file = OsVfs(tmp_path).create("a")

    with pytest.raises(AssertionError, match="never extended"):
        file.truncate(1)
    file.close()


@posix
def test_no_descriptor_is_leaked(tmp_path):
    vfs = OsVfs(tmp_path)
    vfs.create("a").close()
    before = len(os.listdir("/dev/fd"))

    for _ in range(20):
        vfs.append("a").close()
        vfs.read("a")
        vfs.sync_dir("")
        vfs.lock("lock").release()
        with pytest.raises(FileExistsError):
            vfs.create("a")

    assert len(os.listdir("/dev/fd")) == before


LOCK_PROGRAM = textwrap.dedent("""
    import os, sys, time
    from mitoframe.drivers.vfs_os import OsVfs
    lock = OsVfs(sys.argv[1]).lock("lock")
    print("locked", flush=True)
    sys.stdin.read()
""")


def hold_lock(root):
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCK_PROGRAM, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"locked\n"
    return holder


@posix
def test_a_lock_of_another_process_is_respected_and_freed_when_it_is_killed(tmp_path):
    vfs = OsVfs(tmp_path)
    with hold_lock(tmp_path) as holder:
        with pytest.raises(BlockingIOError):
            vfs.lock("lock")

        holder.send_signal(signal.SIGKILL)
        holder.wait()

    vfs.lock("lock").release()


@posix
def test_a_forked_child_neither_releases_the_lock_nor_keeps_it(tmp_path):
    program = textwrap.dedent("""
        import os, sys
        from mitoframe.drivers.vfs_os import OsVfs
        vfs = OsVfs(sys.argv[1])
        lock = vfs.lock("lock")
        read_end, write_end = os.pipe()
        if os.fork() == 0:
            lock.release()
            try:
                OsVfs(sys.argv[1]).lock("lock")
            except BlockingIOError:
                print("child is refused", flush=True)
            os.write(write_end, b"x")
            os.close(write_end)
            import time
            while os.getppid() != 1 and not os.path.exists(sys.argv[1] + "/stop"):
                time.sleep(0.01)
            os._exit(0)
        os.read(read_end, 1)
        try:
            OsVfs(sys.argv[1]).lock("lock")
        except BlockingIOError:
            print("parent still holds it", flush=True)
        lock.release()
        vfs.lock("lock").release()
        print("freed though the child lives", flush=True)
        open(sys.argv[1] + "/stop", "w").close()
        os.wait()
    """)
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )

    assert result.stdout.splitlines() == ["child is refused", "parent still holds it", "freed though the child lives"]


@pytest.mark.skipif(not hasattr(os, "pread"), reason="this system reads otherwise")
def test_a_system_that_reads_less_than_was_asked_for_is_asked_again(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, length, start: pread(descriptor, min(length, 7), start))

    vfs = OsVfs(str(tmp_path))

    assert vfs.read("file") == bytes(range(100))
    assert vfs.read_ranges("file", [(90, 20), (3, 9), (200, 5)]) == [bytes(range(90, 100)), bytes(range(3, 12)), b""]
