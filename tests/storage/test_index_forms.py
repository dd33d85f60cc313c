"""The forms of indexes one by one: how they are made, when they are given up, and how well they tell values apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from builders import GOLDEN, REGION
from hypothesis import given, settings
from hypothesis import strategies as st
from indexing import indexed

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.model.index import IndexEntry
from mitoframe.model.predicate import Compare, IsIn, IsNull, Not, Predicate, Text, terms_of
from mitoframe.model.rows import RowRanges
from mitoframe.model.types import type_to_text
from mitoframe.storage import index_inverted
from mitoframe.storage.index_bloom import Blooms, BloomsCollector, SkippingCollector
from mitoframe.storage.index_file import encode_index, read_blob, read_footer
from mitoframe.storage.index_fulltext import FulltextCollector, parts_of
from mitoframe.storage.index_inverted import InvertedCollector, Terms, TermsCollector, Zones, ZonesCollector
from mitoframe.storage.index_reader import IndexReader
from mitoframe.storage.index_segments import Segments, SegmentsCollector, cut
from mitoframe.storage.index_values import hashes_of
from mitoframe.storage.paths import index_key


def int32s(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


def int64s(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


# --- segments --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 12))
def test_rows_are_cut_where_segments_begin(first_row, length, granularity):
    found = cut(first_row, length, granularity)

    segments = [row // granularity for row in range(first_row, first_row + length)]
    assert found.segment_of_rows().tolist() == segments
    assert found.segments.tolist() == sorted(set(segments))
    assert found.lengths.sum() == length


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([None, 1.5, float("nan")]), min_size=1, max_size=40), st.integers(1, 9), st.data())
def test_each_segment_is_known_by_what_it_holds(values, granularity, data):
    collector, start = SegmentsCollector(granularity), 0
    while start < len(values):
        length = data.draw(st.integers(1, len(values) - start))
        collector.add(pa.array(values[start : start + length], pa.float64()))
        start += length

    found = Segments.from_batch(collector.finish().to_batch(), granularity)

    parts = [values[i : i + granularity] for i in range(0, len(values), granularity)]
    assert found.nulls.tolist() == [None in part for part in parts]
    assert found.nans.tolist() == [any(value is not None and value != value for value in part) for part in parts]
    assert found.values.tolist() == [1.5 in part for part in parts]


# --- terms -----------------------------------------------------------------------------------------------

pairs_of = st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 4)), max_size=8), max_size=6)


def collected(batches: list[list[tuple[str, int]]]) -> TermsCollector:
    collector = TermsCollector()
    for batch in batches:
        terms = list(dict.fromkeys(term for term, _ in batch))
        codes = int32s([terms.index(term) for term, _ in batch])
        collector.add(pa.array(terms, pa.large_string()), codes, int64s([segment for _, segment in batch]))
    return collector


@settings(deadline=None, max_examples=60)
@given(pairs_of)
def test_each_term_is_there_once_with_the_segments_that_hold_it(batches):
    found = collected(batches).finish()

    expected: dict[str, set[int]] = {}
    for term, segment in (pair for batch in batches for pair in batch):
        expected.setdefault(term, set()).add(segment)
    if found is None:
        assert not expected
        return
    read = Terms.from_batch(found.to_batch(), 5)
    lists = [read.segments[start:stop].tolist() for start, stop in zip(read.offsets, read.offsets[1:], strict=False)]
    assert dict(zip(read.terms.to_pylist(), lists, strict=True)) == {term: sorted(of) for term, of in expected.items()}


@settings(deadline=None, max_examples=50)
@given(pairs_of, st.sets(st.sampled_from("abcdef")), st.booleans())
def test_chosen_terms_are_held_by_the_same_segments_however_many_they_are(batches, wanted, many):
    found = collected(batches).finish()
    if found is None:
        return
    before = index_inverted._FEW
    chosen = np.array([term in wanted for term in found.terms.to_pylist()], np.bool_)
    try:
        index_inverted._FEW = 0 if many else before

        held = found.holding(chosen, 5)
    finally:
        index_inverted._FEW = before

    assert set(np.flatnonzero(held)) == {segment for batch in batches for term, segment in batch if term in wanted}


def test_terms_that_come_again_count_once_and_too_many_are_given_up(monkeypatch):
    monkeypatch.setattr(index_inverted, "PAIRS_MAX", 8)

    again = collected([[("a", 0), ("b", 0)]] * 20)
    many = collected(
        [[("a", 0), ("b", 0)], [("c", 1), ("d", 2)], [("e", 3), ("f", 4)], [("a", 3)], [("b", 4), ("c", 4)]]
    )

    assert again.finish() is not None
    assert many.has_too_many
    assert many.finish() is None
    many.add(pa.array(["x"], pa.large_string()), int32s([0]), int64s([0]))
    assert many.finish() is None


def test_long_terms_are_given_up_too(monkeypatch):
    monkeypatch.setattr(index_inverted, "TERM_BYTES_MAX", 200)

    assert collected([[("a" * 300, 0)]]).finish() is None


def test_many_distinct_terms_are_given_up_too(monkeypatch):
    monkeypatch.setattr(index_inverted, "TERMS_MAX", 8)

    assert collected([[(term, 0) for term in "abcd"]] * 9).finish() is not None
    assert collected([[(term, 0) for term in "abcde"]] * 2).finish() is None
    assert collected([[(term, 0) for term in "abcdefghi"]]).finish() is None


def test_a_term_in_a_segment_that_there_is_not_is_refused():
    found = collected([[("a", 4)]]).finish()
    assert found is not None

    with pytest.raises(ValueError, match="segment that there is not"):
        Terms.from_batch(found.to_batch(), 4)


def test_a_column_with_too_many_values_keeps_its_zones(monkeypatch):
    monkeypatch.setattr(index_inverted, "PAIRS_MAX", 100)
    columns = pa.RecordBatch.from_pydict({"x": pa.array([row if row % 2 else None for row in range(3000)])})
    store, metadata, file = indexed(columns, {"x": ["inverted"]})
    reader = IndexReader(store)

    assert reader.select(metadata, file, Compare("x", ">", 2500)) == RowRanges.of([2048], [3000])
    assert reader.select(metadata, file, IsIn("x", (5, 7))) == RowRanges.of([0], [1024])
    assert reader.select(metadata, file, Text("x", "contains", "7")) is None


def test_zones_of_floats_leave_room_for_nan(monkeypatch):
    monkeypatch.setattr(index_inverted, "PAIRS_MAX", 0)
    values = [-1.0] * 1024 + [float("nan")] * 1024 + [-1.0, float("nan")] * 512 + [None] * 1024
    columns = pa.RecordBatch.from_pydict({"x": pa.array(values, pa.float64())})
    store, metadata, file = indexed(columns, {"x": ["inverted"]})
    reader = IndexReader(store)

    assert reader.select(metadata, file, Compare("x", ">", 0.0)) == RowRanges.of([1024], [3072])
    assert reader.select(metadata, file, Not(IsIn("x", (-1.0,)))) == RowRanges.of([1024], [3072])
    assert reader.select(metadata, file, Not(IsNull("x"))) == RowRanges.of([0], [3072])
    assert reader.select(metadata, file, IsNull("x")) == RowRanges.of([3072], [4096])


def test_texts_and_flags_have_no_zones():
    for values in (pa.array(["a"], pa.large_string()), pa.array([True]), pa.array([b"a"], pa.large_binary())):
        collector = InvertedCollector()
        collector.add(values)
        assert set(collector.finish()) == {"segments", "terms"}


def holds_in_zone(low: float, high: float, leaf: Predicate, negated: bool) -> bool:
    """Tell whether a segment with these bounds may hold a match, one condition at a time."""
    if isinstance(leaf, IsIn):
        return not (low == high and low in leaf.values) if negated else any(low <= v <= high for v in leaf.values)
    assert isinstance(leaf, Compare)
    within = {
        "==": low <= leaf.value <= high,
        "!=": not low == leaf.value == high,
        "<": low < leaf.value,
        "<=": low <= leaf.value,
        ">": high > leaf.value,
        ">=": high >= leaf.value,
    }
    opposite = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
    return within[opposite[leaf.operator] if negated else leaf.operator]


numbers = st.integers(-3, 3)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=6),
    st.one_of(
        st.builds(Compare, st.just("x"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers),
        st.lists(numbers, max_size=3).map(lambda some: IsIn("x", tuple(some))),
    ),
    st.booleans(),
    st.sampled_from([pa.int8(), pa.int64(), pa.float32()]),
)
def test_zones_tell_by_the_least_and_the_greatest_number(segments, leaf, negated, data_type):
    collector, row = ZonesCollector(), 0
    for segment in segments:
        padded = segment + [segment[0]] * (4 - len(segment))
        for half in (padded[:2], padded[2:]):  # A segment may come in several arrays.
            collector.add(pa.array(half, data_type), np.ones(2, np.bool_), cut(row, 2, 4))
            row += 2
    zones = Zones.from_batch(collector.finish().to_batch(), type_to_text(data_type))

    mask = zones.matching(Not(leaf) if negated else leaf)

    expected = [holds_in_zone(min(segment), max(segment), leaf, negated) for segment in segments]
    assert mask.tolist() == expected


def test_a_segment_without_numbers_has_no_zone_and_does_not_spoil_others():
    collector = ZonesCollector()
    values = pa.array([None, 5, 7, None, None, None])
    collector.add(values, np.array([False, True, True, False, False, False]), cut(0, 6, 3))

    zones = Zones.from_batch(collector.finish().to_batch(), "int64")

    assert (zones.least[0], zones.greatest[0]) == (5, 7)
    assert zones.least[1] > zones.greatest[1]


# --- filters ---------------------------------------------------------------------------------------------


def test_one_in_a_hundred_values_is_taken_for_one_that_is_there():
    draw = np.random.default_rng(1)
    collector = SkippingCollector()
    collector.add(pa.array(draw.integers(0, 2**40, 20 * 10_240)))
    blooms = Blooms.from_batch(collector.finish()["bloom"])

    strangers = hashes_of(pa.array(draw.integers(2**41, 2**42, 3000)))
    taken = np.mean([blooms.holding(value).mean() for value in strangers])

    assert 0.005 < taken < 0.0125
    assert len(blooms.data) < 20 * 10_240 * 9.7 / 8


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=40), st.integers(0, 3))
def test_a_filter_never_denies_a_value_that_was_given_to_it(pairs, empty):
    pairs = sorted(pairs)
    values = hashes_of(pa.array([value for _, value in pairs], pa.int64()))
    segments = int64s([segment for segment, _ in pairs])
    collector = BloomsCollector()
    half = len(pairs) // 2
    for part in (slice(0, half), slice(half, None)):
        collector.add(values[part], segments[part])

    blooms = Blooms.from_batch(collector.finish(6 + empty).to_batch())

    for value, segment in zip(values, segments, strict=True):
        assert blooms.holding(value)[segment]
    held = {segment for segment, _ in pairs}
    assert all(not blooms.holding(np.uint64(7))[segment] for segment in range(6 + empty) if segment not in held)


def test_hashes_do_not_change():
    texts = pa.array(["", "a", "ü"], pa.large_string())

    assert hashes_of(pa.array([0, 1, -1])).tolist() == [0, 6238072747940578789, 13029008266876403067]
    assert hashes_of(pa.array([-0.0, 0.0, 1.5])).tolist() == [0, 0, hashes_of(pa.array([1.5], pa.float32()))[0]]
    assert hashes_of(texts).tolist() == [17665956581633026203, 198367012849983736, 8587625607863007258]
    assert hashes_of(texts.slice(1)).tolist() == hashes_of(texts).tolist()[1:]
    assert hashes_of(pa.array([], pa.large_string())).tolist() == []


# --- terms of texts --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=120)
@given(st.text("aBß _-1Σİ\n", max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_a_text_has_terms_like_the_parts_of_whatever_it_contains(text, start, stop):
    terms = terms_of(text)
    like = {
        "is": lambda part: part in terms,
        "starts": lambda part: any(term.startswith(part) for term in terms),
        "ends": lambda part: any(term.endswith(part) for term in terms),
        "holds": lambda part: any(part in term for term in terms),
    }
    asked = [Text("t", "contains", text[start:stop]), Text("t", "starts_with", text[:stop])]
    asked += [Text("t", "ends_with", text[start:]), Text("t", "matches", text)]

    for one in asked:
        assert all(like[how](part) for how, part in parts_of(one)), one


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text("aBßΣ -\n1", max_size=8), max_size=6))
def test_joined_texts_have_the_terms_of_each(texts):
    assert terms_of("\n".join(texts)) == frozenset().union(*map(terms_of, texts))


@pytest.mark.parametrize("pairs_max", [10**6, 10], ids=["terms", "bloom"])
def test_terms_are_found_in_either_form(pairs_max, monkeypatch):
    monkeypatch.setattr(index_inverted, "PAIRS_MAX", pairs_max)
    lines = [None if row % 10 == 0 else f"Error {row // 1024}: no SPACE left_on /dev" for row in range(4000)]
    columns = pa.RecordBatch.from_pydict({"t": pa.array(lines, pa.large_string())})
    store, metadata, file = indexed(columns, {"t": ["fulltext"]})
    reader = IndexReader(store)

    def found(kind, pattern):
        return reader.select(metadata, file, Text("t", kind, pattern))

    second, everything = RowRanges.of([1024], [2048]), RowRanges.everything(4000)
    assert found("matches", "ERROR 1") == second
    assert found("matches", "space 1 left_on") == second
    assert found("matches", "left") == RowRanges.nothing()
    assert found("matches", "--") == everything
    assert found("contains", "ror 1: no") == second
    assert found("starts_with", "Error 1: n") == second
    assert found("ends_with", "ace lost dev") == RowRanges.nothing()
    assert found("contains", "rrorx") == (RowRanges.nothing() if pairs_max > 10 else everything)
    assert reader.select(metadata, file, Compare("t", "==", "Error 1: no SPACE left_on /dev")) is None


def test_a_full_text_index_has_one_form():
    collector = FulltextCollector()
    collector.add(pa.array(["a b", None], pa.large_string()))

    assert set(collector.finish()) == {"segments", "terms"}


def test_texts_of_a_segment_are_taken_apart_each_for_itself():
    collector = FulltextCollector()
    collector.add(pa.array(["ab", "cd e"], pa.large_string()))

    assert collector.finish()["terms"].column("term").to_pylist() == ["ab", "cd", "e"]


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [("contains", "ends", "starts"), ("starts_with", "is", "starts"), ("ends_with", "ends", "is")],
)
def test_a_term_at_the_end_of_a_pattern_is_part_of_one_where_the_text_goes_on(kind, first, last):
    assert parts_of(Text("t", kind, "ab c DE")) == [(first, "ab"), ("is", "c"), (last, "de")]


# --- the object ------------------------------------------------------------------------------------------


def test_a_sidecar_is_read_in_parts_however_long_its_footer_is():
    entries = [IndexEntry(column_id=number, kind="inverted", type="int64") for number in range(300)]
    batch = pa.RecordBatch.from_pydict({"x": pa.array([1, 2])})
    data = encode_index("a" * 32, 7, 2, {entry: {"terms": batch} for entry in entries})
    store = MemoryObjectStore()
    store.put_if_absent("k", data)

    footer = read_footer(store, "k", data.size)

    assert (footer.file_id, footer.version, footer.row_count) == ("a" * 32, 7, 2)
    assert [blob.entry for blob in footer.blobs] == entries
    assert read_blob(store, "k", footer.forms(entries[299])["terms"]) == batch


FORMAT_1 = GOLDEN / "index" / "format-1.index"


def golden_columns() -> pa.RecordBatch:
    """Return the rows that ``format-1.index`` was built of, once."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array([None if row % 7 == 0 else row // 1024 for row in range(12_000)]),
            pa.array([float("nan") if row == 5 else row / 4 for row in range(12_000)]),
            pa.array([f"disk {row // 1024} FULL" for row in range(12_000)], pa.large_string()),
        ],
        names=["count", "load", "text"],
    )


GOLDEN_KINDS = {"count": ["inverted", "skipping"], "load": ["skipping"], "text": ["inverted", "skipping", "fulltext"]}


def test_an_index_of_every_format_answers_for_ever():
    store, metadata, file = indexed(golden_columns(), GOLDEN_KINDS)
    data = FORMAT_1.read_bytes()
    key = index_key(REGION, file.file_id, 1)
    store.delete(key)
    store.put_if_absent(key, data)
    assert file.index is not None
    old = replace(file, index=replace(file.index, size_bytes=len(data)))
    reader = IndexReader(store)

    assert reader.select(metadata, old, Compare("count", "==", 3)) == RowRanges.of([3072], [4096])
    assert reader.select(metadata, old, Compare("load", "==", 2750.0)) == RowRanges.of([10_240], [12_000])
    assert reader.select(metadata, old, Compare("text", "==", "disk 2 FULL")) == RowRanges.of([2048], [3072])
    blobs = read_footer(store, key, len(data)).blobs
    [terms] = [read_blob(store, key, blob) for blob in blobs if (blob.entry.kind, blob.form) == ("fulltext", "terms")]
    assert terms.column("term").to_pylist()[:3] == ["0", "disk", "full"]
    assert {blob.form for blob in blobs} == {"segments", "terms", "zones", "bloom"}
