"""The model of a power loss: what must survive, what may, and what never can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.testing.vfs_memory import BLOCK_SIZE_BYTES, MemoryVfs


def put(vfs, path, data, *, sync=True):
    file = vfs.create(path)
    file.write(data)
    if sync:
        file.sync()
    return file


def chances(vfs, count=200):
    return [vfs.crash(np.random.default_rng(seed), keep="random") for seed in range(count)]


def contents(vfs):
    return {name: vfs.read(name) for name in vfs.list("")}


def test_a_synced_file_is_lost_if_its_name_was_not():
    vfs = MemoryVfs()
    put(vfs, "a", b"data")

    assert vfs.crash().list("") == []
    assert contents(vfs.crash(keep="all")) == {"a": b"data"}
    assert {tuple(image.list("")) for image in chances(vfs)} == {(), ("a",)}


def test_a_synced_name_of_an_unsynced_file_is_an_empty_or_torn_file():
    vfs = MemoryVfs()
    put(vfs, "a", b"x" * 600, sync=False)
    vfs.sync_dir("")

    assert contents(vfs.crash()) == {"a": b""}
    found = {image.read("a") for image in chances(vfs)}
    assert {b"", b"x" * 600, bytes(600), b"x" * 512 + bytes(88), bytes(512) + b"x" * 88} <= found


def test_what_was_synced_is_never_torn():
    vfs = MemoryVfs()
    file = put(vfs, "a", b"s" * 700)
    vfs.sync_dir("")
    file.write(b"u" * 1500)

    for image in chances(vfs):
        found = image.read("a")
        assert found.startswith(b"s" * 700)
        blocks = [found[start : start + BLOCK_SIZE_BYTES] for start in range(1024, len(found), BLOCK_SIZE_BYTES)]
        assert all(set(block) in ({0}, {ord("u")}) for block in blocks)


def test_an_unsynced_cut_may_be_lost_and_brings_the_old_bytes_back():
    vfs = MemoryVfs()
    file = put(vfs, "a", b"old bytes")
    vfs.sync_dir("")
    file.truncate(3)

    assert vfs.crash().read("a") == b"old bytes"
    assert vfs.crash(keep="all").read("a") == b"old"
    assert {b"old", b"old bytes"} <= {image.read("a") for image in chances(vfs)}


def test_bytes_written_over_a_cut_are_old_or_new_per_block():
    vfs = MemoryVfs()
    file = put(vfs, "a", b"o" * 1024)
    vfs.sync_dir("")
    file.truncate(0)
    file.write(b"n" * 1024)

    found = {image.read("a") for image in chances(vfs)}

    assert {b"o" * 1024, b"n" * 1024, b"o" * 512 + b"n" * 512, b"n" * 512 + b"o" * 512} <= found


def test_each_unsynced_name_is_kept_or_lost_by_itself():
    vfs = MemoryVfs()
    put(vfs, "a", b"a")
    vfs.sync_dir("")
    vfs.link("a", "b")
    vfs.unlink("a")

    found = {tuple(image.list("")) for image in chances(vfs)}

    assert found == {("a",), ("b",), ("a", "b"), ()}


def test_a_rename_in_one_folder_is_one_step():
    vfs = MemoryVfs()
    put(vfs, "a", b"new")
    put(vfs, "b", b"old")
    vfs.sync_dir("")
    vfs.rename("a", "b")

    found = [contents(image) for image in chances(vfs)]

    assert all(image in ({"a": b"new", "b": b"old"}, {"b": b"new"}) for image in found)
    assert {len(image) for image in found} == {1, 2}


def test_a_rename_between_folders_is_two_steps():
    vfs = MemoryVfs()
    vfs.make_dirs("f")
    put(vfs, "a", b"x")
    vfs.sync_dir("")
    vfs.rename("a", "f/a")

    found = {("a" in image.list(""), image.list("f") == ["a"]) for image in chances(vfs)}

    assert found == {(True, True), (True, False), (False, True), (False, False)}


def test_a_replaced_name_is_one_of_its_states_in_order():
    vfs = MemoryVfs()
    for data in (b"1", b"2", b"3"):
        if "a" in vfs.list(""):
            vfs.unlink("a")
        put(vfs, "a", data)

    assert {image.read("a") if image.list("") else None for image in chances(vfs)} == {None, b"1", b"2", b"3"}


def test_two_names_of_one_file_stay_one_file():
    vfs = MemoryVfs()
    put(vfs, "a", b"x")
    vfs.link("a", "b")
    vfs.sync_dir("")

    for image in (vfs.crash(), vfs.killed()):
        file = image.append("a")
        file.write(b"y")
        assert image.read("b") == b"xy"
    assert vfs.read("b") == b"x"


def test_folders_survive_and_locks_do_not():
    vfs = MemoryVfs()
    vfs.make_dirs("f/g")
    vfs.lock("lock")

    for image in (vfs.crash(), vfs.killed()):
        assert image.list("f") == ["g"]
        image.lock("lock").release()
    with pytest.raises(BlockingIOError):
        vfs.lock("lock")


def test_only_a_power_loss_changes_the_boot():
    vfs = MemoryVfs()

    assert vfs.killed().boot_id() == vfs.boot_id() != vfs.crash().boot_id()
    assert vfs.crash().crash().boot_id() != vfs.crash().boot_id()


def test_what_a_killed_process_left_unsynced_can_still_be_lost():
    vfs = MemoryVfs()
    put(vfs, "a", b"x", sync=False)

    second = vfs.killed()
    assert contents(second) == {"a": b"x"}
    assert contents(second.crash()) == {}
    second.append("a").sync()
    second.sync_dir("")

    assert contents(second.crash()) == {"a": b"x"}


def test_an_image_does_not_change_with_the_original():
    vfs = MemoryVfs()
    file = put(vfs, "a", b"x")
    vfs.sync_dir("")
    images = [vfs.crash(), vfs.crash(keep="all"), vfs.killed()]

    file.write(b"y")
    vfs.unlink("a")

    assert all(contents(image) == {"a": b"x"} for image in images)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 1500)),
        st.tuples(st.just("truncate"), st.integers(0, 1500)),
        st.tuples(st.just("sync"), st.none()),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(steps=steps, seed=st.integers(0, 2**32))
def test_a_torn_file_keeps_its_untouched_bytes_and_holds_only_what_was_there_or_zeros(steps, seed):
    vfs = MemoryVfs()
    file = vfs.create("a")
    vfs.sync_dir("")
    now, synced, untouched = b"", b"", 0
    for number, (step, argument) in enumerate(steps, start=1):
        if step == "write":
            file.write(bytes([number]) * argument)
            now += bytes([number]) * argument
        elif step == "truncate":
            file.truncate(min(argument, len(now)))
            now = now[:argument]
            untouched = min(untouched, len(now))
        else:
            file.sync()
            synced, untouched = now, len(now)

    found = vfs.crash(np.random.default_rng(seed), keep="random").read("a")

    assert vfs.crash().read("a") == synced
    assert vfs.crash(keep="all").read("a") == now
    assert found[:untouched] == now[:untouched]
    assert untouched <= len(found) <= max(len(now), len(synced))
    for offset, byte in enumerate(found):
        assert byte in (0, *now[offset : offset + 1], *synced[offset : offset + 1])
