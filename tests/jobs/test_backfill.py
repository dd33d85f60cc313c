"""Rows sorted straight into files, against the list of them; and that they come all at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import pairwise

import pytest
from builders import DELETE, REGION, Row, batch_of
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import METADATA, Tracked, numbered, seen

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.engine.engine import MitoEngine
from mitoframe.jobs import backfill as backfill_module
from mitoframe.jobs.backfill import Backfill
from mitoframe.model.batch import Batch
from mitoframe.model.errors import UnavailableError
from mitoframe.model.file import LEVEL_COMPACTED, FileMeta
from mitoframe.model.ids import FileId
from mitoframe.model.options import Dedup
from mitoframe.storage.paths import sst_folder
from mitoframe.storage.sst_reader import SstReader

HOUR_MS = 3_600_000
HUGE = 1 << 40
times = st.integers(-12, 12) | st.integers(-3, 3).map(lambda n: n + 1000)
hosts = st.sampled_from([None, "a", "b"])
fields = st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from(["", "x"]))
puts = st.builds(lambda time, host, values: Row(0, time, (host,), values), times, hosts, fields)
pieces = st.lists(st.lists(puts, min_size=1, max_size=8), min_size=1, max_size=6)
modes = st.sampled_from(["last", "merge", "none"])


def put(time: int, cpu: int | None = 0, note: str | None = None, host: str | None = "a") -> Row:
    return Row(0, time, (host,), (cpu, note))


def in_sequence(batches: list[list[Row]], base: int = 0) -> list[Row]:
    rows = [row for batch in batches for row in batch]
    return [Row(base + n, row.time, row.tags, row.fields) for n, row in enumerate(rows, start=1)]


@pytest.fixture
def few_rows_fill_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_module, "FILE_ROWS_MIN", 3)


class Builder:
    """A backfill into a store of its own, and how much it held at most."""

    def __init__(self, dedup: Dedup = "last", *, width: int = 10, buffer_bytes: int = HUGE, file_bytes: int = HUGE):
        self.store = MemoryObjectStore()
        self.jobs: list[Callable[[], FileMeta]] = []
        self.held_bytes = 0
        randomness = SeededRandomness(1)
        self.backfill = Backfill(
            METADATA,
            dedup=dedup,
            width=width,
            store=self.store,
            new_file_id=lambda: FileId(randomness.hex128()),
            submit=self._submit,
            buffer_bytes=buffer_bytes,
            file_bytes=file_bytes,
            row_group_rows=2,
            now_ms=77,
        )

    def _submit(self, job: Callable[[], FileMeta]) -> Future[FileMeta]:
        self.jobs.append(job)
        future: Future[FileMeta] = Future()
        future.set_result(job())
        return future

    def add(self, batch: Batch) -> None:
        held_bytes = sum(each.size_bytes for each in self.backfill._gathered)
        assert held_bytes == self.backfill._gathered_bytes
        self.held_bytes = max(self.held_bytes, held_bytes + batch.size_bytes)
        self.backfill.add(batch)

    def rows(self, file: FileMeta) -> list[Row]:
        batch = SstReader(self.store).read(METADATA, file, range(file.row_group_count), ["cpu", "note"])
        tags, values = batch.series.to_pylist(), batch.fields.to_pylist()
        return [
            Row(int(sequence), int(time), (tags[code]["host"],), (value["cpu"], value["note"]))
            for code, time, sequence, value in zip(batch.codes, batch.times, batch.sequences, values, strict=True)
        ]


@pytest.mark.usefixtures("few_rows_fill_a_file")
@settings(deadline=None, max_examples=60)
@given(pieces, modes, st.integers(1, 40), st.integers(1, 3000) | st.just(HUGE), st.integers(1, 400) | st.just(HUGE))
def test_the_files_hold_together_what_brute_force_finds(batches, dedup, width, buffer_bytes, file_bytes):
    builder = Builder(dedup, width=width, buffer_bytes=buffer_bytes, file_bytes=file_bytes)
    for rows in batches:
        builder.add(batch_of(METADATA, rows))

    files = builder.backfill.finish()

    written = in_sequence(batches)
    stored = [row for file in files for row in builder.rows(file)]
    assert builder.backfill.row_count == len(written)
    assert numbered(seen(stored, dedup)) == numbered(seen(written, dedup))
    assert len(builder.store.list(sst_folder(REGION))) == len(files)
    for file in files:
        rows = builder.rows(file)
        assert rows == sorted(rows, key=lambda row: (row.key, -row.sequence))
        assert (file.min_time, file.max_time) == (min(row.time for row in rows), max(row.time for row in rows))
        assert (file.level, file.created_ms, file.sequence_base) == (LEVEL_COMPACTED, 77, 0)


@pytest.mark.usefixtures("few_rows_fill_a_file")
@settings(deadline=None, max_examples=80)
@given(pieces, modes, st.integers(1, 40), st.integers(1, 400))
def test_files_of_one_sort_share_no_time_and_are_cut_at_windows_where_they_are_large(batches, dedup, width, file_bytes):
    builder = Builder(dedup, width=width, file_bytes=file_bytes)
    for rows in batches:
        builder.add(batch_of(METADATA, rows))

    files = sorted(builder.backfill.finish(), key=lambda file: file.min_time)

    rows_max = max(file_bytes // backfill_module.BYTES_PER_ROW_AT_FIRST, backfill_module.FILE_ROWS_MIN)
    for before, after in pairwise(files):
        assert before.max_time < after.min_time
        cut_at_a_window = before.max_time // width < after.min_time // width
        assert cut_at_a_window or before.row_count >= rows_max
    for file in files:
        one_time = file.min_time == file.max_time
        assert one_time or len({row.time for row in builder.rows(file)}) == 1 or file.row_count < rows_max + 6 * 8


@settings(deadline=None, max_examples=80)
@given(pieces, st.integers(1, 3000), st.integers(1, 40))
def test_no_more_than_the_buffer_and_one_batch_is_held(batches, buffer_bytes, width):
    builder = Builder(width=width, buffer_bytes=buffer_bytes)
    drawn = [batch_of(METADATA, rows) for rows in batches]

    for batch in drawn:
        builder.add(batch)

    assert builder.held_bytes < buffer_bytes + max(batch.size_bytes for batch in drawn)


def test_rows_in_the_order_of_time_are_stored_window_by_window_once():
    """The newest window is kept back until rows of the next one came."""
    batch_bytes = batch_of(METADATA, [put(0), put(1)]).size_bytes
    builder = Builder(width=10, buffer_bytes=6 * batch_bytes)
    for first in range(0, 60, 2):
        builder.add(batch_of(METADATA, [put(first), put(first + 1)]))

    files = builder.backfill.finish()

    assert [(file.min_time % 10, file.max_time % 10) for file in files] == [(0, 9)] * len(files)
    assert len(files) > 2


def test_a_window_that_is_too_large_to_gather_is_stored_in_parts():
    builder = Builder(width=1_000_000, buffer_bytes=1)
    for time in range(5):
        builder.add(batch_of(METADATA, [put(time)]))

    assert len(builder.backfill.finish()) == 5


def test_of_a_batch_in_two_windows_the_older_rows_are_stored_and_the_newer_kept():
    small, large = (
        batch_of(METADATA, [put(100)]),
        batch_of(METADATA, [put(1), put(101), *(put(n) for n in range(2, 10))]),
    )
    builder = Builder(width=10, buffer_bytes=small.size_bytes + large.size_bytes)
    builder.add(small)

    builder.add(large)

    assert sorted(time for batch in builder.backfill._gathered for time in batch.times) == [100, 101]
    files = builder.backfill.finish()
    assert sorted((file.min_time, file.max_time) for file in files) == [(1, 9), (100, 101)]
    assert sorted(row.sequence for file in files for row in builder.rows(file)) == list(range(1, 12))


def test_files_are_about_as_large_as_asked_for_once_it_is_known_how_much_a_row_takes(monkeypatch):
    monkeypatch.setattr(backfill_module, "FILE_ROWS_MIN", 10)
    builder = Builder(width=1000, buffer_bytes=1, file_bytes=20_000)
    builder.add(batch_of(METADATA, [put(time) for time in range(400)]))
    builder.add(batch_of(METADATA, [put(time + 5000) for time in range(400)]))

    first, *others = builder.backfill.finish()

    per_row = first.size_bytes / first.row_count
    assert first.row_count == 400
    assert [file.row_count for file in others[:-1]] == [int(20_000 / per_row)] * (len(others) - 1)
    assert others


def test_the_times_at_the_ends_of_all_time_have_their_windows():
    ends = [-(2**63) + 1, -(2**63) + 2, 0, 2**63 - 2, 2**63 - 1]
    builder = Builder(width=1000)
    builder.add(batch_of(METADATA, [put(time) for time in ends]))

    [file] = builder.backfill.finish()

    assert (file.min_time, file.max_time, file.row_count) == (ends[0], ends[-1], 5)


def test_an_error_of_a_job_that_stores_a_file_is_raised():
    builder = Builder()
    failed: Future[FileMeta] = Future()
    failed.set_exception(UnavailableError("no room"))
    builder.backfill._submit = lambda _: failed
    builder.add(batch_of(METADATA, [put(1)]))

    with pytest.raises(UnavailableError, match="no room"):
        builder.backfill.finish()


# --- as the engine does it --------------------------------------------------------------------------------------

upkeep = st.sampled_from(["flush", "compact", "reopen"])
steps = st.lists(
    st.tuples(st.just("write"), st.lists(puts, min_size=1, max_size=4))
    | st.tuples(st.just("backfill"), st.lists(puts, min_size=1, max_size=8))
    | upkeep.map(lambda name: (name, [])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(steps, st.sampled_from(["last", "none"]))
def test_backfills_and_ordinary_writes_are_seen_in_the_order_they_were_acknowledged(actions, dedup):
    table = Tracked(dedup, window_ms=HOUR_MS, backfill_buffer_bytes=500)
    for name, rows in actions:
        match name:
            case "write":
                table.write(rows)
            case "backfill":
                table.backfill(rows[:3], *([rows[3:]] if rows[3:] else []))
            case _:
                getattr(table, name)()

        assert table.found() == table.expected(), name


few_puts = st.builds(lambda time, values: put(time, *values), st.integers(0, 1), fields)
few_steps = st.lists(
    st.tuples(st.sampled_from(["write", "backfill"]), st.lists(few_puts, min_size=1, max_size=2))
    | upkeep.map(lambda name: (name, [])),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=60)
@given(few_steps)
def test_they_fill_each_others_nulls_in_that_order(actions):
    table = Tracked("merge", window_ms=HOUR_MS, backfill_buffer_bytes=500)
    for name, rows in actions:
        match name:
            case "write":
                table.write(rows)
            case "backfill":
                table.backfill(rows)
            case _:
                getattr(table, name)()

        assert table.found() == table.expected(), name


@pytest.mark.parametrize("afterwards", [["flush"], ["reopen", "flush"], ["flush", "compact"], ["compact", "flush"]])
@pytest.mark.parametrize("is_frozen", [False, True], ids=["taking writes", "frozen"])
def test_what_it_says_is_not_hidden_by_what_a_merging_table_had_in_memory_before_it(is_frozen, afterwards):
    """A row that is filled from versions before and after it has the newest one's sequence."""
    table = Tracked("merge")
    table.write([put(1, 1)])
    if is_frozen:
        table.engine.region(REGION).freeze()
    table.backfill([put(1, 2)])
    table.write([put(1, None, "later")])

    for step in afterwards:
        getattr(table, step)()

        assert table.found() == [("a", 1, 2, "later")], step


@pytest.mark.parametrize(("dedup", "time"), [("last", 1), ("none", 1), ("merge", HOUR_MS + 1)])
def test_memory_is_left_alone_where_it_cannot_hide_a_row(dedup, time):
    table = Tracked(dedup, window_ms=HOUR_MS)
    table.write([put(1, 1), put(3 * HOUR_MS, 1)])

    table.backfill([put(time, 2)])

    assert [file.level for file in table.files] == [LEVEL_COMPACTED]


def test_writes_that_come_while_it_runs_count_as_older():
    table = Tracked()

    def batches() -> Iterator[Batch]:
        yield batch_of(METADATA, [put(1, 5), put(2, 5)])
        table.write([put(1, 7), put(3, 7)])
        assert table.found() == [("a", 1, 7, None), ("a", 3, 7, None)]
        yield batch_of(METADATA, [put(4, 5)])

    written = table.engine.bulk_insert(REGION, batches())

    assert written is not None
    assert (written.first_sequence, written.row_count) == (3, 3)
    assert table.found() == [("a", 1, 5, None), ("a", 2, 5, None), ("a", 3, 7, None), ("a", 4, 5, None)]
    assert table.write([put(5)]).first_sequence == 6


@pytest.mark.parametrize("buffer_bytes", [1, HUGE])
def test_an_iterator_that_fails_leaves_nothing_behind(buffer_bytes):
    table = Tracked(backfill_buffer_bytes=buffer_bytes)
    table.write([put(1, 5)])

    def batches() -> Iterator[Batch]:
        yield batch_of(METADATA, [put(1, 6)])
        yield batch_of(METADATA, [put(2, 6)])
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        table.engine.bulk_insert(REGION, batches())

    assert table.found() == [("a", 1, 5, None)]
    assert table.store.list(sst_folder(REGION)) == []
    assert table.write([put(2)]).first_sequence == 2


def test_a_backfill_of_nothing_writes_nothing():
    table = Tracked()

    assert table.engine.bulk_insert(REGION, [batch_of(METADATA, [])]) is None

    assert table.store.list(sst_folder(REGION)) == []


def test_a_key_that_an_earlier_write_had_makes_it_a_no_op():
    table = Tracked()
    first = table.backfill([put(1, 5)], key="history")
    drawn: list[int] = []

    def batches() -> Iterator[Batch]:
        drawn.append(1)
        yield batch_of(METADATA, [put(1, 6)])

    again = table.engine.bulk_insert(REGION, batches(), key="history")

    assert again is not None
    assert (again.repeated, again.first_sequence, again.row_count) == (True, first.first_sequence, 1)
    assert drawn == []
    assert table.found() == [("a", 1, 5, None)]
    assert table.write([put(1, 7)], key="history").repeated


def test_a_key_that_is_known_only_at_the_end_makes_it_a_no_op_too_and_its_files_go():
    table = Tracked()
    table.write([put(1, 5)], key="content:x")

    again = table.engine.bulk_insert(REGION, [batch_of(METADATA, [put(1, 5)])], key=lambda: "content:x")

    assert again is not None
    assert again.repeated
    assert table.store.list(sst_folder(REGION)) == []


def test_a_key_outlives_the_process_and_ends_with_undo():
    table = Tracked()
    written = table.backfill([put(1, 5), put(2, 5)], key="history")
    table.reopen()
    assert table.backfill([put(1, 5), put(2, 5)], key="history").repeated

    table.undo(written)

    assert table.found() == []
    assert not table.backfill([put(1, 5), put(2, 5)], key="history").repeated


def test_deletes_of_later_writes_hide_its_rows():
    table = Tracked()
    table.backfill([put(1, 5), put(2, 5)])
    table.write([Row(0, 1, ("a",), (None, None), DELETE)])
    table.flush()
    table.compact()

    assert table.found() == [("a", 2, 5, None)] == table.expected()


def test_it_says_how_far_it_is():
    table = Tracked()
    told: list[int] = []
    engine: MitoEngine = table.engine

    engine.bulk_insert(REGION, [batch_of(METADATA, [put(n) for n in range(3)])] * 2, told=told.append)

    assert told == [3, 6]
