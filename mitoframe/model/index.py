"""What is known of the indexes of an SST: hints beside the file, which a scan may use to skip rows and need not.

All indexes of one SST are in one object, its *sidecar*, which is written anew whenever other indexes are wanted, under
the next `IndexMeta.version`. Which are wanted follows from the schema: `wanted_indexes`.

    inverted    value -> segments of 1,024 rows, with the least and greatest value of each segment
    skipping    a Bloom filter per segment of 10,240 rows
    fulltext    term of a text (`terms_of`) -> segments of 1,024 rows

Tags need no index of their own: every SST embeds its sorted table of series with the first row of each, so that any
condition on tags is answered to the row, where an index could only name segments. A tag may be given any kind, and is
answered by that table; nothing is built for it. Nor is anything for lists, which no condition looks into.
"""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mitoframe.model.types import type_to_text

if TYPE_CHECKING:
    from mitoframe.model.schema import Column, RegionMetadata

INVERTED, SKIPPING, FULLTEXT = "inverted", "skipping", "fulltext"
TERMS = f"casefold-words/unicode-{unicodedata.unidata_version}"
"""How texts are taken apart. A term of an index must be the one that a later process asks for, to the last character;
so only the standard library is asked, and what it takes for a letter is told by the version of its character database.
An index whose texts were taken apart otherwise is not used, and is made anew.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One kind of index of one column.

    Attributes:
        column_id: the column, whatever it is called by now.
        kind: one of `INDEX_KINDS`.
        type: the column's type when the index was built, as text: of another type it is another column's.
        terms: how texts were taken apart, for a full-text index.

    """

    column_id: int
    kind: str
    type: str
    terms: str = ""

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        if not self.terms:
            del value["terms"]
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexMeta:
    """A sidecar, as the manifest lists it beside its SST.

    Attributes:
        version: which of the sidecars that the SST has had; the first is 1.
        size_bytes: of the object; 0 if there is none, because no index is wanted any more.
        checksum: the CRC32C of the whole object.
        created_ms: when it was built, and any older version superseded.
        entries: what is in it.

    """

    version: int
    size_bytes: int
    checksum: int
    created_ms: int
    entries: tuple[IndexEntry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"entries": [entry.to_json() for entry in self.entries]}

    @staticmethod
    def from_json(value: dict[str, Any]) -> IndexMeta:
        return IndexMeta(**value | {"entries": tuple(IndexEntry(**entry) for entry in value["entries"])})


def wanted_indexes(metadata: RegionMetadata) -> tuple[IndexEntry, ...]:
    """Return the indexes that every SST of a region is to have, in a fixed order."""
    fields = sorted(metadata.fields, key=lambda field: field.column_id)
    return tuple(entry_of(field, kind) for field in fields for kind in field.indexes if _is_indexable(field))


def entry_of(column: Column, kind: str) -> IndexEntry:
    """Return the entry of an index that can answer for a column as it is now."""
    terms = TERMS if kind == FULLTEXT else ""
    return IndexEntry(column_id=column.column_id, kind=kind, type=type_to_text(column.type), terms=terms)


def _is_indexable(column: Column) -> bool:
    return not pa.types.is_large_list(column.type)
