"""The numbers everything is called by. Paths on disk are made of these and of nothing a user typed."""

from __future__ import annotations

from typing import NewType

TableId = NewType("TableId", int)
RegionId = NewType("RegionId", int)
"""``table_id << 32 | region_number``, as in mito2."""
FileId = NewType("FileId", str)
"""32 lower-case hexadecimal digits of a random UUID."""
Sequence = NewType("Sequence", int)
"""Per row, strictly increasing within a region, from 1. Never rewritten."""
EntryId = NewType("EntryId", int)
"""Of a log entry: contiguous over the whole log, from 1. 0 means none."""
ManifestVersion = NewType("ManifestVersion", int)
"""Of a region's manifest: contiguous from 0."""

NO_ENTRY = EntryId(0)
NO_SEQUENCE = Sequence(0)
FIRST_VERSION = ManifestVersion(0)


def region_id(table_id: int, region_number: int) -> RegionId:
    """Combine the two numbers a region is called by.

    >>> region_id(1, 2) == (1 << 32) + 2
    True
    """
    assert 0 <= table_id < 2**32
    assert 0 <= region_number < 2**32
    return RegionId(table_id << 32 | region_number)


def table_id_of(region: RegionId) -> TableId:
    return TableId(region >> 32)


def region_number_of(region: RegionId) -> int:
    return region & 0xFFFFFFFF
