"""Files without some of their rows, and time ranges exchanged, against the list of rows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from builders import DELETE, REGION, Row, batch_of, file_id_of, open_engine, read, with_field
from hypothesis import given, settings
from hypothesis import strategies as st
from truth import METADATA, Tracked, numbered, seen

from mitoframe.drivers.clock import SeededRandomness
from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.rewrite import Rewritten, RowsInTime, RowsOfWrite, rewrite_files
from mitoframe.model.batch import Batch
from mitoframe.model.errors import CorruptionError, InvalidInputError, UnavailableError
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.request import ScanRequest, TruncateRequest
from mitoframe.model.schema import RegionMetadata
from mitoframe.model.timerange import TIME_MAX, TIME_MIN, TimeRange
from mitoframe.read.scanner import run_plan
from mitoframe.storage.paths import sst_folder, sst_key
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

HOUR_MS = 3_600_000
times = st.integers(-3, 6) | st.integers(0, 2).map(lambda n: HOUR_MS - 1 + n)
hosts = st.sampled_from([None, "a"])
fields = st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from(["", "x"]))
puts = st.builds(lambda time, host, values: Row(0, time, (host,), values), times, hosts, fields)
deletes = st.builds(lambda time, host: Row(0, time, (host,), (None, None), DELETE), times, hosts)
modes = st.sampled_from(["last", "merge", "none"])
upkeep = st.sampled_from(["flush", "flush", "compact", "reopen"])
steps = st.lists(
    st.tuples(st.just("write"), st.lists(puts, min_size=1, max_size=4))
    | st.tuples(st.just("write"), st.lists(deletes, min_size=1, max_size=3))
    | upkeep.map(lambda name: (name, [])),
    max_size=8,
)
spans = st.builds(lambda first, length: TimeRange(first, first + length), times, st.integers(0, 8)) | st.sampled_from(
    [TimeRange(), TimeRange(end=4), TimeRange(2)]
)


def put(time: int, cpu: int | None = 0, note: str | None = None, host: str | None = "a") -> Row:
    return Row(0, time, (host,), (cpu, note))


def carry_out(table: Tracked, actions) -> None:
    for name, rows in actions:
        if name != "write":
            getattr(table, name)()
        elif table.dedup != "none" or rows[0].op_type is not DELETE:
            table.write(rows)


def is_in(span: TimeRange, time: int) -> bool:
    return span.start <= time and (time < span.end or span.end == TIME_MAX)


# --- files ------------------------------------------------------------------------------------------------------


def store_file(store: MemoryObjectStore, name: str, rows: list[Row], metadata: RegionMetadata = METADATA) -> FileMeta:
    batch = sort_batches([batch_of(metadata, rows)], "none")
    return write_sst(store, metadata, batch, file_id=file_id_of(name), level=1, row_group_rows=2, created_ms=0)


class Unless:
    """Rows go unless ``keep`` says they stay; nothing is known of a file as a whole."""

    def __init__(self, keep) -> None:
        self.of = lambda rows: ~keep(rows)

    def holds(self, file: FileMeta) -> bool:
        return False

    def touches(self, file: FileMeta) -> bool:
        return True


def rewrite(store: MemoryObjectStore, files, keep, metadata: RegionMetadata = METADATA) -> Rewritten:
    going = keep if isinstance(keep, RowsInTime | RowsOfWrite) else Unless(keep)
    randomness = SeededRandomness(1)
    return rewrite_files(
        metadata,
        files,
        going,
        store=store,
        reader=SstReader(store),
        new_file_id=lambda: FileId(randomness.hex128()),
        row_group_rows=3,
        now_ms=9,
    )


def stored(store: MemoryObjectStore, files, metadata: RegionMetadata = METADATA) -> list[tuple]:
    found = []
    for file in files:
        batch = SstReader(store).read(metadata, file, range(file.row_group_count), [f.name for f in metadata.fields])
        tags, values = batch.series.to_pylist(), batch.fields.to_pylist()
        rows = zip(batch.codes, batch.times, batch.sequences, batch.op_types, values, strict=True)
        found += [(tags[c]["host"], int(t), int(s), int(op), *value.values()) for c, t, s, op, value in rows]
    return found


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.lists(puts, min_size=1, max_size=5), min_size=1, max_size=4),
    st.lists(spans, max_size=2).map(lambda ranges: RowsInTime(ranges=tuple(ranges)))
    | st.tuples(st.integers(1, 20), st.integers(0, 9)).map(lambda w: RowsOfWrite(first=w[0], last=w[0] + w[1])),
)
def test_what_is_known_of_a_file_spares_reading_it_and_changes_nothing(parts, going):
    store, count = MemoryObjectStore(), itertools.count(1)
    inputs = [
        store_file(store, name, [replace(row, sequence=next(count)) for row in rows])
        for name, rows in zip("abcd", parts, strict=False)
    ]
    before = {file.file_id: stored(store, [file]) for file in inputs}

    def goes(row) -> bool:
        if isinstance(going, RowsOfWrite):
            return going.first <= row[2] <= going.last
        return any(is_in(span, row[1]) for span in going.ranges)

    result = rewrite(store, inputs, going)

    hit = [file for file in inputs if any(map(goes, before[file.file_id]))]
    assert list(result.removed) == hit
    assert stored(store, result.added) == [r for file in hit for r in before[file.file_id] if not goes(r)]
    assert result.row_count == sum(map(goes, itertools.chain(*before.values())))
    for file in inputs:
        lost = sum(map(goes, before[file.file_id]))
        assert going.touches(file) or not lost
        assert not going.holds(file) or lost == file.row_count


def test_files_that_lose_all_rows_or_none_are_not_read():
    store = MemoryObjectStore()
    files = [store_file(store, "a", [put(1), put(2)]), store_file(store, "b", [put(50), put(60)])]
    for file in files:
        store.delete(sst_key(REGION, file.file_id))

    result = rewrite(store, files, RowsInTime(ranges=(TimeRange(0, 10),)))

    assert (result.removed, result.added, result.row_count) == ((files[0],), (), 2)


@settings(deadline=None, max_examples=70)
@given(st.lists(st.lists(puts | deletes, min_size=1, max_size=7), min_size=1, max_size=3), st.sets(st.integers(1, 21)))
def test_rows_that_stay_keep_their_values_and_sequences(parts, going):
    store, count, inputs = MemoryObjectStore(), itertools.count(1), []
    for name, rows in zip("abc", parts, strict=False):
        inputs.append(store_file(store, name, [replace(row, sequence=next(count)) for row in rows]))
    before = {file.file_id: stored(store, [file]) for file in inputs}

    result = rewrite(store, inputs, lambda rows: ~np.isin(rows.sequences, list(going)))

    hit = [file for file in inputs if any(row[2] in going for row in before[file.file_id])]
    left = [row for file in hit for row in before[file.file_id] if row[2] not in going]
    assert list(result.removed) == hit
    assert stored(store, result.added) == left
    assert result.row_count == sum(file.row_count for file in hit) - len(left)
    for file in result.added:
        assert (file.level, file.created_ms) == (1, 9)
    assert [stored(store, [file]) for file in inputs] == list(before.values())


def test_a_file_that_loses_every_row_has_no_successor():
    store = MemoryObjectStore()
    file = store_file(store, "a", [put(1), put(2), put(3)])

    result = rewrite(store, [file], lambda rows: np.zeros(len(rows), dtype=np.bool_))

    assert (result.removed, result.added, result.row_count) == ((file,), (), 3)
    assert len(store.list(sst_folder(REGION))) == 1


def test_keys_are_asked_about_without_fields_a_row_group_at_a_time():
    store, asked = MemoryObjectStore(), []

    def keep(rows: Batch) -> np.ndarray:
        asked.append((len(rows), rows.fields.num_columns))
        return np.ones(len(rows), dtype=np.bool_)

    result = rewrite(store, [store_file(store, "a", [put(n) for n in range(5)])], keep)

    assert asked == [(2, 0), (2, 0), (1, 0)]
    assert result == Rewritten(removed=(), added=(), row_count=0)


def test_a_file_of_an_older_schema_is_written_with_the_one_of_today():
    store = MemoryObjectStore()
    newer = with_field(METADATA, "extra", METADATA.fields[0].type)
    file = store_file(store, "a", [Row(1, 1, ("a",), (5, "x")), Row(2, 2, ("a",), (6, "y"))])

    [added] = rewrite(store, [file], lambda rows: rows.times == 2, newer).added

    assert added.schema_version == newer.schema_version
    assert stored(store, [added], newer) == [("a", 2, 2, 1, 6, "y", None)]


def test_a_file_placed_after_others_keeps_the_sequences_that_it_stands_for():
    store = MemoryObjectStore()
    file = store_file(store, "a", [Row(1, 1, ("a",), (5, "x")), Row(2, 2, ("a",), (6, "y"))]).at_sequence(100)

    [added] = rewrite(store, [file], lambda rows: rows.times == 2).added

    assert (added.sequence_base, added.min_sequence, added.max_sequence) == (0, 102, 102)
    assert stored(store, [added]) == [("a", 2, 102, 1, 6, "y")]


def test_a_file_that_cannot_be_read_is_told():
    store = MemoryObjectStore()
    files = [store_file(store, name, [put(1), put(2)]) for name in "ab"]
    store.delete(sst_key(REGION, file_id_of("b")))

    with pytest.raises(CorruptionError, match=file_id_of("b")):
        rewrite(store, files, lambda rows: rows.times == 2)


# --- time ranges ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(modes, steps, spans, st.lists(puts, max_size=6), st.lists(upkeep, max_size=2))
def test_a_range_holds_what_came_and_the_rest_is_as_it_was(dedup, actions, span, drawn, later):
    table = Tracked(dedup, window_ms=HOUR_MS, row_group_rows=2)
    carry_out(table, actions)
    outside = [row for row in numbered(seen(table.rows, dedup)) if not is_in(span, row[1])]
    new = [row for row in drawn if is_in(span, row.time)]

    _, came = table.engine.replace(REGION, [span], [batch_of(METADATA, new)] if new else [])

    assert came == len(new)
    with_sequences = table.found(columns=("host", "ts", "cpu", "note", "__sequence"))
    assert [row for row in with_sequences if not is_in(span, row[1])] == outside
    table.rows = [row for row in table.rows if not is_in(span, row.time)]
    base = table.engine.region(REGION).state.committed_sequence - len(new)
    table.rows += [Row(base + n, row.time, row.tags, row.fields) for n, row in enumerate(new, start=1)]
    assert table.found() == table.expected()
    for name in later:
        getattr(table, name)()
        assert table.found() == table.expected(), name


@settings(deadline=None, max_examples=80)
@given(modes, steps, st.lists(spans, min_size=1, max_size=2))
def test_truncated_ranges_are_empty_and_every_version_of_their_rows_is_counted(dedup, actions, ranges):
    table = Tracked(dedup, window_ms=HOUR_MS)
    carry_out(table, actions)
    table.flush()
    in_files = sum(file.row_count for file in table.files)

    count = table.engine.truncate(REGION, TruncateRequest(what="time_ranges", time_ranges=tuple(ranges)))

    table.rows = [row for row in table.rows if not any(is_in(span, row.time) for span in ranges)]
    assert table.found() == table.expected()
    assert count == in_files - sum(file.row_count for file in table.files)


def test_an_old_delete_in_the_range_does_not_hide_what_is_written_into_it():
    table = Tracked()
    table.write([put(1, 5)])
    table.write([Row(0, 1, ("a",), (None, None), DELETE)])

    table.engine.replace(REGION, [TimeRange(0, 2)], [batch_of(METADATA, [put(1, 6)])])

    assert table.found() == [("a", 1, 6, None)]


def test_the_ends_of_all_time_are_in_a_range_that_is_open():
    table = Tracked()
    table.write([put(TIME_MIN), put(TIME_MAX), put(0)])

    assert table.engine.replace(REGION, [TimeRange(1)]) == (1, 0)
    assert table.engine.replace(REGION, [TimeRange(end=0)]) == (1, 0)

    assert table.found() == [("a", 0, 0, None)]


@pytest.mark.parametrize("batches", [[[put(1), put(5)]], [[put(1)], [put(5)]]], ids=["one batch", "two"])
def test_a_row_that_is_not_in_the_range_is_named_and_nothing_is_changed(batches):
    table = Tracked()
    table.write([put(1, 7), put(5, 7)])
    before = (table.found(), table.engine.region(REGION).control.current().version)

    with pytest.raises(InvalidInputError, match="the time in row 1 is not in the range"):
        table.engine.replace(REGION, [TimeRange(0, 5)], [batch_of(METADATA, rows) for rows in batches])

    assert (table.found(), table.engine.region(REGION).control.current().version) == before
    assert table.store.list(sst_folder(REGION)) == []


class FailsAt(MemoryObjectStore):
    """Refuses one SST."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 10**6

    def put_if_absent(self, key, data):
        if "/sst/" in key:
            self.left -= 1
            if not self.left:
                raise UnavailableError("no room")
        super().put_if_absent(key, data)


@pytest.mark.parametrize("number", [1, 2])
def test_what_cannot_be_stored_changes_nothing(number):
    table = Tracked(store=FailsAt())
    table.write([put(1, 5), put(9, 5)])
    table.flush()
    table.store.left = number

    with pytest.raises(UnavailableError, match="no room"):
        table.engine.replace(REGION, [TimeRange(0, 5)], [batch_of(METADATA, [put(1, 6)])])

    assert table.found() == [("a", 1, 5, None), ("a", 9, 5, None)]
    assert len(table.store.list(sst_folder(REGION))) == 1
    assert table.engine.replace(REGION, [TimeRange(0, 5)], [batch_of(METADATA, [put(1, 6)])]) == (1, 1)


def test_a_reader_in_another_process_sees_the_exchange_whole_when_it_looks_again():
    table = Tracked()
    table.write([put(time, 5) for time in range(4)])
    reader = open_engine(table.store, table.log, read_only=True)

    def looks() -> list[tuple[int, ...]]:
        return read(reader, columns=("cpu",))

    assert looks() == [(5,)] * 4
    plan = reader.plan(REGION, ScanRequest(columns=("cpu",)))

    table.engine.replace(REGION, [TimeRange(1, 3)], [batch_of(METADATA, [put(1, 6)])])

    assert [row["cpu"] for batch in run_plan(plan, reader.reader) for row in batch.to_pylist()] == [5, 5, 5, 5]
    assert looks() == [(5,), (5,), (6,)]


def test_what_is_written_next_comes_after_what_came():
    table = Tracked()
    table.write([put(1, 5)])
    table.engine.replace(REGION, [TimeRange(0, 5)], [batch_of(METADATA, [put(1, 6), put(2, 6)])])

    assert table.write([put(1, 7)]).first_sequence == Sequence(4)

    table.reopen()
    assert table.found() == [("a", 1, 7, None), ("a", 2, 6, None)]


def test_a_range_that_holds_nothing_and_gets_nothing_makes_no_version():
    table = Tracked()
    table.write([put(9)])
    table.flush()
    version = table.engine.region(REGION).control.current().version

    assert table.engine.replace(REGION, [TimeRange(0, 5)]) == (0, 0)

    assert table.engine.region(REGION).control.current().version is version
