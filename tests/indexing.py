"""Indexes built straight from columns, without an SST, for tests that ask them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import google_crc32c
import numpy as np
import pyarrow as pa
from builders import REGION, file_of, metadata_of

from mitoframe.drivers.object_memory import MemoryObjectStore
from mitoframe.jobs.index import COLLECTORS
from mitoframe.model.alter import SetIndexes, alter
from mitoframe.model.file import FileMeta
from mitoframe.model.index import IndexMeta, wanted_indexes
from mitoframe.model.schema import RegionMetadata
from mitoframe.storage.index_file import encode_index
from mitoframe.storage.index_reader import IndexReader
from mitoframe.storage.paths import index_key


def schema_of(columns: pa.RecordBatch, kinds: Mapping[str, Sequence[str]]) -> RegionMetadata:
    """Describe a region with these fields, a tag ``host``, and indexes of these kinds."""
    metadata = metadata_of(fields={field.name: field.type for field in columns.schema})
    return alter(metadata, SetIndexes({name: tuple(of) for name, of in kinds.items()}))


def indexed(
    columns: pa.RecordBatch, kinds: Mapping[str, Sequence[str]], *, rows_at_once: int = 700
) -> tuple[MemoryObjectStore, RegionMetadata, FileMeta]:
    """Store the indexes of a file with these rows, read in batches; return where, the schema, and the file."""
    store, metadata = MemoryObjectStore(), schema_of(columns, kinds)
    names = {field.column_id: field.name for field in metadata.fields}
    entries = wanted_indexes(metadata)
    collectors = {entry: COLLECTORS[entry.kind]() for entry in entries}
    for start in range(0, len(columns), rows_at_once):
        some = columns.slice(start, rows_at_once)
        for entry, collector in collectors.items():
            collector.add(some.column(names[entry.column_id]))
    file = file_of("a", 0, 9, row_count=len(columns))
    forms = {entry: collector.finish() for entry, collector in collectors.items()}
    data = encode_index(file.file_id, 1, len(columns), forms)
    store.put_if_absent(index_key(REGION, file.file_id, 1), data)
    index = IndexMeta(
        version=1, size_bytes=data.size, checksum=google_crc32c.value(data), created_ms=0, entries=entries
    )
    return store, metadata, file_of("a", 0, 9, row_count=len(columns), index=index)


def reader_of(store: MemoryObjectStore) -> IndexReader:
    return IndexReader(store)


def segments_of(rows: np.ndarray, granularity: int) -> set[int]:
    """Return which segments rows are in."""
    return set((rows // granularity).tolist())
