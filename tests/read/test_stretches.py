from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest
from builders import REGION, Row, batch_of, create, metadata_of, open_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.engine.engine import MitoEngine
from mitoframe.model.alter import AddColumns, NewColumn
from mitoframe.model.batch import Batch
from mitoframe.model.options import Dedup
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, Predicate
from mitoframe.model.request import AlterRequest, ScanRequest
from mitoframe.model.schema import SEQUENCE_COLUMN
from mitoframe.model.timerange import EVERYTHING, TIME_MAX, TimeRange
from mitoframe.read import stretches as module
from mitoframe.read.counts import Counts
from mitoframe.read.scanner import jobs
from mitoframe.read.stretches import Stretches, looks
from mitoframe.storage.sst_reader import unpacked

METADATA = metadata_of({"host": pa.string()}, {"load": pa.float64(), "hits": pa.int64(), "note": pa.string()})
HOUR_MS = 3_600_000

values = st.tuples(
    st.none() | st.integers(-3, 3).map(float),
    st.none() | st.integers(0, 5),
    st.none() | st.sampled_from(["", "n"]),
)
writes = st.lists(
    st.dictionaries(st.tuples(st.integers(0, 30), st.sampled_from([None, "a", "b", "c"])), values, min_size=1),
    min_size=1,
    max_size=3,
)
conditions = st.sampled_from(
    [ALWAYS, Compare("host", "==", "b"), IsIn("host", ("a", "c")), Compare("load", ">", 0.0),
     And((Compare("host", "==", "a"), Compare("hits", "<", 3)))]
)  # fmt: skip
spans = st.just(EVERYTHING) | st.builds(
    TimeRange, st.integers(-1, 20), st.integers(21, 32) | st.just(TIME_MAX) | st.integers(0, 5)
)


def region(dedup: Dedup = "last") -> MitoEngine:
    engine = open_engine(row_group_rows=7, compaction_trigger_files=100)
    create(engine, METADATA, dedup=dedup, compaction_window_ms=HOUR_MS)
    return engine


def write(engine: MitoEngine, rows: dict[tuple[int, str | None], tuple[Any, ...]]) -> None:
    made = [Row(0, time, (host,), value) for (time, host), value in rows.items()]
    engine.write(REGION, batch_of(METADATA, made))


def in_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: [(value is not None, value) for value in row])


def rows_in(part: Batch | Stretches) -> list[tuple[Any, ...]]:
    """Return (host, time, fields)."""
    hosts = part.series.column("host").to_pylist()
    if isinstance(part, Batch):
        codes, rows = part.codes.tolist(), range(len(part))
    else:
        codes, rows = part.pieces.row_codes().tolist(), part.pieces.rows().tolist()
    columns = [unpacked(column).to_pylist() for column in part.fields.columns]
    return [(hosts[code], int(part.times[row]), *(column[row] for column in columns))
            for code, row in zip(codes, rows, strict=True)]  # fmt: skip


def looked_at(engine: MitoEngine, predicate: Predicate, span: TimeRange) -> tuple[list[Batch | Stretches], Counts]:
    plan, counts = engine.plan(REGION, ScanRequest(predicate=predicate, time_range=span)), [Counts()]
    parts = [part for look in looks(plan, engine.reader, ["load", "hits", "note"], counts.append) for part in look()]
    return parts, sum(counts[1:], counts[0])


@given(writes, st.booleans(), conditions, spans, st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_the_rows_looked_at_are_those_that_are_read(drawn, is_compacted, predicate, span, at_once):
    engine = region()
    for rows in drawn:
        write(engine, rows)
        engine.flush(REGION)
    if is_compacted:
        engine.compact(REGION)
    plan = engine.plan(REGION, ScanRequest(predicate=predicate, time_range=span))
    found = [job().rows for job in jobs(plan, engine.reader, ["load", "hits", "note"])]
    expected = in_order(row for batch in found if batch is not None for row in rows_in(batch))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOOK_ROW_GROUPS", at_once)
        for _ in ("read", "read and kept", "kept"):
            parts, counts = looked_at(engine, predicate, span)

            assert in_order(row for part in parts for row in rows_in(part)) == expected
            assert counts.rows_returned == len(expected)
            assert all(rows_in(part) for part in parts)
    engine.close()


def file_of_rows(dedup: Dedup = "last") -> MitoEngine:
    """Write 40 rows, in row groups of 7: two hosts, a row of each every tick."""
    engine = region(dedup)
    write(engine, {(time, host): (float(time), time, "n") for time in range(20) for host in ("a", "b")})
    engine.flush(REGION)
    return engine


def test_rows_of_a_file_that_stands_alone_are_not_copied():
    engine = file_of_rows()

    for _ in range(3):
        parts, _ = looked_at(engine, ALWAYS, EVERYTHING)

        assert [type(part) for part in parts] == [Stretches] * 6
    assert [pa.types.is_dictionary(column.type) for column in parts[0].fields.columns] == [True, True, False]
    parts, counts = looked_at(engine, ALWAYS, TimeRange(2, 17))
    assert all(isinstance(part, Stretches) and len(part.times) in (5, 7) for part in parts)
    assert (counts.chunks_kept, counts.chunks_read, counts.rows_read, counts.rows_returned) == (24, 0, 30, 30)


def test_row_groups_of_which_little_is_wanted_are_only_looked_at_where_they_are_kept():
    engine, few = file_of_rows(), TimeRange(3, 5)

    assert all(isinstance(part, Batch) for part in looked_at(engine, ALWAYS, few)[0])
    for _ in range(2):
        looked_at(engine, ALWAYS, EVERYTHING)
    assert all(isinstance(part, Stretches) for part in looked_at(engine, ALWAYS, few)[0])


def test_rows_that_have_yet_to_be_chosen_among_come_as_batches():
    engine = file_of_rows()

    assert all(isinstance(part, Batch) for part in looked_at(engine, Compare("load", ">=", 0.0), EVERYTHING)[0])
    plan = engine.plan(REGION, ScanRequest())
    versions = [part for look in looks(plan, engine.reader, ["load", SEQUENCE_COLUMN], print) for part in look()]
    assert all(isinstance(part, Batch) for part in versions)
    write(engine, {(5, "a"): (None, None, None)})
    assert all(isinstance(part, Batch) for part in looked_at(engine, ALWAYS, EVERYTHING)[0])


def test_kept_row_groups_are_looked_at_several_in_one_go():
    engine = file_of_rows()
    plan = engine.plan(REGION, ScanRequest())
    counts: list[int] = []

    for _ in range(3):
        counts.append(0)
        for look in looks(plan, engine.reader, ["load"], lambda _: None):
            counts[-1] += 1
            list(look())

    assert counts == [6, 6, 1]


def test_a_field_that_a_file_lacks_is_null_there():
    engine = file_of_rows()
    engine.alter(REGION, AlterRequest(alterations=(AddColumns((NewColumn("more", pa.float64()),)),)))
    plan = engine.plan(REGION, ScanRequest())

    found = [part for look in looks(plan, engine.reader, ["more", "load"], lambda _: None) for part in look()]

    assert [type(part) for part in found] == [Stretches] * 6
    assert {row[2] for part in found for row in rows_in(part)} == {None}
    assert {row[3] for part in found for row in rows_in(part)} == {float(time) for time in range(20)}
