"""How far the resident set rises while all rows of a store are read batch by batch, in one fresh process.

    python queries_memory.py --folder STORE --way batches|arrow

``batches``: a lazy frame's `collect_batches`, in any order; ``arrow``: the scan as an Arrow stream. A batch is counted
and let go. The rise is taken from when the store is open and one row was read, by which time everything is imported.
The process may not allocate more than `LIMIT_BYTES`, so that a system that reads all at once fails alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from harness import PeakMemory

import mitoframe

BATCH_ROWS = 102_400
LIMIT_BYTES = 8 << 30


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--way", choices=["batches", "arrow"], required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    with mitoframe.open(arguments.folder) as database:
        scan = database.scan("cpu")
        scan.to_polars().head(1).collect()
        memory = PeakMemory()
        memory.start()
        began = time.perf_counter()
        rows = sum(_lengths(scan, arguments.way))
        seconds = time.perf_counter() - began
        peak_bytes = memory.stop()
    sys.stdout.write("\n" + json.dumps({"rows": rows, "seconds": seconds, "peak_bytes": peak_bytes}) + "\n")


def _lengths(scan: mitoframe.Scan, way: str) -> Iterator[int]:
    if way == "arrow":
        return (len(batch) for batch in pa.RecordBatchReader.from_stream(scan))
    frames = scan.to_polars().collect_batches(chunk_size=BATCH_ROWS, maintain_order=False, lazy=True)
    return (frame.height for frame in frames)


if __name__ == "__main__":
    main()
