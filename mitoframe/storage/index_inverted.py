"""The inverted index: which segments hold a value, and the least and greatest value of each.

Two forms, each a record batch:

    terms   "term": each distinct value once; "segments": the segments that hold it, ascending
    zones   "least", "greatest": of each segment, for columns of numbers and times; the wrong way round if it has none

Terms answer whatever can be asked of a value, exactly: a segment holds a match if one of its terms is one. They are
held in memory while they are collected, so a column that has too many is left with zones, which answer ranges nearly as
well; to look for single values among many, the skipping index is the right kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.predicate import Compare, IsIn, Not, Operator, matching
from mitoframe.model.types import type_from_text
from mitoframe.storage.index_segments import SegmentsCollector
from mitoframe.storage.index_values import exact_values, is_numeric, nan_mask, null_mask, numbers_of

if TYPE_CHECKING:
    from mitoframe.model.predicate import Predicate
    from mitoframe.model.rows import RowNumbers
    from mitoframe.storage.index_segments import Cut, Segments
    from mitoframe.storage.index_values import Mask

INVERTED_ROWS = 1024
"""Rows per segment."""
TERMS_MAX = 512 * 1024
"""A column with half as many distinct values may have no terms, one with more has none: conditions ask them all."""
TERM_BYTES_MAX = 64 * 1024 * 1024
"""The same for the size of these values together."""
PAIRS_MAX = 8 * 1024 * 1024
"""The same for pairs of a value and a segment that holds it."""

_OPPOSITE: dict[Operator, Operator] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class InvertedCollector:
    """Builds the index of one column while its values pass by."""

    def __init__(self) -> None:
        self._segments = SegmentsCollector(INVERTED_ROWS)
        self._terms = TermsCollector()
        self._zones = ZonesCollector()

    def add(self, values: pa.Array) -> None:
        found = self._segments.add(values)
        is_null = null_mask(values)
        encoded = values.drop_null().dictionary_encode()
        self._terms.add(encoded.dictionary, encoded.indices.to_numpy(), found.segment_of_rows()[~is_null])
        if _has_zones(values.type):
            self._zones.add(values, ~(is_null | nan_mask(values)), found)

    def finish(self) -> dict[str, pa.RecordBatch]:
        """Return the forms that there are, and ``"segments"``."""
        found = {"segments": self._segments.finish(), "terms": self._terms.finish(), "zones": self._zones.finish()}
        return {form: known.to_batch() for form, known in found.items() if known is not None}


def _has_zones(data_type: pa.DataType) -> bool:
    return is_numeric(data_type) and not pa.types.is_boolean(data_type)


# --- terms -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    """``terms[i]`` is held by ``segments[offsets[i]:offsets[i + 1]]``. Null is no term, NaN is one."""

    terms: pa.Array
    offsets: RowNumbers
    segments: npt.NDArray[np.int32]

    def to_batch(self) -> pa.RecordBatch:
        lists = pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.segments))
        return pa.RecordBatch.from_arrays([self.terms, lists], names=["term", "segments"])

    @staticmethod
    def from_batch(batch: pa.RecordBatch, segment_count: int) -> Terms:
        """Read what `to_batch` wrote. ``KeyError`` or ``ValueError`` if it is not that."""
        lists = batch.column("segments")
        segments = lists.values.to_numpy()
        if len(segments) and not 0 <= segments.min() <= segments.max() < segment_count:
            raise ValueError("a term is in a segment that there is not")
        return Terms(batch.column("term"), lists.offsets.to_numpy(), segments)

    def matching(self, predicate: Predicate, name: str, segments: Segments) -> Mask | None:
        """Tell which segments hold a match of a condition on this column alone, called ``name``; None if that fails.

        That is exact: each distinct value is asked, and null where there is one.
        """
        asked = pa.concat_arrays([self.terms, pa.nulls(1, self.terms.type)])
        try:
            found = matching(predicate, pa.RecordBatch.from_arrays([asked], names=[name]))
        except Exception:  # noqa: BLE001 - a user's condition may raise anything, perhaps of a value that no row has now
            return None
        truth: Mask = pc.fill_null(found, False).to_numpy(zero_copy_only=False)
        held = self.holding(truth[:-1], len(segments))
        return held | segments.nulls if truth[-1] else held

    def holding(self, chosen: Mask, segment_count: int) -> Mask:
        """Tell which segments hold one of the chosen terms."""
        found = np.zeros(segment_count, np.bool_)
        if np.count_nonzero(chosen) >= _FEW:
            found[self.segments[np.repeat(chosen, np.diff(self.offsets))]] = True
            return found
        for term in np.nonzero(chosen)[0]:
            found[self.segments[self.offsets[term] : self.offsets[term + 1]]] = True
        return found


_FEW = 256
"""So many terms are looked up one by one; from here on all lists are gone through at once."""


class TermsCollector:
    """Collects which segments hold which terms, until there are too many."""

    def __init__(self) -> None:
        self._dictionaries: list[pa.Array] = []
        self._pairs: list[npt.NDArray[np.int64]] = []  # Of a term, in the upper half, and a segment.
        self._term_count = self._pair_count = self._size_bytes = 0
        self.has_too_many = False

    def add(self, terms: pa.Array, codes: npt.NDArray[np.int32], segments: RowNumbers) -> None:
        """Say that segment ``segments[i]`` holds ``terms[codes[i]]``."""
        if self.has_too_many:
            return
        self._keep(terms, np.unique(((codes.astype(np.int64) + self._term_count) << 32) | segments))
        if self._is_over(1):
            self._join()  # Terms that came again count once from now on.
            if self._is_over(2):
                self.has_too_many = True
                self._forget()

    def finish(self) -> Terms | None:
        """Return the terms; None if there are too many, or none was given a chance to come."""
        if self.has_too_many or not self._dictionaries:
            return None
        self._join()
        [terms], [pairs] = self._dictionaries, self._pairs
        counts = np.bincount(pairs >> 32, minlength=len(terms))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return Terms(terms, offsets, (pairs & _SEGMENT).astype(np.int32))

    def _is_over(self, times: int) -> bool:
        return (
            times * self._term_count > TERMS_MAX
            or times * self._size_bytes > TERM_BYTES_MAX
            or times * self._pair_count > PAIRS_MAX
        )

    def _join(self) -> None:
        """Let each term be there once."""
        together = pa.concat_arrays(self._dictionaries).dictionary_encode()
        codes, pairs = together.indices.to_numpy().astype(np.int64), np.concatenate(self._pairs)
        self._forget()
        self._keep(together.dictionary, np.unique((codes[pairs >> 32] << 32) | (pairs & _SEGMENT)))

    def _keep(self, terms: pa.Array, pairs: npt.NDArray[np.int64]) -> None:
        self._dictionaries.append(terms)
        self._pairs.append(pairs)
        self._term_count += len(terms)
        self._pair_count += len(pairs)
        self._size_bytes += terms.nbytes

    def _forget(self) -> None:
        self._dictionaries, self._pairs = [], []
        self._term_count = self._pair_count = self._size_bytes = 0


_SEGMENT = 0xFFFFFFFF


# --- zones -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Zones:
    """The least and greatest number of each segment, the wrong way round if it has none. ``type`` is the column's."""

    type: pa.DataType
    least: npt.NDArray[Any]
    greatest: npt.NDArray[Any]

    def to_batch(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.array(self.least), pa.array(self.greatest)], names=["least", "greatest"])

    @staticmethod
    def from_batch(batch: pa.RecordBatch, data_type: str) -> Zones:
        """Read what `to_batch` wrote of a column of that type. ``KeyError`` or ``ValueError`` if it is not that."""
        return Zones(type_from_text(data_type), batch.column("least").to_numpy(), batch.column("greatest").to_numpy())

    def matching(self, leaf: Predicate, *, negated: bool = False) -> Mask | None:
        """Tell which segments may hold a number that fulfils a condition, or its negation; None if it is not known.

        NaN is no number here.
        """
        match leaf:
            case Not(part=part):
                return self.matching(part, negated=not negated)
            case Compare(operator=operator, value=value) if value is not None:
                known = exact_values([value], self.type)
                return None if known is None else self._compared(_opposite(operator, negated), numbers_of(known)[0])
            case IsIn(values=values):
                known = exact_values(values, self.type)
                return None if known is None else self._among(np.unique(numbers_of(known)), negated=negated)
            case _:
                return None

    def _compared(self, operator: Operator, value: Any) -> Mask:
        least, greatest = self.least, self.greatest
        match operator:
            case "==":
                found = (least <= value) & (value <= greatest)
            case "!=":
                found = (least != value) | (value != greatest)
            case "<":
                found = least < value
            case "<=":
                found = least <= value
            case ">":
                found = greatest > value
            case ">=":
                found = greatest >= value
        return np.asarray(found, np.bool_)

    def _among(self, values: npt.NDArray[Any], *, negated: bool) -> Mask:
        if negated:
            return np.asarray(~((self.least == self.greatest) & np.isin(self.least, values)), np.bool_)
        return np.searchsorted(values, self.least, "left") < np.searchsorted(values, self.greatest, "right")


def _opposite(operator: Operator, negated: bool) -> Operator:
    return _OPPOSITE[operator] if negated else operator


class ZonesCollector:
    """Finds the least and greatest number of each segment while they pass by."""

    def __init__(self) -> None:
        self._type: pa.DataType | None = None
        self._least = self._greatest = np.empty(0)

    def add(self, values: pa.Array, is_value: Mask, found: Cut) -> None:
        """Take the next values; only those marked count."""
        numbers = numbers_of(values)
        least, greatest = _limits(numbers.dtype)
        if self._type is None:
            self._type = values.type
            self._least = self._greatest = np.empty(0, numbers.dtype)
        count = int(found.segments[-1]) + 1 - len(self._least)
        self._least = np.append(self._least, np.full(count, greatest, numbers.dtype))
        self._greatest = np.append(self._greatest, np.full(count, least, numbers.dtype))
        lowest = np.minimum.reduceat(np.where(is_value, numbers, greatest), found.starts)
        highest = np.maximum.reduceat(np.where(is_value, numbers, least), found.starts)
        self._least[found.segments] = np.minimum(self._least[found.segments], lowest)
        self._greatest[found.segments] = np.maximum(self._greatest[found.segments], highest)

    def finish(self) -> Zones | None:
        """Return the zones; None if the column has no numbers."""
        return None if self._type is None else Zones(self._type, self._least, self._greatest)


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    if np.issubdtype(dtype, np.floating):
        return dtype.type(-np.inf), dtype.type(np.inf)
    return dtype.type(np.iinfo(dtype).min), dtype.type(np.iinfo(dtype).max)
