"""Sources: which rows of a file or a memtable are looked at, and what is read of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from builders import PUT, Row, batch_of, delete, file_id_of, metadata_of, newest, put, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import Sequence
from mitoframe.model.predicate import ALWAYS, And, Compare, IsIn, IsNull, Not, Or
from mitoframe.model.rows import RowRanges
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN
from mitoframe.model.timerange import EVERYTHING, TimeRange
from mitoframe.read import sources
from mitoframe.read.counts import Counts
from mitoframe.read.sources import RECENT_MAX, FileSource, Source, buffer_source, can_order, select_rows
from mitoframe.storage import sst_writer
from mitoframe.storage.cache import Cache
from mitoframe.storage.runs import sort_batches
from mitoframe.storage.sst_reader import SstReader
from mitoframe.storage.sst_writer import write_sst

METADATA = metadata_of()
INTERNAL = (SEQUENCE_COLUMN, OP_TYPE_COLUMN)
NEWEST = Sequence(10**6)


def file_with(rows, row_group_rows: int = 3, budget_bytes: int = 1 << 20) -> tuple[SstReader, FileMeta]:
    store = MemoryObjectStore()
    file = write_sst(
        store,
        METADATA,
        sort_batches([batch_of(METADATA, rows)]),
        file_id=file_id_of("a"),
        level=0,
        row_group_rows=row_group_rows,
        created_ms=0,
    )
    return SstReader(store, Cache(budget_bytes)), file


def source_of(reader: SstReader, file: FileMeta, predicate=ALWAYS, visible=NEWEST, internal=INTERNAL) -> FileSource:
    return FileSource(
        reader=reader,
        metadata=METADATA,
        file=file,
        field_names=("cpu",),
        pieces=select_rows(reader, METADATA, file, predicate),
        visible=visible,
        internal=internal,
    )


def read(source: Source, wanted: TimeRange) -> tuple[list[Row], Counts]:
    """Return what is read of all pieces of a source, and check that it comes in batches that follow each other."""
    found = source.read(source.pieces, wanted, source.series)
    assert all(len(batch) for batch in found.batches)
    rows = [row for batch in found.batches for row in rows_of(batch)]
    assert found.counts.rows_read == len(rows)
    return rows, found.counts


keys = st.tuples(st.integers(0, 12), st.sampled_from([None, "a", "b", "c"]))
written = st.lists(st.tuples(keys, st.none() | st.integers(0, 5), st.booleans()), min_size=1, max_size=30).map(
    lambda drawn: [delete(n, *key) if gone else put(n, *key, cpu) for n, (key, cpu, gone) in enumerate(drawn, start=1)]
)
bounds = st.integers(-1, 14)
ranges = st.builds(TimeRange, bounds, bounds) | st.just(EVERYTHING)
predicates = st.sampled_from(
    [
        ALWAYS,
        Compare("host", "==", "b"),
        IsIn("host", ("a", "c", "zz")),
        IsNull("host"),
        Not(Compare("host", "==", "a")),
        Compare("ts", ">=", 6),
        And((Compare("host", ">", "a"), Compare("ts", "<", 5))),
        Or((Compare("host", "==", "a"), Compare("ts", "==", 3))),
        Compare("host", "==", "zz"),
    ]
)
HOSTS_KEPT = {
    Compare("host", "==", "b"): {"b"},
    IsNull("host"): {None},
    Not(Compare("host", "==", "a")): {"b", "c"},
    Compare("host", "==", "zz"): set(),
}


@contextmanager
def by_pages(rows_each: int) -> Iterator[None]:
    """Write pages of so few rows, and read row groups by their pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sst_writer, "PAGE_ROWS", rows_each)
        patch.setattr(sources, "PAGES_TIMES", 0)
        patch.setattr(sources, "are_ready", lambda: True)
        yield


@settings(deadline=None, max_examples=100)
@given(
    written,
    st.integers(1, 7),
    predicates,
    ranges,
    st.integers(0, 31),
    st.sampled_from([0, 1 << 20]),
    st.sampled_from([nullcontext, partial(by_pages, 1), partial(by_pages, 3)]),
)
def test_what_is_read_of_a_file_is_all_that_may_match_and_nothing_of_other_times(
    drawn, row_group_rows, predicate, wanted, visible, budget_bytes, way
):
    with way():
        reader, file = file_with(drawn, row_group_rows, budget_bytes)
        source = source_of(reader, file, predicate, Sequence(visible))

        found, _ = read(source, wanted)
        assert read(source, wanted)[0] == found, "what is kept is what was read"

    there = [row for row in newest(drawn) if wanted.holds(row.time) and row.sequence <= visible]
    assert [row for row in there if row in found] == found, "in order, and none that is not there"
    hosts = HOSTS_KEPT.get(predicate)
    if hosts is not None:
        assert found == [row for row in there if row.tags[0] in hosts], "tags alone are decided exactly"
    elif predicate == ALWAYS:
        assert found == there


@pytest.mark.parametrize("wanted", [TimeRange(3, 7), TimeRange(9, 99), TimeRange(0, 1), TimeRange(20, 30), EVERYTHING])
@pytest.mark.parametrize("page_rows", [1, 3, 100])
def test_a_time_of_some_series_is_cut_out_of_pages(wanted, page_rows):
    rows = [put(1 + 10 * n + time, time, host, 10 * n + time) for n, host in enumerate("abcd") for time in range(10)]
    with by_pages(page_rows):
        reader, file = file_with(rows, row_group_rows=25)
        source = source_of(reader, file, IsIn("host", ("b", "d")))

        found, counts = read(source, wanted)

    assert found == [row for row in rows if row.tags[0] in ("b", "d") and wanted.holds(row.time)]
    assert (counts.chunks_read > 0) == bool(found)


@settings(deadline=None, max_examples=80)
@given(written, predicates, ranges)
def test_what_is_read_of_a_memtable_is_all_versions_of_what_may_match(drawn, predicate, wanted):
    rows = sort_batches([batch_of(METADATA, drawn)], "none")
    source = buffer_source(rows, predicate)

    found, _ = read(source, wanted)

    there = sorted((row for row in drawn if wanted.holds(row.time)), key=lambda row: (row.key, -row.sequence))
    hosts = HOSTS_KEPT.get(predicate)
    if hosts is not None:
        assert found == [row for row in there if row.tags[0] in hosts]
    assert [row for row in there if row in found] == found


def series_file() -> tuple[SstReader, FileMeta]:
    """Row groups: (a, a, a), (a, b, b), (b, b, c)."""
    hosts = ["a"] * 4 + ["b"] * 4 + ["c"]
    return file_with([put(n + 1, n, host, n) for n, host in enumerate(hosts)])


@pytest.mark.parametrize(
    ("predicate", "row_groups"),
    [
        (ALWAYS, [0, 1, 2]),
        (Compare("host", "==", "a"), [0, 1]),
        (Compare("host", "==", "b"), [1, 2]),
        (Compare("host", "==", "c"), [2]),
        (IsIn("host", ("a", "c")), [0, 1, 2]),
        (Compare("cpu", "==", 0), [0]),
        (And((Compare("host", "==", "b"), Compare("cpu", "==", 4))), [1]),
        (Compare("host", "==", "zz"), []),
    ],
    ids=repr,
)
def test_row_groups_without_a_series_that_is_asked_for_are_not_decoded(predicate, row_groups):
    reader, file = series_file()
    sources = [source_of(reader, file, predicate, internal=()) for _ in range(3)]

    counts = [read(source, EVERYTHING)[1] for source in sources]

    columns = 2 * len(row_groups)
    assert sources[0].row_groups(sources[0].pieces) == row_groups
    assert [(each.chunks_read, each.chunks_kept) for each in counts] == [(columns, 0), (columns, 0), (0, columns)]
    assert sources[0].cells_to_decode(sources[0].pieces) == 0, "by now all of it is kept"


def test_a_source_holds_its_last_row_groups_for_the_share_that_follows_and_no_more():
    reader, file = file_with([put(n + 1, n, "a", n) for n in range(3 * (RECENT_MAX + 2))], budget_bytes=0)
    source = replace(source_of(reader, file, internal=()), recent={})
    read(source, EVERYTHING)

    assert list(source.recent) == list(range(2, RECENT_MAX + 2))
    for number, (chunks_read, chunks_kept) in [(2, (0, 2)), (0, (2, 0)), (3, (2, 0)), (0, (0, 2)), (2, (0, 2))]:
        share = source.pieces.only(RowRanges.of(np.array([3 * number]), np.array([3 * number + 3])))
        counts = source.read(share, EVERYTHING, source.series).counts
        assert (counts.chunks_read, counts.chunks_kept) == (chunks_read, chunks_kept), number
        assert bool(counts.bytes_read) == bool(chunks_read)
    assert len(source.recent) == RECENT_MAX


def test_row_groups_of_other_times_are_not_decoded_where_a_series_has_several():
    reader, file = file_with([put(n + 1, n, "a", n) for n in range(30)])
    source = source_of(reader, file, internal=())

    found, counts = read(source, TimeRange(10, 14))

    assert [row.time for row in found] == [10, 11, 12, 13]
    assert counts.chunks_read == 2 * 2


def test_without_internal_columns_every_row_is_put_and_as_new_as_the_file():
    reader, file = series_file()
    source = source_of(reader, file, internal=())

    found, _ = read(source, EVERYTHING)

    assert {(row.sequence, row.op_type) for row in found} == {(file.max_sequence, PUT)}


@pytest.mark.parametrize(
    ("facts", "is_clean"), [({}, True), ({"delete_count": 1}, False), ({"level": -1}, False)], ids=str
)
def test_a_file_is_clean_if_it_has_one_row_per_key_and_no_markers(facts, is_clean):
    reader, file = series_file()

    assert source_of(reader, replace(file, **facts)).is_clean is is_clean


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], True),
        ([(1, 9)], True),
        ([(10, 12), (1, 9)], True),
        ([(1, 10), (10, 12)], False),
        ([(1, 20), (5, 6)], False),
        ([(1, 4), (9, 20), (5, 8)], True),
        ([(3, 3), (3, 3)], False),
    ],
    ids=str,
)
def test_sources_are_told_apart_by_age_only_if_no_two_share_a_sequence(ranges, expected):
    assert can_order(ranges) is expected
