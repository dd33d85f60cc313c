"""Which columns of floats are worth telling Polars an upper end for.

NaN is the largest float and statistics leave it out, so that no row group is skipped for ``>`` unless it is known that
the column holds none. With an end added that no number exceeds, Polars skips too; but it also looks at every row of the
row groups that are left once more, so it is told only where it skips something.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mitoframe.model.file import columns_without_nan
from mitoframe.model.predicate import Compare, conjuncts, may_match

if TYPE_CHECKING:
    from mitoframe.model.file import FileMeta
    from mitoframe.model.schema import Column
    from mitoframe.read.plan import ScanPlan
    from mitoframe.storage.sst_reader import SstReader


def prunable_above(plan: ScanPlan, reader: SstReader) -> frozenset[str]:
    """Return the columns without NaN in files that stand alone, where some row group holds nothing that is above.

    Opens footers if there are such conditions.
    """
    known = columns_without_nan(plan.metadata, plan.direct)
    columns = {column.name: column for column in plan.metadata.fields if column.name in known}
    return frozenset(
        part.column
        for part in conjuncts(plan.predicate)
        if isinstance(part, Compare) and part.operator in (">", ">=") and part.column in columns
        if any(_skips(plan, reader, file, columns[part.column], part) for file in plan.direct)
    )


def _skips(plan: ScanPlan, reader: SstReader, file: FileMeta, column: Column, part: Compare) -> bool:
    """Requires: the file stands alone, so that what it has by the column's name is the column as it is now."""
    stats = reader.footer(plan.metadata, file).stats(column)
    return any(not may_match(part, {column.name: replace(of, may_hold_nan=False)}) for of in stats if of is not None)
