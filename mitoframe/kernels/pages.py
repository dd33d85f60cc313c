"""Parquet's pages, as far as numbers need: headers, and the values of some of a page's rows.

Layouts: https://parquet.apache.org/docs/file-format/data-pages/encodings/ (RLE/bit-packing hybrid,
DELTA_BINARY_PACKED); a page's header is a Thrift struct in the compact protocol. The bytes must have been compared with
a checksum before they come here: what they say is followed where it stays within the array, and no more is promised of
bytes that nobody wrote. Where a layout is not one of these, or ends too early, the answer is empty, and somebody else
may try.

Numbers come out as 64 bits whatever they are: those of 32 bits are the low half.

Which rows: ranges ``starts[i] <= row < stops[i]``, ascending, none empty.
"""

from __future__ import annotations

import numpy as np

from mitoframe.kernels.jit import BoolArray, Int64Array, Uint8Array, device, kernel

DATA_PAGE, DICTIONARY_PAGE = 0, 2
PLAIN, PLAIN_DICTIONARY, RLE, DELTA_BINARY_PACKED, RLE_DICTIONARY, BYTE_STREAM_SPLIT = 0, 2, 3, 5, 8, 9
NO_CHECKSUM = -1

PAGE_FIELDS = 12
KIND, LAYOUT, FIRST, COUNT, BEGIN, END, UNPACKED_BYTES, CHECKSUM, WIDTH, NULLABLE, FIRST_WORD, WORD_COUNT = range(
    PAGE_FIELDS
)
"""What is told of a page: its kind and encoding, its first row and how many it has, where its body begins and ends, how
many bytes it has unpacked, its CRC32 or `NO_CHECKSUM`, how many bytes a number has, whether some may be null, and where
the values of its dictionary begin, and how many they are."""

# The types of Thrift's compact protocol that page headers have.
_TRUE, _FALSE, _BYTE, _INT16, _INT32, _INT64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12


@device
def _int(value: object) -> int:
    """Return a number of any width as one of 64 bits, with a sign: among these alone arithmetic stays so."""
    return np.int64(value)  # type: ignore[arg-type,return-value]  # To Numba it is an int.


@device
def _varint(data: Uint8Array, at: int) -> tuple[int, int]:
    """Return the unsigned number at a position, and the next position, -1 if there is no end to it."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < data.size and shift < 64:
        byte = data[at]
        value |= np.uint64(byte & 127) << shift
        at += 1
        if byte < 128:
            return _int(value), at
        shift += np.uint64(7)
    return 0, -1


@device
def _signed(value: int) -> int:
    """Undo the zigzag of a number."""
    return _int((np.uint64(value) >> np.uint64(1)) ^ np.uint64(-(value & 1)))


@device
def _skip(data: Uint8Array, at: int, kind: int) -> int:
    """Return the position after a value; -1 if it is of a type that page headers do not have, or has no end."""
    depth = 0
    while True:
        if kind == _STRUCT:
            depth += 1
        elif kind == _BYTE:
            at += 1
        elif kind in (_INT16, _INT32, _INT64):
            at = _varint(data, at)[1]
        elif kind == _DOUBLE:
            at += 8
        elif kind == _BINARY:
            length, at = _varint(data, at)
            if length < 0 or length > data.size:
                return -1
            at += length if at >= 0 else 0
        elif kind not in (_TRUE, _FALSE):
            return -1
        while depth > 0:
            if at < 0 or at >= data.size:
                return -1
            head = data[at]
            at += 1
            if head == 0:
                depth -= 1
                continue
            if head < 16:
                at = _varint(data, at)[1]
            kind = _int(head & 15)
            break
        if depth == 0:
            return at


@kernel
def page_headers(data: Uint8Array, start: int, width: int, is_nullable: bool) -> Int64Array:
    """Return what the headers of a column chunk say, `PAGE_FIELDS` numbers a page, one page after the other.

    ``data`` are all bytes of the chunk, which begins at byte ``start`` of its file; so do the bodies' places. Pages of
    the second version, and encrypted ones, are not known here.
    """
    nothing = np.empty(0, np.int64)
    found = np.empty(16 * PAGE_FIELDS, np.int64)
    filled = 0
    at = 0
    row = 0
    while at < data.size:
        if filled == found.size:
            found = np.concatenate((found, np.empty(found.size, np.int64)))
        kind, layout, count, stored, unpacked, checksum = -1, -1, -1, -1, -1, NO_CHECKSUM
        inner = 0  # The struct we are in: 0 the header itself, else the field of it.
        field = 0
        while True:
            if at < 0 or at >= data.size:
                return nothing
            head = data[at]
            at += 1
            if head == 0:
                if inner == 0:
                    break
                inner, field = 0, inner
                continue
            shape = _int(head & 15)
            if head >= 16:
                field += _int(head >> 4)
            else:
                value, at = _varint(data, at)
                field = _signed(value)
            if inner == 0 and shape == _STRUCT and field in (5, 7):
                inner, field = field, 0
            elif shape == _INT32:
                value, at = _varint(data, at)
                value = _signed(value)
                if inner == 0:
                    if field == 1:
                        kind = value
                    elif field == 2:
                        unpacked = value
                    elif field == 3:
                        stored = value
                    elif field == 4:
                        checksum = value & 0xFFFFFFFF
                elif field == 1:
                    count = value
                elif field == 2:
                    layout = value
            else:
                at = _skip(data, at, shape)
        if kind not in (DATA_PAGE, DICTIONARY_PAGE) or min(layout, count, stored, unpacked) < 0:
            return nothing
        if at + stored > data.size or (kind == DICTIONARY_PAGE and filled > 0):
            return nothing
        found[filled + KIND], found[filled + LAYOUT] = kind, layout
        found[filled + FIRST], found[filled + COUNT] = row, count
        found[filled + BEGIN], found[filled + END] = start + at, start + at + stored
        found[filled + UNPACKED_BYTES], found[filled + CHECKSUM] = unpacked, checksum
        found[filled + WIDTH], found[filled + NULLABLE] = width, is_nullable
        found[filled + FIRST_WORD] = 0
        found[filled + WORD_COUNT] = 0
        filled += PAGE_FIELDS
        at += stored
        row += count if kind == DATA_PAGE else 0
    return found[:filled]


@device
def _bits(data: Uint8Array, bit: int, width: int) -> np.uint64:
    """Return ``width`` bits, up to 64, from a bit on, the lowest first. Requires: the array has them."""
    place = bit >> 3
    if width <= 57 and place + 8 <= data.size:
        first = np.uint64(place)
        word = np.uint64(0)
        for number in range(8):  # One load, once compiled, because the index has no sign.
            word |= np.uint64(data[first + np.uint64(number)]) << np.uint64(8 * number)
        return (word >> np.uint64(bit & 7)) & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))
    value = np.uint64(0)
    taken = 0
    while taken < width:
        some = min(8 - (bit & 7), width - taken)
        byte = np.uint64(data[bit >> 3]) >> np.uint64(bit & 7)
        value |= (byte & ((np.uint64(1) << np.uint64(some)) - np.uint64(1))) << np.uint64(taken)
        taken += some
        bit += some
    return value


@device
def _unpack(data: Uint8Array, bit: int, width: int, count: int, found: Int64Array, filled: int) -> int:
    """Write ``count`` numbers of ``width`` bits, up to 32, that follow each other from a bit on; return their end."""
    place = bit >> 3
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    held = np.uint64(0)
    held_bits = 0
    if bit & 7:
        held = np.uint64(data[place]) >> np.uint64(bit & 7)
        held_bits = 8 - (bit & 7)
        place += 1
    for at in range(filled, filled + count):
        while held_bits < width:
            held |= np.uint64(data[place]) << np.uint64(held_bits)
            held_bits += 8
            place += 1
        found[at] = _int(held & mask)
        held >>= np.uint64(width)
        held_bits -= width
    return filled + count


@device
def _hybrid(
    data: Uint8Array,
    at: int,
    end: int,
    bit_width: int,
    firsts: Int64Array,
    lasts: Int64Array,
    count: int,
    found: Int64Array,
    filled: int,
) -> int:
    """Write values of ``count`` ranges of a run-length and bit-packed sequence; return where they end, or -1."""
    value_bytes = (bit_width + 7) // 8
    row = 0
    number = 0
    while number < count:
        head, at = _varint(data, at)
        if at < 0 or head < 0 or bit_width > 32:
            return -1
        is_packed = head & 1 == 1
        run = (head >> 1) * 8 if is_packed else head >> 1
        size = (head >> 1) * bit_width if is_packed else value_bytes
        if run == 0 or at + size > end:
            return -1
        repeated = 0
        if not is_packed:
            for place in range(value_bytes):
                repeated |= _int(data[at + place]) << (8 * place)
        while number < count and firsts[number] < row + run:
            first = max(firsts[number], row)
            last = min(lasts[number], row + run)
            if is_packed:
                filled = _unpack(data, at * 8 + (first - row) * bit_width, bit_width, last - first, found, filled)
            else:
                found[filled : filled + last - first] = repeated
                filled += last - first
            if lasts[number] > row + run:
                break
            number += 1
        row += run
        at += size
    return filled


@device
def _delta(
    data: Uint8Array,
    at: int,
    end: int,
    firsts: Int64Array,
    lasts: Int64Array,
    count: int,
    found: Int64Array,
    filled: int,
) -> int:
    """Write values of ``count`` ranges of a DELTA_BINARY_PACKED sequence; return where they end, or -1."""
    block_rows, at = _varint(data, at)
    part_count, at = _varint(data, at) if at >= 0 else (0, -1)
    value_count, at = _varint(data, at) if at >= 0 else (0, -1)
    head, at = _varint(data, at) if at >= 0 else (0, -1)
    if at < 0 or part_count <= 0 or block_rows <= 0 or block_rows % (8 * part_count) or lasts[count - 1] > value_count:
        return -1
    part_rows = block_rows // part_count
    value = np.uint64(_signed(head))
    number = 0
    row = 0
    if firsts[0] == 0:
        found[filled] = _int(value)
        filled += 1
        if lasts[0] == 1:
            number = 1
    while number < count:
        head, at = _varint(data, at)
        if at < 0 or at + part_count > end:
            return -1
        least = np.uint64(_signed(head))
        widths = at
        at += part_count
        for part in range(part_count):
            width = _int(data[widths + part])
            if width > 64 or at + part_rows * width // 8 > end:
                return -1
            bit = at * 8
            for _ in range(part_rows):
                value += least + _bits(data, bit, width)
                bit += width
                row += 1
                if row >= firsts[number]:
                    found[filled] = _int(value)
                    filled += 1
                    if row + 1 == lasts[number]:
                        number += 1
                        if number == count:
                            return filled
            at += part_rows * width // 8
    return filled


@device
def _numbers(
    data: Uint8Array,
    at: int,
    end: int,
    layout: int,
    width: int,
    words: Int64Array,
    firsts: Int64Array,
    lasts: Int64Array,
    count: int,
    found: Int64Array,
    filled: int,
) -> int:
    """Write values of ``count`` ranges of a page's body; return where they end, or -1."""
    if layout in (RLE_DICTIONARY, PLAIN_DICTIONARY):
        if at >= end:
            return -1
        begun = filled
        filled = _hybrid(data, at + 1, end, _int(data[at]), firsts, lasts, count, found, filled)
        for place in range(begun, filled):
            if found[place] >= words.size:
                return -1
            found[place] = words[found[place]]
        return filled
    if layout == DELTA_BINARY_PACKED:
        return _delta(data, at, end, firsts, lasts, count, found, filled)
    value_count = (end - at) // width
    if lasts[count - 1] > value_count or layout not in (PLAIN, BYTE_STREAM_SPLIT):
        return -1
    step, apart = (width, 1) if layout == PLAIN else (1, value_count)
    for number in range(count):
        for row in range(firsts[number], lasts[number]):
            begin = np.uint64(at + row * step)
            value = np.uint64(0)
            if apart == 1 and width == 8:
                for byte in range(8):  # One load, once compiled.
                    value |= np.uint64(data[begin + np.uint64(byte)]) << np.uint64(8 * byte)
            else:
                for byte in range(width):
                    value |= np.uint64(data[begin + np.uint64(byte * apart)]) << np.uint64(8 * byte)
            found[filled] = _int(value)
            filled += 1
    return filled


@kernel
def page_rows(
    data: Uint8Array, pages: Int64Array, dictionary: Int64Array, starts: Int64Array, stops: Int64Array
) -> tuple[Int64Array, BoolArray]:
    """Return values of some rows of a column, and which of them are there, if some may be null.

    ``pages`` has `PAGE_FIELDS` numbers for each page, ascending; together they have all rows that are wanted. ``data``
    are their bodies, unpacked, and ``dictionary`` has the values of all their dictionaries. Both answers are empty if a
    page cannot be decoded here.
    """
    nothing = np.empty(0, np.int64), np.empty(0, np.bool_)
    row_count = np.sum(stops - starts)
    found = np.zeros(row_count, np.int64)
    present = np.ones(row_count if pages.size > 0 and pages[NULLABLE] != 0 else 0, np.bool_)
    filled = 0
    firsts = np.empty(starts.size, np.int64)
    lasts = np.empty(starts.size, np.int64)
    passed = 0
    for page in range(0, pages.size, PAGE_FIELDS):
        low = pages[page + FIRST]
        high = low + pages[page + COUNT]
        count = 0
        wanted = 0
        while passed < stops.size and stops[passed] <= low:
            passed += 1
        for number in range(passed, starts.size):
            if starts[number] >= high:
                break
            first, last = max(starts[number], low), min(stops[number], high)
            if first < last:
                firsts[count], lasts[count] = first - low, last - low
                wanted += last - first
                count += 1
        if count == 0:
            continue
        at, end = pages[page + BEGIN], pages[page + END]
        layout, width = pages[page + LAYOUT], pages[page + WIDTH]
        first_word = pages[page + FIRST_WORD]
        words = dictionary[first_word : first_word + pages[page + WORD_COUNT]]
        if pages[page + NULLABLE] == 0:
            done = _numbers(data, at, end, layout, width, words, firsts, lasts, count, found, filled)
            if done != filled + wanted:
                return nothing
            filled = done
            continue
        # Levels first: of a null nothing is stored.
        if at + 4 > end:
            return nothing
        level_bytes = _int(_bits(data, at * 8, 32))
        levels = np.empty(high - low, np.int64)
        whole = np.array([0, high - low])
        if at + 4 + level_bytes > end:
            return nothing
        if _hybrid(data, at + 4, at + 4 + level_bytes, 1, whole[:1], whole[1:], 1, levels, 0) != levels.size:
            return nothing
        before = np.empty(levels.size + 1, np.int64)
        before[0] = 0
        for row in range(levels.size):
            before[row + 1] = before[row] + levels[row]
        stored = 0
        kept = 0
        dense_firsts = np.empty(count, np.int64)
        dense_lasts = np.empty(count, np.int64)
        for number in range(count):
            first, last = before[firsts[number]], before[lasts[number]]
            if first < last:
                dense_firsts[kept], dense_lasts[kept] = first, last
                stored += last - first
                kept += 1
        dense = np.empty(stored, np.int64)
        if kept > 0:
            done = _numbers(
                data,
                at + 4 + level_bytes,
                end,
                layout,
                width,
                words,
                dense_firsts,
                dense_lasts,
                kept,
                dense,
                0,
            )
            if done != stored:
                return nothing
        taken = 0
        for number in range(count):
            for row in range(firsts[number], lasts[number]):
                present[filled] = levels[row] != 0
                if levels[row]:
                    found[filled] = dense[taken]
                    taken += 1
                filled += 1
    return (found, present) if filled == row_count else nothing
