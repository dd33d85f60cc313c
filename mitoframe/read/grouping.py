"""Rows grouped by some of their tags, without a look at the rows: groups are made of the table of series.

A group has a number, its place among the groups in order (tag by tag in the order asked for, nulls first). A row's
group is ``numbers[code]``, so that a table of some thousand series is all that is ever compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mitoframe.model.batch import fields_without_columns
from mitoframe.storage.series import unify

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from mitoframe.model.batch import Codes

_TABLES_KNOWN_MAX = 16


class Grouping:
    """Finds the groups of tables of series, each table once while its batches follow each other."""

    def __init__(self, by: Sequence[str], tags: Sequence[str]) -> None:
        """Group by the tags ``by``; ``tags`` are those that there are, in their order."""
        self._by = list(by)
        self._is_series = self._by == list(tags)
        # A table is kept with its groups, so that nothing else can come to lie where it lies.
        self._known: dict[int, tuple[pa.RecordBatch, pa.RecordBatch, Codes]] = {}

    def of(self, series: pa.RecordBatch) -> tuple[pa.RecordBatch, Codes]:
        """Return the groups of a sorted batch's series, and the number of each series' group."""
        known = self._known.get(id(series))
        if known is None:
            if len(self._known) >= _TABLES_KNOWN_MAX:
                self._known = {}
            known = self._known[id(series)] = (series, *self._found(series))
        return known[1], known[2]

    def _found(self, series: pa.RecordBatch) -> tuple[pa.RecordBatch, Codes]:
        if self._is_series:
            return series, np.arange(len(series), dtype=np.int32)
        groups, [numbers] = merged_groups([series.select(self._by)])
        return groups, numbers


def merged_groups(tables: Sequence[pa.RecordBatch]) -> tuple[pa.RecordBatch, list[Codes]]:
    """Return the distinct groups of all tables in order, and for each table where its rows are among them.

    Tables that are equal cost one comparison: the files of a store tell of the same series over and over.
    """
    if not tables[0].num_columns:
        # All rows are one group, also where there are no series at all.
        return fields_without_columns(1), [np.zeros(len(table), dtype=np.int32) for table in tables]
    distinct: list[pa.RecordBatch] = []
    places = [_place(table, distinct) for table in tables]
    groups, numbers = unify(distinct)
    return groups, [numbers[place] for place in places]


def _place(table: pa.RecordBatch, distinct: list[pa.RecordBatch]) -> int:
    """Return where a table is among the distinct ones; the newest are likeliest to be its like."""
    for place in range(len(distinct) - 1, -1, -1):
        if distinct[place] is table:
            return place
    for place in range(len(distinct) - 1, max(len(distinct) - 3, -1), -1):
        if len(distinct[place]) == len(table) and distinct[place].equals(table):
            return place
    distinct.append(table)
    return len(distinct) - 1
