"""Tables of series: the distinct tag tuples that row codes point into.

`unify` brings the series of several sources into one order, so that from there on rows are compared by rank, an
integer. The same table, with the first row of each series, is stored inside every SST; it is what lets a reader tell
any row's series without reading a tag column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mitoframe.kernels.keys import dense_ranks
from mitoframe.model.batch import concat_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from mitoframe.model.batch import Codes

FIRST_ROW_COLUMN = "__first_row"
_IN_THIS_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
"""To hand a few small columns to other threads takes longer than to unpack them."""


def unify(tables: Sequence[pa.RecordBatch]) -> tuple[pa.RecordBatch, list[Codes]]:
    """Return the distinct tag tuples of all tables in order (nulls first), and each table's ranks in it.

    ``ranks[i][code]`` is the position of tuple ``code`` of table ``i`` in the result.
    """
    if len(tables) == 1 and len(tables[0]) <= 1:
        return tables[0], [np.zeros(len(tables[0]), dtype=np.int32)]
    together = concat_fields(list(tables))
    ranks, first_rows = dense_ranks([_column_ranks(column) for column in together.columns], len(together))
    union = together.take(pa.array(first_rows))
    bounds = np.cumsum([len(table) for table in tables])[:-1]
    return union, np.split(ranks, bounds)


def _column_ranks(column: pa.Array) -> npt.NDArray[np.int32]:
    """Rank a tag's values among themselves; null is -1, below everything."""
    encoded = column.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    if not len(encoded.dictionary):
        return np.full(len(column), -1, dtype=np.int32)
    ranks = pc.rank(encoded.dictionary, tiebreaker="dense").to_numpy(zero_copy_only=False).astype(np.int32)
    return np.where(codes < 0, np.int32(-1), ranks[codes])


def encode_series(series: pa.RecordBatch, offsets: npt.NDArray[np.int64]) -> pa.Buffer:
    """Write a sorted batch's series and the first row of each. Requires: one more offset than series."""
    assert len(offsets) == len(series) + 1
    table = pa.RecordBatch.from_arrays(
        [*series.columns, pa.array(offsets[:-1])], names=[*series.schema.names, FIRST_ROW_COLUMN]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(table)
    return sink.getvalue()


def decode_series(data: bytes, row_count: int) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """Read what `encode_series` wrote. ``pa.ArrowInvalid`` if it is not that."""
    with pa.ipc.open_stream(data, options=_IN_THIS_THREAD) as reader:
        table = reader.read_next_batch()
    table.validate(full=True)
    first_rows = table.column(FIRST_ROW_COLUMN).to_numpy()
    offsets = np.append(first_rows, row_count).astype(np.int64)
    if offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise pa.ArrowInvalid("series offsets are not in order")
    return table.select(table.schema.names[:-1]), offsets
