"""The skipping index: a Bloom filter of the values in each segment, which says "not here" and sometimes "perhaps".

    bloom   "bits": for each segment a string of bytes, bit ``i`` of it being bit ``i % 8`` of byte ``i // 8``

A value with hash ``h`` (storage/index_values.py) sets the bits ``(h + i * g) % size`` for ``i`` in 0 … 6, where ``g``
is the hash with its halves exchanged, made odd, and ``size`` the number of bits of that segment: 9.6 for each distinct
value, so that one in a hundred values that are not there is taken for one that is. It answers ``==`` and membership.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mitoframe.model.predicate import Compare, IsIn
from mitoframe.storage.index_segments import SegmentsCollector
from mitoframe.storage.index_values import exact_values, hashes_of, nan_mask, null_mask

if TYPE_CHECKING:
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.rows import RowNumbers
    from mitoframe.storage.index_values import Hashes, Mask

SKIPPING_ROWS = 10_240
"""Rows per segment."""
PROBES = 7
BITS_PER_VALUE = 9.6
VALUES_ASKED_MAX = 1000
"""Membership in a larger set is not looked up: it would take longer, and one of so many is found anywhere."""


class SkippingCollector:
    """Builds the index of one column while its values pass by."""

    def __init__(self) -> None:
        self._segments = SegmentsCollector(SKIPPING_ROWS)
        self._blooms = BloomsCollector()

    def add(self, values: pa.Array) -> None:
        found = self._segments.add(values)
        is_value = ~(null_mask(values) | nan_mask(values))
        hashes = hashes_of(values.filter(pa.array(is_value)))
        self._blooms.add(hashes, found.segment_of_rows()[is_value])

    def finish(self) -> dict[str, pa.RecordBatch]:
        """Return the forms that there are, and ``"segments"``."""
        segments = self._segments.finish()
        return {"segments": segments.to_batch(), "bloom": self._blooms.finish(len(segments)).to_batch()}


@dataclass(frozen=True, slots=True)
class Blooms:
    """The filter of segment ``i`` is ``data[offsets[i]:offsets[i + 1]]``; one without values has no bytes."""

    offsets: RowNumbers
    data: npt.NDArray[np.uint8]

    def to_batch(self) -> pa.RecordBatch:
        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        bits = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self.offsets) - 1, buffers)
        return pa.RecordBatch.from_arrays([bits], names=["bits"])

    @staticmethod
    def from_batch(batch: pa.RecordBatch) -> Blooms:
        """Read what `to_batch` wrote. ``KeyError`` or ``ValueError`` if it is not that."""
        _, offsets, data = batch.column("bits").buffers()
        bounds = np.frombuffer(offsets, np.int64)[: len(batch) + 1] if offsets else np.zeros(1, np.int64)
        return Blooms(bounds, np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8))

    def holding(self, value: np.uint64) -> Mask:
        """Tell which segments may hold a value with this hash."""
        found = self.offsets[:-1] < self.offsets[1:]
        bases = self.offsets[:-1][found]
        sizes = (np.diff(self.offsets)[found] * 8).astype(np.uint64)
        bits = _positions(np.full(len(bases), value), sizes)
        octets = self.data[bases[:, None] + (bits >> np.uint64(3)).astype(np.int64)]
        is_set = (octets >> (bits & np.uint64(7)).astype(np.uint8)) & np.uint8(1)
        found[found] = is_set.all(axis=1)
        return found

    def matching(self, leaf: Predicate, data_type: pa.DataType) -> Mask | None:
        """Tell which segments may hold a value that fulfils a condition; None if that is not known here."""
        match leaf:
            case Compare(operator="==", value=value) if value is not None:
                values = exact_values([value], data_type)
            case IsIn(values=some) if len(some) <= VALUES_ASKED_MAX:
                values = exact_values(some, data_type)
            case _:
                return None
        return None if values is None else self.holding_any(hashes_of(values))

    def holding_any(self, hashes: Hashes) -> Mask:
        found = np.zeros(len(self.offsets) - 1, np.bool_)
        for value in hashes:
            found |= self.holding(value)
        return found


def _positions(hashes: Hashes, sizes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return which bits each hash sets in a filter of each size."""
    steps = (hashes >> np.uint64(32)) | (hashes << np.uint64(32)) | np.uint64(1)
    probes = np.arange(PROBES, dtype=np.uint64)
    return (hashes[:, None] + steps[:, None] * probes) % sizes[:, None]


class BloomsCollector:
    """Makes the filters of segments, one after another."""

    def __init__(self) -> None:
        self._filters: list[bytes] = []
        self._open: list[Hashes] = []

    def add(self, hashes: Hashes, segments: RowNumbers) -> None:
        """Say that segment ``segments[i]`` holds the value with ``hashes[i]``. They ascend, from call to call too."""
        numbers, starts = np.unique(segments, return_index=True)
        for number, some in zip(numbers.tolist(), np.split(hashes, starts[1:]), strict=False):
            self._close_before(number)
            self._open.append(some)

    def _close_before(self, segment: int) -> None:
        while len(self._filters) < segment:
            self._filters.append(_filter(self._open))
            self._open = []

    def finish(self, segment_count: int) -> Blooms:
        self._close_before(segment_count)
        lengths = np.array([len(bits) for bits in self._filters], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return Blooms(offsets, np.frombuffer(b"".join(self._filters), np.uint8))


def _filter(some: list[Hashes]) -> bytes:
    hashes = np.unique(np.concatenate(some)) if some else np.zeros(0, np.uint64)
    if not len(hashes):
        return b""
    size_bytes = int(np.ceil(len(hashes) * BITS_PER_VALUE / 8))
    bits = np.zeros(size_bytes * 8, np.bool_)
    bits[_positions(hashes, np.full(len(hashes), len(bits), np.uint64)).ravel()] = True
    return np.packbits(bits, bitorder="little").tobytes()
