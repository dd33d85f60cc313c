"""Threads write 1,000 rows at a time to one table, each write synced; the disk may be made as slow as a laptop's.

    python mitoframe_threads.py --input rows.arrow --folder /somewhere/empty --threads 4 --sync-ms 5

Every thread takes its share of the same rows and writes them one batch after the other, as soon as the one before is
acknowledged. The clock runs from the first write to the last acknowledgement; flushes are none of it. One line of JSON
at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from harness import TIME, read, recut, tag_columns

from mitoframe.drivers.vfs_os import OsVfs
from mitoframe.frames.arrow import to_batch
from mitoframe.model.ids import region_id
from mitoframe.model.options import MitoConfig, RegionOptions
from mitoframe.model.request import CreateRequest, ScanRequest
from mitoframe.model.schema import build_metadata
from mitoframe.ports import Vfs
from mitoframe.registry import connect_vfs
from mitoframe.testing.vfs_faults import SlowVfs

REGION = region_id(1, 0)
WARM_UP_BATCHES = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--sync-ms", type=float, default=0.0)
    parser.add_argument("--batch-rows", type=int, default=1000)
    parser.add_argument("--rows", type=int, required=True)
    arguments = parser.parse_args()
    batches = recut(read(arguments.input), arguments.batch_rows, arguments.rows)
    vfs = SlowVfs(OsVfs(arguments.folder / "store"), arguments.sync_ms)
    sys.stdout.write("\n" + json.dumps(measure(vfs, batches, arguments.threads)) + "\n")


def measure(vfs: Vfs, batches: list[pa.Table], threads: int) -> dict[str, float]:
    connection = connect_vfs(vfs, "rw", MitoConfig(flush_on_close=False))
    engine = connection.engine
    schema = batches[0].schema
    metadata = build_metadata(REGION, schema, time=TIME, tags=tag_columns(schema))
    engine.create(REGION, CreateRequest(metadata=metadata, options=RegionOptions()))

    def write(some: list[pa.Table]) -> None:
        for batch in some:
            engine.write(REGION, to_batch(metadata, batch))

    write(batches[:WARM_UP_BATCHES])
    ready = threading.Barrier(threads + 1)

    def work(number: int) -> None:
        mine = batches[number::threads]
        ready.wait()
        write(mine)

    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(work, number) for number in range(threads)]
        ready.wait()
        began = time.perf_counter()
        for one in done:
            one.result()
        seconds = time.perf_counter() - began
    rows = sum(batch.num_rows for batch in batches)
    answer = sum(part.num_rows for part in engine.handle_query(REGION, ScanRequest(columns=(TIME,))))
    connection.close()
    return {"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds, "answer_rows": answer}


if __name__ == "__main__":
    main()
