"""Columns as Parquet lays them out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def chunk_of(values: pa.Array, **settings: object) -> tuple[np.ndarray, pq.ColumnChunkMetaData]:
    """Write one column, and return all bytes of its chunk and what the footer says of it."""
    sink = pa.BufferOutputStream()
    schema = pa.schema([pa.field("x", values.type, nullable=bool(values.null_count))])
    pq.write_table(pa.Table.from_arrays([values], schema=schema), sink, compression="none", **settings)
    data = sink.getvalue()
    column = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0)
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return np.frombuffer(data, np.uint8)[start : start + column.total_compressed_size], column
