from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from chunks import chunk_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mitoframe.kernels.pages import (
    BEGIN,
    CHECKSUM,
    COUNT,
    DICTIONARY_PAGE,
    END,
    FIRST,
    KIND,
    LAYOUT,
    NO_CHECKSUM,
    PAGE_FIELDS,
    WIDTH,
    WORD_COUNT,
    page_headers,
    page_rows,
)

NO_WORDS = np.empty(0, np.int64)


def decoded(
    values: pa.Array, starts: list[int], stops: list[int], **settings: object
) -> tuple[list[int], list[bool] | None]:
    """Write a column as one row group, and return some of its rows as bits, and which of them are there."""
    data, _ = chunk_of(values, **settings)
    width = max(values.type.bit_width // 8, 4)
    pages = page_headers(data, 0, width, values.null_count > 0).reshape(-1, PAGE_FIELDS)
    assert len(pages), "the headers are known"
    words = NO_WORDS
    if pages[0, KIND] == DICTIONARY_PAGE:
        words = data[pages[0, BEGIN] : pages[0, END]].copy().view(f"<i{width}").astype(np.int64)
        pages = pages[1:]
        pages[:, WORD_COUNT] = len(words)
    found, present = page_rows(data, pages.reshape(-1), words, np.array(starts), np.array(stops))
    return found.tolist(), present.tolist() if len(present) else None


def bits(values: pa.Array) -> list[int]:
    """Return what is in memory, as integers; 0 for nulls."""
    width = values.type.bit_width
    integers = values.view(pa.int32() if width == 32 else pa.int64()) if width >= 32 else values.cast(pa.int64())
    return integers.fill_null(0).to_pylist()


def signed(found: list[int], width: int) -> list[int]:
    """Take the low half of numbers of 32 bits."""
    return np.array(found, np.int64).astype(np.int32 if width <= 32 else np.int64).tolist()


wide = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=300)
narrow = st.lists(st.integers(-3, 3), min_size=1, max_size=300)
steps = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=300).map(lambda all_of: np.cumsum(all_of).tolist())
ENCODINGS = {
    "dictionary": {"use_dictionary": True},
    "plain": {"use_dictionary": False},
    "deltas": {"use_dictionary": False, "column_encoding": {"x": "DELTA_BINARY_PACKED"}},
    "split": {"use_dictionary": False, "column_encoding": {"x": "BYTE_STREAM_SPLIT"}},
}


@st.composite
def ranges(draw: st.DrawFn, row_count: int) -> tuple[list[int], list[int]]:
    """Draw some ranges of rows, ascending, none empty."""
    edges = draw(st.sets(st.integers(0, row_count), min_size=2, max_size=8))
    ordered = sorted(edges)
    ordered = ordered[: len(ordered) // 2 * 2]
    return ordered[::2], ordered[1::2]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("data_type", [pa.int64(), pa.int32(), pa.uint64(), pa.float64(), pa.float32()], ids=str)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_any_rows_of_any_encoding_are_those_that_were_written(encoding, data_type, data):
    if encoding == "deltas" and pa.types.is_floating(data_type):
        data_type = pa.timestamp("ns")
    drawn = data.draw(st.one_of(wide, narrow, steps))
    numbers = np.array(drawn, np.int64).view(np.uint64)
    if data_type.bit_width == 32:
        numbers = numbers.astype(np.uint32)
    some = data.draw(st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn)) | st.just([True] * len(drawn)))
    plain = pa.array(numbers).view(data_type)
    values = pa.array([True] * len(drawn)) if all(some) else pa.array(some)
    values = pa.compute.if_else(values, plain, pa.scalar(None, data_type))
    starts, stops = data.draw(ranges(len(values)))
    pages = data.draw(st.sampled_from([1, 7, 64, 10_000]))

    found, present = decoded(
        values, starts, stops, max_rows_per_page=pages, write_batch_size=pages, **ENCODINGS[encoding]
    )

    expected = pa.concat_arrays([values.slice(start, stop - start) for start, stop in zip(starts, stops, strict=True)])
    assert signed(found, data_type.bit_width) == bits(expected)
    if values.null_count:
        assert present == expected.is_valid().to_pylist()
    else:
        assert present is None


@pytest.mark.parametrize("distinct", [1, 2, 3, 200, 5_000, 70_000])
def test_codes_of_any_width_are_looked_up(distinct):
    values = pa.array(np.random.default_rng(distinct).integers(0, distinct, 80_000) * 3)

    found, _ = decoded(values, [0, 40_001], [17, 80_000], use_dictionary=True, dictionary_pagesize_limit=1 << 30)

    assert found == values.slice(0, 17).to_pylist() + values.slice(40_001).to_pylist()


def test_rows_that_no_page_has_give_nothing():
    data, _ = chunk_of(pa.array(range(10)), use_dictionary=False)
    pages = page_headers(data, 0, 8, False)

    for starts, stops in [([5], [11]), ([10], [12])]:
        found, _ = page_rows(data, pages, NO_WORDS, np.array(starts), np.array(stops))
        assert not len(found)


def test_headers_say_where_pages_lie_and_what_their_checksums_are():
    values = pa.array(range(100))
    data, column = chunk_of(values, use_dictionary=False, max_rows_per_page=40, write_page_checksum=True)

    pages = page_headers(data, 1_000, 8, False).reshape(-1, PAGE_FIELDS)

    assert pages[:, [FIRST, COUNT, WIDTH]].tolist() == [[0, 40, 8], [40, 40, 8], [80, 20, 8]]
    assert (pages[:, END] - pages[:, BEGIN]).tolist() == [320, 320, 160]
    assert pages[-1, END] == 1_000 + len(data)
    assert (pages[:, CHECKSUM] != NO_CHECKSUM).all()
    body = data[pages[1, BEGIN] - 1_000 : pages[1, END] - 1_000]
    assert body.view(np.int64).tolist() == list(range(40, 80))
    assert column.num_values == 100


@pytest.mark.parametrize("settings", [{"data_page_version": "2.0"}], ids=["second version"])
def test_pages_of_another_kind_are_left_to_others(settings):
    data, _ = chunk_of(pa.array(range(100)), **settings)

    assert not len(page_headers(data, 0, 8, False))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_ends_too_early_or_is_no_page_gives_nothing_and_reads_nothing_beyond(encoding):
    values = pa.array(np.cumsum(np.random.default_rng(3).integers(0, 9, 300)))
    data, _ = chunk_of(values, **ENCODINGS[encoding])
    pages = page_headers(data, 0, 8, False).reshape(-1, PAGE_FIELDS)
    known = pages[pages[:, KIND] != DICTIONARY_PAGE]

    for length in range(len(data)):
        assert len(page_headers(data[:length].copy(), 0, 8, False)) < pages.size, "a page that is not whole is none"
    for end in range(int(known[0, BEGIN]), int(known[0, END])):
        shorter = known[:1].copy()
        shorter[0, END] = end
        found, _ = page_rows(data, shorter.reshape(-1), NO_WORDS, np.array([0]), np.array([300]))
        assert not len(found)


def test_an_encoding_that_is_not_known_gives_nothing():
    data, _ = chunk_of(pa.array(range(10)), use_dictionary=False)
    pages = page_headers(data, 0, 8, False)
    pages[LAYOUT] = 7

    found, _ = page_rows(data, pages, NO_WORDS, np.array([0]), np.array([10]))

    assert not len(found)
