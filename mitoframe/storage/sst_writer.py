"""A sorted batch becomes one SST: a plain Parquet file that any tool can read.

Columns: tags (strings, dictionary pages), time, fields, ``__sequence`` u64, ``__op_type`` u8. Rows are in the order
(tags nulls first, time, newest first), with ``sorting_columns`` saying so, page checksums written, and three entries
in the footer's key-value metadata:

    ARROW:schema        Arrow's own, with tags as strings: readers see String and not Categorical, which prunes
    mitoframe.region    the region's metadata as JSON, with the SST format version
    mitoframe.series    "offset,length,crc32c" of the series index: Arrow IPC bytes (storage/series.py) that lie between
                        the last row group and the footer, where the format allows any bytes and readers never look
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mitoframe.kernels.series import series_offsets
from mitoframe.model.batch import OpType
from mitoframe.model.file import FileMeta
from mitoframe.model.ids import FileId, Sequence
from mitoframe.model.schema import OP_TYPE_COLUMN, SEQUENCE_COLUMN
from mitoframe.storage.paths import sst_key
from mitoframe.storage.series import encode_series

if TYPE_CHECKING:
    from mitoframe.model.batch import Batch
    from mitoframe.model.schema import RegionMetadata
    from mitoframe.ports import ObjectStore

SST_FORMAT = 1
REGION_KEY = "mitoframe.region"
SERIES_KEY = "mitoframe.series"
_COMPRESSION_LEVEL = 1


def write_sst(
    store: ObjectStore,
    metadata: RegionMetadata,
    batch: Batch,
    *,
    file_id: FileId,
    level: int,
    row_group_rows: int,
    created_ms: int,
) -> FileMeta:
    """Store a sorted, deduplicated, non-empty batch and return what the manifest is to know of it."""
    assert len(batch), "an SST holds at least one row"
    data, row_groups = _encode(metadata, batch, row_group_rows)
    store.put_if_absent(sst_key(metadata.region_id, file_id), data)
    return FileMeta(
        file_id=file_id,
        level=level,
        size_bytes=data.size,
        checksum=google_crc32c.value(data),
        row_count=len(batch),
        delete_count=int(np.count_nonzero(batch.op_types == OpType.DELETE)),
        series_count=len(batch.series),
        row_group_count=row_groups,
        min_time=int(batch.times.min()),
        max_time=int(batch.times.max()),
        min_sequence=Sequence(int(batch.sequences.min())),
        max_sequence=Sequence(int(batch.sequences.max())),
        schema_version=metadata.schema_version,
        created_ms=created_ms,
    )


def _encode(metadata: RegionMetadata, batch: Batch, row_group_rows: int) -> tuple[pa.Buffer, int]:
    names = [*metadata.names, SEQUENCE_COLUMN, OP_TYPE_COLUMN]
    rows = batch.to_arrow(metadata, names, tags_as="dictionary")
    table = pa.Table.from_batches([rows])
    sink = pa.BufferOutputStream()
    writer = pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=[name for name in names if name not in (metadata.time.name, SEQUENCE_COLUMN)],
        column_encoding={metadata.time.name: "DELTA_BINARY_PACKED", SEQUENCE_COLUMN: "DELTA_BINARY_PACKED"},
        write_page_checksum=True,
        # Statistics of dictionary columns are brought up to date once a batch, so one batch a row group is cheapest.
        write_batch_size=row_group_rows,
        store_schema=False,
        sorting_columns=[
            *(pq.SortingColumn(i, nulls_first=True) for i in range(len(metadata.tags) + 1)),
            pq.SortingColumn(len(names) - 2, descending=True, nulls_first=True),
        ],
    )
    writer.write_table(table, row_group_size=row_group_rows)
    index = encode_series(batch.series, series_offsets(batch.codes, len(batch.series)))
    index_offset = sink.tell()
    sink.write(index)
    writer.add_key_value_metadata(
        {
            "ARROW:schema": _logical_schema(metadata, names),
            REGION_KEY: json.dumps({"format": SST_FORMAT, "metadata": metadata.to_json()}),
            SERIES_KEY: f"{index_offset},{index.size},{google_crc32c.value(index)}",
        }
    )
    writer.close()
    return sink.getvalue(), -(-len(batch) // row_group_rows)


def _logical_schema(metadata: RegionMetadata, names: list[str]) -> str:
    internal = [pa.field(SEQUENCE_COLUMN, pa.uint64()), pa.field(OP_TYPE_COLUMN, pa.uint8())]
    schema = pa.schema([*metadata.arrow_schema(), *internal])
    assert schema.names == names
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")
