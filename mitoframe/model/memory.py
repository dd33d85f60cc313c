"""Where the engine's larger Arrow buffers come from.

jemalloc, where Arrow was built with it, keeps what was freed for the next batch; mimalloc, Arrow's default, gives large
blocks back to the system at once and takes them anew, page by page. Ingest is about an eighth faster for it
(benchmarks/ingest.py). The process's default pool is left alone: it belongs to the user.
"""

from __future__ import annotations

import pyarrow as pa

POOL: pa.MemoryPool = (
    pa.jemalloc_memory_pool() if "jemalloc" in pa.supported_memory_backends() else pa.default_memory_pool()
)


def release() -> None:
    """Give back to the system what was freed. After a job, when much was needed that may not be needed again soon."""
    POOL.release_unused()
