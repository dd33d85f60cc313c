"""Outputs of a task: together they are the merge, whatever it is cut into and whoever makes them, or they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import DELETE, REGION, Row, batch_of, file_id_of, metadata_of, put, rows_of, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import HOUR_MS, Remembered, carry_out, modes, steps
from truth import METADATA, seen

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs import outputs
from mitoframe.jobs.compact import compact_task
from mitoframe.jobs.outputs import OUTPUTS_MAX, extents_of, output_memory_bytes
from mitoframe.jobs.tasks import CompactionTask
from mitoframe.model.batch import Batch
from mitoframe.model.errors import BusyError, ConflictError, CorruptionError, DiskFullError, UnavailableError
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.options import Dedup
from mitoframe.model.schema import RegionMetadata
from mitoframe.model.timerange import TimeRange
from mitoframe.read.merging import FilesToMerge
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

TIME_MAX_HERE = 5
facts = st.tuples(
    st.sampled_from([None, "a", "b", "c"]),
    st.integers(0, TIME_MAX_HERE),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["", "x"]),
    st.booleans(),
)
files_of_facts = st.lists(st.lists(facts, min_size=1, max_size=12), min_size=1, max_size=4)


def stored(
    store: MemoryObjectStore, metadata: RegionMetadata, batch: Batch, name: str, row_group_rows: int, dedup: Dedup
) -> FileMeta:
    return write_sst(
        store,
        metadata,
        sort_batches([batch], dedup),
        file_id=file_id_of(name),
        level=0,
        row_group_rows=row_group_rows,
        created_ms=0,
    )


def task_of(inputs: list[FileMeta], **known: Any) -> CompactionTask:
    return CompactionTask(**{"window_start": 0, "inputs": tuple(inputs), "drop_deletes": True} | known)


def compact(
    store: MemoryObjectStore, task: CompactionTask, metadata: RegionMetadata = METADATA, **known: Any
) -> tuple[FileMeta, ...]:
    names = iter(range(1, 10_000))
    asked: dict[str, Any] = {
        "dedup": "last",
        "store": store,
        "reader": SstReader(store),
        "new_file_id": lambda: FileId(f"{next(names):032x}"),
        "row_group_rows": 500,
        "now_ms": 9000,
    }
    return compact_task(metadata, task, **asked | known)


def rows_in(store: MemoryObjectStore, file: FileMeta, metadata: RegionMetadata = METADATA) -> list[Row]:
    names = [field.name for field in metadata.fields]
    return rows_of(SstReader(store).read(metadata, file, range(file.row_group_count), names))


def listed(store: MemoryObjectStore) -> list[str]:
    return [item.key for item in store.list(sst_folder(REGION))]


# --- what is in them ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=70)
@given(
    drawn=files_of_facts,
    dedup=st.sampled_from(["last", "merge", "none"]),
    drop_deletes=st.booleans(),
    input_rows=st.integers(1, 5),
    output_rows=st.integers(1, 5),
    size_max_bytes=st.sampled_from([None, 1, 400, 2000]),
    cuts=st.lists(st.integers(1, TIME_MAX_HERE), max_size=2, unique=True),
    held=st.integers(1, 20),
    data=st.data(),
)
def test_outputs_hold_what_brute_force_leaves_however_they_are_cut(
    drawn: list[list[Any]],
    dedup: Dedup,
    drop_deletes: bool,
    input_rows: int,
    output_rows: int,
    size_max_bytes: int | None,
    cuts: list[int],
    held: int,
    data: st.DataObject,
) -> None:
    store = MemoryObjectStore()
    numbers = iter(data.draw(st.permutations(range(100, 100 + sum(map(len, drawn))))))
    parts = [
        [
            Row(next(numbers), time, (host,), (None, None), DELETE)
            if is_deleted and dedup != "none"
            else Row(next(numbers), time, (host,), (cpu, note))
            for host, time, cpu, note, is_deleted in part
        ]
        for part in drawn
    ]
    inputs = [
        stored(store, METADATA, batch_of(METADATA, rows), "abcd"[number], input_rows, "none")
        for number, rows in enumerate(parts)
    ]
    before = {key: store.get(key) for key in listed(store)}
    edges = [0, *sorted(cuts), TIME_MAX_HERE + 1]
    windows = tuple(TimeRange(*span) for span in pairwise(edges)) if cuts else ()
    task = task_of(inputs, drop_deletes=drop_deletes, output_size_max_bytes=size_max_bytes, output_windows=windows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "ROWS_HELD", held)
        progress: list[int] = []
        made = compact(store, task, dedup=dedup, row_group_rows=output_rows, on_progress=progress.append)

    everything = [row for rows in parts for row in rows]
    found = [rows_in(store, file) for file in made]
    together = [row for rows in found for row in rows]
    assert seen(together, dedup) == seen(everything, dedup)
    # What lies below all of it, in files that are not merged, is seen or hidden as it was.
    older = [Row(n + 1, n % (TIME_MAX_HERE + 1), ("abc"[n % 3],), (8, "older")) for n in range(18)]
    if not drop_deletes:
        assert seen([*older, *together], dedup) == seen([*older, *everything], dedup)
    else:
        assert all(row.op_type is not DELETE for row in together)
    for file, rows in zip(made, found, strict=True):
        assert_describes(file, rows)
        assert sum(window.holds(file.min_time) and window.holds(file.max_time) for window in windows or [TimeRange()])
    keys = [(row.key, row.op_type) for row in together]
    assert dedup == "none" or len(set(keys)) == len(keys)
    assert all(rows == sorted(rows, key=lambda row: (row.key, -row.sequence)) for rows in found)
    assert {key: store.get(key) for key in before} == before
    assert progress[-1:] == [len(everything)]


def assert_describes(file: FileMeta, rows: list[Row]) -> None:
    """Compare what the manifest is to know of a file with its rows."""
    assert (file.level, file.created_ms, file.row_count) == (LEVEL_COMPACTED, 9000, len(rows))
    assert (file.min_time, file.max_time) == (min(row.time for row in rows), max(row.time for row in rows))
    assert (file.min_sequence, file.max_sequence) == (
        min(row.sequence for row in rows),
        max(row.sequence for row in rows),
    )
    assert file.delete_count == sum(row.op_type is DELETE for row in rows)


@settings(deadline=None, max_examples=60)
@given(modes, steps, st.sampled_from([1, 3000]), st.integers(1, 4))
def test_every_moment_reads_as_it_was_however_outputs_are_cut(
    dedup: Dedup, actions: list[Any], size_bytes: int, row_group_rows: int
) -> None:
    table = Remembered(dedup, window_ms=HOUR_MS, sst_size_bytes=size_bytes, row_group_rows=row_group_rows)

    carry_out(table, actions)
    table.compact()

    assert table.found() == table.expected()
    table.check_sequences()
    table.check_versions()


@pytest.mark.parametrize("tags", [{}, {"host": pa.string()}])
def test_a_table_may_have_no_tags_and_no_fields(tags: dict[str, pa.DataType]) -> None:
    store = MemoryObjectStore()
    bare = metadata_of(tags, {})
    host = ("a",) * len(tags)
    inputs = [
        stored(store, bare, batch_of(bare, [Row(n, n % 9, host, ()) for n in numbers]), name, 2, "last")
        for name, numbers in (("a", range(1, 20)), ("b", range(20, 40)))
    ]

    made = compact(store, task_of(inputs, output_size_max_bytes=inputs[0].size_bytes), bare)

    rows = [row for file in made for row in rows_in(store, file, bare)]
    assert rows == [Row(max(n for n in range(1, 40) if n % 9 == time), time, host, ()) for time in range(9)]


def test_rows_in_no_window_do_not_exist() -> None:
    store = MemoryObjectStore()
    inputs = [stored(store, METADATA, batch_of(METADATA, [Row(1, 1, ("a",), (1, None))]), "a", 2, "last")]

    assert compact(store, task_of(inputs, output_windows=(TimeRange(2, 9),))) == ()


def test_inputs_of_an_older_schema_and_of_a_backfill_are_fitted() -> None:
    store = MemoryObjectStore()
    older = metadata_of()
    newer = with_field(older, "load", pa.float64())
    first = stored(store, older, batch_of(older, [put(1, 1, cpu=5), put(2, 2, cpu=6)]), "a", 2, "last")
    backfilled = stored(store, newer, batch_of(newer, [Row(1, 2, ("a",), (7, 0.5))]), "b", 2, "last")
    placed = replace(backfilled, sequence_base=10, min_sequence=Sequence(11), max_sequence=Sequence(11))

    [made] = compact(store, task_of([first, placed]), newer)

    assert rows_in(store, made, newer) == [Row(1, 1, ("a",), (5, None)), Row(11, 2, ("a",), (7, 0.5))]
    assert (made.schema_version, made.sequence_base) == (newer.schema_version, 0)


# --- how they are cut -----------------------------------------------------------------------------------

WIDE = metadata_of(fields={"load": pa.float64()})


def random_rows(hosts: int, rows_each: int, first_sequence: int, seed: int) -> Batch:
    """Return rows that no packing makes smaller."""
    random = np.random.default_rng(seed)
    count = hosts * rows_each
    return Batch(
        series=pa.RecordBatch.from_arrays([pa.array([f"{n:03}" for n in range(hosts)])], names=["host"]),
        codes=np.repeat(np.arange(hosts, dtype=np.int32), rows_each),
        times=np.tile(np.arange(rows_each, dtype=np.int64) * 10 + seed, hosts),
        sequences=np.arange(first_sequence, first_sequence + count, dtype=np.uint64),
        op_types=np.ones(count, dtype=np.uint8),
        fields=pa.RecordBatch.from_arrays([pa.array(random.random(count))], names=["load"]),
    )


def two_files(store: MemoryObjectStore, hosts: int, rows_each: int) -> list[FileMeta]:
    return [
        stored(store, WIDE, random_rows(hosts, rows_each, 1 + 1_000_000 * n, n), "ab"[n], 1000, "last")
        for n in range(2)
    ]


def test_outputs_are_about_as_large_as_they_may_be_and_no_series_is_in_two() -> None:
    store = MemoryObjectStore()
    inputs = two_files(store, 40, 400)
    size_max_bytes = sum(file.size_bytes for file in inputs) // 5

    made = compact(store, task_of(inputs, output_size_max_bytes=size_max_bytes), WIDE, row_group_rows=1000)

    assert 5 <= len(made) <= 7
    assert all(file.size_bytes <= 1.05 * size_max_bytes for file in made)
    hosts = [{row.tags for row in rows_in(store, file, WIDE)} for file in made]
    assert sum(map(len, hosts)) == len(set.union(*hosts)) == 40
    assert [file.series_count for file in made] == list(map(len, hosts))
    assert all(max(before) < min(after) for before, after in pairwise(hosts))
    assert {file.created_ms for file in made} == {9000}
    # What the manifest says of tags is of the output's series alone.
    assert [file.leading_tags[0].minimum for file in made] == [min(each)[0] for each in hosts]


def test_an_output_rather_has_a_series_less_than_more_than_it_may_have() -> None:
    store = MemoryObjectStore()
    inputs = FilesToMerge(WIDE, two_files(store, 40, 400), SstReader(store))
    size_max_bytes = int(sum(file.size_bytes for file in inputs.files) * 5.9 / 40)

    extents = list(extents_of(inputs, task_of(list(inputs.files), output_size_max_bytes=size_max_bytes)))

    assert {extent.last - extent.first for extent in extents} == {5}


def test_a_series_that_is_too_long_is_cut_by_time() -> None:
    store = MemoryObjectStore()
    inputs = two_files(store, 1, 16_000)
    size_max_bytes = sum(file.size_bytes for file in inputs) // 4

    made = compact(store, task_of(inputs, output_size_max_bytes=size_max_bytes), WIDE, row_group_rows=1000)

    assert 4 <= len(made) <= 6
    assert all(file.size_bytes <= 1.3 * size_max_bytes for file in made)
    assert all(before.max_time < after.min_time for before, after in pairwise(made))
    assert sum(file.row_count for file in made) == 32_000


def test_there_are_never_more_outputs_than_can_be_handled() -> None:
    store = MemoryObjectStore()
    inputs = FilesToMerge(WIDE, two_files(store, 3000, 1), SstReader(store))

    extents = list(extents_of(inputs, task_of(list(inputs.files), output_size_max_bytes=1)))

    assert OUTPUTS_MAX / 3 < len(extents) <= OUTPUTS_MAX
    assert [extent.first for extent in extents[1:]] == [extent.last for extent in extents[:-1]]
    assert (extents[0].first, extents[-1].last) == (0, 3000)


def test_the_memory_for_an_output_does_not_depend_on_the_size_of_the_inputs() -> None:
    store, other = MemoryObjectStore(), MemoryObjectStore()
    small = FilesToMerge(WIDE, two_files(store, 2, 2000), SstReader(store))
    large = FilesToMerge(WIDE, two_files(other, 2, 40_000), SstReader(other))

    estimates = [output_memory_bytes(inputs, inputs.files, 100_000) for inputs in (small, large)]

    assert estimates[1] < 1.2 * estimates[0]
    assert output_memory_bytes(small, small.files, 1_000_000) > 2 * estimates[0]


# --- by whom, and what if not ---------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


def cut_in_eight(store: MemoryObjectStore) -> CompactionTask:
    inputs = two_files(store, 16, 100)
    return task_of(inputs, output_size_max_bytes=sum(file.size_bytes for file in inputs) // 6)


def test_helpers_make_the_same_outputs(store: MemoryObjectStore) -> None:
    task = cut_in_eight(store)
    alone = [rows_in(store, file, WIDE) for file in compact(store, task, WIDE)]

    with ThreadPoolExecutor(3) as pool:
        names = iter(range(20_000, 30_000))
        made = compact(
            store, task, WIDE, submit=pool.submit, helpers_max=3, new_file_id=lambda: FileId(f"{next(names):032x}")
        )

    assert [rows_in(store, file, WIDE) for file in made] == alone
    assert len(alone) > 4


def test_helpers_work_at_the_same_time(store: MemoryObjectStore) -> None:
    task, together = cut_in_eight(store), Barrier(2, timeout=20)
    names = iter(range(1, 10_000))
    waited: list[int] = []

    def new_file_id() -> FileId:
        name = next(names)
        if len(waited) < 2:
            waited.append(name)
            together.wait()
        return FileId(f"{name:032x}")

    with ThreadPoolExecutor(1) as pool:
        made = compact(store, task, WIDE, submit=pool.submit, helpers_max=1, new_file_id=new_file_id)

    assert len(made) > 4


def test_a_helper_that_never_comes_is_not_waited_for(store: MemoryObjectStore) -> None:
    never: list[Future[None]] = []

    def submit(_job: Callable[[], None]) -> Future[None]:
        never.append(Future())
        return never[-1]

    made = compact(store, cut_in_eight(store), WIDE, submit=submit, helpers_max=2)

    assert len(made) > 4
    assert [future.cancelled() for future in never] == [True, True]


def test_no_more_helpers_are_asked_than_memory_allows(store: MemoryObjectStore) -> None:
    def submit(_job: Callable[[], None]) -> Future[None]:
        raise AssertionError("there is no room for two")

    made = compact(store, cut_in_eight(store), WIDE, submit=submit, helpers_max=2, memory_max_bytes=1)

    assert len(made) > 4


def test_memory_is_asked_for_before_anything_is_read_and_given_back(store: MemoryObjectStore) -> None:
    asked: list[int] = []
    held: list[int] = []

    @contextmanager
    def reserve(size_bytes: int) -> Iterator[None]:
        asked.append(size_bytes)
        held.append(size_bytes)
        yield
        held.pop()

    task = cut_in_eight(store)
    progress: list[bool] = []

    compact(store, task, WIDE, reserve=reserve, on_progress=lambda _: progress.append(bool(held)))

    inputs = FilesToMerge(WIDE, task.inputs, SstReader(store))
    assert asked == [output_memory_bytes(inputs, inputs.files, 500)]
    assert all(progress)
    assert not held


def test_without_the_memory_nothing_is_stored(store: MemoryObjectStore) -> None:
    @contextmanager
    def reserve(_size_bytes: int) -> Iterator[None]:
        raise BusyError("there is none")
        yield

    task = cut_in_eight(store)
    before = listed(store)

    with pytest.raises(BusyError):
        compact(store, task, WIDE, reserve=reserve)

    assert listed(store) == before


class Full(MemoryObjectStore):
    """Has room for some more objects."""

    room = 10**6

    def put_if_absent(self, key: str, data: Any) -> None:
        if not self.room:
            raise DiskFullError("there is no room")
        self.room -= 1
        super().put_if_absent(key, data)


@pytest.mark.parametrize("helpers_max", [0, 2])
@pytest.mark.parametrize("room", range(5))
def test_a_full_disk_leaves_the_inputs_and_nothing_else(helpers_max: int, room: int) -> None:
    store = Full()
    task = cut_in_eight(store)
    before = listed(store)
    store.room = room

    with ThreadPoolExecutor(2) as pool, pytest.raises(DiskFullError):
        compact(store, task, WIDE, submit=pool.submit, helpers_max=helpers_max)

    assert listed(store) == before
    store.room = 100
    assert len(compact(store, task, WIDE)) > 4


def test_it_can_be_given_up_at_every_step_and_leaves_nothing(store: MemoryObjectStore) -> None:
    task = cut_in_eight(store)
    before = listed(store)
    asked = 0
    is_done = False

    while not is_done:
        left = iter(range(asked))
        try:
            compact(store, task, WIDE, is_over=lambda left=left: next(left, None) is None)  # type: ignore[misc]
            is_done = True
        except ConflictError:
            assert listed(store) == before
            asked += 1

    assert asked > 10
    assert len(listed(store)) > len(before) + 4


@pytest.mark.parametrize("helpers_max", [0, 2])
def test_an_input_that_is_damaged_is_named_and_nothing_is_left(store: MemoryObjectStore, helpers_max: int) -> None:
    task = cut_in_eight(store)
    key = sst_key(REGION, file_id_of("b"))
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 1
    store.delete(key)
    store.put_if_absent(key, data)
    before = listed(store)

    with ThreadPoolExecutor(2) as pool, pytest.raises(CorruptionError) as caught:
        compact(store, task, WIDE, submit=pool.submit, helpers_max=helpers_max)

    assert caught.value.path == key
    assert listed(store) == before


def test_a_store_that_does_not_answer_is_not_taken_for_damage() -> None:
    class Unsure(MemoryObjectStore):
        answers = 10**6

        def get_ranges(self, key: str, ranges: Any) -> Any:
            self.answers -= 1
            if self.answers < 0:
                raise UnavailableError("no answer")
            return super().get_ranges(key, ranges)

    store = Unsure()
    task = cut_in_eight(store)
    before = listed(store)
    for answers in failures_until_done(store, task):
        assert answers < 1000
        assert listed(store) == before


def failures_until_done(store: Any, task: CompactionTask) -> Iterator[int]:
    """Compact with ever more answers, until there are enough."""
    for answers in range(1000):
        store.answers = answers
        try:
            compact(store, task, WIDE)
        except UnavailableError:
            yield answers
        else:
            assert answers > 10
            return
