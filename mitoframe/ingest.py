"""What a user hands in, as Arrow tables: one look at its kind, then the room of that library.

`to_table` takes everything at once; `to_batches` piece by piece, so that a query or a stream of any size needs the
memory of one piece. Both refuse the same data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mitoframe.frames import arrow, pandas, polars
from mitoframe.model.schema import check_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def to_table(data: Any, keys: Sequence[str]) -> pa.Table:
    """Return the data as Arrow; its memory may still be the user's.

    ``keys`` are the names of time and tags, the time first; pandas may keep them in an index. A DatetimeIndex without a
    name is the time if no column is called so.

    Raises:
        InvalidInputError: it is no frame, or a column has no Arrow form.

    """
    if polars.is_lazy(data):
        data = polars.collect(data)
    if polars.is_frame(data):
        check_names(data.columns)
        return polars.to_table(data)
    if pandas.is_frame(data):
        return arrow.check_layout(pandas.to_table(data, keys))
    return arrow.to_table(data)


def to_batches(data: Any, keys: Sequence[str], rows_max: int) -> Iterator[pa.Table]:
    """Yield the data in pieces of ``rows_max`` rows, the last one shorter; one empty piece if there are no rows.

    A LazyFrame, a reader, a DuckDB relation and anything else with ``__arrow_c_stream__`` is read as the pieces are
    asked for, and only once. A frame that is in memory is viewed in slices. A message about a row counts from the first
    row of the piece: hand `arrow.to_batch` the rows before it as ``first_row``.

    Raises:
        InvalidInputError: as in `to_table`; or the pieces differ in their columns. Pieces before it are valid.

    """
    assert rows_max > 0
    whole = _whole(data, keys, rows_max)
    return _of_size(_parts(data, keys, rows_max), rows_max) if whole is None else iter([whole])


def _whole(data: Any, keys: Sequence[str], rows_max: int) -> pa.Table | None:
    """Return data that is in memory and makes one piece; None if it has to be drawn or cut. Small writes come here."""
    is_frame = polars.is_frame(data) or pandas.is_frame(data)
    if (is_frame or isinstance(data, pa.Table | pa.RecordBatch)) and len(data) <= rows_max:
        return to_table(data, keys)
    return None


def _parts(data: Any, keys: Sequence[str], rows_max: int) -> Iterator[pa.Table]:
    """Yield the data as its library hands it out, after a part without rows that shows the columns."""
    if polars.is_lazy(data):
        return (to_table(frame, keys) for frame in polars.stream(data, rows_max))
    if polars.is_frame(data) and data.height > rows_max:
        return (to_table(frame, keys) for frame in polars.slices(data, rows_max))
    if polars.is_frame(data) or pandas.is_frame(data):
        whole = to_table(data, keys)  # The type of a column of objects takes all of its values to tell.
        return iter([whole.slice(0, 0), whole])
    return arrow.stream(data)


def _of_size(parts: Iterator[pa.Table], rows_max: int) -> Iterator[pa.Table]:
    """Cut and gather parts into pieces of one size. Copies no data."""
    first = next(parts)
    held: list[pa.Table] = []
    rows, missing = 0, rows_max
    for part in parts:
        arrow.check_same_columns(first.schema, part.schema)
        start = 0
        while len(part) - start >= missing:
            yield pa.concat_tables([*held, part.slice(start, missing)])
            start, held, missing = start + missing, [], rows_max
        if start < len(part):
            held.append(part.slice(start))
            missing -= len(part) - start
        rows += len(part)
    if held or not rows:
        yield pa.concat_tables(held or [first])
