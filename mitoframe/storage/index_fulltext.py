"""The full-text index: which segments hold a term of a text.

Two forms, of which a column has one: ``terms`` as in the inverted index, while they are few enough to be held in
memory, else ``bloom`` as in the skipping index, of the terms of each segment.

It answers ``matches``; and, because a text that contains a pattern also contains the pattern's terms, ``contains``,
``starts_with`` and ``ends_with``: a term inside the pattern is a term of the text, one that touches the pattern's end
is at least part of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.model.predicate import Text, terms_of
from mitoframe.storage.index_bloom import BloomsCollector
from mitoframe.storage.index_inverted import TermsCollector
from mitoframe.storage.index_segments import SegmentsCollector
from mitoframe.storage.index_values import hashes_of

if TYPE_CHECKING:
    from mitoframe.model.predicate import Predicate
    from mitoframe.storage.index_bloom import Blooms
    from mitoframe.storage.index_inverted import Terms
    from mitoframe.storage.index_segments import Segments
    from mitoframe.storage.index_values import Mask

FULLTEXT_ROWS = 1024
"""Rows per segment."""

How: TypeAlias = Literal["is", "starts", "ends", "holds"]


class FulltextCollector:
    """Builds the index of one column while its texts pass by."""

    def __init__(self) -> None:
        self._segments = SegmentsCollector(FULLTEXT_ROWS)
        self._terms = TermsCollector()
        self._blooms = BloomsCollector()

    def add(self, values: pa.Array) -> None:
        found = self._segments.add(values)
        for segment, start, length in zip(found.segments, found.starts, found.lengths, strict=True):
            texts = values.slice(start, length).drop_null().unique().to_pylist()
            # No term reaches beyond the end of a line, so that joined texts have the terms of each.
            terms = pa.array(sorted(terms_of("\n".join(texts))), pa.large_string())
            where = np.full(len(terms), segment, np.int64)
            self._terms.add(terms, np.arange(len(terms), dtype=np.int32), where)
            self._blooms.add(hashes_of(terms), where)

    def finish(self) -> dict[str, pa.RecordBatch]:
        """Return the forms that there are, and ``"segments"``."""
        segments = self._segments.finish()
        forms = {"segments": segments.to_batch()}
        terms = self._terms.finish()
        if terms is not None:
            return forms | {"terms": terms.to_batch()}
        return forms | {"bloom": self._blooms.finish(len(segments)).to_batch()}


@dataclass(frozen=True, slots=True)
class Fulltext:
    """What is known of the terms of each segment; one of both."""

    terms: Terms | None
    blooms: Blooms | None

    def matching(self, leaf: Predicate, segments: Segments) -> Mask | None:
        """Tell which segments may hold a text that fulfils a condition; None if that is not known here."""
        if not isinstance(leaf, Text):
            return None
        found = segments.values
        for how, part in parts_of(leaf):
            found = found & self._holding(how, part, segments)
        return found

    def _holding(self, how: How, part: str, segments: Segments) -> Mask:
        if self.terms is not None:
            chosen: Mask = _CHOOSE[how](self.terms.terms, part).to_numpy(zero_copy_only=False)
            return self.terms.holding(chosen, len(segments))
        if self.blooms is not None and how == "is":
            return self.blooms.holding(hashes_of(pa.array([part], pa.large_string()))[0])
        return segments.values


_CHOOSE = {
    "is": pc.equal,
    "starts": lambda terms, part: pc.starts_with(terms, pattern=part),
    "ends": lambda terms, part: pc.ends_with(terms, pattern=part),
    "holds": lambda terms, part: pc.match_substring(terms, pattern=part),
}
_WORD = re.compile(r"\w+")


def parts_of(text: Text) -> list[tuple[How, str]]:
    """Return what a text must have terms of: how they are like a part of the pattern, and that part.

    >>> parts_of(Text("message", "contains", "sk FULL on sd"))
    [('ends', 'sk'), ('is', 'full'), ('is', 'on'), ('starts', 'sd')]
    """
    if text.kind == "matches":
        return [("is", term) for term in sorted(terms_of(text.pattern))]
    folded = text.pattern.casefold()
    return [(_how(text, found, len(folded)), found[0]) for found in _WORD.finditer(folded)]


def _how(text: Text, found: re.Match[str], length: int) -> How:
    is_open_left = found.start() == 0 and text.kind != "starts_with"
    is_open_right = found.end() == length and text.kind != "ends_with"
    if is_open_left and is_open_right:
        return "holds"
    if is_open_left:
        return "ends"
    return "starts" if is_open_right else "is"
