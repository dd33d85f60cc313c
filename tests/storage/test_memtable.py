from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import Row, batch_of, delete, metadata_of, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.model.batch import Batch
from mitoframe.model.edit import WriteKey
from mitoframe.model.ids import EntryId, Sequence
from mitoframe.storage import memtable as module
from mitoframe.storage.memtable import (
    PARTITIONS_MAX,
    PARTS_MERGED,
    WRITE_KEY_BYTES,
    Memtable,
    MemtableLimits,
    MemtableStats,
)

METADATA = metadata_of()
INT64 = st.integers(-(2**63), 2**63 - 1)
EVERYTHING = Sequence(2**62)

unnumbered = st.tuples(st.booleans(), st.integers(-30, 30), st.sampled_from([None, "a", "b"]), st.none() | INT64)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.lists(unnumbered, min_size=1, max_size=9)),
        st.tuples(st.just("tidy"), st.booleans()),
        st.tuples(st.just("read"), st.integers(0, 80)),
    ),
    max_size=14,
)
widths = st.none() | st.integers(1, 40)
dedups = st.sampled_from(["last", "merge", "none"])


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every limit so small that a few rows go through all forms of parts."""
    monkeypatch.setattr(module, "OPEN_BATCH_ROWS_MAX", 5)
    monkeypatch.setattr(module, "OPEN_PART_ROWS", 8)
    monkeypatch.setattr(module, "PARTS_MERGED", 2)
    monkeypatch.setattr(module, "PARTITIONS_MAX", 4)


def versions(rows: list[Row], visible: int = EVERYTHING) -> list[Row]:
    """All versions up to a sequence, in the order of sorted rows."""
    return sorted((row for row in rows if row.sequence <= visible), key=lambda row: (row.key, -row.sequence))


def found(batch: Batch | None) -> list[Row]:
    return [] if batch is None else rows_of(batch)


def numbered(drawn: list[Any], first: int) -> list[Row]:
    return [
        put(sequence, time, host, cpu) if is_put else delete(sequence, time, host)
        for sequence, (is_put, time, host, cpu) in enumerate(drawn, start=first)
    ]


def reachable(thing: Any) -> Iterator[tuple[int, int]]:
    """Yield all buffers that a thing holds, by looking into everything it consists of."""
    if isinstance(thing, np.ndarray):
        yield thing.ctypes.data, thing.nbytes
    elif isinstance(thing, pa.Buffer):
        yield thing.address, thing.size
    elif isinstance(thing, pa.RecordBatch):
        for column in thing.columns:
            yield from ((buffer.address, buffer.size) for buffer in column.buffers() if buffer is not None)
    elif type(thing).__module__.startswith(("mitoframe.storage", "mitoframe.model.batch", "builtins")):
        for part in gc.get_referents(thing) if not isinstance(thing, type | str | int) else ():
            yield from reachable(part)


def held_bytes(memtable: Memtable) -> int:
    return sum(dict(reachable(memtable._layout)).values())


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("encode_rows", [8, 1000])
@settings(deadline=None, max_examples=80)
@given(steps=steps, width=widths, dedup=dedups)
def test_every_version_can_be_read_whatever_came_before(encode_rows, steps, width, dedup):
    limits = MemtableLimits(encode_rows=encode_rows, row_group_rows=3)
    memtable, known = Memtable(1, dedup=dedup, width=width, limits=limits), []

    for entry, (step, value) in enumerate(steps, start=1):
        if step == "insert":
            rows = numbered(value, 2 + len(known))
            memtable.insert(batch_of(METADATA, rows), EntryId(entry))
            known += rows
        elif step == "tidy":
            memtable.tidy(METADATA if value else None)
            assert not memtable.work_due()
        else:
            assert found(memtable.sorted(Sequence(value))) == versions(known, value)
        assert memtable.stats.size_bytes == held_bytes(memtable)
        assert memtable.stats.part_count >= len(memtable.ranges())

    assert found(memtable.sorted(EVERYTHING)) == versions(known)
    ranges = memtable.ranges()
    for each in ranges:
        inside = [row for row in known if each.stats.min_time <= row.time <= each.stats.max_time]
        assert found(each.sorted(EVERYTHING)) == versions(inside)
        assert versions([row for batch in each.batches() for row in rows_of(batch)]) == versions(inside)
        assert (each.stats.row_count, each.stats.delete_count) == (
            len(inside),
            sum(row.op_type == 0 for row in inside),
        )
        assert (each.stats.min_time, each.stats.max_time) == (
            min(row.time for row in inside),
            max(row.time for row in inside),
        )
        assert (each.stats.min_sequence, each.stats.max_sequence) == (
            min(row.sequence for row in inside),
            max(row.sequence for row in inside),
        )
    assert sum(each.stats.row_count for each in ranges) == len(known)
    assert memtable.stats.size_bytes == held_bytes(memtable)


@settings(deadline=None)
@given(st.lists(st.lists(unnumbered, min_size=1, max_size=5), max_size=6), widths)
def test_statistics_are_those_of_all_rows(drawn, width):
    memtable, known = Memtable(1, width=width), []

    for entry, part in enumerate(drawn, start=1):
        rows = numbered(part, 1 + len(known))
        memtable.insert(batch_of(METADATA, rows), EntryId(entry), at_ms=entry * 100)
        known += rows

    stats = memtable.stats
    assert stats.row_count == len(known)
    assert stats.delete_count == sum(row.op_type == 0 for row in known)
    assert stats.min_time == min((row.time for row in known), default=None)
    assert stats.max_time == max((row.time for row in known), default=None)
    assert stats.min_sequence == min((row.sequence for row in known), default=0)
    assert stats.max_sequence == max((row.sequence for row in known), default=0)
    assert len({row.tags for row in known}) <= stats.series_count <= len(known)
    assert stats.first_at_ms == (100 if known else None)
    assert memtable.last_entry_id == len(drawn)
    assert memtable.is_empty() == (not known)


def test_an_empty_memtable_has_nothing_to_show():
    memtable = Memtable(7, width=10)

    assert memtable.stats == MemtableStats()
    assert memtable.ranges() == ()
    assert memtable.sorted(Sequence(5)) is None
    assert not memtable.work_due()


def described(memtable: Memtable) -> str:
    lines = [f"width {memtable.width}"]
    for each in memtable.ranges():
        rows = versions([row for batch in each.batches() for row in rows_of(batch)])
        lines.append(
            " ".join([f"[{each.stats.min_time}, {each.stats.max_time}]", *(str(row.sequence) for row in rows)])
        )
    return "\n".join(lines)


def test_rows_fall_into_windows_that_are_aligned_before_1970_too():
    memtable = Memtable(1, width=10)

    memtable.insert(
        batch_of(METADATA, [put(n, time) for n, time in enumerate([9, -1, 10, 0, -10, 25, -11], 1)]), EntryId(1)
    )

    assert described(memtable) == "width 10\n[-11, -11] 7\n[-10, -1] 5 2\n[0, 9] 4 1\n[10, 10] 3\n[25, 25] 6"


@pytest.mark.usefixtures("small_steps")
def test_windows_grow_where_there_would_be_too_many():
    memtable = Memtable(1, width=10)
    memtable.insert(batch_of(METADATA, [put(n, time) for n, time in enumerate([-5, 5, 15, 25], 1)]), EntryId(1))
    assert described(memtable) == "width 10\n[-5, -5] 1\n[5, 5] 2\n[15, 15] 3\n[25, 25] 4"

    memtable.insert(batch_of(METADATA, [put(5, 35), put(6, 45)]), EntryId(2))

    assert described(memtable) == "width 20\n[-5, -5] 1\n[5, 15] 2 3\n[25, 35] 4 5\n[45, 45] 6"


@pytest.mark.usefixtures("small_steps")
def test_a_single_later_window_may_be_the_one_too_many():
    memtable = Memtable(1, width=10)
    memtable.insert(batch_of(METADATA, [put(n, time) for n, time in enumerate([0, 10, 20, 30], 1)]), EntryId(1))

    memtable.insert(batch_of(METADATA, [put(5, 1000)]), EntryId(2))

    memtable.insert(batch_of(METADATA, [put(6, 1005)]), EntryId(3))

    assert described(memtable) == "width 20\n[0, 10] 1 2\n[20, 30] 3 4\n[1000, 1005] 5 6"


def test_all_of_time_fits():
    memtable = Memtable(1, width=1)
    times = [int(time) for time in np.linspace(-(2**63) + 1, 2**63 - 2000, 500)]

    memtable.insert(batch_of(METADATA, [put(n, time) for n, time in enumerate(times, 1)]), EntryId(1))

    assert len(memtable.ranges()) <= PARTITIONS_MAX
    assert [row.time for row in found(memtable.sorted(EVERYTHING))] == sorted(times)


def test_a_window_may_be_wider_than_all_of_time():
    memtable = Memtable(1, width=2**70)

    memtable.insert(batch_of(METADATA, [put(1, -5), put(2, 5)]), EntryId(1))

    assert [row.sequence for row in found(memtable.sorted(EVERYTHING))] == [1, 2]


def test_without_a_width_all_rows_are_in_one_partition():
    memtable = Memtable(1)

    memtable.insert(batch_of(METADATA, [put(1, -(2**60)), put(2, 2**60)]), EntryId(1))

    assert described(memtable) == f"width None\n[{-(2**60)}, {2**60}] 1 2"


def large_batch(first: int, rows: int = 2000, *, late: bool = False) -> Batch:
    times = range(rows, 0, -1) if late else range(rows)
    return batch_of(METADATA, [put(first + n, time, cpu=first) for n, time in enumerate(times)])


def test_a_batch_within_a_window_is_not_copied():
    batch = large_batch(1)
    memtable = Memtable(1, width=10_000)

    memtable.insert(batch, EntryId(1))

    assert memtable.ranges()[0].batches()[0] is batch


def test_rows_that_lie_side_by_side_are_not_copied_when_a_batch_is_split():
    batch = large_batch(1)
    memtable = Memtable(1, width=1500)

    memtable.insert(batch, EntryId(1))

    pieces = [each.batches()[0] for each in memtable.ranges()]
    assert [len(piece) for piece in pieces] == [1500, 500]
    assert all(np.shares_memory(piece.times, batch.times) for piece in pieces)
    assert memtable.stats.size_bytes == batch.size_bytes


def test_a_piece_of_a_batch_knows_only_the_series_it_has():
    memtable = Memtable(1, width=10)

    memtable.insert(batch_of(METADATA, [put(1, 5, "b"), put(2, 15, "a"), put(3, 6, "c")]), EntryId(1))

    assert [batch.series.column(0).to_pylist() for each in memtable.ranges() for batch in each.batches()] == [
        ["b", "c"],
        ["a"],
    ]


def test_small_batches_gather_and_large_ones_stand_alone():
    memtable = Memtable(1)

    for n in range(1, 41):
        memtable.insert(large_batch(1 + 1000 * n, 1000), EntryId(n))
    memtable.insert(large_batch(100_000, 1024), EntryId(41))

    assert memtable.stats.part_count == 40 // 5 + 1


def test_the_sorted_form_takes_the_place_of_what_it_was_made_of():
    memtable = Memtable(1)
    memtable.insert(large_batch(1, late=True), EntryId(1))
    memtable.insert(large_batch(5000, late=True), EntryId(2))
    before = memtable.stats.size_bytes

    run = memtable.sorted(EVERYTHING)

    assert (memtable.stats.part_count, memtable.stats.series_count) == (1, 1)
    assert memtable.sorted(EVERYTHING) is run
    assert memtable.stats.size_bytes == held_bytes(memtable) <= before


def test_the_sorted_form_for_an_older_reader_is_kept_until_rows_come():
    memtable = Memtable(1)
    memtable.insert(large_batch(1), EntryId(1))
    before = memtable.stats.size_bytes

    run = memtable.sorted(Sequence(700))

    assert memtable.sorted(Sequence(700)) is run
    assert memtable.stats.size_bytes > before
    memtable.insert(large_batch(5000), EntryId(2))
    assert memtable.sorted(Sequence(700)) is not run
    assert found(memtable.sorted(Sequence(700))) == rows_of(run)


def test_a_reader_merges_what_it_can_see_even_while_newer_rows_are_there():
    memtable = Memtable(1)
    for n in range(4):
        memtable.insert(large_batch(1 + 5000 * n), EntryId(n + 1))

    memtable.sorted(Sequence(14_999))

    assert memtable.stats.part_count == 2


def piled_up(batches: int, rows: int = 1100, **known: Any) -> Memtable:
    memtable = Memtable(1, **known)
    for n in range(batches):
        memtable.insert(large_batch(1 + rows * n, rows, late=bool(n % 2)), EntryId(n + 1))
    return memtable


def test_merging_is_due_when_enough_parts_of_one_size_are_there():
    memtable = piled_up(PARTS_MERGED - 1)
    memtable.insert(large_batch(500_000, 20_000), EntryId(100))
    assert not memtable.work_due()
    memtable.insert(large_batch(600_000, 1100), EntryId(101))
    assert memtable.work_due()

    memtable.tidy()

    assert not memtable.work_due()
    assert memtable.stats.part_count == 2


def test_a_large_merged_part_is_encoded_and_takes_less_memory():
    limits = MemtableLimits(encode_rows=1100 * PARTS_MERGED)
    plain, encoded = piled_up(PARTS_MERGED), piled_up(PARTS_MERGED, limits=limits)

    encoded.tidy(METADATA)

    known = encoded.ranges()[0].encoded()
    assert known is not None
    assert (known.sst.row_count, known.sst.schema_version) == (1101, METADATA.schema_version)
    assert known.superseded is not None
    assert len(known.superseded) == 1100 * PARTS_MERGED - 1101
    assert encoded.stats.size_bytes == held_bytes(encoded)
    for visible in (300, 5000, EVERYTHING):
        assert found(encoded.sorted(Sequence(visible))) == found(plain.sorted(Sequence(visible)))


def test_parts_are_encoded_for_their_bytes_too():
    memtable = piled_up(PARTS_MERGED, limits=MemtableLimits(encode_bytes=1))

    memtable.tidy(METADATA)

    assert memtable.ranges()[0].encoded() is not None


def test_in_append_mode_every_row_is_encoded():
    memtable = piled_up(PARTS_MERGED, dedup="none", limits=MemtableLimits(encode_rows=1))

    memtable.tidy(METADATA)

    known = memtable.ranges()[0].encoded()
    assert known is not None
    assert (known.sst.row_count, known.superseded) == (1100 * PARTS_MERGED, None)


@pytest.mark.parametrize(("dedup", "metadata"), [("merge", METADATA), ("last", None)])
def test_rows_are_not_encoded_where_that_gains_nothing_or_the_schema_is_not_known(dedup, metadata):
    memtable = piled_up(PARTS_MERGED, dedup=dedup, limits=MemtableLimits(encode_rows=1))

    memtable.tidy(metadata)

    assert memtable.stats.part_count == 1
    assert memtable.ranges()[0].encoded() is None


def test_rows_beside_an_encoded_part_are_not_in_the_form_of_an_sst():
    memtable = piled_up(PARTS_MERGED, limits=MemtableLimits(encode_rows=1))
    memtable.tidy(METADATA)
    memtable.insert(large_batch(1_000_000, 3), EntryId(100))

    assert memtable.ranges()[0].encoded() is None
    assert len(found(memtable.sorted(EVERYTHING))) == 1100 * PARTS_MERGED + 3


def test_a_range_shows_the_rows_of_its_moment_after_windows_grew():
    memtable = Memtable(1, width=10)
    memtable.insert(batch_of(METADATA, [put(1, 5), put(2, 15)]), EntryId(1))
    first, second = memtable.ranges()

    memtable.insert(batch_of(METADATA, [put(3 + n, 10 * n) for n in range(100)]), EntryId(2))

    assert memtable.width == 20
    assert found(first.sorted(Sequence(2))) == [put(1, 5)]
    assert found(second.sorted(Sequence(2))) == [put(2, 15)]
    assert memtable.stats.size_bytes == held_bytes(memtable)


def test_write_keys_are_kept_and_counted():
    memtable = Memtable(1)
    key = WriteKey(key="k", first_sequence=Sequence(1), row_count=1, min_time=5, max_time=5, at_ms=70)

    memtable.insert(batch_of(METADATA, [put(1, 5)]), EntryId(1), at_ms=70, key=key)

    assert memtable.write_keys == (key,)
    assert memtable.stats.size_bytes == held_bytes(memtable) + WRITE_KEY_BYTES


def test_a_frozen_memtable_takes_no_rows_and_is_read_on():
    memtable = piled_up(PARTS_MERGED)

    memtable.freeze()

    assert not memtable.work_due()
    memtable.tidy()
    assert memtable.stats.part_count == PARTS_MERGED
    assert len(found(memtable.sorted(EVERYTHING))) == 1100 * PARTS_MERGED
    with pytest.raises(AssertionError):
        memtable.insert(batch_of(METADATA, [put(100_000, 5)]), EntryId(100))


def test_a_fork_is_empty_and_of_the_same_kind():
    limits = MemtableLimits(encode_rows=7)
    memtable = piled_up(2, dedup="merge", width=10, limits=limits)

    fork = memtable.fork(9, 50)

    assert (fork.memtable_id, fork.dedup, fork.width, fork.limits) == (9, "merge", 50, limits)
    assert fork.is_empty()


def test_rows_that_are_not_newer_than_all_that_are_here_are_a_programmers_mistake():
    memtable = Memtable(1)
    memtable.insert(batch_of(METADATA, [put(1, 1), put(2, 2)]), EntryId(1))

    with pytest.raises(AssertionError):
        memtable.insert(batch_of(METADATA, [put(2, 9)]), EntryId(2))
    with pytest.raises(AssertionError):
        memtable.insert(batch_of(METADATA, []), EntryId(2))


def test_a_reader_that_a_tidier_overtook_leaves_nothing_behind():
    memtable = piled_up(PARTS_MERGED)
    memtable.insert(large_batch(500_000, 3), EntryId(100))
    (partition,) = memtable._layout.partitions.values()
    parts = partition.all_parts
    merged = module._all_merged(parts)
    memtable.tidy()

    late = memtable._exchange(parts, merged)

    assert late is None
    assert memtable.stats.part_count == 2
    assert found(memtable.sorted(EVERYTHING)) == rows_of(merged.batches[0])
    assert memtable.stats.size_bytes == held_bytes(memtable)


def test_encoded_parts_are_left_alone_however_many_there_are(monkeypatch):
    monkeypatch.setattr(module, "PARTS_MERGED", 2)
    memtable = piled_up(2, limits=MemtableLimits(encode_rows=1))
    memtable.tidy(METADATA)
    for n in (3, 4):
        memtable.insert(large_batch(n * 10_000, 1100), EntryId(n))

    memtable.tidy(METADATA)

    assert not memtable.work_due()
    assert memtable.stats.part_count == 2
    assert len(found(memtable.sorted(EVERYTHING))) == 4400


def test_rows_that_came_into_the_open_part_meanwhile_outlive_an_exchange():
    memtable = Memtable(1)
    memtable.insert(large_batch(1, 3), EntryId(1))
    (partition,) = memtable._layout.partitions.values()
    merged = module._all_merged(partition.all_parts)
    memtable.insert(large_batch(10, 4), EntryId(2))

    memtable._exchange(partition.all_parts, merged)

    assert memtable.stats.part_count == 2
    assert sorted(row.sequence for row in found(memtable.sorted(EVERYTHING))) == [1, 2, 3, 10, 11, 12, 13]
    assert memtable.stats.size_bytes == held_bytes(memtable)


@pytest.mark.parametrize("dedup", ["last", "merge"])
def test_one_inserts_one_tidies_and_two_read_at_once(dedup, monkeypatch):
    monkeypatch.setattr(module, "PARTS_MERGED", 4)
    memtable = Memtable(1, dedup=dedup, width=700, limits=MemtableLimits(encode_rows=3000))
    batches = [large_batch(1 + 1100 * n, 1100 if n % 3 else 40, late=bool(n % 2)) for n in range(50)]
    published, done = [Sequence(0)], Event()

    def repeat(work: Callable[[], object]) -> None:
        while not done.is_set():
            work()

    def read() -> None:
        visible = published[0]
        wanted = sum(len(batch) for batch in batches if int(batch.sequences[0]) <= visible)
        runs = [run for each in memtable.ranges() if (run := each.sorted(visible)) is not None]
        assert sum(map(len, runs)) == wanted
        assert all(int(run.sequences.max()) <= visible for run in runs)

    with ThreadPoolExecutor() as threads:
        work = [threads.submit(repeat, each) for each in (read, read, lambda: memtable.tidy(METADATA))]
        for number, batch in enumerate(batches, start=1):
            memtable.insert(batch, EntryId(number))
            published[0] = Sequence(int(batch.sequences[-1]))
        done.set()
        for each in work:
            each.result()

    assert found(memtable.sorted(EVERYTHING)) == versions([row for batch in batches for row in rows_of(batch)])
    assert memtable.stats.size_bytes == held_bytes(memtable)
    assert memtable.stats.row_count == sum(map(len, batches))


def test_a_buffer_that_two_batches_share_is_counted_once():
    batch = large_batch(1, 100)
    later = replace(batch, sequences=batch.sequences + np.uint64(1000))
    memtable = Memtable(1)

    memtable.insert(batch, EntryId(1))
    memtable.insert(later, EntryId(2))

    assert memtable.stats.size_bytes == batch.size_bytes + later.sequences.nbytes
