"""What a user hands in, as an Arrow table: one look at its kind, then the room of that library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mitoframe.frames import arrow, pandas, polars
from mitoframe.model.schema import check_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


def to_table(data: Any, keys: Sequence[str]) -> pa.Table:
    """Return the data as Arrow; its memory may still be the user's.

    ``keys`` are the names of time and tags, which pandas may keep in an index.

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
